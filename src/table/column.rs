//! One column of a table, its cells, and the ways from and to tensors.

use crate::error::{Error, Result};
use crate::tensor::{Class, Tensor, discard};
use std::cmp::Ordering;
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

/// One cell of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A number; missing is NaN.
    Float(f64),
    /// An id or count.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
    /// Numbers.
    FloatList(Vec<f64>),
    /// Ids.
    IntList(Vec<i64>),
    /// Texts.
    TextList(Vec<String>),
}

/// Runs the same expression on the vector of whichever kind a column is.
macro_rules! each_kind {
    ($column:expr, $data:ident => $body:expr) => {
        match $column {
            Column::Float($data) => $body,
            Column::Int($data) => $body,
            Column::Bool($data) => $body,
            Column::Text($data) => $body,
            Column::FloatList($data) => $body,
            Column::IntList($data) => $body,
            Column::TextList($data) => $body,
        }
    };
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

fn pick<T: Clone>(data: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().map(|row| data[*row].clone()).collect()
}

fn pick_or<T: Clone>(data: &[T], rows: &[Option<usize>], missing: T) -> Vec<T> {
    rows.iter().map(|row| row.map_or_else(|| missing.clone(), |row| data[row].clone())).collect()
}

impl Column {
    /// Drops it, in a thread of its own where its data are many and nobody shares them.
    pub(super) fn discard(mut self) {
        each_kind!(&mut self, data => if let Some(data) = Arc::get_mut(data) { discard(std::mem::take(data)) });
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        each_kind!(self, data => data.len())
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Column::Float(_) => "numbers",
            Column::Int(_) => "integers",
            Column::Bool(_) => "truth values",
            Column::Text(_) => "text",
            Column::FloatList(_) => "lists of numbers",
            Column::IntList(_) => "lists of integers",
            Column::TextList(_) => "lists of text",
        }
    }

    /// One cell. The caller guarantees that the row exists.
    pub fn cell(&self, row: usize) -> Cell {
        match self {
            Column::Float(v) => Cell::Float(v[row]),
            Column::Int(v) => Cell::Int(v[row]),
            Column::Bool(v) => Cell::Bool(v[row]),
            Column::Text(v) => Cell::Text(v[row].clone()),
            Column::FloatList(v) => Cell::FloatList(v[row].clone()),
            Column::IntList(v) => Cell::IntList(v[row].clone()),
            Column::TextList(v) => Cell::TextList(v[row].clone()),
        }
    }

    /// The numbers of a column of numbers, integers or truth values (1 and 0).
    pub fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Column::Float(v) => Some(v.to_vec()),
            Column::Int(v) => Some(v.iter().map(|v| *v as f64).collect()),
            Column::Bool(v) => Some(v.iter().map(|v| f64::from(u8::from(*v))).collect()),
            _ => None,
        }
    }

    /// A column of numbers, integers or truth values as a 1-D tensor (f64, i64, bool); `None` for text and lists.
    pub fn tensor(&self) -> Option<Tensor> {
        match self {
            Column::Float(v) => Some(Tensor::vector_f64(v.to_vec())),
            Column::Int(v) => Some(Tensor::vector_i64(v.to_vec())),
            Column::Bool(v) => Tensor::from_bool(v.to_vec(), &[v.len()]).ok(),
            _ => None,
        }
    }

    /// A tensor as a column: `[n]` gives numbers, `[n, k]` a list of k numbers in each row.
    ///
    /// # Errors
    /// The tensor has no or more than two dimensions.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let class = tensor.dtype().class();
        match *tensor.shape() {
            [_] => Ok(match class {
                Class::Bool => tensor.to_bool().into(),
                Class::Int => tensor.to_i64().into(),
                Class::F32 | Class::F64 => tensor.to_f64().into(),
            }),
            [n, k] => Ok(match class {
                Class::Bool | Class::Int => lists(tensor.to_i64(), n, k).into(),
                Class::F32 | Class::F64 => lists(tensor.to_f64(), n, k).into(),
            }),
            _ => Err(Error::shape(format!("a column is a tensor of one or two dimensions, not of shape {:?}", tensor.shape()))),
        }
    }

    /// Cells as a column. Integers among numbers become numbers; an empty list fits any list.
    ///
    /// # Errors
    /// The cells are of kinds that do not mix; the first such row is named.
    pub fn from_cells(cells: Vec<Cell>) -> Result<Self> {
        let mut parts = cells.into_iter().map(|cell| match cell {
            Cell::Float(v) => Column::from(vec![v]),
            Cell::Int(v) => vec![v].into(),
            Cell::Bool(v) => vec![v].into(),
            Cell::Text(v) => vec![v].into(),
            Cell::FloatList(v) => vec![v].into(),
            Cell::IntList(v) => vec![v].into(),
            Cell::TextList(v) => vec![v].into(),
        });
        let Some(mut column) = parts.next() else { return Ok(Vec::<f64>::new().into()) };
        for (row, part) in parts.enumerate() {
            column = column.append(part).map_err(|(have, found)| {
                Error::input(format!("rows 0 to {row} hold {have}, but row {} holds {found}", row + 1))
            })?;
        }
        Ok(column)
    }

    /// The rows of both. Integers join numbers as numbers, lists of integers likewise; rows without anything (no rows at
    /// all, or empty lists only) take the other's kind.
    ///
    /// # Errors
    /// The kinds do not mix; both are named.
    pub(super) fn append(self, other: Column) -> std::result::Result<Self, (&'static str, &'static str)> {
        let kinds = (self.kind(), other.kind());
        Ok(match (self, other) {
            (Column::Float(a), Column::Float(b)) => joined(a, b).into(),
            (Column::Int(a), Column::Int(b)) => joined(a, b).into(),
            (Column::Bool(a), Column::Bool(b)) => joined(a, b).into(),
            (Column::Text(a), Column::Text(b)) => joined(a, b).into(),
            (Column::FloatList(a), Column::FloatList(b)) => joined(a, b).into(),
            (Column::IntList(a), Column::IntList(b)) => joined(a, b).into(),
            (Column::TextList(a), Column::TextList(b)) => joined(a, b).into(),
            (a, b) if a.is_empty() => b,
            (a, b) if b.is_empty() => a,
            (a @ Column::Int(_), Column::Float(b)) => joined(Arc::new(a.numbers().unwrap_or_default()), b).into(),
            (Column::Float(a), b @ Column::Int(_)) => joined(a, Arc::new(b.numbers().unwrap_or_default())).into(),
            (a, b) if a.holds_empty_lists() && b.is_list() => b.empty_lists(a.len()).append(b)?,
            (a, b) if b.holds_empty_lists() && a.is_list() => {
                let empty = a.empty_lists(b.len());
                a.append(empty)?
            }
            (Column::IntList(a), Column::FloatList(b)) => joined(Arc::new(widened(&a)), b).into(),
            (Column::FloatList(a), Column::IntList(b)) => joined(a, Arc::new(widened(&b))).into(),
            _ => return Err(kinds),
        })
    }

    fn is_list(&self) -> bool {
        matches!(self, Column::FloatList(_) | Column::IntList(_) | Column::TextList(_))
    }

    fn holds_empty_lists(&self) -> bool {
        match self {
            Column::FloatList(v) => v.iter().all(Vec::is_empty),
            Column::IntList(v) => v.iter().all(Vec::is_empty),
            Column::TextList(v) => v.iter().all(Vec::is_empty),
            _ => false,
        }
    }

    /// `n` empty lists of this column's kind.
    fn empty_lists(&self, n: usize) -> Column {
        match self {
            Column::IntList(_) => vec![Vec::<i64>::new(); n].into(),
            Column::TextList(_) => vec![Vec::<String>::new(); n].into(),
            _ => vec![Vec::<f64>::new(); n].into(),
        }
    }

    /// The rows named, in that order. The caller guarantees that they exist.
    pub(super) fn take(&self, rows: &[usize]) -> Column {
        each_kind!(self, data => pick(data, rows).into())
    }

    /// The rows named; `None` gives a missing value: NaN (integers and truth values become numbers), "" or an empty list.
    pub(super) fn take_or_missing(&self, rows: &[Option<usize>]) -> Column {
        if let Some(all) = rows.iter().copied().collect::<Option<Vec<usize>>>() {
            return self.take(&all);
        }
        match self {
            Column::Float(v) => pick_or(v, rows, f64::NAN).into(),
            Column::Int(_) | Column::Bool(_) => pick_or(&self.numbers().unwrap_or_default(), rows, f64::NAN).into(),
            Column::Text(v) => pick_or(v, rows, String::new()).into(),
            Column::FloatList(v) => pick_or(v, rows, Vec::new()).into(),
            Column::IntList(v) => pick_or(v, rows, Vec::new()).into(),
            Column::TextList(v) => pick_or(v, rows, Vec::new()).into(),
        }
    }

    /// True for a missing number.
    pub(super) fn is_missing(&self, row: usize) -> bool {
        matches!(self, Column::Float(v) if v[row].is_nan())
    }

    /// How two rows compare; `None` for lists.
    pub(super) fn comparison(&self) -> Option<Box<dyn Fn(usize, usize) -> Ordering + '_>> {
        match self {
            // Zero and minus zero are equal, and NaN is put aside by the caller.
            Column::Float(v) => Some(Box::new(|a, b| v[a].partial_cmp(&v[b]).unwrap_or(Ordering::Equal))),
            Column::Int(v) => Some(Box::new(|a, b| v[a].cmp(&v[b]))),
            Column::Bool(v) => Some(Box::new(|a, b| v[a].cmp(&v[b]))),
            Column::Text(v) => Some(Box::new(|a, b| v[a].cmp(&v[b]))),
            Column::FloatList(_) | Column::IntList(_) | Column::TextList(_) => None,
        }
    }
}

fn lists<T: Clone>(data: Vec<T>, n: usize, k: usize) -> Vec<Vec<T>> {
    (0..n).map(|row| data[row * k..(row + 1) * k].to_vec()).collect()
}

fn joined<T: Clone>(a: Arc<Vec<T>>, b: Arc<Vec<T>>) -> Vec<T> {
    let mut all = Arc::unwrap_or_clone(a);
    all.extend(Arc::unwrap_or_clone(b));
    all
}

fn widened(lists: &[Vec<i64>]) -> Vec<Vec<f64>> {
    lists.iter().map(|list| list.iter().map(|v| *v as f64).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_the_narrowest_column_that_holds_them() {
        let column = Column::from_cells(vec![Cell::Int(1), Cell::Float(0.5)]).unwrap();
        assert_eq!(column, vec![1.0, 0.5].into());
        let column = Column::from_cells(vec![Cell::FloatList(vec![]), Cell::TextList(vec!["a".into()])]).unwrap();
        assert_eq!(column, vec![vec![], vec!["a".to_string()]].into());
        let error = Column::from_cells(vec![Cell::Int(1), Cell::Int(2), Cell::Text("x".into())]).unwrap_err();
        assert_eq!(error.message(), "rows 0 to 1 hold integers, but row 2 holds text");
    }

    #[test]
    fn tensors_become_columns_and_back() {
        let matrix = Tensor::from_f32((0..6).map(|v| v as f32).collect(), &[2, 3]).unwrap();
        assert_eq!(Column::from_tensor(&matrix).unwrap(), vec![vec![0.0, 1.0, 2.0], vec![3.0, 4.0, 5.0]].into());
        let column = Column::from(vec![true, false]);
        assert_eq!(Column::from_tensor(&column.tensor().unwrap()).unwrap(), column);
        assert!(Column::from_tensor(&Tensor::scalar(1.0)).is_err());
    }
}
