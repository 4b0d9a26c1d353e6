//! Quantiles with linear interpolation, as `numpy.quantile` and `torch.quantile` define them by default.

/// The values in ascending order (NaN last).
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut out = values.to_vec();
    out.sort_unstable_by(f64::total_cmp);
    out
}

/// Quantile `q` in 0..=1 of values in ascending order; NaN for an empty sample.
pub fn quantile_sorted(ascending: &[f64], q: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return f64::NAN };
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (ascending[below], ascending[(below + 1).min(last)]);
    let part = position - below as f64;
    // Where nothing is interpolated an infinite neighbour must not turn the answer into NaN.
    if part == 0.0 { low } else { low + (high - low) * part }
}

/// Quantile `q` in 0..=1 of values in any order; NaN for an empty sample.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    quantile_sorted(&sorted(values), q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_as_numpy_does() {
        // numpy.quantile([7, 1, 2, 2, 10], q)
        let values = [7.0, 1.0, 2.0, 2.0, 10.0];
        for (q, expected) in [(0.0, 1.0), (0.5, 2.0), (0.75, 7.0), (0.9, 8.8), (1.0, 10.0)] {
            assert!((quantile(&values, q) - expected).abs() < 1e-12, "{q}");
        }
        assert!(quantile(&[], 0.5).is_nan());
    }
}
