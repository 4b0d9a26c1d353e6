//! Feature chains with the library: for a few features of a layer, the best match in each later layer, as long as it is closer
//! than random directions come (Laptev et al. 2025). Run it with `cargo run --release --example feature_chains`.

use saerepl::analysis::{MatchOptions, TokenOptions, match_features, unembed};
use saerepl::dictionary::{Dictionary, RandomOptions, SaeOptions, load_sae, random_directions};
use saerepl::error::Result;
use saerepl::model::{Model, ModelOptions};
use saerepl::options::Ids;
use saerepl::sample::{quantile, sorted_finite};
use saerepl::work::Work;

/// Features that are followed, of the first layer.
const FOLLOWED: usize = 8;

/// Prints one chain a line.
pub fn main() -> Result<()> {
    let work = Work::silent(0)?;
    let model = Model::load("demo", &ModelOptions::default(), &work)?;
    let sae = |layer| load_sae("demo", Some(&format!("saes/blocks.{layer}.hook_resid_post")), &SaeOptions::default(), &work);
    let stack = (0..model.cfg().n_layers).map(sae).collect::<Result<Vec<_>>>()?;

    for feature in 0..FOLLOWED {
        let mut chain = vec![format!("0/{feature} {:?}", tokens(&stack[0], &model, feature, &work)?)];
        let mut at = feature;
        for (layer, pair) in stack.windows(2).enumerate() {
            let (next, cosine) = best(&pair[0], &pair[1], &model, Some(at), &work)?[0];
            if cosine < chance(&pair[0], &pair[1], &model, &work)? {
                break;
            }
            chain.push(format!("{}/{next} {:?} ({cosine:.2})", layer + 1, tokens(&pair[1], &model, next, &work)?));
            at = next;
        }
        println!("{}", chain.join(" → "));
    }
    Ok(())
}

/// The best match of one feature, or of all, with its cosine.
fn best(from: &Dictionary, to: &Dictionary, model: &Model, one: Option<usize>, work: &Work) -> Result<Vec<(usize, f64)>> {
    let features = one.map(|id| Ids::List(vec![id as i64]));
    let found = match_features(from, to, model, &MatchOptions { features, ..MatchOptions::default() }, work)?;
    let numbers = |name: &str| Ok(found.column(name)?.numbers().unwrap_or_default());
    Ok(numbers("target")?.into_iter().map(|id| id as usize).zip(numbers("cosine")?).collect())
}

/// The best cosine with `to` that 99 % of random directions like those of `from` stay below.
fn chance(from: &Dictionary, to: &Dictionary, model: &Model, work: &Work) -> Result<f64> {
    let options = RandomOptions { n: Some(1000), seed: Some(1), ..RandomOptions::default() };
    let random = random_directions(from, Some(model), &options, work)?;
    let cosines: Vec<f64> = best(&random, to, model, None, work)?.into_iter().map(|(_, cosine)| cosine.abs()).collect();
    Ok(quantile(&sorted_finite(&cosines), 0.99))
}

/// The three tokens that a feature raises most.
fn tokens(dictionary: &Dictionary, model: &Model, feature: usize, work: &Work) -> Result<Vec<String>> {
    let options = TokenOptions { k: 3, features: Some(Ids::List(vec![feature as i64])), ..TokenOptions::default() };
    let top = unembed(dictionary, model, &options, work)?.top(feature)?;
    Ok(top.into_iter().map(|token| token.token).collect())
}
