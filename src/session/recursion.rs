//! Where functions call themselves without end. Rhai keeps the outermost call alone of those that lay in one another: the
//! others are told from the texts of the functions.

use super::known::last_name;
use super::report::{Frame, frame};
use super::suggest::Known;
use super::{CALL_LEVELS, scan};
use crate::script::scan::{Kind, functions, outline};
use std::collections::BTreeMap;

/// Functions that are looked at, at most.
const FUNCTIONS: usize = 100;

/// A call in a function's text: what it calls, and where.
type Call = (String, Frame);

/// The frames of the calls that a call led to until there were too many: the one by which a function came back to itself
/// first, `outermost` last. None where the texts have no such call, or where more than one circle of functions could be meant.
pub(super) fn frames(known: &Known<'_>, outermost: &Frame) -> Option<Vec<Frame>> {
    let entry: String =
        outermost.text.chars().skip(outermost.column - 1).take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut calls = BTreeMap::from([(entry.clone(), calls_of(known, &entry)?)]);
    let mut next = vec![entry.clone()];
    while let Some(name) = next.pop() {
        if calls.len() > FUNCTIONS {
            return None;
        }
        let called: Vec<String> = calls[&name].iter().map(|(name, _)| name.clone()).collect();
        for name in called {
            if !calls.contains_key(&name) {
                calls.insert(name.clone(), calls_of(known, &name).unwrap_or_default());
                next.push(name);
            }
        }
    }
    let circles: Vec<(&String, Vec<&Call>)> =
        calls.keys().filter_map(|name| way(&calls, name, name).map(|circle| (name, circle))).collect();
    let (first, circle) = circles.iter().find(|(name, _)| **name == entry).or(circles.first())?;
    if circles.iter().any(|(name, _)| name != first && (way(&calls, name, first).is_none() || way(&calls, first, name).is_none()))
    {
        return None;
    }
    let there = if **first == entry { Vec::new() } else { way(&calls, &entry, first)? };
    let shown = there.iter().chain(circle).map(|(name, place)| (name, place));
    let mut frames: Vec<Frame> = std::iter::once((&entry, outermost))
        .chain(shown)
        .map(|(name, place)| Frame { note: Some(format!("in `{name}` called here")), ..place.clone() })
        .collect();
    // The circle was gone through many times before it is seen here.
    let left_out = (CALL_LEVELS + 1).saturating_sub(frames.len());
    frames.get_mut(there.len() + 1)?.more = left_out;
    frames.last_mut()?.note = None;
    frames.reverse();
    Some(frames)
}

/// The calls of functions in the text of a function, in its order; none if no cell defined it.
fn calls_of(known: &Known<'_>, name: &str) -> Option<Vec<Call>> {
    let defines =
        |name: &str| known.functions.iter().rev().find(|module| module.iter_script_fn_info().any(|(_, _, own, ..)| own == name));
    let source = defines(name)?.id()?;
    let text = known.sources.get(source)?.text;
    let range = functions(&text).into_iter().find(|function| function.name == name)?.range;
    let pieces = outline(&text[range.clone()]).pieces;
    let called = pieces.windows(2).filter_map(|pair| {
        let [(Kind::Other, word), (Kind::Open, bracket)] = pair else { return None };
        let (word, bracket) = (&text[range.clone()][word.clone()], range.start + bracket.start);
        let name = last_name(word);
        let before = &text[..bracket - name.len()];
        let is_call = text[bracket..].starts_with('(') && text[..bracket].ends_with(name) && !before.ends_with(['.', ':']);
        if name.is_empty() || !is_call || before.trim_end().ends_with("fn") || defines(name).is_none() {
            return None;
        }
        let position = scan::position_of(&text, bracket - name.len());
        Some((name.to_string(), frame(known, source, position, None)?))
    });
    Some(called.collect())
}

/// The fewest calls, one at least, that lead from a function to another.
fn way<'c>(calls: &'c BTreeMap<String, Vec<Call>>, from: &str, to: &str) -> Option<Vec<&'c Call>> {
    let mut ways: Vec<Vec<&Call>> = calls.get(from)?.iter().map(|call| vec![call]).collect();
    let mut at = 0;
    while let Some(way) = ways.get(at).cloned() {
        let (name, _) = way.last()?;
        if name == to {
            return Some(way);
        }
        let seen = |name: &str| ways.iter().any(|way| way.last().is_some_and(|(last, _)| last == name));
        let further: Vec<&Call> = calls.get(name)?.iter().filter(|(name, _)| !seen(name)).collect();
        ways.extend(further.into_iter().map(|call| way.iter().copied().chain([call]).collect::<Vec<_>>()));
        at += 1;
    }
    None
}
