//! What Rhai raised, read back from its text: of an error that a script caught nothing else is left, and a script that
//! throws it again wants the report that it would have had uncaught.

use crate::script::Raised;
use rhai::{EvalAltResult, Position};

/// The error, with its chain of calls.
pub(super) fn read(raised: &Raised) -> EvalAltResult {
    let mut lines = raised.text.lines();
    let mut line = Line::of(lines.next().unwrap_or_default());
    let mut error = base(line.text, line.position);
    for outer in lines {
        line = Line::of(outer);
        let (from, inner) = (line.from.unwrap_or_default().to_string(), Box::new(error));
        error = if let Some(function) = line.text.strip_prefix("in call to function ") {
            EvalAltResult::ErrorInFunctionCall(function.trim_matches('\'').into(), from, inner, line.position)
        } else if let Some(module) = line.text.strip_prefix("in module ") {
            EvalAltResult::ErrorInModule(module.trim_matches('\'').into(), inner, line.position)
        } else {
            EvalAltResult::ErrorInFunctionCall("anon$".into(), from, inner, line.position)
        };
    }
    error.set_position(raised.place.position);
    error
}

/// A line of Rhai's text: `in call to function 'f' (from 'In[1]') @ 'In[2]' (line 3, position 5)`.
struct Line<'t> {
    text: &'t str,
    /// The source of the function.
    from: Option<&'t str>,
    position: Position,
}

impl<'t> Line<'t> {
    fn of(text: &'t str) -> Self {
        let (text, position) = match text.rsplit_once(" (line ") {
            Some((before, numbers)) => {
                let mut numbers = numbers.trim_end_matches(')').split(", position ").map(|n| n.parse().unwrap_or(0));
                (before, Position::new(numbers.next().unwrap_or(1).max(1), numbers.next().unwrap_or(0)))
            }
            None => (text, Position::NONE),
        };
        let text = text.rsplit_once(" @ '").filter(|(_, source)| source.ends_with('\'')).map_or(text, |(before, _)| before);
        let called = text.rsplit_once(" (from '").and_then(|(before, from)| Some((before, from.strip_suffix("')")?)));
        let (text, from) = called.map_or((text, None), |(before, from)| (before, Some(from)));
        Line { text, from, position }
    }
}

/// The innermost error.
fn base(text: &str, position: Position) -> EvalAltResult {
    use EvalAltResult as E;
    type Named = fn(String, Position) -> EvalAltResult;
    let named: [(&str, Named); 9] = [
        ("Variable not found: ", E::ErrorVariableNotFound),
        ("Property not found: ", E::ErrorPropertyNotFound),
        ("Function not found: ", E::ErrorFunctionNotFound),
        ("Module not found: ", E::ErrorModuleNotFound),
        ("Data race detected on ", E::ErrorDataRace),
        ("Indexer unavailable: ", E::ErrorIndexingType),
        ("Cannot modify constant ", E::ErrorAssignmentToConstant),
        ("Unknown property ", |text, at| E::ErrorDotExpr(format!("Unknown property {text}"), at)),
        ("No writable property ", |text, at| E::ErrorDotExpr(format!("No writable property {text}"), at)),
    ];
    if let Some((rest, make)) = named.iter().find_map(|(prefix, make)| Some((text.strip_prefix(prefix)?, make))) {
        return make(rest.into(), position);
    }
    type Mismatch = fn(String, String, Position) -> EvalAltResult;
    let mismatches: [(&str, Mismatch); 2] =
        [("Data type incorrect: ", E::ErrorMismatchDataType), ("Output type incorrect: ", E::ErrorMismatchOutputType)];
    for (prefix, make) in mismatches {
        if let Some((actual, expected)) = text.strip_prefix(prefix).and_then(|rest| rest.rsplit_once(" (expecting ")) {
            return make(expected.trim_end_matches(')').into(), actual.into(), position);
        }
    }
    type Bounds = fn(usize, i64, Position) -> EvalAltResult;
    let bounds: [(&str, Bounds); 3] = [
        ("Array index ", E::ErrorArrayBounds),
        ("String index ", E::ErrorStringBounds),
        ("Bit-field index ", E::ErrorBitFieldBounds),
    ];
    for (prefix, make) in bounds {
        if let Some((index, room)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once(" out of bounds: ")) {
            let size = room.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
            return make(size, index.parse().unwrap_or(0), position);
        }
    }
    match text {
        "For loop expects iterable type" => E::ErrorFor(position),
        "'this' not bound" => E::ErrorUnboundThis(position),
        text => E::ErrorArithmetic(text.into(), position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Place;
    use rhai::Engine;

    #[test]
    fn what_rhai_writes_is_read_back() {
        let engine = Engine::new();
        for text in [
            "nothing",
            "let m = #{}; m.a.b.c",
            "[1][7]",
            "[][0]",
            "\"abc\"[9]",
            "1[70]",
            "none(1, \"a\")",
            "none::f()",
            "1.a",
            "let x = 1; x.a = 2",
            "let n = 3; for i in n { }",
            "1 / 0",
            "let n = 3; if n { print(n) }",
            "let m = #{}; m[1]",
            "fn f(a) { a.b.c }\nfn g(a) { let x = f(a); x }\ng(1)",
            "[1].map(|x| x.a)",
        ] {
            let Err(mut error) = engine.run(text) else { panic!("{text} does not fail") };
            let written = format!("{error:?}");
            let position = error.take_position();
            let raised = Raised { text: error.to_string(), place: Place { source: None, position } };
            let read = format!("{:?}", read(&raised));
            // The names of closures are not written.
            assert_eq!(read.replace("\"anon$\"", ""), without_closures(&written), "{text}");
        }
    }

    /// Without the names of closures.
    fn without_closures(text: &str) -> String {
        match text.split_once("\"anon$") {
            Some((before, after)) => format!("{before}{}", after.split_once('"').map_or("", |(_, after)| after)),
            None => text.to_string(),
        }
    }
}
