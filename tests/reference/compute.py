#!/usr/bin/env python3
"""Reference values for `compute`, by numpy and scipy in double precision.

Writes compute.json beside this file. Needs: pip install numpy scipy.
"""
import json, pathlib
import numpy as np, scipy

rng = np.random.default_rng(20240601)


def numbers(x):
    return np.asarray(x, dtype=np.float64).tolist()


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


out = {"numpy": np.__version__, "scipy": scipy.__version__, "linalg": linear_algebra()}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out) + "\n")
