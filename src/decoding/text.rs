//! Text and the tokens of it, by a `tokenizer.json` as Hugging Face's tokenizers write it.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use serde::Deserialize;
use tokenizers::{Encoding, ModelWrapper, Tokenizer};

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
    /// Of what the vocabulary has no token for.
    unknown: Option<u32>,
}

/// The tokens of a text.
#[derive(Debug)]
pub struct Encoded {
    /// With the special tokens that the file puts around a sentence.
    pub tokens: Vec<u32>,
    /// What their reader should know, a sentence each: special tokens that are there twice, parts that were lost.
    pub notes: Vec<String>,
}

impl Text {
    /// Reads a `tokenizer.json`. The padding and truncation that it may ask for are for batches of one length, and
    /// dropout for training: they are left out.
    ///
    /// # Errors
    /// When it is no file, too long, or says nothing that the library can follow.
    pub fn open(path: &Path) -> Result<Text> {
        let bytes = files::read(path, MOST_BYTES)?;
        let json = files::without_mark(&bytes);
        // the library panics on some of what is no JSON, and says less of the rest
        let known: Stated = serde_json::from_slice(json).map_err(|e| Error::file(path, e))?;
        let tokenizer = guarded(path, || {
            let mut tokenizer = Tokenizer::from_bytes(json)?;
            tokenizer.with_padding(None).with_truncation(None)?;
            if let ModelWrapper::BPE(mut model) = tokenizer.get_model().clone() {
                model.dropout = None;
                tokenizer.with_model(model);
            }
            Ok(tokenizer)
        })?;
        // the library gives a token that the vocabulary lacks the next id, whatever the file says
        let moved = |added: &&AddedToken| tokenizer.token_to_id(&added.content) != Some(added.id);
        if let Some(AddedToken { id, content }) = known.added_tokens.iter().find(moved) {
            let what = format!("the added token `{content}` cannot have id {id}: others have it, or ids before it are missing");
            return Err(Error::file(path, what));
        }
        let by_name = known.model.unk_token.and_then(|token| tokenizer.token_to_id(&token));
        Ok(Text { tokenizer, path: path.into(), unknown: known.model.unk_id.or(by_name) })
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When there are none, or a word is none that the file knows.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        let encoding = guarded(&self.path, || self.tokenizer.encode(text, true))?;
        if encoding.get_ids().is_empty() {
            return Err(Error::file(&self.path, format!("the text `{text}` has no tokens")));
        }
        let notes = self.doubled(&encoding).into_iter().chain(self.lost(text, &encoding)).collect();
        Ok(Encoded { tokens: encoding.get_ids().to_vec(), notes })
    }

    /// Special tokens that the text has at its beginning or end, and that the file puts there once more.
    fn doubled(&self, encoding: &Encoding) -> Vec<String> {
        let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let before = added.iter().take_while(|&&added| added == 1).count();
        let after = added.iter().rev().take_while(|&&added| added == 1).count();
        if before + after >= ids.len() {
            return Vec::new(); // none of them is the text's
        }
        let borders = [(before, "begins"), (ids.len() - after, "ends")];
        let borders =
            borders.into_iter().filter(|&(at, _)| at > 0 && at < ids.len() && ids[at - 1] == ids[at]);
        let said = |(at, does): (usize, &str)| {
            let token = self.tokenizer.id_to_token(ids[at]).unwrap_or_default();
            format!("the text {does} with `{token}`, and the tokenizer adds it once more: it is there twice")
        };
        borders.map(said).collect()
    }

    /// Letters of the text that became the unknown token, or no token.
    fn lost(&self, text: &str, encoding: &Encoding) -> Option<String> {
        let mut kept = vec![false; text.len()];
        for (&id, &(from, to)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let written_out =
                || text.get(from..to).and_then(|part| self.tokenizer.token_to_id(part)) == Some(id);
            if let Some(part) = kept.get_mut(from..to).filter(|_| Some(id) != self.unknown || written_out()) {
                part.fill(true);
            }
        }
        let letters = text.char_indices().filter(|(_, c)| !c.is_whitespace() && !c.is_control());
        let (kept, lost): (Vec<_>, Vec<_>) = letters.partition(|&(at, _)| kept[at]);
        // which ones is not known: what follows a letter without a token is counted from its place
        let (lost, all) = (lost.len(), kept.len() + lost.len());
        (lost > 0).then(|| {
            format!("the tokenizer has no token for {lost} of the text's {all} letters: they are lost")
        })
    }

    /// Whether the file has a token of this id: a model's vocabulary may be larger.
    pub fn has(&self, id: u32) -> bool {
        self.tokenizer.id_to_token(id).is_some()
    }

    /// Without special tokens, and without ids that the file does not know.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        guarded(&self.path, || self.tokenizer.decode(tokens, true))
    }

    /// What `tokens` add to the text of the `prompt` before them: the space between the two, and the rest of a
    /// letter that the prompt breaks off in, are part of it.
    pub fn continuation(&self, prompt: &[u32], tokens: &[u32]) -> Result<String> {
        let (before, whole) = (self.decode(prompt)?, self.decode(&[prompt, tokens].concat())?);
        let same = before.chars().zip(whole.chars()).take_while(|(one, other)| one == other);
        let same = same.map(|(c, _)| c.len_utf8()).sum::<usize>();
        Ok(whole[same..].to_string())
    }
}

/// What a file says of the unknown token, by name or, of a unigram model, by id; and of the tokens beside its model's.
#[derive(Deserialize)]
struct Stated {
    #[serde(default)]
    model: UnknownOfModel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Default, Deserialize)]
struct UnknownOfModel {
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    unk_id: Option<u32>,
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
        assert_eq!(text.unwrap().encode("the cat").unwrap().tokens, [0, 1]);
    }

    /// Else every call would cut words in another way.
    #[test]
    fn dropout_is_for_training() {
        let text = opened(|json| {
            let vocab = serde_json::json!({"a": 0, "b": 1, "ab": 2});
            json["model"] =
                serde_json::json!({"type": "BPE", "dropout": 1.0, "vocab": vocab, "merges": [["a", "b"]]});
        });
        assert_eq!(text.unwrap().encode("ab").unwrap().tokens, [2]);
    }

    #[test]
    fn added_tokens_have_the_ids_that_the_file_states() {
        let with = |id: u32| {
            opened(|json| {
                json["added_tokens"] = serde_json::json!([{"id": id, "content": "<s>", "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false, "special": true}]);
            })
        };
        assert_eq!(with(3).unwrap().encode("<s> cat").unwrap().tokens, [3, 1]);
        assert!(with(3).unwrap().has(3) && !with(3).unwrap().has(4));
        for id in [0, 9] {
            let error = with(id).err().unwrap().to_string();
            assert!(error.contains(&format!("`<s>` cannot have id {id}")), "{error}");
        }
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
        let error = text.unwrap().encode("the cat").unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: no tokenizer that can be used: "), "{error}");
        let path = Path::new("tokenizer.json");
        let error = guarded::<()>(path, || panic!("two\nlines")).unwrap_err();
        assert_eq!(error.to_string(), "tokenizer.json: no tokenizer that can be used: two");
    }
}
