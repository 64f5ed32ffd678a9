//! The samples of a run, found by case and metric.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use super::disturbed::LeftOut;
use super::estimate::{median, median_of, Estimate, MIN_ROUNDS};
use crate::case::{BackendName, Case, ModelKind, ModelName, ShapeName};
use crate::dtype::Dtype;
use crate::record::{Metric, Protocol, Round, Run, Sample};
use crate::strategy::{CacheConfig, Strategy};

/// The samples of one case and metric, one repetition each, with their rounds, in the order taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Round, and the value in the metric's unit.
    pub samples: Vec<(Round, f64)>,
}

impl Series {
    /// All values, without their rounds.
    pub fn values(&self) -> Vec<f64> {
        self.samples.iter().map(|&(_, value)| value).collect()
    }

    /// Of what is [independent](Series::independent).
    pub fn median(&self) -> Option<Estimate> {
        median(&self.independent())
    }

    /// What tells the machine anew: one value a round, for the samples of one round are taken within
    /// moments of each other and are fast or slow together; every sample where none is of a round.
    /// Counting both samples of a round as two made intervals that held the truth too rarely.
    pub fn independent(&self) -> Vec<f64> {
        let rounds: Vec<f64> = self.rounds().into_values().collect();
        if rounds.is_empty() {
            self.values()
        } else {
            rounds
        }
    }

    /// One value per round: the median of the round's samples. Round 0 is none: it holds the
    /// samples that were not taken in turn.
    pub fn rounds(&self) -> BTreeMap<Round, f64> {
        let medians = self
            .by_round()
            .into_iter()
            .map(|(round, values)| (round, median_of(&values).unwrap_or(f64::NAN)));
        medians.collect()
    }

    /// How the samples were taken; those of different protocols are different quantities.
    pub fn protocol(&self) -> Protocol {
        let protocols = self.samples.iter().map(|(round, _)| round.protocol());
        protocols.max().unwrap_or(Protocol::Single)
    }

    /// The one value that all samples have, as what is counted does.
    pub(crate) fn constant(&self) -> Option<f64> {
        let &(_, first) = self.samples.first()?;
        self.samples.iter().all(|&(_, value)| value == first).then_some(first)
    }

    pub(super) fn by_round(&self) -> BTreeMap<Round, Vec<f64>> {
        let mut rounds: BTreeMap<Round, Vec<f64>> = BTreeMap::new();
        for &(round, value) in self.samples.iter().filter(|(round, _)| *round != Round::Single) {
            rounds.entry(round).or_default().push(value);
        }
        rounds
    }
}

/// Of samples with their rounds, those of the preferred protocol, or else of the other, or else those outside of rounds.
/// Of a round that was begun again after a kill, the last samples count: one step of a decode, two of an
/// interleaved round.
fn of_one_protocol<T: Copy>(samples: &[(Round, T)], preferred: Protocol) -> Vec<(Round, T)> {
    let decoded = last_of_rounds(samples, 1, Protocol::Decode);
    let interleaved = last_of_rounds(samples, 2, Protocol::Interleaved);
    let kinds = match preferred {
        Protocol::Decode => [decoded, interleaved],
        Protocol::Interleaved | Protocol::Single => [interleaved, decoded],
    };
    let rounds = |kind: &Vec<(Round, T)>| kind.iter().map(|(round, _)| round).collect::<BTreeSet<_>>().len();
    let longest = kinds.iter().map(rounds).max().unwrap_or(0);
    let chosen = kinds.into_iter().find(|kind| rounds(kind) >= MIN_ROUNDS.min(longest).max(1));
    chosen.unwrap_or_else(|| samples.to_vec())
}

fn last_of_rounds<T: Copy>(samples: &[(Round, T)], most: usize, protocol: Protocol) -> Vec<(Round, T)> {
    let mut kept: Vec<(Round, T)> = Vec::new();
    let mut taken: BTreeMap<Round, usize> = BTreeMap::new();
    for &(round, value) in samples.iter().rev().filter(|(round, _)| round.protocol() == protocol) {
        let count = taken.entry(round).or_default();
        *count += 1;
        if *count <= most {
            kept.push((round, value));
        }
    }
    kept.reverse();
    kept
}

/// What each case and metric has, with its round.
type ByCase<T> = BTreeMap<(Case, Metric), Vec<(Round, T)>>;

/// Those that the figures of tables are computed from: where the steps are those of decodes, in each round the
/// [`window`] of steps that end at the position.
fn of_tables<T: Copy>(run: &Run, all: ByCase<T>) -> ByCase<T> {
    let chosen: ByCase<T> = all
        .into_iter()
        .map(|(key, samples)| (key, of_one_protocol(&samples, Protocol::Interleaved)))
        .collect();
    let Some(most) = run.environment.step_window else { return chosen };
    let windowed = |(&(case, metric), last): (&(Case, Metric), &Vec<(Round, T)>)| {
        let rounds: BTreeSet<Round> =
            last.iter().map(|&(round, _)| round).filter(|r| r.is_decode()).collect();
        let before = match metric {
            Metric::StepNs => *window(&case, most).start()..case.position,
            _ => 0..0,
        };
        let before = before.filter_map(|position| chosen.get(&(case.at(position), metric))).flatten();
        let samples = before.filter(|(round, _)| rounds.contains(round)).chain(last).copied().collect();
        ((case, metric), samples)
    };
    chosen.iter().map(windowed).collect()
}

/// The positions whose steps are the figure of a decode's last: few enough for all of them to do the same work within
/// some per cent. Without a cache a step's work grows with the position, and it is long enough to be timed by itself.
pub fn window(case: &Case, most: usize) -> RangeInclusive<usize> {
    let steps = match case.strategy.remembers() {
        true => most.min(case.position / 8).max(1),
        false => 1,
    };
    case.position + 1 - steps..=case.position
}

/// The rows behind each case and metric of a run's tables: those that its figures are computed from.
pub fn rows(run: &Run) -> BTreeMap<(Case, Metric), Vec<&Sample>> {
    let mut rows: ByCase<&Sample> = BTreeMap::new();
    let left_out = LeftOut::of(run);
    for sample in run.samples.iter().filter(|sample| sample.value.is_some() && !left_out.has(sample)) {
        rows.entry((sample.case, sample.metric)).or_default().push((sample.round, sample));
    }
    let used = of_tables(run, rows).into_iter();
    used.map(|(key, rows)| (key, rows.into_iter().map(|(_, row)| row).collect())).collect()
}

/// The cases whose steps a run has tables of: those that were sampled for their own sake, and, of a run whose steps are
/// those of decodes, those whose logits were compared with naive's. Empty: it is all decodes, and no position is more
/// than another.
pub fn tabled(run: &Run) -> BTreeSet<Case> {
    let sampled = run.samples.iter().filter(|s| s.metric == Metric::StepNs && !s.round.is_decode());
    let compared = run.equality.iter().filter(|_| run.environment.step_window.is_some());
    sampled.map(|sample| sample.case).chain(compared.map(|row| row.case)).collect()
}

/// Cases that belong into one figure: they differ in strategy and position only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// Of all its cases.
    pub model: ModelKind,
    /// Of all its cases.
    pub shape: ShapeName,
    /// Of all its cases.
    pub weights: Dtype,
    /// Of all its cases' caches.
    pub cache: Dtype,
    /// Of all its cases.
    pub backend: BackendName,
    /// Sentences decoded at once.
    pub batch: usize,
}

impl Group {
    /// That the case belongs to.
    pub fn of(case: &Case) -> Group {
        let &Case { model, shape, weights, cache, backend, batch, .. } = case;
        Group { model, shape, weights, cache, backend, batch }
    }

    /// That all its cases are decoded with.
    pub fn model_name(self) -> ModelName {
        ModelName { kind: self.model, shape: self.shape, weights: self.weights }
    }

    /// `transformer-toy, bf16 cache, cpu`: of all batch sizes.
    pub(crate) fn without_batch(self) -> String {
        let cache = match self.cache {
            Dtype::F32 => String::new(),
            cache => format!("{cache} cache, "),
        };
        format!("{}, {cache}{}", self.model_name(), self.backend)
    }

    /// The group's case under this strategy at this position.
    pub fn case(self, strategy: Strategy, position: usize) -> Case {
        let Group { cache: dtype, backend, batch, .. } = self;
        self.model_name().case(CacheConfig { strategy, dtype }, backend, batch, position)
    }
}

/// `transformer-toy, cpu, batch 1`
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, batch {}", self.without_batch(), self.batch)
    }
}

/// A run's samples, indexed. Failed samples are no samples here, and their reasons are kept.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    series: BTreeMap<(Case, Metric), Series>,
    /// See [`tabled`].
    tabled: BTreeSet<Case>,
    errors: BTreeMap<(Case, Metric), String>,
}

/// A run with its samples indexed once, for all tables, findings and figures.
pub struct Analysis<'a> {
    /// The run itself.
    pub run: &'a Run,
    /// For tables: the steps of rounds in turn where a case has any, as older runs and those on a GPU do, or else those
    /// of decodes that end at the position.
    pub tables: Measurements,
    /// For curves over all positions: each step of a decode by itself.
    pub decodes: Measurements,
    /// As `tables`, with the disturbed rounds that are left out there; `None` where none is.
    pub with_disturbed: Option<Measurements>,
}

impl<'a> Analysis<'a> {
    /// Indexes the samples of a run.
    pub fn of(run: &'a Run) -> Analysis<'a> {
        let left_out = LeftOut::of(run);
        let of = |protocol| Measurements::without(run, &left_out, protocol);
        let all = || Measurements::without(run, &LeftOut::default(), Protocol::Interleaved);
        let with_disturbed = (!left_out.is_empty()).then(all);
        Analysis { run, tables: of(Protocol::Interleaved), decodes: of(Protocol::Decode), with_disturbed }
    }
}

impl Measurements {
    /// The samples of one protocol where a case has samples of several: a step from a copy of a session finds its
    /// rows where the copying left them, a step of a decode where the step before did. They are different quantities,
    /// and never mixed. Preferring [`Protocol::Decode`] gives each step of a decode by itself; else those of decodes
    /// are those of [`window`]. Disturbed rounds are left out (`docs/METHOD.md`).
    pub fn of(run: &Run, preferred: Protocol) -> Measurements {
        Measurements::without(run, &LeftOut::of(run), preferred)
    }

    fn without(run: &Run, left_out: &LeftOut, preferred: Protocol) -> Measurements {
        let (mut all, mut errors) = (ByCase::<f64>::new(), BTreeMap::new());
        for sample in run.samples.iter().filter(|sample| !left_out.has(sample)) {
            let key = (sample.case, sample.metric);
            match (sample.per_iteration(), &sample.error) {
                (Some(value), _) => all.entry(key).or_default().push((sample.round, value)),
                (None, error) => drop(errors.insert(key, error.clone().unwrap_or_default())),
            }
        }
        for row in &run.ledger {
            let samples = all.entry((row.case, row.metric)).or_default();
            if samples.is_empty() {
                samples.push((Round::Single, row.counted as f64));
            }
        }
        let chosen = match preferred {
            Protocol::Decode => {
                let of_decodes = |(key, samples): (_, Vec<_>)| (key, of_one_protocol(&samples, preferred));
                all.into_iter().map(of_decodes).collect()
            }
            Protocol::Interleaved | Protocol::Single => of_tables(run, all),
        };
        let series = chosen.into_iter().map(|(key, samples)| (key, Series { samples })).collect();
        Measurements { series, tabled: tabled(run), errors }
    }

    #[cfg(test)]
    pub(super) fn insert(&mut self, case: Case, samples: Vec<(Round, f64)>) {
        self.series.insert((case, Metric::StepNs), Series { samples });
    }

    /// `None` when nothing was measured.
    pub fn series(&self, case: &Case, metric: Metric) -> Option<&Series> {
        self.series.get(&(*case, metric))
    }

    /// Whether the steps of this case are those of whole decodes.
    pub(crate) fn is_decoded(&self, case: &Case) -> bool {
        self.series(case, Metric::StepNs).is_some_and(|series| series.protocol() == Protocol::Decode)
    }

    /// Of the series' independent values, in the metric's unit.
    pub fn median(&self, case: &Case, metric: Metric) -> Option<Estimate> {
        self.series(case, metric)?.median()
    }

    /// Why the case has no value.
    pub fn error(&self, case: &Case, metric: Metric) -> Option<&str> {
        self.errors.get(&(*case, metric)).map(String::as_str)
    }

    /// The cases that have values of this metric.
    pub fn cases(&self, metric: Metric) -> impl Iterator<Item = Case> + '_ {
        self.series.keys().filter(move |(_, m)| *m == metric).map(|(case, _)| *case)
    }

    /// The cases that have, or failed to have, values of this metric.
    pub(super) fn known(&self, metric: Metric) -> impl Iterator<Item = Case> + '_ {
        self.keys().filter(move |(_, m)| *m == metric).map(|(case, _)| *case)
    }

    /// Everything that has values, by case and then metric.
    pub(super) fn measured(&self) -> impl Iterator<Item = (Case, Metric)> + '_ {
        self.series.keys().copied()
    }

    fn keys(&self) -> impl Iterator<Item = &(Case, Metric)> {
        self.series.keys().chain(self.errors.keys())
    }

    /// The positions of a group whose steps tables show; those that whole decodes passed, if no others are known.
    pub(super) fn tabled(&self, group: Group) -> Vec<usize> {
        let known = self.known(Metric::StepNs).filter(|case| Group::of(case) == group);
        let known: BTreeSet<Case> = known.collect();
        let positions = |cases: &mut dyn Iterator<Item = &Case>| -> BTreeSet<usize> {
            cases.map(|case| case.position).collect()
        };
        let tabled = positions(&mut known.intersection(&self.tabled));
        let shown = if tabled.is_empty() { positions(&mut known.iter()) } else { tabled };
        shown.into_iter().collect()
    }

    /// In order, each once.
    pub fn groups(&self) -> Vec<Group> {
        let groups: BTreeSet<Group> = self.keys().map(|(case, _)| Group::of(case)).collect();
        groups.into_iter().collect()
    }

    /// Strategies of the group that have, or failed to have, this metric.
    pub fn strategies(&self, group: Group, metric: Metric) -> Vec<Strategy> {
        let of_group = self.keys().filter(|(case, m)| *m == metric && Group::of(case) == group);
        let strategies: BTreeSet<Strategy> = of_group.map(|(case, _)| case.strategy).collect();
        strategies.into_iter().collect()
    }

    /// Positions at which this strategy has, or failed to have, this metric.
    pub fn positions(&self, group: Group, strategy: Strategy, metric: Metric) -> Vec<usize> {
        let from = (group.case(strategy, 0), metric);
        let to = (group.case(strategy, usize::MAX), metric);
        let good = self.series.range(from..=to).map(|(key, _)| key);
        let of_metric =
            good.chain(self.errors.range(from..=to).map(|(key, _)| key)).filter(|(_, m)| *m == metric);
        let positions: BTreeSet<usize> = of_metric.map(|(case, _)| case.position).collect();
        positions.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::synthetic;

    fn case(strategy: &str, position: usize) -> Case {
        format!("transformer-toy/{strategy}/cpu/b1/t{position}").parse().unwrap()
    }

    /// Eight steps of each round where nothing else changes; one where the run is older, or nothing is remembered.
    #[test]
    fn tables_show_the_last_steps_of_decodes() {
        let mut run = synthetic::decoded(12, 1);
        let of = |run: &Run, case: Case| {
            Analysis::of(run).tables.series(&case, Metric::StepNs).unwrap().samples.clone()
        };
        let near = |run: &Run, strategy: &str, from: usize, to: usize| -> Vec<f64> {
            let found = Measurements::of(run, Protocol::Decode);
            let all =
                (from..=to).flat_map(|t| found.series(&case(strategy, t), Metric::StepNs).unwrap().values());
            all.collect()
        };
        let values = |run: &Run, case| of(run, case).iter().map(|sample| sample.1).collect::<Vec<f64>>();
        assert_eq!(values(&run, case("padded", 512)), near(&run, "padded", 505, 512));
        assert_eq!(
            values(&run, case("concat", 16)),
            near(&run, "concat", 15, 16),
            "an eighth of the position"
        );
        assert_eq!(values(&run, case("naive", 512)), near(&run, "naive", 512, 512));
        // a decode that ended before the position has no part in it
        run.samples.retain(|s| !(s.case == case("padded", 512) && s.round == Round::Decode(3)));
        assert_eq!(of(&run, case("padded", 512)).len(), 8 * 11);
        let older = crate::record::Environment { step_window: None, ..run.environment.clone() };
        let older = Run { environment: older, ..run };
        assert_eq!(values(&older, case("concat", 512)), near(&older, "concat", 512, 512));
        assert!(tabled(&older).is_empty(), "no position of an older decode is more than another");
    }

    /// The rows behind a citation are those behind the figure.
    #[test]
    fn a_figure_rests_on_all_rows_of_its_window() {
        let run = synthetic::decoded(6, 1);
        let all = rows(&run);
        let mine = &all[&(case("padded", 512), Metric::StepNs)];
        assert_eq!(mine.len(), 6 * 8);
        assert!(mine
            .iter()
            .all(|row| (505..=512).contains(&row.case.position) && row.case.at(1) == case("padded", 1)));
    }

    /// Rounds in turn go before decodes, as in all runs from before there was a window.
    #[test]
    fn steps_of_rounds_in_turn_stay_what_they_are() {
        let mut run = synthetic::decoded(12, 1);
        let copies =
            |round| Sample::value(case("padded", 512), Metric::StepNs, Round::Interleaved(round), 1, 7);
        run.samples.extend((1..=12).map(copies));
        let found = Analysis::of(&run).tables;
        assert_eq!(found.median(&case("padded", 512), Metric::StepNs).unwrap().value, 7.0);
        assert!(!found.is_decoded(&case("padded", 512)) && found.is_decoded(&case("concat", 512)));
        let group = Group::of(&case("padded", 512));
        assert_eq!(found.tabled(group), [64, 256, 512]);
    }
}
