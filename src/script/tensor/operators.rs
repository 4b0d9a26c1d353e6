//! `+ - * / % **`, comparisons, `& | ^ !`, unary minus, with tensors and numbers on either side.

use crate::entry;
use crate::script::convert::FromScript;
use crate::script::declare::Entry;
use crate::tensor::{Arithmetic, Comparison, Logic, Tensor};
use rhai::Dynamic;

/// `()` as an operand.
impl FromScript for () {
    fn kind() -> String {
        "()".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        value.as_unit().ok()
    }
}

/// One operator for one pair of sides: Rhai matches both by type.
macro_rules! sides {
    ($name:literal, $function:path, $op:path, $doc:expr, $example:literal, [$(($left:ty, $right:ty)),+]) => {
        vec![$(entry! {
            #[doc = concat!(" ", $doc)]
            ///
            /// ```rhai
            #[doc = concat!(" ", $example)]
            /// ```
            op $name(call, a: $left, b: $right) -> Tensor { $function($op, a.clone(), b.clone(), call.work()) }
        }),+]
    };
}

macro_rules! arithmetic {
    ($name:literal, $op:ident, $doc:expr, $example:literal) => {
        sides!(
            $name,
            Tensor::arithmetic,
            Arithmetic::$op,
            $doc,
            $example,
            [(Tensor, Tensor), (Tensor, f64), (Tensor, i64), (f64, Tensor), (i64, Tensor)]
        )
    };
}

macro_rules! comparison {
    ($name:literal, $op:ident, $example:literal) => {
        sides!(
            $name,
            Tensor::compare,
            Comparison::$op,
            "Element by element, with broadcasting: a bool tensor. NaN differs from everything.",
            $example,
            [(Tensor, Tensor), (Tensor, f64), (Tensor, i64), (Tensor, bool), (f64, Tensor), (i64, Tensor), (bool, Tensor)]
        )
    };
}

macro_rules! logic {
    ($name:literal, $op:ident, $doc:expr, $example:literal) => {
        sides!($name, Tensor::logic, Logic::$op, $doc, $example, [(Tensor, Tensor), (Tensor, bool), (bool, Tensor)])
    };
}

pub(super) fn entries() -> Vec<Entry> {
    let others = vec![
        entry! {
            /// Minus each element. It binds tighter than `**` in Rhai, so `-x ** 2` is refused: write `-(x ** 2)`.
            ///
            /// ```rhai
            /// assert((-tensor([1, -2])).to_array() == [-1, 2]);
            /// ```
            op "-"(call, t: Tensor) -> Tensor { t.neg(call.work()) }
        },
        entry! {
            /// Not, of a bool tensor.
            ///
            /// ```rhai
            /// assert((!(tensor([1, 2, 3]) > 2)).to_array() == [true, true, false]);
            /// ```
            op "!"(call, mask: Tensor) -> Tensor { mask.not(call.work()) }
        },
        entry! {
            /// A tensor is never `()`.
            ///
            /// ```rhai
            /// assert((zeros([2]) == ()) == false);
            /// ```
            op "=="(call, t: Tensor, nothing: ()) -> bool { Ok(false) }
        },
        entry! {
            /// A tensor is never `()`.
            ///
            /// ```rhai
            /// assert((() == zeros([2])) == false);
            /// ```
            op "=="(call, nothing: (), t: Tensor) -> bool { Ok(false) }
        },
        entry! {
            /// A tensor is never `()`.
            ///
            /// ```rhai
            /// assert(zeros([2]) != ());
            /// ```
            op "!="(call, t: Tensor, nothing: ()) -> bool { Ok(true) }
        },
        entry! {
            /// A tensor is never `()`.
            ///
            /// ```rhai
            /// assert(() != zeros([2]));
            /// ```
            op "!="(call, nothing: (), t: Tensor) -> bool { Ok(true) }
        },
    ];
    [
        arithmetic!(
            "+",
            Add,
            "Sum, with broadcasting. bool counts as i64; bool < i64 < f32 < f64; plain numbers take the tensor's precision.",
            "assert((tensor([1.0, 2.0]) + tensor([[10.0], [20.0]])).to_array() == [[11.0, 12.0], [21.0, 22.0]]);"
        ),
        arithmetic!("-", Sub, "Difference, with broadcasting.", "assert((10 - tensor([1, 2])).to_array() == [9, 8]);"),
        arithmetic!(
            "*",
            Mul,
            "Product of the elements, with broadcasting; `@` is the matrix product.",
            "assert((tensor([1, 2]) * 2.5).to_array() == [2.5, 5.0]);"
        ),
        arithmetic!(
            "/",
            Div,
            "Quotient, with broadcasting; of integers f32.",
            "assert((tensor([1, 3]) / 2).to_array() == [0.5, 1.5]);"
        ),
        arithmetic!(
            "%",
            Rem,
            "Remainder with the divisor's sign, as in Python.",
            "assert((tensor([-7, 7]) % 3).to_array() == [2, 1]);"
        ),
        arithmetic!(
            "**",
            Pow,
            "Power, with broadcasting. `-x ** 2` is refused: write `-(x ** 2)`.",
            "assert((tensor([1.0, 3.0]) ** 2).to_array() == [1.0, 9.0]);"
        ),
        comparison!("==", Eq, "assert((tensor([1, 2]) == 2).to_array() == [false, true]);"),
        comparison!("!=", Ne, "assert((tensor([1, 2]) != tensor([1, 3])).to_array() == [false, true]);"),
        comparison!("<", Lt, "assert((1.5 < tensor([1, 2])).to_array() == [false, true]);"),
        comparison!("<=", Le, "assert((tensor([1, 2, 3]) <= 2).to_array() == [true, true, false]);"),
        comparison!(">", Gt, "assert((tensor([0.5, 1.5]) > 1).to_array() == [false, true]);"),
        comparison!(">=", Ge, "assert((tensor([0.5, 1.5]) >= 0.5).all());"),
        logic!(
            "&",
            And,
            "And of bool tensors, with broadcasting.",
            "let t = tensor([1, 2, 3]); assert(((t > 1) & (t < 3)).to_array() == [false, true, false]);"
        ),
        logic!(
            "|",
            Or,
            "Or of bool tensors, with broadcasting.",
            "let t = tensor([1, 2, 3]); assert(((t < 2) | (t > 2)).to_array() == [true, false, true]);"
        ),
        logic!(
            "^",
            Xor,
            "Either or, of bool tensors, with broadcasting.",
            "assert((tensor([true, true]) ^ tensor([true, false])).to_array() == [false, true]);"
        ),
        others,
    ]
    .concat()
}
