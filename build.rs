//! Tells the program how it was built, and from which revision, for `environment.json`.

#[path = "src/record/git.rs"]
mod git;

use std::env::var;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use git::{ask, Git, SOURCES};

fn main() {
    let rustc = Command::new(var("RUSTC").unwrap_or_default()).arg("-V").output();
    let rustc = rustc.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_string()).unwrap_or_default();
    let checkout = PathBuf::from(var("CARGO_MANIFEST_DIR").unwrap_or_default());
    for path in watched(&checkout) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let Git { revision, dirty } = Git::of(&checkout);
    let changed = dirty.filter(|dirty| *dirty).and_then(|_| changes(&checkout));
    let facts = [
        ("RUSTC", rustc),
        ("TARGET", var("TARGET").unwrap_or_default()),
        ("TARGET_FEATURES", var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default()),
        ("PROFILE", var("PROFILE").unwrap_or_default()),
        ("OPT_LEVEL", var("OPT_LEVEL").unwrap_or_default()),
        ("REVISION", revision.unwrap_or_default()),
        ("DIRTY", dirty.map(|dirty| dirty.to_string()).unwrap_or_default()),
        ("CHANGES", changed.unwrap_or_default()),
    ];
    for (name, value) in facts {
        println!("cargo::rustc-env=DECODE_BENCH_{name}={value}");
    }
}

/// A name for what differs from the revision: the same for the same changes.
fn changes(checkout: &Path) -> Option<String> {
    let of_sources = |arguments: &[&str]| ask(checkout, &[arguments, SOURCES.as_slice()].concat());
    let mut hasher = DefaultHasher::new();
    hasher.write(of_sources(&["diff", "HEAD", "--binary", "--"])?.as_bytes());
    for new in of_sources(&["ls-files", "--others", "--exclude-standard", "--"])?.lines() {
        hasher.write(new.as_bytes());
        hasher.write(&std::fs::read(checkout.join(new)).ok()?);
    }
    Some(format!("{:016x}", hasher.finish()))
}

/// What the stamp follows from: the sources, and where HEAD is. The index is not in it: staging changes no file
/// that is built, and git rewrites the index when it is only asked for the status. A path that does not exist would
/// have cargo build anew every time.
fn watched(checkout: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = SOURCES.iter().map(|name| checkout.join(name)).collect();
    if checkout.join(".git").exists() {
        // a worktree has a HEAD of its own, and its branches elsewhere
        let place = |name: &str| Some(checkout.join(ask(checkout, &["rev-parse", "--git-path", name])?));
        all.extend(["HEAD", "packed-refs", "reftable"].into_iter().filter_map(place));
        // a branch that is packed has no file before its next commit: then its folder changes
        let branch = ask(checkout, &["symbolic-ref", "--quiet", "HEAD"]).and_then(|branch| place(&branch));
        all.extend(
            branch.iter().flat_map(|file| file.ancestors()).find(|path| path.exists()).map(Path::to_path_buf),
        );
    }
    all.retain(|path| path.exists());
    all
}
