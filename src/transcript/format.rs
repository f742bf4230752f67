//! The six ways a transcript is written: txt, srt, vtt, tsv, json and verbose_json.

/// A transcript file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Txt,
}
