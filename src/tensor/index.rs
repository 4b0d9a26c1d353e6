//! Picking elements by index, range, list and mask, and writing to them.

use super::bytes::Held;
use super::drive::{CHUNK, fill, read};
use super::element::{Element, by_class};
use super::elementwise::Operand;
use super::{Class, Tensor, element_count};
use crate::error::{Error, Result};
use crate::work::Work;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What stands between the brackets of `t[…]`; it picks along the first dimension.
#[derive(Clone, Debug)]
pub enum Index {
    /// One index: the dimension disappears.
    At(i64),
    /// A range; an open end is the dimension's size.
    Range(i64, Option<i64>),
    /// Indices in any order, an integer tensor.
    List(Tensor),
    /// A bool tensor over the first dimensions.
    Mask(Tensor),
}

/// Position of an index in a dimension of `size`; negative ones count from the end.
fn position(index: i64, size: usize) -> Result<usize> {
    let from_start = if index < 0 { index.checked_add_unsigned(size as u64).unwrap_or(-1) } else { index };
    usize::try_from(from_start).ok().filter(|i| *i < size).ok_or_else(|| {
        let error = Error::input(format!("index {index} is out of range for a dimension of size {size}"));
        if size == 0 {
            error.help("it is empty")
        } else {
            error.help(format!("indices run from 0 to {}, or from -{size} to -1", size - 1))
        }
    })
}

/// The positions of a range; negative ends count from the end. A range that ends before it starts is empty.
fn positions(start: i64, end: Option<i64>, size: usize) -> Result<Range<usize>> {
    let resolve = |end: i64| -> Result<usize> {
        let from_start = if end < 0 { end.checked_add_unsigned(size as u64).unwrap_or(-1) } else { end };
        usize::try_from(from_start).ok().filter(|i| *i <= size).ok_or_else(|| {
            Error::input(format!("the range end {end} is out of range for a dimension of size {size}"))
                .help(format!("ends run from 0 to {size}, or from -{size} to -1; an open end (`2..`) is the size"))
        })
    };
    let (start, end) = (resolve(start)?, end.map_or(Ok(size), resolve)?);
    Ok(start..end.max(start))
}

impl Tensor {
    fn first_dim(&self) -> Result<usize> {
        self.shape
            .first()
            .copied()
            .ok_or_else(|| Error::shape("a tensor without dimensions cannot be indexed").help("use item()"))
    }

    /// `t[index]`. A view for [`Index::At`] and [`Index::Range`], else a copy.
    ///
    /// # Errors
    /// An index out of range; a mask or list that does not fit.
    pub fn get(&self, index: &Index, work: &Work) -> Result<Tensor> {
        let size = self.first_dim()?;
        match index {
            Index::At(i) => self.select(0, position(*i, size)?),
            Index::Range(start, end) => self.narrow(0, positions(*start, *end, size)?),
            Index::List(list) => self.index_select(0, list, work),
            Index::Mask(mask) => self.mask_select(mask, work),
        }
    }

    /// The element at one index for each dimension, without dimensions.
    ///
    /// # Errors
    /// An index out of range, or not as many indices as dimensions.
    pub fn at(&self, index: &[i64]) -> Result<Tensor> {
        if index.len() != self.ndim() {
            return Err(Error::shape(format!("{} indices for a tensor of shape {:?}", index.len(), self.shape))
                .help("at() takes one index for each dimension"));
        }
        index.iter().try_fold(self.clone(), |t, i| {
            let size = t.first_dim()?;
            t.select(0, position(*i, size)?)
        })
    }

    /// Indices `start..end` of a dimension, a view. Negative ends count from the end, an absent one is the size.
    ///
    /// # Errors
    /// No such dimension; an end out of range.
    pub fn slice(&self, dim: i64, start: i64, end: Option<i64>) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        self.narrow(dim, positions(start, end, self.shape[dim])?)
    }

    /// The given indices of a dimension, in their order. A list of n dimensions puts n in the dimension's place.
    ///
    /// # Errors
    /// The list is not of integers, or an index is out of range.
    pub fn index_select(&self, dim: i64, list: &Tensor, work: &Work) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        let rows = list.indices(self.shape[dim], work)?;
        let shape = [&self.shape[..dim], list.shape(), &self.shape[dim + 1..]].concat();
        self.pick(dim, &rows, &shape, work)
    }

    /// Integer elements as positions in a dimension of `size`.
    fn indices(&self, size: usize, work: &Work) -> Result<Held<usize>> {
        // An empty list has no type of its own.
        if self.class() != Class::Int && self.numel() > 0 {
            return Err(Error::input(format!("indices must be integers, not {self:?}")).help("convert them: t.to(\"i64\")"));
        }
        let (view, wrong) = (self.unblocked(work)?, AtomicUsize::new(usize::MAX));
        let rows = fill(self.numel(), work, &|start, out: &mut [usize]| {
            let mut scratch = Vec::new();
            let indices = read::<i64>(&view, start, out.len(), &mut scratch);
            for (i, (row, index)) in out.iter_mut().zip(indices).enumerate() {
                match position(*index, size) {
                    Ok(place) => *row = place,
                    Err(_) => drop(wrong.fetch_min(start + i, Ordering::Relaxed)),
                }
            }
        })?;
        let mut first = [0i64];
        if let Some(wrong) = Some(wrong.into_inner()).filter(|wrong| *wrong < self.numel()) {
            view.read_into(wrong, &mut first);
            position(first[0], size)?;
        }
        Ok(Held::new(rows))
    }

    fn pick(&self, dim: usize, rows: &[usize], shape: &[usize], work: &Work) -> Result<Tensor> {
        let t = self.unblocked(work)?;
        let (size, inner) = (self.shape[dim], self.shape[dim + 1..].iter().product::<usize>());
        let len = element_count(shape)?;
        by_class!(self.class(), T => {
            let data = fill(len, work, &|start, out: &mut [T]| {
                let mut at = 0;
                while at < out.len() {
                    let (row, column) = ((start + at) / inner, (start + at) % inner);
                    let (outer, listed) = (row / rows.len(), row % rows.len());
                    let n = (inner - column).min(out.len() - at);
                    t.read_into((outer * size + rows[listed]) * inner + column, &mut out[at..at + n]);
                    at += n;
                }
            })?;
            Ok(Tensor::of(data, shape))
        })
    }

    /// `out[i][j]… = t[…index[i][j]……]` with the index in place of dimension `dim`; the shape is that of `index`
    /// (torch.gather).
    ///
    /// # Errors
    /// `index` is not of integers, has another number of dimensions or a larger other one, or an index is out of range.
    pub fn gather(&self, dim: i64, index: &Tensor, work: &Work) -> Result<Tensor> {
        let dim = self.dim(dim)?;
        let fits = index.ndim() == self.ndim() && (0..self.ndim()).all(|d| d == dim || index.shape[d] <= self.shape[d]);
        if !fits {
            return Err(Error::shape(format!(
                "gather: an index of shape {:?} does not fit a tensor of shape {:?}",
                index.shape, self.shape
            ))
            .help("both need the same number of dimensions; except along `dim` the index may not be larger"));
        }
        let mut t = self.unblocked(work)?;
        for d in (0..self.ndim()).filter(|d| *d != dim) {
            t = t.narrow(d, 0..index.shape[d])?;
        }
        let rows = index.indices(self.shape[dim], work)?;
        let (size, listed) = (self.shape[dim], index.shape[dim]);
        let inner: usize = index.shape[dim + 1..].iter().product();
        by_class!(self.class(), T => {
            let data = fill(rows.len(), work, &|start, out: &mut [T]| {
                for (i, value) in out.iter_mut().enumerate() {
                    let flat = start + i;
                    let (outer, column) = (flat / (inner * listed), flat % inner);
                    t.read_into((outer * size + rows[flat]) * inner + column, std::slice::from_mut(value));
                }
            })?;
            Ok(Tensor::of(data, &index.shape))
        })
    }

    /// The elements where a mask over the first dimensions holds: `[how many, other dimensions…]`.
    ///
    /// # Errors
    /// The mask is not bool, or its shape is not that of the first dimensions.
    pub fn mask_select(&self, mask: &Tensor, work: &Work) -> Result<Tensor> {
        let rows = self.masked_rows(mask, work)?;
        let rest = &self.shape[mask.ndim()..];
        let lead: usize = mask.shape.iter().product();
        let t = self.row_major(work)?.reshape(&[&[lead], rest].concat())?;
        t.pick(0, &rows, &[&[rows.len()], rest].concat(), work)
    }

    fn masked_rows(&self, mask: &Tensor, work: &Work) -> Result<Held<usize>> {
        mask.need_bool("a mask")?;
        if mask.ndim() == 0 || !self.shape.starts_with(&mask.shape) {
            return Err(Error::shape(format!(
                "a mask of shape {:?} does not fit a tensor of shape {:?}",
                mask.shape, self.shape
            ))
            .help("a mask has the shape of the tensor's first dimensions"));
        }
        mask.places(work)
    }

    /// The places of all non-zero elements, row-major.
    pub(super) fn places(&self, work: &Work) -> Result<Held<usize>> {
        let (view, mut places) = (self.unblocked(work)?, Held::new(Vec::new()));
        let mut buffer = vec![false; CHUNK.min(self.numel())];
        for start in (0..self.numel()).step_by(CHUNK) {
            work.check()?;
            let part = &mut buffer[..CHUNK.min(self.numel() - start)];
            view.read_into(start, part);
            places.extend(part.iter().enumerate().filter(|(_, set)| **set).map(|(i, _)| start + i));
        }
        Ok(places)
    }

    /// `t[index] = value`, with broadcasting. The value is brought to this tensor's arithmetic; other copies of the tensor
    /// do not see the change. Stored 16-bit and quantised numbers become f32 first.
    ///
    /// # Errors
    /// An index out of range; shapes that do not broadcast; a fraction written to integers, or anything but 0 and 1 to bool.
    pub fn set(&mut self, index: &Index, value: impl Into<Operand>, work: &Work) -> Result<()> {
        let value = value.into().tensor();
        let size = self.first_dim()?;
        let (rows, taken, lead) = match index {
            Index::At(i) => (Held::new(vec![position(*i, size)?]), 1, None),
            Index::Range(start, end) => {
                let rows = Held::new(positions(*start, *end, size)?.collect());
                let lead = vec![rows.len()];
                (rows, 1, Some(lead))
            }
            Index::List(list) => (list.indices(size, work)?, 1, Some(list.shape.clone())),
            Index::Mask(mask) => {
                let rows = self.masked_rows(mask, work)?;
                let lead = vec![rows.len()];
                (rows, mask.ndim(), Some(lead))
            }
        };
        let rest = self.shape[taken..].to_vec();
        let target = [lead.unwrap_or_default(), rest.clone()].concat();
        let value = value.broadcast_to(&target).map_err(|_| {
            Error::shape(format!("a value of shape {:?} does not broadcast to the place's shape {target:?}", value.shape))
        })?;
        let value = value.unblocked(work)?;
        check_fits(&value, self.class(), work)?;
        let row = rest.iter().product::<usize>();
        by_class!(self.class(), T => {
            // All or nothing: many elements are written to a copy, which an interruption leaves behind.
            if rows.len() * row > MANY {
                let mut copy = self.copied::<T>(work)?;
                write::<T>(copy.make_mut(), &rows, row, &value, &|| work.check())?;
                *self = copy;
                return Ok(());
            }
            self.make_own::<T>(work)?;
            write::<T>(self.make_mut(), &rows, row, &value, &|| Ok(()))
        })
    }
}

/// A value must not lose more than precision on its way into a tensor of another class.
fn check_fits(value: &Tensor, class: Class, work: &Work) -> Result<()> {
    if value.class() <= class || class >= Class::F32 {
        return Ok(());
    }
    let fits = |x: &f64| if class == Class::Bool { *x == 0.0 || *x == 1.0 } else { x.fract() == 0.0 && x.abs() < 9.2e18 };
    for (i, x) in value.numbers().enumerate() {
        if i % CHUNK == 0 {
            work.check()?;
        }
        if !fits(&x) {
            return Err(match class {
                Class::Bool => Error::input(format!("a bool tensor cannot hold {x}")),
                _ => Error::input(format!("an i64 tensor cannot hold {x}")).help("convert it first: t.to(\"f32\")"),
            });
        }
    }
    Ok(())
}

/// So many elements are written in some milliseconds, wherever they lie.
const MANY: usize = 1 << 20;

/// Writes `value` to some rows, until `check` fails.
fn write<T: Element>(data: &mut [T], rows: &[usize], row: usize, value: &Tensor, check: &dyn Fn() -> Result<()>) -> Result<()> {
    // Read in pieces, since a read by itself costs more than a row of one element.
    let several = (CHUNK / row.max(1)).max(1);
    let mut buffer = vec![T::default(); several * row];
    for (i, rows) in rows.chunks(several).enumerate() {
        check()?;
        let read = &mut buffer[..rows.len() * row];
        value.read_into(i * several * row, read);
        for (j, at) in rows.iter().enumerate() {
            data[at * row..(at + 1) * row].copy_from_slice(&read[j * row..(j + 1) * row]);
        }
    }
    Ok(())
}
