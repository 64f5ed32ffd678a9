//! `check`: do the figures and tables of a text follow from the runs that they name?

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Parser;

use decode_bench::analysis::{citation, rows, rows_hash, Citation, Figure};
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::files::{self, write_atomically};
use decode_bench::harmless;
use decode_bench::record::{Metric, Run};
use decode_bench::report::blocks::{blocks, replace, Block};
use decode_bench::report::check::{quotes, unfinished, Fault, Forms, Quote};
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
/// their hash; from these the citation is made again and compared as a whole, too: white space is free, a figure may
/// be rounded further. Exits with 1 if something does not follow, with 2 if a run is missing.
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
    /// Folder of the runs; a run that a table names is then the one of its name in there, wherever the table has it
    /// [default: results for citations, and for tables what they say]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

/// The largest text that is read.
const MOST_BYTES: u64 = 16 << 20;

pub fn run(args: Args) -> Result<()> {
    let folder = args.results.as_deref();
    if args.update {
        // all are made before one is written
        let pages =
            args.texts.iter().map(|path| updated(Path::new(path), folder)).collect::<Result<Vec<_>>>()?;
        return pages.into_iter().flatten().try_for_each(|(path, page)| {
            write_atomically(&path, page.as_bytes())?;
            print(&format!("{}: updated\n", harmless::path(&path)))
        });
    }
    let texts: Vec<String> = args.texts.iter().map(|argument| text(argument)).collect::<Result<_>>()?;
    let quoted: Vec<Vec<Quote>> = texts.iter().map(|text| quotes(text)).collect();
    let cites = quoted.iter().any(|quotes| !quotes.is_empty());
    let results = folder.unwrap_or(Path::new("results"));
    let runs = if cites { runs_under(results)? } else { Vec::new() };
    let hashed: Vec<Hashed<'_>> = runs.iter().map(Hashed::of).collect();
    let mut wrong = Vec::new();
    for ((argument, text), quotes) in args.texts.iter().zip(&texts).zip(&quoted) {
        let blocks = blocks(text).map_err(|e| Error::file(argument, e))?;
        let unfinished = unfinished(text);
        if quotes.is_empty() && blocks.is_empty() && unfinished.is_empty() {
            let what = format!(
                "{argument}: no table and no citation: nothing like sha256:0123456789abcdef is in it"
            );
            return Err(Error::Input(what));
        }
        for block in &blocks {
            wrong.extend(check_table(argument, block, folder)?);
        }
        let page = if text == argument { "the text".into() } else { harmless::line(argument) };
        for quote in quotes {
            wrong.extend(said(&page, &check(&page, quote, &hashed, results)?)?);
        }
        wrong.extend(said(&page, &unfinished)?);
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
fn check_table(page: &str, block: &Block, folder: Option<&Path>) -> Result<Option<String>> {
    let made = made(page, block, folder)?;
    let place = format!("{page}:{}", block.line);
    let (made, stands) = (made.trim(), block.content.as_str());
    if made == stands {
        print(&format!("{place}: the table follows from `{}`\n", harmless::line(&block.command)))?;
        return Ok(None);
    }
    let same = made.lines().zip(stands.lines()).take_while(|(made, stands)| made == stands).count();
    let [made, stands] = [made, stands].map(|text| text.lines().nth(same).unwrap_or("nothing"));
    let said = harmless::line(&format!("{place}: `{stands}`, and `{}` says `{made}`", block.command));
    print(&format!("{said}\n"))?;
    Ok(Some(said))
}

/// What the block's command prints now, with the runs of a folder or with those that it names.
fn made(page: &str, block: &Block, folder: Option<&Path>) -> Result<String> {
    let wrong = |what: &dyn std::fmt::Display| {
        Error::file(
            page,
            format!("line {}: `{}`: {}", block.line, block.command, crate::one_line(&what.to_string())),
        )
    };
    let words = shlex::split(&block.command).ok_or_else(|| wrong(&"a quote is not closed"))?;
    let line = std::iter::once("decode-bench".to_string()).chain(words);
    let made = match Cli::try_parse_from(line).map_err(|e| wrong(&e))?.verb {
        Verb::Report(args) => super::report::text(&args.of_runs_in(folder)),
        Verb::Cmp(args) => super::cmp::text(&args.of_runs_in(folder)),
        _ => Err(Error::Input("a table is made by `report` or `cmp`".into())),
    };
    made.map_err(|e| wrong(&e))
}

/// The page with what its commands print now, if that differs.
fn updated(path: &Path, folder: Option<&Path>) -> Result<Option<(PathBuf, String)>> {
    let name = path.display().to_string();
    let page = files::read_text(path, MOST_BYTES)?;
    let found = blocks(&page).map_err(|e| Error::file(path, e))?;
    if found.is_empty() {
        return Err(Error::file(path, "no table: no line begins with <!-- decode-bench:begin"));
    }
    let contents = found.iter().map(|block| made(&name, block, folder)).collect::<Result<Vec<_>>>()?;
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
            let bytes = files::read_from(std::io::stdin().lock(), name, MOST_BYTES)?;
            files::utf8(name, &bytes).map(String::from)
        }
        text if is_quoted && !path.exists() => Ok(text.into()),
        text if !path.exists() => Err(Error::Input(format!(
            "{text}: no such file, and no citation: nothing like sha256:0123456789abcdef is in it"
        ))),
        _ => files::read_text(path, MOST_BYTES),
    }
}

/// In what the quote is not what follows from its rows; if it is, that is printed.
fn check(page: &str, quote: &Quote, runs: &[Hashed<'_>], results: &Path) -> Result<Vec<Fault>> {
    let Quote { hash, other, line, .. } = quote;
    let mut found = runs.iter().flat_map(|run| run.find(quote)).collect::<Result<Vec<_>>>()?;
    found.sort_by_key(|citation| !quote.text.contains(&format!("({},", citation.figure)));
    let alone = quote.text.trim().is_empty();
    let mut nearest = None;
    // the same rows may be there under several names
    for citation in &found {
        let faults = if alone { Vec::new() } else { Forms::of(citation).faults(quote) };
        if faults.is_empty() {
            let what = if alone { sentence(citation) } else { "the citation follows".into() };
            let (case, run) = (citation.case, harmless::path(&citation.run.path));
            print(&format!("{page}:{line}: sha256:{hash}: {case} of {run}: {what}\n"))?;
            return Ok(faults);
        }
        nearest.get_or_insert(faults);
    }
    nearest.ok_or_else(|| {
        let both = other.as_ref().map(|other| format!("+{other}")).unwrap_or_default();
        let results = results.display();
        let what = format!(
            "no run has the rows sha256:{hash}{both}: it is not in {results}, or its rows were changed"
        );
        Error::file(format!("{page}:{line}"), what)
    })
}

/// Prints what does not follow, with its place.
fn said(page: &str, faults: &[Fault]) -> Result<Vec<String>> {
    let said = |fault: &Fault| harmless::line(&format!("{page}:{}: {}", fault.line, fault.what));
    let said: Vec<String> = faults.iter().map(said).collect();
    print(&said.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(said)
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

    /// The figures that the quote's rows give, if they are in this run.
    fn find(&self, quote: &Quote) -> Vec<Result<Citation<'a>>> {
        let rows = |hash: &String| self.named.get(hash).copied();
        let (mine, other) = (rows(&quote.hash), quote.other.as_ref().map(rows));
        let (Some((case, metric)), false) = (mine, other == Some(None)) else { return Vec::new() };
        let other = other.flatten();
        let fits =
            |figure: &Figure| other.is_none_or(|(case, metric)| figure.metric(case.strategy) == metric);
        let cite = |figure| citation(self.run, case, figure, other.map(|(case, _)| case));
        Figure::told_of(case, metric).filter(fits).map(cite).collect()
    }
}
