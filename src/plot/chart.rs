//! Curves over positions, in one panel or several below each other. Every curve is named where it
//! ends, so that no legend has to be searched.

use plotters::style::{RGBColor, WHITE};

use super::axis::Axis;
use super::canvas::{self, text_width, Anchor, Canvas, Point, FAINT, GRID, INK};
use super::labels::spread;
use super::style::Style;
use crate::analysis::median_of;
use crate::error::Result;
use crate::units::Quantity;

/// A point of a curve and its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dot {
    pub x: f64,
    pub y: f64,
    pub lo: f64,
    pub hi: f64,
}

pub struct Curve {
    /// What it is called where it ends.
    pub names: Vec<String>,
    /// What is said about it there, in smaller letters.
    pub details: Vec<String>,
    pub style: Style,
    /// Unbroken pieces: a position that failed is a gap.
    pub pieces: Vec<Vec<Dot>>,
    /// A straight line, on logarithmic axes, to show under the curve: its two ends.
    pub fit: Option<(Point, Point)>,
    /// Measured in another way: drawn hollow.
    pub others: Vec<Point>,
}

impl Curve {
    pub fn dots(&self) -> impl Iterator<Item = &Dot> {
        self.pieces.iter().flatten()
    }

    /// Everything that has to be inside the frame.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let dots = self.dots().flat_map(|dot| [dot.lo, dot.y, dot.hi]);
        dots.chain(self.others.iter().map(|point| point.1))
    }
}

pub struct Panel {
    pub y_title: String,
    pub y: Axis,
    pub curves: Vec<Curve>,
    /// A value to compare with, and what it is.
    pub rule: Option<(f64, String)>,
}

/// Where two curves cross.
pub struct Crossed {
    pub text: String,
    pub lo: f64,
    pub position: f64,
    pub hi: f64,
    pub y: Option<f64>,
}

pub struct Chart {
    pub title: String,
    /// How to read it.
    pub notes: Vec<String>,
    pub x_title: &'static str,
    pub panels: Vec<Panel>,
    pub crossings: Vec<Crossed>,
    pub caption: Vec<String>,
}

const WIDTH: f64 = 880.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 664.0;
const LABELS: f64 = 692.0;
const LINE: f64 = 16.0;
const TEXT: f64 = 12.0;
const SMALL: f64 = 11.0;

struct Frame<'a> {
    x: &'a Axis,
    y: &'a Axis,
    top: f64,
    bottom: f64,
}

impl Frame<'_> {
    fn at(&self, x: f64, y: f64) -> Point {
        (self.column(x), self.bottom - self.y.place(y) * (self.bottom - self.top))
    }

    fn column(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (RIGHT - LEFT)
    }

    /// The same for dots that are nearer to each other than a dash is long.
    fn near(&self, dot: &Dot) -> i64 {
        (self.column(dot.x) / 6.0) as i64
    }
}

impl Chart {
    pub fn svg(&self) -> Result<String> {
        let height = [380.0, 290.0, 210.0][self.panels.len().clamp(1, 3) - 1];
        let gap = 22.0;
        let notes = self.all_notes();
        let head = 42.0 + LINE * notes.len() as f64;
        let strip = head + LINE * self.crossings.len() as f64 + 10.0;
        let bottom = strip + self.panels.len() as f64 * (height + gap) - gap;
        let caption = bottom + 66.0;
        let size = (WIDTH, caption + LINE * self.caption.len() as f64);
        let x = Axis::fit(Quantity::Tokens, self.dots().map(|dot| dot.x));
        canvas::svg(&self.title, size, |canvas| {
            canvas.text(&self.title, (LEFT - 70.0, 20.0), 16.0, INK, Anchor::Start)?;
            write_lines(canvas, &notes, 41.0, FAINT)?;
            for (i, panel) in self.panels.iter().enumerate() {
                let top = strip + i as f64 * (height + gap);
                let frame = Frame { x: &x, y: &panel.y, top, bottom: top + height };
                panel.draw(canvas, &frame, i + 1 == self.panels.len())?;
                if i == 0 {
                    self.draw_crossings(canvas, &frame, head)?;
                }
            }
            canvas.text(self.x_title, ((LEFT + RIGHT) / 2.0, bottom + 40.0), TEXT, INK, Anchor::Middle)?;
            write_lines(canvas, &self.caption, caption, FAINT)
        })
    }

    fn dots(&self) -> impl Iterator<Item = &Dot> {
        self.panels.iter().flat_map(|panel| &panel.curves).flat_map(Curve::dots)
    }

    pub fn all_notes(&self) -> Vec<String> {
        let mut pieces = self.panels.iter().flat_map(|panel| &panel.curves).flat_map(|curve| &curve.pieces);
        let pooled = pieces.any(|piece| is_pooled(piece));
        let note = "Thin lines: every position. Thick lines and bands: medians of neighbouring ones.";
        let note = pooled.then_some(note);
        self.notes.iter().cloned().chain(note.map(String::from)).collect()
    }

    /// One row per crossing above the frame, with its interval along the position axis, and a
    /// line down to where the curves cross.
    fn draw_crossings(&self, canvas: &Canvas<'_>, frame: &Frame<'_>, top: f64) -> Result<()> {
        let row = |i: usize| top + LINE * (i as f64 + 0.5);
        for (i, crossed) in self.crossings.iter().enumerate() {
            draw_crossing(canvas, frame, crossed, row(i))?;
        }
        // Last, so that no line runs through a text.
        for (i, crossed) in self.crossings.iter().enumerate() {
            write_crossing(canvas, frame, crossed, row(i))?;
        }
        Ok(())
    }
}

fn draw_crossing(canvas: &Canvas<'_>, frame: &Frame<'_>, crossed: &Crossed, row: f64) -> Result<()> {
    let [lo, at, hi] = [crossed.lo, crossed.position, crossed.hi].map(|x| frame.column(x));
    let down = crossed.y.map_or(frame.bottom, |y| frame.at(crossed.position, y).1);
    canvas.dashed(&[(at, row), (at, down)], FAINT, 0.8, &[1.5, 2.5])?;
    canvas.line(&[(lo, row), (hi, row)], INK, 1.5)?;
    for end in [lo, hi] {
        canvas.line(&[(end, row - 3.0), (end, row + 3.0)], INK, 1.5)?;
    }
    diamond(canvas, (at, row), INK)?;
    if crossed.y.is_some() {
        diamond(canvas, (at, down), INK)?;
    }
    Ok(())
}

fn write_crossing(canvas: &Canvas<'_>, frame: &Frame<'_>, crossed: &Crossed, row: f64) -> Result<()> {
    let (lo, hi) = (frame.column(crossed.lo), frame.column(crossed.hi));
    let width = text_width(&crossed.text, SMALL);
    let left = if hi + 8.0 + width < WIDTH { hi + 8.0 } else { lo - 8.0 - width };
    let (top, bottom, right) = (row - 6.5, row + 6.5, left + width);
    canvas.area(&[(left, top), (right, top), (right, bottom), (left, bottom)], WHITE, 1.0)?;
    canvas.text(&crossed.text, (left, row), SMALL, INK, Anchor::Start)
}

fn diamond(canvas: &Canvas<'_>, at: Point, color: RGBColor) -> Result<()> {
    canvas.shape(&super::style::Marker::Diamond.outline(at, 4.0), color, false)
}

pub fn write_lines(canvas: &Canvas<'_>, lines: &[String], top: f64, color: RGBColor) -> Result<()> {
    let mut rows = lines.iter().enumerate();
    rows.try_for_each(|(i, line)| {
        canvas.text(line, (LEFT - 70.0, top + LINE * i as f64), SMALL, color, Anchor::Start)
    })
}

impl Panel {
    pub fn new(y_title: &str, quantity: Quantity, curves: Vec<Curve>, rule: Option<(f64, String)>) -> Panel {
        let values = curves.iter().flat_map(Curve::values).chain(rule.iter().map(|(value, _)| *value));
        let y = Axis::fit(quantity, values);
        Panel { y_title: y_title.into(), y, curves, rule }
    }

    fn draw(&self, canvas: &Canvas<'_>, frame: &Frame<'_>, last: bool) -> Result<()> {
        draw_axes(canvas, frame, last)?;
        canvas.text_upwards(&self.y_title, (LEFT - 68.0, (frame.top + frame.bottom) / 2.0), TEXT, INK)?;
        if let Some((value, _)) = self.rule {
            let y = frame.at(1.0, value).1;
            canvas.line(&[(LEFT, y), (RIGHT, y)], INK, 1.0)?;
        }
        self.curves.iter().try_for_each(|curve| draw_band(canvas, frame, curve))?;
        self.curves.iter().try_for_each(|curve| draw_lines(canvas, frame, curve))?;
        let of = self.curves.len();
        self.curves
            .iter()
            .enumerate()
            .try_for_each(|(i, curve)| draw_markers(canvas, frame, curve, i, of))?;
        self.draw_labels(canvas, frame)
    }
}

fn draw_axes(canvas: &Canvas<'_>, frame: &Frame<'_>, numbers: bool) -> Result<()> {
    let &Frame { x, y, top, bottom } = frame;
    for (value, label) in y.labels() {
        let row = frame.at(1.0, value).1;
        canvas.line(&[(LEFT, row), (RIGHT, row)], GRID, 0.8)?;
        canvas.line(&[(LEFT - 5.0, row), (LEFT, row)], INK, 1.0)?;
        canvas.text(&label, (LEFT - 8.0, row), TEXT, INK, Anchor::End)?;
    }
    for (value, label) in x.labels() {
        let column = frame.column(value);
        canvas.line(&[(column, top), (column, bottom)], GRID, 0.8)?;
        canvas.line(&[(column, bottom), (column, bottom + 5.0)], INK, 1.0)?;
        if numbers {
            canvas.text(&label, (column, bottom + 16.0), TEXT, INK, Anchor::Middle)?;
        }
    }
    for &value in &y.minor {
        let row = frame.at(1.0, value).1;
        canvas.line(&[(LEFT - 2.5, row), (LEFT, row)], INK, 0.6)?;
    }
    for &value in &x.minor {
        canvas.line(&[(frame.column(value), bottom), (frame.column(value), bottom + 2.5)], INK, 0.6)?;
    }
    canvas.line(&[(LEFT, top), (LEFT, bottom), (RIGHT, bottom)], INK, 1.0)?;
    y.broken_at().map_or(Ok(()), |share| draw_break(canvas, bottom - share * (bottom - top)))
}

/// Two strokes across the axis: below them is zero, and no scale.
fn draw_break(canvas: &Canvas<'_>, y: f64) -> Result<()> {
    canvas.area(
        &[(LEFT - 3.0, y), (LEFT + 3.0, y - 3.0), (LEFT + 3.0, y + 1.0), (LEFT - 3.0, y + 4.0)],
        WHITE,
        1.0,
    )?;
    canvas.line(&[(LEFT - 5.0, y + 1.0), (LEFT + 5.0, y - 4.0)], INK, 1.0)?;
    canvas.line(&[(LEFT - 5.0, y + 5.0), (LEFT + 5.0, y)], INK, 1.0)
}

/// The interval: a band along a line, a whisker at a single point.
fn draw_band(canvas: &Canvas<'_>, frame: &Frame<'_>, curve: &Curve) -> Result<()> {
    for piece in curve.pieces.iter().filter(|piece| piece.iter().any(|dot| dot.lo < dot.hi)) {
        let dots = pooled(piece, |dot| frame.near(dot));
        let upper = dots.iter().map(|dot| frame.at(dot.x, dot.hi));
        let lower = dots.iter().rev().map(|dot| frame.at(dot.x, dot.lo));
        canvas.area(&upper.chain(lower).collect::<Vec<_>>(), curve.style.color, 0.2)?;
        for dot in dots.iter().filter(|_| piece.len() <= DENSE) {
            canvas.line(&[frame.at(dot.x, dot.lo), frame.at(dot.x, dot.hi)], curve.style.color, 1.0)?;
        }
    }
    Ok(())
}

fn draw_lines(canvas: &Canvas<'_>, frame: &Frame<'_>, curve: &Curve) -> Result<()> {
    let line = |dots: &[Dot]| -> Vec<Point> { dots.iter().map(|dot| frame.at(dot.x, dot.y)).collect() };
    for piece in &curve.pieces {
        let few = pooled(piece, |dot| frame.near(dot));
        if few.len() < piece.len() {
            canvas.line(&line(piece), pale(curve.style.color), 0.5)?;
        }
        canvas.dashed(&line(&few), curve.style.color, 1.8, curve.style.dashes)?;
    }
    if let Some((from, to)) = curve.fit {
        canvas.line(&[frame.at(from.0, from.1), frame.at(to.0, to.1)], INK, 0.7)?;
    }
    Ok(())
}

/// More points than this are a line with a marker here and there.
const DENSE: usize = 24;

/// Whether a piece has noise, and more of it than a line can show.
fn is_pooled(piece: &[Dot]) -> bool {
    piece.len() > DENSE && piece.iter().any(|dot| dot.lo < dot.hi)
}

/// The medians of the neighbouring dots that share a column, or the dots as they are if they are
/// few or exact.
pub fn pooled(piece: &[Dot], column: impl Fn(&Dot) -> i64) -> Vec<Dot> {
    if !is_pooled(piece) {
        return piece.to_vec();
    }
    let of = |dots: &[Dot], value: fn(&Dot) -> f64| median_of(&dots.iter().map(value).collect::<Vec<_>>());
    let pool = |dots: &[Dot]| {
        Some(Dot {
            x: of(dots, |d| d.x)?,
            y: of(dots, |d| d.y)?,
            lo: of(dots, |d| d.lo)?,
            hi: of(dots, |d| d.hi)?,
        })
    };
    piece.chunk_by(|a, b| column(a) == column(b)).filter_map(pool).collect()
}

fn pale(color: RGBColor) -> RGBColor {
    let towards_white = |c: u8| 255 - (255 - c) / 2;
    RGBColor(towards_white(color.0), towards_white(color.1), towards_white(color.2))
}

fn draw_markers(
    canvas: &Canvas<'_>,
    frame: &Frame<'_>,
    curve: &Curve,
    index: usize,
    of: usize,
) -> Result<()> {
    let dots: Vec<Dot> = curve.pieces.iter().flat_map(|piece| pooled(piece, |dot| frame.near(dot))).collect();
    let dots: Vec<&Dot> = dots.iter().collect();
    for dot in sparse(&dots, frame, index as f64 / of as f64) {
        canvas.shape(&curve.style.marker.outline(frame.at(dot.x, dot.y), 3.6), curve.style.color, false)?;
    }
    for &(x, y) in &curve.others {
        canvas.shape(&curve.style.marker.outline(frame.at(x, y), 5.0), curve.style.color, true)?;
    }
    Ok(())
}

/// All dots if they are few; or else about one in 80 points of the picture, those of different
/// curves at different places.
fn sparse<'d>(dots: &[&'d Dot], frame: &Frame<'_>, turn: f64) -> Vec<&'d Dot> {
    if dots.len() <= DENSE {
        return dots.to_vec();
    }
    let mut next = LEFT + 80.0 * turn;
    let mut chosen = Vec::new();
    for dot in dots {
        let column = frame.column(dot.x);
        if column >= next {
            chosen.push(*dot);
            next += 80.0 * ((column - next) / 80.0).floor() + 80.0;
        }
    }
    chosen
}

/// What stands beside the end of a curve, or of the rule.
struct Label<'a> {
    from: Point,
    style: Option<Style>,
    names: &'a [String],
    details: &'a [String],
}

const LABEL_LINE: f64 = 14.0;

impl Label<'_> {
    fn lines(&self) -> usize {
        self.names.len() + self.details.len()
    }

    fn draw(&self, canvas: &Canvas<'_>, centre: f64) -> Result<()> {
        let first = centre - LABEL_LINE * (self.lines() - 1) as f64 / 2.0;
        let (color, dashes) = self.style.map_or((INK, &[][..]), |style| (style.color, style.dashes));
        canvas.dashed(&[(self.from.0 + 5.0, self.from.1), (LABELS - 4.0, first)], color, 0.7, &[1.0, 2.0])?;
        canvas.dashed(&[(LABELS, first), (LABELS + 30.0, first)], color, 1.8, dashes)?;
        if let Some(style) = self.style {
            canvas.shape(&style.marker.outline((LABELS + 15.0, first), 3.6), color, false)?;
        }
        let names = self.names.iter().map(|text| (text, TEXT));
        let mut texts = names.chain(self.details.iter().map(|text| (text, SMALL - 1.0))).enumerate();
        texts.try_for_each(|(i, (text, size))| {
            canvas.text(text, (LABELS + 36.0, first + LABEL_LINE * i as f64), size, INK, Anchor::Start)
        })
    }
}

impl Panel {
    /// Names, each beside the end of its curve and none over another.
    fn draw_labels(&self, canvas: &Canvas<'_>, frame: &Frame<'_>) -> Result<()> {
        let curves = self.curves.iter().filter_map(|curve| {
            let Curve { names, details, style, .. } = curve;
            let end = curve.dots().last()?;
            Some(Label { from: frame.at(end.x, end.y), style: Some(*style), names, details })
        });
        let rule = self.rule.as_ref().map(|(value, what)| Label {
            from: (RIGHT - 5.0, frame.at(1.0, *value).1),
            style: None,
            names: std::slice::from_ref(what),
            details: &[],
        });
        let mut labels: Vec<Label<'_>> = curves.chain(rule).collect();
        labels.sort_by(|a, b| a.from.1.total_cmp(&b.from.1));
        let wanted: Vec<(f64, f64)> =
            labels.iter().map(|label| (label.from.1, LABEL_LINE * label.lines() as f64 + 3.0)).collect();
        let centres = spread(&wanted, frame.top - 6.0, frame.bottom + 6.0);
        labels.iter().zip(centres).try_for_each(|(label, centre)| label.draw(canvas, centre))
    }
}
