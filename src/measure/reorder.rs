//! A batch put into another order, as a beam search does before each step, and the step that follows.
//!
//! What a strategy keeps has to be moved; what it recomputes has not, nor a source that beams share. The
//! order is the same for all: each entry of the batch's second half goes on twice, and the first half is
//! dropped.

use std::time::{Duration, Instant};

use super::fixture::timed;
use super::interleaved::{self, SAMPLE};
use super::{Fixture, Prefilled};
use crate::backend::{Backend, Metered};
use crate::case::Case;
use crate::cost::Step;
use crate::error::Result;
use crate::record::{LedgerRow, Metric, Round, Sample};

/// A case whose entries are beams, ready to be timed in turn with others.
pub struct Beams<'a, B: Backend> {
    /// Its batch is the number of beams.
    pub case: Case,
    backend: &'a B,
    prefilled: Prefilled<'a, B>,
    order: Vec<usize>,
    /// Reorders in a sample.
    iters: u64,
}

impl<'a, B: Backend> Beams<'a, B> {
    /// The reorders that find out how many make a sample are the warm-up, at the shape and depth measured.
    pub fn new(fixture: &'a Fixture<B>, case: &Case) -> Result<Beams<'a, B>> {
        let (backend, prefilled, order) = (&fixture.backend, fixture.beams(case)?, order(case.batch));
        let mut beams = Beams { case: *case, backend, prefilled, order, iters: 2 };
        beams.time()?;
        let [reorder, step] = beams.time()?.map(|elapsed| elapsed.as_nanos() / u128::from(beams.iters));
        beams.iters = (SAMPLE.as_nanos() / (reorder + step).max(1)).clamp(1, 1000) as u64;
        Ok(beams)
    }

    /// elapsed = Σ (reorder + synchronize), and Σ (feed + synchronize) of the steps that follow. Copying the
    /// session and dropping it are outside.
    fn time(&self) -> Result<[Duration; 2]> {
        let [mut reorders, mut steps] = [Duration::ZERO; 2];
        for _ in 0..self.iters {
            let mut copy = self.prefilled.fork()?;
            self.backend.synchronize()?;
            let start = Instant::now();
            copy.reorder(&self.order)?;
            self.backend.synchronize()?;
            reorders += start.elapsed();
            steps += timed(self.backend, &mut copy, self.prefilled.next())?;
        }
        Ok([reorders, steps])
    }
}

/// The entry that each entry continues.
fn order(batch: usize) -> Vec<usize> {
    (0..batch).map(|entry| batch - 1 - entry / 2).collect()
}

/// One round of beams that differ in nothing but the strategy, in turn and in turn again.
pub fn round<B: Backend>(
    beams: &[Beams<'_, B>],
    round: u32,
    mut keep: impl FnMut(&Sample) -> Result<()>,
) -> Result<()> {
    for turn in interleaved::order(beams.len(), round) {
        let Beams { case, iters, .. } = beams[turn];
        for (metric, elapsed) in
            [Metric::ReorderNs, Metric::ReorderedStepNs].into_iter().zip(beams[turn].time()?)
        {
            keep(&Sample::value(case, metric, Round::Interleaved(round), iters, elapsed.as_nanos() as u64))?;
        }
    }
    Ok(())
}

/// What the meter counts of one reorder, beside its closed form: all that is kept is read and written once.
pub fn count<B: Backend>(fixture: &Fixture<Metered<B>>, case: &Case) -> Result<LedgerRow> {
    let mut session = fixture.beams(case)?.fork()?;
    let before = fixture.backend.meter().work();
    session.reorder(&order(case.batch))?;
    let counted = (fixture.backend.meter().work() - before).copied_bytes;
    let predicted = match case.position {
        1 => None,
        position => {
            let step = Step::of(&case.at(position - 1))?;
            Some(2 * (step.allocated_bytes() - step.source_bytes()) as u64)
        }
    };
    Ok(LedgerRow { case: *case, metric: Metric::ReorderBytes, counted, predicted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::case::{BackendName, ModelKind, ModelName, ShapeName};
    use crate::strategy::Strategy;

    #[test]
    fn a_reorder_reads_and_writes_what_is_kept_once() {
        for &model in ModelKind::ALL {
            let name = ModelName::f32(model, ShapeName::Tiny);
            let fixture = Fixture::load(Metered(Cpu::new(1).unwrap()), name, 1).unwrap();
            for &strategy in Strategy::examples().iter().filter(|&&strategy| model.supports(strategy)) {
                for (batch, position) in [(2, 2), (5, 17)] {
                    let case = name.case(strategy, BackendName::Cpu, batch, position);
                    let LedgerRow { counted, predicted, .. } = count(&fixture, &case).unwrap();
                    assert_eq!(Some(counted), predicted, "{case}");
                    assert_eq!(counted == 0, !strategy.remembers(), "{case}");
                }
            }
        }
    }

    #[test]
    fn half_of_the_beams_go_on_twice() {
        assert_eq!(order(2), [1, 1]);
        assert_eq!(order(4), [3, 3, 2, 2]);
        assert_eq!(order(5), [4, 4, 3, 3, 2]);
    }
}
