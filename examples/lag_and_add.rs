//! The smallest layer with a cache, `y[t] = x[t] + x[t-1]`, written, composed, checked and timed: the example
//! of the crate's front page at the size of the toy models.

use decode_bench::analysis::median;
use decode_bench::backend::{cpu::Cpu, whole, Backend};
use decode_bench::cache::LayerContext;
use decode_bench::error::Result;
use decode_bench::layer::{laws, Layer, Residual, Sequential};
use decode_bench::measure::layers::time_steps;
use decode_bench::strategy::Slot;
use decode_bench::units::Quantity;

#[derive(Clone)]
struct LagAndAdd {
    width: usize,
}

impl<B: Backend> Layer<B> for LagAndAdd {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::Window { width: self.width, heads: 1, rows: 2 }]
    }
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (b, call) = (context.backend(), context.call());
        let rows = context.append(whole(b, x))?;
        b.add(x, &b.lag(call, rows, 1)?, 1.0)
    }
}

fn main() -> Result<()> {
    clap::Command::new("lag_and_add")
        .about("Checks and times a layer of its own under every strategy")
        .get_matches();
    let (b, width, position) = (Cpu::new(1)?, 256, 512);
    let lag = LagAndAdd { width };
    let twice = Sequential(vec![Box::new(lag.clone()), Box::new(Residual(lag))]);
    laws::hold(&b, &twice, width)?;
    println!("the laws hold; the step to position {position}, median [95 %] of 50 rounds in turn:");
    for (strategy, ns) in time_steps(&b, &twice, width, position, 50)? {
        let median = median(&ns).expect("fifty rounds");
        println!("{strategy:>8}  {}", Quantity::Nanoseconds.show_estimate(median));
    }
    Ok(())
}
