//! Walks through a parsed script that leave nothing out: Rhai's own do not enter the value of a `break`.

use rhai::{AST, ASTNode, Stmt};

/// Shows every node of a script, its functions' included, as the last of the path that leads to it, until `on_node` answers
/// false.
pub fn walk(ast: &AST, on_node: &mut dyn FnMut(&[ASTNode]) -> bool) {
    ast.walk(&mut |path: &[ASTNode]| enter(path, on_node));
}

/// As [`walk`], of one statement.
pub fn walk_statement(statement: &Stmt, on_node: &mut dyn FnMut(&[ASTNode]) -> bool) {
    statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| enter(path, on_node));
}

fn enter(path: &[ASTNode], on_node: &mut dyn FnMut(&[ASTNode]) -> bool) -> bool {
    let goes_on = on_node(path);
    match path.last() {
        Some(ASTNode::Stmt(Stmt::BreakLoop(Some(value), ..))) if goes_on => {
            value.walk(&mut path.to_vec(), &mut |path: &[ASTNode]| enter(path, on_node))
        }
        _ => goes_on,
    }
}
