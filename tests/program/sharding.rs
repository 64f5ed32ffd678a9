//! A suite measured in shards, each by a process of its own, and merged into one run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use decode_bench::record::{Metric, Run};

use crate::common;

const FILTER: &str = "transformer-tiny/(naive|concat|padded)/cpu/b1";

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(common::program());
    command.args(args).env_remove("SLURM_RESTART_COUNT");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn shard(results: &Path, place: &str, restarts: &str) {
    let mut run = program(&["run", "--threads", "1", "--filter", FILTER, "--shard", place, "--results"]);
    let output = run.arg(results).env("SLURM_RESTART_COUNT", restarts).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

fn merge(out: &Path, runs: &[PathBuf], more: &[&str]) -> (Option<i32>, String) {
    let output = program(&["merge"]).arg(out).args(runs).args(more).output().unwrap();
    (output.status.code(), said(&output))
}

fn folders(results: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(results).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn shards_are_measured_each_by_itself_and_merged_into_one_run() {
    if !common::revision_is_known() {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let (parts, out) = (here.path().join("parts"), here.path().join("whole"));
    shard(&parts, "1/2", "0");
    let (code, text) = merge(&out, &folders(&parts), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("missing: transformer-tiny/") && text.contains("of shard 2/2"), "{text}");
    assert!(!out.exists(), "without --partial nothing is written");
    let (code, text) = merge(&out, &folders(&parts), &["--partial"]);
    assert_eq!(code, Some(0), "{text}");

    shard(&parts, "2/2", "0");
    torn_and_emptied(&here.path().join("damaged"), &folders(&parts));
    shard(&parts, "2/2", "1");
    let (code, text) = merge(&out, &folders(&parts), &[]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = merge(&out, &folders(&parts), &[]);
    assert!(code == Some(0) && text.contains("unchanged: "), "{text}");

    let run = Run::open(&out).unwrap();
    assert!(run.environment.finished_utc.is_some());
    assert_eq!(run.environment.merged.unwrap().parts.len(), 3);
    let planned: BTreeSet<String> =
        decode_bench::suite::select(Some(FILTER)).unwrap().iter().map(|c| c.to_string()).collect();
    let timed = run.samples.iter().filter(|s| s.metric == Metric::StepNs);
    let timed = timed.map(|s| (s.case.to_string(), s.round.code()));
    let mut seen: Vec<(String, u32)> = timed.filter(|(case, _)| planned.contains(case)).collect();
    assert_eq!(seen.iter().map(|(case, _)| case.clone()).collect::<BTreeSet<_>>(), planned);
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(all, seen.len(), "each case once in a round, and no round twice");
    let mut ledger: Vec<(String, Metric)> =
        run.ledger.iter().map(|row| (row.case.to_string(), row.metric)).collect();
    let all = ledger.len();
    ledger.sort();
    ledger.dedup();
    assert_eq!(ledger.len(), all, "no row of the ledger twice");
    let table = program(&["report"]).arg(&out).output().unwrap();
    assert!(
        table.status.success() && said(&table).contains("transformer-tiny, cpu, batch 1"),
        "{}",
        said(&table)
    );
}

/// A line without an end is said, as reports say it; a finished part without a row is refused.
fn torn_and_emptied(copies: &Path, parts: &[PathBuf]) {
    let copied = |part: &PathBuf, samples: &[u8]| {
        let copy = copies.join(part.file_name().unwrap());
        std::fs::create_dir_all(&copy).unwrap();
        for name in ["environment.json", "equality.csv", "ledger.csv"] {
            std::fs::copy(part.join(name), copy.join(name)).unwrap();
        }
        std::fs::write(copy.join("samples.csv"), samples).unwrap();
        copy
    };
    let whole = std::fs::read(parts[1].join("samples.csv")).unwrap();
    let [torn, empty] =
        [&whole[..whole.len() - 5], &whole[..whole.iter().position(|b| *b == b'\n').unwrap() + 1]];
    let (_, text) = merge(&copies.join("torn"), &[parts[0].clone(), copied(&parts[1], torn)], &[]);
    assert!(text.contains("note: ") && text.contains("is unfinished and left out"), "{text}");
    for more in [[].as_slice(), &["--partial"]] {
        let out = copies.join("empty");
        let (code, text) = merge(&out, &[parts[0].clone(), copied(&parts[1], empty)], more);
        assert!(code == Some(2) && text.contains("the run has no samples") && !out.exists(), "{text}");
    }
}

#[test]
fn a_plan_is_printed_the_same_by_every_machine() {
    let print = || said(&program(&["plan", "--shards", "3", "--filter", "tiny/.*/cpu"]).output().unwrap());
    let plan = print();
    assert_eq!(plan, print());
    let mut cases: Vec<String> = Vec::new();
    for line in plan.lines() {
        let group: serde_json::Value = serde_json::from_str(line).unwrap();
        cases
            .extend(group["cases"].as_array().unwrap().iter().map(|case| case.as_str().unwrap().to_string()));
    }
    cases.sort();
    let mut all: Vec<String> = decode_bench::suite::select(Some("tiny/.*/cpu"))
        .unwrap()
        .iter()
        .map(|case| case.to_string())
        .collect();
    all.sort();
    assert_eq!(cases, all);
}

/// A run without a plan is a run like any other: tables, figures, no shard.
#[test]
fn the_cases_of_a_filter_are_measured_without_a_plan() {
    let here = tempfile::tempdir().unwrap();
    let results = here.path().join("results");
    let filter = "transformer-tiny/(concat|padded)/cpu/b1/t16";
    let measure = |chunks| {
        let mut run = program(&["run", "--threads", "1", "--budget", "1", "--filter", filter]);
        run.args(["--prefill-chunks", chunks, "--results"]).arg(&results).output().unwrap()
    };
    let refused = measure("4,16");
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("--prefill-chunks 16: no case has a cache and a longer prompt"));
    let output = measure("4,1,4");
    let text = said(&output);
    assert!(output.status.success() && text.contains("written to "), "{text}");
    assert!(text.contains("transformer-tiny, cpu, batch 1: chunked prefill"), "{text}");
    let folders = folders(&results);
    let run = Run::open(&folders[0]).unwrap();
    assert!(folders.len() == 1 && folders[0].join("plots").is_dir());
    assert!(run.environment.sharding.is_none() && run.environment.finished_utc.is_some());
    assert!(run.environment.sampling.unwrap().contains("or 1 s a position"));
    for strategy in ["concat", "padded"] {
        let case = format!("transformer-tiny/{strategy}/cpu/b1/t16").parse().unwrap();
        let steps = run.samples.iter().filter(|s| s.case == case && s.metric == Metric::StepNs);
        assert!(steps.filter(|s| s.round.is_decode()).count() >= 5, "{text}");
        for metric in [Metric::PrefillNs, Metric::ChunkedPrefillNs(1), Metric::ChunkedPrefillNs(4)] {
            let prefills = run.samples.iter().filter(|s| s.case == case && s.metric == metric);
            assert_eq!(prefills.count(), 2 * 6, "{metric}: twice in each round");
        }
    }
    let output = program(&["run", "--attempt", "1", "--filter", filter, "--results"]).arg(&results).output();
    assert_eq!(output.unwrap().status.code(), Some(2), "an attempt is one of a shard");
}

#[test]
fn wrong_shards_and_wrong_runs_are_one_line_each() {
    let here = tempfile::tempdir().unwrap();
    let results = here.path().join("results");
    let results = results.to_str().unwrap();
    let ordinary = common::root().join("results/2026-11-22T05-07-08Z-intel-xeon-2c");
    let ordinary = ordinary.to_str().unwrap();
    for (args, wanted) in [
        (vec!["run", "--shard", "3/2", "--results", results], "no shard"),
        (vec!["run", "--shard", "1/999", "--filter", "tiny/.*/cpu", "--results", results], "999 shards"),
        (vec!["plan", "--shards", "0"], "a whole number from 1 on"),
        (vec!["plan", "--shards", "2", "--filter", "paded"], "no case matches"),
        (vec!["merge", results, ordinary], "no part of a plan"),
        (vec!["merge", ordinary, ordinary], "a run that was not merged is there"),
        (vec!["merge", results, "nothing-there"], "nothing-there: no results folder"),
    ] {
        let output = program(&args).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(wanted) && text.lines().count() == 1, "{args:?} should say {wanted}: {text}");
    }
    let output = program(&["run", "--shard", "1/2", "--filter", "tiny/.*/cpu", "--results", results])
        .env("SLURM_RESTART_COUNT", "often")
        .output()
        .unwrap();
    assert!(said(&output).contains("SLURM_RESTART_COUNT is `often`"), "{}", said(&output));
    assert!(folders(here.path()).is_empty(), "a refusal leaves nothing");
}
