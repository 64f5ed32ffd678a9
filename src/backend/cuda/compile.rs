//! What compiling every shape costs, which NVRTC alone can tell: no GPU and no driver take part.
//!
//! A decode runs on a plan, which launches nothing and lists the kernels that each position asks for
//! with all lengths compiled in. Concat asks for new ones at every position, chunked-c at every
//! c-th, padded once.

use super::kernels::Variant;
use super::nvrtc::{Need, Nvrtc, Survey};
use crate::case::{BackendName, OutsideName};
use crate::error::{Error, Result};

/// NVRTC, and the GPU it compiles for.
pub struct Compiler {
    /// The compiler.
    pub nvrtc: Nvrtc,
    /// `sm_90`
    pub arch: String,
    /// `nvrtc-sm_90`, under which the times are kept.
    pub backend: BackendName,
}

impl Compiler {
    /// The newest NVRTC that compiles for this.
    ///
    /// # Errors
    /// No NVRTC, or none that has such a target.
    pub fn find(arch: &str) -> Result<Compiler> {
        let number = arch.strip_prefix("sm_").and_then(|number| number.parse::<i32>().ok());
        let compute_capability = number.map(|number| (number / 10, number % 10));
        let able = Survey::take(Need { compute_capability, ..Need::ANY }).into_chosen();
        let nvrtc = able.or_else(|_| Nvrtc::find())?;
        let targets: Vec<String> = nvrtc.targets.iter().map(|target| format!("sm_{target}")).collect();
        let backend = OutsideName::new(&format!("nvrtc-{arch}")).map(BackendName::Outside);
        match backend.filter(|_| targets.iter().any(|target| target == arch)) {
            Some(backend) => Ok(Compiler { nvrtc, arch: arch.into(), backend }),
            None => Err(Error::Input(format!(
                "--arch {arch}: NVRTC {} makes machine code for {}",
                nvrtc.version,
                targets.join(", ")
            ))),
        }
    }

    /// Compiles one kernel for nothing: the first is slower than those after it.
    pub fn warm_up(&self, kernels: &NewKernels) -> Result<()> {
        let first = kernels.kernels.first().map(|kernel| kernel.compile(&self.nvrtc, &self.arch));
        first.transpose().map(|_| ())
    }

    /// What the times follow from besides the kernels: version and options.
    pub fn options(&self) -> Vec<String> {
        self.nvrtc.options(&self.arch)
    }
}

/// The kernels that a step asks for and no step before it did.
#[derive(Clone, Debug, PartialEq)]
pub struct NewKernels {
    /// Tokens the sequence has when the step is done.
    pub position: usize,
    /// Each once, in the order asked for.
    pub kernels: Vec<Variant>,
}

/// One shape of a whole step, compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompiledShape {
    /// The position whose step was the first to need it.
    pub position: usize,
    /// New ones of this shape.
    pub kernels: usize,
    /// All of them, one after the other.
    pub compile_ns: u64,
}

impl NewKernels {
    /// Compiles the kernels, for `arch` such as `sm_90`, and runs none.
    pub fn compile(&self, nvrtc: &Nvrtc, arch: &str) -> Result<CompiledShape> {
        let one = |kernel: &Variant| kernel.compile(nvrtc, arch).map(|compiled| compiled.compile_ns);
        let compile_ns = self.kernels.iter().map(one).sum::<Result<u64>>()?;
        Ok(CompiledShape { position: self.position, kernels: self.kernels.len(), compile_ns })
    }
}
