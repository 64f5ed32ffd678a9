//! One token after the other, the likeliest or a drawn one.
//!
//! Draws are reproducible: the one for generated token i of sentence s depends on the seed, s and i and on
//! nothing else, so neither on what else is in the batch nor on the backend or the strategy. What it is drawn
//! from does depend on their rounding: a draw that falls within it of a border between two tokens can go
//! either way. Tokens are laid out by id, not by rank, so that no border moves by more than the rounding.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{nothing_left, Decoder, Hypothesis, Limits};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::Model;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// The likeliest; the lowest id, when several are.
    Greedy,
    /// Drawn by probability from the support, renormalised. Logits are divided by the temperature before
    /// anything else.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Random { temperature: f64, support: Support, seed: u64 },
}

/// What a random token is drawn from. Equally likely tokens rank by id, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// Every token of the vocabulary.
    All,
    /// The k likeliest tokens.
    TopK(usize),
    /// The nucleus: the fewest likeliest tokens whose probabilities add up to p.
    TopP(f64),
}

impl Sampler {
    /// # Errors
    /// Numbers that no draw can be made with.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Input(what));
        match *self {
            Sampler::Random { temperature: t, .. } if !(t > 0.0 && t.is_finite()) => {
                wrong(format!("a temperature of {t}: give a number above 0; the limit at 0 is greedy"))
            }
            Sampler::Random { support: Support::TopK(0), .. } => {
                wrong("the likeliest 0 tokens leave nothing to draw from: give a k from 1 on".into())
            }
            Sampler::Random { support: Support::TopP(p), .. } if !(p > 0.0 && p <= 1.0) => {
                wrong(format!("a nucleus of probability {p}: give a number above 0, at most 1"))
            }
            Sampler::Greedy | Sampler::Random { .. } => Ok(()),
        }
    }

    fn temperature(&self) -> f64 {
        match self {
            Sampler::Greedy => 1.0,
            Sampler::Random { temperature, .. } => *temperature,
        }
    }

    /// Token `step` of sentence `sentence`, from the log-probabilities `[vocab]` at this temperature.
    fn choose(&self, log_probabilities: &[f64], sentence: usize, step: usize) -> u32 {
        match *self {
            Sampler::Greedy => likeliest(log_probabilities),
            Sampler::Random { support, seed, .. } => {
                pick(&support.distribution(log_probabilities), uniform(seed, sentence, step))
            }
        }
    }
}

impl Support {
    /// The tokens that can be drawn and their probabilities, which add up to 1, by id.
    pub fn distribution(&self, log_probabilities: &[f64]) -> Vec<(u32, f64)> {
        let mut tokens = likeliest_first(log_probabilities);
        let total: f64 = tokens.iter().map(|(_, p)| p).sum();
        match *self {
            Support::All => {}
            Support::TopK(k) => tokens.truncate(k),
            Support::TopP(p) => {
                let mut before = 0.0;
                tokens.retain(|(_, q)| {
                    let inside = before < p * total;
                    before += q;
                    inside
                });
            }
        }
        let total: f64 = tokens.iter().map(|(_, p)| p).sum();
        tokens.iter_mut().for_each(|(_, p)| *p /= total);
        tokens.sort_by_key(|&(id, _)| id);
        tokens
    }
}

/// The lowest id, when several are.
fn likeliest(log_probabilities: &[f64]) -> u32 {
    let ids = 0..log_probabilities.len();
    let best = ids.rev().max_by(|&a, &b| log_probabilities[a].total_cmp(&log_probabilities[b])); // of equals the last
    best.expect("a vocabulary has tokens") as u32
}

/// The tokens that are possible, with their probabilities over the likeliest's.
fn likeliest_first(log_probabilities: &[f64]) -> Vec<(u32, f64)> {
    let most = log_probabilities[likeliest(log_probabilities) as usize];
    let possible = log_probabilities.iter().enumerate().filter(|(_, l)| l.is_finite());
    let mut tokens: Vec<(u32, f64)> = possible.map(|(id, &l)| (id as u32, l)).collect();
    tokens.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: of equals the lowest id
    tokens.iter_mut().for_each(|(_, l)| *l = (*l - most).exp());
    tokens
}

/// The token in whose stretch of the unit interval `u` lies.
fn pick(distribution: &[(u32, f64)], u: f64) -> u32 {
    let mut end = 0.0;
    let reached = distribution.iter().find(|(_, p)| {
        end += p;
        u < end
    });
    let (id, _) = reached.or(distribution.last()).expect("a probability is left"); // sums may round below 1
    *id
}

/// In [0, 1).
fn uniform(seed: u64, sentence: usize, step: usize) -> f64 {
    let mut stream = ChaCha8Rng::seed_from_u64(seed);
    stream.set_stream(sentence as u64);
    stream.set_word_pos(2 * step as u128); // two words of 32 bits a draw
    (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// One continuation of each entry, in their order. A sentence that has ended leaves the batch. `seen` gets
/// the first model's logits, `[entries, vocab]`, before each token.
///
/// # Errors
/// Limits or a sampler that make no sense, logits that are no numbers, and what a session refuses.
pub fn sample<B: Backend, M: Model<B>>(
    decoder: &mut Decoder<'_, B, M>,
    sampler: &Sampler,
    limits: &Limits,
    mut seen: impl FnMut(&[f32]) -> Result<()>,
) -> Result<Vec<Hypothesis>> {
    sampler.check()?;
    limits.check(decoder.vocab())?;
    let mut sentences: Vec<usize> = (0..decoder.entries()).collect(); // of each entry
    let mut hypotheses = vec![Hypothesis::default(); sentences.len()];
    for step in 0..limits.max_len {
        seen(decoder.logits())?;
        let plain = decoder.log_probabilities(1.0);
        let mut scores = match sampler.temperature() {
            1.0 if limits.processors.repetition_penalty == 1.0 => plain.clone(),
            temperature => decoder.log_probabilities_of(temperature, |seen, logits| {
                limits.processors.penalize(seen, logits);
            }),
        };
        let (mut order, mut tokens) = (Vec::new(), Vec::new());
        for (entry, &sentence) in sentences.iter().enumerate() {
            limits.mask(decoder.seen(entry), step, &mut scores[entry]);
            if scores[entry].iter().all(|score| !score.is_finite()) {
                return Err(nothing_left(step));
            }
            let token = sampler.choose(&scores[entry], sentence, step);
            let hypothesis = &mut hypotheses[sentence];
            hypothesis.tokens.push(token);
            hypothesis.log_probability += plain[entry][token as usize];
            hypothesis.score = hypothesis.log_probability;
            hypothesis.ended = limits.eos.contains(&token);
            if !hypothesis.ended {
                order.push(entry);
                tokens.push(token);
            }
        }
        if order.is_empty() || step + 1 == limits.max_len {
            break;
        }
        decoder.advance(&order, &tokens)?;
        sentences = order.iter().map(|&entry| sentences[entry]).collect();
    }
    Ok(hypotheses)
}
