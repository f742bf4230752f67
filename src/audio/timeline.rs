//! Where decoded frames lie in time. Encoders put frames of their own in front, recordings start late or have holes, and
//! packets are lost; a transcript's times must come out as a player would show them.

use symphonia::core::units::TimeBase;

/// A packet that comes later than the frames before it account for leaves a hole, which becomes silence; less is how
/// containers round their times, and stays under what shows in a transcript.
const MAX_DRIFT_MS: i64 = 40;

/// Far beyond any recording, and far from the ends of the number.
const FARTHEST_FRAME: i128 = 1 << 60;

/// The frames of a recording on their way out, counted from its start.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Where the next frame lies; before the start, at a negative one, it is dropped.
    next: i64,
    /// Silence that is due before the next frame.
    silence: u64,
    clock: Option<Clock>,
    /// Whether a time stamp lay far before what came earlier.
    contradicts_itself: bool,
}

/// Turns the time stamps of a container into frames since the start of the recording.
#[derive(Debug)]
struct Clock {
    time_base: TimeBase,
    sample_rate: u32,
    /// The frame at which the time stamp 0 lies.
    zero: i64,
}

impl Timeline {
    /// For packets that follow one another without holes, `dropped` frames from the start being the encoder's own.
    pub(super) fn counted(dropped: u32) -> Self {
        Self { next: -i64::from(dropped), silence: 0, clock: None, contradicts_itself: false }
    }

    /// For packets with trustworthy time stamps, 0 lying at frame `zero`.
    pub(super) fn stamped(time_base: TimeBase, sample_rate: u32, zero: i64) -> Self {
        let clock = Clock { time_base, sample_rate, zero };
        // The first time stamp says where the first frame lies.
        Self { next: i64::MIN, silence: 0, clock: Some(clock), contradicts_itself: false }
    }

    /// Takes a decoded block with its time stamp, and leaves of it what belongs to the recording.
    pub(super) fn place(&mut self, block: &mut Vec<f32>, stamp: i64) {
        self.catch_up(stamp);
        let before_start = self.next.saturating_neg().clamp(0, block.len() as i64);
        block.drain(..before_start as usize);
        self.next += before_start + block.len() as i64;
    }

    /// Takes the place of so many frames that could not be decoded.
    pub(super) fn lose(&mut self, frames: u64, stamp: i64) {
        self.catch_up(stamp);
        self.silence_until(self.next.saturating_add_unsigned(frames.min(FARTHEST_FRAME as u64)));
    }

    /// Whether some frames were placed too late: a time stamp more than a second before the frames that came earlier says
    /// that one of those was wrong.
    pub(super) fn contradicts_itself(&self) -> bool {
        self.contradicts_itself
    }

    /// How far the recording has got, in frames.
    pub(super) fn reached(&self) -> u64 {
        self.next.max(0).cast_unsigned()
    }

    /// At most `limit` frames of the silence that is due, 0 when there is none.
    pub(super) fn take_silence(&mut self, limit: usize) -> usize {
        let taken = self.silence.min(limit as u64);
        self.silence -= taken;
        taken as usize
    }

    fn catch_up(&mut self, stamp: i64) {
        let Some(clock) = &self.clock else { return };
        let place = frames_at(clock.time_base, clock.sample_rate, stamp).saturating_add(clock.zero);
        let max_drift = i64::from(clock.sample_rate) * MAX_DRIFT_MS / 1000;
        if self.next == i64::MIN {
            self.next = place.min(0);
            self.silence_until(place);
        } else if place.saturating_sub(self.next) > max_drift {
            self.silence_until(place);
        } else if self.next.saturating_sub(place) > i64::from(clock.sample_rate) {
            self.contradicts_itself = true;
        }
    }

    fn silence_until(&mut self, place: i64) {
        self.silence = self.silence.saturating_add((place.max(0) - self.next.max(0)).max(0).cast_unsigned());
        self.next = place;
    }
}

/// A time stamp in frames.
pub(super) fn frames_at(time_base: TimeBase, sample_rate: u32, stamp: i64) -> i64 {
    let ticks = i128::from(stamp) * i128::from(time_base.numer.get()) * i128::from(sample_rate);
    let frames = ticks / i128::from(time_base.denom.get());
    frames.clamp(-FARTHEST_FRAME, FARTHEST_FRAME) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECONDS: TimeBase =
        TimeBase::new(std::num::NonZero::new(1).unwrap(), std::num::NonZero::new(1000).unwrap());

    /// What comes out of blocks of 20 frames at 1000 Hz with these time stamps: runs of silence (-) and of sound (+).
    fn placed(timeline: &mut Timeline, stamps: &[i64]) -> Vec<i64> {
        let mut runs = Vec::new();
        for &stamp in stamps {
            let mut block = vec![0.5; 20];
            timeline.place(&mut block, stamp);
            runs.extend([-(timeline.take_silence(1_000_000) as i64), block.len() as i64]);
        }
        runs.retain(|&run| run != 0);
        runs
    }

    #[test]
    fn the_encoders_own_frames_are_dropped_across_blocks() {
        assert_eq!(placed(&mut Timeline::counted(30), &[0, 0, 0]), [10, 20]);
    }

    #[test]
    fn a_late_start_becomes_silence_and_an_early_one_is_cut() {
        let stamped = |zero| Timeline::stamped(MILLISECONDS, 1000, zero);
        assert_eq!(placed(&mut stamped(1500), &[0, 20]), [-1500, 20, 20]);
        assert_eq!(placed(&mut stamped(-25), &[0, 20]), [15]);
        assert_eq!(placed(&mut stamped(0), &[-5, 15]), [15, 20]);
    }

    #[test]
    fn holes_become_silence_and_rounding_does_not() {
        let mut timeline = Timeline::stamped(MILLISECONDS, 1000, 0);
        assert_eq!(placed(&mut timeline, &[0, 21, 39, 200, 100, 220]), [20, 20, 20, -140, 20, 20, 20]);
    }

    #[test]
    fn a_time_stamp_that_later_ones_contradict_is_told() {
        let told = |stamps: &[i64]| {
            let mut timeline = Timeline::stamped(MILLISECONDS, 1000, 0);
            placed(&mut timeline, stamps);
            timeline.contradicts_itself()
        };
        assert!(told(&[0, 20, 5000, 60]));
        assert!(!told(&[0, 20, 5000, 5020, 5030]));
    }

    #[test]
    fn absurd_time_stamps_overflow_nothing() {
        for stamp in [i64::MAX, i64::MIN, i64::MAX - 1] {
            let mut timeline = Timeline::stamped(MILLISECONDS, 384_000, i64::from(i32::MAX));
            placed(&mut timeline, &[stamp, 0, stamp]);
            timeline.lose(u64::MAX, stamp);
        }
    }

    #[test]
    fn lost_packets_keep_their_place() {
        let mut timeline = Timeline::counted(5);
        timeline.lose(20, 0);
        assert_eq!(timeline.take_silence(1000), 15);
        assert_eq!(placed(&mut timeline, &[0]), [20]);
    }
}
