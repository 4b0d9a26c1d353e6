//! Tests and distances between two samples: Kolmogorov–Smirnov, Mann–Whitney (plain and stratified), Wasserstein.

use super::{kolmogorov_sf, normal_sf};
use crate::sample::sorted_finite;

/// The two-sample Kolmogorov–Smirnov test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KolmogorovSmirnov {
    /// Largest distance between the two empirical distribution functions.
    pub statistic: f64,
    /// Two-sided p-value, asymptotic.
    pub p: f64,
}

/// The two-sample Kolmogorov–Smirnov test with its asymptotic p-value, as `scipy.stats.ks_2samp(method="asymp")`:
/// the one-sample distribution at n = round(n_a·n_b / (n_a + n_b)). NaN where a sample is empty.
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> KolmogorovSmirnov {
    if a.is_empty() || b.is_empty() {
        return KolmogorovSmirnov { statistic: f64::NAN, p: f64::NAN };
    }
    let mut statistic = 0f64;
    steps(a, b, |_, share_a, share_b| statistic = statistic.max((share_a - share_b).abs()));
    let effective = a.len() as f64 * b.len() as f64 / (a.len() + b.len()) as f64;
    KolmogorovSmirnov { statistic, p: kolmogorov_sf(statistic, effective.round_ties_even().max(1.0) as u64) }
}

/// Wasserstein-1 distance: the area between the two empirical distribution functions. NaN where a sample is empty.
pub fn wasserstein(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return f64::NAN;
    }
    let mut area = 0.0;
    steps(a, b, |width, share_a, share_b| {
        if share_a != share_b {
            area += width * (share_a - share_b).abs();
        }
    });
    area
}

/// Walks both empirical distribution functions together: `visit(width, F_a, F_b)` for each step between two neighbouring
/// distinct values; the width behind the last value is 0.
fn steps(a: &[f64], b: &[f64], mut visit: impl FnMut(f64, f64, f64)) {
    let (a, b) = (sorted_finite(a), sorted_finite(b));
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let here = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.min(*y),
            (Some(x), None) | (None, Some(x)) => *x,
            (None, None) => return,
        };
        i += a[i..].iter().take_while(|v| **v <= here).count();
        j += b[j..].iter().take_while(|v| **v <= here).count();
        let next = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.min(*y),
            (Some(x), None) | (None, Some(x)) => *x,
            (None, None) => here,
        };
        visit(next - here, i as f64 / a.len() as f64, j as f64 / b.len() as f64);
    }
}

/// The Mann–Whitney test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// U of the first sample: pairs in which its value is the larger, ties counted half; summed over strata.
    pub u: f64,
    /// Two-sided p-value by the normal approximation with tie and continuity correction.
    pub p: f64,
    /// 2U / pairs − 1: from −1 (every a below every b) to 1. NaN without pairs.
    pub rank_biserial: f64,
}

/// The Mann–Whitney test of `a` against `b`, as `scipy.stats.mannwhitneyu(method="asymptotic")`; with `strata` (one label
/// a value, for each side) pairs are formed inside a stratum only.
///
/// Stratified, U, its mean and its variance are sums over the strata that have both sides (van Elteren's test with equal
/// weights a pair), with one continuity correction.
pub fn mann_whitney(a: &[f64], b: &[f64], strata: Option<(&[f64], &[f64])>) -> MannWhitney {
    let strata = Strata::new(a, b, strata);
    let (mut count_a, mut count_b) = (vec![0; strata.cells()], vec![0; strata.cells()]);
    strata.a.iter().for_each(|cell| count_a[*cell as usize] += 1);
    strata.b.iter().for_each(|cell| count_b[*cell as usize] += 1);
    let sums = strata.sums(&count_a, &count_b);
    let z = ((sums.u - sums.pairs / 2.0).abs() - 0.5) / sums.variance.sqrt();
    // Without any variance (all values equal) nothing speaks against the null.
    let p = if sums.variance > 0.0 { (2.0 * normal_sf(z)).min(1.0) } else { 1.0 };
    MannWhitney { u: sums.u, p, rank_biserial: sums.rank_biserial() }
}

/// Two samples as cells: a cell is one distinct value inside one stratum; cells are numbered by stratum, then by value.
/// U of any resample is then one sweep over the cells' counts.
#[derive(Clone, Debug)]
pub struct Strata {
    /// The cell of each value of the first sample.
    pub(super) a: Vec<u32>,
    /// The cell of each value of the second sample.
    pub(super) b: Vec<u32>,
    /// One past the last cell of each stratum.
    ends: Vec<usize>,
}

/// What a sweep over the cells gives, summed over the strata that have both sides.
pub(super) struct Sums {
    u: f64,
    pairs: f64,
    variance: f64,
}

impl Sums {
    pub(super) fn rank_biserial(&self) -> f64 {
        2.0 * self.u / self.pairs - 1.0
    }
}

impl Strata {
    /// Cells of two samples; labels, where given, are as many as the values of their side.
    pub fn new(a: &[f64], b: &[f64], labels: Option<(&[f64], &[f64])>) -> Self {
        let label = |i: usize| match labels {
            None => 0.0,
            Some((la, lb)) => {
                if i < a.len() {
                    la[i]
                } else {
                    lb[i - a.len()]
                }
            }
        };
        let value = |i: usize| if i < a.len() { a[i] } else { b[i - a.len()] };
        let mut order: Vec<usize> = (0..a.len() + b.len()).collect();
        order.sort_by(|i, j| label(*i).total_cmp(&label(*j)).then(value(*i).total_cmp(&value(*j))));
        let mut cells = vec![0u32; order.len()];
        let (mut ends, mut cell) = (Vec::new(), 0u32);
        for (at, i) in order.iter().enumerate() {
            if let Some(before) = at.checked_sub(1).map(|before| order[before]) {
                let new_stratum = label(before) != label(*i);
                if new_stratum || value(before) != value(*i) {
                    cell += 1;
                }
                if new_stratum {
                    ends.push(cell as usize);
                }
            }
            cells[*i] = cell;
        }
        if !order.is_empty() {
            ends.push(cell as usize + 1);
        }
        let b = cells.split_off(a.len());
        Strata { a: cells, b, ends }
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// U, pairs and variance for the given counts by cell.
    pub(super) fn sums(&self, count_a: &[u32], count_b: &[u32]) -> Sums {
        let mut out = Sums { u: 0.0, pairs: 0.0, variance: 0.0 };
        let mut start = 0;
        for end in &self.ends {
            let (mut n_a, mut n_b, mut u, mut ties) = (0.0, 0.0, 0.0, 0.0);
            for (a, b) in count_a[start..*end].iter().zip(&count_b[start..*end]) {
                let (a, b) = (f64::from(*a), f64::from(*b));
                u += a * (n_b + b / 2.0);
                n_a += a;
                n_b += b;
                ties += (a + b).powi(3) - (a + b);
            }
            start = *end;
            if n_a > 0.0 && n_b > 0.0 {
                let n = n_a + n_b;
                out.u += u;
                out.pairs += n_a * n_b;
                out.variance += n_a * n_b / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
            }
        }
        out
    }

    /// For each stratum the positions in the first and in the second sample.
    pub(super) fn members(&self) -> Vec<(Vec<u32>, Vec<u32>)> {
        let mut out = vec![(Vec::new(), Vec::new()); self.ends.len()];
        let stratum = |cell: u32| self.ends.partition_point(|end| *end <= cell as usize);
        self.a.iter().enumerate().for_each(|(i, cell)| out[stratum(*cell)].0.push(i as u32));
        self.b.iter().enumerate().for_each(|(i, cell)| out[stratum(*cell)].1.push(i as u32));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // scipy.stats.ks_2samp(method="asymp"), mannwhitneyu(method="asymptotic"), wasserstein_distance.
    const A: [f64; 5] = [1.0, 2.0, 2.0, 5.0, 9.0];
    const B: [f64; 3] = [2.0, 3.0, 4.0];

    #[test]
    fn tests_agree_with_scipy() {
        let ks = kolmogorov_smirnov(&A, &B);
        assert!((ks.statistic - 0.4).abs() < 1e-12 && (ks.p - 0.82).abs() < 1e-9, "{ks:?}");
        assert!((wasserstein(&A, &B) - 1.7333333333333334).abs() < 1e-12);
        let far: Vec<f64> = B.iter().map(|v| v + 20.0).collect();
        let test = mann_whitney(&A, &far, None);
        assert_eq!((test.u, test.rank_biserial), (0.0, -1.0));
        assert!((test.p - 0.0357700822).abs() < 1e-9, "{test:?}");
    }

    #[test]
    fn equal_values_everywhere_give_no_evidence() {
        let test = mann_whitney(&[1.0; 4], &[1.0; 3], None);
        assert_eq!((test.u, test.p, test.rank_biserial), (6.0, 1.0, 0.0));
        assert_eq!(kolmogorov_smirnov(&[1.0; 4], &[1.0; 3]).statistic, 0.0);
    }

    #[test]
    fn strata_compare_like_with_like() {
        // Inside each stratum b is above a; between the strata a's second half is far above.
        let (a, b) = ([1.0, 2.0, 11.0, 12.0], [3.0, 13.0]);
        let test = mann_whitney(&a, &b, Some((&[0.0, 0.0, 1.0, 1.0], &[0.0, 1.0])));
        assert_eq!((test.u, test.rank_biserial), (0.0, -1.0));
        assert_eq!(mann_whitney(&a, &b, None).u, 2.0);
        // A stratum with one side only takes no part.
        let test = mann_whitney(&a, &b, Some((&[0.0, 0.0, 1.0, 2.0], &[0.0, 1.0])));
        assert_eq!((test.u, test.rank_biserial), (0.0, -1.0));
    }
}
