//! The models that whisper.cpp publishes, with the SHA-1 sums from its own table. Not a list of what is on disk.

/// Holds all but the diarizing model.
const MAIN_REPO: &str = "ggerganov/whisper.cpp";
const DIARIZING_REPO: &str = "akashmjn/tinydiarize-whisper.cpp";

/// A model that can be had by its name alone.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) name: &'static str,
    /// Lower-case hex; upstream gives none for most quantized files.
    pub(super) sha1: Option<&'static str>,
}

const fn summed(name: &'static str, sha1: &'static str) -> Published {
    Published { name, sha1: Some(sha1) }
}

const fn unsummed(name: &'static str) -> Published {
    Published { name, sha1: None }
}

const PUBLISHED: [Published; 30] = [
    summed("tiny", "bd577a113a864445d4c299885e0cb97d4ba92b5f"),
    summed("tiny.en", "c78c86eb1a8faa21b369bcd33207cc90d64ae9df"),
    unsummed("tiny-q5_1"),
    unsummed("tiny.en-q5_1"),
    unsummed("tiny-q8_0"),
    summed("base", "465707469ff3a37a2b9b8d8f89f2f99de7299dac"),
    summed("base.en", "137c40403d78fd54d454da0f9bd998f78703390c"),
    unsummed("base-q5_1"),
    unsummed("base.en-q5_1"),
    unsummed("base-q8_0"),
    summed("small", "55356645c2b361a969dfd0ef2c5a50d530afd8d5"),
    summed("small.en", "db8a495a91d927739e50b3fc1cc4c6b8f6c2d022"),
    summed("small.en-tdrz", "b6c6e7e89af1a35c08e6de56b66ca6a02a2fdfa1"),
    unsummed("small-q5_1"),
    unsummed("small.en-q5_1"),
    unsummed("small-q8_0"),
    summed("medium", "fd9727b6e1217c2f614f9b698455c4ffd82463b4"),
    summed("medium.en", "8c30f0e44ce9560643ebd10bbe50cd20eafd3723"),
    unsummed("medium-q5_0"),
    unsummed("medium.en-q5_0"),
    unsummed("medium-q8_0"),
    summed("large-v1", "b1caaf735c4cc1429223d5a74f0f4d0b9b59a299"),
    summed("large-v2", "0f4c8e34f21cf1a914c59d8b3ce882345ad349d6"),
    summed("large-v2-q5_0", "00e39f2196344e901b3a2bd5814807a769bd1630"),
    unsummed("large-v2-q8_0"),
    summed("large-v3", "ad82bf6a9043ceed055076d0fd39f5f186ff8062"),
    summed("large-v3-q5_0", "e6e2ed78495d403bef4b7cff42ef4aaadcfea8de"),
    summed("large-v3-turbo", "4af2b29d7ec73d781377bfd1758ca957a807e941"),
    summed("large-v3-turbo-q5_0", "e050f7970618a659205450ad97eb95a18d69c9ee"),
    unsummed("large-v3-turbo-q8_0"),
];

impl Published {
    /// The address of the file below a hub's endpoint.
    pub(super) fn url_path(&self) -> String {
        let repo = if self.name.ends_with("-tdrz") { DIARIZING_REPO } else { MAIN_REPO };
        format!("{repo}/resolve/main/ggml-{}.bin", self.name)
    }
}

/// Looks a canonical name up.
pub(super) fn find(name: &str) -> Option<&'static Published> {
    PUBLISHED.iter().find(|model| model.name == name)
}

/// What to tell someone who asked for a name that nobody publishes.
pub(super) fn unknown(name: &str) -> String {
    let names: Vec<&str> = PUBLISHED.iter().map(|model| model.name).collect();
    format!(
        "there is no model {name}: use one of {}, the path of a ggml .bin file, or owner/repo/file.bin",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sum_is_forty_lower_case_hex_digits() {
        for model in &PUBLISHED {
            let Some(sum) = model.sha1 else { continue };
            assert_eq!(sum.len(), 40, "{}", model.name);
            assert!(sum.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{}", model.name);
        }
    }

    #[test]
    fn the_diarizing_model_comes_from_its_own_repository() {
        let path = |name| find(name).map(Published::url_path).unwrap();
        assert_eq!(path("small.en-tdrz"), "akashmjn/tinydiarize-whisper.cpp/resolve/main/ggml-small.en-tdrz.bin");
        assert_eq!(path("tiny-q8_0"), "ggerganov/whisper.cpp/resolve/main/ggml-tiny-q8_0.bin");
    }
}
