//! `cmp`, `cite` and `check` as a user runs them: what follows from files, and what files from elsewhere
//! cannot do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use assert_cmd::Command;
use decode_bench::analysis::{citation, Citation, Estimate, Figure};
use decode_bench::record::{Bandwidth, Environment, Gpu, Metric, PeakFlops, Run};
use decode_bench::report::check::{quotes, unfinished, Forms};
use decode_bench::report::cite::{bibtex, sentence, table};
use decode_bench::units::Quantity;
use regex::Regex;
use tempfile::{tempdir, TempDir};

use crate::common;

const PADDED: &str = "transformer-toy/padded/cpu/b1/t256";
const CONCAT: &str = "transformer-toy/concat/cpu/b1/t256";

/// A run that was never measured: two strategies, eight rounds of two samples, padded `ns` long.
fn run(results: &Path, name: &str, ns: u64, change: impl Fn(&mut Environment)) -> PathBuf {
    let folder = results.join(name);
    fs::create_dir(&folder).unwrap();
    let ceiling = Bandwidth {
        model_shape: "transformer-toy".into(),
        bytes: 11_052_032,
        threads: 2,
        bytes_per_second: 50_000_000_000,
        pattern: "four streams".into(),
        ..Bandwidth::default()
    };
    let mut environment = Environment {
        git_revision: Some("0123456789abcdef0123456789abcdef01234567".into()),
        git_dirty: Some(false),
        checkout: None,
        cpu_model: Some("Some Processor".into()),
        profile: Some("release, opt-level 3".into()),
        started_utc: "2026-01-31T12:00:00Z".into(),
        finished_utc: Some("2026-01-31T12:10:00Z".into()),
        read_bandwidth: vec![ceiling],
        ..Environment::collect(2, 7)
    };
    change(&mut environment);
    fs::write(folder.join("environment.json"), serde_json::to_string(&environment).unwrap()).unwrap();
    let mut csv =
        String::from("case,model,shape,strategy,backend,batch,position,metric,round,iters,value,error\n");
    for (strategy, ns) in [("concat", 400_000), ("padded", ns)] {
        for round in 1..=8 {
            for noise in [round % 3, 3 - round % 3] {
                let value = 2 * (ns + 1000 * noise);
                csv += &format!("transformer-toy/{strategy}/cpu/b1/t256,transformer,toy,{strategy},cpu,1,256,step_ns,{round},2,{value},\n");
            }
        }
    }
    fs::write(folder.join("samples.csv"), csv).unwrap();
    folder
}

/// Results with one run, in which padded takes three quarters of concat's time.
fn results() -> (TempDir, PathBuf) {
    let results = tempdir().unwrap();
    let run = run(results.path(), "2026-01-31T12-00-00Z-some", 300_000, |_| {});
    (results, run)
}

struct Outcome {
    code: i32,
    out: String,
    said: String,
}

fn program(args: &[&str], input: &str) -> Outcome {
    let mut command = Command::new(common::program());
    let output = command.args(args).write_stdin(input).output().unwrap();
    let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Outcome { code: output.status.code().unwrap(), out, said }
}

fn printed(args: &[&str]) -> String {
    let found = program(args, "");
    assert_eq!((found.code, found.said.as_str()), (0, ""), "{args:?}");
    found.out
}

fn refused(args: &[&str], named: &[&str]) {
    let Outcome { code, out, said } = program(args, "");
    assert!(code == 2 && out.is_empty(), "{args:?}: {code} {said} {out}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    for name in named {
        assert!(said.contains(name), "{args:?} should name {name}: {said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

// ---- cmp

#[test]
fn strategies_of_a_run_are_compared() {
    let (_results, run) = results();
    let table = printed(&["cmp", text(&run)]);
    assert_eq!(table.lines().count(), 2, "{table}");
    for wanted in [PADDED, CONCAT, "302 [", "0.75", "faster", "2 threads used", "revision 0123456789ab"] {
        assert!(table.contains(wanted), "{wanted}\n{table}");
    }
    let markdown = printed(&["cmp", text(&run), "--base", "padded", "--format", "markdown"]);
    assert!(markdown.contains("1.33 [") && markdown.contains("| slower |"), "{markdown}");
    let json: serde_json::Value =
        serde_json::from_str(&printed(&["cmp", text(&run), "--format", "json"])).unwrap();
    assert_eq!((&json[0]["n"], &json[0]["paired"]), (&8.into(), &true.into()));
    assert!(json[0]["floor_multiple"].as_f64().unwrap() > 1.0);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (results, one) = results();
    let seed = run(results.path(), "seed", 300_000, |e| e.seed = 8);
    let format = run(results.path(), "format", 300_000, |e| e.read_bandwidth[0].bytes /= 2);
    let emulated = run(results.path(), "emulated", 300_000, |e| e.emulated = true);
    refused(&["cmp", text(&one), text(&seed)], &["seed: 7, now 8"]);
    refused(&["cmp", text(&one), text(&format)], &["transformer-toy", "11052032 and 5526016 bytes"]);
    refused(&["cmp", text(&one), text(&emulated)], &["emulated in software"]);
    refused(&["cmp", text(&one), "--by", "run"], &["only one was given"]);
    refused(&["cmp", text(&one), text(&one), "--fail-if-slower", "5%"], &["given twice"]);
    refused(&["cmp", text(&one), "--base", "paded"], &["unknown strategy `paded`", "`padded`"]);
    refused(&["cmp", text(&one), "--base", "bounded"], &["nothing to compare"]);
    refused(&["cmp", text(&one), "--filter", "onehot"], &["no case matches `onehot`"]);
    refused(&["cmp", text(&one), "--fail-if-slower", "5"], &["as 5%"]);
    refused(&["cmp", text(&one), "--metric", "step_ms"], &["step_ms", "step_ns"]);
    refused(&["cmp"], &["<RUNS>"]);
}

/// Spreadsheets run cells that begin like formulas.
#[test]
fn a_hostile_name_is_text_in_every_format() {
    let results = tempdir().unwrap();
    let hostile = |e: &mut Environment| {
        e.cpu_model = Some("\t=cmd|'/c calc'!A1\x1b[2J<script>".into());
        e.git_revision = Some("@SUM(1)".into());
    };
    let run = run(results.path(), "=1+1", 300_000, hostile);
    for format in ["table", "markdown", "csv", "json"] {
        let text = printed(&["cmp", text(&run), "--format", format]);
        assert!(!text.contains('\x1b') && !text.contains('<'), "{text}");
    }
    let csv = printed(&["cmp", text(&run), "--format", "csv"]);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    for row in rows.records() {
        for cell in row.unwrap().iter() {
            assert!(!cell.trim_start().starts_with(['=', '+', '-', '@']), "{cell}");
        }
    }
    assert!(csv.contains("'=1+1") && csv.contains("'=cmd"), "{csv}");
}

// ---- cite and check

fn cite(results: &Path, more: &[&str]) -> String {
    printed(&[&["cite", PADDED, "--results", text(results)], more].concat())
}

fn check(results: &Path, cited: &str) -> Outcome {
    program(&["check", "-", "--results", text(results)], cited)
}

#[test]
fn a_citation_names_its_origin_and_is_found_again() {
    let (results, _) = results();
    let results = results.path();
    let cited = cite(results, &["--vs", CONCAT]);
    for wanted in [
        PADDED,
        "302 [",
        "µs (step_ns, n = 8)",
        "95 % interval",
        "0.7",
        "× (faster, n = 8)",
        CONCAT,
        "Some Processor",
        "2 threads used",
        "revision 0123456789ab",
        "2026-01-31",
        "cargo bench -- '^(",
        "sha256:",
        "| case |",
    ] {
        assert!(cited.contains(wanted), "{wanted}\n{cited}");
    }
    for cited in [cited, cite(results, &[]), cite(results, &["--bibtex", "--vs", CONCAT])] {
        let found = check(results, &cited);
        assert_eq!((found.code, found.said.as_str()), (0, ""), "{}", found.out);
        assert!(found.out.contains("the citation follows"), "{}", found.out);
    }
    let cited = cite(results, &[]);
    let hash = cited.split("sha256:").nth(1).unwrap()[..16].to_string();
    assert!(printed(&["check", &hash, "--results", text(results)]).contains("302 ["));
    let sentence = cited.lines().next().unwrap();
    printed(&["check", sentence, "--results", text(results)]);
    let file = results.join("page.md");
    fs::write(&file, &cited).unwrap();
    printed(&["check", text(&file), "--results", text(results)]);
}

/// From the rows of a step, and so by the same hash; a digit changed in the rate is told from one in the time.
#[test]
fn a_rate_is_cited_by_the_rows_of_its_time() {
    let (results, _) = results();
    let rate = ["--metric", "decode_tokens_per_second", "--vs", CONCAT];
    let cited = cite(results.path(), &rate);
    let wanted = " tokens/s (decode_tokens_per_second, n = 8), median with its 95 % interval, 1.";
    assert!(cited.contains(&format!("`{PADDED}` decodes 33")) && cited.contains(wanted), "{cited}");
    assert!(cited.contains("× (faster, n = 8) that of"), "{cited}");
    let hashes = |text: &str| text.split("sha256:").nth(1).unwrap()[..33].to_string();
    assert_eq!(hashes(&cited), hashes(&cite(results.path(), &["--vs", CONCAT])));
    assert_eq!(check(results.path(), &cited).code, 0);
    let sentence = cited.lines().next().unwrap();
    let found = check(results.path(), &sentence.replacen("decodes 3", "decodes 4", 1));
    assert_eq!(found.code, 1);
    assert!(found.out.contains("the rows say `t256 decodes 33"), "{}", found.out);
}

#[test]
fn tables_and_citations_of_the_documents_follow_from_the_runs() {
    let found = program(&["check", "README.md", "docs/RESULTS.md", "docs/CLAIMS.md"], "");
    assert_eq!(found.code, 0, "{}{}", found.out, found.said);
    assert!(found.out.matches("the table follows").count() >= 7, "{}", found.out);
    assert!(found.out.matches("the citation follows").count() >= 4, "{}", found.out);
}

#[test]
fn cite_prints_what_the_readme_cites() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let quoted = readme.lines().find_map(|line| line.strip_prefix("> decode-bench ")).unwrap();
    let cited = printed(&[
        "cite",
        "transformer-toy/padded/cpu/b1/t512",
        "--vs",
        "transformer-toy/concat/cpu/b1/t512",
    ]);
    assert_eq!(cited.lines().next().unwrap(), format!("decode-bench {quoted}"));
}

#[test]
fn one_changed_digit_is_caught() {
    let (results, _) = results();
    let cited = cite(results.path(), &["--vs", CONCAT]);
    for (is, was) in [("302 [", "303 ["), ("n = 8)", "n = 9)"), ("/t256` takes", "/t266` takes")] {
        let changed = cited.replacen(is, was, 1);
        assert_ne!(changed, cited, "{is}");
        assert_eq!(check(results.path(), &changed).code, 1, "{changed}");
    }
    let found = check(results.path(), &cited.replacen("302 [", "303 [", 1));
    for said in ["-:1: `t256 takes 303 [", "µs (step`, and the rows say `t256 takes 302 ["] {
        assert!(found.said.contains(said), "{}", found.said);
    }
    let ratio = cited.split("interval, ").nth(1).unwrap().split(' ').next().unwrap();
    let found = check(results.path(), &cited.replacen(&format!("interval, {ratio}"), "interval, 0.705", 1));
    assert!(found.code == 1 && found.said.contains("`interval, 0.705 ["), "{}", found.said);
}

#[test]
fn a_changed_row_is_no_longer_the_row_cited() {
    let (results, run) = results();
    let cited = cite(results.path(), &[]);
    let file = run.join("samples.csv");
    let rows = fs::read_to_string(&file).unwrap();
    let other = rows.replacen("concat,cpu,1,256,step_ns,1,2,80", "concat,cpu,1,256,step_ns,1,2,81", 1);
    assert_ne!(other, rows);
    fs::write(&file, other).unwrap();
    assert_eq!(check(results.path(), &cited).code, 0, "a row that is not cited does not matter");
    let mine = rows.replacen("padded,cpu,1,256,step_ns,1,2,60", "padded,cpu,1,256,step_ns,1,2,61", 1);
    assert_ne!(mine, rows);
    fs::write(&file, mine).unwrap();
    let found = check(results.path(), &cited);
    assert_eq!(found.code, 2);
    assert!(found.said.contains("no run has the rows sha256:"), "{}", found.said);
}

#[test]
fn the_newest_run_is_cited_and_what_nobody_can_repeat_is_not() {
    let (results, _) = results();
    let newer = |e: &mut Environment| e.started_utc = "2026-02-01T00:00:00Z".into();
    run(results.path(), "newer", 200_000, newer);
    assert!(cite(results.path(), &[]).contains("202 ["));
    run(results.path(), "dirty", 100_000, |e| {
        (e.git_dirty, e.started_utc) = (Some(true), "2026-03-01T00:00:00Z".into());
    });
    let folder = text(results.path());
    refused(&["cite", PADDED, "--results", folder], &["dirty", "--allow-dirty"]);
    let dirty = cite(results.path(), &["--allow-dirty"]);
    assert!(dirty.contains("102 [") && dirty.contains("with uncommitted changes"), "{dirty}");
    assert_eq!(check(results.path(), &dirty).code, 0);
    run(results.path(), "emulated", 50_000, |e| {
        (e.emulated, e.started_utc) = (true, "2026-04-01T00:00:00Z".into());
    });
    refused(&["cite", PADDED, "--results", folder], &["emulated in software"]);
    assert!(cite(results.path(), &["--allow-emulated"]).contains("EMULATED: these times say nothing"));
}

#[test]
fn what_cannot_be_cited_or_checked_is_refused() {
    let (results, run) = results();
    let folder = text(results.path());
    refused(&["cite", "transformer-toy/paded/cpu/b1/t256", "--results", folder], &["unknown case", PADDED]);
    refused(
        &["cite", PADDED, "--run", text(&run), "--vs", "transformer-toy/naive/cpu/b1/t256"],
        &["naive", CONCAT],
    );
    refused(
        &["cite", PADDED, "--metric", "prefill_ns", "--results", folder],
        &["unknown case", "there are none"],
    );
    refused(&["cite", PADDED, "--metric", "tokens", "--results", folder], &["unknown metric `tokens`"]);
    let source = "conv-seq2seq-toy/padded/cpu/b1/t512";
    refused(&["cite", source, "--metric", "ttft_ns"], &[source, "no ttft_ns", "source"]);
    refused(&["cite", PADDED, "--results", "/no/such/place"], &["/no/such/place"]);
    refused(&["cite"], &["<CASE>"]);
    refused(&["check", "no hash", "--results", folder], &["no citation"]);
    refused(&["check", "sha256:0123456789abcdef", "--results", folder], &["no run has the rows"]);
    refused(&["check"], &["<TEXT>"]);
    refused(&["check", "nosuchfile.md", "--results", folder], &["nosuchfile.md: no such file"]);
    let file = results.path().join("binary");
    fs::write(&file, b"\xff\xfe").unwrap();
    refused(&["check", text(&file), "--results", folder], &["not UTF-8"]);
}

#[test]
fn a_run_that_cannot_be_read_is_passed_over_and_said() {
    let (results, _) = results();
    let bad = run(results.path(), "bad", 300_000, |_| {});
    fs::write(bad.join("samples.csv"), "case\n\x1b[2J\n").unwrap();
    let found = program(&["cite", PADDED, "--results", text(results.path())], "");
    assert_eq!(found.code, 0);
    assert!(found.said.starts_with("note: passed over: ") && !found.said.contains('\x1b'), "{}", found.said);
}

// ---- a citation as a whole

/// README's citation, and others of committed runs: of steps, of whole decodes, of what is counted, of tokens; with a
/// ratio and without.
fn with_each_kind(mut test: impl FnMut(&Citation<'_>)) {
    const ALLOCS: Figure = Figure::Metric(Metric::StepAllocs);
    let ours = [
        ("2026-11-22T01-31-31Z-intel-xeon-2c", Figure::Metric(Metric::StepNs)),
        ("2026-11-22T01-31-31Z-intel-xeon-2c", Figure::Metric(Metric::CacheAllocatedBytes)),
        ("2026-11-22T01-31-31Z-intel-xeon-2c", ALLOCS),
        ("2026-11-22T01-31-31Z-intel-xeon-2c", Figure::DecodeTokensPerSecond),
        ("2026-11-22T01-31-31Z-intel-xeon-2c", Figure::Ttft),
        ("2026-11-22T02-59-00Z-intel-xeon-2c", Figure::Metric(Metric::DecodeNs)),
    ];
    for (run, figure) in ours {
        let run = Run::open(&Path::new("results").join(run)).unwrap();
        let [one, other] =
            ["padded", "concat"].map(|s| format!("transformer-toy/{s}/cpu/b1/t512").parse().unwrap());
        for other in [Some(other), None] {
            match citation(&run, one, figure, other) {
                Ok(found) => test(&found),
                Err(e) => assert!(other.is_some() && figure == ALLOCS, "{e}"), // of none
            }
        }
    }
}

/// Whether `check` has nothing to say of a page that has this citation alone.
fn follows(forms: &Forms, citation: &Citation<'_>, page: &str) -> bool {
    let hashes = (&citation.hash, citation.other.as_ref().map(|other| &other.hash));
    match &quotes(page)[..] {
        [quote] => {
            (&quote.hash, quote.other.as_ref()) == hashes
                && unfinished(page).is_empty()
                && forms.faults(quote).is_empty()
        }
        _ => false,
    }
}

/// Cut off anywhere, or changed in one character, a citation is noticed. It says the same, and is not, if only white
/// space, backticks or the rule below a table's header differ, or digits of a figure that rounding explains.
#[test]
fn every_prefix_and_every_changed_character_is_noticed() {
    const NEW: [&str; 16] = ["0", "1", "9", "a", "Z", " ", ".", ",", "-", "|", "/", "[", "\\", "`", "×", "µ"];
    let (mut prefixes, mut changes, mut the_same) = (0, 0, 0);
    let mut texts = 0;
    with_each_kind(|citation| {
        let forms = Forms::of(citation);
        for text in [sentence(citation), table(std::slice::from_ref(citation)), bibtex(citation)] {
            texts += 1;
            assert!(follows(&forms, citation, &text), "{text}");
            // the key of an entry is free, and what stands before a citation or behind its hash is none of it
            let begin = text.find("title = ").unwrap_or(0);
            let hash = text.rfind("sha256:").unwrap();
            let end = hash + text[hash..].find([' ', '.']).unwrap();
            let said = |text: &str| words(&text[..text.rfind("sha256:").unwrap_or(text.len())]);
            let (figure, unchanged) = (text.find(" [").unwrap(), said(&text));
            // of README's sentence all, of the others a part
            let first = texts == 1;
            let tried = |at: &usize| (begin..end).contains(at) && (first || at % 3 == texts % 3);
            for (at, c) in text.char_indices().filter(|(at, _)| tried(at)) {
                let (before, after) = (&text[..at], &text[at + c.len_utf8()..]);
                if at > figure {
                    prefixes += 1;
                    assert!(!follows(&forms, citation, before), "{before}");
                    assert!(!quotes(before).is_empty() || !unfinished(before).is_empty(), "{before}");
                }
                let every = if first { 2 } else { NEW.len() };
                let new = || NEW.iter().skip(at % every).step_by(every);
                let replaced = new().map(|new| format!("{before}{new}{after}"));
                let inserted = new().filter(|_| at > begin).map(|new| format!("{before}{new}{c}{after}"));
                let changed = replaced.chain(inserted).chain([format!("{before}{after}")]);
                for changed in changed.filter(|changed| *changed != text) {
                    changes += 1;
                    let behind = changed.find(&text[hash..end]).map(|at| &changed[at + end - hash..]);
                    let hashed = behind.is_some_and(|behind| !behind.starts_with(char::is_alphanumeric));
                    let same =
                        hashed && (unchanged == said(&changed) || is_rounded(citation, &text, &changed));
                    the_same += usize::from(same);
                    assert_eq!(follows(&forms, citation, &changed), same, "{changed}");
                }
            }
        }
    });
    println!("{prefixes} prefixes, {changes} changes; {the_same} of these say the same");
    assert!(prefixes > 2_000 && changes > 10_000 && the_same > 300);
}

/// Words and signs, told apart another way than the program does.
fn words(text: &str) -> Vec<String> {
    static RULE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\|([^\S\n]*:?-+:?[^\S\n]*\|)+").unwrap());
    let text: Vec<char> = RULE.replace_all(&text.replace('`', " "), " rule ").chars().collect();
    let mut spaced = String::new();
    for (i, &c) in text.iter().enumerate() {
        let is_decimal =
            |i: usize| text[i - 1].is_alphanumeric() && text.get(i + 1).is_some_and(|c| c.is_numeric());
        match c.is_alphanumeric() || (c == '.' && i > 0 && is_decimal(i)) {
            true => spaced.push(c),
            false => spaced.extend([' ', c, ' ']),
        }
    }
    spaced.split_whitespace().map(String::from).collect()
}

/// Whether the two differ in the numbers of one figure alone, and each is the exact one to fewer or more digits.
fn is_rounded(citation: &Citation<'_>, text: &str, changed: &str) -> bool {
    let quantity = match citation.figure.name().rsplit_once('_') {
        Some((_, "ns")) => Quantity::Nanoseconds,
        Some((_, "bytes")) => Quantity::Bytes,
        Some((_, "second")) => Quantity::TokensPerSecond,
        _ => Quantity::Tokens,
    };
    let value = (citation.value, quantity);
    let ratio = citation.other.as_ref().map(|other| (other.comparison.ratio, Quantity::Multiple));
    [value].into_iter().chain(ratio).any(|(figure, quantity)| {
        let Estimate { value, lo, hi, .. } = figure;
        let printed = quantity.show_estimate(figure);
        let (before, after) = text.split_once(&printed).unwrap();
        let Some(changed) = changed.strip_prefix(before).and_then(|c| c.strip_suffix(after)) else {
            return false;
        };
        let unit = printed.split_once(']').unwrap().1;
        let size = quantity.units().iter().find(|(name, _)| *name == unit.trim()).unwrap().1;
        let numbers: Vec<&str> =
            changed.split([' ', '`', '[', ']', ',']).filter(|n| !n.is_empty()).take(3).collect();
        let [a, b, c] = numbers[..] else { return false };
        let to_its_digits = |(said, exact): (&str, f64)| {
            let decimals = said.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            format!("{:.decimals$}", exact / size) == said
        };
        let solid = |text: &str| text.replace([' ', '`'], "");
        solid(&format!("{a}[{b},{c}]{unit}")) == solid(changed)
            && changed.ends_with(unit.trim())
            && [(a, value), (b, lo), (c, hi)].into_iter().all(to_its_digits)
    })
}

#[test]
fn a_fact_that_is_changed_anywhere_in_a_citation_is_named() {
    let readme = fs::read_to_string("README.md").unwrap();
    let begin = readme.find("> decode-bench 0.1.0: ").unwrap();
    let page = &readme[begin..begin + readme[begin..].find('\n').unwrap()];
    let changes = [
        ("git checkout e47ccb788ef4", "git checkout 000000000000"),
        ("--seed 1`", "--seed 7`"),
        ("--threads 2", "--threads 9"),
        ("its 95 %", "its 99 %"),
        ("2 cores", "64 cores"),
        ("Xeon(R) Processor", "Xeon(R) Platinum Processor"),
        ("run `2026-11-28T11-22-32Z-intel-xeon-2c`", "run `2030-01-01T00-00-00Z-other`"),
        ("from seed 1;", "from seed 2;"),
        ("decode-bench 0.1.0", "decode-bench 9.9.9"),
        ("; virtual machine", ""),
        ("2026-11-28, weights", "2026-11-29, weights"),
        ("(faster,", "(slower,"),
        ("(step_ns, n = 12)", "(step_ns, n = 120)"),
        ("cargo bench -- '^(", "cargo bench -- --quick '^("),
    ];
    let changed = changes.map(|(is, was)| page.replacen(is, was, 1));
    assert!(changed.iter().all(|changed| changed != page));
    let found = program(&["check", "-"], &changed.join("\n\n"));
    assert!(found.code == 1 && found.said.contains("14 claims are not"), "{}", found.said);
    for (i, change) in changes.into_iter().enumerate() {
        let said = format!("-:{}: ", 2 * i + 1);
        let line = found.out.lines().find(|line| line.starts_with(&said)).unwrap_or_default();
        assert!(line.contains("and the rows say"), "{change:?}: {line}");
    }
    let cut = &page[..page.find("; rows sha256").unwrap()];
    for text in [cut, &format!("{cut}\n\n{page}\n")] {
        let found = program(&["check", "-"], text);
        assert!(found.code == 1 && found.said.contains("-:1: `decode-bench 0.1.0"), "{}", found.said);
    }
}

#[test]
fn what_says_nothing_is_not_cited_and_what_says_less_says_so() {
    let (results, sound) = results();
    let folder = text(results.path());
    let debug = run(results.path(), "debug", 300_000, |e| e.profile = Some("debug, opt-level 0".into()));
    refused(
        &["cite", PADDED, "--run", text(&debug)],
        &["without optimisation (debug, opt-level 0)", "--allow-debug"],
    );
    let cited = printed(&["cite", PADDED, "--run", text(&debug), "--allow-debug"]);
    assert!(cited.contains("revision 0123456789ab, NOT OPTIMISED (debug, opt-level 0), 2026"), "{cited}");
    assert_eq!(check(results.path(), &cited).code, 0);
    let unknown = run(results.path(), "unknown", 300_000, |e| e.profile = None);
    refused(&["cite", PADDED, "--run", text(&unknown)], &["unknown profile"]);
    let unfinished = run(results.path(), "unfinished", 300_000, |e| e.finished_utc = None);
    for form in [&[][..], &["--bibtex"]] {
        let cited = printed(&[&["cite", PADDED, "--run", text(&unfinished)], form].concat());
        assert!(cited.contains("2026-01-31 (unfinished run)"), "{cited}");
        assert_eq!(check(results.path(), &cited).code, 0);
    }
    let cited = cite(results.path(), &["--run", text(&sound), "--vs", CONCAT]);
    let rows = "case,max_abs,max_rel,place,tolerance,error\n";
    for (case, said) in [
        (format!("{PADDED},1,1,0/1,1e-4,entry 0 logit 1 is 2 and naive's is 1\n"), "entry 0 logit 1"),
        (format!("{CONCAT},1,2e-4,0/1,1e-4,\n"), "they differ by more than 1e-4"),
    ] {
        fs::write(sound.join("equality.csv"), format!("{rows}{case}")).unwrap();
        refused(
            &["cite", PADDED, "--vs", CONCAT, "--run", text(&sound)],
            &["are not known to be naive's", said],
        );
        let found = check(results.path(), &cited);
        assert!(found.code == 2 && found.said.contains(said), "a citation of before: {}", found.said);
    }
    fs::remove_file(sound.join("equality.csv")).unwrap();
    let samples = fs::read_to_string(sound.join("samples.csv")).unwrap();
    let failed =
        "transformer-toy/padded/cpu/b1/t256,transformer,toy,padded,cpu,1,256,step_ns,9,1,,no memory\n";
    fs::write(sound.join("samples.csv"), samples + failed).unwrap();
    refused(&["cite", PADDED, "--run", text(&sound)], &["a sample of its step_ns failed: no memory"]);
    assert!(printed(&["cite", CONCAT, "--results", folder]).contains(CONCAT));
}

#[test]
fn tables_are_made_of_the_runs_in_the_folder_that_is_named() {
    let (results, _) = results();
    let page = results.path().join("page.md");
    let begin = "<!-- decode-bench:begin cmp results/2026-01-31T12-00-00Z-some --format markdown -->";
    fs::write(&page, format!("{begin}\n<!-- decode-bench:end -->\n")).unwrap();
    let (page, folder) = (text(&page), text(results.path()));
    refused(&["check", page], &["results/2026-01-31T12-00-00Z-some"]);
    printed(&["check", page, "--results", folder, "--update"]);
    assert!(printed(&["check", page, "--results", folder]).contains(":1: the table follows"));
    let other = tempdir().unwrap();
    run(other.path(), "2026-01-31T12-00-00Z-some", 310_000, |_| {});
    assert_eq!(program(&["check", page, "--results", text(other.path())], "").code, 1);
}

/// Every string that a run has is hostile: in no output is a character that a terminal acts on, no markup, and no
/// table has another shape.
#[test]
fn a_hostile_run_is_text_everywhere() {
    const HOSTILE: &str =
        "|`*x*` [x](http://x) <script>alert(1)</script>&#x202e;\n\r# h\t\u{1b}[2J\u{202e}\u{200b}\u{9b}2J";
    let results = tempdir().unwrap();
    let hostile = |e: &mut Environment| {
        let text = || Some(HOSTILE.to_string());
        e.rustc = text();
        e.profile = text();
        e.sampling = text();
        e.allocator = text();
        (e.name, e.note) = (text(), text());
        e.finished_utc = text();
        let name = || Some("NVIDIA".to_string());
        let left_out = vec![String::new()];
        e.gpu =
            Some(Gpu { name: name(), driver: name(), nvrtc: name(), l2: name(), left_out, ..Gpu::default() });
        e.peak_flops = Some(PeakFlops { flops_per_second: 1_000_000_000, how: String::new() });
    };
    let plain = run(results.path(), "plain", 300_000, |_| {});
    let folder = run(results.path(), &format!("r{}", HOSTILE.replace('/', "_")), 300_000, hostile);
    let file = folder.join("environment.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    fn replace(json: &mut serde_json::Value) -> usize {
        match json {
            serde_json::Value::String(text) if text == "transformer-toy" => 0,
            serde_json::Value::String(text) => {
                *text = HOSTILE.into();
                1
            }
            serde_json::Value::Array(values) => values.iter_mut().map(replace).sum(),
            serde_json::Value::Object(fields) => fields.values_mut().map(replace).sum(),
            _ => 0,
        }
    }
    assert!(replace(&mut json) > 20);
    fs::write(&file, serde_json::to_string(&json).unwrap()).unwrap();
    let samples = fs::read_to_string(folder.join("samples.csv")).unwrap();
    let failed = format!(
        "transformer-toy/naive/cpu/b1/t256,transformer,toy,naive,cpu,1,256,step_ns,1,1,,\"{HOSTILE}\",\n"
    );
    let samples =
        samples.replacen(",error\n", ",error,mark\n", 1).replace(",\n", &format!(",,\"{HOSTILE}\"\n"));
    fs::write(folder.join("samples.csv"), samples + &failed.replace(",\n", &format!(",\"{HOSTILE}\"\n")))
        .unwrap();
    let equality = format!("case,max_abs,max_rel,place,tolerance,error\ntransformer-toy/naive/cpu/b1/t256,1,1,\"{HOSTILE}\",1,\"{HOSTILE}\"\n");
    fs::write(folder.join("equality.csv"), equality).unwrap();

    let acts = |c: &char| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let harmless = |text: &str| assert_eq!(text.chars().find(acts), None, "{text:?}");
    let shown = |args: &[&str], code: i32| {
        let found = program(args, "");
        assert_eq!(found.code, code, "{args:?} {}", found.said);
        harmless(&found.out);
        harmless(&found.said);
        found.out
    };
    let (run, out) = (text(&folder), results.path().join("out"));
    let plots = shown(&["plot", run, "--out", text(&out)], 0);
    assert!(plots.lines().count() >= 2, "{plots}");
    let svgs = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    for svg in svgs.filter(|path| path.extension().is_some_and(|e| e == "svg")) {
        let svg = fs::read_to_string(svg).unwrap();
        harmless(&svg);
        assert!(!svg.contains("<script") && !svg.contains("&#x202e"), "{svg}");
    }
    let page = |run: &Path| {
        let file = results.path().join("page.html");
        shown(&["report", text(run), "--html", text(&file)], 0);
        fs::read_to_string(file).unwrap()
    };
    let (bad, good) = (page(&folder), page(&plain));
    harmless(&bad);
    for markup in ["<script", "</script", "<h1", "<svg"] {
        assert_eq!(bad.matches(markup).count(), good.matches(markup).count(), "{markup}");
    }
    let markdown = |text: &str| {
        harmless(text);
        let bare = text
            .replace("\\|", "")
            .replace("\\<", "")
            .replace("\\&", "")
            .replace("\\`", "")
            .replace("]\\(", "");
        assert!(!bare.contains("<script") && !bare.contains("](") && !bare.contains("&#"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("# ")), "{text}");
        for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
            let columns = |line: &str| line.replace("\\|", "").matches('|').count();
            let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
            assert!(rows.iter().all(|row| columns(row) == columns(rows[0])), "{text}");
        }
    };
    markdown(&shown(&["report", run], 0));
    for more in [&["--vs", CONCAT][..], &["--bibtex"], &[]] {
        let allowed = ["--allow-debug", "--allow-unknown-revision", "--allow-dirty"];
        let cited = shown(&[&["cite", PADDED, "--run", run], more, &allowed].concat(), 0);
        markdown(&cited.replace("= {", "").replace("{\\}", ""));
        let page = results.path().join("page.md");
        fs::write(&page, &cited).unwrap();
        shown(&["check", text(&page), "--results", text(results.path())], 0);
        fs::write(&page, cited.replacen("n = 8", "n = 9", 1) + "\u{1b}").unwrap();
        shown(&["check", text(&page), "--results", text(results.path())], 1);
    }
    for format in ["table", "markdown", "csv", "json"] {
        let compared = &["cmp", "--by", "strategy", "--format", format][..];
        let listed = [&["runs", text(results.path()), "--format", format][..]].concat();
        for args in [[compared, &[run]].concat(), [compared, &[run, text(&plain)]].concat(), listed] {
            let compared = shown(&args, 0);
            match format {
                "markdown" => markdown(&compared),
                "csv" => {
                    assert!(csv::Reader::from_reader(compared.as_bytes()).records().all(|row| row.is_ok()))
                }
                "json" => drop(serde_json::from_str::<serde_json::Value>(&compared).unwrap()),
                _ => assert!(!compared.contains('<')),
            }
        }
    }
    let steps = shown(&["report", run, "--format", "github-action-benchmark"], 0);
    drop(serde_json::from_str::<serde_json::Value>(&steps).unwrap());
    shown(&["import", run, "--results", text(&results.path().join("imported"))], 2);
    // such a name is refused
}
