//! The names of what is compared: a [`Strategy`] is a way to keep the state of a decode, a [`Slot`] the state that
//! one layer needs. How each strategy keeps each kind of slot is in [`crate::cache`].

use std::fmt;
use std::str::FromStr;

use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// The most positions of a decode, of a case and of a chunk: no cost of them overflows, and a mistyped number does
/// not ask for all memory.
pub const MOST_POSITIONS: usize = 1 << 20;

/// How the past is kept. The first three are the project's question; the others explain why the
/// published answers to it contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// Recompute all positions at every step.
    Naive,
    /// Recompute all positions of a fixed capacity, as naive must where shapes are compiled in.
    NaivePadded,
    /// Grow by concatenation: a new buffer at every step.
    Concat,
    /// One buffer of fixed shape and a write index, all of it read, the unwritten rest deselected.
    /// A window becomes a ring.
    Padded,
    /// Padded to the next multiple of a chunk, grown by a zeroed chunk when full.
    Chunked(usize),
    /// Padded's buffer, but the kernel stops at the newest row.
    Bounded,
    /// Padded's buffer, written by a one-hot product over all of its rows (T5X's scatter).
    Onehot,
    /// fairseq's queue for a window: move every row down, append.
    Shift,
    /// Padded, but cross-attention keys and values are projected from the encoder's output at every step, not kept.
    Reprojected,
}

impl Strategy {
    /// What tells the lengths and buffers of one step from those of another: the rows that its buffers
    /// have. `None` when every step has others.
    pub(crate) fn step_shape(self, position: usize, capacity: usize) -> Option<usize> {
        match self {
            Strategy::Naive | Strategy::Concat => None,
            Strategy::Chunked(chunk) => Some(position.next_multiple_of(chunk)),
            Strategy::NaivePadded
            | Strategy::Padded
            | Strategy::Bounded
            | Strategy::Onehot
            | Strategy::Shift
            | Strategy::Reprojected => Some(capacity),
        }
    }

    /// Rows that a buffer grows by, for those that are one family: concat by one, chunked-c by c, padded by
    /// its whole capacity at once.
    pub(crate) fn grows_by(self, capacity: usize) -> Option<usize> {
        match self {
            Strategy::Concat => Some(1),
            Strategy::Chunked(chunk) => Some(chunk),
            Strategy::Padded => Some(capacity),
            Strategy::Naive
            | Strategy::NaivePadded
            | Strategy::Bounded
            | Strategy::Onehot
            | Strategy::Shift
            | Strategy::Reprojected => None,
        }
    }

    /// Whether a sliding window is kept as every row, and attention passes over those that it may not see.
    pub(crate) fn keeps_every_row(self) -> bool {
        matches!(self, Strategy::Chunked(_) | Strategy::Bounded | Strategy::Onehot)
    }

    /// Whether steps see the past through a cache.
    pub fn remembers(self) -> bool {
        !matches!(self, Strategy::Naive | Strategy::NaivePadded)
    }
}

/// How the past is kept, and of which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// How the rows are kept.
    pub strategy: Strategy,
    /// Of their numbers. The state of a recurrent layer, which is a sum, stays f32, and so do keys and values of
    /// a source.
    pub dtype: Dtype,
}

impl CacheConfig {
    /// That layers with such state can be kept so.
    ///
    /// # Errors
    /// When the strategy computes with what it keeps, which is f32 then; when there is nothing but the state of
    /// recurrent layers.
    pub fn check(self, slots: &[Slot]) -> Result<()> {
        let CacheConfig { strategy, dtype } = self;
        if dtype == Dtype::F32 {
            return Ok(());
        }
        if strategy == Strategy::Onehot {
            return Err(Error::Input(format!(
                "a cache in {dtype}: `onehot` adds products to its rows, in f32 alone"
            )));
        }
        if !slots.is_empty() && slots.iter().all(|slot| matches!(slot, Slot::State { .. })) {
            return Err(Error::Input(format!(
                "a cache in {dtype}: the state of recurrent layers is a sum, in f32 alone"
            )));
        }
        Ok(())
    }
}

/// As in a case id: `padded`, `padded-bf16`.
impl fmt::Display for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", self.strategy, self.dtype.suffix()))
    }
}

impl FromStr for CacheConfig {
    type Err = Error;
    fn from_str(name: &str) -> Result<CacheConfig> {
        let (strategy, dtype) = Dtype::split(name, Dtype::ALL);
        Ok(CacheConfig { strategy: strategy.parse()?, dtype })
    }
}

/// In f32.
impl From<Strategy> for CacheConfig {
    fn from(strategy: Strategy) -> CacheConfig {
        CacheConfig { strategy, dtype: Dtype::F32 }
    }
}

/// The name of each strategy, and what stands for those that have a parameter.
macro_rules! names {
    ($($variant:ident $(($parameter:ident = $example:literal))? => $name:literal),+ $(,)?) => {
        impl Strategy {
            /// One of each; `chunked` takes any chunk, 64 stands for all.
            pub fn examples() -> &'static [Strategy] {
                &[$(Strategy::$variant $(($example))?),+]
            }
        }
        impl fmt::Display for Strategy {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&match self { $(Strategy::$variant $(($parameter))? => format!($name)),+ })
            }
        }
    };
}

names!(
    Naive => "naive",
    NaivePadded => "naive-padded",
    Concat => "concat",
    Padded => "padded",
    Chunked(chunk = 64) => "chunked-{chunk}",
    Bounded => "bounded",
    Onehot => "onehot",
    Shift => "shift",
    Reprojected => "reprojected",
);

impl FromStr for Strategy {
    type Err = Error;
    fn from_str(name: &str) -> Result<Strategy> {
        let chunk = name.strip_prefix("chunked-").and_then(|chunk| chunk.parse().ok());
        let plain = |c: &usize| (1..=MOST_POSITIONS).contains(c) && name == format!("chunked-{c}"); // no alias
        let chunk = chunk.filter(plain);
        let named = || Strategy::examples().iter().copied().find(|s| s.to_string() == name);
        chunk.map(Strategy::Chunked).or_else(named).ok_or_else(|| Error::Unknown {
            kind: "strategy",
            name: name.into(),
            known: Strategy::examples().iter().map(Strategy::to_string).collect(),
        })
    }
}

/// The state that one layer keeps in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Every row, of so many numbers, those of so many heads: in int8, each head of a row has a scale.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Rows { width: usize, heads: usize },
    /// The latest rows, the newest included: what a convolution of so many taps reads.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Window { width: usize, heads: usize, rows: usize },
    /// The latest rows, the newest included, or every row: attention with a sliding window sees no others.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Sliding { width: usize, heads: usize, rows: usize },
    /// One matrix of a fixed size, whatever the length: a recurrent layer's.
    #[allow(missing_docs, reason = "the fields are explained above")]
    State { rows: usize, width: usize },
}

impl Slot {
    /// Whether a strategy has a form for it: a convolution's few rows have no use for chunks or bounds, an
    /// unbounded past cannot be shifted through a queue, and a state is kept in one way only.
    pub fn fits(self, strategy: Strategy) -> bool {
        match strategy {
            Strategy::Naive
            | Strategy::NaivePadded
            | Strategy::Concat
            | Strategy::Padded
            | Strategy::Reprojected => true,
            Strategy::Chunked(_) | Strategy::Bounded | Strategy::Onehot => {
                matches!(self, Slot::Rows { .. } | Slot::Sliding { .. })
            }
            Strategy::Shift => matches!(self, Slot::Window { .. } | Slot::Sliding { .. }),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Slot::Rows { .. } => "an unbounded past",
            Slot::Window { .. } => "a window of a few rows",
            Slot::Sliding { .. } => "a sliding window",
            Slot::State { .. } => "a state of fixed size",
        })
    }
}
