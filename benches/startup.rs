//! Cold starts of every model under the question's strategies: see `decode_bench::bench`.

mod common;

use std::path::Path;
use std::time::Duration;

fn main() -> std::process::ExitCode {
    let program = Path::new(env!("CARGO_BIN_EXE_decode-bench"));
    // a nanosecond: one start is a sample
    common::main(Duration::from_nanos(1), |bench, criterion| {
        decode_bench::bench::startup(bench, program, criterion)
    })
}
