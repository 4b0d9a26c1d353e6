//! Dictionaries: directions that read from and write to a place in a model.
