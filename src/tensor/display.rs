//! How a tensor is shown: shape, dtype, and a corner of its numbers with "…" for the rest, never the whole.

use super::{Class, Tensor};
use std::fmt;
use std::ops::Range;

/// Indices shown at each end of a dimension: the last two, the two before. Of all before these only the first is shown.
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
    /// The indices shown of the first dimension: those before and those after the ones left out, of which there may be none.
    fn shown(&self) -> (Range<usize>, Range<usize>) {
        let size = self.shape()[0];
        match ENDS.get((self.ndim() - 1) / 2) {
            Some(ends) if size <= 2 * ends => (0..size, size..size),
            Some(ends) => (0..*ends, size - ends..size),
            None => (0..1, size..size),
        }
    }

    /// The numbers shown, in the order in which they are.
    fn corner(&self, out: &mut Vec<Tensor>) {
        if self.ndim() == 0 {
            return out.push(self.clone());
        }
        let (head, tail) = self.shown();
        for part in head.chain(tail).filter_map(|i| self.select(0, i).ok()) {
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
        for i in head.clone().chain(tail.clone()) {
            if i > 0 {
                f.write_str(&separator)?;
            }
            if i > 0 && i == tail.start {
                write!(f, "…{separator}")?;
            }
            self.select(0, i).map_err(|_| fmt::Error)?.write_corner(f, texts, width, indent + 1)?;
        }
        if tail.is_empty() && head.end < tail.start {
            write!(f, "{separator}…")?;
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
        _ if largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1e3 && largest >= 1e4 => scientific(*x),
        _ => format!("{x:.4}"),
    };
    numbers.iter().map(show).collect()
}

/// `1.2346e-05`, as C writes it: exponents of equal width stand below each other.
fn scientific(x: f64) -> String {
    let text = format!("{x:.4e}");
    match text.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) => format!("{digits}e{exponent:+03}"),
        None => text,
    }
}
