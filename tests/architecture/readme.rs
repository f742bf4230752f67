//! The table of settings in the README, held against the code that reads them: the same names in the same order, the
//! defaults, and what is allowed.

use whisperq::config::Config;
use whisperq::error::Result;

use super::source;

const HOME: &str = "/home/someone";

/// A row of the table.
struct Setting {
    name: String,
    /// In backquotes, where the default is a value and not a rule.
    default: Option<String>,
    allowed: String,
}

fn table() -> Vec<Setting> {
    let readme = source::read("README.md");
    let section = readme.lines().skip_while(|line| *line != "## Settings").skip(1);
    let rows = section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, default, allowed, _meaning] = cells[..] else { panic!("a row of four cells: {row}") };
        let default = default.strip_prefix('`').and_then(|default| default.strip_suffix('`'));
        let default = default.map(|default| default.replace('~', HOME));
        Setting { name: name.trim_matches('`').to_owned(), default, allowed: allowed.to_owned() }
    })
    .collect()
}

fn config_with(name: &str, value: &str) -> Result<Config> {
    Config::from_vars(
        [("HOME", HOME), (name, value)].map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter(),
    )
}

#[test]
fn the_readme_lists_exactly_the_settings_that_are_read() {
    let files = ["src/config/mod.rs", "src/config/runpod.rs", "src/config/lambda.rs"];
    let mut read: Vec<String> = files.into_iter().flat_map(fields).collect();
    // The home directory is the system's, not a setting of ours.
    read.retain(|name| name != "HOME");
    let listed: Vec<String> = table().into_iter().map(|setting| setting.name).collect();
    assert_eq!(listed, read, "the settings in README.md and in {files:?}");
}

/// What a file of the settings reads, in order.
fn fields(file: &str) -> Vec<String> {
    let config = source::read(file);
    let fields = config.lines().skip_while(|line| !line.ends_with("struct Environment {")).skip(1);
    let fields = fields.take_while(|line| *line != "}").filter_map(|line| line.trim().split_once(':'));
    fields.map(|(name, _)| name.to_uppercase()).collect()
}

#[test]
fn the_defaults_in_the_readme_are_the_real_ones() {
    let by_default = format!("{:?}", config_with("UNRELATED", "x").unwrap());
    for Setting { name, default, .. } in table() {
        let Some(default) = default else { continue };
        let set = format!("{:?}", config_with(&name, &default).unwrap());
        assert_eq!(set, by_default, "{name} is not {default} by default");
    }
}

#[test]
fn the_readme_says_what_a_refusal_says_is_allowed() {
    for Setting { name, allowed, .. } in table() {
        // Any text is fine for names and paths.
        let Err(error) = config_with(&name, "~") else { continue };
        assert!(error.to_string().ends_with(&allowed), "README.md allows {name} {allowed}, but: {error}");
    }
}
