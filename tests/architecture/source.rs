//! The repository's own text: its files, which of their lines are code, and which names a line uses. It reads lines, not
//! Rust, which is enough for code that rustfmt has formatted.

use std::path::Path;

/// A Rust file, its path from the root of the repository.
#[derive(Clone)]
pub(super) struct File {
    pub(super) path: String,
    /// The top-level module that the file belongs to.
    pub(super) module: String,
    pub(super) lines: Vec<Line>,
}

#[derive(Clone)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    pub(super) text: String,
}

impl File {
    fn read(path: &str) -> Self {
        let inside = path.split_once('/').map_or(path, |(_, inside)| inside);
        let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        let lines = read(path).lines().zip(1..).map(|(text, number)| Line { number, text: text.to_owned() }).collect();
        Self { path: path.to_owned(), module, lines }
    }

    /// The lines that are neither comments nor unit tests.
    pub(super) fn code(&self) -> impl Iterator<Item = &Line> {
        let before_tests = self.lines.iter().take_while(|line| line.text != "#[cfg(test)]");
        before_tests.filter(|line| !line.text.trim_start().starts_with("//"))
    }

    /// How many `super::` lead to the root of the crate.
    pub(super) fn depth(&self) -> usize {
        self.path.trim_end_matches("/mod.rs").matches('/').count()
    }

    pub(super) fn at(&self, line: &Line) -> String {
        format!("{}:{}", self.path, line.number)
    }
}

pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// All Rust files below a folder of the repository, in order.
pub(super) fn files(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    for entry in entries.map(Result::unwrap) {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&path));
        } else if path.ends_with(".rs") {
            files.push(File::read(&path));
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

/// The modules after each `crate::`, or after `whisperq::` in the binary.
pub(super) fn crate_uses(text: &str) -> Vec<&str> {
    let starts = ["crate::", "whisperq::"].into_iter().flat_map(|root| {
        text.match_indices(root).filter(|(at, _)| begins_a_word(text, *at)).map(|(at, root)| at + root.len())
    });
    let modules = starts.map(|start| text[start..].split(|c| !is_word(c)).next().unwrap_or_default());
    modules.filter(|module| module.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

/// The longest chain of `super::` in a line.
pub(super) fn supers(text: &str) -> usize {
    (1..).take_while(|&n| text.contains(&"super::".repeat(n))).count()
}

/// Whether `text` uses the crate or module at `path`, as in `path::…`, `use path;` or `use path as …`.
pub(super) fn names_path(text: &str, path: &str) -> bool {
    let used = |start: usize, prefix: &str| {
        let rest = &text[start + path.len()..];
        rest.starts_with("::") || (prefix.trim_end().ends_with("use") && !rest.starts_with(is_word))
    };
    text.match_indices(path).any(|(at, _)| begins_a_word(text, at) && used(at, &text[..at]))
}

pub(super) fn names_word(text: &str, word: &str) -> bool {
    let ends = |at: usize| !text[at + word.len()..].starts_with(is_word);
    text.match_indices(word).any(|(at, _)| begins_a_word(text, at) && ends(at))
}

fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c| is_word(c) || c == ':')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn names_are_found_where_they_are_used_and_nowhere_else() {
    assert_eq!(crate_uses("use crate::queue::{Claim}; fn f(a: &crate::db::Db) {}"), ["queue", "db"]);
    assert_eq!(crate_uses("    whisperq::cli::run()"), ["cli"]);
    assert!(crate_uses("pub(in crate::queue) fn f()").contains(&"queue"));
    assert!(names_path("use zip::ZipArchive;", "zip"));
    assert!(names_path("use zip as archives;", "zip"));
    assert!(!names_path("left.iter().zip(right)", "zip"));
    assert!(!names_path("super::zip::open()", "zip"));
    assert!(!names_path("r2d2_sqlite::Pool", "r2d2"));
    assert!(names_word("unsafe { f() }", "unsafe"));
    assert!(!names_word("#![expect(unsafe_code)]", "unsafe"));
    assert_eq!(supers("use super::super::reference;"), 2);
}
