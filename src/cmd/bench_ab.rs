//! `bench-ab`: two builds of this program in turn, on one machine.

use std::path::{Path, PathBuf};

use decode_bench::analysis::{rounds_for, Series};
use decode_bench::bench::Threads;
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::measure::builds::{round, Build, Turn, Turns};
use decode_bench::measure::{Machines, Progress, Settings};
use decode_bench::record::Round;
use decode_bench::report::builds::{builds, TwoBuilds};
use decode_bench::report::compare::Format;
use decode_bench::suite;
use sha2::{Digest, Sha256};

use super::gate::{percent, slower};
use super::output::OutputFile;
use super::{note, print};

/// Measure two builds of this program in turn, and compare their steps.
///
/// In every round both are started anew and take turns, so that neither the moment nor the place in memory favours one.
/// A case's interval is so wide that those of all cases together hold the truth in 95 % of runs. Nothing is recorded
/// but what --out asks for; only cases of batch 1 are timed.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench bench-ab ../before/target/release/decode-bench target/release/decode-bench --fail-if-slower 5%")]
pub struct Args {
    /// The program built before
    #[arg(value_name = "OLD_BINARY")]
    old: PathBuf,
    /// The program that is judged
    #[arg(value_name = "NEW_BINARY")]
    new: PathBuf,
    /// Regular expression: cases whose id it matches are timed
    #[arg(
        long,
        value_name = "RE",
        allow_hyphen_values = true,
        default_value = "^transformer-toy/(concat|padded|bounded)/cpu/b1/t(64|512)$"
    )]
    filter: String,
    /// Rounds of each case [default: 12, or as many as that many cases need]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(5..=1000))]
    rounds: Option<u32>,
    /// Turns of each build in a round
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: u32,
    /// Steps of each turn, after a tenth as many to warm up
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: u64,
    #[command(flatten)]
    threads: Threads,
    /// Exit with 1 if a case is slower and its whole interval is beyond this
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_if_slower: Option<f64>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write the median step of every turn to this CSV file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let cases = cases(&args)?;
    let (needed, rounds) = (rounds_for(cases.len()) as u32, args.rounds);
    if let Some(few) = rounds.filter(|&rounds| rounds < needed) {
        let what =
            format!("--rounds {few}: {} cases are judged together in {needed} rounds at least", cases.len());
        return Err(Error::Input(what));
    }
    let mut file = args.out.as_deref().map(OutputFile::create).transpose()?;
    let hashes = [hash(&args.old)?, hash(&args.new)?];
    if hashes[0] == hashes[1] {
        note("both builds are the same file, byte for byte");
    }
    file.as_mut().map_or(Ok(()), |file| file.write(HEADER.as_bytes()))?;
    let mut keep = |case: &Case, round: u32, turn: &Turn| match &mut file {
        Some(file) => file.write(row(case, round, turn, &hashes[turn.build as usize]).as_bytes()),
        None => Ok(()),
    };
    let found = measured(&args, &cases, rounds.unwrap_or(needed.max(12)), &mut keep)?;
    file.map_or(Ok(()), OutputFile::commit)?;
    print(&builds(&found, args.format)?)?;
    args.fail_if_slower.map_or(Ok(()), |limit| fail_if_slower(&found, limit))
}

/// Those that a process can be asked for.
fn cases(args: &Args) -> Result<Vec<Case>> {
    let mut cases = suite::select(Some(&args.filter))?;
    let all = cases.len();
    cases.retain(|case| case.batch == 1);
    match all - cases.len() {
        0 => {}
        _ if cases.is_empty() => {
            return Err(Error::Input(format!("--filter {}: only cases of batch 1 are timed", args.filter)))
        }
        others => note(&format!("{others} cases of a larger batch are left out")),
    }
    Machines::new(&Settings { threads: args.threads.count(), ..Settings::default() }).able(cases)
}

/// All cases once before any twice: what disturbs the machine for a minute touches a round of several.
fn measured(
    args: &Args,
    cases: &[Case],
    rounds: u32,
    keep: &mut impl FnMut(&Case, u32, &Turn) -> Result<()>,
) -> Result<Vec<TwoBuilds>> {
    let empty = |&case: &Case| TwoBuilds { case, old: Series::default(), new: Series::default() };
    let mut found: Vec<TwoBuilds> = cases.iter().map(empty).collect();
    let asked = Turns { turns: args.turns, steps: args.steps, threads: args.threads.count() };
    let progress = Progress::of(rounds as usize * cases.len());
    for number in 1..=rounds {
        for of_case in &mut found {
            progress.begin(1, format_args!("round {number}, {}", of_case.case));
            let turns = round([&args.old, &args.new], &of_case.case, number, &asked)?;
            for (build, series) in [(Build::Old, &mut of_case.old), (Build::New, &mut of_case.new)] {
                let steps = turns.iter().filter(|turn| turn.build == build).flat_map(|turn| &turn.step_ns);
                series.samples.extend(steps.map(|&ns| (Round::Interleaved(number), ns as f64)));
            }
            turns.iter().try_for_each(|turn| keep(&of_case.case, number, turn))?;
        }
    }
    Ok(found)
}

/// Of the file that --out names. A binary is named by its hash.
const HEADER: &str = "case,round,turn,build,sha256,steps,median_step_ns\n";

fn row(case: &Case, round: u32, Turn { build, turn, step_ns }: &Turn, hash: &str) -> String {
    let samples = step_ns.iter().map(|&ns| (Round::Single, ns as f64)).collect();
    let median = Series { samples }.median().map_or(0.0, |median| median.value);
    format!("{case},{round},{turn},{},{hash},{},{median}\n", build.name(), step_ns.len())
}

/// The SHA-256 of a program's file, in hexadecimal digits.
fn hash(program: &Path) -> Result<String> {
    let bytes = std::fs::read(program).map_err(Error::io(program))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn fail_if_slower(found: &[TwoBuilds], limit: f64) -> Result<()> {
    let compared = found.iter().map(|case| (case.case, case.comparison(found.len())));
    slower(compared, limit).map_or(Ok(()), |what| Err(Error::Differs(what)))
}
