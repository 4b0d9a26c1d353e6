//! Two samples beside each other: effect and interval first, then the tests.

use crate::error::{Error, Result};
use crate::options::{Json, JsonMap, OptionValue, Value};
use crate::sample::{quantile, sorted_finite};
use crate::stats::{self, Groups, Strata};
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::json;

crate::options! {
    /// Options of [`compare`].
    pub struct CompareOptions {
        /// One stratum label a value (deciles of norm or density, say), for both samples: `[labels_a, labels_b]`, or one
        /// array with a's labels before b's. Pairs are then formed inside a stratum only. [INFER]
        strata: Option<Labels> = None,
        /// One cluster label a value (layer × head, say), given like `strata`: the bootstrap draws whole clusters. [INFER]
        clusters: Option<Labels> = None,
        /// Bootstrap replicates behind the interval; 0 for none. [INFER]
        n_boot: usize = 2000,
        /// Seed of the bootstrap; the session's when absent.
        seed: Option<u64> = None,
    }
}

/// One numeric label for each value of two samples.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Those of the first sample, those of the second.
    Each(Vec<f64>, Vec<f64>),
    /// Those of the first sample followed by those of the second.
    Joined(Vec<f64>),
}

impl Labels {
    /// The labels of both samples.
    fn split(&self, n_a: usize, n_b: usize, what: &str) -> Result<(Vec<f64>, Vec<f64>)> {
        let (a, b) = match self {
            Labels::Each(a, b) => (a.clone(), b.clone()),
            Labels::Joined(all) => {
                let (a, b) = all.split_at(n_a.min(all.len()));
                (a.to_vec(), b.to_vec())
            }
        };
        if (a.len(), b.len()) != (n_a, n_b) {
            return Err(Error::shape(format!(
                "`{what}` has {} labels for a and {} for b, but the samples have {n_a} and {n_b} values",
                a.len(),
                b.len()
            )));
        }
        match a.iter().chain(&b).any(|label| label.is_nan()) {
            true => Err(Error::input(format!("`{what}` contains NaN"))),
            false => Ok((a, b)),
        }
    }
}

impl OptionValue for Labels {
    fn kind() -> String {
        "[labels of a, labels of b], or the labels of a followed by those of b (numbers)".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) if items.len() == 2 && items.iter().all(|v| matches!(v, Value::List(_) | Value::Tensor(_))) => {
                Some(Labels::Each(Vec::read(&items[0])?, Vec::read(&items[1])?))
            }
            Value::List(_) | Value::Tensor(_) => Vec::read(value).map(Labels::Joined),
            _ => None,
        }
    }
    fn canonical(&self) -> Json {
        let all: Vec<f64> = match self {
            Labels::Each(a, b) => a.iter().chain(b).copied().collect(),
            Labels::Joined(all) => all.clone(),
        };
        json!(all)
    }
}

/// What [`compare`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Sizes of the samples.
    pub n: (usize, usize),
    /// Means.
    pub mean: (f64, f64),
    /// Medians.
    pub median: (f64, f64),
    /// Third quartiles.
    pub p75: (f64, f64),
    /// The Kolmogorov–Smirnov test, asymptotic.
    pub ks: stats::KolmogorovSmirnov,
    /// The Mann–Whitney test, stratified where strata were given.
    pub mann_whitney: stats::MannWhitney,
    /// 95 % bootstrap interval of the rank-biserial effect; NaN without replicates.
    pub interval: (f64, f64),
    /// Wasserstein-1 distance, in the unit of the samples.
    pub wasserstein: f64,
}

impl Comparison {
    /// The map that scripts see; what is undefined is null.
    pub fn to_map(&self) -> JsonMap<String, Json> {
        let entries = [
            ("n_a", json!(self.n.0)),
            ("n_b", json!(self.n.1)),
            ("mean_a", json!(self.mean.0)),
            ("mean_b", json!(self.mean.1)),
            ("median_a", json!(self.median.0)),
            ("median_b", json!(self.median.1)),
            ("p75_a", json!(self.p75.0)),
            ("p75_b", json!(self.p75.1)),
            ("rank_biserial", json!(self.mann_whitney.rank_biserial)),
            ("rank_biserial_lo", json!(self.interval.0)),
            ("rank_biserial_hi", json!(self.interval.1)),
            ("wasserstein", json!(self.wasserstein)),
            ("ks", json!(self.ks.statistic)),
            ("ks_p", json!(self.ks.p)),
            ("mann_whitney_u", json!(self.mann_whitney.u)),
            ("mann_whitney_p", json!(self.mann_whitney.p)),
        ];
        entries.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }
}

/// Compares two samples, 1-D tensors of any unit.
///
/// The effect is the rank-biserial correlation 2U/(n_a·n_b) − 1 (1 when every a lies above every b) with its bootstrap
/// interval. U is that of `a`, its p-value two-sided with tie and continuity correction; with `strata` U, pairs and
/// variance are summed over strata (METHODS.md 1.3, experiment 3). The Kolmogorov–Smirnov p-value is asymptotic.
///
/// # Errors
/// A sample that is empty, not 1-D or not finite; labels of another number than the values; no stratum with both sides.
pub fn compare(a: &Tensor, b: &Tensor, options: &CompareOptions, work: &Work) -> Result<Comparison> {
    let (a, b) = (sample(a, "a")?, sample(b, "b")?);
    let labels = |labels: &Option<Labels>, what| labels.as_ref().map(|l| l.split(a.len(), b.len(), what)).transpose();
    let (strata, clusters) = (labels(&options.strata, "strata")?, labels(&options.clusters, "clusters")?);
    let strata = strata.as_ref().map(|(a, b)| (a.as_slice(), b.as_slice()));
    let mann_whitney = stats::mann_whitney(&a, &b, strata);
    if mann_whitney.rank_biserial.is_nan() {
        return Err(
            Error::input("no stratum has values of both samples, so there is nothing to compare").help("use fewer, wider strata")
        );
    }
    let groups = clusters.as_ref().map(|(a, b)| Groups::new(a, b));
    let seed = options.seed.unwrap_or(work.seed());
    let replicates = stats::rank_biserial_replicates(&Strata::new(&a, &b, strata), groups.as_ref(), options.n_boot, seed, work)?;
    let (ascending_a, ascending_b) = (sorted_finite(&a), sorted_finite(&b));
    let at = |q: f64| (quantile(&ascending_a, q), quantile(&ascending_b, q));
    Ok(Comparison {
        n: (a.len(), b.len()),
        mean: (stats::mean(&a), stats::mean(&b)),
        median: at(0.5),
        p75: at(0.75),
        ks: stats::kolmogorov_smirnov(&a, &b),
        mann_whitney,
        interval: stats::percentile_interval(&replicates, 0.95),
        wasserstein: stats::wasserstein(&a, &b),
    })
}

fn sample(t: &Tensor, name: &str) -> Result<Vec<f64>> {
    if t.ndim() != 1 {
        return Err(Error::shape(format!("compare: `{name}` must be a 1-D tensor, but its shape is {:?}", t.shape())));
    }
    let values = t.to_f64();
    let bad = values.iter().filter(|v| !v.is_finite()).count();
    match (values.len(), bad) {
        (0, _) => Err(Error::input(format!("compare: `{name}` is empty"))),
        (_, 0) => Ok(values),
        (n, bad) => Err(Error::input(format!("compare: {bad} of the {n} values of `{name}` are NaN or infinite"))
            .help("leave them out first: t.mask_select(t.isfinite())")),
    }
}
