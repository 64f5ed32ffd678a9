//! `report`: a run's tables as Markdown, all of it as one page of HTML, or its steps for a program that watches them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use decode_bench::analysis::window;
use decode_bench::case::{BackendName, Case};
use decode_bench::error::{Error, Result};
use decode_bench::harmless;
use decode_bench::record::{Metric, Run, Sample};
use decode_bench::report::{self, Section};
use decode_bench::suite;

use super::output::OutputFile;
use super::{note, open_run, print, run_in};

/// Print a run's tables as Markdown, or write all of it as one HTML page.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench report results/2026-01-31T12-00-00Z-my-machine
  decode-bench report results/2026-01-31T12-00-00Z-my-machine --section brief
  decode-bench report results/2026-01-31T12-00-00Z-my-machine --html run.html
  decode-bench report results/2026-01-31T12-00-00Z-my-machine --format github-action-benchmark > steps.json

--html writes one file that a browser opens without a network: tables to sort, plots to read values from.
To keep tables in a page of your own up to date, see `decode-bench check --help`.")]
pub struct Args {
    /// Run folder
    run: PathBuf,
    /// Regular expression: only cases whose id it matches are reported
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
    /// A run of `compile`, whose compile times are set against this run's decodes
    #[arg(long, value_name = "RUN")]
    with: Option<PathBuf>,
    /// Print this section alone
    #[arg(long, value_enum)]
    section: Option<Section>,
    /// Write all of it as one HTML file, with interactive plots, and print nothing
    #[arg(long, value_name = "FILE", conflicts_with = "section")]
    html: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Markdown, conflicts_with_all = ["section", "html"])]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables and findings
    Markdown,
    /// The steps of the tables, as JSON for the GitHub action of that name: its tool customSmallerIsBetter
    GithubActionBenchmark,
}

impl Args {
    /// The same with the runs of their names in this folder, if one is given.
    pub fn of_runs_in(self, folder: Option<&Path>) -> Args {
        Args { run: run_in(folder, self.run), with: self.with.map(|run| run_in(folder, run)), ..self }
    }
}

pub fn run(args: Args) -> Result<()> {
    let run = selected(&args)?;
    match (&args.html, args.format) {
        (None, Format::Markdown) => print(&markdown(&run, args.section)?),
        (None, Format::GithubActionBenchmark) => {
            let failed = run.samples.iter().filter(|s| s.metric == Metric::StepNs && s.value.is_none());
            let failed: BTreeSet<String> = failed.map(|sample| sample.case.to_string()).collect();
            failed.iter().for_each(|case| note(&format!("failed, and left out: {case}")));
            print(&report::github_action_benchmark(&run)?)
        }
        (Some(file), _) => {
            refuse_to_lose(file)?;
            let mut page = OutputFile::create(file)?;
            page.write(report::html(&run)?.as_bytes())?;
            page.commit()
        }
    }
}

/// What `run` prints.
///
/// # Errors
/// As `run`; and when a file is to be written.
pub fn text(args: &Args) -> Result<String> {
    match (&args.html, args.format) {
        (None, Format::Markdown) => markdown(&selected(args)?, args.section),
        (None, _) => Err(Error::Input("a table of a page is Markdown: --format markdown".into())),
        (Some(_), _) => Err(Error::Input("--html writes a file; a table is Markdown".into())),
    }
}

fn markdown(run: &Run, section: Option<Section>) -> Result<String> {
    section.map_or_else(|| Ok(report::markdown(run)), |section| report::section(run, section))
}

/// The run with what the filter selects of it.
fn selected(args: &Args) -> Result<Run> {
    let mut run = open_run(&args.run)?;
    if let Some(with) = &args.with {
        add_compile_times(&mut run, open_run(with)?)?;
    }
    if let Some(filter) = &args.filter {
        let known: Vec<String> = run.samples.iter().map(|sample| sample.case.to_string()).collect();
        let wanted = suite::matcher(filter)?;
        // the steps before a position are behind its figure, whether or not they match
        let most = run.environment.step_window.unwrap_or(1);
        let selected: BTreeSet<Case> =
            run.samples.iter().map(|s| s.case).filter(|case| wanted(case)).collect();
        let behind = |case: &Case| window(case, most).map(|t| case.at(t)).collect::<Vec<_>>();
        let behind: BTreeSet<Case> = selected.iter().flat_map(behind).collect();
        let decodes: BTreeSet<Case> = selected.iter().map(|case| case.at(1)).collect();
        // what others took in a round stands at the last position of its decodes
        let is_behind = |s: &Sample| match s.metric {
            Metric::StepNs => s.round.is_decode() && behind.contains(&s.case),
            Metric::OthersPermille => decodes.contains(&s.case.at(1)),
            _ => false,
        };
        run.samples.retain(|sample| selected.contains(&sample.case) || is_behind(sample));
        run.ledger.retain(|row| wanted(&row.case));
        run.equality.retain(|row| wanted(&row.case));
        if run.samples.is_empty() {
            return Err(Error::NoMatch { filter: filter.clone(), known });
        }
    }
    Ok(run)
}

/// The costs of compiling follow from shapes, not from weights: the two runs need not have them in common.
fn add_compile_times(run: &mut Run, with: Run) -> Result<()> {
    let is_compiler = |sample: &Sample| {
        matches!(sample.metric, Metric::CompileNs | Metric::Compiles | Metric::CompiledKernels)
            && matches!(sample.case.backend, BackendName::Outside(_))
    };
    let (path, name, before) = (with.path.clone(), harmless::name(&with.name()), run.samples.len());
    run.samples.extend(with.samples.into_iter().filter(is_compiler));
    if run.samples.len() == before {
        return Err(Error::file(path, "no run of `compile`: it has no compile times"));
    }
    run.notes.push(format!("Compile times are those of run `{name}`"));
    Ok(())
}

/// A page may take the place of a page, and of nothing else: a run's samples cannot be had again.
fn refuse_to_lose(file: &Path) -> Result<()> {
    const BEGINS: &str = "<!DOCTYPE html>";
    if !fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(());
    }
    let mut start = Vec::new();
    let read = File::open(file).and_then(|found| found.take(BEGINS.len() as u64).read_to_end(&mut start));
    read.map_err(Error::io(file))?;
    match start.eq_ignore_ascii_case(BEGINS.as_bytes()) {
        true => Ok(()),
        false => Err(Error::file(file, "no page of HTML, and would be lost: name another file")),
    }
}
