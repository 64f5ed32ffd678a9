//! `cmp`: cases against each other, within a run or across runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use decode_bench::analysis::{
    against, gaps, tabled, weights_differ, Base, Figure, Gap, Pairing, Sides, Versus, Wanting, MIN_ROUNDS,
};
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::record::{differences, Condition, Consequence, Metric, Run, Unmet, Use, CONDITIONS};
use decode_bench::report::compare::{comparisons, Format};
use decode_bench::strategy::Strategy;
use decode_bench::suite;

use super::gate::{percent, slower};
use super::output::place;
use super::{note, open_run, print, run_in};

/// Compare strategies within a run, or the same cases across runs, machines and backends.
///
/// Within a run, ratios are formed in each round and compared with the A/A band; between two runs they are ratios of
/// medians (†), compared with the wider of both runs' bands. With several runs a side (--base and --new) each run is one
/// value, and the scatter between the runs of a side is what the sides have to exceed (‡). Cases without a counterpart,
/// and conditions in which runs differ, are named; --fail-if-slower fails for them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench cmp results/2026-01-31T12-00-00Z-my-machine --filter '/b1/t512'
  decode-bench cmp --base results/a1,results/a2,results/a3 --new results/b1,results/b2,results/b3 --fail-if-slower 5%")]
pub struct Args {
    /// Run folders; the others are compared with the first
    #[arg(required_unless_present = "new")]
    runs: Vec<PathBuf>,
    /// Run folders of one side, separated by commas; --base has those of the other
    #[arg(long, value_name = "RUN,...", value_delimiter = ',', requires = "base", conflicts_with_all = ["runs", "by"])]
    new: Vec<PathBuf>,
    /// The property in which two cases differ [default: strategy for one run, run for several]
    #[arg(long, value_enum)]
    by: Option<By>,
    /// The strategy or backend that others are compared with [default: concat, cpu]; with --new, run folders separated
    /// by commas
    #[arg(long, value_name = "NAME|RUN,...", value_delimiter = ',')]
    base: Vec<OsString>,
    /// Metric to compare, or decode_tokens_per_second, ttft_ns, prefill_tokens_per_second, which follow from the times of
    /// steps and prefills
    #[arg(long, default_value_t = Figure::Metric(Metric::StepNs), hide_possible_values = true)]
    metric: Figure,
    /// Regular expression: only cases whose id it matches are compared
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Also include the steps of whole decodes at positions that tables do not show
    #[arg(long)]
    every_step: bool,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[arg(long, value_enum, default_value_t = Sort::Case)]
    sort: Sort,
    /// Exit with 1 if a case is slower and its whole interval is beyond this
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_if_slower: Option<f64>,
    /// Judge although cases are missing, failed or have too few rounds on one side
    #[arg(long, requires = "fail_if_slower")]
    allow_missing: bool,
    /// Judge times although each side is one run. Two runs of one build differ by more than the rounds within them show:
    /// such a gate may fail for half of them
    #[arg(long, requires = "fail_if_slower")]
    allow_one_run: bool,
    /// Compare although the runs differ in these conditions, as messages name them
    #[arg(long, value_name = "CONDITION", value_delimiter = ',')]
    allow_different: Vec<String>,
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
        let placed = |runs: Vec<PathBuf>| runs.into_iter().map(|run| run_in(folder, run)).collect();
        let base = match self.new.is_empty() {
            true => self.base,
            false => self.base.into_iter().map(|run| run_in(folder, run.into()).into()).collect(),
        };
        Args { runs: placed(self.runs), new: placed(self.new), base, ..self }
    }
}

pub fn run(args: Args) -> Result<()> {
    let runs = opened(&args)?;
    let Compared { found, gaps } = compared(&args, &runs)?;
    let conditions = conditions(&args, &found)?;
    if !args.fails_on_gaps() {
        wanting(&gaps).iter().for_each(|what| note(what));
    }
    conditions.iter().for_each(|what| note(what));
    print(&comparisons(&found, &gaps, args.metric, args.format)?)?;
    args.fail_if_slower.map_or(Ok(()), |limit| fail_if_slower(&args, &found, &gaps, limit))
}

/// What `run` prints.
///
/// # Errors
/// As `run`.
pub fn text(args: &Args) -> Result<String> {
    if args.format != Format::Markdown {
        return Err(Error::Input("a table of a page is Markdown: --format markdown".into()));
    }
    let runs = opened(args)?;
    let Compared { found, gaps } = compared(args, &runs)?;
    conditions(args, &found)?;
    comparisons(&found, &gaps, args.metric, args.format)
}

/// Those of the base first. A run beside itself would pass every gate.
fn opened(args: &Args) -> Result<Vec<Run>> {
    let base = args.base.iter().filter(|_| args.has_sides()).map(PathBuf::from);
    let folders: Vec<PathBuf> = base.chain(args.runs.iter().chain(&args.new).cloned()).collect();
    let places: Vec<_> = folders.iter().map(|run| place(run)).collect();
    if let Some(at) = (1..places.len()).find(|&at| places[at].is_some() && places[..at].contains(&places[at]))
    {
        return Err(Error::file(&folders[at], "given twice"));
    }
    folders.iter().map(|run| open_run(run)).collect()
}

struct Compared<'a> {
    found: Vec<Versus<'a>>,
    gaps: Vec<Gap<'a>>,
}

fn compared<'a>(args: &Args, runs: &'a [Run]) -> Result<Compared<'a>> {
    same_weights(runs)?;
    let tabled: BTreeSet<Case> = runs.iter().flat_map(tabled).collect();
    let (mut found, gaps) = match args.has_sides() {
        true => {
            let (base, new) = runs.split_at(args.base.len());
            let sides = Sides::of(base, new, args.sampled());
            let selected = selected(args, &tabled, sides.cases(), sides.gaps())?;
            (sides.compare(&selected.cases), selected.gaps)
        }
        false => {
            let base = base(args)?;
            let mut found = against(runs, base, args.sampled());
            let gaps = gaps(runs, base, args.sampled(), &found);
            let cases = found.iter().map(|versus| versus.one.case).collect();
            let selected = selected(args, &tabled, cases, gaps)?;
            found.retain(|versus| selected.cases.contains(&versus.one.case));
            (found, selected.gaps)
        }
    };
    let ratio = |versus: &Versus<'_>| versus.comparison.map_or(f64::INFINITY, |c| c.ratio.value);
    match args.sort {
        Sort::Case => found.sort_by_key(|versus| versus.one.case),
        Sort::Ratio => found.sort_by(|a, b| ratio(a).total_cmp(&ratio(b))),
        Sort::Time => found.sort_by(|a, b| a.one.value.value.total_cmp(&b.one.value.value)),
    }
    Ok(Compared { found, gaps })
}

/// The cases that are shown.
struct Selected<'a> {
    cases: BTreeSet<Case>,
    gaps: Vec<Gap<'a>>,
}

fn selected<'a>(
    args: &Args,
    tabled: &BTreeSet<Case>,
    mut cases: BTreeSet<Case>,
    mut gaps: Vec<Gap<'a>>,
) -> Result<Selected<'a>> {
    cases.retain(|case| args.metric.applies_to(case));
    gaps.retain(|gap| args.metric.applies_to(&gap.one.case));
    if cases.is_empty() {
        let what = format!("nothing to compare: no case has {} on both sides", args.metric);
        return Err(Error::Input(what));
    }
    if let Some(filter) = &args.filter {
        let wanted = suite::matcher(filter)?;
        let all = cases.iter().copied().chain(gaps.iter().map(|gap| gap.one.case));
        let known = all.map(|case| case.to_string()).collect();
        cases.retain(|case| wanted(case));
        gaps.retain(|gap| wanted(&gap.one.case));
        if cases.is_empty() && gaps.is_empty() {
            return Err(Error::NoMatch { filter: filter.clone(), known });
        }
    }
    if args.sampled() == Metric::StepNs && !args.every_step && !tabled.is_disjoint(&cases) {
        cases.retain(|case| tabled.contains(case));
        gaps.retain(|gap| tabled.contains(&gap.one.case));
    }
    Ok(Selected { cases, gaps })
}

impl Args {
    /// That the figure follows from. A prefill is one of a strategy with a cache: without, each step is one.
    fn sampled(&self) -> Metric {
        self.metric.metric(Strategy::Concat)
    }

    /// Whether the runs are those of two sides.
    fn has_sides(&self) -> bool {
        !self.new.is_empty()
    }

    fn fails_on_gaps(&self) -> bool {
        self.fail_if_slower.is_some() && !self.allow_missing
    }
}

/// In what the runs differ that are compared, in words.
///
/// # Errors
/// When that is refused and was not asked for.
fn conditions(args: &Args, found: &[Versus<'_>]) -> Result<Vec<String>> {
    let allowed = args.allow_different.iter().map(|name| condition(name)).collect::<Result<Vec<_>>>()?;
    let (mut notes, mut seen) = (Vec::new(), Vec::new());
    for (run, base) in found.iter().flat_map(Versus::runs) {
        let paths = (&run.path, &base.path);
        if std::ptr::eq(run, base) || seen.contains(&paths) {
            continue;
        }
        seen.push(paths);
        let of = if args.fail_if_slower.is_some() { Use::Gate } else { Use::Compare };
        let all = differences(of, base, run);
        let refused = all.iter().filter(|what| {
            what.consequence == Consequence::Refused && !allowed.contains(&what.condition.name)
        });
        let (words, names): (Vec<String>, Vec<String>) =
            refused.map(|what| (what.to_string(), what.condition.option())).unzip();
        let differ = |words: &[String]| {
            format!("{} differs from {} in {}", run.path.display(), base.path.display(), words.join("; "))
        };
        if !words.is_empty() {
            let names = names.join(","); // before the words, which are cut where they are too many
            let what = format!("not compared without --allow-different {names}; {}", differ(&words));
            return Err(Error::Input(what));
        }
        let said: Vec<String> = all.iter().map(Unmet::to_string).collect();
        notes.extend(Some(differ(&said)).filter(|_| !said.is_empty()));
    }
    Ok(notes)
}

/// The name of a condition that differs, in either spelling.
fn condition(name: &str) -> Result<&'static str> {
    let wanted = |condition: &&Condition| {
        [condition.option(), condition.name.to_lowercase()].contains(&name.to_lowercase())
    };
    let found = CONDITIONS.iter().find(wanted).map(|condition| condition.name);
    found.ok_or_else(|| {
        let known = CONDITIONS.iter().map(Condition::option).collect();
        Error::Unknown { kind: "condition", name: name.into(), known }
    })
}

/// Which cases have no counterpart, in words, for each run.
fn wanting(gaps: &[Gap<'_>]) -> Vec<String> {
    let mut all: BTreeMap<(&Path, &str), Vec<String>> = BTreeMap::new();
    for side in gaps.iter().flat_map(|gap| [&gap.one, &gap.base]) {
        let (what, case) = match &side.found {
            Ok(_) => continue,
            Err(Wanting::Missing) => ("has no", side.case.to_string()),
            Err(Wanting::Failed(error)) => ("failed at", format!("{} ({error})", side.case)),
            Err(Wanting::Otherwise) => ("sampled by another protocol", side.case.to_string()),
        };
        let cases = all.entry((&side.run.path, what)).or_default();
        cases.extend(Some(case).filter(|case| !cases.contains(case)));
    }
    all.into_iter().map(|((run, what), cases)| format!("{} {what} {}", run.display(), some(&cases))).collect()
}

/// The first of them, and how many more there are; the table has all.
fn some(names: &[String]) -> String {
    const MOST: usize = 10;
    let shown = names[..names.len().min(MOST)].join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
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
    let name = match &args.base[..] {
        [] => None,
        [name] => Some(name.to_string_lossy()),
        _ => {
            return Err(Error::Input(
                "--base names one strategy or backend; run folders go with --new".into(),
            ))
        }
    };
    match (args.by.unwrap_or(usual), name.as_deref()) {
        (By::Strategy, name) => {
            name.unwrap_or("concat").parse().map(|strategy: Strategy| Base::Strategy(strategy))
        }
        (By::Backend, name) => Ok(Base::Backend(name.unwrap_or("cpu").parse()?)),
        (By::Run, Some(name)) => Err(Error::Input(format!(
            "--base {name}: across runs, the first run is what others are compared with; several a side go with --new"
        ))),
        (By::Run, None) if args.runs.len() < 2 => {
            Err(Error::Input("--by run compares runs, and only one was given".into()))
        }
        (By::Run, None) => Ok(Base::FirstRun),
    }
}

fn fail_if_slower(args: &Args, found: &[Versus<'_>], gaps: &[Gap<'_>], limit: f64) -> Result<()> {
    let judged = |versus: &&Versus<'_>| versus.comparison.is_some_and(|c| c.is_judged());
    let silent: Vec<String> =
        found.iter().filter(|versus| !judged(versus)).map(|versus| versus.one.case.to_string()).collect();
    if silent.len() == found.len() && (gaps.is_empty() || args.allow_missing) {
        return Err(Error::Input(format!(
            "nothing can be said to be slower or not: no comparison has {MIN_ROUNDS} rounds, or samples, on both sides"
        )));
    }
    let of_moments = |versus: &&Versus<'_>| {
        let one_run = versus.runs().any(|(run, base)| !std::ptr::eq(run, base));
        one_run && versus.comparison.is_some_and(|c| c.pairing == Pairing::Unpaired && !c.is_exact())
    };
    let one_run = found.iter().any(|versus| of_moments(&versus));
    if one_run && args.allow_one_run {
        note("each side is one run: runs of one build differ by more than the rounds within them show, so that a case may be called slower and is not");
    }
    let compared = found.iter().map(|versus| (versus.one.case, versus.comparison));
    let mut failed: Vec<String> = slower(compared, limit).into_iter().collect();
    let few = format!("too few rounds, or none, to judge {}", some(&silent));
    let few = (!silent.is_empty()).then_some(few);
    if args.fails_on_gaps() {
        let open: Vec<String> = wanting(gaps).into_iter().chain(few).collect();
        failed.extend(
            (!open.is_empty()).then(|| format!("{} (--allow-missing judges the others)", open.join("; "))),
        );
    } else if let Some(few) = few {
        note(&few);
    }
    if one_run && !args.allow_one_run && (gaps.is_empty() || args.allow_missing) {
        return Err(Error::Input(
            "one run a side is not judged, since two runs of one build differ by more than the rounds within them show; \
             measure three of each in turn and compare them with --base A1,A2,A3 --new B1,B2,B3, or measure both builds with \
             bench-ab; --allow-one-run judges all the same"
                .into(),
        ));
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::Differs(failed.join("; "))),
    }
}
