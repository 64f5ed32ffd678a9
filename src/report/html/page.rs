//! What is on the page, as plain data for its template.

use std::collections::BTreeSet;

use serde::Serialize;

use super::facts::{facts, Fact};
use super::tables::{self, Noted, Table};
use crate::analysis::{compiling, findings, provenance, reordering, summary, Analysis, Group, Summary};
use crate::error::Result;
use crate::plot::{figures, Figure};
use crate::record::Run;
use crate::report::{notes, sentence};

#[derive(Serialize)]
pub struct Page {
    run: String,
    provenance: Vec<String>,
    /// What a reader must know before a number is believed.
    warnings: Vec<String>,
    /// How many samples the machine disturbed.
    noise_summary: String,
    groups: Vec<PageSection>,
    facts: Vec<Fact>,
    equality: Table,
    ledger: Table,
}

/// One model, shape, backend and batch.
#[derive(Serialize)]
struct PageSection {
    title: String,
    /// Answers to the project's questions, with what was predicted.
    findings: Vec<String>,
    /// What else there is to say.
    notes: Vec<String>,
    steps: Option<Table>,
    prefills: Option<Noted>,
    cache_types: Option<Noted>,
    chunked_prefills: Option<Noted>,
    reorders: Option<Noted>,
    compile_times: Option<Noted>,
    /// Every curve of the figures once.
    curves: Vec<Named>,
    /// As SVG, which stands in the page as it is.
    figures: Vec<String>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    /// A piece of the curve, as SVG.
    sample: String,
}

impl Page {
    pub fn of(run: &Run) -> Result<Page> {
        let analysis = Analysis::of(run);
        let (summaries, findings, figures) =
            (summary(&analysis), findings(&analysis), figures(&analysis, None)?);
        let reordered = reordering(&analysis.tables);
        let tabled =
            summaries.iter().map(|summary| summary.group).chain(reordered.iter().map(|beams| beams.0));
        let groups: BTreeSet<Group> = figures.iter().map(|figure| figure.group).chain(tabled).collect();
        let section = |group: Group| {
            let summary = summaries.iter().find(|summary| summary.group == group);
            let figures = || figures.iter().filter(move |figure| figure.group == group);
            PageSection {
                title: group.to_string(),
                findings: findings.iter().filter(|f| f.group == group).map(sentence).collect(),
                notes: summary.map(|summary| notes(run, summary).collect()).unwrap_or_default(),
                steps: summary.map(tables::steps),
                prefills: summary.and_then(tables::prefills),
                cache_types: summary.and_then(tables::cache_types),
                chunked_prefills: summary.and_then(tables::chunked_prefills),
                reorders: reordered
                    .iter()
                    .find(|beams| beams.0 == group)
                    .map(|beams| tables::reorders(&beams.1)),
                compile_times: tables::compile_times(&compiling(&analysis.tables, group)),
                curves: named(figures()),
                figures: figures().map(|figure| figure.svg.clone()).collect(),
            }
        };
        Ok(Page {
            run: run.name(),
            provenance: provenance(&run.environment),
            warnings: warnings(run, &summaries),
            noise_summary: run.noise_summary(),
            groups: groups.into_iter().map(section).collect(),
            facts: facts(&run.environment),
            equality: tables::equality(&run.equality),
            ledger: tables::ledger(&run.ledger),
        })
    }
}

fn named<'a>(figures: impl Iterator<Item = &'a Figure>) -> Vec<Named> {
    let mut seen = BTreeSet::new();
    let curves = figures.flat_map(|figure| &figure.curves).filter(|(name, _)| seen.insert(name));
    curves.map(|(name, sample)| Named { name: name.clone(), sample: sample.clone() }).collect()
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
