"""SciPy's answers for `compare(a, b)`: effect sizes, tests and distances of two samples with ties.

    python compare.py
"""

import numpy as np
from scipy import stats

from common import write


def answers(a, b):
    ks = stats.ks_2samp(a, b, method="asymp")
    u = stats.mannwhitneyu(a, b, alternative="two-sided", method="asymptotic", use_continuity=True)
    effective = len(a) * len(b) / (len(a) + len(b))
    return {
        "n_a": len(a), "n_b": len(b), "mean_a": a.mean(), "mean_b": b.mean(),
        "median_a": np.median(a), "median_b": np.median(b),
        "p75_a": np.quantile(a, 0.75), "p75_b": np.quantile(b, 0.75),
        # SciPy's "asymp" is the exact one-sample distribution at the rounded effective n; the other is Kolmogorov's limit.
        "ks": ks.statistic, "ks_p": ks.pvalue, "ks_p_limit": stats.kstwobign.sf(np.sqrt(effective) * ks.statistic),
        "mann_whitney_u": u.statistic, "mann_whitney_p": u.pvalue,
        "rank_biserial": 2 * u.statistic / (len(a) * len(b)) - 1, "wasserstein": stats.wasserstein_distance(a, b),
    }


def stratified(a, b, strata_a, strata_b):
    """Rank-biserial with pairs formed only inside a stratum; U of a stratum without one side is left out.

    The p-value is van Elteren's idea with unit weights: the sum of the strata's U against the sum of their means, its variance
    the sum of the strata's tie-corrected variances, one continuity correction of 1/2.
    """
    total = pairs = mean = variance = 0.0
    per_stratum = []
    for s in sorted(set(strata_a) | set(strata_b)):
        x, y = a[strata_a == s], b[strata_b == s]
        u = sum(float(p > q) + 0.5 * float(p == q) for p in x for q in y)
        per_stratum.append({"stratum": int(s), "n_a": len(x), "n_b": len(y), "u": u})
        if not len(x) or not len(y):
            continue
        n = len(x) + len(y)
        _, counts = np.unique(np.concatenate([x, y]), return_counts=True)
        ties = (counts.astype(float) ** 3 - counts).sum()
        total += u
        pairs += len(x) * len(y)
        mean += len(x) * len(y) / 2
        variance += len(x) * len(y) / 12 * ((n + 1) - ties / (n * (n - 1)))
    z = (abs(total - mean) - 0.5) / np.sqrt(variance)
    return {
        "strata": per_stratum, "u": total, "pairs": pairs, "rank_biserial": 2 * total / pairs - 1,
        "p": min(1.0, 2 * stats.norm.sf(z)),
        "formula": "U = sum over strata of U_s (ties 1/2); rank_biserial = 2 U / sum of n_a n_b over strata - 1; "
                   "p: z = (|U - sum mu_s| - 1/2) / sqrt(sum var_s), var_s with tie correction, two-sided normal",
    }


def main():
    rng = np.random.default_rng(20240131)
    ties_a, ties_b = np.round(rng.normal(0.3, 1.0, 80), 1), np.round(rng.normal(0.0, 1.3, 57), 1)
    ties_b[0] = 0.0  # `ties_a` holds -0.0: the two are tied.
    smooth_a, smooth_b = np.round(rng.gamma(2.0, 1.5, 41), 6), np.round(rng.gamma(2.2, 1.9, 83), 6)
    strata_a, strata_b = rng.integers(0, 3, 80), rng.integers(0, 3, 57)
    # Shifted by stratum, so that the stratified and the plain answer differ; a fourth stratum has one side only.
    shifted_a, shifted_b = np.round(ties_a + 0.8 * strata_a, 1), np.round(ties_b + 0.8 * strata_b, 1)
    lonely_strata = strata_a.copy()
    lonely_strata[:4] = 3
    few_a, few_b = np.array([1.0, 2.0, 2.0, 5.0, 9.0]), np.array([2.0, 3.0, 4.0])
    pair = lambda a, b: {"a": a, "b": b, "expected": answers(a, b)}
    write("compare.json", {
        "source": "SciPy; made by compare.py; ks_p as ks_2samp(method='asymp'), ks_p_limit by Kolmogorov's limiting series",
        "ties": pair(ties_a, ties_b), "smooth": pair(smooth_a, smooth_b), "few": pair(few_a, few_b),
        "separate": pair(few_a, few_b + 20), "same": pair(few_a, few_a),
        "stratified": {
            "a": shifted_a, "b": shifted_b, "strata_a": strata_a, "strata_b": strata_b,
            "plain": answers(shifted_a, shifted_b), "expected": stratified(shifted_a, shifted_b, strata_a, strata_b),
        },
        "stratified_one_sided": {
            "a": shifted_a, "b": shifted_b, "strata_a": lonely_strata, "strata_b": strata_b,
            "expected": stratified(shifted_a, shifted_b, lonely_strata, strata_b),
        },
    })


if __name__ == "__main__":
    main()
