//! CSV: a header line, one line a row, lists as JSON arrays inside a cell.

use super::{Cell, Column, Table};
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::work::Work;
use serde_json::json;
use std::io::Write;
use std::path::Path;

impl Table {
    /// The table as CSV (RFC 4180, `\n` line ends). Floats are the shortest text that reads back as the same number, with a
    /// point or exponent; a missing number is an empty cell, and null inside a list, where infinities are ±1e999.
    ///
    /// # Errors
    /// Memory runs out.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_csv(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the table as [`Table::to_csv`] makes it, in pieces.
    pub(super) fn write_csv(&self, out: &mut impl Write) -> Result<()> {
        let failed = |e: csv::Error| Error::internal(format!("cannot write CSV: {e}"));
        let mut writer = csv::WriterBuilder::new().from_writer(out);
        writer.write_record(self.names()).map_err(failed)?;
        for row in 0..self.len {
            for (_, column) in &self.columns {
                writer.write_field(text(column.cell(row))).map_err(failed)?;
            }
            writer.write_record(None::<&[u8]>).map_err(failed)?;
        }
        writer.flush().map_err(|e| failed(e.into()))
    }

    /// Reads CSV with a header line. A column is integers, numbers (some cells may be empty), truth values, lists or text:
    /// the first of these that all its cells are.
    ///
    /// # Errors
    /// No header, a name twice, a row of another length, text that is not UTF-8; the line is named. Or the user asked to stop.
    pub fn from_csv(bytes: &[u8], file: &Path, work: &Work) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let failed = |e: csv::Error| Error::format(describe(&e)).file(file);
        let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
        let names: Vec<String> = reader.headers().map_err(failed)?.iter().map(String::from).collect();
        if names.is_empty() {
            return Err(Error::format("has no header line, so it is not a CSV table").file(file));
        }
        let mut cells: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        for record in reader.records() {
            work.check()?;
            for (column, cell) in cells.iter_mut().zip(&record.map_err(failed)?) {
                column.push(cell.to_string());
            }
        }
        let mut table = Table::new(Provenance::default());
        for (name, cells) in names.iter().zip(cells) {
            if table.names().any(|existing| existing == name) {
                return Err(Error::format(format!("has two columns named `{name}`")).file(file));
            }
            table = table.with(name, infer(cells))?;
            work.check()?;
        }
        Ok(table)
    }
}

fn describe(error: &csv::Error) -> String {
    let line = error.position().map_or(String::new(), |p| format!("line {}: ", p.line()));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{line}{len} cells, but the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => format!("{line}text that is not UTF-8"),
        _ => error.to_string(),
    }
}

fn text(cell: Cell) -> String {
    match cell {
        Cell::Float(v) if v.is_nan() => String::new(),
        Cell::Float(v) => float(v),
        Cell::Int(v) => v.to_string(),
        Cell::Bool(v) => v.to_string(),
        Cell::Text(v) => v,
        Cell::FloatList(v) => format!("[{}]", v.into_iter().map(list_float).collect::<Vec<_>>().join(",")),
        Cell::IntList(v) => json!(v).to_string(),
        Cell::TextList(v) => json!(v).to_string(),
    }
}

/// The shortest text that reads back as the same number, marked as a float by a point or an exponent; `inf`, `-inf`.
fn float(value: f64) -> String {
    format!("{value:?}")
}

fn list_float(value: f64) -> String {
    match value {
        v if v.is_nan() => "null".into(),
        v if v.is_infinite() => if v > 0.0 { "1e999" } else { "-1e999" }.into(),
        v => float(v),
    }
}

fn infer(cells: Vec<String>) -> Column {
    fn all<T>(cells: &[String], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        cells.iter().map(|cell| read(cell)).collect()
    }
    let number = |cell: &str| if cell.is_empty() { Some(f64::NAN) } else { cell.parse().ok() };
    let truth = |cell: &str| match cell {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    };
    let int_list = |cell: &str| list(cell, |item| item.parse::<i64>().ok());
    let float_list = |cell: &str| list(cell, |item| if item == "null" { Some(f64::NAN) } else { item.parse().ok() });
    let text_list = |cell: &str| serde_json::from_str::<Vec<String>>(cell).ok();
    None.or_else(|| all(&cells, |cell| cell.parse::<i64>().ok()).map(Column::from))
        .or_else(|| all(&cells, number).map(Column::from))
        .or_else(|| all(&cells, truth).map(Column::from))
        .or_else(|| all(&cells, int_list).map(Column::from))
        .or_else(|| all(&cells, float_list).map(Column::from))
        .or_else(|| all(&cells, text_list).map(Column::from))
        .unwrap_or_else(|| Column::from(cells))
}

/// The items of `[a, b, …]`. Numbers only: not through serde_json, which refuses 1e999.
fn list<T>(cell: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let inner = cell.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|item| read(item.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work::silent(1).unwrap()
    }

    #[test]
    fn every_kind_of_column_comes_back_as_it_was() {
        let table = Table::new(Provenance::default())
            .with("id", vec![-1i64, i64::MAX])
            .and_then(|t| t.with("x", vec![0.1 + 0.2, f64::NAN]))
            .and_then(|t| t.with("whole", vec![1.0, 1e300]))
            .and_then(|t| t.with("wide", vec![f64::INFINITY, -5e-324]))
            .and_then(|t| t.with("yes", vec![true, false]))
            .and_then(|t| t.with("token, quoted", vec!["a \"b\",\nc".to_string(), " but".to_string()]))
            .and_then(|t| t.with("floats", vec![vec![1.0, f64::NEG_INFINITY], vec![]]))
            .and_then(|t| t.with("ids", vec![vec![3i64], vec![4, 5]]))
            .and_then(|t| t.with("tokens", vec![vec!["]".to_string(), "我们的".into()], vec![",\"".into()]]))
            .unwrap();
        let back = Table::from_csv(&table.to_csv().unwrap(), Path::new("t.csv"), &work()).unwrap();
        for ((name, column), (back_name, back)) in table.columns().iter().zip(back.columns()) {
            // NaN is no equal of itself; its debug text is.
            assert_eq!(format!("{name} {column:?}"), format!("{back_name} {back:?}"));
        }
    }

    #[test]
    fn reading_ends_when_the_user_asks_to_stop() {
        let work = work();
        work.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(Table::from_csv(b"a\n1\n2\n", Path::new("t.csv"), &work).unwrap_err().is_interrupted());
    }

    #[test]
    fn kinds_are_inferred_as_pandas_does() {
        let table =
            Table::from_csv(b"\xef\xbb\xbfa,b,c,d\r\n1,,x,[]\r\n2,3,,\"[1, null]\"\r\n", Path::new("t.csv"), &work()).unwrap();
        let kinds: Vec<_> = table.columns().iter().map(|(name, column)| (name.as_str(), column.kind())).collect();
        assert_eq!(kinds, [("a", "integers"), ("b", "numbers"), ("c", "text"), ("d", "lists of numbers")]);
    }

    #[test]
    fn bad_files_name_the_line() {
        let error = |bytes: &[u8]| Table::from_csv(bytes, Path::new("t.csv"), &work()).unwrap_err().to_string();
        assert_eq!(error(b"a,b\n1,2\n3\n"), "t.csv: line 3: 1 cells, but the header has 2");
        assert_eq!(error(b""), "t.csv: has no header line, so it is not a CSV table");
        assert_eq!(error(b"a,a\n1,2\n"), "t.csv: has two columns named `a`");
        assert_eq!(error(b"a\n1\n\xff\n"), "t.csv: line 3: text that is not UTF-8");
    }
}
