//! One prompt, decoded under three strategies: the same logits, at another price.
//!
//! ```text
//! cargo run --release --example compare_strategies
//! ```
//!
//! An unoptimised build on two busy cores printed this; times of a quiet machine are in `README.md`:
//!
//! ```text
//! strategy  time per token      cache
//!    naive          486 ms        0 B
//!   concat          106 ms   1.51 MiB
//!   padded          102 ms      3 MiB
//! ```

use std::time::Instant;

use decode_bench::backend::{cpu::Cpu, Backend, Tokens};
use decode_bench::case::{ModelKind, ShapeName};
use decode_bench::error::Result;
use decode_bench::model::{AnyModel, Config, Weights};
use decode_bench::session::Session;
use decode_bench::strategy::Strategy;
use decode_bench::units::Quantity;

fn main() -> Result<()> {
    clap::Command::new("compare_strategies")
        .about("Decodes one sentence under three strategies, and prints what each takes")
        .get_matches();
    let (b, kind, capacity, steps) = (Cpu::new(1)?, ModelKind::Transformer, 512, 255);
    let config = Config::named(kind, ShapeName::Toy)?;
    let model = AnyModel::load(&b, &config, &Weights::seeded(1))?;
    let mut expected: Option<Vec<f32>> = None;
    println!("{:>8}  {:>14}  {:>9}", "strategy", "time per token", "cache");
    for strategy in [Strategy::Naive, Strategy::Concat, Strategy::Padded] {
        let mut session = Session::open(&b, &model, strategy, 1, capacity)?;
        let mut logits = session.feed(&Tokens(vec![vec![1, 2, 3]]))?;
        let begin = Instant::now();
        for _ in 0..steps {
            let next = b.argmax(&logits)?; // greedily, one token for the one sentence
            logits = session.feed(&Tokens(vec![next]))?;
        }
        let logits = b.download(&logits)?;
        let ns = begin.elapsed().as_nanos() as f64 / steps as f64;
        // the last step's logits are naive's, up to the rounding of f32
        let expected = expected.get_or_insert_with(|| logits.clone());
        assert!(logits.iter().zip(expected).all(|(a, b)| (a - *b).abs() < 1e-4), "{strategy} differs");
        let cache = session.cache().allocated_bytes(&b) as f64;
        println!("{strategy:>8}  {:>14}  {:>9}", Quantity::Nanoseconds.show(ns), Quantity::Bytes.show(cache));
    }
    Ok(())
}
