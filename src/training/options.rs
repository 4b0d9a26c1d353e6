//! What can be chosen in a training, with its defaults and where they come from.

use super::gradient::Sparsity;
use crate::dictionary::Site;
use crate::error::{Error, Result};

crate::choice! {
    /// The kind of SAE.
    pub enum Arch {
        /// ReLU with an L1 penalty (Bricken et al. 2023).
        Relu = "relu",
        /// The k largest of each token (Gao et al. 2024, arXiv 2406.04093).
        #[default]
        TopK = "topk",
        /// The k largest a token on average over a batch (Bussmann et al. 2024, arXiv 2412.06410); saved as a JumpReLU SAE with the
        /// running mean of the batches' smallest activation as its threshold.
        BatchTopK = "batchtopk",
        /// A learned threshold for each latent with an L0 penalty (Rajamanoharan et al. 2024, arXiv 2407.14435).
        JumpRelu = "jumprelu",
    }
}

crate::options! {
    /// Options of `train_sae`.
    pub struct TrainOptions {
        /// Latents; eight for each dimension of the activations without it.
        d_sae: Option<usize> = None,
        /// The kind of SAE.
        arch: Arch = Arch::TopK,
        /// Active latents a token, of topk and batchtopk.
        k: usize = 32,
        /// Weight of the L1 penalty (relu), where activations are scaled to norm √d_in, as in SAELens.
        l1_coefficient: f64 = 5.0,
        /// Weight of the L0 penalty (jumprelu), in the same units.
        l0_coefficient: f64 = 1.0,
        /// Width of the window around the threshold in which it has a gradient (jumprelu).
        bandwidth: f64 = 0.05,
        /// Threshold at the beginning (jumprelu).
        threshold: f64 = 0.01,
        /// Steps over which a penalty grows to its full weight; a twentieth of all steps without it.
        sparsity_warmup: Option<usize> = None,
        /// Weight of the auxiliary loss of dead latents (topk, batchtopk); Gao et al. take 1/32.
        aux_coefficient: f64 = 1.0 / 32.0,
        /// Tokens without firing after which a latent is dead; a twentieth of all tokens without it, 10 million at most.
        dead_after: Option<usize> = None,
        /// Steps between resamplings of dead latents in the first half (relu, jumprelu; Bricken et al. 2023); an eighth of all
        /// steps without it, 0 for none.
        resample_every: Option<usize> = None,
        /// Steps of the optimiser.
        steps: usize = 5000,
        /// Tokens a step.
        batch: usize = 2048,
        /// Learning rate; 2e-4 √(16384 / d_sae) without it (Gao et al. 2024; Marks et al.'s dictionary_learning).
        lr: Option<f64> = None,
        /// Steps over which the learning rate grows; a twentieth of all steps without it, 1000 at most.
        lr_warmup: Option<usize> = None,
        /// Steps at the end over which the learning rate falls to 0; a fifth of all steps without it.
        lr_decay: Option<usize> = None,
        /// Largest norm of the gradient; longer ones are shortened to it. 0 for any.
        clip: f64 = 1.0,
        /// Tokens in the shuffling buffer.
        buffer: usize = 32_768,
        /// Tokens of a sequence.
        context: usize = 128,
        /// Share of the sequences, evenly spread, that is held out for the figures.
        held_out: f64 = 0.05,
        /// Leaves out the first position of each sequence: its activations are unlike all others.
        skip_bos: bool = true,
        /// Seed of the weights and of the shuffling; the session's without it.
        seed: Option<u64> = None,
        /// File that receives the state of the training.
        checkpoint: Option<String> = None,
        /// Steps between two checkpoints (rounded up to whole halves of the buffer).
        checkpoint_every: usize = 200,
        /// Goes on from the checkpoint, where there is one.
        resume: bool = false,
    }
}

/// One SAE to train: where it reads, and what may differ among SAEs that are trained on one pass over the texts.
#[derive(Clone, Debug)]
pub struct Job {
    /// The hook that it reads and writes.
    pub hook: String,
    /// The kind.
    pub arch: Arch,
    /// Latents; eight for each dimension without it.
    pub d_sae: Option<usize>,
    /// Active latents a token, of topk and batchtopk.
    pub k: usize,
}

impl Job {
    /// An SAE at `hook` as the options have it.
    pub fn new(hook: impl Into<String>, options: &TrainOptions) -> Self {
        Job { hook: hook.into(), arch: options.arch, d_sae: options.d_sae, k: options.k }
    }
}

impl TrainOptions {
    /// Finds what cannot be trained before anything is read.
    ///
    /// # Errors
    /// An option out of its range, no job, two at one hook, or a hook at which no SAE stands.
    pub fn check(&self, jobs: &[Job]) -> Result<()> {
        let at_least_one = [
            ("context", self.context),
            ("steps", self.steps),
            ("batch", self.batch),
            ("checkpoint_every", self.checkpoint_every),
            ("dead_after", self.dead_after.unwrap_or(1)),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::input(format!("option `{name}` must be at least 1")));
        }
        if self.batch > 1 << 24 || self.buffer > 1 << 30 || self.steps > 1 << 30 {
            return Err(Error::limit("`batch` must be at most 16777216, `buffer` and `steps` at most 1073741824"));
        }
        if self.buffer < 2 * self.batch {
            let message = format!("option `buffer` must hold two batches: {} for batches of {}", 2 * self.batch, self.batch);
            return Err(Error::input(format!("{message}, not {}", self.buffer)));
        }
        let numbers = [
            ("l1_coefficient", self.l1_coefficient, true),
            ("l0_coefficient", self.l0_coefficient, true),
            ("threshold", self.threshold, true),
            ("aux_coefficient", self.aux_coefficient, true),
            ("clip", self.clip, true),
            ("bandwidth", self.bandwidth, false),
            ("lr", self.lr.unwrap_or(1.0), false),
        ];
        for (name, value, zero) in numbers {
            if !(value.is_finite() && (value > 0.0 || zero && value == 0.0)) {
                let right = if zero { "0 or more" } else { "more than 0" };
                return Err(Error::input(format!("option `{name}` must be {right}, not {value}")));
            }
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return Err(Error::input(format!("option `held_out` must be a share above 0 and below 1, not {}", self.held_out)));
        }
        if jobs.is_empty() {
            return Err(Error::input("there is no SAE to train"));
        }
        for (i, job) in jobs.iter().enumerate() {
            if jobs[..i].iter().any(|other| other.hook == job.hook) {
                return Err(Error::input(format!("{} is there twice", job.hook)));
            }
            if Site::of_hook(&job.hook).is_none() {
                let sites: Vec<_> = Site::ALL.iter().map(|site| site.hook(Some(0))).filter(|hook| hook.contains('.')).collect();
                return Err(Error::input(format!("an SAE cannot be trained at `{}`", job.hook))
                    .help(format!("it stands at one of these, of any layer: {}", sites.join(", "))));
            }
        }
        if self.resume && self.checkpoint.is_none() {
            return Err(Error::input("`resume` needs a `checkpoint` to go on from"));
        }
        Ok(())
    }

    /// The cost of activity at a step.
    pub(super) fn sparsity(&self, arch: Arch, k: usize, step: usize) -> Sparsity {
        let grown = grown(step, self.sparsity_warmup.unwrap_or(self.steps / 20));
        match arch {
            Arch::Relu => Sparsity::Relu { l1: self.l1_coefficient * grown },
            Arch::TopK => Sparsity::TopK { k },
            Arch::BatchTopK => Sparsity::BatchTopK { k },
            Arch::JumpRelu => Sparsity::JumpRelu { l0: self.l0_coefficient * grown, bandwidth: self.bandwidth as f32 },
        }
    }

    /// The learning rate at a step: growing, constant, falling.
    pub(super) fn rate(&self, d_sae: usize, step: usize) -> f64 {
        let lr = self.lr.unwrap_or_else(|| 2e-4 * (16384.0 / d_sae as f64).sqrt());
        let grown = grown(step, self.lr_warmup.unwrap_or((self.steps / 20).min(1000)));
        let decay = self.lr_decay.unwrap_or(self.steps / 5);
        let left = self.steps - step;
        lr * grown * if left < decay { left as f64 / decay as f64 } else { 1.0 }
    }

    /// Tokens without firing after which a latent is dead.
    pub(super) fn dead_after(&self) -> usize {
        self.dead_after.unwrap_or_else(|| (self.steps.saturating_mul(self.batch) / 20).clamp(1, 10_000_000))
    }

    /// Whether dead latents are resampled after a step.
    pub(super) fn resamples(&self, step: usize) -> bool {
        let every = self.resample_every.unwrap_or((self.steps / 8).max(1));
        every > 0 && step > 0 && step.is_multiple_of(every) && step <= self.steps / 2
    }
}

/// How much of its full size something has that grows over `warmup` steps.
fn grown(step: usize, warmup: usize) -> f64 {
    if step < warmup { (step + 1) as f64 / warmup as f64 } else { 1.0 }
}
