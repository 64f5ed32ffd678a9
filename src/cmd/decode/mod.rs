//! `decode`: the door for checks from outside. Continuations of prompts, and the logits they were chosen
//! from.

mod choosing;
mod given;
mod printed;

use std::path::{Path, PathBuf};

use clap::{ArgGroup, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use decode_bench::backend::cpu::Cpu;
use decode_bench::backend::{Backend, Tokens};
use decode_bench::bench::Threads;
use decode_bench::case::{BackendName, ModelKind, ShapeName};
use decode_bench::cost::{check_memory, Step};
use decode_bench::decoding::{
    sample, search, Decoder, GenerationConfig, Hypothesis, Limits, Text, GENERATION_CONFIG_FILE,
    TOKENIZER_FILE,
};
use decode_bench::dtype::Dtype;
use decode_bench::error::{Error, Result};
use decode_bench::measure::{Machines, Settings};
use decode_bench::model::checkpoint::{self, CONFIG_FILE, MODEL_FILE};
use decode_bench::model::{AnyModel, Config, Weights};
use decode_bench::session::Session;
use decode_bench::strategy::{CacheConfig, Strategy, MOST_POSITIONS};

use super::output::{check_folder, place, LogitsFile};
use super::parse::{self, Ids, Named};
use super::{note, print};
use choosing::Choosing;
use given::Given;
use printed::{Asked, Decoded, FromFile, Printed};

/// Continue prompts, and print the tokens as one JSON object.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("weights").required(true))]
#[command(group = ArgGroup::new("start").required(true).multiple(true))]
#[command(after_help = "\
Examples:
  decode-bench decode --model transformer --shape toy --seed 7 --strategy padded --prompt 1,2,3 --steps 5
  decode-bench decode --model transformer --checkpoint gpt2/ --strategy concat --backend cpu \\
      --prompt 464,3616,286 --steps 20 --logits logits.safetensors
  decode-bench decode --model transformer --checkpoint gpt2/ --strategy padded --steps 20 \\
      --text 'The meaning of' --sampler top-p --top-p 0.9 --temperature 0.8
  decode-bench decode --model transformer --checkpoint gpt2/ --strategy padded --prompt 464 --prompt 3616 \\
      --max-len 20 --eos 50256 --beam 4 --length-penalty 0.6
  decode-bench decode --model encoder-decoder --shape tiny --strategy padded --source 5,6,7 --source 8,9 \\
      --max-len 8 --eos 0 --beam 2
  seq 3000 | decode-bench decode --model llama --checkpoint llama/ --strategy concat --steps 2 --prompt -

--prompt, --source and --text also take @FILE, and - for standard input; a text that begins with @ is written
with one more: @@. A file of ids has commas, spaces or line ends between them.

Without options of its own every token is the likeliest (the lowest id, when several are). One prompt without
a beam prints its `tokens`; several prompts, or a beam, print `hypotheses`, a list for each prompt.

A checkpoint's generation_config.json (or the same keys of config.json, where there is none) bans and forces
tokens, penalises repetition and ends continuations as in transformers' generate; how tokens are drawn or
searched for, and how many, is for the command line to say. `generation_config` has what was followed.

The logits file holds one f32 tensor `logits [steps, vocabulary]`; row i holds the logits that
token i was chosen from.")]
pub struct Args {
    #[arg(long, value_parser = Named::<ModelKind>::parser())]
    model: ModelKind,
    /// Folder with config.json and model.safetensors
    #[arg(long, value_name = "DIR", group = "weights", conflicts_with = "seed")]
    checkpoint: Option<PathBuf>,
    /// Named size, with random weights
    #[arg(long, value_name = "NAME", group = "weights", value_parser = Named::<ShapeName>::parser())]
    shape: Option<ShapeName>,
    /// Seed of the random weights [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How matrices and tables are kept in memory
    #[arg(long, default_value_t, value_parser = Named::<Dtype>::parser())]
    dtype: Dtype,
    /// Further checkpoints; the models' probabilities are averaged
    #[arg(long, value_name = "DIR,DIR", value_delimiter = ',')]
    ensemble: Vec<PathBuf>,
    /// Caching strategy; chunked-N for any N
    #[arg(long, value_parser = Named::<Strategy>::parser())]
    strategy: Strategy,
    /// How the cache is kept in memory
    #[arg(long, default_value_t, value_parser = Named::<Dtype>::parser())]
    cache_dtype: Dtype,
    #[arg(long, default_value_t = BackendName::Cpu, value_parser = Named::<BackendName>::parser())]
    backend: BackendName,
    /// Token ids, as 1,2,3; given several times, a batch [default with --source: the token that a decode
    /// begins with]
    #[arg(long, value_name = "IDS", group = "start", allow_hyphen_values = true, conflicts_with = "text")]
    prompt: Vec<Given<Ids>>,
    /// A file with the token ids of a prompt, as --prompt @FILE; several: a batch, behind the --prompt
    #[arg(long, value_name = "FILE", group = "start", conflicts_with = "text")]
    prompt_file: Vec<PathBuf>,
    /// Encoder input as token ids; given several times, a batch
    #[arg(long, value_name = "IDS", group = "start", allow_hyphen_values = true, conflicts_with = "text")]
    source: Vec<Given<Ids>>,
    /// Prompt as text, or the encoder's input where there is an encoder
    #[arg(long, value_name = "STRING", group = "start", allow_hyphen_values = true)]
    text: Vec<Given<String>>,
    /// A tokenizer.json, which also turns generated tokens into text [default for --text: the checkpoint's]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Tokens to generate: at most, where an end token may come earlier
    #[arg(long, visible_alias = "max-len", value_name = "N", allow_hyphen_values = true, value_parser = parse::positive)]
    steps: usize,
    /// How prompts are fed
    #[arg(long, value_enum, default_value_t = Prefill::Batched)]
    prefill: Prefill,
    /// Write the logits to this safetensors file
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
    /// Write the model to this folder, as --checkpoint reads it
    #[arg(long, value_name = "DIR", conflicts_with = "ensemble")]
    weights_out: Option<PathBuf>,
    #[command(flatten)]
    threads: Threads,
    /// Positions of a buffer of fixed shape [default: those of the longest prompt and the steps]
    #[arg(long, value_name = "M", value_parser = parse::positive)]
    capacity: Option<usize>,
    #[command(flatten)]
    choosing: choosing::Flags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Prefill {
    /// The whole prompt in one call.
    Batched,
    /// As many steps as it has tokens.
    TokenByToken,
}

/// A model that is not loaded yet.
type Unloaded = (Config, Weights);

pub fn run(args: Args) -> Result<()> {
    let threads = args.threads.count();
    let decoded = match args.backend {
        BackendName::Cpu => decode(&args, threads, || Cpu::new(threads)),
        name => {
            let settings = Settings { threads, ..Settings::default() };
            decode(&args, threads, || Machines::new(&settings).cuda(name))
        }
    }?;
    print(&(serde_json::to_string(&decoded).expect("plain data prints") + "\n"))
}

/// Everything that can be refused is refused before the backend is made; what has no room there, before the weights
/// are loaded.
fn decode<B: Backend>(args: &Args, threads: usize, backend: impl FnOnce() -> Result<B>) -> Result<Decoded> {
    let seed = args.seed.unwrap_or_else(|| Settings::default().seed);
    let (mut models, of_model) = sources(args, seed)?;
    let vocab = models[0].0.vocab();
    let config = generation_config(args, &of_model)?;
    let limits = args.choosing.limits(args.steps, vocab, &config)?;
    let choosing = args.choosing.choosing(args.steps, vocab, &config)?;
    let text = text(args)?;
    let mut notes = config.notes.clone();
    let given = Starts::read(args, text.as_ref(), &mut notes)?;
    let read = read(args, &given, vocab)?;
    let prompts = prompts(args, &given, &models[0].0, config.start, read.as_ref())?;
    let capacity = capacity(args, &prompts, &models)?;
    parse::check_strategy(args.strategy, args.model, capacity)?;
    let cache = CacheConfig { strategy: args.strategy, dtype: args.cache_dtype };
    cache.check(&[args.model.slot()])?;
    check_outputs(args, &prompts, &limits, &models)?;
    let from_file = FromFile::new(&config, &args.choosing, &choosing);
    notes.extend(from_file.as_ref().and_then(FromFile::note));
    notes.extend(never_ending(&config, vocab));
    let create = |path: &PathBuf| LogitsFile::create(path, args.steps, vocab);
    let mut logits = args.logits.as_ref().map(create).transpose()?;

    notes.iter().for_each(|what| note(what));
    let b = backend()?;
    let source_rows = read.as_ref().map_or(0, Tokens::longest);
    let last = |(config, _): &Unloaded| Step {
        config: config.clone(),
        weights: args.dtype,
        strategy: args.strategy,
        cache: args.cache_dtype,
        batch: prompts.0.len(),
        position: capacity,
        capacity,
        source: source_rows,
    };
    check_memory(&b, &models.iter().map(last).collect::<Vec<_>>(), choosing.beams())?;
    let positions = capacity.max(source_rows);
    let load = |(config, weights): &Unloaded| AnyModel::load_for(&b, config, weights, positions);
    let loaded = models.iter().map(load).collect::<Result<Vec<_>>>()?;
    models.truncate(usize::from(args.weights_out.is_some())); // or let go of, mapped pages and all
    let prompted = loaded.iter().map(|model| {
        let mut session = match &read {
            Some(source) => Session::from_source(&b, model, cache, source, 1, capacity)?,
            None => Session::open(&b, model, cache, prompts.0.len(), capacity)?,
        };
        let logits = prefill_all(&mut session, &prompts, args.prefill)?;
        Ok((session, logits))
    });
    let mut decoder = Decoder::new(&b, prompted.collect::<Result<_>>()?)?;
    let hypotheses = generate(&mut decoder, &choosing, &limits, |row| match &mut logits {
        Some(file) => file.push(row),
        None => Ok(()),
    })?;

    let generated = || hypotheses.iter().flatten().flat_map(|hypothesis| &hypothesis.tokens);
    let without = text.as_ref().map_or(0, |text| generated().filter(|id| !text.has(**id)).count());
    if without > 0 {
        note(&format!("the tokenizer has no text for {without} of the generated tokens"));
    }
    if let (Some(folder), Some((config, weights))) = (&args.weights_out, models.pop()) {
        checkpoint::write(&config, &weights, folder)?;
    }
    logits.map_or(Ok(()), LogitsFile::commit)?;
    let ensemble = args.ensemble.iter().map(|path| path.display().to_string()).collect();
    Ok(Decoded {
        answer: Printed::new(hypotheses, prompts.0, &choosing, text.as_ref())?,
        model: args.model.to_string(),
        shape: args.shape.map(|shape| shape.to_string()),
        checkpoint: args.checkpoint.as_ref().map(|path| path.display().to_string()),
        seed: args.shape.map(|_| seed),
        dtype: args.dtype.to_string(),
        strategy: args.strategy.to_string(),
        cache_dtype: args.cache_dtype.to_string(),
        backend: args.backend.to_string(),
        prefill: args.prefill,
        capacity,
        vocabulary: vocab,
        threads,
        version: env!("CARGO_PKG_VERSION"),
        asked: Asked::new(&choosing, &limits, ensemble, from_file),
    })
}

/// The models of the ensemble: one, unless more are asked for; and the keys of the first one's config.json that say
/// how to generate.
fn sources(args: &Args, seed: u64) -> Result<(Vec<Unloaded>, Map<String, Value>)> {
    let (first, generation) = match (&args.checkpoint, args.shape) {
        (Some(folder), _) => open(args.model, folder)?,
        (None, Some(shape)) => ((Config::named(args.model, shape)?, Weights::seeded(seed)), Map::new()),
        (None, None) => return Err(Error::Input("a --checkpoint or a --shape is needed".into())),
    };
    let mut models = vec![first];
    for folder in &args.ensemble {
        let ((further, _), vocab) = (open(args.model, folder)?, models[0].0.vocab());
        if further.0.vocab() != vocab {
            return Err(Error::file(
                folder,
                format!(
                    "a vocabulary of {} tokens, and the first model has {vocab}: models of one ensemble share it",
                    further.0.vocab()
                ),
            ));
        }
        models.push(further);
    }
    let kept = |(config, weights): Unloaded| (config, weights.kept_as(args.dtype));
    Ok((models.into_iter().map(kept).collect(), generation))
}

/// A checkpoint; what its reader should know is said on standard error.
fn open(model: ModelKind, folder: &Path) -> Result<(Unloaded, Map<String, Value>)> {
    let (file, weights) = checkpoint::open(model, folder)?;
    file.notes.iter().for_each(|what| note(what));
    Ok(((file.config, weights), file.generation))
}

/// The tokenizer, if one is asked for.
fn text(args: &Args) -> Result<Option<Text>> {
    let beside = || args.checkpoint.as_ref().map(|folder| folder.join(TOKENIZER_FILE));
    let usual = || beside().filter(|path| !args.text.is_empty() && path.exists());
    match args.tokenizer.clone().or_else(usual) {
        Some(path) => Text::open(&path).map(Some),
        None if args.text.is_empty() => Ok(None),
        None => Err(Error::Input(format!(
            "--text is read with a tokenizer: give --tokenizer FILE, or a --checkpoint with {TOKENIZER_FILE}"
        ))),
    }
}

/// What the checkpoint asks for: nothing, where there is none.
fn generation_config(args: &Args, of_model: &Map<String, Value>) -> Result<GenerationConfig> {
    let Some(folder) = args.checkpoint.as_ref().filter(|_| !args.choosing.ignore_generation_config) else {
        return Ok(GenerationConfig::default());
    };
    let mut config = GenerationConfig::open(folder, of_model)?;
    let begins = args.model.has_source() && args.prompt.is_empty() && args.prompt_file.is_empty();
    config.asked.retain(|key, _| begins || key != "decoder_start_token_id");
    Ok(config)
}

/// End tokens that no model of such a vocabulary comes to.
fn never_ending(config: &GenerationConfig, vocab: usize) -> Option<String> {
    let outside: Vec<String> =
        config.eos.iter().filter(|&&id| id as usize >= vocab).map(u32::to_string).collect();
    let (file, ids) = (config.path.display(), (!outside.is_empty()).then(|| outside.join(", "))?);
    Some(format!("{file}: eos_token_id {ids} is outside the vocabulary of {vocab}: nothing ends by it"))
}

/// What the flags say to start from, as token ids.
struct Starts {
    prompts: Vec<Vec<u32>>,
    sources: Vec<Vec<u32>>,
    texts: Vec<Vec<u32>>,
}

impl Starts {
    /// Reads files and standard input; what is to be said of texts is added to the notes.
    fn read(args: &Args, text: Option<&Text>, notes: &mut Vec<String>) -> Result<Starts> {
        let ids = args.prompt.iter().chain(&args.source).filter(|given| given.is_input());
        if ids.count() + args.text.iter().filter(|given| given.is_input()).count() > 1 {
            return Err(Error::Input("- stands for standard input, which can be read once".into()));
        }
        let of_files = args.prompt_file.iter().map(|path| Given::File(path.clone()).ids());
        let mut texts = Vec::new();
        for (given, text) in args.text.iter().filter_map(|given| Some((given, text?))) {
            let encoded = text.encode(&given.text()?)?;
            texts.push(encoded.tokens);
            notes.extend(encoded.notes);
        }
        Ok(Starts {
            prompts: args.prompt.iter().map(Given::ids).chain(of_files).collect::<Result<_>>()?,
            sources: args.source.iter().map(Given::ids).collect::<Result<_>>()?,
            texts,
        })
    }
}

/// What is read by an encoder, where the model has one, with ids that it has.
fn read(args: &Args, given: &Starts, vocab: usize) -> Result<Option<Tokens>> {
    match (args.model.has_source(), args.source.is_empty() && args.text.is_empty()) {
        (false, _) if args.source.is_empty() => Ok(None),
        (false, _) => {
            Err(Error::Input(format!("--source: model `{}` decodes from a prompt alone", args.model)))
        }
        (true, true) => Err(Error::Input(format!(
            "model `{}` decodes from a source: give --source or --text",
            args.model
        ))),
        (true, false) => tokens(&given.sources, &given.texts, vocab).map(Some),
    }
}

/// Of the batch, with ids that the model has. From a source a decode begins with `start`, or the model's own.
fn prompts(
    args: &Args,
    given: &Starts,
    config: &Config,
    start: Option<u32>,
    read: Option<&Tokens>,
) -> Result<Tokens> {
    let prompts = match read {
        Some(source) if given.prompts.is_empty() => {
            let start = vec![start.unwrap_or(config.start())];
            tokens(&vec![start; source.0.len()], &[], config.vocab())?
        }
        Some(_) => tokens(&given.prompts, &[], config.vocab())?,
        None => tokens(&given.prompts, &given.texts, config.vocab())?,
    };
    if let Some(source) = read.filter(|source| source.0.len() != prompts.0.len()) {
        let (sources, prompts) = (source.0.len(), prompts.0.len());
        return Err(Error::Input(format!(
            "{prompts} prompts for {sources} sources: give one for each, or none"
        )));
    }
    let uneven = prompts.0.iter().any(|prompt| prompt.len() != prompts.0[0].len());
    match args.prefill {
        Prefill::TokenByToken if uneven => {
            Err(Error::Input("--prefill token-by-token takes prompts of one length".into()))
        }
        Prefill::TokenByToken | Prefill::Batched => Ok(prompts),
    }
}

fn tokens(ids: &[Vec<u32>], more: &[Vec<u32>], vocab: usize) -> Result<Tokens> {
    let tokens = Tokens([ids, more].concat());
    match tokens.0.iter().flatten().find(|&&id| id as usize >= vocab) {
        Some(&id) => Err(Error::TokenRange { id, vocab }),
        None => Ok(tokens),
    }
}

/// The positions of the sessions: as many as the longest prompt and all steps have, unless told.
fn capacity(args: &Args, prompts: &Tokens, models: &[Unloaded]) -> Result<usize> {
    let (prompt, steps) = (prompts.longest(), args.steps);
    let needed = prompt.checked_add(steps).filter(|&n| n <= MOST_POSITIONS).ok_or_else(|| {
        Error::Input(format!(
            "a prompt of {prompt} tokens and {steps} steps: at most {MOST_POSITIONS} positions are decoded"
        ))
    })?;
    let of_models = models.iter().filter_map(|(config, _)| config.max_positions());
    let most = of_models.min().unwrap_or(MOST_POSITIONS);
    match args.capacity {
        Some(asked) if asked > most => {
            Err(Error::Input(format!("--capacity {asked}: at most {most} positions are possible")))
        }
        asked if needed > asked.unwrap_or(most) => {
            Err(Error::TooLong { prompt, steps, capacity: asked.unwrap_or(most) })
        }
        asked => Ok(asked.unwrap_or(needed)),
    }
}

/// Outputs can be written, and neither over each other nor over a file that is read.
fn check_outputs(args: &Args, prompts: &Tokens, limits: &Limits, models: &[Unloaded]) -> Result<()> {
    let plain = args.choosing.is_plain(limits) && args.ensemble.is_empty() && prompts.0.len() == 1;
    if args.logits.is_some() && !plain {
        return Err(Error::Input(
            "--logits writes what each token was the largest of: it goes with one model, one --prompt and neither a sampler, a beam, --eos, --prefix nor a checkpoint that asks for such (--ignore-generation-config)".into(),
        ));
    }
    let weights =
        args.weights_out.iter().flat_map(|folder| [CONFIG_FILE, MODEL_FILE].map(|file| folder.join(file)));
    if let Some(folder) = &args.weights_out {
        check_folder(folder)?;
        if let Some(file) = weights.clone().find(|file| file.is_dir()) {
            return Err(Error::file(file, "a directory, where a file is to be written"));
        }
    }
    let written = weights.map(|file| ("--weights-out", file));
    let written = written.chain(args.logits.iter().map(|file| ("--logits", file.clone())));
    let mut taken = inputs(args);
    taken.extend(models.iter().flat_map(|(_, weights)| weights.files().map(Path::to_path_buf)));
    for (option, file) in written {
        if taken.iter().any(|taken| same(taken, &file)) {
            return Err(Error::file(file, format!("{option} would replace a file that is read or written")));
        }
        taken.push(file);
    }
    Ok(())
}

/// The files that are read besides the weights, if they are there.
fn inputs(args: &Args) -> Vec<PathBuf> {
    const OF_CHECKPOINT: [&str; 3] = [CONFIG_FILE, GENERATION_CONFIG_FILE, TOKENIZER_FILE];
    let checkpoints = args.checkpoint.iter().chain(&args.ensemble);
    let given = args.prompt.iter().chain(&args.source).filter_map(Given::file);
    let given = given.chain(args.text.iter().filter_map(Given::file));
    checkpoints
        .flat_map(|folder| OF_CHECKPOINT.map(|file| folder.join(file)))
        .chain(args.tokenizer.iter().chain(&args.prompt_file).chain(given).cloned())
        .collect()
}

fn same(one: &Path, other: &Path) -> bool {
    one == other || place(one).is_some_and(|one| place(other) == Some(one))
}

/// Hypotheses of each prompt, the best first. `seen` gets the first model's logits before each token of a
/// sampler's.
fn generate<B: Backend>(
    decoder: &mut Decoder<'_, B, AnyModel<B>>,
    choosing: &Choosing,
    limits: &Limits,
    seen: impl FnMut(&[f32]) -> Result<()>,
) -> Result<Vec<Vec<Hypothesis>>> {
    match choosing {
        Choosing::Sample(sampler) => {
            let sampled = sample(decoder, sampler, limits, seen)?;
            Ok(sampled.into_iter().map(|hypothesis| vec![hypothesis]).collect())
        }
        Choosing::Search(beam) => search(decoder, beam, limits),
    }
}

/// Logits after the prompts.
fn prefill_all<B: Backend>(
    session: &mut Session<'_, B, AnyModel<B>>,
    prompts: &Tokens,
    prefill: Prefill,
) -> Result<B::Tensor> {
    if prefill == Prefill::Batched {
        return session.feed(prompts);
    }
    let token = |at: usize| Tokens(prompts.0.iter().map(|prompt| vec![prompt[at]]).collect());
    let last = prompts.0[0].len() - 1;
    for at in 0..last {
        session.feed(&token(at))?;
    }
    session.feed(&token(last))
}
