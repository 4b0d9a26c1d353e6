//! The product of one tile from packed operands.
//!
//! Vectors of the left side are packed in groups of `MR`, those of the right side in groups of `NR`, each group
//! term by term: `[group][term][vector]`, the last group filled with zeros. Each score is one chain of fused
//! multiply-adds in the order of the terms, wherever it lies in a tile; and since a·b = b·a, the product of the sides
//! exchanged has the same bits.

use pulp::{Arch, Simd, WithSimd};

/// Vectors in a packed group of the left side.
pub(super) const MR: usize = 12;
/// Vectors in a packed group of the right side.
pub(super) const NR: usize = 32;
/// Fewer rows than this are computed one by one.
const FEW: usize = 4;
/// SIMD registers side by side in one step; with `MR` rows (half as many where there are 16 registers) they and their
/// operands fill the register file.
const WIDE: usize = 2;

/// A product of `left` and `right` groups, written to `out`, whose rows are `stride` apart.
pub(super) struct Tile<'a> {
    /// Packed left groups.
    pub left: &'a [f32],
    /// Packed right groups.
    pub right: &'a [f32],
    /// Vectors in the left groups; those that fill the last one are left out where that is cheaper.
    pub rows: usize,
    /// Terms of every group.
    pub depth: usize,
    /// The terms of this call; those before the first are already in `out`.
    pub terms: std::ops::Range<usize>,
    /// Row-major, `MR · left groups` rows of at least `NR · right groups`.
    pub out: &'a mut [f32],
    /// Distance of rows of `out`.
    pub stride: usize,
}

impl Tile<'_> {
    /// Computes the tile.
    pub(super) fn multiply(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { groups::<S, MR>(simd, self) } else { groups::<S, { MR / 2 }>(simd, self) }
    }
}

#[inline(always)]
fn groups<S: Simd, const M: usize>(simd: S, tile: Tile<'_>) {
    let Tile { left, right, rows, depth, terms, out, stride } = tile;
    let width = WIDE * S::F32_LANES;
    let carry = terms.start > 0;
    for (j, right) in right.chunks_exact(depth * NR).enumerate() {
        let right = &right[terms.start * NR..terms.end * NR];
        for (i, left) in left.chunks_exact(depth * MR).enumerate() {
            let left = &left[terms.start * MR..terms.end * MR];
            let out = &mut out[i * MR * stride + j * NR..];
            let live = rows - i * MR;
            for col in (0..NR).step_by(width) {
                if live < FEW {
                    for row in 0..live {
                        block::<S, 1>(simd, (left, row), (right, col), &mut out[row * stride + col..], stride, carry);
                    }
                } else {
                    for row in (0..MR).step_by(M) {
                        block::<S, M>(simd, (left, row), (right, col), &mut out[row * stride + col..], stride, carry);
                    }
                }
            }
        }
    }
}

/// `M` rows × [`WIDE`] registers of one pair of groups, starting at the given row and column of the groups.
#[inline(always)]
fn block<S: Simd, const M: usize>(
    simd: S,
    (left, row): (&[f32], usize),
    (right, col): (&[f32], usize),
    out: &mut [f32],
    stride: usize,
    carry: bool,
) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); WIDE]; M];
    if carry {
        for (i, sums) in sums.iter_mut().enumerate() {
            let (run, _) = S::as_simd_f32s(&out[i * stride..i * stride + WIDE * lanes]);
            sums.copy_from_slice(run);
        }
    }
    let (left, _) = left.as_chunks::<MR>();
    let (right, _) = right.as_chunks::<NR>();
    for (left, right) in left.iter().zip(right) {
        let (b, _) = S::as_simd_f32s(&right[col..col + WIDE * lanes]);
        for (i, sums) in sums.iter_mut().enumerate() {
            let a = simd.splat_f32s(left[row + i]);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = simd.mul_add_e_f32s(a, *b, *sum);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let (run, _) = S::as_mut_simd_f32s(&mut out[i * stride..i * stride + WIDE * lanes]);
        run.copy_from_slice(sums);
    }
}
