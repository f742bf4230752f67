//! What the tests share: the fixtures, the real model, the real binary on a data folder of its own, and the word error
//! rate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use whisperq::audio::{self, Limits, SAMPLE_RATE};
use whisperq::config::Config;
use whisperq::models::{self, ModelFile};

pub(crate) const MODEL: &str = "tiny.en";
const PROGRAM: &str = env!("CARGO_BIN_EXE_whisperq");

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The real tiny.en, where `make model` puts it.
pub(crate) fn model() -> ModelFile {
    models::find(&model_dir(), MODEL).unwrap_or_else(|error| panic!("{error}; or run `make model`"))
}

pub(crate) fn model_dir() -> PathBuf {
    Config::from_env().unwrap().model_dir
}

/// Where the Makefile keeps tools, by the rule that stands there.
pub(crate) fn tools_dir() -> PathBuf {
    let variables: HashMap<String, String> = std::env::vars().filter(|(_, value)| !value.is_empty()).collect();
    if let Some(folder) = variables.get("TOOLS_DIR") {
        return folder.into();
    }
    let cache = variables.get("XDG_CACHE_HOME").map(PathBuf::from);
    cache.unwrap_or_else(|| Path::new(&variables["HOME"]).join(".cache")).join("whisperq/tools")
}

/// A recording as 16 kHz samples.
pub(crate) fn samples(path: &Path) -> Vec<f32> {
    let mut samples = Vec::new();
    let limits = Limits { max_audio_ms: u64::MAX };
    audio::decode(path, &limits, &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    samples
}

/// Writes 16 kHz mono samples as a WAV file of 16 bits.
pub(crate) fn write_wav(path: &Path, samples: &[f32]) {
    let data_bytes = (samples.len() * 2) as u32;
    let mut wav = Vec::with_capacity(44 + samples.len() * 2);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + data_bytes).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16_u32.to_le_bytes());
    wav.extend_from_slice(&1_u16.to_le_bytes());
    wav.extend_from_slice(&1_u16.to_le_bytes());
    wav.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    wav.extend_from_slice(&(SAMPLE_RATE * 2).to_le_bytes());
    wav.extend_from_slice(&2_u16.to_le_bytes());
    wav.extend_from_slice(&16_u16.to_le_bytes());
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&data_bytes.to_le_bytes());
    wav.extend(samples.iter().flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes()));
    std::fs::write(path, wav).unwrap();
}

/// The sample recording, over and over with a pause between, until it is `seconds` long: several chunks of real speech.
pub(crate) fn long_recording(path: &Path, seconds: usize) {
    let once = samples(&fixture("sample.mp3"));
    let pause = vec![0.0; SAMPLE_RATE as usize / 2];
    let wanted = seconds * SAMPLE_RATE as usize;
    let mut all = Vec::with_capacity(wanted + once.len());
    while all.len() < wanted {
        all.extend_from_slice(&once);
        all.extend_from_slice(&pause);
    }
    write_wav(path, &all);
}

/// A data folder of its own, and the binary run on it.
pub(crate) struct Whisperq {
    folder: tempfile::TempDir,
}

impl Whisperq {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Where a test may put its own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, with nothing of the surrounding environment but the path and the home folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let inherited = std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME");
        command.env_clear().envs(inherited).args(args);
        command.env("DATA_DIR", self.path("data")).env("MODEL_NAME", MODEL).env("MODEL_DIR", model_dir());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn output(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} exited with {}: {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The rows of a question, each as the values of its columns.
    pub(crate) fn sql(&self, sql: &str) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.output(&["sql", sql, "--format", "json"])).unwrap()
    }
}

/// Wrong, missing and surplus words of `heard` over the words of `spoken`; case and punctuation do not count.
pub(crate) fn word_error_rate(spoken: &str, heard: &str) -> f64 {
    let (spoken, heard) = (words(spoken), words(heard));
    let mut distances: Vec<usize> = (0..=heard.len()).collect();
    for (row, spoken_word) in spoken.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut distances[0], row + 1);
        for (column, heard_word) in heard.iter().enumerate() {
            let substituted = diagonal + usize::from(spoken_word != heard_word);
            diagonal = distances[column + 1];
            distances[column + 1] = substituted.min(diagonal + 1).min(distances[column] + 1);
        }
    }
    distances[heard.len()] as f64 / spoken.len() as f64
}

fn words(text: &str) -> Vec<String> {
    let plain = |c: char| if c.is_alphanumeric() || c.is_whitespace() { Some(c) } else { (c == '-').then_some(' ') };
    let text: String = text.to_lowercase().chars().filter_map(plain).collect();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_word_error_rate_counts_wrong_missing_and_surplus_words() {
    assert_eq!(word_error_rate("one two, three four", "One two three four!"), 0.0);
    assert_eq!(word_error_rate("one two three four", "one too four"), 0.5);
    assert_eq!(word_error_rate("one two", "one two two two"), 1.0);
}
