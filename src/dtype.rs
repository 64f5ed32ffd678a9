//! The types of numbers that weights and caches are kept in.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How numbers are kept in memory. Sums are f32, and so are the vectors of a model: biases, gains of norms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// IEEE 754 single precision.
    #[default]
    F32,
    /// The upper half of an f32: its range, 8 bits of mantissa.
    Bf16,
    /// IEEE 754 half precision: 11 bits of mantissa, nothing beyond 65 504.
    F16,
    /// Whole numbers up to 127 times a scale, an f32 of each row and head. For a cache, not for weights.
    Int8,
}

impl Dtype {
    /// Every one.
    pub const ALL: &'static [Dtype] = &[Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::Int8];
    /// Those that weights may be of.
    pub const WEIGHTS: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::F16];

    /// Of one number; int8 has scales besides.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::Int8 => 1,
        }
    }

    /// The largest difference between neighbouring numbers, over the larger; for int8 over the largest of a head.
    /// None of those within f32.
    pub(crate) fn unit(self) -> f32 {
        match self {
            Dtype::F32 => 0.0,
            Dtype::Bf16 => 1.0 / 128.0,
            Dtype::F16 => 1.0 / 1024.0,
            Dtype::Int8 => 1.0 / 127.0,
        }
    }

    /// What follows a name in a case id: nothing, or as `-bf16`.
    pub(crate) fn suffix(self) -> String {
        match self {
            Dtype::F32 => String::new(),
            _ => format!("-{self}"),
        }
    }

    /// Whether a text has its name, other than as the end of a longer one: `bf16` is no `f16`.
    pub(crate) fn is_named_in(self, text: &str) -> bool {
        let name = self.to_string();
        let longer = Dtype::ALL.iter().map(Dtype::to_string).filter(|other| other.len() > name.len());
        longer.fold(text.to_string(), |text, other| text.replace(&other, " ")).contains(&name)
    }

    /// A name without the suffix of one of these, and what that means.
    pub(crate) fn split<'a>(name: &'a str, among: &[Dtype]) -> (&'a str, Dtype) {
        let suffixed = among.iter().filter(|dtype| **dtype != Dtype::F32);
        let found = suffixed.filter_map(|&dtype| Some((name.strip_suffix(&dtype.suffix())?, dtype))).next();
        found.unwrap_or((name, Dtype::F32))
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
            Dtype::Int8 => "int8",
        })
    }
}

impl FromStr for Dtype {
    type Err = Error;
    fn from_str(name: &str) -> Result<Dtype> {
        Dtype::ALL.iter().copied().find(|dtype| dtype.to_string() == name).ok_or_else(|| Error::Unknown {
            kind: "dtype",
            name: name.into(),
            known: Dtype::ALL.iter().map(Dtype::to_string).collect(),
        })
    }
}
