//! Figures in the terminal, by the protocols of kitty and iTerm2 where the terminal speaks one of them.

use crate::Result;
use crate::figure::Figure;
use crate::render;
use crate::work::Work;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes of base64 in one escape sequence of kitty's.
const CHUNK: usize = 4096;

/// How a terminal takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Kitty,
    Iterm,
}

/// What the terminal speaks, from its environment: asking it would stall those that do not answer.
pub(super) fn protocol(variable: impl Fn(&str) -> Option<String>) -> Option<Protocol> {
    let (term, program) = (variable("TERM").unwrap_or_default(), variable("TERM_PROGRAM").unwrap_or_default());
    if variable("TMUX").is_some() || term.starts_with("screen") || term.starts_with("tmux") {
        return None;
    }
    if variable("KITTY_WINDOW_ID").is_some() || term.contains("kitty") || program == "ghostty" {
        return Some(Protocol::Kitty);
    }
    ["iTerm.app", "WezTerm", "mintty"].contains(&program.as_str()).then_some(Protocol::Iterm)
}

/// The escape sequences that show a figure.
pub(super) fn sequence(figure: &Figure, protocol: Protocol, work: &Work) -> Result<String> {
    let png = render::png(&render::svg(figure)?, 1.0, &figure.provenance, work)?;
    Ok(match protocol {
        Protocol::Iterm => {
            format!("\x1b]1337;File=inline=1;size={};preserveAspectRatio=1:{}\x07", png.len(), STANDARD.encode(&png))
        }
        Protocol::Kitty => kitty(&STANDARD.encode(&png)),
    })
}

fn kitty(encoded: &str) -> String {
    let mut text = String::with_capacity(encoded.len() + 64);
    let mut rest = encoded;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
        let head = if text.is_empty() { "a=T,f=100," } else { "" };
        text += &format!("\x1b_G{head}m={};{chunk}\x1b\\", u8::from(!after.is_empty()));
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_read_from_the_environment() {
        let of = |pairs: &[(&str, &str)]| {
            protocol(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string()))
        };
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(of(&[("TERM_PROGRAM", "WezTerm"), ("TERM", "xterm-256color")]), Some(Protocol::Iterm));
        assert_eq!(of(&[("TERM", "xterm-256color")]), None);
        assert_eq!(of(&[("KITTY_WINDOW_ID", "1"), ("TMUX", "/tmp/x")]), None);
    }

    #[test]
    fn kitty_takes_pictures_in_chunks() {
        let text = kitty(&"A".repeat(CHUNK + 5));
        assert!(text.starts_with("\x1b_Ga=T,f=100,m=1;AAAA") && text.ends_with("\x1b_Gm=0;AAAAA\x1b\\"));
    }
}
