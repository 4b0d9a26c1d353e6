//! The softmax of a row while its runs arrive: log-sum-exp, entropy, and the mass of its largest weights.

use super::simd;
use super::top::Scored;
use pulp::Simd;
use std::ops::Range;

/// The softmax over a row's scores, masked columns left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSoftmax {
    /// Largest weight.
    pub top1: f64,
    /// Sum of the five largest weights.
    pub top5: f64,
    /// −Σ p ln p, in nats.
    pub entropy: f64,
    /// ln Σ e^score.
    pub log_sum_exp: f64,
}

#[derive(Clone)]
pub(super) struct RunningSoftmax {
    /// Largest score so far; the sums are relative to it.
    top: f32,
    /// Σ e^(x - top).
    total: f64,
    /// Σ (x - top) e^(x - top).
    weighted: f64,
    /// The five largest scores, falling, unless they stand in a longer list elsewhere.
    five: [f32; 5],
    listed: bool,
}

impl RunningSoftmax {
    /// `listed`: the row's list of highest scores has five at least, and [`Self::finish`] gets it.
    pub(super) fn new(listed: bool) -> Self {
        RunningSoftmax { top: f32::NEG_INFINITY, total: 0.0, weighted: 0.0, five: [f32::NEG_INFINITY; 5], listed }
    }

    /// Adds a run; scores that are masked or not finite are left out. `max` is its largest score where that is known and all
    /// are finite. `scratch` holds what remains of other runs.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&mut self, simd: S, run: &[f32], max: Option<f32>, mask: Option<&[bool]>, scratch: &mut Vec<f32>) {
        if mask.is_none()
            && let Some(max) = max.or_else(|| simd::finite(simd, run).then(|| simd::max(simd, run)))
        {
            return self.add_clean(simd, run, max);
        }
        scratch.clear();
        scratch.extend(run.iter().enumerate().filter(|(i, x)| x.is_finite() && !mask.is_some_and(|m| m[*i])).map(|(_, x)| *x));
        if !scratch.is_empty() {
            self.add_clean(simd, scratch, simd::max(simd, scratch));
        }
    }

    #[inline(always)]
    fn add_clean<S: Simd>(&mut self, simd: S, run: &[f32], max: f32) {
        if !self.listed && max > self.five[4] {
            self.add_largest(simd, run);
        }
        if max > self.top {
            if self.total > 0.0 {
                let step = f64::from(self.top) - f64::from(max);
                let factor = step.exp();
                self.weighted = factor * (self.weighted + step * self.total);
                self.total *= factor;
            }
            self.top = max;
        }
        let (total, weighted) = simd::exp_sums(simd, run, self.top);
        self.total += f64::from(total);
        // Scores so far apart that their distance is no f32.
        self.weighted += if weighted.is_finite() { f64::from(weighted) } else { self.weighted_apart(run) };
    }

    #[cold]
    fn weighted_apart(&self, run: &[f32]) -> f64 {
        let distances = run.iter().map(|x| f64::from(*x) - f64::from(self.top));
        distances.map(|d| if d > -700.0 { d * d.exp() } else { 0.0 }).sum()
    }

    #[inline(always)]
    fn add_largest<S: Simd>(&mut self, simd: S, run: &[f32]) {
        let five = &mut self.five;
        let mut limit = five[4];
        // Of the first run, what cannot be among them is spared its place.
        if limit == f32::NEG_INFINITY
            && let Some(score) = simd::reached::<S, false>(simd, run, five.len())
        {
            limit = score.next_down();
        }
        simd::above(simd, run, limit, |_, mut score| {
            for place in five.iter_mut() {
                (*place, score) = (place.max(score), place.min(score));
            }
            five[4].max(limit)
        });
    }

    /// NaN throughout where there was no finite score.
    pub(super) fn finish(&self, listed: &[Scored]) -> RowSoftmax {
        if self.total == 0.0 {
            return RowSoftmax { top1: f64::NAN, top5: f64::NAN, entropy: f64::NAN, log_sum_exp: f64::NAN };
        }
        let top = f64::from(self.top);
        let log_total = self.total.ln();
        let mut five = self.five;
        if self.listed {
            five.iter_mut().zip(listed).for_each(|(place, listed)| *place = listed.score);
        }
        let mass = |n: usize| -> f64 { five[..n].iter().map(|score| (f64::from(*score) - top - log_total).exp()).sum() };
        RowSoftmax {
            top1: mass(1).min(1.0),
            top5: mass(5).min(1.0),
            entropy: (log_total - self.weighted / self.total).max(0.0),
            log_sum_exp: top + log_total,
        }
    }
}

/// Log-sum-exp of rows in two parts, so that large scores keep their differences: the largest score, and what the others
/// add to it.
pub(super) struct Normalisers {
    tops: Vec<f32>,
    logs: Vec<f32>,
}

impl Normalisers {
    /// Those of some rows.
    #[inline(always)]
    pub(super) fn of(&self, rows: Range<usize>) -> (&[f32], &[f32]) {
        (&self.tops[rows.clone()], &self.logs[rows])
    }
}

/// NaN for a row without finite scores.
impl FromIterator<Option<RowSoftmax>> for Normalisers {
    fn from_iter<I: IntoIterator<Item = Option<RowSoftmax>>>(rows: I) -> Self {
        let parts =
            |row: Option<RowSoftmax>| row.map_or((f64::NAN, f64::NAN), |row| (row.log_sum_exp + row.top1.ln(), -row.top1.ln()));
        let (tops, logs) = rows.into_iter().map(parts).map(|(top, log)| (top as f32, log as f32)).unzip();
        Normalisers { tops, logs }
    }
}

/// What the row-softmax gives to a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColSoftmax {
    /// Mean over the rows.
    pub mean_weight: f64,
    /// Largest weight in any row.
    pub max_weight: f64,
}

#[derive(Clone, Copy)]
pub(super) struct RunningWeight {
    n: u64,
    total: f64,
    /// Largest score minus log-sum-exp.
    largest: f32,
}

impl RunningWeight {
    pub(super) const EMPTY: RunningWeight = RunningWeight { n: 0, total: 0.0, largest: f32::NEG_INFINITY };

    /// Adds a run of a column: its scores with some rows, and those rows' normalisers. Rows whose score (or whole row) is
    /// not finite are left out.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&mut self, simd: S, run: &[f32], (tops, logs): (&[f32], &[f32])) {
        let (total, largest) = simd::weights(simd, run, tops, logs);
        if total.is_finite() {
            self.n += run.len() as u64;
            self.total += f64::from(total);
            self.largest = self.largest.max(largest);
            return;
        }
        for ((x, top), log) in run.iter().zip(tops).zip(logs) {
            let d = f64::from(*x) - f64::from(*top) - f64::from(*log);
            if d.is_finite() {
                self.n += 1;
                self.total += d.exp();
                self.largest = self.largest.max(d as f32);
            }
        }
    }

    pub(super) fn finish(&self) -> ColSoftmax {
        if self.n == 0 {
            return ColSoftmax { mean_weight: f64::NAN, max_weight: f64::NAN };
        }
        ColSoftmax { mean_weight: self.total / self.n as f64, max_weight: f64::from(self.largest).exp().min(1.0) }
    }
}
