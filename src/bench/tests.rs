//! What is left of a run whose device is lost on the way.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::backend::tests::device;
use crate::case::BackendName;
use crate::record::Run;

const CHILD: &str = "DECODE_BENCH_TEST_LOST_DEVICE";
const NAME: &str = "bench::tests::a_lost_device_keeps_the_samples_and_fails_its_cases";

/// That measures these cases and cold starts, after the shortest of warm-ups.
fn bench(
    settings: Settings,
    machines: Machines,
    parts: Vec<Part>,
    cases: Vec<Case>,
    starts: Vec<Case>,
) -> Bench {
    let (action, spent) = (Action::Measure, Spent::default());
    let (warm_up, measurement) = (Duration::from_millis(1), None);
    Bench { settings, machines, action, parts, cases, starts, warm_up, measurement, spent }
}

/// Times two cases on the CPU and two on the GPU, and loses the GPU after the first of these.
fn measure_and_lose(results: &Path) {
    let settings = Settings { threads: 1, results: results.into(), ..Settings::default() };
    let machines = Machines::new(&settings);
    let filter = "transformer-tiny/(concat|padded)/(cpu|cuda)/b1/t16";
    let cases = machines.able(suite::select(Some(filter)).unwrap()).unwrap();
    let bench = bench(settings, machines, vec![Part::Step], cases, Vec::new());
    bench
        .run(Path::new("no cold starts"), |timing| {
            timing.call(1);
            timing.call(1);
            if timing.case.backend.is_cuda() {
                let error = bench.machines.cuda(BackendName::Cuda).unwrap().lose_device();
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
            Ok(())
        })
        .unwrap();
}

/// In a process of its own: a lost device is lost to all that a process does.
#[test]
fn a_lost_device_keeps_the_samples_and_fails_its_cases() {
    if let Some(results) = std::env::var_os(CHILD) {
        return measure_and_lose(Path::new(&results));
    }
    let Some(_) = device() else { return };
    let results = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", NAME, "--nocapture"]).env(CHILD, results.path());
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let folder = std::fs::read_dir(results.path()).unwrap().next().unwrap().unwrap().path();
    let run = Run::open(&folder).unwrap();
    let of = |case: &str, failed: bool| {
        let case: Case = case.parse().unwrap();
        let rows = run.samples.iter().filter(|s| s.case == case && s.metric == Metric::StepNs);
        rows.filter(|s| s.error.is_some() == failed).count()
    };
    for (case, timed, failed) in [
        ("transformer-tiny/concat/cpu/b1/t16", true, false),
        ("transformer-tiny/padded/cpu/b1/t16", true, false),
        ("transformer-tiny/concat/cuda/b1/t16", true, true),
        ("transformer-tiny/padded/cuda/b1/t16", false, true),
    ] {
        assert_eq!((of(case, false) > 0, of(case, true) > 0), (timed, failed), "{case}\n{said}");
    }
}

const COLD: &str = "DECODE_BENCH_TEST_COLD_STARTS";
const COLD_NAME: &str = "bench::tests::cold_starts_that_fail_leave_rows_and_the_steps_are_measured";

fn measure_cold_starts(results: &Path) {
    let settings = Settings { threads: 1, results: results.into(), ..Settings::default() };
    let machines = Machines::new(&settings);
    let cases = suite::select(Some("^transformer-tiny/concat/cpu/b1/t16$")).unwrap();
    let starts = startup::first_tokens(&cases);
    let bench = bench(settings, machines, vec![Part::Startup, Part::Step], cases, starts);
    let twice = |timing: &mut Timing<'_>| {
        timing.call(1);
        timing.call(1);
        Ok(())
    };
    bench.run(Path::new("no such program"), twice).unwrap();
}

/// Without a temporary folder, and without a program to start. In processes of their own, for the variable is a
/// whole process's.
#[test]
fn cold_starts_that_fail_leave_rows_and_the_steps_are_measured() {
    if let Some(results) = std::env::var_os(COLD) {
        return measure_cold_starts(Path::new(&results));
    }
    let (results, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (place, why) in [("/no/such/folder", "/no/such/folder: "), ("", "no such program")] {
        let place = if place.is_empty() { temporary.path() } else { Path::new(place) };
        let results = tempfile::tempdir_in(&results).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", COLD_NAME, "--nocapture"]).env(COLD, results.path()).env("TMPDIR", place);
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("no cold starts: "), "{said}");
        let folder = std::fs::read_dir(results.path()).unwrap().next().unwrap().unwrap().path();
        let run = Run::open(&folder).unwrap();
        let of = |metric| run.samples.iter().filter(move |sample| sample.metric == metric);
        let errors: Vec<&str> = of(Metric::LoadNs).filter_map(|sample| sample.error.as_deref()).collect();
        assert!(errors.len() == 1 && errors[0].contains(why), "{errors:?}");
        assert!(of(Metric::StepNs).count() > 10 && of(Metric::StepNs).all(|sample| sample.error.is_none()));
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the checkpoint is left");
}
