//! The exact pass: work and memory of one step, counted. Deterministic, so once is enough.

use super::equality::Checker;
use super::{Machines, Rig};
use crate::backend::cuda::Cuda;
use crate::backend::{Backend, Metered, Work};
use crate::case::Case;
use crate::cost::Step;
use crate::error::{Error, Result};
use crate::record::{EqualityRow, LedgerRow, Metric, Sample};

/// What the exact pass found out about one case.
pub struct Exact {
    pub samples: Vec<Sample>,
    pub ledger: Vec<LedgerRow>,
}

/// Counts the cases of one model on one backend.
pub struct Counter<B: Backend> {
    rig: Rig<Metered<B>>,
    /// Where steps are replayed, which a metered backend never does: the same as it is timed.
    replayed: Option<Rig<Cuda>>,
}

impl<B: Backend> Counter<B> {
    /// For cases on the rig of `case`, whose backend is `b`.
    pub fn new(b: B, case: &Case, machines: &Machines, seed: u64) -> Result<Counter<B>> {
        let Case { model, shape, backend, .. } = *case;
        let replayed = match b.replays() {
            true => Some(Rig::load(machines.cuda(backend)?, model, shape, seed)?),
            false => None,
        };
        Ok(Counter { rig: Rig::load(Metered(b), model, shape, seed)?, replayed })
    }

    /// Holds cases against naive, as they are timed.
    pub fn checker(&self) -> Box<dyn FnMut(&Case) -> EqualityRow + '_> {
        match &self.replayed {
            Some(rig) => {
                let mut checker = Checker::new(rig);
                Box::new(move |case| checker.check(case))
            }
            None => {
                let mut checker = Checker::new(&self.rig);
                Box::new(move |case| checker.check(case))
            }
        }
    }

    /// Counts the step of a case, after untimed steps of the same shape that warm the scratch pool.
    pub fn count(&self, case: &Case) -> Result<Exact> {
        let (b, trunk) = (&self.rig.backend, self.rig.trunk(case)?);
        trunk.fork()?.feed(trunk.next())?;
        let mut session = trunk.fork()?;
        let kept_by_others = b.meter().kept_bytes() - session.cache().allocated_bytes(b);
        b.meter().reset_peaks();
        let before = b.meter().work();
        let logits = session.feed(trunk.next())?;
        let mut work = b.meter().work() - before;
        if let Some(rig) = &self.replayed {
            let replay = work_of_a_replay(rig, case)?;
            work = Work { launches: replay.launches, host_syncs: replay.host_syncs, ..work };
        }
        let step = Step::of(case)?;
        let (cache, peak) = (session.cache(), b.meter().kept_peak_bytes() - kept_by_others);
        let bytes = [
            (Metric::CacheLiveBytes, cache.live_bytes(b), Some(step.live_bytes())),
            (Metric::CacheAllocatedBytes, cache.allocated_bytes(b), Some(step.allocated_bytes())),
            (Metric::CachePeakBytes, peak, Some(step.kept_peak_bytes())),
            (Metric::TransientPeakBytes, b.meter().peak_bytes() - kept_by_others, None),
        ];
        drop(logits);
        let rows =
            bytes.map(|(metric, counted, predicted)| (metric, counted as u64, predicted.map(|p| p as u64)));
        let rows = rows.into_iter().chain(ledger(&work, &step.work()));
        let (mut samples, mut ledger) = (Vec::new(), Vec::new());
        for (metric, counted, predicted) in rows {
            samples.push(Sample::value(*case, metric, 0, 1, counted));
            ledger.push(LedgerRow { case: *case, metric, counted, predicted });
        }
        if let Some(memory) = b.device_memory()? {
            samples.push(Sample::value(*case, Metric::PoolPeakBytes, 0, 1, memory.pool_peak_bytes));
            samples.push(Sample::value(*case, Metric::DeviceUsedBytes, 0, 1, memory.used_bytes));
        }
        Ok(Exact { samples, ledger })
    }
}

/// What a replay makes the host do.
fn work_of_a_replay(rig: &Rig<Cuda>, case: &Case) -> Result<Work> {
    let trunk = rig.trunk(case)?;
    trunk.settle()?;
    trunk.work_of_a_step()
}

fn ledger(counted: &Work, predicted: &Work) -> [(Metric, u64, Option<u64>); 7] {
    [
        (Metric::StepAllocs, counted.allocs, Some(predicted.allocs)),
        (Metric::StepAllocBytes, counted.alloc_bytes, Some(predicted.alloc_bytes)),
        (Metric::StepCopiedBytes, counted.copied_bytes, Some(predicted.copied_bytes)),
        (Metric::StepReadBytes, counted.read_bytes, Some(predicted.read_bytes)),
        (Metric::StepFlops, counted.flops, Some(predicted.flops)),
        (Metric::StepLaunches, counted.launches, None),
        (Metric::HostSyncs, counted.host_syncs, None),
    ]
}

/// The work counted is the work its strategy is named for.
///
/// # Errors
/// [`Error::Differs`], naming the case, the metric and both numbers.
pub fn check(ledger: &[LedgerRow]) -> Result<()> {
    match ledger.iter().find(|row| row.predicted.is_some_and(|predicted| predicted != row.counted)) {
        None => Ok(()),
        Some(LedgerRow { case, metric, counted, predicted }) => {
            let predicted = predicted.unwrap_or_default();
            Err(Error::Differs(format!(
                "{case}: {metric} is {counted}, and the closed form says {predicted}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::BackendName;
    use crate::measure::Settings;
    use crate::on_backend;

    fn does_the_work_it_is_named_for(backend: BackendName, machines: &Machines) -> Result<()> {
        let cases = crate::suite::select(Some(&format!("-tiny/.*/{backend}/"))).unwrap();
        for cases in cases.chunk_by(crate::suite::same_rig) {
            on_backend!(machines, backend, |b| {
                let counter = Counter::new(b, &cases[0], machines, 1)?;
                for case in cases {
                    let exact = counter.count(case)?;
                    check(&exact.ledger)?;
                    let live = exact.samples.iter().find(|s| s.metric == Metric::CacheLiveBytes).unwrap();
                    assert_eq!(live.value == Some(0), !case.strategy.remembers(), "{case}");
                    assert_eq!(counter.checker()(case).error, None, "{case}");
                }
            })
        }
        Ok(())
    }

    #[test]
    fn every_case_does_the_work_it_is_named_for() {
        let machines = Machines::new(&Settings { threads: 1, ..Settings::default() });
        does_the_work_it_is_named_for(BackendName::Cpu, &machines).unwrap();
    }

    #[test]
    fn every_replayed_case_on_cuda_does_the_work_it_is_named_for() {
        let Some(_) = crate::backend::tests::device() else { return };
        let machines = Machines::new(&Settings { threads: 1, ..Settings::default() });
        does_the_work_it_is_named_for(BackendName::CudaGraph, &machines).unwrap();
    }

    #[test]
    fn a_ledger_that_does_not_balance_is_a_difference() {
        let case = "transformer-tiny/concat/cpu/b1/t16".parse().unwrap();
        let row = |counted, predicted| LedgerRow { case, metric: Metric::StepFlops, counted, predicted };
        assert!(check(&[row(5, Some(5)), row(9, None)]).is_ok());
        let error = check(&[row(5, Some(6))]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(
            error.to_string(),
            "transformer-tiny/concat/cpu/b1/t16: step_flops is 5, and the closed form says 6"
        );
    }
}
