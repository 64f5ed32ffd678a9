//! What a step really asks of the allocator, counted under everything: the meter counts what passes
//! through it, and this holds it to its word.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use decode_bench::backend::cpu::Cpu;
use decode_bench::case::Case;
use decode_bench::measure::Fixture;

struct Counting;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests of one step to position 12, after steps of the same shape.
fn requests(case: &str, threads: usize) -> usize {
    let case: Case = case.parse().unwrap();
    let fixture = Fixture::load(Cpu::new(threads).unwrap(), case.model_name(), 1).unwrap();
    let mut session = fixture.session(&case).unwrap();
    let mut counted = 0;
    for position in 1..=12 {
        let token = fixture.token(case.batch, position);
        let before = REQUESTS.load(Ordering::Relaxed);
        let logits = session.feed(&token).unwrap();
        counted = REQUESTS.load(Ordering::Relaxed) - before;
        drop(logits);
    }
    counted
}

/// One test, for the count is of the whole process.
#[test]
fn a_fixed_shape_allocates_nothing_and_a_concatenation_exactly_what_it_keeps() {
    for threads in [1, 2] {
        for (model, strategies) in
            [("transformer", &["padded", "bounded", "onehot"][..]), ("linearized-conv", &["padded", "shift"])]
        {
            for strategy in strategies {
                let case = format!("{model}-tiny/{strategy}/cpu/b1/t12");
                assert_eq!(requests(&case, threads), 0, "{case} on {threads} threads");
            }
        }
        let layers = 2;
        assert_eq!(
            requests("transformer-tiny/concat/cpu/b1/t12", threads),
            2 * layers,
            "K and V of every layer"
        );
        assert_eq!(
            requests("linearized-conv-tiny/concat/cpu/b1/t12", threads),
            layers,
            "a window of every layer"
        );
    }
}
