//! What `decode` prints: one JSON object.

use serde::Serialize;
use serde_json::{Map, Value};

use decode_bench::decoding::{Beam, GenerationConfig, Hypothesis, Limits, Sampler, Text};
use decode_bench::error::Result;

use super::choosing::{Choosing, Fate, Flags};

#[derive(Serialize)]
pub struct Decoded {
    #[serde(flatten)]
    pub answer: Printed,
    pub model: String,
    pub shape: Option<String>,
    pub checkpoint: Option<String>,
    pub seed: Option<u64>,
    pub dtype: String,
    pub strategy: String,
    pub cache_dtype: String,
    pub backend: String,
    pub prefill: super::Prefill,
    pub capacity: usize,
    pub vocabulary: usize,
    pub threads: usize,
    pub version: &'static str,
    #[serde(flatten)]
    pub asked: Asked,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum Printed {
    /// The one continuation of the one prompt.
    One {
        tokens: Vec<u32>,
        prompt: Vec<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The continuations of each prompt, the best first.
    Many { hypotheses: Vec<Vec<Continuation>>, prompts: Vec<Vec<u32>> },
}

#[derive(Serialize)]
pub struct Continuation {
    tokens: Vec<u32>,
    score: f64,
    log_probability: f64,
    /// By the end token, not by its length.
    ended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Printed {
    /// Of hypotheses of each prompt; with their text, where there is a tokenizer.
    pub fn new(
        mut found: Vec<Vec<Hypothesis>>,
        mut prompts: Vec<Vec<u32>>,
        choosing: &Choosing,
        text: Option<&Text>,
    ) -> Result<Printed> {
        let text_of =
            |prompt: &[u32], tokens: &[u32]| text.map(|text| text.continuation(prompt, tokens)).transpose();
        if let (Choosing::Sample(_), 1) = (choosing, prompts.len()) {
            let (Hypothesis { tokens, .. }, prompt) = (found.remove(0).remove(0), prompts.remove(0));
            return Ok(Printed::One { text: text_of(&prompt, &tokens)?, tokens, prompt });
        }
        let continuation = |prompt: &[u32], Hypothesis { tokens, log_probability, score, ended }| {
            Ok(Continuation { text: text_of(prompt, &tokens)?, tokens, score, log_probability, ended })
        };
        let of_prompt = |(found, prompt): (Vec<Hypothesis>, &Vec<u32>)| {
            found.into_iter().map(|found| continuation(prompt, found)).collect()
        };
        let hypotheses = found.into_iter().zip(&prompts).map(of_prompt).collect::<Result<_>>()?;
        Ok(Printed::Many { hypotheses, prompts })
    }
}

/// What is not the same for everybody; nothing of a plain greedy decode.
#[derive(Serialize)]
pub struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    sampler: Option<Sampler>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beam: Option<Beam>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eos: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_len: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefix: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ensemble: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<FromFile>,
}

/// What a checkpoint asks for, by what became of it.
#[derive(Serialize)]
pub struct FromFile {
    file: String,
    followed: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    overridden: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    not_followed: Map<String, Value>,
}

impl FromFile {
    /// `None`, where nothing is asked for.
    pub fn new(config: &GenerationConfig, flags: &Flags, choosing: &Choosing) -> Option<FromFile> {
        if config.asked.is_empty() {
            return None;
        }
        let file = config.path.display().to_string();
        let [mut followed, mut overridden, mut not_followed] = [Map::new(), Map::new(), Map::new()];
        for (key, value) in &config.asked {
            let fate = match flags.fate(key, value, config, choosing) {
                Fate::Followed => &mut followed,
                Fate::Overridden => &mut overridden,
                Fate::NotFollowed => &mut not_followed,
                Fate::WithoutEffect => continue,
            };
            fate.insert(key.clone(), value.clone());
        }
        Some(FromFile { file, followed, overridden, not_followed })
    }

    /// What is not followed though no flag says otherwise, as a sentence.
    pub fn note(&self) -> Option<String> {
        let asked: Vec<String> =
            self.not_followed.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let (file, asked) = (&self.file, (!asked.is_empty()).then(|| asked.join(", "))?);
        Some(format!(
            "{file} asks for {asked}: not followed, how tokens are chosen is for the command line to say"
        ))
    }
}

impl Asked {
    pub fn new(
        choosing: &Choosing,
        limits: &Limits,
        ensemble: Vec<String>,
        generation_config: Option<FromFile>,
    ) -> Asked {
        let (sampler, beam) = match *choosing {
            Choosing::Sample(Sampler::Greedy) => (None, None),
            Choosing::Sample(sampler) => (Some(sampler), None),
            Choosing::Search(beam) => (None, Some(beam)),
        };
        let Limits { min_len, ref eos, ref prefix, .. } = *limits;
        let eos = match eos[..] {
            [] => None,
            [one] => Some(Value::from(one)),
            _ => Some(Value::from(eos.clone())),
        };
        let min_len = Some(min_len).filter(|&n| n > 0);
        Asked { sampler, beam, eos, min_len, prefix: prefix.clone(), ensemble, generation_config }
    }
}
