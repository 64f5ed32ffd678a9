//! Arguments of `cargo bench -- ..`: criterion's, and ours.
//!
//! Criterion reads the arguments itself and refuses those it does not know. Ours are taken out
//! first and travel in an environment variable, through the program calling itself once.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::measure::{default_threads, Settings, StopRule, NO_DRIVER_CACHE};

const TRAVELS_IN: &str = "DECODE_BENCH_RUN";

/// What the command line asks of a bench target.
#[derive(Debug, Serialize, Deserialize)]
pub struct Args {
    pub settings: Settings,
    /// Names the `cargo bench` that all four programs belong to.
    pub session: String,
    #[serde(skip)]
    pub filter: Option<String>,
    #[serde(skip)]
    pub mode: Mode,
}

/// What a bench target does with its cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Time, and write down.
    Measure,
    /// Run everything once and write nothing: `--test`, and plain `cargo test --benches`.
    #[default]
    Try,
    /// Print the ids.
    List,
}

impl Args {
    /// Of this program; the first time it is called, it calls itself and does not return.
    pub fn of_this_program() -> Result<Args> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let Ok(travelled) = std::env::var(TRAVELS_IN) else { call_again(args) };
        let ours: Args =
            serde_json::from_str(&travelled).map_err(|e| Error::Input(format!("{TRAVELS_IN}: {e}")))?;
        Ok(Args { filter: filter(&args), mode: mode(&args), ..ours })
    }
}

/// Options of the harness, besides criterion's own.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --", no_binary_name = true)]
struct Knobs {
    /// Threads of the pool that all strategies share [default: all physical cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Of the random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where run folders are made
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// A run folder to complete
    #[arg(long)]
    resume: Option<PathBuf>,
    /// Empty a GPU's second-level cache before every timed step
    #[arg(long)]
    cold_l2: bool,
    /// Take strategies in turn until every interval is within so much of its median, as 2%, or the budget is spent
    #[arg(long, value_parser = percent)]
    precision: Option<f64>,
    /// Seconds that the turns of one position may take; all cases on a GPU together may take fifty times that
    /// [default: 12, and so ten minutes on a GPU]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    budget: Option<u64>,
}

const OURS: [&str; 7] = ["--threads", "--seed", "--results", "--resume", "--precision", "--budget", COLD_L2];
/// The one of them that no value follows.
const COLD_L2: &str = "--cold-l2";

/// `2%` as 0.02.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end().trim_end_matches('%').trim_end().parse::<f64>();
    let percent = number.ok().filter(|p| (0.1..=100.0).contains(p));
    percent.map(|p| p / 100.0).ok_or_else(|| "a percentage from 0.1% to 100% is wanted".into())
}

/// Criterion's options that are followed by a value, so that it is not taken for the filter.
const VALUED: [&str; 17] = [
    "--color",
    "-c",
    "--save-baseline",
    "-s",
    "--baseline",
    "-b",
    "--baseline-lenient",
    "--load-baseline",
    "--format",
    "--profile-time",
    "--sample-size",
    "--warm-up-time",
    "--measurement-time",
    "--nresamples",
    "--noise-threshold",
    "--confidence-level",
    "--significance-level",
];

/// Takes our options out of the arguments and calls this program again with the rest.
fn call_again(args: Vec<String>) -> ! {
    let (mut ours, mut rest) = (Vec::new(), Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let name = arg.split('=').next().unwrap_or_default();
        if OURS.contains(&name) {
            let complete = arg.contains('=') || arg == COLD_L2;
            ours.push(arg);
            ours.extend((!complete).then(|| args.next()).flatten());
        } else {
            rest.push(arg);
        }
    }
    let knobs = Knobs::parse_from(ours);
    let settings = Settings {
        threads: knobs.threads.unwrap_or_else(default_threads),
        seed: knobs.seed,
        results: knobs.results,
        resume: knobs.resume,
        cold_l2: knobs.cold_l2,
        stop: StopRule {
            precision: knobs.precision,
            budget: knobs.budget.map_or(StopRule::default().budget, Duration::from_secs),
        },
    };
    let ours = Args { settings, session: session(), filter: None, mode: Mode::Try };
    if !rest.iter().any(|arg| matches!(arg.as_str(), "--verbose" | "-v" | "--quiet" | "-n" | "--list")) {
        rest.push("--quiet".into()); // a line for each case, and none for its analysis
    }
    let mut again = Command::new(std::env::current_exe().expect("a running program has a path"));
    again
        .env(NO_DRIVER_CACHE.0, NO_DRIVER_CACHE.1)
        .args(rest)
        .env(TRAVELS_IN, serde_json::to_string(&ours).expect("settings are plain data"));
    replace_by(again)
}

#[cfg(unix)]
fn replace_by(mut program: Command) -> ! {
    let error = std::os::unix::process::CommandExt::exec(&mut program);
    eprintln!("error: cannot call itself: {error}");
    std::process::exit(2)
}

#[cfg(not(unix))]
fn replace_by(mut program: Command) -> ! {
    std::process::exit(program.status().ok().and_then(|status| status.code()).unwrap_or(2))
}

/// Names the `cargo bench` this program belongs to: its process, and when that started, for
/// process numbers come back.
fn session() -> String {
    #[cfg(unix)]
    let parent = std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    let parent = std::process::id();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    let started = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(19)).unwrap_or("0");
    format!("{parent}-{started}")
}

fn mode(args: &[String]) -> Mode {
    let has = |flag: &str| args.iter().any(|arg| arg == flag || arg.starts_with(&format!("{flag}=")));
    match () {
        () if has("--list") => Mode::List,
        () if has("--bench") && !has("--test") && !has("--profile-time") => Mode::Measure,
        () => Mode::Try,
    }
}

/// The first argument that is neither an option nor the value of one.
fn filter(args: &[String]) -> Option<String> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if VALUED.contains(&arg.as_str()) {
            args.next();
        } else if !arg.starts_with('-') {
            return Some(arg.clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn the_filter_is_what_criterion_takes_for_it() {
        assert_eq!(filter(&args("--bench --sample-size 20 toy/padded")), Some("toy/padded".into()));
        assert_eq!(filter(&args("--bench --quiet")), None);
    }

    #[test]
    fn a_precision_is_a_percentage() {
        assert_eq!(percent("2%"), Ok(0.02));
        assert_eq!(percent("0.5 %"), Ok(0.005));
        assert_eq!(percent("3"), Ok(0.03));
        for wrong in ["", "%", "0%", "-1%", "NaN", "101%", "two"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_cargo_bench_measures() {
        assert_eq!(mode(&args("--bench")), Mode::Measure);
        assert_eq!(mode(&args("--bench --test")), Mode::Try);
        assert_eq!(mode(&args("")), Mode::Try);
        assert_eq!(mode(&args("--bench --list")), Mode::List);
    }
}
