//! The four types in which arithmetic happens, and typed access to a tensor's elements.

use super::bytes::{Bytes, Source};
use super::drive::{each_row, fill, read};
use super::{Class, DType, Tensor, contiguous_strides, widen};
use crate::error::Result;
use crate::work::Work;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// bool, i64, f32 or f64.
pub(super) trait Element:
    Copy + Default + PartialEq + PartialOrd + Send + Sync + bytemuck::Zeroable + bytemuck::NoUninit + 'static
{
    /// The dtype under which values of this type are stored.
    const DTYPE: DType;

    /// Widens (or narrows) stored elements to this type.
    fn widen(dtype: DType, bytes: &[u8], start: usize, out: &mut [Self]);
    /// The stored elements, when they are of this type and aligned.
    fn view(bytes: &[u8]) -> Option<&[Self]>;
    /// Memory that holds the elements.
    fn source(data: Arc<Vec<Self>>) -> Source;
    /// The elements of memory that holds this type.
    fn data(source: &mut Source) -> Option<&mut Arc<Vec<Self>>>;

    /// True for NaN.
    #[allow(clippy::eq_op)] // NaN is what differs from itself
    fn is_nan(self) -> bool {
        self != self
    }
    /// The order of sorting: NaN after everything else, as in PyTorch and NumPy.
    fn order(&self, other: &Self) -> Ordering {
        self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
    }
}

macro_rules! element {
    ($ty:ty, $dtype:ident, $source:ident, $widen:ident, $view:expr) => {
        impl Element for $ty {
            const DTYPE: DType = DType::$dtype;
            fn widen(dtype: DType, bytes: &[u8], start: usize, out: &mut [Self]) {
                widen::$widen(dtype, bytes, start, out);
            }
            fn view(bytes: &[u8]) -> Option<&[Self]> {
                $view(bytes)
            }
            fn source(data: Arc<Vec<Self>>) -> Source {
                Source::$source(data)
            }
            fn data(source: &mut Source) -> Option<&mut Arc<Vec<Self>>> {
                if let Source::$source(data) = source { Some(data) } else { None }
            }
        }
    };
}

fn cast<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Option<&[T]> {
    bytemuck::try_cast_slice(bytes).ok()
}

element!(f32, F32, F32, to_f32, cast);
element!(f64, F64, F64, to_f64, cast);
element!(i64, I64, I64, to_i64, cast);
// A file's bytes may be anything but 0 and 1.
element!(bool, Bool, Bool, to_bool, |_| None);

/// Runs `$body` with `$T` as the type of arithmetic of a class.
macro_rules! by_class {
    ($class:expr, $T:ident => $body:expr) => {
        match $class {
            $crate::tensor::Class::Bool => {
                type $T = bool;
                $body
            }
            $crate::tensor::Class::Int => {
                type $T = i64;
                $body
            }
            $crate::tensor::Class::F32 => {
                type $T = f32;
                $body
            }
            $crate::tensor::Class::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}
pub(super) use by_class;

impl Tensor {
    /// A row-major tensor of data that fills the shape (the caller's duty).
    pub(super) fn of<T: Element>(data: Vec<T>, shape: &[usize]) -> Tensor {
        debug_assert_eq!(data.len(), shape.iter().product::<usize>());
        let bytes = Bytes::from_source(T::source(Arc::new(data)));
        Tensor { bytes, dtype: T::DTYPE, shape: shape.to_vec(), strides: contiguous_strides(shape), offset: 0 }
    }

    /// The arithmetic in which this tensor takes part.
    pub fn class(&self) -> Class {
        self.dtype.class()
    }

    /// Elements `start..start + out.len()` in row-major order; the caller keeps within the tensor.
    pub(super) fn read_into<T: Element>(&self, start: usize, out: &mut [T]) {
        let bytes = self.bytes.as_slice();
        if out.is_empty() {
            return;
        }
        if self.is_contiguous() {
            return T::widen(self.dtype, bytes, self.offset + start, out);
        }
        let Some((last, outer)) = self.shape.split_last() else { return };
        let step = self.strides[outer.len()];
        let (mut column, mut rest, mut at) = (start % last, start / last, self.offset as isize);
        let mut index = vec![0usize; outer.len()];
        for dim in (0..outer.len()).rev() {
            index[dim] = rest % outer[dim];
            rest /= outer[dim];
            at += self.strides[dim] * index[dim] as isize;
        }
        let mut out = out;
        loop {
            let (run, others) = out.split_at_mut((last - column).min(out.len()));
            let from = at + step * column as isize;
            match step {
                1 => T::widen(self.dtype, bytes, from as usize, run),
                0 => {
                    T::widen(self.dtype, bytes, from as usize, &mut run[..1]);
                    let first = run[0];
                    run.fill(first);
                }
                _ => {
                    for (i, value) in run.iter_mut().enumerate() {
                        T::widen(self.dtype, bytes, (from + step * i as isize) as usize, std::slice::from_mut(value));
                    }
                }
            }
            if others.is_empty() {
                return;
            }
            (out, column) = (others, 0);
            for dim in (0..outer.len()).rev() {
                index[dim] += 1;
                at += self.strides[dim];
                if index[dim] < outer[dim] {
                    break;
                }
                at -= self.strides[dim] * outer[dim] as isize;
                index[dim] = 0;
            }
        }
    }

    /// The elements without a copy, where they already lie as `T` in row-major order.
    pub(super) fn borrow<T: Element>(&self) -> Option<&[T]> {
        if self.dtype != T::DTYPE || !self.is_contiguous() {
            return None;
        }
        let (start, len) = (self.offset, self.numel());
        match self.bytes.source() {
            Source::Bool(_) => None,
            _ => T::view(self.bytes.as_slice().get(start * size_of::<T>()..(start + len) * size_of::<T>())?),
        }
    }

    /// The order of dimensions in which elements lie in memory, unless it is row-major already.
    pub(super) fn memory_order(&self) -> Option<Vec<usize>> {
        if self.is_contiguous() {
            return None;
        }
        let mut order: Vec<usize> = (0..self.ndim()).collect();
        order.sort_by_key(|dim| std::cmp::Reverse(self.strides[*dim]));
        Some(order)
    }

    /// Its dimensions in the given order, which is a permutation.
    pub(super) fn ordered(&self, order: &[usize]) -> Tensor {
        let mut out = self.clone();
        out.shape = order.iter().map(|dim| self.shape[*dim]).collect();
        out.strides = order.iter().map(|dim| self.strides[*dim]).collect();
        out
    }

    /// Undoes [`Tensor::ordered`].
    pub(super) fn unordered(&self, order: &[usize]) -> Tensor {
        let mut back = vec![0; order.len()];
        for (i, dim) in order.iter().enumerate() {
            back[*dim] = i;
        }
        self.ordered(&back)
    }

    /// Itself, or its numbers when it is a strided view of GGUF blocks: reading one element there costs a whole block.
    pub(super) fn unblocked(&self, work: &Work) -> Result<Tensor> {
        match self.blocked_order() {
            Some(order) => {
                let view = self.ordered(&order);
                let out = fill::<f32>(view.numel(), work, &|start, out| view.read_into(start, out))?;
                Ok(Tensor::of(out, &view.shape).unordered(&order))
            }
            None => Ok(self.clone()),
        }
    }

    /// As [`Tensor::unblocked`], in this thread.
    pub(super) fn readable(&self) -> Tensor {
        if self.blocked_order().is_some() { self.contiguous() } else { self.clone() }
    }

    /// The order in memory of a strided view of GGUF blocks.
    fn blocked_order(&self) -> Option<Vec<usize>> {
        self.memory_order().filter(|_| matches!(self.dtype, DType::Block(_)))
    }

    /// As [`Tensor::contiguous`]: the same elements in row-major order, itself where they are; on all cores, and polled.
    ///
    /// # Errors
    /// The user interrupted, or memory is short.
    pub fn row_major(&self, work: &Work) -> Result<Tensor> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        by_class!(self.class(), T => self.copied::<T>(work))
    }

    /// All elements, row-major, borrowed where possible.
    pub(super) fn values<T: Element>(&self) -> Cow<'_, [T]> {
        if let Some(values) = self.borrow() {
            return Cow::Borrowed(values);
        }
        let mut out = vec![T::default(); self.numel()];
        match self.blocked_order() {
            Some(order) => {
                let view = self.ordered(&order);
                let mut whole = vec![0f32; self.numel()];
                view.read_into(0, &mut whole);
                Tensor::of(whole, &view.shape).unordered(&order).read_into(0, &mut out);
            }
            None => self.read_into(0, &mut out),
        }
        Cow::Owned(out)
    }

    /// Gives the elements in row-major order to `put`, piece by piece, as little-endian bytes in the type that arithmetic gives
    /// them: f32, f64, i64, or bool as 0 and 1.
    ///
    /// # Errors
    /// What `put` gives; it ends there.
    pub fn each_piece<E>(&self, mut put: impl FnMut(&[u8]) -> std::result::Result<(), E>) -> std::result::Result<(), E> {
        const PIECE: usize = 1 << 16;
        let t = &self.readable();
        by_class!(self.class(), T => {
            let mut scratch = Vec::new();
            (0..t.numel()).step_by(PIECE).try_for_each(|start| {
                let piece = read::<T>(t, start, PIECE.min(t.numel() - start), &mut scratch);
                put(bytemuck::cast_slice(piece))
            })
        })
    }

    /// The elements for writing; copied first when shared or stored otherwise. Makes the tensor contiguous, of type `T`.
    pub(super) fn make_mut<T: Element>(&mut self) -> &mut [T] {
        if self.alone::<T>().is_none() {
            *self = Tensor::of(self.values::<T>().into_owned(), &self.shape);
        }
        self.alone().unwrap_or_default()
    }

    /// The elements where they lie contiguously as `T` and nobody shares them.
    fn alone<T: Element>(&mut self) -> Option<&mut [T]> {
        let (len, whole) = (self.numel(), self.offset == 0 && self.is_contiguous());
        let data = T::data(self.bytes.source_mut()).filter(|data| whole && data.len() == len)?;
        Arc::get_mut(data).map(Vec::as_mut_slice)
    }

    /// Copies the elements for [`Tensor::make_mut`] where that would have to: on all cores, and polled.
    pub(super) fn make_own<T: Element>(&mut self, work: &Work) -> Result<()> {
        if self.alone::<T>().is_none() {
            *self = self.copied::<T>(work)?;
        }
        Ok(())
    }

    /// The matrix as f32 with every row changed by `change(number, row)`, on all cores, and polled.
    ///
    /// # Errors
    /// Not a matrix, or the user's interruption.
    pub fn map_rows(mut self, work: &Work, change: impl Fn(usize, &mut [f32]) + Sync) -> Result<Tensor> {
        let (_, width) = self.matrix_shape("a tensor whose rows are changed")?;
        self.make_own::<f32>(work)?;
        each_row(self.make_mut(), width, work, &change)?;
        Ok(self)
    }

    /// A row-major copy, on all cores, and polled.
    pub(super) fn copied<T: Element>(&self, work: &Work) -> Result<Tensor> {
        let view = self.unblocked(work)?;
        let data = fill(view.numel(), work, &|start, out: &mut [T]| view.read_into(start, out))?;
        Ok(Tensor::of(data, &self.shape))
    }
}
