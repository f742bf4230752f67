//! SQL functions in users' SQL: which are closed, and that our own forms of three of them answer as SQLite's do.

use super::Bench;

#[test]
fn functions_that_reach_out_or_look_inside_are_closed() {
    let bench = Bench::new();
    for function in [
        "load_extension('/tmp/x.so')",
        "readfile('/etc/passwd')",
        "writefile('/tmp/x', 'x')",
        "randomblob(10)",
        "zeroblob(900000000)",
        "sqlite_version()",
        "sqlite_compileoption_get(1)",
        "sqlite_source_id()",
        "changes()",
        "last_insert_rowid()",
        "likely(1)",
        "fts5(1)",
    ] {
        let error = bench.ask(&format!("select {function}")).expect_err(function).to_string();
        assert!(error.contains("the function ") || error.contains("no such function"), "{function}: {error}");
    }
}

#[test]
fn a_function_on_long_texts_is_done_in_no_time_and_does_what_sqlite_does() {
    let bench = Bench::new();
    let begun = std::time::Instant::now();
    for sql in [
        "select length(trim(printf('%.*c', 290000, 'b'), printf('%.*c', 60000, 'a') || 'b'))",
        "select instr(printf('%.*c', 290000, 'a'), printf('%.*c', 150000, 'a') || 'b')",
        "select length(replace(printf('%.*c', 290000, 'a'), printf('%.*c', 150000, 'a') || 'b', ''))",
    ] {
        bench.rows(sql);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    let sql =
        "select trim('xyaxy', 'xy'), ltrim('xax', 'x'), rtrim('xax', 'x'), instr('häuser', 'user'), instr('a', 'b'),
                   replace('a-b-c', '-', '+'), replace('a', '', 'b'), instr(null, 'a'), trim(121, 1), trim(' a ')";
    assert_eq!(bench.rows(sql), r#"[["a","ax","xa",3,0,"a+b+c","a",null,"2","a"]]"#);
}

#[test]
fn a_function_on_text_sees_a_number_as_sqlite_writes_it() {
    let bench = Bench::new();
    for number in [
        "2.0",
        "-1.5",
        "-0.0",
        "0.1 + 0.2",
        "0.0001",
        "0.00001",
        "1.5e-7",
        "1e15",
        "2.5e16",
        "1e17",
        "1.25e300",
        "9e999",
        "-9e999",
        "7",
        "-7",
    ] {
        let sql = format!("select replace({number}, 'q', '') = ({number}) || '', replace({number}, 'q', '')");
        assert!(bench.rows(&sql).starts_with("[[1,"), "{number}: {}", bench.rows(&sql));
    }
}
