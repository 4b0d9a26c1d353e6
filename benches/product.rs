//! The fused product against the bare product of the same shapes: what the statistics cost.
//!
//! `cargo bench --bench product [-- THREADS [small] [DEVICE]]`; `small` leaves out the longer shapes; a device (blas, cuda, metal)
//! needs its feature. Weights are random: the time does not depend on their values, but for a softcap's, which is longer for scores of
//! more than 0.6 caps. Statistics of columns make the product a second time: `made` counts both, `one` is beside a single product. The
//! bare product has no softcap.

use rand::{RngExt, SeedableRng};
use saerepl::compute::product::Product;
use saerepl::tensor::Tensor;
use saerepl::work::Work;
use std::time::Instant;

fn random(rows: usize, cols: usize, seed: u64) -> saerepl::Result<Tensor> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    // Sums of uniform numbers are near enough to normal.
    let mut normal = || (0..4).map(|_| rng.random_range(-0.5..0.5f32)).sum::<f32>();
    Tensor::from_f32((0..rows * cols).map(|_| normal()).collect(), &[rows, cols])
}

fn seconds(f: impl FnOnce() -> saerepl::Result<()>) -> saerepl::Result<f64> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Medians of five runs each, in turn, so that whatever else the machine does falls on both.
fn measure(name: &str, product: &Product, work: &Work) -> saerepl::Result<()> {
    let (n, d, m) = (product.a.shape()[0], product.a.shape()[1], product.b[0].shape()[1]);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        times[0].push(seconds(|| product.bare(work))?);
        times[1].push(seconds(|| product.run(work).map(drop))?);
    }
    let [bare, job] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let gflop = 2.0 * n as f64 * d as f64 * m as f64 / 1e9;
    let made = if product.cols { 2.0 } else { 1.0 };
    println!(
        "{name:<28} {n:>6} x {d:>4} x {m:>6}  bare {bare:8.4} s ({:6.1} GFLOP/s)  job {job:8.4} s  ratio: made {:5.2}, one {:5.2}",
        gflop / bare,
        job / (made * bare),
        job / bare
    );
    Ok(())
}

fn main() -> saerepl::Result<()> {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let threads = numbers.first().copied().unwrap_or(0);
    let work = Work::silent(threads)?;
    if let Some(device) = std::env::args().find(|a| matches!(a.as_str(), "blas" | "cuda" | "metal")) {
        work.choose_device(&device)?;
    }
    println!("{} threads", work.threads());

    let shapes = if std::env::args().any(|a| a == "small") { 1 } else { 2 };
    for (n, d, m) in [(1536, 576, 49_152), (2048, 640, 262_144)].into_iter().take(shapes) {
        // W_U as models store it: one row for each token.
        let product = Product::new(random(n, d, 1)?, random(m, d, 2)?.t());
        measure("moments", &product, &work)?;
        measure("moments, top, bottom", &Product { top: 10, bottom: 10, ..product.clone() }, &work)?;
        measure("and softmax", &Product { top: 10, bottom: 10, softmax: true, ..product }, &work)?;
    }
    for (n, d) in [(8192, 64), (16_384, 256)].into_iter().take(shapes) {
        // As `attention_scores` asks.
        let product = Product { shape: false, ..Product::new(random(n, d, 3)?, random(n, d, 4)?.t()) };
        let half = vec![0.5, 0.75];
        measure("moments", &product, &work)?;
        let rows = Product { row_quantiles: half.clone(), ..product.clone() };
        measure("rows", &rows, &work)?;
        let cols = Product { cols: true, col_quantiles: half.clone(), ..rows };
        measure("rows, columns", &cols, &work)?;
        let all = Product { all_quantiles: half, pairs: 100, ..cols };
        measure("rows, columns, pairs", &all, &work)?;
        let softmax = Product { softmax: true, ..all };
        measure("and softmax", &softmax, &work)?;
        measure("and softcap", &Product { softcap: Some(50.0), ..softmax }, &work)?;
    }
    Ok(())
}
