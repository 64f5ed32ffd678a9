//! What figures are made from.

use crate::analysis::{Analysis, Measurements};
use crate::record::Run;

/// A run, and its steps found by case.
pub struct FigureInput<'a> {
    pub run: &'a Run,
    /// Decodes to set against what was compiled.
    pub steps: Option<&'a Run>,
    pub found: &'a Measurements,
}

impl<'a> FigureInput<'a> {
    pub fn of(analysis: &'a Analysis<'a>, steps: Option<&'a Run>) -> FigureInput<'a> {
        FigureInput { run: analysis.run, steps, found: &analysis.decodes }
    }
}
