#!/usr/bin/env python3
"""Reference values for stats::trend, the two-lines test (Simonsohn 2018) with a cubic in place of the spline.

Regressions by statsmodels, Spearman by SciPy. Writes trend.json beside this file. Needs: pip install numpy scipy statsmodels.
"""
import json, pathlib
import numpy as np, statsmodels.api as sm
from scipy import stats

LEVEL = 0.05


def interrupted(x, y, at):
    low = x < at
    if min(low.sum(), (~low).sum()) < 2:
        return None
    design = np.column_stack([np.ones_like(x), np.where(low, x - at, 0), np.where(low, 0, x - at), (~low).astype(float)])
    return sm.OLS(y, design).fit()


def trend(x, y):
    rho, p = stats.spearmanr(x, y)
    out = {"spearman": rho, "spearman_p": p, "break_at": None, "slope_left": None, "slope_right": None, "p_left": None, "p_right": None}
    out["shape"] = ("rising" if rho > 0 else "falling") if p < LEVEL else "none"
    if len(x) < 7:
        return out
    quadratic = sm.OLS(y, np.vander(x, 3)).fit()
    sign = -1 if quadratic.params[0] > 0 else 1
    cubic = sm.OLS(y, np.vander((x - x.mean()) / x.std(), 4)).fit()
    prediction = cubic.get_prediction()
    height, error = sign * prediction.predicted_mean, prediction.se_mean
    inner = np.flatnonzero((x > x.min()) & (x < x.max()))
    peak = inner[np.argmax(height[inner])]
    flat = np.sort([x[i] for i in inner if height[i] >= height[peak] - error[peak]])
    first = interrupted(x, y, np.median(flat))
    if first is None:
        return out
    t1, t2 = np.abs(first.tvalues[1:3])
    at = np.quantile(flat, t2 / (t1 + t2))
    fit = interrupted(x, y, at)
    if fit is None:
        return out
    out |= {"break_at": at, "slope_left": fit.params[1], "slope_right": fit.params[2], "p_left": fit.pvalues[1], "p_right": fit.pvalues[2]}
    if max(out["p_left"], out["p_right"]) < LEVEL and out["slope_left"] * out["slope_right"] < 0:
        out["shape"] = "U" if out["slope_left"] < 0 else "inverted U"
    return out


rng = np.random.default_rng(7)
cases = {}
for name, n, f in [
    ("u", 26, lambda t: 4 * (t - 0.45) ** 2), ("inverted_u", 32, lambda t: -3 * (t - 0.6) ** 2), ("saturating", 30, lambda t: 1 - np.exp(-5 * t)),
    ("rising", 12, lambda t: t), ("falling", 9, lambda t: -2 * t), ("noise", 24, lambda t: 0 * t), ("few", 5, lambda t: (t - 0.5) ** 2),
    ("short_u", 8, lambda t: 6 * (t - 0.5) ** 2),
]:
    x = np.arange(n, dtype=float) + (3 if name == "rising" else 0)
    t = (x - x[0]) / (n - 1)
    y = np.round(f(t) + rng.normal(scale=0.08, size=n), 6)
    cases[name] = {"x": x.tolist(), "y": y.tolist()} | {k: (v if isinstance(v, str) or v is None else float(v)) for k, v in trend(x, y).items()}
    print(name, cases[name]["shape"], cases[name]["break_at"])
pathlib.Path(__file__).with_name("trend.json").write_text(json.dumps(cases, indent=1) + "\n")
