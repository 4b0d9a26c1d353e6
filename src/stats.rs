//! Statistics of samples: moments, ranks, tests.
