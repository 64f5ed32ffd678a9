//! Work and memory of every case, counted exactly: see `decode_bench::measure::bench`.

fn main() -> std::process::ExitCode {
    decode_bench::measure::bench::main(decode_bench::measure::bench::memory)
}
