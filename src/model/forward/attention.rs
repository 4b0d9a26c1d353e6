//! Attention of a pass: scores, softcap, causal and sliding mask, softmax, values. Blocks of queries are worked on side by
//! side, and never see more of the scores than their own.

use crate::compute::pointwise::{self, Pointwise};
use crate::compute::{Strided, add_product};
use crate::error::Result;
use crate::work::Work;
use rayon::prelude::*;
use std::ops::Range;

/// Queries that are scored together.
const BLOCK: usize = 64;

/// What a layer's heads have in common.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub d_head: usize,
    pub scale: f32,
    pub softcap: Option<f32>,
    /// Positions that a query reaches back, itself included.
    pub window: Option<usize>,
}

/// Queries `[n, n_heads, d_head]` of one sequence, with keys and values `[past + n, n_kv_heads, d_head]`: query i stands at
/// position past + i.
#[derive(Clone, Copy)]
pub(super) struct Sequence<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
}

impl Heads {
    fn queries(&self, sequence: &Sequence<'_>) -> usize {
        sequence.q.len() / (self.n_heads * self.d_head)
    }

    fn keys(&self, sequence: &Sequence<'_>) -> usize {
        sequence.k.len() / (self.n_kv_heads * self.d_head)
    }

    /// Keys that the query at `position` sees.
    fn seen(&self, position: usize) -> Range<usize> {
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        start..position + 1
    }

    /// Scores of some queries of a head with the keys in `keys`, row by row, after scale and softcap, before the mask.
    fn scores(&self, sequence: &Sequence<'_>, head: usize, queries: Range<usize>, keys: Range<usize>) -> Vec<f32> {
        let Heads { n_heads, n_kv_heads, d_head, .. } = *self;
        let kv_head = head / (n_heads / n_kv_heads);
        let mut scores = vec![0.0; queries.len() * keys.len()];
        let q = Strided {
            data: &sequence.q[(queries.start * n_heads + head) * d_head..],
            row_stride: n_heads * d_head,
            col_stride: 1,
        };
        let k = Strided {
            data: &sequence.k[(keys.start * n_kv_heads + kv_head) * d_head..],
            row_stride: 1,
            col_stride: n_kv_heads * d_head,
        };
        add_product(&mut scores, keys.len(), [queries.len(), d_head, keys.len()], q, k);
        scores.iter_mut().for_each(|score| *score *= self.scale);
        if let Some(cap) = self.softcap {
            pointwise::apply(Pointwise::Softcap(cap), &mut scores, None);
        }
        scores
    }

    /// Adds `weights` `[queries, keys]` times the values of a head to rows of z that lie `stride` apart.
    fn add_values(
        &self,
        z: &mut [f32],
        stride: usize,
        sequence: &Sequence<'_>,
        head: usize,
        weights: &[f32],
        keys: Range<usize>,
    ) {
        let Heads { n_heads, n_kv_heads, d_head, .. } = *self;
        let kv_head = head / (n_heads / n_kv_heads);
        let left = Strided { data: weights, row_stride: keys.len(), col_stride: 1 };
        let right = Strided {
            data: &sequence.v[(keys.start * n_kv_heads + kv_head) * d_head..],
            row_stride: n_kv_heads * d_head,
            col_stride: 1,
        };
        let queries = weights.len() / keys.len().max(1);
        add_product(z, stride, [queries, keys.len(), d_head], left, right);
    }

    /// z `[n, n_heads, d_head]` of several sequences, one after another.
    pub fn attend(&self, sequences: &[Sequence<'_>], work: &Work) -> Result<Vec<f32>> {
        let Heads { n_heads, d_head, .. } = *self;
        let width = n_heads * d_head;
        let mut tasks = Vec::new();
        let mut first_row = 0;
        for sequence in sequences {
            let n = self.queries(sequence);
            for start in (0..n).step_by(BLOCK) {
                let queries = start..(start + BLOCK).min(n);
                tasks.extend((0..n_heads).map(|head| (sequence, head, queries.clone(), first_row + start)));
            }
            first_row += n;
        }
        let done: Vec<Vec<f32>> = work.install(|| {
            let one = |(sequence, head, queries, _): &(&Sequence<'_>, usize, Range<usize>, usize)| {
                work.check()?;
                let past = self.keys(sequence) - self.queries(sequence);
                let keys = self.seen(past + queries.start).start..past + queries.end;
                let mut scores = self.scores(sequence, *head, queries.clone(), keys.clone());
                for (query, row) in queries.clone().zip(scores.chunks_exact_mut(keys.len())) {
                    let seen = self.seen(past + query);
                    let seen = seen.start - keys.start..seen.end - keys.start;
                    pointwise::softmax(&mut row[seen.clone()]);
                    row[..seen.start].fill(0.0);
                    row[seen.end..].fill(0.0);
                }
                let mut z = vec![0.0; queries.len() * d_head];
                self.add_values(&mut z, d_head, sequence, *head, &scores, keys);
                Ok(z)
            };
            tasks.par_iter().map(one).collect::<Result<_>>()
        })?;
        let mut z = vec![0.0; first_row * width];
        for ((_, head, _, row), block) in tasks.iter().zip(&done) {
            for (i, part) in block.chunks_exact(d_head).enumerate() {
                let start = (row + i) * width + head * d_head;
                z[start..start + d_head].copy_from_slice(part);
            }
        }
        Ok(z)
    }

    /// All scores of one sequence, `[n_heads, n, past + n]`, −∞ where a key is not seen.
    pub fn score_map(&self, sequence: &Sequence<'_>, work: &Work) -> Result<Vec<f32>> {
        let (n, m) = (self.queries(sequence), self.keys(sequence));
        let mut map = vec![0.0; self.n_heads * n * m];
        work.install(|| {
            map.par_chunks_mut((n * m).max(1)).enumerate().try_for_each(|(head, map)| {
                work.check()?;
                map.copy_from_slice(&self.scores(sequence, head, 0..n, 0..m));
                Ok(())
            })
        })?;
        self.mask(&mut map, n, m);
        Ok(map)
    }

    /// −∞ in a map `[n_heads, n, m]` where a key is not seen.
    pub fn mask(&self, map: &mut [f32], n: usize, m: usize) {
        for (i, row) in map.chunks_exact_mut(m).enumerate() {
            let seen = self.seen(m - n + i % n);
            row[..seen.start].fill(f32::NEG_INFINITY);
            row[seen.end..].fill(f32::NEG_INFINITY);
        }
    }

    /// z `[n, n_heads, d_head]` of one sequence from a pattern `[n_heads, n, past + n]`.
    pub fn attend_by(&self, pattern: &[f32], sequence: &Sequence<'_>, work: &Work) -> Result<Vec<f32>> {
        let (n, m) = (self.queries(sequence), self.keys(sequence));
        let width = self.n_heads * self.d_head;
        let mut z = vec![0.0; n * width];
        for (head, pattern) in pattern.chunks_exact((n * m).max(1)).enumerate() {
            work.check()?;
            self.add_values(&mut z[head * self.d_head..], width, sequence, head, pattern, 0..m);
        }
        Ok(z)
    }
}
