//! `model.safetensors.index.json` beside the files of a checkpoint.
#![no_main]

use decode_bench::backend::cpu::Cpu;
use decode_bench::case::ModelKind;
use decode_bench::model::checkpoint::{open, CONFIG_FILE, INDEX_FILE};
use decode_bench::model::AnyModel;
use libfuzzer_sys::fuzz_target;

const FILES: [(&str, &[u8]); 3] = [
    (CONFIG_FILE, include_bytes!("../../tests/golden/families/gpt2/bf16/config.json")),
    (
        "model-00001-of-00002.safetensors",
        include_bytes!("../../tests/golden/families/gpt2/bf16/model-00001-of-00002.safetensors"),
    ),
    (
        "model-00002-of-00002.safetensors",
        include_bytes!("../../tests/golden/families/gpt2/bf16/model-00002-of-00002.safetensors"),
    ),
];

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, contents) in FILES {
        std::fs::write(folder.path().join(name), contents).expect("room for a file");
    }
    std::fs::write(folder.path().join(INDEX_FILE), bytes).expect("room for a file");
    let Ok((file, weights)) = open(ModelKind::Transformer, folder.path()) else { return };
    AnyModel::load(&Cpu::new(1).unwrap(), &file.config, &weights).map(drop).expect("the files are in order");
});
