//! Two tables side by side, and several one below the other.

use super::{Column, Table};
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use serde_json::{Value as Json, json};
use std::collections::HashMap;

crate::choice! {
    /// Which rows a join keeps.
    pub enum Join {
        /// Rows that have a partner.
        #[default]
        Inner = "inner",
        /// All rows of the left table; without a partner the right columns are missing.
        Left = "left",
    }
}

/// A key's value, comparable across integer and float columns. NaN has none: it equals nothing.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Int(i64),
    Float(u64),
    Text(&'a str),
}

fn key(column: &Column, row: usize) -> Option<Key<'_>> {
    match column {
        Column::Int(v) => Some(Key::Int(v[row])),
        Column::Bool(v) => Some(Key::Int(i64::from(v[row]))),
        Column::Text(v) => Some(Key::Text(&v[row])),
        // Up to 2^53 whole floats are exact integers.
        Column::Float(v) if v[row].fract() == 0.0 && v[row].abs() < 9e15 => Some(Key::Int(v[row] as i64)),
        Column::Float(v) if !v[row].is_nan() => Some(Key::Float(v[row].to_bits())),
        _ => None,
    }
}

fn keys<'a>(columns: &[&'a Column], row: usize) -> Option<Vec<Key<'a>>> {
    columns.iter().map(|column| key(column, row)).collect()
}

impl Table {
    /// The columns of both tables, for rows that agree in the columns `on`: in the order of the left table, then of the right.
    /// Right columns whose name the left table has too get the suffix `_right`.
    ///
    /// # Errors
    /// A key column is missing in one of them, or holds lists.
    pub fn join(&self, other: &Table, on: &[impl AsRef<str>], how: Join) -> Result<Table> {
        let on: Vec<&str> = on.iter().map(AsRef::as_ref).collect();
        let (mut left_keys, mut right_keys) = (Vec::new(), Vec::new());
        for name in &on {
            let left = self.column(name).map_err(|e| e.context("the left table of join"))?;
            let right = other.column(name).map_err(|e| e.context("the right table of join"))?;
            if left.comparison().is_none() || right.comparison().is_none() {
                return Err(Error::input(format!("column `{name}` holds lists and cannot be a key")));
            }
            if matches!(left, Column::Text(_)) != matches!(right, Column::Text(_)) {
                let (left, right) = (left.kind(), right.kind());
                return Err(Error::input(format!("column `{name}` holds {left} on the left but {right} on the right")));
            }
            left_keys.push(left);
            right_keys.push(right);
        }
        let mut partners: HashMap<Vec<Key>, Vec<usize>> = HashMap::new();
        for row in 0..other.len {
            if let Some(key) = keys(&right_keys, row) {
                partners.entry(key).or_default().push(row);
            }
        }
        let (mut left_rows, mut right_rows) = (Vec::new(), Vec::new());
        for row in 0..self.len {
            match keys(&left_keys, row).and_then(|key| partners.get(&key)) {
                Some(found) => {
                    left_rows.extend(std::iter::repeat_n(row, found.len()));
                    right_rows.extend(found.iter().copied().map(Some));
                }
                None if how == Join::Left => {
                    left_rows.push(row);
                    right_rows.push(None);
                }
                None => {}
            }
        }
        let provenance = Provenance::new("join")
            .with("left", self.provenance.to_json())
            .with("right", other.provenance.to_json())
            .with("on", json!(on))
            .with("how", how.name());
        let mut out = Table::new(provenance);
        for (name, column) in &self.columns {
            out = out.with(name, column.take(&left_rows))?;
        }
        for (name, column) in other.columns.iter().filter(|(name, _)| !on.contains(&name.as_str())) {
            let mut name = name.clone();
            while out.names().any(|existing| existing == name) {
                name.push_str("_right");
            }
            out = out.with(&name, column.take_or_missing(&right_rows))?;
        }
        Ok(out)
    }

    /// The rows of all tables, one below the other. They have the same columns; the first table gives the order.
    ///
    /// # Errors
    /// No tables, other columns, or a column of different kinds.
    pub fn concat(tables: &[Table]) -> Result<Table> {
        let Some(first) = tables.first() else { return Err(Error::input("concat needs at least one table")) };
        if let [only] = tables {
            return Ok(only.clone());
        }
        for (i, table) in tables.iter().enumerate() {
            for (one, other, has) in [(first, table, 0), (table, first, i)] {
                if let Some(name) = one.names().find(|name| !other.names().any(|n| n == *name)) {
                    let lacks = if has == 0 { i } else { 0 };
                    return Err(Error::input(format!("table {has} has a column `{name}`, but table {lacks} has none"))
                        .help("select the columns that all tables have, then concat"));
                }
            }
        }
        let mut sources: Vec<Json> = Vec::new();
        for table in tables {
            let source = table.provenance.to_json();
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        let mut out = Table::new(Provenance::new("concat").with("tables", tables.len()).with("sources", sources));
        for name in first.names() {
            let mut whole = first.column(name)?.clone();
            for (i, table) in tables.iter().enumerate().skip(1) {
                whole = whole.append(table.column(name)?.clone()).map_err(|(have, found)| {
                    Error::input(format!("column `{name}` holds {have} in table 0 but {found} in table {i}"))
                })?;
            }
            out = out.with(name, whole)?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ids: Vec<i64>, name: &str, values: Vec<f64>) -> Table {
        Table::new(Provenance::default()).with("id", ids).and_then(|t| t.with(name, values)).unwrap()
    }

    #[test]
    fn joins_keep_the_left_order_and_repeat_for_each_partner() {
        // pandas: left.merge(right, on="id", how=...)
        let left = table(vec![5, 1, 7], "a", vec![0.5, 0.1, 0.7]);
        let right = table(vec![1, 5, 1], "a", vec![10.0, 50.0, 11.0]).with("n", vec![4i64, 5, 6]).unwrap();
        let inner = left.join(&right, &["id"], Join::Inner).unwrap();
        assert_eq!(inner.names().collect::<Vec<_>>(), ["id", "a", "a_right", "n"]);
        assert_eq!(inner.column("id").unwrap(), &vec![5i64, 1, 1].into());
        assert_eq!(inner.column("a_right").unwrap(), &vec![50.0, 10.0, 11.0].into());
        assert_eq!(inner.column("n").unwrap(), &vec![5i64, 4, 6].into());
        let outer = left.join(&right, &["id"], Join::Left).unwrap();
        let Column::Float(n) = outer.column("n").unwrap() else { panic!() };
        assert!(n[3].is_nan() && n[..3] == [5.0, 4.0, 6.0]);
    }

    #[test]
    fn concat_widens_integers_and_refuses_other_columns() {
        let a = table(vec![1], "v", vec![0.5]);
        let b = Table::new(Provenance::default()).with("v", vec![2i64]).and_then(|t| t.with("id", vec![3i64])).unwrap();
        let both = Table::concat(&[a.clone(), b]).unwrap();
        assert_eq!(both.column("v").unwrap(), &vec![0.5, 2.0].into());
        let error = Table::concat(&[a, table(vec![1], "w", vec![0.5])]).unwrap_err();
        assert_eq!(error.message(), "table 0 has a column `v`, but table 1 has none");
        assert!(Table::concat(&[]).is_err());
    }
}
