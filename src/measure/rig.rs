//! A model on a backend, and sessions poised before the step to be timed.

use std::time::{Duration, Instant};

use super::tokens::given;
use super::Settings;
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Metered, Tokens};
use crate::case::{Case, ModelKind, ShapeName};
use crate::error::Result;
use crate::model::weights::Weights;
use crate::model::{capacity, AnyModel, Config, Model};
use crate::session::Session;

/// One model of a named shape with seeded weights, loaded once for all its cases.
pub struct Rig<B: Backend> {
    pub backend: B,
    pub model: AnyModel<B>,
    pub kind: ModelKind,
    pub shape: ShapeName,
}

impl Rig<Cpu> {
    pub fn cpu(kind: ModelKind, shape: ShapeName, settings: &Settings) -> Result<Rig<Cpu>> {
        Rig::load(Cpu::new(settings.threads), kind, shape, settings.seed)
    }
}

impl Rig<Metered<Cpu>> {
    /// The same with every call counted. Never timed.
    pub fn metered(kind: ModelKind, shape: ShapeName, settings: &Settings) -> Result<Rig<Metered<Cpu>>> {
        Rig::load(Metered(Cpu::new(settings.threads)), kind, shape, settings.seed)
    }
}

impl<B: Backend> Rig<B> {
    fn load(backend: B, kind: ModelKind, shape: ShapeName, seed: u64) -> Result<Rig<B>> {
        let config = Config::named(kind, shape)?;
        let model = AnyModel::load(&backend, &config, &Weights::seeded(kind, seed))?;
        Ok(Rig { backend, model, kind, shape })
    }

    /// Whether a case is one of this model's.
    pub fn has(&self, case: &Case) -> bool {
        (case.model, case.shape) == (self.kind, self.shape)
    }

    /// An empty session for a case.
    pub fn session(&self, case: &Case) -> Result<Session<'_, B, AnyModel<B>>> {
        let capacity = capacity(case.model, case.shape);
        Session::open(&self.backend, &self.model, case.strategy, case.batch, capacity)
    }

    /// A session that holds all positions before the case's.
    pub fn trunk(&self, case: &Case) -> Result<Trunk<'_, B>> {
        let (vocab, last) = (self.model.vocab(), case.position - 1);
        let mut session = self.session(case)?;
        if last > 0 {
            session.absorb(&given(case.batch, 0, last, vocab))?;
        }
        Ok(Trunk { backend: &self.backend, session, next: given(case.batch, last, case.position, vocab) })
    }

    /// The token at a position, for every batch entry.
    pub fn token(&self, batch: usize, position: usize) -> Tokens {
        given(batch, position - 1, position, self.model.vocab())
    }
}

/// Steps are taken from copies of this session, for a step cannot be taken twice.
pub struct Trunk<'a, B: Backend> {
    backend: &'a B,
    session: Session<'a, B, AnyModel<B>>,
    next: Tokens,
}

impl<'a, B: Backend> Trunk<'a, B> {
    /// elapsed = Σ (feed + synchronize) over `iters` forks. Forking and dropping are outside.
    pub fn time_steps(&self, iters: u64) -> Result<Duration> {
        let mut elapsed = Duration::ZERO;
        for _ in 0..iters {
            let mut fork = self.session.fork()?;
            elapsed += timed(self.backend, &mut fork, &self.next)?;
        }
        Ok(elapsed)
    }

    /// The logits of the step, `[batch, vocab]`.
    pub fn logits(&self) -> Result<Vec<f32>> {
        let logits = self.session.fork()?.feed(&self.next)?;
        self.backend.download(&logits)
    }

    pub fn fork(&self) -> Result<Session<'a, B, AnyModel<B>>> {
        self.session.fork()
    }

    /// What the step feeds.
    pub fn next(&self) -> &Tokens {
        &self.next
    }
}

/// elapsed = feed + synchronize. The logits are dropped outside.
pub fn timed<B: Backend>(
    b: &B,
    session: &mut Session<'_, B, AnyModel<B>>,
    tokens: &Tokens,
) -> Result<Duration> {
    b.synchronize()?;
    let start = Instant::now();
    let logits = session.feed(tokens)?;
    b.synchronize()?;
    let elapsed = start.elapsed();
    drop(logits);
    Ok(elapsed)
}
