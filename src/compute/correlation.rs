//! How the columns or rows of a data matrix vary together: correlation matrix and principal components.

use super::{linalg, matmul};
use crate::error::{Error, Result};
use crate::tensor::{Arithmetic, Number, Tensor};
use crate::work::Work;

/// Principal components of `[n, d]` data. f64.
#[derive(Clone, Debug)]
pub struct Pca {
    /// Directions of unit length as rows, `[k, d]`. In each, the element of largest size is positive.
    pub components: Tensor,
    /// The centred data in these directions, `[n, k]`.
    pub scores: Tensor,
    /// Variance along each (divided by n − 1), falling, `[k]`.
    pub explained_variance: Tensor,
    /// Its share of the whole variance, `[k]`.
    pub explained_ratio: Tensor,
    /// The mean that was subtracted, `[d]`.
    pub mean: Tensor,
}

/// Pearson's correlations of the rows of `[n, m]`: a matrix `[n, n]`, f64 (`numpy.corrcoef`). NaN for a constant row.
///
/// # Errors
/// Not a matrix, or the user's interruption.
pub fn corrcoef(rows: &Tensor, work: &Work) -> Result<Tensor> {
    rows.matrix_shape("data whose correlations are asked for")?;
    let rows = rows.to_dtype("f64", work)?;
    let mean = rows.mean(Some(1), work)?.unsqueeze(1)?;
    let centred = Tensor::arithmetic(Arithmetic::Sub, &rows, mean, work)?;
    let norms = centred.norm(2.0, Some(1), work)?.unsqueeze(1)?;
    let unit = Tensor::arithmetic(Arithmetic::Div, centred, norms, work)?;
    matmul(&unit, &unit.t(), work)?.clamp(Some(Number::Float(-1.0)), Some(Number::Float(1.0)), work)
}

/// The first `k` principal components of `[n, d]` data, by the singular value decomposition of the centred data.
///
/// # Errors
/// Not a matrix, fewer than 2 rows, more components than min(n, d), elements that are not finite, or the user's interruption.
pub fn pca(data: &Tensor, k: usize, work: &Work) -> Result<Pca> {
    let (n, d) = data.matrix_shape("data whose principal components are asked for")?;
    if n < 2 {
        return Err(Error::input(format!("principal components need at least 2 rows, not {n}")));
    }
    if k == 0 || k > n.min(d) {
        return Err(Error::input(format!("data of shape [{n}, {d}] has 1 to {} principal components, not {k}", n.min(d))));
    }
    let data = data.to_dtype("f64", work)?;
    let mean = data.mean(Some(0), work)?;
    let centred = Tensor::arithmetic(Arithmetic::Sub, &data, &mean, work)?;
    let svd = linalg::svd(&centred, work)?;
    let variance = Tensor::arithmetic(Arithmetic::Pow, &svd.s, 2i64, work)?;
    let total = variance.sum(None, work)?;
    let first = |t: &Tensor, dim: usize| t.narrow(dim, 0..k);
    let vectors = first(&svd.v, 1)?.t();
    let largest = vectors.abs(work)?.argmax(Some(1), work)?.unsqueeze(1)?;
    let components = Tensor::arithmetic(Arithmetic::Mul, &vectors, vectors.gather(1, &largest, work)?.sign(work)?, work)?;
    Ok(Pca {
        scores: matmul(&centred, &components.t(), work)?,
        components,
        explained_variance: Tensor::arithmetic(Arithmetic::Div, first(&variance, 0)?, (n - 1) as f64, work)?,
        explained_ratio: Tensor::arithmetic(Arithmetic::Div, first(&variance, 0)?, total, work)?,
        mean,
    })
}
