//! What figures are made from.

use crate::analysis::Measurements;
use crate::record::{Protocol, Run};

/// A run, and its steps found by case.
pub struct FigureInput<'a> {
    pub run: &'a Run,
    /// Decodes to set against what was compiled.
    pub steps: Option<&'a Run>,
    pub found: Measurements,
}

impl<'a> FigureInput<'a> {
    pub fn of(run: &'a Run) -> FigureInput<'a> {
        FigureInput { run, steps: None, found: Measurements::of(run, Protocol::Decode) }
    }
}
