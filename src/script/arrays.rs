//! Rhai's own functions of arrays, maps and texts that look at every element, so that they can be interrupted: Rhai's cannot.
//!
//! They do what Rhai's do, but an error of a closure that compares is raised, not taken for "equal", what a closure that
//! chooses gives must be true or false (Rhai takes all else for false), and what they make is bounded. Copies (`extract`, an assignment) stay Rhai's: ten million elements take it about a tenth of a second.

use crate::error::Error;
use crate::script::convert::{FromScript, describe, type_name};
use crate::script::{Host, raise};
use crate::tensor::Held;
use crate::work::Work;
use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, FuncRegistration, ImmutableString, Map, NativeCallContext};
use std::cmp::Ordering;

type Done<T> = std::result::Result<T, Box<EvalAltResult>>;

/// How two elements are ordered.
type Order<'a> = dyn Fn(&Walk, &Dynamic, &Dynamic) -> Done<Ordering> + 'a;

/// Bytes of a text, and elements of an array or map, that scripts can have.
pub(crate) const MOST_BYTES: usize = 256 << 20;
pub(crate) const MOST_ITEMS: usize = 1 << 25;

/// The error of a text that grows too long.
pub(crate) fn too_long() -> Error {
    Error::limit(format!("a text of more than {} MiB: large data belong into tensors or files", MOST_BYTES >> 20))
}

/// The error of an array or map that grows too large.
pub(crate) fn too_many() -> Error {
    Error::limit(format!("a list of more than {MOST_ITEMS} elements: large data belong into tensors"))
        .help("`zeros([n])`, `tensor(list)` and `table(#{…})` hold numbers in a fifth of the room")
}

/// So few elements are sorted by inserting one after the other.
const FEW: usize = 16;

pub(super) fn install(engine: &mut Engine) {
    compare(engine);
    search(engine);
    walk(engine);
    choose(engine);
    sort(engine);
    write(engine);
    join(engine);
    split(engine);
}

/// A call of one of these functions.
struct Walk<'c> {
    call: &'c NativeCallContext<'c>,
    work: Work,
}

impl<'c> Walk<'c> {
    fn new(call: &'c NativeCallContext<'c>) -> Done<Self> {
        Ok(Walk { call, work: Host::of(call)?.work })
    }

    fn step(&self) -> Done<()> {
        self.work.check().map_err(|error| raise(error, self.call.call_position()))
    }

    fn raised<T>(&self, error: Error) -> Done<T> {
        Err(raise(error.context(self.call.fn_name()), self.call.call_position()))
    }

    fn fail<T>(&self, what: &str) -> Done<T> {
        Err(raise(Error::input(format!("{}: {what}", self.call.fn_name())), self.call.call_position()))
    }

    /// `a == b` as Rhai means it: false between types that nobody compares.
    fn equal(&self, a: &Dynamic, b: &Dynamic) -> Done<bool> {
        self.step()?;
        if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
            return Ok(a == b);
        }
        if let (Ok(a), Ok(b)) = (a.as_float(), b.as_float()) {
            return Ok(a == b);
        }
        if let (Some(a), Some(b)) = (a.read_lock::<ImmutableString>(), b.read_lock::<ImmutableString>()) {
            return Ok(*a == *b);
        }
        if let (Some(a), Some(b)) = (a.read_lock::<Array>(), b.read_lock::<Array>()) {
            return self.equal_arrays(&a, &b);
        }
        if let (Some(a), Some(b)) = (a.read_lock::<Map>(), b.read_lock::<Map>()) {
            return self.equal_maps(&a, &b);
        }
        match self.call.call_native_fn_raw("==", true, &mut [&mut a.flatten_clone(), &mut b.flatten_clone()]) {
            Ok(equal) => Ok(equal.as_bool().unwrap_or(false)),
            Err(error) => match *error {
                EvalAltResult::ErrorFunctionNotFound(..) if a.type_id() != b.type_id() => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn equal_arrays(&self, a: &Array, b: &Array) -> Done<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !self.equal(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn equal_maps(&self, a: &Map, b: &Map) -> Done<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for ((name, a), (other, b)) in a.iter().zip(b) {
            if name != other || !self.equal(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The place of the first element from `start` on that equals `value`.
    fn place(&self, items: &Array, value: &Dynamic, start: usize) -> Done<Option<usize>> {
        for (i, item) in items.iter().enumerate().skip(start) {
            if self.equal(item, value)? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    /// What a function gives for an element, which is its `this` or its first argument; it may take the place, too.
    fn of_item(&self, function: &FnPtr, i: usize, item: &mut Dynamic) -> Done<Dynamic> {
        self.step()?;
        function.call_raw_with_extra_args(self.call.fn_name(), self.call, Some(item), [], [place_of(i)], Some(0))
    }

    /// What a function gives for what was made of the elements before and an element.
    fn of_both(&self, function: &FnPtr, made: Dynamic, i: usize, item: &mut Dynamic) -> Done<Dynamic> {
        self.step()?;
        function.call_raw_with_extra_args(self.call.fn_name(), self.call, Some(item), [made], [place_of(i)], Some(1))
    }

    /// What a function gives for an entry of a map: its name, and its value as `this` or as an argument.
    fn of_entry(&self, function: &FnPtr, name: &str, value: &mut Dynamic) -> Done<Dynamic> {
        self.step()?;
        function.call_raw_with_extra_args(self.call.fn_name(), self.call, Some(value), [name.into()], [], Some(1))
    }

    /// What a function that chooses has given.
    fn truth(&self, given: Dynamic) -> Done<bool> {
        given.as_bool().or_else(|_| self.fail(&format!("the function must give true or false, not {}", describe(&given))))
    }

    /// The place of the first element from `start` on for which a function holds.
    fn place_by(&self, items: &mut Array, holds: &FnPtr, start: i64) -> Done<Option<usize>> {
        let start = begin(items.len(), start);
        for (i, item) in items.iter_mut().enumerate().skip(start) {
            if self.truth(self.of_item(holds, i, item)?)? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    /// What a function gives for the elements from `start` on, the first that is not `()`.
    fn first_of(&self, items: &mut Array, function: &FnPtr, start: i64) -> Done<Dynamic> {
        let start = begin(items.len(), start);
        for (i, item) in items.iter_mut().enumerate().skip(start) {
            let given = self.of_item(function, i, item)?;
            if !given.is_unit() {
                return Ok(given);
            }
        }
        Ok(Dynamic::UNIT)
    }

    /// Takes the elements for which a function gives `taken`: all of them or, if it fails, none.
    fn take(&self, items: &mut Array, function: &FnPtr, taken: bool) -> Done<Array> {
        let given = |(i, item)| Ok(self.truth(self.of_item(function, i, item)?)? == taken);
        let mut chosen = items.iter_mut().enumerate().map(given).collect::<Done<Vec<bool>>>()?.into_iter();
        Ok(items.extract_if(.., |_| chosen.next() == Some(true)).collect())
    }

    /// As `take`, of the entries of a map.
    fn take_entries(&self, map: &mut Map, function: &FnPtr, taken: bool) -> Done<Map> {
        let entries = map.iter_mut();
        let given = entries.map(|(name, value)| Ok(self.truth(self.of_entry(function, name, value)?)? == taken));
        let mut chosen = given.collect::<Done<Vec<bool>>>()?.into_iter();
        let (out, kept) = std::mem::take(map).into_iter().partition(|_| chosen.next() == Some(true));
        *map = kept;
        Ok(out)
    }

    /// The order of two elements by a closure: a number's sign, or whether the first comes first.
    fn order_by(&self, closure: &FnPtr, a: &Dynamic, b: &Dynamic) -> Done<Ordering> {
        self.step()?;
        let value = closure.call_raw(self.call, None, [a.clone(), b.clone()])?;
        let first = |first: bool| if first { Ordering::Less } else { Ordering::Greater };
        let order = value.as_int().map(|sign| sign.cmp(&0)).or_else(|_| value.as_bool().map(first));
        order.or_else(|_| self.fail("the closure must give an integer (negative: the first comes first) or a bool"))
    }

    /// The order of two elements of one kind.
    fn natural(&self, a: &Dynamic, b: &Dynamic) -> Done<Ordering> {
        self.step()?;
        if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
            return Ok(a.cmp(&b));
        }
        if let (Some(a), Some(b)) = (f64::from_script(a), f64::from_script(b)) {
            return Ok(a.partial_cmp(&b).unwrap_or(Ordering::Equal));
        }
        if let (Some(a), Some(b)) = (a.read_lock::<ImmutableString>(), b.read_lock::<ImmutableString>()) {
            return Ok(a.cmp(&b));
        }
        if let (Ok(a), Ok(b)) = (a.as_char(), b.as_char()) {
            return Ok(a.cmp(&b));
        }
        match (a.as_bool(), b.as_bool()) {
            (Ok(a), Ok(b)) => Ok(a.cmp(&b)),
            _ if a.is_unit() && b.is_unit() => Ok(Ordering::Equal),
            _ if a.type_id() != b.type_id() => self.fail("elements of different types have no order"),
            _ => self.fail(&format!("elements of type {} have no order", type_name(a))),
        }
    }

    /// The elements in order, equal ones as they were. The standard library's sort cannot be left half-way.
    fn sorted(&self, items: &[Dynamic], order: &Order) -> Done<Array> {
        if items.len() <= FEW {
            let mut sorted = Array::with_capacity(items.len());
            for item in items {
                let mut at = sorted.len();
                while at > 0 && order(self, &sorted[at - 1], item)? == Ordering::Greater {
                    at -= 1;
                }
                sorted.insert(at, item.clone());
            }
            return Ok(sorted);
        }
        let (left, right) = items.split_at(items.len() / 2);
        let mut left = self.sorted(left, order)?.into_iter().peekable();
        let mut right = self.sorted(right, order)?.into_iter().peekable();
        let mut merged = Array::with_capacity(items.len());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let next = if order(self, a, b)? == Ordering::Greater { &mut right } else { &mut left };
            merged.extend(next.next());
        }
        merged.extend(left.chain(right));
        Ok(merged)
    }

    /// The elements without those that equal the one kept before them.
    fn dedup(&self, items: &[Dynamic], same: &dyn Fn(&Dynamic, &Dynamic) -> Done<bool>) -> Done<Array> {
        let mut kept = Held::new(Array::new());
        for item in items {
            let again = kept.last().map_or(Ok(false), |last| same(last, item))?;
            if !again {
                kept.push(item.clone());
            }
        }
        Ok(kept.into_vec())
    }

    /// Puts the elements of an array behind those of another.
    fn append(&self, items: &mut Array, added: Array) -> Done<()> {
        if items.len() + added.len() > MOST_ITEMS {
            return self.raised(too_many());
        }
        if items.is_empty() {
            *items = added;
            return Ok(());
        }
        let before = items.len();
        items.reserve(added.len());
        for item in added {
            if let Err(error) = self.step() {
                items.truncate(before);
                return Err(error);
            }
            items.push(item);
        }
        Ok(())
    }

    /// Texts as an array.
    fn texts<'t>(&self, parts: impl Iterator<Item = &'t str>) -> Done<Array> {
        let mut texts = Held::new(Array::new());
        for part in parts {
            self.step()?;
            if texts.len() == MOST_ITEMS {
                return self.raised(too_many());
            }
            texts.push(part.into());
        }
        Ok(texts.into_vec())
    }

    /// A value inside a text of an array or map, as Rhai writes it.
    fn write(&self, value: &Dynamic, text: &mut String) -> Done<()> {
        self.step()?;
        if let Some(items) = value.read_lock::<Array>() {
            return self.write_array(&items, text);
        }
        if let Some(map) = value.read_lock::<Map>() {
            return self.write_map(&map, text);
        }
        let mut value = value.flatten_clone();
        if is_plain(&value) {
            *text += &format!("{value:?}");
            return Ok(());
        }
        match self.call.call_native_fn_raw("to_debug", true, &mut [&mut value]) {
            Ok(shown) => *text += &shown.into_string().unwrap_or_default(),
            Err(_) => *text += &type_name(&value),
        }
        Ok(())
    }

    fn write_array(&self, items: &Array, text: &mut String) -> Done<()> {
        text.push('[');
        for (i, item) in items.iter().enumerate() {
            *text += if i == 0 { "" } else { ", " };
            self.write(item, text)?;
        }
        text.push(']');
        Ok(())
    }

    fn write_map(&self, map: &Map, text: &mut String) -> Done<()> {
        *text += "#{";
        for (i, (name, value)) in map.iter().enumerate() {
            *text += if i == 0 { "" } else { ", " };
            *text += &format!("{:?}: ", name.as_str());
            self.write(value, text)?;
        }
        text.push('}');
        Ok(())
    }
}

/// What Rhai writes as its own debug text does; a character is written without its quotes.
fn is_plain(value: &Dynamic) -> bool {
    value.is_unit() || value.is_bool() || value.is_int() || value.is_float() || value.is_string()
}

/// Where a walk from `start` on begins: negative numbers count from the end.
fn begin(length: usize, start: i64) -> usize {
    let from_end = || length.saturating_sub(usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX));
    usize::try_from(start).unwrap_or_else(|_| from_end())
}

fn place_of(i: usize) -> Dynamic {
    (i as i64).into()
}

/// Registers a function that leaves its receiver as it is, which may be a constant.
macro_rules! pure {
    ($engine:expr, $($name:tt)|+, $function:expr) => {
        $(FuncRegistration::new($name).with_purity(true).register_into_engine($engine, $function);)+
    };
}

/// Registers a method (`pure` or `changing`) that calls a function for each element; it is given one, or, as of old, its name.
macro_rules! walking {
    ($how:ident, $engine:expr, $name:expr, |$walk:ident, $items:ident: $kind:ty, $function:ident $(, $more:ident: $of:ty)*| $body:expr) => {
        $how!($engine, $name, |call: NativeCallContext, $items: &mut $kind, function: FnPtr $(, $more: $of)*| -> Done<_> {
            let ($walk, $function) = (Walk::new(&call)?, &function);
            $body
        });
        $how!($engine, $name, |call: NativeCallContext, $items: &mut $kind, name: ImmutableString $(, $more: $of)*| -> Done<_> {
            let ($walk, $function) = (Walk::new(&call)?, &FnPtr::try_from(name)?);
            $body
        });
    };
}

fn compare(engine: &mut Engine) {
    pure!(engine, "==", |call: NativeCallContext, a: &mut Array, b: Array| Walk::new(&call)?.equal_arrays(a, &b));
    pure!(engine, "!=", |call: NativeCallContext, a: &mut Array, b: Array| Walk::new(&call)?.equal_arrays(a, &b).map(|e| !e));
    pure!(engine, "==", |call: NativeCallContext, a: &mut Map, b: Map| Walk::new(&call)?.equal_maps(a, &b));
    pure!(engine, "!=", |call: NativeCallContext, a: &mut Map, b: Map| Walk::new(&call)?.equal_maps(a, &b).map(|e| !e));
}

fn search(engine: &mut Engine) {
    fn number(place: Option<usize>) -> i64 {
        place.map_or(-1, |place| place as i64)
    }
    /// A text stands for itself and, where the array has none like it, as of old for the function of this name.
    fn text(call: &NativeCallContext, items: &mut Array, text: ImmutableString, start: i64) -> Done<i64> {
        let (walk, from) = (Walk::new(call)?, begin(items.len(), start));
        if let Some(place) = walk.place(items, &text.clone().into(), from)? {
            return Ok(number(Some(place)));
        }
        let Ok(function) = FnPtr::try_from(text) else { return Ok(-1) };
        match walk.place_by(items, &function, start) {
            Err(error) => match error.unwrap_inner() {
                EvalAltResult::ErrorFunctionNotFound(signature, _) if signature.starts_with(function.fn_name()) => Ok(-1),
                _ => Err(error),
            },
            place => place.map(number),
        }
    }
    pure!(engine, "contains", |call: NativeCallContext, items: &mut Array, value: Dynamic| -> Done<bool> {
        Ok(Walk::new(&call)?.place(items, &value, 0)?.is_some())
    });
    pure!(engine, "index_of", |call: NativeCallContext, items: &mut Array, value: Dynamic| -> Done<i64> {
        Walk::new(&call)?.place(items, &value, 0).map(number)
    });
    pure!(engine, "index_of", |call: NativeCallContext, items: &mut Array, value: Dynamic, start: i64| -> Done<i64> {
        Walk::new(&call)?.place(items, &value, begin(items.len(), start)).map(number)
    });
    pure!(engine, "index_of", |call: NativeCallContext, items: &mut Array, holds: FnPtr| -> Done<i64> {
        Walk::new(&call)?.place_by(items, &holds, 0).map(number)
    });
    pure!(engine, "index_of", |call: NativeCallContext, items: &mut Array, holds: FnPtr, start: i64| -> Done<i64> {
        Walk::new(&call)?.place_by(items, &holds, start).map(number)
    });
    pure!(engine, "index_of", |call: NativeCallContext, items: &mut Array, name: ImmutableString| text(&call, items, name, 0));
    pure!(engine, "index_of", |call: NativeCallContext, items: &mut Array, name: ImmutableString, start: i64| {
        text(&call, items, name, start)
    });
}

fn walk(engine: &mut Engine) {
    walking!(changing, engine, "for_each", |walk, items: Array, f| {
        for (i, item) in items.iter_mut().enumerate() {
            walk.step()?;
            // An argument, if it takes one, is the place.
            let _ = f.call_raw_with_extra_args("for_each", walk.call, Some(item), [], [place_of(i)], None)?;
        }
        Ok(())
    });
    walking!(pure, engine, "map", |walk, items: Array, f| {
        let mut given = Array::with_capacity(items.len());
        for (i, item) in items.iter_mut().enumerate() {
            given.push(walk.of_item(f, i, item)?);
        }
        Ok(given)
    });
    walking!(pure, engine, "map", |walk, map: Map, f| {
        map.iter_mut().map(|(name, value)| Ok((name.clone(), walk.of_entry(f, name, value)?))).collect::<Done<Map>>()
    });
    walking!(pure, engine, "find_map", |walk, items: Array, f| walk.first_of(items, f, 0));
    walking!(pure, engine, "find_map", |walk, items: Array, f, start: i64| walk.first_of(items, f, start));
    walking!(pure, engine, "reduce", |walk, items: Array, f| {
        items.iter_mut().enumerate().try_fold(Dynamic::UNIT, |made, (i, item)| walk.of_both(f, made, i, item))
    });
    walking!(pure, engine, "reduce", |walk, items: Array, f, first: Dynamic| {
        items.iter_mut().enumerate().try_fold(first, |made, (i, item)| walk.of_both(f, made, i, item))
    });
    walking!(pure, engine, "reduce_rev", |walk, items: Array, f| {
        items.iter_mut().enumerate().rev().try_fold(Dynamic::UNIT, |made, (i, item)| walk.of_both(f, made, i, item))
    });
    walking!(pure, engine, "reduce_rev", |walk, items: Array, f, first: Dynamic| {
        items.iter_mut().enumerate().rev().try_fold(first, |made, (i, item)| walk.of_both(f, made, i, item))
    });
    pure!(engine, "zip", |call: NativeCallContext, items: &mut Array, others: Array, function: FnPtr| -> Done<Array> {
        let walk = Walk::new(&call)?;
        let both = items.iter().zip(others).enumerate();
        let given = both.map(|(i, (a, b))| {
            walk.step()?;
            function.call_raw_with_extra_args("zip", &call, None, [a.clone(), b], [place_of(i)], None)
        });
        given.collect()
    });
}

fn choose(engine: &mut Engine) {
    walking!(pure, engine, "filter", |walk, items: Array, f| {
        let mut chosen = Array::new();
        for (i, item) in items.iter_mut().enumerate() {
            if walk.truth(walk.of_item(f, i, item)?)? {
                chosen.push(item.clone());
            }
        }
        Ok(chosen)
    });
    walking!(pure, engine, "filter", |walk, map: Map, f| {
        let mut chosen = Map::new();
        for (name, value) in map.iter_mut() {
            if walk.truth(walk.of_entry(f, name, value)?)? {
                chosen.insert(name.clone(), value.clone());
            }
        }
        Ok(chosen)
    });
    walking!(pure, engine, "some", |walk, items: Array, f| Ok(walk.place_by(items, f, 0)?.is_some()));
    walking!(pure, engine, "all", |walk, items: Array, f| {
        for (i, item) in items.iter_mut().enumerate() {
            if !walk.truth(walk.of_item(f, i, item)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    });
    walking!(pure, engine, "find", |walk, items: Array, f| {
        Ok(walk.place_by(items, f, 0)?.map_or(Dynamic::UNIT, |place| items[place].clone()))
    });
    walking!(pure, engine, "find", |walk, items: Array, f, start: i64| {
        Ok(walk.place_by(items, f, start)?.map_or(Dynamic::UNIT, |place| items[place].clone()))
    });
    walking!(changing, engine, "drain", |walk, items: Array, f| walk.take(items, f, true));
    walking!(changing, engine, "retain", |walk, items: Array, f| walk.take(items, f, false));
    walking!(changing, engine, "drain", |walk, map: Map, f| walk.take_entries(map, f, true));
    walking!(changing, engine, "retain", |walk, map: Map, f| walk.take_entries(map, f, false));
    changing!(engine, "dedup", |call: NativeCallContext, items: &mut Array| -> Done<()> {
        let walk = Walk::new(&call)?;
        *items = walk.dedup(items, &|a, b| walk.equal(a, b))?;
        Ok(())
    });
    walking!(changing, engine, "dedup", |walk, items: Array, same| {
        let same = |a: &Dynamic, b: &Dynamic| {
            walk.step()?;
            walk.truth(same.call_raw(walk.call, None, [a.clone(), b.clone()])?)
        };
        *items = walk.dedup(items, &same)?;
        Ok(())
    });
}

fn sort(engine: &mut Engine) {
    fn sorted(call: &NativeCallContext, items: &Array, order: &Order) -> Done<Array> {
        Walk::new(call)?.sorted(items, order)
    }
    fn upwards(walk: &Walk, a: &Dynamic, b: &Dynamic) -> Done<Ordering> {
        walk.natural(a, b)
    }
    fn downwards(walk: &Walk, a: &Dynamic, b: &Dynamic) -> Done<Ordering> {
        walk.natural(b, a)
    }
    for (sort, order, by) in
        [("sort", "order", upwards as fn(&Walk, &Dynamic, &Dynamic) -> _), ("sort_desc", "order_desc", downwards)]
    {
        changing!(engine, sort, move |call: NativeCallContext, items: &mut Array| -> Done<()> {
            *items = sorted(&call, items, &by)?;
            Ok(())
        });
        pure!(engine, order, move |call: NativeCallContext, items: &mut Array| sorted(&call, items, &by));
    }
    for (sort, order) in [("sort", "order"), ("sort_by", "order_by")] {
        walking!(changing, engine, sort, |walk, items: Array, by| {
            *items = walk.sorted(items, &|walk, a, b| walk.order_by(by, a, b))?;
            Ok(())
        });
        walking!(pure, engine, order, |walk, items: Array, by| walk.sorted(items, &|walk, a, b| walk.order_by(by, a, b)));
    }
}

fn write(engine: &mut Engine) {
    fn text(walk: Done<Walk>, write: impl FnOnce(&Walk, &mut String) -> Done<()>) -> Done<ImmutableString> {
        let mut text = String::new();
        match write(&walk?, &mut text) {
            // Inside a text (`${list}`) Rhai takes an error for "write it yourself", and does. The session sees the flag.
            Err(error) if matches!(*error, EvalAltResult::ErrorTerminated(..)) => Ok(ImmutableString::new()),
            written => written.map(|()| text.into()),
        }
    }
    pure!(engine, "to_string" | "to_debug" | "debug", |call: NativeCallContext, items: &mut Array| {
        text(Walk::new(&call), |walk, text| walk.write_array(items, text))
    });
    pure!(engine, "to_string" | "to_debug" | "debug", |call: NativeCallContext, map: &mut Map| {
        text(Walk::new(&call), |walk, text| walk.write_map(map, text))
    });
}

fn join(engine: &mut Engine) {
    changing!(engine, "append", |call: NativeCallContext, items: &mut Array, added: Array| -> Done<()> {
        Walk::new(&call)?.append(items, added)
    });
    engine.register_fn("+", |call: NativeCallContext, items: Array, added: Array| -> Done<Array> {
        let mut joined = items;
        Walk::new(&call)?.append(&mut joined, added)?;
        Ok(joined)
    });
}

fn split(engine: &mut Engine) {
    pure!(engine, "split", |call: NativeCallContext, text: &mut ImmutableString| -> Done<Array> {
        match text.is_empty() {
            true => Ok(vec![text.clone().into()]),
            false => Walk::new(&call)?.texts(text.split_whitespace()),
        }
    });
    // Rhai gives an empty text as one part, however it is split.
    pure!(engine, "split", |call: NativeCallContext, text: &mut ImmutableString, between: ImmutableString| -> Done<Array> {
        match text.is_empty() {
            true => Ok(vec![text.clone().into()]),
            false => Walk::new(&call)?.texts(text.split(between.as_str())),
        }
    });
    pure!(engine, "split", |call: NativeCallContext, text: &mut ImmutableString, between: char| -> Done<Array> {
        Walk::new(&call)?.texts(text.split(between))
    });
}

#[cfg(test)]
mod tests {
    use crate::script::{Host, ScriptError, install};
    use crate::work::Work;
    use rhai::{Dynamic, Engine, EvalAltResult};
    use std::sync::atomic::Ordering;

    /// Ours and Rhai's own.
    fn engines() -> [Engine; 2] {
        let (mut ours, mut rhai) = (Engine::new(), Engine::new());
        install(&mut ours, Host::new(Work::silent(1).unwrap()));
        rhai.set_fast_operators(true);
        [ours, rhai]
    }

    #[test]
    fn they_do_what_rhais_do() {
        let [ours, rhai] = engines();
        for script in [
            "[1, \"a\", 'c', 2.5, (), true, [1, [2]], #{a: 1}] == [1, \"a\", 'c', 2.5, (), true, [1, [2]], #{a: 1}]",
            "[1] == [1.0]",
            "[1] == [\"1\"]",
            "[1, 2] != [1, 3]",
            "[1] == [1, 2]",
            "#{a: [1], b: 2} == #{a: [1], b: 2}",
            "#{a: 1} != #{b: 1}",
            "[0..3] == [0..3]",
            "[\"a\"] == ['a']",
            "[1, 2, 3].contains(2)",
            "\"x\" in [1, \"x\"]",
            "[1, 2, 3, 2].index_of(2)",
            "[1, 2, 3, 2].index_of(2, 2)",
            "[1, 2, 3, 2].index_of(2, -1)",
            "[1, 2, 3, 2].index_of(2, -9)",
            "[1, 2, 3].index_of(7)",
            "[1, 2, 3].index_of(|x| x > 1)",
            "[1, 2, 3].index_of(|x, i| x * i > 1, -2)",
            "[\"b\", \"a\"].index_of(\"a\")",
            "[1, 2, 3].index_of(\"a\")",
            "fn odd(x) { x % 2 == 1 } [2, 4, 5].index_of(\"odd\") + [1, 4, 6, 7].index_of(\"odd\", 1)",
            "let a = [1, 2, 3]; a.for_each(|| this *= 2); a.for_each(|i| this += i); a",
            "[1, 2, 3].map(|x| x * 2) + [1, 2, 3].map(|x, i| x * i) + [1, -2].map(|| this + 1) + [1, -2].map(Fn(\"abs\"))",
            "[-1, 2].map(\"abs\")",
            "#{a: 1, b: 2}.map(|k, v| k + v)",
            "#{a: 1, b: 2}.map(|k| this + 1)",
            "[1, 2, 3].filter(|x| x > 1) + [1, 2, 3].filter(|x, i| i == 0) + [1, 2, 3].filter(|| this == 2)",
            "fn odd(x) { x % 2 == 1 } [1, 2, 3].filter(Fn(\"odd\")) + [1, 2, 3].filter(\"odd\")",
            "#{a: 1, b: 2}.filter(|k, v| v > 1)",
            "#{a: 1, b: 2}.filter(|k| k == \"a\" && this == 1)",
            "[[1, 2].some(|x| x > 1), [1, 2].some(|x| x > 2), [].some(|x| true), [1].all(|x, i| i == 0), [1, 2].all(|x| x > 1)]",
            "[[1, 2, 3].find(|x| x > 1), [1, 2].find(|x| x > 2), [1, 2, 3].find(|x| x > 0, 1), [1, 2, 3].find(|x| true, -9)]",
            "[[1, 2].find_map(|x| if x > 1 { x * 10 }), [1].find_map(|x| ()), [5, 6].find_map(|x, i| i, 1)]",
            "[[1, 2, 3].reduce(|r, x| x + (r ?? 0)), [1, 2, 3].reduce(|r, x, i| r + x * i, 5), [].reduce(|r, x| 1)]",
            "[[1, 2, 3].reduce_rev(|r, x| `${r}${x}`), [1, 2].reduce_rev(|r, x, i| r + [x, i], []), [1].reduce(|r| this, 0)]",
            "[1, 2, 3].zip([4, 5], |a, b| a * b) + [1, 2].zip([3, 4], |a, b, i| a + b + i)",
            "let a = [1, 2, 3, 4]; let b = a.drain(|x| x % 2 == 0); [a, b, a.drain(|x, i| i == 0), a]",
            "let a = [1, 2, 3, 4]; let b = a.retain(|x| x % 2 == 0); [a, b, a.retain(|x, i| i == 0), a]",
            "let a = #{a: 1, b: 2, c: 3}; let b = a.drain(|k, v| v > 2); let c = a.retain(|k| this > 1); [a, b, c]",
            "const A = [1, 2]; A.map(|x| x).filter(|x| true)",
            "let a = [1, 1, 2, 2, 1]; a.dedup(); a",
            "let a = [1, 1, 2, 2, 1]; a.dedup(|x, y| x <= y); a",
            "let a = []; a.dedup(); a.sort(); a",
            "let a = [3, 1, 2]; a.sort(); a",
            "let a = [3.5, -1.0, 2.0]; a.sort_desc(); a",
            "let a = []; for i in 0..100 { a.push((i * 37) % 101); } a.sort(); a",
            "let a = []; for i in 0..100 { a.push([(i * 37) % 7, i]); } a.sort(|x, y| x[0] - y[0]); a",
            "let a = [\"b\", \"a\", \"c\"]; a.sort_by(|x, y| x < y); a",
            "let a = [2, 1]; a.order() + a.order_desc() + a.order(|x, y| y - x) + a.order_by(|x, y| x < y)",
            "['b', 'a'].order()",
            "[true, false].order()",
            "[(), ()].order()",
            "[1, 2.5, 1e20, 0.1, \"a\\n\", 'c', (), true, [], #{}, #{\"a b\": [1]}].to_string()",
            "`${[1, \"a\"]} ${#{a: 1.0}}`",
            "\"is \" + [1] + #{a: ()}",
            "[|x| x + 1, 0..3].to_debug().len() > 5",
            "let a = [1]; a.append([2, \"c\"]); a.append([]); let b = []; b.append(a); b + a + []",
            "[] + [1]",
            "let a = [1, 2]; a.append(a); a",
            "const A = [1]; A + A",
            "\"a b  c\\n\".split()",
            "\"\".split() + \"\".split(\",\") + \"\".split(\"\") + \"\".split(',')",
            "\"a,b,,c\".split(\",\") + \"a,b,,c\".split(',') + \"abc\".split(\";\") + \"aäb\".split(\"\")",
        ] {
            let of = |engine: &Engine| engine.eval::<Dynamic>(script).unwrap_or_else(|e| panic!("{script}: {e}"));
            assert_eq!(format!("{:?}", of(&ours)), format!("{:?}", of(&rhai)), "{script}");
        }
        assert!(ours.eval::<bool>("const A = [1, 2.5, 2]; A.order() == [1, 2, 2.5]").unwrap());
        for (script, said) in [
            ("[1, \"a\"].order()", "elements of different types have no order"),
            ("[#{}, #{}].order()", "elements of type map have no order"),
            ("[2, 1].order(|a, b| \"less\")", "the closure must give an integer"),
            ("[2, 1].order(|a, b| nowhere)", "nowhere"),
            ("[1, 2].filter(|x| x)", "filter: the function must give true or false, not 1"),
            ("[1, 2].filter(|x| tensor([x]) > 1)", "filter: the function must give true or false, not Tensor [1] bool"),
            ("#{a: 1}.filter(|k, v| k)", "filter: the function must give true or false, not \"a\""),
            ("[1].some(|x| 1)", "some: the function must give"),
            ("[1].all(|x| ())", "all: the function must give true or false, not ()"),
            ("[1].find(|x| 1)", "find: the function must give"),
            ("[1].index_of(|x| 1)", "index_of: the function must give"),
            ("[1, 2].dedup(|x, y| 1)", "dedup: the function must give"),
            ("[1].drain(|x| 1)", "drain: the function must give"),
            ("#{a: 1}.retain(|k, v| v)", "retain: the function must give"),
            ("const A = [2, 1]; A.retain(|x| true)", "constant"),
            ("const A = [2, 1]; A.sort()", "constant"),
            ("const A = [2, 1]; A.append([1])", "constant"),
            ("let a = []; a.pad(4000000, 0); let b = a + a; b = b + b; b = b + b; b + b", "large data belong into tensors"),
        ] {
            let error = match ours.eval::<Dynamic>(script).unwrap_err().unwrap_inner() {
                EvalAltResult::ErrorRuntime(value, _) => value.clone().cast::<ScriptError>().error.to_string(),
                other => other.to_string(),
            };
            assert!(error.contains(said), "{script}: {error}");
        }
        // A function that fails leaves what it walks as it was.
        for change in ["sort(|x, y| nowhere)", "retain(|x| if x == 3 { false } else { x })", "drain(|x| if x == 3 { true })"] {
            let script = format!("let a = [3, 1, 2]; try {{ a.{change}; }} catch {{}} a == [3, 1, 2]");
            assert!(ours.eval::<bool>(&script).unwrap(), "{script}");
        }
    }

    #[test]
    fn whatever_walks_can_be_stopped() {
        let (mut engine, work) = (Engine::new(), Work::silent(1).unwrap());
        install(&mut engine, Host::new(work.clone()));
        let before = "fn one(x) { 1 } fn odd(x) { x % 2 == 1 } let list = [1, 2]; let map = #{a: 1}; ";
        work.cancel_flag().store(true, Ordering::Relaxed);
        for walk in [
            "list.map(Fn(\"abs\"))",
            "list.map(\"abs\")",
            "list.for_each(Fn(\"one\"))",
            "list.filter(\"odd\")",
            "list.all(Fn(\"odd\"))",
            "list.some(Fn(\"odd\"))",
            "list.find(Fn(\"odd\"))",
            "list.find_map(Fn(\"one\"))",
            "list.index_of(Fn(\"odd\"))",
            "list.index_of(\"odd\")",
            "list.reduce(Fn(\"max\"), 0)",
            "list.reduce_rev(\"max\", 0)",
            "list.zip([1], Fn(\"max\"))",
            "list.drain(\"odd\")",
            "list.retain(Fn(\"odd\"))",
            "list.dedup(\"max\")",
            "list.sort(\"max\")",
            "map.map(Fn(\"max\"))",
            "map.filter(Fn(\"max\"))",
            "map.drain(Fn(\"max\"))",
            "map.retain(Fn(\"max\"))",
        ] {
            let error = engine.run(&format!("{before}{walk}")).unwrap_err();
            assert!(matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(..)), "{walk}: {error}");
        }
    }
}
