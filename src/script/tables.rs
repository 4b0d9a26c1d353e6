//! Tables: making, reading, choosing, ordering, joining.

use crate::entry;
use crate::error::{Error, Result};
use crate::render;
use crate::script::convert::{FromScript, IntoScript, describe, option_map};
use crate::script::declare::{Call, Entry};
use crate::table::{Cell, Column, Join, Order, Summary, Table};
use crate::tensor::Tensor;
use crate::work::Work;
use rhai::{Array, Dynamic, FnPtr, Map, Module};
use std::any::TypeId;

crate::native!(Table, "Table");

crate::options! {
    /// Options of `join`.
    pub struct JoinOptions {
        /// `"inner"`: rows with a partner; `"left"`: all rows of the left table.
        how: Join = Join::default(),
    }
}

impl IntoScript for Cell {
    fn into_script(self) -> Dynamic {
        match self {
            Cell::Float(v) => v.into(),
            Cell::Int(v) => v.into(),
            Cell::Bool(v) => v.into(),
            Cell::Text(v) => v.into(),
            Cell::FloatList(v) => v.into_script(),
            Cell::IntList(v) => v.into_script(),
            Cell::TextList(v) => v.into_script(),
        }
    }
}

/// `t["col"]`: numbers and truth values as a tensor, text and lists as arrays.
impl IntoScript for Column {
    fn into_script(self) -> Dynamic {
        match self.tensor() {
            Some(tensor) => tensor.into_script(),
            None => (0..self.len()).map(|row| self.cell(row)).collect::<Vec<_>>().into_script(),
        }
    }
}

fn row_map(table: &Table, row: usize) -> Result<Map> {
    Ok(table.row(row)?.into_iter().map(|(name, cell)| (name.into(), cell.into_script())).collect())
}

/// `for row in table` walks the rows as maps.
pub(super) fn register_iterator(module: &mut Module) {
    module.set_iter(TypeId::of::<Table>(), |value| {
        let table = value.cast::<Table>();
        Box::new((0..table.len()).map(move |row| row_map(&table, row).map_or(Dynamic::UNIT, Dynamic::from_map)))
    });
}

fn cell(value: &Dynamic, what: &str) -> Result<Cell> {
    if value.is_unit() {
        return Ok(Cell::Float(f64::NAN));
    }
    let wrong = || Error::input(format!("{what} holds {}, which no column can hold", describe(value)));
    if let Some(items) = value.read_lock::<Array>() {
        return list_cell(&items).ok_or_else(wrong);
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return Ok(Cell::FloatList(tensor.to_f64()));
    }
    if let Ok(v) = value.as_bool() {
        return Ok(Cell::Bool(v));
    }
    if let Ok(v) = value.as_int() {
        return Ok(Cell::Int(v));
    }
    if let Ok(v) = value.as_float() {
        return Ok(Cell::Float(v));
    }
    String::from_script(value).map(Cell::Text).ok_or_else(wrong)
}

fn list_cell(items: &Array) -> Option<Cell> {
    let all = |test: fn(&Dynamic) -> bool| items.iter().all(test);
    if all(Dynamic::is_int) {
        return items.iter().map(i64::from_script).collect::<Option<_>>().map(Cell::IntList);
    }
    if all(Dynamic::is_string) {
        return items.iter().map(String::from_script).collect::<Option<_>>().map(Cell::TextList);
    }
    items.iter().map(f64::from_script).collect::<Option<_>>().map(Cell::FloatList)
}

/// A column of a table that is to have `rows` rows: a tensor, an array, or one value for every row.
fn column(value: &Dynamic, rows: Option<usize>, name: &str, work: &Work) -> Result<Column> {
    if let Some(tensor) = value.read_lock::<Tensor>()
        && tensor.ndim() > 0
    {
        return Column::from_tensor(&tensor).map_err(|e| e.context(format!("column `{name}`")));
    }
    let what = format!("column `{name}`");
    let cells = match (value.read_lock::<Array>(), rows) {
        (Some(items), _) => items.iter().map(|v| work.check().and_then(|()| cell(v, &what))).collect::<Result<Vec<_>>>()?,
        (None, Some(rows)) => vec![cell(value, &what)?; rows],
        (None, None) => return Err(Error::input(format!("{what} must be a tensor or an array, not {}", describe(value)))),
    };
    of_cells(cells, work).map_err(|e| e.context(what))
}

fn of_cells(cells: Vec<Cell>, work: &Work) -> Result<Column> {
    unless_stopped(work, cells.len(), move || Column::from_cells(cells))
}

fn from_columns(map: &Map, work: &Work) -> Result<Table> {
    map.iter().try_fold(Table::default(), |table, (name, value)| table.with(name, column(value, None, name, work)?))
}

/// Rows as maps; every row has the keys of the first.
fn from_rows(rows: &Array, work: &Work) -> Result<Table> {
    let maps: Vec<Map> = rows
        .iter()
        .map(|row| {
            work.check()?;
            Map::from_script(row).ok_or_else(|| Error::input(format!("table: each row must be a map, not {}", describe(row))))
        })
        .collect::<Result<_>>()?;
    let Some(first) = maps.first() else { return Ok(Table::default()) };
    first.keys().try_fold(Table::default(), |table, name| {
        let cells = maps.iter().enumerate().map(|(i, map)| match map.get(name) {
            Some(value) => work.check().and_then(|()| cell(value, &format!("row {i}, `{name}`"))),
            None => Err(Error::input(format!("table: row {i} has no `{name}`, which row 0 has"))),
        });
        table.with(name, of_cells(cells.collect::<Result<_>>()?, work).map_err(|e| e.context(format!("column `{name}`")))?)
    })
}

/// The rows that a mask or a function of the row chooses.
fn chosen(call: &Call, table: &Table, choice: &Dynamic) -> Result<Vec<bool>> {
    if let Some(function) = choice.read_lock::<FnPtr>().map(|f| f.clone()) {
        return (0..table.len())
            .map(|row| {
                call.work().check()?;
                let kept = call.run(&function, (row_map(table, row)?,))?;
                kept.as_bool()
                    .map_err(|_| Error::input(format!("filter: the function must give true or false, not {}", describe(&kept))))
            })
            .collect();
    }
    if let Some(tensor) = choice.read_lock::<Tensor>() {
        return Ok(tensor.to_bool());
    }
    let mask = choice.read_lock::<Array>().and_then(|items| items.iter().map(bool::from_script).collect());
    mask.ok_or_else(|| {
        Error::input(format!("filter: takes a function of the row or a mask of truth values, not {}", describe(choice)))
    })
}

/// What `f` makes of so many rows; a long one need not be waited for when the user interrupts.
fn unless_stopped<T: Send + 'static>(work: &Work, rows: usize, f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    const LONG: usize = 1 << 17;
    if rows > LONG { work.detached(|_| f()) } else { f() }
}

fn names(value: &Dynamic, what: &str) -> Result<Vec<String>> {
    String::from_script(value)
        .map(|name| vec![name])
        .or_else(|| Vec::<String>::from_script(value))
        .ok_or_else(|| Error::input(format!("{what} must be a name or an array of names, not {}", describe(value))))
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// A table from columns `#{name: values}` (tensors or arrays of equal length; in the order of their names) or from an
            /// array of rows `#{name: value}`. `names` chooses and orders the columns.
            ///
            /// ```rhai
            /// let t = table(#{ score: [0.5, 0.25], layer: [0, 1] }, ["layer", "score"]);
            /// assert(t.columns == ["layer", "score"] && t.len == 2);
            /// let same = table([#{ layer: 0, score: 0.5 }, #{ layer: 1, score: 0.25 }]);
            /// assert(same["score"].sum() == 0.75);
            /// ```
            fn table(call, data: Dynamic, names: Option<Vec<String>>) -> Table {
                let table = match (data.read_lock::<Map>(), data.read_lock::<Array>()) {
                    (Some(columns), _) => from_columns(&columns, call.work())?,
                    (_, Some(rows)) => from_rows(&rows, call.work())?,
                    _ => return Err(Error::input(format!("table: `data` must be a map of columns or an array of rows, not {}", describe(&data)))),
                };
                match names {
                    Some(names) => table.select(&names),
                    None => Ok(table),
                }
            }
        },
        entry! {
            /// Reads a `.csv` or `.parquet` file; a name with `*` or `?` reads all that match, one below the other.
            ///
            /// ```rhai
            /// save(table(#{ a: [1, 2] }), "numbers.csv");
            /// assert(load_table(out_dir() + "/numbers.csv")["a"].sum() == 3);
            /// ```
            fn load_table(call, name: String) -> Table { Table::load(&name, call.work()) }
        },
        entry! {
            /// Several tables with the same columns, one below the other.
            ///
            /// ```rhai
            /// assert(concat([table(#{ a: [1] }), table(#{ a: [2, 3] })]).len == 3);
            /// ```
            fn concat(call, tables: Vec<Table>) -> Table {
                unless_stopped(call.work(), tables.iter().map(Table::len).sum(), move || Table::concat(&tables))
            }
        },
        entry! {
            /// The names of the columns.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1], b: ["x"] }).columns == ["a", "b"]);
            /// ```
            get columns(call, table: Table) -> Vec<String> { Ok(table.names().map(String::from).collect()) }
        },
        entry! {
            /// Number of rows.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1, 2] }).len == 2);
            /// ```
            get len(call, table: Table) -> usize { Ok(table.len()) }
        },
        entry! {
            /// Number of rows.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1, 2] }).len() == 2);
            /// ```
            method len(call, table: Table) -> usize { Ok(table.len()) }
        },
        entry! {
            /// A column by its name (a tensor for numbers and truth values, an array for text and lists), or a row by its number, as a
            /// map; negative numbers count from the end.
            ///
            /// ```rhai
            /// let t = table(#{ a: [1, 2], b: ["x", "y"] });
            /// assert(t["a"].sum() == 3 && t["b"][1] == "y");
            /// assert(t[-1].a == 2);
            /// ```
            index_get(call, table: Table, key: Dynamic) -> Dynamic {
                if let Some(name) = String::from_script(&key) {
                    let column = table.column(&name)?.clone();
                    return unless_stopped(call.work(), column.len(), move || Ok(column.into_script()));
                }
                let row = i64::from_script(&key)
                    .ok_or_else(|| Error::input(format!("a table is indexed by a column's name or a row's number, not {}", describe(&key))))?;
                let from_end = if row < 0 { row + table.len() as i64 } else { row };
                let place = usize::try_from(from_end).ok().filter(|r| *r < table.len());
                let place = place.ok_or_else(|| Error::input(format!("row {row} is out of range: the table has {} rows", table.len())))?;
                Ok(Dynamic::from_map(row_map(&table, place)?))
            }
        },
        entry! {
            /// The rows that a function of the row, or a mask (a bool tensor or array), chooses.
            ///
            /// ```rhai
            /// let t = table(#{ a: [1, 2, 3] });
            /// assert(t.filter(|row| row.a > 1).len == 2);
            /// assert(t.filter(t["a"] > 2).len == 1);
            /// ```
            method filter(call, table: Table, choice: Dynamic) -> Table {
                let chosen = chosen(call, &table, &choice)?;
                unless_stopped(call.work(), table.len(), move || table.filter(&chosen))
            }
        },
        entry! {
            /// Ordered by a column, `"asc"` (default) or `"desc"`; equal rows keep their order, missing values come last.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1, 3, 2] }).sort("a", "desc")[0].a == 3);
            /// ```
            method sort(call, table: Table, column: String, order: Option<String>) -> Table {
                let order = match order.as_deref() {
                    None | Some("asc") => Order::Ascending,
                    Some("desc") => Order::Descending,
                    Some(other) => return Err(Error::input(format!("sort: the order is \"asc\" or \"desc\", not \"{other}\""))),
                };
                unless_stopped(call.work(), table.len(), move || table.sort(&column, order))
            }
        },
        entry! {
            /// The first n rows.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1, 3, 2] }).head(2).len == 2);
            /// ```
            method head(call, table: Table, n: usize) -> Table {
                unless_stopped(call.work(), n.min(table.len()), move || Ok(table.head(n)))
            }
        },
        entry! {
            /// Some of the columns, in this order.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1], b: [2] }).select(["b"]).columns == ["b"]);
            /// ```
            method select(call, table: Table, columns: Vec<String>) -> Table { table.select(&columns) }
        },
        entry! {
            /// With a further column (or another one under that name): a tensor, an array, or one value for every row.
            ///
            /// ```rhai
            /// let t = table(#{ a: [1, 2] }).with_column("b", [3.5, 4.5]).with_column("layer", 7);
            /// assert(t["b"].sum() == 8.0 && t["layer"].to_array() == [7, 7]);
            /// ```
            method with_column(call, table: Table, name: String, values: Dynamic) -> Table {
                let rows = table.len();
                let column = column(&values, Some(rows), &name, call.work())?;
                table.with(&name, column)
            }
        },
        entry! {
            /// One row for each different value of a column (or of several), with summaries `#{name: ["column", aggregate]}`;
            /// aggregates: `mean median sum std min max count first`, and `p0` to `p100`. Missing numbers are left out of all but `first`.
            ///
            /// ```rhai
            /// let t = table(#{ layer: [0, 0, 1], score: [1.0, 3.0, 5.0] });
            /// let by_layer = t.group_by("layer", #{ mean: ["score", "mean"], n: "count" });
            /// assert(by_layer["mean"].to_array() == [2.0, 5.0]);
            /// ```
            method group_by(call, table: Table, columns: Dynamic, summaries: Map) -> Table {
                let map = option_map(&Dynamic::from_map(summaries)).unwrap_or_default();
                let (columns, summaries) = (names(&columns, "group_by: `columns`")?, Summary::parse(&map)?);
                unless_stopped(call.work(), table.len(), move || table.group_by(&columns, &summaries))
            }
        },
        entry! {
            /// The columns of two tables side by side, for rows that agree in a column (or several). A right column whose name the
            /// left table has too gets the suffix `_right`.
            ///
            /// ```rhai
            /// let a = table(#{ feature: [0, 1], score: [0.5, 0.25] });
            /// let b = table(#{ feature: [1, 0], votes: [3, 2] });
            /// assert(a.join(b, "feature")["votes"].to_array() == [2, 3]);
            /// assert(a.join(b.head(1), "feature", #{ how: "left" }).len == 2);
            /// ```
            method join(call, left: Table, right: Table, columns: Dynamic; options: JoinOptions) -> Table {
                let (columns, how, rows) = (names(&columns, "join: `columns`")?, options.how, left.len().max(right.len()));
                unless_stopped(call.work(), rows, move || left.join(&right, &columns, how))
            }
        },
        entry! {
            /// How the table was made: program, function, inputs, options, seed.
            ///
            /// ```rhai
            /// let heads = copying(mlp_neurons(load_model("demo"), 0), load_model("demo"), 1);
            /// assert(heads.provenance.function == "copying");
            /// ```
            get provenance(call, table: Table) -> serde_json::Value { Ok(table.provenance.to_json()) }
        },
        entry! {
            /// The table as `print` shows it, as wide as the terminal.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1] }).to_string().contains("a"));
            /// ```
            method to_string(call, table: Table) -> String { Ok(render::text::table(&table, call.host.width)) }
        },
        entry! {
            /// The table as text.
            ///
            /// ```rhai
            /// assert(table(#{ a: [1] }).to_debug().contains("a"));
            /// ```
            method to_debug(call, table: Table) -> String { Ok(render::text::table(&table, call.host.width)) }
        },
    ]
}
