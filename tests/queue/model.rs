//! The queue against a model of it in plain memory: random sequences of everything that can be done, by owners of claims and
//! by those who have lost theirs, at any time and with clocks that jump. After each step both must be the same, down to
//! the place of every task in its lane.

mod reference;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use reference::{Model, Step};
use whisperq::error::{Error, Result};
use whisperq::job::{JobState, NewJob, Options};
use whisperq::queue::{Claim, Order, TaskRef, prepare_lane};

use super::support::{Bench, MODEL, fault, new_job, plan, result, seconds};

const PROCESSES: [&str; 2] = ["one", "two"];
const CASES: u32 = 64;

/// The real queue, and every claim that it ever gave out.
struct Real {
    bench: Bench,
    claims: Vec<Claim>,
}

impl Real {
    fn take(&self, model: &Model, step: &Step) -> Result<Option<Claim>> {
        let (queue, now) = (&self.bench.queue, model.now_ms);
        let task = |claim: usize| self.claims[claim].task;
        match *step {
            Step::Submit { priority, key } => {
                let options = Options { priority: Some(priority), ..Options::default() };
                let idempotency_key = key.map(|key| key.to_string());
                let job = NewJob { options, idempotency_key, language: Some("en".to_owned()), ..new_job() };
                queue.submit(job, now).map(drop)?;
            }
            Step::Claim { transcribe, process } => {
                let lane = if transcribe { MODEL.to_owned() } else { prepare_lane(false, MODEL, None) };
                let kind = if transcribe { "transcribe" } else { "prepare" };
                return queue.claim(kind, &lane, PROCESSES[process], "worker", now);
            }
            Step::Plan { claim, chunks } => {
                let known = queue.job(&self.claims[claim].job_id, now)?.audio_seconds.is_some();
                if !known {
                    queue.add_chunks(task(claim), seconds(0..chunks), Order::Free, now)?;
                }
                queue.finish_prepare(task(claim), (!known).then(|| plan(chunks)), now)?;
            }
            Step::Finish { claim } => queue.finish_chunk(task(claim), result("So"), now)?,
            Step::Fail { claim, for_good: false } => queue.fail(task(claim), &fault(), 0.5, now)?,
            Step::Fail { claim, for_good: true } => {
                queue.fail(task(claim), &Error::invalid("not_audio", "no"), 0.5, now)?
            }
            Step::Release { claim } => queue.release(task(claim), now)?,
            Step::Crash { claim } => queue.crash(task(claim), now)?,
            Step::Renew { claim, process } => {
                let lost: Vec<TaskRef> = queue.renew(PROCESSES[process], &[task(claim)], now)?;
                if !lost.is_empty() {
                    return Err(Error::ClaimLost);
                }
            }
            Step::Cancel { job } => queue.cancel(&self.id(job), now)?,
            Step::Retry { job } => queue.retry(&self.id(job), now)?,
            Step::Reap { process } => drop(queue.reap(PROCESSES[process], now)?),
            Step::Promote => drop(queue.promote(now)?),
            Step::Expire => drop(queue.expire(now)?),
            Step::Wait { .. } => {}
        }
        Ok(None)
    }

    fn id(&self, job: usize) -> String {
        self.bench.text(&format!("select id from jobs where pk = {}", job + 1))
    }

    fn dump(&self) -> String {
        self.bench.text(
            "select coalesce(group_concat(line, char(10)), '') from (
                 select format('job %d %s generation %d', pk, state, generation) as line from jobs
                 union all
                 select format('task %d of job %d %s attempt %d errors %d crashes %d losses %d key %d lease %d at %d', id,
                     job_pk, state, attempt, error_count, crash_count, lost_count, key, ifnull(lease_until_ms, 0),
                     ifnull(run_at_ms, 0))
                 from tasks)",
        )
    }
}

/// How a step ended, as far as both can tell.
fn ending(result: &Result<Option<Claim>>) -> &'static str {
    match result {
        Ok(Some(_)) => "claimed",
        Ok(None) => "done",
        Err(Error::ClaimLost) => "lost",
        Err(Error::Conflict(_)) => "conflict",
        Err(_) => "another error",
    }
}

impl StateMachineTest for Real {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        Self { bench: Bench::new(), claims: Vec::new() }
    }

    fn apply(mut real: Self, model: &Model, step: Step) -> Self {
        let result = real.take(model, &step);
        assert_eq!(ending(&result), model.ending, "{step:?}");
        real.claims.extend(result.ok().flatten());
        assert_eq!(real.dump(), model.dump(), "after {step:?}");
        real
    }

    fn check_invariants(real: &Self, model: &Model) {
        let completed = model.jobs_in(JobState::Completed);
        assert_eq!(real.bench.number("select jobs from job_counts where state = 'completed'"), completed);
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Step> {
        // What is not there yet is refused by the precondition.
        let (claim, job) = (0..model.claims().max(1), 0..model.jobs().max(1));
        // Lately claimed ones are the ones that are still worked on.
        let recent = model.claims().saturating_sub(3)..model.claims().max(1);
        let process = 0..PROCESSES.len();
        let waits = [1, 400, 1_000, 4_000, 15_000, 30_000, 70_000, 700_000, -3_600_000, 3_600_000];
        prop_oneof![
            4 => (-1..=1, proptest::option::weighted(0.2, 0..2_u8)).prop_map(|(priority, key)| Step::Submit { priority, key }),
            10 => (any::<bool>(), process.clone()).prop_map(|(transcribe, process)| Step::Claim { transcribe, process }),
            6 => (recent.clone(), 0..4_u64).prop_map(|(claim, chunks)| Step::Plan { claim, chunks }),
            8 => recent.prop_map(|claim| Step::Finish { claim }),
            2 => claim.clone().prop_map(|claim| Step::Finish { claim }),
            3 => (claim.clone(), proptest::bool::weighted(0.2)).prop_map(|(claim, for_good)| Step::Fail { claim, for_good }),
            1 => claim.clone().prop_map(|claim| Step::Release { claim }),
            1 => claim.clone().prop_map(|claim| Step::Crash { claim }),
            2 => (claim, process.clone()).prop_map(|(claim, process)| Step::Renew { claim, process }),
            1 => job.clone().prop_map(|job| Step::Cancel { job }),
            2 => job.prop_map(|job| Step::Retry { job }),
            2 => process.prop_map(|process| Step::Reap { process }),
            2 => Just(Step::Promote),
            1 => Just(Step::Expire),
            4 => proptest::sample::select(waits.to_vec()).prop_map(|ms| Step::Wait { ms }),
        ]
        .boxed()
    }

    fn preconditions(model: &Self, step: &Step) -> bool {
        match *step {
            Step::Plan { claim, .. } => claim < model.claims() && model.is_prepare(claim),
            Step::Finish { claim } => claim < model.claims() && !model.is_prepare(claim),
            Step::Fail { claim, .. } | Step::Release { claim } | Step::Crash { claim } | Step::Renew { claim, .. } => {
                claim < model.claims()
            }
            Step::Cancel { job } | Step::Retry { job } => job < model.jobs(),
            _ => true,
        }
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        model.take(step);
        model
    }
}

/// PROPTEST_CASES asks for more.
fn config() -> Config {
    let wanted = std::env::vars().find(|(name, _)| name == "PROPTEST_CASES");
    let cases = wanted.map_or(CASES, |(_, cases)| cases.parse().unwrap());
    Config { cases, max_shrink_iters: 4_000, failure_persistence: None, ..Config::default() }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn the_queue_does_what_its_model_does(sequential 1..80 => Real);
}
