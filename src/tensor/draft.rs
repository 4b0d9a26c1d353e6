//! A matrix that is filled in place before it becomes a tensor: in memory, or in a file that has no name where it is too large
//! to be held. The system writes such pages to the disk when it wants their memory, and they do not count as the process's own.

use super::bytes::{Bytes, Source, aside, discard};
use super::{DType, Tensor, element_count};
use crate::error::{Error, Result};
use crate::work::Work;
use memmap2::MmapMut;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An f32 matrix in the making.
pub(crate) struct Draft {
    numbers: Numbers,
    shape: [usize; 2],
}

enum Numbers {
    Held(Vec<f32>),
    Filed(MmapMut),
}

impl Draft {
    /// Bytes that a matrix takes of memory at most: with what the engine takes (a panel and rows of scores) several stay below
    /// 256 MiB. Larger ones belong into a file.
    pub(crate) const HELD: usize = 64 << 20;

    /// The matrix whose rows `make` gives in blocks; in a temporary file where it is larger than [`Draft::HELD`]. Blocks are whole
    /// tiles of matrix products: what those make has the bits that it has at once. `what` names it where it does not fit.
    ///
    /// # Errors
    /// It does not fit into memory (a file's numbers are wanted in the system's cache), those of `make`, a disk that is full or
    /// cannot be written, or the user's interruption.
    pub(crate) fn in_blocks(
        what: &str,
        shape: [usize; 2],
        work: &Work,
        mut make: impl FnMut(Range<usize>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        /// Elements of a block (16 MiB), and the rows of a tile.
        const BLOCK: (usize, usize) = (1 << 22, 256);
        let bytes = element_count(&shape)?.saturating_mul(size_of::<f32>());
        work.reserve(what, bytes as u64)?;
        let mut draft = Draft::zeros(shape, bytes > Self::HELD, work)?;
        let step = (BLOCK.0 / shape[1].max(1) / BLOCK.1).max(1) * BLOCK.1;
        for start in (0..shape[0]).step_by(step) {
            work.check()?;
            let rows = start..(start + step).min(shape[0]);
            draft.rows(rows.clone()).copy_from_slice(&make(rows)?.f32_cow());
            draft.release();
        }
        draft.finish()
    }

    /// Zeros, in a temporary file where `filed` says so.
    ///
    /// # Errors
    /// A disk that is full or cannot be written, or the user's interruption.
    pub(crate) fn zeros(shape: [usize; 2], filed: bool, work: &Work) -> Result<Self> {
        let len = element_count(&shape)?;
        let numbers = if filed && len > 0 { Numbers::Filed(mapped(len, work)?) } else { Numbers::Held(vec![0.0; len]) };
        Ok(Draft { numbers, shape })
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// These rows.
    pub(crate) fn rows(&mut self, rows: Range<usize>) -> &mut [f32] {
        let numbers = match &mut self.numbers {
            Numbers::Held(numbers) => numbers,
            Numbers::Filed(map) => bytemuck::cast_slice_mut(map),
        };
        &mut numbers[rows.start * self.shape[1]..rows.end * self.shape[1]]
    }

    /// Says that nothing is read or written for a while: what lies in a file need not stay in memory.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Numbers::Filed(map) = &self.numbers {
            // SAFETY: the mapping is a shared one of a file: dropped pages come back with the same bytes.
            // Without success the pages stay, which is no fault.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// The tensor.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn finish(mut self) -> Result<Tensor> {
        match self.take() {
            Numbers::Held(numbers) => Tensor::from_f32(numbers, &self.shape),
            Numbers::Filed(map) => {
                let map = map.make_read_only().map_err(|e| Error::io(&e, &folder()))?;
                Tensor::from_bytes(Bytes::from_source(Source::Filed(Arc::new(map))), DType::F32, &self.shape)
            }
        }
    }

    fn take(&mut self) -> Numbers {
        std::mem::replace(&mut self.numbers, Numbers::Held(Vec::new()))
    }
}

/// What was begun and interrupted.
impl Drop for Draft {
    fn drop(&mut self) {
        match self.take() {
            Numbers::Held(numbers) => discard(numbers),
            Numbers::Filed(map) => aside(map.len(), move || drop(map)),
        }
    }
}

/// So many zeros in a file without a name.
fn mapped(len: usize, work: &Work) -> Result<MmapMut> {
    let folder = folder();
    let failed = |e: std::io::Error| Error::io(&e, &folder).help("a large temporary file is needed; TMPDIR names another folder");
    let mut file = tempfile::tempfile_in(&folder).map_err(failed)?;
    // Written, not only sized: a disk that is full says so here, where it would end the process later.
    let zeros = [0; 1 << 18];
    let size = len * size_of::<f32>();
    for start in (0..size).step_by(zeros.len()) {
        work.check()?;
        file.write_all(&zeros[..zeros.len().min(size - start)]).map_err(failed)?;
    }
    // SAFETY: the file has no name: no other process can change or shorten it.
    unsafe { MmapMut::map_mut(&file) }.map_err(failed)
}

/// Where large temporary files belong: /tmp is often in memory.
fn folder() -> PathBuf {
    let usual = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && usual.is_dir() { usual.into() } else { std::env::temp_dir() }
}
