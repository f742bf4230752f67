//! A Whisper model of one narrow layer a side, as CTranslate2 stores it: 7 MB, loads nowhere, has all the parts.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use half::f16;
use tempfile::TempDir;
use zip::write::{SimpleFileOptions, ZipWriter};

pub(super) const STATE: u32 = 64;
pub(super) const VOCAB: u32 = 51_864;
const F32: u8 = 0;
const I16: u8 = 2;
const F16: u8 = 4;

pub(super) struct Variable {
    pub(super) name: String,
    pub(super) shape: Vec<u32>,
    pub(super) code: u8,
    pub(super) data: Vec<u8>,
}

pub(super) struct Conversion {
    pub(super) version: u32,
    pub(super) spec: &'static str,
    pub(super) variables: Vec<Variable>,
    pub(super) tokens: Vec<String>,
}

impl Conversion {
    pub(super) fn new() -> Self {
        let tokens = (0..VOCAB).map(|id| format!("Ġ{id}")).collect();
        let mut conversion = Self { version: 6, spec: "WhisperSpec", variables: Vec::new(), tokens };
        conversion.add("encoder/conv1/weight", &[STATE, 80, 3]);
        conversion.add("encoder/conv1/bias", &[STATE]);
        conversion.add("encoder/conv2/weight", &[STATE, STATE, 3]);
        conversion.add("encoder/conv2/bias", &[STATE]);
        conversion.add("encoder/position_encodings/encodings", &[1500, STATE]);
        conversion.add("decoder/embeddings/weight", &[VOCAB, STATE]);
        conversion.add("decoder/position_encodings/encodings", &[448, STATE]);
        for side in ["encoder", "decoder"] {
            conversion.add_side(side);
        }
        for (linear, parts) in [("linear_0", 1), ("linear_1", 2), ("linear_2", 1)] {
            conversion.add_linear(&format!("decoder/layer_0/attention/{linear}"), parts * STATE, STATE);
        }
        conversion.add_norm("decoder/layer_0/attention/layer_norm");
        conversion
    }

    fn add_side(&mut self, side: &str) {
        let heads = Variable { name: format!("{side}/num_heads"), shape: vec![], code: I16, data: vec![1, 0] };
        self.variables.push(heads);
        self.add_norm(&format!("{side}/layer_norm"));
        self.add_norm(&format!("{side}/layer_0/self_attention/layer_norm"));
        self.add_linear(&format!("{side}/layer_0/self_attention/linear_0"), 3 * STATE, STATE);
        self.add_linear(&format!("{side}/layer_0/self_attention/linear_1"), STATE, STATE);
        self.add_norm(&format!("{side}/layer_0/ffn/layer_norm"));
        self.add_linear(&format!("{side}/layer_0/ffn/linear_0"), 4 * STATE, STATE);
        self.add_linear(&format!("{side}/layer_0/ffn/linear_1"), STATE, 4 * STATE);
    }

    fn add_norm(&mut self, name: &str) {
        self.add(&format!("{name}/gamma"), &[STATE]);
        self.add(&format!("{name}/beta"), &[STATE]);
    }

    fn add_linear(&mut self, name: &str, outputs: u32, inputs: u32) {
        self.add(&format!("{name}/weight"), &[outputs, inputs]);
        self.add(&format!("{name}/bias"), &[outputs]);
    }

    /// Small whole numbers, which f16 holds exactly, other ones for each variable and row.
    fn add(&mut self, name: &str, shape: &[u32]) {
        let (start, elements) = (31 * self.variables.len() as u32, shape.iter().product::<u32>());
        let data =
            (0..elements).flat_map(|index| f16::from_f32(((start + index / 7) % 2048) as f32).to_le_bytes()).collect();
        self.variables.push(Variable { name: name.to_string(), shape: shape.to_vec(), code: F16, data });
    }

    pub(super) fn variable(&mut self, name: &str) -> &mut Variable {
        self.variables.iter_mut().find(|variable| variable.name == name).unwrap()
    }

    pub(super) fn widened(mut self) -> Self {
        for variable in self.variables.iter_mut().filter(|variable| variable.code == F16) {
            let values = variable.data.chunks(2).map(|value| f16::from_le_bytes([value[0], value[1]]).to_f32());
            variable.data = values.flat_map(f32::to_le_bytes).collect();
            variable.code = F32;
        }
        self
    }

    pub(super) fn model_bin(&self) -> Vec<u8> {
        let mut bytes = self.version.to_le_bytes().to_vec();
        push_string(&mut bytes, self.spec);
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.variables.len() as u32).to_le_bytes());
        for variable in &self.variables {
            push_string(&mut bytes, &variable.name);
            bytes.push(variable.shape.len() as u8);
            bytes.extend(variable.shape.iter().flat_map(|dim| dim.to_le_bytes()));
            bytes.push(variable.code);
            bytes.extend((variable.data.len() as u32).to_le_bytes());
            bytes.extend(&variable.data);
        }
        bytes.extend(1_u32.to_le_bytes());
        push_string(&mut bytes, "decoder/projection/weight");
        push_string(&mut bytes, "decoder/embeddings/weight");
        bytes
    }

    /// The conversion with its vocabulary as text, one token a line.
    pub(super) fn folder(&self) -> TempDir {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("model.bin"), self.model_bin()).unwrap();
        fs::write(folder.path().join("vocabulary.txt"), self.tokens.join("\n")).unwrap();
        folder
    }

    /// The conversion stored in a wheel, with its vocabulary as JSON.
    pub(super) fn wheel(&self, folder: &Path) -> PathBuf {
        let path = folder.join("package-1.0-py3-none-any.whl");
        let mut wheel = ZipWriter::new(File::create(&path).unwrap());
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, bytes) in [
            ("package/__init__.py", Vec::new()),
            ("package/other_model.bin", Vec::new()),
            ("package/data/vocabulary.json", serde_json::to_vec(&self.tokens).unwrap()),
            ("package/data/model.bin", self.model_bin()),
        ] {
            wheel.start_file(name, stored).unwrap();
            wheel.write_all(&bytes).unwrap();
        }
        wheel.finish().unwrap();
        path
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u16 + 1).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The vocabulary of a ggml file, and where its tensors begin.
pub(super) fn vocabulary(ggml: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut at = 56 + 80 * 201 * 4;
    let count = u32_at(ggml, at);
    at += 4;
    let mut tokens = Vec::new();
    for _ in 0..count {
        let end = at + 4 + u32_at(ggml, at) as usize;
        tokens.push(&ggml[at + 4..end]);
        at = end;
    }
    (tokens, at)
}

pub(super) fn tensors_at(ggml: &[u8]) -> usize {
    vocabulary(ggml).1
}

/// Shape in ggml's order and data of one tensor.
pub(super) fn tensor<'a>(ggml: &'a [u8], wanted: &str) -> (Vec<u32>, &'a [u8]) {
    let mut at = tensors_at(ggml);
    while at < ggml.len() {
        let (rank, name_bytes, kind) = (u32_at(ggml, at) as usize, u32_at(ggml, at + 4) as usize, u32_at(ggml, at + 8));
        let dims: Vec<u32> = (0..rank).map(|axis| u32_at(ggml, at + 12 + 4 * axis)).collect();
        let name_at = at + 12 + 4 * rank;
        let data_at = name_at + name_bytes;
        let data_bytes = dims.iter().product::<u32>() as usize * if kind == 1 { 2 } else { 4 };
        if &ggml[name_at..data_at] == wanted.as_bytes() {
            return (dims, &ggml[data_at..data_at + data_bytes]);
        }
        at = data_at + data_bytes;
    }
    panic!("no tensor {wanted}");
}
