//! What the operating system says about the machine. Each function gives nothing rather than a guess.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One cache of the processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuCache {
    /// 1 is nearest.
    pub level: u64,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Its size.
    pub bytes: u64,
    /// Logical processors that share it, as the kernel lists them: `0-3`.
    pub shared_by: String,
}

/// From `/proc/cpuinfo`.
#[derive(Default)]
pub(super) struct Cpu {
    pub model: Option<String>,
    pub features: Vec<String>,
    pub virtualised: Option<bool>,
}

/// Those that vector kernels choose by.
const FEATURES: [&str; 14] = [
    "sse4_2",
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_bf16",
    "avx512_vnni",
    "amx_tile",
    "asimd",
    "sve",
    "sve2",
];

impl Cpu {
    pub fn read() -> Cpu {
        let text = line("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let value = |line: &str| {
                Some(line.split_once(':').filter(|(key, _)| key.trim() == name)?.1.trim().to_string())
            };
            text.lines().find_map(value)
        };
        let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
        let flags: BTreeSet<&str> = flags.split_whitespace().collect();
        Cpu {
            model: field("model name"),
            features: FEATURES.iter().filter(|f| flags.contains(**f)).map(|f| f.to_string()).collect(),
            virtualised: flags.contains("fpu").then(|| flags.contains("hypervisor")), // x86 only
        }
    }
}

/// Cores this process may use, siblings of one core counted once: what `--threads` is by default.
pub fn physical_cores() -> Option<usize> {
    let allowed = allowed_processors()?;
    let siblings =
        |cpu: &usize| line(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    let cores: Option<BTreeSet<String>> = allowed.iter().map(siblings).collect();
    let quota = std::thread::available_parallelism().ok()?.get();
    Some(cores?.len().min(quota))
}

pub(super) fn logical_cores() -> Option<u64> {
    std::thread::available_parallelism().ok().map(|n| n.get() as u64)
}

fn allowed_processors() -> Option<Vec<usize>> {
    let status = line("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    processors(list.trim())
}

/// `0-2,5` as numbers.
fn processors(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(all)
}

pub(super) fn caches() -> Vec<CpuCache> {
    let folder = |i: usize| PathBuf::from(format!("/sys/devices/system/cpu/cpu0/cache/index{i}"));
    (0..8).map_while(|i| cache(&folder(i))).collect()
}

fn cache(folder: &Path) -> Option<CpuCache> {
    Some(CpuCache {
        level: line(folder.join("level"))?.parse().ok()?,
        kind: line(folder.join("type"))?,
        bytes: line(folder.join("size"))?.strip_suffix('K')?.parse::<u64>().ok()? * 1024,
        shared_by: line(folder.join("shared_cpu_list"))?,
    })
}

pub(super) fn memory_bytes() -> Option<u64> {
    let text = line("/proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

pub(super) fn kernel() -> Option<String> {
    line("/proc/sys/kernel/osrelease")
}

pub(super) fn frequency_governor() -> Option<String> {
    line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
}

/// `always`, `madvise` or `never`.
pub(super) fn transparent_hugepages() -> Option<String> {
    let choices = line("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let (_, chosen) = choices.split_once('[')?;
    chosen.split_once(']').map(|(chosen, _)| chosen.to_string())
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
}

pub(super) fn command_line() -> Vec<String> {
    let mut line: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    if let Some(program) = line.first_mut() {
        *program =
            Path::new(program).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    }
    line
}

/// Of the clock all timings use.
pub(super) struct Clock {
    pub resolution_ns: Option<u64>,
    pub overhead_ns: Option<u64>,
}

impl Clock {
    /// Resolution: the smallest difference other than zero. Overhead: the median cost of a pair
    /// of readings with nothing between them.
    pub fn measure() -> Clock {
        const PAIRS: usize = 1000;
        let mut gaps: Vec<Duration> = (0..PAIRS).map(|_| Instant::now().elapsed()).collect();
        gaps.sort();
        let smallest = gaps.iter().find(|gap| !gap.is_zero());
        let whole = Instant::now();
        for _ in 0..PAIRS {
            std::hint::black_box(Instant::now().elapsed());
        }
        let overhead = whole.elapsed().as_nanos() as u64 / PAIRS as u64;
        Clock { resolution_ns: smallest.map(|gap| gap.as_nanos() as u64), overhead_ns: Some(overhead.max(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_lists_are_read() {
        assert_eq!(processors("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(processors("many"), None);
    }
}
