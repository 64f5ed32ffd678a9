//! The laws of decoding on a GPU, in all three modes: the same logits as the CPU, whatever is kept
//! and however it is run.

use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::tests::device;
use crate::backend::Tokens;
use crate::cache::Strategy;
use crate::model::weights::Weights;
use crate::model::{AnyModel, Config, ConvConfig, TransformerConfig};
use crate::session::Session;

const CAPACITY: usize = 12;

/// As on the CPU: sums of f32 in another order, through a few layers; and `expf`, which differs by an
/// ulp or two.
const TOLERANCE: f32 = 3e-5;

/// One of each model whose sizes are multiples of four, and one whose sizes are not.
fn configs() -> Vec<Config> {
    let transformer = |layers, width, heads, hidden, vocab| {
        Config::Transformer(TransformerConfig { layers, width, heads, hidden, vocab, positions: CAPACITY })
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

fn strategies(config: &Config) -> Vec<Strategy> {
    let all = Strategy::examples().iter().copied().chain([1, 3, 6].map(Strategy::Chunked));
    all.filter(|s| s.applies_to(config.kind())).collect()
}

fn fixed_shape(strategy: &Strategy) -> bool {
    !matches!(strategy, Strategy::Naive | Strategy::Concat)
}

fn text(batch: usize, vocab: usize) -> Tokens {
    let id = |b: usize, i: usize| ((7 * i + 5 * b + i * i + 3) % vocab) as u32;
    Tokens((0..batch).map(|b| (0..CAPACITY).map(|i| id(b, i)).collect()).collect())
}

fn slice(text: &Tokens, range: std::ops::Range<usize>) -> Tokens {
    Tokens(text.0.iter().map(|sentence| sentence[range.clone()].to_vec()).collect())
}

fn load<B: Backend>(b: &B, config: &Config) -> AnyModel<B> {
    AnyModel::load(b, config, &Weights::seeded(config.kind(), 7)).unwrap()
}

/// Logits of the last token, recomputed from nothing on the CPU.
fn forward(config: &Config, text: &Tokens) -> Vec<f32> {
    let b = Cpu::new(1);
    let model = load(&b, config);
    let mut session = Session::open(&b, &model, Strategy::Naive, text.0.len(), CAPACITY).unwrap();
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
    let mut session = Session::open(b, &model, strategy, batch, CAPACITY).unwrap();
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
        let asked: Vec<usize> = compile::shapes(config, strategy, 1, 4, CAPACITY, 0)
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
            let mut session = Session::open(b, &model, strategy, 3, CAPACITY).unwrap();
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
    let mut trunk = Session::open(&b, &model, Strategy::Padded, 1, CAPACITY).unwrap();
    for at in 0..4 {
        trunk.feed(&slice(&text, at..at + 1)).unwrap();
    }
    let mut fork = trunk.fork().unwrap();
    for _ in 0..3 {
        fork.feed(&Tokens(vec![vec![3]])).unwrap();
    }
    for end in 5..8 {
        let got = b.download(&trunk.feed(&slice(&text, end - 1..end)).unwrap()).unwrap();
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
fn the_device_tells_its_time_and_its_memory() {
    let Some(device) = device() else { return };
    let b = Cuda::new(&device, Mode::Stream).unwrap();
    let (rows, _) = b.device_ns(|| b.zeros([1, 1000, 1])).unwrap();
    assert_eq!(rows.shape(), [1, 1000, 1]);
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
