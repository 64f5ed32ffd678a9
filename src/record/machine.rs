//! What the operating system says about the machine. Each function gives nothing rather than a guess.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::arm;
use super::topology::{self, CoreClass, CoreKind};

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

/// What the kernel says of the processors.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cpu {
    pub model: Option<String>,
    /// Of Arm: `implementer 0x41, part 0xd40`, of each kind of core.
    pub parts: Vec<String>,
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
        let cpu = Cpu::of(&line("/proc/cpuinfo").unwrap_or_default());
        Cpu {
            model: cpu.model.or_else(|| sysctl("machdep.cpu.brand_string")),
            virtualised: cpu.virtualised.or_else(hypervisor),
            ..cpu
        }
    }

    /// The text of `/proc/cpuinfo`: one block a processor.
    fn of(text: &str) -> Cpu {
        let fields =
            || text.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.trim(), v.trim()));
        let field = |name: &str| Some(fields().find(|(key, _)| *key == name)?.1.to_string());
        let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
        let flags: BTreeSet<&str> = flags.split_whitespace().collect();
        // Arm, x86, LoongArch, MIPS, POWER, RISC-V; a 32-bit Arm has a `model name` that names no model
        let cores = arm::cores(fields());
        let named = ["model name", "Model Name", "cpu model", "cpu", "uarch"];
        Cpu {
            model: arm::name(&cores).or_else(|| named.into_iter().find_map(field)),
            parts: cores.iter().map(|(core, _)| core.to_string()).collect(),
            features: FEATURES.iter().filter(|f| flags.contains(**f)).map(|f| f.to_string()).collect(),
            virtualised: flags.contains("fpu").then(|| flags.contains("hypervisor")), // x86 only
        }
    }
}

/// Where the processor does not say it: by the firmware's name for the machine.
fn hypervisor() -> Option<bool> {
    if let Some(inside) = sysctl("kern.hv_vmm_present") {
        return Some(inside == "1");
    }
    const NAMES: [&str; 9] =
        ["qemu", "kvm", "vmware", "virtual", "xen", "ec2", "engine", "openstack", "dummy-virt"];
    let dmi = ["sys_vendor", "product_name"].map(|name| line(format!("/sys/class/dmi/id/{name}")));
    let tree = ["compatible", "hypervisor/compatible"].map(|name| line(format!("/proc/device-tree/{name}")));
    let guest = tree[1].is_some();
    let said: Vec<String> = dmi.into_iter().chain(tree).flatten().map(|text| text.to_lowercase()).collect();
    let named = |names: &[&str]| said.iter().any(|text| names.iter().any(|name| text.contains(name)));
    (!said.is_empty()).then(|| guest || named(&NAMES) && !named(&[".metal"])) // a rented machine as a whole
}

/// The cores that this process may use, by kind. Empty: the system does not tell.
pub(super) fn core_kinds() -> Vec<CoreKind> {
    allowed_processors().map(|allowed| topology::core_kinds(Path::new("/sys"), &allowed)).unwrap_or_default()
}

/// Cores that this process may use, siblings of one core counted once.
pub(super) fn physical_cores() -> Option<usize> {
    if let Some(cores) = sysctl("hw.physicalcpu") {
        return cores.parse().ok();
    }
    usable(&core_kinds())
}

/// The same without those that are made for little power: what `--threads` is by default. Strategies share every
/// operation out evenly, so that a slow core keeps all others waiting.
pub fn performance_cores() -> Option<usize> {
    match core_kinds().into_iter().find(|kind| kind.class == Some(CoreClass::Performance)) {
        Some(kind) => usable(&[kind]),
        None => physical_cores(),
    }
}

/// As many of these cores as the process may use at once.
fn usable(kinds: &[CoreKind]) -> Option<usize> {
    let cores: usize = kinds.iter().map(|kind| kind.siblings.len()).sum();
    let quota = std::thread::available_parallelism().ok()?.get();
    (cores > 0).then_some(cores.min(quota))
}

pub(super) fn logical_cores() -> Option<u64> {
    std::thread::available_parallelism().ok().map(|n| n.get() as u64)
}

fn allowed_processors() -> Option<Vec<usize>> {
    let status = line("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    topology::numbers(list.trim())
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
    if let Some(bytes) = sysctl("hw.memsize") {
        return bytes.parse().ok();
    }
    let text = line("/proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

pub(super) fn kernel() -> Option<String> {
    line("/proc/sys/kernel/osrelease").or_else(|| sysctl("kern.osrelease"))
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

/// What macOS has in place of files.
fn sysctl(name: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let out = Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).trim().to_string();
    Some(text).filter(|text| out.status.success() && !text.is_empty())
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    topology::line(path.as_ref())
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

    fn arm(parts: &[(&str, &str)]) -> Cpu {
        let block = |(implementer, part)| {
            format!("processor\t: 0\nFeatures\t: fp asimd sve\nCPU implementer\t: {implementer}\nCPU variant\t: 0x1\nCPU part\t: {part}\n\n")
        };
        Cpu::of(&parts.iter().copied().map(block).collect::<String>())
    }

    #[test]
    fn processors_that_do_not_say_their_name_have_one() {
        let server = arm(&[("0x41", "0xd40"), ("0x41", "0xd40")]);
        assert_eq!(server.model.as_deref(), Some("Neoverse-V1"));
        assert_eq!(server.parts, ["implementer 0x41, part 0xd40"]);
        assert_eq!((server.features, server.virtualised), (vec!["asimd".into(), "sve".into()], None));
        let big_and_little =
            arm(&[("0x41", "0xd05"), ("0x41", "0xd0b"), ("0x41", "0xd05"), ("0x41", "0xd0b")]);
        assert_eq!(big_and_little.model.as_deref(), Some("2 × Cortex-A55 + 2 × Cortex-A76"));
        assert_eq!(big_and_little.parts.len(), 2);
        let laptop = arm(&[("0x61", "0x022"), ("0x61", "0x023")]);
        assert_eq!(laptop.model.as_deref(), Some("1 × Apple M1 Icestorm + 1 × Apple M1 Firestorm"));
        let newer = arm(&[("0x41", "0xfff"), ("0x41", "0xfff")]);
        assert_eq!(newer.model.as_deref(), Some("implementer 0x41, part 0xfff"));
        for (text, model) in [
            (
                "model name\t: ARMv7 Processor rev 3 (v7l)\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
                "Cortex-A72",
            ),
            ("model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2\n", "Some CPU @ 2 GHz"),
            ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
            ("processor\t: 0\nhart\t: 1\nuarch\t: sifive,u74-mc\n", "sifive,u74-mc"),
        ] {
            assert_eq!(Cpu::of(text).model.as_deref(), Some(model), "{text}");
        }
        for nothing in
            ["", "processor : 0\n", "CPU implementer : ?\nCPU part : 0xd40\n", "CPU part : 0xd40\n"]
        {
            assert_eq!(Cpu::of(nothing), Cpu::default(), "{nothing}");
        }
    }
}
