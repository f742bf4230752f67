//! `whisperq runpod`: a worker of RunPod's, or one job of its kind done here.

use std::path::PathBuf;

use super::{Done, interrupt, report, say};
use crate::config::Config;
use crate::error::Result;
use crate::runpod::{self, Ending};
use crate::shutdown::Shutdown;
use crate::supervise::{UNFIT, follow_parent, supervise};

/// Where a test input is looked for.
const TEST_INPUT: &str = "test_input.json";
/// As RunPod's own workers end.
const FAILED: u8 = 1;

/// Take jobs from RunPod's queue. This is also what whisperq does without a command where RUNPOD_WEBHOOK_GET_JOB is set.
#[derive(clap::Args, Default)]
#[command(
    after_help = "Example: whisperq runpod --test-input '{\"input\": {\"audio\": \"https://example.org/talk.mp3\"}}'\n\nElsewhere than on RunPod, test_input.json is done when there is no --test-input."
)]
pub(super) struct Args {
    /// Do this one job, print what RunPod would be sent, and end
    #[arg(long, value_name = "JSON")]
    test_input: Option<String>,
    /// Set for the child that does the work: the number of the process that watches over it.
    #[arg(long, hide = true)]
    child_of: Option<u32>,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Done> {
    if let Some(input) = &args.test_input {
        return test(config, input);
    }
    if config.runpod.get_job.is_none() {
        return test_file(config);
    }
    let Some(parent) = args.child_of else {
        return Ok(Done::WithCode(supervise(&["runpod".into(), "--child-of".into()])?));
    };
    follow_parent(parent)?;
    let asked = Shutdown::default();
    interrupt::watch(&asked)?;
    Ok(match runpod::run(config, &asked)? {
        Ending::Asked => Done::Well,
        Ending::Unfit => Done::WithCode(UNFIT),
    })
}

fn test_file(config: &Config) -> Result<Done> {
    match std::fs::read_to_string(PathBuf::from(TEST_INPUT)) {
        Ok(input) => test(config, &input),
        Err(error) => {
            report(&format!(
                "cannot read {TEST_INPUT}: {error}; write {{\"input\": {{…}}}} there, or use --test-input"
            ));
            Ok(Done::WithCode(FAILED))
        }
    }
}

fn test(config: &Config, input: &str) -> Result<Done> {
    let asked = Shutdown::default();
    interrupt::watch(&asked)?;
    match runpod::test(config, input, &asked) {
        Ok(tested) => {
            say(&format!("{}\n", tested.body))?;
            Ok(if tested.is_well { Done::Well } else { Done::WithCode(FAILED) })
        }
        Err(error) => {
            report(&error.to_string());
            Ok(Done::WithCode(FAILED))
        }
    }
}
