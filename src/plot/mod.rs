//! Figures of a run, as SVG and PNG. They follow from the run's files alone, and the SVG has the
//! same bytes every time.
//!
//! | figure | question |
//! |---|---|
//! | `latency` | time of a step as the sequence grows, and the crossings of strategies |
//! | `cumulative` | what does a whole text cost, and with which power of its length does it grow? |
//! | `startup` | what is paid before the first token? |
//! | `memory` | what is kept, reserved, and needed for a moment? |
//! | `compile` | what do a decode's shapes cost a compiler, and which chunk size is worth it? |
//! | `floor` | how far is a step from the time it takes to read what it must read? |
//!
//! `figures` chooses what to draw, `chart` and `startup` draw it, on a `canvas` of plotters.

mod axis;
mod canvas;
mod chart;
mod compiling;
mod figures;
mod input;
mod labels;
mod raster;
mod startup;
mod style;

pub(crate) use axis::Scale;
pub(crate) use chart::{pooled, Chart, Curve, Dot, Panel};
pub(crate) use input::FigureInput;
pub(crate) use startup::{notes as start_notes, starts, Start, PHASES};
pub(crate) use style::Style;

use std::path::{Path, PathBuf};

use crate::analysis::Group;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::record::Run;

/// Draws every figure that the run has samples for into `folder`, which is made if it is missing.
/// Returns the files: `latency-transformer-toy-cpu-b1.svg`, its `.png`, and so on.
pub fn draw(run: &Run, folder: &Path) -> Result<Vec<PathBuf>> {
    draw_with(run, None, folder)
}

/// The same; what was compiled is set against the decodes of a second run, on a CPU.
pub fn draw_with(run: &Run, steps: Option<&Run>, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for figure in figures::figures(run, steps)? {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let svg = folder.join(format!("{}.svg", figure.name));
        let png = svg.with_extension("png");
        let picture = raster::png(&figure.svg).map_err(|what| Error::file(&png, what))?;
        write_atomically(&svg, figure.svg.as_bytes())?;
        write_atomically(&png, &picture)?;
        files.extend([svg, png]);
    }
    Ok(files)
}

/// `transformer-toy-cpu-b1`
fn file_name(figure: &str, group: Group) -> String {
    let Group { model, shape, backend, batch } = group;
    format!("{figure}-{model}-{shape}-{backend}-b{batch}")
}

#[cfg(test)]
mod tests;
