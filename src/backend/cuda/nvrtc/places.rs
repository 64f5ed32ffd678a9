//! Where NVRTC may lie.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A library that calls itself NVRTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub path: PathBuf,
    /// What led there and what lies below it, `VIRTUAL_ENV: lib/python3.12/..`: names no folder of a user's and
    /// may be published.
    pub place: String,
}

/// Something that leads to folders.
struct Root {
    origin: String,
    folder: PathBuf,
    folders: Vec<PathBuf>,
}

/// What is the same for all users of a machine.
#[derive(Debug, Default)]
struct System {
    toolkits: Vec<PathBuf>,
    pythons: Vec<PathBuf>,
    /// What the loader finds by name alone.
    loaded: Vec<PathBuf>,
}

/// Every NVRTC of this process's surroundings, each file once: what variables name comes first, what the whole
/// system has comes last.
pub fn candidates(by_name: impl Fn(&str) -> Option<PathBuf>) -> Vec<Candidate> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let system = System {
        toolkits: toolkits(Path::new("/usr/local")).into_iter().chain(["/opt/cuda".into()]).collect(),
        pythons: ["/usr/local", "/usr"].map(PathBuf::from).to_vec(),
        loaded: NAMES.into_iter().filter_map(by_name).collect(),
    };
    found(variable, system)
}

const NAMES: [&str; 4] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"];

fn found(variable: impl Fn(&str) -> Option<PathBuf>, system: System) -> Vec<Candidate> {
    let roots = roots(variable, &system);
    let in_roots = roots.iter().flat_map(|root| {
        root.folders.iter().flat_map(|folder| libraries(folder)).map(|path| {
            let below = path.strip_prefix(&root.folder).unwrap_or(&path).display().to_string();
            Candidate { place: format!("{}: {below}", root.origin), path }
        })
    });
    let mut known = HashSet::new();
    in_roots.filter(|found| fs::canonicalize(&found.path).is_ok_and(|file| known.insert(file))).collect()
}

fn roots(variable: impl Fn(&str) -> Option<PathBuf>, system: &System) -> Vec<Root> {
    let paths = |name: &str| -> Vec<PathBuf> {
        env::split_paths(&variable(name).unwrap_or_default())
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect()
    };
    let mut roots = Vec::new();
    let mut add = |origin: &str, folder: &Path, folders: Vec<PathBuf>| {
        roots.push(Root { origin: origin.into(), folder: folder.into(), folders });
    };
    for folder in paths("LD_LIBRARY_PATH") {
        add("LD_LIBRARY_PATH", &folder, vec![folder.clone()]);
    }
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        variable(name).iter().for_each(|home| add(name, home, toolkit_folders(home)));
    }
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        variable(name).iter().for_each(|prefix| add(name, prefix, python_folders(prefix)));
    }
    for (folder, name) in paths("PATH").iter().flat_map(|f| ["python3", "python"].map(|name| (f, name))) {
        for prefix in prefixes(&folder.join(name)) {
            add(&format!("{name} on PATH"), &prefix, python_folders(&prefix));
        }
    }
    variable("HOME").iter().map(|home| home.join(".local")).for_each(|user| {
        add("the user's Python packages", &user, python_folders(&user));
    });
    for path in &system.loaded {
        let folder = path.parent().unwrap_or(path);
        add("the system's loader", folder, vec![folder.into()]);
    }
    system.toolkits.iter().for_each(|home| add(&home.display().to_string(), home, toolkit_folders(home)));
    system.pythons.iter().for_each(|python| {
        add(&python.display().to_string(), python, python_folders(python));
    });
    roots
}

/// The files of a folder that NVRTC's library may be, those with longer names first: they have the version.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let mut found = entries(folder, "libnvrtc.so");
    found.retain(|path| path.is_file());
    found
}

/// The libraries that belong to this one: `libnvrtc-builtins.so.13.0`, beside the file itself.
pub fn builtins(library: &Path) -> Vec<PathBuf> {
    let file = fs::canonicalize(library).unwrap_or_else(|_| library.into());
    file.parent().map(|folder| entries(folder, "libnvrtc-builtins.so")).unwrap_or_default()
}

/// What lies in a folder and begins like this, in reverse order; nothing where there is no folder.
fn entries(folder: &Path, beginning: &str) -> Vec<PathBuf> {
    let begins =
        |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(beginning));
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(begins).collect();
    found.sort_by_key(|path| std::cmp::Reverse((path.as_os_str().len(), path.clone()))); // 3.10 is after 3.9
    found
}

/// `cuda-13.0`, `cuda`.
fn toolkits(folder: &Path) -> Vec<PathBuf> {
    entries(folder, "cuda")
}

fn toolkit_folders(home: &Path) -> Vec<PathBuf> {
    let below = ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"];
    below.map(|folder| home.join(folder)).to_vec()
}

/// Of a Python's prefix: `lib/python3.12/site-packages/nvidia/..` and the like, the newest Python's first; and of
/// conda's, which is laid out as a toolkit too, its own.
fn python_folders(prefix: &Path) -> Vec<PathBuf> {
    let conda = prefix.join("conda-meta").is_dir().then(|| toolkit_folders(prefix));
    let pythons = ["lib", "lib64"].into_iter().flat_map(|lib| entries(&prefix.join(lib), "python3"));
    let packages =
        pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|packages| python.join(packages)));
    let of_wheels = ["nvidia/cu13/lib", "nvidia/cu12/lib", "nvidia/cuda_nvrtc/lib"];
    let wheels = packages.flat_map(|packages| of_wheels.map(|wheel| packages.join(wheel)));
    conda.into_iter().flatten().chain(wheels).collect()
}

/// The prefixes of the Python that a program on PATH runs: of the program itself, which in a virtual environment
/// is a link; of all that it links to; of the Python that `pyvenv.cfg` names, where it was copied; and where it is
/// one of pyenv's scripts, of every Python that pyenv has.
fn prefixes(program: &Path) -> Vec<PathBuf> {
    let above = |path: &Path| Some(path.parent()?.parent()?.to_path_buf());
    if !program.is_file() {
        return Vec::new();
    }
    let mut prefixes = Vec::new();
    let mut next = Some(program.to_path_buf());
    while let Some(path) = next.take().filter(|_| prefixes.len() < 16) {
        prefixes.extend(above(&path));
        next = fs::read_link(&path).ok().and_then(|target| Some(path.parent()?.join(target)));
    }
    let homes = prefixes.iter().filter_map(|prefix| fs::read_to_string(prefix.join("pyvenv.cfg")).ok());
    let homes: Vec<PathBuf> = homes.filter_map(|text| home_of(&text)).collect();
    prefixes.extend(homes.iter().filter_map(|bin| bin.parent().map(PathBuf::from)));
    if program.parent().is_some_and(|folder| folder.ends_with("shims")) {
        prefixes.extend(above(program).iter().flat_map(|root| entries(&root.join("versions"), "3")));
    }
    prefixes
}

/// `/usr/bin` of `home = /usr/bin`.
fn home_of(pyvenv: &str) -> Option<PathBuf> {
    let pairs = pyvenv.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.trim(), value.trim()))
        .find(|(key, _)| *key == "home")
        .map(|(_, v)| v.into())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const WHEEL_12: &str = "lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12";
    const WHEEL_13: &str = "lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13";

    /// A folder of this test's own that holds these files, all empty.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    /// Where libraries are found with these variables, whose values lie below a folder, and this system.
    fn places(folder: &Path, variables: &[(&str, &[&str])], system: System) -> Vec<String> {
        let variable = |name: &str| {
            let (_, folders) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(env::join_paths(folders.iter().map(|below| folder.join(below))).unwrap().into())
        };
        let found = found(variable, system);
        assert!(found.iter().all(|found| found.path.starts_with(folder)), "{found:?}");
        found.into_iter().map(|found| found.place).collect()
    }

    #[test]
    fn everything_is_found_in_the_order_in_which_it_is_named() {
        let lies = folder(&[
            "a/libnvrtc.so",
            "b/libnvrtc.so.12",
            "b/libnvrtc-builtins.so.12.9",
            "b/libnvrtc.alt.so.12",
            "cuda/lib64/libnvrtc.so.12.9.86",
            "path/lib/libnvrtc.so.11.2",
            &format!("venv/{WHEEL_12}"),
            &format!("venv/{WHEEL_13}"),
            "conda/conda-meta/history",
            "conda/lib/libnvrtc.so.12",
            "home/.local/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "cache/libnvrtc.so.13",
            "usr/local/cuda-13.0/targets/x86_64-linux/lib/libnvrtc.so.13",
            "usr/lib/python3/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        ]);
        let variables: [(&str, &[&str]); 6] = [
            ("LD_LIBRARY_PATH", &["b", "a", "nowhere"]),
            ("CUDA_HOME", &["cuda"]),
            ("CUDA_PATH", &["path"]),
            ("VIRTUAL_ENV", &["venv"]),
            ("CONDA_PREFIX", &["conda"]),
            ("HOME", &["home"]),
        ];
        let system = System {
            toolkits: toolkits(&lies.path().join("usr/local")),
            pythons: vec![lies.path().join("usr")],
            loaded: vec![lies.path().join("cache/libnvrtc.so.13")],
        };
        let usr = lies.path().join("usr").display().to_string();
        assert_eq!(
            places(lies.path(), &variables, system),
            [
                "LD_LIBRARY_PATH: libnvrtc.so.12".into(),
                "LD_LIBRARY_PATH: libnvrtc.so".into(),
                "CUDA_HOME: lib64/libnvrtc.so.12.9.86".into(),
                "CUDA_PATH: lib/libnvrtc.so.11.2".into(),
                format!("VIRTUAL_ENV: {WHEEL_13}"),
                format!("VIRTUAL_ENV: {WHEEL_12}"),
                "CONDA_PREFIX: lib/libnvrtc.so.12".into(),
                "the user's Python packages: lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
                    .into(),
                "the system's loader: libnvrtc.so.13".into(),
                format!("{usr}/local/cuda-13.0: targets/x86_64-linux/lib/libnvrtc.so.13"),
                format!("{usr}: lib/python3/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"),
            ]
        );
        assert!(places(lies.path(), &[], System::default()).is_empty());
    }

    #[test]
    fn one_file_under_several_names_is_one_library_and_the_newest_python_comes_first() {
        let lies = folder(&[
            "cuda/lib64/libnvrtc.so.12.9.86",
            "venv/lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        ]);
        let cuda = lies.path().join("cuda/lib64");
        symlink("libnvrtc.so.12.9.86", cuda.join("libnvrtc.so.12")).unwrap();
        symlink("libnvrtc.so.12", cuda.join("libnvrtc.so")).unwrap();
        symlink("lib", lies.path().join("venv/lib64")).unwrap();
        let variables: [(&str, &[&str]); 3] =
            [("CUDA_HOME", &["cuda"]), ("LD_LIBRARY_PATH", &["cuda/lib64"]), ("VIRTUAL_ENV", &["venv"])];
        let wheel = |python: &str| {
            format!("VIRTUAL_ENV: lib/{python}/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12")
        };
        assert_eq!(
            places(lies.path(), &variables, System::default()),
            ["LD_LIBRARY_PATH: libnvrtc.so.12.9.86".into(), wheel("python3.12"), wheel("python3.9")]
        );
    }

    /// Each Python on PATH leads to its environment, which nothing else names.
    #[test]
    fn pythons_on_the_path_are_followed_to_their_environments() {
        let lies = folder(&[
            &format!("venv/{WHEEL_13}"),
            "copied/bin/python3",
            &format!("base/{WHEEL_12}"),
            "base/bin/python3.12",
            &format!("other/{WHEEL_12}"),
            "pyenv/shims/python",
            &format!("pyenv/versions/3.12.1/{WHEEL_12}"),
            "conda/bin/python",
            "conda/conda-meta/history",
            "conda/lib/libnvrtc.so.12",
        ]);
        let at = |below: &str| lies.path().join(below);
        for folder in ["venv/bin", "local", "other/bin"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        symlink(at("base/bin/python3.12"), at("venv/bin/python")).unwrap();
        symlink("python", at("venv/bin/python3")).unwrap();
        symlink("../venv/bin/python3", at("local/python3")).unwrap();
        fs::write(
            at("copied/pyvenv.cfg"),
            format!("home = {}\nversion = 3.12.1\n", at("base/bin").display()),
        )
        .unwrap();
        let on_path = |folders: &[&str]| places(lies.path(), &[("PATH", folders)], System::default());
        let python3 = |wheel: &str| format!("python3 on PATH: {wheel}");
        let python = |wheel: &str| format!("python on PATH: {wheel}");

        // the environment that the program is of, then the Python that it was made from
        assert_eq!(on_path(&["venv/bin"]), [python3(WHEEL_13), python3(WHEEL_12)]);
        assert_eq!(on_path(&["local"]), [python3(WHEEL_13), python3(WHEEL_12)], "a link to a link");
        assert_eq!(on_path(&["copied/bin"]), [python3(WHEEL_12)], "by pyvenv.cfg");
        assert_eq!(on_path(&["pyenv/shims"]), [python(WHEEL_12)]);
        assert_eq!(on_path(&["conda/bin"]), [python("lib/libnvrtc.so.12")]);
        assert_eq!(on_path(&["other/bin", "nowhere"]), Vec::<String>::new(), "no Python, no environment");
        assert_eq!(on_path(&["copied/bin", "venv/bin"]), [python3(WHEEL_12), python3(WHEEL_13)]);
    }
}
