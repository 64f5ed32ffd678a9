//! What is made of logits: one token after the other by a sampler, or the best of many continuations
//! by a beam search; of one model, or of several that vote.
//!
//! | to learn about | read |
//! |---|---|
//! | one or several sessions that advance together | [`Decoder`] |
//! | greedy choice, and what is drawn from | [`Sampler`], [`sample`] |
//! | beams | [`Beam`], [`search`] |
//! | tokens that are banned, forced or made less likely | [`Processors`] |
//! | what a checkpoint asks of its user | [`GenerationConfig`] |
//! | text in, text out | [`Text`] |
//!
//! All of it knows a model by its [`Session`](crate::session::Session) alone, and works on log-probabilities in f64, from
//! the f32 logits. Strategies whose logits differ by rounding therefore choose the same tokens, except where
//! two choices are within that rounding of each other: that no decoder can promise.

mod beam;
mod decoder;
mod generation_config;
mod processors;
mod sampler;
mod text;

pub use beam::{search, Beam, BeamRule};
pub use decoder::Decoder;
pub use generation_config::{GenerationConfig, GENERATION_CONFIG_FILE};
pub use processors::Processors;
pub use sampler::{sample, Sampler, Support};
pub use text::{Encoded, Text, TOKENIZER_FILE};

use crate::error::{Error, Result};

/// One continuation of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hypothesis {
    /// As generated: without the prompt, with the end token if there is one.
    pub tokens: Vec<u32>,
    /// Σ log p of its tokens.
    pub log_probability: f64,
    /// What it is ranked by: of a sampled one its log-probability, of a beam's that over a penalty of its
    /// length.
    pub score: f64,
    /// By the end token, not by its length.
    pub ended: bool,
}

/// How hypotheses begin and end, and what may stand in them. Lengths are in generated tokens, the end token among
/// them.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Tokens generated at most.
    pub max_len: usize,
    /// Tokens that come before an end token may.
    pub min_len: usize,
    /// The tokens that end a hypothesis; without one all are as long as they may be.
    pub eos: Vec<u32>,
    /// The first tokens generated, however unlikely: they count in the log-probability.
    pub prefix: Vec<u32>,
    /// What else changes the scores. A prefix goes before it.
    pub processors: Processors,
}

impl Limits {
    /// Exactly so many tokens.
    pub fn length(max_len: usize) -> Limits {
        Limits { max_len, ..Limits::default() }
    }

    /// # Errors
    /// When no hypothesis over a vocabulary of so many tokens can be within these limits.
    pub fn check(&self, vocab: usize) -> Result<()> {
        let Limits { max_len, min_len, ref eos, ref prefix, ref processors } = *self;
        let wrong = |what: String| Err(Error::Input(what));
        let outside = |id: &&u32| **id as usize >= vocab;
        if max_len == 0 {
            return wrong("at most 0 tokens are to be generated: give a length from 1 on".into());
        }
        if min_len > max_len {
            return wrong(format!(
                "the end token may come after {min_len} tokens, and at most {max_len} are generated"
            ));
        }
        if let Some(id) = eos.iter().find(outside) {
            return wrong(format!(
                "the end token {id} is outside the vocabulary of {vocab} (ids 0 to {})",
                vocab - 1
            ));
        }
        if let Some(id) = prefix.iter().find(outside) {
            return wrong(format!(
                "token {id} of the prefix is outside the vocabulary of {vocab} (ids 0 to {})",
                vocab - 1
            ));
        }
        if let Some(id) = eos.iter().find(|eos| prefix.contains(eos)) {
            return wrong(format!("the prefix holds the end token {id}: nothing can follow it"));
        }
        if prefix.len() > max_len {
            return wrong(format!(
                "a prefix of {} tokens, and at most {max_len} are generated",
                prefix.len()
            ));
        }
        processors.check(vocab)
    }

    /// Takes what may not follow the tokens `seen`, of which the last `generated` are no prompt, out of the scores
    /// `[vocab]`.
    fn mask(&self, seen: &[u32], generated: usize, scores: &mut [f64]) {
        if let Some(&forced) = self.prefix.get(generated) {
            let kept = scores[forced as usize];
            scores.fill(f64::NEG_INFINITY);
            scores[forced as usize] = kept;
            return;
        }
        if generated < self.min_len {
            self.eos.iter().for_each(|&eos| scores[eos as usize] = f64::NEG_INFINITY);
        }
        self.processors.restrict(seen, generated, generated + 1 == self.max_len, &self.eos, scores);
    }
}

/// Instead of a choice among nothing.
fn nothing_left(generated: usize) -> Error {
    Error::Input(format!(
        "after {generated} generated tokens none is left to choose: what is banned and forced excludes every token"
    ))
}
