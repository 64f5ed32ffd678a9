//! CUDA as a user meets it: with a device, and on a machine that has none.

mod common;

use std::io::Write;
use std::path::Path;

use decode_bench::backend::cuda::{CudaVersion, Device, Nvrtc};
use decode_bench::case::{BackendName, ModelKind, ShapeName};
use decode_bench::measure::compile;
use decode_bench::model::Config;
use decode_bench::record::{Metric, Run};
use decode_bench::strategy::Strategy;

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
    let target = if nvrtc.targets.contains(&90) { "sm_90" } else { "compute_90" };
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
        let row = |s: &decode_bench::record::Sample| format!("{} {} {}", s.case, s.metric, s.round.code());
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
    let place = gpu.nvrtc_place.clone().unwrap();
    assert!(place.contains(": ") && place.contains("libnvrtc.so"), "{place}");
    let private = Nvrtc::find().unwrap().path.parent().unwrap().display().to_string();
    assert!(!std::fs::read_to_string(run.path.join("environment.json")).unwrap().contains(&private));
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

/// Where the loader does not look: what the library opens besides itself is found too.
#[cfg(unix)]
#[test]
fn an_nvrtc_outside_of_the_loaders_folders_compiles() {
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(why) => return skipped(why),
    };
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(nvrtc.path.parent().unwrap(), folder.path().join("lib64")).unwrap();
    let mut command = assert_cmd::Command::cargo_bin("decode-bench").unwrap();
    command.args("compile --arch sm_90 --shape tiny --tokens 1 --rounds 1 --strategy padded".split(' '));
    command.current_dir(folder.path()).env_remove("LD_LIBRARY_PATH").env("CUDA_HOME", folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("stands in for NVRTC"), "{said}");
}

/// The newest of those that know it.
#[test]
fn an_architecture_is_compiled_for_by_an_nvrtc_that_knows_it() {
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(why) => return skipped(why),
    };
    let folder = tempfile::tempdir().unwrap();
    if !nvrtc.targets.contains(&80) || pretend(&folder.path().join("lib64/libnvrtc.so"), 99, 0).is_none() {
        return skipped("no NVRTC for sm_80, or no C compiler to make a library with");
    }
    let compile = |arch: &str| {
        let mut command = assert_cmd::Command::cargo_bin("decode-bench").unwrap();
        command
            .args("compile --shape tiny --tokens 1 --rounds 1 --strategy padded --arch".split(' '))
            .arg(arch);
        let output = command.current_dir(folder.path()).env("CUDA_HOME", folder.path()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(compile("sm_90").contains("NVRTC"), "the newest knows it, and hands out nothing");
    if !compile("sm_80").contains("stands in for NVRTC") {
        let run = only_run(folder.path());
        assert_eq!(run.environment.gpu.unwrap().nvrtc, Some(nvrtc.version.to_string()));
    }
}

#[test]
fn an_architecture_that_nvrtc_does_not_know_is_answered_with_those_it_knows() {
    let Ok(nvrtc) = Nvrtc::find() else { return skipped("no NVRTC") };
    let Some(target) = nvrtc.targets.last() else { return skipped("NVRTC names no target") };
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
    let survey = Device::compilers();
    match survey.chosen.map(|index| &survey.found[index].0) {
        Some(nvrtc) => {
            let chosen = line(&format!("nvrtc  {} chosen: ", nvrtc.version));
            assert!(chosen.contains(&nvrtc.path.display().to_string()), "{text}");
        }
        None if survey.found.is_empty() => {
            assert!(line("nvrtc ").contains("not found: no NVRTC library"), "{text}")
        }
        None => assert!(line("nvrtc  none of these will do; ").contains("for this driver"), "{text}"),
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

/// What an NVRTC says of itself, and nothing that it does.
const NVRTC: &str = "
    int nvrtcVersion(int* major, int* minor) { return *major = MAJOR, *minor = MINOR, 0; }
    int nvrtcGetNumSupportedArchs(int* n) { return *n = 1, 0; }
    int nvrtcGetSupportedArchs(int* archs) { return *archs = 90, 0; }
    ";

/// A library at this place that says that it is such an NVRTC; `None` without a C compiler.
fn pretend(path: &Path, major: u32, minor: u32) -> Option<()> {
    library(path, NVRTC, &[format!("-DMAJOR={major}"), format!("-DMINOR={minor}")])
}

fn library(path: &Path, text: &str, defines: &[String]) -> Option<()> {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let source = path.with_file_name("source.c");
    std::fs::write(&source, text).unwrap();
    let mut cc = std::process::Command::new("cc");
    let done = cc.args(["-shared", "-fPIC", "-o"]).arg(path).arg(&source).args(defines).status();
    done.ok().map(|status| assert!(status.success()))
}

/// A driver of CUDA 77.1 that cannot start, for a reason that no header of today names.
const DRIVER: &str = "
    int cuDriverGetVersion(int* version) { return *version = 77010, 0; }
    int cuInit(unsigned flags) { return 4242; }
    int cuGetErrorString(int code, const char** text) { return *text = 0, 1; }
    int cuGetErrorName(int code, const char** text) { return *text = 0, 1; }
    int cuModuleLoadData(void) { return 4242; }
    int cuModuleGetFunction(void) { return 4242; }
    int cuModuleUnload(void) { return 4242; }
    int cuLaunchKernelEx(void) { return 4242; }
    ";

#[test]
fn a_drivers_code_that_nobody_knows_is_said_as_a_number() {
    let folder = tempfile::tempdir().unwrap();
    if library(&folder.path().join("libcuda.so"), DRIVER, &[]).is_none() {
        return skipped("no C compiler to make a library with");
    }
    let mut command = assert_cmd::Command::cargo_bin("decode-bench").unwrap();
    command.arg("devices").env("LD_LIBRARY_PATH", folder.path()).env("PATH", "");
    command.env_remove("VIRTUAL_ENV").env_remove("CUDA_HOME").env("HOME", folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    let said = "cuda   not found: cannot start the driver: error 4242 of CUDA\n";
    assert!(text.contains(said), "{text}");
    if let Some(none) = text.lines().find(|line| line.contains("no NVRTC library")) {
        assert!(
            none.contains("for this driver (CUDA 77.1): pip install 'nvidia-cuda-nvrtc==77.1.*'"),
            "{text}"
        );
    }
}

/// With a driver or without, and on a machine that has others.
#[test]
fn every_nvrtc_is_listed_with_its_version_and_whether_it_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |below: &str| folder.path().join(below);
    let (new, venv) = (at("new"), at("venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13"));
    let made = pretend(&new.join("lib64/libnvrtc.so.99"), 99, 1)
        .and_then(|()| pretend(&venv, 13, 0))
        .and_then(|()| {
            pretend(&at("other/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"), 12, 0)
        });
    if made.is_none() {
        return skipped("no C compiler to make libraries with");
    }
    std::fs::create_dir_all(at("other/bin")).unwrap();
    std::fs::write(at("other/bin/python3"), "").unwrap();
    std::fs::create_dir_all(at("text/lib64")).unwrap();
    std::fs::write(at("text/lib64/libnvrtc.so.12"), "no library").unwrap();

    let mut command = assert_cmd::Command::cargo_bin("decode-bench").unwrap();
    command.arg("devices").env("PATH", at("other/bin")).env("VIRTUAL_ENV", at("venv"));
    let output = command.env("CUDA_HOME", &new).env("CUDA_PATH", at("text")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    let line = |end: &str| {
        let found = text.lines().find(|line| line.starts_with("nvrtc  ") && line.contains(end));
        found.unwrap_or_else(|| panic!("no line of {end}: {text}")).trim_start_matches("nvrtc  ").to_string()
    };
    let newest = line("CUDA_HOME: lib64/libnvrtc.so.99");
    match text.contains("no NVIDIA driver") {
        true => assert!(newest.starts_with("99.1 chosen: compiles, and there is no driver"), "{text}"),
        false => {
            assert!(newest.starts_with("99.1 will not do: newer than the driver (CUDA "), "{text}");
            assert!(newest.contains("which loads nothing of CUDA 99"), "{text}");
        }
    }
    let wheels = "site-packages/nvidia";
    assert!(line(&format!("VIRTUAL_ENV: lib/python3.12/{wheels}/cu13/lib")).starts_with("13.0 "), "{text}");
    let of_path = line(&format!("python3 on PATH: lib/python3.11/{wheels}/cuda_nvrtc/lib"));
    assert!(of_path.starts_with("12.0 would do: ") || of_path.starts_with("12.0 chosen: "), "{text}");
    assert!(line("text/lib64/libnvrtc.so.12 does not open").starts_with("unusable: "), "{text}");
    assert_eq!(text.matches(" chosen: ").count(), 1, "{text}");
}

/// One that is found first, and that the driver cannot follow, is not taken.
#[test]
fn an_nvrtc_newer_than_the_driver_is_passed_over() {
    if let Err(why) = Device::open(0) {
        return skipped(why);
    }
    let folder = tempfile::tempdir().unwrap();
    if pretend(&folder.path().join("libnvrtc.so.13"), 99, 0).is_none() {
        return skipped("no C compiler to make a library with");
    }
    let searched = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let searched: Vec<_> =
        [folder.path().into()].into_iter().chain(std::env::split_paths(&searched)).collect();
    let mut command = assert_cmd::Command::cargo_bin("decode-bench").unwrap();
    command.args("decode --model transformer --shape tiny --seed 3 --prompt 5,6 --steps 5".split(' '));
    command.args("--capacity 16 --backend cuda --strategy padded".split(' '));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(searched).unwrap());
    assert_eq!(tokens(&command.output().unwrap()), tokens(&decode("cpu", "padded")));
}

/// One line names the wheel to install, and `devices` is no failure.
#[test]
fn a_driver_older_than_every_nvrtc_is_answered_with_its_wheel() {
    match Device::open(0) {
        Ok(device) if device.info.emulated => {}
        Ok(_) => return, // a real driver has the age it has
        Err(why) => return skipped(why),
    }
    let follows = |version: CudaVersion| version <= CudaVersion { major: 12, minor: 4 };
    if Device::compilers().found.iter().any(|(nvrtc, _)| follows(nvrtc.version)) {
        return; // it can follow one of those here
    }
    let old = |args: &str| {
        let mut command = assert_cmd::Command::cargo_bin("decode-bench").unwrap();
        command.args(args.split(' ')).env("CUDA_EMU_DRIVER", "12040").output().unwrap()
    };
    let advice = "for this driver (CUDA 12.4): pip install 'nvidia-cuda-nvrtc-cu12==12.4.*'";
    let refused = old(
        "decode --model transformer --shape tiny --prompt 5,6 --steps 2 --backend cuda --strategy padded",
    );
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), said.trim_end().lines().count()), (Some(2), 1), "{said}");
    assert!(
        said.contains("newer than the driver (CUDA 12.4)") && said.trim_end().ends_with(advice),
        "{said}"
    );
    let listed = old("devices");
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.contains("will not do: newer than the driver"), "{text}");
    assert!(text.contains(&format!("nvrtc  none of these will do; {advice}\n")), "{text}");
}

/// One step at one position, and several that do not wait for each other; on a device in software, said so.
#[test]
fn steps_are_timed_for_other_engines_to_be_compared_with() {
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(why) => return skipped(why),
    };
    for (backend, extra, key) in [
        ("cuda", None, "step_ns"),
        ("cuda-graph", None, "step_ns"),
        ("cuda-graph", Some("--pipelined"), "pipelined_step_ns"),
    ] {
        let line = "step-time --shape tiny --strategy padded --position 6 --threads 1 --samples 3 --backend";
        let args: Vec<&str> = line.split(' ').chain([backend]).chain(extra).collect();
        let output = program(&args, Path::new("."));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["case"], format!("transformer-tiny/padded/{backend}/b1/t6"));
        let samples = json[key].as_array().unwrap();
        assert!(samples.len() == 3 && samples.iter().all(|ns| ns.as_u64() > Some(0)), "{json}");
        assert_eq!(json["emulated"] == true, device.info.emulated, "{json}");
        assert_eq!(json["steps"] == 6, extra.is_some(), "{json}");
    }
}

/// Of a device in software none is shown.
#[test]
fn ceilings_are_those_of_a_real_device() {
    let emulated = match Device::open(0) {
        Ok(device) => device.info.emulated,
        Err(why) => return skipped(why),
    };
    let output = program(&["ceilings", "--shape", "tiny"], Path::new("."));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.contains("emulated in software: its ceilings are not shown"), emulated, "{text}");
    assert_eq!(text.contains("GB/s") && text.contains("launch"), !emulated, "{text}");
    let output = program(&["ceilings", "--shape", "tiny", "--json"], Path::new("."));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["emulated"], json["launch_ns"].is_null()), (&emulated.into(), emulated), "{json}");
    assert_eq!(json["read_bandwidth"].as_array().unwrap().is_empty(), emulated, "{json}");
}

/// All that a GPU's cases are measured in. Of a device in software the rows are kept, marked, and not shown.
#[test]
fn a_run_on_a_gpu_has_every_way_to_time_a_step() {
    let device = match Device::open(0) {
        Ok(device) => device,
        Err(why) => return skipped(why),
    };
    let folder = tempfile::tempdir().unwrap();
    let filter = "transformer-tiny/padded/cuda(-graph)?/b3/t16"; // no whole decodes
    let output = program(&["run", "--filter", filter, "--budget", "30", "--threads", "1"], folder.path());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).to_string();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.contains("emulated"), device.info.emulated, "{said}");
    let run = only_run(folder.path());
    let gpu = run.environment.gpu.clone().unwrap();
    assert_eq!(gpu.launch_ns.is_some() && gpu.graph_node_ns.is_some(), !device.info.emulated);
    assert_eq!(gpu.read_bandwidth.is_empty(), device.info.emulated, "two of each shape: again, and cold");
    let of = |backend: &str, metric| {
        let case = format!("transformer-tiny/padded/{backend}/b3/t16").parse().unwrap();
        let rows =
            run.samples.iter().filter(|s| s.case == case && s.metric == metric && !s.round.is_decode());
        rows.filter_map(|sample| sample.value).collect::<Vec<u64>>()
    };
    for backend in ["cuda", "cuda-graph"] {
        for metric in [Metric::StepNs, Metric::StepDeviceNs, Metric::PipelinedStepNs] {
            assert!(of(backend, metric).len() >= 2, "{backend} {metric}: {said}");
        }
    }
    let launches = of("cuda", Metric::StepLaunches);
    assert_eq!(of("cuda-graph", Metric::StepKernels), launches);
    assert!(launches[0] > 10);
    assert_eq!(of("cuda-graph", Metric::StepLaunches), [1]);
    if device.info.emulated {
        let clocks = [Metric::SmClockMhz, Metric::MemoryClockMhz, Metric::PowerMw];
        assert!(run.samples.iter().all(|sample| !clocks.contains(&sample.metric)), "software has no clock");
    }
}
