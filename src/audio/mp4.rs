//! What an MP4 file says about the time at which its tracks start, which symphonia reads over: edit lists, and iTunes'
//! note of the encoder's delay. Only this is read, from the few boxes that hold it.

use std::io::{Read, Result, Seek, SeekFrom};
use std::ops::Range;

/// More boxes side by side than any recorder writes before its `moov`.
const MAX_BOXES: usize = 4096;
/// Edits and notes that matter come first and are short.
const MAX_BOX_BYTES: u64 = 4096;

/// When a track starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) track_id: u32,
    /// Whether the track has an edit list, so that the two below are known.
    pub(super) is_edited: bool,
    /// Silence before the track, in milliseconds.
    pub(super) empty_ms: u64,
    /// The first time stamp of the track that is shown.
    pub(super) media_time: i64,
    /// How many pieces of the track are shown.
    pub(super) pieces: usize,
}

/// What a file says of its tracks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Starts {
    pub(super) tracks: Vec<Start>,
    /// The frames that the encoder put in front, as iTunes writes it.
    pub(super) itunes_delay: Option<u32>,
}

/// Reads the starts of all tracks; what is malformed is left out, the decoder will say so.
///
/// # Errors
///
/// Those of reading.
pub(super) fn starts(file: &mut (impl Read + Seek)) -> Result<Starts> {
    let end = file.seek(SeekFrom::End(0))?;
    let Some(movie) = child(file, 0..end, b"moov")? else { return Ok(Starts::default()) };
    let header = match child(file, movie.clone(), b"mvhd")? {
        Some(header) => bytes(file, header)?,
        None => Vec::new(),
    };
    let timescale = number(&header, if header.first() == Some(&1) { 20 } else { 12 }, 4).unwrap_or(0);
    let mut tracks = Vec::new();
    for (name, body) in boxes(file, movie.clone())? {
        if &name == b"trak"
            && let Some(start) = track_start(file, body, timescale)?
        {
            tracks.push(start);
        }
    }
    Ok(Starts { tracks, itunes_delay: itunes_delay(file, movie)? })
}

fn track_start(file: &mut (impl Read + Seek), track: Range<u64>, timescale: u64) -> Result<Option<Start>> {
    let Some(header) = child(file, track.clone(), b"tkhd")? else { return Ok(None) };
    let header = bytes(file, header)?;
    let Some(track_id) = number(&header, if header.first() == Some(&1) { 20 } else { 12 }, 4) else { return Ok(None) };
    let mut start = Start { track_id: track_id as u32, is_edited: false, empty_ms: 0, media_time: 0, pieces: 0 };
    let list = match child(file, track, b"edts")? {
        Some(edits) => child(file, edits, b"elst")?,
        None => None,
    };
    if let Some(list) = list {
        read_edits(&bytes(file, list)?, timescale, &mut start);
    }
    Ok(Some(start))
}

fn read_edits(list: &[u8], timescale: u64, start: &mut Start) {
    let wide = list.first() == Some(&1);
    let size = if wide { 8 } else { 4 };
    let stated = number(list, 4, 4).unwrap_or(0);
    for edit in list.get(8..).unwrap_or_default().chunks_exact(2 * size + 4).take(stated as usize) {
        let (Some(duration), Some(time)) = (number(edit, 0, size), number(edit, size, size)) else { return };
        let time = if wide { time.cast_signed() } else { i64::from((time as u32).cast_signed()) };
        if time >= 0 && start.pieces == 0 {
            start.media_time = time;
        }
        if time >= 0 {
            start.pieces += 1;
        } else if start.pieces == 0 && timescale > 0 {
            start.empty_ms = start.empty_ms.saturating_add(duration.saturating_mul(1000) / timescale);
        }
    }
    start.is_edited = start.pieces > 0;
}

/// In `moov/udta/meta/ilst` there may be a note ` 00000000 00000840 000001CA …`: the second number is the delay.
fn itunes_delay(file: &mut (impl Read + Seek), movie: Range<u64>) -> Result<Option<u32>> {
    let Some(user_data) = child(file, movie, b"udta")? else { return Ok(None) };
    let Some(meta) = child(file, user_data, b"meta")? else { return Ok(None) };
    // Version and flags come before the boxes inside.
    let Some(list) = child(file, (meta.start + 4).min(meta.end)..meta.end, b"ilst")? else { return Ok(None) };
    for (name, body) in boxes(file, list)? {
        if &name != b"----" {
            continue;
        }
        let note = bytes(file, body)?;
        let note = String::from_utf8_lossy(&note);
        if let Some((_, numbers)) = note.split_once("iTunSMPB") {
            let mut numbers = numbers.split_whitespace().skip_while(|word| *word != "00000000").skip(1);
            return Ok(numbers.next().and_then(|delay| u32::from_str_radix(delay, 16).ok()));
        }
    }
    Ok(None)
}

/// The boxes side by side in a part of the file, each with its name and where its content lies.
fn boxes(file: &mut (impl Read + Seek), mut within: Range<u64>) -> Result<Vec<([u8; 4], Range<u64>)>> {
    let mut found = Vec::new();
    while found.len() < MAX_BOXES && within.end.saturating_sub(within.start) >= 8 {
        file.seek(SeekFrom::Start(within.start))?;
        let mut head = [0; 16];
        let there = (within.end - within.start).min(16) as usize;
        file.read_exact(&mut head[..there])?;
        let [size, name] = [&head[..4], &head[4..8]].map(|part| <[u8; 4]>::try_from(part).unwrap_or_default());
        let (size, header) = match u32::from_be_bytes(size) {
            0 => (within.end - within.start, 8),
            1 => (number(&head[..there], 8, 8).unwrap_or(0), 16),
            size => (u64::from(size), 8),
        };
        let end = within.start.saturating_add(size);
        if size < header || end > within.end {
            break;
        }
        found.push((name, within.start + header..end));
        within.start = end;
    }
    Ok(found)
}

fn child(file: &mut (impl Read + Seek), within: Range<u64>, name: &[u8; 4]) -> Result<Option<Range<u64>>> {
    Ok(boxes(file, within)?.into_iter().find(|(found, _)| found == name).map(|(_, body)| body))
}

/// The first bytes of a box's content.
fn bytes(file: &mut (impl Read + Seek), body: Range<u64>) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(body.start))?;
    let mut bytes = Vec::new();
    file.take((body.end - body.start).min(MAX_BOX_BYTES)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A big-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    Some(bytes.get(at..at + size)?.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn boxed(name: &[u8; 4], content: &[&[u8]]) -> Vec<u8> {
        let content = content.concat();
        [&(content.len() as u32 + 8).to_be_bytes()[..], name, &content].concat()
    }

    fn words(words: &[i32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// A file with one track, number 7, in milliseconds.
    fn film(edits: &[&[i32]]) -> Vec<u8> {
        let entries: Vec<u8> = edits.iter().flat_map(|edit| words(edit)).collect();
        let list = boxed(b"elst", &[&words(&[0, edits.len() as i32]), &entries]);
        let track = boxed(b"trak", &[&boxed(b"tkhd", &[&words(&[0, 0, 0, 7])]), &boxed(b"edts", &[&list])]);
        let movie = boxed(b"moov", &[&boxed(b"mvhd", &[&words(&[0, 0, 0, 1000])]), &track]);
        [boxed(b"ftyp", &[b"isom"]), boxed(b"mdat", &[&[0; 100]]), movie].concat()
    }

    fn read(file: Vec<u8>) -> Starts {
        starts(&mut Cursor::new(file)).expect("reads")
    }

    #[test]
    fn empty_edits_and_the_first_shown_time_are_read() {
        let starts = read(film(&[&[1500, -1, 1 << 16], &[3100, 1024, 1 << 16], &[100, 9000, 1 << 16]]));
        let start = Start { track_id: 7, is_edited: true, empty_ms: 1500, media_time: 1024, pieces: 2 };
        assert_eq!(starts.tracks, [start]);
    }

    #[test]
    fn the_delay_that_itunes_notes_is_read() {
        let note =
            boxed(b"----", &[b"\0\0\0\x10name\0\0\0\0iTunSMPB\0\0\0\0data\0\0\0\x01 00000000 00000840 000001CA 0"]);
        let meta = boxed(b"meta", &[&[0; 4], &boxed(b"ilst", &[&note])]);
        let starts = read(boxed(b"moov", &[&boxed(b"udta", &[&meta])]));
        assert_eq!(starts.itunes_delay, Some(2112));
    }

    #[test]
    fn nothing_malformed_is_believed_or_fatal() {
        let mut random = fastrand::Rng::with_seed(3);
        let intact = film(&[&[1500, -1, 1 << 16], &[3100, 1024, 1 << 16]]);
        for _ in 0..5000 {
            let mut file = intact.clone();
            file.truncate(random.usize(..=file.len()));
            for _ in 0..random.usize(..6) {
                let at = random.usize(..intact.len());
                if let Some(byte) = file.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
            read(file);
        }
    }
}
