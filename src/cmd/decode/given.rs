//! What is decoded from: on the command line, in a file, or on standard input.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use decode_bench::error::{Error, Result};
use decode_bench::files::{self, utf8};

use crate::cmd::parse::Ids;

/// As many ids as a decode can have positions fit in it.
const MOST_BYTES: u64 = 16 << 20;

/// An argument's value, or where to read it: `@FILE` a file, `-` standard input, `@@…` is a value that begins
/// with @.
#[derive(Clone, Debug)]
pub enum Given<T> {
    Here(T),
    File(PathBuf),
    Input,
}

impl<T: FromStr<Err: Display>> FromStr for Given<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Given<T>, String> {
        match (text, text.strip_prefix('@')) {
            ("-", _) => Ok(Given::Input),
            ("@", _) => {
                Err("@ goes before the name of a file; a value that begins with @ is written @@".into())
            }
            (_, Some(path)) if !path.starts_with('@') => Ok(Given::File(path.into())),
            (_, value) => value.unwrap_or(text).parse().map(Given::Here).map_err(|e: T::Err| e.to_string()),
        }
    }
}

impl<T: Clone> Given<T> {
    pub fn is_input(&self) -> bool {
        matches!(self, Given::Input)
    }

    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Given::File(path) => Some(path),
            Given::Here(_) | Given::Input => None,
        }
    }

    fn read(&self, of_bytes: impl FnOnce(&Path, &[u8]) -> Result<T>) -> Result<T> {
        let (name, bytes) = match self {
            Given::Here(value) => return Ok(value.clone()),
            Given::File(path) => (path.as_path(), files::read(path, MOST_BYTES)?),
            Given::Input => {
                let name = Path::new("standard input");
                (name, files::read_from(io::stdin().lock(), name, MOST_BYTES)?)
            }
        };
        of_bytes(name, files::without_mark(&bytes))
    }
}

impl Given<Ids> {
    /// Token ids with commas, white space or line ends between them.
    pub fn ids(&self) -> Result<Vec<u32>> {
        let Ids(ids) = self.read(|name, bytes| {
            let mut ids = Vec::new();
            for (line, text) in utf8(name, bytes)?.lines().enumerate() {
                for id in text.split([',', ' ', '\t']).filter(|id| !id.is_empty()) {
                    let row = || Error::Row {
                        path: name.into(),
                        line: line as u64 + 1,
                        column: None,
                        what: format!(
                            "`{id}` is no token id; give whole numbers, with commas or spaces between them"
                        ),
                    };
                    ids.push(id.parse().map_err(|_| row())?);
                }
            }
            match ids.is_empty() {
                true => Err(Error::file(name, "no token ids in it")),
                false => Ok(Ids(ids)),
            }
        })?;
        Ok(ids)
    }
}

impl Given<String> {
    /// The text; a file's without the end of its last line, which editors put there.
    pub fn text(&self) -> Result<String> {
        self.read(|name, bytes| {
            let text = utf8(name, bytes)?;
            let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
            Ok(text.to_string())
        })
    }
}
