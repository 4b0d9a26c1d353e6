//! The tensor: shape, strides, dtype and shared bytes, in CPU memory, cheap to copy.
//!
//! Bytes may lie in a mapped file, in the program itself or in memory of their own, and may be stored as anything from
//! bits to GGUF blocks. Arithmetic happens in f32, f64, i64 or bool, widened on use. What multiplies large weights does
//! not call the arithmetic here: it widens tile by tile through [`Tensor::widen_block`].
//!
//! * `bytes`: where the bytes live. * `draft`: a matrix in the making. * `dtype`: element types. * `widen`: stored elements → numbers.
//! * `element`: the four types of arithmetic. * `drive`: loops over elements and lanes, on all cores, polled.
//! * `create`, `elementwise`, `reduce`, `order`, `index`, `join`, `relate`, `display`: everything of the script surface that
//!   is not a product.

mod bytes;
mod create;
mod display;
mod draft;
mod drive;
mod dtype;
mod element;
mod elementwise;
mod index;
mod join;
mod order;
mod reduce;
mod relate;
mod widen;

pub use bytes::Bytes;
pub(crate) use bytes::{Held, discard};
pub(crate) use draft::Draft;
pub use dtype::{Block, Class, DType};
pub use elementwise::{Arithmetic, Comparison, Logic, Number, Operand};
pub use index::Index;
pub use order::{TopK, Unique};
pub use relate::Histogram;

use crate::error::{Error, Result};
use crate::work::Work;
use bytes::Source;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// An n-dimensional array. Copies share their bytes; operations return new tensors.
#[derive(Clone)]
pub struct Tensor {
    bytes: Bytes,
    dtype: DType,
    shape: Vec<usize>,
    /// In elements. A block dtype's elements are numbered through its blocks.
    strides: Vec<isize>,
    /// In elements.
    offset: usize,
}

/// Number of elements of a shape, or an error when it overflows.
pub fn element_count(shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, d| n.checked_mul(*d))
        .filter(|n| isize::try_from(*n).is_ok())
        .ok_or_else(|| Error::limit(format!("the shape {shape:?} has more elements than memory can address")))
}

fn contiguous_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1) as isize;
    }
    strides
}

impl Tensor {
    // ---- construction -------------------------------------------------------------------------------------------

    /// A tensor over stored bytes, row-major.
    ///
    /// # Errors
    /// The bytes are not exactly as many as shape and dtype ask for.
    pub fn from_bytes(bytes: Bytes, dtype: DType, shape: &[usize]) -> Result<Self> {
        let elements = element_count(shape)?;
        let needed = dtype.bytes_of(elements).ok_or_else(|| {
            Error::format(format!(
                "{elements} elements (shape {shape:?}) do not fill whole {dtype} blocks of {}",
                dtype.block_len()
            ))
        })?;
        if dtype.block_len() > 1 && shape.last().is_some_and(|d| d % dtype.block_len() != 0) {
            return Err(Error::format(format!(
                "rows of shape {shape:?} do not fill whole {dtype} blocks of {}",
                dtype.block_len()
            )));
        }
        if needed != bytes.len() {
            return Err(Error::format(format!("shape {shape:?} as {dtype} needs {needed} bytes, but there are {}", bytes.len())));
        }
        Ok(Tensor { bytes, dtype, strides: contiguous_strides(shape), shape: shape.to_vec(), offset: 0 })
    }

    /// A view of stored bytes by strides in elements, as PyTorch stores its tensors: elements may be shared and left out.
    ///
    /// # Errors
    /// It reaches beyond the bytes.
    pub fn strided(bytes: Bytes, dtype: DType, shape: &[usize], strides: &[usize], offset: usize) -> Result<Self> {
        if shape.len() != strides.len() {
            return Err(Error::format(format!("its shape {shape:?} and its strides {strides:?} differ in length")));
        }
        if element_count(shape)? == 0 {
            return Self::from_bytes(Bytes::from_static(&[]), dtype, shape);
        }
        // The stride of a single index counts for nothing.
        let step = |(d, s): (&usize, &usize)| if *d == 1 { Some(0) } else { (d - 1).checked_mul(*s) };
        let last = shape.iter().zip(strides).try_fold(offset, |last, dim| last.checked_add(step(dim)?));
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(dtype.block_bytes()));
        if dtype.block_len() > 1 || end.is_none_or(|end| end > bytes.len()) {
            return Err(Error::format(format!(
                "the shape {shape:?} with strides {strides:?} from element {offset} reaches beyond its {} bytes",
                bytes.len()
            )));
        }
        let strides = shape.iter().zip(strides).map(|(d, s)| if *d == 1 { 0 } else { *s as isize }).collect();
        Ok(Tensor { bytes, dtype, shape: shape.to_vec(), strides, offset })
    }

    fn owned(source: Source, dtype: DType, shape: Vec<usize>, len: usize) -> Result<Self> {
        let elements = element_count(&shape)?;
        if elements != len {
            return Err(Error::shape(format!("{len} numbers do not fill the shape {shape:?}, which has {elements} elements")));
        }
        Ok(Tensor { bytes: Bytes::from_source(source), dtype, strides: contiguous_strides(&shape), shape, offset: 0 })
    }

    /// An f32 tensor, row-major.
    ///
    /// # Errors
    /// The data does not fill the shape. (The same holds for the other `from_…`.)
    pub fn from_f32(data: Vec<f32>, shape: &[usize]) -> Result<Self> {
        let len = data.len();
        Self::owned(Source::F32(Arc::new(data)), DType::F32, shape.to_vec(), len)
    }

    /// An f64 tensor, row-major.
    pub fn from_f64(data: Vec<f64>, shape: &[usize]) -> Result<Self> {
        let len = data.len();
        Self::owned(Source::F64(Arc::new(data)), DType::F64, shape.to_vec(), len)
    }

    /// An i64 tensor, row-major.
    pub fn from_i64(data: Vec<i64>, shape: &[usize]) -> Result<Self> {
        let len = data.len();
        Self::owned(Source::I64(Arc::new(data)), DType::I64, shape.to_vec(), len)
    }

    /// A bool tensor, row-major.
    pub fn from_bool(data: Vec<bool>, shape: &[usize]) -> Result<Self> {
        let len = data.len();
        Self::owned(Source::Bool(Arc::new(data)), DType::Bool, shape.to_vec(), len)
    }

    /// A 1-D f32 tensor.
    pub fn vector(data: Vec<f32>) -> Self {
        let shape = vec![data.len()];
        Tensor { bytes: Bytes::from_source(Source::F32(Arc::new(data))), dtype: DType::F32, shape, strides: vec![1], offset: 0 }
    }

    /// A 1-D f64 tensor.
    pub fn vector_f64(data: Vec<f64>) -> Self {
        let shape = vec![data.len()];
        Tensor { bytes: Bytes::from_source(Source::F64(Arc::new(data))), dtype: DType::F64, shape, strides: vec![1], offset: 0 }
    }

    /// A 1-D i64 tensor.
    pub fn vector_i64(data: Vec<i64>) -> Self {
        let shape = vec![data.len()];
        Tensor { bytes: Bytes::from_source(Source::I64(Arc::new(data))), dtype: DType::I64, shape, strides: vec![1], offset: 0 }
    }

    /// A 0-D f64 tensor.
    pub fn scalar(value: f64) -> Self {
        let bytes = Bytes::from_source(Source::F64(Arc::new(vec![value])));
        Tensor { bytes, dtype: DType::F64, shape: Vec::new(), strides: Vec::new(), offset: 0 }
    }

    // ---- what it is ---------------------------------------------------------------------------------------------

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Number of dimensions.
    pub fn ndim(&self) -> usize {
        self.shape.len()
    }
    /// How elements are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }
    /// Element strides.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }
    /// True when the bytes lie in a mapped file.
    pub fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }
    /// True when elements follow each other in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1isize;
        self.shape.iter().zip(&self.strides).rev().all(|(d, s)| {
            let fits = *d <= 1 || *s == expected;
            expected *= (*d).max(1) as isize;
            fits
        })
    }
    /// The two dimensions of a matrix.
    ///
    /// # Errors
    /// It is not 2-D; `what` names it in the message.
    pub fn matrix_shape(&self, what: &str) -> Result<(usize, usize)> {
        match self.shape[..] {
            [rows, cols] => Ok((rows, cols)),
            _ => Err(Error::shape(format!("{what} must be a matrix, but its shape is {:?}", self.shape))),
        }
    }

    // ---- views --------------------------------------------------------------------------------------------------

    /// Dimensions in another order, sharing the bytes.
    ///
    /// # Errors
    /// `order` is not a permutation of the dimensions.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if sorted != (0..self.ndim()).collect::<Vec<_>>() {
            return Err(Error::shape(format!("{order:?} is not an order of the {} dimensions of {:?}", self.ndim(), self.shape)));
        }
        let mut out = self.clone();
        out.shape = order.iter().map(|i| self.shape[*i]).collect();
        out.strides = order.iter().map(|i| self.strides[*i]).collect();
        Ok(out)
    }

    /// The transposed matrix (all dimensions reversed), sharing the bytes.
    pub fn t(&self) -> Self {
        let mut out = self.clone();
        out.shape.reverse();
        out.strides.reverse();
        out
    }

    /// Indices `range` of dimension `dim`, sharing the bytes.
    ///
    /// # Errors
    /// No such dimension, or the range reaches past its end.
    pub fn narrow(&self, dim: usize, range: Range<usize>) -> Result<Self> {
        let size = *self
            .shape
            .get(dim)
            .ok_or_else(|| Error::shape(format!("no dimension {dim} in a tensor of shape {:?}", self.shape)))?;
        if range.start > range.end || range.end > size {
            return Err(Error::shape(format!(
                "{}..{} is outside dimension {dim}, which has size {size}",
                range.start, range.end
            )));
        }
        let mut out = self.clone();
        out.shape[dim] = range.len();
        if !range.is_empty() {
            out.offset = out.offset.wrapping_add_signed(self.strides[dim] * range.start as isize);
        }
        Ok(out)
    }

    /// One index of dimension `dim`, which disappears; shares the bytes.
    ///
    /// # Errors
    /// No such dimension, or the index lies outside it.
    pub fn select(&self, dim: usize, index: usize) -> Result<Self> {
        let mut out = self.narrow(dim, index..index.saturating_add(1))?;
        out.shape.remove(dim);
        out.strides.remove(dim);
        Ok(out)
    }

    /// The same elements in another shape; a view where the memory order allows, else a copy.
    ///
    /// # Errors
    /// The new shape has another number of elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if element_count(shape)? != self.numel() {
            return Err(Error::shape(format!(
                "a tensor of shape {:?} ({} elements) cannot become {shape:?}",
                self.shape,
                self.numel()
            )));
        }
        let mut out = if self.is_contiguous() { self.clone() } else { self.contiguous() };
        out.shape = shape.to_vec();
        out.strides = contiguous_strides(shape);
        Ok(out)
    }

    /// A view in which dimensions of size 1 are repeated to `shape`.
    ///
    /// # Errors
    /// The shapes do not broadcast.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Self> {
        element_count(shape)?;
        let missing = shape.len().checked_sub(self.ndim());
        let fits = missing.is_some_and(|m| self.shape.iter().zip(&shape[m..]).all(|(have, want)| have == want || *have == 1));
        let Some(missing) = missing.filter(|_| fits) else {
            return Err(Error::shape(format!("a tensor of shape {:?} does not broadcast to {shape:?}", self.shape)));
        };
        let mut out = self.clone();
        out.strides = vec![0; missing];
        for (i, want) in shape[missing..].iter().enumerate() {
            out.strides.push(if self.shape[i] == *want { self.strides[i] } else { 0 });
        }
        out.shape = shape.to_vec();
        Ok(out)
    }

    /// The same elements in row-major order: itself where they are, else a copy in arithmetic precision.
    pub fn contiguous(&self) -> Self {
        if self.is_contiguous() {
            return self.clone();
        }
        match self.dtype.class() {
            Class::F64 => Tensor::of(self.to_f64(), &self.shape),
            Class::F32 => Tensor::of(self.to_f32(), &self.shape),
            Class::Int => Tensor::of(self.to_i64(), &self.shape),
            Class::Bool => Tensor::of(self.to_bool(), &self.shape),
        }
    }

    // ---- numbers ------------------------------------------------------------------------------------------------

    /// All elements as f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values().into_owned()
    }

    /// All elements as f64, row-major.
    pub fn to_f64(&self) -> Vec<f64> {
        self.values().into_owned()
    }

    /// All elements as i64, row-major; fractions are cut off.
    pub fn to_i64(&self) -> Vec<i64> {
        self.values().into_owned()
    }

    /// All elements as truth values, row-major: non-zero is true.
    pub fn to_bool(&self) -> Vec<bool> {
        self.values().into_owned()
    }

    /// As [`Tensor::to_f64`], on all cores, and polled.
    ///
    /// # Errors
    /// The user interrupted, or memory is short.
    pub fn read_f64(&self, work: &Work) -> Result<Vec<f64>> {
        let t = self.unblocked(work)?;
        drive::fill(t.numel(), work, &|start, out| t.read_into(start, out))
    }

    /// All elements as f64, row-major, read piece by piece: without memory for all of them.
    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        const PIECE: usize = 1 << 12;
        let (t, len) = (self.readable(), self.numel());
        (0..len).step_by(PIECE).flat_map(move |start| {
            let mut piece = vec![0.0; PIECE.min(len - start)];
            t.read_into(start, &mut piece);
            piece
        })
    }

    /// The elements without a copy, where they already lie as f32 in row-major order.
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.borrow()
    }

    /// The elements without a copy, where they already lie as f64 in row-major order.
    pub fn as_f64(&self) -> Option<&[f64]> {
        self.borrow()
    }

    /// The bytes of a u8 tensor, where they lie in row-major order.
    pub fn as_u8(&self) -> Option<&[u8]> {
        let range = self.offset..self.offset + self.numel();
        let fits = self.dtype == DType::U8 && self.is_contiguous();
        fits.then(|| self.bytes.as_slice().get(range)).flatten()
    }

    /// All elements as f32, row-major, borrowed where possible.
    pub fn f32_cow(&self) -> Cow<'_, [f32]> {
        self.values()
    }

    /// Says that a pass is over with these rows of a matrix: where it is a large one (256 MiB) of a mapped file, they need not stay
    /// in memory. Passes over a vocabulary of gigabytes then take no more memory than others. A temporary file's never need to.
    pub(crate) fn release_rows(&self, rows: Range<usize>) {
        const LARGE: usize = 1 << 28;
        let whole = self.ndim() == 2 && self.strides[1] == 1 && self.strides[0] == self.shape[1] as isize;
        let at = |row: usize| self.dtype.bytes_of(self.offset + row * self.shape[1]);
        if whole
            && rows.end <= self.shape[0]
            && self.dtype.bytes_of(self.numel()).is_some_and(|size| size >= LARGE || self.bytes.is_filed())
            && let (Some(start), Some(end)) = (at(rows.start), at(rows.end))
        {
            self.bytes.release(start..end);
        }
    }

    /// Widens the block `rows × cols` of a matrix into `out`, row-major, `rows.len() × cols.len()`: the way in which
    /// everything that multiplies reads its weights. Fast where the last dimension's stride is 1; a transposed matrix
    /// is better widened through [`Tensor::t`] (see [`Tensor::is_transposed`]).
    ///
    /// The caller guarantees a 2-D tensor, ranges inside it and a buffer of the right size.
    pub fn widen_block(&self, rows: Range<usize>, cols: Range<usize>, out: &mut [f32]) {
        debug_assert!(self.ndim() == 2 && rows.end <= self.shape[0] && cols.end <= self.shape[1]);
        debug_assert_eq!(out.len(), rows.len() * cols.len());
        let (row_stride, col_stride) = (self.strides[0], self.strides[1]);
        let bytes = self.bytes.as_slice();
        let at = |r: usize, c: usize| self.offset.wrapping_add_signed(row_stride * r as isize + col_stride * c as isize);
        let width = cols.len();
        if width == 0 || rows.is_empty() {
            return;
        }
        if col_stride == 1 || width == 1 {
            for (run, r) in out.chunks_exact_mut(width).zip(rows) {
                widen::to_f32(self.dtype, bytes, at(r, cols.start), run);
            }
        } else if row_stride == 1 {
            let mut column = vec![0f32; rows.len()];
            for (j, c) in cols.enumerate() {
                widen::to_f32(self.dtype, bytes, at(rows.start, c), &mut column);
                for (i, value) in column.iter().enumerate() {
                    out[i * width + j] = *value;
                }
            }
        } else {
            for (run, r) in out.chunks_exact_mut(width).zip(rows) {
                for (value, c) in run.iter_mut().zip(cols.clone()) {
                    widen::to_f32(self.dtype, bytes, at(r, c), std::slice::from_mut(value));
                }
            }
        }
    }

    /// True for a matrix whose columns, not rows, lie contiguously: widen its transpose instead.
    pub fn is_transposed(&self) -> bool {
        self.ndim() == 2 && self.strides[0] == 1 && self.strides[1] != 1
    }

    /// Row `index` of a matrix as f32.
    ///
    /// # Errors
    /// Not a matrix, or no such row.
    pub fn row(&self, index: usize) -> Result<Vec<f32>> {
        self.matrix_shape("a tensor whose row is asked for")?;
        Ok(self.select(0, index)?.to_f32())
    }

    /// The only element.
    ///
    /// # Errors
    /// There is not exactly one.
    pub fn item(&self) -> Result<f64> {
        let mut value = [0.0];
        if self.numel() != 1 {
            return Err(Error::shape(format!("item() needs a tensor of one element, but its shape is {:?}", self.shape)));
        }
        self.read_into(0, &mut value);
        Ok(value[0])
    }

    /// The f32 elements for writing; copied first when shared or stored otherwise. Makes the tensor contiguous f32.
    pub fn make_mut_f32(&mut self) -> &mut [f32] {
        self.make_mut()
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor {:?} {}", self.shape, self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize]) -> Tensor {
        Tensor::from_f32((0..shape.iter().product::<usize>()).map(|v| v as f32).collect(), shape).unwrap()
    }

    #[test]
    fn views_share_and_read_in_row_major_order() {
        let t = counting(&[2, 3, 4]).permute(&[2, 0, 1]).unwrap();
        assert_eq!(t.shape(), [4, 2, 3]);
        assert_eq!(t.to_f32()[..6], [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]);
        assert_eq!(t.narrow(0, 1..3).unwrap().select(1, 1).unwrap().to_f32(), [13.0, 17.0, 21.0, 14.0, 18.0, 22.0]);
    }

    #[test]
    fn widen_block_agrees_in_both_orders() {
        let t = counting(&[5, 7]);
        let mut straight = vec![0f32; 6];
        t.widen_block(1..3, 2..5, &mut straight);
        assert_eq!(straight, [9.0, 10.0, 11.0, 16.0, 17.0, 18.0]);
        let mut turned = vec![0f32; 6];
        t.t().widen_block(2..5, 1..3, &mut turned);
        assert_eq!(turned, [9.0, 16.0, 10.0, 17.0, 11.0, 18.0]);
    }

    #[test]
    fn broadcasting_repeats_without_copying() {
        let t = counting(&[3, 1]).broadcast_to(&[2, 3, 2]).unwrap();
        assert_eq!(t.to_f32(), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
        assert!(counting(&[3]).broadcast_to(&[2]).is_err());
    }

    #[test]
    fn writing_to_a_copy_leaves_the_original() {
        let a = counting(&[4]);
        let mut b = a.clone();
        b.make_mut_f32()[0] = 9.0;
        assert_eq!((a.to_f32()[0], b.to_f32()[0]), (0.0, 9.0));
    }

    #[test]
    fn memory_is_given_back_with_the_last_copy_only() {
        let values: Vec<f32> = (0..6_000_000).map(|v| v as f32).collect();
        let whole = Tensor::from_f32(values.clone(), &[2000, 3000]).unwrap();
        let part = whole.narrow(0, 1500..2000).unwrap();
        drop(whole);
        assert!(part.as_f32() == Some(&values[4_500_000..]));
        // More than are dropped at once.
        let many: Vec<Tensor> = (0..12).map(|_| Tensor::vector(values.clone())).collect();
        drop((many, part));
    }

    #[test]
    fn numbers_are_those_of_the_whole() {
        let t = counting(&[70, 90]).t();
        let work = Work::silent(2).unwrap();
        assert_eq!(t.numbers().collect::<Vec<_>>(), t.to_f64());
        assert_eq!(t.read_f64(&work).unwrap(), t.to_f64());
        work.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(t.read_f64(&work).unwrap_err().is_interrupted());
    }

    #[test]
    fn shapes_that_overflow_are_refused() {
        assert!(Tensor::from_bytes(Bytes::from(vec![]), DType::F32, &[usize::MAX, 2]).is_err());
    }
}
