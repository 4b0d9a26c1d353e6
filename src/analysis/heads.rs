//! Directions as an attention head reads them: centred (LayerNorm), scaled to a temperature, multiplied by the norm's gain,
//! projected by W_Q, W_K or W_V.

use crate::compute::{matmul, project, row_norms};
use crate::dictionary::{Dictionary, Directions};
use crate::error::{Error, Result};
use crate::model::{Model, Norm};
use crate::options::{Json, OptionValue, Value};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::json;

/// The norm to which a direction is scaled before the gain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// √d_model: the norm of any real residual after RMSNorm.
    SqrtD,
    /// √d_model times the feature's mean share of the residual, from `activation_stats`.
    Typical,
    /// As it is.
    None,
    /// A number.
    Norm(f64),
}

impl OptionValue for Scaling {
    fn kind() -> String {
        "\"sqrt_d\" | \"typical\" | \"none\" | a positive number".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => match text.as_str() {
                "sqrt_d" => Some(Scaling::SqrtD),
                "typical" => Some(Scaling::Typical),
                "none" => Some(Scaling::None),
                _ => None,
            },
            number => f64::read(number).filter(|v| v.is_finite() && *v > 0.0).map(Scaling::Norm),
        }
    }
    fn canonical(&self) -> Json {
        match self {
            Scaling::SqrtD => json!("sqrt_d"),
            Scaling::Typical => json!("typical"),
            Scaling::None => json!("none"),
            Scaling::Norm(norm) => json!(norm),
        }
    }
}

/// The scaling of the two sides of a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Of the queries.
    pub query: Scaling,
    /// Of the keys.
    pub key: Scaling,
}

impl OptionValue for Temperature {
    fn kind() -> String {
        format!("{}, or #{{query, key}} of these", Scaling::kind())
    }
    fn read(value: &Value) -> Option<Self> {
        let Value::Map(map) = value else {
            return Scaling::read(value).map(|both| Temperature { query: both, key: both });
        };
        let mut out = Temperature { query: Scaling::SqrtD, key: Scaling::SqrtD };
        for (side, value) in map {
            match side.as_str() {
                "query" => out.query = Scaling::read(value)?,
                "key" => out.key = Scaling::read(value)?,
                _ => return None,
            }
        }
        Some(out)
    }
    fn canonical(&self) -> Json {
        if self.query == self.key {
            return self.query.canonical();
        }
        json!({"query": self.query.canonical(), "key": self.key.canonical()})
    }
}

/// The norm in front of a layer's attention, as directions pass it: linear but for the per-token scalar, which the
/// temperature stands for.
pub(super) struct InputNorm {
    /// Absent: no gain is folded.
    gain: Option<Vec<f32>>,
    /// LayerNorm subtracts the mean over d_model first.
    center: bool,
    d_model: usize,
}

impl InputNorm {
    /// That of a layer's attention; without `fold` the identity.
    pub(super) fn of_attention(model: &Model, layer: usize, fold: bool) -> Result<Self> {
        let gain = if fold { model.find_gain(&format!("blocks.{layer}.ln1"))?.map(|g| g.to_f32()) } else { None };
        Ok(InputNorm { gain, center: fold && model.cfg().norm == Norm::Layer, d_model: model.cfg().d_model })
    }

    /// LayerNorm: the mean over d_model is subtracted.
    pub(super) fn centers(&self) -> bool {
        self.center
    }

    /// `w` `[d, k]` with the norm in front: diag-free rows g_i · w_i, centred over d for LayerNorm, so that `x @ folded`
    /// is what `w` makes of the normed x, up to the per-token scalar.
    pub(super) fn fold(&self, w: &Tensor) -> Result<Tensor> {
        let (d, k) = w.matrix_shape("a weight")?;
        let mut values = w.to_f32();
        if let Some(gain) = &self.gain {
            values.chunks_exact_mut(k.max(1)).zip(gain).for_each(|(row, g)| row.iter_mut().for_each(|v| *v *= g));
        }
        if self.center {
            let mut mean = vec![0f64; k];
            values
                .chunks_exact(k.max(1))
                .for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / d as f64));
            values.chunks_exact_mut(k.max(1)).for_each(|row| row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= *m as f32));
        }
        Tensor::from_f32(values, &[d, k])
    }

    /// The norm of each direction as it enters: after centring, before the gain.
    pub(super) fn norms(&self, directions: &Directions, work: &Work) -> Result<Vec<f64>> {
        let mut norms = row_norms(&directions.rows, directions.gain.as_deref(), work)?;
        if self.center {
            let d = self.d_model as f64;
            let ones = Tensor::from_f32(vec![1.0; self.d_model], &[self.d_model, 1])?;
            let sums = project(&directions.rows, directions.gain.as_deref(), &ones, work)?.to_f64();
            norms.iter_mut().zip(sums).for_each(|(norm, sum)| *norm = (*norm * *norm - sum * sum / d).max(0.0).sqrt());
        }
        Ok(norms)
    }

    /// The factor of each direction under a scaling; 0 for directions without length.
    ///
    /// # Errors
    /// `"typical"` without activation statistics in the dictionary.
    pub(super) fn factors(&self, scaling: Scaling, dictionary: &Dictionary, part: &Part, work: &Work) -> Result<Vec<f64>> {
        let root = (self.d_model as f64).sqrt();
        let n = part.positions.len();
        let targets: Vec<f64> = match scaling {
            Scaling::None => return Ok(vec![1.0; n]),
            Scaling::SqrtD => vec![root; n],
            Scaling::Norm(norm) => vec![norm; n],
            Scaling::Typical => {
                let shares = mean_shares(dictionary)?;
                part.positions.iter().map(|p| root * shares[*p]).collect()
            }
        };
        let norms = self.norms(&part.directions, work)?;
        Ok(targets.into_iter().zip(norms).map(|(target, norm)| if norm > 0.0 { target / norm } else { 0.0 }).collect())
    }

    /// `c_i · Wᵀ (g ∘ P d_i)` for every direction: `[n, k]`, row-major.
    pub(super) fn project(&self, directions: &Directions, factors: &[f64], w: &Tensor, work: &Work) -> Result<Vec<f32>> {
        let (_, k) = w.matrix_shape("a head's weight")?;
        let folded = self.fold(w)?;
        let mut out = project(&directions.rows, directions.gain.as_deref(), &folded, work)?.to_f32();
        out.chunks_exact_mut(k.max(1))
            .zip(factors)
            .for_each(|(row, c)| row.iter_mut().for_each(|v| *v = (f64::from(*v) * c) as f32));
        Ok(out)
    }
}

/// The directions of a dictionary that a call reads: all of them, or, where only a few take part, those.
pub(super) struct Part {
    /// The directions.
    pub directions: Directions,
    /// Where each of them stands in the dictionary.
    pub positions: Vec<usize>,
    /// Where those that take part stand among them, in the order asked for.
    pub chosen: Vec<usize>,
}

impl Part {
    /// So few of a dictionary take part that copying them is quicker than reading all.
    const FEW: usize = 8;

    /// Those of `directions` that `chosen` needs; all of them where `whole` says so.
    pub(super) fn new(directions: Directions, chosen: Vec<usize>, whole: bool, work: &Work) -> Result<Self> {
        let (n, _) = directions.rows.matrix_shape("directions")?;
        if whole || chosen.len() * Self::FEW > n {
            return Ok(Part { directions, positions: (0..n).collect(), chosen });
        }
        let directions = Directions { rows: directions.dense(Some(&chosen), work)?, gain: None };
        Ok(Part { directions, chosen: (0..chosen.len()).collect(), positions: chosen })
    }
}

fn mean_shares(dictionary: &Dictionary) -> Result<Vec<f64>> {
    let help = "make them with activation_stats(dict, model, texts) and attach them with d.with_stats(table)";
    let missing =
        || Error::input(format!("temperature \"typical\" needs the activation statistics of {}", dictionary.name())).help(help);
    let shares = dictionary.stat("mean_share").ok_or_else(missing)?;
    match shares.iter().filter(|v| !v.is_finite()).count() {
        0 => Ok(shares),
        bad => Err(Error::input(format!("{bad} features of {} have no mean share", dictionary.name())).help(help)),
    }
}

/// The Euclidean norm of each row of a row-major matrix of width `k`.
pub(super) fn lengths(values: &[f32], k: usize) -> Vec<f64> {
    values.chunks_exact(k.max(1)).map(|row| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()).collect()
}

/// The effective post-attention gain (Gemma), or none.
pub(super) fn post_gain(model: &Model, layer: usize, fold: bool) -> Result<Option<Vec<f32>>> {
    Ok(if fold { model.find_gain(&format!("blocks.{layer}.ln1_post"))?.map(|g| g.to_f32()) } else { None })
}

/// `w_o` `[d_head, d_model]` with the post-attention gain behind it.
pub(super) fn output_weight(model: &Model, layer: usize, head: usize, post: Option<&[f32]>) -> Result<Tensor> {
    let w_o = model.w_o(layer, head)?;
    let shape = w_o.shape().to_vec();
    let mut values = w_o.to_f32();
    if let Some(post) = post {
        values.chunks_exact_mut(post.len().max(1)).for_each(|row| row.iter_mut().zip(post).for_each(|(v, g)| *v *= g));
    }
    Tensor::from_f32(values, &shape)
}

/// ‖v W_O‖ for each row v `[d_head]` of `values`, without the products themselves: v · (W_O W_Oᵀ) v.
pub(super) fn written_norms(values: &Tensor, w_o: &Tensor, work: &Work) -> Result<Vec<f64>> {
    let (_, d_head) = values.matrix_shape("what a head reads")?;
    let w_o = as_f64(w_o)?;
    let turned = matmul(values, &matmul(&w_o, &w_o.t(), work)?, work)?.to_f64();
    let dot = |(v, t): (&[f32], &[f64])| v.iter().zip(t).map(|(x, y)| f64::from(*x) * y).sum::<f64>().max(0.0).sqrt();
    Ok(values.f32_cow().chunks_exact(d_head.max(1)).zip(turned.chunks_exact(d_head.max(1))).map(dot).collect())
}

/// The same numbers as f64.
pub(super) fn as_f64(t: &Tensor) -> Result<Tensor> {
    Tensor::from_f64(t.to_f64(), t.shape())
}
