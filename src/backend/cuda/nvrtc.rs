//! NVRTC, NVIDIA's compiler as a library, wherever it lies: a toolkit, the folder that `CUDA_HOME`
//! names, a wheel of some Python. Opened by its path and asked for its functions one by one,
//! so that a missing library is an error to report and never a panic, whichever its version.

mod places;

use std::ffi::{c_char, c_int, CStr, CString};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::time::Instant;

use libloading::Library;

use self::places::Places;
use super::failed;
use crate::error::Result;

type Program = *mut std::ffi::c_void;

/// The functions used of the library, which stays open as long as this lives.
pub struct Nvrtc {
    library: Library,
    pub path: PathBuf,
    pub version: (i32, i32),
}

/// What NVRTC made of one source.
pub struct Compiled {
    pub image: Vec<u8>,
    pub compile_ns: u64,
}

impl Nvrtc {
    /// The first NVRTC that opens.
    ///
    /// # Errors
    /// None does: the error says where was looked and how to get one.
    pub fn find() -> Result<Nvrtc> {
        let found = Places::here().candidates().into_iter().find_map(|path| Nvrtc::open(&path));
        found.ok_or_else(|| {
            failed(
                "no NVRTC library (libnvrtc.so) to compile kernels with; it comes with the CUDA toolkit (found \
                 in /usr/local/cuda, or where CUDA_HOME or CUDA_PATH points) or with `pip install \
                 nvidia-cuda-nvrtc-cu12` (the active virtual environment, conda's, the user's and the system's \
                 Python are searched); a folder in LD_LIBRARY_PATH is searched too",
            )
        })
    }

    fn open(path: &Path) -> Option<Nvrtc> {
        // SAFETY: opening runs the library's initialisers; under these names it is NVIDIA's
        // compiler, whose initialisers ask nothing of us.
        let library = unsafe { Library::new(path) }.ok()?;
        let mut nvrtc = Nvrtc { library, path: path.into(), version: (0, 0) };
        let (mut major, mut minor) = (0, 0);
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
        let version: Version = nvrtc.function(b"nvrtcVersion\0").ok()?;
        // SAFETY: both pointers are to live integers.
        (unsafe { version(&mut major, &mut minor) } == 0).then_some(())?;
        nvrtc.version = (major, minor);
        Some(nvrtc)
    }

    /// A function of the library, as the type that NVRTC's header declares.
    fn function<F: Copy>(&self, name: &'static [u8]) -> Result<F> {
        // SAFETY: the callers below name each function with the type of nvrtc.h, which has not
        // changed since CUDA 7; `self` keeps the library open while they call it.
        let function = unsafe { self.library.get::<F>(name) };
        function.map(|f| *f).map_err(|e| failed(format!("{} is no NVRTC: {e}", self.path.display())))
    }

    /// Compute capabilities it can compile for, `90` meaning 9.0.
    pub fn targets(&self) -> Result<Vec<i32>> {
        type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
        type List = unsafe extern "C" fn(*mut c_int) -> c_int;
        let (count, list): (Count, List) =
            (self.function(b"nvrtcGetNumSupportedArchs\0")?, self.function(b"nvrtcGetSupportedArchs\0")?);
        let mut n = 0;
        // SAFETY: the pointer is to a live integer.
        unsafe { count(&mut n) };
        let mut targets = vec![0; n.max(0) as usize];
        // SAFETY: the library writes as many numbers as it just announced.
        unsafe { list(targets.as_mut_ptr()) };
        Ok(targets)
    }

    /// `12.9`
    pub fn version_text(&self) -> String {
        let (major, minor) = self.version;
        format!("{major}.{minor}")
    }

    /// What every kernel is compiled with, besides its own definitions.
    pub fn options(&self, arch: &str) -> Vec<String> {
        let mut options = vec![format!("--gpu-architecture={arch}"), "-lineinfo".into(), "-std=c++17".into()];
        if self.version >= (12, 9) {
            options.push("--no-cache".into()); // a compile time out of a cache would mean nothing
        }
        options
    }

    /// Compiles for `arch`: PTX for `compute_90`, machine code for `sm_90`.
    ///
    /// # Errors
    /// With the compiler's log when it refuses the source.
    pub fn compile(&self, name: &str, source: &str, arch: &str, defines: &[String]) -> Result<Compiled> {
        let defines = defines.iter().map(|define| format!("-D{define}"));
        let options: Vec<CString> = self.options(arch).into_iter().chain(defines).map(|o| text(&o)).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let program = OpenProgram::create(self, &text(source), &text(&format!("{name}.cu")))?;
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        let compile: Compile = self.function(b"nvrtcCompileProgram\0")?;
        let start = Instant::now();
        // SAFETY: the program is live, and so are the strings that the pointers are to.
        let code = unsafe { compile(program.handle, pointers.len() as c_int, pointers.as_ptr()) };
        let compile_ns = start.elapsed().as_nanos() as u64;
        if code != 0 {
            let log = program.output(b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0")?;
            let log = String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_string();
            return Err(failed(format!("kernel `{name}` does not compile for {arch}:\n{log}")));
        }
        let machine_code = arch.starts_with("sm_");
        let image = match machine_code {
            true => program.output(b"nvrtcGetCUBINSize\0", b"nvrtcGetCUBIN\0"),
            false => program.output(b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0"),
        }?;
        match machine_code && !is_for_a_gpu(&image) {
            true => Err(failed(format!(
                "{} makes no machine code for a GPU: it stands in for NVRTC, and its times would say nothing",
                self.path.display()
            ))),
            false => Ok(Compiled { image, compile_ns }),
        }
    }
}

/// Whether an object file is of the machine `EM_CUDA`, 190 in `elf.h`.
fn is_for_a_gpu(image: &[u8]) -> bool {
    image.starts_with(b"\x7fELF") && image.get(18..20) == Some(&190u16.to_le_bytes())
}

fn text(s: &str) -> CString {
    CString::new(s).expect("our sources and options hold no NUL")
}

struct OpenProgram<'a> {
    nvrtc: &'a Nvrtc,
    handle: Program,
}

impl<'a> OpenProgram<'a> {
    fn create(nvrtc: &'a Nvrtc, source: &CStr, name: &CStr) -> Result<OpenProgram<'a>> {
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        let create: Create = nvrtc.function(b"nvrtcCreateProgram\0")?;
        let mut handle = null_mut();
        // SAFETY: both strings are NUL-terminated and copied by the call; there are no headers.
        let code = unsafe { create(&mut handle, source.as_ptr(), name.as_ptr(), 0, null(), null()) };
        match code {
            0 => Ok(OpenProgram { nvrtc, handle }),
            code => Err(failed(format!("NVRTC cannot begin a program: error {code}"))),
        }
    }

    fn output(&self, size: &'static [u8], get: &'static [u8]) -> Result<Vec<u8>> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let (size, get): (Size, Get) = (self.nvrtc.function(size)?, self.nvrtc.function(get)?);
        let mut len = 0;
        // SAFETY: the program is live, and the pointer is to a live integer.
        let code = unsafe { size(self.handle, &mut len) };
        let mut bytes = vec![0; len];
        // SAFETY: the buffer has the size that the library announced.
        match code != 0 || unsafe { get(self.handle, bytes.as_mut_ptr().cast()) } != 0 {
            true => Err(failed(format!("{} does not hand out what it compiled", self.nvrtc.path.display()))),
            false => Ok(bytes),
        }
    }
}

impl Drop for OpenProgram<'_> {
    fn drop(&mut self) {
        type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
        if let Ok(destroy) = self.nvrtc.function::<Destroy>(b"nvrtcDestroyProgram\0") {
            // SAFETY: the program is live and not used again.
            unsafe { destroy(&mut self.handle) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_for_a_gpu;

    #[test]
    fn objects_for_a_host_are_told_from_those_for_a_gpu() {
        let object =
            |machine: u16| [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 11], &machine.to_le_bytes()].concat();
        assert!(is_for_a_gpu(&object(190)));
        assert!(!is_for_a_gpu(&object(62)) && !is_for_a_gpu(b"\x7fELF") && !is_for_a_gpu(b""));
    }
}
