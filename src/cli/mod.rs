//! The command line: what can be typed, and which command it goes to. Only this front door prints.

mod backup;
mod decode;
mod interrupt;
mod jobs;
mod lambda;
mod load;
mod models;
mod output;
mod progress;
mod runpod;
mod runpod_log;
mod serve;
mod sql;
mod table;
mod transcribe;
mod upload;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::{self, Config, LogFormat, Secret};
use crate::error::{Error, Result};
use crate::supervise::start_over_with;

/// Exit codes, part of the contract.
const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
/// What is logged when RUST_LOG says nothing: a command speaks through its output, not through its log.
const DEFAULT_LOG: &str = "whisperq=warn";
/// A service has nothing but its log.
const SERVICE_LOG: &str = "whisperq=info";
/// At their most detailed these crates log what they sign, session tokens in it, so RUST_LOG cannot ask them for that.
const TALKATIVE: &str = "aws_";
/// How often a thread of the engine looks whether its neighbours are done before it sleeps. By itself libgomp looks for
/// milliseconds, in which it keeps a neighbour from the core that it waits for: four programs on two cores took ten times as long.
const SPIN_COUNT: (&str, &str) = ("GOMP_SPINCOUNT", "1000");
/// The other variable that decides the same.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

/// Whisper transcription through a queue that loses nothing.
#[derive(Parser)]
#[command(
    name = "whisperq",
    version,
    after_help = "Example: whisperq transcribe --model tiny.en talk.mp3\n\nWithout a command: lambda where AWS_LAMBDA_RUNTIME_API is set, runpod where RUNPOD_WEBHOOK_GET_JOB is, otherwise serve. Settings come from the environment; the README lists them."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Lambda(lambda::Args),
    Runpod(runpod::Args),
    Transcribe(transcribe::Args),
    Upload(upload::Args),
    Load(load::Args),
    Jobs(jobs::Args),
    Models(models::Args),
    Sql(sql::Args),
    System(sql::SystemArgs),
    Backup(backup::Args),
    #[command(hide = true)]
    Decode(decode::Args),
}

/// How a command that ran to its end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Well,
    /// Something failed and has been reported on standard error already.
    WithFailures,
    /// As the process ended that did the work.
    WithCode(u8),
}

/// Runs the command that was typed and says with which code to exit. Errors are one line that says what to do.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command.map_or_else(dispatch_usual, dispatch) {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::WithCode(code)) => ExitCode::from(code),
        Ok(Done::WithFailures) => ExitCode::from(FAILED),
        Err(error) => {
            report(&error.to_string());
            ExitCode::from(if matches!(error, Error::Config(_)) { BAD_USAGE } else { FAILED })
        }
    }
}

/// Without a command: where Lambda or RunPod hand out work, take it, else serve.
fn dispatch_usual() -> Result<Done> {
    let config = start_service()?;
    if config.lambda.runtime_api.is_some() {
        return lambda::run(&lambda::Args {}, &config);
    }
    if config.runpod.get_job.is_some() {
        return runpod::run(&runpod::Args::default(), &config);
    }
    serve::run(&serve::Args::default(), &config)
}

fn dispatch(command: Command) -> Result<Done> {
    match command {
        Command::Transcribe(args) => {
            bound_spinning();
            transcribe::run(args, start()?)
        }
        Command::Serve(args) => serve::run(&args, &start_service()?),
        Command::Lambda(args) => lambda::run(&args, &start_service()?),
        Command::Runpod(args) => runpod::run(&args, &start_service()?),
        Command::Upload(args) => upload::run(&args, &start()?),
        Command::Load(args) => load::run(&args, &start()?),
        Command::Jobs(args) => jobs::run(args, &start()?),
        Command::Models(args) => models::run(args, &start()?),
        Command::Sql(args) => sql::run(&args, &start()?),
        Command::System(args) => sql::run_system(&args, &start()?),
        Command::Backup(args) => backup::run(&args, &start()?),
        // A child that has no environment to take settings from, and writes its verdict in place of a log.
        Command::Decode(args) => decode::run(&args),
    }
}

/// What every command begins with.
fn start() -> Result<Config> {
    let config = Config::from_env()?;
    start_logging(&config, DEFAULT_LOG)?;
    Ok(config)
}

fn start_service() -> Result<Config> {
    bound_spinning();
    let config = Config::from_env()?;
    start_logging(&config, SERVICE_LOG)?;
    Ok(config)
}

/// Before anything else: it begins the program anew, since libgomp reads its variables before `main`.
fn bound_spinning() {
    let (name, value) = SPIN_COUNT;
    if cfg!(all(target_os = "linux", target_env = "gnu")) && !config::has_any(&[name, WAIT_POLICY]) {
        let error = start_over_with(name, value);
        // Only the engine is slower for it, and only beside others; and a closed pipe now ends the program, as after every exec.
        report(&format!("warning: cannot restart with {name}={value}: {error}"));
    }
}

/// The key for a server that is asked without `--api-key`: where it runs on this machine, it reads the same setting.
fn usual_key(config: &Config) -> Option<&str> {
    config.api_keys.first().map(Secret::reveal)
}

/// Help and version are answers; a typing error is one line.
fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nobody is left to tell when the terminal is gone.
        let _ = error.print();
        return if asked { ExitCode::SUCCESS } else { ExitCode::from(BAD_USAGE) };
    }
    let text = error.to_string();
    let over = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    let said: Vec<&str> = text.lines().take_while(|line| !over(line)).map(str::trim).collect();
    let said = said.join(" ").replace("  tip:", "; tip:");
    report(&format!("{}; try whisperq --help", said.trim_start_matches("error: ").trim_end()));
    ExitCode::from(BAD_USAGE)
}

/// Text on standard output. A reader that closed its end has had enough; whatever else keeps the text from arriving is an
/// error.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("cannot write to standard output")?),
    }
}

/// One line on standard error. Where even that cannot be written, nobody is left to tell.
fn report(message: &str) {
    let line: Vec<&str> = message.split_whitespace().collect();
    let _ = writeln!(std::io::stderr(), "whisperq: {}", line.join(" "));
}

fn start_logging(config: &Config, default: &str) -> Result<()> {
    use tracing::Level;
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let directives = config.rust_log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Error::Config(format!(
            "RUST_LOG={directives} is not understood ({error}): allowed is such as info,whisperq=debug"
        ))
    })?;
    let colors = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colors);
    let discreet = filter_fn(|event| *event.level() <= Level::WARN || !event.target().starts_with(TALKATIVE));
    // Only a second start in one process is refused, and then the first one serves.
    let _ = match config.log_format {
        LogFormat::Text => log.finish().with(discreet).try_init(),
        LogFormat::Json if config.runpod.endpoint_id.is_some() => {
            let log = log.fmt_fields(JsonFields::new()).event_format(runpod_log::Lines);
            log.finish().with(discreet).try_init()
        }
        LogFormat::Json => log.json().finish().with(discreet).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_in_its_help() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example: whisperq"), "{}:\n{help}", command.get_name());
            for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                check(inner);
            }
        }
        check(&mut Cli::command());
    }
}
