//! How a tensor is shown: shape, dtype, and a corner of its numbers with "…" for the rest, never the whole.

use super::{Class, Tensor};
use std::fmt;

/// Numbers shown at each end of the last two dimensions, and of the dimensions before.
const ENDS: [usize; 2] = [3, 1];

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")?;
        if self.numel() == 0 {
            return Ok(());
        }
        let mut numbers = Vec::new();
        self.corner(&mut numbers);
        let texts = texts(&numbers, self.class());
        let width = texts.iter().map(|t| t.chars().count()).max().unwrap_or(0);
        f.write_str("\n")?;
        self.write_corner(f, &mut texts.iter(), width, 1)
    }
}

impl Tensor {
    /// The indices shown of the first dimension, where those between the two parts are left out.
    fn shown(&self) -> (Vec<usize>, Vec<usize>) {
        let size = self.shape()[0];
        let ends = ENDS[usize::from(self.ndim() > 2)];
        if size <= 2 * ends { ((0..size).collect(), Vec::new()) } else { ((0..ends).collect(), (size - ends..size).collect()) }
    }

    /// The numbers shown, in the order in which they are.
    fn corner(&self, out: &mut Vec<Tensor>) {
        if self.ndim() == 0 {
            return out.push(self.clone());
        }
        let (head, tail) = self.shown();
        for part in head.into_iter().chain(tail).filter_map(|i| self.select(0, i).ok()) {
            part.corner(out);
        }
    }

    fn write_corner<'a>(
        &self,
        f: &mut fmt::Formatter<'_>,
        texts: &mut impl Iterator<Item = &'a String>,
        width: usize,
        indent: usize,
    ) -> fmt::Result {
        if self.ndim() == 0 {
            return write!(f, "{:>width$}", texts.next().map_or("", String::as_str));
        }
        let separator = match self.ndim() {
            1 => ", ".to_string(),
            n => format!(",{}{}", "\n".repeat(n - 1), " ".repeat(indent)),
        };
        let (head, tail) = self.shown();
        f.write_str("[")?;
        for (i, part) in head.iter().chain(&tail).filter_map(|i| self.select(0, *i).ok()).enumerate() {
            if i > 0 {
                f.write_str(&separator)?;
            }
            if i == head.len() {
                write!(f, "…{separator}")?;
            }
            part.write_corner(f, texts, width, indent + 1)?;
        }
        f.write_str("]")
    }
}

/// All numbers in one notation: integers as such, else four decimals, else scientific where these would hide digits.
fn texts(numbers: &[Tensor], class: Class) -> Vec<String> {
    if class == Class::Int {
        return numbers.iter().flat_map(Tensor::to_i64).map(|x| x.to_string()).collect();
    }
    let numbers: Vec<f64> = numbers.iter().flat_map(Tensor::to_f64).collect();
    let finite = || numbers.iter().filter(|x| x.is_finite());
    let largest = finite().fold(0.0, |a: f64, x| a.max(x.abs()));
    let smallest = finite().filter(|x| **x != 0.0).fold(f64::INFINITY, |a: f64, x| a.min(x.abs()));
    let whole = finite().all(|x| x.fract() == 0.0);
    let show = |x: &f64| match class {
        Class::Bool => (*x != 0.0).to_string(),
        _ if !x.is_finite() => format!("{x}"),
        _ if whole && largest < 1e8 => format!("{x:.1}"),
        _ if largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1e3 && largest >= 1e4 => format!("{x:.4e}"),
        _ => format!("{x:.4}"),
    };
    numbers.iter().map(show).collect()
}
