//! What this machine makes of equals: a case against itself, and one step timed in every way that there is.

use std::time::Duration;

use super::interleaved::order;
use super::trace::Decode;
use super::Fixture;
use crate::analysis::{window, Series};
use crate::backend::Backend;
use crate::case::Case;
use crate::error::Result;
use crate::record::{Round, STEP_WINDOW};

/// `rounds` rounds of a case against itself, as of two cases: nanoseconds of one step with their rounds,
/// for each. What [`crate::analysis::compare`] makes of the two, it makes of noise.
pub fn against_itself<B: Backend>(fixture: &Fixture<B>, case: &Case, rounds: u32) -> Result<[Series; 2]> {
    let decodes = [Decode::end(fixture, *case)?, Decode::end(fixture, *case)?];
    let mut series = [Series::default(), Series::default()];
    for round in 1..=rounds {
        for turn in order(decodes.len(), round).take(decodes.len()) {
            add(&mut series[turn], round, &decodes[turn].steps()?, case);
        }
    }
    Ok(series)
}

/// One case's step, taken in each of the ways in which tables and verbs take it.
pub struct Ways {
    /// Of which.
    pub case: Case,
    /// In a whole decode: findings, curves, and tables where whole decodes pass.
    pub whole: Series,
    /// At the [end of a decode](Decode::end): tables elsewhere, `step-time`.
    pub end: Series,
    /// From copies of a session: criterion, and no table of the CPU.
    pub copy: Series,
}

/// So many rounds of all cases, strategies in turn, and of each all ways, beginning with another in every round.
pub fn ways<B: Backend>(fixture: &Fixture<B>, cases: &[Case], rounds: u32) -> Result<Vec<Ways>> {
    let mut cases = cases.to_vec();
    cases.sort(); // by strategy, then position
    let ways = |&case: &Case| Ways {
        case,
        whole: Series::default(),
        end: Series::default(),
        copy: Series::default(),
    };
    let mut found: Vec<Ways> = cases.iter().map(ways).collect();
    let mut strategies: Vec<&mut [Ways]> =
        found.chunk_by_mut(|a, b| a.case.strategy == b.case.strategy).collect();
    for round in 1..=rounds {
        for turn in order(strategies.len(), round).take(strategies.len()) {
            let of_strategy = &mut *strategies[turn];
            for way in order(3, round).take(3) {
                match way {
                    0 => whole(fixture, of_strategy, round)?,
                    1 => ends(fixture, of_strategy, round)?,
                    _ => copies(fixture, of_strategy, round)?,
                }
            }
        }
    }
    Ok(found)
}

fn whole<B: Backend>(fixture: &Fixture<B>, found: &mut [Ways], round: u32) -> Result<()> {
    let Some(longest) = found.last().map(|ways| ways.case) else { return Ok(()) };
    let steps = Decode::whole(fixture, longest).steps()?;
    found.iter_mut().for_each(|Ways { case, whole, .. }| add(whole, round, &steps, case));
    Ok(())
}

fn ends<B: Backend>(fixture: &Fixture<B>, found: &mut [Ways], round: u32) -> Result<()> {
    for Ways { case, end, .. } in found {
        add(end, round, &Decode::end(fixture, *case)?.steps()?, case);
    }
    Ok(())
}

/// As many as the others have steps.
fn copies<B: Backend>(fixture: &Fixture<B>, found: &mut [Ways], round: u32) -> Result<()> {
    for Ways { case, copy, .. } in found {
        let prefilled = fixture.prefilled(case)?;
        prefilled.warm_up()?;
        for _ in window(case, STEP_WINDOW) {
            add(copy, round, &[(case.position, prefilled.time_steps(1)?)], case);
        }
    }
    Ok(())
}

/// Of the steps of a decode, those that are the case's figure.
fn add(series: &mut Series, round: u32, steps: &[(usize, Duration)], case: &Case) {
    let window = window(case, STEP_WINDOW);
    let mine = steps.iter().filter(|(position, _)| window.contains(position));
    series.samples.extend(mine.map(|(_, elapsed)| (Round::Decode(round), elapsed.as_nanos() as f64)));
}
