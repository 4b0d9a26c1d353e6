//! PyTorch's checkpoints: a zip of one pickle, which says what the tensors are, and a member of raw bytes for each storage
//! (FORMATS 6.3). Tensors are views on the mapped file, by the strides that the pickle gives them.

use super::TensorSet;
use super::archive::Archive;
use super::npy;
use super::pickle::{Pickle, Ref, Value};
use super::sniff::{FileKind, sniff, wrong_kind};
use crate::error::{Error, Result};
use crate::tensor::{Bytes, DType, Tensor, element_count};
use crate::work::Work;
use std::collections::HashMap;
use std::path::Path;

/// Levels of containers inside each other.
const DEPTH: usize = 32;
/// Entries that are looked at: containers may hold each other, and themselves.
const MAX_ENTRIES: usize = 16_000_000;
/// Elements of a tensor whose strides show the same bytes again and again.
const MAX_EXPANDED: usize = 1 << 24;

/// Reads a checkpoint. A tensor is named by the keys that lead to it (`state_dict.encoder.weight`); numbers (NumPy's too) and
/// texts that stand beside the tensors become metadata, also where they are fields of an object. Other objects are not made,
/// and named in `unread`.
///
/// # Errors
/// It is no such file, is of the form before PyTorch 1.6 or a TorchScript program, would run code, holds no tensor, or one that
/// reaches beyond its storage.
pub fn read(bytes: Bytes, file: &Path, work: &Work) -> Result<TensorSet> {
    let data = bytes.as_slice();
    match sniff(data) {
        FileKind::Pickle if data.starts_with(b"PK") => {}
        FileKind::Pickle => {
            return Err(Error::format("is a bare pickle, the form of torch.save before PyTorch 1.6")
                .file(file)
                .help("load and save it again in Python: torch.save(torch.load(old), new)"));
        }
        FileKind::Zip => {}
        _ if data.get(257..262) == Some(b"ustar") => {
            return Err(Error::format("is a tar archive, the form of torch.save before PyTorch 0.2").file(file));
        }
        _ => return Err(wrong_kind(data, file, "a PyTorch checkpoint")),
    }
    let set = Checkpoint::open(&bytes, file, work).and_then(|checkpoint| checkpoint.tensors(file)).map_err(|e| e.file(file))?;
    if !set.is_empty() {
        return Ok(set);
    }
    let objects = set.unread.first().map_or(String::new(), |first| format!("; it holds {first}"));
    Err(Error::format(format!("holds no tensor that can be read{objects}"))
        .file(file)
        .help("objects of Python are not made here: save the tensors alone, torch.save(module.state_dict(), \"weights.pt\")"))
}

/// True for the functions that make tensors.
fn is_tensor(function: &str) -> bool {
    matches!(
        function.strip_prefix("torch._utils.").unwrap_or_default(),
        "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" | "_rebuild_parameter" | "_rebuild_parameter_with_state"
    )
}

/// The type of `torch.float32` and its like.
fn element_type(name: &str) -> Option<DType> {
    Some(match name {
        "bool" => DType::Bool,
        "uint8" => DType::U8,
        "int8" => DType::I8,
        "uint16" => DType::U16,
        "int16" => DType::I16,
        "uint32" => DType::U32,
        "int32" => DType::I32,
        "uint64" => DType::U64,
        "int64" => DType::I64,
        "float8_e4m3fn" => DType::F8E4M3,
        "float8_e5m2" => DType::F8E5M2,
        "float16" => DType::F16,
        "bfloat16" => DType::BF16,
        "float32" => DType::F32,
        "float64" => DType::F64,
        _ => return None,
    })
}

/// The type of the elements of `torch.FloatStorage` and its like, by what stands before `Storage`.
fn storage_type(kind: &str) -> Option<DType> {
    element_type(match kind {
        "Bool" => "bool",
        "Byte" => "uint8",
        "Char" => "int8",
        "Short" => "int16",
        "Int" => "int32",
        "Long" => "int64",
        "Half" => "float16",
        "BFloat16" => "bfloat16",
        "Float" => "float32",
        "Double" => "float64",
        _ => return None,
    })
}

/// A checkpoint's members by name, and its pickle.
struct Checkpoint<'a> {
    archive: Archive<'a>,
    members: HashMap<String, usize>,
    /// The folder that all members lie in.
    folder: String,
    /// By key: a storage may be shared by tensors.
    storages: HashMap<String, Bytes>,
}

impl<'a> Checkpoint<'a> {
    fn open(bytes: &'a Bytes, file: &Path, work: &'a Work) -> Result<Self> {
        let mut archive = Archive::open(bytes, file, work)?;
        let mut members = HashMap::new();
        for index in 0..archive.len() {
            members.insert(archive.path(index)?, index);
        }
        let folder = members.keys().filter_map(|path| path.strip_suffix("data.pkl")).min_by_key(|folder| folder.len());
        let Some(folder) = folder.map(str::to_string) else {
            return Err(Error::format("is a zip archive without data.pkl, so it is no PyTorch checkpoint"));
        };
        let is_program =
            |path: &String| path.strip_prefix(&folder).is_some_and(|rest| rest.starts_with("code/") || rest == "constants.pkl");
        if members.keys().any(is_program) {
            return Err(Error::format("is a TorchScript program, not a checkpoint")
                .help("save its tensors in Python: torch.save(torch.jit.load(path).state_dict(), \"weights.pt\")"));
        }
        Ok(Checkpoint { archive, members, folder, storages: HashMap::new() })
    }

    fn member(&mut self, name: &str) -> Result<Option<Bytes>> {
        let index = self.members.get(&format!("{}{name}", self.folder)).copied();
        index.map(|index| self.archive.read(index)).transpose()
    }

    fn tensors(mut self, file: &Path) -> Result<TensorSet> {
        if let Some(order) = self.member("byteorder")?.filter(|order| order.as_slice() != b"little") {
            return Err(Error::format(format!("its numbers are in {} byte order", order.as_slice().escape_ascii()))
                .help("load and save it again on a little-endian machine"));
        }
        let data = self.member("data.pkl")?.ok_or_else(|| Error::format("has no data.pkl"))?;
        let pickle = Pickle::read(data.as_slice())?;
        let mut walk = Walk { pickle: &pickle, checkpoint: self, set: TensorSet::new(file), entries: 0 };
        walk.collect(pickle.root(), String::new(), 0)?;
        Ok(walk.set)
    }

    /// The bytes of a storage, which must be `needed` or more.
    fn storage(&mut self, key: &str, needed: usize) -> Result<Bytes> {
        if !self.storages.contains_key(key) {
            let member = format!("data/{key}");
            let bytes = self.member(&member)?;
            let bytes =
                bytes.ok_or_else(|| Error::format(format!("the member `{member}`, which holds its numbers, is missing")))?;
            self.storages.insert(key.to_string(), bytes);
        }
        let bytes = self.storages.get(key).cloned().unwrap_or_else(|| Bytes::from_static(&[]));
        if bytes.len() < needed {
            return Err(Error::format(format!("its storage `{key}` has {} bytes, not the {needed} it should", bytes.len())));
        }
        Ok(bytes)
    }
}

/// Goes through a pickle's containers and gathers what they hold.
struct Walk<'p, 'a> {
    pickle: &'p Pickle<'p>,
    checkpoint: Checkpoint<'a>,
    set: TensorSet,
    entries: usize,
}

impl<'p> Walk<'p, '_> {
    fn collect(&mut self, of: Ref, path: String, depth: usize) -> Result<()> {
        if depth > DEPTH {
            return Err(Error::limit(format!("its containers lie more than {DEPTH} deep inside each other")).tensor(path));
        }
        let below = |key: &str| match key {
            // Where a module that was saved whole keeps what its state_dict has without these names.
            "_parameters" | "_buffers" | "_modules" => path.clone(),
            _ if path.is_empty() => key.to_string(),
            _ => format!("{path}.{key}"),
        };
        let text = match self.pickle.get(of) {
            Value::Dict(entries) => {
                self.count(entries.len())?;
                for (key, value) in entries {
                    match self.pickle.get(*key) {
                        Value::Text(key) => self.collect(*value, below(key), depth + 1)?,
                        Value::Int(key) => self.collect(*value, below(&key.to_string()), depth + 1)?,
                        // A key that has no name leads to no tensor that has one.
                        _ => {}
                    }
                }
                return Ok(());
            }
            Value::List(items) => {
                self.count(items.len())?;
                for (i, item) in items.iter().enumerate() {
                    // Numbers and objects in a list are a history or a shape, nothing that is asked for by name.
                    let is_asked_for = match self.pickle.get(*item) {
                        Value::Dict(_) | Value::List(_) => true,
                        Value::Call { function, .. } => self.global(*function).is_some_and(is_tensor),
                        _ => false,
                    };
                    if is_asked_for {
                        self.collect(*item, below(&i.to_string()), depth + 1)?;
                    }
                }
                return Ok(());
            }
            Value::Call { function, arguments, state } => {
                let name = if path.is_empty() { "tensor".to_string() } else { path.clone() };
                let function = self.global(*function).unwrap_or("a call");
                if is_tensor(function) {
                    let tensor = self.tensor(of, 0).map_err(|e| e.tensor(&name))?;
                    return match self.set.insert(&name, tensor) {
                        true => Ok(()),
                        false => Err(Error::format("is there twice").tensor(name)),
                    };
                }
                match self.numpy_scalar(function, *arguments) {
                    Some(number) => number,
                    None => {
                        self.unread(function, *arguments, &path);
                        // The fields of an object, which may be plain.
                        let fields = state.filter(|state| matches!(self.pickle.get(*state), Value::Dict(_)));
                        return fields.map_or(Ok(()), |fields| self.collect(fields, path, depth + 1));
                    }
                }
            }
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(value) => value.to_string(),
            Value::Global(name) => name.clone(),
            Value::None | Value::Bytes(_) | Value::Opaque | Value::Persistent(_) => return Ok(()),
        };
        self.set.metadata.insert(path, text);
        Ok(())
    }

    /// Names an object that is not made. (Modules of PyTorch are no loss: their tensors are read.)
    fn unread(&mut self, function: &str, arguments: Ref, path: &str) {
        let first = self.list(arguments).and_then(|arguments| self.global(*arguments.first()?));
        // NumPy's arrays, and instances by protocol 2.
        let of_class = first.filter(|_| function.ends_with("._reconstruct") || function.ends_with("._reconstructor"));
        let class = of_class.unwrap_or(function);
        if !class.starts_with("torch.") {
            self.set.unread.push(if path.is_empty() { format!("`{class}`") } else { format!("{path} (`{class}`)") });
        }
    }

    fn count(&mut self, entries: usize) -> Result<()> {
        // One for the container itself: empty ones take time too.
        self.entries += entries + 1;
        if self.entries > MAX_ENTRIES {
            return Err(Error::limit("its containers hold each other without end"));
        }
        Ok(())
    }

    fn list(&self, of: Ref) -> Option<&'p [Ref]> {
        if let Value::List(items) = self.pickle.get(of) { Some(items) } else { None }
    }

    fn size(&self, of: Ref) -> Option<usize> {
        if let Value::Int(value) = self.pickle.get(of) { usize::try_from(*value).ok() } else { None }
    }

    fn sizes(&self, of: Ref) -> Option<Vec<usize>> {
        self.list(of)?.iter().map(|item| self.size(*item)).collect()
    }

    fn global(&self, of: Ref) -> Option<&'p str> {
        if let Value::Global(name) = self.pickle.get(of) { Some(name) } else { None }
    }

    /// The number that `numpy.core.multiarray.scalar(dtype, bytes)` gives, as text.
    fn numpy_scalar(&self, function: &str, arguments: Ref) -> Option<String> {
        if !matches!(function, "numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar") {
            return None;
        }
        let [dtype, bytes] = self.list(arguments)? else { return None };
        // `dtype("f8", False, True)`, whose state has the byte order in its second place: `<`, `>`, or `|` for a single byte.
        let Value::Call { arguments, state: Some(state), .. } = self.pickle.get(*dtype) else { return None };
        let (Value::Text(kind), Value::Text(order)) =
            (self.pickle.get(*self.list(*arguments)?.first()?), self.pickle.get(*self.list(*state)?.get(1)?))
        else {
            return None;
        };
        npy::scalar(&format!("{order}{kind}"), self.bytes(*bytes)?)
    }

    /// Bytes, which the protocol of PyTorch writes as the call `_codecs.encode(text, "latin1")`.
    fn bytes(&self, of: Ref) -> Option<Vec<u8>> {
        match self.pickle.get(of) {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            Value::Call { function, arguments, .. } if self.global(*function) == Some("_codecs.encode") => {
                let Value::Text(text) = self.pickle.get(*self.list(*arguments)?.first()?) else { return None };
                text.chars().map(|c| u8::try_from(c).ok()).collect()
            }
            _ => None,
        }
    }

    /// The tensor that a call would make.
    fn tensor(&mut self, of: Ref, depth: usize) -> Result<Tensor> {
        let broken = || Error::format("its record in the pickle is not one that PyTorch writes");
        let Value::Call { function, arguments, .. } = self.pickle.get(of) else { return Err(broken()) };
        let (Some(function), Some(arguments)) = (self.global(*function), self.list(*arguments)) else { return Err(broken()) };
        match (function.rsplit('.').next().unwrap_or_default(), arguments) {
            ("_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) if depth < DEPTH => {
                self.tensor(*data, depth + 1)
            }
            ("_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3", [storage, offset, shape, strides, rest @ ..]) => {
                // Version 3 adds the type of the elements: after requires_grad and the hooks.
                let dtype =
                    rest.get(2).and_then(|dtype| self.global(*dtype)).and_then(|name| element_type(name.strip_prefix("torch.")?));
                let (Some(offset), Some(shape), Some(strides)) = (self.size(*offset), self.sizes(*shape), self.sizes(*strides))
                else {
                    return Err(broken());
                };
                let (bytes, dtype) = self.storage(*storage, dtype)?.ok_or_else(broken)?;
                let elements = bytes.len() / dtype.block_bytes();
                if element_count(&shape)? > elements.max(MAX_EXPANDED) {
                    return Err(Error::limit(format!("its shape {shape:?} repeats the {elements} elements of its storage")));
                }
                Tensor::strided(bytes, dtype, &shape, &strides, offset)
            }
            _ => Err(broken()),
        }
    }

    /// The bytes of a storage and the type of its elements: `("storage", type, key, place, number of elements)`.
    fn storage(&mut self, of: Ref, dtype: Option<DType>) -> Result<Option<(Bytes, DType)>> {
        let Value::Persistent(id) = self.pickle.get(of) else { return Ok(None) };
        let Some([_, kind, key, _, count, ..]) = self.list(*id) else { return Ok(None) };
        let (Some(kind), Value::Text(key), Some(count)) = (self.global(*kind), self.pickle.get(*key), self.size(*count)) else {
            return Ok(None);
        };
        let kind = kind.rsplit('.').next().and_then(|name| name.strip_suffix("Storage")).unwrap_or_default();
        // An untyped storage counts bytes.
        let (dtype, width) = match (storage_type(kind), dtype) {
            (Some(dtype), _) => (dtype, dtype.block_bytes()),
            (None, Some(dtype)) => (dtype, 1),
            (None, None) => return Ok(None),
        };
        let Some(needed) = count.checked_mul(width) else { return Ok(None) };
        Ok(Some((self.checkpoint.storage(key, needed)?, dtype)))
    }
}
