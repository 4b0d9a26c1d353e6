//! Products folded tile by tile into reducers; linear algebra.
