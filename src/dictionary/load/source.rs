//! An SAE's file as its family reads it: tensors by the names and orientations of a layout, and what was said of its place.

use super::beside::Beside;
use super::{SaeOptions, Said};
use crate::dictionary::{HookPoint, Inner, Site};
use crate::error::{Error, Result};
use crate::formats::TensorSet;
use crate::tensor::{Class, Tensor};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// A matrix's name and orientation. As it is used, W_enc is `[d_in, n]` and W_dec `[n, d_out]`.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    AsUsed(&'static str),
    Transposed(&'static str),
}

/// The names and orientations of a family's four tensors. They are fixed: where a matrix is square, nothing else tells.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub w_enc: Stored,
    pub w_dec: Stored,
    pub b_enc: &'static str,
    pub b_dec: &'static str,
}

/// The four tensors as they are used.
pub(super) struct Weights {
    /// Which matrix of the file is which, where names or orientation differ.
    stored: Vec<String>,
    pub w_enc: Tensor,
    pub w_dec: Tensor,
    pub b_enc: Tensor,
    pub b_dec: Tensor,
}

impl Weights {
    /// Number of features.
    pub fn n(&self) -> usize {
        self.b_enc.numel()
    }
}

impl Stored {
    fn name(self) -> &'static str {
        let (Stored::AsUsed(name) | Stored::Transposed(name)) = self;
        name
    }

    /// A shape as it is used, as it is stored. (The same turns it back.)
    fn shape(self, [rows, cols]: [usize; 2]) -> [usize; 2] {
        if matches!(self, Stored::AsUsed(_)) { [rows, cols] } else { [cols, rows] }
    }
}

/// A file that is being read.
pub(super) struct Source<'a> {
    pub tensors: TensorSet,
    pub beside: Beside,
    pub options: &'a SaeOptions,
    /// What messages call the SAE.
    pub name: String,
    /// What messages call its format.
    pub format: &'static str,
    /// Names of the tensors that were read.
    pub used: RefCell<BTreeSet<String>>,
    /// Opens another file of the same folder, where it is there.
    pub sibling: &'a dyn Fn(&str) -> Result<Option<TensorSet>>,
}

impl Source<'_> {
    /// True where all these tensors are there.
    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.tensors.find(name).is_some())
    }

    /// True where the tensors have the shapes of this layout and, none of them being square, of no other.
    pub fn is_laid_out(&self, layout: &Layout) -> bool {
        self.weights(layout).is_ok_and(|weights| weights.w_dec.shape()[0] != weights.w_dec.shape()[1])
    }

    /// A tensor of weights.
    ///
    /// # Errors
    /// It is missing, or was quantised: it holds integers, or 8-bit floats that scales belong to.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let tensor = self.tensors.get(name)?;
        let scales = ["_scale", "_scale_inv", ".scale", "_scales"].map(|ending| format!("{name}{ending}"));
        if let Some(scales) = scales.iter().find(|scales| tensor.dtype().is_quantised() && self.has(&[scales])) {
            let message =
                format!("its elements are {}, with scales in `{scales}`: how they belong together is not known", tensor.dtype());
            return Err(Error::format(message)
                .file(&self.tensors.source)
                .tensor(name)
                .help("multiply by the scales in Python, and save it in float32, bfloat16 or float16"));
        }
        if matches!(tensor.dtype().class(), Class::Int | Class::Bool) {
            let message = format!("its elements are {}: a quantised SAE, whose scales are not known", tensor.dtype());
            return Err(Error::format(message)
                .file(&self.tensors.source)
                .tensor(name)
                .help("multiply by the scales in Python, and save it in float32, bfloat16 or float16"));
        }
        self.used.borrow_mut().insert(name.to_string());
        Ok(tensor)
    }

    /// What is said of weights that are 8-bit floats, for which no scale was found.
    pub fn eight_bit(&self) -> Option<String> {
        let used = self.used.borrow();
        let coarse = |name: &&String| self.tensors.find(name).filter(|tensor| tensor.dtype().is_quantised());
        let names: Vec<_> = used.iter().filter_map(|name| Some(format!("{name} ({})", coarse(&name)?.dtype()))).collect();
        (!names.is_empty()).then(|| {
            format!(
                "8-bit floats without a scale beside them: {}. Their values are taken as they stand, so a feature's size is wrong \
                 where a scale is missing, and its direction is as coarse as they are",
                names.join(", ")
            )
        })
    }

    /// The k that the file itself stores beside its weights: as a tensor, as a number, or in the configuration of a checkpoint.
    ///
    /// # Errors
    /// It is a tensor of several numbers.
    pub fn stored_k(&self) -> Result<Option<usize>> {
        if let Some(k) = self.number("k")? {
            return Ok(Some(k as usize).filter(|k| *k > 0));
        }
        let facts = &self.tensors.metadata;
        let is_k = |key: &str| matches!(key.rsplit('.').next(), Some("k" | "top_k"));
        let stored = facts.get("k").or_else(|| facts.iter().find(|(key, _)| is_k(key)).map(|(_, value)| value));
        Ok(stored.and_then(|value| value.parse::<f64>().ok()).map(|k| k as usize).filter(|k| *k > 0))
    }

    /// The names of the tensors that were not read.
    pub fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        self.tensors.names().filter(|name| !used.contains(*name)).collect()
    }

    /// A tensor of this shape.
    ///
    /// # Errors
    /// It is missing or has another.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.get(name)?;
        if tensor.shape() == shape { Ok(tensor.clone()) } else { Err(self.misshapen(name, tensor, shape)) }
    }

    /// A vector with a value for each of `n` features, also where one value stands for all.
    ///
    /// # Errors
    /// It is missing or has another shape.
    pub fn for_each(&self, name: &str, n: usize) -> Result<Tensor> {
        let tensor = self.get(name)?;
        match tensor.numel() {
            1 if n != 1 => Ok(Tensor::vector(vec![tensor.to_f32()[0]; n])),
            size if size == n && tensor.ndim() <= 1 => tensor.reshape(&[n]),
            _ => Err(self.misshapen(name, tensor, &[n])),
        }
    }

    /// The single number of a tensor, where it is there.
    ///
    /// # Errors
    /// It has more.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.used.borrow_mut().insert(name.to_string());
        self.tensors.find(name).map(|tensor| tensor.item().map_err(|e| e.tensor(name).file(&self.tensors.source))).transpose()
    }

    /// The tensors of a layout, as they are used. Its biases say how many features there are and how wide the output is.
    ///
    /// # Errors
    /// One is missing, or their shapes do not fit together.
    pub fn weights(&self, layout: &Layout) -> Result<Weights> {
        let (n, d_out) = (self.length(layout.b_enc)?, self.length(layout.b_dec)?);
        let stored = self.get(layout.w_enc.name())?;
        let (rows, cols) = self.matrix(layout.w_enc.name())?;
        let d_in = layout.w_enc.shape([rows, cols])[0];
        // A matrix that has not `n` where it should is best compared with an SAE, which reads as wide as it writes.
        let d_in = if layout.w_enc.shape([d_in, n]) == [rows, cols] { d_in } else { d_out };
        let turned = |of: Stored, shape: [usize; 2]| -> Result<Tensor> {
            let tensor = self.tensor(of.name(), &of.shape(shape))?;
            Ok(if matches!(of, Stored::AsUsed(_)) { tensor } else { tensor.t() })
        };
        if stored.numel() == 0 {
            return Err(Error::shape("is empty").file(&self.tensors.source).tensor(layout.w_enc.name()));
        }
        let used = [layout.w_enc.shape([rows, cols]), layout.w_dec.shape(self.matrix(layout.w_dec.name())?.into())];
        if n != d_out && used[0][0] == n && used[0][1] != n && used[1] == [d_out, n] {
            return Err(self.both_turned(layout, n, d_out));
        }
        let stored = [("W_enc", layout.w_enc), ("W_dec", layout.w_dec)].into_iter().filter_map(|(used, of)| match of {
            Stored::AsUsed(name) if name == used => None,
            Stored::AsUsed(name) => Some(format!("{used} is {name}")),
            Stored::Transposed(name) => Some(format!("{used} is {name} transposed")),
        });
        Ok(Weights {
            stored: stored.collect(),
            w_enc: turned(layout.w_enc, [d_in, n])?,
            w_dec: turned(layout.w_dec, [n, d_out])?,
            b_enc: self.tensor(layout.b_enc, &[n])?,
            b_dec: self.tensor(layout.b_dec, &[d_out])?,
        })
    }

    /// The biases show that both matrices are stored in the other orientation.
    fn both_turned(&self, layout: &Layout, n: usize, d_out: usize) -> Error {
        let [w_enc, w_dec] = [layout.w_enc, layout.w_dec].map(Stored::name);
        let is_transposed = |(_, of): &(&str, Stored)| matches!(of, Stored::AsUsed(_));
        let matrices = [("W_enc", layout.w_enc), ("W_dec", layout.w_dec)];
        let transpose: Vec<_> = matrices.iter().filter(|of| is_transposed(of)).map(|(name, _)| format!("\"{name}\"")).collect();
        let (b_enc, b_dec) = (layout.b_enc, layout.b_dec);
        let message = format!(
            "{w_enc} and {w_dec} are both stored the other way round than in a {} SAE: {b_enc} has {n} values, one for each feature, and \
             {b_dec} has {d_out}",
            self.format
        );
        Error::shape(message).file(&self.tensors.source).help(format!(
            "open it with load_sae(…, #{{map: #{{W_enc: \"{w_enc}\", W_dec: \"{w_dec}\", b_enc: \"{b_enc}\", b_dec: \"{b_dec}\", \
             transpose: [{}]}}}})",
            transpose.join(", ")
        ))
    }

    fn length(&self, name: &str) -> Result<usize> {
        let tensor = self.get(name)?;
        match tensor.shape() {
            [n] => Ok(*n),
            shape => Err(Error::shape(format!("its shape is {shape:?}, but a {} SAE has a vector here", self.format))
                .file(&self.tensors.source)
                .tensor(name)),
        }
    }

    /// The shape of a matrix.
    ///
    /// # Errors
    /// It is missing, or none.
    pub fn matrix(&self, name: &str) -> Result<(usize, usize)> {
        self.get(name)?.matrix_shape(name).map_err(|e| e.file(&self.tensors.source).tensor(name))
    }

    fn misshapen(&self, name: &str, tensor: &Tensor, wanted: &[usize]) -> Error {
        Error::shape(format!("its shape is {:?}, but a {} SAE has {wanted:?} here", tensor.shape(), self.format))
            .file(&self.tensors.source)
            .tensor(name)
    }

    // ---- its place ----------------------------------------------------------------------------------------------

    /// An SAE of these weights at the place that the user or the file names; one without a place is taken to stand in the
    /// residual stream, and says so.
    ///
    /// # Errors
    /// The place is not known.
    pub fn sae(&self, weights: Weights, said: &Said) -> Result<Inner> {
        let Weights { stored, w_enc, w_dec, b_enc, b_dec } = weights;
        let mut inner = self.dictionary(Some(w_enc), w_dec, said)?;
        if !stored.is_empty() {
            inner.facts.push(("in the file".into(), stored.join(", ")));
        }
        (inner.b_enc, inner.b_dec) = (Some(b_enc), Some(b_dec));
        Ok(inner)
    }

    /// As [`Source::sae`], of directions alone.
    ///
    /// # Errors
    /// The place is not known.
    pub fn dictionary(&self, w_enc: Option<Tensor>, w_dec: Tensor, said: &Said) -> Result<Inner> {
        let hook = self.options.hook.as_ref().or(said.hook.as_ref()).map(|hook| known(hook)).transpose()?;
        let out = said.hook_out.as_ref().map(|hook| known(hook)).transpose()?;
        let nowhere = hook.is_none();
        let hook =
            hook.unwrap_or(HookPoint { name: Site::ResidPost.hook(said.layer), ..HookPoint::new(Site::ResidPost, said.layer) });
        let out = out.filter(|out| *out != hook);
        let inner = Inner::new(self.name.clone(), self.format, hook.site, hook.layer, w_enc, w_dec);
        let mut inner = inner.placed(hook, out);
        if nowhere {
            inner.warnings.push(
                "nothing in its file or path names its site: taken as a dictionary of the residual stream; name its hook if it is \
                 another"
                    .into(),
            );
        }
        inner.facts.extend(said.model.iter().map(|model| ("model_name".to_string(), model.clone())));
        inner.facts.extend(said.facts.iter().cloned());
        Ok(inner)
    }

    /// The k of a top-k SAE: the user's, else the file's.
    ///
    /// # Errors
    /// Neither says it.
    pub fn k(&self, stored: Option<usize>) -> Result<usize> {
        self.options.k.or(stored).ok_or_else(|| {
            Error::format("nothing beside its weights gives its k")
                .file(&self.tensors.source)
                .help("pass it: load_sae(…, #{k: 32})")
        })
    }
}

/// A hook by its name.
///
/// # Errors
/// It is not known.
pub(super) fn known(hook: &str) -> Result<HookPoint> {
    HookPoint::parse(hook).ok_or_else(|| {
        Error::input(format!("the hook `{hook}` is not known")).help(
            "hooks are named as in TransformerLens: blocks.5.hook_resid_post, blocks.5.attn.hook_z, blocks.5.hook_mlp_out, \
             blocks.5.mlp.hook_post, blocks.5.ln2.hook_normalized, blocks.5.mlp.hook_in",
        )
    })
}
