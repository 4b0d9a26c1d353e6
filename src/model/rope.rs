//! Rotary position embedding: the frequencies of a layer, after the scaling that long-context models use.

use crate::error::{Error, Result};

/// The rotation of one layer: dimensions i and i + rotary_dims / 2 of a head turn by position × frequency i (the halves of
/// transformers' `rotate_half`). Dimensions from `rotary_dims` on do not turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// θ: frequency i is θ^(−2i / rotary_dims) before scaling.
    pub base: f64,
    /// Dimensions of a head that turn.
    pub rotary_dims: usize,
    /// `[rotary_dims / 2]`, radians per position, scaling included.
    pub inverse_frequencies: Vec<f64>,
}

impl Rope {
    /// Turns a head vector `[d_head]` to a position.
    pub fn turn(&self, head: &mut [f32], position: f64) {
        let half = self.rotary_dims / 2;
        for (i, frequency) in self.inverse_frequencies.iter().enumerate() {
            let (sin, cos) = libm::sincos(position * frequency);
            let (x, y) = (f64::from(head[i]), f64::from(head[i + half]));
            (head[i], head[i + half]) = ((x * cos - y * sin) as f32, (y * cos + x * sin) as f32);
        }
    }
}

/// How the frequencies of a file depart from θ^(−2i/d).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scaling {
    None,
    /// All divided by this factor.
    Linear(f64),
    /// Llama 3.1: slow planes divided by `factor`, fast ones kept, interpolated between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// Each divided by its own number (GGUF `rope_freqs.weight`).
    Divisors(Vec<f64>),
    /// One that is not known, by its name.
    Unknown(String),
}

impl Scaling {
    /// The numbers that frequencies are divided by.
    pub fn factors(&self) -> Vec<f64> {
        match self {
            Scaling::None | Scaling::Unknown(_) => Vec::new(),
            Scaling::Linear(factor) | Scaling::Llama3 { factor, .. } => vec![*factor],
            Scaling::Divisors(divisors) => divisors.clone(),
        }
    }
}

/// The rule that gives the rotation of some layers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RopeRule {
    pub base: f64,
    pub scaling: Scaling,
}

impl RopeRule {
    /// The rotation for heads of which `rotary_dims` dimensions turn.
    ///
    /// # Errors
    /// The scaling is of a kind that is not known, or does not fit the number of dimensions.
    pub fn rope(&self, rotary_dims: usize) -> Result<Rope> {
        let half = rotary_dims / 2;
        let plain = (0..half).map(|i| libm::pow(self.base, -2.0 * i as f64 / rotary_dims as f64));
        let inverse_frequencies = match &self.scaling {
            Scaling::None => plain.collect(),
            Scaling::Linear(factor) => plain.map(|f| f / factor).collect(),
            Scaling::Llama3 { factor, low, high, original } => plain
                .map(|f| {
                    let wavelength = std::f64::consts::TAU / f;
                    if wavelength < original / high {
                        f
                    } else if wavelength > original / low {
                        f / factor
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        f * ((1.0 - smooth) / factor + smooth)
                    }
                })
                .collect(),
            Scaling::Divisors(divisors) if divisors.len() == half => plain.zip(divisors).map(|(f, d)| f / d).collect(),
            Scaling::Divisors(divisors) => {
                return Err(Error::format(format!("{} rotary divisors for {half} rotary planes", divisors.len())));
            }
            Scaling::Unknown(kind) => {
                return Err(Error::input(format!("rotary scaling of the kind `{kind}` is not known"))
                    .help("known kinds are: default, linear, llama3; content-only scores (distance 0) need none"));
            }
        };
        Ok(Rope { base: self.base, rotary_dims, inverse_frequencies })
    }
}
