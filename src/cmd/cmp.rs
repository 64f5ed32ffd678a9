//! `cmp`: cases against each other, within a run or across runs.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use decode_bench::analysis::{against, weights_differ, Base, Verdict, Versus, MIN_ROUNDS};
use decode_bench::error::{Error, Result};
use decode_bench::record::{Metric, Protocol, Run};
use decode_bench::report::compare::{comparisons, Format};
use decode_bench::strategy::Strategy;
use decode_bench::suite;

use super::{open_run, print, run_in};

/// Compare strategies within a run, or the same cases across runs, machines and backends.
///
/// Within a run, ratios are formed in each round and compared with the A/A band; between runs they are ratios of
/// medians (†), compared with the wider of both runs' bands.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench cmp results/2026-01-31T12-00-00Z-my-machine --filter '/b1/t512'
  decode-bench cmp results/before results/after --fail-if-slower 5%")]
pub struct Args {
    /// Run folders; the others are compared with the first
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The property in which two cases differ [default: strategy for one run, run for several]
    #[arg(long, value_enum)]
    by: Option<By>,
    /// The strategy or backend that others are compared with [default: concat, cpu]
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Metric to compare
    #[arg(long, default_value_t = Metric::StepNs, hide_possible_values = true)]
    metric: Metric,
    /// Regular expression: only cases whose id it matches are compared
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Also include the steps of whole decodes
    #[arg(long)]
    every_step: bool,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[arg(long, value_enum, default_value_t = Sort::Case)]
    sort: Sort,
    /// Exit with 1 if a case is slower and its whole interval is beyond this
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_if_slower: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Strategy,
    Backend,
    Run,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    Ratio,
    Case,
    Time,
}

impl Args {
    /// The same with the runs of their names in this folder, if one is given.
    pub fn of_runs_in(self, folder: Option<&Path>) -> Args {
        Args { runs: self.runs.into_iter().map(|run| run_in(folder, run)).collect(), ..self }
    }
}

pub fn run(args: Args) -> Result<()> {
    let runs = opened(&args)?;
    let found = compared(&args, &runs)?;
    print(&comparisons(&found, args.format)?)?;
    args.fail_if_slower.map_or(Ok(()), |limit| fail_if_slower(&found, limit))
}

/// What `run` prints.
///
/// # Errors
/// As `run`.
pub fn text(args: &Args) -> Result<String> {
    if args.format != Format::Markdown {
        return Err(Error::Input("a table of a page is Markdown: --format markdown".into()));
    }
    comparisons(&compared(args, &opened(args)?)?, args.format)
}

fn opened(args: &Args) -> Result<Vec<Run>> {
    args.runs.iter().map(|run| open_run(run)).collect()
}

fn compared<'a>(args: &Args, runs: &'a [Run]) -> Result<Vec<Versus<'a>>> {
    same_weights(runs)?;
    let mut found = against(runs, base(args)?, args.metric);
    if found.is_empty() {
        let what = format!("nothing to compare: no case has {} on both sides", args.metric);
        return Err(Error::Input(what));
    }
    if let Some(filter) = &args.filter {
        let wanted = suite::matcher(filter)?;
        let known = found.iter().map(|versus| versus.one.case.to_string()).collect();
        found.retain(|versus| wanted(&versus.one.case));
        if found.is_empty() {
            return Err(Error::NoMatch { filter: filter.clone(), known });
        }
    }
    let ratio = |versus: &Versus<'_>| versus.comparison.map_or(f64::INFINITY, |c| c.ratio.value);
    if !args.every_step && found.iter().any(|versus| versus.protocol != Protocol::Decode) {
        found.retain(|versus| versus.protocol != Protocol::Decode);
    }
    match args.sort {
        Sort::Case => found.sort_by_key(|versus| versus.one.case),
        Sort::Ratio => found.sort_by(|a, b| ratio(a).total_cmp(&ratio(b))),
        Sort::Time => found.sort_by(|a, b| a.one.value.value.total_cmp(&b.one.value.value)),
    }
    Ok(found)
}

fn same_weights(runs: &[Run]) -> Result<()> {
    let (first, others) = runs.split_first().expect("one run at least is required");
    for other in others {
        let differences = weights_differ(first, other);
        if !differences.is_empty() {
            let (first, other) = (first.path.display(), other.path.display());
            let what = format!(
                "{first} and {other} differ in {}; such times do not compare",
                differences.join("; ")
            );
            return Err(Error::Input(what));
        }
    }
    Ok(())
}

fn base(args: &Args) -> Result<Base> {
    let usual = if args.runs.len() > 1 { By::Run } else { By::Strategy };
    match (args.by.unwrap_or(usual), args.base.as_deref()) {
        (By::Strategy, name) => {
            name.unwrap_or("concat").parse().map(|strategy: Strategy| Base::Strategy(strategy))
        }
        (By::Backend, name) => Ok(Base::Backend(name.unwrap_or("cpu").parse()?)),
        (By::Run, Some(name)) => Err(Error::Input(format!(
            "--base {name}: across runs, the first run is what others are compared with"
        ))),
        (By::Run, None) if args.runs.len() < 2 => {
            Err(Error::Input("--by run compares runs, and only one was given".into()))
        }
        (By::Run, None) => Ok(Base::FirstRun),
    }
}

fn fail_if_slower(found: &[Versus<'_>], limit: f64) -> Result<()> {
    let judged = |versus: &&Versus<'_>| {
        versus
            .comparison
            .is_some_and(|c| c.aa_band.is_some() && (c.ratio.n >= MIN_ROUNDS || c.ratio.confidence == 1.0))
    };
    let silent = found.len() - found.iter().filter(judged).count();
    if silent == found.len() {
        return Err(Error::Input(format!(
            "nothing can be said to be slower or not: no comparison has {MIN_ROUNDS} rounds, or samples, on both sides"
        )));
    }
    if silent > 0 {
        let _ = writeln!(
            io::stderr(),
            "note: {silent} of {} comparisons have too few rounds to judge",
            found.len()
        );
    }
    let slower = found.iter().filter_map(|versus| {
        let c = versus.comparison.filter(|c| c.verdict == Verdict::Slower && c.ratio.lo > 1.0 + limit)?;
        Some(format!("{} by {:.3} [{:.3}, {:.3}]", versus.one.case, c.ratio.value, c.ratio.lo, c.ratio.hi))
    });
    let slower: BTreeSet<String> = slower.collect();
    match slower.len() {
        0 => Ok(()),
        n => {
            let named: Vec<&str> = slower.iter().map(String::as_str).collect();
            let (all, percent) = (found.len(), limit * 100.0);
            Err(Error::Differs(format!(
                "{n} of {all} are slower by more than {percent} %: {}",
                named.join("; ")
            )))
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    number.map(|number| number / 100.0).ok_or_else(|| "a percentage is wanted, as 5%".into())
}
