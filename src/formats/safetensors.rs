//! safetensors: 8 bytes of header length, a JSON header, then all tensors without a gap (FORMATS 6.1).
//!
//! The `safetensors` crate gives the header's entry types and the writer. The checks are ours: the crate takes the last of
//! two entries of one name, and its errors name neither the tensor nor the bytes that are missing.

use super::sniff::{FileKind, sniff, wrong_kind};
use super::{TensorSet, plain};
use crate::error::{Error, Result};
use crate::tensor::{Bytes, DType, Tensor, element_count};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// Longest header, as in the reference implementation.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Reads a safetensors file; the tensors are views on its bytes.
///
/// # Errors
/// It is not such a file, or is truncated, or its header breaks a rule of the format; the message names the tensor.
pub fn read(bytes: Bytes, file: &Path) -> Result<TensorSet> {
    let header = read_header(&bytes, file)?;
    let mut set = TensorSet::new(file);
    set.metadata = header.metadata;
    check_layout(&header.tensors, bytes.len() - header.end).map_err(|e| e.file(file))?;
    for (name, info) in header.tensors {
        let tensor = view(&bytes, header.end, &info).map_err(|e| e.tensor(&name).file(file))?;
        set.insert(name, tensor);
    }
    Ok(set)
}

/// A safetensors file. Elements are stored as what arithmetic gives: f32, f64, i64 or bool.
///
/// # Errors
/// A name or the metadata cannot be written.
pub fn write(tensors: &TensorSet) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(tensors, &mut bytes)?;
    Ok(bytes)
}

/// Writes a safetensors file as [`write`] makes it, in pieces.
///
/// # Errors
/// As [`write`], or `out` fails.
pub fn write_to(tensors: &TensorSet, out: &mut impl Write) -> Result<()> {
    serialize(tensors, Stored::AsArithmetic, out)
}

/// As [`write_to`], with bytes (u8) as they are.
///
/// # Errors
/// As [`write_to`].
pub fn write_with_bytes_to(tensors: &TensorSet, out: &mut impl Write) -> Result<()> {
    serialize(tensors, Stored::WithBytes, out)
}

/// As [`write_to`], with f32 rounded to bf16 (to the nearest, ties to even).
///
/// # Errors
/// As [`write_to`].
pub fn write_bf16_to(tensors: &TensorSet, out: &mut impl Write) -> Result<()> {
    serialize(tensors, Stored::Narrow, out)
}

/// In which types tensors are stored.
#[derive(Clone, Copy, PartialEq)]
enum Stored {
    /// Those of arithmetic.
    AsArithmetic,
    /// Those, but f32 as bf16.
    Narrow,
    /// Those, but u8 as u8.
    WithBytes,
}

fn serialize(tensors: &TensorSet, how: Stored, out: &mut impl Write) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("cannot write safetensors: {e}"));
    let stored = |tensor: &Tensor| match plain(tensor) {
        _ if how == Stored::WithBytes && tensor.as_u8().is_some() => Dtype::U8,
        DType::Bool => Dtype::BOOL,
        DType::I64 => Dtype::I64,
        DType::F64 => Dtype::F64,
        _ if how == Stored::Narrow => Dtype::BF16,
        _ => Dtype::F32,
    };
    // As the reference implementation: wide elements first, so that all are aligned, then by name.
    let mut order: Vec<_> = tensors.iter().map(|(name, tensor)| (stored(tensor), name, tensor)).collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut end = 0;
    let entries = order.iter().map(|(dtype, name, tensor)| {
        let start = end;
        end += tensor.numel() * dtype.bitsize() / 8;
        (name.to_string(), TensorInfo { dtype: *dtype, shape: tensor.shape().to_vec(), data_offsets: (start, end) })
    });
    let metadata = (!tensors.metadata.is_empty()).then(|| tensors.metadata.clone().into_iter().collect::<HashMap<_, _>>());
    let header = Metadata::new(metadata, entries.collect()).map_err(|e| failed(&e))?;
    let mut header = serde_json::to_vec(&header).map_err(|e| failed(&e))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_HEADER {
        let message = format!("the header would have {} bytes, more than the {MAX_HEADER} that safetensors allows", header.len());
        return Err(Error::limit(message));
    }
    let mut put = |bytes: &[u8]| out.write_all(bytes);
    put(&(header.len() as u64).to_le_bytes()).and_then(|()| put(&header)).map_err(|e| failed(&e))?;
    let mut halves = Vec::new();
    for (dtype, name, tensor) in order {
        if let Some(bytes) = tensor.as_u8().filter(|_| dtype == Dtype::U8) {
            put(bytes).map_err(|e| failed(&e).tensor(name))?;
            continue;
        }
        let written = tensor.each_piece(|piece| {
            if dtype != Dtype::BF16 {
                return put(piece);
            }
            halves.clear();
            let (values, _) = piece.as_chunks();
            halves.extend(values.iter().flat_map(|value| half::bf16::from_f32(f32::from_le_bytes(*value)).to_le_bytes()));
            put(&halves)
        });
        written.map_err(|e| failed(&e).tensor(name))?;
    }
    Ok(())
}

/// The header, with its entries in the order of their bytes.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
    /// Where the tensors' bytes begin.
    end: usize,
}

fn read_header(bytes: &Bytes, file: &Path) -> Result<Header> {
    let data = bytes.as_slice();
    let length = data.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
    // Of a file that is none the first bytes are no such number, so it must be one that such a file can have.
    if data.get(8) == Some(&b'{') && (MAX_HEADER + 1..1 << 40).contains(&length) {
        let message = format!("its header claims {length} bytes, more than the {MAX_HEADER} that the format allows");
        return Err(Error::format(message).file(file));
    }
    if !matches!(sniff(data), FileKind::Safetensors) {
        // A header that does not begin with `{` right after its length is no header either.
        return Err(wrong_kind(data, file, "a safetensors file"));
    }
    // At most MAX_HEADER, as `sniff` has checked.
    let end = 8 + length as usize;
    let Some(text) = data.get(8..end) else {
        let message = format!("is truncated: its header has {length} bytes, but only {} follow", data.len() - 8);
        return Err(Error::format(message).file(file));
    };
    let text = std::str::from_utf8(text)
        .map_err(|e| Error::format("the header is not UTF-8 text").file(file).byte(8 + e.valid_up_to() as u64))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let (metadata, mut tensors) = json
        .deserialize_map(Entries)
        .and_then(|entries| json.end().map(|()| entries))
        .map_err(|e| Error::format(format!("the header cannot be read: {e}")).file(file))?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Ok(Header { metadata, tensors, end })
}

/// Reads the header's entries in order and refuses two of one name.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = (BTreeMap<String, String>, Vec<(String, TensorInfo)>);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map from tensor names to dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut metadata, mut tensors) = (None, Vec::new());
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("`{name}` is there twice")));
            }
            let in_entry = |e: A::Error| A::Error::custom(format!("entry `{name}`: {e}"));
            if name == "__metadata__" {
                metadata = Some(map.next_value().map_err(in_entry)?);
            } else {
                let info = map.next_value().map_err(in_entry)?;
                tensors.push((name, info));
            }
        }
        Ok((metadata.unwrap_or_default(), tensors))
    }
}

/// Checks that the tensors, sorted by offset, fill the `available` bytes after the header exactly.
fn check_layout(tensors: &[(String, TensorInfo)], available: usize) -> Result<()> {
    let mut end = 0;
    for (i, (name, info)) in tensors.iter().enumerate() {
        let (from, to) = info.data_offsets;
        if to < from {
            return Err(Error::format(format!("its data_offsets [{from}, {to}] run backwards")).tensor(name));
        }
        if from != end {
            let (fault, before) = (if from < end { "overlaps" } else { "leaves a hole after" }, i.checked_sub(1));
            let neighbour = before.map_or("the header".to_string(), |i| format!("`{}`", tensors[i].0));
            let message = format!("its bytes [{from}, {to}] {fault} {neighbour}, which ends at {end}");
            return Err(Error::format(message).tensor(name));
        }
        end = to;
    }
    if end > available {
        let missing = tensors.iter().find(|(_, info)| info.data_offsets.1 > available).map_or("", |(name, _)| name);
        let message = format!(
            "is truncated: the header promises {end} bytes of tensors, the file has {available}; the first incomplete tensor is `{missing}`"
        );
        return Err(Error::format(message).help("the download or copy did not finish; fetch it again"));
    }
    if end < available {
        return Err(Error::format(format!("has {} bytes after the last tensor, which no tensor owns", available - end)));
    }
    Ok(())
}

fn view(bytes: &Bytes, data: usize, info: &TensorInfo) -> Result<Tensor> {
    let dtype = match info.dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::U16 => DType::U16,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 => DType::U64,
        Dtype::I64 => DType::I64,
        Dtype::F8_E4M3 => DType::F8E4M3,
        Dtype::F8_E5M2 => DType::F8E5M2,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::C64 => {
            return Err(
                Error::format("its dtype C64, of complex numbers, is not supported").help("save tensor.real in its place")
            );
        }
        other => {
            return Err(Error::format(format!("its dtype {other} is not supported"))
                .help("supported are BOOL, U8, I8, U16, I16, U32, I32, U64, I64, F8_E4M3, F8_E5M2, F16, BF16, F32 and F64"));
        }
    };
    element_count(&info.shape)?;
    let (from, to) = info.data_offsets;
    Tensor::from_bytes(bytes.slice(data + from, to - from)?, dtype, &info.shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this header and this many bytes 0, 1, 2, … after it.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.extend((0..data).map(|i| i as u8));
        out
    }

    fn open(bytes: Vec<u8>) -> Result<TensorSet> {
        read(Bytes::from(bytes), Path::new("w.safetensors"))
    }

    fn refusal(header: &str, data: usize) -> String {
        open(file(header, data)).unwrap_err().to_string()
    }

    #[test]
    fn tensors_are_views_wherever_they_lie() {
        // The header's 163 bytes put `b` and `c` on odd addresses.
        let header = r#"{"__metadata__":{"format":"pt"},"c":{"dtype":"I16","shape":[2],"data_offsets":[12,16]},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"e":{"dtype":"F32","shape":[0,4],"data_offsets":[12,12]},"s":{"dtype":"U8","shape":[],"data_offsets":[16,17]}}   "#;
        let mut bytes = file(header, 17);
        let at = bytes.len() - 17;
        for (i, value) in [1.0f32, -2.0, 0.5, 3.0, 4.0, -0.25].into_iter().enumerate() {
            bytes[at + 2 * i..at + 2 * i + 2].copy_from_slice(&half::bf16::from_f32(value).to_le_bytes());
        }
        let set = open(bytes).unwrap();
        assert_eq!(set.names().collect::<Vec<_>>(), ["b", "c", "e", "s"]);
        assert_eq!(set.get("b").unwrap().to_f32(), [1.0, -2.0, 0.5, 3.0, 4.0, -0.25]);
        assert_eq!(set.get("c").unwrap().to_i64(), [13 * 256 + 12, 15 * 256 + 14]);
        assert_eq!(set.get("e").unwrap().shape(), [0, 4]);
        assert_eq!(set.get("s").unwrap().to_i64(), [16]);
        assert_eq!(set.metadata["format"], "pt");
    }

    #[test]
    fn truncated_files_name_the_first_incomplete_tensor() {
        let header =
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}}"#;
        assert!(open(file(header, 24)).is_ok());
        let message = refusal(header, 20);
        assert!(message.contains("promises 24 bytes") && message.contains("has 20") && message.contains("`b`"), "{message}");
        assert!(refusal(header, 25).contains("1 bytes after the last tensor"));
        let mut cut = file(header, 0);
        cut.truncate(40);
        let message = open(cut).unwrap_err().to_string();
        assert!(message.contains(&format!("its header has {} bytes, but only 32 follow", header.len())), "{message}");
    }

    #[test]
    fn layouts_that_lie_are_refused() {
        let two = |a: &str, b: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{b}}}}}"#
            )
        };
        assert!(refusal(&two("[0,8]", "[4,12]"), 12).contains("tensor `b`: its bytes [4, 12] overlaps `a`"));
        assert!(refusal(&two("[0,8]", "[12,20]"), 20).contains("leaves a hole after `a`"));
        assert!(refusal(&two("[8,0]", "[8,16]"), 16).contains("run backwards"));
        assert!(refusal(&two("[0,8]", "[8,12]"), 12).contains("tensor `b`: shape [2] as f32 needs 8 bytes, but there are 4"));
        assert!(refusal(&two("[0,-8]", "[8,16]"), 16).contains("entry `a`"));
        let twice =
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        assert!(refusal(twice, 2).contains("`a` is there twice"));
        let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#;
        assert!(refusal(huge, 8).contains("tensor `a`"));
        assert!(
            refusal(r#"{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,1]}}"#, 1).contains("entry `a`: unknown variant `F9`")
        );
        assert!(
            refusal(r#"{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#, 8)
                .contains("dtype C64, of complex numbers, is not supported")
        );
    }

    #[test]
    fn other_files_are_called_by_their_names() {
        for (bytes, what) in [
            (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "git-LFS pointer"),
            (b"<!DOCTYPE html><html>".to_vec(), "HTML page"),
            (vec![0; 64], "zero bytes"),
            (Vec::new(), "is empty"),
            (b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec(), "zip archive"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff{".to_vec(), "unknown kind"),
        ] {
            let message = open(bytes).unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
        }
        let not_text = {
            let mut b = file("{\"a\":1}", 0);
            b[10] = 0xff;
            b
        };
        assert!(open(not_text).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut set = TensorSet::new("");
        set.insert("w", Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap().t());
        set.insert("ids", Tensor::vector_i64(vec![-1, 7]));
        set.insert("mask", Tensor::from_bool(vec![true, false], &[2]).unwrap());
        set.insert("x", Tensor::scalar(0.1));
        set.metadata.insert("made_by".into(), "a test".into());
        let back = open(write(&set).unwrap()).unwrap();
        assert_eq!(back.get("w").unwrap().shape(), [3, 2]);
        assert_eq!(back.get("w").unwrap().to_f32(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(back.get("ids").unwrap().to_i64(), [-1, 7]);
        assert_eq!(back.get("mask").unwrap().to_bool(), [true, false]);
        assert_eq!(back.get("x").unwrap().item().unwrap(), 0.1);
        assert_eq!(back.metadata["made_by"], "a test");

        let mut set = TensorSet::new("");
        set.insert("text", Tensor::from_bytes(Bytes::from(b"any bytes\xff\0".to_vec()), DType::U8, &[11]).unwrap());
        set.insert("w", Tensor::vector(vec![1.5]));
        let mut bytes = Vec::new();
        write_with_bytes_to(&set, &mut bytes).unwrap();
        assert!(bytes.windows(11).any(|part| part == b"any bytes\xff\0"));
        let back = open(bytes).unwrap();
        assert_eq!(back.get("text").unwrap().as_u8(), Some(&b"any bytes\xff\0"[..]));
        assert_eq!(back.get("text").unwrap().narrow(0, 4..9).unwrap().as_u8(), Some(&b"bytes"[..]));
        assert_eq!((back.get("w").unwrap().to_f32(), back.get("w").unwrap().as_u8()), (vec![1.5], None));
    }
}
