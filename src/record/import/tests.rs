//! Each test sends in one thing that is wrong, and looks at the results' folder afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::Compression;
use tempfile::{tempdir, TempDir};

use super::*;
use crate::record::{Environment, EqualityRow, LedgerRow, Metric, Round, RunWriter, Sample};

const SAMPLES: &str = "samples.csv";
const ENVIRONMENT: &str = "environment.json";

/// A short run that nothing is wrong with.
fn files() -> Files {
    let parent = tempdir().unwrap();
    let mut writer = RunWriter::create(parent.path(), Environment::collect(2, 1)).unwrap();
    let case = "transformer-toy/padded/cpu/b1/t64".parse().unwrap();
    for round in 1..=3 {
        writer.sample(&Sample::value(case, Metric::StepNs, Round::Interleaved(round), 2, 700_000)).unwrap();
    }
    writer.sample(&Sample::failed(case, Metric::PrefillNs, Round::Single, "out of memory")).unwrap();
    let (max_abs, max_rel, place) = (Some(1e-6), Some(2e-6), "0/17".into());
    writer
        .equality(&EqualityRow {
            case,
            max_abs,
            max_rel,
            place,
            tolerance: 1e-4,
            error: None,
            rounding: None,
        })
        .unwrap();
    let metric = Metric::StepFlops;
    writer.ledger(&LedgerRow { case, metric, counted: 5, predicted: Some(5) }).unwrap();
    let path = writer.path().to_path_buf();
    writer.finish().unwrap();
    let read = |name| (name, fs::read(path.join(name)).unwrap());
    TABLES.into_iter().chain([ENVIRONMENT]).map(read).collect()
}

/// A place for sources, and one for results.
struct Here(TempDir);

impl Here {
    fn new() -> Here {
        Here(tempdir().unwrap())
    }

    fn results(&self) -> PathBuf {
        self.0.path().join("results")
    }

    fn folder(&self, name: &str, files: &Files) -> PathBuf {
        let folder = self.0.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
        folder
    }

    /// The file of an archive.
    fn packed(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn import(&self, source: &Path) -> Result<Imported> {
        import(source, &self.results())
    }

    /// One line that says `wanted`, and no results.
    fn refuses(&self, source: &Path, wanted: &str) {
        let error = self.import(source).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(wanted), "{error} should say {wanted}");
        assert!(!self.results().exists(), "something was written after: {error}");
    }
}

fn refuses(wanted: &str, change: impl FnOnce(&mut Files)) {
    let (here, mut files) = (Here::new(), files());
    change(&mut files);
    here.refuses(&here.folder("run-1", &files), wanted);
}

/// The same with a text of one file replaced, which must be there.
fn refuses_text(name: &'static str, was: &str, is: &str, wanted: &str) {
    refuses(wanted, |files| {
        let text = String::from_utf8(files[name].clone()).unwrap();
        assert!(text.contains(was), "{name} has no {was}");
        files.insert(name, text.replacen(was, is, 1).into_bytes());
    });
}

/// A tar's entry with any name and kind, which a well-behaved writer would refuse.
fn entry(name: &[u8], kind: tar::EntryType, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut entry = header.as_bytes().to_vec();
    entry.extend(bytes);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn tarred(folder: &str, files: &Files) -> Vec<u8> {
    let one = |(name, bytes): (&&str, &Vec<u8>)| {
        entry(format!("{folder}{name}").as_bytes(), tar::EntryType::Regular, bytes)
    };
    files.iter().flat_map(one).collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zipped(entries: &[(&str, &[u8])]) -> zip::ZipWriter<std::io::Cursor<Vec<u8>>> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip
}

fn bytes(zip: zip::ZipWriter<std::io::Cursor<Vec<u8>>>) -> Vec<u8> {
    zip.finish().unwrap().into_inner()
}

fn zip_of(folder: &str, files: &Files) -> Vec<u8> {
    let named: Vec<(String, &[u8])> =
        files.iter().map(|(name, bytes)| (format!("{folder}{name}"), bytes.as_slice())).collect();
    bytes(zipped(&named.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect::<Vec<_>>()))
}

#[test]
fn a_run_comes_in_from_a_folder_and_from_every_kind_of_archive_byte_for_byte() {
    let files = files();
    let inside = entry(b"run-1/plots/", tar::EntryType::Directory, b"");
    let plot = entry(b"run-1/plots/latency.svg", tar::EntryType::Regular, b"<svg onload='harm()'/>");
    let tar = [inside, plot, tarred("run-1/", &files)].concat();
    let sources: [(&str, Option<Vec<u8>>); 9] = [
        ("run-1", None),
        ("a.tar", Some(tar.clone())),
        ("b.tar.gz", Some(gzipped(&tar))),
        ("c.tgz", Some(gzipped(&tarred("./run-1/", &files)))),
        ("d.zip", Some(zip_of("run-1/", &files))),
        ("run-1.zip", Some(zip_of("", &files))),
        ("E.TGZ", Some(gzipped(&tar))),
        ("deep.Zip", Some(zip_of("backup/2026/of results/run-1/", &files))),
        ("windows.zip", Some(zip_of("results\\run-1\\", &files))),
    ];
    for (name, packed) in sources {
        let here = Here::new();
        let source = match packed {
            Some(packed) => here.packed(name, &packed),
            None => here.folder(name, &files),
        };
        let Imported::New(run) = here.import(&source).unwrap() else { panic!("{name} was not there") };
        assert_eq!(run.samples.len(), 4);
        let target = here.results().join("run-1");
        for (file, bytes) in &files {
            assert_eq!(fs::read(target.join(file)).unwrap(), *bytes, "{name}: {file}");
        }
        assert_eq!(fs::read_dir(&target).unwrap().count(), 4, "{name}: nothing but the four files");
        assert_eq!(fs::read_dir(here.results()).unwrap().count(), 1, "{name}: nothing but the run");
        assert!(matches!(here.import(&source).unwrap(), Imported::Known(_)), "{name}: twice is once");
    }
}

#[test]
fn another_run_of_the_same_name_is_left_as_it_is() {
    let (here, mut files) = (Here::new(), files());
    here.import(&here.folder("run-1", &files)).unwrap();
    let before = files[SAMPLES].clone();
    let line = before.iter().rposition(|b| *b == b'\n').unwrap();
    files.get_mut(SAMPLES).unwrap().truncate(line); // the last row is torn, so there is one less
    let error = here.import(&here.folder("run-1", &files)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("another run has this name"), "{error}");
    assert_eq!(fs::read(here.results().join("run-1/samples.csv")).unwrap(), before);
}

#[test]
fn a_torn_line_is_left_out_and_said() {
    let (here, mut files) = (Here::new(), files());
    files.get_mut(SAMPLES).unwrap().extend(b"transformer-toy/padded/cpu/b1/t64,=cmd");
    let Imported::New(run) = here.import(&here.folder("run-1", &files)).unwrap() else { panic!() };
    assert_eq!((run.samples.len(), run.notes.len()), (4, 1));
    assert!(fs::read(run.path.join(SAMPLES)).unwrap().ends_with(b"\n"));
}

/// Without a table, without a row, and with the line ends of an old Macintosh, whose rows are none here.
#[test]
fn a_run_without_samples_is_refused() {
    refuses("the run has no samples", |files| drop(files.remove(SAMPLES)));
    for end in ["", "\n", "\r"] {
        refuses("the run has no samples", |files| {
            let text = String::from_utf8(files[SAMPLES].clone()).unwrap();
            let header = text.lines().next().unwrap().to_string();
            let text = if end == "\r" { text.replace('\n', "\r") } else { header + end };
            files.insert(SAMPLES, text.into_bytes());
        });
    }
}

#[test]
fn a_run_without_provenance_is_refused() {
    refuses("no environment.json in it", |files| drop(files.remove(ENVIRONMENT)));
    let here = Here::new();
    let mut files = files();
    files.remove(ENVIRONMENT);
    here.refuses(&here.packed("a.tar", &tarred("run-1/", &files)), "no environment.json in it");
    here.refuses(&here.packed("a.zip", &zip_of("run-1/", &files)), "no environment.json in it");
}

#[test]
fn cells_that_a_spreadsheet_would_run_are_refused() {
    for cell in ["=1+1", "+cmd", "-2+3", "@SUM(1)", "  =HYPERLINK()", "＝1", "-inf", "\"=a,b\""] {
        refuses_text(SAMPLES, "out of memory", cell, "a spreadsheet would run the cell");
    }
    refuses_text(SAMPLES, "out of memory", "\t=1", "the control character \\u{9}");
    refuses_text(
        "equality.csv",
        "0/17",
        "=A1",
        "equality.csv: line 2: a spreadsheet would run the cell `=A1`",
    );
    refuses("samples.csv: line 1: a spreadsheet would run the cell `=load`", |files| {
        let text = String::from_utf8(files[SAMPLES].clone()).unwrap();
        files.insert(SAMPLES, text.replace("error,mark,", "error,mark,=load,").into_bytes());
    });
    let (here, mut files) = (Here::new(), files());
    let text = String::from_utf8(files[SAMPLES].clone()).unwrap();
    let text = text.replace("cache\n", "cache,celsius\n").replace("f32,f32\n", "f32,f32,-40.5\n");
    files.insert(SAMPLES, text.into_bytes());
    here.import(&here.folder("run-1", &files)).expect("a negative number is no formula");
}

#[test]
fn control_characters_are_refused() {
    for (text, shown) in
        [("\x1b[2J", "\\u{1b}"), ("\"a\nb\"", "\\u{a}"), ("a\u{202e}b", "\\u{202e}"), ("\0", "\\u{0}")]
    {
        refuses_text(SAMPLES, "out of memory", text, &format!("the control character {shown}"));
    }
    refuses_text(ENVIRONMENT, "\"os\": \"", "\"os\": \"\\u001b[2J", "`os`: the control character \\u{1b}");
    refuses_text(ENVIRONMENT, "{", "{\"\\u0007\": 1,", "the control character \\u{7}");
}

#[test]
fn times_that_nothing_takes_are_refused() {
    for value in ["NaN", "inf", "-700000", "7e5", "18446744073709551616"] {
        refuses_text(SAMPLES, "700000", value, "samples.csv: line 2");
    }
    for (value, wanted) in [
        ("0", "step_ns is 0 in 2 repetitions, less than a nanosecond each"),
        ("1", "less than a nanosecond each"),
        ("604800000000001", "more than a week"),
        ("18446744073709551615", "is the most"),
    ] {
        refuses_text(SAMPLES, "700000", value, wanted);
    }
    refuses_text(SAMPLES, ",1,2,700000", ",1,18446744073709551615,700000", "is the most");
}

#[test]
fn rows_that_contradict_themselves_are_refused() {
    refuses_text(SAMPLES, "toy,padded", "toy,concat", "`concat` is not the strategy of the case");
    refuses_text(SAMPLES, ",1,64,", ",1,65,", "`65` is not the position of the case");
    refuses_text("equality.csv", "2e-6", "2e-3", "beyond its tolerance of 1e-4, and is called equal");
    refuses_text("equality.csv", "1e-6", "-1e-6", "a difference below zero");
    refuses_text("ledger.csv", "5,5", "5,6", "step_flops is 5, and the closed form says 6");
}

#[test]
fn too_much_of_anything_is_refused() {
    refuses_text(SAMPLES, "out of memory", &"o".repeat(5000), "a text of more than 4096 characters");
    refuses_text(
        ENVIRONMENT,
        "\"os\": \"",
        &format!("\"os\": \"{}", "o".repeat(5000)),
        "`os`: a text of more",
    );
    refuses("samples.csv: line 1: more than 100 columns", |files| {
        files.insert(SAMPLES, format!("{}\n", "a,".repeat(200)).into_bytes());
    });
    refuses("more than 1000000 rows", |files| {
        files.insert("ledger.csv", "a\n".repeat(1_000_002).into_bytes());
    });
    refuses("environment.json: has 1048577 bytes, and at most 1048576 are read", |files| {
        files.insert(ENVIRONMENT, vec![b' '; (1 << 20) + 1]);
    });
    let here = Here::new();
    let source = here.folder("run-1", &files());
    File::create(source.join(SAMPLES)).unwrap().set_len((64 << 20) + 1).unwrap(); // a hole, which costs no disk
    here.refuses(&source, "samples.csv: has 67108865 bytes, and at most 67108864 are read");
}

#[test]
fn a_hostile_environment_is_refused() {
    let deep = format!("{{\"deep\": {}{},", "[".repeat(500), "]".repeat(500));
    refuses_text(ENVIRONMENT, "{", &deep, "recursion limit");
    refuses_text(ENVIRONMENT, "\"format_version\": 1", "\"format_version\": 9", "written in format 9");
    refuses_text(
        ENVIRONMENT,
        "\"format_version\": 1",
        "\"format_version\": \"1\"",
        "`format_version` is missing",
    );
    refuses_text(ENVIRONMENT, "\"threads\": 2", "\"threads\": 0", "on no thread");
    for moment in ["2026-13-01T00:00:00Z", "yesterday", "2026-01-01 00:00:00", "9999-12-31T23:59:59Zzz"] {
        refuses("is no moment", |files| {
            let mut json: serde_json::Value = serde_json::from_slice(&files[ENVIRONMENT]).unwrap();
            json["started_utc"] = moment.into();
            files.insert(ENVIRONMENT, json.to_string().into_bytes());
        });
    }
    refuses("it ends before it starts", |files| {
        let mut json: serde_json::Value = serde_json::from_slice(&files[ENVIRONMENT]).unwrap();
        json["finished_utc"] = "2001-01-01T00:00:00Z".into();
        files.insert(ENVIRONMENT, json.to_string().into_bytes());
    });
}

#[test]
fn archives_that_reach_out_of_their_folder_are_refused() {
    let (here, good) = (Here::new(), tarred("run-1/", &files()));
    for name in ["../evil.csv", "/etc/evil.csv", "run-1/../../x", "C:\\evil", "a\x1b[2J"] {
        let evil = entry(name.as_bytes(), tar::EntryType::Regular, b"x");
        let packed = here.packed("a.tar", &[evil, good.clone()].concat());
        here.refuses(&packed, "leads out of the archive's folder");
        let packed = here.packed("a.zip", &bytes(zipped(&[(name, b"x")])));
        here.refuses(&packed, "leads out of the archive's folder");
    }
    let evil = entry(b"../evil/", tar::EntryType::Directory, b"");
    here.refuses(&here.packed("a.tar", &[evil, good.clone()].concat()), "leads out");
    let evil = entry(b"run-1/\xff.csv", tar::EntryType::Regular, b"");
    here.refuses(&here.packed("a.tar", &[evil, good].concat()), "no UTF-8 name");
}

#[test]
fn links_and_devices_are_refused() {
    use tar::EntryType;
    let (here, files) = (Here::new(), files());
    let good = tarred("run-1/", &files);
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let evil = entry(b"run-1/more.csv", kind, b"");
        here.refuses(
            &here.packed("a.tar", &[evil, good.clone()].concat()),
            "a link, a device or a sparse file",
        );
    }
    let mut zip = zipped(&[]);
    zip.add_symlink("run-1/samples.csv", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
    here.refuses(&here.packed("a.zip", &bytes(zip)), "a link or a device");
    #[cfg(unix)]
    {
        let source = here.folder("run-1", &files);
        fs::remove_file(source.join(SAMPLES)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", source.join(SAMPLES)).unwrap();
        here.refuses(&source, "samples.csv: no regular file; links are not followed");
    }
}

#[test]
fn entries_that_are_there_twice_are_refused() {
    let (here, files) = (Here::new(), files());
    let good = tarred("run-1/", &files);
    let second = entry(b"run-1/./samples.csv", tar::EntryType::Regular, &files[SAMPLES]);
    here.refuses(&here.packed("a.tar", &[good.clone(), second].concat()), "it holds run-1/samples.csv twice");
    here.refuses(&here.packed("a.tar", &[good, tarred("run-2/", &files)].concat()), "it holds 2 runs");
    let mut zip = bytes(zipped(&[("run-1/samples.csv", b"a"), ("run-1/samplez.csv", b"b")]));
    let other = b"samplez.csv";
    for at in 0..zip.len() - other.len() {
        if zip[at..].starts_with(other) {
            zip[at..at + other.len()].copy_from_slice(SAMPLES.as_bytes());
        }
    }
    here.refuses(&here.packed("a.zip", &zip), "it holds a file twice");
    let many: Vec<u8> = (0..1001)
        .flat_map(|i| entry(format!("run-1/{i}").as_bytes(), tar::EntryType::Regular, b""))
        .collect();
    here.refuses(&here.packed("a.tar", &many), "it holds more than 1000 files");
}

/// What unpacks to more than is left is stopped on the way, also where it would only be passed over.
#[test]
fn bombs_are_refused() {
    let here = Here::new();
    let mut header = entry(b"run-1/plots/zeros", tar::EntryType::Regular, b"");
    let mut sized = tar::Header::new_ustar();
    sized.as_mut_bytes().copy_from_slice(&header[..512]);
    sized.set_size(300 << 20);
    sized.set_cksum();
    header.copy_from_slice(sized.as_bytes());
    let mebibyte = gzipped(&vec![0; 1 << 20]);
    let bomb = [gzipped(&header), mebibyte.repeat(300)].concat();
    assert!(bomb.len() < 2 << 20, "a small file");
    here.refuses(&here.packed("a.tgz", &bomb), "it unpacks to more than 256 MiB");
    let zip = bytes(zipped(&[("run-1/environment.json", &vec![b' '; 2 << 20])]));
    assert!(zip.len() < 1 << 16, "a small file");
    here.refuses(&here.packed("a.zip", &zip), "environment.json: has more than the 1048576 bytes");
}

#[test]
fn what_is_no_run_at_all_is_refused() {
    let here = Here::new();
    here.refuses(&here.0.path().join("nothing"), "nothing: No such file");
    here.refuses(&here.packed("a.csv", b"1,2"), "neither a run's folder nor a .tar");
    here.refuses(&here.packed("a.zip", b"no zip"), "a.zip: ");
    here.refuses(&here.packed("a.tgz", b"no gzip"), "a.tgz: ");
    here.refuses(&here.packed("a.tar", &[7; 2000]), "a.tar: ");
    for name in ["=run", ".hidden", "-rf", "a b"] {
        here.refuses(&here.folder(name, &files()), "is no name for a run");
        here.refuses(&here.packed("a.zip", &zip_of(&format!("{name}/"), &files())), "is no name for a run");
    }
}
