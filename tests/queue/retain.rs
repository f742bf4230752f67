//! What happens to old history: it goes a little at a time, as a whole, and what is counted stays right.

use whisperq::error::Error;
use whisperq::queue::Order;
use whisperq::system;

use super::support::{Bench, NOW, seconds};

const TABLES: [&str; 6] = ["jobs", "tasks", "attempts", "chunk_segments", "transcripts", "job_endings"];

fn rows(bench: &Bench) -> i64 {
    TABLES.iter().map(|table| bench.number(&format!("select count(*) from {table}"))).sum()
}

fn done(bench: &Bench, chunks: u64) {
    bench.planned(chunks);
    (0..chunks).for_each(|_| bench.finish(&bench.claim()));
}

#[test]
pub(super) fn a_job_goes_with_all_that_belongs_to_it_once_it_has_ended_long_ago() {
    let bench = Bench::new();
    done(&bench, 3);
    let open = bench.planned(2);
    let before = rows(&bench);
    assert_eq!(bench.queue.remove_old(NOW, NOW).unwrap(), 0, "it ended at that moment, not before");
    assert_eq!(rows(&bench), before);
    assert_eq!(bench.queue.remove_old(NOW + 1, NOW).unwrap(), 1);
    assert_eq!(bench.text("select group_concat(id) from jobs"), open);
    for table in TABLES {
        let strangers =
            format!("select count(*) from {table} where {} <> 2", if table == "jobs" { "pk" } else { "job_pk" });
        assert_eq!(bench.number(&strangers), 0, "{table}");
    }
}

#[test]
pub(super) fn what_was_counted_outlives_the_rows_and_is_still_right() {
    let bench = Bench::new();
    done(&bench, 2);
    let hours = "select json_group_array(json_array(start_ms, completed, chunks, audio_ms)) from rollups where period_ms = 3600000";
    let before = bench.text(hours);
    assert_eq!(bench.number("select count(*) from rollups where period_ms = 60000"), 1);
    bench.queue.remove_old(NOW + 1, NOW + 3 * 86_400_000).unwrap();
    assert_eq!(bench.text(hours), before);
    assert_eq!(bench.number("select count(*) from rollups where period_ms = 60000"), 0, "minutes go after two days");
    assert_eq!(system::drift(bench.queue.db()).unwrap().rows.len(), 0);
}

#[test]
pub(super) fn a_job_counts_for_every_time_that_it_was_fast_enough_for() {
    let bench = Bench::new();
    bench.planned(1);
    let claim = bench.claim();
    bench.queue.finish_chunk(claim.task, super::support::result("So"), NOW + 5_001).unwrap();
    let row =
        "select json_array(within_1s, within_5s, within_15s, within_1min, within_1h, over_1h) from throughput_hourly";
    assert_eq!(bench.text(row), "[0,0,1,1,1,0]");
}

#[test]
pub(super) fn one_pass_removes_only_so_much() {
    let bench = Bench::new();
    for chunks in [700, 700, 1] {
        bench.submit();
        let prepare = bench.claim_prepare().unwrap();
        bench.queue.add_chunks(prepare.task, seconds(0..chunks), Order::Free, NOW).unwrap();
        bench.queue.fail(prepare.task, &Error::invalid("not_audio", "no"), 0.5, NOW).unwrap();
    }
    let passes: Vec<usize> = (0..3).map(|_| bench.queue.remove_old(NOW + 1, NOW).unwrap()).collect();
    assert_eq!(passes, [1, 2, 0]);
}

#[test]
pub(super) fn a_job_with_a_delivery_under_way_stays() {
    let bench = Bench::new();
    done(&bench, 1);
    bench
        .sql("insert into tasks (job_pk, kind, lane, priority, key, state) values (1, 'deliver', 'webhook', 0, 0, 'queued')")
        .unwrap();
    assert_eq!(bench.queue.remove_old(NOW + 1, NOW).unwrap(), 0);
    bench.sql("delete from tasks where kind = 'deliver'").unwrap();
    assert_eq!(bench.queue.remove_old(NOW + 1, NOW).unwrap(), 1);
}

#[test]
pub(super) fn the_space_of_removed_jobs_goes_back_to_the_file_system_a_little_at_a_time() {
    let bench = Bench::new();
    bench
        .sql(
            "create table ballast (b blob) strict; insert into ballast values (zeroblob(12000000)); drop table ballast",
        )
        .unwrap();
    let pages = || bench.number("select page_count from pragma_page_count");
    let before = pages();
    bench.queue.db().shrink(256).unwrap();
    assert_eq!(pages(), before - 256);
    (0..20).for_each(|_| bench.queue.db().shrink(256).unwrap());
    assert_eq!(
        bench.number("select freelist_count from pragma_freelist_count"),
        1024,
        "some are kept for what comes next"
    );
}
