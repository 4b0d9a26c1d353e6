//! Exact quantiles, with linear interpolation between neighbouring order statistics (numpy's default).
//!
//! Of a row: the scores are at hand, so a guess brackets the quantile, one pass counts what is below and collects what
//! is inside, and a selection among those few finishes; a wrong guess costs a wider bracket, never the result.
//!
//! Of all pairs: the scores are too many to keep. A sample brackets each order statistic; one pass over the product
//! counts what is below the bracket and fills a histogram of it; a second one collects the scores of the one bin that
//! holds the order statistic. Where a bracket misses or a bin holds too many, further passes refine the histogram, whose
//! bins are ranges of an order-preserving integer key of f32, until a bin is a single value. Memory: `BINS` counters
//! and at most `COLLECTED` scores for all order statistics together. Who is content with a bin's width does without the second pass.

use super::simd;
use super::stream::{Fold, Scores, lock};
use crate::error::{Error, Result};
use crate::work::Work;
use pulp::{Arch, Simd, WithSimd};
use std::array;
use std::ops::Range;
use std::sync::Mutex;

/// Where a quantile lies among n sorted values: the two neighbouring ranks and the share of the way to the second.
fn ranks(q: f64, n: u64) -> (u64, u64, f64) {
    let at = q * (n - 1) as f64;
    let low = at.floor();
    (low as u64, (low as u64 + 1).min(n - 1), at - low)
}

/// numpy's interpolation, which is exact at both ends and monotonic.
fn interpolate(a: f32, b: f32, share: f64) -> f64 {
    let (a, b) = (f64::from(a), f64::from(b));
    if share >= 0.5 { b - (b - a) * (1.0 - share) } else { a + (b - a) * share }
}

// ---- of a row ------------------------------------------------------------------------------------------------------------

/// Guesses where a quantile lies, from where it lay in earlier rows, in standard deviations from the row's mean. They
/// decide how long the search takes, not what it finds.
#[derive(Clone, Copy)]
struct Guess {
    place: f64,
    /// Half the width of the bracket.
    reach: f64,
}

/// What blocks of rows tell each other. Which block was last does not matter to what is found.
#[derive(Default)]
pub(super) struct Guesses(Mutex<Vec<Option<Guess>>>);

/// Finds the quantiles of rows.
pub(super) struct Finder {
    quantiles: Vec<f64>,
    guesses: Vec<Option<Guess>>,
    /// Two quantiles are looked for at a time, so that the scores are read once.
    candidates: [Vec<f32>; 2],
    fewer: Vec<f32>,
}

/// Where a row lies: its mean, standard deviation and extremes.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub mean: f64,
    pub std: f64,
    pub min: f32,
    pub max: f32,
}

impl Finder {
    /// So many candidates are selected from directly.
    const FEW: usize = 24;

    pub(super) fn new(quantiles: &[f64], guesses: &Guesses) -> Self {
        let mut guesses = lock(&guesses.0).clone();
        guesses.resize(quantiles.len(), None);
        Finder { quantiles: quantiles.to_vec(), guesses, candidates: Default::default(), fewer: Vec::new() }
    }

    /// Leaves its guesses to other blocks.
    pub(super) fn leave(self, guesses: &Guesses) {
        *lock(&guesses.0) = self.guesses;
    }

    /// The quantiles of a row of finite scores; NaN if it is empty.
    #[inline(always)]
    pub(super) fn find<S: Simd>(&mut self, simd: S, row: &[f32], spread: Spread) -> Vec<f64> {
        let count = self.quantiles.len();
        if row.is_empty() {
            return vec![f64::NAN; count];
        }
        let mut values = Vec::with_capacity(count);
        for i in (0..count).step_by(2) {
            let first = self.bracket(i, spread);
            if i + 1 < count {
                let ranges = [first, self.bracket(i + 1, spread)];
                let counted = simd::between(simd, row, ranges, &mut self.candidates);
                for k in 0..2 {
                    values.push(self.settle(simd, row, spread, (i + k, k), ranges[k], counted[k]));
                }
            } else {
                let [counted] = simd::between(simd, row, [first], array::from_mut(&mut self.candidates[0]));
                values.push(self.settle(simd, row, spread, (i, 0), first, counted));
            }
        }
        values
    }

    /// Where quantile `i` of a row probably lies.
    fn bracket(&self, i: usize, spread: Spread) -> (f32, f32) {
        match self.guesses[i] {
            Some(Guess { place, reach }) if spread.std > 0.0 => {
                (((place - reach) * spread.std + spread.mean) as f32, ((place + reach) * spread.std + spread.mean) as f32)
            }
            _ => (spread.min, spread.max),
        }
    }

    /// Quantile `i`, whose candidates stand in `slot`: the scores in `lo..=hi`, and how many are below and in it. A bracket
    /// that misses is widened until it does not.
    #[inline(always)]
    fn settle<S: Simd>(
        &mut self,
        simd: S,
        row: &[f32],
        spread: Spread,
        (i, slot): (usize, usize),
        (mut lo, mut hi): (f32, f32),
        (mut below, mut count): (usize, usize),
    ) -> f64 {
        let (low, high, share) = ranks(self.quantiles[i], row.len() as u64);
        let (low, high) = (low as usize, high as usize);
        let mut width = f64::from(hi) - f64::from(lo);
        while !(below <= low && high < below + count) && (lo > spread.min || hi < spread.max) {
            width = (4.0 * width).max(0.01 * spread.std);
            if below > low {
                lo = (f64::from(lo) - width) as f32;
            }
            if high >= below + count {
                hi = (f64::from(hi) + width) as f32;
            }
            [(below, count)] = simd::between(simd, row, [(lo, hi)], array::from_mut(&mut self.candidates[slot]));
        }
        let within = (lo.max(spread.min), hi.min(spread.max));
        let (a, b) = self.neighbours(simd, slot, count, within, low - below, high - below);
        let value = interpolate(a, b, share);
        if spread.std > 0.0 {
            let guess = self.guesses[i];
            let place = (value - spread.mean) / spread.std;
            let error = guess.map_or(0.05, |g| (place - g.place).abs());
            let reach = guess.map_or(0.2, |g| 0.8 * g.reach + 0.2 * (4.0 * error)).clamp(1e-3, 1e3);
            self.guesses[i] = Some(Guess { place: guess.map_or(place, |g| 0.75 * g.place + 0.25 * place), reach });
        }
        value
    }

    /// The order statistics of two neighbouring ranks among the first `count` candidates, which lie within `lo..=hi`.
    #[inline(always)]
    fn neighbours<S: Simd>(
        &mut self,
        simd: S,
        slot: usize,
        mut count: usize,
        (lo, hi): (f32, f32),
        mut low: usize,
        mut high: usize,
    ) -> (f32, f32) {
        let (mut lo, mut hi) = (f64::from(lo), f64::from(hi));
        // Candidates of a narrow bracket are nearly uniform there: the place of the rank is known to a few times √count.
        while count > Self::FEW {
            let step = (hi - lo) / count as f64;
            let reach = (1.5 * (count as f64).sqrt() + 2.0) * step;
            let centre = lo + (low as f64 + 1.0) * step;
            let (from, to) = ((centre - reach).max(lo), (centre + reach).min(hi));
            let range = (from as f32, to as f32);
            let few = array::from_mut(&mut self.fewer);
            let [(below, inside)] = simd::between(simd, &self.candidates[slot][..count], [range], few);
            if below > low || high >= below + inside || inside == count {
                break;
            }
            std::mem::swap(&mut self.candidates[slot], &mut self.fewer);
            (count, low, high, lo, hi) = (inside, low - below, high - below, from, to);
        }
        let (_, a, above) = self.candidates[slot][..count].select_nth_unstable_by(low, f32::total_cmp);
        let a = *a;
        let b = if high > low { above.iter().copied().min_by(f32::total_cmp).unwrap_or(a) } else { a };
        (a, b)
    }
}

// ---- of all pairs ---------------------------------------------------------------------------------------------------------

/// Bins of the histogram of a bracket.
const BINS: usize = 1024;
/// Scores that are collected at a time, for all order statistics together (32 MiB).
const COLLECTED: u64 = 1 << 23;

/// Bytes that the search for so many quantiles of `scores` scores takes: what is collected of a bin, of which a bracket of
/// twice the margin has [`BINS`], and the bins of each block of rows.
pub(super) fn memory(quantiles: usize, scores: usize, blocks: usize) -> usize {
    let collected = (quantiles as f64 * scores as f64 * 2.0 * MARGIN / BINS as f64).min(COLLECTED as f64) as usize;
    2 * size_of::<f32>() * collected + quantiles * size_of::<u64>() * BINS * blocks
}
/// Share of the sample by which a bracket reaches to either side.
const MARGIN: f64 = 0.02;

/// f32 as an integer with the same order; -0 counts as 0.
fn key(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn from_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// Keys of all finite scores.
const FINITE: (u32, u32) = (!f32::MIN.to_bits(), f32::MAX.to_bits() | 1 << 31);

/// A range of keys, both ends included, and what is to be done with the scores in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Probe {
    range: (u32, u32),
    collect: bool,
}

impl Probe {
    /// The range in scores.
    fn scores(&self) -> (f32, f32) {
        (from_key(self.range.0), from_key(self.range.1))
    }

    /// Right shift that brings the range into [`BINS`] bins.
    fn shift(&self) -> u32 {
        (32 - (self.range.1 - self.range.0).leading_zeros()).saturating_sub(BINS.ilog2())
    }
}

/// What a pass found in the range of a probe: the scores themselves where they are collected, else how many there are.
#[derive(Clone, Default)]
pub(super) struct Found {
    below: u64,
    bins: Vec<u64>,
    scores: Vec<f32>,
}

impl Found {
    /// Adds a run of which `counted` scores are below and in the range; those in it stand first among `inside`.
    #[inline(always)]
    fn count(&mut self, probe: &Probe, counted: (usize, usize), inside: &[f32]) {
        self.below += counted.0 as u64;
        let ((lo, hi), shift) = (probe.range, probe.shift());
        let bins = &mut self.bins[..BINS];
        for key in inside[..counted.1].iter().map(|x| key(*x)) {
            // A bracket that ends with the key of -0 lets 0 in.
            if key <= hi {
                bins[((key - lo) >> shift) as usize & (BINS - 1)] += 1;
            }
        }
    }
}

/// One pass of the search, and the part of it that a block of rows fills.
pub(super) struct Probes {
    probes: Vec<Probe>,
    found: Mutex<Vec<Found>>,
}

impl Probes {
    fn new(probes: Vec<Probe>) -> Self {
        let found = Mutex::new(vec![Found::default(); probes.len()]);
        Probes { probes, found }
    }

    /// What a block starts with.
    pub(super) fn begin(&self) -> Vec<Found> {
        let empty = |p: &Probe| Found { bins: vec![0; if p.collect { 0 } else { BINS }], ..Found::default() };
        self.probes.iter().map(empty).collect()
    }

    /// Counts a run; `finite` says that all its scores are.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&self, simd: S, found: &mut [Found], run: &[f32], finite: bool, scratch: &mut [Vec<f32>; 2]) {
        let cleaned: Vec<f32>;
        let run = if finite {
            run
        } else {
            cleaned = run.iter().copied().filter(|x| x.is_finite()).collect();
            &cleaned
        };
        for (probes, found) in self.probes.chunks(2).zip(found.chunks_mut(2)) {
            match (probes, found) {
                ([a, b], [for_a, for_b]) => Self::pair(simd, [a, b], [for_a, for_b], run, scratch),
                (probes, found) => {
                    for (probe, found) in probes.iter().zip(found) {
                        Self::one(simd, probe, found, run, &mut scratch[0]);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn pair<S: Simd>(simd: S, probes: [&Probe; 2], found: [&mut Found; 2], run: &[f32], scratch: &mut [Vec<f32>; 2]) {
        let ([a, b], [for_a, for_b]) = (probes, found);
        let ranges = [a.scores(), b.scores()];
        match (a.collect, b.collect) {
            (true, true) => simd::within(simd, run, ranges, |k, x| [&mut *for_a, &mut *for_b][k].scores.push(x)),
            (false, false) => {
                let counted = simd::between(simd, run, ranges, scratch);
                for_a.count(a, counted[0], &scratch[0]);
                for_b.count(b, counted[1], &scratch[1]);
            }
            _ => {
                Self::one(simd, a, for_a, run, &mut scratch[0]);
                Self::one(simd, b, for_b, run, &mut scratch[0]);
            }
        }
    }

    #[inline(always)]
    fn one<S: Simd>(simd: S, probe: &Probe, found: &mut Found, run: &[f32], scratch: &mut Vec<f32>) {
        if probe.collect {
            simd::within(simd, run, [probe.scores()], |_, x| found.scores.push(x));
        } else {
            let [counted] = simd::between(simd, run, [probe.scores()], array::from_mut(scratch));
            found.count(probe, counted, scratch);
        }
    }

    /// Adds what a block found. The order of blocks does not matter: counts are added, collected scores are sorted later.
    pub(super) fn end(&self, block: &mut Vec<Found>) {
        for (all, part) in lock(&self.found).iter_mut().zip(block.drain(..)) {
            all.below += part.below;
            all.bins.resize(part.bins.len(), 0);
            all.bins.iter_mut().zip(part.bins).for_each(|(a, p)| *a += p);
            all.scores.extend(part.scores);
        }
    }
}

/// The search for one order statistic.
struct Target {
    rank: u64,
    probe: Probe,
    /// It lies in the range of the probe.
    bracketed: bool,
    /// How many scores are below the range, once it is one bin.
    below: u64,
    value: Option<f32>,
}

/// The search for quantiles of all pairs.
pub(super) struct Hunt {
    quantiles: Vec<f64>,
    /// Brackets from the sample, one for each quantile.
    brackets: Vec<(u32, u32)>,
    targets: Vec<Target>,
    /// Whether a bin that holds the order statistic is not enough.
    exact: bool,
    /// The least and the largest score.
    extremes: (f32, f32),
}

impl Hunt {
    /// So many collected scores take too long to choose from to be waited for.
    const LONG: usize = 1 << 20;

    /// Brackets each quantile by a sample of finite scores. Unless it is to be `exact`, the search ends where a bin of the
    /// bracket is known to hold the order statistic.
    pub(super) fn new(quantiles: &[f64], sample: impl Iterator<Item = f32>, exact: bool) -> Self {
        let mut sample: Vec<u32> = sample.map(key).collect();
        let n = sample.len();
        let (least, largest) = sample.iter().fold((f64::MAX, f64::MIN), |(least, largest), k| {
            let x = f64::from(from_key(*k));
            (least.min(x), largest.max(x))
        });
        // Bins of a bracket that ends with the largest number would be as wide as the score itself.
        let beyond = |x: f64| key(x.clamp(f32::MIN.into(), f32::MAX.into()) as f32);
        let ends = match n {
            0 => FINITE,
            _ => (beyond(least - (largest - least)), beyond(largest + (largest - least))),
        };
        let margin = (MARGIN * n as f64) as usize + 8;
        // Sorting the sample would take longer than the passes of a small product; a few selections do not.
        let mut at = |rank: usize| *sample.select_nth_unstable(rank).1;
        let mut bracket = |q: &f64| {
            let rank = (q * n as f64) as usize;
            let lo = rank.checked_sub(margin).map_or(ends.0, &mut at);
            let hi = if rank + margin < n { at(rank + margin) } else { ends.1 };
            (lo, hi)
        };
        let brackets = quantiles.iter().map(&mut bracket).collect();
        Hunt { quantiles: quantiles.to_vec(), brackets, targets: Vec::new(), exact, extremes: (f32::NAN, f32::NAN) }
    }

    /// The probes of the first pass, which may run before the number of finite scores is known.
    pub(super) fn first(&self) -> Probes {
        Probes::new(distinct(self.brackets.iter().map(|range| Probe { range: *range, collect: false })))
    }

    /// Takes what the first pass found among `n` finite scores between these extremes.
    pub(super) fn begin(mut self, n: u64, (least, largest): (f32, f32), pass: Probes, work: &Work) -> Result<Self> {
        self.extremes = (least, largest);
        if n > 0 {
            for (q, range) in self.quantiles.iter().zip(&self.brackets) {
                let (low, high, _) = ranks(*q, n);
                let probe = Probe { range: *range, collect: false };
                self.targets.extend([low, high].map(|rank| {
                    let value = if rank == 0 { Some(least) } else { (rank == n - 1).then_some(largest) };
                    Target { rank, probe, bracketed: false, below: 0, value }
                }));
            }
        }
        self.take(pass, work)
    }

    /// The probes of the next pass, if one is needed.
    pub(super) fn open(&self) -> Option<Probes> {
        let unknown = |t: &&Target| t.value.is_none() && (self.exact || !t.bracketed);
        let open = distinct(self.targets.iter().filter(unknown).map(|t| t.probe));
        (!open.is_empty()).then(|| Probes::new(open))
    }

    /// Takes what a pass found.
    pub(super) fn take(mut self, pass: Probes, work: &Work) -> Result<Self> {
        let mut found = pass.found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let most = COLLECTED / self.targets.len().max(1) as u64;
        let long = found.iter().any(|part| part.scores.len() > Self::LONG);
        let narrowed = move || {
            for target in self.targets.iter_mut().filter(|t| t.value.is_none()) {
                if let Some(i) = pass.probes.iter().position(|p| *p == target.probe) {
                    target.narrow(&mut found[i], most);
                }
            }
            Ok(self)
        };
        if long { work.detached(|_| narrowed()) } else { narrowed() }
    }

    /// The quantiles, and how far each may be off; NaN where there are no finite scores.
    pub(super) fn finish(&self, n: u64) -> (Vec<f64>, Vec<f64>) {
        if n == 0 {
            return self.quantiles.iter().map(|_| (f64::NAN, f64::NAN)).unzip();
        }
        let bounds = |target: &Target| match target.value {
            Some(value) => [value, value],
            None => {
                let (lo, hi) = target.probe.scores();
                [lo.max(self.extremes.0), hi.min(self.extremes.1)]
            }
        };
        let value = |(q, pair): (&f64, &[Target])| {
            let (low, high, share) = (bounds(&pair[0]), bounds(&pair[1]), ranks(*q, n).2);
            let [lo, hi] = [0, 1].map(|end| interpolate(low[end], high[end], share));
            if lo == hi { (lo, 0.0) } else { (0.5 * (lo + hi), 0.5 * (hi - lo)) }
        };
        self.quantiles.iter().zip(self.targets.chunks_exact(2)).map(value).unzip()
    }
}

impl Target {
    /// Narrows the range by what was found in it, or widens it if the order statistic is not there. Of a range that holds `most`
    /// scores at most they are collected next.
    fn narrow(&mut self, found: &mut Found, most: u64) {
        let (lo, hi) = self.probe.range;
        if self.probe.collect {
            let at = self.rank.checked_sub(self.below).map(|i| i as usize).filter(|i| *i < found.scores.len());
            self.value = at.map(|i| *found.scores.select_nth_unstable_by(i, f32::total_cmp).1);
            return;
        }
        if self.rank < found.below {
            self.probe.range = (FINITE.0, lo);
            return;
        }
        let mut before = found.below;
        for (bin, count) in found.bins.iter().enumerate() {
            if self.rank < before + count {
                let shift = self.probe.shift();
                let start = lo + ((bin as u32) << shift);
                let end = (u64::from(start) + (1u64 << shift) - 1).min(u64::from(hi)) as u32;
                self.probe = Probe { range: (start, end), collect: *count <= most };
                (self.bracketed, self.below) = (true, before);
                if start == end {
                    self.value = Some(from_key(start));
                }
                return;
            }
            before += count;
        }
        self.probe.range = (hi, FINITE.1);
    }
}

fn distinct(probes: impl Iterator<Item = Probe>) -> Vec<Probe> {
    let mut out = Vec::new();
    for probe in probes {
        if !out.contains(&probe) {
            out.push(probe);
        }
    }
    out
}

/// A pass over the product that does nothing but answer probes.
pub(super) struct Pass<'a> {
    /// What is looked for.
    pub probes: &'a Probes,
    /// Whether magnitudes are meant.
    pub absolute: bool,
    /// Instructions to use.
    pub arch: Arch,
}

impl Fold for Pass<'_> {
    type State = Vec<Found>;

    fn begin(&self, _: Range<usize>) -> Vec<Found> {
        self.probes.begin()
    }

    fn tile(&self, state: &mut Vec<Found>, scores: Scores<'_>) {
        self.arch.dispatch(PassTile { pass: self, state, scores });
    }

    fn end(&self, state: &mut Vec<Found>, _: Scores<'_>) -> Result<()> {
        self.probes.end(state);
        Ok(())
    }
}

struct PassTile<'a> {
    pass: &'a Pass<'a>,
    state: &'a mut Vec<Found>,
    scores: Scores<'a>,
}

impl WithSimd for PassTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut scratch = Default::default();
        for i in 0..self.scores.rows.len() {
            let row = self.scores.row(i);
            if self.pass.absolute {
                simd::abs(simd, row);
            }
            let finite = simd::finite(simd, row);
            self.pass.probes.add(simd, self.state, row, finite, &mut scratch);
        }
    }
}

/// Passes of a search at most: its ranges shrink by [`BINS`] each time, so that a few are enough where scores stay as they are.
const PASSES: usize = 16;

/// Runs passes until every quantile is found.
///
/// # Errors
/// Those of `pass`; also scores that are not the same in each pass, so that the search misses what it bracketed.
pub(super) fn finish(
    mut hunt: Hunt,
    n: u64,
    work: &Work,
    mut pass: impl FnMut(&Probes) -> Result<()>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut passes = 0;
    while let Some(probes) = hunt.open() {
        if passes == PASSES {
            return Err(Error::internal(format!("quantiles over all pairs are not found in {PASSES} passes"))
                .help("a device whose scores differ from pass to pass cannot find them; `--device cpu` does"));
        }
        passes += 1;
        pass(&probes)?;
        hunt = hunt.take(probes, work)?;
    }
    Ok(hunt.finish(n))
}
