//! The driver, asked for its answers as numbers. cudarc's `CUresult` is a closed enum: a code that it does not
//! list, from a driver newer than cudarc's headers (CUDA 12.9), would be undefined behaviour. The calls that may
//! answer such a code are made here: those that begin, load and launch. CUDA 13 added 36 (a call that requires a
//! newer driver) and 227 (a loader too old for a kernel), and what comes next will come there too.
//!
//! All other calls go through cudarc. What CUDA 13.0 to 13.4 added besides (47, 917, 918, 919) is about
//! multicast objects, detached streams, recaptured graphs and fabrics, of which this crate uses none.

use std::ffi::{c_char, c_int, c_uint, c_void, CStr, CString};
use std::fmt;
use std::ptr::{null, null_mut};
use std::sync::{Arc, OnceLock};

use cudarc::driver::{sys, CudaContext, DriverError};

use super::failed;
use crate::error::{Error, Result};

/// A pointer into the memory of the device.
pub type Pointer = u64;

/// Of a driver, the newest CUDA that it knows; of NVRTC, its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CudaVersion {
    /// 13 of 13.0.
    pub major: i32,
    /// 0 of 13.0.
    pub minor: i32,
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a call of the driver returned that failed: a `CUresult`, of whichever version of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub c_int);

impl Code {
    const NOT_INITIALIZED: Code = Code(3);
    const NO_DEVICE: Code = Code(100);
    /// The image is not one that the driver can load on its device: `INVALID_IMAGE`, `NO_BINARY_FOR_GPU`,
    /// `UNSUPPORTED_PTX_VERSION`, `INSUFFICIENT_LOADER_VERSION`.
    const UNLOADABLE: [Code; 4] = [Code(200), Code(209), Code(222), Code(227)];

    /// Whether another NVRTC may make what this driver can load.
    pub fn is_about_the_image(self) -> bool {
        Code::UNLOADABLE.contains(&self)
    }
}

impl From<DriverError> for Code {
    fn from(error: DriverError) -> Code {
        Code(error.0 as c_int)
    }
}

/// The driver's own words, and the code's name.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = functions().ok().and_then(|driver| {
            Some((said(driver.cuGetErrorString, *self)?, said(driver.cuGetErrorName, *self)?))
        });
        match words {
            Some((words, name)) => write!(f, "{words} ({name})"),
            None => write!(f, "error {} of CUDA", self.0),
        }
    }
}

type Describe = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;

fn said(describe: Describe, code: Code) -> Option<String> {
    let mut text = null();
    // SAFETY: the pointer is to a live pointer, which the driver sets to a constant of its own, or to null.
    let known = unsafe { describe(code.0, &mut text) } == 0 && !text.is_null();
    // SAFETY: a constant, NUL-terminated string of the driver.
    known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// A driver's error as a sentence: what was tried, and the driver's own words.
pub fn broken(doing: &str, error: impl Into<Code>) -> Error {
    failed(format!("cannot {doing}: {}", error.into()))
}

macro_rules! functions {
    ($($name:ident($($argument:ty),+);)+) => {
        #[allow(non_snake_case)] // the names are the driver's own
        struct Functions { $($name: unsafe extern "C" fn($($argument),+) -> c_int),+ }

        impl Functions {
            /// `None` when the library lacks one.
            fn load() -> Option<Functions> {
                // SAFETY: the caller has asked whether the library is there; cudarc keeps it open for
                // ever. The types below are those of cuda.h, with `CUresult` as the integer it is in C.
                unsafe {
                    let library = sys::culib();
                    Some(Functions { $($name: *library.get(stringify!($name).as_bytes()).ok()?),+ })
                }
            }
        }
    };
}

functions!(
    cuDriverGetVersion(*mut c_int);
    cuInit(c_uint);
    cuGetErrorString(c_int, *mut *const c_char);
    cuGetErrorName(c_int, *mut *const c_char);
    cuModuleLoadData(*mut sys::CUmodule, *const c_void);
    cuModuleGetFunction(*mut sys::CUfunction, sys::CUmodule, *const c_char);
    cuModuleUnload(sys::CUmodule);
    cuLaunchKernelEx(*const sys::CUlaunchConfig, sys::CUfunction, *mut *mut c_void, *mut *mut c_void);
);

fn functions() -> Result<&'static Functions> {
    static FUNCTIONS: OnceLock<Result<Functions, &str>> = OnceLock::new();
    let load = || {
        // SAFETY: opening the driver's library runs its initialisers, which ask nothing of us.
        match unsafe { sys::is_culib_present() } {
            true => Functions::load().ok_or("libcuda.so.1 lacks functions that every driver of CUDA has"),
            false => Err("no NVIDIA driver: libcuda.so.1 is not on this machine, or not where LD_LIBRARY_PATH and the system look; it comes with the driver of an NVIDIA GPU"),
        }
    };
    FUNCTIONS.get_or_init(load).as_ref().map_err(|why| failed(*why))
}

/// For holders of a context, which implies a driver.
fn started() -> Result<&'static Functions, Code> {
    functions().map_err(|_| Code::NOT_INITIALIZED)
}

fn done(code: c_int) -> Result<(), Code> {
    match code {
        0 => Ok(()),
        code => Err(Code(code)),
    }
}

/// The newest CUDA that the driver knows. Needs no GPU.
///
/// # Errors
/// There is no driver.
pub fn version() -> Result<CudaVersion> {
    let mut number = 0;
    // SAFETY: the pointer is to a live integer.
    let asked = done(unsafe { (functions()?.cuDriverGetVersion)(&mut number) });
    asked.map_err(|e| broken("ask the driver for its version", e))?;
    Ok(CudaVersion { major: number / 1000, minor: number % 1000 / 10 }) // 12090 is 12.9
}

/// Starts the driver, before anything else is asked of it; may be called again.
///
/// # Errors
/// There is no driver, or it sees no GPU.
pub fn init() -> Result<()> {
    // SAFETY: no flags are defined.
    done(unsafe { (functions()?.cuInit)(0) }).map_err(|e| match e {
        Code::NO_DEVICE => failed("there is an NVIDIA driver, and it sees no GPU"),
        _ => broken("start the driver", e),
    })
}

/// A kernel on the device, until dropped.
pub struct Function {
    handle: sys::CUfunction,
    module: sys::CUmodule,
    context: Arc<CudaContext>,
}

// SAFETY: the driver's handles may be used on any thread on which their context is current, which every use
// sees to; nothing here changes after loading.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// Loads the kernel `name` from machine code, or from PTX, which the driver then assembles.
    ///
    /// # Safety
    /// The image is what NVRTC made: a whole cubin, or PTX that ends in a NUL.
    pub unsafe fn load(context: &Arc<CudaContext>, image: &[u8], name: &str) -> Result<Function, Code> {
        let driver = started()?;
        context.bind_to_thread()?;
        let (mut module, mut handle) = (null_mut(), null_mut());
        // SAFETY: the image is as the caller promises and read during the call; the pointer is to a live one.
        done(unsafe { (driver.cuModuleLoadData)(&mut module, image.as_ptr().cast()) })?;
        let mut function = Function { handle, module, context: context.clone() };
        let symbol = CString::new(name).expect("kernels have plain names");
        // SAFETY: the module was just loaded; the pointer and the string live during the call.
        done(unsafe { (driver.cuModuleGetFunction)(&mut handle, module, symbol.as_ptr()) })?;
        function.handle = handle;
        Ok(function)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if let (Ok(driver), Ok(())) = (functions(), self.context.bind_to_thread()) {
            // SAFETY: the module is live and not used again. An error means that the device is lost.
            unsafe { (driver.cuModuleUnload)(self.module) };
        }
    }
}

/// Queues a kernel. The context of the stream is current on this thread.
///
/// `overlaps`: it starts while the kernel ahead of it in the stream still runs, and waits for that one's end itself,
/// as `begin` of `kernels/common.cuh` does (programmatic dependent launch).
///
/// # Safety
/// The arguments are as many pointers as the kernel has parameters, each to a live one of its type, and the
/// kernel stays within the memory that they name.
pub unsafe fn launch(
    function: &Function,
    [x, y, z]: [u32; 3],
    threads: u32,
    (stream, overlaps): (sys::CUstream, bool),
    arguments: &mut [*mut c_void],
) -> Result<(), Code> {
    let mut attribute = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    };
    let config = sys::CUlaunchConfig {
        gridDimX: x,
        gridDimY: y,
        gridDimZ: z,
        blockDimX: threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream,
        attrs: &mut attribute,
        numAttrs: u32::from(overlaps),
    };
    let launch = started()?.cuLaunchKernelEx;
    // SAFETY: the caller's promise; function and stream are live, the attribute lives during the call, and there
    // are no extra options.
    done(unsafe { launch(&config, function.handle, arguments.as_mut_ptr(), null_mut()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code that no header names is printed, and is no undefined behaviour.
    #[test]
    fn a_code_of_a_newer_driver_is_a_number() {
        let said = broken("load", Code(12345)).to_string();
        assert!(said.starts_with("cuda: cannot load: ") && !said.contains('\n'), "{said}");
        if functions().is_err() {
            assert_eq!(said, "cuda: cannot load: error 12345 of CUDA");
        }
    }
}
