//! What the samples of a run say. Pure functions over [`crate::record`]'s rows: no files, no
//! clock, no random numbers that are not seeded, so that a figure can be computed again from the
//! same rows and comes out the same.
//!
//! - [`median`] and [`compare`] turn samples into an [`Estimate`] or a [`Comparison`];
//! - [`crossing`] turns the curves of the rounds into a [`Crossing`], and so does [`least`] for sizes of which one is best;
//! - [`Series`], [`loglog_fit`] and [`floor_ns`] are what the curves of the plots are made of;
//! - [`compiling`] sums what a decode's shapes cost a compiler;
//! - [`Figure`] is what a metric's samples are told as: tokens a second, time to first token;
//! - [`reordering`] sets what a beam search's reorders cost beside its steps;
//! - [`findings`] answers the project's questions, each with its prediction;
//! - [`against`] compares cases within a run and across runs, [`Sides`] several runs with several;
//! - [`citation`] names the rows behind a figure by their hash;
//! - [`provenance`] says where the numbers come from;
//! - [`summary`] puts them together, one [`Summary`] per [`Group`], for tables to print.

mod citation;
mod compare;
mod compiling;
mod crossing;
mod curve;
mod disturbed;
mod estimate;
mod figure;
mod finding;
mod measurements;
mod prediction;
mod prefill;
pub(crate) mod provenance;
mod reordering;
mod sides;
mod summary;
mod versus;

pub use citation::{citation, rows_hash, Citation, Other};
pub use compare::{aa_band, compare, compare_together, rounds_for, Comparison, Pairing, Verdict};
pub use compiling::{compiling, Compiling};
pub use crossing::{crossing, least, Crossing, LogRatios};
pub use curve::{cumulative, floor_ns, loglog_fit, tail, Fit};
pub(crate) use disturbed::is_disturbed;
pub(crate) use estimate::median_of;
pub use estimate::{median, Estimate, MIN_ROUNDS};
pub use figure::Figure;
pub use finding::{findings, is_headline, Answer, Finding, Prediction, Question};
pub use measurements::{rows, tabled, window, Analysis, Group, Measurements, Series};
pub use prefill::{ChunkedPrefill, Prefill};
pub use provenance::{counted, provenance};
pub use reordering::{reordering, Reordering};
pub use sides::Sides;
pub use summary::{headline_positions, summary, versus, CrossingLine, Summary, SummaryRow};
pub use versus::{against, gaps, weights_differ, Base, Gap, Measured, Side, Versus, Wanting};

#[cfg(test)]
mod simulation;
