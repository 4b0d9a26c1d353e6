//! The small drawings of a page: lists with bars, and counts by kind; as text and as HTML.

use super::canvas::escape;
use super::number;
use super::text::{cut, harmless, pad};
use crate::page::{Bars, Counts};
use unicode_width::UnicodeWidthStr;

/// The least width of a list that may stand beside another.
const NARROW: usize = 34;
/// The longest bar.
const LONG: usize = 40;
/// Columns between lists.
const GAP: usize = 3;
/// Eighths of a cell, from empty to full.
const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
/// Heights of a cell, from the lowest that is not empty.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The amounts of all lists as numbers of one kind, list by list, and the largest magnitude.
fn amounts(lists: &[Bars]) -> (Vec<Vec<String>>, f64) {
    let all: Vec<f64> = lists.iter().flat_map(|list| list.bars.iter().map(|(_, amount)| *amount)).collect();
    let most = all.iter().filter(|v| v.is_finite()).fold(0f64, |most, v| most.max(v.abs()));
    let mut texts = number::column(&all).into_iter();
    (lists.iter().map(|list| texts.by_ref().take(list.bars.len()).collect()).collect(), most)
}

/// Lists with bars in `width` columns. Negative amounts have hollow bars.
pub(super) fn bars_text(lists: &[Bars], width: usize) -> String {
    let fit = (width + GAP) / (NARROW + GAP);
    let beside = lists.len().min(fit).max(1);
    let room = (width + GAP) / beside - GAP;
    let (texts, most) = amounts(lists);
    let columns: Vec<Vec<String>> = lists.iter().zip(&texts).map(|(list, texts)| list_text(list, texts, most, room)).collect();
    let groups = columns.chunks(beside).map(|group| {
        let lines = group.iter().map(Vec::len).max().unwrap_or(0);
        let line = |i: usize| {
            let cells = group.iter().map(|column| pad(column.get(i).map_or("", String::as_str), room, false));
            cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_string()
        };
        (0..lines).map(line).collect::<Vec<_>>().join("\n")
    });
    groups.collect::<Vec<_>>().join("\n\n")
}

fn list_text(list: &Bars, texts: &[String], most: f64, room: usize) -> Vec<String> {
    let number = texts.iter().map(|text| text.width()).max().unwrap_or(0);
    let names: Vec<String> = list.bars.iter().map(|(name, _)| harmless(name)).collect();
    let widest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let name_room = widest.min((room - number.min(room)) / 2);
    let bar_room = room.saturating_sub(name_room + number + 2).min(LONG);
    let line = |((name, (_, amount)), text): ((&String, &(String, f64)), &String)| {
        let share = if most > 0.0 && amount.is_finite() { amount.abs() / most } else { 0.0 };
        let eighths = (share * bar_room as f64 * 8.0).round() as usize;
        let bar = if *amount < 0.0 {
            "░".repeat(eighths.div_ceil(8))
        } else {
            let rest = EIGHTHS[eighths % 8].to_string();
            "█".repeat(eighths / 8) + rest.trim_end()
        };
        format!("{} {} {bar}", pad(&cut(name, name_room), name_room, false), pad(text, number, true))
    };
    std::iter::once(cut(&harmless(&list.title), room)).chain(names.iter().zip(&list.bars).zip(texts).map(line)).collect()
}

/// Lists with bars as HTML.
pub(super) fn bars_html(lists: &[Bars]) -> String {
    let (texts, most) = amounts(lists);
    let list = |(list, texts): (&Bars, &Vec<String>)| {
        let row = |((name, amount), text): (&(String, f64), &String)| {
            let share = if most > 0.0 && amount.is_finite() { 100.0 * amount.abs() / most } else { 0.0 };
            let class = if *amount < 0.0 { "bar negative" } else { "bar" };
            format!(
                "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"room\"><div class=\"{class}\" style=\"width:{share:.1}%\"></div></td></tr>\n",
                escape(&harmless(name)),
                escape(text)
            )
        };
        let rows: String = list.bars.iter().zip(texts).map(row).collect();
        format!("<table><caption>{}</caption><tbody>\n{rows}</tbody></table>\n", escape(&list.title))
    };
    format!("<div class=\"bars\">\n{}</div>\n", lists.iter().zip(&texts).map(list).collect::<String>())
}

/// What the heights of counts mean.
fn scale(what: &str) -> String {
    format!("height: log(1 + {what})")
}

fn ends(counts: &Counts) -> (String, String) {
    let ends = [counts.edges.first(), counts.edges.last()].map(|edge| edge.copied().unwrap_or(f64::NAN));
    let mut texts = number::column(&ends).into_iter();
    (texts.next().unwrap_or_default(), texts.next().unwrap_or_default())
}

/// Counts as one line of heights for each kind, all kinds together first, in `width` columns.
pub(super) fn counts_text(counts: &Counts, width: usize) -> String {
    let total = counts.total();
    let mut rows: Vec<(&str, &[u64])> = vec![("all", &total)];
    rows.extend(counts.kinds.iter().map(|(name, counts)| (name.as_str(), counts.as_slice())));
    let name = rows.iter().map(|(name, _)| name.width()).max().unwrap_or(0).min(width / 3);
    let sums: Vec<String> = rows.iter().map(|(_, counts)| counts.iter().sum::<u64>().to_string()).collect();
    let number = sums.iter().map(String::len).max().unwrap_or(0);
    let room = width.saturating_sub(name + number + 2).max(8);
    let bins = total.len().max(1);
    let group = bins.div_ceil(room);
    let joined = |counts: &[u64]| counts.chunks(group).map(|bins| bins.iter().sum()).collect::<Vec<u64>>();
    let most = joined(&total).into_iter().max().unwrap_or(0);
    let line = |((title, counts), sum): (&(&str, &[u64]), &String)| {
        let heights: String = joined(counts).into_iter().map(|count| level(count, most)).collect();
        let line = format!("{} {} {heights}", pad(&cut(title, name), name, false), pad(sum, number, true));
        line.trim_end().to_string()
    };
    let lines: Vec<String> = rows.iter().zip(&sums).map(line).collect();
    let (from, to) = ends(counts);
    let note = format!("from {from} to {to}; {}", scale(&counts.what));
    format!("{}\n{}", lines.join("\n"), cut(&note, width))
}

/// A count as a height of eight, on a logarithmic scale; empty for none.
fn level(count: u64, most: u64) -> char {
    if count == 0 {
        return ' ';
    }
    let share = (1.0 + count as f64).ln() / (1.0 + most as f64).ln();
    LEVELS[((share * 8.0).ceil() as usize).clamp(1, 8) - 1]
}

/// Counts as bars whose parts are coloured by kind.
pub(super) fn counts_html(counts: &Counts) -> String {
    const HEIGHT: f64 = 120.0;
    const WIDTH: f64 = 10.0;
    let total = counts.total();
    let most = total.iter().copied().max().unwrap_or(0);
    let mut marks = String::new();
    for (bin, sum) in total.iter().enumerate().filter(|(_, sum)| **sum > 0) {
        let height = HEIGHT * (1.0 + *sum as f64).ln() / (1.0 + most as f64).ln();
        let mut top = HEIGHT - height;
        for (kind, (_, values)) in counts.kinds.iter().enumerate() {
            let part = height * values[bin] as f64 / *sum as f64;
            if part > 0.0 {
                let left = bin as f64 * WIDTH;
                marks += &format!(
                    "<rect class=\"k{kind}\" x=\"{left}\" y=\"{top:.2}\" width=\"{}\" height=\"{part:.2}\"/>\n",
                    WIDTH - 1.0
                );
                top += part;
            }
        }
    }
    let key = |(kind, (name, values)): (usize, &(String, Vec<u64>))| {
        let sum = number::whole(values.iter().sum());
        format!("<span class=\"key\"><span class=\"swatch k{kind}\"></span>{} <small>{sum}</small></span>\n", escape(name))
    };
    let (from, to) = ends(counts);
    let keys: String = counts.kinds.iter().enumerate().map(key).collect();
    format!(
        "<div class=\"counts\">\n<svg viewBox=\"0 0 {} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\">\n{marks}</svg>\n\
         <div class=\"ends\"><span>{from}</span><span>{}</span><span>{to}</span></div>\n<div>{keys}</div>\n</div>\n",
        total.len() as f64 * WIDTH,
        escape(&scale(&counts.what))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> Vec<Bars> {
        let list = |title: &str, bars: &[(&str, f64)]| Bars {
            title: title.into(),
            bars: bars.iter().map(|(name, amount)| (name.to_string(), *amount)).collect(),
        };
        vec![list("up", &[("\" a\"", 4.0), ("\"<b>\n\"", 1.0)]), list("down", &[("\"我们的\"", -2.0), ("c", f64::NAN)])]
    }

    #[test]
    fn lists_stand_side_by_side_where_there_is_room() {
        // 34 columns each; the longest bar has those that names and numbers leave: 34 − 7 − 1 − 2.
        let expected = "\
up                                   down
\" a\"    4 ████████████████████████   \"我们的\"  -2 ░░░░░░░░░░░
\"<b>\\n\" 1 ██████                     c        NaN";
        assert_eq!(bars_text(&lists(), 71), expected);
        let narrow = bars_text(&lists(), 36);
        assert!(narrow.lines().all(|line| line.width() <= 36) && narrow.contains("\n\ndown\n"), "{narrow}");
    }

    #[test]
    fn html_scales_all_bars_alike_and_escapes() {
        let html = bars_html(&lists());
        assert!(
            html.contains("\"bar\" style=\"width:100.0%\"") && html.contains("\"bar negative\" style=\"width:50.0%\""),
            "{html}"
        );
        assert!(html.contains("&lt;b&gt;\\n") && html.contains("style=\"width:0.0%\""), "{html}");
    }

    #[test]
    fn counts_are_heights_by_kind_and_bins_join_where_there_is_no_room() {
        let counts = Counts {
            what: "tokens".into(),
            edges: (0..=40).map(f64::from).collect(),
            kinds: vec![("word".into(), (0..40).collect()), ("digit".into(), vec![0; 40])],
        };
        let text = counts_text(&counts, 60);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("all   780  ▂") && lines[0].ends_with('█'), "{text}");
        assert_eq!(lines[2], "digit   0");
        assert_eq!(lines[3], "from 0 to 40; height: log(1 + tokens)");
        assert!(counts_text(&counts, 30).lines().all(|line| line.width() <= 37), "{}", counts_text(&counts, 30));
        let html = counts_html(&counts);
        assert_eq!(html.matches("<rect class=\"k0\"").count(), 39);
        assert!(!html.contains("<rect class=\"k1\"") && html.contains("word <small>780</small>"), "{html}");
    }
}
