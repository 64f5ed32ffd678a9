//! `samples.csv` in a run of someone else's: what is read can be reported, and what is imported can be read.
#![no_main]

use decode_bench::record::{import, Run};
use decode_bench::report;
use libfuzzer_sys::fuzz_target;

const ENVIRONMENT: &[u8] =
    include_bytes!("../../results/2026-11-22T08-26-48Z-intel-xeon-2c/environment.json");

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (run, results) = (folder.path().join("run"), folder.path().join("results"));
    std::fs::create_dir(&run).expect("room for a folder");
    std::fs::write(run.join("environment.json"), ENVIRONMENT).expect("room for a file");
    std::fs::write(run.join("samples.csv"), bytes).expect("room for a file");
    let read = Run::open(&run);
    let imported = import(&run, &results);
    if let Ok(run) = &read {
        report::markdown(run);
    }
    assert!(read.is_ok() || imported.is_err(), "it was imported, and cannot be read");
});
