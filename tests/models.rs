//! Model files: found, listed and verified as they are, and refused where the engine would fall over them.

mod import;
mod places;
mod pull;
mod synthetic;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use whisperq::error::Error;
use whisperq::models::{self, Verdict};

use synthetic::Conversion;

/// A model folder with one small, whole model in it.
fn folder_with(name: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let source = Conversion::new().folder();
    let path = models::import(folder.path(), source.path(), name).unwrap();
    (folder, path)
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_config<T: std::fmt::Debug>(result: Result<T, Error>, words: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_model_is_found_by_its_name_and_by_its_path() {
    let (folder, path) = folder_with("tiny.en");
    let by_name = models::find(folder.path(), "tiny.en").unwrap();
    let by_path = models::find(Path::new("/nowhere"), path.to_str().unwrap()).unwrap();
    assert_eq!(by_name, by_path);
    assert_eq!((by_name.name.as_str(), by_name.path), ("tiny.en", path));
    assert_eq!((by_name.header.n_mels, by_name.header.n_text_layer), (80, 1));
    assert!(!by_name.header.multilingual());
}

#[test]
fn a_missing_model_says_what_to_run() {
    let folder = TempDir::new().unwrap();
    let find = |name| models::find(folder.path(), name);
    assert_config(find("tiny.en"), "run `whisperq models pull tiny.en`");
    assert_config(find("turbo"), "run `whisperq models pull large-v3-turbo`");
    assert_config(find("a/b/ggml-c.bin"), "run `whisperq models pull a/b/ggml-c.bin`");
    assert_config(find("/srv/ggml-c.bin"), "there is no model file /srv/ggml-c.bin");
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let folder = TempDir::new().unwrap();
    assert_config(models::find(folder.path(), "tinny"), "there is no model tinny: use one of tiny, tiny.en,");
}

#[test]
fn a_file_that_is_too_short_or_too_long_is_refused() {
    let (folder, path) = folder_with("tiny.en");
    let whole = fs::read(&path).unwrap();
    let filters_end = 56 + 80 * 201 * 4;
    for length in [0, 3, 47, 48, 1000, filters_end, filters_end + 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_config(models::find(folder.path(), "tiny.en"), "cannot be used");
    }
    fs::write(&path, [whole.as_slice(), b"\0"].concat()).unwrap();
    assert_config(models::find(folder.path(), "tiny.en"), "it ends too early");
}

#[test]
fn a_garbled_file_is_refused_with_the_reason() {
    let (folder, path) = folder_with("tiny.en");
    let whole = fs::read(&path).unwrap();
    let tokens_at = 56 + 80 * 201 * 4;
    let tensors_at = synthetic::tensors_at(&whole);
    let check = |at: usize, byte: u8, reason: &str| {
        let mut spoiled = whole.clone();
        spoiled[at] = byte;
        fs::write(&path, spoiled).unwrap();
        assert_config(models::find(folder.path(), "tiny.en"), reason);
    };
    check(0, b'?', "not a ggml file");
    check(8, 0, "audio context");
    check(48, 81, "mel filters");
    check(52, 200, "mel filters");
    check(tokens_at + 3, 1, "vocabulary has");
    check(tensors_at, 4, "garbled");
    check(tensors_at + 5, 1, "garbled");
    check(tensors_at + 8, 8, "type 8");
    check(tensors_at + 12, 63, "shape");
    check(tensors_at + 24, b'x', "not a model's");
}

#[test]
fn a_model_without_all_of_its_tensors_or_with_one_twice_is_refused() {
    let (folder, path) = folder_with("tiny.en");
    let whole = fs::read(&path).unwrap();
    let tensors_at = synthetic::tensors_at(&whole);
    fs::write(&path, &whole[..tensors_at]).unwrap();
    assert_config(models::find(folder.path(), "tiny.en"), "it lacks 50 of its tensors");
    fs::write(&path, [&whole, &whole[tensors_at..]].concat()).unwrap();
    assert_config(models::find(folder.path(), "tiny.en"), "is there twice");
}

#[test]
fn a_list_shows_whole_models_and_why_others_are_broken() {
    let (folder, _) = folder_with("tiny.en");
    fs::write(folder.path().join("ggml-base.bin"), b"<html>").unwrap();
    fs::write(folder.path().join("notes.txt"), b"").unwrap();
    fs::create_dir(folder.path().join("ggml-folder.bin")).unwrap();
    let models = models::list(folder.path()).unwrap();
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["base", "tiny.en"]);
    assert_eq!(models[0].header, Err("it is not a ggml file".to_string()));
    let header = models[1].header.as_ref().unwrap();
    assert_eq!((header.quantization(), header.file_bytes), ("f16", models[1].file_bytes));
}

#[test]
fn a_folder_that_is_not_there_has_no_models() {
    assert!(models::list(Path::new("/nowhere/at/all")).unwrap().is_empty());
}

#[test]
fn a_changed_weight_is_noticed_by_its_sum_alone() {
    let (folder, path) = folder_with("mine");
    let verdict = || models::verify(folder.path(), None).unwrap().remove(0).verdict;
    assert_eq!(verdict(), Verdict::Matches);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(models::find(folder.path(), "mine").is_ok());
    assert!(matches!(verdict(), Verdict::Broken(reason) if reason.contains("SHA-1")));
}

#[test]
fn a_file_without_a_noted_sum_is_held_against_the_published_one() {
    let (folder, path) = folder_with("tiny.en");
    fs::remove_file(folder.path().join("ggml-tiny.en.bin.sha1")).unwrap();
    let verified = models::verify(folder.path(), Some("tiny.en")).unwrap();
    let Verdict::Broken(reason) = &verified[0].verdict else { panic!("{verified:?}") };
    assert!(reason.ends_with("not c78c86eb1a8faa21b369bcd33207cc90d64ae9df"), "{reason}");

    fs::rename(path, folder.path().join("ggml-mine.bin")).unwrap();
    assert_eq!(models::verify(folder.path(), Some("mine")).unwrap()[0].verdict, Verdict::NoSum);
}

#[test]
fn verify_tells_of_missing_and_of_malformed_files() {
    let (folder, path) = folder_with("tiny.en");
    fs::write(path, b"<html>").unwrap();
    let verified = models::verify(folder.path(), None).unwrap();
    assert_eq!(verified[0].verdict, Verdict::Broken("it is not a ggml file".to_string()));
    assert_config(models::verify(folder.path(), Some("base")), "models pull base");
}
