//! Which rounds of decodes are left out of figures, because something else had the machine.
//!
//! The rule knows what the operating system counted of other programs and of the hypervisor, and nothing of how long the
//! round took: leaving out slow rounds would make every figure smaller. A round is left out as a whole, with all
//! strategies.

use std::collections::{BTreeMap, BTreeSet};

use super::estimate::MIN_ROUNDS;
use crate::case::Case;
use crate::record::{Environment, Metric, Round, Run, Sample};

/// In thousandths of a processor: as much as in a quiet second (`docs/METHOD.md`).
const QUIET_PERMILLE: u64 = 50;

/// Whether others took more in a round than a twentieth of one processor, or a hundredth of all where that is more.
pub(crate) fn is_disturbed(environment: &Environment, others_permille: u64) -> bool {
    others_permille > QUIET_PERMILLE.max(10 * environment.logical_cores.unwrap_or(1))
}

/// The rounds that are left out of each decode (by default, none), which is named by the case at its last position.
#[derive(Default)]
pub(super) struct LeftOut(BTreeMap<Case, BTreeSet<Round>>);

impl LeftOut {
    /// Of runs that do not say what others took, nothing. A decode with too few quiet rounds for a verdict keeps all.
    pub fn of(run: &Run) -> LeftOut {
        let mut rounds: BTreeMap<Case, BTreeMap<Round, bool>> = BTreeMap::new();
        for sample in run.samples.iter().filter(|sample| sample.metric == Metric::OthersPermille) {
            let Some(others) = sample.value else { continue };
            let disturbed = is_disturbed(&run.environment, others);
            rounds.entry(sample.case).or_default().insert(sample.round, disturbed);
        }
        let left_out = rounds.into_iter().map(|(decode, rounds)| {
            let enough = rounds.values().filter(|disturbed| !**disturbed).count() >= MIN_ROUNDS;
            let disturbed = rounds.into_iter().filter(|(_, disturbed)| enough && *disturbed);
            (decode, disturbed.map(|(round, _)| round).collect())
        });
        LeftOut(left_out.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    pub fn has(&self, sample: &Sample) -> bool {
        self.of_decode(&sample.case).is_some_and(|rounds| rounds.contains(&sample.round))
    }

    /// Of the decode that passed the case's position: of several, the shortest.
    pub fn of_decode(&self, case: &Case) -> Option<&BTreeSet<Round>> {
        let (decode, rounds) = self.0.range(case..).next()?;
        (decode.at(1) == case.at(1)).then_some(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Analysis, Estimate};
    use crate::record::synthetic;

    fn case(strategy: &str, position: usize) -> Case {
        format!("transformer-toy/{strategy}/cpu/b1/t{position}").parse().unwrap()
    }

    /// Whole decodes; in each round others took so much, and all steps of these strategies were so many times as long.
    fn run(others: &[u64], strategies: &[&str], slower: impl Fn(usize) -> f64) -> Run {
        let mut run = synthetic::decoded(others.len() as u32, 7);
        for sample in &mut run.samples {
            if strategies.contains(&sample.case.strategy.to_string().as_str()) {
                let slower = slower(sample.round.number() as usize - 1);
                sample.value = sample.value.map(|ns| (ns as f64 * slower) as u64);
            }
        }
        for strategy in ["naive", "concat", "padded", "chunked-64", "bounded", "onehot"] {
            run.samples.extend((1..).zip(others).map(|(round, &others)| {
                let at = case(strategy, 512);
                Sample::value(at, Metric::OthersPermille, Round::Decode(round), 1, others)
            }));
        }
        run.environment.logical_cores = Some(2);
        run
    }

    fn step(run: &Run) -> Estimate {
        Analysis::of(run).tables.median(&case("padded", 512), Metric::StepNs).unwrap()
    }

    #[test]
    fn a_disturbed_round_is_left_out_of_every_figure_with_all_its_strategies() {
        let others = [0, 900, 3, 50, 51, 0, 1, 0, 2];
        let found = run(&others, &["padded"], |round| if others[round] > 50 { 3.0 } else { 1.0 });
        let analysis = Analysis::of(&found);
        for strategy in ["padded", "concat", "naive"] {
            for position in [1, 300, 512] {
                let rounds: Vec<u32> = {
                    let series = analysis.decodes.series(&case(strategy, position), Metric::StepNs).unwrap();
                    series.rounds().into_keys().map(Round::number).collect()
                };
                assert_eq!(rounds, [1, 3, 4, 6, 7, 8, 9], "{strategy} {position}");
            }
        }
        let with = analysis.with_disturbed.as_ref().unwrap();
        assert_eq!(with.median(&case("padded", 512), Metric::StepNs).unwrap().n, 9);
        let cited = &super::super::rows(&found)[&(case("padded", 512), Metric::StepNs)];
        assert!(cited.iter().all(|row| ![2, 5].contains(&row.round.number())) && cited.len() == 7 * 8);
    }

    /// Slow rounds in which nobody else did anything stay: the rule does not know how long a round took.
    #[test]
    fn a_round_is_not_left_out_for_being_slow() {
        let slow = |round: usize| if round.is_multiple_of(2) { 5.0 } else { 1.0 };
        let quiet = run(&[0; 12], &["padded"], slow);
        assert!(Analysis::of(&quiet).with_disturbed.is_none());
        assert_eq!(step(&quiet).n, 12);
        // whatever the steps take, the same rounds are left out
        let others = [0, 0, 700, 0, 80, 0, 0, 0, 0, 0, 60, 0];
        let rounds = |run: &Run| {
            let series = Analysis::of(run).tables;
            series
                .series(&case("padded", 512), Metric::StepNs)
                .unwrap()
                .rounds()
                .into_keys()
                .collect::<Vec<_>>()
        };
        assert_eq!(rounds(&run(&others, &["padded"], slow)), rounds(&run(&others, &["padded"], |_| 1.0)));
    }

    #[test]
    fn a_machine_that_is_never_quiet_keeps_all_rounds() {
        assert_eq!(step(&run(&[900, 900, 0, 0, 0, 0, 900, 900], &[], |_| 1.0)).n, 8, "four are too few");
        assert_eq!(step(&run(&[900, 900, 0, 0, 0, 0, 0, 900], &[], |_| 1.0)).n, 5);
        let old = synthetic::decoded(8, 7);
        assert!(LeftOut::of(&old).is_empty(), "it does not say what others took");
    }

    #[test]
    fn a_hundredth_of_a_large_machine_is_no_disturbance() {
        let on = |cores| Environment { logical_cores: cores, ..synthetic::run(1).environment };
        for (cores, limit) in [(None, 50), (Some(2), 50), (Some(64), 640)] {
            assert!(!is_disturbed(&on(cores), limit) && is_disturbed(&on(cores), limit + 1), "{cores:?}");
        }
    }

    /// An end of a decode far beyond the whole one has rounds of its own.
    #[test]
    fn rounds_are_those_of_the_decode_that_passed_the_position() {
        let mut run = run(&[0, 0, 900, 0, 0, 0], &[], |_| 1.0);
        let row = |round| {
            let others = if round == 1 { 900 } else { 0 };
            Sample::value(case("padded", 1024), Metric::OthersPermille, Round::Decode(round), 1, others)
        };
        run.samples.extend((1..=6).map(row));
        let found = LeftOut::of(&run);
        let rounds =
            |t| found.of_decode(&case("padded", t)).map(|rounds| rounds.iter().map(|r| r.number()).collect());
        assert_eq!(rounds(512), Some(vec![3]));
        assert_eq!(rounds(1017), Some(vec![1]));
        assert_eq!(rounds(1025), None);
    }
}
