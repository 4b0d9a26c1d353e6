//! Matrix products, decompositions, relations between tensors.

use super::NumberOrTensor;
use crate::compute::{self, correlation, linalg};
use crate::entry;
use crate::script::declare::Entry;
use crate::tensor::{Operand, Tensor};
use rhai::Map;

crate::options! {
    /// Options of `allclose`.
    struct CloseOptions {
        /// Relative tolerance.
        rtol: f64 = 1e-5,
        /// Absolute tolerance.
        atol: f64 = 1e-8,
        /// NaN counts as close to NaN.
        equal_nan: bool = false,
    }
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// Matrix product by the rules of torch.matmul: 1-D tensors are a row or a column, leading dimensions are batches.
            /// f32, or f64 where either side is. `@` binds as `*` does, from the left.
            ///
            /// ```rhai
            /// let w = tensor([[1.0, 2.0], [3.0, 4.0]]);
            /// assert((w @ tensor([1.0, 1.0])).to_array() == [3.0, 7.0]);
            /// ```
            op "@"(call, a: Tensor, b: Tensor) -> NumberOrTensor { Ok(NumberOrTensor(compute::matmul(&a, &b, call.work())?)) }
        },
        entry! {
            /// Matrix product; also `a @ b`.
            ///
            /// ```rhai
            /// assert(matmul(eye(2), tensor([[1.0], [2.0]])).to_array() == [[1.0], [2.0]]);
            /// ```
            method matmul(call, a: Tensor, b: Tensor) -> NumberOrTensor { Ok(NumberOrTensor(compute::matmul(&a, &b, call.work())?)) }
        },
        entry! {
            /// Σ aᵢ bᵢ of two 1-D tensors, summed in f64.
            ///
            /// ```rhai
            /// assert(dot(tensor([1.0, 2.0]), tensor([3.0, 4.0])) == 11.0);
            /// ```
            method dot(call, a: Tensor, b: Tensor) -> NumberOrTensor { Ok(NumberOrTensor(a.dot(&b, call.work())?)) }
        },
        entry! {
            /// aᵢ bⱼ of two 1-D tensors: a matrix.
            ///
            /// ```rhai
            /// assert(outer(tensor([1, 2]), tensor([3, 4, 5])).to_array() == [[3, 4, 5], [6, 8, 10]]);
            /// ```
            method outer(call, a: Tensor, b: Tensor) -> Tensor { a.outer(&b, call.work()) }
        },
        entry! {
            /// Products of the elements of one to four tensors, summed over the letters that the result does not name
            /// (numpy.einsum, without "...").
            ///
            /// ```rhai
            /// let a = tensor([[1.0, 2.0], [3.0, 4.0]]);
            /// assert(equal(einsum("ij,kj->ik", a, a), a @ a.T));
            /// assert(einsum("ii->", a) == 5.0);
            /// ```
            fn einsum(call, equation: String, a: Tensor, b: Option<Tensor>, c: Option<Tensor>, d: Option<Tensor>) -> NumberOrTensor {
                let operands: Vec<Tensor> = [Some(a.clone()), b.clone(), c.clone(), d.clone()].into_iter().flatten().collect();
                Ok(NumberOrTensor(compute::einsum(&equation, &operands, call.work())?))
            }
        },
        entry! {
            /// The sum of a matrix's diagonal.
            ///
            /// ```rhai
            /// assert(tensor([[1, 2], [3, 4]]).trace() == 5);
            /// ```
            method trace(call, t: Tensor) -> NumberOrTensor { Ok(NumberOrTensor(t.trace(call.work())?)) }
        },
        entry! {
            /// The diagonal of a matrix.
            ///
            /// ```rhai
            /// assert(tensor([[1, 2], [3, 4]]).diagonal().to_array() == [1, 4]);
            /// ```
            method diagonal(call, t: Tensor) -> Tensor {
                t.matrix_shape("a tensor whose diagonal is asked for")?;
                t.diagonal(0, 1)
            }
        },
        entry! {
            /// Cosine of `a` and `b` along `dim`, by default the last, with broadcasting.
            ///
            /// ```rhai
            /// assert(cosine_similarity(tensor([1.0, 0.0]), tensor([3.0, 4.0])) == 0.6);
            /// ```
            method cosine_similarity(call, a: Tensor, b: Tensor, dim: Option<i64>) -> NumberOrTensor {
                Ok(NumberOrTensor(a.cosine_similarity(&b, dim.unwrap_or(-1), call.work())?))
            }
        },
        entry! {
            /// Pearson's correlations: of the rows of a matrix `[n, m]` a matrix `[n, n]`, of two 1-D tensors a number. f64.
            ///
            /// ```rhai
            /// assert(allclose(corrcoef(tensor([1, 2, 3]), tensor([2, 4, 7])), 0.9933993));
            /// assert(corrcoef(tensor([[1, 2, 3], [3, 2, 1]])).shape == [2, 2]);
            /// ```
            method corrcoef(call, a: Tensor, b: Option<Tensor>) -> NumberOrTensor {
                Ok(NumberOrTensor(match &b {
                    Some(b) => Tensor::scalar(a.pearson(b, call.work())?),
                    None => correlation::corrcoef(&a, call.work())?,
                }))
            }
        },
        entry! {
            /// Spearman's rank correlation of two 1-D tensors.
            ///
            /// ```rhai
            /// assert(allclose(spearman(tensor([1, 2, 3]), tensor([1, 10, 5])), 0.5));
            /// ```
            method spearman(call, a: Tensor, b: Tensor) -> f64 { a.spearman(&b, call.work()) }
        },
        entry! {
            /// True when shapes and all elements are equal.
            ///
            /// ```rhai
            /// assert(equal(zeros([2]), zeros([2])) && !equal(zeros([2]), zeros([3])));
            /// ```
            method equal(call, a: Tensor, b: Tensor) -> bool { a.equal(&b, call.work()) }
        },
        entry! {
            /// True when every |a − b| ≤ atol + rtol · |b|, of tensors (with broadcasting) or numbers.
            ///
            /// ```rhai
            /// assert(allclose(tensor([1.0, 2.0]), tensor([1.0, 2.000001])));
            /// assert(!allclose(1.0, 1.1) && allclose(1.0, 1.1, #{rtol: 0.2}));
            /// ```
            fn allclose(call, a: Operand, b: Operand; options: CloseOptions) -> bool {
                a.tensor().allclose(&b.tensor(), options.rtol, options.atol, options.equal_nan, call.work())
            }
        },
        entry! {
            /// Thin singular value decomposition of a matrix `[n, m]`: `U [n, r]`, `S [r]` falling, `V [m, r]`, with
            /// `t = U @ (S * V).T` and r = min(n, m).
            ///
            /// ```rhai
            /// let t = tensor([[3.0, 0.0], [0.0, -2.0], [0.0, 0.0]]);
            /// let d = t.svd();
            /// assert(allclose(d.S, tensor([3.0, 2.0])) && allclose(d.U @ (d.S * d.V).T, t, #{atol: 1e-6}));
            /// ```
            method svd(call, t: Tensor) -> Map {
                let svd = linalg::svd(&t, call.work())?;
                Ok(super::map([("U", svd.u), ("S", svd.s), ("V", svd.v)]))
            }
        },
        entry! {
            /// Thin QR decomposition of a matrix `[n, m]`: `Q [n, r]` orthonormal, `R [r, m]` upper triangular, r = min(n, m).
            ///
            /// ```rhai
            /// let t = tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
            /// let d = t.qr();
            /// assert(allclose(d.Q @ d.R, t, #{atol: 1e-5}));
            /// ```
            method qr(call, t: Tensor) -> Map {
                let qr = linalg::qr(&t, call.work())?;
                Ok(super::map([("Q", qr.q), ("R", qr.r)]))
            }
        },
        entry! {
            /// Eigenvalues (rising) and eigenvectors (as columns) of a symmetric matrix.
            ///
            /// ```rhai
            /// assert(allclose(tensor([[2.0, 1.0], [1.0, 2.0]]).eigh().values, tensor([1.0, 3.0])));
            /// ```
            method eigh(call, t: Tensor) -> Map {
                let eigh = linalg::eigh(&t, call.work())?;
                Ok(super::map([("values", eigh.values), ("vectors", eigh.vectors)]))
            }
        },
        entry! {
            /// Eigenvalues and eigenvectors (as columns) of a square matrix, complex: real and imaginary parts apart, as
            /// `re`, `im`, `vectors_re`, `vectors_im`.
            ///
            /// ```rhai
            /// let turn = tensor([[0.0, -1.0], [1.0, 0.0]]).eig();
            /// assert(allclose(turn.im.abs(), tensor([1.0, 1.0])) && allclose(turn.re, tensor([0.0, 0.0])));
            /// ```
            method eig(call, t: Tensor) -> Map {
                let eig = linalg::eig(&t, call.work())?;
                Ok(super::map([("re", eig.re), ("im", eig.im), ("vectors_re", eig.vectors_re), ("vectors_im", eig.vectors_im)]))
            }
        },
        entry! {
            /// The x with `a @ x = b` for a square matrix `a` and a vector or matrix `b`; an error when `a` is singular.
            ///
            /// ```rhai
            /// assert(allclose(solve(tensor([[2.0, 0.0], [0.0, 4.0]]), tensor([2.0, 2.0])), tensor([1.0, 0.5])));
            /// ```
            method solve(call, a: Tensor, b: Tensor) -> Tensor { linalg::solve(&a, &b, call.work()) }
        },
        entry! {
            /// The x that makes ‖a @ x − b‖ least, of smallest norm among several.
            ///
            /// ```rhai
            /// assert(allclose(lstsq(tensor([[1.0], [1.0]]), tensor([1.0, 3.0])), tensor([2.0])));
            /// ```
            method lstsq(call, a: Tensor, b: Tensor) -> Tensor { linalg::lstsq(&a, &b, call.work()) }
        },
        entry! {
            /// Moore–Penrose pseudo-inverse of a matrix.
            ///
            /// ```rhai
            /// assert(allclose(tensor([[2.0, 0.0], [0.0, 0.0]]).pinv(), tensor([[0.5, 0.0], [0.0, 0.0]])));
            /// ```
            method pinv(call, t: Tensor) -> Tensor { linalg::pinv(&t, call.work()) }
        },
        entry! {
            /// The first `k` principal components of data `[n, d]`, centred: `components [k, d]` (unit rows, the largest element
            /// of each positive), `scores [n, k]`, `explained_variance [k]` (divided by n − 1), `explained_ratio [k]`,
            /// `mean [d]`. f64.
            ///
            /// ```rhai
            /// let p = tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]).pca(1);
            /// assert(allclose(p.components, tensor([[1.0, 0.0]])) && allclose(p.explained_variance, tensor([4.0])));
            /// ```
            method pca(call, t: Tensor, k: usize) -> Map {
                let pca = correlation::pca(&t, k, call.work())?;
                Ok(super::map([
                    ("components", pca.components),
                    ("scores", pca.scores),
                    ("explained_variance", pca.explained_variance),
                    ("explained_ratio", pca.explained_ratio),
                    ("mean", pca.mean),
                ]))
            }
        },
    ]
}
