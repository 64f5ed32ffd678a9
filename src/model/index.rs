//! `model.safetensors.index.json`: which of several files holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files;

/// The longest index that is read. That of a model of 671 billion numbers has 9 MB.
const MOST_BYTES: u64 = 100_000_000;

/// The files of a checkpoint, by name, and the tensors of each.
pub(super) struct Index {
    pub path: PathBuf,
    pub files: BTreeMap<String, BTreeSet<String>>,
    /// Bytes of all tensors, if the index says how many.
    total_size: Option<f64>,
}

impl Index {
    /// # Errors
    /// When it is no index, lists a tensor twice, or a file that is in another folder.
    pub fn read(path: PathBuf) -> Result<Index> {
        let text = files::read_text(&path, MOST_BYTES)?;
        let json: Json = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
        let mut files = BTreeMap::<String, BTreeSet<String>>::new();
        for (tensor, file) in json.weight_map.0 {
            if !is_beside(&file) {
                let what =
                    format!("tensor `{tensor}` is listed in `{file}`, which names no file of this folder");
                return Err(Error::file(path, what));
            }
            files.entry(file).or_default().insert(tensor);
        }
        let total_size = json.metadata.unwrap_or_default().get("total_size").and_then(Value::as_f64);
        Ok(Index { path, files, total_size })
    }

    /// A sentence for the user, where the tensors have another size than the index says. Nothing depends on it, and
    /// transformers does not look at it.
    pub fn note(&self, bytes: usize) -> Option<String> {
        let stated = self.total_size.filter(|stated| *stated != bytes as f64)?;
        let path = self.path.display();
        Some(format!("{path}: total_size = {stated}, and the tensors of its files have {bytes} bytes"))
    }
}

/// A name without a folder: an index cannot reach out of its own.
fn is_beside(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    !file.contains(['/', '\\']) && matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

#[derive(serde::Deserialize)]
struct Json {
    metadata: Option<Map<String, Value>>,
    weight_map: WeightMap,
}

/// The file of each tensor. Of two equal keys serde_json's own map would keep the last.
struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the name of a file for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut json: A) -> Result<WeightMap, A::Error> {
        let mut pairs = BTreeMap::new();
        while let Some((tensor, file)) = json.next_entry::<String, String>()? {
            if pairs.contains_key(&tensor) {
                return Err(A::Error::custom(format!("tensor `{tensor}` is listed twice")));
            }
            pairs.insert(tensor, file);
        }
        Ok(WeightMap(pairs))
    }
}
