//! One side of a product: vectors of weights in any storage, read strip by strip into the packed form of the kernel.

use crate::compute::{blocks, upright};
use crate::error::Result;
use crate::tensor::{Tensor, element_count};
use crate::work::Work;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Vectors and terms that are widened at once: their 256 KiB stay in cache until they are packed, and both are whole
/// blocks of every quantised type.
const STRIP: usize = 256;

/// Vectors of `d` terms, one for each row (left side) or column (right side) of a product.
#[derive(Clone)]
pub(super) struct Side {
    /// `[vectors, d]` as stored, or its transpose where that lies contiguously.
    stored: Tensor,
    turned: bool,
    /// Which vectors, if not all.
    index: Option<Arc<[usize]>>,
    count: usize,
    /// Number of terms.
    pub depth: usize,
    gain: Option<Arc<[f32]>>,
    shift: Option<Arc<[f32]>>,
    /// One factor for each used vector, applied last. In f64: 1 / norm of the smallest f32 is beyond f32.
    scale: Option<Arc<[f64]>>,
}

impl Side {
    /// The rows of `vectors` `[count, d]`. The gain multiplies each, the shift is subtracted from each. The caller has
    /// checked all sizes and indices.
    pub(super) fn new(vectors: &Tensor, index: Option<&[usize]>, gain: Option<&[f32]>, shift: Option<&[f32]>) -> Self {
        let (stored, turned) = upright(vectors);
        let shape = vectors.shape();
        Side {
            stored,
            turned,
            index: index.map(Arc::from),
            count: index.map_or(shape[0], <[usize]>::len),
            depth: shape[1],
            gain: gain.map(Arc::from),
            shift: shift.map(Arc::from),
            scale: None,
        }
    }

    /// Number of used vectors.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The same side with one factor for each used vector.
    pub(super) fn scaled(self, scale: Vec<f64>) -> Self {
        debug_assert_eq!(scale.len(), self.count);
        Side { scale: Some(scale.into()), ..self }
    }

    /// The same vectors without shift and factors.
    pub(super) fn unscaled(&self) -> Self {
        Side { shift: None, scale: None, ..self.clone() }
    }

    /// Those of the used vectors that stand at `positions`.
    pub(super) fn at(&self, positions: &[usize]) -> Self {
        let index = positions.iter().map(|p| self.index.as_ref().map_or(*p, |index| index[*p])).collect();
        let scale = self.scale.as_ref().map(|scale| positions.iter().map(|p| scale[*p]).collect());
        Side { index: Some(index), count: positions.len(), scale, ..self.clone() }
    }

    /// Euclidean norms of the used vectors after gain and shift, summed in f64.
    pub(super) fn norms(&self, work: &Work) -> Result<Vec<f64>> {
        let mut norms = vec![0f64; self.count];
        work.install(|| {
            norms.par_chunks_mut(STRIP).enumerate().try_for_each_init(Vec::new, |strip, (i, norms)| {
                let vectors = i * STRIP..i * STRIP + norms.len();
                for terms in blocks(0..self.depth, STRIP) {
                    work.check()?;
                    self.widen(vectors.clone(), terms.clone(), strip);
                    let (across, along) = self.steps(vectors.len(), terms.len());
                    for (v, norm) in norms.iter_mut().enumerate() {
                        *norm += (0..terms.len()).map(|t| f64::from(strip[v * across + t * along]).powi(2)).sum::<f64>();
                    }
                }
                norms.iter_mut().for_each(|v| *v = v.sqrt());
                self.release(vectors);
                Ok(())
            })
        })?;
        Ok(norms)
    }

    /// These used vectors have been read and will not be read again soon.
    fn release(&self, vectors: Range<usize>) {
        if self.index.is_none() && !self.turned {
            self.stored.release_rows(vectors);
        }
    }

    /// Packs used vectors in groups of `G`: `[group][term][vector]`, filled with zeros to whole groups.
    /// `out` holds those groups and is overwritten; `strip` is scratch.
    pub(super) fn pack<const G: usize>(&self, vectors: Range<usize>, strip: &mut Vec<f32>, out: &mut [f32]) {
        debug_assert_eq!(out.len(), vectors.len().div_ceil(G) * G * self.depth);
        let step = STRIP / G * G;
        for (part, out) in blocks(vectors, step).zip(out.chunks_mut(step * self.depth)) {
            for terms in blocks(0..self.depth, STRIP) {
                self.widen(part.clone(), terms.clone(), strip);
                let (across, along) = self.steps(part.len(), terms.len());
                for (members, group) in blocks(0..part.len(), G).zip(out.chunks_exact_mut(G * self.depth)) {
                    let (group, _) = group[terms.start * G..terms.end * G].as_chunks_mut::<G>();
                    if members.len() < G {
                        group.as_flattened_mut().fill(0.0);
                    }
                    let source = &strip[members.start * across..];
                    if self.turned {
                        for (packed, run) in group.iter_mut().zip(source.chunks(along)) {
                            packed[..members.len()].copy_from_slice(&run[..members.len()]);
                        }
                    } else {
                        turn(source, across, members.len(), group);
                    }
                }
            }
        }
    }

    /// [`Side::pack`] into a buffer that is made to fit, by the threads of `work`; each task packs `step` vectors, a multiple of
    /// `G`.
    pub(super) fn pack_all<const G: usize>(
        &self,
        vectors: Range<usize>,
        step: usize,
        out: &mut Vec<f32>,
        work: &Work,
    ) -> Result<()> {
        out.resize(element_count(&[vectors.len().next_multiple_of(G), self.depth])?, 0.0);
        work.install(|| {
            out.par_chunks_mut((step * self.depth).max(1)).enumerate().try_for_each_init(Vec::new, |strip, (i, out)| {
                work.check()?;
                let start = vectors.start + i * step;
                let part = start..(start + step).min(vectors.end);
                self.pack::<G>(part.clone(), strip, out);
                self.release(part);
                Ok(())
            })
        })
    }

    /// Distances in a widened strip between neighbouring vectors and between neighbouring terms.
    fn steps(&self, vectors: usize, terms: usize) -> (usize, usize) {
        if self.turned { (1, vectors) } else { (terms, 1) }
    }

    /// Widens used vectors × terms, with gain, shift and scale: vector by vector, or term by term where turned.
    fn widen(&self, vectors: Range<usize>, terms: Range<usize>, out: &mut Vec<f32>) {
        let (n, d) = (vectors.len(), terms.len());
        out.resize(n * d, 0.0);
        match (&self.index, self.turned) {
            (None, false) => self.stored.widen_block(vectors.clone(), terms.clone(), out),
            (None, true) => self.stored.widen_block(terms.clone(), vectors.clone(), out),
            (Some(index), false) => {
                for (row, i) in out.chunks_exact_mut(d).zip(&index[vectors.clone()]) {
                    self.stored.widen_block(*i..*i + 1, terms.clone(), row);
                }
            }
            (Some(index), true) => {
                for (row, t) in out.chunks_exact_mut(n).zip(terms.clone()) {
                    for (value, i) in row.iter_mut().zip(&index[vectors.clone()]) {
                        self.stored.widen_block(t..t + 1, *i..*i + 1, std::slice::from_mut(value));
                    }
                }
            }
        }
        let (gain, shift) = (self.gain.as_ref().map(|g| &g[terms.clone()]), self.shift.as_ref().map(|s| &s[terms]));
        let scale = self.scale.as_ref().map(|s| &s[vectors]);
        if self.turned {
            per_row(out, n, gain, |v, g| *v *= g);
            per_row(out, n, shift, |v, s| *v -= s);
            per_col(out, n, scale, scaled);
        } else {
            per_col(out, d, gain, |v, g| *v *= g);
            per_col(out, d, shift, |v, s| *v -= s);
            per_row(out, d, scale, scaled);
        }
    }
}

/// Packs `members` runs that are `stride` apart: `out[t][v]` = term t of run v.
pub(super) fn turn<const G: usize>(runs: &[f32], stride: usize, members: usize, out: &mut [[f32; G]]) {
    // Squares of this size are turned in registers.
    const SIDE: usize = 4;
    let (squares, rest) = out.as_chunks_mut::<SIDE>();
    let turned = SIDE * squares.len();
    for (s, square) in squares.iter_mut().enumerate() {
        for v in (0..members / SIDE * SIDE).step_by(SIDE) {
            let at = |i: usize| runs[(v + i) * stride + s * SIDE..].first_chunk::<SIDE>();
            let (Some(a), Some(b), Some(c), Some(d)) = (at(0), at(1), at(2), at(3)) else { return };
            for t in 0..SIDE {
                square[t][v..v + SIDE].copy_from_slice(&[a[t], b[t], c[t], d[t]]);
            }
        }
        for v in members / SIDE * SIDE..members {
            for (t, packed) in square.iter_mut().enumerate() {
                packed[v] = runs[v * stride + s * SIDE + t];
            }
        }
    }
    for (t, packed) in rest.iter_mut().enumerate() {
        for (v, value) in packed[..members].iter_mut().enumerate() {
            *value = runs[v * stride + turned + t];
        }
    }
}

fn scaled(value: &mut f32, by: f64) {
    *value = (f64::from(*value) * by) as f32;
}

fn per_row<T: Copy>(data: &mut [f32], width: usize, by: Option<&[T]>, f: impl Fn(&mut f32, T)) {
    if let Some(by) = by {
        data.chunks_exact_mut(width).zip(by).for_each(|(row, x)| row.iter_mut().for_each(|v| f(v, *x)));
    }
}

fn per_col<T: Copy>(data: &mut [f32], width: usize, by: Option<&[T]>, f: impl Fn(&mut f32, T)) {
    if let Some(by) = by {
        data.chunks_exact_mut(width).for_each(|row| row.iter_mut().zip(by).for_each(|(v, x)| f(v, *x)));
    }
}
