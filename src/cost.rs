//! What a step must cost, in closed form: FLOPs, bytes, allocations and state of every strategy, from
//! the shapes alone. The meter counts the same on the running program; a run in which the two
//! differ did not do what its name says, however right its output.
//!
//! Per layer of the transformer, with d the width, t the position, M the capacity, s bytes a number,
//! `A = 8d² + 4dF`, and `S = c·⌈t/c⌉`:
//!
//! | strategy | FLOPs | rows written and copied | rows read | rows kept |
//! |---|---|---|---|---|
//! | naive | t·A + 2d·t(t+1) | 0 | 2t | 0 |
//! | naive-padded | M·A + 4d·M² | 0 | 2M | 0 |
//! | concat | A + 4d·t | 4t - 2 | 2t | 2t |
//! | padded | A + 4d·M | 2 | 2M | 2M |
//! | bounded | A + 4d·t | 2 | 2t | 2M |
//! | onehot | A + 4d·M + 4M·d | 4M | 2M | 2M |
//! | chunked-c | A + 4d·S | 2, and 4S - 2c at a growth | 2S | 2S |
//!
//! Per layer of the convolution every step costs `4K·C²` for each new row and reads K rows of C;
//! naive has t new rows, naive-padded M. Concat copies 2(K-1) + 1 rows, padded writes one,
//! shift moves 2(K-1) + 1.
//!
//! The most that concat keeps at once is `(2N + 1)·t - 1` rows: keys are freed before values grow,
//! layer after layer, so only one tensor of the model is there twice at a time.

use crate::backend::Work;
use crate::cache::Strategy;
use crate::case::Case;
use crate::error::Result;
use crate::model::{capacity, Config, ConvConfig, TransformerConfig};

/// Bytes of an f32.
const S: usize = 4;

/// One step to `position`, of a session of `batch` sentences whose buffers have `capacity` rows.
#[derive(Clone, Debug)]
pub struct Step {
    pub config: Config,
    pub strategy: Strategy,
    pub batch: usize,
    pub position: usize,
    pub capacity: usize,
}

impl Step {
    /// The step that a case means.
    pub fn of(case: &Case) -> Result<Step> {
        Ok(Step {
            config: Config::named(case.model, case.shape)?,
            strategy: case.strategy,
            batch: case.batch,
            position: case.position,
            capacity: capacity(case.model, case.shape),
        })
    }

    /// [`Self::read_floor_bytes`] of a case that has a step.
    pub fn floor_of(case: &Case) -> Option<u64> {
        Step::of(case).ok().map(|step| step.read_floor_bytes() as u64)
    }

    /// Everything counted that follows from the shapes. `launches` and `host_syncs` are a backend's own.
    pub fn work(&self) -> Work {
        let rows = self.rows();
        Work {
            flops: self.flops() as u64,
            copied_bytes: (self.batch * rows.copied * self.width() * S) as u64,
            read_bytes: (self.batch * rows.read * self.width() * S) as u64,
            allocs: rows.allocs as u64,
            alloc_bytes: (self.batch * rows.allocated * self.width() * S) as u64,
            ..Work::default()
        }
    }

    /// Rows kept after the step that hold a position.
    pub fn live_bytes(&self) -> usize {
        self.kept_bytes(match &self.config {
            Config::Transformer(_) => self.position,
            Config::LinearizedConv(config) => config.taps.min(self.position),
        })
    }

    /// Rows kept after the step.
    pub fn allocated_bytes(&self) -> usize {
        self.kept_bytes(self.held(self.position))
    }

    /// The most kept at once during the step: one tensor is there twice while it grows.
    pub fn kept_peak_bytes(&self) -> usize {
        let (before, after) = (self.held(self.position - 1), self.held(self.position));
        let grows = matches!(self.strategy, Strategy::Concat) || before != after;
        let twice = if grows { before } else { 0 };
        self.allocated_bytes()
            + if self.strategy.remembers() { self.batch * twice * self.width() * S } else { 0 }
    }

    /// Bytes that must cross from memory for one step, however well it is written: every weight
    /// the step uses once, and the rows that layers read.
    pub fn read_floor_bytes(&self) -> usize {
        let untouched = match &self.config {
            // of positions one row an entry is looked up; the tied table is read by the last product
            Config::Transformer(c) => S * c.positions.saturating_sub(self.new_rows()) * c.width,
            Config::LinearizedConv(c) => S * c.vocab.saturating_sub(self.batch * self.new_rows()) * c.embed,
        };
        let past = if self.strategy.remembers() { self.work().read_bytes as usize } else { 0 };
        self.config.weight_bytes() - untouched + past
    }

    /// About how long the step takes, in operations at full speed: to compare, not to predict. A byte
    /// moved counts as four, about the ratio of the two ceilings on the machines in `results/`.
    pub fn estimate(&self) -> u64 {
        let Work { flops, copied_bytes, .. } = self.work();
        flops + 4 * (self.read_floor_bytes() as u64 + copied_bytes)
    }

    pub fn flops(&self) -> usize {
        let n = self.new_rows();
        let one = match &self.config {
            Config::Transformer(c) => {
                let dense = n * (8 * c.width * c.width + 4 * c.width * c.hidden);
                let attention = 4 * c.width * self.pairs();
                c.layers * (dense + attention + self.scatter_flops(c)) + 2 * c.width * c.vocab
            }
            Config::LinearizedConv(c) => {
                let convolutions = c.layers * n * 4 * c.taps * c.channels * c.channels;
                n * 2 * c.embed * c.channels + convolutions + 2 * c.channels * c.embed + 2 * c.embed * c.vocab
            }
        };
        self.batch * one
    }

    /// Rows a call brings: one, or all of them to those who remember nothing.
    fn new_rows(&self) -> usize {
        match self.strategy {
            Strategy::Naive => self.position,
            Strategy::NaivePadded => self.capacity,
            Strategy::Concat
            | Strategy::Padded
            | Strategy::Chunked(_)
            | Strategy::Bounded
            | Strategy::Onehot
            | Strategy::Shift => 1,
        }
    }

    /// Pairs of a query and a row that attention visits.
    fn pairs(&self) -> usize {
        let (t, m) = (self.position, self.capacity);
        match self.strategy {
            Strategy::Naive => t * (t + 1) / 2,
            Strategy::NaivePadded => m * m,
            Strategy::Concat | Strategy::Bounded | Strategy::Shift => t,
            Strategy::Padded | Strategy::Onehot => m,
            Strategy::Chunked(chunk) => t.next_multiple_of(chunk),
        }
    }

    fn scatter_flops(&self, config: &TransformerConfig) -> usize {
        if self.strategy == Strategy::Onehot {
            4 * self.capacity * config.width
        } else {
            0
        }
    }

    /// Rows of one kept tensor after `position` positions.
    fn held(&self, position: usize) -> usize {
        match (&self.config, self.strategy) {
            (_, Strategy::Naive | Strategy::NaivePadded) => 0,
            (Config::Transformer(_), Strategy::Concat) => position,
            (Config::Transformer(_), Strategy::Chunked(chunk)) => position.next_multiple_of(chunk),
            (Config::Transformer(_), _) => self.capacity,
            (Config::LinearizedConv(c), Strategy::Concat) => c.taps.min(position),
            (Config::LinearizedConv(c), _) => c.taps,
        }
    }

    /// Numbers in a kept row, and kept tensors.
    fn width(&self) -> usize {
        match &self.config {
            Config::Transformer(config) => config.width,
            Config::LinearizedConv(config) => config.channels,
        }
    }

    fn tensors(&self) -> usize {
        match &self.config {
            Config::Transformer(config) => 2 * config.layers,
            Config::LinearizedConv(config) => config.layers,
        }
    }

    fn kept_bytes(&self, rows: usize) -> usize {
        if !self.strategy.remembers() {
            return 0;
        }
        self.batch * self.tensors() * rows * self.width() * S
    }

    /// Over all kept tensors: rows copied and written, rows read, allocations and their rows.
    fn rows(&self) -> Rows {
        let (t, m) = (self.position, self.capacity);
        let one = match (&self.config, self.strategy) {
            (Config::Transformer(_), Strategy::Naive) => Rows { read: t, ..Rows::default() },
            (Config::Transformer(_), Strategy::NaivePadded) => Rows { read: m, ..Rows::default() },
            (Config::Transformer(_), Strategy::Concat) => {
                Rows { copied: 2 * t - 1, read: t, allocs: 1, allocated: t }
            }
            (Config::Transformer(_), Strategy::Bounded) => Rows { copied: 1, read: t, ..Rows::default() },
            (Config::Transformer(_), Strategy::Onehot) => Rows { copied: 2 * m, read: m, ..Rows::default() },
            (Config::Transformer(_), Strategy::Chunked(_)) => self.chunked_rows(),
            (Config::Transformer(_), Strategy::Padded | Strategy::Shift) => {
                Rows { copied: 1, read: m, ..Rows::default() }
            }
            (Config::LinearizedConv(c), _) => self.window_rows(c),
        };
        let tensors = self.tensors();
        Rows {
            copied: tensors * one.copied,
            read: tensors * one.read,
            allocs: tensors * one.allocs,
            allocated: tensors * one.allocated,
        }
    }

    fn chunked_rows(&self) -> Rows {
        let (before, after) = (self.held(self.position - 1), self.held(self.position));
        if before == after {
            return Rows { copied: 1, read: after, ..Rows::default() };
        }
        let grown = if before == 0 { 0 } else { before + after };
        Rows { copied: 1 + grown, read: after, allocs: 1, allocated: after }
    }

    fn window_rows(&self, config: &ConvConfig) -> Rows {
        let taps = config.taps;
        let read = taps - 1 + self.new_rows();
        match self.strategy {
            Strategy::Concat => {
                let held = self.held(self.position);
                Rows { copied: 2 * held - 1, read, allocs: 1, allocated: held }
            }
            Strategy::Shift => Rows { copied: 2 * taps - 1, read, ..Rows::default() },
            Strategy::Naive | Strategy::NaivePadded => Rows { read, ..Rows::default() },
            Strategy::Padded | Strategy::Bounded | Strategy::Onehot | Strategy::Chunked(_) => {
                Rows { copied: 1, read, ..Rows::default() }
            }
        }
    }
}

#[derive(Default)]
struct Rows {
    copied: usize,
    read: usize,
    allocs: usize,
    allocated: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::cuda::{Cuda, Mode};
    use crate::backend::tests::device;
    use crate::backend::{Backend, Metered, Tokens};
    use crate::case::{ModelKind, ShapeName};
    use crate::model::weights::Weights;
    use crate::model::AnyModel;
    use crate::session::Session;

    /// Trap 5 of a cache: silently unused, it gives right answers at naive cost. So the work is
    /// counted and not only the output compared.
    #[test]
    fn counted_work_is_the_closed_form() {
        on_every_case(|| Cpu::new(1), 24);
    }

    #[test]
    fn counted_work_is_the_closed_form_on_cuda() {
        if let Some(device) = device() {
            on_every_case(|| Cuda::new(&device, Mode::Stream).unwrap(), 9);
        }
    }

    fn on_every_case<B: Backend>(backend: impl Fn() -> B, last: usize) {
        for model in [ModelKind::Transformer, ModelKind::LinearizedConv] {
            let config = Config::named(model, ShapeName::Tiny).unwrap();
            let b = Metered(backend());
            let loaded = AnyModel::load(&b, &config, &Weights::seeded(model, 1)).unwrap();
            let strategies = Strategy::examples().iter().copied().chain([Strategy::Chunked(4)]);
            for (strategy, batch) in strategies.filter(|s| s.applies_to(model)).flat_map(|s| [(s, 1), (s, 3)])
            {
                steps_cost_the_closed_form(&b, &config, &loaded, strategy, batch, last);
            }
        }
    }

    fn steps_cost_the_closed_form<B: Backend>(
        b: &Metered<B>,
        config: &Config,
        model: &AnyModel<Metered<B>>,
        strategy: Strategy,
        batch: usize,
        last: usize,
    ) {
        let mut session = Session::open(b, model, strategy, batch, 24).unwrap();
        session.feed(&Tokens(vec![vec![1, 2, 3]; batch])).unwrap();
        // the largest shape a step will have, so that scratch is warm
        session.fork().unwrap().feed(&Tokens(vec![vec![1; 21]; batch])).unwrap();
        for position in 4..=last {
            b.meter().reset_peaks();
            let before = b.meter().work();
            session.feed(&Tokens(vec![vec![5]; batch])).unwrap();
            let counted = b.meter().work() - before;
            let step = Step { config: config.clone(), strategy, batch, position, capacity: 24 };
            let what = format!("{} {strategy} batch {batch} position {position}", b.name());
            let counted = Work { launches: 0, host_syncs: 0, ..counted };
            assert_eq!(counted, step.work(), "{what}");
            assert_eq!(session.cache().live_bytes(b), step.live_bytes(), "{what}: live");
            assert_eq!(session.cache().allocated_bytes(b), step.allocated_bytes(), "{what}: allocated");
            assert_eq!(b.meter().kept_peak_bytes(), step.kept_peak_bytes(), "{what}: peak");
        }
    }
}
