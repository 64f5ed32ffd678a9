//! A checkpoint's `config.json`, for every model.
#![no_main]

use decode_bench::case::ModelKind;
use decode_bench::model::checkpoint::{read_config, CONFIG_FILE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(CONFIG_FILE);
    std::fs::write(&path, bytes).expect("room for a file");
    for &model in ModelKind::ALL {
        let Ok(file) = read_config(model, &path) else { continue };
        let config = file.config;
        assert!(config.kind() == model && (config.start() as usize) < config.vocab());
    }
});
