//! What NVIDIA's management library says of the run's GPU, where that library is: clocks, driver, and why
//! it is slow.

use std::ffi::OsStr;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::Nvml;

use crate::record::Gpu;

/// Adds what it knows. What it does not know stays unknown.
pub fn complete(gpu: &mut Gpu) {
    let Some(nvml) = open() else { return };
    gpu.driver = nvml.sys_driver_version().ok();
    let Some(Ok(device)) = gpu.pci_bus_id.as_deref().map(|id| nvml.device_by_pci_bus_id(id)) else { return };
    let mhz = |clock: Result<u32, NvmlError>| clock.ok().map(u64::from);
    gpu.sm_clock_mhz = mhz(device.clock_info(Clock::SM));
    gpu.memory_clock_mhz = mhz(device.clock_info(Clock::Memory));
    gpu.sm_clock_most_mhz = mhz(device.max_clock_info(Clock::SM));
    gpu.throttle_reasons = device.current_throttle_reasons().ok().map(|reasons| format!("{reasons:?}"));
}

/// Asks whether one GPU slows itself down.
pub struct Throttling {
    nvml: Nvml,
    pci_bus_id: String,
}

impl Throttling {
    pub fn of(gpu: Option<&Gpu>) -> Option<Throttling> {
        let pci_bus_id = gpu?.pci_bus_id.clone()?;
        Some(Throttling { nvml: open()?, pci_bus_id })
    }

    /// For heat or power, and not because it is idle or somebody set its clocks.
    pub fn now(&self) -> bool {
        let chosen = ThrottleReasons::GPU_IDLE
            | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING
            | ThrottleReasons::DISPLAY_CLOCK_SETTING;
        let device = self.nvml.device_by_pci_bus_id(self.pci_bus_id.as_str());
        let reasons = device.and_then(|device| device.current_throttle_reasons());
        reasons.is_ok_and(|reasons| !(reasons - chosen).is_empty())
    }
}

/// The library under the name that the driver installs; its link without a number is for developers.
pub(super) fn open() -> Option<Nvml> {
    Nvml::builder().lib_path(OsStr::new("libnvidia-ml.so.1")).init().or_else(|_| Nvml::init()).ok()
}
