//! Reductions: along one dimension, which disappears, or over all elements, which gives a tensor without dimensions.
//!
//! Sums run in f64. Along a dimension an f32 tensor gives f32; over all elements the f64 is kept, since a plain number
//! comes of it. NaN goes through every reduction. Of nothing, a sum is 0, a mean NaN, and a minimum an error.

use super::drive::{fold, map_lanes};
use super::element::{Element, by_class};
use super::{Class, Tensor};
use crate::error::{Error, Result};
use crate::work::Work;

impl Tensor {
    /// The index of a dimension; negative ones count from the end.
    ///
    /// # Errors
    /// No such dimension.
    pub fn dim(&self, dim: i64) -> Result<usize> {
        let ndim = self.ndim() as i64;
        let index = if dim < 0 { dim + ndim } else { dim };
        if (0..ndim).contains(&index) {
            return Ok(index as usize);
        }
        let error = Error::shape(format!("no dimension {dim} in a tensor of shape {:?}", self.shape));
        Err(if ndim == 0 {
            error.help("it has none")
        } else {
            error.help(format!("its dimensions are 0 to {}, or -{ndim} to -1", ndim - 1))
        })
    }

    fn some_dim(&self, dim: Option<i64>) -> Result<Option<usize>> {
        dim.map(|dim| self.dim(dim)).transpose()
    }

    /// The shape without one dimension, or without any.
    fn without(&self, dim: Option<usize>) -> Vec<usize> {
        let mut shape = self.shape.clone();
        match dim {
            Some(dim) => {
                shape.remove(dim);
            }
            None => shape.clear(),
        }
        shape
    }

    /// Elements in a lane.
    fn lane_len(&self, dim: Option<usize>) -> usize {
        dim.map_or_else(|| self.numel(), |dim| self.shape[dim])
    }

    /// Reduced numbers as a tensor: f32 along a dimension of what is not f64, else f64.
    fn reduced(&self, values: Vec<f64>, dim: Option<usize>) -> Tensor {
        let shape = self.without(dim);
        if dim.is_none() || self.class() == Class::F64 {
            Tensor::of(values, &shape)
        } else {
            Tensor::of(values.into_iter().map(|v| v as f32).collect::<Vec<f32>>(), &shape)
        }
    }

    fn sums(&self, dim: Option<usize>, work: &Work, term: impl Fn(f64) -> f64 + Sync) -> Result<Vec<f64>> {
        fold(self, dim, work, |_, _, values: &[f64]| values.iter().map(|x| term(*x)).sum::<f64>(), |a, b| a + b)
    }

    /// Sum. bool and integers give i64, which wraps around.
    ///
    /// # Errors
    /// No such dimension. (The same holds for every reduction.)
    pub fn sum(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        if self.class() <= Class::Int {
            let piece = |_: usize, _: usize, values: &[i64]| values.iter().fold(0i64, |sum, x| sum.wrapping_add(*x));
            let sums = fold(self, dim, work, piece, i64::wrapping_add)?;
            return Ok(Tensor::of(sums, &self.without(dim)));
        }
        Ok(self.reduced(self.sums(dim, work, |x| x)?, dim))
    }

    fn means(&self, dim: Option<usize>, work: &Work) -> Result<Vec<f64>> {
        let n = self.lane_len(dim) as f64;
        Ok(self.sums(dim, work, |x| x)?.into_iter().map(|sum| sum / n).collect())
    }

    /// Arithmetic mean.
    pub fn mean(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        Ok(self.reduced(self.means(dim, work)?, dim))
    }

    /// Sums of the second, third and fourth powers of x − mean, lane by lane.
    fn central(&self, dim: Option<usize>, work: &Work) -> Result<Vec<[f64; 3]>> {
        let means = self.means(dim, work)?;
        let piece = |lane: usize, _: usize, values: &[f64]| {
            values.iter().fold([0.0; 3], |[s2, s3, s4], x| {
                let d = x - means[lane];
                let d2 = d * d;
                [s2 + d2, s3 + d2 * d, s4 + d2 * d2]
            })
        };
        fold(self, dim, work, piece, |a, b| std::array::from_fn(|i| a[i] + b[i]))
    }

    /// Variance: Σ (x − mean)² / (n − ddof). NaN where n ≤ ddof.
    pub fn variance(&self, dim: Option<i64>, ddof: usize, work: &Work) -> Result<Tensor> {
        self.of_variance(dim, ddof, work, |v| v)
    }

    /// Standard deviation, the square root of [`Tensor::variance`].
    pub fn std(&self, dim: Option<i64>, ddof: usize, work: &Work) -> Result<Tensor> {
        self.of_variance(dim, ddof, work, f64::sqrt)
    }

    fn of_variance(&self, dim: Option<i64>, ddof: usize, work: &Work, f: impl Fn(f64) -> f64) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let n = self.lane_len(dim);
        let divisor = if n > ddof { (n - ddof) as f64 } else { f64::NAN };
        let values = self.central(dim, work)?.into_iter().map(|[s2, ..]| f(s2 / divisor)).collect();
        Ok(self.reduced(values, dim))
    }

    /// Skewness of the population: m₃ / m₂^1.5. NaN where all elements are equal.
    pub fn skewness(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let n = self.lane_len(dim) as f64;
        let values = self.central(dim, work)?.into_iter().map(|[s2, s3, _]| (s3 / n) / (s2 / n).powf(1.5)).collect();
        Ok(self.reduced(values, dim))
    }

    /// Kurtosis of the population, plain: m₄ / m₂², 3 for a normal distribution. NaN where all elements are equal.
    pub fn kurtosis(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let n = self.lane_len(dim) as f64;
        let values = self.central(dim, work)?.into_iter().map(|[s2, _, s4]| (s4 / n) / (s2 / n).powi(2)).collect();
        Ok(self.reduced(values, dim))
    }

    /// The p-norm (Σ |x|^p)^(1/p); the largest |x| for p = ∞, the smallest for −∞, the number of non-zeros for 0.
    pub fn norm(&self, p: f64, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let extreme = |pick: fn(f64, f64) -> f64| {
            let keep = move |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) };
            let piece = move |_: usize, _: usize, values: &[f64]| values.iter().map(|x| x.abs()).reduce(keep);
            let merge = move |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(keep);
            Ok(fold(self, dim, work, piece, merge)?.into_iter().map(|v| v.unwrap_or(0.0)).collect())
        };
        let values: Result<Vec<f64>> = if p.is_nan() {
            Err(Error::input("the order of a norm must be a number, not NaN"))
        } else if p == f64::INFINITY {
            extreme(f64::max)
        } else if p == f64::NEG_INFINITY {
            extreme(f64::min)
        } else if p == 0.0 {
            self.sums(dim, work, |x| f64::from(u8::from(x != 0.0)))
        } else if p == 2.0 {
            Ok(self.sums(dim, work, |x| x * x)?.into_iter().map(f64::sqrt).collect())
        } else {
            Ok(self.sums(dim, work, |x| x.abs().powf(p))?.into_iter().map(|sum| sum.powf(1.0 / p)).collect())
        };
        Ok(self.reduced(values?, dim))
    }

    /// The first index and the value of every lane's extreme; NaN counts as more extreme than any number.
    fn extremes<T: Element>(&self, dim: Option<usize>, largest: bool, work: &Work) -> Result<Vec<(usize, T)>> {
        let beats = move |new: T, old: T| !old.is_nan() && (new.is_nan() || if largest { new > old } else { new < old });
        let keep = move |old: (usize, T), new: (usize, T)| if beats(new.1, old.1) { new } else { old };
        let piece =
            move |_: usize, first: usize, values: &[T]| values.iter().enumerate().map(|(i, x)| (first + i, *x)).reduce(keep);
        let merge = move |a: Option<(usize, T)>, b: Option<(usize, T)>| a.into_iter().chain(b).reduce(keep);
        let found: Option<Vec<_>> = fold(self, dim, work, piece, merge)?.into_iter().collect();
        found.ok_or_else(|| {
            let what = if largest { "largest" } else { "smallest" };
            Error::shape(format!("there is no {what} element among none: the shape is {:?}", self.shape))
        })
    }

    fn extreme_values(&self, dim: Option<i64>, largest: bool, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let shape = self.without(dim);
        by_class!(self.class(), T => {
            let values: Vec<T> = self.extremes::<T>(dim, largest, work)?.into_iter().map(|(_, value)| value).collect();
            Ok(Tensor::of(values, &shape))
        })
    }

    fn extreme_indices(&self, dim: Option<i64>, largest: bool, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let shape = self.without(dim);
        by_class!(self.class(), T => {
            let found = self.extremes::<T>(dim, largest, work)?;
            Ok(Tensor::of(found.into_iter().map(|(index, _)| index as i64).collect::<Vec<i64>>(), &shape))
        })
    }

    /// Smallest element.
    ///
    /// # Errors
    /// There is none. (The same holds for `max`, `argmin`, `argmax`.)
    pub fn min(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        self.extreme_values(dim, false, work)
    }

    /// Largest element.
    pub fn max(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        self.extreme_values(dim, true, work)
    }

    /// Index of the smallest element, the first among equals; without a dim, in row-major order.
    pub fn argmin(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        self.extreme_indices(dim, false, work)
    }

    /// Index of the largest element, the first among equals; without a dim, in row-major order.
    pub fn argmax(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        self.extreme_indices(dim, true, work)
    }

    /// True where any element is non-zero.
    pub fn any(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let found = fold(self, dim, work, |_, _, values: &[bool]| values.contains(&true), |a, b| a | b)?;
        Ok(Tensor::of(found, &self.without(dim)))
    }

    /// True where all elements are non-zero.
    pub fn all(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        let dim = self.some_dim(dim)?;
        let found = fold(self, dim, work, |_, _, values: &[bool]| !values.contains(&false), |a, b| a & b)?;
        Ok(Tensor::of(found, &self.without(dim)))
    }

    /// Running sum along a dimension; bool and integers give i64, which wraps around.
    pub fn cumsum(&self, dim: i64, work: &Work) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        let len = self.shape[dim];
        fn running<A: Element, B: Element>(add: impl Fn(A, A) -> A, give: impl Fn(A) -> B) -> impl Fn(&[A], &mut [B]) {
            move |values, out| {
                let mut sum = A::default();
                for (y, x) in out.iter_mut().zip(values) {
                    sum = add(sum, *x);
                    *y = give(sum);
                }
            }
        }
        match self.class() {
            Class::Bool | Class::Int => map_lanes(self, dim, len, work, running(i64::wrapping_add, |x: i64| x)),
            Class::F32 => map_lanes(self, dim, len, work, running(|a: f64, b: f64| a + b, |x| x as f32)),
            Class::F64 => map_lanes(self, dim, len, work, running(|a: f64, b: f64| a + b, |x: f64| x)),
        }
    }

    /// e^x / Σ e^x along a dimension, computed in f64.
    pub fn softmax(&self, dim: i64, work: &Work) -> Result<Tensor> {
        self.softened(dim, work, |shifted, log_sum| (shifted - log_sum).exp())
    }

    /// Logarithm of the softmax.
    pub fn log_softmax(&self, dim: i64, work: &Work) -> Result<Tensor> {
        self.softened(dim, work, |shifted, log_sum| shifted - log_sum)
    }

    fn softened(&self, dim: i64, work: &Work, give: fn(f64, f64) -> f64) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        let len = self.shape[dim];
        let lane = move |values: &[f64], put: &mut dyn FnMut(usize, f64)| {
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = values.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
            for (i, x) in values.iter().enumerate() {
                put(i, give(x - largest, log_sum));
            }
        };
        if self.class() == Class::F64 {
            map_lanes(self, dim, len, work, move |values: &[f64], out: &mut [f64]| lane(values, &mut |i, y| out[i] = y))
        } else {
            map_lanes(self, dim, len, work, move |values: &[f64], out: &mut [f32]| lane(values, &mut |i, y| out[i] = y as f32))
        }
    }

    /// The q-quantiles with linear interpolation; along a dimension, of which there is one less. With several q the first
    /// dimension of the result runs over them. NaN where there is a NaN, or nothing.
    ///
    /// # Errors
    /// A q outside 0..=1.
    pub fn quantile(&self, q: &[f64], dim: Option<i64>, work: &Work) -> Result<Tensor> {
        if let Some(wrong) = q.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            return Err(Error::input(format!("a quantile lies between 0 and 1, not at {wrong}")));
        }
        let dim = self.some_dim(dim)?;
        let flat = if dim.is_none() { Some(self.row_major(work)?.reshape(&[self.numel()])?) } else { None };
        let (t, along) = (flat.as_ref().unwrap_or(self), dim.unwrap_or(0));
        let points = q.to_vec();
        let values = if self.class() == Class::F32 {
            map_lanes(t, along, q.len(), work, move |lane: &[f32], out: &mut [f64]| quantiles(lane, &points, f64::from, out))?
        } else {
            map_lanes(t, along, q.len(), work, move |lane: &[f64], out: &mut [f64]| quantiles(lane, &points, |x| x, out))?
        };
        let order: Vec<usize> = [along].into_iter().chain((0..t.ndim()).filter(|d| *d != along)).collect();
        let values = values.ordered(&order);
        if dim.is_none() || self.class() == Class::F64 { Ok(values) } else { values.to_class(Class::F32, work) }
    }

    /// The median: the mean of the two middle elements where their number is even.
    pub fn median(&self, dim: Option<i64>, work: &Work) -> Result<Tensor> {
        self.quantile(&[0.5], dim, work)?.select(0, 0)
    }
}

/// More ranks than this are found sooner by sorting than one by one.
const RANKS: usize = 16;

fn quantiles<T: Element>(lane: &[T], points: &[f64], wide: impl Fn(T) -> f64, out: &mut [f64]) {
    let Some(last) = lane.len().checked_sub(1).filter(|_| !lane.iter().any(|x| x.is_nan())) else {
        return out.fill(f64::NAN);
    };
    let mut lane = lane.to_vec();
    let below = |q: &f64| (q * last as f64).floor() as usize;
    let mut ranks: Vec<usize> = points.iter().map(below).flat_map(|rank| [rank, (rank + 1).min(last)]).collect();
    ranks.sort_unstable();
    ranks.dedup();
    if ranks.len() > RANKS {
        lane.sort_unstable_by(T::order);
    } else {
        // What lies before a rank that was found is not greater: the next is looked for behind it.
        let mut found = 0;
        for rank in ranks {
            lane[found..].select_nth_unstable_by(rank - found, T::order);
            found = rank;
        }
    }
    for (value, q) in out.iter_mut().zip(points) {
        let (at, below) = (q * last as f64, below(q));
        let (low, high, part) = (wide(lane[below]), wide(lane[(below + 1).min(last)]), at - at.floor());
        *value = if part == 0.0 || low == high { low } else { low + (high - low) * part };
    }
}
