//! Operations on the new rows alone.

use super::numbers::*;
use crate::backend::{Activation, Backend, Linear, Norm};

pub fn embed<B: Backend>(b: &B) {
    let shapes: [(usize, &[usize], usize); 4] =
        [(5, &[0], 1), (8, &[0, 0], 3), (132, &[0, 0, 0], 1), (8, &[3, 9, 0, 5], 4)];
    for (width, left_padding, n) in shapes {
        let (batch, at) = (left_padding.len(), 2);
        let (table, positions) = (Numbers::random([1, 11, width], 1), Numbers::random([1, 6, width], 2));
        let call = call_from(b, left_padding, n, at);
        let token = |e: usize, i: usize| call.tokens[e * n + i] as usize;
        let want = Numbers::filled([batch, n, width], |e, i, c| table.at(0, token(e, i), c));
        assert_moved(b, &b.embed(&call, &table.upload(b), None).unwrap(), &want, "embed");
        let want = Numbers::filled(want.shape, |e, i, c| {
            want.at(e, i, c) + positions.at(0, (at + i).saturating_sub(left_padding[e]), c)
        });
        let got = b.embed(&call, &table.upload(b), Some(&positions.upload(b))).unwrap();
        assert_close(b, &got, &want, &format!("embed with positions, {left_padding:?}"));
    }
}

pub fn norm<B: Backend>(b: &B) {
    for (width, rows, eps) in [(5, 1, 1e-5), (36, 3, 1e-6), (36, 2, 40.0), (301, 2, 1e-5), (1100, 1, 1e-5)] {
        let x = Numbers::random([2, rows, width], 3);
        let (gain, bias) = (Numbers::random([1, 1, width], 4), Numbers::random([1, 1, width], 5));
        let want = normed(&x, eps, &gain, Some(&bias));
        let norm = Norm { gain: gain.upload(b), bias: Some(bias.upload(b)), eps: eps as f32 };
        assert_close(b, &b.norm(&x.upload(b), &norm).unwrap(), &want, &format!("norm {width} {eps}"));
        let want = normed(&x, eps, &gain, None);
        let norm = Norm { bias: None, ..norm };
        let what = format!("norm by the root mean square {width} {eps}");
        assert_close(b, &b.norm(&x.upload(b), &norm).unwrap(), &want, &what);
        // the same numbers, as the heads of one row
        let as_heads = |numbers: Numbers| Numbers { shape: [2, 1, rows * width], ..numbers };
        let got = b.norm(&as_heads(x).upload(b), &norm).unwrap();
        assert_close(b, &got, &as_heads(want), &format!("{what}, of each head"));
    }
}

/// Without a bias by the root mean square.
fn normed(x: &Numbers, eps: f64, gain: &Numbers, bias: Option<&Numbers>) -> Numbers {
    let [_, _, width] = x.shape;
    Numbers::filled(x.shape, |e, r, c| {
        let mean = |f: &dyn Fn(f64) -> f64| (0..width).map(|c| f(x.at(e, r, c))).sum::<f64>() / width as f64;
        let centre = bias.map_or(0.0, |_| mean(&|x| x));
        let deviation = (mean(&|x| (x - centre) * (x - centre)) + eps).sqrt();
        (x.at(e, r, c) - centre) / deviation * gain.at(0, 0, c) + bias.map_or(0.0, |bias| bias.at(0, 0, c))
    })
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

fn gelu_erf(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2f64.sqrt()))
}

pub fn product(x: &Numbers, weight: &Numbers, bias: Option<&Numbers>) -> Numbers {
    let ([batch, n, inner], [_, outs, _]) = (x.shape, weight.shape);
    Numbers::filled([batch, n, outs], |e, i, o| {
        let sum: f64 = (0..inner).map(|k| x.at(e, i, k) * weight.at(0, o, k)).sum();
        sum + bias.map_or(0.0, |bias| bias.at(0, 0, o))
    })
}

pub fn linear<B: Backend>(b: &B) {
    let few = [(1, 1, 5, 7), (3, 1, 8, 6), (2, 4, 36, 10), (1, 1, 1036, 5), (1, 2, 768, 9), (7, 1, 772, 3)];
    // in several parts, the last of which is short or ends within a slice
    let parts = [(3, 3, 130, 65), (1, 31, 200, 12), (1, 64, 197, 9), (5, 13, 136, 68), (1, 100, 515, 67)];
    let many = [(3, 3, 7, 5), (1, 70, 20, 66)];
    for (batch, n, inner, outs) in few.into_iter().chain(many).chain(parts) {
        let (x, weight) = (Numbers::random([batch, n, inner], 6), Numbers::random([1, outs, inner], 7));
        let (bias, residual) = (Numbers::random([1, 1, outs], 8), Numbers::random([batch, n, outs], 9));
        let what = format!("linear {batch} {n} {inner} {outs}");
        let layer = Linear { norm: None, weight: weight.upload(b), bias: Some(bias.upload(b)) };
        let (x_there, residual_there) = (x.upload(b), residual.upload(b));
        let got = b.linear(&x_there, &layer, Activation::Gelu, Some(&residual_there)).unwrap();
        let sum = product(&x, &weight, Some(&bias));
        let want = Numbers::filled(sum.shape, |e, i, o| gelu(sum.at(e, i, o)) + residual.at(e, i, o));
        assert_close(b, &got, &want, &what);
        let layer = Linear { bias: None, ..layer };
        let got = b.linear(&x_there, &layer, Activation::None, None).unwrap();
        assert_close(b, &got, &product(&x, &weight, None), &format!("{what}, no bias"));
        let (gain, shift) = (Numbers::random([1, 1, inner], 10), Numbers::random([1, 1, inner], 11));
        for centred in [true, false] {
            let norm = Norm { gain: gain.upload(b), bias: centred.then(|| shift.upload(b)), eps: 1e-5 };
            let want = product(&normed(&x, 1e-5, &gain, centred.then_some(&shift)), &weight, Some(&bias));
            let layer = Linear { norm: Some(norm), weight: weight.upload(b), bias: Some(bias.upload(b)) };
            let got = b.linear(&x_there, &layer, Activation::None, None).unwrap();
            assert_close(b, &got, &want, &format!("{what}, normed, centred: {centred}"));
        }
    }
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// With sums of a size at which the activations differ.
pub fn activations<B: Backend>(b: &B) {
    for (n, inner, outs) in [(1, 8, 6), (3, 5, 7), (40, 12, 9)] {
        let (x, weight) = (Numbers::moderate([1, n, inner], 31), Numbers::moderate([1, outs, inner], 32));
        let (x_there, layer) = (x.upload(b), Linear { norm: None, weight: weight.upload(b), bias: None });
        let sum = product(&x, &weight, None);
        type Curve = fn(f64) -> f64;
        let activations: [(Activation, Curve); 5] = [
            (Activation::None, |x| x),
            (Activation::Gelu, gelu),
            (Activation::GeluErf, gelu_erf),
            (Activation::Relu, |x| x.max(0.0)),
            (Activation::Silu, silu),
        ];
        for (activation, of) in activations {
            let want = Numbers::filled(sum.shape, |e, i, o| of(sum.at(e, i, o)));
            let got = b.linear(&x_there, &layer, activation, None).unwrap();
            assert_close(b, &got, &want, &format!("linear {n} {inner} {outs} {activation:?}"));
        }
    }
}

pub fn swiglu<B: Backend>(b: &B) {
    for (batch, n, width) in [(1, 1, 5), (2, 3, 8), (1, 70, 36), (1, 2, 300)] {
        let x = Numbers::moderate([batch, n, 2 * width], 33);
        let want = Numbers::filled([batch, n, width], |e, i, c| silu(x.at(e, i, c)) * x.at(e, i, width + c));
        assert_close(b, &b.swiglu(&x.upload(b)).unwrap(), &want, &format!("swiglu {batch} {n} {width}"));
    }
}

pub fn add<B: Backend>(b: &B) {
    for (shape, scale) in [([1, 1, 5], 1.0), ([2, 3, 8], 0.5), ([1, 70, 36], -0.7)] {
        let (x, y) = (Numbers::random(shape, 34), Numbers::random(shape, 35));
        let want = Numbers::filled(shape, |e, i, c| (x.at(e, i, c) + y.at(e, i, c)) * scale);
        let got = b.add(&x.upload(b), &y.upload(b), scale as f32).unwrap();
        assert_close(b, &got, &want, &format!("add {shape:?} {scale}"));
    }
}

pub fn rope<B: Backend>(b: &B) {
    // heads, numbers of one, new rows, position of the first, starts
    let shapes: [(usize, usize, usize, usize, &[usize]); 5] = [
        (1, 2, 1, 0, &[0]),
        (3, 6, 1, 4, &[0, 4, 5]),
        (2, 8, 3, 2, &[0, 3]),
        (40, 8, 2, 3, &[2]),
        (2, 20, 5, 0, &[1, 9]),
    ];
    for (heads, size, n, at, left_padding) in shapes {
        let (batch, width) = (left_padding.len(), heads * size);
        let (x, cos_sin) = (Numbers::random([batch, n, width], 36), Numbers::moderate([1, 8, size], 37));
        let want = Numbers::filled(x.shape, |e, i, c| {
            let (turn, first, half) = ((at + i).saturating_sub(left_padding[e]), c / size * size, size / 2);
            let j = c % size % half;
            let (left, right) = (x.at(e, i, first + j), x.at(e, i, first + j + half));
            let (cosine, sine) = (cos_sin.at(0, turn, j), cos_sin.at(0, turn, j + half));
            if c % size < half {
                left * cosine - right * sine
            } else {
                right * cosine + left * sine
            }
        });
        let (x_there, call) = (x.inside_of_wider(b, 4, 8), call_from(b, left_padding, n, at));
        let got = b.rope(&call, columns(&x_there, 4, width), &cos_sin.upload(b)).unwrap();
        assert_close(b, &got, &want, &format!("rope {heads} {size} {n} {at} {left_padding:?}"));
    }
}

pub fn last_row<B: Backend>(b: &B) {
    for (width, batch, n, last) in [(5, 3, 4, 2), (1032, 2, 3, 1), (8, 2, 1, 0)] {
        let x = Numbers::random([batch, n, width], 16);
        let want = Numbers::filled([batch, 1, width], |e, _, c| x.at(e, last, c));
        assert_moved(b, &b.last_row(&call(b, batch, n, 0, last), x.upload(b)).unwrap(), &want, "last_row");
    }
}

pub fn argmax<B: Backend>(b: &B) {
    for (width, places) in [(1, [0, 0]), (7, [6, 2]), (1500, [1437, 1029])] {
        let mut x = Numbers::random([2, 2, width], 17);
        for (entry, &place) in places.iter().enumerate() {
            for tied in (place..width).step_by(40) {
                x.data[entry * 2 * width + tied] = 1e6;
            }
        }
        assert_eq!(b.argmax(&x.upload(b)).unwrap(), places.map(|p| p as u32), "{}: argmax", b.name());
    }
}
