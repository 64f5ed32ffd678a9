//! The exact pass: work and memory of one step, counted. Deterministic, so once is enough.

use super::Rig;
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Metered, Work};
use crate::case::Case;
use crate::cost::Step;
use crate::error::{Error, Result};
use crate::record::{LedgerRow, Metric, Sample};

/// What the exact pass found out about one case.
pub struct Exact {
    pub samples: Vec<Sample>,
    pub ledger: Vec<LedgerRow>,
}

/// Counts the step of a case, after one untimed step of the same shape that warms the scratch pool.
pub fn count(rig: &Rig<Metered<Cpu>>, case: &Case) -> Result<Exact> {
    let (b, trunk) = (&rig.backend, rig.trunk(case)?);
    trunk.fork()?.feed(trunk.next())?;
    let mut session = trunk.fork()?;
    let kept_by_others = b.meter().kept_bytes() - session.cache().allocated_bytes(b);
    b.meter().reset_peaks();
    let before = b.meter().work();
    let logits = session.feed(trunk.next())?;
    let work = b.meter().work() - before;
    let step = Step::of(case)?;
    let bytes = [
        (Metric::CacheLiveBytes, session.cache().live_bytes(b), Some(step.live_bytes())),
        (Metric::CacheAllocatedBytes, session.cache().allocated_bytes(b), Some(step.allocated_bytes())),
        (Metric::CachePeakBytes, b.meter().kept_peak_bytes() - kept_by_others, Some(step.kept_peak_bytes())),
        (Metric::TransientPeakBytes, b.meter().peak_bytes() - kept_by_others, None),
    ];
    drop(logits);
    let predicted = step.work();
    let rows =
        bytes.map(|(metric, counted, predicted)| (metric, counted as u64, predicted.map(|p| p as u64)));
    let rows = rows.into_iter().chain(ledger(&work, &predicted));
    let (mut samples, mut ledger) = (Vec::new(), Vec::new());
    for (metric, counted, predicted) in rows {
        samples.push(Sample::value(*case, metric, 0, 1, counted));
        ledger.push(LedgerRow { case: *case, metric, counted, predicted });
    }
    Ok(Exact { samples, ledger })
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
    use crate::measure::Settings;

    #[test]
    fn every_case_does_the_work_it_is_named_for() {
        for case in crate::suite::select(Some("tiny")).unwrap() {
            let settings = Settings { threads: 1, ..Settings::default() };
            let rig = Rig::metered(case.model, case.shape, &settings).unwrap();
            let exact = count(&rig, &case).unwrap();
            check(&exact.ledger).unwrap();
            let live = exact.samples.iter().find(|s| s.metric == Metric::CacheLiveBytes).unwrap();
            assert_eq!(live.value == Some(0), !case.strategy.remembers(), "{case}");
        }
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
