//! Fused layers for training on a CPU, each with its own backward pass. Candle's composed operations write every intermediate
//! (logits, attention weights, products) to memory and are bound by that; these keep them in cache. Every operation runs on
//! the calling thread, so that a result depends on the micro-batch alone and never on the number of threads.
//!
//! All tensors are f32, contiguous, row-major. `unsafe` is confined to [`matmul`].

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

const LANES: usize = 16;
/// Query rows that attention handles at a time: 64 rows of scores over 256 keys are 64 KiB.
const QUERY_BLOCK: usize = 64;
/// Rows of logits held at a time: 64 rows of 4096 are 1 MiB.
const LOGITS_BLOCK: usize = 64;

/// A strided matrix inside a slice.
#[derive(Clone, Copy)]
struct View<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    fn rows(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, column_stride: 1 }
    }

    fn transposed(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride: 1, column_stride: row_stride }
    }

    fn last(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride
    }
}

/// `out [m, n] (rows out_stride apart) = keep * out + scale * lhs [m, k] · rhs [k, n]`, on this thread.
fn matmul(out: &mut [f32], out_stride: usize, keep: bool, scale: f32, [m, n, k]: [usize; 3], lhs: View, rhs: View) {
    assert!(m > 0 && n > 0 && k > 0 && n <= out_stride);
    assert!((m - 1) * out_stride + n <= out.len() && lhs.last(m, k) < lhs.data.len() && rhs.last(k, n) < rhs.data.len());
    // SAFETY: the assertions bound the last element of every operand; `out` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            keep,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Compiles a loop for the widest vectors of the machine. Sums run in a fixed number of lanes, so the width does not show in
/// the result.
#[inline(always)]
fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

#[inline(always)]
fn reduce(values: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = combine(*lane, *value);
        }
    }
    let rest = chunks.remainder().iter().fold(start, |total, value| combine(total, *value));
    lanes.iter().fold(rest, |total, lane| combine(total, *lane))
}

#[inline(always)]
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (mut left_chunks, mut right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    for (left, right) in (&mut left_chunks).zip(&mut right_chunks) {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(left, right)| left * right).sum();
    rest + lanes.iter().sum::<f32>()
}

/// `e^x` within 2 units in the last place for `-87 <= x <= 88` (argument reduction and the Cephes polynomial); clamped outside.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer that then stands in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let count = shifted - ROUND;
    let r = x - count * 0.693_359_4 + count * 2.121_944_4e-4;
    let p = ((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1) * r + 0.5;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(exponent)
}

/// Softmax in place; returns (maximum, sum of exponentials).
#[inline(always)]
fn softmax(row: &mut [f32]) -> (f32, f32) {
    let maximum = reduce(row, f32::NEG_INFINITY, f32::max);
    for value in row.iter_mut() {
        *value = exp(*value - maximum);
    }
    let sum = reduce(row, 0.0, |total, value| total + value);
    let inverse = 1.0 / sum;
    for value in row.iter_mut() {
        *value *= inverse;
    }
    (maximum, sum)
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a fused layer needs contiguous tensors") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// `y = x W^T` for x `[n, d_in]` and W `[d_out, d_in]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2(weight, Linear)
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((n, d_in), (d_out, d_weight)) = (l1.shape().dims2()?, l2.shape().dims2()?);
        if d_in != d_weight {
            bail!("linear: input has {d_in} columns, weight {d_weight}");
        }
        let mut out = vec![0.0; n * d_out];
        matmul(
            &mut out,
            d_out,
            false,
            1.0,
            [n, d_out, d_in],
            View::rows(slice(s1, l1)?, d_in),
            View::transposed(slice(s2, l2)?, d_in),
        );
        Ok((CpuStorage::F32(out), (n, d_out).into()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((n, d_in), (d_out, _)) = (x.dims2()?, weight.dims2()?);
        let (input, weights, grad) = (values(x)?, values(weight)?, values(grad)?);
        let mut grad_x = vec![0.0; n * d_in];
        let mut grad_weight = vec![0.0; d_out * d_in];
        matmul(&mut grad_x, d_in, false, 1.0, [n, d_in, d_out], View::rows(&grad, d_out), View::rows(&weights, d_in));
        matmul(&mut grad_weight, d_in, false, 1.0, [d_out, d_in, n], View::transposed(&grad, d_out), View::rows(&input, d_in));
        Ok((Some(tensor(grad_x, x.shape())?), Some(tensor(grad_weight, weight.shape())?)))
    }
}

/// RMSNorm over the rows of x `[n, d]` with weight `[d]`: `x / sqrt(mean(x²) + eps) * weight`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(s1, l1)?, slice(s2, l2)?);
        let width = weight.len();
        let mut out = vec![0.0; x.len()];
        vectorised(|| {
            for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let inverse = 1.0 / (dot(row, row) / width as f32 + self.eps).sqrt();
                for ((out, value), weight) in out.iter_mut().zip(row).zip(weight) {
                    *out = value * inverse * weight;
                }
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (input, weights, grad) = (values(x)?, values(weight)?, values(grad)?);
        let width = weights.len();
        let mut grad_x = vec![0.0; input.len()];
        let mut grad_weight = vec![0.0; width];
        let mut scaled = vec![0.0; width];
        vectorised(|| {
            for ((row, grad), out) in input.chunks_exact(width).zip(grad.chunks_exact(width)).zip(grad_x.chunks_exact_mut(width))
            {
                let inverse = 1.0 / (dot(row, row) / width as f32 + self.eps).sqrt();
                for index in 0..width {
                    scaled[index] = grad[index] * weights[index];
                    grad_weight[index] += grad[index] * row[index] * inverse;
                }
                let projection = dot(&scaled, row) / width as f32 * inverse * inverse;
                for index in 0..width {
                    out[index] = inverse * (scaled[index] - projection * row[index]);
                }
            }
        });
        Ok((Some(tensor(grad_x, x.shape())?), Some(tensor(grad_weight, weight.shape())?)))
    }
}

/// `silu(gate) * up` for x `[n, 2 d_mlp]`, each row the gate and then the up projection.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    x.apply_op1(SwiGlu)
}

struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = layout.shape().dims2()?;
        let (x, half) = (slice(storage, layout)?, columns / 2);
        let mut out = vec![0.0; rows * half];
        vectorised(|| {
            for (row, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(half)) {
                let (gate, up) = row.split_at(half);
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate / (1.0 + exp(-gate)) * up;
                }
            }
        });
        Ok((CpuStorage::F32(out), (rows, half).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let columns = x.dims2()?.1;
        let half = columns / 2;
        let (input, grad) = (values(x)?, values(grad)?);
        let mut grad_x = vec![0.0; input.len()];
        vectorised(|| {
            for ((row, grad), out) in
                input.chunks_exact(columns).zip(grad.chunks_exact(half)).zip(grad_x.chunks_exact_mut(columns))
            {
                let (gate, up) = row.split_at(half);
                let (grad_gate, grad_up) = out.split_at_mut(half);
                for index in 0..half {
                    let sigmoid = 1.0 / (1.0 + exp(-gate[index]));
                    grad_up[index] = grad[index] * gate[index] * sigmoid;
                    grad_gate[index] = grad[index] * up[index] * sigmoid * (1.0 + gate[index] * (1.0 - sigmoid));
                }
            }
        });
        Ok(Some(tensor(grad_x, x.shape())?))
    }
}

/// Cosines and sines of the rotary embedding, `[positions, d_head / 2]` each.
struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotary {
    /// Rotates each head of each row; entry i of a head is paired with entry i + d_head / 2 (`rotate_half`). The inverse
    /// rotation is the backward pass.
    fn apply(&self, rows: &mut [f32], width: usize, inverse: bool) {
        let half = self.half;
        vectorised(|| {
            for (position, row) in rows.chunks_exact_mut(width).enumerate() {
                let (cos, sin) = (&self.cos[position * half..][..half], &self.sin[position * half..][..half]);
                for head in row.chunks_exact_mut(2 * half) {
                    let (first, second) = head.split_at_mut(half);
                    for index in 0..half {
                        let sin = if inverse { -sin[index] } else { sin[index] };
                        let (a, b) = (first[index], second[index]);
                        first[index] = a * cos[index] - b * sin;
                        second[index] = b * cos[index] + a * sin;
                    }
                }
            }
        });
    }
}

/// Causal grouped-query attention with rotary positions. Its input `[sequences * length, (n_heads + 2 n_kv_heads) d_head]` has
/// in each row the queries, keys and values; its output is the concatenation of the heads' outputs, `n_heads d_head` wide.
#[derive(Clone)]
pub struct Attention {
    n_heads: usize,
    n_kv_heads: usize,
    d_head: usize,
    length: usize,
    rotary: Arc<Rotary>,
}

impl Attention {
    pub fn new(n_heads: usize, n_kv_heads: usize, d_head: usize, length: usize, rope_theta: f64) -> Self {
        let half = d_head / 2;
        let angles = (0..length)
            .flat_map(|position| (0..half).map(move |index| position as f64 / rope_theta.powf(index as f64 / half as f64)));
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { n_heads, n_kv_heads, d_head, length, rotary: Arc::new(Rotary { cos, sin, half }) }
    }

    pub fn forward(&self, qkv: &Tensor) -> Result<Tensor> {
        qkv.apply_op1(self.clone())
    }

    fn widths(&self) -> (usize, usize) {
        (self.n_heads * self.d_head, self.n_kv_heads * self.d_head)
    }

    /// Rotated queries, rotated keys and values of one sequence.
    fn split(&self, rows: &[f32]) -> [Vec<f32>; 3] {
        let (query_width, kv_width) = self.widths();
        let width = query_width + 2 * kv_width;
        let columns =
            |from: usize, to: usize| rows.chunks_exact(width).flat_map(|row| &row[from..to]).copied().collect::<Vec<_>>();
        let mut queries = columns(0, query_width);
        let mut keys = columns(query_width, query_width + kv_width);
        self.rotary.apply(&mut queries, query_width, false);
        self.rotary.apply(&mut keys, kv_width, false);
        [queries, keys, columns(query_width + kv_width, width)]
    }

    /// Causal attention weights of `rows` queries from `first` on, over `first + rows` keys.
    fn weights(&self, scores: &mut [f32], queries: &[f32], keys: &[f32], first: usize, rows: usize) {
        let (query_width, kv_width) = self.widths();
        let span = first + rows;
        let scale = 1.0 / (self.d_head as f32).sqrt();
        let queries = View::rows(&queries[first * query_width..], query_width);
        matmul(scores, span, false, scale, [rows, span, self.d_head], queries, View::transposed(keys, kv_width));
        vectorised(|| {
            for (offset, row) in scores.chunks_exact_mut(span).take(rows).enumerate() {
                let (seen, future) = row.split_at_mut(first + offset + 1);
                softmax(seen);
                future.fill(0.0);
            }
        });
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let length = self.length;
        (0..length).step_by(QUERY_BLOCK).map(move |first| (first, QUERY_BLOCK.min(length - first)))
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let (query_width, kv_width) = self.widths();
        if width != query_width + 2 * kv_width || rows % self.length != 0 {
            bail!("attention: input {:?} does not fit {} heads and length {}", layout.shape(), self.n_heads, self.length);
        }
        let mut out = vec![0.0; rows * query_width];
        let mut scores = vec![0.0; QUERY_BLOCK * self.length];
        let sequences = slice(storage, layout)?.chunks_exact(self.length * width);
        for (sequence, out) in sequences.zip(out.chunks_exact_mut(self.length * query_width)) {
            let [queries, keys, values] = self.split(sequence);
            for head in 0..self.n_heads {
                let (at, kv_at) = (head * self.d_head, head * self.n_kv_heads / self.n_heads * self.d_head);
                for (first, rows) in self.blocks() {
                    let span = first + rows;
                    self.weights(&mut scores, &queries[at..], &keys[kv_at..], first, rows);
                    let values = View::rows(&values[kv_at..], kv_width);
                    let out = &mut out[first * query_width + at..];
                    matmul(out, query_width, false, 1.0, [rows, self.d_head, span], View::rows(&scores, span), values);
                }
            }
        }
        Ok((CpuStorage::F32(out), (rows, query_width).into()))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = qkv.dims2()?.1;
        let (query_width, kv_width) = self.widths();
        let (input, grad) = (values(qkv)?, values(grad)?);
        let scale = 1.0 / (self.d_head as f32).sqrt();
        let mut grad_input = Vec::with_capacity(input.len());
        let mut weights = vec![0.0; QUERY_BLOCK * self.length];
        let mut grad_weights = vec![0.0; QUERY_BLOCK * self.length];
        for (sequence, grad) in input.chunks_exact(self.length * width).zip(grad.chunks_exact(self.length * query_width)) {
            let [queries, keys, values] = self.split(sequence);
            let mut grad_queries = vec![0.0; queries.len()];
            let mut grad_keys = vec![0.0; keys.len()];
            let mut grad_values = vec![0.0; values.len()];
            for head in 0..self.n_heads {
                let (at, kv_at) = (head * self.d_head, head * self.n_kv_heads / self.n_heads * self.d_head);
                for (first, rows) in self.blocks() {
                    let span = first + rows;
                    let from = first * query_width + at;
                    self.weights(&mut weights, &queries[at..], &keys[kv_at..], first, rows);
                    let grad_out = View::rows(&grad[from..], query_width);
                    let values = View::transposed(&values[kv_at..], kv_width);
                    matmul(&mut grad_weights, span, false, 1.0, [rows, span, self.d_head], grad_out, values);
                    let by_key = View::transposed(&weights, span);
                    matmul(&mut grad_values[kv_at..], kv_width, true, 1.0, [span, self.d_head, rows], by_key, grad_out);
                    vectorised(|| {
                        for (grad, weights) in grad_weights.chunks_exact_mut(span).zip(weights.chunks_exact(span)).take(rows) {
                            let mean = dot(grad, weights);
                            for (grad, weight) in grad.iter_mut().zip(weights) {
                                *grad = weight * (*grad - mean);
                            }
                        }
                    });
                    let shape = [rows, self.d_head, span];
                    let keys = View::rows(&keys[kv_at..], kv_width);
                    matmul(&mut grad_queries[from..], query_width, false, scale, shape, View::rows(&grad_weights, span), keys);
                    let shape = [span, self.d_head, rows];
                    let (by_key, queries) = (View::transposed(&grad_weights, span), View::rows(&queries[from..], query_width));
                    matmul(&mut grad_keys[kv_at..], kv_width, true, scale, shape, by_key, queries);
                }
            }
            self.rotary.apply(&mut grad_queries, query_width, true);
            self.rotary.apply(&mut grad_keys, kv_width, true);
            for position in 0..self.length {
                grad_input.extend_from_slice(&grad_queries[position * query_width..][..query_width]);
                grad_input.extend_from_slice(&grad_keys[position * kv_width..][..kv_width]);
                grad_input.extend_from_slice(&grad_values[position * kv_width..][..kv_width]);
            }
        }
        Ok(Some(tensor(grad_input, qkv.shape())?))
    }
}

/// Mean cross-entropy, in nats, of the logits `hidden W^T` for the target of each row of hidden `[n, d]`, W `[vocabulary, d]`.
/// The gradients are made in the forward pass, block by block, so that no more than a block of logits exists.
pub fn cross_entropy(hidden: &Tensor, weight: &Tensor, targets: &[u32]) -> Result<Tensor> {
    hidden.apply_op2(weight, CrossEntropy { targets: targets.to_vec(), grads: Mutex::new(None) })
}

struct CrossEntropy {
    targets: Vec<u32>,
    grads: Mutex<Option<[Vec<f32>; 2]>>,
}

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "linear-cross-entropy"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((n, width), (vocabulary, _)) = (l1.shape().dims2()?, l2.shape().dims2()?);
        let (hidden, weight) = (slice(s1, l1)?, slice(s2, l2)?);
        if self.targets.len() != n || self.targets.iter().any(|target| *target as usize >= vocabulary) {
            bail!("cross-entropy: {} targets for {n} rows and {vocabulary} tokens", self.targets.len());
        }
        let share = 1.0 / n as f32;
        let mut logits = vec![0.0; LOGITS_BLOCK * vocabulary];
        let mut grad_hidden = vec![0.0; n * width];
        let mut grad_weight = vec![0.0; vocabulary * width];
        let mut loss = 0.0f64;
        let blocks = hidden.chunks(LOGITS_BLOCK * width).zip(grad_hidden.chunks_mut(LOGITS_BLOCK * width));
        for ((block, grad_block), targets) in blocks.zip(self.targets.chunks(LOGITS_BLOCK)) {
            let rows = targets.len();
            let hidden = View::rows(block, width);
            matmul(&mut logits, vocabulary, false, 1.0, [rows, vocabulary, width], hidden, View::transposed(weight, width));
            vectorised(|| {
                for (row, target) in logits.chunks_exact_mut(vocabulary).zip(targets) {
                    let target = *target as usize;
                    let logit = row[target];
                    let (maximum, sum) = softmax(row);
                    loss += f64::from(maximum - logit) + f64::from(sum).ln();
                    row[target] -= 1.0;
                }
            });
            matmul(
                grad_block,
                width,
                false,
                share,
                [rows, width, vocabulary],
                View::rows(&logits, vocabulary),
                View::rows(weight, width),
            );
            let by_token = View::transposed(&logits, vocabulary);
            matmul(&mut grad_weight, width, true, share, [vocabulary, width, rows], by_token, hidden);
        }
        if let Ok(mut grads) = self.grads.lock() {
            *grads = Some([grad_hidden, grad_weight]);
        }
        Ok((CpuStorage::F32(vec![(loss / n as f64) as f32]), Shape::from(())))
    }

    fn bwd(&self, hidden: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some([grad_hidden, grad_weight]) = self.grads.lock().ok().and_then(|mut grads| grads.take()) else {
            bail!("cross-entropy: backward without forward")
        };
        let scale = f64::from(grad.to_scalar::<f32>()?);
        let grad_hidden = tensor(grad_hidden, hidden.shape())?;
        let grad_weight = tensor(grad_weight, weight.shape())?;
        if scale == 1.0 {
            return Ok((Some(grad_hidden), Some(grad_weight)));
        }
        Ok((Some((grad_hidden * scale)?), Some((grad_weight * scale)?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use candle_core::{D, DType, Var};

    use super::*;

    fn random(shape: &[usize], scale: f64) -> Var {
        // A fixed irrational rotation: spread out, reproducible, without a generator.
        let count: usize = shape.iter().product();
        let offset = shape.len() as f64 * 0.37 + scale;
        let values = (0..count).map(|i| (((i as f64 * 0.754_877_666 + offset).fract() - 0.5) * 2.0 * scale) as f32).collect();
        Var::from_tensor(&Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    fn assert_close(left: &Tensor, right: &Tensor) {
        assert_eq!(left.dims(), right.dims());
        let size = right.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        let error = (left - right).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 1e-6, "the reference is all zero");
        assert!(error <= 2e-5 * size.max(0.05), "largest difference {error} against largest value {size}");
    }

    /// Values and gradients of a fused layer against the same formula composed of candle's operations.
    fn compare(inputs: &[&Var], fused: impl Fn() -> Result<Tensor>, composed: impl Fn() -> Result<Tensor>) {
        let (fused, composed) = (fused().unwrap(), composed().unwrap());
        assert_close(&fused, &composed);
        let probe = random(fused.dims(), 0.9);
        let fused = (&fused * probe.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        let composed = (&composed * probe.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        for input in inputs {
            assert_close(fused.get(input).unwrap(), composed.get(input).unwrap());
        }
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in 0..10_000 {
            let x = -87.0 + 0.0174 * step as f32;
            assert!((exp(x) / x.exp() - 1.0).abs() < 3e-7, "exp({x}) = {}, expected {}", exp(x), x.exp());
        }
    }

    #[test]
    fn linear_agrees_with_composed_operations() {
        let (x, weight) = (random(&[7, 5], 1.0), random(&[3, 5], 0.5));
        compare(&[&x, &weight], || linear(&x, &weight), || x.matmul(&weight.t()?));
    }

    #[test]
    fn rms_norm_agrees_with_composed_operations() {
        let (x, weight) = (random(&[7, 20], 1.0), random(&[20], 0.5));
        compare(
            &[&x, &weight],
            || rms_norm(&x, &weight, 1e-5),
            || x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?)?.broadcast_mul(&weight),
        );
    }

    #[test]
    fn swiglu_agrees_with_composed_operations() {
        let x = random(&[7, 20], 3.0);
        compare(&[&x], || swiglu(&x), || x.narrow(1, 0, 10)?.silu()? * x.narrow(1, 10, 10)?);
    }

    #[test]
    fn cross_entropy_agrees_with_composed_operations() {
        let (hidden, weight) = (random(&[150, 6], 1.0), random(&[11, 6], 2.0));
        let targets: Vec<u32> = (0..150).map(|row| row * 7 % 11).collect();
        let indices = Tensor::from_slice(&targets, (150, 1), &Device::Cpu).unwrap();
        compare(
            &[&hidden, &weight],
            || cross_entropy(&hidden, &weight, &targets),
            || {
                let logits = hidden.matmul(&weight.t()?)?;
                let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?)?;
                let log_probs = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(1)?.log()?)?;
                log_probs.gather(&indices, 1)?.mean_all()?.neg()
            },
        );
    }

    #[test]
    fn attention_agrees_with_composed_operations() {
        let (sequences, length, n_heads, n_kv_heads, d_head) = (2, 70, 6, 2, 8);
        let qkv = random(&[sequences * length, (n_heads + 2 * n_kv_heads) * d_head], 1.5);
        let attention = Attention::new(n_heads, n_kv_heads, d_head, length, 100.0);
        let table = |values: &[f32]| Tensor::from_slice(values, (length, d_head / 2), &Device::Cpu).unwrap();
        let (cos, sin) = (table(&attention.rotary.cos), table(&attention.rotary.sin));
        let mask: Vec<f32> = (0..length * length).map(|i| if i % length > i / length { -1e9 } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (length, length), &Device::Cpu).unwrap();
        let composed = || {
            let heads = |from: usize, count: usize| {
                qkv.narrow(1, from * d_head, count * d_head)?
                    .reshape((sequences, length, count, d_head))?
                    .transpose(1, 2)?
                    .contiguous()
            };
            let rotate = |x: Tensor| {
                let (a, b) = (x.narrow(3, 0, d_head / 2)?, x.narrow(3, d_head / 2, d_head / 2)?);
                let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
                let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
                Tensor::cat(&[first, second], 3)
            };
            // Key and value head g serves the query heads from g * group on.
            let repeat = |x: Tensor| {
                let group = n_heads / n_kv_heads;
                x.unsqueeze(2)?
                    .broadcast_as((sequences, n_kv_heads, group, length, d_head))?
                    .contiguous()?
                    .reshape((sequences, n_heads, length, d_head))
            };
            let queries = rotate(heads(0, n_heads)?)?;
            let keys = repeat(rotate(heads(n_heads, n_kv_heads)?)?)?;
            let values = repeat(heads(n_heads + n_kv_heads, n_kv_heads)?)?;
            let scores =
                (queries.matmul(&keys.transpose(2, 3)?.contiguous()?)? / (d_head as f64).sqrt())?.broadcast_add(&mask)?;
            let weights = scores.broadcast_sub(&scores.max_keepdim(3)?.detach())?.exp()?;
            let weights = weights.broadcast_div(&weights.sum_keepdim(3)?)?;
            weights.matmul(&values)?.transpose(1, 2)?.contiguous()?.reshape((sequences * length, n_heads * d_head))
        };
        compare(&[&qkv], || attention.forward(&qkv), composed);
        assert_eq!(qkv.dtype(), DType::F32);
    }
}
