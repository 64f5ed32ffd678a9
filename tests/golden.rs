//! Our models and layers against the answers of other people's programs: `tests/golden/README.md` says whose.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{json, Value};
use tempfile::TempDir;

use decode_bench::backend::cpu::{Cpu, Tensor};
use decode_bench::backend::{
    Activation, AttentionParams, Backend, Call, Columns, Convolution, Layout, Linear, Mask, Norm, Tokens,
    View,
};
use decode_bench::case::ModelKind;
use decode_bench::layer::{laws, position, Attention, GatedMlp, Layer};
use decode_bench::model::checkpoint::{self, ConfigFile, CONFIG_FILE, INDEX_FILE, MODEL_FILE};
use decode_bench::model::{AnyModel, Config, Model, Weights};
use decode_bench::session::Session;
use decode_bench::strategy::Strategy;

/// Of the largest number expected. f32 is within 2e-6 of these values in the programs that made
/// them; a bias forgotten or a weight transposed is off by far more than this.
const TOLERANCE: f32 = 2e-5;

fn folder(name: &str) -> PathBuf {
    common::root().join("tests/golden").join(name)
}

/// Expected values, by name.
struct Golden(Vec<u8>);

impl Golden {
    fn read(name: &str) -> Golden {
        Golden(fs::read(folder(name)).unwrap())
    }

    fn get<T>(&self, name: &str, dtype: Dtype, number: impl Fn([u8; 4]) -> T) -> (Vec<usize>, Vec<T>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), dtype);
        let numbers = tensor.data().chunks_exact(4).map(|four| number(four.try_into().unwrap())).collect();
        (tensor.shape().to_vec(), numbers)
    }

    fn numbers(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        self.get(name, Dtype::F32, f32::from_le_bytes)
    }

    fn ids(&self, name: &str) -> (Vec<usize>, Vec<u32>) {
        self.get(name, Dtype::I32, |four| u32::try_from(i32::from_le_bytes(four)).unwrap())
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).is_ok()
    }

    /// Equally long sentences.
    fn sentences(&self, name: &str) -> Vec<Vec<u32>> {
        let (shape, ids) = self.ids(name);
        ids.chunks_exact(*shape.last().unwrap()).map(<[u32]>::to_vec).collect()
    }

    /// Sources of several lengths, which stand first in rows of one.
    fn source(&self) -> Tokens {
        let lengths = match self.has("source_lengths") {
            true => self.ids("source_lengths").1,
            false => self.sentences("source").iter().map(|ids| unpadded(ids)).collect(),
        };
        let cut = |(sentence, &length): (Vec<u32>, &u32)| sentence[..length as usize].to_vec();
        Tokens(self.sentences("source").into_iter().zip(&lengths).map(cut).collect())
    }

    /// The last axis of each.
    fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let (shape, numbers) = self.numbers(name);
        numbers.chunks_exact(*shape.last().unwrap()).map(<[f32]>::to_vec).collect()
    }
}

/// The tokens before fairseq's padding.
fn unpadded(ids: &[u32]) -> u32 {
    ids.iter().position(|&id| id == 1).unwrap_or(ids.len()) as u32
}

/// Fails naming the worst place.
fn assert_close(found: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    let sizes = |rows: &[Vec<f32>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(found), sizes(expected), "{what}: rows and their lengths");
    let largest = expected.iter().flatten().fold(0.0, |most: f32, x| most.max(x.abs()));
    let mut worst = (0.0, 0, 0);
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (j, (f, e)) in found.iter().zip(expected).enumerate() {
            let difference = if f.is_finite() { (f - e).abs() / largest } else { f32::INFINITY };
            worst = if difference > worst.0 { (difference, i, j) } else { worst };
        }
    }
    let (difference, i, j) = worst;
    assert!(
        difference <= TOLERANCE,
        "{what}: row {i}, number {j} is {} and should be {}: {difference:.1e} of the largest, {largest}",
        found[i][j],
        expected[i][j]
    );
}

/// A model of `tests/golden` on the CPU.
struct Subject {
    b: Cpu,
    model: AnyModel<Cpu>,
    config: Config,
    name: &'static str,
}

impl Subject {
    fn load(kind: ModelKind, name: &'static str) -> Subject {
        Subject::stored(kind, name, &folder(name))
    }

    /// The same model, from another folder.
    fn stored(kind: ModelKind, name: &'static str, folder: &Path) -> Subject {
        let b = Cpu::new(2).unwrap();
        let (file, weights) = checkpoint::open(kind, folder).unwrap();
        let model = AnyModel::load(&b, &file.config, &weights).unwrap();
        Subject { b, model, config: file.config, name }
    }

    fn golden(&self) -> Golden {
        Golden::read(&format!("{}/expected.safetensors", self.name))
    }

    fn strategies(&self) -> Vec<Strategy> {
        let all = Strategy::examples().iter().copied().chain([1, 5].map(Strategy::Chunked));
        let slots = Model::<Cpu>::slots(&self.model);
        let fits = |strategy: &Strategy| slots.iter().all(|slot| slot.fits(*strategy));
        let all = all
            .filter(|s| fits(s) && (*s != Strategy::Reprojected || self.config.kind().projects_a_source()));
        all.collect()
    }

    /// From the golden source, where there is one.
    fn session(&self, strategy: Strategy, batch: usize, capacity: usize) -> Session<'_, Cpu, AnyModel<Cpu>> {
        if !self.config.kind().has_source() {
            return Session::open(&self.b, &self.model, strategy, batch, capacity).unwrap();
        }
        let source = self.golden().source();
        Session::from_source(&self.b, &self.model, strategy, &source, batch / source.0.len(), capacity)
            .unwrap()
    }

    /// Logits at every position of every sentence, batch entry by batch entry, when the first
    /// `prefill` tokens come in one call and the others one by one. A prefill says only its last.
    fn logits(&self, strategy: Strategy, sentences: &[Vec<u32>], prefill: usize) -> Vec<(usize, Vec<f32>)> {
        let length = sentences[0].len();
        let mut session = self.session(strategy, sentences.len(), length);
        let mut rows = Vec::new();
        let mut at = 0;
        while at < length {
            let n = if at == 0 { prefill } else { 1 };
            let new = Tokens(sentences.iter().map(|sentence| sentence[at..at + n].to_vec()).collect());
            at += n;
            let logits = self.b.download(&session.feed(&new).unwrap()).unwrap();
            let entries = logits.chunks_exact(self.config.vocab()).enumerate();
            rows.extend(entries.map(|(entry, row)| (entry * length + at - 1, row.to_vec())));
        }
        rows
    }

    /// Every split into a prefill and steps gives `expected [batch · length, vocab]`.
    fn agrees(&self, sentences: &[Vec<u32>], expected: &[Vec<f32>]) {
        for strategy in self.strategies() {
            for prefill in 1..=sentences[0].len() {
                let (places, found): (Vec<usize>, Vec<_>) =
                    self.logits(strategy, sentences, prefill).into_iter().unzip();
                let expected: Vec<Vec<f32>> = places.iter().map(|&place| expected[place].clone()).collect();
                let what = format!("{}, {strategy}, prefill of {prefill}, rows {places:?}", self.name);
                assert_close(&found, &expected, &what);
            }
        }
    }

    /// The golden prompt is continued by the golden tokens.
    fn agrees_greedily(&self) {
        let golden = self.golden();
        let ((_, prompt), (_, greedy)) = (golden.ids("prompt"), golden.ids("greedy"));
        for strategy in self.strategies() {
            let (tokens, logits) = self.decode(strategy, &prompt, greedy.len());
            let what = format!("{}, {strategy}, greedy", self.name);
            assert_close(&logits, &golden.rows("greedy_logits"), &what);
            assert_eq!(tokens, greedy, "{what}");
        }
    }

    /// The tokens and logits of a greedy decode, the last token not fed back.
    fn decode(&self, strategy: Strategy, prompt: &[u32], steps: usize) -> (Vec<u32>, Vec<Vec<f32>>) {
        let mut session = self.session(strategy, 1, prompt.len() + steps - 1);
        let (mut tokens, mut rows, mut next) = (Vec::new(), Vec::new(), prompt.to_vec());
        for _ in 0..steps {
            let logits = session.feed(&Tokens(vec![next])).unwrap();
            rows.push(self.b.download(&logits).unwrap());
            next = self.b.argmax(&logits).unwrap();
            tokens.extend(&next);
        }
        (tokens, rows)
    }
}

#[test]
fn transformers_agrees_on_the_logits_of_every_position() {
    for (kind, name) in OF_TRANSFORMERS {
        let subject = Subject::load(kind, name);
        let golden = subject.golden();
        subject.agrees(&golden.sentences("tokens"), &golden.rows("logits"));
    }
}

/// GPT-2, Llama with grouped queries, with one head of keys and all biases, and Mistral, whose window is
/// shorter than its sentences.
const OF_TRANSFORMERS: [(ModelKind, &str); 5] = [
    (ModelKind::Transformer, "gpt2"),
    (ModelKind::Transformer, "gpt2_tiny_odd"),
    (ModelKind::Llama, "llama"),
    (ModelKind::Llama, "llama_tied"),
    (ModelKind::Llama, "mistral"),
];

/// Checkpoints of every family, in f32 in one file and in bf16 in several.
#[test]
fn transformers_agrees_on_every_family() {
    for (kind, name) in OF_FAMILIES {
        let one = Subject::load(kind, name);
        let (golden, in_bf16) = (one.golden(), folder(name).join("bf16"));
        assert!(!in_bf16.join(MODEL_FILE).exists() && in_bf16.join(INDEX_FILE).exists(), "{name}");
        for subject in [Subject::stored(kind, name, &in_bf16), one] {
            subject.agrees(&golden.sentences("tokens"), &golden.rows("logits"));
            subject.agrees_greedily();
            let written = tempfile::tempdir().unwrap();
            checkpoint::write(&subject.config, &Weights::seeded(1), written.path()).unwrap();
            assert_eq!(checkpoint::open(kind, written.path()).unwrap().0.config, subject.config, "{name}");
        }
    }
}

const OF_FAMILIES: [(ModelKind, &str); 7] = [
    (ModelKind::Llama, "families/llama3"),
    (ModelKind::Llama, "families/mistral"),
    (ModelKind::Llama, "families/qwen2"),
    (ModelKind::Llama, "families/qwen3"),
    (ModelKind::Llama, "families/qwen3_windows"),
    (ModelKind::Llama, "families/phi3"),
    (ModelKind::Transformer, "families/gpt2"),
];

/// As many tokens as fill the cache to its last row.
#[test]
fn transformers_agrees_on_the_greedy_tokens() {
    for (kind, name) in OF_TRANSFORMERS {
        Subject::load(kind, name).agrees_greedily();
    }
}

/// Three prompts of three lengths in one batch, and what follows.
#[test]
fn transformers_agrees_on_a_ragged_batch() {
    let subject = Subject::load(ModelKind::Transformer, "gpt2");
    let golden = Golden::read("ragged/expected.safetensors");
    let lengths = golden.ids("lengths").1;
    let cut = |(ids, &length): (Vec<u32>, &u32)| ids[ids.len() - length as usize..].to_vec();
    let prompts: Vec<_> = golden.sentences("prompts").into_iter().zip(&lengths).map(cut).collect();
    let (greedy, expected) = (golden.sentences("greedy"), golden.rows("logits"));
    let steps = greedy[0].len();
    for strategy in subject.strategies() {
        let mut session = subject.session(strategy, prompts.len(), 20);
        let mut next = prompts.clone();
        for step in 0..=steps {
            let logits = subject.b.download(&session.feed(&Tokens(next)).unwrap()).unwrap();
            let found: Vec<Vec<f32>> = logits.chunks(subject.config.vocab()).map(<[f32]>::to_vec).collect();
            let want: Vec<Vec<f32>> =
                (0..prompts.len()).map(|entry| expected[entry * (steps + 1) + step].clone()).collect();
            assert_close(&found, &want, &format!("ragged, {strategy}, step {step}"));
            next = greedy.iter().map(|ids| ids.get(step).copied().into_iter().collect()).collect();
        }
    }
}

/// Marian, whose norms come after each part, and `torch.nn.Transformer` with its norms before; both with a
/// source that is shorter than the other of its batch.
#[test]
fn translators_agree_on_the_logits_of_every_position() {
    for name in ["marian", "nn_transformer"] {
        let subject = Subject::load(ModelKind::EncoderDecoder, name);
        let golden = subject.golden();
        subject.agrees(&golden.sentences("target"), &golden.rows("logits"));
    }
}

/// fairseq's own modules, at once and token by token through their queue.
#[test]
fn fairseq_agrees_on_the_convolutional_translator() {
    let subject = Subject::load(ModelKind::ConvSeq2Seq, "fconv_seq2seq");
    let golden = subject.golden();
    let targets = golden.sentences("target");
    subject.agrees(&targets, &golden.rows("logits"));
    subject.agrees(&targets, &golden.rows("logits_incremental"));
    let b = &subject.b;
    let session = subject.session(Strategy::Concat, 2, 8);
    let kept = session.cache().encoder_output().unwrap();
    // ours begin late where fairseq's end early, and the square root of the length is in the values
    for (entry, length) in [(0, 6), (1, 3)] {
        for (ours, name, scale) in [(0, "encoder_a", 1.0), (1, "encoder_b", (length as f32).sqrt())] {
            let expected = &golden.rows(name)[entry * 6..entry * 6 + length];
            let expected: Vec<Vec<f32>> =
                expected.iter().map(|row| row.iter().map(|x| x * scale).collect()).collect();
            let found = &rows(b, &kept.rows[ours])[entry * 6 + 6 - length..entry * 6 + 6];
            assert_close(found, &expected, &format!("{name} of sentence {entry}"));
        }
    }
}

/// A tensor that a file holds besides.
type Buffer<'a> = (&'a str, Vec<usize>, Vec<f32>);

/// A folder with a golden model stored in another way: other fields, other names, other tensors beside its own.
fn stored(name: &str, fields: &Value, rename: impl Fn(&str) -> Vec<String>, more: &[Buffer]) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(folder(name).join(CONFIG_FILE)).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    fs::write(to.path().join(CONFIG_FILE), config.to_string()).unwrap();
    let bytes = fs::read(folder(name).join(MODEL_FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, TensorView)> = Vec::new();
    for (name, tensor) in file.tensors() {
        tensors.extend(rename(&name).into_iter().map(|name| (name, tensor.clone())));
    }
    let more: Vec<(&str, &[usize], Vec<u8>)> = more
        .iter()
        .map(|(name, shape, numbers)| {
            (*name, &shape[..], numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    for (name, shape, bytes) in &more {
        tensors.push((name.to_string(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    }
    fs::write(to.path().join(MODEL_FILE), safetensors::serialize(tensors, None).unwrap()).unwrap();
    to
}

fn agrees_when_stored(
    kind: ModelKind,
    name: &'static str,
    fields: &Value,
    rename: impl Fn(&str) -> Vec<String>,
    more: &[Buffer],
) {
    let to = stored(name, fields, rename, more);
    let subject = Subject::stored(kind, name, to.path());
    let golden = subject.golden();
    let sentences = golden.sentences(if golden.has("target") { "target" } else { "tokens" });
    subject.agrees(&sentences, &golden.rows("logits"));
}

fn as_is(name: &str) -> Vec<String> {
    vec![name.to_string()]
}

/// A tied table may have the name of any of its uses, or several; the first in the list is the golden one.
#[test]
fn a_tied_table_has_any_of_its_names() {
    let cases: [(ModelKind, &str, &[&str]); 3] = [
        (ModelKind::Transformer, "gpt2", &["transformer.wte.weight", "lm_head.weight"]),
        (ModelKind::Llama, "llama_tied", &["model.embed_tokens.weight", "lm_head.weight"]),
        (
            ModelKind::EncoderDecoder,
            "marian",
            &[
                "model.shared.weight",
                "model.encoder.embed_tokens.weight",
                "model.decoder.embed_tokens.weight",
                "lm_head.weight",
            ],
        ),
    ];
    for (kind, name, names) in cases {
        let sets = names.iter().map(std::slice::from_ref).chain([&names[1..], names]);
        for set in sets {
            let rename = |stored: &str| match stored == names[0] {
                true => set.iter().map(|name| name.to_string()).collect(),
                false => as_is(stored),
            };
            agrees_when_stored(kind, name, &json!({}), rename, &[]);
        }
    }
}

#[test]
fn buffers_and_other_spellings_change_nothing() {
    let buffer = |name| (name, vec![2], vec![0.5, 0.25]);
    for gelu in ["gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"] {
        let fields = json!({"activation_function": gelu, "quantization_config": null, "pruned_heads": {}});
        let masks = ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias"].map(buffer);
        agrees_when_stored(ModelKind::Transformer, "gpt2", &fields, as_is, &masks);
    }
    let fields = json!({"activation_function": "gelu_python", "reorder_and_upcast_attn": true});
    agrees_when_stored(ModelKind::Transformer, "families/gpt2", &fields, as_is, &[]);
    let ropes =
        [json!({"rope_type": "default"}), json!({"type": "default", "factor": 8.0}), json!({}), json!(null)];
    // within the positions of the configuration
    let dynamic = [json!({"rope_type": "dynamic", "factor": 8.0}), json!({"type": "dynamic", "factor": 2})];
    for rope in ropes.into_iter().chain(dynamic) {
        let fields = json!({"rope_scaling": rope, "hidden_act": "swish", "sliding_window": null});
        let frequencies =
            ["model.rotary_emb.inv_freq", "model.layers.1.self_attn.rotary_emb.inv_freq"].map(buffer);
        agrees_when_stored(ModelKind::Llama, "llama", &fields, as_is, &frequencies);
    }
    let fields =
        json!({"layer_types": ["sliding_attention", "sliding_attention"], "use_sliding_window": true});
    agrees_when_stored(ModelKind::Llama, "mistral", &fields, as_is, &[]);
}

/// 40 random ways to write positions scaled by `linear` and `llama3`, and 40 of `yarn`: the frequencies, and the model's
/// answer under the strategies; written again as we write them, they say the same.
#[test]
fn transformers_agrees_on_scaled_positions() {
    for name in ["rope.json", "yarn.json"] {
        agrees_on_scaled_positions(name);
    }
}

fn agrees_on_scaled_positions(name: &str) {
    let all: Value = serde_json::from_slice(&fs::read(folder(name)).unwrap()).unwrap();
    let numbers = |value: &Value| -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let tokens: Vec<u32> = serde_json::from_value(all["tokens"].clone()).unwrap();
    for case in all["cases"].as_array().unwrap() {
        let stored = stored("llama", &case["fields"], as_is, &[]);
        let subject = Subject::stored(ModelKind::Llama, "llama", stored.path());
        let Config::Llama(config) = &subject.config else { unreachable!() };
        let found: Vec<f32> = config.frequencies().into_iter().map(|x| x as f32).collect();
        for (found, want) in found.iter().zip(numbers(&case["frequencies"])) {
            assert!((found / want - 1.0).abs() < 1e-6, "{found} for {want} of {case}");
        }
        for strategy in [Strategy::Naive, Strategy::Concat, Strategy::Padded] {
            let rows = subject.logits(strategy, std::slice::from_ref(&tokens), 5);
            let last = rows.last().unwrap().1.clone();
            assert_close(&[last], &[numbers(&case["logits"])], &format!("{strategy}, {}", case["fields"]));
        }
        let written = tempfile::tempdir().unwrap();
        checkpoint::write(&subject.config, &Weights::seeded(1), written.path()).unwrap();
        assert_eq!(checkpoint::open(ModelKind::Llama, written.path()).unwrap().0.config, subject.config);
    }
}

/// transformers reads Marian's table of positions where a file has it, so that it must be the one we compute.
#[test]
fn stored_positions_are_those_of_the_configuration() {
    let name = "model.decoder.embed_positions.weight";
    let table = position::sinusoid(position::Sinusoid::Paper, 24, 18).unwrap();
    let (kind, shape) = (ModelKind::EncoderDecoder, vec![24, 18]);
    agrees_when_stored(kind, "marian", &json!({}), as_is, &[(name, shape.clone(), table.clone())]);
    let mut other = table;
    other[100] += 0.1;
    let folder = stored("marian", &json!({}), as_is, &[(name, shape, other)]);
    let said = checkpoint::open(kind, folder.path()).err().expect("another table").to_string();
    assert!(said.contains(name), "{said}");
}

/// What a family's configurations say, as transformers reads them.
const FAMILIES: [(&str, ModelKind); 7] = [
    ("gpt2", ModelKind::Transformer),
    ("llama", ModelKind::Llama),
    ("mistral", ModelKind::Llama),
    ("marian", ModelKind::EncoderDecoder),
    ("qwen2", ModelKind::Llama),
    ("qwen3", ModelKind::Llama),
    ("phi3", ModelKind::Llama),
];

fn configurations() -> Value {
    serde_json::from_slice(&fs::read(folder("configs.json")).unwrap()).unwrap()
}

/// A `config.json` read by itself.
fn read_config(model: ModelKind, config: &Value) -> Result<ConfigFile, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), config.to_string()).unwrap();
    checkpoint::read_config(model, file.path()).map_err(|e| e.to_string())
}

/// By the names that transformers gives to them.
fn understood(config: &Config, name: &str) -> Value {
    match (config, name) {
        (Config::Transformer(c), "n_embd") => json!(c.width),
        (Config::Transformer(c), "n_head") => json!(c.heads),
        (Config::Transformer(c), "n_layer") => json!(c.layers),
        (Config::Transformer(c), "n_inner") => json!(c.hidden),
        (Config::Transformer(c), "n_positions") => json!(c.positions),
        (Config::Llama(c), "hidden_size") => json!(c.width),
        (Config::Llama(c), "num_attention_heads") => json!(c.heads),
        (Config::Llama(c), "num_key_value_heads") => json!(c.kv_heads),
        (Config::Llama(c), "head_dim") => json!(c.size),
        (Config::Llama(c), "intermediate_size") => json!(c.hidden),
        (Config::Llama(c), "num_hidden_layers") => json!(c.layers),
        (Config::Llama(c), "max_position_embeddings") => json!(c.positions),
        (Config::Llama(c), "rms_norm_eps") => json!(c.eps),
        (Config::Llama(c), "rope_theta") => json!(c.theta),
        (Config::Llama(c), "tie_word_embeddings") => json!(c.tied),
        (Config::Llama(c), "attention_bias") => json!(c.attention_bias),
        (Config::Llama(c), "mlp_bias") => json!(c.mlp_bias),
        (Config::Llama(c), "sliding_window") => json!(c.window),
        (Config::Llama(c), "windows") => {
            (0..c.layers).map(|layer| c.window.filter(|_| !c.full_layers.contains(&layer))).collect()
        }
        (Config::EncoderDecoder(c), "encoder_layers") => json!(c.encoder_layers),
        (Config::EncoderDecoder(c), "decoder_layers") => json!(c.decoder_layers),
        (Config::EncoderDecoder(c), "d_model") => json!(c.width),
        (Config::EncoderDecoder(c), "encoder_attention_heads") => json!(c.encoder_heads),
        (Config::EncoderDecoder(c), "decoder_attention_heads") => json!(c.decoder_heads),
        (Config::EncoderDecoder(c), "encoder_ffn_dim") => json!(c.encoder_hidden),
        (Config::EncoderDecoder(c), "decoder_ffn_dim") => json!(c.decoder_hidden),
        (Config::EncoderDecoder(c), "max_position_embeddings") => json!(c.positions),
        (Config::EncoderDecoder(c), "scale_embedding") => json!(c.scaled),
        (Config::EncoderDecoder(c), "decoder_start_token_id") => json!(c.start),
        (_, "vocab_size") => json!(config.vocab()),
        _ => panic!("{name} of {config:?}"),
    }
}

/// 200 random configurations of each family, or 30, with keys left out, spelled otherwise and set to `null`.
#[test]
fn transformers_agrees_on_what_a_configuration_says() {
    let all = configurations();
    for (family, model) in FAMILIES {
        let names = all[family]["effective"].as_array().unwrap();
        for pair in all[family]["configs"].as_array().unwrap() {
            let file = read_config(model, &pair[0]).unwrap_or_else(|e| panic!("{}: {e}", pair[0]));
            for (name, want) in names.iter().zip(pair[1].as_array().unwrap()) {
                let found = understood(&file.config, name.as_str().unwrap());
                assert_eq!(found, *want, "{name} of {}", pair[0]);
            }
            assert!(file.notes.is_empty(), "{}: {:?}", pair[0], file.notes);
        }
    }
}

/// What would change the model and is not implemented: the family, the fields, and what the refusal names.
#[test]
fn a_field_that_changes_the_model_is_refused_by_name() {
    let scaled = |kind: &str, name: &str| json!({kind: name, "factor": 4.0, "rope_theta": 1e4});
    let kinds = ["longrope", "proportional", "axial"];
    let of = |family, kinds: &'static [&'static str]| kinds.iter().map(move |kind| (family, *kind));
    let kinds = ["llama", "mistral", "qwen2", "qwen3"].into_iter().flat_map(|f| kinds.map(|kind| (f, kind)));
    for (family, kind) in kinds.chain(of("phi3", &["longrope", "su", "yarn", "linear", "dynamic", "llama3"]))
    {
        for (object, key) in
            ["rope_scaling", "rope_parameters"].iter().flat_map(|o| ["type", "rope_type"].map(|k| (*o, k)))
        {
            let named = format!("{object}.{key} = \"{kind}\"");
            is_refused(family, json!({object: scaled(key, kind)}), &[&named]);
        }
    }
    let nested = json!({"full_attention": {"rope_theta": 1e4}, "sliding_attention": {"rope_theta": 5e5}});
    let layers = |kind: &str| json!([kind, "full_attention"]);
    let llama3 = |changed: &[(&str, Value)]| {
        let mut rope = scaled("rope_type", "llama3");
        let whole = [("low_freq_factor", json!(1)), ("high_freq_factor", json!(4))];
        whole.iter().chain(changed).for_each(|(key, value)| rope[*key] = value.clone());
        json!({"rope_scaling": rope})
    };
    let cases = [
        ("llama", json!({"rope_parameters": nested}), "rope_parameters.full_attention"),
        ("llama", json!({"rope_scaling": "linear"}), "rope_scaling"),
        (
            "llama",
            json!({"rope_scaling": {"partial_rotary_factor": 0.5}}),
            "rope_scaling.partial_rotary_factor",
        ),
        ("llama", json!({"rope_parameters": {"mrope_section": [1, 2]}}), "rope_parameters.mrope_section"),
        ("llama", json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor"),
        ("llama", json!({"rope_scaling": {"type": "dynamic"}}), "rope_scaling.factor"),
        ("llama", json!({"rope_scaling": {"type": "yarn"}}), "rope_scaling.factor"),
        ("llama", json!({"rope_theta": 1, "rope_scaling": {"type": "yarn", "factor": 2}}), "rope_theta = 1"),
        (
            "qwen3",
            json!({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": -1}}),
            "rope_scaling.beta_fast",
        ),
        (
            "qwen2",
            json!({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": null}}),
            "rope_scaling.truncate",
        ),
        (
            "mistral",
            json!({"rope_parameters": {"rope_type": "linear", "factor": 0}}),
            "rope_parameters.factor",
        ),
        ("llama", llama3(&[("low_freq_factor", json!(4))]), "high_freq_factor"),
        ("llama", llama3(&[("high_freq_factor", json!(null))]), "rope_scaling.high_freq_factor"),
        (
            "llama",
            llama3(&[("original_max_position_embeddings", json!(0.5))]),
            "rope_scaling.original_max_position_embeddings",
        ),
        ("llama", llama3(&[("mrope_section", json!([1]))]), "rope_scaling.mrope_section"),
        ("llama", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        ("llama", json!({"rope_theta": null}), "rope_theta"),
        ("llama", json!({"sliding_window": 3}), "sliding_window"),
        ("llama", json!({"use_sliding_window": true}), "use_sliding_window"),
        ("llama", json!({"layer_types": layers("sliding_attention")}), "layer_types"),
        ("llama", json!({"hidden_act": "gelu"}), "hidden_act"),
        ("llama", json!({"rms_norm_eps": null}), "rms_norm_eps"),
        ("llama", json!({"is_causal": false}), "is_causal"),
        ("llama", json!({"per_layer_config": {"0": {"sliding_window": 4}}}), "per_layer_config"),
        ("mistral", json!({"layer_types": layers("sliding_attention")}), "layer_types"),
        ("mistral", json!({"layer_types": layers("full_attention")}), "layer_types"),
        ("mistral", json!({"layer_types": "full_attention"}), "layer_types"),
        (
            "mistral",
            json!({"sliding_window": null, "layer_types": layers("chunked_attention")}),
            "layer_types",
        ),
        ("mistral", json!({"use_sliding_window": false}), "use_sliding_window"),
        ("mistral", json!({"max_window_layers": 1}), "max_window_layers"),
        ("mistral", json!({"sliding_window": 0}), "sliding_window"),
        ("mistral", json!({"attention_bias": true}), "attention_bias"),
        ("mistral", json!({"mlp_bias": true}), "mlp_bias"),
        ("qwen2", json!({"attention_bias": false}), "attention_bias"),
        ("qwen2", json!({"mlp_bias": true}), "mlp_bias"),
        ("qwen2", json!({"num_attention_heads": 12}), "num_key_value_heads = 32"),
        ("qwen2", json!({"layer_types": vec!["sliding_attention"; 32]}), "layer_types"),
        (
            "qwen2",
            json!({"use_sliding_window": true, "layer_types": layers("sliding_attention")}),
            "layer_types has 2 kinds",
        ),
        (
            "qwen3",
            json!({"use_sliding_window": true, "layer_types": layers("chunked_attention")}),
            "layer_types",
        ),
        ("qwen3", json!({"use_sliding_window": true, "sliding_window": 0}), "sliding_window"),
        ("qwen3", json!({"max_window_layers": null}), "max_window_layers"),
        ("qwen3", json!({"head_dim": 7}), "head_dim = 7"),
        ("qwen3", json!({"mlp_bias": true}), "mlp_bias"),
        ("phi3", json!({"attention_bias": true}), "attention_bias"),
        ("phi3", json!({"partial_rotary_factor": 0.75}), "partial_rotary_factor"),
        ("phi3", json!({"sliding_window": 4, "layer_types": layers("full_attention")}), "layer_types"),
        ("gpt2", json!({"activation_function": "quick_gelu"}), "activation_function"),
        ("gpt2", json!({"activation_function": "gelu_10"}), "activation_function"),
        ("gpt2", json!({"activation_function": null}), "activation_function"),
        ("gpt2", json!({"layer_norm_epsilon": 0}), "layer_norm_epsilon"),
        ("gpt2", json!({"scale_attn_weights": null}), "scale_attn_weights"),
        ("gpt2", json!({"add_cross_attention": true}), "add_cross_attention"),
        ("gpt2", json!({"pruned_heads": {"0": [1]}}), "pruned_heads"),
        ("marian", json!({"decoder_vocab_size": 99}), "decoder_vocab_size = 99"),
        ("marian", json!({"d_model": 33}), "d_model"),
        ("marian", json!({"share_encoder_decoder_embeddings": false}), "share_encoder_decoder_embeddings"),
        ("marian", json!({"tie_encoder_decoder": true}), "tie_encoder_decoder"),
        ("marian", json!({"normalize_before": true}), "normalize_before"),
        ("marian", json!({"normalize_embedding": true}), "normalize_embedding"),
        ("marian", json!({"static_position_embeddings": false}), "static_position_embeddings"),
        ("marian", json!({"vocab_size": 9}), "decoder_start_token_id = 58100"),
    ];
    for (family, fields, named) in cases {
        is_refused(family, fields, &[named]);
    }
    for (family, _) in FAMILIES {
        for key in ["quantization_config", "compression_config"] {
            is_refused(family, json!({key: {"quant_method": "gptq", "bits": 4}}), &[key, "gptq"]);
        }
    }
}

/// Any value of any key leaves the model as it is, is read, or is refused in a sentence that names the key.
#[test]
fn any_value_of_any_key_is_answered() {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(7),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(1u64 << 40),
        json!(""),
        json!("NaN"),
        json!("swish"),
        json!([]),
        json!([1, "a"]),
        json!({}),
        json!({"rope_type": 1}),
        json!({"a": {"b": []}}),
    ];
    let all = configurations();
    let mut refused = 0;
    for (family, model) in FAMILIES {
        let more: &[&str] = match model {
            ModelKind::Llama => &["rope_theta", "rope_scaling", "layer_types", "use_sliding_window"],
            _ => &["hidden_size", "num_hidden_layers"],
        };
        let more = ["model_type", "quantization_config", "is_causal"].iter().chain(more).copied();
        for key in all[family]["defaults"].as_object().unwrap().keys().map(String::as_str).chain(more) {
            for value in &values {
                let mut config = json!({"model_type": family});
                config[key] = value.clone();
                match read_config(model, &config) {
                    Ok(file) => assert!(!file.notes.iter().any(|note| note.contains(key)), "{config}"),
                    Err(said) => {
                        refused += 1;
                        assert!(said.contains(key), "{config}: {said}");
                    }
                }
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

fn is_refused(family: &str, fields: Value, named: &[&str]) {
    let mut config = json!({"model_type": family});
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let (_, model) = FAMILIES.iter().find(|(name, _)| *name == family).unwrap();
    let said = read_config(*model, &config).map(|file| file.config).expect_err(&config.to_string());
    assert!(named.iter().all(|name| said.contains(name)), "{config} should name {named:?}: {said}");
}

/// Nothing that transformers' configurations have is unknown; alone, each key says what it says by default.
#[test]
fn every_key_of_a_family_is_known() {
    let all = configurations();
    let generation =
        all["generation"].as_array().unwrap().iter().map(|key| (key.as_str().unwrap(), json!(1)));
    for (family, model) in FAMILIES {
        let defaults = all[family]["defaults"].as_object().unwrap();
        let own = defaults.iter().map(|(key, value)| (key.as_str(), value.clone()));
        let base = json!({"model_type": family});
        let want = read_config(model, &base).unwrap().config;
        for (key, value) in own.chain(generation.clone()) {
            let mut config = base.clone();
            config[key] = value;
            let file = read_config(model, &config).unwrap_or_else(|e| panic!("{config}: {e}"));
            assert_eq!((&file.config, file.notes.len()), (&want, 0), "{config}: {:?}", file.notes);
        }
    }
}

/// Flax's `MultiHeadDotProductAttention`, in one causal pass and step by step with its own cache.
#[test]
fn flax_agrees_on_attention() {
    let golden = Golden::read("flax_attention.safetensors");
    let (shape, x) = golden.numbers("x");
    let [batch, positions, width] = as_three(&shape);
    let [_, heads, size] = as_three(&golden.numbers("query.kernel").0);
    let b = Cpu::new(2).unwrap();
    let part = |name: &str| turned(&golden.numbers(&format!("{name}.kernel")).1, [width, heads * size], 1);
    let bias = |name: &str| golden.numbers(&format!("{name}.bias")).1;
    let names = ["query", "key", "value"];
    let qkv = Linear {
        norm: None,
        weight: tensor(&b, [1, 3 * heads * size, width], &names.map(part).concat()),
        bias: Some(tensor(&b, [1, 1, 3 * heads * size], &names.map(bias).concat())),
    };
    let out = turned(&golden.numbers("out.kernel").1, [heads * size, width], 1);
    let out = Linear {
        norm: None,
        weight: tensor(&b, [1, width, heads * size], &out),
        bias: Some(tensor(&b, [1, 1, width], &bias("out"))),
    };
    let layer = Attention::multi_head(qkv, out, heads, size, Mask::Causal);
    for name in ["causal", "stepped"] {
        let expected = golden.rows(name);
        for strategy in laws::strategies(&layer).into_iter().filter(|s: &Strategy| s.remembers()) {
            let mut cache = layer.cache(&b, strategy, batch, positions).unwrap();
            for at in 0..positions {
                let rows_at = |entry: usize| &x[(entry * positions + at) * width..][..width];
                let step: Vec<f32> = (0..batch).flat_map(|entry| rows_at(entry).to_vec()).collect();
                let y = layer.extend(&b, &mut cache, &tensor(&b, [batch, 1, width], &step)).unwrap();
                let want: Vec<_> = (0..batch).map(|entry| expected[entry * positions + at].clone()).collect();
                assert_close(&rows(&b, &y), &want, &format!("{name}, {strategy}, position {at}"));
            }
        }
    }
}

#[test]
fn fairseq_agrees_on_the_logits_of_every_position() {
    let subject = Subject::load(ModelKind::LinearizedConv, "fconv_lm");
    let golden = subject.golden();
    let sentences = golden.sentences("tokens");
    subject.agrees(&sentences, &golden.rows("logits"));
    subject.agrees(&sentences, &golden.rows("logits_incremental"));
}

// ---- layers, from their formulas

/// `[batch, rows, width]`
fn tensor(b: &Cpu, shape: [usize; 3], numbers: &[f32]) -> Tensor {
    b.upload(shape, numbers).unwrap()
}

fn call(batch: usize, rows: usize) -> Call<()> {
    Call::new(vec![0; batch * rows], batch, 0)
}

fn whole(rows: &Tensor, layout: Layout) -> View<'_, Tensor> {
    View { rows: columns(rows), layout }
}

fn columns(tensor: &Tensor) -> Columns<'_, Tensor> {
    Columns { tensor, from: 0, width: tensor.shape()[2] }
}

fn rows(b: &Cpu, x: &Tensor) -> Vec<Vec<f32>> {
    let [_, _, width] = x.shape();
    b.download(x).unwrap().chunks_exact(width).map(<[f32]>::to_vec).collect()
}

/// Row-major `[a, b]` → `[b, a]`, of blocks of `block` numbers.
fn turned(numbers: &[f32], [a, b]: [usize; 2], block: usize) -> Vec<f32> {
    let at = |i: usize, j: usize| &numbers[(i * b + j) * block..][..block];
    (0..b).flat_map(|j| (0..a).flat_map(move |i| at(i, j).iter().copied())).collect()
}

#[test]
fn attention_is_that_of_its_formula() {
    let golden = Golden::read("derived/attention.safetensors");
    let (shape, q) = golden.numbers("q");
    let [batch, positions, heads, size] = shape[..] else { panic!("{shape:?}") };
    let width = heads * size;
    for threads in [1, 2] {
        let b = Cpu::new(threads).unwrap();
        let [q, k, v] = [q.clone(), golden.numbers("k").1, golden.numbers("v").1]
            .map(|x| tensor(&b, [batch, positions, width], &x));
        for layout in [Layout::Tail, Layout::Bounded, Layout::Masked] {
            let attended = b.attention(
                &call(batch, positions),
                columns(&q),
                whole(&k, layout),
                whole(&v, layout),
                &AttentionParams::causal(heads, size),
            );
            let attended = attended.unwrap();
            let what = format!("{layout:?}, {threads} threads");
            assert_close(&rows(&b, &attended), &golden.rows("attended"), &format!("attended, {what}"));
            let wo = turned(&golden.numbers("wo").1, [width, width], 1); // [in, out] → [out, in]
            let wo = Linear { norm: None, weight: tensor(&b, [1, width, width], &wo), bias: None };
            let projected = b.linear(&attended, &wo, Activation::None, None).unwrap();
            assert_close(&rows(&b, &projected), &golden.rows("projected"), &format!("projected, {what}"));
        }
    }
}

/// Scores that fade with the distance; in one pass, and step by step over rows kept in all ways.
#[test]
fn attention_with_linear_biases_is_that_of_its_formula() {
    let golden = Golden::read("derived/alibi.safetensors");
    let (shape, q) = golden.numbers("q");
    let [batch, positions, heads, size] = shape[..] else { panic!("{shape:?}") };
    let width = heads * size;
    let b = Cpu::new(2).unwrap();
    let slopes = golden.numbers("slopes").1;
    assert_close(&[position::alibi(heads)], std::slice::from_ref(&slopes), "slopes");
    let slopes = tensor(&b, [1, 1, heads], &slopes);
    let [q, k, v] =
        [q, golden.numbers("k").1, golden.numbers("v").1].map(|x| tensor(&b, [batch, positions, width], &x));
    let params = AttentionParams { slopes: Some(&slopes), ..AttentionParams::causal(heads, size) };
    for layout in [Layout::Tail, Layout::Bounded, Layout::Masked] {
        let call = call(batch, positions);
        let attended =
            b.attention(&call, columns(&q), whole(&k, layout), whole(&v, layout), &params).unwrap();
        let expected: Vec<Vec<f32>> =
            golden.numbers("attended").1.chunks(width).map(<[f32]>::to_vec).collect();
        assert_close(&rows(&b, &attended), &expected, &format!("alibi, {layout:?}"));
    }
}

#[test]
fn retention_is_that_of_its_formula() {
    let golden = Golden::read("derived/retention.safetensors");
    let (shape, q) = golden.numbers("q");
    let [batch, positions, heads, size] = shape[..] else { panic!("{shape:?}") };
    let width = heads * size;
    let b = Cpu::new(2).unwrap();
    let decays = tensor(&b, [1, 1, heads], &golden.numbers("decay").1);
    let qkv = [q, golden.numbers("k").1, golden.numbers("v").1];
    let expected: Vec<Vec<f32>> = golden.numbers("y").1.chunks(width).map(<[f32]>::to_vec).collect();
    // all at once, and row by row with a state
    let mut state = b.zeros([batch, width, size]).unwrap();
    let all = qkv.clone().map(|x| tensor(&b, [batch, positions, width], &x));
    let parts = [&all[0], &all[1], &all[2]].map(columns);
    let y = b.retain(&call(batch, positions), parts, None, &decays).unwrap();
    assert_close(&rows(&b, &y), &expected, "retention, all at once");
    for at in 0..positions {
        let row = |x: &[f32], entry: usize| x[(entry * positions + at) * width..][..width].to_vec();
        let one = qkv.clone().map(|x| {
            let step: Vec<f32> = (0..batch).flat_map(|entry| row(&x, entry)).collect();
            tensor(&b, [batch, 1, width], &step)
        });
        let call = Call::new(vec![0; batch], batch, at);
        let y = b.retain(&call, [&one[0], &one[1], &one[2]].map(columns), Some(&mut state), &decays).unwrap();
        let want: Vec<_> = (0..batch).map(|entry| expected[entry * positions + at].clone()).collect();
        assert_close(&rows(&b, &y), &want, &format!("retention, position {at}"));
    }
    let expected: Vec<Vec<f32>> = golden.numbers("state").1.chunks(size).map(<[f32]>::to_vec).collect();
    assert_close(&rows(&b, &state), &expected, "retention, the state");
}

#[test]
fn rotation_is_that_of_its_formula() {
    let golden = Golden::read("derived/rotary.safetensors");
    let (shape, x) = golden.numbers("x");
    let [batch, n, heads, size] = shape[..] else { panic!("{shape:?}") };
    let b = Cpu::new(1).unwrap();
    let positions = golden.ids("positions").1;
    let theta = f64::from(golden.numbers("theta").1[0]);
    let cos_sin = position::rotary(theta, positions[n - 1] as usize + 1, size).unwrap();
    let cos_sin = tensor(&b, [1, cos_sin.len() / size, size], &cos_sin);
    let call = Call::new(vec![0; batch * n], batch, positions[0] as usize);
    let x = tensor(&b, [batch, n, heads * size], &x);
    let expected: Vec<Vec<f32>> = golden.numbers("y").1.chunks(heads * size).map(<[f32]>::to_vec).collect();
    assert_close(&rows(&b, &b.rope(&call, columns(&x), &cos_sin).unwrap()), &expected, "rotary");
}

#[test]
fn root_mean_squares_and_gated_units_are_those_of_their_formulas() {
    let b = Cpu::new(1).unwrap();
    let golden = Golden::read("derived/rms_norm.safetensors");
    let (shape, x) = golden.numbers("x");
    let gain = tensor(&b, [1, 1, shape[1]], &golden.numbers("gain").1);
    let norm = Norm { gain, bias: None, eps: golden.numbers("eps").1[0] };
    let y = b.norm(&tensor(&b, [1, shape[0], shape[1]], &x), &norm).unwrap();
    assert_close(&rows(&b, &y), &golden.rows("y"), "RMSNorm");

    let golden = Golden::read("derived/swiglu.safetensors");
    let ((shape, x), (inner, gate)) = (golden.numbers("x"), golden.numbers("gate"));
    let [width, hidden] = inner[..] else { panic!("{inner:?}") };
    let part = |numbers: &[f32]| turned(numbers, [width, hidden], 1);
    let both = [part(&gate), part(&golden.numbers("up").1)].concat();
    let gate_up = Linear { norm: None, weight: tensor(&b, [1, 2 * hidden, width], &both), bias: None };
    let (down_shape, down) = golden.numbers("down");
    let down = turned(&down, [hidden, down_shape[1]], 1);
    let down = Linear { norm: None, weight: tensor(&b, [1, down_shape[1], hidden], &down), bias: None };
    let layer = GatedMlp { gate_up, down };
    let y = layer.forward(&b, &tensor(&b, [1, shape[0], width], &x)).unwrap();
    assert_close(&rows(&b, &y), &golden.rows("y"), "SwiGLU");
}

/// The golden layer is the convolution alone, with `out` outputs; the operation gates one half of its
/// outputs with the other and adds its input. So its first half is given the layer's first outputs,
/// the whole of the other half one output after another, and the gate is applied to golden values.
#[test]
fn the_convolution_is_that_of_its_formula() {
    let golden = Golden::read("derived/conv.safetensors");
    let ((shape, x), (w_shape, w)) = (golden.numbers("x"), golden.numbers("w"));
    let ([positions, batch, c], [taps, _, out]) = (as_three(&shape), as_three(&w_shape));
    let (bias, y) = (golden.numbers("b").1, golden.rows("y"));
    let b = Cpu::new(2).unwrap();
    let x = turned(&x, [positions, batch], c); // [batch, positions, c]
    let input = tensor(&b, [batch, positions, c], &x);
    for gate in 0..out {
        // channel o's value is output o of the layer, and every channel's gate is output `gate`
        let source = |o: usize| if o < c { o } else { gate };
        let weight: Vec<f32> = (0..2 * c)
            .flat_map(|o| (0..taps * c).map(move |ki| (o, ki)))
            .map(|(o, ki)| w[ki * out + source(o)])
            .collect();
        let biases: Vec<f32> = (0..2 * c).map(|o| bias[source(o)]).collect();
        let linear = Linear {
            norm: None,
            weight: tensor(&b, [1, 2 * c, taps * c], &weight),
            bias: Some(tensor(&b, [1, 1, 2 * c], &biases)),
        };
        let convolution = Convolution { linear, taps, ahead: 0, residual: true };
        let found = b.conv_glu(&call(batch, positions), whole(&input, Layout::Tail), &convolution).unwrap();
        let expected: Vec<Vec<f32>> = (0..batch * positions)
            .map(|row| {
                let (y, x) = (&y[(row % positions) * batch + row / positions], &x[row * c..]);
                (0..c).map(|o| glu_residual(y[o], y[gate], x[o])).collect()
            })
            .collect();
        assert_close(&rows(&b, &found), &expected, &format!("gate from output {gate}"));
    }
}

fn as_three(shape: &[usize]) -> [usize; 3] {
    shape.try_into().unwrap()
}

fn glu_residual(value: f32, gate: f32, x: f32) -> f32 {
    let [value, gate, x] = [value, gate, x].map(f64::from);
    ((value / (1.0 + (-gate).exp()) + x) * 0.5f64.sqrt()) as f32
}
