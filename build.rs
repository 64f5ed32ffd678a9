//! Tells the program how it was built, for `environment.json`.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = Command::new(var("RUSTC").unwrap_or_default()).arg("-V").output();
    let rustc = rustc.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_string()).unwrap_or_default();
    let facts = [
        ("RUSTC", rustc),
        ("TARGET", var("TARGET").unwrap_or_default()),
        ("TARGET_FEATURES", var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default()),
        ("PROFILE", var("PROFILE").unwrap_or_default()),
        ("OPT_LEVEL", var("OPT_LEVEL").unwrap_or_default()),
    ];
    for (name, value) in facts {
        println!("cargo::rustc-env=DECODE_BENCH_{name}={value}");
    }
}
