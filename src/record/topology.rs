//! Which cores there are: the siblings of each, and whether some are made to be fast and others to be frugal.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Cores of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreKind {
    /// Absent where all cores are alike, or the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<CoreClass>,
    /// Of each core its logical processors, as the kernel lists them: `0,8`.
    pub siblings: Vec<String>,
}

/// What the cores of a hybrid processor are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoreClass {
    /// Speed.
    Performance,
    /// Little power: less than half as fast as the fastest, or an E-core of Intel.
    Efficiency,
}

/// The cores of these logical processors by kind, performance first, as the files below `root` (`/sys`) say it. Empty:
/// they do not.
pub(super) fn core_kinds(root: &Path, processors: &[usize]) -> Vec<CoreKind> {
    let capacities = capacities(root, processors);
    let mut kinds: BTreeMap<Option<CoreClass>, Vec<String>> = BTreeMap::new();
    for &processor in processors {
        let siblings = of_processor(root, processor, "topology/thread_siblings_list");
        let Some(siblings) = siblings else { return Vec::new() };
        let kind = kinds.entry(class(&capacities, processor)).or_default();
        if !kind.contains(&siblings) {
            kind.push(siblings);
        }
    }
    kinds.into_iter().map(|(class, siblings)| CoreKind { class, siblings }).collect()
}

/// How fast each processor is beside others. Empty where all are alike.
fn capacities(root: &Path, processors: &[usize]) -> BTreeMap<usize, u64> {
    let listed = |device: &str| line(&root.join("devices").join(device).join("cpus"));
    let all: BTreeMap<usize, u64> = match (listed("cpu_core"), listed("cpu_atom")) {
        // Intel's hybrid processors have a performance monitor for each kind
        (Some(core), Some(atom)) => [(core, 2), (atom, 0)]
            .into_iter()
            .flat_map(|(list, capacity)| numbers(&list).into_iter().flatten().map(move |cpu| (cpu, capacity)))
            .collect(),
        // Arm's: of 1024
        _ => {
            let capacity = |&cpu: &usize| Some((cpu, of_processor(root, cpu, "cpu_capacity")?.parse().ok()?));
            processors.iter().filter_map(capacity).collect()
        }
    };
    let alike = all.values().min() == all.values().max();
    if alike {
        BTreeMap::new()
    } else {
        all
    }
}

fn class(capacities: &BTreeMap<usize, u64>, processor: usize) -> Option<CoreClass> {
    let (own, most) = (capacities.get(&processor)?, capacities.values().max()?);
    Some(if 2 * own >= *most { CoreClass::Performance } else { CoreClass::Efficiency })
}

fn of_processor(root: &Path, processor: usize, file: &str) -> Option<String> {
    line(&root.join(format!("devices/system/cpu/cpu{processor}")).join(file))
}

/// `0-2,5` as numbers.
pub(super) fn numbers(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(all)
}

/// The text of a file, without the space around it, if there is any.
pub(super) fn line(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/sys` with these siblings of each processor, and these files besides.
    fn sys(siblings: &[&str], files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join("devices").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        for (cpu, list) in siblings.iter().enumerate() {
            write(&format!("system/cpu/cpu{cpu}/topology/thread_siblings_list"), list);
        }
        files.iter().for_each(|(path, text)| write(path, text));
        root
    }

    fn kinds(root: &tempfile::TempDir, processors: &[usize]) -> Vec<(Option<CoreClass>, Vec<String>)> {
        core_kinds(root.path(), processors).into_iter().map(|kind| (kind.class, kind.siblings)).collect()
    }

    fn cores(siblings: &[&str]) -> Vec<String> {
        siblings.iter().map(|list| list.to_string()).collect()
    }

    #[test]
    fn siblings_of_a_core_are_counted_once() {
        let smt = sys(&["0,2", "1,3", "0,2", "1,3"], &[]);
        assert_eq!(kinds(&smt, &[0, 1, 2, 3]), [(None, cores(&["0,2", "1,3"]))]);
        assert_eq!(kinds(&smt, &[1, 3]), [(None, cores(&["1,3"]))], "the process may use one core");
        assert_eq!(kinds(&sys(&[], &[]), &[0]), [], "the system does not tell");
    }

    #[test]
    fn the_cores_of_a_hybrid_processor_have_a_class() {
        use CoreClass::{Efficiency, Performance};
        let intel = sys(
            &["0-1", "0-1", "2-3", "2-3", "4", "5"],
            &[("cpu_core/cpus", "0-3"), ("cpu_atom/cpus", "4-5")],
        );
        assert_eq!(
            kinds(&intel, &[0, 1, 2, 3, 4, 5]),
            [(Some(Performance), cores(&["0-1", "2-3"])), (Some(Efficiency), cores(&["4", "5"]))]
        );
        let capacity = |cpu: usize| format!("system/cpu/cpu{cpu}/cpu_capacity");
        let arm = |all: [&str; 4]| {
            let paths: Vec<String> = (0..4).map(capacity).collect();
            let files: Vec<(&str, &str)> = paths.iter().map(String::as_str).zip(all).collect();
            sys(&["0", "1", "2", "3"], &files)
        };
        assert_eq!(
            kinds(&arm(["250", "250", "870", "1024"]), &[0, 1, 2, 3]),
            [(Some(Performance), cores(&["2", "3"])), (Some(Efficiency), cores(&["0", "1"]))],
            "a middle core is no little one"
        );
        assert_eq!(kinds(&arm(["1024"; 4]), &[0, 1]), [(None, cores(&["0", "1"]))], "all alike");
    }

    #[test]
    fn processor_lists_are_read() {
        assert_eq!(numbers("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("many"), None);
    }
}
