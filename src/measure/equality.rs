//! The gate before the clock: a strategy whose logits are not naive's has no time.

use super::{say, Fixture, Record};
use crate::backend::{Backend, Tokens};
use crate::case::Case;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::record::{EqualityRow, Metric, Round, Sample};
use crate::strategy::Strategy;

/// Of a difference, relative to the largest logit, with a cache in f32. Sums of f32 in another order differ in the last
/// places, some 1e-7 each; through a dozen layers that is far below this, and every defect met so
/// far (a lost row, a late mask, a wrong position) far above.
pub const TOLERANCE: f64 = 1e-4;

/// Naive rounds the rows that it recomputes as a cache of the case's type would. A sum in another order may then fall
/// on the other side of where two numbers meet, and one number of a row differs by a unit in its last place.
fn tolerance(case: &Case) -> f64 {
    TOLERANCE + 2.0 * f64::from(case.cache.unit())
}

/// The cases whose logits are naive's. The others get a row with the difference and no time.
pub fn gate<B: Backend>(
    fixture: &Fixture<B>,
    group: &[Case],
    mut record: Option<&mut Record>,
) -> Result<Vec<Case>> {
    let (mut checker, mut equal) = (Checker::new(fixture), Vec::new());
    for case in group {
        let row = match &mut record {
            None => checker.check(case),
            Some(record) => recorded_check(&mut checker, case, record)?,
        };
        match (row.error, &record) {
            (None, _) => equal.push(*case),
            (Some(error), Some(_)) => say(format_args!("{case}: not timed: {error}")),
            (Some(error), None) => return Err(Error::Differs(format!("{case}: {error}"))),
        }
    }
    Ok(equal)
}

fn recorded_check<B: Backend>(
    checker: &mut Checker<'_, B>,
    case: &Case,
    record: &mut Record,
) -> Result<EqualityRow> {
    if let Some(row) = record.done.equality.iter().find(|row| row.case == *case) {
        return Ok(row.clone());
    }
    let row = checker.check(case);
    record.writer.equality(&row)?;
    if let Some(error) = &row.error {
        record.sample(&Sample::failed(*case, Metric::StepNs, Round::Single, error))?;
    }
    Ok(row)
}

/// Compares cases with naive, whose logits it computes once for those that differ in strategy only.
pub struct Checker<'a, B: Backend> {
    fixture: &'a Fixture<B>,
    naive: Option<Naive>,
}

/// A case of naive.
struct Naive {
    case: Case,
    logits: Vec<f32>,
    /// [`EqualityRow::rounding`]
    rounding: Option<f64>,
}

impl<'a, B: Backend> Checker<'a, B> {
    /// Nothing is computed before it is asked for.
    pub fn new(fixture: &'a Fixture<B>) -> Checker<'a, B> {
        Checker { fixture, naive: None }
    }

    /// The logits of a case's step against naive's on the same backend, in f64.
    pub fn check(&mut self, case: &Case) -> EqualityRow {
        let row = EqualityRow {
            case: *case,
            max_abs: None,
            max_rel: None,
            place: String::new(),
            tolerance: tolerance(case),
            error: None,
            rounding: None,
        };
        match self.logits(case).and_then(|got| Ok((got, self.naive(case)?))) {
            Ok((got, naive)) => {
                let row = EqualityRow { rounding: naive.rounding, ..row };
                compared(row, &got, &naive.logits)
            }
            Err(error) => EqualityRow { error: Some(error.to_string()), ..row },
        }
    }

    fn naive(&mut self, case: &Case) -> Result<&Naive> {
        let case = case.under(Strategy::Naive);
        if self.naive.as_ref().is_none_or(|known| known.case != case) {
            let logits = recomputed(self.fixture, &case)?;
            let rounding = match case.cache {
                Dtype::F32 => None,
                _ => {
                    let f32s = recomputed(self.fixture, &Case { cache: Dtype::F32, ..case })?;
                    let (_, size) = largest_difference(&logits, &f32s);
                    Some(size / largest(&f32s))
                }
            };
            self.naive = Some(Naive { case, logits, rounding });
        }
        Ok(self.naive.as_ref().expect("computed above"))
    }

    fn logits(&self, case: &Case) -> Result<Vec<f32>> {
        self.fixture.prefilled(case)?.logits()
    }
}

/// Naive's logits: all tokens fed at once, which is what naive does at every step.
fn recomputed<B: Backend>(fixture: &Fixture<B>, naive: &Case) -> Result<Vec<f32>> {
    let all = Tokens::given(naive.batch, 0, naive.position, fixture.model.vocab());
    let logits = fixture.session(naive)?.feed(&all)?;
    fixture.backend.download(&logits)
}

/// That steps which were queued without waiting end at the logits that they have one by one.
///
/// # Errors
/// [`Error::Differs`], naming the place.
pub(crate) fn same_when_pipelined(case: &Case, pipelined: &[f32], one_by_one: &[f32]) -> Result<()> {
    let scale = one_by_one.iter().fold(0.0f32, |scale, x| scale.max(x.abs()));
    let far = |(a, b): (&f32, &f32)| (a - b).abs() > TOLERANCE as f32 * scale || (a - b).is_nan();
    match pipelined.iter().zip(one_by_one).position(far) {
        None => Ok(()),
        Some(at) => Err(Error::Differs(format!(
            "{case}: steps that do not wait for each other end with logit {at} at {}, one by one it is {}",
            pipelined[at], one_by_one[at]
        ))),
    }
}

fn largest(logits: &[f32]) -> f64 {
    logits.iter().fold(0.0, |scale: f64, &x| scale.max(f64::from(x).abs()))
}

/// Its place and its size.
fn largest_difference(got: &[f32], wanted: &[f32]) -> (usize, f64) {
    let difference = |(got, wanted): (&f32, &f32)| {
        let difference = (f64::from(*got) - f64::from(*wanted)).abs();
        if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        }
    };
    let worse = |worst: (usize, f64), next: (usize, f64)| if next.1 > worst.1 { next } else { worst };
    got.iter().zip(wanted).map(difference).enumerate().fold((0, 0.0), worse)
}

fn compared(row: EqualityRow, got: &[f32], naive: &[f32]) -> EqualityRow {
    let (scale, (at, size)) = (largest(naive), largest_difference(got, naive));
    let vocab = naive.len() / row.case.batch;
    let place = format!("{}/{}", at / vocab, at % vocab);
    let wrong = got.len() != naive.len() || !scale.is_finite() || size > row.tolerance * scale;
    let error = wrong.then(|| {
        format!("entry {} logit {} is {} and naive's is {}", at / vocab, at % vocab, got[at], naive[at])
    });
    EqualityRow { max_abs: Some(size), max_rel: Some(size / scale), place, error, ..row }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;

    fn row(got: &[f32], naive: &[f32]) -> EqualityRow {
        let case: Case = "transformer-tiny/padded/cpu/b2/t16".parse().unwrap();
        let empty = EqualityRow {
            case,
            max_abs: None,
            max_rel: None,
            place: String::new(),
            tolerance: TOLERANCE,
            error: None,
            rounding: None,
        };
        compared(empty, got, naive)
    }

    #[test]
    fn a_difference_is_named_by_place_and_size() {
        let row = row(&[1.0, -2.0, 0.5, 4.5], &[1.0, -2.0, 0.5, 4.0]);
        assert_eq!((row.max_abs, row.max_rel, row.place.as_str()), (Some(0.5), Some(0.125), "1/1"));
        assert_eq!(row.error.unwrap(), "entry 1 logit 1 is 4.5 and naive's is 4");
    }

    #[test]
    fn pipelined_steps_are_held_against_single_ones() {
        let case = "transformer-tiny/padded/cuda/b1/t16".parse().unwrap();
        same_when_pipelined(&case, &[1.0, -2.00001], &[1.0, -2.0]).unwrap();
        let error = same_when_pipelined(&case, &[1.0, -2.5], &[1.0, -2.0]).unwrap_err();
        assert!(error.exit_code() == 1 && error.to_string().contains("logit 1 at -2.5"), "{error}");
        assert!(same_when_pipelined(&case, &[f32::NAN], &[1.0]).is_err());
    }

    #[test]
    fn rounding_is_no_difference_and_nan_is_one() {
        assert_eq!(row(&[1.0, -2.000001], &[1.0, -2.0]).error, None);
        assert!(row(&[1.0, f32::NAN], &[1.0, -2.0]).error.unwrap().contains("NaN"));
        assert!(row(&[1.0, 1.0], &[1.0, f32::INFINITY]).error.is_some());
    }

    #[test]
    fn every_strategy_agrees_with_naive() {
        for case in crate::suite::select(Some("tiny.*/cpu/")).unwrap() {
            let fixture = Fixture::load(Cpu::new(2).unwrap(), case.model_name(), 1).unwrap();
            let row = Checker::new(&fixture).check(&case);
            assert_eq!(row.error, None, "{case}");
            let most = f64::from(4.0 * case.cache.unit()); // of each number it is half a unit, through two layers
            assert!(row.rounding.is_none_or(|rounding| 0.0 < rounding && rounding < most), "{case}: {row:?}");
            assert_eq!(row.rounding.is_some(), case.cache != Dtype::F32, "{case}");
        }
    }
}
