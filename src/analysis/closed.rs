//! Closed forms: what is known of all scores of a product without making one of them (METHODS.md 1.4).

use super::common::note_left_out;
use super::product::{Columns, RowMoments};
use crate::compute::linalg::{Eigh, eigh, eigvalsh};
use crate::compute::product::{Product, announce};
use crate::compute::{blocks, finite_rows, matmul, matmul_bytes, second_moment};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::provenance::Provenance;
use crate::table::Table;
use crate::tensor::{Tensor, element_count};
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

/// The singular values of `(row_gain ∘ a) @ b`, falling, `[min(n, d, m)]`, from the d × d Gram matrices of both or from that of
/// the product's rows or columns, whichever is less: the n × m product is never stored. ‖product‖² is the sum of their
/// squares. Values below about 1e-8 of the largest are rounding.
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
    // Operations of either way, a decomposition of d × d counted as 10 d³.
    let cube = |size: usize| 10.0 * (size as f64).powi(3);
    let (few, many, terms) = (n.min(m), n.max(m), d as f64);
    let of_few = few as f64 * many as f64 * (2.0 * terms + few as f64) + cube(few);
    let of_terms = (n + m) as f64 * terms * terms + 2.0 * cube(d);
    let squares =
        if of_few < of_terms { squares_of_few(a, b, gain, work)? } else { squares_of_terms(a, b, gain.as_deref(), work)? };
    // Rising; below 0 by rounding alone.
    let values = squares.to_f64().into_iter().rev().take(n.min(d).min(m)).map(|v| v.max(0.0).sqrt());
    Ok(Tensor::vector_f64(values.collect()))
}

/// The squared singular values, rising, from the Gram matrix of the product's rows or of its columns, whichever are fewer: the
/// product is made piece by piece.
fn squares_of_few(a: &Tensor, b: &Tensor, gain: Option<Vec<f32>>, work: &Work) -> Result<Tensor> {
    // Numbers of the product at a time (32 MiB).
    const PIECE: usize = 1 << 22;
    let (few, many) = if a.shape()[0] <= b.shape()[1] { (a.clone(), b.clone()) } else { (b.t(), a.t()) };
    let (n, m, d) = (few.shape()[0], many.shape()[1], many.shape()[0]);
    let piece = (PIECE / n).max(256).min(m);
    // The rows, a piece of the product, and the Gram matrix with its decomposition.
    let numbers = n.saturating_mul(d).saturating_add(n * piece).saturating_add(n.saturating_mul(6 * n));
    let taken = numbers.saturating_mul(8).saturating_add(matmul_bytes([n, d, piece], work));
    let flop = 2.0 * n as f64 * m as f64 * (d + n) as f64;
    announce("product_spectrum", &format!("{n} × {m} scores of {d} terms"), flop, taken, work)?;
    let mut dense = few.read_f64(work)?;
    if let Some(gain) = gain {
        for row in dense.chunks_exact_mut(d) {
            row.iter_mut().zip(&gain).for_each(|(v, g)| *v *= f64::from(*g));
        }
    }
    let few = Tensor::from_f64(dense, &[n, d])?;
    let mut gram = vec![0f64; element_count(&[n, n])?];
    for cols in blocks(0..m, piece) {
        let piece = matmul(&few, &many.narrow(1, cols)?, work)?;
        let squares = matmul(&piece, &piece.t(), work)?;
        gram.iter_mut().zip(squares.numbers()).for_each(|(g, s)| *g += s);
    }
    eigvalsh(&Tensor::from_f64(gram, &[n, n])?, work)
}

/// Matrices that [`squares_of_terms`] holds at once, those of the decomposition above all.
const DECOMPOSED: usize = 8;

/// The squared singular values, rising, from the d × d Gram matrices of both operands.
fn squares_of_terms(a: &Tensor, b: &Tensor, gain: Option<&[f32]>, work: &Work) -> Result<Tensor> {
    let gram = |rows: &Tensor, gain: Option<&[f32]>| -> Result<Tensor> {
        let (n, d) = rows.matrix_shape("an operand")?;
        let moment = second_moment(rows, None, gain, false, work)?;
        Tensor::from_f64(moment.into_iter().map(|v| v * n as f64).collect(), &[d, d])
    };
    let (n, d, m) = (a.shape()[0], a.shape()[1], b.shape()[1]);
    let flop = (n + m) as f64 * (d as f64).powi(2) + 20.0 * (d as f64).powi(3);
    let taken = d.saturating_mul(8 * DECOMPOSED * d).saturating_add(matmul_bytes([d; 3], work));
    announce("product_spectrum", &format!("Gram matrices of {n} rows and {m} columns, {d} × {d}"), flop, taken, work)?;
    // G_a = U Λ Uᵀ: the squares are the eigenvalues of √Λ Uᵀ G_b U √Λ.
    let Eigh { values, vectors } = eigh(&gram(a, gain)?, work)?;
    let roots: Vec<f64> = values.to_f64().into_iter().map(|v| v.max(0.0).sqrt()).collect();
    let mut scaled = vectors.to_f64();
    drop(vectors);
    for row in scaled.chunks_exact_mut(d) {
        row.iter_mut().zip(&roots).for_each(|(v, root)| *v *= root);
    }
    let scaled = Tensor::from_f64(scaled, &[d, d])?;
    let turned = matmul(&scaled.t(), &gram(&b.t(), None)?, work)?;
    eigvalsh(&matmul(&turned, &scaled, work)?, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        Tensor::randn(shape, seed, 0, &Work::silent(2).unwrap()).unwrap()
    }

    /// The product by its definition.
    fn product(a: &Tensor, b: &Tensor, gain: &[f32]) -> Vec<Vec<f64>> {
        let (d, m, x, y) = (gain.len(), b.shape()[1], a.to_f64(), b.to_f64());
        let score = |row: &[f64], j: usize| (0..d).map(|k| row[k] * f64::from(gain[k]) * y[k * m + j]).sum::<f64>();
        x.chunks(d).map(|row| (0..m).map(|j| score(row, j)).collect()).collect()
    }

    #[test]
    fn a_product_of_few_rows_or_columns_takes_little() {
        // 7 MiB of operands, whose d × d Gram matrices would take 75 GiB each.
        let (d, work) = (100_000, Work::silent(2).unwrap());
        let gain: Vec<f32> = (0..d).map(|k| 1.0 + (k % 3) as f32).collect();
        let options = ClosedOptions { row_gain: Some(Tensor::vector(gain.clone())) };
        for (n, m) in [(2, 7), (7, 2)] {
            let (a, b) = (random(&[n, d], 1), random(&[d, m], 2));
            let scores = product(&a, &b, &gain);
            // The eigenvalues of a symmetric 2 × 2 matrix [[x, z], [z, y]].
            let dot = |i: usize, j: usize| match n {
                2 => scores[i].iter().zip(&scores[j]).map(|(x, y)| x * y).sum::<f64>(),
                _ => scores.iter().map(|row| row[i] * row[j]).sum(),
            };
            let (x, y, z) = (dot(0, 0), dot(1, 1), dot(0, 1));
            let root = ((x - y).powi(2) / 4.0 + z * z).sqrt();
            let expected = [(x + y) / 2.0 + root, (x + y) / 2.0 - root].map(f64::sqrt);
            let values = product_spectrum(&a, &b, &options, &work).unwrap().to_f64();
            assert_eq!(values.len(), 2);
            for (value, expected) in values.iter().zip(expected) {
                assert!((value / expected - 1.0).abs() < 1e-10, "{value} is not {expected}");
            }
        }
    }

    #[test]
    fn small_operands_lose_no_digits() {
        let work = Work::silent(2).unwrap();
        for (n, d, m) in [(260, 130, 250), (130, 700, 250)] {
            let (a, b) = (random(&[n, d], 3), random(&[d, m], 4));
            let spectrum = |a: &Tensor| product_spectrum(a, &b, &ClosedOptions::default(), &work).unwrap().to_f64();
            // 2⁻⁶⁷ is about 1e-20, and exact.
            let small = Tensor::from_f32(a.to_f32().iter().map(|v| v * 2f32.powi(-67)).collect(), a.shape()).unwrap();
            let usual = spectrum(&a);
            let squares: f64 = product(&a, &b, &vec![1.0; d]).iter().flatten().map(|v| v * v).sum();
            let sum: f64 = usual.iter().map(|v| v * v).sum();
            assert!((sum / squares - 1.0).abs() < 1e-11, "{sum} is not {squares}");
            for (x, y) in spectrum(&small).iter().zip(&usual) {
                assert!((x * 2f64.powi(67) - y).abs() < 1e-9 * usual[0], "{n} {d} {m}: {x:e} is not 2⁻⁶⁷ · {y}");
            }
        }
    }
}
