//! Which cases exist, and why.
//!
//! | shape | in the default suite | strategies |
//! |---|---|---|
//! | `toy` | yes: every level of cache holds its rows, overheads show | all |
//! | `base` | yes: weights beyond the caches of a core, bandwidth shows | the question's three, and those that explain them |
//! | `gpt2`, `large` | when a filter matches their ids: minutes each | the same |
//! | `tiny` | when a filter matches its ids: for tests of the harness itself | all |
//! | any, of other [types](crate::dtype) | when a filter matches their ids, on the CPU | as in f32 |
//!
//! The transformer and the convolution are what is measured by default; a filter selects from the cases of all
//! models and shapes.
//!
//! Every case exists on the CPU and in the three ways of CUDA, except those that a recording cannot
//! replay. On a machine without a GPU, the CPU's are measured. By default a GPU measures what answers the
//! question, on the transformer of three sizes (`toy`, `base`, `gpt2`) with one launch an operation and with one
//! a step; all else there when a filter matches its ids. The cases on a GPU come last, the most important first: they
//! have a [budget](crate::measure::Settings::gpu_limit), and the last of them may be left out.
//!
//! Positions are a quarter of the way, or less, where a growing cache is small; and the capacity,
//! where padding costs nothing any more. A step at position t feeds the t-th token.

use regex::Regex;

use crate::case::{BackendName, Case, ModelKind, ModelName, ShapeName};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::model::{capacity, shapes, Config};
use crate::strategy::{CacheConfig, Strategy};

/// The cases that a filter selects, a regular expression searched in the ids as criterion does;
/// without one, the default suite. Those on a GPU come last, in the order of their importance.
pub fn select(filter: Option<&str>) -> Result<Vec<Case>> {
    let mut cases = offered(filter);
    let Some(filter) = filter else { return Ok(cases) };
    let matches = matcher(filter)?;
    cases.retain(matches);
    if cases.is_empty() {
        let known = offered(Some(filter)).iter().map(Case::to_string).collect();
        return Err(Error::NoMatch { filter: filter.into(), known });
    }
    Ok(cases)
}

/// In the order in which they are measured, all cases for a filter to select from, or the default suite. Those of
/// other types than f32 are for a filter that names a type: `toy/padded` is not four times as many.
pub(crate) fn offered(filter: Option<&str>) -> Vec<Case> {
    let mut cases = all();
    cases.sort_by_key(importance);
    let names = |dtype: Dtype| dtype == Dtype::F32 || filter.is_some_and(|filter| dtype.is_named_in(filter));
    let f32_unless_named = |case: &Case| names(case.weights) && names(case.cache);
    cases.retain(|case| f32_unless_named(case) && (filter.is_some() || in_default(case)));
    cases
}

/// Whether a filter's regular expression is found in a case's id.
pub fn matcher(filter: &str) -> Result<impl Fn(&Case) -> bool> {
    let pattern = pattern(filter)?;
    Ok(move |case: &Case| pattern.is_match(&case.to_string()))
}

/// What a filter looks for.
///
/// # Errors
/// When it is no regular expression.
pub fn pattern(filter: &str) -> Result<Regex> {
    Regex::new(filter).map_err(|e| Error::Input(format!("the filter `{filter}` is no pattern: {e}")))
}

/// Every case there is: those of one model on one backend together, in them those that are compared side
/// by side next to each other.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in models() {
        let ModelName { kind: model, shape, weights } = name;
        for &backend in BackendName::OURS.iter().filter(|backend| backend.reads(weights)) {
            for (batch, position) in places(model, shape) {
                let chosen = |&strategy: &Strategy| {
                    backend.runs(strategy) && worth_its_time(strategy, shape, batch, position)
                };
                for &dtype in Dtype::ALL.iter().filter(|&&cache| backend.reads(cache)) {
                    let strategies = Strategy::examples().iter().copied().filter(chosen);
                    let caches = strategies.map(|strategy| CacheConfig { strategy, dtype });
                    let possible = caches.filter(|&cache| model.supports(cache));
                    cases.extend(possible.map(|cache| name.case(cache, backend, batch, position)));
                }
            }
        }
    }
    cases
}

/// Every model in every shape that it has, with weights of every type.
fn models() -> impl Iterator<Item = ModelName> {
    let shaped = ModelKind::ALL.iter().flat_map(|&kind| shapes(kind).map(move |shape| (kind, shape)));
    let typed = |(kind, shape)| Dtype::WEIGHTS.iter().map(move |&weights| ModelName { kind, shape, weights });
    shaped.flat_map(typed)
}

/// Whether two cases run on the same model on the same backend.
pub fn same_fixture(a: &Case, b: &Case) -> bool {
    (a.model_name(), a.backend) == (b.model_name(), b.backend)
}

/// Whether two cases differ in nothing but the strategy.
pub(crate) fn side_by_side(a: &Case, b: &Case) -> bool {
    same_fixture(a, b) && (a.batch, a.position) == (b.batch, b.position)
}

/// Of less importance, a larger one; the same for all cases of one model on one backend, which stay together.
fn importance(case: &Case) -> (bool, bool, bool, bool, ShapeName) {
    let Case { model, shape, backend, .. } = *case;
    let asked = model == ModelKind::Transformer;
    match backend.is_cuda() {
        false => (false, false, false, false, ShapeName::Tiny),
        true => (true, backend == BackendName::CudaSpecialised, !asked, !is_asked(shape), shape),
    }
}

/// The next of the suite's positions, from the case's own on; its own behind the last.
pub(crate) fn next_position(case: &Case) -> usize {
    let positions = places(case.model, case.shape).into_iter().filter(|(batch, _)| *batch == case.batch);
    let next = positions.map(|(_, position)| position).filter(|&position| position >= case.position).min();
    next.unwrap_or(case.position)
}

/// The strategies that the cases have, each once. Recomputing a whole capacity costs the same at
/// every step: it is left out, one position says it all.
pub fn decoded(cases: &[Case]) -> Vec<Case> {
    let mut cases: Vec<Case> = cases.iter().map(|case| case.at(1)).collect();
    cases.retain(|case| case.strategy != Strategy::NaivePadded);
    cases.sort();
    cases.dedup();
    cases
}

/// What is decoded in turn of cases that share a fixture: whole decodes of one sentence, each at its last position; and
/// on the CPU, of the strategy that has none, the cases where these pass by, as ends of decodes.
pub(crate) fn decodes(cases: &[Case]) -> (Vec<Case>, Vec<Case>) {
    let alone: Vec<Case> = cases.iter().copied().filter(|case| case.batch == 1).collect();
    let last = |case: Case| Some(case.at(decode_length(case.shape, case.backend)?));
    let whole: Vec<Case> = decoded(&alone).into_iter().filter_map(last).collect();
    let besides = |case: &&Case| case.strategy == Strategy::NaivePadded && !case.backend.is_cuda();
    (whole, alone.iter().filter(besides).filter(|case| is_passed(case)).copied().collect())
}

/// The cases of a case's model, shape, backend and batch that whole decodes pass by.
pub fn beside(case: &Case) -> Vec<Case> {
    let of = |case: &Case| (case.cache, case.batch);
    let alike = |other: &Case| same_fixture(case, other) && of(case) == of(other);
    let passed = all().into_iter().filter(|other| alike(other) && is_passed(other));
    passed.filter(|other| other.strategy != Strategy::NaivePadded).collect()
}

/// Whether whole decodes pass by the case's position.
pub(crate) fn is_passed(case: &Case) -> bool {
    let length = decode_length(case.shape, case.backend);
    case.batch == 1 && length.is_some_and(|length| case.position <= length)
}

/// How far `cargo bench` decodes: to the capacity of `toy`, less where recomputing, or compiling every
/// length, takes minutes.
pub(crate) fn decode_length(shape: ShapeName, backend: BackendName) -> Option<usize> {
    match (shape, backend) {
        (ShapeName::Gpt2 | ShapeName::Large, _) => None,
        (_, BackendName::CudaSpecialised) => Some(32),
        (ShapeName::Tiny, _) => Some(64),
        (ShapeName::Toy, _) => Some(512),
        (ShapeName::Base | ShapeName::FlaxToy | ShapeName::Wmt, _) => Some(128),
    }
}

/// # Errors
/// When the case's model has no such position.
pub fn check_position(case: &Case) -> Result<()> {
    let Case { model, shape, position, .. } = *case;
    Config::named(model, shape)?;
    match capacity(model, shape) {
        most if (1..=most).contains(&position) => Ok(()),
        most => Err(Error::Input(format!("position {position}: {model}-{shape} has positions 1 to {most}"))),
    }
}

fn in_default(case: &Case) -> bool {
    if case.backend.is_cuda() {
        return answers_on_a_gpu(case);
    }
    (case.weights, case.cache) == (Dtype::F32, Dtype::F32)
        && matches!(case.model, ModelKind::Transformer | ModelKind::LinearizedConv)
        && matches!(case.shape, ShapeName::Toy | ShapeName::Base)
}

/// What does a cache buy, and which kind: without criterion's and a compiler's minutes.
fn answers_on_a_gpu(case: &Case) -> bool {
    let asked = [Strategy::Naive, Strategy::Concat, Strategy::Padded, Strategy::Bounded];
    case.model == ModelKind::Transformer
        && is_asked(case.shape)
        && matches!(case.backend, BackendName::Cuda | BackendName::CudaGraph)
        && asked.contains(&case.strategy)
}

fn is_asked(shape: ShapeName) -> bool {
    matches!(shape, ShapeName::Toy | ShapeName::Base | ShapeName::Gpt2)
}

/// Batch sizes and positions.
fn places(model: ModelKind, shape: ShapeName) -> Vec<(usize, usize)> {
    let most = capacity(model, shape);
    match shape {
        ShapeName::Tiny => vec![(1, 16), (1, most), (3, 16)],
        ShapeName::Toy => vec![(1, 64), (1, 256), (1, most), (4, 256)],
        ShapeName::FlaxToy | ShapeName::Wmt => vec![(1, 64), (1, most)],
        ShapeName::Base | ShapeName::Gpt2 | ShapeName::Large => vec![(1, 64), (1, 256), (1, 512), (1, most)],
    }
}

/// Recomputing a whole capacity costs the same at every position: it is measured at one.
fn worth_its_time(strategy: Strategy, shape: ShapeName, batch: usize, position: usize) -> bool {
    let small = matches!(shape, ShapeName::Tiny | ShapeName::Toy);
    match strategy {
        Strategy::Naive => small || position <= 256 || (shape == ShapeName::Base && position == 1024),
        Strategy::NaivePadded => {
            batch == 1 && (small || shape == ShapeName::Base) && position == if small { 64 } else { 256 }
        }
        Strategy::Concat | Strategy::Padded | Strategy::Bounded | Strategy::Shift | Strategy::Reprojected => {
            true
        }
        Strategy::Chunked(_) | Strategy::Onehot => batch == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(filter: Option<&str>) -> Vec<String> {
        select(filter).unwrap().iter().map(Case::to_string).collect()
    }

    /// Whatever part of whatever id an expression describes, and not only where a model's name is spelt out.
    #[test]
    fn a_filter_selects_what_its_expression_matches() {
        for filter in [
            "llam",
            "lla.a-toy/concat/cpu",
            "encoder",
            "t.ny",
            "^ret",
            "b[34]/",
            "",
            ".",
            "large|wmt",
            "bf16",
            "toy-f16/(concat|padded-int8)/",
            "padded-int8/.*/b1",
        ] {
            let named = |dtype: Dtype| dtype == Dtype::F32 || dtype.is_named_in(filter);
            let offered = all().into_iter().filter(|case| named(case.weights) && named(case.cache));
            let all: Vec<String> = offered.map(|case| case.to_string()).collect();
            let pattern = Regex::new(filter).unwrap();
            let mut want: Vec<&String> = all.iter().filter(|id| pattern.is_match(id)).collect();
            let found = ids(Some(filter));
            let mut found: Vec<&String> = found.iter().collect();
            want.sort();
            found.sort();
            assert!(!found.is_empty() && found == want, "{filter}");
        }
    }

    #[test]
    fn other_types_are_for_filters_that_name_them() {
        let types = |filter| {
            let cases = select(Some(filter)).unwrap();
            let mut types: Vec<_> = cases.iter().map(|case| (case.weights, case.cache)).collect();
            types.sort();
            types.dedup();
            types
        };
        let (f32, bf16, f16) = (Dtype::F32, Dtype::Bf16, Dtype::F16);
        assert_eq!(types("^transformer-tiny/padded"), [(f32, f32)]);
        assert_eq!(types("^transformer-tiny/padded-bf16"), [(f32, bf16)]);
        assert_eq!(types("^transformer-tiny-bf16/padded"), [(bf16, f32), (bf16, bf16)]);
        assert_eq!(types("^transformer-tiny-f16/(padded|concat-bf16)/"), [(f16, f32), (f16, bf16)]);
    }

    #[test]
    fn without_a_filter_the_default_suite_is_selected() {
        let small = |id: &String| !["gpt2", "large", "tiny"].iter().any(|shape| id.contains(shape));
        assert!(ids(None).iter().filter(|id| id.contains("/cpu/")).all(small));
        assert_eq!(ids(Some("^transformer-toy/bounded/cpu/b1/t64$")).len(), 1);
    }

    #[test]
    fn a_filter_that_matches_nothing_names_what_is_near() {
        let error = select(Some("toy/paded")).unwrap_err().to_string();
        assert!(error.contains("toy/padded"), "{error}");
        let suggested: Vec<&str> = error.split('`').skip(1).step_by(2).skip(1).collect();
        assert_eq!(suggested.len(), 3, "{error}");
        assert!(suggested.iter().all(|id| !ids(Some(id)).is_empty()), "a suggestion is a filter too");
        assert!(select(Some("(")).unwrap_err().to_string().contains("no pattern"));
    }

    /// Small before large, since that is where a budget ends; a launch an operation before a launch a step.
    #[test]
    fn a_gpu_s_cases_come_last_and_the_question_s_first() {
        let cases = select(None).unwrap();
        let first = cases.iter().position(|case| case.backend.is_cuda()).unwrap();
        assert!(cases[first..].iter().all(|case| case.backend.is_cuda()));
        let fixtures: Vec<String> = cases[first..]
            .chunk_by(same_fixture)
            .map(|fixture| format!("{}-{} {}", fixture[0].model, fixture[0].shape, fixture[0].backend))
            .collect();
        let want = ["toy", "base", "gpt2"]
            .map(|shape| ["cuda", "cuda-graph"].map(|backend| format!("transformer-{shape} {backend}")));
        assert_eq!(fixtures, want.concat());
        let named = select(Some("cuda")).unwrap();
        assert_eq!(named[0], cases[first], "a filter keeps what comes first");
        assert!(named.last().unwrap().backend == BackendName::CudaSpecialised);
        let fixtures = named.chunk_by(same_fixture).count();
        let mut kinds: Vec<_> = named.iter().map(|case| (case.model, case.shape, case.backend)).collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), fixtures, "cases of one model on one backend stay together");
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<String> = all().iter().map(Case::to_string).collect();
        ids.sort();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
