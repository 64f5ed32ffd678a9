//! Strategies in turn, A B C A B C. A shared machine drifts; what one round takes of it, all
//! strategies of the round take alike, so ratios are formed within rounds.

use std::time::Duration;

use super::rig::timed;
use super::{Rig, Trunk};
use crate::analysis::Series;
use crate::backend::{Backend, Tokens};
use crate::case::Case;
use crate::error::Result;
use crate::model::Model;
use crate::record::{Metric, Sample};

/// How long one sample of short steps should last, so that the clock and a stray interrupt do not matter.
pub(super) const SAMPLE: Duration = Duration::from_millis(4);

/// One round of steps of `cases`, which differ in nothing but the strategy: all of them in turn, and
/// in turn again, so that each is also compared with itself.
/// elapsed = Σ (feed + synchronize); copies are outside. A device with a clock of its own is asked for the
/// time of as many steps more.
pub fn round<B: Backend>(
    arms: &[Arm<'_, B>],
    round: u32,
    mut keep: impl FnMut(&Sample) -> Result<()>,
) -> Result<()> {
    for turn in order(arms.len(), round) {
        let Arm { case, trunk, iters } = &arms[turn];
        let elapsed = trunk.time_steps(*iters)?;
        keep(&Sample::value(*case, Metric::StepNs, round, *iters, elapsed.as_nanos() as u64))?;
        if let Some(elapsed) = trunk.time_steps_on_device(*iters)? {
            keep(&Sample::value(*case, Metric::StepDeviceNs, round, *iters, elapsed.as_nanos() as u64))?;
        }
    }
    Ok(())
}

/// `rounds` rounds of a case against itself, as of two cases: nanoseconds of one step with their rounds,
/// for each. What [`crate::analysis::compare`] makes of the two, it makes of noise.
pub fn against_itself<B: Backend>(rig: &Rig<B>, case: &Case, rounds: u32) -> Result<[Series; 2]> {
    let arms = [Arm::new(rig, case)?, Arm::new(rig, case)?];
    let mut series = [Series::default(), Series::default()];
    for round in 1..=rounds {
        for turn in order(arms.len(), round) {
            let Arm { trunk, iters, .. } = &arms[turn];
            let elapsed = trunk.time_steps(*iters)?;
            series[turn].samples.push((round, elapsed.as_nanos() as f64 / *iters as f64));
        }
    }
    Ok(series)
}

/// All in turn, and in turn again. Who begins changes from round to round, and every second round
/// runs backwards: nobody always follows the same one.
pub(super) fn order(arms: usize, round: u32) -> impl Iterator<Item = usize> {
    let turn = move |turn: usize| match round % 2 {
        0 => (turn + round as usize) % arms,
        _ => (2 * arms - 1 - turn + round as usize) % arms,
    };
    (0..2 * arms).map(turn)
}

/// One round of prefills: each case's whole sequence absorbed in one call by an empty session.
/// elapsed = feed + synchronize; opening the session is outside.
pub fn prefill_round<B: Backend>(
    rig: &Rig<B>,
    cases: &[Case],
    round: u32,
    mut keep: impl FnMut(&Sample) -> Result<()>,
) -> Result<()> {
    for turn in order(cases.len(), round) {
        let case = &cases[turn];
        let prompt = Tokens::given(case.batch, 0, case.position, rig.model.vocab());
        let elapsed = timed(&rig.backend, &mut rig.session(case)?, &prompt)?;
        keep(&Sample::value(*case, Metric::PrefillNs, round, 1, elapsed.as_nanos() as u64))?;
    }
    Ok(())
}

/// A case ready to be timed in turn with others.
pub struct Arm<'a, B: Backend> {
    case: Case,
    trunk: Trunk<'a, B>,
    /// Steps in a sample.
    iters: u64,
}

impl<'a, B: Backend> Arm<'a, B> {
    pub fn new(rig: &'a Rig<B>, case: &Case) -> Result<Arm<'a, B>> {
        let trunk = rig.trunk(case)?;
        Ok(Arm { case: *case, iters: iters(&trunk)?, trunk })
    }
}

/// Steps in a sample. The steps that find it out are the warm-up, at the shape and depth measured.
fn iters<B: Backend>(trunk: &Trunk<'_, B>) -> Result<u64> {
    trunk.settle()?;
    let one = trunk.time_steps(2)? / 2;
    Ok((SAMPLE.as_nanos() / one.as_nanos().max(1)).clamp(1, 1000) as u64)
}
