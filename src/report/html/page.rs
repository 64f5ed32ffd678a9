//! What is on the page, as plain data for its template.

use serde::Serialize;

use super::facts::{facts, Fact};
use super::plots::{self, Plots};
use super::tables::{self, Table};
use crate::analysis::provenance;
use crate::analysis::{findings, summary, Analysis, Group, Summary};
use crate::plot::{start_notes, starts, FigureInput, Start, PHASES};
use crate::record::Run;
use crate::report::{notes, sentence};
use crate::units::Quantity;

#[derive(Serialize)]
pub struct Page {
    run: String,
    provenance: Vec<String>,
    /// What a reader must know before a number is believed.
    warnings: Vec<String>,
    /// How many samples the machine disturbed.
    noise_summary: String,
    groups: Vec<Section>,
    facts: Vec<Fact>,
    equality: Table,
    ledger: Table,
    /// For the script; nothing else is.
    plots: Plots,
}

/// One model, shape, backend and batch.
#[derive(Serialize)]
struct Section {
    title: String,
    /// Answers to the project's questions, with what was predicted.
    findings: Vec<String>,
    /// What else there is to say.
    notes: Vec<String>,
    steps: Option<Table>,
    charts: Vec<plots::Caption>,
    starts: Option<Starts>,
}

/// Bars of the time before the first token.
#[derive(Serialize)]
struct Starts {
    notes: Vec<String>,
    phases: Vec<&'static str>,
    bars: Vec<Bar>,
}

#[derive(Serialize)]
struct Bar {
    name: String,
    /// Of each phase, in per cent of the longest bar.
    widths: Vec<f64>,
    /// Of each phase: `21.0 [20.7, 21.4] ms`.
    times: Vec<String>,
    total: String,
}

impl Page {
    pub fn of(run: &Run) -> Page {
        let source = FigureInput::of(run);
        let analysis = Analysis::of(run);
        let summaries = summary(&analysis);
        let findings = findings(&analysis);
        let mut plots = Plots::default();
        let mut section = |group: Group| {
            let summary = summaries.iter().find(|summary| summary.group == group);
            Section {
                title: group.to_string(),
                findings: findings.iter().filter(|f| f.group == group).map(sentence).collect(),
                notes: summary.map(|summary| notes(run, summary).collect()).unwrap_or_default(),
                steps: summary.map(tables::steps),
                charts: plots.add(source.charts(group, summary)),
                starts: bars(&starts(&source, group)),
            }
        };
        let groups: Vec<Section> = source.found.groups().into_iter().map(&mut section).collect();
        Page {
            run: run.name(),
            provenance: provenance(&run.environment),
            warnings: warnings(run, &summaries),
            noise_summary: run.noise_summary(),
            groups: groups.into_iter().filter(Section::says_something).collect(),
            facts: facts(&run.environment),
            equality: tables::equality(&run.equality),
            ledger: tables::ledger(&run.ledger),
            plots,
        }
    }
}

impl Section {
    fn says_something(&self) -> bool {
        self.steps.is_some() || !self.charts.is_empty() || self.starts.is_some()
    }
}

fn warnings(run: &Run, summaries: &[Summary]) -> Vec<String> {
    let mut all = Vec::new();
    if run.environment.git_dirty == Some(true) {
        all.push(
            "Measured from uncommitted changes: the revision alone does not give the program back."
                .to_string(),
        );
    }
    all.extend(run.environment.doubtful_revision().map(|doubt| format!("In doubt: {doubt}.")));
    if run.environment.finished_utc.is_none() {
        all.push("The run is unfinished.".into());
    }
    let failed = summaries.iter().flat_map(|s| &s.lines).filter(|line| line.error.is_some()).count();
    if failed > 0 {
        all.push(format!("Failed steps, with their reasons in the tables: {failed}."));
    }
    all.extend(run.notes.iter().map(|note| format!("{note}.")));
    all
}

fn bars(starts: &[Start]) -> Option<Starts> {
    let longest = starts.iter().map(Start::total).fold(0.0, f64::max);
    let time = Quantity::Nanoseconds;
    let bar = |start: &Start| Bar {
        name: format!("{}, position {}", start.case.strategy, start.case.position),
        widths: start.phases.iter().map(|phase| plots::short(100.0 * phase.value / longest)).collect(),
        times: start.phases.iter().map(|&phase| time.show_estimate(phase)).collect(),
        total: time.show(start.total()),
    };
    (longest > 0.0).then(|| Starts {
        notes: start_notes(starts),
        phases: PHASES.iter().map(|(name, ..)| *name).collect(),
        bars: starts.iter().map(bar).collect(),
    })
}
