//! `environment.json`: what is read can be shown and compared.
#![no_main]

use decode_bench::record::{differences, unfit, Run, Use};
use decode_bench::report;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("environment.json"), bytes).expect("room for a file");
    let Ok(run) = Run::open(folder.path()) else { return };
    report::markdown(&run);
    run.environment.folder_name();
    differences(Use::Merge, &run, &run);
    unfit(&run);
});
