//! Reads CTranslate2's `model.bin`, front to back: a list of named variables and their bytes. It gives no meaning to
//! their names.

use std::io::{self, Read};

use anyhow::anyhow;

use super::unusable;
use crate::error::{Error, Result};

/// The one layout in use since 2022.
const FORMAT_VERSION: u32 = 6;
const WHISPER_SPEC: &str = "WhisperSpec";

/// What a variable's numbers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Element {
    F32,
    F16,
    I16,
    /// Bytes and wider integers, by CTranslate2's own number.
    Other(u8),
}

impl Element {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::F32,
            2 => Self::I16,
            4 => Self::F16,
            other => Self::Other(other),
        }
    }
}

/// The head of a variable; a rank of zero is a single number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variable {
    pub(super) name: String,
    /// Slowest-moving first.
    pub(super) shape: Vec<u32>,
    pub(super) element: Element,
    pub(super) data_bytes: u32,
}

/// Shows `visit` every variable with a reader of its data, of which it may leave any part unread.
pub(super) fn for_each_variable(
    mut input: impl Read,
    mut visit: impl FnMut(&Variable, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let input = &mut input;
    let version = u32::from_le_bytes(array(input)?);
    if version != FORMAT_VERSION {
        return Err(unusable(format!("model.bin is not in CTranslate2's format {FORMAT_VERSION}")));
    }
    let spec = string(input)?;
    if spec != WHISPER_SPEC {
        return Err(unusable(format!("it is a {spec:?}, not a Whisper model")));
    }
    let _revision = u32::from_le_bytes(array(input)?);
    for _ in 0..u32::from_le_bytes(array(input)?) {
        let variable = variable(input)?;
        let mut data = input.take(u64::from(variable.data_bytes));
        visit(&variable, &mut data)?;
        io::copy(&mut data, &mut io::sink()).map_err(unreadable)?;
    }
    // The rest is of no use, but a zip file's checksum is looked at only at its end.
    io::copy(input, &mut io::sink()).map_err(unreadable)?;
    Ok(())
}

fn variable(input: &mut impl Read) -> Result<Variable> {
    let name = string(input)?;
    let [rank] = array(input)?;
    let shape = (0..rank).map(|_| array(input).map(u32::from_le_bytes)).collect::<Result<_>>()?;
    let [code] = array(input)?;
    let data_bytes = u32::from_le_bytes(array(input)?);
    Ok(Variable { name, shape, element: Element::from_code(code), data_bytes })
}

/// The length counts the NUL at the end.
fn string(input: &mut impl Read) -> Result<String> {
    let mut bytes = vec![0; usize::from(u16::from_le_bytes(array(input)?))];
    input.read_exact(&mut bytes).map_err(unreadable)?;
    bytes.pop();
    String::from_utf8(bytes).map_err(|_| unusable("model.bin is garbled"))
}

/// The next bytes, exactly as many as the caller takes.
pub(super) fn array<const N: usize>(input: &mut (impl Read + ?Sized)) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// A file that stops short will never do; any other failure may pass.
pub(super) fn unreadable(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => unusable("model.bin is damaged or cut short"),
        _ => anyhow!(error).context("Failed to read the weights").into(),
    }
}
