//! Why `-x ** 2` is refused where a tensor takes part: Rhai binds unary minus tighter than `**`, Python and mathematics do
//! not, and x² in place of −x² is a fault that nobody sees.
//!
//! The parser has forgotten brackets by the time an operator runs, so the tokens are watched while a script is parsed: a
//! `**` whose base a unary minus precedes without brackets becomes the operator [`NEGATED`], which no source text can spell.
//! Numbers keep Rhai's meaning there.

use crate::entry;
use crate::error::{Error, Result};
use crate::script::declare::{Call, Entry};
use crate::tensor::Tensor;
use rhai::{Dynamic, Engine, LexError, Position, Token};
use std::sync::{Mutex, PoisonError};

/// `**` after a base with an unbracketed minus.
const NEGATED: &str = "-**";
const ADVICE: &str = "in Rhai `-x ** 2` is (-x) ** 2: write -(x ** 2), or (-x) ** 2 where that is meant";

/// What stands before the next token, for one level of brackets.
#[derive(Clone, Copy, Default)]
struct Base {
    /// A unary minus stands before it.
    negated: bool,
    /// It is the exponent of a negated base.
    exponent: bool,
}

/// Follows the tokens of one script after the other.
#[derive(Default)]
struct Watch {
    base: Base,
    outer: Vec<Base>,
    /// Of the last token: line and column.
    last: (usize, usize),
}

impl Watch {
    fn see(&mut self, token: Token) -> Token {
        match &token {
            Token::UnaryMinus => self.base.negated = true,
            Token::IntegerConstant(value) => self.base.negated |= *value < 0,
            Token::FloatConstant(value) => self.base.negated |= value.0.is_sign_negative(),
            Token::LeftParen | Token::LeftBracket | Token::LeftBrace | Token::MapStart | Token::QuestionBracket => {
                self.outer.push(std::mem::take(&mut self.base));
            }
            Token::RightParen | Token::RightBracket => self.base = self.outer.pop().unwrap_or_default(),
            Token::RightBrace => {
                // A block ends a statement, and a map is no base.
                self.outer.pop();
                self.base = Base::default();
            }
            // What a base may consist of.
            Token::Identifier(_) | Token::Period | Token::Elvis | Token::DoubleColon | Token::StringConstant(_) => {}
            Token::CharConstant(_) | Token::True | Token::False | Token::Unit | Token::Bang | Token::UnaryPlus => {}
            Token::PowerOf if self.base.exponent => {
                let message = "powers of powers after a minus need brackets".to_string();
                return Token::LexError(LexError::ImproperSymbol("**".into(), message).into());
            }
            Token::PowerOf if self.base.negated => {
                self.base = Base { negated: false, exponent: true };
                return Token::Custom(Box::new(NEGATED.into()));
            }
            _ => self.base = Base::default(),
        }
        token
    }
}

/// What an engine's `on_parse_token` must do with each token: an engine has only one such place.
pub(crate) fn token_watch() -> impl Fn(Token, Position) -> Token + Send + Sync {
    let watch = Mutex::new(Watch::default());
    move |token, position| {
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        let here = (position.line().unwrap_or(0), position.position().unwrap_or(0));
        // Another script begins; the last one may have been left in the middle by an error.
        if here <= watch.last {
            *watch = Watch::default();
        }
        watch.last = here;
        watch.see(token)
    }
}

/// Puts the watch and its operator into an engine.
pub(super) fn install(engine: &mut Engine) {
    // As strong as `**`. The name is no symbol of Rhai's, so this cannot fail.
    let _ = engine.register_custom_operator(NEGATED, 190);
    let watch = token_watch();
    #[allow(deprecated)] // Rhai's mark for what may still change
    engine.on_parse_token(move |token, position, _| watch(token, position));
}

fn refuse() -> Result<Tensor> {
    Err(Error::input("minus and `**` stand together without brackets").help(ADVICE))
}

fn rhai_power(call: &Call<'_>, base: Dynamic, exponent: Dynamic) -> Result<Dynamic> {
    call.native.call_native_fn::<Dynamic>("**", (base, exponent)).map_err(|e| Error::input(e.to_string()))
}

macro_rules! numbers {
    ($base:ty, $exponent:ty, $example:literal) => {
        entry! {
            /// Rhai's power of a negative number: the minus belongs to the base.
            ///
            /// ```rhai
            #[doc = concat!(" ", $example)]
            /// ```
            op "-**"(call, base: $base, exponent: $exponent) -> Dynamic {
                rhai_power(call, Dynamic::from(base), Dynamic::from(exponent))
            }
        }
    };
}

macro_rules! tensors {
    ($base:ty, $exponent:ty, $example:literal) => {
        entry! {
            /// Refused: in Rhai a minus before the base belongs to it.
            ///
            /// ```rhai
            #[doc = concat!(" try { ", $example, "; assert(false, \"not refused\"); } catch (e) { assert(e.message.contains(\"brackets\")); }")]
            /// ```
            op "-**"(call, base: $base, exponent: $exponent) -> Tensor { refuse() }
        }
    };
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        numbers!(i64, i64, "let x = 3; assert(-x ** 2 == 9 && 2 - x ** 2 == -7);"),
        numbers!(f64, f64, "let x = 3.0; assert(-x ** 2.0 == 9.0);"),
        numbers!(i64, f64, "let x = 4; assert(-x ** 1.0 == -4.0);"),
        numbers!(f64, i64, "let x = 3.0; assert(-x ** 2 == 9.0);"),
        tensors!(Tensor, Tensor, "let t = ones([2]); -t ** t"),
        tensors!(Tensor, f64, "let t = ones([2]); -t ** 2.0"),
        tensors!(Tensor, i64, "let t = ones([2]); -t[0..1] ** 2"),
        tensors!(f64, Tensor, "-2.0 ** ones([2])"),
        tensors!(i64, Tensor, "-2 ** ones([2])"),
    ]
}
