//! What a checkpoint asks of those who generate with it: `generation_config.json` or, where there is none, the same
//! keys of `config.json`, as transformers' `generate` reads them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{BeamRule, Processors};
use crate::error::{Error, Result};
use crate::files;
use crate::model::checkpoint::CONFIG_FILE;

/// The file of a checkpoint that says how to generate.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// The longest that is read.
const MOST_BYTES: u64 = 1 << 20;

/// The keys that are followed, and what each has without effect; `NAN` where there is nothing such. `false` counts
/// as 0; `null` and `[]` are without effect everywhere, and `{}` nowhere: it is an object with its defaults.
const FOLLOWED: &[(&str, f64)] = &[
    ("eos_token_id", f64::NAN),
    ("decoder_start_token_id", f64::NAN),
    ("forced_bos_token_id", f64::NAN),
    ("forced_eos_token_id", f64::NAN),
    ("bad_words_ids", f64::NAN),
    ("suppress_tokens", f64::NAN),
    ("begin_suppress_tokens", f64::NAN),
    ("min_length", 0.0),
    ("min_new_tokens", 0.0),
    ("repetition_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("renormalize_logits", 0.0),
    ("length_penalty", 1.0),
    ("early_stopping", f64::NAN),
];

/// Keys of what whoever generates chooses: how tokens are, and how many.
const CHOSEN: &[(&str, f64)] = &[
    ("do_sample", 0.0),
    ("temperature", 1.0),
    ("top_k", f64::NAN),
    ("top_p", 1.0),
    ("min_p", 0.0),
    ("top_h", f64::NAN),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("num_beams", 1.0),
    ("num_return_sequences", 1.0),
    ("max_length", f64::NAN),
    ("max_new_tokens", f64::NAN),
];

/// Keys that change what is generated in a way that is not implemented.
const REFUSED: &[(&str, f64)] = &[
    ("max_time", f64::NAN),
    ("stop_strings", f64::NAN),
    ("encoder_repetition_penalty", 1.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("exponential_decay_length_penalty", f64::NAN),
    ("sequence_bias", f64::NAN),
    ("token_healing", 0.0),
    ("guidance_scale", 1.0),
    ("watermarking_config", f64::NAN),
    ("penalty_alpha", 0.0),
    ("dola_layers", f64::NAN),
    ("diversity_penalty", 0.0),
    ("num_beam_groups", 1.0),
    ("constraints", f64::NAN),
    ("force_words_ids", f64::NAN),
    ("forced_decoder_ids", f64::NAN),
    ("force_bos_token_to_be_generated", 0.0),
];

/// Keys of what is returned, of caches, and of drafts that are checked before they count: no token depends on them.
const HARMLESS: &[&str] = &[
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bos_token_id", // begins what has no prompt: read where there may be none
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "disable_compile",
    "generation_kwargs",
    "is_assistant",
    "low_memory",
    "max_cache_len",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values", // logits that are no numbers are an error here
    "return_dict_in_generate",
    "return_legacy_cache",
    "speculation_type",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
    "use_mtp",
];

/// What a checkpoint asks for. The default asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct GenerationConfig {
    /// The file that says it.
    pub path: PathBuf,
    /// The keys that are followed, or that whoever generates chooses, with what they ask for.
    pub asked: Map<String, Value>,
    /// What else its reader should know, a line each.
    pub notes: Vec<String>,
    /// The tokens that end a continuation.
    pub eos: Vec<u32>,
    /// The token that a decode from a source begins with.
    pub start: Option<u32>,
    /// Tokens generated before an end token.
    pub min_new_tokens: usize,
    /// Changes of the scores.
    pub processors: Processors,
    /// λ of a beam search.
    pub length_penalty: Option<f64>,
    /// When a beam search ends.
    pub beam_rule: Option<BeamRule>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EarlyStopping {
    Flag(bool),
    Word(String),
}

impl GenerationConfig {
    /// Of the checkpoint in a folder, whose `config.json` has these keys of [`crate::model::checkpoint::GENERATION_KEYS`].
    ///
    /// # Errors
    /// A file that cannot be read, a key whose value makes no sense or asks for what is not implemented.
    pub fn open(folder: &Path, of_model: &Map<String, Value>) -> Result<GenerationConfig> {
        let [beside, config] = [GENERATION_CONFIG_FILE, CONFIG_FILE].map(|file| folder.join(file));
        let is_there = fs::symlink_metadata(&beside).is_ok(); // a link that leads nowhere is an error
        let (path, fields) = match is_there {
            true => (beside.clone(), read(&beside)?),
            false => (config, of_model.clone()),
        };
        let mut parsed = parse(&fields).map_err(|what| Error::file(&path, what))?;
        parsed.path = path.clone();
        let id = |key| {
            value::<u32>(of_model, key, "a token id")
                .map_err(|what| Error::file(folder.join(CONFIG_FILE), what))
        };
        let start = parsed.start.or(id("decoder_start_token_id")?);
        parsed.start = start.or(value(&fields, "bos_token_id", "a token id").ok().flatten());
        if path == beside {
            let known = |key: &String| named(FOLLOWED, key) || named(CHOSEN, key) || named(REFUSED, key);
            let unknown =
                |key: &&String| !known(key) && !HARMLESS.contains(&key.as_str()) && !key.starts_with('_');
            parsed.note("keys that are not known here have no effect", fields.keys().filter(unknown));
            let passed_over = |key: &&String| {
                let asks = [FOLLOWED, REFUSED].iter().any(|list| asks(list, of_model, key));
                asks && !fields.contains_key(*key) && *key != "decoder_start_token_id"
            };
            let what = format!("goes before {CONFIG_FILE}, of which these have no effect");
            parsed.note(&what, of_model.keys().filter(passed_over));
        }
        Ok(parsed)
    }

    fn note<'a>(&mut self, what: &str, keys: impl Iterator<Item = &'a String>) {
        let keys: Vec<String> = keys.map(|key| format!("`{key}`")).collect();
        if !keys.is_empty() {
            self.notes.push(format!("{}: {what}: {}", self.path.display(), keys.join(", ")));
        }
    }
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let bytes = files::read(path, MOST_BYTES)?;
    serde_json::from_slice(files::without_mark(&bytes)).map_err(|e| Error::file(path, e))
}

fn parse(fields: &Map<String, Value>) -> Result<GenerationConfig, String> {
    if let Some((key, value)) = fields.iter().find(|(key, _)| asks(REFUSED, fields, key)) {
        return Err(format!(
            "{key} = {value} is not implemented; --ignore-generation-config takes nothing from this file"
        ));
    }
    let ids = |key| {
        let ids = value(fields, key, "a token id, or a list of them")?;
        Ok::<_, String>(ids.map_or(Vec::new(), |ids| match ids {
            OneOrMany::One(id) => vec![id],
            OneOrMany::Many(ids) => ids,
        }))
    };
    let id = |key| value::<u32>(fields, key, "a token id");
    let count = |key| value::<usize>(fields, key, "a whole number");
    let number = |key| value::<f64>(fields, key, "a number");
    let flag = |key| Ok::<_, String>(value::<bool>(fields, key, "true or false")?.unwrap_or(false));
    let bad_words = value::<Vec<Vec<u32>>>(fields, "bad_words_ids", "a list of lists of token ids")?;
    let bad_words = bad_words.unwrap_or_default();
    if bad_words.contains(&Vec::new()) {
        return Err("bad_words_ids has an empty list, which would be everywhere".into());
    }
    let min_new_tokens = count("min_new_tokens")?;
    let beam_rule = match value(fields, "early_stopping", "true, false or \"never\"")? {
        None => None,
        Some(EarlyStopping::Flag(true)) => Some(BeamRule::Fairseq),
        Some(EarlyStopping::Flag(false)) => Some(BeamRule::Transformers),
        Some(EarlyStopping::Word(word)) if word == "never" => Some(BeamRule::TransformersNever),
        Some(EarlyStopping::Word(word)) => {
            return Err(format!("early_stopping = {word:?}; it must be true, false or \"never\""))
        }
    };
    let asked = fields.iter().filter(|(key, _)| asks(FOLLOWED, fields, key) || asks(CHOSEN, fields, key));
    Ok(GenerationConfig {
        path: PathBuf::new(),
        asked: asked.map(|(key, value)| (key.clone(), value.clone())).collect(),
        notes: Vec::new(),
        eos: ids("eos_token_id")?,
        start: id("decoder_start_token_id")?,
        min_new_tokens: min_new_tokens.unwrap_or(0),
        processors: Processors {
            repetition_penalty: number("repetition_penalty")?.unwrap_or(1.0),
            no_repeat_ngram_size: count("no_repeat_ngram_size")?.unwrap_or(0),
            bad_words,
            min_length: count("min_length")?.filter(|_| min_new_tokens.is_none()).unwrap_or(0),
            forced_bos: id("forced_bos_token_id")?,
            forced_eos: ids("forced_eos_token_id")?,
            suppress: ids("suppress_tokens")?,
            begin_suppress: ids("begin_suppress_tokens")?,
            renormalize: flag("renormalize_logits")?,
        },
        length_penalty: number("length_penalty")?,
        beam_rule,
    })
}

/// Of a key; `null` is absent. `wanted` is for the error.
fn value<T: DeserializeOwned>(
    fields: &Map<String, Value>,
    key: &str,
    wanted: &str,
) -> Result<Option<T>, String> {
    let Some(value) = fields.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    serde_json::from_value(value.clone())
        .map(Some)
        .map_err(|_| format!("{key} = {value}; it must be {wanted}"))
}

fn named(list: &[(&str, f64)], key: &str) -> bool {
    list.iter().any(|(name, _)| *name == key)
}

/// Whether a key of the list is there, and has an effect.
fn asks(list: &[(&str, f64)], fields: &Map<String, Value>, key: &str) -> bool {
    let (Some((_, without)), Some(value)) = (list.iter().find(|(name, _)| *name == key), fields.get(key))
    else {
        return false;
    };
    match value {
        Value::Null => false,
        Value::Bool(flag) => f64::from(u8::from(*flag)) != *without,
        Value::Number(number) => number.as_f64() != Some(*without),
        Value::String(_) | Value::Object(_) => true,
        Value::Array(values) => !values.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::checkpoint::GENERATION_KEYS;

    /// What a `config.json` may ask for reaches [`GenerationConfig::open`], and is answered there.
    #[test]
    fn every_generation_key_of_a_configuration_is_answered() {
        let listed: Vec<&str> = [FOLLOWED, CHOSEN, REFUSED].concat().iter().map(|(key, _)| *key).collect();
        for key in &listed {
            assert!(GENERATION_KEYS.contains(key), "`{key}` of a config.json would be passed over");
        }
        for key in GENERATION_KEYS {
            assert!(listed.contains(key) || HARMLESS.contains(key), "`{key}` has no answer");
        }
    }
}
