//! Decompositions and solvers, by faer in f64.
//!
//! Results are f64 where the input is f64, else f32. The routines cannot poll, so they run on a helper thread; when the
//! user interrupts, the call returns at once. Inputs with NaN or infinite elements are refused.

use crate::error::{Error, Result};
use crate::tensor::{Class, Tensor};
use crate::work::Work;
use faer::prelude::*;
use faer::{Mat, MatRef, Side};
use std::borrow::Cow;

/// `A = U · diag(S) · Vᵀ` of a matrix `[n, m]`, thin: `r = min(n, m)`.
#[derive(Clone, Debug)]
pub struct Svd {
    /// Left singular vectors as columns, `[n, r]`.
    pub u: Tensor,
    /// Singular values, falling, `[r]`.
    pub s: Tensor,
    /// Right singular vectors as columns, `[m, r]` (not transposed).
    pub v: Tensor,
}

/// `A = Q · R` of a matrix `[n, m]`, thin: `r = min(n, m)`.
#[derive(Clone, Debug)]
pub struct Qr {
    /// Orthonormal columns, `[n, r]`.
    pub q: Tensor,
    /// Upper triangular, `[r, m]`.
    pub r: Tensor,
}

/// Eigenvalues and eigenvectors of a symmetric matrix `[n, n]`.
#[derive(Clone, Debug)]
pub struct Eigh {
    /// Eigenvalues, rising, `[n]`.
    pub values: Tensor,
    /// Eigenvectors of unit length as columns, `[n, n]`.
    pub vectors: Tensor,
}

/// Complex eigenvalues and eigenvectors of a square matrix `[n, n]`, real and imaginary parts apart.
#[derive(Clone, Debug)]
pub struct Eig {
    /// Real parts of the eigenvalues, `[n]`.
    pub re: Tensor,
    /// Imaginary parts of the eigenvalues, `[n]`.
    pub im: Tensor,
    /// Real parts of the eigenvectors, as columns, `[n, n]`.
    pub vectors_re: Tensor,
    /// Imaginary parts of the eigenvectors, as columns, `[n, n]`.
    pub vectors_im: Tensor,
}

/// Thin singular value decomposition of `[n, m]`.
///
/// # Errors
/// Not a matrix, empty, not finite, no convergence, or the user's interruption. (The same holds for all calls here.)
pub fn svd(a: &Tensor, work: &Work) -> Result<Svd> {
    run("svd", &[a], work, |m, class| {
        let unit = to_unit(&mut m[0], false);
        let svd = m[0].thin_svd().map_err(|_| no_convergence("svd"))?;
        Ok(Svd {
            u: tensor(svd.U(), class)?,
            s: vector(svd.S().column_vector().iter().map(|v| v * unit), class),
            v: tensor(svd.V(), class)?,
        })
    })
}

/// Thin QR decomposition of `[n, m]`.
///
/// # Errors
/// As [`svd`].
pub fn qr(a: &Tensor, work: &Work) -> Result<Qr> {
    run("qr", &[a], work, |m, class| {
        let qr = m[0].qr();
        Ok(Qr { q: tensor(qr.compute_thin_Q().as_ref(), class)?, r: tensor(qr.thin_R(), class)? })
    })
}

/// Eigendecomposition of a symmetric matrix `[n, n]`; only the lower triangle is read.
///
/// # Errors
/// As [`svd`]; also not square.
pub fn eigh(a: &Tensor, work: &Work) -> Result<Eigh> {
    square("eigh", a)?;
    run("eigh", &[a], work, |m, class| {
        let unit = to_unit(&mut m[0], true);
        let eigen = m[0].self_adjoint_eigen(Side::Lower).map_err(|_| no_convergence("eigh"))?;
        Ok(Eigh { values: vector(eigen.S().column_vector().iter().map(|v| v * unit), class), vectors: tensor(eigen.U(), class)? })
    })
}

/// Eigenvalues, rising, `[n]`, of a symmetric matrix `[n, n]`; only the lower triangle is read.
///
/// # Errors
/// As [`eigh`].
pub fn eigvalsh(a: &Tensor, work: &Work) -> Result<Tensor> {
    square("eigvalsh", a)?;
    run("eigvalsh", &[a], work, |m, class| {
        let unit = to_unit(&mut m[0], true);
        let values = m[0].self_adjoint_eigenvalues(Side::Lower).map_err(|_| no_convergence("eigvalsh"))?;
        Ok(vector(values.into_iter().map(|v| v * unit), class))
    })
}

/// Eigendecomposition of a square matrix `[n, n]`.
///
/// # Errors
/// As [`svd`]; also not square.
pub fn eig(a: &Tensor, work: &Work) -> Result<Eig> {
    square("eig", a)?;
    run("eig", &[a], work, |m, class| {
        let unit = to_unit(&mut m[0], false);
        let eigen = m[0].eigen().map_err(|_| no_convergence("eig"))?;
        let (values, vectors) = (eigen.S().column_vector(), eigen.U());
        let n = vectors.nrows();
        let re = Mat::from_fn(n, n, |i, j| vectors[(i, j)].re);
        let im = Mat::from_fn(n, n, |i, j| vectors[(i, j)].im);
        Ok(Eig {
            re: vector(values.iter().map(|v| v.re * unit), class),
            im: vector(values.iter().map(|v| v.im * unit), class),
            vectors_re: tensor(re.as_ref(), class)?,
            vectors_im: tensor(im.as_ref(), class)?,
        })
    })
}

/// `X` with `A · X = B` for a square `A` `[n, n]` and `B` `[n]` or `[n, k]`; the result has the shape of `B`.
///
/// # Errors
/// As [`svd`]; also shapes that do not fit, or a singular `A`.
pub fn solve(a: &Tensor, b: &Tensor, work: &Work) -> Result<Tensor> {
    let n = square("solve", a)?;
    let shape = right_hand_side("solve", n, b)?;
    run("solve", &[a, b], work, move |m, class| {
        let lu = m[0].partial_piv_lu();
        let pivots = (0..n).map(|i| lu.U()[(i, i)].abs());
        let (least, greatest) = pivots.fold((f64::INFINITY, 0f64), |(lo, hi), p| (lo.min(p), hi.max(p)));
        if least <= greatest * f64::EPSILON {
            return Err(Error::input("solve: the matrix is singular").help("lstsq(a, b) or pinv(a) take singular matrices"));
        }
        tensor(lu.solve(&m[1]).as_ref(), class)?.reshape(&shape)
    })
}

/// The least-squares solution of least norm of `A · X = B` for `A` `[n, m]` and `B` `[n]` or `[n, k]`; the result is `[m]`
/// or `[m, k]`. Singular values below `max(n, m) · 2⁻⁵² · s_max` count as 0 (numpy's default).
///
/// # Errors
/// As [`svd`]; also shapes that do not fit.
pub fn lstsq(a: &Tensor, b: &Tensor, work: &Work) -> Result<Tensor> {
    let (n, cols) = a.matrix_shape("lstsq: the matrix")?;
    let mut shape = right_hand_side("lstsq", n, b)?;
    shape[0] = cols;
    run("lstsq", &[a, b], work, move |m, class| {
        tensor((pseudoinverse("lstsq", &mut m[0])? * &m[1]).as_ref(), class)?.reshape(&shape)
    })
}

/// The Moore–Penrose pseudoinverse `[m, n]` of `[n, m]`, with the cut-off of [`lstsq`].
///
/// # Errors
/// As [`svd`].
pub fn pinv(a: &Tensor, work: &Work) -> Result<Tensor> {
    run("pinv", &[a], work, |m, class| tensor(pseudoinverse("pinv", &mut m[0])?.as_ref(), class))
}

/// The lower triangular `L` with `A = L · Lᵀ` of a symmetric positive definite `[n, n]`; only the lower triangle is read.
///
/// # Errors
/// As [`svd`]; also not square, or not positive definite.
pub fn cholesky(a: &Tensor, work: &Work) -> Result<Tensor> {
    square("cholesky", a)?;
    run("cholesky", &[a], work, |m, class| {
        let llt = m[0].llt(Side::Lower).map_err(|_| Error::input("cholesky: the matrix is not positive definite"))?;
        let l = llt.L();
        tensor(Mat::from_fn(l.nrows(), l.ncols(), |i, j| if j <= i { l[(i, j)] } else { 0.0 }).as_ref(), class)
    })
}

fn pseudoinverse(call: &str, m: &mut Mat<f64>) -> Result<Mat<f64>> {
    let unit = to_unit(m, false);
    let svd = m.thin_svd().map_err(|_| no_convergence(call))?;
    let s: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let cut = s.first().copied().unwrap_or(0.0) * m.nrows().max(m.ncols()) as f64 * f64::EPSILON;
    let (u, v) = (svd.U(), svd.V());
    let scaled = Mat::from_fn(v.nrows(), s.len(), |i, j| if s[j] > cut { v[(i, j)] / s[j] / unit } else { 0.0 });
    Ok(scaled * u.transpose())
}

/// Divides a matrix, or its lower triangle, by the power of two at its largest element, and gives that: faer's decompositions
/// of large matrices take what is small in itself for 0.
fn to_unit(m: &mut Mat<f64>, lower: bool) -> f64 {
    let (n, cols) = (m.nrows(), m.ncols());
    let places = || (0..cols).flat_map(move |j| (if lower { j } else { 0 }..n).map(move |i| (i, j)));
    let largest = places().fold(0f64, |largest, at| largest.max(m[at].abs()));
    if largest == 0.0 {
        return 1.0;
    }
    // Neither the unit nor its inverse leaves the range of f64.
    let exponent = (largest.log2().floor() as i32).clamp(-1000, 1000);
    let inverse = 2f64.powi(-exponent);
    places().for_each(|at| m[at] *= inverse);
    2f64.powi(exponent)
}

/// Widens the operands, checks them and calls `f` with them on a helper thread. A 1-D operand becomes a column.
fn run<T: Send + 'static>(
    call: &'static str,
    operands: &[&Tensor],
    work: &Work,
    f: impl FnOnce(&mut [Mat<f64>], Class) -> Result<T> + Send + 'static,
) -> Result<T> {
    let operands: Vec<Tensor> = operands.iter().map(|t| (*t).clone()).collect();
    work.detached(move |_| {
        let class = operands.iter().map(|t| t.dtype().class()).max().unwrap_or(Class::F32).max(Class::F32);
        let mut matrices = operands.iter().map(|t| matrix(call, t)).collect::<Result<Vec<_>>>()?;
        f(&mut matrices, class)
    })
}

fn matrix(call: &str, t: &Tensor) -> Result<Mat<f64>> {
    let (n, m) = if t.ndim() == 1 { (t.numel(), 1) } else { t.matrix_shape(&format!("{call}: the operand"))? };
    if n == 0 || m == 0 {
        return Err(Error::shape(format!("{call}: the matrix of shape [{n}, {m}] is empty")));
    }
    let data = t.as_f64().map_or_else(|| Cow::Owned(t.to_f64()), Cow::Borrowed);
    if let Some(at) = data.iter().position(|v| !v.is_finite()) {
        return Err(Error::input(format!("{call}: element [{}, {}] is {}", at / m, at % m, data[at])));
    }
    Ok(Mat::from_fn(n, m, |i, j| data[i * m + j]))
}

fn square(call: &str, a: &Tensor) -> Result<usize> {
    match a.matrix_shape(&format!("{call}: the operand"))? {
        (n, m) if n == m => Ok(n),
        (n, m) => Err(Error::shape(format!("{call} needs a square matrix, but its shape is [{n}, {m}]"))),
    }
}

/// The shape of `b`, which must have `n` rows.
fn right_hand_side(call: &str, n: usize, b: &Tensor) -> Result<Vec<usize>> {
    if !matches!(b.ndim(), 1 | 2) || b.shape()[0] != n {
        return Err(Error::shape(format!(
            "{call}: the right-hand side must have shape [{n}] or [{n}, k], but its shape is {:?}",
            b.shape()
        )));
    }
    Ok(b.shape().to_vec())
}

fn tensor(m: MatRef<'_, f64>, class: Class) -> Result<Tensor> {
    let values = (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)]));
    vector(values, class).reshape(&[m.nrows(), m.ncols()])
}

fn vector(values: impl Iterator<Item = f64>, class: Class) -> Tensor {
    match class {
        Class::F64 => Tensor::vector_f64(values.collect()),
        _ => Tensor::vector(values.map(|v| v as f32).collect()),
    }
}

fn no_convergence(call: &str) -> Error {
    Error::input(format!("{call} did not converge"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// Reference values from numpy: tests/reference/compute.py.
    fn reference(name: &str) -> serde_json::Value {
        let all: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/compute.json")).unwrap();
        all["linalg"][name].clone()
    }

    fn read(name: &str) -> Tensor {
        let value = reference(name);
        let rows = value.as_array().unwrap();
        let numbers = |row: &serde_json::Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        match rows[0].is_array() {
            false => Tensor::vector_f64(numbers(&value)),
            true => {
                let data: Vec<f64> = rows.iter().flat_map(numbers).collect();
                let cols = data.len() / rows.len();
                Tensor::from_f64(data, &[rows.len(), cols]).unwrap()
            }
        }
    }

    fn close(ours: &Tensor, expected: &Tensor) {
        assert_eq!(ours.shape(), expected.shape());
        for (x, y) in ours.to_f64().iter().zip(expected.to_f64()) {
            assert!((x - y).abs() < 1e-10 * (1.0 + y.abs()), "{x} is not {y}");
        }
    }

    fn times(a: &Tensor, b: &Tensor) -> Tensor {
        crate::compute::matmul(a, b, &Work::silent(1).unwrap()).unwrap()
    }

    #[test]
    fn agrees_with_numpy() {
        let work = Work::silent(1).unwrap();
        close(&svd(&read("full"), &work).unwrap().s, &read("singular_values"));
        let r = qr(&read("full"), &work).unwrap().r;
        close(&Tensor::from_f64(r.to_f64().into_iter().map(f64::abs).collect(), r.shape()).unwrap(), &read("r_abs"));
        close(&eigh(&read("spd"), &work).unwrap().values, &read("eigh"));
        close(&eigvalsh(&read("spd"), &work).unwrap(), &read("eigh"));
        close(&solve(&read("square"), &read("b"), &work).unwrap(), &read("solve"));
        close(&lstsq(&read("a"), &read("one"), &work).unwrap(), &read("lstsq"));
        close(&pinv(&read("a"), &work).unwrap(), &read("pinv"));
        close(&cholesky(&read("spd"), &work).unwrap(), &read("cholesky"));
        let eig = eig(&read("square"), &work).unwrap();
        let mut values: Vec<(f64, f64)> = eig.re.to_f64().into_iter().zip(eig.im.to_f64()).collect();
        values.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.total_cmp(&y.1)));
        close(&Tensor::from_f64(values.iter().flat_map(|v| [v.0, v.1]).collect(), &[4, 2]).unwrap(), &read("eig"));
    }

    #[test]
    fn factors_multiply_back() {
        let work = Work::silent(1).unwrap();
        for a in [read("full"), read("full").t()] {
            let Svd { u, s, v } = svd(&a, &work).unwrap();
            let r = s.numel();
            let diagonal = (0..r * r).map(|i| if i % (r + 1) == 0 { s.to_f64()[i / r] } else { 0.0 }).collect();
            close(&times(&times(&u, &Tensor::from_f64(diagonal, &[r, r]).unwrap()), &v.t()), &a.contiguous());
            let Qr { q, r } = qr(&a, &work).unwrap();
            close(&times(&q, &r), &a.contiguous());
        }
        let square = read("square");
        let eig = eig(&square, &work).unwrap();
        // A (x + iy) = (a + ib)(x + iy), column by column.
        let (left_re, left_im) = (times(&square, &eig.vectors_re).to_f64(), times(&square, &eig.vectors_im).to_f64());
        let (x, y) = (eig.vectors_re.to_f64(), eig.vectors_im.to_f64());
        for (i, (re, im)) in left_re.iter().zip(left_im).enumerate() {
            let (a, b) = (eig.re.to_f64()[i % 4], eig.im.to_f64()[i % 4]);
            assert!((re - (a * x[i] - b * y[i])).abs() < 1e-12 && (im - (a * y[i] + b * x[i])).abs() < 1e-12);
        }
    }

    #[test]
    fn a_power_of_two_changes_no_digit() {
        let work = Work::silent(1).unwrap();
        // Large enough for faer's methods for large matrices.
        let a = Tensor::randn(&[170, 130], 1, 0, &work).unwrap();
        let gram = times(&Tensor::from_f64(a.to_f64(), &[170, 130]).unwrap().t(), &a);
        let values = |gram: &Tensor, a: &Tensor| {
            [eigh(gram, &work).unwrap().values, eigvalsh(gram, &work).unwrap(), svd(a, &work).unwrap().s].map(|t| t.to_f64())
        };
        let usual = values(&gram, &a);
        for exponent in [-120, -60, 60] {
            let factor = 2f64.powi(exponent);
            let times = |t: &Tensor| Tensor::from_f64(t.to_f64().iter().map(|v| v * factor).collect(), t.shape()).unwrap();
            for (which, (scaled, usual)) in values(&times(&gram), &times(&a)).iter().zip(&usual).enumerate() {
                let worst = scaled.iter().zip(usual).map(|(x, y)| (x / factor / y - 1.0).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-6, "call {which}, 2^{exponent}: {worst:e}");
            }
        }
    }

    #[test]
    fn results_of_single_precision_stay_single() {
        let a = Tensor::from_f32(vec![2.0, 0.0, 0.0, 4.0], &[2, 2]).unwrap();
        let inverse = pinv(&a, &Work::silent(1).unwrap()).unwrap();
        assert_eq!(inverse.as_f32().unwrap(), [0.5, 0.0, 0.0, 0.25]);
    }

    #[test]
    fn wrong_operands_say_what_is_wrong() {
        let work = Work::silent(1).unwrap();
        let a = Tensor::from_f64(vec![1.0; 6], &[2, 3]).unwrap();
        assert_eq!(eigh(&a, &work).unwrap_err().message(), "eigh needs a square matrix, but its shape is [2, 3]");
        let singular = Tensor::from_f64(vec![1.0, 2.0, 2.0, 4.0], &[2, 2]).unwrap();
        assert_eq!(solve(&singular, &Tensor::vector(vec![1.0, 1.0]), &work).unwrap_err().kind(), Kind::Input);
        assert!(solve(&singular, &Tensor::vector(vec![1.0; 3]), &work).unwrap_err().message().contains("[2] or [2, k]"));
        let nan = Tensor::from_f64(vec![1.0, 2.0, f64::NAN, 4.0], &[2, 2]).unwrap();
        assert_eq!(svd(&nan, &work).unwrap_err().message(), "svd: element [1, 0] is NaN");
        assert_eq!(svd(&Tensor::from_f32(vec![], &[0, 3]).unwrap(), &work).unwrap_err().kind(), Kind::Shape);
        let indefinite = Tensor::from_f64(vec![1.0, 0.0, 0.0, -1.0], &[2, 2]).unwrap();
        assert!(cholesky(&indefinite, &work).unwrap_err().message().contains("positive definite"));
    }
}
