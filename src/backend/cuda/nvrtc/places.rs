//! Where NVRTC may lie.

use std::env;
use std::path::{Path, PathBuf};

const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

/// Folders to search, kind by kind, in this order.
#[derive(Debug, Default)]
pub struct Places {
    /// As they are: `LD_LIBRARY_PATH`.
    pub folders: Vec<PathBuf>,
    /// Toolkits that were named: `CUDA_HOME`, `CUDA_PATH`, and `CONDA_PREFIX`, which is laid out as one.
    pub toolkits: Vec<PathBuf>,
    /// Prefixes of Pythons whose wheels may hold it: the active ones, then the user's own.
    pub pythons: Vec<PathBuf>,
    /// The same, of the system: tried after what its loader finds by name.
    pub system_toolkits: Vec<PathBuf>,
    pub system_pythons: Vec<PathBuf>,
}

impl Places {
    /// Of this process.
    pub fn here() -> Places {
        Places::of(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Places {
        let named = |names: &[&str]| names.iter().filter_map(|name| variable(name)).collect::<Vec<_>>();
        let listed = variable("LD_LIBRARY_PATH").unwrap_or_default();
        let user = variable("HOME").map(|home| home.join(".local"));
        Places {
            folders: env::split_paths(&listed).filter(|folder| !folder.as_os_str().is_empty()).collect(),
            toolkits: named(&["CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX"]),
            pythons: named(&["VIRTUAL_ENV", "CONDA_PREFIX"]).into_iter().chain(user).collect(),
            system_toolkits: ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from).to_vec(),
            system_pythons: ["/usr/local", "/usr"].map(PathBuf::from).to_vec(),
        }
    }

    /// Libraries to try: files that are there, and the names alone for the system's loader to find.
    pub fn candidates(&self) -> Vec<PathBuf> {
        let toolkits = |homes: &[PathBuf]| homes.iter().flat_map(|home| toolkit_folders(home)).collect();
        let wheels = |prefixes: &[PathBuf]| prefixes.iter().flat_map(|p| wheel_folders(p)).collect();
        let named = [self.folders.clone(), toolkits(&self.toolkits), wheels(&self.pythons)];
        let usual = [toolkits(&self.system_toolkits), wheels(&self.system_pythons)];
        let by_name = NAMES.map(PathBuf::from);
        libraries(&named.concat()).chain(by_name).chain(libraries(&usual.concat())).collect()
    }
}

fn libraries(folders: &[PathBuf]) -> impl Iterator<Item = PathBuf> + '_ {
    let paths = folders.iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
    paths.filter(|path| path.is_file())
}

fn toolkit_folders(home: &Path) -> [PathBuf; 3] {
    ["lib64", "lib", "targets/x86_64-linux/lib"].map(|folder| home.join(folder))
}

/// `lib/python3.12/site-packages/nvidia/..` and the like, the newest Python's first.
fn wheel_folders(prefix: &Path) -> Vec<PathBuf> {
    let Ok(entries) = prefix.join("lib").read_dir() else { return Vec::new() };
    let is_python =
        |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3"));
    let mut pythons: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_python).collect();
    pythons.sort_by_key(|path| std::cmp::Reverse((path.as_os_str().len(), path.clone()))); // 3.10 is after 3.9
    let packages =
        pythons.iter().flat_map(|p| ["site-packages", "dist-packages"].map(|folder| p.join(folder)));
    let of_wheels = ["nvidia/cu13/lib", "nvidia/cu12/lib", "nvidia/cuda_nvrtc/lib"];
    packages.flat_map(|packages| of_wheels.map(|wheel| packages.join(wheel))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own that holds these files, all empty.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    /// What is found below `folder`, without it.
    fn found(places: &Places, folder: &tempfile::TempDir) -> Vec<String> {
        let below = |path: PathBuf| Some(path.strip_prefix(folder.path()).ok()?.display().to_string());
        places.candidates().into_iter().filter_map(below).collect()
    }

    #[test]
    fn a_toolkit_that_cuda_home_names_comes_before_the_loader_and_the_usual_places() {
        let files = ["named/lib64/libnvrtc.so.12", "named/lib64/libnvrtc.so", "usual/lib64/libnvrtc.so.13"];
        let home = folder(&files);
        let variable = |name: &str| (name == "CUDA_HOME").then(|| home.path().join("named"));
        let places = Places { system_toolkits: vec![home.path().join("usual")], ..Places::of(variable) };
        assert_eq!(found(&places, &home), files);
        let at = |wanted: PathBuf| places.candidates().iter().position(|path| *path == wanted).unwrap();
        let loader = at(PathBuf::from("libnvrtc.so.13"));
        assert!(at(home.path().join(files[1])) < loader && loader < at(home.path().join(files[2])));
    }

    #[test]
    fn wheels_are_found_in_every_layout_and_the_newest_python_first() {
        let files = [
            "lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
            "lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "lib/python3/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        ];
        let others = ["lib/python3.12/site-packages/nvidia/cublas/lib/libcublas.so.12", "lib/libnvrtc.so.12"];
        let prefix = folder(&[files.as_slice(), others.as_slice()].concat());
        for kind in ["VIRTUAL_ENV", "system"] {
            let variable = |name: &str| (name == kind).then(|| prefix.path().to_path_buf());
            let system_pythons = if kind == "system" { vec![prefix.path().into()] } else { Vec::new() };
            assert_eq!(found(&Places { system_pythons, ..Places::of(variable) }, &prefix), files, "{kind}");
        }
    }

    #[test]
    fn a_users_own_packages_and_conda_are_searched() {
        let home = folder(&[
            ".local/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "conda/lib/libnvrtc.so.12",
        ]);
        let variable = |name: &str| match name {
            "HOME" => Some(home.path().to_path_buf()),
            "CONDA_PREFIX" => Some(home.path().join("conda")),
            _ => None,
        };
        let want = [
            "conda/lib/libnvrtc.so.12",
            ".local/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        ];
        assert_eq!(found(&Places::of(variable), &home), want);
    }

    #[test]
    fn folders_of_the_loaders_variable_come_first_and_without_variables_nothing_is_named() {
        let lists = folder(&["b/libnvrtc.so", "a/libnvrtc.so.12", "cuda/lib64/libnvrtc.so.12"]);
        let variable = |name: &str| match name {
            "LD_LIBRARY_PATH" => {
                Some(env::join_paths([lists.path().join("b"), lists.path().join("a")]).unwrap().into())
            }
            "CUDA_PATH" => Some(lists.path().join("cuda")),
            _ => None,
        };
        let want = ["b/libnvrtc.so", "a/libnvrtc.so.12", "cuda/lib64/libnvrtc.so.12"];
        assert_eq!(found(&Places::of(variable), &lists), want);
        let nothing = Places { system_toolkits: vec![], system_pythons: vec![], ..Places::of(|_| None) };
        assert_eq!(nothing.candidates(), NAMES.map(PathBuf::from));
    }
}
