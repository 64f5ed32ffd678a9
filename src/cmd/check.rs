//! `check`: does what a text cites follow from rows that are there?

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use decode_bench::analysis::{citation, rows, rows_hash, Citation};
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::record::{Metric, Run};
use decode_bench::report::check::{claims, quotes, Quote};
use decode_bench::report::cite::sentence;

use super::{print, runs_under};

/// Find the rows behind a citation again, and say whether its numbers follow from them.
///
/// Exits with 1 if one does not, and with 2 if no run has the rows.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench check README.md
  decode-bench check sha256:0123456789abcdef --results results")]
pub struct Args {
    /// A file, - for standard input, a pasted citation, or the hash alone
    text: String,
    /// Where run folders are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

/// The largest text that is read.
const MOST_BYTES: u64 = 16 << 20;

pub fn run(args: Args) -> Result<()> {
    let text = text(&args.text)?;
    let quotes = quotes(&text);
    if quotes.is_empty() {
        let what = "no citation: nothing like sha256:0123456789abcdef is in the text";
        return Err(Error::Input(what.into()));
    }
    let runs = runs_under(&args.results)?;
    let runs: Vec<Hashed<'_>> = runs.iter().map(Hashed::of).collect();
    let mut wrong = Vec::new();
    for quote in &quotes {
        wrong.extend(check(quote, &runs, &args.results)?);
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::Differs(format!(
            "{} not what follows from the rows: {}",
            are(wrong.len()),
            wrong.join("; ")
        ))),
    }
}

fn are(n: usize) -> String {
    if n == 1 {
        "1 claim is".into()
    } else {
        format!("{n} claims are")
    }
}

fn text(argument: &str) -> Result<String> {
    let path = Path::new(argument);
    let (mut bytes, from) = (Vec::new(), if argument == "-" { Path::new("standard input") } else { path });
    let read = match argument {
        "-" => std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes),
        _ if path.is_file() => {
            fs::File::open(path).and_then(|f| f.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        }
        text => return Ok(text.into()),
    };
    read.map_err(Error::io(from))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::file(from, "longer than 16 MiB, which is no text with citations"));
    }
    String::from_utf8(bytes).map_err(|_| Error::file(from, "is not UTF-8 text"))
}

/// Prints what the quote says and whether it follows; returns what does not.
fn check(quote: &Quote, runs: &[Hashed<'_>], results: &Path) -> Result<Vec<String>> {
    let found = runs.iter().find_map(|run| run.find(quote));
    let citation = found.ok_or_else(|| {
        let Quote { hash, other, .. } = quote;
        let both = other.as_ref().map(|other| format!("+{other}")).unwrap_or_default();
        let what =
            format!("no run has the rows sha256:{hash}{both}: it is not here, or its rows were changed");
        Error::file(results, what)
    })??;
    print(&format!("sha256:{}: {} of {}\n", quote.hash, citation.case, citation.run.path.display()))?;
    if quote.text.trim().is_empty() {
        print(&format!("  {}\n", sentence(&citation)))?;
        return Ok(Vec::new());
    }
    let mut wrong = Vec::new();
    for claim in claims(quote, &citation) {
        let said = match claim.follows {
            true => format!("{}: {} follows", claim.what, claim.quoted),
            false => format!("{}: {}, and the rows say {}", claim.what, claim.quoted, claim.computed),
        };
        print(&format!("  {said}\n"))?;
        wrong.extend((!claim.follows).then_some(said));
    }
    Ok(wrong)
}

/// A run, and what its rows are named by.
struct Hashed<'a> {
    run: &'a Run,
    named: HashMap<String, (Case, Metric)>,
}

impl<'a> Hashed<'a> {
    fn of(run: &'a Run) -> Hashed<'a> {
        let named = rows(run).into_iter().map(|(key, rows)| (rows_hash(run, &rows), key)).collect();
        Hashed { run, named }
    }

    /// The figure that the quote's rows give, if they are in this run.
    fn find(&self, quote: &Quote) -> Option<Result<Citation<'a>>> {
        let &(case, metric) = self.named.get(&quote.hash)?;
        let other = match &quote.other {
            Some(hash) => Some(self.named.get(hash).filter(|(_, m)| *m == metric)?.0),
            None => None,
        };
        Some(citation(self.run, case, metric, other))
    }
}
