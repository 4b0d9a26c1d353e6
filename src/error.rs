//! The one error type of the crate: what went wrong, where, inside which work, and what would be right.
//!
//! Rooms return [`Result`]; nothing panics across rooms and no bare strings travel. `script` wraps an [`Error`] for
//! Rhai, `session` turns it into a report; until then it stays data.

use std::fmt;
use std::path::{Path, PathBuf};

/// Result with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of fault it is. Decides the exit status and whether a script may catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An argument, option or value that the caller gave is wrong.
    Input,
    /// A file is not what its format demands.
    Format,
    /// Shapes or dtypes that do not fit together.
    Shape,
    /// A limit of memory, size or depth.
    Limit,
    /// The user interrupted the work.
    Interrupted,
    /// The operating system or the network refused.
    Io,
    /// A fault of this program.
    Internal,
}

impl Kind {
    /// Lower-case name, as scripts see it in `e.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Format => "format",
            Kind::Shape => "shape",
            Kind::Limit => "limit",
            Kind::Interrupted => "interrupted",
            Kind::Io => "io",
            Kind::Internal => "internal",
        }
    }
}

/// Where in a file the fault lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Option<PathBuf>,
    /// The tensor or key inside it.
    pub tensor: Option<String>,
    /// Byte offset inside the file.
    pub byte: Option<u64>,
}

/// An error with its kind, message, help, place and the chain of what was being done.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: String,
    help: Vec<String>,
    place: Place,
    /// Innermost first.
    contexts: Vec<String>,
}

impl Error {
    /// An error of any kind; prefer the named constructors.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), help: Vec::new(), place: Place::default(), contexts: Vec::new() }))
    }
    /// The caller's argument, option or value is wrong.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }
    /// A file is not what its format demands.
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(Kind::Format, message)
    }
    /// Shapes or dtypes do not fit.
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(Kind::Shape, message)
    }
    /// Too large, too deep, too many.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(Kind::Limit, message)
    }
    /// The user asked to stop.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }
    /// A fault of this program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }
    /// An operating-system error while working on `path`.
    pub fn io(error: &std::io::Error, path: &Path) -> Self {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or folder".to_string(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_string(),
            _ => error.to_string(),
        };
        Self::new(Kind::Io, message).file(path)
    }

    /// Adds a hint: what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.push(help.into());
        self
    }
    /// Adds a hint where there is one.
    pub fn help_with(mut self, help: Option<String>) -> Self {
        self.0.help.extend(help);
        self
    }
    /// Names the file, if none is named yet.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.place.file.get_or_insert_with(|| path.as_ref().to_path_buf());
        self
    }
    /// Names the tensor or key, if none is named yet.
    pub fn tensor(mut self, name: impl Into<String>) -> Self {
        self.0.place.tensor.get_or_insert_with(|| name.into());
        self
    }
    /// Names the byte offset inside the file.
    pub fn byte(mut self, offset: u64) -> Self {
        self.0.place.byte.get_or_insert(offset);
        self
    }
    /// Says what was being done when the error arose; the outermost is added last.
    pub fn context(mut self, what: impl Into<String>) -> Self {
        self.0.contexts.push(what.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    /// The message without place, context or help.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The hints.
    pub fn helps(&self) -> &[String] {
        &self.0.help
    }
    /// Where in a file.
    pub fn place(&self) -> &Place {
        &self.0.place
    }
    /// What was being done, innermost first.
    pub fn contexts(&self) -> &[String] {
        &self.0.contexts
    }
    /// True when the user stopped the work.
    pub fn is_interrupted(&self) -> bool {
        self.0.kind == Kind::Interrupted
    }
}

/// One line: contexts, place, message. Help is left to whoever renders the error.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.0.place;
        for context in self.0.contexts.iter().rev() {
            write!(f, "{context}: ")?;
        }
        if let Some(file) = &place.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(tensor) = &place.tensor {
            write!(f, "tensor `{tensor}`: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(byte) = place.byte {
            write!(f, " (at byte {byte})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind.name())?;
        for help in &self.0.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds place and context to results.
pub trait ResultExt<T> {
    /// Names the file, if none is named yet.
    fn in_file(self, path: impl AsRef<Path>) -> Result<T>;
    /// Says what was being done.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> ResultExt<T> for Result<T> {
    fn in_file(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| e.file(path))
    }
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| e.context(what()))
    }
}

/// The candidate nearest to `given`, if it is near enough to be what was meant.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = given.to_lowercase();
    let candidates: Vec<&str> = candidates.into_iter().collect();
    // `max_new_tokens` for `max_tokens`: all words of a longer name are there.
    let words: Vec<&str> = lower.split('_').collect();
    let part = |c: &&str| c.contains('_') && c.to_lowercase().split('_').all(|word| words.contains(&word));
    let close = candidates
        .iter()
        .copied()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(distance, c)| {
            let shorter = c.chars().count().min(given.chars().count());
            *distance <= (shorter / 3).max(1) && *distance < shorter
        })
        .min_by_key(|(distance, c)| (*distance, c.len()))
        .map(|(_, c)| c);
    close.or_else(|| candidates.iter().copied().find(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_puts_outermost_context_first_and_place_before_message() {
        let e = Error::format("bad header").file("a.gguf").tensor("w").byte(8).context("opening").context("load_model");
        assert_eq!(e.to_string(), "load_model: opening: a.gguf: tensor `w`: bad header (at byte 8)");
    }

    #[test]
    fn nearest_finds_typos_and_refuses_strangers() {
        assert_eq!(nearest("fold_nrom", ["fold_norm", "k"]), Some("fold_norm"));
        assert_eq!(nearest("max_new_tokens", ["seed", "max_tokens"]), Some("max_tokens"));
        assert_eq!(nearest("banana", ["fold_norm", "k"]), None);
        assert_eq!(nearest("foo", ["cos", "x"]), None);
    }
}
