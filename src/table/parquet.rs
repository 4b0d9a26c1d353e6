//! Parquet, through the column writers and readers of the `parquet` crate.
//!
//! Numbers are nullable doubles (missing is null), integers INT64, text UTF-8, lists the three-level LIST of the format's
//! specification; pages are Snappy-compressed. Provenance is the key `saerepl` of the file's key-value metadata, as JSON.

use super::{Column, Table};
use crate::error::{Error, Result};
use crate::provenance::Provenance;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnDescriptor, Type};
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const PROVENANCE_KEY: &str = "saerepl";
const ROWS_PER_GROUP: usize = 1 << 20;

type Outcome<T> = std::result::Result<T, ParquetError>;

impl Table {
    /// The table as a Parquet file. The same table gives the same bytes.
    ///
    /// # Errors
    /// More than 2³¹ bytes of text in one cell, or memory runs out.
    pub fn to_parquet(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_parquet(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the table as [`Table::to_parquet`] makes it, in pieces.
    pub(super) fn write_parquet(&self, out: &mut (impl Write + Send)) -> Result<()> {
        self.write_groups(out).map_err(|e| Error::internal(format!("cannot write Parquet: {e}")))
    }

    fn write_groups(&self, out: &mut (impl Write + Send)) -> Outcome<()> {
        let fields = self.columns.iter().map(|(name, column)| field(name, column).map(Arc::new)).collect::<Outcome<Vec<_>>>()?;
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
        let metadata = (!self.provenance.is_empty())
            .then(|| vec![KeyValue::new(PROVENANCE_KEY.to_string(), self.provenance.to_json().to_string())]);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("saerepl ", env!("CARGO_PKG_VERSION")).into())
            .set_key_value_metadata(metadata)
            .build();
        let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        for start in (0..self.len).step_by(ROWS_PER_GROUP) {
            let rows = start..(start + ROWS_PER_GROUP).min(self.len);
            let mut group = writer.next_row_group()?;
            for (_, column) in &self.columns {
                if let Some(mut out) = group.next_column()? {
                    write_column(&mut out, column, rows.clone())?;
                    out.close()?;
                }
            }
            group.close()?;
        }
        writer.close()?;
        Ok(())
    }

    /// Reads a Parquet file: scalar columns and lists of scalars. Integers or truth values with nulls become numbers.
    ///
    /// # Errors
    /// Not a Parquet file, a damaged one, a compression other than Snappy, or a column of another kind, which is named.
    pub fn from_parquet(bytes: Vec<u8>, file: &Path) -> Result<Self> {
        Self::read_parquet(bytes, file, &|| Ok(()))
    }

    /// As [`Table::from_parquet`], as long as `go_on` lets it.
    pub(super) fn read_parquet(bytes: Vec<u8>, file: &Path, go_on: &dyn Fn() -> Result<()>) -> Result<Self> {
        if bytes.len() < 12 || !bytes.starts_with(b"PAR1") {
            return Err(Error::format("is not a Parquet file").file(file));
        }
        let failed = |e: ParquetError| Error::format(format!("cannot be read as Parquet: {e}")).file(file);
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).map_err(failed)?;
        let metadata = reader.metadata().file_metadata();
        let provenance = metadata
            .key_value_metadata()
            .and_then(|pairs| pairs.iter().find(|pair| pair.key == PROVENANCE_KEY))
            .and_then(|pair| serde_json::from_str(pair.value.as_deref()?).ok())
            .map_or_else(Provenance::default, Provenance::from_json);
        let schema = metadata.schema_descr();
        let mut table = Table::new(provenance);
        for (leaf, description) in schema.columns().iter().enumerate() {
            let name = schema.get_column_root(leaf).name().to_string();
            let in_column = |e: Error| e.file(file).tensor(&name);
            if table.names().any(|existing| existing == name) {
                return Err(in_column(unsupported("a group of several fields")));
            }
            let mut data = Data::default();
            for group in 0..reader.num_row_groups() {
                go_on()?;
                let group = reader.get_row_group(group).map_err(failed)?;
                let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
                let column = group.get_column_reader(leaf).map_err(failed)?;
                data.read(column, description, rows).map_err(|e| in_column(e.unwrap_or_else(failed)))?;
            }
            table = table.with(&name, data.column(description).map_err(in_column)?).map_err(in_column)?;
        }
        Ok(table)
    }
}

fn unsupported(what: &str) -> Error {
    Error::format(format!("is {what}; tables hold numbers, integers, truth values, text, and lists of them"))
}

fn field(name: &str, column: &Column) -> Outcome<Type> {
    let scalar = |name, physical, repetition| Type::primitive_type_builder(name, physical).with_repetition(repetition).build();
    let text = |name| {
        Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
            .with_repetition(Repetition::REQUIRED)
            .with_converted_type(ConvertedType::UTF8)
            .with_logical_type(Some(LogicalType::String))
            .build()
    };
    let list = |element: Type| {
        let repeated = Type::group_type_builder("list")
            .with_repetition(Repetition::REPEATED)
            .with_fields(vec![Arc::new(element)])
            .build()?;
        Type::group_type_builder(name)
            .with_repetition(Repetition::REQUIRED)
            .with_converted_type(ConvertedType::LIST)
            .with_logical_type(Some(LogicalType::List))
            .with_fields(vec![Arc::new(repeated)])
            .build()
    };
    match column {
        Column::Float(_) => scalar(name, Physical::DOUBLE, Repetition::OPTIONAL),
        Column::Int(_) => scalar(name, Physical::INT64, Repetition::REQUIRED),
        Column::Bool(_) => scalar(name, Physical::BOOLEAN, Repetition::REQUIRED),
        Column::Text(_) => text(name),
        Column::FloatList(_) => list(scalar("element", Physical::DOUBLE, Repetition::OPTIONAL)?),
        Column::IntList(_) => list(scalar("element", Physical::INT64, Repetition::REQUIRED)?),
        Column::TextList(_) => list(text("element")?),
    }
}

fn write_column(out: &mut SerializedColumnWriter, column: &Column, rows: Range<usize>) -> Outcome<()> {
    match column {
        Column::Float(data) => {
            let present: Vec<f64> = data[rows.clone()].iter().copied().filter(|v| !v.is_nan()).collect();
            let levels: Vec<i16> = data[rows].iter().map(|v| i16::from(!v.is_nan())).collect();
            out.typed::<DoubleType>().write_batch(&present, Some(&levels), None)?;
        }
        Column::Int(data) => {
            out.typed::<Int64Type>().write_batch(&data[rows], None, None)?;
        }
        Column::Bool(data) => {
            out.typed::<BoolType>().write_batch(&data[rows], None, None)?;
        }
        Column::Text(data) => {
            let values: Vec<ByteArray> = data[rows].iter().map(|text| text.as_str().into()).collect();
            out.typed::<ByteArrayType>().write_batch(&values, None, None)?;
        }
        Column::FloatList(data) => write_lists::<DoubleType, f64>(out, &data[rows], |v| (!v.is_nan()).then_some(*v), 2)?,
        Column::IntList(data) => write_lists::<Int64Type, i64>(out, &data[rows], |v| Some(*v), 1)?,
        Column::TextList(data) => {
            write_lists::<ByteArrayType, String>(out, &data[rows], |text| Some(text.as_str().into()), 1)?;
        }
    }
    Ok(())
}

/// Writes lists in Dremel's levels: an empty list has definition level 0, a null element 1, a present one `present`.
fn write_lists<D: DataType, T>(
    out: &mut SerializedColumnWriter,
    lists: &[Vec<T>],
    value: impl Fn(&T) -> Option<D::T>,
    present: i16,
) -> Outcome<()> {
    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    for list in lists {
        if list.is_empty() {
            definition.push(0);
            repetition.push(0);
        }
        for (i, item) in list.iter().enumerate() {
            let value = value(item);
            definition.push(if value.is_some() { present } else { 1 });
            repetition.push(i16::from(i > 0));
            values.extend(value);
        }
    }
    out.typed::<D>().write_batch(&values, Some(&definition), Some(&repetition))?;
    Ok(())
}

/// The values of one leaf as the file has them: values that are not null, and levels that say where they belong.
#[derive(Default)]
struct Data {
    values: Values,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

#[derive(Default)]
enum Values {
    #[default]
    None,
    Float(Vec<f64>),
    Int(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// An error of ours, or one of the crate's that the caller wraps.
enum Fault {
    Ours(Error),
    Theirs(ParquetError),
}

impl Fault {
    fn unwrap_or_else(self, wrap: impl FnOnce(ParquetError) -> Error) -> Error {
        match self {
            Fault::Ours(e) => e,
            Fault::Theirs(e) => wrap(e),
        }
    }
}

impl From<ParquetError> for Fault {
    fn from(e: ParquetError) -> Self {
        Fault::Theirs(e)
    }
}

impl Data {
    fn read(&mut self, reader: ColumnReader, description: &ColumnDescriptor, rows: usize) -> std::result::Result<(), Fault> {
        let refuse = |what: &str| Err(Fault::Ours(unsupported(what)));
        if description.max_rep_level() > 1 {
            return refuse("a list of lists");
        }
        let converted = description.converted_type();
        if converted == ConvertedType::DECIMAL {
            return refuse("a column of decimals");
        }
        let unsigned = matches!(converted, ConvertedType::UINT_32 | ConvertedType::UINT_64);
        let values = match reader {
            ColumnReader::BoolColumnReader(r) => Values::Bool(self.levels_and_values(r, rows)?),
            ColumnReader::Int32ColumnReader(r) => {
                let widen = |v: i32| if unsigned { i64::from(v as u32) } else { i64::from(v) };
                Values::Int(self.levels_and_values(r, rows)?.into_iter().map(widen).collect())
            }
            ColumnReader::Int64ColumnReader(r) => {
                let values = self.levels_and_values(r, rows)?;
                if unsigned && values.iter().any(|v| *v < 0) {
                    return refuse("a column of integers above 2^63");
                }
                Values::Int(values)
            }
            ColumnReader::FloatColumnReader(r) => {
                Values::Float(self.levels_and_values(r, rows)?.into_iter().map(f64::from).collect())
            }
            ColumnReader::DoubleColumnReader(r) => Values::Float(self.levels_and_values(r, rows)?),
            ColumnReader::ByteArrayColumnReader(r) => {
                let texts = self.levels_and_values(r, rows)?;
                let text = |bytes: ByteArray| bytes.as_utf8().map(String::from);
                match texts.into_iter().map(text).collect() {
                    Ok(texts) => Values::Text(texts),
                    Err(_) => return refuse("a column of bytes that are not UTF-8 text"),
                }
            }
            ColumnReader::Int96ColumnReader(_) => return refuse("a column of 96-bit timestamps"),
            ColumnReader::FixedLenByteArrayColumnReader(_) => return refuse("a column of fixed-length bytes"),
        };
        match (&mut self.values, values) {
            (Values::Float(all), Values::Float(new)) => all.extend(new),
            (Values::Int(all), Values::Int(new)) => all.extend(new),
            (Values::Bool(all), Values::Bool(new)) => all.extend(new),
            (Values::Text(all), Values::Text(new)) => all.extend(new),
            (all, new) => *all = new,
        }
        Ok(())
    }

    fn levels_and_values<D: DataType>(&mut self, mut reader: ColumnReaderImpl<D>, rows: usize) -> Outcome<Vec<D::T>> {
        let mut values = Vec::new();
        let mut done = 0;
        while done < rows {
            let (definition, repetition) = (Some(&mut self.definition), Some(&mut self.repetition));
            let (records, _, _) = reader.read_records(rows - done, definition, repetition, &mut values)?;
            if records == 0 {
                return Err(ParquetError::General(format!("a column ends after {done} of {rows} rows")));
            }
            done += records;
        }
        Ok(values)
    }

    fn column(self, description: &ColumnDescriptor) -> Result<Column> {
        let max = description.max_def_level();
        if description.max_rep_level() == 0 {
            let nulls = self.definition.iter().any(|level| *level < max);
            // Without nulls possible there are no levels.
            let present = |level: &i16| *level == max;
            return Ok(match self.values {
                Values::Int(v) if nulls => spread(v.into_iter().map(|v| v as f64), &self.definition, present, f64::NAN).into(),
                Values::Bool(v) if nulls => {
                    spread(v.into_iter().map(|v| f64::from(u8::from(v))), &self.definition, present, f64::NAN).into()
                }
                Values::Float(v) if nulls => spread(v.into_iter(), &self.definition, present, f64::NAN).into(),
                Values::Text(v) if nulls => spread(v.into_iter(), &self.definition, present, String::new()).into(),
                Values::Float(v) => v.into(),
                Values::Int(v) => v.into(),
                Values::Bool(v) => v.into(),
                Values::Text(v) => v.into(),
                Values::None => empty(description, false),
            });
        }
        // An element is there from the level of the repeated group on; it has a value at the highest.
        let element = description.repeated_ancestor_def_level();
        let levels = (self.definition.as_slice(), self.repetition.as_slice());
        let nulls = self.definition.iter().any(|level| (element..max).contains(level));
        Ok(match self.values {
            Values::Float(v) => gather(v.into_iter(), levels, element, max, f64::NAN).into(),
            Values::Int(v) if nulls => gather(v.into_iter().map(|v| v as f64), levels, element, max, f64::NAN).into(),
            Values::Int(v) => gather(v.into_iter(), levels, element, max, 0).into(),
            Values::Bool(v) => gather(v.into_iter().map(i64::from), levels, element, max, 0).into(),
            Values::Text(v) => gather(v.into_iter(), levels, element, max, String::new()).into(),
            Values::None => empty(description, true),
        })
    }
}

/// A column without rows, of the kind that the file declares.
fn empty(description: &ColumnDescriptor, list: bool) -> Column {
    match (description.physical_type(), list) {
        (Physical::INT32 | Physical::INT64, false) => Vec::<i64>::new().into(),
        (Physical::BOOLEAN, false) => Vec::<bool>::new().into(),
        (Physical::BYTE_ARRAY, false) => Vec::<String>::new().into(),
        (_, false) => Vec::<f64>::new().into(),
        (Physical::INT32 | Physical::INT64 | Physical::BOOLEAN, true) => Vec::<Vec<i64>>::new().into(),
        (Physical::BYTE_ARRAY, true) => Vec::<Vec<String>>::new().into(),
        (_, true) => Vec::<Vec<f64>>::new().into(),
    }
}

fn spread<T: Clone>(mut values: impl Iterator<Item = T>, levels: &[i16], present: impl Fn(&i16) -> bool, missing: T) -> Vec<T> {
    levels
        .iter()
        .map(|level| if present(level) { values.next().unwrap_or_else(|| missing.clone()) } else { missing.clone() })
        .collect()
}

fn gather<T: Clone>(
    mut values: impl Iterator<Item = T>,
    (definition, repetition): (&[i16], &[i16]),
    element: i16,
    max: i16,
    missing: T,
) -> Vec<Vec<T>> {
    let mut lists: Vec<Vec<T>> = Vec::new();
    for (definition, repetition) in definition.iter().zip(repetition) {
        if *repetition == 0 {
            lists.push(Vec::new());
        }
        if *definition >= element
            && let Some(list) = lists.last_mut()
        {
            let value = if *definition == max { values.next() } else { None };
            list.push(value.unwrap_or_else(|| missing.clone()));
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debug(table: &Table) -> Vec<String> {
        // NaN is no equal of itself; its debug text is.
        table.columns().iter().map(|(name, column)| format!("{name} {column:?}")).collect()
    }

    #[test]
    fn every_kind_of_column_comes_back_with_provenance() {
        let table = Table::new(Provenance::new("unembed").with("model", "demo").step("head 3"))
            .with("id", vec![-1i64, 0, i64::MAX])
            .and_then(|t| t.with("x", vec![0.1 + 0.2, f64::NAN, f64::NEG_INFINITY]))
            .and_then(|t| t.with("yes", vec![true, false, true]))
            .and_then(|t| t.with("token", [" but", "", "我们的"].map(String::from).to_vec()))
            .and_then(|t| t.with("floats", vec![vec![], vec![f64::NAN, 1.5], vec![2.5]]))
            .and_then(|t| t.with("ids", vec![vec![1i64, 2, 3], vec![], vec![]]))
            .and_then(|t| t.with("tokens", vec![vec![], vec![String::new()], vec!["a".into(), "b".into()]]))
            .unwrap();
        let bytes = table.to_parquet().unwrap();
        assert_eq!(bytes, table.to_parquet().unwrap());
        let back = Table::from_parquet(bytes, Path::new("t.parquet")).unwrap();
        assert_eq!(debug(&back), debug(&table));
        assert_eq!(back.provenance, table.provenance);
        let none = table.head(0);
        assert_eq!(debug(&Table::from_parquet(none.to_parquet().unwrap(), Path::new("t.parquet")).unwrap()), debug(&none));
    }

    #[test]
    fn several_row_groups_are_joined() {
        let n = ROWS_PER_GROUP + 5;
        let table = Table::new(Provenance::default())
            .with("i", (0..n).collect::<Vec<usize>>())
            .and_then(|t| t.with("list", (0..n as i64).map(|i| vec![i; (i % 3) as usize]).collect::<Vec<_>>()))
            .unwrap();
        let back = Table::from_parquet(table.to_parquet().unwrap(), Path::new("t.parquet")).unwrap();
        assert!(back.columns() == table.columns());
    }

    #[test]
    fn damaged_files_are_refused() {
        let table = Table::new(Provenance::default()).with("x", (0..100).map(f64::from).collect::<Vec<_>>()).unwrap();
        let bytes = table.to_parquet().unwrap();
        for cut in [0, 4, 20, bytes.len() / 2, bytes.len() - 1] {
            let error = Table::from_parquet(bytes[..cut].to_vec(), Path::new("t.parquet")).unwrap_err();
            assert!(error.to_string().starts_with("t.parquet: "), "{error}");
        }
    }
}
