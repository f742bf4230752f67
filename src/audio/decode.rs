//! Reads a recording packet by packet into mono samples at the rate it was recorded at. Files come from strangers:
//! every guard here answers something that a file can do to us.

use std::io::ErrorKind;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::anyhow;
use symphonia::core::audio::Channels;
use symphonia::core::audio::Position;
use symphonia::core::errors::Error as DecoderError;
use symphonia::core::formats::Track;
use symphonia::core::packet::Packet;
use symphonia::core::units::TimeBase;

use super::open::{Opened, open};
use super::sniff::{Container, Kind};
use super::timeline::{Timeline, frames_at};
use crate::error::{Error, Result};

/// Streams without a header consist of frames, and random bytes hold a frame's beginning about every 5 kB. A file is
/// taken for such a stream when at least this many frames decode and no more fail: random frames differ in layer, rate or
/// channels and fail. Three frames are 216 ms at most, too short for more than a syllable.
const MIN_STREAM_PACKETS: u64 = 3;

/// Silence is handed on in pieces of at most this many frames.
const SILENCE_FRAMES: usize = 4096;

/// A last packet need not end where its track does, and the track's length may count what the encoder added.
const SLACK_MS: u64 = 500;

/// Why a file was not decoded.
pub(super) enum Failure {
    Here(Error),
    /// Nothing of it could be decoded, but it looks like something that ffmpeg knows.
    Foreign(Kind),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Here(error) => error,
            Failure::Foreign(kind) if kind.demuxers.is_empty() => not_audio(),
            Failure::Foreign(kind) => {
                let message = format!(
                    "the file looks like {}, of a kind that only ffmpeg reads: install ffmpeg, or convert it with \
                     `ffmpeg -i FILE -ac 1 -ar 16000 recording.wav` and submit that",
                    kind.name
                );
                Error::invalid("unsupported_format", message)
            }
        }
    }
}

/// A file being decoded.
pub(super) struct Recording {
    opened: Opened,
    timeline: Timeline,
    padding: Padding,
    /// Read to find out where the recording starts, not decoded yet.
    first: Option<Packet>,
    /// Frames seen, encoder's own included; also the index of the next one.
    frames: u64,
    decoded_packets: u64,
    damaged_packets: u64,
    /// Whether the file could not be read to its end.
    is_cut_short: bool,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
    /// Whether `mono` waits until the silence before it is handed on.
    is_waiting: bool,
}

impl Recording {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let mut opened = open(path)?;
        let timeline = opened.timeline.take();
        let mut recording = Self {
            padding: Padding::of(&opened.track, opened.kind.container),
            timeline: Timeline::counted(0),
            opened,
            first: None,
            frames: 0,
            decoded_packets: 0,
            damaged_packets: 0,
            is_cut_short: false,
            interleaved: Vec::new(),
            mono: Vec::new(),
            is_waiting: false,
        };
        recording.timeline = match timeline {
            Some(timeline) => timeline,
            None => recording.timeline_from_first_packets()?,
        };
        Ok(recording)
    }

    /// The file's time starts with its first packet, of whatever track; before 0 lies what the encoder put in front. Where
    /// nobody has counted that, and the audio comes first, it is there nevertheless.
    fn timeline_from_first_packets(&mut self) -> Result<Timeline> {
        let sample_rate = self.sample_rate();
        let mut first_frame = i64::MAX;
        loop {
            let Some(packet) = self.next_of_any_track()? else { return Ok(Timeline::counted(0)) };
            let track = self.opened.format.tracks().iter().find(|track| track.id == packet.track_id);
            let Some(time_base) = track.and_then(|track| track.time_base) else { continue };
            let frame = frames_at(time_base, sample_rate, packet.pts.get());
            first_frame = first_frame.min(frame);
            if packet.track_id == self.opened.track.id {
                self.first = Some(packet);
                let uncounted = if frame == first_frame && frame >= 0 { self.opened.unsaid_delay } else { 0 };
                return Ok(Timeline::stamped(time_base, sample_rate, -first_frame.max(0) - i64::from(uncounted)));
            }
        }
    }

    /// In samples per second, the same for the whole recording.
    pub(super) fn sample_rate(&self) -> u32 {
        self.opened.sample_rate
    }

    /// The next mono samples, `None` at the end. Packets that cannot be decoded and holes in the recording become as
    /// much silence, so that all later times stay true.
    pub(super) fn next_block(&mut self) -> Result<Option<&[f32]>> {
        while !self.is_waiting {
            let Some(packet) = self.next_packet()? else { break };
            self.decode(&packet)?;
        }
        // Where nothing could be decoded there is nothing to hand on either: ffmpeg may still get the file.
        let silence = if self.decoded_packets > 0 { self.timeline.take_silence(SILENCE_FRAMES) } else { 0 };
        if silence > 0 {
            return Ok(Some(&[0.0; SILENCE_FRAMES][..silence]));
        }
        Ok(std::mem::take(&mut self.is_waiting).then_some(&self.mono))
    }

    fn decode(&mut self, packet: &Packet) -> Result<()> {
        let expected_rate = self.sample_rate();
        let channels = guarded(|| {
            let audio = self.opened.decoder.decode(packet).ok()?;
            audio.copy_to_vec_interleaved(&mut self.interleaved);
            Some(audio.spec().channels().clone()).filter(|_| audio.spec().rate() == expected_rate)
        })?;
        let stamp = packet.pts.get();
        let Some(channels) = channels else {
            self.damaged_packets += 1;
            let frames = frames_at(self.time_base(), expected_rate, packet.block_dur().get().cast_signed()).max(0);
            self.frames = self.frames.saturating_add(frames.cast_unsigned());
            self.timeline.lose(frames.cast_unsigned(), stamp);
            return Ok(());
        };
        self.decoded_packets += 1;
        let weights = weights(&channels);
        self.mono.clear();
        self.mono.extend(self.interleaved.chunks_exact(weights.len()).map(|frame| mix(frame, &weights)));
        let start = self.frames;
        self.frames += self.mono.len() as u64;
        self.padding.trim(&mut self.mono, start);
        self.timeline.place(&mut self.mono, stamp);
        self.is_waiting = true;
        Ok(())
    }

    fn time_base(&self) -> TimeBase {
        let per_frame = || TimeBase::try_from_recip(self.sample_rate()).unwrap_or_default();
        self.opened.track.time_base.unwrap_or_else(per_frame)
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        if self.first.is_some() {
            return Ok(self.first.take());
        }
        loop {
            match self.next_of_any_track()? {
                Some(packet) if packet.track_id != self.opened.track.id => {}
                packet => return Ok(packet),
            }
        }
    }

    fn next_of_any_track(&mut self) -> Result<Option<Packet>> {
        match guarded(|| self.opened.format.next_packet())? {
            Ok(packet) => Ok(packet),
            Err(error) => {
                self.is_cut_short = true;
                read_error(error).map_or(Ok(None), Err)
            }
        }
    }

    /// The verdict at the end: an error when this was no recording, else what its owner should know.
    pub(super) fn finish(self) -> Result<Vec<String>, Failure> {
        let is_stream = matches!(self.opened.kind.container, Container::Mp3 | Container::Adts);
        if self.decoded_packets == 0 && self.damaged_packets == 0 && !is_stream {
            return Err(Error::invalid("empty_file", "the file has an audio header but no audio").into());
        }
        if self.decoded_packets == 0 {
            return Err(Failure::Foreign(self.opened.kind));
        }
        let too_few = is_stream && self.decoded_packets < MIN_STREAM_PACKETS;
        if too_few || self.decoded_packets < self.damaged_packets {
            return Err(not_audio().into());
        }
        let slack = u64::from(self.sample_rate()) * SLACK_MS / 1000;
        let (reached, slack) = match self.opened.kind.container {
            Container::Matroska => (self.timeline.reached(), slack),
            Container::Mp4 => (self.frames, slack),
            _ => (self.frames, 0),
        };
        let mut warnings = self.opened.warnings;
        if self.timeline.contradicts_itself() {
            warnings.push("damaged: the file's time stamps contradict each other; times may be too late".to_owned());
        }
        if self.damaged_packets > 0 {
            let packets = self.decoded_packets + self.damaged_packets;
            warnings.push(format!("damaged: {} of {packets} packets were replaced by silence", self.damaged_packets));
        }
        let promised = self.opened.promised_frames.filter(|&promised| reached.saturating_add(slack) < promised);
        if let Some(promised) = promised {
            let seconds = (promised - reached) as f64 / f64::from(self.opened.sample_rate);
            warnings.push(format!("truncated: the file ends {seconds:.1} s before the length in its header"));
        } else if self.is_cut_short {
            let seconds = self.frames as f64 / f64::from(self.opened.sample_rate);
            warnings.push(format!(
                "damaged: reading stopped after {seconds:.1} s; if there is more in the file, convert it with ffmpeg first"
            ));
        }
        Ok(warnings)
    }
}

/// The frames that an MP3 encoder put behind the recording, by index from the start of the file. Frames behind them
/// belong to something that was appended later, and are kept.
#[derive(Debug, PartialEq, Eq)]
struct Padding(Range<u64>);

impl Padding {
    fn of(track: &Track, container: Container) -> Self {
        let delay = u64::from(track.delay.unwrap_or(0));
        Self(match (track.num_frames, track.padding) {
            (Some(frames), Some(padding)) if container == Container::Mp3 => {
                let start = delay.saturating_add(frames);
                start..start.saturating_add(padding.into())
            }
            _ => u64::MAX..u64::MAX,
        })
    }

    /// Removes the padding from a block that starts at frame `start`.
    fn trim(&self, block: &mut Vec<f32>, start: u64) {
        let index = |frame: u64| frame.saturating_sub(start).min(block.len() as u64) as usize;
        block.drain(index(self.0.start)..index(self.0.end));
    }
}

/// How much each channel counts. The sum is 1, so that nothing clips. Of more than two, the one in the middle has the
/// speech, those behind have echoes, and one has only rumble.
fn weights(channels: &Channels) -> Vec<f32> {
    let weights: Vec<f32> = match channels {
        Channels::Positioned(positions) if channels.count() > 2 => positions.iter().map(weight).collect(),
        _ => vec![1.0; channels.count().max(1)],
    };
    let sum: f32 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn weight(position: Position) -> f32 {
    match position {
        Position::FRONT_CENTER => 1.0,
        Position::FRONT_LEFT | Position::FRONT_RIGHT => std::f32::consts::FRAC_1_SQRT_2,
        // Not nothing, because a file may have these alone.
        Position::LFE1 | Position::LFE2 => 0.001,
        _ => 0.5,
    }
}

/// One channel out of all; a sample that is no number (NaN, infinity) counts as zero.
fn mix(frame: &[f32], weights: &[f32]) -> f32 {
    let finite = frame.iter().zip(weights).filter(|(sample, _)| sample.is_finite());
    finite.map(|(sample, weight)| sample * weight).sum()
}

/// Runs the decoder; should it panic on a malformed file, that is the file's fault and not ours.
pub(super) fn guarded<T>(decoder_call: impl FnOnce() -> T) -> Result<T> {
    // What the call leaves half changed is never used again: the error ends this recording.
    catch_unwind(AssertUnwindSafe(decoder_call))
        .map_err(|_| Error::invalid("undecodable", "the file is malformed in a way that the decoder cannot handle"))
}

/// `Some` when the disk failed; `None` when the content did, which includes ending too early and naming impossible places.
pub(super) fn read_error(error: DecoderError) -> Option<Error> {
    let by_content = [ErrorKind::UnexpectedEof, ErrorKind::InvalidInput, ErrorKind::InvalidData];
    match error {
        DecoderError::IoError(error) if !by_content.contains(&error.kind()) => {
            Some(Error::Internal(anyhow!(error).context("Failed to read the audio file")))
        }
        _ => None,
    }
}

fn not_audio() -> Error {
    Error::invalid("not_audio", "the file holds no recording that can be decoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_decoder_is_an_invalid_input() {
        let error = guarded(|| panic!("slice index out of range")).map(|(): ()| ()).unwrap_err();
        assert_eq!(error.code(), "undecodable");
    }

    #[test]
    fn channels_are_averaged_and_what_is_no_number_is_zero() {
        let stereo = weights(&Channels::Discrete(2));
        assert_eq!(mix(&[0.5, -0.25], &stereo), 0.125);
        assert_eq!(mix(&[f32::NAN, 0.5], &stereo), 0.25);
        assert_eq!(mix(&[f32::INFINITY], &weights(&Channels::Discrete(1))), 0.0);
        assert!(mix(&[f32::MAX, f32::MAX], &stereo).is_finite());
    }

    #[test]
    fn rumble_does_not_count() {
        let surround = Position::FRONT_LEFT | Position::FRONT_RIGHT | Position::FRONT_CENTER | Position::LFE1;
        let weights = weights(&Channels::Positioned(surround));
        assert!((mix(&[0.3, 0.3, 0.3, 1.0], &weights) - 0.3).abs() < 1e-3);
    }

    fn trimmed(padding: &Padding, start: u64, frames: usize) -> usize {
        let mut block = vec![0.0; frames];
        padding.trim(&mut block, start);
        block.len()
    }

    #[test]
    fn only_the_padding_that_the_encoder_names_is_removed() {
        let mut track = Track::new(0);
        track.with_delay(100).with_num_frames(1000).with_padding(50);
        let padding = Padding::of(&track, Container::Mp3);
        assert_eq!(trimmed(&padding, 0, 150), 150);
        assert_eq!(trimmed(&padding, 1090, 100), 10 + 40);
        assert_eq!(trimmed(&padding, 1110, 20), 0);
        assert_eq!(trimmed(&padding, 5000, 100), 100);
        let unknown = Padding::of(Track::new(0).with_num_frames(1000), Container::Mp3);
        assert_eq!(trimmed(&unknown, 5000, 100), 100);
    }

    #[test]
    fn only_a_failing_disk_is_worth_another_try() {
        let disk = DecoderError::IoError(std::io::Error::other("input/output error"));
        assert!(read_error(disk).is_some_and(|error| error.is_retryable()));
        for kind in [ErrorKind::UnexpectedEof, ErrorKind::InvalidInput, ErrorKind::InvalidData] {
            assert!(read_error(DecoderError::IoError(kind.into())).is_none());
        }
        assert!(read_error(DecoderError::DecodeError("bad frame")).is_none());
    }
}
