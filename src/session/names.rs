//! What the names in a cell mean beyond Rhai's own rules: functions see the session's variables, `f(x)` calls the closure
//! that the variable `f` holds, `list.map(|x| x / list.len())` may use the list that it walks, and whatever `catch (e)`
//! catches has a message, a kind and a line.
//!
//! Only variables that some function mentions are shared with functions; all others run at the engine's own speed. The
//! other three are small edits of the text, made where the parsed cell asks for them, as are polls where a script would not
//! see that it was asked to stop; [`Edits`] leads places in the edited text back to what the user wrote.

use super::bounds::Watch;
use super::polls::{POLL, Polls};
use super::stack;
use crate::script::scan::{Kind, Piece, outline};
use crate::script::tree::walk;
use crate::work::Work;
use rhai::{
    AST, ASTFlags, ASTNode, Dynamic, Engine, EvalAltResult, EvalContext, Expr, Expression, FnPtr, Ident, ImmutableString,
};
use rhai::{LexError, ParseError, ParseErrorType, Position, Scope, Stmt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Before the name in a statement that shares a variable; no script can write such a name.
const SHARE: &str = "share$";

/// Functions that edits call; no script can define one of such a name.
const CAUGHT: &str = "caught";
const COPIED: &str = "copied";

/// The session's variables that functions see. Copies share them.
#[derive(Clone, Default)]
pub(super) struct Shared {
    inner: Arc<RwLock<Inner>>,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Inner {
    values: BTreeMap<ImmutableString, Dynamic>,
    /// Names that some function mentions.
    mentioned: BTreeSet<ImmutableString>,
    /// Sources whose functions belong to the session: those of imported modules do not.
    cells: BTreeSet<String>,
}

impl Shared {
    /// Answers an engine's variables from the shared ones.
    pub(super) fn install(&self, engine: &mut Engine, work: &Work) {
        let (shared, cancelled) = (self.clone(), work.cancel_flag());
        // Marked so because Rhai may change it, not because it will go.
        #[allow(deprecated)]
        engine.on_var(move |name, index, context| {
            // Nearly always so, at every read of a variable: all else stands elsewhere, so that this needs no stack of its own.
            if index > 0 && !shared.watch.is_due() { Ok(None) } else { shared.resolve(name, index, context, &cancelled) }
        });
        // A native function would not see `this`.
        let (shared, cancelled) = (self.clone(), work.cancel_flag());
        let poll = move |context: &mut EvalContext, _: &[Expression]| shared.poll(context, &cancelled).map(|()| Dynamic::UNIT);
        let registered = engine.register_custom_syntax([POLL], false, poll).is_ok();
        debug_assert!(registered, "a name is a syntax");
    }

    /// What `on_var` answers where that is not at once "as Rhai does".
    #[cold]
    #[inline(never)]
    fn resolve(
        &self,
        name: &str,
        index: usize,
        context: EvalContext,
        cancelled: &AtomicBool,
    ) -> Result<Option<Dynamic>, Box<EvalAltResult>> {
        self.poll(&context, cancelled)?;
        if index > 0 { Ok(None) } else { self.answer(name, context) }
    }

    /// Looks whether a script has to end.
    fn poll(&self, context: &EvalContext, cancelled: &AtomicBool) -> Result<(), Box<EvalAltResult>> {
        // Before the tick begins: natives that go on after an error of their closure meet it at each variable.
        stack::poll(cancelled)?;
        if self.watch.begin_tick() { self.look(context) } else { Ok(()) }
    }

    /// A cell begins.
    pub(super) fn begin(&self) {
        self.watch.begin();
    }

    /// Ends a script one of whose variables has grown too large. It cannot catch that: it would go on growing.
    fn look(&self, context: &EvalContext) -> Result<(), Box<EvalAltResult>> {
        let inner = self.read();
        let own = context.scope().iter_raw().map(|(name, _, value)| (name, value));
        let shared = inner.values.iter().map(|(name, value)| (name.as_str(), value));
        match self.watch.look(own.chain(shared).chain(context.this_ptr().map(|this| ("this", this)))) {
            Some(found) => Err(EvalAltResult::ErrorTerminated(Dynamic::from(found), Position::NONE).into()),
            None => Ok(()),
        }
    }

    /// The value of a name that has no place in the scope of the running function.
    fn answer(&self, name: &str, mut context: EvalContext) -> Result<Option<Dynamic>, Box<EvalAltResult>> {
        if let Some(name) = name.strip_prefix(SHARE) {
            self.share(context.scope_mut(), name);
            return Ok(Some(Dynamic::UNIT));
        }
        if context.scope().contains(name) {
            return Ok(None);
        }
        let inner = self.read();
        let seen = || context.source().is_some_and(|source| inner.cells.contains(source));
        match inner.values.get(name).filter(|_| seen()) {
            // A method that changes it is at work: Rhai panics on some ways to read it now.
            Some(value) if value.is_shared() && value.is_locked() => {
                Err(EvalAltResult::ErrorDataRace(name.into(), Position::NONE).into())
            }
            value => Ok(value.cloned()),
        }
    }

    /// Makes a variable seen by functions. A constant is copied: it stays what it is.
    fn share(&self, scope: &mut Scope, name: &str) {
        if scope.is_constant(name) == Some(false)
            && let Some(value) = scope.get_mut(name)
            && !value.is_shared()
        {
            *value = std::mem::take(value).into_shared();
        }
        if let Some(value) = scope.get(name) {
            self.write().values.insert(name.into(), value.clone());
        }
    }

    /// Makes a cell one whose functions see the session: what they mention is shared from now on.
    pub(super) fn admit(&self, cell: &str, ast: &AST, scope: &mut Scope) {
        let mentioned = mentioned(ast);
        let new: Vec<_> = mentioned.difference(&self.read().mentioned).cloned().collect();
        for name in &new {
            self.share(scope, name);
        }
        let mut inner = self.write();
        inner.cells.insert(cell.into());
        inner.mentioned.extend(new);
    }

    /// A cell's statements with each declaration of a mentioned variable followed by its sharing; none if there is none.
    pub(super) fn sharing(&self, statements: &[Stmt]) -> Option<Vec<Stmt>> {
        let inner = self.read();
        let declared = |statement: &Stmt| match statement {
            Stmt::Var(declaration, ..) if inner.mentioned.contains(&declaration.0.name) => Some(declaration.0.clone()),
            _ => None,
        };
        if !statements.iter().any(|statement| declared(statement).is_some()) {
            return None;
        }
        let share = |ident: Ident| {
            let name = format!("{SHARE}{}", ident.name).into();
            Stmt::Share(Box::new([(Ident { name, pos: ident.pos }, None)].into_iter().collect()))
        };
        Some(statements.iter().flat_map(|s| std::iter::once(s.clone()).chain(declared(s).map(share))).collect())
    }

    /// Sets a variable, also for the functions that mention it.
    pub(super) fn set(&self, scope: &mut Scope<'static>, name: &str, value: Dynamic) {
        // A constant of this name is hidden, not changed.
        scope.set_or_push(name, value);
        let mentioned = self.read().mentioned.contains(name);
        if mentioned {
            self.share(scope, name);
        }
    }

    /// Declares a constant, also for the functions that mention it.
    pub(super) fn set_constant(&self, scope: &mut Scope<'static>, name: &str, value: Dynamic) {
        scope.push_constant_dynamic(name, value);
        let mentioned = self.read().mentioned.contains(name);
        if mentioned {
            self.share(scope, name);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names that a cell's functions take from outside: the parser gave them no place in the function's own scope.
fn mentioned(ast: &AST) -> BTreeSet<ImmutableString> {
    let mut names = BTreeSet::new();
    if ast.has_functions() {
        walk(&ast.clone_functions_only(), &mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Expr(Expr::Variable(variable, None, _))) if variable.0.is_none() && variable.2.is_empty() => {
                    names.insert(variable.1.clone());
                }
                Some(ASTNode::Stmt(Stmt::Share(captured))) => {
                    names.extend(captured.iter().filter(|(_, index)| index.is_none()).map(|(ident, _)| ident.name.clone()));
                }
                _ => {}
            }
            true
        });
    }
    names
}

/// A piece of text put in place of another. It holds no line break.
#[derive(Clone, Debug, PartialEq)]
struct Edit {
    /// From 1, in the text as written.
    line: usize,
    column: usize,
    /// Characters that are replaced.
    old: usize,
    new: String,
    /// The column as written that the new text stands for.
    stands_for: usize,
}

/// The edits that give a cell its meaning, in the order of the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits(Vec<Edit>);

impl Edits {
    /// What a cell needs. `is_function` knows the names of functions outside the cell.
    ///
    /// # Errors
    /// An edit is needed where the parser counts no further, or a function has the name of one that edits call.
    pub(super) fn new(text: &str, ast: &AST, scope: &Scope, is_function: impl Fn(&str) -> bool) -> Result<Self, ParseError> {
        for (.., function) in ast.shared_lib().iter_script_fn_info() {
            if [CAUGHT, COPIED].contains(&function.name.as_str()) {
                let message = format!("`{}` is a function that the language itself calls: another name is free", function.name);
                return Err(refused(message, function.body.start_position()));
            }
        }
        let lines = Lines::new(text);
        let Read { calls, catches, declared, walked, captured } = read(ast);
        let functions: BTreeSet<&str> = ast.iter_functions().map(|f| f.name).collect();
        let parameters: BTreeSet<&str> = ast.iter_functions().flat_map(|f| f.params).collect();
        let mut edits = Vec::new();
        for (name, position, empty) in calls {
            let name = name.as_str();
            // A variable of the session that holds a closure goes before any function of its name.
            let closure = declared.get(name).copied().unwrap_or_else(|| scope.get(name).is_some_and(holds_closure));
            let variable = declared.contains_key(name) || scope.contains(name) || parameters.contains(name);
            if (closure || (variable && !functions.contains(name) && !is_function(name)))
                && let Some(place) = place(position)?
            {
                edits.extend(called(&lines, name, place, empty).into_iter().flatten());
            }
        }
        for (name, position) in catches {
            if let Some(place) = place(position)? {
                edits.push(behind(place, format!("{name}={CAUGHT}({name});")));
            }
        }
        let mentioned = mentioned(ast);
        for (name, position) in walked {
            let shared = || scope.get(&name).is_some_and(Dynamic::is_shared);
            if (captured.contains(&name) || mentioned.contains(&name) || shared())
                && let Some((line, column)) = place(position)?
            {
                let (old, new) = (name.chars().count(), format!("{COPIED}({name})"));
                edits.push(Edit { line, column, old, new, stands_for: column });
            }
        }
        let Polls { blocks, closures } = Polls::new(ast);
        for position in blocks {
            edits.extend(place(position)?.map(|place| behind(place, format!("{POLL};"))));
        }
        let pieces = if closures.is_empty() { Vec::new() } else { outline(text).pieces };
        for position in closures {
            if let Some(place) = place(position)? {
                edits.extend(polled(&lines, &pieces, place).into_iter().flatten());
            }
        }
        // What is put in before a name comes before what replaces it.
        edits.sort_by_key(|edit| (edit.line, edit.column, edit.old));
        Ok(Edits(edits))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edited text.
    pub(super) fn apply(&self, text: &str) -> String {
        let (mut edited, mut edits) = (String::with_capacity(text.len() + 16 * self.0.len()), self.0.iter().peekable());
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                edited.push('\n');
            }
            let (mut rest, mut column) = (line, 1);
            while let Some(edit) = edits.next_if(|edit| edit.line == number + 1) {
                let (before, after) = split_at_char(rest, edit.column.saturating_sub(column));
                edited.push_str(before);
                edited.push_str(&edit.new);
                rest = split_at_char(after, edit.old).1;
                column = edit.column + edit.old;
            }
            edited.push_str(rest);
        }
        edited
    }

    /// The column as written of a place in the edited text.
    pub(super) fn written(&self, line: usize, column: usize) -> usize {
        let first = self.0.partition_point(|edit| edit.line < line);
        // Characters by which the edited text is ahead of the written one.
        let (mut added, mut removed) = (0, 0);
        for edit in self.0[first..].iter().take_while(|edit| edit.line == line) {
            let start = edit.column + added - removed;
            if column < start {
                break;
            }
            let length = edit.new.chars().count();
            if column < start + length {
                return edit.stands_for;
            }
            (added, removed) = (added + length, removed + edit.old);
        }
        (column + removed).saturating_sub(added)
    }
}

/// Line and column, from 1.
type Place = (usize, usize);

/// Where an edit is made; none for what has no place of its own.
///
/// # Errors
/// The parser's lines and columns have come to their end: nothing behind them has a place.
fn place(position: Position) -> Result<Option<Place>, ParseError> {
    const LAST: usize = u16::MAX as usize;
    match (position.line(), position.position()) {
        (Some(line), Some(column)) if line == LAST || column == LAST => {
            let message =
                format!("code stands in the first {} lines, and columns of a line: break the line, or import files", LAST - 1);
            Err(refused(message, Position::new(position.line().map_or(1, |line| line as u16), 0)))
        }
        (Some(line), Some(column)) => Ok(Some((line, column))),
        _ => Ok(None),
    }
}

fn refused(message: String, position: Position) -> ParseError {
    ParseError(Box::new(ParseErrorType::BadInput(LexError::Runtime(message))), position)
}

/// Puts something behind the bracket at a place.
fn behind((line, column): Place, new: String) -> Edit {
    Edit { line, column: column + 1, old: 0, new, stands_for: column }
}

/// A text with the bytes at which its lines begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Lines { text, starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect() }
    }

    /// From a place to the end of the text.
    fn from(&self, (line, column): Place) -> Option<&'t str> {
        let line = self.text.get(*self.starts.get(line - 1)?..)?;
        Some(split_at_char(line, column - 1).1)
    }

    fn place(&self, byte: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= byte);
        (line, self.text[self.starts[line - 1]..byte].chars().count() + 1)
    }
}

/// `f(x)` as `call(f,x)`; none if the bracket does not follow the name.
fn called(lines: &Lines<'_>, name: &str, (line, column): Place, empty: bool) -> Option<[Edit; 2]> {
    let after = lines.from((line, column))?.strip_prefix(name)?;
    let gap = after.len() - after.trim_start_matches([' ', '\t']).len();
    after[gap..].starts_with('(').then(|| {
        let length = name.chars().count();
        let inside = column + length + after[..gap].chars().count() + 1;
        let new = format!("{name}{}", if empty { "" } else { "," });
        [
            Edit { line, column, old: length, new: "call".into(), stands_for: column },
            Edit { line, column: inside, old: 0, new, stands_for: column },
        ]
    })
}

/// `|x| 1` as `|x| {__poll;1}`.
fn polled(lines: &Lines<'_>, pieces: &[Piece], place: Place) -> Option<Vec<Edit>> {
    let text = lines.text;
    let start = text.len() - lines.from(place)?.len();
    let around = pieces.get(pieces.partition_point(|(_, range)| range.end <= start))?;
    // In the text of a string what is between `${` and `}` has pieces of its own.
    let inner: Vec<Piece> = match around {
        (Kind::Text, range) => {
            outline(&text[start..range.end]).pieces.into_iter().map(|(kind, r)| (kind, r.start + start..r.end + start)).collect()
        }
        _ => Vec::new(),
    };
    let pieces = if inner.is_empty() { pieces } else { &inner[..] };
    let piece_at = |byte: usize| pieces.get(pieces.partition_point(|(_, range)| range.end <= byte));
    let is_comment = |byte: usize| piece_at(byte).is_some_and(|(kind, range)| *kind == Kind::Comment && range.start <= byte);
    let bars = text[start..].match_indices('|').map(|(at, _)| start + at).filter(|at| !is_comment(*at));
    let body = bars.take(2).last()? + 1;
    let (mut depth, mut end, mut first) = (0usize, body, None);
    for (kind, range) in &pieces[pieces.partition_point(|(_, range)| range.end <= body)..] {
        match kind {
            Kind::Comment => continue,
            Kind::Open => depth += 1,
            Kind::Close | Kind::Comma | Kind::Semicolon if depth == 0 => break,
            Kind::Close => depth -= 1,
            _ => {}
        }
        first.get_or_insert(range.clone());
        end = range.end;
    }
    let put = |byte: usize, new: String| {
        let (line, column) = lines.place(byte);
        Edit { line, column, old: 0, new, stands_for: column }
    };
    let first = first?;
    match &text[first.clone()] {
        "{" => Some(vec![put(first.end, format!("{POLL};"))]),
        _ => Some(vec![put(body, format!("{{{POLL};")), put(end, "}".into())]),
    }
}

/// What the edits of a cell depend on.
#[derive(Default)]
struct Read {
    /// Calls by name, and whether they have no argument.
    calls: Vec<(ImmutableString, Position, bool)>,
    /// Names that catch errors, with the places of their blocks.
    catches: Vec<(ImmutableString, Position)>,
    /// Declared variables, and whether they hold a closure that the whole cell sees.
    declared: BTreeMap<ImmutableString, bool>,
    /// Variables that a method walks with a closure, and their places.
    walked: Vec<(ImmutableString, Position)>,
    /// Variables that closures use.
    captured: BTreeSet<ImmutableString>,
}

/// Methods that call a closure for each element and change nothing. Rhai keeps a variable locked while its method runs, so
/// that a closure, or a function that it calls, cannot read it.
const WALKING: &[&str] =
    &["map", "filter", "reduce", "reduce_rev", "all", "some", "find", "find_map", "index_of", "zip", "order", "group_by"];

/// Methods between a variable and one that walks, which change nothing either.
const READING: &[&str] = &["keys", "values", "to_array", "head", "tail", "select", "extract"];

/// Whether a chain of properties and methods comes to one that walks.
fn walks(chain: &Expr) -> bool {
    match chain {
        Expr::MethodCall(call, _) => WALKING.contains(&call.name.as_str()),
        Expr::Dot(link, flags, _) | Expr::Index(link, flags, _) => {
            let changes = |link: &Expr| matches!(link, Expr::MethodCall(call, _) if !READING.contains(&call.name.as_str()));
            walks(&link.lhs) || (!flags.contains(ASTFlags::BREAK) && !changes(&link.lhs) && walks(&link.rhs))
        }
        _ => false,
    }
}

fn read(ast: &AST) -> Read {
    let mut found = Read::default();
    walk(ast, &mut |path: &[ASTNode]| {
        match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position)))
                if call.namespace.is_empty() && call.op_token.is_none() && !call.capture_parent_scope =>
            {
                found.calls.push((call.name.clone(), *position, call.args.is_empty()));
            }
            Some(ASTNode::Stmt(Stmt::TryCatch(flow, _))) => {
                if let Expr::Variable(name, ..) = &flow.expr {
                    found.catches.push((name.1.clone(), flow.branch.position()));
                }
            }
            Some(ASTNode::Stmt(Stmt::Var(declaration, ..))) => {
                let closure = path.len() == 1 && is_closure(&declaration.1);
                *found.declared.entry(declaration.0.name.clone()).or_insert(false) |= closure;
            }
            Some(ASTNode::Expr(Expr::Dot(chain, flags, _) | Expr::Index(chain, flags, _))) => {
                if let Expr::Variable(name, _, position) = &chain.lhs
                    && name.2.is_empty()
                    && !flags.contains(ASTFlags::BREAK)
                    && walks(&chain.rhs)
                {
                    found.walked.push((name.1.clone(), *position));
                }
            }
            Some(ASTNode::Stmt(Stmt::Share(names))) => found.captured.extend(names.iter().map(|(ident, _)| ident.name.clone())),
            Some(ASTNode::Stmt(Stmt::For(flow, _))) => {
                for ident in flow.1.iter().chain([&flow.0]) {
                    found.declared.entry(ident.name.clone()).or_insert(false);
                }
            }
            _ => {}
        }
        true
    });
    found
}

/// Bytes of a part of a long script.
const PART: usize = 8 << 10;

/// A parsed text.
///
/// # Errors
/// What Rhai says of it.
pub(super) fn compile(engine: &Engine, scope: &Scope, text: &str) -> Result<AST, ParseError> {
    let mut whole = AST::empty();
    for part in parts(text) {
        whole.combine(engine.compile_with_scope(scope, part)?);
    }
    // Not all that is deep is so for the parser: it reads `1 + 1 + …` in a loop.
    let mut deep = false;
    walk(&whole, &mut |path: &[ASTNode]| {
        deep |= path.len() > stack::DEEPEST;
        !deep
    });
    match deep {
        true => Err(refused(stack::TOO_DEEP.into(), Position::NONE)),
        false => Ok(whole),
    }
}

/// A text in parts that are read one by one, each with empty lines for what is above it: Rhai's parser compares every name
/// with all functions before it, so that reading a long script whole takes time quadratic in its length.
fn parts(text: &str) -> impl Iterator<Item = String> {
    let (mut cuts, mut depth, mut comment) = (vec![0], 0usize, None);
    let pieces = if text.len() > PART { outline(text).pieces } else { Vec::new() };
    for (kind, range) in pieces {
        match kind {
            // Comments above a function belong to it.
            Kind::Comment => {
                comment.get_or_insert(range.start);
                continue;
            }
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        let start = comment.take().unwrap_or(range.start);
        let far = cuts.last().is_some_and(|cut| start - cut >= PART);
        if depth == 0 && far && text[range] == *"fn" && text[..start].ends_with('\n') {
            cuts.push(start);
        }
    }
    cuts.push(text.len());
    let ranges: Vec<_> = cuts.windows(2).map(|ends| ends[0]..ends[1]).collect();
    ranges.into_iter().map(|range| "\n".repeat(text[..range.start].matches('\n').count()) + &text[range])
}

/// The closures that a cell writes, in the order of its tree.
pub(super) fn closures(ast: &AST) -> Vec<FnPtr> {
    let mut closures = Vec::new();
    walk(ast, &mut |path: &[ASTNode]| {
        if let Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) = path.last() {
            closures.extend(value.read_lock::<FnPtr>().map(|closure| closure.clone()));
        }
        true
    });
    closures
}

fn holds_closure(value: &Dynamic) -> bool {
    value.read_lock::<FnPtr>().is_some()
}

/// A closure as written: a constant, or with the variables that it captures put in first.
fn is_closure(expression: &Expr) -> bool {
    match expression {
        Expr::DynamicConstant(value, _) => holds_closure(value),
        Expr::FnCall(call, _) => call.name == "curry",
        Expr::Stmt(block) => match block.statements().last() {
            Some(Stmt::Expr(last)) => is_closure(last),
            Some(Stmt::FnCall(call, _)) => call.name == "curry",
            _ => false,
        },
        _ => false,
    }
}

fn split_at_char(text: &str, n: usize) -> (&str, &str) {
    text.split_at(text.char_indices().nth(n).map_or(text.len(), |(byte, _)| byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_lead_back_to_what_was_written() {
        let mut engine = Engine::new();
        engine.set_optimization_level(rhai::OptimizationLevel::None);
        let text = "let f = |x| x;\n  \"ü\" + f(1) + f (f(2)); g(h());\ntry { f() } catch (e) { e }";
        let edits = Edits::new(text, &engine.compile(text).unwrap(), &Scope::new(), |_| false).unwrap();
        let edited = edits.apply(text);
        assert_eq!(
            edited,
            "let f = |x| x;\n  \"ü\" + call(f,1) + call (f,call(f,2)); g(h());\ntry { call(f) } catch (e) {e=caught(e); e }"
        );
        let column = |text: &str, line: usize, what: &str| {
            let line = text.lines().nth(line - 1).unwrap();
            line[..line.find(what).unwrap()].chars().count() + 1
        };
        for (line, what) in [(2, "ü"), (2, "1"), (2, "+"), (2, "2"), (2, "g"), (2, "h"), (3, "catch"), (3, " e }")] {
            assert_eq!(edits.written(line, column(&edited, line, what)), column(text, line, what), "{what}");
        }
        assert_eq!(edits.written(2, column(&edited, 2, "call")), column(text, 2, "f(1"));
        assert_eq!(edits.written(2, column(&edited, 2, "f,1")), column(text, 2, "f(1"));
    }

    #[test]
    fn a_long_script_is_read_in_parts_that_keep_their_lines() {
        let function = |i: usize| format!("/// The {i}th.\nfn f{i}(h) {{\n    h({i})\n}}\n");
        let text: String = (0..2000).map(function).collect();
        let parts: Vec<String> = parts(&text).collect();
        assert!(parts.len() > 5 && parts.iter().all(|part| part.trim_start().len() < 2 * PART));
        let ast = compile(&Engine::new(), &Scope::new(), &text).unwrap();
        assert_eq!(ast.iter_functions().count(), 2000);
        let edits = Edits::new(&text, &ast, &Scope::new(), |_| false).unwrap();
        assert_eq!(edits.apply(&text), text.replace("    h(", "    call(h,").replace("(h) {", "(h) {__poll;"));
    }
}
