//! A checkpoint's `config.json`, for every model: what is read is written and read again as the same.
#![no_main]

use decode_bench::case::ModelKind;
use decode_bench::model::weights::{read_config, CONFIG_FILE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(CONFIG_FILE);
    for &model in ModelKind::ALL {
        std::fs::write(&path, bytes).expect("room for a file");
        let Ok(config) = read_config(model, &path) else { continue };
        std::fs::write(&path, config.to_json().to_string()).expect("room for a file");
        assert_eq!(read_config(model, &path).expect("what was written can be read"), config);
        assert!((config.start() as usize) < config.vocab());
    }
});
