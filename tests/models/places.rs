//! Which of several copies of a model is taken: RunPod's cache before the model folder before the volume, whole ones
//! before broken ones, and what a repository alone can name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use whisperq::models::{self, Hub, Places};

use super::{assert_config, folder_with};

const REVISION: &str = "5359861c739e955e79d9a303bcbc70fb988958b1";

/// A model folder and a volume, both empty.
struct Machine {
    folder: TempDir,
    model: PathBuf,
    _source: TempDir,
}

impl Machine {
    fn new() -> Self {
        let (source, model) = folder_with("source");
        let folder = TempDir::new().unwrap();
        for name in ["models", "volume"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, model, _source: source }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A whole model at `path`.
    fn put(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(&self.model, &path).unwrap();
        path
    }

    /// A whole model in the cache, as the hub's own tools lay it out: links to blobs.
    fn cache(&self, repository: &str, revision: &str, file: &str) -> PathBuf {
        let cached = format!("volume/huggingface-cache/hub/models--{}", repository.replace('/', "--"));
        let blob = self.put(&format!("{cached}/blobs/{file}-{revision}"));
        let link = self.path(&format!("{cached}/snapshots/{revision}/{file}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(blob, &link).unwrap();
        link
    }

    fn main_is(&self, repository: &str, revision: &str) {
        let cached = format!("volume/huggingface-cache/hub/models--{}", repository.replace('/', "--"));
        fs::create_dir_all(self.path(&format!("{cached}/refs"))).unwrap();
        fs::write(self.path(&format!("{cached}/refs/main")), format!("{revision}\n")).unwrap();
    }

    fn locate(&self, name: &str) -> whisperq::error::Result<(String, PathBuf)> {
        let (model_dir, volume) = (&self.path("models"), &self.path("volume"));
        models::locate(Places { model_dir, volume }, name).map(|model| (model.name, model.path))
    }

    #[track_caller]
    fn assert_located(&self, asked: &str, name: &str, path: &Path) {
        assert_eq!(self.locate(asked).unwrap(), (name.to_owned(), path.to_owned()));
    }
}

#[test]
fn the_cache_comes_first_then_the_model_folder_then_the_volume() {
    let machine = Machine::new();
    let turbo = "large-v3-turbo";
    assert_config(machine.locate("turbo"), "run `whisperq models pull large-v3-turbo`");
    machine.assert_located("turbo", turbo, &machine.put("volume/ggml-large-v3-turbo.bin"));
    machine.assert_located("turbo", turbo, &machine.put("volume/models/ggml-large-v3-turbo.bin"));
    machine.assert_located("turbo", turbo, &machine.put("models/ggml-large-v3-turbo.bin"));
    let cached = machine.cache("ggerganov/whisper.cpp", REVISION, "ggml-large-v3-turbo.bin");
    machine.assert_located("turbo", turbo, &cached);
}

#[test]
fn a_broken_file_is_passed_over_where_there_is_a_whole_one_and_named_where_there_is_none() {
    let machine = Machine::new();
    let cached = machine.cache("ggerganov/whisper.cpp", REVISION, "ggml-base.bin");
    fs::write(fs::canonicalize(&cached).unwrap(), "half a model").unwrap();
    let refusal = machine.locate("base").unwrap_err().to_string();
    assert!(refusal.contains(cached.to_str().unwrap()) && refusal.contains("cannot be used"), "{refusal}");
    machine.assert_located("base", "base", &machine.put("volume/ggml-base.bin"));
}

#[test]
fn the_main_revision_is_taken_and_without_one_the_first() {
    let machine = Machine::new();
    let first = machine.cache("o/r", "0000", "ggml-small.bin");
    let main = machine.cache("o/r", REVISION, "ggml-small.bin");
    machine.assert_located("small", "small", &first);
    machine.main_is("o/r", REVISION);
    machine.assert_located("small", "small", &main);
    machine.assert_located("o/r/ggml-small.bin", "o/r/ggml-small.bin", &main);
    for elsewhere in ["../../blobs", "", "gone"] {
        machine.main_is("o/r", elsewhere);
        machine.assert_located("small", "small", &first);
    }
}

#[test]
fn a_repository_alone_names_its_one_ggml_file() {
    let machine = Machine::new();
    assert_config(machine.locate("Someone/Whisper-ggml"), "choose it as the endpoint's model");
    machine.cache("someone/whisper-ggml", REVISION, "config.json");
    assert_config(machine.locate("Someone/Whisper-ggml"), "no ggml-….bin file");
    let file = machine.cache("someone/whisper-ggml", REVISION, "ggml-model-q5_0.bin");
    machine.assert_located("Someone/Whisper-ggml", "Someone/Whisper-ggml/ggml-model-q5_0.bin", &file);
    machine.cache("someone/whisper-ggml", REVISION, "ggml-model.bin");
    assert_config(machine.locate("Someone/Whisper-ggml"), "ggml-model-q5_0.bin, ggml-model.bin: set MODEL_NAME");
}

#[test]
fn a_file_of_a_repository_is_found_where_it_was_pulled_to() {
    let machine = Machine::new();
    let name = "o/r/ggml-small.bin";
    machine.assert_located(name, name, &machine.put("volume/models/o--r--ggml-small.bin"));
    machine.assert_located(name, name, &machine.put("models/o--r--ggml-small.bin"));
    let path = machine.put("anywhere/ggml-mine.bin");
    machine.assert_located(path.to_str().unwrap(), "mine", &path);
}

#[test]
fn what_is_nowhere_is_pulled_into_the_model_folder_and_only_where_it_can_be() {
    let machine = Machine::new();
    let (model_dir, volume) = (&machine.path("models"), &machine.path("volume"));
    let bring = |name: &str, endpoint: &str| {
        models::locate_or_pull(Places { model_dir, volume }, name, Hub { endpoint, token: None })
    };
    let hub = super::pull::FakeHub::with_file(fs::read(&machine.model).unwrap());
    let pulled = bring("tiny-q5_1", &hub.endpoint).unwrap();
    assert_eq!(pulled.path, machine.path("models/ggml-tiny-q5_1.bin"));
    assert_eq!(bring("tiny-q5_1", "no address at all").unwrap(), pulled);
    for (name, says) in [("o/r", "choose it as"), ("/x/ggml-a.bin", "there is no model file"), ("tinny", "use one of")]
    {
        assert_config(bring(name, "no address at all"), says);
    }
}
