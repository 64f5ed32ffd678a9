//! `ceilings`: read bandwidth, FLOP/s and launch costs of a machine.

use decode_bench::bench::Threads;
use decode_bench::case::{BackendName, ModelKind, ModelName, ShapeName};
use decode_bench::dtype::Dtype;
use decode_bench::error::Result;
use decode_bench::measure::ceilings::Ceilings;
use decode_bench::measure::{Machines, Settings};
use decode_bench::strategy::Strategy;
use decode_bench::suite::check_position;
use serde_json::json;

use super::parse::Named;
use super::print;

/// Measure how fast a machine reads, computes and starts kernels, as every run does of its cases; record nothing.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench ceilings --backend cuda --shape toy")]
pub struct Args {
    #[arg(long, default_value_t = BackendName::Cuda, value_parser = Named::<BackendName>::parser())]
    backend: BackendName,
    /// Model whose weights set the number of bytes to read
    #[arg(long, default_value = "transformer")]
    model: ModelKind,
    #[arg(long, default_value = "toy")]
    shape: ShapeName,
    /// How they are kept in memory
    #[arg(long = "dtype", default_value_t, value_parser = Named::<Dtype>::parser())]
    weights: Dtype,
    #[command(flatten)]
    threads: Threads,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let Args { backend, model, shape, weights, .. } = args;
    let case = ModelName { kind: model, shape, weights }.case(Strategy::Naive, backend, 1, 1);
    check_position(&case)?;
    let threads = args.threads.count();
    let machines = Machines::new(&Settings { threads, ..Settings::default() });
    let (found, emulated) = (Ceilings::of(&case, &machines)?, machines.emulated(backend));
    if args.json {
        let mut line = json!(found);
        line["backend"] = backend.name().into();
        line["emulated"] = emulated.into();
        return print(&format!("{line}\n"));
    }
    if emulated {
        return print("the device is emulated in software: its ceilings are not shown\n");
    }
    print(&table(&found))
}

fn table(found: &Ceilings) -> String {
    let reads = found.read_bandwidth.iter().map(|read| {
        let rate = format!("{:.1} GB/s", read.bytes_per_second as f64 / 1e9);
        let again = if read.cold { "nothing in a cache" } else { "again and again" };
        (format!("read{}", read.of_level()), rate, format!("{again}, {}", read.pattern))
    });
    let peak = found.peak_flops.iter().map(|peak| {
        let rate = format!("{:.1} GFLOP/s", peak.flops_per_second as f64 / 1e9);
        ("multiply and add".to_string(), rate, peak.how.clone())
    });
    let cost = |what: &str, ns: Option<u64>, how: &str| {
        ns.map(|ns| (what.to_string(), format!("{:.2} µs", ns as f64 / 1e3), how.to_string()))
    };
    let costs = [
        cost("launch", found.launch_ns, "an empty kernel, one queued behind the other"),
        cost("node of a graph", found.graph_node_ns, "an empty kernel, replayed"),
    ];
    let lines = reads.chain(peak).chain(costs.into_iter().flatten());
    lines.map(|(what, rate, how)| format!("{what:<17} {rate:>15}  {how}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use decode_bench::record::{Bandwidth, MemoryLevel, PeakFlops};

    #[test]
    fn ceilings_are_named_for_what_they_are() {
        let read = |bytes_per_second, level, cold| Bandwidth {
            bytes_per_second,
            level: Some(level),
            cold,
            pattern: "1056 blocks".into(),
            ..Bandwidth::default()
        };
        let found = Ceilings {
            read_bandwidth: vec![
                read(5_012_300_000_000, MemoryLevel::L2, false),
                read(3_000_000_000_000, MemoryLevel::Dram, true),
            ],
            peak_flops: Some(PeakFlops { flops_per_second: 60_000_000_000_000, how: "turns".into() }),
            launch_ns: Some(2130),
            graph_node_ns: None,
        };
        assert_eq!(
            table(&found),
            "\
read of L2            5012.3 GB/s  again and again, 1056 blocks
read of DRAM          3000.0 GB/s  nothing in a cache, 1056 blocks
multiply and add  60000.0 GFLOP/s  turns
launch                    2.13 µs  an empty kernel, one queued behind the other
"
        );
    }
}
