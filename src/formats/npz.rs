//! npz: a zip of npy files (FORMATS 6.2). Stored members are views on the mapped archive, however large; deflated ones are
//! inflated on opening.

use super::archive::Archive;
use super::sniff::{FileKind, sniff, wrong_kind};
use super::{TensorSet, npy};
use crate::error::{Error, Result};
use crate::tensor::Bytes;
use crate::work::Work;
use std::io::{Cursor, Seek, Write};
use std::path::Path;
use zip::CompressionMethod;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;

/// Reads an npz archive; a tensor is named as its member without `.npy`. What is no array of numbers (a folder, a README, an
/// array of texts) is left out and named in `unread`.
///
/// # Errors
/// It is not such an archive, is truncated, holds no array of numbers, or one that cannot be read; the message names the member.
pub fn read(bytes: Bytes, file: &Path, work: &Work) -> Result<TensorSet> {
    if !matches!(sniff(bytes.as_slice()), FileKind::Npz | FileKind::Zip) {
        return Err(wrong_kind(bytes.as_slice(), file, "a NumPy archive"));
    }
    let mut archive = Archive::open(&bytes, file, work)?;
    let mut set = TensorSet::new(file);
    for index in 0..archive.len() {
        let path = archive.path(index).map_err(|e| e.file(file))?;
        let Some(name) = path.strip_suffix(".npy").filter(|name| !name.is_empty()) else {
            set.unread.push(path);
            continue;
        };
        match archive.read(index).and_then(|member| npy::member(&member)).map_err(|e| e.tensor(name).file(file))? {
            Ok(tensor) => _ = set.insert(name, tensor),
            Err(kind) => set.unread.push(format!("{path} (elements `{kind}`)")),
        }
    }
    match set.unread.first().filter(|_| set.is_empty()) {
        None => Ok(set),
        Some(path) if path.ends_with(')') => {
            Err(Error::format(format!("holds no array of numbers: its members are {}", set.unread.join(", "))).file(file))
        }
        Some(path) => {
            let message = "is not named `….npy`, so this is no archive of NumPy arrays";
            Err(Error::format(message).tensor(path).file(file))
        }
    }
}

/// An npz archive of stored members.
///
/// # Errors
/// A name cannot be written.
pub fn write(tensors: &TensorSet) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    write_to(tensors, &mut bytes)?;
    Ok(bytes.into_inner())
}

/// Writes an npz archive as [`write`] makes it, in pieces.
///
/// # Errors
/// As [`write`], or `out` fails.
pub fn write_to(tensors: &TensorSet, out: &mut (impl Write + Seek)) -> Result<()> {
    let failed = |e: ZipError| Error::internal(format!("cannot write a zip archive: {e}"));
    let mut archive = zip::ZipWriter::new(out);
    for (name, tensor) in tensors.iter() {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(u32::try_from(npy::written_len(tensor)).is_err());
        archive
            .start_file(format!("{name}.npy"), options)
            .and_then(|()| Ok(npy::write_to(tensor, &mut archive)?))
            .map_err(|e| failed(e).tensor(name))?;
    }
    archive.finish().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn archive(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, data) in members {
            zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(data).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn open(bytes: Vec<u8>) -> Result<TensorSet> {
        read(Bytes::from(bytes), Path::new("params.npz"), &Work::silent(2).unwrap())
    }

    fn refusal(bytes: Vec<u8>) -> String {
        open(bytes).unwrap_err().to_string()
    }

    fn counting() -> Vec<u8> {
        npy::write(&Tensor::from_f32((0..600).map(|v| v as f32).collect(), &[20, 30]).unwrap())
    }

    /// Overwrites each occurrence of `from` by `to`.
    fn patch(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
        let places: Vec<_> = (0..bytes.len() - from.len()).filter(|i| bytes[*i..].starts_with(from)).collect();
        assert!(!places.is_empty());
        for place in places {
            bytes[place..place + to.len()].copy_from_slice(to);
        }
        bytes
    }

    #[test]
    fn stored_members_are_views_and_deflated_ones_copies() {
        let dir = tempfile::tempdir().unwrap();
        for (method, mapped) in [(CompressionMethod::Stored, true), (CompressionMethod::Deflated, false)] {
            let path = dir.path().join("x.npz");
            std::fs::write(&path, archive(&[("W_dec.npy", &counting()), ("sub/b.npy", &counting())], method)).unwrap();
            let set = read(Bytes::map(&path).unwrap(), &path, &Work::silent(2).unwrap()).unwrap();
            let w = set.get("W_dec").unwrap();
            assert_eq!((w.shape(), w.is_mapped()), (&[20, 30][..], mapped));
            assert_eq!(w.row(19).unwrap()[29], 599.0);
            assert!(set.find("sub/b").is_some());
        }
    }

    #[test]
    fn bad_archives_are_refused_with_the_member() {
        let whole = archive(&[("W_dec.npy", &counting())], CompressionMethod::Stored);
        assert!(refusal(whole[..whole.len() - 30].to_vec()).contains("truncated"));
        assert!(refusal(archive(&[("../W.npy", &counting())], CompressionMethod::Stored)).contains("points out of the archive"));
        assert!(refusal(archive(&[("notes.txt", b"hello")], CompressionMethod::Stored)).contains("`notes.txt`: is not named"));
        assert!(refusal(archive(&[("W.npy", b"hello")], CompressionMethod::Stored)).contains("tensor `W`: is not a NumPy array"));
        let two = archive(&[("W_a.npy", &counting()), ("W_b.npy", &counting())], CompressionMethod::Stored);
        assert!(refusal(patch(two, b"W_b.npy", b"W_a.npy")).contains("two members of one name"));
        // Flag bit 0 in both headers: encrypted.
        let locked =
            patch(patch(whole.clone(), b"PK\x03\x04\x0a\0\0\0", b"PK\x03\x04\x0a\0\x01\0"), b"PK\x01\x02", b"PK\x01\x02");
        let central = locked.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let mut locked = locked;
        locked[central + 8] |= 1;
        assert!(refusal(locked).contains("is encrypted"));
        assert!(refusal(b"\x80\x02}q\0.".to_vec()).contains("pickle"));
    }

    #[test]
    fn members_that_are_no_numbers_are_left_out_and_named() {
        let header = "{'descr': '<U3', 'fortran_order': False, 'shape': (2,), }\n";
        let texts = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), &[0; 24]].concat();
        let odd: [(&str, &[u8]); 3] = [("README.txt", b"hello"), ("sub/", b""), ("labels.npy", &texts)];
        let array = counting();
        let members = [("W_dec.npy", &array[..])].into_iter().chain(odd).collect::<Vec<_>>();
        let set = open(archive(&members, CompressionMethod::Stored)).unwrap();
        assert_eq!(set.names().collect::<Vec<_>>(), ["W_dec"]);
        assert_eq!(set.unread, ["README.txt", "sub/", "labels.npy (elements `<U3`)"]);
        assert!(refusal(archive(&odd[2..], CompressionMethod::Stored)).contains("holds no array of numbers"));
    }

    #[test]
    fn a_flipped_byte_of_a_stored_member_is_refused() {
        let mut flipped = archive(&[("W_dec.npy", &counting())], CompressionMethod::Stored);
        assert!(open(flipped.clone()).is_ok());
        flipped[1000] ^= 1;
        let message = refusal(flipped);
        assert!(message.contains("params.npz") && message.contains("`W_dec.npy`: is damaged"), "{message}");
    }

    /// Its checksum is taken in parts.
    #[test]
    fn a_large_member_is_checked_in_full_and_can_be_interrupted() {
        let large = Tensor::from_f32((0..3_000_000).map(|v| v as f32).collect(), &[1500, 2000]).unwrap();
        let good = archive(&[("W_dec.npy", &npy::write(&large))], CompressionMethod::Stored);
        assert_eq!(open(good.clone()).unwrap().get("W_dec").unwrap().row(1499).unwrap()[1999], 2_999_999.0);
        for at in [200, 4 << 20, 8 << 20, good.len() - 200] {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            assert!(refusal(flipped).contains("is damaged"), "{at}");
        }
        let work = Work::silent(2).unwrap();
        work.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(read(Bytes::from(good), Path::new("params.npz"), &work).unwrap_err().is_interrupted());
    }

    /// A writer that cannot seek puts CRC and sizes behind the data; the directory has them.
    #[test]
    fn sizes_may_stand_behind_the_data() {
        let mut streamed = archive(&[("W.npy", &counting())], CompressionMethod::Stored);
        let central = streamed.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        streamed[6] |= 8;
        streamed[14..26].fill(0);
        streamed[central + 8] |= 8;
        assert_eq!(open(streamed).unwrap().get("W").unwrap().row(19).unwrap()[29], 599.0);
    }

    #[test]
    fn damaged_and_lying_deflated_members() {
        let whole = archive(&[("W.npy", &counting())], CompressionMethod::Deflated);
        let mut damaged = whole.clone();
        damaged[200] ^= 0x55;
        assert!(refusal(damaged).contains("`W.npy`: cannot be inflated"));
        let central = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let claims = |size: u32| {
            let mut lie = whole.clone();
            lie[central + 24..central + 28].copy_from_slice(&size.to_le_bytes());
            refusal(lie)
        };
        assert!(claims(u32::MAX - 1).contains("would inflate from"));
        assert!(claims(100).contains("larger than its declared uncompressed size"));
        assert!(claims(5000).contains("inflates to 2528 bytes, but the archive says 5000"));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut set = TensorSet::new("");
        set.insert("w", Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap());
        set.insert("layer/ids", Tensor::vector_i64(vec![3, 4]));
        let back = open(write(&set).unwrap()).unwrap();
        assert_eq!(back.get("w").unwrap().to_f32(), set.get("w").unwrap().to_f32());
        assert_eq!(back.get("layer/ids").unwrap().to_i64(), [3, 4]);
        assert!(open(write(&TensorSet::new("")).unwrap()).unwrap().is_empty());
    }
}
