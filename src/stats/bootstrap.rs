//! Bootstrap of the rank-biserial effect size.

use super::Random;
use super::two_sample::Strata;
use crate::error::Result;
use crate::sample::{quantile, sorted_finite};
use crate::work::Work;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Draws between two polls.
const POLL: usize = 1 << 16;

/// What is drawn with replacement: clusters, each with its members on both sides.
#[derive(Clone, Debug)]
pub struct Groups(Vec<(Vec<u32>, Vec<u32>)>);

impl Groups {
    /// Clusters from one label a value, for each side (layer × head, for example).
    pub fn new(labels_a: &[f64], labels_b: &[f64]) -> Self {
        let mut groups: BTreeMap<u64, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        // + 0.0 makes −0 and 0 one label.
        let key = |label: f64| (label + 0.0).to_bits();
        labels_a.iter().enumerate().for_each(|(i, l)| groups.entry(key(*l)).or_default().0.push(i as u32));
        labels_b.iter().enumerate().for_each(|(i, l)| groups.entry(key(*l)).or_default().1.push(i as u32));
        Groups(groups.into_values().collect())
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without clusters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `n` bootstrap replicates of the (stratified) rank-biserial effect, in a fixed order for a seed.
///
/// Without `clusters` the values of each stratum and side are drawn on their own; with them whole clusters are, both
/// sides together. A replicate without any pair is NaN.
///
/// # Errors
/// The user interrupted.
pub fn rank_biserial_replicates(
    strata: &Strata,
    clusters: Option<&Groups>,
    n: usize,
    seed: u64,
    work: &Work,
) -> Result<Vec<f64>> {
    let members = strata.members();
    let poll = |i: usize| if i.is_multiple_of(POLL) { work.check() } else { Ok(()) };
    let draw = |index: usize, scratch: &mut (Vec<u32>, Vec<u32>)| -> Result<f64> {
        let mut random = Random::new(seed, index as u64);
        let (count_a, count_b) = scratch;
        count_a.fill(0);
        count_b.fill(0);
        match clusters {
            Some(Groups(groups)) => {
                for i in 0..groups.len() {
                    poll(i)?;
                    let (a, b) = &groups[random.below(groups.len())];
                    a.iter().for_each(|i| count_a[strata.a[*i as usize] as usize] += 1);
                    b.iter().for_each(|i| count_b[strata.b[*i as usize] as usize] += 1);
                }
            }
            None => {
                for (a, b) in &members {
                    for i in 0..a.len() {
                        poll(i)?;
                        count_a[strata.a[a[random.below(a.len())] as usize] as usize] += 1;
                    }
                    for i in 0..b.len() {
                        poll(i)?;
                        count_b[strata.b[b[random.below(b.len())] as usize] as usize] += 1;
                    }
                }
            }
        }
        Ok(strata.sums(count_a, count_b).rank_biserial())
    };
    let cells = strata.cells();
    work.install(|| (0..n).into_par_iter().map_init(|| (vec![0; cells], vec![0; cells]), |scratch, i| draw(i, scratch)).collect())
}

/// The percentile interval at `level` of replicates, those that are NaN left out; NaN without any.
pub fn percentile_interval(replicates: &[f64], level: f64) -> (f64, f64) {
    let ascending = sorted_finite(replicates);
    (quantile(&ascending, (1.0 - level) / 2.0), quantile(&ascending, (1.0 + level) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal_like(n: usize, shift: f64, seed: u64) -> Vec<f64> {
        crate::tensor::Tensor::randn(&[n], seed, 0, &Work::silent(1).unwrap())
            .unwrap()
            .to_f64()
            .into_iter()
            .map(|v| v + shift)
            .collect()
    }

    #[test]
    fn the_spread_is_that_of_the_effect_and_threads_do_not_matter() {
        let (a, b) = (normal_like(200, 0.0, 1), normal_like(300, 0.0, 2));
        let strata = Strata::new(&a, &b, None);
        let one = rank_biserial_replicates(&strata, None, 400, 7, &Work::silent(1).unwrap()).unwrap();
        let two = rank_biserial_replicates(&strata, None, 400, 7, &Work::silent(2).unwrap()).unwrap();
        assert_eq!(one, two);
        // Under the null the standard error of the rank-biserial effect is √((n_a + n_b + 1) / (3 n_a n_b)).
        let expected = (501f64 / (3.0 * 200.0 * 300.0)).sqrt();
        let spread = crate::stats::std(&one);
        assert!((spread / expected - 1.0).abs() < 0.15, "{spread} against {expected}");
    }

    #[test]
    fn clusters_widen_the_interval() {
        // Ten clusters whose level is shared by both sides of no other: values differ between clusters only.
        let levels = normal_like(20, 0.0, 3);
        let a: Vec<f64> = (0..200).map(|i| levels[i / 20]).collect();
        let b: Vec<f64> = (0..200).map(|i| levels[10 + i / 20]).collect();
        let labels_a: Vec<f64> = (0..200).map(|i| f64::from(i / 20)).collect();
        let labels_b: Vec<f64> = (0..200).map(|i| f64::from(10 + i / 20)).collect();
        let strata = Strata::new(&a, &b, None);
        let work = Work::silent(2).unwrap();
        let width = |clusters: Option<&Groups>| {
            let (low, high) = percentile_interval(&rank_biserial_replicates(&strata, clusters, 400, 7, &work).unwrap(), 0.95);
            high - low
        };
        assert!(width(Some(&Groups::new(&labels_a, &labels_b))) > 2.0 * width(None));
    }
}
