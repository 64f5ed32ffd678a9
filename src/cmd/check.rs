//! `check`: do the figures and tables of a text follow from the runs that they name?

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Parser;

use decode_bench::analysis::{citation, rows, rows_hash, Citation};
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::files::{self, write_atomically};
use decode_bench::record::{Metric, Run};
use decode_bench::report::blocks::{blocks, replace, Block};
use decode_bench::report::check::{claims, quotes, Quote};
use decode_bench::report::cite::sentence;

use super::{print, runs_under, Cli, Verb};

/// Check that the tables and citations of a text follow from the runs that they name.
///
/// A table stands between two lines, the first of which holds the command that makes it:
///
///   <!-- decode-bench:begin report results/RUN --section brief -->
///   <!-- decode-bench:end -->
///
/// It is made again and compared as a whole. Of a citation, as `cite` prints it, the samples are found again by
/// their hash, and each number is compared. Exits with 1 if something does not follow, with 2 if a run is missing.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  decode-bench check README.md docs/RESULTS.md
  decode-bench check --update docs/RESULTS.md
  decode-bench check sha256:0123456789abcdef --results results"
)]
pub struct Args {
    /// Files, - for standard input, a pasted citation, or a hash alone
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// Make the tables of these files again and write them into the files
    #[arg(long)]
    update: bool,
    /// Folder of the runs that are cited
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

/// The largest text that is read.
const MOST_BYTES: u64 = 16 << 20;

pub fn run(args: Args) -> Result<()> {
    if args.update {
        // all are made before one is written
        let pages = args.texts.iter().map(|path| updated(Path::new(path))).collect::<Result<Vec<_>>>()?;
        return pages.into_iter().flatten().try_for_each(|(path, page)| {
            write_atomically(&path, page.as_bytes())?;
            print(&format!("{}: updated\n", path.display()))
        });
    }
    let texts =
        args.texts.iter().map(|argument| Ok((argument, text(argument)?))).collect::<Result<Vec<_>>>()?;
    let cites = texts.iter().any(|(_, text)| !quotes(text).is_empty());
    let runs = if cites { runs_under(&args.results)? } else { Vec::new() };
    let hashed: Vec<Hashed<'_>> = runs.iter().map(Hashed::of).collect();
    let mut wrong = Vec::new();
    for (argument, text) in &texts {
        let (quotes, blocks) = (quotes(text), blocks(text).map_err(|e| Error::file(argument, e))?);
        if quotes.is_empty() && blocks.is_empty() {
            let what = format!(
                "{argument}: no table and no citation: nothing like sha256:0123456789abcdef is in it"
            );
            return Err(Error::Input(what));
        }
        for block in &blocks {
            wrong.extend(check_table(argument, block)?);
        }
        for quote in &quotes {
            wrong.extend(check(quote, &hashed, &args.results)?);
        }
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

/// Says whether the table follows; returns what does not.
fn check_table(page: &str, block: &Block) -> Result<Option<String>> {
    let made = made(page, block)?;
    let place = format!("{page}:{}", block.line);
    let (made, stands) = (made.trim(), block.content.as_str());
    if made == stands {
        print(&format!("{place}: the table follows from `{}`\n", block.command))?;
        return Ok(None);
    }
    let same = made.lines().zip(stands.lines()).take_while(|(made, stands)| made == stands).count();
    let [made, stands] = [made, stands].map(|text| text.lines().nth(same).unwrap_or("nothing"));
    let said = format!("{place}: `{stands}`, and `{}` says `{made}`", block.command);
    print(&format!("{said}\n"))?;
    Ok(Some(said))
}

/// What the block's command prints now.
fn made(page: &str, block: &Block) -> Result<String> {
    let wrong = |what: &dyn std::fmt::Display| {
        Error::file(
            page,
            format!("line {}: `{}`: {}", block.line, block.command, crate::one_line(&what.to_string())),
        )
    };
    let words = shlex::split(&block.command).ok_or_else(|| wrong(&"a quote is not closed"))?;
    let line = std::iter::once("decode-bench".to_string()).chain(words);
    let made = match Cli::try_parse_from(line).map_err(|e| wrong(&e))?.verb {
        Verb::Report(args) => super::report::text(&args),
        Verb::Cmp(args) => super::cmp::text(&args),
        _ => Err(Error::Input("a table is made by `report` or `cmp`".into())),
    };
    made.map_err(|e| wrong(&e))
}

/// The page with what its commands print now, if that differs.
fn updated(path: &Path) -> Result<Option<(PathBuf, String)>> {
    let name = path.display().to_string();
    let page = files::read_text(path, MOST_BYTES)?;
    let found = blocks(&page).map_err(|e| Error::file(path, e))?;
    if found.is_empty() {
        return Err(Error::file(path, "no table: no line begins with <!-- decode-bench:begin"));
    }
    let contents = found.iter().map(|block| made(&name, block)).collect::<Result<Vec<_>>>()?;
    let mut new = replace(&page, &contents)?;
    if page.contains("\r\n") {
        new = new.replace('\n', "\r\n");
    }
    if !page.ends_with('\n') {
        new.truncate(new.trim_end().len());
    }
    Ok((new != page).then(|| (path.to_path_buf(), new)))
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
    let is_quoted = argument.contains("sha256:") || (argument.len() >= 16 && !quotes(argument).is_empty());
    match argument {
        "-" => {
            let name = Path::new("standard input");
            files::utf8(name, files::read_from(std::io::stdin().lock(), name, MOST_BYTES)?)
        }
        text if is_quoted && !path.exists() => Ok(text.into()),
        text if !path.exists() => Err(Error::Input(format!(
            "{text}: no such file, and no citation: nothing like sha256:0123456789abcdef is in it"
        ))),
        _ => files::read_text(path, MOST_BYTES),
    }
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
