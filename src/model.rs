//! Language models in canonical form.
