//! The end of a service, asked for or not, and the next start.

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rustix::process::{Pid, Signal, kill_process};

use super::client::Service;
use crate::support::long_recording;

#[test]
fn a_service_that_is_told_to_stop_exits_well_and_the_next_start_goes_on() {
    let service = Service::start(&[]);
    let long = service.whisperq.path("long.wav");
    long_recording(&long, 60);
    let ids = [service.submit(&long), service.submit(&long)];
    service.heard(&ids[0]);
    service.signal(Signal::TERM);
    let (code, whisperq) = service.end();
    assert_eq!(code, Some(0));
    let next = Service::start_on(whisperq, &[]);
    for id in &ids {
        assert_eq!(next.ended(id)["status"], "completed");
    }
    let repeated = next.whisperq.output(&["sql", "--format", "csv", "select count(*) from (select 1 from chunks where outcome = 'done' group by job_id, kind, pass, seq having count(*) > 1)"]);
    assert_eq!(repeated.lines().nth(1), Some("0"), "no chunk was done twice");
}

#[test]
fn a_service_that_is_killed_loses_nothing() {
    let service = Service::start(&[]);
    let long = service.whisperq.path("long.wav");
    long_recording(&long, 60);
    let id = service.submit(&long);
    service.heard(&id);
    service.signal(Signal::KILL);
    let (code, whisperq) = service.end();
    assert_eq!(code, None);
    let next = Service::start_on(whisperq, &[]);
    assert_eq!(next.ended(&id)["status"], "completed");
}

#[test]
fn a_watcher_and_a_waiting_client_do_not_hold_up_the_end() {
    let service = Service::start(&[]);
    let long = service.whisperq.path("long.wav");
    long_recording(&long, 120);
    let id = service.submit(&long);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| service.get(&format!("/jobs/{id}/events")));
        service.heard(&id);
        service.signal(Signal::TERM);
        assert_eq!(watching.join().unwrap().status, 200);
    });
    assert_eq!(service.end().0, Some(0));
}

fn number(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

fn thread_of(process: Pid, name: &str) -> Pid {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|entry| entry.unwrap());
    let is_named = |folder: &std::path::Path| std::fs::read_to_string(folder.join("comm")).unwrap().trim() == name;
    let thread = threads.into_iter().find(|thread| is_named(&thread.path())).unwrap();
    number(thread.file_name().to_str().unwrap())
}

/// Aborts a process as the engine does, from the thread of a worker that is in the middle of a chunk.
fn abort_at_work(service: &Service, worker: &str) {
    let process = service.working_process();
    let database = service.whisperq.path("data/whisperq.db");
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let chunk = || -> Option<(String, i64)> {
        let sql = "select current_job, current_chunk from workers where worker_id = ?1 and status = 'busy'";
        database.query_row(sql, [worker], |row| Ok((row.get(0)?, row.get(1)?))).optional().unwrap()
    };
    // While it stands still, what the database says of it stays true; seen twice, the chunk is in the worker's hands.
    kill_process(process, Signal::STOP).unwrap();
    let mut seen = None;
    while chunk().is_none() || chunk() != seen {
        seen = chunk();
        kill_process(process, Signal::CONT).unwrap();
        assert_eq!(service.get("/health").status, 200);
        kill_process(process, Signal::STOP).unwrap();
    }
    abort_thread(process, thread_of(process, worker));
    kill_process(process, Signal::CONT).unwrap();
    while std::path::Path::new(&format!("/proc/{process}")).exists() {
        std::thread::yield_now();
    }
}

/// To the thread and to no other one of its process, as `abort` sends it.
#[expect(unsafe_code, reason = "no safe wrapper sends a signal to a thread of another process")]
fn abort_thread(process: Pid, thread: Pid) {
    let (process, thread) = (process.as_raw_pid(), thread.as_raw_pid());
    // SAFETY: the call takes three numbers and touches no memory.
    assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGABRT) }, 0);
}

#[test]
fn a_process_that_the_engine_aborts_comes_back_and_only_the_chunk_at_fault_is_blamed() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let service = Service::start(&[("PORT", &port), ("WORKER_COUNT", "2")]);
    let long = service.whisperq.path("long.wav");
    long_recording(&long, 120);
    let id = service.submit(&long);
    service.heard(&id);
    abort_at_work(&service, "gpu-0");
    service.back();
    assert_eq!(service.ended(&id)["status"], "completed");
    let outcomes = service.whisperq.sql(
        "select outcome, worker_id, count(*) as n from chunks where outcome in ('crashed', 'lost') and kind = 'transcribe'
         group by 1, 2",
    );
    let of = |outcome: &str| outcomes.iter().filter(|row| row["outcome"] == outcome).collect::<Vec<_>>();
    assert_eq!(of("crashed").len(), 1, "{outcomes:?}");
    assert_eq!((&of("crashed")[0]["worker_id"], &of("crashed")[0]["n"]), (&"gpu-0".into(), &1.into()), "{outcomes:?}");
    assert!(of("lost").iter().all(|row| row["worker_id"] == "gpu-1"), "{outcomes:?}");
}

#[test]
fn a_port_that_is_taken_is_refused_before_anything_starts() {
    let service = Service::start(&[]);
    let port = service.url().rsplit_once(':').unwrap().1.to_owned();
    let second = crate::support::Whisperq::new();
    let output = second.command(&["serve"]).env("PORT", port).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("set PORT to a free port"), "{said}");
}
