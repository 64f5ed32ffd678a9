//! Which sources a run's numbers come from: those that the program was built from, as it was told when it was
//! built; and whether the checkout it runs in still is at them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::git::Git;
use super::Environment;

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

/// The revision that this program was built from, and whether its sources differed.
pub(super) fn of_the_build() -> Git {
    let stamp = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
    let dirty = stamp(env!("DECODE_BENCH_DIRTY")).map(|dirty| dirty == "true");
    Git { revision: stamp(env!("DECODE_BENCH_REVISION")), dirty }
}

impl Environment {
    /// Why nobody can say which sources the numbers come from, if so.
    pub fn doubtful_revision(&self) -> Option<String> {
        let (Some(built), Some(dirty)) = (&self.git_revision, self.git_dirty) else {
            return Some(
                "the revision that the program was built from is unknown: there was no git, or git refused the \
                 folder (`git config --global --add safe.directory FOLDER`, then `touch build.rs` and build again)"
                    .into(),
            );
        };
        match self.checkout.as_ref()? {
            Checkout { revision: Some(now), .. } if now != built => {
                Some(format!("the program was built from revision {built}, and its checkout is at {now}"))
            }
            Checkout { revision: Some(_), dirty: Some(now) } if *now != dirty => {
                let (was, is) = if dirty { ("with", "has none") } else { ("without", "has some") };
                Some(format!("the program was built {was} uncommitted changes, and its checkout {is}"))
            }
            Checkout { revision: Some(_), dirty: Some(_) } => None,
            _ => Some(
                "git does not answer in the program's checkout, which may belong to somebody else \
                 (`git config --global --add safe.directory FOLDER`)"
                    .into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_known_when_nothing_contradicts_the_stamp() {
        let doubt = |revision: Option<&str>, dirty, checkout: Option<(Option<&str>, Option<bool>)>| {
            let checkout =
                checkout.map(|(revision, dirty)| Checkout { revision: revision.map(String::from), dirty });
            let git_revision = revision.map(String::from);
            let environment =
                Environment { git_revision, git_dirty: dirty, checkout, ..Environment::collect(1, 1) };
            environment.doubtful_revision()
        };
        let (here, clean) = (Some("1234"), Some(false));
        assert_eq!(doubt(here, clean, None), None, "another machine, where there is no checkout");
        assert_eq!(doubt(here, clean, Some((here, clean))), None);
        assert_eq!(doubt(here, Some(true), Some((here, Some(true)))), None, "known, and not to be had");
        for (revision, dirty, checkout, said) in [
            (None, None, None, "unknown"),
            (None, None, Some((None, None)), "unknown"),
            (None, None, Some((here, clean)), "unknown"),
            (here, None, Some((here, clean)), "unknown"),
            (here, clean, Some((None, None)), "safe.directory"),
            (here, clean, Some((here, None)), "safe.directory"),
            (here, clean, Some((Some("5678"), clean)), "revision 1234, and its checkout is at 5678"),
            (here, clean, Some((here, Some(true))), "without uncommitted changes, and its checkout has some"),
            (here, Some(true), Some((here, clean)), "with uncommitted changes, and its checkout has none"),
        ] {
            let found = doubt(revision, dirty, checkout).unwrap();
            assert!(found.contains(said), "{found}");
        }
    }
}
