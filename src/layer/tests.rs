//! The laws, of every layer there is and of their compositions; and that the helper that checks them notices
//! when one does not hold.

use std::rc::Rc;

use super::laws;
use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::{whole, Activation, Columns, Convolution, Linear, Mask};

const WIDTH: usize = 12;

/// Numbers of about `1/√width`, so that what goes in comes out of the same size.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| ((i * 7907 + i * i * 13 + seed * 1009) % 1999) as f32 / 999.5 - 1.0;
    (0..count).map(|i| number(i) * 0.4).collect()
}

fn linear(b: &Cpu, inner: usize, out: usize, seed: usize) -> Linear<<Cpu as Backend>::Tensor> {
    Linear {
        norm: None,
        weight: b.upload([1, out, inner], &numbers(out * inner, seed)).unwrap(),
        bias: Some(b.upload([1, 1, out], &numbers(out, seed + 1)).unwrap()),
    }
}

fn attention(b: &Cpu, kv_heads: usize, window: Option<usize>) -> Attention<Cpu> {
    let (heads, size) = (4, 6);
    let qkv = linear(b, WIDTH, (heads + 2 * kv_heads) * size, 1);
    let out = linear(b, heads * size, WIDTH, 2);
    let mask = window.map_or(Mask::Causal, Mask::SlidingWindow);
    Attention { kv_heads, ..Attention::multi_head(qkv, out, heads, size, mask) }
}

fn rms(b: &Cpu) -> crate::backend::Norm<<Cpu as Backend>::Tensor> {
    crate::backend::Norm { gain: b.upload([1, 1, WIDTH], &numbers(WIDTH, 3)).unwrap(), bias: None, eps: 1e-5 }
}

fn holds(layer: impl Layer<Cpu>, what: &str) {
    laws::hold(&Cpu::new(1).unwrap(), &layer, WIDTH).unwrap_or_else(|e| panic!("{what}: {e}"));
}

#[test]
fn attention_obeys_the_laws() {
    let b = Cpu::new(1).unwrap();
    for kv_heads in [4, 2, 1] {
        for window in [None, Some(1), Some(3), Some(20)] {
            let what = format!("{kv_heads} heads of keys, window {window:?}");
            holds(attention(&b, kv_heads, window), &what);
            let cos_sin = Rc::new(b.upload([1, 12, 6], &position::rotary(100.0, 12, 6).unwrap()).unwrap());
            holds(
                Attention { cos_sin: Some(cos_sin), ..attention(&b, kv_heads, window) },
                &format!("{what}, rotary"),
            );
            let slopes = Rc::new(b.upload([1, 1, 4], &position::alibi(4)).unwrap());
            holds(
                Attention { slopes: Some(slopes), ..attention(&b, kv_heads, window) },
                &format!("{what}, alibi"),
            );
        }
    }
}

#[test]
fn layers_that_remember_little_or_nothing_obey_the_laws() {
    let b = Cpu::new(1).unwrap();
    let [up, down] = [linear(&b, WIDTH, 10, 4), linear(&b, 10, WIDTH, 5)];
    holds(Mlp { up, activation: Activation::Gelu, down }, "MLP");
    let (gate_up, down) = (linear(&b, WIDTH, 14, 6), linear(&b, 7, WIDTH, 7));
    holds(GatedMlp { gate_up, down }, "gated MLP");
    holds(Dense { linear: linear(&b, WIDTH, 5, 8), activation: Activation::Relu }, "dense");
    holds(rms(&b), "norm");
    for taps in [1, 2, 5] {
        let linear = linear(&b, taps * WIDTH, 2 * WIDTH, 9);
        let convolution = Convolution { linear, taps, ahead: 0, residual: taps == 2 };
        holds(LinearizedConvolution { convolution, channels: WIDTH }, &format!("{taps} taps"));
    }
    let (qkv, out) = (linear(&b, WIDTH, 3 * 12, 10), linear(&b, 12, WIDTH, 11));
    let decays = b.upload([1, 1, 3], &decays(3)).unwrap();
    holds(Retention { qkv, out, decays, heads: 3, size: 4 }, "retention");
}

/// One layer, called twice in a row and once beside itself: three call nodes with three memories.
#[test]
fn compositions_obey_the_laws() {
    let b = Cpu::new(1).unwrap();
    let shared = Rc::new(attention(&b, 2, None));
    let twice =
        Sequential::<Cpu>(vec![Box::new(rms(&b)), Box::new(shared.clone()), Box::new(shared.clone())]);
    assert_eq!(twice.slots().len(), 4);
    let beside = Parallel(vec![Box::new(Residual(twice)), Box::new(shared)]);
    assert_eq!(Layer::<Cpu>::slots(&beside).len(), 6);
    holds(Residual(beside), "in a row and beside");
}

/// All rows at once, the weights of the paper's parallel form: `(q·kᵀ ⊙ D)·v`, `D[i, j] = decay^(i-j)`.
#[test]
fn retention_is_its_parallel_form() {
    let b = Cpu::new(1).unwrap();
    let (rows, heads, size) = (7, 2, 3);
    let qkv: Vec<f32> = numbers(rows * 3 * heads * size, 12);
    let decays = [0.9f32, 0.5];
    let tensor = b.upload([1, rows, 3 * heads * size], &qkv).unwrap();
    let part = |part: usize| Columns { tensor: &tensor, from: part * heads * size, width: heads * size };
    let call = crate::backend::Call::new(vec![0; rows], 1, 0);
    let decays_there = b.upload([1, 1, heads], &decays).unwrap();
    let got = b.download(&b.retain(&call, [0, 1, 2].map(part), None, &decays_there).unwrap()).unwrap();
    let at = |part: usize, row: usize, c: usize| f64::from(qkv[(row * 3 + part) * heads * size + c]);
    for (i, c) in (0..rows).flat_map(|i| (0..heads * size).map(move |c| (i, c))) {
        let head = c / size;
        let weight = |j: usize| {
            let dot: f64 = (0..size).map(|d| at(0, i, head * size + d) * at(1, j, head * size + d)).sum();
            dot * f64::from(decays[head]).powi((i - j) as i32)
        };
        let want: f64 = (0..=i).map(|j| weight(j) * at(2, j, c)).sum();
        assert!((f64::from(got[i * heads * size + c]) - want).abs() < 1e-5, "row {i}, number {c}");
    }
}

/// What a layer may get wrong, each of which breaks a law.
enum Wrong {
    /// Looks at a row that is not there yet.
    Future,
    /// Asks for a window shorter than what it reads.
    Forgets,
    /// Adds the number of rows it was given at once.
    Counts,
}

impl Layer<Cpu> for Wrong {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::Window { width: WIDTH, heads: 1, rows: 2 }]
    }
    fn call(
        &self,
        context: &mut LayerContext<'_, Cpu>,
        x: &<Cpu as Backend>::Tensor,
    ) -> Result<<Cpu as Backend>::Tensor> {
        let (b, call) = (context.backend(), context.call());
        let rows = context.append(whole(b, x))?;
        match self {
            Wrong::Forgets => b.add(x, &b.lag(call, rows, 2)?, 1.0),
            Wrong::Counts => b.add(x, x, call.rows() as f32),
            Wrong::Future => {
                let backwards: Vec<f32> = b.download(x)?.chunks(WIDTH).rev().flatten().copied().collect();
                b.upload(b.shape(x), &backwards)
            }
        }
    }
}

#[test]
fn laws_that_do_not_hold_are_named() {
    let b = Cpu::new(1).unwrap();
    for (layer, law) in
        [(Wrong::Future, "causality"), (Wrong::Forgets, "caching"), (Wrong::Counts, "caching")]
    {
        let error = laws::hold(&b, &layer, WIDTH).expect_err(law).to_string();
        assert!(error.contains(&format!("the law of {law} does not hold")), "{error}");
    }
}

#[test]
fn a_cache_says_what_does_not_fit() {
    let b = Cpu::new(1).unwrap();
    let layer = attention(&b, 4, None);
    let mut cache = layer.cache(&b, Strategy::Padded, 2, 3).unwrap();
    let rows = |batch, rows| b.upload([batch, rows, WIDTH], &vec![0.5; batch * rows * WIDTH]).unwrap();
    let refused = |x| layer.extend(&b, &mut cache, &x).err().expect("does not fit").to_string();
    assert!([rows(1, 1)].map(refused)[0].contains("a cache of 2"));
    let error = layer.extend(&b, &mut cache, &rows(2, 4)).err().expect("does not fit");
    assert!(matches!(error, Error::CacheFull { capacity: 3, wanted: 4 }), "{error}");
    layer.extend(&b, &mut cache, &rows(2, 3)).unwrap();
    assert!(layer.cache(&b, Strategy::Shift, 1, 3).is_err());
}
