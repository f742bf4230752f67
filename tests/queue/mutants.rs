//! Each guard of the queue is there for a reason: taken out of the SQL, a named test fails. A guard whose absence no test
//! notices would not be one.

use std::panic::catch_unwind;

use whisperq::db::weaken::{self, Weakened};

use super::{deliver, endings, errors, fence, leases, life, order, process, retain, retry, schema, stream, submit};

/// What the guard is for, its SQL, what stands there without it, and the test that fails then.
type Mutant = (&'static str, &'static str, &'static str, fn());

const MUTANTS: [Mutant; 46] = [
    (
        "a finish names its attempt",
        "where id = :id and attempt = :attempt and state = 'running' returning job_pk, pass",
        "where id = :id and :attempt > 0 and state = 'running' returning job_pk, pass",
        fence::an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it,
    ),
    (
        "a finish needs a running task",
        "where id = :id and attempt = :attempt and state = 'running' returning job_pk, pass",
        "where id = :id and attempt = :attempt returning job_pk, pass",
        fence::an_attempt_whose_task_waits_again_is_refused,
    ),
    (
        "a renewal names its attempt",
        "where id = ?1 and attempt = ?2 and state = 'running' and process_id = ?3",
        "where id = ?1 and ?2 > 0 and state = 'running' and process_id = ?3",
        fence::an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it,
    ),
    (
        "a renewal names its process",
        "and state = 'running' and process_id = ?3",
        "and state = 'running' and ?3 <> ''",
        leases::renewing_tells_which_tasks_are_lost_and_takes_none_from_another,
    ),
    (
        "an error names its attempt",
        "set error_count = error_count + 1 where id = ?1 and attempt = ?2 and",
        "set error_count = error_count + 1 where id = ?1 and ?2 > 0 and",
        fence::an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it,
    ),
    (
        "a loss names its attempt",
        "lost_count + 1 - ?3 where id = ?1 and attempt = ?2 and",
        "lost_count + 1 - ?3 where id = ?1 and ?2 > 0 and",
        fence::an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it,
    ),
    (
        "a release names its attempt",
        "select 1 from tasks where id = ?1 and attempt = ?2 and state = 'running'",
        "select 1 from tasks where id = ?1 and ?2 > 0 and state = 'running'",
        fence::an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it,
    ),
    (
        "a release needs a running task",
        "select 1 from tasks where id = ?1 and attempt = ?2 and state = 'running'",
        "select 1 from tasks where id = ?1 and attempt = ?2",
        fence::an_attempt_whose_task_waits_again_is_refused,
    ),
    (
        "a plan names its attempt",
        "set lost_count = 0 where id = ?1 and attempt = ?2 and",
        "set lost_count = 0 where id = ?1 and ?2 > 0 and",
        fence::a_prepare_attempt_that_lost_its_task_stores_no_plan,
    ),
    (
        "a plan needs a running task",
        "set lost_count = 0 where id = ?1 and attempt = ?2 and state = 'running'",
        "set lost_count = 0 where id = ?1 and attempt = ?2",
        fence::a_prepare_attempt_that_lost_its_task_stores_no_plan,
    ),
    (
        "a chunk without samples names its attempt",
        "where t.id = ?1 and t.attempt = ?2 and",
        "where t.id = ?1 and ?2 > 0 and",
        fence::an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it,
    ),
    (
        "a claim takes waiting tasks",
        "lane = :lane and state = 'queued' order by",
        "lane = :lane order by",
        retry::a_retry_keeps_the_finished_chunks_and_does_the_others,
    ),
    (
        "a claim raises the attempt",
        "set state = 'running', attempt = attempt + 1,",
        "set state = 'running',",
        fence::an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it,
    ),
    (
        "a claim keeps to its lane",
        "where kind = :kind and lane = :lane and state = 'queued' order by",
        "where kind = :kind and :lane <> '' and state = 'queued' order by",
        order::lanes_do_not_mix,
    ),
    (
        "a claim goes by priority",
        "order by priority desc, key, id limit 1",
        "order by key, id limit 1",
        order::a_higher_priority_goes_first_and_equals_go_in_order,
    ),
    (
        "the clock of a lane never goes back",
        "max(virtual_ms, excluded.virtual_ms)",
        "excluded.virtual_ms",
        order::the_clock_of_a_lane_does_not_go_back_with_a_long_chunk,
    ),
    (
        "a lease that was renewed is judged anew",
        "state = 'running' and lease_until_ms <= ?1 and process_id",
        "state = 'running' and ?1 > 0 and process_id",
        leases::a_renewed_lease_is_not_reaped_and_a_neglected_one_is,
    ),
    (
        "nobody reaps himself",
        "and process_id <> ?2 limit",
        "and ?2 <> '' limit",
        leases::a_process_does_not_reap_itself,
    ),
    (
        "only the dead are taken over from",
        "where state = 'running' and process_id = ?1 limit ?2",
        "where state = 'running' and ?1 <> '' limit ?2",
        process::a_dead_process_is_taken_over_from_at_once_and_a_living_one_is_left_alone,
    ),
    (
        "nobody takes over from himself",
        "where ended_at_ms is null and id <> ?1",
        "where ended_at_ms is null and ?1 <> ''",
        process::a_process_does_not_recover_itself,
    ),
    (
        "losses are bounded",
        "lost_count = lost_count + 1 - ?3",
        "lost_count = lost_count + 0 * ?3",
        leases::a_chunk_whose_process_vanished_ten_times_is_given_up,
    ),
    (
        "crashes are bounded",
        "crash_count = crash_count + ?3",
        "crash_count = crash_count + 0 * ?3",
        leases::a_chunk_that_stops_its_process_twice_is_the_culprit_and_its_neighbors_are_not,
    ),
    (
        "errors are bounded",
        "set error_count = error_count + 1",
        "set error_count = 1",
        errors::the_last_error_allowed_fails_the_job_and_takes_its_chunks_out_of_the_queue,
    ),
    (
        "an ended job does not end again",
        "coalesce(started_at_ms, created_at_ms)) where pk = :pk and state in ('queued', 'running')",
        "coalesce(started_at_ms, created_at_ms)) where pk = :pk",
        endings::a_completed_or_unknown_job_cannot_be_cancelled,
    ),
    (
        "the end of a job ends its tasks",
        "where job_pk = ?1 and state in ('blocked', 'delayed', 'queued', 'running')",
        "where job_pk = ?1 and state in ('running')",
        endings::a_queued_job_is_cancelled_for_good,
    ),
    (
        "a delayed task waits for its time",
        "state = 'delayed' and run_at_ms <= ?1",
        "state = 'delayed' and ?1 > 0",
        errors::a_failed_attempt_waits_between_half_and_one_and_a_half_of_its_pause,
    ),
    (
        "no time limit ends a job that its owner waits for",
        "state = 'queued' and ttl_deadline_ms <= ?1 and owner is null",
        "state = 'queued' and ttl_deadline_ms <= ?1",
        process::a_queued_job_waits_beyond_its_time_where_its_owner_does,
    ),
    (
        "a job may wait for its time",
        "state = 'queued' and ttl_deadline_ms <= ?1",
        "state = 'queued' and ?1 > 0",
        endings::a_job_that_nobody_began_in_time_is_timed_out,
    ),
    (
        "a job may run for its time",
        "state = 'running' and execution_deadline_ms <= ?1",
        "state = 'running' and ?1 > 0",
        endings::a_running_job_ends_by_its_time_limit_and_not_by_its_age,
    ),
    (
        "only failed and timed-out jobs are retried",
        "where pk = :pk and state in ('failed', 'timed_out')",
        "where pk = :pk",
        retry::only_failed_and_timed_out_jobs_can_be_retried,
    ),
    (
        "a retry is a new generation",
        "generation = generation + 1, owner = null",
        "owner = null",
        retry::a_retry_keeps_the_finished_chunks_and_does_the_others,
    ),
    (
        "chunks are added to an open plan",
        "where pk = ?1 and planned = 0 and",
        "where pk = ?1 and",
        stream::chunks_cannot_be_added_to_a_job_that_has_ended_or_has_all_of_them,
    ),
    (
        "a job completes with its last chunk",
        "kind in ('prepare', 'transcribe') and state in ('blocked', 'delayed', 'queued', 'running')",
        "kind in ('prepare', 'transcribe') and state in ('running')",
        life::a_job_goes_from_submit_to_transcript_and_every_step_is_on_record,
    ),
    (
        "a key is used once",
        "where idempotency_key = ?1 union",
        "where idempotency_key = ?1 and 0 union",
        submit::a_key_or_an_id_that_came_before_is_the_same_job,
    ),
    (
        "an id is used once",
        "from jobs where id = ?2 limit 1",
        "from jobs where id = ?2 and 0 limit 1",
        submit::a_key_or_an_id_that_came_before_is_the_same_job,
    ),
    (
        "a full queue refuses",
        "select jobs from job_counts where state = 'queued'",
        "select 0 from job_counts where state = 'queued'",
        submit::a_full_queue_refuses_until_there_is_room,
    ),
    (
        "a finished job absorbs",
        "select raise(abort, 'a finished job cannot change its state')",
        "select 1",
        schema::no_statement_leads_out_of_a_terminal_state,
    ),
    (
        "a finished task absorbs",
        "select raise(abort, 'a finished task cannot change its state')",
        "select 1",
        schema::no_statement_leads_out_of_a_terminal_state,
    ),
    (
        "the fence cannot fall",
        "select raise(abort, 'the attempt of a task cannot fall')",
        "select 1",
        schema::the_attempt_of_a_task_never_falls,
    ),
    (
        "jobs are counted when their state changes",
        "set jobs = jobs - 1 where state = old.state; update",
        "set jobs = jobs where state = old.state; update",
        endings::a_queued_job_is_cancelled_for_good,
    ),
    (
        "removed jobs are counted out",
        "after delete on jobs begin update job_counts set jobs = jobs - 1",
        "after delete on jobs begin update job_counts set jobs = jobs",
        retain::a_job_goes_with_all_that_belongs_to_it_once_it_has_ended_long_ago,
    ),
    (
        "chunks are rolled up",
        "chunks = chunks + excluded.chunks",
        "chunks = chunks",
        retry::a_retry_keeps_the_finished_chunks_and_does_the_others,
    ),
    (
        "a message waits for the files",
        "iif(:before is null, 'queued', 'blocked')",
        "iif(:before is null, 'queued', 'queued')",
        deliver::files_go_first_and_the_message_tells_what_became_of_them,
    ),
    (
        "a delivery that is under way is not begun again",
        "finished_at_ms = null where state in ('done', 'failed', 'cancelled') returning id",
        "finished_at_ms = null returning id",
        deliver::results_can_be_sent_again_whatever_became_of_them,
    ),
    (
        "the version that was fetched first stays",
        "set source_version = coalesce(source_version, ?2)",
        "set source_version = ?2",
        deliver::the_version_that_was_fetched_first_is_the_one_that_counts,
    ),
    (
        "secrets stay until what needs them has arrived",
        "where job_pk = pk and kind = 'deliver' and tasks.state not in",
        "where job_pk = pk and kind = 'none' and tasks.state not in",
        deliver::secrets_are_needed_until_nothing_can_be_tried_again,
    ),
];

#[test]
fn without_any_of_its_guards_a_named_test_fails() {
    let survivors: Vec<String> = MUTANTS.iter().filter_map(survives).collect();
    assert!(survivors.is_empty(), "\n{}", survivors.join("\n"));
}

/// Why the mutant cannot be said to be caught, if so.
fn survives((what, guard, without, test): &Mutant) -> Option<String> {
    let weakened = Weakened::new(guard, without);
    weaken::set(Some(weakened.clone()));
    let failure = catch_unwind(test).err();
    weaken::set(None);
    if weakened.uses() == 0 {
        return Some(format!("{what}: no statement holds `{guard}`"));
    }
    let Some(failure) = failure else { return Some(format!("{what}: its test passes without it")) };
    let said = failure.downcast_ref::<String>().cloned();
    let said = said.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    // A statement that is no SQL any more proves nothing.
    let broken =
        ["syntax error", "arameter", "no such column", "incomplete input"].iter().any(|words| said.contains(words));
    broken.then(|| format!("{what}: {said}"))
}
