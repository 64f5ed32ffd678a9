//! Parses a verb, calls it, prints one error.

mod cmd;

use std::process::ExitCode;

use clap::Parser;
use decode_bench::error::{one_line, usage};
use decode_bench::measure::{say, NO_DRIVER_CACHE};
use decode_bench::temporary::{hold_signals, remove_on_signals};

fn main() -> ExitCode {
    std::env::set_var(NO_DRIVER_CACHE.0, NO_DRIVER_CACHE.1);
    remove_on_signals();
    let outcome = match cmd::Cli::try_parse() {
        Ok(cli) => cli.verb.run().map_err(|e| (e.exit_code(), e.to_string())),
        Err(e) if !e.use_stderr() => cmd::print(&e.to_string()).map_err(|e| (e.exit_code(), e.to_string())),
        Err(e) => Err((2, usage(&e.to_string()))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            let _held = hold_signals();
            say(format_args!("error: {}", one_line(&message)));
            ExitCode::from(code)
        }
    }
}
