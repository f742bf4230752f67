//! Our worker and RunPod's own (its SDK for Python, as installed by infra/setup.sh) in the same scenarios, compared field
//! by field. Where they differ is a list, each with its reason; it is neither too short nor too long.

use std::collections::BTreeSet;

use super::exchange::Fields;
use super::scenarios::all;

/// Stands for any value.
const ANY: &str = "*";
const SHOWN_CHARS: usize = 72;
/// Most of their time is waiting.
const AT_ONCE: usize = 8;

struct Intended {
    field: &'static str,
    official: &'static str,
    ours: &'static str,
    why: &'static str,
}

const fn intended(field: &'static str, official: &'static str, ours: &'static str, why: &'static str) -> Intended {
    Intended { field, official, ours, why }
}

const OWN_NAME: &str = "we say who we are";
const OWN_ENCODING: &str = "no answer of RunPod's is worth compressing";
const LEAK: &str = "a take is about no job: RunPod's own worker keeps the id of its last one in its session";
const OWN_CODES: &str = "our codes are stable and say more than a Python class; there is no Python to trace";
const ORDERED: &str = "progress that arrives after the result would set the job back to IN_PROGRESS";
const WHOLE: &str = "the result is the same with a stream as without, and its segments hold all that was sent";
const KEYLESS: &str = "without a key RunPod's own worker falls silent, and its jobs are handed to others";
const TEMPLATES: &str = "places in the addresses are filled and parameters follow a question mark";
const KEPT: &str = "a result is sent until it is taken; RunPod's own worker drops it";
const SAID: &str = "a result that is refused for its length is replaced by an address in S3 or an error";
const ENDED: &str = "an open poll is given up at SIGTERM; what RunPod's own worker is handed then is never done";
const NOTHING: &str = "(no such request)";

const INTENDED: &[Intended] = &[
    intended("*: user-agent", ANY, ANY, OWN_NAME),
    intended("*: accept-encoding", ANY, "(absent)", OWN_ENCODING),
    intended("take after a result: x-request-id", "a-u1", "(absent)", LEAK),
    intended("result: error, error_type", "<class 'RuntimeError'>", "not_audio", OWN_CODES),
    intended("result: error, error_traceback", "(lines of Python)", "", OWN_CODES),
    intended("result: error, runpod_version", "1.12.0", "whisperq 0.1.0", OWN_NAME),
    intended("progress is overtaken by the result", "true", "false", ORDERED),
    intended("result: output of a stream", ANY, ANY, WHOLE),
    intended(
        "idle ping: parameters",
        "gpu=NVIDIA+A40&runpod_version=1.12.0",
        "gpu=NVIDIA+A40&runpod_version=whisperq-0.1.0",
        OWN_NAME,
    ),
    intended(
        "busy ping: parameters",
        "gpu=NVIDIA+A40&job_id=a-u1&runpod_version=1.12.0",
        "gpu=NVIDIA+A40&job_id=a-u1&runpod_version=whisperq-0.1.0",
        OWN_NAME,
    ),
    intended("idle ping: target", NOTHING, "GET /v2/e/ping/pod1", KEYLESS),
    intended("idle ping: parameters", NOTHING, "gpu=NVIDIA+A40&runpod_version=whisperq-0.1.0", KEYLESS),
    intended("idle ping: authorization", NOTHING, "(empty)", KEYLESS),
    intended("idle ping: charset", NOTHING, "(absent)", KEYLESS),
    intended("idle ping: content-type", NOTHING, "(absent)", KEYLESS),
    intended("idle ping: x-request-id", NOTHING, "(absent)", KEYLESS),
    intended(
        "take: target",
        "GET /v2/IDE/job-take/$RUNPOD_POD_ID&job_in_progress=0",
        "GET /v2/IDE/job-take/pod1",
        TEMPLATES,
    ),
    intended("take: parameters", "", "job_in_progress=0", TEMPLATES),
    intended("result: parameters", "gpu=$RUNPOD_GPU_TYPE_ID&isStream=false", "gpu=&isStream=false", TEMPLATES),
    intended("outcome of a-u1", "nothing", "error", SAID),
    intended("outcome of a-u1", "nothing", "output", KEPT),
    intended("outcome: left in the queue", "0", "1", ENDED),
];

#[test]
fn the_requests_are_those_of_the_official_worker_but_for_what_is_listed() {
    let (mut met, mut unlisted) = (BTreeSet::new(), Vec::new());
    for (scenario, (official, ours)) in played() {
        let names: BTreeSet<&String> = official.keys().chain(ours.keys()).collect();
        println!("\n{scenario}");
        for name in names {
            let [theirs, ours] = [&official, &ours].map(|fields| fields.get(name).map_or(NOTHING, |value| value));
            let found = INTENDED.iter().position(|intended| intended.covers(name, theirs, ours));
            match found.filter(|_| theirs != ours) {
                _ if theirs == ours => println!("  = {name}: {}", shown(ours)),
                Some(found) => {
                    met.insert(found);
                    println!("  | {name}: {} | {} | {}", shown(theirs), shown(ours), INTENDED[found].why);
                }
                None => {
                    println!("  ! {name}: {} | {}", shown(theirs), shown(ours));
                    unlisted.push(format!("{scenario}, {name}: {theirs} | {ours}"));
                }
            }
        }
    }
    assert!(unlisted.is_empty(), "differences that are not listed:\n{}", unlisted.join("\n"));
    let stale: Vec<&str> =
        INTENDED.iter().enumerate().filter(|(n, _)| !met.contains(n)).map(|(_, gone)| gone.field).collect();
    assert!(stale.is_empty(), "differences that are listed and do not occur: {stale:?}");
}

/// Every scenario with the fields of RunPod's own worker and of ours.
fn played() -> Vec<(&'static str, (Fields, Fields))> {
    let mut played = Vec::new();
    for some in all().chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let playing: Vec<_> =
                some.iter().map(|scenario| (scenario.name, scope.spawn(|| scenario.play()))).collect();
            played.extend(playing.into_iter().map(|(name, fields)| (name, fields.join().unwrap())));
        });
    }
    played
}

impl Intended {
    fn covers(&self, name: &str, official: &str, ours: &str) -> bool {
        let fits = |pattern: &str, value: &str| pattern == ANY || pattern == value;
        let named = match self.field.strip_prefix(ANY) {
            Some(end) => name.ends_with(end),
            None => name == self.field,
        };
        named && fits(self.official, official) && fits(self.ours, ours)
    }
}

fn shown(value: &str) -> String {
    let cut: String = value.chars().take(SHOWN_CHARS).collect();
    if cut.len() < value.len() { format!("{cut}…") } else { cut }
}
