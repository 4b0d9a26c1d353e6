//! Element types as stored, and the classes in which arithmetic happens.

/// How elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit.
    U8,
    /// Signed 8-bit.
    I8,
    /// Unsigned 16-bit.
    U16,
    /// Signed 16-bit.
    I16,
    /// Unsigned 32-bit.
    U32,
    /// Signed 32-bit.
    I32,
    /// Unsigned 64-bit.
    U64,
    /// Signed 64-bit.
    I64,
    /// 8-bit float, 4 exponent bits, no infinity (torch.float8_e4m3fn).
    F8E4M3,
    /// 8-bit float, 5 exponent bits (torch.float8_e5m2).
    F8E5M2,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
    /// A GGUF block of 32 or 256 elements.
    Block(Block),
}

/// GGUF block types that candle can dequantise.
#[allow(missing_docs)] // the names are the format's own
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

/// In which arithmetic an element takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Logic.
    Bool,
    /// 64-bit integers.
    Int,
    /// Single precision: everything stored in 32 bits or fewer with a fraction.
    F32,
    /// Double precision.
    F64,
}

impl DType {
    /// Elements in one storage unit (1, or 32 / 256 for blocks).
    pub fn block_len(self) -> usize {
        match self {
            DType::Block(Block::Q4_0 | Block::Q4_1 | Block::Q5_0 | Block::Q5_1 | Block::Q8_0 | Block::Q8_1) => 32,
            DType::Block(_) => 256,
            _ => 1,
        }
    }

    /// Bytes of one storage unit.
    pub fn block_bytes(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 | DType::F8E4M3 | DType::F8E5M2 => 1,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
            DType::U64 | DType::I64 | DType::F64 => 8,
            DType::Block(block) => match block {
                Block::Q4_0 => 18,
                Block::Q4_1 => 20,
                Block::Q5_0 => 22,
                Block::Q5_1 => 24,
                Block::Q8_0 => 34,
                Block::Q8_1 => 36,
                Block::Q2K => 84,
                Block::Q3K => 110,
                Block::Q4K => 144,
                Block::Q5K => 176,
                Block::Q6K => 210,
                Block::Q8K => 292,
            },
        }
    }

    /// Bytes of `elements` elements, or `None` when they do not fill whole blocks or overflow.
    pub fn bytes_of(self, elements: usize) -> Option<usize> {
        let block = self.block_len();
        if !elements.is_multiple_of(block) {
            return None;
        }
        (elements / block).checked_mul(self.block_bytes())
    }

    /// The arithmetic in which these elements take part.
    pub fn class(self) -> Class {
        match self {
            DType::Bool => Class::Bool,
            DType::U8 | DType::I8 | DType::U16 | DType::I16 | DType::U32 | DType::I32 | DType::U64 | DType::I64 => Class::Int,
            DType::F64 => Class::F64,
            _ => Class::F32,
        }
    }

    /// True for GGUF blocks and 8-bit floats: values differ from the trained ones.
    pub fn is_quantised(self) -> bool {
        matches!(self, DType::Block(_) | DType::F8E4M3 | DType::F8E5M2)
    }

    /// Name as users of PyTorch and GGUF know it.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::U16 => "u16",
            DType::I16 => "i16",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::U64 => "u64",
            DType::I64 => "i64",
            DType::F8E4M3 => "f8_e4m3",
            DType::F8E5M2 => "f8_e5m2",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::Block(block) => match block {
                Block::Q4_0 => "q4_0",
                Block::Q4_1 => "q4_1",
                Block::Q5_0 => "q5_0",
                Block::Q5_1 => "q5_1",
                Block::Q8_0 => "q8_0",
                Block::Q8_1 => "q8_1",
                Block::Q2K => "q2_k",
                Block::Q3K => "q3_k",
                Block::Q4K => "q4_k",
                Block::Q5K => "q5_k",
                Block::Q6K => "q6_k",
                Block::Q8K => "q8_k",
            },
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
