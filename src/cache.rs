//! The cache: the state that layers keep from one step to the next, under each [`Strategy`].
//!
//! A strategy is a way to keep state, not a kind of model. A layer calls [`LayerContext::append`] and gets back a
//! [`View`] of the rows it may read; it never names a strategy. So every strategy runs the same kernels, on rows
//! kept differently, and any difference between two strategies comes from the cache.
//!
//! One mask rule for all: row r is visible to new row i when r <= at + i.

use std::rc::Rc;

use crate::backend::cpu::room;
use crate::backend::{whole, Backend, Call, Columns, Format, Layout, View};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::strategy::{CacheConfig, Slot, Strategy};

/// The state of one layer call. Every `match` on it is complete, so that a new kind that is not reordered or counted
/// does not compile.
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
        unrolled: Option<T>,
    },
    State(T),
}

/// The last K rows, three ways. In the enclosing [`History::Window`], `unrolled` holds what the layer
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
        format: Format,
        [batch, capacity]: [usize; 2],
    ) -> Result<Self> {
        if !slot.fits(strategy) {
            return Err(Error::Input(format!("strategy `{strategy}` has no form for {slot}")));
        }
        let zeros = |rows, width| b.zeros_as([batch, rows, width], format);
        let fixed = |layout, width| Ok(History::Fixed { rows: zeros(capacity, width)?, layout });
        let (width, taps) = match slot {
            Slot::Rows { width, .. } => (width, None),
            Slot::Sliding { width, .. } if strategy.keeps_every_row() => (width, None),
            Slot::Sliding { width, rows, .. } | Slot::Window { width, rows, .. } => {
                (width, Some(rows.min(capacity)))
            }
            Slot::State { rows, width } if strategy.remembers() => {
                return Ok(History::State(zeros(rows, width)?));
            }
            Slot::State { .. } => return Ok(History::Fresh(Layout::Tail)),
        };
        let window = |rows, taps| Ok(History::Window { rows, taps, unrolled: None });
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

    /// Keeps the new rows and returns the rows that the layer reads.
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
                        None => b.zeros_as([call.batch, wanted, new.width], b.format(new.tensor))?,
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
            History::Window { rows, taps, unrolled } => {
                *unrolled = match rows.view(b) {
                    Some(past) if n > 1 && call.at > 0 => Some(b.unroll(call, past, *taps - 1, new)?),
                    _ => None,
                };
                rows.write(b, call, *taps, new)?;
                Ok(match unrolled {
                    Some(unrolled) => View { rows: whole(b, unrolled), layout: Layout::Tail },
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
                History::Window { rows, taps: *taps, unrolled: None }
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

/// The encoder's output, which a decoder attends to besides its own rows: computed once for the source sentences.
pub struct EncoderOutput<B: Backend> {
    /// The call that it was made in, which says where each sentence begins. Its entries are sentences;
    /// each serves as many neighbouring entries of the decoder: the beams of one sentence share it.
    pub call: Call<B::Input>,
    /// Which of the sentences at the beginning each entry is.
    pub sentences: Vec<usize>,
    /// The encoder's output itself, where a strategy projects keys and values from it at every step.
    pub encoded: Vec<B::Tensor>,
    /// Cross-attention keys, then values, `[sentences, rows, width]`, of each cross-attention layer in call order.
    pub rows: Vec<B::Tensor>,
}

impl<B: Backend> EncoderOutput<B> {
    /// The same sentences in another order.
    fn gather(&self, b: &B, order: &[usize]) -> Result<EncoderOutput<B>> {
        let n = self.call.rows();
        let tokens = order.iter().flat_map(|&s| &self.call.tokens[s * n..(s + 1) * n]).copied().collect();
        let mut call = Call::new(tokens, order.len(), self.call.at);
        call.left_padding = order.iter().map(|&s| self.call.left_padding[s]).collect();
        b.stage(&mut call)?;
        let gather = |rows: &[B::Tensor]| -> Result<Vec<B::Tensor>> {
            rows.iter().map(|rows| b.gather_batch(rows, order)).collect()
        };
        let sentences = order.iter().map(|&s| self.sentences[s]).collect();
        Ok(EncoderOutput { call, sentences, encoded: gather(&self.encoded)?, rows: gather(&self.rows)? })
    }

    /// Bytes kept.
    pub fn bytes(&self, b: &B) -> usize {
        self.encoded.iter().chain(&self.rows).map(|rows| b.bytes(rows)).sum()
    }
}

/// The state of one layer call, and how its rows are kept.
struct State<T> {
    history: History<T>,
    format: Format,
    /// The call's new rows in that format, where it is not f32: what is kept of them is what is read.
    new: Option<T>,
}

impl<T> State<T> {
    fn new<B: Backend<Tensor = T>>(
        b: &B,
        CacheConfig { strategy, dtype }: CacheConfig,
        slot: Slot,
        sizes: [usize; 2],
    ) -> Result<Self> {
        let format = match slot {
            Slot::Rows { heads, .. } | Slot::Sliding { heads, .. } | Slot::Window { heads, .. } => {
                Format { dtype, heads }
            }
            Slot::State { .. } => Format::F32,
        };
        Ok(State { history: History::new(b, strategy, slot, format, sizes)?, format, new: None })
    }

    fn append<'a, B: Backend<Tensor = T>>(
        &'a mut self,
        b: &B,
        call: &Call<B::Input>,
        new: Columns<'a, T>,
    ) -> Result<View<'a, T>> {
        if self.format.dtype == Dtype::F32 {
            return self.history.append(b, call, new);
        }
        self.new = None; // gives its scratch back first
        self.new = Some(b.cast(new, self.format)?);
        self.history.append(b, call, whole(b, self.new.as_ref().expect("made above")))
    }

    /// The same kind of memory over another tensor: see [`History::map`].
    fn map(&self, change: impl FnOnce(&T) -> Result<T>) -> Result<State<T>> {
        Ok(State { history: self.history.map(change)?, format: self.format, new: None })
    }
}

/// The state of each layer call, in call order, and the number of positions held.
pub struct Cache<B: Backend> {
    config: CacheConfig,
    states: Vec<State<B::Tensor>>,
    encoder_output: Option<Rc<EncoderOutput<B>>>,
    call: Call<B::Input>,
    batch: usize,
    capacity: usize,
    len: usize,
}

impl<B: Backend> Cache<B> {
    /// An empty cache. What has a fixed shape is allocated here, not at the first step.
    ///
    /// # Errors
    /// When the strategy has no form for a slot or its numbers, or the backend no room or no such numbers.
    pub fn new(
        b: &B,
        config: impl Into<CacheConfig>,
        slots: &[Slot],
        batch: usize,
        capacity: usize,
    ) -> Result<Self> {
        let config = config.into();
        config.check(slots)?;
        let new = |&slot: &Slot| State::new(b, config, slot, [batch, capacity]);
        let states = slots.iter().map(new).collect::<Result<_>>()?;
        let longest = if config.strategy.remembers() { 1 } else { capacity };
        let call = Call::new(room(batch * longest)?, batch, 0);
        Ok(Cache { config, states, encoder_output: None, call, batch, capacity, len: 0 })
    }

    /// Sets the encoder's output for cross-attention.
    ///
    /// # Panics
    /// When the batch is no multiple of its sentences.
    pub(crate) fn set_encoder_output(&mut self, source: Rc<EncoderOutput<B>>) {
        assert!(self.batch.is_multiple_of(source.call.batch), "each sentence serves as many entries");
        self.encoder_output = Some(source);
    }

    /// The encoder's output, where there is one.
    pub fn encoder_output(&self) -> Option<&Rc<EncoderOutput<B>>> {
        self.encoder_output.as_ref()
    }

    /// Says, before anything is held, how many rows of each entry are padding: sequences of several
    /// lengths then end together.
    ///
    /// # Errors
    /// When something is held already, or there is not one start for each entry.
    pub(crate) fn set_left_padding(&mut self, left_padding: &[usize]) -> Result<()> {
        if !self.is_empty() || left_padding.len() != self.batch {
            let (len, batch) = (self.len, self.batch);
            let given = left_padding.len();
            let what = format!(
                "left padding for {given} entries: the cache has {batch}, and holds {len} rows; it must be set first"
            );
            return Err(Error::Input(what));
        }
        self.call.left_padding.copy_from_slice(left_padding);
        Ok(())
    }

    /// That it keeps its rows by.
    pub fn strategy(&self) -> Strategy {
        self.config.strategy
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
        self.config.strategy.step_shape(self.len + 1, self.capacity)
    }

    /// The context of the staged call, for a model's layers.
    pub fn context<'a>(&'a mut self, b: &'a B) -> LayerContext<'a, B> {
        LayerContext {
            b,
            strategy: self.config.strategy,
            call: &self.call,
            states: self.states.iter_mut(),
            encoder_output: self.encoder_output.as_deref(),
        }
    }

    /// The rows of the staged call are remembered from now on.
    pub(crate) fn advance(&mut self) {
        if self.config.strategy.remembers() {
            self.len += self.call.rows();
        }
    }

    /// Entry i continues what entry `order[i]` held: beams moved, so must their past.
    pub fn reorder(&mut self, b: &B, order: &[usize]) -> Result<()> {
        for state in &mut self.states {
            *state = state.map(|rows| b.gather_batch(rows, order))?;
        }
        if let Some(source) = &self.encoder_output {
            let beams = self.batch / source.call.batch;
            let wanted = shared(&source.sentences, order.iter().map(|entry| entry / beams).collect());
            if wanted.iter().copied().ne(0..source.call.batch) {
                self.encoder_output = Some(Rc::new(source.gather(b, &wanted)?));
            }
        }
        self.batch = order.len();
        self.call.batch = order.len();
        self.call.left_padding = order.iter().map(|&entry| self.call.left_padding[entry]).collect();
        self.call.input = B::Input::default(); // what was recorded of steps names the old rows
        Ok(())
    }

    /// An independent copy.
    pub(crate) fn fork(&self, b: &B) -> Result<Cache<B>> {
        let states =
            self.states.iter().map(|state| state.map(|rows| b.duplicate(rows))).collect::<Result<_>>()?;
        let mut call = Call::new(room(self.call.tokens.capacity())?, self.batch, 0);
        call.left_padding.clone_from(&self.call.left_padding);
        Ok(Cache { states, encoder_output: self.encoder_output.clone(), call, ..*self })
    }

    /// Becomes an independent copy of `other`, in the buffers it has where they are of the same shapes:
    /// what was recorded of its steps then stays valid.
    pub fn restore(&mut self, b: &B, other: &Cache<B>) -> Result<()> {
        let shapes =
            |cache: &Cache<B>| cache.kept().map(|rows| (b.shape(rows), b.format(rows))).collect::<Vec<_>>();
        if shapes(self) != shapes(other) {
            *self = other.fork(b)?;
            return Ok(());
        }
        for (mine, theirs) in self.states.iter_mut().zip(&other.states) {
            if let (Some(rows), Some(by)) = (mine.history.kept_mut(), theirs.history.kept()) {
                b.overwrite(rows, by)?;
            }
        }
        self.call.left_padding.clone_from(&other.call.left_padding);
        let of_source = |cache: &Cache<B>| cache.encoder_output.as_ref().map(Rc::as_ptr);
        if of_source(self) != of_source(other) {
            self.call.input = B::Input::default(); // what was recorded of steps reads the other source
            self.encoder_output.clone_from(&other.encoder_output);
        }
        self.len = other.len;
        Ok(())
    }

    /// Bytes of the rows kept, padding and what is kept of a source included.
    pub fn allocated_bytes(&self, b: &B) -> usize {
        let source = self.encoder_output.as_ref().map_or(0, |source| source.bytes(b));
        self.kept().map(|rows| b.bytes(rows)).sum::<usize>() + source
    }

    /// Bytes of the rows that hold a position, of the past or of a source.
    pub(crate) fn live_bytes(&self, b: &B) -> usize {
        let live = |history: &History<B::Tensor>| {
            let kept = history.kept()?;
            let [batch, rows, width] = b.shape(kept);
            let whole = matches!(history, History::State(_));
            let live = if whole { rows } else { rows.min(self.len) };
            Some(b.format(kept).bytes([batch, live, width]))
        };
        let source = self.encoder_output.as_ref().map_or(0, |source| source.bytes(b));
        self.histories().filter_map(live).sum::<usize>() + source
    }

    fn kept(&self) -> impl Iterator<Item = &B::Tensor> {
        self.histories().filter_map(History::kept)
    }

    fn histories(&self) -> impl Iterator<Item = &History<B::Tensor>> {
        self.states.iter().map(|state| &state.history)
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

/// What a layer works with in one call: the backend, the staged call, and the layer's state, handed out in call
/// order. A layer that a model calls twice has two states.
pub struct LayerContext<'a, B: Backend> {
    b: &'a B,
    strategy: Strategy,
    call: &'a Call<B::Input>,
    states: std::slice::IterMut<'a, State<B::Tensor>>,
    encoder_output: Option<&'a EncoderOutput<B>>,
}

impl<'a, B: Backend> LayerContext<'a, B> {
    /// Of layers without state, such as an encoder's: this call has all rows.
    pub fn none(b: &'a B, call: &'a Call<B::Input>) -> LayerContext<'a, B> {
        let states = std::slice::IterMut::default();
        LayerContext { b, strategy: Strategy::Naive, call, states, encoder_output: None }
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

    /// The encoder's output, where there is one.
    pub fn encoder_output(&self) -> Option<&'a EncoderOutput<B>> {
        self.encoder_output
    }

    /// Keeps the new rows in the layer's state, and returns the rows that the layer may read.
    ///
    /// # Panics
    /// When a layer asks for more states than it has slots.
    pub fn append<'x>(&mut self, new: Columns<'x, B::Tensor>) -> Result<View<'x, B::Tensor>>
    where
        'a: 'x,
    {
        self.next_node().append(self.b, self.call, new)
    }

    /// The state of a recurrent layer, to be changed; `None` under a strategy without a cache.
    ///
    /// # Panics
    /// As [`Self::append`].
    pub fn state(&mut self) -> Option<&'a mut B::Tensor> {
        match &mut self.next_node().history {
            History::State(state) => Some(state),
            _ => None,
        }
    }

    fn next_node(&mut self) -> &'a mut State<B::Tensor> {
        self.states.next().expect("a layer has one slot for each state that it asks for")
    }
}

#[cfg(test)]
impl Cache<crate::backend::cpu::Cpu> {
    /// Fills all rows kept with a number that must not matter.
    pub(crate) fn poison(&mut self, number: f32) {
        for state in &mut self.states {
            match &mut state.history {
                History::Fixed { rows, .. } | History::Window { rows: Window::Ring(rows), .. } => {
                    rows.poison(number)
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
