//! Where tests find what they read and run: nothing of it is the path of the machine that built them, for they are
//! also carried to machines that have neither the sources nor cargo.

#![allow(dead_code)] // no test needs all of it

use std::path::{Path, PathBuf};

/// The folder that has `tests/` in it: the checkout, as cargo says; without cargo, the tests' own.
pub fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(own_folder, PathBuf::from)
}

/// The program: one folder above the tests, as cargo builds them; without cargo, beside them.
pub fn program() -> PathBuf {
    let folder = own_folder();
    let built = if folder.ends_with("deps") { folder.parent() } else { None };
    built.unwrap_or(&folder).join(format!("decode-bench{}", std::env::consts::EXE_SUFFIX))
}

/// Whether runs can be completed and merged: what was built without git is never known to be the same program.
pub fn revision_is_known() -> bool {
    let known = !env!("DECODE_BENCH_REVISION").is_empty() && !env!("DECODE_BENCH_DIRTY").is_empty();
    if !known {
        eprintln!("skipped: built without git, so that no run is known to be of this program");
    }
    known
}

fn own_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}
