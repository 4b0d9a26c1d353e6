//! Any file: an SAE whose tensors the user has named.

use super::source::Source;
use super::{Said, listing};
use crate::dictionary::{Activation, Inner};
use crate::error::{Error, Result};
use crate::options::{OptionMap, OptionValue, Options, Value};
use crate::tensor::Tensor;
use serde_json::Value as Json;

crate::options! {
    /// The option `map` of `load_sae`: which tensor of a file is which weight.
    #[allow(non_snake_case)] // the field's own names
    pub struct MapOptions {
        /// Tensor of W_enc `[d_in, d_sae]`.
        W_enc: Option<String> = None,
        /// Tensor of W_dec `[d_sae, d_out]`.
        W_dec: Option<String> = None,
        /// Tensor of b_enc.
        b_enc: Option<String> = None,
        /// Tensor of b_dec.
        b_dec: Option<String> = None,
        /// Tensor of the JumpReLU threshold, one or one for each feature.
        threshold: Option<String> = None,
        /// Which of W_enc and W_dec are stored the other way round.
        transpose: Vec<String> = Vec::new(),
        /// relu, jumprelu, topk, abstopk or none.
        activation: String = "relu".to_string(),
        /// b_dec is subtracted from the input.
        subtract_b_dec: bool = false,
    }
}

/// The option `map` as it was given; [`MapOptions`] reads it.
#[derive(Clone, Debug)]
pub struct TensorMap(pub OptionMap);

impl OptionValue for TensorMap {
    fn kind() -> String {
        "a map of tensor names".into()
    }
    fn read(value: &Value) -> Option<Self> {
        if let Value::Map(map) = value { Some(TensorMap(map.clone())) } else { None }
    }
    fn canonical(&self) -> Json {
        MapOptions::parse(&self.0).map_or(Json::Null, |map| map.canonical())
    }
}

/// An SAE whose tensors the user has named.
///
/// # Errors
/// A tensor is not there, or the shapes do not fit together.
pub(super) fn read(map: &MapOptions, source: &Source) -> Result<Inner> {
    let tensors = &source.tensors;
    for given in &map.transpose {
        if given != "W_enc" && given != "W_dec" {
            return Err(Error::input(format!("`transpose` in `map` names `{given}`")).help("it takes \"W_enc\" and \"W_dec\""));
        }
    }
    let matrix = |key: &str, name: &Option<String>| -> Result<Option<Tensor>> {
        let Some(name) = name else { return Ok(None) };
        let tensor = source.get(name)?;
        tensor.matrix_shape(key).map_err(|e| e.file(&tensors.source).tensor(name.as_str()))?;
        Ok(Some(if map.transpose.iter().any(|t| t == key) { tensor.t() } else { tensor.clone() }))
    };
    let w_enc = matrix("W_enc", &map.W_enc)?;
    let Some(w_dec) = matrix("W_dec", &map.W_dec)? else {
        return Err(Error::input("`map` names no W_dec").help(listing(tensors)));
    };
    let (n, d_out) = (w_dec.shape()[0], w_dec.shape()[1]);
    if let Some(w_enc) = w_enc.as_ref().filter(|w| w.shape()[1] != n) {
        let message =
            format!("W_enc is {:?} and W_dec {:?}: [d_in, d_sae] and [d_sae, d_out] are needed", w_enc.shape(), w_dec.shape());
        return Err(Error::shape(message)
            .file(&tensors.source)
            .help("name what is stored the other way round in `transpose`: [\"W_enc\"]"));
    }
    let vector = |name: &Option<String>, len: usize| -> Result<Option<Tensor>> {
        let Some(name) = name else { return Ok(None) };
        let tensor = source.get(name)?;
        match tensor.numel() {
            size if size == len => Ok(Some(tensor.reshape(&[len])?)),
            // One threshold for all features.
            1 => Ok(Some(Tensor::vector(vec![tensor.to_f32()[0]; len]))),
            size => {
                let error = Error::shape(format!("has {size} values, but {len} are needed"));
                let error = error.file(&tensors.source).tensor(name.as_str());
                let other_way = [(n, d_out), (d_out, n)].contains(&(len, size)) && map.transpose.is_empty();
                Err(match other_way {
                    true => error.help("both matrices are stored the other way round: transpose: [\"W_enc\", \"W_dec\"]"),
                    false => error,
                })
            }
        }
    };
    let threshold = vector(&map.threshold, n)?;
    let missing = || Error::input("a top-k SAE needs its k").help("pass it beside the map: #{map: …, k: 32}");
    let k = || source.options.k.ok_or_else(missing);
    let activation = match map.activation.as_str() {
        "none" => Activation::None,
        "relu" => Activation::Relu,
        "jumprelu" if threshold.is_none() => return Err(Error::input("a JumpReLU SAE needs a `threshold` in `map`")),
        "jumprelu" => Activation::JumpRelu,
        "topk" => Activation::TopK(k()?),
        "abstopk" => Activation::AbsTopK(k()?),
        other => {
            return Err(Error::input(format!("the activation `{other}` in `map` is not known"))
                .help("known: none, relu, jumprelu, topk, abstopk"));
        }
    };
    let mut inner = source.dictionary(w_enc, w_dec, &Said::default())?;
    inner.b_enc = vector(&map.b_enc, n)?;
    inner.b_dec = vector(&map.b_dec, d_out)?;
    inner.threshold = threshold;
    inner.signed = matches!(activation, Activation::AbsTopK(_));
    inner.activation = activation;
    inner.subtract_b_dec = map.subtract_b_dec;
    if n < d_out && map.b_enc.is_none() && map.b_dec.is_none() && map.threshold.is_none() {
        inner.warnings.push(format!(
            "it has {n} features of width {d_out}, and no bias says which is which: where it has {d_out} features of width {n}, add to `map` \
             transpose: [\"W_enc\", \"W_dec\"]"
        ));
    }
    Ok(inner)
}
