//! Writes whisper.cpp's ggml layout, in the order that its loader reads: header, mel filters, vocabulary, tensors.

use std::io::Write;

use anyhow::Context;
use half::f16;

use super::ctranslate2::Element;
use super::mel;
use crate::error::Result;
use crate::models::file::FREQUENCY_BINS;
use crate::models::header::{F16, Header};
use crate::models::layout::Tensor;

/// A model under way; tensors may come in any order.
pub(super) struct Writer<'a, W: Write> {
    out: &'a mut W,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Writes all that stands before the tensors.
    pub(super) fn new(out: &'a mut W, header: &Header, vocabulary: &[Vec<u8>]) -> Result<Self> {
        let mut writer = Self { out };
        header.write(writer.out).context("Failed to write the model")?;
        writer.filters(header.n_mels)?;
        writer.number(vocabulary.len())?;
        for token in vocabulary {
            writer.number(token.len())?;
            writer.bytes(token)?;
        }
        Ok(writer)
    }

    /// Writes one tensor, whose `values` are little-endian numbers of the given kind.
    pub(super) fn tensor(&mut self, tensor: &Tensor, element: Element, values: &[u8]) -> Result<()> {
        self.number(tensor.dims.len())?;
        self.number(tensor.name.len())?;
        self.number(tensor.weights.tensor_type as usize)?;
        tensor.dims.iter().try_for_each(|&dim| self.number(dim as usize))?;
        self.bytes(tensor.name.as_bytes())?;
        match (element, *tensor.weights == F16) {
            (Element::F16, true) | (Element::F32, false) => self.bytes(values),
            (Element::F16, false) => self.bytes(&widened(values)),
            (_, _) => self.bytes(&narrowed(values)),
        }
    }

    fn filters(&mut self, bands: u32) -> Result<()> {
        self.number(bands as usize)?;
        self.number(FREQUENCY_BINS as usize)?;
        let values: Vec<u8> = mel::filters(bands as usize).into_iter().flat_map(f32::to_le_bytes).collect();
        self.bytes(&values)
    }

    /// Every count in the format has 32 bits.
    fn number(&mut self, value: usize) -> Result<()> {
        let value = u32::try_from(value).context("a count is too large for the format")?;
        self.bytes(&value.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes).context("Failed to write the model")?)
    }
}

fn widened(values: &[u8]) -> Vec<u8> {
    let (values, _) = values.as_chunks::<2>();
    values.iter().flat_map(|&value| f16::from_le_bytes(value).to_f32().to_le_bytes()).collect()
}

fn narrowed(values: &[u8]) -> Vec<u8> {
    let (values, _) = values.as_chunks::<4>();
    values.iter().flat_map(|&value| f16::from_f32(f32::from_le_bytes(value)).to_le_bytes()).collect()
}
