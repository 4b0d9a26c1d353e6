//! Where features come from and go to, by the directions they write: matches between two dictionaries, and a feature's
//! likeness to what enters its layer and to what MLP and attention add there (Laptev et al. 2025, METHODS.md 2).

use super::common::{ids, note_non_finite, provenance, with_labels};
use crate::compute::product::{Outcome, Product, RowStats, Scored};
use crate::dictionary::{Dictionary, Directions, RandomOptions, random_directions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{Ids, Json, JsonMap, OptionValue, Options, Value};
use crate::sample::{quantile, sorted_finite};
use crate::table::Table;
use crate::work::Work;
use serde_json::json;
use std::any::Any;
use std::sync::{Arc, Weak};

crate::choice! {
    /// Which directions are compared.
    pub enum MatchBy {
        /// Write with write: the same thing said in two places.
        #[default] Write = "write",
        /// Read with read: the same thing looked for in two places.
        Read = "read",
        /// Write of the source with read of the target: the target picks up what the source writes.
        WriteRead = "write_read",
    }
}

crate::options! {
    /// Options of [`match_features`].
    pub struct MatchOptions {
        /// Matches of each source feature. The paper's main method takes 1, its variant 5. [TEXT]
        k: usize = 1,
        /// `"write"`, `"read"`, or `"write_read"`: the source's write with the target's read direction, as transcoders are
        /// followed. [TEXT]
        by: MatchBy = MatchBy::default(),
        /// The highest |cosine|, itself signed. By default true where a dictionary is signed. [INFER]
        absolute: Option<bool> = None,
        /// Ids of the source features; all when absent.
        features: Option<Ids> = None,
    }
}

crate::options! {
    /// The dictionaries in which [`origin_scores`] looks for features of the residual stream behind a layer.
    pub struct Origins {
        /// Of the residual stream that enters the layer.
        res: Option<Dictionary> = None,
        /// Of what the layer's MLP adds.
        mlp: Option<Dictionary> = None,
        /// Of what the layer's attention adds, or its heads' outputs (z), which W_O takes to the residual stream.
        att: Option<Dictionary> = None,
    }
}

crate::options! {
    /// Options of [`origin_scores`].
    pub struct OriginOptions {
        /// By |cosine|. By default true where the target or the origin is signed. [INFER]
        absolute: Option<bool> = None,
        /// From which score on a feature counts as found in an origin: `"null"`, the score that a share `fpr` of random
        /// directions reaches there; or a number. The paper says that it depends on the layer and names none. [INFER]
        cut: Cut = Cut::Null,
        /// Share of the null that reaches the cut. [INFER]
        fpr: f64 = 0.01,
        /// Number of random directions of the null. [INFER]
        n_null: usize = 4096,
        /// Seed of the null; the session's when absent.
        seed: Option<u64> = None,
        /// Ids of the target's features; all when absent.
        features: Option<Ids> = None,
    }
}

/// From which score on a feature counts as found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// The quantile 1 − fpr of random directions' scores with the same dictionary.
    Null,
    /// A cosine.
    At(f64),
}

impl OptionValue for Cut {
    fn kind() -> String {
        "\"null\" or a cosine".into()
    }
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => (text == "null").then_some(Cut::Null),
            number => f64::read(number).filter(|v| v.is_finite()).map(Cut::At),
        }
    }
    fn canonical(&self) -> Json {
        match self {
            Cut::Null => json!("null"),
            Cut::At(cosine) => json!(cosine),
        }
    }
}

/// For each feature of `a` the `k` features of `b` with the highest cosine: `source target rank cosine`, ranks from 1, equal
/// cosines by position. T(A→B) of the paper keeps those above 0; a feature without length has cosine 0 with every other. A
/// feature whose direction holds NaN or infinities has none: such a source has no row, such a target stands in none.
/// Directions are those in the residual stream, norm gains included, so that a dictionary in z is compared by what W_O
/// makes of it (METHODS.md 2.2, 2.9). n_a × n_b cosines are never stored.
///
/// # Errors
/// `k` is 0, a feature that `a` does not have, or a dictionary without the directions asked for.
pub fn match_features(a: &Dictionary, b: &Dictionary, model: &Model, options: &MatchOptions, work: &Work) -> Result<Table> {
    if options.k == 0 {
        return Err(Error::input("option `k`: at least one match is needed"));
    }
    let left = match options.by {
        MatchBy::Write | MatchBy::WriteRead => a.write(model, work)?,
        MatchBy::Read => a.read(model, work)?,
    };
    let right = match options.by {
        MatchBy::Write => Targets::written(b, model, work)?,
        MatchBy::Read | MatchBy::WriteRead => Targets::read(b, model, work)?,
    };
    let positions = a.positions(&options.features)?;
    let absolute = options.absolute.unwrap_or(a.signed() || b.signed());
    let (matches, outcome) = nearest(&left, &positions, &right, options.k, absolute, work)?;
    let (sources, targets) = (("source features", |i: usize| a.id_of(positions[i])), ("target features", |j| b.id_of(j)));
    note_non_finite("match_features", &outcome, sources, targets, work);
    let of_source = |pick: &dyn Fn(usize, usize, &Scored) -> usize| -> Vec<usize> {
        let each = |(list, source): (&Vec<Scored>, &usize)| {
            list.iter().enumerate().map(|(rank, found)| pick(*source, rank, found)).collect::<Vec<_>>()
        };
        matches.iter().zip(&positions).flat_map(each).collect()
    };
    Table::new(
        provenance("match_features", model, &[("source_dictionary", a), ("target_dictionary", b)], options.canonical())
            .with("absolute", absolute),
    )
    .with("source", of_source(&|source, _, _| a.id_of(source)))?
    .with("target", of_source(&|_, _, found| b.id_of(found.id as usize)))?
    .with("rank", of_source(&|_, rank, _| rank + 1))?
    .with("cosine", matches.iter().flatten().map(|found| f64::from(found.score)).collect::<Vec<f64>>())
}

/// How like each feature of `target` is to what enters its layer (R), what the MLP adds (M) and what attention adds (A):
/// `s^P = max_k f · d_k^P` over unit write directions, as `feature s_res s_mlp s_att id_res id_mlp id_att group`, the columns
/// of absent origins left out (METHODS.md 2.3).
///
/// `group` names the origins whose score reaches the cut: `RES`, `MLP&ATT`, …, or `nowhere`. RES alone: carried over; RES
/// and another: processed; another alone: newborn; `nowhere`: not explained by one match. The paper's groups of these names
/// are of activations at a token; these are of weights. The cuts stand in provenance.
///
/// # Errors
/// No origin, a dictionary without write directions, `fpr` outside 0..1, or an empty null.
pub fn origin_scores(
    target: &Dictionary,
    origins: &Origins,
    model: &Model,
    options: &OriginOptions,
    work: &Work,
) -> Result<Table> {
    let given = [("res", &origins.res), ("mlp", &origins.mlp), ("att", &origins.att)];
    let given: Vec<(&str, &Dictionary)> = given.iter().filter_map(|(name, d)| Some((*name, d.as_ref()?))).collect();
    if given.is_empty() {
        return Err(Error::input("origin_scores needs at least one of the dictionaries `res`, `mlp` and `att`"));
    }
    if !(options.fpr > 0.0 && options.fpr < 1.0) {
        return Err(Error::input(format!("option `fpr` takes a number between 0 and 1, not {}", options.fpr)));
    }
    let positions = target.positions(&options.features)?;
    let written = target.write(model, work)?;
    let seed = options.seed.unwrap_or(work.seed());
    let null = match options.cut {
        Cut::Null => Some(random_write(target, model, options.n_null, seed, work)?),
        Cut::At(_) => None,
    };
    let mut found = Vec::new();
    let mut cuts = JsonMap::new();
    for (name, origin) in &given {
        let right = Targets::written(origin, model, work)?;
        let absolute = options.absolute.unwrap_or(target.signed() || origin.signed());
        let (best, outcome) = nearest(&written, &positions, &right, 1, absolute, work)?;
        let (targets, origins) = (("features", |i: usize| target.id_of(positions[i])), (*name, |j| origin.id_of(j)));
        note_non_finite("origin_scores", &outcome, targets, origins, work);
        let cut = match (&null, options.cut) {
            (_, Cut::At(cosine)) => cosine,
            (Some(null), Cut::Null) => chance(null, &right, absolute, 1.0 - options.fpr, work)?,
            (None, Cut::Null) => return Err(Error::internal("a cut by the null without a null")),
        };
        cuts.insert((*name).into(), json!(cut));
        found.push((*name, *origin, best.iter().map(|list| first(list, absolute)).collect::<Vec<_>>(), cut));
    }
    let group = |row: usize| {
        let reached = found.iter().filter(|(_, _, best, cut)| best[row].1 >= *cut);
        let names: Vec<String> = reached.map(|(name, ..)| name.to_uppercase()).collect();
        if names.is_empty() { "nowhere".to_string() } else { names.join("&") }
    };
    let mut dictionaries = vec![("dictionary", target)];
    dictionaries.extend(given.iter().copied());
    let record = provenance("origin_scores", model, &dictionaries, options.canonical()).with("cuts", cuts).with("seed", seed);
    let mut table = Table::new(record).with("feature", ids(target, &positions))?;
    table = with_labels(table, target, &positions)?;
    for (name, _, best, _) in &found {
        table = table.with(&format!("s_{name}"), best.iter().map(|(_, score)| *score).collect::<Vec<f64>>())?;
    }
    for (name, origin, best, _) in &found {
        table = table.with(&format!("id_{name}"), best.iter().map(|(id, _)| origin.id_of(*id)).collect::<Vec<usize>>())?;
    }
    table.with("group", (0..positions.len()).map(group).collect::<Vec<String>>())
}

/// The write directions of random directions like those of a dictionary.
pub(super) fn random_write(like: &Dictionary, model: &Model, n: usize, seed: u64, work: &Work) -> Result<Directions> {
    let options = RandomOptions { n: Some(n), seed: Some(seed), ..RandomOptions::default() };
    random_directions(like, Some(model), &options, work)?.write(model, work)
}

/// The quantile `q` of the best cosines of random directions with a dictionary's.
pub(super) fn chance(null: &Directions, with: &Targets, absolute: bool, q: f64, work: &Work) -> Result<f64> {
    let everything: Vec<usize> = (0..null.len()).collect();
    let (best, _) = nearest(null, &everything, with, 1, absolute, work)?;
    let scores: Vec<f64> = best.iter().map(|list| first(list, absolute).1).collect();
    Ok(quantile(&sorted_finite(&scores), q))
}

/// Position and score of the best match, by magnitude under `absolute`.
fn first(list: &[Scored], absolute: bool) -> (usize, f64) {
    list.first().map_or((0, f64::NAN), |best| {
        let score = f64::from(best.score);
        (best.id as usize, if absolute { score.abs() } else { score })
    })
}

/// Directions of a dictionary that others are compared with.
pub(super) struct Targets {
    directions: Directions,
    norms: Arc<Norms>,
}

/// The norms of a dictionary's directions, kept with the model as long as the dictionary's address tells it from others.
struct Norms {
    all: Arc<[f64]>,
    _of: Weak<dyn Any + Send + Sync>,
}

impl Targets {
    /// Those that it writes.
    pub(super) fn written(dictionary: &Dictionary, model: &Model, work: &Work) -> Result<Self> {
        Self::new(dictionary, ("write", dictionary.write(model, work)?), model, work)
    }

    /// Those that it reads.
    fn read(dictionary: &Dictionary, model: &Model, work: &Work) -> Result<Self> {
        Self::new(dictionary, ("read", dictionary.read(model, work)?), model, work)
    }

    fn new(dictionary: &Dictionary, (end, directions): (&str, Directions), model: &Model, work: &Work) -> Result<Self> {
        let norms = model.kept().get_or_make(&format!("norms, {end} of {}", dictionary.address()), || {
            let (first, rows) = (directions.rows.narrow(0, 0..1)?, &directions.rows);
            let product = Product { b_gain: directions.gain.clone(), ..Product::new(first, rows.t()) };
            Ok(Norms { all: product.column_norms(work)?.into(), _of: dictionary.place() })
        })?;
        Ok(Targets { directions, norms })
    }
}

/// The `k` rows of `b` with the highest cosine for each of the rows of `a`, falling, ties by position; under `absolute` by
/// |cosine|, the cosines signed. Also what else is known of the cosines, without the lists.
fn nearest(
    a: &Directions,
    positions: &[usize],
    b: &Targets,
    k: usize,
    absolute: bool,
    work: &Work,
) -> Result<(Vec<Vec<Scored>>, Outcome)> {
    let product = Product {
        rows: Some(positions.to_vec()),
        gain: a.gain.clone(),
        b_gain: b.directions.gain.clone(),
        b_norms: Some(Arc::clone(&b.norms.all)),
        cosine: true,
        top: k,
        bottom: if absolute { k } else { 0 },
        shape: false,
        label: "matching features".into(),
        ..Product::new(a.rows.clone(), b.directions.rows.t())
    };
    let by_magnitude = |mut list: Vec<Scored>| {
        list.sort_by(|x, y| y.score.abs().total_cmp(&x.score.abs()).then(x.id.cmp(&y.id)));
        // Of fewer than 2k columns some stand in both lists.
        list.dedup_by_key(|found| found.id);
        list.truncate(k);
        list
    };
    let mut outcome = product.run(work)?;
    let list = |row: RowStats| match absolute {
        true => by_magnitude([row.top, row.bottom].concat()),
        false => row.top,
    };
    Ok((std::mem::take(&mut outcome.rows).into_iter().map(list).collect(), outcome))
}
