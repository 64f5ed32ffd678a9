//! A run from its first sample to its figures, as a user makes one; and what is left of it when it
//! is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use decode_bench::record::{differences, Consequence, Environment, Metric, Run, Use, CONDITIONS};

use crate::common::{self, CHANGES};

const CASES: &str = "transformer-tiny/(naive|concat|padded)/cpu/b1/t16";

fn program() -> Command {
    Command::new(common::program())
}

fn trace(results: &Path, rounds: u32) -> Command {
    let mut command = program();
    command.args([
        "trace",
        "--filter",
        CASES,
        "--tokens",
        "48",
        "--threads",
        "1",
        "--rounds",
        &rounds.to_string(),
    ]);
    command.arg("--results").arg(results);
    command
}

fn only_folder(results: &Path) -> PathBuf {
    let folders: Vec<PathBuf> = fs::read_dir(results).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders.into_iter().next().unwrap()
}

fn output(mut command: Command) -> String {
    output_of(&mut command)
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_trace_holds_every_step_of_every_strategy_and_makes_figures_and_a_table() {
    let results = tempfile::tempdir().unwrap();
    let printed = output(trace(results.path(), 6));
    let folder = only_folder(results.path());
    assert!(printed.contains("transformer-tiny, cpu, batch 1"), "{printed}");
    let run = Run::open(&folder).unwrap();
    assert!(run.environment.finished_utc.is_some());
    for strategy in ["naive", "concat", "padded"] {
        let of = |metric| {
            let mine = |s: &&_| matches!(s, decode_bench::record::Sample { case, metric: m, .. } if case.strategy.to_string() == strategy && *m == metric);
            run.samples.iter().filter(mine).count()
        };
        assert_eq!((of(Metric::StepNs), of(Metric::DecodeNs)), (6 * 48, 6), "{strategy}");
    }
    assert_eq!(run.equality.len(), 3 * 3, "at each position of the table");
    for figure in ["latency", "cumulative"] {
        let svg =
            fs::read_to_string(folder.join(format!("plots/{figure}-transformer-tiny-cpu-b1.svg"))).unwrap();
        for word in ["naive", "concat", "padded", "thread"] {
            assert!(svg.contains(word), "{figure} has no `{word}`");
        }
        assert!(
            fs::metadata(folder.join(format!("plots/{figure}-transformer-tiny-cpu-b1.png"))).unwrap().len()
                > 10_000
        );
    }
}

/// The rows of a file, each a whole line.
fn lines(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("samples.csv")).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(String::from).collect()
}

#[test]
fn a_killed_run_keeps_every_sample_and_is_completed_by_resuming_it() {
    if !common::revision_is_known() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let mut child = trace(results.path(), 40).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(350));
    child.kill().unwrap();
    child.wait().unwrap();
    let folder = only_folder(results.path());
    for pause in [60, 130, 210] {
        let before = lines(&folder);
        let mut again = trace(results.path(), 40);
        let mut child =
            again.arg("--resume").arg(&folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        let after = lines(&folder);
        assert_eq!(after[..before.len()], before, "a sample was lost");
    }
    let mut last = trace(results.path(), 40);
    last.arg("--resume").arg(&folder);
    output(last);
    let run = Run::open(&folder).unwrap();
    assert!(run.notes.is_empty(), "{:?}", run.notes);
    for strategy in ["naive", "concat", "padded"] {
        let ended = run
            .samples
            .iter()
            .filter(|s| s.metric == Metric::DecodeNs && s.case.strategy.to_string() == strategy);
        let mut rounds: Vec<u32> = ended.map(|s| s.round.number()).collect();
        rounds.sort();
        assert_eq!(rounds, (1..=40).collect::<Vec<u32>>(), "{strategy}: every round once");
    }
}

#[test]
fn a_run_begun_otherwise_is_not_resumed() {
    let results = tempfile::tempdir().unwrap();
    output(trace(results.path(), 1));
    let folder = only_folder(results.path());
    let mut other = trace(results.path(), 2);
    let output = other.args(["--seed", "2"]).arg("--resume").arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("seed: 1, now 2"), "{said}");
    assert_eq!(
        Run::open(&folder).unwrap().samples.iter().filter(|s| s.metric == Metric::DecodeNs).count(),
        3
    );
}

#[test]
fn a_run_keeps_its_name_and_its_note() {
    let results = tempfile::tempdir().unwrap();
    let mut named = trace(results.path(), 1);
    let printed = output_of(named.args(["--name", "before", "--note", "two\nlines \u{1b}[31m"]));
    assert!(printed.contains(" (before): "), "{printed}");
    let folder = only_folder(results.path());
    let labels = || {
        let Environment { name, note, .. } = Run::open(&folder).unwrap().environment;
        [name, note].map(Option::unwrap)
    };
    assert_eq!(labels(), ["before", "two lines  [31m"]);
    let begun = Run::open(&folder).unwrap().environment;
    if !differences(Use::Resume, &begun, &begun).is_empty() {
        return eprintln!("skipped: not everything is known of this program on this machine");
    }
    for (more, wanted) in
        [(&[][..], ["before", "two lines  [31m"]), (&["--name", "after"], ["after", "two lines  [31m"])]
    {
        output_of(trace(results.path(), 1).args(more).arg("--resume").arg(&folder));
        assert_eq!(labels(), wanted);
    }
}

/// Whatever else the machine does: it is said, and the run goes on after a second.
#[cfg(target_os = "linux")]
#[test]
fn a_quiet_second_is_waited_for_and_what_was_found_is_said() {
    let results = tempfile::tempdir().unwrap();
    let output = trace(results.path(), 1).args(["--wait-quiet", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("waiting for")).collect();
    assert_eq!(lines[0], "waiting for a quiet second, 1 s at most", "{said}");
    assert!(lines[1].contains("quiet: other programs use "), "{said}");
    assert_eq!(
        lines[1].starts_with("not "),
        lines[2] == "note: it was not quiet in 1 s; measured all the same",
        "{said}"
    );
    assert!(Run::open(&only_folder(results.path())).unwrap().environment.finished_utc.is_some());
}

/// Without what is unknown: older files lack some such fields.
fn known(json: &mut serde_json::Value) -> &serde_json::Value {
    if let Some(fields) = json.as_object_mut() {
        fields.retain(|_, value| !known(value).is_null());
    }
    json
}

/// A run without a name has no field for one: neither a new one nor those from before there were names.
#[test]
fn a_run_without_a_name_is_what_it_was() {
    let results = tempfile::tempdir().unwrap();
    output(trace(results.path(), 1));
    let committed = fs::read_dir(common::root().join("results")).unwrap().map(|entry| entry.unwrap().path());
    let committed: Vec<PathBuf> = committed.filter(|run| run.join("environment.json").is_file()).collect();
    assert!(committed.len() > 10);
    for folder in committed.into_iter().chain([only_folder(results.path())]) {
        let text = fs::read_to_string(folder.join("environment.json")).unwrap();
        let mut written = serde_json::from_str(&text).unwrap();
        let mut read = serde_json::to_value(Environment::read(&folder).unwrap()).unwrap();
        assert!(["name", "note"].iter().all(|field| read.get(field).is_none()), "{}", folder.display());
        assert_eq!(known(&mut read), known(&mut written), "{}", folder.display());
    }
}

/// Every condition of the machine and the program, changed or forgotten in the run; what is refused is left as it was.
#[test]
fn a_run_of_other_conditions_is_not_resumed() {
    let results = tempfile::tempdir().unwrap();
    output(trace(results.path(), 1));
    let folder = only_folder(results.path());
    let begun = Run::open(&folder).unwrap().environment;
    if !differences(Use::Resume, &begun, &begun).is_empty() {
        return eprintln!("skipped: not everything is known of this program on this machine");
    }
    let refused = |name: &str, environment: &Environment| {
        let text = serde_json::to_string(environment).unwrap();
        fs::write(folder.join("environment.json"), &text).unwrap();
        let output = trace(results.path(), 1).arg("--resume").arg(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(&format!("{name}: ")) && said.lines().count() == 1, "{name}: {said}");
        assert_eq!(fs::read_to_string(folder.join("environment.json")).unwrap(), text, "{name}");
    };
    let asked = |name| {
        CONDITIONS.iter().any(|c| c.name == name && c.consequence(Use::Resume) == Consequence::Refused)
    };
    for change in CHANGES.iter().filter(|change| asked(change.condition) && !change.is_of_gpu()) {
        let differs = change.applied(&begun);
        if !differences(Use::Resume, &differs, &begun).is_empty() {
            refused(change.condition, &differs); // this machine may be the other one
        }
        if change.may_be_unknown {
            refused(change.condition, &change.forgotten(&begun));
        }
    }
    let unfinished = Environment { finished_utc: None, ..begun };
    fs::write(folder.join("environment.json"), serde_json::to_string(&unfinished).unwrap()).unwrap();
    let mut again = trace(results.path(), 1);
    again.arg("--resume").arg(&folder);
    output(again);
    assert!(Run::open(&folder).unwrap().environment.finished_utc.is_some());
}

#[test]
fn a_folder_that_another_process_writes_to_is_refused() {
    let results = tempfile::tempdir().unwrap();
    let mut first = trace(results.path(), 2000).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let folder = only_folder(results.path());
    let output = trace(results.path(), 2000).arg("--resume").arg(&folder).output().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("another process is writing to this run"), "{said}");
}

/// Any chunk can be traced, not only the suite's; and set against compile times, which this run has none of.
#[test]
fn a_trace_takes_strategies_of_its_own() {
    let results = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(
        "trace --filter transformer-tiny/concat/cpu/b1 --strategy chunked-8,padded --tokens 20".split(' '),
    );
    command.args(["--rounds", "1", "--threads", "1", "--results"]).arg(results.path());
    output(command);
    let folder = only_folder(results.path());
    let mut ids: Vec<String> =
        Run::open(&folder).unwrap().samples.iter().map(|s| s.case.to_string()).collect();
    ids.sort();
    ids.dedup();
    let want =
        (1..=20).flat_map(|t| ["chunked-8", "padded"].map(|s| format!("transformer-tiny/{s}/cpu/b1/t{t}")));
    let mut want: Vec<String> = want.collect();
    want.sort();
    assert_eq!(ids, want);
}

/// Two runs at once, for a machine has two cores at least.
#[test]
fn two_hundred_kills_lose_no_finished_sample() {
    if common::revision_is_known() {
        std::thread::scope(|scope| {
            for seed in [1, 2] {
                scope.spawn(move || a_hundred_kills(seed));
            }
        });
    }
}

/// Kills that come at any moment: before the folder is there, while it is read again, within a row.
fn a_hundred_kills(seed: u64) {
    const KILLS: usize = 100;
    const ROUNDS: u32 = 60;
    let results = tempfile::tempdir().unwrap();
    let (mut state, mut kept, mut grown, mut waits) = (seed, String::new(), 0, 0);
    let go_on = || {
        let mut command = trace(results.path(), ROUNDS);
        if let Some(folder) = begun(results.path()) {
            command.arg("--resume").arg(folder);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    for kill in 0..KILLS {
        let mut child = go_on().spawn().unwrap();
        // a busy machine is given longer, until a process gets as far as a sample again
        std::thread::sleep(Duration::from_millis(5 + common::random(&mut state) % (56 + 10 * waits)));
        child.kill().unwrap();
        child.wait().unwrap();
        let Some(folder) = begun(results.path()) else { continue };
        let text = fs::read_to_string(folder.join("samples.csv")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        assert!(whole.starts_with(&kept), "kill {kill} lost a finished sample");
        (grown, waits) = if whole.len() > kept.len() { (grown + 1, 0) } else { (grown, waits + 1) };
        kept = whole.into();
    }
    assert!(grown > 10, "the kills came too early to tell anything");
    let folder = begun(results.path()).unwrap();
    let mut last = trace(results.path(), ROUNDS);
    last.arg("--resume").arg(&folder);
    output(last);
    let text = fs::read_to_string(folder.join("samples.csv")).unwrap();
    assert!(text.starts_with(&kept), "the last run lost a finished sample");
    let run = Run::open(&folder).unwrap();
    assert!(run.notes.is_empty() && run.environment.finished_utc.is_some(), "{:?}", run.notes);
    let mut ended: Vec<(String, u32)> = run
        .samples
        .iter()
        .filter(|s| s.metric == Metric::DecodeNs)
        .map(|s| (s.case.strategy.to_string(), s.round.code()))
        .collect();
    ended.sort();
    let every = ["concat", "naive", "padded"]
        .iter()
        .flat_map(|strategy| (101..101 + ROUNDS).map(|round| (strategy.to_string(), round)));
    assert_eq!(ended, every.collect::<Vec<_>>(), "every round once");
}

/// The run's folder, once there is something in it that can be gone on with.
fn begun(results: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(results).unwrap().map(|entry| entry.unwrap().path());
    let mut begun: Vec<PathBuf> =
        folders.filter(|folder| folder.join("environment.json").is_file()).collect();
    assert!(begun.len() < 2, "{begun:?}");
    begun.pop()
}

/// A figure rests on the steps before its position, too: a filter that does not match them changes no row.
#[test]
fn a_filter_shows_the_rows_of_the_whole_table() {
    let run = common::root().join("results/2026-11-28T11-22-32Z-intel-xeon-2c");
    let rows = |filter: &str| -> Vec<String> {
        let mut command = program();
        command.args(["report", "--section", "steps", "--filter", filter]).arg(&run);
        let table = output(command);
        let (steps, _) = table.split_once(": prefill").unwrap();
        steps.lines().filter(|line| line.starts_with("| 512 |")).map(String::from).collect()
    };
    let whole = rows("^transformer-toy/(naive|concat|padded)/cpu/b1/");
    assert_eq!(whole.len(), 3);
    assert_eq!(rows("^transformer-toy/(naive|concat|padded)/cpu/b1/t512$"), whole);
}
