//! A model on a backend, and sessions prefilled up to the step to be timed.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::backend::{Backend, DeviceTime, Tokens, Work};
use crate::case::{Case, ModelName};
use crate::error::Result;
use crate::model::{capacity, source_rows, AnyModel, Config, Model, Weights};
use crate::session::Session;

/// One model of a named shape with seeded weights, loaded once for all its cases.
pub struct Fixture<B: Backend> {
    /// The backend that the weights are on.
    pub backend: B,
    /// With its weights.
    pub model: AnyModel<B>,
    /// Of the model.
    pub name: ModelName,
}

impl<B: Backend> Fixture<B> {
    /// Draws the weights from the seed and puts them on the backend.
    pub fn load(backend: B, name: ModelName, seed: u64) -> Result<Fixture<B>> {
        let config = Config::named(name.kind, name.shape)?;
        let model = AnyModel::load(&backend, &config, &Weights::seeded(seed).kept_as(name.weights))?;
        Ok(Fixture { backend, model, name })
    }

    /// Whether a case is one of this model's.
    pub fn has(&self, case: &Case) -> bool {
        case.model_name() == self.name
    }

    /// An empty session for a case.
    pub fn session(&self, case: &Case) -> Result<Session<'_, B, AnyModel<B>>> {
        self.open(case, case.batch)
    }

    /// A session that holds all positions before the case's.
    pub fn prefilled(&self, case: &Case) -> Result<Prefilled<'_, B>> {
        self.prefilled_at(case, self.open(case, case.batch)?)
    }

    /// The same, the entries of whose batch are beams of one sentence.
    pub fn beams(&self, case: &Case) -> Result<Prefilled<'_, B>> {
        self.prefilled_at(case, self.open(case, 1)?)
    }

    fn open(&self, case: &Case, sentences: usize) -> Result<Session<'_, B, AnyModel<B>>> {
        let &Case { model, shape, batch, .. } = case;
        let (capacity, source) = (capacity(model, shape), source_rows(model, shape));
        let config = case.cache_config();
        Session::open_case(&self.backend, &self.model, config, [batch, sentences], capacity, source)
    }

    fn prefilled_at<'a>(
        &'a self,
        case: &Case,
        mut session: Session<'a, B, AnyModel<B>>,
    ) -> Result<Prefilled<'a, B>> {
        let (vocab, last) = (self.model.vocab(), case.position - 1);
        if last > 0 {
            session.prefill(&Tokens::given(case.batch, 0, last, vocab))?;
        }
        let next = Tokens::given(case.batch, last, case.position, vocab);
        Ok(Prefilled { backend: &self.backend, session, next, copy: RefCell::new(None) })
    }

    /// The last `steps` steps up to the case's position, ready to be queued one behind the other.
    pub fn pipeline(&self, case: &Case, steps: usize) -> Result<Pipeline<'_, B>> {
        let first = case.position + 1 - steps;
        let prefilled = self.prefilled(&case.at(first))?;
        let tokens = (first..=case.position).map(|position| self.token(case.batch, position)).collect();
        Ok(Pipeline { prefilled, tokens })
    }

    /// The token at a position, for every batch entry.
    pub fn token(&self, batch: usize, position: usize) -> Tokens {
        Tokens::given(batch, position - 1, position, self.model.vocab())
    }
}

/// Steps are taken from copies of this session, for a step cannot be taken twice.
pub struct Prefilled<'a, B: Backend> {
    backend: &'a B,
    session: Session<'a, B, AnyModel<B>>,
    next: Tokens,
    /// Where steps are replayed from a recording: the copy whose steps were recorded.
    copy: RefCell<Option<Session<'a, B, AnyModel<B>>>>,
}

impl<'a, B: Backend> Prefilled<'a, B> {
    /// elapsed = Σ (feed + synchronize) over `iters` copies. Copying and dropping are outside.
    pub fn time_steps(&self, iters: u64) -> Result<Duration> {
        let mut elapsed = Duration::ZERO;
        for _ in 0..iters {
            elapsed += self.on_a_copy(|copy| timed(self.backend, copy, &self.next))?;
        }
        Ok(elapsed)
    }

    /// The same steps by the device's own clock, where it has one.
    pub(crate) fn time_steps_on_device(&self, iters: u64) -> Result<Option<Duration>> {
        let mut elapsed = Duration::ZERO;
        for _ in 0..iters {
            match self.time_a_step_on_device()? {
                Some(ns) => elapsed += Duration::from_nanos(ns),
                None => return Ok(None),
            }
        }
        Ok(Some(elapsed))
    }

    /// Some attempts at a step all of which is queued before the device begins with it.
    fn time_a_step_on_device(&self) -> Result<Option<u64>> {
        const ATTEMPTS: usize = 5;
        for _ in 0..ATTEMPTS {
            let step = |copy: &mut Session<'a, B, AnyModel<B>>| {
                self.backend.before_step()?;
                self.backend.synchronize()?;
                let (logits, time) = self.backend.device_ns(|| copy.feed(&self.next))?;
                drop(logits);
                Ok(time)
            };
            match self.on_a_copy(step)? {
                DeviceTime::Ns(ns) => return Ok(Some(ns)),
                DeviceTime::Unknown => return Ok(None),
                DeviceTime::Waited => {}
            }
        }
        Ok(None)
    }

    /// Steps until the next is what all later ones are: buffers grown, kernels compiled, and where
    /// steps are replayed, one recorded.
    pub fn warm_up(&self) -> Result<()> {
        self.time_steps(if self.backend.replays() { 4 } else { 1 }).map(drop)
    }

    /// What one step asks of the device; waiting for its end is not part of it.
    pub(crate) fn work_of_a_step(&self) -> Result<Work> {
        self.on_a_copy(|copy| {
            let before = self.backend.meter().work();
            drop(copy.feed(&self.next)?);
            Ok(self.backend.meter().work() - before)
        })
    }

    /// The logits of the step, `[batch, vocab]`.
    pub fn logits(&self) -> Result<Vec<f32>> {
        if self.backend.replays() {
            self.warm_up()?;
        }
        self.on_a_copy(|copy| {
            let logits = copy.feed(&self.next)?;
            self.backend.download(&logits)
        })
    }

    fn on_a_copy<R>(&self, work: impl FnOnce(&mut Session<'a, B, AnyModel<B>>) -> Result<R>) -> Result<R> {
        if !self.backend.replays() {
            return work(&mut self.session.fork()?);
        }
        let mut copy = self.copy.borrow_mut();
        match copy.as_mut() {
            Some(copy) => copy.restore(&self.session)?,
            None => *copy = Some(self.session.fork()?),
        }
        work(copy.as_mut().expect("made above"))
    }

    /// A copy of the session prefilled up to the step.
    pub(crate) fn fork(&self) -> Result<Session<'a, B, AnyModel<B>>> {
        self.session.fork()
    }

    /// What the step feeds.
    pub fn next(&self) -> &Tokens {
        &self.next
    }
}

/// Steps whose tokens are given, so that none has to wait for the one before it.
pub struct Pipeline<'a, B: Backend> {
    prefilled: Prefilled<'a, B>,
    tokens: Vec<Tokens>,
}

impl<B: Backend> Pipeline<'_, B> {
    /// How many steps there are.
    pub fn steps(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// elapsed = Σ feed, synchronize: all steps are queued, and only the last is waited for. Logits are dropped as
    /// they come, for a recorded step has room for one result. Copying the session is outside.
    pub fn time(&self) -> Result<Duration> {
        self.run(|elapsed, _| Ok(elapsed))
    }

    /// The logits of the last step, `[batch, vocab]`.
    pub fn logits(&self) -> Result<Vec<f32>> {
        self.run(|_, logits| self.prefilled.backend.download(&logits))
    }

    fn run<R>(&self, keep: impl FnOnce(Duration, B::Tensor) -> Result<R>) -> Result<R> {
        let b = self.prefilled.backend;
        self.prefilled.on_a_copy(|copy| {
            let (last, before) = self.tokens.split_last().expect("one step at least");
            b.before_step()?;
            b.synchronize()?;
            let start = Instant::now();
            before.iter().try_for_each(|tokens| copy.feed(tokens).map(drop))?;
            let logits = copy.feed(last)?;
            b.synchronize()?;
            keep(start.elapsed(), logits)
        })
    }
}

/// elapsed = feed + synchronize. The logits are dropped outside.
pub fn timed<B: Backend>(
    b: &B,
    session: &mut Session<'_, B, AnyModel<B>>,
    tokens: &Tokens,
) -> Result<Duration> {
    timed_calls(b, session, std::slice::from_ref(tokens))
}

/// elapsed = Σ feed, synchronize. The logits of the last call are dropped outside, those before it as they come.
pub fn timed_calls<B: Backend>(
    b: &B,
    session: &mut Session<'_, B, AnyModel<B>>,
    calls: &[Tokens],
) -> Result<Duration> {
    b.before_step()?;
    b.synchronize()?;
    let start = Instant::now();
    let logits = calls.iter().try_fold(None, |_, tokens| session.feed(tokens).map(Some))?;
    b.synchronize()?;
    let elapsed = start.elapsed();
    drop(logits);
    Ok(elapsed)
}
