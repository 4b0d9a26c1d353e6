//! Tables and tensors for a terminal.
pub fn table(_: &crate::table::Table, _: usize) -> String {
    String::new()
}
