//! The inner loops over runs of scores, in the widest instructions that the processor has.
//!
//! The functions are inlined into one of a few dispatched operations; called outside of those they would be compiled for
//! the least of all processors. So would a closure that is handed to `array::map` or `array::from_fn`: hence the loops.

use pulp::Simd;

/// Sums of powers of `x · scale - shift` over a run, and its extremes.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// First and second powers; third and fourth ones where they are asked for, else 0.
    pub powers: [f32; 4],
    /// Least score.
    pub min: f32,
    /// Largest score.
    pub max: f32,
}

/// Independent accumulators of a loop, so that it does not wait for its own additions.
const UNROLL: usize = 2;

#[derive(Clone, Copy)]
struct Lanes<V> {
    powers: [V; 4],
    min: V,
    max: V,
}

/// [`Sums`] of a run, of all four powers with `SHAPE`. Extremes mean nothing where a score is NaN; the highest power is not
/// finite where any score is not.
#[inline(always)]
pub(super) fn sums<S: Simd, const SHAPE: bool>(simd: S, run: &[f32], scale: f32, shift: f32) -> Sums {
    let (scales, shifts) = (simd.splat_f32s(scale), simd.splat_f32s(-shift));
    let (zero, inf) = (simd.splat_f32s(0.0), simd.splat_f32s(f32::INFINITY));
    let mut lanes = [Lanes { powers: [zero; 4], min: inf, max: simd.splat_f32s(f32::NEG_INFINITY) }; UNROLL];
    let step = |l: &mut Lanes<S::f32s>, x: S::f32s| {
        let d = simd.mul_add_e_f32s(x, scales, shifts);
        let d2 = simd.mul_f32s(d, d);
        l.powers[0] = simd.add_f32s(l.powers[0], d);
        l.powers[1] = simd.add_f32s(l.powers[1], d2);
        if SHAPE {
            l.powers[2] = simd.mul_add_e_f32s(d2, d, l.powers[2]);
            l.powers[3] = simd.mul_add_e_f32s(d2, d2, l.powers[3]);
        }
        l.min = simd.min_f32s(l.min, x);
        l.max = simd.max_f32s(l.max, x);
    };
    let (vectors, tail) = S::as_simd_f32s(run);
    let (pairs, rest) = vectors.as_chunks::<UNROLL>();
    for pair in pairs {
        for (l, x) in lanes.iter_mut().zip(pair) {
            step(l, *x);
        }
    }
    for x in rest {
        step(&mut lanes[0], *x);
    }
    let mut total = lanes[0];
    for l in &lanes[1..] {
        for (t, p) in total.powers.iter_mut().zip(l.powers) {
            *t = simd.add_f32s(*t, p);
        }
        total.min = simd.min_f32s(total.min, l.min);
        total.max = simd.max_f32s(total.max, l.max);
    }
    let mut out = Sums { powers: [0.0; 4], min: simd.reduce_min_f32s(total.min), max: simd.reduce_max_f32s(total.max) };
    for (sum, power) in out.powers.iter_mut().zip(total.powers) {
        *sum = simd.reduce_sum_f32s(power);
    }
    for x in tail {
        let d = x.mul_add(scale, -shift);
        let d2 = d * d;
        let highest = if SHAPE { 4 } else { 2 };
        for (sum, power) in out.powers.iter_mut().zip([d, d2, d2 * d, d2 * d2]).take(highest) {
            *sum += power;
        }
        out.min = out.min.min(*x);
        out.max = out.max.max(*x);
    }
    out
}

/// The largest score of a run; -∞ where there is none. Means nothing where a score is NaN.
#[inline(always)]
pub(in crate::compute) fn max<S: Simd>(simd: S, run: &[f32]) -> f32 {
    let (vectors, tail) = S::as_simd_f32s(run);
    let mut lanes = simd.splat_f32s(f32::NEG_INFINITY);
    for x in vectors {
        lanes = simd.max_f32s(lanes, *x);
    }
    tail.iter().fold(simd.reduce_max_f32s(lanes), |max, x| max.max(*x))
}

/// A score that `k` scores of a run reach (are at least as high as, or as low where `LOWEST`), near to the `k`-th one: the
/// `k`-th among the extremes of the lanes. None where the run is short for that, or not finite.
#[inline(always)]
pub(super) fn reached<S: Simd, const LOWEST: bool>(simd: S, run: &[f32], k: usize) -> Option<f32> {
    let lanes = S::F32_LANES;
    let (vectors, _) = S::as_simd_f32s(run);
    if k == 0 || k > lanes || vectors.len() < lanes {
        return None;
    }
    let mut best = vectors[0];
    for x in vectors {
        best = if LOWEST { simd.min_f32s(best, *x) } else { simd.max_f32s(best, *x) };
    }
    let mut best: Vec<f32> = bytemuck::cast_slice(std::slice::from_ref(&best)).to_vec();
    best.sort_unstable_by(f32::total_cmp);
    best.iter().all(|x| x.is_finite()).then(|| if LOWEST { best[k - 1] } else { best[lanes - k] })
}

/// Whether all scores of a run are finite.
#[inline(always)]
pub(super) fn finite<S: Simd>(simd: S, run: &[f32]) -> bool {
    let zero = simd.splat_f32s(0.0);
    let mut sum = zero;
    // 0 · x is 0 for finite x, else NaN.
    let (vectors, tail) = S::as_simd_f32s(run);
    for x in vectors {
        sum = simd.mul_add_e_f32s(*x, zero, sum);
    }
    simd.reduce_sum_f32s(sum) == 0.0 && tail.iter().all(|x| x.is_finite())
}

/// Calls `visit(index, score)` for every score above a threshold, which each visit replaces by what it returns.
#[inline(always)]
pub(super) fn above<S: Simd>(simd: S, run: &[f32], mut threshold: f32, mut visit: impl FnMut(usize, f32) -> f32) {
    let mut limit = simd.splat_f32s(threshold);
    chosen(
        simd,
        run,
        &mut limit,
        |limit, x| simd.greater_than_f32s(x, *limit),
        |limit, i, x| {
            if x > threshold {
                threshold = visit(i, x);
                *limit = simd.splat_f32s(threshold);
            }
        },
    );
}

/// As [`above`], for scores below a threshold.
#[inline(always)]
pub(super) fn below<S: Simd>(simd: S, run: &[f32], mut threshold: f32, mut visit: impl FnMut(usize, f32) -> f32) {
    let mut limit = simd.splat_f32s(threshold);
    chosen(
        simd,
        run,
        &mut limit,
        |limit, x| simd.less_than_f32s(x, *limit),
        |limit, i, x| {
            if x < threshold {
                threshold = visit(i, x);
                *limit = simd.splat_f32s(threshold);
            }
        },
    );
}

/// Calls `visit(range, score)` for every score in one of the ranges `lo..=hi`, which few scores lie in.
#[inline(always)]
pub(super) fn within<S: Simd, const K: usize>(simd: S, run: &[f32], ranges: [(f32, f32); K], mut visit: impl FnMut(usize, f32)) {
    let mut limits = limits(simd, ranges);
    let zero = simd.splat_f32s(0.0);
    let test = |limits: &[(S::f32s, S::f32s); K], x| {
        let mut depth = zero;
        for (k, (lo, hi)) in limits.iter().enumerate() {
            let own = simd.min_f32s(simd.sub_f32s(x, *lo), simd.sub_f32s(*hi, x));
            depth = if k == 0 { own } else { simd.max_f32s(depth, own) };
        }
        simd.greater_than_or_equal_f32s(depth, zero)
    };
    chosen(simd, run, &mut limits, test, |_, _, x| {
        for (k, (lo, hi)) in ranges.iter().enumerate() {
            if x >= *lo && x <= *hi {
                visit(k, x);
            }
        }
    });
}

/// The ends of ranges, with -0 for 0 at the lower one: -0 minus it is not below. Distances from both ends tell what lies between
/// them; they are exact in their signs, and cheaper than masks.
#[inline(always)]
fn limits<S: Simd, const K: usize>(simd: S, ranges: [(f32, f32); K]) -> [(S::f32s, S::f32s); K] {
    let mut limits = [(simd.splat_f32s(0.0), simd.splat_f32s(0.0)); K];
    for (limits, (lo, hi)) in limits.iter_mut().zip(ranges) {
        *limits = (simd.splat_f32s(if lo == 0.0 { -0.0 } else { lo }), simd.splat_f32s(hi));
    }
    limits
}

/// Visits the scores that a test finds, which are few; and those that fill the last vector, whatever they are.
#[inline(always)]
fn chosen<S: Simd, T>(
    simd: S,
    run: &[f32],
    state: &mut T,
    test: impl Fn(&T, S::f32s) -> S::m32s,
    mut visit: impl FnMut(&mut T, usize, f32),
) {
    const GROUP: usize = 4;
    let lanes = S::F32_LANES;
    let (vectors, tail) = S::as_simd_f32s(run);
    for (g, group) in vectors.chunks(GROUP).enumerate() {
        if let [a, b, c, d] = group {
            let (ab, cd) = (simd.or_m32s(test(state, *a), test(state, *b)), simd.or_m32s(test(state, *c), test(state, *d)));
            if simd.first_true_m32s(simd.or_m32s(ab, cd)) == lanes {
                continue;
            }
        }
        for (v, x) in group.iter().enumerate() {
            let mut bits = bits(simd, test(state, *x));
            while bits != 0 {
                let i = (g * GROUP + v) * lanes + bits.trailing_zeros() as usize;
                visit(state, i, run[i]);
                bits &= bits - 1;
            }
        }
    }
    let start = run.len() - tail.len();
    for (i, x) in tail.iter().enumerate() {
        visit(state, start + i, *x);
    }
}

/// One bit for each lane.
#[inline(always)]
fn bits<S: Simd>(simd: S, mask: S::m32s) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::any::TypeId::of::<S>() == std::any::TypeId::of::<pulp::x86::V4>() {
        return u32::from(bytemuck::cast::<_, u16>(mask));
    }
    let flags = simd.select_u32s(mask, simd.splat_u32s(1), simd.splat_u32s(0));
    let flags: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&flags));
    flags.iter().rev().fold(0, |bits, flag| bits << 1 | flag)
}

/// Copies the scores in each range `lo..=hi` to the start of its `out`, which is enlarged where it is too small for every
/// score, and overwritten. Returns for each how many scores are below `lo` and how many were copied. All are finite.
#[inline(always)]
pub(super) fn between<S: Simd, const K: usize>(
    simd: S,
    run: &[f32],
    ranges: [(f32, f32); K],
    outs: &mut [Vec<f32>; K],
) -> [(usize, usize); K] {
    let lanes = S::F32_LANES;
    for out in outs.iter_mut() {
        // One vector more, as whole vectors are written.
        if out.len() < run.len() + lanes {
            out.resize(run.len() + lanes, 0.0);
        }
    }
    let (vectors, tail) = S::as_simd_f32s(run);
    let (zero, sign) = (simd.splat_f32s(0.0), simd.splat_u32s(31));
    let limits = limits(simd, ranges);
    let mut belows = [simd.splat_u32s(0); K];
    // Those of all ranges come into the first buffer together: they are few, and soon parted.
    let mut together = 0;
    let buffer = &mut outs[0][..];
    for x in vectors {
        let mut depth = zero;
        for k in 0..K {
            let above = simd.sub_f32s(*x, limits[k].0);
            belows[k] = simd.add_u32s(belows[k], simd.wrapping_dyn_shr_u32s(simd.transmute_u32s_f32s(above), sign));
            let own = simd.min_f32s(above, simd.sub_f32s(limits[k].1, *x));
            depth = if k == 0 { own } else { simd.max_f32s(depth, own) };
        }
        let chosen = simd.greater_than_or_equal_f32s(depth, zero);
        together += compress(simd, *x, chosen, &mut buffer[together..together + lanes]);
    }
    // In no range.
    buffer[together..together + lanes].fill(f32::NAN);
    let mut counted = [(0, 0); K];
    // The first comes last: its own take the place of all.
    for k in (0..K).rev() {
        let (lo, hi) = ranges[k];
        let shared = if K == 1 { 0 } else { together };
        let mut inside = together - shared;
        for start in (0..shared).step_by(lanes) {
            let x = S::as_simd_f32s(&outs[0][start..start + lanes]).0[0];
            let (high, low) = (simd.greater_than_or_equal_f32s(x, limits[k].0), simd.less_than_or_equal_f32s(x, limits[k].1));
            inside += compress(simd, x, simd.and_m32s(high, low), &mut outs[k][inside..inside + lanes]);
        }
        let below = belows[k];
        let mut below: usize = bytemuck::cast_slice(std::slice::from_ref(&below)).iter().map(|c: &u32| *c as usize).sum();
        for x in tail {
            below += usize::from(*x < lo);
            outs[k][inside] = *x;
            inside += usize::from(*x >= lo && *x <= hi);
        }
        counted[k] = (below, inside);
    }
    counted
}

/// Writes the chosen lanes to the start of `out` (the rest of it is overwritten with anything); returns how many.
#[inline(always)]
fn compress<S: Simd>(simd: S, x: S::f32s, chosen: S::m32s, out: &mut [f32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::any::TypeId::of::<S>() == std::any::TypeId::of::<pulp::x86::V4>() {
        // SAFETY: a value of this type exists (`simd`), so the processor has these instructions.
        let v4 = unsafe { pulp::x86::V4::new_unchecked() };
        let mask: u16 = bytemuck::cast(chosen);
        let packed = v4.avx512f._mm512_maskz_compress_ps(mask, bytemuck::cast(x));
        out.copy_from_slice(bytemuck::cast_slice::<_, f32>(std::slice::from_ref(&packed)));
        return mask.count_ones() as usize;
    }
    let flags = simd.select_u32s(chosen, simd.splat_u32s(1), simd.splat_u32s(0));
    let flags: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&flags));
    let mut n = 0;
    for (x, flag) in bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(&x)).iter().zip(flags) {
        out[n] = *x;
        n += *flag as usize;
    }
    n
}

/// e^x for x ≤ 0 within 2 units in the last place; 0 below -87, anything for NaN.
#[inline(always)]
pub(in crate::compute) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // x = n ln 2 + r with |r| ≤ ln 2 / 2; adding 1.5 · 2^23 rounds to the integer n and leaves it in the low bits.
    let magic = simd.splat_f32s(12_582_912.0);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_145_75), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-1.428_606_8e-6), r);
    // Of the least relative error on that range, 3e-9, among those that begin with 1 + r.
    let mut p = simd.splat_f32s(1.381_454e-3);
    for c in [8.368_745e-3, 4.166_839e-2, 1.666_652_1e-1, 0.499_999_94, 1.0, 1.0] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(c));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent));
    let tiny = simd.less_than_f32s(x, simd.splat_f32s(-87.0));
    simd.select_f32s(tiny, simd.splat_f32s(0.0), power)
}

/// The first numbers of a vector; the others are `fill`.
#[inline(always)]
pub(in crate::compute) fn padded<S: Simd>(simd: S, numbers: &[f32], fill: f32) -> S::f32s {
    let mut out = simd.splat_f32s(fill);
    bytemuck::cast_slice_mut::<S::f32s, f32>(std::slice::from_mut(&mut out))[..numbers.len()].copy_from_slice(numbers);
    out
}

/// Σ e^(x - top) and Σ (x - top) e^(x - top) over a run whose scores are at most `top`; not finite where a score is not.
#[inline(always)]
pub(super) fn exp_sums<S: Simd>(simd: S, run: &[f32], top: f32) -> (f32, f32) {
    #[inline(always)]
    fn step<S: Simd>(simd: S, x: S::f32s, top: S::f32s, sums: &mut [S::f32s; 2]) {
        let d = simd.sub_f32s(x, top);
        let e = exp(simd, d);
        *sums = [simd.add_f32s(sums[0], e), simd.mul_add_e_f32s(d, e, sums[1])];
    }
    let tops = simd.splat_f32s(top);
    let mut sums = [[simd.splat_f32s(0.0); 2]; UNROLL];
    let (vectors, tail) = S::as_simd_f32s(run);
    let (pairs, rest) = vectors.as_chunks::<UNROLL>();
    for pair in pairs {
        for (sums, x) in sums.iter_mut().zip(pair) {
            step(simd, *x, tops, sums);
        }
    }
    for x in rest {
        step(simd, *x, tops, &mut sums[0]);
    }
    if !tail.is_empty() {
        // Far enough down that the weight is 0, also where 1e4 is less than rounding takes; near enough that 0 times it is 0.
        let below = (top - top.abs().mul_add(1e-3, 1e4)).max(f32::MIN);
        step(simd, padded(simd, tail, below), tops, &mut sums[0]);
    }
    let [mut total, mut weighted] = sums[0];
    for [t, w] in &sums[1..] {
        (total, weighted) = (simd.add_f32s(total, *t), simd.add_f32s(weighted, *w));
    }
    (simd.reduce_sum_f32s(total), simd.reduce_sum_f32s(weighted))
}

/// Σ e^(x - top - log) and the largest x - top - log over a run with a largest score and a logarithm for each score. The sum is
/// NaN where any of them is not finite.
#[inline(always)]
pub(super) fn weights<S: Simd>(simd: S, run: &[f32], tops: &[f32], logs: &[f32]) -> (f32, f32) {
    #[inline(always)]
    fn step<S: Simd>(simd: S, x: S::f32s, (top, log): (S::f32s, S::f32s), total: &mut S::f32s, largest: &mut S::f32s) {
        let d = simd.sub_f32s(simd.sub_f32s(x, top), log);
        // Not finite where d is not.
        *total = simd.add_f32s(*total, simd.mul_add_e_f32s(d, simd.splat_f32s(0.0), exp(simd, d)));
        *largest = simd.max_f32s(*largest, d);
    }
    let (zero, none) = (simd.splat_f32s(0.0), simd.splat_f32s(f32::NEG_INFINITY));
    let (mut totals, mut largest) = ([zero; UNROLL], [none; UNROLL]);
    let (xs, x_tail) = S::as_simd_f32s(run);
    let ((tops, top_tail), (logs, log_tail)) = (S::as_simd_f32s(tops), S::as_simd_f32s(logs));
    let ((x_pairs, x_rest), (top_pairs, top_rest)) = (xs.as_chunks::<UNROLL>(), tops.as_chunks::<UNROLL>());
    let (log_pairs, log_rest) = logs.as_chunks::<UNROLL>();
    for ((xs, tops), logs) in x_pairs.iter().zip(top_pairs).zip(log_pairs) {
        for i in 0..UNROLL {
            step(simd, xs[i], (tops[i], logs[i]), &mut totals[i], &mut largest[i]);
        }
    }
    for ((x, top), log) in x_rest.iter().zip(top_rest).zip(log_rest) {
        step(simd, *x, (*top, *log), &mut totals[0], &mut largest[0]);
    }
    if !x_tail.is_empty() {
        let normaliser = (padded(simd, top_tail, 0.0), padded(simd, log_tail, 0.0));
        step(simd, padded(simd, x_tail, f32::MIN), normaliser, &mut totals[0], &mut largest[0]);
    }
    let [mut total, mut most] = [totals[0], largest[0]];
    for i in 1..UNROLL {
        (total, most) = (simd.add_f32s(total, totals[i]), simd.max_f32s(most, largest[i]));
    }
    (simd.reduce_sum_f32s(total), simd.reduce_max_f32s(most))
}

/// Magnitudes, in place.
#[inline(always)]
pub(super) fn abs<S: Simd>(simd: S, run: &mut [f32]) {
    let (vectors, tail) = S::as_mut_simd_f32s(run);
    for x in vectors {
        *x = simd.abs_f32s(*x);
    }
    for x in tail {
        *x = x.abs();
    }
}

/// (1 - e^-2|x|) / (1 + e^-2|x|) with the sign of x; near 0, where that cancels, the odd polynomial of Cephes' `tanhf`, and where
/// all numbers are near 0 that alone. NaN where x is not finite.
#[inline(always)]
pub(in crate::compute) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let magnitude = simd.abs_f32s(x);
    let z = simd.mul_f32s(x, x);
    let mut p = simd.splat_f32s(-5.704_988_7e-3);
    for c in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_3e-1] {
        p = simd.mul_add_e_f32s(p, z, simd.splat_f32s(c));
    }
    let near = simd.mul_add_e_f32s(simd.mul_f32s(p, z), x, x);
    let far = simd.greater_than_or_equal_f32s(magnitude, simd.splat_f32s(0.625));
    if simd.first_true_m32s(far) == S::F32_LANES {
        return near;
    }
    let one = simd.splat_f32s(1.0);
    let e = exp(simd, simd.mul_f32s(magnitude, simd.splat_f32s(-2.0)));
    let value = simd.div_f32s(simd.sub_f32s(one, e), simd.add_f32s(one, e));
    let sign = simd.and_f32s(simd.splat_f32s(-0.0), x);
    let value = simd.select_f32s(far, simd.or_f32s(value, sign), near);
    simd.add_f32s(value, simd.sub_f32s(x, x))
}
