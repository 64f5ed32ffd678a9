//! A [`Case`] is one thing that can be measured. It prints to its id and parses from it, and the id
//! is the join key everywhere: criterion's id, a CSV column, the command line's filter, a plot's label.
//!
//! ```
//! use decode_bench::case::Case;
//! let case: Case = "transformer-toy/chunked-64/cpu/b1/t256".parse()?;
//! assert_eq!((case.batch, case.position), (1, 256));
//! assert_eq!(case.to_string(), "transformer-toy/chunked-64/cpu/b1/t256");
//! # Ok::<(), decode_bench::error::Error>(())
//! ```

use std::fmt;
use std::str::FromStr;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::strategy::{CacheConfig, Slot, Strategy, MOST_POSITIONS};

/// A kind of model: see [`crate::model`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelKind {
    /// GPT-2's.
    Transformer,
    /// fairseq's convolutional language model.
    LinearizedConv,
    /// Root mean squares, rotary positions, gated units, grouped queries.
    Llama,
    /// The same blocks with a state in place of a cache that grows.
    Retention,
    /// A transformer with cross-attention to an encoder.
    EncoderDecoder,
    /// fairseq's convolutional translator.
    ConvSeq2Seq,
}

impl ModelKind {
    /// What kind of memory its layers ask for; the sizes stand for any.
    pub fn slot(self) -> Slot {
        match self {
            ModelKind::Transformer | ModelKind::Llama | ModelKind::EncoderDecoder => {
                Slot::Rows { width: 1, heads: 1 }
            }
            ModelKind::LinearizedConv | ModelKind::ConvSeq2Seq => {
                Slot::Window { width: 1, heads: 1, rows: 1 }
            }
            ModelKind::Retention => Slot::State { rows: 1, width: 1 },
        }
    }

    /// Whether a cache has a form for its layers' state, and for its encoder's output if that is what the
    /// strategy is about.
    pub fn supports(self, cache: impl Into<CacheConfig>) -> bool {
        let (cache, slot) = (cache.into(), self.slot());
        let projects = cache.strategy != Strategy::Reprojected || self.projects_a_source();
        slot.fits(cache.strategy) && projects && cache.check(&[slot]).is_ok()
    }

    /// Whether it decodes from a source, and not from a prompt alone.
    pub fn has_source(self) -> bool {
        matches!(self, ModelKind::EncoderDecoder | ModelKind::ConvSeq2Seq)
    }

    /// Whether it makes keys and values of its source, which could be made anew at every step.
    pub fn projects_a_source(self) -> bool {
        self == ModelKind::EncoderDecoder
    }
}

/// The sizes that every table and plot means by these names; the figures are in the files of [`crate::model`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShapeName {
    /// Small enough for every cache level and every test.
    Tiny,
    /// Some three million weights.
    Toy,
    /// Some twenty million weights.
    Base,
    /// GPT-2's own size; transformer only.
    Gpt2,
    /// fairseq's default size of the convolutional language model; linearized-conv only.
    Large,
    /// Three layers on either side, as in Flax's tests of its translation example; encoder-decoder only.
    FlaxToy,
    /// Six layers on either side of width 1024, as Flax's translation example and fairseq's large; encoder-decoder only.
    Wmt,
}

/// A model of a named shape, with weights of some type: what is loaded once for all its cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    /// Which kind of model.
    pub kind: ModelKind,
    /// In which size.
    pub shape: ShapeName,
    /// Of its matrices and tables.
    pub weights: Dtype,
}

impl ModelName {
    /// With weights in f32.
    pub fn f32(kind: ModelKind, shape: ShapeName) -> ModelName {
        ModelName { kind, shape, weights: Dtype::F32 }
    }

    /// A case of it.
    pub fn case(
        self,
        cache: impl Into<CacheConfig>,
        backend: BackendName,
        batch: usize,
        position: usize,
    ) -> Case {
        let (ModelName { kind: model, shape, weights }, cache) = (self, cache.into());
        let CacheConfig { strategy, dtype: cache } = cache;
        Case { model, shape, weights, strategy, cache, backend, batch, position }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}{}", self.kind, self.shape, self.weights.suffix()))
    }
}

/// The backend that runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendName {
    /// This crate's own kernels on the processor.
    Cpu,
    /// One launch for each operation.
    Cuda,
    /// A step recorded once and replayed.
    CudaGraph,
    /// All lengths compiled in.
    CudaSpecialised,
    /// None of ours, which runs nothing here: a compiler for a GPU that is not there, `nvrtc-sm_90`; another
    /// program with the same weights, `torch`. Its records are read, compared and drawn like all others.
    Outside(OutsideName),
}

/// A lower-case letter, and then letters, digits, `-` and `_`: at most 24 of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutsideName([u8; 24]);

/// Gives an enum its names: `Display`, `FromStr` with the nearest names in the error, `ALL`.
macro_rules! names {
    ($type:ident, $kind:literal, $($variant:ident => $name:literal),+ $(,)?) => {
        impl $type {
            /// Every one that has a name.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];
            /// As in a case id.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
        impl FromStr for $type {
            type Err = Error;
            fn from_str(name: &str) -> Result<$type> {
                $type::ALL.iter().copied().find(|x| x.name() == name).ok_or_else(|| Error::Unknown {
                    kind: $kind,
                    name: name.into(),
                    known: $type::ALL.iter().map(|x| x.name().to_string()).collect(),
                })
            }
        }
    };
}

names!(
    ModelKind, "model",
    Transformer => "transformer",
    LinearizedConv => "linearized-conv",
    Llama => "llama",
    Retention => "retention",
    EncoderDecoder => "encoder-decoder",
    ConvSeq2Seq => "conv-seq2seq",
);
names!(
    ShapeName, "shape",
    Tiny => "tiny",
    Toy => "toy",
    Base => "base",
    Gpt2 => "gpt2",
    Large => "large",
    FlaxToy => "flax-toy",
    Wmt => "wmt",
);

impl OutsideName {
    /// `None` when it is no such name.
    pub fn new(name: &str) -> Option<OutsideName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let fits = name.len() <= 24 && name.starts_with(|c: char| c.is_ascii_lowercase());
        (fits && name.bytes().all(plain)).then(|| {
            let mut bytes = [0; 24];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            OutsideName(bytes)
        })
    }

    /// Without the bytes behind its end.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..length]).expect("made of ASCII")
    }
}

impl fmt::Debug for OutsideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BackendName {
    type Err = Error;
    fn from_str(name: &str) -> Result<BackendName> {
        let outside = |error| OutsideName::new(name).map(BackendName::Outside).ok_or(error);
        BackendName::ours(name).or_else(outside)
    }
}

impl BackendName {
    /// Those that run our models.
    pub const OURS: &'static [BackendName] =
        &[BackendName::Cpu, BackendName::Cuda, BackendName::CudaGraph, BackendName::CudaSpecialised];

    /// One of [`Self::OURS`] by its name.
    pub fn ours(name: &str) -> Result<BackendName> {
        BackendName::OURS.iter().copied().find(|b| b.name() == name).ok_or_else(|| Error::Unknown {
            kind: "backend",
            name: name.into(),
            known: BackendName::OURS.iter().map(|b| b.name().to_string()).collect(),
        })
    }

    /// As in a case id.
    pub fn name(&self) -> &str {
        match self {
            BackendName::Cpu => "cpu",
            BackendName::Cuda => "cuda",
            BackendName::CudaGraph => "cuda-graph",
            BackendName::CudaSpecialised => "cuda-specialised",
            BackendName::Outside(name) => name.as_str(),
        }
    }

    /// Whether its work is done on a GPU through CUDA.
    pub fn is_cuda(self) -> bool {
        matches!(self, BackendName::Cuda | BackendName::CudaGraph | BackendName::CudaSpecialised)
    }

    /// Whether its kernels read weights and caches of a type.
    pub fn reads(self, numbers: Dtype) -> bool {
        numbers == Dtype::F32 || matches!(self, BackendName::Cpu | BackendName::Outside(_))
    }

    /// Whether it can run a strategy: a recording fixes all lengths and addresses of a step, so
    /// strategies that have others at every step cannot be replayed.
    pub fn runs(self, strategy: Strategy) -> bool {
        self != BackendName::CudaGraph || strategy.step_shape(1, 1).is_some()
    }
}

/// One thing that can be measured: see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Case {
    /// Which kind of model.
    pub model: ModelKind,
    /// In which named size.
    pub shape: ShapeName,
    /// How its weights are kept in memory.
    pub weights: Dtype,
    /// How it keeps its past.
    pub strategy: Strategy,
    /// Of which numbers.
    pub cache: Dtype,
    /// On what it runs.
    pub backend: BackendName,
    /// Sentences decoded at once.
    pub batch: usize,
    /// Tokens the sequence has when the step is done: the step feeds the last of them.
    pub position: usize,
}

impl Case {
    /// What it is decoded with.
    pub fn model_name(self) -> ModelName {
        ModelName { kind: self.model, shape: self.shape, weights: self.weights }
    }

    /// How it keeps its past, and of which numbers.
    pub fn cache_config(self) -> CacheConfig {
        CacheConfig { strategy: self.strategy, dtype: self.cache }
    }

    /// The same case under another strategy: what it is compared with.
    pub fn under(self, strategy: Strategy) -> Case {
        Case { strategy, ..self }
    }

    /// The same case at another position.
    pub fn at(self, position: usize) -> Case {
        Case { position, ..self }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { backend, batch, position, .. } = self;
        write!(f, "{}/{}/{backend}/b{batch}/t{position}", self.model_name(), self.cache_config())
    }
}

impl FromStr for Case {
    type Err = Error;
    fn from_str(id: &str) -> Result<Case> {
        let malformed = || {
            Error::Input(format!("`{id}` is no case id; one looks like transformer-toy/padded/cpu/b1/t256"))
        };
        let [model, strategy, backend, batch, position] = id.split('/').collect::<Vec<_>>()[..] else {
            return Err(malformed());
        };
        let (model, weights) = Dtype::split(model, &Dtype::WEIGHTS);
        let cache: CacheConfig = strategy.parse()?;
        // the longest name of a shape that ends it: `encoder-decoder-flax-toy` is no `toy`
        let shape = ShapeName::ALL.iter().map(|shape| shape.name());
        let shape = shape.filter(|name| model.ends_with(&format!("-{name}"))).max_by_key(|name| name.len());
        let named = shape.map(|shape| (&model[..model.len() - shape.len() - 1], shape));
        let (model, shape) = named.or_else(|| model.rsplit_once('-')).ok_or_else(malformed)?;
        // no larger than what can be decoded, so that no cost of it overflows
        let number = |text: &str, prefix: char, most: usize| -> Result<usize> {
            let number = text.strip_prefix(prefix).and_then(|n| n.parse().ok());
            let plain = |n: &usize| (1..=most).contains(n) && text == format!("{prefix}{n}"); // no alias
            number.filter(plain).ok_or_else(malformed)
        };
        Ok(Case {
            model: model.parse()?,
            shape: shape.parse()?,
            weights,
            strategy: cache.strategy,
            cache: cache.dtype,
            backend: backend.parse()?,
            batch: number(batch, 'b', 1 << 16)?,
            position: number(position, 't', MOST_POSITIONS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;
    use proptest::prelude::{prop_assert_eq, proptest, Strategy as _};

    proptest! {
        #[test]
        fn ids_parse_to_the_case_that_printed_them(
            model in proptest::sample::select(ModelKind::ALL),
            shape in proptest::sample::select(ShapeName::ALL),
            weights in proptest::sample::select(&Dtype::WEIGHTS),
            cache in proptest::sample::select(Dtype::ALL),
            strategy in proptest::sample::select(Strategy::examples()),
            backend in proptest::prop_oneof![
                proptest::sample::select(BackendName::OURS),
                "[a-z][a-z0-9_-]{0,23}".prop_map(|name| name.parse().unwrap()),
            ],
            batch in 1usize..999, position in 1usize..99_999,
        ) {
            let case = Case { model, shape, weights, strategy, cache, backend, batch, position };
            prop_assert_eq!(case.to_string().parse::<Case>().unwrap(), case);
        }
    }

    #[test]
    fn a_wrong_id_is_named() {
        let error = "transformer-toy/paded/cpu/b1/t2".parse::<Case>().unwrap_err();
        assert!(error.to_string().contains("unknown strategy `paded`"), "{error}");
        for backend in ["", "Cuda", "9a", "a/b", "a,b", "=cmd", "a-name-longer-than-24-characters"] {
            assert!(backend.parse::<BackendName>().is_err(), "{backend}");
        }
        let longest = |chunk: usize| format!("transformer-toy/chunked-{chunk}/cpu/b1/t64").parse::<Case>();
        assert!(longest(1 << 20).is_ok() && longest((1 << 20) + 1).is_err(), "a cost of it would overflow");
        let toy = |numbers| format!("transformer-toy/naive/cpu/{numbers}");
        let numbers = ["b0/t1", "b1/x1", "b1/t064", "b+1/t64"].map(toy);
        let f32_twice = "transformer-toy-f32/naive/cpu/b1/t1"; // one thing, one id
        assert!(f32_twice.parse::<Case>().is_err());
        for id in ["", "transformer-toy"].into_iter().chain(numbers.iter().map(String::as_str)) {
            assert!(id.parse::<Case>().unwrap_err().to_string().contains("no case id"), "{id}");
        }
    }
}
