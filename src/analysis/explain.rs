//! One feature or one head on a page: what the other analyses say of it, beside its layer and its nulls.
//!
//! * `feature`: what a feature reads, writes and does in attention. * `head`: what a head looks for and what it writes.

mod feature;
mod head;

pub use feature::{ExplainOptions, Explainer, explain};
pub use head::{HeadPageOptions, entering, explain_head};

use super::attention::{AttentionOptions, AttentionScores};
use super::ov::{OvWriteOptions, ov_write};
use super::tokens::TokenScores;
use crate::compute::row_norms;
use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::page::Block;
use crate::work::Work;

/// Tokens by which a feature is shown beside others.
const FEW: usize = 3;

/// At most `most` of `n` positions at even distances.
fn spread(n: usize, most: usize) -> Vec<usize> {
    let used = n.min(most.max(1));
    (0..used).map(|i| i * n / used).collect()
}

/// The share of ascending numbers below a value, in percent.
fn percentile(sorted: &[f64], value: f64) -> f64 {
    100.0 * sorted.partition_point(|v| *v < value) as f64 / sorted.len() as f64
}

/// A number for a sentence or a named value.
fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "not a number".into(),
        size if size != 0.0 && !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

fn text(paragraph: impl Into<String>) -> Block {
    Block::Text(paragraph.into())
}

/// The tokens at the top of each feature's list, and of the features whose list at the bottom reaches farther, of signed
/// dictionaries, that one.
fn tokens_of(lists: &TokenScores, dictionary: &Dictionary) -> Result<Vec<Vec<String>>> {
    let (top, bottom) = lists.lists();
    let farther = |row: usize| {
        let size = |list: &[crate::compute::product::Scored]| list.first().map_or(0.0, |s| s.score.abs());
        if dictionary.signed() && size(&bottom[row]) > size(&top[row]) { &bottom[row] } else { &top[row] }
    };
    let vocabulary = lists.view().model.vocabulary();
    Ok((0..lists.len()).map(|row| farther(row).iter().map(|s| vocabulary.token(s.id as usize)).collect()).collect())
}

/// The options by which heads are compared: the mean of |A|, before the softmax.
fn magnitudes() -> AttentionOptions {
    AttentionOptions { absolute: Some(true), softmax: false, top_pairs: 0, quantiles: Vec::new(), ..AttentionOptions::default() }
}

/// The mean score of each query's row and of each key's column.
fn means(scores: &AttentionScores) -> Result<(Vec<f64>, Vec<f64>)> {
    let column = |side: &super::Side| {
        let table = side.table();
        table.column("mean")?.numbers().ok_or_else(|| Error::internal("means that are no numbers"))
    };
    Ok((column(&scores.query)?, column(&scores.key)?))
}

/// What a head writes of each feature: its length over that of the feature, and its cosine with it; 0 without length.
fn echoes(dictionary: &Dictionary, model: &Model, layer: usize, head: usize, work: &Work) -> Result<Vec<(f64, f64)>> {
    let written = ov_write(dictionary, model, layer, head, &OvWriteOptions::default(), work)?;
    let given = dictionary.write(model, work)?.dense(None, work)?;
    let norms = (row_norms(&written, None, work)?, row_norms(&given, None, work)?);
    let d = model.cfg().d_model.max(1);
    let (written, given) = (written.f32_cow(), given.f32_cow());
    let over = |value: f64, size: f64| if size > 0.0 { value / size } else { 0.0 };
    let echo = |(i, (o, d)): (usize, (&[f32], &[f32]))| {
        let dot: f64 = o.iter().zip(d).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        (over(norms.0[i], norms.1[i]), over(dot, norms.0[i] * norms.1[i]))
    };
    Ok(written.chunks_exact(d).zip(given.chunks_exact(d)).enumerate().map(echo).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_spread_and_percentiles_count_what_lies_below() {
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 9), [0, 1, 2]);
        assert_eq!(percentile(&[1.0, 2.0, 2.0, 3.0], 2.0), 25.0);
        assert_eq!(percentile(&[1.0, 2.0, 2.0, 3.0], 9.0), 100.0);
        assert_eq!((short(0.0), short(-12.345), short(1e-9)), ("0.000".into(), "-12.35".into(), "1.00e-9".into()));
    }
}
