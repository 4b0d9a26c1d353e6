//! Element by element: arithmetic with broadcasting and promotion, comparisons, logic, functions of one number.

use super::drive::{choose, map, zip};
use super::element::by_class;
use super::{Class, DType, Tensor};
use crate::error::{Error, Result, nearest};
use crate::work::Work;
use std::sync::atomic::{AtomicBool, Ordering};

/// `+ - * / % **`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

/// `== != < <= > >=`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// `& | ^`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
}

/// A plain number beside a tensor. It takes part in the tensor's precision.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Bool(bool),
    Int(i64),
    Float(f64),
}

/// One side of an operation.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A tensor.
    Tensor(Tensor),
    /// A plain number.
    Number(Number),
}

impl From<&Tensor> for Operand {
    fn from(t: &Tensor) -> Self {
        Operand::Tensor(t.clone())
    }
}
impl From<Tensor> for Operand {
    fn from(t: Tensor) -> Self {
        Operand::Tensor(t)
    }
}
impl From<Number> for Operand {
    fn from(n: Number) -> Self {
        Operand::Number(n)
    }
}
impl From<f64> for Operand {
    fn from(v: f64) -> Self {
        Operand::Number(Number::Float(v))
    }
}
impl From<i64> for Operand {
    fn from(v: i64) -> Self {
        Operand::Number(Number::Int(v))
    }
}
impl From<bool> for Operand {
    fn from(v: bool) -> Self {
        Operand::Number(Number::Bool(v))
    }
}

impl Number {
    /// A 0-D tensor of it: bool, i64 or f64.
    pub(super) fn tensor(self) -> Tensor {
        match self {
            Number::Bool(v) => Tensor::of(vec![v], &[]),
            Number::Int(v) => Tensor::of(vec![v], &[]),
            Number::Float(v) => Tensor::of(vec![v], &[]),
        }
    }
}

impl Operand {
    /// As a tensor; a number has no dimensions.
    pub fn tensor(&self) -> Tensor {
        match self {
            Operand::Tensor(t) => t.clone(),
            Operand::Number(n) => n.tensor(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Operand::Tensor(t) => t.class(),
            Operand::Number(Number::Bool(_)) => Class::Bool,
            Operand::Number(Number::Int(_)) => Class::Int,
            // What a float becomes beside integers, as in PyTorch.
            Operand::Number(Number::Float(_)) => Class::F32,
        }
    }
}

/// The arithmetic of two operands: bool < i64 < f32 < f64, where tensors with dimensions outweigh those without, and these
/// outweigh numbers, unless the lighter one is of a higher kind (bool, integer, float). PyTorch's rule.
pub(super) fn promote(a: &Operand, b: &Operand) -> Class {
    let kind = |class: Class| class.min(Class::F32);
    let weight = |operand: &Operand| match operand {
        Operand::Tensor(t) if t.ndim() > 0 => 2,
        Operand::Tensor(_) => 1,
        Operand::Number(_) => 0,
    };
    let (heavy, light) = if weight(a) >= weight(b) { (a, b) } else { (b, a) };
    if weight(a) != weight(b) && kind(heavy.class()) >= kind(light.class()) {
        heavy.class()
    } else {
        heavy.class().max(light.class())
    }
}

impl Tensor {
    /// `a op b` with broadcasting.
    ///
    /// bool counts as i64 here (true + true is 2); i64 wraps around; `/` on integers gives f32; `%` has the sign of the
    /// divisor.
    ///
    /// # Errors
    /// The shapes do not broadcast; an integer modulo zero; an integer to a negative integer power.
    pub fn arithmetic(op: Arithmetic, a: impl Into<Operand>, b: impl Into<Operand>, work: &Work) -> Result<Tensor> {
        use Arithmetic::*;
        let (a, b) = (a.into(), b.into());
        let class = match promote(&a, &b).max(Class::Int) {
            Class::Int if op == Div => Class::F32,
            class => class,
        };
        let square = op == Pow && matches!(b, Operand::Number(Number::Int(2) | Number::Float(2.0)));
        let (a, b) = (a.tensor(), b.tensor());
        macro_rules! float {
            ($T:ty) => {
                match op {
                    Add => zip(&a, &b, work, |x: $T, y: $T| x + y),
                    Sub => zip(&a, &b, work, |x: $T, y: $T| x - y),
                    Mul => zip(&a, &b, work, |x: $T, y: $T| x * y),
                    Div => zip(&a, &b, work, |x: $T, y: $T| x / y),
                    Pow if square => map(&a, work, |x: $T| x * x),
                    Pow => zip(&a, &b, work, |x: $T, y: $T| x.powf(y)),
                    Rem => zip(&a, &b, work, |x: $T, y: $T| {
                        let rest = x % y;
                        if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
                    }),
                }
            };
        }
        match class {
            Class::F64 => float!(f64),
            Class::F32 => float!(f32),
            Class::Int | Class::Bool => integers(op, &a, &b, work),
        }
    }

    /// `a op b` with broadcasting, a bool tensor. NaN differs from everything.
    ///
    /// # Errors
    /// The shapes do not broadcast.
    #[allow(clippy::bool_comparison)] // bool is one of four types
    pub fn compare(op: Comparison, a: impl Into<Operand>, b: impl Into<Operand>, work: &Work) -> Result<Tensor> {
        use Comparison::*;
        let (a, b) = (a.into(), b.into());
        let integers = [&a, &b].into_iter().any(|o| matches!(o, Operand::Tensor(t) if t.class() == Class::Int));
        let class = match promote(&a, &b) {
            // f32 does not hold every integer.
            Class::F32 if integers => Class::F64,
            class => class,
        };
        let (a, b) = (a.tensor(), b.tensor());
        by_class!(class, T => match op {
            Eq => zip(&a, &b, work, |x: T, y: T| x == y),
            Ne => zip(&a, &b, work, |x: T, y: T| x != y),
            Lt => zip(&a, &b, work, |x: T, y: T| x < y),
            Le => zip(&a, &b, work, |x: T, y: T| x <= y),
            Gt => zip(&a, &b, work, |x: T, y: T| x > y),
            Ge => zip(&a, &b, work, |x: T, y: T| x >= y),
        })
    }

    /// `a op b` of two bool tensors, with broadcasting.
    ///
    /// # Errors
    /// An operand is not bool; the shapes do not broadcast.
    pub fn logic(op: Logic, a: impl Into<Operand>, b: impl Into<Operand>, work: &Work) -> Result<Tensor> {
        let (a, b) = (a.into().tensor(), b.into().tensor());
        a.need_bool(&format!("{op:?}"))?;
        b.need_bool(&format!("{op:?}"))?;
        match op {
            Logic::And => zip(&a, &b, work, |x: bool, y: bool| x & y),
            Logic::Or => zip(&a, &b, work, |x: bool, y: bool| x | y),
            Logic::Xor => zip(&a, &b, work, |x: bool, y: bool| x ^ y),
        }
    }

    /// Not.
    ///
    /// # Errors
    /// It is not a bool tensor.
    pub fn not(&self, work: &Work) -> Result<Tensor> {
        self.need_bool("not")?;
        map(self, work, |x: bool| !x)
    }

    pub(super) fn need_bool(&self, what: &str) -> Result<()> {
        if self.class() == Class::Bool {
            return Ok(());
        }
        Err(Error::input(format!("{} needs a bool tensor, not {self:?}", what.to_lowercase()))
            .help("comparisons like `t > 0` give bool tensors"))
    }

    /// Minus; bool becomes i64.
    pub fn neg(&self, work: &Work) -> Result<Tensor> {
        match self.class() {
            Class::F64 => map(self, work, |x: f64| -x),
            Class::F32 => map(self, work, |x: f32| -x),
            Class::Int | Class::Bool => map(self, work, i64::wrapping_neg),
        }
    }

    /// `a` where this bool tensor holds, else `b`; all three broadcast.
    ///
    /// # Errors
    /// It is not a bool tensor; the shapes do not broadcast.
    pub fn choose(&self, a: impl Into<Operand>, b: impl Into<Operand>, work: &Work) -> Result<Tensor> {
        self.need_bool("where")?;
        let (a, b) = (a.into(), b.into());
        let class = promote(&a, &b);
        by_class!(class, T => choose::<T>(self, &a.tensor(), &b.tensor(), work))
    }

    /// Every element within `low..=high` (either may be absent). Where `low > high`, `high`. NaN stays NaN.
    #[allow(clippy::bool_comparison)] // bool is one of four types
    pub fn clamp(&self, low: Option<Number>, high: Option<Number>, work: &Work) -> Result<Tensor> {
        let bounds = low.into_iter().chain(high).map(Operand::Number);
        let class = bounds.fold(self.class(), |class, bound| class.max(promote(&Operand::from(self), &bound)));
        by_class!(class, T => {
            let bound = |n: Option<Number>| n.and_then(|n| n.tensor().values::<T>().first().copied());
            let (low, high) = (bound(low), bound(high));
            map(self, work, move |x: T| {
                let x = low.filter(|low| x < *low).unwrap_or(x);
                high.filter(|high| x > *high).unwrap_or(x)
            })
        })
    }

    /// True where it is NaN.
    pub fn isnan(&self, work: &Work) -> Result<Tensor> {
        map(self, work, |x: f64| x.is_nan())
    }

    /// True where it is neither NaN nor infinite.
    pub fn isfinite(&self, work: &Work) -> Result<Tensor> {
        map(self, work, |x: f64| x.is_finite())
    }

    /// The same numbers in another arithmetic: "bool", "i64", "f32" or "f64". Fractions are cut off towards zero, floats
    /// beyond i64's range become its ends and NaN becomes 0, as Rust's `as` does; for bool non-zero is true.
    ///
    /// # Errors
    /// No such dtype.
    pub fn to_dtype(&self, name: &str, work: &Work) -> Result<Tensor> {
        let class = match name {
            "bool" => Class::Bool,
            "i64" | "int64" | "int" | "long" => Class::Int,
            "f32" | "float32" | "float" => Class::F32,
            "f64" | "float64" | "double" => Class::F64,
            _ => {
                let error = Error::input(format!("tensors are computed as bool, i64, f32 or f64, not as `{name}`"));
                return Err(match nearest(name, ["bool", "i64", "f32", "f64"]) {
                    Some(near) => error.help(format!("did you mean \"{near}\"?")),
                    None => error,
                });
            }
        };
        self.to_class(class, work)
    }

    pub(super) fn to_class(&self, class: Class, work: &Work) -> Result<Tensor> {
        if matches!(self.dtype, DType::Bool | DType::I64 | DType::F32 | DType::F64) && self.class() == class {
            return Ok(self.clone());
        }
        by_class!(class, T => map(self, work, |x: T| x))
    }
}

fn integers(op: Arithmetic, a: &Tensor, b: &Tensor, work: &Work) -> Result<Tensor> {
    use Arithmetic::*;
    let refused = AtomicBool::new(false);
    let refuse = || {
        refused.store(true, Ordering::Relaxed);
        0
    };
    let out = match op {
        Add => zip(a, b, work, i64::wrapping_add),
        Sub => zip(a, b, work, i64::wrapping_sub),
        Mul => zip(a, b, work, i64::wrapping_mul),
        Div => Err(Error::internal("integers are divided as floats")),
        Rem => zip(a, b, work, |x: i64, y: i64| {
            if y == 0 {
                return refuse();
            }
            let rest = x.wrapping_rem(y);
            if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }
        }),
        Pow => zip(a, b, work, |x: i64, y: i64| u64::try_from(y).map_or_else(|_| refuse(), |y| wrapping_power(x, y))),
    }?;
    if !refused.into_inner() {
        return Ok(out);
    }
    Err(match op {
        Rem => Error::input("an integer modulo zero"),
        _ => Error::input("an integer to a negative integer power").help("convert one side: t.to(\"f32\") ** n"),
    })
}

fn wrapping_power(mut base: i64, mut exponent: u64) -> i64 {
    let mut out = 1i64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = out.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    out
}

/// Functions of one number with a float result; integers and bool become f32.
macro_rules! float_functions {
    ($($(#[$doc:meta])* $name:ident: |$x:ident: $T:ident| $value:expr;)+) => {
        impl Tensor {
            $($(#[$doc])*
            pub fn $name(&self, work: &Work) -> Result<Tensor> {
                match self.class() {
                    Class::F64 => {
                        type $T = f64;
                        map(self, work, |$x: $T| -> $T { $value })
                    }
                    _ => {
                        type $T = f32;
                        map(self, work, |$x: $T| -> $T { $value })
                    }
                }
            })+
        }
    };
}

float_functions! {
    /// eˣ.
    exp: |x: T| x.exp();
    /// Natural logarithm; NaN below zero, −∞ at zero.
    log: |x: T| x.ln();
    /// Logarithm to base 2.
    log2: |x: T| x.log2();
    /// Logarithm to base 10.
    log10: |x: T| x.log10();
    /// Square root; NaN below zero.
    sqrt: |x: T| x.sqrt();
    /// Sine of radians.
    sin: |x: T| x.sin();
    /// Cosine of radians.
    cos: |x: T| x.cos();
    /// Hyperbolic tangent.
    tanh: |x: T| x.tanh();
    /// 1 / (1 + e⁻ˣ).
    sigmoid: |x: T| 1.0 / (1.0 + (-x).exp());
    /// x Φ(x) with the exact normal distribution function, torch's default.
    gelu: |x: T| 0.5 * x * (-x * std::f64::consts::FRAC_1_SQRT_2 as T).complement();
    /// x Φ(x) with the hyperbolic-tangent approximation, as Gemma and GPT-2 use it.
    gelu_tanh: |x: T| 0.5 * x * (1.0 + ((std::f64::consts::FRAC_2_PI.sqrt() as T) * (x + 0.044_715 * x * x * x)).tanh());
    /// x / (1 + e⁻ˣ).
    silu: |x: T| x / (1.0 + (-x).exp());
}

/// 1 − erf(x): its tail, unlike that of erf itself, keeps its digits.
trait ErrorFunction {
    fn complement(self) -> Self;
}
impl ErrorFunction for f32 {
    fn complement(self) -> Self {
        libm::erfcf(self)
    }
}
impl ErrorFunction for f64 {
    fn complement(self) -> Self {
        libm::erfc(self)
    }
}

/// Functions of one number that stay in their arithmetic; bool becomes i64.
macro_rules! same_functions {
    ($($(#[$doc:meta])* $name:ident: |$x:ident| $float:expr, |$i:ident| $int:expr;)+) => {
        impl Tensor {
            $($(#[$doc])*
            pub fn $name(&self, work: &Work) -> Result<Tensor> {
                match self.class() {
                    Class::F64 => map(self, work, |$x: f64| -> f64 { $float }),
                    Class::F32 => map(self, work, |$x: f32| -> f32 { $float }),
                    Class::Int | Class::Bool => map(self, work, |$i: i64| -> i64 { $int }),
                }
            })+
        }
    };
}

same_functions! {
    /// |x|.
    abs: |x| x.abs(), |i| i.wrapping_abs();
    /// −1, 0 or 1; NaN stays NaN.
    sign: |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }, |i| i.signum();
    /// max(x, 0); NaN stays NaN.
    relu: |x| if x < 0.0 { 0.0 } else { x }, |i| i.max(0);
    /// To the nearest integer, halves to the even one.
    round: |x| x.round_ties_even(), |i| i;
    /// The largest integer not above.
    floor: |x| x.floor(), |i| i;
    /// The smallest integer not below.
    ceil: |x| x.ceil(), |i| i;
}
