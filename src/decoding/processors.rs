//! Changes of the scores before a token is chosen: the logits processors of transformers' `generate`, which a
//! checkpoint's [`GenerationConfig`](super::GenerationConfig) asks for.
//!
//! They apply in transformers' order: repetition penalty, n-grams, banned words, minimum length, forced tokens,
//! suppressed tokens; what divides and draws comes after. Each sentence is treated as `generate` treats it alone:
//! padding is none of its tokens. A sampler's repetition penalty changes each model's logits, a beam search's the
//! log-probabilities, as there; nothing is normalised after a change unless `renormalize` says so.

use super::decoder::log_softmax;
use crate::error::{Error, Result};

/// What may not come, must come, or becomes less likely. Lengths count tokens; those of a source are none of a
/// sentence's.
#[derive(Clone, Debug, PartialEq)]
pub struct Processors {
    /// Divides a positive score of a token that the sentence has, and multiplies a negative one; 1 is none.
    pub repetition_penalty: f64,
    /// No run of so many tokens comes twice; 0 is none.
    pub no_repeat_ngram_size: usize,
    /// Runs of tokens that never come as a whole. One that is an end token by itself is passed over.
    pub bad_words: Vec<Vec<u32>>,
    /// Length of prompt and continuation before which no end token comes.
    pub min_length: usize,
    /// The token that follows a prompt of one token.
    pub forced_bos: Option<u32>,
    /// One of these is the last of the tokens that may be generated; none where it is empty.
    pub forced_eos: Vec<u32>,
    /// Tokens that never come.
    pub suppress: Vec<u32>,
    /// Tokens that do not come first: after a forced first token, those that do not come second.
    pub begin_suppress: Vec<u32>,
    /// Whether a beam search makes probabilities of what is left.
    pub renormalize: bool,
}

impl Default for Processors {
    /// Nothing is changed.
    fn default() -> Processors {
        Processors {
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            bad_words: Vec::new(),
            min_length: 0,
            forced_bos: None,
            forced_eos: Vec::new(),
            suppress: Vec::new(),
            begin_suppress: Vec::new(),
            renormalize: false,
        }
    }
}

/// Beyond these a score over or times the penalty may be no number.
const PENALTIES: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

impl Processors {
    /// # Errors
    /// A penalty that makes no sense, ids outside of a vocabulary of so many tokens.
    pub fn check(&self, vocab: usize) -> Result<()> {
        if !PENALTIES.contains(&self.repetition_penalty) {
            let what = format!(
                "a repetition penalty of {}: give a number from 1e-6 to 1e6; 1 is none",
                self.repetition_penalty
            );
            return Err(Error::Input(what));
        }
        // suppressed tokens that do not exist never come anyhow
        let ids = self.bad_words.iter().flatten().chain(&self.forced_bos).chain(&self.forced_eos);
        match ids.copied().find(|&id| id as usize >= vocab) {
            Some(id) => Err(Error::TokenRange { id, vocab }),
            None => Ok(()),
        }
    }

    /// The repetition penalty on `scores [vocab]` after the tokens `seen`.
    pub(super) fn penalize(&self, seen: &[u32], scores: &mut [f64]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            let score = &mut scores[id as usize];
            *score = if *score < 0.0 {
                *score * self.repetition_penalty
            } else {
                *score / self.repetition_penalty
            };
        }
    }

    /// Everything but the repetition penalty. Of the tokens `seen` the last `generated` are no prompt; `last` says
    /// that no more than one may follow.
    pub(super) fn restrict(
        &self,
        seen: &[u32],
        generated: usize,
        last: bool,
        eos: &[u32],
        scores: &mut [f64],
    ) {
        if let Some(before) = self.no_repeat_ngram_size.checked_sub(1).filter(|&before| before < seen.len()) {
            let newest = &seen[seen.len() - before..];
            let again = seen.windows(before + 1).filter(|run| run[..before] == *newest);
            again.for_each(|run| ban(run[before], scores));
        }
        for word in self.bad_words.iter().filter(|word| !(word.len() == 1 && eos.contains(&word[0]))) {
            if let Some((&id, _)) = word.split_last().filter(|(_, before)| seen.ends_with(before)) {
                ban(id, scores);
            }
        }
        if seen.len() < self.min_length {
            eos.iter().for_each(|&id| ban(id, scores));
        }
        if let Some(id) = self.forced_bos.filter(|_| seen.len() == 1) {
            force(&[id], scores);
        }
        if last && !self.forced_eos.is_empty() {
            force(&self.forced_eos, scores);
        }
        self.suppress.iter().for_each(|&id| ban(id, scores));
        let first = usize::from(self.forced_bos.is_some() && seen.len() - generated <= 1);
        if generated == first {
            self.begin_suppress.iter().for_each(|&id| ban(id, scores));
        }
    }

    /// Log-probabilities of what is left, where that is asked for.
    pub(super) fn renormalize(&self, scores: &mut [f64]) {
        if self.renormalize {
            log_softmax(scores, 1.0);
        }
    }
}

fn ban(id: u32, scores: &mut [f64]) {
    if let Some(score) = scores.get_mut(id as usize) {
        *score = f64::NEG_INFINITY;
    }
}

/// Sure, as ln 1.
fn force(ids: &[u32], scores: &mut [f64]) {
    scores.fill(f64::NEG_INFINITY);
    ids.iter().for_each(|&id| scores[id as usize] = 0.0);
}
