//! Arguments of `cargo bench -- ..`: criterion's, with their meaning there, and ours.
//!
//! Criterion is set up by its methods, which know less than its command line. An option that no method stands
//! for is done here where that is possible, and refused by name where it is not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgGroup, ArgMatches, ColorChoice, CommandFactory, FromArgMatches, Parser, ValueEnum};

use super::common::Common;
use crate::case::Case;
use crate::error::{usage, Error, Result};
use crate::measure::{Settings, StopRule};
use crate::suite;

/// Measure the cases of a filter, or the default suite, into one run folder
#[derive(Parser, Debug)]
#[command(name = "cargo bench --", bin_name = "cargo bench --", version, max_term_width = 100)]
#[command(group = ArgGroup::new("what is done").args(["list", "test", "profile_time"]))]
#[command(group = ArgGroup::new("which baseline").args(["save_baseline", "baseline", "baseline_lenient", "discard_baseline"]))]
#[command(after_help = "\
Examples:
  cargo bench -- 'transformer-toy/(concat|padded)/cpu/b1'
  cargo bench -- --only reorder --threads 2
  cargo bench -- --save-baseline before")]
pub struct Args {
    /// Regular expression; cases whose id it matches anywhere are measured [default: the default suite]
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Take the filter as a whole id
    #[arg(long, requires = "filter")]
    exact: bool,
    /// Parts to do, in the order below [default: all four]
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<Part>,
    #[command(flatten)]
    common: Common,
    /// Repeat rounds until every interval is within this share of its median, such as 2%, or the budget is spent
    #[arg(long, value_parser = percent)]
    precision: Option<f64>,
    /// Seconds for the rounds of one position; ten times that for whole decodes of a model, fifty times for all cases
    /// on a GPU together [default: 12, and so ten minutes on a GPU]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    budget: Option<u64>,

    /// Print the ids and measure nothing
    #[arg(long)]
    list: bool,
    /// Format of the list, pretty or terse: both print one id a line
    #[arg(long, value_name = "FORMAT", value_parser = ["pretty", "terse"], default_value = "pretty", hide_possible_values = true)]
    format: String,
    /// Run every case once; time nothing, write nothing
    #[arg(long)]
    test: bool,
    /// Repeat every case for about so many seconds, for a profiler; write nothing
    #[arg(long, value_name = "SECONDS", value_parser = at_least_a_second)]
    profile_time: Option<Duration>,
    /// Select the ignored cases, of which there are none
    #[arg(long)]
    ignored: bool,
    #[command(flatten)]
    statistics: Statistics,
    /// Seconds of steps before the samples of a case [default: 0.1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Criterion")]
    warm_up_time: Option<Duration>,
    /// Seconds that the samples of a case take together [default: 0.2, or longer for slow steps; one start a sample]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Criterion")]
    measurement_time: Option<Duration>,

    /// Given by `cargo bench`; without it every case is run once
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    ignorable: Ignorable,
}

/// What criterion is set up with.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Criterion")]
pub struct Statistics {
    /// Samples of a case
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(10..=1_000_000))]
    pub sample_size: usize,
    /// Resamples of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000_000))]
    pub nresamples: usize,
    /// Change that counts as noise: 0.01 is 1 %
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = not_negative)]
    pub noise_threshold: f64,
    /// Probability that an interval holds the true value
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = probability)]
    pub confidence_level: f64,
    /// Probability that two equal cases are called different
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = probability)]
    pub significance_level: f64,
    /// Name to save criterion's samples under [default: base]
    #[arg(long, short, value_name = "NAME", value_parser = name)]
    save_baseline: Option<String>,
    /// Saved samples to compare with; every case must have them
    #[arg(long, short, value_name = "NAME", value_parser = name)]
    baseline: Option<String>,
    /// Saved samples to compare with, for the cases that have them
    #[arg(long, value_name = "NAME", value_parser = name)]
    baseline_lenient: Option<String>,
    /// Leave the saved samples as they are
    #[arg(long)]
    discard_baseline: bool,
    /// Criterion's whole report of a case
    #[arg(long, short, conflicts_with_all = ["quiet", "output_format"])]
    verbose: bool,
    /// One line a case, as without this option
    #[arg(long)]
    quiet: bool,
    /// One line a case, in criterion's words or as `cargo bench` prints those of libtest
    #[arg(long, value_name = "FORMAT", default_value = "criterion")]
    output_format: OutputFormat,
    /// Colours on a terminal, always or never
    #[arg(long, short, alias = "colour", value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

/// Accepted, and without effect: there is nothing that they would change.
#[derive(clap::Args, Debug)]
struct Ignorable {
    #[arg(long, short, hide = true)]
    noplot: bool,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
}

/// Options of criterion's that no method of its library stands for, and why. They are unknown here, so that no
/// typing mistake is answered with one of them.
const REFUSED: [(&str, &str); 3] = [
    (
        "--load-baseline",
        "criterion's library cannot load samples in place of measuring; `decode-bench cmp RUN RUN` compares two runs",
    ),
    (
        "--quick",
        "criterion's library cannot stop early; --budget SECONDS and --precision 5% shorten a run",
    ),
    (
        "--plotting-backend",
        "criterion draws nothing here; `decode-bench plot RUN` draws the figures of a run",
    ),
];

/// A part of a run.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Work and memory of a step, counted
    Memory,
    /// Beams reordered
    Reorder,
    /// Cold starts
    Startup,
    /// Steps, prefills and whole decodes
    Step,
}

impl Part {
    /// What is said where the filter selects nothing of it.
    pub fn left_out(self) -> &'static str {
        match self {
            Part::Memory => "nothing is counted: the filter selects no step",
            Part::Step => "no steps: the filter selects none",
            Part::Reorder => {
                "no beams are reordered: the filter selects no step of one sentence to position 64 or 256"
            }
            Part::Startup => "no cold starts: the filter selects none of their ids, which end in /b1/t1",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time, and write down.
    Measure,
    /// Run everything once and write nothing: `--test`, and plain `cargo test --benches`.
    Try,
    /// Repeat everything for so long and write nothing.
    Profile(Duration),
    /// Print the ids.
    List,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum OutputFormat {
    Criterion,
    Bencher,
}

/// How a case's result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The interval in one line, with the change if a baseline was named.
    Brief {
        /// Whether the change from a baseline is printed too.
        change: bool,
    },
    /// All that criterion says.
    Verbose,
    /// `test ID ... bench: 1,234 ns/iter (+/- 56)`.
    Bencher,
}

/// Criterion's samples of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline<'a> {
    /// Written under this name.
    Save(&'a str),
    /// Compared with, and kept.
    Keep(&'a str),
}

impl Statistics {
    /// The baseline that the options name.
    pub fn baseline(&self) -> Baseline<'_> {
        let compared = self.baseline.as_deref().or(self.baseline_lenient.as_deref());
        match (&self.save_baseline, compared) {
            (Some(name), _) => Baseline::Save(name),
            (None, Some(name)) => Baseline::Keep(name),
            (None, None) if self.discard_baseline => Baseline::Keep(USUAL),
            (None, None) => Baseline::Save(USUAL),
        }
    }

    /// The form of a case's result.
    pub fn output(&self) -> Output {
        match self.output_format {
            OutputFormat::Bencher => Output::Bencher,
            OutputFormat::Criterion if self.verbose => Output::Verbose,
            OutputFormat::Criterion => {
                Output::Brief { change: self.baseline.is_some() || self.baseline_lenient.is_some() }
            }
        }
    }

    /// Whether results are printed in colours, on a terminal or elsewhere.
    pub fn colored(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Auto => terminal,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        }
    }

    /// # Errors
    /// When one of these cases lacks the baseline that all must have. Criterion itself would find out in the
    /// middle of the run.
    pub fn check_baseline(&self, home: &Path, cases: &[Case]) -> Result<()> {
        let Some(name) = &self.baseline else { return Ok(()) };
        let lacks = |case: &&Case| !home.join(folder(case)).join(name).is_dir();
        cases.iter().find(lacks).map_or(Ok(()), |case| {
            Err(Error::Input(format!(
                "--baseline {name}: {} has none of that name for {case}; --save-baseline {name} makes one, \
                 --baseline-lenient {name} compares the cases that have one",
                home.display()
            )))
        })
    }
}

/// What criterion calls its samples when no name is given.
const USUAL: &str = "base";

/// The two parts that criterion puts an id together from.
pub(super) fn parts(case: &Case) -> (String, String) {
    let id = case.to_string();
    let (model, rest) = id.split_once('/').expect("an id has parts");
    (model.into(), rest.into())
}

/// Where criterion keeps the samples of a case, in its folder.
fn folder(case: &Case) -> PathBuf {
    let (model, rest) = parts(case);
    Path::new(&model).join(rest.replace('/', "_"))
}

/// The folder that criterion writes to, by its own rules; the build folder is where `program` was built.
pub(super) fn criterion_home(program: &Path) -> PathBuf {
    let given = |name| std::env::var_os(name).map(PathBuf::from);
    let built = || program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    given(HOME).unwrap_or_else(|| {
        let target = given("CARGO_TARGET_DIR").or_else(|| built().map(PathBuf::from));
        target.unwrap_or_else(|| "target".into()).join("criterion")
    })
}

/// The variable that criterion reads this folder from.
pub(super) const HOME: &str = "CRITERION_HOME";

impl Args {
    /// What the command line says; `Err` is also what `--help` and `--version` print.
    ///
    /// # Errors
    /// An option that is unknown, that cannot be passed on to criterion, or that would change nothing.
    pub fn parse_from(line: impl IntoIterator<Item = OsString>) -> Result<Args, Refusal> {
        let matches = Args::command().try_get_matches_from(line).map_err(refusal)?;
        let args = Args::from_arg_matches(&matches).map_err(refusal)?;
        args.refuse_idle(&matches).map(|()| args).map_err(Refusal::Wrong)
    }

    /// # Errors
    /// When an option was given that changes nothing of what is done.
    fn refuse_idle(&self, given: &ArgMatches) -> Result<()> {
        let (action, parts) = (self.action(), self.parts());
        let timed =
            action == Action::Measure && parts.iter().any(|part| matches!(part, Part::Startup | Part::Step));
        let criterion = <Statistics as clap::Args>::augment_args(clap::Command::new("criterion"));
        let of_criterion = |option: &str| criterion.get_arguments().any(|arg| arg.get_id() == option);
        let heeded = |option: &str| match option {
            "threads" | "seed" => action != Action::List,
            "cold_l2" => action != Action::List && parts.iter().any(|part| *part != Part::Memory),
            "results" | "resume" | "name" | "note" | "wait_quiet" | "budget" => action == Action::Measure,
            "precision" => action == Action::Measure && parts.contains(&Part::Step),
            "format" => action == Action::List,
            "profile_time" => matches!(action, Action::Profile(_)),
            "quiet" | "color" => true, // cargo hands on its own wherever they were said to it
            "warm_up_time" | "measurement_time" => timed,
            option => timed || !of_criterion(option),
        };
        let given =
            given.ids().filter(|id| given.value_source(id.as_str()) == Some(ValueSource::CommandLine));
        match given.map(|id| id.as_str()).find(|option| !heeded(option)) {
            None => Ok(()),
            Some(option) => {
                let why = match action {
                    Action::List => "where cases are listed",
                    Action::Try => "where every case is run once and nothing is measured",
                    Action::Profile(_) => "where cases are repeated for a profiler",
                    Action::Measure => "for what is selected here",
                };
                Err(Error::Input(format!("--{} changes nothing {why}", option.replace('_', "-"))))
            }
        }
    }

    /// # Errors
    /// When the run to complete is not where runs are to be written.
    pub fn settings(&self) -> Result<Settings> {
        let settings = self.common.settings()?;
        let budget = self.budget.map_or(settings.stop.budget, Duration::from_secs);
        Ok(Settings { stop: StopRule { precision: self.precision, budget }, ..settings })
    }

    pub fn action(&self) -> Action {
        match self.profile_time {
            _ if self.list => Action::List,
            _ if self.test || !self.bench => Action::Try,
            Some(time) => Action::Profile(time),
            None => Action::Measure,
        }
    }

    /// The parts that are asked for, in their order.
    pub fn parts(&self) -> Vec<Part> {
        let all = Part::value_variants().iter().copied();
        all.filter(|part| self.only.is_empty() || self.only.contains(part)).collect()
    }

    pub fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// The cases that the filter selects.
    pub fn select(&self, mut cases: Vec<Case>) -> Result<Vec<Case>> {
        match &self.filter {
            None => {}
            Some(id) if self.exact => cases.retain(|case| case.to_string() == *id),
            Some(pattern) => cases.retain(suite::matcher(pattern)?),
        }
        Ok(cases)
    }

    /// Whether the ignored cases are asked for, of which there are none.
    pub fn ignored(&self) -> bool {
        self.ignored
    }

    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    pub fn warm_up_time(&self) -> Duration {
        self.warm_up_time.unwrap_or(Duration::from_millis(100))
    }

    pub fn measurement_time(&self) -> Option<Duration> {
        self.measurement_time
    }
}

/// Why a command line is not followed.
pub enum Refusal {
    /// It asks for this text instead.
    Asked(String),
    Wrong(Error),
}

fn refusal(error: clap::Error) -> Refusal {
    let name = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(name))) => name.as_str(),
        _ => "",
    };
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((name, why)) => Refusal::Wrong(Error::Input(format!("{name}: {why}"))),
        None if error.use_stderr() => Refusal::Wrong(Error::Input(usage(&error.to_string()))),
        None => Refusal::Asked(error.to_string()),
    }
}

/// `2%` as 0.02.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end().trim_end_matches('%').trim_end().parse::<f64>();
    let percent = number.ok().filter(|p| (0.1..=100.0).contains(p));
    percent.map(|p| p / 100.0).ok_or_else(|| "a percentage from 0.1% to 100% is wanted".into())
}

fn number(text: &str, wanted: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    text.parse().ok().filter(|x| fits(*x)).ok_or_else(|| format!("{wanted} is wanted"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text, "a number of seconds from 0.001 to 86400", |x| (0.001..=86_400.0).contains(&x))
        .map(Duration::from_secs_f64)
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    number(text, "a number of seconds from 1 to 86400", |x| (1.0..=86_400.0).contains(&x))
        .map(Duration::from_secs_f64)
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number from 0 on", |x| x >= 0.0 && x.is_finite())
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, "a number between 0 and 1", |x| x > 0.0 && x < 1.0)
}

/// A folder of that name stands beside criterion's own.
fn name(text: &str) -> Result<String, String> {
    let taken = ["", ".", "..", "new", "change", "report", "profile"].contains(&text);
    let plain = !text.contains(['/', '\\']);
    (plain && !taken).then(|| text.into()).ok_or_else(|| "a name that a folder can have is wanted".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::one_line;

    fn parse(line: &str) -> Result<Args> {
        let words = std::iter::once("decode").chain(line.split_whitespace());
        Args::parse_from(words.map(OsString::from)).map_err(|refusal| match refusal {
            Refusal::Asked(text) => Error::Input(text),
            Refusal::Wrong(error) => error,
        })
    }

    fn refused(line: &str) -> String {
        one_line(&parse(line).expect_err(line).to_string())
    }

    fn statistics(line: &str) -> Statistics {
        parse(&format!("--bench {line}")).unwrap().statistics
    }

    #[test]
    fn only_cargo_bench_measures() {
        let action = |line| parse(line).unwrap().action();
        assert_eq!(action("--bench"), Action::Measure);
        assert_eq!(action("--bench --test"), Action::Try);
        assert_eq!(action(""), Action::Try);
        assert_eq!(action("--bench --list"), Action::List);
        assert_eq!(action("--list --format terse"), Action::List);
        assert_eq!(action("--bench --profile-time 1.5"), Action::Profile(Duration::from_millis(1500)));
        for wrong in ["--list --test", "--list --profile-time 2", "--profile-time 0.5", "--format json"] {
            refused(wrong);
        }
    }

    #[test]
    fn the_filter_is_one_pattern_or_one_id() {
        let case: Case = "transformer-toy/padded/cpu/b1/t64".parse().unwrap();
        let wants = |line| !parse(line).unwrap().select(vec![case]).unwrap().is_empty();
        assert!(wants("--bench --sample-size 20 toy/padded") && wants("--quiet"));
        assert!(refused("--exact").contains("FILTER"));
        assert!(wants("transformer-toy/padded/cpu/b1/t64 --exact") && wants("t64$"));
        assert!(!wants("toy/padded --exact") && !wants("toy/concat"));
        assert!(parse("t64 --ignored").unwrap().ignored());
        refused("toy base");
        assert!(parse("(").unwrap().select(vec![case]).is_err());
    }

    #[test]
    fn parts_are_done_in_their_order() {
        let parts = |line| parse(line).unwrap().parts();
        assert_eq!(parts(""), [Part::Memory, Part::Reorder, Part::Startup, Part::Step]);
        assert_eq!(parts("--only step,memory,step"), [Part::Memory, Part::Step]);
        assert!(refused("--only steps").contains("tip: a similar value exists: 'step'"));
    }

    #[test]
    fn settings_are_those_given() {
        let settings = |line| parse(line).unwrap().settings();
        let given = settings("--bench --threads 3 --seed 9 --results x --cold-l2 --precision 2% --budget 60")
            .unwrap();
        assert_eq!((given.threads, given.seed, given.cold_l2, given.results), (3, 9, true, "x".into()));
        assert_eq!(given.stop, StopRule { precision: Some(0.02), budget: Duration::from_secs(60) });
        let usual = settings("").unwrap();
        assert_eq!((usual.stop, usual.results), (StopRule::default(), "results".into()));
        assert_eq!(settings("--bench --resume y").unwrap().resume, Some("y".into()));
        assert_eq!((usual.name, usual.note, usual.wait_quiet), (None, None, None));
        assert_eq!(settings("--bench --wait-quiet 60").unwrap().wait_quiet, Some(60));
        let labelled = settings("--bench --name before --note a\u{1b}[2J\u{202e}b").unwrap();
        assert_eq!((labelled.name, labelled.note), (Some("before".into()), Some("a [2J b".into())));
        assert!(refused(&format!("--bench --name {}", "n".repeat(81))).contains("1 to 80 characters"));
        assert!(settings("--bench --results src --resume src/bench").is_ok());
        let said = settings("--bench --results src --resume tests/golden").unwrap_err().to_string();
        assert_eq!(said, "--resume tests/golden: it is not in --results src");
        for wrong in ["--threads 0", "--threads 1025", "--budget 0", "--seed -1", "--precision 0%"] {
            refused(wrong);
        }
    }

    #[test]
    fn what_criterion_is_told() {
        let usual = statistics("");
        assert_eq!((usual.sample_size, usual.nresamples), (10, 2_000));
        let line = "--sample-size 20 --nresamples 5000 --noise-threshold 0.05 --confidence-level 0.9 --significance-level 0.1";
        let told = statistics(line);
        assert_eq!((told.sample_size, told.nresamples, told.noise_threshold), (20, 5_000, 0.05));
        assert_eq!((told.confidence_level, told.significance_level), (0.9, 0.1));
        let args = parse("--bench --warm-up-time 0.5 --measurement-time 2").unwrap();
        assert_eq!(args.warm_up_time(), Duration::from_millis(500));
        assert_eq!(args.measurement_time(), Some(Duration::from_secs(2)));
        for wrong in [
            "--sample-size 9",
            "--nresamples 0",
            "--noise-threshold -0.1",
            "--confidence-level 1",
            "--significance-level 0",
            "--warm-up-time 0",
            "--measurement-time inf",
        ] {
            refused(wrong);
        }
    }

    #[test]
    fn what_is_printed() {
        let output = |line| statistics(line).output();
        assert_eq!(output(""), Output::Brief { change: false });
        assert_eq!(output("--quiet --noplot --nocapture --show-output"), Output::Brief { change: false });
        assert_eq!(output("--baseline a"), Output::Brief { change: true });
        assert_eq!(output("--verbose"), Output::Verbose);
        assert_eq!(output("--output-format bencher"), Output::Bencher);
        assert_eq!(output("--output-format=criterion -n --include-ignored"), Output::Brief { change: false });
        let colored = |line| [false, true].map(|terminal| statistics(line).colored(terminal));
        assert_eq!(colored(""), [false, true]);
        assert_eq!(colored("--color never"), [false, false]);
        assert_eq!(colored("--color always"), [true, true]);
        for wrong in ["--verbose --quiet", "--color blue", "--output-format json"] {
            refused(wrong);
        }
    }

    #[test]
    fn a_baseline_is_saved_or_compared_with() {
        let baseline = |line: &str| format!("{:?}", statistics(line).baseline());
        assert_eq!(baseline(""), "Save(\"base\")");
        assert_eq!(baseline("--save-baseline a"), "Save(\"a\")");
        assert_eq!(baseline("-b a"), "Keep(\"a\")");
        assert_eq!(baseline("--baseline-lenient a"), "Keep(\"a\")");
        assert_eq!(baseline("--discard-baseline"), "Keep(\"base\")");
        for wrong in
            ["--baseline a -s b", "--discard-baseline -b a", "--save-baseline new", "--save-baseline a/b"]
        {
            refused(wrong);
        }
    }

    #[test]
    fn a_missing_baseline_is_refused_before_anything_is_measured() {
        let home = tempfile::tempdir().unwrap();
        let case = |id: &str| -> Case { id.parse().unwrap() };
        let cases =
            [case("transformer-toy/padded/cpu/b1/t64"), case("encoder-decoder-flax-toy/concat/cpu/b1/t1")];
        std::fs::create_dir_all(home.path().join("transformer-toy/padded_cpu_b1_t64/a")).unwrap();
        let check = |line: &str, cases: &[Case]| {
            statistics(line).check_baseline(home.path(), cases).map_err(|e| e.to_string())
        };
        assert_eq!(check("--baseline a", &cases[..1]), Ok(()));
        let said = check("--baseline a", &cases).unwrap_err();
        assert!(said.starts_with("--baseline a: ") && said.contains(&cases[1].to_string()), "{said}");
        assert!(check("--baseline b", &cases[..1]).is_err());
        assert_eq!(check("--baseline-lenient b", &cases), Ok(()));
        assert_eq!(check("--save-baseline b", &cases), Ok(()));
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused_by_name() {
        for line in ["--load-baseline a", "--quick", "--plotting-backend gnuplot"] {
            let said = refused(line);
            assert!(said.starts_with(line.split(' ').next().unwrap()), "{said}");
        }
    }

    #[test]
    fn what_would_change_nothing_is_refused_by_name() {
        for line in [
            "--threads 2 --bench --list",
            "--seed 2 --bench --list",
            "--cold-l2 --bench --list",
            "--results x --bench --test",
            "--resume x",
            "--name x",
            "--wait-quiet 5 --bench --test",
            "--note x --bench --list",
            "--budget 5 --bench --profile-time 1",
            "--precision 2% --bench --only memory,startup",
            "--sample-size 20 --bench --test",
            "--baseline a --bench --list",
            "--warm-up-time 1 --bench --only reorder",
            "--measurement-time 1",
            "--format terse --bench",
            "--cold-l2 --bench --only memory",
        ] {
            let said = refused(line);
            let option = line.split(' ').next().unwrap();
            assert!(said.starts_with(&format!("{option} changes nothing ")), "{said}");
        }
        for line in [
            "--quiet --test",
            "--color always --list",
            "--bench --cold-l2 --only reorder",
            "--exact x --list",
        ] {
            parse(line).unwrap();
        }
    }

    /// Every option, misspelt in every way that one key can go wrong; what is suggested instead is an option that is taken.
    #[test]
    fn no_misspelling_passes_and_no_suggestion_is_refused() {
        let mut command = Args::command();
        command.build();
        let known: Vec<String> =
            command.get_arguments().filter_map(|arg| arg.get_long()).map(String::from).collect();
        assert!(known.len() > 30);
        let mut tried = 0;
        for name in &known {
            for at in 0..name.len() {
                let changed = [
                    format!("{}{}", &name[..at], &name[at + 1..]),
                    format!("{}x{}", &name[..at], &name[at + 1..]),
                    format!("{}{}{}", &name[..at], &name[at..=at], &name[at..]),
                ];
                for wrong in changed.into_iter().filter(|wrong| wrong.len() > 1 && !known.contains(wrong)) {
                    for line in [format!("--{wrong}"), format!("--{wrong}=1"), format!("--bench --{wrong} 1")]
                    {
                        let said = refused(&line);
                        assert!(said.contains(&format!("--{wrong}")), "{line}: {said}");
                        let suggested = said.split("'--").skip(2).filter_map(|rest| rest.split('\'').next());
                        assert!(
                            suggested.clone().all(|name| known.iter().any(|known| known == name)),
                            "{said}"
                        );
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 2_000, "{tried}");
    }

    #[test]
    fn a_typing_mistake_never_passes() {
        for (line, meant) in [
            ("--tresads 3", "--threads"),
            ("--sample-sizes 20", "--sample-size"),
            ("--save-basline a", "--save-baseline"),
            ("--tets", "--test"),
        ] {
            let said = refused(line);
            assert!(said.contains(meant), "{said}");
        }
        refused("-x");
        refused("--sample 20");
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
}
