//! The laws of decoding on a GPU, in all three modes: the same logits as the CPU, whatever is kept
//! and however it is run.

use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::tests::device;
use crate::backend::Tokens;
use crate::case::{BackendName, ModelKind, ShapeName};
use crate::layer::position::{alibi, rotary, RopeScaling, Sinusoid};
use crate::layer::{
    decays, laws, Attention, GatedMlp, Layer, LinearizedConvolution, Residual, Retention, Sequential,
};
use crate::model::tests::{every_model_is_among, load, open, slice};
use crate::model::{
    Config, ConvConfig, ConvSeq2SeqConfig, EncoderDecoderConfig, LlamaConfig, RetentionConfig,
    TransformerConfig,
};
use crate::session::Session;
use crate::strategy::Strategy;

const CAPACITY: usize = 12;

/// As on the CPU: sums of f32 in another order, through a few layers; and `expf`, which differs by an
/// ulp or two.
const TOLERANCE: f32 = 3e-5;

/// Of the models that differ in what they keep, one whose sizes are multiples of four and one whose sizes are
/// not.
fn configs() -> Vec<Config> {
    let transformer = |layers, width, heads, hidden, vocab| {
        let positions = CAPACITY;
        let gpt2 = TransformerConfig::default();
        Config::Transformer(TransformerConfig { layers, width, heads, hidden, vocab, positions, ..gpt2 })
    };
    let conv = |layers, channels, taps, embed, vocab| {
        Config::LinearizedConv(ConvConfig { layers, channels, taps, embed, vocab })
    };
    vec![
        transformer(2, 16, 2, 24, 20),
        transformer(1, 15, 3, 22, 19),
        conv(2, 8, 3, 4, 20),
        conv(2, 7, 5, 3, 19),
    ]
}

/// The models that are made of other layers, or decode from a source.
fn other_configs() -> Vec<Config> {
    let llama = LlamaConfig {
        layers: 1,
        width: 16,
        heads: 4,
        kv_heads: 2,
        size: 8,
        hidden: 12,
        vocab: 20,
        positions: CAPACITY,
        eps: 1e-5,
        theta: 100.0,
        rope_scaling: RopeScaling::Default,
        tied: true,
        attention_bias: false,
        out_bias: false,
        mlp_bias: false,
        head_norms: false,
        fused: false,
        window: None,
        full_layers: Vec::new(),
    };
    let windowed = LlamaConfig {
        width: 15,
        heads: 3,
        kv_heads: 1,
        size: 6,
        eps: 1e-3,
        tied: false,
        attention_bias: true,
        out_bias: true,
        mlp_bias: true,
        window: Some(3),
        ..llama.clone()
    };
    let qwen3 = LlamaConfig {
        layers: 2,
        size: 6,
        head_norms: true,
        window: Some(3),
        full_layers: vec![0],
        ..llama.clone()
    };
    vec![
        Config::Llama(llama),
        Config::Llama(windowed),
        Config::Llama(qwen3),
        Config::Retention(RetentionConfig { layers: 2, width: 15, heads: 3, hidden: 7, vocab: 19 }),
        Config::EncoderDecoder(EncoderDecoderConfig {
            encoder_layers: 1,
            decoder_layers: 1,
            width: 16,
            encoder_heads: 4,
            decoder_heads: 2,
            encoder_hidden: 12,
            decoder_hidden: 8,
            vocab: 20,
            positions: CAPACITY,
            activation: Activation::Relu,
            norm_first: true,
            sinusoid: Sinusoid::Paper,
            scaled: true,
            logits_bias: true,
            start: 3,
        }),
        Config::ConvSeq2Seq(ConvSeq2SeqConfig {
            channels: 7,
            encoder_taps: vec![2, 5],
            decoder_taps: vec![4, 1],
            embed: 5,
            out_embed: 3,
            vocab: 19,
            table: CAPACITY + 4,
            padding: 3,
        }),
    ]
}

#[test]
fn every_model_is_compared_with_the_cpu() {
    every_model_is_among(&[configs(), other_configs()].concat());
}

fn strategies(config: &Config) -> Vec<Strategy> {
    let all = Strategy::examples().iter().copied().chain([1, 3, 6].map(Strategy::Chunked));
    all.filter(|s| config.kind().supports(*s)).collect()
}

/// Of the other models: what grows, what does not, and what looks up anew.
fn few_strategies(config: &Config) -> Vec<Strategy> {
    use Strategy::{Concat, Padded, Reprojected};
    [Concat, Padded, Reprojected].into_iter().filter(|s| config.kind().supports(*s)).collect()
}

fn fixed_shape(strategy: &Strategy) -> bool {
    BackendName::CudaGraph.runs(*strategy)
}

fn text(batch: usize, vocab: usize) -> Tokens {
    let id = |b: usize, i: usize| ((7 * i + 5 * b + i * i + 3) % vocab) as u32;
    Tokens((0..batch).map(|b| (0..CAPACITY).map(|i| id(b, i)).collect()).collect())
}

/// Logits of the last token, recomputed from nothing on the CPU.
fn forward(config: &Config, text: &Tokens) -> Vec<f32> {
    let b = Cpu::new(1).unwrap();
    let model = load(&b, config);
    let mut session = open(&b, &model, Strategy::Naive, text, CAPACITY);
    b.download(&session.feed(text).unwrap()).unwrap()
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= TOLERANCE, "{what}: logit {place} is {got} and should be {want}");
    }
}

/// A prompt of `prompt` tokens, then one token at a time up to `end`.
fn decodes_as_the_cpu_does(
    b: &Cuda,
    config: &Config,
    strategy: Strategy,
    batch: usize,
    prompt: usize,
    end: usize,
) {
    let (model, text) = (load(b, config), text(batch, config.vocab()));
    let mut session = open(b, &model, strategy, &text, CAPACITY);
    for position in prompt..=end {
        let from = session.len();
        let got = b.download(&session.feed(&slice(&text, from..position)).unwrap()).unwrap();
        let want = forward(config, &slice(&text, 0..position));
        let what = format!("{} {config:?} {strategy} batch {batch} prompt {prompt} at {position}", b.name());
        assert_close(&got, &want, &what);
    }
}

#[test]
fn every_case_decodes_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Stream).unwrap();
    for config in configs() {
        for strategy in strategies(&config) {
            for (batch, prompt) in [(1, 1), (3, 3)] {
                decodes_as_the_cpu_does(&b, &config, strategy, batch, prompt, 8);
            }
        }
    }
}

#[test]
fn other_models_decode_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Stream).unwrap();
    for config in other_configs() {
        for strategy in few_strategies(&config) {
            decodes_as_the_cpu_does(&b, &config, strategy, 3, 5, 7);
        }
        decodes_as_the_cpu_does(&b, &config, Strategy::Padded, 1, 1, 5);
    }
}

#[test]
fn other_models_are_replayed_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    for config in other_configs() {
        for strategy in few_strategies(&config).into_iter().filter(fixed_shape) {
            decodes_as_the_cpu_does(&b, &config, strategy, 2, 2, 7);
        }
    }
}

#[test]
fn compiled_in_lengths_decode_other_models_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Specialised).unwrap();
    for config in other_configs() {
        decodes_as_the_cpu_does(&b, &config, Strategy::Padded, 2, 2, 3);
    }
}

/// Sentences of several lengths, padded in front, give what each gives alone; also when the batch has changed.
#[test]
fn a_ragged_batch_is_its_sentences() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    for config in [&configs()[0], &configs()[3]].into_iter().chain(&other_configs()) {
        let (model, text, left_padding) = (load(&b, config), text(3, config.vocab()), [0, 3, 1]);
        let from = |entries: &[usize], from: usize, end: usize| {
            Tokens(entries.iter().map(|&e| text.0[e][from.max(left_padding[e])..end].to_vec()).collect())
        };
        let mut entries = vec![0, 1, 2];
        let mut session = open(&b, &model, Strategy::Padded, &from(&entries, 0, 4), CAPACITY);
        session.feed(&from(&entries, 0, 4)).unwrap();
        for end in 5..11 {
            if end == 7 {
                entries = vec![1, 2];
                session.reorder(&entries).unwrap();
            }
            let got = b.download(&session.feed(&from(&entries, end - 1, end)).unwrap()).unwrap();
            let alone = |&entry: &usize| forward(config, &from(&[entry], 0, end));
            let want: Vec<f32> = entries.iter().flat_map(alone).collect();
            assert_close(&got, &want, &format!("{config:?} ragged at {end}"));
        }
    }
}

/// A ring, a growing past and a state in one layer, with whatever tells positions apart.
#[test]
fn a_layer_of_layers_obeys_the_laws() {
    let Some(device) = device() else { return };
    let b = &Cuda::new(&device, Mode::Stream).unwrap();
    let numbers = |shape: Shape, seed: usize| {
        let number = |i: usize| ((i * 7907 + i * i * 13 + seed * 1009) % 1999) as f32 / 2500.0 - 0.4;
        b.upload(shape, &(0..shape.iter().product()).map(number).collect::<Vec<_>>()).unwrap()
    };
    let width = 8;
    let linear = |inner, out, seed| Linear { norm: None, weight: numbers([1, out, inner], seed), bias: None };
    let attention = |kv_heads: usize, mask, seed| {
        let qkv = linear(width, (2 + 2 * kv_heads) * 4, seed);
        Attention { kv_heads, ..Attention::multi_head(qkv, linear(8, width, seed + 1), 2, 4, mask) }
    };
    let cos_sin = Some(Rc::new(b.upload([1, 12, 4], &rotary(100.0, 12, 4).unwrap()).unwrap()));
    let slopes = Some(Rc::new(b.upload([1, 1, 2], &alibi(2)).unwrap()));
    let convolution =
        Convolution { linear: linear(3 * width, 2 * width, 5), taps: 3, ahead: 0, residual: true };
    let decays = b.upload([1, 1, 2], &decays(2)).unwrap();
    let layer = Sequential::<Cuda>(vec![
        Box::new(Norm { gain: numbers([1, 1, width], 0), bias: None, eps: 1e-5 }),
        Box::new(Residual(Attention { cos_sin, ..attention(1, Mask::Causal, 1) })),
        Box::new(Residual(Attention { slopes, ..attention(2, Mask::SlidingWindow(3), 3) })),
        Box::new(LinearizedConvolution { convolution, channels: width }),
        Box::new(Residual(Retention {
            qkv: linear(width, 24, 6),
            out: linear(8, width, 7),
            decays,
            heads: 2,
            size: 4,
        })),
        Box::new(GatedMlp { gate_up: linear(width, 12, 8), down: linear(6, width, 9) }),
    ]);
    assert_eq!(layer.slots().len(), 6);
    laws::hold(b, &layer, width).unwrap();
}

/// With more than two replays, so that a recording that wrote one slot for ever would show; chunks of
/// six are recorded once and then grow.
#[test]
fn replayed_steps_decode_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    for config in configs() {
        for strategy in strategies(&config).into_iter().filter(fixed_shape) {
            for (batch, prompt) in [(1, 1), (3, 2)] {
                decodes_as_the_cpu_does(&b, &config, strategy, batch, prompt, 8);
            }
        }
    }
}

#[test]
fn compiled_in_lengths_decode_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Specialised).unwrap();
    for (config, batches) in configs().iter().zip([[1, 3], [3, 1], [1, 3], [3, 1]]) {
        for strategy in strategies(config) {
            // every length is compiled for: few of them, and the second batch for the question's own
            let asked = matches!(strategy, Strategy::Concat | Strategy::Padded);
            for &batch in &batches[..if asked { 2 } else { 1 }] {
                decodes_as_the_cpu_does(&b, config, strategy, batch, 2, 3);
            }
        }
    }
}

/// Concat compiles at every step, padded once, chunks of three at every third.
#[test]
fn compiles_follow_the_shapes() {
    let Some(device) = device() else { return };
    let config = &configs()[0];
    for (strategy, fresh) in [
        (Strategy::Padded, [true, false, false, false]),
        (Strategy::Chunked(3), [true, false, false, true]),
        (Strategy::Concat, [true, true, true, true]),
    ] {
        let b = Cuda::new(&device, Mode::Specialised).unwrap();
        let (model, text) = (load(&b, config), text(1, config.vocab()));
        let mut session = Session::open(&b, &model, strategy, 1, CAPACITY).unwrap();
        for (position, fresh) in fresh.into_iter().enumerate() {
            let before = b.compiled().len();
            session.feed(&slice(&text, position..position + 1)).unwrap();
            assert_eq!(b.compiled().len() > before, fresh, "{strategy} at {}", position + 1);
        }
        let asked: Vec<usize> = crate::measure::compile::shapes(config, strategy, 1, 4, CAPACITY, 0)
            .unwrap()
            .iter()
            .map(|s| s.position)
            .collect();
        let want: Vec<usize> = (1..=4).filter(|position| fresh[position - 1]).collect();
        assert_eq!(asked, want, "{strategy}: a plan asks for what a decode compiles");
    }
}

#[test]
fn a_replayed_step_is_one_launch_and_allocates_nothing() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    let config = &configs()[0];
    let (model, text) = (load(&b, config), text(1, config.vocab()));
    let mut session = Session::open(&b, &model, Strategy::Padded, 1, CAPACITY).unwrap();
    for position in 0..8 {
        let before = b.meter().work();
        session.feed(&slice(&text, position..position + 1)).unwrap();
        let step = b.meter().work() - before;
        assert!(position < 3 || (step.launches, step.allocs) == (1, 0), "step {position}: {step:?}");
    }
    assert_eq!(b.captures().len(), 1);
}

/// Many steps queued before the first has run, in every way to run them: each finds its own numbers.
#[test]
fn steps_that_nobody_waits_for_find_their_own_numbers() {
    let Some(device) = device() else { return };
    for mode in [Mode::Stream, Mode::Graph, Mode::Specialised] {
        let b = Cuda::new(&device, mode).unwrap();
        let config = &configs()[0];
        let (model, text) = (load(&b, config), text(2, config.vocab()));
        let mut session = Session::open(&b, &model, Strategy::Padded, 2, CAPACITY).unwrap();
        let steps = CAPACITY.min(text.0[0].len());
        for at in 0..steps - 1 {
            drop(session.feed(&slice(&text, at..at + 1)).unwrap());
        }
        let logits = session.feed(&slice(&text, steps - 1..steps)).unwrap();
        let want = forward(config, &slice(&text, 0..steps));
        assert_close(&b.download(&logits).unwrap(), &want, &format!("{mode:?}"));
    }
}

/// The tokens are those of steps that are waited for, and the host waits once.
#[test]
fn tokens_are_chosen_on_the_device() {
    let Some(device) = device() else { return };
    let config = &configs()[0];
    for mode in [Mode::Stream, Mode::Graph] {
        let b = Cuda::new(&device, mode).unwrap();
        let model = load(&b, config);
        for strategy in [Strategy::Padded, Strategy::Bounded] {
            let prompt = slice(&text(2, config.vocab()), 0..3);
            let open = || Session::open(&b, &model, strategy, 2, CAPACITY).unwrap();
            let (mut ahead, mut waiting) = (open(), open());
            let logits = ahead.feed(&prompt).unwrap();
            let syncs = b.meter().work().host_syncs;
            let chosen = ahead.generate(logits, 8).unwrap();
            assert_eq!(b.meter().work().host_syncs - syncs, 1, "{mode:?} {strategy}");
            let mut logits = waiting.feed(&prompt).unwrap();
            for step in 0..8 {
                let ids = b.argmax(&logits).unwrap();
                let of_step: Vec<u32> = chosen.0.iter().map(|chosen| chosen[step]).collect();
                assert_eq!(of_step, ids, "{mode:?} {strategy} step {step}");
                logits = waiting.feed(&Tokens(ids.iter().map(|&id| vec![id]).collect())).unwrap();
            }
            // and the session goes on from what it was told
            let last = Tokens(chosen.0.iter().map(|chosen| vec![chosen[7]]).collect());
            let on = ahead.feed(&last).unwrap();
            assert_close(&b.download(&on).unwrap(), &b.download(&logits).unwrap(), "after generating");
        }
    }
}

/// A recording reads the source that it was made with.
#[test]
fn a_session_restored_to_another_source_reads_that() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    let config = Config::named(ModelKind::EncoderDecoder, ShapeName::Tiny).unwrap();
    let model = load(&b, &config);
    let open = |source: Vec<u32>| {
        let source = Tokens(vec![source]);
        let mut session = Session::from_source(&b, &model, Strategy::Padded, &source, 1, CAPACITY).unwrap();
        drop(session.feed(&Tokens(vec![vec![1]])).unwrap());
        session
    };
    let (one, other) = (open(vec![5, 6, 7, 8]), open(vec![50, 60, 70, 80]));
    let next = Tokens(vec![vec![2]]);
    let mut copy = one.fork().unwrap();
    let want = [&one, &other].map(|from| b.download(&from.fork().unwrap().feed(&next).unwrap()).unwrap());
    for (from, want) in [(&one, &want[0]); 5].into_iter().chain([(&other, &want[1])]) {
        copy.restore(from).unwrap();
        let logits = copy.feed(&next).unwrap();
        assert_close(&b.download(&logits).unwrap(), want, "after restoring");
    }
}

#[test]
fn grids_and_lengths_that_no_device_takes_are_refused_in_a_line() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Stream).unwrap();
    let launch = |blocks: [usize; 3], length: usize| {
        b.launch(Launch::new(Kernel::LastRow, 1, blocks, 256), [0; 3], [1, length])
            .err()
            .map(|e| e.to_string())
    };
    for blocks in [[1, 65_536, 1], [1, 1, 65_536], [1 << 24, 1, 1]] {
        let said = launch(blocks, 1).expect("no device has such a grid");
        assert!(said.contains("blocks was asked for"), "{said}");
        assert_eq!(said.lines().count(), 1);
    }
    let said = launch([1, 1, 1], 1 << 31).expect("an int holds less");
    assert!(said.contains("a length of 2147483648"), "{said}");
}

/// A result that the caller still holds is not overwritten by the next step.
#[test]
fn logits_held_are_not_replayed_over() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    let config = &configs()[0];
    let (model, text) = (load(&b, config), text(1, config.vocab()));
    let mut session = Session::open(&b, &model, Strategy::Bounded, 1, CAPACITY).unwrap();
    let held: Vec<Tensor> = (0..6).map(|at| session.feed(&slice(&text, at..at + 1)).unwrap()).collect();
    for (at, logits) in held.iter().enumerate() {
        let what = format!("logits {at}");
        assert_close(&b.download(logits).unwrap(), &forward(config, &slice(&text, 0..at + 1)), &what);
    }
}

#[test]
fn a_graph_refuses_what_has_no_fixed_shape() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    for config in configs() {
        let model = load(&b, &config);
        for strategy in [Strategy::Naive, Strategy::Concat] {
            let mut session = Session::open(&b, &model, strategy, 1, CAPACITY).unwrap();
            let refused = session.feed(&Tokens(vec![vec![1]])).err().expect("no fixed shape");
            assert!(refused.to_string().contains("at every step"), "{refused}");
        }
    }
}

#[test]
fn after_a_reorder_stepping_equals_recomputing_the_reordered_prefixes() {
    let Some(device) = device() else { return };
    steps_on_after_a_reorder(&Cuda::new(&device, Mode::Stream).unwrap(), |_| true);
    steps_on_after_a_reorder(&Cuda::new(&device, Mode::Graph).unwrap(), fixed_shape);
}

#[test]
fn compiled_in_lengths_step_on_after_a_reorder() {
    let Some(device) = device() else { return };
    let asked = |strategy: &Strategy| matches!(strategy, Strategy::Concat | Strategy::Padded);
    steps_on_after_a_reorder(&Cuda::new(&device, Mode::Specialised).unwrap(), asked);
}

fn steps_on_after_a_reorder(b: &Cuda, wanted: impl Fn(&Strategy) -> bool) {
    for config in configs() {
        let (model, text) = (load(b, &config), text(3, config.vocab()));
        for strategy in strategies(&config).into_iter().filter(&wanted) {
            let mut session = open(b, &model, strategy, &text, CAPACITY);
            session.feed(&slice(&text, 0..3)).unwrap();
            for at in 3..6 {
                session.feed(&slice(&text, at..at + 1)).unwrap();
            }
            let order = [2, 0];
            session.reorder(&order).unwrap();
            let beams = Tokens(order.iter().map(|&beam| text.0[beam].clone()).collect());
            for end in 7..10 {
                let what = format!("{} {config:?} {strategy} at {end}", b.name());
                let logits = session.feed(&slice(&beams, end - 1..end));
                let logits = logits.unwrap_or_else(|e| panic!("{what}: {e}"));
                let got = b.download(&logits).unwrap();
                assert_close(&got, &forward(&config, &slice(&beams, 0..end)), &what);
            }
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Graph).unwrap();
    let config = &configs()[0];
    let (model, text) = (load(&b, config), text(1, config.vocab()));
    let mut prefilled = Session::open(&b, &model, Strategy::Padded, 1, CAPACITY).unwrap();
    for at in 0..4 {
        prefilled.feed(&slice(&text, at..at + 1)).unwrap();
    }
    let mut fork = prefilled.fork().unwrap();
    for _ in 0..3 {
        fork.feed(&Tokens(vec![vec![3]])).unwrap();
    }
    for end in 5..8 {
        let got = b.download(&prefilled.feed(&slice(&text, end - 1..end)).unwrap()).unwrap();
        assert_close(&got, &forward(config, &slice(&text, 0..end)), &format!("trunk at {end}"));
    }
}

#[test]
fn a_full_cache_says_so_before_anything_is_launched() {
    let Some(device) = device() else { return };
    for mode in [Mode::Stream, Mode::Graph] {
        let b = Cuda::new(&device, mode).unwrap();
        let config = &configs()[0];
        let (model, text) = (load(&b, config), text(1, config.vocab()));
        let mut session = Session::open(&b, &model, Strategy::Padded, 1, 4).unwrap();
        (0..4).for_each(|at| drop(session.feed(&slice(&text, at..at + 1)).unwrap()));
        let before = b.meter().work().launches;
        let error = session.feed(&slice(&text, 4..5)).err().expect("no more fits");
        assert!(matches!(error, Error::CacheFull { capacity: 4, wanted: 5 }), "{error}");
        assert_eq!(b.meter().work().launches, before);
    }
}

#[test]
fn the_device_tells_its_memory() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Stream).unwrap();
    let _rows = b.zeros([1, 1000, 1]).unwrap();
    let memory = b.device_memory().unwrap().expect("a device has some");
    assert!(memory.pool_peak_bytes >= 4000 && memory.used_bytes >= 4000, "{memory:?}");
}

#[test]
fn too_much_memory_is_an_error_that_names_the_sizes() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Stream).unwrap();
    let rows = device.info.memory_bytes / 4;
    let error = b.zeros([2, rows, 1]).err().expect("twice the memory there is").to_string();
    assert!(error.starts_with("cuda: out of memory: "), "{error}");
    assert!(error.contains(&format!("{} bytes", 8 * rows)), "{error}");
    b.zeros([1, 8, 1]).unwrap(); // and goes on
}

#[test]
fn a_kernel_that_does_not_compile_shows_the_log() {
    let Ok(nvrtc) = Nvrtc::find() else { return };
    let error = nvrtc.compile("broken", "__global__ void f() { nonsense; }", "compute_80", &[]);
    let error = error.err().expect("that is no CUDA").to_string();
    assert!(error.contains("`broken` does not compile") && error.contains("nonsense"), "{error}");
}

/// Every number of the inner dimension, or row seen, is in one part; parts are as many as occupy a large device
/// and no more, and none where tiles alone do.
#[test]
fn parts_cover_all_and_are_worth_a_block() {
    for (tiles, length) in
        [(1, 64), (1, 65), (4, 256), (8, 512), (12, 768), (48, 3072), (131, 768), (300, 4096)]
    {
        for ((part, parts), multiple) in [(parts(tiles, length), 16), (tile_spans(length, tiles), 32)] {
            let what = format!("{tiles} tiles of {length}: {parts} parts of {part}");
            assert!(part * parts >= length && part * (parts - 1) < length, "{what}");
            assert!(part % multiple == 0 && part >= 64, "{what}");
            assert!(parts == 1 || tiles * parts <= ENOUGH_BLOCKS, "{what}");
        }
    }
    assert_eq!(parts(8, 512), (64, 8));
    assert_eq!(parts(36, 768), (112, 7));
    assert_eq!(parts(132, 768), (384, 2));
    assert_eq!(parts(133, 768), (768, 1));
    assert_eq!(tile_spans(4096, 12), (192, 22));
}
