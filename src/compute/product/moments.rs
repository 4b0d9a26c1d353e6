//! Moments of streamed scores.
//!
//! A run of scores (the part of a row that lies in one tile) is summed in f32 around a pivot near its mean and in units
//! near its standard deviation, so that nothing cancels, overflows or underflows; the sums of runs are added in f64, and
//! parts with different pivots are merged by the formulas of Pébay (Sandia report SAND2008-6212), which extend those of
//! Chan, Golub and LeVeque to higher moments.

use super::simd;
use pulp::Simd;

/// Moments of a set of scores. NaN where there is nothing to measure: everything but `n` without scores, skewness and
/// kurtosis without variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Number of finite scores, which alone are measured.
    pub n: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation of the scores as a population (ddof 0).
    pub std: f64,
    /// Third standardised moment.
    pub skewness: f64,
    /// Fourth standardised moment: 3 for a normal distribution.
    pub kurtosis: f64,
    /// Least score.
    pub min: f64,
    /// Largest score.
    pub max: f64,
}

impl Moments {
    /// Those of what is left when `part` is taken out; `min` and `max`, which these do not tell, are those given.
    pub fn without(&self, part: &Moments, min: f64, max: f64) -> Moments {
        if part.n == 0 {
            return Moments { min, max, ..*self };
        }
        let sums = |m: &Moments| {
            let (n, variance) = (m.n as f64, m.std * m.std);
            let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
            [n * variance, n * finite(m.skewness) * variance * m.std, n * finite(m.kurtosis) * variance * variance]
        };
        let ([a2, a3, a4], [b2, b3, b4]) = (sums(self), sums(part));
        let (n, k) = (self.n as f64, part.n as f64);
        // The part's sums of powers about the mean of all, then those of the rest about its own mean.
        let d = part.mean - self.mean;
        let s1 = -k * d;
        let s2 = a2 - (b2 + k * d * d);
        let s3 = a3 - (b3 + 3.0 * d * b2 + k * d.powi(3));
        let s4 = a4 - (b4 + 4.0 * d * b3 + 6.0 * d * d * b2 + k * d.powi(4));
        let rest = n - k;
        let e = s1 / rest;
        let m2 = (s2 - rest * e * e).max(0.0);
        let m3 = s3 - 3.0 * e * s2 + 2.0 * rest * e.powi(3);
        let m4 = s4 - 4.0 * e * s3 + 6.0 * e * e * s2 - 3.0 * rest * e.powi(4);
        let variance = m2 / rest;
        Moments {
            n: self.n - part.n,
            mean: self.mean + e,
            std: variance.sqrt(),
            skewness: m3 / rest / (variance * variance.sqrt()),
            kurtosis: m4 / rest / (variance * variance),
            min,
            max,
        }
    }
}

/// Mean and sums of powers of the deviations from it.
#[derive(Clone, Copy)]
pub(super) struct Central {
    n: u64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
    min: f64,
    max: f64,
}

impl Central {
    pub(super) const EMPTY: Central =
        Central { n: 0, mean: 0.0, m2: 0.0, m3: 0.0, m4: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Of the finite ones among these scores.
    pub(super) fn of(scores: &[f32]) -> Self {
        let finite = || scores.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x));
        let n = finite().count();
        if n == 0 {
            return Self::EMPTY;
        }
        let mut out = Central { n: n as u64, mean: finite().sum::<f64>() / n as f64, ..Self::EMPTY };
        for x in finite() {
            let d = x - out.mean;
            out.m2 += d * d;
            out.m3 += d * d * d;
            out.m4 += d * d * d * d;
            out.min = out.min.min(x);
            out.max = out.max.max(x);
        }
        out
    }

    /// Of n scores whose sums of powers of `(x - pivot) / unit` are given.
    fn around(pivot: f64, unit: f64, n: u64, powers: [f64; 4], min: f64, max: f64) -> Self {
        if n == 0 {
            return Self::EMPTY;
        }
        let count = n as f64;
        let d = powers[0] / count;
        let [_, p2, p3, p4] = powers;
        let m2 = (p2 - count * d * d).max(0.0);
        let m3 = p3 - 3.0 * d * p2 + 2.0 * count * d * d * d;
        let m4 = (p4 - 4.0 * d * p3 + 6.0 * d * d * p2 - 3.0 * count * d * d * d * d).max(0.0);
        let square = unit * unit;
        Central { n, mean: pivot + d * unit, m2: m2 * square, m3: m3 * square * unit, m4: m4 * square * square, min, max }
    }

    /// Adds a disjoint set of scores.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.n == 0 || other.n == 0 {
            if self.n == 0 {
                *self = *other;
            }
            return;
        }
        let (a, b) = (self.n as f64, other.n as f64);
        let n = a + b;
        let d = (other.mean - self.mean) / n;
        let ab = a * b;
        self.m4 += other.m4
            + ab * (a * a - ab + b * b) * n * d.powi(4)
            + 6.0 * d * d * (a * a * other.m2 + b * b * self.m2)
            + 4.0 * d * (a * other.m3 - b * self.m3);
        self.m3 += other.m3 + ab * (a - b) * n * d.powi(3) + 3.0 * d * (a * other.m2 - b * self.m2);
        self.m2 += other.m2 + ab * n * d * d;
        self.mean += d * b;
        self.n += other.n;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The moments.
    pub(super) fn finish(&self) -> Moments {
        let Central { n, mean, m2, m3, m4, min, max } = *self;
        if n == 0 {
            let nan = f64::NAN;
            return Moments { n, mean: nan, std: nan, skewness: nan, kurtosis: nan, min: nan, max: nan };
        }
        let variance = m2 / n as f64;
        let std = variance.sqrt();
        // Powers of the variance may underflow where those of standardised deviations do not.
        let standardised = |m: f64, power: i32| if std > 0.0 { m / n as f64 / std.powi(power) } else { f64::NAN };
        Moments { n, mean, std, skewness: standardised(m3, 3), kurtosis: standardised(m4, 4), min, max }
    }
}

/// The moments of a row while its runs arrive.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// Parts with earlier pivots.
    done: Central,
    pivot: f32,
    /// One over the unit, a power of two: scaling by it does not round. 0 before the first run.
    scale: f32,
    n: u64,
    powers: [f64; 4],
    min: f32,
    max: f32,
}

impl Running {
    pub(super) const EMPTY: Running = Running {
        done: Central::EMPTY,
        pivot: 0.0,
        scale: 0.0,
        n: 0,
        powers: [0.0; 4],
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
    };

    /// Scores of a run that tell pivot and unit at first; if they mislead, the whole run tells.
    const HEAD: usize = 64;

    /// Adds a run, with `SHAPE` to the higher moments, too. Returns its extremes and the number of scores in it that are not
    /// finite, which are left out.
    #[inline(always)]
    pub(super) fn add<S: Simd, const SHAPE: bool>(&mut self, simd: S, run: &[f32]) -> (f32, f32, usize) {
        if self.scale == 0.0 {
            self.aim(&run[..run.len().min(Self::HEAD)]);
        }
        let highest = if SHAPE { 3 } else { 1 };
        let mut sums = simd::sums::<S, SHAPE>(simd, run, self.scale, self.pivot * self.scale);
        if !centred(&sums.powers, run.len()) {
            if sums.powers[highest].is_finite() || run.iter().all(|x| x.is_finite()) {
                self.aim(run);
                sums = simd::sums::<S, SHAPE>(simd, run, self.scale, self.pivot * self.scale);
            }
            if !sums.powers[highest].is_finite() {
                return self.add_finite(run);
            }
        }
        for (total, power) in self.powers.iter_mut().zip(sums.powers) {
            *total += f64::from(power);
        }
        self.n += run.len() as u64;
        self.min = self.min.min(sums.min);
        self.max = self.max.max(sums.max);
        (sums.min, sums.max, 0)
    }

    /// Adds the finite scores of a run.
    #[cold]
    #[inline(never)]
    fn add_finite(&mut self, run: &[f32]) -> (f32, f32, usize) {
        let part = Central::of(run);
        self.done.merge(&part);
        (part.min as f32, part.max as f32, run.len() - part.n as usize)
    }

    /// Sets pivot and unit to mean and standard deviation of these scores.
    #[cold]
    #[inline(never)]
    fn aim(&mut self, scores: &[f32]) {
        self.done.merge(&self.current());
        let part = Central::of(scores);
        let std = if part.n > 0 { (part.m2 / part.n as f64).sqrt() } else { 0.0 };
        // The exponent of the unit stays where the scale and pivot · scale are finite in f32.
        let exponent = if std > 0.0 { std.log2().round().clamp(-127.0, 126.0) } else { 0.0 };
        *self = Running { done: self.done, pivot: part.mean as f32, scale: (-exponent).exp2() as f32, ..Self::EMPTY };
        if !(self.pivot * self.scale).is_finite() {
            self.scale = 1.0;
        }
    }

    fn current(&self) -> Central {
        let unit = if self.scale > 0.0 { 1.0 / f64::from(self.scale) } else { 1.0 };
        Central::around(f64::from(self.pivot), unit, self.n, self.powers, f64::from(self.min), f64::from(self.max))
    }

    /// All runs together.
    pub(super) fn finish(&self) -> Central {
        let mut all = self.done;
        all.merge(&self.current());
        all
    }
}

/// Whether the pivot lies within two standard deviations of the run's mean and the unit within four orders of magnitude
/// of its standard deviation: then f32 sums of fourth powers are good to 1e-6. False where anything is not finite.
#[inline(always)]
fn centred(powers: &[f32; 4], n: usize) -> bool {
    let n = n as f32;
    let mean = powers[0] / n;
    let square = powers[1] / n;
    mean * mean < 0.8 * square && square > 1e-8 && square < 1e8 && powers[3] < f32::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};
    use rand::{RngExt, SeedableRng};

    struct Add<'a, const SHAPE: bool>(&'a mut Running, &'a [f32]);
    impl<const SHAPE: bool> WithSimd for Add<'_, SHAPE> {
        type Output = (f32, f32, usize);
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            self.0.add::<S, SHAPE>(simd, self.1)
        }
    }

    fn streamed(scores: &[f32], run: usize) -> Moments {
        let (mut running, mut plain) = (Running::EMPTY, Running::EMPTY);
        for run in scores.chunks(run) {
            let ends = Arch::new().dispatch(Add::<true>(&mut running, run));
            assert_eq!(Arch::new().dispatch(Add::<false>(&mut plain, run)), ends);
        }
        let (whole, plain) = (running.finish().finish(), plain.finish().finish());
        // Without the higher powers, the others are the same.
        let others = |m: Moments| [m.n as f64, m.mean, m.std, m.min, m.max].map(f64::to_bits);
        assert_eq!(others(whole), others(plain));
        whole
    }

    /// By their definitions, in two passes.
    fn direct(scores: &[f32]) -> Moments {
        let x: Vec<f64> = scores.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x)).collect();
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let power = |p: i32| x.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
        let std = power(2).sqrt();
        Moments {
            n: x.len() as u64,
            mean,
            std,
            skewness: power(3) / std.powi(3),
            kurtosis: power(4) / std.powi(4),
            min: x.iter().copied().fold(f64::INFINITY, f64::min),
            max: x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    fn close(ours: Moments, expected: Moments) {
        let values = |m: Moments| [m.mean / m.std, m.std / expected.std, m.skewness, m.kurtosis];
        assert_eq!((ours.n, ours.min, ours.max), (expected.n, expected.min, expected.max));
        for (x, y) in values(ours).into_iter().zip(values(expected)) {
            assert!((x - y).abs() < 3e-6 * (1.0 + y.abs()), "{ours:?} is not {expected:?}");
        }
    }

    #[test]
    fn agree_with_two_passes_in_double_precision() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let uniform: Vec<f32> = (0..5003).map(|_| rng.random_range(-1.0..1.0)).collect();
        let skewed: Vec<f32> = uniform.iter().map(|x| (3.0 * x).exp()).collect();
        for base in [uniform, skewed] {
            for (offset, unit) in [(0.0, 1.0), (1e4, 1.0), (0.0, 1e-15), (0.0, 1e25), (0.0, 1e-38), (0.0, 1e-40), (5.0, 1e-3)] {
                let scores: Vec<f32> = base.iter().map(|x| x * unit + offset).collect();
                close(streamed(&scores, 512), direct(&scores));
                close(streamed(&scores, 37), direct(&scores));
            }
        }
    }

    #[test]
    fn parts_of_very_different_place_and_size_are_merged() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let mut scores = vec![0.25f32; 700];
        scores.extend((0..900).map(|_| 1e3 + rng.random_range(-1e-2..1e-2)));
        scores.extend((0..800).map(|_| -50.0 + rng.random_range(-9.0..9.0)));
        close(streamed(&scores, 512), direct(&scores));
    }

    #[test]
    fn scores_that_are_not_finite_are_left_out() {
        let mut scores: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32).collect();
        scores[3] = f32::NAN;
        scores[600] = f32::INFINITY;
        scores[999] = f32::NEG_INFINITY;
        close(streamed(&scores, 256), direct(&scores));
    }

    #[test]
    fn without_variance_there_is_no_shape() {
        let m = streamed(&[0.1; 900], 512);
        assert_eq!((m.mean, m.std, m.min), (f64::from(0.1f32), 0.0, f64::from(0.1f32)));
        assert!(m.skewness.is_nan() && m.kurtosis.is_nan());
        assert!(streamed(&[f32::NAN; 5], 5).mean.is_nan());
    }
}
