//! The one place where everything is put together: database, queue, keeper, preparing and transcribing threads; and taken
//! apart again in an order that loses nothing.

mod copies;
mod deliverers;
mod engine;
mod events;
mod folders;
mod intake;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::audio::{self, Decoder, Limits};
use crate::config::Config;
use crate::crash;
use crate::db::Db;
use crate::deliver::{Outlet, Signer};
use crate::error::Result;
use crate::http_client::Patience;
use crate::keeper::Keeper;
use crate::models;
use crate::prepare::Prepare;
use crate::queue::{self, Process, Queue, unix_now_ms};
use crate::runpod_platform::Platform;
use crate::shutdown::Shutdown;
use crate::spool::Spool;
use crate::storage::{self, Storage, parse_bucket};
use crate::turns::Turns;
use crate::whisper::Cores;
use crate::worker::{Slot, Worker};
use copies::Copies;
pub use deliverers::open_platform;
use engine::Crew;
pub use events::{Taken, TakenJob, Upload, new_upload, upload_refused};
pub use folders::provide_model;
pub use intake::{Draft, Intake, Source};

/// Large recordings that are prepared at the same time; most of that is waiting for where they come from, or for room.
const LARGE_FETCHERS: usize = 8;
/// Small ones, which wait for no large one.
const SMALL_FETCHERS: usize = 8;
/// Of each, as many are decoded at the same time: that takes a core.
const DECODERS: usize = 2;
/// A thread that does not stop within this when told to is not waited for.
const DEAF: Duration = Duration::from_secs(3);
/// Bytes in the name of a thread.
const LONGEST_NAME: usize = 15;
/// How often a stopping process looks whether its threads have ended.
const JOIN_LOOK: Duration = Duration::from_millis(1);

/// A running whisperq.
pub struct App {
    intake: Intake,
    process: Process,
    shutdown: Shutdown,
    keeper_stop: Shutdown,
    keeper: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    slots: Vec<Arc<Slot>>,
    crew: Arc<Crew>,
    outlet: Option<Arc<Outlet>>,
}

/// Opens the queue of `config` without any workers, for commands that only look or steer.
pub fn open_queue(config: &Config) -> Result<Queue> {
    folders::create_data_dir(config)?;
    let limits = queue::Limits {
        lease_ms: config.lease.as_millis() as i64,
        max_attempts: i64::from(config.max_attempts),
        max_queued: config.max_queued.cast_signed(),
        job_ttl_ms: config.job_ttl.as_millis() as i64,
        execution_timeout_ms: config.execution_timeout.as_millis() as i64,
    };
    Ok(Queue::new(Arc::new(Db::open(&config.database())?), limits, config.process_dir()))
}

/// Where recordings come from and transcripts go, as the settings have it.
pub fn open_storage(config: &Config) -> Result<Storage> {
    let mut allowed_buckets = config.s3_allowed_buckets.clone();
    if !allowed_buckets.is_empty() {
        // What was sent to us may be read by us.
        allowed_buckets
            .extend(config.upload_bucket.as_deref().and_then(parse_bucket).map(|(bucket, _)| bucket.to_owned()));
    }
    Storage::open(&storage::Settings {
        data_dir: config.data_dir.clone(),
        path_style: config.s3_force_path_style,
        allow_private: config.allow_private_urls,
        allowed_buckets,
        patience: Patience::default(),
    })
}

impl App {
    /// Starts all threads. `private`: the workers take only the jobs that this process owns.
    pub fn start(config: &Config, command: &'static str, private: bool, shutdown: &Shutdown) -> Result<Self> {
        Self::start_with(config, command, private, None, shutdown)
    }

    fn start_with(
        config: &Config,
        command: &'static str,
        private: bool,
        platform: Option<Platform>,
        shutdown: &Shutdown,
    ) -> Result<Self> {
        let signer = config.webhook_secret.as_ref().map(|secret| Signer::new(secret.reveal())).transpose()?;
        let model = models::locate(folders::model_places(config), &config.model_name)?;
        let queue = open_queue(config)?;
        let spool = Spool::open(config.spool_dir(), config.spool_max_bytes)?;
        // As soon as little is left that could refuse to start: the first chunk waits for it.
        let copies = Copies::new(config, model.clone());
        let loading = copies.load_first()?;
        let storage = open_storage(config)?;
        let process = queue.register(command, unix_now_ms())?;
        crash::watch(process.crash_file())?;
        queue.recover_dead(process.id(), unix_now_ms())?;
        let intake = Intake {
            queue,
            storage,
            model,
            process_id: process.id().to_owned(),
            device: if copies.on_cpu() { "cpu" } else { "cuda" },
            output_uri: config.output_uri.clone(),
            upload_bucket: config.upload_bucket.clone(),
        };
        let builder = Builder { config, intake: &intake, spool: &spool, private, shutdown };
        let mut slots = Vec::new();
        let mut workers = builder.prepare_threads(&mut slots)?;
        let (engines, crew) = builder.transcribe_threads(&copies, &mut slots)?;
        workers.extend(engines);
        if !private {
            workers.extend(builder.deliver_threads(signer.as_ref(), &mut slots)?);
        }
        let outlet = platform.map(|platform| builder.outlet(platform));
        if let Some(outlet) = &outlet {
            workers.extend(builder.runpod_threads(outlet, &mut slots)?);
        }
        let keeper_stop = Shutdown::default();
        let keeper = builder.keeper_thread(slots.clone(), keeper_stop.clone())?;
        workers.extend(loading.into_thread());
        let shutdown = shutdown.clone();
        Ok(Self { intake, process, shutdown, keeper_stop, keeper, workers, slots, crew, outlet })
    }

    /// For front doors.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Whether no worker is left that could do anything, because none could load its model.
    pub fn is_dead(&self) -> bool {
        self.crew.is_dead()
    }

    /// Stops in order: no new claims; running work finishes within `grace`, then is stopped and given back; the process
    /// signs off.
    pub fn shut_down(self, grace: Duration) -> Result<()> {
        self.shutdown.trigger();
        self.intake.queue.wake().notify();
        let deadline = Instant::now() + grace;
        while self.workers.iter().any(|worker| !worker.is_finished()) {
            if Instant::now() >= deadline + DEAF {
                tracing::warn!(
                    "a thread does not stop, in a model that is being loaded most likely: ending without it"
                );
                break;
            }
            if Instant::now() >= deadline {
                // Again and again: a thread may have claimed a chunk just before the request to stop.
                self.slots.iter().for_each(|slot| slot.control().abort());
            }
            std::thread::sleep(JOIN_LOOK);
        }
        for worker in self.workers.into_iter().filter(JoinHandle::is_finished) {
            // A worker's panic was caught and recorded where it happened.
            let _ = worker.join();
        }
        self.keeper_stop.trigger();
        let _ = self.keeper.join();
        self.intake.queue.sign_off(self.process, unix_now_ms())
    }
}

/// What all threads are made from.
struct Builder<'a> {
    config: &'a Config,
    intake: &'a Intake,
    spool: &'a Spool,
    private: bool,
    shutdown: &'a Shutdown,
}

impl Builder<'_> {
    /// Who owns the jobs that the threads take; nobody, unless they are private.
    fn owner(&self) -> Option<&str> {
        self.private.then_some(self.intake.process_id.as_str())
    }

    fn worker(&self, name: &str, slots: &mut Vec<Arc<Slot>>) -> Worker {
        let slot = Slot::new(name.to_owned());
        slots.push(slot.clone());
        Worker {
            queue: self.intake.queue.clone(),
            slot,
            process_id: self.intake.process_id.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    fn prepare_threads(&self, slots: &mut Vec<Arc<Slot>>) -> Result<Vec<JoinHandle<()>>> {
        let lane = |small| queue::prepare_lane(small, &self.intake.model.name, self.owner());
        let (large, small) = (lane(false), lane(true));
        let turns = Turns::new(DECODERS);
        let mut threads = Vec::new();
        for n in 0..LARGE_FETCHERS {
            threads.push(self.prepare_thread(format!("prepare-large-{n}"), large.clone(), turns.clone(), slots)?);
        }
        let turns = Turns::new(DECODERS);
        for n in 0..SMALL_FETCHERS {
            threads.push(self.prepare_thread(format!("prepare-small-{n}"), small.clone(), turns.clone(), slots)?);
        }
        Ok(threads)
    }

    fn prepare_thread(
        &self,
        name: String,
        lane: String,
        turns: Arc<Turns>,
        slots: &mut Vec<Arc<Slot>>,
    ) -> Result<JoinHandle<()>> {
        let limits = Limits { max_audio_ms: self.config.max_audio_seconds * 1000 };
        let prepare = Prepare {
            worker: self.worker(&name, slots),
            spool: self.spool.clone(),
            storage: self.intake.storage.clone(),
            lane,
            decoder: Decoder::new(audio::own_program()?, limits),
            turns,
            max_audio_bytes: self.config.max_audio_bytes,
        };
        spawn(name, move || prepare.worker.run(|| prepare.step()))
    }

    fn transcribe_threads(
        &self,
        copies: &Arc<Copies>,
        slots: &mut Vec<Arc<Slot>>,
    ) -> Result<(Vec<JoinHandle<()>>, Arc<Crew>)> {
        let workers: Vec<Worker> =
            (0..self.config.worker_count).map(|n| self.worker(&format!("gpu-{n}"), slots)).collect();
        let crew = Crew::new(workers.iter().map(|worker| worker.slot.clone()).collect());
        let on_cpu = copies.on_cpu();
        let available = Cores::available();
        let cores = Cores::new(available);
        // More chunks at the same time than cores would all be done later, a short recording's among them.
        let turns = Turns::new(if on_cpu { available } else { self.config.worker_count });
        let mut threads = Vec::new();
        for (n, worker) in workers.into_iter().enumerate() {
            let name = worker.slot.worker_id().to_owned();
            let thread = engine::EngineThread {
                worker,
                spool: self.spool.clone(),
                lane: queue::transcribe_lane(&copies.model().name, self.owner()),
                copies: copies.clone(),
                instance: copies.instance_of(n),
                // Beside a GPU a thread has little to compute, and its neighbours nothing to gain from its cores.
                cores: if on_cpu { cores.clone() } else { Cores::new(available / self.config.worker_count) },
                turns: turns.clone(),
                crew: crew.clone(),
                // A command that ends soon may have less to do than it has threads.
                on_demand: (self.private && n > 0).then_some(n),
            };
            threads.push(spawn(name, move || thread.run())?);
        }
        Ok((threads, crew))
    }

    fn keeper_thread(&self, slots: Vec<Arc<Slot>>, stop: Shutdown) -> Result<JoinHandle<()>> {
        let keeper = Keeper {
            queue: self.intake.queue.clone(),
            spool: self.spool.clone(),
            storage: self.intake.storage.clone(),
            process_id: self.intake.process_id.clone(),
            slots,
            lease: self.config.lease,
            chunk_timeout: self.config.chunk_timeout,
            retention: self.config.retention,
            on_stuck: |worker| {
                tracing::error!(worker, "start whisperq again to go on with everything else");
                crash::unwatch();
                std::process::exit(1);
            },
        };
        spawn("keeper".to_owned(), move || keeper.run(&stop))
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    debug_assert!(name.len() <= LONGEST_NAME, "{name}: the system cuts it off, and a crash is told by it");
    let thread = std::thread::Builder::new().name(name.clone()).spawn(run);
    Ok(thread.with_context(|| format!("cannot start the thread {name}"))?)
}
