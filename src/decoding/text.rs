//! Text and the tokens of it, by a `tokenizer.json` as Hugging Face's tokenizers write it.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::files;

/// What a checkpoint's folder has it under.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Some ten times the largest in use.
const MOST_BYTES: u64 = 256 << 20;

/// A tokenizer, from words to ids and back.
pub struct Text {
    tokenizer: Tokenizer,
    path: PathBuf,
}

impl Text {
    /// Reads a `tokenizer.json`. The padding and truncation that it may ask for are for batches of one length,
    /// and are left out.
    ///
    /// # Errors
    /// When it is no file, too long, or says nothing that the library can follow.
    pub fn open(path: &Path) -> Result<Text> {
        let bytes = files::read(path, MOST_BYTES)?;
        let json = files::without_mark(&bytes);
        // the library panics on some of what is no JSON, and says less of the rest
        serde_json::from_slice::<serde::de::IgnoredAny>(json).map_err(|e| Error::file(path, e))?;
        let tokenizer = guarded(path, || {
            let mut tokenizer = Tokenizer::from_bytes(json)?;
            tokenizer.with_padding(None).with_truncation(None)?;
            Ok(tokenizer)
        })?;
        Ok(Text { tokenizer, path: path.into() })
    }

    /// With the special tokens that the file puts around a sentence.
    ///
    /// # Errors
    /// When there are none, or a word is none that the file knows.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(&self.path, || self.tokenizer.encode(text, true))?;
        match encoding.get_ids() {
            [] => Err(Error::file(&self.path, format!("the text `{text}` has no tokens"))),
            ids => Ok(ids.to_vec()),
        }
    }

    /// Without special tokens, and without ids that the file does not know.
    pub fn of(&self, tokens: &[u32]) -> Result<String> {
        guarded(&self.path, || self.tokenizer.decode(tokens, true))
    }
}

/// What the library makes of a file. It panics on some that contradict themselves; here that is an error like
/// any other, in one line.
fn guarded<T>(path: &Path, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                others(info)
            }
        }));
    });
    QUIET.set(true);
    // nothing is used again after a panic: the error ends what the tokenizer was opened for
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    let what = match done {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or_default().to_string(),
        },
    };
    let line = what.lines().next().unwrap_or_default();
    Err(Error::file(path, format!("no tokenizer that can be used: {line}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A tokenizer of three words, changed by `change`.
    fn opened(change: impl FnOnce(&mut serde_json::Value)) -> Result<Text> {
        let mut json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"the": 0, "cat": 1, "?": 2}, "unk_token": "?"},
        });
        change(&mut json);
        read(json.to_string().as_bytes())
    }

    fn read(bytes: &[u8]) -> Result<Text> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TOKENIZER_FILE);
        fs::write(&path, bytes).unwrap();
        Text::open(&path)
    }

    #[test]
    fn a_sentence_is_as_long_as_it_is_whatever_the_file_says_of_batches() {
        let text = opened(|json| {
            json["truncation"] = serde_json::json!(
                {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 9});
            json["padding"] = serde_json::json!({
                "strategy": {"Fixed": 1u64 << 40}, "direction": "Left", "pad_to_multiple_of": null,
                "pad_id": 2, "pad_type_id": 0, "pad_token": "?"});
        });
        assert_eq!(text.unwrap().tokens("the cat").unwrap(), [0, 1]);
    }

    #[test]
    fn what_the_library_panics_on_is_an_error_of_one_line() {
        let mut broken =
            b"{\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"".to_vec();
        broken.extend(b"always*,\"split\":true}}");
        let error = read(&broken).err().unwrap().to_string();
        assert!(error.contains("tokenizer.json: ") && error.contains("line 1 column"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        // words are put around a sentence that the file does not know
        let text = opened(|json| {
            json["post_processor"] = serde_json::json!({
                "type": "TemplateProcessing", "pair": [], "special_tokens": {},
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]});
        });
        let error = text.unwrap().tokens("the cat").unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: no tokenizer that can be used: "), "{error}");
        let path = Path::new("tokenizer.json");
        let error = guarded::<()>(path, || panic!("two\nlines")).unwrap_err();
        assert_eq!(error.to_string(), "tokenizer.json: no tokenizer that can be used: two");
    }
}
