//! Relations between tensors, and summaries of one, that are no matrix products.

use super::create::point;
use super::drive::fold;
use super::elementwise::{Arithmetic, Operand, promote};
use super::{Class, Tensor};
use crate::error::{Error, Result};
use crate::work::Work;

/// Counts of elements between edges.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Elements in each bin, i64, `[bins]`.
    pub counts: Tensor,
    /// The bins' edges, f64, `[bins + 1]`. A bin holds its left edge, the last one its right edge too.
    pub edges: Tensor,
}

impl Tensor {
    /// True when shapes and all elements are equal. NaN differs from everything.
    pub fn equal(&self, other: &Tensor, work: &Work) -> Result<bool> {
        if self.shape != other.shape {
            return Ok(false);
        }
        let same = Tensor::compare(super::Comparison::Eq, self, other, work)?;
        Ok(same.all(None, work)?.item()? != 0.0)
    }

    /// True when every |a − b| ≤ atol + rtol · |b|, with broadcasting; equal infinities are close. NaN is close to nothing,
    /// or with `equal_nan` to NaN.
    ///
    /// # Errors
    /// The shapes do not broadcast.
    pub fn allclose(&self, other: &Tensor, rtol: f64, atol: f64, equal_nan: bool, work: &Work) -> Result<bool> {
        let close = super::drive::zip(self, other, work, |a: f64, b: f64| {
            a == b || (a - b).abs() <= atol + rtol * b.abs() && b.is_finite() || equal_nan && a.is_nan() && b.is_nan()
        })?;
        Ok(close.all(None, work)?.item()? != 0.0)
    }

    /// Σ aᵢ bᵢ of two 1-D tensors, summed in f64 (exactly in i64 for integers, wrapping around); without dimensions.
    ///
    /// # Errors
    /// They are not 1-D of one length.
    pub fn dot(&self, other: &Tensor, work: &Work) -> Result<Tensor> {
        if self.ndim() != 1 || self.shape != other.shape {
            return Err(Error::shape(format!(
                "dot needs two 1-D tensors of one length, not {:?} and {:?}",
                self.shape, other.shape
            )));
        }
        let wide = if self.class().max(other.class()) >= Class::F32 { Class::F64 } else { Class::Int };
        let (a, b) = (self.to_class(wide, work)?, other.to_class(wide, work)?);
        Tensor::arithmetic(Arithmetic::Mul, a, b, work)?.sum(None, work)
    }

    /// aᵢ bⱼ of two 1-D tensors.
    ///
    /// # Errors
    /// They are not 1-D.
    pub fn outer(&self, other: &Tensor, work: &Work) -> Result<Tensor> {
        if self.ndim() != 1 || other.ndim() != 1 {
            return Err(Error::shape(format!("outer needs two 1-D tensors, not {:?} and {:?}", self.shape, other.shape)));
        }
        Tensor::arithmetic(Arithmetic::Mul, self.unsqueeze(1)?, other, work)
    }

    /// a·b / (max(‖a‖, ε) max(‖b‖, ε)) along a dimension, with broadcasting; ε = 1e-8, as in PyTorch.
    ///
    /// # Errors
    /// The shapes do not broadcast; no such dimension.
    pub fn cosine_similarity(&self, other: &Tensor, dim: i64, work: &Work) -> Result<Tensor> {
        let shape = Tensor::broadcast_shape(&self.shape, &other.shape)?;
        let class = promote(&Operand::from(self), &Operand::from(other)).max(Class::F32);
        let wide = |t: &Tensor| t.broadcast_to(&shape)?.to_class(Class::F64, work);
        let (a, b) = (wide(self)?, wide(other)?);
        let along = Some(dim);
        let dot = Tensor::arithmetic(Arithmetic::Mul, &a, &b, work)?.sum(along, work)?;
        let norm = |t: &Tensor| t.norm(2.0, along, work)?.clamp(Some(super::Number::Float(1e-8)), None, work);
        let norms = Tensor::arithmetic(Arithmetic::Mul, norm(&a)?, norm(&b)?, work)?;
        let cosine = Tensor::arithmetic(Arithmetic::Div, dot, norms, work)?;
        if shape.len() == 1 { Ok(cosine) } else { cosine.to_class(class, work) }
    }

    /// Spearman's rank correlation of two 1-D tensors: Pearson's of their average ranks. NaN where either is constant or
    /// holds a NaN.
    ///
    /// # Errors
    /// They are not 1-D of one length.
    pub fn spearman(&self, other: &Tensor, work: &Work) -> Result<f64> {
        self.need_pair(other)?;
        self.rank(0, work)?.pearson(&other.rank(0, work)?, work)
    }

    /// Pearson's correlation of two 1-D tensors, in f64. NaN where either is constant or holds a NaN.
    ///
    /// # Errors
    /// They are not 1-D of one length.
    pub fn pearson(&self, other: &Tensor, work: &Work) -> Result<f64> {
        self.need_pair(other)?;
        let centred = |t: &Tensor| {
            let t = t.to_class(Class::F64, work)?;
            let mean = t.mean(None, work)?.item()?;
            Tensor::arithmetic(Arithmetic::Sub, t, mean, work)
        };
        let (a, b) = (centred(self)?, centred(other)?);
        let norm = |t: &Tensor| t.norm(2.0, None, work)?.item();
        Ok((a.dot(&b, work)?.item()? / (norm(&a)? * norm(&b)?)).clamp(-1.0, 1.0))
    }

    fn need_pair(&self, other: &Tensor) -> Result<()> {
        if self.ndim() == 1 && self.shape == other.shape {
            return Ok(());
        }
        let (a, b) = (&self.shape, &other.shape);
        Err(Error::shape(format!("a correlation needs two 1-D tensors of one length, not {a:?} and {b:?}")))
    }

    /// The sum of a matrix's diagonal.
    ///
    /// # Errors
    /// It is not a matrix.
    pub fn trace(&self, work: &Work) -> Result<Tensor> {
        self.matrix_shape("a tensor whose trace is asked for")?;
        self.diagonal(0, 1)?.sum(None, work)
    }

    /// The elements whose indices in two dimensions are equal, a view: the diagonal takes the place of the lower dimension,
    /// the other one disappears.
    ///
    /// # Errors
    /// No such dimensions, or they are one.
    pub fn diagonal(&self, a: i64, b: i64) -> Result<Tensor> {
        let (a, b) = (self.dim(a)?, self.dim(b)?);
        if a == b {
            return Err(Error::input(format!("a diagonal lies in two dimensions, not in {a} alone")));
        }
        let (keep, drop) = (a.min(b), a.max(b));
        let mut out = self.clone();
        out.shape[keep] = self.shape[a].min(self.shape[b]);
        out.strides[keep] = self.strides[a] + self.strides[b];
        out.shape.remove(drop);
        out.strides.remove(drop);
        Ok(out)
    }

    /// Counts in `bins` bins of equal width over `range`, by default from the smallest to the largest finite element
    /// (where they are equal, 0.5 to each side). NaN, infinities and what lies outside are left out (numpy.histogram's
    /// edges and rounding).
    ///
    /// # Errors
    /// No bins; a range that is empty or not finite.
    pub fn histogram(&self, bins: usize, range: Option<(f64, f64)>, work: &Work) -> Result<Histogram> {
        if bins == 0 || bins > 1 << 24 {
            return Err(Error::input(format!("a histogram has 1 to {} bins, not {bins}", 1 << 24)));
        }
        let (mut low, mut high) = match range {
            Some(range) => range,
            None => self.finite_range(work)?.unwrap_or((0.0, 1.0)),
        };
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(Error::input(format!(
                "a histogram's range must go from a number up to another, not from {low} to {high}"
            )));
        }
        if low == high {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let edges: Vec<f64> = (0..=bins).map(|i| point(low, high, bins + 1, i)).collect();
        let bin = |x: f64| -> Option<usize> {
            if !(low..=high).contains(&x) {
                return None;
            }
            // Computed, then corrected by the edges themselves, which rounding may put on the other side.
            let guess = (((x - low) / (high - low) * bins as f64) as usize).min(bins - 1);
            if x < edges[guess] {
                return Some(guess.saturating_sub(1));
            }
            Some(if guess + 1 < bins && x >= edges[guess + 1] { guess + 1 } else { guess })
        };
        // Bins sorted within a piece, so that a piece's partial result is no longer than the piece.
        let piece = |_: usize, _: usize, values: &[f64]| {
            let mut found: Vec<usize> = values.iter().filter_map(|x| bin(*x)).collect();
            found.sort_unstable();
            found.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as i64)).collect::<Vec<_>>()
        };
        let merge = |mut a: Vec<(usize, i64)>, b: Vec<(usize, i64)>| {
            a.extend(b);
            a
        };
        let mut counts = vec![0i64; bins];
        for (bin, count) in fold(self, None, work, piece, merge)?.into_iter().flatten() {
            counts[bin] += count;
        }
        Ok(Histogram { counts: Tensor::vector_i64(counts), edges: Tensor::vector_f64(edges) })
    }

    /// The smallest and the largest finite element.
    fn finite_range(&self, work: &Work) -> Result<Option<(f64, f64)>> {
        let wider = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
        let piece = |_: usize, _: usize, values: &[f64]| values.iter().filter(|x| x.is_finite()).map(|x| (*x, *x)).reduce(wider);
        let ends = fold(self, None, work, piece, |a: Option<_>, b: Option<_>| a.into_iter().chain(b).reduce(wider))?;
        Ok(ends.into_iter().flatten().next())
    }
}
