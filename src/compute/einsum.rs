//! Einstein summation over any number of operands, two at a time through the matrix product.

use super::matmul;
use crate::error::{Error, Result};
use crate::tensor::{Arithmetic, Tensor};
use crate::work::Work;

/// A tensor whose dimensions have letters, each one once.
struct Lettered {
    tensor: Tensor,
    letters: Vec<char>,
}

/// `einsum("ij,kj->ik", [a, b])`: products of the operands' elements, summed over the letters that the result does not name
/// (`numpy.einsum`). A letter that stands twice in one operand takes the diagonal. Without `->` the result has the letters
/// that stand once, in alphabetical order. Operands are contracted from the left; products give f32, or f64 where either
/// side is f64.
///
/// # Errors
/// An equation that does not fit the operands, sizes of one letter that differ, or the user's interruption.
pub fn einsum(equation: &str, operands: &[Tensor], work: &Work) -> Result<Tensor> {
    let (inputs, output) = parse(equation, operands)?;
    let mut rest: Vec<Lettered> = Vec::new();
    for (tensor, letters) in operands.iter().zip(inputs) {
        rest.push(diagonal(tensor, letters)?);
    }
    rest.reverse();
    let Some(mut left) = rest.pop() else { return Err(Error::input("einsum needs at least one tensor")) };
    while let Some(right) = rest.pop() {
        let wanted = |c: &char| output.contains(c) || rest.iter().any(|other| other.letters.contains(c));
        left = contract(left, right, &wanted, work)?;
    }
    let out = sum_out(left, &|c| output.contains(c), work)?;
    arrange(&out, &output)
}

/// The letters of each operand and of the result.
fn parse(equation: &str, operands: &[Tensor]) -> Result<(Vec<Vec<char>>, Vec<char>)> {
    let wrong = |message: String| Error::input(format!("einsum: {message}")).help("an equation looks like \"ij,kj->ik\"");
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = text.split_once("->").map_or((text.as_str(), None), |(left, right)| (left, Some(right)));
    if let Some(other) = left.chars().chain(right.unwrap_or("").chars()).find(|c| !c.is_ascii_alphabetic() && *c != ',') {
        return Err(wrong(format!("`{other}` in \"{equation}\" is no letter")));
    }
    let inputs: Vec<Vec<char>> = left.split(',').map(|part| part.chars().collect()).collect();
    if inputs.len() != operands.len() {
        return Err(wrong(format!("\"{equation}\" is for {} tensors, but there are {}", inputs.len(), operands.len())));
    }
    let mut sizes: Vec<(char, usize)> = Vec::new();
    for (letters, tensor) in inputs.iter().zip(operands) {
        if letters.len() != tensor.ndim() {
            let letters: String = letters.iter().collect();
            return Err(wrong(format!(
                "\"{letters}\" has {} letters, but its tensor the shape {:?}",
                letters.len(),
                tensor.shape()
            )));
        }
        for (letter, size) in letters.iter().zip(tensor.shape()) {
            match sizes.iter().find(|(known, _)| known == letter) {
                Some((_, known)) if known != size => {
                    return Err(Error::shape(format!(
                        "einsum: `{letter}` has the size {known} in one place and {size} in another"
                    )));
                }
                Some(_) => {}
                None => sizes.push((*letter, *size)),
            }
        }
    }
    let output: Vec<char> = match right {
        Some(right) => right.chars().collect(),
        None => {
            let mut once: Vec<char> = sizes.iter().map(|(c, _)| *c).collect();
            once.retain(|c| left.matches(*c).count() == 1);
            once.sort_unstable();
            once
        }
    };
    for (i, letter) in output.iter().enumerate() {
        if output[..i].contains(letter) || !sizes.iter().any(|(known, _)| known == letter) {
            return Err(wrong(format!("`{letter}` of the result must stand in an operand, and only once in the result")));
        }
    }
    Ok((inputs, output))
}

/// Takes the diagonal wherever a letter repeats.
fn diagonal(tensor: &Tensor, mut letters: Vec<char>) -> Result<Lettered> {
    let mut tensor = tensor.clone();
    let mut at = 0;
    while at < letters.len() {
        match letters[..at].iter().position(|c| *c == letters[at]) {
            Some(first) => {
                tensor = tensor.diagonal(first as i64, at as i64)?;
                letters.remove(at);
            }
            None => at += 1,
        }
    }
    Ok(Lettered { tensor, letters })
}

fn sum_out(mut t: Lettered, wanted: &dyn Fn(&char) -> bool, work: &Work) -> Result<Lettered> {
    while let Some(at) = t.letters.iter().position(|c| !wanted(c)) {
        t.tensor = t.tensor.sum(Some(at as i64), work)?;
        t.letters.remove(at);
    }
    Ok(t)
}

/// The dimensions in the order of `letters`.
fn arrange(t: &Lettered, letters: &[char]) -> Result<Tensor> {
    let order: Vec<usize> = letters.iter().filter_map(|c| t.letters.iter().position(|own| own == c)).collect();
    t.tensor.permute(&order)
}

/// One product of two operands: letters that nobody needs later are summed.
fn contract(left: Lettered, right: Lettered, wanted: &dyn Fn(&char) -> bool, work: &Work) -> Result<Lettered> {
    let left = sum_out(left, &|c| wanted(c) || right.letters.contains(c), work)?;
    let right = sum_out(right, &|c| wanted(c) || left.letters.contains(c), work)?;
    let shared = |keep: bool| -> Vec<char> {
        left.letters.iter().copied().filter(|c| right.letters.contains(c) && wanted(c) == keep).collect()
    };
    let (batch, inner) = (shared(true), shared(false));
    let own = |t: &Lettered, other: &Lettered| -> Vec<char> {
        t.letters.iter().copied().filter(|c| !other.letters.contains(c)).collect()
    };
    let (rows, cols) = (own(&left, &right), own(&right, &left));
    let size = |t: &Lettered, letters: &[char]| -> usize {
        letters.iter().filter_map(|c| t.letters.iter().position(|own| own == c)).map(|i| t.tensor.shape()[i]).product()
    };
    let (b, m, n, k) = (size(&left, &batch), size(&left, &rows), size(&right, &cols), size(&left, &inner));
    let a = arrange(&left, &[&batch[..], &rows, &inner].concat())?.reshape(&[b, m, k])?;
    let c = arrange(&right, &[&batch[..], &inner, &cols].concat())?.reshape(&[b, k, n])?;
    let product = match (inner.is_empty(), batch.is_empty()) {
        // Nothing is summed: a plain product keeps integers integers.
        (true, _) => Tensor::arithmetic(Arithmetic::Mul, a.reshape(&[b, m, 1])?, c.reshape(&[b, 1, n])?, work)?,
        (false, true) => matmul(&a.select(0, 0)?, &c.select(0, 0)?, work)?,
        (false, false) => matmul(&a, &c, work)?,
    };
    let letters = [batch, rows, cols].concat();
    let shape: Vec<usize> = letters.iter().map(|c| size(if left.letters.contains(c) { &left } else { &right }, &[*c])).collect();
    Ok(Lettered { tensor: product.reshape(&shape)?, letters })
}
