//! Which NVRTC makes what a driver can load.
//!
//! | NVRTC against the driver | machine code | PTX |
//! |---|---|---|
//! | not newer | loads | is assembled by the driver |
//! | a newer minor version of the same major one | loads: CUDA's minor-version compatibility | is refused, error 222 |
//! | a newer major version | is refused | is refused |
//!
//! Machine code for `sm_XY` runs on devices of the same major compute capability X and a minor one of at least
//! Y; PTX is assembled for any that is not below. Both as the CUDA C++ Programming Guide has it.

use super::super::driver::CudaVersion;

/// What kernels are loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// A cubin, for `sm_XY`.
    MachineCode,
    /// For `compute_XY`: what an emulated device takes.
    Ptx,
}

/// What an NVRTC is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// `None`: kernels are compiled and not loaded.
    pub driver: Option<CudaVersion>,
    /// What kernels are compiled to.
    pub image: Image,
    /// Of the device, if there is one.
    pub compute_capability: Option<(i32, i32)>,
}

/// Whether an NVRTC will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suitability {
    /// Not newer than the driver.
    Fits,
    /// Newer by its minor version alone: the driver loads its machine code.
    Compatible,
    /// By its major version, or the driver takes no machine code of a newer one.
    TooNew,
    /// It does not compile for the device.
    NoTarget,
}

impl Suitability {
    /// Whether it can be taken.
    pub fn will_do(self) -> bool {
        matches!(self, Suitability::Fits | Suitability::Compatible)
    }
}

impl Need {
    /// To compile only.
    pub const ANY: Need = Need { driver: None, image: Image::MachineCode, compute_capability: None };

    /// Of an NVRTC of this version that compiles for these compute capabilities, `90` meaning 9.0.
    pub fn judge(&self, version: CudaVersion, targets: &[i32]) -> Suitability {
        let newer = self.driver.filter(|&driver| version > driver);
        let compatible =
            |driver: CudaVersion| self.image == Image::MachineCode && version.major == driver.major;
        match newer {
            Some(driver) if !compatible(driver) => Suitability::TooNew,
            _ if self.compute_capability.is_some() && self.target(targets).is_none() => Suitability::NoTarget,
            Some(_) => Suitability::Compatible,
            None => Suitability::Fits,
        }
    }

    /// What to compile for: the newest that the device runs.
    pub fn target(&self, targets: &[i32]) -> Option<String> {
        let (major, minor) = self.compute_capability?;
        let device = 10 * major + minor;
        let (prefix, oldest) = match self.image {
            Image::MachineCode => ("sm", 10 * major),
            Image::Ptx => ("compute", 0),
        };
        let runs = targets.iter().filter(|&&target| (oldest..=device).contains(&target));
        runs.max().map(|target| format!("{prefix}_{target}"))
    }

    /// The index of the best: the newest that is not newer than the driver, else the least new, the first
    /// of equals; of those that will do.
    pub fn choose(&self, found: &[(CudaVersion, Suitability)]) -> Option<usize> {
        let able = found.iter().enumerate().filter(|(_, (_, verdict))| verdict.will_do());
        let best = able.min_by_key(|(_, (CudaVersion { major, minor }, verdict))| match verdict {
            Suitability::Fits => (0, -major, -minor),
            _ => (1, *major, *minor),
        });
        best.map(|(index, _)| index)
    }

    /// A verdict in words, for an NVRTC of this version.
    pub fn reason(&self, version: CudaVersion, verdict: Suitability) -> String {
        let driver = self.driver.map_or_else(String::new, |driver| format!("the driver (CUDA {driver})"));
        let CudaVersion { major, .. } = version;
        match verdict {
            Suitability::Fits if self.driver.is_none() => {
                "compiles, and there is no driver to load with".into()
            }
            Suitability::Fits => format!("not newer than {driver}"),
            Suitability::Compatible => {
                format!("newer than {driver}, which loads the machine code of all CUDA {major}")
            }
            Suitability::TooNew if self.driver.is_some_and(|driver| driver.major < major) => {
                format!("newer than {driver}, which loads nothing of CUDA {major}")
            }
            Suitability::TooNew => format!("newer than {driver}, which refuses its PTX"),
            Suitability::NoTarget => {
                let (major, minor) = self.compute_capability.unwrap_or_default();
                format!("does not compile for compute capability {major}.{minor}")
            }
        }
    }
}

/// How to get an NVRTC that this driver can follow, for this device.
pub fn advice(driver: Option<CudaVersion>, compute_capability: Option<(i32, i32)>) -> String {
    // CUDA 13 compiles for nothing older than Turing, its drivers still run it
    let ended = compute_capability.is_some_and(|capability| capability < (7, 5));
    let wanted = match driver {
        Some(driver) if ended && driver.major > 12 => Some(CudaVersion { major: 12, minor: 9 }),
        _ => driver,
    };
    match (driver, wanted.map(wheel)) {
        (None, _) => "`pip install nvidia-cuda-nvrtc` gets one".into(),
        (Some(driver), Some(Some(wheel))) => {
            format!("for this driver (CUDA {driver}): pip install '{wheel}'")
        }
        (Some(driver), _) => format!("for this driver: the CUDA {driver} toolkit"),
    }
}

/// The wheel on PyPI, whose name has the major version up to 12 and none from 13 on.
fn wheel(driver: CudaVersion) -> Option<String> {
    let CudaVersion { major, minor } = driver;
    let (name, minor) = match (major, minor) {
        (..11, _) => return None,
        (11, _) => ("nvidia-cuda-nvrtc-cu11", 8), // whose machine code every driver of CUDA 11 loads
        (12, 7) => ("nvidia-cuda-nvrtc-cu12", 6), // there were drivers of CUDA 12.7, and no toolkit
        (12, _) => ("nvidia-cuda-nvrtc-cu12", minor),
        _ => ("nvidia-cuda-nvrtc", minor),
    };
    Some(format!("{name}=={major}.{minor}.*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Image::{MachineCode, Ptx};
    use Suitability::{Compatible, Fits, NoTarget, TooNew};

    fn version(text: &str) -> CudaVersion {
        let (major, minor) = text.split_once('.').unwrap();
        CudaVersion { major: major.parse().unwrap(), minor: minor.parse().unwrap() }
    }

    /// Of an NVRTC of each major version, as `nvrtcGetSupportedArchs` of 11.8, 12.9 and 13.0 has them.
    fn targets(version: CudaVersion) -> &'static [i32] {
        match version.major {
            11 => &[35, 50, 60, 70, 75, 80, 86, 87, 89, 90],
            12 => &[50, 52, 60, 61, 70, 75, 80, 86, 87, 89, 90, 100, 101, 103, 120, 121],
            _ => &[75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121],
        }
    }

    /// The verdict on each, and the version chosen.
    fn chosen(need: Need, found: &[&str]) -> (Vec<Suitability>, Option<CudaVersion>) {
        let judged: Vec<_> =
            found.iter().map(|v| version(v)).map(|v| (v, need.judge(v, targets(v)))).collect();
        (judged.iter().map(|(_, verdict)| *verdict).collect(), need.choose(&judged).map(|i| judged[i].0))
    }

    #[test]
    fn the_newest_that_the_driver_can_follow_is_chosen() {
        let hopper = Some((9, 0));
        // driver, what is loaded, device, versions found; verdicts, the version chosen
        type Row<'a> =
            (&'a str, Image, Option<(i32, i32)>, &'a [&'a str], &'a [Suitability], Option<&'a str>);
        let table: [Row; 17] = [
            ("13.0", MachineCode, hopper, &["13.0"], &[Fits], Some("13.0")),
            ("13.0", MachineCode, hopper, &["12.9", "13.0"], &[Fits, Fits], Some("13.0")),
            ("13.0", MachineCode, hopper, &["13.2", "12.9"], &[Compatible, Fits], Some("12.9")),
            ("13.0", MachineCode, hopper, &["13.5", "13.2"], &[Compatible, Compatible], Some("13.2")),
            ("13.0", MachineCode, hopper, &["14.0"], &[TooNew], None),
            ("12.9", MachineCode, hopper, &["13.0", "12.4"], &[TooNew, Fits], Some("12.4")),
            ("12.4", MachineCode, hopper, &["13.0", "12.9"], &[TooNew, Compatible], Some("12.9")),
            ("12.4", Ptx, hopper, &["12.9", "13.0"], &[TooNew, TooNew], None),
            ("12.9", Ptx, hopper, &["13.0", "12.9", "12.8"], &[TooNew, Fits, Fits], Some("12.9")),
            ("13.0", Ptx, hopper, &["13.0", "12.9"], &[Fits, Fits], Some("13.0")),
            ("12.9", MachineCode, Some((10, 0)), &["11.8"], &[NoTarget], None),
            ("12.9", Ptx, Some((10, 0)), &["11.8"], &[Fits], Some("11.8")),
            ("13.0", MachineCode, Some((7, 0)), &["13.0", "12.9"], &[NoTarget, Fits], Some("12.9")),
            ("13.0", MachineCode, None, &["13.0", "14.0"], &[Fits, TooNew], Some("13.0")),
            ("", MachineCode, None, &["12.9", "14.0"], &[Fits, Fits], Some("14.0")),
            ("13.0", MachineCode, hopper, &[], &[], None),
            ("9.2", MachineCode, Some((7, 0)), &["11.8"], &[TooNew], None),
        ];
        for (driver, image, compute_capability, found, verdicts, best) in table {
            let driver = (!driver.is_empty()).then(|| version(driver));
            let need = Need { driver, image, compute_capability };
            assert_eq!(chosen(need, found), (verdicts.to_vec(), best.map(version)), "{need:?} {found:?}");
        }
    }

    /// Of equals the first: places are searched in the order in which they were named.
    #[test]
    fn of_equal_versions_the_first_is_chosen() {
        let one = (CudaVersion { major: 12, minor: 9 }, Fits);
        assert_eq!(Need::ANY.choose(&[one, one]), Some(0));
    }

    #[test]
    fn machine_code_is_of_the_devices_generation_and_ptx_of_any_before() {
        let target = |image, compute_capability, targets: &[i32]| {
            let need = Need { driver: None, image, compute_capability: Some(compute_capability) };
            need.target(targets)
        };
        let known = [75, 80, 86, 89, 90, 100, 120];
        for (image, device, want) in [
            (MachineCode, (9, 0), Some("sm_90")),
            (MachineCode, (8, 7), Some("sm_86")), // the same major, not above
            (MachineCode, (10, 3), Some("sm_100")),
            (MachineCode, (11, 0), None), // sm_100 is another generation
            (MachineCode, (7, 0), None),
            (Ptx, (11, 0), Some("compute_100")),
            (Ptx, (9, 0), Some("compute_90")),
            (Ptx, (7, 0), None),
        ] {
            assert_eq!(target(image, device, &known).as_deref(), want, "{image:?} {device:?}");
        }
        assert_eq!(target(MachineCode, (9, 0), &[]), None);
    }

    /// Wheels that PyPI has, one for each driver.
    #[test]
    fn advice_names_the_drivers_own_wheel() {
        for (driver, device, want) in [
            ("13.0", (9, 0), "for this driver (CUDA 13.0): pip install 'nvidia-cuda-nvrtc==13.0.*'"),
            ("12.9", (9, 0), "for this driver (CUDA 12.9): pip install 'nvidia-cuda-nvrtc-cu12==12.9.*'"),
            ("12.7", (9, 0), "for this driver (CUDA 12.7): pip install 'nvidia-cuda-nvrtc-cu12==12.6.*'"),
            ("11.4", (8, 0), "for this driver (CUDA 11.4): pip install 'nvidia-cuda-nvrtc-cu11==11.8.*'"),
            ("13.0", (7, 0), "for this driver (CUDA 13.0): pip install 'nvidia-cuda-nvrtc-cu12==12.9.*'"),
            ("10.2", (7, 0), "for this driver: the CUDA 10.2 toolkit"),
        ] {
            assert_eq!(advice(Some(version(driver)), Some(device)), want);
        }
        assert_eq!(advice(None, None), "`pip install nvidia-cuda-nvrtc` gets one");
    }

    #[test]
    fn reasons_name_the_driver() {
        let reason = |driver: &str, image, found| {
            let driver = Some(version(driver));
            let need = Need { driver, image, compute_capability: Some((9, 0)) };
            need.reason(version(found), need.judge(version(found), targets(version(found))))
        };
        for (got, want) in [
            (reason("13.0", MachineCode, "12.9"), "not newer than the driver (CUDA 13.0)"),
            (
                reason("13.0", MachineCode, "13.2"),
                "newer than the driver (CUDA 13.0), which loads the machine code of all CUDA 13",
            ),
            (
                reason("12.9", Ptx, "13.0"),
                "newer than the driver (CUDA 12.9), which loads nothing of CUDA 13",
            ),
            (reason("12.4", Ptx, "12.9"), "newer than the driver (CUDA 12.4), which refuses its PTX"),
        ] {
            assert_eq!(got, want);
        }
        let old = Need { compute_capability: Some((7, 0)), ..Need::ANY };
        let said = old.reason(version("13.0"), old.judge(version("13.0"), targets(version("13.0"))));
        assert_eq!(said, "does not compile for compute capability 7.0");
    }
}
