//! Tables and tensors for a terminal.
