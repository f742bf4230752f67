//! The tensors that a Whisper model of given sizes must have, by their ggml names. Both the check of a file and the
//! import write from this one list; it says nothing of where the bytes lie.

use super::header::{F16, F32, Header, WeightType};

/// A tensor's place in the model.
#[derive(Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Fastest-moving first, as ggml has them.
    pub(super) dims: Vec<u32>,
    pub(super) weights: &'static WeightType,
}

impl Tensor {
    pub(super) fn elements(&self) -> u64 {
        self.dims.iter().map(|&dim| u64::from(dim)).product()
    }
}

/// Kernel width of both convolutions.
const KERNEL: u32 = 3;

/// All tensors of the model; `matrix` is the storage of its large matrices.
pub(super) fn tensors(header: &Header, matrix: &'static WeightType) -> Vec<Tensor> {
    let state = header.n_audio_state;
    let mut builder = Builder { matrix, tensors: Vec::new() };
    builder.add("encoder.positional_embedding", &[state, header.n_audio_ctx], &F32);
    builder.convolution("encoder.conv1", header.n_mels, state);
    builder.convolution("encoder.conv2", state, state);
    builder.norm("encoder.ln_post", state);
    for layer in 0..header.n_audio_layer {
        builder.block(&format!("encoder.blocks.{layer}"), &["attn"], state);
    }
    builder.add("decoder.positional_embedding", &[state, header.n_text_ctx], &F32);
    builder.add("decoder.token_embedding.weight", &[state, header.n_vocab], matrix);
    builder.norm("decoder.ln", state);
    for layer in 0..header.n_text_layer {
        builder.block(&format!("decoder.blocks.{layer}"), &["attn", "cross_attn"], state);
    }
    builder.tensors
}

struct Builder {
    matrix: &'static WeightType,
    tensors: Vec<Tensor>,
}

impl Builder {
    fn add(&mut self, name: &str, dims: &[u32], weights: &'static WeightType) {
        self.tensors.push(Tensor { name: name.to_string(), dims: dims.to_vec(), weights });
    }

    fn norm(&mut self, name: &str, width: u32) {
        self.add(&format!("{name}.weight"), &[width], &F32);
        self.add(&format!("{name}.bias"), &[width], &F32);
    }

    fn linear(&mut self, name: &str, inputs: u32, outputs: u32) {
        self.add(&format!("{name}.weight"), &[inputs, outputs], self.matrix);
        self.add(&format!("{name}.bias"), &[outputs], &F32);
    }

    /// Convolutions are never quantized, and their bias is a column.
    fn convolution(&mut self, name: &str, inputs: u32, outputs: u32) {
        let weights = if *self.matrix == F32 { &F32 } else { &F16 };
        self.add(&format!("{name}.weight"), &[KERNEL, inputs, outputs], weights);
        self.add(&format!("{name}.bias"), &[1, outputs], &F32);
    }

    fn block(&mut self, name: &str, attentions: &[&str], state: u32) {
        for attention in attentions {
            self.norm(&format!("{name}.{attention}_ln"), state);
            self.linear(&format!("{name}.{attention}.query"), state, state);
            // The key alone has no bias: it would cancel out in the softmax.
            self.add(&format!("{name}.{attention}.key.weight"), &[state, state], self.matrix);
            self.linear(&format!("{name}.{attention}.value"), state, state);
            self.linear(&format!("{name}.{attention}.out"), state, state);
        }
        self.norm(&format!("{name}.mlp_ln"), state);
        self.linear(&format!("{name}.mlp.0"), state, 4 * state);
        self.linear(&format!("{name}.mlp.2"), 4 * state, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::header::tests::tiny_en;

    #[test]
    fn the_tiny_model_has_the_tensors_that_whisper_cpp_counts() {
        let tensors = tensors(&tiny_en(), &F16);
        assert_eq!(tensors.len(), 11 + 15 * 4 + 24 * 4);
        let data_bytes: u64 = tensors.iter().filter_map(|tensor| tensor.weights.bytes_of(tensor.elements())).sum();
        assert_eq!(data_bytes, 77_110_272);
    }

    #[test]
    fn quantization_spares_convolutions_and_vectors() {
        let q5_1 = Header { ftype: 9, ..tiny_en() };
        for tensor in tensors(&q5_1, q5_1.weight_type().unwrap()) {
            let name = match tensor.name.as_str() {
                "encoder.conv1.weight" | "encoder.conv2.weight" => "f16",
                name if name.ends_with(".bias") || name.contains("ln") || name.contains("positional") => "f32",
                _ => "q5_1",
            };
            assert_eq!(tensor.weights.name, name, "{}", tensor.name);
        }
    }
}
