//! Tables: named columns of equal length, with their provenance. Plain data; `render` draws them.
//!
//! A missing number is NaN: an empty cell in CSV, null in Parquet and JSON.
//!
//! * `column`: one column and its cells. * `group`: `group_by`. * `join`: `join` and `concat`.
//! * `csv`, `parquet`, `json`: tables to bytes and back. * `store`: files by their extension, globs, sidecars.

mod column;
mod csv;
mod group;
mod join;
mod json;
mod parquet;
mod store;

pub use column::{Cell, Column};
pub use group::{Aggregate, Summary};
pub use join::Join;

use crate::error::{Error, Result, nearest};
use crate::provenance::Provenance;
use std::ops::Range;

crate::choice! {
    /// In which order rows are sorted.
    pub enum Order { #[default] Ascending = "asc", Descending = "desc" }
}

/// Named columns of equal length.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(String, Column)>,
    len: usize,
    /// Who made it and how.
    pub provenance: Provenance,
}

/// The last copy of a column gives its memory back.
impl Drop for Table {
    fn drop(&mut self) {
        self.columns.drain(..).for_each(|(_, column)| column.discard());
    }
}

impl Table {
    /// A table without columns.
    pub fn new(provenance: Provenance) -> Self {
        Table { columns: Vec::new(), len: 0, provenance }
    }

    /// Adds a column, or replaces the one of that name.
    ///
    /// # Errors
    /// Its length differs from that of the others.
    pub fn with(mut self, name: &str, column: impl Into<Column>) -> Result<Self> {
        let column = column.into();
        let alone = self.columns.iter().all(|(existing, _)| existing == name);
        if !alone && column.len() != self.len {
            let rows = if column.len() == 1 { "1 row".into() } else { format!("{} rows", column.len()) };
            return Err(Error::shape(format!("column `{name}` has {rows}, but the table has {}", self.len)));
        }
        self.len = column.len();
        match self.columns.iter_mut().find(|(existing, _)| existing == name) {
            Some((_, old)) => *old = column,
            None => self.columns.push((name.to_string(), column)),
        }
        Ok(self)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The columns with their names, in order.
    pub fn columns(&self) -> &[(String, Column)] {
        &self.columns
    }

    /// The names of the columns, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// One column.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn column(&self, name: &str) -> Result<&Column> {
        self.columns.iter().find(|(existing, _)| existing == name).map(|(_, column)| column).ok_or_else(|| {
            let error = Error::input(format!("no column `{name}` in this table"));
            let error = match nearest(name, self.names()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            };
            error.help(format!("its columns are: {}", self.names().collect::<Vec<_>>().join(", ")))
        })
    }

    /// The same columns with other rows: the row at `rows[i]` becomes row i. `step` says in provenance what was done.
    ///
    /// The caller guarantees indices inside the table.
    fn take(&self, rows: &[usize], step: String) -> Self {
        let columns = self.columns.iter().map(|(name, column)| (name.clone(), column.take(rows))).collect();
        Table { columns, len: rows.len(), provenance: self.provenance.clone().step(step) }
    }

    /// The rows where `mask` is true.
    ///
    /// # Errors
    /// The mask has another length than the table.
    pub fn filter(&self, mask: &[bool]) -> Result<Self> {
        if mask.len() != self.len {
            return Err(Error::shape(format!("the mask has {} elements, but the table has {} rows", mask.len(), self.len)));
        }
        let rows: Vec<usize> = (0..self.len).filter(|row| mask[*row]).collect();
        Ok(self.take(&rows, format!("filter: {} of {} rows", rows.len(), self.len)))
    }

    /// The rows in the order of one column. Equal values keep their order; missing numbers come last either way.
    ///
    /// # Errors
    /// No such column, or it holds lists.
    pub fn sort(&self, name: &str, order: Order) -> Result<Self> {
        let Some(compare) = self.column(name)?.comparison() else {
            return Err(Error::input(format!("column `{name}` holds lists, which have no order")));
        };
        let column = self.column(name)?;
        let mut rows: Vec<usize> = (0..self.len).collect();
        rows.sort_by(|a, b| match (column.is_missing(*a), column.is_missing(*b)) {
            (false, false) if order == Order::Descending => compare(*b, *a),
            (false, false) => compare(*a, *b),
            (a, b) => a.cmp(&b),
        });
        Ok(self.take(&rows, format!("sort: {name} {}", order.name())))
    }

    /// The first `n` rows, or all where there are fewer.
    pub fn head(&self, n: usize) -> Self {
        self.rows(0..n)
    }

    /// The rows of a range, cut at the table's end.
    pub fn rows(&self, range: Range<usize>) -> Self {
        let rows: Vec<usize> = (range.start..range.end.min(self.len)).collect();
        if rows.len() == self.len {
            return self.clone();
        }
        self.take(&rows, format!("rows {}..{}", range.start, range.end.min(self.len)))
    }

    /// Some of the columns, in the order given.
    ///
    /// # Errors
    /// No such column, or one named twice.
    pub fn select(&self, names: &[impl AsRef<str>]) -> Result<Self> {
        let mut out = Table::new(self.provenance.clone());
        for name in names {
            let name = name.as_ref();
            if out.names().any(|existing| existing == name) {
                return Err(Error::input(format!("column `{name}` is named twice")));
            }
            out = out.with(name, self.column(name)?.clone())?;
        }
        out.len = self.len;
        Ok(out)
    }

    /// One row: its cells with their columns' names, in order.
    ///
    /// # Errors
    /// No such row.
    pub fn row(&self, index: usize) -> Result<Vec<(&str, Cell)>> {
        if index >= self.len {
            return Err(Error::input(format!("row {index} is out of range: there are {}, numbered from 0", self.len)));
        }
        Ok(self.columns.iter().map(|(name, column)| (name.as_str(), column.cell(index))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        Table::new(Provenance::new("test"))
            .with("id", vec![3i64, 1, 2, 0])
            .and_then(|t| t.with("score", vec![0.5, f64::NAN, -1.0, 0.5]))
            .and_then(|t| t.with("token", ["d", "b", "c", "a"].map(String::from).to_vec()))
            .unwrap()
    }

    fn ids(table: &Table) -> Vec<i64> {
        match table.column("id").unwrap() {
            Column::Int(v) => v.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sorting_is_stable_and_puts_missing_numbers_last() {
        assert_eq!(ids(&sample().sort("score", Order::Ascending).unwrap()), [2, 3, 0, 1]);
        assert_eq!(ids(&sample().sort("score", Order::Descending).unwrap()), [3, 0, 2, 1]);
        assert_eq!(ids(&sample().sort("token", Order::Descending).unwrap()), [3, 2, 1, 0]);
    }

    #[test]
    fn rows_are_filtered_cut_and_read() {
        let table = sample().filter(&[true, false, false, true]).unwrap();
        assert_eq!(ids(&table), [3, 0]);
        assert_eq!(table.row(1).unwrap()[2], ("token", Cell::Text("a".into())));
        assert!(table.row(2).is_err());
        assert!(sample().filter(&[true]).is_err());
        assert_eq!(sample().head(9).len(), 4);
        assert_eq!(ids(&sample().rows(1..3)), [1, 2]);
        assert_eq!(table.provenance.get("steps").unwrap()[0], "filter: 2 of 4 rows");
    }

    #[test]
    fn columns_are_chosen_and_errors_name_the_nearest() {
        let table = sample().select(&["token", "id"]).unwrap();
        assert_eq!(table.names().collect::<Vec<_>>(), ["token", "id"]);
        assert_eq!(sample().select(&["scor"]).unwrap_err().helps()[0], "did you mean `score`?");
        assert!(sample().select(&["id", "id"]).is_err());
        assert!(sample().with("short", vec![1.0]).is_err());
    }
}
