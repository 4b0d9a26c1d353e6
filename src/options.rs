//! One declaration for the options of a call.
//!
//! [`options!`](crate::options!) and [`choice!`](crate::choice!) give, from one list beside the analysis that reads it:
//! the struct, its defaults, the keys with types and docs (help and completion read them), the parser from a map with
//! did-you-mean errors, and the canonical form that goes into provenance.
//!
//! A map comes here as plain data ([`Value`]), so that analyses know nothing of Rhai.

use crate::error::{Error, Result, nearest};
use crate::tensor::{Class, Tensor};
use serde_json::json;
#[doc(hidden)] // for the macros
pub use serde_json::{Map as JsonMap, Value as Json};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The value of an option, as a script gave it.
#[derive(Clone)]
pub enum Value {
    /// `()`.
    Unit,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// `a..b` (the end excluded; open ranges end at `None`).
    Range(i64, Option<i64>),
    /// A map.
    Map(OptionMap),
    /// A tensor.
    Tensor(Tensor),
    /// A value of one of this crate's own types, for the option that knows it.
    Native {
        /// The name of its type.
        kind: String,
        /// The value.
        object: Arc<dyn Any + Send + Sync>,
    },
    /// Something else; the name of its type.
    Other(String),
}

/// A map of options.
pub type OptionMap = BTreeMap<String, Value>;

impl Value {
    /// What it is, in the words of the script's user.
    pub fn describe(&self) -> String {
        match self {
            Value::Unit => "()".into(),
            Value::Bool(v) => v.to_string(),
            Value::Int(v) => v.to_string(),
            Value::Float(v) => format!("{v:?}"),
            Value::Text(v) => format!("\"{v}\""),
            Value::List(v) => format!("an array of {}", v.len()),
            Value::Range(a, b) => format!("{a}..{}", b.map_or(String::new(), |b| b.to_string())),
            Value::Map(_) => "a map".into(),
            Value::Tensor(t) => format!("{t:?}"),
            Value::Native { kind, .. } => format!("a {kind}"),
            Value::Other(name) => format!("a {name}"),
        }
    }
}

/// One option: what help and completion show.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name in the map.
    pub name: &'static str,
    /// The values it takes, in words.
    pub kind: String,
    /// The default, as JSON.
    pub default: Json,
    /// What it does.
    pub doc: &'static str,
}

/// Implemented by the structs that [`options!`](crate::options!) declares.
pub trait Options: Default + Sized {
    /// The keys in the order of their declaration.
    fn keys() -> Vec<Key>;
    /// Reads a map; keys that are absent keep their defaults.
    ///
    /// # Errors
    /// An unknown key, or a value that its key does not take.
    fn parse(map: &OptionMap) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in map {
            options.set(key, value)?;
        }
        Ok(options)
    }
    /// Changes one option.
    ///
    /// # Errors
    /// As [`Options::parse`].
    fn set(&mut self, key: &str, value: &Value) -> Result<()>;
    /// Every option with its value: what provenance records.
    fn canonical(&self) -> Json;
}

/// A type that an option's value can have.
pub trait OptionValue: Sized {
    /// The values it takes, in words: `"integer"`, `"\"raw\" | \"cosine\""`.
    fn kind() -> String;
    /// Reads a value, or `None` when it is of the wrong kind.
    fn read(value: &Value) -> Option<Self>;
    /// The value for provenance.
    fn canonical(&self) -> Json;
}

/// The error for a key that a map does not know.
pub fn unknown_key(given: &str, known: &[&str]) -> Error {
    let error = Error::input(format!("unknown option `{given}`"));
    let error = match nearest(given, known.iter().copied()) {
        Some(name) => error.help(format!("did you mean `{name}`?")),
        None => error,
    };
    if known.is_empty() {
        error.help("this call takes no options")
    } else {
        error.help(format!("the options are: {}", known.join(", ")))
    }
}

/// Reads one key of a map; used by [`options!`](crate::options!).
pub fn read_key<T: OptionValue>(name: &str, value: &Value) -> Result<T> {
    T::read(value).ok_or_else(|| {
        let kind = T::kind();
        let known = inner_keys(&kind);
        if let Value::Map(map) = value
            && let Some(key) = map.keys().find(|key| !known.is_empty() && !known.contains(&key.as_str()))
        {
            let error = Error::input(format!("option `{name}`: unknown key `{key}`"));
            let near = nearest(key, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            return error.help_with(near).help(format!("the keys are: {}", known.join(", ")));
        }
        let near = match value {
            Value::Text(given) => nearest(given, kind.split('"').skip(1).step_by(2)),
            _ => None,
        };
        let error = Error::input(format!("option `{name}` takes {kind}, not {}", value.describe()));
        error.help_with(near.map(|near| format!("did you mean `\"{near}\"`?")))
    })
}

/// The keys of the maps in the words of a declaration: `query` and `key` in "a number, or #{query, key} of these".
pub fn inner_keys(words: &str) -> Vec<&str> {
    let maps = words.split("#{").skip(1).filter_map(|rest| rest.split_once('}'));
    maps.flat_map(|(keys, _)| keys.split(',')).map(|key| key.split(':').next().unwrap_or(key).trim()).collect()
}

impl OptionValue for bool {
    fn kind() -> String {
        "true or false".into()
    }
    fn read(value: &Value) -> Option<Self> {
        if let Value::Bool(v) = value { Some(*v) } else { None }
    }
    fn canonical(&self) -> Json {
        json!(self)
    }
}

impl OptionValue for usize {
    fn kind() -> String {
        "a whole number from 0".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Int(v) => usize::try_from(*v).ok(),
            Value::Float(v) if v.fract() == 0.0 && (0.0..9e15).contains(v) => Some(*v as usize),
            _ => None,
        }
    }
    fn canonical(&self) -> Json {
        json!(self)
    }
}

impl OptionValue for u64 {
    fn kind() -> String {
        usize::kind()
    }
    fn read(value: &Value) -> Option<Self> {
        usize::read(value).map(|v| v as u64)
    }
    fn canonical(&self) -> Json {
        json!(self)
    }
}

impl OptionValue for f64 {
    fn kind() -> String {
        "a number".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Int(v) => Some(*v as f64),
            Value::Float(v) => Some(*v),
            _ => None,
        }
    }
    fn canonical(&self) -> Json {
        json!(self)
    }
}

impl OptionValue for String {
    fn kind() -> String {
        "text".into()
    }
    fn read(value: &Value) -> Option<Self> {
        if let Value::Text(v) = value { Some(v.clone()) } else { None }
    }
    fn canonical(&self) -> Json {
        json!(self)
    }
}

impl OptionValue for Tensor {
    fn kind() -> String {
        "a tensor".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Tensor(t) => Some(t.clone()),
            Value::List(_) => {
                let numbers = Vec::<f64>::read(value)?;
                Some(Tensor::vector_f64(numbers))
            }
            _ => None,
        }
    }
    fn canonical(&self) -> Json {
        json!(format!("{self:?}"))
    }
}

impl OptionValue for OptionMap {
    fn kind() -> String {
        "a map".into()
    }
    fn read(value: &Value) -> Option<Self> {
        if let Value::Map(map) = value { Some(map.clone()) } else { None }
    }
    fn canonical(&self) -> Json {
        Json::Object(self.iter().map(|(key, value)| (key.clone(), Json::String(value.describe()))).collect())
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    fn kind() -> String {
        format!("{} or ()", T::kind())
    }
    fn read(value: &Value) -> Option<Self> {
        if let Value::Unit = value { Some(None) } else { T::read(value).map(Some) }
    }
    fn canonical(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::canonical)
    }
}

impl<T: OptionValue> OptionValue for Vec<T> {
    fn kind() -> String {
        format!("an array ({} each)", T::kind())
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => items.iter().map(T::read).collect(),
            Value::Tensor(t) if t.ndim() == 1 => match t.dtype().class() {
                Class::Bool => t.to_bool().into_iter().map(|v| T::read(&Value::Bool(v))).collect(),
                Class::Int => t.to_i64().into_iter().map(|v| T::read(&Value::Int(v))).collect(),
                Class::F32 | Class::F64 => t.to_f64().into_iter().map(|v| T::read(&Value::Float(v))).collect(),
            },
            single => T::read(single).map(|v| vec![v]),
        }
    }
    fn canonical(&self) -> Json {
        Json::Array(self.iter().map(T::canonical).collect())
    }
}

/// Ids of features, tokens, layers or heads: a range, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// `a..b`; negative numbers count from the end, an open end is the size.
    Range(i64, Option<i64>),
    /// Listed one by one; negative numbers count from the end.
    List(Vec<i64>),
}

impl Ids {
    /// The ids within `0..size`, in the order given.
    ///
    /// # Errors
    /// An id outside; `what` names it ("feature", "head").
    pub fn resolve(&self, size: usize, what: &str) -> Result<Vec<usize>> {
        let from_end = |i: i64| if i < 0 { i + size as i64 } else { i };
        let outside = |i: i64| Error::input(format!("{what} {i} is out of range: there are {size}, numbered from 0"));
        match self {
            Ids::Range(a, b) => {
                let (start, end) = (from_end(*a), b.map_or(size as i64, from_end));
                if start < 0 || start > size as i64 {
                    return Err(outside(*a));
                }
                if end > size as i64 {
                    return Err(outside(end - 1));
                }
                Ok((start as usize..end.max(start) as usize).collect())
            }
            Ids::List(ids) => {
                let check = |i: &i64| usize::try_from(from_end(*i)).ok().filter(|i| *i < size).ok_or_else(|| outside(*i));
                ids.iter().map(check).collect()
            }
        }
    }
}

impl OptionValue for Ids {
    fn kind() -> String {
        "a range, an array or a 1-D tensor of ids".into()
    }
    fn read(value: &Value) -> Option<Self> {
        let whole = |v: &Value| match v {
            Value::Int(i) => Some(*i),
            Value::Float(f) if f.fract() == 0.0 => Some(*f as i64),
            _ => None,
        };
        match value {
            Value::Range(a, b) => Some(Ids::Range(*a, *b)),
            Value::List(items) => items.iter().map(whole).collect::<Option<_>>().map(Ids::List),
            Value::Tensor(t) if t.ndim() == 1 => Some(Ids::List(t.to_i64())),
            single => whole(single).map(|i| Ids::List(vec![i])),
        }
    }
    fn canonical(&self) -> Json {
        match self {
            Ids::Range(a, b) => json!(format!("{a}..{}", b.map_or(String::new(), |b| b.to_string()))),
            Ids::List(ids) => json!(ids),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Declares an enumeration whose values scripts write as text.
///
/// ```
/// saerepl::choice! {
///     /// How scores are scaled.
///     pub enum Scale { #[default] Raw = "raw", Cosine = "cosine" }
/// }
/// assert_eq!(Scale::default().name(), "raw");
/// ```
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// The text by which scripts name it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            #[allow(dead_code)]
            /// All values, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        impl $crate::options::OptionValue for $name {
            fn kind() -> String {
                [$(concat!("\"", $text, "\"")),+].join(" | ")
            }
            fn read(value: &$crate::options::Value) -> Option<Self> {
                match value {
                    $crate::options::Value::Text(text) => match text.as_str() { $($text => Some(Self::$variant),)+ _ => None },
                    _ => None,
                }
            }
            fn canonical(&self) -> $crate::options::Json {
                $crate::options::Json::from(self.name())
            }
        }
    };
}

/// Declares the options of a call: struct, defaults, keys with docs, parser, canonical form.
///
/// ```
/// use saerepl::options::{Options, OptionMap, Value};
/// saerepl::options! {
///     /// Options of `top`.
///     pub struct TopOptions {
///         /// How many.
///         k: usize = 10,
///     }
/// }
/// let map = OptionMap::from([("k".to_string(), Value::Int(3))]);
/// assert_eq!(TopOptions::parse(&map)?.k, 3);
/// assert!(TopOptions::parse(&OptionMap::from([("kk".to_string(), Value::Int(3))])).is_err());
/// # Ok::<(), saerepl::Error>(())
/// ```
#[macro_export]
macro_rules! options {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[doc = $doc:literal])* $key:ident : $kind:ty = $default:expr),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name { $($(#[doc = $doc])* pub $key: $kind),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default),* }
            }
        }

        impl $crate::options::Options for $name {
            fn keys() -> Vec<$crate::options::Key> {
                let defaults = Self::default();
                vec![$($crate::options::Key {
                    name: stringify!($key),
                    kind: <$kind as $crate::options::OptionValue>::kind(),
                    default: $crate::options::OptionValue::canonical(&defaults.$key),
                    doc: concat!($($doc),*).trim_ascii(),
                }),*]
            }

            fn set(&mut self, key: &str, value: &$crate::options::Value) -> $crate::error::Result<()> {
                match key {
                    $(stringify!($key) => self.$key = $crate::options::read_key(key, value)?,)*
                    _ => return Err($crate::options::unknown_key(key, &[$(stringify!($key)),*])),
                }
                Ok(())
            }

            fn canonical(&self) -> $crate::options::Json {
                #[allow(unused_mut)]
                let mut map = $crate::options::JsonMap::new();
                $(map.insert(stringify!($key).to_string(), $crate::options::OptionValue::canonical(&self.$key));)*
                $crate::options::Json::Object(map)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::choice! {
        /// A choice.
        enum Scale { #[default] Raw = "raw", Cosine = "cosine" }
    }
    crate::options! {
        /// Options of a test.
        struct TestOptions {
            /// How many.
            k: usize = 10,
            /// How scaled.
            scale: Scale = Scale::default(),
            /// Which.
            features: Option<Ids> = None,
        }
    }

    fn map(key: &str, value: Value) -> OptionMap {
        OptionMap::from([(key.to_string(), value)])
    }

    #[test]
    fn a_wrong_key_of_a_map_inside_is_named() {
        #[derive(Debug)]
        struct Sides;
        impl OptionValue for Sides {
            fn kind() -> String {
                "a number, or #{query, key} of these".into()
            }
            fn read(_: &Value) -> Option<Self> {
                None
            }
            fn canonical(&self) -> Json {
                Json::Null
            }
        }
        let error = read_key::<Sides>("temperature", &Value::Map(map("qurey", Value::Int(1)))).unwrap_err();
        assert_eq!(error.message(), "option `temperature`: unknown key `qurey`");
        assert_eq!(error.helps(), ["did you mean `query`?", "the keys are: query, key"]);
        let error = read_key::<Sides>("temperature", &Value::Map(map("key", Value::Unit))).unwrap_err();
        assert_eq!(error.message(), "option `temperature` takes a number, or #{query, key} of these, not a map");
    }

    #[test]
    fn values_are_read_by_type_and_refused_by_name() {
        let options = TestOptions::parse(&map("scale", Value::Text("cosine".into()))).unwrap();
        assert_eq!((options.k, options.scale), (10, Scale::Cosine));
        let error = TestOptions::parse(&map("k", Value::Int(-1))).unwrap_err();
        assert_eq!(error.message(), "option `k` takes a whole number from 0, not -1");
        let error = TestOptions::parse(&map("scale", Value::Text("cos".into()))).unwrap_err();
        assert_eq!(error.message(), "option `scale` takes \"raw\" | \"cosine\", not \"cos\"");
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest() {
        let error = TestOptions::parse(&map("feature", Value::Unit)).unwrap_err();
        assert_eq!(error.helps()[0], "did you mean `features`?");
    }

    #[test]
    fn ids_count_from_the_end_and_name_what_is_outside() {
        assert_eq!(Ids::Range(-2, None).resolve(5, "layer").unwrap(), [3, 4]);
        assert_eq!(Ids::List(vec![-1, 0]).resolve(5, "layer").unwrap(), [4, 0]);
        let error = Ids::Range(0, Some(9)).resolve(5, "layer").unwrap_err();
        assert_eq!(error.message(), "layer 8 is out of range: there are 5, numbered from 0");
    }

    #[test]
    fn keys_carry_their_docs_and_defaults() {
        let keys = TestOptions::keys();
        assert_eq!((keys[1].name, keys[1].doc, keys[1].default.as_str()), ("scale", "How scaled.", Some("raw")));
        assert_eq!(TestOptions::default().canonical(), json!({"k": 10, "scale": "raw", "features": null}));
    }
}
