//! Read and write directions in the residual stream (FORMATS.md 3.2): row vectors, norm gains included.

use super::{Dictionary, Normalization, Route, Site};
use crate::compute;
use crate::error::{Error, Result};
use crate::model::{Model, Norm};
use crate::tensor::{Held, Tensor};
use crate::work::Work;

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
        let dense = match positions {
            Some(positions) => gather(&self.rows, positions, work)?,
            None => self.rows.clone(),
        };
        match &self.gain {
            Some(gain) => dense.map_rows(work, |_, row| row.iter_mut().zip(gain).for_each(|(value, g)| *value *= g)),
            None if dense.as_f32().is_some() => Ok(dense),
            None => dense.map_rows(work, |_, _| ()),
        }
    }

    /// The same without their means over d_model, after the gain: what a norm that subtracts the mean lets through.
    fn centred(self, work: &Work) -> Result<Self> {
        let Directions { rows, gain } = self;
        let rows = rows.map_rows(work, |_, row| {
            if let Some(gain) = &gain {
                row.iter_mut().zip(gain).for_each(|(value, g)| *value *= g);
            }
            let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / row.len() as f64;
            row.iter_mut().for_each(|v| *v = (f64::from(*v) - mean) as f32);
        })?;
        Ok(Directions { rows, gain: None })
    }
}

/// Rows of a matrix: a view where they follow each other, else a copy as f32.
pub(super) fn gather(matrix: &Tensor, positions: &[usize], work: &Work) -> Result<Tensor> {
    let (n, d) = matrix.matrix_shape("a dictionary's weights")?;
    if let Some(bad) = positions.iter().find(|position| **position >= n) {
        return Err(Error::input(format!("position {bad} is out of range: there are {n}, numbered from 0")));
    }
    if let Some(first) = positions.first()
        && positions.iter().enumerate().all(|(i, position)| *position == first + i)
    {
        return matrix.narrow(0, *first..first + positions.len());
    }
    let mut rows = Held::new(vec![0f32; positions.len() * d]);
    for (position, row) in positions.iter().zip(rows.chunks_mut(d.max(1))) {
        work.check()?;
        matrix.widen_block(*position..position + 1, 0..d, row);
    }
    Tensor::from_f32(rows.into_vec(), &[positions.len(), d])
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
                Ok(Directions { rows: compute::matmul(&self.0.w_dec, &w_o, work)?, gain: gain("ln1_post")? })
            }
            Route::Neurons => {
                let w_out = model.w_out(layer()?)?;
                Ok(Directions { rows: compute::matmul(&self.0.w_dec, &w_out, work)?, gain: gain("ln2_post")? })
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
        let directions = Directions { rows: compute::matmul(&chunk, &w_v.t(), work)?, gain: gain(model, layer, "ln1")? };
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
