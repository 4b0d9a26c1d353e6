//! What cannot be assigned to: properties and elements of native values that have no setter. Rhai puts what an assignment
//! changed inside a property (`m.cfg.n_layers = 3`) back through the property's setter, and says nothing where there is
//! none: the setters here refuse.
//!
//! Rhai puts back after every method of an array or map, too, `m.cfg.keys()`: the places of assignments tell them apart.

use super::declare::{Entry, Form};
use super::tree::walk;
use super::{entries, raise_in};
use crate::error::Error;
use rhai::{AST, ASTFlags, ASTNode, Dynamic, Expr, FuncRegistration, Module, NativeCallContext, Position, RhaiFunc, Stmt};
use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Before the names that Rhai gives to closures.
const CLOSURE: &str = "anon$";

/// Methods that change an array, a map or a text.
const CHANGING: &[&str] = &[
    "push",
    "append",
    "insert",
    "pad",
    "clear",
    "truncate",
    "chop",
    "sort",
    "sort_desc",
    "sort_by",
    "reverse",
    "dedup",
    "retain",
    "drain",
    "splice",
    "mixin",
    "fill_with",
    "set",
    "remove",
    "pop",
    "shift",
    "crop",
    "make_upper",
    "make_lower",
];

/// The links of chains, by which Rhai calls their setters: their places with the names of properties (none for an index, or the dot), and
/// whether the chain is assigned to.
type Links = BTreeMap<(Position, String), bool>;

/// The links of a source.
struct Places {
    all: Links,
    /// Those in closures, which Rhai runs under the name of the source that calls them.
    closures: Links,
}

/// The links of all sources. Copies share them.
#[derive(Clone, Default)]
pub struct Assigned(Arc<RwLock<BTreeMap<String, Places>>>);

impl Assigned {
    /// Notes the links of a source, in place of those of an earlier text of its name.
    pub fn note(&self, source: &str, ast: &AST) {
        let closures = ast.clone_functions_only_filtered(|_, _, _, name, _| name.starts_with(CLOSURE));
        let places = Places { all: links_of(ast), closures: links_of(&closures) };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(source.into(), places);
    }

    /// A setter is called by an assignment. What the calling source does not know is a place in a closure of another one; where
    /// closures of several sources have it, it is one of an assignment if all say so: which of them runs cannot be known.
    fn contains(&self, call: &NativeCallContext, property: Option<&str>) -> bool {
        let sources = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let place = call.call_position();
        let own = sources.get(call.call_source().unwrap_or_default()).and_then(|places| at(&places.all, place, property));
        own.unwrap_or_else(|| {
            let mut found = sources.values().filter_map(|places| at(&places.closures, place, property)).peekable();
            found.peek().is_some() && found.all(|assigned| assigned)
        })
    }
}

/// Whether the link at a place is assigned to, where there is one. Rhai calls an index for a property that a type does not have, too.
fn at(links: &Links, place: Position, property: Option<&str>) -> Option<bool> {
    match property {
        Some(name) => links.get(&(place, name.to_string())).copied(),
        None => {
            links.range((place, String::new())..).take_while(|((at, _), _)| *at == place).map(|(_, assigned)| *assigned).max()
        }
    }
}

fn links_of(ast: &AST) -> Links {
    let mut found = Links::new();
    walk(ast, &mut |path: &[ASTNode]| {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Assignment(assignment))) => links(&assignment.1.lhs, true, &mut found),
            Some(ASTNode::Expr(chain)) => links(chain, changes(chain), &mut found),
            _ => {}
        }
        true
    });
    found
}

/// Notes the links of a chain. A part of a chain that is assigned to comes by here, too, and changes nothing.
fn links(chain: &Expr, assigned: bool, found: &mut Links) {
    let (Expr::Dot(link, flags, position) | Expr::Index(link, flags, position)) = chain else { return };
    let mut add = |position: &Position, name: &str| *found.entry((*position, name.into())).or_default() |= assigned;
    add(position, "");
    // Behind the bracket of the last index stands any expression, which is no link.
    if matches!(chain, Expr::Index(..)) && flags.contains(ASTFlags::BREAK) {
        return;
    }
    match &link.rhs {
        Expr::Property(property, position) if matches!(chain, Expr::Dot(..)) => add(position, &property.2),
        Expr::Dot(next, ..) | Expr::Index(next, ..) => {
            if let Expr::Property(property, position) = &next.lhs {
                add(position, &property.2);
            }
            links(&link.rhs, assigned, found);
        }
        _ => {}
    }
}

/// Whether a chain ends with a method that changes what is before it.
fn changes(chain: &Expr) -> bool {
    match chain {
        Expr::MethodCall(call, _) => CHANGING.contains(&call.name.as_str()),
        Expr::Dot(link, ..) => changes(&link.rhs),
        Expr::Index(link, flags, _) => !flags.contains(ASTFlags::BREAK) && changes(&link.rhs),
        _ => false,
    }
}

/// Gives every property and index without a setter one that refuses.
pub(super) fn register(module: &mut Module, assigned: &Assigned) {
    let has = |form: Form, of: &Entry, name: &str| {
        entries().iter().any(|e| e.form == form && e.receiver() == of.receiver() && (e.name == name || form == Form::IndexSet))
    };
    for entry in entries() {
        let Some(receiver) = entry.receiver() else { continue };
        let kind = entry.params.first().map_or_else(String::new, |p| p.kind.clone());
        let (name, types, property) = match entry.form {
            Form::Getter if !has(Form::Setter, entry, entry.name) => {
                (format!("set${}", entry.name), vec![receiver, TypeId::of::<Dynamic>()], Some(entry.name))
            }
            Form::IndexGet if !has(Form::IndexSet, entry, "") => {
                ("index$set$".into(), vec![receiver, TypeId::of::<Dynamic>(), TypeId::of::<Dynamic>()], None)
            }
            _ => continue,
        };
        let assigned = assigned.clone();
        let refuse = move |call: Option<NativeCallContext>, _: &mut [&mut Dynamic]| {
            let Some(call) = call else { return Ok(Dynamic::UNIT) };
            if !assigned.contains(&call, property) {
                return Ok(Dynamic::UNIT);
            }
            Err(raise_in(refusal(&kind, property), call.call_source(), call.call_position()))
        };
        let func = RhaiFunc::Pure { func: Arc::new(refuse), has_context: true, is_pure: true, is_volatile: true };
        FuncRegistration::new(name).in_global_namespace().set_into_module_raw(module, types, func);
    }
}

fn refusal(kind: &str, property: Option<&str>) -> Error {
    let what = property.map_or_else(|| format!("what a {kind} holds"), |name| format!("`{name}` of a {kind}"));
    let help = match (kind, property) {
        ("Tensor", Some("shape")) => "`t.reshape([2, 3])` gives a tensor of another shape",
        ("Tensor", Some("dtype")) => "`t.to(\"f32\")` gives a tensor of another type",
        ("Tensor", _) => "`t[i] = x` changes elements; methods give new tensors",
        ("Table", _) => "`t.with_column(\"name\", values)` gives a table with another column",
        ("Model" | "Dictionary", Some("cfg")) => {
            "models and dictionaries cannot be changed; a copy of what it gives can: `let c = d.cfg; c.layer = 3`"
        }
        ("Model" | "Dictionary", _) => {
            "models and dictionaries cannot be changed; a copy of what it gives can: `let w = d.W_dec; w[0] = 1.0`"
        }
        _ => "a copy of it can be changed: `let copy = x.name;`",
    };
    Error::input(format!("{what} cannot be set")).help(help)
}
