//! Figures of SAEs on text that they were not trained on.

use super::buffer::usable;
use super::source::{Activations, Patch, Splice};
use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::{Value as Json, json};

/// The model's cross-entropy (nats a token) with the SAE's reconstruction in place of the activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Number of tokens whose prediction was measured.
    pub tokens: usize,
    /// As the model is.
    pub clean: f64,
    /// With the reconstruction.
    pub reconstructed: f64,
    /// With zeros.
    pub zero: f64,
}

impl CrossEntropy {
    /// (zero − reconstructed) / (zero − clean): 1 where the reconstruction costs nothing, 0 where it is no better than zeros.
    pub fn recovered(&self) -> f64 {
        (self.zero - self.reconstructed) / (self.zero - self.clean)
    }
}

/// Figures of one SAE.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Tokens that they were measured on.
    pub tokens: usize,
    /// Mean number of active latents.
    pub l0: f64,
    /// 1 − Σ‖x − x̂‖² / Σ‖x − mean‖².
    pub explained_variance: f64,
    /// Mean of ‖x − x̂‖² / d_in, in the model's own units.
    pub mse: f64,
    /// Share of the latents that never fired on these tokens.
    pub dead_share: f64,
    /// Firing frequency of each latent.
    pub density: Vec<f64>,
    /// What the reconstruction costs the model.
    pub cross_entropy: Option<CrossEntropy>,
}

impl Figures {
    /// As they stand in an SAE's `metadata` (without the densities, which have a file of their own).
    pub fn to_json(&self) -> Json {
        let mut json = json!({
            "eval_tokens": self.tokens,
            "l0": self.l0,
            "explained_variance": self.explained_variance,
            "mse": self.mse,
            "dead_share": self.dead_share,
        });
        if let (Some(ce), Json::Object(map)) = (&self.cross_entropy, &mut json) {
            let facts =
                [("ce_clean", ce.clean), ("ce_sae", ce.reconstructed), ("ce_zero", ce.zero), ("ce_recovered", ce.recovered())];
            map.insert("ce_tokens".into(), json!(ce.tokens));
            map.extend(facts.map(|(name, value)| (name.to_string(), json!(value))));
        }
        json
    }
}

#[derive(Clone, Default)]
struct Sums {
    rows: usize,
    active: usize,
    errors: f64,
    squares: f64,
    /// Σx, for the mean.
    sum: Vec<f64>,
    fired: Vec<usize>,
}

/// Measures SAEs (one for each site of `source`, in the same order) on all of its texts, or the first `max_tokens` positions; first
/// positions are left out where `skip_bos`. With `splice`, also what each reconstruction costs the model.
///
/// # Errors
/// No activations, widths that do not fit, activations that are not finite, or the user's interruption.
pub fn evaluate(
    dictionaries: &[Dictionary],
    source: &mut dyn Activations,
    splice: Option<&mut dyn Splice>,
    max_tokens: Option<usize>,
    skip_bos: bool,
    work: &Work,
) -> Result<Vec<Figures>> {
    let hooks: Vec<String> = dictionaries.iter().map(|d| d.hook().to_string()).collect();
    let widths = dictionaries.iter().map(Dictionary::d_in).collect();
    let blank = |d: &Dictionary| Sums { sum: vec![0.0; d.d_in()], fired: vec![0; d.n()], ..Sums::default() };
    let mut sums: Vec<Sums> = dictionaries.iter().map(blank).collect();
    read_through(source, &hooks, widths, max_tokens, skip_bos, work, |sites| {
        for ((dictionary, x), sums) in dictionaries.iter().zip(sites).zip(&mut sums) {
            work.check()?;
            add(dictionary, x, sums, work)?;
        }
        Ok(())
    })?;
    let mut figures: Vec<Figures> = sums.iter().map(of).collect();
    if let Some(splice) = splice {
        let clean = splice.cross_entropy(0, &Patch::Clean, work)?;
        let steps = work.begin("cross-entropy", 2 * dictionaries.len() as u64);
        for (site, (dictionary, figures)) in dictionaries.iter().zip(&mut figures).enumerate() {
            let reconstructed = splice.cross_entropy(site, &Patch::Reconstructed(dictionary), work)?;
            steps.advance(1);
            let zero = splice.cross_entropy(site, &Patch::Zero, work)?;
            steps.advance(1);
            figures.cross_entropy = Some(CrossEntropy { tokens: splice.tokens(), clean, reconstructed, zero });
        }
    }
    Ok(figures)
}

/// Gives `visit` what stands at each hook, `[rows, width]` with the same rows at all of them, chunk after chunk, of all texts or
/// the first `max_tokens` positions.
///
/// # Errors
/// No activations, widths that do not fit, activations that are not finite, an error of `visit`, or the user's interruption.
pub(super) fn read_through(
    source: &mut dyn Activations,
    hooks: &[String],
    mut widths: Vec<usize>,
    max_tokens: Option<usize>,
    skip_bos: bool,
    work: &Work,
    mut visit: impl FnMut(&[Tensor]) -> Result<()>,
) -> Result<()> {
    let limit = max_tokens.unwrap_or(usize::MAX);
    source.seek(0)?;
    let mut read = 0;
    while read < limit
        && let Some(chunk) = source.next(work)?
    {
        let (len, sites) = usable(&chunk, hooks, &mut widths, skip_bos)?;
        let rows = len.min(limit - read);
        read += rows;
        let cut = |(values, width): (Vec<f32>, &usize)| Tensor::from_f32(values, &[len, *width])?.narrow(0, 0..rows);
        visit(&sites.into_iter().zip(&widths).map(cut).collect::<Result<Vec<_>>>()?)?;
    }
    if read == 0 {
        return Err(Error::input("there are no activations to measure on"));
    }
    Ok(())
}

fn add(dictionary: &Dictionary, x: &Tensor, sums: &mut Sums, work: &Work) -> Result<()> {
    let activations = dictionary.encode(x, work)?;
    // Not `decode`: the reconstruction undoes the input's normalisation too.
    let reconstructed = dictionary.reconstruct(x, work)?;
    let (x, reconstructed, d) = (x.f32_cow(), reconstructed.f32_cow(), dictionary.d_in());
    for (row, other) in x.chunks_exact(d).zip(reconstructed.chunks_exact(d)) {
        for ((v, other), sum) in row.iter().zip(other).zip(&mut sums.sum) {
            let v = f64::from(*v);
            sums.errors += (v - f64::from(*other)).powi(2);
            sums.squares += v * v;
            *sum += v;
        }
        sums.rows += 1;
    }
    for row in activations.f32_cow().chunks_exact(dictionary.n()) {
        for (fired, _) in sums.fired.iter_mut().zip(row).filter(|(_, v)| **v != 0.0) {
            *fired += 1;
            sums.active += 1;
        }
    }
    Ok(())
}

fn of(sums: &Sums) -> Figures {
    let n = sums.rows as f64;
    let variance = sums.squares - sums.sum.iter().map(|sum| sum * sum).sum::<f64>() / n;
    Figures {
        tokens: sums.rows,
        l0: sums.active as f64 / n,
        explained_variance: 1.0 - sums.errors / variance,
        mse: sums.errors / n / sums.sum.len() as f64,
        dead_share: sums.fired.iter().filter(|fired| **fired == 0).count() as f64 / sums.fired.len() as f64,
        density: sums.fired.iter().map(|fired| *fired as f64 / n).collect(),
        cross_entropy: None,
    }
}
