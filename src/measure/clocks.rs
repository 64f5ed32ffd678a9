//! A GPU's clocks and power under load: at rest they are a fraction of what they are a moment later.

use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::Nvml;

use super::nvml;
use crate::case::Case;
use crate::record::{Gpu, Metric, Round, Sample};

/// Asks one GPU for them.
pub struct Clocks {
    nvml: Nvml,
    pci_bus_id: String,
}

/// Each as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub sm_clock_mhz: Option<u64>,
    pub memory_clock_mhz: Option<u64>,
    pub power_mw: Option<u64>,
}

impl Clocks {
    pub fn of(gpu: Option<&Gpu>) -> Option<Clocks> {
        let pci_bus_id = gpu?.pci_bus_id.clone()?;
        Some(Clocks { nvml: nvml::open().ok()?, pci_bus_id })
    }

    /// As they are now: to be asked right after work, before the device is at rest.
    pub fn now(&self) -> Reading {
        let Ok(device) = self.nvml.device_by_pci_bus_id(self.pci_bus_id.as_str()) else {
            return Reading::default();
        };
        Reading {
            sm_clock_mhz: device.clock_info(Clock::SM).ok().map(u64::from),
            memory_clock_mhz: device.clock_info(Clock::Memory).ok().map(u64::from),
            power_mw: device.power_usage().ok().map(u64::from),
        }
    }
}

impl Reading {
    /// The rows they make: what is not known makes none.
    pub fn samples(&self, case: Case, round: Round) -> impl Iterator<Item = Sample> {
        let readings = [
            (Metric::SmClockMhz, self.sm_clock_mhz),
            (Metric::MemoryClockMhz, self.memory_clock_mhz),
            (Metric::PowerMw, self.power_mw),
        ];
        let known = readings.into_iter().filter_map(|(metric, value)| Some((metric, value?)));
        known.map(move |(metric, value)| Sample::value(case, metric, round, 1, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_makes_no_row() {
        let case = "transformer-toy/padded/cuda/b1/t64".parse().unwrap();
        let reading = Reading { sm_clock_mhz: Some(1980), power_mw: Some(412_000), ..Reading::default() };
        let rows: Vec<Sample> = reading.samples(case, Round::Interleaved(3)).collect();
        assert_eq!(
            rows,
            [
                Sample::value(case, Metric::SmClockMhz, Round::Interleaved(3), 1, 1980),
                Sample::value(case, Metric::PowerMw, Round::Interleaved(3), 1, 412_000)
            ]
        );
        assert_eq!(Reading::default().samples(case, Round::Interleaved(3)).count(), 0);
    }

    #[test]
    fn without_a_gpu_nobody_is_asked() {
        assert!(Clocks::of(None).is_none());
        assert!(Clocks::of(Some(&Gpu::default())).is_none());
    }
}
