//! What the parser refuses, in the user's words.

use super::foreign;
use super::report::{CONSTANT, Frame, WALKED, first_lower};
use rhai::{LexError, ParseErrorType};

/// Words that stand where a name should.
fn word_at(fault: Option<&Frame>) -> String {
    let rest = fault.map(|fault| fault.text.chars().skip(fault.column - 1)).into_iter().flatten();
    rest.take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Message and help.
pub(super) fn explain(what: &ParseErrorType, fault: Option<&Frame>) -> (String, Option<String>) {
    let hint = fault.and_then(|fault| {
        let at = fault.text.char_indices().nth(fault.column - 1).map_or(fault.text.len(), |(byte, _)| byte);
        foreign::syntax(what, fault.text[..at].trim_end(), &fault.text[at..])
    });
    let (message, help) = message(what, fault);
    (message, hint.or_else(|| help.map(String::from)))
}

fn message(what: &ParseErrorType, fault: Option<&Frame>) -> (String, Option<&'static str>) {
    use ParseErrorType as P;
    let word = word_at(fault);
    match what {
        P::UnexpectedEOF => ("the text ends in the middle of an expression".into(), None),
        P::MissingToken(token, _) if token == ";" => (
            if word.is_empty() { "a `;` is missing before this".into() } else { format!("a `;` is missing before `{word}`") },
            Some("statements are separated by `;`"),
        ),
        P::MissingToken(token, why) => (format!("`{token}` is missing {}", missing_where(why)), None),
        P::MismatchedType(wanted, given) if wanted.contains("iterable") => (format!("`for` cannot walk {given}"), Some(WALKED)),
        P::MismatchedType(wanted, given) if wanted.contains("boolean") => {
            (format!("a condition must be true or false, not {given}"), Some("a comparison gives true or false: `x != 0`"))
        }
        P::MismatchedType(wanted, given) => (format!("expected {wanted}, found {given}"), None),
        P::VariableExpected if word.starts_with(char::is_alphabetic) => {
            (format!("`{word}` is a word of the language and cannot be a name"), None)
        }
        P::VariableExpected => ("the name of a variable is missing here".into(), Some("`let name = value;`")),
        P::PropertyExpected if word.starts_with(char::is_alphabetic) => {
            (format!("`{word}` is a word of the language and cannot stand behind a dot or as a key"), None)
        }
        P::PropertyExpected => ("a name is missing behind the dot or before the colon".into(), None),
        P::Reserved(symbol) if symbol.starts_with(char::is_alphabetic) => {
            (format!("`{symbol}` is a word of the language and cannot be a name"), None)
        }
        P::Reserved(symbol) => (format!("`{symbol}` means nothing here"), None),
        P::ForbiddenVariable(name) => (format!("`{name}` cannot be the name of a variable"), None),
        P::UnknownOperator(operator) => (format!("there is no operator `{operator}`"), None),
        P::ExprExpected(kind) => (format!("{} is missing here", expression(kind)), None),
        P::AssignmentToConstant(name) if !name.is_empty() => {
            (format!("`{name}` is a constant: it cannot be changed"), Some(CONSTANT))
        }
        P::AssignmentToConstant(_) | P::AssignmentToInvalidLHS(_) => {
            ("this cannot be assigned to".into(), Some("what can: a variable, `list[i]`, `map.key`; to compare, write `==`"))
        }
        P::MalformedIndexExpr(why) if why.contains("expects numeric index") => {
            ("arrays and texts are indexed by integers".into(), Some("a map `#{ name: value }` is indexed by names"))
        }
        P::MalformedIndexExpr(why) if why.contains("expects string index") => {
            ("maps are indexed by names".into(), Some("`map[\"name\"]`, `map.name`"))
        }
        P::WrongFnDefinition => (
            "functions are defined at the outermost level only".into(),
            Some("a closure can stand anywhere: `let f = |x| x + 1;`"),
        ),
        P::FnMissingName => ("the function has no name".into(), Some("`fn name(x) { x + 1 }`, or a closure: `|x| x + 1`")),
        P::FnMissingParams(name) => (format!("the parameters of `{name}` are missing"), Some("`fn name(x) { x + 1 }`")),
        P::FnMissingBody(name) if name.is_empty() => ("the closure has no body".into(), Some("`|x| x + 1`")),
        P::FnMissingBody(name) => (format!("the body of `{name}` is missing"), Some("`fn name(x) { x + 1 }`")),
        P::FnDuplicatedDefinition(name, _) => (format!("`{name}` is defined twice with as many parameters"), None),
        P::FnDuplicatedParam(name, parameter) => (format!("`{name}` has two parameters `{parameter}`"), None),
        P::DuplicatedProperty(key) => (format!("the map has the key `{key}` twice"), None),
        P::DuplicatedVariable(name) => (format!("the name `{name}` stands here twice"), None),
        P::LoopBreak => {
            ("`break` and `continue` stand inside a loop".into(), Some("`exit()` ends a script, `return` a function"))
        }
        P::WrongExport => ("`export` stands at the outermost level only".into(), None),
        P::WrongDocComment => ("a comment `///` stands right above a function".into(), Some("other comments begin with `//`")),
        P::BadInput(LexError::UnterminatedString) => (
            "the string is not closed".into(),
            Some("text over several lines stands in backquotes, or has `\\` at the end of each line"),
        ),
        P::BadInput(LexError::UnexpectedInput(text)) => (format!("`{text}` means nothing here"), None),
        P::BadInput(LexError::MalformedNumber(text)) => (format!("`{text}` is no number"), None),
        P::BadInput(LexError::MalformedEscapeSequence(text)) => {
            (format!("`{text}` is no escape sequence"), Some("a backslash itself is `\\\\`"))
        }
        P::BadInput(LexError::MalformedChar(text)) => (format!("'{text}' is not one character"), None),
        P::BadInput(LexError::ImproperSymbol(symbol, _)) if !symbol.is_empty() => symbol_of_others(symbol),
        other => (first_lower(&other.to_string()), None),
    }
}

/// Rhai's "to terminate this statement", "for a matching ( in this expression".
fn missing_where(why: &str) -> String {
    match why.strip_prefix("for a matching ") {
        Some(rest) => format!("for the `{}`", rest.split(' ').next().unwrap_or(rest)),
        None => why.into(),
    }
}

fn expression(kind: &str) -> String {
    match kind {
        "" | "an" => "an expression".into(),
        kind if kind.contains("boolean") => "a condition".into(),
        kind => format!("{} expression", if kind.starts_with('a') { kind.to_string() } else { format!("a {kind}") }),
    }
}

/// Operators of other languages that Rhai knows to refuse, and what is switched off.
fn symbol_of_others(symbol: &str) -> (String, Option<&'static str>) {
    let help = match symbol {
        "===" => Some("`==` compares"),
        "!==" => Some("`!=` compares"),
        "->" => Some("a function's result has no type here: `fn f(x) { x }`"),
        "=>" => Some("a closure is `|x| x + 1`"),
        ":=" => Some("`let x = 1;` declares a variable"),
        "<-" => Some("`x = 1;` assigns"),
        "::<" => Some("functions take no types"),
        "eval" => Some("code to run later is a closure: `let f = |x| x + 1;`; that of a file comes by `import`"),
        "(*" | "*)" => Some("comments are `// …` and `/* … */`"),
        _ => None,
    };
    (format!("`{symbol}` means nothing here"), help)
}
