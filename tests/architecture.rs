//! The order of the modules, read from their `use` lines: an arrow points from a module to those it needs, and
//! none points up or goes round in a circle. And the order of the operations, read from the places where they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use decode_bench::backend::cuda::Kernel;

/// Each module may use those before it. `src/lib.rs` draws the same order.
const ORDER: [&str; 23] = [
    "harmless",
    "error",
    "temporary",
    "files",
    "dtype",
    "strategy",
    "case",
    "backend",
    "cache",
    "layer",
    "model",
    "cost",
    "session",
    "decoding",
    "suite",
    "record",
    "analysis",
    "units",
    "plot",
    "report",
    "shard",
    "measure",
    "bench",
];

type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_module_uses_one_that_is_built_on_it() {
    let mut arrows = Arrows::new();
    for file in sources(Path::new("src")) {
        let names = parts(&file);
        let top = &names[0];
        if !["lib", "main", "cmd"].contains(&top.as_str()) {
            let used =
                paths(&code(&file)).into_iter().filter(|path| path[0] == "crate").map(|path| path[1].clone());
            arrows.entry(top.clone()).or_default().extend(used.filter(|used| used != top));
        }
    }
    let known: BTreeSet<&str> = arrows.keys().map(String::as_str).collect();
    assert_eq!(known, BTreeSet::from(ORDER), "a module without a place in the order");
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    for (module, used) in &arrows {
        for used in used.iter().filter(|used| place(used).is_some()) {
            assert!(place(used) < place(module), "`{module}` uses `{used}`, which comes after it");
        }
    }
}

#[test]
fn within_a_folder_no_two_files_need_each_other() {
    let mut circles = Vec::new();
    for folder in folders(Path::new("src")) {
        let Ok(front) = fs::read_to_string(folder.join("mod.rs")) else { continue };
        let homes = homes(&without_tests(&front));
        let mut arrows = Arrows::new();
        for file in sources(&folder).into_iter().filter(|file| !file.ends_with("mod.rs")) {
            let name = parts(file.strip_prefix(&folder).unwrap())[0].clone();
            let depth = file.strip_prefix(&folder).unwrap().components().count();
            let depth = if file.file_name().unwrap() == "mod.rs" { depth - 1 } else { depth };
            let supers = vec!["super".to_string(); depth];
            for path in paths(&code(&file)).iter().filter_map(|path| path.strip_prefix(&supers[..])) {
                let used = homes.get(&path[0]).filter(|used| **used != name);
                arrows.entry(name.clone()).or_default().extend(used.cloned());
            }
        }
        circles.extend(circle(&arrows).map(|circle| format!("{}: {}", folder.display(), circle.join(" → "))));
    }
    assert!(
        circles.is_empty(),
        "{}",
        circles.join(
            "
"
        )
    );
}

/// Each operation stands at the same place in the trait, in everything that implements it and among the oracles.
#[test]
fn operations_have_one_order_and_an_oracle_each() {
    let in_trait = operations("src/backend/mod.rs");
    let all = operations("src/backend/cpu/mod.rs");
    for file in ["mod.rs", "meter.rs", "cuda/mod.rs"].map(|file| format!("src/backend/{file}")) {
        let there = operations(&file);
        assert!(
            there.iter().filter(|name| all.contains(name)).eq(&all),
            "{file} and the CPU differ: {there:?}"
        );
        assert!(there.iter().all(|name| in_trait.contains(name)), "{file}: {there:?}");
    }
    let tests = fs::read_to_string("src/backend/tests.rs").unwrap();
    let calls = tests.split_once("fn operations_are_the_oracle_s<").unwrap().1;
    let calls = calls.lines().filter_map(|line| line.split_once("::")?.1.strip_suffix("(b);"));
    let oracles: Vec<&str> = calls.filter(|name| all.iter().any(|known| known == name)).collect();
    assert_eq!(oracles, all, "the oracles, and the operations");
}

/// The methods of the trait or of its implementation, from the first that computes something.
fn operations(file: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let from = ["pub trait Backend", " Backend for "].iter().find_map(|head| text.find(head)).unwrap();
    let lines = text[from..].lines().take_while(|line| *line != "}");
    let methods = lines.filter_map(|line| line.strip_prefix("    fn ")?.split(['(', '<']).next());
    methods.skip_while(|name| *name != "embed").map(String::from).collect()
}

#[test]
fn every_kernel_s_file_is_compiled() {
    let files = fs::read_dir("kernels").unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|e| e == "cu"));
    let files: BTreeSet<String> = files.map(|file| parts(&file)[1].clone()).collect();
    let known: BTreeSet<String> = Kernel::ALL.iter().map(|kernel| kernel.name().to_string()).collect();
    assert_eq!(files, known, "files of `kernels/`, and lines of `kernels!`");
}

#[test]
fn a_circle_is_found() {
    let arrows = |text: &[(&str, &str)]| -> Arrows {
        let mut arrows = Arrows::new();
        for (from, to) in text {
            arrows.entry(from.to_string()).or_default().insert(to.to_string());
        }
        arrows
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    assert!(circle(&arrows(&[("a", "b"), ("b", "c"), ("c", "a")])).is_some());
    let lines = "use super::{one::{self, Two}, three::Four};\nlet x = crate::five::six();";
    let want = ["super one self", "super one Two", "super three Four", "crate five six"];
    assert_eq!(paths(lines).iter().map(|path| path.join(" ")).collect::<Vec<_>>(), want);
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(sources(&entry)),
            false => found.extend((entry.extension().is_some_and(|e| e == "rs")).then_some(entry)),
        }
    }
    found.retain(|file| !parts(file).iter().any(|part| part == "tests"));
    found.sort();
    found
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let inner = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    inner.flat_map(|path| folders(&path).into_iter().chain([path])).collect()
}

/// `src/plot/axis.rs` as `plot`, `axis`.
fn parts(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    let names = names.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    names.filter(|name| name != "src").collect()
}

fn code(file: &Path) -> String {
    without_tests(&fs::read_to_string(file).unwrap())
}

/// What is compiled for users, without comments.
fn without_tests(text: &str) -> String {
    let text =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..tests].to_string()
}

/// Every path of the text that begins with `crate` or `super`, those of a `use` with braces one by one.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = ["crate::", "super::"].iter().filter_map(|root| rest.find(root)).min() {
        let word_before = rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let tail = &rest[at..];
        if !word_before {
            walk(tail, &mut Vec::new(), &mut found);
        }
        let chain = tail.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tail.len());
        rest = &tail[chain.max(1)..];
    }
    found
}

/// Reads one path, and in braces all of them; returns how far it read.
fn walk(text: &str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = before.len();
    let mut at = 0;
    loop {
        let word =
            text[at..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(text.len(), |end| at + end);
        if word > at {
            before.push(text[at..word].to_string());
        }
        at = word;
        if text[at..].starts_with("::") {
            at += 2;
            continue;
        }
        if text[at..].starts_with('{') && text[..at].ends_with("::") {
            at += 1;
            while !text[at..].starts_with('}') {
                let next =
                    text[at..].find(|c: char| c.is_alphanumeric() || c == '_' || c == '}').unwrap() + at;
                at = if text[next..].starts_with('}') {
                    next
                } else {
                    next + walk(&text[next..], before, found)
                };
            }
            at += 1;
        } else if before.len() > 1 {
            found.push(before.clone());
        }
        before.truncate(depth);
        return at;
    }
}

/// The file of a folder that each name of its `mod.rs` comes from.
fn homes(front: &str) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for line in front.split([';', '{', '}']).map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [.., "mod", name] = words[..] {
            homes.insert(name.to_string(), name.to_string());
        }
    }
    let modules: BTreeSet<String> = homes.keys().cloned().collect();
    let all = front.replace("pub use ", "pub use super::").replace("pub(crate) use ", "pub use super::");
    for path in paths(&all).into_iter().filter(|path| path.len() > 2 && modules.contains(&path[1])) {
        homes.insert(path[path.len() - 1].clone(), path[1].clone());
    }
    homes
}

/// Files that need each other, the first of them again at the end.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn visit(
        arrows: &Arrows,
        name: &String,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = way.iter().position(|known| known == name) {
            return Some(way[at..].iter().chain([name]).cloned().collect());
        }
        if !done.insert(name.clone()) {
            return None;
        }
        way.push(name.clone());
        let found =
            arrows.get(name).and_then(|used| used.iter().find_map(|used| visit(arrows, used, way, done)));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|name| visit(arrows, name, &mut Vec::new(), &mut done))
}
