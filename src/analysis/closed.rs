//! Closed forms: what is known of all scores of a product without making one of them (METHODS.md 1.4).

use super::common::note_left_out;
use super::product::{Columns, RowMoments};
use crate::compute::linalg::eigh;
use crate::compute::product::Product;
use crate::compute::{finite_rows, matmul, second_moment};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::provenance::Provenance;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;

crate::options! {
    /// Options of [`product_moments`] and [`product_spectrum`].
    pub struct ClosedOptions {
        /// Multiplies the columns of A, `[d]`: norm gains, for example.
        row_gain: Option<Tensor> = None,
    }
}

/// A and B as they are multiplied: their shapes, and the gain of A.
fn operands(a: &Tensor, b: &Tensor, options: &ClosedOptions) -> Result<(usize, usize, usize, Option<Vec<f32>>)> {
    let ((n, d), (depth, m)) = (a.matrix_shape("the left operand")?, b.matrix_shape("the right operand")?);
    if d != depth || n * d * m == 0 {
        return Err(Error::shape(format!("[{n}, {d}] and [{depth}, {m}] cannot be multiplied")));
    }
    match &options.row_gain {
        Some(gain) if gain.shape() != [d] => {
            Err(Error::shape(format!("option `row_gain` must have shape [{d}], not {:?}", gain.shape())))
        }
        gain => Ok((n, d, m, gain.as_ref().map(|gain| gain.to_f32()))),
    }
}

/// The rows that hold NaN or infinities.
fn broken_rows(rows: &Tensor, gain: Option<&[f32]>, work: &Work) -> Result<Vec<usize>> {
    Ok(finite_rows(rows, gain, work)?.into_iter().enumerate().filter(|(_, finite)| !finite).map(|(i, _)| i).collect())
}

/// Mean and standard deviation (dividing by m) of each row of `(row_gain ∘ a) @ b`, `a` `[n, d]`, `b` `[d, m]`, from the mean
/// and the covariance of b's columns: `a_i · b̄` and `√(a_iᵀ Cov(b) a_i)`, in 64 bits. n d² + m d² operations instead of n m d.
/// What [`super::product_stats`] streams agrees within the rounding of its scores to 32 bits, which is about 1e-7 of their
/// size: where b's columns have in common what is 1000 times as large as their differences, 1e-4 of the standard deviation and more.
/// Of fewer than d / 4 rows the deviations from a point near the mean are streamed, which is less. Columns that hold NaN or
/// infinities are left out. A table `row mean std`.
///
/// # Errors
/// Shapes that do not fit, no finite column, or the user's interruption.
pub fn product_moments(a: &Tensor, b: &Tensor, options: &ClosedOptions, work: &Work) -> Result<Table> {
    let (n, _, m, gain) = operands(a, b, options)?;
    let product = Product { gain, label: "product_moments".into(), ..Product::new(a.clone(), b.clone()) };
    let RowMoments { means, variances, left_out: (left_out, broken) } = Columns::new(b, None)?.moments(&product, work)?;
    note_left_out("product_moments", left_out, (n, m), &broken, ("rows", |row| row), ("columns", |col| col), work);
    let stds: Vec<f64> = variances.into_iter().map(f64::sqrt).collect();
    let record = Provenance::new("product_moments").with("options", options.canonical());
    Table::new(record).with("row", (0..n).collect::<Vec<usize>>())?.with("mean", means)?.with("std", stds)
}

/// The singular values of `(row_gain ∘ a) @ b`, falling, `[min(n, d, m)]`, from the d × d Gram matrices of both: the n × m
/// product is never made. ‖product‖² is the sum of their squares. Values below about 1e-8 of the largest are rounding.
///
/// # Errors
/// Shapes that do not fit, a row or column that holds NaN or infinities, or the user's interruption.
pub fn product_spectrum(a: &Tensor, b: &Tensor, options: &ClosedOptions, work: &Work) -> Result<Tensor> {
    let (n, d, m, gain) = operands(a, b, options)?;
    for (side, count, broken) in
        [("row", n, broken_rows(a, gain.as_deref(), work)?), ("column", m, broken_rows(&b.t(), None, work)?)]
    {
        if let Some(first) = broken.first() {
            let message = format!(
                "product_spectrum: {side} {first} holds NaN or infinite numbers ({} of {count} {side}s do)",
                broken.len()
            );
            return Err(
                Error::input(message).help("singular values are of the whole product: leave such rows and columns out of it")
            );
        }
    }
    let times = |tensor: Tensor, factor: usize| -> Result<Tensor> {
        let values = tensor.to_f64().into_iter().map(|v| v * factor as f64).collect();
        Tensor::from_f64(values, &[d, d])
    };
    let left = eigh(&times(second_moment(a, None, gain.as_deref(), false, work)?, n)?, work)?;
    let right = times(second_moment(&b.t(), None, None, false, work)?, m)?;
    // G_a = U Λ Uᵀ: the squares are the eigenvalues of √Λ Uᵀ G_b U √Λ.
    let roots: Vec<f64> = left.values.to_f64().into_iter().map(|v| v.max(0.0).sqrt()).collect();
    let inner = matmul(&matmul(&left.vectors.t(), &right, work)?, &left.vectors, work)?.to_f64();
    let scaled = inner.iter().enumerate().map(|(i, v)| v * roots[i / d] * roots[i % d]).collect();
    let mut values: Vec<f64> =
        eigh(&Tensor::from_f64(scaled, &[d, d])?, work)?.values.to_f64().into_iter().map(|v| v.max(0.0).sqrt()).collect();
    values.sort_by(|x, y| y.total_cmp(x));
    values.truncate(n.min(d).min(m));
    Ok(Tensor::vector_f64(values))
}
