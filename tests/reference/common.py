"""What the reference scripts share: rounding, statistics, token text and Levenshtein, all in float64."""

import json
import math
import os
from itertools import combinations

import numpy as np


def rounded(value, digits=9):
    """Floats to `digits` significant digits, arrays to lists, recursively; what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return rounded(value.tolist(), digits)
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def dump(value, level=0, depth=3):
    """JSON with one line an entry down to `depth` levels of maps, so that a change shows in a diff."""
    if isinstance(value, dict) and value and level < depth:
        pad = " " * (level + 1)
        items = [f"{pad}{json.dumps(key)}: {dump(item, level + 1, depth)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * level + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict) and level < depth:
        pad = " " * (level + 1)
        return "[\n" + ",\n".join(pad + dump(item, level + 1, depth) for item in value) + "\n" + " " * level + "]"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(name, value, depth=3):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    text = dump(rounded(value), depth=depth) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{name}: {len(text.encode())} bytes")


def moments(x):
    """Population moments: std divides by n, kurtosis is the plain fourth standardised moment."""
    x = np.asarray(x, dtype=np.float64)
    mean, std = x.mean(), x.std()
    z = (x - mean) / std
    return {"mean": mean, "std": std, "skewness": (z**3).mean(), "kurtosis": (z**4).mean(), "min": x.min(), "max": x.max()}


def top(x, k):
    """Ids of the k largest, ties by id."""
    return np.lexsort((np.arange(len(x)), -x))[:k]


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def entropy(p, axis=-1):
    """In nats; 0 log 0 = 0."""
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(axis=axis)


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, cb in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (ca != cb))
    return row[-1]


def mean_levenshtein(texts):
    """Mean over pairs of distance / longer length in characters; one leading space stripped, lower-cased."""
    clean = [(text[1:] if text.startswith(" ") else text).lower() for text in texts]
    ratios = []
    for a, b in combinations(clean, 2):
        longer = max(len(a), len(b))
        ratios.append(levenshtein(a, b) / longer if longer else 0.0)
    return float(np.mean(ratios))


def mean_cosine(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.mean([unit[i] @ unit[j] for i, j in combinations(range(len(unit)), 2)]))


def byte_level_map():
    """GPT-2's printable stand-ins for bytes: character -> byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    extra = [byte for byte in range(256) if byte not in printable]
    table.update({chr(256 + i): byte for i, byte in enumerate(extra)})
    return table


def decode_bytes(raw):
    """UTF-8 where it is valid, `<0xE2>` for each byte that is not."""
    return raw.decode("utf-8", errors="surrogateescape").encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass").translate(
        {0xDC00 + byte: f"<0x{byte:02X}>" for byte in range(0x80, 0x100)}
    )
