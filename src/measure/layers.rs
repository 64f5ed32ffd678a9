//! Steps of a layer by itself, under every strategy that has a form for what it remembers.

use std::time::Instant;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::layer::{laws, Layer};
use crate::strategy::Strategy;

/// How long the step to `position` takes, in nanoseconds, once a round under each strategy in turn:
/// one more row for a cache that holds all before it, or, for those that remember nothing, all rows. The
/// cache is a copy, made outside of the clock.
///
/// # Errors
/// No position, no rounds, or the layer's own.
pub fn time_steps<B: Backend>(
    b: &B,
    layer: &(impl Layer<B> + ?Sized),
    width: usize,
    position: usize,
    rounds: usize,
) -> Result<Vec<(Strategy, Vec<f64>)>> {
    if position == 0 || rounds == 0 {
        return Err(Error::Input(format!("position {position} and {rounds} rounds: both begin at 1")));
    }
    let rows = |count: usize| {
        let numbers: Vec<f32> =
            (0..count * width).map(|i| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0).collect();
        b.upload([1, count, width], &numbers)
    };
    let (all, one) = (rows(position)?, rows(1)?);
    let mut prefilled = Vec::new();
    for strategy in laws::strategies(layer).into_iter().filter(|&s| s != Strategy::NaivePadded) {
        let mut cache = layer.cache(b, strategy, 1, position)?;
        if strategy.remembers() && position > 1 {
            layer.extend(b, &mut cache, &rows(position - 1)?)?;
        }
        prefilled.push((strategy, cache, Vec::with_capacity(rounds)));
    }
    // the first round grows buffers and compiles kernels
    for round in 0..=rounds {
        for (strategy, cache, times) in &mut prefilled {
            let (mut cache, x) = (cache.fork(b)?, if strategy.remembers() { &one } else { &all });
            b.synchronize()?;
            let start = Instant::now();
            let y = layer.extend(b, &mut cache, x)?;
            b.synchronize()?;
            if round > 0 {
                times.push(start.elapsed().as_nanos() as f64);
            }
            drop(y);
        }
    }
    Ok(prefilled.into_iter().map(|(strategy, _, times)| (strategy, times)).collect())
}
