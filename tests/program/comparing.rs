//! `cmp` between runs as a gate: nothing that one side lacks, and no condition that differs, passes without a word.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use decode_bench::record::{Consequence, Environment, Use, CONDITIONS};
use tempfile::tempdir;

use crate::common::{self, known_environment, Change, CHANGES};

const CONCAT: &str = "transformer-toy/concat/cpu/b1/t256";
const PADDED: &str = "transformer-toy/padded/cpu/b1/t256";
const EARLIER: &str = "transformer-toy/padded/cpu/b1/t64";
const HEADER: &str =
    "case,model,shape,strategy,backend,batch,position,metric,protocol,round,iters,value,error,mark\n";

/// One row; a value is a number, anything else is the error in its place.
fn row(case: &str, protocol: &str, round: u32, value: &str) -> String {
    let parts: Vec<&str> = case.split('/').collect();
    let (model, shape) = parts[0].rsplit_once('-').unwrap();
    let (batch, position) = (&parts[3][1..], &parts[4][1..]);
    let (value, error) = if value.parse::<u64>().is_ok() { (value, "") } else { ("", value) };
    format!(
        "{case},{model},{shape},{},{},{batch},{position},step_ns,{protocol},{round},1,{value},{error},\n",
        parts[1], parts[2]
    )
}

/// Eight rounds of two samples around so many nanoseconds.
fn rounds(case: &str, ns: u64) -> String {
    let noise = (1..=8).flat_map(|round| [round % 3, 3 - round % 3].map(|noise| (round, noise)));
    noise
        .map(|(round, noise)| row(case, "interleaved", round, &(ns + 1000 * u64::from(noise)).to_string()))
        .collect()
}

fn cpu() -> Environment {
    Environment { gpu: None, ..known_environment() }
}

fn run(results: &Path, name: &str, environment: &Environment, rows: &str) -> PathBuf {
    let folder = results.join(name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("environment.json"), serde_json::to_string(environment).unwrap()).unwrap();
    fs::write(folder.join("samples.csv"), format!("{HEADER}{rows}")).unwrap();
    folder
}

/// Exit code, standard output, standard error.
fn cmp(before: &Path, after: &Path, more: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(common::program()).arg("cmp").args([before, after]).args(more).output().unwrap();
    let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), out, said)
}

const GATE: [&str; 3] = ["--fail-if-slower", "5%", "--allow-one-run"];
const LENIENT: [&str; 4] = ["--fail-if-slower", "5%", "--allow-one-run", "--allow-missing"];

#[test]
fn a_slower_run_fails_and_one_run_a_side_must_be_allowed() {
    let results = tempdir().unwrap();
    let rows = |padded: u64| rounds(CONCAT, 400_000) + &rounds(PADDED, padded);
    let before = run(results.path(), "before", &cpu(), &rows(300_000));
    let after = run(results.path(), "after", &cpu(), &rows(330_000));
    let (code, table, said) = cmp(&before, &after, &[]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(table.contains("1.10 [") && table.contains(" †"), "{table}");
    for (percent, code) in [("50%", 0), ("10%", 0), ("5%", 1)] {
        let (found, printed, said) = cmp(&before, &after, &["--fail-if-slower", percent]);
        assert_eq!((found, &printed), (2, &table), "{percent}: {said}");
        assert!(
            said.contains("--base A1,A2,A3 --new B1,B2,B3") && said.contains("--allow-one-run"),
            "{said}"
        );
        let allowed = ["--fail-if-slower", percent, "--allow-one-run"];
        let (found, printed, said) = cmp(&before, &after, &allowed);
        assert_eq!((found, &printed), (code, &table), "{percent}: {said}");
        assert!(said.contains("note: each side is one run"), "{said}");
        assert_eq!(said.contains(PADDED), code == 1, "{said}");
        assert!(!said.contains(CONCAT), "{said}");
    }
    let sorted = cmp(&before, &after, &["--sort", "ratio"]).1;
    assert!(sorted.find(CONCAT) < sorted.find(PADDED), "{sorted}");
}

/// `cmp` of the runs of two sides, by their names.
fn sides(results: &Path, base: &str, new: &str, more: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(common::program());
    let output =
        command.current_dir(results).args(["cmp", "--base", base, "--new", new]).args(more).output().unwrap();
    let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), out, said)
}

const STRICT: [&str; 2] = ["--fail-if-slower", "2%"];

#[test]
fn several_runs_a_side_are_judged_by_what_runs_of_a_side_differ_by() {
    let results = tempdir().unwrap();
    let folder = results.path();
    // steady and unsteady builds, and one whose steps are 8 % longer
    for (name, padded) in [
        ("a1", 300_000),
        ("a2", 301_000),
        ("a3", 299_000),
        ("b1", 324_000),
        ("b2", 325_000),
        ("b3", 323_000),
        ("u1", 280_000),
        ("u2", 345_000),
        ("u3", 330_000),
    ] {
        run(folder, name, &cpu(), &(rounds(CONCAT, 400_000) + &rounds(PADDED, padded)));
    }
    let (code, table, said) = sides(folder, "a1,a2,a3", "b1,b2,b3", &STRICT);
    assert!(code == 1 && said.contains(PADDED) && !said.contains(CONCAT), "{said}");
    assert!(table.contains("1.08 [") && table.contains(" ‡") && table.contains("b1, b2, b3"), "{table}");
    let (code, csv, said) = sides(folder, "a1,a2,a3", "b1,b2,b3", &["--format", "csv"]);
    assert!(code == 0 && csv.contains(",slower,") && csv.contains(",not distinguishable,"), "{said}{csv}");
    for (base, new) in [("a1,a2,a3", "u1,u2,u3"), ("b1,b2,b3", "a1,a2,a3"), ("a1,b2,a3", "b1,a2,b3")] {
        let (code, table, said) = sides(folder, base, new, &STRICT);
        assert_eq!((code, said.as_str()), (0, ""), "{base} {new}: {table}");
    }
    // one run on one side is compared with the scatter of the other's; one on each side has none
    assert_eq!(sides(folder, "a1,a2,a3", "u2", &STRICT).0, 1);
    let (code, _, said) = sides(folder, "a1", "b1", &STRICT);
    assert!(code == 2 && said.contains("--allow-one-run"), "{said}");
    assert_eq!(sides(folder, "a1", "b1", &[&STRICT[..], &["--allow-one-run"]].concat()).0, 1);
    // the same table as of two runs without sides
    assert_eq!(sides(folder, "a1", "b1", &[]).1, cmp(&folder.join("a1"), &folder.join("b1"), &[]).1);
}

#[test]
fn what_a_run_of_a_side_lacks_is_named() {
    let results = tempdir().unwrap();
    let folder = results.path();
    let both = rounds(CONCAT, 400_000) + &rounds(PADDED, 300_000);
    for name in ["a1", "a2", "b1", "b2"] {
        run(folder, name, &cpu(), &both);
    }
    run(folder, "lacks", &cpu(), &rounds(CONCAT, 400_000));
    run(folder, "failed", &cpu(), &(rounds(CONCAT, 400_000) + &row(PADDED, "single", 0, "out of memory")));
    let decoded: String = (1..=8).map(|round| row(PADDED, "decode", round, "300000")).collect();
    run(folder, "decoded", &cpu(), &(rounds(CONCAT, 400_000) + &decoded));
    let slow = Environment { threads: 7, ..cpu() };
    run(folder, "threads", &slow, &both);
    for (base, new) in [("lacks", "b1,b2"), ("a1,a2", "lacks"), ("failed", "b1"), ("a1", "failed")] {
        let (code, table, said) = sides(folder, base, new, &STRICT);
        assert!(code == 1 && said.contains(PADDED) && !said.contains("protocol"), "{base} {new}: {said}");
        assert!(
            !table.contains("protocol") && table.contains("302 ["),
            "what one side has is shown: {table}"
        );
    }
    let (code, table, said) = sides(folder, "a1,a2", "decoded", &STRICT);
    assert!(
        code == 1 && said.contains("sampled by another protocol") && table.contains("of another"),
        "{said}"
    );
    for (odd, why) in
        [("lacks", "missing"), ("failed", "failed: out of memory"), ("decoded", "of another protocol")]
    {
        for (base, new) in
            [(format!("a1,{odd},a2"), "b1,b2".to_string()), ("a1,a2".into(), format!("b1,b2,{odd}"))]
        {
            let (code, table, said) = sides(folder, &base, &new, &STRICT);
            assert!(code == 1 && said.contains(odd) && said.contains(PADDED), "{base} {new}: {said}");
            assert!(
                table.contains(why) && table.matches("not compared").count() == 1,
                "{base} {new}: {table}"
            );
            assert_eq!(table.matches(" ‡").count(), 2, "the other runs are compared: {table}");
            let allowed = sides(folder, &base, &new, &[&STRICT[..], &["--allow-missing"]].concat());
            assert!(allowed.0 == 0 && allowed.2.contains(odd), "{allowed:?}");
        }
    }
    for (base, new) in [("a1,threads", "b1,b2"), ("a1,a2", "b1,threads")] {
        let (code, _, said) = sides(folder, base, new, &STRICT);
        assert!(code == 2 && said.contains("threads: "), "{base} {new}: {said}");
    }
    for (base, new, why) in
        [("a1,a2", "b1,a2", "given twice"), ("a1,a1", "b1,b2", "given twice"), ("a1,no", "b1", "no")]
    {
        let (code, _, said) = sides(folder, base, new, &STRICT);
        assert!(code == 2 && said.contains(why), "{base} {new}: {said}");
    }
    for (line, why) in [
        (&["cmp", "--new", "b1,b2"][..], "--base"),
        (&["cmp", "a1", "--base", "a1", "--new", "b1"], "cannot be used with"),
        (&["cmp", "a1", "--base", "concat,padded"], "--new"),
    ] {
        let output = Command::new(common::program()).current_dir(folder).args(line).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(why), "{line:?}: {said}");
    }
}

/// Each way in which a case of one run has no counterpart in the other, in both directions.
#[test]
fn what_one_side_lacks_or_failed_at_is_named_and_fails() {
    let results = tempdir().unwrap();
    let both = rounds(CONCAT, 400_000);
    let whole = both.clone() + &rounds(PADDED, 300_000) + &rounds(EARLIER, 290_000);
    let before = run(results.path(), "before", &cpu(), &whole);
    let failed = |case| row(case, "single", 0, "out of memory");
    let decoded: String = (1..=8).map(|round| row(PADDED, "decode", round, "300000")).collect();
    let few: String = (1..=3).map(|round| row(PADDED, "interleaved", round, "300000")).collect();
    let earlier = rounds(EARLIER, 290_000);
    for (name, rows, gone, why) in [
        ("missing", both.clone(), vec![PADDED, EARLIER], "missing"),
        (
            "failed",
            both.clone() + &failed(PADDED) + &failed(EARLIER),
            vec![PADDED, EARLIER],
            "failed: out of memory",
        ),
        (
            "both",
            both.clone() + &rounds(PADDED, 300_000) + &failed(PADDED) + &earlier,
            vec![PADDED],
            "failed: out of memory",
        ),
        ("decoded", both.clone() + &decoded + &earlier, vec![PADDED], ""),
        ("few", both.clone() + &few + &earlier, vec![PADDED], ""),
        ("none", both.clone() + &earlier, vec![PADDED], "missing"),
    ] {
        let after = run(results.path(), name, &cpu(), &rows);
        for (one, other) in [(&before, &after), (&after, &before)] {
            let (code, table, said) = cmp(one, other, &GATE);
            assert_eq!(code, 1, "{name}: {said}");
            assert!(gone.iter().all(|case| said.contains(case)) && !said.contains(CONCAT), "{name}: {said}");
            assert!(said.contains("--allow-missing") && table.contains(why), "{name}: {said}\n{table}");
            assert!(gone.iter().all(|case| table.contains(case)), "{name}: {table}");
            let (code, _, said) = cmp(one, other, &LENIENT);
            assert!(
                code == 0 && said.contains("note: ") && gone.iter().all(|case| said.contains(case)),
                "{name}: {said}"
            );
            let (code, csv, said) = cmp(one, other, &["--format", "csv"]);
            assert_eq!((code, said.contains("note: ")), (0, name != "few"), "{name}: {said}");
            assert!(csv.contains(why), "{name}: {csv}");
        }
    }
    let (code, table, said) =
        cmp(&before, &results.path().join("missing"), &[&["--filter", "padded"], &GATE[..]].concat());
    assert!(code == 1 && said.contains(PADDED) && table.contains("not compared"), "{said}\n{table}");
}

#[test]
fn a_case_whose_logits_differ_is_not_judged() {
    let results = tempdir().unwrap();
    let rows = rounds(CONCAT, 400_000) + &rounds(PADDED, 300_000);
    let [before, after] = ["before", "after"].map(|name| run(results.path(), name, &cpu(), &rows));
    let equality =
        format!("case,max_abs,max_rel,place,tolerance,error\n{PADDED},0.5,0.1,0/1,0.0001,logit 1 is 4.5\n");
    fs::write(after.join("equality.csv"), equality).unwrap();
    let (code, _, said) = cmp(&before, &after, &GATE);
    assert!(code == 1 && said.contains(&format!("failed at {PADDED} (logit 1 is 4.5)")), "{said}");
}

/// A pair of runs that differ in these conditions: what the gate refuses is named, and passes when it is allowed
/// by name; without a gate it is said.
fn differing(results: &Path, changes: &[&Change]) {
    let environment =
        changes.iter().fold(known_environment(), |environment, change| change.applied(&environment));
    let rows = rounds(CONCAT, 400_000);
    let [before, after] = [("before", known_environment()), ("after", environment)]
        .map(|(name, environment)| run(results, name, &environment, &rows));
    let of = |of, consequence| {
        let named =
            |name: &&str| CONDITIONS.iter().any(|c| c.name == *name && c.consequence(of) == consequence);
        changes.iter().map(|change| change.condition).filter(named).collect::<Vec<_>>()
    };
    let refused = of(Use::Gate, Consequence::Refused);
    let (code, table, said) = cmp(&before, &after, &GATE);
    assert_eq!((code, table.is_empty()), if refused.is_empty() { (0, false) } else { (2, true) }, "{said}");
    for name in refused.iter().chain(of(Use::Gate, Consequence::Said).iter().filter(|_| refused.is_empty())) {
        assert!(said.contains(&format!("{name}: ")), "{name}: {said}");
    }
    if let Some((_, names)) = said.split_once("--allow-different ") {
        let allow = ["--allow-different", names.split(';').next().unwrap()];
        let (code, _, said) = cmp(&before, &after, &[&GATE[..], &allow].concat());
        assert!(code == 0 && refused.iter().all(|name| said.contains(&format!("{name}: "))), "{said}");
    }
    let (code, table, said) = cmp(&before, &after, &[]);
    match of(Use::Compare, Consequence::Refused).is_empty() {
        true => assert_eq!(code, 0, "{said}"),
        false => return assert_eq!(code, 2, "{said}"),
    }
    for name in of(Use::Compare, Consequence::Said) {
        assert!(
            said.contains(&format!("{name}: ")) && table.contains(&format!("{name}: ")),
            "{name}: {said}\n{table}"
        );
    }
}

#[test]
fn conditions_that_differ_are_said_and_refused_by_a_gate() {
    // an emulated device's times are shown nowhere
    let shown: Vec<&Change> = CHANGES.iter().filter(|change| change.condition != "emulated device").collect();
    for change in &shown {
        differing(tempdir().unwrap().path(), &[change]);
    }
    let mut state = 1u64;
    for _ in 0..60 {
        let mut changes = shown.clone();
        changes.retain(|_| common::random(&mut state).is_multiple_of(6));
        differing(tempdir().unwrap().path(), &changes);
    }
}

#[test]
fn a_condition_that_is_none_is_refused_by_name() {
    let results = tempdir().unwrap();
    let [before, after] =
        ["before", "after"].map(|name| run(results.path(), name, &cpu(), &rounds(CONCAT, 400_000)));
    let (code, _, said) = cmp(&before, &after, &["--allow-different", "thread"]);
    assert!(code == 2 && said.contains("unknown condition `thread`") && said.contains("`threads`"), "{said}");
    let (code, _, said) = cmp(&before, &after, &["--allow-missing"]);
    assert!(code == 2 && said.contains("--fail-if-slower"), "{said}");
}

/// The same comparison, told in tokens a second: the values and the ratio are turned round, the verdict is not.
#[test]
fn rates_are_compared_by_the_times_that_they_follow_from() {
    let results = tempdir().unwrap();
    let rows = rounds(CONCAT, 400_000) + &rounds(PADDED, 300_000);
    let before = run(results.path(), "before", &cpu(), &rows);
    let after = run(results.path(), "after", &cpu(), &rounds(PADDED, 600_000));
    let csv = |metric: &str| {
        let (code, csv, said) =
            cmp(&before, &after, &["--metric", metric, "--format", "csv", "--filter", "padded"]);
        assert_eq!(code, 0, "{said}");
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let names = reader.headers().unwrap().clone();
        let row = reader.records().next().unwrap().unwrap();
        move |column: &str| row[names.iter().position(|name| name == column).unwrap()].to_string()
    };
    let number = |text: String| text.parse::<f64>().unwrap();
    let (times, rates) = (csv("step_ns"), csv("decode_tokens_per_second"));
    assert_eq!((rates("metric").as_str(), rates("verdict")), ("decode_tokens_per_second", times("verdict")));
    for (rate, time) in [("value", "value"), ("base_lo", "base_hi"), ("base_hi", "base_lo")] {
        assert!((number(rates(rate)) * number(times(time)) / 1e9 - 1.0).abs() < 1e-9, "{rate}");
    }
    for (rate, time) in [("ratio", "ratio"), ("ratio_lo", "ratio_hi")] {
        assert!((number(rates(rate)) * number(times(time)) - 1.0).abs() < 1e-9, "{rate}");
    }
    let table = cmp(&before, &after, &["--metric", "decode_tokens_per_second", "--filter", "padded"]).1;
    assert!(table.contains("] tokens/s") && table.contains("slower"), "{table}");
    let (code, _, said) = cmp(&before, &after, &["--metric", "ttft_ns"]);
    assert!(code == 2 && said.contains("no case has ttft_ns on both sides"), "{said}");
}
