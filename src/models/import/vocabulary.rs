//! The text tokens of a conversion as raw bytes. The list is `vocabulary.json` or `vocabulary.txt`, which CTranslate2
//! itself numbers its outputs by; `tokenizer.json` holds the same base tokens and is not read.

use std::collections::HashMap;
use std::io::Read;

use super::source::Source;
use super::unusable;
use crate::error::Result;
use crate::models::header::Header;

/// Tokens that a published ggml file lists; the engine names the control tokens after them by itself.
const BASE_TOKENS: usize = 50_257;
/// The multilingual list as JSON has 1.1 MB; more than this is not a vocabulary.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The base vocabulary by token id.
pub(super) fn read(source: &mut Source, header: &Header) -> Result<Vec<Vec<u8>>> {
    let tokens = match text(source, "vocabulary.json")? {
        Some(json) => serde_json::from_str(&json).map_err(|error| unusable(format!("vocabulary.json: {error}")))?,
        None => text(source, "vocabulary.txt")?
            .ok_or_else(|| unusable("it has neither vocabulary.json nor vocabulary.txt"))?
            .lines()
            .map(str::to_string)
            .collect::<Vec<String>>(),
    };
    if tokens.len() != header.n_vocab as usize {
        return Err(unusable(format!("its vocabulary has {} tokens, its weights {}", tokens.len(), header.n_vocab)));
    }
    let bytes = bytes_by_letter();
    tokens.iter().take(BASE_TOKENS).map(|token| to_bytes(token, &bytes)).collect()
}

fn text(source: &mut Source, name: &str) -> Result<Option<String>> {
    let Some(file) = source.file(name)? else { return Ok(None) };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| unusable(format!("{name}: {error}")))?;
    Ok(Some(text))
}

fn to_bytes(token: &str, bytes: &HashMap<char, u8>) -> Result<Vec<u8>> {
    let byte = |letter| bytes.get(&letter).copied();
    token
        .chars()
        .map(byte)
        .collect::<Option<_>>()
        .ok_or_else(|| unusable(format!("the token {token:?} of its vocabulary is not in GPT-2's byte alphabet")))
}

/// GPT-2 writes every byte as a visible letter: the visible ones of Latin-1 stand for themselves, the others got the
/// letters from U+0100 on in order.
fn bytes_by_letter() -> HashMap<char, u8> {
    let mut stand_ins = '\u{100}'..;
    (0..=u8::MAX)
        .filter_map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => Some((char::from(byte), byte)),
            _ => stand_ins.next().map(|letter| (letter, byte)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &str, bytes: &[u8]) {
        assert_eq!(to_bytes(token, &bytes_by_letter()).unwrap(), bytes);
    }

    #[test]
    fn visible_letters_stand_for_bytes() {
        assert_eq!(bytes_by_letter().len(), 256);
        check("", b"");
        check("Ġask", b" ask");
        check("Ċ", b"\n");
        check("Ń", b"\xad");
        check("åľº", "场".as_bytes());
    }

    #[test]
    fn a_token_outside_the_alphabet_is_refused() {
        let error = to_bytes("a b", &bytes_by_letter()).unwrap_err().to_string();
        assert!(error.contains("byte alphabet"), "{error}");
    }
}
