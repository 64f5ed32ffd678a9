//! Where tests find what they read and run: nothing of it is the path of the machine that built them, for they are
//! also carried to machines that have neither the sources nor cargo.

#![allow(dead_code)] // no test needs all of it

use std::path::{Path, PathBuf};

use decode_bench::record::{Environment, Gpu};
use serde_json::Value;

/// The folder that has `tests/` in it: the checkout, as cargo says; without cargo, the tests' own.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(own_folder, PathBuf::from)
}

/// The program: one folder above the tests, as cargo builds them; without cargo, beside them.
pub fn program() -> PathBuf {
    let folder = own_folder();
    let built = if folder.ends_with("deps") { folder.parent() } else { None };
    built.unwrap_or(&folder).join(format!("decode-bench{}", std::env::consts::EXE_SUFFIX))
}

/// The verbs that the program's `--help` lists.
pub fn verbs(help: &str) -> Vec<&str> {
    let verbs =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help").collect()
}

/// Numbers of 31 bits that look random and are the same every time.
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Whether runs can be completed and merged: what was built without git is never known to be the same program.
pub fn revision_is_known() -> bool {
    let known = !env!("DECODE_BENCH_REVISION").is_empty() && !env!("DECODE_BENCH_DIRTY").is_empty();
    if !known {
        eprintln!("skipped: built without git, so that no run is known to be of this program");
    }
    known
}

fn own_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A field of `environment.json`, by its JSON pointer, the condition that it decides, another value, and whether
/// it may be unknown.
pub struct Change {
    pub condition: &'static str,
    field: &'static str,
    other: &'static str,
    pub may_be_unknown: bool,
}

const fn change(
    condition: &'static str,
    field: &'static str,
    other: &'static str,
    may_be_unknown: bool,
) -> Change {
    Change { condition, field, other, may_be_unknown }
}

/// One for every condition that the environment decides.
pub const CHANGES: [Change; 34] = [
    change("revision", "/git_revision", r#""4567""#, true),
    change("uncommitted changes", "/git_dirty", "true", true),
    change("checkout", "/checkout", r#"{"revision": "4567", "dirty": false}"#, false),
    change("tool version", "/tool_version", r#""9.9.9""#, false),
    change("profile", "/profile", r#""debug, opt-level 0""#, true),
    change("compiler", "/rustc", r#""rustc 1.0.0""#, true),
    change("target", "/target", r#""another-target""#, true),
    change("target features", "/target_features", r#"["another"]"#, false),
    change("allocator", "/allocator", r#""another""#, true),
    change("CPU", "/cpu_model", r#""another""#, true),
    change("CPU features", "/cpu_features", r#"["another"]"#, false),
    change("cores", "/physical_cores", "96", true),
    change("hardware threads", "/logical_cores", "192", true),
    change("caches", "/caches", r#"[{"level": 1, "kind": "Data", "bytes": 1024, "shared_by": "0"}]"#, false),
    change("memory", "/memory_bytes", "1073741824", true),
    change("kernel", "/kernel", r#""3.10.0""#, true),
    change("virtual machine", "/virtualised", "false", true),
    change("huge pages", "/transparent_hugepages", r#""another""#, false),
    change("governor", "/frequency_governor", r#""another""#, false),
    change("threads", "/threads", "7", false),
    change("seed", "/seed", "8", false),
    change("emulated device", "/emulated", "true", false),
    change("GPU", "/gpu/name", r#""another""#, false),
    change("GPU driver", "/gpu/driver", r#""1.0""#, true),
    change("GPU memory", "/gpu/memory_bytes", "1073741824", true),
    change("GPU multiprocessors", "/gpu/multiprocessors", "16", true),
    change("GPU ECC", "/gpu/ecc", "false", true),
    change("GPU L2", "/gpu/l2", r#""another""#, true),
    change("GPU target", "/gpu/kernel_target", r#""another""#, true),
    change("NVRTC", "/gpu/nvrtc", r#""1.0""#, false),
    change("NVRTC options", "/gpu/nvrtc_options", r#"["another"]"#, false),
    change("NVRTC cache disabled", "/gpu/nvrtc_cache_disabled", "false", true),
    change("driver cache disabled", "/gpu/driver_cache_disabled", "false", true),
    change("finished", "/finished_utc", "null", false),
];

impl Change {
    /// The same with another value in this field.
    pub fn applied(&self, environment: &Environment) -> Environment {
        self.with(environment, serde_json::from_str(self.other).unwrap())
    }

    /// The same with this field unknown.
    pub fn forgotten(&self, environment: &Environment) -> Environment {
        self.with(environment, Value::Null)
    }

    fn with(&self, environment: &Environment, value: Value) -> Environment {
        let mut json = serde_json::to_value(environment).unwrap();
        match json.pointer_mut(self.field) {
            Some(field) => *field = value,
            None => json[&self.field[1..]] = value, // one that is left out where there is none
        }
        serde_json::from_value(json).unwrap()
    }

    pub fn is_of_gpu(&self) -> bool {
        self.field.starts_with("/gpu/")
    }

    /// `threads`, `gpu/name`
    pub fn path(&self) -> &'static str {
        &self.field[1..]
    }
}

/// Of a finished run, on a GPU too, of which everything is known.
pub fn known_environment() -> Environment {
    let text = |text: &str| Some(text.to_string());
    let gpu = Gpu {
        name: text("Some GPU"),
        compute_capability: text("9.0"),
        driver: text("580.1"),
        nvrtc: text("12.9"),
        kernel_target: text("sm_90"),
        nvrtc_options: vec!["--fast".into()],
        throttle_reasons: text("none"),
        memory_bytes: Some(80 << 30),
        multiprocessors: Some(132),
        ecc: Some(true),
        l2: text("as the step before left it"),
        driver_cache_disabled: Some(true),
        nvrtc_cache_disabled: Some(true),
        ..Gpu::default()
    };
    Environment {
        git_revision: text("0123456789abcdef0123456789abcdef01234567"),
        git_dirty: Some(false),
        git_changes: None,
        checkout: None,
        rustc: text("rustc 1.95.0"),
        target: text("some-target"),
        profile: text("release, opt-level 3"),
        cpu_model: text("Some Processor"),
        physical_cores: Some(2),
        logical_cores: Some(2),
        memory_bytes: Some(24 << 30),
        kernel: text("6.18.44"),
        virtualised: Some(true),
        allocator: text("some malloc"),
        gpu: Some(gpu),
        started_utc: "2026-01-31T12:00:00Z".into(),
        finished_utc: text("2026-01-31T12:01:00Z"),
        ..Environment::collect(2, 7)
    }
}
