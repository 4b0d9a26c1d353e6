//! The one integration-test binary: what the crate promises, through its public API and the program it builds.

// Helpers of tests are tests too; clippy.toml's allowance reaches only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod analyses;
mod bad_files;
mod cards;
mod circuits;
mod demo;
mod dictionaries;
mod examples;
mod experiments;
mod flow;
mod formats;
mod forward;
mod fuzz;
mod heads;
mod house;
mod hub;
mod hub_server;
mod interrupt;
mod made_files;
mod models;
mod not_finite;
mod program;
mod prompt;
mod sae_formats;
mod support;
mod tensor;
mod tokenizers;
mod training;
mod validation;
