//! Where the numbers of a run come from, in words: the two lines under every figure and table.

use std::fmt::Write;

use crate::harmless::{name, words};
use crate::record::{differences, Environment, Run, Use};

/// Two lines under a figure: on what, and with what.
pub fn provenance(environment: &Environment) -> Vec<String> {
    let Environment { tool_version, seed, .. } = environment;
    vec![
        hardware(environment),
        format!(
            "decode-bench {}, {}; {}; weights from seed {seed}",
            name(tool_version),
            revision(environment),
            date(environment)
        ),
    ]
}

/// When the run began: `2026-01-31 12:00:00 UTC`.
pub(crate) fn date(environment: &Environment) -> String {
    name(&environment.started_utc.replace('T', " ").replace('Z', " UTC"))
}

/// In what the runs of two figures differ, `profile: debug, opt-level 0, now release, opt-level 3; ..`, or nothing.
pub(crate) fn differing(was: &Run, now: &Run) -> String {
    let differences = differences(Use::Compare, was, now);
    let all: Vec<String> = differences.iter().map(|what| words(&what.to_string())).collect();
    all.join("; ")
}

pub(crate) fn hardware(environment: &Environment) -> String {
    let mut text = name(environment.cpu_model.as_deref().unwrap_or("unknown CPU"));
    if let Some(cores) = environment.physical_cores {
        let _ = write!(text, ", {}", counted(cores, "core"));
    }
    let _ = write!(text, ", {} used", counted(environment.threads, "thread"));
    if environment.virtualised == Some(true) {
        text.push_str("; virtual machine");
    }
    if environment.emulated {
        text.push_str("; EMULATED: these times say nothing");
    }
    let gpu = environment.gpu.as_ref();
    match gpu.map(|gpu| (&gpu.name, &gpu.nvrtc)) {
        Some((Some(gpu), _)) => format!("{text}; {}", name(gpu)),
        Some((None, Some(nvrtc))) => format!("{text}; NVRTC {}, no GPU", name(nvrtc)),
        _ => text,
    }
}

pub(crate) fn revision(environment: &Environment) -> String {
    let revision = environment.git_revision.as_deref().map(|r| name(r).chars().take(12).collect::<String>());
    let built = environment.unoptimised().map(|profile| format!(", NOT OPTIMISED ({})", name(profile)));
    let built = built.unwrap_or_default();
    let Some(revision) = revision else { return format!("unknown revision{built}") };
    let dirty = if environment.git_dirty == Some(true) { " with uncommitted changes" } else { "" };
    let doubt = environment.doubtful_revision().map_or("", |_| " (in doubt)");
    format!("revision {revision}{dirty}{doubt}{built}")
}

/// `1 core`, `2 cores`
pub fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
