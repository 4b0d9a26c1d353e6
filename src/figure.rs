//! Figures as plain data, without drawing calls.
