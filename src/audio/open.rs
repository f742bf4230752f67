//! Opens a recording: which reader takes the file, which of its tracks is heard, and where that lies in time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::Context;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_OPUS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::formats::probe::Probe;
use symphonia::core::formats::{FormatReader, Track, TrackFlags};
use symphonia::core::io::MediaSourceStream;
use symphonia::default::formats::{
    AdtsReader, AiffReader, CafReader, FlacReader, IsoMp4Reader, MkvReader, MpaReader, OggReader, WavReader,
};
use symphonia::default::meta::Id3v2Reader;
use symphonia_adapter_libopus::OpusDecoder;

use super::decode::{Failure, guarded, read_error};
use super::mp4::{self, Starts};
use super::sniff::{self, Container, Kind};
use super::timeline::Timeline;
use crate::error::{Error, Result};

/// Below, speech is not intelligible; above, no recorder works. The bounds keep the resampler's buffers small.
const SAMPLE_RATES: RangeInclusive<u32> = 4_000..=384_000;

/// An AAC encoder works on overlapping frames, so that its first is never part of the recording; where nobody says how
/// many frames it put in front, it is at least these.
const AAC_DELAY: u32 = 1024;

/// The rate that Opus is decoded at, whatever the container says.
const OPUS_RATE: u32 = 48_000;
/// Where in Opus' header the frames are counted that the encoder put in front.
const OPUS_DELAY_AT: usize = 10;

/// A header that gives a length from here on, in bytes, was written before the length was known.
const UNKNOWN_BYTES: u64 = 0x7fff_0000;

/// What a file is found to hold.
pub(super) struct Opened {
    pub(super) kind: Kind,
    pub(super) format: Box<dyn FormatReader>,
    pub(super) decoder: Box<dyn AudioDecoder>,
    pub(super) track: Track,
    pub(super) sample_rate: u32,
    /// `None` where the first packets tell.
    pub(super) timeline: Option<Timeline>,
    /// Frames that the encoder put in front, where the container may not say so.
    pub(super) unsaid_delay: u32,
    /// Frames that a trustworthy header promises.
    pub(super) promised_frames: Option<u64>,
    pub(super) warnings: Vec<String>,
}

/// Opens the file at `path` for decoding.
pub(super) fn open(path: &Path) -> Result<Opened, Failure> {
    let mut file = open_regular(path)?;
    let kind = identify(&mut file).context("Failed to read the audio file").map_err(Error::Internal)??;
    let starts = match kind.container {
        Container::Foreign => return Err(Failure::Foreign(kind)),
        Container::Mp4 => mp4::starts(&mut file).context("Failed to read the audio file").map_err(Error::Internal)?,
        _ => Starts::default(),
    };
    file.rewind().context("Failed to read the audio file").map_err(Error::Internal)?;
    guarded(|| probe(file, kind, &starts))?
}

/// A pipe or a device may never end, and opening one may never return.
fn open_regular(path: &Path) -> Result<File> {
    let metadata = path.metadata().context("Failed to open the audio file")?;
    if !metadata.is_file() {
        let message = format!("{} is not a regular file: give the path of a recording", path.display());
        return Err(Error::invalid("not_audio", message));
    }
    Ok(File::open(path).context("Failed to open the audio file")?)
}

fn identify(file: &mut File) -> std::io::Result<Result<Kind>> {
    let head = head(file)?;
    let Some(tag_bytes) = sniff::tag_bytes(&head) else { return Ok(sniff::identify(&head)) };
    file.seek(SeekFrom::Start(tag_bytes))?;
    Ok(Ok(sniff::identify_tagged(&self::head(file)?)))
}

fn head(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(sniff::HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn probe(file: File, kind: Kind, starts: &Starts) -> Result<Opened, Failure> {
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let format = reader(kind.container)
        .probe(&Default::default(), stream, Default::default(), Default::default())
        .map_err(|error| read_error(error).map_or(Failure::Foreign(kind), Failure::Here))?;
    let (track, params, decoder) = choose_track(&*format, kind)?;
    let sample_rate = supported_rate(&params)?;
    let start = starts.tracks.iter().find(|start| start.track_id == track.id);
    let mut warnings = Vec::new();
    if start.is_some_and(|start| start.pieces > 1) {
        warnings.push("edited: the file shows only pieces of its audio; all of it was read".to_owned());
    }
    Ok(Opened {
        kind,
        timeline: timeline(kind.container, &track, sample_rate, starts),
        unsaid_delay: unsaid_delay(&track, starts),
        promised_frames: match kind.container {
            Container::Matroska => frames_of_file(&*format, sample_rate),
            container => promised_frames(container, &track, &params),
        },
        format,
        decoder,
        track,
        sample_rate,
        warnings,
    })
}

/// Knows one container only: what a file is has been decided, and is not searched for in its depths.
fn reader(container: Container) -> Probe {
    let mut probe = Probe::new();
    probe.register_metadata::<Id3v2Reader<'_>>();
    match container {
        Container::Wav => probe.register_format::<WavReader<'_>>(),
        Container::Mp3 | Container::Foreign => probe.register_format::<MpaReader<'_>>(),
        Container::Flac => probe.register_format::<FlacReader<'_>>(),
        Container::Ogg => probe.register_format::<OggReader<'_>>(),
        Container::Matroska => probe.register_format::<MkvReader<'_>>(),
        Container::Mp4 => probe.register_format::<IsoMp4Reader<'_>>(),
        Container::Adts => probe.register_format::<AdtsReader<'_>>(),
        Container::Aiff => probe.register_format::<AiffReader<'_>>(),
        Container::Caf => probe.register_format::<CafReader<'_>>(),
    }
    probe
}

fn codecs() -> CodecRegistry {
    let mut registry = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut registry);
    registry.register_audio_decoder::<OpusDecoder>();
    registry
}

type Chosen = (Track, AudioCodecParameters, Box<dyn AudioDecoder>);

/// The track that a player would play: the default one, otherwise the first; one that can be decoded.
fn choose_track(format: &dyn FormatReader, kind: Kind) -> Result<Chosen, Failure> {
    // Its own trimming would cut off whatever lies behind the length that an MP3's header claims or, without one, that
    // it estimates: most of a file that was joined from several, the end of one with a variable bit rate.
    let options = AudioDecoderOptions::default().gapless(kind.container != Container::Mp3);
    let registry = codecs();
    let mut tracks: Vec<&Track> = format.tracks().iter().collect();
    tracks.sort_by_key(|track| !track.flags.contains(TrackFlags::DEFAULT));
    for track in &tracks {
        let Some(CodecParameters::Audio(params)) = &track.codec_params else { continue };
        let params = corrected(params);
        if let Ok(decoder) = registry.make_audio_decoder(&params, &options) {
            let params = decoder.codec_params().clone();
            return Ok(((*track).clone(), params, decoder));
        }
    }
    // A track of an unknown codec may be audio.
    let none = tracks.iter().all(|track| !matches!(track.codec_params, None | Some(CodecParameters::Audio(_))));
    if none {
        return Err(Error::invalid("no_audio_track", "the file has no audio track").into());
    }
    Err(Failure::Foreign(kind))
}

/// Opus decodes at one rate, but containers may give the rate of what was encoded. The decoder would also cut off the
/// delay that it finds in the header, which the timeline does.
fn corrected(params: &AudioCodecParameters) -> AudioCodecParameters {
    let mut params = params.clone();
    if params.codec == CODEC_ID_OPUS {
        params.with_sample_rate(OPUS_RATE);
        params.extra_data = None;
    }
    params
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

fn timeline(container: Container, track: &Track, sample_rate: u32, starts: &Starts) -> Option<Timeline> {
    let unsaid = unsaid_delay(track, starts);
    match container {
        Container::Matroska => None,
        Container::Mp4 => {
            let time_base = track.time_base?;
            let start = starts.tracks.iter().find(|start| start.track_id == track.id && start.is_edited);
            let zero = start.map_or(-i64::from(unsaid), |start| {
                let late = (start.empty_ms / 1000).saturating_mul(sample_rate.into());
                let late = late.saturating_add(start.empty_ms % 1000 * u64::from(sample_rate) / 1000);
                let shown = super::timeline::frames_at(time_base, sample_rate, start.media_time);
                i64::try_from(late).unwrap_or(i64::MAX).saturating_sub(shown)
            });
            Some(Timeline::stamped(time_base, sample_rate, zero))
        }
        Container::Mp3 => Some(Timeline::counted(track.delay.unwrap_or(0))),
        // The reader has the decoder drop what Vorbis puts in front, not what Opus does.
        Container::Ogg => Some(Timeline::counted(unsaid)),
        Container::Caf => Some(Timeline::counted(track.delay.unwrap_or(unsaid))),
        _ => Some(Timeline::counted(unsaid)),
    }
}

fn unsaid_delay(track: &Track, starts: &Starts) -> u32 {
    let Some(params) = track.codec_params.as_ref().and_then(|params| params.audio()) else { return 0 };
    match params.codec {
        CODEC_ID_OPUS => opus_delay(params),
        CODEC_ID_AAC => starts.itunes_delay.unwrap_or(AAC_DELAY),
        _ => 0,
    }
}

fn opus_delay(params: &AudioCodecParameters) -> u32 {
    let header = params.extra_data.as_deref().unwrap_or_default();
    let delay = header.get(OPUS_DELAY_AT..OPUS_DELAY_AT + 2).unwrap_or_default();
    // In an MP4 the same header has its numbers the other way round.
    match (delay, header.get(8)) {
        (&[high, low], Some(0)) => u16::from_be_bytes([high, low]).into(),
        (&[low, high], _) => u16::from_le_bytes([low, high]).into(),
        _ => 0,
    }
}

/// A Matroska file gives only the length of its longest track, which is the audio's where there is no other.
fn frames_of_file(format: &dyn FormatReader, sample_rate: u32) -> Option<u64> {
    let (info, alone) = (format.media_info(), format.tracks().len() == 1);
    let duration = info.duration.filter(|_| alone)?.get().cast_signed();
    Some(super::timeline::frames_at(info.time_base?, sample_rate, duration).max(0).cast_unsigned())
}

/// What a header says before the audio may be a guess or a hope, depending on the container.
fn promised_frames(container: Container, track: &Track, params: &AudioCodecParameters) -> Option<u64> {
    let frames = track.num_frames?;
    match container {
        Container::Wav => {
            let channels = params.channels.as_ref().map_or(1, |channels| channels.count()) as u64;
            let frame_bytes = channels * u64::from(params.bits_per_sample.unwrap_or(8)).div_ceil(8);
            (frames.saturating_mul(frame_bytes) < UNKNOWN_BYTES).then_some(frames)
        }
        Container::Mp3 => track.delay.map(|_| frames),
        Container::Flac | Container::Aiff | Container::Mp4 => Some(frames),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_of_opus_is_read_in_both_byte_orders() {
        let with_header = |header: &[u8]| {
            let mut params = AudioCodecParameters::new();
            params.for_codec(CODEC_ID_OPUS).with_extra_data(header.into());
            opus_delay(&params)
        };
        assert_eq!(with_header(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"), 312);
        assert_eq!(with_header(b"OpusHead\0\x02\x01\x38\0\0\xbb\x80\0\0\0"), 312);
        assert_eq!(with_header(b"OpusHead"), 0);
    }

    #[test]
    fn a_length_written_before_it_was_known_promises_nothing() {
        let mut params = AudioCodecParameters::new();
        params.with_bits_per_sample(16);
        let promised = |frames| promised_frames(Container::Wav, Track::new(0).with_num_frames(frames), &params);
        assert_eq!(promised(16_000), Some(16_000));
        assert_eq!(promised(0xffff_ffff / 2), None);
        assert_eq!(promised(0x7fff_ffff / 2), None);
    }
}
