//! What is left when a signal ends the program, when a write fails, and when nobody reads what it prints.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use decode_bench::record::Run;
use tempfile::tempdir;

use crate::common;

const TRACE: &str = "trace --filter ^transformer-tiny/(naive|concat)/cpu/b1/t16$ --tokens 24 --threads 1";

/// The program in a folder of its own, with the temporary folder `tmp` in it.
fn program(here: &Path, line: &str) -> Command {
    fs::create_dir_all(here.join("tmp")).unwrap();
    let mut command = Command::new(common::program());
    command.args(line.split(' ')).current_dir(here).env("TMPDIR", here.join("tmp"));
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All paths below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| below(&path).into_iter().chain([path])).collect()
}

/// Nothing temporary is there, and every run has a sample and can be read. How many runs there are.
fn only_runs_remain(here: &Path) -> usize {
    for path in below(here) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with('.') && !name.starts_with("decode-bench-"), "{} is left", path.display());
    }
    let results = fs::read_dir(here.join("results")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let runs: Vec<Run> = results.map(|folder| Run::open(&folder).unwrap()).collect();
    for run in &runs {
        assert!(!run.samples.is_empty(), "{} has no sample", run.path.display());
        let report = program(here, "report").arg(&run.path).output().unwrap();
        assert!(report.status.success(), "{}", said(&report));
    }
    runs.len()
}

/// At moments from the first of the process to the last of its figures, on however slow a machine.
#[test]
fn a_signal_leaves_a_run_that_can_be_read_or_nothing() {
    let signals = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
    let (mut state, mut ended, mut runs) = (1_u64, 0, 0);
    let (here, begin) = (tempdir().unwrap(), Instant::now());
    assert!(program(here.path(), &format!("{TRACE} --rounds 12")).output().unwrap().status.success());
    let whole = begin.elapsed();
    for turn in 0..30 {
        let share = common::random(&mut state) as f64 / (1u64 << 31) as f64;
        let here = tempdir().unwrap();
        let mut command = program(here.path(), &format!("{TRACE} --rounds 12"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(share));
        let signal = signals[turn % signals.len()];
        // SAFETY: the process is a child that was not waited for, so its number is its own
        unsafe { libc::kill(child.id() as i32, signal) };
        let output = child.wait_with_output().unwrap();
        let by = output.status.signal();
        assert!(by == Some(signal) || output.status.success(), "{turn}: {} {}", output.status, said(&output));
        assert!(!said(&output).contains("error"), "{}", said(&output));
        ended += usize::from(by.is_some());
        runs += only_runs_remain(here.path());
    }
    assert!(ended > 5 && runs > 5, "{ended} ended by a signal, {runs} runs: the moments tell nothing");
}

/// A file beside its place is none of the user's.
#[test]
fn a_signal_leaves_no_half_of_an_output() {
    let here = tempdir().unwrap();
    let line =
        "decode --model linearized-conv --shape toy --strategy naive --prompt 1 --steps 4000 --logits out";
    let child = program(here.path(), line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let staged = || below(here.path()).iter().any(|path| path.to_string_lossy().contains("/.decode-bench-"));
    let begun = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        staged()
    });
    assert!(begun, "no output was begun");
    // SAFETY: as above
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGTERM));
    assert_eq!(below(here.path()), [here.path().join("tmp")]);
}

/// Files may grow to so many bytes and no further: sooner or later each kind of file is the first that may not.
#[test]
fn a_write_that_fails_is_one_line_and_what_was_written_stays() {
    let (mut failed, mut runs) = (0, 0);
    for limit in (0..16).map(|step| step * step * 900) {
        let here = tempdir().unwrap();
        let mut command = program(here.path(), &format!("{TRACE} --rounds 8"));
        // SAFETY: the call takes a structure that lives, and nothing else is done between fork and exec
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        let output = command.output().unwrap();
        let said = said(&output);
        match output.status.code() {
            Some(0) => {}
            Some(2) => {
                let last = said.lines().last().unwrap();
                assert!(last.starts_with("error: ") && last.contains("results"), "{limit}: {said}");
                assert_eq!(said.matches("error: ").count(), 1, "{limit}: {said}");
                failed += 1;
            }
            _ => panic!("{limit}: {} {said}", output.status),
        }
        runs += only_runs_remain(here.path());
    }
    assert!(failed > 5 && runs > 3, "{failed} failed, {runs} runs");
}

#[test]
fn progress_that_nobody_reads_is_dropped() {
    for closed in ["stderr", "stdout", "both"] {
        let here = tempdir().unwrap();
        let pipe = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let mut command = program(here.path(), &format!("{TRACE} --rounds 2"));
        if closed != "stdout" {
            command.stderr(pipe());
        }
        if closed != "stderr" {
            command.stdout(pipe());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{closed}: {}", said(&output));
        assert_eq!(only_runs_remain(here.path()), 1);
        let folder = fs::read_dir(here.path().join("results")).unwrap().next().unwrap().unwrap().path();
        assert!(Run::open(&folder).unwrap().environment.finished_utc.is_some(), "{closed}");
    }
}
