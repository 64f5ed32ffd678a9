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
//! Grouped queries keep `kv_heads/heads` of d; a sliding window is a convolution's memory twice, and read
//! by attention, but for bounded, chunked-c and onehot, which keep every row; retention's state of `H·D²` numbers is read, written and multiplied with once a new row.
//! Cross-attention to a source of S rows costs `4d·S` and reads 2S rows, and, where keys and values are projected
//! anew, `4S·d²` more.
//!
//! The most that concat keeps at once is `(2N + 1)·t - 1` rows: keys are freed before values grow,
//! layer after layer, so only one tensor of the model is there twice at a time.

use crate::backend::{Backend, Format, Work};
use crate::case::Case;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::model::{capacity, source_rows, Config, Node};
use crate::strategy::Strategy;

/// Bytes of an f32.
const S: usize = 4;

/// One step to `position`, of a session of `batch` sentences whose buffers have `capacity` rows.
#[derive(Clone, Debug)]
pub struct Step {
    /// Of the model.
    pub config: Config,
    /// How its matrices and tables are kept.
    pub weights: Dtype,
    /// How the past is kept.
    pub strategy: Strategy,
    /// Of which numbers.
    pub cache: Dtype,
    /// Sentences decoded at once.
    pub batch: usize,
    /// Tokens each sentence has when the step is done.
    pub position: usize,
    /// Rows of the buffers of fixed shape.
    pub capacity: usize,
    /// Rows of the source, where there is one; as many sentences as the batch.
    pub source: usize,
}

/// What one memory costs in one step, of one batch entry: in rows, and then in bytes.
#[derive(Clone, Copy, Default)]
struct Memory {
    copied: usize,
    read: usize,
    allocs: usize,
    allocated: usize,
    /// Kept before the step, and after it.
    before: usize,
    after: usize,
    /// Of what is kept after it, what holds a position.
    live: usize,
    flops: usize,
}

impl Memory {
    /// From rows to bytes. In another format than f32, `new` rows are written in it before they are kept.
    fn in_bytes(self, width: usize, format: Format, new: usize) -> Memory {
        let bytes = format.row_bytes(width);
        let cast = if format.dtype == Dtype::F32 { 0 } else { new };
        Memory {
            copied: (self.copied + cast) * bytes,
            read: self.read * bytes,
            allocs: self.allocs,
            allocated: self.allocated * bytes,
            before: self.before * bytes,
            after: self.after * bytes,
            live: self.live * bytes,
            flops: self.flops * width,
        }
    }
}

impl Step {
    /// The step that a case means.
    pub fn of(case: &Case) -> Result<Step> {
        Ok(Step {
            config: Config::named(case.model, case.shape)?,
            weights: case.weights,
            strategy: case.strategy,
            cache: case.cache,
            batch: case.batch,
            position: case.position,
            capacity: capacity(case.model, case.shape),
            source: source_rows(case.model, case.shape),
        })
    }

    /// [`Self::read_floor_bytes`] of a case that has a step.
    pub fn floor_of(case: &Case) -> Option<u64> {
        Step::of(case).ok().map(|step| step.read_floor_bytes() as u64)
    }

    /// Everything counted that follows from the shapes. `launches` and `host_syncs` are a backend's own.
    pub fn work(&self) -> Work {
        let memories = self.memories();
        let sum = |of: fn(&Memory) -> usize| memories.iter().map(of).sum::<usize>();
        let bytes = |of_entry: usize| (self.batch * of_entry) as u64;
        Work {
            flops: self.flops() as u64,
            copied_bytes: bytes(sum(|m| m.copied)),
            read_bytes: bytes(sum(|m| m.read) + S * self.encoder_numbers()),
            allocs: sum(|m| m.allocs) as u64,
            alloc_bytes: bytes(sum(|m| m.allocated)),
            ..Work::default()
        }
    }

    /// Rows kept after the step that hold a position, of the past or of the source.
    pub(crate) fn live_bytes(&self) -> usize {
        self.batch * self.memories().iter().map(|m| m.live).sum::<usize>() + self.source_bytes()
    }

    /// Rows kept after the step.
    pub fn allocated_bytes(&self) -> usize {
        self.batch * self.memories().iter().map(|m| m.after).sum::<usize>() + self.source_bytes()
    }

    /// The most kept at once during the step: one tensor after another is there twice while it grows.
    pub(crate) fn kept_peak_bytes(&self) -> usize {
        let memories = self.memories();
        let grows = |m: &Memory| m.allocs > 0;
        let mut kept: usize = memories.iter().map(|m| m.before).sum();
        let mut most = kept;
        for memory in memories.iter().filter(|m| grows(m)) {
            most = most.max(kept + memory.after);
            kept = kept + memory.after - memory.before;
        }
        self.batch * most + self.source_bytes()
    }

    /// The most kept at once when each sentence is decoded by so many beams, which share its source.
    fn kept_by_beams(&self, beams: usize) -> usize {
        let source = self.source_bytes();
        beams * (self.kept_peak_bytes() - source) + source
    }

    /// What a model takes, loaded for a session to this position.
    pub(crate) fn loaded_bytes(&self) -> usize {
        self.config.loaded_bytes(self.capacity.max(self.source), self.weights)
    }

    /// What is kept of the source.
    pub(crate) fn source_bytes(&self) -> usize {
        self.batch * S * self.source * self.config.source_width(self.strategy)
    }

    /// Bytes that must cross from memory for one step, however well it is written: every weight
    /// the step uses once, and the rows that layers read.
    pub fn read_floor_bytes(&self) -> usize {
        let untouched = self.config.untouched(self.strategy, self.batch, self.new_rows(), self.weights);
        let past = if self.strategy.remembers() { self.work().read_bytes as usize } else { 0 };
        self.config.weight_bytes(self.weights) - untouched + past
    }

    /// About how long the step takes, in operations at full speed: to compare, not to predict. A byte
    /// moved counts as four, about the ratio of the two ceilings on the machines in `results/`.
    pub(crate) fn estimate(&self) -> u64 {
        let Work { flops, copied_bytes, .. } = self.work();
        flops + 4 * (self.read_floor_bytes() as u64 + copied_bytes)
    }

    /// Of the step, a multiply-add counted as two.
    pub(crate) fn flops(&self) -> usize {
        let n = self.new_rows();
        let of = |node: &Node| match *node {
            Node::Dense { inner, out } => 2 * n * inner * out,
            Node::Last { inner, out } => 2 * inner * out,
            Node::Attention { width, window, .. } => 4 * width * self.pairs(window),
            Node::CrossAttention { width, kept, inner } => {
                let anew = if self.strategy == Strategy::Reprojected { inner.unwrap_or(0) } else { 0 };
                4 * width * n * self.source + 4 * self.source * anew * kept
            }
            Node::Convolution { channels, taps } => 4 * n * taps * channels * channels,
            Node::Retention { heads, size } => 5 * n * heads * size * size,
        };
        let memories: usize = self.memories().iter().map(|m| m.flops).sum();
        self.batch * (self.config.nodes().iter().map(of).sum::<usize>() + memories)
    }

    /// Rows of a call: one, or all of them under a strategy without a cache.
    fn new_rows(&self) -> usize {
        match self.strategy {
            Strategy::Naive => self.position,
            Strategy::NaivePadded => self.capacity,
            Strategy::Concat
            | Strategy::Padded
            | Strategy::Chunked(_)
            | Strategy::Bounded
            | Strategy::Onehot
            | Strategy::Shift
            | Strategy::Reprojected => 1,
        }
    }

    /// Pairs of a query and a row that attention visits.
    fn pairs(&self, window: Option<usize>) -> usize {
        let (t, m) = (self.position, self.capacity);
        if let Some(window) = window {
            let upto = |rows: usize| (1..=rows).map(|end| end.min(window)).sum();
            return match self.strategy {
                Strategy::Naive => upto(t),
                Strategy::NaivePadded => upto(m),
                Strategy::Chunked(chunk) => t.next_multiple_of(chunk),
                Strategy::Onehot => m,
                _ => t.min(window),
            };
        }
        match self.strategy {
            Strategy::Naive => t * (t + 1) / 2,
            Strategy::NaivePadded => m * m,
            Strategy::Concat | Strategy::Bounded | Strategy::Shift => t,
            Strategy::Padded | Strategy::Onehot | Strategy::Reprojected => m,
            Strategy::Chunked(chunk) => t.next_multiple_of(chunk),
        }
    }

    /// Numbers of the source that are read, of one batch entry.
    fn encoder_numbers(&self) -> usize {
        let of = |node: &Node| match node {
            Node::CrossAttention { kept, .. } => 2 * self.source * kept,
            _ => 0,
        };
        self.config.nodes().iter().map(of).sum()
    }

    /// What each kept tensor costs, in call order.
    fn memories(&self) -> Vec<Memory> {
        let kept = |rows: Memory, width: usize, heads: usize| {
            rows.in_bytes(width, Format { dtype: self.cache, heads }, self.new_rows())
        };
        let of = |node: &Node| match *node {
            Node::Dense { .. } | Node::Last { .. } | Node::CrossAttention { .. } => Vec::new(),
            Node::Attention { kept: width, kv_heads, window: None, .. } => {
                vec![kept(self.rows(), width, kv_heads); 2]
            }
            Node::Attention { kept: width, kv_heads, window: Some(window), .. }
                if self.strategy.keeps_every_row() =>
            {
                let rows = self.rows();
                let seen = match self.strategy {
                    Strategy::Bounded => self.position.min(window),
                    _ => rows.read, // the others are masked
                };
                vec![kept(Memory { read: seen, ..rows }, width, kv_heads); 2]
            }
            Node::Attention { kept: width, kv_heads, window: Some(window), .. } => {
                let read =
                    if self.strategy.remembers() { self.position.min(window) } else { self.new_rows() };
                vec![kept(self.window(window, read), width, kv_heads); 2]
            }
            Node::Convolution { channels, taps } => {
                vec![kept(self.window(taps, taps - 1 + self.new_rows()), channels, 1)]
            }
            Node::Retention { heads, size } => {
                let read = S * heads * size * size;
                let kept = if self.strategy.remembers() { read } else { 0 };
                let memory = Memory { read, copied: kept, before: kept, after: kept, ..Memory::default() };
                vec![Memory { live: kept, ..memory }]
            }
        };
        self.config.nodes().iter().flat_map(of).collect()
    }

    /// Of all positions.
    fn rows(&self) -> Memory {
        let (t, m) = (self.position, self.capacity);
        let fixed = Memory { copied: 1, read: m, before: m, after: m, live: t, ..Memory::default() };
        match self.strategy {
            Strategy::Naive => Memory { read: t, ..Memory::default() },
            Strategy::NaivePadded => Memory { read: m, ..Memory::default() },
            Strategy::Concat => Memory {
                copied: 2 * t - 1,
                read: t,
                allocs: 1,
                allocated: t,
                before: t - 1,
                after: t,
                live: t,
                flops: 0,
            },
            Strategy::Bounded => Memory { read: t, ..fixed },
            Strategy::Onehot => Memory { copied: 2 * m, flops: 2 * m, ..fixed },
            Strategy::Chunked(chunk) => self.chunks(chunk),
            Strategy::Padded | Strategy::Shift | Strategy::Reprojected => fixed,
        }
    }

    fn chunks(&self, chunk: usize) -> Memory {
        let [before, after] = [self.position - 1, self.position].map(|t| t.next_multiple_of(chunk));
        let memory =
            Memory { copied: 1, read: after, before, after, live: self.position, ..Memory::default() };
        if before == after {
            return memory;
        }
        let grown = if before == 0 { 0 } else { before + after };
        Memory { copied: 1 + grown, allocs: 1, allocated: after, ..memory }
    }

    /// Of the latest `taps` positions; `read` rows are read.
    fn window(&self, taps: usize, read: usize) -> Memory {
        let taps = taps.min(self.capacity);
        let [before, after] = [self.position - 1, self.position].map(|t| t.min(taps));
        let fixed = Memory { copied: 1, read, before: taps, after: taps, live: after, ..Memory::default() };
        match self.strategy {
            Strategy::Concat => {
                Memory { copied: 2 * after - 1, allocs: 1, allocated: after, before, after, ..fixed }
            }
            Strategy::Shift => Memory { copied: 2 * taps - 1, ..fixed },
            Strategy::Naive | Strategy::NaivePadded => Memory { read, ..Memory::default() },
            _ => fixed,
        }
    }
}

/// That a model and a session of each of these, decoded to its last step by so many beams of each sentence, find room
/// on a backend: where memory is promised and not there when it is used, no error is left to be had.
///
/// # Errors
/// When they need more than is free.
pub fn check_memory<B: Backend>(b: &B, sessions: &[Step], beams: usize) -> Result<()> {
    let bytes = sessions.iter().map(|last| last.loaded_bytes() + last.kept_by_beams(beams)).sum();
    match b.free_bytes()? {
        Some(free) if bytes as u64 > free => Err(Error::TooLarge { bytes, free }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::cuda::{Cuda, Mode};
    use crate::backend::tests::device;
    use crate::backend::{Metered, Tokens};
    use crate::case::{ModelKind, ShapeName};
    use crate::model::{AnyModel, LlamaConfig, Weights};
    use crate::session::Session;
    use crate::strategy::CacheConfig;

    /// Trap 5 of a cache: silently unused, it gives right answers at naive cost. So the work is
    /// counted and not only the output compared.
    #[test]
    fn counted_work_is_the_closed_form() {
        on_every_case(|| Cpu::new(1).unwrap(), 24);
    }

    #[test]
    fn counted_work_is_the_closed_form_on_cuda() {
        if let Some(device) = device() {
            on_every_case(|| Cuda::new(&device, Mode::Stream).unwrap(), 9);
        }
    }

    #[test]
    fn beams_share_the_source_of_their_sentence() {
        let (b, strategy, capacity, source) = (Cpu::new(1).unwrap(), Strategy::Padded, 24, 7);
        for model in [ModelKind::EncoderDecoder, ModelKind::ConvSeq2Seq] {
            let config = Config::named(model, ShapeName::Tiny).unwrap();
            let loaded = AnyModel::load(&b, &config, &Weights::seeded(1)).unwrap();
            for (batch, beams) in [(1, 1), (1, 4), (3, 2)] {
                let session =
                    Session::open_case(&b, &loaded, strategy, [beams * batch, batch], capacity, source);
                let kept = session.unwrap().cache().allocated_bytes(&b);
                let (weights, cache) = (Dtype::F32, Dtype::F32);
                let step = Step {
                    config: config.clone(),
                    weights,
                    strategy,
                    cache,
                    batch,
                    position: 9,
                    capacity,
                    source,
                };
                assert_eq!(step.kept_by_beams(beams), kept, "{model}, {batch} sentences, {beams} beams");
            }
        }
    }

    fn on_every_case<B: Backend>(backend: impl Fn() -> B, last: usize) {
        let named = |&model| Config::named(model, ShapeName::Tiny).unwrap();
        let mut configs: Vec<Config> = ModelKind::ALL.iter().map(named).collect();
        let Config::Llama(llama) = named(&ModelKind::Llama) else { unreachable!() };
        let windows = LlamaConfig { window: Some(5), full_layers: vec![1], head_norms: true, ..llama };
        configs.push(Config::Llama(windows));
        for config in configs {
            let b = Metered(backend());
            let loaded = AnyModel::load(&b, &config, &Weights::seeded(1)).unwrap();
            let strategies = Strategy::examples().iter().copied().chain([Strategy::Chunked(4)]);
            let dtypes = || Dtype::ALL.iter().filter(|&&dtype| b.name() == "cpu" || dtype == Dtype::F32);
            for (strategy, &dtype) in strategies.flat_map(|s| dtypes().map(move |dtype| (s, dtype))) {
                let cache = CacheConfig { strategy, dtype };
                if config.kind().supports(cache) {
                    for batch in [1, 3] {
                        steps_cost_the_closed_form(&b, &config, &loaded, cache, batch, last);
                    }
                }
            }
        }
    }

    fn steps_cost_the_closed_form<B: Backend>(
        b: &Metered<B>,
        config: &Config,
        model: &AnyModel<Metered<B>>,
        cache: CacheConfig,
        batch: usize,
        last: usize,
    ) {
        let source = source_rows(config.kind(), ShapeName::Tiny);
        let mut session = Session::open_case(b, model, cache, [batch; 2], 24, source).unwrap();
        session.feed(&Tokens(vec![vec![1, 2, 3]; batch])).unwrap();
        // the largest shape a step will have, so that scratch is warm
        session.fork().unwrap().feed(&Tokens(vec![vec![1; 21]; batch])).unwrap();
        for position in 4..=last {
            if cache.dtype != Dtype::F32 {
                // rows of half the bytes share blocks with other rows at one length, and not at another
                session.fork().unwrap().feed(&Tokens(vec![vec![5]; batch])).unwrap();
            }
            b.meter().reset_peaks();
            let before = b.meter().work();
            session.feed(&Tokens(vec![vec![5]; batch])).unwrap();
            let counted = b.meter().work() - before;
            let step = Step {
                config: config.clone(),
                weights: Dtype::F32,
                strategy: cache.strategy,
                cache: cache.dtype,
                batch,
                position,
                capacity: 24,
                source,
            };
            let what = format!("{} {cache} batch {batch} position {position}", b.name());
            let counted = Work { launches: 0, host_syncs: 0, ..counted };
            assert_eq!(counted, step.work(), "{what}");
            assert_eq!(session.cache().live_bytes(b), step.live_bytes(), "{what}: live");
            assert_eq!(session.cache().allocated_bytes(b), step.allocated_bytes(), "{what}: allocated");
            assert_eq!(b.meter().kept_peak_bytes(), step.kept_peak_bytes(), "{what}: peak");
        }
    }
}
