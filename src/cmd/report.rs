//! `report`: a run's tables as Markdown, or all of it as one page of HTML.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use decode_bench::case::BackendName;
use decode_bench::error::{Error, Result};
use decode_bench::record::{Metric, Run, Sample};
use decode_bench::{report, suite};

use super::output::Output;
use super::{open_run, print};

/// Print a run's tables as Markdown, put them into a page, or write a page of their own.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench report results/2026-01-31T12-00-00Z-my-machine --html run.html
  decode-bench report results/2026-01-31T12-00-00Z-my-machine --splice README.md

--html writes one file that a browser opens without a network: tables to sort, plots to read values from.
The page that --splice changes holds the lines <!-- decode-bench:begin --> and <!-- decode-bench:end -->;
what is between them is replaced.")]
pub struct Args {
    /// A folder under results/
    run: PathBuf,
    /// A regular expression; only cases whose id it matches anywhere are reported
    #[arg(long, value_name = "RE")]
    filter: Option<String>,
    /// A run of `compile`, whose compile times are set against this run's decodes
    #[arg(long, value_name = "RUN")]
    with: Option<PathBuf>,
    /// Replace what is between the markers of this page, and print nothing
    #[arg(long, value_name = "PAGE")]
    splice: Option<PathBuf>,
    /// Write all of it as one HTML file, with interactive plots, and print nothing
    #[arg(long, value_name = "FILE", conflicts_with = "splice")]
    html: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let mut run = open_run(&args.run)?;
    if let Some(with) = &args.with {
        add_compile_times(&mut run, open_run(with)?)?;
    }
    if let Some(filter) = &args.filter {
        let known: Vec<String> = run.samples.iter().map(|sample| sample.case.to_string()).collect();
        let wanted = suite::matcher(filter)?;
        run.samples.retain(|sample| wanted(&sample.case));
        run.ledger.retain(|row| wanted(&row.case));
        run.equality.retain(|row| wanted(&row.case));
        if run.samples.is_empty() {
            return Err(Error::NoMatch { filter: filter.clone(), known });
        }
    }
    if let Some(file) = &args.html {
        refuse_to_lose(file)?;
        let mut page = Output::create(file)?;
        page.write(report::html(&run)?.as_bytes())?;
        return page.commit();
    }
    let section = report::markdown(&run);
    match args.splice {
        Some(page) => report::splice_file(&page, &section),
        None => print(&section),
    }
}

/// What compiling costs follows from shapes, not from weights: the two runs need not have them in common.
fn add_compile_times(run: &mut Run, with: Run) -> Result<()> {
    let is_compiler = |sample: &Sample| {
        matches!(sample.metric, Metric::CompileNs | Metric::Compiles | Metric::CompiledKernels)
            && matches!(sample.case.backend, BackendName::Outside(_))
    };
    let (path, name, before) = (with.path.clone(), with.name(), run.samples.len());
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
