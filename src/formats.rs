//! File formats → named tensors. Nothing here knows what a model or an SAE is.
//!
//! A place with files (a folder, the hub's cache, the built-in demo) implements [`Files`]; a format's reader takes
//! [`Bytes`] and gives a [`TensorSet`] that shares them, so opening touches headers only.

mod archive;
mod folder;
pub mod gguf;
pub mod huggingface;
pub mod json;
pub mod npy;
pub mod npz;
mod pickle;
pub mod safetensors;
mod sniff;
pub mod torch;

pub use folder::Folder;
pub use sniff::{FileKind, sniff, wrong_kind};

use crate::error::{Error, Result, nearest};
use crate::tensor::{Bytes, Class, DType, Tensor};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A place with files: a folder, a repository of the hub, the built-in demo.
pub trait Files: Send + Sync {
    /// What a message calls it: a path, or `org/repo`.
    fn name(&self) -> String;
    /// Paths of all files, relative, with `/`, sorted.
    ///
    /// # Errors
    /// It cannot be listed.
    fn list(&self) -> Result<Vec<String>>;
    /// Paths of the files in one of its folders (`""` is the outermost), none of those below it.
    ///
    /// # Errors
    /// It cannot be listed.
    fn list_folder(&self, folder: &str) -> Result<Vec<String>> {
        let in_folder = |file: &String| file.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
        Ok(self.list()?.into_iter().filter(in_folder).collect())
    }
    /// Why a file that should be there may be absent, where that is known.
    fn why_absent(&self) -> Option<String> {
        None
    }
    /// The bytes of one file, fetched or mapped.
    ///
    /// # Errors
    /// There is none of that path, or it cannot be had.
    fn open(&self, path: &str) -> Result<Bytes>;
    /// What a message calls one of its files.
    fn path_of(&self, path: &str) -> PathBuf {
        PathBuf::from(self.name()).join(path)
    }
    /// Where one of its files lies on this disk, or will when it was opened; `None` for what lies on none.
    fn on_disk(&self, path: &str) -> Option<PathBuf> {
        let _ = path;
        None
    }
    /// The commit, where there is one.
    fn revision(&self) -> Option<String> {
        None
    }
}

/// Tensors by name, sharing the bytes of the files they came from.
#[derive(Clone, Debug, Default)]
pub struct TensorSet {
    tensors: BTreeMap<String, Tensor>,
    /// The file (or folder) they came from, for messages.
    pub source: PathBuf,
    /// Text metadata of the file (safetensors `__metadata__`).
    pub metadata: BTreeMap<String, String>,
    /// What else the file holds and was not read: members of an archive that are no arrays of numbers.
    pub unread: Vec<String>,
}

impl TensorSet {
    /// A set without tensors.
    pub fn new(source: impl Into<PathBuf>) -> Self {
        TensorSet { source: source.into(), ..TensorSet::default() }
    }

    /// Adds a tensor; false when one of that name is there already (it stays).
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> bool {
        match self.tensors.entry(name.into()) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(tensor);
                true
            }
        }
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// It is not; the message names the file and the nearest name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| {
            // A member that was left out says its type: `W_enc.npy (elements `<c8`)`.
            let unread = self.unread.iter().find_map(|unread| unread.strip_prefix(&format!("{name}.npy ")));
            if let Some(elements) = unread {
                let message = format!("holds no real numbers {elements}: it is not read");
                return Error::format(message)
                    .file(&self.source)
                    .tensor(name)
                    .help("save it in float32, of complex numbers .real");
            }
            let error = Error::format(format!("there is no tensor `{name}` among its {}", self.tensors.len())).file(&self.source);
            match nearest(name, self.names()) {
                Some(near) => error.help(format!("the nearest name is `{near}`")),
                None => error,
            }
        })
    }

    /// A tensor that may be there.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names with their tensors, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// True without tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

/// How a tensor's elements are written: in the type that arithmetic gives them.
fn plain(tensor: &Tensor) -> DType {
    match tensor.dtype().class() {
        Class::F32 => DType::F32,
        Class::F64 => DType::F64,
        Class::Int => DType::I64,
        Class::Bool => DType::Bool,
    }
}
