//! What cases can run on here: the CPU always, a GPU where there is one.

use std::cell::OnceCell;
use std::sync::Arc;

use super::{nvml, say, Settings, StopRule};
use crate::backend::cpu::{keep_freed_memory, Cpu};
use crate::backend::cuda::{Cuda, Device, Mode};
use crate::backend::Backend;
use crate::case::{BackendName, Case};
use crate::cost::Step;
use crate::error::{Error, Result};
use crate::record::{Environment, Gpu};
use crate::suite;

/// Set before CUDA is touched: else the driver remembers from earlier processes what it assembled, and a
/// time to compile means nothing.
pub const NO_DRIVER_CACHE: (&str, &str) = ("CUDA_CACHE_DISABLE", "1");

/// The GPU is looked for once, when the first case asks for it.
pub struct Machines {
    threads: usize,
    seed: u64,
    cold_l2: bool,
    stop: StopRule,
    gpu: OnceCell<Result<Arc<Device>, String>>,
}

/// `on_backend!(machines, name, |b| body)`: the body with a backend of that name, which is a
/// [`Cpu`](crate::backend::cpu::Cpu) or a [`Cuda`](crate::backend::cuda::Cuda). Returns from the enclosing
/// function with the reason when there is none.
#[macro_export]
macro_rules! on_backend {
    ($machines:expr, $name:expr, |$b:ident| $body:expr) => {
        match $name {
            $crate::case::BackendName::Cpu => {
                let $b = $machines.cpu()?;
                $body
            }
            name => {
                let $b = $machines.cuda(name)?;
                $body
            }
        }
    };
}

impl Machines {
    /// Opens nothing yet.
    pub fn new(settings: &Settings) -> Machines {
        let Settings { threads, seed, cold_l2, stop, .. } = *settings;
        Machines { threads, seed, cold_l2, stop, gpu: OnceCell::new() }
    }

    /// With the settings' threads.
    ///
    /// # Errors
    /// When the system has not so many to give.
    pub fn cpu(&self) -> Result<Cpu> {
        Cpu::new(self.threads)
    }

    /// # Errors
    /// When there is no GPU, saying what is missing, or the name is none of ours.
    pub fn cuda(&self, name: BackendName) -> Result<Cuda> {
        let mode = match name {
            BackendName::Cuda => Mode::Stream,
            BackendName::CudaGraph => Mode::Graph,
            BackendName::CudaSpecialised => Mode::Specialised,
            BackendName::Cpu | BackendName::Outside(_) => {
                return Err(Error::Input(format!("backend `{name}` is not run on a GPU from here")))
            }
        };
        let device = self.gpu().map_err(|what| Error::Device { backend: "cuda", what: what.into() })?;
        let cuda = Cuda::new(device, mode)?;
        if self.cold_l2 {
            return cuda.with_cold_l2();
        }
        Ok(cuda)
    }

    /// The first GPU, or why there is none.
    pub fn gpu(&self) -> Result<&Arc<Device>, &str> {
        let open = || Device::open(0).map_err(Error::reason);
        self.gpu.get_or_init(open).as_ref().map_err(String::as_str)
    }

    /// Whether this backend's device is an emulator in software, whose times are not shown.
    pub fn emulated(&self, backend: BackendName) -> bool {
        backend.is_cuda() && self.gpu().is_ok_and(|device| device.info.emulated)
    }

    /// The cases that can run here. Why others cannot is said once, on standard error.
    ///
    /// # Errors
    /// When none of them can, or a GPU's cache is to be emptied for none of them.
    pub fn able(&self, mut cases: Vec<Case>) -> Result<Vec<Case>> {
        let on_gpu = cases.iter().any(|case| case.backend.is_cuda());
        if self.cold_l2 && !on_gpu {
            return Err(Error::Input("--cold-l2: none of these cases runs on a GPU".into()));
        }
        if let Some(Err(why)) = on_gpu.then(|| self.gpu()) {
            cases.retain(|case| !case.backend.is_cuda());
            if cases.is_empty() || self.cold_l2 {
                return Err(Error::Device { backend: "cuda", what: why.into() });
            }
            say(format_args!("without the cases on a GPU: {why}"));
        }
        with_room(cases, |backend| on_backend!(self, backend, |b| b.free_bytes()))
    }

    /// Where the numbers of these cases will come from.
    pub fn environment(&self, cases: &[Case]) -> Environment {
        let mut environment = Environment::collect(self.threads, self.seed);
        environment.allocator = Some(keep_freed_memory());
        environment.sampling = Some(self.stop.to_string());
        if let Some(Ok(device)) = self.gpu.get().filter(|_| cases.iter().any(|case| case.backend.is_cuda())) {
            environment.emulated = device.info.emulated;
            let mut gpu = gpu(device, self.cold_l2);
            if !device.info.emulated {
                match nvml::complete(&mut gpu) {
                    Ok(unknown) if unknown.is_empty() => {}
                    Ok(unknown) => say(format_args!("note: NVML does not say the GPU's {}", unknown.join(", "))),
                    Err(why) => say(format_args!(
                        "note: NVML says nothing of the GPU ({why}): its driver, clocks, power and throttling stay unknown"
                    )),
                }
            }
            environment.gpu = Some(gpu);
        }
        environment
    }
}

/// Those for which there are `free` bytes on their backend: for the model, the sessions of all strategies of a position,
/// which are timed in turn, and a copy of the one whose turn it is. The others are named on standard error.
///
/// # Errors
/// When there is room for none.
fn with_room(cases: Vec<Case>, free: impl Fn(BackendName) -> Result<Option<u64>>) -> Result<Vec<Case>> {
    let (mut able, mut without) = (Vec::new(), Vec::new());
    for of_model in cases.chunk_by(suite::same_fixture) {
        let free = free(of_model[0].backend)?.unwrap_or(u64::MAX);
        for side_by_side in of_model.chunk_by(suite::side_by_side) {
            let mut taken = Step::of(&side_by_side[0])?.loaded_bytes();
            for case in side_by_side {
                let kept = Step::of(case)?.kept_peak_bytes();
                match taken + 2 * kept {
                    bytes if bytes as u64 > free => without.push((case, Error::TooLarge { bytes, free })),
                    _ => {
                        taken += kept;
                        able.push(*case);
                    }
                }
            }
        }
    }
    if able.is_empty() && !without.is_empty() {
        return Err(without.swap_remove(0).1);
    }
    without.iter().for_each(|(case, why)| say(format_args!("without {case}: {why}")));
    Ok(able)
}

fn gpu(device: &Device, cold_l2: bool) -> Gpu {
    let Device { info, nvrtc, target, .. } = device;
    let (major, minor) = info.compute_capability;
    let l2 = if cold_l2 { Gpu::COLD_L2 } else { Gpu::WARM_L2 };
    Gpu {
        name: Some(info.name.clone()),
        compute_capability: Some(format!("{major}.{minor}")),
        pci_bus_id: info.pci_bus_id.clone(),
        cuda: Some(info.driver.to_string()),
        nvrtc: Some(nvrtc.version.to_string()),
        nvrtc_place: Some(nvrtc.place.clone()),
        kernel_target: Some(target.clone()),
        memory_bytes: Some(info.memory_bytes as u64),
        multiprocessors: Some(info.multiprocessors as u64),
        l2_bytes: Some(info.l2_bytes as u64),
        l2: Some(l2.into()),
        ecc: Some(info.ecc),
        driver_cache_disabled: Some(std::env::var(NO_DRIVER_CACHE.0).is_ok_and(|v| v == NO_DRIVER_CACHE.1)),
        nvrtc_cache_disabled: Some(nvrtc.has_cache_option()),
        ..Gpu::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::device;

    /// Sessions of one position are there together, and one of them twice; those of another position are not.
    #[test]
    fn cases_without_room_are_left_out() {
        let case = |id: &str| -> Case { format!("transformer-toy/{id}").parse().unwrap() };
        let [padded, bounded, later] =
            ["padded/cpu/b1/t64", "bounded/cpu/b1/t64", "padded/cpu/b1/t512"].map(case);
        let step = Step::of(&padded).unwrap();
        let (model, kept) = (step.loaded_bytes() as u64, step.allocated_bytes() as u64); // of both strategies
        let with = |free: u64, cases: &[Case]| with_room(cases.to_vec(), |_| Ok(Some(free)));
        assert_eq!(with(model + 2 * kept, &[padded]).unwrap(), [padded]);
        let Err(Error::TooLarge { bytes, free }) = with(model + 2 * kept - 1, &[padded]) else { panic!() };
        assert_eq!((bytes as u64, free), (model + 2 * kept, model + 2 * kept - 1));
        assert_eq!(with(model + 3 * kept, &[padded, bounded, later]).unwrap(), [padded, bounded, later]);
        assert_eq!(with(model + 3 * kept - 1, &[padded, bounded, later]).unwrap(), [padded, later]);
        assert_eq!(with_room(vec![padded], |_| Ok(None)).unwrap(), [padded]);
    }

    /// Which NVRTC of those found, and what it made, without a folder of the user's.
    #[test]
    fn the_compiler_is_recorded_as_it_was_chosen() {
        let Some(device) = device() else { return };
        let gpu = gpu(&device, false);
        assert_eq!(gpu.nvrtc, Some(device.nvrtc.version.to_string()));
        let place = gpu.nvrtc_place.unwrap();
        let folder = device.nvrtc.path.parent().unwrap().display().to_string();
        assert!(place.contains(": ") && !place.contains(&folder), "{place}");
        let (major, minor) = device.info.compute_capability;
        let prefix = if device.info.emulated { "compute" } else { "sm" };
        assert!(gpu.kernel_target.unwrap().starts_with(&format!("{prefix}_{major}")), "{major}.{minor}");
    }
}
