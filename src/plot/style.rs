//! What a strategy looks like: the same in every figure. Okabe and Ito's colours, which colour-blind
//! readers can tell apart; dashes and markers say the same once more for grey print.

use super::canvas::{Color, Point};
use crate::strategy::Strategy;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    pub color: Color,
    pub dashes: &'static [f64],
    pub marker: Marker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    Circle,
    Square,
    Triangle,
    TriangleDown,
    Diamond,
    Cross,
    Star,
    Bar,
}

const BLACK: Color = Color(0, 0, 0);
const ORANGE: Color = Color(0xe6, 0x9f, 0x00);
const SKY_BLUE: Color = Color(0x56, 0xb4, 0xe9);
const GREEN: Color = Color(0x00, 0x9e, 0x73);
const BLUE: Color = Color(0x00, 0x72, 0xb2);
const VERMILION: Color = Color(0xd5, 0x5e, 0x00);
const PURPLE: Color = Color(0xcc, 0x79, 0xa7);

impl Style {
    /// `shift` is of the convolution and `onehot` of the transformer: they may share a colour.
    pub fn of(strategy: Strategy) -> Style {
        let (color, dashes, marker): (_, &[f64], _) = match strategy {
            Strategy::Naive => (BLACK, &[], Marker::Circle),
            Strategy::NaivePadded => (PURPLE, &[7.0, 2.5], Marker::TriangleDown),
            Strategy::Concat => (VERMILION, &[10.0, 4.0], Marker::Square),
            Strategy::Padded => (BLUE, &[9.0, 3.0, 2.0, 3.0], Marker::Triangle),
            Strategy::Chunked(_) => (GREEN, &[4.0, 3.0], Marker::Cross),
            Strategy::Bounded => (ORANGE, &[2.0, 2.5], Marker::Diamond),
            Strategy::Onehot => (SKY_BLUE, &[9.0, 2.5, 2.0, 2.5, 2.0, 2.5], Marker::Star),
            Strategy::Reprojected => (BLACK, &[2.0, 2.0], Marker::Cross),
            Strategy::Shift => (SKY_BLUE, &[5.0, 2.0, 2.0, 2.0], Marker::Bar),
        };
        Style { color, dashes, marker }
    }

    /// What is no strategy: the i-th curve beside others of its kind.
    pub fn aside(i: usize) -> Style {
        let styles: [Style; 4] = [
            Style { color: BLACK, dashes: &[], marker: Marker::Circle },
            Style { color: BLUE, dashes: &[2.0, 2.5], marker: Marker::Triangle },
            Style { color: VERMILION, dashes: &[10.0, 4.0], marker: Marker::Square },
            Style { color: GREEN, dashes: &[4.0, 3.0], marker: Marker::Cross },
        ];
        styles[i % styles.len()]
    }

    /// Several strategies that lie on one line.
    pub fn shared() -> Style {
        Style { color: Color(0x55, 0x55, 0x55), dashes: &[], marker: Marker::Bar }
    }
}

impl Marker {
    /// Outline around a point.
    pub fn outline(self, (x, y): Point, r: f64) -> Vec<Point> {
        let around = |n: usize, turn: f64, radius: &dyn Fn(usize) -> f64| -> Vec<Point> {
            let corner = |i: usize| {
                let angle = (i as f64 / n as f64 + turn) * std::f64::consts::TAU;
                (x + radius(i) * angle.sin(), y - radius(i) * angle.cos())
            };
            (0..n).map(corner).collect()
        };
        match self {
            Marker::Circle => around(16, 0.0, &|_| r),
            Marker::Square => around(4, 0.125, &|_| r * 1.25),
            Marker::Triangle => around(3, 0.0, &|_| r * 1.35),
            Marker::TriangleDown => around(3, 0.5, &|_| r * 1.35),
            Marker::Diamond => around(4, 0.0, &|_| r * 1.35),
            Marker::Star => around(10, 0.0, &|i| if i % 2 == 0 { r * 1.6 } else { r * 0.65 }),
            Marker::Bar => [(-0.55, -1.3), (0.55, -1.3), (0.55, 1.3), (-0.55, 1.3)]
                .map(|(a, b)| (x + a * r, y + b * r))
                .to_vec(),
            Marker::Cross => {
                let arm = 0.45;
                let corners = [(-arm, -1.4), (arm, -1.4), (arm, -arm), (1.4, -arm), (1.4, arm), (arm, arm)];
                let other = corners.map(|(a, b)| (-a, -b));
                corners.iter().chain(&other).map(|(a, b)| (x + a * r, y + b * r)).collect()
            }
        }
    }
}
