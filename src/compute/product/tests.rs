//! Against numpy and scipy (tests/reference/compute.py), and against sorting the scores themselves.

use super::*;
use crate::error::Kind;
use crate::tensor::{Block, Bytes, DType};
use crate::work::{Progress, Sink, Steps};
use half::{bf16, f16};
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::sync::Arc;

fn work(threads: usize) -> Work {
    Work::silent(threads).unwrap()
}

/// Products by candle, on the CPU: what every device goes through.
fn on_device(threads: usize) -> Work {
    let work = work(threads);
    work.use_device(candle_core::Device::Cpu).unwrap();
    work
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_f32((0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect(), shape).unwrap()
}

#[test]
fn skewness_and_kurtosis_are_made_where_they_are_asked_for() {
    let product = Product { cols: true, absolute: true, ..Product::new(random(&[5, 3], 1), random(&[3, 40], 2)) };
    let (with, without) = (product.run(&work(1)).unwrap(), Product { shape: false, ..product }.run(&work(1)).unwrap());
    let moments = |o: &Outcome| -> Vec<Moments> {
        o.rows.iter().map(|r| r.moments).chain(o.cols.iter().map(|c| c.moments)).chain([o.all.moments]).collect()
    };
    for (with, without) in moments(&with).into_iter().zip(moments(&without)) {
        assert!(with.skewness.is_finite() && with.kurtosis.is_finite());
        assert!(without.skewness.is_nan() && without.kurtosis.is_nan());
        assert_eq!((with.mean, with.std, with.max), (without.mean, without.std, without.max));
    }
}

// ---- against numpy -------------------------------------------------------------------------------------------------------

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        Value::Bool(b) => vec![f64::from(u8::from(*b))],
        other => vec![other.as_f64().unwrap_or(f64::NAN)],
    }
}

fn tensor(value: &Value) -> Tensor {
    let rows = value.as_array().unwrap().len();
    let data: Vec<f32> = numbers(value).into_iter().map(|v| v as f32).collect();
    let cols = data.len() / rows;
    Tensor::from_f32(data, &[rows, cols]).unwrap()
}

fn close(what: &str, ours: impl IntoIterator<Item = f64>, expected: &Value, tolerance: f64) {
    let (ours, expected) = (ours.into_iter().collect::<Vec<_>>(), numbers(expected));
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (x, y)) in ours.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance * (1.0 + y.abs()), "{what} {i}: {x} is not {y}");
    }
}

fn compare_moments<'a>(all: impl Iterator<Item = (&'a Moments, &'a [f64])> + Clone, expected: &Value, tolerance: f64) {
    let field = |f: fn(&Moments) -> f64| all.clone().map(move |(m, _)| f(m));
    close("mean", field(|m| m.mean), &expected["mean"], tolerance);
    close("std", field(|m| m.std), &expected["std"], tolerance);
    close("skewness", field(|m| m.skewness), &expected["skewness"], 5.0 * tolerance);
    close("kurtosis", field(|m| m.kurtosis), &expected["kurtosis"], 5.0 * tolerance);
    close("min", field(|m| m.min), &expected["min"], tolerance);
    close("max", field(|m| m.max), &expected["max"], tolerance);
    close("quantiles", all.flat_map(|(_, q)| q.iter().copied()), &expected["quantiles"], tolerance);
}

/// Runs the product with everything asked for and compares all of it. `exact`: scores have no rounding error, so that
/// lists agree even where scores are equal.
fn compare(product: Product, all: &Value, name: &str, exact: bool, work: &Work) {
    let expected = &all[name];
    let quantiles = numbers(&all["quantiles"]);
    let product = Product {
        top: 5,
        bottom: 5,
        row_quantiles: quantiles.clone(),
        col_quantiles: quantiles.clone(),
        all_quantiles: quantiles,
        cols: true,
        softmax: true,
        softmax_negative: true,
        pairs: 10,
        ..product
    };
    let out = product.run(work).unwrap();
    let tolerance = if exact { 1e-6 } else { 4e-6 };
    compare_moments(out.rows.iter().map(|r| (&r.moments, r.quantiles.as_slice())), &expected["rows"], tolerance);
    compare_moments(out.cols.iter().map(|c| (&c.moments, c.quantiles.as_slice())), &expected["cols"], tolerance);
    compare_moments([(&out.all.moments, out.all.quantiles.as_slice())].into_iter(), &expected["all"], tolerance);
    let softmax = |f: fn(&RowSoftmax) -> f64| out.rows.iter().map(move |r| f(r.softmax.as_ref().unwrap()));
    close("log_sum_exp", softmax(|s| s.log_sum_exp), &expected["log_sum_exp"], 2e-6);
    close("entropy", softmax(|s| s.entropy), &expected["entropy"], 4e-6);
    close("top1", softmax(|s| s.top1), &expected["top1"], 2e-6);
    close("top5", softmax(|s| s.top5), &expected["top5"], 2e-6);
    let negative = out.rows.iter().map(|r| r.softmax_negative.unwrap().entropy);
    close("entropy_negative", negative, &expected["entropy_negative"], 4e-6);
    close("mean_weight", out.cols.iter().map(|c| c.softmax.unwrap().mean_weight), &expected["mean_weight"], 2e-6);
    close("max_weight", out.cols.iter().map(|c| c.softmax.unwrap().max_weight), &expected["max_weight"], 2e-6);
    close("pair scores", out.pairs.iter().map(|p| f64::from(p.score)), &pick(&expected["pairs"], 2), tolerance);
    if exact {
        let ids = |list: fn(&RowStats) -> &[Scored]| out.rows.iter().flat_map(list).map(|s| f64::from(s.id)).collect::<Vec<_>>();
        assert_eq!(ids(|r| &r.top), numbers(&expected["top"]));
        assert_eq!(ids(|r| &r.bottom), numbers(&expected["bottom"]));
        assert_eq!(out.pairs.iter().map(|p| p.row as f64).collect::<Vec<_>>(), numbers(&pick(&expected["pairs"], 0)));
        assert_eq!(out.pairs.iter().map(|p| p.col as f64).collect::<Vec<_>>(), numbers(&pick(&expected["pairs"], 1)));
    }
    assert_eq!(out.non_finite, 0);
}

fn pick(rows: &Value, i: usize) -> Value {
    rows.as_array().unwrap().iter().map(|row| row[i].clone()).collect()
}

#[test]
fn agrees_with_numpy_and_scipy() {
    let all: Value = serde_json::from_str(include_str!("../../../tests/reference/compute.json")).unwrap();
    let all = &all["product"];
    let (a, b, c) = (tensor(&all["a"]), tensor(&all["b"]), tensor(&all["c"]));
    let floats = |name: &str| numbers(&all[name]).into_iter().map(|v| v as f32).collect::<Vec<f32>>();
    let used: Vec<usize> = numbers(&all["used"]).into_iter().map(|v| v as usize).collect();
    let scales = floats("scale");
    let base = Product {
        gain: Some(floats("gain")),
        b_shift: Some(floats("shift")),
        rows: Some(used.clone()),
        ..Product::new(a.clone(), b.clone())
    };

    let mask: Vec<bool> = floats("mask").into_iter().map(|v| v == 1.0).collect();
    let row_scale: Vec<f64> = used.iter().map(|i| f64::from(scales[*i])).collect();
    let scaled = Product { factor: 0.5, row_scale: Some(row_scale), col_mask: Some(mask), ..base.clone() };
    for work in [work(2), on_device(2)] {
        compare(Product::new(a.clone(), b.clone()), all, "plain", true, &work);
        compare(scaled.clone(), all, "scaled", true, &work);
        compare(Product { absolute: true, ..base.clone() }, all, "absolute", true, &work);
        compare(Product { cosine: true, ..base.clone() }, all, "cosine", false, &work);
        let averaged = Product::averaged(a.clone(), vec![b.clone(), c.clone()]);
        compare(Product { softcap: Some(3.0), ..averaged }, all, "averaged", false, &work);
    }
}

// ---- against the scores themselves -----------------------------------------------------------------------------------------

/// Scores by their definition in f64.
fn direct(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let ([n, d], m) = ([a.shape()[0], a.shape()[1]], b.shape()[1]);
    let (a, b) = (a.to_f64(), b.to_f64());
    let mut out = vec![0.0; n * m];
    for i in 0..n {
        for k in 0..d {
            for j in 0..m {
                out[i * m + j] += a[i * d + k] * b[k * m + j];
            }
        }
    }
    out
}

/// numpy's linear interpolation on sorted values.
fn quantile(values: impl Iterator<Item = f32>, q: f64) -> f64 {
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_by(f32::total_cmp);
    interpolated(&sorted, q)
}

fn interpolated(sorted: &[f32], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (a, b) = (f64::from(sorted[at as usize]), f64::from(sorted[(at as usize + 1).min(sorted.len() - 1)]));
    let share = at.fract();
    if share >= 0.5 { b - (b - a) * (1.0 - share) } else { a + (b - a) * share }
}

fn everything(product: Product) -> Product {
    Product {
        top: 7,
        bottom: 3,
        row_quantiles: vec![0.5, 0.75, 0.999],
        col_quantiles: vec![0.5, 0.05],
        all_quantiles: vec![0.5, 0.75, 0.001],
        cols: true,
        softmax: true,
        pairs: 40,
        ..product
    }
}

/// Order statistics, lists and pairs are exactly those of the scores.
fn check_order(product: &Product, out: &Outcome) {
    let scores = product.matrix(&work(1)).unwrap();
    let (n, m) = (scores.shape()[0], scores.shape()[1]);
    let x = scores.as_f32().unwrap();
    for (i, row) in out.rows.iter().enumerate() {
        let line = &x[i * m..(i + 1) * m];
        for (q, value) in product.row_quantiles.iter().zip(&row.quantiles) {
            assert_eq!(*value, quantile(line.iter().copied(), *q), "row {i}, quantile {q}");
        }
        let mut order: Vec<usize> = (0..m).collect();
        order.sort_by(|j, k| line[*k].total_cmp(&line[*j]).then(j.cmp(k)));
        assert_eq!(row.top.iter().map(|s| s.id as usize).collect::<Vec<_>>(), order[..product.top]);
        assert_eq!(
            row.top.iter().map(|s| s.score).collect::<Vec<_>>(),
            order[..product.top].iter().map(|j| line[*j]).collect::<Vec<_>>()
        );
        assert_eq!(row.moments.max, f64::from(line[order[0]]));
        order.sort_by(|j, k| line[*j].total_cmp(&line[*k]).then(j.cmp(k)));
        assert_eq!(row.bottom.iter().map(|s| s.id as usize).collect::<Vec<_>>(), order[..product.bottom]);
    }
    for (j, col) in out.cols.iter().enumerate() {
        let line = || (0..n).map(|i| x[i * m + j]);
        for (q, value) in product.col_quantiles.iter().zip(&col.quantiles) {
            assert_eq!(*value, quantile(line(), *q), "column {j}, quantile {q}");
        }
        assert_eq!(col.moments.max, f64::from(line().fold(f32::MIN, f32::max)));
    }
    for (q, value) in product.all_quantiles.iter().zip(&out.all.quantiles) {
        assert_eq!(*value, quantile(x.iter().copied(), *q), "quantile {q} of all");
    }
    let mut order: Vec<usize> = (0..n * m).collect();
    order.sort_by(|p, q| x[*q].total_cmp(&x[*p]).then(p.cmp(q)));
    let expected: Vec<Pair> = order[..product.pairs].iter().map(|p| Pair { row: p / m, col: p % m, score: x[*p] }).collect();
    assert_eq!(out.pairs, expected);
}

#[test]
fn order_statistics_are_exact_across_tiles_and_both_ways_round() {
    // More rows than a block and more columns than a tile, none a multiple of anything.
    let product = everything(Product::new(random(&[613, 71], 1), random(&[71, 1103], 2)));
    check_order(&product, &product.run(&work(2)).unwrap());
    let product =
        everything(Product { cosine: true, softcap: Some(0.3), ..Product::new(random(&[37, 5], 3), random(&[5, 2050], 4)) });
    check_order(&product, &product.run(&work(2)).unwrap());
    // Columns scored by few rows, and the other way round.
    let product = Product { row_quantiles: vec![0.3], ..everything(Product::new(random(&[2, 9], 5), random(&[9, 70], 6))) };
    check_order(&product, &product.run(&work(2)).unwrap());
}

#[test]
fn long_lists_and_many_pairs_are_those_of_the_sorted_scores() {
    // Longer than what is kept in order, as long as the row, with ties, and over several tiles.
    let coarse = |shape: &[usize], seed| {
        let values = random(shape, seed).to_f32().into_iter().map(|x| (4.0 * x).round()).collect();
        Tensor::from_f32(values, shape).unwrap()
    };
    for k in [64, 65, 700, 1300, 2050] {
        let product = Product::new(coarse(&[40, 5], 71), coarse(&[5, 2050], 72));
        let product = Product { top: k, bottom: k, pairs: 30 * k, ..product };
        check_order(&product, &product.run(&work(2)).unwrap());
    }
    let product = Product { pairs: usize::MAX, ..Product::new(random(&[7, 5], 73), random(&[5, 9], 74)) };
    assert_eq!(product.run(&work(2)).unwrap().pairs.len(), 63);
}

#[test]
fn the_softmax_of_large_scores_does_not_depend_on_the_width() {
    for top in [1e2f32, 1e9, 1e12, 1e30, -1e12] {
        for m in [1, 3, 16, 31, 33] {
            // One score far above the others.
            let b: Vec<f32> = (0..m).map(|j| if j == m / 2 { top } else { top - 0.5 * top.abs() }).collect();
            let product = Product {
                softmax: true,
                ..Product::new(Tensor::from_f32(vec![1.0], &[1, 1]).unwrap(), Tensor::from_f32(b, &[1, m]).unwrap())
            };
            let softmax = product.run(&work(1)).unwrap().rows[0].softmax.unwrap();
            assert_eq!((softmax.top1, softmax.log_sum_exp), (1.0, f64::from(top)), "{m} columns, {top}");
            assert!(softmax.entropy < 1e-15, "{m} columns, {top}: {}", softmax.entropy);
        }
    }
}

#[test]
fn the_softmax_of_large_scores_gives_each_column_its_share() {
    let softmax = |a: f32, b: &[f32]| {
        let (a, b) = (Tensor::from_f32(vec![a], &[1, 1]).unwrap(), Tensor::from_f32(b.to_vec(), &[1, b.len()]).unwrap());
        Product { softmax: true, cols: true, ..Product::new(a, b) }.run(&work(1)).unwrap()
    };
    for score in [1.0, 1e3, 1e5, 1e6, 1e7, 1e8, 1e30, 3e38] {
        for m in [2, 3, 17, 40] {
            let out = softmax(score, &vec![1.0; m]);
            for col in &out.cols {
                let share = col.softmax.unwrap();
                assert!((share.mean_weight * m as f64 - 1.0).abs() < 1e-6, "{score}, {m} columns: {share:?}");
                assert!((share.max_weight * m as f64 - 1.0).abs() < 1e-6, "{score}, {m} columns: {share:?}");
            }
        }
    }
    // Farther apart than numbers of 32 bits reach.
    let out = softmax(3e38, &[1.0, 1.0, -1.0]);
    assert!((out.rows[0].softmax.unwrap().entropy - 2f64.ln()).abs() < 1e-6);
    let shares: Vec<f64> = out.cols.iter().map(|col| col.softmax.unwrap().mean_weight).collect();
    assert!(shares.iter().zip([0.5, 0.5, 0.0]).all(|(share, right)| (share - right).abs() < 1e-6), "{shares:?}");
}

#[test]
fn quantiles_of_ten_million_scores_are_those_of_the_sorted_scores() {
    let product = Product {
        row_quantiles: vec![0.5, 0.75, 0.9999],
        all_quantiles: vec![0.0, 1e-6, 0.25, 0.5, 0.75, 0.999, 1.0],
        ..Product::new(random(&[3203, 3], 24), random(&[3, 3209], 25))
    };
    let out = product.run(&work(2)).unwrap();
    let mut scores = product.matrix(&work(2)).unwrap().to_f32();
    assert!(scores.len() > 10_000_000);
    for (row, line) in out.rows.iter().zip(scores.chunks(3209)).step_by(100) {
        let expected: Vec<f64> = product.row_quantiles.iter().map(|q| quantile(line.iter().copied(), *q)).collect();
        assert_eq!(row.quantiles, expected);
    }
    scores.sort_unstable_by(f32::total_cmp);
    let expected: Vec<u64> = product.all_quantiles.iter().map(|q| interpolated(&scores, *q).to_bits()).collect();
    assert_eq!(out.all.quantiles.iter().map(|q| q.to_bits()).collect::<Vec<_>>(), expected);
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let product = everything(Product { absolute: true, ..Product::new(random(&[700, 40], 7), random(&[40, 1500], 8)) });
    let text = |threads| format!("{:?}", product.run(&work(threads)).unwrap());
    let one = text(1);
    assert_eq!(one, text(2));
    assert_eq!(one, text(4));
}

#[test]
fn any_storage_and_orientation() {
    let (a, b) = (random(&[30, 64], 9), random(&[64, 600], 10));
    let narrow = |t: &Tensor| {
        let bytes: Vec<u8> = t.to_f32().iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        Tensor::from_bytes(Bytes::from(bytes), DType::BF16, t.shape()).unwrap()
    };
    // Q8_0: blocks of 32 with one scale.
    let quantised = |t: &Tensor| {
        let mut bytes = vec![0u8];
        for block in t.to_f32().chunks(32) {
            bytes.extend(f16::from_f32(1.0 / 127.0).to_le_bytes());
            bytes.extend(block.iter().map(|v| (v * 127.0).round() as i8 as u8));
        }
        let bytes = Bytes::from(bytes);
        let len = bytes.len() - 1;
        Tensor::from_bytes(bytes.slice(1, len).unwrap(), DType::Block(Block::Q8_0), t.shape()).unwrap()
    };
    let b_t = b.t().contiguous();
    for stored in [
        b.clone(),
        b_t.t(),
        narrow(&b),
        narrow(&b_t).t(),
        quantised(&b.narrow(1, 0..576).unwrap().contiguous()),
        quantised(&b_t).t(),
    ] {
        for a in [a.clone(), a.t().contiguous().t(), narrow(&a)] {
            let scores = Product::new(a.clone(), stored.clone()).matrix(&work(2)).unwrap();
            for (x, y) in scores.to_f64().iter().zip(direct(&a, &stored)) {
                assert!((x - y).abs() < 2e-5, "{stored:?}: {x} is not {y}");
            }
        }
    }
    // Chosen rows of a transposed operand, with scales.
    let rows = vec![5, 5, 0, 29];
    let row_scale = Some(vec![1.0, 2.0, -1.0, 0.0]);
    let product = Product { rows: Some(rows.clone()), row_scale, ..Product::new(a.t().contiguous().t(), b.clone()) };
    let ours = product.matrix(&work(1)).unwrap().to_f64();
    let all = direct(&a, &b);
    for (i, (row, scale)) in rows.iter().zip([1.0, 2.0, -1.0, 0.0]).enumerate() {
        for j in 0..600 {
            assert!((ours[i * 600 + j] - scale * all[row * 600 + j]).abs() < 4e-5);
        }
    }
}

#[test]
fn small_limits_of_memory_change_nothing() {
    // Depth beyond one call of the kernel, several panels, several waves of kept rows.
    let product = everything(Product::new(random(&[75, 5000], 11), random(&[5000, 1300], 12)));
    let sides = product.sides(&work(2)).unwrap();
    let fold = |fold: &Rows<'_>, limits| {
        let stream = Stream { limits, ..product.stream(std::slice::from_ref(&sides.left), &sides.right, "") };
        let rows: Vec<Done> = rows::Block::finish(stream.run(fold, fold.work).unwrap());
        format!("{:?}", rows.into_iter().map(|row| product.row(row)).collect::<Vec<_>>())
    };
    let rows = Rows {
        absolute: false,
        shape: true,
        top: 5,
        bottom: 5,
        mask: None,
        quantiles: &product.row_quantiles,
        guesses: Guesses::default(),
        softmax: true,
        softmax_negative: false,
        normalisers: None,
        pairs: None,
        probes: None,
        arch: Arch::new(),
        work: &work(2),
    };
    let small = Limits { panel: 1, block: 12 * 5000, kept: 2 * 12 * 1400 };
    assert_eq!(fold(&rows, small), fold(&rows, Limits::USUAL));
    let expected = direct(&product.a, &product.b[0]);
    for (x, y) in product.matrix(&work(2)).unwrap().to_f64().iter().zip(expected) {
        assert!((x - y).abs() < 1e-3);
    }
}

#[test]
fn scores_that_are_not_finite_are_counted_and_stay_where_they_are() {
    let (mut a, mut b) = (random(&[40, 8], 13), random(&[8, 900], 14));
    let clean = everything(Product::new(a.clone(), b.clone())).run(&work(1)).unwrap();
    a.make_mut_f32()[3 * 8 + 2] = f32::NAN;
    a.make_mut_f32()[7 * 8 + 5] = f32::INFINITY;
    b.make_mut_f32()[4 * 900 + 100] = f32::NEG_INFINITY;
    let product = everything(Product::new(a, b));
    let out = product.run(&work(2)).unwrap();
    assert_eq!(out.non_finite, 2 * 900 + 38);
    assert_eq!(out.broken, (vec![3, 7], vec![100]));
    assert_eq!(
        out.rows.iter().map(|r| r.non_finite).collect::<Vec<_>>(),
        (0..40).map(|i| if i == 3 || i == 7 { 900 } else { 1 }).collect::<Vec<_>>()
    );
    assert_eq!(out.cols[100].non_finite, 40);
    assert!(out.cols[100].moments.mean.is_nan() && out.cols[100].quantiles[0].is_nan());
    assert!(out.rows[3].moments.mean.is_nan() && out.rows[3].top.is_empty() && out.rows[3].softmax.unwrap().entropy.is_nan());
    let scores = product.matrix(&work(1)).unwrap().to_f32();
    let finite = |i: usize| scores[i * 900..(i + 1) * 900].iter().copied().filter(|x| x.is_finite());
    for i in (0..40).filter(|i| *i != 3 && *i != 7) {
        let row = &out.rows[i];
        assert_eq!(row.moments.n, 899);
        assert_eq!(row.quantiles[1], quantile(finite(i), 0.75));
        assert_eq!(row.moments.max, f64::from(finite(i).fold(f32::MIN, f32::max)));
        let mean = finite(i).map(f64::from).sum::<f64>() / 899.0;
        assert!((row.moments.mean - mean).abs() < 1e-6);
        let log_sum_exp = finite(i).map(|x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((row.softmax.unwrap().log_sum_exp - log_sum_exp).abs() < 1e-6);
        assert!(row.top.iter().all(|s| s.id != 100));
    }
    // A column that only the bad rows touch badly has the statistics of the other 38 rows.
    assert_eq!(out.cols[5].quantiles[0], quantile((0..40).map(|i| scores[i * 900 + 5]).filter(|x| x.is_finite()), 0.5));
    assert_eq!(clean.non_finite, 0);
    let middle = out.all.quantiles[0];
    assert_eq!(middle, quantile(scores.iter().copied().filter(|x| x.is_finite()), 0.5));
    // Under a softcap, which would turn infinity into a harmless number, they are seen all the same.
    assert_eq!(Product { softcap: Some(5.0), ..product }.run(&work(2)).unwrap().non_finite, 2 * 900 + 38);
}

#[test]
fn what_is_named_as_broken_is_not_finite_itself() {
    // A shift or a factor that is not finite, or a factor beyond f32, spoils scores; the weights are fine.
    let (a, mut b) = (random(&[5, 3], 16), random(&[3, 4], 17));
    b.make_mut_f32()[4 + 2] = f32::NAN;
    let plain = Product::new(a, b);
    let shifted = Product { b_shift: Some(vec![f32::NAN; 3]), ..plain.clone() };
    let scaled = Product { row_scale: Some(vec![1.0, 1e300, f64::NAN, 1.0, 1.0]), ..plain.clone() };
    for (product, non_finite) in [(plain, 5), (shifted, 20), (scaled, 11)] {
        let out = product.run(&work(2)).unwrap();
        assert_eq!((out.non_finite, out.broken), (non_finite, (vec![], vec![2])));
    }
}

#[test]
fn the_smallest_vectors_have_cosines() {
    // Norms of about 1e-42, whose reciprocals no f32 holds.
    let tiny = |t: &Tensor| Tensor::from_f32(t.to_f32().iter().map(|v| v * 1e-42).collect(), t.shape()).unwrap();
    let (a, b) = (tiny(&random(&[20, 9], 18)), random(&[9, 33], 19));
    for (a, b) in [(a.clone(), b.clone()), (b.t(), a.t())] {
        let out = Product { cosine: true, ..Product::new(a.clone(), b.clone()) };
        let scores = out.matrix(&work(2)).unwrap().to_f64();
        let (a, b, m) = (a.contiguous().to_f64(), b.t().contiguous().to_f64(), b.shape()[1]);
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        for (i, x) in a.chunks(9).enumerate() {
            for (j, y) in b.chunks(9).enumerate() {
                let expected = dot(x, y) / (dot(x, x) * dot(y, y)).sqrt();
                assert!((scores[i * m + j] - expected).abs() < 1e-6, "{i}, {j}: {}, not {expected}", scores[i * m + j]);
            }
        }
        assert_eq!(out.run(&work(2)).unwrap().non_finite, 0);
    }
}

/// Keeps the labels of what is begun.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Progress for Heard {
    fn begin(&self, label: &str, _: u64) -> Box<dyn Steps> {
        self.0.lock().unwrap().push(label.into());
        Box::new(self.clone())
    }
}

impl Steps for Heard {
    fn advance(&self, _: u64) {}
}

impl Sink for Heard {
    fn write(&self, _: crate::work::Stream, _: &str) {}
}

#[test]
fn quantiles_with_a_stated_error_take_one_pass() {
    let quantiles = vec![0.0, 1e-5, 0.01, 0.25, 0.5, 0.75, 0.999, 1.0];
    // A usual product; one whose sample sees other scores than the rest; one with a few scores far out.
    let odd = (0..1200 * 5).map(|i| if (i / 5) % 2 == 0 { (i % 37) as f32 } else { 50.0 }).collect();
    let mut far = random(&[1201, 7], 61).to_f32();
    far[7 * 77] = 1e6;
    for (a, b, passes) in [
        (random(&[1501, 19], 62), random(&[19, 1103], 63), 1),
        (Tensor::from_f32(odd, &[1200, 5]).unwrap(), random(&[5, 700], 64), 3),
        (Tensor::from_f32(far, &[1201, 7]).unwrap(), random(&[7, 903], 65), 1),
    ] {
        let product = Product { all_quantiles: quantiles.clone(), exact: false, ..Product::new(a, b) };
        let heard = Heard::default();
        let out = product.run(&Work::new(2, 0, Box::new(heard.clone()), Box::new(heard.clone())).unwrap()).unwrap();
        let made = heard.0.lock().unwrap().clone();
        assert!(made.iter().filter(|label| !label.ends_with("sample")).count() <= passes, "{made:?}");
        let mut scores = product.matrix(&work(2)).unwrap().to_f32();
        scores.sort_unstable_by(f32::total_cmp);
        for (q, (value, error)) in quantiles.iter().zip(out.all.quantiles.iter().zip(&out.all.errors)) {
            let exact = interpolated(&scores, *q);
            assert!((value - exact).abs() <= *error, "quantile {q}: {value} ± {error}, exactly {exact}");
            if (0.01..=0.99).contains(q) {
                assert!(*error <= 1e-2 * out.all.moments.std, "quantile {q}: {value} ± {error}");
            }
        }
        // Statistics of columns make a second pass, in which the exact ones are found.
        let out = Product { cols: true, ..product }.run(&work(2)).unwrap();
        assert_eq!(out.all.errors, vec![0.0; quantiles.len()]);
        let exact: Vec<f64> = quantiles.iter().map(|q| interpolated(&scores, *q)).collect();
        assert_eq!(out.all.quantiles, exact);
    }
}

#[test]
fn quantiles_of_all_pairs_survive_a_sample_that_misleads() {
    // The sample sees every second row; the others hold quite other scores, most of them equal.
    let data = (0..1024 * 4).map(|i| if (i / 4) % 2 == 0 { (i % 37) as f32 } else { 1000.0 }).collect();
    let product = Product {
        all_quantiles: vec![0.5, 0.499, 0.6, 0.0, 1.0],
        ..Product::new(Tensor::from_f32(data, &[1024, 4]).unwrap(), random(&[4, 700], 15))
    };
    let out = product.run(&work(2)).unwrap();
    let scores = product.matrix(&work(1)).unwrap().to_f32();
    for (q, value) in product.all_quantiles.iter().zip(&out.all.quantiles) {
        assert_eq!(*value, quantile(scores.iter().copied(), *q), "quantile {q}");
    }
    let zeros = Product { a: Tensor::from_f32(vec![0.0; 4096], &[1024, 4]).unwrap(), ..product };
    assert_eq!(zeros.run(&work(2)).unwrap().all.quantiles, [0.0; 5]);
}

#[test]
fn histograms_count_as_numpy_does() {
    let product = Product::new(random(&[33, 6], 16), random(&[6, 1200], 17));
    let scores = product.matrix(&work(1)).unwrap().to_f64();
    let (lo, hi) = (scores.iter().copied().fold(f64::MAX, f64::min), scores.iter().copied().fold(f64::MIN, f64::max));
    let histogram = product.histogram(19, lo, hi, &work(2)).unwrap();
    let mut expected = vec![0u64; 19];
    for x in &scores {
        let bin = histogram.edges.partition_point(|e| e <= x);
        expected[bin.clamp(1, 19) - 1] += 1;
    }
    assert_eq!(histogram.counts, expected);
    assert_eq!(histogram.counts.iter().sum::<u64>(), 33 * 1200);
    // Too many bins for each tile to have its own.
    let fine = product.histogram(19 * 1000, lo, hi, &work(2)).unwrap();
    assert_eq!(fine.counts.len(), 19_000);
    let mut expected = vec![0u64; 19_000];
    for x in &scores {
        expected[fine.edges.partition_point(|e| e <= x).clamp(1, 19_000) - 1] += 1;
    }
    assert_eq!(fine.counts, expected);
    let row = product.row_histogram(7, 5, -0.5, 0.5, &work(1)).unwrap();
    let inside = scores[7 * 1200..8 * 1200].iter().filter(|x| x.abs() <= 0.5).count();
    assert_eq!(row.counts.iter().sum::<u64>(), inside as u64);
}

#[test]
fn moments_survive_a_large_common_offset() {
    // Every score is near 4000 and varies by hundredths.
    let mut a = random(&[5, 3], 18);
    a.make_mut_f32().chunks_mut(3).for_each(|row| row[0] = 4000.0);
    let mut b = random(&[3, 3000], 19);
    b.make_mut_f32()[..3000].fill(1.0);
    b.make_mut_f32()[3000..].iter_mut().for_each(|v| *v *= 0.02);
    let product = Product::new(a, b);
    let scores = product.matrix(&work(1)).unwrap().to_f64();
    for (i, row) in product.run(&work(1)).unwrap().rows.iter().enumerate() {
        let x = &scores[i * 3000..(i + 1) * 3000];
        let mean = x.iter().sum::<f64>() / 3000.0;
        let power = |p: i32| x.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / 3000.0;
        assert!((row.moments.mean - mean).abs() < 1e-6 * mean);
        assert!((row.moments.std / power(2).sqrt() - 1.0).abs() < 1e-5, "{} {}", row.moments.std, power(2).sqrt());
        assert!((row.moments.kurtosis - power(4) / power(2).powi(2)).abs() < 1e-4);
    }
}

// ---- on a device ---------------------------------------------------------------------------------------------------------

/// `ours` and `expected` agree within rounding; both may be NaN.
fn same(what: &str, ours: impl IntoIterator<Item = f64>, expected: impl IntoIterator<Item = f64>) {
    let (ours, expected) = (ours.into_iter().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (x, y)) in ours.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= 1e-4 * (1.0 + y.abs()) || x.is_nan() && y.is_nan(), "{what} {i}: {x} is not {y}");
    }
}

/// A list's scores agree, and so do its members where their neighbours' scores are apart.
fn same_list(what: &str, ours: &[(usize, f32)], expected: &[(usize, f32)]) {
    let scores = |list: &[(usize, f32)]| list.iter().map(|(_, score)| f64::from(*score)).collect::<Vec<_>>();
    same(what, scores(ours), scores(expected));
    for i in 1..ours.len().saturating_sub(1) {
        let apart = |j: usize| (expected[i].1 - expected[j].1).abs() > 1e-3;
        if apart(i - 1) && apart(i + 1) {
            assert_eq!(ours[i].0, expected[i].0, "{what} {i}");
        }
    }
}

fn numbers_of(m: &Moments) -> [f64; 7] {
    [m.n as f64, m.mean, m.std, m.skewness, m.kurtosis, m.min, m.max]
}

#[test]
fn a_device_gives_what_the_kernel_gives() {
    // More rows than a block, more columns than a tile, and more than one panel of the columns.
    let plain = Product::new(random(&[613, 71], 30), random(&[71, 1103], 31));
    let (mut bad_a, mut bad_b) = (random(&[37, 9], 32), random(&[9, 2050], 33));
    bad_a.make_mut_f32()[3 * 9 + 2] = f32::NAN;
    bad_a.make_mut_f32()[7 * 9 + 5] = f32::INFINITY;
    bad_b.make_mut_f32()[4 * 2050 + 100] = f32::NEG_INFINITY;
    let b = [random(&[2100, 45], 35).t(), random(&[45, 2100], 36)];
    for product in [
        plain.clone(),
        Product { absolute: true, rows: Some(vec![600, 3, 3, 41]), ..plain.clone() },
        Product { cosine: true, gain: Some((0..71).map(|i| 0.5 + i as f32 / 71.0).collect()), ..plain },
        Product { softcap: Some(3.0), factor: 0.5, ..Product::averaged(random(&[150, 45], 34), b.to_vec()) },
        Product::new(bad_a, bad_b),
        Product::new(random(&[50, 5000], 37), random(&[5000, 1100], 38)),
    ] {
        let product = Product { row_quantiles: vec![0.5, 0.9], ..everything(product) };
        let (ours, expected) = (product.run(&on_device(2)).unwrap(), product.run(&work(2)).unwrap());
        let rows = |out: &Outcome| out.rows.iter().flat_map(|r| numbers_of(&r.moments)).collect::<Vec<_>>();
        same("rows", rows(&ours), rows(&expected));
        let cols = |out: &Outcome| out.cols.iter().flat_map(|c| numbers_of(&c.moments)).collect::<Vec<_>>();
        same("columns", cols(&ours), cols(&expected));
        same("all", numbers_of(&ours.all.moments), numbers_of(&expected.all.moments));
        let quantiles = |out: &Outcome| {
            let rows = out.rows.iter().flat_map(|r| &r.quantiles);
            rows.chain(out.cols.iter().flat_map(|c| &c.quantiles)).chain(&out.all.quantiles).copied().collect::<Vec<_>>()
        };
        same("quantiles", quantiles(&ours), quantiles(&expected));
        let softmax = |out: &Outcome| {
            let rows = out.rows.iter().filter_map(|r| r.softmax).flat_map(|s| [s.log_sum_exp, s.entropy, s.top1, s.top5]);
            rows.chain(out.cols.iter().filter_map(|c| c.softmax).flat_map(|s| [s.mean_weight, s.max_weight])).collect::<Vec<_>>()
        };
        same("softmax", softmax(&ours), softmax(&expected));
        let list = |list: &[Scored]| list.iter().map(|s| (s.id as usize, s.score)).collect::<Vec<_>>();
        for (ours, expected) in ours.rows.iter().zip(&expected.rows) {
            same_list("top", &list(&ours.top), &list(&expected.top));
            same_list("bottom", &list(&ours.bottom), &list(&expected.bottom));
            assert_eq!(ours.non_finite, expected.non_finite);
        }
        let pairs = |out: &Outcome| out.pairs.iter().map(|p| (p.row * out.m + p.col, p.score)).collect::<Vec<_>>();
        same_list("pairs", &pairs(&ours), &pairs(&expected));
        assert_eq!(ours.non_finite, expected.non_finite);
        assert_eq!(
            ours.cols.iter().map(|c| c.non_finite).collect::<Vec<_>>(),
            expected.cols.iter().map(|c| c.non_finite).collect::<Vec<_>>()
        );
        // Quantiles over all pairs are those of the device's own scores, to the bit, with or without the exchanged pass.
        let scores = product.matrix(&on_device(1)).unwrap().to_f32();
        let finite = || scores.iter().map(|x| if product.absolute { x.abs() } else { *x }).filter(|x| x.is_finite());
        let without = Product { cols: false, col_quantiles: vec![], ..product.clone() }.run(&on_device(3)).unwrap();
        for (i, q) in product.all_quantiles.iter().enumerate() {
            assert_eq!(ours.all.quantiles[i], quantile(finite(), *q), "quantile {q}");
            assert_eq!(without.all.quantiles[i], ours.all.quantiles[i]);
        }
    }
}

#[test]
fn several_panels_on_a_device_change_nothing_beyond_rounding() {
    let product = Product::averaged(random(&[75, 61], 39), vec![random(&[61, 3300], 40), random(&[61, 3300], 41)]);
    let sides = product.sides(&work(2)).unwrap();
    let limits = Limits { panel: 1, block: 12 * 61, kept: 2 * 12 * 3400 };
    let stream = Stream { limits, ..product.stream(std::slice::from_ref(&sides.left), &sides.right, "") };
    let scores = stream.scores(false, &on_device(2)).unwrap();
    let [x, y] = [0, 1].map(|i| direct(&product.a, &product.b[i]));
    same("scores", scores.iter().copied().map(f64::from), x.iter().zip(y).map(|(x, y)| (x + y) / 2.0));
}

#[test]
fn a_search_among_scores_that_change_ends_in_an_error() {
    let hunt = || {
        let hunt = Hunt::new(&[0.5], (0..1000).map(|i| i as f32), true);
        let first = hunt.first();
        hunt.begin(1000, (0.0, 999.0), first, &work(1)).unwrap()
    };
    // Passes that find nothing, as if each score had moved out of its range.
    let error = quantile::finish(hunt(), 1000, &work(1), |_| Ok(())).unwrap_err();
    assert!(error.message().contains("not found in 16 passes"), "{error}");
    let stopped = quantile::finish(hunt(), 1000, &work(1), |_| Err(Error::interrupted()));
    assert!(stopped.unwrap_err().is_interrupted());
}

#[test]
fn interruption_ends_the_work() {
    let product = everything(Product::new(random(&[300, 16], 20), random(&[16, 900], 21)));
    let stopped = work(2);
    stopped.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(product.run(&stopped).unwrap_err().is_interrupted());
    // In the middle of a long product.
    let long = everything(Product::new(random(&[8000, 256], 22), random(&[256, 16_000], 23)));
    for running in [work(2), on_device(2)] {
        let flag = running.cancel_flag();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(60));
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(long.run(&running).unwrap_err().is_interrupted());
        stopper.join().unwrap();
    }
}

#[test]
fn wrong_products_say_what_is_wrong() {
    let product = Product::new(random(&[3, 4], 0), random(&[4, 5], 0));
    let message = |product: Product| product.run(&work(1)).unwrap_err().message().to_string();
    assert_eq!(
        message(Product::new(random(&[3, 4], 0), random(&[5, 4], 0))),
        "cannot multiply [3, 4] by [5, 4]: the right operand must be [4, 4]"
    );
    assert_eq!(
        message(Product { rows: Some(vec![3]), ..product.clone() }),
        "row 3 is out of range: there are 3 rows, numbered from 0"
    );
    assert_eq!(message(Product { gain: Some(vec![1.0]), ..product.clone() }), "`gain` has 1 values, but the product needs 4");
    assert_eq!(message(Product { col_quantiles: vec![50.0], ..product.clone() }), "a quantile lies between 0 and 1; 50 does not");
    assert_eq!(message(Product { softcap: Some(0.0), ..product.clone() }), "a softcap must be a positive number, not 0");
    assert_eq!(product.histogram(0, 0.0, 1.0, &work(1)).unwrap_err().kind(), Kind::Input);
    assert_eq!(product.row_histogram(3, 5, 0.0, 1.0, &work(1)).unwrap_err().kind(), Kind::Input);
    assert_eq!(message(Product { rows: Some(vec![]), ..product }), "the product of 0 rows of 4 with 5 columns is empty");
}

#[test]
fn scores_of_a_few_rows_are_made_once_and_have_the_same_bits() {
    let work = Work::silent(2).unwrap();
    let (a, b) = (Tensor::randn(&[9, 70], 1, 0, &work).unwrap(), Tensor::randn(&[70, 2100], 2, 0, &work).unwrap());
    let product = Product {
        rows: Some(vec![7, 2, 5]),
        row_scale: Some(vec![1.0, -0.5, 3.0]),
        b_shift: Some((0..70).map(|i| i as f32 / 50.0).collect()),
        gain: Some((0..70).map(|i| 1.0 + i as f32 / 90.0).collect()),
        softcap: Some(20.0),
        absolute: true,
        top: 4,
        ..Product::new(a.clone(), b.clone())
    };
    let made = product.made(&work).unwrap().unwrap();
    let scores = product.matrix(&work).unwrap();
    assert_eq!(made.matrix(&work).unwrap().to_f32(), scores.to_f32());
    // One pass as it is; with statistics of columns from the kept scores.
    let once = product.run(&work).unwrap();
    let twice = Product { cols: true, all_quantiles: vec![0.5], ..product.clone() }.run(&work).unwrap();
    for (x, y) in once.rows.iter().zip(&twice.rows) {
        assert_eq!((x.moments, &x.top), (y.moments, &y.top));
    }
    let scores = scores.to_f32();
    let largest = |j: usize| (0..3).map(|i| scores[i * 2100 + j]).fold(f32::MIN, f32::max);
    assert!(twice.cols.iter().enumerate().all(|(j, col)| col.moments.max == f64::from(largest(j))));
    let mut sorted = scores.clone();
    sorted.sort_by(f32::total_cmp);
    assert_eq!(twice.all.quantiles[0], (f64::from(sorted[3149]) + f64::from(sorted[3150])) / 2.0);
    // More rows, and scores that are not finite, are left to the product.
    assert!(Product { cols: true, ..Product::new(a.clone(), b.clone()) }.made(&work).unwrap().is_none());
    let mut spoilt = b.clone();
    spoilt.make_mut_f32()[5] = f32::NAN;
    let spoilt = Product { cols: true, b: vec![spoilt], ..product };
    assert!(spoilt.made(&work).unwrap().is_none());
    assert_eq!(spoilt.run(&work).unwrap().broken, (vec![], vec![5]));
}
