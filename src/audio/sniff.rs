//! Tells, from the first bytes of a file, what it is when it can be no recording that we read. It only ever refuses:
//! a file that passes is not thereby WAV or MP3, the decoder decides that.

use crate::error::Error;

/// As much of the head of a file as `refusal` looks at, in bytes: enough for every signature and for a page that
/// starts with a comment.
pub(super) const HEAD_BYTES: usize = 512;

/// Signatures at an offset: recordings and films in containers that this build does not open.
const UNSUPPORTED: [(usize, &[u8], &str); 10] = [
    (0, b"OggS", "an Ogg file"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (4, b"ftyp", "an MP4 or M4A file"),
    (8, b"AIFF", "an AIFF file"),
    (8, b"AIFC", "an AIFF file"),
    (8, b"AVI ", "an AVI film"),
    (0, b"caff", "a Core Audio file"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"\x30\x26\xb2\x75", "a Windows Media file"),
];

/// Signatures at the start: what people send by mistake.
const NOT_AUDIO: [(&[u8], &str); 6] = [
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
];

/// Why a file that starts with these bytes cannot be transcribed; `None` when it may be WAV or MP3.
pub(super) fn refusal(head: &[u8]) -> Option<Error> {
    if head.is_empty() {
        return Some(Error::invalid("empty_file", "the file is empty"));
    }
    if let Some(name) = unsupported(head) {
        let message = format!("the file looks like {name}; WAV and MP3 are supported");
        return Some(Error::invalid("unsupported_format", message));
    }
    let name = NOT_AUDIO.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, name)| name);
    let name = name.or_else(|| text_kind(head))?;
    Some(Error::invalid("not_audio", format!("the file is not audio: it looks like {name}")))
}

/// Whether the file says that it is WAV, the one supported format with a signature.
pub(super) fn is_wav(head: &[u8]) -> bool {
    head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WAVE")
}

fn unsupported(head: &[u8]) -> Option<&'static str> {
    // AAC's frame header has the sync bits of MP3 with the layer bits zero, which MP3 never has.
    if let [0xff, second, ..] = head
        && second & 0xf6 == 0xf0
    {
        return Some("an AAC stream");
    }
    let matches = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    UNSUPPORTED.iter().find(|(offset, magic, _)| matches(*offset, magic)).map(|&(_, _, name)| name)
}

/// Neither WAV nor MP3 has a head that is all printable text: both start with binary numbers or frame headers.
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
        _ => "text",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], code: &str, says: &str) {
        let error = refusal(head).expect("refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn what_is_no_recording_is_named() {
        check(b"", "empty_file", "empty");
        check(b" \n<!DOCTYPE HTML><p>Not found", "not_audio", "HTML");
        check("\u{feff}<html>".as_bytes(), "not_audio", "HTML");
        check(b"<?xml version=\"1.0\"?><Error>", "not_audio", "XML");
        check(b"{\"error\": \"expired\"}", "not_audio", "JSON");
        check("Grüße, dies ist Text".as_bytes(), "not_audio", "text");
        check(&"a cut é".as_bytes()[..7], "not_audio", "text");
        check(b"%PDF-1.7\n\x80\x81", "not_audio", "PDF");
    }

    #[test]
    fn recordings_in_other_containers_are_named() {
        check(b"OggS\0\x02", "unsupported_format", "Ogg");
        check(b"\0\0\0\x20ftypM4A ", "unsupported_format", "M4A");
        check(b"RIFF\x10\0\0\0AVI LIST", "unsupported_format", "AVI");
        check(b"\xff\xf1\x50\x80", "unsupported_format", "AAC");
    }

    #[test]
    fn wav_and_mp3_pass() {
        for head in
            [&b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0"[..], b"ID3\x04\0\0\0\0\0\x21", b"\xff\xfb\x90\x64", b"\xff\xf3\x48"]
        {
            assert!(refusal(head).is_none());
        }
    }
}
