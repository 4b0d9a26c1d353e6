//! Comparisons that have no meaning as they are written: `"3" > 2`, `() < 1`, `1 < 2 < 3`. Rhai's own are false, without a
//! word. What stands in variables is compared by Rhai.

use crate::error::Error;
use crate::script::tree::walk;
use rhai::{AST, ASTNode, Expr, FnCallExpr, Position, Stmt};

/// The first comparison of values that have no order, and its place.
pub(super) fn unlike(ast: &AST) -> Option<(Error, Position)> {
    let mut found = None;
    walk(ast, &mut |path: &[ASTNode]| {
        if let Some(ASTNode::Expr(Expr::FnCall(call, place)) | ASTNode::Stmt(Stmt::FnCall(call, place))) = path.last() {
            found = fault(call).map(|error| (error, *place));
        }
        found.is_none()
    });
    found
}

fn is_order(call: &FnCallExpr) -> bool {
    call.op_token.is_some() && call.args.len() == 2 && ["<", "<=", ">", ">="].contains(&call.name.as_str())
}

fn fault(call: &FnCallExpr) -> Option<Error> {
    let [left, right] = &call.args[..] else { return None };
    if !is_order(call) {
        return None;
    }
    let sign = call.name.as_str();
    if let Expr::FnCall(inner, _) = left
        && is_order(inner)
    {
        let (first, second) = (&inner.name, sign);
        return Some(
            Error::input(format!("`a {first} b {second} c` compares the truth value of `a {first} b` with `c`"))
                .help(format!("`a {first} b && b {second} c`; of tensors `(a {first} b) & (b {second} c)`")),
        );
    }
    let (left, right) = (kind(left), kind(right));
    let ordered = |kind: Option<&str>| kind.is_none_or(|kind| !["()", "an array", "a map"].contains(&kind));
    if left.is_none_or(|left| right.is_none_or(|right| left == right)) && ordered(left) && ordered(right) {
        return None;
    }
    let what = |kind: Option<&'static str>| kind.unwrap_or("any value");
    let error = Error::input(format!("`{sign}` has no meaning between {} and {}", what(left), what(right)));
    Some(match (left, right) {
        (Some("()"), _) | (_, Some("()")) => error.help("`x == ()` asks whether x is nothing"),
        (Some("an array"), _) | (_, Some("an array")) => {
            error.help("numbers one by one are compared in tensors: `tensor(list) > 2`")
        }
        (Some("text"), Some("a number")) | (Some("a number"), Some("text")) => {
            error.help("`parse_int(text)` and `parse_float(text)` give the number that a text holds")
        }
        _ => error,
    })
}

/// What an expression is, where its form says it.
fn kind(expression: &Expr) -> Option<&'static str> {
    match expression {
        Expr::IntegerConstant(..) | Expr::FloatConstant(..) => Some("a number"),
        Expr::StringConstant(..) | Expr::InterpolatedString(..) | Expr::CharConstant(..) => Some("text"),
        Expr::BoolConstant(..) | Expr::And(..) | Expr::Or(..) => Some("a truth value"),
        Expr::Unit(_) => Some("()"),
        Expr::Array(..) => Some("an array"),
        Expr::Map(..) => Some("a map"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::session::tests::{session, value};

    #[test]
    fn what_has_no_order_is_not_compared() {
        let mut session = session();
        value(&mut session, "let x = 2; let t = tensor([1, 2, 3]);");
        for (text, message, help) in [
            ("\"3\" > 2", "`>` has no meaning between text and a number", "parse_int"),
            ("() < 1", "`<` has no meaning between () and a number", "`x == ()`"),
            ("x >= ()", "`>=` has no meaning between any value and ()", "`x == ()`"),
            ("1 < 2 < 3", "`a < b < c` compares the truth value of `a < b` with `c`", "`a < b && b < c`"),
            ("if 0 <= x < 3 { 1 }", "`a <= b < c` compares the truth value of `a <= b` with `c`", "`a <= b && b < c`"),
            ("[1, 2].filter(|v| v > true && \"a\" < 1)", "`<` has no meaning between text and a number", ""),
            ("fn f() { #{a: 1} < 2 }", "`<` has no meaning between a map and a number", ""),
            ("true < 1", "`<` has no meaning between a truth value and a number", ""),
        ] {
            let report = session.eval(text, "In[2]").err().unwrap_or_else(|| panic!("{text} is not refused"));
            assert_eq!(report.message, message, "{text}");
            assert!(report.help.join("\n").contains(help) && !report.frames.is_empty(), "{text}: {report}");
        }
        assert_eq!(value(&mut session, "[1 < 2, 1.5 > x, \"a\" < \"b\", 'a' < \"b\", false < true, x > 1 && x < 3]"), {
            "[true, false, true, true, true, true]"
        });
        assert_eq!(value(&mut session, "[() == 1, \"3\" == 3, (t > 1).sum() > 1, (1 < t).any()]"), "[false, false, true, true]");
    }
}
