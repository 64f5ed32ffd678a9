//! What git says of a folder of this program's sources. `build.rs` has this file as a module too: std alone.

use std::path::Path;
use std::process::Command;

/// What a build reads: results and prose may change without making the numbers doubtful.
pub const SOURCES: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "build.rs", "src", "benches", "kernels", "assets"];

/// A revision, and whether a file that the program is built from differs from it; `None` where git does not say.
#[derive(Default)]
pub struct Git {
    pub revision: Option<String>,
    pub dirty: Option<bool>,
}

impl Git {
    pub fn of(checkout: &Path) -> Git {
        // a copy without git may lie in somebody else's repository
        if !checkout.join(".git").exists() {
            return Git::default();
        }
        let revision = ask(checkout, &["rev-parse", "HEAD"]);
        let status = ["status", "--porcelain", "--untracked-files=normal", "--"];
        let status = ask(checkout, &[status.as_slice(), SOURCES.as_slice()].concat());
        Git { dirty: status.filter(|_| revision.is_some()).map(|changes| !changes.is_empty()), revision }
    }
}

/// Set by git for its hooks, and then of the repository whose hook it is.
const OF_A_HOOK: [&str; 6] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"];

/// What git prints, if it succeeds.
pub fn ask(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    for name in OF_A_HOOK {
        git.env_remove(name);
    }
    let out = git.arg("--no-optional-locks").arg("-C").arg(folder).args(arguments).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
}
