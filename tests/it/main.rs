//! The one integration-test binary: what the crate promises, through its public API and the program it builds.

mod house;
mod models;
mod support;
