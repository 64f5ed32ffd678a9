//! A system that refuses memory, once, at every place where much is asked for: each ends in an error, and the next
//! decode of the same process succeeds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use decode_bench::backend::cpu::Cpu;
use decode_bench::backend::{Backend, Tokens};
use decode_bench::case::{ModelKind, ShapeName};
use decode_bench::error::{Error, Result};
use decode_bench::model::{AnyModel, Config, Weights};
use decode_bench::session::Session;
use decode_bench::strategy::Strategy;

/// What a request needs to be counted: below it are names, lists and the like.
const LARGE: usize = 2 << 10;

/// Requests left until one is refused.
static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Refusing;

// SAFETY: every call is handed on to the system's allocator as it came, or answered as it would answer without memory.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE && LEFT.fetch_sub(1, Relaxed) == 0 {
            LEFT.store(usize::MAX, Relaxed);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// The logits of a model loaded anew, after three tokens of each of three sentences and then of one step and a
/// fork's. So few rows are multiplied by our own kernels: the `gemm` crate, which takes more, asks for its buffers
/// without a way to be refused.
fn decoded(model: ModelKind, strategy: Strategy) -> Result<Vec<f32>> {
    let b = Cpu::new(1)?;
    let config = Config::named(model, ShapeName::Tiny)?;
    let loaded = AnyModel::load_for(&b, &config, &Weights::seeded(1), 5)?;
    let rows = if model.has_source() { 4 } else { 0 };
    let mut session = Session::open_case(&b, &loaded, strategy, [3; 2], 5, rows)?;
    session.feed(&Tokens::given(3, 0, 3, config.vocab()))?;
    session.reorder(&[2, 0, 1])?;
    let next = Tokens::given(3, 3, 4, config.vocab());
    let logits = b.download(&session.fork()?.feed(&next)?)?;
    let again = b.download(&session.feed(&next)?)?;
    assert_eq!(logits, again);
    Ok(logits)
}

/// One test, for the allocator is of the whole process.
#[test]
fn memory_that_is_refused_is_an_error_and_the_next_decode_succeeds() {
    let mut tried = 0;
    for &model in ModelKind::ALL {
        for &strategy in Strategy::examples().iter().filter(|&&strategy| model.supports(strategy)) {
            let what = format!("{model} {strategy}");
            let logits = decoded(model, strategy).unwrap();
            for n in 0.. {
                LEFT.store(n, Relaxed);
                let result = decoded(model, strategy);
                let was_refused = LEFT.swap(usize::MAX, Relaxed) > n;
                match result {
                    Err(Error::NoMemory { bytes }) => {
                        assert!(was_refused && bytes >= LARGE, "{what}, request {n}: {bytes}")
                    }
                    Err(error) => panic!("{what}, request {n}: {error}"),
                    Ok(_) if !was_refused => break,
                    Ok(_) => panic!("{what}, request {n}: it was refused, and nobody noticed"),
                }
                tried += 1;
            }
            assert_eq!(decoded(model, strategy).unwrap(), logits, "{what}: after the refusals");
        }
    }
    println!("{tried} requests were refused");
    assert!(tried > 100, "{tried}");
}
