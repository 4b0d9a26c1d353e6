#!/usr/bin/env python3
"""Reference values for `compute`, by numpy and scipy in double precision.

Writes compute.json beside this file. Needs: pip install numpy scipy.
"""
import json, pathlib
import numpy as np, scipy
from scipy import special, stats

rng = np.random.default_rng(20240601)


def numbers(x):
    return np.asarray(x, dtype=np.float64).tolist()


def rounded(x):
    """Ten digits are enough and keep the file small."""
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return float(f"{x:.10g}") if isinstance(x, float) else x


def linear_algebra():
    a = rng.normal(size=(5, 3))
    a[:, 2] = a[:, 0] - 2 * a[:, 1]  # rank 2: the cut-off of pinv and lstsq matters
    full = rng.normal(size=(4, 6))
    square = rng.normal(size=(4, 4))
    spd = square @ square.T + np.eye(4)
    b, one = rng.normal(size=(4, 2)), rng.normal(size=5)
    values = np.linalg.eigvals(square)
    order = np.lexsort((values.imag, values.real))
    return {
        "a": numbers(a), "full": numbers(full), "square": numbers(square), "spd": numbers(spd), "b": numbers(b), "one": numbers(one),
        "singular_values": numbers(np.linalg.svd(full, compute_uv=False)),
        "r_abs": numbers(np.abs(np.linalg.qr(full)[1])),
        "eigh": numbers(np.linalg.eigvalsh(spd)),
        "eig": [[v.real, v.imag] for v in values[order]],
        "solve": numbers(np.linalg.solve(square, b)),
        "lstsq": numbers(np.linalg.lstsq(a, one, rcond=None)[0]),
        "pinv": numbers(np.linalg.pinv(a, rcond=5 * np.finfo(float).eps)),
        "cholesky": numbers(np.linalg.cholesky(spd)),
    }


QUANTILES = [0.0, 0.1, 0.5, 0.75, 1.0]


def moments(x, axis=None):
    return {
        "mean": numbers(x.mean(axis)), "std": numbers(x.std(axis)), "min": numbers(x.min(axis)), "max": numbers(x.max(axis)),
        "skewness": numbers(stats.skew(x, axis)), "kurtosis": numbers(stats.kurtosis(x, axis, fisher=False)),
        "quantiles": numbers(np.moveaxis(np.quantile(x, QUANTILES, axis), 0, -1)),
    }


def statistics(signed, absolute=False, mask=None, k=5):
    """What a Product finds out about these scores."""
    mask = np.zeros(signed.shape[1], bool) if mask is None else mask
    x = np.abs(signed) if absolute else signed
    free = np.flatnonzero(~mask)
    # Stable sorts of columns in order: among equal scores the smaller column comes first.
    top = [free[np.argsort(-row[free], kind="stable")][:k] for row in x]
    bottom = [free[np.argsort(row[free], kind="stable")][:k] for row in x]
    pairs = np.argsort(-x, axis=None, kind="stable")[:2 * k]
    inside = np.where(mask, -np.inf, signed)
    weights = special.softmax(inside, axis=1)
    ranked = -np.sort(-weights, axis=1)
    return {
        "rows": moments(x, 1), "cols": moments(x, 0), "all": moments(x), "top": numbers(top), "bottom": numbers(bottom),
        "pairs": [[int(p // x.shape[1]), int(p % x.shape[1]), float(x.flat[p])] for p in pairs],
        "log_sum_exp": numbers(special.logsumexp(inside, axis=1)), "entropy": numbers(stats.entropy(weights, axis=1)),
        "entropy_negative": numbers(stats.entropy(special.softmax(np.where(mask, -np.inf, -signed), axis=1), axis=1)),
        "top1": numbers(ranked[:, 0]), "top5": numbers(ranked[:, :5].sum(1)),
        "mean_weight": numbers(weights.mean(0)), "max_weight": numbers(weights.max(0)),
    }


def product():
    """Eighths of small integers: dot products are exact in single precision, and many are equal."""
    n, m, d = 23, 41, 13
    a, b, c = (rng.integers(-8, 9, size=s) / 8 for s in [(n, d), (d, m), (d, m)])
    gain, shift = rng.integers(1, 5, size=d) / 2, rng.integers(-4, 5, size=d) / 4
    scale = 2.0 ** rng.integers(-2, 3, size=n)
    mask = rng.random(m) < 0.2
    used = rng.permutation(n)[:17]
    left, right = (a * gain)[used], b - shift[:, None]
    cap = lambda x: 3 * np.tanh(x / 3)
    cosine = (left @ right) / np.linalg.norm(left, axis=1)[:, None] / np.linalg.norm(right, axis=0)
    return {
        "a": numbers(a), "b": numbers(b), "c": numbers(c), "gain": numbers(gain), "shift": numbers(shift), "scale": numbers(scale),
        "mask": mask.tolist(), "used": used.tolist(), "quantiles": QUANTILES,
        "plain": statistics(a @ b),
        "scaled": statistics(0.5 * scale[used, None] * (left @ right), mask=mask),
        "absolute": statistics(left @ right, absolute=True),
        "cosine": statistics(cosine),
        "averaged": statistics((cap(a @ b) + cap(a @ c)) / 2),
    }


out = {"numpy": np.__version__, "scipy": scipy.__version__, "linalg": linear_algebra(), "product": rounded(product())}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out) + "\n")
