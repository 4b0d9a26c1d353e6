//! Products folded tile by tile into reducers; matrix products; linear algebra.
//!
//! * [`product`]: the fused, blocked product: statistics of `A · B` that is never stored.
//! * [`matmul`](mod@matmul): products that are stored, and sums over the rows of a matrix.
//! * [`linalg`]: decompositions and solvers. * [`correlation`]: correlation matrix, principal components.
//! * [`einsum`](mod@einsum): Einstein summation. * [`pointwise`]: activation functions, softmax of a row.
//!
//! Everything here takes any storage (mapped, transposed, bf16, quantised), runs on the threads of the [`Work`] it is
//! given, can be cancelled within milliseconds and gives the same bits for any number of threads.
//!
//! [`Work`]: crate::work::Work

pub mod correlation;
pub mod einsum;
pub mod linalg;
pub mod matmul;
pub mod pointwise;
pub mod product;

pub use einsum::einsum;
pub use matmul::{
    Strided, add_product, column_norms, finite_rows, matmul, matmul_bytes, mean_row, project, row_norms, second_moment,
};

use crate::tensor::Tensor;
use std::ops::Range;

/// `range` in consecutive parts of `size`, the last one shorter.
pub(crate) fn blocks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let end = range.end;
    range.step_by(size).map(move |start| start..(start + size).min(end))
}

/// A matrix as it lies in memory, and whether that is its transpose: rows of the returned view are contiguous wherever
/// either rows or columns are.
fn upright(matrix: &Tensor) -> (Tensor, bool) {
    if matrix.is_transposed() { (matrix.t(), true) } else { (matrix.clone(), false) }
}

/// A pointer to a result whose parts the tasks write without overlap.
struct Shared<T>(*mut T);
// SAFETY: each task writes only the part that it alone was given.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; the pointer itself is never changed.
unsafe impl<T: Send> Sync for Shared<T> {}
