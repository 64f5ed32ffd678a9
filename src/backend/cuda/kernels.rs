//! The kernels: their sources, and what fixes one compiled variant of a source.

use super::nvrtc::{Compiled, Nvrtc};
use crate::error::Result;

macro_rules! kernels {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        /// One file of `kernels/` each, with one function of the file's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each variant is a file of `kernels/`, which says what it does")]
        pub enum Kernel { $($variant),+ }

        impl Kernel {
            /// In the order of the files' list.
            pub const ALL: &'static [Kernel] = &[$(Kernel::$variant),+];

            /// Of the file without its ending, and of the function in it.
            pub fn name(self) -> &'static str {
                match self { $(Kernel::$variant => $name),+ }
            }

            fn source(self) -> &'static str {
                match self { $(Kernel::$variant => include_str!(concat!("../../../kernels/", $name, ".cu"))),+ }
            }
        }
    };
}

kernels!(
    Stage => "stage",
    Embed => "embed",
    Norm => "norm_rows",
    LinearOne => "linear_one",
    LinearNormed => "linear_normed",
    Linear => "linear",
    LinearCombine => "linear_combine",
    Swiglu => "swiglu",
    Add => "add",
    Rope => "rope",
    Attention => "attention",
    AttentionMany => "attention_many",
    AttentionCombine => "attention_combine",
    ConvGlu => "conv_glu",
    ConvWindow => "conv_window",
    ConvGate => "conv_gate",
    Retain => "retain",
    Lag => "lag",
    LastRow => "last_row",
    Argmax => "argmax",
    Concat => "concat",
    Grow => "grow",
    WriteRows => "write_rows",
    WriteRing => "write_ring",
    WriteOnehot => "write_onehot",
    Shift => "shift",
    Unroll => "unroll",
    GatherBatch => "gather_batch",
    CeilingRead => "ceiling_read",
    CeilingFlops => "ceiling_flops",
    FillRandom => "fill_random",
    Spin => "spin",
    Empty => "empty",
);

const COMMON: &str = include_str!("../../../kernels/common.cuh");

/// No kernel takes more lengths.
pub const MOST_LENGTHS: usize = 13;

/// What is fixed when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// Whose source is compiled.
    pub kernel: Kernel,
    /// Numbers moved by one instruction: 4 where widths and offsets allow, otherwise 1.
    pub vec: u8,
    /// Numbers of an attention head, for the kernels that keep one in registers; otherwise 0.
    pub head: u16,
    /// The most rows worked on at once, for the kernel that keeps a sum for each; otherwise 0.
    pub rows: u8,
    /// All lengths, where they are compiled in; zeros otherwise, and behind the last.
    pub lengths: [i32; MOST_LENGTHS],
}

impl Variant {
    /// Compiles the source for `arch`, such as `sm_90`, with these sizes as constants.
    pub fn compile(&self, nvrtc: &Nvrtc, arch: &str) -> Result<Compiled> {
        let source = format!("{COMMON}#line 1\n{}", self.kernel.source());
        nvrtc.compile(self.kernel.name(), &source, arch, &self.defines())
    }

    fn defines(&self) -> Vec<String> {
        let mut defines = vec![format!("VEC={}", self.vec)];
        if self.head > 0 {
            defines.push(format!("HEAD={}", self.head));
        }
        if self.rows > 0 {
            defines.push(format!("ROWS={}", self.rows));
        }
        if self.lengths != [0; MOST_LENGTHS] {
            let lengths = self.lengths.map(|n| n.to_string());
            defines.push(format!("LENGTHS={}", lengths.join(",")));
        }
        defines
    }
}
