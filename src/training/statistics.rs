//! How often and how strongly the features of a dictionary fire on texts.

use super::evaluate::read_through;
use super::source::Activations;
use crate::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::options::{Json, Options};
use crate::provenance::Provenance;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use std::ops::Range;

crate::options! {
    /// Options of [`activation_stats`].
    pub struct StatsOptions {
        /// Positions that are read at most.
        max_tokens: usize = 1 << 17,
        /// Leave out the first position of each sequence, whose activations are unlike all others.
        skip_bos: bool = true,
        /// Tokens of a sequence.
        context: usize = 128,
    }
}

/// Activations that are held at once.
const HELD: usize = 1 << 24;

#[derive(Clone, Copy, Default)]
struct Sums {
    fired: u64,
    activation: f64,
    largest: f64,
    share: f64,
}

/// A row for each feature: `feature density mean_act max_act mean_share`. Density: the share of positions at which it is not 0.
/// The others are over the positions at which it fires, in the units of the format's own code: mean and largest |activation|, and
/// the mean share ‖a_i d_i‖ / ‖x‖ of the vector x that stands at the hook it writes. All are 0 for a feature that never fires.
///
/// `source` gives what stands at the dictionary's hook, and after it at the hook that it writes where that is another one.
///
/// # Errors
/// No encoder, a source of other hooks, no activations, or the user's interruption.
pub fn activation_stats(
    dictionary: &Dictionary,
    source: &mut dyn Activations,
    options: &StatsOptions,
    work: &Work,
) -> Result<Table> {
    let hooks = stat_hooks(dictionary);
    if dictionary.w_enc().is_none() {
        return Err(Error::input(format!("{} has no encoder: it does not fire", dictionary.name())));
    }
    if dictionary.is_neurons() {
        let hook = dictionary.hook();
        return Err(Error::input(format!("{} fires as {hook} says, not by an encoder", dictionary.name()))
            .help(format!("`model.run(text, #{{hooks: [\"{hook}\"]}})` gives the activations of neurons")));
    }
    let widths = [dictionary.d_in(), dictionary.d_out()][..hooks.len()].to_vec();
    let n = dictionary.n();
    let lengths = dictionary.reconstructed_norms(work)?;
    let mut sums = vec![Sums::default(); n];
    let mut positions = 0;
    let step = (HELD / n.max(1)).max(1);
    let result = read_through(source, &hooks, widths, Some(options.max_tokens), options.skip_bos, work, |sites| {
        let rows = sites[0].shape()[0];
        for start in (0..rows).step_by(step) {
            work.check()?;
            add(dictionary, sites, start..(start + step).min(rows), &lengths, &mut sums, work)?;
        }
        positions += rows;
        Ok(())
    });
    result.map_err(|e| e.context(format!("activation_stats of {}", dictionary.name())))?;
    let column = |pick: &dyn Fn(&Sums) -> f64| sums.iter().map(pick).collect::<Vec<f64>>();
    let mean = |sum: f64, fired: u64| if fired > 0 { sum / fired as f64 } else { 0.0 };
    let record = Provenance::new("activation_stats")
        .with("dictionary", dictionary.id())
        .with("texts", Json::Object(source.describe()))
        .with("positions", positions)
        .with("options", options.canonical());
    Table::new(record)
        .with("feature", dictionary.ids())?
        .with("density", column(&|s| s.fired as f64 / positions as f64))?
        .with("mean_act", column(&|s| mean(s.activation, s.fired)))?
        .with("max_act", column(&|s| s.largest))?
        .with("mean_share", column(&|s| mean(s.share, s.fired)))
}

/// The hooks that [`activation_stats`] needs of its source.
pub fn stat_hooks(dictionary: &Dictionary) -> Vec<String> {
    let mut hooks = vec![dictionary.hook().to_string()];
    if dictionary.hook_out() != dictionary.hook() {
        hooks.push(dictionary.hook_out().to_string());
    }
    hooks
}

fn add(
    dictionary: &Dictionary,
    sites: &[Tensor],
    rows: Range<usize>,
    lengths: &[f64],
    sums: &mut [Sums],
    work: &Work,
) -> Result<()> {
    let part = |site: &Tensor| site.narrow(0, rows.clone());
    let (activations, scales) = dictionary.encode_scaled(&part(&sites[0])?, work)?;
    let written = part(&sites[sites.len() - 1])?;
    let (activations, written, width) = (activations.f32_cow(), written.f32_cow(), dictionary.d_out());
    for ((row, x), scale) in activations.chunks_exact(sums.len()).zip(written.chunks_exact(width)).zip(scales) {
        let length = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        for ((value, sum), unit) in row.iter().zip(sums.iter_mut()).zip(lengths).filter(|((value, _), _)| **value != 0.0) {
            let size = f64::from(*value).abs();
            sum.fired += 1;
            sum.activation += size;
            sum.largest = sum.largest.max(size);
            sum.share += if length > 0.0 { size * unit * scale / length } else { 0.0 };
        }
    }
    Ok(())
}
