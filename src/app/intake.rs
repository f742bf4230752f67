//! How a front door turns what a user asked for into a job of the served model.

use crate::error::{Error, Result};
use crate::job::{FrontDoor, NewJob, Options};
use crate::models::{self, ModelFile};
use crate::queue::Queue;
use crate::storage::Storage;

/// OpenAI's name for its own model; its clients cannot leave the name out.
const OPENAI_MODEL: &str = "whisper-1";

/// What a front door needs to take in jobs; clones share it.
#[derive(Clone)]
pub struct Intake {
    pub queue: Queue,
    pub storage: Storage,
    pub model: ModelFile,
    pub process_id: String,
}

/// Where the audio of a job is.
#[derive(Clone, Debug)]
pub struct Source {
    /// What may be shown of it.
    pub name: String,
    pub version: Option<String>,
    pub bytes: Option<u64>,
}

impl Intake {
    /// A job ready to submit, under this id. It is everyone's; a command line makes it its own.
    ///
    /// # Errors
    /// `Config` where the model cannot do what the options ask for, `InvalidInput` where they ask for another model.
    pub fn new_job(&self, id: String, front_door: FrontDoor, source: Source, options: Options) -> Result<NewJob> {
        self.check_model(options.model.as_deref().unwrap_or_default())?;
        let language = self.language(&options)?;
        Ok(NewJob {
            id,
            idempotency_key: None,
            front_door,
            source: source.name,
            source_version: source.version,
            source_bytes: source.bytes,
            model: self.model.name.clone(),
            language,
            options,
            owner: None,
        })
    }

    /// One model is served; OpenAI's name for its own means that one.
    fn check_model(&self, wanted: &str) -> Result<()> {
        let served = &self.model.name;
        if wanted.is_empty() || wanted == OPENAI_MODEL || models::canonical_name(wanted) == *served {
            return Ok(());
        }
        let message = format!("the model {wanted} is not loaded here: leave model out or ask for {served}");
        Err(Error::invalid("model_not_loaded", message))
    }

    /// English-only models take no other language, and need none named.
    fn language(&self, options: &Options) -> Result<Option<String>> {
        let name = &self.model.name;
        if options.translate && !self.model.header.multilingual() {
            return Err(Error::Config(format!("model {name} knows only English and cannot translate: choose another")));
        }
        if self.model.header.multilingual() {
            return Ok(options.language.clone());
        }
        match options.language.as_deref() {
            None | Some("en") => Ok(Some("en".to_owned())),
            Some(other) => Err(Error::Config(format!(
                "model {name} knows only English, not {other}: choose a model without .en in its name"
            ))),
        }
    }
}
