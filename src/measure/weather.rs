//! What else the machine does when a run begins: the processor time that other programs use, and what the hypervisor
//! withholds.
//!
//! A look lasts a second. It is quiet if both together are at most [`QUIET`], or a hundredth of all processors where
//! that is more: a program that samples a large machine now and then is no disturbance. The load average is shown and
//! decides nothing, for it remembers minutes that are over.

use std::fmt;
use std::fs::read_to_string;
use std::thread;
use std::time::Duration;

use super::say;

/// In processors: how much others may use of one.
const QUIET: f64 = 0.05;

const LOOK: Duration = Duration::from_secs(1);

/// Says what else the machine does, beside the first second of the work; or, where `wait` says for how many seconds,
/// waits for a quiet one before that.
pub fn look_around(wait: Option<u64>) {
    let Some(seconds) = wait else {
        // without this thread the line is missing, and nothing else
        let _ = thread::Builder::new().spawn(|| say(said(Weather::of_a_second())));
        return;
    };
    say(format_args!("waiting for a quiet second, {seconds} s at most"));
    let last = quiet_within(seconds, Weather::of_a_second);
    say(said(last));
    if last.is_some_and(|weather| !weather.is_quiet()) {
        say(format_args!("note: it was not quiet in {seconds} s; measured all the same"));
    }
}

/// The first quiet look of so many, or the last.
fn quiet_within(looks: u64, mut look: impl FnMut() -> Option<Weather>) -> Option<Weather> {
    let mut last = look()?;
    for _ in 1..looks {
        if last.is_quiet() {
            break;
        }
        last = look()?;
    }
    Some(last)
}

fn said(weather: Option<Weather>) -> String {
    let Some(weather) = weather else {
        return "note: /proc/stat does not say here what other programs use of the processors".into();
    };
    let load = read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|load| load.split_whitespace().next()).unwrap_or("unknown");
    let quiet = if weather.is_quiet() { "quiet" } else { "not quiet" };
    format!("{quiet}: {weather}; load {load}")
}

/// A second of the machine, in processors.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weather {
    /// Used by other programs.
    others: f64,
    /// Withheld by the hypervisor.
    stolen: f64,
    /// That there are.
    processors: f64,
}

impl Weather {
    /// `None`: the system does not tell.
    fn of_a_second() -> Option<Weather> {
        let before = Moment::now()?;
        thread::sleep(LOOK);
        Weather::between(before, Moment::now()?)
    }

    fn between(before: Moment, after: Moment) -> Option<Weather> {
        let (Moment(before, own_before), Moment(after, own)) = (before, after);
        let passed = after.all.checked_sub(before.all).filter(|&ticks| ticks > 0)?;
        let processors = after.processors as f64;
        let in_processors = |ticks: u64| ticks as f64 / passed as f64 * processors;
        let used = after.used.saturating_sub(before.used);
        Some(Weather {
            others: in_processors(used.saturating_sub(own.saturating_sub(own_before))),
            stolen: in_processors(after.stolen.saturating_sub(before.stolen)),
            processors,
        })
    }

    fn is_quiet(&self) -> bool {
        self.others + self.stolen <= QUIET.max(self.processors / 100.0)
    }
}

/// `other programs use 0.12 of 2 processors, the hypervisor 0.00`
impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Weather { others, stolen, processors } = self;
        write!(f, "other programs use {others:.2} of {processors} processors, the hypervisor {stolen:.2}")
    }
}

/// Ticks of the machine, and of this program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(Ticks, u64);

/// In ticks of a processor. The kernel counts in them, so that of less time they say little.
const SHORTEST_ROUND: u64 = 50;

impl Moment {
    pub(super) fn now() -> Option<Moment> {
        Some(Moment(Ticks::now()?, own_ticks(&read_to_string("/proc/self/stat").ok()?)?))
    }

    /// After so many seconds of two processors, of which others used so many tenths of one.
    #[cfg(test)]
    pub(super) fn invented(seconds: u64, tenths: u64) -> Moment {
        Moment(Ticks { used: 10 * tenths, stolen: 0, all: 200 * seconds, processors: 2 }, 0)
    }

    /// What others took of the processors since then, in thousandths of one. `None`: so little time has passed that the
    /// ticks do not tell.
    pub(super) fn others_permille(self, now: Moment) -> Option<u64> {
        let passed = now.0.all.checked_sub(self.0.all)?;
        let Weather { others, stolen, .. } = Weather::between(self, now)?;
        (passed >= SHORTEST_ROUND * now.0.processors).then_some(((others + stolen) * 1000.0).round() as u64)
    }
}

/// Processor time since the machine was started, all processors together, in the kernel's ticks of mostly 10 ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ticks {
    /// By programs and the kernel.
    used: u64,
    /// Withheld by the hypervisor.
    pub(super) stolen: u64,
    /// Idle ones too.
    all: u64,
    processors: u64,
}

impl Ticks {
    pub(super) fn now() -> Option<Ticks> {
        Ticks::of(&read_to_string("/proc/stat").ok()?)
    }

    /// The text of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in the first.
    fn of(stat: &str) -> Option<Ticks> {
        let (all, each): (Vec<&str>, Vec<&str>) =
            stat.lines().filter(|line| line.starts_with("cpu")).partition(|line| line.starts_with("cpu "));
        let numbers = all.first()?.split_whitespace().skip(1).take(8).map(|number| number.parse().ok());
        let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
        let [user, nice, system, idle, iowait, irq, softirq, stolen] = numbers[..] else { return None };
        let used = user + nice + system + irq + softirq;
        Some(Ticks { used, stolen, all: used + idle + iowait + stolen, processors: each.len() as u64 })
    }
}

/// Of the text of `/proc/self/stat`: what this program has used, and its children that have ended. The name of the program
/// stands in brackets before it, and may have anything in it.
fn own_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(4).map(|number| number.parse::<u64>().ok());
    let times: Vec<u64> = times.collect::<Option<_>>()?;
    (times.len() == 4).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  1000 20 300 5000 40 5 6 70 8 9\ncpu0 500 10 150 2500 20 2 3 35 4 4\n\
        cpu1 500 10 150 2500 20 3 3 35 4 5\nintr 1 2 3\nctxt 4\nprocs_running 1\n";

    #[test]
    fn ticks_are_those_of_the_kernel_s_file() {
        let found = Ticks { used: 1331, stolen: 70, all: 6441, processors: 2 };
        assert_eq!(Ticks::of(STAT), Some(found));
        for text in ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 3 4", "cpu  1 2 3 4 5 6 7 x", "intr 1\n"] {
            assert_eq!(Ticks::of(text), None, "{text}");
        }
        let own = "7 (a) b (c) R 1 7 7 0 -1 4194304 100 0 0 0 41 2 3 4 20 0 1 0 5792385 3133440";
        assert_eq!(own_ticks(own), Some(50));
        assert_eq!(own_ticks("7 (a) R 1 7"), None);
        assert_eq!(own_ticks(""), None);
    }

    /// A second of two processors: 200 ticks, of which these were used by all, by this program, and stolen.
    fn weather(used: u64, own: u64, stolen: u64) -> Weather {
        let before = Ticks::of(STAT).unwrap();
        let after = Ticks {
            used: before.used + used,
            stolen: before.stolen + stolen,
            all: before.all + 200,
            ..before
        };
        Weather::between(Moment(before, 50), Moment(after, 50 + own)).unwrap()
    }

    #[test]
    fn a_second_is_quiet_while_others_and_the_hypervisor_take_a_twentieth_of_a_processor() {
        assert_eq!(weather(150, 50, 20), Weather { others: 1.0, stolen: 0.2, processors: 2.0 });
        for (used, own, stolen, quiet) in [
            (0, 0, 0, true),
            (200, 200, 0, true), // its own work is no disturbance
            (100, 101, 0, true), // the kernel counts a program more finely than the machine
            (5, 0, 0, true),
            (6, 0, 0, false),
            (3, 0, 2, true),
            (3, 0, 3, false),
            (150, 50, 0, false),
        ] {
            assert_eq!(weather(used, own, stolen).is_quiet(), quiet, "{used} {own} {stolen}");
        }
        let large = |others| Weather { others, stolen: 0.0, processors: 64.0 };
        assert!(large(0.6).is_quiet() && !large(0.7).is_quiet());
        let (one, before) = (Ticks::of(STAT).unwrap(), Ticks { all: 9000, ..Ticks::of(STAT).unwrap() });
        assert_eq!(Weather::between(Moment(one, 0), Moment(one, 0)), None, "no time passed");
        assert_eq!(Weather::between(Moment(before, 0), Moment(one, 0)), None, "the counters were set back");
    }

    #[test]
    fn what_others_took_is_told_of_rounds_that_ticks_can_measure() {
        let before = Ticks::of(STAT).unwrap();
        let after = |all, used, stolen| Ticks {
            used: before.used + used,
            stolen: before.stolen + stolen,
            all: before.all + all,
            ..before
        };
        let told = |all, used, own: u64, stolen| {
            Moment(before, 50).others_permille(Moment(after(all, used, stolen), 50 + own))
        };
        assert_eq!(told(100, 60, 50, 5), Some(300), "half a second of two processors");
        assert_eq!(told(99, 60, 50, 5), None, "less than half a second");
        assert_eq!(told(100_000, 100_000, 100_000, 0), Some(0), "its own work, however long");
        assert_eq!(told(200, 180, 80, 20), Some(1200));
    }

    #[test]
    fn the_first_quiet_second_ends_the_wait_and_the_last_one_does_at_the_latest() {
        let wait = |seconds, all: &[Option<Weather>]| {
            let mut looks = all.iter();
            let last = quiet_within(seconds, || *looks.next().expect("no look is taken after the last"));
            (last, all.len() - looks.len())
        };
        let [quiet, busy, busier] = [weather(2, 0, 0), weather(80, 0, 0), weather(90, 0, 0)].map(Some);
        assert_eq!(wait(5, &[quiet, busy]), (quiet, 1));
        assert_eq!(wait(5, &[busy, busier, quiet, busy]), (quiet, 3));
        assert_eq!(wait(2, &[busy, busier, quiet]), (busier, 2));
        assert_eq!(wait(1, &[busy, quiet]), (busy, 1));
        assert_eq!(wait(5, &[busy, None, quiet]), (None, 2));
    }

    #[test]
    fn the_line_says_what_was_found() {
        let line = said(Some(weather(150, 50, 20)));
        let wanted = "not quiet: other programs use 1.00 of 2 processors, the hypervisor 0.20; load ";
        assert!(line.starts_with(wanted), "{line}");
        assert!(said(Some(weather(0, 0, 0))).starts_with("quiet: "));
        assert!(said(None).contains("/proc/stat"));
    }
}
