//! What RunPod's queue does to a worker, ours or RunPod's own: the same to both, in the same order.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::exchange::{Fields, answers, fields};
use super::official::Official;
use super::platform::{Platform, is_ping, is_progress, is_result, is_take};
use super::worker::{Worker, job, long_job};
use crate::support::Whisperq;

pub(crate) enum Running {
    Ours(Worker),
    Official(Official),
}

impl Running {
    fn is_official(&self) -> bool {
        matches!(self, Self::Official(_))
    }

    fn go_on(&mut self) {
        if let Self::Official(official) = self {
            official.go_on();
        }
    }

    fn signal(&self, signal: Signal) {
        match self {
            Self::Ours(worker) => worker.signal(signal),
            Self::Official(official) => official.signal(signal),
        }
    }
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The fields that it is about, by their beginnings.
    about: &'static [&'static str],
    /// The jobs in it.
    jobs: &'static [&'static str],
    /// How many jobs a worker does at a time.
    concurrency: usize,
    /// The handler of RunPod's own worker waits until it is told to go on.
    holds: bool,
    streams: bool,
    environment: fn(&Platform) -> Vec<(&'static str, String)>,
    /// Does it, up to the point where nothing of interest is to come. May give a second queue that has results.
    drive: fn(&Platform, &mut Running) -> Option<Platform>,
}

const SIMPLE: Scenario = Scenario {
    name: "",
    about: &[],
    jobs: &["a-u1"],
    concurrency: 1,
    holds: false,
    streams: false,
    environment: cloud,
    drive: |_, _| None,
};

pub(crate) fn all() -> Vec<Scenario> {
    let (both, ends) = (&["a-u1", "b-u1"], &["outcome"]);
    vec![
        Scenario { name: "one job", about: &["take", "stop poll", "result", "order", "outcome"], drive: one, ..SIMPLE },
        Scenario {
            name: "a batch",
            about: &["take: ", "result", "outcome"],
            jobs: both,
            concurrency: 2,
            drive: batch,
            ..SIMPLE
        },
        Scenario { name: "an error of the handler", about: &["result", "outcome"], drive: error, ..SIMPLE },
        Scenario { name: "progress", about: &["progress"], drive: progress, ..SIMPLE },
        Scenario {
            name: "a stream",
            about: &["segment", "all segments", "result", "order", "outcome"],
            streams: true,
            drive: stream,
            ..SIMPLE
        },
        Scenario { name: "a job is stopped", about: ends, jobs: both, holds: true, drive: stop, ..SIMPLE },
        Scenario { name: "refresh_worker", about: &["result", "outcome"], jobs: both, drive: refresh, ..SIMPLE },
        Scenario { name: "heartbeats", about: &["idle ping", "busy ping"], holds: true, drive: pings, ..SIMPLE },
        Scenario { name: "no key", about: &["idle ping"], environment: keyless, drive: one, ..SIMPLE },
        Scenario {
            name: "the Hub's addresses",
            about: &["take: ", "result", "outcome"],
            environment: hub,
            drive: one,
            ..SIMPLE
        },
        Scenario { name: "204, 400, 429 and 500 to a take", about: ends, drive: odd_takes, ..SIMPLE },
        Scenario { name: "413 to a result", about: ends, jobs: both, drive: |p, w| refused(p, w, &[413]), ..SIMPLE },
        Scenario { name: "400 to a result", about: ends, jobs: both, drive: |p, w| refused(p, w, &[400]), ..SIMPLE },
        Scenario { name: "429 to a result", about: ends, jobs: both, drive: |p, w| refused(p, w, &[429]), ..SIMPLE },
        Scenario {
            name: "500 to a result, three times",
            about: ends,
            jobs: both,
            drive: |p, w| refused(p, w, &[500, 500, 500]),
            ..SIMPLE
        },
        Scenario {
            name: "results are refused a connection",
            about: ends,
            jobs: both,
            environment: away,
            drive: unreachable,
            ..SIMPLE
        },
        Scenario { name: "a job for the open poll after SIGTERM", about: ends, drive: terminated, ..SIMPLE },
    ]
}

impl Scenario {
    /// The fields of ours and of RunPod's own worker, which says what ours did.
    pub(crate) fn play(&self) -> (Fields, Fields) {
        let (ours, mut told) = self.play_with(|environment| {
            let (workers, count) = (self.concurrency.to_string(), "1");
            let settings = [("WORKER_COUNT", workers.as_str()), ("MODEL_INSTANCES", count)];
            Running::Ours(Worker::start_in(Whisperq::new(), environment, &settings))
        });
        told[self.jobs[0]]["holds"] = self.holds.into();
        let (official, _) = self.play_with(|environment| {
            Running::Official(Official::start(environment, &told, self.concurrency, self.streams))
        });
        (official, ours)
    }

    fn play_with(&self, start: impl FnOnce(&[(&'static str, String)]) -> Running) -> (Fields, Value) {
        let platform = Platform::start();
        let mut running = start(&(self.environment)(&platform));
        let other = (self.drive)(&platform, &mut running);
        let accepted = other.as_ref().unwrap_or(&platform).accepted();
        let mut all = fields(&platform.seen(), &accepted, self.jobs);
        all.insert("progress is overtaken by the result".into(), platform.was_overtaken().to_string());
        all.insert("outcome: left in the queue".into(), platform.left().to_string());
        if self.streams
            && let Some(output) = all.remove("result: output")
        {
            all.insert("result: output of a stream".into(), output);
        }
        all.retain(|name, _| self.about.iter().any(|about| name.starts_with(about)));
        (all, answers(other.as_ref().unwrap_or(&platform), self.jobs))
    }
}

/// As in RunPod's cloud, which names the GPU itself.
fn cloud(platform: &Platform) -> Vec<(&'static str, String)> {
    let mut environment = platform.environment();
    for (name, value) in &mut environment {
        *value = value.replace("$RUNPOD_GPU_TYPE_ID", "NVIDIA+A40");
        if *name == "RUNPOD_PING_INTERVAL" {
            // The shortest that RunPod's own worker knows.
            *value = "1000".to_owned();
        }
    }
    environment
}

fn keyless(platform: &Platform) -> Vec<(&'static str, String)> {
    cloud(platform).into_iter().filter(|(name, _)| *name != "RUNPOD_AI_API_KEY").collect()
}

/// As in the tests of RunPod's Hub.
fn hub(platform: &Platform) -> Vec<(&'static str, String)> {
    let done = "job-done/$RUNPOD_POD_ID/$ID?gpu=$RUNPOD_GPU_TYPE_ID";
    vec![
        ("RUNPOD_WEBHOOK_GET_JOB", format!("{}/v2/IDE/job-take/$RUNPOD_POD_ID", platform.url)),
        ("RUNPOD_WEBHOOK_POST_OUTPUT", format!("{}/v2/IDE/{done}", platform.url)),
        ("RUNPOD_POD_ID", "pod1".to_owned()),
    ]
}

/// Results go where nobody is yet.
fn away(platform: &Platform) -> Vec<(&'static str, String)> {
    let mut environment = cloud(platform);
    environment.retain(|(name, _)| *name != "RUNPOD_WEBHOOK_POST_OUTPUT");
    environment.push(("RUNPOD_WEBHOOK_POST_OUTPUT", format!("{}/v2/e/job-done/pod1/$ID?gpu=x", platform.away)));
    environment
}

/// Until the worker asks once more.
fn next_take(platform: &Platform) {
    let takes = platform.seen().iter().filter(|request| is_take(request)).count();
    platform.asked_nth(takes, is_take);
}

fn one(platform: &Platform, _: &mut Running) -> Option<Platform> {
    platform.hand_out(&job("a-u1"));
    platform.results(1);
    next_take(platform);
    None
}

fn batch(platform: &Platform, _: &mut Running) -> Option<Platform> {
    platform.answer_take(200, &json!([job("a-u1"), job("b-u1")]).to_string());
    platform.results(2);
    None
}

fn error(platform: &Platform, _: &mut Running) -> Option<Platform> {
    platform.hand_out(&json!({"id": "a-u1", "input": {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}}));
    platform.results(1);
    None
}

fn progress(platform: &Platform, _: &mut Running) -> Option<Platform> {
    platform.hold_progress();
    platform.hand_out(&long_job("a-u1", 40));
    platform.results(1);
    platform.asked(is_progress);
    None
}

fn stream(platform: &Platform, _: &mut Running) -> Option<Platform> {
    let mut job = long_job("a-u1", 40);
    job["input"]["streaming"] = json!(true);
    platform.hand_out(&job);
    platform.results(1);
    None
}

fn stop(platform: &Platform, _: &mut Running) -> Option<Platform> {
    platform.hand_out(&long_job("a-u1", 300));
    platform.asked(|request| is_ping(request) && request.line.contains("a-u1"));
    platform.stop("a-u1");
    platform.hand_out(&job("b-u1"));
    platform.results(1);
    None
}

fn refresh(platform: &Platform, _: &mut Running) -> Option<Platform> {
    let mut first = job("a-u1");
    first["input"]["refresh_worker"] = json!(true);
    platform.hand_out(&first);
    platform.results(1);
    platform.hand_out(&job("b-u1"));
    platform.results(2);
    None
}

fn pings(platform: &Platform, running: &mut Running) -> Option<Platform> {
    platform.asked(is_ping);
    platform.hand_out(&long_job("a-u1", 70));
    platform.asked(|request| is_ping(request) && request.line.contains("job_id="));
    running.go_on();
    platform.results(1);
    None
}

fn odd_takes(platform: &Platform, _: &mut Running) -> Option<Platform> {
    for (status, body) in [(204, ""), (400, ""), (429, ""), (500, "down"), (200, ""), (200, "[]"), (200, "<html>")] {
        platform.answer_take(status, body);
    }
    platform.hand_out(&job("a-u1"));
    platform.results(1);
    None
}

/// Another job tells when RunPod's own worker has given the first one up.
fn refused(platform: &Platform, running: &mut Running, statuses: &[u16]) -> Option<Platform> {
    platform.answer_posts(statuses);
    platform.hand_out(&job("a-u1"));
    platform.asked_nth(statuses.len() - 1, is_result);
    platform.hand_out(&job("b-u1"));
    platform.results(if running.is_official() { 1 } else { 2 });
    None
}

fn unreachable(platform: &Platform, running: &mut Running) -> Option<Platform> {
    platform.hand_out(&job("a-u1"));
    match running {
        // It asks again when it has given up.
        Running::Official(_) => drop(platform.asked_nth(1, is_take)),
        Running::Ours(worker) => worker.until("select 1 as n from deliveries where kind = 'runpod' and errors > 0"),
    }
    let back = Platform::start_on(platform.away.trim_start_matches("http://"));
    platform.hand_out(&job("b-u1"));
    back.results(if running.is_official() { 1 } else { 2 });
    Some(back)
}

fn terminated(platform: &Platform, running: &mut Running) -> Option<Platform> {
    platform.hold_takes();
    platform.asked(is_take);
    running.signal(Signal::TERM);
    match running {
        Running::Ours(worker) => {
            worker.wait();
            platform.hand_out(&job("a-u1"));
        }
        Running::Official(official) => {
            // It looks every tenth of a second, which two heartbeats outlast.
            let pings = platform.seen().iter().filter(|request| is_ping(request)).count();
            platform.asked_nth(pings + 1, is_ping);
            platform.hand_out(&job("a-u1"));
            official.end();
        }
    }
    None
}
