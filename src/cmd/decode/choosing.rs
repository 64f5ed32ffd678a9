//! Which tokens are chosen: by a sampler or by a beam search, within which limits.

use clap::ValueEnum;
use serde_json::Value;

use decode_bench::decoding::{Beam, BeamRule, GenerationConfig, Limits, Processors, Sampler, Support};
use decode_bench::error::{Error, Result};

use crate::cmd::parse::{self, Ids};

#[derive(clap::Args)]
#[command(next_help_heading = "Choosing tokens")]
pub struct Flags {
    /// Rule that chooses the next token [default: greedy]
    #[arg(long, value_enum, value_name = "NAME")]
    sampler: Option<SamplerName>,
    /// Divides the logits before a token is drawn [default: 1]
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    temperature: Option<f64>,
    /// Likeliest tokens that --sampler top-k draws from
    #[arg(long, value_name = "K", allow_hyphen_values = true)]
    top_k: Option<usize>,
    /// Probability of the likeliest tokens that --sampler top-p draws from
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    top_p: Option<f64>,
    /// Sampling seed [default: 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    sampling_seed: Option<u64>,
    /// Beam width: hypotheses of each prompt in a beam search
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse::positive,
        conflicts_with_all = ["sampler", "temperature", "top_k", "top_p", "sampling_seed"])]
    beam: Option<usize>,
    /// Scores and end of a beam search [default: the checkpoint's `early_stopping`, or fairseq]
    #[arg(long, value_enum, value_name = "NAME", requires = "beam", conflicts_with = "sampler")]
    beam_rule: Option<RuleName>,
    /// Exponent A of the length in the beam rule's score [default: the checkpoint's or 1, flax 0.6]
    #[arg(long, value_name = "A", allow_hyphen_values = true, requires = "beam", conflicts_with = "sampler")]
    length_penalty: Option<f64>,
    /// Token ids that end a continuation, as 1,2 [default: the checkpoint's]
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    eos: Option<Ids>,
    /// Fewest tokens before an end token [default: the checkpoint's]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    min_len: Option<usize>,
    /// First tokens to generate, as 1,2,3
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    prefix: Option<Ids>,
    /// Take nothing from generation_config.json, nor from config.json in its place
    #[arg(long, conflicts_with = "shape")]
    pub ignore_generation_config: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SamplerName {
    /// The likeliest token.
    Greedy,
    /// Drawn from all tokens.
    Temperature,
    /// Drawn from the K likeliest.
    TopK,
    /// Drawn from the fewest likeliest that have probability P together.
    TopP,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RuleName {
    /// Score Σ log p / length^A, done when as many have ended as the beam is wide.
    Fairseq,
    /// The same score, done when none of the others would do better by ending now: `early_stopping=False`.
    Transformers,
    /// The same score, done when none of the others can do better: `early_stopping="never"`.
    TransformersNever,
    /// Score Σ log p / ((5 + length)/6)^A, done when none of the others can do better.
    Flax,
}

/// What becomes of something that a checkpoint asks for.
pub enum Fate {
    Followed,
    /// A flag says otherwise.
    Overridden,
    NotFollowed,
    /// As things are chosen, in transformers too.
    WithoutEffect,
}

pub enum Choosing {
    Sample(Sampler),
    Search(Beam),
}

impl Choosing {
    /// Entries of the batch for each prompt.
    pub fn beams(&self) -> usize {
        match self {
            Choosing::Sample(_) => 1,
            Choosing::Search(beam) => beam.width,
        }
    }
}

impl Flags {
    /// # Errors
    /// Flags that do not go together, and numbers that make no sense for so many tokens of such a vocabulary.
    pub fn choosing(&self, max_len: usize, vocab: usize, config: &GenerationConfig) -> Result<Choosing> {
        if let Some(width) = self.beam {
            let rule = match self.beam_rule {
                None => config.beam_rule.unwrap_or(BeamRule::Fairseq),
                Some(RuleName::Fairseq) => BeamRule::Fairseq,
                Some(RuleName::Transformers) => BeamRule::Transformers,
                Some(RuleName::TransformersNever) => BeamRule::TransformersNever,
                Some(RuleName::Flax) => BeamRule::Flax,
            };
            let usual = if rule == BeamRule::Flax { 0.6 } else { config.length_penalty.unwrap_or(1.0) };
            let beam = Beam { width, length_penalty: self.length_penalty.unwrap_or(usual), rule };
            return beam.check(vocab, max_len).map(|()| Choosing::Search(beam));
        }
        let sampler = self.sampler()?;
        sampler.check().map(|()| Choosing::Sample(sampler))
    }

    fn sampler(&self) -> Result<Sampler> {
        use SamplerName::*;
        let name = self.sampler.unwrap_or(Greedy);
        for (flag, given, of) in [
            ("--temperature", self.temperature.is_some(), [Temperature, TopK, TopP].as_slice()),
            ("--top-k", self.top_k.is_some(), &[TopK]),
            ("--top-p", self.top_p.is_some(), &[TopP]),
            ("--sampling-seed", self.sampling_seed.is_some(), &[Temperature, TopK, TopP]),
        ] {
            if given && !of.contains(&name) {
                let of: Vec<String> = of.iter().map(|name| format!("`{}`", said(*name))).collect();
                return Err(Error::Input(format!(
                    "{flag} has no meaning with --sampler {}: it goes with {}",
                    said(name),
                    of.join(", ")
                )));
            }
        }
        let needed = |flag: &str| Error::Input(format!("--sampler {} needs {flag}", said(name)));
        let support = match name {
            Greedy => return Ok(Sampler::Greedy),
            Temperature => Support::All,
            TopK => Support::TopK(self.top_k.ok_or_else(|| needed("--top-k K"))?),
            TopP => Support::TopP(self.top_p.ok_or_else(|| needed("--top-p P"))?),
        };
        let (temperature, seed) = (self.temperature.unwrap_or(1.0), self.sampling_seed.unwrap_or(1));
        Ok(Sampler::Random { temperature, support, seed })
    }

    /// # Errors
    /// When nothing that such a vocabulary has can be within them.
    pub fn limits(&self, max_len: usize, vocab: usize, config: &GenerationConfig) -> Result<Limits> {
        let ids = |given: &Option<Ids>| given.as_ref().map(|Ids(ids)| ids.clone());
        let known = || config.eos.iter().copied().filter(|&id| (id as usize) < vocab).collect();
        let eos: Vec<u32> = ids(&self.eos).unwrap_or_else(known);
        let mut processors = config.processors.clone();
        if self.min_len.is_some() {
            processors.min_length = 0;
        }
        if self.min_len.is_some() && eos.is_empty() {
            return Err(Error::Input("--min-len is for an end token: give --eos".into()));
        }
        if self.prefix.is_some() {
            processors.forced_bos = None;
        }
        let min_len = self.min_len.unwrap_or(config.min_new_tokens.min(max_len));
        let limits =
            Limits { max_len, min_len, eos, prefix: ids(&self.prefix).unwrap_or_default(), processors };
        limits.check(vocab).map(|()| limits)
    }

    /// What becomes of a key that a checkpoint asks with.
    pub fn fate(&self, key: &str, value: &Value, config: &GenerationConfig, choosing: &Choosing) -> Fate {
        let (drawn, support, temperature) = match *choosing {
            Choosing::Sample(Sampler::Random { temperature, support, .. }) => {
                (true, Some(support), temperature)
            }
            Choosing::Sample(Sampler::Greedy) | Choosing::Search(_) => (false, None, 1.0),
        };
        let rule = match *choosing {
            Choosing::Search(Beam { rule, .. }) => Some(rule),
            Choosing::Sample(_) => None,
        };
        let unless = |given: bool| if given { Fate::Overridden } else { Fate::Followed };
        let chosen = |is_so: bool, given: bool| match (is_so, given) {
            (true, _) => Fate::Followed,
            (false, true) => Fate::Overridden,
            (false, false) => Fate::NotFollowed,
        };
        let number = value.as_f64();
        let any_given = self.sampler.is_some() || self.beam.is_some();
        match key {
            "eos_token_id" => unless(self.eos.is_some()),
            "min_length" | "min_new_tokens" => unless(self.min_len.is_some()),
            "forced_bos_token_id" => unless(self.prefix.is_some()),
            "max_length" | "max_new_tokens" => Fate::Overridden, // by --steps
            "do_sample" => chosen(drawn, any_given),
            "num_beams" => chosen(number == Some(self.beam.unwrap_or(1) as f64), any_given),
            "early_stopping" if rule.is_some() => unless(self.beam_rule.is_some()),
            "length_penalty" if rule == Some(BeamRule::Flax) => chosen(false, self.length_penalty.is_some()),
            "length_penalty" if rule.is_some() => unless(self.length_penalty.is_some()),
            "early_stopping" | "length_penalty" | "num_return_sequences" => Fate::WithoutEffect,
            "temperature" if drawn => chosen(number == Some(temperature), self.temperature.is_some()),
            "top_k" if drawn => {
                chosen(value.as_u64().map(|k| Support::TopK(k as usize)) == support, self.top_k.is_some())
            }
            "top_p" if drawn => chosen(number.map(Support::TopP) == support, self.top_p.is_some()),
            "temperature" | "top_k" | "top_p" | "min_p" | "top_h" | "typical_p" | "epsilon_cutoff"
            | "eta_cutoff" => match drawn || config.asked.contains_key("do_sample") {
                true => chosen(false, any_given && !drawn),
                false => Fate::WithoutEffect,
            },
            _ => Fate::Followed,
        }
    }

    /// Whether every token is the likeliest of all, up to the last step.
    pub fn is_plain(&self, limits: &Limits) -> bool {
        let greedy = self.beam.is_none() && self.sampler.is_none_or(|name| name == SamplerName::Greedy);
        let nothing_else = limits.prefix.is_empty() && limits.processors == Processors::default();
        greedy && limits.eos.is_empty() && nothing_else
    }
}

/// As on the command line.
fn said(name: SamplerName) -> String {
    name.to_possible_value().map(|value| value.get_name().into()).unwrap_or_default()
}
