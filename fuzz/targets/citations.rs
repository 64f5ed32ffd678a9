//! A text with citations, checked against a run that has the rows of none of them.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use decode_bench::analysis::{citation, rows};
use decode_bench::record::Run;
use decode_bench::report::check::{quotes, unfinished, Forms};
use libfuzzer_sys::fuzz_target;

static RUN: LazyLock<Run> = LazyLock::new(|| {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results");
    Run::open(&results.join("2026-11-22T08-26-48Z-intel-xeon-2c")).expect("a committed run")
});

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let of = |(case, metric)| citation(&RUN, case, metric, None).ok();
    Forms::of(&rows(&RUN).into_keys().find_map(of).expect("a figure in the run"))
});

fuzz_target!(|text: &str| {
    for quote in &quotes(text) {
        FORMS.faults(quote);
    }
    unfinished(text);
});
