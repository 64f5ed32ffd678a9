//! `tokenizer.json`: what is read can tokenize a text, or says why not.
#![no_main]

use decode_bench::decoding::{Text, TOKENIZER_FILE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(TOKENIZER_FILE);
    std::fs::write(&path, bytes).expect("room for a file");
    let Ok(text) = Text::open(&path) else { return };
    if let Ok(encoded) = text.encode("the cat sat on 12 mats, it's naïve … ") {
        let _ = text.continuation(&encoded.tokens, &encoded.tokens);
    }
});
