#!/usr/bin/env python3
"""Means, deviations and singular values of a product from the whole product. Writes closed.json."""

import numpy as np

from common import write

rng = np.random.default_rng(17)
# Eighths are exact in single precision. The columns have a common part, against which uncentred sums would cancel.
a, b = (rng.integers(-16, 17, size=shape) / 8 for shape in [(30, 16), (16, 50)])
b += rng.integers(20, 40, size=(16, 1))
gain = rng.integers(1, 9, size=16) / 4
broken = 9


def of(product):
    return {"mean": product.mean(1), "std": product.std(1)}


entries = {}
for name, left in [("plain", a), ("gain", gain * a)]:
    whole = left @ b
    entries[name] = of(whole) | {"singular": np.linalg.svd(whole, compute_uv=False)[:16], "without": of(np.delete(whole, broken, 1))}
write("closed.json", {"numpy": np.__version__, "a": a, "b": b, "row_gain": gain, "broken": broken, **entries}, depth=2)
