use std::path::{Path, PathBuf};

use super::*;
use crate::record::{write_merged, Round, RunWriter, Sharding};

const FILTER: &str = "transformer-tiny/(naive|concat)/cpu";
const SHARDS: usize = 2;

/// How far an attempt comes.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Finished,
    /// Killed after so many rows.
    After(usize),
}

/// What `run --shard` would write, without measuring: the values say which attempt they are of.
fn attempt(results: &Path, shard: usize, attempt: u64, ends: Ends) -> PathBuf {
    attempt_with(results, shard, attempt, ends, |_| {})
}

fn attempt_with(
    results: &Path,
    shard: usize,
    attempt: u64,
    ends: Ends,
    change: impl FnOnce(&mut Environment),
) -> PathBuf {
    let plan = Plan::new(Some(FILTER), SHARDS).unwrap();
    let place = Place { shard, of: SHARDS }.to_string();
    let mut environment = Environment::collect(1, 1);
    (environment.git_revision, environment.git_dirty) = (Some("4567".into()), Some(false));
    (environment.cpu_model, environment.allocator) = (Some("one".into()), Some("one".into()));
    environment.started_utc = format!("2026-01-01T00:0{attempt}:0{shard}Z");
    environment.sharding =
        Some(Sharding { shard: place, attempt, plan: plan.id(), filter: Some(FILTER.into()) });
    change(&mut environment);
    let mut writer = RunWriter::create(results, environment).unwrap();
    let path = writer.path().to_path_buf();
    let value = 1000 * (1 + attempt);
    let mut rows = Vec::new();
    for group in plan.groups(shard) {
        rows.extend(
            group
                .cases
                .iter()
                .map(|case| Sample::value(*case, Metric::CacheLiveBytes, Round::Single, 1, value)),
        );
        for round in 1..=MIN_ROUNDS as u32 {
            rows.extend(
                group
                    .cases
                    .iter()
                    .map(|case| Sample::value(*case, Metric::StepNs, Round::Interleaved(round), 1, value)),
            );
        }
        for case in &group.decodes {
            for position in 1..=case.position {
                rows.push(Sample::value(case.at(position), Metric::StepNs, Round::Decode(1), 1, value));
            }
            rows.push(Sample::value(*case, Metric::DecodeNs, Round::Decode(1), 1, value));
        }
    }
    let rows = match ends {
        Ends::Finished => &rows[..],
        Ends::After(n) => &rows[..n],
    };
    for row in rows {
        writer.sample(row).unwrap();
        if row.metric == Metric::CacheLiveBytes {
            let (case, predicted) = (row.case, Some(value));
            writer.ledger(&LedgerRow { case, metric: row.metric, counted: value, predicted }).unwrap();
        }
    }
    if ends == Ends::Finished {
        writer.finish().unwrap();
    }
    path
}

fn merged(paths: &[PathBuf]) -> Result<Merge> {
    let runs: Vec<Run> = paths.iter().map(|path| Run::open(path).unwrap()).collect();
    merge(&runs)
}

fn written(out: &Path, paths: &[PathBuf]) -> bool {
    let Merge { environment, samples, equality, ledger, .. } = merged(paths).unwrap();
    write_merged(out, &environment, &samples, &equality, &ledger).unwrap()
}

fn bytes(folder: &Path) -> Vec<Vec<u8>> {
    ["environment.json", "samples.csv", "equality.csv", "ledger.csv"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .into()
}

/// Every planned sample once, whatever was killed and begun again.
fn all_rows() -> usize {
    let plan = Plan::new(Some(FILTER), SHARDS).unwrap();
    let groups = (1..=SHARDS).flat_map(|shard| plan.groups(shard));
    groups
        .map(|group| {
            group.cases.len() * (1 + MIN_ROUNDS) + group.decodes.iter().map(|c| c.position + 1).sum::<usize>()
        })
        .sum()
}

#[test]
fn two_shards_make_one_complete_run() {
    let results = tempfile::tempdir().unwrap();
    let parts = [1, 2].map(|shard| attempt(results.path(), shard, 0, Ends::Finished));
    let whole = merged(&parts).unwrap();
    assert!(whole.missing.is_empty(), "{:?}", whole.missing);
    assert_eq!(whole.samples.len(), all_rows());
    assert_eq!(whole.environment.finished_utc, merged(&parts).unwrap().environment.finished_utc);
    assert!(whole.environment.finished_utc.is_some() && whole.environment.sharding.is_none());
    let alone = merged(&parts[..1]).unwrap();
    assert!(!alone.missing.is_empty() && alone.missing.iter().all(|what| what.ends_with(", of shard 2/2")));
    assert_eq!(alone.environment.finished_utc, None);
}

/// The same bytes from the parts in any order, twice, and through merged runs.
#[test]
fn merging_is_idempotent_and_knows_no_order() {
    let results = tempfile::tempdir().unwrap();
    let here = |name: &str| results.path().join(name);
    let a = attempt(results.path(), 1, 0, Ends::Finished);
    let b = attempt(results.path(), 2, 0, Ends::After(9));
    let c = attempt(results.path(), 2, 1, Ends::Finished);
    let (out, two) = (here("out"), here("two"));
    assert!(written(&out, &[a.clone(), b.clone(), c.clone()]));
    let once = bytes(&out);
    let [a, b, c] = [&a, &b, &c];
    let [merged_run, of_two] = [&out, &two];
    for paths in [[c, b, a].as_slice(), &[a, a, b, c, c], &[merged_run], &[merged_run, a, b, c]] {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        assert!(!written(&out, &paths), "merged from {paths:?} it differs");
    }
    assert!(written(of_two, &[b.clone(), a.clone()]));
    assert!(written(of_two, &[two.clone(), c.clone()]));
    assert_eq!(bytes(of_two), once);
}

/// The ends of decodes go with their position, wherever the whole decodes were taken.
#[test]
fn ends_of_decodes_are_of_their_position() {
    let unit_of = |id: &str, round| unit(&id.parse().unwrap(), round).to_string();
    for (id, unit) in [
        ("transformer-base/padded/cpu/b1/t249", "transformer-base/naive/cpu/b1/t256"),
        ("transformer-base/padded/cpu/b1/t1024", "transformer-base/naive/cpu/b1/t1024"),
        ("transformer-toy/padded/cpu/b4/t250", "transformer-toy/naive/cpu/b4/t256"),
        ("transformer-toy/padded/cpu/b1/t250", "transformer-toy/naive/cpu/b1/t0"),
    ] {
        assert_eq!(unit_of(id, Round::Decode(1)), unit, "{id}");
        assert_eq!(unit_of(id, Round::Interleaved(1)), id.replace("padded", "naive"));
    }
}

#[test]
fn the_last_finished_attempt_counts_and_nothing_twice() {
    let results = tempfile::tempdir().unwrap();
    let mut parts = vec![attempt(results.path(), 1, 0, Ends::Finished)];
    parts.extend([0, 1].map(|n| attempt(results.path(), 2, n, Ends::Finished)));
    parts.push(attempt(results.path(), 2, 2, Ends::After(9)));
    let whole = merged(&parts).unwrap();
    assert!(whole.missing.is_empty(), "{:?}", whole.missing);
    assert_eq!(whole.samples.len(), all_rows());
    let plan = Plan::new(Some(FILTER), SHARDS).unwrap();
    for MergedSample { sample, attempt, .. } in &whole.samples {
        let mine = |group: &crate::shard::CaseGroup| {
            unit(&group.cases[0], Round::Single) == unit(&sample.case, Round::Single)
        };
        if !sample.round.is_decode() {
            let second = plan.groups(2).iter().any(mine);
            assert_eq!(*attempt, u64::from(second), "{}", sample.case);
        }
        assert_eq!(sample.value, Some(1000 * (1 + attempt)));
    }
    for row in &whole.ledger {
        let second = plan.groups(2).iter().any(|group| group.cases.contains(&row.case));
        assert_eq!(row.counted, if second { 2000 } else { 1000 }, "{}", row.case);
    }
}

/// What is compared in rounds is of one attempt, the one that came furthest.
#[test]
fn of_unfinished_attempts_each_group_is_taken_from_one() {
    let results = tempfile::tempdir().unwrap();
    let parts = [
        attempt(results.path(), 1, 0, Ends::Finished),
        attempt(results.path(), 2, 0, Ends::After(11)),
        attempt(results.path(), 2, 1, Ends::After(5)),
    ];
    let whole = merged(&parts).unwrap();
    assert!(!whole.missing.is_empty());
    let mut attempts: BTreeMap<UnitOfWork, Vec<&str>> = BTreeMap::new();
    for merged in &whole.samples {
        attempts.entry(unit(&merged.sample.case, merged.sample.round)).or_default().push(&merged.run);
    }
    for (unit, mut runs) in attempts {
        runs.dedup();
        assert_eq!(runs.len(), 1, "{unit:?}");
        assert!(!runs[0].ends_with("attempt-1"), "{unit:?}");
    }
}

#[test]
fn runs_that_are_not_comparable_are_refused_by_what_differs() {
    type Change = fn(&mut Environment);
    let changes: [(&str, Change); 14] = [
        ("cores: ", |e| e.physical_cores = Some(96)),
        ("kernel: ", |e| e.kernel = Some("3.10.0".into())),
        ("compiler: ", |e| e.rustc = Some("rustc 1.70.0".into())),
        ("memory: ", |e| e.memory_bytes = Some(1 << 30)),
        ("revision: ", |e| e.git_revision = Some("0123".into())),
        ("uncommitted changes: none, now some", |e| e.git_dirty = Some(true)),
        ("seed: 1, now 2", |e| e.seed = 2),
        ("threads: 1, now 7", |e| e.threads = 7),
        ("CPU: ", |e| e.cpu_model = Some("another".into())),
        ("tool version: ", |e| e.tool_version = "9.9.9".into()),
        ("plan: ", |e| e.sharding.as_mut().unwrap().plan = "0".into()),
        ("emulated device: no, now yes", |e| e.emulated = true),
        ("no part of a plan", |e| e.sharding = None),
        ("of none of the parts it names", |e| {
            let Sharding { plan, filter, .. } = e.sharding.clone().unwrap();
            e.merged = Some(Merged { plan, shards: 2, filter, parts: Vec::new() });
        }),
    ];
    for (wanted, change) in changes {
        let results = tempfile::tempdir().unwrap();
        let parts = [
            attempt(results.path(), 1, 0, Ends::Finished),
            attempt_with(results.path(), 2, 0, Ends::Finished, change),
        ];
        let error = merged(&parts).map(|_| ()).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(wanted), "{error} should say {wanted}");
    }
    let unknown: [(&str, Change); 5] = [
        ("kernel: unknown, now unknown", |e| e.kernel = None),
        ("memory: unknown, now unknown", |e| e.memory_bytes = None),
        ("revision: unknown, now unknown", |e| e.git_revision = None),
        ("uncommitted changes: unknown, now unknown", |e| e.git_dirty = None),
        ("CPU: unknown, now unknown", |e| e.cpu_model = None),
    ];
    for (wanted, forget) in unknown {
        let results = tempfile::tempdir().unwrap();
        let parts = [1, 2].map(|shard| attempt_with(results.path(), shard, 0, Ends::Finished, forget));
        let error = merged(&parts).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(wanted), "what nobody knows is not the same: {error}");
    }
    let named = |name: &str| Some(crate::record::Gpu { name: Some(name.into()), ..Default::default() });
    let gpus = |first: Option<crate::record::Gpu>, second: Option<crate::record::Gpu>| {
        let results = tempfile::tempdir().unwrap();
        let parts = [
            attempt_with(results.path(), 1, 0, Ends::Finished, |e| e.gpu = first),
            attempt_with(results.path(), 2, 0, Ends::Finished, |e| e.gpu = second),
        ];
        merged(&parts).map(|whole| whole.environment.gpu).map_err(|e| e.to_string())
    };
    assert_eq!(
        gpus(None, named("H100")),
        Ok(named("H100")),
        "a shard without cases on a GPU agrees with all"
    );
    assert!(gpus(named("A100"), named("H100")).unwrap_err().contains("GPU: A100, now H100"));
}
