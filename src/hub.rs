//! Names to files: local paths, the built-in demo, the Hugging Face hub and its cache.
