//! What the machine can do at most: the read bandwidth over a buffer of a model's weight bytes, and
//! the FLOP/s of the best matrix product. Measured in the run that quotes them.

use super::{Machines, Record};
use crate::backend::cpu::{ceiling, Cpu};
use crate::backend::cuda::Cuda;
use crate::backend::Backend;
use crate::case::{BackendName, Case, ModelKind, ShapeName};
use crate::error::Result;
use crate::model::Config;
use crate::record::{Bandwidth, PeakFlops};

/// Measures what bounds the cases of a model on a backend, and writes it down. An emulator of a GPU has
/// nothing to tell.
pub fn measure(record: &mut Record, case: &Case, machines: &Machines) -> Result<()> {
    let Case { model, shape, backend, .. } = *case;
    let unknown = record.writer.environment().peak_flops_of(backend).is_none();
    if backend == BackendName::Cpu {
        let cpu = machines.cpu();
        let peak = unknown.then(|| peak_flops(&cpu));
        let bandwidth = bandwidth(&cpu, model, shape)?;
        return record.writer.update_environment(|environment| {
            environment.peak_flops = peak.or(environment.peak_flops.take());
            environment.read_bandwidth.push(bandwidth);
        });
    }
    let cuda = machines.cuda(backend)?;
    let peak = if unknown { cuda_peak_flops(&cuda)? } else { None };
    let bandwidth = cuda_bandwidth(&cuda, model, shape)?;
    record.writer.update_environment(|environment| {
        let gpu = environment.gpu.get_or_insert_default();
        gpu.peak_flops = peak.or(gpu.peak_flops.take());
        gpu.read_bandwidth.extend(bandwidth);
    })
}

fn bandwidth(cpu: &Cpu, model: ModelKind, shape: ShapeName) -> Result<Bandwidth> {
    let bytes = Config::named(model, shape)?.weight_bytes();
    let buffer = cpu.upload([1, 1, bytes / 4], &vec![1.0; bytes / 4])?; // where weights are: on huge pages
    let best = ceiling::read_bandwidth(cpu.pool(), buffer.as_slice());
    Ok(Bandwidth {
        model_shape: format!("{model}-{shape}"),
        bytes: bytes as u64,
        threads: cpu.pool().threads() as u64,
        bytes_per_second: best.bytes_per_second as u64,
        pattern: best.pattern,
    })
}

fn peak_flops(cpu: &Cpu) -> PeakFlops {
    let best = ceiling::peak_flops(cpu.pool());
    PeakFlops { flops_per_second: best.flops_per_second as u64, how: best.how }
}

fn cuda_bandwidth(cuda: &Cuda, model: ModelKind, shape: ShapeName) -> Result<Option<Bandwidth>> {
    let bytes = Config::named(model, shape)?.weight_bytes();
    Ok(cuda.read_ceiling(bytes)?.map(|best| Bandwidth {
        model_shape: format!("{model}-{shape}"),
        bytes: bytes as u64,
        threads: 0, // those of the pattern
        bytes_per_second: best.per_second as u64,
        pattern: best.how,
    }))
}

fn cuda_peak_flops(cuda: &Cuda) -> Result<Option<PeakFlops>> {
    let how = |grid| format!("fused multiply-adds on registers, {grid}");
    Ok(cuda
        .flops_ceiling()?
        .map(|best| PeakFlops { flops_per_second: best.per_second as u64, how: how(best.how) }))
}
