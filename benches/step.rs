//! The latency of one decode step of every case: see `decode_bench::bench`.

mod common;

use std::time::Duration;

fn main() -> std::process::ExitCode {
    common::main(Duration::from_millis(200), |bench, criterion| decode_bench::bench::steps(bench, criterion))
}
