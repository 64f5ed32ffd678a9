//! The command line: one file per verb, each with its `Args` and its `run`. A verb is added by a
//! line in [`Verb`] and one in [`Verb::run`].

mod bench_ab;
mod ceilings;
mod check;
mod cite;
mod cmp;
mod compile;
mod completions;
mod decode;
mod devices;
mod gate;
mod import;
mod list;
mod merge;
mod output;
mod parse;
mod plan;
mod plot;
mod report;
mod run;
mod runs;
mod selftest;
mod startup;
mod step_time;
mod trace;
mod verify;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use decode_bench::error::{one_line, Error, Result};
use decode_bench::measure::say;
use decode_bench::record::Run;

/// Measures what a cache buys in autoregressive decoding, and which kind of cache.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = false, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

const AFTER_HELP: &str = "\
`cargo bench` measures; these commands inspect cases, models and runs.

Exit codes:
  0  done
  1  done, and a difference was found
  2  bad input, or a failure; the samples that a run has are kept, nothing else is written";

#[derive(Subcommand)]
pub enum Verb {
    List(list::Args),
    Devices(devices::Args),
    Ceilings(ceilings::Args),
    Verify(verify::Args),
    Decode(Box<decode::Args>),
    Trace(trace::Args),
    Compile(compile::Args),
    Runs(runs::Args),
    Plot(plot::Args),
    Report(report::Args),
    Cmp(cmp::Args),
    Cite(cite::Args),
    Check(check::Args),
    Import(import::Args),
    Plan(plan::Args),
    Run(run::Args),
    Merge(merge::Args),
    Selftest(selftest::Args),
    Completions(completions::Args),
    StepTime(step_time::Args),
    BenchAb(bench_ab::Args),
    Startup(startup::Args),
}

impl Verb {
    pub fn run(self) -> Result<()> {
        match self {
            Verb::List(args) => list::run(args),
            Verb::Devices(args) => devices::run(args),
            Verb::Ceilings(args) => ceilings::run(args),
            Verb::Verify(args) => verify::run(args),
            Verb::Decode(args) => decode::run(*args),
            Verb::Trace(args) => trace::run(args),
            Verb::Compile(args) => compile::run(args),
            Verb::Runs(args) => runs::run(args),
            Verb::Plot(args) => plot::run(args),
            Verb::Report(args) => report::run(args),
            Verb::Cmp(args) => cmp::run(args),
            Verb::Cite(args) => cite::run(args),
            Verb::Check(args) => check::run(args),
            Verb::Import(args) => import::run(args),
            Verb::Plan(args) => plan::run(args),
            Verb::Run(args) => run::run(args),
            Verb::Merge(args) => merge::run(args),
            Verb::Selftest(args) => selftest::run(args),
            Verb::Completions(args) => completions::run(args),
            Verb::StepTime(args) => step_time::run(args),
            Verb::BenchAb(args) => bench_ab::run(args),
            Verb::Startup(args) => startup::run(args),
        }
    }
}

/// Writes to standard output. A reader that has seen enough, as `head` has, is no failure.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(output::failed(Path::new("standard output"), e)),
        _ => Ok(()),
    }
}

/// Opens a run to show its times, and says on standard error what their reader should know.
fn open_run(folder: &Path) -> Result<Run> {
    let run = Run::open(folder)?;
    run.refuse_emulated()?;
    if run.samples.is_empty() {
        return Err(Error::file(folder, "the run has no samples"));
    }
    say_notes(&run);
    Ok(run)
}

/// What a run's reader should know, on standard error.
fn say_notes(run: &Run) {
    run.notes.iter().for_each(|what| note(&format!("{}: {what}", run.path.display())));
}

fn note(what: &str) {
    say(format_args!("note: {}", one_line(what)));
}

/// A run's folder, or the one of its name in another folder.
fn run_in(folder: Option<&Path>, run: PathBuf) -> PathBuf {
    match (folder, run.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => run,
    }
}

/// The runs in a folder, the newest first. One that cannot be read is passed over, and said.
fn runs_under(results: &Path) -> Result<Vec<Run>> {
    let folders = std::fs::read_dir(results).map_err(Error::io(results))?;
    let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    let mut runs = Vec::new();
    for folder in folders.filter(|folder| folder.join("environment.json").is_file()) {
        match Run::open(&folder) {
            Ok(run) => runs.push(run),
            Err(e) => note(&format!("passed over: {e}")),
        }
    }
    runs.sort_by(|a, b| b.environment.started_utc.cmp(&a.environment.started_utc).then(a.path.cmp(&b.path)));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Every option of every verb, with a letter left out, put in or doubled at every place: none is taken for
    /// another, and each is named. What is suggested instead is an option of that verb.
    #[test]
    fn no_misspelling_of_an_option_passes() {
        let (mut command, mut tried) = (Cli::command(), 0);
        command.build();
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            let known: Vec<String> =
                verb.get_arguments().filter_map(|arg| arg.get_long()).map(String::from).collect();
            for (name, at) in known.iter().flat_map(|name| (0..name.len()).map(move |at| (name, at))) {
                let (before, letter, after) = (&name[..at], &name[at..=at], &name[at + 1..]);
                let put_in = format!("{before}x{letter}{after}");
                for wrong in [format!("{before}{after}"), put_in, format!("{before}{letter}{letter}{after}")]
                {
                    if wrong.is_empty() || known.contains(&wrong) {
                        continue;
                    }
                    for option in [format!("--{wrong}"), format!("--{wrong}=1")] {
                        let line = ["decode-bench", verb.get_name(), &option];
                        let Err(error) = Cli::try_parse_from(line) else { panic!("{line:?} passed") };
                        let said = decode_bench::error::usage(&error.to_string());
                        assert!(
                            error.use_stderr() && said.contains(&format!("--{wrong}")),
                            "{line:?}: {said}"
                        );
                        let mut suggested =
                            said.split("'--").skip(2).filter_map(|rest| rest.split('\'').next());
                        assert!(
                            suggested.all(|name| known.iter().any(|known| known == name)),
                            "{line:?}: {said}"
                        );
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 5_000, "{tried}");
    }
}
