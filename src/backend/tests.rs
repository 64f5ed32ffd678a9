//! Every operation of every backend against an oracle that is dumber and more exact: plain loops,
//! sums in f64, inputs that are random, never zero and sometimes large, sizes that divide by nothing.

mod attention;
mod formats;
mod keeping;
mod layers;
pub(crate) mod numbers;
mod past;

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cpu::Cpu;
use super::cuda::{Cuda, Device, Mode};
use super::*;

/// The first GPU, or the software that stands in for one. Without, the test is skipped and says so,
/// unless `DECODE_BENCH_REQUIRE_CUDA=1` asks that it fails.
pub fn device() -> Option<Arc<Device>> {
    static DEVICE: OnceLock<Result<Arc<Device>, String>> = OnceLock::new();
    match DEVICE.get_or_init(|| Device::open(0).map_err(|e| e.to_string())) {
        Ok(device) => Some(device.clone()),
        Err(why) => {
            assert!(std::env::var("DECODE_BENCH_REQUIRE_CUDA").map_or(true, |v| v != "1"), "{why}");
            // not `eprintln`, which the test runner swallows
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            None
        }
    }
}

/// Asks a device until it has an answer: while other tests keep it busy it has no time to tell.
pub fn told<T>(ask: impl Fn() -> Result<Option<T>>) -> Option<T> {
    let begin = Instant::now();
    loop {
        match ask().unwrap() {
            None if begin.elapsed() < Duration::from_secs(60) => sleep(Duration::from_millis(100)),
            answer => return answer,
        }
    }
}

#[test]
fn cpu_operations_are_the_oracle_s() {
    for threads in [1, 3] {
        let b = Cpu::new(threads).unwrap();
        operations_are_the_oracle_s(&b);
        formats::moved(&b);
        formats::read(&b);
    }
}

#[test]
fn cuda_operations_are_the_oracle_s() {
    if let Some(device) = device() {
        operations_are_the_oracle_s(&Cuda::new(&device, Mode::Stream).unwrap());
    }
}

fn operations_are_the_oracle_s<B: Backend>(b: &B) {
    layers::embed(b);
    layers::norm(b);
    layers::linear(b);
    layers::activations(b);
    layers::swiglu(b);
    layers::add(b);
    layers::rope(b);
    attention::attention(b);
    past::conv_glu(b);
    past::retain(b);
    past::lag(b);
    layers::last_row(b);
    layers::argmax(b);
    formats::cast(b);
    keeping::concat(b);
    keeping::grow(b);
    keeping::write_rows(b);
    keeping::write_ring(b);
    keeping::write_onehot(b);
    keeping::shift(b);
    keeping::unroll(b);
    keeping::gather_batch(b);
}
