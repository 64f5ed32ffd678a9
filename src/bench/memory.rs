//! The exact pass, without criterion: a value without variance breaks its statistics.

use super::{fixtures, print, Bench, Record};
use crate::backend::Backend;
use crate::case::Case;
use crate::error::Result;
use crate::measure::exact::{self, Counter};
use crate::measure::{say, Budget};
use crate::model::capacity;
use crate::on_backend;
use crate::record::Metric;
use crate::strategy::Strategy;

/// What a budget calls this.
pub(super) const COUNTED: &str = "work and memory counted";

/// Counts the work and the memory of every case, and holds the work against the closed forms.
pub(super) fn memory(bench: &Bench, mut record: Option<&mut Record>) -> Result<()> {
    let budget = bench.budget(10);
    for cases in fixtures(&bench.cases).filter(|cases| budget.admits(cases, COUNTED)) {
        let Case { model, shape, backend, .. } = cases[0];
        say(format_args!("counting the steps of {model}-{shape} on {backend}"));
        let cases = if record.is_some() { curves(cases) } else { cases.to_vec() };
        let counted = on_backend!(bench.machines, backend, |b| {
            let counter = Counter::new(b, &cases[0], &bench.machines, bench.settings.seed);
            counter.and_then(|counter| count(&counter, &cases, record.as_deref_mut(), &budget))
        });
        bench.failed(&cases, Metric::CacheLiveBytes, counted, record.as_deref_mut())?;
    }
    let all = if budget.left_out().is_empty() { "every case" } else { "the cases that there was time for" };
    print(&format!("counted the work and the memory of {all}: the counts are those of the closed forms\n"))?;
    record.map_or(Ok(()), |record| record.left_out(&budget, &[COUNTED]))
}

pub(super) fn count<B: Backend>(
    counter: &Counter<B>,
    cases: &[Case],
    mut record: Option<&mut Record>,
    budget: &Budget,
) -> Result<()> {
    for case in cases {
        if record.as_ref().is_some_and(|record| record.done.done(case, Metric::CacheLiveBytes) > 0) {
            continue;
        }
        let one = |_| count_one(counter, case, record.as_deref_mut());
        budget.spend(std::slice::from_ref(case), COUNTED, one).unwrap_or(Ok(()))?;
    }
    Ok(())
}

fn count_one<B: Backend>(counter: &Counter<B>, case: &Case, record: Option<&mut Record>) -> Result<()> {
    let exact = counter.count(case)?;
    exact::check(&exact.ledger)?;
    if let Some(record) = record {
        exact.samples.iter().try_for_each(|sample| record.sample(sample))?;
        exact.ledger.iter().try_for_each(|row| record.writer.ledger(row))?;
    }
    Ok(())
}

/// The cases, and each strategy at the powers of two besides: counting costs little, and memory is
/// a curve over positions.
fn curves(cases: &[Case]) -> Vec<Case> {
    let mut cases = cases.to_vec();
    let one_sentence: Vec<Case> = cases.iter().copied().filter(|case| case.batch == 1).collect();
    for case in one_sentence {
        let most = match case.strategy {
            Strategy::Naive => 256,     // nothing is kept: the curve is the layers' own, and linear
            Strategy::NaivePadded => 0, // the same at every position
            _ => capacity(case.model, case.shape),
        };
        let powers = (0..).map(|power| 1 << power).take_while(|&position| position <= most);
        cases.extend(powers.map(|position| case.at(position)));
    }
    cases.sort();
    cases.dedup();
    cases
}
