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
//! | `reorder` | what does a beam search pay to put its beams into another order? |
//! | `floor` | how far is a step from the time it takes to read what it must read? |
//!
//! `figures` chooses what to draw, `chart` and `startup` draw it, on a `canvas`. A page embeds the same
//! SVG, whose groups have the names of their curves, and whose data are the values to read:
//!
//! | element | says |
//! |---|---|
//! | `svg` | `data-place`: what a position is; `data-positions`, `data-columns`: all of them, and where they are |
//! | `g.panel` | `data-title`; in it `g.cursor`, a line at the left edge that is not shown |
//! | `g.curve` | `data-names`: one strategy or several, by commas; `data-values`: a text for each position |
//! | `g.crossing` | `data-names`: the curves that cross |

mod axis;
mod canvas;
mod chart;
mod compiling;
mod figures;
mod input;
mod labels;
mod raster;
mod reordering;
mod startup;
mod style;

pub(crate) use figures::{figures, Figure};

use std::path::{Path, PathBuf};

use crate::analysis::Analysis;
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
    for figure in figures(&Analysis::of(run), steps)? {
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

#[cfg(test)]
mod tests;
