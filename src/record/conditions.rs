//! What must be equal between runs whose numbers are put together, and how it must be in a run that is cited: one
//! table for `--resume`, `merge`, `cmp` and `cite`.
//!
//! What is unknown is equal to nothing, not even to what is unknown too.

use std::fmt;

use super::provenance::optimised;
use super::{Environment, Gpu, Run, Sample};
use Consequence::{Ignored as I, Refused as R, Said as S};

/// What numbers are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To go on with a run that was begun before.
    Resume,
    /// To make one run of a plan's shards.
    Merge,
    /// To show runs side by side.
    Compare,
    /// To judge a run by another: `cmp --fail-if-slower`.
    Gate,
    /// To quote a figure of one run.
    Cite,
}

/// What is done where a condition is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// Nothing.
    Ignored,
    /// The numbers are used, and it is said.
    Said,
    /// The numbers are not used, unless that is asked for by name.
    Refused,
}

/// Where numbers come from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Program, machine and settings.
    pub environment: &'a Environment,
    /// None of a run that only begins.
    pub samples: &'a [Sample],
}

impl<'a> From<&'a Environment> for Origin<'a> {
    fn from(environment: &'a Environment) -> Self {
        Origin { environment, samples: &[] }
    }
}

impl<'a> From<&'a Run> for Origin<'a> {
    fn from(Run { environment, samples, .. }: &'a Run) -> Self {
        Origin { environment, samples }
    }
}

/// Something that numbers depend on.
#[derive(Debug)]
pub struct Condition {
    /// As messages say it.
    pub name: &'static str,
    /// In the order of [`Use`].
    consequences: [Consequence; 5],
    /// `None`: unknown.
    value: fn(Origin<'_>) -> Option<String>,
    /// Whether two known values are the same.
    same: fn(&str, &str) -> bool,
    /// Whether a run with such a value can be cited.
    fit: fn(&str) -> bool,
}

/// All of them. A field of [`Environment`] that is in none of them decides nothing; a test has the list.
#[rustfmt::skip]
pub const CONDITIONS: &[Condition] = &[
    //                           resume merge compare gate cite
    row("revision",             [R, R, I, I, R], // another program; cmp compares two on purpose
        |o| o.environment.git_revision.clone()),
    row("uncommitted changes",  [R, R, I, I, R], changes) // nobody else has them; cmp has a column
        .same_if(|a, b| a == b && a != SOME).fit_if(|v| v == NONE),
    row("checkout",             [I, I, I, S, R], // it may contradict what the build says of its revision
        |o| Some(o.environment.doubtful_revision().map_or(AGREES, |_| "in doubt").into())).fit_if(|v| v == AGREES),
    row("tool version",         [R, R, S, S, I], |o| Some(o.environment.tool_version.clone())),
    row("profile",              [R, R, S, R, R], // a build that is not optimised says nothing
        |o| o.environment.profile.clone()).fit_if(optimised),
    row("compiler",             [R, R, S, R, I], |o| o.environment.rustc.clone()),
    row("target",               [R, R, S, R, I], |o| o.environment.target.clone()),
    row("target features",      [R, R, S, R, I], |o| Some(listed(&o.environment.target_features))),
    row("allocator",            [R, R, S, R, I], |o| o.environment.allocator.clone()), // concat asks it at every step
    row("CPU",                  [R, R, S, R, S], |o| o.environment.cpu_model.clone()),
    row("CPU features",         [R, R, S, R, I], |o| Some(listed(&o.environment.cpu_features))), // kernels choose by them
    row("cores",                [R, R, S, R, I], |o| Some(o.environment.physical_cores?.to_string())),
    row("hardware threads",     [R, R, S, R, I], |o| Some(o.environment.logical_cores?.to_string())),
    row("caches",               [R, R, S, R, I], caches),
    row("memory",               [R, R, S, R, I], |o| mebibytes(o.environment.memory_bytes)).same_if(nearly),
    row("kernel",               [R, R, S, R, I], // it schedules threads and hands out pages
        |o| o.environment.kernel.clone()),
    row("virtual machine",      [R, R, S, R, I], // a hypervisor takes its share
        |o| o.environment.virtualised.map(yes_or_no)),
    row("huge pages",           [R, R, S, R, I], // they decide what a large read costs
        |o| or_none(o.environment.transparent_hugepages.clone())),
    row("governor",             [R, R, S, R, I], |o| or_none(o.environment.frequency_governor.clone())), // it sets the clock
    row("threads",              [R, R, S, R, I], |o| Some(o.environment.threads.to_string())),
    row("seed",                 [R, R, R, R, I], |o| Some(o.environment.seed.to_string())),
    row("emulated device",      [R, R, R, R, R], // its times say nothing
        |o| Some(yes_or_no(o.environment.emulated))).fit_if(|v| v == "no"),
    row("GPU",                  [R, R, S, R, I], |o| of_gpu(o, |gpu| gpu.name.clone())),
    row("GPU driver",           [R, R, S, R, I], driver), // it launches and assembles kernels
    row("GPU memory",           [R, R, S, R, I],
        |o| of_gpu(o, |gpu| mebibytes(gpu.memory_bytes))).same_if(nearly),
    row("GPU multiprocessors",  [R, R, S, R, I], |o| of_gpu(o, |gpu| Some(gpu.multiprocessors?.to_string()))),
    row("GPU ECC",              [R, R, S, R, I], |o| of_gpu(o, |gpu| gpu.ecc.map(yes_or_no))), // it costs bandwidth
    row("GPU L2",               [R, R, S, R, I], |o| of_gpu(o, |gpu| gpu.l2.clone())), // steps begin with it warm or cold
    row("GPU target",           [R, R, S, R, I], |o| of_gpu(o, |gpu| gpu.kernel_target.clone())),
    row("NVRTC",                [R, R, S, R, I], |o| of_compiler(o, |gpu| gpu.nvrtc.clone())),
    row("NVRTC options",        [R, R, S, R, I], |o| of_compiler(o, |gpu| Some(listed(&gpu.nvrtc_options)))),
    row("NVRTC cache disabled", [R, R, S, R, I], // what is remembered is not compiled
        |o| of_compiler(o, |gpu| gpu.nvrtc_cache_disabled.map(yes_or_no))),
    row("driver cache disabled",[R, R, S, R, I], // what is remembered is not assembled
        |o| of_gpu(o, |gpu| gpu.driver_cache_disabled.map(yes_or_no))),
    row("throttled samples",    [I, S, S, S, S], throttled).fit_if(|v| v == NONE), // the GPU was slower than it can be
    row("finished",             [I, I, S, S, S], // what is not there yet may change a figure
        |o| Some(yes_or_no(o.environment.finished_utc.is_some()))).fit_if(|v| v == "yes"),
];

const fn row(
    name: &'static str,
    consequences: [Consequence; 5],
    value: fn(Origin<'_>) -> Option<String>,
) -> Condition {
    Condition { name, consequences, value, same: |a, b| a == b, fit: |_| true }
}

impl Condition {
    const fn fit_if(self, fit: fn(&str) -> bool) -> Condition {
        Condition { fit, ..self }
    }

    const fn same_if(self, same: fn(&str, &str) -> bool) -> Condition {
        Condition { same, ..self }
    }

    /// What is done where it is not met.
    pub fn consequence(&self, of: Use) -> Consequence {
        self.consequences[of as usize]
    }

    /// As an option names it: `uncommitted-changes`.
    pub fn option(&self) -> String {
        self.name.to_lowercase().replace(' ', "-")
    }
}

/// A condition that is not met.
#[derive(Clone, Debug)]
pub struct Unmet {
    /// Which.
    pub condition: &'static Condition,
    /// What is done about it.
    pub consequence: Consequence,
    /// `CPU: one, now another`; of a single run `profile: debug, opt-level 0`.
    said: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

/// What is not the same, or not known to be, and not ignored.
pub fn differences<'a, 'b>(of: Use, was: impl Into<Origin<'a>>, now: impl Into<Origin<'b>>) -> Vec<Unmet> {
    let (was, now) = (was.into(), now.into());
    unmet(of, |condition| {
        let [was, now] = [was, now].map(condition.value);
        let same = was.as_deref().zip(now.as_deref()).is_some_and(|(was, now)| (condition.same)(was, now));
        (!same).then(|| format!("{}: {}, now {}", condition.name, shown(was), shown(now)))
    })
}

/// What is unknown of a run that is to be cited, or not as it must be.
pub fn unfit<'a>(origin: impl Into<Origin<'a>>) -> Vec<Unmet> {
    let origin = origin.into();
    unmet(Use::Cite, |condition| {
        let value = (condition.value)(origin);
        let fit = value.as_deref().is_some_and(condition.fit);
        (!fit).then(|| format!("{}: {}", condition.name, shown(value)))
    })
}

/// Of the conditions that a use does not ignore, those of which there is something to say.
fn unmet(of: Use, said: impl Fn(&Condition) -> Option<String>) -> Vec<Unmet> {
    let asked = CONDITIONS.iter().filter(|condition| condition.consequence(of) > Consequence::Ignored);
    let unmet = |condition: &'static Condition| {
        said(condition).map(|said| Unmet { condition, consequence: condition.consequence(of), said })
    };
    asked.filter_map(unmet).collect()
}

/// Those that are refused, and those that are only said, each in words.
pub fn refused_and_said(unmet: &[Unmet]) -> [Vec<String>; 2] {
    [Consequence::Refused, Consequence::Said].map(|consequence| {
        unmet.iter().filter(|unmet| unmet.consequence == consequence).map(Unmet::to_string).collect()
    })
}

const NONE: &str = "none";
const SOME: &str = "some";
const AGREES: &str = "agrees";

fn shown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unknown".into())
}

/// Where the kernel has no such file there is no such thing.
fn or_none(value: Option<String>) -> Option<String> {
    Some(value.unwrap_or_else(|| NONE.into()))
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

fn listed(all: &[String]) -> String {
    if all.is_empty() {
        NONE.into()
    } else {
        all.join(" ")
    }
}

/// Those without a name are not known to be the same as others.
fn changes(Origin { environment, .. }: Origin<'_>) -> Option<String> {
    let named = environment.git_changes.as_ref().map(|name| format!("{SOME}, {name}"));
    environment.git_dirty.map(|dirty| if dirty { named.unwrap_or(SOME.into()) } else { NONE.into() })
}

fn caches(Origin { environment, .. }: Origin<'_>) -> Option<String> {
    let caches = environment.caches.iter();
    let all = caches.map(|c| format!("L{} {} {} KiB of {}", c.level, c.kind, c.bytes >> 10, c.shared_by));
    Some(listed(&all.collect::<Vec<_>>()))
}

fn mebibytes(bytes: Option<u64>) -> Option<String> {
    bytes.map(|bytes| format!("{} MiB", bytes >> 20))
}

/// The kernel keeps some megabytes to itself, and not always as many: a hundredth is no other machine.
fn nearly(a: &str, b: &str) -> bool {
    let number = |text: &str| text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    let near = |(a, b): (u64, u64)| 100 * a.abs_diff(b) <= a.max(b);
    a == b || number(a).zip(number(b)).is_some_and(near)
}

/// Of the device. A GPU without a name is none: a budget is written down in its place, or a compiler.
fn of_gpu(Origin { environment, .. }: Origin<'_>, field: fn(&Gpu) -> Option<String>) -> Option<String> {
    match environment.gpu.as_ref().filter(|gpu| gpu.name.is_some()) {
        Some(gpu) => field(gpu),
        None => Some(NONE.into()),
    }
}

/// Of NVRTC, which needs no device.
fn of_compiler(origin: Origin<'_>, field: fn(&Gpu) -> Option<String>) -> Option<String> {
    match origin.environment.gpu.as_ref().filter(|gpu| gpu.nvrtc.is_some()) {
        Some(gpu) => field(gpu),
        None => of_gpu(origin, |_| None),
    }
}

/// An emulated device has none.
fn driver(origin: Origin<'_>) -> Option<String> {
    match origin.environment.emulated {
        true => Some(NONE.into()),
        false => of_gpu(origin, |gpu| gpu.driver.clone()),
    }
}

/// Where nobody could see a GPU throttle, no mark says nothing.
fn throttled(origin: Origin<'_>) -> Option<String> {
    let marked =
        |s: &Sample| s.mark.iter().flat_map(|mark| mark.split_whitespace()).any(|m| m == "throttled");
    match origin.samples.iter().any(marked) {
        true => Some(SOME.into()),
        false if origin.environment.emulated => Some(NONE.into()),
        false => of_gpu(origin, |gpu| gpu.throttle_reasons.as_ref().map(|_| NONE.into())),
    }
}
