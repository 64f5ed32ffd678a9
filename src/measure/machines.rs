//! What cases can run on here: the CPU always, a GPU where there is one.

use std::cell::OnceCell;
use std::sync::Arc;

use super::{nvml, say, Settings, StopRule};
use crate::backend::cpu::{keep_freed_memory, Cpu};
use crate::backend::cuda::{Cuda, Device, Mode};
use crate::case::{BackendName, Case};
use crate::error::{Error, Result};
use crate::record::{Environment, Gpu};

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
        if !cases.iter().any(|case| case.backend.is_cuda()) {
            return match self.cold_l2 {
                true => Err(Error::Input("--cold-l2: none of these cases runs on a GPU".into())),
                false => Ok(cases),
            };
        }
        if let Err(why) = self.gpu() {
            cases.retain(|case| !case.backend.is_cuda());
            if cases.is_empty() || self.cold_l2 {
                return Err(Error::Device { backend: "cuda", what: why.into() });
            }
            say(format_args!("without the cases on a GPU: {why}"));
        }
        Ok(cases)
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
                nvml::complete(&mut gpu);
            }
            environment.gpu = Some(gpu);
        }
        environment
    }
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
