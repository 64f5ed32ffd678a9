//! What the script of the page draws: the charts of [`crate::plot`] as numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plot::{pooled, Chart, Curve, Dot, Panel, Scale, Style};
use crate::units::Quantity;

#[derive(Serialize, Default)]
pub struct Plots {
    /// What a strategy looks like, by its name.
    styles: BTreeMap<String, LineStyle>,
    panels: Vec<Numbers>,
}

/// A chart's words, and its panels by their places in [`Plots`].
#[derive(Serialize)]
pub struct Caption {
    name: &'static str,
    title: String,
    notes: Vec<String>,
    panels: Vec<PanelCaption>,
}

#[derive(Serialize)]
struct PanelCaption {
    index: usize,
    title: String,
    /// What is known of single curves: `concat: slope 1.02`.
    details: Vec<String>,
    /// Strategies with a curve.
    names: Vec<String>,
}

#[derive(Serialize)]
struct LineStyle {
    color: String,
    dashes: String,
    /// An outline around 0, 0.
    marker: String,
}

#[derive(Serialize)]
struct Numbers {
    x_title: &'static str,
    y_title: String,
    x: Measure,
    y: Measure,
    curves: Vec<Polyline>,
    /// A value to compare with, and what it is.
    rule: Option<(f64, String)>,
    /// Crossings: least, likeliest and greatest position, height, words.
    crossings: Vec<(f64, f64, f64, f64, String)>,
}

/// What an axis shows.
#[derive(Serialize)]
struct Measure {
    log: bool,
    /// Largest first: a name, and how many of the smallest it is.
    units: &'static [(&'static str, f64)],
    /// Ticks are powers of two.
    binary: bool,
}

#[derive(Serialize)]
struct Polyline {
    name: String,
    pieces: Vec<Piece>,
    /// The two ends of a power law.
    fit: Option<[(f64, f64); 2]>,
    /// Measured in another way.
    others: Vec<(f64, f64)>,
}

/// Points are x, y and, where there is one, the interval of y.
#[derive(Serialize)]
struct Piece {
    points: Vec<Vec<f64>>,
    /// Medians of neighbours, where every position would be more than a line can show.
    pooled: Option<Vec<Vec<f64>>>,
}

impl Plots {
    pub fn add(&mut self, charts: Vec<(&'static str, Chart)>) -> Vec<Caption> {
        charts.into_iter().map(|(name, chart)| self.add_chart(name, chart)).collect()
    }

    fn add_chart(&mut self, name: &'static str, chart: Chart) -> Caption {
        let mut caption = Caption { name, notes: chart.all_notes(), title: chart.title, panels: Vec::new() };
        for (i, panel) in chart.panels.into_iter().enumerate() {
            for curve in &panel.curves {
                self.styles.insert(curve.names[0].clone(), LineStyle::of(curve.style));
            }
            caption.panels.push(PanelCaption::of(self.panels.len(), &panel));
            let mut numbers = Numbers::of(chart.x_title, panel);
            if i == 0 {
                let placed = chart.crossings.iter().filter_map(|c| {
                    Some((short(c.lo), short(c.position), short(c.hi), short(c.y?), c.text.clone()))
                });
                numbers.crossings = placed.collect();
            }
            self.panels.push(numbers);
        }
        caption
    }
}

impl PanelCaption {
    fn of(index: usize, panel: &Panel) -> PanelCaption {
        let told = panel.curves.iter().filter(|curve| !curve.details.is_empty());
        PanelCaption {
            index,
            title: panel.y_title.clone(),
            details: told.map(|curve| format!("{}: {}", curve.names[0], curve.details.join("; "))).collect(),
            names: panel.curves.iter().map(|curve| curve.names[0].clone()).collect(),
        }
    }
}

impl LineStyle {
    fn of(style: Style) -> LineStyle {
        let color = match style.color.0 | style.color.1 | style.color.2 {
            0 => "currentColor".into(), // black is the colour of the text, whatever that is
            _ => format!("#{:02x}{:02x}{:02x}", style.color.0, style.color.1, style.color.2),
        };
        let corner = |(x, y): (f64, f64)| format!("{x:.2},{y:.2}");
        let corners: Vec<String> = style.marker.outline((0.0, 0.0), 3.6).into_iter().map(corner).collect();
        let dashes: Vec<String> = style.dashes.iter().map(f64::to_string).collect();
        LineStyle { color, dashes: dashes.join(" "), marker: format!("M{}Z", corners.join("L")) }
    }
}

impl Numbers {
    fn of(x_title: &'static str, panel: Panel) -> Numbers {
        let positions = || panel.curves.iter().flat_map(Curve::dots).map(|dot| dot.x);
        let (first, last) = (positions().fold(f64::MAX, f64::min), positions().fold(0.0, f64::max));
        Numbers {
            x_title,
            x: Measure::of(Quantity::Tokens, last / first >= 3.0),
            y: Measure::of(panel.y.quantity, panel.y.scale == Scale::Log),
            curves: panel.curves.iter().map(Polyline::of).collect(),
            y_title: panel.y_title,
            rule: panel.rule,
            crossings: Vec::new(),
        }
    }
}

impl Measure {
    fn of(quantity: Quantity, log: bool) -> Measure {
        let binary = matches!(quantity, Quantity::Bytes | Quantity::Tokens);
        Measure { log, units: quantity.units(), binary }
    }
}

impl Polyline {
    fn of(curve: &Curve) -> Polyline {
        let short_pair = |(x, y): (f64, f64)| (short(x), short(y));
        Polyline {
            name: curve.names[0].clone(),
            pieces: curve.pieces.iter().map(|piece| Piece::of(piece)).collect(),
            fit: curve.fit.map(|(from, to)| [short_pair(from), short_pair(to)]),
            others: curve.others.iter().copied().map(short_pair).collect(),
        }
    }
}

impl Piece {
    fn of(piece: &[Dot]) -> Piece {
        let all = |dots: &[Dot]| dots.iter().map(point).collect::<Vec<_>>();
        // Ten to every doubling, whichever axis the reader chooses.
        let few = pooled(piece, |dot| (10.0 * dot.x.log2()) as i64);
        Piece { points: all(piece), pooled: (few.len() < piece.len()).then(|| all(&few)) }
    }
}

fn point(&Dot { x, y, lo, hi }: &Dot) -> Vec<f64> {
    let figures = if lo < hi { vec![x, y, lo, hi] } else { vec![x, y] };
    figures.into_iter().map(short).collect()
}

/// Six digits: three more than are shown.
pub fn short(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}
