//! Samplers, beam searches and ensembles against slow references that remember nothing, on the
//! small models of `tests/golden`: their logits are spread widely, so that choices are seldom within rounding of
//! each other.

mod common;

use std::path::Path;

use proptest::prelude::{prop, prop_assert, prop_assert_eq, prop_assume, proptest, ProptestConfig};
use proptest::strategy::Strategy as _;

use safetensors::SafeTensors;

use decode_bench::backend::cpu::Cpu;
use decode_bench::backend::{Backend, Tokens};
use decode_bench::case::{ModelKind, ShapeName};
use decode_bench::decoding::{
    sample, search, Beam, BeamRule, Decoder, Hypothesis, Limits, Processors, Sampler, Support, Text,
};
use decode_bench::error::Result;
use decode_bench::model::{checkpoint, AnyModel, Config, Model, Weights};
use decode_bench::session::Session;
use decode_bench::strategy::Strategy;

const VOCAB: usize = 61;
const CAPACITY: usize = 24;

/// Two choices closer than this may be made the other way when logits are rounded otherwise.
const CLOSE: f64 = 1e-4;

struct Subject {
    b: Cpu,
    model: AnyModel<Cpu>,
    kind: ModelKind,
    /// What the sentences are decoded from, in turn; none for most models.
    sources: Vec<Vec<u32>>,
}

/// The folder of `tests/golden` that has weights of a model; `None` where no other program has the model.
fn golden_folder(kind: ModelKind) -> Option<&'static str> {
    match kind {
        ModelKind::Transformer => Some("gpt2"),
        ModelKind::LinearizedConv => Some("fconv_lm"),
        ModelKind::Llama => Some("llama"),
        ModelKind::EncoderDecoder => Some("marian"),
        ModelKind::ConvSeq2Seq => Some("fconv_seq2seq"),
        ModelKind::Retention => None,
    }
}

fn golden_kinds() -> Vec<ModelKind> {
    ModelKind::ALL.iter().copied().filter(|&kind| golden_folder(kind).is_some()).collect()
}

impl Subject {
    fn golden(kind: ModelKind) -> Subject {
        Subject::named(kind, golden_folder(kind).expect("a model that another program has"))
    }

    /// Of a folder of `tests/golden`.
    fn named(kind: ModelKind, name: &str) -> Subject {
        let sources = if kind.has_source() { vec![vec![5, 9, 3, 12, 4]] } else { Vec::new() };
        let folder = common::root().join("tests/golden").join(name);
        let b = Cpu::new(1).unwrap();
        let (file, weights) = checkpoint::open(kind, &folder).unwrap();
        let model = AnyModel::load(&b, &file.config, &weights).unwrap();
        Subject { b, model, kind, sources }
    }

    fn vocab(&self) -> usize {
        Model::<Cpu>::vocab(&self.model)
    }

    fn both() -> [Subject; 2] {
        [ModelKind::Transformer, ModelKind::LinearizedConv].map(Subject::golden)
    }

    fn strategies(&self) -> Vec<Strategy> {
        let all = Strategy::examples().iter().copied().chain([Strategy::Chunked(3)]);
        all.filter(|&strategy| self.kind.supports(strategy)).collect()
    }

    fn prompted(
        &self,
        strategy: Strategy,
        prompts: &[Vec<u32>],
    ) -> (Session<'_, Cpu, AnyModel<Cpu>>, <Cpu as Backend>::Tensor) {
        let mut session = match self.sources.is_empty() {
            true => Session::open(&self.b, &self.model, strategy, prompts.len(), CAPACITY),
            false => {
                let sources = self.sources.iter().cycle().take(prompts.len()).cloned().collect();
                Session::from_source(&self.b, &self.model, strategy, &Tokens(sources), 1, CAPACITY)
            }
        }
        .unwrap();
        let logits = session.feed(&Tokens(prompts.to_vec())).unwrap();
        (session, logits)
    }

    fn decoder(&self, strategy: Strategy, prompts: &[Vec<u32>]) -> Decoder<'_, Cpu, AnyModel<Cpu>> {
        Decoder::new(&self.b, vec![self.prompted(strategy, prompts)]).unwrap()
    }

    /// ln p of what follows, everything computed from nothing.
    fn log_probabilities(&self, tokens: &[u32]) -> Vec<f64> {
        let (_, logits) = self.prompted(Strategy::Naive, &[tokens.to_vec()]);
        let logits: Vec<f64> = self.b.download(&logits).unwrap().into_iter().map(f64::from).collect();
        let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
        logits.iter().map(|x| x - total).collect()
    }

    fn sample(
        &self,
        strategy: Strategy,
        prompts: &[Vec<u32>],
        sampler: &Sampler,
        limits: &Limits,
    ) -> Vec<Hypothesis> {
        sample(&mut self.decoder(strategy, prompts), sampler, limits, |_| Ok(())).unwrap()
    }
}

/// The ids by probability, the likeliest first.
fn ranked(log_probabilities: &[f64]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..log_probabilities.len() as u32).collect();
    ids.sort_by(|&a, &b| log_probabilities[b as usize].total_cmp(&log_probabilities[a as usize]));
    ids
}

fn random(temperature: f64, support: Support, seed: u64) -> Sampler {
    Sampler::Random { temperature, support, seed }
}

fn refused<T>(result: Result<T>, named: &[&str]) {
    let said = result.err().expect("refused").to_string();
    assert!(named.iter().all(|name| said.contains(name)), "should name {named:?}: {said}");
}

// ---- beams

/// As the programs do it that the rules are named after: always `width` hypotheses, those that do not exist with
/// the probability 0; everything computed anew for each; nothing leaves before all is over.
struct Reference<'a> {
    subject: &'a Subject,
    prompt: &'a [u32],
    beam: Beam,
    limits: &'a Limits,
    /// By how much the closest choice was won.
    margin: f64,
}

#[derive(Clone)]
struct Row {
    tokens: Vec<u32>,
    log_probability: f64,
    score: f64,
}

impl Reference<'_> {
    fn penalty(&self, length: usize) -> f64 {
        match self.beam.rule {
            BeamRule::Flax => ((5.0 + length as f64) / 6.0).powf(self.beam.length_penalty),
            BeamRule::Fairseq | BeamRule::Transformers | BeamRule::TransformersNever => {
                (length as f64).powf(self.beam.length_penalty)
            }
        }
    }

    fn search(&mut self) -> Vec<Row> {
        let (width, max_len) = (self.beam.width, self.limits.max_len);
        let never = f64::NEG_INFINITY;
        let nothing = Row { tokens: Vec::new(), log_probability: never, score: never };
        let mut live = vec![nothing.clone(); width];
        live[0].log_probability = 0.0;
        let mut finished = vec![nothing; width];
        for length in 1..=max_len {
            let candidates = self.candidates(&live);
            let candidates = &candidates[..width * (1 + self.limits.eos.len()).max(2)];
            let ends = |row: &Row| self.limits.eos.contains(row.tokens.last().unwrap());
            let score = |row: &Row| Row { score: row.log_probability / self.penalty(length), ..row.clone() };
            let considered = match self.beam.rule {
                BeamRule::Flax => candidates,
                BeamRule::Fairseq | BeamRule::Transformers | BeamRule::TransformersNever => {
                    &candidates[..width]
                }
            };
            let at_end = length == max_len && self.beam.rule != BeamRule::Flax;
            let new = considered.iter().filter(|row| ends(row) || at_end).map(score);
            finished.extend(new);
            live = candidates.iter().filter(|row| !ends(row)).take(width).cloned().collect();
            finished.sort_by(|a, b| b.score.total_cmp(&a.score));
            self.gaps(finished.iter().map(|row| row.score).take(width + 1).collect());
            finished.truncate(width);
            let worst = finished[width - 1].score;
            let full = worst > f64::NEG_INFINITY;
            let longest = match self.beam.rule {
                BeamRule::Fairseq if full => break,
                BeamRule::Transformers => length,
                BeamRule::TransformersNever if self.beam.length_penalty <= 0.0 => length,
                BeamRule::Fairseq | BeamRule::TransformersNever | BeamRule::Flax => max_len,
            };
            let bound = live[0].log_probability / self.penalty(longest);
            if full && self.beam.rule != BeamRule::Fairseq {
                self.gaps(vec![worst, bound]);
                if worst > bound {
                    break;
                }
            }
        }
        let exists = |row: &Row| row.log_probability > f64::NEG_INFINITY;
        if finished.iter().any(exists) {
            return finished.into_iter().filter(exists).collect();
        }
        live.into_iter().filter(exists).map(|row| Row { score: row.log_probability, ..row }).collect()
    }

    /// All continuations of all hypotheses, the best first.
    fn candidates(&mut self, live: &[Row]) -> Vec<Row> {
        let mut candidates = Vec::new();
        for Row { tokens, log_probability, score } in live {
            let row = match log_probability.is_finite() {
                true => self.subject.log_probabilities(&[self.prompt, tokens].concat()),
                false => vec![f64::NEG_INFINITY; self.subject.vocab()],
            };
            for (id, &l) in row.iter().enumerate() {
                let id = id as u32;
                let forced = self.limits.prefix.get(tokens.len());
                let too_early = tokens.len() < self.limits.min_len && self.limits.eos.contains(&id);
                let possible = forced.map_or(!too_early, |&forced| forced == id);
                let log_probability = if possible { log_probability + l } else { f64::NEG_INFINITY };
                let tokens = [tokens.as_slice(), &[id]].concat();
                candidates.push(Row { tokens, log_probability, score: *score });
            }
        }
        candidates.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        self.gaps(candidates.iter().map(|row| row.log_probability).take(2 * self.beam.width + 1).collect());
        candidates
    }

    fn gaps(&mut self, numbers: Vec<f64>) {
        let gap = |pair: &[f64]| (pair[0] - pair[1]).abs();
        let gaps = numbers.windows(2).filter(|pair| pair.iter().all(|x| x.is_finite())).map(gap);
        self.margin = gaps.fold(self.margin, f64::min);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn beams_of_every_strategy_are_those_of_a_search_without_memory(
        kind in prop::sample::select(golden_kinds()),
        prompts in (1usize..4, 1usize..6).prop_flat_map(|(sentences, length)| {
            prop::collection::vec(prop::collection::vec(0u32..VOCAB as u32, length), sentences)
        }),
        width in 1usize..5,
        rule in prop::sample::select(vec![
            BeamRule::Flax, BeamRule::Fairseq, BeamRule::Transformers, BeamRule::TransformersNever,
        ]),
        length_penalty in -0.5f64..2.0,
        end_ranks in prop::collection::btree_set(0usize..5, 0..3),
        max_len in 1usize..8, min_len in 0usize..4,
        prefix in prop::collection::vec(0u32..VOCAB as u32, 0..3),
    ) {
        let subject = Subject::golden(kind);
        let in_vocabulary = |ids: Vec<u32>| ids.iter().map(|id| id % subject.vocab() as u32).collect::<Vec<_>>();
        let prompts: Vec<_> = prompts.into_iter().map(in_vocabulary).collect();
        let prefix = in_vocabulary(prefix);
        // a token that is likely to come, so that hypotheses do end
        let likely = ranked(&subject.log_probabilities(&prompts[0]));
        let eos: Vec<u32> = end_ranks.into_iter().map(|rank| likely[rank]).collect();
        prop_assume!(prefix.len() <= max_len && !prefix.iter().any(|id| eos.contains(id)));
        let limits = Limits { min_len: min_len.min(max_len), eos: eos.clone(), prefix, ..Limits::length(max_len) };
        let beam = Beam { width, length_penalty, rule };
        let mut want = Vec::new();
        for prompt in &prompts {
            let mut reference = Reference { subject: &subject, prompt, beam, limits: &limits, margin: f64::MAX };
            want.push(reference.search());
            prop_assume!(reference.margin > CLOSE);
        }
        for strategy in subject.strategies() {
            let got = search(&mut subject.decoder(strategy, &prompts), &beam, &limits).unwrap();
            prop_assert_eq!(got.len(), prompts.len());
            for (got, want) in got.iter().zip(&want) {
                prop_assert_eq!(
                    got.iter().map(|found| &found.tokens).collect::<Vec<_>>(),
                    want.iter().map(|found| &found.tokens).collect::<Vec<_>>(),
                    "{} {:?}", strategy, beam
                );
                for (got, want) in got.iter().zip(want) {
                    prop_assert!((got.score - want.score).abs() < 1e-4, "{} {:?} {:?}", strategy, got, want.score);
                    prop_assert!((got.log_probability - want.log_probability).abs() < 1e-4, "{} {:?}", strategy, got);
                    prop_assert_eq!(got.ended, eos.contains(got.tokens.last().unwrap()));
                }
            }
        }
    }
}

/// A file of beams of `tests/golden`; its README.md says what is in it.
struct Beams(Vec<u8>);

impl Beams {
    fn read(name: &str) -> Beams {
        let path = common::root().join("tests/golden").join(name);
        Beams(std::fs::read(path).unwrap())
    }

    fn fours<T>(&self, name: &str, number: impl Fn([u8; 4]) -> T) -> Vec<T> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        tensor.data().chunks_exact(4).map(|four| number(four.try_into().unwrap())).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.fours(name, u32::from_le_bytes)
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.fours(name, |four| f64::from(f32::from_le_bytes(four)))
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().shape().to_vec()
    }

    /// Sources of several lengths, or none.
    fn sources(&self) -> Vec<Vec<u32>> {
        let (ids, lengths) = (self.ids("source"), self.ids("source_lengths"));
        let rows = ids.chunks(ids.len() / lengths.len()).zip(&lengths);
        rows.map(|(ids, &length)| ids[..length as usize].to_vec()).collect()
    }

    /// The hypotheses of a case are those that a search finds, in their order.
    fn are_found(&self, case: usize, subject: &Subject, prompts: &[Vec<u32>], beam: &Beam, limits: &Limits) {
        let [_, sentences, most, longest] = self.shape("sequences")[..] else { panic!() };
        let (sequences, lengths, scores) =
            (self.ids("sequences"), self.ids("lengths"), self.numbers("scores"));
        for strategy in subject.strategies() {
            let found = search(&mut subject.decoder(strategy, prompts), beam, limits).unwrap();
            assert_eq!(found.len(), sentences);
            for (sentence, found) in found.iter().enumerate() {
                let first = (case * sentences + sentence) * most;
                let what = format!("{} {strategy} {beam:?}, sentence {sentence}", subject.kind);
                assert_eq!(
                    found.len(),
                    lengths[first..first + most].iter().filter(|&&l| l > 0).count(),
                    "{what}"
                );
                for (place, found) in (first..).zip(found) {
                    let want = &sequences[place * longest..][..lengths[place] as usize];
                    assert_eq!(found.tokens, want, "{what}");
                    assert!((found.score - scores[place]).abs() < 2e-5, "{what}: {found:?}");
                }
            }
        }
    }
}

/// `generate(num_beams=.., early_stopping=True)` of transformers, whose rule is fairseq's.
#[test]
fn beams_are_those_that_transformers_finds() {
    for (kind, name) in [
        (ModelKind::Transformer, "gpt2"),
        (ModelKind::Llama, "llama"),
        (ModelKind::Llama, "families/qwen2"),
        (ModelKind::EncoderDecoder, "marian"),
    ] {
        let golden = Beams::read(&format!("{name}/beams.safetensors"));
        let mut subject = Subject::named(kind, name);
        let prompts: Vec<Vec<u32>> = match kind.has_source() {
            false => golden.ids("prompts").chunks_exact(4).map(<[u32]>::to_vec).collect(),
            true => {
                subject.sources = golden.sources();
                vec![vec![MARIAN_START]; 2]
            }
        };
        let (widths, penalties) = (golden.ids("num_beams"), golden.numbers("length_penalty"));
        let (fewest, eos) = (golden.ids("min_new_tokens"), golden.ids("end"));
        for case in 0..widths.len() {
            let (width, length_penalty) = (widths[case] as usize, penalties[case]);
            let beam = Beam { width, length_penalty, rule: BeamRule::Fairseq };
            let limits = Limits { min_len: fewest[case] as usize, eos: eos.clone(), ..Limits::length(8) };
            golden.are_found(case, &subject, &prompts, &beam, &limits);
        }
    }
}

/// What Marian's configuration says a decode begins with.
const MARIAN_START: u32 = 40;

/// `beam_search` of Flax's translation example, over transformers' Marian.
#[test]
fn beams_are_those_that_flax_finds() {
    let golden = Beams::read("marian/beams_flax.safetensors");
    let mut subject = Subject::golden(ModelKind::EncoderDecoder);
    subject.sources = golden.sources();
    let (widths, ends, longest) = (golden.ids("num_beams"), golden.ids("end"), golden.ids("max_new_tokens"));
    for case in 0..widths.len() {
        let (width, length_penalty) = (widths[case] as usize, golden.numbers("alpha")[0]);
        let beam = Beam { width, length_penalty, rule: BeamRule::Flax };
        let limits = Limits { eos: vec![ends[case]], ..Limits::length(longest[case] as usize) };
        golden.are_found(case, &subject, &[vec![MARIAN_START], vec![MARIAN_START]], &beam, &limits);
    }
}

/// Prompts, and an end token that the first of them comes to at once and the second not in its likeliest four.
fn one_ends_first(subject: &Subject) -> (Vec<Vec<u32>>, u32) {
    let greedy = |prompt: &Vec<u32>| {
        let found = subject.sample(
            Strategy::Naive,
            std::slice::from_ref(prompt),
            &Sampler::Greedy,
            &Limits::length(4),
        );
        found[0].tokens.clone()
    };
    let first = vec![7, 3, 9];
    let eos = greedy(&first)[0];
    let second = (0..VOCAB as u32).map(|id| vec![id, 50, 2]).find(|prompt| !greedy(prompt).contains(&eos));
    (vec![first, second.expect("sixty-one prompts do not all end alike")], eos)
}

#[test]
fn sentences_that_have_ended_leave_the_batch() {
    for subject in Subject::both() {
        let (prompts, eos) = one_ends_first(&subject);
        let limits = Limits { eos: vec![eos], ..Limits::length(4) };
        for strategy in subject.strategies() {
            let mut decoder = subject.decoder(strategy, &prompts);
            let found = sample(&mut decoder, &Sampler::Greedy, &limits, |_| Ok(())).unwrap();
            assert_eq!((found[0].tokens.as_slice(), found[0].ended), ([eos].as_slice(), true), "{strategy}");
            assert!(found[1].tokens.len() == 4 && !found[1].ended, "{strategy}: {found:?}");
            assert_eq!(decoder.entries(), 1, "{strategy}");

            let mut decoder = subject.decoder(strategy, &prompts);
            let beam = Beam { width: 1, length_penalty: 1.0, rule: BeamRule::Fairseq };
            assert_eq!(search(&mut decoder, &beam, &limits).unwrap()[1][0].tokens, found[1].tokens);
            assert_eq!(decoder.entries(), 1, "{strategy}");
            let mut decoder = subject.decoder(strategy, &prompts);
            search(&mut decoder, &Beam { width: 3, ..beam }, &Limits::length(4)).unwrap();
            assert_eq!(decoder.entries(), 6, "{strategy}: two sentences of three beams");
        }
    }
}

#[test]
fn a_beam_of_one_is_greedy() {
    for subject in Subject::both() {
        let prompts = vec![vec![7, 3, 9], vec![5, 50, 2]];
        let limits = Limits::length(9);
        for rule in [BeamRule::Flax, BeamRule::Fairseq] {
            let beam = Beam { width: 1, length_penalty: 0.6, rule };
            let found = search(&mut subject.decoder(Strategy::Padded, &prompts), &beam, &limits).unwrap();
            let greedy = subject.sample(Strategy::Padded, &prompts, &Sampler::Greedy, &limits);
            let tokens = |h: &Hypothesis| h.tokens.clone();
            assert_eq!(
                found.iter().map(|found| tokens(&found[0])).collect::<Vec<_>>(),
                greedy.iter().map(tokens).collect::<Vec<_>>()
            );
        }
    }
}

// ---- samplers

proptest! {
    /// Small whole numbers: many are equal. Membership and probabilities as their definitions say, in loops.
    #[test]
    fn what_is_drawn_from_is_the_support_of_its_definition(
        logits in prop::collection::vec(-4i32..5, 1..30),
        support in proptest::prop_oneof![
            proptest::strategy::Just(Support::All),
            (1usize..40).prop_map(Support::TopK),
            (0.01f64..1.0).prop_map(Support::TopP),
        ],
        forbidden in prop::option::of(0usize..30),
    ) {
        prop_assume!(logits.len() > 1);
        let mut row: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let total = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        row.iter_mut().for_each(|x| *x -= total);
        if let Some(id) = forbidden.filter(|&id| id < row.len()) {
            row[id] = f64::NEG_INFINITY;
        }
        let mass: f64 = row.iter().map(|l| l.exp()).sum();
        // those that are likelier, or as likely with a lower id
        let ahead = |id: usize| -> Vec<usize> {
            (0..row.len()).filter(|&other| row[other] > row[id] || (row[other] == row[id] && other < id)).collect()
        };
        let kept: Vec<usize> = (0..row.len()).filter(|&id| row[id].is_finite()).filter(|&id| match support {
            Support::All => true,
            Support::TopK(k) => ahead(id).len() < k,
            Support::TopP(p) => ahead(id).iter().map(|&other| row[other].exp() / mass).sum::<f64>() < p,
        }).collect();
        if let Support::TopP(p) = support {
            let border = |id: &usize| (ahead(*id).iter().map(|&other| row[other].exp() / mass).sum::<f64>() - p).abs();
            prop_assume!((0..row.len()).all(|id| border(&id) > 1e-9));
        }
        let share: f64 = kept.iter().map(|&id| row[id].exp()).sum();
        let found = support.distribution(&row);
        prop_assert_eq!(found.iter().map(|&(id, _)| id as usize).collect::<Vec<_>>(), kept);
        for (id, p) in found {
            prop_assert!((p - row[id as usize].exp() / share).abs() < 1e-12, "{} has {}", id, p);
        }
    }
}

#[test]
fn tokens_are_drawn_as_often_as_they_are_probable() {
    let subject = Subject::golden(ModelKind::Transformer);
    let (prompt, draws) = (vec![4, 8], 4096);
    let prompts = vec![prompt.clone(); 64];
    let plain = subject.log_probabilities(&prompt);
    for (temperature, support) in [(1.0, Support::All), (2.0, Support::TopK(7)), (0.7, Support::TopP(0.8))] {
        let total = plain.iter().map(|l| (l / temperature).exp()).sum::<f64>().ln();
        let tempered: Vec<f64> = plain.iter().map(|l| l / temperature - total).collect();
        let expected = support.distribution(&tempered);
        let mut counts = [0usize; VOCAB];
        for seed in 0..draws / 64 {
            let sampler = random(temperature, support, seed as u64);
            for found in subject.sample(Strategy::Padded, &prompts, &sampler, &Limits::length(1)) {
                counts[found.tokens[0] as usize] += 1;
                assert!((found.log_probability - plain[found.tokens[0] as usize]).abs() < 1e-5);
            }
        }
        let (mut possible, n) = (0, draws as f64);
        for (id, p) in expected {
            let (found, spread) = (counts[id as usize] as f64 / n, (p * (1.0 - p) / n).sqrt());
            assert!((found - p).abs() <= 4.0 * spread + 1.0 / n, "{support:?}: {id} has {p}, came {found}");
            possible += counts[id as usize];
        }
        assert_eq!(possible, draws, "{support:?}: nothing else is ever drawn");
    }
}

#[test]
fn every_strategy_draws_the_same() {
    for subject in Subject::both() {
        let prompts = vec![vec![7, 3, 9], vec![5, 50, 2], vec![11, 60, 0]];
        for support in [Support::All, Support::TopK(5), Support::TopP(0.9)] {
            let (sampler, limits) = (random(0.9, support, 3), Limits::length(12));
            let want = subject.sample(Strategy::Naive, &prompts, &sampler, &limits);
            assert_ne!(
                want[0].tokens,
                subject.sample(Strategy::Naive, &prompts, &Sampler::Greedy, &limits)[0].tokens
            );
            for strategy in subject.strategies() {
                let got = subject.sample(strategy, &prompts, &sampler, &limits);
                for (got, want) in got.iter().zip(&want) {
                    assert_eq!(got.tokens, want.tokens, "{strategy} {support:?}");
                    assert!((got.score - want.score).abs() < 1e-4, "{strategy} {support:?}");
                }
            }
        }
    }
}

#[test]
fn a_draw_depends_on_its_seed_sentence_and_step_alone() {
    let subject = Subject::golden(ModelKind::Transformer);
    let prompts = vec![vec![7, 3, 9], vec![5, 50, 2], vec![7, 3, 9]];
    let tokens = |prompts: &[Vec<u32>], seed, limits: &Limits| -> Vec<Vec<u32>> {
        let found = subject.sample(Strategy::Concat, prompts, &random(1.5, Support::All, seed), limits);
        found.into_iter().map(|hypothesis| hypothesis.tokens).collect()
    };
    let ten = Limits::length(10);
    let all = tokens(&prompts, 1, &ten);
    assert_eq!(tokens(&prompts[..1], 1, &ten)[0], all[0], "others in the batch make no difference");
    assert_eq!(tokens(&prompts, 1, &Limits::length(6))[1], all[1][..6], "nor does what comes after");
    assert_ne!(all[0], all[2], "each sentence has draws of its own");
    assert_ne!(tokens(&prompts, 2, &ten)[0], all[0], "and each seed");
    // when the second sentence ends, the third goes on as it would have
    let eos = all[1][1];
    assert!(!all[2].contains(&eos), "the fixture holds");
    let limits = Limits { eos: vec![eos], ..ten };
    let ended = tokens(&prompts, 1, &limits);
    assert!(ended[1].len() <= 2);
    assert_eq!(ended[2], all[2]);
}

#[test]
fn limits_hold_for_samplers() {
    for subject in Subject::both() {
        let (prompts, eos) = one_ends_first(&subject);
        for sampler in [Sampler::Greedy, random(1.0, Support::TopK(3), 5)] {
            let limits = Limits { min_len: 5, eos: vec![eos], prefix: vec![1, 2], ..Limits::length(8) };
            for found in subject.sample(Strategy::Padded, &prompts, &sampler, &limits) {
                assert_eq!(found.tokens[..2], [1, 2]);
                assert!(found.tokens.len() >= 6 || !found.ended, "{found:?}");
                assert!(found.tokens.len() <= 8 && !found.tokens[..5].contains(&eos), "{found:?}");
                assert_eq!(found.ended, found.tokens.last() == Some(&eos));
            }
        }
    }
}

// ---- processors

/// What `processors` leave of the scores after some tokens, each rule as its definition says, one after the other.
fn processed(
    processors: &Processors,
    seen: &[u32],
    [generated, max_len]: [usize; 2],
    eos: &[u32],
    scores: &[f64],
) -> Vec<f64> {
    let p = processors;
    let never = f64::NEG_INFINITY;
    let n = p.no_repeat_ngram_size;
    let of_id = |(id, &score): (usize, &f64)| {
        let id = id as u32;
        let mut score = match (seen.contains(&id), score < 0.0) {
            (false, _) => score,
            (true, true) => score * p.repetition_penalty,
            (true, false) => score / p.repetition_penalty,
        };
        let next = [seen, &[id]].concat();
        let runs: Vec<&[u32]> = next.windows(n.max(1)).collect();
        if n > 0 && runs.len() > 1 && runs[..runs.len() - 1].contains(runs.last().unwrap()) {
            score = never;
        }
        let is_end = |word: &[u32]| word.len() == 1 && eos.contains(&word[0]);
        if p.bad_words.iter().any(|word| next.ends_with(word) && !is_end(word)) {
            score = never;
        }
        if seen.len() < p.min_length && eos.contains(&id) {
            score = never;
        }
        let force = |forced: bool| if forced { 0.0 } else { never };
        if let (1, Some(bos)) = (seen.len(), p.forced_bos) {
            score = force(id == bos);
        }
        if generated == max_len - 1 && !p.forced_eos.is_empty() {
            score = force(p.forced_eos.contains(&id));
        }
        let begins = usize::from(seen.len() - generated == 1 && p.forced_bos.is_some());
        let begin = generated == begins && p.begin_suppress.contains(&id);
        if p.suppress.contains(&id) || begin {
            score = never;
        }
        score
    };
    scores.iter().enumerate().map(of_id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Greedy choices and, with a support of one, drawn ones, by every strategy, are the largest of scores that are
    /// computed from nothing.
    #[test]
    fn choices_are_the_largest_of_what_the_processors_leave(
        kind in prop::sample::select(golden_kinds()),
        prompts in prop::collection::vec(prop::collection::vec(0u32..41, 1..5), 1..3),
        max_len in 1usize..8,
        end_ranks in prop::collection::btree_set(0usize..5, 0..3),
        repetition_penalty in prop::sample::select(vec![1.0, 0.6, 1.5, 3.0]),
        no_repeat_ngram_size in 0usize..4,
        ranks in prop::collection::vec(0usize..6, 6),
        min_length in 0usize..8,
        forced_bos in prop::option::weighted(0.3, 0u32..41),
        forced_eos in prop::collection::vec(0u32..41, 0..3),
        parts in prop::collection::vec(proptest::bool::ANY, 4),
        temperature in prop::sample::select(vec![1.0, 0.3, 5.0, 1e-300]),
    ) {
        let subject = Subject::golden(kind);
        let likely = ranked(&subject.log_probabilities(&prompts[0]));
        let pick = |ranks: &[usize], wanted: bool| -> Vec<u32> {
            ranks.iter().filter(|_| wanted).map(|&rank| likely[rank]).collect()
        };
        let eos: Vec<u32> = end_ranks.into_iter().map(|rank| likely[rank]).collect();
        let single = pick(&ranks[..1], parts[0]);
        let processors = Processors {
            repetition_penalty, no_repeat_ngram_size, min_length, forced_bos,
            bad_words: [single, pick(&ranks[1..3], parts[1])].into_iter().filter(|word| !word.is_empty()).collect(),
            suppress: pick(&ranks[3..5], parts[2]),
            begin_suppress: pick(&ranks[5..], parts[3]),
            forced_eos: if ranks[0] < 2 { forced_eos } else { vec![] },
            renormalize: false,
        };
        let limits = Limits { eos: eos.clone(), processors: processors.clone(), ..Limits::length(max_len) };
        let mut want = Vec::new();
        for prompt in &prompts {
            let mut tokens: Vec<u32> = Vec::new();
            while tokens.len() < max_len && !tokens.last().is_some_and(|last| eos.contains(last)) {
                let seen = [prompt.as_slice(), &tokens].concat();
                let (_, logits) = subject.prompted(Strategy::Naive, std::slice::from_ref(&seen));
                let logits: Vec<f64> = subject.b.download(&logits).unwrap().into_iter().map(f64::from).collect();
                let scores = processed(&processors, &seen, [tokens.len(), max_len], &eos, &logits);
                let order = ranked(&scores);
                let [best, second] = [0, 1].map(|rank| scores[order[rank] as usize]);
                prop_assume!(best.is_finite() && (best - second > CLOSE || (best == second && best == 0.0)));
                tokens.push(scores.iter().position(|&score| score == best).unwrap() as u32);
            }
            want.push(tokens);
        }
        let likeliest = random(temperature, Support::TopK(1), 1);
        for strategy in subject.strategies() {
            for sampler in [Sampler::Greedy, likeliest] {
                let got = subject.sample(strategy, &prompts, &sampler, &limits);
                let got: Vec<_> = got.into_iter().map(|found| found.tokens).collect();
                prop_assert_eq!(&got, &want, "{} {:?} {:?}", strategy, sampler, limits);
            }
        }
    }
}

#[test]
fn where_everything_is_banned_nothing_is_chosen() {
    let subject = Subject::golden(ModelKind::Transformer);
    let processors = Processors { suppress: (0..VOCAB as u32).collect(), ..Processors::default() };
    let limits = Limits { processors, ..Limits::length(3) };
    let decoder = || subject.decoder(Strategy::Concat, &[vec![1, 2]]);
    let named = ["after 0 generated tokens", "banned"];
    refused(sample(&mut decoder(), &Sampler::Greedy, &limits, |_| Ok(())), &named);
    refused(sample(&mut decoder(), &random(1.0, Support::All, 1), &limits, |_| Ok(())), &named);
    for rule in [BeamRule::Fairseq, BeamRule::Flax] {
        refused(search(&mut decoder(), &Beam { width: 2, length_penalty: 1.0, rule }, &limits), &named);
    }
}

/// Logits over a small temperature are infinite, their differences no worse than that.
#[test]
fn the_limits_of_temperature_are_greedy_and_even() {
    let subject = Subject::golden(ModelKind::Transformer);
    let prompts = vec![vec![7, 3, 9], vec![5, 50, 2]];
    let ten = Limits::length(10);
    let greedy = subject.sample(Strategy::Padded, &prompts, &Sampler::Greedy, &ten);
    for temperature in [5e-324, 1e-320, 1e-308, 1e-30, 1e-6] {
        for support in [Support::All, Support::TopK(5), Support::TopP(0.9), Support::TopP(5e-324)] {
            let drawn = subject.sample(Strategy::Padded, &prompts, &random(temperature, support, 1), &ten);
            for (drawn, greedy) in drawn.iter().zip(&greedy) {
                assert_eq!(drawn.tokens, greedy.tokens, "{temperature} {support:?}");
                assert!((drawn.log_probability - greedy.log_probability).abs() < 1e-9);
            }
        }
    }
    let even = subject.decoder(Strategy::Padded, &prompts).log_probabilities(f64::MAX);
    assert!(even.iter().flatten().all(|l| (l + (VOCAB as f64).ln()).abs() < 1e-9));
}

// ---- ensembles

#[test]
fn a_model_agrees_with_itself() {
    for subject in Subject::both() {
        let prompts = vec![vec![7, 3, 9], vec![5, 50, 2]];
        let decoder = |members: usize| {
            let member = |i| subject.prompted([Strategy::Padded, Strategy::Concat][i % 2], &prompts);
            Decoder::new(&subject.b, (0..members).map(member).collect()).unwrap()
        };
        let beam = Beam { width: 3, length_penalty: 0.6, rule: BeamRule::Fairseq };
        let alone = search(&mut decoder(1), &beam, &Limits::length(8)).unwrap();
        let thrice = search(&mut decoder(3), &beam, &Limits::length(8)).unwrap();
        for (alone, thrice) in alone.iter().flatten().zip(thrice.iter().flatten()) {
            assert_eq!(alone.tokens, thrice.tokens);
            assert!((alone.score - thrice.score).abs() < 1e-4);
        }
    }
}

#[test]
fn an_ensemble_has_the_mean_of_its_members_probabilities() {
    let b = Cpu::new(1).unwrap();
    let config = Config::named(ModelKind::LinearizedConv, ShapeName::Tiny).unwrap();
    let load = |seed| AnyModel::load(&b, &config, &Weights::seeded(seed)).unwrap();
    let models = [1, 2, 3].map(load);
    let member = |model| {
        let mut session = Session::open(&b, model, Strategy::Padded, 2, CAPACITY).unwrap();
        let logits = session.feed(&Tokens(vec![vec![1, 2], vec![3, 4]])).unwrap();
        (session, logits)
    };
    for temperature in [1.0, 0.5] {
        let together = Decoder::new(&b, models.iter().map(member).collect()).unwrap();
        let alone: Vec<Vec<Vec<f64>>> = models
            .iter()
            .map(|model| Decoder::new(&b, vec![member(model)]).unwrap().log_probabilities(temperature))
            .collect();
        for (entry, row) in together.log_probabilities(temperature).iter().enumerate() {
            for (id, l) in row.iter().enumerate() {
                let mean = alone.iter().map(|rows| rows[entry][id].exp()).sum::<f64>() / 3.0;
                assert!((l.exp() - mean).abs() < 1e-12, "entry {entry}, id {id}");
            }
            assert!((row.iter().map(|l| l.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn what_cannot_vote_together_is_named() {
    let [transformer, conv] = Subject::both();
    let b = &transformer.b;
    let config = Config::named(ModelKind::Transformer, ShapeName::Tiny).unwrap();
    let other = AnyModel::load(b, &config, &Weights::seeded(1)).unwrap();
    let mut session = Session::open(b, &other, Strategy::Padded, 1, CAPACITY).unwrap();
    let logits = session.feed(&Tokens(vec![vec![1]])).unwrap();
    let one = transformer.prompted(Strategy::Padded, &[vec![1]]);
    refused(Decoder::new(b, vec![one, (session, logits)]), &["vocabulary", "61", "97"]);
    let one = conv.prompted(Strategy::Padded, &[vec![1]]);
    let two = conv.prompted(Strategy::Padded, &[vec![1], vec![2]]);
    refused(Decoder::new(&conv.b, vec![one, two]), &["same sentences", "1", "2"]);
    refused(Decoder::<Cpu, AnyModel<Cpu>>::new(b, vec![]), &["at least one model"]);
}

// ---- what makes no sense

#[test]
fn limits_samplers_and_beams_that_make_no_sense_are_refused() {
    let good = Limits { min_len: 1, eos: vec![3], prefix: vec![1], ..Limits::length(5) };
    good.check(VOCAB).unwrap();
    for (limits, named) in [
        (Limits { max_len: 0, min_len: 0, ..good.clone() }, "0 tokens"),
        (Limits { min_len: 6, ..good.clone() }, "after 6 tokens, and at most 5"),
        (Limits { eos: vec![3, 61], ..good.clone() }, "end token 61 is outside the vocabulary of 61"),
        (Limits { prefix: vec![1, 99], ..good.clone() }, "token 99 of the prefix"),
        (Limits { prefix: vec![1, 3], ..good.clone() }, "holds the end token 3"),
        (Limits { prefix: vec![1; 6], ..good.clone() }, "a prefix of 6 tokens, and at most 5"),
    ] {
        refused(limits.check(VOCAB), &[named]);
    }
    for (sampler, named) in [
        (random(0.0, Support::All, 1), "temperature of 0"),
        (random(-1.0, Support::All, 1), "temperature of -1"),
        (random(f64::NAN, Support::All, 1), "temperature of NaN"),
        (random(f64::INFINITY, Support::All, 1), "temperature of inf"),
        (random(1.0, Support::TopK(0), 1), "likeliest 0"),
        (random(1.0, Support::TopP(0.0), 1), "probability 0"),
        (random(1.0, Support::TopP(1.1), 1), "probability 1.1"),
        (random(1.0, Support::TopP(f64::NAN), 1), "probability NaN"),
    ] {
        refused(sampler.check(), &[named]);
    }
    let beam = Beam { width: 2, length_penalty: 1.0, rule: BeamRule::Flax };
    for (beam, named) in [
        (Beam { width: 0, ..beam }, "0 hypotheses"),
        (Beam { width: 62, ..beam }, "62 hypotheses is wider than the vocabulary of 61"),
        (Beam { length_penalty: f64::NAN, ..beam }, "NaN"),
        (Beam { length_penalty: -1e300, ..beam }, "-1e300"),
        (Beam { length_penalty: 1e300, ..beam }, "divides the score of 9 tokens by inf"),
        (Beam { length_penalty: 1e3, rule: BeamRule::Fairseq, ..beam }, "nearer to 0"),
    ] {
        refused(beam.check(VOCAB, 9), &[named]);
    }
    // of one token every score is over 1
    Beam { length_penalty: -1e300, ..beam }.check(VOCAB, 1).unwrap();
    for (processors, named) in [
        (Processors { repetition_penalty: 0.0, ..Processors::default() }, "repetition penalty of 0"),
        (Processors { repetition_penalty: 1e300, ..Processors::default() }, "from 1e-6 to 1e6"),
        (Processors { bad_words: vec![vec![1], vec![2, 61]], ..Processors::default() }, "token 61"),
        (Processors { forced_eos: vec![61], ..Processors::default() }, "token 61"),
    ] {
        refused(Limits { processors, ..Limits::length(3) }.check(VOCAB), &[named]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Any f64 whatsoever.
    #[test]
    fn numbers_that_are_not_refused_give_scores_that_are_numbers(
        bits in prop::collection::vec(proptest::num::f64::ANY, 3),
        scale in prop::option::of(-3i32..3),
        whole in prop::collection::vec(0usize..70, 3),
        rule in prop::sample::select(vec![
            BeamRule::Flax, BeamRule::Fairseq, BeamRule::Transformers, BeamRule::TransformersNever,
        ]),
        eos in prop::collection::vec(0u32..61, 0..3),
    ) {
        let subject = Subject::golden(ModelKind::Transformer);
        // half of them of a usual size
        let number = |at: usize| scale.map_or(bits[at], |scale: i32| bits[at] % 1.0 * 10f64.powi(scale));
        let limits = Limits {
            eos,
            processors: Processors { repetition_penalty: number(0), ..Processors::default() },
            ..Limits::length(whole[0] % 6)
        };
        let beam = Beam { width: whole[1], length_penalty: number(1), rule };
        let decoder = || subject.decoder(Strategy::Padded, &[vec![1, 2, 3]]);
        if let Ok(found) = search(&mut decoder(), &beam, &limits) {
            prop_assert!(found.iter().flatten().all(|found| found.score.is_finite()), "{:?} {:?}", beam, found);
        }
        for support in [Support::All, Support::TopK(whole[2]), Support::TopP(number(2))] {
            if let Ok(found) = sample(&mut decoder(), &random(number(1), support, 1), &limits, |_| Ok(())) {
                prop_assert!(found.iter().all(|found| found.score.is_finite()), "{:?} {:?}", support, found);
            }
        }
    }
}

// ---- text

#[test]
fn text_is_tokens_and_tokens_are_text() {
    let folder = common::root().join("tests/text");
    let text = Text::open(&folder.join("tokenizer.json")).unwrap();
    // pieces as the file's merges put them together: the| cat| sat| on| the| mat|.
    let tokens = [30, 40, 42, 49, 43, 48, 28];
    let encoded = text.encode("the cat sat on the mat.").unwrap();
    assert_eq!((encoded.tokens.as_slice(), encoded.notes.len()), (tokens.as_slice(), 0));
    assert_eq!(text.decode(&tokens).unwrap(), "the cat sat on the mat.");
    assert_eq!(text.decode(&[30, 0]).unwrap(), "the", "special tokens are not text");
    for (prompt, new) in (0..tokens.len()).map(|at| tokens.split_at(at)) {
        let both = text.decode(prompt).unwrap() + &text.continuation(prompt, new).unwrap();
        assert_eq!(both, "the cat sat on the mat.");
    }
    refused(text.encode(""), &["tokenizer.json", "no tokens"]);
    // its vocabulary has neither digits nor capitals
    let [note] = &text.encode("the Cat 9 sat").unwrap().notes[..] else { panic!("one note") };
    assert!(note.contains("2 of the text's 10 letters"), "{note}");
    refused(Text::open(&folder.join("none.json")), &["none.json"]);
    refused(Text::open(&folder), &["tests/text"]);
    refused(Text::open(Path::new(file!())), &["decoding.rs"]);
}
