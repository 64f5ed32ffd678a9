//! `environment.json` in words.

use serde::Serialize;

use crate::record::{Bandwidth, CpuCache, Environment, Gpu};
use crate::report::counted;
use crate::report::human::Quantity;

#[derive(Serialize)]
pub struct Fact {
    name: &'static str,
    value: String,
}

pub fn facts(environment: &Environment) -> Vec<Fact> {
    let e = environment;
    let mut all = vec![
        ("format of the run's files", Some(format!("version {}", e.format_version))),
        ("measured", Some(format!("{} to {}", e.started_utc, or_unknown(e.finished_utc.as_ref())))),
        ("program", Some(format!("decode-bench {}", e.tool_version))),
        ("revision", e.git_revision.clone()),
        ("uncommitted changes", e.git_dirty.map(yes_or_no)),
        ("command", Some(e.command_line.join(" "))),
        ("seed of the weights", Some(e.seed.to_string())),
        ("compiler", e.rustc.clone()),
        ("target", e.target.clone()),
        ("profile", e.profile.clone()),
        ("processor", e.cpu_model.clone()),
        ("vector extensions", Some(e.cpu_features.join(", "))),
        ("physical cores", e.physical_cores.map(|n| n.to_string())),
        ("logical cores", e.logical_cores.map(|n| n.to_string())),
        ("threads used", Some(e.threads.to_string())),
        ("caches", Some(e.caches.iter().map(cache).collect::<Vec<_>>().join("; "))),
        ("memory", e.memory_bytes.map(bytes)),
        ("huge pages", e.transparent_hugepages.clone()),
        ("allocator", e.allocator.clone()),
        ("operating system", Some(format!("{} {}", e.os, or_unknown(e.kernel.as_ref())))),
        ("virtual machine", e.virtualised.map(yes_or_no)),
        ("frequency governor", e.frequency_governor.clone()),
        ("clock", e.timer_resolution_ns.map(|ns| format!("steps of {ns} ns"))),
        ("reading the clock twice", e.timer_overhead_ns.map(|ns| format!("{ns} ns"))),
    ];
    all.extend(e.read_bandwidth.iter().map(|found| ("read bandwidth", Some(bandwidth(found)))));
    let peak = e.peak_flops.as_ref();
    all.push((
        "best matrix product",
        peak.map(|peak| format!("{:.0} GFLOP/s, {}", peak.flops_per_second as f64 / 1e9, peak.how)),
    ));
    all.push(("GPU", Some(e.gpu.as_ref().map_or("none".into(), gpu))));
    all.into_iter().map(|(name, value)| Fact { name, value: or_unknown(value.as_ref()) }).collect()
}

fn or_unknown(value: Option<&String>) -> String {
    value.filter(|text| !text.is_empty()).map_or("unknown", |text| text).to_string()
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

fn bytes(n: u64) -> String {
    Quantity::Bytes.show(n as f64)
}

fn cache(found: &CpuCache) -> String {
    let CpuCache { level, kind, bytes: size, shared_by } = found;
    format!("level {level} {}, {}, shared by {shared_by}", kind.to_lowercase(), bytes(*size))
}

fn bandwidth(found: &Bandwidth) -> String {
    let Bandwidth { model_shape, bytes: size, threads, bytes_per_second, pattern } = found;
    let rate = *bytes_per_second as f64 / 1e9;
    format!(
        "{rate:.1} GB/s over {} ({model_shape}), {}, {pattern}",
        bytes(*size),
        counted(*threads, "thread")
    )
}

fn gpu(found: &Gpu) -> String {
    let number = |what: &str, n: Option<u64>, unit: &str| n.map(|n| format!("{what} {n} {unit}"));
    let word = |what: &str, text: &Option<String>| text.as_ref().map(|text| format!("{what} {text}"));
    let parts = [
        found.name.clone(),
        word("compute capability", &found.compute_capability),
        word("driver", &found.driver),
        word("CUDA", &found.cuda),
        word("NVRTC", &found.nvrtc),
        number("clock", found.sm_clock_mhz, "MHz"),
        number("memory clock", found.memory_clock_mhz, "MHz"),
        found.memory_bytes.map(bytes),
        found.ecc.map(|on| format!("ECC {}", if on { "on" } else { "off" })),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
