//! A cold start, in phases. Only a fresh process is cold: [`in_this_process`] runs in a child that
//! does nothing else, and [`in_a_child`] starts it.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Machines, Settings};
use crate::backend::{Backend, Tokens};
use crate::case::Case;
use crate::error::{Error, Result};
use crate::model::{capacity, checkpoint, source_rows, AnyModel, Model};
use crate::on_backend;
use crate::record::{Metric, Round, Sample};
use crate::session::Session;

/// Nanoseconds of each phase, and the most memory the process held.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Phases {
    /// Threads started, checkpoint mapped, weights laid out as the kernels read them.
    pub load_ns: u64,
    /// Memory asked for and zeroed where the strategy wants it so.
    pub cache_create_ns: u64,
    /// One token through everything for the first time, compiling included.
    pub first_step_ns: u64,
    /// Of these phases, what compiling kernels took; where kernels are compiled.
    pub compile_ns: Option<u64>,
    /// After the first step: one recorded and made ready to replay.
    pub capture_ns: Option<u64>,
    /// The recording made ready to launch.
    pub instantiate_ns: Option<u64>,
    /// The recording brought to the device.
    pub upload_ns: Option<u64>,
    /// The recording's first launch, to its end.
    pub first_replay_ns: Option<u64>,
    /// Of the whole process, as the kernel saw it; `None` where it does not say.
    pub peak_rss_bytes: Option<u64>,
}

impl Phases {
    /// Up to and with the first step.
    pub(crate) fn total_ns(&self) -> u64 {
        self.load_ns + self.cache_create_ns + self.first_step_ns
    }

    /// The rows they make.
    pub fn samples(&self, case: &Case) -> Vec<Sample> {
        let times = [
            (Metric::LoadNs, Some(self.load_ns)),
            (Metric::CacheCreateNs, Some(self.cache_create_ns)),
            (Metric::FirstStepNs, Some(self.first_step_ns)),
            (Metric::CompileNs, self.compile_ns),
            (Metric::CaptureNs, self.capture_ns),
            (Metric::InstantiateNs, self.instantiate_ns),
            (Metric::UploadNs, self.upload_ns),
            (Metric::FirstReplayNs, self.first_replay_ns),
            (Metric::PeakRssBytes, self.peak_rss_bytes),
        ];
        times
            .into_iter()
            .filter_map(|(metric, value)| Some(Sample::value(*case, metric, Round::Single, 1, value?)))
            .collect()
    }
}

/// Starts a session from a checkpoint and takes one step; where steps are replayed, some more until one
/// is recorded. The files are in the page cache: a disk is not what is measured.
pub fn in_this_process(case: &Case, checkpoint: &Path, settings: &Settings) -> Result<Phases> {
    let (start, machines) = (Instant::now(), Machines::new(settings));
    on_backend!(machines, case.backend, |b| phases(start, &b, case, checkpoint))
}

fn phases<B: Backend>(start: Instant, b: &B, case: &Case, folder: &Path) -> Result<Phases> {
    let (file, weights) = checkpoint::open(case.model, folder)?;
    let model = AnyModel::load(b, &file.config, &weights.kept_as(case.weights))?;
    b.synchronize()?;
    let load_ns = start.elapsed().as_nanos() as u64;

    let start = Instant::now();
    let capacity = capacity(case.model, case.shape);
    let source = source_rows(case.model, case.shape);
    let mut session = Session::open_case(b, &model, case.cache_config(), [case.batch; 2], capacity, source)?;
    b.synchronize()?;
    let cache_create_ns = start.elapsed().as_nanos() as u64;

    let token = |position| Tokens::given(case.batch, position - 1, position, model.vocab());
    let first = token(1);
    let start = Instant::now();
    let logits = session.feed(&first)?;
    b.synchronize()?;
    let first_step_ns = start.elapsed().as_nanos() as u64;
    drop(logits);

    let prepared = b.prepared();
    for position in 2..=4 {
        if b.replays() && b.prepared().captures.is_empty() {
            drop(session.feed(&token(position))?);
        }
    }
    let capture = b.prepared().captures.first().copied();
    Ok(Phases {
        load_ns,
        cache_create_ns,
        first_step_ns,
        compile_ns: Some(prepared.compile_ns.iter().sum()).filter(|_| !prepared.compile_ns.is_empty()),
        capture_ns: capture.map(|times| times.capture_ns),
        instantiate_ns: capture.map(|times| times.instantiate_ns),
        upload_ns: capture.map(|times| times.upload_ns),
        first_replay_ns: capture.map(|times| times.first_replay_ns),
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// Runs `program startup CASE` and reads the phases it prints. The process is in a group of its own: Ctrl-C reaches
/// this program alone, with which it ends ([`end_with_parent`]).
///
/// # Errors
/// One sentence, whatever went wrong.
pub fn in_a_child(program: &Path, case: &Case, checkpoint: &Path, settings: &Settings) -> Result<Phases> {
    let mut child = Command::new(program);
    child.arg("startup").arg(case.to_string()).arg("--checkpoint").arg(checkpoint);
    child.arg("--threads").arg(settings.threads.to_string());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    let failed = |why: &dyn Display| Error::Input(format!("a cold start of {case} failed: {why}"));
    let output = child.output().map_err(|e| failed(&format_args!("{}: {e}", program.display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(match said.trim() {
            "" => failed(&output.status),
            said => failed(&said),
        });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|e| failed(&format_args!("it printed something else: {e}")))
}

/// Has this process killed when the one that started it ends, however that ends. Linux alone knows how; elsewhere a
/// cold start without a parent ends with its first steps.
pub fn end_with_parent() {
    // SAFETY: the call takes numbers alone
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
