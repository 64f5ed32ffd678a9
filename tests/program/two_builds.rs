//! `bench-ab`: two builds in turn. Here both are this build, or a program that is none.

use std::fs;

use assert_cmd::Command;
use tempfile::tempdir;

use crate::common;

fn bench_ab(builds: [&str; 2], more: &[&str]) -> (i32, String, String) {
    let output = Command::new(common::program()).arg("bench-ab").args(builds).args(more).output().unwrap();
    let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), out, said)
}

const CASES: [&str; 2] = ["--filter", "^transformer-tiny/(concat|padded)/cpu/b./t16$"];
const QUICK: [&str; 6] = ["--rounds", "7", "--turns", "2", "--steps", "3"];

#[test]
fn both_builds_are_asked_in_turn_and_every_turn_is_kept() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("turns.csv");
    let program = common::program();
    let program = program.to_str().unwrap();
    let out = ["--out", file.to_str().unwrap(), "--threads", "1", "--format", "json"];
    let (code, json, said) = bench_ab([program; 2], &[&CASES[..], &QUICK, &out].concat());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("same file") && said.contains("larger batch"), "{said}");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert!(
            row["rounds"] == 7 && row["confidence"] == 0.975 && row["ratio"].as_f64().unwrap() > 0.0,
            "{row}"
        );
        assert!(row["case"].as_str().unwrap().ends_with("/b1/t16"));
    }
    let turns = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = turns.lines().skip(1).collect();
    assert_eq!(lines.len(), 2 * 7 * 2 * 2, "cases, rounds, turns, builds");
    let builds = |round: &str| -> String {
        let of_round = lines.iter().filter(|line| line.contains(&format!("padded/cpu/b1/t16,{round},")));
        of_round.map(|line| if line.contains(",old,") { 'o' } else { 'n' }).collect()
    };
    assert_eq!((builds("1").as_str(), builds("2").as_str()), ("onno", "noon"));
    assert!(lines.iter().all(|line| line.split(',').nth(5) == Some("3")), "{turns}");
}

#[test]
fn a_build_that_cannot_be_asked_is_named() {
    let folder = tempdir().unwrap();
    let program = common::program();
    let program = program.to_str().unwrap();
    let missing = folder.path().join("missing");
    let (code, _, said) = bench_ab([missing.to_str().unwrap(), program], &CASES);
    assert!(code == 2 && said.contains("missing"), "{said}");
    let (code, out, said) = bench_ab([program, "/bin/false"], &[&CASES[..], &QUICK].concat());
    assert!(code == 2 && said.contains("/bin/false at transformer-tiny/") && out.is_empty(), "{said}");
    for (line, why) in [
        (&["--rounds", "5", CASES[0], "^transformer-tiny/"][..], "judged together in"),
        (&["--filter", "/cpu/b4/"], "batch 1"),
        (&["--filter", "nothing-like-it"], "nothing-like-it"),
        (&["--fail-if-slower", "5"], "as 5%"),
    ] {
        let (code, _, said) = bench_ab([program; 2], line);
        assert!(code == 2 && said.contains(why), "{line:?}: {said}");
    }
}
