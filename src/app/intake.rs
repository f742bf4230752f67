//! How a front door turns what a user asked for into a job of the served model.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::job::{FrontDoor, NewJob, Options};
use crate::models::{self, ModelFile};
use crate::queue::{Queue, Submitted, unix_now_ms};
use crate::storage::{S3Config, Secrets, Storage, is_address, not_an_address};
use crate::transcript::Format;

/// OpenAI's name for its own model; its clients cannot leave the name out.
const OPENAI_MODEL: &str = "whisper-1";

/// What a front door needs to take in jobs; clones share it.
#[derive(Clone)]
pub struct Intake {
    pub queue: Queue,
    pub storage: Storage,
    pub model: ModelFile,
    pub process_id: String,
    /// Where the engine runs, as RunPod's users know it: cpu or cuda.
    pub device: &'static str,
    /// Where transcripts go that name no other place.
    pub output_uri: Option<String>,
    /// Where presigned uploads go.
    pub upload_bucket: Option<String>,
}

/// A job and what of it is for no one's eyes.
pub struct Draft {
    pub job: NewJob,
    secrets: Secrets,
}

/// Where the audio of a job is.
#[derive(Clone, Debug)]
pub struct Source {
    /// What may be shown of it.
    pub name: String,
    pub version: Option<String>,
    pub bytes: Option<u64>,
}

/// Tells addresses apart whose secret parts differ, and tells nothing of them.
fn digest(address: &str) -> String {
    Sha256::digest(address).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl Source {
    /// A place outside this machine, as a user wrote it.
    ///
    /// # Errors
    /// `InvalidInput` with `address_not_allowed` for a path on this machine, which only its command line may name.
    pub fn address(address: &str) -> Result<Self> {
        let name = address.to_owned();
        if !is_address(&name) {
            return Err(not_an_address(&name));
        }
        Ok(Self { name, version: None, bytes: None })
    }
}

impl Intake {
    /// A job ready to submit, under this id. It is everyone's; a command line makes it its own. `keys`: those of the user's own
    /// bucket.
    ///
    /// # Errors
    /// `Config` where the model cannot do what the options ask for, `InvalidInput` where they ask for another model or name an
    /// address that is not allowed.
    pub fn new_job(
        &self,
        id: String,
        front_door: FrontDoor,
        source: Source,
        options: Options,
        keys: Option<S3Config>,
    ) -> Result<Draft> {
        self.check_model(options.model.as_deref().unwrap_or_default())?;
        let language = self.language(&options)?;
        if let Some(keys) = &keys {
            self.storage.check_keys(keys)?;
        }
        let mut secrets = Secrets { s3_config: keys, ..Secrets::default() };
        let source_name = self.open_part(source.name, &mut secrets)?;
        let mut options = self.without_secrets(options, &mut secrets)?;
        options.sealed = secrets.parts();
        options.audio_digest = secrets.audio.as_ref().map(|audio| digest(audio));
        // Whoever sits at a command line sees the transcript there.
        if options.output_uri.is_none() && front_door != FrontDoor::Cli {
            options.output_uri.clone_from(&self.output_uri);
        }
        let job = NewJob {
            id,
            idempotency_key: None,
            front_door,
            source: source_name,
            source_version: source.version,
            source_bytes: source.bytes,
            model: self.model.name.clone(),
            language,
            options,
            owner: None,
        };
        Ok(Draft { job, secrets })
    }

    /// Whether a user who asks for this model gets it.
    pub fn serves(&self, wanted: &str) -> bool {
        self.check_model(wanted).is_ok()
    }

    /// Submits it, its secrets first; what came before under the same name keeps its own.
    ///
    /// # Errors
    /// As [`Queue::submit`].
    pub fn submit(&self, draft: Draft) -> Result<Submitted> {
        let id = draft.job.id.clone();
        self.storage.keep_secrets(&id, &draft.secrets)?;
        let submitted = self.queue.submit(draft.job, unix_now_ms());
        if !submitted.as_ref().is_ok_and(|submitted| !submitted.resumed) {
            self.forget(&id)?;
        }
        submitted
    }

    /// The same for a command line, which takes up what an interrupted run has left.
    pub fn resume_or_submit(&self, draft: Draft) -> Result<Submitted> {
        let id = draft.job.id.clone();
        self.storage.keep_secrets(&id, &draft.secrets)?;
        let submitted = self.queue.resume_or_submit(draft.job, unix_now_ms())?;
        if submitted.resumed {
            self.forget(&id)?;
            // A signed address may have expired since: that of this run is newer.
            self.storage.keep_secrets(&submitted.id, &draft.secrets)?;
        }
        Ok(submitted)
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.storage.forget_secrets(id)?;
        self.storage.forget_webhook(id)
    }

    /// What may be shown of where the audio is; the rest of an address becomes a secret.
    fn open_part(&self, source: String, secrets: &mut Secrets) -> Result<String> {
        if !is_address(&source) {
            return Ok(source);
        }
        let shown = self.storage.check(&source, secrets.s3_config.is_some())?;
        secrets.audio = (shown != source).then_some(source);
        Ok(shown)
    }

    /// The options as the database may have them.
    fn without_secrets(&self, mut options: Options, secrets: &mut Secrets) -> Result<Options> {
        for name in &options.output_formats {
            let format: Result<Format, _> = name.parse();
            format.map_err(|error| Error::Config(format!("output_formats: {error}")))?;
        }
        if let Some(webhook) = options.webhook.take().filter(|webhook| !webhook.trim().is_empty()) {
            let shown = self.storage.check_webhook(&webhook)?;
            options.webhook = Some(shown.clone());
            secrets.webhook = (shown != webhook).then_some(webhook);
        }
        if let Some(place) = options.output_uri.take().filter(|place| !place.trim().is_empty()) {
            let shown = self.storage.check_output(&place, secrets.s3_config.is_some())?;
            options.output_uri = Some(shown.clone());
            // Its presence also says that the user's own keys open it, which they do not where OUTPUT_URI leads.
            secrets.output_uri = (shown != place || secrets.s3_config.is_some()).then_some(place);
        }
        Ok(options)
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
