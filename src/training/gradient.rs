//! Loss and gradient of one batch, written out by hand.
//!
//! Few latents are active, so only the encoder's product `x · W_enc` is dense (a sixth of what automatic differentiation of
//! two dense products would multiply). Everything behind it runs over the list of active latents, first row by row
//! (selection, reconstruction, error, gradient at each active latent), then latent by latent (gradient of its weights,
//! summed in the order of the rows). No sum depends on the number of threads.

use crate::compute;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::work::Work;
use pulp::Arch;
use rayon::prelude::*;

/// Rows of a batch that one thread takes at a time.
const ROWS: usize = 64;
/// Latents that one thread takes at a time.
const LATENTS: usize = 64;

/// The weights of an SAE, or a gradient with respect to them. Both matrices have one row for each latent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Weights {
    /// `[d_sae, d_in]`.
    pub w_enc: Vec<f32>,
    /// `[d_sae]`.
    pub b_enc: Vec<f32>,
    /// `[d_sae, d_in]`.
    pub w_dec: Vec<f32>,
    /// `[d_in]`, subtracted from the input too.
    pub b_dec: Vec<f32>,
    /// `[d_sae]`, of a JumpReLU SAE; else empty.
    pub threshold: Vec<f32>,
}

/// Which latents are active, and what their activity costs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sparsity {
    /// ReLU; the cost is `l1` times the sum of the activations.
    Relu { l1: f64 },
    /// The k largest of a row, then ReLU.
    TopK { k: usize },
    /// The k · rows largest of a batch, then ReLU (Bussmann et al. 2024, arXiv 2412.06410).
    BatchTopK { k: usize },
    /// What exceeds a learned threshold; the cost is `l0` times the number of active latents (Rajamanoharan et al. 2024, arXiv
    /// 2407.14435, with straight-through estimators of this bandwidth).
    JumpRelu { l0: f64, bandwidth: f32 },
}

/// The auxiliary loss of dead latents (AuxK, Gao et al. 2024, arXiv 2406.04093): the `k` most active of `latents` in a row
/// reconstruct what the live ones have missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Auxiliary<'a> {
    pub latents: &'a [usize],
    pub k: usize,
    pub coefficient: f64,
}

/// Loss, gradient and statistics of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub gradient: Weights,
    /// What is minimised, a mean over rows.
    pub loss: f64,
    /// Squared error ‖x − x̂‖² of each row.
    pub errors: Vec<f64>,
    /// Σ‖x − mean‖² over the batch.
    pub variance: f64,
    /// Active latents in all rows.
    pub active: usize,
    /// Whether each latent was active in some row.
    pub fired: Vec<bool>,
    /// The smallest activation of the batch, 0 without any.
    pub smallest: f32,
}

/// An active latent of a row (or one so near to its threshold that the threshold has a gradient).
#[derive(Clone, Copy)]
struct Entry {
    row: u32,
    latent: u32,
    /// The activation.
    value: f32,
    /// ∂loss/∂pre-activation.
    pre: f32,
    /// ∂loss/∂threshold.
    threshold: f32,
}

/// What a block of rows gives.
#[derive(Default)]
struct Part {
    main: Vec<Entry>,
    auxiliary: Vec<Entry>,
    loss: f64,
    active: usize,
}

/// Loss and gradient for a batch `x` `[rows, d_in]`: mean over rows of ‖x − x̂‖² plus the cost of activity, as SAELens scales
/// them (its coefficients carry over), plus the auxiliary loss where there is one. The gradient of a decoder row has no part
/// along that row, which is taken to be a unit vector.
///
/// # Errors
/// The user's interruption.
pub(super) fn gradient(
    weights: &Weights,
    x: &[f32],
    sparsity: Sparsity,
    auxiliary: Option<Auxiliary>,
    work: &Work,
) -> Result<Outcome> {
    let (d, m) = (weights.b_dec.len(), weights.b_enc.len());
    let rows = x.len() / d;
    let mut centred = x.to_vec();
    centred.chunks_exact_mut(d).for_each(|row| row.iter_mut().zip(&weights.b_dec).for_each(|(v, b)| *v -= b));
    let input = Tensor::from_f32(centred, &[rows, d])?;
    let w_enc = Tensor::from_f32(weights.w_enc.clone(), &[m, d])?;
    let mut pre = compute::matmul(&input, &w_enc.t(), work)?;
    let centred = input.f32_cow();

    let arch = Arch::new();
    let mut errors = vec![0f32; rows * d];
    let mut missed = vec![0f32; rows * d];
    let values = pre.make_mut_f32();
    let parts = work.install(|| {
        values.par_chunks_mut(ROWS * m).for_each(|block| {
            block.chunks_exact_mut(m).for_each(|row| row.iter_mut().zip(&weights.b_enc).for_each(|(v, b)| *v += b));
        });
        let cut = match sparsity {
            Sparsity::BatchTopK { k } => largest(values, k.saturating_mul(rows)),
            _ => 0.0,
        };
        errors
            .par_chunks_mut(ROWS * d)
            .zip(missed.par_chunks_mut(ROWS * d))
            .enumerate()
            .map(|(i, (errors, missed))| {
                work.check()?;
                let first = i * ROWS;
                let block = Block { weights, sparsity, auxiliary, rows, first, cut };
                let (x, pre) = (&x[first * d..][..errors.len()], &values[first * m..][..errors.len() / d * m]);
                Ok(arch.dispatch(|| block.run(x, pre, errors, missed)))
            })
            .collect::<Result<Vec<Part>>>()
    })?;

    let mut outcome = Outcome { errors: Vec::with_capacity(rows), variance: variance(x, d), ..Outcome::default() };
    // `errors` holds ∂loss/∂x̂ = 2 (x̂ − x) / rows.
    let unscaled = (rows as f64 / 2.0).powi(2);
    outcome.errors.extend(errors.chunks_exact(d).map(|row| unscaled * row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()));
    outcome.loss = outcome.errors.iter().sum::<f64>() / rows as f64 + parts.iter().map(|part| part.loss).sum::<f64>();
    outcome.active = parts.iter().map(|part| part.active).sum();
    outcome.fired = vec![false; m];
    outcome.smallest = f32::INFINITY;
    for entry in parts.iter().flat_map(|part| &part.main).filter(|entry| entry.value > 0.0) {
        outcome.fired[entry.latent as usize] = true;
        outcome.smallest = outcome.smallest.min(entry.value);
    }
    if outcome.active == 0 {
        outcome.smallest = 0.0;
    }

    let main = ByLatent::new(m, parts.iter().flat_map(|part| &part.main));
    let auxiliary = ByLatent::new(m, parts.iter().flat_map(|part| &part.auxiliary));
    let mut gradient = Weights {
        w_enc: vec![0.0; m * d],
        b_enc: vec![0.0; m],
        w_dec: vec![0.0; m * d],
        b_dec: vec![0.0; d],
        threshold: vec![0.0; m],
    };
    work.install(|| {
        let Weights { w_enc, b_enc, w_dec, threshold, .. } = &mut gradient;
        let matrices = w_enc.par_chunks_mut(LATENTS * d).zip(w_dec.par_chunks_mut(LATENTS * d));
        let vectors = b_enc.par_chunks_mut(LATENTS).zip(threshold.par_chunks_mut(LATENTS));
        matrices.zip(vectors).enumerate().try_for_each(|(i, ((w_enc, w_dec), (b_enc, threshold)))| {
            work.check()?;
            arch.dispatch(|| {
                for j in 0..b_enc.len() {
                    let latent = i * LATENTS + j;
                    let (enc, dec) = (&mut w_enc[j * d..][..d], &mut w_dec[j * d..][..d]);
                    for (entries, out) in [(&main, &errors), (&auxiliary, &missed)] {
                        for entry in entries.of(latent) {
                            let row = entry.row as usize * d;
                            add(dec, entry.value, &out[row..][..d]);
                            add(enc, entry.pre, &centred[row..][..d]);
                            b_enc[j] += entry.pre;
                            threshold[j] += entry.threshold;
                        }
                    }
                    let direction = &weights.w_dec[latent * d..][..d];
                    let along = dot(dec, direction);
                    add(dec, -along, direction);
                }
            });
            Ok(())
        })
    })?;
    // b_dec enters twice: x̂ ends with + b_dec, and the encoder reads x − b_dec.
    arch.dispatch(|| {
        errors.chunks_exact(d).for_each(|row| add(&mut gradient.b_dec, 1.0, row));
        for (row, b) in weights.w_enc.chunks_exact(d).zip(&gradient.b_enc) {
            add(&mut gradient.b_dec, -b, row);
        }
    });
    if weights.threshold.is_empty() {
        gradient.threshold.clear();
    }
    outcome.gradient = gradient;
    Ok(outcome)
}

/// A block of rows with all that they need.
struct Block<'a> {
    weights: &'a Weights,
    sparsity: Sparsity,
    auxiliary: Option<Auxiliary<'a>>,
    /// Rows of the whole batch.
    rows: usize,
    /// The block's first row.
    first: usize,
    /// The smallest activation that a batch keeps.
    cut: f32,
}

impl Block<'_> {
    /// `errors` gets ∂loss/∂x̂, `missed` the same for the auxiliary reconstruction.
    #[inline(always)]
    fn run(&self, x: &[f32], pre: &[f32], errors: &mut [f32], missed: &mut [f32]) -> Part {
        let (d, m) = (self.weights.b_dec.len(), self.weights.b_enc.len());
        let scale = 2.0 / self.rows as f32;
        let mut part = Part::default();
        let mut scratch = Vec::with_capacity(m);
        let decoder = |latent: u32| &self.weights.w_dec[latent as usize * d..][..d];
        for (r, (x, pre)) in x.chunks_exact(d).zip(pre.chunks_exact(m)).enumerate() {
            let row = (self.first + r) as u32;
            let start = part.main.len();
            self.select(row, pre, &mut scratch, &mut part.main);
            let out = &mut errors[r * d..][..d];
            out.copy_from_slice(&self.weights.b_dec);
            for entry in &part.main[start..] {
                add(out, entry.value, decoder(entry.latent));
            }
            out.iter_mut().zip(x).for_each(|(v, x)| *v -= x);
            if let Some(auxiliary) = &self.auxiliary {
                let missed = &mut missed[r * d..][..d];
                missed.copy_from_slice(out);
                let start = part.auxiliary.len();
                among(auxiliary, row, pre, &mut scratch, &mut part.auxiliary);
                for entry in &part.auxiliary[start..] {
                    add(missed, entry.value, decoder(entry.latent));
                }
                part.loss += auxiliary.coefficient * missed.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / self.rows as f64;
                missed.iter_mut().for_each(|v| *v *= scale * auxiliary.coefficient as f32);
                for entry in &mut part.auxiliary[start..] {
                    entry.pre = dot(missed, decoder(entry.latent));
                }
            }
            out.iter_mut().for_each(|v| *v *= scale);
            for entry in &mut part.main[start..] {
                self.back(entry, dot(out, decoder(entry.latent)), pre[entry.latent as usize]);
            }
            let entries = &part.main[start..];
            part.active += entries.iter().filter(|entry| entry.value > 0.0).count();
            part.loss += self.cost(entries) / self.rows as f64;
        }
        part
    }

    /// The active latents of a row.
    #[inline(always)]
    fn select(&self, row: u32, pre: &[f32], scratch: &mut Vec<u32>, into: &mut Vec<Entry>) {
        let entry = |latent: usize, value: f32| Entry { row, latent: latent as u32, value, pre: 0.0, threshold: 0.0 };
        match self.sparsity {
            Sparsity::Relu { .. } => {
                into.extend(pre.iter().enumerate().filter(|(_, v)| **v > 0.0).map(|(j, v)| entry(j, *v)));
            }
            Sparsity::TopK { k } => {
                keep(pre, k, scratch, |j, v| into.push(entry(j, v)));
            }
            // More than asked for only where several values equal the cut.
            Sparsity::BatchTopK { .. } => {
                let kept = pre.iter().enumerate().filter(|(_, v)| **v > 0.0 && **v >= self.cut);
                into.extend(kept.map(|(j, v)| entry(j, *v)));
            }
            Sparsity::JumpRelu { bandwidth, .. } => {
                for (j, (v, threshold)) in pre.iter().zip(&self.weights.threshold).enumerate() {
                    if *v > *threshold {
                        into.push(entry(j, *v));
                    } else if (*v - threshold).abs() < 0.5 * bandwidth {
                        into.push(entry(j, 0.0));
                    }
                }
            }
        }
    }

    /// The gradients at one entry, from `value` = ∂loss/∂activation without the cost.
    #[inline(always)]
    fn back(&self, entry: &mut Entry, value: f32, pre: f32) {
        match self.sparsity {
            Sparsity::Relu { l1 } => entry.pre = value + (l1 / self.rows as f64) as f32,
            Sparsity::TopK { .. } | Sparsity::BatchTopK { .. } => entry.pre = value,
            Sparsity::JumpRelu { l0, bandwidth } => {
                let threshold = self.weights.threshold[entry.latent as usize];
                if pre > threshold {
                    entry.pre = value;
                }
                // ∂JumpReLU/∂θ = −θ/ε K((z − θ)/ε) and ∂H(z − θ)/∂θ = −1/ε K((z − θ)/ε), K = 1 on (−½, ½), else 0.
                if (pre - threshold).abs() < 0.5 * bandwidth {
                    entry.threshold = -(threshold * value + (l0 / self.rows as f64) as f32) / bandwidth;
                }
            }
        }
    }

    /// What the activity of a row costs.
    #[inline(always)]
    fn cost(&self, entries: &[Entry]) -> f64 {
        match self.sparsity {
            Sparsity::Relu { l1 } => l1 * entries.iter().map(|entry| f64::from(entry.value)).sum::<f64>(),
            Sparsity::JumpRelu { l0, .. } => l0 * entries.iter().filter(|entry| entry.value > 0.0).count() as f64,
            Sparsity::TopK { .. } | Sparsity::BatchTopK { .. } => 0.0,
        }
    }
}

/// The most active dead latents of a row.
#[inline(always)]
fn among(auxiliary: &Auxiliary, row: u32, pre: &[f32], scratch: &mut Vec<u32>, into: &mut Vec<Entry>) {
    let values: Vec<f32> = auxiliary.latents.iter().map(|j| pre[*j]).collect();
    keep(&values, auxiliary.k, scratch, |i, value| {
        into.push(Entry { row, latent: auxiliary.latents[i] as u32, value, pre: 0.0, threshold: 0.0 });
    });
}

/// Calls `take` with the place and value of the k largest of the positive values, in the order of their places; of equal ones
/// the first.
#[inline(always)]
fn keep(values: &[f32], k: usize, scratch: &mut Vec<u32>, mut take: impl FnMut(usize, f32)) {
    // The bits of positive floats are ordered as their values are.
    scratch.clear();
    scratch.extend(values.iter().filter(|v| **v > 0.0).map(|v| v.to_bits()));
    let (cut, mut equal) = if scratch.len() > k && k > 0 {
        let place = scratch.len() - k;
        let (_, cut, above) = scratch.select_nth_unstable(place);
        let cut = *cut;
        (cut, k - above.iter().filter(|bits| **bits > cut).count())
    } else {
        (0, 0)
    };
    if k == 0 {
        return;
    }
    for (i, v) in values.iter().enumerate().filter(|(_, v)| **v > 0.0) {
        let bits = v.to_bits();
        if bits > cut {
            take(i, *v);
        } else if bits == cut && equal > 0 {
            equal -= 1;
            take(i, *v);
        }
    }
}

/// The `n`-th largest of the positive values; 0 where there are not so many.
fn largest(values: &[f32], n: usize) -> f32 {
    let parts: Vec<Vec<u32>> =
        values.par_chunks(1 << 16).map(|part| part.iter().filter(|v| **v > 0.0).map(|v| v.to_bits()).collect()).collect();
    let mut positive = parts.concat();
    match positive.len().checked_sub(n) {
        Some(place) if n > 0 && place > 0 => f32::from_bits(*positive.select_nth_unstable(place).1),
        _ => 0.0,
    }
}

/// Entries sorted by latent, those of a latent in the order of the rows.
struct ByLatent {
    starts: Vec<usize>,
    entries: Vec<Entry>,
}

impl ByLatent {
    fn new<'a>(m: usize, entries: impl Iterator<Item = &'a Entry> + Clone) -> Self {
        let mut starts = vec![0usize; m + 1];
        entries.clone().for_each(|entry| starts[entry.latent as usize + 1] += 1);
        for latent in 0..m {
            starts[latent + 1] += starts[latent];
        }
        let mut next = starts.clone();
        let blank = Entry { row: 0, latent: 0, value: 0.0, pre: 0.0, threshold: 0.0 };
        let mut sorted = vec![blank; starts[m]];
        for entry in entries {
            let place = &mut next[entry.latent as usize];
            sorted[*place] = *entry;
            *place += 1;
        }
        ByLatent { starts, entries: sorted }
    }

    fn of(&self, latent: usize) -> &[Entry] {
        &self.entries[self.starts[latent]..self.starts[latent + 1]]
    }
}

/// Σ‖x − mean‖² over the rows of `x`.
fn variance(x: &[f32], d: usize) -> f64 {
    let mut sums = vec![0f64; d];
    let mut squares = 0f64;
    for row in x.chunks_exact(d) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum += f64::from(*v);
            squares += f64::from(*v).powi(2);
        }
    }
    squares - sums.iter().map(|sum| sum * sum).sum::<f64>() / (x.len() / d) as f64
}

/// `y += a x`.
#[inline(always)]
fn add(y: &mut [f32], a: f32, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// Inner product, in sixteen interleaved sums that fill the widest registers.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (mut sums, mut rest) = ([0f32; 16], 0f32);
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        rest += a * b;
    }
    sums.iter().sum::<f32>() + rest
}
