//! Reads WAV and MP3 files into mono samples at the rate they were recorded at. The only file that knows symphonia.
//! Files come from strangers: every guard here answers something that a file can do to us.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::ops::{Range, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, anyhow};
use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as DecoderError;
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::packet::Packet;
use symphonia::default::{get_codecs, get_probe};

use super::sniff;
use crate::error::{Error, Result};

/// Below, speech is not intelligible; above, no recorder works. The bounds keep the resampler's buffers small.
const SAMPLE_RATES: RangeInclusive<u32> = 4_000..=384_000;

/// MP3 has no signature, only frame headers, and random bytes hold one about every 5 kB. A file is taken for MP3 when
/// at least this many frames decode and no more fail: random frames differ in layer, rate or channels and fail. Three
/// frames are 216 ms at most, too short for more than a syllable.
const MIN_MP3_PACKETS: u64 = 3;

/// A file being decoded.
pub(super) struct Recording {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    sample_rate: u32,
    is_mp3: bool,
    gapless: Gapless,
    /// Frames that a trustworthy header promises, encoder padding left out.
    promised_frames: Option<u64>,
    /// Frames seen, encoder padding included; also the index of the next one.
    frames: u64,
    decoded_packets: u64,
    damaged_packets: u64,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
}

impl Recording {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).context("Failed to open the audio file")?;
        let mut head = Vec::new();
        file.by_ref().take(sniff::HEAD_BYTES as u64).read_to_end(&mut head).context("Failed to read the audio file")?;
        file.rewind().context("Failed to read the audio file")?;
        if let Some(refusal) = sniff::refusal(&head) {
            return Err(refusal);
        }
        let is_wav = sniff::is_wav(&head);
        guarded(|| Self::probe(file, is_wav))?
    }

    fn probe(file: File, is_wav: bool) -> Result<Self> {
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let format = get_probe()
            .probe(&Default::default(), stream, Default::default(), Default::default())
            .map_err(|error| read_error(error).unwrap_or_else(|| unreadable(is_wav)))?;
        let track = format.default_track(TrackType::Audio).ok_or_else(no_audio_track)?.clone();
        let params = track.codec_params.as_ref().and_then(|params| params.audio()).ok_or_else(no_audio_track)?;
        let sample_rate = supported_rate(params)?;
        // Its own trimming would cut off whatever lies behind the length that the header claims or, without one, that
        // it estimates: most of a file that was joined from several, the end of one with a variable bit rate.
        let options = AudioDecoderOptions::default().gapless(false);
        let decoder = get_codecs().make_audio_decoder(params, &options).map_err(|_| unreadable(is_wav))?;
        Ok(Self {
            track_id: track.id,
            sample_rate,
            is_mp3: params.codec == CODEC_ID_MP3,
            gapless: Gapless::of(&track),
            promised_frames: if is_wav || track.delay.is_some() { track.num_frames } else { None },
            frames: 0,
            decoded_packets: 0,
            damaged_packets: 0,
            interleaved: Vec::new(),
            mono: Vec::new(),
            format,
            decoder,
        })
    }

    /// In samples per second, the same for the whole recording.
    pub(super) fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// The next mono samples, `None` at the end. A packet that cannot be decoded becomes as much silence, so that all
    /// later times stay true.
    pub(super) fn next_block(&mut self) -> Result<Option<&[f32]>> {
        let Some(packet) = self.next_packet()? else { return Ok(None) };
        let decoded = guarded(|| {
            let audio = self.decoder.decode(&packet).ok()?;
            audio.copy_to_vec_interleaved(&mut self.interleaved);
            Some(audio.spec().channels().count())
        })?;
        self.mono.clear();
        match decoded {
            Some(channels) => {
                self.decoded_packets += 1;
                self.mono.extend(self.interleaved.chunks_exact(channels).map(mean));
            }
            None => {
                self.damaged_packets += 1;
                self.mono.resize(packet.block_dur().get() as usize, 0.0);
            }
        }
        let start = self.frames;
        self.frames += self.mono.len() as u64;
        self.gapless.trim(&mut self.mono, start);
        Ok(Some(&self.mono))
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        loop {
            match guarded(|| self.format.next_packet())? {
                Ok(Some(packet)) if packet.track_id != self.track_id => {}
                Ok(packet) => return Ok(packet),
                Err(error) => return read_error(error).map_or(Ok(None), Err),
            }
        }
    }

    /// The verdict at the end: an error when this was no recording, else what its owner should know.
    pub(super) fn finish(&self) -> Result<Vec<String>> {
        if self.decoded_packets == 0 && self.damaged_packets == 0 && !self.is_mp3 {
            return Err(Error::invalid("empty_file", "the file has an audio header but no audio"));
        }
        let too_few = self.is_mp3 && self.decoded_packets < MIN_MP3_PACKETS;
        if too_few || self.decoded_packets < self.damaged_packets {
            return Err(not_audio());
        }
        let mut warnings = Vec::new();
        if self.damaged_packets > 0 {
            let packets = self.decoded_packets + self.damaged_packets;
            warnings.push(format!("damaged: {} of {packets} packets were replaced by silence", self.damaged_packets));
        }
        if let Some(promised) = self.promised_frames.filter(|&promised| self.frames < promised) {
            let seconds = (promised - self.frames) as f64 / f64::from(self.sample_rate);
            warnings.push(format!("truncated: the file ends {seconds:.1} s before the length in its header"));
        }
        Ok(warnings)
    }
}

/// The frames that an MP3 encoder put in front of and behind the recording, by index from the start of the file.
#[derive(Debug, PartialEq, Eq)]
struct Gapless {
    delay: u64,
    /// Frames behind it belong to something that was appended later, and are kept.
    padding: Range<u64>,
}

impl Gapless {
    fn of(track: &Track) -> Self {
        let delay = u64::from(track.delay.unwrap_or(0));
        let padding = match (track.num_frames, track.padding) {
            (Some(frames), Some(padding)) => delay + frames..delay + frames + u64::from(padding),
            _ => u64::MAX..u64::MAX,
        };
        Self { delay, padding }
    }

    /// Removes delay and padding from a block that starts at frame `start`.
    fn trim(&self, block: &mut Vec<f32>, start: u64) {
        let mut frame = start;
        block.retain(|_| {
            let kept = frame >= self.delay && !self.padding.contains(&frame);
            frame += 1;
            kept
        });
    }
}

/// Channels are averaged; one that holds no number (NaN, infinity) counts as zero there.
fn mean(frame: &[f32]) -> f32 {
    let channels = frame.len() as f32;
    frame.iter().filter(|sample| sample.is_finite()).map(|sample| sample / channels).sum()
}

/// Runs the decoder; should it panic on a malformed file, that is the file's fault and not ours.
fn guarded<T>(decoder_call: impl FnOnce() -> T) -> Result<T> {
    // What the call leaves half changed is never used again: the error ends this recording.
    catch_unwind(AssertUnwindSafe(decoder_call))
        .map_err(|_| Error::invalid("undecodable", "the file is malformed in a way that the decoder cannot handle"))
}

/// `Some` when the disk failed; `None` when the content did, which includes ending too early.
fn read_error(error: DecoderError) -> Option<Error> {
    match error {
        DecoderError::IoError(error) if error.kind() != ErrorKind::UnexpectedEof => {
            Some(Error::Internal(anyhow!(error).context("Failed to read the audio file")))
        }
        _ => None,
    }
}

fn supported_rate(params: &AudioCodecParameters) -> Result<u32> {
    let rate = params.sample_rate.unwrap_or(0);
    if !SAMPLE_RATES.contains(&rate) {
        let (low, high) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
        let message = format!("the file has {rate} samples per second; {low} to {high} are supported");
        return Err(Error::invalid("unsupported_format", message));
    }
    Ok(rate)
}

fn unreadable(is_wav: bool) -> Error {
    // Outside WAV, a codec that is not built in is MPEG layer 1 or 2, far more often found by accident than meant.
    if !is_wav {
        return not_audio();
    }
    let message = "the WAV file is malformed or compressed; PCM, float, A-law and µ-law are supported";
    Error::invalid("unsupported_format", message)
}

fn not_audio() -> Error {
    Error::invalid("not_audio", "the file holds no WAV or MP3 recording that can be decoded")
}

fn no_audio_track() -> Error {
    Error::invalid("no_audio_track", "the file has no audio track")
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
        assert_eq!(mean(&[0.5, -0.25]), 0.125);
        assert_eq!(mean(&[f32::NAN, 0.5]), 0.25);
        assert_eq!(mean(&[f32::INFINITY]), 0.0);
        assert!(mean(&[f32::MAX, f32::MAX]).is_finite());
    }

    fn trimmed(gapless: &Gapless, start: u64, frames: usize) -> usize {
        let mut block = vec![0.0; frames];
        gapless.trim(&mut block, start);
        block.len()
    }

    #[test]
    fn only_the_delay_and_the_padding_that_the_encoder_names_are_removed() {
        let mut track = Track::new(0);
        track.with_delay(100).with_num_frames(1000).with_padding(50);
        let gapless = Gapless::of(&track);
        assert_eq!(trimmed(&gapless, 0, 150), 50);
        assert_eq!(trimmed(&gapless, 1090, 100), 10 + 40);
        assert_eq!(trimmed(&gapless, 5000, 100), 100);
        assert_eq!(trimmed(&Gapless::of(Track::new(0).with_num_frames(1000)), 5000, 100), 100);
    }

    #[test]
    fn only_a_failing_disk_is_worth_another_try() {
        let disk = DecoderError::IoError(std::io::Error::other("input/output error"));
        assert!(read_error(disk).is_some_and(|error| error.is_retryable()));
        assert!(read_error(DecoderError::IoError(ErrorKind::UnexpectedEof.into())).is_none());
        assert!(read_error(DecoderError::DecodeError("bad frame")).is_none());
    }
}
