//! Zip archives whose stored members are used where they lie: NumPy's and PyTorch's (FORMATS 6.2, 6.3).

use crate::error::{Error, Result};
use crate::tensor::Bytes;
use crate::work::Work;
use rayon::prelude::*;
use std::io::{Cursor, Read};
use std::path::Path;
use zip::CompressionMethod;
use zip::result::ZipError;

/// The end record of a zip with the longest comment: where there is none in so many last bytes, there is none.
const END_RECORD: usize = 22 + 65_535;
/// Members that inflate beyond this size together must not be more than [`BOMB_RATIO`] times smaller in the archive.
const BOMB_SIZE: u64 = 1 << 28;
const BOMB_RATIO: u64 = 100;
/// Bytes whose checksum is taken at once, a few milliseconds of work.
const CHUNK: usize = 4 << 20;

/// An opened archive: its directory has been read, its members have not.
pub(super) struct Archive<'a> {
    bytes: &'a Bytes,
    zip: zip::ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that members have been inflated to.
    inflated: u64,
    work: &'a Work,
}

impl<'a> Archive<'a> {
    /// Reads the directory of an archive that begins as one.
    ///
    /// # Errors
    /// It is truncated or broken, or holds two members of one name.
    pub fn open(bytes: &'a Bytes, file: &Path, work: &'a Work) -> Result<Self> {
        let data = bytes.as_slice();
        let tail = &data[data.len().saturating_sub(END_RECORD)..];
        if !tail.windows(4).any(|w| w == b"PK\x05\x06") {
            return Err(Error::format("is truncated: the zip directory at its end is missing")
                .file(file)
                .help("the download or copy did not finish; fetch it again"));
        }
        let broken = |e: ZipError| Error::format(format!("is a broken zip archive: {e}")).file(file);
        let zip = zip::ZipArchive::new(Cursor::new(data)).map_err(broken)?;
        if zip.has_duplicate_names() {
            return Err(Error::format("holds two members of one name").file(file));
        }
        Ok(Archive { bytes, zip, inflated: 0, work })
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.zip.len()
    }

    /// The path of a member.
    ///
    /// # Errors
    /// It cannot be read, or points out of the archive.
    pub fn path(&mut self, index: usize) -> Result<String> {
        let path = self.zip.by_index_raw(index).and_then(|raw| Ok(raw.name()?.into_owned())).map_err(unreadable(index))?;
        if path.starts_with('/') || path.contains('\\') || path.split('/').any(|part| part == "..") {
            return Err(Error::format("has a name that points out of the archive").tensor(path));
        }
        Ok(path)
    }

    /// The bytes of a member: a view where it is stored, else inflated.
    ///
    /// # Errors
    /// It is encrypted, packed in an unusual way, or damaged; the user's interruption.
    pub fn read(&mut self, index: usize) -> Result<Bytes> {
        let raw = self.zip.by_index_raw(index).map_err(unreadable(index))?;
        let path = raw.name().map_err(unreadable(index))?.into_owned();
        let fault = |message: String| Error::format(message).tensor(&path);
        if raw.encrypted() {
            return Err(fault("is encrypted".into()));
        }
        let (method, packed, size, start) = (raw.compression(), raw.compressed_size(), raw.size(), raw.data_start());
        let checksum = raw.crc32();
        drop(raw);
        match method {
            CompressionMethod::Stored => {
                let start = start.and_then(|start| usize::try_from(start).ok());
                let (Some(start), Ok(len), true) = (start, usize::try_from(size), packed == size) else {
                    return Err(fault(format!("is stored, but its sizes {packed} and {size} differ")));
                };
                let stored = self.bytes.slice(start, len).map_err(|e| e.tensor(&path))?;
                if crc32(stored.as_slice(), self.work)? != checksum {
                    return Err(fault("is damaged: its bytes have not the checksum (CRC-32) that the archive records".into())
                        .help("fetch or copy the file again"));
                }
                Ok(stored)
            }
            CompressionMethod::Deflated => {
                self.inflated = self.inflated.saturating_add(size);
                if self.inflated > BOMB_SIZE && self.inflated / BOMB_RATIO > self.bytes.len() as u64 {
                    return Err(fault(format!("would inflate from {packed} to {size} bytes; that is no array of weights")));
                }
                let mut inflated = Vec::new();
                // One byte more than is there: the reader checks the CRC only when it is asked beyond its end.
                let broken = |e: &dyn std::fmt::Display| fault(format!("cannot be inflated: {e}"));
                let mut member = self.zip.by_index(index).map_err(|e| broken(&e))?.take(size.saturating_add(1));
                while (&mut member).take(CHUNK as u64).read_to_end(&mut inflated).map_err(|e| broken(&e))? > 0 {
                    self.work.check()?;
                }
                if inflated.len() as u64 != size {
                    return Err(fault(format!("inflates to {} bytes, but the archive says {size}", inflated.len())));
                }
                Ok(Bytes::from(inflated))
            }
            other => Err(fault(format!("is compressed by {other}, which is not supported"))),
        }
    }
}

/// The checksum of a member, taken in parallel: memory's speed, less than the first use of the weights takes to read them.
fn crc32(bytes: &[u8], work: &Work) -> Result<u32> {
    let part = |chunk: &[u8]| {
        work.check()?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(chunk);
        Ok(hasher)
    };
    let parts: Vec<_> = work.install(|| bytes.par_chunks(CHUNK).map(part).collect::<Result<_>>())?;
    let mut whole = crc32fast::Hasher::new();
    parts.iter().for_each(|part| whole.combine(part));
    Ok(whole.finalize())
}

fn unreadable(index: usize) -> impl Fn(ZipError) -> Error {
    move |e| Error::format(format!("member {index} cannot be read: {e}"))
}
