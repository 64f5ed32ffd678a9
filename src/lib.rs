//! decode-bench answers one question with numbers that can be cited: when a model generates text
//! token by token, what does a cache buy, and which kind?
//!
//! | to learn about | read |
//! |---|---|
//! | what can be measured, and its id | [`case`], [`suite`] |
//! | one decode in progress | [`session`] |
//! | what is made of its logits: samplers, beams, ensembles | [`decoding`] |
//! | the two models | [`model`] |
//! | the strategies, the subject of the project | [`cache`] |
//! | what a step must cost, in closed form | [`cost`] |
//! | the operations, on each machine | [`backend`] |
//! | what is timed, and how | [`measure`] |
//! | one suite on many machines | [`shard`] |
//! | what is written down | [`record`] |
//! | what follows from it | [`analysis`], [`plot`], [`report`] |
//!
//! Measuring writes raw rows with provenance; comparing, plotting and reporting read them and run
//! nothing. The two meet only in the files of `results/`.

pub mod analysis;
pub mod backend;
pub mod cache;
pub mod case;
pub mod cost;
pub mod decoding;
pub mod error;
pub mod measure;
pub mod model;
pub mod plot;
pub mod record;
pub mod report;
pub mod session;
pub mod shard;
pub mod suite;
