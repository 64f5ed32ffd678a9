//! Sessions that advance together: one, or an ensemble's.

use crate::backend::{Backend, Tokens};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::session::Session;

/// One session for each model of an ensemble, each of the same entries in the same order, and the logits
/// that came last. What an entry stands for, a sentence or one of its beams, is its user's affair.
pub struct Decoder<'a, B: Backend, M: Model<B>> {
    b: &'a B,
    members: Vec<Member<'a, B, M>>,
    vocab: usize,
    /// Tokens fed by [`Self::advance`], of each entry.
    generated: usize,
}

struct Member<'a, B: Backend, M: Model<B>> {
    session: Session<'a, B, M>,
    /// `[entries, vocab]`.
    logits: Vec<f32>,
}

impl<'a, B: Backend, M: Model<B>> Decoder<'a, B, M> {
    /// Sessions that were fed their prompts, with the logits after the last token, `[entries, 1, vocab]`.
    ///
    /// # Errors
    /// No session, sessions of different sizes, vocabularies of different sizes, logits that are no
    /// finite numbers.
    pub fn new(b: &'a B, prompted: Vec<(Session<'a, B, M>, B::Tensor)>) -> Result<Self> {
        let Some((_, first)) = prompted.first() else {
            return Err(Error::Input("an ensemble needs at least one model".into()));
        };
        let [entries, _, vocab] = b.shape(first);
        for (_, logits) in &prompted {
            let [others, _, other] = b.shape(logits);
            if other != vocab {
                return Err(Error::Input(format!(
                    "models of one ensemble share a vocabulary: one has {vocab} tokens, another {other}"
                )));
            }
            if others != entries {
                return Err(Error::Input(format!(
                    "sessions of one ensemble hold the same sentences: one has {entries}, another {others}"
                )));
            }
        }
        let member = |(session, logits)| Ok(Member { session, logits: finite(b, &logits, vocab, 0)? });
        let members = prompted.into_iter().map(member).collect::<Result<_>>()?;
        Ok(Decoder { b, members, vocab, generated: 0 })
    }

    /// Entries of the sessions' batch, now.
    pub fn entries(&self) -> usize {
        self.members[0].session.cache().batch()
    }

    /// Of every model of the ensemble.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The first model's, `[entries, vocab]`.
    pub fn logits(&self) -> &[f32] {
        &self.members[0].logits
    }

    /// ln p of the next token, `[vocab]` for each entry: of one model the log-softmax of its logits over
    /// the temperature, of several ln of the mean of their p.
    pub fn log_probabilities(&self, temperature: f64) -> Vec<Vec<f64>> {
        self.log_probabilities_of(temperature, |_, _| ())
    }

    /// The same of logits that `change` has changed: it gets what an entry has seen, and a model's logits
    /// `[vocab]`.
    pub(super) fn log_probabilities_of(
        &self,
        temperature: f64,
        change: impl Fn(&[u32], &mut [f64]),
    ) -> Vec<Vec<f64>> {
        let row = |entry: usize| {
            let of_member = |member: &Member<B, M>| {
                let logits = &member.logits[entry * self.vocab..][..self.vocab];
                let mut row: Vec<f64> = logits.iter().copied().map(f64::from).collect();
                change(self.seen(entry), &mut row);
                log_softmax(&mut row, temperature);
                row
            };
            mean(self.members.iter().map(of_member).collect())
        };
        (0..self.entries()).map(row).collect()
    }

    /// The tokens of an entry, from the prompt's first to the last that was fed.
    pub(super) fn seen(&self, entry: usize) -> &[u32] {
        self.members[0].session.seen(entry)
    }

    /// Entry i goes on as what entry `order[i]` was, followed by `tokens[i]`. Entries that `order` does not
    /// name leave the batch.
    pub fn advance(&mut self, order: &[usize], tokens: &[u32]) -> Result<()> {
        let stays = order.iter().copied().eq(0..self.entries());
        let next = Tokens(tokens.iter().map(|&token| vec![token]).collect());
        self.generated += 1;
        for Member { session, logits } in &mut self.members {
            if !stays {
                session.reorder(order)?;
            }
            *logits = finite(self.b, &session.feed(&next)?, self.vocab, self.generated)?;
        }
        Ok(())
    }
}

/// Logits that a probability can be made of.
fn finite<B: Backend>(b: &B, logits: &B::Tensor, vocab: usize, generated: usize) -> Result<Vec<f32>> {
    let logits = b.download(logits)?;
    match logits.iter().position(|x| !x.is_finite()) {
        None => Ok(logits),
        Some(at) => Err(Error::Input(format!(
            "the logit of id {} for generated token {generated} is not a number, or infinite: the weights hold values that overflow, or are none",
            at % vocab
        ))),
    }
}

/// Below this temperature nothing changes: logits that differ do so by more than 1e-45, which over it is decisive,
/// and none by more than 1e45, which over it is a number.
const COLDEST: f64 = 1e-250;

/// `x − ln Σ exp x` of x, the logits over the temperature, in place.
pub(super) fn log_softmax(logits: &mut [f64], temperature: f64) {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return; // all are impossible
    }
    logits.iter_mut().for_each(|x| *x = (*x - most) / temperature.max(COLDEST));
    let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln(); // the largest is 0
    logits.iter_mut().for_each(|x| *x -= total);
}

/// ln of the mean of exp, place by place: `ln Σ exp − ln n`.
fn mean(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    if rows.len() == 1 {
        return rows.remove(0);
    }
    let n = (rows.len() as f64).ln();
    let at = |id: usize| log_sum_exp(rows.iter().map(|row| row[id])) - n;
    (0..rows[0].len()).map(at).collect()
}

fn log_sum_exp(numbers: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = numbers.clone().fold(f64::NEG_INFINITY, f64::max);
    most + numbers.map(|x| (x - most).exp()).sum::<f64>().ln()
}
