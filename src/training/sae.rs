//! One SAE in training: its weights, its optimiser and what it remembers from step to step.
//!
//! It sees activations scaled to an expected norm of √d_in, so that learning rates and penalties mean the same everywhere;
//! the scale is folded away at the end.

use super::adam::{Adam, Moments};
use super::gradient::{Auxiliary, Outcome, Weights, gradient};
use super::options::{Arch, Job, TrainOptions};
use crate::error::{Error, Result};
use crate::random::Random;
use crate::work::Work;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use candle_nn::{Optimizer, ParamsAdamW};

/// Share of the newest batch in the running mean of the smallest activation, as in SAELens.
const CUT_RATE: f64 = 0.01;

pub(super) struct Sae {
    pub hook: String,
    pub arch: Arch,
    pub k: usize,
    pub d_in: usize,
    pub d_sae: usize,
    /// Activations are multiplied by it.
    pub scale: f64,
    /// Running mean of the smallest activation of a batch (batchtopk).
    pub cut: Option<f64>,
    /// Tokens since each latent last fired.
    pub silent: Vec<i64>,
    pub optimizer: Adam,
    seed: u64,
}

/// What a step tells of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub loss: f64,
    pub l0: f64,
    pub explained_variance: f64,
    pub dead: usize,
}

/// The variables in the order of the optimiser.
pub(super) const NAMES: [&str; 5] = ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"];

pub(super) fn ours(error: candle_core::Error) -> Error {
    Error::internal(format!("candle: {error}"))
}

impl Sae {
    /// An SAE before its first step, for activations of which `sample` `[rows, d_in]` are some: b_dec is their mean, decoder rows
    /// are random unit vectors, the encoder their transpose (Gao et al. 2024). Where half of the latents will be active, the
    /// encoder is smaller in proportion, so that the reconstruction begins at its input's size. The draws depend on
    /// seed and hook alone, not on what else is trained.
    ///
    /// # Errors
    /// The sample is zero everywhere, or d_sae and k do not fit.
    pub fn new(job: &Job, sample: &[f32], d: usize, options: &TrainOptions, seed: u64) -> Result<Self> {
        let d_sae = job.d_sae.unwrap_or(8 * d);
        if d_sae == 0 || d_sae.checked_mul(d).is_none_or(|n| n > 1 << 34) {
            return Err(Error::input(format!("option `d_sae` must be 1 or more and fit into memory, not {d_sae}")));
        }
        if matches!(job.arch, Arch::TopK | Arch::BatchTopK) && !(1..=d_sae).contains(&job.k) {
            return Err(Error::input(format!("option `k` must be from 1 to d_sae = {d_sae}, not {}", job.k)));
        }
        let rows = (sample.len() / d).max(1) as f64;
        let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let mean_norm = sample.chunks_exact(d).map(norm).sum::<f64>() / rows;
        if mean_norm == 0.0 {
            return Err(Error::input("all activations are 0").context(job.hook.as_str()));
        }
        let scale = (d as f64).sqrt() / mean_norm;
        let mut mean = vec![0f64; d];
        sample.chunks_exact(d).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v)));

        // FNV-1a of the hook's name.
        let hashed = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let seed = seed ^ job.hook.bytes().fold(0xcbf2_9ce4_8422_2325, hashed);
        let mut w_dec = Random::new(seed).normals(d_sae * d);
        w_dec.chunks_exact_mut(d).for_each(unit);
        let gain = match job.arch {
            Arch::TopK | Arch::BatchTopK => 1.0,
            Arch::Relu | Arch::JumpRelu => (2.0 * d as f32 / d_sae as f32).min(1.0),
        };
        let threshold = if job.arch == Arch::JumpRelu { vec![options.threshold as f32; d_sae] } else { Vec::new() };
        let weights = Weights {
            w_enc: w_dec.iter().map(|v| v * gain).collect(),
            b_enc: vec![0.0; d_sae],
            w_dec,
            b_dec: mean.iter().map(|m| (m * scale / rows) as f32).collect(),
            threshold,
        };
        let vars =
            tensors(weights, d).map_err(ours)?.into_iter().map(|t| Var::from_tensor(&t)).collect::<candle_core::Result<_>>();
        let params = ParamsAdamW { weight_decay: 0.0, ..ParamsAdamW::default() };
        let optimizer = Adam::new(vars.map_err(ours)?, params).map_err(ours)?;
        let (hook, arch, k) = (job.hook.clone(), job.arch, job.k);
        Ok(Sae { hook, arch, k, d_in: d, d_sae, scale, cut: None, silent: vec![0; d_sae], optimizer, seed })
    }

    /// The weights as they are, for scaled activations.
    ///
    /// # Errors
    /// A fault of this program.
    pub fn weights(&self) -> Result<Weights> {
        let value = |i: usize| match self.optimizer.moments.get(i) {
            Some(Moments { var, .. }) => var.flatten_all().and_then(|t| t.to_vec1()).map_err(ours),
            None => Ok(Vec::new()),
        };
        Ok(Weights { w_enc: value(0)?, b_enc: value(1)?, w_dec: value(2)?, b_dec: value(3)?, threshold: value(4)? })
    }

    /// One step on a batch of scaled activations.
    ///
    /// # Errors
    /// The loss is not finite, or the user's interruption.
    pub fn step(&mut self, x: &[f32], step: usize, options: &TrainOptions, work: &Work) -> Result<Report> {
        let weights = self.weights()?;
        let dead: Vec<usize> = (0..self.d_sae).filter(|j| self.silent[*j] >= options.dead_after() as i64).collect();
        let has_auxiliary = matches!(self.arch, Arch::TopK | Arch::BatchTopK) && options.aux_coefficient > 0.0;
        // Gao et al. take a power of two near d_in / 2.
        let auxiliary = (has_auxiliary && !dead.is_empty()).then(|| Auxiliary {
            latents: &dead,
            k: (self.d_in / 2).max(1),
            coefficient: options.aux_coefficient,
        });
        let sparsity = options.sparsity(self.arch, self.k, step);
        let Outcome { gradient, loss, errors, variance, active, fired, smallest } =
            gradient(&weights, x, sparsity, auxiliary, work)?;
        let rows = errors.len();
        if !loss.is_finite() {
            return Err(Error::input(format!("the loss is {loss} at step {step}: the training has diverged"))
                .help("a lower `lr` or a longer `lr_warmup` would be right")
                .context(self.hook.as_str()));
        }
        self.optimizer.set_learning_rate(options.rate(self.d_sae, step));
        self.descend(gradient, options.clip).map_err(ours)?;
        for (silent, fired) in self.silent.iter_mut().zip(fired) {
            *silent = if fired { 0 } else { *silent + rows as i64 };
        }
        if self.arch == Arch::BatchTopK && active > 0 {
            let smallest = f64::from(smallest);
            self.cut = Some(self.cut.map_or(smallest, |cut| (1.0 - CUT_RATE) * cut + CUT_RATE * smallest));
        }
        if matches!(self.arch, Arch::Relu | Arch::JumpRelu) && options.resamples(step) && !dead.is_empty() {
            self.resample(&dead, x, &errors, step, options)?;
        }
        Ok(Report {
            loss,
            l0: active as f64 / rows as f64,
            explained_variance: 1.0 - errors.iter().sum::<f64>() / variance,
            dead: dead.len(),
        })
    }

    /// The optimiser's step, with decoder rows brought back to norm 1 and thresholds to 0 or more.
    fn descend(&mut self, mut gradient: Weights, clip: f64) -> candle_core::Result<()> {
        let parts = [&mut gradient.w_enc, &mut gradient.b_enc, &mut gradient.w_dec, &mut gradient.b_dec, &mut gradient.threshold];
        let norm = parts.iter().flat_map(|part| part.iter()).map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if clip > 0.0 && norm > clip {
            let factor = (clip / norm) as f32;
            parts.into_iter().flatten().for_each(|v| *v *= factor);
        }
        let mut store = GradStore::default();
        for (Moments { var, .. }, gradient) in self.optimizer.moments.iter().zip(tensors(gradient, self.d_in)?) {
            store.insert(var, gradient);
        }
        self.optimizer.step(&store)?;
        self.change(2, |w_dec| w_dec.chunks_exact_mut(self.d_in).for_each(unit))?;
        if self.arch == Arch::JumpRelu {
            self.change(4, |threshold| threshold.iter_mut().for_each(|v| *v = v.max(0.0)))?;
        }
        Ok(())
    }

    /// Changes the values of a variable.
    fn change(&self, variable: usize, change: impl FnOnce(&mut [f32])) -> candle_core::Result<()> {
        set(&self.optimizer.moments[variable].var, change)
    }

    /// Dead latents begin anew at inputs that are reconstructed badly (Bricken et al. 2023): a row of the batch is drawn with
    /// probability ∝ (squared error)², the decoder row becomes its direction, the encoder row the same with a fifth of
    /// the mean norm of the live ones, the bias 0, and so do the moments.
    fn resample(&mut self, dead: &[usize], x: &[f32], errors: &[f64], step: usize, options: &TrainOptions) -> Result<()> {
        let (d, weights) = (self.d_in, self.weights()?);
        let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let mut live = vec![true; self.d_sae];
        dead.iter().for_each(|j| live[*j] = false);
        let norms: Vec<f64> =
            weights.w_enc.chunks_exact(d).zip(&live).filter(|(_, live)| **live).map(|(row, _)| norm(row)).collect();
        let size = if norms.is_empty() { 1.0 } else { 0.2 * norms.iter().sum::<f64>() / norms.len() as f64 };
        let mut chances: Vec<f64> = errors.iter().map(|error| error * error).collect();
        let mut random = Random::stream(self.seed, 1 + step as u64);
        // Each row at most once: two latents of one direction would never part.
        let directions: Vec<Vec<f32>> = std::iter::from_fn(|| {
            let mut left = random.uniform() * chances.iter().sum::<f64>();
            let row = chances.iter().rposition(|chance| *chance > 0.0)?;
            let passed = |chance: &f64| {
                left -= chance;
                left < 0.0
            };
            let row = chances.iter().position(passed).unwrap_or(row);
            chances[row] = 0.0;
            let mut direction: Vec<f32> = x[row * d..][..d].iter().zip(&weights.b_dec).map(|(v, b)| v - b).collect();
            unit(&mut direction);
            Some(direction)
        })
        .take(dead.len())
        .collect();
        let dead = &dead[..directions.len()];
        let rows = |values: &mut [f32], width: usize, factor: Option<f32>| {
            for (j, direction) in dead.iter().zip(&directions) {
                match factor {
                    Some(factor) => values[j * d..][..d].iter_mut().zip(direction).for_each(|(v, u)| *v = factor * u),
                    None => values[j * width..][..width].fill(0.0),
                }
            }
        };
        let done = (|| {
            self.change(0, |w_enc| rows(w_enc, d, Some(size as f32)))?;
            self.change(1, |b_enc| rows(b_enc, 1, None))?;
            self.change(2, |w_dec| rows(w_dec, d, Some(1.0)))?;
            if self.arch == Arch::JumpRelu {
                self.change(4, |threshold| dead.iter().for_each(|j| threshold[*j] = options.threshold as f32))?;
            }
            for (i, Moments { first, second, .. }) in self.optimizer.moments.iter().enumerate().filter(|(i, _)| *i != 3) {
                let width = if i == 0 || i == 2 { d } else { 1 };
                set(first, |values| rows(values, width, None))?;
                set(second, |values| rows(values, width, None))?;
            }
            Ok(())
        })();
        done.map_err(ours)?;
        dead.iter().for_each(|j| self.silent[*j] = 0);
        Ok(())
    }
}

/// Changes the values of a variable.
pub(super) fn set(var: &Var, change: impl FnOnce(&mut [f32])) -> candle_core::Result<()> {
    let mut values = var.flatten_all()?.to_vec1::<f32>()?;
    change(&mut values);
    var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)
}

/// candle's tensors of weights, in the order of [`NAMES`]; no threshold where there is none.
fn tensors(weights: Weights, d: usize) -> candle_core::Result<Vec<Tensor>> {
    let Weights { w_enc, b_enc, w_dec, b_dec, threshold } = weights;
    let m = b_enc.len();
    let vector = |values: Vec<f32>| {
        let len = values.len();
        Tensor::from_vec(values, len, &Device::Cpu)
    };
    let matrix = |values: Vec<f32>| Tensor::from_vec(values, (m, d), &Device::Cpu);
    let mut tensors = vec![matrix(w_enc)?, vector(b_enc)?, matrix(w_dec)?, vector(b_dec)?];
    if !threshold.is_empty() {
        tensors.push(vector(threshold)?);
    }
    Ok(tensors)
}

/// Brings a vector to norm 1; zeros stay.
fn unit(row: &mut [f32]) {
    let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
}
