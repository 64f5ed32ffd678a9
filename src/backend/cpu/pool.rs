//! A pool of threads for fork and join within one step.
//!
//! A step of the smallest model is some 350 µs of reading and twenty forks, so a fork has to cost
//! about a microsecond. Workers therefore spin for a while before they sleep, a job is one borrowed
//! closure, and nothing is allocated. Rayon is made for other work: it hands a job from outside
//! over in a queue that allocates, and its idle threads sleep early. An empty job on each of two
//! threads, on a shared 2-core Sapphire-Rapids-class virtual machine: `rayon::broadcast` 10 to 60 µs;
//! this pool 0.1 µs in a row and 0.6 µs after 20 µs of other work.
//!
//! Where other programs leave fewer cores than there are threads, a worker may wait for a core while the caller has done its
//! own part. So the caller does the part of every worker that has not begun: which thread does a part changes nothing in
//! what is computed. It waits only for those that were stopped within theirs.

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::ops::Range;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{fence, AtomicBool, AtomicU8, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long a waiting worker spins before it sleeps: longer than the serial parts of a step,
/// shorter than anybody would notice.
const SPIN: Duration = Duration::from_micros(50);

/// Threads that run one closure at a time, the caller's thread among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

type Job = dyn Fn(usize) + Sync;

struct Shared {
    /// The current job. Written while all parts are `DONE`, and read by threads that have taken a part.
    job: UnsafeCell<Option<*const Job>>,
    /// One for each worker: what became of its part of the job.
    parts: Box<[CacheLine<AtomicU8>]>,
    asleep: Box<[AtomicBool]>,
    busy: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What becomes of a part: `DONE` → `OPEN` by the caller, → `TAKEN` by the worker or the caller, → `DONE` by the same.
const DONE: u8 = 0;
const OPEN: u8 = 1;
const TAKEN: u8 = 2;
/// There are no more jobs.
const STOP: u8 = 3;

/// A cache line of its own (two, because lines are prefetched in pairs).
#[repr(align(128))]
struct CacheLine<T>(T);

// SAFETY: `job` is written only by the thread that holds `busy` while all parts are `DONE`, that is while
// no worker reads it; and what it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is followed only during `Pool::run`, which borrows what it points to.
unsafe impl Send for Shared {}

impl Pool {
    /// `threads` counts the caller: 1 makes no other thread.
    ///
    /// # Errors
    /// When the system gives no more threads; those that were there have ended then.
    pub fn new(threads: usize) -> Result<Pool> {
        let others = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            parts: (0..others).map(|_| CacheLine(AtomicU8::new(DONE))).collect(),
            asleep: (0..others).map(|_| AtomicBool::new(false)).collect(),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut pool = Pool { shared, workers: Vec::with_capacity(others) };
        for worker in 0..others {
            let given = pool.threads();
            let refused = |source| Error::NoThreads { wanted: threads, given, source };
            pool.workers.push(spawn(pool.shared.clone(), worker).map_err(refused)?);
        }
        Ok(pool)
    }

    /// How many work on a call, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` once with each number below [`Pool::threads`], on as many threads as are there in time, and returns
    /// when all calls have returned. A panic in any of them goes on in the caller.
    ///
    /// While the pool is busy (`f` itself calls `run`, or another thread does), the caller makes all
    /// the calls by itself.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || self.shared.busy.swap(true, Acquire) {
            return (0..self.threads()).for_each(f);
        }
        self.fork(f);
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        let workers = 0..self.workers.len();
        workers
            .clone()
            .filter(|&worker| self.shared.take(worker))
            .for_each(|worker| self.shared.call(worker));
        for worker in workers {
            while !spin_until(|| self.shared.parts[worker].0.load(Acquire) == DONE) {}
        }
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.busy.store(false, Release);
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    fn fork(&self, f: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed, and `run` returns after the last use of the job.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(f) };
        // SAFETY: `run` holds `busy` and all parts are done, so nobody else touches the cell.
        unsafe { *shared.job.get() = Some(job) };
        // Sequentially consistent, as in `Shared::sleep`: either we see the worker asleep or it
        // sees its part.
        shared.parts.iter().for_each(|part| part.0.store(OPEN, SeqCst));
        for (asleep, worker) in shared.asleep.iter().zip(&self.workers) {
            if asleep.load(SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.parts.iter().for_each(|part| part.0.store(STOP, SeqCst));
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every panic of a job, so there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

fn spawn(shared: Arc<Shared>, worker: usize) -> io::Result<JoinHandle<()>> {
    let name = format!("pool-{}", worker + 1);
    thread::Builder::new().name(name).spawn(move || shared.work(worker))
}

impl Shared {
    fn work(&self, worker: usize) {
        loop {
            let begun = || matches!(self.parts[worker].0.load(Acquire), OPEN | STOP);
            if !spin_until(begun) {
                self.sleep(worker, begun);
            }
            if self.take(worker) {
                self.call(worker);
            } else if self.parts[worker].0.load(Relaxed) == STOP {
                return;
            }
        }
    }

    /// Until it is called. The part may be done by then, and the next one is near: so the worker spins again.
    fn sleep(&self, worker: usize, begun: impl Fn() -> bool) {
        self.asleep[worker].store(true, SeqCst);
        // see `Pool::fork`
        fence(SeqCst);
        if !begun() {
            thread::park();
        }
        self.asleep[worker].store(false, Relaxed);
    }

    /// Whether the worker's part was still to be had. Who takes it calls it.
    fn take(&self, worker: usize) -> bool {
        let part = &self.parts[worker].0;
        part.load(Relaxed) == OPEN && part.compare_exchange(OPEN, TAKEN, Acquire, Relaxed).is_ok()
    }

    /// The part that was taken.
    fn call(&self, worker: usize) {
        // SAFETY: the part was `OPEN`, so the job is written, and `Pool::run` keeps both the cell and
        // what it points to until the part is `DONE`.
        let job = unsafe { (*self.job.get()).map(|job| &*job) };
        let result = catch_unwind(AssertUnwindSafe(|| job.into_iter().for_each(|job| job(worker + 1))));
        if let Err(panic) = result {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        self.parts[worker].0.store(DONE, Release);
    }
}

/// Spins until `done` or until [`SPIN`] is over; says which. Yields now and then, for there may be
/// more threads than cores.
fn spin_until(done: impl Fn() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..64 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() > SPIN {
            return false;
        }
        thread::yield_now();
    }
}

/// Part `index` of `0..length` in `parts` nearly equal ones, cut at multiples of `grain`.
pub fn part(length: usize, parts: usize, index: usize, grain: usize) -> Range<usize> {
    let grains = length.div_ceil(grain);
    let cut = |index: usize| (grains * index / parts * grain).min(length);
    cut(index)..cut(index + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counts(pool: &Pool) -> Vec<usize> {
        let counts: Vec<_> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|index| {
            counts[index].fetch_add(1, Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_index_is_called_once() {
        for threads in [1, 2, 3, 17] {
            let pool = Pool::new(threads).unwrap();
            for _ in 0..2000 / threads {
                assert_eq!(counts(&pool), vec![1; threads]);
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let pool = Pool::new(4).unwrap();
        for pause in [0, 40, 50, 60, 200, 3000].repeat(20) {
            thread::sleep(Duration::from_micros(pause));
            assert_eq!(counts(&pool), [1; 4]);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3).unwrap();
        for guilty in 0..3 {
            let run = || pool.run(&|index| assert_ne!(index, guilty, "on purpose"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            assert_eq!(counts(&pool), [1; 3]);
        }
    }

    #[test]
    fn a_busy_pool_lets_the_caller_do_the_work() {
        let pool = Pool::new(3).unwrap();
        let calls = AtomicUsize::new(0);
        pool.run(&|_| {
            calls.fetch_add(counts(&pool).iter().sum::<usize>(), Relaxed);
        });
        assert_eq!(calls.into_inner(), 9);
    }

    /// Its threads were ended, as if no core were left for them: the caller does their parts, and waits for nobody.
    #[test]
    fn workers_that_never_come_are_not_waited_for() {
        let pool = Pool::new(3).unwrap();
        let workers: Vec<_> = pool.workers.iter().map(|worker| worker.thread().clone()).collect();
        pool.shared.parts.iter().for_each(|part| part.0.store(STOP, SeqCst));
        workers.iter().for_each(|worker| worker.unpark());
        while !pool.workers.iter().all(JoinHandle::is_finished) {
            thread::yield_now();
        }
        for _ in 0..100 {
            assert_eq!(counts(&pool), [1; 3]);
        }
        let callers = Mutex::new(Vec::new());
        pool.run(&|index| callers.lock().unwrap().push((index, thread::current().id())));
        let here = thread::current().id();
        assert_eq!(callers.into_inner().unwrap(), [(0, here), (1, here), (2, here)]);
        let guilty = || pool.run(&|index| assert_ne!(index, 2, "on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(guilty)).is_err());
        assert_eq!(counts(&pool), [1; 3]);
    }

    #[test]
    fn writes_before_and_after_a_run_are_seen() {
        let pool = Pool::new(2).unwrap();
        let mut numbers = [0usize; 2];
        for round in 1..10_000 {
            let cells = numbers.map(AtomicUsize::new);
            pool.run(&|index| {
                cells[1 - index].fetch_add(1, Relaxed);
            });
            numbers = cells.map(AtomicUsize::into_inner);
            assert_eq!(numbers, [round; 2]);
        }
    }

    #[test]
    fn parts_cover_everything_once_and_in_order() {
        for (length, parts, grain) in [(10, 3, 1), (10, 3, 4), (1, 5, 1), (0, 2, 8), (100, 7, 16)] {
            let all: Vec<_> = (0..parts).flat_map(|index| part(length, parts, index, grain)).collect();
            assert_eq!(all, (0..length).collect::<Vec<_>>());
        }
    }
}
