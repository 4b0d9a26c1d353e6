//! The science.
