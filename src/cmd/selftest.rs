//! `selftest`: does this machine, with these statistics, tell equals apart, and give a step one time?

use decode_bench::analysis::{compare, Estimate, Verdict};
use decode_bench::bench::Threads;
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::measure::selftest::{against_itself, ways};
use decode_bench::measure::{Fixture, Machines, Settings};
use decode_bench::on_backend;
use decode_bench::suite::{beside, check_position};
use decode_bench::units::Quantity;

use super::print;

/// Compare a case with itself many times, and say how often the two were called different.
///
/// Prints the ratio of every comparison. Exits with 1 when more were called different than chance explains, or, with
/// --agreement, when the two ways in which tables have a step differ by more than 5 %.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench selftest --aa 50 --case transformer-toy/padded/cpu/b1/t64
  decode-bench selftest --agreement --threads 1")]
pub struct Args {
    /// Number of comparisons
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    aa: u32,
    /// Time steps inside whole decodes, at the ends of decodes and from copies instead, for all strategies and positions
    /// of the case's model that whole decodes pass. Steps of copies are printed and not judged: no table shows them
    #[arg(long, conflicts_with = "aa")]
    agreement: bool,
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
    if args.agreement {
        return agreement(&case, rounds, &settings, &machines);
    }
    machines.able(vec![case])?;
    let mut different = 0;
    on_backend!(machines, case.backend, |b| {
        let fixture = Fixture::load(b, case.model_name(), settings.seed)?;
        for comparison in 1..=aa {
            let [a, b] = against_itself(&fixture, &case, rounds)?;
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

/// The ways may differ by so much before they are more than one time.
const APART: f64 = 1.05;

fn agreement(case: &Case, rounds: u32, settings: &Settings, machines: &Machines) -> Result<()> {
    let cases = beside(case);
    if cases.is_empty() || case.backend.is_cuda() {
        let what = format!(
            "--agreement: no whole decode on the CPU passes a position of `{case}` and those beside it"
        );
        return Err(Error::Input(what));
    }
    let cases = machines.able(cases)?;
    let mut apart = Vec::new();
    on_backend!(machines, case.backend, |b| {
        let fixture = Fixture::load(b, case.model_name(), settings.seed)?;
        for found in ways(&fixture, &cases, rounds)? {
            let against_whole = |series| Some(compare(series, &found.whole)?.ratio);
            let all = (found.whole.median(), against_whole(&found.end), against_whole(&found.copy));
            let (Some(whole), Some(end), Some(copy)) = all else { continue };
            apart.extend(is_apart(&end).then(|| found.case.to_string()));
            print(&format!(
                "{}: whole decode {}; end of a decode {}; copy {}\n",
                found.case,
                Quantity::Nanoseconds.show_estimate(whole),
                times(&end),
                times(&copy)
            ))?;
        }
    });
    match apart.is_empty() {
        true => print(&format!("{} steps agree within 5 % and their intervals\n", cases.len())),
        false => Err(Error::Differs(format!(
            "steps at the end of a decode differ from those in a whole one by more than 5 %: {}",
            apart.join(", ")
        ))),
    }
}

/// `1.01 [0.98, 1.03] ×`, what the whole decode's step takes.
fn times(ratio: &Estimate) -> String {
    format!("{:.2} [{:.2}, {:.2}] ×", ratio.value, ratio.lo, ratio.hi)
}

/// Whether all of the interval is farther from 1 than the ways may be.
fn is_apart(ratio: &Estimate) -> bool {
    ratio.lo > APART || ratio.hi < 1.0 / APART
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
    use super::*;
    use decode_bench::analysis::Series;
    use decode_bench::record::Round;

    /// Made-up rounds: drift that both ways share, scatter of 2 %, and an end that is so many times as long.
    #[test]
    fn only_what_is_surely_beyond_five_per_cent_is_apart() {
        let series = |slower: f64, scatter: f64| {
            let ns = |round: u32| {
                let drift = 1.0 + 0.3 * f64::from(round % 5);
                1e5 * slower * drift * (1.0 + scatter * (f64::from(round * 7 % 11) / 5.0 - 1.0))
            };
            Series { samples: (1..=12).map(|round| (Round::Decode(round), ns(round))).collect() }
        };
        let whole = series(1.0, 0.0);
        let apart = |slower, scatter| is_apart(&compare(&series(slower, scatter), &whole).unwrap().ratio);
        for (slower, scatter, want) in [
            (1.0, 0.02, false),
            (1.04, 0.02, false),
            (1.06, 0.001, true),
            (1.06, 0.05, false), // the interval does not exclude 5 %
            (1.2, 0.02, true),
            (0.96, 0.001, false),
            (0.9, 0.02, true),
        ] {
            assert_eq!(apart(slower, scatter), want, "{slower} {scatter}");
        }
    }

    /// Against tables of the binomial distribution.
    #[test]
    fn chance_is_binomial() {
        assert_eq!(most_by_chance(1), 1);
        assert_eq!(most_by_chance(50), 8);
        assert_eq!(most_by_chance(100), 13);
    }
}
