//! How much memory this process may still take. Linux hands out more than there is, and ends a process that then
//! uses it without a word: so what is wanted is held against this before.

use std::fs;
use std::path::Path;

/// Where the groups of one version of cgroups say what they may use, and use; pages of files among these are
/// given up when they are in the way.
struct Groups {
    folder: &'static str,
    limit: &'static str,
    usage: &'static str,
    file_pages: [&'static str; 2],
}

const V1: Groups = Groups {
    folder: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    file_pages: ["total_inactive_file", "total_active_file"],
};
const V2: Groups = Groups {
    folder: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    file_pages: ["inactive_file", "active_file"],
};

/// Bytes: the least of what the machine has available and of what each group of processes that this one is in may
/// still take. `None` where the system does not say.
pub(super) fn free_bytes() -> Option<u64> {
    free_under(Path::new("/"))
}

fn free_under(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let available = field(&machine, "MemAvailable:").map(|kib| kib << 10);
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let of_groups = memberships.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let version = match controllers {
            "" => V2,
            names if names.split(',').any(|name| name == "memory") => V1,
            _ => return None,
        };
        // of a group that cannot be seen from inside a container, the folder itself is the container's
        let above = Path::new(group.trim_start_matches('/')).ancestors();
        above.filter_map(|group| version.left(&root.join(version.folder).join(group))).min()
    });
    available.into_iter().chain(of_groups).min()
}

impl Groups {
    /// Of the limit of one group, if it has one.
    fn left(&self, group: &Path) -> Option<u64> {
        let number = |file| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
        let (limit, usage) = (number(self.limit)?, number(self.usage)?);
        let pages = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let pages = self.file_pages.iter().filter_map(|name| field(&pages, name)).sum();
        Some(limit.saturating_sub(usage.saturating_sub(pages)))
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(char::is_whitespace))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of these files with 100 MiB available.
    fn free(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let machine = [("proc/meminfo", "MemTotal:  999999 kB\nMemAvailable:   102400 kB\n")];
        for (path, text) in machine.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        free_under(root.path())
    }

    #[test]
    fn the_tightest_limit_counts() {
        assert_eq!(free_under(Path::new("/nowhere")), None);
        assert_eq!(free(&[]), Some(100 << 20));
        let v2 = |max| {
            free(&[
                ("proc/self/cgroup", "0::/outer/inner\n"),
                ("sys/fs/cgroup/outer/memory.max", max),
                ("sys/fs/cgroup/outer/memory.current", "7000\n"),
                ("sys/fs/cgroup/outer/memory.stat", "anon 1000\ninactive_file 4000\nactive_file 2000\n"),
                ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
                ("sys/fs/cgroup/outer/inner/memory.current", "7000\n"),
            ])
        };
        assert_eq!(v2("9000\n"), Some(8000));
        assert_eq!(v2("500\n"), Some(0), "more is used than may be");
        assert_eq!(v2("max\n"), Some(100 << 20));
        assert_eq!(v2("9000000000\n"), Some(100 << 20), "the machine has less");
        let v1 = free(&[
            ("proc/self/cgroup", "5:devices:/\n4:cpu,memory:/not/seen/from/inside\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "7000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 3000\n"),
        ]);
        assert_eq!(v1, Some(5000));
    }
}
