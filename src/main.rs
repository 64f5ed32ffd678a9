//! Parses a verb, calls it, prints one error.

mod cmd;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use decode_bench::measure::NO_DRIVER_CACHE;

fn main() -> ExitCode {
    std::env::set_var(NO_DRIVER_CACHE.0, NO_DRIVER_CACHE.1);
    let outcome = match cmd::Cli::try_parse() {
        Ok(cli) => cli.verb.run().map_err(|e| (e.exit_code(), e.to_string())),
        Err(e) if !e.use_stderr() => cmd::print(&e.to_string()).map_err(|e| (e.exit_code(), e.to_string())),
        Err(e) => Err((2, usage(&e.to_string()))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            // when even this cannot be written, the exit code has to do
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&message));
            ExitCode::from(code)
        }
    }
}

/// What the argument parser objects to, without the reminder of how the verb is used.
fn usage(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|end| message.find(end)).min();
    message[..end.unwrap_or(message.len())].replace("\n\n  tip:", "; tip:")
}

/// Messages quote what others wrote, file names and tensor names among it: however that looks,
/// the message is one line, and no terminal obeys it.
fn one_line(message: &str) -> String {
    const MOST: usize = 1000;
    let words: Vec<&str> = message.split_ascii_whitespace().collect();
    let mut line: String = words.join(" ").chars().flat_map(shown).take(MOST).collect();
    if line.chars().count() == MOST {
        line.push('…');
    }
    line
}

fn shown(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}
