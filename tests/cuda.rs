//! CUDA as a user meets it: with a device, and on a machine that has none.

use std::io::Write;

use decode_bench::backend::cuda::{compile, Device, Nvrtc};
use decode_bench::cache::Strategy;
use decode_bench::case::{BackendName, ModelKind, ShapeName};
use decode_bench::model::Config;

fn skipped(why: impl std::fmt::Display) {
    assert!(std::env::var("DECODE_BENCH_REQUIRE_CUDA").map_or(true, |v| v != "1"), "{why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn decode(backend: &str, strategy: &str) -> std::process::Output {
    let mut command = assert_cmd::Command::cargo_bin("decode-bench").unwrap();
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
    let count = |strategy| compile::shapes(&config, strategy, 1, 20, 64).unwrap().len();
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
    let shapes = compile::shapes(&config, Strategy::Padded, 1, 2, 64).unwrap();
    let target =
        if nvrtc.targets().is_ok_and(|targets| targets.contains(&90)) { "sm_90" } else { "compute_90" };
    match shapes[0].compile(&nvrtc, target) {
        Ok(compiled) => assert!(compiled.compile_ns > 0 && compiled.kernels == shapes[0].kernels.len()),
        // a stand-in for the compiler makes no machine code
        Err(error) => assert!(error.to_string().contains("stands in for NVRTC"), "{error}"),
    }
}
