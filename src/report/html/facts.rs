//! `environment.json` in words.

use serde::Serialize;
use serde_json::Value;

use crate::analysis::counted;
use crate::record::{Bandwidth, CoreClass, CoreKind, CpuCache, Environment, Gpu, PeakFlops};
use crate::units::Quantity;

#[derive(Serialize)]
pub struct Fact {
    name: String,
    value: String,
}

pub fn facts(environment: &Environment) -> Vec<Fact> {
    let e = environment;
    let labels = [("name", &e.name), ("note", &e.note)].into_iter().filter(|(_, label)| label.is_some());
    let mut all: Vec<_> = labels.map(|(name, label)| (name, label.clone())).collect();
    all.extend([
        ("format of the run's files", Some(format!("version {}", e.format_version))),
        ("measured", Some(format!("{} to {}", e.started_utc, or_unknown(e.finished_utc.as_ref())))),
        ("program", Some(format!("decode-bench {}", e.tool_version))),
        ("revision", e.git_revision.clone()),
        ("uncommitted changes", e.git_dirty.map(yes_or_no)),
        (
            "revision of the checkout",
            e.checkout.as_ref().map(|checkout| or_unknown(checkout.revision.as_ref())),
        ),
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
    ]);
    let of_class = |kind: &CoreKind| {
        let name = match kind.class? {
            CoreClass::Performance => "performance cores",
            CoreClass::Efficiency => "efficiency cores",
        };
        Some((name, Some(kind.siblings.len().to_string())))
    };
    all.extend(e.core_kinds.iter().filter_map(of_class));
    all.extend(e.read_bandwidth.iter().map(|found| ("read bandwidth", Some(bandwidth(found)))));
    all.push(("best matrix product", e.peak_flops.as_ref().map(product)));
    if e.gpu.is_none() {
        all.push(("GPU", Some("none used".into())));
    }
    let fact =
        |(name, value): (&str, Option<String>)| Fact { name: name.into(), value: or_unknown(value.as_ref()) };
    all.into_iter().map(fact).chain(e.gpu.iter().flat_map(gpu)).collect()
}

fn product(found: &PeakFlops) -> String {
    format!("{:.0} GFLOP/s, {}", found.flops_per_second as f64 / 1e9, found.how)
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
    let Bandwidth { model_shape, bytes: size, threads, bytes_per_second, pattern, .. } = found;
    let rate = *bytes_per_second as f64 / 1e9;
    let by = if *threads > 0 { format!(", {}", counted(*threads, "thread")) } else { String::new() };
    format!("{rate:.1} GB/s{} over {} ({model_shape}){by}, {pattern}", found.of_level(), bytes(*size))
}

/// Every field by its name in the file.
fn gpu(found: &Gpu) -> Vec<Fact> {
    let fact = |(field, value): (String, Value)| {
        let value = match value {
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
            Value::String(text) => text,
            other => other.to_string(),
        };
        Some(Fact { name: format!("GPU: {}", field.replace('_', " ")), value })
    };
    let Ok(Value::Object(fields)) = serde_json::to_value(found) else { return Vec::new() };
    let ceilings = found.read_bandwidth.iter().map(bandwidth).map(|value| ("GPU: read bandwidth", value));
    let peak = found.peak_flops.iter().map(product).map(|value| ("GPU: best matrix product", value));
    let left_out = Some(found.left_out.join("; ")).filter(|all| !all.is_empty());
    let left_out = left_out.map(|all| ("GPU: left out for lack of time", all));
    let measured =
        ceilings.chain(peak).chain(left_out).map(|(name, value)| Fact { name: name.into(), value });
    fields.into_iter().filter_map(fact).chain(measured).collect()
}
