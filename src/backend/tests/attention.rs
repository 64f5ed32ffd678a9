//! Attention: every layout with everything that decides which rows are seen, and by how much.

use super::numbers::*;
use crate::backend::{AttentionParams, Backend, Columns, Layout, Mask, View};

const BY_POSITION: [Layout; 3] = [Layout::Tail, Layout::Bounded, Layout::Masked];

pub fn attention<B: Backend>(b: &B) {
    plain(b);
    grouped_windowed_sloped_and_padded(b);
    many_queries(b);
    rings(b);
    short_pasts(b);
    sources(b);
}

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    /// Numbers of a head.
    head: usize,
    /// New rows, and the position of the first.
    n: usize,
    at: usize,
    mask: Mask,
    layout: Layout,
    /// Of the keys and values.
    rows: usize,
    /// One of each entry of the keys and values.
    left_padding: &'static [usize],
    /// Entries of queries to each of them.
    share: usize,
    slopes: bool,
    /// What rows hold that nobody may see.
    poison: f64,
}

/// One entry of one head at position 0, which has itself to see.
const CASE: Case = Case {
    heads: 1,
    kv_heads: 1,
    head: 5,
    n: 1,
    at: 0,
    mask: Mask::Causal,
    layout: Layout::Bounded,
    rows: 1,
    left_padding: &[0],
    share: 1,
    slopes: false,
    poison: f64::NAN,
};

/// As many heads of keys as of queries, looking at all of the past.
fn plain<B: Backend>(b: &B) {
    type Shape = (usize, usize, &'static [usize], usize, usize, usize);
    let shapes: [Shape; 13] = [
        (1, 5, &[0], 1, 0, 1),
        (3, 5, &[0, 0, 0], 1, 4, 9),
        (2, 8, &[0], 1, 69, 70),
        (2, 8, &[0, 0], 1, 40, 130),
        (1, 32, &[0], 1, 20, 33),
        (2, 36, &[0], 3, 2, 7),
        (1, 64, &[0, 0], 1, 5, 40),
        (1, 160, &[0], 2, 3, 6),
        (2, 7, &[0, 0], 5, 0, 5),
        // rows that a GPU's blocks share: three of them, four, five with a short last one, as many as there may be
        (3, 5, &[0, 0, 0], 1, 150, 190),
        (1, 64, &[0], 1, 99, 128),
        (2, 128, &[0, 0], 1, 68, 70),
        (1, 160, &[0], 1, 599, 600),
    ];
    for (heads, head, left_padding, n, at, capacity) in shapes {
        for layout in BY_POSITION {
            for poison in [f64::NAN, 1e30] {
                let rows = if layout == Layout::Tail { at + n } else { capacity };
                check(
                    b,
                    Case { heads, kv_heads: heads, head, left_padding, n, at, layout, rows, poison, ..CASE },
                );
            }
        }
    }
}

/// Entries without padding, with padding that ends before or among the new rows or just behind them.
fn grouped_windowed_sloped_and_padded<B: Backend>(b: &B) {
    let shapes: [(usize, usize, usize, usize, &[usize]); 5] = [
        (4, 2, 1, 9, &[0, 4, 9, 10]),
        (4, 2, 5, 6, &[8, 0, 3]),
        (2, 1, 17, 3, &[0, 20, 9]),
        (3, 3, 2, 0, &[1, 0]),
        (2, 1, 1, 129, &[100, 0]),
    ];
    for (heads, kv_heads, n, at, left_padding) in shapes {
        for layout in BY_POSITION {
            for mask in [Mask::Causal, Mask::SlidingWindow(4), Mask::SlidingWindow(40)] {
                let rows = if layout == Layout::Tail { at + n } else { at + n + 3 };
                for (head, slopes) in [(5, true), (8, false)] {
                    let case =
                        Case { heads, kv_heads, head, n, at, mask, layout, rows, left_padding, ..CASE };
                    check(b, Case { slopes, ..case });
                }
            }
        }
    }
}

/// So many that a machine may take them in tiles, and the rows they see in several parts.
fn many_queries<B: Backend>(b: &B) {
    for layout in BY_POSITION {
        for mask in [Mask::Causal, Mask::SlidingWindow(1), Mask::SlidingWindow(66), Mask::Full] {
            for (at, left_padding) in [(2, &[0]), (0, &[68])] {
                let rows = if layout == Layout::Tail || mask == Mask::Full { at + 70 } else { 75 };
                let case = Case { head: 4, n: 70, at, mask, layout, rows, left_padding, ..CASE };
                check(b, Case { slopes: true, ..case });
            }
            for (n, head) in [(16, 8), (17, 32), (33, 64), (20, 7), (16, 36), (18, 128)] {
                // the oracle's work grows with the square of a head
                let (heads, kv_heads, share, at, left_padding): (_, _, _, _, &[usize]) = match head {
                    7 | 8 => (4, 2, 2, 150, &[0, 155, 70]),
                    _ => (1, 1, 1, 80, &[30]),
                };
                let rows = match (layout, mask) {
                    (Layout::Tail, _) | (_, Mask::Full) => at + n,
                    _ => at + n + 3,
                };
                let case = Case { heads, kv_heads, head, n, at, mask, layout, rows, left_padding, ..CASE };
                let share = if mask == Mask::Full { share } else { 1 };
                check(b, Case { share, slopes: n % 2 == 0, ..case });
            }
        }
    }
}

/// Rings before and after they came round, as long as the window, longer or shorter.
fn rings<B: Backend>(b: &B) {
    for (window, rows, at) in
        [(1, 1, 6), (4, 4, 1), (4, 4, 3), (4, 4, 4), (3, 5, 11), (5, 3, 11), (40, 40, 57), (70, 70, 200)]
    {
        let left_padding: &[usize] = match at {
            200 => &[150, 201],
            _ => &[0, 1, 4, 10],
        };
        let case = Case { heads: 4, kv_heads: 2, at, rows, layout: Layout::Ring, left_padding, ..CASE };
        for (head, slopes) in [(5, true), (8, false)] {
            check(b, Case { head, slopes, mask: Mask::SlidingWindow(window), ..case });
        }
    }
}

/// Tails that hold only what a window needs, or less, or have room for more than there was.
fn short_pasts<B: Backend>(b: &B) {
    for (window, rows, n, at) in [
        (4, 4, 1, 1),
        (4, 4, 1, 9),
        (4, 6, 3, 1),
        (4, 6, 3, 9),
        (9, 5, 3, 9),
        (20, 37, 18, 5),
        (20, 37, 18, 30),
        (40, 30, 18, 30),
    ] {
        let (mask, left_padding) = (Mask::SlidingWindow(window), &[0, 3, 9]);
        check(b, Case { layout: Layout::Tail, mask, rows, n, at, left_padding, slopes: true, ..CASE });
    }
}

/// Rows without an order in time, each entry of which serves several; sentences end together, so padding
/// comes first, and is all there is of one of them.
fn sources<B: Backend>(b: &B) {
    for (n, share, rows, left_padding) in
        [(1, 1, 6, &[0, 2, 6]), (1, 3, 70, &[65, 0, 1]), (4, 2, 7, &[3, 0, 7]), (17, 2, 40, &[0, 33, 40])]
    {
        for layout in BY_POSITION {
            for (head, slopes) in [(5, false), (8, true)] {
                let case = Case { heads: 2, n, rows, left_padding, share, layout, ..CASE };
                check(b, Case { mask: Mask::Full, at: 5, head, slopes, ..case });
            }
        }
    }
}

fn is_seen(mask: Mask, query: usize, position: usize) -> bool {
    match mask {
        Mask::Causal => position <= query,
        Mask::SlidingWindow(rows) => position <= query && query - position < rows,
        Mask::Full => true,
    }
}

fn check<B: Backend>(b: &B, case: Case) {
    let Case { heads, kv_heads, head, n, at, mask, layout, rows, left_padding, share, slopes, poison } = case;
    let (entries, width, kv_width) = (left_padding.len(), heads * head, kv_heads * head);
    let length = if mask == Mask::Full { rows } else { at + n };
    let [k, v] = [
        Numbers::moderate([entries, length, kv_width], 11),
        Numbers::random([entries, length, kv_width], 12),
    ];
    let is_padding = |e: usize, i: usize| mask != Mask::Full && at + i < left_padding[e / share];
    let q = Numbers::moderate([entries * share, n, width], 10);
    let q = Numbers::filled(q.shape, |e, i, c| if is_padding(e, i) { poison } else { q.at(e, i, c) });
    let slope = Numbers::filled([1, 1, heads], |_, _, h| 0.3 / (h + 1) as f64);
    let scale = 0.4;
    let first_held = match layout {
        Layout::Tail | Layout::Ring => length.saturating_sub(rows),
        Layout::Bounded | Layout::Masked => 0,
    };

    let score = |e: usize, i: usize, h: usize, p: usize| -> f64 {
        let kv_head = h / (heads / kv_heads);
        let dot: f64 =
            (0..head).map(|d| q.at(e, i, h * head + d) * k.at(e / share, p, kv_head * head + d)).sum();
        let distance = (at + i) as f64 - p as f64;
        dot * scale - if slopes { slope.at(0, 0, h) * distance } else { 0.0 }
    };
    let want = Numbers::filled(q.shape, |e, i, c| {
        let (h, kv_column) = (c / head, c / head / (heads / kv_heads) * head + c % head);
        let first = left_padding[e / share].max(first_held);
        let seen: Vec<usize> = (first..length).filter(|&p| is_seen(mask, at + i, p)).collect();
        let scores: Vec<f64> = seen.iter().map(|&p| score(e, i, h, p)).collect();
        let top = scores.iter().fold(f64::NEG_INFINITY, |top, &s| top.max(s));
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f64 = weights.iter().zip(&seen).map(|(w, &p)| w * v.at(e / share, p, kv_column)).sum();
        if seen.is_empty() {
            0.0
        } else {
            sum / weights.iter().sum::<f64>()
        }
    });

    let held = |x: &Numbers| laid_out(&padded(x, left_padding, poison), layout, rows, length - 1, poison);
    // side by side with other numbers, in tensors of different widths
    let there = [
        q.inside_of_wider(b, width, width),
        held(&k).inside_of_wider(b, 4, 0),
        held(&v).inside_of_wider(b, 8, 4),
    ];
    let [q_there, k_there, v_there] = &there;
    let view = |tensor, from| View { rows: Columns { tensor, from, width: kv_width }, layout };
    let slope = slope.upload(b);
    let params =
        AttentionParams { heads, kv_heads, scale: scale as f32, mask, slopes: slopes.then_some(&slope) };
    // the call of a source is that in which it was made
    let call = match mask {
        Mask::Full => call_from(b, left_padding, rows, at),
        Mask::Causal | Mask::SlidingWindow(_) => call_from(b, left_padding, n, at),
    };
    let got = b.attention(&call, columns(q_there, width, width), view(k_there, 4), view(v_there, 8), &params);
    assert_close(b, &got.unwrap(), &want, &format!("attention {case:?}"));
}
