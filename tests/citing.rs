//! `cmp`, `cite` and `check` as a user runs them: what follows from files, and what files from elsewhere
//! cannot do.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use decode_bench::record::{Bandwidth, Environment};
use tempfile::{tempdir, TempDir};

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
        started_utc: "2026-01-31T12:00:00Z".into(),
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
        assert!(found.out.contains("value: 302 µs follows"), "{}", found.out);
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

#[test]
fn tables_and_citations_of_readme_and_results_follow_from_the_runs() {
    let found = program(&["check", "README.md", "docs/RESULTS.md"], "");
    assert_eq!(found.code, 0, "{}{}", found.out, found.said);
    assert!(found.out.matches("the table follows").count() >= 7, "{}", found.out);
    assert!(found.out.matches("sha256:").count() >= 4, "{}", found.out);
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
    assert!(found.said.contains("value: 303 µs, and the rows say 302 µs"), "{}", found.said);
    let ratio = cited.split("interval, ").nth(1).unwrap().split(' ').next().unwrap();
    let found = check(results.path(), &cited.replacen(&format!("interval, {ratio}"), "interval, 0.705", 1));
    assert!(found.code == 1 && found.said.contains("ratio: 0.705 ×"), "{}", found.said);
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
    refused(&["cite", PADDED, "--results", "/no/such/place"], &["/no/such/place"]);
    refused(&["cite"], &["<CASE>"]);
    refused(&["check", "no hash", "--results", folder], &["no citation"]);
    refused(&["check", "sha256:0123456789abcdef", "--results", folder], &["no run has the rows"]);
    refused(&["check"], &["<TEXT>"]);
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
