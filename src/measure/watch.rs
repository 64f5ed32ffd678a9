//! Whether something else had the machine while a sample was taken.
//!
//! | mark | means | looked at |
//! |---|---|---|
//! | `preempted` | the kernel took a processor from one of our threads | at every sample |
//! | `stolen` | the hypervisor gave a processor of this virtual machine to another | every 50 ms: the kernel counts in 10 ms |
//! | `busy` | more threads wanted to run than ours | every 50 ms |
//! | `clock` | the processor's clock frequency changed by more than 5 %, where it can be read | every 50 ms |
//! | `throttled` | the GPU slowed its clocks down for heat or power, where `throttle_reasons` is known | every 50 ms |
//!
//! Looking costs a system call, or a file read every 50 ms, after the clock was read and before the next
//! sample begins.

use std::time::{Duration, Instant};

use super::nvml::Throttling;
use super::weather::Ticks;
use crate::record::Gpu;

/// How often the slow sources are looked at. What they say marks all samples since the look before.
const SLOW: Duration = Duration::from_millis(50);

pub struct Watch {
    switches: Option<libc::c_long>,
    stolen: Option<u64>,
    khz: Option<u64>,
    /// Threads of ours that may run at once.
    threads: u64,
    looked: Instant,
    throttling: Option<Throttling>,
}

impl Watch {
    /// From now on, for a run on so many threads and perhaps a GPU.
    pub fn start(threads: u64, gpu: Option<&Gpu>) -> Watch {
        Watch {
            switches: involuntary_switches(),
            stolen: stolen(),
            khz: clock_khz(),
            threads,
            looked: Instant::now(),
            throttling: Throttling::of(gpu),
        }
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
            let stolen = stolen();
            if stolen > self.stolen {
                marks.push("stolen");
            }
            let khz = clock_khz();
            if khz.zip(self.khz).is_some_and(|(now, before)| 20 * now.abs_diff(before) > before) {
                marks.push("clock");
            }
            if runnable().is_some_and(|runnable| runnable > self.threads) {
                marks.push("busy");
            }
            (self.stolen, self.khz, self.looked) = (stolen, khz, Instant::now());
            if self.throttling.as_ref().and_then(Throttling::now) == Some(true) {
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

/// Ticks that the hypervisor has withheld from all processors together.
fn stolen() -> Option<u64> {
    Ticks::now().map(|ticks| ticks.stolen)
}

/// Of the first processor.
fn clock_khz() -> Option<u64> {
    let khz = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").ok()?;
    khz.trim().parse().ok()
}

/// Threads of the whole machine that run or wait for a processor.
fn runnable() -> Option<u64> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    load.split_whitespace().nth(3)?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that compete for one processor lose it to each other.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_preempted_sample_is_marked() {
        let mut watch = Watch::start(1, None);
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
