//! Which features name a family of tokens: three metrics of the top list, a rule over them, and thresholds from a null
//! that never saw the population it judges (METHODS.md 1.2, 1.3).

use super::common::{ids, note_non_finite, with_labels};
use super::product::Scale;
use super::tokens::{MomentsOver, TokenOptions, TokenScores, TokenView};
use crate::compute::product::{Product, RowSoftmax, RowStats, Scored};
use crate::dictionary::{Dictionary, RandomKind, RandomOptions, random_directions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Json, OptionValue, Options, Value};
use crate::provenance::Provenance;
use crate::sample::{quantile, sorted_finite};
use crate::stats::{Random, wilson};
use crate::table::Table;
use crate::work::Work;
use rayon::prelude::*;
use serde_json::json;
use std::any::Any;
use std::sync::{Arc, Weak};

crate::choice! {
    /// How the three metrics combine.
    pub enum Rule {
        /// At least two of the three.
        #[default] TwoOfThree = "2of3",
        Any = "any",
        All = "all",
        /// The Levenshtein distance alone.
        Levenshtein = "levenshtein",
        /// The cosine alone.
        Cosine = "cosine",
        /// The entropy alone.
        Entropy = "entropy",
    }
}

crate::choice! {
    /// Which end of the scores is judged.
    pub enum SemanticSide {
        #[default] Top = "top",
        Bottom = "bottom",
        /// Either end: for signed dictionaries, where d and −d are equally the feature.
        Both = "both",
    }
}

crate::choice! {
    /// What thresholds are drawn from.
    pub enum NullKind {
        /// Gaussian directions with the uncentred second moment of the dictionary's unit directions.
        #[default] Covariance = "covariance",
        /// Gaussian directions without any preference.
        Isotropic = "isotropic",
        /// Random token sets as lists, with the entropies of the covariance null.
        TokenSets = "token_sets",
    }
}

crate::choice! {
    /// What the entropy is taken over.
    pub enum EntropyKind {
        /// The softmax of the scores standardised over the unmasked vocabulary: scale-free.
        #[default] Standardised = "standardised",
        /// The softmax of the scores with the direction at norm √d_model before the gain.
        SqrtD = "sqrt_d",
    }
}

crate::options! {
    /// Options of [`semantics`].
    pub struct SemanticsOptions {
        /// How the metrics combine; a list passes a metric when it lies strictly beyond the threshold. The paper screens by
        /// several metrics [3RD]; the rule is [INFER]
        rule: Rule = Rule::default(),
        /// `"top"`, `"bottom"` or `"both"` (passing at either end); by default `"both"` for signed dictionaries, else
        /// `"top"`. [INFER]
        side: Option<SemanticSide> = None,
        /// The null behind the thresholds. [INFER]
        null_kind: NullKind = NullKind::default(),
        /// Number of random directions in each draw of a null. [INFER]
        n_null: usize = 4096,
        /// Share of the null that the whole rule lets pass. [INFER]
        fpr: f64 = 0.01,
        /// Seed of the null draws; the session's when absent.
        seed: Option<u64> = None,
        /// Thresholds given instead of drawn: `#{levenshtein, cosine, entropy}`. [INFER]
        thresholds: Option<GivenThresholds> = None,
        /// Thresholds at this quantile of the features themselves instead of a null's (0.75: a quarter passes each metric, by
        /// construction). It imitates the percentile thresholds that a summary of the paper mentions [3RD]; the share says nothing
        /// about the features.
        population_quantile: Option<f64> = None,
        /// `"standardised"` (scale-free) or `"sqrt_d"` (the direction at norm √d_model; saturates on Gemma-3). [INFER]
        entropy: EntropyKind = EntropyKind::default(),
        /// Also draw the other nulls, to print the share under every one. [INFER]
        every_null: bool = true,
    }
}

/// Thresholds that the caller gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GivenThresholds {
    /// Passed below.
    pub levenshtein: f64,
    /// Passed above.
    pub cosine: f64,
    /// Passed below, nats.
    pub entropy: f64,
}

impl OptionValue for GivenThresholds {
    fn kind() -> String {
        "a map #{levenshtein, cosine, entropy} of numbers".into()
    }
    fn read(value: &Value) -> Option<Self> {
        let Value::Map(map) = value else { return None };
        let known = ["levenshtein", "cosine", "entropy"];
        if map.keys().any(|key| !known.contains(&key.as_str())) {
            return None;
        }
        let number = |name: &str| map.get(name).and_then(f64::read);
        Some(GivenThresholds { levenshtein: number("levenshtein")?, cosine: number("cosine")?, entropy: number("entropy")? })
    }
    fn canonical(&self) -> Json {
        json!({"levenshtein": self.levenshtein, "cosine": self.cosine, "entropy": self.entropy})
    }
}

/// Thresholds of the three metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// The per-metric quantile of the null, the same for all three, at which the whole rule passes `fpr`; NaN where the
    /// thresholds were given.
    pub alpha: f64,
    /// Passed below.
    pub levenshtein: f64,
    /// Passed above.
    pub cosine: f64,
    /// Passed below, nats.
    pub entropy: f64,
}

/// What one null says: its thresholds, and the share of the features that pass them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NullShare {
    /// The null.
    pub kind: NullKind,
    /// The thresholds that it gives.
    pub thresholds: Thresholds,
    /// Share of the features that pass them.
    pub share: f64,
}

/// The metrics of one list.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Metrics {
    levenshtein: f64,
    cosine: f64,
    entropy: f64,
    /// Share of the softmax behind the entropy that the list holds.
    list_mass: f64,
}

impl Metrics {
    fn spread(&self) -> Spread {
        Spread { entropy: self.entropy, list_mass: self.list_mass }
    }
}

/// The metrics of both ends of one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ends {
    top: Metrics,
    bottom: Metrics,
}

/// What [`semantics`] found. Copies share.
#[derive(Clone)]
pub struct Semantics(Arc<Inner>);

struct Inner {
    dictionary: Dictionary,
    positions: Vec<usize>,
    ends: Vec<Ends>,
    judge: Judge,
    entropy: EntropyKind,
    mask: Vec<bool>,
    thresholds: Thresholds,
    /// A second, independent draw of the null.
    second: Vec<Ends>,
    nulls: Vec<NullShare>,
    log_vocabulary: f64,
    warnings: Vec<String>,
    provenance: Provenance,
}

/// Calls features semantic whose top tokens form a family, against a null.
///
/// * `levenshtein`: mean over pairs of the top k tokens of distance / longer length in characters, one leading space
///   stripped, lower-cased. Low: a lexical family.
/// * `cosine`: mean over pairs of the cosine of token vectors (columns of W_U without gain, or rows of W_E) minus the
///   vocabulary's mean. High: a family of meaning.
/// * `entropy`: of the softmax over the unmasked vocabulary of the standardised scores, in nats. Low: few tokens stand out.
///
/// Thresholds: one quantile α of the null for all three metrics, solved so that the whole rule lets a share `fpr` of the
/// null pass. The null is drawn from the read directions for `embed`, from the write directions for `unembed`;
/// `null_share` is the pass rate of a second, independent draw. A feature whose direction holds NaN or infinities has no metric
/// and is not semantic; nulls are drawn from the others.
///
/// # Errors
/// Lists of fewer than two tokens; another model than that of the scores; fpr outside 0..1; an empty null.
pub fn semantics(scores: &TokenScores, model: &Model, options: &SemanticsOptions, work: &Work) -> Result<Semantics> {
    let view = scores.view();
    if !model.is(&view.model) && model.id() != view.model.id() {
        return Err(Error::input(format!("the scores are of {}, not of {}", view.model.name(), model.name())));
    }
    if view.options.k.min(view.n_tokens()) < 2 {
        return Err(Error::input("semantics compares the tokens of a list with each other: it needs k of at least 2")
            .help("pass k: 10 to unembed or embed"));
    }
    if !(options.fpr > 0.0 && options.fpr < 1.0) {
        return Err(Error::input(format!("option `fpr` takes a number between 0 and 1, not {}", options.fpr)));
    }
    if let Some(q) = options.population_quantile
        && !(q > 0.0 && q < 1.0 && options.thresholds.is_none())
    {
        return Err(Error::input(format!("option `population_quantile` takes a number between 0 and 1, not {q}"))
            .help("and it does not go together with `thresholds`"));
    }
    if options.n_null < 2 {
        return Err(Error::input("option `n_null`: a null needs at least 2 directions"));
    }
    let dictionary = scores.dictionary();
    let default_side = if dictionary.signed() { SemanticSide::Both } else { SemanticSide::Top };
    let judge = Judge { rule: options.rule, side: options.side.unwrap_or(default_side) };
    let seed = options.seed.unwrap_or(work.seed());
    let eye = Eye::new(scores, options.entropy, work)?;
    let ends = eye.features(scores, work)?;
    let draws = Draws { eye: &eye, dictionary, options, seed };

    let mut warnings = Vec::new();
    let drawn = options.thresholds.is_none() && options.population_quantile.is_none();
    if drawn && options.fpr * (options.n_null as f64) < 40.0 {
        warnings.push(format!(
            "fpr {} of {} random directions are {:.1}: too few for a steady threshold (40 or more are wanted)",
            options.fpr,
            options.n_null,
            options.fpr * options.n_null as f64
        ));
    }
    let share = |thresholds: &Thresholds| judge.count(&ends, thresholds) as f64 / ends.len() as f64;
    let mut nulls = Vec::new();
    if let Some(GivenThresholds { levenshtein, cosine, entropy }) = options.thresholds {
        let thresholds = Thresholds { alpha: f64::NAN, levenshtein, cosine, entropy };
        nulls.push(NullShare { kind: options.null_kind, thresholds, share: share(&thresholds) });
    } else if let Some(q) = options.population_quantile {
        let thresholds = judge.thresholds(&ends, 1.0 - q);
        warnings.push(format!("thresholds are the {q} quantiles of the features themselves: their share is set by construction"));
        nulls.push(NullShare { kind: options.null_kind, thresholds, share: share(&thresholds) });
    } else {
        let others = NullKind::ALL.iter().filter(|kind| options.every_null && **kind != options.null_kind);
        for kind in std::iter::once(&options.null_kind).chain(others) {
            let thresholds = judge.solve(&draws.draw(*kind, 0, work)?, options.fpr);
            nulls.push(NullShare { kind: *kind, thresholds, share: share(&thresholds) });
        }
    }
    let thresholds = nulls[0].thresholds;
    let second = draws.draw(options.null_kind, 1, work)?;
    let null_share = judge.count(&second, &thresholds) as f64 / second.len() as f64;
    let mask = ends.iter().map(|e| judge.passes(e, &thresholds)).collect();
    for warning in &warnings {
        work.note(&format!("semantics: {warning}"));
    }
    let provenance = Provenance::new("semantics")
        .with("scores", scores.provenance().to_json())
        .with("options", options.canonical())
        .with("side", judge.side.name())
        .with("seed", seed)
        .with("thresholds", thresholds.to_json())
        .with("log_vocabulary", eye.log_vocabulary())
        .with("null_share", null_share);
    Ok(Semantics(Arc::new(Inner {
        dictionary: dictionary.clone(),
        positions: scores.positions().to_vec(),
        ends,
        judge,
        entropy: options.entropy,
        mask,
        thresholds,
        second,
        nulls,
        log_vocabulary: eye.log_vocabulary(),
        warnings,
        provenance,
    })))
}

impl Semantics {
    /// Other features under the same rule, thresholds and null share, without another draw.
    pub(super) fn judge(&self, scores: &TokenScores, work: &Work) -> Result<Semantics> {
        let Inner { judge, entropy, thresholds, second, nulls, log_vocabulary, warnings, provenance, .. } = &*self.0;
        let ends = Eye::new(scores, *entropy, work)?.features(scores, work)?;
        let share = |thresholds: &Thresholds| judge.count(&ends, thresholds) as f64 / ends.len() as f64;
        let nulls = nulls.iter().map(|null| NullShare { share: share(&null.thresholds), ..*null }).collect();
        Ok(Semantics(Arc::new(Inner {
            dictionary: scores.dictionary().clone(),
            positions: scores.positions().to_vec(),
            judge: *judge,
            entropy: *entropy,
            mask: ends.iter().map(|e| judge.passes(e, thresholds)).collect(),
            ends,
            thresholds: *thresholds,
            second: second.clone(),
            nulls,
            log_vocabulary: *log_vocabulary,
            warnings: warnings.clone(),
            provenance: provenance.clone(),
        })))
    }

    /// True for the features that pass, in the order of the scores.
    pub fn mask(&self) -> &[bool] {
        &self.0.mask
    }

    /// Share of the features that pass.
    pub fn share(&self) -> f64 {
        self.0.mask.iter().filter(|m| **m).count() as f64 / self.0.mask.len() as f64
    }

    /// Share of an independent draw of the null that passes the same thresholds, with its Wilson interval (95 %).
    pub fn null_share(&self) -> (f64, (f64, f64)) {
        let (hits, n) = (self.0.judge.count(&self.0.second, &self.0.thresholds), self.0.second.len());
        (hits as f64 / n as f64, wilson(hits, n))
    }

    /// The thresholds, with the per-metric quantile α.
    pub fn thresholds(&self) -> Thresholds {
        self.0.thresholds
    }

    /// The share of features under the thresholds of every null, the chosen one first.
    pub fn nulls(&self) -> &[NullShare] {
        &self.0.nulls
    }

    /// log of the unmasked vocabulary's size: the largest entropy there can be, nats.
    pub fn log_vocabulary(&self) -> f64 {
        self.0.log_vocabulary
    }

    /// The end that was judged.
    pub fn side(&self) -> SemanticSide {
        self.0.judge.side
    }

    /// What a reader should know before trusting the share.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// One row for each feature: `feature levenshtein cosine entropy list_mass votes semantic`, list_mass being the share of
    /// the softmax behind the entropy that the list holds; with side `"both"` these are of the top list, and
    /// `levenshtein_bottom cosine_bottom entropy_bottom list_mass_bottom votes_bottom side` follow (`side`: the ends that
    /// pass: `top`, `bottom`, `both` or empty).
    ///
    /// # Errors
    /// None in practice; the columns are made equally long.
    pub fn table(&self) -> Result<Table> {
        let inner = &*self.0;
        let table = Table::new(inner.provenance.clone()).with("feature", ids(&inner.dictionary, &inner.positions))?;
        let table = with_labels(table, &inner.dictionary, &inner.positions)?;
        inner.judge.columns(table, &inner.ends, &inner.thresholds)
    }

    /// The second draw of the null, one row for each random direction: the columns of [`Semantics::table`] without ids.
    ///
    /// # Errors
    /// None in practice; the columns are made equally long.
    pub fn null_table(&self) -> Result<Table> {
        let inner = &*self.0;
        inner.judge.columns(Table::new(inner.provenance.clone().step("null_table")), &inner.second, &inner.thresholds)
    }

    /// One line: the share beside the null's.
    pub fn describe(&self) -> String {
        let (null, (low, high)) = self.null_share();
        format!(
            "semantics: {:.2} % of {} features pass {} ({} side); {:.2} % of the {} null do (95 % interval {:.2}–{:.2} %)",
            100.0 * self.share(),
            self.0.mask.len(),
            self.0.judge.rule.name(),
            self.0.judge.side.name(),
            100.0 * null,
            self.0.nulls[0].kind.name(),
            100.0 * low,
            100.0 * high,
        )
    }
}

impl std::fmt::Display for Semantics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl std::fmt::Debug for Semantics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Thresholds {
    /// As a map; α is null where the thresholds were given.
    pub fn to_json(&self) -> Json {
        json!({"alpha": self.alpha, "levenshtein": self.levenshtein, "cosine": self.cosine, "entropy": self.entropy})
    }
}

impl Rule {
    /// Whether the votes for Levenshtein, cosine and entropy suffice.
    fn holds(self, [levenshtein, cosine, entropy]: [bool; 3]) -> bool {
        let votes = u8::from(levenshtein) + u8::from(cosine) + u8::from(entropy);
        match self {
            Rule::TwoOfThree => votes >= 2,
            Rule::Any => votes >= 1,
            Rule::All => votes == 3,
            Rule::Levenshtein => levenshtein,
            Rule::Cosine => cosine,
            Rule::Entropy => entropy,
        }
    }
}

/// The rule with the ends it looks at.
#[derive(Clone, Copy, Debug)]
struct Judge {
    rule: Rule,
    side: SemanticSide,
}

impl Judge {
    fn votes(&self, m: &Metrics, t: &Thresholds) -> [bool; 3] {
        [m.levenshtein < t.levenshtein, m.cosine > t.cosine, m.entropy < t.entropy]
    }

    fn passes(&self, ends: &Ends, t: &Thresholds) -> bool {
        let end = |m: &Metrics| self.rule.holds(self.votes(m, t));
        match self.side {
            SemanticSide::Top => end(&ends.top),
            SemanticSide::Bottom => end(&ends.bottom),
            SemanticSide::Both => end(&ends.top) || end(&ends.bottom),
        }
    }

    /// A table with the columns of metrics, votes and verdicts added.
    fn columns(&self, table: Table, ends: &[Ends], thresholds: &Thresholds) -> Result<Table> {
        let first = |e: &Ends| if self.side == SemanticSide::Bottom { e.bottom } else { e.top };
        let votes = |m: Metrics| self.votes(&m, thresholds).iter().filter(|v| **v).count();
        let of = |pick: &dyn Fn(&Ends) -> f64| ends.iter().map(pick).collect::<Vec<f64>>();
        let table = table
            .with("levenshtein", of(&|e| first(e).levenshtein))?
            .with("cosine", of(&|e| first(e).cosine))?
            .with("entropy", of(&|e| first(e).entropy))?
            .with("list_mass", of(&|e| first(e).list_mass))?
            .with("votes", ends.iter().map(|e| votes(first(e))).collect::<Vec<usize>>())?
            .with("semantic", ends.iter().map(|e| self.passes(e, thresholds)).collect::<Vec<bool>>())?;
        if self.side != SemanticSide::Both {
            return Ok(table);
        }
        let side = |e: &Ends| {
            let passes = |m: &Metrics| self.rule.holds(self.votes(m, thresholds));
            match (passes(&e.top), passes(&e.bottom)) {
                (true, true) => "both",
                (true, false) => "top",
                (false, true) => "bottom",
                (false, false) => "",
            }
        };
        table
            .with("levenshtein_bottom", of(&|e| e.bottom.levenshtein))?
            .with("cosine_bottom", of(&|e| e.bottom.cosine))?
            .with("entropy_bottom", of(&|e| e.bottom.entropy))?
            .with("list_mass_bottom", of(&|e| e.bottom.list_mass))?
            .with("votes_bottom", ends.iter().map(|e| votes(e.bottom)).collect::<Vec<usize>>())?
            .with("side", ends.iter().map(|e| side(e).to_string()).collect::<Vec<String>>())
    }

    fn count(&self, population: &[Ends], t: &Thresholds) -> usize {
        population.iter().filter(|ends| self.passes(ends, t)).count()
    }

    /// The thresholds that a share α of a population passes, metric by metric; both ends share one pool, being alike by
    /// symmetry.
    fn thresholds(&self, population: &[Ends], alpha: f64) -> Thresholds {
        Pools::new(self.side, population).at(alpha)
    }

    /// The thresholds at the largest per-metric quantile α of the null at which no more than `fpr` of the null passes the
    /// rule. The pass rate rises with α, since every threshold loosens.
    fn solve(&self, null: &[Ends], fpr: f64) -> Thresholds {
        let pools = Pools::new(self.side, null);
        let allowed = (fpr * null.len() as f64).floor() as usize;
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if self.count(null, &pools.at(middle)) <= allowed {
                low = middle;
            } else {
                high = middle;
            }
        }
        pools.at(low)
    }
}

/// The values of each metric over a population, sorted.
struct Pools {
    levenshtein: Vec<f64>,
    cosine: Vec<f64>,
    entropy: Vec<f64>,
}

impl Pools {
    fn new(side: SemanticSide, population: &[Ends]) -> Self {
        let pool = |pick: fn(&Metrics) -> f64| {
            let of = |ends: &Ends| match side {
                SemanticSide::Top => vec![pick(&ends.top)],
                SemanticSide::Bottom => vec![pick(&ends.bottom)],
                SemanticSide::Both => vec![pick(&ends.top), pick(&ends.bottom)],
            };
            sorted_finite(&population.iter().flat_map(of).collect::<Vec<f64>>())
        };
        Pools { levenshtein: pool(|m| m.levenshtein), cosine: pool(|m| m.cosine), entropy: pool(|m| m.entropy) }
    }

    fn at(&self, alpha: f64) -> Thresholds {
        Thresholds {
            alpha,
            levenshtein: quantile(&self.levenshtein, alpha),
            cosine: quantile(&self.cosine, 1.0 - alpha),
            entropy: quantile(&self.entropy, alpha),
        }
    }
}

/// How metrics are taken, for features and nulls alike.
struct Eye<'a> {
    view: &'a TokenView,
    /// The mean token vector.
    mean: &'a [f64],
    entropy: EntropyKind,
    /// Tokens that lists may contain.
    unmasked: Vec<usize>,
    k: usize,
}

/// One end of a direction: its list, and entropy and list mass of its softmax.
type Seen<'a> = (&'a [Scored], Spread);

/// The ends of a direction, top and bottom.
type Sides<'a> = [Seen<'a>; 2];

/// How the softmax of one end spreads over the vocabulary.
#[derive(Clone, Copy, Debug)]
struct Spread {
    /// Nats.
    entropy: f64,
    /// Share of its k largest weights.
    list_mass: f64,
}

impl<'a> Eye<'a> {
    fn new(scores: &'a TokenScores, entropy: EntropyKind, work: &Work) -> Result<Self> {
        work.check()?;
        let view = scores.view();
        let masked = |id: &usize| view.special.as_ref().is_some_and(|s| s.mask[*id]);
        let unmasked: Vec<usize> = (0..view.n_tokens()).filter(|id| !masked(id)).collect();
        if unmasked.len() < 2 {
            return Err(Error::input("fewer than two tokens of the vocabulary are unmasked").help("pass mask_special: false"));
        }
        Ok(Eye { view, mean: view.mean(work)?, entropy, k: view.options.k.min(unmasked.len()), unmasked })
    }

    fn log_vocabulary(&self) -> f64 {
        (self.unmasked.len() as f64).ln()
    }

    /// The product whose softmax gives the entropies of both ends; its lists rank as the raw scores do, its scores are those
    /// of the softmax.
    fn entropy_product(&self, directions: &crate::dictionary::Directions, positions: &[usize], work: &Work) -> Result<Product> {
        let raw = self.view.raw_product(directions, positions, work)?;
        let product = match self.entropy {
            EntropyKind::Standardised => self.view.standardised(raw, work)?,
            EntropyKind::SqrtD => {
                let root = (self.view.model.cfg().d_model as f64).sqrt();
                let norms = self.view.entering_norms(directions, positions, work)?;
                let scale = norms.into_iter().map(|n| if n > 0.0 { root / n } else { 0.0 }).collect();
                Product { row_scale: Some(scale), ..raw }
            }
        };
        let (top, bottom) = (self.k, self.k);
        Ok(Product { softmax: true, softmax_negative: true, top, bottom, label: "semantics".into(), ..product })
    }

    /// The metrics of a dictionary's features, their lists as the scores hold them.
    fn features(&self, scores: &TokenScores, work: &Work) -> Result<Vec<Ends>> {
        let directions = self.view.phase.directions(scores.dictionary(), &self.view.model, work)?;
        let outcome = self.entropy_product(&directions, scores.positions(), work)?.run(work)?;
        let id = |i: usize| scores.dictionary().id_of(scores.positions()[i]);
        note_non_finite("semantics", &outcome, ("features", id), ("tokens", |token| token), work);
        let (top, bottom) = scores.lists();
        let spreads = outcome.rows.iter().map(spreads);
        let sides: Vec<Sides> =
            top.iter().zip(bottom).zip(spreads).map(|((t, b), s)| [(t.as_slice(), s[0]), (b, s[1])]).collect();
        self.ends(&sides, work)
    }

    /// Lists and spreads of a null's directions.
    fn rows(&self, dictionary: &Dictionary, work: &Work) -> Result<Vec<(RowStats, [Spread; 2])>> {
        let directions = self.view.phase.directions(dictionary, &self.view.model, work)?;
        let positions: Vec<usize> = (0..dictionary.n()).collect();
        let rows = self.entropy_product(&directions, &positions, work)?.run(work)?.rows;
        let spreads = rows.iter().map(spreads).collect::<Vec<_>>();
        if self.view.options.scale != Scale::Cosine {
            return Ok(rows.into_iter().zip(spreads).collect());
        }
        // Cosines rank tokens otherwise than the raw scores, of which the entropy is.
        let lists = Product { top: self.k, bottom: self.k, ..self.view.product(&directions, &positions, work)? }.run(work)?.rows;
        Ok(lists.into_iter().zip(spreads).collect())
    }

    fn ends(&self, sides: &[Sides], work: &Work) -> Result<Vec<Ends>> {
        let metrics = |(list, spread): &Seen| Metrics {
            levenshtein: self.levenshtein(list),
            cosine: self.cosine(list),
            entropy: spread.entropy,
            list_mass: spread.list_mass,
        };
        work.install(|| {
            sides
                .par_iter()
                .map(|[top, bottom]| {
                    work.check()?;
                    Ok(Ends { top: metrics(top), bottom: metrics(bottom) })
                })
                .collect()
        })
    }

    /// Mean over pairs of Levenshtein distance / longer length.
    fn levenshtein(&self, list: &[Scored]) -> f64 {
        let texts: Vec<Vec<char>> = list.iter().map(|s| folded(&self.view.model.vocabulary().token(s.id as usize))).collect();
        mean_over_pairs(texts.len(), |i, j| {
            let longer = texts[i].len().max(texts[j].len());
            if longer == 0 { 0.0 } else { strsim::generic_levenshtein(&texts[i], &texts[j]) as f64 / longer as f64 }
        })
    }

    /// Mean over pairs of the cosine of token vectors minus the vocabulary's mean.
    fn cosine(&self, list: &[Scored]) -> f64 {
        let d = self.mean.len();
        let mut row = vec![0f32; d];
        let units: Vec<Vec<f64>> = list
            .iter()
            .map(|s| {
                self.view.vectors.widen_block(s.id as usize..s.id as usize + 1, 0..d, &mut row);
                let centred: Vec<f64> = row.iter().zip(self.mean).map(|(v, m)| f64::from(*v) - m).collect();
                let norm = centred.iter().map(|v| v * v).sum::<f64>().sqrt();
                centred.into_iter().map(|v| if norm > 0.0 { v / norm } else { 0.0 }).collect()
            })
            .collect();
        mean_over_pairs(units.len(), |i, j| units[i].iter().zip(&units[j]).map(|(x, y)| x * y).sum())
    }
}

/// The spreads of the scores and of the negated scores.
fn spreads(row: &RowStats) -> [Spread; 2] {
    let spread = |softmax: Option<RowSoftmax>, list: &[Scored], sign: f64| {
        let weight = |s: &Scored, log_sum: f64| (sign * f64::from(s.score) - log_sum).exp();
        // Without a finite score there is no list whose mass could be told.
        softmax.filter(|softmax| softmax.log_sum_exp.is_finite()).map_or(
            Spread { entropy: f64::NAN, list_mass: f64::NAN },
            |softmax| Spread {
                entropy: softmax.entropy,
                list_mass: list.iter().map(|s| weight(s, softmax.log_sum_exp)).sum::<f64>().min(1.0),
            },
        )
    };
    [spread(row.softmax, &row.top, 1.0), spread(row.softmax_negative, &row.bottom, -1.0)]
}

fn mean_over_pairs(n: usize, f: impl Fn(usize, usize) -> f64) -> f64 {
    let sum: f64 = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).map(|(i, j)| f(i, j)).sum();
    sum / (n * n.saturating_sub(1) / 2) as f64
}

/// A token's text as it is compared: one leading space stripped, lower-cased.
fn folded(token: &str) -> Vec<char> {
    token.strip_prefix(' ').unwrap_or(token).to_lowercase().chars().collect()
}

/// Draws of the nulls. They depend on the model, the dictionary and options alone, not on the features that are judged, and
/// are kept with the model.
struct Draws<'a> {
    eye: &'a Eye<'a>,
    dictionary: &'a Dictionary,
    options: &'a SemanticsOptions,
    seed: u64,
}

/// A draw that is kept, and the address of the dictionary that it is like.
struct Drawn {
    ends: Vec<Ends>,
    _like: Weak<dyn Any + Send + Sync>,
}

impl Draws<'_> {
    /// Draw number `index` of a null; different numbers are independent.
    fn draw(&self, kind: NullKind, index: u64, work: &Work) -> Result<Vec<Ends>> {
        let make = || match kind {
            NullKind::Covariance => self.directions(RandomKind::Covariance, index, work),
            NullKind::Isotropic => self.directions(RandomKind::Isotropic, index, work),
            NullKind::TokenSets => self.token_sets(index, work),
        };
        let Eye { view, entropy, .. } = self.eye;
        // A matrix is not told from another by what is written down of it.
        if view.options.through.is_some() {
            return make();
        }
        let options = TokenOptions { features: None, moments: MomentsOver::All, ..view.options.clone() }.canonical();
        let (kind, entropy, phase) = (kind.name(), entropy.name(), view.phase.name());
        let (like, n, seed) = (self.dictionary.address(), self.options.n_null, self.seed);
        let name = format!("null, {kind}, draw {index} of {n}, seed {seed}, like {like}, {phase}, entropy {entropy}, {options}");
        let drawn = view.model.kept().get_or_make(&name, || Ok(Drawn { ends: make()?, _like: self.dictionary.place() }))?;
        Ok(drawn.ends.clone())
    }

    fn directions(&self, kind: RandomKind, index: u64, work: &Work) -> Result<Vec<Ends>> {
        // The kinds and the two draws must not share their random numbers.
        let seed = self.seed.wrapping_mul(6).wrapping_add(2 * (kind as u64) + index);
        let options = RandomOptions { n: Some(self.options.n_null), kind, seed: Some(seed) };
        let random = random_directions(self.dictionary, Some(&self.eye.view.model), &options, work)?;
        let rows = self.eye.rows(&random, work)?;
        let sides: Vec<Sides> =
            rows.iter().map(|(row, [top, bottom])| [(row.top.as_slice(), *top), (row.bottom.as_slice(), *bottom)]).collect();
        self.eye.ends(&sides, work)
    }

    /// Random sets of unmasked tokens in place of the lists; the entropies are those of a covariance draw.
    fn token_sets(&self, index: u64, work: &Work) -> Result<Vec<Ends>> {
        let directions = self.draw(NullKind::Covariance, index, work)?;
        let mut random = Random::new(self.seed, 1 + index);
        let mut set = || -> Vec<Scored> {
            let chosen = random.choose(self.eye.unmasked.len(), self.eye.k);
            chosen.into_iter().map(|i| Scored { id: self.eye.unmasked[i] as u32, score: 0.0 }).collect()
        };
        let sets: Vec<[Vec<Scored>; 2]> = directions.iter().map(|_| [set(), set()]).collect();
        let sides: Vec<Sides> = sets
            .iter()
            .zip(&directions)
            .map(|([top, bottom], ends)| [(top.as_slice(), ends.top.spread()), (bottom.as_slice(), ends.bottom.spread())])
            .collect();
        self.eye.ends(&sides, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(random: &mut Random) -> Ends {
        let mut uniform = || random.below(1 << 53) as f64 / (1u64 << 53) as f64;
        let mut metrics = || Metrics { levenshtein: uniform(), cosine: uniform(), entropy: uniform(), list_mass: 0.5 };
        Ends { top: metrics(), bottom: metrics() }
    }

    #[test]
    fn the_whole_rule_passes_the_asked_share_of_the_null() {
        let mut random = Random::new(5, 0);
        let null: Vec<Ends> = (0..4000).map(|_| ends(&mut random)).collect();
        for rule in Rule::ALL {
            for side in SemanticSide::ALL {
                let judge = Judge { rule: *rule, side: *side };
                let thresholds = judge.solve(&null, 0.02);
                let passed = judge.count(&null, &thresholds);
                assert!((78..=80).contains(&passed), "{} {}: {passed}", rule.name(), side.name());
            }
        }
        // Independent uniform metrics: P(at least 2 of 3 below α) = 3α² − 2α³, so 2 % at α ≈ 0.0842.
        let alpha = Judge { rule: Rule::TwoOfThree, side: SemanticSide::Top }.solve(&null, 0.02).alpha;
        assert!((alpha - 0.0842).abs() < 0.01, "{alpha}");
    }

    #[test]
    fn ties_never_let_more_pass() {
        let tied = Metrics { levenshtein: 0.5, cosine: 0.5, entropy: 0.0, list_mass: 1.0 };
        let null = vec![Ends { top: tied, bottom: tied }; 100];
        let judge = Judge { rule: Rule::Any, side: SemanticSide::Both };
        assert_eq!(judge.count(&null, &judge.solve(&null, 0.05)), 0);
    }

    #[test]
    fn one_leading_space_and_case_do_not_count() {
        assert_eq!(folded(" But"), ['b', 'u', 't']);
        assert_eq!(folded("  x"), [' ', 'x']);
    }
}
