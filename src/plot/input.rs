//! What figures are made from.

use crate::analysis::{Measurements, Prefer};
use crate::record::Run;

/// A run, and its steps found by case.
pub struct FigureInput<'a> {
    pub run: &'a Run,
    /// Decodes to set against what was compiled.
    pub steps: Option<&'a Run>,
    pub found: Measurements,
}

impl<'a> FigureInput<'a> {
    pub fn of(run: &'a Run, steps: Option<&'a Run>) -> FigureInput<'a> {
        FigureInput { run, steps, found: Measurements::of(run, Prefer::Decodes) }
    }
}
