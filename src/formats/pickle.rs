//! Python's pickle as data: a machine that builds plain containers, and keeps every call as a record of what was to be
//! called with what. Nothing is ever run: an object of a class that the caller does not know stays such a record. A pickle
//! that would run a program or code in Python is refused, whatever else it holds.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;

/// Longest pickle. A checkpoint's pickle holds some hundred bytes for each tensor, not its numbers.
const MAX_BYTES: usize = 32 << 20;
/// Values, and entries that containers copy from each other: the bound of memory and time, however small the pickle.
const MAX_VALUES: usize = 4_000_000;

/// Number of a value.
pub(super) type Ref = u32;

/// A value of a pickle.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    /// Integers too long for 64 bits, which no tensor needs.
    Opaque,
    /// Lists, tuples and sets.
    List(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    /// A class or function: `module.name`.
    Global(String),
    /// A call of one, not made, and the state that the object was to be given: its fields, or its entries.
    Call {
        function: Ref,
        arguments: Ref,
        state: Option<Ref>,
    },
    /// What the pickle leaves to a persistent store.
    Persistent(Ref),
}

/// All values of a pickle. They may refer to each other in circles.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Ref,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle.
    ///
    /// # Errors
    /// It is truncated or broken, too large, would run code, or holds a tensor of a kind that is not read.
    pub fn read(data: &'a [u8]) -> Result<Self> {
        if data.len() > MAX_BYTES {
            return Err(Error::limit(format!("its pickle has {} bytes, more than that of any weights", data.len())));
        }
        let mut machine =
            Machine { data, at: 0, values: Vec::new(), copied: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        loop {
            let at = machine.at;
            // A context would stand before the file's name.
            let placed = |e: Error| {
                let error = Error::new(e.kind(), format!("{} (byte {at} of its pickle)", e.message()));
                e.helps().iter().fold(error, Error::help)
            };
            if let Some(root) = machine.step().map_err(placed)? {
                return Ok(Pickle { values: machine.values, root });
            }
        }
    }

    /// The value that the pickle holds.
    pub fn root(&self) -> Ref {
        self.root
    }

    /// A value by its number.
    pub fn get(&self, of: Ref) -> &Value<'a> {
        self.values.get(of as usize).unwrap_or(&Value::None)
    }
}

/// Containers that are built here. Python 2 called the module of the built-in ones `__builtin__`.
fn is_container(name: &str) -> bool {
    let name = name.replace("__builtin__", "builtins");
    ["collections.OrderedDict", "collections.defaultdict", "torch.Size"].contains(&name.as_str())
        || name.strip_prefix("builtins.").is_some_and(|of| ["dict", "list", "tuple", "set", "frozenset"].contains(&of))
}

struct Machine<'a> {
    data: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    copied: usize,
    stack: Vec<Ref>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Ref>,
}

impl<'a> Machine<'a> {
    /// Runs one opcode; the result when it was the last. Opcodes of protocol 0 that PyTorch never writes are not known.
    fn step(&mut self) -> Result<Option<Ref>> {
        match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(Error::format(format!("pickle protocol {protocol} is not known")));
                }
            }
            // A frame's length: the pickle is in memory as a whole.
            0x95 => self.take(8).map(|_| ())?,
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => self.integer(4)?,
            0x8a => {
                let length = self.length(1)?;
                self.integer(length)?;
            }
            0x8b => {
                let length = self.length(4)?;
                self.integer(length)?;
            }
            b'G' => {
                let bytes = self.take(8)?.first_chunk().copied().unwrap_or_default();
                self.push(Value::Float(f64::from_be_bytes(bytes)))?;
            }
            0x8c | b'U' => self.text(1)?,
            b'X' | b'T' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' => self.bytes(1)?,
            b'B' => self.bytes(4)?,
            0x8e | 0x96 => self.bytes(8)?,
            b')' | b']' | 0x8f => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items))?;
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(pairs(&items)?))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(pairs(&items)?)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(|_| ())?,
            b'1' => self.pop_to_mark().map(|_| ())?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' => {
                let place = self.number(1)?;
                self.remember(place)?;
            }
            b'r' => {
                let place = self.number(4)?;
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let place = self.number(1)?;
                self.recall(place)?;
            }
            b'j' => {
                let place = self.number(4)?;
                self.recall(place)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.as_text(module)?, self.as_text(name)?);
                self.global(&module, &name)?;
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            // With arguments by name, which no tensor has.
            0x92 => {
                let (_, arguments, function) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            // The state of a container is what Python hangs onto it (`_metadata` of a state_dict).
            b'b' => {
                let given = self.pop()?;
                let target = self.top()? as usize;
                match &mut self.values[target] {
                    Value::Dict(_) | Value::List(_) => {}
                    Value::Call { state, .. } => *state = Some(given),
                    _ => return Err(Error::format("it sets the state of what has none")),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            // An instance by the names of its class.
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let arguments = self.pop_to_mark()?;
                self.global(module, name)?;
                let function = self.pop()?;
                self.push(Value::List(arguments))?;
                let arguments = self.pop()?;
                self.call(function, arguments)?;
            }
            other => {
                let shown = other.escape_ascii();
                return Err(Error::format(format!("the opcode `{shown}` is not one that PyTorch writes")));
            }
        }
        Ok(None)
    }

    // ---- reading ------------------------------------------------------------------------------------------------

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let taken = rest.get(..len);
        self.at = self.at.saturating_add(len);
        taken.ok_or_else(|| Error::format(format!("the pickle is truncated: {len} bytes are needed, {} are left", rest.len())))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self, width: usize) -> Result<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, width: usize) -> Result<usize> {
        Ok(usize::try_from(self.number(width)?).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(|| Error::format("a name without an end"))?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| Error::format("a name that is not text"))
    }

    /// A little-endian integer: one and two bytes hold no sign.
    fn integer(&mut self, width: usize) -> Result<()> {
        let bytes = self.take(width)?;
        let value = match bytes {
            [] => Value::Int(0),
            [.., last] if width <= 8 => {
                let sign = if width > 2 && last & 0x80 != 0 { -1 } else { 0 };
                Value::Int(bytes.iter().rev().fold(sign, |value, byte| value << 8 | i64::from(*byte)))
            }
            _ => Value::Opaque,
        };
        self.push(value)
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let text = String::from_utf8_lossy(self.take(length)?);
        self.push(Value::Text(text))
    }

    fn bytes(&mut self, width: usize) -> Result<()> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes))
    }

    // ---- stack and memo -----------------------------------------------------------------------------------------

    fn charge(&mut self, values: usize) -> Result<()> {
        self.copied += values;
        if self.copied > MAX_VALUES {
            return Err(Error::limit(format!("it holds more than {MAX_VALUES} values; that is no checkpoint of weights")));
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.charge(1)?;
        self.stack.push(self.values.len() as Ref);
        self.values.push(value);
        Ok(())
    }

    fn top(&self) -> Result<Ref> {
        self.stack.last().copied().ok_or_else(|| Error::format("its stack is empty where a value is needed"))
    }

    fn pop(&mut self) -> Result<Ref> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Ref>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(Error::format("its stack has no mark where one is needed")),
        }
    }

    fn value(&self, of: Ref) -> &Value<'a> {
        &self.values[of as usize]
    }

    fn remember(&mut self, place: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(place as u32, top);
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<()> {
        let known = self.memo.get(&(place as u32)).copied();
        self.stack.push(known.ok_or_else(|| Error::format(format!("value {place} is recalled before it is there")))?);
        Ok(())
    }

    // ---- building -----------------------------------------------------------------------------------------------

    fn tuple(&mut self, len: usize) -> Result<()> {
        let start = self.stack.len().checked_sub(len).ok_or_else(|| Error::format("its stack is too short for a tuple"))?;
        let items = self.stack.split_off(start);
        self.push(Value::List(items))
    }

    fn append(&mut self, items: Vec<Ref>) -> Result<()> {
        let top = self.top()? as usize;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            // The items of an object of a class of lists.
            Value::Call { .. } => {}
            _ => return Err(Error::format("it appends to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<(Ref, Ref)>) -> Result<()> {
        let top = self.top()? as usize;
        match &mut self.values[top] {
            Value::Dict(entries) => entries.extend(items),
            // The entries of an object of a class of dicts.
            Value::Call { state: None, .. } => {
                self.push(Value::Dict(items))?;
                let entries = self.pop()?;
                if let Value::Call { state, .. } = &mut self.values[top] {
                    *state = Some(entries);
                }
            }
            Value::Call { state: Some(state), .. } => {
                let state = *state as usize;
                if let Value::Dict(entries) = &mut self.values[state] {
                    entries.extend(items);
                }
            }
            _ => return Err(Error::format("it sets entries of what is no dict")),
        }
        Ok(())
    }

    fn as_text(&self, of: Ref) -> Result<Cow<'a, str>> {
        match self.value(of) {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(Error::format("a name that is not text")),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let name = format!("{module}.{name}");
        refuse(&name)?;
        self.push(Value::Global(name))
    }

    fn call(&mut self, function: Ref, arguments: Ref) -> Result<()> {
        let (name, given) = match (self.value(function), self.value(arguments)) {
            (Value::Global(name), Value::List(given)) if is_container(name) => (name, given),
            // What a call gives may be called in turn.
            (Value::Global(_) | Value::Call { .. }, Value::List(_)) => {
                return self.push(Value::Call { function, arguments, state: None });
            }
            _ => return Err(Error::format("it calls what is no function")),
        };
        let is_dict = name.to_lowercase().ends_with("dict");
        // A defaultdict is given what makes its defaults.
        let items = match given[..] {
            [items] if !name.ends_with("defaultdict") => match self.value(items) {
                Value::List(items) => items.clone(),
                _ => return Err(Error::format(format!("it fills a `{name}` with what is no list"))),
            },
            _ => Vec::new(),
        };
        self.charge(items.len())?;
        if !is_dict {
            return self.push(Value::List(items));
        }
        let pair = |item: &Ref| match self.value(*item) {
            Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(Error::format("it fills a dict with what is no pair")),
        };
        let entries = items.iter().map(pair).collect::<Result<_>>()?;
        self.push(Value::Dict(entries))
    }
}

fn pairs(items: &[Ref]) -> Result<Vec<(Ref, Ref)>> {
    if !items.len().is_multiple_of(2) {
        return Err(Error::format("a key without a value"));
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Modules whose functions run programs or code, or reach files and other machines. No object of a checkpoint is of them.
const DANGEROUS: [&str; 13] =
    ["os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "pty", "runpy", "importlib", "ctypes", "webbrowser", "urllib"];
/// Functions of Python itself that do.
const DANGEROUS_BUILTINS: [&str; 8] = ["eval", "exec", "execfile", "compile", "open", "__import__", "breakpoint", "input"];

/// Fails for what no pickle of weights names.
///
/// # Errors
/// It would run code, or is a tensor of a kind that is not read.
fn refuse(name: &str) -> Result<()> {
    let (module, function) = name.split_once('.').unwrap_or((name, ""));
    let is_builtin = ["builtins", "__builtin__"].contains(&module);
    if DANGEROUS.contains(&module) || is_builtin && DANGEROUS_BUILTINS.contains(&function) {
        return Err(Error::format(format!("it names `{name}`, which no weights need: in Python it would run code"))
            .help("nothing of it was run here; do not load this file in Python, and take the weights from another place"));
    }
    let of_torch = |part: &str| name.starts_with("torch.") && name.to_lowercase().contains(part);
    let other_tensor = [
        ("sparse", "a sparse tensor", ".to_dense()"),
        ("qtensor", "a quantised tensor", ".dequantize()"),
        ("qint", "a quantised tensor", ".dequantize()"),
        ("quint", "a quantised tensor", ".dequantize()"),
        ("complex", "a tensor of complex numbers", ".real"),
    ];
    match other_tensor.into_iter().find(|(part, ..)| of_torch(part)) {
        Some((_, what, dense)) => Err(Error::format(format!("it holds {what} (`{name}`), which is not read"))
            .help(format!("save tensor{dense} in its place"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8]) -> Result<Pickle<'_>> {
        Pickle::read(data)
    }

    fn refusal(data: &[u8]) -> String {
        read(data).unwrap_err().to_string()
    }

    #[test]
    fn plain_values_are_built() {
        // pickle.dumps({"a": [1, -2, 300, 2.5, True, None], "b": ("x", 2**40)}, 2)
        let data =
            b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM\x2c\x01G@\x04\x00\x00\x00\x00\x00\x00\x88Ne\
                     X\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00xq\x04\x8a\x06\x00\x00\x00\x00\x00\x01\x86q\x05u.";
        let pickle = read(data).unwrap();
        let Value::Dict(entries) = pickle.get(pickle.root()) else { panic!() };
        assert!(matches!(pickle.get(entries[0].0), Value::Text(text) if text == "a"));
        let Value::List(list) = pickle.get(entries[0].1) else { panic!() };
        let shown: Vec<_> = list.iter().map(|item| format!("{:?}", pickle.get(*item))).collect();
        assert_eq!(shown, ["Int(1)", "Int(-2)", "Int(300)", "Float(2.5)", "Bool(true)", "None"]);
        let Value::List(tuple) = pickle.get(entries[1].1) else { panic!() };
        assert!(matches!(pickle.get(tuple[1]), Value::Int(n) if *n == 1 << 40));
    }

    #[test]
    fn what_would_run_code_is_refused_by_name() {
        assert!(refusal(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").contains("`os.system`"));
        assert!(refusal(b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.").contains("`builtins.eval`"));
        assert!(refusal(b"\x80\x04\x8c\x02os\x8c\x06system\x93.").contains("`os.system`"));
        assert!(refusal(b"\x80\x02c__builtin__\n__import__\n.").contains("`__builtin__.__import__`"));
        assert!(refusal(b"\x80\x02cos.path\njoin\n.").contains("`os.path.join`"));
        assert!(refusal(b"(ios\nsystem\n.").contains("`os.system`"));
        assert!(refusal(b"\x80\x02\x82\x01.").contains("opcode `\\x82`"));
        for (name, what, help) in [
            ("torch._utils\n_rebuild_sparse_tensor", "a sparse tensor", "save tensor.to_dense() in its place"),
            ("torch._utils\n_rebuild_qtensor", "a quantised tensor", "save tensor.dequantize() in its place"),
            ("torch\nQUInt8Storage", "a quantised tensor", "save tensor.dequantize() in its place"),
            ("torch\nComplexFloatStorage", "complex numbers", "save tensor.real in its place"),
        ] {
            let error = read(format!("c{name}\n.").as_bytes()).unwrap_err().file("w.pt");
            assert!(error.to_string().starts_with("w.pt: it holds ") && error.message().contains(what), "{error}");
            assert!(error.message().ends_with("(byte 0 of its pickle)") && error.helps() == [help], "{error:?}");
        }
    }

    #[test]
    fn objects_of_any_class_are_kept_as_records() {
        // A call, an instance with its fields, one of a class of dicts, one that a call of a call makes, one by its class's names.
        for (data, fields) in [
            (&b"\x80\x02cnumpy\ndtype\nK\x01\x85R."[..], None),
            (b"\x80\x02cmine\nConfig\n)\x81}(X\x01\0\0\0kK\x03ub.", Some(1)),
            (b"\x80\x02cmine\nDict\n)\x81X\x01\0\0\0aK\x01s(X\x01\0\0\0bK\x02u.", Some(2)),
            (b"\x80\x02cmine\nmaker\n)R)R.", None),
            (b"\x80\x04\x8c\x04mine\x8c\x01C\x93)}\x92.", None),
            (b"(imine\nC\n.", None),
        ] {
            let pickle = read(data).unwrap();
            let Value::Call { state, .. } = pickle.get(pickle.root()) else { panic!("{}", data.escape_ascii()) };
            let count = state.map(|state| if let Value::Dict(entries) = pickle.get(state) { entries.len() } else { 0 });
            assert_eq!(count, fields, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn containers_are_built_from_their_calls() {
        let pickle = read(b"\x80\x02ccollections\nOrderedDict\n)R(K\x01K\x02u}b.").unwrap();
        assert!(matches!(pickle.get(pickle.root()), Value::Dict(entries) if entries.len() == 1));
        let pickle = read(b"\x80\x02c__builtin__\nset\n](K\x01K\x02e\x85R.").unwrap();
        assert!(matches!(pickle.get(pickle.root()), Value::List(items) if items.len() == 2));
        let pickle = read(b"\x80\x02ccollections\nOrderedDict\n](K\x01K\x02\x86e\x85R.").unwrap();
        assert!(matches!(pickle.get(pickle.root()), Value::Dict(entries) if entries.len() == 1));
    }

    #[test]
    fn broken_pickles_end_in_an_error() {
        for data in [
            &b""[..],
            b".",
            b"\x80\x09.",
            b"t.",
            b"\x85.",
            b"K",
            b"X\xff\xff\xff\xffa",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            b"h\x00.",
            b"(0u.",
            b"K\x01(K\x02000\x31.",
            b"](K\x01u.",
            b"}(K\x01e.",
            b"}(K\x01u.",
            b"K\x01K\x02R.",
            b"cos",
            b"\x8b\xff\xff\xff\xff.",
        ] {
            assert!(read(data).is_err(), "{}", data.escape_ascii());
        }
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01u.";
        for len in 0..whole.len() {
            assert!(refusal(&whole[..len]).contains("byte"), "{len}");
        }
    }

    #[test]
    fn small_pickles_of_many_values_are_bounded() {
        assert!(refusal(&b"N".repeat(MAX_VALUES + 1)).contains("more than 4000000 values"));
        assert!(refusal(&vec![b'N'; MAX_BYTES + 1]).contains("more than that of any weights"));
        // A list of a thousand, copied again and again.
        let mut bomb = b"](".to_vec();
        bomb.extend(b"N".repeat(1000));
        bomb.extend(b"eq\x00");
        (0..5000).for_each(|_| bomb.extend(b"c__builtin__\nset\nh\x00\x85R"));
        assert!(refusal(&bomb).contains("more than 4000000 values"));
    }
}
