//! What a run's time went into.

use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, Instant};

/// How long each kind of work took, the kinds in the order in which they were begun.
#[derive(Default)]
pub(super) struct Spent(RefCell<Vec<(&'static str, Duration)>>);

impl Spent {
    /// Does the work and counts its time.
    pub fn on<T>(&self, kind: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        let mut kinds = self.0.borrow_mut();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, time)) => *time += start.elapsed(),
            None => kinds.push((kind, start.elapsed())),
        }
        done
    }
}

/// `spent 64 s: counting 4 s, criterion's samples 60 s`
impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.0.borrow();
        let all: Duration = kinds.iter().map(|(_, time)| *time).sum();
        let of_kinds: Vec<String> =
            kinds.iter().map(|(kind, time)| format!("{kind} {:.0} s", time.as_secs_f64())).collect();
        write!(f, "spent {:.0} s: {}", all.as_secs_f64(), of_kinds.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_done_twice_is_one() {
        let spent = Spent::default();
        for (kind, seconds) in [("steps", 2), ("memory", 1), ("steps", 3)] {
            spent.on(kind, || ());
            let mut kinds = spent.0.borrow_mut();
            kinds.iter_mut().find(|(known, _)| *known == kind).unwrap().1 += Duration::from_secs(seconds);
        }
        assert_eq!(spent.to_string(), "spent 6 s: steps 5 s, memory 1 s");
    }
}
