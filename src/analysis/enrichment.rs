//! Token-set enrichment: which kinds of tokens stand at an end of a feature's ranking of the vocabulary.

use super::common::ids;
use super::tokens::TokenScores;
use crate::dictionary::{RandomKind, RandomOptions, random_directions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::Options;
use crate::provenance::Provenance;
use crate::table::Table;
use crate::work::Work;
use rayon::prelude::*;
use std::collections::BTreeMap;

crate::options! {
    /// Options of [`enrichment`].
    pub struct EnrichmentOptions {
        /// Weight of a token of the set: |standardised score| to this power. 1 is GSEA's, 0 the Kolmogorov–Smirnov statistic.
        weight: f64 = 1.0,
        /// Sets with fewer tokens (after masking) are left out.
        least: usize = 5,
        /// Number of random directions with the dictionary's covariance behind p and nes. [INFER]
        n_null: usize = 512,
        /// Seed of these; the session's when absent.
        seed: Option<u64> = None,
    }
}

/// Named sets of token ids.
pub type TokenSets = BTreeMap<String, Vec<usize>>;

/// English words of closed classes: what can be listed of parts of speech.
const WORDS: [(&str, &str); 5] = [
    (
        "pronouns",
        "i you he she it we they me him her us them my your his its our their mine yours hers ours theirs myself yourself himself herself itself ourselves themselves who whom whose",
    ),
    (
        "determiners",
        "the a an this that these those each every either neither some any no all both half such what which another other",
    ),
    (
        "prepositions",
        "of in to for with on at by from about as into like through after over between out against during without before under around among",
    ),
    ("conjunctions", "and but or nor so yet because although though while if unless until since whereas whether"),
    (
        "auxiliaries",
        "is are was were be been being am has have had having do does did can could will would shall should may might must",
    ),
];

/// The built-in sets of a model's vocabulary: with a leading space, capitalised, all capitals, digits, punctuation, not ASCII,
/// by length and by first letter, and English words of closed classes. A token may belong to several.
///
/// # Errors
/// The user interrupted.
pub fn token_sets(model: &Model, work: &Work) -> Result<TokenSets> {
    let mut sets = TokenSets::new();
    let vocabulary = model.vocabulary();
    let mut put = |name: String, id: usize| sets.entry(name).or_default().push(id);
    for id in 0..vocabulary.len() {
        work.check()?;
        let token = vocabulary.token(id);
        let text = token.strip_prefix(' ').unwrap_or(&token);
        let Some(first) = text.chars().next() else { continue };
        let length = text.chars().count();
        let letters = text.chars().all(char::is_alphabetic);
        if text.len() < token.len() {
            put("leading space".into(), id);
        }
        if first.is_uppercase() && length > 1 && text.chars().skip(1).any(char::is_lowercase) {
            put("capitalised".into(), id);
        }
        if letters && length > 1 && text.chars().all(char::is_uppercase) {
            put("all capitals".into(), id);
        }
        if text.chars().all(char::is_numeric) {
            put("digits".into(), id);
        }
        if text.chars().all(|c| c.is_ascii_punctuation()) {
            put("punctuation".into(), id);
        }
        if !text.is_ascii() {
            put("not ASCII".into(), id);
        }
        if letters {
            let size = ["1", "2–3", "4–6", "7–9", "10 or more"][match length {
                1 => 0,
                2..=3 => 1,
                4..=6 => 2,
                7..=9 => 3,
                _ => 4,
            }];
            put(format!("letters: {size}"), id);
            let folded = text.to_lowercase();
            if first.is_ascii_alphabetic() {
                put(format!("first letter {}", first.to_ascii_lowercase()), id);
            }
            for (name, words) in WORDS {
                if words.split(' ').any(|word| word == folded) {
                    put(name.into(), id);
                }
            }
        }
    }
    Ok(sets)
}

/// Rows of scores that are held at once.
const ROWS: usize = 32;

/// Enrichment of token sets at the ends of each feature's ranking of the unmasked vocabulary (TSEA: gene set enrichment
/// analysis, Subramanian et al. 2005, with tokens for genes; Bloom and Lin 2024).
///
/// A running sum walks down the ranking: at a token of the set it rises by |z|^weight (scaled so that all rises are 1), at any
/// other it falls by 1 / (tokens outside). `es` is its largest deviation from 0, positive where the set gathers at the top.
/// Beside it `nes`, es over the mean |es| of random directions with the same sign, and `p`, the share of random directions
/// that reach at least as far on the same side of 0 (one-sided; at least 1 / (n_null + 1)). A table `feature set n es nes p`, features outermost.
///
/// # Errors
/// A set with an id outside the vocabulary; no set that is large enough; a weight below 0.
pub fn enrichment(
    scores: &TokenScores,
    model: &Model,
    sets: &TokenSets,
    options: &EnrichmentOptions,
    work: &Work,
) -> Result<Table> {
    let view = scores.view();
    if !model.is(&view.model) && model.id() != view.model.id() {
        return Err(Error::input(format!("the scores are of {}, not of {}", view.model.name(), model.name())));
    }
    if !(options.weight >= 0.0 && options.weight.is_finite()) {
        return Err(Error::input(format!("option `weight` takes a number from 0 on, not {}", options.weight)));
    }
    if let Some((name, id)) =
        sets.iter().find_map(|(name, ids)| ids.iter().find(|id| **id >= view.n_tokens()).map(|id| (name, id)))
    {
        return Err(Error::input(format!(
            "token {id} of the set `{name}` is out of range: there are {} tokens",
            view.n_tokens()
        )));
    }
    let masked = |id: usize| view.special.as_ref().is_some_and(|s| s.mask[id]);
    let unmasked: Vec<usize> = (0..view.n_tokens()).filter(|id| !masked(*id)).collect();
    let sets: Vec<(&String, Vec<usize>)> = sets
        .iter()
        .map(|(name, ids)| (name, ids.iter().copied().filter(|id| !masked(*id)).collect::<Vec<_>>()))
        .filter(|(_, ids)| ids.len() >= options.least.max(1) && ids.len() < unmasked.len())
        .collect();
    if sets.is_empty() {
        return Err(Error::input(format!("no set has {} unmasked tokens or more", options.least)));
    }
    let seed = options.seed.unwrap_or(work.seed());
    let run = |dictionary: &crate::dictionary::Dictionary, positions: &[usize]| -> Result<Vec<Vec<f64>>> {
        let directions = view.phase.directions(dictionary, &view.model, work)?;
        let steps = work.begin("enrichment", positions.len() as u64);
        let mut found = Vec::new();
        for positions in positions.chunks(ROWS) {
            let matrix = view.product(&directions, positions, work)?.matrix(work)?;
            let rows = matrix.f32_cow();
            let of = |row: &[f32]| -> Result<Vec<f64>> {
                work.check()?;
                let ranking = Ranking::new(row, &unmasked);
                Ok(sets.iter().map(|(_, set)| ranking.enrichment(set, options.weight)).collect())
            };
            let part: Vec<Vec<f64>> = work.install(|| rows.par_chunks_exact(view.n_tokens()).map(of).collect::<Result<_>>())?;
            found.extend(part);
            steps.advance(positions.len() as u64);
        }
        Ok(found)
    };
    let found = run(scores.dictionary(), scores.positions())?;
    let random = RandomOptions { n: Some(options.n_null), kind: RandomKind::Covariance, seed: Some(seed) };
    let random = random_directions(scores.dictionary(), Some(model), &random, work)?;
    let null = run(&random, &(0..random.n()).collect::<Vec<_>>())?;
    let nulls: Vec<Null> = (0..sets.len()).map(|set| Null::new(null.iter().map(|row| row[set]))).collect();
    let each = |pick: &dyn Fn(&Null, f64) -> f64| -> Vec<f64> {
        found.iter().flat_map(|row| row.iter().zip(&nulls).map(|(es, null)| pick(null, *es)).collect::<Vec<_>>()).collect()
    };
    let features = ids(scores.dictionary(), scores.positions());
    let record = Provenance::new("enrichment")
        .with("scores", scores.provenance().to_json())
        .with("options", options.canonical())
        .with("seed", seed);
    Table::new(record)
        .with("feature", features.iter().flat_map(|f| vec![*f; sets.len()]).collect::<Vec<usize>>())?
        .with("set", features.iter().flat_map(|_| sets.iter().map(|(name, _)| (*name).clone())).collect::<Vec<String>>())?
        .with("n", features.iter().flat_map(|_| sets.iter().map(|(_, set)| set.len())).collect::<Vec<usize>>())?
        .with("es", each(&|_, es| es))?
        .with("nes", each(&Null::normalised))?
        .with("p", each(&Null::p))
}

/// The scores of random directions for one set.
struct Null {
    sorted: Vec<f64>,
    /// Mean |es| of those above and below 0.
    means: [f64; 2],
}

impl Null {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let mean = |of: fn(&f64) -> bool| {
            let chosen: Vec<f64> = values.iter().copied().filter(of).map(f64::abs).collect();
            chosen.iter().sum::<f64>() / chosen.len() as f64
        };
        let means = [mean(|v| *v >= 0.0), mean(|v| *v < 0.0)];
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        Null { sorted, means }
    }

    fn normalised(&self, es: f64) -> f64 {
        es / self.means[usize::from(es < 0.0)]
    }

    fn p(&self, es: f64) -> f64 {
        let reached = match es >= 0.0 {
            true => self.sorted.len() - self.sorted.partition_point(|v| *v < es),
            false => self.sorted.partition_point(|v| *v <= es),
        };
        (1 + reached) as f64 / (1 + self.sorted.len()) as f64
    }
}

/// The unmasked tokens by falling score, ties by id.
struct Ranking {
    /// Rank of each token from 0; masked ones have none.
    rank: Vec<u32>,
    /// |standardised score| by token.
    size: Vec<f32>,
    n: usize,
}

impl Ranking {
    fn new(scores: &[f32], unmasked: &[usize]) -> Self {
        let n = unmasked.len() as f64;
        let mean = unmasked.iter().map(|id| f64::from(scores[*id])).sum::<f64>() / n;
        let variance = unmasked.iter().map(|id| (f64::from(scores[*id]) - mean).powi(2)).sum::<f64>() / n;
        let scale = if variance > 0.0 { variance.sqrt().recip() } else { 0.0 };
        let mut order: Vec<u32> = unmasked.iter().map(|id| *id as u32).collect();
        order.sort_unstable_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        let mut rank = vec![u32::MAX; scores.len()];
        order.iter().enumerate().for_each(|(place, id)| rank[*id as usize] = place as u32);
        let size = scores.iter().map(|v| ((f64::from(*v) - mean) * scale).abs() as f32).collect();
        Ranking { rank, size, n: order.len() }
    }

    /// The largest deviation of the running sum, which rises at tokens of the set alone: just after one it may be highest,
    /// just before one lowest.
    fn enrichment(&self, set: &[usize], weight: f64) -> f64 {
        let mut hits: Vec<(u32, f64)> = set.iter().map(|id| (self.rank[*id], f64::from(self.size[*id]).powf(weight))).collect();
        hits.sort_unstable_by_key(|(rank, _)| *rank);
        let total: f64 = hits.iter().map(|(_, rise)| rise).sum();
        let rise = |size: f64| if total > 0.0 { size / total } else { 1.0 / hits.len() as f64 };
        let fall = 1.0 / (self.n - hits.len()) as f64;
        let (mut risen, mut extreme) = (0.0, 0f64);
        for (seen, (rank, size)) in hits.iter().enumerate() {
            let before = risen - (*rank as usize - seen) as f64 * fall;
            risen += rise(*size);
            let after = risen - (*rank as usize - seen) as f64 * fall;
            for value in [before, after] {
                if value.abs() > extreme.abs() {
                    extreme = value;
                }
            }
        }
        extreme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrichment_scores_agree_with_a_running_sum_in_numpy() {
        let reference: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/enrichment.json")).unwrap();
        let list = |v: &serde_json::Value| v.as_array().unwrap().clone();
        let whole = |v: &serde_json::Value| list(v).iter().map(|v| v.as_u64().unwrap() as usize).collect::<Vec<usize>>();
        let unmasked = whole(&reference["unmasked"]);
        for row in list(&reference["rows"]) {
            let scores: Vec<f32> = list(&row["scores"]).iter().map(|v| v.as_f64().unwrap() as f32).collect();
            let ranking = Ranking::new(&scores, &unmasked);
            for case in list(&row["cases"]) {
                let got = ranking.enrichment(&whole(&case["set"]), case["weight"].as_f64().unwrap());
                let want = case["es"].as_f64().unwrap();
                assert!((got - want).abs() < 1e-6, "{got}, not {want}");
            }
        }
    }

    #[test]
    fn p_counts_what_reaches_as_far() {
        let null = Null::new([0.1, -0.4, 0.2, -0.2].into_iter());
        assert_eq!((null.p(0.2), null.p(-0.3), null.p(0.3), null.p(0.0)), (2.0 / 5.0, 2.0 / 5.0, 1.0 / 5.0, 3.0 / 5.0));
        assert!((null.normalised(0.3) - 2.0).abs() < 1e-12 && (null.normalised(-0.3) + 1.0).abs() < 1e-12);
    }
}
