//! Beams put into another order, and the step that follows: see `decode_bench::measure::bench`.

fn main() -> std::process::ExitCode {
    decode_bench::measure::bench::main(decode_bench::measure::bench::reorders)
}
