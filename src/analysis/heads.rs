//! Directions as an attention head reads them: centred (LayerNorm), scaled to a temperature, multiplied by the norm's gain,
//! projected by W_Q, W_K or W_V.

use crate::compute::{blocks, matmul, project, row_norms};
use crate::dictionary::{Dictionary, Directions};
use crate::error::{Error, Result};
use crate::model::{Model, Norm};
use crate::options::{Json, OptionValue, Value};
use crate::tensor::{Draft, Tensor};
use crate::work::Work;
use rayon::prelude::*;
use serde_json::json;
use std::ops::Range;

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
    fn norms(&self, directions: &Directions, work: &Work) -> Result<Vec<f64>> {
        let mut norms = row_norms(&directions.rows, directions.gain.as_deref(), work)?;
        if self.center {
            let d = self.d_model as f64;
            let ones = Tensor::from_f32(vec![1.0; self.d_model], &[self.d_model, 1])?;
            let sums = project(&directions.rows, directions.gain.as_deref(), &ones, work)?.to_f64();
            norms.iter_mut().zip(sums).for_each(|(norm, sum)| *norm = root(*norm * *norm - sum * sum / d));
        }
        Ok(norms)
    }

    /// `c_i · Wᵀ (g ∘ P d_i)` for the directions of a part, c_i the factor of each under a scaling: 0 for directions without
    /// length.
    ///
    /// # Errors
    /// `"typical"` without activation statistics in the dictionary.
    pub(super) fn read(
        &self,
        (part, w): (&Part, &Tensor),
        scaling: Scaling,
        dictionary: &Dictionary,
        place: &VectorPlace,
        work: &Work,
    ) -> Result<HeadVectors> {
        let shares = if scaling == Scaling::Typical { Some(mean_shares(dictionary)?) } else { None };
        let root = (self.d_model as f64).sqrt();
        let target = |i: usize| match scaling {
            Scaling::Norm(norm) => norm,
            _ => root * shares.as_ref().map_or(1.0, |shares| shares[part.positions[i]]),
        };
        let factors = |block: &Directions, range: Range<usize>| {
            if scaling == Scaling::None {
                return Ok(vec![1.0; range.len()]);
            }
            let norms = self.norms(block, work)?;
            Ok(norms.into_iter().zip(range).map(|(norm, i)| if norm > 0.0 { target(i) / norm } else { 0.0 }).collect())
        };
        HeadVectors::new(part, &self.fold(w)?, factors, place, work)
    }
}

/// Where the head vectors of a call are kept.
pub(super) struct VectorPlace {
    /// What progress is called.
    label: String,
    filed: bool,
    /// Bytes that they take of memory.
    pub held: usize,
}

impl VectorPlace {
    /// For so many bytes in all.
    ///
    /// # Errors
    /// They do not fit into memory: a file's are read again and again, and wanted in the system's cache.
    pub(super) fn new(label: &str, bytes: usize, work: &Work) -> Result<Self> {
        work.reserve(label, bytes as u64)?;
        let filed = bytes > Draft::HELD;
        Ok(VectorPlace { label: label.into(), filed, held: if filed { 0 } else { bytes } })
    }
}

/// What a head's weight makes of directions.
pub(super) struct HeadVectors {
    /// Of the directions that take part, in the order asked for: `[n, k]`.
    pub values: Draft,
    /// The Euclidean norms of these rows.
    pub lengths: Vec<f64>,
    /// Mean square of the numbers in all vectors, also of directions that were only read; vectors that hold NaN or infinities
    /// do not count.
    pub mean_square: f64,
}

impl HeadVectors {
    /// Directions that are read at a time: whole tiles of [`project`].
    pub(super) const BLOCK: usize = 4096;

    /// Bytes that stay for `n` directions and a weight `[d_model, k]`.
    pub(super) fn bytes(n: usize, k: usize) -> usize {
        n.saturating_mul(k * size_of::<f32>() + size_of::<f64>())
    }

    /// `c_i · Wᵀ (gain ∘ d_i)` for the directions of a part. They are read in blocks; `factors` gives the c_i of one.
    pub(super) fn new(
        part: &Part,
        w: &Tensor,
        mut factors: impl FnMut(&Directions, Range<usize>) -> Result<Vec<f64>>,
        place: &VectorPlace,
        work: &Work,
    ) -> Result<Self> {
        let (_, k) = w.matrix_shape("a head's weight")?;
        let n = part.positions.len();
        let mut values = Draft::zeros([part.chosen.len(), k], place.filed, work)?;
        let mut lengths = vec![0f64; part.chosen.len()];
        // Those that take part, in the order in which they are read.
        let mut slots: Vec<(usize, usize)> = part.chosen.iter().copied().zip(0..).collect();
        slots.sort_unstable();
        let mut slots = slots.into_iter().peekable();
        let (mut sum, mut count) = (0.0, 0usize);
        let steps = work.begin(&place.label, n as u64);
        for range in blocks(0..n, Self::BLOCK) {
            let start = range.start;
            let block = part.block(range.clone(), work)?;
            let factors = factors(&block, range.clone())?;
            let mut made = project(&block.rows, block.gain.as_deref(), w, work)?;
            let squares = each_row(made.make_mut_f32(), k, work, |i, row| {
                row.iter_mut().for_each(|v| *v = (f64::from(*v) * factors[i]) as f32);
                row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()
            })?;
            let finite = squares.iter().filter(|square| square.is_finite());
            (sum, count) = finite.fold((sum, count), |(sum, count), square| (sum + square, count + k));
            let made = made.f32_cow();
            while let Some((position, slot)) = slots.next_if(|(position, _)| *position < range.end) {
                values.rows(slot..slot + 1).copy_from_slice(&made[(position - start) * k..][..k]);
                lengths[slot] = squares[position - start].sqrt();
            }
            values.release();
            part.release(range.clone());
            steps.advance(range.len() as u64);
        }
        Ok(HeadVectors { values, lengths, mean_square: sum / count.max(1) as f64 })
    }
}

/// Changes each row of a row-major matrix of width `k` by `f`, which is given its number, on all threads; what `f` gives, in
/// order.
pub(super) fn each_row<T: Send>(
    values: &mut [f32],
    k: usize,
    work: &Work,
    f: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Result<Vec<T>> {
    const ROWS: usize = 256;
    let k = k.max(1);
    let strips: Vec<Vec<T>> = work.install(|| {
        let strips = values.par_chunks_mut(ROWS * k).enumerate().map(|(strip, rows)| {
            work.check()?;
            Ok(rows.chunks_exact_mut(k).enumerate().map(|(i, row)| f(strip * ROWS + i, row)).collect())
        });
        strips.collect::<Result<_>>()
    })?;
    Ok(strips.into_iter().flatten().collect())
}

/// [`each_row`] of head vectors.
pub(super) fn each_vector(values: &mut Draft, work: &Work, f: impl Fn(&mut [f32]) + Sync) -> Result<()> {
    let [n, k] = values.shape();
    for rows in blocks(0..n, HeadVectors::BLOCK) {
        each_row(values.rows(rows), k, work, |_, row| f(row))?;
        values.release();
    }
    Ok(())
}

/// The root of a square that rounding may have made negative. NaN stays NaN.
fn root(square: f64) -> f64 {
    square.clamp(0.0, f64::INFINITY).sqrt()
}

/// The directions of a dictionary that a call reads: all of them, or, where only a few take part, those.
pub(super) struct Part {
    /// The dictionary's.
    directions: Directions,
    /// Those that are read: where each stands in the dictionary.
    pub positions: Vec<usize>,
    /// Where those that take part stand among them, in the order asked for.
    pub chosen: Vec<usize>,
    few: bool,
}

impl Part {
    /// So few of a dictionary take part that copying them is quicker than reading all.
    const FEW: usize = 8;

    /// Those of `directions` that `chosen` needs; all of them where `whole` says so.
    pub(super) fn new(directions: Directions, chosen: Vec<usize>, whole: bool) -> Self {
        let n = directions.len();
        if whole || chosen.len() * Self::FEW > n {
            return Part { directions, positions: (0..n).collect(), chosen, few: false };
        }
        Part { directions, chosen: (0..chosen.len()).collect(), positions: chosen, few: true }
    }

    /// Some of those that are read.
    fn block(&self, range: Range<usize>, work: &Work) -> Result<Directions> {
        let Directions { rows, gain } = &self.directions;
        if self.few {
            return Ok(Directions { rows: self.directions.dense(Some(&self.positions[range]), work)?, gain: None });
        }
        Ok(Directions { rows: rows.narrow(0, range)?, gain: gain.clone() })
    }

    /// A pass is over with these.
    fn release(&self, range: Range<usize>) {
        if !self.few {
            self.directions.rows.release_rows(range);
        }
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

/// ‖v W_O‖ for each row v `[d_head]` of `values`, without the products themselves: v · (W_O W_Oᵀ) v. NaN where v is.
pub(super) fn written_norms(values: &Tensor, w_o: &Tensor, work: &Work) -> Result<Vec<f64>> {
    const BLOCK: usize = 1024;
    let (n, d_head) = values.matrix_shape("what a head reads")?;
    let w_o = as_f64(w_o)?;
    let gram = matmul(&w_o, &w_o.t(), work)?;
    let mut norms = Vec::with_capacity(n);
    for start in (0..n).step_by(BLOCK) {
        let block = values.narrow(0, start..(start + BLOCK).min(n))?;
        let turned = matmul(&block, &gram, work)?.to_f64();
        let dot = |(v, t): (&[f32], &[f64])| v.iter().zip(t).map(|(x, y)| f64::from(*x) * y).sum::<f64>();
        let rows = block.f32_cow();
        norms.extend(rows.chunks_exact(d_head.max(1)).zip(turned.chunks_exact(d_head.max(1))).map(dot).map(root));
    }
    Ok(norms)
}

/// The same numbers as f64.
pub(super) fn as_f64(t: &Tensor) -> Result<Tensor> {
    Tensor::from_f64(t.to_f64(), t.shape())
}
