use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::Round;
use super::*;
use crate::case::Case;
use crate::harmless;

/// Of the first files there were: columns that came later may be missing.
const HEADER: &str = "case,model,shape,strategy,backend,batch,position,metric,round,iters,value,error\n";
const ROW: &str = "transformer-toy/padded/cpu/b1/t64,transformer,toy,padded,cpu,1,64,step_ns,3,2,1001,\n";

fn case() -> Case {
    "transformer-toy/padded/cpu/b1/t64".parse().unwrap()
}

fn environment() -> Environment {
    Environment::collect(2, 42)
}

fn write_samples(folder: &Path, text: &str) {
    fs::write(folder.join("samples.csv"), text).unwrap();
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let value = prop_oneof![any::<u64>().prop_map(Ok), "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{1,20}".prop_map(Err)];
    let metric = proptest::sample::select(Metric::ALL);
    (metric, any::<u32>(), 1..u64::MAX, 1..9999usize, value).prop_map(
        |(metric, round, iters, position, value)| {
            let (value, error) = (value.clone().ok(), value.err());
            Sample {
                case: case().at(position),
                metric,
                round: Round::of_code(round),
                iters,
                value,
                error,
                mark: None,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn samples_come_back_as_they_were_written(samples in proptest::collection::vec(any_sample(), 0..20)) {
        let parent = tempfile::tempdir().unwrap();
        let mut writer = RunWriter::create(parent.path(), environment()).unwrap();
        for sample in &samples {
            writer.sample(sample).unwrap();
        }
        let line = |sample: &Sample| Sample { error: sample.error.as_deref().map(harmless::line), ..sample.clone() };
        let lines: Vec<Sample> = samples.iter().map(line).collect();
        prop_assert_eq!(Run::open(writer.path()).unwrap().samples, lines);
    }
}

#[test]
fn a_run_holds_all_that_was_written_and_its_header_is_the_documented_one() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(&parent.path().join("new"), environment()).unwrap();
    let path = writer.path().to_path_buf();
    let header = fs::read_to_string(path.join("samples.csv")).unwrap();
    assert_eq!(
        header,
        HEADER.replace("round", "protocol,round").replace("error\n", "error,mark,weights,cache\n")
    );
    let equality = [
        EqualityRow {
            case: case(),
            max_abs: Some(1.5e-7),
            max_rel: Some(0.1),
            place: "0/17".into(),
            tolerance: 1e-4,
            error: None,
            rounding: Some(0.01),
        },
        EqualityRow {
            case: case(),
            max_abs: None,
            max_rel: None,
            place: String::new(),
            tolerance: 1e-4,
            error: Some("NaN, \"quoted\"".into()),
            rounding: None,
        },
    ];
    let ledger = [Some(5), None].map(|predicted| LedgerRow {
        case: case(),
        metric: Metric::StepFlops,
        counted: 5,
        predicted,
    });
    equality.iter().for_each(|row| writer.equality(row).unwrap());
    ledger.iter().for_each(|row| writer.ledger(row).unwrap());
    let sample = Sample::value(case(), Metric::StepNs, Round::Single, 3, 10);
    writer.sample(&sample).unwrap();
    let ceiling = Bandwidth {
        model_shape: "transformer-toy".into(),
        bytes: 1 << 20,
        threads: 2,
        bytes_per_second: 10_000_000_000,
        pattern: "four streams".into(),
        ..Bandwidth::default()
    };
    writer.update_environment(|e| e.read_bandwidth.push(ceiling)).unwrap();
    writer.finish().unwrap();
    let run = Run::open(&path).unwrap();
    assert_eq!((run.equality, run.ledger), (equality.to_vec(), ledger.to_vec()));
    assert_eq!(run.environment.read_ceiling(&case()), Some(10_000_000_000));
    assert!(run.environment.finished_utc.is_some());
    assert_eq!(run.samples[0].per_iteration(), Some(10.0 / 3.0));
}

#[test]
fn done_counts_failures_too() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(parent.path(), environment()).unwrap();
    writer.sample(&Sample::value(case(), Metric::StepNs, Round::Interleaved(1), 1, 7)).unwrap();
    writer.sample(&Sample::failed(case(), Metric::StepNs, Round::Interleaved(2), "two\nlines")).unwrap();
    let run = Run::open(writer.path()).unwrap();
    assert_eq!(run.done(&case(), Metric::StepNs), 2);
    assert_eq!(run.done(&case(), Metric::DecodeNs), 0);
    assert_eq!(run.samples[1].error.as_deref(), Some("two lines"));
}

#[test]
fn a_resumed_run_loses_the_torn_line_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(parent.path(), environment()).unwrap();
    let path = writer.path().to_path_buf();
    for round in 1..=3 {
        writer.sample(&Sample::value(case(), Metric::StepNs, Round::Interleaved(round), 1, 700)).unwrap();
    }
    drop(writer);
    let whole = fs::read_to_string(path.join("samples.csv")).unwrap();
    for cut in whole.find('\n').unwrap() + 1..whole.len() {
        write_samples(&path, &whole[..cut]);
        let kept = whole[..cut].lines().count() - 1 - usize::from(!whole[..cut].ends_with('\n'));
        let run = Run::open(&path).unwrap();
        assert_eq!(run.samples.len(), kept);
        assert_eq!(run.notes.is_empty(), whole[..cut].ends_with('\n'));
        let mut writer = RunWriter::resume(&path).unwrap();
        writer.sample(&Sample::value(case(), Metric::StepNs, Round::Interleaved(9), 1, 900)).unwrap();
        assert_eq!(Run::open(&path).unwrap().samples.len(), kept + 1);
    }
}

/// Of no sample; without its end it would be removed.
fn empty_run(parent: &Path) -> PathBuf {
    let writer = RunWriter::create(parent, environment()).unwrap();
    let path = writer.path().to_path_buf();
    writer.finish().unwrap();
    path
}

#[test]
fn a_run_that_ends_without_a_sample_leaves_no_folder() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(parent.path(), environment()).unwrap();
    let row = LedgerRow { case: case(), metric: Metric::StepFlops, counted: 5, predicted: None };
    writer.ledger(&row).unwrap();
    assert!(writer.path().is_dir());
    drop(writer);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    assert!(empty_run(parent.path()).is_dir());
}

#[test]
fn a_run_killed_before_its_first_header_can_be_resumed() {
    let parent = tempfile::tempdir().unwrap();
    let path = empty_run(parent.path());
    fs::remove_file(path.join("ledger.csv")).unwrap();
    write_samples(&path, "case,mod");
    assert!(Run::open(&path).unwrap().samples.is_empty());
    RunWriter::resume(&path)
        .unwrap()
        .sample(&Sample::value(case(), Metric::StepNs, Round::Single, 1, 1))
        .unwrap();
    assert_eq!(Run::open(&path).unwrap().samples.len(), 1);
}

#[test]
fn two_writers_of_one_run_are_one_too_many() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::create(parent.path(), environment()).unwrap();
    writer.sample(&Sample::value(case(), Metric::StepNs, Round::Single, 1, 1)).unwrap();
    let error = RunWriter::resume(writer.path()).unwrap_err().to_string();
    assert!(error.ends_with(": another process is writing to this run"), "{error}");
    let path = writer.path().to_path_buf();
    drop(writer);
    RunWriter::resume(&path).unwrap();
}

/// Rows of an earlier version are read; appending to them would mix two ways of counting rounds.
#[test]
fn a_run_of_an_earlier_version_is_read_and_not_appended_to() {
    let parent = tempfile::tempdir().unwrap();
    let path = empty_run(parent.path());
    let at = ROW.find(",step_ns,").unwrap() + ",step_ns,".len();
    let (begin, rest) = (&ROW[..at], &ROW[at + ROW[at..].find(',').unwrap()..]);
    write_samples(&path, &format!("{HEADER}{begin}0{rest}{begin}12{rest}{begin}101{rest}"));
    let rounds: Vec<Round> = Run::open(&path).unwrap().samples.iter().map(|sample| sample.round).collect();
    assert_eq!(rounds, [Round::Single, Round::Interleaved(12), Round::Decode(1)]);
    let error = RunWriter::resume(&path).unwrap_err().to_string();
    assert!(error.contains("without the column `protocol`; begin a new run"), "{error}");
    for (column, cell, wrong) in [
        ("Protocol", "decode", "column `Protocol` is nearly `protocol`"),
        ("protocol", "", "protocol"),
        ("protocol", "single", "no round of protocol single is 3"),
    ] {
        let header = HEADER.replace("error\n", &format!("error,{column}\n"));
        write_samples(&path, &format!("{header}{}", ROW.replace("1001,\n", &format!("1001,,{cell}\n"))));
        let error = Run::open(&path).unwrap_err().to_string();
        assert!(error.contains(wrong), "{column} {cell}: {error}");
    }
}

#[test]
fn unknown_columns_are_kept_and_appended_to() {
    let parent = tempfile::tempdir().unwrap();
    let path = empty_run(parent.path());
    let text = format!("attempt,{HEADER}1,{ROW}")
        .replace("error\n", "error,protocol,mark,load,weights,cache\n")
        .replace("1001,\n", "1001,,interleaved,,0.5,f32,f32\n");
    write_samples(&path, &text);
    let mut writer = RunWriter::resume(&path).unwrap();
    writer.sample(&Sample::value(case(), Metric::StepNs, Round::Interleaved(4), 1, 5)).unwrap();
    let run = Run::open(&path).unwrap();
    assert_eq!(run.samples.len(), 2);
    assert_eq!(run.extra.columns, ["attempt", "load"]);
    assert_eq!(run.extra.rows, [["1", "0.5"], ["", ""]]);
}

#[test]
fn a_bad_row_is_named_by_file_line_and_column() {
    let parent = tempfile::tempdir().unwrap();
    let path = empty_run(parent.path());
    let bad = [
        ("padded,cpu,1", "paded,cpu,1", "column strategy: `paded` is not the strategy of the case, `padded`"),
        ("toy/padded", "toy/paded", "column case: unknown strategy `paded`"),
        (",1,64,", ",1,65,", "column position: `65` is not the position of the case, `64`"),
        ("step_ns", "stop_ns", "column metric: unknown metric `stop_ns`; did you mean "),
        (",3,2,", ",-3,2,", "column round: `-3` is not a whole number"),
        (",3,2,", ",4294967296,2,", "column round: 4294967296 is too large"),
        (",3,2,", ",3,0,", "column iters: a sample repeats its work at least once"),
        ("1001", "NaN", "column value: `NaN` is not a whole number"),
        ("1001", "", "column value: neither a value nor an error"),
        ("1001,", "1001,oh", "column error: both a value and an error"),
        ("1001,", "1001", "column error: 11 cells, and the header has 12"),
        ("1001,", "1001,,", ": 13 cells, and the header has 12"),
    ];
    for (was, is, wanted) in bad {
        write_samples(&path, &format!("{HEADER}{ROW}{}", ROW.replacen(was, is, 1)));
        let error = Run::open(&path).unwrap_err().to_string();
        assert!(error.contains("samples.csv: line 3") && error.contains(wanted), "{error}");
        assert!(RunWriter::resume(&path).is_err());
    }
    write_samples(&path, &HEADER.replace("round,", ""));
    let error = Run::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("line 1: column `round` is missing"), "{error}");
    fs::write(path.join("samples.csv"), [HEADER.as_bytes(), b"\xff\xfe,,\n"].concat()).unwrap();
    let error = Run::open(&path).unwrap_err().to_string();
    assert!(error.contains("line 2: is not UTF-8"), "{error}");
}

#[test]
fn a_folder_without_provenance_is_no_run() {
    let folder = tempfile::tempdir().unwrap();
    write_samples(folder.path(), HEADER);
    let error = Run::open(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("no results folder: it has no environment.json"), "{error}");
}

#[test]
fn times_of_an_emulated_device_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = Environment::collect(1, 1);
    assert!(!environment.emulated);
    let writer = RunWriter::create(folder.path(), environment.clone()).unwrap();
    assert!(Run::open(writer.path()).unwrap().refuse_emulated().is_ok());
    (environment.emulated, environment.started_utc) = (true, "2026-01-01T00:00:00Z".into());
    let writer = RunWriter::create(folder.path(), environment).unwrap();
    let error = Run::open(writer.path()).unwrap().refuse_emulated().unwrap_err().to_string();
    assert!(error.contains("emulated in software"), "{error}");
}

#[test]
fn a_gpu_s_clocks_under_load_are_said_beside_the_marks() {
    let case: Case = "transformer-toy/padded/cuda/b1/t64".parse().unwrap();
    let mut run = super::synthetic::run(1);
    assert!(!run.noise_summary().contains("GPU"), "{}", run.noise_summary());
    for (metric, value) in [
        (Metric::SmClockMhz, 1980),
        (Metric::SmClockMhz, 1755),
        (Metric::MemoryClockMhz, 2619),
        (Metric::PowerMw, 412_700),
    ] {
        run.samples.push(Sample::value(case, metric, Round::Interleaved(1), 1, value));
    }
    let said = run.noise_summary();
    assert!(said.ends_with("; the GPU under load: 1755 to 1980 MHz and at most 412 W"), "{said}");
}
