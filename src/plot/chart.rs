//! Curves over positions, in one panel or several below each other. Every curve is named where it
//! ends, so that no legend has to be searched.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::Axis;
use super::canvas::{self, text_width, Anchor, Canvas, Color, Point, FAINT, GRID, INK, WHITE};
use super::labels::spread;
use super::style::{Marker, Style};
use crate::analysis::median_of;
use crate::units::Quantity;

/// A point of a curve and its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dot {
    pub x: f64,
    pub y: f64,
    pub lo: f64,
    pub hi: f64,
}

impl Dot {
    fn show(&self, quantity: Quantity) -> String {
        let &Dot { y: value, lo, hi, .. } = self;
        match lo < hi {
            true => quantity.show_interval(value, lo, hi),
            false => quantity.show(value),
        }
    }
}

pub struct Curve {
    /// One, or those of all curves that lie on it.
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

    fn positions(&self) -> impl Iterator<Item = i64> + '_ {
        let others = self.others.iter().map(|point| point.0);
        self.dots().map(|dot| dot.x).chain(others).map(|x| x as i64)
    }

    /// Everything that has to be inside the frame.
    pub fn heights(&self) -> impl Iterator<Item = f64> + '_ {
        let dots = self.dots().flat_map(|dot| [dot.lo, dot.y, dot.hi]);
        dots.chain(self.others.iter().map(|point| point.1))
    }

    /// Paints a part of the curve; a reader can hide all of its parts.
    fn group(&self, canvas: &mut Canvas, data: &[(&str, &str)], paint: impl FnOnce(&mut Canvas)) {
        let names = self.names.join(",");
        canvas.group(&[&[("class", "curve"), ("data-names", &names)], data].concat(), |canvas| {
            canvas.title(&self.names.join(", "));
            paint(canvas);
        });
    }

    /// What is read at each of the positions, nothing where there is no dot: `|1.02 [0.900, 1.10] ms|2 ms`.
    fn values(&self, positions: &BTreeSet<i64>, quantity: Quantity) -> String {
        let mut values: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for dot in self.dots() {
            values.entry(dot.x as i64).or_default().push(dot.show(quantity));
        }
        for &(x, y) in &self.others {
            values.entry(x as i64).or_default().push(format!("{} timed as one", quantity.show(y)));
        }
        let texts = positions.iter().map(|x| values.get(x).map(|texts| texts.join(", ")).unwrap_or_default());
        texts.collect::<Vec<_>>().join("|")
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
    /// Hidden with any of these curves.
    pub names: Vec<String>,
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
    place: &'static str,
}

/// Where a position is in the picture.
fn column(axis: &Axis, x: f64) -> f64 {
    LEFT + axis.place(x) * (RIGHT - LEFT)
}

impl Frame<'_> {
    fn at(&self, x: f64, y: f64) -> Point {
        (self.column(x), self.bottom - self.y.place(y) * (self.bottom - self.top))
    }

    fn column(&self, x: f64) -> f64 {
        column(self.x, x)
    }

    /// The same for dots that are nearer to each other than a dash is long.
    fn near(&self, dot: &Dot) -> i64 {
        (self.column(dot.x) / 6.0) as i64
    }
}

impl Chart {
    pub fn svg(&self) -> String {
        let height = [380.0, 290.0, 210.0][self.panels.len().clamp(1, 3) - 1];
        let gap = 22.0;
        let notes = self.all_notes();
        let head = 42.0 + LINE * notes.len() as f64;
        let strip = head + LINE * self.crossings.len() as f64 + 10.0;
        let bottom = strip + self.panels.len() as f64 * (height + gap) - gap;
        let caption = bottom + 66.0;
        let size = (WIDTH, caption + LINE * self.caption.len() as f64);
        let x = Axis::fit(Quantity::Tokens, self.curves().flat_map(Curve::dots).map(|dot| dot.x));
        let positions: BTreeSet<i64> = self.curves().flat_map(Curve::positions).collect();
        let columns = positions.iter().map(|at| canvas::whole(column(&x, *at as f64)).to_string());
        let data = [
            ("data-place", self.place()),
            ("data-positions", &positions.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")),
            ("data-columns", &columns.collect::<Vec<_>>().join(" ")),
        ];
        canvas::svg(&self.title, size, &data, |canvas| {
            canvas.text(&self.title, (LEFT - 70.0, 20.0), 16.0, INK, Anchor::Start);
            write_lines(canvas, &notes, 41.0, FAINT);
            for (i, panel) in self.panels.iter().enumerate() {
                let top = strip + i as f64 * (height + gap);
                let frame = Frame { x: &x, y: &panel.y, top, bottom: top + height, place: self.place() };
                canvas.group(&[("class", "panel"), ("data-title", &panel.y_title)], |canvas| {
                    panel.draw(canvas, &frame, &positions, i + 1 == self.panels.len());
                });
                if i == 0 {
                    self.draw_crossings(canvas, &frame, head);
                }
            }
            canvas.text(self.x_title, ((LEFT + RIGHT) / 2.0, bottom + 40.0), TEXT, INK, Anchor::Middle);
            write_lines(canvas, &self.caption, caption, FAINT);
        })
    }

    pub fn curves(&self) -> impl Iterator<Item = &Curve> {
        self.panels.iter().flat_map(|panel| &panel.curves)
    }

    /// What a number on the horizontal axis is: `position`.
    fn place(&self) -> &'static str {
        self.x_title.split([':', '(']).next().unwrap_or_default().trim_end()
    }

    fn all_notes(&self) -> Vec<String> {
        let pooled = self.curves().flat_map(|curve| &curve.pieces).any(|piece| is_pooled(piece));
        let note = "Thin lines: every position. Thick lines and bands: medians of neighbouring ones.";
        let note = pooled.then_some(note);
        self.notes.iter().cloned().chain(note.map(String::from)).collect()
    }

    /// One row per crossing above the frame, with its interval along the position axis, and a
    /// line down to where the curves cross.
    fn draw_crossings(&self, canvas: &mut Canvas, frame: &Frame<'_>, top: f64) {
        let rows = || self.crossings.iter().enumerate().map(|(i, c)| (c, top + LINE * (i as f64 + 0.5)));
        for (crossed, row) in rows() {
            crossed.group(canvas, |canvas| draw_crossing(canvas, frame, crossed, row));
        }
        // Last, so that no line runs through a text.
        for (crossed, row) in rows() {
            crossed.group(canvas, |canvas| write_crossing(canvas, frame, crossed, row));
        }
    }
}

impl Crossed {
    fn group(&self, canvas: &mut Canvas, paint: impl FnOnce(&mut Canvas)) {
        canvas.group(&[("class", "crossing"), ("data-names", &self.names.join(","))], |canvas| {
            canvas.title(&self.text);
            paint(canvas);
        });
    }
}

fn draw_crossing(canvas: &mut Canvas, frame: &Frame<'_>, crossed: &Crossed, row: f64) {
    let [lo, at, hi] = [crossed.lo, crossed.position, crossed.hi].map(|x| frame.column(x));
    let down = crossed.y.map_or(frame.bottom, |y| frame.at(crossed.position, y).1);
    canvas.dashed(&[(at, row), (at, down)], FAINT, 0.8, &[1.5, 2.5]);
    canvas.line(&[(lo, row), (hi, row)], INK, 1.5);
    for end in [lo, hi] {
        canvas.line(&[(end, row - 3.0), (end, row + 3.0)], INK, 1.5);
    }
    diamond(canvas, (at, row), INK);
    if crossed.y.is_some() {
        diamond(canvas, (at, down), INK);
    }
}

fn write_crossing(canvas: &mut Canvas, frame: &Frame<'_>, crossed: &Crossed, row: f64) {
    let (lo, hi) = (frame.column(crossed.lo), frame.column(crossed.hi));
    let width = text_width(&crossed.text, SMALL);
    let left = if hi + 8.0 + width < WIDTH { hi + 8.0 } else { lo - 8.0 - width };
    let (top, bottom, right) = (row - 6.5, row + 6.5, left + width);
    canvas.area(&[(left, top), (right, top), (right, bottom), (left, bottom)], WHITE, 1.0);
    canvas.text(&crossed.text, (left, row), SMALL, INK, Anchor::Start);
}

fn diamond(canvas: &mut Canvas, at: Point, color: Color) {
    canvas.shape(&Marker::Diamond.outline(at, 4.0), color, false);
}

pub fn write_lines(canvas: &mut Canvas, lines: &[String], top: f64, color: Color) {
    for (i, line) in lines.iter().enumerate() {
        canvas.text(line, (LEFT - 70.0, top + LINE * i as f64), SMALL, color, Anchor::Start);
    }
}

impl Panel {
    pub fn new(y_title: &str, quantity: Quantity, curves: Vec<Curve>, rule: Option<(f64, String)>) -> Panel {
        let values = curves.iter().flat_map(Curve::heights).chain(rule.iter().map(|(value, _)| *value));
        let y = Axis::fit(quantity, values);
        Panel { y_title: y_title.into(), y, curves, rule }
    }

    fn draw(&self, canvas: &mut Canvas, frame: &Frame<'_>, positions: &BTreeSet<i64>, last: bool) {
        draw_axes(canvas, frame, last);
        canvas.text_upwards(&self.y_title, (LEFT - 68.0, (frame.top + frame.bottom) / 2.0), TEXT, INK);
        if let Some((value, _)) = self.rule {
            let y = frame.at(1.0, value).1;
            canvas.line(&[(LEFT, y), (RIGHT, y)], INK, 1.0);
        }
        for curve in &self.curves {
            curve.group(canvas, &[], |canvas| draw_band(canvas, frame, curve));
        }
        for curve in &self.curves {
            let values = curve.values(positions, self.y.quantity);
            curve.group(canvas, &[("data-values", &values)], |canvas| draw_lines(canvas, frame, curve));
        }
        for (i, curve) in self.curves.iter().enumerate() {
            let turn = i as f64 / self.curves.len() as f64;
            curve.group(canvas, &[], |canvas| draw_markers(canvas, frame, curve, turn));
        }
        self.draw_labels(canvas, frame);
        // Moved to the position that a reader points at.
        canvas.group(&[("class", "cursor"), ("display", "none")], |canvas| {
            canvas.line(&[(0.0, frame.top), (0.0, frame.bottom)], INK, 1.0);
        });
    }
}

fn draw_axes(canvas: &mut Canvas, frame: &Frame<'_>, numbers: bool) {
    let &Frame { x, y, top, bottom, .. } = frame;
    let across = |values: &[f64], left: f64, right: f64| -> Vec<Vec<Point>> {
        let rows = values.iter().map(|value| frame.at(1.0, *value).1);
        rows.map(|row| vec![(left, row), (right, row)]).collect()
    };
    let upright = |values: &[f64], top: f64, bottom: f64| -> Vec<Vec<Point>> {
        let columns = values.iter().map(|value| frame.column(*value));
        columns.map(|column| vec![(column, top), (column, bottom)]).collect()
    };
    let (rows, labels): (Vec<f64>, Vec<String>) = y.labels().into_iter().unzip();
    canvas.lines(&across(&rows, LEFT, RIGHT), GRID, 0.8);
    canvas.lines(&across(&rows, LEFT - 5.0, LEFT), INK, 1.0);
    for (row, label) in rows.iter().zip(&labels) {
        canvas.text(label, (LEFT - 8.0, frame.at(1.0, *row).1), TEXT, INK, Anchor::End);
    }
    let (columns, labels): (Vec<f64>, Vec<String>) = x.labels().into_iter().unzip();
    canvas.lines(&upright(&columns, top, bottom), GRID, 0.8);
    canvas.lines(&upright(&columns, bottom, bottom + 5.0), INK, 1.0);
    for (column, label) in columns.iter().zip(&labels).filter(|_| numbers) {
        canvas.text(label, (frame.column(*column), bottom + 16.0), TEXT, INK, Anchor::Middle);
    }
    canvas.lines(&across(&y.minor, LEFT - 2.5, LEFT), INK, 0.6);
    canvas.lines(&upright(&x.minor, bottom, bottom + 2.5), INK, 0.6);
    canvas.line(&[(LEFT, top), (LEFT, bottom), (RIGHT, bottom)], INK, 1.0);
    if let Some(share) = y.broken_at() {
        draw_break(canvas, bottom - share * (bottom - top));
    }
}

/// Two strokes across the axis: below them is zero, and no scale.
fn draw_break(canvas: &mut Canvas, y: f64) {
    canvas.area(
        &[(LEFT - 3.0, y), (LEFT + 3.0, y - 3.0), (LEFT + 3.0, y + 1.0), (LEFT - 3.0, y + 4.0)],
        WHITE,
        1.0,
    );
    canvas.line(&[(LEFT - 5.0, y + 1.0), (LEFT + 5.0, y - 4.0)], INK, 1.0);
    canvas.line(&[(LEFT - 5.0, y + 5.0), (LEFT + 5.0, y)], INK, 1.0);
}

/// The interval: a band along a line, a whisker at a single point.
fn draw_band(canvas: &mut Canvas, frame: &Frame<'_>, curve: &Curve) {
    for piece in curve.pieces.iter().filter(|piece| piece.iter().any(|dot| dot.lo < dot.hi)) {
        let dots = pooled(piece, |dot| frame.near(dot));
        let upper = dots.iter().map(|dot| frame.at(dot.x, dot.hi));
        let lower = dots.iter().rev().map(|dot| frame.at(dot.x, dot.lo));
        canvas.area(&upper.chain(lower).collect::<Vec<_>>(), curve.style.color, 0.2);
        for dot in dots.iter().filter(|_| piece.len() <= DENSE) {
            canvas.line(&[frame.at(dot.x, dot.lo), frame.at(dot.x, dot.hi)], curve.style.color, 1.0);
        }
    }
}

fn draw_lines(canvas: &mut Canvas, frame: &Frame<'_>, curve: &Curve) {
    let line = |dots: &[Dot]| -> Vec<Point> { dots.iter().map(|dot| frame.at(dot.x, dot.y)).collect() };
    for piece in &curve.pieces {
        let few = pooled(piece, |dot| frame.near(dot));
        if few.len() < piece.len() {
            canvas.group(&[("class", "every")], |canvas| {
                canvas.line(&line(piece), pale(curve.style.color), 0.5);
            });
        }
        canvas.dashed(&line(&few), curve.style.color, 1.8, curve.style.dashes);
    }
    if let Some((from, to)) = curve.fit {
        canvas.line(&[frame.at(from.0, from.1), frame.at(to.0, to.1)], INK, 0.7);
    }
}

/// More points than this are a line with a marker here and there.
const DENSE: usize = 24;

/// Whether a piece has noise, and more of it than a line can show.
fn is_pooled(piece: &[Dot]) -> bool {
    piece.len() > DENSE && piece.iter().any(|dot| dot.lo < dot.hi)
}

/// The medians of the neighbouring dots that share a column, or the dots as they are if they are
/// few or exact.
fn pooled(piece: &[Dot], column: impl Fn(&Dot) -> i64) -> Vec<Dot> {
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

fn pale(color: Color) -> Color {
    let towards_white = |c: u8| 255 - (255 - c) / 2;
    Color(towards_white(color.0), towards_white(color.1), towards_white(color.2))
}

/// Each marker says what it stands for.
fn draw_markers(canvas: &mut Canvas, frame: &Frame<'_>, curve: &Curve, turn: f64) {
    let Style { color, marker, .. } = curve.style;
    let near = if curve.pieces.iter().any(|piece| is_pooled(piece)) { "about " } else { "" };
    let said =
        |x: f64, what: &str| format!("{}, {} {near}{x:.0}: {what}", curve.names.join(", "), frame.place);
    let dots: Vec<Dot> = curve.pieces.iter().flat_map(|piece| pooled(piece, |dot| frame.near(dot))).collect();
    let dots: Vec<&Dot> = dots.iter().collect();
    for dot in sparse(&dots, frame, turn) {
        canvas.group(&[], |canvas| {
            canvas.title(&said(dot.x, &dot.show(frame.y.quantity)));
            canvas.shape(&marker.outline(frame.at(dot.x, dot.y), 3.6), color, false);
        });
    }
    for &(x, y) in &curve.others {
        canvas.group(&[], |canvas| {
            canvas.title(&said(x, &format!("{} timed as one", frame.y.quantity.show(y))));
            canvas.shape(&marker.outline(frame.at(x, y), 5.0), color, true);
        });
    }
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
    curve: Option<&'a Curve>,
    /// Each with its size.
    lines: Vec<(String, f64)>,
}

const LABEL_LINE: f64 = 14.0;

impl<'a> Label<'a> {
    fn of_curve(frame: &Frame<'_>, curve: &'a Curve) -> Option<Label<'a>> {
        let end = curve.dots().last()?;
        let names = curve.names.chunks(2).map(|names| (names.join(", "), TEXT));
        let details = curve.details.iter().map(|text| (text.clone(), SMALL - 1.0));
        let lines = names.chain(details).collect();
        Some(Label { from: frame.at(end.x, end.y), curve: Some(curve), lines })
    }

    fn of_rule(frame: &Frame<'_>, (value, what): &(f64, String)) -> Label<'a> {
        let from = (RIGHT - 5.0, frame.at(1.0, *value).1);
        Label { from, curve: None, lines: vec![(what.clone(), TEXT)] }
    }

    fn height(&self) -> f64 {
        LABEL_LINE * self.lines.len() as f64
    }

    fn draw(&self, canvas: &mut Canvas, centre: f64) {
        match self.curve {
            Some(curve) => curve.group(canvas, &[], |canvas| self.draw_lines(canvas, centre)),
            None => self.draw_lines(canvas, centre),
        }
    }

    fn draw_lines(&self, canvas: &mut Canvas, centre: f64) {
        let first = centre - (self.height() - LABEL_LINE) / 2.0;
        let color = self.curve.map_or(INK, |curve| curve.style.color);
        canvas.dashed(&[(self.from.0 + 5.0, self.from.1), (LABELS - 4.0, first)], color, 0.7, &[1.0, 2.0]);
        match self.curve {
            Some(curve) => draw_sample(canvas, curve.style, (LABELS, first)),
            None => canvas.line(&[(LABELS, first), (LABELS + SAMPLE, first)], color, 1.8),
        }
        for (i, (text, size)) in self.lines.iter().enumerate() {
            let at = (LABELS + SAMPLE + 6.0, first + LABEL_LINE * i as f64);
            canvas.text(text, at, *size, INK, Anchor::Start);
        }
    }
}

const SAMPLE: f64 = 30.0;

/// A piece of a curve, from here on to the right.
fn draw_sample(canvas: &mut Canvas, style: Style, (x, y): Point) {
    canvas.dashed(&[(x, y), (x + SAMPLE, y)], style.color, 1.8, style.dashes);
    canvas.shape(&style.marker.outline((x + SAMPLE / 2.0, y), 3.6), style.color, false);
}

/// The same as a picture of its own, for a list of curves.
pub fn sample(name: &str, style: Style) -> String {
    canvas::svg(name, (SAMPLE, LABEL_LINE), &[], |canvas| draw_sample(canvas, style, (0.0, LABEL_LINE / 2.0)))
}

impl Panel {
    /// Names, each beside the end of its curve and none over another.
    fn draw_labels(&self, canvas: &mut Canvas, frame: &Frame<'_>) {
        let curves = self.curves.iter().filter_map(|curve| Label::of_curve(frame, curve));
        let rule = self.rule.iter().map(|rule| Label::of_rule(frame, rule));
        let mut labels: Vec<Label<'_>> = curves.chain(rule).collect();
        labels.sort_by(|a, b| a.from.1.total_cmp(&b.from.1));
        let wanted: Vec<(f64, f64)> =
            labels.iter().map(|label| (label.from.1, label.height() + 3.0)).collect();
        let centres = spread(&wanted, frame.top - 6.0, frame.bottom + 6.0);
        for (label, centre) in labels.iter().zip(centres) {
            label.draw(canvas, centre);
        }
    }
}
