//! `cite`: a figure to paste, with what is needed to find its rows and to repeat it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use decode_bench::analysis::{citation, tabled, Citation, Figure};
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::record::{unfit, Consequence, Metric, Run, Sample};
use decode_bench::report::cite::{bibtex, sentence, table};

use super::{note, print, runs_under};

/// Print figures as sentences and as a table to paste, with the hash of the rows behind them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench cite transformer-toy/padded/cpu/b1/t512 --vs transformer-toy/concat/cpu/b1/t512
  decode-bench cite transformer-toy/padded/cpu/b1/t512 --metric decode_tokens_per_second")]
pub struct Args {
    /// Case ids, as `list` prints them
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<String>,
    /// Run folder [default: the newest whose tables have all these cases]
    #[arg(long)]
    run: Option<PathBuf>,
    /// Also compare with this case of the same run
    #[arg(long, value_name = "CASE")]
    vs: Option<String>,
    /// Metric to cite; besides those of samples.csv: decode_tokens_per_second, prefill_tokens_per_second and ttft_ns, the
    /// time to first token
    #[arg(long, default_value_t = Figure::Metric(Metric::StepNs))]
    metric: Figure,
    /// Print BibTeX
    #[arg(long)]
    bibtex: bool,
    /// Folder of the runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Cite a run of a program with uncommitted changes, and say so
    #[arg(long)]
    allow_dirty: bool,
    /// Cite a run of a program whose revision is unknown, or not that of its checkout, and say so
    #[arg(long)]
    allow_unknown_revision: bool,
    /// Cite a run of a program that was built without optimisation, and say so
    #[arg(long)]
    allow_debug: bool,
    /// Cite a run whose GPU was emulated in software, and say so
    #[arg(long)]
    allow_emulated: bool,
}

impl Args {
    /// Whether the wanted metric follows from the sample.
    fn is_of(&self, sample: &Sample) -> bool {
        sample.metric == self.metric.metric(sample.case.strategy)
    }
}

pub fn run(args: Args) -> Result<()> {
    let run = match &args.run {
        Some(folder) => Run::open(folder)?,
        None => newest(&args)?,
    };
    citable(&run, &args)?;
    let known = ids(&run, |sample| args.is_of(sample));
    let case = |id: &String| named(id, &known);
    let other = args.vs.as_ref().map(case).transpose()?;
    let cases = args.cases.iter().map(case).collect::<Result<Vec<Case>>>()?;
    let cite = |case: Case| citation(&run, case, args.metric, other);
    let citations = cases.into_iter().map(cite).collect::<Result<Vec<Citation<'_>>>>()?;
    match args.bibtex {
        true => print(&citations.iter().map(bibtex).collect::<String>()),
        false => {
            let sentences = citations.iter().map(|citation| format!("{}\n\n", sentence(citation)));
            print(&format!("{}{}", sentences.collect::<String>(), table(&citations)))
        }
    }
}

/// The newest run that has all the cases as tables show them, and not only as steps of whole decodes; or else the
/// newest that has them at all, or in which they failed. If none has, the error names the nearest that there are.
fn newest(args: &Args) -> Result<Run> {
    let wanted: Vec<&String> = args.cases.iter().chain(&args.vs).collect();
    let measured = |sample: &Sample| sample.value.is_some();
    let mut all = Vec::new();
    let mut found: [Option<Run>; 3] = [None, None, None];
    for run in runs_under(&args.results)? {
        let shown = tabled(&run);
        let tabled = |s: &Sample| measured(s) && (!s.round.is_decode() || shown.contains(&s.case));
        let kinds: [&dyn Fn(&Sample) -> bool; 3] = [&tabled, &measured, &|_| true];
        let of_kind = |kind: &dyn Fn(&Sample) -> bool| ids(&run, |s| args.is_of(s) && kind(s));
        let place = kinds.iter().position(|kind| {
            let ids = of_kind(kind);
            wanted.iter().all(|id| ids.contains(id))
        });
        all.extend(of_kind(&|_| true));
        match place {
            Some(0) => return Ok(run), // of the best, the newest comes first
            Some(place) => drop(found[place].get_or_insert(run)),
            None => {}
        }
    }
    if let Some(run) = found.into_iter().flatten().next() {
        return Ok(run);
    }
    for id in &wanted {
        named(id, &all)?;
    }
    let what = format!("no run has all of these cases with {}; cite them one by one", args.metric);
    Err(Error::file(&args.results, what))
}

/// The cases that have such samples.
fn ids(run: &Run, wanted: impl Fn(&Sample) -> bool) -> Vec<String> {
    let cases: BTreeSet<Case> = run.samples.iter().filter(|s| wanted(s)).map(|sample| sample.case).collect();
    let mut ids: Vec<String> = cases.iter().map(Case::to_string).collect();
    ids.sort();
    ids
}

fn named(id: &str, known: &[String]) -> Result<Case> {
    match known.iter().any(|known| known == id) {
        true => id.parse(),
        false => Err(Error::Unknown { kind: "case", name: id.into(), known: known.to_vec() }),
    }
}

/// By the table of [`decode_bench::record::CONDITIONS`]; the sentence says what is allowed by a flag.
fn citable(run: &Run, args: &Args) -> Result<()> {
    let refused = |what: String| Err(Error::file(&run.path, what));
    for unmet in unfit(run) {
        let dirty = run.environment.git_dirty == Some(true);
        match (unmet.condition.name, unmet.consequence) {
            ("finished", _) => {} // the sentence says it
            (_, Consequence::Said | Consequence::Ignored) => note(&format!("{}: {unmet}", run.name())),
            ("uncommitted changes", _) if dirty && args.allow_dirty => {}
            ("uncommitted changes", _) if dirty => {
                return refused("measured by a program with uncommitted changes, which nobody else has; --allow-dirty cites it, and says so".into());
            }
            ("revision" | "checkout" | "uncommitted changes", _) if args.allow_unknown_revision => {}
            ("profile", _) if args.allow_debug => {}
            ("profile", _) => {
                let profile = run.environment.unoptimised().unwrap_or_default();
                return refused(format!(
                    "measured by a program without optimisation ({profile}): build it with --release; --allow-debug \
                     cites it, and says so"
                ));
            }
            ("emulated device", _) if args.allow_emulated => {}
            ("emulated device", _) => run.refuse_emulated()?,
            _ => {
                let doubt = run.environment.doubtful_revision().unwrap_or_else(|| unmet.to_string());
                return refused(format!("{doubt}; --allow-unknown-revision cites it, and says so"));
            }
        }
    }
    Ok(())
}
