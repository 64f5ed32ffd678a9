//! The sources that the program was built from, and the checkout that it runs in.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::git::Git;

/// What git says of the checkout that a program runs in, when the run begins. All unknown: git does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkout {
    /// Of the commit that is checked out.
    pub revision: Option<String>,
    /// Whether a file that the program is built from differs from that revision.
    pub dirty: Option<bool>,
}

impl Checkout {
    /// That which cargo runs this program in, or below whose `target` the program lies; elsewhere there is none,
    /// and the program is known by its stamp alone.
    pub(super) fn of_this_program() -> Option<Checkout> {
        let program = std::env::current_exe().unwrap_or_default();
        let above_target =
            |folder: &Path| (folder.file_name()? == "target").then(|| folder.parent())?.map(PathBuf::from);
        let built_in = program.ancestors().find_map(above_target);
        let cargo_s = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let folder = [cargo_s, built_in].into_iter().flatten().find(|folder| is_checkout(folder))?;
        let Git { revision, dirty } = Git::of(&folder);
        Some(Checkout { revision, dirty })
    }
}

fn is_checkout(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let ours = concat!("name = \"", env!("CARGO_PKG_NAME"), "\"");
    folder.join(".git").exists() && manifest.lines().any(|line| line == ours)
}

/// The revision that this program was built from, whether its sources differed, and a name for how.
pub(super) fn of_the_build() -> (Git, Option<String>) {
    let stamp = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
    let dirty = stamp(env!("DECODE_BENCH_DIRTY")).map(|dirty| dirty == "true");
    (Git { revision: stamp(env!("DECODE_BENCH_REVISION")), dirty }, stamp(env!("DECODE_BENCH_CHANGES")))
}
