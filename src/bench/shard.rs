//! One shard of a plan: what `cargo bench` measures of its cases, without criterion's samples and without
//! cold starts.
//!
//! A device's error ends the attempt: what was taken is kept, and another attempt may find a better machine.

use std::time::Duration;

use super::memory::{count, COUNTED};
use super::step::{in_turn, leave_out_unequal, prefills, whole_decodes, DECODES, STEPS};
use crate::backend::Backend;
use crate::case::Case;
use crate::error::Result;
use crate::measure::equality::gate;
use crate::measure::exact::Counter;
use crate::measure::{ceilings, say, Budget, Fixture, Machines, Record, Settings};
use crate::on_backend;
use crate::shard::CaseGroup;
use crate::suite::same_fixture;

/// Counts all groups and then times them, models loaded once for each. The cases on a GPU may take `limit`
/// together, a tenth of it to be counted; those that no time is left for are named at the end.
pub fn measure(
    groups: &[CaseGroup],
    machines: &Machines,
    settings: &Settings,
    record: &mut Record,
    limit: Option<Duration>,
) -> Result<()> {
    let fixtures: Vec<&[CaseGroup]> =
        groups.chunk_by(|a, b| same_fixture(&a.cases[0], &b.cases[0])).collect();
    let cases = |groups: &[CaseGroup]| -> Vec<Case> { groups.iter().flat_map(|g| g.cases.clone()).collect() };
    let counting = Budget::of(limit.map(|limit| limit / 10));
    for cases in fixtures.iter().map(|groups| cases(groups)).filter(|cases| counting.admits(cases, COUNTED)) {
        on_backend!(machines, cases[0].backend, |b| {
            let counter = Counter::new(b, &cases[0], machines, settings.seed)?;
            count(&counter, &cases, Some(&mut *record), &counting)?;
        });
    }
    record.left_out(&counting, &[COUNTED])?;
    let timing = Budget::of(limit.map(|limit| limit * 9 / 10));
    for groups in fixtures.into_iter().filter(|groups| timing.admits(&cases(groups), STEPS)) {
        let (name, backend) = (groups[0].cases[0].model_name(), groups[0].cases[0].backend);
        say(format_args!("{name} on {backend}: {} groups of cases", groups.len()));
        on_backend!(machines, backend, |b| {
            let fixture = Fixture::load(b, name, settings.seed)?;
            ceilings::measure(record, &groups[0].cases[0], machines)?;
            groups.iter().try_for_each(|group| time(&fixture, group, settings, record, &timing))?;
            ceilings::measure(record, &groups[0].cases[0], machines)?;
        });
    }
    record.left_out(&timing, &[STEPS, DECODES])
}

fn time<B: Backend>(
    fixture: &Fixture<B>,
    group: &CaseGroup,
    settings: &Settings,
    record: &mut Record,
    budget: &Budget,
) -> Result<()> {
    let (mut decodes, stop) = (group.decodes.clone(), settings.stop);
    let timed = budget.spend(&group.cases, STEPS, |left| {
        let equal = gate(fixture, &group.cases, Some(record))?;
        leave_out_unequal(&mut decodes, &group.cases, &equal);
        in_turn(fixture, &equal, &stop.within(left), record)?;
        prefills(fixture, &equal, &settings.prefill_chunks, record)
    });
    timed.unwrap_or(Ok(()))?;
    whole_decodes(fixture, &decodes, &stop, record, budget)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Environment;
    use crate::shard::Plan;

    /// Without any time no device is asked for; every case is named twice, for its steps and for their work.
    #[test]
    fn what_no_time_is_left_for_is_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { threads: 1, results: folder.path().into(), ..Settings::default() };
        let (machines, plan) = (Machines::new(&settings), Plan::new(Some("tiny/padded/cuda"), 1).unwrap());
        let mut record = Record::open(&settings, Environment::collect(1, 1)).unwrap();
        let measure = |record: &mut Record| {
            measure(plan.groups(1), &machines, &settings, record, Some(Duration::ZERO)).unwrap();
            record.writer.environment().gpu.clone().unwrap().left_out
        };
        let left_out = measure(&mut record);
        let cases: usize = plan.groups(1).iter().map(|group| group.cases.len()).sum();
        assert_eq!(left_out.len(), 2 * cases);
        assert!(left_out[0].ends_with(": work and memory counted"), "{left_out:?}");
        assert!(left_out.contains(&"transformer-tiny/padded/cuda/b1/t16: steps".to_string()), "{left_out:?}");
        assert_eq!(measure(&mut record), left_out, "a run that goes on says it anew, and not once more");
    }
}
