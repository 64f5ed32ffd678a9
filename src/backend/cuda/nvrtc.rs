//! NVRTC, NVIDIA's compiler as a library, wherever it lies: a toolkit, the folder that `CUDA_HOME`
//! names, a wheel of some Python. Every one found is opened by its path, and the best for the driver is
//! taken ([`choice`]). Functions are asked for one by one, so that a missing library is an error to report
//! and never a panic, whichever its version.

mod choice;
mod places;

use std::error::Error as _;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::time::Instant;

use libloading::Library;

pub use self::choice::{advice, Image, Need, Suitability};
use self::places::Candidate;
use super::driver::CudaVersion;
use super::failed;
use crate::error::Result;

type Program = *mut c_void;

/// The functions used of the library, which stays open as long as this lives.
pub struct Nvrtc {
    library: Library,
    /// What the library opens by name when it compiles, and since CUDA 13 does not look for beside itself.
    _builtins: Vec<Library>,
    /// Of the library's file.
    pub path: PathBuf,
    /// What led to it, without the names of a user's folders.
    pub place: String,
    /// Of NVRTC itself.
    pub version: CudaVersion,
    /// Compute capabilities it compiles for, `90` meaning 9.0; none where it does not say, before CUDA 11.2.
    pub targets: Vec<i32>,
}

/// What NVRTC made of one source.
pub struct Compiled {
    pub image: Vec<u8>,
    pub compile_ns: u64,
}

/// Every NVRTC of this machine, and which of them is taken.
pub struct Survey {
    /// That was asked for.
    pub need: Need,
    /// Each with whether it will do.
    pub found: Vec<(Nvrtc, Suitability)>,
    /// Files under its name that it is not: where, and why not.
    pub unusable: Vec<(PathBuf, String)>,
    /// The index of the one taken.
    pub chosen: Option<usize>,
}

impl Survey {
    /// Opens all that are found, and judges them.
    pub fn take(need: Need) -> Survey {
        let (mut found, mut unusable) = (Vec::new(), Vec::new());
        for candidate in places::candidates(path_by_name) {
            match Nvrtc::open(&candidate) {
                Ok(nvrtc) => {
                    let verdict = need.judge(nvrtc.version, &nvrtc.targets);
                    found.push((nvrtc, verdict));
                }
                Err(why) => unusable.push((candidate.path, why)),
            }
        }
        let judged: Vec<_> = found.iter().map(|(nvrtc, verdict)| (nvrtc.version, *verdict)).collect();
        Survey { need, found, unusable, chosen: need.choose(&judged) }
    }

    /// The one taken.
    ///
    /// # Errors
    /// None will do: the error says why, and how to get one that does.
    pub fn into_chosen(mut self) -> Result<Nvrtc> {
        let advice = self.advice();
        match self.chosen {
            Some(index) => Ok(self.found.swap_remove(index).0),
            None if self.found.is_empty() => Err(failed(format!(
                "no NVRTC library (libnvrtc.so) to compile kernels with; {advice} (searched: LD_LIBRARY_PATH, \
                 CUDA_HOME, CUDA_PATH, VIRTUAL_ENV, CONDA_PREFIX, each Python on PATH, the user's and the \
                 system's Python packages and toolkits)"
            ))),
            None => Err(failed(format!("no NVRTC here will do: {}; {advice}", self.refusals()))),
        }
    }

    /// How to get one that will do.
    pub fn advice(&self) -> String {
        advice(self.need.driver, self.need.compute_capability)
    }

    /// `13.0 (CUDA_HOME: ..) newer than ..`, of each.
    fn refusals(&self) -> String {
        let refusal = |(nvrtc, verdict): &(Nvrtc, Suitability)| {
            format!("{} ({}) {}", nvrtc.version, nvrtc.place, self.need.reason(nvrtc.version, *verdict))
        };
        self.found.iter().map(refusal).collect::<Vec<_>>().join(", ")
    }
}

/// The loader's own words.
fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |why| why.to_string())
}

/// The file that the system's loader finds under this name.
fn path_by_name(name: &str) -> Option<PathBuf> {
    // SAFETY: as in `Nvrtc::open`.
    let library = unsafe { Library::new(name) }.ok()?;
    // SAFETY: the address is used as such, not as a function, and while the library is open.
    let address = unsafe { library.get::<*mut c_void>(b"nvrtcVersion\0").ok()?.try_as_raw_ptr()? };
    file_of(address)
}

/// The file that an address of a loaded library comes from.
#[cfg(unix)]
fn file_of(address: *mut c_void) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is written by the call and, being pointers, valid as zeros too; the name it holds is a string
    // of the loader's that lives as long as the library, which the caller holds.
    unsafe {
        let found = libc::dladdr(address, info.as_mut_ptr()) != 0;
        let name = info.assume_init().dli_fname;
        (found && !name.is_null())
            .then(|| std::ffi::OsStr::from_bytes(CStr::from_ptr(name).to_bytes()).into())
    }
}

#[cfg(not(unix))]
fn file_of(_: *mut c_void) -> Option<PathBuf> {
    None
}

impl Nvrtc {
    /// The newest there is, to compile with and not to load.
    ///
    /// # Errors
    /// There is none: the error says where was looked and how to get one.
    pub fn find() -> Result<Nvrtc> {
        Survey::take(Need::ANY).into_chosen()
    }

    fn open(Candidate { path, place }: &Candidate) -> Result<Nvrtc, String> {
        // SAFETY: opening runs the library's initialisers; under these names it is NVIDIA's
        // compiler, whose initialisers ask nothing of us.
        let library = unsafe { Library::new(path) }.map_err(|e| format!("does not open: {}", reason(&e)))?;
        let builtins = places::builtins(path).into_iter();
        let mut nvrtc = Nvrtc {
            library,
            // SAFETY: as above; of the same package.
            _builtins: builtins.filter_map(|path| unsafe { Library::new(path) }.ok()).collect(),
            path: path.clone(),
            place: place.clone(),
            version: CudaVersion { major: 0, minor: 0 },
            targets: Vec::new(),
        };
        nvrtc.version = nvrtc.ask_version().ok_or("is no NVRTC")?;
        nvrtc.targets = nvrtc.ask_targets().unwrap_or_default();
        Ok(nvrtc)
    }

    fn ask_version(&self) -> Option<CudaVersion> {
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
        let version: Version = self.function(b"nvrtcVersion\0").ok()?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both pointers are to live integers.
        (unsafe { version(&mut major, &mut minor) } == 0).then_some(CudaVersion { major, minor })
    }

    /// A function of the library, as the type that NVRTC's header declares.
    fn function<F: Copy>(&self, name: &'static [u8]) -> Result<F> {
        // SAFETY: the callers below name each function with the type of nvrtc.h, which has not
        // changed since CUDA 7; `self` keeps the library open while they call it.
        let function = unsafe { self.library.get::<F>(name) };
        function.map(|f| *f).map_err(|e| failed(format!("NVRTC ({}): {}", self.place, reason(&e))))
    }

    fn ask_targets(&self) -> Option<Vec<i32>> {
        type Count = unsafe extern "C" fn(*mut c_int) -> c_int;
        type List = unsafe extern "C" fn(*mut c_int) -> c_int;
        let (count, list): (Count, List) = (
            self.function(b"nvrtcGetNumSupportedArchs\0").ok()?,
            self.function(b"nvrtcGetSupportedArchs\0").ok()?,
        );
        let mut n = 0;
        // SAFETY: the pointer is to a live integer.
        unsafe { count(&mut n) };
        let mut targets = vec![0; n.max(0) as usize];
        // SAFETY: the library writes as many numbers as it just announced.
        unsafe { list(targets.as_mut_ptr()) };
        Some(targets)
    }

    /// Whether it can be kept from handing out what it compiled in earlier processes.
    pub(crate) fn has_cache_option(&self) -> bool {
        self.version >= CudaVersion { major: 12, minor: 9 }
    }

    /// What every kernel is compiled with, besides its own definitions.
    pub fn options(&self, arch: &str) -> Vec<String> {
        let mut options = vec![format!("--gpu-architecture={arch}"), "-lineinfo".into(), "-std=c++17".into()];
        if self.has_cache_option() {
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
                self.place
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
            true => Err(failed(format!("NVRTC ({}) does not hand out what it compiled", self.nvrtc.place))),
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
    use super::{is_for_a_gpu, Nvrtc};

    #[test]
    fn objects_for_a_host_are_told_from_those_for_a_gpu() {
        let object =
            |machine: u16| [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 11], &machine.to_le_bytes()].concat();
        assert!(is_for_a_gpu(&object(190)));
        assert!(!is_for_a_gpu(&object(62)) && !is_for_a_gpu(b"\x7fELF") && !is_for_a_gpu(b""));
    }

    /// What a real device is given, and what an emulated one is.
    #[test]
    fn a_kernel_is_compiled_to_machine_code_or_to_ptx() {
        let Ok(nvrtc) = Nvrtc::find() else { return };
        let kernel =
            |arch| nvrtc.compile("k", "extern \"C\" __global__ void k(int* x) { *x = 1; }", arch, &[]);
        match kernel("sm_90") {
            Ok(compiled) => {
                assert!(is_for_a_gpu(&compiled.image));
                let ptx = String::from_utf8(kernel("compute_90").unwrap().image).unwrap();
                assert!(ptx.contains(".target sm_90") && ptx.ends_with('\0'), "{ptx}");
            }
            // a stand-in for the compiler makes no machine code
            Err(error) => assert!(error.to_string().contains("stands in for NVRTC"), "{error}"),
        }
    }
}
