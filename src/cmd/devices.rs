//! `devices`: what this machine can run on, and what is missing.

use decode_bench::backend::cuda::{Device, DeviceInfo, Survey};
use decode_bench::error::{Error, Result};
use decode_bench::record::Environment;

use super::print;

/// List the CPU, GPUs and NVRTC libraries found here, or the reason why one is missing.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench devices

A machine without a GPU is no failure: the exit code is 0.")]
pub struct Args {}

pub fn run(_: Args) -> Result<()> {
    let mut lines = vec![("cpu", cpu())];
    lines.extend(gpus().into_iter().map(|line| ("cuda", line)));
    lines.extend(compilers(Device::compilers()).into_iter().map(|line| ("nvrtc", line)));
    print(&lines.iter().map(|(what, line)| format!("{what:<6} {line}\n")).collect::<String>())
}

fn cpu() -> String {
    let Environment { cpu_model, cpu_parts, physical_cores, logical_cores, .. } = Environment::collect(1, 0);
    let counted = |n: Option<u64>, what| n.map_or(format!(", unknown {what}"), |n| format!(", {what} {n}"));
    let model = cpu_model.unwrap_or_else(|| "unknown model".into());
    let parts = cpu_parts.iter().map(|part| format!(" ({part})")).collect::<String>();
    format!("{model}{parts}{}{}", counted(physical_cores, "cores"), counted(logical_cores, "threads"))
}

/// A line for each device, or one for all that says why there are none.
fn gpus() -> Vec<String> {
    match Device::count() {
        Ok(count) => {
            (0..count).map(|i| format!("{i}: {}", DeviceInfo::of(i).map_or_else(missing, gpu))).collect()
        }
        Err(why) => vec![missing(why)],
    }
}

fn gpu(info: DeviceInfo) -> String {
    let DeviceInfo { name, compute_capability: (major, minor), multiprocessors, .. } = &info;
    let (gib, mib) =
        (info.memory_bytes as f64 / (1u64 << 30) as f64, info.l2_bytes as f64 / (1u64 << 20) as f64);
    let (driver, ecc) = (info.driver, if info.ecc { "on" } else { "off" });
    let emulated = if info.emulated { "; emulated in software: its times are not shown" } else { "" };
    format!(
        "{name}, compute capability {major}.{minor}, {gib:.1} GiB, {multiprocessors} multiprocessors, \
         {mib:.1} MiB of L2, ECC {ecc}, driver of CUDA {driver}{emulated}"
    )
}

/// A line for each, the one taken first, and one that says what to do where none is.
fn compilers(survey: Survey) -> Vec<String> {
    let Survey { need, found, unusable, chosen } = &survey;
    let line = |index: usize| {
        let (nvrtc, verdict) = &found[index];
        let said = match verdict {
            _ if *chosen == Some(index) => "chosen",
            verdict if verdict.will_do() => "would do",
            _ => "will not do",
        };
        let reason = need.reason(nvrtc.version, *verdict);
        format!("{} {said}: {reason}; {}, {}", nvrtc.version, nvrtc.place, nvrtc.path.display())
    };
    let others = (0..found.len()).filter(|&index| Some(index) != *chosen);
    let mut lines: Vec<String> = chosen.iter().copied().chain(others).map(line).collect();
    lines.extend(unusable.iter().map(|(path, why)| format!("unusable: {} {why}", path.display())));
    match survey.chosen {
        None if survey.found.is_empty() => lines.extend(survey.into_chosen().err().map(missing)),
        None => lines.push(format!("none of these will do; {}", survey.advice())),
        Some(_) => {}
    }
    lines
}

/// The backend's name is the line's already.
fn missing(why: Error) -> String {
    format!("not found: {}", why.reason())
}
