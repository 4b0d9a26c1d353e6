//! What a figure shows of its numbers: bins, densities, quartiles, quantile fans, steps.
//!
//! On a logarithmic axis all of this happens in decades (log10), so that a density is one of log10 x.

use super::{Look, Samples, Series};
use crate::sample;

/// How many numbers a figure cannot show, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// NaN and infinities.
    pub not_finite: usize,
    /// Zero and below, on a logarithmic axis.
    pub not_positive: usize,
    /// Beyond the limits that the options set.
    pub outside: usize,
}

impl LeftOut {
    /// Counts of both.
    pub fn plus(self, other: LeftOut) -> LeftOut {
        LeftOut {
            not_finite: self.not_finite + other.not_finite,
            not_positive: self.not_positive + other.not_positive,
            outside: self.outside + other.outside,
        }
    }
}

/// One axis, as far as statistics need it: logarithmic or not, and its ends where they are set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Axis {
    /// Logarithmic.
    pub log: bool,
    /// The ends, where the options set them.
    pub limits: Option<(f64, f64)>,
}

impl Look {
    /// The horizontal axis.
    pub fn x(&self) -> Axis {
        Axis { log: self.log_x, limits: pair(&self.xlim) }
    }
    /// The vertical axis.
    pub fn y(&self) -> Axis {
        Axis { log: self.log_y, limits: pair(&self.ylim) }
    }
}

fn pair(limits: &Option<Vec<f64>>) -> Option<(f64, f64)> {
    match limits.as_deref() {
        Some([from, to]) => Some((*from, *to)),
        _ => None,
    }
}

impl Axis {
    /// A number's position along the axis: itself, or its log10.
    pub fn place(self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    /// The number at a position.
    pub fn value(self, place: f64) -> f64 {
        if self.log { 10f64.powf(place) } else { place }
    }

    /// Whether the axis can show a number; if not, it is counted. Beyond ±1e300 (on a logarithmic axis also below 1e-300)
    /// the arithmetic of axes overflows, and such numbers count as infinite and as zero.
    pub fn shows(self, value: f64, left_out: &mut LeftOut) -> bool {
        let reason = if value.is_nan() || value.abs() > 1e300 {
            &mut left_out.not_finite
        } else if self.log && value < 1e-300 {
            &mut left_out.not_positive
        } else if self.limits.is_some_and(|(from, to)| value < from || value > to) {
            &mut left_out.outside
        } else {
            return true;
        };
        *reason += 1;
        false
    }

    /// The numbers that the axis can show, ascending, and how many it cannot.
    pub fn shown(self, values: &[f64]) -> (Vec<f64>, LeftOut) {
        let mut left_out = LeftOut::default();
        let mut shown: Vec<f64> = values.iter().copied().filter(|v| self.shows(*v, &mut left_out)).collect();
        shown.sort_unstable_by(f64::total_cmp);
        (shown, left_out)
    }

    /// All numbers that the axis could show without its limits, ascending; the part of them within the limits; and how many
    /// are not in that part. What is computed of all numbers (quartiles, densities) does not change with the limits.
    fn sorted(self, values: &[f64]) -> (Vec<f64>, std::ops::Range<usize>, LeftOut) {
        let (all, mut left_out) = self.unlimited().shown(values);
        let within = self.limits.map_or(0..all.len(), |(from, to)| {
            let start = all.partition_point(|v| *v < from);
            start..all.partition_point(|v| *v <= to).max(start)
        });
        left_out.outside = all.len() - within.len();
        (all, within, left_out)
    }

    /// The same axis without set ends.
    pub fn unlimited(self) -> Axis {
        Axis { limits: None, ..self }
    }
}

/// Counts in bins that all series share.
#[derive(Clone, Debug)]
pub struct Bins {
    /// The bins' edges, ascending, one more than bins; empty without data.
    pub edges: Vec<f64>,
    /// For each series, for each bin: a count, or a density.
    pub heights: Vec<Vec<f64>>,
    /// What is not in a bin.
    pub left_out: LeftOut,
}

impl Bins {
    /// Sorts the numbers of all series into at most `bins` bins from the least to the greatest (or between the axis'
    /// limits). Every bin includes its lower edge, the last its upper one too. Whole numbers of a small range get bins of
    /// whole width, so that no bin holds more of them than another by the accident of its edges. A `density` is the share of
    /// all the series' numbers per unit (per decade on a logarithmic axis).
    pub fn new(series: &[Series], bins: usize, density: bool, axis: Axis) -> Self {
        let mut left_out = LeftOut::default();
        let mut totals = Vec::new();
        let shown: Vec<Vec<f64>> = series
            .iter()
            .map(|s| {
                let (all, within, out) = axis.sorted(&s.values);
                left_out = left_out.plus(out);
                totals.push(all.len());
                all[within].to_vec()
            })
            .collect();
        let least = shown.iter().filter_map(|s| s.first()).copied().reduce(f64::min);
        let most = shown.iter().filter_map(|s| s.last()).copied().reduce(f64::max);
        let (Some(least), Some(most)) = (least, most) else {
            return Bins { edges: Vec::new(), heights: vec![Vec::new(); series.len()], left_out };
        };
        let places = places(&shown, bins, axis, least, most);
        let heights = shown
            .iter()
            .zip(totals)
            .map(|(sample, total)| {
                let mut heights = vec![0f64; places.len() - 1];
                for value in sample {
                    let at = places.partition_point(|edge| *edge <= axis.place(*value));
                    heights[at.saturating_sub(1).min(places.len() - 2)] += 1.0;
                }
                if density {
                    for (height, edge) in heights.iter_mut().zip(places.windows(2)) {
                        *height /= total.max(1) as f64 * (edge[1] - edge[0]);
                    }
                }
                heights
            })
            .collect();
        Bins { edges: places.into_iter().map(|place| axis.value(place)).collect(), heights, left_out }
    }
}

/// The edges of the bins, as positions along the axis.
fn places(shown: &[Vec<f64>], bins: usize, axis: Axis, least: f64, most: f64) -> Vec<f64> {
    let whole = !axis.log && most - least < 1e6 && shown.iter().flatten().all(|v| v.fract() == 0.0);
    if whole && axis.limits.is_none() {
        let width = ((most - least + 1.0) / bins as f64).ceil().max(1.0);
        let count = ((most - least + 1.0) / width).ceil() as usize;
        return (0..=count).map(|i| least - 0.5 + i as f64 * width).collect();
    }
    let (from, to) = axis.limits.unwrap_or((least, most));
    let (mut from, mut to) = (axis.place(from), axis.place(to));
    let mut bins = bins;
    if to - from <= from.abs().max(to.abs()) * 1e-12 {
        // All numbers are the same: an odd number of bins, so that they fill the middle one.
        bins |= 1;
        let half = if axis.log { 0.5 } else { (from.abs() * 0.05).max(0.5) };
        (from, to) = (from - half, to + half);
    }
    (0..=bins).map(|i| from + (to - from) * (i as f64 / bins as f64)).collect()
}

/// A kernel density estimate over the range of its sample.
#[derive(Clone, Debug)]
pub struct Density {
    /// Where it is computed, ascending; empty without data. One point when all numbers are the same.
    pub at: Vec<f64>,
    /// The density there, per unit of the axis.
    pub height: Vec<f64>,
    /// The quartiles of the sample: 25 %, 50 %, 75 %.
    pub quartiles: [f64; 3],
    /// What is not shown.
    pub left_out: LeftOut,
}

/// Points at which densities are computed: about one for each pixel of a figure.
const GRID: usize = 512;

impl Density {
    /// The density of a sample, by a Gaussian kernel. Bandwidth: Silverman's rule 0.9 · min(σ, IQR / 1.34) · n^(−1/5), at
    /// least 1/400 of the range (less cannot be seen). The sample is first spread linearly over 512 points.
    pub fn new(values: &[f64], bandwidth: Option<f64>, axis: Axis) -> Self {
        let (all, within, left_out) = axis.sorted(values);
        let quartiles = [0.25, 0.5, 0.75].map(|q| sample::quantile(&all, q));
        let all_places: Vec<f64> = all.iter().map(|v| axis.place(*v)).collect();
        let (shown, places, n) = (&all[within.clone()], &all_places[within], all.len());
        let mut density = Density { at: Vec::new(), height: Vec::new(), quartiles, left_out };
        let (Some(from), Some(to)) = (places.first().copied(), places.last().copied()) else { return density };
        if to - from <= from.abs().max(to.abs()) * 1e-12 {
            density.at = vec![shown[0]];
            density.height = vec![1.0];
            return density;
        }
        let step = (to - from) / (GRID - 1) as f64;
        let mut weights = vec![0f64; GRID];
        for place in places {
            let at = (place - from) / step;
            let below = (at.floor() as usize).min(GRID - 2);
            let share = at - below as f64;
            weights[below] += 1.0 - share;
            weights[below + 1] += share;
        }
        let bandwidth = bandwidth.unwrap_or_else(|| silverman(&all_places)).max((to - from) / 400.0);
        let reach = ((4.0 * bandwidth / step).ceil() as usize).min(GRID);
        let kernel: Vec<f64> = (0..=reach)
            .map(|i| (-0.5 * (i as f64 * step / bandwidth).powi(2)).exp() / (bandwidth * std::f64::consts::TAU.sqrt() * n as f64))
            .collect();
        density.height = (0..GRID)
            .map(|i| {
                let window = i.saturating_sub(reach)..(i + reach + 1).min(GRID);
                window.map(|j| weights[j] * kernel[i.abs_diff(j)]).sum()
            })
            .collect();
        density.at = (0..GRID).map(|i| axis.value(from + step * i as f64)).collect();
        density
    }
}

fn silverman(sorted: &[f64]) -> f64 {
    let n = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / n;
    let std = (sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
    let iqr = sample::quantile(sorted, 0.75) - sample::quantile(sorted, 0.25);
    let spread = if iqr > 0.0 { std.min(iqr / 1.34) } else { std };
    0.9 * spread * n.powf(-0.2)
}

/// Quartiles, whiskers and outliers of a box plot.
#[derive(Clone, Debug)]
pub struct BoxStats {
    /// 25 %, 50 %, 75 %; NaN without data.
    pub quartiles: [f64; 3],
    /// The outermost numbers within 1.5 interquartile ranges of the box (Tukey).
    pub whiskers: [f64; 2],
    /// The numbers beyond, ascending.
    pub outliers: Vec<f64>,
    /// What is not shown.
    pub left_out: LeftOut,
}

impl BoxStats {
    /// The box of a sample. Quartiles interpolate linearly; on a logarithmic axis the whiskers are measured in decades.
    pub fn new(values: &[f64], axis: Axis) -> Self {
        let (shown, _, left_out) = axis.sorted(values);
        let quartiles = [0.25, 0.5, 0.75].map(|q| sample::quantile(&shown, q));
        let (low, high) = (axis.place(quartiles[0]), axis.place(quartiles[2]));
        let reach = 1.5 * (high - low);
        let inside = |v: &f64| (low - reach..=high + reach).contains(&axis.place(*v));
        let whiskers = [
            shown.iter().copied().find(|v| inside(v)).unwrap_or(f64::NAN),
            shown.iter().rev().copied().find(|v| inside(v)).unwrap_or(f64::NAN),
        ];
        let outliers = shown.into_iter().filter(|v| !inside(v)).collect();
        BoxStats { quartiles, whiskers, outliers, left_out }
    }
}

/// An empirical distribution function.
#[derive(Clone, Debug)]
pub struct Ecdf {
    /// Where it steps up, ascending.
    pub at: Vec<f64>,
    /// The share of numbers that are at most that.
    pub share: Vec<f64>,
    /// What is not shown.
    pub left_out: LeftOut,
}

impl Ecdf {
    /// The distribution function of a sample, in at most `points` steps (evenly spaced in the share where there are more
    /// different numbers).
    pub fn new(values: &[f64], points: usize, axis: Axis) -> Self {
        let (shown, left_out) = axis.unlimited().shown(values);
        let n = shown.len();
        let (mut at, mut share) = (Vec::new(), Vec::new());
        let least_step = 1.0 / points.max(1) as f64;
        for (i, value) in shown.iter().enumerate() {
            if shown.get(i + 1).is_some_and(|next| next == value) {
                continue;
            }
            let here = (i + 1) as f64 / n as f64;
            if share.last().is_none_or(|last| here - last >= least_step) || i + 1 == n {
                at.push(*value);
                share.push(here);
            }
        }
        Ecdf { at, share, left_out }
    }
}

/// Quantiles at each position of x.
#[derive(Clone, Debug)]
pub struct Fan {
    /// The positions that have data, ascending.
    pub x: Vec<f64>,
    /// For each quantile (ascending), its number at each position.
    pub quantiles: Vec<Vec<f64>>,
    /// What is not shown.
    pub left_out: LeftOut,
}

impl Fan {
    /// The quantiles (ascending) of each of the samples. On a logarithmic axis only positive numbers and positions count.
    pub fn new(samples: &Samples, x: Option<&[f64]>, quantiles: &[f64], (x_axis, y_axis): (Axis, Axis)) -> Self {
        let mut fan = Fan { x: Vec::new(), quantiles: vec![Vec::new(); quantiles.len()], left_out: LeftOut::default() };
        let mut rows: Vec<(f64, &[f64])> =
            samples.rows.iter().enumerate().map(|(i, row)| (x.map_or(i as f64, |x| x[i]), row.as_slice())).collect();
        rows.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        for (x, row) in rows {
            let (shown, left_out) = y_axis.unlimited().shown(row);
            fan.left_out = fan.left_out.plus(left_out);
            if shown.is_empty() || !x_axis.unlimited().shows(x, &mut fan.left_out) {
                continue;
            }
            fan.x.push(x);
            for (out, q) in fan.quantiles.iter_mut().zip(quantiles) {
                out.push(sample::quantile(&shown, *q));
            }
        }
        fan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: Axis = Axis { log: false, limits: None };
    const LOG: Axis = Axis { log: true, limits: None };

    #[test]
    fn bins_hold_every_number_once() {
        // numpy.histogram([0, .1, .25, .5, 1], bins=4) = [2, 1, 1, 1]
        let bins = Bins::new(&[Series::new("a", vec![0.5, 0.0, 1.0, 0.1, 0.25, f64::NAN])], 4, false, LINEAR);
        assert_eq!(bins.edges, [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(bins.heights, [[2.0, 1.0, 1.0, 1.0]]);
        assert_eq!(bins.left_out, LeftOut { not_finite: 1, ..LeftOut::default() });
    }

    #[test]
    fn whole_numbers_get_whole_bins_and_densities_have_area_one() {
        let series = [Series::new("a", vec![3.0, 4.0, 4.0, 7.0]), Series::new("b", vec![5.0])];
        let bins = Bins::new(&series, 50, true, LINEAR);
        assert_eq!(bins.edges, [2.5, 3.5, 4.5, 5.5, 6.5, 7.5]);
        assert_eq!(bins.heights, [[0.25, 0.5, 0.0, 0.0, 0.25], [0.0, 0.0, 1.0, 0.0, 0.0]]);
    }

    #[test]
    fn logarithmic_bins_are_even_in_decades() {
        let bins = Bins::new(&[Series::new("", vec![0.01, 0.5, 100.0, 0.0, -1.0])], 2, false, LOG);
        for (found, expected) in bins.edges.iter().zip([0.01, 1.0, 100.0]) {
            assert!((found - expected).abs() < 1e-9);
        }
        assert_eq!((bins.heights, bins.left_out.not_positive), (vec![vec![2.0, 1.0]], 2));
    }

    #[test]
    fn nothing_and_constants_do_not_fail() {
        assert!(Bins::new(&[Series::new("", vec![f64::NAN])], 5, false, LINEAR).edges.is_empty());
        assert_eq!(Bins::new(&[Series::new("", vec![0.25; 9])], 3, false, LINEAR).heights, [[0.0, 9.0, 0.0]]);
        assert!(Density::new(&[], None, LINEAR).at.is_empty());
        assert_eq!(Density::new(&[2.5; 4], None, LOG).at, [2.5]);
        assert!(BoxStats::new(&[], LINEAR).quartiles[1].is_nan());
        assert!(Ecdf::new(&[], 10, LINEAR).at.is_empty());
    }

    #[test]
    fn densities_agree_with_scipy() {
        // scipy.stats.gaussian_kde([0, .1, .5, .9, 2], bw_method=h / std(ddof=1))([0, .5, 1]),
        // h = 0.9 * min(std, iqr / 1.34) * 5 ** -0.2
        let density = Density::new(&[0.1, 0.0, 2.0, 0.5, 0.9], None, LINEAR);
        for (x, expected) in [(0.0, 0.507161), (0.5, 0.536658), (1.0, 0.317438)] {
            let i = density.at.partition_point(|at| *at < x);
            let share = if i == 0 { 0.0 } else { (x - density.at[i - 1]) / (density.at[i] - density.at[i - 1]) };
            let found = density.height[i.saturating_sub(1)] * (1.0 - share) + density.height[i] * share;
            assert!((found - expected).abs() < 1e-3 * expected, "{x}: {found} {expected}");
        }
        assert_eq!(density.quartiles, [0.1, 0.5, 0.9]);
    }

    #[test]
    fn limits_cut_the_picture_but_not_the_statistics() {
        let values = [0.0, 1.0, 2.0, 3.0, 50.0];
        let cut = Axis { log: false, limits: Some((0.0, 10.0)) };
        let (whole, part) = (Density::new(&values, Some(1.0), LINEAR), Density::new(&values, Some(1.0), cut));
        assert_eq!((part.quartiles, part.left_out.outside), (whole.quartiles, 1));
        assert_eq!(part.at.last(), Some(&3.0));
        let bins = Bins::new(&[Series::new("", values.to_vec())], 10, true, cut);
        assert!((bins.heights[0].iter().sum::<f64>() - 0.8).abs() < 1e-12);
        assert_eq!(BoxStats::new(&values, cut).quartiles, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn whiskers_end_at_numbers_within_reach() {
        // matplotlib.cbook.boxplot_stats([1, 2, 3, 4, 5, 20])
        let fences = BoxStats::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 20.0], LINEAR);
        assert_eq!((fences.quartiles, fences.whiskers, fences.outliers), ([2.25, 3.5, 4.75], [1.0, 5.0], vec![20.0]));
    }

    #[test]
    fn the_distribution_function_ends_at_one() {
        let curve = Ecdf::new(&[3.0, 1.0, 1.0, 2.0], 100, LINEAR);
        assert_eq!((curve.at, curve.share), (vec![1.0, 2.0, 3.0], vec![0.5, 0.75, 1.0]));
        let many: Vec<f64> = (0..10_000).map(f64::from).collect();
        let curve = Ecdf::new(&many, 100, LINEAR);
        assert!(curve.at.len() <= 102 && curve.share.last() == Some(&1.0));
    }

    #[test]
    fn fans_skip_positions_without_numbers() {
        let samples = Samples { name: String::new(), rows: vec![vec![1.0, 3.0], vec![f64::NAN], vec![5.0]].into() };
        let fan = Fan::new(&samples, None, &[0.0, 0.5], (LINEAR, LINEAR));
        assert_eq!((fan.x, fan.quantiles), (vec![0.0, 2.0], vec![vec![1.0, 5.0], vec![2.0, 5.0]]));
    }
}
