//! What the machine can do at most: the read bandwidth over a buffer of a model's weight bytes, and
//! the FLOP/s of the best matrix product. Measured in the run that quotes them.

use crate::backend::cpu::{ceiling, Cpu};
use crate::backend::Backend;
use crate::case::{ModelKind, ShapeName};
use crate::error::Result;
use crate::model::Config;
use crate::record::{Bandwidth, PeakFlops};

use super::Settings;

pub fn bandwidth(model: ModelKind, shape: ShapeName, settings: &Settings) -> Result<Bandwidth> {
    let bytes = Config::named(model, shape)?.weight_bytes();
    let cpu = Cpu::new(settings.threads);
    let buffer = cpu.upload([1, 1, bytes / 4], &vec![1.0; bytes / 4])?; // where weights are: on huge pages
    let best = ceiling::read_bandwidth(cpu.pool(), buffer.as_slice());
    Ok(Bandwidth {
        model_shape: format!("{model}-{shape}"),
        bytes: bytes as u64,
        threads: settings.threads as u64,
        bytes_per_second: best.bytes_per_second as u64,
        pattern: best.pattern,
    })
}

pub fn peak_flops(settings: &Settings) -> PeakFlops {
    let best = ceiling::peak_flops(Cpu::new(settings.threads).pool());
    PeakFlops { flops_per_second: best.flops_per_second as u64, how: best.how }
}
