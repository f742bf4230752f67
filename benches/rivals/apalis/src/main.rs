//! Tiny tasks through apalis-sqlite; `run.py` calls it with FOLDER JOBS CONCURRENCY and reads jobs per second.
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use apalis::prelude::*;
use apalis_sqlite::{SqliteConnectOptions, SqlitePool, SqliteStorage};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, jobs, concurrency] = &args[..] else { return Err("FOLDER JOBS CONCURRENCY".into()) };
    let (jobs, concurrency) = (jobs.parse()?, concurrency.parse()?);
    let pool = open(Path::new(folder)).await?;
    let began = Instant::now();
    submit(&pool, jobs, concurrency).await?;
    let submitted = began.elapsed();
    let began = Instant::now();
    work(&pool, jobs, concurrency).await?;
    let rate = |seconds: f64| f64::from(jobs) / seconds;
    println!("{{\"submit\": {}, \"do\": {}}}", rate(submitted.as_secs_f64()), rate(began.elapsed().as_secs_f64()));
    Ok(())
}

/// `setup` switches synchronous off, on one connection of the pool that it is given; here every connection has FULL.
async fn open(folder: &Path) -> Outcome<SqlitePool> {
    let options = SqliteConnectOptions::new().filename(folder.join("apalis.db")).create_if_missing(true);
    let first = SqlitePool::connect_with(options.clone()).await?;
    SqliteStorage::setup(&first).await?;
    first.close().await;
    let options = options.pragma("journal_mode", "WAL").pragma("synchronous", "FULL").pragma("temp_store", "MEMORY");
    Ok(SqlitePool::connect_with(options).await?)
}

async fn submit(pool: &SqlitePool, jobs: u32, concurrency: u32) -> Outcome<()> {
    let pushers = (0..concurrency).map(|first| {
        let mut storage = SqliteStorage::new(pool);
        tokio::spawn(async move {
            for n in (first..jobs).step_by(concurrency as usize) {
                storage.push(n).await?;
            }
            Outcome::Ok(())
        })
    });
    for pusher in pushers.collect::<Vec<_>>() {
        pusher.await??;
    }
    Ok(())
}

/// Until every task has been done; the worker stops itself with the last one.
async fn work(pool: &SqlitePool, jobs: u32, concurrency: u32) -> Outcome<()> {
    let left = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(jobs));
    let worker = WorkerBuilder::new("bench")
        .backend(SqliteStorage::<u32>::new(pool))
        .concurrency(concurrency as usize)
        .build(move |_: u32, worker: WorkerContext| {
            let left = left.clone();
            async move {
                if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    worker.stop()?;
                }
                Ok::<_, BoxDynError>("So".to_owned())
            }
        });
    Ok(worker.run().await?)
}
