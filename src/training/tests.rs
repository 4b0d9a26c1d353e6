//! Training on activations whose true directions are known, and each claim of the room against a plain computation.

use super::gradient::{Auxiliary, Sparsity, gradient};
use super::*;
use crate::dictionary::{Precision, SaeOptions, load_sae, save_sae};
use crate::random::Random;

const D: usize = 24;
const TRUE: usize = 40;
const LATENTS: usize = 96;
/// Tokens of a sequence, the first of which is BOS.
const LEN: usize = 33;

/// Sparse sums of random unit directions beside a constant, and an outlier at first positions.
struct Synthetic {
    directions: Vec<Vec<f32>>,
    sequences: u64,
    next: u64,
    sites: usize,
    /// Sequences after which the source fails, as a killed process would.
    fails: Option<u64>,
    read: u64,
    nan_at: Option<u64>,
}

fn unit(random: &mut Random, d: usize) -> Vec<f32> {
    let v = random.normals(d);
    let norm = v.iter().map(|v| v * v).sum::<f32>().sqrt();
    v.into_iter().map(|v| v / norm).collect()
}

fn synthetic(sequences: u64) -> Synthetic {
    let mut random = Random::new(11);
    let directions = (0..TRUE).map(|_| unit(&mut random, D)).collect();
    Synthetic { directions, sequences, next: 0, sites: 1, fails: None, read: 0, nan_at: None }
}

impl Synthetic {
    fn sequence(&self, number: u64, site: usize) -> Vec<f32> {
        let mut random = Random::stream(77, number * 8 + site as u64);
        let mut out = Vec::with_capacity(LEN * D);
        for position in 0..LEN {
            let mut row: Vec<f32> =
                (0..D).map(|i| 0.3 * (i as f32 * 0.7).cos() + if position == 0 { 500.0 } else { 0.0 }).collect();
            for _ in 0..3 {
                let size = 2.0 + 2.0 * random.uniform() as f32;
                let direction = &self.directions[random.below(TRUE)];
                row.iter_mut().zip(direction).for_each(|(v, u)| *v += size * u);
            }
            out.extend(row);
        }
        if self.nan_at == Some(number) {
            out[5 * D + 7] = f32::NAN;
        }
        out
    }
}

impl Activations for Synthetic {
    fn next(&mut self, _: &Work) -> Result<Option<Chunk>> {
        if self.next >= self.sequences {
            return Ok(None);
        }
        if self.fails.is_some_and(|fails| self.read >= fails) {
            return Err(Error::internal("killed"));
        }
        let numbers = self.next..(self.next + 5).min(self.sequences);
        let rows = LEN * (numbers.end - numbers.start) as usize;
        let sites = (0..self.sites).map(|site| {
            let values = numbers.clone().flat_map(|number| self.sequence(number, site)).collect();
            Tensor::from_f32(values, &[rows, D])
        });
        let sites = sites.collect::<Result<_>>()?;
        self.read += numbers.end - numbers.start;
        let chunk = Chunk { sites, firsts: (0..rows).step_by(LEN).collect() };
        self.next = numbers.end;
        Ok(Some(chunk))
    }
    fn position(&self) -> u64 {
        self.next
    }
    fn seek(&mut self, position: u64) -> Result<()> {
        self.next = position;
        Ok(())
    }
    fn describe(&self) -> Map<String, Json> {
        Map::from_iter([("model_name".to_string(), json!("synthetic")), ("context_size".to_string(), json!(LEN))])
    }
}

fn options(arch: Arch) -> TrainOptions {
    TrainOptions {
        d_sae: Some(LATENTS),
        arch,
        k: 3,
        steps: 300,
        batch: 256,
        lr: Some(4e-3),
        buffer: 4096,
        seed: Some(5),
        ..TrainOptions::default()
    }
}

fn trained(options: &TrainOptions, source: &mut dyn Activations) -> Result<Dictionary> {
    let jobs = [Job::new("blocks.1.hook_resid_post", options)];
    Ok(train(&jobs, source, options, &Work::silent(2)?)?.remove(0))
}

/// Share of the true directions that some decoder row has a cosine of more than 0.9 with.
fn recovered(dictionary: &Dictionary, source: &Synthetic) -> f64 {
    let rows = dictionary.w_dec().to_f32();
    let cosine = |row: &[f32], u: &[f32]| row.iter().zip(u).map(|(a, b)| a * b).sum::<f32>() / norm(row);
    let found = |u: &&Vec<f32>| rows.chunks_exact(D).any(|row| cosine(row, u) > 0.9);
    source.directions.iter().filter(found).count() as f64 / TRUE as f64
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|v| v * v).sum::<f32>().sqrt()
}

fn bits(dictionary: &Dictionary) -> Vec<u32> {
    let parts = [dictionary.w_enc(), Some(dictionary.w_dec()), dictionary.b_enc(), dictionary.b_dec(), dictionary.threshold()];
    parts.into_iter().flatten().flat_map(|t| t.to_f32()).map(f32::to_bits).collect()
}

#[test]
fn every_kind_recovers_the_true_directions() {
    let work = Work::silent(2).unwrap();
    for (arch, share) in [(Arch::TopK, 0.9), (Arch::BatchTopK, 0.9), (Arch::Relu, 0.9), (Arch::JumpRelu, 0.8)] {
        let options = TrainOptions { l1_coefficient: 0.8, l0_coefficient: 0.3, bandwidth: 0.3, threshold: 0.1, ..options(arch) };
        let mut source = synthetic(3000);
        let dictionary = trained(&options, &mut source).unwrap();
        let found = recovered(&dictionary, &source);
        let figures = evaluate(std::slice::from_ref(&dictionary), &mut synthetic(60), None, None, true, &work).unwrap();
        println!("{arch:?}: {found} {:?}", figures[0].to_json());
        assert!(found >= share, "{arch:?}: {found}");
        assert!(figures[0].explained_variance > 0.8 && figures[0].l0 < 12.0, "{arch:?}: {:?}", figures[0].to_json());
        for row in dictionary.w_dec().to_f32().chunks_exact(D) {
            assert!((norm(row) - 1.0).abs() < 1e-5, "{arch:?}: a decoder row has norm {}", norm(row));
        }
    }
}

#[test]
fn a_resumed_run_gives_the_bits_of_one_that_was_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    for arch in [Arch::TopK, Arch::BatchTopK, Arch::Relu, Arch::JumpRelu] {
        let path = folder.path().join(arch.name()).display().to_string();
        // The texts end within the run, and dead latents are resampled in it.
        let whole = TrainOptions { steps: 60, buffer: 2048, dead_after: Some(2000), resample_every: Some(7), ..options(arch) };
        let jobs =
            |options: &TrainOptions| ["blocks.1.hook_resid_post", "blocks.2.hook_mlp_out"].map(|hook| Job::new(hook, options));
        let two = || Synthetic { sites: 2, ..synthetic(200) };
        let run = |options: &TrainOptions, source: &mut Synthetic, threads| {
            train(&jobs(options), source, options, &Work::silent(threads).unwrap())
        };
        let expected = run(&whole, &mut two(), 1).unwrap();
        let stored = TrainOptions { checkpoint: Some(path.clone()), checkpoint_every: 8, resume: true, ..whole.clone() };
        let mut killed = Synthetic { fails: Some(330), ..two() };
        assert_eq!(run(&stored, &mut killed, 2).unwrap_err().message(), "killed");
        let mut rest = two();
        let resumed = run(&stored, &mut rest, 2).unwrap();
        assert!(rest.read < 330, "the run began anew: {} sequences were read", rest.read);
        for (resumed, expected) in resumed.iter().zip(&expected) {
            assert_eq!(bits(resumed), bits(expected), "{arch:?}");
        }
        // What is trained beside it does not matter.
        let alone = trained(&whole, &mut synthetic(200)).unwrap();
        assert_eq!(bits(&alone), bits(&expected[0]), "{arch:?}");

        let other = TrainOptions { batch: 128, ..stored.clone() };
        let message = run(&other, &mut two(), 1).unwrap_err().message().to_string();
        assert!(message.contains("`batch` was 256, and is 128 now"), "{message}");
    }
}

#[test]
fn the_scale_is_folded_exactly() {
    let mut random = Random::new(3);
    let weights = Weights {
        w_enc: random.normals(LATENTS * D),
        b_enc: random.normals(LATENTS),
        w_dec: random.normals(LATENTS * D),
        b_dec: random.normals(D),
        threshold: random.normals(LATENTS).iter().map(|v| v.abs()).collect(),
    };
    let x = random.normals(D);
    // f(x) and x̂ in f64, by the formula.
    let run = |weights: &Weights, scale: f64| {
        let mut out: Vec<f64> = weights.b_dec.iter().map(|b| f64::from(*b)).collect();
        let mut acts = Vec::new();
        for j in 0..LATENTS {
            let centred = x.iter().zip(&weights.b_dec).map(|(v, b)| scale * f64::from(*v) - f64::from(*b));
            let row = weights.w_enc[j * D..][..D].iter();
            let pre = centred.zip(row).map(|(v, w)| v * f64::from(*w)).sum::<f64>() + f64::from(weights.b_enc[j]);
            let act = if pre > f64::from(weights.threshold[j]) { pre } else { 0.0 };
            acts.push(act);
            out.iter_mut().zip(&weights.w_dec[j * D..][..D]).for_each(|(v, w)| *v += act * f64::from(*w));
        }
        (acts, out)
    };
    let scale = 0.37;
    let (acts, out) = run(&weights, scale);
    let (folded_acts, folded_out) = run(&folded(weights.clone(), scale), 1.0);
    for (a, b) in acts.iter().zip(folded_acts).chain(out.iter().zip(folded_out)) {
        assert!((a / scale - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} {b}");
    }
    assert!(acts.iter().filter(|a| **a > 0.0).count() > 10);
}

/// The auxiliary loss as `loss` computes it: the dead latents that take part in each row, the residual, the weight.
type Revival<'a> = (&'a [Vec<usize>], &'a [f64], f64);

/// The loss by its formula in f64, with the latents that are active (and those of the auxiliary loss) held fixed.
fn loss(weights: &Weights, x: &[f32], sparsity: Sparsity, auxiliary: Option<Revival>) -> f64 {
    let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let (w_enc, w_dec, b_dec) = (wide(&weights.w_enc), wide(&weights.w_dec), wide(&weights.b_dec));
    let (m, rows) = (weights.b_enc.len(), x.len() / D);
    let mut all = Vec::new();
    for row in x.chunks_exact(D) {
        let pre = |j: usize| {
            let terms = row.iter().zip(&b_dec).zip(&w_enc[j * D..][..D]).map(|((v, b), w)| (f64::from(*v) - b) * w);
            terms.sum::<f64>() + f64::from(weights.b_enc[j])
        };
        all.push((0..m).map(pre).collect::<Vec<f64>>());
    }
    let cut = match sparsity {
        Sparsity::BatchTopK { k } => {
            let mut values = all.concat();
            values.sort_by(|a, b| b.total_cmp(a));
            values[k * rows - 1]
        }
        _ => 0.0,
    };
    let mut total = 0.0;
    for (r, (row, pre)) in x.chunks_exact(D).zip(&all).enumerate() {
        let mut sorted = pre.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let active = |j: usize| match sparsity {
            Sparsity::Relu { .. } => pre[j] > 0.0,
            Sparsity::TopK { k } => pre[j] >= sorted[k - 1] && pre[j] > 0.0,
            Sparsity::BatchTopK { .. } => pre[j] >= cut && pre[j] > 0.0,
            Sparsity::JumpRelu { .. } => pre[j] > f64::from(weights.threshold[j]),
        };
        let mut out = b_dec.clone();
        for j in (0..m).filter(|j| active(*j)) {
            out.iter_mut().zip(&w_dec[j * D..][..D]).for_each(|(v, w)| *v += pre[j] * w);
            total += match sparsity {
                Sparsity::Relu { l1 } => l1 * pre[j],
                Sparsity::JumpRelu { l0, .. } => l0,
                _ => 0.0,
            };
        }
        total += row.iter().zip(&out).map(|(v, o)| (f64::from(*v) - o).powi(2)).sum::<f64>();
        if let Some((latents, targets, coefficient)) = auxiliary {
            let mut rest: Vec<f64> = targets[r * D..][..D].to_vec();
            for j in &latents[r] {
                rest.iter_mut().zip(&w_dec[j * D..][..D]).for_each(|(v, w)| *v -= pre[*j] * w);
            }
            total += coefficient * rest.iter().map(|v| v * v).sum::<f64>();
        }
    }
    total / rows as f64
}

fn some_weights(threshold: bool) -> (Weights, Vec<f32>) {
    let mut random = Random::new(21);
    let m = 37;
    let directions = |random: &mut Random| (0..m).flat_map(|_| unit(random, D)).collect::<Vec<f32>>();
    let weights = Weights {
        w_enc: directions(&mut random),
        b_enc: random.normals(m).iter().map(|v| 0.1 * v).collect(),
        w_dec: directions(&mut random),
        b_dec: random.normals(D).iter().map(|v| 0.1 * v).collect(),
        threshold: if threshold { random.normals(m).iter().map(|v| 0.5 + 0.1 * v).collect() } else { Vec::new() },
    };
    (weights, random.normals(150 * D))
}

/// The gradient along a random change of one kind of weights, by central differences in f64.
#[test]
fn gradients_are_those_of_the_formula() {
    let work = Work::silent(2).unwrap();
    let kinds = [
        Sparsity::Relu { l1: 0.3 },
        Sparsity::TopK { k: 5 },
        Sparsity::BatchTopK { k: 5 },
        Sparsity::JumpRelu { l0: 0.2, bandwidth: 0.1 },
    ];
    for sparsity in kinds {
        let (weights, x) = some_weights(matches!(sparsity, Sparsity::JumpRelu { .. }));
        let outcome = gradient(&weights, &x, sparsity, None, &work).unwrap();
        let expected = loss(&weights, &x, sparsity, None);
        assert!((outcome.loss - expected).abs() < 1e-4 * expected, "{sparsity:?}: {} {expected}", outcome.loss);
        let mut random = Random::new(5);
        for part in 0..4 {
            let pick = |w: &Weights| [w.w_enc.clone(), w.b_enc.clone(), w.w_dec.clone(), w.b_dec.clone()][part].clone();
            let mut change = random.normals(pick(&weights).len());
            if part == 2 {
                // The gradient of W_dec is the part that leaves norms as they are.
                for (c, w) in change.chunks_exact_mut(D).zip(weights.w_dec.chunks_exact(D)) {
                    let along: f32 = c.iter().zip(w).map(|(c, w)| c * w).sum();
                    c.iter_mut().zip(w).for_each(|(c, w)| *c -= along * w);
                }
            }
            let moved = |by: f32| {
                let mut moved = weights.clone();
                let values = match part {
                    0 => &mut moved.w_enc,
                    1 => &mut moved.b_enc,
                    2 => &mut moved.w_dec,
                    _ => &mut moved.b_dec,
                };
                values.iter_mut().zip(&change).for_each(|(v, c)| *v += by * c);
                loss(&moved, &x, sparsity, None)
            };
            // So small a step changes the set of active latents in no row (the loss would jump).
            let by = if matches!(sparsity, Sparsity::Relu { .. }) { 1e-4 } else { 2e-6 };
            let expected = (moved(by) - moved(-by)) / (2.0 * f64::from(by));
            let along: f64 = pick(&outcome.gradient).iter().zip(&change).map(|(g, c)| f64::from(*g) * f64::from(*c)).sum();
            let size = f64::from(norm(&pick(&outcome.gradient))) * f64::from(norm(&change));
            assert!((along - expected).abs() < 0.02 * size, "{sparsity:?}, part {part}: {along} {expected} of {size}");
        }
    }
}

#[test]
fn the_gradient_of_a_threshold_is_the_straight_through_estimate() {
    let work = Work::silent(1).unwrap();
    let (weights, x) = some_weights(true);
    let (l0, bandwidth) = (0.2, 0.3f32);
    let outcome = gradient(&weights, &x, Sparsity::JumpRelu { l0, bandwidth }, None, &work).unwrap();
    let (m, rows) = (weights.b_enc.len(), x.len() / D);
    let mut expected = vec![0f64; m];
    let mut window = 0;
    for row in x.chunks_exact(D) {
        let pre: Vec<f32> = (0..m)
            .map(|j| {
                let terms = row.iter().zip(&weights.b_dec).zip(&weights.w_enc[j * D..][..D]).map(|((v, b), w)| (v - b) * w);
                terms.sum::<f32>() + weights.b_enc[j]
            })
            .collect();
        let mut error: Vec<f32> = weights.b_dec.iter().zip(row).map(|(b, v)| b - v).collect();
        for j in (0..m).filter(|j| pre[*j] > weights.threshold[*j]) {
            error.iter_mut().zip(&weights.w_dec[j * D..][..D]).for_each(|(e, w)| *e += pre[j] * w);
        }
        for j in (0..m).filter(|j| (pre[*j] - weights.threshold[*j]).abs() < bandwidth / 2.0) {
            // ∂loss/∂f_j = 2 (x̂ − x)·d_j / rows; equations 11 and 12 of arXiv 2407.14435.
            let by_value = 2.0 * error.iter().zip(&weights.w_dec[j * D..][..D]).map(|(e, w)| e * w).sum::<f32>() / rows as f32;
            expected[j] -= f64::from(weights.threshold[j] / bandwidth * by_value) + l0 / rows as f64 / f64::from(bandwidth);
            window += 1;
        }
    }
    assert!(window > 100);
    for (found, expected) in outcome.gradient.threshold.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
    }
}

#[test]
fn dead_latents_learn_what_the_others_miss() {
    let work = Work::silent(2).unwrap();
    let (weights, x) = some_weights(false);
    let (sparsity, dead, k, coefficient) = (Sparsity::TopK { k: 4 }, [3usize, 8, 20, 21, 30], 2, 0.25);
    let plain = gradient(&weights, &x, sparsity, None, &work).unwrap();
    let with = gradient(&weights, &x, sparsity, Some(Auxiliary { latents: &dead, k, coefficient }), &work).unwrap();
    // The latents and targets of the auxiliary loss, by the plain formula.
    let (mut chosen, mut targets) = (Vec::new(), Vec::new());
    for row in x.chunks_exact(D) {
        let pre = |j: usize| -> f32 {
            let terms = row.iter().zip(&weights.b_dec).zip(&weights.w_enc[j * D..][..D]).map(|((v, b), w)| (v - b) * w);
            terms.sum::<f32>() + weights.b_enc[j]
        };
        let order = |mut latents: Vec<usize>, k: usize| {
            latents.sort_by(|a, b| pre(*b).total_cmp(&pre(*a)));
            latents.truncate(k);
            latents.into_iter().filter(|j| pre(*j) > 0.0).collect::<Vec<_>>()
        };
        chosen.push(order(dead.to_vec(), k));
        let mut rest: Vec<f64> = row.iter().zip(&weights.b_dec).map(|(v, b)| f64::from(*v - *b)).collect();
        for j in order((0..weights.b_enc.len()).collect(), 4) {
            rest.iter_mut().zip(&weights.w_dec[j * D..][..D]).for_each(|(v, w)| *v -= f64::from(pre(j) * w));
        }
        targets.extend(rest);
    }
    let of = |weights: &Weights| loss(weights, &x, sparsity, Some((&chosen, &targets, coefficient)));
    assert!((with.loss - of(&weights)).abs() < 1e-4 * with.loss);
    let mut random = Random::new(6);
    for part in 0..2 {
        let extra = |w: &super::gradient::Outcome| if part == 0 { w.gradient.w_enc.clone() } else { w.gradient.b_enc.clone() };
        let (with, plain) = (extra(&with), extra(&plain));
        let change = random.normals(with.len());
        let moved = |by: f32| {
            let mut moved = weights.clone();
            let values = if part == 0 { &mut moved.w_enc } else { &mut moved.b_enc };
            values.iter_mut().zip(&change).for_each(|(v, c)| *v += by * c);
            of(&moved) - loss(&moved, &x, sparsity, None)
        };
        let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
        let along: f64 = with.iter().zip(&plain).zip(&change).map(|((w, p), c)| f64::from(w - p) * f64::from(*c)).sum();
        assert!((along - expected).abs() < 1e-2 * expected.abs().max(0.1), "part {part}: {along} {expected}");
    }
}

#[test]
fn figures_agree_with_a_plain_computation() {
    let work = Work::silent(2).unwrap();
    let options = TrainOptions { steps: 20, ..options(Arch::TopK) };
    let dictionary = trained(&options, &mut synthetic(400)).unwrap();
    let source = synthetic(7);
    let rows: Vec<f32> = (0..7).flat_map(|n| source.sequence(n, 0)[D..].to_vec()).collect();
    let (w_enc, w_dec) = (dictionary.w_enc().unwrap().t().to_f64(), dictionary.w_dec().to_f64());
    let (b_enc, b_dec) = (dictionary.b_enc().unwrap().to_f64(), dictionary.b_dec().unwrap().to_f64());
    let n = rows.len() / D;
    let mean: Vec<f64> = (0..D).map(|i| rows.iter().skip(i).step_by(D).map(|v| f64::from(*v)).sum::<f64>() / n as f64).collect();
    let (mut errors, mut variance, mut active, mut fired) = (0.0, 0.0, 0, vec![0usize; LATENTS]);
    for row in rows.chunks_exact(D) {
        let pre: Vec<f64> = (0..LATENTS)
            .map(|j| (0..D).map(|i| (f64::from(row[i]) - b_dec[i]) * w_enc[j * D + i]).sum::<f64>() + b_enc[j])
            .collect();
        let mut order: Vec<usize> = (0..LATENTS).collect();
        order.sort_by(|a, b| pre[*b].total_cmp(&pre[*a]));
        let mut out = b_dec.clone();
        for j in order[..3].iter().filter(|j| pre[**j] > 0.0) {
            (0..D).for_each(|i| out[i] += pre[*j] * w_dec[j * D + i]);
            active += 1;
            fired[*j] += 1;
        }
        errors += (0..D).map(|i| (f64::from(row[i]) - out[i]).powi(2)).sum::<f64>();
        variance += (0..D).map(|i| (f64::from(row[i]) - mean[i]).powi(2)).sum::<f64>();
    }
    let figures = evaluate(&[dictionary], &mut synthetic(7), None, None, true, &work).unwrap().remove(0);
    assert_eq!(figures.tokens, n);
    assert_eq!(figures.l0, f64::from(active) / n as f64);
    assert!((figures.explained_variance - (1.0 - errors / variance)).abs() < 1e-4);
    assert!((figures.mse - errors / (n * D) as f64).abs() < 1e-4 * figures.mse);
    assert_eq!(figures.dead_share, fired.iter().filter(|f| **f == 0).count() as f64 / LATENTS as f64);
    assert!(figures.dead_share > 0.0, "nothing was measured");
}

/// A model whose loss is known: the mean square of what stands at the site.
struct Known(Tensor);

impl Splice for Known {
    fn cross_entropy(&mut self, site: usize, patch: &Patch, work: &Work) -> Result<f64> {
        assert_eq!(site, 0);
        let put = match patch {
            Patch::Clean => self.0.clone(),
            Patch::Reconstructed(sae) => sae.reconstruct(&self.0, work)?,
            Patch::Zero => Tensor::from_f32(vec![0.0; self.0.numel()], self.0.shape())?,
        };
        let pairs = put.to_f32().into_iter().zip(self.0.to_f32());
        Ok(2.0 + pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>())
    }

    fn tokens(&self) -> usize {
        self.0.shape()[0]
    }
}

#[test]
fn cross_entropy_recovered_lies_between_zeros_and_the_model_itself() {
    let work = Work::silent(1).unwrap();
    let dictionary = trained(&TrainOptions { steps: 100, ..options(Arch::TopK) }, &mut synthetic(900)).unwrap();
    let x = Tensor::from_f32(synthetic(1).sequence(999, 0)[D..].to_vec(), &[LEN - 1, D]).unwrap();
    let out = dictionary.reconstruct(&x, &work).unwrap().to_f64();
    let squares = |other: &[f64]| x.to_f64().iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let expected = 1.0 - squares(&out) / squares(&vec![0.0; x.numel()]);
    let figures = evaluate(&[dictionary], &mut synthetic(3), Some(&mut Known(x)), None, true, &work).unwrap().remove(0);
    let cross_entropy = figures.cross_entropy.unwrap();
    assert_eq!(cross_entropy.clean, 2.0);
    assert!((cross_entropy.recovered() - expected).abs() < 1e-5, "{} {expected}", cross_entropy.recovered());
    assert_eq!(figures.to_json()["ce_recovered"], json!(cross_entropy.recovered()));
}

#[test]
fn what_is_saved_is_loaded() {
    let work = Work::silent(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let x = Tensor::from_f32(synthetic(1).sequence(5, 0)[D..].to_vec(), &[LEN - 1, D]).unwrap();
    for arch in [Arch::TopK, Arch::BatchTopK, Arch::Relu] {
        let dictionary = trained(&TrainOptions { steps: 60, ..options(arch) }, &mut synthetic(600)).unwrap();
        let figures = evaluate(std::slice::from_ref(&dictionary), &mut synthetic(9), None, None, true, &work).unwrap().remove(0);
        let whole = dictionary.with_metadata("figures", figures.to_json()).with_density(figures.density).unwrap();
        let path = folder.path().join(arch.name());
        save_sae(&whole, &path, Precision::F32, &work).unwrap();
        let load = || load_sae(&path.display().to_string(), None, &SaeOptions::default(), &work).unwrap();
        let loaded = load();
        assert_eq!(bits(&loaded), bits(&dictionary), "{arch:?}");
        assert_eq!((loaded.activation(), loaded.hook()), (dictionary.activation(), "blocks.1.hook_resid_post"));
        assert_eq!(loaded.encode(&x, &work).unwrap().to_f32(), dictionary.encode(&x, &work).unwrap().to_f32());
        let metadata = &loaded.cfg()["metadata"];
        assert_eq!(metadata["figures"]["l0"], json!(figures.l0));
        assert_eq!((&metadata["model_name"], &metadata["training"]["batch"]), (&json!("synthetic"), &json!(256)));
        for (stored, density) in loaded.density().unwrap().iter().zip(whole.density().unwrap()) {
            assert!((stored - density).abs() < 1e-5);
        }

        save_sae(&whole, &path, Precision::BF16, &work).unwrap();
        let rounded = load();
        let nearest: Vec<f32> = dictionary.w_dec().to_f32().iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect();
        assert_eq!(rounded.w_dec().to_f32(), nearest);
        assert_eq!(rounded.w_dec().dtype().name(), "bf16");
    }
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let refusal = |options: TrainOptions, source: &mut Synthetic| trained(&options, source).unwrap_err().to_string();
    let usual = || options(Arch::TopK);
    let message = refusal(usual(), &mut Synthetic { nan_at: Some(2), ..synthetic(100) });
    assert!(
        message.starts_with("blocks.1.hook_resid_post: an activation is NaN: position 71 of its chunk, dimension 7"),
        "{message}"
    );
    let message = refusal(usual(), &mut synthetic(3));
    assert!(message.contains("the texts give 96 activations, fewer than a batch of 256"), "{message}");
    let message = refusal(usual(), &mut synthetic(0));
    assert!(message.contains("the texts give 0 activations"), "{message}");
    let message = refusal(TrainOptions { k: LATENTS + 1, ..usual() }, &mut synthetic(100));
    assert!(message.contains("`k` must be from 1 to d_sae = 96, not 97"), "{message}");
    let message = refusal(TrainOptions { lr: Some(f64::NAN), ..usual() }, &mut synthetic(100));
    assert!(message.contains("`lr` must be more than 0, not NaN"), "{message}");
    let message = refusal(TrainOptions { lr: Some(1e30), lr_warmup: Some(0), ..usual() }, &mut synthetic(100));
    assert!(message.contains("diverged"), "{message}");
    let message = refusal(TrainOptions { resume: true, ..usual() }, &mut synthetic(100));
    assert!(message.contains("`resume` needs a `checkpoint`"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken");
    std::fs::write(&path, b"not a checkpoint").unwrap();
    let broken = TrainOptions { resume: true, checkpoint: Some(path.display().to_string()), ..usual() };
    assert!(refusal(broken, &mut synthetic(100)).contains("broken"));
}

#[test]
fn a_training_can_be_cancelled() {
    let work = Work::silent(1).unwrap();
    work.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    let jobs = [Job::new("blocks.1.hook_resid_post", &options(Arch::TopK))];
    assert!(train(&jobs, &mut synthetic(100), &options(Arch::TopK), &work).unwrap_err().is_interrupted());
}
