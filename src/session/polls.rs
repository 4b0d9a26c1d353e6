//! Where a script looks whether it was asked to stop. Each variable that it reads or sets is such a place already
//! (`names`), at no cost; a loop, function or closure that may go round without one gets a statement for it, and so does a
//! function so deep that a thousand of its calls could come to the end of the stack. Rhai's own hook for this is asked at
//! every operation, which slows loops of scalar steps.

use crate::script::tree::walk;
use rhai::{AST, ASTNode, Expr, FnPtr, Module, Position, ScriptFuncDef, Shared, Stmt, StmtBlock};
use std::collections::BTreeMap;

/// The statement at such a place: a syntax of ours, which no script can define anew.
pub(super) const POLL: &str = "__poll";

/// Nodes of a function's tree in one another from which on each call of it looks at the stack.
const DEEP: usize = 32;

/// What needs a poll.
#[derive(Default)]
pub(super) struct Polls {
    /// Where the blocks of loops and functions begin.
    pub(super) blocks: Vec<Position>,
    /// Where closures begin.
    pub(super) closures: Vec<Position>,
}

impl Polls {
    /// The places of a parsed text.
    pub(super) fn new(ast: &AST) -> Polls {
        let (mut polls, mut closures) = (Polls::default(), BTreeMap::<String, Vec<Position>>::new());
        walk(ast, &mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::While(flow, _))) if !reads(expression(&flow.expr).or_else(|| block(&flow.body))) => {
                    polls.blocks.push(flow.body.position());
                }
                // `continue` leads to the condition.
                Some(ASTNode::Stmt(Stmt::Do(flow, ..))) if !reads(block(&flow.body)) && !reads(expression(&flow.expr)) => {
                    polls.blocks.push(flow.body.position());
                }
                Some(ASTNode::Stmt(Stmt::For(walk, _))) if !reads(block(&walk.2.body)) => {
                    polls.blocks.push(walk.2.body.position());
                }
                Some(ASTNode::Expr(Expr::DynamicConstant(value, position))) => {
                    if let Some(closure) = value.read_lock::<FnPtr>() {
                        closures.entry(closure.fn_name().into()).or_default().push(*position);
                    }
                }
                _ => {}
            }
            true
        });
        for (.., function) in ast.shared_lib().iter_script_fn_info() {
            if needs_poll(function) {
                match closures.remove(function.name.as_str()) {
                    Some(places) => polls.closures.extend(places),
                    None => polls.blocks.push(function.body.start_position()),
                }
            }
        }
        polls
    }
}

fn needs_poll(function: &Shared<ScriptFuncDef>) -> bool {
    // Rhai shows the statements of a function only as a walk through a tree.
    let mut module = Module::new();
    module.set_script_fn(function.clone());
    let (mut found, mut deep) = (None, false);
    walk(&AST::new(Vec::<Stmt>::new(), module), &mut |path: &[ASTNode]| {
        if let [ASTNode::Stmt(outermost)] = path {
            found = found.or_else(|| statement(outermost));
        }
        deep |= path.len() > DEEP;
        !deep
    });
    deep || !reads(found)
}

fn reads(found: Option<bool>) -> bool {
    found == Some(true)
}

/// What is met first as an expression runs: true for a variable of the scope, false for anything that may leave the loop or
/// function before one; none if neither is met.
fn expression(value: &Expr) -> Option<bool> {
    match value {
        Expr::Variable(variable, ..) => variable.2.is_empty().then_some(true),
        Expr::InterpolatedString(parts, _) => parts.iter().find_map(expression),
        Expr::Array(items, _) => items.iter().find_map(expression),
        Expr::Map(entries, _) => entries.0.iter().find_map(|(_, value)| expression(value)),
        Expr::Stmt(inner) => block(inner),
        Expr::FnCall(call, _) => call.args.iter().find_map(expression),
        Expr::Dot(link, ..) | Expr::Index(link, ..) => expression(&link.lhs).or_else(|| perhaps([&link.rhs])),
        Expr::MethodCall(call, _) => perhaps(&call.args),
        Expr::And(list, _) | Expr::Or(list, _) | Expr::Coalesce(list, _) => {
            list.first().and_then(expression).or_else(|| perhaps(list.iter().skip(1)))
        }
        Expr::Custom(..) => Some(false),
        _ => None,
    }
}

/// Of expressions that may be left out, what one reads does not count.
fn perhaps<'e>(values: impl IntoIterator<Item = &'e Expr>) -> Option<bool> {
    values.into_iter().find_map(expression).map(|_| false)
}

fn block(block: &StmtBlock) -> Option<bool> {
    block.iter().find_map(statement)
}

fn statement(statement: &Stmt) -> Option<bool> {
    match statement {
        Stmt::Noop(_) => None,
        Stmt::Expr(value) => expression(value),
        Stmt::FnCall(call, _) => call.args.iter().find_map(expression),
        Stmt::Var(declaration, ..) => expression(&declaration.1),
        Stmt::Assignment(parts) => expression(&parts.1.rhs).or_else(|| expression(&parts.1.lhs)),
        Stmt::Block(inner) => block(inner),
        Stmt::If(flow, _) | Stmt::While(flow, _) => expression(&flow.expr).or(Some(false)),
        Stmt::Switch(parts, _) => expression(&parts.0).or(Some(false)),
        Stmt::For(walk, _) => expression(&walk.2.expr).or(Some(false)),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{session, value};
    use super::*;
    use rhai::{Engine, OptimizationLevel};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    #[test]
    fn what_reads_a_variable_needs_no_poll() {
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::None);
        for (text, blocks, closures) in [
            ("loop { }", 1, 0),
            ("let n = 0; loop { n += 1; }", 0, 0),
            ("let n = 0; loop { n = 1; }", 0, 0),
            ("let n = 0; loop { f(); g(1, [n]); }", 0, 0),
            ("let n = 0; loop { if f() { continue; } n += 1; }", 1, 0),
            ("let n = 0; loop { g({ continue; }, n); }", 1, 0),
            ("let n = 0; loop { f() && n; }", 1, 0),
            ("let n = 0; loop { n && f(); }", 0, 0),
            ("let n = 0; loop { f() ?? n; }", 1, 0),
            ("let n = 0; loop { f()?.g(n); }", 1, 0),
            ("let n = 0; loop { try { f(); n } catch { } }", 1, 0),
            ("let n = 0; while n < 3 { }", 0, 0),
            ("while f() { }", 1, 0),
            ("let n = 0; do { } while n < 3;", 0, 0),
            ("do { f(); } until g();", 1, 0),
            ("for i in 0..9 { }", 1, 0),
            ("for i in 0..9 { i; }", 0, 0),
            ("let n = 0; for i in n { loop { break; } }", 2, 0),
            ("fn f() { f(); f() }", 1, 0),
            ("fn f(n) { if n > 0 { f(n - 1) } }", 0, 0),
            ("fn f(n) { f(1) + n }", 0, 0),
            ("fn f() { this += 1 }", 1, 0),
            ("let f = |x| x;", 0, 0),
            ("let f = |x| 1;", 0, 1),
            ("[|| 1, |x| 2, || { 3 }]", 0, 3),
            ("|x| [1].map(|y| x)", 0, 1),
            ("`${[1].map(|x| 1)}`", 0, 1),
            ("let k = loop { break loop { } }; k", 2, 0),
            ("let k = loop { break [1].map(|x| 1); }; k", 1, 1),
        ] {
            let polls = Polls::new(&engine.compile(text).unwrap());
            assert_eq!((polls.blocks.len(), polls.closures.len()), (blocks, closures), "{text}");
        }
        let nested = |depth: usize| format!("fn f(n) {{ n + {}1{} }}", "[".repeat(depth), "]".repeat(depth));
        engine.set_max_expr_depths(0, 0);
        assert!(Polls::new(&engine.compile(nested(DEEP / 2)).unwrap()).blocks.is_empty());
        assert_eq!(Polls::new(&engine.compile(nested(DEEP)).unwrap()).blocks.len(), 1);
    }

    #[test]
    fn whatever_a_script_does_it_can_be_stopped() {
        let mut session = session();
        session.eval("let n = 0; let wide = arange(3000000).to_array(); fn twice() { twice(); twice() }", "In[0]").unwrap();
        for text in [
            "loop { }",
            "loop { ; }",
            "while true { 1 + 1; }",
            "do { } while 1 < 2;",
            "for i in 0..9223372036854775807 { }",
            "loop { n += 1; }",
            "loop { n = 1; }",
            "loop { try { throw 1; } catch { } }",
            "loop { try { nothing; } catch (e) { } }",
            "loop { try { loop { } } catch { } }",
            "fn f() { loop { } } f()",
            "fn f(x) { x; loop { } } f(1)",
            "let f = || { loop { } }; f()",
            "let f = |x| loop { }; f(1)",
            "loop { switch 1 { 1 => 2, _ => 3 } }",
            "loop { wide.for_each(|| this = 1); }",
            "loop { wide.map(|x| 1); }",
            "loop { wide.filter(|x| return true); }",
            "loop { wide.map(|x /* | */ | #{ a: \"|, }\" }) ; }",
            "loop { [1].map(|x| loop { }); }",
            "loop { wide.sort(|a, b| 1); }",
            "loop { `${1}`; }",
            "loop { break loop { } }",
            "loop { break { while true { } }; }",
            "loop { `a ${wide.map(|x| 1).len()} b`; }",
            "loop { `a ${`${wide.filter(|x| { true }).len()}`} \" ' b`; }",
            "loop { #{ a: [1, 2] }; }",
            "fn step() { loop { } } 1.step()",
        ] {
            let flag = session.work().cancel_flag();
            let ran = std::thread::scope(|scope| {
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(40));
                    flag.store(true, Ordering::Relaxed);
                });
                session.eval(text, "In[1]")
            });
            session.work().reset_cancel();
            assert!(ran.is_err_and(|report| report.is_interrupted()), "{text}");
            assert_eq!(value(&mut session, "wide.len()"), "3000000", "{text}");
        }
    }

    #[test]
    fn polls_change_no_meaning_and_no_place() {
        let mut session = session();
        for (text, right) in [
            ("[1, 2].map(|x| 1)", "[1, 1]"),
            ("[1, 2].map(|x| #{ a: 1 }).len()", "2"),
            ("[1, 2].map(|x| // why\n 5 // because\n)", "[5, 5]"),
            ("let f = || 7; f() + f()", "14"),
            ("let f = || || 7; let g = f(); g()", "7"),
            ("let f = |x| if true { 1 } else { 2 }; f(0)", "1"),
            ("let f = || -3; f()", "-3"),
            ("let f = || return 4; f()", "4"),
            ("fn seven() { 7 } seven()", "7"),
            ("fn nothing_much() { } type_of(nothing_much())", "\"()\""),
            ("let k = 0; for i in 0..3 { } k", "0"),
            ("let k = loop { break 5; }; k", "5"),
            ("let k = loop { break [1, 2].map(|x| [0]); }; k", "[[0], [0]]"),
            ("let k = loop { break [1, 2].map(|x| 0).len() }; k", "2"),
            ("let f = |x| x + 1; loop { break f(2); }", "3"),
            ("let list = [1, 2]; loop { break list.map(|x| x * list.len()); }", "[2, 4]"),
            ("`a ${[1, 2].map(|x| `|${7}`).len()} b`", "\"a 2 b\""),
            ("let m = #{ f: |x| 1, g: 2 }; m.g + m.f.call(0)", "3"),
            ("switch 1 { 1 => [|x| 3, |y| 4][1].call(0), _ => 0 }", "4"),
        ] {
            assert_eq!(value(&mut session, text), right, "{text}");
        }
        for (text, line, column) in
            [("loop { nothing }", 1, 8), ("[1].map(|x| 1 + [2].nothing())", 1, 21), ("[1].map(|x| 1); nothing", 1, 17)]
        {
            let report = session.eval(text, "In[1]").unwrap_err();
            assert_eq!((report.frames[0].line, report.frames[0].column), (line, column), "{text}: {report}");
        }
        session.eval("let outer = 5;", "In[2]").unwrap();
        assert_eq!(value(&mut session, "fn inner() { loop { break outer } } inner()"), "5");
        let report = session.eval("fn copied(t) { t }", "In[3]").unwrap_err();
        assert!(report.message.contains("`copied` is a function that the language itself calls"), "{report}");
        // The parser's columns end at 65535.
        let long = format!("let s = \"{}\"; ", "a".repeat(70_000));
        assert_eq!(value(&mut session, &format!("{long}s.len()")), "70000");
        let report = session.eval(&format!("{long}loop {{ }}"), "In[4]").unwrap_err();
        assert!(report.message.contains("code stands in the first 65534"), "{report}");
        let report = session.eval("eval(\"1 + 1\")", "In[1]").unwrap_err();
        assert!(report.message == "`eval` means nothing here" && report.help[0].contains("closure"), "{report}");
    }

    #[test]
    fn a_long_text_with_many_polls_is_read_in_linear_time() {
        let mut session = session();
        let text: String = (0..8000).map(|i| format!("let f{i} = [1, 2].map(|x| {i});\n")).collect();
        let begun = std::time::Instant::now();
        session.eval(&text, "In[1]").unwrap();
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn calls_of_deep_functions_end_before_the_stack_does() {
        let mut session = session();
        let nested = |depth: usize, inside: &str| format!("{}{inside}{}.len()", "[".repeat(depth), "]".repeat(depth));
        for (text, fails) in [
            // A thousand calls as deep as those that are not looked at.
            (format!("fn f(n) {{ if n > 990 {{ n }} else {{ {} }} }} f(0)", nested(DEEP / 2 - 4, "f(n + 1)")), false),
            (format!("fn f(n) {{ if n > 300 {{ n }} else {{ {} }} }} f(0)", nested(2000, "f(n + 1)")), true),
            (format!("fn f(n) {{ {} }} f(0)", nested(15000, "f(n)")), true),
        ] {
            let ran = session.eval(&text, "In[1]");
            assert_eq!(ran.is_err(), fails);
            assert!(ran.err().is_none_or(|report| report.message == "calls are nested too deeply"));
            assert_eq!(value(&mut session, "1"), "1");
        }
    }
}
