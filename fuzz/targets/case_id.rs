//! A case id: what is read prints as it was written, and its costs can be computed.
#![no_main]

use decode_bench::case::Case;
use decode_bench::cost::Step;
use decode_bench::suite::check_position;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(case) = text.parse::<Case>() else { return };
    assert_eq!(case.to_string(), text);
    if check_position(&case).is_ok() {
        Step::floor_of(&case);
    }
});
