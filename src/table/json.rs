//! A table as JSON: an array of records.

use super::{Cell, Table};
use serde_json::{Value, json};
use std::io::Write;

impl Table {
    /// The table as an array of records, one a line, and how many numbers became null because JSON has no NaN and no
    /// infinity.
    pub fn to_json(&self) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        // Memory takes whatever is written to it.
        let nulls = self.write_json(&mut bytes).unwrap_or_default();
        (bytes, nulls)
    }

    /// Writes the table as [`Table::to_json`] makes it, in pieces; how many numbers became null.
    pub(super) fn write_json(&self, out: &mut impl Write) -> std::io::Result<usize> {
        let mut nulls = 0;
        out.write_all(b"[")?;
        for row in 0..self.len {
            let record = self.columns.iter().map(|(name, column)| (name.clone(), value(column.cell(row), &mut nulls)));
            write!(out, "{}\n{}", if row == 0 { "" } else { "," }, Value::Object(record.collect()))?;
        }
        out.write_all(b"\n]\n")?;
        Ok(nulls)
    }
}

fn value(cell: Cell, nulls: &mut usize) -> Value {
    let mut number = |v: f64| {
        *nulls += usize::from(!v.is_finite());
        json!(v)
    };
    match cell {
        Cell::Float(v) => number(v),
        Cell::Int(v) => json!(v),
        Cell::Bool(v) => json!(v),
        Cell::Text(v) => json!(v),
        Cell::FloatList(v) => Value::Array(v.into_iter().map(number).collect()),
        Cell::IntList(v) => json!(v),
        Cell::TextList(v) => json!(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Provenance;

    #[test]
    fn records_keep_the_order_of_columns_and_nulls_are_counted() {
        let table = Table::new(Provenance::default())
            .with("z", vec![1i64, 2])
            .and_then(|t| t.with("a", vec![0.1, f64::NAN]))
            .and_then(|t| t.with("list", vec![vec![f64::INFINITY, 1.0], vec![]]))
            .unwrap();
        let (bytes, nulls) = table.to_json();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "[\n{\"z\":1,\"a\":0.1,\"list\":[null,1.0]},\n{\"z\":2,\"a\":null,\"list\":[]}\n]\n");
        assert_eq!(nulls, 2);
    }
}
