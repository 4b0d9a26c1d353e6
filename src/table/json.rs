//! A table as JSON: an array of records.

use super::{Cell, Table};
use serde_json::{Value, json};

impl Table {
    /// The table as an array of records, one a line, and how many numbers became null because JSON has no NaN and no
    /// infinity.
    pub fn to_json(&self) -> (Vec<u8>, usize) {
        let mut nulls = 0;
        let mut out = String::from("[");
        for row in 0..self.len {
            out.push_str(if row == 0 { "\n" } else { ",\n" });
            let record = self.columns.iter().map(|(name, column)| (name.clone(), value(column.cell(row), &mut nulls)));
            out.push_str(&Value::Object(record.collect()).to_string());
        }
        out.push_str("\n]\n");
        (out.into_bytes(), nulls)
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
