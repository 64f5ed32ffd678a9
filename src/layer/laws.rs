//! What every caching layer owes, checked on a layer of one's own, on any backend:
//!
//! * **caching**: whatever the pieces a sequence is fed in, the rows that come out are those of a forward pass;
//! * **reordering**: after [`Cache::reorder`], stepping equals recomputing the permuted sequences;
//! * **forking**: a copy of a cache and its original go their own ways;
//! * **causality**: a row does not depend on later ones;
//! * **padding**: a sequence that begins late in its batch gives what it gives alone.
//!
//! [`hold`] asserts all of them under every strategy that has a form for what the layer remembers.

use std::ops::Range;

use crate::backend::Backend;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::strategy::Strategy;

/// Rows of a sequence: more than two windows, and than three chunks of three.
const LENGTH: usize = 12;
/// The pieces that sequences are fed in.
const PIECES: [&[usize]; 4] = [&[12], &[1; 12], &[5, 1, 1, 3, 2], &[1, 6, 5]];
/// Where the sequences of a ragged batch begin.
const STARTS: [usize; 3] = [0, 5, 2];
/// Of the largest number: sums of f32 in another order, through a few layers.
const TOLERANCE: f32 = 2e-5;

/// The strategies that have a form for all that a layer remembers; `chunked` with several chunks.
pub fn strategies<B: Backend>(layer: &(impl Layer<B> + ?Sized)) -> Vec<Strategy> {
    let slots = layer.slots();
    let all = Strategy::examples().iter().copied().chain([1, 3].map(Strategy::Chunked));
    let all = all.filter(|&strategy| strategy != Strategy::Reprojected); // of sources, which a layer has not
    all.filter(|&strategy| slots.iter().all(|slot| slot.fits(strategy))).collect()
}

/// That a layer over rows of `width` numbers obeys all laws.
///
/// # Errors
/// [`Error::Differs`] with the law, the strategy and the worst number, when one does not hold; or the
/// layer's own.
pub fn hold<B: Backend>(b: &B, layer: &(impl Layer<B> + ?Sized), width: usize) -> Result<()> {
    let checked = Checked { b, layer, width };
    checked.causality()?;
    for strategy in strategies(layer).into_iter().filter(|strategy| strategy.remembers()) {
        for batch in [1, 3] {
            for pieces in PIECES {
                checked.caching(strategy, batch, pieces)?;
            }
        }
        for order in [&[2, 0, 0][..], &[1], &[0, 1, 2, 2, 1]] {
            checked.reordering(strategy, order)?;
        }
        checked.forking(strategy)?;
        checked.padding(strategy)?;
    }
    Ok(())
}

struct Checked<'a, B, L: ?Sized> {
    b: &'a B,
    layer: &'a L,
    width: usize,
}

/// `[LENGTH, width]` of each sequence.
type Sequences = Vec<Vec<f32>>;

impl<B: Backend, L: Layer<B> + ?Sized> Checked<'_, B, L> {
    /// Numbers between -1 and 1 that look like nothing in particular.
    fn sequences(&self, batch: usize, salt: usize) -> Sequences {
        let number = |i: usize| ((i * 7919 + i * i * 31 + salt * 104_729) % 2003) as f32 / 1001.5 - 1.0;
        let rows = LENGTH * self.width;
        (0..batch).map(|entry| (0..rows).map(|i| number(entry * rows + i)).collect()).collect()
    }

    fn upload(&self, sequences: &[Vec<f32>], rows: Range<usize>) -> Result<B::Tensor> {
        let numbers = rows.start * self.width..rows.end * self.width;
        let data: Vec<f32> = sequences.iter().flat_map(|s| s[numbers.clone()].iter().copied()).collect();
        self.b.upload([sequences.len(), rows.len(), self.width], &data)
    }

    /// The rows that come out, sequence by sequence, and their width.
    fn download(&self, y: &B::Tensor, rows: usize) -> Result<(Sequences, usize)> {
        let [_, _, width] = self.b.shape(y);
        Ok((self.b.download(y)?.chunks(rows * width).map(<[f32]>::to_vec).collect(), width))
    }

    fn forward(&self, sequences: &[Vec<f32>], rows: Range<usize>) -> Result<(Sequences, usize)> {
        let count = rows.len();
        self.download(&self.layer.forward(self.b, &self.upload(sequences, rows)?)?, count)
    }

    /// Feeds rows of all sequences, and holds what comes out against the same rows of a forward pass.
    fn agrees(
        &self,
        cache: &mut Cache<B>,
        sequences: &[Vec<f32>],
        rows: Range<usize>,
        law: &str,
        how: &str,
    ) -> Result<()> {
        let y = self.layer.extend(self.b, cache, &self.upload(sequences, rows.clone())?)?;
        let (got, width) = self.download(&y, rows.len())?;
        let (want, _) = self.forward(sequences, 0..rows.end)?;
        for (entry, (got, want)) in got.iter().zip(&want).enumerate() {
            same(
                got,
                &want[rows.start * width..],
                width,
                rows.start,
                law,
                &format!("{how}, sequence {entry}"),
            )?;
        }
        Ok(())
    }

    fn caching(&self, strategy: Strategy, batch: usize, pieces: &[usize]) -> Result<()> {
        let sequences = self.sequences(batch, 1);
        let mut cache = self.layer.cache(self.b, strategy, batch, LENGTH)?;
        let how = format!("{strategy}, pieces of {pieces:?}");
        pieces.iter().try_fold(0, |at, piece| {
            self.agrees(&mut cache, &sequences, at..at + piece, "caching", &how)?;
            Ok(at + piece)
        })?;
        Ok(())
    }

    fn reordering(&self, strategy: Strategy, order: &[usize]) -> Result<()> {
        let sequences = self.sequences(3, 2);
        let mut cache = self.layer.cache(self.b, strategy, 3, LENGTH)?;
        self.layer.extend(self.b, &mut cache, &self.upload(&sequences, 0..6)?)?;
        self.layer.extend(self.b, &mut cache, &self.upload(&sequences, 6..7)?)?;
        cache.reorder(self.b, order)?;
        let moved: Sequences = order.iter().map(|&entry| sequences[entry].clone()).collect();
        let how = format!("{strategy}, order {order:?}");
        (7..10).try_for_each(|at| self.agrees(&mut cache, &moved, at..at + 1, "reordering", &how))
    }

    fn forking(&self, strategy: Strategy) -> Result<()> {
        let (sequences, mut others) = (self.sequences(2, 3), self.sequences(2, 4));
        for (sequence, other) in sequences.iter().zip(&mut others) {
            let shared = 5 * self.width;
            other[..shared].copy_from_slice(&sequence[..shared]);
        }
        let mut prefilled = self.layer.cache(self.b, strategy, 2, LENGTH)?;
        self.agrees(&mut prefilled, &sequences, 0..5, "forking", "before it")?;
        let mut fork = prefilled.fork(self.b)?;
        for at in 5..8 {
            self.agrees(&mut fork, &others, at..at + 1, "forking", &format!("{strategy}, the copy"))?;
            self.agrees(
                &mut prefilled,
                &sequences,
                at..at + 1,
                "forking",
                &format!("{strategy}, the original"),
            )?;
        }
        Ok(())
    }

    fn causality(&self) -> Result<()> {
        let (sequences, mut others) = (self.sequences(1, 5), self.sequences(1, 6));
        let seen = LENGTH / 2;
        others[0][..seen * self.width].copy_from_slice(&sequences[0][..seen * self.width]);
        let (got, width) = self.forward(&others, 0..LENGTH)?;
        let (want, _) = self.forward(&sequences, 0..LENGTH)?;
        let rows = ..seen * width;
        same(&got[0][rows], &want[0][rows], width, 0, "causality", "with other rows behind")
    }

    fn padding(&self, strategy: Strategy) -> Result<()> {
        let sequences = self.sequences(STARTS.len(), 7);
        let mut cache = self.layer.cache(self.b, strategy, STARTS.len(), LENGTH)?;
        cache.set_left_padding(&STARTS)?;
        let mut at = 0;
        for piece in [7, 1, 1, 2] {
            let x = self.upload(&sequences, at..at + piece)?;
            let (got, width) = self.download(&self.layer.extend(self.b, &mut cache, &x)?, piece)?;
            for (entry, &start) in STARTS.iter().enumerate() {
                let first = at.max(start);
                let (alone, _) = self.forward(&sequences[entry..entry + 1], start..at + piece)?;
                let how = format!("{strategy}, sequence {entry} begins at row {start}");
                let (got, want) = (&got[entry][(first - at) * width..], &alone[0][(first - start) * width..]);
                same(got, want, width, first, "padding", &how)?;
            }
            at += piece;
        }
        Ok(())
    }
}

/// Rows from `first` on, of `width` numbers.
fn same(got: &[f32], want: &[f32], width: usize, first: usize, law: &str, how: &str) -> Result<()> {
    let largest = want.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    let off = |(got, want): (&f32, &f32)| if got.is_nan() { f32::INFINITY } else { (got - want).abs() };
    let worst = got.iter().zip(want).map(off).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    match worst {
        _ if got.len() != want.len() => Err(Error::Differs(format!(
            "the law of {law} does not hold ({how}): {} numbers came out, and should be {}",
            got.len(),
            want.len()
        ))),
        Some((place, size)) if size > TOLERANCE * largest => Err(Error::Differs(format!(
            "the law of {law} does not hold ({how}): number {} of row {} is {} and should be {}",
            place % width,
            first + place / width,
            got[place],
            want[place]
        ))),
        _ => Ok(()),
    }
}
