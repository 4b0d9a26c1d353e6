//! Statistics of samples: means, quantiles, ranks, two-sample tests and intervals.
//!
//! Everything here takes plain slices of f64 and answers in f64; sums run in the order of the slice, so that an answer
//! does not depend on the number of threads. Functions that would be undefined on an empty sample say so.

mod bootstrap;
mod kolmogorov;
mod random;
mod ranks;
mod trend;
mod two_sample;

pub use bootstrap::{Groups, percentile_interval, rank_biserial_replicates};
pub use kolmogorov::kolmogorov_sf;
pub use random::Random;
pub use ranks::{pearson, ranks, spearman};
pub use trend::{Shape, Trend, trend};
pub use two_sample::{KolmogorovSmirnov, MannWhitney, Strata, kolmogorov_smirnov, mann_whitney, wasserstein};

/// Arithmetic mean; NaN for an empty sample.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation that divides by n (the moment of the whole population); NaN for an empty sample.
pub fn std(values: &[f64]) -> f64 {
    let center = mean(values);
    (values.iter().map(|v| (v - center) * (v - center)).sum::<f64>() / values.len() as f64).sqrt()
}

/// Survival function of the standard normal, P(Z > z).
pub fn normal_sf(z: f64) -> f64 {
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}

/// Wilson's score interval at 95 % for a share of `hits` among `n` (Wilson 1927); `(0, 1)` for n = 0.
pub fn wilson(hits: usize, n: usize) -> (f64, f64) {
    // The 97.5 % quantile of the standard normal.
    const Z: f64 = 1.959963984540054;
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (n as f64, hits as f64 / n as f64);
    let scale = 1.0 + Z * Z / n;
    let center = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((center - half).max(0.0), (center + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_scipy() {
        // scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
        for (hits, n, low, high) in
            [(41, 4096, 0.0073873457, 0.0135504051), (0, 10, 0.0, 0.2775327999), (10, 10, 0.7224672001, 1.0)]
        {
            let (a, b) = wilson(hits, n);
            assert!((a - low).abs() < 1e-9 && (b - high).abs() < 1e-9, "{hits}/{n}: {a} {b}");
        }
    }

    #[test]
    fn the_normal_tail_keeps_its_precision() {
        // scipy.stats.norm.sf(10.0)
        assert!((normal_sf(10.0) / 7.619853024160525e-24 - 1.0).abs() < 1e-12);
    }
}
