//! The tokenizer (byte-level BPE trained on the training text) and the token streams that batches are cut from.

use std::path::Path;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use crate::Result;

/// Begins every document and every training window.
pub const BOS: &str = "<|endoftext|>";
pub const BOS_ID: u32 = 0;

/// Trains the tokenizer; encoding with special tokens puts [`BOS`] first.
pub fn train_tokenizer(texts: &[String], vocabulary: usize) -> Result<Tokenizer> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(BOS, true)])
        .build();
    let byte_level = ByteLevel::new(false, true, true);
    let template = TemplateProcessing::builder().try_single(format!("{BOS} $A"))?.special_tokens(vec![(BOS, BOS_ID)]).build()?;
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(Some(template))
        .with_decoder(Some(ByteLevelDecoder::default()))
        .build()?;
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str))?;
    // Through its file form, so that a first run and a resumed one use the very same tokenizer.
    let json = tokenizer.to_string(true)?;
    Tokenizer::from_bytes(json.as_bytes())
}

/// Loads `tokenizer.json`.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer> {
    Ok(Tokenizer::from_file(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Each text behind one BOS, ending with a BOS.
pub fn encode(tokenizer: &Tokenizer, texts: &[String]) -> Result<Vec<u32>> {
    let mut stream = vec![BOS_ID];
    for chunk in texts.chunks(64) {
        for encoding in tokenizer.encode_batch_fast(chunk.iter().map(String::as_str).collect(), false)? {
            stream.extend_from_slice(encoding.get_ids());
            stream.push(BOS_ID);
        }
    }
    Ok(stream)
}

/// Inputs and targets of some windows, concatenated.
pub struct Batch {
    pub inputs: Vec<u32>,
    pub targets: Vec<u32>,
}

impl Batch {
    pub fn new() -> Self {
        Self { inputs: Vec::new(), targets: Vec::new() }
    }

    /// Adds the window whose targets are `stream[start..start + length]`; its first input is BOS, as in use.
    pub fn push(&mut self, stream: &[u32], start: usize, length: usize) {
        self.inputs.push(BOS_ID);
        self.inputs.extend_from_slice(&stream[start..start + length - 1]);
        self.targets.extend_from_slice(&stream[start..start + length]);
    }
}

/// Windows of a stream in seeded random order. An epoch cuts the stream at its own random offset and visits each window
/// once; the n-th window of the training is a function of (seed, n) alone, so a resumed run needs no other state.
pub struct Windows<'a> {
    stream: &'a [u32],
    length: usize,
    seed: u64,
    per_epoch: usize,
    epoch: Option<(usize, Vec<usize>)>,
}

impl<'a> Windows<'a> {
    /// The stream has to hold at least two windows.
    pub fn new(stream: &'a [u32], length: usize, seed: u64) -> Result<Self> {
        if stream.len() < 2 * length {
            return Err(format!("{} training tokens are too few for windows of {length}", stream.len()).into());
        }
        Ok(Self { stream, length, seed, per_epoch: (stream.len() - length) / length, epoch: None })
    }

    pub fn per_epoch(&self) -> usize {
        self.per_epoch
    }

    /// Windows `first .. first + count` of the training.
    pub fn batch(&mut self, first: usize, count: usize) -> Batch {
        let mut batch = Batch::new();
        for index in first..first + count {
            let within = index % self.per_epoch;
            let start = self.starts(index / self.per_epoch)[within];
            batch.push(self.stream, start, self.length);
        }
        batch
    }

    fn starts(&mut self, epoch: usize) -> &[usize] {
        if self.epoch.as_ref().is_none_or(|(held, _)| *held != epoch) {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(epoch as u64 + 1);
            let offset = below(&mut random, self.length);
            let mut starts: Vec<usize> = (0..self.per_epoch).map(|window| offset + window * self.length).collect();
            for last in (1..starts.len()).rev() {
                starts.swap(last, below(&mut random, last + 1));
            }
            self.epoch = Some((epoch, starts));
        }
        self.epoch.as_ref().map_or(&[], |(_, starts)| starts)
    }
}

/// A number in `0..bound`, from 64 random bits (the bias is below bound / 2⁶⁴).
fn below(random: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(random.next_u64()) * bound as u128) >> 64) as usize
}

/// A number in `[0, 1)`.
pub fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_epoch_visits_every_window_once_and_epochs_differ() {
        let stream: Vec<u32> = (0..1000).collect();
        let mut windows = Windows::new(&stream, 30, 7).unwrap();
        let count = windows.per_epoch();
        let firsts = |batch: &Batch| batch.targets.iter().step_by(30).copied().collect::<Vec<_>>();
        let (one, two) = (firsts(&windows.batch(0, count)), firsts(&windows.batch(count, count)));
        assert_ne!(one, two);
        let mut sorted = one.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] == 30), "{sorted:?}");
        assert_eq!(firsts(&Windows::new(&stream, 30, 7).unwrap().batch(5, 3)), one[5..8]);
    }
}
