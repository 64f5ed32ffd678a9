//! What the cases of a GPU may take together. They are measured in the order of the suite, which is that of
//! importance, and those that no time is left for are named.
//!
//! The time of a case is not known before it was measured. So none is begun that would, if it took as long as
//! the longest of its kind so far, end too late; whoever does the work is told what is left, and ends by then.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::case::Case;

/// What time is left for a GPU's cases, and which of them were left out.
pub struct Budget {
    /// From the first of the GPU's cases on; `None`: without end.
    limit: Option<Duration>,
    began: Cell<Option<Duration>>,
    longest: RefCell<HashMap<&'static str, Duration>>,
    left_out: RefCell<Vec<String>>,
    now: Box<dyn Fn() -> Duration>,
}

impl Budget {
    /// So much time from the first of them on; `None`: without end.
    pub fn of(limit: Option<Duration>) -> Budget {
        let start = Instant::now();
        Budget::by_clock(limit, move || start.elapsed())
    }

    fn by_clock(limit: Option<Duration>, now: impl Fn() -> Duration + 'static) -> Budget {
        let (began, longest, left_out) = Default::default();
        Budget { limit, began, longest, left_out, now: Box::new(now) }
    }

    /// Does the work on cases that are measured together and tells it what time there is, if there is any that
    /// counts; or else, if they are a GPU's and come too late, leaves them out. `kind` says in a word what is done
    /// with them.
    pub(crate) fn spend<R>(
        &self,
        cases: &[Case],
        kind: &'static str,
        work: impl FnOnce(Option<Duration>) -> R,
    ) -> Option<R> {
        let Some(left) = self.left(cases) else { return Some(work(None)) };
        let expected = self.longest.borrow().get(kind).copied().unwrap_or_default();
        if left.is_zero() || left < expected {
            self.leave_out(cases, kind);
            return None;
        }
        let start = (self.now)();
        let done = work(Some(left));
        let elapsed = (self.now)() - start;
        self.longest.borrow_mut().insert(kind, expected.max(elapsed));
        Some(done)
    }

    /// Whether there is time to make ready for these cases; if not, they are left out.
    pub(crate) fn admits(&self, cases: &[Case], kind: &'static str) -> bool {
        let admitted = self.left(cases).is_none_or(|left| !left.is_zero());
        if !admitted {
            self.leave_out(cases, kind);
        }
        admitted
    }

    /// The time that is left for these cases; `None`: it does not count.
    fn left(&self, cases: &[Case]) -> Option<Duration> {
        let limit = self.limit.filter(|_| cases.iter().any(|case| case.backend.is_cuda()))?;
        let began = self.began.get().unwrap_or_else(&self.now);
        self.began.set(Some(began));
        Some(limit.saturating_sub((self.now)() - began))
    }

    fn leave_out(&self, cases: &[Case], kind: &'static str) {
        self.left_out.borrow_mut().extend(cases.iter().map(|case| format!("{case}: {kind}")));
    }

    /// What no time was left for, as `transformer-gpt2/padded/cuda/b1/t64: steps`.
    pub(crate) fn left_out(&self) -> Vec<String> {
        self.left_out.borrow().clone()
    }

    /// What no time was left for, in words; `None` if nothing was left out.
    pub fn said(&self) -> Option<String> {
        let left_out = self.left_out.borrow();
        let seconds = self.limit.filter(|_| !left_out.is_empty())?.as_secs();
        Some(format!(
            "the {seconds} s for cases on a GPU were spent before these, which --budget gives more time or a filter names:\n  {}",
            left_out.join("\n  ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::case::BackendName;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn cases(count: usize, backend: BackendName) -> Vec<Case> {
        let case: Case = "transformer-toy/padded/cuda/b1/t1".parse().unwrap();
        (1..=count).map(|position| Case { backend, ..case.at(position) }).collect()
    }

    /// Cases that take so many seconds each, or what is left, by a clock that they alone move: what was spent,
    /// and who came to it.
    fn spent(limit: Option<u64>, costs: &[u64], backend: BackendName) -> (u64, Vec<Case>, Budget) {
        let clock = Rc::new(Cell::new(Duration::from_secs(1000)));
        let hand = clock.clone();
        let budget = Budget::by_clock(limit.map(Duration::from_secs), move || hand.get());
        let (mut total, mut kept) = (0, Vec::new());
        for (case, &cost) in cases(costs.len(), backend).iter().zip(costs) {
            budget.spend(std::slice::from_ref(case), "steps", |left| {
                let cost = left.map_or(cost, |left| cost.min(left.as_secs()));
                clock.set(clock.get() + Duration::from_secs(cost));
                total += cost;
                kept.push(*case);
            });
        }
        (total, kept, budget)
    }

    proptest! {
        /// Whatever they cost: the first are kept, they fit, and every other one is named.
        #[test]
        fn the_first_are_kept_and_all_others_named(
            limit in 0u64..300, costs in proptest::collection::vec(1u64..60, 0..20),
        ) {
            let (total, kept, budget) = spent(Some(limit), &costs, BackendName::CudaGraph);
            let (kept_first, others) = (&kept[..], &cases(costs.len(), BackendName::CudaGraph)[kept.len()..]);
            prop_assert!(total <= limit);
            prop_assert_eq!(kept_first, &cases(costs.len(), BackendName::CudaGraph)[..kept.len()]);
            let named: Vec<String> = others.iter().map(|case| format!("{case}: steps")).collect();
            prop_assert_eq!(budget.left_out(), named);
        }
    }

    /// Seven of 13 s would take 91: the seventh is not begun, for it would be cut short.
    #[test]
    fn none_is_begun_that_would_end_too_late() {
        let (total, kept, budget) = spent(Some(90), &[13; 9], BackendName::Cuda);
        assert_eq!((total, kept.len(), budget.left_out().len()), (78, 6, 3));
        let said = budget.said().unwrap();
        assert!(said.starts_with("the 90 s ") && said.lines().count() == 1 + 3, "{said}");
        assert!(said.ends_with("transformer-toy/padded/cuda/b1/t9: steps"), "{said}");
    }

    #[test]
    fn one_kind_does_not_shut_out_another() {
        let clock = Rc::new(Cell::new(Duration::ZERO));
        let hand = clock.clone();
        let budget = Budget::by_clock(Some(Duration::from_secs(100)), move || hand.get());
        let case = cases(1, BackendName::Cuda);
        let take = |kind, seconds| {
            budget.spend(&case, kind, |_| clock.set(clock.get() + Duration::from_secs(seconds))).is_some()
        };
        assert!(take("decodes", 60) && take("steps", 3));
        assert!(!take("decodes", 60) && take("steps", 3), "{:?}", budget.left_out());
        assert!(budget.admits(&case, "models") && budget.left_out().len() == 1);
    }

    #[test]
    fn the_cpu_s_cases_and_those_without_a_limit_are_all_kept() {
        for (limit, backend) in [(Some(1), BackendName::Cpu), (None, BackendName::Cuda)] {
            let (total, kept, budget) = spent(limit, &[50; 4], backend);
            assert_eq!((total, kept.len(), budget.said()), (200, 4, None));
        }
    }
}
