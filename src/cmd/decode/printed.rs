//! What `decode` prints: one JSON object.

use serde::Serialize;

use decode_bench::decoding::{Beam, Hypothesis, Limits, Sampler, Text};
use decode_bench::error::Result;

use super::choosing::Choosing;

#[derive(Serialize)]
pub struct Decoded {
    #[serde(flatten)]
    pub answer: Printed,
    pub model: String,
    pub shape: Option<String>,
    pub checkpoint: Option<String>,
    pub seed: Option<u64>,
    pub strategy: String,
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
        let text_of = |tokens: &[u32]| text.map(|text| text.of(tokens)).transpose();
        if let (Choosing::Sample(_), 1) = (choosing, prompts.len()) {
            let (Hypothesis { tokens, .. }, prompt) = (found.remove(0).remove(0), prompts.remove(0));
            return Ok(Printed::One { text: text_of(&tokens)?, tokens, prompt });
        }
        let continuation = |Hypothesis { tokens, log_probability, score, ended }| {
            Ok(Continuation { text: text_of(&tokens)?, tokens, score, log_probability, ended })
        };
        let of_prompt = |found: Vec<Hypothesis>| found.into_iter().map(continuation).collect();
        Ok(Printed::Many { hypotheses: found.into_iter().map(of_prompt).collect::<Result<_>>()?, prompts })
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
    eos: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_len: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefix: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ensemble: Vec<String>,
}

impl Asked {
    pub fn new(choosing: &Choosing, limits: &Limits, ensemble: Vec<String>) -> Asked {
        let (sampler, beam) = match *choosing {
            Choosing::Sample(Sampler::Greedy) => (None, None),
            Choosing::Sample(sampler) => (Some(sampler), None),
            Choosing::Search(beam) => (None, Some(beam)),
        };
        let Limits { min_len, eos, ref prefix, .. } = *limits;
        let min_len = Some(min_len).filter(|&n| n > 0);
        Asked { sampler, beam, eos, min_len, prefix: prefix.clone(), ensemble }
    }
}
