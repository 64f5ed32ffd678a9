//! What a run ends with: its figures, and its table on the terminal.

use crate::error::Result;
use crate::measure::Record;
use crate::{plot, report};

/// Finishes the run and draws its figures; returns its tables, as printed.
pub fn finish(record: Record) -> Result<String> {
    let run = record.finish()?;
    let path = run.path.display();
    if let Err(why) = run.refuse_emulated() {
        return Ok(format!("\nwritten to {path}\n{why}\n"));
    }
    plot::draw(&run, &run.path.join("plots"))?;
    let table = report::table(&run);
    Ok(format!("\n{table}\n{}\nwritten to {path}\n", run.noise_summary()))
}
