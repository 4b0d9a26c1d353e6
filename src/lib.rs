//! saerepl explains sparse-autoencoder (SAE) features of language models from their weights alone.
//!
//! The house, from the ground up; a room imports only from floors below its own (a test reads this table):
//!
//! | floor | rooms | what they know |
//! |---|---|---|
//! | 13 | `cli` | arguments; one file a subcommand |
//! | 12 | `batch`, `repl` | a way in: turns input into cells, outcomes into what a person sees |
//! | 11 | [`session`] | one engine, one scope; evaluates a cell and returns an outcome |
//! | 10 | [`script`] | Rhai bindings and nothing else |
//! | 9 | [`render`] | a table, figure or page → text, SVG, PNG, HTML |
//! | 8 | [`analysis`], [`training`] | the science; training of SAEs |
//! | 7 | [`dictionary`] | directions that read from and write to a place in a model |
//! | 6 | [`model`] | canonical weights and token strings |
//! | 5 | [`hub`], [`page`] | names → files; text, tables and figures one below the other |
//! | 4 | [`formats`], [`compute`], [`stats`], [`table`], [`figure`] | files → named tensors; products and reducers; statistics; what can be shown |
//! | 3 | [`options`] | the options of a call, declared once |
//! | 2 | [`tensor`], [`files`] | shape, strides, dtype and shared bytes; files written whole |
//! | 1 | [`work`], [`random`] | cancellation, progress, threads, seed; seeded draws |
//! | 0 | [`error`], [`provenance`], [`sample`] | the one error type; who made a result; sorted samples |

pub mod analysis;
pub mod batch;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compute;
pub mod dictionary;
pub mod error;
pub mod figure;
pub mod files;
pub mod formats;
pub mod hub;
pub mod model;
pub mod options;
pub mod page;
pub mod provenance;
pub mod random;
pub mod render;
#[cfg(feature = "cli")]
pub mod repl;
pub mod sample;
pub mod script;
pub mod session;
pub mod stats;
pub mod table;
pub mod tensor;
pub mod training;
pub mod work;

pub use error::{Error, Result};
