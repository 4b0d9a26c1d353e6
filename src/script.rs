//! Rhai bindings and nothing else: a binding checks its arguments, calls a room below, and wraps the result.
//!
//! * `declare`: one declaration for each function. * `convert`: script values ↔ Rust values. * `display`: how a value is
//!   shown. `fixed`: what cannot be assigned to. * `help`: help, reference and definitions from the declarations. * `scan`: the outline of a text without
//!   parsing it. `tree`: walks through a parsed text. `natives`: Rhai's own functions. * `param`: a script's parameters. * `keep`: values that outlive a session.
//! * one file a topic: what a script can call.

/// Registers a function that changes its receiver, which is refused for a constant. Rhai takes a function for pure that
/// does not say so.
macro_rules! changing {
    ($engine:expr, $name:expr, $function:expr) => {
        rhai::FuncRegistration::new($name).with_purity(false).register_into_engine($engine, $function);
    };
}

pub mod convert;
pub mod declare;
pub mod display;
pub mod help;
pub mod keep;
pub mod natives;
pub mod param;
pub mod scan;
pub mod tree;

mod analyses;
mod arrays;
mod basics;
mod cards;
mod circuits;
mod dictionaries;
mod figures;
mod files;
mod fixed;
mod forward;
mod models;
mod pages;
mod parts;
mod tables;
mod tensor;
mod training;

pub(crate) use arrays::{MOST_BYTES, MOST_ITEMS, too_long, too_many};
pub use basics::Outputs;
pub use cards::Explainers;
pub use fixed::Assigned;
pub(crate) use tensor::token_watch;

use crate::analysis::{AttentionScores, OvScores, ProductStats, Semantics, Side, TokenScores};
use crate::dictionary::Dictionary;
use crate::error::{Error, Kind, Result};
use crate::figure::Figure;
use crate::model::Model;
use crate::model::forward::Pass;
use crate::page::Page;
use crate::provenance::fingerprint;
use crate::render;
use crate::table::Table;
use crate::work::Work;
use convert::{FromScript, IntoScript};
use declare::Entry;
use rhai::{Dynamic, Engine, EvalAltResult, Module, NativeCallContext, Position, Variant};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Draws a figure for whoever sees the session's output; the text may hold escape sequences.
pub type Draw = fn(&Figure, &Host) -> Result<String>;

/// A figure as characters: what every output can take.
pub fn drawn_with_characters(figure: &Figure, host: &Host) -> Result<String> {
    let (drawn, width) = (figure.clone(), host.width);
    host.work.detached(move |_| Ok(render::sketch(&drawn, width)))
}

/// Explains an error that a script caught, in the words of a report.
pub type Explain = Arc<dyn Fn(&NativeCallContext, &ScriptError) -> Error + Send + Sync>;

/// A parameter that a script has read.
#[derive(Clone)]
pub(crate) struct Used {
    pub name: String,
    pub value: Json,
    pub description: String,
}

/// What bindings may reach: the session's work handle and where its results go. Cheap to copy.
#[derive(Clone)]
pub struct Host {
    /// Cancellation, progress, threads, seed, output.
    pub work: Work,
    /// Where `save` writes and what `out_dir()` gives.
    pub out_dir: Arc<PathBuf>,
    /// Values given for the script's parameters, by name, as text.
    pub parameters: Arc<BTreeMap<String, String>>,
    /// The script that runs, where one does.
    pub script: Option<Arc<str>>,
    /// Columns in which values are shown.
    pub width: usize,
    /// How figures are shown.
    pub draw: Draw,
    /// How the session's models and dictionaries were made.
    pub recipes: keep::Recipes,
    /// The values of the session's cells.
    pub outputs: Outputs,
    /// How errors are explained to a script that catches them.
    pub explain: Explain,
    /// The texts of the script and its modules, as fingerprints by name.
    code: Arc<Mutex<BTreeMap<String, String>>>,
    /// What pages of features share.
    pub explainers: Explainers,
    /// Where the session's texts assign.
    pub assigned: Assigned,
    /// The parameters that the script has read, with their values.
    used: Arc<Mutex<Vec<Used>>>,
    /// The status that `exit` asked for.
    exit: Arc<Mutex<Option<u8>>>,
}

impl Host {
    /// A host without parameters, whose results go to the current folder.
    pub fn new(work: Work) -> Self {
        Host {
            work,
            out_dir: Arc::new(".".into()),
            parameters: Arc::default(),
            script: None,
            width: 80,
            draw: drawn_with_characters,
            recipes: keep::Recipes::default(),
            outputs: Outputs::default(),
            explain: Arc::new(|_, caught| caught.error.clone()),
            code: Arc::default(),
            explainers: Explainers::default(),
            assigned: Assigned::default(),
            used: Arc::default(),
            exit: Arc::default(),
        }
    }

    /// Notes the text of the script or of a module that it imports.
    pub fn note_code(&self, name: &str, text: &str) {
        self.code.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), fingerprint(text.bytes()));
    }

    /// The fingerprints of the script and its modules, by name.
    pub(crate) fn code(&self) -> BTreeMap<String, String> {
        self.code.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a parameter with the value that the script got.
    pub(crate) fn note_parameter(&self, read: Used) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|earlier| earlier.name != read.name);
        used.push(read);
    }

    /// The parameters that the script has read, in this order.
    pub(crate) fn used(&self) -> Vec<Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How to make this session's results again: the script, its parameters and the seed.
    pub fn run(&self) -> Json {
        let used: serde_json::Map<_, _> = self.used().into_iter().map(|used| (used.name, used.value)).collect();
        json!({ "script": self.script.as_deref(), "parameters": used, "seed": self.work.seed() })
    }

    /// Notes the status that `exit` asked for.
    pub(crate) fn request_exit(&self, status: u8) {
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// The status that `exit` asked for since this was last called.
    pub fn take_exit(&self) -> Option<u8> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The host of the session in which a call runs.
    pub fn of(call: &NativeCallContext) -> std::result::Result<Host, Box<EvalAltResult>> {
        let host = call.tag().and_then(|tag| tag.read_lock::<Host>().map(|host| host.clone()));
        host.ok_or_else(|| "this engine has no saerepl session".into())
    }
}

/// Every function, method, property and operator that scripts can use beside Rhai's own.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
        let topics = [
            ("errors, output, seed", basics::entries()),
            ("parameters", param::entries()),
            ("tensors", tensor::entries()),
            ("models", models::entries()),
            ("running a model", forward::entries()),
            ("dictionaries", dictionaries::entries()),
            ("training", training::entries()),
            ("analyses", analyses::entries()),
            ("circuits", circuits::entries()),
            ("tables", tables::entries()),
            ("figures", figures::entries()),
            ("pages", pages::entries()),
            ("results kept in parts", parts::entries()),
            ("cards", cards::entries()),
            ("files", files::entries()),
        ];
        let of_topic = |(topic, mut entries): (&'static str, Vec<Entry>)| {
            entries.iter_mut().for_each(|entry| entry.topic = topic);
            entries
        };
        topics.into_iter().flat_map(of_topic).collect()
    });
    &ENTRIES
}

/// Registers everything into an engine whose calls will run for `host`.
pub fn install(engine: &mut Engine, host: Host) {
    let assigned = host.assigned.clone();
    engine.set_default_tag(Dynamic::from(host));
    register(engine, &assigned);
}

/// Registers everything, for calls that find their host in the engine's tag.
fn register(engine: &mut Engine, assigned: &Assigned) {
    named::<ScriptError>(engine);
    named::<Model>(engine);
    named::<Dictionary>(engine);
    named::<Table>(engine);
    named::<Figure>(engine);
    named::<Page>(engine);
    named::<Outputs>(engine);
    named::<Pass>(engine);
    named::<ProductStats>(engine);
    named::<Side>(engine);
    named::<TokenScores>(engine);
    named::<Semantics>(engine);
    named::<AttentionScores>(engine);
    named::<OvScores>(engine);
    basics::install(engine);
    arrays::install(engine);
    display::install(engine);
    tensor::install(engine);
    let (mut global, mut spaces) = (Module::new(), BTreeMap::<&str, Module>::new());
    for entry in entries() {
        match entry.namespace {
            None => entry.register(&mut global),
            Some(space) => entry.register(spaces.entry(space).or_default()),
        }
    }
    tables::register_iterator(&mut global);
    fixed::register(&mut global, assigned);
    engine.register_global_module(global.into());
    for (name, module) in spaces {
        engine.register_static_module(name, module.into());
    }
}

/// Gives a native type the name by which signatures, messages and `type_of` speak of it.
fn named<T: FromScript + Variant + Clone>(engine: &mut Engine) {
    engine.register_type_with_name::<T>(&T::kind());
}

/// An error as a script sees it in `catch (e)`.
#[derive(Clone, Debug)]
pub struct ScriptError {
    /// The error.
    pub error: Error,
    /// Where it was raised.
    pub place: Option<Place>,
    /// What Rhai said, where the error is Rhai's own.
    pub raised: Option<Arc<Raised>>,
}

crate::native!(ScriptError, "Error");

/// A place in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File, or name of the cell.
    pub source: Option<String>,
    /// Line and column, from 1.
    pub position: Position,
}

/// An error of Rhai's own that a script caught: its text, with the chain of calls, is all that is left of it.
#[derive(Debug)]
pub struct Raised {
    /// As Rhai writes it, without the outermost position.
    pub text: String,
    /// Where it was caught from: the fault itself, or the call in which it lies.
    pub place: Place,
}

/// Our error on its way through Rhai; an interruption becomes a termination, which a script cannot catch.
pub(crate) fn raise(error: Error, position: Position) -> Box<EvalAltResult> {
    raise_in(error, None, position)
}

/// As [`raise`], with the source in which the position lies.
pub(crate) fn raise_in(error: Error, source: Option<&str>, position: Position) -> Box<EvalAltResult> {
    if error.kind() == Kind::Interrupted {
        return EvalAltResult::ErrorTerminated(Dynamic::UNIT, position).into();
    }
    let place = (!position.is_none()).then(|| Place { source: source.map(String::from), position });
    EvalAltResult::ErrorRuntime(ScriptError { error, place, raised: None }.into_script(), position).into()
}

/// A Rhai error as ours: what a function that the script passed to a native one has raised.
pub(crate) fn lower(error: &EvalAltResult) -> Error {
    if matches!(error.unwrap_inner(), EvalAltResult::ErrorTerminated(..)) {
        return Error::interrupted();
    }
    error_of(error).unwrap_or_else(|| Error::input(error.to_string()))
}

/// Our error inside a Rhai error, if that is what it carries.
pub fn error_of(error: &EvalAltResult) -> Option<Error> {
    match error.unwrap_inner() {
        EvalAltResult::ErrorRuntime(value, _) => ScriptError::from_script(value).map(|e| e.error),
        _ => None,
    }
}
