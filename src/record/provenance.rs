//! Whether a run can say which sources its numbers come from.

use super::checkout::Checkout;
use super::Environment;

impl Environment {
    /// The reason why the sources of the numbers are unknown, if they are.
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

    /// The profile that the program was built with, if that was none which times can be taken with: `debug, opt-level
    /// 1`; or that it is unknown.
    pub fn unoptimised(&self) -> Option<&str> {
        let profile = self.profile.as_deref().unwrap_or("unknown profile");
        (!optimised(profile)).then_some(profile)
    }
}

/// Whether times can be taken with a build of this profile. Older runs do not have its level.
pub(super) fn optimised(profile: &str) -> bool {
    ["release", "release, opt-level 3", "release, opt-level 2"].contains(&profile)
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

    #[test]
    fn only_an_optimised_build_is_one_to_take_times_with() {
        for (profile, said) in [
            (Some("release, opt-level 3"), None),
            (Some("release, opt-level 2"), None),
            (Some("release"), None),
            (Some("release, opt-level 1"), Some("release, opt-level 1")),
            (Some("release, opt-level s"), Some("release, opt-level s")),
            (Some("debug, opt-level 3"), Some("debug, opt-level 3")), // its assertions are on
            (None, Some("unknown profile")),
        ] {
            let environment =
                Environment { profile: profile.map(String::from), ..Environment::collect(1, 1) };
            assert_eq!(environment.unoptimised(), said);
        }
    }
}
