//! `model.safetensors` beside a configuration that fits; the first byte says which.
#![no_main]

use decode_bench::backend::cpu::Cpu;
use decode_bench::case::ModelKind;
use decode_bench::model::checkpoint::{open, CONFIG_FILE, MODEL_FILE};
use decode_bench::model::AnyModel;
use libfuzzer_sys::fuzz_target;

const MODELS: [(ModelKind, &str); 5] = [
    (ModelKind::Transformer, include_str!("../../tests/golden/gpt2_tiny_odd/config.json")),
    (ModelKind::LinearizedConv, include_str!("../../tests/golden/fconv_lm/config.json")),
    (ModelKind::Llama, include_str!("../../tests/golden/llama_tied/config.json")),
    (ModelKind::EncoderDecoder, include_str!("../../tests/golden/marian/config.json")),
    (ModelKind::ConvSeq2Seq, include_str!("../../tests/golden/fconv_seq2seq/config.json")),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let (model, config) = MODELS[usize::from(*which) % MODELS.len()];
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join(CONFIG_FILE), config).expect("room for a file");
    std::fs::write(folder.path().join(MODEL_FILE), bytes).expect("room for a file");
    let Ok((file, weights)) = open(model, folder.path()) else { return };
    let _ = AnyModel::load(&Cpu::new(1).unwrap(), &file.config, &weights); // refuses no more than a NaN
});
