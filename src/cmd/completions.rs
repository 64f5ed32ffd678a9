//! `completions`: from the argument parser itself, so that they cannot fall behind it.

use clap::CommandFactory;
use clap_complete::Shell;

use decode_bench::error::Result;

use super::{print, Cli};

/// Print a script that makes a shell complete this program's arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench completions bash > ~/.local/share/bash-completion/completions/decode-bench")]
pub struct Args {
    shell: Shell,
}

pub fn run(args: Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    print(&String::from_utf8_lossy(&script))
}
