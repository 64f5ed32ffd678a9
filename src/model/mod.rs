//! The models. A model has one body, [`Model::extend`]; a forward pass, a prefill and a step
//! are three ways to call it, and a [`crate::session::Session`] is the caller.
//!
//! | model | file | decodes from |
//! |---|---|---|
//! | `transformer` | `transformer.rs` | a prompt |
//! | `linearized-conv` | `linearized_conv.rs` | a prompt |
//! | `llama` | `llama.rs` | a prompt |
//! | `retention` | `retention.rs` | a prompt |
//! | `encoder-decoder` | `encoder_decoder.rs` | a source |
//! | `conv-seq2seq` | `conv_seq2seq.rs` | a source |
//!
//! Everything about a model is in its file, in this order: its formula; its configuration; the sizes of its named
//! shapes; how `config.json` is read and written; its costs; its loading, which names its tensors; its body. This
//! file lists the models. The others serve all of them:
//!
//! | file | |
//! |---|---|
//! | `loader.rs` | tensors by name, onto a backend; the list of a model's tensors |
//! | `weights.rs` | their numbers: from a seed, or from files |
//! | `tensor_files.rs`, `index.rs` | safetensors files, one or several |
//! | `checkpoint.rs`, `fields.rs` | a model in a directory; the fields of its `config.json` |
//! | `decoder.rs` | the body of the models that decode from a prompt |
//! | `node.rs` | the parts of a model that cost something |

pub mod checkpoint;
mod conv_seq2seq;
mod decoder;
mod encoder_decoder;
mod fields;
mod index;
mod linearized_conv;
mod llama;
mod loader;
mod node;
mod retention;
mod tensor_files;
mod transformer;
mod weights;

pub use conv_seq2seq::ConvSeq2SeqConfig;
pub use encoder_decoder::EncoderDecoderConfig;
pub use linearized_conv::ConvConfig;
pub use llama::LlamaConfig;
pub(crate) use node::Node;
pub use retention::RetentionConfig;
pub use transformer::TransformerConfig;
pub use weights::Weights;

use serde_json::Value;

use crate::backend::{Backend, Call};
use crate::cache::{Cache, EncoderOutput};
use crate::case::{ModelKind, ShapeName};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::strategy::{Slot, Strategy};
use fields::Fields;
use loader::Loader;
use weights::Parameter;

/// A decoder: tokens in, logits of the next token out.
pub trait Model<B: Backend> {
    /// The state of each layer call, in call order. A layer called twice has two.
    fn slots(&self) -> Vec<Slot>;
    /// V, tokens: as many logits.
    fn vocab(&self) -> usize;
    /// The most positions it can tell apart; `None` when it counts none.
    fn max_positions(&self) -> Option<usize>;
    /// What is to be looked at, made of the source that is staged in `call`, as the strategy keeps it.
    ///
    /// # Errors
    /// When it decodes from a prompt alone.
    fn encode(&self, _: &B, _: Strategy, _: Call<B::Input>) -> Result<EncoderOutput<B>> {
        Err(Error::Input("this model decodes from a prompt alone, and has no use for a source".into()))
    }
    /// Decodes the tokens staged in `cache`, which follow those it holds, and returns the logits
    /// after the wanted one, `[batch, 1, vocab]`.
    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor>;
}

/// A model of some size, as its file describes it. A new model implements this and has a line in `models!`.
trait ModelConfig {
    /// The configuration that a named shape means; `None` where the model has no such shape.
    fn named(shape: ShapeName) -> Option<Self>
    where
        Self: Sized;

    /// Reads `config.json`.
    ///
    /// # Errors
    /// When a field is missing, or its value is not implemented: a sentence that names the field.
    fn parse(json: &Fields) -> Result<Self, String>
    where
        Self: Sized;

    /// Keys of the original's configuration that [`Self::parse`] does not ask for, because they change no logit.
    fn harmless() -> &'static [&'static str]
    where
        Self: Sized,
    {
        &[]
    }

    /// `config.json`, as [`Self::parse`] and other programs read it.
    fn to_json(&self) -> Value;

    /// A beginning of the names of tensors that a file may have or lack.
    fn prefix(&self) -> &'static str {
        ""
    }

    fn vocab(&self) -> usize;

    /// The most positions it can tell apart; `None` when it counts none.
    fn max_positions(&self) -> Option<usize>;

    /// The token that a decode from a source begins with.
    fn start(&self) -> u32 {
        0
    }

    /// Its parts in a call, in order: its costs are sums over them.
    fn nodes(&self) -> Vec<Node>;

    /// Bytes of its weights that a call of `rows` new rows a sentence leaves alone, kept in some type: of
    /// tables that are only looked up, all but the rows that are; an encoder, which has done its work before.
    fn untouched(&self, strategy: Strategy, batch: usize, rows: usize, weights: Dtype) -> usize;

    /// Numbers kept of each row of the source, where there is one.
    fn source_width(&self, _: Strategy) -> usize {
        0
    }

    /// Asks for its tensors in the order in which a step reads them, and makes the body of them.
    fn load<B: Backend>(&self, loader: &Loader<'_, B>) -> Result<Box<dyn Model<B>>>
    where
        Self: Sized;
}

/// The models there are: the kind of each, and its configuration.
macro_rules! models {
    ($($kind:ident($config:ident)),+ $(,)?) => {
        /// Everything that fixes a model but its weights.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Config {
            $(#[doc = concat!("[`ModelKind::", stringify!($kind), "`]")] $kind($config)),+
        }

        impl Config {
            /// The kind of model.
            pub fn kind(&self) -> ModelKind {
                match self { $(Config::$kind(_) => ModelKind::$kind),+ }
            }

            fn shaped(model: ModelKind, shape: ShapeName) -> Option<Config> {
                match model { $(ModelKind::$kind => $config::named(shape).map(Config::$kind)),+ }
            }

            fn parse(model: ModelKind, json: &Fields) -> Result<Config, String> {
                json.only_what_all_models_have()?;
                match model { $(ModelKind::$kind => $config::parse(json).map(Config::$kind)),+ }
            }

            fn harmless(model: ModelKind) -> &'static [&'static str] {
                match model { $(ModelKind::$kind => $config::harmless()),+ }
            }

            fn load<B: Backend>(&self, loader: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
                match self { $(Config::$kind(config) => config.load(loader)),+ }
            }

            fn of_model(&self) -> &dyn ModelConfig {
                match self { $(Config::$kind(config) => config),+ }
            }
        }
    };
}

models!(
    Transformer(TransformerConfig),
    LinearizedConv(ConvConfig),
    Llama(LlamaConfig),
    Retention(RetentionConfig),
    EncoderDecoder(EncoderDecoderConfig),
    ConvSeq2Seq(ConvSeq2SeqConfig),
);

impl Config {
    /// The configuration that a named shape means.
    ///
    /// # Errors
    /// When the model has no such shape.
    pub fn named(model: ModelKind, shape: ShapeName) -> Result<Config> {
        Config::shaped(model, shape).ok_or_else(|| Error::Unknown {
            kind: "shape",
            name: format!("{model}-{shape}"),
            known: shapes(model).map(|shape| format!("{model}-{shape}")).collect(),
        })
    }

    /// V, tokens.
    pub fn vocab(&self) -> usize {
        self.of_model().vocab()
    }

    /// The most positions it can tell apart; `None` when it counts none.
    pub fn max_positions(&self) -> Option<usize> {
        self.of_model().max_positions()
    }

    /// The token that a decode from a source begins with.
    pub fn start(&self) -> u32 {
        self.of_model().start()
    }

    /// Bytes of all weights.
    pub(crate) fn weight_bytes(&self, weights: Dtype) -> usize {
        self.parameters().iter().map(|parameter| parameter.bytes(weights)).sum()
    }

    /// The same with the tables that are computed for so many positions.
    pub(crate) fn loaded_bytes(&self, positions: usize, weights: Dtype) -> usize {
        let contents = loader::seeded_contents(positions, |loader| self.load(loader));
        let parameters: usize = contents.parameters.iter().map(|parameter| parameter.bytes(weights)).sum();
        parameters + Dtype::F32.bytes() * contents.computed
    }

    /// See [`ModelConfig::nodes`].
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.of_model().nodes()
    }

    /// See [`ModelConfig::untouched`].
    pub(crate) fn untouched(&self, strategy: Strategy, batch: usize, rows: usize, weights: Dtype) -> usize {
        self.of_model().untouched(strategy, batch, rows, weights)
    }

    /// See [`ModelConfig::source_width`].
    pub(crate) fn source_width(&self, strategy: Strategy) -> usize {
        self.of_model().source_width(strategy)
    }

    /// Its tensors, in the order in which they are loaded.
    fn parameters(&self) -> Vec<Parameter> {
        loader::parameters(|loader| self.load(loader))
    }

    fn prefix(&self) -> &'static str {
        self.of_model().prefix()
    }

    fn to_json(&self) -> Value {
        self.of_model().to_json()
    }
}

/// The named shapes that a model has.
pub fn shapes(model: ModelKind) -> impl Iterator<Item = ShapeName> {
    ShapeName::ALL.iter().copied().filter(move |&shape| Config::shaped(model, shape).is_some())
}

/// The positions a named shape's sequences may have: its fixed-shape buffers have so many rows.
pub fn capacity(model: ModelKind, shape: ShapeName) -> usize {
    match shape {
        ShapeName::Tiny => 64,
        ShapeName::Toy => 512,
        ShapeName::FlaxToy | ShapeName::Wmt => 256,
        ShapeName::Base | ShapeName::Gpt2 | ShapeName::Large => {
            debug_assert!(shapes(model).any(|s| s == shape));
            1024
        }
    }
}

/// The rows of the source that a named shape's sentences are decoded from; 0 where there is none.
pub(crate) fn source_rows(model: ModelKind, shape: ShapeName) -> usize {
    match (model.has_source(), shape) {
        (false, _) => 0,
        (true, ShapeName::Tiny) => 16,
        (true, _) => 64,
    }
}

/// Any of the models, chosen at run time.
pub struct AnyModel<B: Backend>(Box<dyn Model<B>>);

impl<B: Backend> AnyModel<B> {
    /// Puts the weights on the backend, in the order a step reads them.
    ///
    /// # Errors
    /// When a file of weights lacks a tensor, or the backend has no room.
    pub fn load(b: &B, config: &Config, weights: &Weights) -> Result<Self> {
        AnyModel::load_for(b, config, weights, usize::MAX)
    }

    /// The same for sessions of at most so many positions: tables that are computed have no more.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_for(b: &B, config: &Config, weights: &Weights, positions: usize) -> Result<Self> {
        config.load(&Loader::new(b, weights, positions)).map(AnyModel)
    }
}

impl<B: Backend> Model<B> for AnyModel<B> {
    fn slots(&self) -> Vec<Slot> {
        self.0.slots()
    }
    fn vocab(&self) -> usize {
        self.0.vocab()
    }
    fn max_positions(&self) -> Option<usize> {
        self.0.max_positions()
    }
    fn encode(&self, b: &B, strategy: Strategy, call: Call<B::Input>) -> Result<EncoderOutput<B>> {
        self.0.encode(b, strategy, call)
    }
    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        self.0.extend(b, cache)
    }
}

#[cfg(test)]
pub(crate) mod tests;
