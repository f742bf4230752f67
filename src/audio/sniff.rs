//! Tells, from the first bytes of a file, which kind of recording it may be, or what it is instead. Names, extensions and
//! media types are not looked at. What passes is not thereby a recording: the decoder decides that.

use crate::error::{Error, Result};

/// As much of the head of a file as `identify` looks at, in bytes: enough for every signature and for a page that starts
/// with a comment.
pub(super) const HEAD_BYTES: usize = 512;

const ID3_HEADER_BYTES: u64 = 10;

/// Which reader of ours takes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Wav,
    Mp3,
    Flac,
    Ogg,
    Matroska,
    Mp4,
    Adts,
    Aiff,
    Caf,
    /// None: ffmpeg's business.
    Foreign,
}

/// A kind of recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) container: Container,
    /// With its article, for messages.
    pub(super) name: &'static str,
    /// What ffmpeg may take the file for where our reader gives up; empty where ffmpeg would only guess.
    pub(super) demuxers: &'static str,
}

/// The one kind without a signature: what nothing else is, and looks binary.
const MP3: Kind = kind(Container::Mp3, "an MP3 file", "");
const ADTS: Kind = kind(Container::Adts, "an AAC stream", "aac");

/// Signatures at an offset. None is the beginning of a text.
const SIGNATURES: [(usize, &[u8], Kind); 29] = [
    (8, b"WAVE", kind(Container::Wav, "a WAV file", "wav")),
    (0, b"OggS\0", kind(Container::Ogg, "an Ogg file", "ogg")),
    (0, b"fLaC\0", kind(Container::Flac, "a FLAC file", "flac")),
    (0, b"fLaC\x80", kind(Container::Flac, "a FLAC file", "flac")),
    (0, b"\x1a\x45\xdf\xa3", kind(Container::Matroska, "a Matroska or WebM file", "matroska")),
    (4, b"ftyp", kind(Container::Mp4, "an MP4 or M4A file", "mov")),
    (8, b"AIFF", kind(Container::Aiff, "an AIFF file", "aiff")),
    (8, b"AIFC", kind(Container::Aiff, "an AIFF file", "aiff")),
    (0, b"caff\0\x01", kind(Container::Caf, "a Core Audio file", "caf")),
    (4, b"moov", kind(Container::Foreign, "a QuickTime film", "mov")),
    (4, b"mdat", kind(Container::Foreign, "a QuickTime film", "mov")),
    (4, b"wide", kind(Container::Foreign, "a QuickTime film", "mov")),
    (4, b"free\0", kind(Container::Foreign, "a QuickTime film", "mov")),
    (4, b"skip\0", kind(Container::Foreign, "a QuickTime film", "mov")),
    (8, b"AVI ", kind(Container::Foreign, "an AVI film", "avi")),
    (0, b"#!AMR\n", kind(Container::Foreign, "an AMR file", "amr")),
    (0, b"#!AMR-WB\n", kind(Container::Foreign, "an AMR file", "amr")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", kind(Container::Foreign, "a Windows Media file", "asf")),
    (0, b"\x0b\x77", kind(Container::Foreign, "a Dolby Digital stream", "ac3,eac3")),
    (0, b"\x7f\xfe\x80\x01", kind(Container::Foreign, "a DTS stream", "dts")),
    (0, b".snd\0", kind(Container::Foreign, "a Sun audio file", "au")),
    (0, b"FLV\x01", kind(Container::Foreign, "a Flash film", "flv")),
    (188, b"\x47", kind(Container::Foreign, "an MPEG transport stream", "mpegts")),
    (0, b"\0\0\x01\xba", kind(Container::Foreign, "an MPEG film", "mpeg")),
    (0, b"riff\x2e\x91\xcf\x11", kind(Container::Foreign, "a Wave64 file", "w64")),
    (0, b"wvpk", kind(Container::Foreign, "a WavPack file", "wv")),
    (0, b".RMF\0", kind(Container::Foreign, "a RealMedia file", "rm")),
    (0, b"DSD \x1c", kind(Container::Foreign, "a DSD file", "dsf")),
    (0, b"NIST_1A\n", kind(Container::Foreign, "a NIST SPHERE file", "nistsphere")),
];

const fn kind(container: Container, name: &'static str, demuxers: &'static str) -> Kind {
    Kind { container, name, demuxers }
}

/// Signatures at the start: what people send by mistake.
const NOT_AUDIO: [(&[u8], &str); 6] = [
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
];

/// What a file that starts with these bytes may be.
///
/// # Errors
///
/// `InvalidInput` with `empty_file` or `not_audio` when it cannot be a recording.
pub(super) fn identify(head: &[u8]) -> Result<Kind> {
    if head.is_empty() {
        return Err(Error::invalid("empty_file", "the file is empty"));
    }
    if let Some(kind) = recording(head) {
        return Ok(kind);
    }
    let name = NOT_AUDIO.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, name)| name);
    match name.or_else(|| text_kind(head)) {
        Some(name) => Err(Error::invalid("not_audio", format!("the file is not audio: it looks like {name}"))),
        None => Ok(MP3),
    }
}

/// What follows a tag in front of a recording; only streams of frames have one.
pub(super) fn identify_tagged(head: &[u8]) -> Kind {
    let streams = [Container::Adts, Container::Flac];
    recording(head).filter(|kind| streams.contains(&kind.container)).unwrap_or(MP3)
}

/// How many bytes an ID3 tag at the start takes, if there is one.
pub(super) fn tag_bytes(head: &[u8]) -> Option<u64> {
    let [b'I', b'D', b'3', _, _, _, size @ ..] = head.first_chunk::<10>()? else { return None };
    let size = size.iter().fold(0, |size, &byte| (size << 7) | u64::from(byte & 0x7f));
    Some(ID3_HEADER_BYTES + size)
}

fn recording(head: &[u8]) -> Option<Kind> {
    // AAC's frame header has the sync bits of MP3 with the layer bits zero, which MP3 never has.
    if let [0xff, second, ..] = head
        && second & 0xf6 == 0xf0
    {
        return Some(ADTS);
    }
    let matches = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let kind = SIGNATURES.iter().find(|(offset, magic, _)| matches(*offset, magic)).map(|&(_, _, kind)| kind)?;
    let outer: &[&[u8]] = match kind.demuxers {
        "wav" => &[b"RIFF", b"RF64", b"BW64"],
        "avi" => &[b"RIFF"],
        "aiff" => &[b"FORM"],
        "mpegts" => &[b"\x47"],
        _ => &[b""],
    };
    outer.iter().any(|outer| head.starts_with(outer)).then_some(kind)
}

/// No recording without a signature has a head that is all printable text: it starts with frame headers.
fn text_kind(head: &[u8]) -> Option<&'static str> {
    let mut chunks = head.utf8_chunks();
    // One broken character at the very end was cut in two by the limit of the head; elsewhere it is no text.
    let text = chunks.next().map(|chunk| chunk.valid()).filter(|text| !text.is_empty())?;
    if chunks.next().is_some() {
        return None;
    }
    let printable = |c: char| !c.is_control() || c.is_whitespace();
    if !text.chars().all(printable) {
        return None;
    }
    let start = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    Some(match start.as_str() {
        html if html.starts_with("<!doctype html") || html.starts_with("<html") => "HTML",
        xml if xml.starts_with("<?xml") => "XML, perhaps an error page of a storage service",
        json if json.starts_with(['{', '[']) => "JSON",
        list if list.starts_with("#extm3u") || list.starts_with("ffconcat") => "a playlist, which names recordings",
        _ => "text",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(head: &[u8], code: &str, says: &str) {
        let error = identify(head).expect_err("refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    fn check(head: &[u8], container: Container) {
        assert_eq!(identify(head).map(|kind| kind.container).ok(), Some(container), "{head:?}");
    }

    #[test]
    fn what_is_no_recording_is_named() {
        check_refused(b"", "empty_file", "empty");
        check_refused(b" \n<!DOCTYPE HTML><p>Not found", "not_audio", "HTML");
        check_refused("\u{feff}<html>".as_bytes(), "not_audio", "HTML");
        check_refused(b"<?xml version=\"1.0\"?><Error>", "not_audio", "XML");
        check_refused(b"{\"error\": \"expired\"}", "not_audio", "JSON");
        check_refused("Grüße, dies ist Text".as_bytes(), "not_audio", "text");
        check_refused(&"a cut é".as_bytes()[..7], "not_audio", "text");
        check_refused(b"%PDF-1.7\n\x80\x81", "not_audio", "PDF");
        check_refused(b"#EXTM3U\n#EXT-X-VERSION:3\n", "not_audio", "playlist");
        check_refused(b"ffconcat version 1.0\nfile '/etc/passwd'\n", "not_audio", "playlist");
    }

    #[test]
    fn words_that_begin_like_a_signature_are_text() {
        for text in ["caffeine is bad for you", "a moovie", "RIFF RAFF WAVED", "OggSy", "Glad tidings"] {
            check_refused(text.as_bytes(), "not_audio", "text");
        }
    }

    #[test]
    fn recordings_are_told_by_their_first_bytes() {
        check(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", Container::Wav);
        check(b"OggS\0\x02", Container::Ogg);
        check(b"\0\0\0\x20ftypM4A ", Container::Mp4);
        check(b"FORM\0\0\0\x10AIFC", Container::Aiff);
        check(b"RIFF\x10\0\0\0AVI LIST", Container::Foreign);
        check(b"\xff\xf1\x50\x80", Container::Adts);
        check(b"\xff\xfb\x90\x64", Container::Mp3);
        check(b"\xff\xf3\x48", Container::Mp3);
        check(b"ID3\x04\0\0\0\0\0\x21", Container::Mp3);
    }

    #[test]
    fn the_length_of_a_tag_is_read_from_seven_bits_of_each_byte() {
        assert_eq!(tag_bytes(b"ID3\x04\0\0\0\0\x01\x21rest"), Some(10 + 128 + 33));
        assert_eq!(tag_bytes(b"ID3\x04\0\0\0\0"), None);
        assert_eq!(tag_bytes(b"RIFF\x04\0\0\0WAVEfmt "), None);
        assert_eq!(identify_tagged(b"\xff\xf1\x50\x80").container, Container::Adts);
        assert_eq!(identify_tagged(b"RIFF\x24\0\0\0WAVE").container, Container::Mp3);
    }
}
