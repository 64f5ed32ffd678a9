//! What can be measured. The unit is part of the name.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::strategy::MOST_POSITIONS;

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Of time.
    Nanoseconds,
    /// Of memory.
    Bytes,
    /// Floating-point operations, a multiplication and an addition counted as two.
    Flops,
    /// Of anything else.
    Count,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident $name:literal $unit:ident),+ $(,)?) => {
        /// What a sample or a row of the ledger is of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "two metrics that belong together share a comment")]
        pub enum Metric {
            $($(#[$doc])* $variant,)+
            /// The same prompt as that of a prefill, fed in calls of so many tokens.
            ChunkedPrefillNs(usize),
        }

        impl Metric {
            /// In the order of this list, without those that have a parameter.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant),+];

            /// As in the files, without a parameter.
            pub fn name(self) -> &'static str {
                match self {
                    $(Metric::$variant => $name,)+
                    Metric::ChunkedPrefillNs(_) => "chunked_prefill_ns",
                }
            }

            /// Of its values.
            pub(crate) fn unit(self) -> Unit {
                match self {
                    $(Metric::$variant => Unit::$unit,)+
                    Metric::ChunkedPrefillNs(_) => Unit::Nanoseconds,
                }
            }
        }
    };
}

metrics! {
    /// One decode step at the case's position: as it comes in a decode, or from an untimed fork that holds one position less.
    StepNs "step_ns" Nanoseconds,
    /// The same step by the device's own clock, between two events of its stream: what the host needs
    /// to launch is outside, gaps between kernels are inside.
    StepDeviceNs "step_device_ns" Nanoseconds,
    /// The same step, and those before it, queued without waiting for any but the last: the tokens are given.
    PipelinedStepNs "pipelined_step_ns" Nanoseconds,
    /// Prefill: a prompt as long as the case's position, fed in one call.
    PrefillNs "prefill_ns" Nanoseconds,
    /// A whole decode up to the case's position, first step included.
    DecodeNs "decode_ns" Nanoseconds,
    /// Entries of the batch put into another order, as a beam search does before each step; and the
    /// bytes read and written for it.
    ReorderNs "reorder_ns" Nanoseconds,
    ReorderBytes "reorder_bytes" Bytes,
    /// The step that follows a reorder, from the same copy of a session.
    ReorderedStepNs "reordered_step_ns" Nanoseconds,
    /// One shape of a whole step compiled; the case's position is the first that needs it.
    CompileNs "compile_ns" Nanoseconds,
    /// Distinct shapes compiled by a whole decode up to the case's position, and their kernels.
    Compiles "compiles" Count,
    CompiledKernels "compiled_kernels" Count,
    /// A phase of a cold start; each sample of these three is from a fresh process.
    LoadNs "load_ns" Nanoseconds,
    CacheCreateNs "cache_create_ns" Nanoseconds,
    FirstStepNs "first_step_ns" Nanoseconds,
    /// A step recorded as a graph, and that made ready to be launched.
    CaptureNs "capture_ns" Nanoseconds,
    InstantiateNs "instantiate_ns" Nanoseconds,
    /// That brought to the device, and replayed for the first time.
    UploadNs "upload_ns" Nanoseconds,
    FirstReplayNs "first_replay_ns" Nanoseconds,
    /// Rows of the cache in use.
    CacheLiveBytes "cache_live_bytes" Bytes,
    /// Rows of the cache in use, and padding.
    CacheAllocatedBytes "cache_allocated_bytes" Bytes,
    /// The most the cache held at once during one step: a concat holds a tensor twice for a moment.
    CachePeakBytes "cache_peak_bytes" Bytes,
    /// The same with what layers compute in passing.
    TransientPeakBytes "transient_peak_bytes" Bytes,
    /// The work ledger of one step, deterministic, from here to `host_syncs`.
    StepAllocs "step_allocs" Count,
    StepAllocBytes "step_alloc_bytes" Bytes,
    StepCopiedBytes "step_copied_bytes" Bytes,
    /// Rows of the past that layers read.
    StepReadBytes "step_read_bytes" Bytes,
    StepFlops "step_flops" Flops,
    StepLaunches "step_launches" Count,
    /// Of a step that is replayed, and so started by fewer launches.
    StepKernels "step_kernels" Count,
    HostSyncs "host_syncs" Count,
    /// A GPU's clocks, and what it draws, right after a round.
    SmClockMhz "sm_clock_mhz" Count,
    MemoryClockMhz "memory_clock_mhz" Count,
    PowerMw "power_mw" Count,
    /// Processor time that other programs and the hypervisor took during a round, in thousandths of one processor.
    OthersPermille "others_permille" Count,
    /// Of the whole process; secondary to the meter's bytes.
    PeakRssBytes "peak_rss_bytes" Bytes,
    /// The most that the driver's memory pool lent at once: weights, scratch and what strategies keep.
    PoolPeakBytes "pool_peak_bytes" Bytes,
    /// In use on the whole device, by everybody.
    DeviceUsedBytes "device_used_bytes" Bytes,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::ChunkedPrefillNs(tokens) => f.pad(&format!("chunked_prefill_{tokens}_ns")),
            plain => f.pad(plain.name()),
        }
    }
}

impl FromStr for Metric {
    type Err = Error;
    fn from_str(name: &str) -> Result<Metric> {
        let tokens = name.strip_prefix("chunked_prefill_").and_then(|rest| rest.strip_suffix("_ns"));
        let chunked =
            tokens.and_then(|tokens| tokens.parse().ok()).filter(|n| (1..=MOST_POSITIONS).contains(n));
        let chunked = chunked.map(Metric::ChunkedPrefillNs).filter(|metric| metric.to_string() == name); // no alias
        let plain = || Metric::ALL.iter().copied().find(|m| m.name() == name);
        chunked.or_else(plain).ok_or_else(|| Error::Unknown {
            kind: "metric",
            name: name.into(),
            known: Metric::ALL.iter().map(|m| m.name().to_string()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_with_a_parameter_has_one_name() {
        let metric = Metric::ChunkedPrefillNs(64);
        assert_eq!(metric.to_string(), "chunked_prefill_64_ns");
        assert_eq!("chunked_prefill_64_ns".parse::<Metric>().unwrap(), metric);
        for alias in
            ["chunked_prefill_064_ns", "chunked_prefill_0_ns", "chunked_prefill_ns", "chunked_prefill__ns"]
        {
            assert!(alias.parse::<Metric>().is_err(), "{alias}");
        }
    }
}
