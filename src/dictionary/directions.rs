//! Read and write directions in the residual stream (FORMATS.md 3.2): row vectors, norm gains included.

use super::{Dictionary, Normalization, Route, Site};
use crate::compute;
use crate::error::{Error, Result};
use crate::model::{Model, Norm};
use crate::tensor::{Draft, Tensor};
use crate::work::Work;
use std::ops::Range;

/// Directions in the residual stream: direction i is `gain ∘ rows[i]`.
#[derive(Clone, Debug)]
pub struct Directions {
    /// `[n, d_model]`; a view of the stored weights wherever they are such directions already.
    pub rows: Tensor,
    /// `[d_model]`.
    pub gain: Option<Vec<f32>>,
}

impl Directions {
    /// Number of directions.
    pub fn len(&self) -> usize {
        self.rows.shape()[0]
    }

    /// True without directions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The directions at these positions (all without), multiplied out, `[n, d_model]` f32.
    ///
    /// # Errors
    /// A position beyond the last, or the user's interruption.
    pub fn dense(&self, positions: Option<&[usize]>, work: &Work) -> Result<Tensor> {
        if self.gain.is_none()
            && let Some(rows) = positions.map_or(Some(0..self.len()), run)
            && rows.end <= self.len()
            && let view = self.rows.narrow(0, rows)?
            && view.as_f32().is_some()
        {
            return Ok(view);
        }
        self.made(positions, work, Ok)
    }

    /// What `make` makes of the directions at these positions (all without), which it is given in blocks, multiplied out, f32, and
    /// does not change in number and width. A large result lies in a temporary file.
    ///
    /// # Errors
    /// Those of `make`, a position beyond the last, no room for the result, or the user's interruption.
    pub fn made(&self, positions: Option<&[usize]>, work: &Work, make: impl Fn(Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (n, d) = self.rows.matrix_shape("directions")?;
        Draft::in_blocks(COPY, [positions.map_or(n, <[usize]>::len), d], work, |range| {
            let block = match positions {
                Some(positions) => gather(&self.rows, &positions[range.clone()], work)?,
                None => self.rows.narrow(0, range.clone())?,
            };
            let dense = block.map_rows(work, |_, row| {
                if let Some(gain) = &self.gain {
                    row.iter_mut().zip(gain).for_each(|(value, g)| *value *= g);
                }
            })?;
            if positions.is_none() {
                self.rows.release_rows(range);
            }
            make(dense)
        })
    }

    /// The same without their means over d_model, after the gain: what a norm that subtracts the mean lets through.
    fn centred(self, work: &Work) -> Result<Self> {
        Ok(Directions { rows: self.made(None, work, |rows| centred(rows, work))?, gain: None })
    }
}

/// What a copy of directions is called where it does not fit into memory.
const COPY: &str = "a copy of the directions";

/// A matrix whose rows have lost their means: what a norm that subtracts the mean lets through.
///
/// # Errors
/// Not a matrix, or the user's interruption.
pub fn centred(rows: Tensor, work: &Work) -> Result<Tensor> {
    rows.map_rows(work, |_, row| {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / row.len() as f64;
        row.iter_mut().for_each(|v| *v = (f64::from(*v) - mean) as f32);
    })
}

/// `rows @ w`, where it is large in a temporary file.
fn product(rows: &Tensor, w: &Tensor, work: &Work) -> Result<Tensor> {
    let ((n, _), (_, d)) = (rows.matrix_shape("directions")?, w.matrix_shape("a weight")?);
    Draft::in_blocks(COPY, [n, d], work, |range| compute::matmul(&rows.narrow(0, range)?, w, work))
}

/// The positions as a range where they follow each other.
fn run(positions: &[usize]) -> Option<Range<usize>> {
    let first = *positions.first()?;
    positions.iter().zip(first..).all(|(position, next)| *position == next).then(|| first..first + positions.len())
}

/// Rows of a matrix: a view where they follow each other, else a copy as f32.
pub(super) fn gather(matrix: &Tensor, positions: &[usize], work: &Work) -> Result<Tensor> {
    let (n, d) = matrix.matrix_shape("a dictionary's weights")?;
    if let Some(bad) = positions.iter().find(|position| **position >= n) {
        return Err(Error::input(format!("position {bad} is out of range: there are {n}, numbered from 0")));
    }
    if let Some(rows) = run(positions) {
        return matrix.narrow(0, rows);
    }
    Draft::in_blocks(COPY, [positions.len(), d], work, |range| {
        let positions = &positions[range];
        let zeros = Tensor::from_f32(vec![0.0; positions.len() * d], &[positions.len(), d])?;
        zeros.map_rows(work, |i, row| matrix.widen_block(positions[i]..positions[i] + 1, 0..d, row))
    })
}

impl Dictionary {
    /// The directions that it writes into the residual stream, gains of post-norms included. On Gemma a feature in z or in
    /// the neurons writes them up to one positive scalar a token.
    ///
    /// # Errors
    /// It does not fit the model, or the user's interruption.
    pub fn write(&self, model: &Model, work: &Work) -> Result<Directions> {
        self.check_fits(model)?;
        self.say_doubts(model, work);
        let layer = || self.needed(self.written().1);
        let gain = |norm| gain(model, layer()?, norm);
        match &self.0.write {
            Route::Direct { gain } => Ok(Directions { rows: self.w_dec(), gain: gain.clone() }),
            Route::Norm(norm) => Ok(Directions { rows: self.w_dec(), gain: gain(norm)? }),
            Route::Heads => {
                let w_o = model.w_o_all(layer()?)?;
                Ok(Directions { rows: product(&self.0.w_dec, &w_o, work)?, gain: gain("ln1_post")? })
            }
            Route::Neurons => {
                let w_out = model.w_out(layer()?)?;
                Ok(Directions { rows: product(&self.0.w_dec, &w_out, work)?, gain: gain("ln2_post")? })
            }
            Route::Unavailable => Err(Error::input(format!("{} has no write direction in the residual stream", self.name()))),
        }
    }

    /// The directions that it reads in the residual stream, gains of input norms included. What is read through a norm that
    /// subtracts the mean has none in its direction.
    ///
    /// # Errors
    /// It does not fit the model, or has no read direction: in z each head reads on its own ([`Dictionary::read_head`]); on
    /// attn_out, mlp_out and the neurons it reads what a component made, not the residual stream. Or the user's interruption.
    pub fn read(&self, model: &Model, work: &Work) -> Result<Directions> {
        self.check_fits(model)?;
        let (name, site) = (self.name(), self.0.site.name());
        let missing = Error::input(format!("{name} ({site}) has no read direction in the residual stream"));
        let directions = match (&self.0.read, &self.0.w_enc) {
            (Route::Direct { gain }, Some(w_enc)) => Directions { rows: w_enc.t(), gain: gain.clone() },
            (Route::Norm(norm), Some(w_enc)) => {
                Directions { rows: w_enc.t(), gain: gain(model, self.needed(self.0.layer)?, norm)? }
            }
            (Route::Heads, Some(_)) => {
                return Err(Error::input(format!("{name} lies in z, which reads by one head at a time"))
                    .help("name the head: read(model, #{head: 0})"));
            }
            (_, Some(_)) => {
                return Err(missing.help("it reads what a component of the model has made; its write directions can be used"));
            }
            (_, None) => return Err(missing.help("it was made without read directions")),
        };
        let behind_norm = matches!(self.0.site, Site::Ln2Normalized | Site::MlpPost) && model.cfg().norm == Norm::Layer;
        if behind_norm || self.0.normalization == Normalization::LayerNorm { directions.centred(work) } else { Ok(directions) }
    }

    /// The directions that a dictionary in z reads through one head: `W_V(head) · W_enc[head's rows]`, after the input
    /// norm's gain.
    ///
    /// # Errors
    /// It does not lie in z, does not fit the model, the head is out of range, or the user's interruption.
    pub fn read_head(&self, model: &Model, head: usize, work: &Work) -> Result<Directions> {
        self.check_fits(model)?;
        self.say_doubts(model, work);
        let (Route::Heads, Some(w_enc)) = (&self.0.read, &self.0.w_enc) else {
            return Err(
                Error::input(format!("{} does not lie in z: it does not read by heads", self.name())).help("leave out `head`")
            );
        };
        let layer = self.needed(self.0.layer)?;
        let w_v = model.w_v(layer, head)?;
        let d_head = model.cfg().d_head;
        let chunk = w_enc.narrow(0, head * d_head..(head + 1) * d_head)?.t();
        let directions = Directions { rows: product(&chunk, &w_v.t(), work)?, gain: gain(model, layer, "ln1")? };
        if model.cfg().norm == Norm::Layer { directions.centred(work) } else { Ok(directions) }
    }

    fn needed(&self, layer: Option<usize>) -> Result<usize> {
        let missing = || Error::input(format!("{} does not say which layer it belongs to", self.name()));
        layer.ok_or_else(|| missing().help("name its hook: load_sae(…, #{hook: \"blocks.5.attn.hook_z\"})"))
    }
}

/// The gain of a norm of a layer, where the model has one.
fn gain(model: &Model, layer: usize, norm: &str) -> Result<Option<Vec<f32>>> {
    Ok(model.find_gain(&format!("blocks.{layer}.{norm}"))?.map(|gain| gain.to_f32()))
}
