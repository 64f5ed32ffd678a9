//! Two builds of this program in turn, on one machine. A process finds its own places in memory and keeps them, so each
//! round starts both anew; within a round they take turns, so that both see the same moments.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use crate::case::Case;
use crate::dtype::Dtype;
use crate::error::{one_line, Error, Result};

/// The two, by their place in what is asked for and given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Build {
    /// What was.
    Old,
    /// What is judged.
    New,
}

impl Build {
    /// As tables and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Build::Old => "old",
            Build::New => "new",
        }
    }
}

/// What both are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Of each build in a round.
    pub turns: u32,
    /// Steps of a turn, after a tenth as many to warm up.
    pub steps: u64,
    /// CPU threads of each process.
    pub threads: usize,
}

/// The steps of one turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// That took them.
    pub build: Build,
    /// From 1.
    pub turn: u32,
    /// Each step's time.
    pub step_ns: Vec<u64>,
}

/// One round of a case: both builds started, asked in turn and ended. The first of a turn changes from turn to turn and
/// from round to round.
///
/// # Errors
/// When a build cannot be started, does not know `step-time --turns`, or cannot run the case.
pub fn round(programs: [&Path; 2], case: &Case, round: u32, asked: &Turns) -> Result<Vec<Turn>> {
    let mut order = [Build::Old, Build::New];
    if round.is_multiple_of(2) {
        order.reverse();
    }
    let started = |build: &Build| Ok((*build, Process::start(programs[*build as usize], case, asked)?));
    let mut processes: Vec<(Build, Process)> = order.iter().map(started).collect::<Result<_>>()?;
    let mut taken = Vec::new();
    for turn in 1..=asked.turns {
        for (build, process) in &mut processes {
            taken.push(Turn { build: *build, turn, step_ns: process.turn(asked.steps)? });
        }
        processes.reverse();
    }
    Ok(taken)
}

/// A build that waits for its turns.
struct Process {
    child: Child,
    /// `None` once it is to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    said: File,
    name: String,
}

/// A line that `step-time` prints.
#[derive(Deserialize)]
struct Line {
    step_ns: Vec<u64>,
}

impl Process {
    /// Loaded, its logits compared, and warm.
    fn start(program: &Path, case: &Case, asked: &Turns) -> Result<Process> {
        let name = format!("{} at {case}", program.display());
        let failed = |e: std::io::Error| Error::Input(format!("{name}: {e}"));
        let said = tempfile::tempfile().map_err(failed)?;
        let option = |name: &str, value: &dyn std::fmt::Display| [format!("--{name}"), value.to_string()];
        // builds from before there was another know no option for it
        let dtype = (case.weights != Dtype::F32).then(|| option("dtype", &case.weights));
        let cache = (case.cache != Dtype::F32).then(|| option("cache-dtype", &case.cache));
        let options = [
            option("model", &case.model),
            option("shape", &case.shape),
            option("strategy", &case.strategy),
            option("backend", &case.backend),
            option("position", &case.position),
            option("threads", &asked.threads),
            option("samples", &asked.steps),
        ];
        let mut child = Command::new(program)
            .arg("step-time")
            .args(options.iter().chain(&dtype).chain(&cache).flatten())
            .arg("--turns")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut process = Process { child, input, output, said, name };
        process.line()?;
        Ok(process)
    }

    fn turn(&mut self, steps: u64) -> Result<Vec<u64>> {
        let asked = self.input.as_mut().map_or(Ok(()), |input| writeln!(input, "{steps}"));
        match asked {
            Ok(()) => self.line(),
            Err(_) => Err(self.failure()),
        }
    }

    fn line(&mut self) -> Result<Vec<u64>> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(read) if read > 0 => {}
            _ => return Err(self.failure()),
        }
        let line: Line = serde_json::from_str(&line).map_err(|e| {
            Error::Input(format!("{}: `step-time` printed `{}`: {e}", self.name, one_line(&line)))
        })?;
        Ok(line.step_ns)
    }

    /// Why it ended.
    fn failure(&mut self) -> Error {
        self.input = None;
        let _ = self.child.wait();
        let mut said = String::new();
        let _ = self.said.rewind().and_then(|()| self.said.read_to_string(&mut said));
        let said = said.lines().next().unwrap_or("it ended without a word");
        Error::Input(format!("{}: {}", self.name, one_line(said)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None; // the end of its input is the end of its turns
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
