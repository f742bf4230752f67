//! Decoding in a child process: what a hostile file can do is to end that child. The parent believes nothing of what it
//! says, waits for it only so long, and leaves none behind.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use super::verdict::{judge, undecodable};
use super::{Decoded, Limits, ms_to_samples, too_long};
use crate::config::system_paths;
use crate::error::{Error, Result};

/// How often, at least, a decoding is asked whether it shall go on.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A child that has given nothing for so long hangs.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// How often a child that has closed its pipes is looked at; it ends within moments.
const END_INTERVAL: Duration = Duration::from_millis(1);

const READ_BYTES: usize = 64 << 10;
/// Of what a child writes on standard error, the beginning and the end are kept, so much of each.
const REPORT_BYTES: usize = 8 << 10;

/// Decodes recordings in child processes.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// What is run, with the arguments `decode --max-audio-ms N -- FILE`: [`own_program`].
    pub program: PathBuf,
    pub limits: Limits,
    /// How long a child may give nothing.
    pub stall_limit: Duration,
}

/// The program that is running, even where its file has been replaced since.
///
/// # Errors
///
/// `Internal` when the system does not tell.
pub fn own_program() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    Ok(std::env::current_exe().context("Failed to find the program's own file")?)
}

impl Decoder {
    pub fn new(program: PathBuf, limits: Limits) -> Self {
        Self { program, limits, stall_limit: STALL_LIMIT }
    }

    /// As [`decode`](super::decode()), but the file can do no harm. `watch` is called several times a second; an error
    /// that it or `sink` returns ends the child at once.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](super::decode()), `undecodable` also when the child crashed, hung or exceeded its means;
    /// `Internal` when it could not be started or was stopped from outside; whatever `watch` and `sink` return.
    pub fn decode(
        &self,
        path: &Path,
        watch: &mut dyn FnMut() -> Result<()>,
        sink: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<Decoded> {
        let mut running = Running::start(self, path)?;
        let mut pcm = Pcm { limits: self.limits, samples: 0, odd_bytes: Vec::new(), block: Vec::new() };
        let mut patience = Patience { limit: self.stall_limit, waited: Duration::ZERO };
        let mut buffer = vec![0; READ_BYTES];
        while let Some(event) = running.next(&mut buffer)? {
            watch()?;
            match event {
                Event::Pcm(bytes) => {
                    patience.waited = Duration::ZERO;
                    pcm.take(&buffer[..bytes], sink)?;
                }
                Event::Report => {}
                Event::Nothing(waited) => patience.wait(waited)?,
            }
        }
        let status = running.end(|waited| watch().and_then(|()| patience.wait(waited)))?;
        if !pcm.odd_bytes.is_empty() {
            return Err(Error::Internal(anyhow!("the decoder ended in the middle of a sample: {status}")));
        }
        judge(status, &running.report(), pcm.samples)
    }
}

/// Counts only time spent waiting, so that a parent that was stopped for a while does not blame its child.
struct Patience {
    limit: Duration,
    waited: Duration,
}

impl Patience {
    fn wait(&mut self, waited: Duration) -> Result<()> {
        self.waited += waited.min(2 * WATCH_INTERVAL);
        if self.waited < self.limit {
            return Ok(());
        }
        Err(undecodable(&format!("the decoder gave nothing for {} s and was stopped", self.limit.as_secs_f64())))
    }
}

/// Bytes from the child on their way to samples.
struct Pcm {
    limits: Limits,
    samples: u64,
    /// Of a sample whose other bytes have not come yet.
    odd_bytes: Vec<u8>,
    block: Vec<f32>,
}

impl Pcm {
    fn take(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.odd_bytes.extend_from_slice(bytes);
        let (samples, rest) = self.odd_bytes.as_chunks::<4>();
        self.block.clear();
        let finite = |sample: f32| if sample.is_finite() { sample } else { 0.0 };
        self.block.extend(samples.iter().map(|&sample| finite(f32::from_le_bytes(sample))));
        self.odd_bytes = rest.to_vec();
        self.samples += self.block.len() as u64;
        if self.samples > ms_to_samples(self.limits.max_audio_ms) {
            return Err(too_long(&self.limits));
        }
        if self.block.is_empty() { Ok(()) } else { sink(&self.block) }
    }
}

enum Event {
    /// So many bytes in the buffer.
    Pcm(usize),
    Report,
    Nothing(Duration),
}

/// A child with its pipes; it is dead when this is dropped.
struct Running {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    report: Vec<u8>,
    is_reaped: bool,
}

impl Running {
    fn start(decoder: &Decoder, path: &Path) -> Result<Self> {
        let mut command = Command::new(&decoder.program);
        command.args(["decode", "--max-audio-ms", &decoder.limits.max_audio_ms.to_string(), "--"]).arg(path);
        command.env_clear().envs(system_paths());
        // In a group of its own, an interrupt from the terminal does not reach it: the parent decides what ends.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("Failed to start the decoder {}", decoder.program.display()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Self { child, stdout, stderr, report: Vec::new(), is_reaped: false })
    }

    /// What comes next, `None` when both pipes are closed.
    fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Event>> {
        if self.stdout.is_none() && self.stderr.is_none() {
            return Ok(None);
        }
        let started = Instant::now();
        let mut polled = Vec::with_capacity(2);
        polled.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        polled.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        wait(&mut polled)?;
        let ready: Vec<bool> = polled.iter().map(|pipe| !pipe.revents().is_empty()).collect();
        // Samples first: a child that floods standard error must not hold them up.
        if let Some(pipe) = self.stdout.as_mut().filter(|_| ready[0]) {
            let bytes = pipe.read(buffer).context("Failed to read from the decoder")?;
            if bytes == 0 {
                self.stdout = None;
                return Ok(Some(Event::Report));
            }
            return Ok(Some(Event::Pcm(bytes)));
        }
        if let Some(pipe) = self.stderr.as_mut().filter(|_| ready.last() == Some(&true)) {
            let bytes = pipe.read(buffer).context("Failed to read from the decoder")?;
            if bytes == 0 {
                self.stderr = None;
            }
            self.keep(&buffer[..bytes]);
            // Chatter is no progress.
            return Ok(Some(Event::Nothing(started.elapsed())));
        }
        Ok(Some(Event::Nothing(started.elapsed())))
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.report.extend_from_slice(bytes);
        if self.report.len() > 2 * REPORT_BYTES {
            let end = self.report.len() - REPORT_BYTES;
            self.report.drain(REPORT_BYTES..end);
        }
    }

    fn report(&self) -> String {
        String::from_utf8_lossy(&self.report).into_owned()
    }

    /// Waits for the end of a child that has closed its pipes.
    fn end(&mut self, mut waiting: impl FnMut(Duration) -> Result<()>) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait().context("Failed to wait for the decoder")? {
                self.is_reaped = true;
                return Ok(status);
            }
            let started = Instant::now();
            std::thread::sleep(END_INTERVAL);
            waiting(started.elapsed())?;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        // Whatever it has started dies with it. Errors mean that it is dead already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(polled: &mut [PollFd<'_>]) -> Result<()> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(WATCH_INTERVAL.subsec_nanos()) };
    match poll(polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(Error::Internal(anyhow::Error::new(error).context("Failed to wait for the decoder"))),
    }
}
