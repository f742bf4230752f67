//! Whether a text goes round in circles. Pure functions over words; in scripts without spaces, over characters.

use super::text::is_unspaced_script;

/// Longest phrase that is looked for, in words or characters.
const MAX_PHRASE: usize = 40;
/// A phrase said so often in a row is a loop: a chorus comes twice, "no, no, no" thrice.
const LOOP_TIMES: usize = 4;
/// A loop has so many words in all, so that someone may say one word a few times more.
const LOOP_WORDS: usize = 10;
/// The same for characters, of which a word has about two in scripts without spaces.
const LOOP_CHARACTERS: usize = 20;
/// A loop that began in the text before needs less of both: another try without that text costs one call and keeps what
/// was really said.
const CARRIED_LOOP_TIMES: usize = 3;
const CARRIED_LOOP_UNITS: usize = 6;
/// From this many words on, a text that only repeats the end of the one before is no coincidence.
const ECHO_UNITS: usize = 8;
/// Longest phrase at the end of a text that is compared with what stands before it.
const MAX_TAIL: usize = 12;

const APOSTROPHES: [char; 2] = ['\'', '\u{2019}'];

/// A text as words without case and punctuation, or as characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Units(Vec<String>);

impl Units {
    pub(super) fn of(text: &str) -> Self {
        let mut units = Vec::new();
        let is_break = |c: char| !c.is_alphanumeric() && !APOSTROPHES.contains(&c);
        for word in text.to_lowercase().split(is_break) {
            let mut unit = String::new();
            for c in word.chars().filter(|c| c.is_alphanumeric()) {
                if is_unspaced_script(c) {
                    units.extend((!unit.is_empty()).then(|| std::mem::take(&mut unit)));
                    units.push(c.to_string());
                } else {
                    unit.push(c);
                }
            }
            units.extend((!unit.is_empty()).then_some(unit));
        }
        Self(units)
    }

    /// How many units at the end repeat those right before them, as a phrase of two or more.
    pub(super) fn repeated_tail(&self) -> usize {
        let units = &self.0;
        let twice = |n: &usize| units[units.len() - n..] == units[units.len() - 2 * n..units.len() - n];
        let longest = (2..=MAX_TAIL.min(units.len() / 2)).rev().find(twice);
        longest.unwrap_or(0)
    }

    /// How many units only go on with a loop, within this text or from the end of the text before it.
    pub(super) fn looping(&self, before: &Self) -> usize {
        if self.0.len() >= ECHO_UNITS && before.0.ends_with(&self.0) {
            return self.0.len();
        }
        let border = before.0.len();
        let all: Vec<&str> = before.0.iter().chain(&self.0).map(String::as_str).collect();
        let mut copies = vec![false; all.len()];
        for phrase in 1..=MAX_PHRASE.min(all.len() / 2) {
            for run in runs(&all, phrase) {
                if is_loop(&all[run.start - phrase..run.end], phrase) || is_carried_loop(&run, phrase, border) {
                    copies[run].fill(true);
                }
            }
        }
        copies[border..].iter().filter(|&&copy| copy).count()
    }
}

/// The longest stretches in which every unit is the same as the one `phrase` places before it.
fn runs(units: &[&str], phrase: usize) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut start = phrase;
    for at in phrase..=units.len() {
        if at == units.len() || units[at] != units[at - phrase] {
            if at - start >= phrase {
                runs.push(start..at);
            }
            start = at + 1;
        }
    }
    runs
}

fn is_loop(units: &[&str], phrase: usize) -> bool {
    let unspaced = units.iter().all(|unit| unit.starts_with(is_unspaced_script));
    let least = if unspaced { LOOP_CHARACTERS } else { LOOP_WORDS };
    units.len() >= least && units.len() / phrase >= LOOP_TIMES
}

/// A loop over the border between two texts, with at least one whole phrase on each side.
fn is_carried_loop(run: &std::ops::Range<usize>, phrase: usize, border: usize) -> bool {
    let from = run.start - phrase;
    let units = run.end - from;
    let carried = from + phrase <= border && border + phrase <= run.end;
    // One word in a row is more often meant than a phrase is.
    let least = if phrase == 1 { LOOP_WORDS } else { CARRIED_LOOP_UNITS };
    carried && units >= least && units / phrase >= CARRIED_LOOP_TIMES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looping(text: &str) -> usize {
        Units::of(text).looping(&Units::default())
    }

    fn carried(before: &str, text: &str) -> usize {
        Units::of(text).looping(&Units::of(before))
    }

    #[test]
    fn words_lose_case_and_punctuation_and_unspaced_scripts_become_characters() {
        assert_eq!(Units::of(" Don't stop - now!").0, ["dont", "stop", "now"]);
        assert_eq!(Units::of("GPU日本。").0, ["gpu", "日", "本"]);
        assert_eq!(Units::of(" ... ").0.len(), 0);
    }

    #[test]
    fn a_phrase_said_four_times_in_a_row_is_a_loop_of_any_length() {
        assert_eq!(looping(&"you ".repeat(12)), 11);
        assert_eq!(looping(&"Thank you. ".repeat(5)), 8);
        assert_eq!(looping(&format!("So we begin. {}", "I don't know what to do. ".repeat(4))), 18);
        assert_eq!(looping(&"a b c d e f g h i j k l ".repeat(4)), 36);
        assert_eq!(looping(&"ご視聴ありがとうございました".repeat(4)), 42);
    }

    #[test]
    fn real_speech_and_a_chorus_said_twice_are_no_loops() {
        for said in [
            "No, no, no, no, no. I said no!",
            "very, very, very good, and very, very bad",
            "of the people, by the people, for the people",
            "Ha ha ha ha ha ha.",
            "Thank you. Thank you. Thank you so much.",
            "はいはいはい、そうです。ははははははは。",
            "哈哈哈哈哈哈",
        ] {
            assert_eq!(looping(said), 0, "{said}");
        }
        assert_eq!(looping(&"row your boat gently down the stream merrily life is but a dream ".repeat(2)), 0);
        assert_eq!(looping(""), 0);
    }

    #[test]
    fn a_loop_that_began_in_the_text_before_is_seen_with_less() {
        assert_eq!(carried("And so I thank you. Thank you.", "Thank you. Thank you. Goodbye."), 4);
        assert_eq!(carried("We go home now. We go home now.", "We go home now."), 4);
        assert_eq!(carried(&"you ".repeat(6), &"you ".repeat(6)), 6);
        assert_eq!(carried("no no no", "no no, that is wrong"), 0);
        assert_eq!(carried("thank you", "Thank you for coming"), 0);
        assert_eq!(carried(&"we go home now ".repeat(6), "and then they all slept"), 0);
    }

    #[test]
    fn a_whole_text_that_echoes_the_end_of_the_one_before_is_a_loop() {
        let sentence = "please like and subscribe to my channel now";
        assert_eq!(carried(&format!("Hello. {sentence}"), sentence), 8);
        assert_eq!(carried("The Harbor Company", "The Harbor Company"), 0);
    }

    #[test]
    fn a_phrase_repeated_at_the_very_end_is_seen() {
        let tail = |text: &str| Units::of(text).repeated_tail();
        assert_eq!(tail("shall not perish from the earth. Perish from the earth."), 4);
        assert_eq!(tail("ask what you can do for your country, for your country"), 3);
        assert_eq!(tail("ask what you can do for your country."), 0);
        assert_eq!(tail("bye bye"), 0);
        assert_eq!(tail("bye bye bye bye"), 2);
        assert_eq!(tail("one"), 0);
        assert_eq!(tail(""), 0);
    }
}
