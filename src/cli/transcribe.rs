//! `whisperq transcribe`: recordings through the queue, in this process, to standard output or into files. It works only
//! on its own jobs, and takes up the ones that an interrupted run of the same command left.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use super::output::Output;
use super::progress::Bars;
use super::{Done, interrupt, report};
use crate::app::{App, Intake, Source};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::{FrontDoor, Job, JobState, Options};
use crate::prepare::file_version;
use crate::queue::{new_id, unix_now_ms};
use crate::shutdown::Shutdown;
use crate::transcript::UnknownFormat;

/// How often the progress is looked at when nothing wakes the display.
const LOOK: Duration = Duration::from_millis(200);

/// Transcribe recordings, several at once.
///
/// Run it again after an interruption: finished chunks are kept.
#[derive(clap::Args)]
#[command(
    after_help = "Example: whisperq transcribe --model tiny.en --format srt --output-dir subtitles talk.mp3 interview.wav"
)]
pub(super) struct Args {
    /// Recordings or films: files, s3://bucket/key, or http(s) addresses
    #[arg(required = true, value_name = "FILE|URL")]
    files: Vec<String>,
    /// Model to use [default: MODEL_NAME]
    #[arg(long)]
    model: Option<String>,
    /// Spoken language, such as en or english; auto finds out [default: auto]
    #[arg(long)]
    language: Option<String>,
    /// txt, srt, vtt, tsv, json or verbose_json
    #[arg(long, default_value = "txt")]
    format: String,
    /// Write one file per recording into this folder instead of standard output
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
    /// Times for every word (in verbose_json)
    #[arg(long)]
    word_timestamps: bool,
    /// Leave out what holds no speech [default: true]
    #[arg(long, value_name = "true|false")]
    vad: Option<bool>,
    /// Write English, whatever is spoken; takes a second pass
    #[arg(long)]
    translate: bool,
    /// Names and style to expect
    #[arg(long)]
    prompt: Option<String>,
    /// First sampling temperature, 0 to 1
    #[arg(long)]
    temperature: Option<f32>,
    /// Added at each retry of a doubtful passage, 0 to 1
    #[arg(long)]
    temperature_inc: Option<f32>,
    /// Beams, 1 to 8 [default: greedy]
    #[arg(long)]
    beam_size: Option<u32>,
    /// Candidates at temperatures above 0, 1 to 8
    #[arg(long)]
    best_of: Option<u32>,
    /// Give each chunk the text before it; chunks then run one after the other
    #[arg(long)]
    condition_on_previous_text: bool,
    /// Above it, and with a low log probability, a passage is silence; 0 to 1
    #[arg(long)]
    no_speech_threshold: Option<f32>,
    /// Mean log probability under which a passage is tried again
    #[arg(long, allow_negative_numbers = true)]
    logprob_threshold: Option<f32>,
    /// Above it a chunk repeats itself and is tried again
    #[arg(long)]
    compression_ratio_threshold: Option<f32>,
}

impl Args {
    fn options(&self) -> Result<Options> {
        let options = Options {
            language: self.language.clone(),
            translate: self.translate,
            prompt: self.prompt.clone(),
            temperature: self.temperature,
            temperature_inc: self.temperature_inc,
            beam_size: self.beam_size,
            best_of: self.best_of,
            word_timestamps: self.word_timestamps,
            vad: self.vad,
            condition_on_previous_text: self.condition_on_previous_text,
            no_speech_threshold: self.no_speech_threshold,
            logprob_threshold: self.logprob_threshold,
            compression_ratio_threshold: self.compression_ratio_threshold,
            ..Options::default()
        };
        options.validate()
    }
}

/// One recording on its way.
struct Item {
    file: String,
    job: Result<String>,
}

pub(super) fn run(args: Args, mut config: Config) -> Result<Done> {
    let output = Output::new(args.format.parse().map_err(unknown_format)?, args.output_dir.clone(), args.files.len())?;
    if args.word_timestamps && !output.has_words() {
        report("warning: --word-timestamps shows in --format verbose_json only");
    }
    let options = args.options()?;
    if let Some(model) = args.model {
        config.model_name = model;
    }
    let shutdown = Shutdown::default();
    interrupt::watch(&shutdown)?;
    let app = App::start(&config, "transcribe", true, &shutdown)?;
    let done = submit(&app, &args.files, &options).and_then(|items| watch(&app, &items, output, &shutdown));
    // The results are out: whatever still runs is for nobody, or to be taken up by the next run.
    app.shut_down(Duration::ZERO)?;
    done
}

/// Submits every file; one that is not there fails alone.
fn submit(app: &App, files: &[String], options: &Options) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for file in files {
        let job = match source(file).and_then(|source| submit_one(app.intake(), source, options)) {
            // What is wrong with one of them.
            Err(error @ Error::InvalidInput { .. }) => Err(error),
            submitted => Ok(submitted?),
        };
        items.push(Item { file: file.clone(), job });
    }
    Ok(items)
}

fn submit_one(intake: &Intake, source: Source, options: &Options) -> Result<String> {
    let mut draft = intake.new_job(new_id(), FrontDoor::Cli, source, options.clone(), None)?;
    draft.job.owner = Some(intake.process_id.clone());
    let submitted = intake.resume_or_submit(draft)?;
    tracing::info!(job = submitted.id, resumed = submitted.resumed, "submitted");
    Ok(submitted.id)
}

/// A file, by its full path, or an address.
fn source(file: &str) -> Result<Source> {
    if file.contains("://") {
        return Source::address(file);
    }
    let path = Path::new(file);
    let full = path.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::invalid("not_found", "there is no such file: check the path"),
        _ => Error::invalid("not_found", format!("cannot read it: {error}")),
    })?;
    let (version, bytes) = file_version(&full)
        .ok_or_else(|| Error::invalid("not_found", "it is not a file: name the recordings one by one"))?;
    let full = full.into_os_string().into_string();
    let name = full.map_err(|_| Error::invalid("not_found", "its path is not UTF-8: rename it"))?;
    Ok(Source { name, version: Some(version), bytes: Some(bytes) })
}

/// Hands out each transcript in the order of the files as soon as it is there.
fn watch(app: &App, items: &[Item], mut output: Output, shutdown: &Shutdown) -> Result<Done> {
    let bars = Bars::new(&items.iter().map(|item| shown(&item.file)).collect::<Vec<_>>());
    let mut done = Done::Well;
    let mut next = 0;
    while next < items.len() {
        let seen = app.intake().queue.wake().seen();
        let outcomes = look(app, items, next, &bars)?;
        for outcome in outcomes.into_iter().map_while(|outcome| outcome) {
            let file = &shown(&items[next].file);
            let written =
                outcome.and_then(|job| output.write(&app.intake().queue, file, &job, &bars).map_err(|e| e.to_string()));
            if let Err(message) = written {
                // What is wrong with an address names it already.
                let message = message.strip_prefix(&format!("{file}: ")).unwrap_or(&message);
                bars.suspend(|| report(&format!("{file}: {message}")));
                done = Done::WithFailures;
            }
            next += 1;
        }
        if next == items.len() {
            break;
        }
        go_on(app, shutdown)?;
        app.intake().queue.wake().wait(seen, LOOK);
    }
    Ok(done)
}

/// How each item from `next` on has ended, or nothing where it has not; updates the bars.
fn look(app: &App, items: &[Item], next: usize, bars: &Bars) -> Result<Vec<Option<Result<Job, String>>>> {
    let mut outcomes = Vec::new();
    for (n, item) in items.iter().enumerate().skip(next) {
        outcomes.push(match &item.job {
            Err(error) => Some(Err(error.to_string())),
            Ok(id) => {
                let (status, progress) = app.intake().queue.progress(id)?;
                bars.show(n, status, progress);
                status.is_terminal().then(|| app.intake().queue.job(id, unix_now_ms())).transpose()?.map(outcome)
            }
        });
    }
    Ok(outcomes)
}

/// What may be shown of an address: its query may be a signature.
fn shown(file: &str) -> String {
    let end = if file.contains("://") && !file.starts_with("s3://") { file.find(['?', '#']) } else { None };
    file[..end.unwrap_or(file.len())].to_owned()
}

/// Whether waiting still makes sense.
fn go_on(app: &App, shutdown: &Shutdown) -> Result<()> {
    if shutdown.is_triggered() {
        return Err(anyhow!("interrupted; run the same command again to go on where it stopped").into());
    }
    if app.is_dead() {
        return Err(anyhow!("no worker could load the model; whisperq models verify checks it").into());
    }
    Ok(())
}

fn unknown_format(error: UnknownFormat) -> Error {
    Error::Config(format!("--format: {error}"))
}

fn outcome(job: Job) -> Result<Job, String> {
    match (&job.error, job.status) {
        (_, JobState::Completed) => Ok(job),
        (Some(error), _) => Err(error.message.clone()),
        (None, status) => Err(format!("the job is {status}")),
    }
}
