//! New tensors, and what a tensor is.

use super::{Integers, NumberOrTensor, from_nested, nested, number};
use crate::entry;
use crate::error::{Error, Result};
use crate::script::declare::{Call, Entry};
use crate::tensor::{Class, Number, Tensor};
use rhai::Dynamic;

crate::choice! {
    /// The arithmetic of a new tensor.
    enum Arithmetic { #[default] F32 = "f32", F64 = "f64", Int = "i64", Bool = "bool" }
}

crate::options! {
    /// Options of `tensor`.
    struct TensorOptions {
        /// The arithmetic; by default bool or i64 where all elements are, else f32.
        dtype: Option<Arithmetic> = None,
    }
}

crate::options! {
    /// Options of `rand` and `randn`.
    struct RandomOptions {
        /// Gives the same numbers at every call; without it calls continue from the session's seed.
        seed: Option<u64> = None,
    }
}

/// Seed and stream of a draw.
fn draw(call: &Call<'_>, options: &RandomOptions) -> (u64, u64) {
    options.seed.map_or_else(|| (call.work().seed(), call.work().next_draw()), |seed| (seed, 0))
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        entry! {
            /// A tensor of the numbers in an array, or in arrays of arrays of equal length: bool where all elements are bool,
            /// i64 where all are integers, else f32 (or the option's `dtype`).
            ///
            /// ```rhai
            /// let t = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
            /// assert(t.shape == [2, 3] && t.dtype == "f32");
            /// assert(tensor([1, 2]).dtype == "i64");
            /// assert(tensor([0.1], #{dtype: "f64"})[0] == 0.1);
            /// ```
            fn tensor(call, data: Dynamic; options: TensorOptions) -> Tensor {
                let class = options.dtype.map(|dtype| match dtype {
                    Arithmetic::F32 => Class::F32,
                    Arithmetic::F64 => Class::F64,
                    Arithmetic::Int => Class::Int,
                    Arithmetic::Bool => Class::Bool,
                });
                from_nested(&data, class, call.work())
            }
        },
        entry! {
            /// Zeros, f32. `shape` is an array of sizes, or one size.
            ///
            /// ```rhai
            /// assert(zeros([2, 3]).sum() == 0.0);
            /// assert(zeros(4).shape == [4]);
            /// ```
            fn zeros(call, shape: Integers) -> Tensor { Tensor::zeros(&shape.shape()?, call.work()) }
        },
        entry! {
            /// Ones, f32.
            ///
            /// ```rhai
            /// assert(ones([2, 3]).sum() == 6.0);
            /// ```
            fn ones(call, shape: Integers) -> Tensor { Tensor::ones(&shape.shape()?, call.work()) }
        },
        entry! {
            /// One number everywhere: bool, i64 or, for a float, f32.
            ///
            /// ```rhai
            /// assert(full([2, 2], 7).dtype == "i64");
            /// assert(full([2, 2], 0.5).sum() == 2.0);
            /// ```
            fn full(call, shape: Integers, value: Number) -> Tensor { Tensor::full(&shape.shape()?, value, call.work()) }
        },
        entry! {
            /// `arange(end)`, `arange(start, end)`, `arange(start, end, step)`: numbers from `start` (0) in steps (of 1) to
            /// below `end`; i64 when all are integers, else f32.
            ///
            /// ```rhai
            /// assert(arange(3).to_array() == [0, 1, 2]);
            /// assert(arange(1, 9, 3).to_array() == [1, 4, 7]);
            /// assert(arange(1.0, 0.0, -0.5).to_array() == [1.0, 0.5]);
            /// ```
            fn arange(call, start: Number, end: Option<Number>, step: Option<Number>) -> Tensor {
                let (start, end) = end.map_or((Number::Int(0), start), |end| (start, end));
                Tensor::arange(start, end, step.unwrap_or(Number::Int(1)), call.work())
            }
        },
        entry! {
            /// `n` numbers at equal distances from `start` to `end`, both included, f32.
            ///
            /// ```rhai
            /// assert(linspace(0, 1, 5).to_array() == [0.0, 0.25, 0.5, 0.75, 1.0]);
            /// ```
            fn linspace(call, start: f64, end: f64, n: usize) -> Tensor { Tensor::linspace(start, end, n, call.work()) }
        },
        entry! {
            /// The n × n identity matrix, f32.
            ///
            /// ```rhai
            /// assert(eye(3).trace() == 3.0);
            /// ```
            fn eye(call, n: usize) -> Tensor { Tensor::eye(n, call.work()) }
        },
        entry! {
            /// Standard normal random numbers, f32 (ChaCha8, Box–Muller). Without a seed each call continues from the
            /// session's seed.
            ///
            /// ```rhai
            /// let a = randn([2, 3], #{seed: 7});
            /// assert(equal(a, randn([2, 3], #{seed: 7})));
            /// assert(!equal(randn([4]), randn([4])));
            /// ```
            fn randn(call, shape: Integers; options: RandomOptions) -> Tensor {
                let (seed, stream) = draw(call, &options);
                Tensor::randn(&shape.shape()?, seed, stream, call.work())
            }
        },
        entry! {
            /// Uniform random numbers from 0 (included) to 1 (excluded), f32 (ChaCha8). Without a seed each call continues from
            /// the session's seed.
            ///
            /// ```rhai
            /// let a = rand([100], #{seed: 1});
            /// assert(a.min() >= 0.0 && a.max() < 1.0);
            /// ```
            fn rand(call, shape: Integers; options: RandomOptions) -> Tensor {
                let (seed, stream) = draw(call, &options);
                Tensor::rand(&shape.shape()?, seed, stream, call.work())
            }
        },
        entry! {
            /// The sizes of a tensor's dimensions.
            ///
            /// ```rhai
            /// assert(zeros([2, 3]).shape == [2, 3]);
            /// ```
            get shape(call, t: Tensor) -> Vec<usize> { Ok(t.shape().to_vec()) }
        },
        entry! {
            /// The number of dimensions.
            ///
            /// ```rhai
            /// assert(zeros([2, 3]).ndim == 2);
            /// ```
            get ndim(call, t: Tensor) -> usize { Ok(t.ndim()) }
        },
        entry! {
            /// How elements are stored: `"bool"`, `"i64"`, `"f32"`, `"f64"`, or what a file holds, like `"bf16"` or `"q8_0"`.
            ///
            /// ```rhai
            /// assert(zeros([2]).dtype == "f32");
            /// ```
            get dtype(call, t: Tensor) -> String { Ok(t.dtype().name().to_string()) }
        },
        entry! {
            /// The number of elements.
            ///
            /// ```rhai
            /// assert(zeros([2, 3]).numel == 6);
            /// ```
            get numel(call, t: Tensor) -> usize { Ok(t.numel()) }
        },
        entry! {
            /// The size of the first dimension; also `t.len()`.
            ///
            /// ```rhai
            /// assert(zeros([2, 3]).len == 2);
            /// ```
            get len(call, t: Tensor) -> usize { length(&t) }
        },
        entry! {
            /// The size of the first dimension; also `t.len`.
            ///
            /// ```rhai
            /// assert(zeros([2, 3]).len() == 2);
            /// ```
            method len(call, t: Tensor) -> usize { length(&t) }
        },
        entry! {
            /// The only element as a number. A number is its own item.
            ///
            /// ```rhai
            /// assert(tensor([[2.5]]).item() == 2.5);
            /// assert(tensor([1, 2]).sum().item() == 3);
            /// ```
            method item(call, t: Tensor) -> NumberOrTensor {
                t.item()?;
                Ok(NumberOrTensor(t.reshape(&[])?))
            }
        },
        entry! {
            /// A number is its own item.
            ///
            /// ```rhai
            /// assert(2.5.item() == 2.5);
            /// ```
            method item(call, x: f64) -> f64 { Ok(x) }
        },
        entry! {
            /// A number is its own item.
            ///
            /// ```rhai
            /// let n = 3;
            /// assert(n.item() == 3);
            /// ```
            method item(call, x: i64) -> i64 { Ok(x) }
        },
        entry! {
            /// A truth value is its own item.
            ///
            /// ```rhai
            /// assert((tensor([1, 2]) > 0).all().item());
            /// ```
            method item(call, x: bool) -> bool { Ok(x) }
        },
        entry! {
            /// Nested arrays of the elements. Arrays are slow and copied at every call: for a look, or for few numbers.
            ///
            /// ```rhai
            /// assert(tensor([[1, 2], [3, 4]]).to_array() == [[1, 2], [3, 4]]);
            /// ```
            method to_array(call, t: Tensor) -> Dynamic { if t.ndim() == 0 { Ok(number(&t)) } else { nested(&t, call.work()) } }
        },
        entry! {
            /// The same numbers as `"bool"`, `"i64"`, `"f32"` or `"f64"`. Fractions are cut off; for bool, non-zero is true.
            ///
            /// ```rhai
            /// assert(tensor([1.7, -1.7]).to("i64").to_array() == [1, -1]);
            /// ```
            method to(call, t: Tensor, dtype: String) -> Tensor { t.to_dtype(&dtype, call.work()) }
        },
    ]
}

fn length(t: &Tensor) -> Result<usize> {
    t.shape().first().copied().ok_or_else(|| Error::shape("a tensor without dimensions has no length"))
}
