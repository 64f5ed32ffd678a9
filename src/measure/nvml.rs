//! What NVIDIA's management library says of the run's GPU, where that library is: clocks, driver, and why
//! it is slow.

use std::ffi::OsStr;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::record::Gpu;

/// Adds what it knows, and returns in words what stays unknown of that and of what it is asked during a run.
///
/// # Errors
/// When the library, or the device in it, cannot be had: nothing is known.
pub fn complete(gpu: &mut Gpu) -> Result<Vec<&'static str>, NvmlError> {
    complete_from(&open()?, gpu)
}

fn complete_from(nvml: &Nvml, gpu: &mut Gpu) -> Result<Vec<&'static str>, NvmlError> {
    gpu.driver = nvml.sys_driver_version().ok();
    let device = nvml.device_by_pci_bus_id(gpu.pci_bus_id.as_deref().unwrap_or_default())?;
    let mhz = |clock: Result<u32, NvmlError>| clock.ok().map(u64::from);
    gpu.sm_clock_mhz = mhz(device.clock_info(Clock::SM));
    gpu.memory_clock_mhz = mhz(device.clock_info(Clock::Memory));
    gpu.sm_clock_most_mhz = mhz(device.max_clock_info(Clock::SM));
    gpu.throttle_reasons = throttle_reasons(nvml, &device).map(|reasons| format!("{reasons:?}"));
    let known = [
        ("driver", gpu.driver.is_some()),
        ("clock", gpu.sm_clock_mhz.is_some()),
        ("memory clock", gpu.memory_clock_mhz.is_some()),
        ("highest clock", gpu.sm_clock_most_mhz.is_some()),
        ("throttling", gpu.throttle_reasons.is_some()),
        ("power", device.power_usage().is_ok()),
    ];
    Ok(known.into_iter().filter_map(|(what, known)| (!known).then_some(what)).collect())
}

/// Asks whether one GPU slows itself down.
pub struct Throttling {
    nvml: Nvml,
    pci_bus_id: String,
}

impl Throttling {
    pub fn of(gpu: Option<&Gpu>) -> Option<Throttling> {
        let pci_bus_id = gpu?.pci_bus_id.clone()?;
        Some(Throttling { nvml: open().ok()?, pci_bus_id })
    }

    /// For heat or power, and not because it is idle or somebody set its clocks. `None` where that is unknown.
    pub fn now(&self) -> Option<bool> {
        let chosen = ThrottleReasons::GPU_IDLE
            | ThrottleReasons::APPLICATIONS_CLOCKS_SETTING
            | ThrottleReasons::DISPLAY_CLOCK_SETTING;
        let device = self.nvml.device_by_pci_bus_id(self.pci_bus_id.as_str()).ok()?;
        Some(!(throttle_reasons(&self.nvml, &device)? - chosen).is_empty())
    }
}

/// Why clocks are lower than they could be, also for reasons that have no name here. The library has called this
/// `ClocksEventReasons` for some years and may drop the older name, the only one that the wrapper's own method
/// asks by: `None` where it answers to neither.
fn throttle_reasons(nvml: &Nvml, device: &Device) -> Option<ThrottleReasons> {
    let library = nvml.lib();
    let names =
        [&library.nvmlDeviceGetCurrentClocksEventReasons, &library.nvmlDeviceGetCurrentClocksThrottleReasons];
    let answer = names.into_iter().flatten().find_map(|ask| {
        let mut reasons = 0;
        // SAFETY: the library is open and begun, the handle is its own, and the pointer is to a live integer.
        let code = unsafe { ask(device.handle(), &mut reasons) };
        (code == 0).then_some(reasons)
    });
    answer.map(ThrottleReasons::from_bits_retain)
}

/// The library under the name that the driver installs; its link without a number is for developers.
pub(super) fn open() -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(OsStr::new("libnvidia-ml.so.1")).init().or_else(|_| Nvml::init())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// As much of the management library as is asked here: its GPU is throttled by `reasons`, under the names
    /// of one generation of drivers, of the other, of both, or of none.
    const LIBRARY: &str = "
        int nvmlInit_v2(void) { return 0; }
        int nvmlShutdown(void) { return 0; }
        int nvmlSystemGetDriverVersion(char* to, unsigned size) { return to[0] = '1', to[1] = 0; }
        int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) { return *device = 0, 0; }
        #ifdef EVENT
        int nvmlDeviceGetCurrentClocksEventReasons(void* device, unsigned long long* to) { return *to = EVENT, 0; }
        #endif
        #ifdef THROTTLE
        int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* to) { return *to = THROTTLE, 0; }
        #endif
        ";

    /// The library, compiled into the folder with these definitions; `None` without a C compiler.
    fn library(folder: &Path, name: &str, defines: &[&str]) -> Option<Nvml> {
        let (source, library) = (folder.join("nvml.c"), folder.join(name));
        std::fs::write(&source, LIBRARY).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).args(defines);
        assert!(cc.status().ok()?.success());
        Some(Nvml::builder().lib_path(library.as_os_str()).init().unwrap())
    }

    #[test]
    fn throttling_is_asked_by_either_name_and_unknown_by_none() {
        let folder = tempfile::tempdir().unwrap();
        let (power, idle, unnamed) = (0x4, 0x1, 1 << 40);
        for (index, (defines, reasons, throttled)) in [
            (&["-DEVENT=4ull", "-DTHROTTLE=1ull"][..], Some(power), Some(true)), // the current name counts
            (&["-DEVENT=1ull"], Some(idle), Some(false)),
            (&["-DTHROTTLE=4ull"], Some(power), Some(true)),
            (&["-DEVENT=1ull<<40"], Some(unnamed), Some(true)),
            (&[], None, None),
        ]
        .into_iter()
        .enumerate()
        {
            let Some(nvml) = library(folder.path(), &format!("libnvml-{index}.so"), defines) else { return };
            let found = {
                let device = nvml.device_by_pci_bus_id("0000:17:00.0").unwrap();
                throttle_reasons(&nvml, &device).map(|reasons| reasons.bits())
            };
            assert_eq!(found, reasons, "{defines:?}");
            let mut gpu = Gpu { pci_bus_id: Some("0000:17:00.0".into()), ..Gpu::default() };
            let mut unknown = complete_from(&nvml, &mut gpu).unwrap();
            assert_eq!(unknown.contains(&"throttling"), reasons.is_none(), "{defines:?}");
            unknown.retain(|what| *what != "throttling");
            assert_eq!(unknown, ["clock", "memory clock", "highest clock", "power"], "the driver is known");
            let throttling = Throttling { nvml, pci_bus_id: "0000:17:00.0".into() };
            assert_eq!(throttling.now(), throttled, "{defines:?}");
        }
    }
}
