//! Which figures a run has, and what is on them.

use std::collections::BTreeSet;

use super::axis::Axis;
use super::chart::{sample, Chart, Crossed, Curve, Dot, Panel};
use super::input::FigureInput;
use super::style::Style;
use super::{compiling, reordering, startup};
use crate::analysis::{
    self, cumulative, floor_ns, loglog_fit, provenance, summary, tail, versus, Analysis, Crossing, Estimate,
    Fit, Group, Summary, Verdict,
};
use crate::case::Case;
use crate::cost::Step;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::record::{Metric, Run};
use crate::strategy::Strategy;
use crate::units::{interval, Quantity};

pub struct Figure {
    /// `latency-transformer-toy-cpu-b1`
    pub name: String,
    pub group: Group,
    pub svg: String,
    /// The names of its curves, each with a picture of its line.
    pub curves: Vec<(String, String)>,
}

const POSITION: &str = "position (tokens in the sequence when the step is done)";

/// # Errors
/// When steps were given, and there is nothing compiled, or of other decodes, that they could be set against.
pub fn figures(analysis: &Analysis<'_>, steps: Option<&Run>) -> Result<Vec<Figure>> {
    let source = FigureInput::of(analysis, steps);
    let summaries = summary(analysis);
    let (mut figures, mut compiled) = (Vec::new(), false);
    for group in source.found.groups() {
        let summary = summaries.iter().find(|s| s.group == group);
        let compiling = compiling::chart(&source, group)?.map(|chart| ("compile", chart));
        compiled |= compiling.is_some();
        let charts = source.charts(group, summary).into_iter().chain(compiling);
        figures.extend(charts.map(|(name, chart)| Figure::of_chart(name, group, chart)));
        let startup = startup::svg(&source, group);
        figures.extend(startup.map(|svg| Figure::new("startup", group, svg, Vec::new())));
    }
    for (group, lines) in analysis::reordering(source.found) {
        let chart = reordering::chart(analysis.run, group, &lines);
        figures.extend(chart.map(|chart| Figure::of_chart("reorder", group, chart)));
    }
    match source.steps.is_some() && !compiled {
        true => Err(Error::file(&analysis.run.path, "no run of `compile`: it has no compile times")),
        false => Ok(figures),
    }
}

impl Figure {
    fn new(name: &str, group: Group, svg: String, curves: Vec<(String, String)>) -> Figure {
        let (model, Group { cache, backend, batch, .. }) = (group.model_name(), group);
        let cache = match cache {
            Dtype::F32 => String::new(),
            _ => format!("-{cache}-cache"),
        };
        Figure { name: format!("{name}-{model}{cache}-{backend}-b{batch}"), group, svg, curves }
    }

    fn of_chart(name: &str, group: Group, mut chart: Chart) -> Figure {
        let named =
            chart.curves().map(|curve| (curve.names[0].clone(), sample(&curve.names[0], curve.style)));
        let curves = named.collect();
        chart.panels.iter_mut().for_each(|panel| unite(&mut panel.curves));
        Figure::new(name, group, chart.svg(), curves)
    }
}

impl<'a> FigureInput<'a> {
    /// Every chart that the group has samples for, by the name of its figure.
    fn charts(&self, group: Group, summary: Option<&Summary>) -> Vec<(&'static str, Chart)> {
        let charts = [
            ("latency", self.latency(group, summary)),
            ("cumulative", self.cumulative(group)),
            ("memory", self.memory(group)),
            ("floor", self.floor(group)),
        ];
        charts.into_iter().filter_map(|(name, chart)| Some((name, chart?))).collect()
    }

    fn latency(&self, group: Group, summary: Option<&Summary>) -> Option<Chart> {
        let curves = self.curves(group, Metric::StepNs, &|_, step| Some(step))?;
        let crossings = summary.map(|s| crossed(s, &curves)).unwrap_or_default();
        let mut notes =
            vec![format!("Line: median{}. Band: its 95 % interval.", self.counts(group, Metric::StepNs))];
        if self.mixes(group) {
            notes.push("Where whole decodes end, steps from copies follow, in a line of their own.".into());
        }
        if !crossings.is_empty() {
            notes[0].push_str(" Diamonds: where two strategies cross; bar: interval of that position.");
        }
        let mut panels = vec![Panel::new("time of one step", Quantity::Nanoseconds, curves, None)];
        if let Some(ratios) = self.ratios(group) {
            notes.push(
                "Below: the time over concat's, from the ratios within each round where strategies took turns."
                    .to_string(),
            );
            panels.push(Panel::new(
                "time / concat's",
                Quantity::Multiple,
                ratios,
                Some((1.0, "concat".into())),
            ));
        }
        Some(self.chart(format!("Time of one decode step — {group}"), notes, POSITION, panels, crossings))
    }

    /// Whether some steps are of whole decodes, and others from copies.
    fn mixes(&self, group: Group) -> bool {
        let cases = self.found.strategies(group, Metric::StepNs).into_iter().flat_map(|strategy| {
            let positions = self.found.positions(group, strategy, Metric::StepNs);
            positions.into_iter().map(move |position| group.case(strategy, position))
        });
        let decoded: BTreeSet<bool> = cases.map(|case| self.found.is_decoded(&case)).collect();
        decoded.len() == 2
    }

    /// The strategies with a cache against concat: naive would leave them no room.
    fn ratios(&self, group: Group) -> Option<Vec<Curve>> {
        let ratio = |case: &Case, _| {
            let others = case.strategy.remembers() && case.strategy != Strategy::Concat;
            Some(versus(self.found, case, &case.under(Strategy::Concat)).filter(|_| others)?.ratio)
        };
        self.curves(group, Metric::StepNs, &ratio)
    }

    fn cumulative(&self, group: Group) -> Option<Chart> {
        let steps = self.curves(group, Metric::StepNs, &|_, step| Some(step))?;
        let strategies = self.found.strategies(group, Metric::StepNs).into_iter();
        let curves: Vec<Curve> =
            strategies.filter_map(|strategy| self.total(group, strategy, &steps)).collect();
        let whole = curves.iter().any(|curve| !curve.others.is_empty());
        let mut notes = vec![
            "Sum of the median steps up to each length; steps that were not measured are interpolated.".to_string(),
            "Thin line and slope: power of the length that fits the last three quarters, and root mean square misfit."
                .to_string(),
        ];
        if whole {
            notes[0].push_str(" Hollow: whole decodes, timed as one.");
        }
        if self.mixes(group) {
            notes[0].push_str(" Beyond whole decodes, steps from copies.");
        }
        let means = curves.iter().map(per_token).collect();
        let panels = vec![
            Panel::new("time of all tokens so far", Quantity::Nanoseconds, curves, None),
            Panel::new("the same per token", Quantity::Nanoseconds, means, None),
        ];
        Some(self.chart(
            format!("Time of a whole decode — {group}"),
            notes,
            "tokens decoded",
            panels,
            Vec::new(),
        ))
    }

    /// The curve of the sums of the strategy's curve of steps.
    fn total(&self, group: Group, strategy: Strategy, steps: &[Curve]) -> Option<Curve> {
        let steps = steps.iter().find(|curve| curve.names[0] == strategy.to_string())?;
        let steps: Vec<(usize, f64)> = steps.dots().map(|dot| (dot.x as usize, dot.y)).collect();
        let sums = cumulative(&steps);
        let end = tail(&sums);
        let fit = loglog_fit(&end);
        let mut details = Vec::new();
        if let Some(Fit { slope, residual, .. }) = fit {
            details.push(format!("slope {slope:.2}, misfit {:.1} %", residual * 100.0));
            details.push(match self.predicted_slope(group, strategy, &steps) {
                Some(predicted) => format!("predicted {predicted:.2}"),
                None => "no prediction".into(),
            });
        }
        let line = fit.map(|fit| {
            let y = |x: f64| fit.factor * x.powf(fit.slope);
            let (from, to) = (end[0].0, end[end.len() - 1].0);
            ((from, y(from)), (to, y(to)))
        });
        let whole = self.found.positions(group, strategy, Metric::DecodeNs).into_iter().filter_map(|t| {
            Some((t as f64, self.found.median(&group.case(strategy, t), Metric::DecodeNs)?.value))
        });
        let dot = |(t, y): (usize, f64)| Dot { x: t as f64, y, lo: y, hi: y };
        let pieces = vec![sums.into_iter().map(dot).collect()];
        Some(Curve {
            names: vec![strategy.to_string()],
            details,
            style: Style::of(strategy),
            pieces,
            fit: line,
            others: whole.collect(),
        })
    }

    /// Slope of the sums of steps that take the longer of their closed form's bytes at the
    /// bandwidth ceiling and its operations at peak.
    fn predicted_slope(&self, group: Group, strategy: Strategy, steps: &[(usize, f64)]) -> Option<f64> {
        let peak = self.run.environment.peak_flops_of(group.backend)? as f64;
        let predicted = |t: usize| {
            let case = group.case(strategy, t);
            let floor = floor_ns(&self.run.environment, &case)?;
            Some((t, floor.max(Step::of(&case).ok()?.flops() as f64 * 1e9 / peak)))
        };
        let predicted: Vec<(usize, f64)> = steps.iter().filter_map(|&(t, _)| predicted(t)).collect();
        let reaches_the_end = predicted.last()?.0 == steps.last()?.0;
        loglog_fit(&tail(&cumulative(&predicted))).filter(|_| reaches_the_end).map(|fit| fit.slope)
    }

    fn memory(&self, group: Group) -> Option<Chart> {
        let metrics = [
            ("rows in use", Metric::CacheLiveBytes),
            ("rows allocated", Metric::CacheAllocatedBytes),
            ("peak in one step", Metric::TransientPeakBytes),
        ];
        let curves = |metric| self.curves(group, metric, &|_, bytes| Some(bytes));
        let found: Vec<(&str, Vec<Curve>)> =
            metrics.into_iter().filter_map(|(title, metric)| Some((title, curves(metric)?))).collect();
        // One scale, so that the panels can be compared.
        let y =
            Axis::fit(Quantity::Bytes, found.iter().flat_map(|(_, curves)| curves).flat_map(Curve::heights));
        let panel =
            |(title, curves): (&str, _)| Panel { y_title: title.into(), y: y.clone(), curves, rule: None };
        let panels: Vec<Panel> = found.into_iter().map(panel).collect();
        let notes = vec![
            "Counted, not sampled: the same in every run. Strategies that need the same share one line.".to_string(),
            "In use: rows that hold a position. Allocated: with padding. Peak: the most held at once during a step."
                .to_string(),
        ];
        let title = format!("Memory of the cache — {group}");
        (!panels.is_empty()).then(|| self.chart(title, notes, POSITION, panels, Vec::new()))
    }

    fn floor(&self, group: Group) -> Option<Chart> {
        let multiple = |case: &Case, step: Estimate| {
            let floor = floor_ns(&self.run.environment, case)?;
            Some(step.map(|ns| ns / floor))
        };
        let curves = self.curves(group, Metric::StepNs, &multiple)?;
        let case = group.case(Strategy::Concat, 1);
        let best = self.run.environment.best_read(&case)?;
        let (ceiling, level) = (best.bytes_per_second as f64 / 1e9, best.of_level());
        let notes = vec![
            format!("Floor: the bytes a step must read, at the {ceiling:.1} GB/s{level} measured in the same run with the same threads."),
            format!("Line: median{}. Band: its 95 % interval.", self.counts(group, Metric::StepNs)),
        ];
        let cached = |case: &Case, step| multiple(case, step).filter(|_| case.strategy.remembers());
        let panel =
            |title, curves| Panel::new(title, Quantity::Multiple, curves, Some((1.0, "floor".to_string())));
        let mut panels = vec![panel("time of one step / its floor", curves)];
        if let Some(curves) = self.curves(group, Metric::StepNs, &cached) {
            panels.push(panel("the same, with a cache", curves));
        }
        Some(self.chart(
            format!("Steps as a multiple of their floor — {group}"),
            notes,
            POSITION,
            panels,
            Vec::new(),
        ))
    }

    fn chart(
        &self,
        title: String,
        notes: Vec<String>,
        x_title: &'static str,
        panels: Vec<Panel>,
        crossings: Vec<Crossed>,
    ) -> Chart {
        Chart { title, notes, x_title, panels, crossings, caption: provenance(&self.run.environment) }
    }

    /// One curve per strategy that has the metric. `None` if none has.
    fn curves(
        &self,
        group: Group,
        metric: Metric,
        value: &dyn Fn(&Case, Estimate) -> Option<Estimate>,
    ) -> Option<Vec<Curve>> {
        let strategies = self.found.strategies(group, metric).into_iter();
        let curves = strategies.map(|strategy| Curve {
            names: vec![strategy.to_string()],
            details: Vec::new(),
            style: Style::of(strategy),
            pieces: self.pieces(group, strategy, metric, value),
            fit: None,
            others: Vec::new(),
        });
        let curves: Vec<Curve> = curves.filter(|curve| curve.dots().next().is_some()).collect();
        (!curves.is_empty()).then_some(curves)
    }

    fn pieces(
        &self,
        group: Group,
        strategy: Strategy,
        metric: Metric,
        value: &dyn Fn(&Case, Estimate) -> Option<Estimate>,
    ) -> Vec<Vec<Dot>> {
        let mut pieces = vec![Vec::new()];
        let mut decoded = None;
        for position in self.found.positions(group, strategy, metric) {
            let case = group.case(strategy, position);
            if decoded.replace(self.found.is_decoded(&case)) == Some(!self.found.is_decoded(&case)) {
                pieces.push(Vec::new()); // another quantity: no line joins the two
            }
            let found =
                self.found.median(&case, metric).filter(|_| self.found.error(&case, metric).is_none());
            match found.and_then(|estimate| value(&case, estimate)) {
                Some(Estimate { value: y, lo, hi, .. }) => pieces
                    .last_mut()
                    .into_iter()
                    .for_each(|piece: &mut Vec<Dot>| piece.push(Dot { x: position as f64, y, lo, hi })),
                None => pieces.push(Vec::new()),
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// ` of n = 10 to 20 samples`
    fn counts(&self, group: Group, metric: Metric) -> String {
        let strategies = self.found.strategies(group, metric).into_iter();
        let cases = strategies
            .flat_map(|s| self.found.positions(group, s, metric).into_iter().map(move |t| group.case(s, t)));
        let counts: Vec<usize> =
            cases.filter_map(|case| Some(self.found.series(&case, metric)?.samples.len())).collect();
        match (counts.iter().min(), counts.iter().max()) {
            (Some(1), Some(1)) => " of n = 1 sample".into(),
            (Some(least), Some(most)) if least == most => format!(" of n = {least} samples"),
            (Some(least), Some(most)) => format!(" of n = {least} to {most} samples"),
            _ => String::new(),
        }
    }
}

/// A curve of sums as a curve of means. What is said of the sums is said there.
fn per_token(sums: &Curve) -> Curve {
    let mean = |dot: &Dot| Dot { y: dot.y / dot.x, lo: dot.lo / dot.x, hi: dot.hi / dot.x, ..*dot };
    Curve {
        names: sums.names.clone(),
        details: Vec::new(),
        style: sums.style,
        pieces: sums.pieces.iter().map(|piece| piece.iter().map(mean).collect()).collect(),
        fit: None,
        others: sums.others.iter().map(|(t, y)| (*t, y / t)).collect(),
    }
}

/// Curves that lie on each other become one, under all of their names.
fn unite(curves: &mut Vec<Curve>) {
    let mut united: Vec<Curve> = Vec::new();
    for curve in curves.drain(..) {
        match united.iter_mut().find(|other| other.pieces == curve.pieces) {
            Some(other) => {
                other.names.extend(curve.names);
                other.style = Style::shared();
            }
            None => united.push(curve),
        }
    }
    *curves = united;
}

fn crossed(summary: &Summary, curves: &[Curve]) -> Vec<Crossed> {
    let at = |line: &crate::analysis::CrossingLine| {
        let Crossing::At { position, lo, hi, after, .. } = line.crossing else { return None };
        let name = line.second.to_string();
        let curve = curves.iter().find(|curve| curve.names[0] == name)?;
        let verb = match after {
            Verdict::Slower => "slower",
            Verdict::Faster | Verdict::NotDistinguishable => "faster",
        };
        let range = interval(lo, hi);
        let text = format!("{} {verb} than {} from {position} [{range}]", line.first, line.second);
        let [lo, hi] = [lo.unwrap_or(line.from), hi.unwrap_or(line.to)].map(|end| end as f64);
        let position = position as f64;
        let names = vec![line.first.to_string(), line.second.to_string()];
        Some(Crossed { names, text, lo, position, hi, y: height(curve, position) })
    };
    summary.crossings.iter().filter_map(at).collect()
}

/// The curve's height between its dots, on logarithmic axes.
fn height(curve: &Curve, x: f64) -> Option<f64> {
    let dots: Vec<&Dot> = curve.dots().collect();
    let pair = dots.windows(2).find(|pair| pair[0].x <= x && x <= pair[1].x)?;
    let share = (x / pair[0].x).ln() / (pair[1].x / pair[0].x).ln();
    Some(pair[0].y * (pair[1].y / pair[0].y).powf(share))
}
