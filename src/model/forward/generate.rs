//! Text continued token by token: greedy, or drawn with a temperature and a nucleus (top-p), from a seed; steering on the way.

use super::{Edit, Hook, KvCache, Logits, Op, Request};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{OptionMap, Options};
use crate::random::Random;
use crate::tensor::Tensor;
use crate::work::Work;

crate::options! {
    /// Options of `generate`.
    pub struct GenerateOptions {
        /// New tokens at most; the text ends sooner where the model ends it.
        max_tokens: usize = 50,
        /// 0: the likeliest token each time; otherwise logits are divided by it and a token is drawn.
        temperature: f64 = 0.0,
        /// Tokens are drawn from the fewest whose probabilities sum to at least this.
        top_p: f64 = 1.0,
        /// Of the draws; without one, the session's.
        seed: Option<u64> = None,
        /// Directions added at every position: `#{hook, direction, strength: 1.0}` each.
        steer: Vec<OptionMap> = Vec::new(),
    }
}

crate::options! {
    /// One direction of `steer`.
    pub struct SteerOptions {
        /// Where it is added, by TransformerLens's name.
        hook: String = String::new(),
        /// A vector as wide as the hook.
        direction: Option<Tensor> = None,
        /// What the direction is multiplied by.
        strength: f64 = 1.0,
    }
}

/// The tokens that continue `prompt`, the token that ended the text (if one did) left out.
///
/// # Errors
/// An empty prompt, a prompt longer than the model's context, a temperature below 0, a nucleus outside (0, 1], a
/// steering direction that does not fit, or the user's interruption.
pub fn generate(model: &Model, prompt: &[usize], options: &GenerateOptions, work: &Work) -> Result<Vec<usize>> {
    let GenerateOptions { max_tokens, temperature, top_p, .. } = *options;
    if !(temperature >= 0.0 && temperature.is_finite()) {
        return Err(Error::input(format!("`temperature` is a number from 0, not {temperature}")));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(Error::input(format!("`top_p` is above 0 and at most 1, not {top_p}")));
    }
    if let Some(n_ctx) = model.cfg().n_ctx.filter(|n_ctx| prompt.len() > *n_ctx) {
        let n = prompt.len();
        return Err(Error::input(format!("a prompt of {n} tokens is longer than the model's context of {n_ctx}"))
            .help("give the end of it"));
    }
    let room = model.cfg().n_ctx.map_or(max_tokens, |n_ctx| max_tokens.min((n_ctx + 1).saturating_sub(prompt.len())));
    if room < max_tokens {
        work.note(&format!("note: the model's context has room for {room} of the {max_tokens} tokens asked for"));
    }
    let request = Request { edits: steering(model, &options.steer)?, logits: Logits::Last, ..Request::default() };
    let forward = model.forward(work)?;
    let mut random = Random::new(options.seed.unwrap_or_else(|| work.seed()));
    let mut cache = KvCache::default();
    let mut text = Vec::new();
    let mut next = prompt.to_vec();
    let progress = work.begin("generating", room as u64);
    while text.len() < room {
        let Some(logits) = forward.extend(&next, &mut cache, &request, work)?.logits else { break };
        let token = choose(&logits.to_f32(), temperature, top_p, random.uniform());
        if model.cfg().end_tokens.contains(&token) {
            break;
        }
        text.push(token);
        next = vec![token];
        progress.advance(1);
    }
    Ok(text)
}

fn steering(model: &Model, steer: &[OptionMap]) -> Result<Vec<Edit>> {
    let one = |map: &OptionMap| {
        let SteerOptions { hook, direction, strength } = SteerOptions::parse(map)?;
        let missing = |what: &str| Error::input(format!("it has no `{what}`")).help("each is #{hook, direction, strength}");
        if hook.is_empty() {
            return Err(missing("hook"));
        }
        let direction = direction.ok_or_else(|| missing("direction"))?;
        if !strength.is_finite() || !(strength as f32).is_finite() {
            return Err(Error::input(format!("a strength of {strength} is beyond the numbers of the model")));
        }
        let added: Vec<f32> = direction.to_f32().iter().map(|v| v * strength as f32).collect();
        let added = Tensor::from_f32(added, direction.shape())?;
        Ok(Edit { hook: Hook::parse(&hook, model.cfg())?, op: Op::Add(added), positions: None, head: None })
    };
    let named = |(i, map)| one(map).map_err(|e| e.context(format!("`steer`, entry {i}")));
    steer.iter().enumerate().map(named).collect()
}

/// A token by its logits; `draw` lies in [0, 1). Ties go to the smaller id.
fn choose(logits: &[f32], temperature: f64, top_p: f64, draw: f64) -> usize {
    let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
    if temperature == 0.0 {
        return best;
    }
    let top = f64::from(logits[best]);
    let weight = |id: usize| libm::exp((f64::from(logits[id]) - top) / temperature);
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    let total: f64 = ids.iter().map(|id| weight(*id)).sum();
    let mut kept = 0.0;
    let nucleus = ids.iter().position(|id| {
        kept += weight(*id);
        kept >= top_p * total
    });
    ids.truncate(nucleus.map_or(ids.len(), |last| last + 1));
    let mut left = draw * ids.iter().map(|id| weight(*id)).sum::<f64>();
    for id in &ids {
        left -= weight(*id);
        if left < 0.0 {
            return *id;
        }
    }
    ids.last().copied().unwrap_or(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_temperature_and_nucleus() {
        // p = 1/2, 1/4, 1/4 at temperature 1; squared and scaled at temperature 1/2: 2/3, 1/6, 1/6.
        let logits = [0.25f32.ln(), 0.5f32.ln(), 0.25f32.ln()];
        let at = |temperature, top_p, draw| choose(&logits, temperature, top_p, draw);
        assert_eq!(at(0.0, 1.0, 0.99), 1);
        assert_eq!([at(1.0, 1.0, 0.49), at(1.0, 1.0, 0.51), at(1.0, 1.0, 0.76)], [1, 0, 2]);
        assert_eq!([at(0.5, 1.0, 0.66), at(0.5, 1.0, 0.67), at(0.5, 1.0, 0.84)], [1, 0, 2]);
        // A nucleus of 0.6 holds the first two by probability and id.
        assert_eq!([at(1.0, 0.6, 0.66), at(1.0, 0.6, 0.67), at(1.0, 0.6, 0.999)], [1, 0, 0]);
        assert_eq!(at(1.0, 0.5, 0.999), 1);
    }
}
