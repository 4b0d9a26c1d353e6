//! What the result tables share: names of quantile columns, moments, labels, provenance.

use crate::compute::product::{Moments, Outcome};
use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::Json;
use crate::provenance::Provenance;
use crate::table::Table;
use crate::work::Work;

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
    // 0.999 × 100 is not 99.9 in binary; the shortest text of the rounded number is.
    match (q * 1e8).round() / 1e6 {
        50.0 => "median".into(),
        percent => format!("p{percent}"),
    }
}

/// Refuses quantiles outside 0..=1 and those that would make two columns of one name.
pub(super) fn check_quantiles(quantiles: &[f64]) -> Result<()> {
    for (i, q) in quantiles.iter().enumerate() {
        if !(0.0..=1.0).contains(q) {
            return Err(Error::input(format!("option `quantiles` takes numbers from 0 to 1, not {q}")));
        }
        let name = quantile_name(*q);
        if let Some(other) = quantiles[..i].iter().find(|other| quantile_name(**other) == name) {
            return Err(match other == q {
                true => Error::input(format!("option `quantiles` names {q} twice")),
                false => Error::input(format!("option `quantiles`: {other} and {q} would both be the column `{name}`")),
            });
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

/// Says which members of a product's sides are NaN or infinite: their scores are left out of all statistics. Each side has
/// what its members are called, and their ids.
pub(super) fn note_non_finite(
    call: &str,
    outcome: &Outcome,
    rows: (&str, impl Fn(usize) -> usize),
    cols: (&str, impl Fn(usize) -> usize),
    work: &Work,
) {
    note_left_out(call, outcome.non_finite, (outcome.n, outcome.m), &outcome.broken, rows, cols, work);
}

/// [`note_non_finite`] of `left_out` scores of n × m, with the positions of the rows and columns that are not finite.
pub(super) fn note_left_out(
    call: &str,
    left_out: u64,
    (n, m): (usize, usize),
    broken: &(Vec<usize>, Vec<usize>),
    rows: (&str, impl Fn(usize) -> usize),
    cols: (&str, impl Fn(usize) -> usize),
    work: &Work,
) {
    if left_out == 0 {
        return;
    }
    let broken = [named(rows.0, &broken.0, n, &rows.1), named(cols.0, &broken.1, m, &cols.1)];
    let broken: Vec<String> = broken.into_iter().flatten().collect();
    let why = match broken.is_empty() {
        true => "they are too large for 32-bit floats".into(),
        false => format!("weights are NaN or infinite at {}", broken.join("; ")),
    };
    work.note(&format!("{call}: {left_out} scores are NaN or infinite and left out of the statistics: {why}"));
}

/// The first few of some members of a side by their ids, and how many the side has; nothing for none of them.
pub(super) fn named(name: &str, members: &[usize], all: usize, id: &dyn Fn(usize) -> usize) -> Option<String> {
    const NAMED: usize = 8;
    let mut ids: Vec<String> = members.iter().take(NAMED).map(|i| id(*i).to_string()).collect();
    ids.extend((members.len() > NAMED).then(|| format!("and {} more", members.len() - NAMED)));
    (!members.is_empty()).then(|| format!("{name} {} (of {all})", ids.join(", ")))
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
    use crate::compute::product::Product;
    use crate::tensor::Tensor;
    use crate::work::Heard;

    #[test]
    fn quantile_columns_are_named_as_people_write_them() {
        let names: Vec<_> = [0.5, 0.75, 0.95, 0.999, 0.29, 1.0].map(quantile_name).into();
        assert_eq!(names, ["median", "p75", "p95", "p99.9", "p29", "p100"]);
        assert!(check_quantiles(&[0.5, 0.5]).is_err() && check_quantiles(&[1.5]).is_err());
        // Numbers that the names do not tell apart.
        for (one, other, name) in [(0.5, 0.500_000_001, "median"), (0.75, 0.750_000_001, "p75")] {
            let error = check_quantiles(&[one, other]).unwrap_err();
            assert!(error.message().ends_with(&format!("{one} and {other} would both be the column `{name}`")), "{error}");
        }
    }

    #[test]
    fn broken_weights_are_named_and_counted() {
        let heard = Heard::default();
        let work = heard.work(2);
        let a = |broken: &[usize]| {
            let value = |i: usize| if broken.contains(&(i / 2)) { f32::NAN } else { i as f32 };
            Tensor::from_f32((0..40).map(value).collect(), &[20, 2]).unwrap()
        };
        let b = Tensor::from_f32(vec![1.0, 2.0, f32::INFINITY, 0.5, -1.0, 3.0], &[2, 3]).unwrap();
        let say = |broken: &[usize], b: &Tensor| {
            let outcome = Product::new(a(broken), b.clone()).run(&work).unwrap();
            note_non_finite("call", &outcome, ("features", |i| 100 + i), ("tokens", |j| j), &work);
            heard.take().pop()
        };
        let said = say(&[3, 7], &b).unwrap();
        assert!(said.contains("call: 24 scores are NaN or infinite and left out"), "{said}");
        assert!(said.ends_with("weights are NaN or infinite at features 103, 107 (of 20); tokens 2 (of 3)"), "{said}");
        let ten: Vec<usize> = (5..15).collect();
        let finite = b.narrow(1, 0..2).unwrap();
        assert!(say(&ten, &finite).unwrap().ends_with("features 105, 106, 107, 108, 109, 110, 111, 112, and 2 more (of 20)"));
        assert!(say(&[], &finite).is_none());
        let large = Tensor::from_f32(vec![f32::MAX; 2], &[2, 1]).unwrap();
        assert!(say(&[], &large).unwrap().ends_with("they are too large for 32-bit floats"));
    }
}
