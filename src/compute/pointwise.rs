//! Functions applied number by number, and the softmax of a row, in the widest instructions that the processor has: what a
//! forward pass needs between its products. All work in place, on the calling thread.

use super::product::simd::{exp, max, padded, tanh};
use pulp::{Arch, Simd, WithSimd};

/// `gate[i] = f(gate[i]) · up[i]`, or `f(gate[i])` without `up`, where f is [`Pointwise::Silu`] or another of them.
///
/// # Panics
/// In debug builds, when the lengths differ.
pub fn apply(f: Pointwise, gate: &mut [f32], up: Option<&[f32]>) {
    debug_assert!(up.is_none_or(|up| up.len() == gate.len()));
    Arch::new().dispatch(Apply { f, gate, up });
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointwise {
    /// x / (1 + e⁻ˣ).
    Silu,
    /// x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³))).
    GeluTanh,
    /// c · tanh(x / c).
    Softcap(f32),
}

struct Apply<'a> {
    f: Pointwise,
    gate: &'a mut [f32],
    up: Option<&'a [f32]>,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.f {
            Pointwise::Silu => each(simd, self.gate, self.up, Silu),
            Pointwise::GeluTanh => each(simd, self.gate, self.up, GeluTanh),
            Pointwise::Softcap(cap) => each(simd, self.gate, self.up, Softcap { cap, inverse: cap.recip() }),
        }
    }
}

/// A function of the lanes of a vector. Not a closure: what is called through `Fn` is compiled without the processor's
/// wide instructions, at ten times the time.
trait Lanes: Copy {
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
}

#[inline(always)]
fn each<S: Simd>(simd: S, gate: &mut [f32], up: Option<&[f32]>, f: impl Lanes) {
    let (vectors, tail) = S::as_mut_simd_f32s(gate);
    let (factors, rest) = S::as_simd_f32s(up.unwrap_or_default());
    if up.is_some() {
        for (x, factor) in vectors.iter_mut().zip(factors) {
            *x = simd.mul_f32s(f.of(simd, *x), *factor);
        }
    } else {
        for x in vectors {
            *x = f.of(simd, *x);
        }
    }
    if !tail.is_empty() {
        let factor = if up.is_some() { padded(simd, rest, 1.0) } else { simd.splat_f32s(1.0) };
        let last = simd.mul_f32s(f.of(simd, padded(simd, tail, 0.0)), factor);
        tail.copy_from_slice(&bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(&last))[..tail.len()]);
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Lanes for Silu {
    /// x / (1 + e⁻ˣ), by way of e^-|x|, which cannot overflow.
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let one = simd.splat_f32s(1.0);
        let e = exp(simd, simd.neg_f32s(simd.abs_f32s(x)));
        let numerator = simd.select_f32s(simd.less_than_f32s(x, simd.splat_f32s(0.0)), e, one);
        let value = simd.div_f32s(simd.mul_f32s(x, numerator), simd.add_f32s(one, e));
        // NaN stays NaN, which `exp` would hide.
        simd.add_f32s(value, simd.sub_f32s(x, x))
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Lanes for GeluTanh {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let cube = simd.mul_f32s(simd.mul_f32s(x, x), x);
        let inner = simd.mul_add_e_f32s(cube, simd.splat_f32s(0.044_715), x);
        let inner = simd.mul_f32s(inner, simd.splat_f32s(std::f32::consts::FRAC_2_PI.sqrt()));
        let half = simd.mul_f32s(simd.splat_f32s(0.5), x);
        simd.mul_add_e_f32s(half, tanh(simd, inner), half)
    }
}

#[derive(Clone, Copy)]
struct Softcap {
    cap: f32,
    inverse: f32,
}

impl Lanes for Softcap {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let scaled = simd.mul_f32s(x, simd.splat_f32s(self.inverse));
        simd.mul_f32s(simd.splat_f32s(self.cap), tanh(simd, scaled))
    }
}

/// The softmax of a row of finite scores, in place.
pub fn softmax(row: &mut [f32]) {
    Arch::new().dispatch(Softmax(row));
}

struct Softmax<'a>(&'a mut [f32]);

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let top = max(simd, self.0);
        let tops = simd.splat_f32s(top);
        let mut total = simd.splat_f32s(0.0);
        let (vectors, tail) = S::as_mut_simd_f32s(self.0);
        for x in vectors {
            *x = exp(simd, simd.sub_f32s(*x, tops));
            total = simd.add_f32s(total, *x);
        }
        let mut rest = 0.0;
        for x in tail {
            *x = libm::expf(*x - top);
            rest += *x;
        }
        let inverse = (simd.reduce_sum_f32s(total) + rest).recip();
        let inverses = simd.splat_f32s(inverse);
        let (vectors, tail) = S::as_mut_simd_f32s(self.0);
        for x in vectors {
            *x = simd.mul_f32s(*x, inverses);
        }
        for x in tail {
            *x *= inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Vec<f32> {
        (-1000..=1001).map(|i| i as f32 * 0.0317).collect()
    }

    #[test]
    fn functions_agree_with_libm() {
        for (f, reference) in [
            (Pointwise::Silu, (|x| x / (1.0 + libm::exp(-x))) as fn(f64) -> f64),
            (Pointwise::GeluTanh, |x| {
                0.5 * x * (1.0 + libm::tanh((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)))
            }),
            (Pointwise::Softcap(7.5), |x| 7.5 * libm::tanh(x / 7.5)),
        ] {
            let (mut values, up) = (grid(), grid().iter().map(|x| 1.5 - x).collect::<Vec<_>>());
            apply(f, &mut values, None);
            let mut gated = grid();
            apply(f, &mut gated, Some(&up));
            for (((x, value), gated), up) in grid().iter().zip(&values).zip(&gated).zip(&up) {
                let expected = reference(f64::from(*x));
                // Far below 0 a GELU is a difference of equals: as exact as its terms.
                let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-6 * b.abs().max(1.0);
                assert!(near(*value, expected), "{f:?}({x}) = {value}, not {expected}");
                assert!(near(*gated, expected * f64::from(*up)), "{f:?}({x}) · {up} = {gated}");
            }
        }
        let mut odd = [f32::NAN, 1000.0, -1000.0];
        apply(Pointwise::Silu, &mut odd, None);
        assert!(odd[0].is_nan() && odd[1] == 1000.0 && odd[2] == 0.0, "{odd:?}");
    }

    #[test]
    fn a_softmax_sums_to_one() {
        for n in [1, 3, 16, 37] {
            let mut row: Vec<f32> = grid()[..n].iter().map(|x| 3.0 * x + 50.0).collect();
            let total: f64 = row.iter().map(|x| libm::exp(f64::from(*x))).sum();
            let expected: Vec<f64> = row.iter().map(|x| libm::exp(f64::from(*x)) / total).collect();
            softmax(&mut row);
            assert!(row.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{n}: {row:?}");
        }
    }
}
