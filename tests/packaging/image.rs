//! `runpod/Dockerfile`: what it copies is there and is sent to the builder, what it starts from is pinned, and its settings
//! are those of the other builds.

use std::fs;
use std::path::Path;

use super::read;

/// The instructions, each on one line, without comments.
fn instructions() -> Vec<String> {
    let file = read("runpod/Dockerfile");
    let lines: Vec<&str> = file.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

/// The rest of every instruction of one kind.
fn of(kind: &str) -> Vec<String> {
    instructions().iter().filter_map(|line| Some(line.strip_prefix(kind)?.trim().to_owned())).collect()
}

/// What is copied from the repository.
fn sources() -> Vec<String> {
    let copies = of("COPY ").into_iter().filter(|copy| !copy.starts_with("--from="));
    copies.flat_map(|copy| copy.rsplit_once(' ').unwrap().0.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn what_the_image_copies_is_there_and_is_not_ignored() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = read(".dockerignore");
    let kept: Vec<&str> = kept.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let sources = sources();
    assert!(sources.len() > 5);
    for source in &sources {
        assert!(root.join(source).exists(), "{source} is not there");
        assert!(kept.contains(&source.as_str()), "{source} is ignored: name it in .dockerignore");
    }
}

#[test]
fn stages_start_from_one_pinned_version_and_copy_from_stages_that_there_are() {
    let pinned = of("ARG CUDA_VERSION=");
    let [version] = &pinned[..] else { panic!("{pinned:?}") };
    assert!(version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    let stages = of("FROM ");
    let names: Vec<&str> = stages.iter().map(|stage| stage.rsplit_once(" AS ").unwrap().1).collect();
    for (n, stage) in stages.iter().enumerate() {
        let base = stage.split(' ').next().unwrap();
        let from_nvidia = base.starts_with("nvidia/cuda:${CUDA_VERSION}-") && base.ends_with("-ubuntu24.04");
        assert!(from_nvidia || names[..n].contains(&base), "{stage}");
    }
    for copy in of("COPY --from=") {
        assert!(names.contains(&copy.split(' ').next().unwrap()), "{copy}");
    }
}

#[test]
fn the_engine_is_built_for_the_same_cpus_as_the_portable_binary() {
    let makefile = read("Makefile");
    let flags = makefile.lines().filter_map(|line| line.strip_prefix("portable: export GGML_"));
    let mut flags: Vec<String> = flags.map(|flag| format!("GGML_{}", flag.replace(" := ", "="))).collect();
    let settings = of("ENV ").join(" ");
    let mut set: Vec<String> = settings
        .split(' ')
        .filter(|set| set.starts_with("GGML_") && !set.starts_with("GGML_CUDA"))
        .map(str::to_owned)
        .collect();
    flags.sort();
    set.sort();
    assert_eq!(set, flags);
}

#[test]
fn the_worker_is_the_first_process_and_its_data_is_not_on_the_volume() {
    assert_eq!(of("ENTRYPOINT "), ["[]"]);
    assert_eq!(of("CMD "), [r#"["whisperq", "runpod"]"#]);
    assert!(of("USER ").is_empty(), "the tests of the Hub install packages");
    let settings = of("ENV ").join(" ");
    let data_dir = settings.split(' ').find_map(|set| set.strip_prefix("DATA_DIR=")).unwrap();
    assert!(Path::new(data_dir).is_absolute() && !data_dir.starts_with("/runpod-volume"), "{data_dir}");
}

#[test]
fn the_hub_finds_the_same_image_a_handler_and_a_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(
        fs::canonicalize(root.join(".runpod/Dockerfile")).unwrap(),
        root.join("runpod/Dockerfile").canonicalize().unwrap()
    );
    assert!(read(".runpod/handler.py").contains(r#"os.execvp("whisperq", ["whisperq", "runpod"])"#));
    assert!(root.join("README.md").exists());
}

#[test]
fn every_image_has_the_library_that_the_engine_shares_its_work_out_with() {
    assert!(read("runpod/Dockerfile").contains(" libgomp1"));
    assert!(read("infra/Dockerfile").contains(" libgomp "));
}

#[test]
fn every_image_is_built_with_the_settings_of_the_engine() {
    for image in ["runpod/Dockerfile", "infra/Dockerfile"] {
        assert!(read(image).contains("\nCOPY .cargo .cargo\n"), "{image}");
    }
}
