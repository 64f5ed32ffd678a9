//! What a decode pays a compiler, against how much its buffers grow at a time; and, from a run on a
//! CPU, what it pays for reading rows that hold nothing yet.

use super::chart::{Chart, Curve, Dot, Panel};
use super::input::FigureInput;
use super::style::Style;
use crate::analysis::{compiling, counted, provenance, Estimate, Group, Measurements};
use crate::case::{BackendName, Case};
use crate::error::{Error, Result};
use crate::model::capacity;
use crate::record::{Metric, Protocol, Run};
use crate::units::Quantity;

/// How often a decode may be repeated on what was compiled once.
const DECODES: [u32; 2] = [1, 1000];

/// A strategy's rows, and a time.
type Timed = (usize, Estimate);

/// `None` if the run compiled nothing of this group.
///
/// # Errors
/// When steps were given, and they are of other decodes.
pub fn chart(source: &FigureInput<'_>, group: Group) -> Result<Option<Chart>> {
    let lines = compiling(source.found, group);
    let timed = lines.iter().filter_map(|line| {
        let rows = line.case.strategy.grows_by(capacity(group.model, group.shape))?;
        Some((line.case, rows, line.total_ns?))
    });
    let mut compiled: Vec<(Case, usize, Estimate)> = timed.collect();
    compiled.sort_by_key(|&(_, rows, _)| rows);
    if compiled.is_empty() {
        return Ok(None);
    }
    let points = compiled.iter().map(|&(_, rows, total)| (rows, total)).collect::<Vec<Timed>>();
    let mut curves = vec![curve("compile", Style::aside(0), &points)];
    let mut notes = notes(source.run, group, &points);
    let mut caption = provenance(&source.run.environment);
    if let Some(steps) = source.steps {
        let decoded = decoded(steps, &compiled)?;
        let pairs: Vec<(usize, f64, f64)> = decoded
            .iter()
            .filter_map(|&(rows, decode)| {
                let (_, total) = points.iter().find(|(r, _)| *r == rows)?;
                Some((rows, total.value, decode.value))
            })
            .collect();
        curves.push(curve("one decode on a CPU", Style::aside(1), &decoded));
        for (i, decodes) in DECODES.into_iter().enumerate() {
            let sums: Vec<Dot> = pairs.iter().map(|&pair| sum(pair, decodes)).collect();
            curves.push(Curve { pieces: vec![sums], ..curve(&together(decodes), Style::aside(2 + i), &[]) });
        }
        notes.extend(notes_on_steps(steps));
        caption.extend(provenance(&steps.environment));
    }
    Ok(Some(Chart {
        title: format!("Compiling every shape of a decode — {group}"),
        notes,
        x_title: "rows that a buffer grows by: concat 1, chunked-c c, padded its whole capacity",
        panels: vec![Panel::new("time", Quantity::Nanoseconds, curves, None)],
        crossings: Vec::new(), // a sum of medians has no interval
        caption,
    }))
}

/// Whole decodes of the same tokens, on the CPU.
fn decoded(steps: &Run, compiled: &[(Case, usize, Estimate)]) -> Result<Vec<Timed>> {
    let found = Measurements::of(steps, Protocol::Decode);
    let decode = |&(case, rows, _): &(Case, usize, Estimate)| {
        let on_cpu = Case { backend: BackendName::Cpu, ..case };
        Some((rows, found.median(&on_cpu, Metric::DecodeNs)?))
    };
    let decoded: Vec<Timed> = compiled.iter().filter_map(decode).collect();
    match (decoded.is_empty(), compiled.first()) {
        (true, Some((case, ..))) => {
            let Case { model, shape, batch, position, .. } = case;
            let what = format!(
                "no whole decodes of {position} tokens of {model}-{shape}, batch {batch}, on the CPU; \
                 `decode-bench trace --strategy LIST --tokens {position}` takes them"
            );
            Err(Error::file(&steps.path, what))
        }
        _ => Ok(decoded),
    }
}

fn curve(name: &str, style: Style, points: &[Timed]) -> Curve {
    let dot = |&(rows, Estimate { value: y, lo, hi, .. }): &Timed| Dot { x: rows as f64, y, lo, hi };
    Curve {
        names: vec![name.into()],
        details: Vec::new(),
        style,
        pieces: vec![points.iter().map(dot).collect()],
        fit: None,
        others: Vec::new(),
    }
}

fn together(decodes: u32) -> String {
    format!("compile + {}", counted(decodes.into(), "decode"))
}

/// Of medians, and without an interval: its parts are of two runs.
fn sum((rows, compile, decode): (usize, f64, f64), decodes: u32) -> Dot {
    let y = compile + f64::from(decodes) * decode;
    Dot { x: rows as f64, y, lo: y, hi: y }
}

fn notes(run: &Run, group: Group, points: &[Timed]) -> Vec<String> {
    let nvrtc = run.environment.gpu.as_ref().and_then(|gpu| gpu.nvrtc.clone());
    let nvrtc = nvrtc.unwrap_or_else(|| "of unknown version".into());
    let alone = if group.backend.is_cuda() { "" } else { "No GPU took part. " };
    let rounds = points.iter().map(|(_, total)| total.n).min().unwrap_or(0);
    vec![
        format!(
            "Compile: NVRTC {nvrtc}, backend {}, run {}. Medians; bars: interval, n = {rounds} rounds or more.",
            group.backend,
            run.name()
        ),
        format!("{alone}A shape's time is the sum over its new kernels, compiled one at a time; a compiler of whole"),
        "steps, such as XLA, compiles all of a step again for every shape.".into(),
    ]
}

fn notes_on_steps(steps: &Run) -> [String; 2] {
    [
        format!("Decodes: on the CPU, run {}, median of whole decodes of the same tokens.", steps.name()),
        "Sums of medians, of a CPU's steps and compile times for a GPU: an illustration of the trade, no GPU result."
            .into(),
    ]
}
