//! The fields of a `config.json`, each checked as it is read.
//!
//! Every key of a file is one of four. Most are asked for by the `parse` of a model, which uses the value or
//! refuses it by name. Others change nothing: [`HARMLESS`], and a list of the model's own. Others say how to
//! generate: [`GENERATION_KEYS`]. The rest is unknown, and said: [`Fields::unknown`].

use std::cell::RefCell;
use std::collections::BTreeSet;

use regex::{Captures, Regex};
use serde_json::{json, Map, Value};

use crate::backend::Activation;

/// The largest size that a field may state: no product of three of them overflows.
const MOST: u64 = 1 << 20;

/// Keys that every configuration of transformers may have, today's or that of an older release, and that
/// change no logit.
const HARMLESS: &[&str] = &[
    // what the file is, and what wrote it
    "architectures",
    "transformers_version",
    "name_or_path",
    "_name_or_path",
    "_commit_hash",
    "tokenizer_class",
    // the type of stored numbers, which the weights' file says of each tensor
    "dtype",
    "torch_dtype",
    "use_bfloat16",
    // training
    "gradient_checkpointing",
    "finetuning_task",
    // heads for other tasks
    "id2label",
    "label2id",
    "num_labels",
    "_num_labels",
    "problem_type",
    "classifier_dropout",
    "sep_token_id",
    // pipelines, which look here for a prompt and for settings of their own
    "prefix",
    "task_specific_params",
    // the form of what a call returns
    "return_dict",
    "use_return_dict",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "tie_last_hidden_states",
    // which code computes the same numbers
    "use_cache",
    "chunk_size_feed_forward",
    "torchscript",
    "tf_legacy_loss",
    "xla_device",
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_flash_attn_2_enabled",
    "_experts_implementation",
    "experts_implementation",
    "distributed_config",
    "fusion_config",
    // the kind of model, which is known
    "is_decoder",
    "is_encoder_decoder",
    "cross_attention_hidden_size",
];

/// Keys that say how to generate: those of transformers' `GenerationConfig`, which older releases wrote into
/// `config.json`.
pub const GENERATION_KEYS: &[&str] = &[
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "constraints",
    "continuous_batching_config",
    "decoder_start_token_id",
    "disable_compile",
    "diversity_penalty",
    "do_sample",
    "dola_layers",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "eos_token_id",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "force_bos_token_to_be_generated",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_decoder_ids",
    "forced_eos_token_id",
    "guidance_scale",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_length",
    "max_matching_ngram_size",
    "max_new_tokens",
    "max_time",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "penalty_alpha",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "return_dict_in_generate",
    "sequence_bias",
    "speculation_type",
    "stop_strings",
    "suppress_tokens",
    "target_lookbehind",
    "temperature",
    "token_healing",
    "top_h",
    "top_k",
    "top_p",
    "typical_p",
    "use_mtp",
    "watermarking_config",
];

/// Functions by their names in transformers' `ACT2FN`; names beside each other are of one function, written
/// in several ways.
const ACTIVATIONS: [(Activation, &[&str]); 5] = [
    (Activation::GeluErf, &["gelu", "gelu_python"]),
    (Activation::Gelu, &["gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"]),
    (Activation::Relu, &["relu"]),
    (Activation::Silu, &["silu", "swish"]),
    (Activation::None, &["linear"]),
];

/// The name that a function is written by.
pub(super) fn activation_name(activation: Activation) -> &'static str {
    let found = ACTIVATIONS.iter().find(|(function, _)| *function == activation);
    found.expect("each has a name").1[0]
}

/// A JSON object. Methods that take a field return its value, or a sentence that names the field and says what
/// is wrong with it. `null` is a value like others, and refused where it is not mentioned.
pub(super) struct Fields {
    values: Map<String, Value>,
    /// Where the object is: nothing, or `rope_scaling.`
    place: String,
    /// The keys that a model has asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl Fields {
    pub fn parse(text: &str) -> serde_json::Result<Fields> {
        let values = serde_json::from_str(text).or_else(|e| {
            serde_json::from_str(&quote_numbers_of_python(text)).map_err(|_| e) // its place is that in the file
        });
        Ok(Fields::new(values?, String::new()))
    }

    fn new(values: Map<String, Value>, place: String) -> Fields {
        Fields { values, place, asked: RefCell::default() }
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.asked.borrow_mut().insert(field.into());
        self.values.get(field)
    }

    /// What is wrong with a value.
    fn wrong<T>(&self, field: &str, value: &Value, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("{}{field} = {value}{what}", self.place))
    }

    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The first of two spellings of a key that the file has, or the second: transformers reads both, and the
    /// first goes before the second.
    pub fn spelling<'a>(&self, [first, second]: [&'a str; 2]) -> &'a str {
        match [first, second].map(|field| self.has(field)) {
            [true, _] => first,
            _ => second,
        }
    }

    /// A whole number from 1 to [`MOST`].
    pub fn size(&self, field: &str) -> Result<usize, String> {
        let value = self.get(field).ok_or_else(|| format!("`{field}` is missing"))?;
        let size = value.as_u64().filter(|size| (1..=MOST).contains(size));
        let size = size.and_then(|size| usize::try_from(size).ok());
        size.map_or_else(
            || self.wrong(field, value, format_args!("; it must be a whole number from 1 to {MOST}")),
            Ok,
        )
    }

    pub fn size_or(&self, field: &str, absent: usize) -> Result<usize, String> {
        if self.has(field) {
            self.size(field)
        } else {
            Ok(absent)
        }
    }

    /// `None` where the field is `null` or absent.
    pub fn size_or_none(&self, field: &str) -> Result<Option<usize>, String> {
        match self.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.size(field).map(Some),
        }
    }

    /// A whole number from 0 to [`MOST`].
    pub fn index_or(&self, field: &str, absent: usize) -> Result<usize, String> {
        let Some(value) = self.get(field) else { return Ok(absent) };
        match value.as_u64().filter(|&index| index <= MOST) {
            Some(index) => Ok(index as usize),
            None => self.wrong(field, value, "; it must be an index"),
        }
    }

    pub fn positive_or(&self, field: &str, absent: f64) -> Result<f64, String> {
        if self.has(field) {
            self.positive(field)
        } else {
            Ok(absent)
        }
    }

    /// `None` where the field is `null` or absent.
    pub fn positive_or_none(&self, field: &str) -> Result<Option<f64>, String> {
        match self.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.positive(field).map(Some),
        }
    }

    pub fn positive(&self, field: &str) -> Result<f64, String> {
        let value = self.get(field).ok_or_else(|| format!("`{}{field}` is missing", self.place))?;
        match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
            Some(number) => Ok(number),
            None => self.wrong(field, value, "; it must be a number above zero"),
        }
    }

    /// Absent is false.
    pub fn flag(&self, field: &str) -> Result<bool, String> {
        self.flag_or(field, false)
    }

    pub fn flag_or(&self, field: &str, absent: bool) -> Result<bool, String> {
        let Some(value) = self.get(field) else { return Ok(absent) };
        value.as_bool().map_or_else(|| self.wrong(field, value, "; it must be true or false"), Ok)
    }

    /// An object inside of this one; absent and `null` are empty.
    pub fn object(&self, field: &str) -> Result<Fields, String> {
        let values = match self.get(field) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(values)) => values.clone(),
            Some(other) => return self.wrong(field, other, "; it must be an object"),
        };
        Ok(Fields::new(values, format!("{}{field}.", self.place)))
    }

    /// A list of texts; absent and `null` are empty.
    pub fn texts(&self, field: &str) -> Result<Vec<String>, String> {
        match self.get(field) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(value) => serde_json::from_value(value.clone())
                .or_else(|_| self.wrong(field, value, "; it must be a list of texts")),
        }
    }

    /// A list of pairs of sizes, at least one. `names` is for the error: `[channels, taps]`.
    pub fn pairs(&self, field: &str, names: &str) -> Result<Vec<[usize; 2]>, String> {
        let is_size = |&n: &usize| (1..=MOST).contains(&(n as u64));
        let pairs: Option<Vec<[usize; 2]>> =
            self.get(field).and_then(|pairs| serde_json::from_value(pairs.clone()).ok());
        let pairs = pairs.filter(|pairs| !pairs.is_empty() && pairs.iter().flatten().all(is_size));
        pairs.ok_or_else(|| format!("`{field}` must be a list of {names}"))
    }

    /// One of the names that are implemented.
    pub fn one_of<'a>(&self, field: &str, implemented: &[&'a str]) -> Result<&'a str, String> {
        let found = self.get(field).ok_or_else(|| format!("`{field}` is missing"))?;
        let named = implemented.iter().copied().find(|name| found.as_str() == Some(name));
        named.map_or_else(
            || self.wrong(field, found, format_args!("; only {implemented:?} can be read here")),
            Ok,
        )
    }

    /// One of the functions that are implemented, by any of its names; `absent` is the name of the original's.
    pub fn activation(
        &self,
        field: &str,
        absent: &str,
        implemented: &[Activation],
    ) -> Result<Activation, String> {
        let absent = Value::from(absent);
        let found = self.get(field).unwrap_or(&absent);
        let known = || ACTIVATIONS.iter().filter(|(function, _)| implemented.contains(function));
        let is_named = |(_, names): &&(_, &[&str])| names.iter().any(|name| found.as_str() == Some(name));
        let names = || known().flat_map(|(_, names)| names.iter()).collect::<Vec<_>>();
        known().find(is_named).map_or_else(
            || self.wrong(field, found, format_args!(" is not implemented, only {:?} are", names())),
            |(function, _)| Ok(*function),
        )
    }

    /// For a field of which only one value is implemented; it may be absent.
    pub fn only(&self, field: &str, implemented: Value) -> Result<(), String> {
        let number = |value: &Value| value.as_f64();
        match self.get(field) {
            None => Ok(()),
            Some(found) if *found == implemented => Ok(()),
            Some(found) if number(found).is_some() && number(found) == number(&implemented) => Ok(()),
            Some(found) => {
                self.wrong(field, found, format_args!(" is not implemented, only {implemented} is"))
            }
        }
    }

    /// The same, where `null` counts as absent.
    pub fn only_if_set(&self, field: &str, implemented: Value) -> Result<(), String> {
        match self.get(field) {
            Some(Value::Null) => Ok(()),
            _ => self.only(field, implemented),
        }
    }

    /// Refuses what a configuration of transformers may ask of any model, and no model has here.
    pub fn only_what_all_models_have(&self) -> Result<(), String> {
        self.only("is_causal", json!(true))?;
        for (field, implemented) in [
            ("quantization_config", Value::Null),
            ("compression_config", Value::Null),
            ("transformers_weights", Value::Null),
            ("per_layer_config", json!({})),
            ("pruned_heads", json!({})),
            ("add_cross_attention", json!(false)),
            ("tie_encoder_decoder", json!(false)),
        ] {
            self.only_if_set(field, implemented)?;
        }
        Ok(())
    }

    /// The keys that nobody has asked for, and that neither [`HARMLESS`] nor the list of a model knows.
    pub fn unknown(&self, harmless: &[&str]) -> Vec<&str> {
        let asked = self.asked.borrow();
        let is_listed = |key: &str| [HARMLESS, GENERATION_KEYS, harmless].iter().any(|l| l.contains(&key));
        self.values
            .keys()
            .map(String::as_str)
            .filter(|key| !asked.contains(*key) && !is_listed(key))
            .collect()
    }

    /// Refuses keys of an object inside of the file that are not in the list and were not asked for.
    pub fn only_known(&self, harmless: &[&str]) -> Result<(), String> {
        match self.unknown(harmless)[..] {
            [] => Ok(()),
            [key, ..] => self.wrong(key, &self.values[key], " is not implemented"),
        }
    }

    /// Those of [`GENERATION_KEYS`] that the file has.
    pub fn generation(&self) -> Map<String, Value> {
        let is_one = |(key, _): &(&String, _)| GENERATION_KEYS.contains(&key.as_str());
        self.values.iter().filter(is_one).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// Python writes numbers that JSON lacks: `NaN`, `Infinity`, `-Infinity`. As texts they pass where nobody
/// reads them, and are refused by name where a number is read.
fn quote_numbers_of_python(text: &str) -> String {
    let text_or_number = Regex::new(r#""(?:[^"\\]|\\.)*"|NaN|-?Infinity"#).expect("a valid pattern");
    let quoted = |found: &Captures| match &found[0] {
        text if text.starts_with('"') => text.to_string(),
        number => format!("\"{number}\""),
    };
    text_or_number.replace_all(text, quoted).into_owned()
}
