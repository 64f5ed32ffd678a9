//! What is paid before the first token: one bar per case, its phases after each other.

use super::axis::Axis;
use super::canvas::{self, text_width, Anchor, Canvas, Color, Point, FAINT, GRID, INK};
use super::chart::write_lines;
use super::input::FigureInput;
use crate::analysis::{provenance, Estimate, Group};
use crate::case::Case;
use crate::record::Metric;
use crate::units::Quantity;

/// The phases in nanoseconds; a phase that was not measured is zero.
struct Start {
    case: Case,
    phases: [Estimate; 3],
    /// Whether a steady step was there to take from the first one.
    steady: bool,
    n: usize,
}

impl Start {
    fn total(&self) -> f64 {
        self.phases.iter().map(|phase| phase.value).sum()
    }
}

const PHASES: [(&str, Color, Hatch); 3] = [
    ("load the weights", Color(0x56, 0xb4, 0xe9), Hatch::None),
    ("create the cache", Color(0xd5, 0x5e, 0x00), Hatch::Down),
    ("first step beyond a steady one", Color(0xf0, 0xe4, 0x42), Hatch::Up),
];

#[derive(Clone, Copy, PartialEq)]
enum Hatch {
    None,
    Up,
    Down,
}

const WIDTH: f64 = 880.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 850.0;
const ROW: f64 = 52.0;

/// `None` if the run did not measure starts of this group.
pub fn svg(source: &FigureInput<'_>, group: Group) -> Option<String> {
    let starts = starts(source, group);
    if starts.is_empty() {
        return None;
    }
    let top = 96.0;
    let bottom = top + ROW * starts.len() as f64;
    let caption = provenance(&source.run.environment);
    let longest = starts.iter().map(|start| start.total()).fold(0.0, f64::max);
    let axis = Axis::linear(Quantity::Nanoseconds, 0.0, longest);
    let title = format!("Start-up, each in a fresh process — {group}");
    let size = (WIDTH, bottom + 66.0 + 16.0 * caption.len() as f64);
    let svg = canvas::svg(&title, size, &[], |canvas| {
        canvas.text(&title, (16.0, 20.0), 16.0, INK, Anchor::Start);
        write_lines(canvas, &notes(&starts), 41.0, FAINT);
        draw_key(canvas, 74.0);
        draw_axis(canvas, &axis, top, bottom);
        for (i, start) in starts.iter().enumerate() {
            draw_start(canvas, &axis, start, top + ROW * i as f64);
        }
        write_lines(canvas, &caption, bottom + 66.0, FAINT);
    });
    Some(svg)
}

fn starts(source: &FigureInput<'_>, group: Group) -> Vec<Start> {
    let strategies = source.found.strategies(group, Metric::FirstStepNs).into_iter();
    let cases = strategies.flat_map(|s| {
        let positions = source.found.positions(group, s, Metric::FirstStepNs).into_iter();
        positions.map(move |t| group.case(s, t))
    });
    cases.filter_map(|case| start(source, case)).collect()
}

fn start(source: &FigureInput<'_>, case: Case) -> Option<Start> {
    let median = |metric| source.found.median(&case, metric);
    let first = median(Metric::FirstStepNs)?;
    let steady = steady_step(source, &case);
    let rest = first.map(|ns| (ns - steady.unwrap_or(0.0)).max(0.0));
    let none = Estimate { value: 0.0, lo: 0.0, hi: 0.0, n: 0, confidence: 0.0 };
    let phases =
        [median(Metric::LoadNs).unwrap_or(none), median(Metric::CacheCreateNs).unwrap_or(none), rest];
    Some(Start { case, phases, steady: steady.is_some(), n: first.n })
}

/// The median step at the same position, or at the nearest one measured.
fn steady_step(source: &FigureInput<'_>, case: &Case) -> Option<f64> {
    let positions = source.found.positions(Group::of(case), case.strategy, Metric::StepNs);
    let nearest = positions.into_iter().min_by_key(|t| t.abs_diff(case.position))?;
    Some(source.found.median(&case.at(nearest), Metric::StepNs)?.value)
}

fn notes(starts: &[Start]) -> Vec<String> {
    let least = starts.iter().map(|start| start.n).min().unwrap_or(0);
    let most = starts.iter().map(|start| start.n).max().unwrap_or(0);
    let n = if least == most { format!("n = {most}") } else { format!("n = {least} to {most}") };
    let mut note = format!("Medians of {n} processes, with their 95 % intervals.");
    if starts.iter().any(|start| !start.steady) {
        note.push_str(" Where no steady step was measured, the whole first step is shown.");
    }
    vec![note]
}

fn draw_key(canvas: &mut Canvas, y: f64) {
    let mut x = LEFT;
    for (name, color, hatch) in PHASES {
        draw_box(canvas, (x, y - 6.0), (x + 22.0, y + 6.0), color, hatch);
        canvas.text(name, (x + 28.0, y), 12.0, INK, Anchor::Start);
        x += 28.0 + text_width(name, 12.0) + 24.0;
    }
}

fn column(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.place(value) * (RIGHT - LEFT)
}

fn draw_axis(canvas: &mut Canvas, axis: &Axis, top: f64, bottom: f64) {
    for (value, label) in axis.labels() {
        let x = column(axis, value);
        canvas.line(&[(x, top), (x, bottom)], GRID, 0.8);
        canvas.line(&[(x, bottom), (x, bottom + 5.0)], INK, 1.0);
        canvas.text(&label, (x, bottom + 16.0), 12.0, INK, Anchor::Middle);
    }
    canvas.line(&[(LEFT, top), (LEFT, bottom), (RIGHT, bottom)], INK, 1.0);
    let middle = ((LEFT + RIGHT) / 2.0, bottom + 40.0);
    canvas.text("time before the first token", middle, 12.0, INK, Anchor::Middle);
}

/// A bar, and below it the same in numbers: some phases are too short to be seen.
fn draw_start(canvas: &mut Canvas, axis: &Axis, start: &Start, top: f64) {
    let Case { strategy, position, .. } = start.case;
    canvas.text(&strategy.to_string(), (LEFT - 10.0, top + 15.0), 12.0, INK, Anchor::End);
    canvas.text(&format!("position {position}"), (LEFT - 10.0, top + 31.0), 11.0, FAINT, Anchor::End);
    let time = Quantity::Nanoseconds;
    let parts = start.phases.map(|phase| time.show_estimate(phase));
    let mut from = 0.0;
    for ((phase, part), (name, color, hatch)) in start.phases.iter().zip(&parts).zip(PHASES) {
        let (left, right) = (column(axis, from), column(axis, from + phase.value));
        canvas.group(&[], |canvas| {
            canvas.title(&format!("{strategy}, position {position}, {name}: {part}"));
            draw_box(canvas, (left, top + 6.0), (right, top + 24.0), color, hatch);
        });
        from += phase.value;
    }
    let sum = format!("{}  =  {}", parts.join("  +  "), time.show(start.total()));
    canvas.text(&sum, (LEFT + 6.0, top + 36.0), 11.0, INK, Anchor::Start);
}

fn draw_box(canvas: &mut Canvas, from: Point, to: Point, color: Color, hatch: Hatch) {
    let corners = [from, (to.0, from.1), to, (from.0, to.1), from];
    canvas.area(&corners, color, 1.0);
    let (width, height) = (to.0 - from.0, to.1 - from.1);
    let mut at = 5.0;
    while hatch != Hatch::None && at < width + height {
        let clip = |x: f64| x.clamp(0.0, width);
        let (a, b) = (clip(at), clip(at - height));
        let (y_a, y_b) = (at - a, at - b); // on the line x + y = at
        let y = |y: f64| if hatch == Hatch::Down { to.1 - y } else { from.1 + y };
        canvas.line(&[(from.0 + a, y(y_a)), (from.0 + b, y(y_b))], INK, 0.7);
        at += 5.0;
    }
    canvas.line(&corners, INK, 0.8);
}
