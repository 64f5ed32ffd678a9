//! The files of a run, `results/<UTC date-time>-<hardware>/`: what they hold, who may write them,
//! and how they are read back. Facts only; whatever can be computed from them is computed by
//! [`crate::analysis`] on reading.
//!
//! | file | rows | written |
//! |---|---|---|
//! | `environment.json` | [`Environment`] | first, and replaced as a whole when something is added |
//! | `samples.csv` | [`Sample`] | one line per sample, as it is taken |
//! | `equality.csv` | [`EqualityRow`] | one line per case, before it is timed |
//! | `ledger.csv` | [`LedgerRow`] | one line per case and metric of the exact pass |
//!
//! A row is one line, appended by one write. Killing the program can at worst leave a last line
//! without its end: [`Run::open`] leaves it out and says so, [`RunWriter::resume`] cuts it off.

mod arm;
mod checkout;
mod conditions;
mod environment;
mod git;
mod import;
mod machine;
mod metric;
mod provenance;
mod round;
mod rows;
mod run;
mod table;
mod time;
mod topology;
mod whole;
mod writer;

pub use checkout::Checkout;
pub use conditions::{
    differences, refused_and_said, unfit, Condition, Consequence, Origin, Unmet, Use, CONDITIONS,
};
pub(crate) use environment::STEP_WINDOW;
pub use environment::{Bandwidth, Environment, Gpu, MemoryLevel, Merged, MergedRun, PeakFlops, Sharding};
pub use import::{import, Imported};
pub use machine::{performance_cores, CpuCache};
pub use metric::{Metric, Unit};
pub use round::{Protocol, Round};
pub use rows::{EqualityRow, LedgerRow, Sample};
pub use run::Run;
pub use table::Extra;
pub use topology::{CoreClass, CoreKind};
pub use whole::{write_merged, MergedSample};
pub use writer::RunWriter;

#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;
