//! decode-bench answers one question with numbers that can be cited: when a model generates text
//! token by token, what does a cache buy, and which kind?
//!
//! | to learn about | read |
//! |---|---|
//! | what can be measured, and its id | [`case`], [`dtype`], [`suite`] |
//! | one decode in progress | [`session`] |
//! | what is made of its logits: samplers, beams, ensembles | [`decoding`] |
//! | layers with a cache, and how to write one | [`layer`] |
//! | the models | [`model`] |
//! | the strategies, and how each keeps a layer's state | [`strategy`], [`cache`] |
//! | what a step must cost, in closed form | [`cost`] |
//! | the operations, on each machine | [`backend`] |
//! | what is timed, and how | [`measure`], [`mod@bench`] |
//! | one suite on many machines | [`shard`] |
//! | what is written down | [`record`] |
//! | what follows from it | [`analysis`], [`plot`], [`report`] |
//!
//! # A layer of one's own
//!
//! This is the smallest layer with a state, `y[t] = x[t] + x[t-1]`, an example in a discussion of how layers
//! should be cached (keras-hub, issue 1261). It declares the state that the cache keeps for it; every strategy
//! keeps it in its own way, and compositions pass it through.
//!
//! ```
//! use decode_bench::analysis::median;
//! use decode_bench::backend::{cpu::Cpu, whole, Backend};
//! use decode_bench::cache::LayerContext;
//! use decode_bench::error::Result;
//! use decode_bench::layer::{laws, Layer, Residual, Sequential};
//! use decode_bench::measure::layers::time_steps;
//! use decode_bench::strategy::{Slot, Strategy};
//!
//! #[derive(Clone)]
//! struct LagAndAdd {
//!     width: usize,
//! }
//!
//! impl<B: Backend> Layer<B> for LagAndAdd {
//!     fn slots(&self) -> Vec<Slot> {
//!         vec![Slot::Window { width: self.width, heads: 1, rows: 2 }]
//!     }
//!     fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
//!         let (b, call) = (context.backend(), context.call());
//!         let rows = context.append(whole(b, x))?;
//!         b.add(x, &b.lag(call, rows, 1)?, 1.0)
//!     }
//! }
//!
//! // twice in a row, the second inside of a residual: two states
//! let (b, lag) = (Cpu::new(1)?, LagAndAdd { width: 3 });
//! let twice = Sequential(vec![Box::new(lag.clone()), Box::new(Residual(lag))]);
//!
//! // three rows at once and then one, with a cache made by a call of its own, are a forward pass of four
//! let rows: Vec<f32> = (0..12).map(|i| (i * i % 7) as f32).collect();
//! let mut cache = twice.cache(&b, Strategy::Padded, 1, 4)?;
//! let leading = twice.extend(&b, &mut cache, &b.upload([1, 3, 3], &rows[..9])?)?;
//! let trailing = twice.extend(&b, &mut cache, &b.upload([1, 1, 3], &rows[9..])?)?;
//! let all = twice.forward(&b, &b.upload([1, 4, 3], &rows)?)?;
//! assert_eq!([b.download(&leading)?, b.download(&trailing)?].concat(), b.download(&all)?);
//!
//! // the same under every strategy, after reorders, in forks, with padding; and what each costs
//! laws::hold(&b, &twice, 3)?;
//! for (strategy, ns) in time_steps(&b, &twice, 3, 64, 6)? {
//!     println!("{strategy}: {:?} ns", median(&ns));
//! }
//! # Ok::<(), decode_bench::error::Error>(())
//! ```
//!
//! `cargo run --release --example lag_and_add` is the same at the size of the toy models, with a table.
//!
//! # How the modules depend on each other
//!
//! Each may use those above it, and none those below; `tests/architecture.rs` reads the `use` lines and keeps it
//! so, and no two files of one folder need each other.
//!
//! ```text
//! harmless → error             what others wrote, made safe to show; errors
//! temporary → files            what does not outlive the program; whole files
//! dtype → strategy → case      the names of what is compared
//! backend                      the operations: cpu, cuda
//! cache                        the state that layers keep, under each strategy
//! layer → model → cost         layers, models, closed forms of a step's work
//! session → decoding           one decode; samplers, beams, ensembles, text
//! suite                        the cases there are
//! record → analysis → units    rows and provenance; what follows from them; numbers for people
//! plot → report                figures; tables, pages, citations
//! shard                        one suite on many machines
//! measure → bench              what is timed, and in which order; writes a record
//! cmd                          the verbs of the program
//! ```
//!
//! Measuring writes raw rows and prints no table; analysis, figures and reports read rows and run nothing.

// what is printed goes through `bench::print` and `measure::say`, which bear a reader that has gone
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod analysis;
pub mod backend;
pub mod bench;
pub mod cache;
pub mod case;
pub mod cost;
pub mod decoding;
pub mod dtype;
pub mod error;
pub mod files;
pub mod harmless;
pub mod layer;
pub mod measure;
pub mod model;
pub mod plot;
pub mod record;
pub mod report;
pub mod session;
pub mod shard;
pub mod strategy;
pub mod suite;
pub mod temporary;
pub mod units;
