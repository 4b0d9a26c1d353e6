//! Steps of SAE training on activations that cost nothing: batches of 2048, d_in 96, 768 latents.
//!
//! `cargo bench --bench training [-- THREADS [SITES]]`

use rand::{RngExt, SeedableRng};
use saerepl::tensor::Tensor;
use saerepl::training::{Activations, Arch, Chunk, Job, TrainOptions, train};
use saerepl::work::Work;
use std::time::Instant;

/// The same sequence again and again.
struct Endless {
    chunk: Chunk,
    position: u64,
}

impl Activations for Endless {
    fn next(&mut self, _: &Work) -> saerepl::Result<Option<Chunk>> {
        self.position += 1;
        Ok(Some(self.chunk.clone()))
    }
    fn position(&self) -> u64 {
        self.position
    }
    fn seek(&mut self, position: u64) -> saerepl::Result<()> {
        self.position = position;
        Ok(())
    }
    fn describe(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::new()
    }
}

fn main() -> saerepl::Result<()> {
    let mut numbers = std::env::args().filter_map(|a| a.parse::<usize>().ok());
    let (threads, sites) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(4));
    let (rows, d) = (4096, 96);
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let values = (0..rows * d).map(|_| (0..4).map(|_| rng.random_range(-0.5..0.5f32)).sum()).collect();
    let x = Tensor::from_f32(values, &[rows, d])?;
    let work = Work::silent(threads)?;
    for arch in Arch::ALL {
        let options = TrainOptions { d_sae: Some(768), arch: *arch, steps: 48, ..TrainOptions::default() };
        let jobs: Vec<Job> = (0..sites).map(|layer| Job::new(format!("blocks.{layer}.hook_resid_post"), &options)).collect();
        let mut source = Endless { chunk: Chunk { sites: vec![x.clone(); sites], firsts: vec![0] }, position: 0 };
        let start = Instant::now();
        train(&jobs, &mut source, &options, &work)?;
        let steps = (options.steps * sites) as f64;
        println!(
            "{:<10} {} threads, {sites} sites: {:6.1} ms a step",
            arch.name(),
            work.threads(),
            1e3 * start.elapsed().as_secs_f64() / steps
        );
    }
    Ok(())
}
