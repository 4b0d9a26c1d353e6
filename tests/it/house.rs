//! The house stays a house: a room imports only from floors below its own. The floors are read from the table at the
//! top of `src/lib.rs`, the arrows from every `crate::room` in the sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Floor of each room, from rows like ``//! | 5 | [`analysis`] | the science |``.
fn floors(lib: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for row in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = row.split('|').map(str::trim);
        let (Some(floor), Some(rooms)) = (cells.next().and_then(|f| f.parse().ok()), cells.next()) else { continue };
        for room in rooms.split(',') {
            floors.insert(room.trim().trim_matches(['[', ']', '`']).to_string(), floor);
        }
    }
    floors
}

/// Rooms named after `crate::` in a line, whether alone or in braces.
fn arrows(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let names = rest.strip_prefix('{').map_or(rest, |inner| inner.split('}').next().unwrap_or(inner));
        let first = |name: &str| name.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
        if rest.starts_with('{') {
            rooms.extend(names.split(',').map(first));
        } else {
            rooms.push(first(names));
        }
    }
    rooms
}

#[test]
fn no_arrow_points_up_or_sideways() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floors = floors(&std::fs::read_to_string(src.join("lib.rs")).unwrap());
    assert!(floors.len() > 10, "the table of floors was not found: {floors:?}");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let room = relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_string();
        if room == "lib" {
            continue;
        }
        let Some(floor) = floors.get(&room).or((room == "main").then_some(&u32::MAX)) else {
            wrong.push(format!("{}: the room `{room}` stands in no row of the table in src/lib.rs", relative.display()));
            continue;
        };
        for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for target in arrows(line) {
                if target != room && floors.get(&target).is_some_and(|below| below >= floor) {
                    wrong.push(format!("{}:{}: `{room}` (floor {floor}) reaches `{target}`", relative.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_arrows() {
    assert_eq!(arrows("use crate::{session::Session, work};"), ["session", "work"]);
    assert_eq!(arrows("let x: crate::model::Model = crate::hub::resolve()"), ["model", "hub"]);
}
