//! The forward pass of SmolLM2-135M on a prompt of 512 tokens, against transformers + PyTorch in the same run.
//!
//! `SAEREPL_PYTHON=python cargo bench --bench forward [-- THREADS]` with a Python that has torch, transformers and psutil; without
//! it, our own times alone. Each side runs twice, in turn, and the better median counts. Logits at every position; token by
//! token, beside it, with the cache of keys and values.

use saerepl::model::forward::{KvCache, Logits, Request};
use saerepl::model::{Model, ModelOptions};
use saerepl::work::Work;
use std::process::Command;
use std::time::Instant;

const TOKENS: usize = 512;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The median seconds that `forward_torch.py` prints.
fn torch(python: &str, threads: usize, model: &str) -> Option<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/forward_torch.py");
    let output = Command::new(python).args([script, "--threads", &threads.to_string(), "--model", model]).output().ok()?;
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    found["median_s"].as_f64()
}

fn main() -> saerepl::Result<()> {
    let threads = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(0);
    let work = Work::silent(threads)?;
    let threads = work.threads();
    let folder = std::env::var("SAEREPL_REAL")
        .unwrap_or_else(|_| format!("{}/.cache/saerepl-real", std::env::var("HOME").unwrap_or_default()));
    let path = format!("{folder}/smollm2-135m.gguf");
    if !std::path::Path::new(&path).exists() {
        println!("skipped: {path} is not on this machine");
        return Ok(());
    }
    let model = Model::load(&path, &ModelOptions::default(), &work)?;
    let ids: Vec<usize> = (0..TOKENS).map(|i| (7919 * i + 13) % model.cfg().d_vocab).collect();
    let start = Instant::now();
    let forward = model.forward(&work)?;
    println!("{threads} threads; weights widened in {:.3} s", start.elapsed().as_secs_f64());
    let request = Request::default();
    let ours = || -> saerepl::Result<f64> {
        let mut times = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            forward.run(&[&ids], &request, &work)?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(median(times[1..].to_vec()))
    };
    let python = std::env::var("SAEREPL_PYTHON").ok();
    let theirs = || python.as_deref().and_then(|python| torch(python, threads, &path));
    let (first, other, second, again) = (ours()?, theirs(), ours()?, theirs());
    let best = first.min(second);
    println!("{TOKENS} tokens: {first:.3} s, {second:.3} s ({:.0} tokens/s)", TOKENS as f64 / best);
    if let Some(peer) = other.into_iter().chain(again).reduce(f64::min) {
        println!("transformers + PyTorch: {peer:.3} s; ratio {:.2} (above 1: ours is faster)", peer / best);
    }
    let mut cache = KvCache::default();
    let last = Request { logits: Logits::Last, ..Request::default() };
    forward.extend(&ids[..64], &mut cache, &last, &work)?;
    let mut times = Vec::new();
    for id in &ids[64..96] {
        let start = Instant::now();
        forward.extend(&[*id], &mut cache, &last, &work)?;
        times.push(start.elapsed().as_secs_f64());
    }
    println!("token by token: {:.1} ms a token", 1e3 * median(times));
    Ok(())
}
