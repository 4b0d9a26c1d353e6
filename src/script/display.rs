//! How a value is shown: the one place that `print`, `show` and the sessions use.

use crate::error::Result;
use crate::figure::Figure;
use crate::render::text::{self, counted, cut};
use crate::script::Host;
use crate::script::convert::type_name;
use crate::table::Table;
use crate::tensor::Tensor;
use rhai::{Array, Blob, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Map, NativeCallContext, Position};
use unicode_width::UnicodeWidthStr;

/// Lines of a list or map that is too long for one line.
const LINES: usize = 40;
/// Lists and maps inside one another are shown this deep.
const DEPTH: usize = 8;

/// A value as a session shows it, at most `width` columns wide where it can be: text in quotes, lists and maps on one
/// line if they fit and else one element a line, long ones cut in the middle with their size said.
pub fn display(engine: &Engine, value: &Dynamic, width: usize) -> String {
    shown(engine, value, width.max(20), DEPTH)
}

/// A value on one line of at most `width` columns: what does not fit is left out, and its number said.
pub fn line(engine: &Engine, value: &Dynamic, width: usize) -> String {
    // What lies inside leaves room for what stands beside it.
    let inside = |value: &Dynamic| line(engine, value, (width / 2).max(12));
    if let Some(items) = value.read_lock::<Array>() {
        return cut_list("[", "]", items.len(), width, items.iter().map(inside));
    }
    if let Some(map) = value.read_lock::<Map>() {
        let entries = map.iter().map(|(key, value)| format!("{}: {}", written(key), inside(value)));
        return cut_list("#{", "}", map.len(), width, entries);
    }
    if let Some(table) = value.read_lock::<Table>() {
        let names: Vec<&str> = table.names().collect();
        return cut(&format!("{} rows: {}", table.len(), names.join(", ")), width);
    }
    let shown = display(engine, value, width);
    cut(shown.lines().next().unwrap_or_default(), width)
}

/// As many items as fit on a line, and the number of all if some do not.
fn cut_list(open: &str, close: &str, len: usize, width: usize, items: impl Iterator<Item = String>) -> String {
    let more = format!("… {len} in all{close}");
    // The line, and how long it is before each item.
    let (mut text, mut ends) = (open.to_string(), Vec::new());
    for item in items {
        ends.push(text.len());
        text += if ends.len() > 1 { ", " } else { "" };
        text += &item;
        if text.width() + close.width() > width {
            let fits = |end: &&usize| text[..**end].width() + ", ".len() + more.width() <= width;
            let end = ends.iter().rev().find(fits).copied().unwrap_or(open.len());
            let comma = if end > open.len() { ", " } else { "" };
            return cut(&format!("{}{comma}{more}", &text[..end]), width);
        }
    }
    text + close
}

/// A value as `show` and the sessions show a result: a figure drawn, above a line that says what it is; anything else as
/// [`display`].
///
/// # Errors
/// The figure cannot be drawn.
pub fn result(host: &Host, engine: &Engine, value: &Dynamic) -> Result<String> {
    let plain = display(engine, value, host.width);
    match value.read_lock::<Figure>() {
        Some(figure) => Ok(format!("{}\n{plain}", (host.draw)(&figure, host)?)),
        None => Ok(plain),
    }
}

/// A value as `print` writes it: text as it is, everything else as [`display`] shows it.
pub fn text(engine: &Engine, value: &Dynamic, width: usize) -> String {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return text.to_string();
    }
    value.as_char().map_or_else(|_| display(engine, value, width), String::from)
}

/// Makes `print` write arrays and maps so too: Rhai's own functions for them would be found before ours.
pub(super) fn install(engine: &mut Engine) {
    fn print(call: &NativeCallContext, value: Dynamic) -> std::result::Result<String, Box<EvalAltResult>> {
        Ok(display(call.engine(), &value, Host::of(call)?.width))
    }
    engine.register_fn("print", |call: NativeCallContext, list: Array| print(&call, list.into()));
    engine.register_fn("print", |call: NativeCallContext, map: Map| print(&call, map.into()));
}

fn shown(engine: &Engine, value: &Dynamic, width: usize, depth: usize) -> String {
    if let Some(items) = value.read_lock::<Array>() {
        if depth == 0 {
            return format!("[{}]", counted(items.len(), "element"));
        }
        let item = |i: usize, room: usize| items.get(i).map_or_else(String::new, |v| shown(engine, v, room, depth - 1));
        return list("[", "]", items.len(), width, item);
    }
    if let Some(bytes) = value.read_lock::<Blob>() {
        let more = if bytes.len() > LINES { " …" } else { "" };
        let first: Vec<String> = bytes.iter().take(LINES).map(|byte| format!("{byte:02x}")).collect();
        return format!("{} bytes [{}{more}]", bytes.len(), first.join(" "));
    }
    if let Some(map) = value.read_lock::<Map>() {
        if depth == 0 {
            return format!("#{{{}}}", counted(map.len(), "key"));
        }
        let entries: Vec<_> = map.iter().collect();
        let item = |i: usize, room: usize| {
            let Some((key, value)) = entries.get(i) else { return String::new() };
            let name = written(key);
            let beside = shown(engine, value, room.saturating_sub(name.width() + 2), depth - 1);
            let is_list = value.read_lock::<Array>().is_some() || value.read_lock::<Map>().is_some();
            if is_list || !beside.contains('\n') {
                return format!("{name}: {beside}");
            }
            // The lines of a table belong below each other.
            format!("{name}:\n  {}", shown(engine, value, room.saturating_sub(2), depth - 1).replace('\n', "\n  "))
        };
        return list("#{", "}", map.len(), width, item);
    }
    if let Some(table) = value.read_lock::<Table>() {
        return text::table(&table, width);
    }
    if value.is::<Tensor>() {
        // Its rows stay whole.
        return native(engine, value);
    }
    if let Some(function) = value.read_lock::<FnPtr>() {
        return if function.is_anonymous() { "closure".into() } else { format!("function {}", function.fn_name()) };
    }
    // What functions and closures share is shown as what it is.
    let value = &value.flatten_clone();
    if value.is_unit() || value.is_bool() || value.is_int() || value.is_string() || value.is_char() {
        return format!("{value:?}");
    }
    if let Ok(number) = value.as_float() {
        return format!("{number:?}");
    }
    native(engine, value).lines().map(|line| text::wrapped(line, width)).collect::<Vec<_>>().join("\n")
}

/// What a native type says of itself: its `to_string`.
fn native(engine: &Engine, value: &Dynamic) -> String {
    let global = engine.new_global_runtime_state();
    let call = NativeCallContext::new_with_all_fields(engine, "to_string", None, &global, Position::NONE);
    let text = call.call_native_fn::<ImmutableString>("to_string", (value.flatten_clone(),));
    text.map_or_else(|_| type_name(value), |text| text.to_string())
}

/// A key as a script writes it.
fn written(key: &str) -> String {
    if is_name(key) { key.to_string() } else { format!("{key:?}") }
}

/// A key can be written without quotes.
pub fn is_name(key: &str) -> bool {
    key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && !key.is_empty()
}

/// `open … close` on one line if that fits, else one element a line, cut in the middle when there are many.
fn list(open: &str, close: &str, len: usize, width: usize, item: impl Fn(usize, usize) -> String) -> String {
    let mut line = open.to_string();
    let mut fits = true;
    for i in 0..len {
        line += if i == 0 { "" } else { ", " };
        line += &item(i, width);
        if line.width() + close.len() > width || line.contains('\n') {
            fits = false;
            break;
        }
    }
    if fits {
        return line + close;
    }
    let rows = if len <= LINES { vec![(0, len)] } else { vec![(0, LINES / 2), (len - LINES / 4, len)] };
    let mut text = open.to_string();
    let mut next = 0;
    for (from, to) in rows {
        if from > next {
            text += &format!("\n  … {} more", from - next);
        }
        for i in from..to {
            text += &format!("\n  {},", item(i, width.saturating_sub(3)).replace('\n', "\n  "));
        }
        next = to;
    }
    text + "\n" + close
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Provenance;

    fn show(script: &str, width: usize) -> String {
        let engine = Engine::new();
        display(&engine, &engine.eval::<Dynamic>(script).unwrap(), width)
    }

    #[test]
    fn short_values_stand_on_one_line_and_long_ones_on_many() {
        assert_eq!(show("[1, 2.0, \"a\\n\", 'c', true, (), |x| x]", 80), "[1, 2.0, \"a\\n\", 'c', true, (), closure]");
        assert_eq!(show("#{b: [1], \"a b\": #{}}", 80), "#{\"a b\": #{}, b: [1]}");
        assert_eq!(show("[\"aaaaaaaaaa\", \"bbbbbbbbbb\"]", 20), "[\n  \"aaaaaaaaaa\",\n  \"bbbbbbbbbb\",\n]");
    }

    #[test]
    fn a_table_in_a_map_stands_below_its_key() {
        let mut engine = Engine::new();
        engine.register_fn("tab", || {
            let one = Table::new(Provenance::default()).with("one", vec![1i64, 22]);
            one.and_then(|table| table.with("second", vec![3i64, 4])).unwrap()
        });
        let of = |script: &str| display(&engine, &engine.eval::<Dynamic>(script).unwrap(), 80);
        let table = "one  second\n───  ──────\n  1       3\n 22       4";
        assert_eq!(of("tab()"), table);
        let inside = table.replace('\n', "\n    ");
        assert_eq!(of("#{a: tab(), b: 1}"), format!("#{{\n  a:\n    {inside},\n  b: 1,\n}}"));
        assert_eq!(of("[[[[[[[[[1]]]]]]]]]"), "[[[[[[[[[1 element]]]]]]]]]");
    }

    #[test]
    fn a_line_holds_what_fits() {
        let engine = Engine::new();
        let of = |script: &str, width| line(&engine, &engine.eval::<Dynamic>(script).unwrap(), width);
        assert_eq!(of("[1, 2, 3]", 9), "[1, 2, 3]");
        assert_eq!(of("let a = []; for i in 0..1000 { a.push(i); } a", 30), "[0, 1, 2, 3, 4, … 1000 in all]");
        assert_eq!(
            of("[#{id: 798, score: 1.069}, #{id: 3, score: 2.5}]", 48),
            "[#{id: 798, score: 1.069}, #{id: 3, score: 2.5}]"
        );
        assert_eq!(of("#{b: \"two\\nlines\", a: [1, [2]]}", 40), "#{a: [1, [2]], b: \"two\\nlines\"}");
        assert_eq!(of("\"日本語日本語\"", 8), "\"日本語…");
        for width in 12..60 {
            assert!(
                of("[[1, 2, 3], [4, 5, 6, 7, 8, 9], #{a: \"日本語日本語日本語\", b: [1, 2, 3]}, 5.5]", width).width() <= width
            );
        }
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let shown = show("let a = []; for i in 0..1000 { a.push(i); } a", 80);
        assert!(shown.contains("  19,\n  … 970 more\n  990,"), "{shown}");
        assert_eq!(super::text(&Engine::new(), &"a\"b".into(), 80), "a\"b");
    }
}
