//! Beam search: the best continuations that looking at a few of them at a time finds.
//!
//! Each step ranks all continuations of a sentence's live hypotheses by one more token, by Σ log p, and looks at
//! the best 2 · width: so many that `width` stay live if all the others end; with e end tokens at (1 + e) · width.
//! Equal ones rank by the beam they continue, then by id. What ends, and when enough has, is where programs differ:
//!
//! | | [`BeamRule::Fairseq`] | [`BeamRule::Flax`] |
//! |---|---|---|
//! | score of n tokens, the end token counted | Σ log p / n^λ | Σ log p / ((5 + n) / 6)^α |
//! | a continuation by the end token counts if it is | among the best `width` | among the best 2 · `width` |
//! | a sentence is done when | `width` hypotheses have ended | so many have, and the worst of them beats the best live one even if that became as long as possible without another loss |
//! | at the maximum length | live hypotheses compete with those that have ended | live ones are taken if none has ended, scored by Σ log p |
//! | as in | fairseq's `SequenceGenerator`, and transformers with `early_stopping=True` | `beam_search` of Flax's WMT example |
//!
//! The other two rules are transformers' for other values of `early_stopping`, and differ from fairseq's in when a
//! sentence is done: `width` hypotheses have ended, and none of them is worse than the best live one would be if it
//! ended now without another loss ([`BeamRule::Transformers`]), or, where λ > 0 favours long ones, at the
//! maximum length ([`BeamRule::TransformersNever`]).
//!
//! Where fairseq and transformers differ, this is transformers: of more than `width` ended hypotheses the best
//! are kept, not the first; and at the maximum length no end token is forced.
//!
//! Hypotheses that do not exist have no entry in the batch: a sentence begins with one, for all would be the
//! same, has one while a prefix is forced, and none when it is done.

use std::cmp::Ordering;

use serde::Serialize;

use super::{nothing_left, Decoder, Hypothesis, Limits};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::Model;

/// How a beam search ranks and ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Beam {
    /// Hypotheses of a sentence that are live at once, and that are returned at most.
    pub width: usize,
    /// λ or α, as the rule has it; 0 is none.
    pub length_penalty: f64,
    /// Whose scores and ends.
    pub rule: BeamRule,
}

/// Definitions of a beam search; the module's documentation has their formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeamRule {
    /// Flax's `beam_search`.
    Flax,
    /// fairseq's sequence generator.
    Fairseq,
    /// transformers with `early_stopping=False`, its default.
    Transformers,
    /// transformers with `early_stopping="never"`.
    TransformersNever,
}

/// Between these the penalty's divisor of a score must be, at every length: beyond, scores are no numbers or all 0.
const DIVISORS: std::ops::RangeInclusive<f64> = 1e-100..=1e100;

impl Beam {
    /// # Errors
    /// No beam, one wider than the vocabulary, a penalty that gives hypotheses of up to `max_len` tokens scores
    /// that are no numbers.
    pub fn check(&self, vocab: usize, max_len: usize) -> Result<()> {
        let Beam { width, length_penalty, .. } = *self;
        let wrong = |what: String| Err(Error::Input(what));
        if width == 0 {
            return wrong("a beam of 0 hypotheses finds none: give a width from 1 on".into());
        }
        if width > vocab {
            return wrong(format!("a beam of {width} hypotheses is wider than the vocabulary of {vocab}"));
        }
        if !length_penalty.is_finite() {
            return wrong(format!("a length penalty of {length_penalty}: give a finite number"));
        }
        if !DIVISORS.contains(&self.divisor(max_len)) {
            return wrong(format!(
                "a length penalty of {length_penalty:?} divides the score of {max_len} tokens by {:e}: give one nearer to 0",
                self.divisor(max_len)
            ));
        }
        Ok(())
    }

    /// Of the score of a hypothesis of `len` tokens: 1 for one token, and from there on monotonous.
    fn divisor(&self, len: usize) -> f64 {
        let len = len as f64;
        let base = match self.rule {
            BeamRule::Flax => (5.0 + len) / 6.0,
            BeamRule::Fairseq | BeamRule::Transformers | BeamRule::TransformersNever => len,
        };
        base.powf(self.length_penalty)
    }

    fn score(&self, log_probability: f64, len: usize) -> f64 {
        log_probability / self.divisor(len)
    }
}

/// The hypotheses of each entry's sentence, the best first; at least one, at most `width`.
///
/// # Errors
/// Limits or a beam that make no sense, logits that are no numbers, and what a session refuses.
pub fn search<B: Backend, M: Model<B>>(
    decoder: &mut Decoder<'_, B, M>,
    beam: &Beam,
    limits: &Limits,
) -> Result<Vec<Vec<Hypothesis>>> {
    limits.check(decoder.vocab())?;
    beam.check(decoder.vocab(), limits.max_len)?;
    let mut sentences: Vec<Sentence> = (0..decoder.entries()).map(|_| Sentence::new()).collect();
    for generated in 0.. {
        let mut rows = decoder.log_probabilities(1.0);
        for (entry, row) in rows.iter_mut().enumerate() {
            let seen = decoder.seen(entry);
            limits.processors.penalize(seen, row);
            limits.mask(seen, generated, row);
            limits.processors.renormalize(row);
        }
        let mut rows = rows.into_iter();
        let (mut order, mut tokens, mut first) = (Vec::new(), Vec::new(), 0);
        for sentence in &mut sentences {
            let beams = sentence.live.len();
            sentence.step(rows.by_ref().take(beams).collect(), beam, limits);
            for live in &sentence.live {
                order.push(first + live.parent);
                tokens.extend(live.tokens.last());
            }
            first += beams;
        }
        if sentences.iter().any(|sentence| sentence.live.is_empty() && sentence.best.is_empty()) {
            return Err(nothing_left(generated));
        }
        if order.is_empty() {
            break;
        }
        decoder.advance(&order, &tokens)?;
    }
    Ok(sentences.into_iter().map(|sentence| sentence.best).collect())
}

/// The search for one sentence. It is done when nothing is live.
struct Sentence {
    /// The best first, all of one length.
    live: Vec<Live>,
    /// What is returned if nothing better comes, the best first.
    best: Vec<Hypothesis>,
}

struct Live {
    tokens: Vec<u32>,
    log_probability: f64,
    /// Which live hypothesis of the step before it continues.
    parent: usize,
}

/// A continuation of live hypothesis `beam` by one token.
struct Continuation {
    log_probability: f64,
    beam: usize,
    token: u32,
}

impl Sentence {
    fn new() -> Sentence {
        Sentence {
            live: vec![Live { tokens: Vec::new(), log_probability: 0.0, parent: 0 }],
            best: Vec::new(),
        }
    }

    /// One token more, given the scores `[vocab]` after each live hypothesis.
    fn step(&mut self, rows: Vec<Vec<f64>>, beam: &Beam, limits: &Limits) {
        let Some(len) = self.live.first().map(|live| live.tokens.len() + 1) else { return };
        let looked_at = beam.width * (1 + limits.eos.len()).max(2);
        let mut live = Vec::new();
        for (rank, candidate) in self.candidates(&rows, looked_at).into_iter().enumerate() {
            let Continuation { log_probability, beam: parent, token } = candidate;
            let mut tokens = self.live[parent].tokens.clone();
            tokens.push(token);
            if !limits.eos.contains(&token) {
                live.push(Live { tokens, log_probability, parent });
            } else if rank < beam.width || beam.rule == BeamRule::Flax {
                let score = beam.score(log_probability, len);
                self.best.push(Hypothesis { tokens, log_probability, score, ended: true });
            }
        }
        live.truncate(beam.width);
        self.live = live;
        if len == limits.max_len {
            self.give_up(beam, len);
        }
        self.best.sort_by(|a, b| b.score.total_cmp(&a.score)); // stable: of equals the earlier
        self.best.truncate(beam.width);
        if self.is_done(beam, len, limits.max_len) {
            self.live.clear();
        }
    }

    /// The best continuations, at most `most`.
    fn candidates(&self, rows: &[Vec<f64>], most: usize) -> Vec<Continuation> {
        let of_beam = |(beam, row): (usize, &Vec<f64>)| {
            let before = self.live[beam].log_probability;
            let all = row.iter().enumerate().filter(|(_, l)| l.is_finite());
            let candidate =
                |(id, l): (usize, &f64)| Continuation { log_probability: before + l, beam, token: id as u32 };
            all.map(candidate).collect::<Vec<_>>()
        };
        let mut candidates: Vec<Continuation> = rows.iter().enumerate().flat_map(of_beam).collect();
        if candidates.len() > most {
            candidates.select_nth_unstable_by(most, Continuation::rank);
            candidates.truncate(most);
        }
        candidates.sort_unstable_by(Continuation::rank);
        candidates
    }

    /// Hypotheses that may not become longer count as they are, as far as the rule counts them.
    fn give_up(&mut self, beam: &Beam, len: usize) {
        let counts = beam.rule != BeamRule::Flax || self.best.is_empty();
        let score = |log_probability| match beam.rule {
            BeamRule::Flax => log_probability,
            BeamRule::Fairseq | BeamRule::Transformers | BeamRule::TransformersNever => {
                beam.score(log_probability, len)
            }
        };
        let unended =
            self.live.drain(..).filter(|_| counts).map(|Live { tokens, log_probability, .. }| Hypothesis {
                tokens,
                log_probability,
                score: score(log_probability),
                ended: false,
            });
        self.best.extend(unended);
    }

    fn is_done(&self, beam: &Beam, len: usize, max_len: usize) -> bool {
        let (Some(worst), Some(live)) = (self.best.get(beam.width - 1), self.live.first()) else {
            return false;
        };
        let live_at = |len: usize| beam.score(live.log_probability, len);
        match beam.rule {
            BeamRule::Fairseq => true,
            BeamRule::Transformers => worst.score >= live_at(len),
            BeamRule::TransformersNever if beam.length_penalty > 0.0 => worst.score >= live_at(max_len),
            BeamRule::TransformersNever => worst.score >= live_at(len),
            BeamRule::Flax => worst.score > live_at(max_len),
        }
    }
}

impl Continuation {
    /// The best first.
    fn rank(&self, other: &Continuation) -> Ordering {
        let by_probability = other.log_probability.total_cmp(&self.log_probability);
        by_probability.then(self.beam.cmp(&other.beam)).then(self.token.cmp(&other.token))
    }
}
