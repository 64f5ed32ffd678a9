//! What a run ends with: its table on the terminal, and its figures.

use crate::error::{Error, Result};
use crate::measure::Record;
use crate::{harmless, plot, report};

/// Finishes the run, prints its tables and draws its figures.
///
/// # Errors
/// When the end cannot be written or printed; or, with all else done, when figures cannot be drawn.
pub fn finish(record: Record, print: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let run = record.finish()?;
    let path = harmless::path(&run.path);
    if let Err(why) = run.refuse_emulated() {
        return print(&format!("\nwritten to {path}\n{why}\n"));
    }
    let drawn = plot::draw(&run, &run.path.join("plots"));
    print(&format!("\n{}\n{}\nwritten to {path}\n", report::table(&run), run.noise_summary()))?;
    drawn.map(drop).map_err(|why| {
        Error::Input(format!(
            "{why}; the run is complete but for its figures, which `decode-bench plot` draws"
        ))
    })
}
