//! Lines on standard error that say what is being done, and about how long the rest will take.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{stderr, Write};
use std::time::{Duration, Instant};

/// Writes a line on standard error. Where nobody reads it, it is dropped: of an error, the exit code is left.
pub fn say(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Work that is done piece by piece.
pub struct Progress {
    start: Instant,
    said: Cell<Option<Instant>>,
    /// Between two lines at least.
    pause: Duration,
    done: Cell<usize>,
    all: usize,
}

impl Progress {
    /// A line for each of so many pieces.
    pub fn of(all: usize) -> Progress {
        Progress::with_pause(all, Duration::ZERO)
    }

    /// A line now and then.
    pub fn with_pause(all: usize, pause: Duration) -> Progress {
        Progress { start: Instant::now(), said: Cell::default(), pause, done: Cell::default(), all }
    }

    /// The next `count` pieces begin: `[3/12] what, about 20 s left`.
    pub fn begin(&self, count: usize, what: impl Display) {
        let (done, all) = (self.done.get(), self.all);
        self.done.set(done + count);
        if self.said.get().is_some_and(|said| said.elapsed() < self.pause) {
            return;
        }
        self.said.set(Some(Instant::now()));
        let left = remaining(self.start.elapsed(), done, all);
        let left = left.map(|left| format!(", about {} s left", left.as_secs())).unwrap_or_default();
        say(format_args!("[{}/{all}] {what}{left}", done + count));
    }
}

/// As long for every piece as those that are done took.
fn remaining(elapsed: Duration, done: usize, all: usize) -> Option<Duration> {
    (done > 0).then(|| elapsed.mul_f64(all.saturating_sub(done) as f64 / done as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        assert_eq!(remaining(Duration::from_secs(30), 10, 40), Some(Duration::from_secs(90)));
        assert_eq!(remaining(Duration::ZERO, 0, 40), None);
    }
}
