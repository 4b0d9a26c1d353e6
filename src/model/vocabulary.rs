//! Token strings: pieces as a tokenizer stores them → text that a person reads.
//!
//! Pieces lie in one string with their ends beside it, and are spelled out when asked for: a vocabulary of 262 144 tokens
//! costs about 4 MB. Looking a token up by its text builds an index on first use.

use crate::error::{Error, Result};
use crate::formats::gguf;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::OnceLock;

/// What sort of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An ordinary piece of text.
    Normal,
    /// A marker such as `<bos>`.
    Control,
    /// Stands for what the tokenizer cannot spell.
    Unknown,
    /// Reserved and never used: `<unused7>`, `<|reserved_special_token_3|>`.
    Unused,
    /// One byte, for text that no piece spells (SentencePiece's byte fallback).
    Byte,
    /// Added to the vocabulary as ordinary text: `</h3>`.
    UserDefined,
    /// A row of the embedding beyond the tokenizer's last token.
    Padded,
}

impl TokenKind {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            TokenKind::Normal => "normal",
            TokenKind::Control => "control",
            TokenKind::Unknown => "unknown",
            TokenKind::Unused => "unused",
            TokenKind::Byte => "byte",
            TokenKind::UserDefined => "user-defined",
            TokenKind::Padded => "padded",
        }
    }
}

/// How pieces spell text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// GPT-2's printable stand-ins for bytes: `Ġthe`.
    ByteLevel,
    /// `▁` for a space, `<0xE2>` for a byte.
    SentencePiece,
    /// As it is.
    Plain,
}

/// The tokens of a model, one for each row of its embedding.
#[derive(Debug)]
pub struct Vocabulary {
    spelling: Spelling,
    pieces: String,
    /// Where each piece ends in `pieces`.
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    /// Tokens that the tokenizer knows beyond the embedding's rows.
    beyond: usize,
    by_piece: OnceLock<Vec<(u64, u32)>>,
    by_text: OnceLock<Vec<(u64, u32)>>,
}

impl Vocabulary {
    /// The vocabulary in a GGUF file's metadata (`tokenizer.ggml.…`), cut or padded to `size` tokens.
    ///
    /// # Errors
    /// The lists are not what the format demands.
    pub(super) fn from_gguf(metadata: &BTreeMap<String, gguf::Value>, size: usize, file: &Path) -> Result<Self> {
        let list = |key: &str| metadata.get(key).and_then(gguf::Value::as_list);
        let Some(tokens) = list("tokenizer.ggml.tokens") else { return Self::unnamed(size) };
        let spelling = match metadata.get("tokenizer.ggml.model").and_then(gguf::Value::as_str) {
            Some("gpt2") => Spelling::ByteLevel,
            Some("llama" | "t5" | "gemma4") => Spelling::SentencePiece,
            _ => Spelling::Plain,
        };
        let types = metadata.get("tokenizer.ggml.token_type").and_then(gguf::Value::as_numbers);
        if let Some(types) = types.filter(|types| types.len() != tokens.len()) {
            return Err(Error::format(format!("{} tokens, but {} token types", tokens.len(), types.len()))
                .file(file)
                .tensor("tokenizer.ggml.token_type"));
        }
        let mut entries = vec![None; size];
        for (id, (token, entry)) in tokens.iter().zip(&mut entries).enumerate() {
            let piece = token
                .as_str()
                .ok_or_else(|| Error::format(format!("token {id} is not text")).file(file).tensor("tokenizer.ggml.tokens"))?;
            *entry = Some((piece, kind_in_gguf(types.and_then(|types| types.get(id)))));
        }
        Self::build(spelling, &entries, tokens.len().saturating_sub(size))
    }

    /// The vocabulary of a `tokenizer.json`, cut or padded to `size` tokens.
    ///
    /// # Errors
    /// The vocabulary is larger than memory can address.
    pub(super) fn from_tokenizer(tokenizer: &Json, size: usize) -> Result<Self> {
        let model = &tokenizer["model"];
        let spelling = spelling_of(tokenizer);
        let unknown = model["unk_token"].as_str();
        let unknown_id = model["unk_id"].as_u64();
        let fallback = model["byte_fallback"].as_bool() == Some(true);
        let mut entries = vec![None; size];
        let mut beyond = 0;
        let mut put = |id: u64, piece, kind| match usize::try_from(id).ok().and_then(|id| entries.get_mut(id)) {
            Some(entry) => *entry = Some((piece, kind)),
            None => beyond += 1,
        };
        let kind_of = |id: u64, piece: &str| match piece {
            _ if Some(piece) == unknown || Some(id) == unknown_id => TokenKind::Unknown,
            _ if fallback && byte_of_piece(piece).is_some() => TokenKind::Byte,
            _ => TokenKind::Normal,
        };
        match &model["vocab"] {
            Json::Object(vocab) => {
                for (piece, id) in vocab {
                    if let Some(id) = id.as_u64() {
                        put(id, piece.as_str(), kind_of(id, piece));
                    }
                }
            }
            Json::Array(vocab) => {
                for (id, entry) in (0u64..).zip(vocab) {
                    if let Some(piece) = entry[0].as_str() {
                        put(id, piece, kind_of(id, piece));
                    }
                }
            }
            _ => {}
        }
        for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
            if let (Some(id), Some(piece)) = (token["id"].as_u64(), token["content"].as_str()) {
                let kind = match kind_of(id, piece) {
                    TokenKind::Unknown => TokenKind::Unknown,
                    _ if token["special"].as_bool() == Some(true) => TokenKind::Control,
                    _ => TokenKind::UserDefined,
                };
                put(id, piece, kind);
            }
        }
        if Self::is_in(tokenizer) { Self::build(spelling, &entries, beyond) } else { Self::unnamed(size) }
    }

    /// True for a `tokenizer.json` that has a vocabulary.
    pub(super) fn is_in(tokenizer: &Json) -> bool {
        let vocab = &tokenizer["model"]["vocab"];
        vocab.as_object().is_some_and(|vocab| !vocab.is_empty()) || vocab.as_array().is_some_and(|vocab| !vocab.is_empty())
    }

    /// Tokens without names: no tokenizer came with the weights.
    pub(super) fn unnamed(size: usize) -> Result<Self> {
        let names: Vec<String> = (0..size).map(|id| format!("<token {id}>")).collect();
        let entries: Vec<_> = names.iter().map(|name| Some((name.as_str(), TokenKind::Normal))).collect();
        Self::build(Spelling::Plain, &entries, 0)
    }

    fn build(spelling: Spelling, entries: &[Option<(&str, TokenKind)>], beyond: usize) -> Result<Self> {
        let length = entries.iter().flatten().map(|(piece, _)| piece.len()).sum::<usize>();
        if u32::try_from(length.max(entries.len())).is_err() {
            return Err(Error::limit(format!("a vocabulary of {} tokens with {length} bytes is too large", entries.len())));
        }
        let mut pieces = String::with_capacity(length);
        let (mut ends, mut kinds) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for entry in entries {
            let (piece, kind) = entry.unwrap_or(("", TokenKind::Padded));
            // The name tells more than the file, where `<unused7>` counts as a control token.
            let kind = if kind != TokenKind::Normal && is_reserved_name(piece) { TokenKind::Unused } else { kind };
            pieces.push_str(piece);
            ends.push(pieces.len() as u32);
            kinds.push(kind);
        }
        Ok(Vocabulary { spelling, pieces, ends, kinds, beyond, by_piece: OnceLock::new(), by_text: OnceLock::new() })
    }

    /// Number of tokens: the rows of the embedding.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// True without tokens.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Tokens that the tokenizer knows beyond the embedding's rows; they cannot be used.
    pub fn beyond(&self) -> usize {
        self.beyond
    }

    /// Fails when there is no token `id`.
    ///
    /// # Errors
    /// `id` lies beyond the last token.
    pub fn check(&self, id: usize) -> Result<()> {
        if id < self.len() {
            return Ok(());
        }
        Err(Error::input(format!("token {id} is out of range: there are {}, numbered from 0", self.len())))
    }

    /// What sort of token it is; `Padded` beyond the last.
    pub fn kind(&self, id: usize) -> TokenKind {
        self.kinds.get(id).copied().unwrap_or(TokenKind::Padded)
    }

    /// The piece as the tokenizer stores it: `Ġthe`, `▁the`.
    pub fn piece(&self, id: usize) -> &str {
        let end = |i: usize| self.ends.get(i).map_or(self.pieces.len(), |end| *end as usize);
        let start = if id == 0 { 0 } else { end(id - 1) };
        self.pieces.get(start..end(id)).unwrap_or_default()
    }

    /// The text of a token: `" the"`. Bytes that are no text of their own are written `<0xE2>`.
    pub fn token(&self, id: usize) -> String {
        match self.kind(id) {
            TokenKind::Padded => format!("<padded {id}>"),
            TokenKind::Byte => self.piece(id).to_string(),
            _ => readable(&self.bytes(id)),
        }
    }

    /// The id of a token, by its piece as stored or else by its text as [`Vocabulary::token`] gives it; the lowest, where
    /// several have that text.
    pub fn token_id(&self, text: &str) -> Option<usize> {
        let find = |index: &[(u64, u32)], same: &dyn Fn(usize) -> bool| {
            let hash = hash_of(text);
            let start = index.partition_point(|(h, _)| *h < hash);
            index[start..].iter().take_while(|(h, _)| *h == hash).map(|(_, id)| *id as usize).find(|id| same(*id))
        };
        let by_piece = self.by_piece.get_or_init(|| self.index(|id| hash_of(self.piece(id))));
        find(by_piece, &|id| self.piece(id) == text && self.kind(id) != TokenKind::Padded).or_else(|| {
            let by_text = self.by_text.get_or_init(|| self.index(|id| hash_of(&self.token(id))));
            find(by_text, &|id| self.token(id) == text)
        })
    }

    /// The text of a sequence of tokens, bytes joined across tokens. Nothing is stripped; ids beyond the last give nothing.
    pub fn decode(&self, ids: &[usize]) -> String {
        readable(&ids.iter().flat_map(|id| self.bytes(*id)).collect::<Vec<u8>>())
    }

    fn bytes(&self, id: usize) -> Vec<u8> {
        let piece = self.piece(id);
        match (self.kind(id), self.spelling) {
            (TokenKind::Byte, _) => byte_of_piece(piece).map_or_else(|| piece.into(), |byte| vec![byte]),
            (TokenKind::Normal, Spelling::ByteLevel) => {
                piece.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| piece.into())
            }
            (TokenKind::Normal | TokenKind::UserDefined, Spelling::SentencePiece) => piece.replace('\u{2581}', " ").into_bytes(),
            _ => piece.into(),
        }
    }

    /// The byte of a token that is one byte.
    pub(super) fn single_byte(&self, id: usize) -> Option<u8> {
        if let [byte] = self.bytes(id)[..] { Some(byte) } else { None }
    }

    /// True for a token that is no text of its own: parts of characters, a control character (other than tab and line ends).
    pub(super) fn is_fragment(&self, id: usize) -> bool {
        let bytes = self.bytes(id);
        let is_control = matches!(bytes[..], [byte] if byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r'));
        is_control || std::str::from_utf8(&bytes).is_err()
    }

    /// Ids sorted by a hash of their text, then by id.
    fn index(&self, hash: impl Fn(usize) -> u64) -> Vec<(u64, u32)> {
        let mut index: Vec<(u64, u32)> = (0..self.len()).map(|id| (hash(id), id as u32)).collect();
        index.sort_unstable();
        index
    }
}

/// What a number in `tokenizer.ggml.token_type` means.
pub(super) fn kind_in_gguf(number: Option<gguf::Value>) -> TokenKind {
    match number.and_then(|number| number.as_usize()) {
        Some(2) => TokenKind::Unknown,
        Some(3) => TokenKind::Control,
        Some(4) => TokenKind::UserDefined,
        Some(5) => TokenKind::Unused,
        Some(6) => TokenKind::Byte,
        _ => TokenKind::Normal,
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// UTF-8 as text, every byte that is none as `<0xE2>`.
fn readable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("<0x{byte:02X}>"));
        }
    }
    out
}

/// GPT-2's byte-level alphabet: printable Latin-1 stands for itself, the 68 other bytes are numbered from U+0100.
fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The byte that a piece such as `<0xE2>` stands for.
fn byte_of_piece(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// True for the numbered placeholders that vocabularies reserve.
fn is_reserved_name(piece: &str) -> bool {
    let name: String = piece.chars().filter(|c| !c.is_ascii_digit()).collect();
    name.len() < piece.len()
        && matches!(
            name.as_str(),
            "<unused>"
                | "[unused]"
                | "<|unused|>"
                | "<|unused_|>"
                | "<|reserved_special_token_|>"
                | "<|reserved_|>"
                | "<reserved_>"
                | "<SPECIAL_>"
                | "[PAD]"
        )
}

fn spelling_of(tokenizer: &Json) -> Spelling {
    let mut kinds = Vec::new();
    for stage in ["decoder", "pre_tokenizer", "normalizer"] {
        let parts = ["decoders", "pretokenizers", "normalizers"].iter().filter_map(|key| tokenizer[stage][*key].as_array());
        for part in parts.flatten().chain([&tokenizer[stage]]) {
            kinds.push((part["type"].as_str().unwrap_or_default(), &part["pattern"]["String"], &part["content"]));
        }
    }
    if kinds.iter().any(|(kind, ..)| *kind == "ByteLevel") {
        Spelling::ByteLevel
    } else if kinds.iter().any(|(kind, pattern, content)| {
        *kind == "Metaspace" || *kind == "Replace" && (*pattern == "\u{2581}" || *content == "\u{2581}")
    }) {
        Spelling::SentencePiece
    } else {
        Spelling::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_byte_level_alphabet_covers_every_byte_once() {
        let mut bytes: Vec<u8> = (0x21..=0x143).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        // From GPT-2's own table: space is Ġ, newline Ċ, 0xAD the last.
        assert_eq!("ĠĊŃ".chars().map(byte_of).collect::<Vec<_>>(), [Some(b' '), Some(b'\n'), Some(0xad)]);
    }

    #[test]
    fn halves_of_a_character_are_escaped_and_join_to_the_whole() {
        let tokenizer =
            json!({"decoder": {"type": "ByteLevel"}, "model": {"vocab": {"â": 0, "Ģ": 1, "Ķ": 2, "Ġthe": 3, "Ġ": 4}}});
        let vocabulary = Vocabulary::from_tokenizer(&tokenizer, 6).unwrap();
        assert_eq!(vocabulary.token(0), "<0xE2>");
        assert_eq!(vocabulary.decode(&[3, 0, 1, 2]), " the—");
        assert_eq!(vocabulary.token_id(" the"), Some(3));
        assert_eq!(vocabulary.token_id("Ġthe"), Some(3));
        assert_eq!(vocabulary.token_id("<0xE2>"), Some(0));
        assert_eq!((vocabulary.kind(5), vocabulary.token(5).as_str()), (TokenKind::Padded, "<padded 5>"));
        assert_eq!(vocabulary.token_id("x"), None);
        assert!(vocabulary.check(6).is_err());
    }

    #[test]
    fn an_id_beyond_the_embedding_takes_no_room() {
        let tokenizer = json!({"model": {"vocab": {"a": 0, "b": 999_999_999_999u64}}});
        let vocabulary = Vocabulary::from_tokenizer(&tokenizer, 2).unwrap();
        assert_eq!((vocabulary.len(), vocabulary.beyond()), (2, 1));
    }
}
