//! The exact pass, without criterion: a value without variance breaks its statistics.

use super::{Bench, Mode};
use crate::cache::Strategy;
use crate::case::Case;
use crate::error::Result;
use crate::measure::{exact, Rig};
use crate::model::capacity;
use crate::record::Metric;

/// Counts the work and the memory of every case, and holds the work against the closed forms.
pub fn memory(bench: &Bench) -> Result<()> {
    if bench.mode == Mode::List {
        return Ok(()); // the ids are those of `step`
    }
    let mut record = bench.open()?;
    for model in bench.models() {
        eprintln!("counting the steps of {}-{}", model.0, model.1);
        let rig = Rig::metered(model.0, model.1, &bench.settings)?;
        let cases =
            if record.is_some() { curves(&bench.groups(model)) } else { bench.groups(model).concat() };
        for case in &cases {
            if record.as_ref().is_some_and(|record| record.done.done(case, Metric::CacheLiveBytes) > 0) {
                continue;
            }
            let exact = exact::count(&rig, case)?;
            exact::check(&exact.ledger)?;
            if let Some(record) = &mut record {
                exact.samples.iter().try_for_each(|sample| record.writer.sample(sample))?;
                exact.ledger.iter().try_for_each(|row| record.writer.ledger(row))?;
            }
        }
    }
    println!("counted the work and the memory of every case; all as their closed forms say");
    Ok(()) // the run is finished by `step`, the last of the three
}

/// The cases, and each strategy at the powers of two besides: counting costs little, and memory is
/// a curve over positions.
fn curves(groups: &[Vec<Case>]) -> Vec<Case> {
    let mut cases: Vec<Case> = groups.iter().flatten().copied().collect();
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
