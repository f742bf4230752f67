//! The six ways a transcript is written: txt, srt, vtt, tsv, json and verbose_json. Every file ends with a newline;
//! the shapes of the two JSON files are in `json`.

use std::str::FromStr;

use super::{Segment, Transcript, json};

/// A transcript file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One segment a line.
    Txt,
    /// SubRip subtitles.
    Srt,
    /// WebVTT subtitles.
    Vtt,
    /// Start and end in milliseconds and text, between tabs, under a header line.
    Tsv,
    /// Text, language, duration and plain segments; times in seconds.
    Json,
    /// OpenAI's `verbose_json`; times in seconds.
    VerboseJson,
}

/// A format that does not exist was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: use {list}", list = Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat(String);

impl Format {
    pub const ALL: [Self; 6] = [Self::Txt, Self::Srt, Self::Vtt, Self::Tsv, Self::Json, Self::VerboseJson];

    /// As users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Txt => "txt",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::VerboseJson => "verbose_json",
        }
    }

    /// Of a file, without the dot; no two are the same, so that all formats of one recording fit in one folder.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::VerboseJson => "verbose.json",
            _ => self.name(),
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

impl Transcript {
    /// The content of a transcript file.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Txt => self.lines(String::new(), |_, _, text| format!("{text}\n")),
            Format::Srt => self.lines(String::new(), srt_cue),
            Format::Vtt => self.lines("WEBVTT\n\n".to_owned(), vtt_cue),
            Format::Tsv => self.lines("start\tend\ttext\n".to_owned(), tsv_row),
            Format::Json => json::plain(self),
            Format::VerboseJson => json::verbose(self),
        }
    }

    /// Appends what `line` makes of each segment that has text: its number from 1, itself and its text on one line.
    fn lines(&self, mut file: String, line: impl Fn(usize, &Segment, &str) -> String) -> String {
        let texts = self.segments.iter().map(|segment| (segment, one_line(&segment.text)));
        for (index, (segment, text)) in texts.filter(|(_, text)| !text.is_empty()).enumerate() {
            file.push_str(&line(index + 1, segment, &text));
        }
        if file.is_empty() {
            file.push('\n');
        }
        file
    }
}

/// Line breaks and tabs would end a cue or a column: any white space becomes one space.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn srt_cue(number: usize, segment: &Segment, text: &str) -> String {
    let (start, end) = (timestamp(segment.start_ms, ','), timestamp(segment.end_ms, ','));
    format!("{number}\n{start} --> {end}\n{}\n\n", without_arrows(text))
}

fn vtt_cue(_: usize, segment: &Segment, text: &str) -> String {
    let (start, end) = (timestamp(segment.start_ms, '.'), timestamp(segment.end_ms, '.'));
    // WebVTT has tags and entities: a player would swallow what looks like one.
    let text = without_arrows(text).replace('&', "&amp;").replace('<', "&lt;");
    format!("{start} --> {end}\n{text}\n\n")
}

fn tsv_row(_: usize, segment: &Segment, text: &str) -> String {
    format!("{}\t{}\t{text}\n", segment.start_ms, segment.end_ms)
}

/// Takes the arrow that separates times out of spoken text, again until none is left: `--->` would leave one.
fn without_arrows(text: &str) -> String {
    let mut text = text.to_owned();
    while text.contains("-->") {
        text = text.replace("-->", "->");
    }
    text
}

/// Hours, minutes, seconds and, after `separator`, milliseconds. Whole milliseconds all the way, so nothing rounds
/// up to 60 seconds.
fn timestamp(ms: i64, separator: char) -> String {
    let ms = ms.max(0);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{separator}{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Segment;

    fn transcript(segments: &[(i64, i64, &str)]) -> Transcript {
        let segment = |&(start_ms, end_ms, text): &(i64, i64, &str)| Segment {
            start_ms,
            end_ms,
            text: text.to_owned(),
            seek_ms: 0,
            tokens: vec![],
            temperature: 0.0,
            avg_logprob: 0.0,
            compression_ratio: 1.0,
            no_speech_prob: 0.0,
            speech_prob: None,
            words: None,
        };
        let segments = segments.iter().map(segment).collect();
        let language = "en".to_owned();
        Transcript { language, language_probability: None, duration_ms: 9000, segments, translated: false }
    }

    fn check(segments: &[(i64, i64, &str)], format: Format, file: &str) {
        assert_eq!(transcript(segments).render(format), file);
    }

    const TWO: [(i64, i64, &str); 2] = [(0, 1500, " Good morning. "), (59_999, 3_600_001, "Drive safely.")];

    #[test]
    fn each_format_has_its_shape() {
        check(&TWO, Format::Txt, "Good morning.\nDrive safely.\n");
        let srt = "1\n00:00:00,000 --> 00:00:01,500\nGood morning.\n\n\
                   2\n00:00:59,999 --> 01:00:00,001\nDrive safely.\n\n";
        check(&TWO, Format::Srt, srt);
        let vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nGood morning.\n\n\
                   00:00:59.999 --> 01:00:00.001\nDrive safely.\n\n";
        check(&TWO, Format::Vtt, vtt);
        check(&TWO, Format::Tsv, "start\tend\ttext\n0\t1500\tGood morning.\n59999\t3600001\tDrive safely.\n");
    }

    #[test]
    fn a_transcript_without_text_is_still_a_valid_file() {
        for segments in [&[][..], &[(0, 1000, " \n ")]] {
            check(segments, Format::Txt, "\n");
            check(segments, Format::Srt, "\n");
            check(segments, Format::Vtt, "WEBVTT\n\n");
            check(segments, Format::Tsv, "start\tend\ttext\n");
        }
    }

    #[test]
    fn spoken_text_cannot_break_out_of_its_cue_or_column() {
        let hostile = [(0, 1000, "a\r\n\n00:01 --> b\t---> <i>&")];
        check(&hostile, Format::Srt, "1\n00:00:00,000 --> 00:00:01,000\na 00:01 -> b -> <i>&\n\n");
        check(&hostile, Format::Vtt, "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na 00:01 -> b -> &lt;i>&amp;\n\n");
        check(&hostile, Format::Tsv, "start\tend\ttext\n0\t1000\ta 00:01 --> b ---> <i>&\n");
    }

    #[test]
    fn hours_are_not_limited_and_times_before_the_start_are_zero() {
        assert_eq!(timestamp(-20, ','), "00:00:00,000");
        assert_eq!(timestamp(100 * 3_600_000 + 59 * 60_000 + 59_999, '.'), "100:59:59.999");
    }

    #[test]
    fn a_format_is_known_by_its_name_and_the_error_lists_them_all() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
        let error = "docx".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "unknown format \"docx\": use txt, srt, vtt, tsv, json, verbose_json");
    }

    #[test]
    fn no_two_formats_write_to_the_same_file() {
        let extensions: std::collections::HashSet<_> = Format::ALL.map(Format::extension).into();
        assert_eq!(extensions.len(), Format::ALL.len());
    }
}
