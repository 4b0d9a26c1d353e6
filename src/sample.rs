//! A sample of numbers, sorted once: what tables, figures and statistics share.

/// The numbers without NaN and infinities, ascending.
pub fn sorted_finite(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The quantile `q` (0–1) of ascending numbers, interpolated linearly between neighbours (NumPy's default, type 7 of
/// Hyndman and Fan); NaN when there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    // Equal neighbours first: two infinities have no difference.
    if low == high { low } else { low + (high - low) * (at - below as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_linearly() {
        // numpy.quantile([1, 2, 4, 8, 16], [0, .3, .5, .9, 1])
        let sorted = sorted_finite(&[8.0, f64::NAN, 1.0, 16.0, 2.0, 4.0, f64::INFINITY]);
        let found: Vec<f64> = [0.0, 0.3, 0.5, 0.9, 1.0].iter().map(|q| quantile(&sorted, *q)).collect();
        for (found, expected) in found.iter().zip([1.0, 2.4, 4.0, 12.8, 16.0]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert!(quantile(&[], 0.5).is_nan());
    }
}
