//! Whether something else had the machine while a sample was taken.
//!
//! | mark | means | looked at |
//! |---|---|---|
//! | `preempted` | the kernel took a processor from one of our threads | at every sample |
//! | `stolen` | the hypervisor gave a processor of this virtual machine to another | every 50 ms: the kernel counts in 10 ms |
//! | `throttled` | the GPU slowed its clocks down for heat or power | every 50 ms |
//!
//! Looking costs a system call, or a file read every 50 ms, after the clock was read and before the next
//! sample begins.

use std::time::{Duration, Instant};

use super::nvml::Throttling;
use crate::record::Gpu;

/// How often the slow sources are looked at. What they say marks all samples since the look before.
const SLOW: Duration = Duration::from_millis(50);

pub struct Watch {
    switches: Option<libc::c_long>,
    stolen: Option<u64>,
    looked: Instant,
    throttling: Option<Throttling>,
}

impl Watch {
    /// From now on; `gpu` is the run's, if it has one.
    pub fn start(gpu: Option<&Gpu>) -> Watch {
        let throttling = Throttling::of(gpu);
        Watch { switches: involuntary_switches(), stolen: stolen_ticks(), looked: Instant::now(), throttling }
    }

    /// What happened since the last look, in the words of the module's table.
    pub fn look(&mut self) -> Option<String> {
        let mut marks = Vec::new();
        let switches = involuntary_switches();
        if switches > self.switches {
            marks.push("preempted");
        }
        self.switches = switches;
        if self.looked.elapsed() >= SLOW {
            let stolen = stolen_ticks();
            if stolen > self.stolen {
                marks.push("stolen");
            }
            (self.stolen, self.looked) = (stolen, Instant::now());
            if self.throttling.as_ref().is_some_and(Throttling::now) {
                marks.push("throttled");
            }
        }
        (!marks.is_empty()).then(|| marks.join(" "))
    }
}

/// How often the kernel took a processor from a thread of this process that wanted to go on.
#[cfg(unix)]
fn involuntary_switches() -> Option<libc::c_long> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one `rusage`, of which zeros are valid too.
    let usage =
        unsafe { (libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) == 0).then(|| usage.assume_init()) };
    usage.map(|usage| usage.ru_nivcsw)
}

#[cfg(not(unix))]
fn involuntary_switches() -> Option<libc::c_long> {
    None
}

/// Ticks of 10 ms that the hypervisor withheld from all processors together.
fn stolen_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().next()?.split_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that compete for one processor lose it to each other.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_preempted_sample_is_marked() {
        let mut watch = Watch::start(None);
        let competitors = 4 * std::thread::available_parallelism().unwrap().get();
        std::thread::scope(|scope| {
            for _ in 0..competitors {
                scope.spawn(|| {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(100) {
                        std::hint::spin_loop();
                    }
                });
            }
        });
        assert!(watch.look().is_some_and(|marks| marks.contains("preempted")));
    }
}
