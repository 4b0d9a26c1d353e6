//! Weights that many products share, packed once: the linear maps of a forward pass.

use super::kernel::{MR, NR, Tile};
use super::side::{Side, turn};
use crate::compute::{Shared, blocks};
use crate::error::{Error, Result};
use crate::tensor::{Held, Tensor, element_count};
use crate::work::Work;
use pulp::Arch;
use rayon::prelude::*;

/// Rows of a task: with a tile of outputs they fit the second-level cache.
const ROWS: usize = 11 * MR;
/// Outputs of a task at most.
const COLS: usize = 16 * NR;
/// Terms of one call of the kernel.
const CHUNK: usize = 1024;
/// Vectors that are packed at a time.
const STRIP: usize = 8 * NR;

/// A weight `[out, in]` in the order in which the kernel reads it, in f32.
#[derive(Clone, Debug)]
pub struct Packed {
    groups: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

impl Packed {
    /// Packs a weight `[out, in]`, in any storage.
    ///
    /// # Errors
    /// Not a matrix, or the user's interruption.
    pub fn new(weight: &Tensor, work: &Work) -> Result<Self> {
        let (outputs, inputs) = weight.matrix_shape("a weight")?;
        let mut groups = Vec::new();
        Side::new(weight, None, None, None).pack_all::<NR>(0..outputs, STRIP, &mut groups, work)?;
        Ok(Packed { groups, outputs, inputs })
    }

    /// `x @ wᵀ + bias`, `[n, out]`, for dense rows `x` `[n, in]` and `bias` `[out]`. Each number is one sum in the order of the
    /// terms, so that a row gives the same bits alone and among others.
    ///
    /// # Errors
    /// Sizes that do not fit, or the user's interruption.
    pub fn apply(&self, x: &[f32], bias: Option<&[f32]>, work: &Work) -> Result<Vec<f32>> {
        let Packed { groups, outputs, inputs } = self;
        let (outputs, inputs) = (*outputs, *inputs);
        let n = x.len().checked_div(inputs).unwrap_or(0);
        if n * inputs != x.len() || bias.is_some_and(|bias| bias.len() != outputs) {
            return Err(Error::shape(format!("{} numbers do not fit a weight of shape [{outputs}, {inputs}]", x.len())));
        }
        let mut out = Held::new(vec![0.0; element_count(&[n, outputs])?]);
        let mut left = vec![0.0; element_count(&[n.next_multiple_of(MR), inputs])?];
        let shared = Shared(out.as_mut_ptr());
        // Few rows: what counts is that all threads read the weight.
        let width = outputs.div_ceil(4 * work.threads()).next_multiple_of(NR).clamp(NR, COLS);
        let tiles: Vec<_> = blocks(0..n, ROWS).flat_map(|r| blocks(0..outputs, width).map(move |c| (r.clone(), c))).collect();
        let arch = Arch::new();
        work.install(|| {
            left.par_chunks_mut((MR * inputs).max(1)).zip(x.par_chunks((MR * inputs).max(1))).for_each(|(group, rows)| {
                turn(rows, inputs, rows.len() / inputs, group.as_chunks_mut::<MR>().0);
            });
            let left = &left[..];
            tiles.par_iter().try_for_each_init(Vec::new, |tile, (r, c)| {
                // An odd number of cache lines: rows a power of two apart would share their cache sets.
                let stride = c.len().next_multiple_of(NR) + 16;
                tile.resize(r.len().next_multiple_of(MR) * stride, 0.0);
                for terms in blocks(0..inputs, CHUNK) {
                    work.check()?;
                    let left = &left[r.start * inputs..r.end.next_multiple_of(MR) * inputs];
                    let right = &groups[c.start * inputs..c.end.next_multiple_of(NR) * inputs];
                    Tile { left, right, rows: r.len(), depth: inputs, terms, out: tile, stride }.multiply(arch);
                }
                let shared = &shared;
                for (row, tile) in r.clone().zip(tile.chunks_exact(stride)) {
                    // SAFETY: the run lies inside the n × outputs result, and no other task has the same one.
                    let run = unsafe { std::slice::from_raw_parts_mut(shared.0.add(row * outputs + c.start), c.len()) };
                    run.copy_from_slice(&tile[..c.len()]);
                    if let Some(bias) = bias {
                        run.iter_mut().zip(&bias[c.clone()]).for_each(|(v, b)| *v += b);
                    }
                }
                Ok(())
            })
        })?;
        Ok(out.into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Bytes, DType};
    use half::bf16;

    fn work(threads: usize) -> Work {
        Work::silent(threads).unwrap()
    }

    #[test]
    fn any_number_of_rows_and_outputs_is_the_product_by_its_definition() {
        for (n, inputs, outputs) in [(1, 5, 3), (3, 33, 70), (12, 1030, 33), (137, 40, 530), (265, 7, 1100)] {
            let x = Tensor::randn(&[n, inputs], 1, 0, &work(2)).unwrap().to_f32();
            let weight = Tensor::randn(&[outputs, inputs], 2, 0, &work(2)).unwrap();
            let narrow: Vec<u8> = weight.to_f32().iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
            let weight = Tensor::from_bytes(Bytes::from(narrow), DType::BF16, &[outputs, inputs]).unwrap();
            let bias: Vec<f32> = (0..outputs).map(|i| i as f32 - 7.0).collect();
            let w = weight.to_f64();
            let expected = (0..n * outputs).map(|at| {
                let (i, j) = (at / outputs, at % outputs);
                (0..inputs).map(|t| f64::from(x[i * inputs + t]) * w[j * inputs + t]).sum::<f64>() + f64::from(bias[j])
            });
            let packed = Packed::new(&weight, &work(2)).unwrap();
            let out = packed.apply(&x, Some(&bias), &work(2)).unwrap();
            for (got, expected) in out.iter().zip(expected) {
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-5 * (inputs as f64 + expected.abs()),
                    "{got}, expected {expected}"
                );
            }
            assert_eq!(out, packed.apply(&x, Some(&bias), &work(1)).unwrap());
            // The last row alone, and the weight as its own transpose's transpose.
            let alone = packed.apply(&x[(n - 1) * inputs..], Some(&bias), &work(2)).unwrap();
            assert_eq!(out[(n - 1) * outputs..], alone);
            let turned = Packed::new(&weight.t().contiguous().t(), &work(2)).unwrap();
            assert_eq!(out, turned.apply(&x, Some(&bias), &work(2)).unwrap());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let packed = Packed::new(&Tensor::from_f32(vec![1.0; 6], &[2, 3]).unwrap(), &work(1)).unwrap();
        assert!(packed.apply(&[], None, &work(1)).unwrap().is_empty());
        assert!(packed.apply(&[1.0; 4], None, &work(1)).unwrap_err().message().contains("[2, 3]"));
        assert!(packed.apply(&[1.0; 3], Some(&[1.0]), &work(1)).is_err());
        let stopped = work(2);
        stopped.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(packed.apply(&[1.0; 3], None, &stopped).unwrap_err().is_interrupted());
    }
}
