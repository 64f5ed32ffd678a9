//! Several runs against several others, as those of two builds: what the runs of a side differ by is what the sides
//! have to exceed.

use std::collections::BTreeSet;

use super::compare::{compare_runs, Comparison};
use super::estimate::median;
use super::measurements::{Measurements, Series};
use super::versus::{compared, counted, side, Gap, Measured, Side, Versus, Wanting, PREFERRED};
use crate::case::Case;
use crate::record::{Metric, Protocol, Run, Unit};

/// Two sides and what their runs hold of a metric.
pub struct Sides<'a> {
    metric: Metric,
    base: Vec<Found<'a>>,
    new: Vec<Found<'a>>,
    base_runs: &'a [Run],
    new_runs: &'a [Run],
}

/// A run and its samples, by the protocol that is preferred.
struct Found<'a> {
    run: &'a Run,
    by: [Measurements; 2],
}

/// The samples of a case that sides are compared by: which of [`PREFERRED`], and what that gave.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Taken {
    preferred: usize,
    protocol: Protocol,
}

impl<'a> Found<'a> {
    fn all(runs: &'a [Run]) -> Vec<Found<'a>> {
        runs.iter().map(|run| Found { run, by: PREFERRED.map(|p| Measurements::of(run, p)) }).collect()
    }

    fn series(&self, case: &Case, metric: Metric, taken: Taken) -> Option<&Series> {
        let series = self.by[taken.preferred].series(case, metric)?;
        (series.protocol() == taken.protocol).then_some(series)
    }
}

impl<'a> Sides<'a> {
    /// Of at least one run each.
    pub fn of(base_runs: &'a [Run], new_runs: &'a [Run], metric: Metric) -> Sides<'a> {
        Sides { metric, base: Found::all(base_runs), new: Found::all(new_runs), base_runs, new_runs }
    }

    /// Cases that a run of each side has samples of, by one protocol.
    pub fn cases(&self) -> BTreeSet<Case> {
        let of_new = self.new.iter().flat_map(|found| found.by[0].cases(self.metric));
        let cases: BTreeSet<Case> = of_new.collect();
        cases.into_iter().filter(|case| self.taken(case).is_some()).collect()
    }

    /// These cases of the new runs against the base's, judged together: each run is one value. One run a side is
    /// compared as [`against`](super::against) compares two runs.
    pub fn compare(&self, cases: &BTreeSet<Case>) -> Vec<Versus<'a>> {
        cases.iter().filter_map(|case| self.versus(*case, cases.len())).collect()
    }

    /// The protocol by which both sides have the case, and most of their runs.
    fn taken(&self, case: &Case) -> Option<Taken> {
        let protocols = [Protocol::Interleaved, Protocol::Decode, Protocol::Single];
        let all = (0..PREFERRED.len())
            .flat_map(|preferred| protocols.map(|protocol| Taken { preferred, protocol }));
        let counts = |taken: &Taken| {
            [&self.new, &self.base].map(|side| {
                side.iter().filter(|found| found.series(case, self.metric, *taken).is_some()).count()
            })
        };
        let possible = all.rev().filter(|taken| counts(taken).into_iter().all(|runs| runs > 0));
        possible.max_by_key(|taken| counts(taken).into_iter().sum::<usize>())
    }

    fn versus(&self, case: Case, together: usize) -> Option<Versus<'a>> {
        let taken = self.taken(&case)?;
        let [a, b] = [&self.new, &self.base].map(|side| {
            side.iter().filter_map(|found| found.series(&case, self.metric, taken)).collect::<Vec<_>>()
        });
        let medians = |side: &[&Series]| -> Vec<f64> {
            side.iter().filter_map(|series| Some(series.median()?.value)).collect()
        };
        let comparison = match (&a[..], &b[..]) {
            ([a], [b]) => compared(a, b, self.metric, false),
            _ => self.count(&a, &b).or_else(|| compare_runs(&medians(&a), &medians(&b), together)),
        };
        let measured = |runs, side: &[&Series]| {
            Some(Measured::new(
                runs,
                case,
                self.metric,
                match side {
                    [alone] => alone.median()?,
                    several => median(&medians(several))?,
                },
            ))
        };
        Some(Versus {
            metric: self.metric,
            one: measured(self.new_runs, &a)?,
            base: measured(self.base_runs, &b)?,
            protocol: taken.protocol,
            comparison,
        })
    }

    /// Where all runs of a side counted the same.
    fn count(&self, a: &[&Series], b: &[&Series]) -> Option<Comparison> {
        let constant = |side: &[&Series]| {
            let first = side.first()?.constant()?;
            side.iter().all(|series| series.constant() == Some(first)).then_some(first)
        };
        let (a, b) = (constant(a)?, constant(b)?);
        (self.metric.unit() != Unit::Nanoseconds).then(|| counted(a, b))?
    }

    /// What [`Sides::compare`] passes over: for each run the cases that another one has, and that it lacks, failed at, or
    /// sampled otherwise.
    pub fn gaps(&self) -> Vec<Gap<'a>> {
        let runs = || self.new.iter().chain(&self.base);
        let known: BTreeSet<Case> = runs().flat_map(|found| found.by[0].known(self.metric)).collect();
        known.into_iter().flat_map(|case| self.gaps_of(case)).collect()
    }

    fn gaps_of(&self, case: Case) -> Vec<Gap<'a>> {
        let taken = self.taken(&case);
        let has = |found: &Found<'a>| {
            let by = &found.by[taken.map_or(0, |taken| taken.preferred)];
            let mut side = side(found.run, by, case, self.metric);
            let otherwise = taken.is_some_and(|taken| side.protocol != Some(taken.protocol));
            if side.found.is_ok() && otherwise {
                side.found = Err(Wanting::Otherwise);
            }
            side
        };
        let [new, mut base] = [&self.new, &self.base].map(|side| side.iter().map(has).collect::<Vec<_>>());
        if taken.is_none() && new.iter().any(|side| side.found.is_ok()) {
            // both sides have it, and no protocol in common
            base.iter_mut().filter(|side| side.found.is_ok()).for_each(|s| s.found = Err(Wanting::Otherwise));
        }
        let best =
            |side: &[Side<'a>]| side.iter().find(|side| side.found.is_ok()).unwrap_or(&side[0]).clone();
        let (of_new, of_base) = (best(&new), best(&base));
        let wanting = |side: Vec<Side<'a>>| side.into_iter().filter(|side| side.found.is_err());
        let gap = |one: Side<'a>, base: Side<'a>| Gap { one, base };
        let nobody = of_new.found.is_err() && of_base.found.is_err();
        let of_base_runs: Vec<_> = wanting(base).map(|base| gap(of_new.clone(), base)).collect();
        let of_new_runs = wanting(new).map(|one| gap(one, of_base.clone())).skip(usize::from(nobody));
        of_base_runs.into_iter().chain(of_new_runs).collect()
    }
}
