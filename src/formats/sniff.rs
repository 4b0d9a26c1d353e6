//! What a file really is, by its first bytes, so that an error can say more than "not a GGUF file" (FORMATS 8).

use crate::error::Error;
use std::path::Path;

/// What the first bytes of a file say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// GGUF weights.
    Gguf,
    /// safetensors weights.
    Safetensors,
    /// A zip whose first member is a NumPy array.
    Npz,
    /// A single NumPy array.
    Npy,
    /// A PyTorch checkpoint: a zip with a pickle in it, or a bare pickle.
    Pickle,
    /// Another zip.
    Zip,
    /// JSON text.
    Json,
    /// An HTML or XML page.
    Html,
    /// The pointer that git leaves when git-lfs did not fetch the file.
    LfsPointer,
    /// No bytes at all.
    Empty,
    /// Space that was set aside and never written.
    Zeros,
    /// None of these.
    Unknown,
}

/// How many bytes are looked at: the first page, so that mapped weights stay untouched.
const HEAD: usize = 4096;

/// Recognises a file by its first bytes.
pub fn sniff(bytes: &[u8]) -> FileKind {
    let head = &bytes[..bytes.len().min(HEAD)];
    let text = text_start(head);
    if head.is_empty() {
        FileKind::Empty
    // Before the others: the length that such a file opens with may look like their first bytes.
    } else if head.get(8) == Some(&b'{') && header_length(head).is_some_and(|n| n <= super::safetensors::MAX_HEADER) {
        FileKind::Safetensors
    } else if head.starts_with(b"GGUF") {
        FileKind::Gguf
    } else if head.starts_with(b"\x93NUMPY") {
        FileKind::Npy
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        zip_kind(head)
    } else if matches!(head, [0x80, 2..=5, ..]) {
        FileKind::Pickle
    } else if head.starts_with(b"version https://git-lfs.github.com/") {
        FileKind::LfsPointer
    } else if head.iter().all(|b| *b == 0) {
        FileKind::Zeros
    } else if [&b"<!doctype"[..], b"<html", b"<head", b"<?xml"].iter().any(|tag| starts_with_ignoring_case(text, tag)) {
        FileKind::Html
    } else if matches!(text, [b'{' | b'[', ..]) {
        FileKind::Json
    } else {
        FileKind::Unknown
    }
}

/// The error for a file that should be `wanted` ("a GGUF file") but is something else.
pub fn wrong_kind(bytes: &[u8], file: &Path, wanted: &str) -> Error {
    let error = |what: &str| Error::format(format!("{what}, not {wanted}")).file(file);
    match sniff(bytes) {
        FileKind::Gguf => error("is a GGUF file").help("files of this kind are opened as `.gguf`"),
        FileKind::Safetensors => error("is a safetensors file").help("files of this kind are opened as `.safetensors`"),
        FileKind::Npz => error("is a NumPy archive").help("files of this kind are opened as `.npz`"),
        FileKind::Npy => error("is a NumPy array").help("files of this kind are opened as `.npy`"),
        FileKind::Pickle => error("is a PyTorch checkpoint (pickle)").help("files of this kind are opened as `.pt`"),
        FileKind::Zip => error("is a zip archive").help("unpack it, and name the weights inside"),
        FileKind::Json => error("is JSON text")
            .help(format!("it may be the error message of a download; it begins with `{}`", beginning(bytes))),
        FileKind::Html => error("is an HTML page")
            .help("perhaps the error or login page of a download; a gated model needs its licence accepted and HF_TOKEN set"),
        FileKind::LfsPointer => error("is a git-LFS pointer").help("run `git lfs pull` in its folder to fetch the file itself"),
        FileKind::Empty => error("is empty").help("the download or copy did not finish; fetch it again"),
        FileKind::Zeros => error("begins with nothing but zero bytes")
            .help("space was set aside for a download that did not finish; fetch it again"),
        FileKind::Unknown => error("is of an unknown kind").help(format!("it begins with `{}`", beginning(bytes))),
    }
}

/// The first bytes for a message: text as it stands, other bytes escaped.
fn beginning(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(24)].escape_ascii().to_string()
}

/// The number that a safetensors file opens with.
fn header_length(head: &[u8]) -> Option<u64> {
    head.first_chunk().map(|n| u64::from_le_bytes(*n))
}

/// What follows a byte-order mark and white space.
fn text_start(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start()
}

fn starts_with_ignoring_case(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|t| t.eq_ignore_ascii_case(start))
}

/// Tells NumPy's zips from PyTorch's by the name of the first member, which its local header holds from byte 30.
fn zip_kind(head: &[u8]) -> FileKind {
    let name = head.get(26..28).and_then(|n| head.get(30..30 + usize::from(u16::from_le_bytes([n[0], n[1]]))));
    match name {
        Some(name) if name.ends_with(b".npy") => FileKind::Npz,
        Some(name) if name.ends_with(b"data.pkl") || name.ends_with(b".format_version") => FileKind::Pickle,
        _ => FileKind::Zip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let zip = |name: &str| {
            let mut head = b"PK\x03\x04".to_vec();
            head.resize(26, 0);
            head.extend([name.len() as u8, 0, 0, 0]);
            head.extend(name.as_bytes());
            head
        };
        for (bytes, kind) in [
            (b"GGUF\x03\0\0\0".to_vec(), FileKind::Gguf),
            (b"\x02\0\0\0\0\0\0\0{}".to_vec(), FileKind::Safetensors),
            (b"\x80\x02\0\0\0\0\0\0{\"a".to_vec(), FileKind::Safetensors),
            (b"PK\x03\x04\0\0\0\0{\"a".to_vec(), FileKind::Safetensors),
            (zip("W_enc.npy"), FileKind::Npz),
            (zip("archive/data.pkl"), FileKind::Pickle),
            (zip("notes.txt"), FileKind::Zip),
            (b"\x93NUMPY\x01\0".to_vec(), FileKind::Npy),
            (b"\x80\x02}q\0.".to_vec(), FileKind::Pickle),
            (b"\x80\x02}q\0X{\0{\0".to_vec(), FileKind::Pickle),
            (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}".to_vec(), FileKind::Pickle),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(), FileKind::LfsPointer),
            (b"\xef\xbb\xbf \n<!DOCTYPE HTML>".to_vec(), FileKind::Html),
            (b"<HTML><body>".to_vec(), FileKind::Html),
            (b"{\"error\":\"gated\"}".to_vec(), FileKind::Json),
            (vec![0; 10_000], FileKind::Zeros),
            (Vec::new(), FileKind::Empty),
            (b"hello".to_vec(), FileKind::Unknown),
        ] {
            assert_eq!(sniff(&bytes), kind, "{}", beginning(&bytes));
        }
    }

    #[test]
    fn the_wrong_kind_is_named_with_advice() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\n";
        let error = wrong_kind(pointer, Path::new("m.gguf"), "a GGUF file");
        assert_eq!(error.to_string(), "m.gguf: is a git-LFS pointer, not a GGUF file");
        assert!(error.helps()[0].contains("git lfs pull"));
    }
}
