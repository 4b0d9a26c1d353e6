//! New tensors: constants, sequences, random numbers.

use super::drive::fill;
use super::elementwise::Number;
use super::{Tensor, element_count};
use crate::error::{Error, Result};
use crate::work::Work;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

impl Tensor {
    /// Zeros, f32.
    ///
    /// # Errors
    /// More elements than memory holds. (The same holds for the others here.)
    pub fn zeros(shape: &[usize], work: &Work) -> Result<Tensor> {
        Ok(Tensor::of(fill(element_count(shape)?, work, &|_, _: &mut [f32]| ())?, shape))
    }

    /// Ones, f32.
    pub fn ones(shape: &[usize], work: &Work) -> Result<Tensor> {
        Tensor::full(shape, Number::Float(1.0), work)
    }

    /// One number everywhere: bool, i64 or, for a float, f32.
    pub fn full(shape: &[usize], value: Number, work: &Work) -> Result<Tensor> {
        let len = element_count(shape)?;
        match value {
            Number::Bool(v) => Ok(Tensor::of(fill(len, work, &|_, out| out.fill(v))?, shape)),
            Number::Int(v) => Ok(Tensor::of(fill(len, work, &|_, out| out.fill(v))?, shape)),
            Number::Float(v) => Ok(Tensor::of(fill(len, work, &|_, out| out.fill(v as f32))?, shape)),
        }
    }

    /// `start, start + step, …` below `end` (above it for a negative step): i64 when all three are integers, else f32.
    ///
    /// # Errors
    /// A step of 0, or one that leads away from the end.
    pub fn arange(start: Number, end: Number, step: Number, work: &Work) -> Result<Tensor> {
        let check = |step: f64, span: f64| {
            if step == 0.0 || !step.is_finite() || !span.is_finite() {
                return Err(Error::input("arange: the step must not be 0, and all three must be finite"));
            }
            if span != 0.0 && (span < 0.0) != (step < 0.0) {
                return Err(Error::input("arange: the step leads away from the end").help("counting down needs a negative step"));
            }
            Ok(())
        };
        if let (Number::Int(start), Number::Int(end), Number::Int(step)) = (start, end, step) {
            let span = i128::from(end) - i128::from(start);
            check(step as f64, span as f64)?;
            let len = span.unsigned_abs().div_ceil(i128::from(step).unsigned_abs());
            let len = element_count(&[usize::try_from(len).unwrap_or(usize::MAX)])?;
            let value = |i: usize| start.wrapping_add((i as i64).wrapping_mul(step));
            return Ok(Tensor::of(fill(len, work, &|first, out| sequence(first, out, value))?, &[len]));
        }
        let wide = |n: Number| match n {
            Number::Bool(v) => f64::from(u8::from(v)),
            Number::Int(v) => v as f64,
            Number::Float(v) => v,
        };
        let (start, step, span) = (wide(start), wide(step), wide(end) - wide(start));
        check(step, span)?;
        let len = element_count(&[(span / step).ceil() as usize])?;
        let value = |i: usize| (start + i as f64 * step) as f32;
        Ok(Tensor::of(fill(len, work, &|first, out| sequence(first, out, value))?, &[len]))
    }

    /// `n` numbers at equal distances from `start` to `end`, both included, f32.
    pub fn linspace(start: f64, end: f64, n: usize, work: &Work) -> Result<Tensor> {
        let value = |i: usize| point(start, end, n, i) as f32;
        Ok(Tensor::of(fill(element_count(&[n])?, work, &|first, out| sequence(first, out, value))?, &[n]))
    }

    /// The n × n identity matrix, f32.
    pub fn eye(n: usize, work: &Work) -> Result<Tensor> {
        let value = |i: usize| if i / n == i % n { 1f32 } else { 0.0 };
        Ok(Tensor::of(fill(element_count(&[n, n])?, work, &|first, out| sequence(first, out, value))?, &[n, n]))
    }

    /// Uniform random numbers from 0 (included) to 1 (excluded), f32, with 24 random bits each. `stream` separates draws
    /// of one seed.
    pub fn rand(shape: &[usize], seed: u64, stream: u64, work: &Work) -> Result<Tensor> {
        let data = fill(element_count(shape)?, work, &|first, out: &mut [f32]| {
            let mut random = random_at(seed, stream, first);
            for value in out {
                *value = (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32;
            }
        })?;
        Ok(Tensor::of(data, shape))
    }

    /// Standard normal random numbers, f32, by the method of Box and Muller. `stream` separates draws of one seed.
    pub fn randn(shape: &[usize], seed: u64, stream: u64, work: &Work) -> Result<Tensor> {
        let data = fill(element_count(shape)?, work, &|first, out: &mut [f32]| {
            let mut random = random_at(seed, stream, first);
            // A chunk starts at an even element, so pairs never straddle two.
            for pair in out.chunks_mut(2) {
                // In (0, 1], so that the logarithm is finite.
                let radius = (-2.0 * libm::log(((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64)).sqrt();
                let angle = std::f64::consts::TAU * ((random.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
                pair[0] = (radius * libm::cos(angle)) as f32;
                if let Some(second) = pair.get_mut(1) {
                    *second = (radius * libm::sin(angle)) as f32;
                }
            }
        })?;
        Ok(Tensor::of(data, shape))
    }
}

fn sequence<T>(first: usize, out: &mut [T], value: impl Fn(usize) -> T) {
    for (i, place) in out.iter_mut().enumerate() {
        *place = value(first + i);
    }
}

/// Point `i` of `n` from `start` to `end`; the last is exactly `end`.
pub(super) fn point(start: f64, end: f64, n: usize, i: usize) -> f64 {
    match i {
        0 => start,
        _ if i + 1 == n => end,
        _ => start + (end - start) * (i as f64 / (n - 1) as f64),
    }
}

/// The generator as it stands before element `first`, two 32-bit words an element: chunks can be drawn in any order.
fn random_at(seed: u64, stream: u64, first: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random.set_word_pos(2 * first as u128);
    random
}
