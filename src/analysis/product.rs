//! The open core: statistics of a product that is never stored, for any two matrices.

use super::common::{Side, check_quantiles, moment_column, note_non_finite, with_quantiles};
use crate::compute::product::{ColStats, Histogram, Moments, Outcome, Pair, Product, RowStats, Scored};
use crate::compute::{finite_rows, matmul, mean_row, second_moment};
use crate::error::{Error, Result};
use crate::options::{Json, JsonMap, Options};
use crate::provenance::Provenance;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
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
        product = Columns::new(b, options.col_mask.as_deref(), work)?.standardise(product, work)?;
    }
    let outcome = product.run(work)?;
    note_non_finite("product_stats", &outcome, ("rows", |row| row), ("columns", |col| col), work);
    let provenance = Provenance::new("product_stats").with("options", options.canonical());
    let all_rows: Vec<usize> = (0..outcome.n).collect();
    let rows = Table::new(provenance.clone()).with("row", all_rows)?;
    let rows = row_columns(rows, &outcome.rows, &options.quantiles)?;
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

fn row_columns(table: Table, rows: &[RowStats], quantiles: &[f64]) -> Result<Table> {
    let values: Vec<&[f64]> = rows.iter().map(|r| r.quantiles.as_slice()).collect();
    let table = moment_columns(table, rows.iter().map(|r| &r.moments), quantiles, &values)?
        .with("top_ids", rows.iter().map(|r| scored_ids(&r.top)).collect::<Vec<_>>())?
        .with("top_scores", rows.iter().map(|r| scores(&r.top)).collect::<Vec<_>>())?
        .with("bottom_ids", rows.iter().map(|r| scored_ids(&r.bottom)).collect::<Vec<_>>())?
        .with("bottom_scores", rows.iter().map(|r| scores(&r.bottom)).collect::<Vec<_>>())?;
    concentration_columns(table, rows)
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
pub(super) struct Columns {
    /// `[m, d]`.
    vectors: Tensor,
    /// Which take part, if not all.
    used: Option<Vec<bool>>,
    /// Their mean, `[d]`.
    mean: Vec<f64>,
    /// Their covariance, `[d, d]`, once it is needed.
    covariance: OnceLock<Tensor>,
}

impl Columns {
    /// Those of `b` `[d, m]`.
    ///
    /// # Errors
    /// No column takes part, or the user's interruption.
    pub(super) fn new(b: &Tensor, mask: Option<&[bool]>, work: &Work) -> Result<Self> {
        let vectors = b.t();
        let unmasked: Option<Vec<bool>> = mask.map(|mask| mask.iter().map(|masked| !masked).collect());
        if unmasked.as_ref().is_some_and(|unmasked| !unmasked.contains(&true)) {
            return Err(Error::input("every column is masked, so there is nothing to standardise over"));
        }
        let (mean, used) = finite_mean(&vectors, unmasked, work)?;
        Ok(Columns { vectors, used, mean, covariance: OnceLock::new() })
    }

    /// The columns that take no part.
    pub(super) fn left_out(&self) -> Vec<usize> {
        self.used.iter().flat_map(|used| (0..used.len()).filter(|i| !used[*i])).collect()
    }

    /// Their mean, `[d, 1]`.
    pub(super) fn mean(&self) -> Result<Tensor> {
        Tensor::from_f64(self.mean.clone(), &[self.mean.len(), 1])
    }

    /// The same product with each row's scores standardised over these columns (mean 0, variance 1 there), exactly:
    /// (a·b_j − mean) / σ = a·(b_j − b̄) / σ with b̄ the mean column (METHODS.md 1.4, exact shortcuts). Rows without variance
    /// score 0. The product must be a plain one with these columns: no cosine, softcap, factor or scale of rows.
    ///
    /// # Errors
    /// The user's interruption.
    pub(super) fn standardise(&self, product: Product, work: &Work) -> Result<Product> {
        let variances = self.variances(&product, work)?;
        let scale = variances.into_iter().map(|v| if v > 0.0 { v.sqrt().recip() } else { 0.0 }).collect();
        Ok(Product { row_scale: Some(scale), b_shift: Some(self.shift()), ..product })
    }

    /// The variance of each row's scores over these columns. NaN for rows that are not finite.
    ///
    /// # Errors
    /// The user's interruption.
    pub(super) fn variances(&self, product: &Product, work: &Work) -> Result<Vec<f64>> {
        let (n, d) = product.a.matrix_shape("A")?;
        // A pass over the product costs n · m · d, the covariance m · d² once.
        let few = product.rows.as_ref().map_or(n, Vec::len) * 4 < d;
        if few && self.covariance.get().is_none() {
            self.streamed_variances(product, work)
        } else {
            quadratic_forms(product, self.covariance(work)?, work)
        }
    }

    /// [`Columns::variances`] by making the product, with centred columns so that a large mean takes no precision.
    fn streamed_variances(&self, product: &Product, work: &Work) -> Result<Vec<f64>> {
        let moments = |b: Tensor| -> Result<Vec<Moments>> {
            let plain = Product {
                rows: product.rows.clone(),
                gain: product.gain.clone(),
                b_shift: Some(self.shift()),
                shape: false,
                label: product.label.clone(),
                ..Product::new(product.a.clone(), b)
            };
            Ok(plain.run(work)?.rows.into_iter().map(|row| row.moments).collect())
        };
        let mut of_used = moments(self.vectors.t())?;
        let left_out = self.left_out();
        if !left_out.is_empty() {
            let rest = moments(gather(&self.vectors, &left_out, None)?.t())?;
            of_used.iter_mut().zip(rest).for_each(|(all, part)| *all = all.without(&part, f64::NAN, f64::NAN));
        }
        Ok(of_used.into_iter().map(|m| m.std * m.std).collect())
    }

    fn shift(&self) -> Vec<f32> {
        self.mean.iter().map(|v| *v as f32).collect()
    }

    fn covariance(&self, work: &Work) -> Result<&Tensor> {
        if let Some(covariance) = self.covariance.get() {
            return Ok(covariance);
        }
        let d = self.mean.len();
        let mut squares = second_moment(&self.vectors, self.used.as_deref(), None, false, work)?.to_f64();
        for (row, x) in squares.chunks_exact_mut(d.max(1)).zip(&self.mean) {
            row.iter_mut().zip(&self.mean).for_each(|(s, y)| *s -= x * y);
        }
        let covariance = Tensor::from_f64(squares, &[d, d])?;
        Ok(self.covariance.get_or_init(|| covariance))
    }
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
        return Err(Error::input("every column is masked or holds NaN or infinite numbers, so there is no mean column"));
    }
    Ok((mean_row(rows, Some(&finite), work)?, Some(finite)))
}

/// aᵀ C a for each used row a of the product's left side (gain included).
fn quadratic_forms(product: &Product, c: &Tensor, work: &Work) -> Result<Vec<f64>> {
    const CHUNK: usize = 2048;
    let (n, d) = product.a.matrix_shape("A")?;
    let rows: Vec<usize> = product.rows.clone().unwrap_or_else(|| (0..n).collect());
    let mut out = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        work.check()?;
        let dense = gather(&product.a, chunk, product.gain.as_deref())?;
        let turned = matmul(&dense, c, work)?.to_f64();
        let dense = dense.f32_cow();
        let dot = |(a, b): (&[f32], &[f64])| a.iter().zip(b).map(|(x, y)| f64::from(*x) * y).sum::<f64>();
        out.extend(dense.chunks_exact(d.max(1)).zip(turned.chunks_exact(d.max(1))).map(dot));
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
