//! Nulls: random directions with the norms, and by default the second moment, of a dictionary's own.

use super::{Dictionary, Directions, Inner, Route};
use crate::compute;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::Options;
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::json;

crate::choice! {
    /// The distribution of random directions.
    pub enum RandomKind {
        /// Gaussian with the uncentred second moment of the dictionary's unit directions.
        #[default]
        Covariance = "covariance",
        /// Uniform over the sphere.
        Isotropic = "isotropic",
    }
}

crate::options! {
    /// Options of `random_directions`.
    pub struct RandomOptions {
        /// How many; as many as the dictionary has without it.
        n: Option<usize> = None,
        /// The distribution.
        kind: RandomKind = RandomKind::Covariance,
        /// Seed of the draws; the session's without it.
        seed: Option<u64> = None,
    }
}

/// Streams of one seed: the draws of each side are independent.
const WRITE: u64 = 0;
const READ: u64 = 2;

/// Random directions as a null for `dictionary`. Write and read directions are drawn separately; each has the norm of one of
/// the dictionary's own, drawn with replacement (those of norm 0 and those that hold NaN or infinities left out). With a model,
/// they are drawn in the residual stream, like the dictionary's write and read directions there; without, in the space of its
/// own weights. Signed.
///
/// # Errors
/// `n` is 0, the dictionary has no finite direction but zeros, it does not fit the model, or the user's interruption.
pub fn random_directions(
    dictionary: &Dictionary,
    model: Option<&Model>,
    options: &RandomOptions,
    work: &Work,
) -> Result<Dictionary> {
    let n = options.n.unwrap_or(dictionary.n());
    if n == 0 {
        return Err(Error::input("option `n`: no random directions were asked for"));
    }
    let seed = options.seed.unwrap_or(work.seed());
    let options = RandomOptions { n: Some(n), seed: Some(seed), ..options.clone() };
    let inner = &dictionary.0;
    let own = |rows: Option<Tensor>, route: &Route| {
        let gain = if let Route::Direct { gain } = route { gain.clone() } else { None };
        rows.map(|rows| Directions { rows, gain })
    };
    let direct = |route: &Route| matches!(route, Route::Direct { .. });
    let (write, mapped) = match model {
        Some(model) if !direct(&inner.write) || matches!(inner.read, Route::Norm(_)) => {
            (Some(dictionary.write(model, work)?), true)
        }
        _ => (own(Some(dictionary.w_dec()), &inner.write), false),
    };
    // What has no read direction in the residual stream has none there for its null.
    let read = match (&inner.read, model) {
        (Route::Norm(_), Some(model)) if inner.w_enc.is_some() => Some(dictionary.read(model, work)?),
        (route, _) if mapped && !direct(route) => None,
        (route, _) => own(dictionary.w_enc().map(|w| w.t()), route),
    };
    let draw = |directions: Option<Directions>, stream| {
        directions.map(|directions| draw(&directions, n, options.kind, seed, stream, work)).transpose()
    };
    let Some(w_dec) = draw(write, WRITE)? else { return Err(Error::internal("a dictionary without W_dec")) };
    let w_enc = draw(read, READ)?.map(|read| read.t());
    let name = format!("random directions ({}) like {}", options.kind.name(), dictionary.name());
    let mut null = Inner::new(name, "random", inner.site, inner.layer, w_enc, w_dec);
    // Gains are in the directions now.
    let kept = |route: &Route| if direct(route) || mapped { Route::Direct { gain: None } } else { route.clone() };
    null.read = kept(&inner.read);
    null.write = kept(&inner.write);
    null.hook = inner.hook.clone();
    null.out = inner.out.clone();
    null.signed = true;
    null.origin =
        [("random".to_string(), json!({"like": dictionary.id(), "options": options.canonical()}))].into_iter().collect();
    null.warnings = inner.warnings.clone();
    Ok(null.build())
}

/// `[n, d]` random directions like these.
fn draw(like: &Directions, n: usize, kind: RandomKind, seed: u64, stream: u64, work: &Work) -> Result<Tensor> {
    let gain = like.gain.as_deref();
    let norms = compute::row_norms(&like.rows, gain, work)?;
    let finite: Vec<bool> = norms.iter().map(|norm| norm.is_finite()).collect();
    let norms: Vec<f64> = norms.into_iter().filter(|norm| *norm > 0.0 && norm.is_finite()).collect();
    if norms.is_empty() {
        return Err(Error::input(
            "all directions of the dictionary are zero or hold NaN or infinite numbers: nothing can be drawn like them",
        ));
    }
    let (_, d) = like.rows.matrix_shape("directions")?;
    let mut drawn = Tensor::randn(&[n, d], seed, stream, work)?;
    if kind == RandomKind::Covariance {
        let moment = compute::second_moment(&like.rows, Some(&finite), gain, true, work)?;
        let moment = Tensor::from_f64(moment, &[d, d])?;
        drawn = compute::matmul(&drawn, &square_root(&moment, work)?, work)?;
    }
    let picks = Tensor::rand(&[n], seed, stream + 1, work)?.to_f32();
    drawn.map_rows(work, |i, row| {
        let norm = norms[((f64::from(picks[i]) * norms.len() as f64) as usize).min(norms.len() - 1)];
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) * norm / length) as f32);
        }
    })
}

/// The symmetric root of a second moment, f32: unlike a Cholesky factor it exists where the directions span less than the
/// space, and it does not depend on signs and order of the eigenvectors.
fn square_root(moment: &Tensor, work: &Work) -> Result<Tensor> {
    let eigen = compute::linalg::eigh(moment, work)?;
    let roots: Vec<f64> = eigen.values.to_f64().into_iter().map(|value| value.max(0.0).sqrt()).collect();
    let d = roots.len();
    let mut scaled = eigen.vectors.to_f64();
    for row in scaled.chunks_mut(d.max(1)) {
        row.iter_mut().zip(&roots).for_each(|(v, root)| *v *= root);
    }
    let root = compute::matmul(&Tensor::from_f64(scaled, &[d, d])?, &eigen.vectors.t(), work)?;
    Tensor::from_f32(root.to_f32(), &[d, d])
}
