//! Functions of each element, and reductions.

use super::{NumberOrTensor, Points};
use crate::entry;
use crate::script::declare::Entry;
use crate::tensor::{Arithmetic, Number, Operand, Tensor};
use rhai::Map;

crate::options! {
    /// Options of `std` and `variance`.
    struct SpreadOptions {
        /// The sum of squares is divided by n − ddof.
        ddof: usize = 1,
    }
}

crate::options! {
    /// Options of `norm`.
    struct NormOptions {
        /// The order: (Σ |x|^p)^(1/p).
        p: f64 = 2.0,
    }
}

crate::options! {
    /// Options of `sort` and `argsort`.
    struct SortOptions {
        /// The largest first.
        descending: bool = false,
    }
}

crate::options! {
    /// Options of `topk`.
    struct TopOptions {
        /// The largest elements, not the smallest.
        largest: bool = true,
    }
}

crate::choice! {
    /// How the normal distribution function is computed.
    enum Gelu { #[default] Exact = "none", Tanh = "tanh" }
}

crate::options! {
    /// Options of `gelu`.
    struct GeluOptions {
        /// "none" is exact, "tanh" what Gemma and GPT-2 use.
        approximate: Gelu = Gelu::default(),
    }
}

crate::options! {
    /// Options of `histogram`.
    struct HistogramOptions {
        /// `[low, high]`; by default from the smallest to the largest finite element.
        range: Option<Vec<f64>> = None,
    }
}

/// A function with a float result, of a tensor or a plain number.
macro_rules! float {
    ($name:ident, $doc:literal, $example:literal) => {
        vec![
            entry! {
                #[doc = concat!(" ", $doc)]
                ///
                /// ```rhai
                #[doc = concat!(" ", $example)]
                /// ```
                method $name(call, t: Tensor) -> Tensor { t.$name(call.work()) }
            },
            float!(@number $name, $doc, f64, "4.0"),
            float!(@number $name, $doc, i64, "4"),
        ]
    };
    (@number $name:ident, $doc:literal, $ty:ty, $number:literal) => {
        entry! {
            #[doc = concat!(" ", $doc)]
            ///
            /// ```rhai
            #[doc = concat!(" assert(allclose(", stringify!($name), "(", $number, "), ", stringify!($name), "(tensor([4.0]))));")]
            /// ```
            method $name(call, x: $ty) -> NumberOrTensor {
                Ok(NumberOrTensor(Tensor::scalar(x as f64).$name(call.work())?))
            }
        }
    };
}

/// A function of each element that keeps the dtype.
macro_rules! same {
    ($name:ident, $doc:literal, $example:literal) => {
        entry! {
            #[doc = concat!(" ", $doc)]
            ///
            /// ```rhai
            #[doc = concat!(" ", $example)]
            /// ```
            method $name(call, t: Tensor) -> Tensor { t.$name(call.work()) }
        }
    };
}

/// A reduction: without `dim` over all elements, to a number.
macro_rules! reduction {
    ($name:ident, $doc:literal, $example:literal) => {
        entry! {
            #[doc = concat!(" ", $doc)]
            /// With `dim` along that dimension, which disappears; without, over all elements, a number.
            ///
            /// ```rhai
            #[doc = concat!(" ", $example)]
            /// ```
            method $name(call, t: Tensor, dim: Option<i64>) -> NumberOrTensor { Ok(NumberOrTensor(t.$name(dim, call.work())?)) }
        }
    };
}

fn elementwise() -> Vec<Entry> {
    let floats = [
        float!(exp, "eˣ.", "assert(allclose(tensor([0.0, 1.0]).exp(), tensor([1.0, 2.718281828])));"),
        float!(
            log,
            "Natural logarithm, of numbers too; NaN below zero, −∞ at zero.",
            "assert(allclose(tensor([1.0, 2.718281828]).log(), tensor([0, 1])));"
        ),
        float!(log2, "Logarithm to base 2.", "assert(tensor([1.0, 8.0]).log2().to_array() == [0.0, 3.0]);"),
        float!(log10, "Logarithm to base 10.", "assert(allclose(tensor([1, 1000]).log10(), tensor([0, 3])));"),
        float!(sqrt, "Square root; NaN below zero.", "assert(tensor([4, 9]).sqrt().to_array() == [2.0, 3.0]);"),
        float!(sin, "Sine of radians.", "assert(tensor([0.0]).sin().to_array() == [0.0]);"),
        float!(cos, "Cosine of radians.", "assert(tensor([0.0]).cos().to_array() == [1.0]);"),
        float!(tanh, "Hyperbolic tangent.", "assert(allclose(tensor([0.0, 1.0]).tanh(), tensor([0.0, 0.761594156])));"),
        float!(sigmoid, "1 / (1 + e⁻ˣ).", "assert(tensor([0.0]).sigmoid().to_array() == [0.5]);"),
        float!(silu, "x / (1 + e⁻ˣ).", "assert(allclose(tensor([1.0]).silu(), tensor([0.731058579])));"),
    ];
    let same = vec![
        same!(abs, "Absolute value.", "assert(tensor([-2, 3]).abs().to_array() == [2, 3]);"),
        same!(sign, "−1, 0 or 1; NaN stays NaN.", "assert(tensor([-2.0, 0.0, 3.0]).sign().to_array() == [-1.0, 0.0, 1.0]);"),
        same!(relu, "max(x, 0).", "assert(tensor([-2.0, 3.0]).relu().to_array() == [0.0, 3.0]);"),
        same!(
            round,
            "To the nearest integer, halves to the even one.",
            "assert(tensor([0.5, 1.5, 2.4]).round().to_array() == [0.0, 2.0, 2.0]);"
        ),
        same!(floor, "The largest integer not above.", "assert(tensor([-0.5, 1.5]).floor().to_array() == [-1.0, 1.0]);"),
        same!(ceil, "The smallest integer not below.", "assert(tensor([-0.5, 1.5]).ceil().to_array() == [0.0, 2.0]);"),
        same!(isnan, "True where an element is NaN.", "assert((tensor([0.0, 1.0]) / 0).isnan().to_array() == [true, false]);"),
        same!(
            isfinite,
            "True where an element is neither NaN nor infinite.",
            "assert((tensor([0.0, 1.0]) / 0).isfinite().any() == false);"
        ),
    ];
    let others = vec![
        entry! {
            /// x Φ(x), with the exact normal distribution function, or `#{approximate: "tanh"}`.
            ///
            /// ```rhai
            /// assert(allclose(tensor([1.0]).gelu(), tensor([0.841344746])));
            /// assert(allclose(tensor([1.0]).gelu(#{approximate: "tanh"}), tensor([0.841191991])));
            /// ```
            method gelu(call, t: Tensor; options: GeluOptions) -> Tensor {
                match options.approximate {
                    Gelu::Exact => t.gelu(call.work()),
                    Gelu::Tanh => t.gelu_tanh(call.work()),
                }
            }
        },
        entry! {
            /// Each element to a power: `t ** exponent`, with broadcasting.
            ///
            /// ```rhai
            /// assert(tensor([1.0, 2.0]).pow(3).to_array() == [1.0, 8.0]);
            /// ```
            method pow(call, t: Tensor, exponent: Operand) -> Tensor {
                Tensor::arithmetic(Arithmetic::Pow, &t, exponent.clone(), call.work())
            }
        },
        entry! {
            /// Each element within `low` to `high`; `()` leaves a side open. NaN stays NaN.
            ///
            /// ```rhai
            /// assert(tensor([-2.0, 0.5, 2.0]).clamp(-1, 1).to_array() == [-1.0, 0.5, 1.0]);
            /// assert(tensor([-2, 2]).clamp(0, ()).to_array() == [0, 2]);
            /// ```
            method clamp(call, t: Tensor, low: Option<Number>, high: Option<Number>) -> Tensor { t.clamp(low, high, call.work()) }
        },
        entry! {
            /// `a` where `condition` (a bool tensor) holds, else `b`, with broadcasting.
            ///
            /// ```rhai
            /// let t = tensor([-1.0, 2.0]);
            /// assert(where(t > 0, t, 0).to_array() == [0.0, 2.0]);
            /// ```
            method where(call, condition: Tensor, a: Operand, b: Operand) -> Tensor {
                condition.choose(a.clone(), b.clone(), call.work())
            }
        },
        entry! {
            /// eˣ / Σ eˣ along `dim`, by default the last.
            ///
            /// ```rhai
            /// assert(allclose(tensor([[0.0, 0.0], [1.0, 1.0]]).softmax(), full([2, 2], 0.5)));
            /// ```
            method softmax(call, t: Tensor, dim: Option<i64>) -> Tensor { t.softmax(dim.unwrap_or(-1), call.work()) }
        },
        entry! {
            /// Logarithm of the softmax along `dim`, by default the last.
            ///
            /// ```rhai
            /// assert(allclose(tensor([0.0, 0.0]).log_softmax(), full([2], -0.693147181)));
            /// ```
            method log_softmax(call, t: Tensor, dim: Option<i64>) -> Tensor { t.log_softmax(dim.unwrap_or(-1), call.work()) }
        },
        entry! {
            /// Running sum along `dim`, by default the last.
            ///
            /// ```rhai
            /// assert(tensor([1, 2, 3]).cumsum().to_array() == [1, 3, 6]);
            /// ```
            method cumsum(call, t: Tensor, dim: Option<i64>) -> Tensor { t.cumsum(dim.unwrap_or(-1), call.work()) }
        },
    ];
    floats.into_iter().flatten().chain(same).chain(others).collect()
}

fn reductions() -> Vec<Entry> {
    vec![
        reduction!(
            sum,
            "Sum, in f64; of bool the number of true ones.",
            "let t = tensor([[1, 2], [3, 4]]); assert(t.sum() == 10 && t.sum(0).to_array() == [4, 6]);"
        ),
        reduction!(
            mean,
            "Arithmetic mean.",
            "let t = tensor([[1, 2], [3, 5]]); assert(t.mean() == 2.75 && t.mean(-1).to_array() == [1.5, 4.0]);"
        ),
        reduction!(min, "Smallest element; an error where there is none. NaN wins.", "assert(tensor([3, 1, 2]).min() == 1);"),
        reduction!(
            max,
            "Largest element; an error where there is none. NaN wins.",
            "assert(tensor([[3, 1], [2, 4]]).max(0).to_array() == [3, 4]);"
        ),
        reduction!(argmin, "Index of the smallest element, the first among equals.", "assert(tensor([3, 1, 1]).argmin() == 1);"),
        reduction!(
            argmax,
            "Index of the largest element, the first among equals.",
            "assert(tensor([[3, 1], [2, 4]]).argmax(1).to_array() == [0, 1]);"
        ),
        reduction!(
            median,
            "Median; of an even number of elements the mean of the two middle ones.",
            "assert(tensor([4, 1, 3, 2]).median() == 2.5);"
        ),
        reduction!(any, "True where any element is non-zero.", "assert((tensor([1, 2]) > 1).any());"),
        reduction!(
            all,
            "True where all elements are non-zero.",
            "assert((tensor([[1, 0], [2, 3]]) > 0).all(1).to_array() == [false, true]);"
        ),
        reduction!(skewness, "Skewness of the population, m₃ / m₂^1.5.", "assert(tensor([1.0, 2.0, 3.0]).skewness() == 0.0);"),
        reduction!(
            kurtosis,
            "Kurtosis of the population, plain: m₄ / m₂², 3 for a normal distribution.",
            "assert(tensor([-1.0, 1.0]).kurtosis() == 1.0);"
        ),
        entry! {
            /// Standard deviation, dividing by n − 1, or by n with `#{ddof: 0}`. Along `dim`, or of all elements.
            ///
            /// ```rhai
            /// let t = tensor([1.0, 3.0]);
            /// assert(allclose(t.std(), 1.414213562) && t.std(#{ddof: 0}) == 1.0);
            /// assert(tensor([[1.0, 3.0], [2.0, 2.0]]).std(1, #{ddof: 0}).to_array() == [1.0, 0.0]);
            /// ```
            method std(call, t: Tensor, dim: Option<i64>; options: SpreadOptions) -> NumberOrTensor {
                Ok(NumberOrTensor(t.std(dim, options.ddof, call.work())?))
            }
        },
        entry! {
            /// Variance, dividing by n − 1, or by n with `#{ddof: 0}`. Along `dim`, or of all elements.
            ///
            /// ```rhai
            /// assert(tensor([1.0, 3.0]).variance() == 2.0);
            /// ```
            method variance(call, t: Tensor, dim: Option<i64>; options: SpreadOptions) -> NumberOrTensor {
                Ok(NumberOrTensor(t.variance(dim, options.ddof, call.work())?))
            }
        },
        entry! {
            /// Norm, Euclidean or of order `#{p}`. Along `dim`, or of all elements.
            ///
            /// ```rhai
            /// assert(tensor([3.0, 4.0]).norm() == 5.0);
            /// assert(tensor([[3.0, -4.0]]).norm(1, #{p: 1}).to_array() == [7.0]);
            /// ```
            method norm(call, t: Tensor, dim: Option<i64>; options: NormOptions) -> NumberOrTensor {
                Ok(NumberOrTensor(t.norm(options.p, dim, call.work())?))
            }
        },
        entry! {
            /// The q-quantile, `q` from 0 to 1, with linear interpolation. For several q (an array or 1-D tensor) the first
            /// dimension of the result runs over them.
            ///
            /// ```rhai
            /// assert(tensor([1, 2, 3, 5]).quantile(0.5) == 2.5);
            /// assert(tensor([0, 10]).quantile([0.1, 0.9]).to_array() == [1.0, 9.0]);
            /// assert(tensor([[0, 10], [0, 20]]).quantile(0.1, 1).to_array() == [1.0, 2.0]);
            /// ```
            method quantile(call, t: Tensor, q: Points, dim: Option<i64>) -> NumberOrTensor {
                let values = t.quantile(&q.values, dim, call.work())?;
                Ok(NumberOrTensor(if q.single { values.select(0, 0)? } else { values }))
            }
        },
        entry! {
            /// Sorted along `dim`, by default the last; NaN last.
            ///
            /// ```rhai
            /// assert(tensor([3, 1, 2]).sort().to_array() == [1, 2, 3]);
            /// assert(tensor([3, 1, 2]).sort(#{descending: true}).to_array() == [3, 2, 1]);
            /// ```
            method sort(call, t: Tensor, dim: Option<i64>; options: SortOptions) -> Tensor {
                t.sort(dim.unwrap_or(-1), options.descending, call.work())
            }
        },
        entry! {
            /// The indices that sort along `dim`, by default the last; equal elements in their order.
            ///
            /// ```rhai
            /// assert(tensor([3, 1, 2]).argsort().to_array() == [1, 2, 0]);
            /// ```
            method argsort(call, t: Tensor, dim: Option<i64>; options: SortOptions) -> Tensor {
                t.argsort(dim.unwrap_or(-1), options.descending, call.work())
            }
        },
        entry! {
            /// The `k` largest elements along `dim` (by default the last), the largest first, and their indices; equal ones in
            /// the order of their index. `#{largest: false}` for the smallest.
            ///
            /// ```rhai
            /// let top = tensor([3.0, 9.0, 5.0]).topk(2);
            /// assert(top.values.to_array() == [9.0, 5.0] && top.indices.to_array() == [1, 2]);
            /// ```
            method topk(call, t: Tensor, k: usize, dim: Option<i64>; options: TopOptions) -> Map {
                let top = t.topk(k, dim.unwrap_or(-1), options.largest, call.work())?;
                Ok(super::map([("values", top.values), ("indices", top.indices)]))
            }
        },
        entry! {
            /// Ranks from 1 along `dim` (by default the last); equal elements share the mean of their ranks.
            ///
            /// ```rhai
            /// assert(tensor([10, 30, 10]).rank().to_array() == [1.5, 3.0, 1.5]);
            /// ```
            method rank(call, t: Tensor, dim: Option<i64>) -> Tensor { t.rank(dim.unwrap_or(-1), call.work()) }
        },
        entry! {
            /// The distinct elements, ascending.
            ///
            /// ```rhai
            /// assert(tensor([3, 1, 3]).unique().to_array() == [1, 3]);
            /// ```
            method unique(call, t: Tensor) -> Tensor { Ok(t.unique(call.work())?.values) }
        },
        entry! {
            /// The distinct elements, ascending, and how often each occurs.
            ///
            /// ```rhai
            /// assert(tensor([3, 1, 3]).unique_counts().counts.to_array() == [1, 2]);
            /// ```
            method unique_counts(call, t: Tensor) -> Map {
                let unique = t.unique(call.work())?;
                Ok(super::map([("values", unique.values), ("counts", unique.counts)]))
            }
        },
        entry! {
            /// The number of elements in each of `bins` bins of equal width, and their edges (`bins + 1`). A bin holds its left
            /// edge, the last one its right edge too. NaN, infinities and what lies outside `#{range}` are left out.
            ///
            /// ```rhai
            /// let h = tensor([0.0, 0.2, 1.0]).histogram(2);
            /// assert(h.counts.to_array() == [2, 1] && h.edges.to_array() == [0.0, 0.5, 1.0]);
            /// ```
            method histogram(call, t: Tensor, bins: usize; options: HistogramOptions) -> Map {
                let range = match options.range.as_deref() {
                    None => None,
                    Some([low, high]) => Some((*low, *high)),
                    Some(_) => return Err(crate::Error::input("histogram: `range` is an array [low, high]")),
                };
                let histogram = t.histogram(bins, range, call.work())?;
                Ok(super::map([("counts", histogram.counts), ("edges", histogram.edges)]))
            }
        },
    ]
}

pub(super) fn entries() -> Vec<Entry> {
    elementwise().into_iter().chain(reductions()).collect()
}
