//! CUDA as a user meets it: with a device, and on a machine that has none.

mod common;

use std::io::Write;
use std::path::Path;

use decode_bench::backend::cuda::{compile, Device, Nvrtc};
use decode_bench::cache::Strategy;
use decode_bench::case::{BackendName, ModelKind, ShapeName};
use decode_bench::model::Config;
use decode_bench::record::{Metric, Run};

fn skipped(why: impl std::fmt::Display) {
    assert!(std::env::var("DECODE_BENCH_REQUIRE_CUDA").map_or(true, |v| v != "1"), "{why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn decode(backend: &str, strategy: &str) -> std::process::Output {
    let mut command = assert_cmd::Command::new(common::program());
    command.args(["decode", "--model", "transformer", "--shape", "tiny", "--seed", "3", "--prompt", "5,6"]);
    command.args(["--steps", "5", "--capacity", "16", "--backend", backend, "--strategy", strategy]);
    command.output().unwrap()
}

fn tokens(output: &std::process::Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["tokens"].clone()
}

#[test]
fn every_backend_generates_the_same_tokens() {
    if let Err(why) = Device::open(0) {
        return skipped(why);
    }
    let want = tokens(&decode("cpu", "padded"));
    for &backend in BackendName::OURS {
        assert_eq!(tokens(&decode(backend.name(), "padded")), want, "{backend}");
    }
}

#[test]
fn every_backend_finds_the_same_beams() {
    if let Err(why) = Device::open(0) {
        return skipped(why);
    }
    let checkpoint = common::root().join("tests/golden/gpt2").display().to_string();
    let beams = |backend: &str| -> Vec<serde_json::Value> {
        let mut command = assert_cmd::Command::new(common::program());
        command.args([
            "decode",
            "--model",
            "transformer",
            "--checkpoint",
            &checkpoint,
            "--strategy",
            "padded",
        ]);
        command.args(["--backend", backend, "--prompt", "1,2,3", "--prompt", "9,8,7", "--max-len", "7"]);
        command.args(["--eos", "48", "--beam", "3"]); // the second prompt's beams end before the first's
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = json["hypotheses"].as_array().unwrap().iter();
        found.flat_map(|found| found.as_array().unwrap()).map(|found| found["tokens"].clone()).collect()
    };
    let want = beams("cpu");
    assert_eq!(want.len(), 6);
    for &backend in BackendName::OURS {
        assert_eq!(beams(backend.name()), want, "{backend}");
    }
}

/// One line that says what is missing, exit code 2, nothing on standard output; never a panic.
#[test]
fn a_machine_without_a_device_says_what_is_missing() {
    let Err(why) = Device::open(0) else { return };
    let output = decode("cuda", "padded");
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    assert!(said.trim_end().ends_with(&why.to_string()) && said.trim_end().lines().count() == 1, "{said}");
}

#[test]
fn a_graph_refuses_to_grow() {
    if let Err(why) = Device::open(0) {
        return skipped(why);
    }
    let output = decode("cuda-graph", "concat");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at every step"));
    assert!(!BackendName::CudaGraph.runs(Strategy::Concat));
}

/// Which shapes a decode compiles needs neither a device nor a compiler.
#[test]
fn shapes_over_a_decode_are_the_closed_form() {
    let config = Config::named(ModelKind::Transformer, ShapeName::Tiny).unwrap();
    let count = |strategy| compile::shapes(&config, strategy, 1, 20, 64, 0).unwrap().len();
    assert_eq!(count(Strategy::Concat), 20);
    assert_eq!(count(Strategy::Chunked(1)), 20);
    assert_eq!(count(Strategy::Chunked(8)), 3);
    assert_eq!(count(Strategy::Padded), 1);
    assert_eq!(count(Strategy::Naive), 20);
}

/// NVRTC compiles for a GPU that is not there.
#[test]
fn shapes_compile_without_a_device() {
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(why) => return skipped(why),
    };
    let config = Config::named(ModelKind::LinearizedConv, ShapeName::Tiny).unwrap();
    let shapes = compile::shapes(&config, Strategy::Padded, 1, 2, 64, 0).unwrap();
    let target =
        if nvrtc.targets().is_ok_and(|targets| targets.contains(&90)) { "sm_90" } else { "compute_90" };
    match shapes[0].compile(&nvrtc, target) {
        Ok(compiled) => assert!(compiled.compile_ns > 0 && compiled.kernels == shapes[0].kernels.len()),
        // a stand-in for the compiler makes no machine code
        Err(error) => assert!(error.to_string().contains("stands in for NVRTC"), "{error}"),
    }
}

fn program(args: &[&str], folder: &Path) -> std::process::Output {
    let mut command = assert_cmd::Command::new(common::program());
    command.args(args).current_dir(folder).output().unwrap()
}

fn only_run(folder: &Path) -> Run {
    let runs: Vec<_> =
        std::fs::read_dir(folder.join("results")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    Run::open(&runs[0]).unwrap()
}

/// Every shape in every round, once, whether or not the run was killed in between; and what shows it.
#[test]
fn compile_keeps_a_row_for_every_shape_and_resumes() {
    if let Err(why) = Nvrtc::find() {
        return skipped(why);
    }
    if !common::revision_is_known() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let compile =
        "compile --arch sm_90 --strategy concat,chunked-8,padded --shape tiny --tokens 12 --rounds 2"
            .split(' ');
    let compile: Vec<&str> = compile.collect();
    let output = program(&compile, folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("stands in for NVRTC") {
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        return assert!(!folder.path().join("results").exists(), "a folder without a time in it");
    }
    assert!(output.status.success(), "{said}");
    let run = only_run(folder.path());
    let shown = |run: &Run| -> Vec<String> {
        let row = |s: &decode_bench::record::Sample| format!("{} {} {}", s.case, s.metric, s.round);
        let mut rows: Vec<String> = run.samples.iter().map(row).collect();
        rows.sort();
        rows
    };
    let of = |metric| run.samples.iter().filter(|s| s.metric == metric).count();
    assert_eq!((of(Metric::CompileNs), of(Metric::Compiles)), (2 * (12 + 2 + 1), 3));
    assert!(run.samples.iter().all(|s| s.case.backend.name() == "nvrtc-sm_90" && s.value > Some(0)));
    let counted =
        run.samples.iter().find(|s| s.metric == Metric::Compiles && s.case.strategy == Strategy::Chunked(8));
    assert_eq!(counted.map(|s| (s.case.position, s.value)), Some((12, Some(2))));
    let gpu = run.environment.gpu.clone().unwrap();
    assert!(gpu.name.is_none() && gpu.nvrtc.is_some());
    assert!(gpu.nvrtc_options.contains(&"--gpu-architecture=sm_90".to_string()), "{gpu:?}");

    let samples = run.path.join("samples.csv");
    let text = std::fs::read_to_string(&samples).unwrap();
    std::fs::write(&samples, &text[..text.len() * 2 / 3]).unwrap();
    let name = format!("results/{}", run.name());
    let resumed = program(&[compile.as_slice(), &["--resume", &name]].concat(), folder.path());
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(shown(&only_run(folder.path())), shown(&run));

    let table = String::from_utf8(resumed.stdout).unwrap();
    assert!(table.contains("transformer-tiny, nvrtc-sm_90, batch 1: compiling"), "{table}");
    assert!(run.path.join("plots/compile-transformer-tiny-nvrtc-sm_90-b1.svg").is_file());
}

#[test]
fn an_architecture_that_nvrtc_does_not_know_is_answered_with_those_it_knows() {
    let Ok(nvrtc) = Nvrtc::find() else { return skipped("no NVRTC") };
    let Some(target) = nvrtc.targets().unwrap().pop() else { return skipped("NVRTC names no target") };
    let folder = tempfile::tempdir().unwrap();
    for arch in ["sm_1", "compute_90", "sm_90;-D", ""] {
        let output = program(&["compile", "--arch", arch, "--tokens", "2"], folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(&format!("--arch {arch}: NVRTC")), "{said}");
        assert!(said.contains(&format!("sm_{target}")), "{said}");
    }
    assert!(!folder.path().join("results").exists());
}

/// What is found here is named, and of what is not, why.
#[test]
fn devices_are_listed_or_what_is_missing_is_said() {
    let output = program(&["devices"], Path::new("."));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    let line = |what: &str| text.lines().find(|line| line.starts_with(what)).unwrap().to_string();
    assert!(line("cpu ").contains("cores"), "{text}");
    match Nvrtc::find() {
        Ok(nvrtc) => assert!(line("nvrtc ").contains(&nvrtc.path.display().to_string()), "{text}"),
        Err(_) => assert!(line("nvrtc ").contains("not found: no NVRTC library"), "{text}"),
    }
    match (Device::count(), Device::open(0)) {
        (Err(_), _) => assert!(line("cuda ").contains("not found: "), "{text}"),
        (_, Ok(device)) => {
            assert!(line("cuda ").contains(&device.info.name), "{text}");
            assert_eq!(line("cuda ").contains("its times are not shown"), device.info.emulated, "{text}");
        }
        (Ok(_), Err(_)) => assert!(line("cuda ").contains("0: "), "{text}"),
    }
}
