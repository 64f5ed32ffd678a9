//! What the machine can do at most: the read bandwidth over a buffer of a model's weight bytes, the
//! FLOP/s of the best matrix product, and what it costs to start a kernel. Measured in the run that quotes them.

use serde::Serialize;

use super::{say, Machines, Record};
use crate::backend::cpu::{ceiling, Cpu};
use crate::backend::cuda::{Ceiling, Cuda, LaunchCosts};
use crate::backend::Backend;
use crate::case::{BackendName, Case};
use crate::error::Result;
use crate::model::Config;
use crate::record::{Bandwidth, Gpu, MemoryLevel, PeakFlops};

/// What bounds the cases of a model on a backend. Of an emulated GPU nothing: it has nothing to tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ceilings {
    /// One for each access pattern and buffer.
    pub read_bandwidth: Vec<Bandwidth>,
    /// Of the best product.
    pub peak_flops: Option<PeakFlops>,
    /// Of a GPU: see [`LaunchCosts`].
    pub launch_ns: Option<u64>,
    /// Of a GPU: see [`LaunchCosts`].
    pub graph_node_ns: Option<u64>,
}

impl Ceilings {
    /// For the model and the shape of `case`, on its backend.
    ///
    /// # Errors
    /// No such device, or less memory than the weights are.
    pub fn of(case: &Case, machines: &Machines) -> Result<Ceilings> {
        Ceilings::find(case, machines, true)
    }

    /// The read bandwidth, and all else if that is wanted too.
    fn find(case: &Case, machines: &Machines, all: bool) -> Result<Ceilings> {
        if case.backend == BackendName::Cpu {
            let cpu = machines.cpu()?;
            let peak_flops = all.then(|| cpu_peak(&cpu));
            let read_bandwidth = vec![cpu_bandwidth(&cpu, case)?];
            return Ok(Ceilings { read_bandwidth, peak_flops, ..Ceilings::default() });
        }
        let cuda = machines.cuda(case.backend)?;
        let found = Ceilings { read_bandwidth: cuda_bandwidths(&cuda, case)?, ..Ceilings::default() };
        if all {
            return found.of_any(&cuda);
        }
        Ok(found)
    }

    /// With what bounds a GPU's cases whatever their model is.
    fn of_any(self, cuda: &Cuda) -> Result<Ceilings> {
        let how = |grid| format!("fused multiply-adds on registers, {grid}");
        let peak = |best: Ceiling| PeakFlops { flops_per_second: best.per_second as u64, how: how(best.how) };
        let (launch_ns, graph_node_ns) = match cuda.launch_costs()? {
            Some(LaunchCosts { launch_ns, graph_node_ns }) => (Some(launch_ns), Some(graph_node_ns)),
            None => (None, None),
        };
        Ok(Ceilings { peak_flops: cuda.flops_ceiling()?.map(peak), launch_ns, graph_node_ns, ..self })
    }
}

/// Measures what bounds the cases of a model on a backend, and writes it down. Where that fails it is said: times do
/// not need it.
///
/// # Errors
/// When it cannot be written.
pub fn measure(record: &mut Record, case: &Case, machines: &Machines) -> Result<()> {
    let unknown = record.writer.environment().peak_flops_of(case.backend).is_none();
    let found = match Ceilings::find(case, machines, unknown) {
        Ok(found) => found,
        Err(why) => {
            let Case { model, shape, backend, .. } = case;
            say(format_args!("no ceilings of {model}-{shape} on {backend}: {}", why.reason()));
            return Ok(());
        }
    };
    record.writer.update_environment(|environment| match case.backend.is_cuda() {
        true => add(environment.gpu.get_or_insert_default(), found),
        false => {
            environment.peak_flops = found.peak_flops.or(environment.peak_flops.take());
            environment.read_bandwidth.extend(found.read_bandwidth);
        }
    })
}

/// What was measured before stays, unless it was measured again.
fn add(gpu: &mut Gpu, found: Ceilings) {
    gpu.read_bandwidth.extend(found.read_bandwidth);
    gpu.peak_flops = found.peak_flops.or(gpu.peak_flops.take());
    gpu.launch_ns = found.launch_ns.or(gpu.launch_ns);
    gpu.graph_node_ns = found.graph_node_ns.or(gpu.graph_node_ns);
}

fn cpu_bandwidth(cpu: &Cpu, case: &Case) -> Result<Bandwidth> {
    let bytes = Config::named(case.model, case.shape)?.weight_bytes(case.weights);
    let buffer = cpu.upload([1, 1, bytes / 4], &vec![1.0; bytes / 4])?; // where weights are: on huge pages
    let best = ceiling::read_bandwidth(cpu.pool(), buffer.as_slice());
    Ok(Bandwidth {
        threads: cpu.pool().threads() as u64,
        bytes_per_second: best.bytes_per_second as u64,
        pattern: best.pattern,
        ..of_weights(case, bytes)
    })
}

fn cpu_peak(cpu: &Cpu) -> PeakFlops {
    let best = ceiling::peak_flops(cpu.pool());
    PeakFlops { flops_per_second: best.flops_per_second as u64, how: best.how }
}

/// Of weights that are read at every step, and of a cache that never holds what is read.
fn cuda_bandwidths(cuda: &Cuda, case: &Case) -> Result<Vec<Bandwidth>> {
    let bytes = Config::named(case.model, case.shape)?.weight_bytes(case.weights);
    let Some(found) = cuda.read_ceilings(bytes)? else { return Ok(Vec::new()) };
    let again = if found.in_l2 { MemoryLevel::L2 } else { MemoryLevel::Dram };
    let bandwidth = |best: Ceiling, level, cold| Bandwidth {
        bytes_per_second: best.per_second as u64,
        pattern: best.how,
        level: Some(level),
        cold,
        ..of_weights(case, bytes)
    };
    let cold = found.cold.map(|best| bandwidth(best, MemoryLevel::Dram, true));
    Ok([bandwidth(found.again, again, false)].into_iter().chain(cold).collect())
}

fn of_weights(case: &Case, bytes: usize) -> Bandwidth {
    let model_shape = case.model_name().to_string();
    Bandwidth { model_shape, bytes: bytes as u64, ..Bandwidth::default() } // a GPU's threads: in the pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::device;
    use crate::measure::Settings;

    #[test]
    fn what_is_not_measured_again_stays() {
        let mut gpu = Gpu { launch_ns: Some(2000), ..Gpu::default() };
        let read_bandwidth = vec![Bandwidth { bytes: 7, ..Bandwidth::default() }];
        let again = Ceilings { read_bandwidth, graph_node_ns: Some(1300), ..Ceilings::default() };
        add(&mut gpu, again.clone());
        add(&mut gpu, Ceilings { graph_node_ns: None, ..again });
        assert_eq!((gpu.launch_ns, gpu.graph_node_ns), (Some(2000), Some(1300)));
        assert_eq!(gpu.read_bandwidth.len(), 2, "the machine changes during a run");
    }

    #[test]
    fn emulated_cuda_bounds_nothing() {
        let Some(device) = device().filter(|device| device.info.emulated) else { return };
        assert!(device.info.l2_bytes > 0);
        let machines = Machines::new(&Settings { threads: 1, ..Settings::default() });
        let case = "transformer-tiny/padded/cuda/b1/t16".parse().unwrap();
        assert_eq!(Ceilings::of(&case, &machines).unwrap(), Ceilings::default());
    }
}
