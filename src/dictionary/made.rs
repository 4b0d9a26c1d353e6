//! Dictionaries that come from no file of their own: any directions, an MLP's neurons, the tokens, an SAE that was trained.

use super::{Activation, Dictionary, Inner, Route, Site};
use crate::compute;
use crate::error::{Error, Result};
use crate::model::{Config, Model};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::{Map, Value as Json, json};

crate::options! {
    /// Options of `directions`.
    pub struct DirectionsOptions {
        /// Read directions `[n, d_model]`; the write directions themselves without it.
        read: Option<Tensor> = None,
        /// Encoder bias `[n]`.
        b_enc: Option<Tensor> = None,
        /// Decoder bias `[d_model]`.
        b_dec: Option<Tensor> = None,
        /// JumpReLU threshold `[n]`.
        threshold: Option<Tensor> = None,
        /// Where they stand in the model.
        site: Site = Site::ResidPost,
        /// The layer of the site; without one they may stand anywhere.
        layer: Option<usize> = None,
        /// A label for each.
        labels: Option<Vec<String>> = None,
        /// +d and −d are equally the feature.
        signed: bool = false,
    }
}

crate::choice! {
    /// Which directions stand for the tokens.
    pub enum Basis {
        /// Rows of W_E times the embedding scale.
        #[default]
        Embed = "embed",
        /// Columns of W_U with the final norm's gain.
        Unembed = "unembed",
        /// Rows of W_E times the embedding scale, plus what the first MLP adds to them.
        Effective = "effective",
    }
}

/// A dictionary of any directions in the residual stream: probes, steering vectors, singular vectors. `write` is
/// `[n, d_model]`; `[d_model]` is one direction.
///
/// # Errors
/// Shapes that do not fit together.
pub fn directions(write: &Tensor, options: &DirectionsOptions) -> Result<Dictionary> {
    let write = if write.ndim() == 1 { write.reshape(&[1, write.numel()])? } else { write.clone() };
    let (n, d) = write.matrix_shape("the directions")?;
    if n == 0 || d == 0 {
        return Err(Error::shape(format!("directions of shape [{n}, {d}] are none")));
    }
    let check = |name: &str, tensor: &Option<Tensor>, shape: &[usize]| match tensor {
        Some(t) if t.shape() != shape => {
            Err(Error::shape(format!("option `{name}` must have shape {shape:?} for {n} directions of {d}, not {:?}", t.shape())))
        }
        _ => Ok(()),
    };
    check("read", &options.read, &[n, d])?;
    check("b_enc", &options.b_enc, &[n])?;
    check("b_dec", &options.b_dec, &[d])?;
    check("threshold", &options.threshold, &[n])?;
    if let Some(labels) = options.labels.as_ref().filter(|labels| labels.len() != n) {
        return Err(Error::input(format!("{} labels for {n} directions", labels.len())));
    }
    let read = options.read.as_ref().unwrap_or(&write).t();
    let mut inner = Inner::new("directions".into(), "directions", options.site, options.layer, Some(read), write);
    inner.read = Route::Direct { gain: None };
    inner.write = Route::Direct { gain: None };
    inner.b_enc = options.b_enc.clone();
    inner.b_dec = options.b_dec.clone();
    inner.threshold = options.threshold.clone();
    inner.activation = if inner.threshold.is_some() { Activation::JumpRelu } else { Activation::None };
    inner.signed = options.signed;
    inner.labels = options.labels.clone();
    if options.read.is_none() {
        inner.facts.push(("read directions".into(), "the write directions (none were given)".into()));
    }
    Ok(inner.build())
}

/// The parts of an SAE that was made here.
#[derive(Clone, Debug)]
pub struct SaeParts {
    /// What messages call it.
    pub name: String,
    /// The hook that it reads and writes.
    pub hook: String,
    /// The activation function.
    pub activation: Activation,
    /// `[d_in, d_sae]`.
    pub w_enc: Tensor,
    /// `[d_sae, d_in]`.
    pub w_dec: Tensor,
    /// `[d_sae]`.
    pub b_enc: Tensor,
    /// `[d_in]`.
    pub b_dec: Tensor,
    /// `[d_sae]`, of a JumpReLU SAE.
    pub threshold: Option<Tensor>,
    /// b_dec is subtracted from the input.
    pub subtract_b_dec: bool,
    /// What is known of its training: `metadata` in SAELens's layout.
    pub metadata: Map<String, Json>,
}

impl Dictionary {
    /// An SAE of its parts.
    ///
    /// # Errors
    /// A hook that is not known, shapes that do not fit together, a JumpReLU without thresholds, or a gated SAE.
    pub fn from_parts(parts: SaeParts) -> Result<Dictionary> {
        let SaeParts { name, hook, activation, w_enc, w_dec, b_enc, b_dec, threshold, subtract_b_dec, metadata } = parts;
        let Some((site, layer)) = Site::of_hook(&hook) else {
            return Err(Error::input(format!("the hook `{hook}` is not known"))
                .help("hooks are named as in TransformerLens: blocks.5.hook_resid_post, blocks.5.attn.hook_z"));
        };
        let (d_in, n) = w_enc.matrix_shape("W_enc")?;
        let fits = w_dec.shape() == [n, d_in] && b_enc.shape() == [n] && b_dec.shape() == [d_in];
        if !fits || threshold.as_ref().is_some_and(|t| t.shape() != [n]) {
            return Err(Error::shape(format!("the parts of the SAE {name} do not fit W_enc [{d_in}, {n}]")));
        }
        if activation == Activation::Gated || (activation == Activation::JumpRelu) != threshold.is_some() {
            return Err(Error::input("a JumpReLU SAE has thresholds, no other has; gated ones cannot be made of these parts"));
        }
        let mut inner = Inner::new(name, "trained", site, layer, Some(w_enc), w_dec);
        inner.origin = Map::from_iter([("training".to_string(), metadata.get("training").cloned().unwrap_or_default())]);
        (inner.b_enc, inner.b_dec, inner.threshold) = (Some(b_enc), Some(b_dec), threshold);
        inner.signed = matches!(activation, Activation::AbsTopK(_));
        (inner.activation, inner.subtract_b_dec, inner.metadata) = (activation, subtract_b_dec, metadata);
        Ok(inner.build())
    }

    /// With a further entry in `metadata`, such as the figures of an evaluation.
    pub fn with_metadata(&self, key: &str, value: Json) -> Dictionary {
        let mut inner = Inner::clone(&self.0);
        inner.metadata.insert(key.into(), value);
        inner.build()
    }

    /// With the firing frequency of each feature.
    ///
    /// # Errors
    /// Not as many as features.
    pub fn with_density(&self, density: Vec<f64>) -> Result<Dictionary> {
        if density.len() != self.n() {
            return Err(Error::shape(format!("{} frequencies for {} features", density.len(), self.n())));
        }
        Ok(Inner::clone(&self.0).with_stat("density", density).build())
    }
}

/// The neurons of an MLP: neuron j writes row j of W_out, after the post-MLP norm's gain, and reads by its gate (W_gate, or
/// W_in where there is none), after the pre-MLP norm's gain. A gated neuron is signed: the product of gate and linear input
/// takes either sign.
///
/// # Errors
/// The layer is out of range.
pub fn mlp_neurons(model: &Model, layer: usize) -> Result<Dictionary> {
    let gate = model.w_gate(layer)?;
    let signed = gate.is_some();
    let read = match gate {
        Some(gate) => gate,
        None => model.w_in(layer)?,
    };
    let gain = |norm: &str| -> Result<Route> {
        let gain = model.find_gain(&format!("blocks.{layer}.{norm}"))?;
        Ok(Route::Direct { gain: gain.map(|gain| gain.to_f32()) })
    };
    let name = format!("{} neurons of layer {layer}", model.name());
    let mut inner = Inner::new(name, "neurons", Site::MlpPost, Some(layer), Some(read), model.w_out(layer)?);
    inner.read = gain("ln2")?;
    inner.write = gain("ln2_post")?;
    inner.signed = signed;
    inner.origin = [("neurons".to_string(), json!({"model": model.id(), "layer": layer}))].into_iter().collect();
    inner.warnings = model.warnings().to_vec();
    Ok(inner.build())
}

/// The tokens as a dictionary, ids as in the vocabulary. A token reads by the direction that it writes. Those that are views of
/// the model's weights are the same dictionary at every call.
///
/// # Errors
/// The user's interruption.
pub fn token_basis(model: &Model, basis: Basis, work: &Work) -> Result<Dictionary> {
    let make = || tokens(model, basis, work);
    match basis {
        Basis::Effective => make(),
        Basis::Embed | Basis::Unembed => {
            Ok(Dictionary::clone(&*model.kept().get_or_make(&format!("{} tokens", basis.name()), make)?))
        }
    }
}

fn tokens(model: &Model, basis: Basis, work: &Work) -> Result<Dictionary> {
    let scale = model.cfg().embed_scale as f32;
    let (rows, site, layer, gain) = match basis {
        Basis::Embed => (model.w_e(), Site::Embed, None, (scale != 1.0).then(|| vec![scale; model.cfg().d_model])),
        Basis::Unembed => (model.w_u().t(), Site::Unembed, None, Some(model.gain("ln_final")?.to_f32())),
        Basis::Effective => (effective_embedding(model, work)?, Site::ResidPost, Some(0), None),
    };
    let name = format!("{} tokens ({})", model.name(), basis.name());
    let mut inner = Inner::new(name, "tokens", site, layer, Some(rows.t()), rows);
    inner.read = Route::Direct { gain: gain.clone() };
    inner.write = Route::Direct { gain };
    inner.origin = [("tokens".to_string(), json!({"model": model.id(), "basis": basis.name()}))].into_iter().collect();
    inner.warnings = model.warnings().to_vec();
    Ok(inner.build())
}

/// Tokens at a time.
const BLOCK: usize = 1024;

/// `e + MLP_0(norm(e))` for every embedding e `[d_vocab, d_model]`: the first layer without its attention.
fn effective_embedding(model: &Model, work: &Work) -> Result<Tensor> {
    let Config { d_model, d_vocab, eps, act, embed_scale, .. } = *model.cfg();
    let (w_e, w_in, w_gate, w_out) = (model.w_e(), model.w_in(0)?, model.w_gate(0)?, model.w_out(0)?);
    let gain = model.gain("blocks.0.ln2")?.to_f32();
    let post = model.find_gain("blocks.0.ln2_post")?.map(|gain| gain.to_f32());
    let normalized = |row: &mut [f32], gain: &[f32]| {
        let square = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / d_model as f64;
        let factor = (square + eps).sqrt().recip() as f32;
        row.iter_mut().zip(gain).for_each(|(v, g)| *v *= factor * g);
    };
    let steps = work.begin("first MLP on the tokens", d_vocab as u64);
    let mut out = Vec::with_capacity(d_vocab * d_model);
    for start in (0..d_vocab).step_by(BLOCK) {
        let end = (start + BLOCK).min(d_vocab);
        let mut embedded = w_e.narrow(0, start..end)?;
        embedded.make_mut_f32().iter_mut().for_each(|v| *v *= embed_scale as f32);
        let mut read = embedded.clone();
        read.make_mut_f32().chunks_mut(d_model).for_each(|row| normalized(row, &gain));
        let mut hidden = compute::matmul(&read, w_gate.as_ref().unwrap_or(&w_in), work)?;
        hidden.make_mut_f32().iter_mut().for_each(|v| *v = act.apply(*v));
        if w_gate.is_some() {
            let linear = compute::matmul(&read, &w_in, work)?;
            hidden.make_mut_f32().iter_mut().zip(linear.f32_cow().iter()).for_each(|(v, l)| *v *= l);
        }
        let mut written = compute::matmul(&hidden, &w_out, work)?;
        if let Some(post) = &post {
            written.make_mut_f32().chunks_mut(d_model).for_each(|row| normalized(row, post));
        }
        out.extend(embedded.f32_cow().iter().zip(written.f32_cow().iter()).map(|(e, w)| e + w));
        steps.advance((end - start) as u64);
    }
    Tensor::from_f32(out, &[d_vocab, d_model])
}
