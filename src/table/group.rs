//! `group_by`: the rows that share a key, each summarised in one row.

use super::{Column, Table};
use crate::error::{Error, Result, nearest};
use crate::options::{OptionMap, Value};
use crate::sample;
use std::cmp::Ordering;

/// How the values of a group become one. Missing numbers are left out of all but `first`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aggregate {
    /// The mean (for truth values: the share of true ones).
    Mean,
    /// The median.
    Median,
    /// A quantile, written `p75`; linear interpolation.
    Quantile(f64),
    /// The sum.
    Sum,
    /// The standard deviation; divides by n.
    Std,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many values are not missing (without a column: how many rows).
    Count,
    /// The value of the group's first row; of any kind.
    First,
}

impl Aggregate {
    /// The names that scripts use, beside `p0` to `p100` for percentiles.
    pub const NAMES: &'static [&'static str] = &["mean", "median", "sum", "std", "min", "max", "count", "first"];

    /// Reads a name: one of [`Aggregate::NAMES`], or `p` with a percentile (`p5`, `p99.9`).
    ///
    /// # Errors
    /// No such aggregate.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "mean" => Aggregate::Mean,
            "median" => Aggregate::Median,
            "sum" => Aggregate::Sum,
            "std" => Aggregate::Std,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "count" => Aggregate::Count,
            "first" => Aggregate::First,
            _ => {
                let percent = name.strip_prefix('p').and_then(|p| p.parse::<f64>().ok());
                let Some(percent) = percent.filter(|p| (0.0..=100.0).contains(p)) else {
                    let error = Error::input(format!("no aggregate \"{name}\""));
                    let error = match nearest(name, Self::NAMES.iter().copied()) {
                        Some(near) => error.help(format!("did you mean \"{near}\"?")),
                        None => error,
                    };
                    return Err(error.help(format!("the aggregates are: {}, and p0 to p100", Self::NAMES.join(", "))));
                };
                Aggregate::Quantile(percent / 100.0)
            }
        })
    }
}

/// One column of a grouped table: how it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its name in the result.
    pub name: String,
    /// The column that is summarised; none for the count of rows.
    pub column: Option<String>,
    /// How.
    pub how: Aggregate,
}

impl Summary {
    /// Reads `#{ks_mean: ["ks", "mean"], n: "count", score: "max"}`: a pair names column and aggregate; an aggregate alone
    /// summarises the column of that very name (`"count"`: counts rows).
    ///
    /// # Errors
    /// A value of another shape, or an unknown aggregate.
    pub fn parse(map: &OptionMap) -> Result<Vec<Summary>> {
        map.iter()
            .map(|(name, value)| {
                let (column, how) = match value {
                    Value::Text(how) => {
                        let how = Aggregate::parse(how)?;
                        ((how != Aggregate::Count).then(|| name.clone()), how)
                    }
                    Value::List(pair) => match &pair[..] {
                        [Value::Text(column), Value::Text(how)] => (Some(column.clone()), Aggregate::parse(how)?),
                        _ => return Err(wrong_summary(name, value)),
                    },
                    _ => return Err(wrong_summary(name, value)),
                };
                Ok(Summary { name: name.clone(), column, how })
            })
            .collect()
    }
}

fn wrong_summary(name: &str, value: &Value) -> Error {
    Error::input(format!("`{name}` takes [column, aggregate] or an aggregate, not {}", value.describe()))
        .help(format!("for example #{{{name}: [\"score\", \"mean\"]}} or #{{n: \"count\"}}"))
}

impl Table {
    /// One row for each different value of the columns `by`, ascending, with the summaries as further columns. Missing keys
    /// form one group, the last.
    ///
    /// # Errors
    /// No such column, a key column of lists, an aggregate that its column does not have, or a name used twice.
    pub fn group_by(&self, by: &[impl AsRef<str>], summaries: &[Summary]) -> Result<Table> {
        let mut keys = Vec::new();
        for name in by {
            let name = name.as_ref();
            let column = self.column(name)?;
            let Some(compare) = column.comparison() else {
                return Err(Error::input(format!("column `{name}` holds lists and cannot be a key")));
            };
            keys.push((column, compare));
        }
        let compare = |a: usize, b: usize| {
            keys.iter().fold(Ordering::Equal, |so_far, (column, compare)| {
                so_far.then_with(|| match (column.is_missing(a), column.is_missing(b)) {
                    (false, false) => compare(a, b),
                    (a, b) => a.cmp(&b),
                })
            })
        };
        let mut rows: Vec<usize> = (0..self.len).collect();
        rows.sort_by(|a, b| compare(*a, *b));
        let groups: Vec<&[usize]> = rows.chunk_by(|a, b| compare(*a, *b) == Ordering::Equal).collect();
        let firsts: Vec<usize> = groups.iter().map(|group| group[0]).collect();

        let names: Vec<&str> = by.iter().map(AsRef::as_ref).collect();
        let mut out = Table::new(self.provenance.clone().step(format!("group_by: {}", names.join(", "))));
        for (name, (column, _)) in names.iter().zip(&keys) {
            out = out.with(name, column.take(&firsts))?;
        }
        for summary in summaries {
            if out.names().any(|existing| existing == summary.name) {
                return Err(Error::input(format!("`{}` is already a column of the grouped table", summary.name)));
            }
            let column = match &summary.column {
                Some(name) => summarise(name, self.column(name)?, &groups, summary.how)?,
                None => Column::from(groups.iter().map(|group| group.len()).collect::<Vec<usize>>()),
            };
            out = out.with(&summary.name, column)?;
        }
        Ok(out)
    }
}

fn summarise(name: &str, column: &Column, groups: &[&[usize]], how: Aggregate) -> Result<Column> {
    match how {
        Aggregate::First => return Ok(column.take(&groups.iter().map(|group| group[0]).collect::<Vec<_>>())),
        Aggregate::Count => {
            let count = |group: &&[usize]| group.iter().filter(|row| !column.is_missing(**row)).count();
            return Ok(groups.iter().map(count).collect::<Vec<usize>>().into());
        }
        _ => {}
    }
    if matches!(how, Aggregate::Sum | Aggregate::Min | Aggregate::Max)
        && let Column::Int(values) = column
    {
        return integers(name, values, groups, how);
    }
    let Some(values) = column.numbers() else {
        return Err(Error::input(format!("column `{name}` holds {}; {how:?} needs numbers", column.kind())));
    };
    let summary = |group: &&[usize]| {
        let present: Vec<f64> = group.iter().map(|row| values[*row]).filter(|v| !v.is_nan()).collect();
        number(present, how)
    };
    Ok(groups.iter().map(summary).collect::<Vec<f64>>().into())
}

fn integers(name: &str, values: &[i64], groups: &[&[usize]], how: Aggregate) -> Result<Column> {
    let too_large = || Error::limit(format!("the sum of column `{name}` does not fit 64 bits"));
    let summary = |group: &&[usize]| {
        let mut group = group.iter().map(|row| values[*row]);
        match how {
            Aggregate::Min => Ok(group.min().unwrap_or(0)),
            Aggregate::Max => Ok(group.max().unwrap_or(0)),
            _ => group.try_fold(0i64, i64::checked_add).ok_or_else(too_large),
        }
    };
    Ok(groups.iter().map(summary).collect::<Result<Vec<i64>>>()?.into())
}

/// Summary of numbers without NaN; NaN where there are none (a sum is 0).
fn number(mut values: Vec<f64>, how: Aggregate) -> f64 {
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    let n = values.len() as f64;
    match how {
        Aggregate::Sum => sum(&values),
        Aggregate::Mean => sum(&values) / n,
        Aggregate::Std => {
            let mean = sum(&values) / n;
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
        }
        Aggregate::Min => values.into_iter().reduce(f64::min).unwrap_or(f64::NAN),
        Aggregate::Max => values.into_iter().reduce(f64::max).unwrap_or(f64::NAN),
        Aggregate::Median | Aggregate::Quantile(_) => {
            values.sort_unstable_by(f64::total_cmp);
            sample::quantile(&values, if let Aggregate::Quantile(q) = how { q } else { 0.5 })
        }
        Aggregate::Count => n,
        Aggregate::First => values.first().copied().unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Provenance;

    #[test]
    fn groups_are_summarised_in_the_order_of_their_keys() {
        // pandas: df.groupby("layer").agg(...), std with ddof=0; layer 2: 1, 4, nan; layer 0: 10, -3.
        let table = Table::new(Provenance::default())
            .with("layer", vec![2i64, 0, 2, 0, 2])
            .and_then(|t| t.with("ks", vec![1.0, 10.0, 4.0, -3.0, f64::NAN]))
            .and_then(|t| t.with("id", vec![7i64, 8, 9, 10, 11]))
            .and_then(|t| t.with("token", ["a", "b", "c", "d", "e"].map(String::from).to_vec()))
            .unwrap();
        let pair = |column: &str, how: &str| Value::List(vec![Value::Text(column.into()), Value::Text(how.into())]);
        let map = OptionMap::from([
            ("a_mean".to_string(), pair("ks", "mean")),
            ("b_std".to_string(), pair("ks", "std")),
            ("c_p25".to_string(), pair("ks", "p25")),
            ("d_count".to_string(), pair("ks", "count")),
            ("e_rows".to_string(), Value::Text("count".into())),
            ("id".to_string(), Value::Text("max".into())),
            ("token".to_string(), Value::Text("first".into())),
        ]);
        let grouped = table.group_by(&["layer"], &Summary::parse(&map).unwrap()).unwrap();
        let expected: [(&str, Column); 8] = [
            ("layer", vec![0i64, 2].into()),
            ("a_mean", vec![3.5, 2.5].into()),
            ("b_std", vec![6.5, 1.5].into()),
            ("c_p25", vec![0.25, 1.75].into()),
            ("d_count", vec![2i64, 2].into()),
            ("e_rows", vec![2i64, 3].into()),
            ("id", vec![10i64, 11].into()),
            ("token", ["b", "a"].map(String::from).to_vec().into()),
        ];
        for ((name, column), (expected_name, expected)) in grouped.columns().iter().zip(&expected) {
            assert_eq!((name.as_str(), column), (*expected_name, expected));
        }
    }

    #[test]
    fn wrong_aggregates_are_named() {
        let table = Table::new(Provenance::default()).with("token", vec!["a".to_string()]).unwrap();
        assert_eq!(Aggregate::parse("meen").unwrap_err().helps()[0], "did you mean \"mean\"?");
        let mean = Summary { name: "m".into(), column: Some("token".into()), how: Aggregate::Mean };
        assert!(table.group_by(&["token"], &[mean]).unwrap_err().message().contains("holds text"));
        assert!(Summary::parse(&OptionMap::from([("x".into(), Value::Int(1))])).is_err());
    }
}
