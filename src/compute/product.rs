//! The fused, blocked product: statistics of the scores `A · B` that are never stored.
//!
//! Rows of A are features, columns of B are what they are scored against (tokens, keys, features). The product is made
//! tile by tile, in f32, and each tile is folded into the statistics by the thread that made it, while it is in cache.
//!
//! * `kernel`: one tile from packed operands. * `side`: weights → packed operands. * `operand`: those, or what a device
//!   multiplies in the kernel's place. * `stream`: the loop over tiles.
//! * `packed`: products with a weight that is packed once. * `rows`: the fold; `moments`, `top`, `quantile`, `softmax`: its parts. * `simd`: their inner loops.
//!
//! **Passes.** Statistics of rows, moments over all pairs and the highest pairs take one pass over the product. Those of
//! columns take a second one with the sides exchanged, whose scores have the same bits, unless a device makes them.
//! Quantiles over all pairs take a small sample first, ride along with these two, and take a third pass only where the second
//! is missing or has other bits, or the sample misled; without the second and with a stated error the first is enough.
//!
//! **Memory**, beside operands and results: a packed panel of B (64 MiB), and for each thread a packed block of A, a tile,
//! and for row quantiles whole rows of a block (8 MiB each, or 12 rows where those are more). Row quantiles of a product too
//! wide for one panel keep up to 96 MiB of rows, or 12. What a run takes is said where it is over 256 MiB.
//!
//! **Determinism.** The order of every sum follows from the shapes; the same bits come out for any number of threads.
//! A score that is NaN or infinite is counted and left out of the statistics of its row and column and of all pairs.

mod kernel;
mod moments;
mod operand;
mod packed;
mod quantile;
mod rows;
mod side;
pub(super) mod simd;
mod softmax;
mod stream;
mod top;

#[cfg(test)]
mod tests;

pub use moments::Moments;
pub use packed::Packed;
use softmax::Normalisers;
pub use softmax::{ColSoftmax, RowSoftmax};
pub use top::{Pair, Scored};

use super::Shared;
use crate::error::{Error, Result};
use crate::tensor::{Held, Tensor, element_count};
use crate::work::Work;
use moments::Central;
use pulp::Arch;
use quantile::{Guesses, Hunt, Pass};
use rows::{Block, Done, Rows};
use side::Side;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use stream::{Fold, Limits, Scores, Stream};
use top::{List, Pairs};

/// A product of features with columns, and what to find out about its scores.
///
/// For used row i and column j the score is the mean over the right operands B of
/// `softcap(factor · row_scale_i · (gain ∘ a_i) · (b_gain ∘ b_j − b_shift))`; with `cosine` both vectors are divided by their norms
/// (after gain and shift; a vector of norm 0 scores 0), and with `absolute` the magnitude is taken last.
#[derive(Clone, Debug)]
pub struct Product {
    /// Left operand `[n, d]`.
    pub a: Tensor,
    /// Right operands, each `[d, m]`. Usually one; the scores of several are averaged after the softcap.
    pub b: Vec<Tensor>,
    /// Which rows of `a` are used, in which order; all where `None`. Rows of the result are positions in this list.
    pub rows: Option<Vec<usize>>,
    /// Multiplies each row of `a`, `[d]`.
    pub gain: Option<Vec<f32>>,
    /// One factor for each used row.
    pub row_scale: Option<Vec<f64>>,
    /// Multiplies each column of `b`, `[d]`.
    pub b_gain: Option<Vec<f32>>,
    /// Subtracted from each column of `b`, `[d]`: centring over the vocabulary.
    pub b_shift: Option<Vec<f32>>,
    /// The norms of the columns of the one right operand, where they are known: those of [`Product::column_norms`], `[m]`.
    pub b_norms: Option<Arc<[f64]>>,
    /// Cosines instead of dot products.
    pub cosine: bool,
    /// Factor of all scores, such as the attention scale.
    pub factor: f32,
    /// c in `c · tanh(x / c)`.
    pub softcap: Option<f32>,
    /// Statistics, lists and pairs are of |score|. Softmax is always of the signed score.
    pub absolute: bool,
    /// Length of each row's list of highest scores.
    pub top: usize,
    /// Length of each row's list of lowest scores.
    pub bottom: usize,
    /// True for columns that are kept out of the lists and of softmax, `[m]`. Other statistics include them.
    pub col_mask: Option<Vec<bool>>,
    /// Quantiles of each row, in 0..=1, by linear interpolation.
    pub row_quantiles: Vec<f64>,
    /// Quantiles of each column; asking for them asks for `cols`.
    pub col_quantiles: Vec<f64>,
    /// Quantiles over all pairs.
    pub all_quantiles: Vec<f64>,
    /// Whether those are found to the last bit where that takes a pass of its own; else [`All::errors`] bounds them.
    pub exact: bool,
    /// Skewness and kurtosis; without them they are NaN.
    pub shape: bool,
    /// Statistics of columns.
    pub cols: bool,
    /// The softmax of each row, and with `cols` what it gives to each column.
    pub softmax: bool,
    /// The softmax of each row's negated scores: the other end of a signed feature.
    pub softmax_negative: bool,
    /// Number of highest pairs.
    pub pairs: usize,
    /// What progress is called.
    pub label: String,
    /// Bytes of what is made for this product before it, its operands above all: announced with its own.
    pub held: usize,
    /// What it takes was announced before its operands were made.
    pub announced: bool,
}

/// What a product's scores are like.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Number of used rows.
    pub n: usize,
    /// Number of columns.
    pub m: usize,
    /// One for each used row.
    pub rows: Vec<RowStats>,
    /// One for each column, where asked for.
    pub cols: Vec<ColStats>,
    /// Over all pairs.
    pub all: All,
    /// The highest pairs, falling; among equal ones by row, then column.
    pub pairs: Vec<Pair>,
    /// Number of scores that are NaN or infinite. `rows` and `cols` say where.
    pub non_finite: u64,
    /// Where there are such scores: the used rows and the columns whose own numbers are NaN or infinite.
    pub broken: (Vec<usize>, Vec<usize>),
}

/// Statistics of a row.
#[derive(Clone, Debug)]
pub struct RowStats {
    /// Moments of its finite scores.
    pub moments: Moments,
    /// One for each of `row_quantiles`.
    pub quantiles: Vec<f64>,
    /// Highest scores, falling; among equal ones by column.
    pub top: Vec<Scored>,
    /// Lowest scores, rising; among equal ones by column.
    pub bottom: Vec<Scored>,
    /// The softmax of its scores.
    pub softmax: Option<RowSoftmax>,
    /// The softmax of its negated scores.
    pub softmax_negative: Option<RowSoftmax>,
    /// Number of scores that are NaN or infinite.
    pub non_finite: u64,
}

/// Statistics of a column.
#[derive(Clone, Debug)]
pub struct ColStats {
    /// Moments of its finite scores.
    pub moments: Moments,
    /// One for each of `col_quantiles`.
    pub quantiles: Vec<f64>,
    /// What the softmax of rows gives to it: 0 to a masked column.
    pub softmax: Option<ColSoftmax>,
    /// Number of scores that are NaN or infinite.
    pub non_finite: u64,
}

/// Statistics over all pairs.
#[derive(Clone, Debug)]
pub struct All {
    /// Moments of the finite scores.
    pub moments: Moments,
    /// One for each of `all_quantiles`.
    pub quantiles: Vec<f64>,
    /// How far each of these may lie from the exact quantile of the same scores: 0 where it was found to the last bit.
    pub errors: Vec<f64>,
}

/// Counts of scores in bins of equal width.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// One count for each bin.
    pub counts: Vec<u64>,
    /// Borders of the bins, one more than there are bins. A bin holds its left border; the last one both.
    pub edges: Vec<f64>,
}

/// Operations of a run that is announced: tens of seconds on a small machine.
const LONG: f64 = 4e12;
/// Bytes of a run that is announced.
const MUCH: usize = 256 << 20;
/// Pairs that take too long to sort to be waited for.
const MANY: usize = 1 << 17;
/// Scores that [`Product::matrix`] makes at most (1 GiB).
const MATRIX: usize = 1 << 28;
/// Rows whose scores are kept where they are asked for more than once, and how many scores those are at most (16 MiB).
const FEW: (usize, usize) = (8, 1 << 22);
/// Rows and columns of the sample that brackets quantiles over all pairs.
const SAMPLE: (usize, usize) = (512, 512);

impl Product {
    /// The plain product of `a` `[n, d]` and `b` `[d, m]`: factor 1 and nothing asked for but moments.
    pub fn new(a: Tensor, b: Tensor) -> Self {
        Self::averaged(a, vec![b])
    }

    /// The mean of the products of `a` with several right operands.
    pub fn averaged(a: Tensor, b: Vec<Tensor>) -> Self {
        Product {
            a,
            b,
            rows: None,
            gain: None,
            row_scale: None,
            b_gain: None,
            b_shift: None,
            b_norms: None,
            cosine: false,
            factor: 1.0,
            softcap: None,
            absolute: false,
            top: 0,
            bottom: 0,
            col_mask: None,
            row_quantiles: Vec::new(),
            col_quantiles: Vec::new(),
            all_quantiles: Vec::new(),
            exact: true,
            shape: true,
            cols: false,
            softmax: false,
            softmax_negative: false,
            pairs: 0,
            label: "product".into(),
            held: 0,
            announced: false,
        }
    }

    /// Makes the product and its statistics.
    ///
    /// # Errors
    /// Shapes, rows or quantiles that do not fit; an empty product; or the user's interruption.
    pub fn run(&self, work: &Work) -> Result<Outcome> {
        if (self.has_cols() || !self.all_quantiles.is_empty())
            && let Some(made) = self.made(work)?
        {
            return made.run(work);
        }
        let sides = self.sides(work)?;
        let (n, m) = (sides.left.count(), sides.right[0].count());
        let left = std::slice::from_ref(&sides.left);
        let stream = self.stream(left, &sides.right, &self.label);
        let arch = stream.arch;
        if !self.announced {
            self.announce(work)?;
        }

        let mut hunt = (!self.all_quantiles.is_empty()).then(|| self.sample(&sides, work)).transpose()?;
        let first = hunt.as_ref().map(Hunt::first);
        let pairs = Mutex::new(Pairs::new(self.pairs.min(n.saturating_mul(m))));
        let blocks = stream.run(
            &Rows {
                absolute: self.absolute,
                shape: self.shape,
                top: self.top.min(m),
                bottom: self.bottom.min(m),
                mask: self.col_mask.as_deref(),
                quantiles: &self.row_quantiles,
                guesses: Guesses::default(),
                softmax: self.softmax,
                softmax_negative: self.softmax_negative,
                normalisers: None,
                pairs: (self.pairs > 0).then_some(&pairs),
                probes: first.as_ref(),
                arch,
                work,
            },
            work,
        )?;
        let rows = Held::new(Block::finish(blocks));
        let mut all = Central::EMPTY;
        rows.iter().for_each(|row| all.merge(&row.moments));
        let all = self.moments(&all);
        if let (Some(begun), Some(first)) = (hunt.take(), first) {
            hunt = Some(begun.begin(all.n, (all.min as f32, all.max as f32), first, work)?);
        }

        let mut cols = Held::new(Vec::new());
        if self.has_cols() {
            let normalisers = self.softmax.then(|| rows.iter().map(|row| row.softmax).collect::<Normalisers>());
            // A device's scores of the sides exchanged differ in their last bits: the search would not find what it bracketed.
            let second = hunt.as_ref().filter(|_| work.device().is_none()).and_then(Hunt::open);
            let label = format!("{}, columns", self.label);
            let fold = Rows {
                absolute: self.absolute,
                shape: self.shape,
                top: 0,
                bottom: 0,
                mask: None,
                quantiles: &self.col_quantiles,
                guesses: Guesses::default(),
                softmax: false,
                softmax_negative: false,
                normalisers: normalisers.as_ref(),
                pairs: None,
                probes: second.as_ref(),
                arch,
                work,
            };
            let blocks = self.stream(&sides.right, left, &label).run(&fold, work)?;
            cols.extend(Block::finish(blocks).into_iter().enumerate().map(|(j, col)| self.col(j, col)));
            if let Some(second) = second {
                hunt = hunt.map(|hunt| hunt.take(second, work)).transpose()?;
            }
        }

        let (quantiles, errors) = match hunt {
            None => (Vec::new(), Vec::new()),
            Some(hunt) => {
                let label = format!("{}, quantiles", self.label);
                quantile::finish(hunt, all.n, work, |probes| {
                    let pass = Pass { probes, absolute: self.absolute, arch };
                    self.stream(left, &sides.right, &label).run(&pass, work).map(drop)
                })?
            }
        };
        let pairs = pairs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pairs = if self.pairs > MANY { work.detached(|_| Ok(pairs.finish()))? } else { pairs.finish() };
        let non_finite = rows.iter().map(|row| row.non_finite).sum();
        Ok(Outcome {
            n,
            m,
            non_finite,
            broken: if non_finite > 0 { sides.broken(work)? } else { Default::default() },
            rows: rows.into_vec().into_iter().map(|row| self.row(row)).collect(),
            cols: cols.into_vec(),
            all: All { moments: all, quantiles, errors },
            pairs,
        })
    }

    /// Says what a long run will take, and refuses one that does not fit into memory. [`Product::run`] does so where it was not
    /// done before; of the operands only the shapes count.
    ///
    /// # Errors
    /// As [`Product::run`].
    pub fn announce(&self, work: &Work) -> Result<()> {
        self.check()?;
        let left = [Side::new(&self.a, self.rows.as_deref(), None, None)];
        let right: Vec<Side> = self.b.iter().map(|b| Side::new(&b.t(), None, None, None)).collect();
        let (n, m, depth) = (left[0].count(), right[0].count(), left[0].depth);
        let mut engine = self.stream(&left, &right, "").memory(!self.row_quantiles.is_empty(), work);
        let cols = self.has_cols();
        if cols {
            engine = engine.max(self.stream(&right, &left, "").memory(!self.col_quantiles.is_empty(), work));
        }
        let scored = List::<false>::bytes(self.top.min(m)) + List::<true>::bytes(self.bottom.min(m));
        // What is found, from one form to the next; its lists move along, each with some bytes of the allocator's. In the tables
        // that callers make of the last form, ids and scores are lists of their own, of 8 bytes each.
        let forms = Block::ROW.max(size_of::<RowStats>()) + size_of::<Done>();
        let cells = |k: usize| if k == 0 { 0 } else { 2 * (size_of::<Vec<f64>>() + 8 * k + 16) };
        let table = |quantiles: usize| 8 * (9 + quantiles) + size_of::<RowStats>();
        let lists = cells(self.top.min(m)) + cells(self.bottom.min(m));
        let row = forms.max(table(self.row_quantiles.len()) + lists) + scored + 8 * self.row_quantiles.len() + 64;
        let col = forms.max(table(self.col_quantiles.len())) + 8 * self.col_quantiles.len() + 32;
        let pairs = self.pairs.min(n.saturating_mul(m)).saturating_mul(3 * size_of::<Pair>());
        let search = quantile::memory(self.all_quantiles.len(), n.saturating_mul(m), n.div_ceil(stream::ROWS));
        let results = n.saturating_mul(row) + if cols { m * col } else { 0 };
        let bytes = results.saturating_add(pairs).saturating_add(engine + search);
        let twice = cols || (self.exact && !self.all_quantiles.is_empty());
        let flop = 2.0 * n as f64 * m as f64 * depth as f64 * self.b.len() as f64 * if twice { 2.0 } else { 1.0 };
        let what = format!("{n} × {m} scores of {depth} terms");
        announce(&self.label, &what, flop, bytes.saturating_add(self.held), work)
    }

    /// The product alone, without softcap and statistics: what [`Product::run`] is measured against.
    ///
    /// # Errors
    /// As [`Product::run`].
    pub fn bare(&self, work: &Work) -> Result<()> {
        let sides = self.sides(work)?;
        let stream = self.stream(std::slice::from_ref(&sides.left), &sides.right, &self.label);
        Stream { softcap: None, ..stream }.run(&Drop, work).map(drop)
    }

    /// The scores themselves, `[used rows, m]`, f32.
    ///
    /// # Errors
    /// As [`Product::run`]; also more than 2²⁸ scores.
    pub fn matrix(&self, work: &Work) -> Result<Tensor> {
        let sides = self.sides(work)?;
        let shape = [sides.left.count(), sides.right[0].count()];
        let size = element_count(&shape)?;
        if size > MATRIX {
            return Err(Error::limit(format!("{} × {} scores would take {} MiB", shape[0], shape[1], size >> 18))
                .help("statistics of a product of any size take little memory; for the scores themselves choose fewer rows"));
        }
        work.reserve(&self.label, (size * size_of::<f32>()) as u64)?;
        let stream = self.stream(std::slice::from_ref(&sides.left), &sides.right, &self.label);
        Tensor::from_f32(stream.scores(self.absolute, work)?.into_vec(), &shape)
    }

    /// The same scores as the product of an identity with themselves, which are made here: each further pass over a few rows
    /// then takes next to nothing. `None` of more rows than a few or of few terms, and where a score is not finite, since the
    /// product itself tells whose fault that is.
    ///
    /// # Errors
    /// As [`Product::run`].
    pub fn made(&self, work: &Work) -> Result<Option<Product>> {
        self.check()?;
        let (rows, depth) = self.a.matrix_shape("the left operand")?;
        let (_, m) = self.b[0].matrix_shape("the right operand")?;
        let n = self.rows.as_ref().map_or(rows, Vec::len);
        if n > FEW.0 || n.saturating_mul(m) > FEW.1 || depth <= 2 * FEW.0 {
            return Ok(None);
        }
        let scores = Product { absolute: false, ..self.clone() }.matrix(work)?;
        if scores.f32_cow().iter().any(|x| !x.is_finite()) {
            return Ok(None);
        }
        Ok(Some(self.of_scores(scores)?))
    }

    /// What this product asks for, of these scores `[n, m]` in place of its own.
    ///
    /// # Errors
    /// Not a matrix.
    pub fn of_scores(&self, scores: Tensor) -> Result<Product> {
        let (n, _) = scores.matrix_shape("scores")?;
        let identity = (0..n * n).map(|at| if at % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
        Ok(Product {
            a: Tensor::from_f32(identity, &[n, n])?,
            b: vec![scores],
            rows: None,
            gain: None,
            row_scale: None,
            b_gain: None,
            b_shift: None,
            b_norms: None,
            cosine: false,
            factor: 1.0,
            softcap: None,
            ..self.clone()
        })
    }

    /// The norms of the columns of the first right operand, after the shift: those that cosines are divided by.
    ///
    /// # Errors
    /// As [`Product::run`].
    pub fn column_norms(&self, work: &Work) -> Result<Vec<f64>> {
        self.check()?;
        self.right(&self.b[0]).norms(work)
    }

    /// Histogram of all finite scores within `lo..=hi`, `bins` bins; makes the product again.
    ///
    /// # Errors
    /// As [`Product::run`]; also no bins, or a range that is not finite. A range without width is widened by ½ to each
    /// side, as numpy does.
    pub fn histogram(&self, bins: usize, lo: f64, hi: f64, work: &Work) -> Result<Histogram> {
        if bins == 0 || bins > 1 << 20 {
            return Err(Error::input(format!("a histogram has 1 to {} bins, not {bins}", 1 << 20)));
        }
        if lo.is_nan() || hi.is_nan() || (lo, hi) == (f64::INFINITY, f64::NEG_INFINITY) {
            return Err(Error::input("there is no finite score, so there is no histogram of the scores"));
        }
        if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
            return Err(Error::input(format!("a histogram from {lo} to {hi} is not possible")));
        }
        let (lo, hi) = if lo == hi { (lo - 0.5, hi + 0.5) } else { (lo, hi) };
        let width = (hi - lo) / bins as f64;
        let mut edges: Vec<f64> = (0..=bins).map(|i| lo + i as f64 * width).collect();
        edges[bins] = hi;
        let sides = self.sides(work)?;
        let stream = self.stream(std::slice::from_ref(&sides.left), &sides.right, &self.label);
        let counts: Vec<AtomicU64> = edges[..bins].iter().map(|_| AtomicU64::new(0)).collect();
        stream.run(&Count { edges: &edges, counts: &counts, absolute: self.absolute }, work)?;
        Ok(Histogram { counts: counts.into_iter().map(AtomicU64::into_inner).collect(), edges })
    }

    /// [`Product::histogram`] of one row, by its position among the used rows.
    ///
    /// # Errors
    /// As [`Product::histogram`]; also no such row.
    pub fn row_histogram(&self, row: usize, bins: usize, lo: f64, hi: f64, work: &Work) -> Result<Histogram> {
        let n = self.rows.as_ref().map_or(self.a.shape().first().copied().unwrap_or(0), Vec::len);
        if row >= n {
            return Err(Error::input(format!("row {row} is out of range: the product has {n} rows, numbered from 0")));
        }
        let index = self.rows.as_ref().map_or(row, |rows| rows[row]);
        let row_scale = self.row_scale.as_ref().and_then(|scale| scale.get(row)).map(|s| vec![*s]);
        Product { rows: Some(vec![index]), row_scale, ..self.clone() }.histogram(bins, lo, hi, work)
    }

    fn stream<'a>(&'a self, left: &'a [Side], right: &'a [Side], label: &'a str) -> Stream<'a> {
        Stream { left, right, softcap: self.softcap, label, arch: Arch::new(), limits: Limits::USUAL }
    }

    /// The operands with everything linear folded into them.
    fn sides(&self, work: &Work) -> Result<Sides> {
        self.check()?;
        let left = Side::new(&self.a, self.rows.as_deref(), self.gain.as_deref(), None);
        let right = self.b.iter().map(|b| self.right(b));
        let inverse = |norm: f64| if norm == 0.0 { 0.0 } else { norm.recip() };
        let mut scale: Vec<f64> = match &self.row_scale {
            Some(scale) => scale.iter().map(|s| s * f64::from(self.factor)).collect(),
            None => vec![f64::from(self.factor); left.count()],
        };
        let right = if self.cosine {
            scale.iter_mut().zip(left.norms(work)?).for_each(|(s, norm)| *s *= inverse(norm));
            right
                .map(|side| {
                    let inverse = |norms: &[f64]| norms.iter().copied().map(inverse).collect();
                    let scale = match &self.b_norms {
                        Some(known) => inverse(known),
                        None => inverse(&side.norms(work)?),
                    };
                    Ok(side.scaled(scale))
                })
                .collect::<Result<_>>()?
        } else {
            right.collect()
        };
        let left = if scale.iter().all(|s| *s == 1.0) { left } else { left.scaled(scale) };
        Ok(Sides { left, right })
    }

    /// The columns of a right operand.
    fn right(&self, b: &Tensor) -> Side {
        Side::new(&b.t(), None, self.b_gain.as_deref(), self.b_shift.as_deref())
    }

    fn check(&self) -> Result<()> {
        let (n, d) = self.a.matrix_shape("the left operand")?;
        let Some(first) = self.b.first() else {
            return Err(Error::input("a product needs a right operand"));
        };
        let (_, m) = first.matrix_shape("the right operand")?;
        for b in &self.b {
            let (depth, width) = b.matrix_shape("the right operand")?;
            if depth != d || width != m {
                return Err(Error::shape(format!(
                    "cannot multiply {:?} by {:?}: the right operand must be [{d}, {m}]",
                    self.a.shape(),
                    b.shape()
                )));
            }
        }
        let used = self.rows.as_ref().map_or(n, Vec::len);
        if used == 0 || m == 0 || d == 0 {
            return Err(Error::shape(format!("the product of {used} rows of {d} with {m} columns is empty")));
        }
        if let Some(row) = self.rows.iter().flatten().find(|row| **row >= n) {
            return Err(Error::input(format!("row {row} is out of range: there are {n} rows, numbered from 0")));
        }
        let lengths = [
            ("gain", self.gain.as_ref().map(Vec::len), d),
            ("row_scale", self.row_scale.as_ref().map(Vec::len), used),
            ("b_gain", self.b_gain.as_ref().map(Vec::len), d),
            ("b_shift", self.b_shift.as_ref().map(Vec::len), d),
            ("b_norms", self.b_norms.as_ref().map(|norms| norms.len()), m),
            ("col_mask", self.col_mask.as_ref().map(Vec::len), m),
        ];
        for (name, length, expected) in lengths {
            if let Some(length) = length
                && length != expected
            {
                return Err(Error::shape(format!("`{name}` has {length} values, but the product needs {expected}")));
            }
        }
        if let Some(cap) = self.softcap
            && !(cap > 0.0 && cap.is_finite())
        {
            return Err(Error::input(format!("a softcap must be a positive number, not {cap}")));
        }
        let quantiles = self.row_quantiles.iter().chain(&self.col_quantiles).chain(&self.all_quantiles);
        if m > u32::MAX as usize {
            return Err(Error::limit(format!("a product of {m} columns: {} at most", u32::MAX)));
        }
        match quantiles.into_iter().find(|q| !(0.0..=1.0).contains(*q)) {
            Some(q) => Err(Error::input(format!("a quantile lies between 0 and 1; {q} does not"))),
            None => Ok(()),
        }
    }

    /// Brackets the quantiles over all pairs by rows and columns at even distances.
    fn sample(&self, sides: &Sides, work: &Work) -> Result<Hunt> {
        let rows = sides.left.at(&spread(sides.left.count(), SAMPLE.0));
        let cols = spread(sides.right[0].count(), SAMPLE.1);
        let right: Vec<Side> = sides.right.iter().map(|side| side.at(&cols)).collect();
        let label = format!("{}, sample", self.label);
        let stream = self.stream(std::slice::from_ref(&rows), &right, &label);
        let scores = stream.scores(self.absolute, work)?;
        let sample = scores.iter().copied().filter(|x| x.is_finite());
        // The pass over columns finds them for nothing.
        Ok(Hunt::new(&self.all_quantiles, sample, self.exact || self.has_cols()))
    }

    fn has_cols(&self) -> bool {
        self.cols || !self.col_quantiles.is_empty()
    }

    fn moments(&self, central: &Central) -> Moments {
        let moments = central.finish();
        if self.shape { moments } else { Moments { skewness: f64::NAN, kurtosis: f64::NAN, ..moments } }
    }

    fn row(&self, row: Done) -> RowStats {
        RowStats {
            moments: self.moments(&row.moments),
            quantiles: row.quantiles,
            top: row.top,
            bottom: row.bottom,
            softmax: row.softmax,
            softmax_negative: row.softmax_negative,
            non_finite: row.non_finite,
        }
    }

    fn col(&self, j: usize, col: Done) -> ColStats {
        let masked = self.col_mask.as_ref().is_some_and(|mask| mask[j]);
        let weight = if masked { ColSoftmax { mean_weight: 0.0, max_weight: 0.0 } } else { col.weight };
        ColStats {
            moments: self.moments(&col.moments),
            quantiles: col.quantiles,
            softmax: self.softmax.then_some(weight),
            non_finite: col.non_finite,
        }
    }
}

/// Says what a long run will take beside its operands, and refuses one that does not fit into memory.
///
/// # Errors
/// It does not.
pub fn announce(label: &str, what: &str, flop: f64, bytes: usize, work: &Work) -> Result<()> {
    if flop > LONG || bytes > MUCH {
        work.note(&format!("{label}: {what}, {:.1} TFLOP, {} MiB beside the weights", flop / 1e12, bytes >> 20));
    }
    work.reserve(label, bytes as u64)
}

struct Sides {
    left: Side,
    right: Vec<Side>,
}

impl Sides {
    /// Rows and columns whose own numbers are NaN or infinite.
    fn broken(&self, work: &Work) -> Result<(Vec<usize>, Vec<usize>)> {
        let broken = |norms: Vec<f64>| norms.into_iter().enumerate().filter(|(_, norm)| !norm.is_finite()).map(|(i, _)| i);
        let rows = broken(self.left.unscaled().norms(work)?).collect();
        let mut cols: Vec<usize> = Vec::new();
        for side in &self.right {
            cols.extend(broken(side.unscaled().norms(work)?));
        }
        cols.sort_unstable();
        cols.dedup();
        Ok((rows, cols))
    }
}

/// At most `most` of `count` positions at even distances.
fn spread(count: usize, most: usize) -> Vec<usize> {
    let n = count.min(most);
    (0..n).map(|i| i * count / n).collect()
}

/// Forgets the scores.
struct Drop;

impl Fold for Drop {
    type State = ();
    fn begin(&self, _: Range<usize>) {}
    fn tile(&self, _: &mut (), _: Scores<'_>) {}
}

impl Stream<'_> {
    /// All scores, row by row.
    fn scores(&self, absolute: bool, work: &Work) -> Result<Held<f32>> {
        let (n, width) = (self.left[0].count(), self.right[0].count());
        let mut out = Held::new(vec![0.0; element_count(&[n, width])?]);
        self.run(&Keep { out: Shared(out.as_mut_ptr()), width, absolute }, work)?;
        Ok(out)
    }
}

/// Keeps the scores.
struct Keep {
    /// All rows, `width` scores each.
    out: Shared<f32>,
    width: usize,
    absolute: bool,
}

impl Fold for Keep {
    type State = ();

    fn begin(&self, _: Range<usize>) {}

    fn tile(&self, _: &mut (), mut scores: Scores<'_>) {
        let (rows, cols) = (scores.rows.clone(), scores.cols.clone());
        for (i, row) in rows.enumerate() {
            // SAFETY: the run lies inside the result, and no other task has rows of the same block.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.0.add(row * self.width + cols.start), cols.len()) };
            out.copy_from_slice(scores.row(i));
            if self.absolute {
                out.iter_mut().for_each(|x| *x = x.abs());
            }
        }
    }
}

/// Counts scores in bins.
struct Count<'a> {
    edges: &'a [f64],
    /// One set for all blocks: there may be many of both.
    counts: &'a [AtomicU64],
    absolute: bool,
}

impl Fold for Count<'_> {
    type State = ();

    fn begin(&self, _: Range<usize>) {}

    fn tile(&self, _: &mut (), mut scores: Scores<'_>) {
        let bins = self.counts.len();
        // A few bins would be contended for.
        let mut own = vec![0u64; if bins <= 1 << 12 { bins } else { 0 }];
        let (lo, hi) = (self.edges[0], self.edges[bins]);
        let inverse = bins as f64 / (hi - lo);
        for i in 0..scores.rows.len() {
            for x in scores.row(i) {
                let x = f64::from(if self.absolute { x.abs() } else { *x });
                if x >= lo && x <= hi {
                    // The quotient may round across a border.
                    let mut bin = (((x - lo) * inverse) as usize).min(bins - 1);
                    if x < self.edges[bin] {
                        bin -= 1;
                    } else if bin + 1 < bins && x >= self.edges[bin + 1] {
                        bin += 1;
                    }
                    match own.get_mut(bin) {
                        Some(count) => *count += 1,
                        None => {
                            self.counts[bin].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
        for (all, count) in self.counts.iter().zip(own) {
            all.fetch_add(count, Ordering::Relaxed);
        }
    }
}
