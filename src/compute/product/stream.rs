//! The loop over the tiles of a product.
//!
//! Panels of the right side are packed once and shared; blocks of rows of the left side go through a panel in parallel,
//! and each tile is handed to a [`Fold`] by the thread that made it, while it is in cache. The order in which a block
//! sees its tiles, and everything a fold may depend on, follows from the shapes alone.

use super::kernel::{MR, NR};
use super::operand::Operand;
use super::side::Side;
use crate::compute::blocks;
use crate::compute::pointwise::{self, Pointwise};
use crate::error::Result;
use crate::work::Work;
use pulp::Arch;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// Rows of a block: tile and packed rows of usual widths fit the second-level cache together.
pub(super) const ROWS: usize = 11 * MR;
/// Columns of a tile.
const COLS: usize = 1024;
/// A product of fewer rows is cut into this many blocks, so that there is work for all cores.
const BLOCKS: usize = 16;
/// Vectors of a panel that are packed at a time.
const STRIP: usize = 8 * NR;

/// Elements of whole rows of scores that a block keeps at a time, so that they are still in a cache when they are read
/// again; but never fewer rows than one for so many terms: each block reads all of the right side.
const WHOLE: usize = 1 << 19;
const TERMS_A_ROW: usize = 4;

/// Elements of a panel for each row that goes through it, at most, and at least in all.
const PANEL_A_ROW: usize = 1 << 13;
const PANEL_LEAST: usize = 1 << 20;

/// What bounds the memory of a stream.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Elements of a packed panel of the right side.
    pub panel: usize,
    /// Elements of a packed block of the left side, and of its rows of scores, if those are kept whole.
    pub block: usize,
    /// Elements of all rows of scores that are kept at a time where the right side does not fit one panel.
    pub kept: usize,
}

impl Limits {
    /// 64 MiB, 8 MiB and 96 MiB.
    pub(super) const USUAL: Limits = Limits { panel: 1 << 24, block: 1 << 21, kept: 24 << 20 };
}

/// What is done with the scores of each block of rows.
pub(super) trait Fold: Sync {
    /// What a block of rows is folded into.
    type State: Send;
    /// Whether [`Fold::end`] needs whole rows of scores.
    fn whole_rows(&self) -> bool {
        false
    }
    /// The empty state for these rows.
    fn begin(&self, rows: Range<usize>) -> Self::State;
    /// Folds a tile. Tiles of a block come in the order of their columns.
    fn tile(&self, state: &mut Self::State, scores: Scores<'_>);
    /// All tiles are folded. `scores` holds the whole rows where they were asked for, else nothing.
    fn end(&self, _state: &mut Self::State, _scores: Scores<'_>) -> Result<()> {
        Ok(())
    }
}

/// A tile of scores. The fold may overwrite it.
pub(super) struct Scores<'a> {
    /// Positions among the used rows.
    pub rows: Range<usize>,
    /// Columns.
    pub cols: Range<usize>,
    data: &'a mut [f32],
    stride: usize,
}

impl Scores<'_> {
    /// The scores of row `i` of this tile.
    #[inline(always)]
    pub(super) fn row(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.stride..i * self.stride + self.cols.len()]
    }
}

/// A product and how its scores are made from dot products.
pub(super) struct Stream<'a> {
    /// One side, or as many as `right` has.
    pub left: &'a [Side],
    /// One side, or as many as `left` has; the scores of several pairs are averaged.
    pub right: &'a [Side],
    /// c in c · tanh(x / c).
    pub softcap: Option<f32>,
    /// What progress is called.
    pub label: &'a str,
    /// Instructions to use.
    pub arch: Arch,
    /// Memory to use.
    pub limits: Limits,
}

/// How a product is cut.
struct Plan {
    /// Distance of whole rows of scores.
    stride: usize,
    /// Rows of a block.
    height: usize,
    /// Columns of a panel.
    panel_width: usize,
    /// Blocks that go through all panels together.
    wave: usize,
}

struct Block<S> {
    rows: Range<usize>,
    state: S,
    /// Whole rows of scores, while they are being made.
    kept: Vec<f32>,
}

/// What a thread reuses.
#[derive(Default)]
struct Scratch {
    left: Vec<Operand>,
    tile: Vec<f32>,
    term: Vec<f32>,
}

impl Stream<'_> {
    /// Streams the product through `fold`; one state for each block of rows, in order.
    pub(super) fn run<F: Fold>(&self, fold: &F, work: &Work) -> Result<Vec<F::State>> {
        let (n, m) = (self.left[0].count(), self.right[0].count());
        let whole = fold.whole_rows();
        let Plan { stride, height, panel_width, wave } = self.plan(whole);
        let panels: Vec<_> = blocks(0..m, panel_width).collect();
        let mut states: Vec<Block<F::State>> =
            blocks(0..n, height).map(|rows| Block { state: fold.begin(rows.clone()), rows, kept: Vec::new() }).collect();
        let steps = work.begin(self.label, (states.len() * panels.len()) as u64);
        let spare: Mutex<Vec<Vec<f32>>> = Mutex::default();
        let mut panel = Panel::default();
        for wave in states.chunks_mut(wave) {
            for (p, cols) in panels.iter().enumerate() {
                panel.load(self.right, cols.clone(), work)?;
                let last = p + 1 == panels.len();
                work.install(|| {
                    wave.par_iter_mut().try_for_each_init(Scratch::default, |scratch, block| {
                        if whole && block.kept.is_empty() {
                            block.kept = lock(&spare).pop().unwrap_or_default();
                            block.kept.resize(height * stride, 0.0);
                        }
                        self.block(fold, block, &panel, whole.then_some(stride), scratch, work)?;
                        if last {
                            let mut kept = std::mem::take(&mut block.kept);
                            let (rows, cols) = (block.rows.clone(), if whole { 0..m } else { 0..0 });
                            fold.end(&mut block.state, Scores { rows, cols, data: &mut kept, stride })?;
                            lock(&spare).push(kept);
                        }
                        steps.advance(1);
                        Ok(())
                    })
                })?;
            }
        }
        Ok(states.into_iter().map(|b| b.state).collect())
    }

    /// Sizes that follow from the shapes.
    fn plan(&self, whole: bool) -> Plan {
        let (n, m, depth) = (self.left[0].count(), self.right[0].count(), self.left[0].depth);
        // An odd number of cache lines: rows a power of two apart would share their cache sets.
        let stride = m.next_multiple_of(NR) + 16;
        let Limits { panel: panel_size, block: block_size, kept: kept_size } = self.limits;
        // A few rows do not pay for fresh memory: their panels are small ones, filled again and again.
        let panel_size = panel_size.min((n * PANEL_A_ROW).max(PANEL_LEAST));
        let mut height = n.div_ceil(BLOCKS).next_multiple_of(MR).clamp(2 * MR, ROWS);
        height = height.min(block_size / (depth * self.left.len()));
        if whole {
            height = height.min((WHOLE / stride).max(depth * self.left.len() / TERMS_A_ROW)).min(block_size / stride);
        }
        let height = (height / MR * MR).max(MR);
        let panel_width = (panel_size / (depth * self.right.len()) / COLS * COLS).max(COLS);
        // Whole rows wait for the next panel, unless there is only one.
        let wave = if whole && panel_width < m { (kept_size / (height * stride)).max(1) } else { n.div_ceil(height) };
        Plan { stride, height, panel_width, wave }
    }

    /// Bytes that a run takes, without what its folds keep.
    pub(super) fn memory(&self, whole: bool, work: &Work) -> usize {
        let (m, depth) = (self.right[0].count(), self.left[0].depth);
        let Plan { stride, height, panel_width, wave } = self.plan(whole);
        let panel = panel_width.min(m.next_multiple_of(NR)) * depth * self.right.len();
        // A tile that comes from a device is there twice before it is copied to its place.
        let tiles = 1 + usize::from(self.right.len() > 1) + if work.device().is_some() { 2 } else { 0 };
        let thread = height * depth * self.left.len() + tiles * height * COLS;
        let rows_at_a_time = if panel_width < m { wave } else { wave.min(work.threads()) };
        let kept = if whole { rows_at_a_time * height * stride } else { 0 };
        4 * (panel + work.threads() * thread + kept)
    }

    /// One block of rows against one panel.
    fn block<F: Fold>(
        &self,
        fold: &F,
        block: &mut Block<F::State>,
        panel: &Panel,
        kept_stride: Option<usize>,
        scratch: &mut Scratch,
        work: &Work,
    ) -> Result<()> {
        let Scratch { left, tile, term } = scratch;
        let rows = block.rows.len().next_multiple_of(MR);
        left.resize_with(self.left.len(), Operand::default);
        for (side, operand) in self.left.iter().zip(&mut *left) {
            operand.load::<MR>(side, block.rows.clone(), ROWS, work)?;
        }
        let depth = self.left[0].depth;
        tile.resize(rows * COLS, 0.0);
        for cols in blocks(panel.cols.clone(), COLS) {
            let (data, stride) = match kept_stride {
                Some(stride) => (&mut block.kept[cols.start..], stride),
                None => (&mut tile[..], COLS),
            };
            let terms = self.left.len().max(self.right.len());
            for i in 0..terms {
                let left = &left[i % self.left.len()];
                let right = panel.columns(i % self.right.len(), &cols);
                if i == 0 {
                    left.multiply(right, depth, (data, stride), self.arch, work)?;
                    self.map(data, stride, rows, cols.len());
                } else {
                    term.resize(rows * COLS, 0.0);
                    left.multiply(right, depth, (term, COLS), self.arch, work)?;
                    self.map(term, COLS, rows, cols.len());
                    for (sum, x) in data.chunks_mut(stride).zip(term.chunks_exact(COLS)).take(rows) {
                        sum.iter_mut().zip(&x[..cols.len()]).for_each(|(s, x)| *s += x);
                    }
                }
            }
            if terms > 1 {
                let share = 1.0 / terms as f32;
                for row in data.chunks_mut(stride).take(rows) {
                    row[..cols.len()].iter_mut().for_each(|v| *v *= share);
                }
            }
            fold.tile(&mut block.state, Scores { rows: block.rows.clone(), cols, data, stride });
        }
        Ok(())
    }

    fn map(&self, data: &mut [f32], stride: usize, rows: usize, width: usize) {
        if let Some(cap) = self.softcap {
            for row in data.chunks_mut(stride).take(rows) {
                pointwise::apply(Pointwise::Softcap(cap), &mut row[..width], None);
            }
        }
    }
}

/// Some columns of the right sides.
#[derive(Default)]
struct Panel {
    sides: Vec<Operand>,
    cols: Range<usize>,
}

impl Panel {
    fn load(&mut self, sides: &[Side], cols: Range<usize>, work: &Work) -> Result<()> {
        if self.cols == cols {
            return Ok(());
        }
        self.sides.resize_with(sides.len(), Operand::default);
        for (side, operand) in sides.iter().zip(&mut self.sides) {
            operand.load::<NR>(side, cols.clone(), STRIP, work)?;
        }
        self.cols = cols;
        Ok(())
    }

    /// One side, and where these columns, which start at a whole group, stand in it.
    fn columns(&self, side: usize, cols: &Range<usize>) -> (&Operand, Range<usize>) {
        (&self.sides[side], cols.start - self.cols.start..cols.end - self.cols.start)
    }
}

/// A lock that a panicking thread has left behind is taken over: its data are whole between operations.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
