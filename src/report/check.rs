//! Citations read back: each is made again from the rows that its hash names, in every form that `cite` prints, and
//! compared as a whole, token by token.
//!
//! White space between tokens is free, and so are backticks, which say nothing, and the `>` of a quoted block.
//! A figure with its interval is one token, and may be rounded further: each number must be the exact one rounded to
//! the digits that it shows. So `0.41 ms` follows from 406 412 ns, and `0.42 ms` or `406 ms` do not. All else must be
//! what the rows say.
//!
//! A citation ends with its hash. Words that begin one without a hash behind them are said, too.

use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::cite::{bibtex, sentence, table};
use crate::analysis::{Citation, Estimate, Figure};
use crate::case::ModelKind;
use crate::harmless;
use crate::units::Quantity;

/// One citation in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Of the cited rows: 16 hexadecimal digits.
    pub hash: String,
    /// Of the rows of the case that it is compared with.
    pub other: Option<String>,
    /// The text up to the hash, from the hash before it on.
    pub text: String,
    /// The line that `text` begins in, from 1 on.
    pub begins: usize,
    /// The line of the hash.
    pub line: usize,
}

/// Something that does not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of the text, from 1 on.
    pub line: usize,
    /// What is written, and what follows from the rows.
    pub what: String,
}

/// The citations of a text in their order; a hash alone is one, too.
pub fn quotes(text: &str) -> Vec<Quote> {
    hashed(text).0
}

/// What begins a citation behind the text's last hash.
pub fn unfinished(text: &str) -> Vec<Fault> {
    let end = hashed(text).1;
    beginnings(&blank(&text[end..]), line_of(text, end))
}

/// And where the last hash ends.
fn hashed(text: &str) -> (Vec<Quote>, usize) {
    static BARE: LazyLock<Regex> =
        LazyLock::new(|| regex("^\\s*(?:sha256:)?([0-9a-f]{16})(?:[+]([0-9a-f]{16}))?()\\s*$"));
    static NAMED: LazyLock<Regex> =
        LazyLock::new(|| regex("sha256:([0-9a-f]{16})(?:[+]([0-9a-f]{16}))?([0-9A-Za-z]*)"));
    let found: Vec<Captures<'_>> = match BARE.captures(text) {
        Some(found) => vec![found],
        None => NAMED.captures_iter(text).collect(),
    };
    let (mut from, mut begins) = (0, 1);
    let quote = |found: Captures<'_>| {
        let whole = found.get(0).expect("a match has a whole");
        if !found[3].is_empty() {
            return None; // a hash of something else
        }
        let text = text[from..whole.start()].to_string();
        let other = found.get(2).map(|other| other.as_str().to_string());
        let line = begins + text.matches('\n').count();
        let quote = Quote { hash: found[1].to_string(), other, text, begins, line };
        (from, begins) = (whole.end(), line); // there is no line end in a hash
        Some(quote)
    };
    (found.into_iter().filter_map(quote).collect(), from)
}

/// A citation in every form that `cite` prints.
pub struct Forms {
    sentence: Form,
    /// A table with its header; rows of the same table need no other.
    table: Form,
    row: Form,
    /// From its title on: the key of a BibTeX entry says nothing.
    entry: Form,
    figures: Vec<(Estimate, Quantity)>,
}

/// A text up to its hash.
struct Form {
    text: String,
    tokens: Vec<Token>,
}

impl Forms {
    /// Made from the rows.
    pub fn of(citation: &Citation<'_>) -> Forms {
        let value = (citation.value, Quantity::of_figure(citation.figure));
        let ratio = citation.other.as_ref().map(|other| (other.comparison.ratio, Quantity::Multiple));
        let figures: Vec<_> = [value].into_iter().chain(ratio).collect();
        let form = |text: &str| {
            let text = text[..text.rfind("sha256:").unwrap_or(text.len())].to_string();
            Form { tokens: tokens(&blank(&text), &figures), text }
        };
        let table = table(std::slice::from_ref(citation));
        let entry = bibtex(citation);
        Forms {
            sentence: form(&sentence(citation)),
            row: form(table.lines().last().unwrap_or_default()),
            table: form(&table),
            entry: form(entry.split_once('\n').map_or(&entry[..], |(_, fields)| fields)),
            figures,
        }
    }

    /// In what the quote is not the citation. Text before it that begins no citation is none of its business.
    pub fn faults(&self, quote: &Quote) -> Vec<Fault> {
        let plain = blank(&quote.text);
        let written = tokens(&plain, &self.figures);
        let before = |form: &Form| {
            let start = written.len().checked_sub(form.tokens.len())?;
            same(&form.tokens, &written[start..]).then_some(start)
        };
        let continues = |start: &usize| written[..*start].iter().all(|token| token.text == "|") && *start < 2;
        let whole = [&self.sentence, &self.table, &self.entry].into_iter().find_map(before);
        let start = whole.or_else(|| before(&self.row).filter(continues));
        let (start, different) = match start {
            Some(start) => (start, None),
            None => {
                let forms = [&self.sentence, &self.table, &self.entry].map(|form| form.against(&written));
                let nearest = forms.into_iter().min_by_key(|found| found.unlike).expect("there are three");
                (nearest.start, Some(self.said(quote, &written, &nearest)))
            }
        };
        let strays = &plain[..written.get(start).map_or(plain.len(), |token| token.at.start)];
        beginnings(strays, quote.begins).into_iter().chain(different).collect()
    }

    fn said(&self, quote: &Quote, written: &[Token], found: &Alignment<'_>) -> Fault {
        let (ours, theirs) = (found.expected.clone(), found.written.clone());
        let form = &found.form;
        if ours.len() + MARGIN > form.tokens.len() {
            let what = format!(
                "before the hash {} there is not what `cite` prints: {}",
                quote.hash, self.sentence.text
            );
            return Fault { line: quote.line, what };
        }
        let line = match written.get(theirs.start) {
            Some(token) => quote.begins + quote.text[..token.at.start].matches('\n').count(),
            None => quote.line,
        };
        let what = format!(
            "`{}`, and the rows say `{}`",
            excerpt(&quote.text, written, theirs),
            excerpt(&form.text, &form.tokens, ours)
        );
        Fault { line, what }
    }
}

/// Tokens beside a difference that are shown with it; fewer in common are none.
const MARGIN: usize = 2;

/// How a form and a text that ends with something like it go together: alike at both ends.
struct Alignment<'a> {
    form: &'a Form,
    /// Where the text that is like the form begins.
    start: usize,
    /// The tokens of each in which the two differ.
    expected: Range<usize>,
    written: Range<usize>,
    /// How many tokens of the form have no like.
    unlike: usize,
}

impl Form {
    fn against<'a>(&'a self, written: &[Token]) -> Alignment<'a> {
        let form = &self.tokens;
        let alike = |(a, b): &(&Token, &Token)| a.text == b.text;
        let behind = form.iter().rev().zip(written.iter().rev()).take_while(alike).count();
        let leading = |start: usize| {
            let most = form.len().min(written.len() - start).saturating_sub(behind);
            form[..most].iter().zip(&written[start..]).take_while(alike).count()
        };
        // of the places where it may begin, the one with the most in common, and of those the last
        let from = written.len().saturating_sub(2 * form.len());
        let begun = (from..written.len()).map(|start| (leading(start), start)).max();
        let begun = begun.filter(|(alike, _)| *alike > MARGIN);
        let (ahead, start) = begun.unwrap_or((0, written.len().saturating_sub(form.len())));
        let expected = ahead..form.len() - behind;
        let written = start + ahead..(written.len() - behind).max(start + ahead);
        Alignment { form: self, start, unlike: expected.len(), expected, written }
    }
}

/// Some tokens of a text as it has them, with those beside them.
fn excerpt(text: &str, tokens: &[Token], different: Range<usize>) -> String {
    const MOST: usize = 160;
    let from = different.start.saturating_sub(MARGIN);
    let to = (different.end + MARGIN).min(tokens.len());
    let Some((first, last)) = tokens.get(from).zip(tokens[..to].last()) else { return "nothing".into() };
    let text = text.get(first.at.start..last.at.end).unwrap_or_default().replace('`', "");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut text: String = words.join(" ").chars().take(MOST).collect();
    if text.chars().count() == MOST {
        text.push('…');
    }
    harmless::line(&text)
}

/// A figure with its interval, a number, a word, the rule below a table's header, or one other character.
struct Token {
    text: String,
    /// In bytes.
    at: Range<usize>,
}

fn same(a: &[Token], b: &[Token]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.text == b.text)
}

/// The text without what says nothing, byte for byte as long.
fn blank(text: &str) -> String {
    static NOTHING: LazyLock<Regex> = LazyLock::new(|| regex("`|&nbsp;|(?m:^)[ \\t]*>[ \\t>]*"));
    NOTHING.replace_all(text, |found: &Captures<'_>| " ".repeat(found[0].len())).into_owned()
}

/// Of a text that is [`blank`]; figures that follow from the exact ones are written as `cite` writes them.
fn tokens(plain: &str, figures: &[(Estimate, Quantity)]) -> Vec<Token> {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        let number = "((?:0|[1-9][0-9]*)(?:[.][0-9]+)?(?:e-?[0-9]+)?)";
        let figure = format!(
            "{number}\\s*\\[\\s*{number}\\s*,\\s*{number}\\s*\\](?:\\s*(ns|[µμ]s|ms|s|[KMG]iB|B|×|tokens\\s*/\\s*s))?"
        );
        let (rule, word) = (
            "\\|(?:[^\\S\\n]*:?-+:?[^\\S\\n]*\\|)+",
            "[\\p{L}\\p{M}\\p{N}]+(?:[.]\\p{N}[\\p{L}\\p{M}\\p{N}]*)*",
        );
        regex(&format!("{figure}|(?P<rule>{rule})|{word}|\\S"))
    });
    let token = |found: Captures<'_>| {
        let whole = found.get(0).expect("a match has a whole");
        let text = match (found.get(1), found.name("rule")) {
            (Some(_), _) => rounded(&found, figures)
                .unwrap_or_else(|| whole.as_str().split_whitespace().collect::<Vec<_>>().join(" ")),
            (None, Some(_)) => "|---|".into(),
            (None, None) => whole.as_str().into(),
        };
        Token { text, at: whole.range() }
    };
    TOKEN.captures_iter(plain).map(token).collect()
}

/// The figure that the written one is rounded from, as `cite` writes it.
fn rounded(found: &Captures<'_>, figures: &[(Estimate, Quantity)]) -> Option<String> {
    let unit = found.get(4).map_or("", |unit| unit.as_str());
    let unit = unit.replace('μ', "µ").replace(char::is_whitespace, "");
    let follows = |(figure, quantity): &&(Estimate, Quantity)| {
        let size = quantity.units().iter().find(|(name, _)| *name == unit).map(|(_, size)| *size);
        let exact = [figure.value, figure.lo, figure.hi];
        size.is_some_and(|size| (0..3).all(|i| rounds_to(exact[i], &found[i + 1], size)))
    };
    figures.iter().find(follows).map(|(figure, quantity)| quantity.show_estimate(*figure))
}

/// Whether `x` is `said`, a number of units of this size, to the digits it shows.
fn rounds_to(x: f64, said: &str, size: f64) -> bool {
    let (digits, exponent) = said.split_once('e').unwrap_or((said, "0"));
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len() as i32);
    let (Ok(number), Ok(exponent)) = (said.parse::<f64>(), exponent.parse::<i32>()) else { return false };
    let half = 0.5 * 10f64.powi(exponent.saturating_sub(decimals));
    (number != 0.0 || x == 0.0) && (x / size - number).abs() <= half * (1.0 + 1e-9)
}

/// Words that only a citation has: those that a sentence or an entry begins with, a table's header, a figure's name.
fn beginnings(plain: &str, line: usize) -> Vec<Fault> {
    static BEGINNING: LazyLock<Regex> = LazyLock::new(|| {
        let models = ModelKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join("|");
        let figures = Figure::all().map(Figure::name).collect::<Vec<_>>().join("|");
        regex(&format!(
            "decode-bench(?:\\s+[^\\s:]+)?\\s*:\\s*(?:{models})-[^\\s]*|\\|\\s*case\\s*\\|\\s*value\\s*\\|\\s*ratio\\s*\\||\\((?:{figures}|chunked_prefill_\\d+_ns),\\s*n\\s*="
        ))
    });
    let fault = |found: regex::Match<'_>| {
        Fault {
        line: line + plain[..found.start()].matches('\n').count(),
        what: format!(
            "`{}` begins a citation, and behind it the hash of its rows is missing, or something in it was changed",
            harmless::line(found.as_str())
        ),
    }
    };
    BEGINNING.find_iter(plain).map(fault).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("the patterns of this file are valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::citation;
    use crate::record::{synthetic, Metric, Run};

    /// A citation of a run that never happened, with a ratio or without.
    struct Cited {
        printed: [String; 3],
        forms: Forms,
    }

    fn cited(run: &Run, figure: Figure, other: bool) -> Cited {
        let [one, concat] =
            ["padded", "concat"].map(|s| format!("transformer-toy/{s}/cpu/b1/t512").parse().unwrap());
        let citation = citation(run, one, figure, other.then_some(concat)).unwrap();
        let printed = [sentence(&citation), table(std::slice::from_ref(&citation)), bibtex(&citation)];
        Cited { printed, forms: Forms::of(&citation) }
    }

    /// Of steps and of whole decodes, of what is counted, of rates, with a ratio and without.
    fn kinds() -> Vec<Cited> {
        let run = synthetic::run(7);
        let metrics = [Metric::StepNs, Metric::DecodeNs, Metric::CacheAllocatedBytes].map(Figure::Metric);
        let figures = metrics.into_iter().chain([Figure::DecodeTokensPerSecond]);
        figures.flat_map(|figure| [true, false].map(|other| cited(&run, figure, other))).collect()
    }

    /// What `check` does with a page: nothing is left to say, and there was a citation.
    fn follows(forms: &Forms, page: &str) -> bool {
        let quotes = quotes(page);
        !quotes.is_empty() && unfinished(page).is_empty() && quotes.iter().all(|q| forms.faults(q).is_empty())
    }

    #[test]
    fn what_is_printed_follows_in_every_form_and_layout() {
        for Cited { printed, forms } in kinds() {
            let rows = format!("{}{}", printed[1], printed[1].lines().last().unwrap());
            let rule = printed[1].replace(":--", ":-------");
            for text in printed.iter().chain([&rows, &rule, &printed.join("\n")]) {
                assert!(follows(&forms, text), "{text}\n{:?}", forms.faults(&quotes(text)[0]));
                let wrapped = text.replace("; ", ";\n> ").replace(", ", ",\r\n>   ");
                for text in [
                    wrapped,
                    text.replace(' ', "\u{a0}"),
                    text.replace(' ', "\u{202f}"),
                    text.replace(" µs", "&nbsp;μs"),
                ] {
                    assert!(follows(&forms, &text), "{text}");
                }
                let around = format!("> **As we said: “{}”**", text.trim_end().replace('\n', "\n> "));
                assert!(
                    follows(&forms, &around) || text.starts_with('@') || text.starts_with('|'),
                    "{around}"
                );
            }
            let plain = printed[0].replace('`', "");
            assert!(follows(&forms, &plain), "{plain}");
        }
    }

    #[test]
    fn a_fault_says_what_is_written_and_what_follows_and_where() {
        let run = synthetic::run(7);
        let Cited { printed, forms } = cited(&run, Figure::Metric(Metric::StepNs), true);
        let page = |is: &str, was: &str| {
            assert!(printed[0].contains(is), "{is} {}", printed[0]);
            let page = format!("# Page\n\n{}\n", printed[0].replacen(is, was, 1).replace(", on ", ",\non "));
            let faults = forms.faults(&quotes(&page)[0]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            format!("{}: {}", faults[0].line, faults[0].what)
        };
        for (is, was, said) in [
            ("2 cores", "64 cores", "4: `2.30GHz, 64 cores,`, and the rows say `2.30GHz, 2 cores,`"),
            (
                " virtual machine;",
                "",
                "4: `threads used; revision`, and the rows say `threads used; virtual machine; revision`",
            ),
            ("seed 42;", "seed 43;", "4: `from seed 43; run`, and the rows say `from seed 42; run`"),
            ("95 %", "99 %", "3: `with its 99 % interval`, and the rows say `with its 95 % interval`"),
            ("--threads 2", "--threads 9", "4: `-threads 9 --`, and the rows say `-threads 2 --`"),
        ] {
            assert_eq!(page(is, was), said);
        }
        let figure = page(" µs (step", "0 µs (step");
        assert!(figure.starts_with("3: ") && figure.contains("µs"), "{figure}");
        let alone = &quotes("Padded is faster (sha256:0123456789abcdef)")[0];
        assert!(forms.faults(alone)[0].what.contains("there is not what `cite` prints: decode-bench "));
        let second = format!("{}\n\n{}", &printed[0][..printed[0].find("; rows").unwrap()], printed[0]);
        let strays: Vec<usize> = forms.faults(&quotes(&second)[0]).iter().map(|fault| fault.line).collect();
        assert_eq!(strays, [1, 1], "its beginning, and its figure");
    }

    #[test]
    fn a_number_may_be_rounded_further_and_not_wrongly() {
        for (said, size, follows) in [
            ("406", 1e3, true),
            ("0.41", 1e6, true),
            ("0.4", 1e6, true),
            ("406412", 1.0, true),
            ("4.1e-1", 1e6, true),
            ("0.42", 1e6, false),
            ("407", 1e3, false),
            ("0", 1e6, false),
            ("406", 1e6, false),
            ("4e", 1e6, false),
        ] {
            assert_eq!(rounds_to(406_412.0, said, size), follows, "{said}");
        }
    }

    #[test]
    fn a_text_may_hold_several_and_a_hash_may_stand_alone() {
        let (a, b) = ("0123456789abcdef", "fedcba9876543210");
        assert_eq!(quotes(&format!(" {a}\n")).len(), 1);
        assert_eq!(quotes(&format!("{a}+{b}"))[0].other.as_deref(), Some(b));
        let found = quotes(&format!("one sha256:{a},\ntwo sha256:{b}+{a}."));
        assert_eq!((found[0].text.as_str(), found[1].text.as_str()), ("one ", ",\ntwo "));
        assert_eq!((found[1].begins, found[1].line), (1, 2));
        assert!(quotes("no hash, or too short: sha256:0123").is_empty());
        assert!(quotes(&format!("an image: sha256:{a}{b}{a}{b}")).is_empty());
    }
}
