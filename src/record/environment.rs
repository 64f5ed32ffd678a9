//! `environment.json`: where the numbers of a run come from. Unknown is `null`, never invented.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checkout::{self, Checkout};
use super::machine::CpuCache;
use super::topology::CoreKind;
use super::{machine, time};
use crate::case::{BackendName, Case};
use crate::error::{Error, Result};
use crate::files::{self, without_mark};
use crate::harmless;

/// Of all files of a run. Raised when an older reader would misunderstand them.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// [`Environment::step_window`] of this program.
pub(crate) const STEP_WINDOW: usize = 8;

pub(super) const FILE: &str = "environment.json";

/// Some hundred times what a run merged of many has.
const MOST_BYTES: u64 = 64 << 20;

/// Program, machine and settings of a run; the fields are those of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// `FORMAT_VERSION` of the program that wrote it.
    pub format_version: u32,
    /// Of decode-bench.
    pub tool_version: String,
    /// That the program was built from, as it was told when it was built.
    pub git_revision: Option<String>,
    /// Whether a file that the program was built from differed from that revision.
    pub git_dirty: Option<bool>,
    /// A name for how they differed: the same for the same changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_changes: Option<String>,
    /// That the program runs in; `null`: in none, or the run is older than this field.
    #[serde(default)]
    pub checkout: Option<Checkout>,
    /// The program's name without its folder, and its arguments.
    pub command_line: Vec<String>,
    /// Version of the compiler.
    pub rustc: Option<String>,
    /// As the compiler names it: `x86_64-unknown-linux-gnu`.
    pub target: Option<String>,
    /// Those the compiler may assume; what the kernels detect at run time is `cpu_features`.
    pub target_features: Vec<String>,
    /// Cargo's: `release`.
    pub profile: Option<String>,
    /// As the processor calls itself; of Arm's, which do not, as its makers call it.
    pub cpu_model: Option<String>,
    /// Of Arm's, each kind of core: `implementer 0x41, part 0xd40`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_parts: Vec<String>,
    /// Vector extensions the kernel reports.
    pub cpu_features: Vec<String>,
    /// Without hyper-threads.
    pub physical_cores: Option<u64>,
    /// With hyper-threads.
    pub logical_cores: Option<u64>,
    /// Those without hyper-threads, by kind, with the processors of each. Empty in older runs, and where the system
    /// does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub core_kinds: Vec<CoreKind>,
    /// Threads of the pool all strategies share.
    pub threads: u64,
    /// Of the first processor, by level.
    pub caches: Vec<CpuCache>,
    /// Of the machine.
    pub memory_bytes: Option<u64>,
    /// As the kernel has it set: `madvise`.
    pub transparent_hugepages: Option<String>,
    /// Whose, and what was set.
    pub allocator: Option<String>,
    /// `linux`
    pub os: String,
    /// Its release.
    pub kernel: Option<String>,
    /// Whether a hypervisor is below.
    pub virtualised: Option<bool>,
    /// Whether the run's GPU was an emulator in software: such times say nothing, and are not shown.
    pub emulated: bool,
    /// Of the first processor.
    pub frequency_governor: Option<String>,
    /// Ceilings measured in this run; the best pattern counts.
    pub read_bandwidth: Vec<Bandwidth>,
    /// The best product measured.
    pub peak_flops: Option<PeakFlops>,
    /// The smallest step of the clock, and what reading it twice costs.
    pub timer_resolution_ns: Option<u64>,
    /// Reading it twice.
    pub timer_overhead_ns: Option<u64>,
    /// `null`: none took part.
    pub gpu: Option<Gpu>,
    /// When a position's rounds in turn were enough.
    #[serde(default)]
    pub sampling: Option<String>,
    /// Of the steps of a decode that end at a position, so many at most are its figure; absent: the one step, as in
    /// runs before there was this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_window: Option<usize>,
    /// Of the weights.
    pub seed: u64,
    /// As `2026-11-21T23:31:49Z`.
    pub started_utc: String,
    /// `null`: still running, or killed.
    pub finished_utc: Option<String>,
    /// What the run was called by `--name`; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its reader should know, by `--note`; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of a run that is one machine's part of a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharding: Option<Sharding>,
    /// Of a run that was merged from such parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<Merged>,
    /// Fields of another version, kept.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// One access pattern read one buffer as large as a model's weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// As a case id begins: `transformer-toy`.
    pub model_shape: String,
    /// Of the buffer.
    pub bytes: u64,
    /// That read at once.
    pub threads: u64,
    /// Of this pattern.
    pub bytes_per_second: u64,
    /// Which loop over which part.
    pub pattern: String,
    /// Of a GPU: where the bytes came from. Absent from older files, and where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<MemoryLevel>,
    /// Whether no byte was in a cache, for steps that begin with a cold one; else the same bytes were read
    /// again and again, as steps read weights.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cold: bool,
}

impl Bandwidth {
    /// ` of L2`, ` of DRAM`, or nothing where it is not known.
    pub fn of_level(&self) -> &'static str {
        match self.level {
            Some(MemoryLevel::L2) => " of L2",
            Some(MemoryLevel::Dram) => " of DRAM",
            None => "",
        }
    }
}

/// Where a GPU's bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryLevel {
    /// The second-level cache.
    L2,
    /// Memory.
    Dram,
}

/// The best product measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeakFlops {
    /// A multiply-add is two.
    pub flops_per_second: u64,
    /// Which product of which size by which crate.
    pub how: String,
}

/// The GPU of a run. Absent from the file's older versions: `null`, and unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// As the driver spells it.
    pub name: Option<String>,
    /// `9.0`
    pub compute_capability: Option<String>,
    /// `0000:17:00.0`
    pub pci_bus_id: Option<String>,
    /// Its version.
    pub driver: Option<String>,
    /// The newest that the driver knows.
    pub cuda: Option<String>,
    /// The version.
    pub nvrtc: Option<String>,
    /// What led to it: `VIRTUAL_ENV: lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13`.
    pub nvrtc_place: Option<String>,
    /// What kernels were compiled for and loaded as: machine code of `sm_90`, PTX of `compute_90`.
    pub kernel_target: Option<String>,
    /// Of a run that measures compiling: what every kernel was compiled with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nvrtc_options: Vec<String>,
    /// At the start of the run.
    pub sm_clock_mhz: Option<u64>,
    /// The most that it can be set to.
    pub sm_clock_most_mhz: Option<u64>,
    /// Why clocks were lower than they could be, or none; `null`: unknown, and no sample is marked
    /// `throttled`.
    pub throttle_reasons: Option<String>,
    /// At the start of the run.
    pub memory_clock_mhz: Option<u64>,
    /// In total.
    pub memory_bytes: Option<u64>,
    /// That blocks are dealt to.
    pub multiprocessors: Option<u64>,
    /// Whether its memory corrects errors.
    pub ecc: Option<bool>,
    /// Size of the second-level cache.
    pub l2_bytes: Option<u64>,
    /// What is in the second-level cache when a timed step begins.
    pub l2: Option<String>,
    /// Whether compile times are free of what the driver and NVRTC remember from earlier runs.
    pub driver_cache_disabled: Option<bool>,
    /// The same of NVRTC's own.
    pub nvrtc_cache_disabled: Option<bool>,
    /// Ceilings measured in this run, as those of the CPU.
    pub read_bandwidth: Vec<Bandwidth>,
    /// The best product measured.
    pub peak_flops: Option<PeakFlops>,
    /// What one kernel that does nothing costs among many: queued one after the other, and as a node of a graph
    /// that is replayed.
    pub launch_ns: Option<u64>,
    /// As a node of a graph that is replayed.
    pub graph_node_ns: Option<u64>,
    /// What the run had no time for, as `transformer-gpt2/padded/cuda/b1/t64: steps`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Gpu {
    /// [`Self::l2`] of a run whose steps begin with a cold second-level cache, and of one whose steps do not.
    pub(crate) const COLD_L2: &str = "emptied before every timed step";
    /// See [`Self::COLD_L2`].
    pub(crate) const WARM_L2: &str = "as the step before left it";

    /// Whether steps begin with an empty second-level cache.
    pub(crate) fn is_cold(&self) -> bool {
        self.l2.as_deref() == Some(Gpu::COLD_L2)
    }
}

/// Which part of a plan a run is: see [`crate::shard`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sharding {
    /// `2/8`: the second of eight.
    pub shard: String,
    /// How often the shard was begun before: what is killed and begun again is another attempt.
    pub attempt: u64,
    /// Names the plan: the same for all parts.
    pub plan: String,
    /// What the plan was made of; `null`: the default suite.
    pub filter: Option<String>,
}

/// What a run was merged of: see [`crate::shard`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// Names the plan that the parts have in common.
    pub plan: String,
    /// That the plan has.
    pub shards: u64,
    /// What the plan was made of; `null`: the default suite.
    pub filter: Option<String>,
    /// All that were looked at, also those of which another attempt was taken.
    pub parts: Vec<MergedRun>,
}

/// One run that was merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedRun {
    /// The name its folder was made with; the column `run` of the merged samples.
    pub run: String,
    /// `2/8`: the second of eight.
    pub shard: String,
    /// Of the shard, from 0 on.
    pub attempt: u64,
    /// Of the part.
    pub started_utc: String,
    /// `null`: killed, or still running when it was merged.
    pub finished_utc: Option<String>,
}

impl Environment {
    /// This program on this machine, now. Measuring adds ceilings and GPU.
    pub fn collect(threads: usize, seed: u64) -> Environment {
        let cpu = machine::Cpu::read();
        let (built, git_changes) = checkout::of_the_build();
        let clock = machine::Clock::measure();
        Environment {
            format_version: FORMAT_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").into(),
            git_revision: built.revision,
            git_dirty: built.dirty,
            git_changes,
            checkout: Checkout::of_this_program(),
            command_line: machine::command_line(),
            rustc: known(env!("DECODE_BENCH_RUSTC")),
            target: known(env!("DECODE_BENCH_TARGET")),
            target_features: env!("DECODE_BENCH_TARGET_FEATURES").split(',').filter_map(known).collect(),
            profile: known(concat!(
                env!("DECODE_BENCH_PROFILE"),
                ", opt-level ",
                env!("DECODE_BENCH_OPT_LEVEL")
            )),
            cpu_model: cpu.model,
            cpu_parts: cpu.parts,
            cpu_features: cpu.features,
            physical_cores: machine::physical_cores().map(|n| n as u64),
            logical_cores: machine::logical_cores(),
            core_kinds: machine::core_kinds(),
            threads: threads as u64,
            caches: machine::caches(),
            memory_bytes: machine::memory_bytes(),
            transparent_hugepages: machine::transparent_hugepages(),
            allocator: None,
            os: std::env::consts::OS.into(),
            kernel: machine::kernel(),
            virtualised: cpu.virtualised,
            emulated: false,
            frequency_governor: machine::frequency_governor(),
            read_bandwidth: Vec::new(),
            peak_flops: None,
            timer_resolution_ns: clock.resolution_ns,
            timer_overhead_ns: clock.overhead_ns,
            gpu: None,
            sampling: None,
            step_window: Some(STEP_WINDOW),
            seed,
            started_utc: time::utc_now(),
            finished_utc: None,
            name: None,
            note: None,
            sharding: None,
            merged: None,
            other: BTreeMap::new(),
        }
    }

    /// Reads `folder/environment.json`.
    pub fn read(folder: &Path) -> Result<Environment> {
        let path = folder.join(FILE);
        let text = files::read(&path, MOST_BYTES).map_err(|e| match e {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                Error::file(folder, format!("no results folder: it has no {FILE}"))
            }
            other => other,
        })?;
        Environment::parse(&text).map_err(|what| Error::file(path, what))
    }

    /// The version is looked at before anything else, for the rest may have changed with it.
    pub(super) fn parse(text: &[u8]) -> Result<Environment, String> {
        let mut json: serde_json::Value =
            serde_json::from_slice(without_mark(text)).map_err(|e| e.to_string())?;
        harmless::lines_of(&mut json);
        let version = json.get("format_version").and_then(serde_json::Value::as_u64);
        let Some(version) = version else {
            return Err("`format_version` is missing or no whole number".into());
        };
        if version == 0 || version > FORMAT_VERSION.into() {
            let tool =
                json.get("tool_version").and_then(serde_json::Value::as_str).unwrap_or("an unknown version");
            return Err(format!(
                "written in format {version} by decode-bench {tool}; this is {}, which reads formats 1 to {FORMAT_VERSION}",
                env!("CARGO_PKG_VERSION")
            ));
        }
        serde_json::from_value(json).map_err(|e| e.to_string())
    }

    /// The text of the file.
    pub(super) fn json(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Replaces `folder/environment.json`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = self.json().map_err(|e| Error::file(folder, e))?;
        crate::files::write_atomically(&folder.join(FILE), &text)
    }

    /// Bytes per second that the best access pattern read for this case's model and shape.
    pub(crate) fn read_ceiling(&self, case: &Case) -> Option<u64> {
        self.best_read(case).map(|best| best.bytes_per_second)
    }

    /// The best of those that bound this case: from memory where the run's steps began with a cold cache.
    pub(crate) fn best_read(&self, case: &Case) -> Option<&Bandwidth> {
        let name = case.model_name().to_string();
        let measured: Vec<&Bandwidth> = match (case.backend, &self.gpu) {
            (BackendName::Cpu, _) => {
                self.read_bandwidth.iter().filter(|b| b.threads == self.threads).collect()
            }
            (BackendName::Cuda | BackendName::CudaGraph | BackendName::CudaSpecialised, Some(gpu)) => {
                gpu.read_bandwidth.iter().filter(|b| b.cold == gpu.is_cold()).collect()
            }
            _ => Vec::new(), // who knows what others ran on
        };
        let measured = measured.into_iter().filter(|b| b.model_shape == name && b.bytes_per_second > 0);
        measured.max_by_key(|b| b.bytes_per_second)
    }

    /// The FLOP/s of the best product on the machine that this backend runs on.
    pub(crate) fn peak_flops_of(&self, backend: BackendName) -> Option<u64> {
        let peak = match backend {
            BackendName::Cpu => self.peak_flops.as_ref(),
            BackendName::Cuda | BackendName::CudaGraph | BackendName::CudaSpecialised => {
                self.gpu.as_ref()?.peak_flops.as_ref()
            }
            BackendName::Outside(_) => None,
        };
        peak.map(|peak| peak.flops_per_second)
    }

    /// What starting the kernels of one step costs by itself: nothing on the CPU, where they are calls.
    pub(crate) fn launches_ns(&self, backend: BackendName, kernels: f64) -> Option<f64> {
        let gpu = self.gpu.as_ref();
        let [launch, node] = [gpu.and_then(|gpu| gpu.launch_ns), gpu.and_then(|gpu| gpu.graph_node_ns)]
            .map(|ns| ns.map(|ns| ns as f64));
        match backend {
            BackendName::Cpu => Some(0.0),
            BackendName::Cuda | BackendName::CudaSpecialised => Some(kernels * launch?),
            BackendName::CudaGraph => Some(launch? + kernels * node?),
            BackendName::Outside(_) => None,
        }
    }

    /// What the run's folder is made as: `<UTC date-time>-<hardware>`, and of shards, many of which may
    /// begin in one second on machines of one kind, which.
    pub fn folder_name(&self) -> String {
        let name = format!("{}-{}", self.started_utc.replace(':', "-"), self.hardware_slug());
        match &self.sharding {
            None => name,
            Some(Sharding { shard, attempt, .. }) => {
                format!("{name}-shard-{}-attempt-{attempt}", shard.replace('/', "-of-"))
            }
        }
    }

    fn hardware_slug(&self) -> String {
        let cpu = self.cpu_model.clone().unwrap_or_else(|| std::env::consts::ARCH.into());
        let gpu = self.gpu.as_ref().and_then(|gpu| gpu.name.clone());
        let cores = self.physical_cores.map(|n| format!("{n}c"));
        slug(&[Some(cpu), cores, gpu].into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

fn known(text: &str) -> Option<String> {
    Some(text.to_string()).filter(|t| !t.is_empty())
}

/// Lower case letters and digits, joined by single dashes, at most 48 characters.
fn slug(text: &str) -> String {
    let plain = text.to_lowercase().replace("(r)", " ").replace("(tm)", " ").replace(" processor", " ");
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty() && *w != "cpu");
    let joined: String = words.collect::<Vec<_>>().join("-").chars().take(48).collect();
    joined.trim_end_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_plain_folder_names() {
        assert_eq!(
            slug("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz 14c"),
            "intel-xeon-e5-2690-v4-2-60ghz-14c"
        );
        assert_eq!(slug("AMD EPYC 7B13 2c ../../etc"), "amd-epyc-7b13-2c-etc");
    }

    /// Steps that begin with a cold cache are held against memory, the others against what they find.
    #[test]
    fn a_ceiling_is_of_the_cache_that_steps_begin_with() {
        let mut environment = Environment::collect(1, 7);
        let read = |bytes_per_second, level, cold| Bandwidth {
            model_shape: "transformer-toy".into(),
            bytes: 13_700_000,
            bytes_per_second,
            level: Some(level),
            cold,
            ..Bandwidth::default()
        };
        let read_bandwidth = vec![
            read(5_000_000_000_000, MemoryLevel::L2, false),
            read(3_000_000_000_000, MemoryLevel::Dram, true),
            read(2_900_000_000_000, MemoryLevel::Dram, true),
        ];
        let case: Case = "transformer-toy/padded/cuda/b1/t64".parse().unwrap();
        let mut best = |l2: &str| {
            let gpu = Gpu { l2: Some(l2.into()), read_bandwidth: read_bandwidth.clone(), ..Gpu::default() };
            environment.gpu = Some(gpu);
            let best = environment.best_read(&case).unwrap();
            (best.bytes_per_second, best.level.unwrap())
        };
        assert_eq!(best(Gpu::WARM_L2), (5_000_000_000_000, MemoryLevel::L2));
        assert_eq!(best(Gpu::COLD_L2), (3_000_000_000_000, MemoryLevel::Dram));
    }

    /// A file from before levels, cold caches and launches had names.
    #[test]
    fn an_older_gpu_has_warm_ceilings_and_no_cost_of_launches() {
        let text = r#"{"name": "H100", "read_bandwidth": [{"model_shape": "transformer-toy", "bytes": 1,
            "threads": 0, "bytes_per_second": 7, "pattern": "132 blocks"}]}"#;
        let gpu: Gpu = serde_json::from_str(text).unwrap();
        assert!(!gpu.is_cold() && !gpu.read_bandwidth[0].cold && gpu.read_bandwidth[0].level.is_none());
        let environment = Environment { gpu: Some(gpu), ..Environment::collect(1, 7) };
        assert_eq!(environment.read_ceiling(&"transformer-toy/padded/cuda/b1/t64".parse().unwrap()), Some(7));
        assert_eq!(environment.launches_ns(BackendName::Cuda, 34.0), None);
        assert_eq!(environment.launches_ns(BackendName::Cpu, 34.0), Some(0.0));
    }

    #[test]
    fn a_newer_format_is_refused_in_one_line_and_fields_of_others_are_kept() {
        let mut json = serde_json::to_value(Environment::collect(1, 7)).unwrap();
        json["weather"] = "fine".into();
        let read = Environment::parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json);
        json["format_version"] = 2.into();
        json["tool_version"] = "9.0.0".into();
        json["threads"] = "as many as there are".into();
        let error = Environment::parse(json.to_string().as_bytes()).unwrap_err();
        assert!(error.starts_with("written in format 2 by decode-bench 9.0.0; this is "), "{error}");
        assert!(!error.contains('\n'));
    }
}
