//! What an SAE computes: activation functions and the conventions around them, as the formats' own code has them
//! (FORMATS.md 1).

use super::Dictionary;
use crate::compute;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::work::Work;

/// The function from pre-activations to activations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// The pre-activations themselves.
    #[default]
    None,
    /// max(a, 0).
    Relu,
    /// a where a > θ, else 0.
    JumpRelu,
    /// The k largest, then ReLU.
    TopK(usize),
    /// Trained to keep k for each input of a batch on average; used with the threshold that gives as many: a where a > θ.
    BatchTopK(usize),
    /// The k largest by absolute value, with their signs.
    AbsTopK(usize),
    /// The largest of each of k groups of features that follow each other, then ReLU.
    GroupMax(usize),
    /// 1[gate > 0] · max(magnitude, 0).
    Gated,
    /// One feature at a time, the one along which most of what is left of the input lies.
    MatchingPursuit {
        /// Features that are taken at most.
        steps: usize,
        /// Ends where less than this norm is left of the input; 0: never.
        residual: f32,
        /// Ends where a step takes a feature that was taken before.
        stop_on_repeat: bool,
    },
}

impl Activation {
    /// Its name in `.activation`.
    pub fn name(self) -> &'static str {
        match self {
            Activation::None => "none",
            Activation::Relu => "relu",
            Activation::JumpRelu => "jumprelu",
            Activation::TopK(_) => "topk",
            Activation::BatchTopK(_) => "batchtopk",
            Activation::AbsTopK(_) => "abstopk",
            Activation::GroupMax(_) => "groupmax",
            Activation::Gated => "gated",
            Activation::MatchingPursuit { .. } => "matching_pursuit",
        }
    }

    /// How many stay active, where that is fixed (of a batch: on average).
    pub fn k(self) -> Option<usize> {
        match self {
            Activation::TopK(k) | Activation::BatchTopK(k) | Activation::AbsTopK(k) | Activation::GroupMax(k) => Some(k),
            _ => None,
        }
    }

    /// The same with another k, where it has one.
    pub(super) fn with_k(self, k: usize) -> Self {
        match self {
            // The k largest and then ReLU: what a file of ReLU becomes where its k is known from elsewhere.
            Activation::TopK(_) | Activation::Relu => Activation::TopK(k),
            Activation::AbsTopK(_) => Activation::AbsTopK(k),
            Activation::GroupMax(_) => Activation::GroupMax(k),
            other => other,
        }
    }
}

/// What is done to the input before encoding, and undone after decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Normalization {
    /// Nothing.
    #[default]
    None,
    /// A constant that the file's weights contain already (`expected_average_only_in`).
    Folded,
    /// x times a constant, which the file's weights do not contain (`expected_average_only_in`).
    Constant(f32),
    /// (x − mean) / (std + 1e-5), std with n − 1.
    LayerNorm,
    /// x · √d / ‖x‖.
    ConstantNorm,
}

impl Normalization {
    /// SAELens's name.
    pub fn name(self) -> &'static str {
        match self {
            Normalization::None => "none",
            Normalization::Folded | Normalization::Constant(_) => "expected_average_only_in",
            Normalization::LayerNorm => "layer_norm",
            Normalization::ConstantNorm => "constant_norm_rescale",
        }
    }

    /// In words.
    pub(super) fn describe(self) -> String {
        match self {
            Normalization::None => "as the model gives it".into(),
            Normalization::Folded => "as the model gives it (a constant factor is folded into the weights)".into(),
            Normalization::Constant(factor) => format!("times {factor}"),
            Normalization::LayerNorm => "centred and divided by its standard deviation".into(),
            Normalization::ConstantNorm => "scaled to norm √d".into(),
        }
    }

    /// Normalises a row in place; returns what undoes it, (factor, shift).
    fn apply(self, x: &mut [f32]) -> (f32, f32) {
        let n = x.len() as f64;
        match self {
            Normalization::None | Normalization::Folded => (1.0, 0.0),
            Normalization::Constant(factor) => {
                x.iter_mut().for_each(|v| *v *= factor);
                (factor.recip(), 0.0)
            }
            Normalization::LayerNorm => {
                let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
                let square = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
                let std = (square / (n - 1.0)).sqrt();
                x.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) / (std + 1e-5)) as f32);
                (std as f32, mean as f32)
            }
            Normalization::ConstantNorm => {
                let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                let factor = if norm > 0.0 { n.sqrt() / norm } else { 1.0 };
                x.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
                (factor.recip() as f32, 0.0)
            }
        }
    }
}

impl Dictionary {
    /// Activations `[…, n]` of inputs `[…, d_in]` as the model produces them, in the units of the format's own code.
    ///
    /// # Errors
    /// It has no encoder, the width differs, or the user's interruption.
    pub fn encode(&self, x: &Tensor, work: &Work) -> Result<Tensor> {
        let (rows, shape) = self.rows_of(x, self.d_in(), "encode")?;
        let (acts, _) = self.encode_rows(rows, work)?;
        self.note_broken(&acts, work)?;
        reshaped(acts, shape, self.n())
    }

    /// Activations `[rows, n]` of inputs `[rows, d_in]`, and of each row the factor by which its normalisation is undone: in the
    /// model's units feature i adds a vector of length activation × factor × [`Dictionary::reconstructed_norms`].
    ///
    /// # Errors
    /// As [`Dictionary::encode`].
    pub fn encode_scaled(&self, x: &Tensor, work: &Work) -> Result<(Tensor, Vec<f64>)> {
        let (rows, _) = self.rows_of(x, self.d_in(), "encode")?;
        let (acts, undo) = self.encode_rows(rows, work)?;
        Ok((acts, undo.into_iter().map(|(factor, _)| f64::from(factor)).collect()))
    }

    /// The length of what an activation of 1 decodes to, for each feature.
    ///
    /// # Errors
    /// The user's interruption.
    pub fn reconstructed_norms(&self, work: &Work) -> Result<Vec<f64>> {
        let norms = self.decoder_norms(work)?;
        // Where activations come multiplied by the decoder's norms, they are divided by them again.
        let unit = |norm: f64| if norm > 0.0 { 1.0 } else { 0.0 };
        Ok(if self.0.rescale { norms.into_iter().map(unit).collect() } else { norms })
    }

    /// `acts @ W_dec + b_dec`, `[…, d_out]`, of activations `[…, n]`.
    ///
    /// # Errors
    /// The width differs, or the user's interruption.
    pub fn decode(&self, acts: &Tensor, work: &Work) -> Result<Tensor> {
        let (rows, shape) = self.rows_of(acts, self.n(), "decode")?;
        let out = self.decode_rows(rows, work)?;
        self.note_broken(&out, work)?;
        reshaped(out, shape, self.d_out())
    }

    /// Says once, where a result is no number, what of the weights is none.
    fn note_broken(&self, result: &Tensor, work: &Work) -> Result<()> {
        if result.f32_cow().iter().all(|v| v.is_finite()) || self.0.broken.get().is_some() {
            return Ok(());
        }
        let broken: Vec<_> = self.broken(work)?.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
        if !broken.is_empty() && self.0.broken.set(()).is_ok() {
            work.note(&format!(
                "note: {} of {} hold NaN or infinity, and so does what they give",
                broken.join(" and "),
                self.name()
            ));
        }
        Ok(())
    }

    /// What is left of inputs `[…, d_in]` after encoding and decoding, with the input's normalisation undone and what a skip
    /// connection makes of the input added.
    ///
    /// # Errors
    /// It has no encoder, the width differs, or the user's interruption.
    pub fn reconstruct(&self, x: &Tensor, work: &Work) -> Result<Tensor> {
        let (rows, shape) = self.rows_of(x, self.d_in(), "reconstruct")?;
        let skipped = self.0.w_skip.as_ref().map(|w_skip| compute::matmul(&rows, &w_skip.t(), work)).transpose()?;
        let (acts, undo) = self.encode_rows(rows, work)?;
        let mut out = self.decode_rows(acts, work)?;
        for (row, (factor, shift)) in out.make_mut_f32().chunks_mut(self.d_out().max(1)).zip(undo) {
            row.iter_mut().for_each(|v| *v = *v * factor + shift);
        }
        if let Some(skipped) = skipped {
            out.make_mut_f32().iter_mut().zip(skipped.f32_cow().iter()).for_each(|(v, skip)| *v += skip);
        }
        self.note_broken(&out, work)?;
        reshaped(out, shape, self.d_out())
    }

    /// The input as rows, and its leading dimensions.
    fn rows_of(&self, x: &Tensor, width: usize, call: &str) -> Result<(Tensor, Vec<usize>)> {
        match x.shape() {
            [leading @ .., last] if *last == width => Ok((x.reshape(&[leading.iter().product(), width])?, leading.to_vec())),
            shape => Err(Error::shape(format!(
                "{call} needs a last dimension of {width} for {}, but the shape is {shape:?}",
                self.name()
            ))),
        }
    }

    /// Activations `[rows, n]`, and for each row what undoes its normalisation.
    fn encode_rows(&self, mut x: Tensor, work: &Work) -> Result<(Tensor, Vec<(f32, f32)>)> {
        let inner = &self.0;
        let Some(w_enc) = &inner.w_enc else {
            return Err(Error::input(format!("{} has no encoder", self.name())));
        };
        let shift = if inner.subtract_b_dec { inner.b_dec.as_ref().map(Tensor::to_f32) } else { None };
        let mut undo = Vec::with_capacity(x.shape()[0]);
        for row in x.make_mut_f32().chunks_mut(self.d_in().max(1)) {
            undo.push(inner.normalization.apply(row));
            if let Some(shift) = &shift {
                row.iter_mut().zip(shift).for_each(|(v, s)| *v -= s);
            }
        }
        if let Activation::MatchingPursuit { steps, residual, stop_on_repeat } = inner.activation {
            let w_dec = inner.w_dec.f32_cow();
            let mut acts = Vec::with_capacity(undo.len() * self.n());
            for row in x.make_mut_f32().chunks_mut(self.d_in().max(1)) {
                work.check()?;
                acts.extend(pursue(row, &w_dec, steps, residual, stop_on_repeat));
            }
            return Ok((Tensor::from_f32(acts, &[undo.len(), self.n()])?, undo));
        }
        let mut acts = compute::matmul(&x, w_enc, work)?;
        let vector = |tensor: &Option<Tensor>| tensor.as_ref().map_or_else(|| vec![0.0; self.n()], Tensor::to_f32);
        let (bias, threshold) = (vector(&inner.b_enc), vector(&inner.threshold));
        let gate = inner.gate.as_ref().map(|g| (g.b_gate.to_f32(), g.b_mag.to_f32(), g.r_mag.to_f32()));
        let norms = if inner.rescale { Some(self.decoder_norms(work)?) } else { None };
        for row in acts.make_mut_f32().chunks_mut(self.n().max(1)) {
            work.check()?;
            if let Some((b_gate, b_mag, r_mag)) = &gate {
                for (i, v) in row.iter_mut().enumerate() {
                    let magnitude = *v * libm::expf(r_mag[i]) + b_mag[i];
                    *v = relu(magnitude) * f32::from(*v + b_gate[i] > 0.0);
                }
                continue;
            }
            row.iter_mut().zip(&bias).for_each(|(v, b)| *v += b);
            if let Some(norms) = &norms {
                row.iter_mut().zip(norms).for_each(|(v, norm)| *v *= *norm as f32);
            }
            match inner.activation {
                Activation::None | Activation::Gated | Activation::MatchingPursuit { .. } => {}
                Activation::Relu => row.iter_mut().for_each(|v| *v = relu(*v)),
                Activation::JumpRelu | Activation::BatchTopK(_) => {
                    row.iter_mut().zip(&threshold).for_each(|(v, t)| *v = relu(*v) * f32::from(*v > *t))
                }
                Activation::TopK(k) => {
                    keep_largest(row, k, |v| v);
                    row.iter_mut().for_each(|v| *v = relu(*v));
                }
                Activation::AbsTopK(k) => keep_largest(row, k, f32::abs),
                Activation::GroupMax(k) => {
                    for group in row.chunks_mut(self.n().div_ceil(k.max(1)).max(1)) {
                        keep_largest(group, 1, |v| v);
                        group.iter_mut().for_each(|v| *v = relu(*v));
                    }
                }
            }
        }
        Ok((acts, undo))
    }

    fn decode_rows(&self, mut acts: Tensor, work: &Work) -> Result<Tensor> {
        if self.0.rescale {
            let norms = self.decoder_norms(work)?;
            let divide = |(v, norm): (&mut f32, &f64)| *v /= *norm as f32;
            acts = acts.map_rows(work, |_, row| row.iter_mut().zip(&norms).filter(|(_, norm)| **norm > 0.0).for_each(divide))?;
        }
        let out = compute::matmul(&acts, &self.0.w_dec, work)?;
        let Some(bias) = self.0.b_dec.as_ref().map(Tensor::to_f32) else { return Ok(out) };
        out.map_rows(work, |_, row| row.iter_mut().zip(&bias).for_each(|(v, b)| *v += b))
    }
}

/// max(v, 0), and NaN of NaN: what is no number does not pass for an inactive feature.
fn relu(v: f32) -> f32 {
    if v <= 0.0 { 0.0 } else { v }
}

/// Sets all but the k largest by `key` to 0; NaN is the largest, as in PyTorch, and ties go to the lower index.
fn keep_largest(row: &mut [f32], k: usize, key: impl Fn(f32) -> f32) {
    if k >= row.len() {
        return;
    }
    // NaN of the processor may have a sign, by which it would be the smallest.
    let key = |v: f32| if v.is_nan() { f32::NAN } else { key(v) };
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.select_nth_unstable_by(k, |a, b| key(row[*b]).total_cmp(&key(row[*a])).then(a.cmp(b)));
    order[k..].iter().for_each(|i| row[*i] = 0.0);
}

/// Matching pursuit on one input, which is used up: the activations of all features. Ties go to the lower index.
fn pursue(left: &mut [f32], w_dec: &[f32], steps: usize, residual: f32, stop_on_repeat: bool) -> Vec<f32> {
    let d = left.len().max(1);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
    let mut acts = vec![0f32; w_dec.len() / d];
    for _ in 0..steps {
        let along = w_dec.chunks_exact(d).map(|row| dot(left, row)).enumerate();
        let Some((best, value)) = along.reduce(|best, next| if next.1 > best.1 { next } else { best }) else { break };
        let value = value.max(0.0);
        let repeated = acts[best] != 0.0 || value == 0.0;
        acts[best] += value;
        left.iter_mut().zip(&w_dec[best * d..]).for_each(|(v, w)| *v -= value * w);
        if (stop_on_repeat && repeated) || (residual > 0.0 && dot(left, left).sqrt() < residual) {
            break;
        }
    }
    acts
}

fn reshaped(rows: Tensor, mut shape: Vec<usize>, width: usize) -> Result<Tensor> {
    shape.push(width);
    rows.reshape(&shape)
}
