//! saerepl explains sparse-autoencoder (SAE) features of language models from their weights alone.
//!
//! The house, from the ground up; a room imports only from floors below its own:
//!
//! | floor | rooms | what they know |
//! |---|---|---|
//! | 9 | [`batch`], [`repl`] | a way in: turns input into cells, outcomes into what a person sees |
//! | 8 | [`session`] | one engine, one scope; evaluates a cell and returns an outcome |
//! | 7 | [`script`] | Rhai bindings and nothing else |
//! | 6 | [`render`] | a table or figure → text, SVG, PNG |
//! | 5 | [`analysis`] | the science |
//! | 4 | [`dictionary`] | directions that read from and write to a place in a model |
//! | 3 | [`hub`], [`model`] | names → files; canonical weights and token strings |
//! | 2 | [`formats`] | file formats → named tensors |
//! | 1 | [`compute`], [`stats`], [`table`], [`figure`] | products and reducers; statistics; what can be shown |
//! | 0 | [`tensor`], [`error`], [`work`], [`provenance`], [`mod@options`], [`files`], [`sample`] | our tensor; the one error type; cancellation, progress, threads, seed; who made a result; options as data; writing files whole; quantiles |

pub mod analysis;
pub mod compute;
pub mod dictionary;
pub mod error;
pub mod figure;
pub mod files;
pub mod formats;
pub mod hub;
pub mod model;
pub mod options;
pub mod provenance;
pub mod render;
pub mod sample;
pub mod script;
pub mod session;
pub mod stats;
pub mod table;
pub mod tensor;
pub mod work;

pub use error::{Error, Result};
