//! Many recordings, and one that is large, through the real service: nothing is lost on a bad network, little is sent
//! twice, and memory stays where it is.

use std::time::Instant;

use serde_json::{Value, json};

use super::boto::Boto;
use super::proxy::{Fault, Proxy};
use super::weed::Weed;
use crate::http::client::Service;
use crate::scripted::{Answer, Server};
use crate::support::{fixture, write_wav};

const JOBS: u64 = 200;
/// Every so many recordings one has speech in it; the others would keep the engine busy for a minute more.
const SPEAKING: u64 = 10;
/// Of what is sent, over what is needed; 1.3 is what was asked for, and 1.1 what starting over would come to.
const MOST: f64 = 1.05;
const LARGE: u64 = 2 << 30;
const WAV_HEADER_BYTES: usize = 44;
const MAX_GROWTH_KIB: u64 = 100 * 1024;

/// A service whose S3 is behind a proxy.
fn service(proxy: &Proxy) -> Service {
    let environment = Weed::shared().environment();
    let mut settings: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let endpoint = proxy.url();
    settings.extend([("AWS_ENDPOINT_URL_S3", endpoint.as_str()), ("S3_FORCE_PATH_STYLE", "true")]);
    // More than the one that tests usually have, as a service does.
    settings.push(("WORKER_COUNT", "2"));
    Service::start(&settings)
}

fn submit(service: &Service, address: &str) -> String {
    let answer = service.post_json("/jobs", &json!({"audio": address}).to_string());
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn two_hundred_recordings_come_through_a_network_that_cuts_one_transfer_in_five() {
    let (proxy, bucket, speech) = (Proxy::start(&Weed::shared().address), "many", fixture("sample.wav"));
    let (folder, bytes) = (tempfile::tempdir().unwrap(), speech.metadata().unwrap().len());
    let silence = folder.path().join("silence.wav");
    write_wav(&silence, &vec![0.0; (bytes as usize - WAV_HEADER_BYTES) / 2]);
    assert_eq!(silence.metadata().unwrap().len(), bytes);
    Boto::shared().create(bucket);
    for n in 0..JOBS {
        Boto::shared().put(bucket, &format!("{n}.wav"), if n % SPEAKING == 0 { &speech } else { &silence });
    }
    proxy.sometimes(bucket, 0.2, 1, Fault::Cut(bytes / 2));
    let (service, begun) = (service(&proxy), Instant::now());
    let ids: Vec<String> = (0..JOBS).map(|n| submit(&service, &format!("s3://{bucket}/{n}.wav"))).collect();
    for id in ids {
        let job: Value = service.ended(&id);
        assert!(job["status"] == "completed" && job["audio_seconds"].as_f64() > Some(3.0), "{job}");
    }
    let ratio = proxy.let_through(bucket) as f64 / (JOBS * bytes) as f64;
    let cuts = proxy.struck();
    eprintln!("{JOBS} jobs in {:.0?}: {cuts} cuts, {ratio:.3} times their bytes", begun.elapsed());
    assert!(cuts >= JOBS / 10, "only {cuts} transfers were cut");
    assert!(ratio <= MOST, "{ratio} times their bytes were sent");
}

/// The memory that a process has, or that it had at most since its peak was reset.
fn memory_kib(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Silence of two seconds, with more of the same behind its end.
fn large_recording(bytes: u64) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("silence.wav");
    write_wav(&file, &[0.0; 32_000]);
    let silence = std::fs::read(file).unwrap();
    Server::start(move |_| Answer::over_and_over(200, silence.clone(), bytes))
}

#[test]
fn a_recording_of_two_gigabytes_is_fetched_in_little_memory() {
    let server = large_recording(LARGE);
    let proxy = Proxy::start(server.url.trim_start_matches("http://"));
    let most = LARGE.to_string();
    let service = Service::start(&[("ALLOW_PRIVATE_URLS", "true"), ("MAX_AUDIO_BYTES", &most)]);
    // The engine takes its memory when it first works.
    assert_eq!(service.done()["status"], "completed");
    let process = service.working_process().as_raw_pid().cast_unsigned();
    let idle = memory_kib(process, "VmRSS:");
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();

    let begun = Instant::now();
    let job = service.ended(&submit(&service, &format!("{}/silence.wav", proxy.url())));
    let peak = memory_kib(process, "VmHWM:");
    let growth = peak.saturating_sub(idle);
    eprintln!("{LARGE} bytes in {:.1?}: {idle} KiB before, {peak} KiB at most", begun.elapsed());
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(proxy.let_through("/silence.wav"), LARGE);
    assert!(growth < MAX_GROWTH_KIB, "{growth} KiB more than the {idle} before");
}
