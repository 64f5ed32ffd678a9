//! One decode in progress. The only place that knows what recomputing everything means: with a
//! strategy that remembers nothing, every call feeds all that was seen.

use std::rc::Rc;

use crate::backend::cpu::room;
use crate::backend::{Backend, Call, Tokens, NEXT};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::strategy::{CacheConfig, Strategy};

/// The token in rows that no query attends to: any of the vocabulary.
const PADDING: u32 = 0;

/// One decode in progress: a model, its cache and the tokens seen so far.
pub struct Session<'a, B: Backend, M: Model<B>> {
    b: &'a B,
    model: &'a M,
    cache: Cache<B>,
    /// Every token fed, of each batch entry.
    seen: Tokens,
}

impl<'a, B: Backend, M: Model<B>> Session<'a, B, M> {
    /// An empty session for `batch` sentences of at most `capacity` tokens. Creating the cache is
    /// part of opening; the first token is not.
    pub fn open(
        b: &'a B,
        model: &'a M,
        config: impl Into<CacheConfig>,
        batch: usize,
        capacity: usize,
    ) -> Result<Self> {
        if batch == 0 {
            return Err(Error::Input("a batch needs at least one sentence".into()));
        }
        if let Some(most) = model.max_positions().filter(|&most| capacity > most) {
            return Err(Error::Input(format!(
                "a capacity of {capacity} was asked for, and the model has {most} positions"
            )));
        }
        let cache = Cache::new(b, config, &model.slots(), batch, capacity)?;
        let seen = (0..batch).map(|_| room(capacity)).collect::<Result<_>>()?;
        Ok(Session { b, model, cache, seen: Tokens(seen) })
    }

    /// An empty session that decodes from a source: `beams` neighbouring entries for each of its sentences,
    /// which may be of several lengths. Encoding them is part of opening.
    pub fn from_source(
        b: &'a B,
        model: &'a M,
        config: impl Into<CacheConfig>,
        source: &Tokens,
        beams: usize,
        capacity: usize,
    ) -> Result<Self> {
        let config = config.into();
        let mut session = Session::open(b, model, config, beams * source.0.len(), capacity)?;
        let rows = source.longest();
        if source.0.iter().any(Vec::is_empty) {
            return Err(Error::Input("a sentence of the source is empty".into()));
        }
        if let Some(most) = model.max_positions().filter(|&most| rows > most) {
            let what = format!("a source of {rows} tokens, and the model has {most} positions");
            return Err(Error::Input(what));
        }
        in_vocabulary(source, model.vocab())?;
        let padded = |sentence: &Vec<u32>| [vec![PADDING; rows - sentence.len()], sentence.clone()].concat();
        let mut call = Call::new(source.0.iter().flat_map(padded).collect(), source.0.len(), 0);
        call.left_padding = source.0.iter().map(|sentence| rows - sentence.len()).collect();
        b.stage(&mut call)?;
        session.cache.set_encoder_output(Rc::new(model.encode(b, config.strategy, call)?));
        Ok(session)
    }

    /// [`Self::open`], or, with `rows` above zero, from sources of so many rows that say nothing in
    /// particular: as a named case is decoded. Each of `sentences` has an equal part of the batch.
    pub fn open_case(
        b: &'a B,
        model: &'a M,
        config: impl Into<CacheConfig>,
        [batch, sentences]: [usize; 2],
        capacity: usize,
        rows: usize,
    ) -> Result<Self> {
        match rows {
            0 => Session::open(b, model, config, batch, capacity),
            _ => {
                let source = Tokens::given(sentences, 0, rows, model.vocab());
                Session::from_source(b, model, config, &source, batch / sentences, capacity)
            }
        }
    }

    /// Feeds the next tokens, as many of each batch entry, and returns the logits after the last
    /// of them, `[batch, 1, vocab]`. One token is a step, several are a prefill. The first call may bring
    /// sentences of several lengths: the shorter ones are padded in front, where nothing looks, and give
    /// the logits that each gives alone.
    ///
    /// # Errors
    /// Ids outside the vocabulary, a batch of another size, no tokens, more than the capacity: the
    /// session is then as it was. After a device's error it is of no further use.
    pub fn feed(&mut self, new: &Tokens) -> Result<B::Tensor> {
        let n = self.take(new)?;
        self.run(n).inspect_err(|_| self.seen.0.iter_mut().for_each(|seen| seen.truncate(seen.len() - n)))
    }

    /// Goes on greedily: of `logits`, and then of those after each token fed, the arg-max of each entry, `count`
    /// tokens of each. The last is not fed. Where the device chooses, the next step is queued with a token that
    /// only the device knows, and the host waits once, for all of them.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn generate(&mut self, logits: B::Tensor, count: usize) -> Result<Tokens> {
        let (batch, seen) = (self.seen.0.len(), self.len());
        let (capacity, wanted) = (self.cache.capacity(), seen + count.saturating_sub(1));
        if wanted > capacity {
            return Err(Error::CacheFull { capacity, wanted });
        }
        if !self.b.chooses_ahead() || !self.cache.strategy().remembers() {
            return self.generate_one_by_one(logits, count);
        }
        let mut ids = self.b.zeros([1, count.max(1), batch])?;
        let mut logits = Some(logits);
        for row in 0..count {
            let last = logits.take().expect("there are some before every token");
            self.b.choose(self.cache.call(), &last, &mut ids, row)?;
            drop(last); // a recorded step writes its logits where they were
            if row + 1 < count {
                self.seen.0.iter_mut().for_each(|seen| seen.push(NEXT));
                logits = Some(self.run(1)?);
            }
        }
        let ids = self.b.download(&ids)?;
        let chosen = |entry: usize| (0..count).map(|row| ids[row * batch + entry].to_bits()).collect();
        let chosen: Vec<Vec<u32>> = (0..batch).map(chosen).collect();
        for (seen_by, chosen) in self.seen.0.iter_mut().zip(&chosen) {
            let fed = seen_by.len() - seen;
            seen_by[seen..].copy_from_slice(&chosen[..fed]);
        }
        Ok(Tokens(chosen))
    }

    fn generate_one_by_one(&mut self, mut logits: B::Tensor, count: usize) -> Result<Tokens> {
        let mut chosen = vec![Vec::with_capacity(count); self.seen.0.len()];
        for row in 0..count {
            let ids = self.b.argmax(&logits)?;
            chosen.iter_mut().zip(&ids).for_each(|(chosen, id)| chosen.push(*id));
            if row + 1 < count {
                logits = self.feed(&Tokens(ids.into_iter().map(|id| vec![id]).collect()))?;
            }
        }
        Ok(Tokens(chosen))
    }

    /// Feeds tokens whose logits are not needed. A strategy without a cache has nothing to do:
    /// it computes everything at the next [`Self::feed`].
    pub fn prefill(&mut self, new: &Tokens) -> Result<()> {
        if self.cache.strategy().remembers() {
            return self.feed(new).map(drop);
        }
        self.take(new).map(drop)
    }

    /// Puts tokens behind those seen, if they can follow them; how many of each entry.
    fn take(&mut self, new: &Tokens) -> Result<usize> {
        let n = self.check(new)?;
        let (capacity, wanted) = (self.cache.capacity(), self.len() + n);
        if wanted > capacity {
            return Err(Error::CacheFull { capacity, wanted });
        }
        if self.is_empty() {
            let left_padding: Vec<usize> = new.0.iter().map(|sentence| n - sentence.len()).collect();
            self.cache.set_left_padding(&left_padding)?;
        }
        for (seen, new) in self.seen.0.iter_mut().zip(&new.0) {
            seen.resize(seen.len() + n - new.len(), PADDING);
            seen.extend_from_slice(new);
        }
        Ok(n)
    }

    fn run(&mut self, n: usize) -> Result<B::Tensor> {
        let total = self.len();
        let (first, rows) = match self.cache.strategy() {
            Strategy::Naive => (0, total),
            Strategy::NaivePadded => (0, self.cache.capacity()),
            Strategy::Concat
            | Strategy::Padded
            | Strategy::Chunked(_)
            | Strategy::Bounded
            | Strategy::Onehot
            | Strategy::Shift
            | Strategy::Reprojected => (total - n, n),
        };
        let seen = &self.seen.0;
        let token = |entry: usize, row: usize| seen[entry].get(first + row).copied().unwrap_or(PADDING);
        self.cache.stage(self.b, rows, total - first - 1, token)?;
        let (input, shape) = (self.cache.input(), self.cache.step_shape());
        let mut extend = || self.model.extend(self.b, &mut self.cache);
        let logits = if n == 1 { self.b.step(&input, shape, extend) } else { extend() }?;
        self.cache.advance();
        Ok(logits)
    }

    /// The longest of the sentences; all are that long, unless they are the first.
    fn check(&self, new: &Tokens) -> Result<usize> {
        let n = new.longest();
        let differ = new.0.iter().any(|sentence| sentence.len() != n);
        if new.0.len() != self.seen.0.len() || (differ && !self.is_empty()) {
            let sizes: Vec<usize> = new.0.iter().map(Vec::len).collect();
            return Err(Error::Input(format!(
                "a session of {} sentences was fed tokens of lengths {sizes:?}",
                self.seen.0.len()
            )));
        }
        if new.0.iter().any(Vec::is_empty) {
            return Err(Error::Input("the prompt is empty: a step needs at least one token".into()));
        }
        in_vocabulary(new, self.model.vocab())?;
        Ok(n)
    }

    /// The tokens fed to an entry of the batch, in order, without padding.
    pub fn seen(&self, entry: usize) -> &[u32] {
        &self.seen.0[entry][self.cache.call().left_padding[entry]..]
    }

    /// Tokens seen, of the longest sentence.
    pub fn len(&self) -> usize {
        self.seen.0[0].len()
    }

    /// Whether nothing was fed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the strategy keeps.
    pub fn cache(&self) -> &Cache<B> {
        &self.cache
    }

    #[cfg(test)]
    pub(crate) fn cache_mut(&mut self) -> &mut Cache<B> {
        &mut self.cache
    }

    /// Entry i continues what entry `order[i]` was. The batch may change its size.
    pub fn reorder(&mut self, order: &[usize]) -> Result<()> {
        let batch = self.seen.0.len();
        if let Some(beam) = order.iter().find(|&&beam| beam >= batch) {
            return Err(Error::Input(format!("a reorder names beam {beam}, and there are {batch}")));
        }
        if order.is_empty() {
            return Err(Error::Input("a reorder to no beams at all".into()));
        }
        self.cache.reorder(self.b, order)?;
        let beams = order.iter().map(|&beam| roomy(&self.seen.0[beam], self.cache.capacity()));
        self.seen = Tokens(beams.collect::<Result<_>>()?);
        Ok(())
    }

    /// Becomes what a fork of `other` would be, in the buffers this one has: see [`Cache::restore`].
    pub fn restore(&mut self, other: &Session<'a, B, M>) -> Result<()> {
        self.cache.restore(self.b, &other.cache)?;
        for (mine, theirs) in self.seen.0.iter_mut().zip(&other.seen.0) {
            mine.clear();
            mine.extend_from_slice(theirs);
        }
        Ok(())
    }

    /// An independent session that has seen the same. Steps are timed on forks, because a step
    /// changes its cache and so cannot be repeated.
    pub fn fork(&self) -> Result<Session<'a, B, M>> {
        let cache = self.cache.fork(self.b)?;
        let seen =
            self.seen.0.iter().map(|sentence| roomy(sentence, cache.capacity())).collect::<Result<_>>()?;
        Ok(Session { b: self.b, model: self.model, cache, seen: Tokens(seen) })
    }
}

fn in_vocabulary(tokens: &Tokens, vocab: usize) -> Result<()> {
    match tokens.0.iter().flatten().find(|&&id| id as usize >= vocab) {
        Some(&id) => Err(Error::TokenRange { id, vocab }),
        None => Ok(()),
    }
}

/// A copy that can grow to the capacity without an allocation inside a step.
fn roomy(sentence: &[u32], capacity: usize) -> Result<Vec<u32>> {
    let mut copy = room(capacity)?;
    copy.extend_from_slice(sentence);
    Ok(copy)
}
