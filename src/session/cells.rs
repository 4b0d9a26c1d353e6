//! Where a cell ends: what is still open at the end of a text, and how a text falls into cells.

use super::{Session, stack};
use crate::error::Error;
use crate::script;
use crate::script::scan::{self, Outline, Outliner, outline};
use crate::script::tree::walk_statement;
use rhai::{AST, ASTNode, EvalAltResult, Expr, ParseErrorType, Position, Stmt};

/// Words that carry on a statement whose block was closed on the line above.
const CARRYING_ON: &[&str] = &["else", "catch", "while", "until"];

impl Session {
    /// True when `text` is the beginning of a cell that goes on: an open bracket, comment or `` ` `` string, a `"` string
    /// whose line ends with `\`, an expression without its end, or a `///` comment, which belongs to the function below it.
    /// Any other open `"` is a fault at once: such a string cannot go on over lines.
    pub fn is_incomplete(&self, text: &str) -> bool {
        let outline = outline(text);
        !outline.broken && (outline.open || ends_with_doc(text, &outline) || self.lacks_end(text))
    }

    /// The length of the first cell of a text that is no single cell: whole lines, up to where the text is complete and the
    /// line after it does not carry it on. None when nothing but white space is left, and where `more` may come, when that
    /// may belong to it.
    pub fn first_cell(&self, text: &str, more: bool) -> Option<usize> {
        if text.trim_start().is_empty() {
            return None;
        }
        let (mut end, mut outliner) = (0, Outliner::default());
        for line in text.split_inclusive('\n') {
            end += line.len();
            let cell = &text[..end];
            if cell.trim_start().is_empty() {
                continue;
            }
            if self.is_command(cell) {
                if self.goes_on(cell) {
                    continue;
                }
                return Some(end);
            }
            outliner.read(cell);
            let outline = &outliner.outline;
            if outline.broken {
                return Some(end);
            }
            let after = scan::after_comments(&text[end..]);
            let carried_on = || {
                let closed = outline.last_code().is_some_and(|(_, range)| cell[range.clone()] == *"}");
                let else_or_like = closed && CARRYING_ON.iter().any(|word| is_word(after, word));
                after.starts_with('.') || after.starts_with("?.") || else_or_like
            };
            if !outline.open && !ends_with_doc(cell, outline) && !carried_on() && !self.lacks_end(cell) {
                return (!more || !after.is_empty()).then_some(end);
            }
        }
        (!more).then_some(end)
    }

    /// The last cell of a text of several: the one that may go on.
    pub fn last_cell<'t>(&self, text: &'t str) -> &'t str {
        let mut last = text;
        while let Some(end) = self.first_cell(last, false).filter(|end| !last[*end..].trim().is_empty()) {
            last = &last[end..];
        }
        last
    }

    /// The parser comes to the end of `text` and wants more.
    fn lacks_end(&self, text: &str) -> bool {
        stack::on_large(|| match self.engine.compile(text) {
            Ok(_) => false,
            Err(error) => *error.err_type() == ParseErrorType::UnexpectedEOF || is_past(text, error.position()),
        })
    }
}

/// Refuses a text that ends inside a block comment, which Rhai lets pass.
pub(super) fn closed(text: &str) -> Result<(), EvalAltResult> {
    let outline = outline(text);
    match outline.pieces.last() {
        Some((scan::Kind::Comment, range)) if outline.open => {
            let position = scan::position_of(text, range.start);
            Err(*script::raise(Error::input("the comment is not closed"), position))
        }
        _ => Ok(()),
    }
}

/// Names that the session sets by itself.
const KEPT: &[&str] = &["ans", "Out"];

/// Refuses to change what the session sets after each cell. A cell may declare a variable of that name.
pub(super) fn leaves_kept(ast: &AST) -> Result<(), EvalAltResult> {
    let (mut changed, mut declared) = (Vec::new(), Vec::new());
    for statement in ast.statements() {
        walk_statement(statement, &mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::Assignment(assignment))) => {
                    if let Expr::Variable(name, _, position) = &assignment.1.lhs {
                        changed.push((name.1.to_string(), *position));
                    }
                }
                Some(ASTNode::Stmt(Stmt::Var(declaration, ..))) => declared.push(declaration.0.name.to_string()),
                _ => {}
            }
            true
        });
    }
    let kept = |name: &String| KEPT.contains(&name.as_str()) && !declared.contains(name);
    match changed.into_iter().find(|(name, _)| kept(name)) {
        Some((name, position)) => {
            let error = Error::input(format!("`{name}` is kept by the prompt: it cannot be changed"));
            Err(*script::raise(error.help("another name is free: `let value = …`"), position))
        }
        None => Ok(()),
    }
}

/// The last piece is a comment that documents what follows it.
fn ends_with_doc(text: &str, outline: &Outline) -> bool {
    let last = outline.pieces.last().filter(|(kind, _)| *kind == scan::Kind::Comment).map(|(_, range)| &text[range.clone()]);
    let documents = |line: &str, block: &str| line.starts_with(block) && !line[block.len()..].starts_with(['/', '*']);
    last.is_some_and(|comment| documents(comment, "///") || documents(comment, "/**"))
}

/// A position behind the last character of a text.
fn is_past(text: &str, position: Position) -> bool {
    let text = text.trim_end();
    let (lines, last) = (text.lines().count().max(1), text.lines().last().unwrap_or_default().chars().count());
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => line > lines || (line == lines && column > last),
        (Some(line), None) => line > lines,
        (None, _) => false,
    }
}

fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::super::Answer;
    use super::super::tests::session;

    #[test]
    fn unfinished_text_is_told_from_wrong_text() {
        let session = session();
        for text in [
            "f(",
            "let x =",
            "1 +",
            "fn f() {",
            "if true {",
            "/* a",
            "`a",
            "#{a: 1,",
            "let x = [1,\n2,",
            "x.",
            "1 + // more",
            "\"a \\",
            "\"a \\\n",
            "`a ${b",
            "`line\nline",
            "/// doc",
            "let x = 1;\n/// doc\n",
            "/** doc */",
        ] {
            assert!(session.is_incomplete(text), "{text}");
        }
        for text in [
            "foo)",
            "let 5",
            "1",
            "let x = 1;",
            "fn f() { }",
            "\"open",
            "f(\"open",
            "",
            "// comment",
            "//// rule",
            "/**/",
            "/// doc\nfn f() { }",
            "x y",
            "f(\"a\nb\",",
        ] {
            assert!(!session.is_incomplete(text), "{text}");
        }
    }

    #[test]
    fn a_text_falls_into_cells() {
        let session = session();
        let text = "1\n\n:vars\nfn f() {\n  2\n}\nif x {\n}\nelse {\n}\nlist\n  .map(f)\n!echo \"it's\n`a\nb`\n/* c\n*/ 3\n\n";
        let (mut rest, mut cells) = (text, Vec::new());
        while let Some(end) = session.first_cell(rest, false) {
            cells.push(rest[..end].trim());
            rest = &rest[end..];
        }
        let right =
            ["1", ":vars", "fn f() {\n  2\n}", "if x {\n}\nelse {\n}", "list\n  .map(f)", "!echo \"it's", "`a\nb`", "/* c\n*/ 3"];
        assert_eq!(cells, right);
        let text =
            "/// doc\nfn mine(a) { a }\nmine(1)\nif x { 1 }\n// why\n/* and\n */ else { 2 }\nl\n// then\n.len()\n// end\n2";
        let (mut rest, mut cells) = (text, Vec::new());
        while let Some(end) = session.first_cell(rest, false) {
            cells.push(rest[..end].trim());
            rest = &rest[end..];
        }
        let right = [
            "/// doc\nfn mine(a) { a }",
            "mine(1)",
            "if x { 1 }\n// why\n/* and\n */ else { 2 }",
            "l\n// then\n.len()",
            "// end",
            "2",
        ];
        assert_eq!(cells, right);
    }

    #[test]
    fn the_last_cell_of_a_text_may_go_on() {
        let session = session();
        for (text, last, goes_on) in [
            ("let a = 1\nlet b = 2\na + b", "a + b", false),
            ("let a = 1\nlet b = [2,\n", "let b = [2,\n", true),
            ("let a = 1\nlet b =", "let b =", true),
            ("if a {\n}\nelse {", "if a {\n}\nelse {", true),
            ("a\n:time if b {\n", ":time if b {\n", true),
            ("f(", "f(", true),
            ("a\n\n", "a\n\n", false),
        ] {
            assert_eq!((session.last_cell(text), session.goes_on(session.last_cell(text))), (last, goes_on), "{text}");
        }
    }

    #[test]
    fn a_cell_that_is_timed_may_have_many_lines() {
        let mut session = session();
        let text = ":timeit for i in 0..3 {\n  i;\n}";
        assert!(session.goes_on(":timeit for i in 0..3 {\n") && !session.goes_on(text) && session.is_command(text));
        assert!(!session.goes_on(":times {") && !session.goes_on("?f(") && session.goes_on("f(") && !session.goes_on("f()"));
        assert_eq!(session.first_cell(&format!("\n{text}\n1\n"), true), Some(text.len() + 2));
        assert!(matches!(session.command(text), Ok(Answer::Value(note, _)) if note.contains(" ± ")));
        assert!(session.command(":time if true {\n  5 +\n}").is_err());
    }

    #[test]
    fn a_comment_above_a_function_is_its_help() {
        let mut session = session();
        session.cell("/// doc of mine\nfn mine(a) { a }").unwrap();
        let Answer::Page(page) = session.command("?mine").unwrap() else { panic!("no page") };
        assert!(page.contains("doc of mine"), "{page}");
    }
}
