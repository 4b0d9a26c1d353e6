//! Script values ↔ Rust values. Numbers are coerced here, by the argument's own conversion: an integer is accepted
//! wherever a float is wanted.

use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::options::{OptionMap, Value};
use crate::table::Table;
use crate::tensor::{Held, Tensor};
use crate::work::Work;
use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map};
use serde::ser::{Error as _, Serialize, Serializer};
use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// A type that an argument can have.
pub trait FromScript: Sized + 'static {
    /// What it is called in signatures and messages: `Tensor`, `number`.
    fn kind() -> String;
    /// Reads a value; `None` when it is of another kind.
    fn from_script(value: &Dynamic) -> Option<Self>;
    /// The value of a parameter that is left out; `None` when it must be given.
    fn absent() -> Option<Self> {
        None
    }
    /// The type by which Rhai matches a receiver or operand.
    fn type_id() -> TypeId {
        TypeId::of::<Self>()
    }
}

/// A type that a function can give.
pub trait IntoScript {
    /// The script's value.
    fn into_script(self) -> Dynamic;
}

/// Declares a native type as a script value, by clone: `native!(Model, "Model")`.
#[macro_export]
macro_rules! native {
    ($($ty:ty, $name:literal);+ $(;)?) => {
        $(impl $crate::script::convert::FromScript for $ty {
            fn kind() -> String {
                $name.into()
            }
            fn from_script(value: &rhai::Dynamic) -> Option<Self> {
                value.read_lock::<$ty>().map(|v| v.clone())
            }
        }
        impl $crate::script::convert::IntoScript for $ty {
            fn into_script(self) -> rhai::Dynamic {
                rhai::Dynamic::from(self)
            }
        })+
    };
}

native!(FnPtr, "function"; Tensor, "Tensor");

impl FromScript for f64 {
    fn kind() -> String {
        "number".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        value.as_float().ok().or_else(|| value.as_int().ok().map(|v| v as f64))
    }
}

impl FromScript for i64 {
    fn kind() -> String {
        "integer".into()
    }
    /// `1e6` is a float in Rhai: a whole float counts as an integer.
    fn from_script(value: &Dynamic) -> Option<Self> {
        value.as_int().ok().or_else(|| value.as_float().ok().filter(|v| v.fract() == 0.0 && v.abs() < 9e15).map(|v| v as i64))
    }
}

impl FromScript for usize {
    fn kind() -> String {
        "integer from 0".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        i64::from_script(value).and_then(|v| usize::try_from(v).ok())
    }
}

impl FromScript for bool {
    fn kind() -> String {
        "bool".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        value.as_bool().ok()
    }
}

impl FromScript for String {
    fn kind() -> String {
        "string".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        value.read_lock::<ImmutableString>().map(|s| s.to_string()).or_else(|| value.as_char().ok().map(String::from))
    }
    fn type_id() -> TypeId {
        TypeId::of::<ImmutableString>()
    }
}

impl FromScript for Dynamic {
    fn kind() -> String {
        "any value".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        Some(value.flatten_clone())
    }
}

impl FromScript for Array {
    fn kind() -> String {
        "array".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        value.read_lock::<Array>().map(|v| v.clone())
    }
}

impl FromScript for Map {
    fn kind() -> String {
        "map".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        value.read_lock::<Map>().map(|v| v.clone())
    }
}

/// Any value that an option could have: for arguments that take several kinds.
impl FromScript for Value {
    fn kind() -> String {
        "any value".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        Some(option_value(value))
    }
    fn type_id() -> TypeId {
        TypeId::of::<Dynamic>()
    }
}

/// A map that a function reads by itself, beside its options.
impl FromScript for OptionMap {
    fn kind() -> String {
        "map".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        option_map(value)
    }
    fn type_id() -> TypeId {
        TypeId::of::<Map>()
    }
}

impl<T: FromScript> FromScript for Option<T> {
    fn kind() -> String {
        T::kind()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        if value.is_unit() { Some(None) } else { T::from_script(value).map(Some) }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn type_id() -> TypeId {
        T::type_id()
    }
}

macro_rules! list_from_script {
    ($($ty:ty, $name:literal);+) => {
        $(impl FromScript for Vec<$ty> {
            fn kind() -> String {
                $name.into()
            }
            fn from_script(value: &Dynamic) -> Option<Self> {
                value.read_lock::<Array>()?.iter().map(<$ty>::from_script).collect()
            }
            fn type_id() -> TypeId {
                TypeId::of::<Array>()
            }
        })+
    };
}
list_from_script!(f64, "array of numbers"; i64, "array of integers"; usize, "array of integers from 0"; String, "array of strings"; Tensor, "array of tensors"; Table, "array of tables"; Dictionary, "array of dictionaries"; Figure, "array of figures");

macro_rules! into_script {
    ($($ty:ty),+) => {
        $(impl IntoScript for $ty {
            fn into_script(self) -> Dynamic {
                Dynamic::from(self)
            }
        })+
    };
}
into_script!(f64, i64, bool, Map, ());

impl IntoScript for usize {
    fn into_script(self) -> Dynamic {
        Dynamic::from(self as i64)
    }
}

impl IntoScript for Dynamic {
    fn into_script(self) -> Dynamic {
        self
    }
}

impl IntoScript for String {
    fn into_script(self) -> Dynamic {
        self.into()
    }
}

impl<T: IntoScript> IntoScript for Option<T> {
    fn into_script(self) -> Dynamic {
        self.map_or(Dynamic::UNIT, T::into_script)
    }
}

impl<T: IntoScript> IntoScript for Vec<T> {
    fn into_script(self) -> Dynamic {
        Dynamic::from_array(self.into_iter().map(T::into_script).collect())
    }
}

impl IntoScript for serde_json::Value {
    fn into_script(self) -> Dynamic {
        use serde_json::Value as Json;
        match self {
            Json::Null => Dynamic::UNIT,
            Json::Bool(v) => v.into(),
            Json::Number(n) => n.as_i64().map_or_else(|| Dynamic::from(n.as_f64().unwrap_or(f64::NAN)), Dynamic::from),
            Json::String(s) => s.into(),
            Json::Array(items) => items.into_script(),
            Json::Object(map) => Dynamic::from_map(map.into_iter().map(|(k, v)| (k.into(), v.into_script())).collect()),
        }
    }
}

/// A script value as plain option data.
pub fn option_value(value: &Dynamic) -> Value {
    if value.is_unit() {
        return Value::Unit;
    }
    if let Ok(v) = value.as_bool() {
        return Value::Bool(v);
    }
    if let Ok(v) = value.as_int() {
        return Value::Int(v);
    }
    if let Ok(v) = value.as_float() {
        return Value::Float(v);
    }
    if let Some(text) = String::from_script(value) {
        return Value::Text(text);
    }
    if let Some(items) = value.read_lock::<Array>() {
        return Value::List(items.iter().map(option_value).collect());
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return Value::Tensor(tensor.clone());
    }
    // Rhai writes an open end as the largest integer.
    if let Some(range) = value.read_lock::<std::ops::Range<i64>>() {
        return Value::Range(range.start, Some(range.end).filter(|end| *end != i64::MAX));
    }
    if let Some(range) = value.read_lock::<std::ops::RangeInclusive<i64>>() {
        return Value::Range(*range.start(), Some(*range.end()).filter(|end| *end != i64::MAX).map(|end| end + 1));
    }
    if let Some(dict) = value.read_lock::<Dictionary>() {
        return Value::Native { kind: type_name(value), object: Arc::new(dict.clone()) };
    }
    match option_map(value) {
        Some(map) => Value::Map(map),
        None => Value::Other(type_name(value)),
    }
}

/// A script map as plain option data; `None` when it is no map.
pub fn option_map(value: &Dynamic) -> Option<OptionMap> {
    let map = value.read_lock::<Map>()?;
    Some(map.iter().map(|(key, value)| (key.to_string(), option_value(value))).collect())
}

/// A script value as JSON: numbers that JSON cannot hold become null, tensors nested arrays.
pub fn to_json(value: &Dynamic, work: &Work) -> Result<serde_json::Value> {
    written(serde_json::to_value(AsJson { value, work, nulls: &Cell::new(0) }), work)
}

/// Writes a value as JSON, indented, in pieces: how many numbers became null, since JSON has no NaN and no infinity.
///
/// # Errors
/// As [`to_json`], or `out` fails.
pub fn write_json(value: &Dynamic, out: &mut impl std::io::Write, work: &Work) -> Result<usize> {
    let nulls = Cell::new(0);
    written(serde_json::to_writer_pretty(out, &AsJson { value, work, nulls: &nulls }), work)?;
    Ok(nulls.get())
}

/// What serde says, unless it failed because the user asked to stop.
fn written<T>(result: serde_json::Result<T>, work: &Work) -> Result<T> {
    work.check()?;
    result.map_err(|e| Error::input(e.to_string()))
}

/// A value that is written as JSON, as long as the user does not ask to stop.
struct AsJson<'a> {
    value: &'a Dynamic,
    work: &'a Work,
    /// Numbers that became null so far.
    nulls: &'a Cell<usize>,
}

impl AsJson<'_> {
    fn number<S: Serializer>(&self, number: f64, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.nulls.set(self.nulls.get() + usize::from(!number.is_finite()));
        to.serialize_f64(number)
    }
}

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.work.check().map_err(S::Error::custom)?;
        let part = |value| AsJson { value, ..*self };
        if let Some(items) = self.value.read_lock::<Array>() {
            return to.collect_seq(items.iter().map(part));
        }
        if let Some(map) = self.value.read_lock::<Map>() {
            return to.collect_map(map.iter().map(|(key, value)| (key.as_str(), part(value))));
        }
        match option_value(self.value) {
            Value::Unit => to.serialize_unit(),
            Value::Bool(v) => to.serialize_bool(v),
            Value::Int(v) => to.serialize_i64(v),
            Value::Float(v) => self.number(v, to),
            Value::Text(v) => to.serialize_str(&v),
            Value::Tensor(tensor) => {
                let numbers = RefCell::new(tensor.numbers());
                Nested { json: self, numbers: &numbers, shape: tensor.shape() }.serialize(to)
            }
            Value::Range(a, b) => serde_json::json!({"from": a, "to": b}).serialize(to),
            Value::List(_) | Value::Map(_) | Value::Native { .. } | Value::Other(_) => {
                Err(S::Error::custom(format!("{} cannot be written as JSON", describe(self.value))))
            }
        }
    }
}

/// A part of a tensor: the next of its numbers, in arrays of this shape.
struct Nested<'a, I> {
    json: &'a AsJson<'a>,
    numbers: &'a RefCell<I>,
    shape: &'a [usize],
}

impl<I: Iterator<Item = f64>> Serialize for Nested<'_, I> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.json.work.check().map_err(S::Error::custom)?;
        match self.shape.split_first() {
            None => {
                let next = self.numbers.borrow_mut().next();
                self.json.number(next.unwrap_or(f64::NAN), to)
            }
            Some((n, shape)) => to.collect_seq((0..*n).map(|_| Nested { shape, ..*self })),
        }
    }
}

/// The short name of a value's type, as signatures write it.
pub fn type_name(value: &Dynamic) -> String {
    short_type_name(value.type_name())
}

/// Types of numbers that Rhai's functions know and scripts do not meet.
pub const NARROW: &[&str] = &["i8", "i16", "i32", "i128", "u8", "u16", "u32", "u64", "u128", "f32", "Decimal"];

/// The name of a type as signatures write it: Rhai's own types small (`string`, `array`, `map`), ours as they are named.
pub fn short_type_name(name: &str) -> String {
    // Rhai's word for whatever is text.
    if name.contains("ImmutableString") {
        return "string".into();
    }
    let name = name.trim_start_matches("&mut ").trim_start_matches('&').trim();
    let inner = ["Result<", "RhaiResultOf<", "Option<"].iter().find_map(|outer| name.strip_prefix(outer));
    if let Some(inner) = inner {
        let mut depth = 0;
        let end = inner.find(|c: char| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            depth < 0 || (depth == 0 && c == ',')
        });
        return short_type_name(&inner[..end.unwrap_or(inner.len())]);
    }
    let outer = name.split('<').next().unwrap_or(name);
    let short = match outer.rsplit("::").next().unwrap_or(outer).trim_end_matches('=') {
        "i8" | "i16" | "i32" | "i64" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "isize" | "INT" | "int" => {
            "integer"
        }
        "f32" | "f64" | "FLOAT" | "float" => "number",
        "ImmutableString" | "String" | "str" => "string",
        "Vec" | "Array" => "array",
        "BTreeMap" | "Map" => "map",
        "Blob" => "blob",
        "FnPtr" | "Fn" => "function",
        "Range" | "RangeInclusive" | "ExclusiveRange" | "InclusiveRange" | "StepRange" | "BitRange" => "range",
        "CharsStream" => "range",
        "Dynamic" | "RhaiResult" | "?" => "any value",
        "Instant" => "timestamp",
        "NumberOrTensor" => "number or Tensor",
        "Pass" => "ActivationCache",
        "ScriptError" => "Error",
        other => other,
    };
    short.into()
}

/// `an integer`, `a map`, `()`.
pub fn with_article(kind: &str) -> String {
    match kind.chars().next() {
        None | Some('(') => kind.into(),
        Some(_) if kind.starts_with("any ") => kind.into(),
        Some(c) if "aeioAEIO".contains(c) => format!("an {kind}"),
        Some(_) => format!("a {kind}"),
    }
}

/// A value in the words of a message: small ones as they are, others by their type.
pub fn describe(value: &Dynamic) -> String {
    match option_value(value) {
        Value::Map(_) => "a map".into(),
        Value::Other(name) => with_article(&name),
        small => small.describe(),
    }
}

/// The numbers of a tensor or an array of numbers.
pub fn numbers(value: &Dynamic, what: &str, work: &Work) -> Result<Vec<f64>> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return tensor.read_f64(work);
    }
    let wrong = || Error::input(format!("{what} must be numbers (a tensor or an array), not {}", describe(value)));
    let items = value.read_lock::<Array>().ok_or_else(wrong)?;
    let mut numbers = Held::new(Vec::with_capacity(items.len()));
    for part in items.chunks(1 << 14) {
        work.check()?;
        for item in part {
            numbers.push(f64::from_script(item).ok_or_else(wrong)?);
        }
    }
    Ok(numbers.into_vec())
}
