//! The subject of the project: what a decoder remembers from one step to the next.
//!
//! A [`Strategy`] is a kind of memory, not a kind of model. A layer says [`Past::append`] and gets
//! back a [`View`] of the rows it may read; it never names a strategy. So every strategy runs the
//! same kernels, on rows kept differently, and whatever differs between two of them is the memory.
//!
//! One mask rule for all: row r is visible to new row i when r <= at + i.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use crate::backend::{whole, Backend, Call, Columns, Layout, View};
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
    /// Padded, but what a decoder looks up in its source is projected anew at every step, not kept.
    Reprojected,
}

impl Strategy {
    /// One of each; `chunked` takes any chunk, 64 stands for all.
    pub fn examples() -> &'static [Strategy] {
        use Strategy::*;
        &[Naive, NaivePadded, Concat, Padded, Chunked(64), Bounded, Onehot, Shift, Reprojected]
    }

    /// Whether the model has a memory of this kind, and a source if that is what it is about.
    pub fn applies_to(self, model: ModelKind) -> bool {
        model.slot().fits(self) && (self != Strategy::Reprojected || model.projects_a_source())
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
            | Strategy::Shift
            | Strategy::Reprojected => Some(capacity),
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
            | Strategy::Shift
            | Strategy::Reprojected => None,
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
            Strategy::Reprojected => "reprojected",
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
pub enum Slot {
    /// Every row, of so many numbers.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Rows { width: usize },
    /// The latest rows, the newest included: what a convolution of so many taps reads.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Window { width: usize, rows: usize },
    /// One matrix of a fixed size, whatever the length: a recurrent layer's.
    #[allow(missing_docs, reason = "the fields are explained above")]
    State { rows: usize, width: usize },
}

impl Slot {
    /// Whether a strategy has a form for it: a window of a few rows has no use for chunks or bounds, an
    /// unbounded past cannot be shifted through a queue, and a state is kept in one way only.
    pub fn fits(self, strategy: Strategy) -> bool {
        match strategy {
            Strategy::Naive
            | Strategy::NaivePadded
            | Strategy::Concat
            | Strategy::Padded
            | Strategy::Reprojected => true,
            Strategy::Chunked(_) | Strategy::Bounded | Strategy::Onehot => matches!(self, Slot::Rows { .. }),
            Strategy::Shift => matches!(self, Slot::Window { .. }),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Slot::Rows { .. } => "an unbounded past",
            Slot::Window { .. } => "a window of a few rows",
            Slot::State { .. } => "a state of fixed size",
        })
    }
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
    State(T),
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
        if !slot.fits(strategy) {
            return Err(Error::Input(format!("strategy `{strategy}` has no form for {slot}")));
        }
        let zeros = |rows, width| b.zeros([batch, rows, width]);
        let fixed = |layout, width| Ok(History::Fixed { rows: zeros(capacity, width)?, layout });
        let (width, taps) = match slot {
            Slot::Rows { width } => (width, None),
            Slot::Window { width, rows } => (width, Some(rows)),
            Slot::State { rows, width } if strategy.remembers() => {
                return Ok(History::State(zeros(rows, width)?));
            }
            Slot::State { .. } => return Ok(History::Fresh(Layout::Tail)),
        };
        let window = |rows, taps| Ok(History::Window { rows, taps, lent: None });
        match (strategy, taps) {
            (Strategy::Naive, _) | (Strategy::NaivePadded, Some(_)) => Ok(History::Fresh(Layout::Tail)),
            (Strategy::NaivePadded, None) => Ok(History::Fresh(Layout::Masked)),
            (Strategy::Concat, None) => Ok(History::Grown(None)),
            (Strategy::Concat, Some(taps)) => window(Window::Grown(None), taps),
            (Strategy::Shift, taps) => {
                let taps = taps.expect("fits windows alone");
                window(Window::Queue(zeros(taps, width)?), taps)
            }
            (Strategy::Padded | Strategy::Reprojected, Some(taps)) => {
                window(Window::Ring(zeros(taps, width)?), taps)
            }
            (Strategy::Padded | Strategy::Reprojected, None) => fixed(Layout::Masked, width),
            (Strategy::Bounded, _) => fixed(Layout::Bounded, width),
            (Strategy::Onehot, _) => Ok(History::Onehot(zeros(capacity, width)?)),
            (Strategy::Chunked(chunk), _) => Ok(History::Chunked { rows: None, chunk }),
        }
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
            History::State(_) => unreachable!("a layer that asked for a state appends no rows"),
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
            History::Fixed { rows, .. } | History::Onehot(rows) | History::State(rows) => Some(rows),
            History::Window { rows, .. } => rows.kept(),
        }
    }

    fn kept_mut(&mut self) -> Option<&mut T> {
        match self {
            History::Fresh(_) => None,
            History::Grown(rows) | History::Chunked { rows, .. } => rows.as_mut(),
            History::Fixed { rows, .. } | History::Onehot(rows) | History::State(rows) => Some(rows),
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
            History::State(rows) => History::State(change(rows)?),
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

/// What a decoder looks at besides its own past: made once of the sentences to translate.
pub struct Source<B: Backend> {
    /// The call that it was made in, which says where each sentence begins. Its entries are sentences;
    /// each serves as many neighbouring entries of the decoder: the beams of one sentence share it.
    pub call: Call<B::Input>,
    /// Which of the sentences at the beginning each entry is.
    pub sentences: Vec<usize>,
    /// The encoder's result, kept where something is to be projected from it again.
    pub encoded: Vec<B::Tensor>,
    /// What each look at the source reads, in call order: keys and then values.
    pub rows: Vec<B::Tensor>,
}

impl<B: Backend> Source<B> {
    /// The same sentences in another order.
    fn gather(&self, b: &B, order: &[usize]) -> Result<Source<B>> {
        let n = self.call.rows();
        let tokens = order.iter().flat_map(|&s| &self.call.tokens[s * n..(s + 1) * n]).copied().collect();
        let mut call = Call::new(tokens, order.len(), self.call.at);
        call.starts = order.iter().map(|&s| self.call.starts[s]).collect();
        b.stage(&mut call)?;
        let gather = |rows: &[B::Tensor]| -> Result<Vec<B::Tensor>> {
            rows.iter().map(|rows| b.gather_batch(rows, order)).collect()
        };
        let sentences = order.iter().map(|&s| self.sentences[s]).collect();
        Ok(Source { call, sentences, encoded: gather(&self.encoded)?, rows: gather(&self.rows)? })
    }

    /// Bytes kept.
    pub fn bytes(&self, b: &B) -> usize {
        self.encoded.iter().chain(&self.rows).map(|rows| crate::backend::bytes(b.shape(rows))).sum()
    }
}

/// One memory per call node, in call order, and how many positions they hold.
pub struct Cache<B: Backend> {
    strategy: Strategy,
    histories: Vec<History<B::Tensor>>,
    source: Option<Rc<Source<B>>>,
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
        let call = Call::new(Vec::with_capacity(batch * longest), batch, 0);
        Ok(Cache { strategy, histories, source: None, call, batch, capacity, len: 0 })
    }

    /// What the decoder is to look at besides its past.
    ///
    /// # Panics
    /// When the batch is no multiple of its sentences.
    pub fn look_at(&mut self, source: Rc<Source<B>>) {
        assert!(self.batch.is_multiple_of(source.call.batch), "each sentence serves as many entries");
        self.source = Some(source);
    }

    /// What the decoder looks at, where it has a source.
    pub fn source(&self) -> Option<&Rc<Source<B>>> {
        self.source.as_ref()
    }

    /// Says, before anything is held, how many rows of each entry are padding: sequences of several
    /// lengths then end together.
    ///
    /// # Errors
    /// When something is held already, or there is not one start for each entry.
    pub fn begin_at(&mut self, starts: &[usize]) -> Result<()> {
        if !self.is_empty() || starts.len() != self.batch {
            let (len, batch) = (self.len, self.batch);
            let what =
                format!("{} starts for a cache of {batch} entries that holds {len} rows", starts.len());
            return Err(Error::Input(what));
        }
        self.call.starts.copy_from_slice(starts);
        Ok(())
    }

    /// That it keeps its rows by.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Entries, each a sentence or a beam of one.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The most positions it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no position.
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

    /// What was staged last.
    pub(crate) fn call(&self) -> &Call<B::Input> {
        &self.call
    }

    /// [`Strategy::step_shape`] of the next step.
    pub(crate) fn step_shape(&self) -> Option<usize> {
        self.strategy.step_shape(self.len + 1, self.capacity)
    }

    /// What a model's body works with.
    pub fn past<'a>(&'a mut self, b: &'a B) -> Past<'a, B> {
        Past {
            b,
            strategy: self.strategy,
            call: &self.call,
            memories: self.histories.iter_mut(),
            source: self.source.as_deref(),
        }
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
        if let Some(source) = &self.source {
            let beams = self.batch / source.call.batch;
            let wanted = shared(&source.sentences, order.iter().map(|entry| entry / beams).collect());
            if wanted.iter().copied().ne(0..source.call.batch) {
                self.source = Some(Rc::new(source.gather(b, &wanted)?));
            }
        }
        self.batch = order.len();
        self.call.batch = order.len();
        self.call.starts = order.iter().map(|&entry| self.call.starts[entry]).collect();
        self.call.input = B::Input::default(); // what was recorded of steps names the old rows
        Ok(())
    }

    /// An independent copy.
    pub fn fork(&self, b: &B) -> Result<Cache<B>> {
        let histories =
            self.histories.iter().map(|h| h.map(|rows| b.duplicate(rows))).collect::<Result<_>>()?;
        let mut call = Call::new(Vec::with_capacity(self.call.tokens.capacity()), self.batch, 0);
        call.starts.clone_from(&self.call.starts);
        Ok(Cache { histories, source: self.source.clone(), call, ..*self })
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
        self.call.starts.clone_from(&other.call.starts);
        let of_source = |cache: &Cache<B>| cache.source.as_ref().map(Rc::as_ptr);
        if of_source(self) != of_source(other) {
            self.call.input = B::Input::default(); // what was recorded of steps reads the other source
            self.source.clone_from(&other.source);
        }
        self.len = other.len;
        Ok(())
    }

    /// Bytes of the rows kept, padding and what is kept of a source included.
    pub fn allocated_bytes(&self, b: &B) -> usize {
        let source = self.source.as_ref().map_or(0, |source| source.bytes(b));
        self.kept().map(|rows| crate::backend::bytes(b.shape(rows))).sum::<usize>() + source
    }

    /// Bytes of the rows that hold a position, of the past or of a source.
    pub fn live_bytes(&self, b: &B) -> usize {
        let live = |history: &History<B::Tensor>| {
            let [batch, rows, width] = b.shape(history.kept()?);
            let whole = matches!(history, History::State(_));
            Some(crate::backend::bytes([batch, if whole { rows } else { rows.min(self.len) }, width]))
        };
        let source = self.source.as_ref().map_or(0, |source| source.bytes(b));
        self.histories.iter().filter_map(live).sum::<usize>() + source
    }

    fn kept(&self) -> impl Iterator<Item = &B::Tensor> {
        self.histories.iter().filter_map(History::kept)
    }
}

/// The entries of a source that a batch needs whose entries read these: one for all neighbours of one
/// sentence, where every sentence has as many of them; otherwise each its own.
fn shared(sentences: &[usize], read: Vec<usize>) -> Vec<usize> {
    let runs = read.chunk_by(|&a, &b| sentences[a] == sentences[b]);
    let mut lengths = runs.clone().map(<[usize]>::len);
    let first = lengths.next();
    if lengths.all(|length| Some(length) == first) {
        return runs.map(|run| run[0]).collect();
    }
    read
}

/// What a layer works with in one call: the machine, what was staged, and one memory for each call node,
/// handed out in call order. A layer called twice in a model is two call nodes.
pub struct Past<'a, B: Backend> {
    b: &'a B,
    strategy: Strategy,
    call: &'a Call<B::Input>,
    memories: std::slice::IterMut<'a, History<B::Tensor>>,
    source: Option<&'a Source<B>>,
}

impl<'a, B: Backend> Past<'a, B> {
    /// Of layers that remember nothing, an encoder's: all rows there are come in this call.
    pub fn none(b: &'a B, call: &'a Call<B::Input>) -> Past<'a, B> {
        let memories = std::slice::IterMut::default();
        Past { b, strategy: Strategy::Naive, call, memories, source: None }
    }

    /// That the layer is to compute on.
    pub fn backend(&self) -> &'a B {
        self.b
    }

    /// How many new rows there are, and where they stand.
    pub fn call(&self) -> &'a Call<B::Input> {
        self.call
    }

    /// That its rows are kept by.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// What there is to look at besides the past.
    pub fn source(&self) -> Option<&'a Source<B>> {
        self.source
    }

    /// Remembers the new rows in the memory of the next call node, and returns those the layer may read.
    ///
    /// # Panics
    /// When a layer asks for more memories than it has slots.
    pub fn append<'x>(&mut self, new: Columns<'x, B::Tensor>) -> Result<View<'x, B::Tensor>>
    where
        'a: 'x,
    {
        self.next_node().append(self.b, self.call, new)
    }

    /// The state of the next call node, to be changed; `None` where nothing is remembered.
    ///
    /// # Panics
    /// As [`Self::append`].
    pub fn state(&mut self) -> Option<&'a mut B::Tensor> {
        match self.next_node() {
            History::State(state) => Some(state),
            _ => None,
        }
    }

    fn next_node(&mut self) -> &'a mut History<B::Tensor> {
        self.memories.next().expect("a layer has one slot for each memory that it asks for")
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
                | History::State(_)
                | History::Window { rows: Window::Grown(_) | Window::Queue(_), .. }
                | History::Fresh(_)
                | History::Grown(_)
                | History::Chunked { .. } => {}
            }
        }
    }
}
