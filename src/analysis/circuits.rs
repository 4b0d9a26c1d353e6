//! Heads as maps of the residual stream, of rank d_head: their singular directions, and how much of what one head writes
//! another reads (composition, Elhage et al. 2021).

use super::heads::{InputNorm, output_weight, post_gain};
use crate::compute::linalg::{Svd, qr, svd};
use crate::compute::matmul;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tensor::Tensor;
use crate::work::Work;

crate::choice! {
    /// A head's two circuits.
    pub enum Circuit {
        /// What attends to what: W_Q W_Kᵀ.
        #[default] Qk = "qk",
        /// What is written for what is attended to: W_V W_O.
        Ov = "ov",
    }
}

crate::choice! {
    /// By which input a later head reads.
    pub enum Input {
        /// Its queries.
        #[default] Query = "q",
        /// Its keys.
        Key = "k",
        /// Its values.
        Value = "v",
    }
}

crate::options! {
    /// Options of [`head_svd`] and of the compositions.
    pub struct CircuitOptions {
        /// Fold the gain of the norm before attention (with its centring) and, where the model has one, the post-attention
        /// gain. [FIELD]
        fold_norm: bool = true,
    }
}

/// The map `x ↦ x a b` of residual vectors as rows: `a` `[d_model, d_head]`, `b` `[d_head, d_model]`, f64.
struct Map {
    a: Tensor,
    b: Tensor,
}

impl Map {
    fn ov(model: &Model, layer: usize, head: usize, fold: bool) -> Result<Self> {
        let norm = InputNorm::of_attention(model, layer, fold)?;
        let post = post_gain(model, layer, fold)?;
        Ok(Map {
            a: wide(&norm.fold(&model.w_v(layer, head)?)?)?,
            b: wide(&output_weight(model, layer, head, post.as_deref())?)?,
        })
    }

    fn qk(model: &Model, layer: usize, head: usize, fold: bool) -> Result<Self> {
        let norm = InputNorm::of_attention(model, layer, fold)?;
        let (w_q, w_k) = (norm.fold(&model.w_q(layer, head)?)?, norm.fold(&model.w_k(layer, head)?)?);
        Ok(Map { a: wide(&w_q)?, b: wide(&w_k)?.t() })
    }

    /// The map that reads by an input of a head.
    fn reading(model: &Model, layer: usize, head: usize, input: Input, fold: bool) -> Result<Self> {
        Ok(match input {
            Input::Query => Self::qk(model, layer, head, fold)?,
            Input::Key => {
                let Map { a, b } = Self::qk(model, layer, head, fold)?;
                Map { a: b.t(), b: a.t() }
            }
            Input::Value => Self::ov(model, layer, head, fold)?,
        })
    }

    /// `[d_head, d_model]`: the map but for a rotation of its input, so that norms of products on its right stay.
    fn written(&self, work: &Work) -> Result<Tensor> {
        matmul(&qr(&self.a, work)?.r, &self.b, work)
    }

    /// `[d_model, d_head]`: the map but for a rotation of its output, so that norms of products on its left stay.
    fn read(&self, work: &Work) -> Result<Tensor> {
        matmul(&self.a, &qr(&self.b.t(), work)?.r.t(), work)
    }
}

fn wide(t: &Tensor) -> Result<Tensor> {
    Tensor::from_f64(t.to_f64(), t.shape())
}

/// The singular values (falling) and directions of a head's circuit, of rank d_head: `x M y = Σ_i s_i (x·u_i)(y·v_i)`.
///
/// M is `diag(g) W_Q W_Kᵀ diag(g)` for `"qk"` (u on the side of queries, v of keys; the attention scale, biases and positions
/// left out) and `diag(g) W_V W_O diag(post)` for `"ov"` (u is read, v is written). `u` and `v` are `[d_model, d_head]`. The
/// factors are taken apart by QR first, so that no `[d_model, d_model]` matrix is formed.
///
/// # Errors
/// A layer or head out of range, weights that are not finite.
pub fn head_svd(
    model: &Model,
    layer: usize,
    head: usize,
    circuit: Circuit,
    options: &CircuitOptions,
    work: &Work,
) -> Result<Svd> {
    check(model, layer, head)?;
    let map = match circuit {
        Circuit::Qk => Map::qk(model, layer, head, options.fold_norm)?,
        Circuit::Ov => Map::ov(model, layer, head, options.fold_norm)?,
    };
    let (left, right) = (qr(&map.a, work)?, qr(&map.b.t(), work)?);
    let inner = svd(&matmul(&left.r, &right.r.t(), work)?, work)?;
    Ok(Svd { u: matmul(&left.q, &inner.u, work)?, s: inner.s, v: matmul(&right.q, &inner.v, work)? })
}

/// How much of what head `from` writes head `to` reads by an input: `‖M_from M_to‖ / (‖M_from‖ ‖M_to‖)` (Frobenius), where
/// M_from is its OV circuit and M_to the QK circuit read by its queries or its keys, or the OV circuit (values); less
/// `1/√d_model`, the root mean square of the same under a random rotation between the two. Heads as (layer, head).
///
/// # Errors
/// A layer or head out of range; `to` does not read after `from` has written.
pub fn composition(
    model: &Model,
    from: (usize, usize),
    to: (usize, usize),
    input: Input,
    options: &CircuitOptions,
    work: &Work,
) -> Result<f64> {
    check(model, from.0, from.1)?;
    check(model, to.0, to.1)?;
    if to.0 <= from.0 {
        let message = format!("head {} of layer {} does not read what layer {} writes", to.1, to.0, from.0);
        return Err(Error::input(message).help("`to` must be in a later layer than `from`"));
    }
    let written = Map::ov(model, from.0, from.1, options.fold_norm)?.written(work)?;
    let read = Map::reading(model, to.0, to.1, input, options.fold_norm)?.read(work)?;
    Ok(norm(&matmul(&written, &read, work)?) / (norm(&written) * norm(&read)) - baseline(model))
}

/// [`composition`] of every head (rows) with every head of a later layer (columns), `[n, n]` with n = n_layers × n_heads and
/// head h of layer l at l × n_heads + h; NaN where the column's layer is not later.
///
/// # Errors
/// Weights that are not finite, or the user's interruption.
pub fn composition_matrix(model: &Model, input: Input, options: &CircuitOptions, work: &Work) -> Result<Tensor> {
    let (layers, heads) = (model.cfg().n_layers, model.cfg().n_heads);
    let n = layers * heads;
    let all: Vec<(usize, usize)> = (0..n).map(|i| (i / heads, i % heads)).collect();
    let steps = work.begin("composition of heads", 2 * n as u64);
    let mut written = Vec::with_capacity(n);
    for (layer, head) in &all {
        written.push(Map::ov(model, *layer, *head, options.fold_norm)?.written(work)?);
        steps.advance(1);
    }
    let mut values = vec![f64::NAN; n * n];
    for (j, (layer, head)) in all.iter().enumerate() {
        let read = Map::reading(model, *layer, *head, input, options.fold_norm)?.read(work)?;
        for (i, written) in written.iter().enumerate().take(layer * heads) {
            let both = norm(&matmul(written, &read, work)?);
            values[i * n + j] = both / (norm(written) * norm(&read)) - baseline(model);
        }
        steps.advance(1);
    }
    Tensor::from_f64(values, &[n, n])
}

fn check(model: &Model, layer: usize, head: usize) -> Result<()> {
    model.check_layer(layer)?;
    model.check_head(head)
}

fn norm(t: &Tensor) -> f64 {
    t.to_f64().iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// For a random rotation R, E ‖A R B‖² = ‖A‖² ‖B‖² / d.
fn baseline(model: &Model) -> f64 {
    1.0 / (model.cfg().d_model as f64).sqrt()
}
