//! Script values that outlive a session: data as they are, models and dictionaries by the calls that made them.

use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::formats::{TensorSet, npy};
use crate::hub;
use crate::model::Model;
use crate::script::convert::{type_name, with_article};
use crate::script::declare::Form;
use crate::script::{entries, lower};
use crate::table::{Cell, Table};
use crate::tensor::{Bytes, Class, DType, Tensor};
use crate::work::Work;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhai::{Blob, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Map, NativeCallContext, Position};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// How the models and dictionaries of a session were made: a call and its arguments, or why that is not known, by what
/// identifies the value.
#[derive(Clone, Default)]
pub struct Recipes(Arc<Mutex<BTreeMap<Identity, Result<Json>>>>);

/// A place in memory, and what lies there: the place alone may be taken again by a later value.
type Identity = (usize, String);

impl Recipes {
    /// Notes the call that gave `value`, if it is a model or a dictionary that such a call makes again. `seed`: what the call
    /// uses where its options name none.
    pub(super) fn note(&self, function: &str, arguments: &[&mut Dynamic], seed: Option<u64>, value: &Dynamic) {
        let recipe = match function {
            TRAINING => Err(trained()),
            _ => self.recipe(function, arguments, seed).map_err(|error| {
                let whole = Error::input(format!("it was made by `{function}`, and {}", error.message()));
                error.helps().iter().fold(whole, |whole, help| whole.help(help))
            }),
        };
        self.insert(value, recipe);
    }

    fn recipe(&self, function: &str, arguments: &[&mut Dynamic], seed: Option<u64>) -> Result<Json> {
        // What was made of a tensor that has changed since must not be taken for this one.
        let plain = |argument: &&mut Dynamic| Keeper { recipes: self, store: None }.write(argument);
        let mut arguments: Vec<Json> = arguments.iter().map(plain).collect::<Result<_>>()?;
        if let Some(seed) = seed {
            let mut options = arguments.pop_if(|last| last.get("map").is_some()).unwrap_or_else(|| json!({"map": {}}));
            if options["map"]["seed"].is_null() {
                options["map"]["seed"] = json!(seed);
            }
            arguments.push(options);
        }
        if let ("load_model" | "load_sae", [Json::String(name), rest @ ..]) = (function, &mut arguments[..])
            // A revision is one of the hub.
            && rest.last().is_none_or(|options| options["map"]["revision"].is_null())
        {
            *name = hub::absolute(name);
        }
        Ok(json!({"call": function, "arguments": arguments}))
    }

    /// Notes that a dictionary lies in a folder, if no call makes it again.
    pub(super) fn note_saved(&self, value: &Dynamic, folder: &Path) {
        if self.of(value).is_some_and(|recipe| recipe.is_err()) {
            let folder = hub::absolute(&folder.display().to_string());
            self.insert(value, Ok(json!({"call": "load_sae", "arguments": [folder]})));
        }
    }

    fn insert(&self, value: &Dynamic, recipe: Result<Json>) {
        if let Some(id) = identity(value) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, recipe);
        }
    }

    fn of(&self, value: &Dynamic) -> Option<Result<Json>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&identity(value)?).cloned()
    }
}

/// What tells a model or a dictionary from others.
fn identity(value: &Dynamic) -> Option<Identity> {
    let model = value.read_lock::<Model>().map(|model| (model.address(), model.id().to_string()));
    model.or_else(|| value.read_lock::<Dictionary>().map(|dict| (dict.address(), dict.id().to_string())))
}

/// The call that no session repeats.
const TRAINING: &str = "train_sae";

fn trained() -> Error {
    Error::input("it was trained, which takes too long to be done again")
        .help("`save(sae, \"folder\")` keeps it as files, and then the session keeps it, too")
}

/// Tells the weights of a model or a dictionary from others, where they can be read.
fn fingerprint(value: &Dynamic) -> Option<String> {
    let model = value.read_lock::<Model>().map(|model| model.fingerprint());
    model.or_else(|| value.read_lock::<Dictionary>().map(|dict| dict.fingerprint()))?.ok()
}

/// Bytes of a tensor that is written into the JSON where there is no place beside it: the argument of a recipe, which
/// stays as long as the session does.
const INLINE: usize = 4 << 20;

/// Cells of a table that a script still writes out.
const CELLS: usize = 10_000;

/// A value that a [`Keeper`] wrote to `file`, as a script writes it: tensors as what the file holds. None for closures,
/// blobs, and tables of many cells.
pub fn literal(json: &Json, shared: &[Json], data: &TensorSet, file: &str) -> Option<String> {
    let each = |items: &[Json]| items.iter().map(|item| literal(item, shared, data, file)).collect::<Option<Vec<_>>>();
    let text = |text: &str| Json::from(text).to_string();
    Some(match json {
        Json::Null => "()".into(),
        Json::Array(items) => format!("[{}]", each(items)?.join(", ")),
        Json::Object(object) => {
            let (kind, inner) = object.iter().next()?;
            match kind.as_str() {
                "float" => number(inner.as_str()?.parse().ok()?),
                "char" => format!("{}[0]", text(inner.as_str()?)),
                "range" => format!("({}..{})", inner.get(0)?, inner.get(1)?),
                "inclusive" => format!("({}..={})", inner.get(0)?, inner.get(1)?),
                "tensor" => format!("load_safetensors({})[{}]", text(file), text(inner.as_str()?)),
                "numbers" => format!("load_safetensors({})[{}].to_array()", text(file), text(inner.as_str()?)),
                "map" => {
                    let entry =
                        |(key, value): (&String, &Json)| Some(format!("{}: {}", text(key), literal(value, shared, data, file)?));
                    format!("#{{{}}}", inner.as_object()?.iter().map(entry).collect::<Option<Vec<_>>>()?.join(", "))
                }
                "made" => format!("{}({})", inner["call"].as_str()?, each(inner["arguments"].as_array()?)?.join(", ")),
                "table" => written_table(STANDARD.decode(inner.as_str()?).ok()?, file)?,
                "parquet" => written_table(data.find(inner.as_str()?)?.as_u8()?.to_vec(), file)?,
                "shared" => literal(shared.get(usize::try_from(inner.as_u64()?).ok()?)?, shared, data, file)?,
                _ => return None,
            }
        }
        plain => plain.to_string(),
    })
}

fn number(v: f64) -> String {
    match v {
        v if v.is_nan() => "(0.0 / 0.0)".into(),
        v if v.is_infinite() => format!("({:?} / 0.0)", v.signum()),
        v => format!("{v:?}"),
    }
}

/// A table's Parquet file as a call that makes it.
fn written_table(bytes: Vec<u8>, file: &str) -> Option<String> {
    if bytes.len() > INLINE {
        return None;
    }
    let table = Table::from_parquet(bytes, Path::new(file)).ok()?;
    let text = |text: &str| Json::from(text).to_string();
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    let cell = |cell: Cell| match cell {
        Cell::Float(v) => number(v),
        Cell::Int(v) => v.to_string(),
        Cell::Bool(v) => v.to_string(),
        Cell::Text(v) => text(&v),
        Cell::FloatList(v) => list(v.into_iter().map(number).collect()),
        Cell::IntList(v) => list(v.iter().map(i64::to_string).collect()),
        Cell::TextList(v) => list(v.iter().map(|v| text(v)).collect()),
    };
    let names: Vec<&str> = table.names().collect();
    // An empty column does not say what it is a column of.
    if table.is_empty() || table.len() * names.len() > CELLS {
        return None;
    }
    let column = |name: &&str| {
        let column = table.column(name).ok()?;
        Some(format!("{}: {}", text(name), list((0..table.len()).map(|row| cell(column.cell(row))).collect())))
    };
    let columns = names.iter().map(column).collect::<Option<Vec<_>>>()?;
    Some(format!("table(#{{{}}}, {})", columns.join(", "), list(names.iter().map(|name| text(name)).collect())))
}

/// Numbers of an array that becomes a tensor, with a few bytes a number where JSON takes tens.
const NUMBERS: usize = 32;

/// Tensors of one file: its header, of 100 MB at most, names each.
const TENSORS: usize = 500_000;

/// What stands beside the JSON of a session's values.
pub struct Store {
    /// The tensors; each is called by its place.
    pub tensors: Vec<Tensor>,
    /// Values that variables and closures share.
    pub shared: Vec<Json>,
    /// Where a shared value lies in memory, and its place in `shared`; none while it is being written.
    seen: BTreeMap<usize, Option<usize>>,
    /// The user may ask to stop.
    work: Work,
}

impl Store {
    /// An empty one.
    pub fn new(work: &Work) -> Self {
        Store { tensors: Vec::new(), shared: Vec::new(), seen: BTreeMap::new(), work: work.clone() }
    }

    /// Does something; if it fails, what it put here is taken out again.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn whole<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let (tensors, shared) = (self.tensors.len(), self.shared.len());
        f(self).inspect_err(|_| {
            self.tensors.truncate(tensors);
            self.shared.truncate(shared);
            self.seen.retain(|_, place| place.is_some_and(|place| place < shared));
        })
    }

    /// Keeps a tensor; gives its name.
    fn keep(&mut self, tensor: Tensor) -> Result<String> {
        if self.tensors.len() == TENSORS {
            return Err(Error::limit(format!("it holds more tensors than a session keeps, {TENSORS} in all"))
                .help("one tensor that holds all of them can be kept: `tensor([a, b])`"));
        }
        self.tensors.push(tensor);
        Ok((self.tensors.len() - 1).to_string())
    }
}

/// The numbers of an array that holds nothing but integers, or nothing but floats.
fn numbers(items: &[Dynamic]) -> Option<Tensor> {
    let first = items.first()?;
    if first.is_int() {
        return items.iter().map(|item| item.as_int().ok()).collect::<Option<_>>().map(Tensor::vector_i64);
    }
    items.iter().map(|item| item.as_float().ok()).collect::<Option<_>>().map(Tensor::vector_f64)
}

/// Writes values as JSON, tensors and shared values beside it.
pub struct Keeper<'a> {
    /// How models and dictionaries were made.
    pub recipes: &'a Recipes,
    /// Where tensors and shared values go; none where only small tensors can be kept.
    pub store: Option<&'a mut Store>,
}

impl Keeper<'_> {
    /// A value as JSON.
    ///
    /// # Errors
    /// It cannot be kept; the message says what it is, and where it lies in an array or map: `.fig: a Figure cannot be kept`.
    pub fn write(&mut self, value: &Dynamic) -> Result<Json> {
        if let Some(store) = self.store.as_deref() {
            store.work.check()?;
        }
        if value.is_shared() {
            return self.shared(value);
        }
        if let Some(items) = value.read_lock::<rhai::Array>() {
            if let Some(store) = self.store.as_deref_mut()
                && items.len() >= NUMBERS
                && !items.iter().any(Dynamic::is_shared)
                && let Some(numbers) = numbers(&items)
            {
                return Ok(json!({"numbers": store.keep(numbers)?}));
            }
            let items =
                items.iter().enumerate().map(|(i, item)| self.write(item).map_err(|error| inside(&format!("[{i}]"), error)));
            return items.collect::<Result<_>>().map(Json::Array);
        }
        if let Some(blob) = value.read_lock::<Blob>() {
            return Ok(json!({"blob": STANDARD.encode(&*blob)}));
        }
        if let Some(map) = value.read_lock::<Map>() {
            let entries = map.iter().map(|(key, value)| {
                let value = self.write(value).map_err(|error| inside(&format!(".{key}"), error))?;
                Ok((key.to_string(), value))
            });
            return Ok(tagged("map", Json::Object(entries.collect::<Result<_>>()?)));
        }
        if let Some(text) = value.read_lock::<ImmutableString>() {
            return Ok(json!(text.as_str()));
        }
        if let Some(range) = value.read_lock::<Range<i64>>() {
            return Ok(json!({"range": [range.start, range.end]}));
        }
        if let Some(range) = value.read_lock::<RangeInclusive<i64>>() {
            return Ok(json!({"inclusive": [range.start(), range.end()]}));
        }
        if let Some(function) = value.read_lock::<FnPtr>() {
            let curried = function.curry().iter().map(|value| self.write(value)).collect::<Result<Vec<_>>>()?;
            return Ok(json!({"function": function.fn_name(), "curried": curried}));
        }
        match value {
            v if v.is_unit() => Ok(Json::Null),
            v if v.is_bool() => Ok(json!(v.as_bool().unwrap_or_default())),
            v if v.is_int() => Ok(json!(v.as_int().unwrap_or_default())),
            // As text: JSON has neither NaN nor infinity.
            v if v.is_float() => Ok(json!({"float": v.as_float().unwrap_or_default().to_string()})),
            v if v.is_char() => Ok(json!({"char": v.as_char().unwrap_or_default()})),
            v => self.native(v),
        }
    }

    /// A value that a variable and closures share, once.
    fn shared(&mut self, value: &Dynamic) -> Result<Json> {
        let inner = value.read_lock::<Dynamic>().ok_or_else(|| Error::internal("a shared value that cannot be read"))?;
        let address = std::ptr::from_ref::<Dynamic>(&inner).addr();
        let Some(store) = self.store.as_deref_mut() else { return self.write(&inner) };
        match store.seen.insert(address, None) {
            Some(Some(place)) => {
                store.seen.insert(address, Some(place));
                return Ok(json!({"shared": place}));
            }
            Some(None) => return Err(Error::input("it holds itself")),
            None => {}
        }
        let written = self.write(&inner);
        let Some(store) = self.store.as_deref_mut() else { return written };
        store.seen.remove(&address);
        let place = store.shared.len();
        store.shared.push(written?);
        store.seen.insert(address, Some(place));
        Ok(json!({"shared": place}))
    }

    fn native(&mut self, value: &Dynamic) -> Result<Json> {
        if let Some(recipe) = self.recipes.of(value) {
            let mut recipe = recipe?;
            if self.store.is_some() {
                recipe["fingerprint"] = json!(fingerprint(value));
            }
            return Ok(json!({"made": recipe}));
        }
        if let Some(table) = value.read_lock::<Table>() {
            let Some(store) = self.store.as_deref_mut() else {
                return Ok(json!({"table": STANDARD.encode(table.to_parquet()?)}));
            };
            let table = table.clone();
            let bytes = store.work.detached(move |_| table.to_parquet())?;
            return Ok(json!({"parquet": store.keep(bytes_tensor(bytes)?)?}));
        }
        match (value.read_lock::<Tensor>(), self.store.as_deref_mut()) {
            (Some(tensor), Some(store)) => {
                return Ok(json!({"tensor": store.keep(tensor.clone())?}));
            }
            (Some(tensor), None) if tensor.numel() <= INLINE / size_of::<f64>() => {
                return Ok(json!({"npy": STANDARD.encode(npy::write(&tensor))}));
            }
            (Some(tensor), None) => {
                let message = format!("a Tensor {:?} is too large to be kept with it", tensor.shape());
                return Err(Error::input(message).help("keep the tensor in a variable and make the value again from it"));
            }
            _ => {}
        }
        if let (Some(figure), Some(store)) = (value.read_lock::<Figure>(), self.store.as_deref_mut()) {
            let (facts, numbers) = figure.parts();
            return Ok(json!({"figure": facts, "numbers": store.keep(Tensor::vector_f64(numbers))?}));
        }
        let kind = type_name(value);
        let error = Error::input(format!("{} cannot be kept", with_article(&kind)));
        let tabled = entries().iter().any(|e| e.form == Form::Method && e.name == "table" && e.params[0].kind == kind);
        Err(if tabled { error.help("keep its table, in a variable: `let t = x.table();`") } else { error })
    }
}

/// The error of an entry, with the entry's place behind the name of whatever holds it: `.fig: a Figure cannot be kept`.
fn inside(place: &str, error: Error) -> Error {
    if error.is_interrupted() {
        return error;
    }
    let apart = if error.message().starts_with(['.', '[']) { "" } else { ": " };
    let whole = Error::input(format!("{place}{apart}{}", error.message()));
    error.helps().iter().fold(whole, |whole, help| whole.help(help))
}

/// Bytes as a tensor, which a file keeps as they are.
///
/// # Errors
/// None: a vector has as many elements as bytes.
pub fn bytes_tensor(bytes: Vec<u8>) -> Result<Tensor> {
    let shape = [bytes.len()];
    Tensor::from_bytes(Bytes::from(bytes), DType::U8, &shape)
}

/// `{"tag": value}`, of a value that may be large: `json!` would copy it.
pub fn tagged(tag: &str, value: Json) -> Json {
    Json::Object(std::iter::once((tag.to_string(), value)).collect())
}

/// Why a value cannot be read back.
pub enum Fault {
    /// No [`Keeper`] wrote it, or the user stopped: nothing of the session is to be taken.
    Broken(Error),
    /// What it was made of is not there any more.
    Lost(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Broken(error)
    }
}

type Read<T> = std::result::Result<T, Fault>;

/// Reads back what a [`Keeper`] wrote.
pub struct Reader<'a> {
    /// Makes models and dictionaries again.
    pub engine: &'a Engine,
    /// The user may ask to stop.
    pub work: &'a Work,
    /// The tensors.
    pub data: &'a TensorSet,
    /// The closures that the session's cells wrote, by the names that they were saved under.
    pub closures: &'a BTreeMap<String, FnPtr>,
    /// Values that variables and closures share.
    pub shared: &'a [Json],
    /// Those that were read; none while one is being read.
    pub read: RefCell<BTreeMap<usize, Option<Dynamic>>>,
    /// The calls that made a model or a dictionary with other weights than it had.
    pub changed: RefCell<BTreeSet<String>>,
}

impl Reader<'_> {
    /// The value that was written as `json`.
    ///
    /// # Errors
    /// No [`Keeper`] wrote it, or a model or dictionary cannot be made again.
    pub fn read(&self, json: &Json) -> Read<Dynamic> {
        self.work.check()?;
        Ok(match json {
            Json::Null => Dynamic::UNIT,
            Json::Bool(v) => (*v).into(),
            Json::Number(n) => n.as_i64().ok_or_else(|| broken(json))?.into(),
            Json::String(text) => text.into(),
            Json::Array(items) => Dynamic::from_array(self.list(items)?),
            Json::Object(object) => match object.iter().next() {
                Some((kind, inner)) => self.object(kind, inner, json)?,
                None => return Err(broken(json).into()),
            },
        })
    }

    fn list(&self, items: &[Json]) -> Read<Vec<Dynamic>> {
        items.iter().map(|item| self.read(item)).collect()
    }

    fn object(&self, kind: &str, inner: &Json, whole: &Json) -> Read<Dynamic> {
        let text = || inner.as_str().ok_or_else(|| broken(whole));
        let bytes = || STANDARD.decode(text()?).map_err(|_| broken(whole));
        let ends = || match inner.as_array().map(Vec::as_slice) {
            Some([a, b]) => a.as_i64().zip(b.as_i64()).ok_or_else(|| broken(whole)),
            _ => Err(broken(whole)),
        };
        Ok(match kind {
            "float" => text()?.parse::<f64>().map_err(|_| broken(whole))?.into(),
            "char" => text()?.chars().next().ok_or_else(|| broken(whole))?.into(),
            "range" => ends().map(|(a, b)| Dynamic::from(a..b))?,
            "inclusive" => ends().map(|(a, b)| Dynamic::from(a..=b))?,
            "tensor" => Dynamic::from(self.data.get(text()?)?.clone()),
            "npy" => Dynamic::from(npy::read(bytes()?.into(), &self.data.source)?),
            "blob" => Dynamic::from_blob(bytes()?),
            "numbers" => {
                let tensor = self.data.get(text()?)?;
                Dynamic::from_array(match tensor.dtype().class() {
                    Class::Int => tensor.to_i64().into_iter().map(Dynamic::from).collect(),
                    _ => tensor.to_f64().into_iter().map(Dynamic::from).collect(),
                })
            }
            "figure" => {
                let numbers = self.data.get(whole["numbers"].as_str().ok_or_else(|| broken(whole))?)?.to_f64();
                Dynamic::from(Figure::of_parts(inner, &numbers)?)
            }
            "table" => self.table(bytes()?)?,
            "parquet" => self.table(self.data.get(text()?)?.as_u8().ok_or_else(|| broken(whole))?.to_vec())?,
            "map" => {
                let entries = inner.as_object().ok_or_else(|| broken(whole))?;
                let map = entries.iter().map(|(key, value)| Ok((key.into(), self.read(value)?))).collect::<Read<Map>>()?;
                Dynamic::from_map(map)
            }
            "function" => {
                let written = self.closures.get(text()?).cloned();
                let mut function = written.map_or_else(|| FnPtr::new(text()?).map_err(|_| broken(whole)), Ok)?;
                function.set_curry(self.list(whole["curried"].as_array().map_or(&[], Vec::as_slice))?);
                function.into()
            }
            "made" => self.made(inner)?,
            "shared" => self.shared(inner)?,
            _ => return Err(broken(whole).into()),
        })
    }

    fn table(&self, bytes: Vec<u8>) -> Read<Dynamic> {
        let file = self.data.source.clone();
        Ok(Dynamic::from(self.work.detached(move |_| Table::from_parquet(bytes, &file))?))
    }

    /// The value at a place of `shared`: whoever asks for it gets the same one.
    fn shared(&self, place: &Json) -> Read<Dynamic> {
        let place = place.as_u64().and_then(|place| usize::try_from(place).ok()).ok_or_else(|| broken(place))?;
        let json = self.shared.get(place).ok_or_else(|| broken(&json!({"shared": place})))?;
        // Taken out of the map first: reading may come back here.
        let known = self.read.borrow().get(&place).cloned();
        match known {
            Some(value) => value.ok_or_else(|| broken(json).into()),
            None => {
                self.read.borrow_mut().insert(place, None);
                let value = self.read(json).map(Dynamic::into_shared);
                match &value {
                    Ok(value) => self.read.borrow_mut().insert(place, Some(value.clone())),
                    Err(_) => self.read.borrow_mut().remove(&place),
                };
                value
            }
        }
    }

    /// Calls what made a value again.
    fn made(&self, recipe: &Json) -> Read<Dynamic> {
        let name = recipe["call"].as_str().ok_or_else(|| broken(recipe))?;
        if name == TRAINING {
            return Err(Fault::Lost(trained()));
        }
        let mut arguments = self.list(recipe["arguments"].as_array().map_or(&[], Vec::as_slice))?;
        let mut arguments: Vec<&mut Dynamic> = arguments.iter_mut().collect();
        let global = self.engine.new_global_runtime_state();
        let call = NativeCallContext::new_with_all_fields(self.engine, name, None, &global, Position::NONE);
        let value = call.call_native_fn_raw(name, false, &mut arguments).map_err(|error| match error.unwrap_inner() {
            EvalAltResult::ErrorFunctionNotFound(..) => Fault::Broken(broken(recipe)),
            _ => match lower(&error) {
                error if error.is_interrupted() => Fault::Broken(error),
                error => Fault::Lost(error),
            },
        })?;
        if let Some(saved) = recipe["fingerprint"].as_str()
            && fingerprint(&value).is_some_and(|now| now != saved)
        {
            let first = recipe["arguments"][0].as_str().map_or_else(|| "…".into(), |first| format!("{first:?}"));
            self.changed.borrow_mut().insert(format!("{name}({first})"));
        }
        Ok(value)
    }
}

fn broken(json: &Json) -> Error {
    let shown: String = json.to_string().chars().take(60).collect();
    Error::format(format!("this is no value of a session: {shown}"))
}
