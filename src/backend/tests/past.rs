//! Operations besides attention that look at rows before the new ones.

use super::layers::product;
use super::numbers::*;
use crate::backend::{Backend, Convolution, Layout, Linear, View};

#[derive(Clone, Copy, Debug)]
struct Convolved {
    channels: usize,
    taps: usize,
    /// Of the taps, on later rows.
    ahead: usize,
    residual: bool,
    bias: bool,
    n: usize,
    at: usize,
    layout: Layout,
    rows: usize,
    left_padding: &'static [usize],
}

/// Width of a convolution, taps, new rows, position of the first, layout, rows, starts; of a lag its width,
/// new rows, position of the first and rows back come first.
type Rows = (usize, usize, usize, usize, Layout, usize, &'static [usize]);

pub fn conv_glu<B: Backend>(b: &B) {
    let causal: [Rows; 13] = [
        (5, 1, 1, 3, Layout::Tail, 1, &[0]),
        (8, 4, 1, 9, Layout::Ring, 4, &[0, 0]),
        (7, 3, 1, 1, Layout::Ring, 3, &[0, 0, 0]),
        (7, 5, 1, 1, Layout::Tail, 2, &[0]),
        (8, 3, 1, 6, Layout::Tail, 3, &[0, 0]),
        (6, 3, 1, 4, Layout::Bounded, 9, &[0]),
        (8, 4, 6, 0, Layout::Tail, 6, &[0, 0]),
        (5, 3, 4, 1, Layout::Tail, 6, &[0, 0]),
        (260, 2, 2, 3, Layout::Tail, 3, &[0]),
        (8, 4, 1, 9, Layout::Ring, 4, &[8, 9, 10, 6]),
        (5, 3, 1, 6, Layout::Tail, 3, &[5, 0, 7]),
        (8, 3, 5, 0, Layout::Tail, 5, &[2, 0, 5]),
        (5, 3, 4, 2, Layout::Masked, 9, &[1, 3]),
    ];
    for (channels, taps, n, at, layout, rows, left_padding) in causal {
        for (residual, bias) in [(true, true), (false, true), (true, false)] {
            let ahead = 0;
            convolve(
                b,
                Convolved { channels, taps, ahead, residual, bias, n, at, layout, rows, left_padding },
            );
        }
    }
    // all rows at once, or only one: there are none after the last
    let around: [(usize, usize, usize, usize, &[usize]); 5] = [
        (5, 3, 1, 7, &[0]),
        (8, 4, 2, 5, &[0, 3]),
        (8, 3, 2, 4, &[0]),
        (5, 3, 1, 1, &[0, 1]),
        (8, 2, 1, 1, &[0]),
    ];
    for (channels, taps, ahead, n, left_padding) in around {
        for residual in [true, false] {
            let (bias, at, layout, rows) = (true, 0, Layout::Tail, n);
            convolve(
                b,
                Convolved { channels, taps, ahead, residual, bias, n, at, layout, rows, left_padding },
            );
        }
    }
}

fn convolve<B: Backend>(b: &B, case: Convolved) {
    let Convolved { channels, taps, ahead, residual, n, at, layout, rows, left_padding, .. } = case;
    let batch = left_padding.len();
    let x = Numbers::moderate([batch, at + n, channels], 13);
    let weight = Numbers::moderate([1, 2 * channels, taps * channels], 14);
    let bias = case.bias.then(|| Numbers::moderate([1, 1, 2 * channels], 15));
    let row = |e: usize, p: Option<usize>, c: usize| match p {
        Some(p) if left_padding[e] <= p && p < at + n => x.at(e, p, c),
        _ => 0.0,
    };
    let window = Numbers::filled([batch, n, taps * channels], |e, i, k| {
        row(e, (at + i + ahead + 1 + k / channels).checked_sub(taps), k % channels)
    });
    let u = product(&window, &weight, bias.as_ref());
    let want = Numbers::filled([batch, n, channels], |e, i, c| {
        let y = u.at(e, i, c) / (1.0 + (-u.at(e, i, channels + c)).exp());
        if residual {
            (y + row(e, Some(at + i), c)) * 0.5f64.sqrt()
        } else {
            y
        }
    });
    // a window cut from a sequence that is longer than it; before its begin there is nothing
    let held = laid_out(&padded(&x, left_padding, f64::NAN), layout, rows, at + n - 1, f64::NAN).upload(b);
    let linear = Linear { norm: None, weight: weight.upload(b), bias: bias.map(|bias| bias.upload(b)) };
    let convolution = Convolution { linear, taps, ahead, residual };
    let view = View { rows: columns(&held, 0, channels), layout };
    let got = b.conv_glu(&call_from(b, left_padding, n, at), view, &convolution).unwrap();
    assert_close(b, &got, &want, &format!("conv_glu {case:?}"));
}

/// The state after one call is that before the next.
pub fn retain<B: Backend>(b: &B) {
    /// Heads, numbers of a key, of a value, new rows of two calls, position of the first, starts.
    type Calls = (usize, usize, usize, [usize; 2], usize, &'static [usize]);
    let shapes: [Calls; 7] = [
        (1, 1, 1, [1, 1], 0, &[0]),
        (3, 5, 7, [3, 1], 0, &[0, 0]),
        (2, 16, 8, [1, 1], 4, &[0]),
        (2, 8, 16, [4, 2], 2, &[0, 3, 9]),
        (2, 7, 5, [2, 3], 0, &[1, 2, 3, 5]),
        (1, 33, 36, [1, 2], 5, &[0, 6]),
        (1, 40, 72, [2, 1], 0, &[0]),
    ];
    for (heads, size, value, news, at, left_padding) in shapes {
        let what = format!("retain {heads} {size} {value} {news:?} {at} {left_padding:?}");
        let (batch, n) = (left_padding.len(), news[0] + news[1]);
        let random = |width, seed| Numbers::moderate([batch, n, width], seed);
        let (q, k, v) = (random(heads * size, 40), random(heads * size, 41), random(heads * value, 42));
        let decays = Numbers::filled([1, 1, heads], |_, _, h| f64::from(1.0 - 0.3f32 / (h + 1) as f32));
        let before = Numbers::moderate([batch, heads * size, value], 43);
        // q and k of padding, which leaves no trace, are poison
        let held = |x: &Numbers| padded_from(x, left_padding, at);
        for remembers in [true, false] {
            // without a memory a call has only its own rows
            let first = if remembers { news[0] } else { n };
            let calls = [0..first, first..n].into_iter().filter(|rows| !rows.is_empty());
            let mut state = remembers.then(|| before.keep(b));
            let mut wanted =
                if remembers { before.clone() } else { Numbers::filled(before.shape, |_, _, _| 0.0) };
            for rows in calls {
                let want = retained(&mut wanted, [&q, &k, &v], &decays, rows.clone(), at, left_padding);
                let there = [&q, &k, &v].map(|x| cut(&held(x), rows.clone()).inside_of_wider(b, 4, 8));
                let width = |x: &Numbers| x.shape[2];
                let qkv = [
                    columns(&there[0], 4, width(&q)),
                    columns(&there[1], 4, width(&k)),
                    columns(&there[2], 4, width(&v)),
                ];
                let call = call_from(b, left_padding, rows.len(), at + rows.start);
                let got = b.retain(&call, qkv, state.as_mut(), &decays.upload(b)).unwrap();
                assert_close(b, &got, &want, &format!("{what} rows {rows:?}"));
                if let Some(state) = &state {
                    assert_close(b, state, &wanted, &format!("{what} state after rows {rows:?}"));
                }
            }
        }
    }
}

/// Rows of each entry.
fn cut(x: &Numbers, rows: std::ops::Range<usize>) -> Numbers {
    let [batch, _, width] = x.shape;
    Numbers::filled([batch, rows.len(), width], |e, i, c| x.at(e, rows.start + i, c))
}

/// With poison in padding, where the first row is that at index `at`.
fn padded_from(x: &Numbers, left_padding: &[usize], at: usize) -> Numbers {
    let left_padding: Vec<usize> = left_padding.iter().map(|start| start.saturating_sub(at)).collect();
    padded(x, &left_padding, f64::NAN)
}

/// What retention makes of `rows` of q, k and v, and the state after them.
fn retained(
    state: &mut Numbers,
    [q, k, v]: [&Numbers; 3],
    decays: &Numbers,
    rows: std::ops::Range<usize>,
    at: usize,
    left_padding: &[usize],
) -> Numbers {
    let ([_, _, heads], [_, _, width]) = (decays.shape, v.shape);
    let (size, value) = (q.shape[2] / heads, width / heads);
    let mut out = Numbers::filled([left_padding.len(), rows.len(), width], |_, _, _| 0.0);
    for (e, &start) in left_padding.iter().enumerate() {
        for (i, row) in rows.clone().enumerate().filter(|(_, row)| at + row >= start) {
            for (h, d, c) in
                (0..heads).flat_map(|h| (0..size).flat_map(move |d| (0..value).map(move |c| (h, d, c))))
            {
                let s = &mut state.data[((e * heads + h) * size + d) * value + c];
                *s = decays.at(0, 0, h) * *s + k.at(e, row, h * size + d) * v.at(e, row, h * value + c);
                out.data[(e * rows.len() + i) * width + h * value + c] += q.at(e, row, h * size + d) * *s;
            }
        }
    }
    out
}

pub fn lag<B: Backend>(b: &B) {
    let shapes: [Rows; 10] = [
        (5, 1, 0, 1, Layout::Tail, 1, &[0]),
        (8, 4, 0, 2, Layout::Tail, 4, &[0, 1, 4]),
        (8, 1, 7, 1, Layout::Tail, 2, &[0, 7, 8]),
        (5, 3, 1, 1, Layout::Tail, 5, &[0, 1]),
        (6, 1, 5, 3, Layout::Bounded, 9, &[0, 2, 3]),
        (8, 3, 4, 0, Layout::Masked, 9, &[0, 5]),
        (260, 2, 4, 2, Layout::Masked, 9, &[3]),
        (8, 1, 1, 2, Layout::Ring, 3, &[0]),
        (5, 1, 9, 2, Layout::Ring, 3, &[0, 7, 8, 10]),
        (8, 1, 9, 0, Layout::Ring, 1, &[0, 9]),
    ];
    for (width, n, at, back, layout, rows, left_padding) in shapes {
        let x = Numbers::random([left_padding.len(), at + n, width], 44);
        let want = Numbers::filled([left_padding.len(), n, width], |e, i, c| {
            (at + i).checked_sub(back).filter(|&p| p >= left_padding[e]).map_or(0.0, |p| x.at(e, p, c))
        });
        let held = laid_out(&padded(&x, left_padding, f64::NAN), layout, rows, at + n - 1, f64::NAN);
        let there = held.inside_of_wider(b, width, 4);
        let view = View { rows: columns(&there, width, width), layout };
        let got = b.lag(&call_from(b, left_padding, n, at), view, back).unwrap();
        assert_moved(
            b,
            &got,
            &want,
            &format!("lag {width} {n} {at} {back} {layout:?} {rows} {left_padding:?}"),
        );
    }
}
