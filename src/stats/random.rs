//! Seeded draws: the same on every machine and for any number of threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;

/// A seeded source of draws.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// Source number `stream` of a seed; sources of different numbers are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut source = ChaCha8Rng::seed_from_u64(seed);
        source.set_stream(stream);
        Random(source)
    }

    /// Uniform in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// `k` of the numbers below `n` without replacement, ascending; all of them when there are no more than `k`.
    pub fn choose(&mut self, n: usize, k: usize) -> Vec<usize> {
        // Floyd's algorithm: one draw a number, each subset equally likely.
        let mut chosen = BTreeSet::new();
        for last in n.saturating_sub(k)..n {
            let drawn = self.below(last + 1);
            if !chosen.insert(drawn) {
                chosen.insert(last);
            }
        }
        chosen.into_iter().collect()
    }

    /// The numbers below `n` in a random order, each equally likely (Fisher and Yates).
    pub fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_chosen_equally_often() {
        let mut random = Random::new(3, 0);
        let mut counts = [0usize; 10];
        for _ in 0..5000 {
            let chosen = random.choose(10, 4);
            assert!(chosen.len() == 4 && chosen.is_sorted());
            chosen.into_iter().for_each(|i| counts[i] += 1);
        }
        // 2000 expected, standard deviation 35.
        assert!(counts.iter().all(|c| (1850..=2150).contains(c)), "{counts:?}");
        assert_eq!(random.choose(3, 5), [0, 1, 2]);
    }

    #[test]
    fn every_order_comes_equally_often() {
        let mut random = Random::new(4, 0);
        let mut counts = std::collections::BTreeMap::new();
        (0..6000).for_each(|_| *counts.entry(random.shuffled(3)).or_insert(0) += 1);
        // 1000 expected, standard deviation 29.
        assert!(counts.len() == 6 && counts.values().all(|c| (880..=1120).contains(c)), "{counts:?}");
    }

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let draw = |stream: u64| Random::new(1, stream).choose(1 << 40, 3);
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
