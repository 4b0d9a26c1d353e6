//! The open core: statistics of a product that is never stored, for any two matrices.

use super::common::{Side, check_quantiles, moment_column, note_non_finite, with_quantiles};
use crate::compute::product::{ColStats, Histogram, Moments, Outcome, Pair, Product, RowStats, Scored, announce};
use crate::compute::{finite_rows, matmul, matmul_bytes, mean_row, second_moment};
use crate::error::{Error, Result};
use crate::options::{Json, JsonMap, Options};
use crate::provenance::Provenance;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use rayon::prelude::*;
use serde_json::json;
use std::sync::OnceLock;

crate::choice! {
    /// How scores are scaled.
    pub enum Scale {
        /// As they are.
        #[default] Raw = "raw",
        /// Divided by both norms, after gain and shift.
        Cosine = "cosine",
        /// Each row standardised over the unmasked columns.
        Zscore = "zscore",
    }
}

crate::options! {
    /// Options of [`product_stats`].
    pub struct ProductOptions {
        /// Multiplies the columns of A, `[d]`: norm gains, for example.
        row_gain: Option<Tensor> = None,
        /// `"raw"`; `"cosine"`: divided by both norms (after the gain); `"zscore"`: each row standardised over the unmasked
        /// columns.
        scale: Scale = Scale::default(),
        /// Length of the top and bottom list of each row.
        k: usize = 10,
        /// Quantiles of each row, each column and all scores, interpolated linearly; one column each.
        quantiles: Vec<f64> = vec![0.5, 0.75],
        /// Moments, quantiles and lists of |score|, pairs in the order of |score|; the scores of pairs and the softmax stay
        /// signed.
        absolute: bool = false,
        /// Number of the highest-scoring pairs to keep.
        pairs: usize = 0,
        /// Softmax over the columns of each row: its top-1 and top-5 mass and entropy (nats), and each column's weights.
        softmax: bool = false,
        /// Statistics of columns: a second pass over the product.
        cols: bool = true,
        /// Quantiles over all scores to the last bit, which without `cols` takes a second pass, too. If not, `summary()` has an
        /// `<quantile>_error` for each: the exact one lies no farther away.
        exact: bool = true,
        /// Truth values, `[m]`: columns kept out of the lists and of the softmax; moments and quantiles are over all.
        col_mask: Option<Vec<bool>> = None,
    }
}

/// What [`product_stats`] found. Copies share.
#[derive(Clone, Debug)]
pub struct ProductStats {
    /// One row for each row of A: `row mean std skewness kurtosis <quantiles> min max top_ids top_scores bottom_ids
    /// bottom_scores`, and with softmax `top1 top5 entropy`.
    pub rows: Side,
    cols: Option<Side>,
    pairs: Table,
    all: JsonMap<String, Json>,
    product: Product,
    range: (f64, f64),
}

impl std::fmt::Display for ProductStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "product_stats: {} rows × {} columns", self.rows.0.len(), self.product.b[0].shape()[1])
    }
}

impl ProductStats {
    /// One row for each column of B: `col mean std skewness kurtosis <quantiles> min max`, and with softmax `mean_weight
    /// max_weight`.
    ///
    /// # Errors
    /// They were not asked for.
    pub fn cols(&self) -> Result<Side> {
        let unasked = || Error::input("there are no statistics of columns: the option `cols` was false");
        self.cols.clone().ok_or_else(unasked)
    }

    /// The highest-scoring pairs: `row col score`, falling.
    pub fn pairs(&self) -> Table {
        self.pairs.clone()
    }

    /// Over all finite scores, n of them: `n mean std <quantiles> min max`; without `exact` each quantile's `_error`, too.
    pub fn summary(&self) -> JsonMap<String, Json> {
        self.all.clone()
    }

    /// Histogram of all scores with `bins` bins of equal width from the least to the largest; makes the product again.
    ///
    /// # Errors
    /// No bins, or the user's interruption.
    pub fn histogram(&self, bins: usize, work: &Work) -> Result<Histogram> {
        self.product.histogram(bins, self.range.0, self.range.1, work)
    }
}

/// Statistics of the scores `S = (row_gain ∘ A) @ B` for `A` `[n, d]` and `B` `[d, m]`, either of which may be a mapped
/// weight: moments, quantiles, top and bottom lists of each row, statistics of each column, the highest pairs. S is never
/// stored; memory grows with n + m.
///
/// # Errors
/// Shapes that do not fit, quantiles outside 0..=1, or the user's interruption.
pub fn product_stats(a: &Tensor, b: &Tensor, options: &ProductOptions, work: &Work) -> Result<ProductStats> {
    let (_, d) = a.matrix_shape("A")?;
    let (_, m) = b.matrix_shape("B")?;
    check_quantiles(&options.quantiles)?;
    if let Some(gain) = &options.row_gain
        && gain.shape() != [d]
    {
        return Err(Error::shape(format!(
            "option `row_gain` must have shape [{d}], as A has {d} columns, not {:?}",
            gain.shape()
        )));
    }
    if let Some(mask) = &options.col_mask
        && mask.len() != m
    {
        return Err(Error::shape(format!("option `col_mask` has {} values, but B has {m} columns", mask.len())));
    }
    let mut product = Product {
        gain: options.row_gain.as_ref().map(Tensor::to_f32),
        cosine: options.scale == Scale::Cosine,
        absolute: options.absolute,
        top: options.k,
        bottom: options.k,
        col_mask: options.col_mask.clone(),
        row_quantiles: options.quantiles.clone(),
        col_quantiles: if options.cols { options.quantiles.clone() } else { Vec::new() },
        all_quantiles: options.quantiles.clone(),
        exact: options.exact,
        cols: options.cols,
        softmax: options.softmax,
        pairs: options.pairs,
        ..Product::new(a.clone(), b.clone())
    };
    if options.scale == Scale::Zscore {
        product = Columns::new(b, options.col_mask.as_deref())?.standardise(product, work)?;
    }
    let mut outcome = product.run(work)?;
    note_non_finite("product_stats", &outcome, ("rows", |row| row), ("columns", |col| col), work);
    let provenance = Provenance::new("product_stats").with("options", options.canonical());
    let all_rows: Vec<usize> = (0..outcome.n).collect();
    let rows = Table::new(provenance.clone()).with("row", all_rows)?;
    let rows = row_columns(rows, &mut outcome.rows, &options.quantiles, work)?;
    let cols = options.cols.then(|| col_table(provenance.clone(), &outcome, &options.quantiles)).transpose()?;
    Ok(ProductStats {
        rows: Side(rows),
        cols: cols.map(Side),
        pairs: pair_table(provenance, ("row", "col"), &product, &outcome, (|row| row, |col| col), work)?,
        all: summary(&outcome, &product),
        range: (outcome.all.moments.min, outcome.all.moments.max),
        product,
    })
}

/// The columns of rows, whose lists are moved into them.
fn row_columns(table: Table, rows: &mut [RowStats], quantiles: &[f64], work: &Work) -> Result<Table> {
    let (top_ids, top_scores) = list_columns(rows, |row| &mut row.top, work)?;
    let (bottom_ids, bottom_scores) = list_columns(rows, |row| &mut row.bottom, work)?;
    let values: Vec<&[f64]> = rows.iter().map(|r| r.quantiles.as_slice()).collect();
    let table = moment_columns(table, rows.iter().map(|r| &r.moments), quantiles, &values)?
        .with("top_ids", top_ids)?
        .with("top_scores", top_scores)?
        .with("bottom_ids", bottom_ids)?
        .with("bottom_scores", bottom_scores)?;
    concentration_columns(table, rows)
}

/// Ids and scores of a list of each row.
type Lists = (Vec<Vec<i64>>, Vec<Vec<f64>>);

/// Ids and scores of one list of each row, which is empty then: a million lists are most of the memory of a run.
fn list_columns(rows: &mut [RowStats], of: impl Fn(&mut RowStats) -> &mut Vec<Scored> + Sync, work: &Work) -> Result<Lists> {
    let mut columns = (vec![Vec::new(); rows.len()], vec![Vec::new(); rows.len()]);
    work.install(|| {
        let cells = (&mut columns.0, &mut columns.1).into_par_iter().with_min_len(256);
        rows.par_iter_mut().zip(cells).try_for_each(|(row, (row_ids, row_scores))| {
            work.check()?;
            let list = std::mem::take(of(row));
            (*row_ids, *row_scores) = (scored_ids(&list), scores(&list));
            Ok(())
        })
    })?;
    Ok(columns)
}

fn col_table(provenance: Provenance, outcome: &Outcome, quantiles: &[f64]) -> Result<Table> {
    let cols = &outcome.cols;
    let table = Table::new(provenance).with("col", (0..outcome.m).collect::<Vec<usize>>())?;
    let table = moment_columns(table, cols.iter().map(|c| &c.moments), quantiles, &col_quantiles(cols))?;
    weight_columns(table, cols)
}

fn moment_columns<'a>(
    table: Table,
    moments: impl Iterator<Item = &'a Moments> + Clone,
    quantiles: &[f64],
    values: &[&[f64]],
) -> Result<Table> {
    let table = table
        .with("mean", moment_column(moments.clone(), |m| m.mean))?
        .with("std", moment_column(moments.clone(), |m| m.std))?
        .with("skewness", moment_column(moments.clone(), |m| m.skewness))?
        .with("kurtosis", moment_column(moments.clone(), |m| m.kurtosis))?;
    with_quantiles(table, quantiles, values)?
        .with("min", moment_column(moments.clone(), |m| m.min))?
        .with("max", moment_column(moments, |m| m.max))
}

/// The quantiles of columns, as [`with_quantiles`] takes them.
pub(super) fn col_quantiles(cols: &[ColStats]) -> Vec<&[f64]> {
    cols.iter().map(|c| c.quantiles.as_slice()).collect()
}

/// Adds `top1 top5 entropy` of each row's softmax, where there is one.
pub(super) fn concentration_columns(table: Table, rows: &[RowStats]) -> Result<Table> {
    let Some(softmax) = rows.iter().map(|r| r.softmax).collect::<Option<Vec<_>>>() else { return Ok(table) };
    table
        .with("top1", softmax.iter().map(|s| s.top1).collect::<Vec<f64>>())?
        .with("top5", softmax.iter().map(|s| s.top5).collect::<Vec<f64>>())?
        .with("entropy", softmax.iter().map(|s| s.entropy).collect::<Vec<f64>>())
}

/// Adds `mean_weight max_weight` of each column of the softmax, where there is one.
fn weight_columns(table: Table, cols: &[ColStats]) -> Result<Table> {
    let Some(softmax) = cols.iter().map(|c| c.softmax).collect::<Option<Vec<_>>>() else { return Ok(table) };
    table
        .with("mean_weight", softmax.iter().map(|s| s.mean_weight).collect::<Vec<f64>>())?
        .with("max_weight", softmax.iter().map(|s| s.max_weight).collect::<Vec<f64>>())
}

/// The table of the highest pairs under the names and ids of the caller. Where the order is by |score|, the scores get
/// their signs back.
pub(super) fn pair_table(
    provenance: Provenance,
    names: (&str, &str),
    product: &Product,
    outcome: &Outcome,
    ids: (impl Fn(usize) -> usize, impl Fn(usize) -> usize),
    work: &Work,
) -> Result<Table> {
    let mut scores: Vec<f64> = outcome.pairs.iter().map(|p| f64::from(p.score)).collect();
    if product.absolute {
        scores.iter_mut().zip(signs(product, &outcome.pairs, work)?).for_each(|(score, sign)| *score *= sign);
    }
    Table::new(provenance)
        .with(names.0, outcome.pairs.iter().map(|p| ids.0(p.row)).collect::<Vec<usize>>())?
        .with(names.1, outcome.pairs.iter().map(|p| ids.1(p.col)).collect::<Vec<usize>>())?
        .with("score", scores)
}

/// 1 or −1 for each pair, from the same product of the rows and columns that occur.
fn signs(product: &Product, pairs: &[Pair], work: &Work) -> Result<Vec<f64>> {
    const CHUNK: usize = 256;
    let mut out = Vec::with_capacity(pairs.len());
    for chunk in pairs.chunks(CHUNK) {
        let rows: Vec<usize> = chunk.iter().map(|p| p.row).collect();
        let cols: Vec<usize> = chunk.iter().map(|p| p.col).collect();
        let pick = |list: &Vec<f64>| rows.iter().map(|r| list[*r]).collect();
        let part = Product {
            a: product.a.clone(),
            b: product.b.iter().map(|b| Ok(gather(&b.t(), &cols, None)?.t())).collect::<Result<_>>()?,
            row_scale: product.row_scale.as_ref().map(pick),
            rows: Some(rows.iter().map(|r| product.rows.as_ref().map_or(*r, |used| used[*r])).collect()),
            gain: product.gain.clone(),
            b_shift: product.b_shift.clone(),
            cosine: product.cosine,
            factor: product.factor,
            softcap: product.softcap,
            ..Product::averaged(product.a.clone(), Vec::new())
        };
        let scores = part.matrix(work)?.to_f32();
        out.extend((0..chunk.len()).map(|i| if scores[i * chunk.len() + i] < 0.0 { -1.0 } else { 1.0 }));
    }
    Ok(out)
}

/// The map over all finite scores, n of them: `n mean std <quantiles> min max`, and the errors of quantiles that need not be exact.
pub(super) fn summary(outcome: &Outcome, product: &Product) -> JsonMap<String, Json> {
    let all = &outcome.all;
    let mut map = JsonMap::new();
    map.insert("n".into(), json!(all.moments.n));
    map.insert("mean".into(), json!(all.moments.mean));
    map.insert("std".into(), json!(all.moments.std));
    for (q, (value, error)) in product.all_quantiles.iter().zip(all.quantiles.iter().zip(&all.errors)) {
        let name = super::common::quantile_name(*q);
        if !product.exact {
            map.insert(format!("{name}_error"), json!(error));
        }
        map.insert(name, json!(value));
    }
    map.insert("min".into(), json!(all.moments.min));
    map.insert("max".into(), json!(all.moments.max));
    map
}

/// The ids of a list of scored columns, as a table cell.
pub(super) fn scored_ids(list: &[Scored]) -> Vec<i64> {
    list.iter().map(|s| i64::from(s.id)).collect()
}

/// The scores of a list of scored columns, as a table cell.
pub(super) fn scores(list: &[Scored]) -> Vec<f64> {
    list.iter().map(|s| f64::from(s.score)).collect()
}

/// The columns of a right operand that a row is standardised over: the unmasked ones that hold neither NaN nor infinities.
/// What is found out about them is kept.
pub(super) struct Columns {
    /// `[m, d]`.
    vectors: Tensor,
    /// Which are not masked, if not all.
    unmasked: Option<Vec<bool>>,
    /// The mean of some of them, `[d]`.
    nearly: OnceLock<Vec<f32>>,
    /// Their mean, `[d]`, and which take part, if not all.
    mean: OnceLock<(Vec<f64>, Option<Vec<bool>>)>,
    /// Their covariance, `[d, d]`.
    covariance: OnceLock<Tensor>,
    /// The norms of all, masked or not: as they are, and without the mean.
    norms: [OnceLock<Vec<f64>>; 2],
}

/// What is in the place, or what `make` puts there.
fn once<T>(place: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match place.get() {
        Some(known) => Ok(known),
        None => make().map(|made| place.get_or_init(|| made)),
    }
}

/// Mean and variance of each row's scores over some columns, and what went wrong with others.
pub(super) struct RowMoments {
    /// NaN for rows that are not finite.
    pub means: Vec<f64>,
    /// As `means`.
    pub variances: Vec<f64>,
    /// Number of scores left out, and the rows and columns whose fault that is.
    pub left_out: (u64, (Vec<usize>, Vec<usize>)),
}

impl Columns {
    /// Those of `b` `[d, m]`.
    ///
    /// # Errors
    /// No column takes part.
    pub(super) fn new(b: &Tensor, mask: Option<&[bool]>) -> Result<Self> {
        let unmasked: Option<Vec<bool>> = mask.map(|mask| mask.iter().map(|masked| !masked).collect());
        if unmasked.as_ref().is_some_and(|unmasked| !unmasked.contains(&true)) {
            return Err(Error::input("every column is masked, so there is nothing to standardise over"));
        }
        let (nearly, mean, covariance, norms) = Default::default();
        Ok(Columns { vectors: b.t(), unmasked, nearly, mean, covariance, norms })
    }

    /// Their mean, `[d]`: a pass over the columns.
    ///
    /// # Errors
    /// No column takes part, or the user's interruption.
    pub(super) fn mean(&self, work: &Work) -> Result<&[f64]> {
        Ok(&self.mean_and_used(work)?.0)
    }

    fn mean_and_used(&self, work: &Work) -> Result<&(Vec<f64>, Option<Vec<bool>>)> {
        once(&self.mean, || finite_mean(&self.vectors, self.unmasked.clone(), work))
    }

    /// The norms of all columns, without the mean where they are `centred`: a pass over the columns.
    ///
    /// # Errors
    /// As [`Columns::mean`].
    pub(super) fn norms(&self, centred: bool, work: &Work) -> Result<&[f64]> {
        let norms = once(&self.norms[usize::from(centred)], || {
            let b_shift = if centred { Some(self.shift(work)?) } else { None };
            let nothing = Tensor::from_f32(vec![0.0; self.vectors.shape()[1]], &[1, self.vectors.shape()[1]])?;
            Product { b_shift, ..Product::new(nothing, self.vectors.t()) }.column_norms(work)
        })?;
        Ok(norms)
    }

    /// The same product with each row's scores standardised over these columns (mean 0, variance 1 there):
    /// (a·b_j − mean) / σ = a·(b_j − b̄) / σ with b̄ the mean column (METHODS.md 1.4, exact shortcuts). Rows without variance
    /// score 0. The scores of a few rows are standardised when they are made; of more, b̄ is rounded to 32 bits, which
    /// moves a row's scores by about 1e-7 of |a| |b̄| / σ. The product must be a plain one with these columns: no cosine,
    /// softcap, factor or scale of rows.
    ///
    /// # Errors
    /// As [`Columns::mean`].
    pub(super) fn standardise(&self, product: Product, work: &Work) -> Result<Product> {
        let shifted = Product { b_shift: Some(self.nearly()), ..product.clone() };
        if let Some(made) = shifted.made(work)? {
            let (n, m) = made.b[0].matrix_shape("scores")?;
            let mut scores = made.b[0].to_f32();
            for row in scores.chunks_exact_mut(m) {
                let (mean, variance) = self.of_finite(row);
                let std = variance.sqrt();
                let standard = |x: f32| if std > 0.0 { ((f64::from(x) - mean) / std) as f32 } else { 0.0 };
                row.iter_mut().for_each(|x| *x = standard(*x));
            }
            return made.of_scores(Tensor::from_f32(scores, &[n, m])?);
        }
        let variances = self.moments(&product, work)?.variances;
        let scale = variances.into_iter().map(|v| if v > 0.0 { v.sqrt().recip() } else { 0.0 }).collect();
        Ok(Product { row_scale: Some(scale), b_shift: Some(self.shift(work)?), ..product })
    }

    /// Mean and variance of each row of a plain product with these columns.
    ///
    /// # Errors
    /// As [`Columns::mean`].
    pub(super) fn moments(&self, product: &Product, work: &Work) -> Result<RowMoments> {
        let (n, d) = product.a.matrix_shape("A")?;
        // A pass over the product costs n · m · d, the covariance m · d² once.
        if product.rows.as_ref().map_or(n, Vec::len) * 4 < d {
            self.streamed_moments(product, work)
        } else {
            self.closed_moments(product, work)
        }
    }

    /// [`Columns::moments`] by making the product.
    fn streamed_moments(&self, product: &Product, work: &Work) -> Result<RowMoments> {
        let shift = self.nearly();
        let plain = |b: Tensor| Product {
            rows: product.rows.clone(),
            gain: product.gain.clone(),
            b_shift: Some(shift.clone()),
            shape: false,
            label: product.label.clone(),
            ..Product::new(product.a.clone(), b)
        };
        let outcome = plain(self.vectors.t()).run(work)?;
        let masked: Vec<usize> = self.unmasked.iter().flat_map(|used| (0..used.len()).filter(|i| !used[*i])).collect();
        let is_unmasked = |col: &&usize| self.unmasked.as_ref().is_none_or(|unmasked| unmasked[**col]);
        if outcome.broken.1.iter().filter(is_unmasked).count() + masked.len() == outcome.m {
            return Err(no_columns());
        }
        let mut moments: Vec<Moments> = outcome.rows.into_iter().map(|row| row.moments).collect();
        if !masked.is_empty() {
            let rest = plain(gather(&self.vectors, &masked, None)?.t()).run(work)?.rows;
            moments.iter_mut().zip(rest).for_each(|(all, part)| *all = all.without(&part.moments, f64::NAN, f64::NAN));
        }
        let near = Tensor::from_f64(shift.iter().map(|v| f64::from(*v)).collect(), &[shift.len(), 1])?;
        let shifted = products(product, &near, work)?;
        Ok(RowMoments {
            means: moments.iter().zip(shifted).map(|(m, by)| m.mean + by).collect(),
            variances: moments.iter().map(|m| m.std * m.std).collect(),
            left_out: (outcome.non_finite, outcome.broken),
        })
    }

    /// [`Columns::moments`] from mean and covariance of the columns: `a · b̄` and `aᵀ Cov(b) a`.
    fn closed_moments(&self, product: &Product, work: &Work) -> Result<RowMoments> {
        let (n, d) = product.a.matrix_shape("A")?;
        let (count, m) = (product.rows.as_ref().map_or(n, Vec::len), self.vectors.shape()[0]);
        // What is known already does not come anew.
        let (square, columns) = if self.covariance.get().is_some() { (0, 0) } else { (d.saturating_mul(8 * d), m) };
        let pass = 12 * piece_rows(d).min(count) * d + matmul_bytes([count, d, d], work) + 48 * count;
        let flop = (2.0 * count as f64 + columns as f64) * (d as f64).powi(2);
        let what = format!("moments of {count} rows by the covariance of {m} columns, {d} × {d}");
        announce(&product.label, &what, flop, square.saturating_add(pass), work)?;
        let (mean, used) = self.mean_and_used(work)?;
        let means = products(product, &Tensor::from_f64(mean.clone(), &[mean.len(), 1])?, work)?;
        // Below 0 by rounding alone; NaN stays.
        let variances =
            quadratic_forms(product, self.covariance(work)?, work)?.into_iter().map(|v| if v < 0.0 { 0.0 } else { v });
        let rows: Vec<usize> = means.iter().enumerate().filter(|(_, mean)| !mean.is_finite()).map(|(i, _)| i).collect();
        let cols: Vec<usize> = used.iter().flat_map(|used| (0..used.len()).filter(|i| !used[*i])).collect();
        let (n, m) = (means.len(), self.vectors.shape()[0]);
        let count = rows.len() * m + (n - rows.len()) * cols.len();
        Ok(RowMoments { variances: variances.collect(), means, left_out: (count as u64, (rows, cols)) })
    }

    /// Mean and variance over the unmasked ones of a row's scores, all finite.
    fn of_finite(&self, row: &[f32]) -> (f64, f64) {
        let is_unmasked = |j: usize| self.unmasked.as_ref().is_none_or(|unmasked| unmasked[j]);
        let used = || row.iter().enumerate().filter(|(j, _)| is_unmasked(*j)).map(|(_, x)| f64::from(*x));
        let count = used().count() as f64;
        let mean = used().sum::<f64>() / count;
        (mean, used().map(|x| (x - mean).powi(2)).sum::<f64>() / count)
    }

    /// A vector near the mean, from columns at even distances: scores of columns from which it is subtracted lose no precision
    /// to what the columns have in common, and no pass over all of them is needed. Zeros where it finds no finite column.
    fn nearly(&self) -> Vec<f32> {
        const SOME: usize = 256;
        let near = || {
            let (m, d) = (self.vectors.shape()[0], self.vectors.shape()[1]);
            let (mut sum, mut row, mut count) = (vec![0f64; d], vec![0f32; d], 0.0);
            for i in 0..m.min(SOME) {
                let at = i * m / m.min(SOME);
                self.vectors.widen_block(at..at + 1, 0..d, &mut row);
                if row.iter().all(|v| v.is_finite()) {
                    sum.iter_mut().zip(&row).for_each(|(s, v)| *s += f64::from(*v));
                    count += 1.0;
                }
            }
            sum.into_iter().map(|s| if count > 0.0 { (s / count) as f32 } else { 0.0 }).collect()
        };
        self.nearly.get_or_init(near).clone()
    }

    fn shift(&self, work: &Work) -> Result<Vec<f32>> {
        Ok(self.mean(work)?.iter().map(|v| *v as f32).collect())
    }

    fn covariance(&self, work: &Work) -> Result<&Tensor> {
        let (mean, used) = self.mean_and_used(work)?;
        once(&self.covariance, || {
            let d = mean.len();
            let mut squares = second_moment(&self.vectors, used.as_deref(), None, false, work)?;
            for (row, x) in squares.chunks_exact_mut(d.max(1)).zip(mean) {
                row.iter_mut().zip(mean).for_each(|(s, y)| *s -= x * y);
            }
            Tensor::from_f64(squares, &[d, d])
        })
    }
}

fn no_columns() -> Error {
    Error::input("every column is masked or holds NaN or infinite numbers, so there is no mean column")
}

/// The mean of those rows of a matrix that are `used` and hold neither NaN nor infinities, and which these are, if not all.
///
/// # Errors
/// There are none, or the user's interruption.
pub(super) fn finite_mean(rows: &Tensor, used: Option<Vec<bool>>, work: &Work) -> Result<(Vec<f64>, Option<Vec<bool>>)> {
    let mean = mean_row(rows, used.as_deref(), work)?;
    if mean.iter().all(|v| v.is_finite()) {
        return Ok((mean, used));
    }
    let mut finite = finite_rows(rows, None, work)?;
    finite.iter_mut().zip(used.iter().flatten()).for_each(|(finite, used)| *finite &= *used);
    if !finite.contains(&true) {
        return Err(no_columns());
    }
    Ok((mean_row(rows, Some(&finite), work)?, Some(finite)))
}

/// aᵀ C a for each used row a of the product's left side (gain included).
fn quadratic_forms(product: &Product, c: &Tensor, work: &Work) -> Result<Vec<f64>> {
    by_rows(product, c, work, |row, turned| row.iter().zip(turned).map(|(x, y)| f64::from(*x) * y).sum())
}

/// a · v for each used row a of the product's left side (gain included) and `v` `[d, 1]`.
fn products(product: &Product, v: &Tensor, work: &Work) -> Result<Vec<f64>> {
    by_rows(product, v, work, |_, turned| turned[0])
}

/// How many rows [`by_rows`] takes at a time: of usual widths 4 million numbers.
fn piece_rows(d: usize) -> usize {
    ((1 << 22) / d.max(1)).clamp(128, 2048)
}

/// `of(a, a C)` for each used row a of the product's left side (gain included) and `c` `[d, k]`, f64.
fn by_rows(product: &Product, c: &Tensor, work: &Work, of: impl Fn(&[f32], &[f64]) -> f64) -> Result<Vec<f64>> {
    let (n, d) = product.a.matrix_shape("A")?;
    let (_, k) = c.matrix_shape("C")?;
    let rows: Vec<usize> = product.rows.clone().unwrap_or_else(|| (0..n).collect());
    let mut out = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(piece_rows(d)) {
        work.check()?;
        let dense = gather(&product.a, chunk, product.gain.as_deref())?;
        let turned = matmul(&dense, c, work)?;
        let (dense, turned) = (dense.f32_cow(), turned.as_f64().unwrap_or_default());
        out.extend(dense.chunks_exact(d.max(1)).zip(turned.chunks_exact(k.max(1))).map(|(row, turned)| of(row, turned)));
    }
    Ok(out)
}

/// Rows of a matrix as a dense f32 one, each multiplied by `gain` where one is given.
pub(super) fn gather(matrix: &Tensor, rows: &[usize], gain: Option<&[f32]>) -> Result<Tensor> {
    let (n, d) = matrix.matrix_shape("the matrix")?;
    let mut out = vec![0f32; rows.len() * d];
    for (row, values) in rows.iter().zip(out.chunks_exact_mut(d.max(1))) {
        if *row >= n {
            return Err(Error::internal(format!("row {row} of a matrix with {n} rows")));
        }
        matrix.widen_block(*row..row + 1, 0..d, values);
        if let Some(gain) = gain {
            values.iter_mut().zip(gain).for_each(|(v, g)| *v *= g);
        }
    }
    Tensor::from_f32(out, &[rows.len(), d])
}
