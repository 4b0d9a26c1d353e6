//! The shuffling buffer: neighbouring positions of a text are alike, so batches are drawn from many texts at once.
//!
//! The rows of the texts are cut into blocks. Each block is shuffled; its first half mixes with what is left of the block
//! before it, its second half with the beginning of the next: half of the buffer is new whenever half is used. So a
//! row waits for one block at most, and the buffer can be rebuilt by reading again from the block that was old: a
//! checkpoint holds that place instead of the activations.

use super::source::{Activations, Chunk};
use crate::error::{Error, Result};
use crate::random::Random;
use crate::work::Work;
use serde::{Deserialize, Serialize};

/// A place between two rows of the texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Position of the source before the chunk.
    position: u64,
    /// Rows of the chunk before the place.
    skip: usize,
    /// How often the texts were read to their end.
    pub passes: u64,
}

/// A block of rows: one matrix for each site.
struct Block {
    start: Mark,
    sites: Vec<Vec<f32>>,
}

/// The rows of one chunk that training uses, one matrix for each site.
struct Rows {
    position: u64,
    next: usize,
    len: usize,
    sites: Vec<Vec<f32>>,
}

/// Shuffled activations of several sites; a row is the same token everywhere.
pub(super) struct Buffer<'a> {
    source: &'a mut dyn Activations,
    hooks: Vec<String>,
    /// Width of each site's activations.
    pub widths: Vec<usize>,
    batch: usize,
    block: usize,
    skip_bos: bool,
    seed: u64,
    rows: Option<Rows>,
    passes: u64,
    /// Rows since the beginning of the texts; not known where reading began within them.
    since_begin: Option<usize>,
    old: Block,
    new: Block,
    /// The number of the block that is old; the pool is drawn from it and the next.
    pub generation: u64,
}

/// What the batches are drawn from until the next block is read.
pub(super) struct Pool<'a> {
    old: &'a Block,
    new: &'a Block,
    widths: &'a [usize],
    batch: usize,
    block: usize,
    /// Rows below `block` are those of the old block, then come those of the new one.
    order: Vec<u32>,
}

impl Pool<'_> {
    /// Number of batches.
    pub fn len(&self) -> usize {
        self.block / self.batch
    }

    /// A batch at a site, each value times `scale`.
    pub fn batch(&self, site: usize, index: usize, scale: f32) -> Vec<f32> {
        let d = self.widths[site];
        let mut out = Vec::with_capacity(self.batch * d);
        for row in &self.order[index * self.batch..][..self.batch] {
            let row = *row as usize;
            let (block, row) = if row < self.block { (self.old, row) } else { (self.new, row - self.block) };
            out.extend(block.sites[site][row * d..][..d].iter().map(|v| v * scale));
        }
        out
    }
}

/// Streams of the seed: one shuffle for each block, one for each pool.
const BLOCKS: u64 = 1 << 32;
const POOLS: u64 = 2 << 32;

impl<'a> Buffer<'a> {
    /// A buffer of about `capacity` rows that begins at `start`, whose block has the number `generation`. Batches are of
    /// `batch` rows.
    ///
    /// # Errors
    /// The texts give fewer rows than a batch, the source fails, or its activations are not finite.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        source: &'a mut dyn Activations,
        hooks: Vec<String>,
        batch: usize,
        capacity: usize,
        skip_bos: bool,
        seed: u64,
        (start, generation): (Mark, u64),
        work: &Work,
    ) -> Result<Self> {
        let block = batch.saturating_mul((capacity / 2 / batch).max(1));
        source.seek(start.position)?;
        let blank = || Block { start, sites: Vec::new() };
        let (old, new) = (blank(), blank());
        let mut buffer = Buffer {
            source,
            hooks,
            widths: Vec::new(),
            batch,
            block,
            skip_bos,
            seed,
            rows: None,
            passes: start.passes,
            since_begin: (start.position == 0).then_some(0),
            old,
            new,
            generation,
        };
        if start.skip > 0 {
            buffer.read(work)?;
            if let Some(rows) = &mut buffer.rows {
                rows.next = start.skip.min(rows.len);
            }
        }
        buffer.old = buffer.fill(work)?;
        Ok(buffer)
    }

    /// The old block, unshuffled: what the scale and the mean of a site are estimated on.
    pub fn first(&self, site: usize) -> &[f32] {
        &self.old.sites[site]
    }

    /// Where the old block begins: what a checkpoint holds.
    pub fn mark(&self) -> Mark {
        self.old.start
    }

    /// How often the texts were read to their end.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    /// Reads the next block and mixes the next pool.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn refill(&mut self, work: &Work) -> Result<Pool<'_>> {
        self.new = self.fill(work)?;
        let half = self.block / 2;
        let shuffled = |generation: u64| shuffle((0..self.block as u32).collect(), self.seed, BLOCKS + generation);
        let old = shuffled(self.generation).split_off(half);
        let new = shuffled(self.generation + 1)[..half].to_vec();
        let offset = self.block as u32;
        let both = old.into_iter().chain(new.into_iter().map(|row| row + offset)).collect();
        let order = shuffle(both, self.seed, POOLS + self.generation);
        Ok(Pool { old: &self.old, new: &self.new, widths: &self.widths, batch: self.batch, block: self.block, order })
    }

    /// The pool is used: the new block becomes the old one.
    pub fn advance(&mut self) {
        let start = self.new.start;
        self.old = std::mem::replace(&mut self.new, Block { start, sites: Vec::new() });
        self.generation += 1;
    }

    /// The next block of the texts, which begin anew at their end.
    fn fill(&mut self, work: &Work) -> Result<Block> {
        let mut sites: Vec<Vec<f32>> = vec![Vec::new(); self.hooks.len()];
        let (mut filled, mut start) = (0, None);
        while filled < self.block {
            if self.rows.as_ref().is_none_or(|rows| rows.next == rows.len) {
                self.read(work)?;
            }
            let Some(rows) = &mut self.rows else { continue };
            start.get_or_insert(Mark { position: rows.position, skip: rows.next, passes: self.passes });
            let count = (rows.len - rows.next).min(self.block - filled);
            for ((site, from), width) in sites.iter_mut().zip(&rows.sites).zip(&self.widths) {
                site.extend_from_slice(&from[rows.next * width..(rows.next + count) * width]);
            }
            rows.next += count;
            filled += count;
        }
        Ok(Block { start: start.unwrap_or_default(), sites })
    }

    /// Reads a chunk; at the end of the texts their first one.
    fn read(&mut self, work: &Work) -> Result<()> {
        work.check()?;
        let mut position = self.source.position();
        let mut chunk = self.source.next(work)?;
        if chunk.is_none() {
            self.check_enough()?;
            self.passes += 1;
            self.since_begin = Some(0);
            self.source.seek(0)?;
            position = 0;
            chunk = self.source.next(work)?;
        }
        let Some(chunk) = chunk else { return self.check_enough() };
        let (len, sites) = usable(&chunk, &self.hooks, &mut self.widths, self.skip_bos)?;
        self.since_begin = self.since_begin.map(|rows| rows + len);
        self.rows = Some(Rows { position, next: 0, len, sites });
        Ok(())
    }

    fn check_enough(&self) -> Result<()> {
        let Some(rows) = self.since_begin.filter(|rows| *rows < self.batch) else { return Ok(()) };
        Err(Error::input(format!("the texts give {rows} activations, fewer than a batch of {}", self.batch))
            .help("give more or longer texts, or a smaller `batch`"))
    }
}

/// Rows of a chunk without first positions (where `skip_bos`), as numbers: their count, and a matrix for each site. Sets the
/// widths where they are not known yet.
///
/// # Errors
/// Sites missing, of other shapes than before, or not finite.
pub(super) fn usable(chunk: &Chunk, hooks: &[String], widths: &mut Vec<usize>, skip_bos: bool) -> Result<(usize, Vec<Vec<f32>>)> {
    if chunk.sites.len() != hooks.len() {
        return Err(Error::shape(format!("the activations are of {} sites, but {} are trained", chunk.sites.len(), hooks.len())));
    }
    let mut rows = None;
    let mut sites = Vec::with_capacity(hooks.len());
    for (i, (tensor, hook)) in chunk.sites.iter().zip(hooks).enumerate() {
        let (n, d) = tensor.matrix_shape("the activations").map_err(|e| e.context(hook.as_str()))?;
        if widths.len() == i {
            widths.push(d);
        }
        if widths[i] != d || d == 0 || *rows.get_or_insert(n) != n {
            return Err(
                Error::shape(format!("activations of shape [{n}, {d}] do not fit those before them")).context(hook.as_str())
            );
        }
        let values = tensor.f32_cow();
        if let Some(place) = values.iter().position(|v| !v.is_finite()) {
            let (row, column) = (place / d, place % d);
            return Err(Error::input(format!(
                "an activation is {}: position {row} of its chunk, dimension {column}",
                values[place]
            ))
            .help("the model's weights or its forward pass give numbers that are not finite")
            .context(hook.as_str()));
        }
        let mut kept = Vec::with_capacity(values.len());
        for (row, values) in values.chunks_exact(d).enumerate() {
            if !(skip_bos && chunk.firsts.binary_search(&row).is_ok()) {
                kept.extend_from_slice(values);
            }
        }
        sites.push(kept);
    }
    let len = sites.first().zip(widths.first()).map_or(0, |(site, d)| site.len() / d);
    Ok((len, sites))
}

/// Fisher and Yates's shuffle.
fn shuffle(mut items: Vec<u32>, seed: u64, stream: u64) -> Vec<u32> {
    let mut random = Random::stream(seed, stream);
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last + 1));
    }
    items
}
