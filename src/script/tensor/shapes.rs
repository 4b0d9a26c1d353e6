//! Indexing, joining, other shapes.

use super::{Integers, NumberOrTensor};
use crate::entry;
use crate::script::declare::Entry;
use crate::tensor::{Comparison, Index, Operand, Tensor};

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// Picks along the first dimension: by an integer (negative from the end; a number on 1-D), a range (`1..3`, `2..`),
            /// an array or tensor of integers, or a bool tensor over the first dimensions.
            ///
            /// ```rhai
            /// let t = tensor([[1, 2], [3, 4], [5, 6]]);
            /// assert(t[-1].to_array() == [5, 6] && t[0][1] == 2);
            /// assert(t[1..].to_array() == [[3, 4], [5, 6]] && t[[2, 0]].to_array() == [[5, 6], [1, 2]]);
            /// assert(t[t > 4].to_array() == [5, 6]);
            /// ```
            index_get(call, t: Tensor, index: Index) -> NumberOrTensor { Ok(NumberOrTensor(t.get(&index, call.work())?)) }
        },
        entry! {
            /// Writes a number or a tensor (broadcast) to what the same index picks. Other copies of the tensor keep their values.
            ///
            /// ```rhai
            /// let t = zeros([3]);
            /// let copy = t;
            /// t[0] = 1;
            /// t[1..] = tensor([2.0, 3.0]);
            /// t[t > 2] = -1;
            /// assert(t.to_array() == [1.0, 2.0, -1.0] && copy.sum() == 0.0);
            /// ```
            index_set(call, t: &mut Tensor, index: Index, value: Operand) { t.set(&index, value, call.work()) }
        },
        entry! {
            /// The element at one index for each dimension, a number.
            ///
            /// ```rhai
            /// assert(tensor([[1, 2], [3, 4]]).at([1, -2]) == 3);
            /// ```
            method at(call, t: Tensor, index: Integers) -> NumberOrTensor { Ok(NumberOrTensor(t.at(&index.0)?)) }
        },
        entry! {
            /// Indices `start` to below `end` of dimension `dim`; negative ends count from the end, `()` is the size.
            ///
            /// ```rhai
            /// assert(tensor([[1, 2, 3], [4, 5, 6]]).slice(1, 1, ()).to_array() == [[2, 3], [5, 6]]);
            /// ```
            method slice(call, t: Tensor, dim: i64, start: i64, end: Option<i64>) -> Tensor { t.slice(dim, start, end) }
        },
        entry! {
            /// The given indices of dimension `dim`, in their order.
            ///
            /// ```rhai
            /// assert(tensor([[1, 2, 3], [4, 5, 6]]).index_select(1, [2, 0]).to_array() == [[3, 1], [6, 4]]);
            /// ```
            method index_select(call, t: Tensor, dim: i64, indices: Integers) -> Tensor {
                t.index_select(dim, &Tensor::vector_i64(indices.0.clone()), call.work())
            }
        },
        entry! {
            /// `out[i][j] = t[i][index[i][j]]` for dim 1, and so on for other dimensions (torch.gather).
            ///
            /// ```rhai
            /// assert(tensor([[1, 2, 3], [4, 5, 6]]).gather(1, tensor([[2], [0]])).to_array() == [[3], [4]]);
            /// ```
            method gather(call, t: Tensor, dim: i64, index: Tensor) -> Tensor { t.gather(dim, &index, call.work()) }
        },
        entry! {
            /// The elements where a bool tensor over the first dimensions holds.
            ///
            /// ```rhai
            /// let t = tensor([[1, 2], [3, 4]]);
            /// assert(t.mask_select(tensor([false, true])).to_array() == [[3, 4]]);
            /// ```
            method mask_select(call, t: Tensor, mask: Tensor) -> Tensor { t.mask_select(&mask, call.work()) }
        },
        entry! {
            /// The indices of all non-zero elements, `[how many, ndim]`; `.flatten()` makes those of a 1-D tensor a list.
            ///
            /// ```rhai
            /// assert((tensor([5, 7, 9]) > 6).nonzero().flatten().to_array() == [1, 2]);
            /// ```
            method nonzero(call, t: Tensor) -> Tensor { t.nonzero(call.work()) }
        },
        entry! {
            /// True when any element equals `value`: what `value in t` asks.
            ///
            /// ```rhai
            /// assert(3 in tensor([1, 2, 3]));
            /// ```
            method contains(call, t: Tensor, value: Operand) -> NumberOrTensor {
                let same = Tensor::compare(Comparison::Eq, &t, value.clone(), call.work())?;
                Ok(NumberOrTensor(same.any(None, call.work())?))
            }
        },
        entry! {
            /// Tensors one after the other along `dim` (0), in the highest dtype among them.
            ///
            /// ```rhai
            /// assert(cat([tensor([1, 2]), tensor([3])]).to_array() == [1, 2, 3]);
            /// assert(cat([eye(2), eye(2)], 1).shape == [2, 4]);
            /// ```
            fn cat(call, tensors: Vec<Tensor>, dim: Option<i64>) -> Tensor { Tensor::cat(&tensors, dim.unwrap_or(0), call.work()) }
        },
        entry! {
            /// Tensors of one shape along a new dimension `dim` (0).
            ///
            /// ```rhai
            /// assert(stack([tensor([1, 2]), tensor([3, 4])]).to_array() == [[1, 2], [3, 4]]);
            /// ```
            fn stack(call, tensors: Vec<Tensor>, dim: Option<i64>) -> Tensor { Tensor::stack(&tensors, dim.unwrap_or(0), call.work()) }
        },
        entry! {
            /// The same elements in another shape; one size may be -1: what is left.
            ///
            /// ```rhai
            /// assert(arange(6).reshape([2, -1]).shape == [2, 3]);
            /// ```
            method reshape(call, t: Tensor, shape: Integers) -> Tensor {
                t.row_major(call.work())?.reshape_to(&shape.0)
            }
        },
        entry! {
            /// All elements in one dimension.
            ///
            /// ```rhai
            /// assert(eye(2).flatten().to_array() == [1.0, 0.0, 0.0, 1.0]);
            /// ```
            method flatten(call, t: Tensor) -> Tensor { t.row_major(call.work())?.flatten() }
        },
        entry! {
            /// Without dimension `dim`, if its size is 1, or without all of size 1.
            ///
            /// ```rhai
            /// assert(zeros([1, 3, 1]).squeeze().shape == [3] && zeros([1, 3, 1]).squeeze(0).shape == [3, 1]);
            /// ```
            method squeeze(call, t: Tensor, dim: Option<i64>) -> Tensor { t.squeeze(dim) }
        },
        entry! {
            /// With a new dimension of size 1 at `dim`.
            ///
            /// ```rhai
            /// assert(zeros([3]).unsqueeze(0).shape == [1, 3] && zeros([3]).unsqueeze(-1).shape == [3, 1]);
            /// ```
            method unsqueeze(call, t: Tensor, dim: i64) -> Tensor { t.unsqueeze(dim) }
        },
        entry! {
            /// Dimensions `a` and `b` exchanged; without arguments all dimensions reversed.
            ///
            /// ```rhai
            /// assert(zeros([2, 3, 4]).transpose(0, -1).shape == [4, 3, 2]);
            /// ```
            method transpose(call, t: Tensor, a: Option<i64>, b: Option<i64>) -> Tensor {
                match (a, b) {
                    (Some(a), Some(b)) => t.transpose(a, b),
                    (None, None) => Ok(t.t()),
                    _ => Err(crate::Error::input("transpose takes two dimensions, or none")),
                }
            }
        },
        entry! {
            /// The transposed matrix (all dimensions reversed).
            ///
            /// ```rhai
            /// assert(tensor([[1, 2], [3, 4]]).T.to_array() == [[1, 3], [2, 4]]);
            /// ```
            get T(call, t: Tensor) -> Tensor { Ok(t.t()) }
        },
        entry! {
            /// The dimensions in another order.
            ///
            /// ```rhai
            /// assert(zeros([2, 3, 4]).permute([2, 0, 1]).shape == [4, 2, 3]);
            /// ```
            method permute(call, t: Tensor, order: Integers) -> Tensor { t.permute_to(&order.0) }
        },
        entry! {
            /// Repeated to `shape` along dimensions of size 1, without a copy.
            ///
            /// ```rhai
            /// assert(tensor([[1], [2]]).broadcast_to([2, 3]).to_array() == [[1, 1, 1], [2, 2, 2]]);
            /// ```
            method broadcast_to(call, t: Tensor, shape: Integers) -> Tensor { t.broadcast_to(&shape.shape()?) }
        },
    ]
}
