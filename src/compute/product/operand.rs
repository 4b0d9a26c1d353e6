//! What a tile is multiplied from: vectors packed for the kernel, or dense rows on the device that candle multiplies on.
//!
//! A device sums in an order of its own: its scores agree with the kernel's within rounding, and those of the sides
//! exchanged have other bits. The same tile has the same bits each time.

use super::kernel::{NR, Tile};
use super::side::Side;
use crate::compute::blocks;
use crate::error::{Error, Result};
use crate::work::Work;
use candle_core::Tensor;
use pulp::Arch;
use std::ops::Range;

/// Terms of one call of the kernel: milliseconds.
const CHUNK: usize = 4096;

/// Some vectors of one side of a product.
#[derive(Default)]
pub(super) struct Operand {
    /// In groups, for the kernel.
    packed: Vec<f32>,
    /// `[vectors, d]`, where there is a device.
    rows: Option<Tensor>,
}

impl Operand {
    /// Reads `vectors` of `side`, in groups of `G` where the kernel multiplies; each task reads `step` of them, a multiple of
    /// `G`.
    pub(super) fn load<const G: usize>(&mut self, side: &Side, vectors: Range<usize>, step: usize, work: &Work) -> Result<()> {
        let Some(device) = work.device() else {
            return side.pack_all::<G>(vectors, step, &mut self.packed, work);
        };
        let shape = (vectors.len(), side.depth);
        // Groups of one are dense rows.
        side.pack_all::<1>(vectors, step, &mut self.packed, work)?;
        self.rows = Some(Tensor::from_vec(std::mem::take(&mut self.packed), shape, device).map_err(failed)?);
        Ok(())
    }

    /// Multiplies all vectors, of `depth` terms, by those of `right` at the positions `columns`, which start at a whole group,
    /// into the rows of `out`, `stride` apart. The kernel fills whole groups.
    pub(super) fn multiply(
        &self,
        (right, columns): (&Operand, Range<usize>),
        depth: usize,
        (out, stride): (&mut [f32], usize),
        arch: Arch,
        work: &Work,
    ) -> Result<()> {
        if let (Some(left), Some(right)) = (&self.rows, &right.rows) {
            work.check()?;
            let scores = scores(left, right, &columns).map_err(failed)?;
            for (out, row) in out.chunks_mut(stride).zip(scores.chunks_exact(columns.len())) {
                out[..columns.len()].copy_from_slice(row);
            }
            return Ok(());
        }
        let right = &right.packed[columns.start * depth..columns.end.next_multiple_of(NR) * depth];
        for terms in blocks(0..depth, CHUNK) {
            work.check()?;
            Tile { left: &self.packed, right, rows: self.packed.len() / depth, depth, terms, out, stride }.multiply(arch);
        }
        Ok(())
    }
}

/// The scores of a tile, row by row.
fn scores(left: &Tensor, right: &Tensor, columns: &Range<usize>) -> candle_core::Result<Vec<f32>> {
    let right = right.narrow(0, columns.start, columns.len())?.t()?;
    one_thread(|| left.matmul(&right))?.flatten_all()?.to_vec1()
}

/// Runs `f` without further threads of MKL: the threads of [`Work`] make a tile each.
fn one_thread<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(feature = "mkl")]
    {
        #[allow(non_snake_case)]
        unsafe extern "C" {
            /// Threads of the calling thread's next calls, 0 for as many as all have; gives what it was.
            safe fn MKL_Set_Num_Threads_Local(threads: std::ffi::c_int) -> std::ffi::c_int;
        }
        let before = MKL_Set_Num_Threads_Local(1);
        let out = f();
        MKL_Set_Num_Threads_Local(before);
        out
    }
    #[cfg(not(feature = "mkl"))]
    f()
}

fn failed(error: candle_core::Error) -> Error {
    Error::limit(format!("the device failed: {error}")).help("`--device cpu` does without it")
}
