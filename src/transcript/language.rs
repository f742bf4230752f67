pub fn parse(t: &str) -> Option<&'static str> {
    if t.eq_ignore_ascii_case("english") || t == "en" { Some("en") } else { None }
}
