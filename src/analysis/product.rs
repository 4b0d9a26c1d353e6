//! The open core: statistics of a product that is never stored, for any two matrices.

use super::common::{Side, check_quantiles, moment_column, with_quantiles};
use crate::compute::product::{ColStats, Histogram, Moments, Outcome, Product, RowStats, Scored};
use crate::compute::{matmul, mean_row, second_moment};
use crate::error::{Error, Result};
use crate::options::{Json, JsonMap, Options};
use crate::provenance::Provenance;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::json;

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
        /// `"raw"`; `"cosine"`: divided by both norms (after the gain); `"zscore"`: each row standardised over the unmasked columns.
        scale: Scale = Scale::default(),
        /// Length of the top and bottom list of each row.
        k: usize = 10,
        /// Quantiles of each row, each column and all scores, interpolated linearly; one column each.
        quantiles: Vec<f64> = vec![0.5, 0.75],
        /// Moments, quantiles and pairs of |score|; top and bottom lists and the softmax stay signed.
        absolute: bool = false,
        /// Number of the highest-scoring pairs to keep.
        pairs: usize = 0,
        /// Softmax over the columns of each row: its top-1 and top-5 mass and entropy (nats), and each column's weights.
        softmax: bool = false,
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
    /// One row for each column of B: `col mean std skewness kurtosis <quantiles> min max`, and with softmax `mean_weight
    /// max_weight`.
    pub cols: Side,
    pairs: Table,
    all: JsonMap<String, Json>,
    product: Product,
    range: (f64, f64),
}

impl ProductStats {
    /// The highest-scoring pairs: `row col score`, falling.
    pub fn pairs(&self) -> Table {
        self.pairs.clone()
    }

    /// Over all scores: `n mean std <quantiles> min max`.
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
        col_quantiles: options.quantiles.clone(),
        all_quantiles: options.quantiles.clone(),
        cols: true,
        softmax: options.softmax,
        pairs: options.pairs,
        ..Product::new(a.clone(), b.clone())
    };
    if options.scale == Scale::Zscore {
        product = standardise(product, work)?;
    }
    let outcome = product.run(work)?;
    let provenance = Provenance::new("product_stats").with("options", options.canonical());
    let all_rows: Vec<usize> = (0..outcome.n).collect();
    let rows = Table::new(provenance.clone()).with("row", all_rows)?;
    let rows = row_columns(rows, &outcome.rows, &options.quantiles)?;
    let cols = Table::new(provenance.clone()).with("col", (0..outcome.m).collect::<Vec<usize>>())?;
    let cols = moment_columns(cols, outcome.cols.iter().map(|c| &c.moments), &options.quantiles, &col_quantiles(&outcome.cols))?;
    let cols = weight_columns(cols, &outcome.cols)?;
    Ok(ProductStats {
        rows: Side(rows),
        cols: Side(cols),
        pairs: pair_table(provenance, ("row", "col"), &outcome, |row| row, |col| col)?,
        all: summary(&outcome, &options.quantiles),
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

/// The table of the highest pairs under the names and ids of the caller.
pub(super) fn pair_table(
    provenance: Provenance,
    names: (&str, &str),
    outcome: &Outcome,
    row_id: impl Fn(usize) -> usize,
    col_id: impl Fn(usize) -> usize,
) -> Result<Table> {
    Table::new(provenance)
        .with(names.0, outcome.pairs.iter().map(|p| row_id(p.row)).collect::<Vec<usize>>())?
        .with(names.1, outcome.pairs.iter().map(|p| col_id(p.col)).collect::<Vec<usize>>())?
        .with("score", outcome.pairs.iter().map(|p| f64::from(p.score)).collect::<Vec<f64>>())
}

/// The map over all scores: `n mean std <quantiles> min max`.
pub(super) fn summary(outcome: &Outcome, quantiles: &[f64]) -> JsonMap<String, Json> {
    let all = &outcome.all;
    let mut map = JsonMap::new();
    map.insert("n".into(), json!(outcome.n * outcome.m));
    map.insert("mean".into(), json!(all.moments.mean));
    map.insert("std".into(), json!(all.moments.std));
    for (q, value) in quantiles.iter().zip(&all.quantiles) {
        map.insert(super::common::quantile_name(*q), json!(value));
    }
    map.insert("min".into(), json!(all.moments.min));
    map.insert("max".into(), json!(all.moments.max));
    map
}

/// The ids of a list of scored columns, as a table cell.
pub(super) fn scored_ids(list: &[Scored]) -> Vec<i64> {
    list.iter().map(|s| s.id as i64).collect()
}

/// The scores of a list of scored columns, as a table cell.
pub(super) fn scores(list: &[Scored]) -> Vec<f64> {
    list.iter().map(|s| f64::from(s.score)).collect()
}

/// The same product with each row's scores standardised over the unmasked columns (mean 0, variance 1 there), exactly:
/// (a·b_j − mean) / σ = a·(b_j − b̄) / σ, with b̄ the mean column and σ² = aᵀ Cov(b) a (METHODS.md 1.4, exact shortcuts).
/// Rows without variance score 0. The product must be a plain one: one B, no cosine, softcap or scale of rows.
pub(super) fn standardise(product: Product, work: &Work) -> Result<Product> {
    let [b] = product.b.as_slice() else { return Err(Error::internal("only a product with one right operand is standardised")) };
    let columns = b.t();
    let (m, d) = columns.matrix_shape("the columns")?;
    let masked: Vec<usize> = match &product.col_mask {
        Some(mask) => (0..m).filter(|i| mask[*i]).collect(),
        None => Vec::new(),
    };
    let used = (m - masked.len()) as f64;
    if used == 0.0 {
        return Err(Error::input("every column is masked, so there is nothing to standardise over"));
    }
    let mut sum: Vec<f64> = mean_row(&columns, work)?.into_iter().map(|v| v * m as f64).collect();
    let mut squares: Vec<f64> = second_moment(&columns, None, false, work)?.to_f64().into_iter().map(|v| v * m as f64).collect();
    if !masked.is_empty() {
        let rows = gather(&columns, &masked, None)?;
        let n = masked.len() as f64;
        sum.iter_mut().zip(mean_row(&rows, work)?).for_each(|(s, v)| *s -= v * n);
        squares.iter_mut().zip(second_moment(&rows, None, false, work)?.to_f64()).for_each(|(s, v)| *s -= v * n);
    }
    let mean: Vec<f64> = sum.iter().map(|s| s / used).collect();
    for (row, x) in squares.chunks_exact_mut(d.max(1)).zip(&mean) {
        row.iter_mut().zip(&mean).for_each(|(s, y)| *s = *s / used - x * y);
    }
    let variances = quadratic_forms(&product, &Tensor::from_f64(squares, &[d, d])?, work)?;
    Ok(Product {
        b_shift: Some(mean.into_iter().map(|v| v as f32).collect()),
        row_scale: Some(variances.into_iter().map(|v| if v > 0.0 { v.sqrt().recip() as f32 } else { 0.0 }).collect()),
        ..product
    })
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
