//! What the result tables share: names of quantile columns, moments, labels, provenance.

use crate::compute::product::Moments;
use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::Json;
use crate::provenance::Provenance;
use crate::table::Table;

/// One side of a pairwise result: rows or columns, queries or keys, sources or targets.
#[derive(Clone, Debug)]
pub struct Side(pub(super) Table);

impl Side {
    /// One row for each member of the side.
    pub fn table(&self) -> Table {
        self.0.clone()
    }
}

/// The column of a quantile: `median`, `p75`, `p99.9`.
pub(super) fn quantile_name(q: f64) -> String {
    if q == 0.5 {
        return "median".into();
    }
    // 0.999 × 100 is not 99.9 in binary; the shortest text of the rounded number is.
    format!("p{}", (q * 1e8).round() / 1e6)
}

/// Refuses quantiles outside 0..=1 and those that would make two columns of one name.
pub(super) fn check_quantiles(quantiles: &[f64]) -> Result<()> {
    for (i, q) in quantiles.iter().enumerate() {
        if !(0.0..=1.0).contains(q) {
            return Err(Error::input(format!("option `quantiles` takes numbers from 0 to 1, not {q}")));
        }
        if quantiles[..i].iter().any(|other| quantile_name(*other) == quantile_name(*q)) {
            return Err(Error::input(format!("option `quantiles` names {q} twice")));
        }
    }
    Ok(())
}

/// Adds one column for each quantile; `values[i][j]` is quantile j of row i.
pub(super) fn with_quantiles(mut table: Table, quantiles: &[f64], values: &[&[f64]]) -> Result<Table> {
    for (j, q) in quantiles.iter().enumerate() {
        table = table.with(&quantile_name(*q), values.iter().map(|row| row[j]).collect::<Vec<f64>>())?;
    }
    Ok(table)
}

/// A column picked out of moments.
pub(super) fn moment_column<'a>(moments: impl IntoIterator<Item = &'a Moments>, pick: impl Fn(&Moments) -> f64) -> Vec<f64> {
    moments.into_iter().map(pick).collect()
}

/// Adds the column `label` where the dictionary has labels.
pub(super) fn with_labels(table: Table, dictionary: &Dictionary, positions: &[usize]) -> Result<Table> {
    match dictionary.labels() {
        Some(labels) => table.with("label", positions.iter().map(|p| labels[*p].clone()).collect::<Vec<String>>()),
        None => Ok(table),
    }
}

/// The ids of positions in a dictionary.
pub(super) fn ids(dictionary: &Dictionary, positions: &[usize]) -> Vec<usize> {
    positions.iter().map(|p| dictionary.id_of(*p)).collect()
}

/// The record of a call on a model and named dictionaries.
pub(super) fn provenance(call: &str, model: &Model, dictionaries: &[(&str, &Dictionary)], options: Json) -> Provenance {
    let record = dictionaries.iter().fold(Provenance::new(call).with("model", model.id()), |p, (name, d)| p.with(name, d.id()));
    record.with("options", options)
}

/// `a ∘ b` where either may be absent (all ones).
pub(super) fn times(a: Option<&[f32]>, b: Option<&[f32]>) -> Option<Vec<f32>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.iter().zip(b).map(|(x, y)| x * y).collect()),
        (Some(one), None) | (None, Some(one)) => Some(one.to_vec()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_columns_are_named_as_people_write_them() {
        let names: Vec<_> = [0.5, 0.75, 0.95, 0.999, 0.29, 1.0].map(quantile_name).into();
        assert_eq!(names, ["median", "p75", "p95", "p99.9", "p29", "p100"]);
        assert!(check_quantiles(&[0.5, 0.5]).is_err() && check_quantiles(&[1.5]).is_err());
    }
}
