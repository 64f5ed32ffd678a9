//! What strategies do to the rows they keep.

use super::numbers::*;
use crate::backend::{Backend, Layout, View};

pub fn concat<B: Backend>(b: &B) {
    for (width, batch, held, keep, n, skip) in
        [(5, 2, 4, 3, 2, 0), (8, 3, 7, 7, 1, 0), (12, 1, 3, 0, 9, 4), (260, 1, 3, 2, 1, 0)]
    {
        let (past, new) = (Numbers::random([batch, held, width], 18), Numbers::random([batch, n, width], 19));
        let want = Numbers::filled([batch, keep + n - skip, width], |e, r, c| match r.checked_sub(keep) {
            None => past.at(e, held - keep + r, c),
            Some(r) => new.at(e, skip + r, c),
        });
        let new_there = new.inside_of_wider(b, width, 3);
        let part = columns(&new_there, width, width);
        assert_moved(b, &b.concat(Some((&past.upload(b), keep)), part, skip).unwrap(), &want, "concat");
        let want = Numbers::filled([batch, n - skip, width], |e, r, c| new.at(e, skip + r, c));
        assert_moved(b, &b.concat(None, part, skip).unwrap(), &want, "concat to nothing");
    }
}

pub fn grow<B: Backend>(b: &B) {
    for (width, batch, held, rows) in [(5, 2, 3, 7), (8, 1, 1, 2), (260, 1, 2, 3)] {
        let past = Numbers::random([batch, held, width], 20);
        let want =
            Numbers::filled([batch, rows, width], |e, r, c| if r < held { past.at(e, r, c) } else { 0.0 });
        assert_moved(b, &b.grow(&past.upload(b), rows).unwrap(), &want, "grow");
    }
}

/// Width, entries, rows, new rows, position of the first.
const WRITES: [(usize, usize, usize, usize, usize); 4] =
    [(5, 2, 6, 1, 5), (8, 3, 7, 3, 2), (15, 1, 4, 1, 0), (260, 1, 3, 2, 1)];

pub fn write_rows<B: Backend>(b: &B) {
    for (width, batch, rows, n, at) in WRITES {
        let (past, new) = (Numbers::random([batch, rows, width], 21), Numbers::random([batch, n, width], 22));
        let want = Numbers::filled(past.shape, |e, r, c| match r.checked_sub(at).filter(|&i| i < n) {
            Some(i) => new.at(e, i, c),
            None => past.at(e, r, c),
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, width, width));
        b.write_rows(&call(b, batch, n, at, 0), &mut kept, columns(&new_there, width, width)).unwrap();
        assert_moved(b, &kept, &want, "write_rows");
    }
}

pub fn write_ring<B: Backend>(b: &B) {
    for (width, batch, rows, n, at) in [(5, 2, 3, 1, 7), (8, 1, 4, 2, 3), (6, 3, 3, 5, 4), (7, 1, 1, 1, 9)] {
        let (past, new) = (Numbers::random([batch, rows, width], 23), Numbers::random([batch, n, width], 24));
        let newest = |r: usize| (0..n).rev().find(|i| (at + i) % rows == r);
        let want = Numbers::filled(past.shape, |e, r, c| match newest(r) {
            Some(i) => new.at(e, i, c),
            None => past.at(e, r, c),
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, 4, 1));
        b.write_ring(&call(b, batch, n, at, 0), &mut kept, columns(&new_there, 4, width)).unwrap();
        assert_moved(b, &kept, &want, "write_ring");
    }
}

pub fn write_onehot<B: Backend>(b: &B) {
    for (width, batch, rows, n, at) in WRITES {
        let (past, new) = (Numbers::random([batch, rows, width], 25), Numbers::random([batch, n, width], 26));
        let want = Numbers::filled(past.shape, |e, r, c| {
            past.at(e, r, c) + r.checked_sub(at).filter(|&i| i < n).map_or(0.0, |i| new.at(e, i, c))
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, width, 0));
        b.write_onehot(&call(b, batch, n, at, 0), &mut kept, columns(&new_there, width, width)).unwrap();
        assert_close(b, &kept, &want, "write_onehot");
    }
}

pub fn shift<B: Backend>(b: &B) {
    for (width, batch, rows, n) in [(5, 2, 3, 1), (8, 1, 4, 2), (6, 3, 3, 5), (520, 1, 1, 1)] {
        let (past, new) = (Numbers::random([batch, rows, width], 27), Numbers::random([batch, n, width], 28));
        let want = Numbers::filled(past.shape, |e, r, c| match (r + n).checked_sub(rows) {
            Some(i) => new.at(e, i, c),
            None => past.at(e, r + n, c),
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, 3, 0));
        b.shift(&mut kept, columns(&new_there, 3, width)).unwrap();
        assert_moved(b, &kept, &want, "shift");
    }
}

pub fn unroll<B: Backend>(b: &B) {
    let shapes = [
        (5, 2, 3, 2, 7, Layout::Ring, 2),
        (8, 1, 4, 3, 1, Layout::Ring, 3),
        (8, 2, 4, 3, 5, Layout::Tail, 2),
        (6, 1, 2, 3, 2, Layout::Tail, 4),
    ];
    for (width, batch, rows, keep, at, layout, n) in shapes {
        let sequence = Numbers::random([batch, at + n, width], 29);
        let want = Numbers::filled([batch, keep + n, width], |e, r, c| {
            (at + r).checked_sub(keep).map_or(0.0, |p| sequence.at(e, p, c))
        });
        let past = laid_out(&sequence, layout, rows, at - 1, f64::NAN).upload(b);
        let new = Numbers::filled([batch, n, width], |e, i, c| sequence.at(e, at + i, c));
        let (new_there, view) = (new.upload(b), View { rows: columns(&past, 0, width), layout });
        // padding, here of all rows but the last, moves like any
        let got = b
            .unroll(&call_from(b, &vec![at + n - 1; batch], n, at), view, keep, columns(&new_there, 0, width))
            .unwrap();
        assert_moved(b, &got, &want, &format!("unroll {width} {rows} {keep} {at} {layout:?}"));
    }
}

pub fn gather_batch<B: Backend>(b: &B) {
    for (width, order) in [(5, vec![2, 0, 0]), (8, vec![1]), (130, vec![0, 1, 2, 2, 1])] {
        let x = Numbers::random([3, 2, width], 30);
        let want = Numbers::filled([order.len(), 2, width], |e, r, c| x.at(order[e], r, c));
        assert_moved(b, &b.gather_batch(&x.upload(b), &order).unwrap(), &want, "gather_batch");
    }
}
