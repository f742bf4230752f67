//! The command line as a user meets it: transcripts in every format, the same whatever the number of workers, errors of
//! one line, and nothing lost when it is killed.

mod errors;
mod interruption;
mod load;
mod remote;

use serde_json::Value;

use crate::support::{Whisperq, fixture, long_recording, word_error_rate};

const FORMATS: [&str; 6] = ["txt", "srt", "vtt", "tsv", "json", "verbose_json"];

fn sample() -> String {
    fixture("sample.mp3").display().to_string()
}

#[test]
fn a_recording_comes_out_as_text_in_every_format() {
    let whisperq = Whisperq::new();
    let spoken = std::fs::read_to_string(fixture("sample.txt")).unwrap();
    for format in FORMATS {
        let text = whisperq.output(&["transcribe", &sample(), "--format", format]);
        let said = match format {
            "txt" => text,
            "srt" | "vtt" => {
                let cue =
                    |line: &&str| !line.contains("-->") && !line.starts_with("WEBVTT") && line.parse::<u32>().is_err();
                text.lines().filter(cue).collect::<Vec<_>>().join(" ")
            }
            "tsv" => text.lines().skip(1).filter_map(|line| line.split('\t').nth(2)).collect::<Vec<_>>().join(" "),
            _ => {
                let json: Value = serde_json::from_str(&text).unwrap();
                assert!((json["duration"].as_f64().unwrap() - 12.0).abs() < 3.0, "{json}");
                json["text"].as_str().unwrap().to_owned()
            }
        };
        assert!(word_error_rate(&spoken, &said) < 0.05, "{format}: {said}");
    }
}

#[test]
fn verbose_json_has_the_ten_fields_of_a_segment_and_words_where_asked_for() {
    let text = Whisperq::new().output(&["transcribe", &sample(), "--format", "verbose_json", "--word-timestamps"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    let fields = [
        "id",
        "seek",
        "start",
        "end",
        "text",
        "tokens",
        "temperature",
        "avg_logprob",
        "compression_ratio",
        "no_speech_prob",
    ];
    let segment = json["segments"][0].as_object().unwrap();
    assert_eq!(segment.len(), fields.len(), "{segment:?}");
    assert!(fields.iter().all(|field| segment.contains_key(*field)), "{segment:?}");
    assert_eq!((json["language"].as_str(), json["task"].as_str()), (Some("english"), Some("transcribe")));
    let words = json["words"].as_array().unwrap();
    assert!(words.len() > 20 && words.iter().all(|word| word["end"].as_f64() >= word["start"].as_f64()), "{words:?}");
}

#[test]
fn several_recordings_are_written_into_a_folder_without_overwriting_each_other() {
    let whisperq = Whisperq::new();
    let copy = whisperq.path("sample.mp3");
    std::fs::copy(fixture("sample.mp3"), &copy).unwrap();
    let folder = whisperq.path("out");
    let (copy, wav) = (copy.display().to_string(), fixture("sample.wav").display().to_string());
    let printed =
        whisperq.output(&["transcribe", &sample(), &wav, &copy, "--output-dir", &folder.display().to_string()]);
    assert_eq!(printed, "");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("sample.txt"), read("sample-3.txt"), "the same recording twice");
    assert!(read("sample-2.txt").contains("boxes are dry"), "{}", read("sample-2.txt"));
}

#[test]
fn the_transcript_is_the_same_with_one_worker_and_with_four_with_one_model_and_with_four() {
    let whisperq = Whisperq::new();
    let long = whisperq.path("long.wav");
    long_recording(&long, 100);
    let long = long.display().to_string();
    let transcript = |workers: &str, instances: &str| {
        let mut command = whisperq.command(&["transcribe", &long, "--format", "verbose_json"]);
        let output = command.env("WORKER_COUNT", workers).env("MODEL_INSTANCES", instances).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let alone = transcript("1", "1");
    assert!(alone.len() > 1_000, "{alone}");
    assert_eq!(transcript("4", "1"), alone);
    assert_eq!(transcript("4", "4"), alone);
    assert_four_workers_at_once(&whisperq);
    assert_no_more_computed_at_once_than_there_are_cores(&whisperq);
}

#[test]
fn a_machine_that_trusts_no_certificates_can_work_on_its_own_files() {
    let whisperq = Whisperq::new();
    let transcribe = |recording: &str| {
        let mut command = whisperq.command(&["transcribe", recording]);
        let settings = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| (name, "/nowhere"));
        command.envs(settings).envs([("MAX_ATTEMPTS", "1"), ("ALLOW_PRIVATE_URLS", "true")]);
        command.output().unwrap()
    };
    assert!(transcribe(&sample()).status.success());
    let refused = transcribe("https://127.0.0.1:1/a.mp3");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && message.contains("No CA certificates"), "{message}");
}

#[test]
fn everything_is_in_the_database_file_when_a_command_has_ended() {
    let whisperq = Whisperq::new();
    whisperq.output(&["transcribe", &sample()]);
    let files = std::fs::read_dir(whisperq.path("data")).unwrap();
    let mut files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|name| name.starts_with("whisperq.db"));
    assert_eq!(files, ["whisperq.db"], "no log of what is not yet in it");
}

#[test]
fn four_workers_share_the_weights_and_those_without_work_do_not_start() {
    let whisperq = Whisperq::new();
    let models_and_states = |recording: &str| {
        let mut command = whisperq.command(&["transcribe", recording]);
        let output = command.env("RUST_LOG", "debug").env("WORKER_COUNT", "4").output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        ["whisper_model_load: loading model", "whisper_init_state: kv self"].map(|line| log.matches(line).count())
    };
    assert_eq!(models_and_states(&sample()), [1, 1], "there is one chunk");
    let of_length = |seconds| {
        let path = whisperq.path("long.wav");
        long_recording(&path, seconds);
        models_and_states(&path.display().to_string())
    };
    assert_eq!(of_length(16), [1, 2], "there are two chunks");
    assert_eq!(of_length(100)[0], 1);
    assert_four_workers_at_once(&whisperq);
}

/// The chunks of the last job were claimed by four workers, and at one moment all four had one.
fn assert_four_workers_at_once(whisperq: &Whisperq) {
    let overlaps = whisperq.sql(
        "select count(distinct b.worker_id) as workers from chunks a join chunks b
             on a.job_id = b.job_id and b.kind = 'transcribe'
             and b.started_at_ms <= a.started_at_ms and b.finished_at_ms > a.started_at_ms
         where a.kind = 'transcribe' group by a.job_id, a.process_id, a.worker_id, a.seq order by 1 desc limit 1",
    );
    assert_eq!(overlaps[0]["workers"], 4, "{overlaps:?}");
}

/// The engine's time of a chunk ends where the record of it begins, and the next one begins after that.
fn assert_no_more_computed_at_once_than_there_are_cores(whisperq: &Whisperq) {
    let overlaps = whisperq.sql(
        "select count(*) as chunks from chunks a join chunks b on a.job_id = b.job_id and a.process_id = b.process_id
             and b.finished_at_ms - b.engine_ms <= a.finished_at_ms - a.engine_ms
             and b.finished_at_ms > a.finished_at_ms - a.engine_ms + 5
         where a.kind = 'transcribe' and b.kind = 'transcribe'
         group by a.process_id, a.worker_id, a.seq order by 1 desc limit 1",
    );
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(overlaps[0]["chunks"].as_u64() <= Some(cores), "{overlaps:?}");
}

#[test]
fn jobs_and_workers_can_be_looked_at_afterwards() {
    let whisperq = Whisperq::new();
    whisperq.output(&["transcribe", &sample()]);
    let listed = whisperq.output(&["jobs", "list", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(listed[0]["status"], "completed");
    let shown: Value = serde_json::from_str(&whisperq.output(&["jobs", "show", id])).unwrap();
    assert_eq!((shown["progress"].as_f64(), shown["model"].as_str()), (Some(1.0), Some("tiny.en")));
    assert!(shown["error"].is_null() && shown["execution_time_ms"].as_i64() > Some(0), "{shown}");
    assert!(whisperq.output(&["system"]).contains("completed  1"), "{}", whisperq.output(&["system"]));
    let csv = whisperq.output(&["sql", "select job_id, n, text from segments order by n", "--format", "csv"]);
    assert!(csv.starts_with("job_id,n,text\n") && csv.contains("warehouse"), "{csv}");
}

#[test]
fn logs_name_job_task_and_worker_and_can_be_json() {
    let whisperq = Whisperq::new();
    let mut command = whisperq.command(&["transcribe", &sample()]);
    let output = command.env("RUST_LOG", "whisperq=debug").env("LOG_FORMAT", "json").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let transcribed = lines.iter().find(|line| line["fields"]["message"] == "transcribed").unwrap();
    for name in ["job", "task", "worker"] {
        assert!(!transcribed["span"][name].is_null(), "{name} in {transcribed}");
    }
}
