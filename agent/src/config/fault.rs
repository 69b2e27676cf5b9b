//! What is wrong with a configuration: each fault with its place, key path, value and what would be right.

use std::fmt;

use super::tree::{At, Places};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// File and line, or the flag.
    pub(crate) at: At,
    /// Key path such as `ports.dns`; empty where a file as a whole is meant.
    pub(crate) key: String,
    /// What was written; empty if that does not matter. Never a secret.
    pub(crate) value: String,
    /// What is wrong with it, and what would be right.
    pub(crate) wanted: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        match (self.key.is_empty(), self.value.is_empty()) {
            (true, true) => {}
            (true, false) => write!(f, "{}: ", self.value)?,
            (false, true) => write!(f, "{}: ", self.key)?,
            (false, false) => write!(f, "{} = {}: ", self.key, self.value)?,
        }
        f.write_str(&self.wanted)
    }
}

impl Places<'_> {
    /// Something wrong with the text at `offset`, whatever key that is of.
    pub(super) fn fault(&self, offset: usize, wanted: impl Into<String>) -> Fault {
        Fault { at: self.at(offset), key: String::new(), value: String::new(), wanted: wanted.into() }
    }
}

/// All that is wrong, in the order of files and lines. Nothing was started or changed; whoever wrote the files can mend it.
#[derive(Debug, Clone, PartialEq, Default, thiserror::Error)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} fault{}:", if count == 1 { "" } else { "s" })?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

/// The known word nearest to `word`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong: more, and the proposal puzzles more than it helps.
    let limit = (word.chars().count() / 3).clamp(1, 4);
    known.into_iter().map(|other| (distance(word, other), other)).filter(|(far, _)| *far <= limit).min().map(|(_, other)| other)
}

/// Edits (insert, drop, replace, swap of neighbours) between two words, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    /// Longer words are no misspelt keys; the bound keeps the work of a hostile file small.
    const WORD_CHARS_MAX: usize = 64;
    let a: Vec<char> = a.chars().take(WORD_CHARS_MAX + 1).map(|c| c.to_ascii_lowercase()).collect();
    let b: Vec<char> = b.chars().take(WORD_CHARS_MAX + 1).map(|c| c.to_ascii_lowercase()).collect();
    if a.len() > WORD_CHARS_MAX || b.len() > WORD_CHARS_MAX {
        return usize::MAX;
    }
    let width = b.len() + 1;
    let mut table: Vec<usize> = (0..width).collect();
    table.resize((a.len() + 1) * width, 0);
    for i in 1..=a.len() {
        table[i * width] = i;
        for j in 1..width {
            let replace = table[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(table[(i - 1) * width + j] + 1).min(table[i * width + j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(table[(i - 2) * width + j - 2] + 1);
            }
            table[i * width + j] = best;
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        let known = ["node_name", "node_meta", "data_dir", "bind_addr"];
        assert_eq!(nearest("nodename", known), Some("node_name"));
        assert_eq!(nearest("dat_adir", known), Some("data_dir"));
        assert_eq!(nearest("Bind_Adr", known), Some("bind_addr"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn a_fault_reads_as_one_line_each() {
        let at = At { source: "a.toml".into(), line: 3, column: 7 };
        let faults = Faults(vec![
            Fault { at: at.clone(), key: "ports.dns".into(), value: "\"x\"".into(), wanted: "a number".into() },
            Fault { at: At::whole("b.json"), key: String::new(), value: String::new(), wanted: "is a directory".into() },
        ]);
        assert_eq!(
            faults.to_string(),
            "the configuration has 2 faults:\n  a.toml:3:7: ports.dns = \"x\": a number\n  b.json: is a directory"
        );
    }
}
