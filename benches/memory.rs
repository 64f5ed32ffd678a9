//! Work and memory of every case, counted exactly: see `decode_bench::bench`.

fn main() -> std::process::ExitCode {
    decode_bench::bench::main(decode_bench::bench::memory)
}
