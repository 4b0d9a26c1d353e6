//! Closed forms: what is known of all scores of a product without making one of them (METHODS.md 1.4).

use crate::compute::linalg::eigh;
use crate::compute::{matmul, mean_row, project, second_moment};
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

/// Mean and standard deviation (dividing by m) of each row of `(row_gain ∘ a) @ b`, `a` `[n, d]`, `b` `[d, m]`, from the mean
/// and the covariance of b's columns: `a_i · b̄` and `√(a_iᵀ Cov(b) a_i)`. n d² + m d² operations instead of n m d; the very
/// numbers that [`super::product_stats`] streams. A table `row mean std`.
///
/// # Errors
/// Shapes that do not fit, or the user's interruption.
pub fn product_moments(a: &Tensor, b: &Tensor, options: &ClosedOptions, work: &Work) -> Result<Table> {
    let (n, d, _, gain) = operands(a, b, options)?;
    let columns = b.t();
    let mean = mean_row(&columns, work)?;
    let mut covariance = second_moment(&columns, None, false, work)?.to_f64();
    for (i, row) in covariance.chunks_exact_mut(d).enumerate() {
        row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= mean[i] * m);
    }
    let mean_column = Tensor::from_f64(mean, &[d, 1])?;
    let means = project(a, gain.as_deref(), &mean_column, work)?.to_f64();
    let turned = project(a, gain.as_deref(), &Tensor::from_f64(covariance, &[d, d])?, work)?;
    let mut stds = Vec::with_capacity(n);
    for (row, turned) in turned.f32_cow().chunks_exact(d).enumerate() {
        work.check()?;
        let own = a.row(row)?;
        let scaled = |i: usize| f64::from(own[i]) * gain.as_ref().map_or(1.0, |g| f64::from(g[i]));
        let variance: f64 = turned.iter().enumerate().map(|(i, v)| f64::from(*v) * scaled(i)).sum();
        stds.push(variance.max(0.0).sqrt());
    }
    let record = Provenance::new("product_moments").with("options", options.canonical());
    Table::new(record).with("row", (0..n).collect::<Vec<usize>>())?.with("mean", means)?.with("std", stds)
}

/// The singular values of `(row_gain ∘ a) @ b`, falling, `[min(n, d, m)]`, from the d × d Gram matrices of both: the n × m
/// product is never made. ‖product‖² is the sum of their squares. Values below about 1e-8 of the largest are rounding.
///
/// # Errors
/// Shapes that do not fit, or the user's interruption.
pub fn product_spectrum(a: &Tensor, b: &Tensor, options: &ClosedOptions, work: &Work) -> Result<Tensor> {
    let (n, d, m, gain) = operands(a, b, options)?;
    let times = |tensor: Tensor, factor: usize| -> Result<Tensor> {
        let values = tensor.to_f64().into_iter().map(|v| v * factor as f64).collect();
        Tensor::from_f64(values, &[d, d])
    };
    let left = eigh(&times(second_moment(a, gain.as_deref(), false, work)?, n)?, work)?;
    let right = times(second_moment(&b.t(), None, false, work)?, m)?;
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

#[cfg(test)]
mod tests {
    use super::super::{ProductOptions, product_stats};
    use super::*;
    use crate::compute::linalg::svd;
    use crate::random::Random;

    fn normals(shape: &[usize], seed: u64) -> Tensor {
        Tensor::from_f32(Random::new(seed).normals(shape.iter().product()), shape).unwrap()
    }

    fn column(table: &Table, name: &str) -> Vec<f64> {
        table.column(name).unwrap().numbers().unwrap()
    }

    #[test]
    fn closed_forms_agree_with_the_product() {
        let work = Work::silent(2).unwrap();
        // Columns with a common part, against which a variance without centring would cancel.
        let shifted: Vec<f32> = normals(&[7, 50], 2).to_f32().into_iter().map(|v| v + 30.0).collect();
        let (a, b) = (normals(&[30, 7], 1), Tensor::from_f32(shifted, &[7, 50]).unwrap());
        let gain = normals(&[7], 3);
        for gain in [None, Some(gain)] {
            let options = ClosedOptions { row_gain: gain.clone() };
            let closed = product_moments(&a, &b, &options, &work).unwrap();
            let streamed = ProductOptions { row_gain: gain.clone(), ..ProductOptions::default() };
            let streamed = product_stats(&a, &b, &streamed, &work).unwrap().rows.table();
            for name in ["mean", "std"] {
                for (got, want) in column(&closed, name).into_iter().zip(column(&streamed, name)) {
                    assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{name}: {got}, not {want}");
                }
            }
            let scaled: Vec<f32> = match &gain {
                Some(gain) => a.to_f32().iter().zip(gain.to_f32().iter().cycle()).map(|(v, g)| v * g).collect(),
                None => a.to_f32(),
            };
            let whole = matmul(&Tensor::from_f32(scaled, &[30, 7]).unwrap(), &b, &work).unwrap();
            let want = svd(&whole, &work).unwrap().s.to_f64();
            let got = product_spectrum(&a, &b, &options, &work).unwrap().to_f64();
            let scale = want[0];
            assert_eq!(got.len(), 7);
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < 1e-5 * scale, "{got}, not {want}");
            }
        }
        let wrong = product_moments(&b, &a, &ClosedOptions::default(), &work).unwrap_err();
        assert!(wrong.message().contains("[7, 50] and [30, 7]"), "{}", wrong.message());
    }
}
