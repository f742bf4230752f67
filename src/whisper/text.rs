//! From the engine's tokens to segments and words: bytes are joined before they are read as UTF-8, because a character
//! may be spread over several tokens, and times are kept inside the chunk.

use whisper_rs::WhisperSegment;

use crate::transcript::{Segment, Word};

/// The engine counts in hundredths of a second.
const MS_PER_TICK: i64 = 10;

/// Reads the results of one call.
pub(super) struct Reader {
    /// Token ids from here on are marks, not text.
    pub(super) first_special_token: i32,
    pub(super) length_ms: i64,
    pub(super) words: bool,
}

/// A text token as the engine timed it.
struct Token<'a> {
    id: i32,
    bytes: &'a [u8],
    start_ms: i64,
    end_ms: i64,
    probability: f32,
    log_probability: f32,
}

impl Reader {
    /// One segment, or nothing where it holds no word.
    pub(super) fn segment(&self, segment: &WhisperSegment<'_>, temperature: f32) -> Option<Segment> {
        let tokens = self.tokens(segment);
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes).copied().collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !is_spoken(&text) {
            return None;
        }
        let start_ms = self.clamped(segment.start_timestamp());
        let end_ms = self.clamped(segment.end_timestamp()).max(start_ms);
        let sum: f32 = tokens.iter().map(|token| token.log_probability).sum();
        Some(Segment {
            start_ms,
            end_ms,
            text,
            seek_ms: 0,
            temperature,
            avg_logprob: sum / tokens.len() as f32,
            compression_ratio: 0.0,
            no_speech_prob: segment.no_speech_probability(),
            speech_prob: None,
            words: self.words.then(|| words(&tokens, start_ms, end_ms)),
            tokens: tokens.iter().map(|token| token.id).collect(),
        })
    }

    fn clamped(&self, ticks: i64) -> i64 {
        (ticks * MS_PER_TICK).clamp(0, self.length_ms)
    }

    fn tokens<'s>(&self, segment: &'s WhisperSegment<'_>) -> Vec<Token<'s>> {
        let mut tokens = Vec::new();
        for n in 0..segment.n_tokens() {
            let Some(token) = segment.get_token(n) else { continue };
            let data = token.token_data();
            // The engine throws on an id beyond its vocabulary, and only text tokens are wanted.
            if data.id >= self.first_special_token || data.id < 0 {
                continue;
            }
            let Ok(bytes) = token.to_bytes() else { continue };
            tokens.push(Token {
                id: data.id,
                bytes,
                start_ms: self.clamped(data.t0),
                end_ms: self.clamped(data.t1),
                probability: data.p,
                log_probability: data.plog,
            });
        }
        tokens
    }
}

/// Noise and music come out as notes, dots or pieces of characters.
fn is_spoken(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// Tokens joined to words: a new one begins with a space, and in scripts without spaces with every whole character.
fn words(tokens: &[Token<'_>], first_ms: i64, last_ms: i64) -> Vec<Word> {
    let mut words = Vec::new();
    let mut from = 0;
    for to in 1..=tokens.len() {
        if to == tokens.len() || begins_word(&tokens[from..to], &tokens[to]) {
            let start_ms = words.last().map_or(first_ms, |word: &Word| word.end_ms);
            words.extend(word(&tokens[from..to], start_ms, last_ms));
            from = to;
        }
    }
    words
}

fn begins_word(before: &[Token<'_>], token: &Token<'_>) -> bool {
    if token.bytes.first() == Some(&b' ') {
        return true;
    }
    let joined: Vec<u8> = before.iter().flat_map(|token| token.bytes).copied().collect();
    let unspaced = |text: &str| text.chars().last().is_some_and(is_unspaced_script);
    std::str::from_utf8(&joined).is_ok_and(unspaced) && !token.bytes.first().is_some_and(u8::is_ascii_punctuation)
}

/// Thai to Khmer, and the Chinese and Japanese scripts, are written without spaces between words.
pub(super) fn is_unspaced_script(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Times never run backwards, whatever the engine's estimate says.
fn word(tokens: &[Token<'_>], not_before_ms: i64, not_after_ms: i64) -> Option<Word> {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes).copied().collect();
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    let (first, last) = (tokens.first()?, tokens.last()?);
    if text.is_empty() {
        return None;
    }
    let start_ms = first.start_ms.clamp(not_before_ms, not_after_ms.max(not_before_ms));
    let end_ms = last.end_ms.clamp(start_ms, not_after_ms.max(start_ms));
    let probability = tokens.iter().map(|token| token.probability).sum::<f32>() / tokens.len() as f32;
    Some(Word { word: text, start_ms, end_ms, probability })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8], start_ms: i64, end_ms: i64) -> Token<'_> {
        Token { id: 1, bytes, start_ms, end_ms, probability: 0.5, log_probability: -0.7 }
    }

    fn joined(tokens: &[Token<'_>]) -> Vec<String> {
        words(tokens, 0, 5_000).into_iter().map(|word| word.word).collect()
    }

    #[test]
    fn tokens_join_to_words_at_spaces_and_punctuation_stays_with_its_word() {
        let tokens = [token(b" trans", 0, 1), token(b"cription", 1, 2), token(b",", 2, 2), token(b" done", 2, 3)];
        assert_eq!(joined(&tokens), ["transcription,", "done"]);
    }

    #[test]
    fn a_text_without_a_letter_or_digit_was_not_spoken() {
        assert!([" ♪♪", "...", " \u{fffd}", " -", ""].iter().all(|text| !is_spoken(text)));
        assert!([" I", "7", "も", "ก"].iter().all(|text| is_spoken(text)));
    }

    #[test]
    fn a_character_split_over_tokens_is_joined_before_it_is_read() {
        let bytes = " naïve".as_bytes();
        assert_eq!(joined(&[token(&bytes[..4], 0, 1), token(&bytes[4..], 1, 2)]), ["naïve"]);
    }

    #[test]
    fn scripts_without_spaces_give_a_word_for_each_whole_token() {
        let bytes = "日".as_bytes();
        let tokens = [token(&bytes[..1], 0, 1), token(&bytes[1..], 1, 2), token("本".as_bytes(), 2, 3)];
        assert_eq!(joined(&tokens), ["日", "本"]);
    }

    #[test]
    fn word_times_stay_in_the_segment_and_never_run_backwards() {
        let tokens = [token(b" one", 900, 800), token(b" two", 100, 9_000), token(b" three", 20, 30)];
        let times: Vec<_> = words(&tokens, 500, 2_000).into_iter().map(|word| (word.start_ms, word.end_ms)).collect();
        assert_eq!(times, [(900, 900), (900, 2_000), (2_000, 2_000)]);
    }
}
