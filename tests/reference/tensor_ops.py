"""NumPy's, SciPy's and PyTorch's answers for the tensor functions of the script surface, on small non-square inputs.

Every case is {"inputs": {...}, "expected": {...}}, all in float64. Ties in sort, argsort and topk go by index (stable).

    python tensor_ops.py
"""

import numpy as np
import torch
from scipy import stats

from common import write

CASES = {}


def case(name, inputs, **expected):
    as_lists = lambda value: value.numpy() if isinstance(value, torch.Tensor) else value
    assert name not in CASES
    CASES[name] = {"inputs": {k: as_lists(v) for k, v in inputs.items()}, "expected": {k: as_lists(v) for k, v in expected.items()}}


def reductions(x):
    t = torch.tensor(x)
    for label, dim in (("all", None), ("dim0", 0), ("dim1", 1)):
        along = {} if dim is None else {"dim": dim}
        axis = {"axis": dim}
        case(f"reduce_{label}", {"x": x},
             sum=x.sum(**axis), mean=x.mean(**axis), std=t.std(**along), variance=t.var(**along),
             std_ddof0=x.std(**axis), variance_ddof0=x.var(**axis), min=x.min(**axis), max=x.max(**axis),
             argmin=x.argmin(**axis), argmax=x.argmax(**axis), median=np.median(x, **axis), norm=np.sqrt((x**2).sum(**axis)),
             quantile_0_1=np.quantile(x, 0.1, **axis), quantile_0_75=np.quantile(x, 0.75, **axis),
             quantile_1=np.quantile(x, 1.0, **axis),
             skewness=stats.skew(x, axis=dim, bias=True), kurtosis=stats.kurtosis(x, axis=dim, bias=True, fisher=False))
    case("norm_orders", {"x": x}, norm1=np.abs(x).sum(), norm_inf=np.abs(x).max())
    case("cumsum", {"x": x}, dim0=x.cumsum(axis=0), dim1=x.cumsum(axis=1))


def ordering():
    x = torch.tensor([3.0, 1.0, 2.0, 3.0, 1.0, -1.0, 2.0, 3.0], dtype=torch.float64)
    up, down = x.sort(stable=True), x.sort(stable=True, descending=True)
    case("sort_ties", {"x": x}, sorted=up.values, argsort=up.indices, sorted_descending=down.values,
         argsort_descending=down.indices, top3_values=down.values[:3], top3_indices=down.indices[:3],
         top5_values=down.values[:5], top5_indices=down.indices[:5], argmax=x.argmax(), argmin=x.argmin())
    y = torch.tensor([[2.0, 7.0, 7.0, -1.0], [5.0, 5.0, 0.5, 5.0], [0.0, -2.0, -2.0, 4.0]], dtype=torch.float64)
    for dim in (0, 1):
        up = y.sort(dim=dim, stable=True)
        down = y.sort(dim=dim, stable=True, descending=True)
        case(f"sort_dim{dim}", {"x": y}, sorted=up.values, argsort=up.indices,
             top2_values=down.values.narrow(dim, 0, 2), top2_indices=down.indices.narrow(dim, 0, 2))
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    case("unique", {"x": x}, values=values, inverse=inverse, counts=counts)
    case("rank", {"x": x}, average=stats.rankdata(x))
    edges = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.5, 0.999, 1.0, 2.0, 2.0])
    counts, bounds = np.histogram(edges, bins=4)
    counts10, bounds10 = np.histogram(x, bins=10)
    case("histogram", {"x": edges}, bins4_counts=counts, bins4_edges=bounds)
    case("histogram_ties", {"x": x}, bins10_counts=counts10, bins10_edges=bounds10)
    constant, constant_edges = np.histogram(np.full(5, 3.0), bins=3)
    case("histogram_constant", {"x": np.full(5, 3.0)}, bins3_counts=constant, bins3_edges=constant_edges)


def elementwise(x):
    t = torch.tensor(x)
    f = torch.nn.functional
    case("activations", {"x": x}, gelu=f.gelu(t), gelu_tanh=f.gelu(t, approximate="tanh"), silu=f.silu(t),
         sigmoid=torch.sigmoid(t), tanh=torch.tanh(t), relu=torch.relu(t), exp=torch.exp(t),
         softmax_dim0=torch.softmax(t, 0), softmax_dim1=torch.softmax(t, 1), log_softmax_dim0=torch.log_softmax(t, 0),
         log_softmax_dim1=torch.log_softmax(t, 1), clamp=torch.clamp(t, -0.5, 1.25), sign=torch.sign(t), abs=torch.abs(t))
    big = torch.tensor([1000.0, 999.0, -1000.0], dtype=torch.float64)
    case("softmax_large", {"x": big}, softmax=torch.softmax(big, 0), log_softmax=torch.log_softmax(big, 0))
    half = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 2.4999, -1.2], dtype=torch.float64)
    case("round", {"x": half}, round=torch.round(half), floor=torch.floor(half))
    base = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    case("pow", {"x": base}, cube=base**3, half=base**0.5, inverse=base**-1.0, number_base=2.0**base)


def relations(x, rng):
    t = torch.tensor(x)
    y = np.round(rng.normal(size=x.shape), 4)
    u = torch.tensor(y)
    case("cosine_similarity", {"a": x, "b": y}, dim0=torch.cosine_similarity(t, u, dim=0), dim1=torch.cosine_similarity(t, u, dim=1))
    case("corrcoef", {"x": x}, rows=np.corrcoef(x))
    a, b = np.array([1.0, 2.0, 2.0, 5.0, 0.0, 3.0, 3.0]), np.array([2.0, 1.0, 4.0, 6.0, -1.0, 4.0, 4.0])
    case("spearman", {"a": a, "b": b}, spearman=stats.spearmanr(a, b).statistic, pearson=np.corrcoef(a, b)[0, 1])
    left, right = np.round(rng.normal(size=(2, 3)), 3), np.round(rng.normal(size=(4, 3)), 3)
    vector, cube = np.round(rng.normal(size=3), 3), np.round(rng.normal(size=(2, 3, 4)), 3)
    square = np.round(rng.normal(size=(3, 3)), 3)
    case("einsum", {"a": left, "b": right, "v": vector, "c": cube, "s": square}, **{
        "ij,kj->ik": np.einsum("ij,kj->ik", left, right), "ij,j->i": np.einsum("ij,j->i", left, vector),
        "ij->ji": left.T, "ij->": left.sum(), "ii->": np.trace(square), "ii->i": np.diag(square),
        "i,j->ij": np.einsum("i,j->ij", vector, vector), "ijk,kj->i": np.einsum("ijk,kj->i", cube, right),
        "ij,ijk->ik": np.einsum("ij,ijk->ik", left, cube), "ijk,kl->ijl": np.einsum("ijk,kl->ijl", cube, right),
        "ij,ij->i": np.einsum("ij,ij->i", left, left),
        "ij,jk,lk->il": np.einsum("ij,jk,lk->il", left, square, right),
    }, trace=np.trace(square))
    case("matmul", {"a": left, "b": right, "v": vector, "c": cube},
         a_bt=left @ right.T, a_v=left @ vector, c_b=cube @ right, outer=np.outer(vector, vector), dot=vector @ vector)


def linear_algebra(rng):
    tall, wide = np.round(rng.normal(size=(5, 3)), 3), np.round(rng.normal(size=(2, 4)), 3)
    for name, matrix in (("tall", tall), ("wide", wide)):
        u, s, vh = np.linalg.svd(matrix, full_matrices=False)
        q, r = np.linalg.qr(matrix)
        case(f"svd_{name}", {"x": matrix}, s=s, abs_u=np.abs(u), abs_vh=np.abs(vh))
        case(f"qr_{name}", {"x": matrix}, abs_q=np.abs(q), abs_r=np.abs(r))
        case(f"pinv_{name}", {"x": matrix}, pinv=np.linalg.pinv(matrix))
    deficient = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 2.0])
    case("pinv_rank1", {"x": deficient}, pinv=np.linalg.pinv(deficient), s=np.linalg.svd(deficient, compute_uv=False)[:1])
    general = np.round(rng.normal(size=(4, 4)), 3)
    spiral = np.array([[0.5, -2.0, 0.3, 0.0], [2.0, 0.5, 0.0, 0.1], [0.0, 0.0, -1.0, 0.7], [0.2, 0.0, 0.0, 3.0]])
    for name, matrix in (("general", general), ("complex", spiral)):
        values = sorted(np.linalg.eigvals(matrix), key=lambda z: (round(z.real, 9), z.imag))
        case(f"eig_{name}", {"x": matrix}, real=[z.real for z in values], imag=[z.imag for z in values])
    symmetric = np.round(general + general.T, 3)
    values, vectors = np.linalg.eigh(symmetric)
    case("eigh", {"x": symmetric}, values=values, abs_vectors=np.abs(vectors))
    right, column = np.round(rng.normal(size=(4, 2)), 3), np.round(rng.normal(size=4), 3)
    case("solve", {"a": general, "b": right, "c": column}, x=np.linalg.solve(general, right), y=np.linalg.solve(general, column))
    targets = np.round(rng.normal(size=(5, 2)), 3)
    under = np.round(rng.normal(size=2), 3)
    case("lstsq", {"a": tall, "b": targets, "wide": wide, "c": under}, x=np.linalg.lstsq(tall, targets)[0],
         minimum_norm=np.linalg.lstsq(wide, under)[0])
    data = np.round(rng.normal(size=(9, 4)) * [3.0, 1.0, 0.5, 2.0] + [1.0, 0.0, -4.0, 2.0], 3)
    centred = data - data.mean(axis=0)
    u, s, vh = np.linalg.svd(centred, full_matrices=False)
    case("pca", {"x": data}, explained_variance=s**2 / (len(data) - 1), explained_ratio=s**2 / (s**2).sum(),
         mean=data.mean(axis=0), abs_components=np.abs(vh), abs_scores=np.abs(centred @ vh.T))


def main():
    rng = np.random.default_rng(7)
    x = np.round(rng.normal(size=(3, 5)) * 2, 4)
    reductions(x)
    even = np.array([4.0, 1.0, 3.0, 2.0])
    case("median_even", {"x": even}, median=np.median(even), quantile_0_3=np.quantile(even, 0.3), lower_median=2.0)
    ordering()
    elementwise(x)
    relations(x, rng)
    linear_algebra(rng)
    write("tensor_ops.json", {
        "source": "NumPy, SciPy and PyTorch, float64; made by tensor_ops.py. abs_*: signs of the vectors are free; svd x = u s vh; "
                  "gelu is the exact erf form, gelu_tanh the tanh form; pca divides by n - 1",
        "cases": CASES,
    }, depth=4)


if __name__ == "__main__":
    main()
