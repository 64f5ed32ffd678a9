//! The few shapes that figures are made of, drawn by plotters. Lengths are in points of the final
//! picture; plotters counts in whole units, so a canvas has [`FINE`] of them to a point.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};

const FINE: f64 = 8.0;
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";
/// plotters divides a font's size by this before it writes it.
const FONT_SCALE: f64 = 1.24;

pub type Point = (f64, f64);
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
pub const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How wide a text is, near enough to keep it from running into another.
pub fn text_width(text: &str, size: f64) -> f64 {
    let narrow = |c: char| {
        matches!(c, 'i' | 'l' | 'j' | 't' | 'f' | '.' | ',' | ' ' | '[' | ']' | '(' | ')' | ':' | '|')
    };
    text.chars().map(|c| if narrow(c) { 0.37 } else { 0.63 }).sum::<f64>() * size
}

/// Draws a figure and gives its SVG: the same bytes for the same drawing.
pub fn svg(title: &str, size: Point, paint: impl FnOnce(&Canvas<'_>) -> Result<()>) -> Result<String> {
    let units = |x: f64| (x * FINE).round() as u32;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (units(size.0), units(size.1))).into_drawing_area();
        let canvas = Canvas { area };
        done(canvas.area.fill(&WHITE))?;
        paint(&canvas)?;
        done(canvas.area.present())?;
    }
    let fine = format!("width=\"{}\" height=\"{}\"", units(size.0), units(size.1));
    let points = format!("width=\"{}\" height=\"{}\" role=\"img\"", size.0, size.1);
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    Ok(text.replacen(&fine, &points, 1).replacen(">\n", &format!(">\n<title>{title}</title>\n"), 1))
}

impl Canvas<'_> {
    pub fn line(&self, points: &[Point], color: RGBColor, width: f64) -> Result<()> {
        let style = ShapeStyle { color: color.into(), filled: false, stroke_width: (width * FINE) as u32 };
        match points.len() {
            0 | 1 => Ok(()),
            _ => done(self.area.draw(&PathElement::new(units(points), style))),
        }
    }

    /// `dashes`: lengths drawn and left out in turn; none for an unbroken line.
    pub fn dashed(&self, points: &[Point], color: RGBColor, width: f64, dashes: &[f64]) -> Result<()> {
        if dashes.is_empty() {
            return self.line(points, color, width);
        }
        cut(points, dashes).iter().try_for_each(|dash| self.line(dash, color, width))
    }

    pub fn area(&self, outline: &[Point], color: RGBColor, opacity: f64) -> Result<()> {
        done(self.area.draw(&Polygon::new(units(outline), color.mix(opacity).filled())))
    }

    /// A filled shape with a white edge, so that it shows on top of lines.
    pub fn shape(&self, outline: &[Point], color: RGBColor, hollow: bool) -> Result<()> {
        let closed: Vec<Point> = outline.iter().chain(&outline[..1]).copied().collect();
        let (inside, edge) = if hollow { (WHITE, color) } else { (color, WHITE) };
        self.area(outline, inside, 1.0)?;
        self.line(&closed, edge, if hollow { 1.4 } else { 0.8 })
    }

    pub fn text(&self, text: &str, at: Point, size: f64, color: RGBColor, anchor: Anchor) -> Result<()> {
        self.write(text, at, size, color, anchor, FontTransform::None)
    }

    /// Upwards, centred.
    pub fn text_upwards(&self, text: &str, at: Point, size: f64, color: RGBColor) -> Result<()> {
        self.write(text, at, size, color, Anchor::Middle, FontTransform::Rotate270)
    }

    fn write(
        &self,
        text: &str,
        at: Point,
        size: f64,
        color: RGBColor,
        anchor: Anchor,
        turn: FontTransform,
    ) -> Result<()> {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = FontDesc::new(FontFamily::Name(FONT), size * FINE * FONT_SCALE, FontStyle::Normal);
        let style =
            TextStyle::from(font.transform(turn)).color(&color).pos(Pos::new(horizontal, VPos::Center));
        done(self.area.draw(&Text::new(text.to_string(), unit(at), style)))
    }
}

fn unit((x, y): Point) -> (i32, i32) {
    ((x * FINE).round() as i32, (y * FINE).round() as i32)
}

fn units(points: &[Point]) -> Vec<(i32, i32)> {
    points.iter().copied().map(unit).collect()
}

fn done<E: std::error::Error + Send + Sync>(
    drawn: std::result::Result<(), DrawingAreaErrorKind<E>>,
) -> Result<()> {
    drawn.map_err(|e| Error::Input(format!("a figure cannot be drawn: {e}")))
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
        let drawn = svg("a < b", (10.0, 10.0), |canvas| {
            canvas.text("<script>&", (1.0, 1.0), 5.0, INK, Anchor::Start)
        });
        let drawn = drawn.unwrap();
        assert!(
            drawn.contains("&lt;script&gt;&amp;") && drawn.contains("<title>a &lt; b</title>"),
            "{drawn}"
        );
        assert!(
            drawn.starts_with("<svg width=\"10\" height=\"10\" role=\"img\" viewBox=\"0 0 80 80\""),
            "{drawn}"
        );
    }
}
