//! Finding a GPU: the driver's library, a device, a compiler for its kernels. Each can be missing,
//! and each then says so in one sentence; nothing here panics.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cudarc::driver::{result, sys, CudaContext, CudaFunction, DriverError};
use cudarc::nvrtc::Ptx;

use super::failed;
use super::kernels::{ptx_target, Variant};
use super::nvrtc::Nvrtc;
use crate::backend::DeviceMemory;
use crate::error::{Error, Result};

/// What the device of the emulator in software calls itself. It shows that a program is right;
/// its times say nothing about a GPU and must not be kept.
const EMULATOR: &str = "CUDA software emulator";

/// A device with a compiler for it, and the kernels compiled so far for run-time lengths.
pub struct Device {
    pub(super) context: Arc<CudaContext>,
    pub(super) nvrtc: Nvrtc,
    /// What PTX is compiled for.
    pub(super) target: String,
    pub info: DeviceInfo,
    loaded: Mutex<HashMap<Variant, CudaFunction>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    pub name: String,
    /// In software: no time measured on it is one.
    pub emulated: bool,
    pub compute_capability: (i32, i32),
    pub memory_bytes: usize,
    pub multiprocessors: i32,
    /// As the driver counts: 12090 is 12.9.
    pub driver: i32,
    /// Of the compiler, where there is one.
    pub nvrtc: Option<(i32, i32)>,
    pub ecc: bool,
    pub l2_bytes: usize,
    /// As the management library looks it up: `0000:17:00.0`.
    pub pci_bus_id: Option<String>,
}

impl Device {
    /// Opens a device and finds the compiler for it.
    ///
    /// # Errors
    /// No driver, no such device, no NVRTC: one sentence each, with what to do about it.
    pub fn open(ordinal: usize) -> Result<Arc<Device>> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(failed(format!("device {ordinal} was asked for, and there are {count}")));
        }
        let nvrtc = Nvrtc::find()?;
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
        let info = describe(&context, Some(nvrtc.version)).map_err(|e| broken("describe the device", e))?;
        let target = ptx_target(&nvrtc, info.compute_capability)?;
        Ok(Arc::new(Device { context, nvrtc, target, info, loaded: Mutex::default() }))
    }

    /// How many devices the driver has; an error is the reason that there are none.
    pub fn count() -> Result<usize> {
        // SAFETY: opening the driver's library runs its initialisers, which ask nothing of us.
        if !unsafe { sys::is_culib_present() } {
            return Err(failed("no NVIDIA driver: libcuda.so.1 is not on this machine, or not where LD_LIBRARY_PATH and the system look; it comes with the driver of an NVIDIA GPU"));
        }
        result::init().map_err(|e| match e.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => failed("there is an NVIDIA driver, and it sees no GPU"),
            _ => broken("start the driver", e),
        })?;
        match result::device::get_count().map_err(|e| broken("count the devices", e))? {
            0 => Err(failed("there is an NVIDIA driver, and it sees no GPU")),
            n => Ok(n as usize),
        }
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
    pub(super) fn kernel(&self, variant: &Variant) -> Result<(CudaFunction, Option<u64>)> {
        // a thread that panicked while it held the lock left whole entries behind
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.get(variant) {
            return Ok((function.clone(), None));
        }
        let (function, compile_ns) = self.load(variant)?;
        loaded.insert(*variant, function.clone());
        Ok((function, Some(compile_ns)))
    }

    /// Compiles and loads a kernel; how long NVRTC and the driver's assembler took together.
    pub(super) fn load(&self, variant: &Variant) -> Result<(CudaFunction, u64)> {
        let start = Instant::now();
        let compiled = variant.compile(&self.nvrtc, &self.target)?;
        let name = variant.kernel.name();
        let ptx = CStr::from_bytes_until_nul(&compiled.image).ok().and_then(|ptx| ptx.to_str().ok());
        let ptx = Ptx::from_src(ptx.ok_or_else(|| failed(format!("NVRTC made no text of `{name}`")))?);
        let module =
            self.context.load_module(ptx).map_err(|e| broken(&format!("load kernel `{name}`"), e))?;
        let function = module.load_function(name).map_err(|e| broken(&format!("find kernel `{name}`"), e))?;
        Ok((function, start.elapsed().as_nanos() as u64))
    }
}

impl DeviceInfo {
    /// The newest CUDA that the driver knows: `12.9`.
    pub fn cuda_version(&self) -> String {
        format!("{}.{}", self.driver / 1000, self.driver % 1000 / 10)
    }

    /// What the driver says of a device, which need not have a compiler.
    pub fn of(ordinal: usize, nvrtc: Option<(i32, i32)>) -> Result<DeviceInfo> {
        let context = CudaContext::new(ordinal).map_err(|e| broken("open the device", e))?;
        describe(&context, nvrtc).map_err(|e| broken("describe the device", e))
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

fn describe(context: &CudaContext, nvrtc: Option<(i32, i32)>) -> Result<DeviceInfo, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let name = context.name()?;
    let pci = |attribute| context.attribute(attribute).ok();
    let pci_bus_id = pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)
        .zip(pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID))
        .zip(pci(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID))
        .map(|((domain, bus), device)| format!("{domain:04x}:{bus:02x}:{device:02x}.0"));
    let mut driver = 0;
    // SAFETY: the pointer is to a live integer.
    unsafe { sys::cuDriverGetVersion(&mut driver) }.result()?;
    Ok(DeviceInfo {
        emulated: name == EMULATOR,
        name,
        compute_capability: context.compute_capability()?,
        memory_bytes: context.total_mem()?,
        multiprocessors: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        driver,
        nvrtc,
        ecc: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_ECC_ENABLED)? != 0,
        l2_bytes: context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        pci_bus_id,
    })
}

/// A driver's error as a sentence: what was tried, and the driver's own words.
pub(super) fn broken(doing: &str, error: DriverError) -> Error {
    let said =
        |text: Result<&CStr, DriverError>| text.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    failed(format!("cannot {doing}: {} ({})", said(error.error_string()), said(error.error_name())))
}
