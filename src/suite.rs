//! Which cases exist, and why.
//!
//! | shape | in the default suite | strategies |
//! |---|---|---|
//! | `toy` | yes: every level of cache holds its rows, overheads show | all |
//! | `base` | yes: weights beyond the caches of a core, bandwidth shows | the question's three, and those that explain them |
//! | `gpt2`, `large` | when the filter names them: minutes each | the same |
//! | `tiny` | when the filter names it: for tests of the harness itself | all |
//!
//! The transformer and the convolution are what is measured by default; the other models are when the
//! filter names them.
//!
//! Every case exists on the CPU and in the three ways of CUDA, except those that a recording cannot
//! replay. On a machine without a GPU, the CPU's are measured.
//!
//! Positions are a quarter of the way, or less, where a growing cache is small; and the capacity,
//! where padding costs nothing any more. A step at position t feeds the t-th token.

use regex::Regex;

use crate::cache::Strategy;
use crate::case::{BackendName, Case, ModelKind, ShapeName};
use crate::error::{Error, Result};
use crate::model::{capacity, shapes};

/// The cases that a filter selects, a regular expression searched in the ids as criterion does;
/// without one, the default suite.
pub fn select(filter: Option<&str>) -> Result<Vec<Case>> {
    let Some(filter) = filter else {
        return Ok(all().into_iter().filter(in_default).collect());
    };
    let matches = matcher(filter)?;
    let wanted = |case: &Case| in_default(case) || is_named(case, filter);
    let cases: Vec<Case> = all().into_iter().filter(|case| wanted(case) && matches(case)).collect();
    if cases.is_empty() {
        let known = all().iter().map(Case::to_string).collect();
        return Err(Error::NoMatch { filter: filter.into(), known });
    }
    Ok(cases)
}

/// Whether a filter's regular expression is found in a case's id.
pub fn matcher(filter: &str) -> Result<impl Fn(&Case) -> bool> {
    let pattern =
        Regex::new(filter).map_err(|e| Error::Input(format!("the filter `{filter}` is no pattern: {e}")))?;
    Ok(move |case: &Case| pattern.is_match(&case.to_string()))
}

/// Every case there is: those of one model on one backend together, in them those that are compared side
/// by side next to each other.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for &model in ModelKind::ALL {
        for shape in shapes(model) {
            for &backend in BackendName::OURS {
                for (batch, position) in places(model, shape) {
                    let strategies = Strategy::examples().iter().copied();
                    let possible = strategies.filter(|&s| s.applies_to(model) && backend.runs(s));
                    let chosen = possible.filter(|&s| worth_its_time(s, shape, batch, position));
                    let case = |strategy| Case { model, shape, strategy, backend, batch, position };
                    cases.extend(chosen.map(case));
                }
            }
        }
    }
    cases
}

/// Whether two cases run on the same model on the same backend.
pub fn same_rig(a: &Case, b: &Case) -> bool {
    (a.model, a.shape, a.backend) == (b.model, b.shape, b.backend)
}

/// Whether two cases differ in nothing but the strategy.
pub fn side_by_side(a: &Case, b: &Case) -> bool {
    same_rig(a, b) && (a.batch, a.position) == (b.batch, b.position)
}

fn in_default(case: &Case) -> bool {
    is_usual(case.model) && matches!(case.shape, ShapeName::Toy | ShapeName::Base)
}

fn is_usual(model: ModelKind) -> bool {
    matches!(model, ModelKind::Transformer | ModelKind::LinearizedConv)
}

/// Whether a filter asks for a case that is not measured by default: by the name of its model, if that is
/// one of the others, and of its shape, if that is.
fn is_named(case: &Case, filter: &str) -> bool {
    let Case { model, shape, .. } = case;
    (is_usual(*model) || filter.contains(model.name()))
        && (matches!(shape, ShapeName::Toy | ShapeName::Base) || filter.contains(shape.name()))
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

    #[test]
    fn filters_select_as_criterion_does() {
        let ids = |filter: Option<&str>| -> Vec<String> {
            select(filter).unwrap().iter().map(Case::to_string).collect()
        };
        assert!(ids(Some("toy/padded")).iter().all(|id| id.contains("-toy/padded/")));
        assert!(ids(None)
            .iter()
            .all(|id| !id.contains("gpt2") && !id.contains("large") && !id.contains("tiny")));
        assert!(ids(Some("transformer-gpt2/concat"))
            .iter()
            .all(|id| id.starts_with("transformer-gpt2/concat/")));
        assert_eq!(ids(Some("^transformer-toy/bounded/cpu/b1/t64$")).len(), 1);
    }

    #[test]
    fn a_filter_that_matches_nothing_names_what_is_near() {
        let error = select(Some("toy/paded")).unwrap_err().to_string();
        assert!(error.contains("toy/padded"), "{error}");
        assert!(select(Some("(")).unwrap_err().to_string().contains("no pattern"));
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
