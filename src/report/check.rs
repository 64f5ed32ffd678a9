//! Citations read back: which rows they name, and whether their numbers follow from these.
//!
//! A number follows if it is the computed one rounded to the digits that it shows. So `0.41 ms` follows
//! from 406 412 ns, and `0.42 ms` or `406 ms` do not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use regex::Regex;

use super::cite::date;
use super::compare::verdict;
use crate::analysis::provenance::revision;
use crate::analysis::{Citation, Estimate};
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
}

/// One thing that a citation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// As `value` or `threads`.
    pub what: &'static str,
    /// As the citation has it.
    pub quoted: String,
    /// What follows from the rows.
    pub computed: String,
    /// Whether the two agree.
    pub follows: bool,
}

/// The citations in a text, in their order; a hash alone is one, too.
pub fn quotes(text: &str) -> Vec<Quote> {
    let bare = pattern("^(?:sha256:)?([0-9a-f]{16})(?:[+]([0-9a-f]{16}))?$");
    let named = pattern("sha256:([0-9a-f]{16})(?:[+]([0-9a-f]{16}))?");
    // as LaTeX and Markdown write them
    let text = text.replace('\\', "");
    let (found, text) = match bare.captures(text.trim()) {
        Some(found) => (vec![found], text.trim()),
        None => (named.captures_iter(&text).collect(), &text[..]),
    };
    let mut from = 0;
    let quote = |found: regex::Captures<'_>| {
        let whole = found.get(0).expect("a match has a whole");
        let before = &text[from..whole.start()];
        from = whole.end();
        let other = found.get(2).map(|other| other.as_str().to_string());
        Quote { hash: found[1].to_string(), other, text: before.to_string() }
    };
    found.into_iter().map(quote).collect()
}

/// What the quote says of the figure: its value, interval and n always, all else where it is said.
pub fn claims(quote: &Quote, citation: &Citation<'_>) -> Vec<Claim> {
    let text = &quote.text;
    let estimates: Vec<Quoted<'_>> = quoted_estimates(text);
    let value = estimates.iter().rfind(|quoted| quoted.unit != "×");
    let names = ["value", "lower end of the interval", "upper end of the interval", "n"];
    let mut claims = of_estimate(names, value, text, citation.value, Quantity::of(citation.metric.unit()));
    let (before, after) =
        value.map_or((&text[..], ""), |quoted| (&text[..quoted.start], &text[quoted.end..]));
    let case = pattern("[a-z0-9-]+-[a-z0-9]+/[a-z0-9-]+/[a-z0-9_-]+/b[0-9]+/t[0-9]+");
    let said = case.find_iter(before).last().map(|found| found.as_str());
    claims.extend(word("case", said, &citation.case.to_string()));
    claims.extend(word("metric", first(after, "^ ?[(]([a-z_]+),"), citation.metric.name()));
    if let Some(other) = &citation.other {
        let ratio = estimates.iter().rfind(|quoted| quoted.unit == "×");
        let names = ["ratio", "lower end of its interval", "upper end of its interval", "n of the ratio"];
        let found = &other.comparison;
        claims.extend(of_estimate(names, ratio, text, found.ratio, Quantity::Multiple));
        let after = ratio.map_or("", |quoted| &text[quoted.end..]);
        let computed = verdict(citation.metric, found.verdict);
        claims.extend(word("verdict", first(after, "^ ?[(]([a-z ]+),"), computed));
        let said = case.find(after).map(|found| found.as_str());
        claims.extend(word("case compared with", said, &other.case.to_string()));
    }
    let environment = &citation.run.environment;
    claims.extend(word("threads", first(after, "([0-9]+) threads? used"), &environment.threads.to_string()));
    let computed = revision(environment);
    let computed = computed.split(' ').nth(1).unwrap_or_default();
    claims.extend(word("revision", first(after, "revision ([0-9a-f]+)"), computed));
    claims.extend(word("date", first(after, "([0-9]{4}-[0-9]{2}-[0-9]{2})"), &date(citation)));
    claims
}

/// `406 [380, 498] µs` in a text.
struct Quoted<'a> {
    numbers: [&'a str; 3],
    unit: &'a str,
    start: usize,
    end: usize,
}

fn quoted_estimates(text: &str) -> Vec<Quoted<'_>> {
    let number = "([0-9]+(?:[.][0-9]+)?(?:e-?[0-9]+)?)";
    let estimate = pattern(&format!("{number} \\[{number}, {number}\\](?: ?([A-Za-zµμ×]+))?"));
    let quoted = |found: regex::Captures<'_>| {
        let group = |i: usize| found.get(i).map_or(0..0, |group| group.range());
        let unit = &text[group(4)];
        let numbers = [1, 2, 3].map(|i| &text[group(i)]);
        Quoted { numbers, unit, start: group(0).start, end: group(0).end }
    };
    estimate.captures_iter(text).map(quoted).collect()
}

fn of_estimate(
    names: [&'static str; 4],
    quoted: Option<&Quoted<'_>>,
    text: &str,
    computed: Estimate,
    quantity: Quantity,
) -> Vec<Claim> {
    let ends = [computed.value, computed.lo, computed.hi];
    let Some(quoted) = quoted else {
        let missing = |(what, x)| claim(what, "nothing".into(), quantity.show(x), false);
        return names.into_iter().zip(ends).map(missing).collect();
    };
    let size = size(quantity, quoted.unit);
    let number = |((what, said), x): ((&'static str, &str), f64)| {
        let follows = size.is_some_and(|size| rounds_to(x, said, size));
        claim(what, format!("{said} {}", quoted.unit).trim_end().into(), quantity.show(x), follows)
    };
    let mut claims: Vec<Claim> = names.into_iter().zip(quoted.numbers).zip(ends).map(number).collect();
    let n = first(&text[quoted.end..], "n = ([0-9]+)").unwrap_or("nothing");
    claims.push(claim(names[3], n.into(), computed.n.to_string(), n == computed.n.to_string()));
    claims
}

fn size(quantity: Quantity, unit: &str) -> Option<f64> {
    let unit = match unit {
        "us" | "μs" => "µs",
        unit => unit,
    };
    let units = quantity.units();
    let found = units.iter().find(|(name, _)| *name == unit);
    // a count has no unit, and any word may follow it
    found.or(units.iter().find(|(name, _)| name.is_empty())).map(|(_, size)| *size)
}

/// Whether `x` is `said`, a number of units of this size, to the digits it shows.
fn rounds_to(x: f64, said: &str, size: f64) -> bool {
    let (digits, exponent) = said.split_once('e').unwrap_or((said, "0"));
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len() as i32);
    let (Ok(number), Ok(exponent)) = (said.parse::<f64>(), exponent.parse::<i32>()) else { return false };
    let half = 0.5 * 10f64.powi(exponent.saturating_sub(decimals));
    (number != 0.0 || x == 0.0) && (x / size - number).abs() <= half * (1.0 + 1e-9)
}

fn word(what: &'static str, said: Option<&str>, computed: &str) -> Option<Claim> {
    said.map(|said| claim(what, said.into(), computed.into(), said == computed))
}

fn claim(what: &'static str, quoted: String, computed: String, follows: bool) -> Claim {
    Claim { what, quoted, computed, follows }
}

/// What the pattern's first group is, where it first matches.
fn first<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    pattern(wanted).captures(text)?.get(1).map(|group| group.as_str())
}

/// Compiled once, for a text may hold many citations.
fn pattern(text: &str) -> Regex {
    static COMPILED: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Regex::new(text).expect("the patterns of this file are valid");
    compiled.entry(text.into()).or_insert_with(new).clone()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::super::cite;
    use super::*;
    use crate::analysis::citation;
    use crate::record::{synthetic, Metric};

    fn cited(metric: Metric) -> (String, Vec<Claim>, Vec<Claim>, Vec<Claim>) {
        let run = synthetic::run(7);
        let [one, other] =
            ["padded", "concat"].map(|s| format!("transformer-toy/{s}/cpu/b1/t512").parse().unwrap());
        let citation = citation(&run, one, metric, Some(other)).unwrap();
        let check = |text: &str| claims(&quotes(text)[0], &citation);
        let sentence = cite::sentence(&citation);
        let all = [sentence.clone(), cite::table(std::slice::from_ref(&citation)), cite::bibtex(&citation)];
        let [a, b, c] = all.map(|text| check(&text));
        (sentence, a, b, c)
    }

    #[test]
    fn what_is_written_is_read_back_whatever_it_is_written_as() {
        for metric in [Metric::StepNs, Metric::DecodeNs, Metric::CacheAllocatedBytes] {
            let (sentence, a, b, c) = cited(metric);
            for claims in [a, b, c] {
                let wrong: Vec<_> = claims.iter().filter(|claim| !claim.follows).collect();
                assert!(wrong.is_empty() && claims.len() == 15, "{sentence}\n{wrong:?}");
            }
        }
    }

    proptest! {
        /// Every digit that is a claim: those of the case, of the figures, of threads, revision and date.
        #[test]
        fn a_changed_digit_is_seen(place in 0usize..1000, add in 1u8..10) {
            let run = synthetic::run(7);
            let [one, other] =
                ["padded", "concat"].map(|s| format!("transformer-toy/{s}/cpu/b1/t512").parse().unwrap());
            let citation = citation(&run, one, Metric::StepNs, Some(other)).unwrap();
            let sentence = cite::sentence(&citation);
            let name = sentence.find('`').unwrap();
            let skipped = [("95 %", 2), ("@ 2.30GHz", 9), ("2 cores", 1)]
                .map(|(text, n)| sentence.find(text).map_or(0..0, |at| at..at + n));
            let end = sentence.find(", weights from").unwrap();
            let claimed = |at: &usize| {
                sentence.as_bytes()[*at].is_ascii_digit() && !skipped.iter().any(|range| range.contains(at))
            };
            let digits: Vec<usize> = (name..end).filter(claimed).collect();
            let at = digits[place % digits.len()];
            let mut changed = sentence.clone().into_bytes();
            changed[at] = b'0' + (changed[at] - b'0' + add) % 10;
            let changed = String::from_utf8(changed).unwrap();
            let claims = claims(&quotes(&changed)[0], &citation);
            prop_assert!(claims.iter().any(|claim| !claim.follows), "{changed}");
        }
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
        let found = quotes(&format!("one sha256:{a}, two sha256:{b}+{a}."));
        assert_eq!((found[0].text.as_str(), found[1].text.as_str()), ("one ", ", two "));
        assert!(quotes("no hash, or too short: sha256:0123").is_empty());
    }
}
