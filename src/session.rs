//! One engine, one scope: evaluates a cell and returns an outcome.
