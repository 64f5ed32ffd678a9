//! Names of Arm's cores and of those made after its architecture: the kernel gives two numbers, and no name.

use std::fmt;

/// Who made a core, and which it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Core {
    implementer: u32,
    part: u32,
}

/// By implementer and part; whoever is not here is called by the numbers.
#[rustfmt::skip]
const NAMES: [(u32, u32, &str); 55] = [
    (0x41, 0xd03, "Cortex-A53"), (0x41, 0xd04, "Cortex-A35"), (0x41, 0xd05, "Cortex-A55"), (0x41, 0xd07, "Cortex-A57"),
    (0x41, 0xd08, "Cortex-A72"), (0x41, 0xd09, "Cortex-A73"), (0x41, 0xd0a, "Cortex-A75"), (0x41, 0xd0b, "Cortex-A76"),
    (0x41, 0xd0d, "Cortex-A77"), (0x41, 0xd0e, "Cortex-A76AE"), (0x41, 0xd41, "Cortex-A78"), (0x41, 0xd42, "Cortex-A78AE"),
    (0x41, 0xd4b, "Cortex-A78C"), (0x41, 0xd46, "Cortex-A510"), (0x41, 0xd47, "Cortex-A710"), (0x41, 0xd4d, "Cortex-A715"),
    (0x41, 0xd80, "Cortex-A520"), (0x41, 0xd81, "Cortex-A720"), (0x41, 0xd87, "Cortex-A725"), (0x41, 0xd44, "Cortex-X1"),
    (0x41, 0xd4c, "Cortex-X1C"), (0x41, 0xd48, "Cortex-X2"), (0x41, 0xd4e, "Cortex-X3"), (0x41, 0xd82, "Cortex-X4"),
    (0x41, 0xd85, "Cortex-X925"),
    // servers: Graviton 2 and Ampere Altra are N1, Graviton 3 is V1, Graviton 4 and Grace are V2
    (0x41, 0xd0c, "Neoverse-N1"), (0x41, 0xd49, "Neoverse-N2"), (0x41, 0xd8e, "Neoverse-N3"), (0x41, 0xd40, "Neoverse-V1"),
    (0x41, 0xd4f, "Neoverse-V2"), (0x41, 0xd84, "Neoverse-V3"), (0x41, 0xd4a, "Neoverse-E1"),
    (0x42, 0x516, "ThunderX2"), (0x43, 0x0a1, "ThunderX"), (0x43, 0x0af, "ThunderX2"), (0x46, 0x001, "Fujitsu A64FX"),
    (0x48, 0xd01, "Kunpeng 920"), (0x4e, 0x004, "NVIDIA Carmel"), (0x50, 0x000, "X-Gene"), (0x51, 0x001, "Qualcomm Oryon"),
    (0x51, 0xc00, "Qualcomm Falkor"), (0x6d, 0xd49, "Azure Cobalt 100"), (0xc0, 0xac3, "AmpereOne"),
    (0x61, 0x022, "Apple M1 Icestorm"), (0x61, 0x023, "Apple M1 Firestorm"),
    (0x61, 0x024, "Apple M1 Pro Icestorm"), (0x61, 0x025, "Apple M1 Pro Firestorm"),
    (0x61, 0x028, "Apple M1 Max Icestorm"), (0x61, 0x029, "Apple M1 Max Firestorm"),
    (0x61, 0x032, "Apple M2 Blizzard"), (0x61, 0x033, "Apple M2 Avalanche"),
    (0x61, 0x034, "Apple M2 Pro Blizzard"), (0x61, 0x035, "Apple M2 Pro Avalanche"),
    (0x61, 0x038, "Apple M2 Max Blizzard"), (0x61, 0x039, "Apple M2 Max Avalanche"),
];

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "implementer {:#04x}, part {:#05x}", self.implementer, self.part)
    }
}

/// The kinds of cores in the fields of `/proc/cpuinfo`, and how many there are of each.
pub(super) fn cores<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(Core, usize)> {
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (mut cores, mut maker) = (Vec::<(Core, usize)>::new(), None);
    for (field, value) in fields {
        match (field, maker, number(value)) {
            ("CPU implementer", _, implementer) => maker = implementer,
            ("CPU part", Some(implementer), Some(part)) => {
                let core = Core { implementer, part };
                match cores.iter_mut().find(|(known, _)| *known == core) {
                    Some((_, count)) => *count += 1,
                    None => cores.push((core, 1)),
                }
            }
            _ => {}
        }
    }
    cores
}

/// `Neoverse-V1`; of a machine with several kinds `4 × Cortex-A55 + 4 × Cortex-A76`; `None` without a core.
pub(super) fn name(cores: &[(Core, usize)]) -> Option<String> {
    let named = |core: &Core| {
        let known = NAMES.iter().find(|(maker, part, _)| (*maker, *part) == (core.implementer, core.part));
        known.map_or_else(|| core.to_string(), |(_, _, name)| name.to_string())
    };
    match cores {
        [] => None,
        [(core, _)] => Some(named(core)),
        kinds => {
            let kinds = kinds.iter().map(|(core, count)| format!("{count} × {}", named(core)));
            Some(kinds.collect::<Vec<_>>().join(" + "))
        }
    }
}
