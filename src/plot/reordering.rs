//! What a beam search pays to put its beams into another order, beside the step that follows.

use std::collections::BTreeSet;

use super::chart::{Chart, Curve, Dot, Panel};
use super::style::Style;
use crate::analysis::{provenance, Group, Reordering};
use crate::record::Run;
use crate::strategy::Strategy;
use crate::units::Quantity;

/// One panel for each position. `None` if nothing was timed.
pub fn chart(run: &Run, group: Group, lines: &[Reordering]) -> Option<Chart> {
    let drawn = |line: &&Reordering| line.ratio.is_some() && line.case.strategy.remembers();
    let timed: Vec<&Reordering> = lines.iter().filter(drawn).collect();
    let rounds = timed.iter().filter_map(|line| line.ratio).map(|ratio| ratio.n).min()?;
    let positions: BTreeSet<usize> = timed.iter().map(|line| line.case.position).collect();
    let panel = |position: usize| {
        let here: Vec<&Reordering> = timed.iter().copied().filter(|l| l.case.position == position).collect();
        let strategies: BTreeSet<Strategy> = here.iter().map(|line| line.case.strategy).collect();
        let curves = strategies.into_iter().map(|strategy| curve(strategy, &here)).collect();
        let title = format!("reorder / step, position {position}");
        Panel::new(&title, Quantity::Multiple, curves, Some((1.0, "a step".into())))
    };
    Some(Chart {
        title: format!("Reordering beams — {}", group.without_batch()),
        notes: vec![
            format!("Line: median of the ratios within each round. Band: its 95 % interval; n = {rounds} rounds or more."),
            "Each hypothesis of the second half goes on twice, the first half is dropped. Without a cache there is nothing to move."
                .into(),
        ],
        x_title: "beams (hypotheses of one sentence)",
        panels: positions.into_iter().map(panel).collect(),
        crossings: Vec::new(),
        caption: provenance(&run.environment),
    })
}

fn curve(strategy: Strategy, lines: &[&Reordering]) -> Curve {
    let of_strategy = lines.iter().filter(|line| line.case.strategy == strategy);
    let dot = |line: &&Reordering| {
        let ratio = line.ratio?;
        Some(Dot { x: line.case.batch as f64, y: ratio.value, lo: ratio.lo, hi: ratio.hi })
    };
    Curve {
        names: vec![strategy.to_string()],
        details: Vec::new(),
        style: Style::of(strategy),
        pieces: vec![of_strategy.filter_map(dot).collect()],
        fit: None,
        others: Vec::new(),
    }
}
