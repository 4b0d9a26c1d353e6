//! Tables: named columns of equal length, with their provenance. Plain data; `render` draws them.

use crate::error::{Error, Result, nearest};
use crate::provenance::Provenance;
use std::sync::Arc;

/// One column. Copies share.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Numbers; a missing value is NaN.
    Float(Arc<Vec<f64>>),
    /// Ids and counts.
    Int(Arc<Vec<i64>>),
    /// Truth values.
    Bool(Arc<Vec<bool>>),
    /// Text.
    Text(Arc<Vec<String>>),
    /// A list of numbers in each row.
    FloatList(Arc<Vec<Vec<f64>>>),
    /// A list of ids in each row.
    IntList(Arc<Vec<Vec<i64>>>),
    /// A list of texts in each row.
    TextList(Arc<Vec<Vec<String>>>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Float(v) => v.len(),
            Column::Int(v) => v.len(),
            Column::Bool(v) => v.len(),
            Column::Text(v) => v.len(),
            Column::FloatList(v) => v.len(),
            Column::IntList(v) => v.len(),
            Column::TextList(v) => v.len(),
        }
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! column_from {
    ($($kind:ty => $variant:ident),+) => {
        $(impl From<Vec<$kind>> for Column {
            fn from(data: Vec<$kind>) -> Self {
                Column::$variant(Arc::new(data))
            }
        })+
    };
}
column_from!(f64 => Float, i64 => Int, bool => Bool, String => Text, Vec<f64> => FloatList, Vec<i64> => IntList, Vec<String> => TextList);

impl From<Vec<usize>> for Column {
    fn from(data: Vec<usize>) -> Self {
        Column::Int(Arc::new(data.into_iter().map(|v| v as i64).collect()))
    }
}

/// Named columns of equal length.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(String, Column)>,
    len: usize,
    /// Who made it and how.
    pub provenance: Provenance,
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
            return Err(Error::shape(format!("column `{name}` has {} rows, but the table has {}", column.len(), self.len)));
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
}
