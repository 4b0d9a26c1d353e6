//! The baselines that the model's held-out loss stands beside: a unigram and an interpolated Kneser-Ney bigram model, both
//! estimated on the training text.

use std::collections::HashMap;

/// Counts of tokens and of adjacent pairs.
struct Counts {
    unigrams: Vec<f64>,
    /// Count of (previous, next).
    pairs: HashMap<(u32, u32), f64>,
    /// Occurrences of each token as a previous one, and its number of distinct successors.
    followed: Vec<(f64, f64)>,
    /// Number of distinct predecessors of each token.
    predecessors: Vec<f64>,
}

impl Counts {
    fn new(streams: &[&[u32]], vocabulary: usize) -> Self {
        let mut counts = Self {
            unigrams: vec![0.0; vocabulary],
            pairs: HashMap::new(),
            followed: vec![(0.0, 0.0); vocabulary],
            predecessors: vec![0.0; vocabulary],
        };
        for stream in streams {
            for token in *stream {
                counts.unigrams[*token as usize] += 1.0;
            }
            for pair in stream.windows(2) {
                *counts.pairs.entry((pair[0], pair[1])).or_default() += 1.0;
            }
        }
        for ((previous, next), count) in &counts.pairs {
            let followed = &mut counts.followed[*previous as usize];
            *followed = (followed.0 + count, followed.1 + 1.0);
            counts.predecessors[*next as usize] += 1.0;
        }
        counts
    }

    /// Mean loss, in nats, of the tokens of `stream` after its first under add-one-half smoothed unigram frequencies.
    fn unigram_loss(&self, stream: &[u32]) -> f64 {
        let total = self.unigrams.iter().sum::<f64>() + 0.5 * self.unigrams.len() as f64;
        mean(stream[1..].iter().map(|token| -((self.unigrams[*token as usize] + 0.5) / total).ln()))
    }

    /// The same under interpolated Kneser-Ney: `max(c(v,w) - D, 0) / c(v) + D N(v·) / c(v) · P(w)`, where P is the share of
    /// distinct predecessors, add-one-half smoothed.
    fn bigram_loss(&self, stream: &[u32], discount: f64) -> f64 {
        let total = self.predecessors.iter().sum::<f64>() + 0.5 * self.predecessors.len() as f64;
        mean(stream.windows(2).map(|pair| {
            let continuation = (self.predecessors[pair[1] as usize] + 0.5) / total;
            let (count, distinct) = self.followed[pair[0] as usize];
            if count == 0.0 {
                return -continuation.ln();
            }
            let seen = self.pairs.get(&(pair[0], pair[1])).copied().unwrap_or_default();
            -(((seen - discount).max(0.0) + discount * distinct * continuation) / count).ln()
        }))
    }
}

fn mean(losses: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = losses.fold((0.0, 0.0), |(sum, count), loss| (sum + loss, count + 1.0));
    sum / count
}

/// Losses of both baselines in nats per token.
pub struct Baselines {
    pub unigram: f64,
    pub bigram: f64,
    /// The Kneser-Ney discount D, chosen on the tuning part with counts of the rest of the training text.
    pub discount: f64,
}

/// Estimates on `rest` and `tuning` (both training text), evaluates on `held_out`.
pub fn baselines(rest: &[u32], tuning: &[u32], held_out: &[u32], vocabulary: usize) -> Baselines {
    let counts = Counts::new(&[rest], vocabulary);
    let discount = (1..20)
        .map(|step| f64::from(step) * 0.05)
        .min_by(|a, b| counts.bigram_loss(tuning, *a).total_cmp(&counts.bigram_loss(tuning, *b)))
        .unwrap_or(0.75);
    let counts = Counts::new(&[rest, tuning], vocabulary);
    Baselines { unigram: counts.unigram_loss(held_out), bigram: counts.bigram_loss(held_out, discount), discount }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one() {
        let counts = Counts::new(&[&[0, 1, 2, 1, 2, 3, 0, 1, 1]], 5);
        for previous in 0..5 {
            let total: f64 = (0..5).map(|next| (-counts.bigram_loss(&[previous, next], 0.6)).exp()).sum();
            assert!((total - 1.0).abs() < 1e-12, "after {previous}: {total}");
        }
        let total: f64 = (0..5).map(|token| (-counts.unigram_loss(&[0, token])).exp()).sum();
        assert!((total - 1.0).abs() < 1e-12, "{total}");
    }
}
