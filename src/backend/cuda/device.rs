//! Finding a GPU: the driver's library, a device, a compiler for its kernels. Each can be missing,
//! and each then says so in one sentence; nothing here panics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cudarc::driver::{result, sys, CudaContext, DriverError};

pub(super) use super::driver::broken;
use super::driver::{self, CudaVersion, Function};
use super::failed;
use super::kernels::Variant;
use super::nvrtc::{advice, Image, Need, Nvrtc, Survey};
use crate::backend::DeviceMemory;
use crate::error::{Error, Result};

/// What the device of the emulator in software calls itself. It shows that a program is right;
/// its times say nothing about a GPU and must not be kept.
const EMULATOR: &str = "CUDA software emulator";

/// A device with a compiler for it, and the kernels compiled so far for run-time lengths.
pub struct Device {
    pub(super) context: Arc<CudaContext>,
    /// The compiler for this device.
    pub nvrtc: Nvrtc,
    /// What kernels are compiled for and loaded as: machine code of `sm_90`, PTX of `compute_90`.
    pub target: String,
    /// What the driver says of the device.
    pub info: DeviceInfo,
    loaded: Mutex<HashMap<Variant, Arc<Function>>>,
}

/// What the driver says of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// As the driver spells it.
    pub name: String,
    /// In software: no time measured on it is one.
    pub emulated: bool,
    /// Major and minor: `(9, 0)`.
    pub compute_capability: (i32, i32),
    /// Of the device, in total.
    pub memory_bytes: usize,
    /// That blocks are dealt to.
    pub multiprocessors: i32,
    /// The newest CUDA that the driver knows.
    pub driver: CudaVersion,
    /// Whether its memory corrects errors.
    pub ecc: bool,
    /// Of the second-level cache.
    pub l2_bytes: usize,
    /// As the management library looks it up: `0000:17:00.0`.
    pub pci_bus_id: Option<String>,
}

impl Device {
    /// Opens a device and finds the compiler for it.
    ///
    /// # Errors
    /// No driver, no such device, no NVRTC that will do: one sentence each, with what to do about it.
    pub fn open(ordinal: usize) -> Result<Arc<Device>> {
        Device::open_for(ordinal, DeviceInfo::need)
    }

    fn open_for(ordinal: usize, need: impl Fn(&DeviceInfo) -> Need) -> Result<Arc<Device>> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(failed(format!("device {ordinal} was asked for, and there are {count}")));
        }
        let context = CudaContext::new(ordinal).map_err(|e| broken("open the device", e))?;
        // SAFETY: what tracking guards against, use by several streams at once, does not happen: all
        // work of this crate is queued on one stream. With it, every allocation would make two events.
        unsafe { context.disable_event_tracking() };
        if !context.has_async_alloc() {
            return Err(failed(
                "the device has no memory pools (cuMemAllocAsync), which what strategies keep comes from",
            ));
        }
        keep_freed_memory(&context).map_err(|e| broken("set up the memory pool", e))?;
        let info = describe(&context)?;
        let need = need(&info);
        let nvrtc = Survey::take(need).into_chosen()?;
        let target = need.target(&nvrtc.targets).expect("an NVRTC that will do has a target");
        Ok(Arc::new(Device { context, nvrtc, target, info, loaded: Mutex::default() }))
    }

    /// How many devices the driver has; an error is the reason that there are none.
    pub fn count() -> Result<usize> {
        driver::init()?;
        match result::device::get_count().map_err(|e| broken("count the devices", e))? {
            0 => Err(failed("there is an NVIDIA driver, and it sees no GPU")),
            n => Ok(n as usize),
        }
    }

    /// Every NVRTC of this machine, judged for the first device; without one for the driver, without which all
    /// will do.
    pub fn compilers() -> Survey {
        let need = match Device::count().and_then(|_| DeviceInfo::of(0)) {
            Ok(info) => info.need(),
            Err(_) => Need { driver: driver::version().ok(), ..Need::ANY },
        };
        Survey::take(need)
    }

    pub(super) fn memory(&self) -> Result<DeviceMemory> {
        let (free, total) = self.context.mem_get_info().map_err(|e| broken("ask for the free memory", e))?;
        Ok(DeviceMemory { pool_peak_bytes: self.pool_peak_bytes()?, used_bytes: (total - free) as u64 })
    }

    /// The most bytes of the memory pool in use at once since the device was opened.
    fn pool_peak_bytes(&self) -> Result<u64> {
        let mut bytes = 0u64;
        // SAFETY: the attribute is a 64-bit number, written during the call.
        let read = unsafe {
            result::device::get_default_mem_pool(self.context.cu_device()).and_then(|pool| {
                let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
                sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()).result()
            })
        };
        read.map_err(|e| broken("ask the memory pool", e))?;
        Ok(bytes)
    }

    /// The kernel, compiled and loaded at its first use; how long that took, if it was now.
    pub(super) fn kernel(&self, variant: &Variant) -> Result<(Arc<Function>, Option<u64>)> {
        // a thread that panicked while it held the lock left whole entries behind
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.get(variant) {
            return Ok((function.clone(), None));
        }
        let (function, compile_ns) = self.load(variant)?;
        loaded.insert(*variant, function.clone());
        Ok((function, Some(compile_ns)))
    }

    /// Compiles and loads a kernel; how long both took together: to machine code NVRTC compiles, of PTX the
    /// driver makes it when it loads.
    pub(super) fn load(&self, variant: &Variant) -> Result<(Arc<Function>, u64)> {
        let start = Instant::now();
        let compiled = variant.compile(&self.nvrtc, &self.target)?;
        let name = variant.kernel.name();
        // SAFETY: the image is NVRTC's own: a cubin for `sm_90`, PTX with its NUL for `compute_90`.
        let function = unsafe { Function::load(&self.context, &compiled.image, name) };
        let function = function.map_err(|code| self.unloaded(name, code))?;
        Ok((Arc::new(function), start.elapsed().as_nanos() as u64))
    }

    /// Why a kernel cannot be loaded; where another NVRTC may help, which.
    fn unloaded(&self, name: &str, code: driver::Code) -> Error {
        let Device { nvrtc, target, info, .. } = self;
        match code.is_about_the_image() {
            true => failed(format!(
                "cannot load kernel `{name}`, made for {target} by NVRTC {} ({}): {code}; {}",
                nvrtc.version,
                nvrtc.place,
                advice(Some(info.driver), Some(info.compute_capability))
            )),
            false => broken(&format!("load kernel `{name}`"), code),
        }
    }
}

impl DeviceInfo {
    /// What the driver says of a device, which need not have a compiler.
    pub fn of(ordinal: usize) -> Result<DeviceInfo> {
        let context = CudaContext::new(ordinal).map_err(|e| broken("open the device", e))?;
        describe(&context)
    }

    /// Whether a kernel may start while the one ahead of it still runs: since Hopper, and in recordings since CUDA
    /// 12.3.
    pub(super) fn overlaps(&self) -> bool {
        self.compute_capability >= (9, 0) && self.driver >= CudaVersion { major: 12, minor: 3 }
    }

    /// What an NVRTC must make for the device: its machine code; an emulator knows PTX alone.
    pub fn need(&self) -> Need {
        Need {
            driver: Some(self.driver),
            image: if self.emulated { Image::Ptx } else { Image::MachineCode },
            compute_capability: Some(self.compute_capability),
        }
    }
}

/// What the pool was given back stays with the pool, so that growing by concatenation asks the
/// operating system for memory once and not at every step, as the allocators of frameworks do.
fn keep_freed_memory(context: &CudaContext) -> Result<(), DriverError> {
    let mut threshold = u64::MAX;
    // SAFETY: the attribute is a 64-bit number, read during the call.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast())
    }
}

fn describe(context: &CudaContext) -> Result<DeviceInfo> {
    let driver = driver::version()?;
    let asked = || -> Result<DeviceInfo, DriverError> {
        use sys::CUdevice_attribute as Attribute;
        let name = context.name()?;
        let pci = |attribute| context.attribute(attribute).ok();
        let pci_bus_id = pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)
            .zip(pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID))
            .zip(pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID))
            .map(|((domain, bus), device)| format!("{domain:04x}:{bus:02x}:{device:02x}.0"));
        Ok(DeviceInfo {
            emulated: name == EMULATOR,
            name,
            compute_capability: context.compute_capability()?,
            memory_bytes: context.total_mem()?,
            multiprocessors: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            driver,
            ecc: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_ECC_ENABLED)? != 0,
            l2_bytes: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
            pci_bus_id,
        })
    };
    asked().map_err(|e| broken("describe the device", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::Kernel;
    use crate::backend::tests::device;

    const ADD: Variant =
        Variant { kernel: Kernel::Add, vec: 1, head: 0, rows: 0, lengths: [0; super::super::MOST_LENGTHS] };

    #[test]
    fn a_gpu_is_given_machine_code_and_an_emulator_ptx() {
        let info = |emulated| DeviceInfo {
            name: "NVIDIA H100".into(),
            emulated,
            compute_capability: (9, 0),
            memory_bytes: 0,
            multiprocessors: 132,
            driver: CudaVersion { major: 13, minor: 0 },
            ecc: true,
            l2_bytes: 0,
            pci_bus_id: None,
        };
        let target = |emulated| info(emulated).need().target(&[75, 80, 90, 100]);
        assert_eq!((target(false).as_deref(), target(true).as_deref()), (Some("sm_90"), Some("compute_90")));
    }

    /// As on a real device, which takes machine code: an emulated one refuses it, and the line says what was
    /// made for what by which NVRTC, and which would do.
    #[test]
    fn machine_code_that_a_device_cannot_run_is_refused_in_one_line() {
        let Some(emulated) = device().filter(|device| device.info.emulated) else { return };
        let as_real = |info: &DeviceInfo| Need { image: Image::MachineCode, ..info.need() };
        let device = Device::open_for(0, as_real).unwrap();
        assert_eq!((emulated.target.as_str(), device.target.as_str()), ("compute_90", "sm_90"));
        let said = device.load(&ADD).err().expect("no machine code is emulated").to_string();
        assert!(!said.contains('\n'), "{said}");
        if !said.contains("stands in for NVRTC") {
            assert!(said.starts_with("cuda: cannot load kernel `add`, made for sm_90 by NVRTC "), "{said}");
            let advice = advice(Some(device.info.driver), Some((9, 0)));
            assert!(said.contains("CUDA_ERROR_NO_BINARY_FOR_GPU") && said.ends_with(&advice), "{said}");
        }
    }

    /// A driver that refuses PTX nevertheless is answered with the wheel to install. Another process plays the
    /// older driver: this one has begun with its own.
    #[test]
    fn ptx_that_a_driver_does_not_know_is_refused_with_advice() {
        const OLD: (&str, &str) = ("CUDA_EMU_DRIVER", "12040");
        if std::env::var(OLD.0).is_ok_and(|version| version == OLD.1) {
            let driver_ignored = |info: &DeviceInfo| Need { driver: None, ..info.need() };
            let device = Device::open_for(0, driver_ignored).unwrap();
            let said = device.load(&ADD).err().expect("PTX newer than the driver").to_string();
            assert!(said.contains("CUDA_ERROR_UNSUPPORTED_PTX_VERSION"), "{said}");
            let wheel = "for this driver (CUDA 12.4): pip install 'nvidia-cuda-nvrtc-cu12==12.4.*'";
            assert!(said.ends_with(wheel) && !said.contains('\n'), "{said}");
            return;
        }
        let Some(device) = device().filter(|device| device.info.emulated) else { return };
        if device.nvrtc.compile("k", "__global__ void k() {}", "sm_90", &[]).is_err() {
            return; // a stand-in for the compiler makes no PTX
        }
        let name = "backend::cuda::device::tests::ptx_that_a_driver_does_not_know_is_refused_with_advice";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name]).env(OLD.0, OLD.1).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
