//! `decode`: the door for checks from outside. The most likely continuation of a prompt, and the
//! logits it was chosen from.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, ValueEnum};
use serde::Serialize;

use decode_bench::backend::cpu::Cpu;
use decode_bench::backend::{Backend, Tokens};
use decode_bench::cache::Strategy;
use decode_bench::case::{BackendName, ModelKind, ShapeName};
use decode_bench::error::{Error, Result};
use decode_bench::measure::{Machines, Settings};
use decode_bench::model::weights::{Checkpoint, Weights, CONFIG_FILE, MODEL_FILE};
use decode_bench::model::{AnyModel, Config};
use decode_bench::session::Session;

use super::output::{check_folder, place, LogitsFile};
use super::parse::{self, Named, Prompt};
use super::print;

/// Continue a prompt with the most likely tokens, and print them as one JSON object.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("weights").required(true))]
#[command(after_help = "\
Examples:
  decode-bench decode --model transformer --shape toy --seed 7 --strategy padded --prompt 1,2,3 --steps 5
  decode-bench decode --model transformer --checkpoint gpt2/ --strategy concat --backend cpu \\
      --prompt 464,3616,286 --steps 20 --logits logits.safetensors

The logits file holds one f32 tensor `logits [steps, vocabulary]`; row i is what token i was the
largest of (the lowest id, when several are).")]
pub struct Args {
    #[arg(long, value_parser = Named::<ModelKind>::parser())]
    model: ModelKind,
    /// A folder with config.json and model.safetensors
    #[arg(long, value_name = "DIR", group = "weights", conflicts_with = "seed")]
    checkpoint: Option<PathBuf>,
    /// A named size, with random weights
    #[arg(long, value_name = "NAME", group = "weights", value_parser = Named::<ShapeName>::parser())]
    shape: Option<ShapeName>,
    /// Of the random weights [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How the past is kept; chunked-N for any N
    #[arg(long, value_parser = Named::<Strategy>::parser())]
    strategy: Strategy,
    #[arg(long, default_value_t = BackendName::Cpu, value_parser = Named::<BackendName>::parser())]
    backend: BackendName,
    /// Token ids, as 1,2,3
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    prompt: Prompt,
    /// Tokens to generate
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse::positive)]
    steps: usize,
    /// How the prompt is absorbed
    #[arg(long, value_enum, default_value_t = Prefill::Batched)]
    prefill: Prefill,
    /// Write the logits to this safetensors file
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
    /// Write the model to this folder, as --checkpoint reads it
    #[arg(long, value_name = "DIR")]
    weights_out: Option<PathBuf>,
    /// Of the CPU; without it, one for each physical core
    #[arg(long, value_name = "N", value_parser = parse::threads)]
    threads: Option<usize>,
    /// Positions of buffers of fixed shape; without it, the model's, or as many as are needed
    #[arg(long, value_name = "M", value_parser = parse::positive)]
    capacity: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Prefill {
    /// The whole prompt in one call.
    Batched,
    /// As many steps as it has tokens.
    TokenByToken,
}

/// What is printed.
#[derive(Serialize)]
struct Decoded {
    tokens: Vec<u32>,
    prompt: Vec<u32>,
    model: String,
    shape: Option<String>,
    checkpoint: Option<String>,
    seed: Option<u64>,
    strategy: String,
    backend: String,
    prefill: Prefill,
    capacity: usize,
    vocabulary: usize,
    threads: usize,
    version: &'static str,
}

/// Sequences without a model's own limit end here, before a mistyped number asks for all memory.
const MOST_POSITIONS: usize = 1 << 20;

pub fn run(args: Args) -> Result<()> {
    let threads = args.threads.unwrap_or_else(|| Settings::default().threads);
    let decoded = match args.backend {
        BackendName::Cpu => decode(&args, threads, || Ok(Cpu::new(threads))),
        name => {
            let settings = Settings { threads, ..Settings::default() };
            decode(&args, threads, || Machines::new(&settings).cuda(name))
        }
    }?;
    print(&(serde_json::to_string(&decoded).expect("plain data prints") + "\n"))
}

/// Everything that can be refused is refused before the backend is made and the weights are loaded.
fn decode<B: Backend>(args: &Args, threads: usize, backend: impl FnOnce() -> Result<B>) -> Result<Decoded> {
    let seed = args.seed.unwrap_or_else(|| Settings::default().seed);
    let (config, weights) = source(args, seed)?;
    let capacity = capacity(args, &config)?;
    parse::check_strategy(args.strategy, args.model, capacity)?;
    check_prompt(&args.prompt, config.vocab())?;
    check_outputs(args)?;
    let create = |path: &PathBuf| LogitsFile::create(path, args.steps, config.vocab());
    let mut logits = args.logits.as_ref().map(create).transpose()?;

    let b = backend()?;
    let model = AnyModel::load(&b, &config, &weights)?;
    let kept = args.weights_out.as_ref().map(|folder| (weights, folder)); // or let go of, mapped pages and all
    let mut session = Session::open(&b, &model, args.strategy, 1, capacity)?;
    let tokens = generate(&b, &mut session, args, |row| match &mut logits {
        Some(file) => file.push(row),
        None => Ok(()),
    })?;

    if let Some((weights, folder)) = kept {
        weights.write(&config, folder)?;
    }
    logits.map_or(Ok(()), LogitsFile::commit)?;
    Ok(Decoded {
        tokens,
        prompt: args.prompt.0.clone(),
        model: args.model.to_string(),
        shape: args.shape.map(|shape| shape.to_string()),
        checkpoint: args.checkpoint.as_ref().map(|path| path.display().to_string()),
        seed: args.shape.map(|_| seed),
        strategy: args.strategy.to_string(),
        backend: args.backend.to_string(),
        prefill: args.prefill,
        capacity,
        vocabulary: config.vocab(),
        threads,
        version: env!("CARGO_PKG_VERSION"),
    })
}

fn source(args: &Args, seed: u64) -> Result<(Config, Weights)> {
    match (&args.checkpoint, args.shape) {
        (Some(folder), _) => {
            let (config, checkpoint) = Checkpoint::open(args.model, folder)?;
            Ok((config, Weights::Checkpoint(Box::new(checkpoint))))
        }
        (None, Some(shape)) => Ok((Config::named(args.model, shape)?, Weights::seeded(args.model, seed))),
        (None, None) => Err(Error::Input("a --checkpoint or a --shape is needed".into())),
    }
}

/// The positions of the session: prompt and steps fit in them.
fn capacity(args: &Args, config: &Config) -> Result<usize> {
    let (prompt, steps) = (args.prompt.0.len(), args.steps);
    let needed = prompt.checked_add(steps).filter(|&n| n <= MOST_POSITIONS).ok_or_else(|| {
        Error::Input(format!(
            "a prompt of {prompt} tokens and {steps} steps: at most {MOST_POSITIONS} positions are decoded"
        ))
    })?;
    let of_model = config.max_positions();
    let most = of_model.unwrap_or(MOST_POSITIONS);
    match args.capacity {
        Some(asked) if asked > most => {
            Err(Error::Input(format!("--capacity {asked}: at most {most} positions are possible")))
        }
        asked => {
            let capacity = asked.or(of_model).unwrap_or(needed);
            match needed <= capacity {
                true => Ok(capacity),
                false => Err(Error::TooLong { prompt, steps, capacity }),
            }
        }
    }
}

fn check_prompt(prompt: &Prompt, vocab: usize) -> Result<()> {
    match prompt.0.iter().find(|&&id| id as usize >= vocab) {
        Some(&id) => Err(Error::TokenRange { id, vocab }),
        None => Ok(()),
    }
}

/// Outputs can be written, and neither over each other nor over the input.
fn check_outputs(args: &Args) -> Result<()> {
    let files = |folder: &PathBuf| [CONFIG_FILE, MODEL_FILE].map(|file| folder.join(file));
    if let Some(folder) = &args.weights_out {
        check_folder(folder)?;
        let is_folder = |file: &PathBuf| file.is_dir();
        if let Some(file) = files(folder).into_iter().find(is_folder) {
            return Err(Error::file(file, "a directory, where a file is to be written"));
        }
        if args.checkpoint.as_ref().is_some_and(|checkpoint| same(checkpoint, folder)) {
            return Err(Error::file(folder, "--weights-out would replace the checkpoint it is made from"));
        }
    }
    let mut taken = args.checkpoint.iter().chain(&args.weights_out).flat_map(files);
    match &args.logits {
        Some(logits) if taken.any(|file| same(&file, logits)) => {
            Err(Error::file(logits, "--logits would replace a file of the model"))
        }
        _ => Ok(()),
    }
}

fn same(one: &Path, other: &Path) -> bool {
    one == other || place(one).is_some_and(|one| place(other) == Some(one))
}

/// Tokens are generated greedily; the last of them is not fed back. `seen` gets the logits that
/// each was chosen from.
fn generate<B: Backend>(
    b: &B,
    session: &mut Session<'_, B, AnyModel<B>>,
    args: &Args,
    mut seen: impl FnMut(&[f32]) -> Result<()>,
) -> Result<Vec<u32>> {
    let mut logits = absorb(session, &args.prompt.0, args.prefill)?;
    let mut tokens = Vec::with_capacity(args.steps);
    loop {
        let row = b.download(&logits)?;
        if let Some(id) = row.iter().position(|x| x.is_nan()) {
            let i = tokens.len();
            return Err(Error::Input(format!(
                "the logit of id {id} for generated token {i} is not a number: the weights hold values that overflow, or are none"
            )));
        }
        seen(&row)?;
        let token = b.argmax(&logits)?[0];
        tokens.push(token);
        if tokens.len() == args.steps {
            return Ok(tokens);
        }
        logits = session.feed(&Tokens(vec![vec![token]]))?;
    }
}

/// Logits after the prompt.
fn absorb<B: Backend>(
    session: &mut Session<'_, B, AnyModel<B>>,
    prompt: &[u32],
    prefill: Prefill,
) -> Result<B::Tensor> {
    let call = match prefill {
        Prefill::Batched => prompt.len(),
        Prefill::TokenByToken => 1,
    };
    let (before, last) = prompt.split_at(prompt.len() - call);
    for tokens in before.chunks(call) {
        session.feed(&Tokens(vec![tokens.to_vec()]))?;
    }
    session.feed(&Tokens(vec![last.to_vec()]))
}
