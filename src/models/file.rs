//! The check of a whole ggml file: header, mel filters, vocabulary and every tensor, with the data skipped over. A file
//! that passes has exactly what whisper.cpp will ask for; that its weights are the right ones is `verify`'s business.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::header::{Header, read_u32};
use super::layout::{self, Tensor};

/// Frequency bins of the 400-point Fourier transform that the engine has built in.
pub(super) const FREQUENCY_BINS: u32 = 201;
/// The longest tensor name has 41 bytes; a longer one is garbage and not worth reading.
const MAX_TENSOR_NAME_BYTES: u32 = 64;

/// Reads the header of a model that is whole from its first byte to its last.
pub(super) fn read_header(path: &Path) -> Result<Header> {
    let file = File::open(path).context("it cannot be opened")?;
    let file_bytes = file.metadata().context("its size cannot be read")?.len();
    let mut input = BufReader::new(file);
    let header = Header::read(&mut input, file_bytes)?;
    skip_filters(&mut input, &header)?;
    skip_vocabulary(&mut input, &header)?;
    check_tensors(&mut input, &header)?;
    Ok(header)
}

fn skip_filters(input: &mut BufReader<File>, header: &Header) -> Result<()> {
    let (bands, bins) = (read_u32(input)?, read_u32(input)?);
    ensure!(
        bands == header.n_mels && bins == FREQUENCY_BINS,
        "its mel filters are {bands} by {bins}, not {} by {FREQUENCY_BINS}",
        header.n_mels
    );
    skip(input, u64::from(bands) * u64::from(bins) * size_of::<f32>() as u64)
}

fn skip_vocabulary(input: &mut BufReader<File>, header: &Header) -> Result<()> {
    let tokens = read_u32(input)?;
    ensure!((1..=header.n_vocab).contains(&tokens), "its vocabulary has {tokens} entries");
    for _ in 0..tokens {
        let token_bytes = read_u32(input)?;
        skip(input, u64::from(token_bytes))?;
    }
    Ok(())
}

fn check_tensors(input: &mut BufReader<File>, header: &Header) -> Result<()> {
    let mut expected: HashMap<String, Tensor> = layout::tensors(header, header.weight_type()?)
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    while input.stream_position()? < header.file_bytes {
        let tensor = read_tensor_head(input, &mut expected)?;
        let data_bytes = tensor.weights.bytes_of(tensor.elements());
        let Some(data_bytes) = data_bytes else { bail!("the tensor {} does not fill whole blocks", tensor.name) };
        skip(input, data_bytes)?;
        ensure!(input.stream_position()? <= header.file_bytes, "it ends within the tensor {}", tensor.name);
    }
    ensure!(expected.is_empty(), "it lacks {} of its tensors", expected.len());
    Ok(())
}

/// Reads what stands in front of a tensor's data and strikes it off the list.
fn read_tensor_head(input: &mut BufReader<File>, expected: &mut HashMap<String, Tensor>) -> Result<Tensor> {
    let (rank, name_bytes, tensor_type) = (read_u32(input)?, read_u32(input)?, read_u32(input)?);
    ensure!((1..=3).contains(&rank) && name_bytes <= MAX_TENSOR_NAME_BYTES, "its tensors are garbled");
    let dims = (0..rank).map(|_| read_u32(input)).collect::<Result<Vec<u32>>>()?;
    let mut name = vec![0; name_bytes as usize];
    input.read_exact(&mut name).context("it ends too early")?;
    let name = String::from_utf8_lossy(&name);
    let Some(tensor) = expected.remove(name.as_ref()) else {
        bail!("the tensor {name:?} is not a model's or is there twice")
    };
    ensure!(
        dims == tensor.dims && tensor_type == tensor.weights.tensor_type,
        "the tensor {name} has shape {dims:?} and type {tensor_type}, not {:?} and {}",
        tensor.dims,
        tensor.weights.tensor_type
    );
    Ok(tensor)
}

/// Seeking past the end is no error in itself; the next read or the position tells.
fn skip(input: &mut BufReader<File>, bytes: u64) -> Result<()> {
    let offset = i64::try_from(bytes).context("it is garbled")?;
    input.seek_relative(offset).context("it cannot be read")
}
