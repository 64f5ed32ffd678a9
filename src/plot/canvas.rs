//! The few shapes that figures are made of, drawn by plotters. Lengths are in points of the final
//! picture; plotters counts in whole units, so a canvas has [`FINE`] of them to a point.
//!
//! plotters knows no groups and no titles: each shape is a drawing of its own, whose elements are taken over into
//! the figure, between the lines of its groups.

use std::fmt::{self, Write};

use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontDesc, FontFamily, FontStyle, FontTransform, ShapeStyle, TextStyle};

pub use plotters::style::{RGBColor as Color, WHITE};

use crate::harmless::xml;

const FINE: f64 = 8.0;
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";
/// plotters divides a font's size by this before it writes it.
const FONT_SCALE: f64 = 1.24;

pub type Point = (f64, f64);

pub const INK: Color = Color(0x22, 0x22, 0x22);
pub const FAINT: Color = Color(0x66, 0x66, 0x66);
pub const GRID: Color = Color(0xdd, 0xdd, 0xdd);

#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// The elements drawn so far, one a line.
pub struct Canvas {
    svg: String,
    /// Width and height in units.
    size: (u32, u32),
}

/// How wide a text is, near enough to keep it from running into another.
pub fn text_width(text: &str, size: f64) -> f64 {
    let narrow = |c: char| {
        matches!(c, 'i' | 'l' | 'j' | 't' | 'f' | '.' | ',' | ' ' | '[' | ']' | '(' | ')' | ':' | '|')
    };
    text.chars().map(|c| if narrow(c) { 0.37 } else { 0.63 }).sum::<f64>() * size
}

/// Draws a figure and gives its SVG: the same bytes for the same drawing.
pub fn svg(title: &str, size: Point, data: &[(&str, &str)], paint: impl FnOnce(&mut Canvas)) -> String {
    let (width, height) = unit(size);
    let mut canvas = Canvas { svg: String::new(), size: (width as u32, height as u32) };
    canvas.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\"{}>",
        size.0,
        size.1,
        attributes(data)
    ));
    canvas.title(title);
    canvas.draw(|backend| backend.draw_rect((0, 0), (width, height), &WHITE, true));
    paint(&mut canvas);
    canvas.put(format_args!("</svg>"));
    canvas.svg
}

impl Canvas {
    /// What is painted becomes one element, with these attributes.
    pub fn group(&mut self, data: &[(&str, &str)], paint: impl FnOnce(&mut Canvas)) {
        self.put(format_args!("<g{}>", attributes(data)));
        paint(self);
        self.put(format_args!("</g>"));
    }

    /// What is said where the pointer rests on the group that this begins.
    pub fn title(&mut self, text: &str) {
        self.put(format_args!("<title>{}</title>", xml(text)));
    }

    pub fn line(&mut self, points: &[Point], color: Color, width: f64) {
        self.lines(&[points.to_vec()], color, width);
    }

    /// `dashes`: lengths drawn and left out in turn; none for an unbroken line.
    pub fn dashed(&mut self, points: &[Point], color: Color, width: f64, dashes: &[f64]) {
        match dashes {
            [] => self.line(points, color, width),
            _ => self.lines(&cut(points, dashes), color, width),
        }
    }

    pub fn lines(&mut self, pieces: &[Vec<Point>], color: Color, width: f64) {
        let style = ShapeStyle { color: color.into(), filled: false, stroke_width: (width * FINE) as u32 };
        let mut pieces = pieces.iter().filter(|piece| piece.len() > 1);
        let drawn =
            drawn(self.size, |backend| pieces.try_for_each(|piece| backend.draw_path(units(piece), &style)));
        self.svg += &as_one_path(&drawn);
    }

    pub fn area(&mut self, outline: &[Point], color: Color, opacity: f64) {
        self.draw(|backend| backend.fill_polygon(units(outline), &color.mix(opacity)));
    }

    /// A filled shape with a white edge, so that it shows on top of lines.
    pub fn shape(&mut self, outline: &[Point], color: Color, hollow: bool) {
        let closed: Vec<Point> = outline.iter().chain(&outline[..1]).copied().collect();
        let (inside, edge, width) = if hollow { (WHITE, color, 1.4) } else { (color, WHITE, 0.8) };
        self.area(outline, inside, 1.0);
        self.line(&closed, edge, width);
    }

    pub fn text(&mut self, text: &str, at: Point, size: f64, color: Color, anchor: Anchor) {
        self.write(text, at, size, color, anchor, FontTransform::None);
    }

    /// Upwards, centred.
    pub fn text_upwards(&mut self, text: &str, at: Point, size: f64, color: Color) {
        self.write(text, at, size, color, Anchor::Middle, FontTransform::Rotate270);
    }

    fn write(&mut self, text: &str, at: Point, size: f64, color: Color, anchor: Anchor, turn: FontTransform) {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = FontDesc::new(FontFamily::Name(FONT), size * FINE * FONT_SCALE, FontStyle::Normal);
        let style =
            TextStyle::from(font.transform(turn)).color(&color).pos(Pos::new(horizontal, VPos::Center));
        self.draw(|backend| backend.draw_text(text, &style, unit(at)));
    }

    fn draw<E: fmt::Debug>(&mut self, paint: impl FnOnce(&mut SVGBackend<'_>) -> Result<(), E>) {
        self.svg += &drawn(self.size, paint);
    }

    fn put(&mut self, element: fmt::Arguments<'_>) {
        let _ = writeln!(self.svg, "{element}"); // a string takes everything
    }
}

/// What plotters draws, without the `svg` element around it and what is so anyway.
fn drawn<E: fmt::Debug>(
    size: (u32, u32),
    paint: impl FnOnce(&mut SVGBackend<'_>) -> Result<(), E>,
) -> String {
    let mut drawing = String::new();
    let mut backend = SVGBackend::with_string(&mut drawing, size);
    paint(&mut backend).expect("a string takes everything");
    drop(backend); // which ends the drawing
    let elements = drawing.split_once(">\n").map_or("", |(_, rest)| rest);
    elements.trim_end().trim_end_matches("</svg>").replace(" opacity=\"1\"", "")
}

/// Lines of one style as one element: the dashes of a line are many.
fn as_one_path(polylines: &str) -> String {
    const POINTS: &str = " points=\"";
    let lines = || polylines.lines().filter_map(|line| line.split_once(POINTS));
    let Some((style, _)) = lines().next() else { return String::new() };
    let pieces = lines().filter_map(|(_, points)| Some(format!("M{}", points.split_once('"')?.0.trim())));
    format!("{} d=\"{}\"/>\n", style.replacen("<polyline", "<path", 1), pieces.collect::<String>())
}

/// A length as the SVG counts it.
pub fn whole(x: f64) -> i32 {
    (x * FINE).round() as i32
}

fn unit((x, y): Point) -> (i32, i32) {
    (whole(x), whole(y))
}

fn units(points: &[Point]) -> Vec<(i32, i32)> {
    points.iter().copied().map(unit).collect()
}

/// ` class="curve" data-names="concat"`
fn attributes(data: &[(&str, &str)]) -> String {
    data.iter().map(|(name, value)| format!(" {name}=\"{}\"", xml(value))).collect()
}

/// The pieces of a line that a dash pattern leaves.
fn cut(points: &[Point], dashes: &[f64]) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<Point> = points.first().copied().into_iter().collect();
    let (mut phase, mut left) = (0, dashes[0]);
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length < left {
                left -= length;
                piece.push(to);
                break;
            }
            let share = left / length;
            from = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
            piece.push(from);
            if phase % 2 == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            piece = vec![from];
            phase = (phase + 1) % dashes.len();
            left = dashes[phase];
        }
    }
    if phase % 2 == 0 {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_leave_gaps_and_go_round_corners() {
        let pieces = cut(&[(0.0, 0.0), (5.0, 0.0), (5.0, 5.0)], &[4.0, 2.0]);
        assert_eq!(pieces, [vec![(0.0, 0.0), (4.0, 0.0)], vec![(5.0, 1.0), (5.0, 5.0)]]);
    }

    #[test]
    fn text_is_escaped_and_stays_text() {
        let drawn = svg("a < b", (10.0, 10.0), &[("data-place", "\"<\"")], |canvas| {
            canvas.text("<script>&", (1.0, 1.0), 5.0, INK, Anchor::Start);
            canvas.group(&[("class", "curve")], |canvas| canvas.title("</title>"));
        });
        for wanted in [
            "&lt;script&gt;&amp;",
            "<title>a &lt; b</title>",
            "data-place=\"&quot;&lt;&quot;\"",
            "<g class=\"curve\">\n<title>&lt;/title&gt;</title>\n</g>",
            "width=\"10\" height=\"10\" viewBox=\"0 0 80 80\"",
        ] {
            assert!(drawn.contains(wanted), "{wanted}\n{drawn}");
        }
    }
}
