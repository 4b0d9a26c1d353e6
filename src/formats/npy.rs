//! npy: one NumPy array, a header that is a Python dictionary literal and then the elements (FORMATS 6.2).
//!
//! Fortran order becomes a transposed view. Big-endian elements are turned round into a copy. Object arrays hold pickles and
//! are refused, as is everything else that is no number.

use super::plain;
use super::sniff::{FileKind, sniff, wrong_kind};
use crate::error::{Error, Result};
use crate::tensor::{Bytes, Class, DType, Tensor, element_count};
use std::io::Write;
use std::path::Path;

/// Reads an npy file; the tensor is a view on its bytes unless they are big-endian.
///
/// # Errors
/// It is not such a file, its elements are not numbers, or they are not as many as the shape says.
pub fn read(bytes: Bytes, file: &Path) -> Result<Tensor> {
    if sniff(bytes.as_slice()) != FileKind::Npy {
        return Err(wrong_kind(bytes.as_slice(), file, "a NumPy array"));
    }
    parse(&bytes).and_then(|(header, payload)| header.tensor(payload)).map_err(|e| e.file(file))
}

/// An npy file in C order. Elements are stored as what arithmetic gives: f32, f64, i64 or bool.
pub fn write(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Memory takes whatever is written to it.
    let _ = write_to(tensor, &mut bytes);
    bytes
}

/// Writes an npy file as [`write`] makes it, in pieces.
///
/// # Errors
/// What `out` gives.
pub fn write_to(tensor: &Tensor, out: &mut impl Write) -> std::io::Result<()> {
    out.write_all(&header(tensor))?;
    tensor.each_piece(|piece| out.write_all(piece))
}

/// The bytes of the file that [`write`] makes.
pub(super) fn written_len(tensor: &Tensor) -> u64 {
    (header(tensor).len() + tensor.numel() * plain(tensor).block_bytes()) as u64
}

/// What stands in a file before its elements.
fn header(tensor: &Tensor) -> Vec<u8> {
    let descr = match plain(tensor) {
        DType::Bool => "|b1",
        DType::I64 => "<i8",
        DType::F64 => "<f8",
        _ => "<f4",
    };
    let shape = match tensor.shape() {
        [only] => format!("({only},)"),
        shape => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length take 10 bytes; NumPy pads the whole to a multiple of 64 and ends it with a new line.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.push_str(&" ".repeat(padded - 1 - header.len()));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out
}

/// Reads the array of an archive's member; the type of its elements where they are texts, times or complex numbers.
pub(super) fn member(bytes: &Bytes) -> Result<std::result::Result<Tensor, String>> {
    let (header, payload) = parse(bytes)?;
    let no_number = header.descr.trim_start_matches(['<', '>', '|', '=']).starts_with(['U', 'S', 'a', 'M', 'm', 'c']);
    if no_number { Ok(Err(header.descr.to_string())) } else { header.tensor(payload).map(Ok) }
}

/// A single number of the type `descr`, as text.
pub(super) fn scalar(descr: &str, bytes: Vec<u8>) -> Option<String> {
    let header = Header { descr, fortran: false, shape: Vec::new() };
    let number = header.tensor(Bytes::from(bytes)).ok()?;
    Some(match number.dtype().class() {
        Class::F32 | Class::F64 => number.to_f64().first()?.to_string(),
        Class::Int => number.to_i64().first()?.to_string(),
        Class::Bool => number.to_bool().first()?.to_string(),
    })
}

/// The header of an array, and the bytes after it.
fn parse(bytes: &Bytes) -> Result<(Header<'_>, Bytes)> {
    let data = bytes.as_slice();
    let truncated = || Error::format(format!("is truncated inside its header: it has {} bytes", data.len()));
    if !data.starts_with(b"\x93NUMPY") {
        return Err(Error::format("is not a NumPy array: the magic bytes are missing"));
    }
    let number = |at: usize, n: usize| data.get(at..at + n).map(|b| b.iter().rev().fold(0usize, |v, b| v << 8 | usize::from(*b)));
    let (start, length) = match data.get(6) {
        Some(1) => (10, number(8, 2)),
        Some(2 | 3) => (12, number(8, 4)),
        Some(version) => return Err(Error::format(format!("is npy version {version}; versions 1 to 3 are read"))),
        None => return Err(truncated()),
    };
    let length = length.ok_or_else(truncated)?;
    let header = data.get(start..start + length).ok_or_else(truncated)?;
    let header = std::str::from_utf8(header).map_err(|_| Error::format("its header is not text"))?;
    let header = Header::parse(header)?;
    let payload = bytes.slice(start + length, data.len() - start - length)?;
    Ok((header, payload))
}

/// What the header's dictionary says.
struct Header<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let mut literal = Literal(text);
        Self::read(&mut literal).ok_or_else(|| {
            Error::format(format!("its header is not the dictionary NumPy writes: `{}`", text.trim_end().escape_debug()))
                .help("structured arrays are not read; save each field as an array of its own")
        })
    }

    fn read(literal: &mut Literal<'a>) -> Option<Self> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        literal.symbol("{")?;
        while literal.symbol("}").is_none() {
            let key = literal.string()?;
            literal.symbol(":")?;
            match key {
                "descr" => descr = Some(literal.string()?),
                "fortran_order" => {
                    fortran = Some(literal.symbol("True").is_some());
                    if fortran == Some(false) {
                        literal.symbol("False")?;
                    }
                }
                "shape" => shape = Some(literal.tuple()?),
                _ => return None,
            }
            if literal.symbol(",").is_none() {
                literal.symbol("}")?;
                break;
            }
        }
        literal.0.trim().is_empty().then_some(())?;
        Some(Header { descr: descr?, fortran: fortran?, shape: shape? })
    }

    fn tensor(&self, payload: Bytes) -> Result<Tensor> {
        let (dtype, big_endian) = element_type(self.descr)?;
        let needed = element_count(&self.shape)?.checked_mul(dtype.block_bytes());
        if needed != Some(payload.len()) {
            return Err(Error::format(format!(
                "its shape {:?} of `{}` needs {} bytes, but {} follow the header",
                self.shape,
                self.descr,
                needed.map_or("too many".to_string(), |n| n.to_string()),
                payload.len()
            )));
        }
        let payload = if big_endian { swap(payload.as_slice(), dtype.block_bytes()) } else { payload };
        if self.fortran {
            let reversed: Vec<_> = self.shape.iter().rev().copied().collect();
            Ok(Tensor::from_bytes(payload, dtype, &reversed)?.t())
        } else {
            Tensor::from_bytes(payload, dtype, &self.shape)
        }
    }
}

/// The dtype of a `descr`, and whether its elements are big-endian.
fn element_type(descr: &str) -> Result<(DType, bool)> {
    let (order, code) = descr.split_at_checked(1).unwrap_or(("", descr));
    let dtype = match code {
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "b1" => DType::Bool,
        "O" => {
            return Err(Error::format("holds Python objects (dtype object), which need a pickle to be run")
                .help("save plain numeric arrays: `np.savez(path, name=array.astype(np.float32))`"));
        }
        "V2" => {
            return Err(Error::format("holds 2-byte elements of a type that NumPy does not know (`|V2`), probably bfloat16")
                .help("save it as float32: `array.astype(np.float32)`"));
        }
        _ => {
            return Err(Error::format(format!("holds elements of type `{descr}`, which is not supported"))
                .help("supported are f2, f4, f8, i1 to i8, u1 to u8 and b1"));
        }
    };
    match order {
        "<" | "|" | "=" => Ok((dtype, false)),
        ">" => Ok((dtype, true)),
        _ => Err(Error::format(format!("has the unknown byte order of `{descr}`"))),
    }
}

fn swap(payload: &[u8], width: usize) -> Bytes {
    let mut turned = payload.to_vec();
    turned.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    Bytes::from(turned)
}

/// What is left to read of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    /// Takes this symbol, if it comes next.
    fn symbol(&mut self, symbol: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(symbol)?;
        Some(())
    }

    /// Takes a string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.symbol("'").is_some() { '\'' } else { self.symbol("\"").map(|()| '"')? };
        let (string, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    /// Takes a tuple of whole numbers; Python 2 wrote them with an `L`.
    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.symbol("(")?;
        let (inside, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let inside = inside.trim();
        let inside = inside.strip_suffix(',').unwrap_or(inside);
        if inside.is_empty() {
            return Some(Vec::new());
        }
        inside.split(',').map(|n| n.trim().trim_end_matches('L').parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, payload: &[u8]) -> Vec<u8> {
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.bytes());
        out.extend(payload);
        out
    }

    fn open(header: &str, payload: &[u8]) -> Result<Tensor> {
        read(Bytes::from(file(header, payload)), Path::new("x.npy"))
    }

    fn array(descr: &str, fortran: &str, shape: &str, payload: &[u8]) -> Result<Tensor> {
        open(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"), payload)
    }

    #[test]
    fn orders_and_types() {
        let bytes: Vec<u8> = (0..6i16).flat_map(|v| (v - 2).to_le_bytes()).collect();
        let c = array("<i2", "False", "(2, 3)", &bytes).unwrap();
        assert_eq!((c.shape(), c.to_i64()), (&[2, 3][..], vec![-2, -1, 0, 1, 2, 3]));
        let f = array("<i2", "True", "(2, 3)", &bytes).unwrap();
        assert_eq!((f.shape(), f.to_i64()), (&[2, 3][..], vec![-2, 0, 2, -1, 1, 3]));
        let big: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        assert_eq!(array(">f4", "False", "(2,)", &big).unwrap().to_f32(), [1.5, -2.0]);
        assert_eq!(array("<f8", "False", "()", &0.1f64.to_le_bytes()).unwrap().item().unwrap(), 0.1);
        assert_eq!(array("|b1", "False", "(2L,)", &[1, 0]).unwrap().to_bool(), [true, false]);
        assert_eq!(array("<f2", "True", "(0, 3)", &[]).unwrap().shape(), [0, 3]);
        let mut v2 = b"\x93NUMPY\x02\x00".to_vec();
        let header = "{\"shape\": (1,), 'fortran_order': False, 'descr': '|u1'}";
        v2.extend((header.len() as u32).to_le_bytes());
        v2.extend([header.as_bytes(), &[9]].concat());
        assert_eq!(read(Bytes::from(v2), Path::new("x.npy")).unwrap().to_i64(), [9]);
    }

    #[test]
    fn refusals_say_why() {
        let error = |result: Result<Tensor>| result.unwrap_err().to_string();
        assert!(error(array("|O", "False", "(2,)", b"\x80\x03")).contains("Python objects"));
        assert!(error(array("|V2", "False", "(2,)", &[0; 4])).contains("bfloat16"));
        assert!(error(array("<c8", "False", "(1,)", &[0; 8])).contains("`<c8`"));
        assert!(error(array("<f4", "False", "(2, 3)", &[0; 20])).contains("needs 24 bytes, but 20 follow"));
        assert!(error(array("<f4", "False", "(2, 3)", &[0; 28])).contains("needs 24 bytes, but 28 follow"));
        assert!(error(array("<f4", "False", "(99999999999, 99999999999)", &[])).contains("99999999999"));
        assert!(error(array("<f4", "False", "(-1,)", &[])).contains("not the dictionary"));
        let structured = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }";
        assert!(error(open(structured, &[0; 4])).contains("not the dictionary"));
        assert!(error(open("{'descr': '<f4', 'shape': (1,)}", &[0; 4])).contains("not the dictionary"));
        let whole = file("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", &[0; 4]);
        for len in 6..whole.len() {
            assert!(read(Bytes::from(whole[..len].to_vec()), Path::new("x.npy")).is_err(), "{len}");
        }
        assert!(error(read(Bytes::from(b"<html>".to_vec()), Path::new("x.npy"))).contains("HTML page"));
    }

    #[test]
    fn what_is_written_is_read_and_aligned() {
        for tensor in [
            Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap().t(),
            Tensor::vector_f64(vec![0.1]),
            Tensor::scalar(-3.0),
            Tensor::vector_i64(vec![1, -1]),
        ] {
            let bytes = write(&tensor);
            assert_eq!((bytes.len() - tensor.numel() * plain(&tensor).block_bytes()) % 64, 0);
            assert_eq!(written_len(&tensor), bytes.len() as u64);
            let back = read(Bytes::from(bytes), Path::new("x.npy")).unwrap();
            assert_eq!((back.shape(), back.dtype(), back.to_f64()), (tensor.shape(), tensor.dtype(), tensor.to_f64()));
        }
    }
}
