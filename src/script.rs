//! Rhai bindings and nothing else.
