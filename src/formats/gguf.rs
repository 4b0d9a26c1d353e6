//! GGUF, versions 2 and 3: metadata, then tensor descriptions, then aligned tensor data (FORMATS 4.4).
//!
//! Opening reads the two tables and no tensor data. Dimensions are stored fastest first; here they are row-major, so a
//! linear layer is `[out, in]`. Values are as stored: what a converter permuted or added is undone by whoever knows the
//! architecture.

use super::TensorSet;
use super::sniff::{FileKind, sniff, wrong_kind};
use crate::error::{Error, Result};
use crate::tensor::{Block, Bytes, DType, Tensor, element_count};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a GGUF file holds.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// The key-value table.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, row-major views on the file.
    pub tensors: TensorSet,
    /// The file itself, of which [`metadata`] reads the key-value table again: large lists need not be kept.
    pub bytes: Bytes,
}

/// A value of the key-value table; numbers keep their value, not their width.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// u8, u16, u32 or u64.
    U64(u64),
    /// i8, i16, i32 or i64.
    I64(i64),
    /// f32 or f64.
    F64(f64),
    /// Truth value.
    Bool(bool),
    /// Text; bytes that are not UTF-8 are replaced by U+FFFD.
    Text(String),
    /// An array.
    List(Vec<Value>),
}

impl Value {
    /// A count or index.
    pub fn as_usize(&self) -> Option<usize> {
        match self {
            Value::U64(v) => usize::try_from(*v).ok(),
            Value::I64(v) => usize::try_from(*v).ok(),
            _ => None,
        }
    }
    /// Any number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::U64(v) => Some(*v as f64),
            Value::I64(v) => Some(*v as f64),
            Value::F64(v) => Some(*v),
            _ => None,
        }
    }
    /// Text.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Text(v) = self { Some(v) } else { None }
    }
    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(v) = self { Some(*v) } else { None }
    }
    /// The elements of an array.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Value::List(v) = self { Some(v) } else { None }
    }
}

/// Longest tensor name and most dimensions, as in ggml.
const MAX_NAME: usize = 64;
const MAX_DIMS: u32 = 4;
/// Arrays within arrays, at most.
const MAX_DEPTH: usize = 4;

/// Reads a GGUF file, with the others of a model that is split over several; the tensors are views on its bytes.
///
/// # Errors
/// It is not such a file, or is truncated or contradicts itself, a part of a split model is missing, or a tensor's type is not
/// supported; the message names the tensor.
pub fn read(bytes: Bytes, file: &Path) -> Result<Gguf> {
    if sniff(bytes.as_slice()) != FileKind::Gguf {
        return Err(wrong_kind(bytes.as_slice(), file, "a GGUF file"));
    }
    let gguf = parse(&bytes, file).map_err(|e| e.file(file))?;
    let parts = parts(&gguf.metadata, file).map_err(|e| e.file(file))?;
    if parts.is_empty() { Ok(gguf) } else { joined(&parts) }
}

/// Reads only the key-value table.
///
/// # Errors
/// It is not such a file, or is truncated inside that table.
pub fn metadata(bytes: &Bytes, file: &Path) -> Result<BTreeMap<String, Value>> {
    if sniff(bytes.as_slice()) != FileKind::Gguf {
        return Err(wrong_kind(bytes.as_slice(), file, "a GGUF file"));
    }
    key_values(&mut Cursor { data: bytes.as_slice(), at: 4 }).map(|(metadata, _)| metadata).map_err(|e| e.file(file))
}

fn parse(bytes: &Bytes, file: &Path) -> Result<Gguf> {
    let mut cursor = Cursor { data: bytes.as_slice(), at: 4 };
    let (metadata, n_tensors) = key_values(&mut cursor)?;
    let mut infos = Vec::new();
    for _ in 0..cursor.count(n_tensors, 8 + 4 + 4 + 8, "tensors")? {
        infos.push(cursor.tensor_info()?);
    }
    let alignment = alignment(&metadata)?;
    let start = (cursor.at as u64).checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
    let tensors = views(bytes, start, alignment, infos, file)?;
    Ok(Gguf { metadata, tensors, bytes: bytes.clone() })
}

/// The key-value table, and the number of tensors described after it.
fn key_values(cursor: &mut Cursor) -> Result<(BTreeMap<String, Value>, u64)> {
    check_version(cursor.u32("the version")?)?;
    let n_tensors = cursor.u64("the number of tensors")?;
    let n_keys = cursor.u64("the number of metadata keys")?;
    let mut metadata = BTreeMap::new();
    // The shortest key: an empty name, its type and one byte. The shortest tensor: an empty name, no dimension.
    for _ in 0..cursor.count(n_keys, 8 + 4 + 1, "metadata keys")? {
        let key = cursor.text("a metadata key")?.into_owned();
        let kind = cursor.u32(&key)?;
        let value = cursor.value(kind, &key, 0)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(Error::format(format!("the metadata key `{key}` is there twice")));
        }
    }
    Ok((metadata, n_tensors))
}

fn check_version(version: u32) -> Result<()> {
    match version {
        2 | 3 => Ok(()),
        1 => {
            Err(Error::format("is GGUF version 1, which is no longer read")
                .help("convert the model again with a current llama.cpp"))
        }
        // Versions are small: one that fills the upper half was written by the other byte order.
        v if v & 0xffff == 0 && v != 0 => Err(Error::format("is a big-endian GGUF file; only little-endian ones are read")
            .help("convert it with llama.cpp's `gguf_convert_endian.py`")),
        v => Err(Error::format(format!("is GGUF version {v}; versions 2 and 3 are read"))),
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(32) };
    value
        .as_usize()
        .filter(|a| a.is_power_of_two())
        .map(|a| a as u64)
        .ok_or_else(|| Error::format(format!("general.alignment is {value:?}, but must be a power of two")))
}

/// The files of a model that is split over several, in order, this one among them; none for a whole model.
fn parts(metadata: &BTreeMap<String, Value>, file: &Path) -> Result<Vec<PathBuf>> {
    let number = |key| metadata.get(key).and_then(Value::as_usize);
    let (count, part) = (number("split.count").unwrap_or(0), number("split.no").unwrap_or(0));
    if count <= 1 {
        return Ok(Vec::new());
    }
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = format!("-{:05}-of-{count:05}.gguf", part + 1);
    let Some(stem) = name.strip_suffix(&ending) else {
        let message = format!("is part {} of a model split into {count} files, so its name must end in `{ending}`", part + 1);
        return Err(
            Error::format(message).help("the parts of a split model are found by their names: keep those that they came with")
        );
    };
    let paths: Vec<_> = (1..=count.min(1000)).map(|i| file.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf"))).collect();
    let missing: Vec<_> = paths.iter().filter(|path| !path.exists()).filter_map(|path| path.file_name()?.to_str()).collect();
    if missing.is_empty() {
        return Ok(paths);
    }
    let verb = if missing.len() == 1 { "is" } else { "are" };
    Err(Error::format(format!(
        "is part {} of a model split into {count} files, of which {} {verb} missing",
        part + 1,
        missing.len()
    ))
    .help(format!("fetch into its folder: {}", missing.join(", "))))
}

/// All parts of a model as one: the metadata of the first, the tensors of all.
fn joined(paths: &[PathBuf]) -> Result<Gguf> {
    let part = |path: &PathBuf| {
        let bytes = Bytes::map(path)?;
        parse(&bytes, path).map_err(|e| e.file(path))
    };
    let (first, rest) = paths.split_first().ok_or_else(|| Error::internal("a split model without parts"))?;
    let mut whole = part(first)?;
    for path in rest {
        for (name, tensor) in part(path)?.tensors.iter() {
            if !whole.tensors.insert(name, tensor.clone()) {
                return Err(Error::format("is in two parts of the model").tensor(name).file(path));
            }
        }
    }
    let (promised, found) = (whole.metadata.get("split.tensors.count").and_then(Value::as_usize), whole.tensors.len());
    if let Some(promised) = promised.filter(|promised| *promised != found) {
        let message = format!("promises {promised} tensors in {} parts, which hold {found}", paths.len());
        return Err(Error::format(message).file(first).help("the parts are of different models, or of different conversions"));
    }
    Ok(whole)
}

/// Description of one tensor.
struct Info {
    name: String,
    /// Row-major.
    shape: Vec<usize>,
    type_id: u32,
    /// From the start of the tensor data.
    offset: u64,
}

/// Checks the descriptions against the file and against each other, and makes the views.
fn views(bytes: &Bytes, start: u64, alignment: u64, mut infos: Vec<Info>, file: &Path) -> Result<TensorSet> {
    let mut set = TensorSet::new(file);
    infos.sort_by_key(|info| info.offset);
    let total = bytes.len() as u64;
    let mut end_before = 0;
    let mut before = String::new();
    for info in infos {
        let fault = |message: String| Error::format(message).tensor(&info.name);
        let dtype = element_type(info.type_id).map_err(|e| e.tensor(&info.name))?;
        let elements = element_count(&info.shape).map_err(|e| e.tensor(&info.name))?;
        let Some(size) = dtype.bytes_of(elements) else {
            return Err(fault(format!("its {elements} elements do not fill whole {dtype} blocks of {}", dtype.block_len())));
        };
        if !info.offset.is_multiple_of(alignment) {
            return Err(fault(format!("its offset {} is not a multiple of the alignment {alignment}", info.offset)));
        }
        if info.offset < end_before {
            return Err(fault(format!("its data at offset {} overlaps `{before}`, which ends at {end_before}", info.offset)));
        }
        let from = start.checked_add(info.offset);
        let Some((from, to)) = from.and_then(|from| Some((from, from.checked_add(size as u64)?))).filter(|(_, to)| *to <= total)
        else {
            if info.offset > end_before.next_multiple_of(alignment) {
                return Err(fault(format!(
                    "has a corrupt offset: {} in a file of {total} bytes, where the tensors before it end at {end_before}",
                    info.offset
                )));
            }
            let needed = start.saturating_add(info.offset).saturating_add(size as u64);
            let message = format!(
                "is truncated: the first incomplete tensor is `{}`, which ends at byte {needed}, but the file has {total} bytes",
                info.name
            );
            return Err(Error::format(message).help("the download or copy did not finish; fetch it again"));
        };
        // Both lie below the file's length, so they fit.
        let part = bytes.slice(from as usize, (to - from) as usize)?;
        let tensor = Tensor::from_bytes(part, dtype, &info.shape).map_err(|e| e.tensor(&info.name))?;
        if !set.insert(&info.name, tensor) {
            return Err(fault("is there twice".into()));
        }
        end_before = info.offset + size as u64;
        before = info.name;
    }
    Ok(set)
}

/// The dtype of ggml's type number.
fn element_type(id: u32) -> Result<DType> {
    let unsupported = |name: &str| {
        Err(Error::format(format!("its type {name} (number {id}) is not supported")).help(
            "supported are F32, F16, BF16, F64, I8 to I64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1 and the K-quants Q2_K to Q8_K; \
             take the model in one of these",
        ))
    };
    Ok(match id {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Block(Block::Q4_0),
        3 => DType::Block(Block::Q4_1),
        6 => DType::Block(Block::Q5_0),
        7 => DType::Block(Block::Q5_1),
        8 => DType::Block(Block::Q8_0),
        9 => DType::Block(Block::Q8_1),
        10 => DType::Block(Block::Q2K),
        11 => DType::Block(Block::Q3K),
        12 => DType::Block(Block::Q4K),
        13 => DType::Block(Block::Q5K),
        14 => DType::Block(Block::Q6K),
        15 => DType::Block(Block::Q8K),
        24 => DType::I8,
        25 => DType::I16,
        26 => DType::I32,
        27 => DType::I64,
        28 => DType::F64,
        30 => DType::BF16,
        16 => return unsupported("IQ2_XXS"),
        17 => return unsupported("IQ2_XS"),
        18 => return unsupported("IQ3_XXS"),
        19 => return unsupported("IQ1_S"),
        20 => return unsupported("IQ4_NL"),
        21 => return unsupported("IQ3_S"),
        22 => return unsupported("IQ2_S"),
        23 => return unsupported("IQ4_XS"),
        29 => return unsupported("IQ1_M"),
        34 => return unsupported("TQ1_0"),
        35 => return unsupported("TQ2_0"),
        39 => return unsupported("MXFP4"),
        40 => return unsupported("NVFP4"),
        41 => return unsupported("Q1_0"),
        _ => return unsupported("unknown"),
    })
}

/// A place in the file's tables; every step is checked against the end.
struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let part = self.at.checked_add(n).and_then(|end| self.data.get(self.at..end)).ok_or_else(|| {
            Error::format(format!(
                "is truncated inside its tables: {what} takes {n} bytes, but {} are left",
                self.data.len() - self.at
            ))
            .byte(self.at as u64)
        })?;
        self.at += n;
        Ok(part)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of things that take at least `least` bytes each, so that no absurd count is ever believed.
    fn count(&self, n: u64, least: usize, what: &str) -> Result<usize> {
        let most = (self.data.len() - self.at) / least;
        usize::try_from(n).ok().filter(|n| *n <= most).ok_or_else(|| {
            Error::format(format!("claims {n} {what}, but the rest of the file holds {most} at most")).byte(self.at as u64)
        })
    }

    fn text(&mut self, what: &str) -> Result<std::borrow::Cow<'a, str>> {
        let len = self.u64(what)?;
        let len = self.count(len, 1, "bytes of text")?;
        self.take(len, what).map(String::from_utf8_lossy)
    }

    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Result<Value> {
        Ok(match kind {
            0 => Value::U64(self.array::<1>(key)?[0].into()),
            1 => Value::I64(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::U64(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::I64(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::U64(u32::from_le_bytes(self.array(key)?).into()),
            5 => Value::I64(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::F64(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::Text(self.text(key)?.into_owned()),
            9 => {
                if depth == MAX_DEPTH {
                    return Err(Error::format(format!("the metadata key `{key}` nests arrays deeper than {MAX_DEPTH}")));
                }
                let element = self.u32(key)?;
                let n = self.u64(key)?;
                let least = match element {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    _ => 8,
                };
                let n = self.count(n, least, "array elements")?;
                Value::List((0..n).map(|_| self.value(element, key, depth + 1)).collect::<Result<_>>()?)
            }
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            _ => {
                let message = format!("the metadata key `{key}` has the unknown type number {kind}");
                return Err(Error::format(message).byte(self.at as u64));
            }
        })
    }

    fn tensor_info(&mut self) -> Result<Info> {
        let at = self.at as u64;
        let name = self.text("a tensor's name")?.into_owned();
        if name.len() > MAX_NAME {
            let message = format!("a tensor's name has {} bytes, more than the {MAX_NAME} of the format", name.len());
            return Err(Error::format(message).byte(at));
        }
        if name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(Error::format(format!("a tensor's name is not UTF-8 text: `{name}`")).byte(at));
        }
        let dims = self.u32(&name)?;
        if dims > MAX_DIMS {
            return Err(Error::format(format!("has {dims} dimensions, more than the {MAX_DIMS} of the format")).tensor(name));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let size = self.u64(&name)?;
            let size = usize::try_from(size).ok().filter(|size| *size > 0);
            shape.push(size.ok_or_else(|| Error::format("has a dimension of size 0 or beyond memory").tensor(&name))?);
        }
        shape.reverse();
        let type_id = self.u32(&name)?;
        let offset = self.u64(&name)?;
        Ok(Info { name, shape, type_id, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds files by hand, right or wrong.
    struct Builder {
        version: u32,
        keys: Vec<u8>,
        n_keys: u64,
        infos: Vec<u8>,
        n_infos: u64,
        data: Vec<u8>,
    }

    fn text(s: &str) -> Vec<u8> {
        [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
    }

    impl Builder {
        fn new() -> Self {
            Builder { version: 3, keys: vec![], n_keys: 0, infos: vec![], n_infos: 0, data: vec![] }
        }
        fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
            self.keys.extend([&text(key)[..], &kind.to_le_bytes(), value].concat());
            self.n_keys += 1;
            self
        }
        fn tensor(mut self, name: &str, dims: &[u64], type_id: u32, offset: u64, data: &[u8]) -> Self {
            self.infos.extend(text(name));
            self.infos.extend((dims.len() as u32).to_le_bytes());
            self.infos.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
            self.infos.extend(type_id.to_le_bytes());
            self.infos.extend(offset.to_le_bytes());
            self.n_infos += 1;
            let end = self.data.len().max(offset as usize + data.len());
            self.data.resize(end, 0);
            self.data[offset as usize..offset as usize + data.len()].copy_from_slice(data);
            self
        }
        fn build(&self) -> Vec<u8> {
            let mut out = [b"GGUF", &self.version.to_le_bytes()[..]].concat();
            out.extend(self.n_infos.to_le_bytes());
            out.extend(self.n_keys.to_le_bytes());
            out.extend(&self.keys);
            out.extend(&self.infos);
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&self.data);
            out
        }
        fn open(&self) -> Result<Gguf> {
            read(Bytes::from(self.build()), Path::new("m.gguf"))
        }
        fn refusal(&self) -> String {
            self.open().unwrap_err().to_string()
        }
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn all_kinds_of_values_are_read() {
        let list = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &text("a"), &text(" the")].concat();
        let nested =
            [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &5u32.to_le_bytes(), &1u64.to_le_bytes(), &(-7i32).to_le_bytes()]
                .concat();
        let file = Builder::new()
            .key("u8", 0, &[200])
            .key("i8", 1, &[0xff])
            .key("u16", 2, &60000u16.to_le_bytes())
            .key("i16", 3, &(-3i16).to_le_bytes())
            .key("u32", 4, &4_000_000_000u32.to_le_bytes())
            .key("i32", 5, &(-5i32).to_le_bytes())
            .key("f32", 6, &1.5f32.to_le_bytes())
            .key("bool", 7, &[1])
            .key("text", 8, &text("llama"))
            .key("list", 9, &list)
            .key("nested", 9, &nested)
            .key("u64", 10, &u64::MAX.to_le_bytes())
            .key("i64", 11, &i64::MIN.to_le_bytes())
            .key("f64", 12, &0.1f64.to_le_bytes())
            .open()
            .unwrap();
        let at = |key: &str| file.metadata[key].clone();
        assert_eq!([at("u8"), at("u16"), at("u32"), at("u64")], [200, 60000, 4_000_000_000, u64::MAX].map(Value::U64));
        assert_eq!([at("i8"), at("i16"), at("i32"), at("i64")], [-1, -3, -5, i64::MIN].map(Value::I64));
        assert_eq!([at("f32"), at("f64")], [1.5, 0.1].map(Value::F64));
        assert_eq!((at("bool").as_bool(), at("text").as_str()), (Some(true), Some("llama")));
        assert_eq!(at("list").as_list().unwrap()[1].as_str(), Some(" the"));
        assert_eq!(at("nested"), Value::List(vec![Value::List(vec![Value::I64(-7)])]));
        assert_eq!((at("i8").as_usize(), at("u8").as_usize(), at("i32").as_f64()), (None, Some(200), Some(-5.0)));
    }

    #[test]
    fn tensors_are_row_major_views() {
        // Two in features, three out: ggml's dims [2, 3].
        let file = Builder::new()
            .tensor("w", &[2, 3], 0, 0, &floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
            .tensor("g", &[3], 1, 32, &[0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38])
            .open()
            .unwrap();
        assert_eq!(file.tensors.get("w").unwrap().shape(), [3, 2]);
        assert_eq!(file.tensors.get("w").unwrap().row(2).unwrap(), [5.0, 6.0]);
        assert_eq!(file.tensors.get("g").unwrap().to_f32(), [1.0, -2.0, 0.5]);
    }

    #[test]
    fn versions_and_byte_orders() {
        let version = |version| Builder { version, ..Builder::new() };
        assert!(version(2).open().is_ok());
        assert!(version(1).refusal().contains("version 1"));
        assert!(version(0x0300_0000).refusal().contains("big-endian"));
        assert!(version(9).refusal().contains("version 9"));
    }

    #[test]
    fn truncation_anywhere_is_an_error() {
        let whole = Builder::new()
            .key("general.name", 8, &text("tiny"))
            .tensor("w", &[2, 3], 0, 0, &floats(&[1.0; 6]))
            .tensor("z", &[4], 0, 32, &floats(&[1.0; 4]))
            .build();
        for len in 4..whole.len() {
            let error = read(Bytes::from(whole[..len].to_vec()), Path::new("m.gguf")).unwrap_err();
            assert!(error.message().contains("truncated") || error.message().contains("claims"), "{len}: {error}");
        }
        let message = read(Bytes::from(whole[..whole.len() - 1].to_vec()), Path::new("m.gguf")).unwrap_err().to_string();
        assert!(message.contains("first incomplete tensor is `z`"), "{message}");
    }

    #[test]
    fn faults_name_the_tensor() {
        let one = |dims: &[u64], type_id, offset| Builder::new().tensor("w", dims, type_id, offset, &[0; 64]);
        assert!(one(&[4], 16, 0).refusal().contains("tensor `w`: its type IQ2_XXS (number 16) is not supported"));
        assert!(one(&[4], 777, 0).refusal().contains("tensor `w`: its type unknown (number 777)"));
        assert!(one(&[4, 0], 0, 0).refusal().contains("tensor `w`: has a dimension of size 0"));
        assert!(one(&[4], 0, 8).refusal().contains("offset 8 is not a multiple of the alignment 32"));
        assert!(one(&[16, 2], 2, 0).refusal().contains("tensor `w`: rows of shape [2, 16] do not fill whole q4_0 blocks"));
        assert!(one(&[1, 1, 1, 1, 1], 0, 0).refusal().contains("5 dimensions"));
        assert!(one(&[u64::MAX, 8], 0, 0).refusal().contains("tensor `w`"));
        assert!(one(&[1 << 40], 0, 0).refusal().contains("first incomplete tensor is `w`"));
        let mut far = one(&[4], 0, 0);
        let offset = far.infos.len() - 8;
        far.infos[offset..].copy_from_slice(&(u64::MAX - 31).to_le_bytes());
        assert!(far.refusal().contains("tensor `w`: has a corrupt offset"));
        let twice = one(&[4], 0, 0).tensor("w", &[4], 0, 32, &[0; 16]);
        assert!(twice.refusal().contains("tensor `w`: is there twice"));
        let overlapping = one(&[16], 0, 0).tensor("v", &[4], 0, 32, &[0; 16]);
        assert!(overlapping.refusal().contains("tensor `v`: its data at offset 32 overlaps `w`"));
        let long = Builder::new().tensor(&"n".repeat(65), &[4], 0, 0, &[0; 16]);
        assert!(long.refusal().contains("65 bytes"));
    }

    #[test]
    fn faults_of_the_tables() {
        let list = |n: u64| [&4u32.to_le_bytes()[..], &n.to_le_bytes()].concat();
        assert!(Builder::new().key("k", 9, &list(1 << 60)).refusal().contains("claims"));
        assert!(Builder::new().key("k", 13, &[0; 8]).refusal().contains("unknown type number 13"));
        assert!(Builder::new().key("k", 7, &[1]).key("k", 7, &[1]).refusal().contains("`k` is there twice"));
        assert!(Builder::new().key("general.alignment", 4, &24u32.to_le_bytes()).refusal().contains("power of two"));
        assert!(Builder { n_infos: 1 << 50, ..Builder::new() }.refusal().contains("tensors"));
        let deep: Vec<u8> = (0..9).flat_map(|_| [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()).collect();
        assert!(Builder::new().key("k", 9, &deep).refusal().contains("nests arrays"));
        let parts = Builder::new().key("split.count", 2, &3u16.to_le_bytes()).key("split.no", 2, &0u16.to_le_bytes());
        let error = read(Bytes::from(parts.build()), Path::new("/nowhere/m-00001-of-00003.gguf")).unwrap_err();
        assert!(error.to_string().contains("part 1 of a model split into 3 files, of which 3 are missing"));
        assert!(error.helps()[0].ends_with("m-00001-of-00003.gguf, m-00002-of-00003.gguf, m-00003-of-00003.gguf"));
        let renamed = read(Bytes::from(parts.build()), Path::new("/nowhere/m.gguf")).unwrap_err();
        assert!(renamed.to_string().contains("its name must end in `-00001-of-00003.gguf`"), "{renamed}");
    }

    #[test]
    fn parts_of_a_model_are_read_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = |i: u16| folder.path().join(format!("m-0000{i}-of-00002.gguf"));
        let part = |i: u16, name: &str, total: i32| {
            let file = Builder::new()
                .key("split.no", 2, &(i - 1).to_le_bytes())
                .key("split.count", 2, &2u16.to_le_bytes())
                .key("split.tensors.count", 5, &total.to_le_bytes())
                .tensor(name, &[2], 0, 0, &floats(&[f32::from(i), 0.5]));
            std::fs::write(path(i), file.build()).unwrap();
        };
        let open = |i| read(Bytes::map(&path(i)).unwrap(), &path(i));
        part(1, "a", 2);
        part(2, "b", 2);
        for i in [1, 2] {
            let whole = open(i).unwrap();
            assert_eq!((whole.tensors.len(), whole.tensors.get("b").unwrap().to_f32()), (2, vec![2.0, 0.5]));
            assert_eq!(whole.metadata["split.no"].as_usize(), Some(0));
        }
        part(2, "a", 2);
        assert!(open(1).unwrap_err().to_string().contains("tensor `a`: is in two parts of the model"));
        part(2, "b", 2);
        part(1, "a", 3);
        assert!(open(2).unwrap_err().to_string().contains("promises 3 tensors in 2 parts, which hold 2"));
    }
}
