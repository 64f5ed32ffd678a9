//! A run's answers to the project's questions, computed: from which position on a strategy beats
//! another, at how many bytes of cache that is, and which chunk takes least to compile and run. Beside
//! each stands what the closed forms of [`crate::cost`] predict on the ceilings measured in the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::{Serialize, Serializer};

use super::compare::Verdict;
use super::crossing::{least, Crossing};
use super::estimate::{median_of, MIN_ROUNDS};
use super::measurements::{Analysis, Group, Measurements, Series};
use super::prediction::Predictor;
use super::summary::{crossing_line, headline_positions, versus, CrossingLine};
use crate::case::BackendName;
use crate::cost::Step;
use crate::model::capacity;
use crate::record::{Metric, Protocol, Round, Run};
use crate::strategy::Strategy;

/// One question, answered for one group of cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The cases that it is about.
    #[serde(serialize_with = "as_text")]
    pub group: Group,
    /// What is asked.
    pub question: Question,
    /// What the samples say.
    pub answer: Answer,
    /// The first and the last position that the answer was looked for at.
    pub from: usize,
    /// The last position.
    pub to: usize,
    /// Absent where no closed form or no ceiling is known.
    pub predicted: Option<Prediction>,
    /// Measured over predicted, where both are numbers.
    pub measured_over_predicted: Option<f64>,
    /// The first position at which the table's row surely says the opposite: both are shown, and the finding says so.
    pub disagrees_at: Option<usize>,
    /// How that row's steps were sampled. The finding is about whole decodes.
    #[serde(skip)]
    pub disagrees_by: Option<Protocol>,
}

/// What is asked of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Question {
    /// From which position on is `first` faster than `second`? In positions.
    BeatsFrom {
        /// The one that may be faster.
        #[serde(serialize_with = "as_text")]
        first: Strategy,
        /// The one that it is compared with.
        #[serde(serialize_with = "as_text")]
        second: Strategy,
    },
    /// How much does the cache of `second` hold at that position? In bytes.
    BytesWhereBeaten {
        /// The one that beats.
        #[serde(serialize_with = "as_text")]
        first: Strategy,
        /// The one whose cache is asked about.
        #[serde(serialize_with = "as_text")]
        second: Strategy,
    },
    /// By which chunk must a cache grow for a decode of `tokens` to take least, its shapes compiled by
    /// `compiler` and run by the group's backend? In positions.
    BestChunk {
        /// Length of the decode.
        tokens: usize,
        /// That compiles a shape for every growth.
        #[serde(serialize_with = "as_text")]
        compiler: BackendName,
    },
}

/// Numbers are in the unit that the [`Question`] names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Answer {
    /// From here on: not before `lo`, surely from `hi` on. An end that is absent lies outside of what was
    /// measured.
    At {
        /// The crossing, in the question's unit.
        value: f64,
        /// Lower end of its interval.
        lo: Option<f64>,
        /// Upper end of its interval.
        hi: Option<f64>,
    },
    /// At every position measured.
    Always,
    /// At none of them.
    Never,
    /// Over all positions together, and from which on cannot be told; or the other is faster so.
    Overall,
    /// Over all positions together the second is faster.
    NotOverall,
    /// Up to here only; the ends likewise.
    Until {
        /// The crossing, in the question's unit.
        value: f64,
        /// Lower end of its interval.
        lo: Option<f64>,
        /// Upper end of its interval.
        hi: Option<f64>,
    },
    /// Nothing tells the two apart.
    Undecided,
}

/// What the closed forms say, with the ceilings of the same run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Prediction {
    /// From here on.
    At {
        /// In the question's unit.
        value: f64,
    },
    /// At every position that was looked at.
    Always,
    /// At none of them.
    Never,
}

/// All findings of a run, group by group: cached strategies against naive, padded and bounded against
/// concat, the bytes at padded's crossing, the best chunk.
pub fn findings(analysis: &Analysis<'_>) -> Vec<Finding> {
    let Analysis { run, decodes: found, tables, .. } = analysis;
    let of_group = |group: Group| {
        let beats = pairs(found, group).into_iter().flat_map(|(first, second)| {
            let line = crossing_line(found, group, first, second)?;
            Some(beats_from(run, found, group, &line))
        });
        let beats: Vec<Finding> = beats.map(|finding| held_against(tables, finding)).collect();
        let bytes: Vec<Finding> = beats.iter().filter_map(bytes_where_beaten).collect();
        let chunks = compilers(found, group);
        let chunks = chunks.into_iter().filter_map(|c| best_chunk(run, found, group, c));
        beats.into_iter().chain(bytes).chain(chunks).collect::<Vec<_>>()
    };
    found.groups().into_iter().flat_map(of_group).collect()
}

/// The finding, and where the table of the same run says the opposite.
fn held_against(tables: &Measurements, finding: Finding) -> Finding {
    let Question::BeatsFrom { first, second } = finding.question else { return finding };
    let opposite = |&t: &usize| {
        let [first, second] = [first, second].map(|strategy| finding.group.case(strategy, t));
        let row = versus(tables, &first, &second).map(|row| row.verdict);
        let said = said_at(finding.answer, t);
        said.zip(row).is_some_and(|(said, row)| row != Verdict::NotDistinguishable && row != said)
    };
    let disagrees_at = headline_positions(&tables.tabled(finding.group)).into_iter().find(opposite);
    let row = |t| tables.series(&finding.group.case(first, t), Metric::StepNs);
    Finding { disagrees_at, disagrees_by: disagrees_at.and_then(row).map(Series::protocol), ..finding }
}

/// What an answer says of the first strategy at a position, where it says anything.
fn said_at(answer: Answer, position: usize) -> Option<Verdict> {
    let t = position as f64;
    match answer {
        Answer::Always => Some(Verdict::Faster),
        Answer::Never => Some(Verdict::Slower),
        Answer::At { hi: Some(hi), .. } if t >= hi => Some(Verdict::Faster),
        Answer::At { lo: Some(lo), .. } if t < lo => Some(Verdict::Slower),
        Answer::Until { hi: Some(hi), .. } if t >= hi => Some(Verdict::Slower),
        Answer::Until { lo: Some(lo), .. } if t < lo => Some(Verdict::Faster),
        _ => None,
    }
}

/// Whether a crossing between these two is a finding.
pub fn is_headline(first: Strategy, second: Strategy) -> bool {
    match second {
        Strategy::Naive => first.remembers(),
        Strategy::Concat => matches!(first, Strategy::Padded | Strategy::Bounded),
        _ => false,
    }
}

fn pairs(found: &Measurements, group: Group) -> Vec<(Strategy, Strategy)> {
    let strategies = found.strategies(group, Metric::StepNs);
    let seconds = [Strategy::Naive, Strategy::Concat].into_iter();
    let all = seconds.flat_map(|second| strategies.iter().map(move |&first| (first, second)));
    all.filter(|&(first, second)| is_headline(first, second)).collect()
}

fn beats_from(run: &Run, found: &Measurements, group: Group, line: &CrossingLine) -> Finding {
    let &CrossingLine { first, second, from, to, .. } = line;
    let steps = |strategy| Predictor::new(&run.environment, found, group, strategy);
    let (of_first, of_second) = (steps(first), steps(second));
    let wins = |t| Some(of_first.ns(t)? < of_second.ns(t)?);
    let wins: Option<Vec<bool>> = (from..=to).map(wins).collect();
    let start = wins.map(|wins| from + wins.iter().rposition(|wins| !wins).map_or(0, |last| last + 1));
    let predicted = start.map(|t| match t {
        t if t > to => Prediction::Never,
        t if t == from => Prediction::Always,
        t => Prediction::At { value: t as f64 },
    });
    let answer = answer(line);
    let question = Question::BeatsFrom { first, second };
    Finding {
        group,
        question,
        answer,
        from,
        to,
        predicted,
        measured_over_predicted: measured_over_predicted(answer, predicted),
        disagrees_at: None,
        disagrees_by: None,
    }
}

fn answer(line: &CrossingLine) -> Answer {
    match line.crossing {
        Crossing::At { position, lo, hi, after, .. } => {
            let (value, [lo, hi]) = (position as f64, [lo, hi].map(|end| end.map(|t| t as f64)));
            match after {
                Verdict::Faster => Answer::At { value, lo, hi },
                Verdict::Slower | Verdict::NotDistinguishable => Answer::Until { value, lo, hi },
            }
        }
        Crossing::Everywhere(Verdict::Faster) => Answer::Always,
        Crossing::Everywhere(_) => Answer::Never,
        Crossing::Overall(Verdict::Faster) => Answer::Overall,
        Crossing::Overall(_) => Answer::NotOverall,
        Crossing::Undecided => Answer::Undecided,
    }
}

fn measured_over_predicted(answer: Answer, predicted: Option<Prediction>) -> Option<f64> {
    match (answer, predicted) {
        (Answer::At { value, lo: Some(_), .. }, Some(Prediction::At { value: expected })) => {
            Some(value / expected)
        }
        _ => None,
    }
}

/// Rows of padded's crossing with concat, in bytes of concat's cache: what a machine's caches are held
/// against, and no longer a matter of the model's width.
fn bytes_where_beaten(beats: &Finding) -> Option<Finding> {
    let Question::BeatsFrom { first: first @ Strategy::Padded, second: second @ Strategy::Concat } =
        beats.question
    else {
        return None;
    };
    let bytes = |position: f64| {
        let case = beats.group.case(second, position.round() as usize);
        Some(Step::of(&case).ok()?.live_bytes() as f64)
    };
    let Answer::At { value, lo, hi } = beats.answer else { return None };
    let answer = Answer::At { value: bytes(value)?, lo: lo.and_then(bytes), hi: hi.and_then(bytes) };
    let predicted = match beats.predicted {
        Some(Prediction::At { value }) => bytes(value).map(|value| Prediction::At { value }),
        other => other,
    };
    let question = Question::BytesWhereBeaten { first, second };
    Some(Finding {
        question,
        answer,
        predicted,
        measured_over_predicted: measured_over_predicted(answer, predicted),
        disagrees_at: None,
        disagrees_by: None,
        ..*beats
    })
}

/// Whose compile times belong to the group: the backend's own, or those of a compiler that ran without
/// the device it compiles for.
fn compilers(found: &Measurements, group: Group) -> Vec<BackendName> {
    let same = |other: &Group| Group { backend: group.backend, ..*other } == group;
    let compiles = |other: &Group| !found.strategies(*other, Metric::CompileNs).is_empty();
    let named = |backend: BackendName| backend == group.backend || backend.name().starts_with("nvrtc-");
    let groups = found.groups().into_iter().filter(|other| same(other) && named(other.backend));
    groups.filter(compiles).map(|other| other.backend).collect()
}

/// The chunk with the least sum of compile and decode times, over the longest decode that was measured with at least two
/// chunks. Each round of decodes is set against one round of compiling. `None` where the rounds do not tell.
fn best_chunk(run: &Run, found: &Measurements, group: Group, compiler: BackendName) -> Option<Finding> {
    let strategies = found.strategies(group, Metric::DecodeNs);
    let tokens = *strategies
        .iter()
        .filter(|s| matches!(s, Strategy::Chunked(_)))
        .flat_map(|&s| found.positions(group, s, Metric::DecodeNs))
        .collect::<BTreeSet<usize>>()
        .last()?;
    let built = Group { backend: compiler, ..group };
    let mut chunks: Vec<Chunk> =
        strategies.iter().filter_map(|&strategy| Chunk::of(found, group, built, strategy, tokens)).collect();
    chunks.sort_by_key(|chunk| chunk.rows);
    let rounds = shared(chunks.iter().map(|chunk| &chunk.decodes));
    let compiled = shared(chunks.iter().map(|chunk| &chunk.shapes));
    let totals = rounds.iter().zip(&compiled).map(|(decode, compile)| {
        chunks.iter().map(|c| (c.rows, c.count(tokens) * c.shapes[compile] + c.decodes[decode])).collect()
    });
    let answer = of_least(least(&totals.collect::<Vec<_>>()), &chunks)?;
    let one = median_of(&chunks.iter().flat_map(|chunk| chunk.shapes.values().copied()).collect::<Vec<_>>())?;
    let expected = |chunk: &Chunk| {
        let predictor = Predictor::new(&run.environment, found, group, chunk.strategy);
        let steps: Option<f64> = (1..=tokens).map(|t| predictor.ns(t)).sum();
        Some((chunk.rows, chunk.count(tokens) * one + steps?))
    };
    let expected: Option<Vec<(usize, f64)>> = chunks.iter().map(expected).collect();
    let predicted = expected.and_then(|totals| of_least(least(&vec![totals; MIN_ROUNDS]), &chunks));
    let predicted = predicted.and_then(|answer| match answer {
        Answer::At { value, .. } => Some(Prediction::At { value }),
        _ => None,
    });
    Some(Finding {
        group,
        question: Question::BestChunk { tokens, compiler },
        answer,
        from: 1,
        to: tokens,
        predicted,
        measured_over_predicted: measured_over_predicted(answer, predicted),
        disagrees_at: None,
        disagrees_by: None,
    })
}

/// A strategy that was decoded and compiled.
struct Chunk {
    strategy: Strategy,
    /// That the buffer grows by.
    rows: usize,
    /// Nanoseconds of a whole decode, in each round.
    decodes: BTreeMap<Round, f64>,
    /// Nanoseconds of the median shape that a decode needs, in each round.
    shapes: BTreeMap<Round, f64>,
}

impl Chunk {
    fn of(
        found: &Measurements,
        group: Group,
        built: Group,
        strategy: Strategy,
        tokens: usize,
    ) -> Option<Chunk> {
        let rows = strategy.grows_by(capacity(group.model, group.shape))?;
        let decodes = found.series(&group.case(strategy, tokens), Metric::DecodeNs)?.rounds();
        let mut shapes: BTreeMap<Round, Vec<f64>> = BTreeMap::new();
        let positions =
            found.positions(built, strategy, Metric::CompileNs).into_iter().filter(|&t| t <= tokens);
        for series in positions.filter_map(|t| found.series(&built.case(strategy, t), Metric::CompileNs)) {
            series.rounds().into_iter().for_each(|(round, ns)| shapes.entry(round).or_default().push(ns));
        }
        let shapes: BTreeMap<Round, f64> =
            shapes.into_iter().filter_map(|(round, times)| Some((round, median_of(&times)?))).collect();
        (!shapes.is_empty()).then_some(Chunk { strategy, rows, decodes, shapes })
    }

    /// Shapes that a decode needs.
    fn count(&self, tokens: usize) -> f64 {
        tokens.div_ceil(self.rows) as f64
    }
}

/// The rounds that all of them have.
fn shared<'a>(all: impl Iterator<Item = &'a BTreeMap<Round, f64>>) -> Vec<Round> {
    let rounds = all.map(|rounds| rounds.keys().copied().collect::<BTreeSet<Round>>());
    rounds.reduce(|a, b| &a & &b).into_iter().flatten().collect()
}

/// The size at which the totals are least. If that is the largest, or the smallest, the ratio to the next one bounds it on
/// one side alone.
fn of_least(found: Crossing, chunks: &[Chunk]) -> Option<Answer> {
    let sizes: Vec<f64> = chunks.iter().map(|chunk| chunk.rows as f64).collect();
    let ([first, second, ..], [.., next, last]) = (&sizes[..], &sizes[..]) else { return None };
    match found {
        Crossing::At { position, lo, hi, after: Verdict::Slower, .. } => {
            let [lo, hi] = [lo, hi].map(|end| end.map(|size| size as f64));
            Some(Answer::At { value: position as f64, lo, hi })
        }
        Crossing::Everywhere(Verdict::Faster) => {
            Some(Answer::At { value: *last, lo: Some((next * last).sqrt().floor()), hi: None })
        }
        Crossing::Everywhere(_) => {
            Some(Answer::At { value: *first, lo: None, hi: Some((first * second).sqrt().ceil()) })
        }
        Crossing::At { .. } | Crossing::Overall(_) | Crossing::Undecided => None,
    }
}

fn as_text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::super::summary::summary;
    use super::*;
    use crate::record::{synthetic, Sample};

    fn of(findings: &[Finding], wanted: Question) -> Finding {
        *findings.iter().find(|f| f.question == wanted).expect("the question was asked")
    }

    /// The synthetic concat passes padded at 170 000 / 900 = 189 positions; bytes alone let it pass at a third
    /// of 512 rows.
    #[test]
    fn a_crossing_is_found_and_predicted() {
        let run = synthetic::run(12);
        let found = findings(&Analysis::of(&run));
        let (first, second) = (Strategy::Padded, Strategy::Concat);
        let beats = of(&found, Question::BeatsFrom { first, second });
        let Answer::At { value, lo: Some(lo), hi: Some(hi) } = beats.answer else { panic!("{beats:?}") };
        assert!(lo <= 189.0 && 189.0 <= hi && (value / 189.0).ln().abs() < 0.15, "{beats:?}");
        assert_eq!(beats.predicted, Some(Prediction::At { value: 172.0 }));
        assert_eq!(beats.measured_over_predicted, Some(value / 172.0));
        let bytes = of(&found, Question::BytesWhereBeaten { first, second });
        let row = 3.0 * 2.0 * 256.0 * 4.0;
        assert_eq!(bytes.predicted, Some(Prediction::At { value: 172.0 * row }));
        assert!(matches!(bytes.answer, Answer::At { value: b, .. } if b == value.round() * row), "{bytes:?}");
        let naive = Question::BeatsFrom { first: Strategy::Concat, second: Strategy::Naive };
        assert_eq!(of(&found, naive).answer, Answer::Always);
        assert!(found.iter().all(|f| !matches!(f.question, Question::BestChunk { .. })));
    }

    #[test]
    fn without_ceilings_nothing_is_predicted() {
        let mut run = synthetic::run(6);
        run.environment.read_bandwidth.clear();
        let found = findings(&Analysis::of(&run));
        assert!(
            !found.is_empty()
                && found.iter().all(|f| f.predicted.is_none() && f.measured_over_predicted.is_none())
        );
    }

    /// A decode of 512 tokens: 8 shapes by chunks of 64, 512 by concat, one by padded.
    #[test]
    fn the_best_chunk_balances_compiling_and_running() {
        let mut run = synthetic::run(12);
        let run_ns = |of: Strategy, run: &Run| {
            let found = Measurements::of(run, Protocol::Decode);
            let case = format!("transformer-toy/{of}/cpu/b1/t512").parse().unwrap();
            found.median(&case, Metric::DecodeNs).unwrap().value
        };
        let (chunked, padded) = (run_ns(Strategy::Chunked(64), &run), run_ns(Strategy::Padded, &run));
        assert!(chunked < padded);
        let even = (padded - chunked) / 7.0; // a shape's time at which both take as long
        let mut best = |rounds: u32, ns: f64| {
            run.samples.retain(|sample| sample.metric != Metric::CompileNs);
            for strategy in [Strategy::Concat, Strategy::Chunked(64), Strategy::Padded] {
                let case = format!("transformer-toy/{strategy}/nvrtc-sm_90/b1/t1").parse().unwrap();
                let samples = (1..=rounds)
                    .map(|i| Sample::value(case, Metric::CompileNs, Round::Interleaved(i), 1, ns as u64));
                run.samples.extend(samples);
            }
            let compiler = "nvrtc-sm_90".parse().unwrap();
            let question = Question::BestChunk { tokens: 512, compiler };
            findings(&Analysis::of(&run)).into_iter().find(|finding| finding.question == question)
        };
        let Answer::At { value, lo: Some(lo), hi: Some(hi) } = best(8, even / 4.0).unwrap().answer else {
            panic!()
        };
        assert!(
            8.0 < lo && lo <= value && value <= hi && hi < 181.0,
            "between concat's 1 and padded's 512: {value} [{lo}, {hi}]"
        );
        let slow = best(8, even * 4.0).unwrap();
        assert_eq!(
            slow.answer,
            Answer::At { value: 512.0, lo: Some(181.0), hi: None },
            "no larger one was measured"
        );
        assert!(slow.predicted.is_some());
        assert!(best(4, even * 4.0).is_none(), "too few rounds of compiling for an interval");
    }

    /// Padded beats concat from about 189 on in the decodes of a run whose table says the opposite at 512.
    #[test]
    fn a_table_that_says_the_opposite_is_named() {
        let mut run = synthetic::run(12);
        let question = Question::BeatsFrom { first: Strategy::Padded, second: Strategy::Concat };
        for sample in run.samples.iter_mut().filter(|sample| sample.metric == Metric::StepNs) {
            sample.round = Round::Decode(sample.round.number());
        }
        assert_eq!(of(&findings(&Analysis::of(&run)), question).disagrees_at, None);
        let opposite = |strategy: &str, ns: u64| {
            let case = format!("transformer-toy/{strategy}/cpu/b1/t512").parse().unwrap();
            (1..=12).map(move |round| {
                Sample::value(case, Metric::StepNs, Round::Interleaved(round), 1, ns + u64::from(round))
            })
        };
        run.samples.extend(opposite("padded", 900_000).chain(opposite("concat", 300_000)));
        let found = of(&findings(&Analysis::of(&run)), question);
        assert!(matches!(found.answer, Answer::At { .. }), "{found:?}");
        assert_eq!(found.disagrees_at, Some(512));
    }

    /// Every row of the tables against every finding: where a row surely says the opposite, the finding names the first.
    fn hold_together(run: &Run) {
        let analysis = Analysis::of(run);
        let (findings, summaries) = (findings(&analysis), summary(&analysis));
        for finding in findings {
            let Question::BeatsFrom { first, second } = finding.question else { continue };
            let tables = summaries.iter().filter(|summary| summary.group == finding.group);
            let rows = tables.flat_map(|summary| &summary.lines).filter(|row| row.case.strategy == first);
            let opposite = rows.filter(|row| {
                let found = if second == Strategy::Naive { row.vs_naive } else { row.vs_concat };
                let verdict = found.map(|found| found.verdict).filter(|v| *v != Verdict::NotDistinguishable);
                verdict.zip(said_at(finding.answer, row.case.position)).is_some_and(|(row, said)| row != said)
            });
            let first_of_them = opposite.map(|row| row.case.position).min();
            assert_eq!(finding.disagrees_at, first_of_them, "{}: {finding:?}", run.name());
        }
    }

    #[test]
    fn findings_say_what_contradicts_them() {
        // cargo says where the package is; carried elsewhere, the tests have no committed runs with them
        if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
            let results = std::path::Path::new(&package).join("results");
            let folders = std::fs::read_dir(results).unwrap().map(|entry| entry.unwrap().path());
            let runs: Vec<Run> = folders.filter_map(|folder| Run::open(&folder).ok()).collect();
            assert!(runs.len() > 10, "the committed runs");
            runs.iter().for_each(hold_together);
        }
        (1..=20).for_each(|seed| hold_together(&synthetic::decoded(6 + 6 * (seed as u32 % 2), seed)));
        hold_together(&synthetic::run(12));
    }

    /// In a run of decodes both come from the same rounds: what a finding says of a position, its row does not deny.
    #[test]
    fn tables_and_findings_of_decodes_agree() {
        for seed in 1..=20 {
            let run = synthetic::decoded(12, seed);
            let found = findings(&Analysis::of(&run));
            assert!(found.iter().all(|finding| finding.disagrees_at.is_none()), "{seed}: {found:?}");
            let beats = of(&found, Question::BeatsFrom { first: Strategy::Padded, second: Strategy::Concat });
            assert!(matches!(beats.answer, Answer::At { .. }), "{beats:?}");
        }
    }

    #[test]
    fn findings_are_plain_data() {
        let json = serde_json::to_value(findings(&Analysis::of(&synthetic::run(12)))).unwrap();
        let first = &json[0];
        assert_eq!(first["group"], "transformer-toy, cpu, batch 1");
        assert_eq!(first["question"]["kind"], "beats-from");
        assert!(first["predicted"]["value"].is_f64(), "{first}");
    }
}
