//! Which tokens are chosen: by a sampler or by a beam search, within which limits.

use clap::ValueEnum;

use decode_bench::decoding::{Beam, BeamRule, Limits, Sampler, Support};
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
    /// Scores and end of a beam search [default: fairseq]
    #[arg(long, value_enum, value_name = "NAME", requires = "beam")]
    beam_rule: Option<RuleName>,
    /// Exponent A of the length in the beam rule's score [default: fairseq 1, flax 0.6]
    #[arg(long, value_name = "A", allow_hyphen_values = true, requires = "beam")]
    length_penalty: Option<f64>,
    /// Token id that ends a continuation
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    eos: Option<u32>,
    /// Fewest tokens before the end token
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, requires = "eos")]
    min_len: usize,
    /// First tokens to generate, as 1,2,3
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    prefix: Option<Ids>,
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
    /// Score Σ log p / ((5 + length)/6)^A, done when none of the others can do better.
    Flax,
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
    /// Flags that do not go together, and numbers that make no sense for a vocabulary of so many tokens.
    pub fn choosing(&self, vocab: usize) -> Result<Choosing> {
        if let Some(width) = self.beam {
            let (rule, usual) = match self.beam_rule {
                Some(RuleName::Flax) => (BeamRule::Flax, 0.6),
                Some(RuleName::Fairseq) | None => (BeamRule::Fairseq, 1.0),
            };
            let beam = Beam { width, length_penalty: self.length_penalty.unwrap_or(usual), rule };
            return beam.check(vocab).map(|()| Choosing::Search(beam));
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
    pub fn limits(&self, max_len: usize, vocab: usize) -> Result<Limits> {
        let prefix = self.prefix.as_ref().map(|Ids(ids)| ids.clone()).unwrap_or_default();
        let limits = Limits { max_len, min_len: self.min_len, eos: self.eos, prefix };
        limits.check(vocab).map(|()| limits)
    }

    /// Whether every token is the likeliest of all, up to the last step.
    pub fn is_plain(&self) -> bool {
        let greedy = self.beam.is_none() && self.sampler.is_none_or(|name| name == SamplerName::Greedy);
        greedy && self.eos.is_none() && self.prefix.is_none()
    }
}

/// As on the command line.
fn said(name: SamplerName) -> String {
    name.to_possible_value().map(|value| value.get_name().into()).unwrap_or_default()
}
