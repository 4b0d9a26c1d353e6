//! The jobs of torch_baseline.py, here and in PyTorch, in turn, in one run: times, what they cost above the bare product, peak memory.
//!
//! `SAEREPL_PYTHON=python cargo bench --bench peers [-- small]` with a Python that has torch; without it, our own figures alone. Each
//! job runs in a process of its own, three times; the median counts on both sides. `small` leaves out the longer shapes.

use rand::{RngExt, SeedableRng};
use saerepl::compute::product::Product;
use saerepl::tensor::Tensor;
use saerepl::work::Work;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Instant;

/// Name, features, width, columns.
const JOBS: [(&str, usize, usize, usize); 4] =
    [("unembed", 1536, 576, 49_152), ("qk", 8192, 64, 8192), ("unembed", 2048, 640, 262_144), ("qk", 16_384, 256, 16_384)];

fn random(rows: usize, cols: usize, seed: u64) -> saerepl::Result<Tensor> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    // Sums of uniform numbers are near enough to normal.
    let mut normal = || (0..4).map(|_| rng.random_range(-0.5..0.5f32)).sum::<f32>();
    Tensor::from_f32((0..rows * cols).map(|_| normal()).collect(), &[rows, cols])
}

/// The median of three times, in seconds.
fn median(f: impl Fn() -> saerepl::Result<()>) -> saerepl::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        f()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[1])
}

/// The highest resident size of this process so far, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? / 1024)
}

/// One job, in this process.
fn job(name: &str, n: usize, d: usize, m: usize) -> saerepl::Result<Value> {
    let work = Work::silent(0)?;
    let plain = Product::new(random(n, d, 1)?, random(m, d, 2)?.t());
    let half = vec![0.5, 0.75];
    let product = match name {
        "unembed" => Product { top: 10, bottom: 10, ..plain },
        _ => Product {
            row_quantiles: half.clone(),
            col_quantiles: half.clone(),
            all_quantiles: half,
            cols: true,
            shape: false,
            pairs: 100,
            ..plain
        },
    };
    let products = median(|| product.bare(&work))?;
    let all = median(|| product.run(&work).map(drop))?;
    Ok(json!({ "products_s": products, "job_s": all, "peak_rss_mib": peak_mib(), "threads": work.threads() }))
}

fn output(command: &mut Command) -> Option<Value> {
    let output = command.output().ok()?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).ok()
}

fn show(who: &str, found: &Value) {
    let number = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
    let (products, job) = (number("products_s"), number("job_s"));
    println!("  {who:<8} job {job:9.4} s, product {products:8.4} s, ratio {:6.2}, {} MiB", job / products, found["peak_rss_mib"]);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "job")
        && let [name, n, d, m] = &arguments[at + 1..]
    {
        println!("{}", job(name, n.parse()?, d.parse()?, m.parse()?)?);
        return Ok(());
    }
    let jobs = if arguments.iter().any(|argument| argument == "small") { 2 } else { JOBS.len() };
    for (name, n, d, m) in JOBS.into_iter().take(jobs) {
        println!("{name}: {n} x {d} x {m}");
        let shape = [n, d, m].map(|size| size.to_string());
        let ours =
            output(Command::new(std::env::current_exe()?).arg("job").arg(name).args(&shape)).ok_or("our own job failed")?;
        show("saerepl", &ours);
        let Ok(python) = std::env::var("SAEREPL_PYTHON") else { continue };
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/torch_baseline.py")).args([name, "--features", &shape[0]]);
        match name {
            "unembed" => command.args(["--d-model", &shape[1], "--vocab", &shape[2]]),
            _ => command.args(["--d-head", &shape[1]]),
        };
        let torch = output(&mut command).ok_or("torch_baseline.py failed")?;
        show("PyTorch", &torch);
        let ratio = |key: &str| torch[key].as_f64().unwrap_or(f64::NAN) / ours[key].as_f64().unwrap_or(f64::NAN);
        println!("  PyTorch takes {:.1} times the time and {:.1} times the memory", ratio("job_s"), ratio("peak_rss_mib"));
    }
    Ok(())
}
