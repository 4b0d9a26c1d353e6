//! Tensors in scripts. `create`: new ones. `operators`: arithmetic, comparison, logic. `functions`: element by element and
//! reductions. `shapes`: indexing, joining, other shapes. `algebra`: products, decompositions, relations. `power`: why
//! `-x ** 2` is refused.

mod algebra;
mod create;
mod functions;
mod operators;
mod power;
mod shapes;

pub(crate) use power::token_watch;

use crate::error::{Error, Result};
use crate::options::Value;
use crate::script::convert::{FromScript, IntoScript, describe, option_value};
use crate::script::declare::Entry;
use crate::tensor::{Class, Held, Index, Number, Operand, Tensor};
use crate::work::Work;
use rhai::{Array, Dynamic, Engine, EvalAltResult, Map, Module};
use std::any::TypeId;

pub(super) fn entries() -> Vec<Entry> {
    let shown = crate::shown!(Tensor, "zeros([2])").to_vec();
    [
        create::entries(),
        operators::entries(),
        functions::entries(),
        shapes::entries(),
        algebra::entries(),
        power::entries(),
        shown,
    ]
    .concat()
}

/// What no entry can declare: the type's name, `for` over a tensor, `@`, and the watch over `-x ** 2`.
pub(super) fn install(engine: &mut Engine) {
    engine.register_type_with_name::<Tensor>("Tensor");
    // As strong as `*`: at 160, `W @ x * g` would be `W @ (x * g)`. The name is no symbol of Rhai's, so this cannot fail.
    let _ = engine.register_custom_operator("@", 180);
    power::install(engine);
    let mut module = Module::new();
    module.set_iter_result(TypeId::of::<Tensor>(), |value| {
        let tensor = value.cast::<Tensor>();
        if tensor.ndim() == 0 {
            let error: Box<EvalAltResult> = "a tensor without dimensions cannot be walked by `for`; use item()".into();
            return Box::new(std::iter::once(Err(error)));
        }
        let len = tensor.shape()[0];
        let row = move |i| tensor.select(0, i).map(|row| NumberOrTensor(row).into_script());
        Box::new((0..len).map(move |i| row(i).map_err(|e| super::raise(e, rhai::Position::NONE))))
    });
    engine.register_global_module(module.into());
}

/// A tensor, or a plain number when it has no dimensions: what indexing and reductions give.
struct NumberOrTensor(Tensor);

impl IntoScript for NumberOrTensor {
    fn into_script(self) -> Dynamic {
        if self.0.ndim() > 0 { Dynamic::from(self.0) } else { number(&self.0) }
    }
}

/// The only element as a script's number.
fn number(t: &Tensor) -> Dynamic {
    match t.class() {
        Class::Bool => t.to_bool().into_iter().next().into_script(),
        Class::Int => t.to_i64().into_iter().next().into_script(),
        Class::F32 | Class::F64 => t.to_f64().into_iter().next().into_script(),
    }
}

/// A map of named tensors.
fn map<const N: usize>(tensors: [(&str, Tensor); N]) -> Map {
    tensors.into_iter().map(|(name, t)| (name.into(), t.into_script())).collect()
}

/// Elements of an array that are made between two looks at the cancel flag.
const STRIDE: usize = 1 << 14;

/// Nested arrays of a tensor's elements.
fn nested(t: &Tensor, work: &Work) -> Result<Dynamic> {
    work.check()?;
    match t.ndim() {
        0 => Ok(number(t)),
        1 => {
            let mut items = Held::new(Array::with_capacity(t.numel()));
            for start in (0..t.numel()).step_by(STRIDE) {
                work.check()?;
                let part = t.slice(0, start as i64, Some(t.numel().min(start + STRIDE) as i64))?;
                match t.class() {
                    Class::Bool => items.extend(part.to_bool().into_iter().map(Dynamic::from)),
                    Class::Int => items.extend(part.to_i64().into_iter().map(Dynamic::from)),
                    Class::F32 | Class::F64 => items.extend(part.to_f64().into_iter().map(Dynamic::from)),
                }
            }
            Ok(items.into_vec().into())
        }
        _ => (0..t.shape()[0]).map(|i| nested(&t.select(0, i)?, work)).collect::<Result<Array>>().map(Dynamic::from_array),
    }
}

impl FromScript for Number {
    fn kind() -> String {
        "number".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        match option_value(value) {
            Value::Bool(v) => Some(Number::Bool(v)),
            Value::Int(v) => Some(Number::Int(v)),
            Value::Float(v) => Some(Number::Float(v)),
            _ => None,
        }
    }
}

impl FromScript for Operand {
    fn kind() -> String {
        "Tensor or number".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        Tensor::from_script(value).map(Operand::from).or_else(|| Number::from_script(value).map(Operand::from))
    }
}

impl FromScript for Index {
    fn kind() -> String {
        "integer, range, array of integers, bool Tensor or integer Tensor".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        match option_value(value) {
            Value::Int(i) => Some(Index::At(i)),
            Value::Range(start, end) => Some(Index::Range(start, end)),
            Value::List(_) => Integers::from_script(value).map(|list| Index::List(Tensor::vector_i64(list.0))),
            Value::Tensor(t) if t.class() == Class::Bool => Some(Index::Mask(t)),
            Value::Tensor(t) => Some(Index::List(t)),
            _ => None,
        }
    }
}

/// Sizes, dimensions or indices.
struct Integers(Vec<i64>);

impl FromScript for Integers {
    fn kind() -> String {
        "integer or array of integers".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        match value.read_lock::<Tensor>() {
            Some(t) if t.ndim() == 1 && t.class() == Class::Int => Some(Integers(t.to_i64())),
            Some(_) => None,
            None => i64::from_script(value).map(|i| vec![i]).or_else(|| Vec::<i64>::from_script(value)).map(Integers),
        }
    }
}

impl Integers {
    /// As the shape of a tensor.
    fn shape(&self) -> Result<Vec<usize>> {
        let size =
            |i: &i64| usize::try_from(*i).map_err(|_| Error::shape(format!("{:?} is not a shape: sizes are 0 or more", self.0)));
        self.0.iter().map(size).collect()
    }
}

/// A number, or several in an array or a 1-D tensor.
struct Points {
    values: Vec<f64>,
    single: bool,
}

impl FromScript for Points {
    fn kind() -> String {
        "number, array of numbers or 1-D Tensor".into()
    }
    fn from_script(value: &Dynamic) -> Option<Self> {
        if let Some(x) = f64::from_script(value) {
            return Some(Points { values: vec![x], single: true });
        }
        match value.read_lock::<Tensor>() {
            Some(t) => (t.ndim() == 1).then(|| Points { values: t.to_f64(), single: false }),
            None => Some(Points { values: Vec::<f64>::from_script(value)?, single: false }),
        }
    }
}

/// A tensor of numbers in nested arrays: bool where all are, i64 where all are integers, else f32.
fn from_nested(value: &Dynamic, class: Option<Class>, work: &Work) -> Result<Tensor> {
    if let Some(t) = Tensor::from_script(value) {
        return Ok(t);
    }
    let (mut shape, mut leaves) = (Vec::new(), Vec::new());
    gather(value, 0, &mut shape, &mut leaves, work)?;
    let of = |leaf: &Number| match leaf {
        Number::Bool(_) => Class::Bool,
        Number::Int(_) => Class::Int,
        Number::Float(_) => Class::F32,
    };
    let wide = |leaf: Number| match leaf {
        Number::Bool(v) => (i64::from(v), f64::from(u8::from(v))),
        Number::Int(v) => (v, v as f64),
        Number::Float(v) => (v as i64, v),
    };
    let class = class.unwrap_or_else(|| leaves.iter().map(of).max().unwrap_or(Class::F32));
    let leaves = leaves.into_iter().map(wide);
    match class {
        Class::Bool => Tensor::from_bool(leaves.map(|(_, v)| v != 0.0).collect(), &shape),
        Class::Int => Tensor::from_i64(leaves.map(|(v, _)| v).collect(), &shape),
        Class::F32 => Tensor::from_f32(leaves.map(|(_, v)| v as f32).collect(), &shape),
        Class::F64 => Tensor::from_f64(leaves.map(|(_, v)| v).collect(), &shape),
    }
}

fn gather(value: &Dynamic, depth: usize, shape: &mut Vec<usize>, leaves: &mut Vec<Number>, work: &Work) -> Result<()> {
    work.check()?;
    let ragged = || Error::shape("tensor: the arrays are ragged: all arrays of one depth must have the same length");
    if let Some(items) = value.read_lock::<Array>() {
        if shape.len() == depth {
            if !leaves.is_empty() {
                return Err(ragged());
            }
            shape.push(items.len());
        }
        if shape[depth] != items.len() {
            return Err(ragged());
        }
        return items.iter().try_for_each(|item| gather(item, depth + 1, shape, leaves, work));
    }
    if shape.len() != depth {
        return Err(ragged());
    }
    let leaf = Number::from_script(value).ok_or_else(|| {
        let error = Error::input(format!("tensor: an element must be a number or bool, not {}", describe(value)));
        if value.is::<Tensor>() { error.help("stack([a, b]) joins tensors") } else { error }
    })?;
    leaves.push(leaf);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::script::{Host, error_of, install};
    use crate::work::Work;
    use rhai::{Dynamic, Engine, EvalAltResult};

    fn eval(script: &str) -> Result<Dynamic, Box<EvalAltResult>> {
        let mut engine = Engine::new();
        install(&mut engine, Host::new(Work::silent(1).unwrap()));
        engine.eval(script)
    }

    /// Runs a script whose last value must be true.
    #[track_caller]
    fn holds(script: &str) {
        match eval(script) {
            Ok(value) => assert_eq!(value.as_bool(), Ok(true), "{script}"),
            Err(e) => panic!("{script}: {}", error_of(&e).map_or_else(|| e.to_string(), |e| format!("{e:?}"))),
        }
    }

    #[track_caller]
    fn fails(script: &str, with: &str) {
        let error = eval(script).unwrap_err();
        let text = error_of(&error).map_or_else(|| error.to_string(), |e| format!("{e:?}"));
        assert!(text.contains(with), "{script}: {text}");
    }

    #[test]
    fn numbers_come_from_indices_and_reductions() {
        holds("let t = tensor([1.5, 2.5]); type_of(t[0]) == \"f64\" && type_of(t.sum()) == \"f64\" && t[1] == 2.5");
        holds("type_of(tensor([1, 2])[0]) == \"i64\" && type_of((tensor([1, 2]) > 1).any()) == \"bool\"");
        holds("tensor([1, 2]).sum().item() == 3 && type_of(tensor([1, 2])) == \"Tensor\"");
        holds("if (tensor([1, 2]) > 0).all() { true } else { false }");
    }

    #[test]
    fn for_walks_the_first_dimension() {
        holds("let s = 0; for x in tensor([1, 2, 3]) { s += x; } s == 6");
        holds("let s = 0; for row in tensor([[1, 2], [3, 4]]) { s += row[1]; } s == 6");
        fails("for x in tensor(1.0) { print(x); }", "without dimensions");
    }

    #[test]
    fn writing_changes_one_copy_wherever_it_lies() {
        holds("let t = zeros([2, 2]); let u = t; t[0][1] = 5; t[0][1] == 5.0 && u.sum() == 0.0");
        holds("let m = #{t: zeros([2])}; m.t[0] = 1; m.t[0] == 1.0");
        holds("let a = [zeros([2])]; a[0][1] = 2; a[0].to_array() == [0.0, 2.0]");
        holds("let t = zeros([3]); t[1..] += 1; t.to_array() == [0.0, 1.0, 1.0]");
        holds("let t = arange(4); t[[0, -1]] = tensor([7, 8]); t.to_array() == [7, 1, 2, 8]");
        fails("let t = arange(3); t[5] = 1;", "index 5 is out of range for a dimension of size 3");
        fails("let t = arange(3); t[0] = 0.5;", "an i64 tensor cannot hold 0.5");
    }

    #[test]
    fn ranges_are_open_and_count_from_the_end() {
        holds("let t = arange(5); t[3..].to_array() == [3, 4] && t[-2..].to_array() == [3, 4] && t[..2].to_array() == [0, 1]");
        holds("let t = arange(5); t[1..=2].to_array() == [1, 2] && t[0..-1].len == 4");
        fails("arange(5)[0..6]", "range end 6 is out of range for a dimension of size 5");
    }

    #[test]
    fn operators_bind_as_in_python() {
        holds(
            "let w = eye(2) * 2; let x = tensor([1.0, 2.0]); let g = tensor([1.0, 10.0]); (w @ x * g).to_array() == [2.0, 40.0]",
        );
        holds("let t = tensor([1.0, 2.0]); (1 - t ** 2).to_array() == [0.0, -3.0] && (-(t ** 2)).to_array() == [-1.0, -4.0]");
        holds("let t = tensor([3.0]); let n = -t; n ** 2; ((-t) ** 2).to_array() == [9.0] && (2 * -t).to_array() == [-6.0]");
        holds("let f = |x| (-x) ** 2; f.call(tensor([3.0])).to_array() == [9.0]");
        holds("if -1 < 0 { let t = ones([1]); t ** 2; } let u = ones([1]); [-1]; u ** 2; true");
        fails("let t = tensor([3.0]);\nlet y = 1 + -t ** 2;", "without brackets");
        fails("let t = tensor([3.0]); (|x| -x ** 2).call(t)", "write -(x ** 2)");
        fails("let t = tensor([3.0]); -t.abs() ** 2", "without brackets");
        fails("let x = 3; -x ** 2 ** 3", "need brackets");
        holds("let x = 2; -x ** 2 == 4 && -2 ** 2 == 4 && 2 ** 3 ** 2 == 512");
    }

    #[test]
    fn wrong_arguments_and_conditions_are_answered() {
        fails("tensor([[1, 2], [3]])", "ragged");
        fails("tensor([1, \"a\"])", "not \"a\"");
        fails("zeros([2]) + zeros([3])", "[2] and [3] do not broadcast");
        fails("zeros([2]).sum(3)", "no dimension 3 in a tensor of shape [2]");
        fails("zeros([2]).std(#{dof: 1})", "did you mean `ddof`?");
        fails("zeros([-1])", "is not a shape");
        fails("zeros([2]) & 1", "");
        fails("if zeros([2]) { 1 }", "bool");
    }

    #[test]
    fn empty_and_scalar_tensors_do_not_fail() {
        holds("tensor([]).sum() == 0.0 && tensor([]).shape == [0] && tensor([[], []]).shape == [2, 0]");
        holds("tensor(2.5).ndim == 0 && tensor(2.5).item() == 2.5 && (tensor(2.5) + 1).item() == 3.5");
        holds("log(1) == 0.0 && sqrt(4) == 2.0 && allclose(log(10.0), 2.302585093)");
    }
}
