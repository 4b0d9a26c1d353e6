//! The fold that makes every statistic of rows; over the product of the sides exchanged, those of columns.

use super::moments::{Central, Running};
use super::quantile::{Finder, Found, Guesses, Probes, Spread};
use super::simd;
use super::softmax::{ColSoftmax, Normalisers, RowSoftmax, RunningSoftmax, RunningWeight};
use super::stream::{Fold, Scores, lock};
use super::top::{List, Pairs, Scored};
use crate::error::Result;
use crate::work::Work;
use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;
use std::sync::Mutex;

/// Which statistics are made.
pub(super) struct Rows<'a> {
    /// Scores are replaced by their magnitudes, except for softmax.
    pub absolute: bool,
    /// Third and fourth moments, too.
    pub shape: bool,
    pub top: usize,
    pub bottom: usize,
    /// Columns that stay out of the lists and of softmax.
    pub mask: Option<&'a [bool]>,
    pub quantiles: &'a [f64],
    pub guesses: Guesses,
    pub softmax: bool,
    /// The softmax of the negated scores.
    pub softmax_negative: bool,
    /// Of each column of this product, where the softmax along its columns is wanted.
    pub normalisers: Option<&'a Normalisers>,
    /// The highest pairs of all rows.
    pub pairs: Option<&'a Mutex<Pairs>>,
    /// The search for quantiles of all scores.
    pub probes: Option<&'a Probes>,
    pub arch: Arch,
    pub work: &'a Work,
}

/// A row while its runs arrive.
struct Row {
    moments: Running,
    non_finite: u64,
    top: List<false>,
    bottom: List<true>,
    // Beside it: few runs ask for them, and rows are many.
    softmax: Option<Box<RunningSoftmax>>,
    softmax_negative: Option<Box<RunningSoftmax>>,
    weight: RunningWeight,
    quantiles: Vec<f64>,
}

/// The statistics of a row.
pub(super) struct Done {
    pub moments: Central,
    pub non_finite: u64,
    pub top: Vec<Scored>,
    pub bottom: Vec<Scored>,
    pub softmax: Option<RowSoftmax>,
    pub softmax_negative: Option<RowSoftmax>,
    pub weight: ColSoftmax,
    pub quantiles: Vec<f64>,
}

/// A block of rows. Its rows are there from the first tile to the last, then what they came to.
#[derive(Default)]
pub(super) struct Block {
    rows: Vec<Row>,
    done: Vec<Done>,
    pairs: Option<Pairs>,
    found: Vec<Found>,
    scratch: [Vec<f32>; 2],
}

impl Block {
    /// Bytes of a row while it is folded, without its lists.
    pub(super) const ROW: usize = size_of::<Row>();

    /// The statistics of the rows of all blocks.
    pub(super) fn finish(blocks: Vec<Block>) -> Vec<Done> {
        let mut rows = Vec::with_capacity(blocks.iter().map(|block| block.done.len()).sum());
        blocks.into_iter().for_each(|block| rows.extend(block.done));
        rows
    }
}

impl Row {
    fn finish(self) -> Done {
        let top = self.top.into_best();
        Done {
            moments: self.moments.finish(),
            non_finite: self.non_finite,
            softmax: self.softmax.map(|s| s.finish(&top)),
            softmax_negative: self.softmax_negative.map(|s| s.finish(&[])),
            top,
            bottom: self.bottom.into_best(),
            weight: self.weight.finish(),
            quantiles: self.quantiles,
        }
    }
}

impl Fold for Rows<'_> {
    type State = Block;

    fn whole_rows(&self) -> bool {
        !self.quantiles.is_empty()
    }

    fn begin(&self, _: Range<usize>) -> Block {
        Block::default()
    }

    fn tile(&self, block: &mut Block, scores: Scores<'_>) {
        self.arch.dispatch(FoldTile { fold: self, block, scores });
    }

    fn end(&self, block: &mut Block, scores: Scores<'_>) -> Result<()> {
        if self.whole_rows() {
            self.arch.dispatch(FindQuantiles { fold: self, block, scores });
        }
        if let (Some(all), Some(pairs)) = (self.pairs, &mut block.pairs) {
            lock(all).merge(pairs);
        }
        if let Some(probes) = self.probes {
            probes.end(&mut block.found);
        }
        let rows = std::mem::take(&mut block.rows);
        let mut done = Vec::with_capacity(rows.len());
        for row in rows {
            // Long lists are sorted.
            self.work.check()?;
            done.push(row.finish());
        }
        *block = Block { done, ..Block::default() };
        Ok(())
    }
}

impl Rows<'_> {
    fn row(&self) -> Row {
        Row {
            moments: Running::EMPTY,
            non_finite: 0,
            top: List::new(self.top),
            bottom: List::new(self.bottom),
            softmax: self.softmax.then(|| Box::new(RunningSoftmax::new(self.top >= 5 && !self.absolute))),
            softmax_negative: self.softmax_negative.then(|| Box::new(RunningSoftmax::new(false))),
            weight: RunningWeight::EMPTY,
            quantiles: Vec::new(),
        }
    }

    #[inline(always)]
    fn moments<S: Simd>(&self, simd: S, row: &mut Row, run: &[f32]) -> (f32, f32, usize) {
        if self.shape { row.moments.add::<S, true>(simd, run) } else { row.moments.add::<S, false>(simd, run) }
    }
}

struct FoldTile<'a> {
    fold: &'a Rows<'a>,
    block: &'a mut Block,
    scores: Scores<'a>,
}

impl WithSimd for FoldTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FoldTile { fold, block, mut scores } = self;
        let Block { rows, pairs, found, scratch, .. } = block;
        rows.resize_with(scores.rows.len(), || fold.row());
        let (first, cols) = (scores.rows.start, scores.cols.clone());
        let mut pairs = fold.pairs.map(|all| {
            // What other blocks have found raises the floor: what is below can never be among the highest.
            let floor = lock(all).floor;
            let pairs = pairs.get_or_insert_with(|| lock(all).empty());
            pairs.floor = pairs.floor.max(floor);
            pairs
        });
        if let Some(probes) = fold.probes
            && found.is_empty()
        {
            *found = probes.begin();
        }
        // Tiles without a masked column are spared the mask.
        let mask = fold.mask.map(|mask| &mask[cols.clone()]).filter(|mask| mask.contains(&true));
        let mut negated = Vec::new();
        for (i, row) in rows.iter_mut().enumerate() {
            let run = scores.row(i);
            // Those of magnitudes come last: softmax is of the signed scores.
            // No closures: they would be compiled for the least of processors (`simd`).
            let signed = if fold.absolute { None } else { Some(fold.moments(simd, row, run)) };
            let ends = signed.filter(|(_, _, bad)| *bad == 0);
            if let Some(softmax) = &mut row.softmax {
                softmax.add(simd, run, ends.map(|(_, max, _)| max), mask, &mut scratch[0]);
            }
            if let Some(softmax) = &mut row.softmax_negative {
                negated.clear();
                negated.extend(run.iter().map(|x| -x));
                softmax.add(simd, &negated, ends.map(|(min, _, _)| -min), mask, &mut scratch[0]);
            }
            if let Some(normalisers) = fold.normalisers {
                row.weight.add(simd, run, normalisers.of(cols.clone()));
            }
            let (min, max, bad) = match signed {
                Some(ends) => ends,
                None => {
                    simd::abs(simd, run);
                    fold.moments(simd, row, run)
                }
            };
            row.non_finite += bad as u64;
            row.top.add(simd, run, cols.start, max, mask);
            row.bottom.add(simd, run, cols.start, min, mask);
            if let Some(pairs) = &mut pairs {
                pairs.add(simd, run, first + i, cols.start, max);
            }
            if let Some(probes) = fold.probes {
                probes.add(simd, found, run, bad == 0, scratch);
            }
        }
        if let (Some(all), Some(pairs)) = (fold.pairs, pairs)
            && pairs.many()
        {
            lock(all).merge(pairs);
        }
    }
}

struct FindQuantiles<'a> {
    fold: &'a Rows<'a>,
    block: &'a mut Block,
    scores: Scores<'a>,
}

impl WithSimd for FindQuantiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FindQuantiles { fold, block, mut scores } = self;
        let mut finder = Finder::new(fold.quantiles, &fold.guesses);
        for (i, row) in block.rows.iter_mut().enumerate() {
            let moments = row.moments.finish().finish();
            let spread = Spread { mean: moments.mean, std: moments.std, min: moments.min as f32, max: moments.max as f32 };
            let run = scores.row(i);
            row.quantiles = if row.non_finite == 0 {
                finder.find(simd, run, spread)
            } else {
                let finite: Vec<f32> = run.iter().copied().filter(|x| x.is_finite()).collect();
                finder.find(simd, &finite, spread)
            };
        }
        finder.leave(&fold.guesses);
    }
}
