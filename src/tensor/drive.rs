//! Loops over elements and over lanes (the 1-D runs along one dimension): in chunks, on all cores where it pays, polled.
//!
//! The pieces into which work is cut depend on shapes and strides alone, never on the number of threads, and partial
//! results are merged in order.

use super::bytes::discard;
use super::element::Element;
use super::{Tensor, element_count};
use crate::error::{Error, Result};
use crate::work::Work;
use rayon::prelude::*;
use std::ops::Range;

/// Elements handled between two polls.
pub(super) const CHUNK: usize = 1 << 14;
/// Below so many elements one thread is faster than the hand-over to several.
const PARALLEL: usize = 1 << 18;
/// Elements of a lane folded into one partial result.
const PIECE: usize = 1 << 12;
/// Lanes read side by side where their elements do not follow each other in memory: a cache line's worth.
const ABREAST: usize = 16;
/// A lane so long that handling it as a whole cannot be polled often enough.
const LONG: usize = 1 << 19;

/// Zeroed memory, or an error when there is not enough.
pub(super) fn zeroed<T: Element>(len: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| {
        let mib = len.saturating_mul(size_of::<T>()) >> 20;
        Error::limit(format!("a result of {len} elements ({mib} MiB) does not fit into memory"))
    })
}

/// Fills a new run of `len` elements: `chunk(start, out)` gives elements `start..start + out.len()`.
pub(super) fn fill<T: Element>(len: usize, work: &Work, chunk: &(dyn Fn(usize, &mut [T]) + Sync)) -> Result<Vec<T>> {
    let mut out = zeroed::<T>(len)?;
    let run = |(i, part): (usize, &mut [T])| -> Result<()> {
        work.check()?;
        chunk(i * CHUNK, part);
        Ok(())
    };
    let filled = if len < PARALLEL {
        out.chunks_mut(CHUNK).enumerate().try_for_each(run)
    } else {
        work.install(|| out.par_chunks_mut(CHUNK).enumerate().try_for_each(run))
    };
    match filled {
        Ok(()) => Ok(out),
        Err(error) => {
            let size = out.capacity() * size_of::<T>();
            discard(out, size);
            Err(error)
        }
    }
}

/// Elements `start..start + len`, borrowed or read into `scratch`.
pub(super) fn read<'a, T: Element>(t: &'a Tensor, start: usize, len: usize, scratch: &'a mut Vec<T>) -> &'a [T] {
    if let Some(values) = t.borrow::<T>() {
        return &values[start..start + len];
    }
    scratch.resize(len, T::default());
    t.read_into(start, scratch);
    scratch
}

/// The tensor of `f(x)` for every element. Keeps the order in memory.
pub(super) fn map<A: Element, B: Element>(t: &Tensor, work: &Work, f: impl Fn(A) -> B + Sync) -> Result<Tensor> {
    let t = t.unblocked(work)?;
    let order = t.memory_order();
    let view = order.as_ref().map_or_else(|| t.clone(), |order| t.ordered(order));
    let out = fill(view.numel(), work, &|start, out: &mut [B]| {
        let mut scratch = Vec::new();
        let run = read::<A>(&view, start, out.len(), &mut scratch);
        for (y, x) in out.iter_mut().zip(run) {
            *y = f(*x);
        }
    })?;
    let out = Tensor::of(out, view.shape());
    Ok(order.map_or_else(|| out.clone(), |order| out.unordered(&order)))
}

/// The tensor of `f(x, y)` for every pair of elements of two tensors, broadcast to one shape.
pub(super) fn zip<A: Element, B: Element>(a: &Tensor, b: &Tensor, work: &Work, f: impl Fn(A, A) -> B + Sync) -> Result<Tensor> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    let (a, b) = (a.unblocked(work)?, b.unblocked(work)?);
    let order = [&a, &b].into_iter().find(|t| t.shape() == shape).and_then(Tensor::memory_order);
    let wide = |t: &Tensor| -> Result<Tensor> {
        let t = t.broadcast_to(&shape)?;
        Ok(order.as_ref().map_or_else(|| t.clone(), |order| t.ordered(order)))
    };
    let (a, b) = (wide(&a)?, wide(&b)?);
    let out = fill(element_count(&shape)?, work, &|start, out: &mut [B]| {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let left = read::<A>(&a, start, out.len(), &mut left);
        let right = read::<A>(&b, start, out.len(), &mut right);
        for ((z, x), y) in out.iter_mut().zip(left).zip(right) {
            *z = f(*x, *y);
        }
    })?;
    let out = Tensor::of(out, a.shape());
    Ok(order.map_or_else(|| out.clone(), |order| out.unordered(&order)))
}

/// `a` where `condition` holds, else `b`, broadcast to one shape.
pub(super) fn choose<A: Element>(condition: &Tensor, a: &Tensor, b: &Tensor, work: &Work) -> Result<Tensor> {
    let shape = broadcast_shape(condition.shape(), &broadcast_shape(a.shape(), b.shape())?)?;
    let wide = |t: &Tensor| t.unblocked(work)?.broadcast_to(&shape);
    let (condition, a, b) = (wide(condition)?, wide(a)?, wide(b)?);
    let out = fill(element_count(&shape)?, work, &|start, out: &mut [A]| {
        let (mut mask, mut other) = (vec![false; out.len()], Vec::new());
        condition.read_into(start, &mut mask);
        a.read_into(start, out);
        let other = read::<A>(&b, start, out.len(), &mut other);
        for ((z, y), keep) in out.iter_mut().zip(other).zip(mask) {
            if !keep {
                *z = *y;
            }
        }
    })?;
    Ok(Tensor::of(out, &shape))
}

/// The shape to which two shapes broadcast: aligned at the last dimension, sizes of 1 repeated.
pub(super) fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let ndim = a.len().max(b.len());
    let size = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(ndim).map_or(1, |i| shape[i]);
    (0..ndim)
        .map(|i| match (size(a, i), size(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Error::shape(format!("the shapes {a:?} and {b:?} do not broadcast"))
                .help("from the last dimension on, sizes must be equal, or one of them 1")),
        })
        .collect()
}

/// The lanes of a tensor along one dimension, or the single lane of all its elements.
struct Lanes {
    /// The tensor itself when `abreast`, else with the lanes' dimension last.
    view: Tensor,
    /// Elements of a lane.
    len: usize,
    /// Number of lanes.
    count: usize,
    /// Elements from one element of a lane to the next, in the tensor's row-major order.
    inner: usize,
    /// Lanes are read side by side, row by row.
    abreast: bool,
}

impl Lanes {
    fn new(t: &Tensor, dim: Option<usize>, work: &Work) -> Result<Self> {
        let t = t.unblocked(work)?;
        let Some(dim) = dim else {
            let len = t.numel();
            return Ok(Lanes { view: t, len, count: 1, inner: 1, abreast: false });
        };
        let shape = t.shape();
        let (len, inner) = (shape[dim], shape[dim + 1..].iter().product::<usize>());
        let count = shape[..dim].iter().product::<usize>() * inner;
        let abreast = inner >= ABREAST && t.strides()[dim] != 1;
        let view = if abreast { t } else { t.ordered(&dim_last(t.ndim(), dim)) };
        Ok(Lanes { view, len, count, inner, abreast })
    }

    /// How many lanes are handled together when `len` elements of each are.
    fn group(&self, len: usize) -> usize {
        let least = if self.abreast && len < LONG { ABREAST } else { 1 };
        (CHUNK / len.max(1)).max(least).min(self.count.max(1))
    }

    /// Elements `items` of each of `lanes`, lane after lane.
    fn read<T: Element>(&self, lanes: Range<usize>, items: Range<usize>, out: &mut Vec<T>) {
        out.clear();
        out.resize(lanes.len() * items.len(), T::default());
        if items.is_empty() {
            return;
        }
        if !self.abreast {
            if items.len() == self.len {
                return self.view.read_into(lanes.start * self.len, out);
            }
            for (lane, run) in lanes.zip(out.chunks_exact_mut(items.len())) {
                self.view.read_into(lane * self.len + items.start, run);
            }
            return;
        }
        let mut row = vec![T::default(); lanes.len()];
        let mut lane = lanes.start;
        while lane < lanes.end {
            let (outer, column) = (lane / self.inner, lane % self.inner);
            let width = (self.inner - column).min(lanes.end - lane);
            for (i, item) in items.clone().enumerate() {
                let row = &mut row[..width];
                self.view.read_into((outer * self.len + item) * self.inner + column, row);
                for (j, value) in row.iter().enumerate() {
                    out[(lane - lanes.start + j) * items.len() + i] = *value;
                }
            }
            lane += width;
        }
    }
}

/// All dimensions with `dim` moved to the end.
pub(super) fn dim_last(ndim: usize, dim: usize) -> Vec<usize> {
    (0..ndim).filter(|d| *d != dim).chain([dim]).collect()
}

/// Folds every lane along `dim` (all elements for `None`): `piece(lane, first, values)` gives the partial result of the
/// lane's elements from `first` on, `merge` joins neighbours. An empty lane has one empty piece.
pub(super) fn fold<T: Element, S: Send>(
    t: &Tensor,
    dim: Option<usize>,
    work: &Work,
    piece: impl Fn(usize, usize, &[T]) -> S + Sync,
    merge: impl Fn(S, S) -> S,
) -> Result<Vec<S>> {
    let lanes = Lanes::new(t, dim, work)?;
    let pieces = lanes.len.div_ceil(PIECE).max(1);
    let group = lanes.group(lanes.len.min(PIECE));
    let tasks = lanes.count.div_ceil(group) * pieces;
    let run = |buffer: &mut Vec<T>, task: usize| -> Result<Vec<S>> {
        work.check()?;
        let (first_lane, first) = (task / pieces * group, task % pieces * PIECE);
        let those = first_lane..(first_lane + group).min(lanes.count);
        let items = first..(first + PIECE).min(lanes.len);
        lanes.read(those.clone(), items.clone(), buffer);
        Ok(those.enumerate().map(|(i, lane)| piece(lane, first, &buffer[i * items.len()..(i + 1) * items.len()])).collect())
    };
    let parts: Vec<Vec<S>> = if t.numel() < PARALLEL {
        let mut buffer = Vec::new();
        (0..tasks).map(|task| run(&mut buffer, task)).collect::<Result<_>>()?
    } else {
        work.install(|| (0..tasks).into_par_iter().map_init(Vec::new, run).collect::<Result<_>>())?
    };
    let mut out = Vec::with_capacity(lanes.count);
    let mut parts = parts.into_iter();
    while let Some(mut merged) = parts.next() {
        for part in parts.by_ref().take(pieces - 1) {
            merged = merged.into_iter().zip(part).map(|(a, b)| merge(a, b)).collect();
        }
        out.extend(merged);
    }
    Ok(out)
}

/// Replaces every lane along `dim` by one of `len` elements, which `f(lane, out)` writes.
pub(super) fn map_lanes<A: Element, B: Element>(
    t: &Tensor,
    dim: usize,
    len: usize,
    work: &Work,
    f: impl Fn(&[A], &mut [B]) + Send + Sync + 'static,
) -> Result<Tensor> {
    if t.shape()[dim] > LONG {
        let t = t.clone();
        return work.detached(move |work| map_lanes_here(&t, dim, len, work, &f));
    }
    map_lanes_here(t, dim, len, work, &f)
}

fn map_lanes_here<A: Element, B: Element>(
    t: &Tensor,
    dim: usize,
    len: usize,
    work: &Work,
    f: &(dyn Fn(&[A], &mut [B]) + Sync),
) -> Result<Tensor> {
    let lanes = Lanes::new(t, Some(dim), work)?;
    let group = lanes.group(lanes.len.max(len));
    let order = dim_last(t.ndim(), dim);
    let mut shape: Vec<usize> = order.iter().map(|d| t.shape()[*d]).collect();
    if let Some(last) = shape.last_mut() {
        *last = len;
    }
    let mut out = zeroed::<B>(element_count(&shape)?)?;
    let run = |buffer: &mut Vec<A>, (i, chunk): (usize, &mut [B])| -> Result<()> {
        work.check()?;
        let those = i * group..i * group + chunk.len() / len;
        lanes.read(those, 0..lanes.len, buffer);
        for (j, lane) in chunk.chunks_exact_mut(len).enumerate() {
            f(&buffer[j * lanes.len..(j + 1) * lanes.len], lane);
        }
        Ok(())
    };
    if out.is_empty() {
        work.check()?;
    } else if lanes.count == 1 || t.numel().max(out.len()) < PARALLEL {
        // A single lane stays off the pool: were it left there, whoever works on would have to wait for it.
        let mut buffer = Vec::new();
        out.chunks_mut(group * len).enumerate().try_for_each(|part| run(&mut buffer, part))?;
    } else {
        work.install(|| out.par_chunks_mut(group * len).enumerate().try_for_each_init(Vec::new, run))?;
    }
    Ok(Tensor::of(out, &shape).unordered(&order))
}
