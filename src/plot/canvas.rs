//! The few shapes that figures are made of, written as SVG. Lengths are in points of the final
//! picture; the SVG counts in whole units, [`FINE`] of them to a point.

use std::fmt::{self, Display, Formatter, Write};

const FINE: f64 = 8.0;
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

pub type Point = (f64, f64);

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color(pub u8, pub u8, pub u8);

pub const INK: Color = Color(0x22, 0x22, 0x22);
pub const FAINT: Color = Color(0x66, 0x66, 0x66);
pub const GRID: Color = Color(0xdd, 0xdd, 0xdd);
pub const WHITE: Color = Color(0xff, 0xff, 0xff);

impl Display for Color {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Color(red, green, blue) = self;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// The elements drawn so far, one a line.
pub struct Canvas {
    svg: String,
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
    let mut canvas = Canvas { svg: String::new() };
    canvas.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" font-family=\"{FONT}\" fill=\"none\"{}>",
        size.0,
        size.1,
        attributes(data)
    ));
    canvas.title(title);
    canvas.put(format_args!("<path fill=\"{WHITE}\" d=\"M0 0H{width}V{height}H0z\"/>"));
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
        self.put(format_args!("<title>{}</title>", escape(text)));
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
        let path = path(pieces.iter().filter(|piece| piece.len() > 1));
        if !path.is_empty() {
            let width = (width * FINE).floor();
            self.put(format_args!("<path stroke=\"{color}\" stroke-width=\"{width}\" d=\"{path}\"/>"));
        }
    }

    pub fn area(&mut self, outline: &[Point], color: Color, opacity: f64) {
        let opacity = if opacity < 1.0 { format!(" opacity=\"{opacity}\"") } else { String::new() };
        let path = path([outline]);
        self.put(format_args!("<path fill=\"{color}\"{opacity} d=\"{path}z\"/>"));
    }

    /// A filled shape with a white edge, so that it shows on top of lines.
    pub fn shape(&mut self, outline: &[Point], color: Color, hollow: bool) {
        let closed: Vec<Point> = outline.iter().chain(&outline[..1]).copied().collect();
        let (inside, edge, width) = if hollow { (WHITE, color, 1.4) } else { (color, WHITE, 0.8) };
        let (path, width) = (path([closed]), (width * FINE).floor());
        self.put(format_args!(
            "<path fill=\"{inside}\" stroke=\"{edge}\" stroke-width=\"{width}\" d=\"{path}\"/>"
        ));
    }

    pub fn text(&mut self, text: &str, at: Point, size: f64, color: Color, anchor: Anchor) {
        self.write(text, at, size, color, anchor, "");
    }

    /// Upwards, centred.
    pub fn text_upwards(&mut self, text: &str, at: Point, size: f64, color: Color) {
        let (x, y) = unit(at);
        self.write(text, at, size, color, Anchor::Middle, &format!(" transform=\"rotate(270, {x}, {y})\""));
    }

    fn write(&mut self, text: &str, at: Point, size: f64, color: Color, anchor: Anchor, turn: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let ((x, y), size, text) = (unit(at), size * FINE, escape(text));
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{y}\" dy=\"0.5ex\"{anchor} font-size=\"{size}\" fill=\"{color}\"{turn}>{text}</text>"
        ));
    }

    fn put(&mut self, element: fmt::Arguments<'_>) {
        let _ = writeln!(self.svg, "{element}"); // a string takes everything
    }
}

/// A length as the SVG counts it.
pub fn whole(x: f64) -> i32 {
    (x * FINE).round() as i32
}

fn unit((x, y): Point) -> (i32, i32) {
    (whole(x), whole(y))
}

/// ` class="curve" data-names="concat"`
fn attributes(data: &[(&str, &str)]) -> String {
    data.iter().map(|(name, value)| format!(" {name}=\"{}\"", escape(value))).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Pieces of a line, each corner by its way from the one before.
fn path<P: AsRef<[Point]>>(pieces: impl IntoIterator<Item = P>) -> String {
    let mut path = String::new();
    let mut last = (0, 0);
    for piece in pieces {
        for (i, (x, y)) in piece.as_ref().iter().copied().map(unit).enumerate() {
            let before = if i == 0 { "m" } else { " " };
            let _ = write!(path, "{before}{} {}", x - last.0, y - last.1);
            last = (x, y);
        }
    }
    path.replace(" -", "-")
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
        assert_eq!(path(pieces), "m0 0 32 0m8 8 0 32");
        assert_eq!(path([[(2.0, 2.0), (1.0, 1.0)]]), "m16 16-8-8");
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
