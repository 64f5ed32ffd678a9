//! The laws that every model obeys under every strategy.

use std::rc::Rc;

use proptest::prelude::{prop, proptest, ProptestConfig};
use sha2::{Digest, Sha256};

use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::{Activation, Tokens};
use crate::layer::position::{RopeScaling, Sinusoid};
use crate::session::Session;
use crate::strategy::{CacheConfig, Strategy};

/// Positions in the laws: more than one chunk, more than two windows.
const LENGTH: usize = 20;

/// Sums of f32 in another order: a few units in the last place of the largest logit, which is
/// below 4, through a few layers.
const TOLERANCE: f32 = 2e-5;

fn odd_configs() -> Vec<Config> {
    vec![
        Config::named(ModelKind::Transformer, ShapeName::Tiny).unwrap(),
        Config::Transformer(TransformerConfig {
            layers: 1,
            width: 15,
            heads: 3,
            hidden: 22,
            vocab: 19,
            positions: LENGTH,
            ..TransformerConfig::default()
        }),
        Config::Transformer(TransformerConfig {
            layers: 2,
            width: 12,
            heads: 2,
            hidden: 7,
            vocab: 19,
            positions: LENGTH,
            eps: 1e-3,
            activation: Activation::GeluErf,
            scaled: false,
            scaled_by_layer: true,
            tied: false,
        }),
        Config::named(ModelKind::LinearizedConv, ShapeName::Tiny).unwrap(),
        Config::LinearizedConv(ConvConfig { layers: 3, channels: 7, taps: 5, embed: 3, vocab: 19 }),
        Config::LinearizedConv(ConvConfig { layers: 2, channels: 6, taps: 1, embed: 5, vocab: 19 }),
        Config::named(ModelKind::Llama, ShapeName::Tiny).unwrap(),
        Config::Llama(odd_llama(None)),
        Config::Llama(odd_llama(Some(4))),
        Config::Llama(LlamaConfig {
            head_norms: true,
            full_layers: vec![1],
            fused: true,
            ..odd_llama(Some(3))
        }),
        Config::named(ModelKind::Retention, ShapeName::Tiny).unwrap(),
        Config::Retention(RetentionConfig { layers: 1, width: 15, heads: 3, hidden: 7, vocab: 19 }),
        Config::named(ModelKind::EncoderDecoder, ShapeName::Tiny).unwrap(),
        Config::EncoderDecoder(EncoderDecoderConfig {
            encoder_layers: 1,
            decoder_layers: 2,
            width: 18,
            encoder_heads: 2,
            decoder_heads: 3,
            encoder_hidden: 11,
            decoder_hidden: 13,
            vocab: 19,
            positions: LENGTH,
            activation: Activation::Silu,
            norm_first: false,
            sinusoid: Sinusoid::Paper,
            scaled: true,
            logits_bias: true,
            start: 3,
        }),
        Config::named(ModelKind::ConvSeq2Seq, ShapeName::Tiny).unwrap(),
        Config::ConvSeq2Seq(ConvSeq2SeqConfig {
            channels: 7,
            encoder_taps: vec![2, 5],
            decoder_taps: vec![4, 1],
            embed: 5,
            out_embed: 3,
            vocab: 19,
            table: LENGTH + 4,
            padding: 3,
        }),
    ]
}

/// Three heads that share the keys of one, in a width that none of this divides; every option used.
fn odd_llama(window: Option<usize>) -> LlamaConfig {
    LlamaConfig {
        layers: 2,
        width: 15,
        heads: 3,
        kv_heads: 1,
        size: 6,
        hidden: 11,
        vocab: 19,
        positions: LENGTH,
        eps: 1e-3,
        theta: 100.0,
        rope_scaling: RopeScaling::Linear { factor: 2.5 },
        tied: false,
        attention_bias: true,
        out_bias: true,
        mlp_bias: true,
        head_norms: false,
        fused: false,
        window,
        full_layers: Vec::new(),
    }
}

/// What is not in the list is not tested.
pub(crate) fn every_model_is_among(configs: &[Config]) {
    let kinds: Vec<ModelKind> = configs.iter().map(Config::kind).collect();
    for model in ModelKind::ALL {
        assert!(kinds.contains(model), "no configuration of {model}");
    }
}

#[test]
fn every_model_has_odd_sizes() {
    every_model_is_among(&odd_configs());
}

/// Those that have a form for everything that the model remembers.
fn strategies(config: &Config) -> Vec<Strategy> {
    let all = Strategy::examples().iter().copied().chain([1, 3, LENGTH].map(Strategy::Chunked));
    let slots = load(&Cpu::new(1).unwrap(), config).slots();
    let fits = |s: &Strategy| slots.iter().all(|slot| slot.fits(*s));
    let makes_sense = |s: &Strategy| *s != Strategy::Reprojected || config.kind().projects_a_source();
    all.filter(|s| fits(s) && makes_sense(s)).collect()
}

/// The same with caches of a type, where there are such.
fn caches(config: &Config, dtype: Dtype) -> Vec<CacheConfig> {
    let slots = load(&Cpu::new(1).unwrap(), config).slots();
    let caches = strategies(config).into_iter().map(|strategy| CacheConfig { strategy, dtype });
    caches.filter(|cache| cache.check(&slots).is_ok()).collect()
}

pub(crate) fn load<B: Backend>(b: &B, config: &Config) -> AnyModel<B> {
    load_as(b, config, Dtype::F32)
}

fn load_as<B: Backend>(b: &B, config: &Config, dtype: Dtype) -> AnyModel<B> {
    AnyModel::load(b, config, &Weights::seeded(7).kept_as(dtype)).unwrap()
}

/// In f32, and in the type whose rows have parts of two kinds.
fn cached(config: &Config) -> Vec<(Dtype, CacheConfig)> {
    let of = |dtype| caches(config, dtype).into_iter().map(move |cache| (dtype, cache));
    [Dtype::F32, Dtype::Int8].into_iter().flat_map(of).collect()
}

/// Ids that look like nothing in particular.
fn text(batch: usize, vocab: usize, salt: usize) -> Tokens {
    let id = |b: usize, i: usize| ((7 * i + 5 * b + i * i + 31 * salt) % vocab) as u32;
    Tokens((0..batch).map(|b| (0..LENGTH).map(|i| id(b, i)).collect()).collect())
}

pub(crate) fn slice(text: &Tokens, range: std::ops::Range<usize>) -> Tokens {
    Tokens(text.0.iter().map(|sentence| sentence[range.clone()].to_vec()).collect())
}

/// An empty session for sentences that begin as these do: what they are decoded from, where there is
/// something, follows from their first tokens, so that it moves with them. Sources are of several lengths.
pub(crate) fn open<'a, B: Backend>(
    b: &'a B,
    model: &'a AnyModel<B>,
    config: impl Into<CacheConfig>,
    text: &Tokens,
    capacity: usize,
) -> Session<'a, B, AnyModel<B>> {
    let config = config.into();
    Session::from_source(b, model, config, &sources(text, model.vocab()), 1, capacity)
        .or_else(|_| Session::open(b, model, config, text.0.len(), capacity)) // a prompt alone
        .unwrap()
}

fn sources(text: &Tokens, vocab: usize) -> Tokens {
    let of =
        |first: usize| (0..2 + first % 5).map(|i| ((3 * i + 7 * first + i * i) % vocab) as u32).collect();
    Tokens(text.0.iter().map(|sentence| of(sentence[0] as usize)).collect())
}

fn feed(session: &mut Session<'_, Cpu, AnyModel<Cpu>>, b: &Cpu, tokens: &Tokens) -> Vec<f32> {
    b.download(&session.feed(tokens).unwrap()).unwrap()
}

/// Logits after the last token, recomputed from nothing.
fn forward(b: &Cpu, model: &AnyModel<Cpu>, text: &Tokens) -> Vec<f32> {
    forward_as(b, model, Dtype::F32, text)
}

/// The same with rows rounded as a cache of this type would round them.
fn forward_as(b: &Cpu, model: &AnyModel<Cpu>, dtype: Dtype, text: &Tokens) -> Vec<f32> {
    let config = CacheConfig { strategy: Strategy::Naive, dtype };
    let dtype = if config.check(&model.slots()).is_ok() { dtype } else { Dtype::F32 };
    let mut session = open(b, model, CacheConfig { dtype, ..config }, text, LENGTH);
    feed(&mut session, b, text)
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_close_as(Dtype::F32, got, want, what);
}

/// Rows computed in another order of sums may lie on the other side of where two numbers of the cache meet: then one
/// number differs by a unit in its last place, which narrow layers carry on: in a convolution it is one of the
/// numbers that all later layers add to. That the strategies do the same is held to [`TOLERANCE`] in f32.
fn assert_close_as(dtype: Dtype, got: &[f32], want: &[f32], what: &str) {
    let tolerance = TOLERANCE + 8.0 * dtype.unit();
    assert_eq!(got.len(), want.len(), "{what}");
    let differences =
        got.iter().zip(want).map(|(g, w)| if g.is_nan() { f32::INFINITY } else { (g - w).abs() });
    let (place, size) =
        differences.enumerate().fold((0, 0.0), |worst, next| if next.1 > worst.1 { next } else { worst });
    assert!(size <= tolerance, "{what}: logit {place} is {} and should be {}", got[place], want[place]);
}

/// The runs under `results/` are of these numbers: of every model the first bytes of the SHA-256 of its tensors,
/// in the order of their names.
#[test]
fn seeded_weights_stay_as_they_are() {
    let hash = |model: ModelKind| {
        let mut parameters = Config::named(model, ShapeName::Tiny).unwrap().parameters();
        parameters.sort_by(|a, b| a.name().cmp(b.name()));
        let mut hash = Sha256::new();
        for parameter in parameters {
            let numbers = Weights::seeded(42).get(&parameter).unwrap().into_owned();
            numbers.iter().for_each(|x| hash.update(x.to_le_bytes()));
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for &model in ModelKind::ALL {
        let want = match model {
            ModelKind::Transformer => "607616dbaa5e1c90",
            ModelKind::LinearizedConv => "1bbff72c8ae76f73",
            ModelKind::Llama => "231a645677450b67",
            ModelKind::Retention => "206112add68b92d1",
            ModelKind::EncoderDecoder => "14feebb692e9dc0b",
            ModelKind::ConvSeq2Seq => "c577c3a2b619f3ed",
        };
        assert_eq!(hash(model), want, "{model}");
    }
}

/// Tensors are listed without a number of theirs: those of this model would be 4 TB each.
#[test]
fn a_list_of_tensors_needs_no_memory_for_them() {
    let (width, positions) = (1 << 20, 1 << 20);
    let (gpt2, one) = (TransformerConfig::default(), 1);
    let config =
        TransformerConfig { layers: 2, width, heads: one, hidden: one, vocab: one, positions, ..gpt2 };
    let parameters = Config::Transformer(config).parameters();
    assert_eq!(parameters.len(), 2 + 2 * 12 + 2);
    assert_eq!(parameters[0].shape, [positions, width]);
}

#[test]
fn a_model_asks_for_each_tensor_once() {
    for config in odd_configs() {
        let mut names: Vec<String> = config.parameters().into_iter().map(|p| p.name().to_string()).collect();
        let asked = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), asked, "{config:?}");
    }
}

/// Bit for bit: what is widened in registers is the number that was rounded, and sums are of the same order.
#[test]
fn weights_of_half_precision_give_the_logits_of_the_rounded_ones() {
    let b = Cpu::new(1).unwrap();
    for config in odd_configs() {
        let text = text(1, config.vocab(), 3);
        let logits = |model: &AnyModel<Cpu>| {
            let mut session = open(&b, model, Strategy::Padded, &text, LENGTH);
            let mut logits = feed(&mut session, &b, &slice(&text, 0..9));
            logits.extend(feed(&mut session, &b, &slice(&text, 9..10)));
            logits
        };
        let f32s = logits(&load(&b, &config));
        for (dtype, most) in [(Dtype::Bf16, 0.05), (Dtype::F16, 0.005)] {
            let kept = logits(&load_as(&b, &config, dtype));
            assert_eq!(kept, logits(&load_rounded(&b, &config, dtype)), "{config:?} {dtype}");
            let difference = kept.iter().zip(&f32s).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference > 0.0 && difference < most, "{config:?} {dtype}: {difference}");
        }
    }
}

/// The same weights from a file whose matrices and tables are rounded to a type before they are written as f32.
fn load_rounded(b: &Cpu, config: &Config, dtype: Dtype) -> AnyModel<Cpu> {
    let folder = tempfile::tempdir().unwrap();
    checkpoint::write(config, &Weights::seeded(7), folder.path()).unwrap();
    let path = folder.path().join(checkpoint::MODEL_FILE);
    let bytes = std::fs::read(&path).unwrap();
    let rounded = |x: f32| match dtype {
        Dtype::F32 => x,
        Dtype::Bf16 => half::bf16::from_f32(x).to_f32(),
        Dtype::F16 => half::f16::from_f32(x).to_f32(),
        Dtype::Int8 => unreachable!("no weights are int8"),
    };
    let tensor = |view: &safetensors::tensor::TensorView<'_>| {
        let matrix = view.shape().iter().rev().skip(1).product::<usize>() > 1;
        let numbers = view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
        let kept = |x: f32| if matrix { rounded(x) } else { x };
        numbers.flat_map(|x| kept(x).to_le_bytes()).collect::<Vec<u8>>()
    };
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> =
        file.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec(), tensor(&view))).collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let weights = Weights::stored(tensor_files::TensorFiles::single(path, config.prefix()).unwrap());
    AnyModel::load(b, config, &weights).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any split of a sequence into pieces, of one token or of several, gives the logits of the
    /// full forward pass at the end of every piece.
    #[test]
    fn models_obey_the_caching_law(pieces in prop::collection::vec(1usize..6, 1..LENGTH), batch in 1usize..4, salt in 0usize..99, weights in prop::sample::select(&Dtype::WEIGHTS), dtype in prop::sample::select(Dtype::ALL)) {
        let b = Cpu::new(1).unwrap();
        let so_far = |at: &mut usize, piece: &usize| {
            *at = LENGTH.min(*at + piece);
            Some(*at)
        };
        let mut ends: Vec<usize> = pieces.iter().scan(0, so_far).collect();
        ends.dedup();
        for config in odd_configs() {
            let (model, text) = (load_as(&b, &config, weights), text(batch, config.vocab(), salt));
            let want: Vec<Vec<f32>> =
                ends.iter().map(|&end| forward_as(&b, &model, dtype, &slice(&text, 0..end))).collect();
            for strategy in caches(&config, dtype) {
                let mut session = open(&b, &model, strategy, &text, LENGTH);
                let mut at = 0;
                for (&end, want) in ends.iter().zip(&want) {
                    let got = feed(&mut session, &b, &slice(&text, at..end));
                    assert_close_as(dtype, &got, want, &format!("{config:?} {weights} {strategy} batch {batch} pieces {pieces:?} at {end}"));
                    at = end;
                }
            }
        }
    }

    /// Threads divide the work and change nothing else.
    #[test]
    fn threads_do_not_change_the_logits(threads in 2usize..5, salt in 0usize..99) {
        let (one, many) = (Cpu::new(1).unwrap(), Cpu::new(threads).unwrap());
        for config in odd_configs() {
            let text = text(2, config.vocab(), salt);
            let got = forward(&many, &load(&many, &config), &text);
            assert_close(&got, &forward(&one, &load(&one, &config), &text), &format!("{config:?} on {threads} threads"));
        }
    }
}

#[test]
fn after_a_reorder_stepping_equals_recomputing_the_reordered_prefixes() {
    let b = Cpu::new(2).unwrap();
    for config in odd_configs() {
        let (model, text) = (load(&b, &config), text(3, config.vocab(), 1));
        for order in [vec![2, 0, 0], vec![1], vec![0, 1, 2, 2, 1]] {
            let beams = Tokens(order.iter().map(|&beam| text.0[beam].clone()).collect());
            for (dtype, strategy) in cached(&config) {
                let want: Vec<Vec<f32>> =
                    (8..12).map(|end| forward_as(&b, &model, dtype, &slice(&beams, 0..end))).collect();
                let mut session = open(&b, &model, strategy, &text, LENGTH);
                feed(&mut session, &b, &slice(&text, 0..6));
                feed(&mut session, &b, &slice(&text, 6..7));
                session.reorder(&order).unwrap();
                for (end, want) in (8..12).zip(&want) {
                    let got = feed(&mut session, &b, &slice(&beams, end - 1..end));
                    assert_close_as(
                        dtype,
                        &got,
                        want,
                        &format!("{config:?} {strategy} order {order:?} at {end}"),
                    );
                }
            }
        }
    }
}

/// Masking selects, it does not add: neither a huge number nor NaN in an unwritten row can be seen.
#[test]
fn unwritten_rows_cannot_matter() {
    let b = Cpu::new(2).unwrap();
    for config in odd_configs() {
        let (model, text) = (load(&b, &config), text(2, config.vocab(), 6));
        for ((dtype, strategy), poison) in
            cached(&config).into_iter().flat_map(|cache| [1e30, f32::NAN].map(|poison| (cache, poison)))
        {
            let want = forward_as(&b, &model, dtype, &slice(&text, 0..9));
            for prefill in [1, 4] {
                let mut session = open(&b, &model, strategy, &text, LENGTH);
                session.cache_mut().poison(poison);
                let mut got = feed(&mut session, &b, &slice(&text, 0..prefill));
                for end in prefill + 1..=9 {
                    got = feed(&mut session, &b, &slice(&text, end - 1..end));
                }
                assert_close_as(dtype, &got, &want, &format!("{config:?} {strategy} poisoned with {poison}"));
            }
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let b = Cpu::new(1).unwrap();
    for config in odd_configs() {
        let (model, text) = (load(&b, &config), text(2, config.vocab(), 2));
        for strategy in strategies(&config) {
            let mut prefilled = open(&b, &model, strategy, &text, LENGTH);
            feed(&mut prefilled, &b, &slice(&text, 0..5));
            let mut fork = prefilled.fork().unwrap();
            let other = Tokens(vec![vec![3; 4]; 2]);
            feed(&mut fork, &b, &other);
            let got = feed(&mut prefilled, &b, &slice(&text, 5..6));
            assert_close(
                &got,
                &forward(&b, &model, &slice(&text, 0..6)),
                &format!("{config:?} {strategy} trunk"),
            );
            let mut beside = slice(&text, 0..5);
            beside.0.iter_mut().for_each(|sentence| sentence.extend([3, 3, 3, 3, 9]));
            let got = feed(&mut fork, &b, &Tokens(vec![vec![9]; 2]));
            assert_close(&got, &forward(&b, &model, &beside), &format!("{config:?} {strategy} fork"));
        }
    }
}

#[test]
fn logits_do_not_see_the_future() {
    let b = Cpu::new(1).unwrap();
    for config in odd_configs() {
        let (model, text) = (load(&b, &config), text(1, config.vocab(), 3));
        let mut other = text.clone();
        other.0[0][6] = (other.0[0][6] + 1) % config.vocab() as u32;
        for end in 1..=6 {
            let (got, want) =
                (forward(&b, &model, &slice(&text, 0..end)), forward(&b, &model, &slice(&other, 0..end)));
            assert_eq!(got, want, "{config:?}: position {end} saw token 7");
        }
        assert_ne!(
            forward(&b, &model, &slice(&text, 0..7)),
            forward(&b, &model, &slice(&other, 0..7)),
            "{config:?}"
        );
    }
}

/// Each entry of a batch is a sentence of its own.
#[test]
fn a_batch_is_its_sentences() {
    let b = Cpu::new(2).unwrap();
    for config in odd_configs() {
        let (model, text) = (load(&b, &config), text(3, config.vocab(), 4));
        let alone = |s: &Vec<u32>| forward(&b, &model, &Tokens(vec![s[..8].to_vec()]));
        let want: Vec<f32> = text.0.iter().flat_map(alone).collect();
        for strategy in strategies(&config) {
            let mut together = open(&b, &model, strategy, &text, LENGTH);
            feed(&mut together, &b, &slice(&text, 0..7));
            let got = feed(&mut together, &b, &slice(&text, 7..8));
            assert_close(&got, &want, &format!("{config:?} {strategy}"));
        }
    }
}

/// Sentences of several lengths in one batch give what each gives alone, after the prompt and after steps,
/// also when the batch has changed in between.
#[test]
fn a_ragged_batch_is_its_sentences() {
    let b = Cpu::new(2).unwrap();
    let left_padding = [0, 6, 3, 8];
    for config in odd_configs() {
        let (model, text) = (load(&b, &config), text(left_padding.len(), config.vocab(), 8));
        let alone = |entry: usize, end: usize| {
            forward(&b, &model, &Tokens(vec![text.0[entry][left_padding[entry]..end].to_vec()]))
        };
        let feeds = |entries: &[usize], from: usize, end: usize| {
            Tokens(entries.iter().map(|&e| text.0[e][from.max(left_padding[e])..end].to_vec()).collect())
        };
        for strategy in strategies(&config) {
            let mut session = open(&b, &model, strategy, &feeds(&[0, 1, 2, 3], 0, 9), LENGTH);
            let mut entries = vec![0, 1, 2, 3];
            session.feed(&feeds(&entries, 0, 9)).unwrap();
            for end in 10..15 {
                if end == 12 {
                    session.reorder(&[3, 1, 1]).unwrap();
                    entries = vec![3, 1, 1];
                }
                let got = feed(&mut session, &b, &feeds(&entries, end - 1, end));
                let want: Vec<f32> = entries.iter().flat_map(|&entry| alone(entry, end)).collect();
                assert_close(&got, &want, &format!("{config:?} {strategy} ragged at {end}"));
            }
        }
    }
}

/// Beams of one sentence share its source, whose rows move only when a sentence leaves the batch.
#[test]
fn beams_share_their_source() {
    let b = Cpu::new(2).unwrap();
    for config in odd_configs().into_iter().filter(|config| config.kind().has_source()) {
        let (model, text) = (load(&b, &config), text(2, config.vocab(), 9));
        for strategy in strategies(&config) {
            let sources = sources(&text, config.vocab());
            let mut session = Session::from_source(&b, &model, strategy, &sources, 3, LENGTH).unwrap();
            let source =
                |session: &Session<'_, Cpu, AnyModel<Cpu>>| session.cache().encoder_output().unwrap().clone();
            let first = source(&session);
            let begins = Tokens((0..6).map(|entry| text.0[entry / 3][..1].to_vec()).collect());
            feed(&mut session, &b, &begins);
            session.reorder(&[1, 0, 0, 5, 3, 3]).unwrap();
            assert!(Rc::ptr_eq(&first, &source(&session)), "{strategy}: no sentence left");
            // six beams of other tokens each
            let second: Vec<u32> = (0..6).map(|beam| (beam % config.vocab()) as u32).collect();
            let got = feed(&mut session, &b, &Tokens(second.iter().map(|&token| vec![token]).collect()));
            let whole = |beam: usize| Tokens(vec![vec![text.0[beam / 3][0], second[beam]]]);
            let want: Vec<f32> = (0..6).flat_map(|beam| forward(&b, &model, &whole(beam))).collect();
            assert_close(&got, &want, &format!("{config:?} {strategy} six beams"));
            // the sentences have three beams and two, then two each
            session.reorder(&[0, 1, 2, 4, 5]).unwrap();
            assert_eq!(source(&session).call.batch, 5, "{strategy}");
            session.reorder(&[1, 2, 3, 4]).unwrap();
            assert_eq!(source(&session).call.batch, 2, "{strategy}");
            let got = feed(&mut session, &b, &Tokens(vec![vec![4]; 4]));
            let whole = |beam: usize| Tokens(vec![vec![text.0[beam / 3][0], second[beam], 4]]);
            let want: Vec<f32> =
                [1, 2, 4, 5].iter().flat_map(|&beam| forward(&b, &model, &whole(beam))).collect();
            assert_close(&got, &want, &format!("{config:?} {strategy} four beams"));
            // the first sentence has ended
            session.reorder(&[3, 2, 3]).unwrap();
            assert_eq!(source(&session).call.batch, 1, "{strategy}");
            let got = feed(&mut session, &b, &Tokens(vec![vec![2]; 3]));
            let whole = |beam: usize| Tokens(vec![vec![text.0[1][0], second[beam], 4, 2]]);
            let want: Vec<f32> =
                [5, 4, 5].iter().flat_map(|&beam| forward(&b, &model, &whole(beam))).collect();
            assert_close(&got, &want, &format!("{config:?} {strategy} three beams"));
        }
    }
}

#[test]
fn a_source_is_given_where_there_is_one_to_give() {
    let b = Cpu::new(1).unwrap();
    let refused = |kind, source: Option<Vec<u32>>| {
        let model = load(&b, &Config::named(kind, ShapeName::Tiny).unwrap());
        let session = match source {
            Some(source) => {
                Session::from_source(&b, &model, Strategy::Padded, &Tokens(vec![source]), 1, 8).map(drop)
            }
            None => {
                let mut session = Session::open(&b, &model, Strategy::Padded, 1, 8).unwrap();
                session.feed(&Tokens(vec![vec![1]])).map(drop)
            }
        };
        session.expect_err("refused").to_string()
    };
    assert!(refused(ModelKind::Transformer, Some(vec![1])).contains("prompt alone"));
    assert!(refused(ModelKind::EncoderDecoder, None).contains("given none"));
    assert!(refused(ModelKind::ConvSeq2Seq, Some(vec![])).contains("empty"));
    assert!(refused(ModelKind::EncoderDecoder, Some(vec![97])).contains("outside the vocabulary"));
    assert!(refused(ModelKind::EncoderDecoder, Some(vec![1; 65])).contains("64 positions"));
}

#[test]
fn a_full_cache_says_so_and_stays_as_it_was() {
    let b = Cpu::new(1).unwrap();
    for config in odd_configs() {
        let (model, text) = (load(&b, &config), text(1, config.vocab(), 5));
        for strategy in strategies(&config) {
            let mut session = open(&b, &model, strategy, &text, 6);
            feed(&mut session, &b, &slice(&text, 0..4));
            let error = session.feed(&slice(&text, 4..7)).err().expect("three more do not fit");
            assert!(matches!(error, Error::CacheFull { capacity: 6, wanted: 7 }), "{strategy}: {error}");
            let got = feed(&mut session, &b, &slice(&text, 4..6));
            assert_close(&got, &forward(&b, &model, &slice(&text, 0..6)), &format!("{config:?} {strategy}"));
            assert!(session.feed(&slice(&text, 6..7)).is_err(), "{strategy}");
        }
    }
}

#[test]
fn wrong_tokens_are_refused_by_name() {
    let b = Cpu::new(1).unwrap();
    let config = Config::named(ModelKind::Transformer, ShapeName::Tiny).unwrap();
    let model = load(&b, &config);
    let mut session = Session::open(&b, &model, Strategy::Padded, 2, 8).unwrap();
    let refused = |session: &mut Session<'_, _, _>, tokens: Vec<Vec<u32>>| {
        session.feed(&Tokens(tokens)).err().unwrap().to_string()
    };
    assert_eq!(
        refused(&mut session, vec![vec![1], vec![97]]),
        "token 97 is outside the vocabulary of 97 (ids 0 to 96)"
    );
    assert!(refused(&mut session, vec![vec![], vec![]]).contains("empty"));
    assert!(refused(&mut session, vec![vec![1]]).contains("2 sentences"));
    session.feed(&Tokens(vec![vec![1], vec![1, 2]])).unwrap();
    assert!(refused(&mut session, vec![vec![1], vec![1, 2]]).contains("[1, 2]"));
    assert!(session.reorder(&[2]).unwrap_err().to_string().contains("beam 2"));
    assert!(Session::open(&b, &model, Strategy::Padded, 1, 65)
        .err()
        .unwrap()
        .to_string()
        .contains("64 positions"));
    assert!(Session::open(&b, &model, Strategy::Shift, 1, 8).err().unwrap().to_string().contains("shift"));
}
