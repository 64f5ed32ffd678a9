//! Puts the tensors of a model on a backend, by their names in its files.
//!
//! A model asks a [`Loader`] for its tensors in the order in which a step reads them. The list of its tensors
//! follows from that: [`contents`] loads the model without numbers and notes the names.

use std::borrow::Cow;
use std::cell::RefCell;

use super::weights::{Contents, Parameter, Spread, Weights};
use super::Model;
use crate::backend::cpu::room;
use crate::backend::cuda::Cuda;
use crate::backend::{Backend, Linear, Norm, Shape};
use crate::dtype::Dtype;
use crate::error::Result;

/// Where a model gets its tensors from, and the backend that they go to.
pub(super) struct Loader<'a, B: Backend> {
    b: &'a B,
    weights: &'a Weights,
    /// The most that a session will have.
    positions: usize,
    /// `Some`: no number goes to the backend; names are noted here.
    noted: Option<RefCell<Contents>>,
}

/// Row-major; `None` while only names are noted.
pub(super) type Numbers<'a> = Option<Cow<'a, [f32]>>;

/// The tensors that a model asks for while it is loaded. No number is read, drawn or computed, except
/// of a table that a file need not hold and does ([`Loader::may_hold_computed`]), and a tensor that a file lacks ends
/// the loading: a configuration that states a million layers costs nothing.
///
/// # Errors
/// When a file of weights lacks a tensor, has it in another shape or type, or holds other numbers than are computed.
pub(super) fn contents(
    weights: &Weights,
    positions: usize,
    load: impl FnOnce(&Loader<'_, Cuda>) -> Result<Box<dyn Model<Cuda>>>,
) -> Result<Contents> {
    let nowhere = Cuda::plan();
    let loader = Loader { b: &nowhere, weights, positions, noted: Some(RefCell::default()) };
    load(&loader)?;
    Ok(loader.noted.unwrap_or_default().into_inner())
}

/// The same of a model that needs no file to be held against.
pub(super) fn seeded_contents(
    positions: usize,
    load: impl FnOnce(&Loader<'_, Cuda>) -> Result<Box<dyn Model<Cuda>>>,
) -> Contents {
    contents(&Weights::seeded(0), positions, load).expect("a seed has every tensor")
}

/// Its tensors alone, whatever the positions.
pub(super) fn parameters(
    load: impl FnOnce(&Loader<'_, Cuda>) -> Result<Box<dyn Model<Cuda>>>,
) -> Vec<Parameter> {
    seeded_contents(0, load).parameters
}

impl<'a, B: Backend> Loader<'a, B> {
    pub fn new(b: &'a B, weights: &'a Weights, positions: usize) -> Self {
        Loader { b, weights, positions, noted: None }
    }

    /// The numbers of the tensor `name`, which the files hold as `shape`; seeded ones are spread like `spread`.
    ///
    /// # Errors
    /// When a file lacks the tensor or has it in another shape or type, or when one of its numbers is a NaN.
    pub fn numbers(&self, name: &str, shape: &[usize], spread: Spread) -> Result<Numbers<'a>> {
        self.numbers_of(Parameter { names: vec![name.into()], shape: shape.to_vec(), spread })
    }

    fn numbers_of(&self, parameter: Parameter) -> Result<Numbers<'a>> {
        let Some(noted) = &self.noted else { return self.weights.get(&parameter).map(Some) };
        self.weights.check(&parameter)?;
        noted.borrow_mut().parameters.push(parameter);
        Ok(None)
    }

    /// A matrix or table, `[1, rows, width]`, in the type of the weights; a vector, of one row, in f32.
    ///
    /// # Errors
    /// When a number is too large for the type, or the backend has no room.
    pub fn upload(&self, shape: Shape, numbers: Numbers<'_>) -> Result<B::Tensor> {
        let dtype = if shape[1] > 1 { self.weights.dtype() } else { Dtype::F32 };
        self.upload_as(shape, numbers, dtype)
    }

    fn upload_as(&self, shape: Shape, numbers: Numbers<'_>, dtype: Dtype) -> Result<B::Tensor> {
        match numbers {
            Some(numbers) => self.b.upload_as(shape, &numbers, dtype),
            None => self.b.upload([0; 3], &[]),
        }
    }

    /// How many positions a table that is computed has, of a model that can tell `most` apart.
    pub fn positions(&self, most: usize) -> usize {
        most.min(self.positions)
    }

    /// Numbers that follow from the configuration.
    pub fn constant(&self, shape: Shape, numbers: impl FnOnce() -> Result<Vec<f32>>) -> Result<B::Tensor> {
        if let Some(noted) = &self.noted {
            noted.borrow_mut().computed += shape.iter().product::<usize>();
            return self.upload_as(shape, None, Dtype::F32);
        }
        self.upload_as(shape, Some(numbers()?.into()), Dtype::F32)
    }

    /// Files may hold the tensor `name`, whose numbers follow from the configuration.
    ///
    /// # Errors
    /// When a file holds other numbers by that name, which would be a model of another kind.
    pub fn may_hold_computed(
        &self,
        name: &str,
        shape: &[usize],
        numbers: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<()> {
        if self.noted.is_some() {
            self.may_hold(name);
            self.weights.check_computed(name, shape, numbers)?;
        }
        Ok(())
    }

    /// Files may hold the tensor `name`, which is no weight.
    pub fn may_hold(&self, name: &str) {
        if let Some(noted) = &self.noted {
            noted.borrow_mut().ignored.push(name.into());
        }
    }

    /// A table `[rows, width]`, as `[1, rows, width]`.
    pub fn table(&self, name: &str, [rows, width]: [usize; 2], spread: Spread) -> Result<B::Tensor> {
        self.upload([1, rows, width], self.numbers(name, &[rows, width], spread)?)
    }

    /// A table with several uses, each of which may have named it. Files hold it under one of these names or
    /// several times; it is written under the first.
    pub fn tied_table(&self, names: &[&str], [rows, width]: [usize; 2], spread: Spread) -> Result<B::Tensor> {
        let names = names.iter().map(|name| name.to_string()).collect();
        let numbers = self.numbers_of(Parameter { names, shape: vec![rows, width], spread })?;
        self.upload([1, rows, width], numbers)
    }

    /// `len` biases, as `[1, 1, len]`.
    pub fn bias(&self, name: &str, len: usize) -> Result<B::Tensor> {
        self.upload([1, 1, len], self.numbers(name, &[len], Spread::BIAS)?)
    }

    /// `name.weight` of `[out, in]`, as PyTorch's `Linear` holds it and kernels read it, and `name.bias`.
    pub fn dense(&self, name: &str, [out, inner]: [usize; 2], spread: Spread) -> Result<Linear<B::Tensor>> {
        Ok(Linear {
            norm: None,
            weight: self.table(&format!("{name}.weight"), [out, inner], spread)?,
            bias: Some(self.bias(&format!("{name}.bias"), out)?),
        })
    }

    /// Several dense layers of so many outputs each, one below the other, as one.
    pub fn stacked(
        &self,
        parts: &[(String, usize)],
        inner: usize,
        spread: Spread,
        has_bias: bool,
    ) -> Result<Linear<B::Tensor>> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (name, out) in parts {
            weights.push(self.numbers(&format!("{name}.weight"), &[*out, inner], spread)?);
            if has_bias {
                biases.push(self.numbers(&format!("{name}.bias"), &[*out], Spread::BIAS)?);
            }
        }
        let outs = parts.iter().map(|(_, out)| out).sum();
        Ok(Linear {
            norm: None,
            weight: self.upload([1, outs, inner], joined(weights)?)?,
            bias: has_bias.then(|| self.upload([1, 1, outs], joined(biases)?)).transpose()?,
        })
    }

    /// `name.weight` and `name.bias`, of `width` numbers each.
    pub fn norm(&self, name: &str, width: usize, eps: f32) -> Result<Norm<B::Tensor>> {
        let norm = self.rms_norm(name, width, eps)?;
        Ok(Norm { bias: Some(self.bias(&format!("{name}.bias"), width)?), ..norm })
    }

    /// `name.weight`, of `width` numbers.
    pub fn rms_norm(&self, name: &str, width: usize, eps: f32) -> Result<Norm<B::Tensor>> {
        let gain = self.numbers(&format!("{name}.weight"), &[width], Spread::GAIN)?;
        Ok(Norm { gain: self.upload([1, 1, width], gain)?, bias: None, eps })
    }
}

fn joined(parts: Vec<Numbers<'_>>) -> Result<Numbers<'static>> {
    let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let len = parts.iter().map(|part| part.len()).sum();
    let mut joined = room(len)?;
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    Ok(Some(joined.into()))
}
