//! Lists of the highest and lowest scores. Among equal scores the smaller index comes first.

use super::simd;
use pulp::Simd;
use std::cmp::Ordering;

/// A score and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The column; lists of a million rows are most of what a run leaves.
    pub id: u32,
    /// The score.
    pub score: f32,
}

/// A score of a row with a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Position among the used rows.
    pub row: usize,
    /// The column.
    pub col: usize,
    /// The score.
    pub score: f32,
}

/// Lists of up to this length are kept in order; longer ones are cut from time to time.
const SHORT: usize = 64;

/// The `k` scores of a row that come first: the highest, or the lowest where `LOWEST`. Columns must arrive in order.
#[derive(Clone)]
pub(super) struct List<const LOWEST: bool> {
    k: usize,
    /// A short list, first is best; or a superset of a long one, fewer than twice `k`.
    best: Vec<Scored>,
    /// The score that a new one must pass.
    limit: f32,
}

impl<const LOWEST: bool> List<LOWEST> {
    pub(super) fn new(k: usize) -> Self {
        List { k, best: Vec::new(), limit: if LOWEST { f32::INFINITY } else { f32::NEG_INFINITY } }
    }

    /// Bytes that a list of `k` takes while it is made.
    pub(super) fn bytes(k: usize) -> usize {
        size_of::<Scored>() * if k > SHORT { 2 * k } else { k }
    }

    /// Adds a run of a row whose first column is `start` and whose extreme (largest, or least) is given. `mask` is that of
    /// the run: true keeps a column out.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&mut self, simd: S, run: &[f32], start: usize, extreme: f32, mask: Option<&[bool]>) {
        let mut limit = self.limit;
        if self.k == 0 || if LOWEST { extreme >= limit } else { extreme <= limit } {
            return;
        }
        // Where the list begins, what cannot come into it is spared its search.
        if self.best.is_empty()
            && mask.is_none()
            && let Some(score) = simd::reached::<S, LOWEST>(simd, run, self.k)
        {
            limit = if LOWEST { score.next_up() } else { score.next_down() };
        }
        let first = limit;
        let visit = |i: usize, score: f32| {
            if score.is_finite() && !mask.is_some_and(|mask| mask[i]) {
                self.insert(Scored { id: (start + i) as u32, score });
            }
            if LOWEST { self.limit.min(first) } else { self.limit.max(first) }
        };
        if LOWEST { simd::below(simd, run, limit, visit) } else { simd::above(simd, run, limit, visit) }
    }

    /// Inserts a score that passes the limit, behind those equal to it, which have smaller indices.
    fn insert(&mut self, new: Scored) {
        if self.k > SHORT {
            self.best.push(new);
            if self.best.len() == 2 * self.k {
                self.cut();
            }
            return;
        }
        if self.best.capacity() == 0 {
            self.best.reserve_exact(self.k);
        }
        self.best.truncate(self.k - 1);
        let at = self.best.partition_point(|s| if LOWEST { s.score <= new.score } else { s.score >= new.score });
        self.best.insert(at, new);
        if self.best.len() == self.k {
            self.limit = self.best[self.k - 1].score;
        }
    }

    /// Drops all of a long list but the `k` best.
    fn cut(&mut self) {
        if self.best.len() > self.k {
            self.limit = self.best.select_nth_unstable_by(self.k - 1, Self::order).1.score;
            self.best.truncate(self.k);
        }
    }

    /// Best first; among equal scores by column.
    fn order(a: &Scored, b: &Scored) -> Ordering {
        // Adding 0 makes -0 and 0 equal.
        let rising = (a.score + 0.0).total_cmp(&(b.score + 0.0));
        (if LOWEST { rising } else { rising.reverse() }).then(a.id.cmp(&b.id))
    }

    /// The list, best first.
    pub(super) fn into_best(mut self) -> Vec<Scored> {
        if self.k > SHORT {
            self.cut();
            self.best.sort_unstable_by(Self::order);
            self.best.shrink_to_fit();
        }
        self.best
    }
}

/// The `k` highest pairs of a set. Pairs may arrive in any order.
#[derive(Clone)]
pub(super) struct Pairs {
    k: usize,
    /// A superset of the `k` highest so far.
    kept: Vec<Pair>,
    /// Only scores of at least this can still be among the highest.
    pub floor: f32,
}

impl Pairs {
    pub(super) fn new(k: usize) -> Self {
        Pairs { k, kept: Vec::new(), floor: f32::NEG_INFINITY }
    }

    /// A set of the same size without pairs.
    pub(super) fn empty(&self) -> Self {
        Self::new(self.k)
    }

    /// Adds a run of row `row` whose first column is `start` and whose largest score is given.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&mut self, simd: S, run: &[f32], row: usize, start: usize, max: f32) {
        if self.k == 0 || max < self.floor {
            return;
        }
        // Scores equal to the floor may have the smaller index, so the threshold is just below it.
        simd::above(simd, run, self.floor.next_down(), |i, score| {
            if score.is_finite() {
                self.push(Pair { row, col: start + i, score });
            }
            self.floor.next_down()
        });
    }

    fn push(&mut self, pair: Pair) {
        self.kept.push(pair);
        if self.kept.len() >= 2 * self.k + 64 {
            self.cut();
        }
    }

    /// Drops all but the `k` highest.
    fn cut(&mut self) {
        if self.kept.len() > self.k {
            self.kept.select_nth_unstable_by(self.k - 1, order);
            self.kept.truncate(self.k);
            self.floor = self.floor.max(self.kept[self.k - 1].score);
        }
    }

    /// Takes the pairs of another set.
    pub(super) fn merge(&mut self, other: &mut Self) {
        self.kept.append(&mut other.kept);
        if self.kept.len() >= 2 * self.k + 64 {
            self.cut();
        }
    }

    /// So many pairs that a set of all blocks should have them: blocks may be many.
    pub(super) fn many(&self) -> bool {
        self.kept.len() >= 1 << 10
    }

    /// The highest pairs, falling.
    pub(super) fn finish(mut self) -> Vec<Pair> {
        self.cut();
        self.kept.sort_unstable_by(order);
        self.kept
    }
}

/// Falling scores; among equal ones by row, then column.
fn order(a: &Pair, b: &Pair) -> Ordering {
    // Adding 0 makes -0 and 0 equal.
    (b.score + 0.0).total_cmp(&(a.score + 0.0)).then(a.row.cmp(&b.row)).then(a.col.cmp(&b.col))
}
