//! What is measured: the steps of a job with one chunk, through the queue's own functions.

use whisperq::audio::Chunk;
use whisperq::job::{FrontDoor, NewJob, Options};
use whisperq::queue::{ChunkResult, Claim, Order, Plan, TaskRef, new_id, prepare_lane, transcribe_lane, unix_now_ms};
use whisperq::transcript::Segment;

use crate::bulk;
use crate::ground::{Ground, Hand, MODEL, WORKER};

#[derive(Clone, Copy)]
pub(crate) enum Step {
    Submit,
    /// Of a chunk.
    Claim,
    /// Of a job's only chunk, and so of the job.
    Finish,
    /// All that follows the submit.
    Work,
    /// Submit and work.
    Job,
}

impl Step {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Claim => "claim",
            Self::Finish => "finish",
            Self::Work => "work",
            Self::Job => "job",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Submit, Self::Claim, Self::Finish, Self::Work, Self::Job].into_iter().find(|step| step.name() == name)
    }

    /// Puts into the queue what `count` times of this step find there.
    pub(crate) fn lay_out(self, ground: &Ground, count: u64) {
        if matches!(self, Self::Claim | Self::Finish) {
            bulk::waiting(ground, count, "queued");
        }
    }

    /// What this hand has to do before the clock runs.
    pub(crate) fn get_ready(self, hand: &Hand, count: u64) -> Vec<TaskRef> {
        match self {
            Self::Finish => (0..count).map(|_| claim_chunk(hand).task).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn go(self, hand: &Hand, count: u64, claimed: &[TaskRef]) {
        match self {
            Self::Submit => (0..count).for_each(|_| submit(hand)),
            Self::Claim => (0..count).for_each(|_| drop(claim_chunk(hand))),
            Self::Finish => claimed.iter().for_each(|&task| finish_chunk(hand, task)),
            Self::Work => (0..count).for_each(|_| work(hand)),
            Self::Job => (0..count).for_each(|_| {
                submit(hand);
                work(hand);
            }),
        }
    }
}

fn submit(hand: &Hand) {
    let job = NewJob {
        id: new_id(),
        idempotency_key: None,
        front_door: FrontDoor::Http,
        source: "/audio/a.wav".to_owned(),
        source_version: None,
        source_bytes: None,
        model: MODEL.to_owned(),
        language: None,
        options: Options::default(),
        owner: None,
    };
    hand.queue.submit(job, unix_now_ms()).unwrap();
}

/// Does one job, or the halves of two: each hand leaves as much as it takes, so there is always one to claim.
fn work(hand: &Hand) {
    let task = claim(hand, "prepare", &prepare_lane(false, MODEL, None)).task;
    let chunk = Chunk { start_sample: 0, end_sample: 16_000, hard_cut: false };
    hand.queue.add_chunks(task, vec![chunk], Order::Free, unix_now_ms()).unwrap();
    let plan = Plan { audio_ms: 1000, warnings: Vec::new() };
    hand.queue.finish_prepare(task, Some(plan), unix_now_ms()).unwrap();
    finish_chunk(hand, claim_chunk(hand).task);
}

fn claim(hand: &Hand, kind: &'static str, lane: &str) -> Claim {
    hand.queue.claim(kind, lane, hand.process.id(), WORKER, unix_now_ms()).unwrap().unwrap()
}

fn claim_chunk(hand: &Hand) -> Claim {
    claim(hand, "transcribe", &transcribe_lane(MODEL, None))
}

fn finish_chunk(hand: &Hand, task: TaskRef) {
    let segment = Segment {
        start_ms: 0,
        end_ms: 500,
        text: "So".to_owned(),
        seek_ms: 0,
        tokens: vec![1, 2],
        temperature: 0.0,
        avg_logprob: -0.25,
        compression_ratio: 1.0,
        no_speech_prob: 0.0,
        speech_prob: None,
        words: None,
    };
    let result =
        ChunkResult { language: "en".to_owned(), language_probability: None, segments: vec![segment], engine_ms: 7 };
    hand.queue.finish_chunk(task, result, unix_now_ms()).unwrap();
}
