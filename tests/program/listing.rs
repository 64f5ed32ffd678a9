//! `runs`, as a user calls it.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use decode_bench::record::Environment;
use serde_json::{json, Value};
use tempfile::{tempdir, TempDir};

use crate::common::{self, known_environment};

/// Six timed samples of rounds and one outside, of two models; the first `marked` of them are marked.
fn run(results: &Path, folder: &str, marked: usize, change: impl Fn(&mut Environment)) {
    let folder = results.join(folder);
    fs::create_dir(&folder).unwrap();
    let mut environment =
        Environment { gpu: None, sampling: Some("12 rounds".into()), ..known_environment() };
    change(&mut environment);
    fs::write(folder.join("environment.json"), serde_json::to_string(&environment).unwrap()).unwrap();
    let header =
        "case,model,shape,strategy,backend,batch,position,metric,protocol,round,iters,value,error,mark";
    let row = |(nth, (model, protocol, round)): (usize, (&str, &str, usize))| {
        let mark = if nth < marked { "busy" } else { "" };
        format!("{model}-toy/padded/cpu/b1/t64,{model},toy,padded,cpu,1,64,step_ns,{protocol},{round},1,7,,{mark}\n")
    };
    let rounds =
        (1..=3).flat_map(|round| ["transformer", "retention"].map(|model| (model, "interleaved", round)));
    let rows: String = rounds.chain([("transformer", "single", 0)]).enumerate().map(row).collect();
    fs::write(folder.join("samples.csv"), format!("{header}\n{rows}")).unwrap();
}

fn results() -> TempDir {
    let results = tempdir().unwrap();
    run(results.path(), "first", 0, |e| {
        (e.name, e.note) = (Some("before".into()), Some("a note, with a comma".into()));
    });
    run(results.path(), "second", 2, |e| {
        e.started_utc = "2026-01-31T13:00:00Z".into();
        (e.finished_utc, e.git_dirty, e.emulated) = (None, Some(true), true);
    });
    run(results.path(), "older", 0, |e| {
        e.started_utc = "2025-01-31T13:00:00Z".into();
        (e.sampling, e.cpu_model) = (None, Some("Another Processor".into()));
    });
    fs::create_dir(results.path().join("no-run")).unwrap();
    results
}

/// Exit code, standard output, standard error.
fn runs(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(common::program()).arg("runs").args(args).output().unwrap();
    let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), out, said)
}

#[test]
fn runs_are_listed_the_newest_first_with_what_is_known_of_each() {
    let results = results();
    let folder = results.path().to_str().unwrap();
    let (code, printed, said) = runs(&[folder, "--format", "json"]);
    assert_eq!((code, said.as_str()), (0, ""));
    let listed: Value = serde_json::from_str(&printed).unwrap();
    let column =
        |field: &str| listed.as_array().unwrap().iter().map(|row| row[field].clone()).collect::<Vec<_>>();
    assert_eq!(column("run"), ["second", "first", "older"]);
    assert_eq!(column("name"), [json!(null), json!("before"), json!(null)]);
    assert_eq!(column("finished_utc")[0], json!(null));
    assert_eq!(column("emulated"), [true, false, false]);
    assert_eq!(column("revision")[0], "revision 0123456789ab with uncommitted changes");
    assert_eq!(column("models"), ["retention-toy transformer-toy"; 3]);
    assert_eq!((column("cases"), column("samples")), (vec![json!(2); 3], vec![json!(6); 3]));
    assert_eq!(column("marked"), [json!(2), json!(0), json!(null)], "there were no marks at first");
    assert_eq!(column("hardware")[2], "Another Processor, 2 cores, 2 threads used; virtual machine");

    let (_, table, _) = runs(&[folder]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    let has = |row: usize, all: &[&str]| {
        all.iter().for_each(|one| assert!(rows[row].contains(one), "{one}\n{table}"))
    };
    has(1, &["2026-01-31 13:00:00 UTC", " no ", " 33.3 % marked ", "EMULATED"]);
    has(2, &[" before ", " yes ", " quiet ", "a note, with a comma"]);
    assert!(!rows[3].contains("quiet") && !rows[3].contains("marked"), "{table}");
    let (_, markdown, _) = runs(&[folder, "--format", "markdown"]);
    assert!(markdown.lines().count() == 5 && markdown.lines().all(|row| row.matches('|').count() == 11));
    let (_, csv, _) = runs(&[folder, "--format", "csv"]);
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let notes: Vec<String> = csv.records().map(|row| row.unwrap()[2].to_string()).collect();
    assert_eq!(notes, ["", "a note, with a comma", ""]);
}

#[test]
fn a_filter_looks_at_all_that_a_run_is_known_by() {
    let results = results();
    let folder = results.path().to_str().unwrap();
    let found = |filter: &str| {
        let (code, printed, said) = runs(&[folder, "--format", "json", "--filter", filter]);
        assert_eq!(code, 0, "{filter}: {said}");
        let listed: Vec<Value> = serde_json::from_str(&printed).unwrap();
        listed.iter().map(|row| row["run"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("^before$"), ["first"]);
    assert_eq!(found("comma"), ["first"]);
    assert_eq!(found("^(second|older)$"), ["second", "older"]);
    assert_eq!(found("Another Processor"), ["older"]);
    assert_eq!(found("uncommitted|EMULATED"), ["second"]);
    assert_eq!(found("^0123456789abcdef0123456789abcdef01234567$").len(), 3);
    let (code, _, said) = runs(&[folder, "--filter", "nothing of it"]);
    assert!(code == 2 && said.contains("no run has `nothing of it`"), "{said}");
    let (code, _, said) = runs(&[folder, "--filter", "("]);
    assert!(code == 2 && said.contains("no pattern"), "{said}");
}

#[test]
fn a_folder_without_runs_is_refused_and_a_run_that_cannot_be_read_is_named() {
    let results = results();
    fs::write(results.path().join("first/environment.json"), "{").unwrap();
    let (code, table, said) = runs(&[results.path().to_str().unwrap()]);
    assert_eq!((code, table.lines().count()), (0, 3), "{said}");
    assert!(said.starts_with("note: passed over: ") && said.contains("first"), "{said}");
    let (code, _, said) = runs(&[results.path().join("no-run").to_str().unwrap()]);
    assert!(code == 2 && said.contains("no run is in it"), "{said}");
    let (code, _, said) = runs(&["/no/such/folder"]);
    assert!(code == 2 && said.starts_with("error: /no/such/folder: "), "{said}");
}
