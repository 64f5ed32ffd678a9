//! `selftest`: does this machine, with these statistics, tell equals apart?

use decode_bench::analysis::{compare, Verdict};
use decode_bench::bench::Threads;
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::measure::{interleaved, Fixture, Machines, Settings};
use decode_bench::on_backend;
use decode_bench::suite::check_position;

use super::print;

/// Compare a case with itself many times, and say how often the two were called different.
///
/// Prints the ratio of every comparison. Exits with 1 when more were called different than chance explains.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench selftest --aa 50 --case transformer-toy/padded/cpu/b1/t64")]
pub struct Args {
    /// Number of comparisons
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    aa: u32,
    #[arg(long, default_value = "transformer-toy/padded/cpu/b1/t64")]
    case: Case,
    /// Rounds of each comparison; `cargo bench` takes 12
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(5..=100))]
    rounds: u32,
    #[command(flatten)]
    threads: Threads,
}

/// Equals may be called different this often: verdicts rest on 95 % intervals.
const LEVEL: f64 = 0.05;

pub fn run(args: Args) -> Result<()> {
    let Args { aa, case, rounds, .. } = args;
    check_position(&case)?;
    let settings = Settings { threads: args.threads.count(), ..Settings::default() };
    let machines = Machines::new(&settings);
    machines.able(vec![case])?;
    let mut different = 0;
    on_backend!(machines, case.backend, |b| {
        let fixture = Fixture::load(b, case.model, case.shape, settings.seed)?;
        for comparison in 1..=aa {
            let [a, b] = interleaved::against_itself(&fixture, &case, rounds)?;
            let compared = compare(&a, &b);
            let compared = compared.ok_or_else(|| Error::Input("the samples give no ratio".into()))?;
            different += u32::from(compared.verdict != Verdict::NotDistinguishable);
            let (ratio, verdict) = (compared.ratio, compared.verdict.name());
            print(&format!(
                "{comparison}/{aa}: {:.3} [{:.3}, {:.3}] {verdict}\n",
                ratio.value, ratio.lo, ratio.hi
            ))?;
        }
    });
    let most = most_by_chance(aa);
    let found = format!(
        "{different} of {aa} comparisons of {case} with itself were called different; up to {most} are chance"
    );
    match different <= most {
        true => print(&format!("{found}\n")),
        false => Err(Error::Differs(found)),
    }
}

/// The number that fewer than one machine in a thousand exceeds, if each comparison errs at [`LEVEL`].
fn most_by_chance(n: u32) -> u32 {
    let (mut probability, mut sum, mut k) = ((1.0 - LEVEL).powi(n as i32), 0.0, 0);
    loop {
        sum += probability;
        if sum >= 0.999 || k == n {
            return k;
        }
        probability *= f64::from(n - k) / f64::from(k + 1) * LEVEL / (1.0 - LEVEL);
        k += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::most_by_chance;

    /// Against tables of the binomial distribution.
    #[test]
    fn chance_is_binomial() {
        assert_eq!(most_by_chance(1), 1);
        assert_eq!(most_by_chance(50), 8);
        assert_eq!(most_by_chance(100), 13);
    }
}
