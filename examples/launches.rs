//! What one decode step asks of a GPU, without one: launches, and how many blocks they have.
//!
//! `cargo run --release --example launches` prints the table of `kernels/README.md`.

use decode_bench::backend::cuda::Cuda;
use decode_bench::backend::Tokens;
use decode_bench::case::{Case, ModelKind, ShapeName};
use decode_bench::cost::Step;
use decode_bench::error::Result;
use decode_bench::model::{capacity, AnyModel, Config, Weights};
use decode_bench::session::Session;

fn main() -> Result<()> {
    clap::Command::new("launches")
        .about("Prints what one decode step asks of a GPU, without one")
        .get_matches();
    println!("| step | launches | blocks: fewest | median | launches under 132 blocks | floor, MB |");
    println!("|---|--:|--:|--:|--:|--:|");
    for shape in [ShapeName::Toy, ShapeName::Base, ShapeName::Gpt2] {
        for (strategy, batch) in [("concat", 1), ("padded", 1), ("padded", 4), ("naive", 1)] {
            for position in [64, capacity(ModelKind::Transformer, shape)] {
                let id = format!("transformer-{shape}/{strategy}/cuda/b{batch}/t{position}");
                row(&id.parse()?)?;
            }
        }
    }
    Ok(())
}

/// The step of one case, on a plan that runs nothing. Fetching the call's numbers is one launch more.
fn row(case: &Case) -> Result<()> {
    let b = Cuda::plan();
    let model = AnyModel::load(&b, &Config::named(case.model, case.shape)?, &Weights::seeded(1))?;
    let most = capacity(case.model, case.shape);
    let mut session = Session::open(&b, &model, case.strategy, case.batch, most)?;
    let tokens = |n| Tokens(vec![vec![1; n]; case.batch]);
    session.prefill(&tokens(case.position - 1))?;
    let before = b.launches_asked_for().len();
    drop(session.feed(&tokens(1))?);
    let mut blocks: Vec<usize> = b.launches_asked_for()[before..].iter().map(|launch| launch.1).collect();
    blocks.sort();
    let few = blocks.iter().filter(|&&blocks| blocks < 132).count();
    let floor = Step::of(case)?.read_floor_bytes() as f64 / 1e6;
    let (count, fewest, median) = (blocks.len(), blocks[0], blocks[blocks.len() / 2]);
    println!("| `{case}` | {count} | {fewest} | {median} | {few} | {floor:.1} |");
    Ok(())
}
