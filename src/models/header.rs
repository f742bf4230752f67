//! The first 48 bytes of a ggml model: its sizes and how its weights are stored. The rules here are what whisper.cpp
//! takes for granted without checking; the rest of the file is `file`'s.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};

/// The letters "ggml", little-endian.
const MAGIC: u32 = 0x6767_6d6c;
/// English-only models; one more token makes a multilingual model, two more the large-v3 family. The engine derives the
/// ids of its control tokens from this number, so any other would have it read outside its tables.
const ENGLISH_VOCAB: u32 = 51_864;
const LARGE_V3_VOCAB: u32 = 51_866;
/// 30 s of audio in steps of 20 ms; the engine always fills this window.
const AUDIO_CTX: u32 = 1500;
const TEXT_CTX: u32 = 448;
/// The large models' depth, beyond which nothing was ever published.
const MAX_LAYERS: u32 = 32;
/// Every Whisper model splits its state into heads of this width; large has 20 of them.
const HEAD_WIDTH: u32 = 64;
const MAX_HEADS: u32 = 20;
/// The stored type is this many times the quantization's version, plus the type.
const VERSION_FACTOR: u32 = 1000;

/// How the weights of one kind are stored: blocks of elements in a fixed number of bytes.
#[derive(Debug, PartialEq)]
pub(super) struct WeightType {
    pub(super) name: &'static str,
    /// The id in the file's header.
    ftype: u32,
    /// The id in front of each tensor, which is another numbering.
    pub(super) tensor_type: u32,
    block_elements: u64,
    block_bytes: u64,
}

const fn weight_type(
    name: &'static str,
    ftype: u32,
    tensor_type: u32,
    block_elements: u64,
    block_bytes: u64,
) -> WeightType {
    WeightType { name, ftype, tensor_type, block_elements, block_bytes }
}

pub(super) static F32: WeightType = weight_type("f32", 0, 0, 1, 4);
pub(super) static F16: WeightType = weight_type("f16", 1, 1, 1, 2);
static QUANTIZED: [WeightType; 10] = [
    weight_type("q4_0", 2, 2, 32, 18),
    weight_type("q4_1", 3, 3, 32, 20),
    weight_type("q8_0", 7, 8, 32, 34),
    weight_type("q5_0", 8, 6, 32, 22),
    weight_type("q5_1", 9, 7, 32, 24),
    weight_type("q2_k", 10, 10, 256, 84),
    weight_type("q3_k", 11, 11, 256, 110),
    weight_type("q4_k", 12, 12, 256, 144),
    weight_type("q5_k", 13, 13, 256, 176),
    weight_type("q6_k", 14, 14, 256, 210),
];

impl WeightType {
    fn of_ftype(ftype: u32) -> Option<&'static Self> {
        [&F32, &F16].into_iter().chain(&QUANTIZED).find(|known| known.ftype == ftype)
    }

    /// Bytes that this many elements take, or nothing where they do not fill whole blocks.
    pub(super) fn bytes_of(&self, elements: u64) -> Option<u64> {
        elements.is_multiple_of(self.block_elements).then(|| elements / self.block_elements * self.block_bytes)
    }
}

/// The sizes of a model, checked to be ones that the engine can take.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub n_vocab: u32,
    /// Encoder positions, 20 ms each.
    pub n_audio_ctx: u32,
    pub n_audio_state: u32,
    pub n_audio_head: u32,
    pub n_audio_layer: u32,
    /// Decoder positions, in tokens.
    pub n_text_ctx: u32,
    pub n_text_state: u32,
    pub n_text_head: u32,
    pub n_text_layer: u32,
    /// Mel bands of the spectrogram: 80, or 128 from large-v3 on.
    pub n_mels: u32,
    /// The storage type as the file gives it, with the quantization's version.
    pub ftype: u32,
    /// Length of the whole file.
    pub file_bytes: u64,
}

impl Header {
    /// The storage type of a model whose matrices are f16.
    pub(super) const F16_FTYPE: u32 = F16.ftype;

    /// Whether the model knows languages other than English.
    pub fn multilingual(&self) -> bool {
        self.n_vocab > ENGLISH_VOCAB
    }

    /// How the large matrices are stored: `f16`, `q5_1` and so on.
    pub fn quantization(&self) -> &'static str {
        WeightType::of_ftype(self.ftype % VERSION_FACTOR).map_or("unknown", |known| known.name)
    }

    pub(super) fn weight_type(&self) -> Result<&'static WeightType> {
        WeightType::of_ftype(self.ftype % VERSION_FACTOR).context("the weights are of an unknown type")
    }

    /// Reads and checks; the file's length comes from the caller, since a stream does not know it.
    pub(super) fn read(input: &mut impl Read, file_bytes: u64) -> Result<Self> {
        ensure!(read_u32(input)? == MAGIC, "it is not a ggml file");
        let mut next = || read_u32(input);
        let header = Self {
            n_vocab: next()?,
            n_audio_ctx: next()?,
            n_audio_state: next()?,
            n_audio_head: next()?,
            n_audio_layer: next()?,
            n_text_ctx: next()?,
            n_text_state: next()?,
            n_text_head: next()?,
            n_text_layer: next()?,
            n_mels: next()?,
            ftype: next()?,
            file_bytes,
        };
        header.check()?;
        Ok(header)
    }

    pub(super) fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let fields = [
            MAGIC,
            self.n_vocab,
            self.n_audio_ctx,
            self.n_audio_state,
            self.n_audio_head,
            self.n_audio_layer,
            self.n_text_ctx,
            self.n_text_state,
            self.n_text_head,
            self.n_text_layer,
            self.n_mels,
            self.ftype,
        ];
        fields.iter().try_for_each(|field| out.write_all(&field.to_le_bytes()))
    }

    pub(super) fn check(&self) -> Result<()> {
        let within = |what: &str, value: u32, allowed: std::ops::RangeInclusive<u32>| {
            ensure!(allowed.contains(&value), "{what} is {value}, which no Whisper model has");
            Ok(())
        };
        within("the vocabulary size", self.n_vocab, ENGLISH_VOCAB..=LARGE_V3_VOCAB)?;
        within("the audio context", self.n_audio_ctx, AUDIO_CTX..=AUDIO_CTX)?;
        within("the text context", self.n_text_ctx, TEXT_CTX..=TEXT_CTX)?;
        within("the encoder's depth", self.n_audio_layer, 1..=MAX_LAYERS)?;
        within("the decoder's depth", self.n_text_layer, 1..=MAX_LAYERS)?;
        within("the encoder's head count", self.n_audio_head, 1..=MAX_HEADS)?;
        let width = self.n_audio_head * HEAD_WIDTH;
        within("the encoder's width", self.n_audio_state, width..=width)?;
        within("the decoder's width", self.n_text_state, width..=width)?;
        within("the decoder's head count", self.n_text_head, self.n_audio_head..=self.n_audio_head)?;
        if !matches!(self.n_mels, 80 | 128) {
            bail!("it has {} mel bands; Whisper models have 80 or 128", self.n_mels);
        }
        self.weight_type().map(drop)
    }
}

pub(super) fn read_u32(input: &mut impl Read) -> Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes).context("it ends too early")?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::models) fn tiny_en() -> Header {
        Header {
            n_vocab: 51_864,
            n_audio_ctx: 1500,
            n_audio_state: 384,
            n_audio_head: 6,
            n_audio_layer: 4,
            n_text_ctx: 448,
            n_text_state: 384,
            n_text_head: 6,
            n_text_layer: 4,
            n_mels: 80,
            ftype: 1,
            file_bytes: 0,
        }
    }

    fn check_refused(reason: &str, spoil: impl FnOnce(&mut Header)) {
        let mut header = tiny_en();
        spoil(&mut header);
        let error = header.check().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn a_header_reads_back_as_written() {
        let mut bytes = Vec::new();
        tiny_en().write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 48);
        assert_eq!(Header::read(&mut bytes.as_slice(), 0).unwrap(), tiny_en());
    }

    #[test]
    fn the_quantization_is_told_without_its_version() {
        let quantized = Header { ftype: 2009, ..tiny_en() };
        assert!(quantized.check().is_ok());
        assert_eq!(quantized.quantization(), "q5_1");
        assert_eq!(tiny_en().quantization(), "f16");
    }

    #[test]
    fn a_model_is_multilingual_when_its_vocabulary_says_so() {
        assert!(!tiny_en().multilingual());
        assert!(Header { n_vocab: 51_865, ..tiny_en() }.multilingual());
    }

    #[test]
    fn sizes_that_no_whisper_model_has_are_refused() {
        check_refused("vocabulary", |header| header.n_vocab = 51_863);
        check_refused("vocabulary", |header| header.n_vocab = 51_867);
        check_refused("audio context", |header| header.n_audio_ctx = 1499);
        check_refused("text context", |header| header.n_text_ctx = 449);
        check_refused("encoder's depth", |header| header.n_audio_layer = 33);
        check_refused("decoder's depth", |header| header.n_text_layer = 0);
        check_refused("encoder's head count", |header| header.n_audio_head = 21);
        check_refused("encoder's width", |header| header.n_audio_state = 385);
        check_refused("decoder's width", |header| header.n_text_state = 512);
        check_refused("decoder's head count", |header| header.n_text_head = 7);
        check_refused("mel bands", |header| header.n_mels = 81);
        check_refused("unknown type", |header| header.ftype = 5);
    }
}
