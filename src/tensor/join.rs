//! Shapes: joining tensors, and views in other shapes.

use super::bytes::Held;
use super::drive::{CHUNK, broadcast_shape, zeroed};
use super::element::{Element, by_class};
use super::{Class, Tensor, element_count};
use crate::error::{Error, Result};
use crate::work::Work;

impl Tensor {
    /// Tensors one after the other along an existing dimension, in the arithmetic of the highest of them.
    ///
    /// # Errors
    /// There are none, or their other dimensions differ.
    pub fn cat(tensors: &[Tensor], dim: i64, work: &Work) -> Result<Tensor> {
        let (first, class) = common(tensors, "cat")?;
        let dim = first.dim(dim)?;
        for t in tensors {
            let fits = t.ndim() == first.ndim() && (0..t.ndim()).all(|d| d == dim || t.shape[d] == first.shape[d]);
            if !fits {
                return Err(Error::shape(format!("cannot join {:?} and {:?} along dimension {dim}", first.shape, t.shape))
                    .help("all other dimensions must be equal"));
            }
        }
        let mut shape = first.shape.clone();
        shape[dim] = tensors.iter().map(|t| t.shape[dim]).sum();
        element_count(&shape)?;
        by_class!(class, T => join::<T>(tensors, dim, &shape, work))
    }

    /// Tensors of one shape along a new dimension.
    ///
    /// # Errors
    /// There are none, or their shapes differ.
    pub fn stack(tensors: &[Tensor], dim: i64, work: &Work) -> Result<Tensor> {
        let (first, _) = common(tensors, "stack")?;
        if let Some(other) = tensors.iter().find(|t| t.shape != first.shape) {
            return Err(Error::shape(format!("stack needs tensors of one shape, not {:?} and {:?}", first.shape, other.shape)));
        }
        let lifted: Vec<Tensor> = tensors.iter().map(|t| t.unsqueeze(dim)).collect::<Result<_>>()?;
        // `dim` counts in the result's dimensions, which are those of the lifted tensors.
        Tensor::cat(&lifted, dim, work)
    }

    /// Another shape for the same elements; one size may be −1: what is left.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape_to(&self, shape: &[i64]) -> Result<Tensor> {
        let open = shape.iter().filter(|size| **size == -1).count();
        if open > 1 || shape.iter().any(|size| *size < -1) {
            return Err(Error::shape(format!("{shape:?} is not a shape")).help("sizes are 0 or more; one of them may be -1"));
        }
        let known = element_count(&shape.iter().filter_map(|size| usize::try_from(*size).ok()).collect::<Vec<_>>())?;
        if open == 1 && (known == 0 || !self.numel().is_multiple_of(known)) {
            return Err(Error::shape(format!(
                "a tensor of shape {:?} ({} elements) cannot become {shape:?}",
                self.shape,
                self.numel()
            )));
        }
        let sizes: Vec<usize> =
            shape.iter().map(|size| usize::try_from(*size).unwrap_or_else(|_| self.numel() / known)).collect();
        self.reshape(&sizes)
    }

    /// All elements in one dimension, row-major.
    pub fn flatten(&self) -> Result<Tensor> {
        self.reshape(&[self.numel()])
    }

    /// Without one dimension, if its size is 1, or without all of size 1.
    ///
    /// # Errors
    /// No such dimension.
    pub fn squeeze(&self, dim: Option<i64>) -> Result<Tensor> {
        let only = dim.map(|dim| self.dim(dim)).transpose()?;
        let keep = |d: &usize| self.shape[*d] != 1 || only.is_some_and(|only| only != *d);
        let order: Vec<usize> = (0..self.ndim()).filter(keep).collect();
        Ok(self.ordered(&order))
    }

    /// With a new dimension of size 1 before `dim`; negative ones count from the end of the result.
    ///
    /// # Errors
    /// `dim` lies outside the result.
    pub fn unsqueeze(&self, dim: i64) -> Result<Tensor> {
        let ndim = self.ndim() as i64 + 1;
        let at = if dim < 0 { dim + ndim } else { dim };
        if !(0..ndim).contains(&at) {
            return Err(Error::shape(format!("a new dimension {dim} is out of range for a tensor of shape {:?}", self.shape)));
        }
        let mut out = self.clone();
        out.shape.insert(at as usize, 1);
        out.strides.insert(at as usize, 1);
        Ok(out)
    }

    /// Two dimensions exchanged.
    ///
    /// # Errors
    /// No such dimension.
    pub fn transpose(&self, a: i64, b: i64) -> Result<Tensor> {
        let mut order: Vec<usize> = (0..self.ndim()).collect();
        order.swap(self.dim(a)?, self.dim(b)?);
        Ok(self.ordered(&order))
    }

    /// The dimensions in another order; negative ones count from the end.
    ///
    /// # Errors
    /// It is not an order of all dimensions.
    pub fn permute_to(&self, order: &[i64]) -> Result<Tensor> {
        self.permute(&order.iter().map(|dim| self.dim(*dim)).collect::<Result<Vec<_>>>()?)
    }

    /// The shape to which shapes broadcast.
    ///
    /// # Errors
    /// They do not.
    pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
        broadcast_shape(a, b)
    }
}

fn common<'a>(tensors: &'a [Tensor], what: &str) -> Result<(&'a Tensor, Class)> {
    let first = tensors.first().ok_or_else(|| Error::input(format!("{what} needs at least one tensor")))?;
    Ok((first, tensors.iter().fold(first.class(), |class, t| class.max(t.class()))))
}

fn join<T: Element>(tensors: &[Tensor], dim: usize, shape: &[usize], work: &Work) -> Result<Tensor> {
    let inner = |t: &Tensor| t.shape[dim..].iter().product::<usize>();
    let whole: Vec<Tensor> = tensors.iter().map(|t| t.unblocked(work)).collect::<Result<_>>()?;
    let row: usize = shape[dim..].iter().product();
    let rows: usize = shape[..dim].iter().product();
    let mut out = Held::new(zeroed::<T>(rows * row)?);
    let mut start = 0;
    for t in &whole {
        let width = inner(t);
        for r in 0..rows {
            // Part by part: one row may be the whole tensor.
            for (i, part) in out[r * row + start..r * row + start + width].chunks_mut(CHUNK).enumerate() {
                work.check()?;
                t.read_into(r * width + i * CHUNK, part);
            }
        }
        start += width;
    }
    Ok(Tensor::of(out.into_vec(), shape))
}
