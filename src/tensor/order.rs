//! What rests on the order of elements: sorting, the largest k, ranks, distinct values. NaN comes after everything else,
//! equal elements in the order of their index.

use super::drive::{fill, map_lanes};
use super::element::{Element, by_class};
use super::{Tensor, contiguous_strides};
use crate::error::{Error, Result};
use crate::work::Work;
use std::cmp::Ordering;

/// The largest (or smallest) elements with their indices along a dimension.
#[derive(Clone, Debug)]
pub struct TopK {
    /// The elements, the most extreme first.
    pub values: Tensor,
    /// Where they stood, i64.
    pub indices: Tensor,
}

/// The distinct elements, ascending.
#[derive(Clone, Debug)]
pub struct Unique {
    /// The elements, 1-D. All NaN count as one.
    pub values: Tensor,
    /// How often each occurs, i64.
    pub counts: Tensor,
}

fn compare<T: Element>(descending: bool) -> impl Fn(&T, &T) -> Ordering + Copy {
    move |a, b| if descending { b.order(a) } else { a.order(b) }
}

impl Tensor {
    /// Sorted along a dimension.
    ///
    /// # Errors
    /// No such dimension. (The same holds for the others here.)
    pub fn sort(&self, dim: i64, descending: bool, work: &Work) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        by_class!(self.class(), T => map_lanes(self, dim, self.shape[dim], work, move |lane: &[T], out: &mut [T]| {
            out.copy_from_slice(lane);
            out.sort_by(compare(descending));
        }))
    }

    /// The indices (i64) that sort along a dimension.
    pub fn argsort(&self, dim: i64, descending: bool, work: &Work) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        self.first_indices(self.shape[dim], dim, descending, work)
    }

    /// The `k` largest elements along a dimension (the smallest unless `largest`), with their indices.
    ///
    /// # Errors
    /// There are fewer than `k`.
    pub fn topk(&self, k: usize, dim: i64, largest: bool, work: &Work) -> Result<TopK> {
        let dim = self.dim(dim)?;
        if k > self.shape[dim] {
            return Err(Error::input(format!("there are only {} elements to take the top {k} of", self.shape[dim])));
        }
        let indices = self.first_indices(k, dim, largest, work)?;
        Ok(TopK { values: self.gather(dim as i64, &indices, work)?, indices })
    }

    fn first_indices(&self, k: usize, dim: usize, descending: bool, work: &Work) -> Result<Tensor> {
        by_class!(self.class(), T => map_lanes(self, dim, k, work, move |lane: &[T], out: &mut [i64]| {
            let before = |a: &usize, b: &usize| compare(descending)(&lane[*a], &lane[*b]).then(a.cmp(b));
            let mut order: Vec<usize> = (0..lane.len()).collect();
            if k < order.len() {
                order.select_nth_unstable_by(k, before);
                order.truncate(k);
            }
            order.sort_unstable_by(before);
            for (index, i) in out.iter_mut().zip(order) {
                *index = i as i64;
            }
        }))
    }

    /// Ranks along a dimension, from 1, f64; equal elements share the mean of their ranks. A lane with a NaN is all NaN,
    /// as in `scipy.stats.rankdata`.
    pub fn rank(&self, dim: i64, work: &Work) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        by_class!(self.class(), T => map_lanes(self, dim, self.shape[dim], work, |lane: &[T], out: &mut [f64]| {
            if lane.iter().any(|x| x.is_nan()) {
                return out.fill(f64::NAN);
            }
            let mut order: Vec<usize> = (0..lane.len()).collect();
            order.sort_unstable_by(|a, b| lane[*a].order(&lane[*b]));
            let mut first = 0;
            for equal in order.chunk_by(|a, b| lane[*a] == lane[*b]) {
                let mean = first as f64 + (equal.len() + 1) as f64 / 2.0;
                for i in equal {
                    out[*i] = mean;
                }
                first += equal.len();
            }
        }))
    }

    /// The distinct elements of the whole tensor with their counts.
    pub fn unique(&self, work: &Work) -> Result<Unique> {
        let sorted = self.row_major(work)?.reshape(&[self.numel()])?.sort(0, false, work)?;
        by_class!(self.class(), T => work.detached(move |_| {
            let sorted = sorted.values::<T>();
            let runs = sorted.chunk_by(|a, b| a.order(b) == Ordering::Equal);
            let (values, counts): (Vec<T>, Vec<i64>) = runs.map(|run| (run[0], run.len() as i64)).unzip();
            let len = values.len();
            Ok(Unique { values: Tensor::of(values, &[len]), counts: Tensor::vector_i64(counts) })
        }))
    }

    /// The indices of all non-zero elements, i64, `[how many, ndim]`, in row-major order.
    ///
    /// # Errors
    /// The user interrupted, or memory is short.
    pub fn nonzero(&self, work: &Work) -> Result<Tensor> {
        let (places, ndim) = (self.places(work)?, self.ndim());
        // What an index of each dimension counts for in a row-major place.
        let strides = contiguous_strides(&self.shape);
        let out = fill(places.len() * ndim, work, &|start, out: &mut [i64]| {
            for (i, index) in (start..).zip(out) {
                let dim = i % ndim;
                *index = (places[i / ndim] / strides[dim].unsigned_abs() % self.shape[dim]) as i64;
            }
        })?;
        Ok(Tensor::of(out, &[places.len(), ndim]))
    }
}
