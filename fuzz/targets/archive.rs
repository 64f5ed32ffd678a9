//! An archive given to `import`; the first byte says of which kind. What is refused leaves nothing behind.
#![no_main]

use std::io::Write;

use decode_bench::record::{import, Imported, Run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, packed) = match kind % 4 {
        0 => ("run.tar", bytes.to_vec()),
        1 => ("run.tar.gz", bytes.to_vec()),
        2 => ("run.zip", bytes.to_vec()),
        // so that changes reach the archive, and not only its checksum
        _ => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(bytes).expect("room in memory");
            ("run.tgz", gz.finish().expect("room in memory"))
        }
    };
    let (source, results) = (folder.path().join(source), folder.path().join("results"));
    std::fs::write(&source, packed).expect("room for a file");
    match import(&source, &results) {
        Ok(Imported::New(run) | Imported::Known(run)) => {
            assert_eq!(run.path.parent(), Some(results.as_path()));
            Run::open(&run.path).expect("what was imported can be read");
        }
        Err(error) => {
            let left = std::fs::read_dir(&results).map_or(0, |found| found.count());
            assert_eq!(left, 0, "it was refused ({error}), and left something behind");
        }
    }
    let here = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert!(here <= 2, "something was written beside the results");
});
