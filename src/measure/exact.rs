//! The exact pass: work and memory of one step, counted. Deterministic, so once is enough.

use super::equality::Checker;
use super::{Fixture, Machines};
use crate::backend::cuda::Cuda;
use crate::backend::{Backend, Metered, Work};
use crate::case::Case;
use crate::cost::Step;
use crate::error::{Error, Result};
use crate::record::{EqualityRow, LedgerRow, Metric, Round, Sample};

/// What the exact pass found out about one case.
pub struct Exact {
    /// Counts that are the same in every sample.
    pub samples: Vec<Sample>,
    /// Counts beside their closed forms.
    pub ledger: Vec<LedgerRow>,
}

/// Counts the cases of one model on one backend.
pub struct Counter<B: Backend> {
    fixture: Fixture<Metered<B>>,
    /// Where steps are replayed, which a metered backend never does: the same as it is timed.
    replayed: Option<Fixture<Cuda>>,
}

impl<B: Backend> Counter<B> {
    /// For cases on the fixture of `case`, whose backend is `b`.
    pub fn new(b: B, case: &Case, machines: &Machines, seed: u64) -> Result<Counter<B>> {
        let name = case.model_name();
        let replayed = match b.replays() {
            true => Some(Fixture::load(machines.cuda(case.backend)?, name, seed)?),
            false => None,
        };
        Ok(Counter { fixture: Fixture::load(Metered(b), name, seed)?, replayed })
    }

    /// Holds cases against naive, as they are timed.
    pub fn checker(&self) -> Box<dyn FnMut(&Case) -> EqualityRow + '_> {
        match &self.replayed {
            Some(fixture) => {
                let mut checker = Checker::new(fixture);
                Box::new(move |case| checker.check(case))
            }
            None => {
                let mut checker = Checker::new(&self.fixture);
                Box::new(move |case| checker.check(case))
            }
        }
    }

    /// Counts the step of a case, after untimed steps of the same shape that warm the scratch pool.
    pub fn count(&self, case: &Case) -> Result<Exact> {
        let (b, prefilled) = (&self.fixture.backend, self.fixture.prefilled(case)?);
        for _ in 0..2 {
            prefilled.fork()?.feed(prefilled.next())?; // the second finds what the first gave back
        }
        let mut session = prefilled.fork()?;
        let kept_by_others = b.meter().kept_bytes() - session.cache().allocated_bytes(b);
        b.meter().reset_peaks();
        let before = b.meter().work();
        let logits = session.feed(prefilled.next())?;
        let mut work = b.meter().work() - before;
        let mut kernels = None;
        if let Some(fixture) = &self.replayed {
            let replay = work_of_a_replay(fixture, case)?;
            kernels = Some((Metric::StepKernels, work.launches, None));
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
        let rows = rows.into_iter().chain(ledger(&work, &step.work())).chain(kernels);
        let (mut samples, mut ledger) = (Vec::new(), Vec::new());
        for (metric, counted, predicted) in rows {
            samples.push(Sample::value(*case, metric, Round::Single, 1, counted));
            ledger.push(LedgerRow { case: *case, metric, counted, predicted });
        }
        if let Some(memory) = b.device_memory()? {
            samples.push(Sample::value(
                *case,
                Metric::PoolPeakBytes,
                Round::Single,
                1,
                memory.pool_peak_bytes,
            ));
            samples.push(Sample::value(*case, Metric::DeviceUsedBytes, Round::Single, 1, memory.used_bytes));
        }
        Ok(Exact { samples, ledger })
    }
}

/// What a replay makes the host do.
fn work_of_a_replay(fixture: &Fixture<Cuda>, case: &Case) -> Result<Work> {
    let prefilled = fixture.prefilled(case)?;
    prefilled.warm_up()?;
    prefilled.work_of_a_step()
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
    use std::cell::RefCell;

    use super::*;
    use crate::backend::cpu::{Cpu, Tensor};
    use crate::cache::Cache;
    use crate::case::BackendName;
    use crate::measure::Settings;
    use crate::model::{capacity, AnyModel, Model};
    use crate::on_backend;
    use crate::session::Session;
    use crate::strategy::{Slot, Strategy};

    fn does_the_work_it_is_named_for(backend: BackendName, machines: &Machines) -> Result<()> {
        let cases = crate::suite::select(Some(&format!("-tiny/.*/{backend}/"))).unwrap();
        for cases in cases.chunk_by(crate::suite::same_fixture) {
            on_backend!(machines, backend, |b| {
                let counter = Counter::new(b, &cases[0], machines, 1)?;
                for case in cases {
                    let exact = counter.count(case)?;
                    check(&exact.ledger)?;
                    let live = exact.samples.iter().find(|s| s.metric == Metric::CacheLiveBytes).unwrap();
                    let keeps = case.strategy.remembers() || case.model.has_source(); // the encoder's output
                    assert_eq!(live.value == Some(0), !keeps, "{case}");
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

    /// What a cache can do wrong without a wrong logit.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        /// Everything is computed anew behind a cache's back.
        CacheNotUsed,
        /// A weight is laid out again at every step, as fairseq's linearized convolution does without its buffer.
        Relinearised,
        /// The rows kept are put together again at every step.
        Restacked,
    }

    /// A model with a fault.
    struct Faulty<'a> {
        inner: &'a AnyModel<Metered<Cpu>>,
        fault: Fault,
        seen: RefCell<Vec<u32>>,
    }

    impl Model<Metered<Cpu>> for Faulty<'_> {
        fn slots(&self) -> Vec<Slot> {
            self.inner.slots()
        }
        fn vocab(&self) -> usize {
            self.inner.vocab()
        }
        fn max_positions(&self) -> Option<usize> {
            self.inner.max_positions()
        }
        fn extend(&self, b: &Metered<Cpu>, cache: &mut Cache<Metered<Cpu>>) -> Result<Tensor> {
            let call = cache.context(b).call();
            let mut seen = self.seen.borrow_mut();
            seen.truncate(call.at);
            seen.extend(&call.tokens);
            let logits = self.inner.extend(b, cache)?;
            match self.fault {
                Fault::None => Ok(logits),
                Fault::CacheNotUsed => {
                    let n = seen.len();
                    let mut fresh = Cache::new(b, Strategy::Naive, &self.slots(), 1, cache.capacity())?;
                    fresh.stage(b, n, n - 1, |_, row| seen[row])?;
                    self.inner.extend(b, &mut fresh)
                }
                Fault::Relinearised => b.zeros([1, 24, 96]).and_then(|w| b.duplicate(&w)).map(|_| logits),
                Fault::Restacked => {
                    let rows = b.zeros([1, cache.len() + 1, 32])?;
                    b.grow(&rows, cache.len() + 2).map(|_| logits)
                }
            }
        }
    }

    /// The ledger of one step of the case under a fault, and the step's logits.
    fn faulty(case: &Case, fault: Fault) -> (Result<()>, Vec<f32>) {
        let fixture = Fixture::load(Metered(Cpu::new(1).unwrap()), case.model_name(), 1).unwrap();
        let model = Faulty { inner: &fixture.model, fault, seen: RefCell::default() };
        let b = &fixture.backend;
        let mut session =
            Session::open(b, &model, case.strategy, 1, capacity(case.model, case.shape)).unwrap();
        let mut step = |position| {
            let before = b.meter().work();
            let logits = session.feed(&fixture.token(1, position)).unwrap();
            (b.meter().work() - before, b.download(&logits).unwrap())
        };
        (1..case.position).for_each(|position| drop(step(position)));
        let (work, logits) = step(case.position);
        let rows = ledger(&work, &Step::of(case).unwrap().work());
        let row = |(metric, counted, predicted)| LedgerRow { case: *case, metric, counted, predicted };
        (check(&rows.map(row)), logits)
    }

    /// Right logits are no proof that a cache did the work; the ledger is.
    #[test]
    fn faults_that_leave_the_logits_right_are_caught_by_the_ledger() {
        for case in ["transformer-tiny/padded/cpu/b1/t16", "transformer-tiny/concat/cpu/b1/t16"] {
            let case: Case = case.parse().unwrap();
            let (sound, want) = faulty(&case, Fault::None);
            sound.unwrap();
            for fault in [Fault::CacheNotUsed, Fault::Relinearised, Fault::Restacked] {
                let (caught, got) = faulty(&case, fault);
                let close = got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-4);
                assert!(close, "{case} {fault:?}: the logits alone do not show it");
                assert!(matches!(caught, Err(Error::Differs(_))), "{case} {fault:?}: {caught:?}");
            }
        }
    }
}
