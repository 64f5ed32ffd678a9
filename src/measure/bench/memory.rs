//! The exact pass, without criterion: a value without variance breaks its statistics.

use super::{Bench, Mode};
use crate::error::Result;
use crate::measure::{exact, Rig};
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
        for case in bench.groups(model).iter().flatten() {
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
    println!("counted the work and the memory of {} cases; all as their closed forms say", bench.cases.len());
    record.map_or(Ok(()), |record| record.writer.finish())
}
