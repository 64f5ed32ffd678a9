//! One error type. Each variant carries its subject: what, where, and what to do about it.

use std::path::PathBuf;

use crate::harmless::acts;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// All that can go wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum Error {
    /// A name on the command line or in a file that nothing has.
    #[error("unknown {kind} `{name}`; {}", nearest(known, name))]
    Unknown { kind: &'static str, name: String, known: Vec<String> },
    #[error("no case matches `{filter}`; {}", nearest(known, filter))]
    NoMatch { filter: String, known: Vec<String> },
    #[error("the cache holds {capacity} positions, and position {wanted} was asked for")]
    CacheFull { capacity: usize, wanted: usize },
    #[error("prompt ({prompt} tokens) + steps ({steps}) = {} positions, and the capacity is {capacity}", prompt + steps)]
    TooLong { prompt: usize, steps: usize, capacity: usize },
    #[error("token {id} is outside the vocabulary of {vocab} (ids 0 to {})", vocab - 1)]
    TokenRange { id: u32, vocab: usize },
    /// Seen before anything is allocated.
    #[error("weights, tables of positions and cache need {bytes} bytes of memory, and {free} are free; {LESS_MEMORY}")]
    TooLarge { bytes: usize, free: u64 },
    /// Refused by the system.
    #[error("{bytes} bytes of memory were asked for, and the system has no more to give; {LESS_MEMORY}")]
    NoMemory { bytes: usize },
    #[error("{wanted} threads are wanted, and the system gives no more than {given} ({source}); ask for fewer with --threads")]
    NoThreads { wanted: usize, given: usize, source: std::io::Error },
    /// A sentence that already says it all.
    #[error("{0}")]
    Input(String),
    /// Something is wrong in a file: where, and what.
    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
    #[error("{}: line {line}{}: {what}", path.display(), column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default())]
    Row { path: PathBuf, line: u64, column: Option<String>, what: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Logits, or counted work, that are not what they must be. The one error with exit code 1.
    #[error("{0}")]
    Differs(String),
    #[error("{backend}: {what}")]
    Device { backend: &'static str, what: String },
}

/// What to do where memory is short.
pub(crate) const LESS_MEMORY: &str = "take a smaller capacity or batch, or a strategy that keeps less";

impl Error {
    /// Something wrong in a file, in words.
    pub fn file(path: impl Into<PathBuf>, what: impl std::fmt::Display) -> Error {
        Error::File { path: path.into(), what: what.to_string() }
    }

    /// For `map_err`: names the file an I/O error happened to.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        |source| Error::Io { path, source }
    }

    /// What went wrong, without the name of the backend that it went wrong on.
    pub fn reason(self) -> String {
        match self {
            Error::Device { what, .. } => what,
            other => other.to_string(),
        }
    }

    /// 1: the program worked and found a difference. 2: it could not do what was asked.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Differs(_) => 1,
            _ => 2,
        }
    }
}

/// "did you mean .., or ..": the three names closest to the one given.
fn nearest(known: &[String], name: &str) -> String {
    let mut ranked: Vec<(usize, &String)> = known.iter().map(|k| (distance(k, name), k)).collect();
    ranked.sort();
    ranked.dedup();
    let names: Vec<String> = ranked.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "there are none".into(),
        [one] => format!("did you mean {one}?"),
        [most @ .., last] => format!("did you mean {} or {last}?", most.join(", ")),
    }
}

/// Edits between the name and the part of `known` that fits it best, so that the nearest case id
/// to `toy/paded` is one that holds `toy/padded`.
fn distance(known: &str, name: &str) -> usize {
    const MOST: usize = 200; // of a longer name nobody meant another
    let known: Vec<char> = known.chars().collect();
    let mut row = vec![0; known.len() + 1];
    for (i, wanted) in name.chars().take(MOST).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &have) in known.iter().enumerate() {
            let replace = diagonal + usize::from(have != wanted);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.into_iter().min().unwrap_or(0)
}

/// What the argument parser objects to, without the reminder of how it is used.
pub fn usage(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    // the tip to pass a misspelt option on as a value is no help
    let end = ["\n\n  tip: to pass '", "\n\nUsage:", "\n\nFor more information"]
        .iter()
        .filter_map(|end| message.find(end))
        .min();
    message[..end.unwrap_or(message.len())].replace("\n\n  tip:", "; tip:")
}

/// Messages quote what others wrote, file names and tensor names among it: however that looks,
/// the message is one line, and no terminal obeys it.
pub fn one_line(message: &str) -> String {
    const MOST: usize = 1000;
    let words: Vec<&str> = message.split_ascii_whitespace().collect();
    let mut line: String = words.join(" ").chars().flat_map(shown).take(MOST).collect();
    if line.chars().count() == MOST {
        line.push('…');
    }
    line
}

fn shown(c: char) -> impl Iterator<Item = char> {
    let escaped = acts(c).then(|| c.escape_default());
    let plain = (!acts(c)).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let known = ["naive", "concat", "padded", "bounded"].map(String::from).to_vec();
        let error = Error::Unknown { kind: "strategy", name: "paded".into(), known };
        assert_eq!(
            error.to_string(),
            "unknown strategy `paded`; did you mean `padded`, `bounded` or `concat`?"
        );
    }
}
