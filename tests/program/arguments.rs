//! Arguments that are refused, before anything is made.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::tempdir;

use crate::common;

fn output(here: &Path, args: &[&OsStr]) -> Output {
    Command::new(common::program()).args(args).current_dir(here).output().unwrap()
}

/// Exit code 2, one line that says all of `named`, and nothing made.
fn refused(args: &[&OsStr], named: &[&str]) {
    let here = tempdir().unwrap();
    let output = output(here.path(), args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{args:?}: {said}");
    assert!(named.iter().all(|name| said.contains(name)), "{args:?} should name {named:?}: {said}");
    assert!(fs::read_dir(here.path()).unwrap().next().is_none(), "{args:?} made something");
}

fn words(line: &str) -> Vec<&OsStr> {
    line.split(' ').map(OsStr::new).collect()
}

#[test]
fn options_that_change_nothing_or_contradict_each_other_are_refused_before_a_folder_is_made() {
    let trace = "trace --filter ^transformer-tiny/concat/cpu/b1/t16$ --tokens 4 --rounds 1 --threads 1";
    refused(
        &words(&format!("{trace} --cold-l2 --results r")),
        &["--cold-l2", "none of these cases runs on a GPU"],
    );
    refused(&words("run --filter ^transformer-tiny/concat/cpu/b1/t16$ --cold-l2"), &["--cold-l2"]);
    refused(&words("run --shard 1/2 --filter tiny/.*/cpu --resume r"), &["--resume", "--attempt"]);
    refused(
        &words(&format!("{trace} --results /tmp --resume /dev")),
        &["--resume /dev", "not in --results /tmp"],
    );
    refused(&words(&format!("{trace} --result r")), &["--result", "--results"]);
    refused(&words(&format!("{trace} transformer")), &["transformer"]);
    refused(&words(&format!("{trace} --name {}", "x".repeat(81))), &["--name", "1 to 80 characters"]);
    for other in ["--section steps", "--html r"] {
        let both = format!("report r --format github-action-benchmark {other}");
        refused(&words(&both), &["--format", other.split(' ').next().unwrap()]);
    }
    refused(&words("selftest --agreement --aa 3"), &["--agreement", "--aa"]);
    for case in ["transformer-gpt2/padded/cpu/b1/t64", "transformer-tiny/padded/cuda/b1/t16"] {
        refused(&words(&format!("selftest --agreement --case {case}")), &["--agreement", case]);
    }
}

#[test]
fn options_of_another_way_to_decode_are_refused() {
    let decode = "decode --model transformer --shape tiny --strategy padded --prompt 1 --steps 2 --threads 1";
    let refused_with = |more: &str, named: &[&str]| refused(&words(&format!("{decode} {more}")), named);
    refused_with("--ignore-generation-config", &["--ignore-generation-config", "--shape"]);
    refused_with("--length-penalty 1", &["--beam"]);
    refused_with("--sampler greedy --length-penalty 1", &["--length-penalty", "--sampler"]);
    refused_with("--sampler top-k --top-k 2 --beam-rule flax", &["--beam-rule", "--sampler"]);
}

#[test]
fn every_verb_has_help_and_a_version() {
    let here = tempdir().unwrap();
    let print = |line: &str| {
        let output = output(here.path(), &words(line));
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let help = print("--help");
    for verb in common::verbs(&help).iter().chain(&["startup"]) {
        assert!(print(&format!("{verb} --help")).contains("Usage: decode-bench"), "{verb}");
        assert_eq!(
            print(&format!("{verb} --version")).trim(),
            format!("decode-bench-{verb} {}", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn paths_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let (here, odd) = (tempdir().unwrap(), OsStr::from_bytes(b"r\xff"));
    let trace =
        "trace --filter ^transformer-tiny/concat/cpu/b1/t16$ --tokens 4 --rounds 1 --threads 1 --results";
    let made = output(here.path(), &[&words(trace)[..], &[odd]].concat());
    assert!(made.status.success(), "{made:?}");
    let run = fs::read_dir(here.path().join(odd)).unwrap().next().unwrap().unwrap().path();
    for (verb, more) in [("report", ""), ("report", "--html"), ("plot", ""), ("plot", "--out")] {
        let page = here.path().join(OsStr::from_bytes(b"\xffpage"));
        let more: &[&OsStr] = if more.is_empty() { &[] } else { &[OsStr::new(more), page.as_os_str()] };
        let output = output(here.path(), &[&[OsStr::new(verb), run.as_os_str()], more].concat());
        assert!(output.status.success(), "{verb}: {output:?}");
        let _ = fs::remove_file(&page);
    }
    for args in [
        &["list", "--filter"][..],
        &["plan", "--shards", "1", "--filter"],
        &["trace", "--tokens", "4", "--filter"],
        &["step-time", "--shape"],
        &["compile", "--tokens", "4", "--arch"],
        &["selftest", "--case"],
        &["run", "--shard"],
        &["completions"],
        &[],
    ] {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).chain([odd]).collect();
        refused(&args, &[]);
    }
    refused(&[OsStr::new("import"), odd], &["r"]);
}
