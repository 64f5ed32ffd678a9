//! One shard of a plan: what `cargo bench` measures of its cases, without criterion's samples and without
//! cold starts.
//!
//! A device's error ends the attempt: what was taken is kept, and another attempt may find a better machine.

use super::bench::memory::count;
use super::bench::step::{in_turn, prefills, whole_decodes};
use super::equality::gate;
use super::exact::Counter;
use super::{ceilings, Enough, Machines, Record, Rig, Settings};
use crate::backend::Backend;
use crate::case::Case;
use crate::error::Result;
use crate::on_backend;
use crate::shard::Group;
use crate::suite::same_rig;

/// Counts and times every group, models loaded once.
pub fn measure(
    groups: &[Group],
    machines: &Machines,
    settings: &Settings,
    record: &mut Record,
) -> Result<()> {
    for groups in groups.chunk_by(|a, b| same_rig(&a.cases[0], &b.cases[0])) {
        let Case { model, shape, backend, .. } = groups[0].cases[0];
        eprintln!("{model}-{shape} on {backend}: {} groups of cases", groups.len());
        on_backend!(machines, backend, |b| {
            let counter = Counter::new(b, &groups[0].cases[0], machines, settings.seed)?;
            groups.iter().try_for_each(|group| count(&counter, &group.cases, Some(&mut *record)))?;
        });
        on_backend!(machines, backend, |b| {
            let rig = Rig::load(b, model, shape, settings.seed)?;
            ceilings::measure(record, &groups[0].cases[0], machines)?;
            groups.iter().try_for_each(|group| time(&rig, group, &settings.enough, record))?;
            ceilings::measure(record, &groups[0].cases[0], machines)?;
        });
    }
    Ok(())
}

fn time<B: Backend>(rig: &Rig<B>, group: &Group, enough: &Enough, record: &mut Record) -> Result<()> {
    let equal = gate(rig, &group.cases, Some(record))?;
    in_turn(rig, &equal, enough, record)?;
    prefills(rig, &equal, record)?;
    whole_decodes(rig, &group.decodes, record)
}
