//! The server: connections taken until the request to stop, then finished within a grace period.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::routes::router;
use super::runpod_api::Cursors;
use super::watch::Watch;
use super::{IDLE, Service, Settings};
use crate::app::Intake;
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::system::UserSql;

/// Beyond these a client waits to be let in; each costs some memory.
const MAX_CONNECTIONS: u64 = 4096;
/// And each one a file for its socket and one for what it uploads, of which the rest of the process needs these.
const OTHER_FILES: u64 = 256;
const FILES_PER_CONNECTION: u64 = 2;
/// Even where hardly any file may be open.
const MIN_CONNECTIONS: u64 = 16;
/// Threads that only move bytes; all work is elsewhere.
const THREADS: usize = 2;
/// A client that takes longer for its headers is none.
const HEADERS: Duration = Duration::from_secs(10);
/// After the system refused a connection, for want of files most likely.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// Questions in SQL that are answered or wait for it; more are told to come back.
const QUESTIONS: usize = 8;
/// Bodies of JSON that are in memory at the same time, 20 MiB each at most and thrice that while decoded.
const JSON_BODIES: usize = 8;

/// All routes; clones share what is behind them.
pub type Api = axum::Router;

/// The routes over the queue of `intake`, for whoever has requests for them; what waits is told of `shutdown`.
pub fn api(intake: Intake, settings: &Settings, shutdown: &Shutdown) -> Result<Api> {
    Ok(open(intake, settings, shutdown)?.0)
}

fn open(intake: Intake, settings: &Settings, shutdown: &Shutdown) -> Result<(Api, Watch)> {
    let watch = Watch::start(intake.queue.clone(), shutdown.clone())?;
    let user_sql = Arc::new(UserSql::open(intake.queue.db())?);
    let service = Service {
        intake,
        user_sql,
        questions: Arc::new(Semaphore::new(QUESTIONS)),
        watch: watch.clone(),
        max_audio_bytes: settings.max_audio_bytes,
        cursors: Cursors::default(),
        json_bodies: Arc::new(Semaphore::new(JSON_BODIES)),
    };
    Ok((router(service, settings), watch))
}

/// A server that listens already.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    /// Connections that are let in.
    room: usize,
}

impl Server {
    /// Takes the address, before models are loaded: a second start on it should fail at once. `max_open_files`: of this process;
    /// connections are not to take them all.
    ///
    /// # Errors
    /// `Config` where the address is taken or not of this machine.
    pub fn bind(address: SocketAddr, max_open_files: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .context("cannot start the HTTP threads")?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(|error| {
            Error::Config(format!(
                "cannot listen on {address}: {error}; set PORT to a free port, and HOST to an address of this machine"
            ))
        })?;
        let files = max_open_files.saturating_sub(OTHER_FILES) / FILES_PER_CONNECTION;
        Ok(Self { runtime, listener, room: files.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS) as usize })
    }

    /// Where it listens; tells the port that was taken for PORT=0.
    pub fn address(&self) -> Result<std::net::SocketAddr> {
        Ok(self.listener.local_addr().context("the server has no address")?)
    }

    /// Serves until `shutdown`, then lets requests under way end within `grace`; returns when that began.
    pub fn run(self, intake: Intake, settings: &Settings, shutdown: &Shutdown, grace: Duration) -> Result<Instant> {
        let (router, watch) = open(intake, settings, shutdown)?;
        let stopping = self.runtime.block_on(async {
            let open = GracefulShutdown::new();
            tokio::select! {
                () = accept(&self.listener, &router, &open, self.room) => {}
                () = watch.stopped() => {}
            }
            let stopping = Instant::now();
            drop(self.listener);
            if tokio::time::timeout(grace, open.shutdown()).await.is_err() {
                tracing::warn!("requests were cut off after {grace:?}");
            }
            stopping
        });
        // A database call that still runs is not waited for.
        self.runtime.shutdown_background();
        Ok(stopping)
    }
}

async fn accept(listener: &TcpListener, router: &axum::Router, open: &GracefulShutdown, room: usize) {
    let room = Arc::new(Semaphore::new(room));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = open.watch(connection(stream, router));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection broke off");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(error = %anyhow!(error), "cannot take a connection");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

fn connection(
    stream: TcpStream,
    router: &axum::Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<axum::Router>> {
    // A refusal is no news; answers are small and should leave at once.
    let _ = stream.set_nodelay(true);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS.min(IDLE))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()))
}
