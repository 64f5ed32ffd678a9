//! Text and the tokens of it, by a `tokenizer.json` as Hugging Face's tokenizers write it.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// What a checkpoint's folder has it under.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A tokenizer, from words to ids and back.
pub struct Text {
    tokenizer: Tokenizer,
    path: PathBuf,
}

impl Text {
    /// Reads a `tokenizer.json`.
    pub fn open(path: &Path) -> Result<Text> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| Error::file(path, e))?;
        Ok(Text { tokenizer, path: path.into() })
    }

    /// With the special tokens that the file puts around a sentence.
    ///
    /// # Errors
    /// When there are none, or a word is none that the file knows.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, true).map_err(|e| Error::file(&self.path, e))?;
        match encoding.get_ids() {
            [] => Err(Error::file(&self.path, format!("the text `{text}` has no tokens"))),
            ids => Ok(ids.to_vec()),
        }
    }

    /// Without special tokens, and without ids that the file does not know.
    pub fn of(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true).map_err(|e| Error::file(&self.path, e))
    }
}
