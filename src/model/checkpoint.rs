//! A model in a directory: `config.json`, and its weights in `model.safetensors` or in the files that
//! `model.safetensors.index.json` lists.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

pub use super::fields::GENERATION_KEYS;

use super::fields::Fields;
use super::index::Index;
use super::loader::contents;
use super::tensor_files::TensorFiles;
use super::weights::Weights;
use super::Config;
use crate::case::ModelKind;
use crate::error::{Error, Result};
use crate::files::{self, write_atomically};

/// The file of a checkpoint's configuration.
pub const CONFIG_FILE: &str = "config.json";
/// The file of its weights.
pub const MODEL_FILE: &str = "model.safetensors";
/// Where there is no such file: the list of those that have the weights together.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The longest configuration that is read; GPT-2's has less than one KiB.
const CONFIG_MOST_BYTES: u64 = 1 << 20;

/// A `config.json`, as it was read.
#[derive(Debug)]
pub struct ConfigFile {
    /// The model that it describes.
    pub config: Config,
    /// Those of [`GENERATION_KEYS`] that it has, unread: nothing here generates.
    pub generation: Map<String, Value>,
    /// Sentences for the user: keys that nobody knows, a size that is not that of the weights.
    pub notes: Vec<String>,
}

/// Reads the configuration and the headers of the weights, and compares them: every tensor that
/// the configuration calls for is there, and no other.
///
/// # Errors
/// When a file cannot be read, or two contradict each other. The error names the file and the tensor.
pub fn open(model: ModelKind, directory: &Path) -> Result<(ConfigFile, Weights)> {
    let mut file = read_config(model, &directory.join(CONFIG_FILE))?;
    let config = &file.config;
    let (single, index) = (directory.join(MODEL_FILE), directory.join(INDEX_FILE));
    // as in transformers, the single file goes before the index
    let (files, note) = match !single.exists() && index.exists() {
        true => {
            let index = Index::read(index)?;
            let files = TensorFiles::sharded(&index, config.prefix())?;
            let note = index.note(files.bytes());
            (files, note)
        }
        false => (TensorFiles::single(single, config.prefix())?, None),
    };
    let weights = Weights::stored(files);
    weights.check_others(&contents(&weights, 0, |loader| config.load(loader))?)?;
    file.notes.extend(note);
    Ok((file, weights))
}

/// Writes both files. Each is replaced as a whole or left as it was.
pub fn write(config: &Config, weights: &Weights, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::io(directory))?;
    let model = directory.join(MODEL_FILE);
    weights.write(&config.parameters(), &model)?;
    let path = directory.join(CONFIG_FILE);
    let json = serde_json::to_string_pretty(&config.to_json()).expect("a JSON value prints") + "\n";
    write_atomically(&path, json.as_bytes())?;
    // The tensors were written to a private temporary file; others may read them like the rest.
    let access = fs::metadata(&path).map_err(Error::io(&path))?.permissions();
    fs::set_permissions(&model, access).map_err(Error::io(&model))
}

/// Reads a `config.json` by itself.
///
/// # Errors
/// When it is no configuration of this model, or asks for what is not implemented.
pub fn read_config(model: ModelKind, path: &Path) -> Result<ConfigFile> {
    let text = files::read_text(path, CONFIG_MOST_BYTES)?;
    let fields = Fields::parse(&text).map_err(|e| Error::file(path, e))?;
    let config = Config::parse(model, &fields).map_err(|what| Error::file(path, what))?;
    let unknown = fields.unknown(Config::harmless(model));
    let note = (!unknown.is_empty()).then(|| {
        format!(
            "{}: keys that model `{model}` does not know are passed over: {}",
            path.display(),
            unknown.join(", ")
        )
    });
    Ok(ConfigFile { config, generation: fields.generation(), notes: note.into_iter().collect() })
}
