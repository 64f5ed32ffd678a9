//! Which sources a number comes from: those that the program was built from, whatever the checkout has become.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use decode_bench::record::{
    differences, unfit, Checkout, Consequence, Environment, Run, Unmet, Use, CONDITIONS,
};
use tempfile::{tempdir, TempDir};

use crate::common::{self, known_environment, CHANGES};

const CASE: &str = "transformer-tiny/concat/cpu/b1/t8";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    let somebody = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
    git.arg("-C").arg(folder).args(somebody).args(args).env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE");
    succeeded(git.output().unwrap())
}

/// A repository that looks like this program's, with one commit in it; `None` where there is no git.
fn repository() -> Option<TempDir> {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: there is no git");
        return None;
    }
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("src/record")).unwrap();
    let manifest =
        "[package]\nname = \"decode-bench\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    let main =
        "fn main() { print!(\"{} {}\", env!(\"DECODE_BENCH_REVISION\"), env!(\"DECODE_BENCH_DIRTY\")) }\n";
    fs::write(folder.path().join("src/main.rs"), main).unwrap();
    for file in ["build.rs", "src/record/git.rs"] {
        fs::copy(common::root().join(file), folder.path().join(file)).unwrap();
    }
    fs::write(folder.path().join("README.md"), "Prose.\n").unwrap();
    fs::write(folder.path().join(".gitignore"), "target/\nCargo.lock\n").unwrap();
    git(folder.path(), &["init", "--quiet"]);
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "--quiet", "--message", "one"]);
    Some(folder)
}

// ---- what a build is stamped with

/// The stamp of the program that cargo builds of this folder.
fn built(folder: &Path) -> String {
    built_with(folder, |_| {})
}

fn built_with(folder: &Path, change: impl FnOnce(&mut Command)) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["run", "--quiet", "--offline"]).current_dir(folder);
    for name in ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_MANIFEST_DIR"] {
        cargo.env_remove(name);
    }
    change(&mut cargo);
    succeeded(cargo.output().unwrap())
}

#[test]
fn a_build_is_stamped_again_when_its_sources_or_its_revision_change_and_not_else() {
    let Some(repository) = repository() else { return };
    let folder = repository.path();
    let head = || git(folder, &["rev-parse", "HEAD"]);
    let first = head();
    assert_eq!(built(folder), format!("{first} false"));
    let kept = folder.join("kept");
    fs::copy(folder.join("target/debug/decode-bench"), &kept).unwrap();

    git(folder, &["commit", "--quiet", "--allow-empty", "--message", "two"]);
    assert_ne!(head(), first);
    assert_eq!(built(folder), format!("{} false", head()));
    assert_eq!(succeeded(Command::new(&kept).output().unwrap()), format!("{first} false"), "built before");

    let program = || fs::metadata(folder.join("target/debug/decode-bench")).unwrap().modified().unwrap();
    let before = program();
    fs::write(folder.join("README.md"), "Other prose.\n").unwrap();
    git(folder, &["add", "README.md"]);
    assert_eq!((built(folder), program()), (format!("{} false", head()), before), "no source, no new build");

    let main = fs::read_to_string(folder.join("src/main.rs")).unwrap();
    fs::write(folder.join("src/main.rs"), format!("{main}// changed\n")).unwrap();
    assert_eq!(built(folder), format!("{} true", head()));
    fs::write(folder.join("src/main.rs"), &main).unwrap();
    assert_eq!(built(folder), format!("{} false", head()));

    git(folder, &["pack-refs", "--all"]); // the branch has no file now
    built(folder);
    git(folder, &["commit", "--quiet", "--allow-empty", "--message", "three"]);
    assert_eq!(built(folder), format!("{} false", head()));
}

#[test]
fn a_worktree_is_stamped_with_its_own_revision() {
    let Some(repository) = repository() else { return };
    let worktree = repository.path().join("target/worktree");
    git(repository.path(), &["worktree", "add", "--quiet", "-b", "other", worktree.to_str().unwrap()]);
    let head = || git(&worktree, &["rev-parse", "HEAD"]);
    assert_eq!(built(&worktree), format!("{} false", head()));
    git(&worktree, &["commit", "--quiet", "--allow-empty", "--message", "two"]);
    assert_ne!(head(), git(repository.path(), &["rev-parse", "HEAD"]));
    assert_eq!(built(&worktree), format!("{} false", head()));
}

#[test]
fn sources_without_git_are_stamped_with_nothing() {
    let Some(repository) = repository() else { return };
    fs::remove_dir_all(repository.path().join(".git")).unwrap();
    assert_eq!(built(repository.path()), "");
}

/// A folder with a git in it that answers as it does in somebody else's folder.
#[cfg(unix)]
fn refusing_git() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let bin = tempdir().unwrap();
    let git = bin.path().join("git");
    fs::write(&git, "#!/bin/sh\necho 'fatal: detected dubious ownership' >&2\nexit 128\n").unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[cfg(unix)]
#[test]
fn sources_that_git_refuses_are_stamped_with_nothing() {
    let (Some(repository), bin) = (repository(), refusing_git()) else { return };
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let stamp = built_with(repository.path(), |cargo| {
        cargo.env("PATH", path);
    });
    assert_eq!(stamp, "");
}

// ---- what a run says

/// Decodes a little, as if cargo had called this program in that checkout.
fn decode(checkout: &Path, results: &Path, change: impl FnOnce(&mut Command)) -> (Run, String) {
    let mut command = Command::new(common::program());
    command.args([
        "trace",
        "--filter",
        "^transformer-tiny/concat/cpu/b1/t16$",
        "--tokens",
        "8",
        "--rounds",
        "6",
    ]);
    command.args(["--threads", "1", "--results"]).arg(results).env("CARGO_MANIFEST_DIR", checkout);
    change(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let folder = fs::read_dir(results).unwrap().next().unwrap().unwrap().path();
    (Run::open(&folder).unwrap(), said(&output))
}

fn cite(run: &Run, more: &[&str]) -> Output {
    let mut command = Command::new(common::program());
    command.args(["cite", CASE, "--run"]).arg(&run.path).args(["--allow-dirty", "--allow-debug"]).args(more);
    command.output().unwrap()
}

fn stamp() -> (Option<String>, Option<bool>) {
    let here = Environment::collect(1, 1);
    (here.git_revision, here.git_dirty)
}

#[test]
fn a_checkout_that_moved_on_is_not_what_the_program_was_built_from() {
    let Some(repository) = repository() else { return };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let results = tempdir().unwrap();
        // as in a hook of another repository
        let (run, noted) = decode(repository.path(), results.path(), |program| {
            program.env("GIT_DIR", "/nowhere");
        });
        let head = git(repository.path(), &["rev-parse", "HEAD"]);
        let found = &run.environment;
        assert_eq!((found.git_revision.clone(), found.git_dirty), stamp());
        assert_eq!(found.checkout, Some(Checkout { revision: Some(head.clone()), dirty: Some(false) }));
        assert!(noted.starts_with("note: ") && noted.contains("`cite` will refuse this run"), "{noted}");
        let refused = cite(&run, &[]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(said(&refused).contains("--allow-unknown-revision"), "{}", said(&refused));
        if let Some(built) = stamp().0.filter(|_| stamp().1.is_some()) {
            let doubt = format!("built from revision {built}, and its checkout is at {head}");
            assert!(noted.contains(&doubt) && said(&refused).contains(&doubt), "{noted}");
            assert!(succeeded(cite(&run, &["--allow-unknown-revision"])).contains("(in doubt)"));
        }
        seen.push(head);
        git(repository.path(), &["commit", "--quiet", "--allow-empty", "--message", "another"]);
    }
    assert_ne!(seen[0], seen[1]);
}

#[cfg(unix)]
#[test]
fn a_checkout_that_git_refuses_is_said_and_not_cited() {
    let Some(repository) = repository() else { return };
    let (results, bin) = (tempdir().unwrap(), refusing_git());
    let (run, noted) = decode(repository.path(), results.path(), |program| {
        program.env("PATH", bin.path());
    });
    assert_eq!(run.environment.checkout, Some(Checkout::default()));
    assert!(noted.starts_with("note: ") && noted.contains("safe.directory"), "{noted}");
    let refused = cite(&run, &[]);
    assert!(refused.status.code() == Some(2) && said(&refused).contains("--allow-unknown-revision"));
    assert!(cite(&run, &["--allow-unknown-revision"]).status.success());
}

/// On another machine there is no checkout: the stamp is all there is, and enough.
#[test]
fn a_program_that_was_carried_elsewhere_is_known_by_its_stamp() {
    let (elsewhere, results) = (tempdir().unwrap(), tempdir().unwrap());
    let program: PathBuf = elsewhere.path().join("decode-bench");
    fs::copy(common::program(), &program).unwrap();
    let (run, noted) = decode(elsewhere.path(), results.path(), |command| {
        let mut carried = Command::new(&program);
        carried
            .args(command.get_args().map(ToOwned::to_owned).collect::<Vec<_>>())
            .env_remove("CARGO_MANIFEST_DIR");
        *command = carried;
    });
    assert_eq!(run.environment.checkout, None);
    assert_eq!((run.environment.git_revision.clone(), run.environment.git_dirty), stamp());
    match common::revision_is_known() {
        true => assert!(!noted.contains("note: ") && cite(&run, &[]).status.success(), "{noted}"),
        false => assert!(noted.contains("is unknown") && cite(&run, &[]).status.code() == Some(2), "{noted}"),
    }
}

// ---- what must be equal

const USES: [Use; 4] = [Use::Resume, Use::Merge, Use::Compare, Use::Gate];

/// Names and consequences of what the table does not ignore.
fn named(found: &[Unmet]) -> Vec<(&'static str, Consequence)> {
    found.iter().map(|unmet| (unmet.condition.name, unmet.consequence)).collect()
}

fn expected(conditions: &[&str], of: Use) -> Vec<(&'static str, Consequence)> {
    let those = CONDITIONS.iter().filter(|condition| conditions.contains(&condition.name));
    let consequences = those.map(|condition| (condition.name, condition.consequence(of)));
    consequences.filter(|(_, consequence)| *consequence > Consequence::Ignored).collect()
}

#[test]
fn every_field_of_the_environment_is_a_condition_or_known_to_be_none() {
    const NO_CONDITION: [&str; 32] = [
        "format_version",
        "git_changes",
        "command_line",
        "cpu_parts",
        "core_kinds",
        "os",
        "read_bandwidth",
        "peak_flops",
        "timer_resolution_ns",
        "timer_overhead_ns",
        "sampling",
        "step_window",
        "started_utc",
        "name",
        "note",
        "sharding",
        "merged",
        "gpu",
        // of the GPU: it follows from its name or its driver, is measured, or is of a moment
        "gpu/compute_capability",
        "gpu/pci_bus_id",
        "gpu/cuda",
        "gpu/nvrtc_place",
        "gpu/sm_clock_mhz",
        "gpu/sm_clock_most_mhz",
        "gpu/throttle_reasons",
        "gpu/memory_clock_mhz",
        "gpu/l2_bytes",
        "gpu/read_bandwidth",
        "gpu/peak_flops",
        "gpu/launch_ns",
        "gpu/graph_node_ns",
        "gpu/left_out",
    ];
    let known = known_environment();
    let labelled = Environment { name: Some("a".into()), note: Some("b".into()), ..known.clone() };
    assert!([Use::Resume, Use::Merge, Use::Compare, Use::Gate, Use::Cite]
        .into_iter()
        .all(|of| differences(of, &known, &labelled).is_empty()));
    let json = serde_json::to_value(labelled).unwrap();
    let fields = |value: &serde_json::Value, parent: &str| {
        value.as_object().unwrap().keys().map(|name| format!("{parent}{name}")).collect::<Vec<_>>()
    };
    for field in fields(&json, "").into_iter().chain(fields(&json["gpu"], "gpu/")) {
        let decides = CHANGES.iter().any(|change| change.path() == field);
        assert!(decides != NO_CONDITION.contains(&field.as_str()), "`{field}`");
    }
    let decided: Vec<&str> =
        CHANGES.iter().map(|change| change.condition).chain(["throttled samples"]).collect();
    assert!(
        CONDITIONS.iter().all(|condition| decided.contains(&condition.name))
            && decided.len() == CONDITIONS.len()
    );
}

/// Each field, changed and forgotten alone and with others at random: each use answers as the table says.
#[test]
fn whatever_differs_is_answered_as_the_table_says() {
    let known = known_environment();
    for of in USES {
        assert_eq!(named(&differences(of, &known, &known)), [], "{of:?}");
    }
    assert_eq!(named(&unfit(&known)), []);
    let (mut state, mut tried) = (1u64, 0);
    let mut random = |below: usize| common::random(&mut state) as usize % below;
    for pair in 0..2000 {
        let count = if pair < CHANGES.len() { 1 } else { 1 + random(4) };
        let (mut was, mut now, mut touched) = (known.clone(), known.clone(), Vec::new());
        for nth in 0..count {
            let at = if pair < CHANGES.len() { pair } else { random(CHANGES.len()) };
            let change = &CHANGES[at];
            // without its revision or the GPU other things are unknown too, or none
            let alone =
                ["revision", "uncommitted changes", "GPU", "emulated device"].contains(&change.condition);
            if touched.contains(&change.condition) || alone && nth > 0 {
                continue;
            }
            touched.push(change.condition);
            match random(3) {
                0 if change.may_be_unknown => (was, now) = (change.forgotten(&was), change.forgotten(&now)),
                1 if change.may_be_unknown => was = change.forgotten(&was),
                _ => now = change.applied(&now),
            }
            if alone {
                break;
            }
        }
        for of in USES {
            let mut wanted = expected(&touched, of);
            // an emulated device has no driver; an unknown revision contradicts its checkout
            let found: Vec<_> = named(&differences(of, &was, &now));
            let follows = |name: &str| match touched[0] {
                "emulated device" => name == "GPU driver",
                "revision" | "uncommitted changes" => name == "checkout",
                _ => false,
            };
            wanted.extend(found.iter().filter(|(name, _)| follows(name) && !touched.contains(name)));
            wanted.sort();
            let mut found = found;
            found.sort();
            assert_eq!(found, wanted, "{of:?}: {touched:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, 8000);
}

#[test]
fn what_a_figure_must_not_come_from_is_named() {
    let known = known_environment();
    for change in &CHANGES {
        let wanted = ["revision", "uncommitted changes", "checkout", "profile", "emulated device"];
        let found = named(&unfit(&change.applied(&known)));
        let refused = found
            .iter()
            .any(|(name, consequence)| *name == change.condition && *consequence == Consequence::Refused);
        assert_eq!(
            refused,
            wanted.contains(&change.condition) && change.condition != "revision",
            "{}",
            change.condition
        );
        if change.may_be_unknown {
            let found = named(&unfit(&change.forgotten(&known)));
            assert_eq!(
                found.contains(&(change.condition, Consequence::Refused)),
                wanted.contains(&change.condition)
            );
        }
    }
}

/// What the kernel keeps to itself is not the same after every start.
#[test]
fn a_hundredth_of_the_memory_is_no_other_machine() {
    let known = known_environment();
    let with = |mebibytes: u64| Environment { memory_bytes: Some(mebibytes << 20), ..known.clone() };
    for (one, other, same) in
        [(24_576, 24_570, true), (24_576, 24_400, true), (24_576, 24_000, false), (0, 0, true), (1, 2, false)]
    {
        let found = named(&differences(Use::Resume, &with(one), &with(other)));
        assert_eq!(found.is_empty(), same, "{one} and {other}: {found:?}");
    }
}

/// A program with uncommitted changes is the same program only where the changes are the same.
#[test]
fn uncommitted_changes_are_known_by_their_name() {
    let changed = |name: Option<&str>| Environment {
        git_dirty: Some(true),
        git_changes: name.map(String::from),
        ..known_environment()
    };
    let same = |one, other| named(&differences(Use::Resume, &changed(one), &changed(other))).is_empty();
    assert!(same(Some("12"), Some("12")));
    assert!(!same(Some("12"), Some("34")) && !same(None, None) && !same(Some("12"), None));
}
