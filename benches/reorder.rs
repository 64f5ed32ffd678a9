//! Beams put into another order, and the step that follows: see `decode_bench::bench`.

fn main() -> std::process::ExitCode {
    decode_bench::bench::main(decode_bench::bench::reorders)
}
