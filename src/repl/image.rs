//! Figures in the terminal: by kitty's or iTerm2's protocol or as sixels where the terminal takes one of them, else with
//! characters and as a file that one can open.

use crate::Result;
use crate::error::Error;
use crate::figure::Figure;
use crate::files;
use crate::render::{self, Picture};
use crate::script::{Draw, Host, drawn_with_characters};
use crate::work::Work;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Bytes of base64 in one escape sequence of kitty's.
const CHUNK: usize = 4096;

/// How a terminal takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Kitty,
    Iterm,
    Sixel,
}

/// What draws figures in this terminal; none if it takes no pictures.
pub(super) fn draw() -> Option<Draw> {
    let draw: Draw = match protocol(|name| std::env::var(name).ok())? {
        Protocol::Kitty => |figure, host| drawn(figure, Protocol::Kitty, &host.work),
        Protocol::Iterm => |figure, host| drawn(figure, Protocol::Iterm, &host.work),
        Protocol::Sixel => |figure, host| drawn(figure, Protocol::Sixel, &host.work),
    };
    Some(draw)
}

/// A figure in characters, and the name of the file in the output folder that shows it whole.
pub(super) fn draw_and_save(figure: &Figure, host: &Host) -> Result<String> {
    let said = match saved(figure, host) {
        Ok(file) => format!("saved as {}", file.display()),
        Err(error) if error.is_interrupted() => return Err(error),
        Err(error) => format!("not saved: {error}"),
    };
    Ok(format!("{}\n{said}", drawn_with_characters(figure, host)?))
}

/// The first of `figure-1.svg`, `figure-2.svg`, … that holds this figure already or is not there yet.
fn saved(figure: &Figure, host: &Host) -> Result<PathBuf> {
    let mut figure = figure.clone();
    figure.provenance = figure.provenance.with("run", host.run());
    let document = host.work.detached(move |work| render::svg(&figure, work))?;
    for number in 1.. {
        host.work.check()?;
        let file = host.out_dir.join(format!("figure-{number}.svg"));
        match std::fs::read(&file) {
            Ok(bytes) if bytes == document.as_bytes() => return Ok(file),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return files::write_atomic(&file, document.as_bytes()).map(|()| file);
            }
            Err(e) => return Err(Error::io(&e, &file)),
        }
    }
    Err(Error::internal("no number is left for a figure"))
}

/// What the terminal speaks, from its environment: asking it would stall those that do not answer.
fn protocol(variable: impl Fn(&str) -> Option<String>) -> Option<Protocol> {
    let (term, program) = (variable("TERM").unwrap_or_default(), variable("TERM_PROGRAM").unwrap_or_default());
    if variable("TMUX").is_some() || term.starts_with("screen") || term.starts_with("tmux") {
        return None;
    }
    if variable("KITTY_WINDOW_ID").is_some() || term.contains("kitty") || program == "ghostty" {
        return Some(Protocol::Kitty);
    }
    if ["iTerm.app", "WezTerm", "mintty"].contains(&program.as_str()) {
        return Some(Protocol::Iterm);
    }
    let sixel = ["foot", "mlterm", "contour", "sixel"].iter().any(|name| term.contains(name));
    (sixel || variable("WT_SESSION").is_some() || program == "vscode").then_some(Protocol::Sixel)
}

/// As [`sequence`], in a helper thread.
fn drawn(figure: &Figure, protocol: Protocol, work: &Work) -> Result<String> {
    let figure = figure.clone();
    work.detached(move |work| sequence(&figure, protocol, work))
}

/// The escape sequences that show a figure.
fn sequence(figure: &Figure, protocol: Protocol, work: &Work) -> Result<String> {
    let svg = render::svg(figure, work)?;
    let png = || render::png(&svg, 1.0, &figure.provenance, work);
    Ok(match protocol {
        Protocol::Iterm => {
            let png = png()?;
            format!("\x1b]1337;File=inline=1;size={};preserveAspectRatio=1:{}\x07", png.len(), STANDARD.encode(&png))
        }
        Protocol::Kitty => kitty(&STANDARD.encode(png()?)),
        Protocol::Sixel => sixel(&render::pixels(&svg, 1.0, work)?),
    })
}

/// Bands of six rows, each drawn once for every colour in it. Colours are rounded to six levels of red, green and blue:
/// terminals hold 256.
fn sixel(picture: &Picture) -> String {
    let level = |channel: u8| (u32::from(channel) * 5 + 127) / 255;
    let colours: Vec<u32> = picture.rgb.chunks_exact(3).map(|c| 36 * level(c[0]) + 6 * level(c[1]) + level(c[2])).collect();
    let mut text = format!("\x1bPq\"1;1;{};{}", picture.width, picture.height);
    for colour in distinct(&colours) {
        text += &format!("#{colour};2;{};{};{}", colour / 36 * 20, colour / 6 % 6 * 20, colour % 6 * 20);
    }
    for band in colours.chunks(6 * picture.width) {
        for colour in distinct(band) {
            let bits = |x| {
                let rows = band.iter().skip(x).step_by(picture.width).enumerate();
                rows.fold(0u8, |bits, (row, c)| bits | u8::from(*c == colour) << row)
            };
            let columns: Vec<u8> = (0..picture.width).map(bits).collect();
            text += &format!("#{colour}");
            for run in columns.chunk_by(|a, b| a == b) {
                text += &format!("!{}{}", run.len(), char::from(63 + run[0]));
            }
            text.push('$');
        }
        text.push('-');
    }
    text + "\x1b\\"
}

fn distinct(colours: &[u32]) -> BTreeSet<u32> {
    colours.iter().copied().collect()
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
    use crate::figure::{LineOptions, Series};
    use crate::provenance::Provenance;

    #[test]
    fn a_figure_is_saved_once_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut host = Host::new(Work::silent(1).unwrap());
        host.out_dir = std::sync::Arc::new(folder.path().join("out"));
        let figure = |title: &str| {
            let options = LineOptions { title: Some(title.into()), ..LineOptions::default() };
            Figure::line(vec![Series::new("", vec![1.0, 4.0, 9.0])], options, Provenance::default()).unwrap()
        };
        let name = |n: u32| host.out_dir.join(format!("figure-{n}.svg"));
        std::fs::create_dir_all(&*host.out_dir).unwrap();
        std::fs::write(name(2), "another's").unwrap();
        for (title, n) in [("Recall", 1), ("Loss", 3), ("Recall", 1), ("Loss", 3)] {
            assert_eq!(saved(&figure(title), &host).unwrap(), name(n));
            assert!(std::fs::read_to_string(name(n)).unwrap().contains(title));
        }
        assert_eq!(std::fs::read(name(2)).unwrap(), b"another's");
        assert!(draw_and_save(&figure("Recall"), &host).unwrap().ends_with("figure-1.svg"));
    }

    #[test]
    fn the_protocol_is_read_from_the_environment() {
        let of = |pairs: &[(&str, &str)]| {
            protocol(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string()))
        };
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(of(&[("TERM_PROGRAM", "WezTerm"), ("TERM", "xterm-256color")]), Some(Protocol::Iterm));
        assert_eq!(of(&[("TERM", "xterm-256color")]), None);
        assert_eq!(of(&[("TERM", "foot")]), Some(Protocol::Sixel));
        assert_eq!(of(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "vscode")]), Some(Protocol::Sixel));
        assert_eq!(of(&[("KITTY_WINDOW_ID", "1"), ("TMUX", "/tmp/x")]), None);
    }

    /// What a terminal would paint, by the DEC manual: colours in percent by pixel.
    fn painted(text: &str, width: usize, height: usize) -> Vec<Option<[u32; 3]>> {
        let body = text.strip_prefix("\x1bPq").and_then(|text| text.strip_suffix("\x1b\\")).unwrap();
        let mut pixels = vec![None; width * height];
        let mut palette = std::collections::BTreeMap::new();
        let (mut x, mut top, mut colour, mut chars) = (0, 0, 0, body.chars().peekable());
        let numbers = |chars: &mut std::iter::Peekable<std::str::Chars>| -> Vec<u32> {
            let text: String = std::iter::from_fn(|| chars.next_if(|c| c.is_ascii_digit() || *c == ';')).collect();
            text.split(';').map(|number| number.parse().unwrap()).collect()
        };
        while let Some(c) = chars.next() {
            let mut times = 1;
            let c = match c {
                '"' => {
                    assert_eq!(numbers(&mut chars), [1, 1, width as u32, height as u32]);
                    continue;
                }
                '#' => {
                    let given = numbers(&mut chars);
                    colour = given[0];
                    if let [_, 2, rgb @ ..] = &given[..] {
                        palette.insert(colour, [rgb[0], rgb[1], rgb[2]]);
                    }
                    continue;
                }
                '$' => {
                    x = 0;
                    continue;
                }
                '-' => {
                    (x, top) = (0, top + 6);
                    continue;
                }
                '!' => {
                    times = numbers(&mut chars)[0] as usize;
                    chars.next().unwrap()
                }
                c => c,
            };
            for _ in 0..times {
                for row in (0..6).filter(|row| (c as u32 - 63) >> row & 1 == 1) {
                    pixels[(top + row) * width + x] = Some(palette[&colour]);
                }
                x += 1;
            }
        }
        pixels
    }

    #[test]
    fn sixels_paint_each_pixel_in_the_nearest_of_their_colours() {
        let (width, height) = (5, 8);
        let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 37 % 256) as u8).collect();
        let text = sixel(&Picture { width, height, rgb: rgb.clone() });
        for (pixel, asked) in painted(&text, width, height).iter().zip(rgb.chunks(3)) {
            for (percent, channel) in pixel.unwrap().iter().zip(asked) {
                assert!((f64::from(*percent) * 2.55 - f64::from(*channel)).abs() <= 25.6, "{pixel:?} {asked:?}");
            }
        }
    }

    #[test]
    fn kitty_takes_pictures_in_chunks() {
        let text = kitty(&"A".repeat(CHUNK + 5));
        assert!(text.starts_with("\x1b_Ga=T,f=100,m=1;AAAA") && text.ends_with("\x1b_Gm=0;AAAAA\x1b\\"));
    }
}
