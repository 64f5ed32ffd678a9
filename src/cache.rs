//! The subject of the project: what a decoder remembers from one step to the next.
//!
//! A [`Strategy`] is a kind of memory, not a kind of model. A layer says `past.append(new)` and gets
//! back a [`View`] of the rows it may read; it never names a strategy. So every strategy runs the
//! same kernels, on rows kept differently, and whatever differs between two of them is the memory.
//!
//! One mask rule for all: row r is visible to new row i when r <= at + i.

use std::fmt;
use std::str::FromStr;

use crate::backend::{Backend, Call, Columns, Layout, View};
use crate::case::ModelKind;
use crate::error::{Error, Result};

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
}

impl Strategy {
    /// One of each; `chunked` takes any chunk, 64 stands for all.
    pub fn examples() -> &'static [Strategy] {
        use Strategy::*;
        &[Naive, NaivePadded, Concat, Padded, Chunked(64), Bounded, Onehot, Shift]
    }

    /// Whether the model has a memory of this kind: a window of a few rows has no use for chunks or
    /// bounds, and an unbounded past cannot be shifted through a queue.
    pub fn applies_to(self, model: ModelKind) -> bool {
        match self {
            Strategy::Naive | Strategy::NaivePadded | Strategy::Concat | Strategy::Padded => true,
            Strategy::Chunked(_) | Strategy::Bounded | Strategy::Onehot => model == ModelKind::Transformer,
            Strategy::Shift => model == ModelKind::LinearizedConv,
        }
    }

    /// What tells the lengths and buffers of one step from those of another: the rows that its buffers
    /// have. `None` when every step has others.
    pub fn step_shape(self, position: usize, capacity: usize) -> Option<usize> {
        match self {
            Strategy::Naive | Strategy::Concat => None,
            Strategy::Chunked(chunk) => Some(position.next_multiple_of(chunk)),
            Strategy::NaivePadded
            | Strategy::Padded
            | Strategy::Bounded
            | Strategy::Onehot
            | Strategy::Shift => Some(capacity),
        }
    }

    /// Rows that a buffer grows by, for those that are one family: concat by one, chunked-c by c, padded by
    /// its whole capacity at once.
    pub fn grows_by(self, capacity: usize) -> Option<usize> {
        match self {
            Strategy::Concat => Some(1),
            Strategy::Chunked(chunk) => Some(chunk),
            Strategy::Padded => Some(capacity),
            Strategy::Naive
            | Strategy::NaivePadded
            | Strategy::Bounded
            | Strategy::Onehot
            | Strategy::Shift => None,
        }
    }

    /// Whether steps see the past through a cache.
    pub fn remembers(self) -> bool {
        !matches!(self, Strategy::Naive | Strategy::NaivePadded)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Strategy::Naive => "naive",
            Strategy::NaivePadded => "naive-padded",
            Strategy::Concat => "concat",
            Strategy::Padded => "padded",
            Strategy::Chunked(chunk) => return f.pad(&format!("chunked-{chunk}")),
            Strategy::Bounded => "bounded",
            Strategy::Onehot => "onehot",
            Strategy::Shift => "shift",
        })
    }
}

impl FromStr for Strategy {
    type Err = Error;
    fn from_str(name: &str) -> Result<Strategy> {
        let chunk = name.strip_prefix("chunked-").and_then(|chunk| chunk.parse().ok());
        let chunk = chunk.filter(|&c: &usize| c > 0 && name == format!("chunked-{c}")); // no alias
        let named = || Strategy::examples().iter().copied().find(|s| s.to_string() == name);
        chunk.map(Strategy::Chunked).or_else(named).ok_or_else(|| Error::Unknown {
            kind: "strategy",
            name: name.into(),
            known: Strategy::examples().iter().map(Strategy::to_string).collect(),
        })
    }
}

/// What one call node of a model asks to have remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Numbers in a row.
    pub width: usize,
    /// How many of the latest rows are ever read, the newest included; `None`: all of them.
    pub window: Option<usize>,
}

/// What one call node remembers. Every `match` on it is complete, so that a new kind of memory
/// that forgets to be reordered or counted does not compile.
enum History<T> {
    /// Nothing: the new rows are all the rows.
    Fresh(Layout),
    Grown(Option<T>),
    Chunked {
        rows: Option<T>,
        chunk: usize,
    },
    /// All positions have a row from the start.
    Fixed {
        rows: T,
        layout: Layout,
    },
    Onehot(T),
    Window {
        rows: Window<T>,
        taps: usize,
        lent: Option<T>,
    },
}

/// The last K rows, three ways. In the enclosing [`History::Window`], `lent` holds what the layer
/// reads when a call brings several rows: a window of one row's past is too short for them.
enum Window<T> {
    Grown(Option<T>),
    Ring(T),
    Queue(T),
}

impl<T> History<T> {
    fn new<B: Backend<Tensor = T>>(
        b: &B,
        strategy: Strategy,
        slot: Slot,
        batch: usize,
        capacity: usize,
    ) -> Result<Self> {
        let Slot { width, window } = slot;
        let zeros = |rows| b.zeros([batch, rows, width]);
        let window_of = |rows, taps| History::Window { rows, taps, lent: None };
        Ok(match (strategy, window) {
            (Strategy::Naive, _) => History::Fresh(Layout::Tail),
            (Strategy::NaivePadded, Some(_)) => History::Fresh(Layout::Tail),
            (Strategy::NaivePadded, None) => History::Fresh(Layout::Masked),
            (Strategy::Concat, None) => History::Grown(None),
            (Strategy::Concat, Some(taps)) => window_of(Window::Grown(None), taps),
            (Strategy::Padded, Some(taps)) => window_of(Window::Ring(zeros(taps)?), taps),
            (Strategy::Shift, Some(taps)) => window_of(Window::Queue(zeros(taps)?), taps),
            (Strategy::Padded, None) => History::Fixed { rows: zeros(capacity)?, layout: Layout::Masked },
            (Strategy::Bounded, None) => History::Fixed { rows: zeros(capacity)?, layout: Layout::Bounded },
            (Strategy::Onehot, None) => History::Onehot(zeros(capacity)?),
            (Strategy::Chunked(chunk), None) => History::Chunked { rows: None, chunk },
            (Strategy::Bounded | Strategy::Onehot | Strategy::Chunked(_), Some(_))
            | (Strategy::Shift, None) => {
                let what = if window.is_some() { "a window of a few rows" } else { "an unbounded past" };
                return Err(Error::Input(format!("strategy `{strategy}` has no form for {what}")));
            }
        })
    }

    /// Remembers the new rows and returns what the layer reads.
    ///
    /// Several rows at position 0, a batched prefill, are read where they were computed by every
    /// strategy that would otherwise read its own copy of the same rows: prefill is one
    /// computation, and strategies differ in what they then keep.
    fn append<'a, B: Backend<Tensor = T>>(
        &'a mut self,
        b: &B,
        call: &Call<B::Input>,
        new: Columns<'a, T>,
    ) -> Result<View<'a, T>> {
        let (n, prefill) = (call.rows(), call.at == 0 && call.rows() > 1);
        let fresh = View { rows: new, layout: Layout::Tail };
        match self {
            History::Fresh(layout) => Ok(View { rows: new, layout: *layout }),
            History::Grown(rows) => {
                let past = rows.as_ref().map(|past| (past, b.shape(past)[1]));
                let grown = b.concat(past, new, 0)?;
                Ok(View { rows: whole(b, rows.insert(grown)), layout: Layout::Tail })
            }
            History::Chunked { rows, chunk } => {
                let wanted = (call.at + n).next_multiple_of(*chunk);
                let held = rows.as_ref().map_or(0, |rows| b.shape(rows)[1]);
                if held < wanted {
                    let grown = match rows.as_ref() {
                        Some(past) => b.grow(past, wanted)?,
                        None => b.zeros([call.batch, wanted, new.width])?,
                    };
                    *rows = Some(grown);
                }
                let rows = rows.as_mut().expect("grown to hold the new rows");
                b.write_rows(call, rows, new)?;
                Ok(if prefill { fresh } else { View { rows: whole(b, rows), layout: Layout::Masked } })
            }
            History::Fixed { rows, layout } => {
                b.write_rows(call, rows, new)?;
                Ok(if prefill { fresh } else { View { rows: whole(b, rows), layout: *layout } })
            }
            History::Onehot(rows) => {
                b.write_onehot(call, rows, new)?;
                Ok(if prefill { fresh } else { View { rows: whole(b, rows), layout: Layout::Masked } })
            }
            History::Window { rows, taps, lent } => {
                *lent = match rows.view(b) {
                    Some(past) if n > 1 && call.at > 0 => Some(b.unroll(call, past, *taps - 1, new)?),
                    _ => None,
                };
                rows.write(b, call, *taps, new)?;
                Ok(match lent {
                    Some(lent) => View { rows: whole(b, lent), layout: Layout::Tail },
                    None if n > 1 => fresh,
                    None => rows.view(b).expect("just written"),
                })
            }
        }
    }

    /// The tensor that outlives a call, if there is one.
    fn kept(&self) -> Option<&T> {
        match self {
            History::Fresh(_) => None,
            History::Grown(rows) | History::Chunked { rows, .. } => rows.as_ref(),
            History::Fixed { rows, .. } | History::Onehot(rows) => Some(rows),
            History::Window { rows, .. } => rows.kept(),
        }
    }

    fn kept_mut(&mut self) -> Option<&mut T> {
        match self {
            History::Fresh(_) => None,
            History::Grown(rows) | History::Chunked { rows, .. } => rows.as_mut(),
            History::Fixed { rows, .. } | History::Onehot(rows) => Some(rows),
            History::Window { rows: Window::Grown(rows), .. } => rows.as_mut(),
            History::Window { rows: Window::Ring(rows) | Window::Queue(rows), .. } => Some(rows),
        }
    }

    /// The same kind of memory over another tensor: `change` makes it from the one kept.
    fn map(&self, change: impl FnOnce(&T) -> Result<T>) -> Result<History<T>> {
        Ok(match self {
            History::Fresh(layout) => History::Fresh(*layout),
            History::Grown(rows) => History::Grown(rows.as_ref().map(change).transpose()?),
            History::Chunked { rows, chunk } => {
                History::Chunked { rows: rows.as_ref().map(change).transpose()?, chunk: *chunk }
            }
            History::Fixed { rows, layout } => History::Fixed { rows: change(rows)?, layout: *layout },
            History::Onehot(rows) => History::Onehot(change(rows)?),
            History::Window { rows, taps, .. } => {
                let rows = match rows {
                    Window::Grown(rows) => Window::Grown(rows.as_ref().map(change).transpose()?),
                    Window::Ring(rows) => Window::Ring(change(rows)?),
                    Window::Queue(rows) => Window::Queue(change(rows)?),
                };
                History::Window { rows, taps: *taps, lent: None }
            }
        })
    }
}

impl<T> Window<T> {
    /// Makes the new rows the last of the window.
    fn write<B: Backend<Tensor = T>>(
        &mut self,
        b: &B,
        call: &Call<B::Input>,
        taps: usize,
        new: Columns<'_, T>,
    ) -> Result<()> {
        match self {
            Window::Grown(rows) => {
                let (n, len) = (call.rows(), rows.as_ref().map_or(0, |past| b.shape(past)[1]));
                let keep = len.min(taps.saturating_sub(n));
                let grown = b.concat(rows.as_ref().map(|past| (past, keep)), new, n.saturating_sub(taps))?;
                *rows = Some(grown);
                Ok(())
            }
            Window::Ring(rows) => b.write_ring(call, rows, new),
            Window::Queue(rows) => b.shift(rows, new),
        }
    }

    fn view<B: Backend<Tensor = T>>(&self, b: &B) -> Option<View<'_, T>> {
        let layout = match self {
            Window::Grown(_) | Window::Queue(_) => Layout::Tail,
            Window::Ring(_) => Layout::Ring,
        };
        self.kept().map(|rows| View { rows: whole(b, rows), layout })
    }

    fn kept(&self) -> Option<&T> {
        match self {
            Window::Grown(rows) => rows.as_ref(),
            Window::Ring(rows) | Window::Queue(rows) => Some(rows),
        }
    }
}

fn whole<'a, B: Backend>(b: &B, tensor: &'a B::Tensor) -> Columns<'a, B::Tensor> {
    let [_, _, width] = b.shape(tensor);
    Columns { tensor, from: 0, width }
}

/// One memory per call node, in call order, and how many positions they hold.
pub struct Cache<B: Backend> {
    strategy: Strategy,
    histories: Vec<History<B::Tensor>>,
    call: Call<B::Input>,
    batch: usize,
    capacity: usize,
    len: usize,
}

impl<B: Backend> Cache<B> {
    /// An empty cache. What has a fixed shape is allocated here, not at the first step.
    pub fn new(b: &B, strategy: Strategy, slots: &[Slot], batch: usize, capacity: usize) -> Result<Self> {
        let new = |&slot: &Slot| History::new(b, strategy, slot, batch, capacity);
        let histories = slots.iter().map(new).collect::<Result<_>>()?;
        let longest = if strategy.remembers() { 1 } else { capacity };
        let call = Call {
            tokens: Vec::with_capacity(batch * longest),
            batch,
            at: 0,
            last: 0,
            input: B::Input::default(),
        };
        Ok(Cache { strategy, histories, call, batch, capacity, len: 0 })
    }

    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    pub fn batch(&self) -> usize {
        self.batch
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stages the next call: `rows` more rows of each batch entry, whose ids `token(entry, row)`
    /// gives, the logits wanted of row `last`.
    ///
    /// # Errors
    /// When the rows do not fit in the capacity. Nothing has been written then.
    pub(crate) fn stage(
        &mut self,
        b: &B,
        rows: usize,
        last: usize,
        token: impl Fn(usize, usize) -> u32,
    ) -> Result<()> {
        if self.len + rows > self.capacity {
            return Err(Error::CacheFull { capacity: self.capacity, wanted: self.len + rows });
        }
        let Call { tokens, at, .. } = &mut self.call;
        tokens.clear();
        tokens.extend(
            (0..self.batch)
                .flat_map(|entry| (0..rows).map(move |row| (entry, row)))
                .map(|(e, r)| token(e, r)),
        );
        *at = self.len;
        self.call.last = last;
        b.stage(&mut self.call)
    }

    /// The staged call where the backend's kernels read it, for [`Backend::step`].
    pub(crate) fn input(&self) -> B::Input {
        self.call.input.clone()
    }

    /// [`Strategy::step_shape`] of the next step.
    pub(crate) fn step_shape(&self) -> Option<usize> {
        self.strategy.step_shape(self.len + 1, self.capacity)
    }

    /// What a model's body works with: the staged call and one memory per call node, in order.
    pub fn parts(&mut self) -> (&Call<B::Input>, Memories<'_, B>) {
        (&self.call, Memories(self.histories.iter_mut()))
    }

    /// The rows of the staged call are remembered from now on.
    pub(crate) fn advance(&mut self) {
        if self.strategy.remembers() {
            self.len += self.call.rows();
        }
    }

    /// Entry i continues what entry `order[i]` held: beams moved, so must their past.
    pub fn reorder(&mut self, b: &B, order: &[usize]) -> Result<()> {
        for history in &mut self.histories {
            *history = history.map(|rows| b.gather_batch(rows, order))?;
        }
        self.batch = order.len();
        self.call.batch = order.len();
        self.call.input = B::Input::default(); // what was recorded of steps names the old rows
        Ok(())
    }

    /// An independent copy.
    pub fn fork(&self, b: &B) -> Result<Cache<B>> {
        let histories =
            self.histories.iter().map(|h| h.map(|rows| b.duplicate(rows))).collect::<Result<_>>()?;
        let call = Call {
            tokens: Vec::with_capacity(self.call.tokens.capacity()),
            batch: self.batch,
            at: 0,
            last: 0,
            input: B::Input::default(),
        };
        Ok(Cache { histories, call, ..*self })
    }

    /// Becomes an independent copy of `other`, in the buffers it has where they are of the same shapes:
    /// what was recorded of its steps then stays valid.
    pub fn restore(&mut self, b: &B, other: &Cache<B>) -> Result<()> {
        let shapes = |cache: &Cache<B>| cache.kept().map(|rows| b.shape(rows)).collect::<Vec<_>>();
        if shapes(self) != shapes(other) {
            *self = other.fork(b)?;
            return Ok(());
        }
        for (mine, theirs) in self.histories.iter_mut().zip(&other.histories) {
            if let (Some(rows), Some(by)) = (mine.kept_mut(), theirs.kept()) {
                b.overwrite(rows, by)?;
            }
        }
        self.len = other.len;
        Ok(())
    }

    /// Bytes of the rows kept, padding included.
    pub fn allocated_bytes(&self, b: &B) -> usize {
        self.kept().map(|rows| crate::backend::bytes(b.shape(rows))).sum()
    }

    /// Bytes of the rows that hold a position.
    pub fn live_bytes(&self, b: &B) -> usize {
        let live = |rows: &B::Tensor| {
            let [batch, rows, width] = b.shape(rows);
            crate::backend::bytes([batch, rows.min(self.len), width])
        };
        self.kept().map(live).sum()
    }

    fn kept(&self) -> impl Iterator<Item = &B::Tensor> {
        self.histories.iter().filter_map(History::kept)
    }
}

/// The memories of a cache, handed out in call order.
pub struct Memories<'a, B: Backend>(std::slice::IterMut<'a, History<B::Tensor>>);

impl<'a, B: Backend> Memories<'a, B> {
    /// The memory of the next call node.
    ///
    /// # Panics
    /// When a model asks for more than its slots.
    pub fn next_node(&mut self) -> Memory<'a, B> {
        Memory(self.0.next().expect("a model has one slot for each call node"))
    }
}

/// What one call node remembers, as its layer sees it.
pub struct Memory<'a, B: Backend>(&'a mut History<B::Tensor>);

impl<'a, B: Backend> Memory<'a, B> {
    /// Remembers the new rows and returns those the layer may read.
    pub fn append(
        self,
        b: &B,
        call: &Call<B::Input>,
        new: Columns<'a, B::Tensor>,
    ) -> Result<View<'a, B::Tensor>> {
        self.0.append(b, call, new)
    }
}

#[cfg(test)]
impl Cache<crate::backend::cpu::Cpu> {
    /// Fills all rows kept with a number that must not matter.
    pub(crate) fn poison(&mut self, number: f32) {
        for history in &mut self.histories {
            match history {
                History::Fixed { rows, .. } | History::Window { rows: Window::Ring(rows), .. } => {
                    rows.as_mut_slice().fill(number)
                }
                // these read what creation promised to be zero, or keep no row unwritten
                History::Onehot(_)
                | History::Window { rows: Window::Grown(_) | Window::Queue(_), .. }
                | History::Fresh(_)
                | History::Grown(_)
                | History::Chunked { .. } => {}
            }
        }
    }
}
