//! Arguments that are more than a word.

use std::ffi::OsStr;
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command};

use decode_bench::case::{BackendName, ModelKind, ShapeName};
use decode_bench::dtype::Dtype;
use decode_bench::error::{Error, Result};
use decode_bench::model::capacity;
use decode_bench::strategy::Strategy;

/// Something of which there are a few with names: shown by `--help`, completed by a shell, and
/// answered with the nearest names when there is none such.
#[derive(Clone)]
pub struct Named<T>(PhantomData<T>);

impl<T> Named<T> {
    pub fn parser() -> Named<T> {
        Named(PhantomData)
    }
}

pub trait Names: Display + Copy + Send + Sync + 'static {
    fn all() -> &'static [Self];
    fn named(name: &str) -> Result<Self>;
}

impl Names for ModelKind {
    fn all() -> &'static [Self] {
        ModelKind::ALL
    }
    fn named(name: &str) -> Result<Self> {
        name.parse()
    }
}
impl Names for ShapeName {
    fn all() -> &'static [Self] {
        ShapeName::ALL
    }
    fn named(name: &str) -> Result<Self> {
        name.parse()
    }
}
impl Names for Dtype {
    fn all() -> &'static [Self] {
        Dtype::ALL
    }
    fn named(name: &str) -> Result<Self> {
        name.parse()
    }
}
impl Names for BackendName {
    fn all() -> &'static [Self] {
        BackendName::OURS
    }
    fn named(name: &str) -> Result<Self> {
        BackendName::ours(name)
    }
}
impl Names for Strategy {
    fn all() -> &'static [Self] {
        Strategy::examples()
    }
    fn named(name: &str) -> Result<Self> {
        name.parse()
    }
}

impl<T: Names> TypedValueParser for Named<T> {
    type Value = T;

    fn parse_ref(&self, cmd: &Command, _: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let named = T::named(&value.to_string_lossy());
        named.map_err(|e| clap::Error::raw(ErrorKind::InvalidValue, format!("{e}\n")).with_cmd(cmd))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(T::all().iter().map(|name| PossibleValue::new(name.to_string()))))
    }
}

/// Token ids, as `1,2,3`.
#[derive(Clone, Debug)]
pub struct Ids(pub Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Ids, String> {
        if text.trim().is_empty() {
            return Err("the list is empty; give token ids, as 1,2,3".into());
        }
        let id = |id: &str| {
            let known = id.trim().parse::<u32>();
            known.map_err(|_| format!("`{id}` is no token id; give whole numbers with commas, as 1,2,3"))
        };
        text.split(',').map(id).collect::<Result<_, _>>().map(Ids)
    }
}

/// Chunks up to here are taken even where they are longer than the capacity.
const USUAL_CHUNK: usize = 1024;

/// That the model has a memory of this kind, and that its chunks make sense.
pub fn check_strategy(strategy: Strategy, model: ModelKind, capacity: usize) -> Result<()> {
    if !model.supports(strategy) {
        let others = Strategy::examples().iter().filter(|&&s| model.supports(s));
        let others: Vec<String> = others.map(Strategy::to_string).collect();
        return Err(Error::Input(format!(
            "strategy `{strategy}` does not apply to the {model} model; these do: {}",
            others.join(", ")
        )));
    }
    match strategy {
        Strategy::Chunked(chunk) if chunk > capacity.max(USUAL_CHUNK) => Err(Error::Input(format!(
            "strategy `{strategy}`: a chunk of {chunk} positions, and the capacity is {capacity}"
        ))),
        _ => Ok(()),
    }
}

/// The same for each of a list, which names each once.
pub fn check_strategies(strategies: &[Strategy], model: ModelKind, capacity: usize) -> Result<()> {
    for (i, &strategy) in strategies.iter().enumerate() {
        check_strategy(strategy, model, capacity)?;
        if strategies[..i].contains(&strategy) {
            return Err(Error::Input(format!("--strategy names `{strategy}` twice")));
        }
    }
    Ok(())
}

/// That a decode of so many tokens fits; the model's capacity.
pub fn check_tokens(tokens: usize, model: ModelKind, shape: ShapeName) -> Result<usize> {
    match capacity(model, shape) {
        most if (1..=most).contains(&tokens) => Ok(most),
        most => Err(Error::Input(format!("--tokens {tokens}: {model}-{shape} decodes 1 to {most}"))),
    }
}

pub fn positive(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|&n| n > 0);
    number.ok_or_else(|| "a whole number from 1 on is wanted".into())
}
