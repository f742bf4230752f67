//! Users' SQL, asked as a stranger would who means no good: what is answered, what is refused and in which words.

mod functions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use whisperq::db::{Db, Durability};
use whisperq::error::{Error, Result};
use whisperq::job::{FrontDoor, NewJob, Options};
use whisperq::queue::{Limits, Queue, new_id};
use whisperq::system::{self, Table, UserSql, VIEWS};

/// What only the owner of the machine may see: it stands in columns that no view shows.
const SECRET: &str = "hush-4711";

struct Bench {
    folder: TempDir,
    queue: Queue,
    user_sql: UserSql,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Arc::new(Db::open(&folder.path().join("whisperq.db")).unwrap());
        let limits = Limits {
            lease_ms: 30_000,
            max_attempts: 3,
            max_queued: 100,
            job_ttl_ms: 60_000,
            execution_timeout_ms: 60_000,
        };
        let queue = Queue::new(db, limits, folder.path().join("proc"));
        let user_sql = UserSql::open(queue.db()).unwrap();
        let bench = Self { folder, queue, user_sql };
        bench.submit();
        bench
    }

    fn submit(&self) {
        let options = Options {
            prompt: Some(SECRET.to_owned()),
            metadata: Some(serde_json::json!({"ticket": 12})),
            ..Options::default()
        };
        let job = NewJob {
            id: new_id(),
            idempotency_key: Some(SECRET.to_owned()),
            front_door: FrontDoor::Http,
            source: "upload:note.mp3".to_owned(),
            source_version: None,
            source_bytes: None,
            model: "tiny".to_owned(),
            language: None,
            options,
            owner: None,
        };
        self.queue.submit(job, 1_700_000_000_000).unwrap();
    }

    fn ask(&self, sql: &str) -> Result<Table> {
        self.user_sql.ask(sql, &Arc::default())
    }

    #[track_caller]
    fn rows(&self, sql: &str) -> String {
        serde_json::to_string(&self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).rows).unwrap()
    }

    /// Runs SQL behind the queue's back.
    fn write(&self, sql: &'static str) {
        self.queue.db().write(Durability::Normal, move |conn| Ok(conn.execute_batch(sql)?)).unwrap();
    }
}

#[track_caller]
fn assert_refused(bench: &Bench, sql: &str, code: &str, words: &str) {
    let error = bench.ask(sql).unwrap_err();
    assert_eq!(error.code(), code, "{sql}: {error}");
    let message = error.to_string();
    assert!(message.contains(words), "{sql}: {message}");
    assert!(!message.contains(SECRET), "{sql}: {message}");
    if code == "sql_refused" {
        assert!(message.contains("allowed is one SELECT on system, workers, queue, job_history"), "{sql}: {message}");
    }
}

#[test]
fn every_published_view_can_be_read_in_full() {
    let bench = Bench::new();
    for view in VIEWS {
        let table = bench.ask(&format!("select * from {view}")).unwrap();
        assert!(!table.columns.is_empty(), "{view}");
    }
    assert_eq!(
        bench.rows("select state, source, metadata ->> '$.ticket' from job_history"),
        r#"[["queued","upload:note.mp3",12]]"#
    );
}

#[test]
fn ordinary_analysis_works() {
    let bench = Bench::new();
    for (sql, rows) in [
        ("select count(*) from job_history", "[[1]]"),
        ("select 1 from job_history where date(created_at) = '2023-11-14'", "[[1]]"),
        (
            "with w as (select * from job_history where state = 'queued') select model, count(*) from w group by 1",
            r#"[["tiny",1]]"#,
        ),
        (
            "select q.size, (select count(*) from chunks) from queue q join system s on s.jobs_queued = q.size",
            "[[1,0]]",
        ),
        ("select model, row_number() over (order by created_at) from job_history", r#"[["tiny",1]]"#),
        ("select key, value from job_history, json_each(metadata)", r#"[["ticket",12]]"#),
        ("with jobs as (select 7 as n) select n from jobs", "[[7]]"),
        ("with recursive n(i) as (select 1 union all select i + 1 from n limit 5) select sum(i) from n", "[[15]]"),
        ("with n as (select 1) select count(*) from n", "[[1]]"),
        ("select SIZE from Queue", "[[1]]"),
        ("select count(*) from JOB_HISTORY", "[[1]]"),
        ("values (1, 'a'), (null, 2.5)", r#"[[1,"a"],[null,2.5]]"#),
        (
            "select upper(substr(model, 1, 2)) || printf('%03d', 7) from job_history -- and a comment ;",
            r#"[["TI007"]]"#,
        ),
        (";; select 1;", "[[1]]"),
    ] {
        assert_eq!(bench.rows(sql), rows, "{sql}");
    }
}

#[test]
fn nothing_but_reading_is_possible() {
    let bench = Bench::new();
    for (sql, words) in [
        ("delete from jobs", "anything but reading"),
        ("insert into totals values (1, 1)", "anything but reading"),
        ("replace into job_counts values ('queued', 0)", "anything but reading"),
        ("with a as (select 1) delete from jobs", "anything but reading"),
        ("update jobs set state = 'queued' returning id", "not allowed"),
        ("create table t (a)", "anything but reading"),
        ("create temp table t (a)", "anything but reading"),
        ("create temp view v as select 1", "anything but reading"),
        ("create temp trigger x after insert on jobs begin select 1; end", "anything but reading"),
        ("create virtual table t using fts5(a)", "anything but reading"),
        ("create index i on jobs (id)", "anything but reading"),
        ("drop view chunks", "anything but reading"),
        ("alter table jobs add column x", "anything but reading"),
        ("analyze", "anything but reading"),
        ("reindex", "anything but reading"),
        ("attach ':memory:' as x", "other files"),
        ("attach '/etc/passwd' as x", "other files"),
        ("detach main", "anything but reading"),
        ("vacuum", "writing"),
        ("vacuum into '/tmp/stolen.db'", "not allowed"),
        ("pragma query_only = off", "the pragma query_only"),
        ("pragma journal_mode = delete", "the pragma journal_mode"),
        ("pragma table_info(jobs)", "the pragma table_info"),
        ("begin", "transactions"),
        ("begin immediate", "transactions"),
        ("commit", "transactions"),
        ("savepoint s", "transactions"),
        ("release s", "transactions"),
    ] {
        assert_refused(&bench, sql, "sql_refused", words);
    }
    assert!(!std::path::Path::new("/tmp/stolen.db").exists());
    assert_eq!(bench.rows("select size from queue"), "[[1]]", "nothing has changed");
}

#[test]
fn tables_behind_the_views_and_the_schema_are_closed() {
    let bench = Bench::new();
    for (sql, words) in [
        ("select options from jobs", "the table jobs"),
        ("select * from jobs", "the table jobs"),
        ("select count(*) from transcripts", "the table transcripts"),
        ("select count(*) from Main.TRANSCRIPTS as queue", "the table TRANSCRIPTS"),
        ("select count(*) from sqlite_schema", "the table sqlite_"),
        ("select id from (select id from jobs)", "the table jobs"),
        ("select (select idempotency_key from jobs)", "the table jobs"),
        ("select 1 where exists (select 1 from main.lanes)", "the table lanes"),
        ("select rowid from tasks", "the table tasks"),
        ("select * from attempts", "the table attempts"),
        ("select text from transcripts", "the table transcripts"),
        ("select pid from processes", "the table processes"),
        ("select sql from sqlite_schema", "the table sqlite_master"),
        ("select sql from sqlite_master", "the table sqlite_master"),
        ("select * from sqlite_temp_schema", "the table sqlite_temp"),
        ("select * from sqlite_sequence", "the table sqlite_sequence"),
        ("select * from pragma_table_info('jobs')", "the table pragma_table_info"),
        ("select * from pragma_database_list", "the table pragma_database_list"),
        ("select j.options from job_history h join jobs j on j.id = h.job_id", "the table jobs"),
        ("select options from job_history natural join jobs", "the table jobs"),
        // Names that a statement gives away itself open nothing.
        ("with chunks as (select options from jobs) select * from chunks", "the table jobs"),
        ("with job_history as (select idempotency_key from jobs) select * from job_history", "the table jobs"),
        ("with queue as (select * from tasks) select * from queue", "the table tasks"),
        ("with system(x) as (select text from transcripts) select x from system", "the table transcripts"),
        (
            "with recursive workers(x) as (select options from jobs union select x from workers) select * from workers",
            "the table jobs",
        ),
        ("select chunks.options from jobs as chunks", "the table jobs"),
        ("select 1 from job_history order by (select options from jobs)", "the table jobs"),
        ("select 1 from job_history group by (select options from jobs) having 1", "the table jobs"),
        ("select 1 from job_history where job_id in tasks", "the table tasks"),
        ("explain select options from jobs", "the table jobs"),
    ] {
        assert_refused(&bench, sql, "sql_refused", words);
    }
}

#[test]
fn one_statement_is_asked_at_a_time() {
    let bench = Bench::new();
    assert_refused(&bench, "select 1; select 2", "sql_refused", "several statements");
    assert_refused(&bench, "select 1; drop table jobs", "sql_refused", "several statements");
    assert_refused(&bench, "", "sql_refused", "an empty question");
    assert_refused(&bench, " -- nothing\n /* at all */ ;", "sql_refused", "an empty question");
    // Must not go as deep as it is long.
    assert_refused(&bench, &"select 1;".repeat(11_000), "sql_refused", "several statements");
}

#[test]
fn what_is_no_sql_is_told_in_the_words_of_sqlite() {
    let bench = Bench::new();
    assert_refused(&bench, "select * from nowhere", "sql_invalid", "no such table: nowhere");
    assert_refused(&bench, "select missing from queue", "sql_invalid", "no such column: missing");
    assert_refused(&bench, "selekt 1", "sql_invalid", "syntax error");
    assert_refused(&bench, "select 'a\0b", "sql_invalid", "the question was not understood");
    assert_refused(&bench, "update job_history set state = 'done'", "sql_invalid", "it is a view");
}

#[test]
fn huge_values_and_deep_or_long_statements_are_refused_at_once() {
    let bench = Bench::new();
    let begun = std::time::Instant::now();
    for sql in [
        "select replace(printf('%290000s', ' '), ' ', 'xxxxxxxxxx')",
        "select printf('%.*c', 400000000, 'x')",
        "select hex(hex(hex(printf('%290000s', ' '))))",
        "select group_concat(s, '') from (with recursive n(i) as (select 1 union all select i + 1 from n limit 100)
             select printf('%100000s', i) as s from n)",
        "select json_group_array(printf('%100000s', 'x')) from (values (1),(2),(3),(4),(5),(6),(7),(8),(9),(10),(11))",
    ] {
        assert_refused(&bench, sql, "sql_too_expensive", "more than 300 kB");
    }
    let deep = format!("select {}1{}", "abs(".repeat(60), ")".repeat(60));
    let sum = format!("select 1{}", "+1".repeat(60));
    let unions = ["select 1"; 12].join(" union all ");
    let wide = format!("select {}", vec!["1"; 101].join(","));
    let long = format!("select '{}'", "x".repeat(100_001));
    for sql in [deep, sum, unions, wide, long] {
        let error = bench.ask(&sql).expect_err(&sql[..40]);
        assert!(matches!(error, Error::InvalidInput { .. }), "{}: {error}", &sql[..40]);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "no deadline was needed");
}

#[test]
fn a_question_without_end_is_stopped_by_the_clock() {
    let bench = Bench::new();
    let bomb = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
    assert_refused(&bench, bomb, "sql_too_expensive", "longer than 5 s");
    assert_eq!(bench.rows("select size from queue"), "[[1]]", "and the connection serves the next one");
}

#[test]
fn a_question_whose_asker_has_gone_is_stopped_at_once() {
    let bench = Bench::new();
    let bomb = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
    let gone = Arc::new(AtomicBool::new(false));
    gone.store(true, Ordering::Relaxed);
    let begun = std::time::Instant::now();
    bench.user_sql.ask(bomb, &gone).unwrap_err();
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "before the deadline");
}

#[test]
fn an_answer_is_bounded_in_rows_and_bytes_and_says_so() {
    let bench = Bench::new();
    let many = "with recursive n(i) as (select 1 union all select i + 1 from n limit 20000) select i from n";
    let table = bench.ask(many).unwrap();
    assert_eq!((table.rows.len(), table.truncated), (10_000, true));
    let large =
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 200) select printf('%290000s', i) from n";
    let table = bench.ask(large).unwrap();
    assert!(table.truncated && table.rows.len() < 30, "{}", table.rows.len());
    assert!(!bench.ask("select 1").unwrap().truncated);
}

#[test]
fn a_real_count_finds_every_counter_that_is_wrong() {
    let bench = Bench::new();
    assert_eq!(system::drift(bench.queue.db()).unwrap().rows.len(), 0);
    let id = bench.ask("select job_id from job_history").unwrap().rows[0][0].as_str().unwrap().to_owned();
    bench.queue.cancel(&id, 1_700_000_060_000).unwrap();
    assert_eq!(system::drift(bench.queue.db()).unwrap().rows.len(), 0);
    assert_eq!(bench.rows("select hour, cancelled from throughput_hourly"), r#"[["2023-11-14T22Z",1]]"#);
    assert_eq!(bench.rows("select minute, cancelled from throughput_minutely"), r#"[["2023-11-14T22:14Z",1]]"#);
    for (damage, counter) in [
        ("update job_counts set jobs = 9 where state = 'failed'", "jobs by state"),
        ("update rollups set cancelled = 2 where period_ms = 60000", "jobs ended"),
        ("update rollups set audio_ms = 1 where period_ms = 3600000", "chunks done"),
        ("delete from rollups where period_ms = 3600000", "jobs ended"),
    ] {
        bench.write(damage);
        let drift = system::drift(bench.queue.db()).unwrap();
        assert!(drift.rows.iter().any(|row| row[0] == counter), "{damage}: {:?}", drift.rows);
    }
    assert!(bench.folder.path().exists());
}

#[test]
fn the_readme_tells_every_column_of_every_view_and_its_questions_are_answered() {
    let bench = Bench::new();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("## Ask it anything").nth(1).unwrap().split("\n## ").next().unwrap();
    for view in VIEWS {
        let is_of_view = |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{view}`")));
        let row = section.lines().find(is_of_view).unwrap_or_else(|| panic!("README.md has no row for {view}"));
        for column in bench.ask(&format!("select * from {view}")).unwrap().columns {
            let names = [column.as_str(), column.trim_end_matches("_ms")];
            assert!(names.iter().any(|name| row.contains(&format!("`{name}`"))), "README.md: {view} lacks {column}");
        }
    }
    let questions = section.replace("\n                  ", " ");
    let questions: Vec<&str> =
        questions.lines().filter_map(|line| line.trim().strip_prefix("whisperq sql \"")).collect();
    assert!(questions.len() >= 3);
    for question in questions {
        bench.rows(question.split('"').next().unwrap());
    }
}
