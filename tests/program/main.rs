//! The program as a user runs it. One program for all of these tests, so that the library is linked once.

mod arguments;
mod citing;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod comparing;
mod interrupts;
mod listing;
mod provenance;
mod runs;
mod sharding;
mod two_builds;
