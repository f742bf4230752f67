//! The arithmetic of a load test: latencies by rank, audio seconds per second.

use std::time::Duration;

use super::client::{Failure, Outcome};
use super::crowd::Phase;

/// The latencies of completed requests, shortest first.
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        let mut latencies: Vec<Duration> =
            outcomes.filter(|outcome| outcome.result.is_ok()).map(|outcome| outcome.latency).collect();
        latencies.sort_unstable();
        Self(latencies)
    }

    /// The shortest latency that so many percent of the requests did not exceed (nearest rank): always one that was seen.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    pub(super) fn worst(&self) -> Option<Duration> {
        self.0.last().copied()
    }
}

/// Seconds of audio that came back as text.
pub(super) fn audio_seconds<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> f64 {
    // Not `sum`, by which nothing at all is a negative zero.
    outcomes.filter_map(|outcome| outcome.result.as_ref().ok()).fold(0.0, |sum, seconds| sum + seconds)
}

/// Audio seconds per second; none where nothing came back.
pub(super) fn throughput(phase: &Phase) -> Option<f64> {
    let rate = audio_seconds(phase.outcomes.iter()) / phase.wall.as_secs_f64();
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// How many times the throughput of one client the clients together have.
pub(super) fn speed_up(alone: &Phase, together: &Phase) -> Option<f64> {
    Some(throughput(together)? / throughput(alone)?)
}

/// Each distinct failure with its count, the most frequent first.
pub(super) fn distinct(phases: &[Phase]) -> Vec<(usize, &Failure)> {
    let mut failures: Vec<&Failure> =
        phases.iter().flat_map(|phase| &phase.outcomes).filter_map(|outcome| outcome.result.as_ref().err()).collect();
    failures.sort_unstable();
    let mut counted: Vec<(usize, &Failure)> =
        failures.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0])).collect();
    counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(latency_ms: u64, result: Result<f64, &str>) -> Outcome {
        let failure = |code: &str| Failure { code: code.to_owned(), message: "why".to_owned() };
        Outcome { file: 0, latency: Duration::from_millis(latency_ms), refusals: 0, result: result.map_err(failure) }
    }

    fn phase(clients: usize, wall_seconds: u64, outcomes: Vec<Outcome>) -> Phase {
        Phase { clients, outcomes, wall: Duration::from_secs(wall_seconds) }
    }

    fn ranks(latencies_ms: impl Iterator<Item = u64>) -> [Option<u64>; 3] {
        let outcomes: Vec<Outcome> = latencies_ms.map(|latency_ms| outcome(latency_ms, Ok(1.0))).collect();
        let latencies = Latencies::of(outcomes.iter());
        [50, 95, 99].map(|percent| latencies.percentile(percent).map(|latency| latency.as_millis() as u64))
    }

    #[test]
    fn percentiles_are_latencies_that_were_seen() {
        assert_eq!(ranks(std::iter::empty()), [None; 3]);
        assert_eq!(ranks([7].into_iter()), [Some(7); 3]);
        assert_eq!(ranks([40, 10, 30, 20].into_iter()), [Some(20), Some(40), Some(40)]);
        assert_eq!(ranks((1..=100).rev()), [Some(50), Some(95), Some(99)]);
        assert_eq!(ranks(1..=200), [Some(100), Some(190), Some(198)]);
    }

    #[test]
    fn failed_requests_have_no_latency_and_no_audio() {
        let outcomes = [outcome(10, Ok(12.0)), outcome(9_000, Err("decode_failed"))];
        assert_eq!(Latencies::of(outcomes.iter()).worst(), Some(Duration::from_millis(10)));
        assert_eq!(audio_seconds(outcomes.iter()), 12.0);
    }

    #[test]
    fn the_speed_up_is_a_ratio_of_throughputs() {
        let alone = phase(1, 4, vec![outcome(4_000, Ok(20.0))]);
        let together = phase(4, 8, (0..4).map(|_| outcome(8_000, Ok(30.0))).collect());
        assert_eq!((throughput(&alone), throughput(&together)), (Some(5.0), Some(15.0)));
        assert_eq!(speed_up(&alone, &together), Some(3.0));
        assert_eq!(speed_up(&phase(1, 4, vec![outcome(1, Err("x"))]), &together), None);
    }

    #[test]
    fn failures_are_told_once_with_their_count() {
        let phases = [
            phase(1, 1, vec![outcome(1, Err("b"))]),
            phase(2, 1, vec![outcome(1, Err("a")), outcome(1, Ok(1.0)), outcome(1, Err("b"))]),
        ];
        let told: Vec<(usize, &str)> =
            distinct(&phases).into_iter().map(|(count, failure)| (count, failure.code.as_str())).collect();
        assert_eq!(told, [(2, "b"), (1, "a")]);
    }
}
