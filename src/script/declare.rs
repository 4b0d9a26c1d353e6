//! One declaration for each script function: [`entry!`](crate::entry) gives its name, parameters, option type, doc,
//! example and closure; registration, help, completion, the reference and the test that runs every example read it.
//!
//! Arguments reach the closure through [`FromScript`], not through Rhai's own matching: so integers are accepted where
//! floats are wanted, and a wrong argument is answered by its name. Only the receiver of a method is matched by type.

use crate::error::{Error, Result};
use crate::options::{Key, Options};
use crate::script::Host;
use crate::script::convert::{FromScript, describe, option_map, with_article};
use crate::work::Work;
use rhai::{Dynamic, EvalAltResult, FnPtr, FuncArgs, FuncRegistration, Module, NativeCallContext, RhaiFunc};
use std::any::TypeId;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Behind the type in the name of an index: `Tensor[…]`.
pub const INDEXED: &str = "[…]";

/// How an entry is written in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `name(a, b)`, also `a.name(b)`.
    Function,
    /// `receiver.name(a)`, also `name(receiver, a)`: found by the receiver's type.
    Method,
    /// `receiver.name`.
    Getter,
    /// `receiver.name = value`.
    Setter,
    /// `a + b`.
    Operator,
    /// `receiver[index]`.
    IndexGet,
    /// `receiver[index] = value`.
    IndexSet,
}

/// One parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// The values it takes, as signatures show them.
    pub kind: String,
    /// It may be left out.
    pub optional: bool,
}

/// What runs when a script calls an entry.
type Body = dyn Fn(&Call<'_>, &mut Arguments<'_, '_>) -> Result<Dynamic> + Send + Sync;

/// One function, method, property or operator of the script surface.
#[derive(Clone)]
pub struct Entry {
    /// How it is written.
    pub form: Form,
    /// `plot` in `plot::line`.
    pub namespace: Option<&'static str>,
    /// Its name, without namespace.
    pub name: &'static str,
    /// Its documentation, Markdown.
    pub doc: &'static str,
    /// What it is about, as the reference groups functions.
    pub topic: &'static str,
    /// Its parameters, the receiver first; the option map is not among them.
    pub params: Vec<Param>,
    /// The keys of its option map, if it takes one.
    pub options: Option<fn() -> Vec<Key>>,
    /// What it gives.
    pub returns: &'static str,
    /// The type by which the receiver is matched, for all forms but functions.
    receiver: Option<TypeId>,
    /// The types by which both sides of an operator are matched.
    operands: Vec<TypeId>,
    body: Arc<Body>,
}

impl Entry {
    #[doc(hidden)]
    #[allow(clippy::too_many_arguments)] // called by `entry!` alone
    pub fn new(
        form: Form,
        namespace: Option<&'static str>,
        name: &'static str,
        doc: &'static str,
        params: Vec<(&'static str, String, bool)>,
        options: Option<fn() -> Vec<Key>>,
        returns: &'static str,
        operands: Vec<TypeId>,
        body: Arc<Body>,
    ) -> Self {
        let params = params.into_iter().map(|(name, kind, optional)| Param { name, kind, optional }).collect();
        let receiver = if form == Form::Function { None } else { operands.first().copied() };
        Entry { form, namespace, name, doc, topic: "", params, options, returns, receiver, operands, body }
    }

    /// `unembed(dict: Dictionary, model: Model[, options]) -> TokenScores`, as help and errors show it.
    pub fn signature(&self) -> String {
        let show = |p: &Param| if p.optional { format!("[{}: {}]", p.name, p.kind) } else { format!("{}: {}", p.name, p.kind) };
        let kind = |i: usize| self.params.get(i).map_or("", |p| p.kind.as_str());
        let name = self.path();
        match self.form {
            Form::Getter => return format!("{}.{name} -> {}", kind(0), self.gives()),
            Form::Setter => return format!("{}.{name} = {}", kind(0), kind(1)),
            Form::IndexGet => return format!("{}[{}] -> {}", kind(0), kind(1), self.gives()),
            Form::IndexSet => return format!("{}[{}] = {}", kind(0), kind(1), kind(2)),
            Form::Operator if self.params.len() == 1 => return format!("{name}{} -> {}", kind(0), self.gives()),
            Form::Operator => return format!("{} {name} {} -> {}", kind(0), kind(1), self.gives()),
            Form::Function | Form::Method => {}
        }
        let (head, rest) = match self.form {
            Form::Method => (format!("{}.{name}", kind(0)), &self.params[1..]),
            _ => (name, &self.params[..]),
        };
        let mut list: Vec<String> = rest.iter().map(show).collect();
        if self.options.is_some() {
            list.push("[#{…}]".into());
        }
        format!("{head}({}) -> {}", list.join(", "), self.gives())
    }

    /// What it gives, in the script's words: `number`, `array`, `Table`.
    pub fn gives(&self) -> String {
        fn word(kind: &str) -> String {
            if let Some(inner) = kind.strip_prefix("Option<") {
                return format!("{} or ()", word(inner.trim_end_matches('>')));
            }
            if kind.starts_with("Vec<") {
                return "array".into();
            }
            match kind.rsplit("::").next().unwrap_or(kind).trim() {
                "f64" => "number".into(),
                "usize" | "i64" => "integer".into(),
                "String" => "string".into(),
                "Array" => "array".into(),
                "Map" | "Json" | "Value" | "Histogram" => "map".into(),
                "Dynamic" => "any value".into(),
                "NumberOrTensor" => "number or Tensor".into(),
                "Pass" => "ActivationCache".into(),
                "Printed" => "()".into(),
                other => other.into(),
            }
        }
        word(self.returns)
    }

    /// The type by which the receiver is matched.
    pub(super) fn receiver(&self) -> Option<TypeId> {
        self.receiver
    }

    /// The name with its namespace.
    pub fn path(&self) -> String {
        self.namespace.map_or_else(|| self.name.to_string(), |ns| format!("{ns}::{}", self.name))
    }

    /// The name under which messages speak of it: the path, or `Tensor[…]`.
    fn spoken(&self) -> String {
        match (self.form, self.params.first()) {
            (Form::IndexGet | Form::IndexSet, Some(receiver)) => format!("{}{INDEXED}", receiver.kind),
            _ => self.path(),
        }
    }

    /// The example in the documentation: the contents of its ```` ```rhai ```` block.
    pub fn example(&self) -> Option<String> {
        let lines = self.doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
        let block: Vec<&str> = lines.skip_while(|l| l.trim() != "```rhai").skip(1).take_while(|l| l.trim() != "```").collect();
        (!block.is_empty()).then(|| block.join("\n"))
    }

    /// Puts the entry into a module under every number of arguments it takes.
    pub fn register(&self, module: &mut Module) {
        let required = self.params.iter().filter(|p| !p.optional).count();
        let most = self.params.len() + usize::from(self.options.is_some());
        for count in required..=most {
            let mut types = vec![TypeId::of::<Dynamic>(); count];
            match self.form {
                Form::Operator => types.clone_from(&self.operands),
                Form::Function => {}
                _ => types[0] = self.receiver.unwrap_or(TypeId::of::<Dynamic>()),
            }
            let name = match self.form {
                Form::Getter => format!("get${}", self.name),
                Form::Setter => format!("set${}", self.name),
                Form::IndexGet => "index$get$".into(),
                Form::IndexSet => "index$set$".into(),
                _ => self.name.into(),
            };
            let parameter = |p: &Param| format!("{}: {}", p.name, definition_type(&p.kind));
            let mut info: Vec<String> = self.params.iter().take(count).map(parameter).collect();
            if count > self.params.len() {
                info.push("options: map".into());
            }
            info.push(definition_type(&self.gives()).into());
            let registration = FuncRegistration::new(name);
            let registration = match self.namespace {
                None => registration.in_global_namespace(),
                Some(_) => registration.in_internal_namespace(),
            };
            registration
                .with_params_info(info)
                .with_comments(self.doc.lines().map(|line| format!("///{line}")))
                .set_into_module_raw(module, types, self.callable());
        }
    }

    fn callable(&self) -> RhaiFunc {
        let (body, required) = (Arc::clone(&self.body), self.params.iter().filter(|p| !p.optional).count());
        let (takes_options, name) = (self.options.is_some(), self.spoken());
        let makes_handle = matches!(self.returns, "Model" | "Dictionary");
        let seeded = self.options.is_some_and(|keys| keys().iter().any(|key| key.name == "seed"));
        let run = move |context: Option<NativeCallContext>, values: &mut [&mut Dynamic]| {
            let Some(native) = context else {
                return Err("a native function was called without its context".into());
            };
            let host = Host::of(&native)?;
            let call = Call { native: &native, host: &host, raised: RefCell::default() };
            let mut arguments = Arguments::new(values, &name, takes_options, required);
            // A panic in native code becomes an error: the session goes on.
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| body(&call, &mut arguments)));
            let value = outcome.unwrap_or_else(|panic| Err(panicked(&name, panic.as_ref()))).map_err(|e| {
                call.raised.take().unwrap_or_else(|| super::raise_in(e, native.call_source(), native.call_position()))
            })?;
            if makes_handle {
                host.recipes.note(&name, values, seeded.then(|| host.work.seed()), &value);
            }
            Ok(value)
        };
        // Not folded away when a script is compiled: a call may print, read a file or take minutes.
        let (func, has_context, is_volatile) = (Arc::new(run), true, true);
        if matches!(self.form, Form::Setter | Form::IndexSet) {
            RhaiFunc::Method { func, has_context, is_pure: false, is_volatile }
        } else {
            // Not `Method`: after `model.W_E.sum()` Rhai would write the receiver back to `W_E`.
            RhaiFunc::Pure { func, has_context, is_pure: true, is_volatile }
        }
    }
}

/// A kind of value in the grammar of `.d.rhai` files, which knows single names: `?` is any value.
pub(super) fn definition_type(kind: &str) -> &str {
    match kind {
        "number" => "float",
        "integer" | "integer from 0" => "int",
        "function" => "Fn",
        "string" | "bool" | "array" | "map" | "range" | "blob" | "char" | "timestamp" | "()" => kind,
        _ if kind.starts_with("array of") => "array",
        // A type of ours.
        _ if kind.starts_with(char::is_uppercase) && kind.chars().all(char::is_alphanumeric) => kind,
        _ => "?",
    }
}

/// The error that a panic inside `name` becomes.
pub(crate) fn panicked(name: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    Error::internal(format!("`{name}` failed inside: {}", text.unwrap_or_else(|| "no message".into())))
        .help("this is a fault of saerepl; your session goes on. Please report it with the call that caused it")
}

/// What a closure may reach beside its arguments.
pub struct Call<'a> {
    /// Rhai's view of the call: to call a function that the script passed.
    pub native: &'a NativeCallContext<'a>,
    /// The session's host.
    pub host: &'a Host,
    /// What a function that the script passed has raised.
    raised: RefCell<Option<Box<EvalAltResult>>>,
}

impl Call<'_> {
    /// Calls a function that the script passed.
    ///
    /// # Errors
    /// What the function raises; the script gets it as it is, with its place and its chain of calls.
    pub fn run(&self, function: &FnPtr, arguments: impl FuncArgs) -> Result<Dynamic> {
        function.call_within_context(self.native, arguments).map_err(|error| {
            let lowered = super::lower(&error);
            *self.raised.borrow_mut() = Some(error);
            lowered
        })
    }

    /// Cancellation, progress, threads, seed, output.
    pub fn work(&self) -> &Work {
        &self.host.work
    }
}

/// The arguments of one call, read in order.
pub struct Arguments<'v, 'd> {
    values: &'v mut [&'d mut Dynamic],
    next: usize,
    end: usize,
    name: &'v str,
}

impl<'v, 'd> Arguments<'v, 'd> {
    /// The last argument is the option map when the entry takes one, it is a map, and no required parameter needs it.
    fn new(values: &'v mut [&'d mut Dynamic], name: &'v str, takes_options: bool, required: usize) -> Self {
        let options = takes_options && values.len() > required && values.last().is_some_and(|v| v.is_map());
        let end = values.len() - usize::from(options);
        Arguments { values, next: 0, end, name }
    }

    /// The next argument.
    pub fn next<T: FromScript>(&mut self, parameter: &str) -> Result<T> {
        let given = if self.next < self.end { self.values.get(self.next) } else { None };
        self.next += 1;
        match given {
            Some(value) => T::from_script(value).ok_or_else(|| {
                let kind = T::kind();
                let first = kind.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                let alone = first.is_empty() || ["a", "an", "any", "true", "text"].contains(&first);
                let wanted = if alone { kind } else { with_article(&kind) };
                Error::input(format!("{}: `{parameter}` must be {wanted}, not {}", self.name, describe(value)))
            }),
            None => T::absent().ok_or_else(|| Error::input(format!("{}: `{parameter}` ({}) is missing", self.name, T::kind()))),
        }
    }

    /// The receiver, to be changed.
    pub fn receiver<T: Clone + Send + Sync + 'static>(&mut self) -> Result<rhai::DynamicWriteLock<'_, T>> {
        self.next += 1;
        let name = self.name;
        let value = self.values.first_mut().ok_or_else(|| Error::internal(format!("{name}: no receiver")))?;
        value.write_lock::<T>().ok_or_else(|| Error::input(format!("{name}: the value cannot be changed here")))
    }

    /// The option map, read.
    pub fn options<O: Options>(&mut self) -> Result<O> {
        let Some(map) = self.values.get(self.end) else {
            if self.next < self.end {
                return Err(self.surplus());
            }
            return Ok(O::default());
        };
        let map = option_map(map).ok_or_else(|| Error::internal("an option map that is no map"))?;
        O::parse(&map).map_err(|e| e.context(self.name))
    }

    /// Fails when an argument is left over (a call that takes options was given something else in their place).
    pub fn done(&self) -> Result<()> {
        if self.next < self.end { Err(self.surplus()) } else { Ok(()) }
    }

    fn surplus(&self) -> Error {
        let what = self.values.get(self.next).map_or_else(String::new, |v| describe(v));
        Error::input(format!("{}: the last argument must be a map of options like #{{k: 10}}, not {what}", self.name))
    }
}

/// Declares one function, method, property or operator of the script surface. See `script/basics.rs` for the forms.
#[macro_export]
macro_rules! entry {
    ($(#[doc = $doc:expr])* fn $name:ident ($call:ident $(, $arg:ident : $ty:ty)* $(; $opts:ident : $oty:ty)?) -> $ret:ty $body:block) => {
        $crate::entry!(@build Function, None, stringify!($name), [$($doc),*], $call, [$($arg : $ty),*], [$($opts : $oty)?], $ret, $body)
    };
    ($(#[doc = $doc:expr])* fn $ns:ident :: $name:ident ($call:ident $(, $arg:ident : $ty:ty)* $(; $opts:ident : $oty:ty)?) -> $ret:ty $body:block) => {
        $crate::entry!(@build Function, Some(stringify!($ns)), stringify!($name), [$($doc),*], $call, [$($arg : $ty),*], [$($opts : $oty)?], $ret, $body)
    };
    ($(#[doc = $doc:expr])* method $name:ident ($call:ident $(, $arg:ident : $ty:ty)* $(; $opts:ident : $oty:ty)?) -> $ret:ty $body:block) => {
        $crate::entry!(@build Method, None, stringify!($name), [$($doc),*], $call, [$($arg : $ty),*], [$($opts : $oty)?], $ret, $body)
    };
    ($(#[doc = $doc:expr])* get $name:ident ($call:ident, $this:ident : $ty:ty) -> $ret:ty $body:block) => {
        $crate::entry!(@build Getter, None, stringify!($name), [$($doc),*], $call, [$this : $ty], [], $ret, $body)
    };
    ($(#[doc = $doc:expr])* op $name:literal ($call:ident $(, $arg:ident : $ty:ty)*) -> $ret:ty $body:block) => {
        $crate::entry!(@build Operator, None, $name, [$($doc),*], $call, [$($arg : $ty),*], [], $ret, $body)
    };
    ($(#[doc = $doc:expr])* index_get ($call:ident $(, $arg:ident : $ty:ty)*) -> $ret:ty $body:block) => {
        $crate::entry!(@build IndexGet, None, "[]", [$($doc),*], $call, [$($arg : $ty),*], [], $ret, $body)
    };
    ($(#[doc = $doc:expr])* set $name:ident ($call:ident, $this:ident : &mut $ty:ty, $arg:ident : $aty:ty) $body:block) => {
        $crate::entry!(@change Setter, stringify!($name), [$($doc),*], $call, $this : $ty, [$arg : $aty], $body)
    };
    ($(#[doc = $doc:expr])* index_set ($call:ident, $this:ident : &mut $ty:ty, $index:ident : $ity:ty, $arg:ident : $aty:ty) $body:block) => {
        $crate::entry!(@change IndexSet, "[]=", [$($doc),*], $call, $this : $ty, [$index : $ity, $arg : $aty], $body)
    };
    (@params [$($arg:ident : $ty:ty),*]) => {
        vec![$((stringify!($arg), <$ty as $crate::script::convert::FromScript>::kind(),
            <$ty as $crate::script::convert::FromScript>::absent().is_some())),*]
    };
    (@options []) => { None };
    (@options [$opts:ident : $oty:ty]) => { Some(<$oty as $crate::options::Options>::keys as fn() -> Vec<$crate::options::Key>) };
    (@build $form:ident, $ns:expr, $name:expr, [$($doc:expr),*], $call:ident, [$($arg:ident : $ty:ty),*], [$($opts:ident : $oty:ty)?], $ret:ty, $body:block) => {
        $crate::script::declare::Entry::new(
            $crate::script::declare::Form::$form, $ns, $name, concat!($($doc, "\n"),*),
            $crate::entry!(@params [$($arg : $ty),*]),
            $crate::entry!(@options [$($opts : $oty)?]),
            stringify!($ret),
            vec![$(<$ty as $crate::script::convert::FromScript>::type_id()),*],
            #[allow(unused_variables)]
            std::sync::Arc::new(|$call: &$crate::script::declare::Call<'_>, arguments: &mut $crate::script::declare::Arguments<'_, '_>| {
                $(let $arg: $ty = arguments.next(stringify!($arg))?;)*
                $(let $opts: $oty = arguments.options()?;)?
                arguments.done()?;
                #[allow(clippy::redundant_closure_call)] // a body may return early
                let value: $crate::error::Result<$ret> = (|| $body)();
                Ok($crate::script::convert::IntoScript::into_script(value?))
            }),
        )
    };
    (@change $form:ident, $name:expr, [$($doc:expr),*], $call:ident, $this:ident : $ty:ty, [$($arg:ident : $aty:ty),*], $body:block) => {
        $crate::script::declare::Entry::new(
            $crate::script::declare::Form::$form, None, $name, concat!($($doc, "\n"),*),
            $crate::entry!(@params [$this : $ty $(, $arg : $aty)*]),
            None,
            "()",
            vec![std::any::TypeId::of::<$ty>()],
            #[allow(unused_variables)]
            std::sync::Arc::new(|$call: &$crate::script::declare::Call<'_>, arguments: &mut $crate::script::declare::Arguments<'_, '_>| {
                // The receiver stays locked while it is changed, so the other arguments are read first.
                arguments.skip();
                $(let $arg: $aty = arguments.next(stringify!($arg))?;)*
                let mut receiver = arguments.receiver::<$ty>()?;
                let $this: &mut $ty = &mut receiver;
                let done: $crate::error::Result<()> = $body;
                done?;
                Ok(rhai::Dynamic::UNIT)
            }),
        )
    };
}

/// Declares how a native type with `Display` is written by `print` and inside text: `shown!(Model, "load_model(\"demo\")")`.
#[macro_export]
macro_rules! shown {
    ($ty:ty, $example:literal) => {
        [$crate::shown!(@as to_string, $ty, $example), $crate::shown!(@as to_debug, $ty, $example)]
    };
    (@as $name:ident, $ty:ty, $example:literal) => {
        $crate::entry! {
            /// What it is, in a line or a few.
            ///
            /// ```rhai
            #[doc = concat!(" assert(", $example, ".", stringify!($name), "() != \"\");")]
            /// ```
            method $name(call, value: $ty) -> String { Ok(value.to_string()) }
        }
    };
}

impl Arguments<'_, '_> {
    #[doc(hidden)] // for `entry!`
    pub fn skip(&mut self) {
        self.next += 1;
    }
}
