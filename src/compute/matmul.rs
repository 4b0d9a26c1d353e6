//! Matrix products that are stored, and sums over the rows of a matrix.
//!
//! A product is cut into tiles of `ROWS` × `COLS` outputs and chunks of `CHUNK` terms: one single-threaded `gemm`
//! call each, a few milliseconds, between which cancellation is polled. Beside operands and result it takes one widened
//! panel of the right operand (64 MiB at most) and 2 MiB a thread.

use super::{Shared, blocks, upright};
use crate::error::{Error, Result};
use crate::tensor::{Class, Held, Tensor, element_count};
use crate::work::Work;
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 256;
/// Columns of a tile.
const COLS: usize = 512;
/// Terms of one call.
const CHUNK: usize = 2048;
/// Columns and terms of a widened panel of the right operand.
const PANEL: (usize, usize) = (1024, 16_384);
/// Elements of a matrix that one step of a sum over rows widens (1 MiB as f32).
const STRIP: usize = 1 << 18;

/// `a @ b` by the rules of `torch.matmul`: a 1-D left operand is a row, a 1-D right operand a column (and the dimension
/// disappears from the result), leading dimensions are batches and broadcast. The result is f64 where either operand is
/// f64, else f32, and dense. Products are summed over the inner dimension in that precision.
///
/// # Errors
/// A 0-D operand, inner sizes that differ, batches that do not broadcast, or the user's interruption.
pub fn matmul(a: &Tensor, b: &Tensor, work: &Work) -> Result<Tensor> {
    if a.dtype().class() == Class::F64 || b.dtype().class() == Class::F64 {
        batched::<f64>(a, b, work)
    } else {
        batched::<f32>(a, b, work)
    }
}

/// Bytes that [`matmul`] takes in f64 for `[n, d]` and `[d, m]`, beside operands and result. [`second_moment`] takes no more.
pub fn matmul_bytes([n, d, m]: [usize; 3], work: &Work) -> usize {
    let panel = PANEL.0.min(m) * PANEL.1.min(d);
    8 * (panel + work.threads() * ROWS.min(n) * CHUNK.min(d) + STRIP.min(n * d))
}

/// `(gain ∘ rows) @ w` in f32, with shape `[n, k]`, for `rows` `[n, d]`, `gain` `[d]` and `w` `[d, k]`; `rows` are widened
/// tile by tile and never copied as a whole.
///
/// # Errors
/// Shapes that do not fit, or the user's interruption.
pub fn project(rows: &Tensor, gain: Option<&[f32]>, w: &Tensor, work: &Work) -> Result<Tensor> {
    let (n, d) = rows.matrix_shape("the left operand")?;
    let (depth, k) = w.matrix_shape("the right operand")?;
    if d != depth {
        return Err(mismatch(rows, w, d, depth));
    }
    check_gain(gain, d)?;
    let mut out = Held::new(vec![0f32; element_count(&[n, k])?]);
    multiply(rows, gain, w, &mut out, work)?;
    Tensor::from_f32(out.into_vec(), &[n, k])
}

/// `out += left · right` for small dense matrices, `[rows, depth]` times `[depth, cols]`, on the calling thread. The rows
/// of `out` lie `stride` apart.
///
/// # Panics
/// When a slice is too short for what its strides reach.
pub fn add_product(out: &mut [f32], stride: usize, [rows, depth, cols]: [usize; 3], left: Strided<'_>, right: Strided<'_>) {
    if rows == 0 || depth == 0 || cols == 0 {
        return;
    }
    assert!(out.len() >= (rows - 1) * stride + cols, "the result is too short");
    assert!(rows == 1 || stride >= cols, "the rows of the result overlap");
    for (operand, [a, b]) in [(left, [rows, depth]), (right, [depth, cols])] {
        assert!(operand.data.len() > (a - 1) * operand.row_stride + (b - 1) * operand.col_stride, "an operand is too short");
    }
    // SAFETY: the slices hold all that is read and written (asserted above), and `out` is borrowed exclusively.
    unsafe { accumulate(rows, cols, depth, left, right, out.as_mut_ptr(), stride) };
}

/// The Euclidean norm of each row of `rows` `[n, d]`, after `gain` `[d]` where one is given. Summed in f64.
///
/// # Errors
/// Not a matrix, a gain of another length, or the user's interruption.
pub fn row_norms(rows: &Tensor, gain: Option<&[f32]>, work: &Work) -> Result<Vec<f64>> {
    let (n, d) = rows.matrix_shape("a tensor whose rows are measured")?;
    check_gain(gain, d)?;
    let mut norms = vec![0f64; n];
    let step = (STRIP / d.max(1)).max(1);
    work.install(|| {
        norms.par_chunks_mut(step).enumerate().try_for_each_init(Vec::new, |strip, (i, norms)| {
            work.check()?;
            let start = i * step;
            widen(rows, start..start + norms.len(), 0..d, gain, strip);
            for (norm, row) in norms.iter_mut().zip(strip.chunks_exact(d.max(1))) {
                *norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
            }
            Ok(())
        })
    })?;
    Ok(norms)
}

/// The Euclidean norm of each column of a matrix `[n, d]`. Summed in f64.
///
/// # Errors
/// Not a matrix, or the user's interruption.
pub fn column_norms(matrix: &Tensor, work: &Work) -> Result<Vec<f64>> {
    let squares = sum_rows(matrix, None, |v| v * v, work)?;
    Ok(squares.into_iter().map(f64::sqrt).collect())
}

/// Which rows of a matrix hold neither NaN nor infinities, after `gain` `[d]` where one is given.
///
/// # Errors
/// Not a matrix, a gain of another length, or the user's interruption.
pub fn finite_rows(rows: &Tensor, gain: Option<&[f32]>, work: &Work) -> Result<Vec<bool>> {
    // In f64 the squares of finite f32 have finite sums.
    Ok(row_norms(rows, gain, work)?.into_iter().map(f64::is_finite).collect())
}

/// The mean row of a matrix `[n, d]`, shape `[d]`, over the rows that are `used`. Summed in f64.
///
/// # Errors
/// Not a matrix, no rows, truth values of another number, or the user's interruption.
pub fn mean_row(matrix: &Tensor, used: Option<&[bool]>, work: &Work) -> Result<Vec<f64>> {
    let (n, _) = matrix.matrix_shape("a tensor whose mean row is asked for")?;
    let count = count_used(used, n)?;
    if count == 0 {
        return Err(Error::shape("a matrix without rows has no mean row"));
    }
    let sums = sum_rows(matrix, used, |v| v, work)?;
    Ok(sums.into_iter().map(|s| s / count as f64).collect())
}

/// The uncentred second moment `Σ u uᵀ / n` of the `used` rows `u` of `rows` `[n, d]`: d × d numbers, row-major. `gain` `[d]`
/// multiplies each row; with `unit` each row is then divided by its norm (rows of norm 0 stay 0).
///
/// # Errors
/// Not a matrix, no rows, a gain or truth values of another number, or the user's interruption.
pub fn second_moment(rows: &Tensor, used: Option<&[bool]>, gain: Option<&[f32]>, unit: bool, work: &Work) -> Result<Vec<f64>> {
    let (n, d) = rows.matrix_shape("a tensor whose second moment is asked for")?;
    check_gain(gain, d)?;
    let count = count_used(used, n)?;
    if count == 0 || d == 0 {
        return Err(Error::shape(format!("a matrix of shape [{count}, {d}] has no second moment")));
    }
    let inverse_norms: Option<Vec<f64>> = unit
        .then(|| row_norms(rows, gain, work))
        .transpose()?
        .map(|norms| norms.into_iter().map(|v| if v > 0.0 { 1.0 / v } else { 0.0 }).collect());
    let mut moment = vec![0f64; element_count(&[d, d])?];
    let out = Shared(moment.as_mut_ptr());
    // The lower triangle is mirrored afterwards.
    let tiles: Vec<_> = blocks(0..d, ROWS)
        .flat_map(|i| blocks(0..d, ROWS).filter(move |j| j.end > i.start).map(move |j| (i.clone(), j)))
        .collect();
    let step = (4 * STRIP / d).clamp(16, CHUNK);
    let mut strip = vec![0f64; step.min(n) * d];
    for range in blocks(0..n, step) {
        let strip = &mut strip[..range.len() * d];
        work.install(|| {
            strip.par_chunks_mut(16 * d).enumerate().try_for_each_init(Vec::new, |narrow, (i, part)| {
                work.check()?;
                let start = range.start + 16 * i;
                widen(rows, start..start + part.len() / d, 0..d, gain, narrow);
                for (r, (wide, row)) in part.chunks_exact_mut(d).zip(narrow.chunks_exact(d)).enumerate() {
                    if !used.is_none_or(|used| used[start + r]) {
                        wide.fill(0.0);
                        continue;
                    }
                    let scale = inverse_norms.as_ref().map_or(1.0, |s| s[start + r]);
                    wide.iter_mut().zip(row).for_each(|(w, v)| *w = f64::from(*v) * scale);
                }
                Ok(())
            })?;
            let strip = &*strip;
            tiles.par_iter().try_for_each(|(i, j)| {
                work.check()?;
                let out = &out;
                let left = Operand { data: &strip[i.start..], row_stride: 1, col_stride: d };
                let right = Operand { data: &strip[j.start..], row_stride: d, col_stride: 1 };
                // SAFETY: the tile lies inside the d × d result, and no other task has the same (i, j).
                unsafe { accumulate(i.len(), j.len(), range.len(), left, right, out.0.add(i.start * d + j.start), d) };
                Ok(())
            })
        })?;
    }
    for i in 0..d {
        for j in i..d {
            let value = moment[i * d + j] / count as f64;
            moment[i * d + j] = value;
            moment[j * d + i] = value;
        }
    }
    Ok(moment)
}

// ---- the blocked product -----------------------------------------------------------------------------------------------

/// What products are computed in.
trait Element: Copy + Default + Send + Sync + 'static + std::ops::MulAssign + From<f32> {
    fn widen(matrix: &Tensor, rows: Range<usize>, cols: Range<usize>, out: &mut [Self]) -> Result<()>;
    fn tensor(data: Vec<Self>, shape: &[usize]) -> Result<Tensor>;
}

impl Element for f32 {
    fn widen(matrix: &Tensor, rows: Range<usize>, cols: Range<usize>, out: &mut [f32]) -> Result<()> {
        matrix.widen_block(rows, cols, out);
        Ok(())
    }
    fn tensor(data: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_f32(data, shape)
    }
}

impl Element for f64 {
    fn widen(matrix: &Tensor, rows: Range<usize>, cols: Range<usize>, out: &mut [f64]) -> Result<()> {
        out.copy_from_slice(&matrix.narrow(0, rows)?.narrow(1, cols)?.to_f64());
        Ok(())
    }
    fn tensor(data: Vec<f64>, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_f64(data, shape)
    }
}

fn mismatch(a: &Tensor, b: &Tensor, left: usize, right: usize) -> Error {
    Error::shape(format!("cannot multiply {:?} by {:?}: the inner sizes {left} and {right} differ", a.shape(), b.shape()))
}

fn check_gain(gain: Option<&[f32]>, d: usize) -> Result<()> {
    match gain {
        Some(gain) if gain.len() != d => Err(Error::shape(format!("a gain of {} numbers does not fit rows of {d}", gain.len()))),
        _ => Ok(()),
    }
}

/// How many of `n` rows are used.
fn count_used(used: Option<&[bool]>, n: usize) -> Result<usize> {
    match used {
        Some(used) if used.len() != n => Err(Error::shape(format!("{} truth values do not fit {n} rows", used.len()))),
        Some(used) => Ok(used.iter().filter(|used| **used).count()),
        None => Ok(n),
    }
}

fn batched<T: Element>(a: &Tensor, b: &Tensor, work: &Work) -> Result<Tensor> {
    if a.ndim() == 0 || b.ndim() == 0 {
        return Err(Error::shape("matmul needs operands of at least one dimension; multiply by a number with `*`"));
    }
    let left = if a.ndim() == 1 { a.reshape(&[1, a.numel()])? } else { a.clone() };
    let right = if b.ndim() == 1 { b.reshape(&[b.numel(), 1])? } else { b.clone() };
    let (left_batch, [n, d]) = split(&left);
    let (right_batch, [depth, m]) = split(&right);
    if d != depth {
        return Err(mismatch(a, b, d, depth));
    }
    let batch = broadcast(left_batch, right_batch)
        .ok_or_else(|| Error::shape(format!("the batch dimensions of {:?} and {:?} do not broadcast", a.shape(), b.shape())))?;

    let mut shape = batch.clone();
    if a.ndim() > 1 {
        shape.push(n);
    }
    if b.ndim() > 1 {
        shape.push(m);
    }
    let mut out = Held::new(vec![T::default(); element_count(&shape)?]);
    let left = left.broadcast_to(&[&batch[..], &[n, d]].concat())?;
    let right = right.broadcast_to(&[&batch[..], &[d, m]].concat())?;
    if !out.is_empty() {
        for (i, out) in out.chunks_exact_mut(n * m).enumerate() {
            let (mut x, mut y, mut rest) = (left.clone(), right.clone(), i);
            for dim in (0..batch.len()).rev() {
                x = x.select(dim, rest % batch[dim])?;
                y = y.select(dim, rest % batch[dim])?;
                rest /= batch[dim];
            }
            multiply(&x, None, &y, out, work)?;
        }
    }
    T::tensor(out.into_vec(), &shape)
}

/// Batch dimensions and the last two of a tensor of at least two dimensions.
fn split(t: &Tensor) -> (&[usize], [usize; 2]) {
    let (batch, last) = t.shape().split_at(t.ndim() - 2);
    (batch, [last[0], last[1]])
}

fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let ndim = a.len().max(b.len());
    let size = |shape: &[usize], dim: usize| (dim + shape.len()).checked_sub(ndim).map_or(1, |i| shape[i]);
    (0..ndim)
        .map(|dim| match (size(a, dim), size(b, dim)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// A matrix in memory with its strides in elements.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a, T> {
    /// From its first element on.
    pub data: &'a [T],
    /// From a row to the next.
    pub row_stride: usize,
    /// From a column to the next.
    pub col_stride: usize,
}

/// A small dense matrix, see [`add_product`].
pub type Strided<'a> = Operand<'a, f32>;

/// Adds `(gain ∘ a) · b` to `out`, row-major `[n, m]`, which the caller has sized and zeroed.
fn multiply<T: Element>(a: &Tensor, gain: Option<&[f32]>, b: &Tensor, out: &mut [T], work: &Work) -> Result<()> {
    let (n, d) = a.matrix_shape("the left operand")?;
    let (_, m) = b.matrix_shape("the right operand")?;
    let (a, a_turned) = upright(a);
    let (b, b_turned) = upright(b);
    let shared = Shared(out.as_mut_ptr());
    let mut panel = Vec::new();
    for depth in blocks(0..d, PANEL.1) {
        for cols in blocks(0..m, PANEL.0) {
            let (outer, inner) = if b_turned { (cols.clone(), depth.clone()) } else { (depth.clone(), cols.clone()) };
            let width = inner.len();
            panel.resize(outer.len() * width, T::default());
            let tiles: Vec<_> =
                blocks(0..n, ROWS).flat_map(|r| blocks(cols.clone(), COLS).map(move |c| (r.clone(), c))).collect();
            work.install(|| {
                panel.par_chunks_mut(16 * width).enumerate().try_for_each(|(i, part)| {
                    work.check()?;
                    let start = outer.start + 16 * i;
                    T::widen(&b, start..start + part.len() / width, inner.clone(), part)
                })?;
                let panel = &panel[..];
                tiles.par_iter().try_for_each_init(Vec::new, |scratch, (r, c)| {
                    for chunk in blocks(depth.clone(), CHUNK) {
                        work.check()?;
                        let (term, col) = (chunk.start - depth.start, c.start - cols.start);
                        let right = if b_turned {
                            Operand { data: &panel[col * width + term..], row_stride: 1, col_stride: width }
                        } else {
                            Operand { data: &panel[term * width + col..], row_stride: width, col_stride: 1 }
                        };
                        let left = load(&a, a_turned, r, &chunk, gain, scratch)?;
                        let shared = &shared;
                        // SAFETY: the tile lies inside the n × m result, and no other task of this pass has the same one.
                        unsafe {
                            let tile = shared.0.add(r.start * m + c.start);
                            accumulate(r.len(), c.len(), chunk.len(), left, right, tile, m);
                        }
                    }
                    if !a_turned {
                        a.release_rows(r.clone());
                    }
                    Ok(())
                })
            })?;
        }
    }
    Ok(())
}

/// Widens `rows × terms` of the left operand, whose upright view is `a`, and multiplies by the gain.
fn load<'s, T: Element>(
    a: &Tensor,
    turned: bool,
    rows: &Range<usize>,
    terms: &Range<usize>,
    gain: Option<&[f32]>,
    scratch: &'s mut Vec<T>,
) -> Result<Operand<'s, T>> {
    scratch.resize(rows.len() * terms.len(), T::default());
    let gain = gain.map(|g| &g[terms.clone()]);
    if turned {
        T::widen(a, terms.clone(), rows.clone(), scratch)?;
        for (run, g) in scratch.chunks_exact_mut(rows.len()).zip(gain.unwrap_or_default()) {
            run.iter_mut().for_each(|v| *v *= T::from(*g));
        }
        Ok(Operand { data: scratch, row_stride: 1, col_stride: rows.len() })
    } else {
        T::widen(a, rows.clone(), terms.clone(), scratch)?;
        if let Some(gain) = gain {
            for run in scratch.chunks_exact_mut(terms.len()) {
                run.iter_mut().zip(gain).for_each(|(v, g)| *v *= T::from(*g));
            }
        }
        Ok(Operand { data: scratch, row_stride: terms.len(), col_stride: 1 })
    }
}

/// `out += left · right` for a tile of `n × m` outputs and `depth` terms; `out` has rows `stride` apart.
///
/// # Safety
/// `out` points to a tile inside one allocation that nobody else reads or writes meanwhile.
unsafe fn accumulate<T: Element>(
    n: usize,
    m: usize,
    depth: usize,
    left: Operand<'_, T>,
    right: Operand<'_, T>,
    out: *mut T,
    stride: usize,
) {
    debug_assert!(left.data.len() > (n - 1) * left.row_stride + (depth - 1) * left.col_stride);
    debug_assert!(right.data.len() > (depth - 1) * right.row_stride + (m - 1) * right.col_stride);
    let one = T::from(1.0);
    // SAFETY: the operands hold every element that their strides reach (asserted above), and the caller vouches for `out`.
    unsafe {
        gemm::gemm(
            n,
            m,
            depth,
            out,
            1,
            stride as isize,
            true,
            left.data.as_ptr(),
            left.col_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.col_stride as isize,
            right.row_stride as isize,
            one,
            one,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

// ---- sums over rows ----------------------------------------------------------------------------------------------------

/// Widens a block of rows into `out`, which is resized, and multiplies by the gain.
fn widen(matrix: &Tensor, rows: Range<usize>, cols: Range<usize>, gain: Option<&[f32]>, out: &mut Vec<f32>) {
    let width = cols.len();
    out.resize(rows.len() * width, 0.0);
    matrix.widen_block(rows.clone(), cols, out);
    matrix.release_rows(rows);
    if let Some(gain) = gain {
        for row in out.chunks_exact_mut(width.max(1)) {
            row.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
        }
    }
}

/// `Σ f(element)` over the `used` rows of each column, in f64; strips of fixed height are added in their order.
fn sum_rows(matrix: &Tensor, used: Option<&[bool]>, f: impl Fn(f64) -> f64 + Sync, work: &Work) -> Result<Vec<f64>> {
    let (n, d) = matrix.matrix_shape("a tensor whose rows are summed")?;
    let step = (STRIP / d.max(1)).max(1);
    let mut total = vec![0f64; d];
    let strips: Vec<_> = blocks(0..n, step).collect();
    // A batch of strips at a time, so that their partial sums stay small however many rows there are.
    for batch in strips.chunks(16) {
        let partial: Vec<Vec<f64>> = work.install(|| {
            batch
                .par_iter()
                .map_init(Vec::new, |strip, rows| {
                    work.check()?;
                    widen(matrix, rows.clone(), 0..d, None, strip);
                    let mut sums = vec![0f64; d];
                    let taken = |r: usize| used.is_none_or(|used| used[rows.start + r]);
                    for (_, row) in strip.chunks_exact(d.max(1)).enumerate().filter(|(r, _)| taken(*r)) {
                        sums.iter_mut().zip(row).for_each(|(s, v)| *s += f(f64::from(*v)));
                    }
                    Ok(sums)
                })
                .collect::<Result<_>>()
        })?;
        for sums in partial {
            total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::tensor::{Bytes, DType};
    use half::bf16;
    use rand::{RngExt, SeedableRng};

    fn work() -> Work {
        Work::silent(2).unwrap()
    }

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Tensor::from_f32((0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect(), shape).unwrap()
    }

    fn narrowed(t: &Tensor) -> Tensor {
        let bytes: Vec<u8> = t.to_f32().iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        Tensor::from_bytes(Bytes::from(bytes), DType::BF16, t.shape()).unwrap()
    }

    /// The product by its definition.
    fn product(a: &Tensor, b: &Tensor) -> Vec<f64> {
        let ([n, d], m) = ([a.shape()[0], a.shape()[1]], b.shape()[1]);
        let (a, b) = (a.to_f64(), b.to_f64());
        let mut out = vec![0.0; n * m];
        for i in 0..n {
            for k in 0..d {
                for j in 0..m {
                    out[i * m + j] += a[i * d + k] * b[k * m + j];
                }
            }
        }
        out
    }

    fn close(ours: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(ours.len(), expected.len());
        for (i, (x, y)) in ours.iter().zip(expected).enumerate() {
            assert!((x - y).abs() <= tolerance, "element {i}: {x} is not {y}");
        }
    }

    #[test]
    fn any_storage_and_orientation_across_tile_borders() {
        // Sizes beyond one tile in each direction that divide none of them.
        let (a, b) = (random(&[259, 37], 1), random(&[37, 1031], 2));
        let expected = product(&a, &b);
        for a in [a.clone(), a.t().contiguous().t()] {
            for b in [b.clone(), b.t().contiguous().t()] {
                close(&matmul(&a, &b, &work()).unwrap().to_f64(), &expected, 1e-4);
            }
        }
        let (a, b) = (narrowed(&random(&[3, 40], 3)), narrowed(&random(&[5, 40], 4)).t());
        close(&matmul(&a, &b, &work()).unwrap().to_f64(), &product(&a, &b), 1e-4);
        let wide = Tensor::from_f64(a.to_f64(), &[3, 40]).unwrap();
        let exact = matmul(&wide, &b, &work()).unwrap();
        assert_eq!(exact.dtype(), DType::F64);
        close(&exact.to_f64(), &product(&a, &b), 1e-13);
    }

    #[test]
    fn long_inner_dimensions_are_summed_over_all_chunks() {
        let (a, b) = (random(&[3, 16_500], 5), random(&[16_500, 2], 6));
        close(&matmul(&a, &b, &work()).unwrap().to_f64(), &product(&a, &b), 2e-3);
    }

    #[test]
    fn vectors_and_batches_follow_torch() {
        let (a, b) = (random(&[2, 1, 3, 4], 7), random(&[5, 4, 2], 8));
        let out = matmul(&a, &b, &work()).unwrap();
        assert_eq!(out.shape(), [2, 5, 3, 2]);
        let expected = product(&a.select(0, 1).unwrap().select(0, 0).unwrap(), &b.select(0, 3).unwrap());
        close(&out.select(0, 1).unwrap().select(0, 3).unwrap().to_f64(), &expected, 1e-6);
        let v = random(&[4], 9);
        assert_eq!(matmul(&v, &v, &work()).unwrap().ndim(), 0);
        assert_eq!(matmul(&v, &b, &work()).unwrap().shape(), [5, 2]);
        assert_eq!(matmul(&a, &v, &work()).unwrap().shape(), [2, 1, 3]);
        assert_eq!(matmul(&random(&[3, 0], 0), &random(&[0, 2], 0), &work()).unwrap().to_f32(), [0.0; 6]);
        let e = matmul(&random(&[2, 3], 0), &random(&[4, 5], 0), &work()).unwrap_err();
        assert_eq!(e.message(), "cannot multiply [2, 3] by [4, 5]: the inner sizes 3 and 4 differ");
        assert_eq!(matmul(&random(&[2, 3, 4], 0), &random(&[3, 4, 5], 0), &work()).unwrap_err().kind(), Kind::Shape);
    }

    #[test]
    fn project_applies_the_gain_to_each_row() {
        let (rows, w) = (random(&[300, 7], 10), random(&[7, 3], 11));
        let gain: Vec<f32> = (0..7).map(|i| i as f32 - 2.5).collect();
        let scaled: Vec<f32> = rows.to_f32().iter().enumerate().map(|(i, v)| v * gain[i % 7]).collect();
        let expected = product(&Tensor::from_f32(scaled, &[300, 7]).unwrap(), &w);
        for rows in [rows.clone(), rows.t().contiguous().t()] {
            close(&project(&rows, Some(&gain), &w, &work()).unwrap().to_f64(), &expected, 1e-5);
        }
        assert!(project(&rows, Some(&gain[1..]), &w, &work()).unwrap_err().message().contains("gain of 6 numbers"));
    }

    #[test]
    fn sums_over_rows() {
        let t = random(&[700, 611], 12);
        let data = t.to_f64();
        let column = |j: usize| (0..700).map(|i| data[i * 611 + j]).collect::<Vec<_>>();
        let mean: Vec<f64> = (0..611).map(|j| column(j).iter().sum::<f64>() / 700.0).collect();
        close(&mean_row(&t, None, &work()).unwrap(), &mean, 1e-13);
        let norms: Vec<f64> = (0..611).map(|j| column(j).iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
        close(&column_norms(&t, &work()).unwrap(), &norms, 1e-12);
        close(&row_norms(&t.t(), None, &work()).unwrap(), &norms, 1e-12);
        // Rows 1, 4, 7, … hold what must not count.
        let used: Vec<bool> = (0..700).map(|i| i % 3 != 1).collect();
        let mut spoilt = t.clone();
        spoilt.make_mut_f32().chunks_mut(611).skip(1).step_by(3).for_each(|row| row[5] = f32::NAN);
        let of_used = |j: usize| column(j).into_iter().zip(&used).filter(|(_, used)| **used).map(|(v, _)| v).sum::<f64>();
        let mean: Vec<f64> = (0..611).map(|j| of_used(j) / 467.0).collect();
        close(&mean_row(&spoilt, Some(&used), &work()).unwrap(), &mean, 1e-13);
        assert_eq!(finite_rows(&spoilt, None, &work()).unwrap(), used);
        assert!(mean_row(&t, Some(&[true]), &work()).unwrap_err().message().contains("do not fit 700 rows"));
        let gain = vec![-3.0; 700];
        let tripled: Vec<f64> = norms.iter().map(|v| 3.0 * v).collect();
        close(&row_norms(&t.t(), Some(&gain), &work()).unwrap(), &tripled, 1e-11);
    }

    #[test]
    fn second_moment_of_raw_and_unit_rows() {
        let rows = random(&[530, 301], 13);
        let gain: Vec<f32> = (0..301).map(|i| 1.0 + (i % 3) as f32).collect();
        for unit in [false, true] {
            let scaled: Vec<f64> = rows.to_f64().iter().enumerate().map(|(i, v)| v * f64::from(gain[i % 301])).collect();
            let scaled: Vec<f64> = scaled
                .chunks(301)
                .flat_map(|row| {
                    let norm = if unit { row.iter().map(|v| v * v).sum::<f64>().sqrt() } else { 1.0 };
                    row.iter().map(move |v| v / norm)
                })
                .collect();
            let u = Tensor::from_f64(scaled, &[530, 301]).unwrap();
            let expected: Vec<f64> = product(&u.t(), &u).into_iter().map(|v| v / 530.0).collect();
            close(&second_moment(&rows, None, Some(&gain), unit, &work()).unwrap(), &expected, 1e-6 * expected[0].abs());
        }
        // What is left out does not count, NaN or not.
        let mut spoilt = rows.clone();
        spoilt.make_mut_f32()[529 * 301] = f32::NAN;
        let used: Vec<bool> = (0..530).map(|i| i < 520).collect();
        let few = rows.narrow(0, 0..520).unwrap();
        let expected: Vec<f64> = product(&few.t(), &few).into_iter().map(|v| v / 520.0).collect();
        close(&second_moment(&spoilt, Some(&used), None, false, &work()).unwrap(), &expected, 1e-12);
        let zero = Tensor::from_f32(vec![0.0; 6], &[3, 2]).unwrap();
        assert_eq!(second_moment(&zero, None, None, true, &work()).unwrap(), [0.0; 4]);
    }

    #[test]
    fn threads_change_nothing_and_interruption_is_seen() {
        let (a, b) = (random(&[300, 70], 14), random(&[70, 1100], 15));
        let one = matmul(&a, &b, &Work::silent(1).unwrap()).unwrap().to_f32();
        assert_eq!(one, matmul(&a, &b, &Work::silent(4).unwrap()).unwrap().to_f32());
        let moment = |threads| second_moment(&b, None, None, true, &Work::silent(threads).unwrap()).unwrap();
        assert_eq!(moment(1), moment(3));
        let stopped = work();
        stopped.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matmul(&a, &b, &stopped).unwrap_err().is_interrupted());
        assert!(mean_row(&a, None, &stopped).unwrap_err().is_interrupted());
    }
}
