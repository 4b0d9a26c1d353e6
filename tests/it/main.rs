//! The one integration-test binary: what the crate promises, through its public API and the program it builds.

#![allow(clippy::unwrap_used)]

mod house;
mod program;
