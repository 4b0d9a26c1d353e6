//! The only way from stored elements to numbers: a run of consecutive elements is widened into an f32 (or f64, i64)
//! buffer. Nothing here assumes that bytes are aligned: npz members and odd safetensors headers are not.

use super::dtype::{Block, DType};
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, BlockQ8_1, BlockQ8K,
    GgmlType,
};
use half::{bf16, f16};

/// Widens elements `start..start + out.len()` of `bytes` to f32. Values outside f32's range become infinite.
pub(super) fn to_f32(dtype: DType, bytes: &[u8], start: usize, out: &mut [f32]) {
    match dtype {
        DType::F32 => each(bytes, start, out, f32::from_le_bytes),
        DType::BF16 => each(bytes, start, out, |b| bf16::from_le_bytes(b).to_f32()),
        DType::F16 => each(bytes, start, out, |b| f16::from_le_bytes(b).to_f32()),
        DType::F64 => each(bytes, start, out, |b| f64::from_le_bytes(b) as f32),
        DType::F8E4M3 => each(bytes, start, out, |[b]| f8_e4m3(b)),
        DType::F8E5M2 => each(bytes, start, out, |[b]| f16::from_le_bytes([0, b]).to_f32()),
        DType::Block(block) => block_to_f32(block, bytes, start, out),
        DType::Bool | DType::U8 => each(bytes, start, out, |[b]| f32::from(b)),
        DType::I8 => each(bytes, start, out, |b| f32::from(i8::from_le_bytes(b))),
        DType::U16 => each(bytes, start, out, |b| f32::from(u16::from_le_bytes(b))),
        DType::I16 => each(bytes, start, out, |b| f32::from(i16::from_le_bytes(b))),
        DType::U32 => each(bytes, start, out, |b| u32::from_le_bytes(b) as f32),
        DType::I32 => each(bytes, start, out, |b| i32::from_le_bytes(b) as f32),
        DType::U64 => each(bytes, start, out, |b| u64::from_le_bytes(b) as f32),
        DType::I64 => each(bytes, start, out, |b| i64::from_le_bytes(b) as f32),
    }
}

/// Widens elements to f64, exactly where the dtype allows.
pub(super) fn to_f64(dtype: DType, bytes: &[u8], start: usize, out: &mut [f64]) {
    match dtype {
        DType::F64 => each(bytes, start, out, f64::from_le_bytes),
        DType::U32 => each(bytes, start, out, |b| f64::from(u32::from_le_bytes(b))),
        DType::I32 => each(bytes, start, out, |b| f64::from(i32::from_le_bytes(b))),
        DType::U64 => each(bytes, start, out, |b| u64::from_le_bytes(b) as f64),
        DType::I64 => each(bytes, start, out, |b| i64::from_le_bytes(b) as f64),
        _ => {
            let mut buffer = [0f32; 256];
            for (i, chunk) in out.chunks_mut(256).enumerate() {
                let narrow = &mut buffer[..chunk.len()];
                to_f32(dtype, bytes, start + i * 256, narrow);
                for (wide, value) in chunk.iter_mut().zip(narrow) {
                    *wide = f64::from(*value);
                }
            }
        }
    }
}

/// Reads elements as i64; fractions are cut off towards zero.
pub(super) fn to_i64(dtype: DType, bytes: &[u8], start: usize, out: &mut [i64]) {
    match dtype {
        DType::Bool | DType::U8 => each(bytes, start, out, |[b]| i64::from(b)),
        DType::I8 => each(bytes, start, out, |b| i64::from(i8::from_le_bytes(b))),
        DType::U16 => each(bytes, start, out, |b| i64::from(u16::from_le_bytes(b))),
        DType::I16 => each(bytes, start, out, |b| i64::from(i16::from_le_bytes(b))),
        DType::U32 => each(bytes, start, out, |b| i64::from(u32::from_le_bytes(b))),
        DType::I32 => each(bytes, start, out, |b| i64::from(i32::from_le_bytes(b))),
        DType::U64 => each(bytes, start, out, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)),
        DType::I64 => each(bytes, start, out, i64::from_le_bytes),
        _ => {
            let mut wide = vec![0f64; out.len()];
            to_f64(dtype, bytes, start, &mut wide);
            for (int, value) in out.iter_mut().zip(wide) {
                *int = value as i64;
            }
        }
    }
}

/// Reads elements as truth values: non-zero is true.
pub(super) fn to_bool(dtype: DType, bytes: &[u8], start: usize, out: &mut [bool]) {
    match dtype {
        DType::Bool | DType::U8 | DType::I8 => each(bytes, start, out, |[b]| b != 0),
        DType::I64 | DType::U64 => each(bytes, start, out, |b| i64::from_le_bytes(b) != 0),
        _ => {
            let mut buffer = [0f64; 256];
            for (i, chunk) in out.chunks_mut(256).enumerate() {
                let wide = &mut buffer[..chunk.len()];
                to_f64(dtype, bytes, start + i * 256, wide);
                for (truth, value) in chunk.iter_mut().zip(wide) {
                    *truth = *value != 0.0;
                }
            }
        }
    }
}

fn each<const N: usize, T>(bytes: &[u8], start: usize, out: &mut [T], convert: impl Fn([u8; N]) -> T) {
    let run = &bytes[start * N..(start + out.len()) * N];
    let (chunks, _) = run.as_chunks::<N>();
    for (value, chunk) in out.iter_mut().zip(chunks) {
        *value = convert(*chunk);
    }
}

/// torch.float8_e4m3fn: bias 7, no infinities, NaN is all ones.
fn f8_e4m3(byte: u8) -> f32 {
    let sign = if byte & 0x80 != 0 { -1.0 } else { 1.0 };
    let exponent = i32::from((byte >> 3) & 0x0f);
    let mantissa = f32::from(byte & 0x07);
    match (exponent, byte & 0x07) {
        (15, 7) => f32::NAN,
        (0, _) => sign * mantissa * 2f32.powi(-9),
        _ => sign * (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    }
}

fn block_to_f32(block: Block, bytes: &[u8], start: usize, out: &mut [f32]) {
    match block {
        Block::Q4_0 => blocks::<BlockQ4_0>(bytes, start, out),
        Block::Q4_1 => blocks::<BlockQ4_1>(bytes, start, out),
        Block::Q5_0 => blocks::<BlockQ5_0>(bytes, start, out),
        Block::Q5_1 => blocks::<BlockQ5_1>(bytes, start, out),
        Block::Q8_0 => blocks::<BlockQ8_0>(bytes, start, out),
        Block::Q8_1 => blocks::<BlockQ8_1>(bytes, start, out),
        Block::Q2K => blocks::<BlockQ2K>(bytes, start, out),
        Block::Q3K => blocks::<BlockQ3K>(bytes, start, out),
        Block::Q4K => blocks::<BlockQ4K>(bytes, start, out),
        Block::Q5K => blocks::<BlockQ5K>(bytes, start, out),
        Block::Q6K => blocks::<BlockQ6K>(bytes, start, out),
        Block::Q8K => blocks::<BlockQ8K>(bytes, start, out),
    }
}

/// Blocks copied to aligned memory at a time: 16 × 292 bytes at most, on the stack of the caller's thread.
const BATCH: usize = 16;
/// Elements of the longest block.
const LONGEST: usize = 256;

/// Dequantises with candle's routine, block by block through an aligned scratch copy (the file's bytes need not be
/// aligned for the block type). A strip of a matrix is a few blocks: what is set up here counts, so only a part of a block
/// takes a buffer.
fn blocks<B: GgmlType>(bytes: &[u8], start: usize, out: &mut [f32]) {
    let (size, len) = (size_of::<B>(), B::BLCK_SIZE);
    let mut scratch: [B; BATCH] = std::array::from_fn(|_| B::zeros());
    let (mut at, end) = (start, start + out.len());
    while at < end {
        let (first, from) = (at / len, at % len);
        let whole = if from == 0 { (end - at) / len } else { 0 };
        let count = whole.clamp(1, BATCH);
        let source = &bytes[first * size..(first + count) * size];
        // SAFETY: `scratch` holds at least `count` blocks, `source` has exactly `count * size_of::<B>()` bytes, and every
        // block type is a `repr(C)` struct of integers and halves, for which all bit patterns are values.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), scratch.as_mut_ptr().cast::<u8>(), source.len()) };
        if whole > 0 {
            B::to_float(&scratch[..count], &mut out[at - start..at - start + count * len]);
            at += count * len;
        } else {
            let mut wide = [0f32; LONGEST];
            B::to_float(&scratch[..1], &mut wide[..len]);
            let to = (end - first * len).min(len);
            out[at - start..at - start + to - from].copy_from_slice(&wide[from..to]);
            at += to - from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_e4m3_known_values() {
        // From the OCP 8-bit floating point specification, table 2.
        assert_eq!(f8_e4m3(0x7e), 448.0);
        assert_eq!(f8_e4m3(0x01), 2f32.powi(-9));
        assert_eq!(f8_e4m3(0xb8), -1.0);
        assert!(f8_e4m3(0x7f).is_nan());
    }

    #[test]
    fn parts_of_blocks_equal_the_whole() {
        // Three unaligned Q8_0 blocks: scale 0.5, values 0, 1, 2, ….
        let mut bytes = vec![0u8]; // one byte of misalignment
        for block in 0..3u8 {
            bytes.extend(f16::from_f32(0.5).to_le_bytes());
            bytes.extend((0..32).map(|i| block * 32 + i));
        }
        let mut part = vec![0f32; 41];
        to_f32(DType::Block(Block::Q8_0), &bytes[1..], 29, &mut part);
        let expected: Vec<f32> = (29..70).map(|i| i as f32 * 0.5).collect();
        assert_eq!(part, expected);
    }

    #[test]
    fn any_run_of_blocks_is_theirs() {
        // More blocks than are copied at a time, block i of scale 2^-i, from any start to any end.
        let count = 2 * BATCH + 3;
        let scale = |block: usize| f16::from_f32((-(block as f32 % 14.0)).exp2());
        let value = |i: usize| (i * 7 % 251) as u8 as i8;
        let mut bytes = vec![0u8];
        for block in 0..count {
            bytes.extend(scale(block).to_le_bytes());
            bytes.extend((0..32).map(|i| value(block * 32 + i) as u8));
        }
        let expected: Vec<f32> = (0..32 * count).map(|i| scale(i / 32).to_f32() * f32::from(value(i))).collect();
        for start in [0, 1, 31, 32, 33, 511, 512, 513] {
            for end in [start, start + 1, 545, 575, 576, 1024, 1025, 1055, 32 * count - 1, 32 * count] {
                let mut run = vec![f32::NAN; end - start];
                to_f32(DType::Block(Block::Q8_0), &bytes[1..], start, &mut run);
                assert_eq!(run, expected[start..end], "{start}..{end}");
            }
        }
    }
}
