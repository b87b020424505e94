//! The two drawings: who sends to whom, and the hours. SVG with attributes only, since the page's policy allows no inline style.

use std::collections::BTreeMap;

use super::html::Html;
use super::input::Severity;
use super::summary::Summary;

/// Apps and owners drawn on each side; the rest shares one line.
const MOST: usize = 8;
/// Height of one kind in a ribbon, and the least height of a node, in drawing units.
const UNIT: f64 = 3.5;
const NODE: f64 = 34.0;

/// One side's node.
#[derive(Debug, Clone, Default)]
struct Node<'a> {
    name: &'a str,
    kinds: usize,
    /// Where its bar begins, how tall it is, and where the next ribbon goes.
    top: f64,
    height: f64,
    next: f64,
}

/// A drawing's measures: for a phone's width and for a desk's.
struct Shape {
    class: &'static str,
    width: f64,
    /// Left and right x of the bars.
    bars: (f64, f64),
    /// Whether labels stand outside the bars.
    outside: bool,
}

const SHAPES: [Shape; 2] = [
    Shape { class: "flow narrow", width: 340.0, bars: (0.0, 334.0), outside: false },
    Shape { class: "flow broad", width: 1040.0, bars: (230.0, 804.0), outside: true },
];

/// Ribbons from apps to owners, as thick as the number of kinds of thing sent.
pub(super) fn flow(html: &mut Html, summary: &Summary<'_>) {
    let apps = sides(summary, |pair| pair.app);
    let owners = sides(summary, |pair| pair.owner);
    // (app, owner) → kinds and the worst of them.
    let mut ribbons: BTreeMap<(usize, usize), (usize, Severity)> = BTreeMap::new();
    for pair in &summary.pairs {
        let place = |nodes: &[Node<'_>], name: &str| {
            nodes.iter().position(|node| node.name == name).unwrap_or(nodes.len().saturating_sub(1))
        };
        let ribbon = ribbons.entry((place(&apps, pair.app), place(&owners, pair.owner))).or_default();
        ribbon.0 = ribbon.0.saturating_add(pair.kinds.len()).min(24);
        ribbon.1 = ribbon.1.max(pair.all.worst);
    }
    for shape in &SHAPES {
        draw(html, shape, apps.clone(), owners.clone(), &ribbons);
    }
}

/// The nodes of one side: the names with most kinds, then one for the others.
fn sides<'a>(summary: &Summary<'a>, name: impl Fn(&super::summary::Pair<'a>) -> &'a str) -> Vec<Node<'a>> {
    let mut kinds: BTreeMap<&str, (Severity, usize)> = BTreeMap::new();
    for pair in &summary.pairs {
        let entry = kinds.entry(name(pair)).or_default();
        entry.0 = entry.0.max(pair.all.worst);
        entry.1 = entry.1.saturating_add(pair.kinds.len());
    }
    let mut names: Vec<_> = kinds.into_iter().collect();
    names.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    let keep = if names.len() > MOST { MOST.saturating_sub(1) } else { names.len() };
    let mut nodes: Vec<Node<'_>> = names
        .iter()
        .take(keep)
        .map(|(name, (_, kinds))| Node { name, kinds: *kinds, ..Node::default() })
        .collect();
    if names.len() > keep {
        nodes.push(Node { name: "", kinds: names.len().saturating_sub(keep), ..Node::default() });
    }
    nodes
}

fn draw<'a>(
    html: &mut Html,
    shape: &Shape,
    mut apps: Vec<Node<'a>>,
    mut owners: Vec<Node<'a>>,
    ribbons: &BTreeMap<(usize, usize), (usize, Severity)>,
) {
    let thickness = |kinds: usize| (kinds as f64 * UNIT).max(3.0);
    for (&(app, owner), &(kinds, _)) in ribbons {
        for node in [apps.get_mut(app), owners.get_mut(owner)].into_iter().flatten() {
            node.height += thickness(kinds);
        }
    }
    let height = stack(&mut apps).max(stack(&mut owners));
    html.raw("<svg class=\"")
        .raw(shape.class)
        .raw("\" viewBox=\"0 0 ")
        .show(shape.width)
        .raw(" ")
        .show(height);
    html.raw("\" role=\"img\" aria-label=\"Ribbons from apps to the owners they send to; the table below says the same\">");
    let (left, right) = shape.bars;
    let middle = f64::midpoint(left + 6.0, right);
    for (&(app, owner), &(kinds, worst)) in ribbons {
        let (Some(from), Some(to)) = (apps.get_mut(app), owners.get_mut(owner)) else { continue };
        let thick = thickness(kinds);
        let (y1, y2) = (from.next + thick / 2.0, to.next + thick / 2.0);
        from.next += thick;
        to.next += thick;
        html.raw("<path class=\"").raw(worst.letter()).raw("\" stroke-width=\"").show(thick);
        html.raw("\" d=\"M")
            .show(left + 6.0)
            .raw(" ")
            .show(y1)
            .raw("C")
            .show(middle)
            .raw(" ")
            .show(y1)
            .raw(" ");
        html.show(middle).raw(" ").show(y2).raw(" ").show(right).raw(" ").show(y2).raw("\"/>");
    }
    for (nodes, x, is_left) in [(&apps, left, true), (&owners, right, false)] {
        for node in nodes {
            html.raw("<rect width=\"6\" rx=\"2\" x=\"")
                .show(x)
                .raw("\" y=\"")
                .show(node.top)
                .raw("\" height=\"");
            html.show(node.height).raw("\"/>");
            let outward = if shape.outside { -10.0 } else { 12.0 };
            let (at, anchor) = match (is_left, shape.outside) {
                (true, false) => (x + outward, "start"),
                (true, true) => (x + outward, "end"),
                (false, false) => (x + 6.0 - outward, "end"),
                (false, true) => (x + 6.0 - outward, "start"),
            };
            html.raw("<text x=\"").show(at).raw("\" y=\"").show(node.top + node.height / 2.0 + 4.0);
            html.raw("\" text-anchor=\"").raw(anchor).raw("\">");
            label(html, node, if shape.outside { 30 } else { 20 }, is_left);
            html.raw("</text>");
        }
    }
    html.raw("</svg>");
}

fn label(html: &mut Html, node: &Node<'_>, most: usize, is_app: bool) {
    if node.name.is_empty() {
        html.show(node.kinds).raw(if is_app { " other apps" } else { " other owners" });
        return;
    }
    let length = node.name.chars().count();
    if length <= most {
        html.text(node.name);
        return;
    }
    // A package name tells most at its end, a host name as well.
    let tail: String = node.name.chars().skip(length.saturating_sub(most.saturating_sub(1))).collect();
    html.raw("…").text(&tail);
}

/// Sets the nodes one below the other; gives the height of all.
fn stack(nodes: &mut [Node<'_>]) -> f64 {
    let mut top = 2.0;
    for node in nodes {
        let slot = (node.height + 10.0).max(NODE);
        node.top = top + (slot - node.height) / 2.0;
        node.next = node.top;
        top += slot;
    }
    top + 2.0
}

/// One row per day, one cell per hour, in a stronger colour for more.
pub(super) fn hours(html: &mut Html, summary: &Summary<'_>, days_shown: usize) {
    let days: Vec<_> = summary.days.iter().rev().take(days_shown).collect();
    let most = days.iter().flat_map(|(_, hours)| hours.iter()).copied().max().unwrap_or(0);
    let height = days.len().saturating_mul(15).saturating_add(16);
    html.raw("<svg class=\"hours\" viewBox=\"0 0 340 ").show(height);
    html.raw(
        "\" role=\"img\" aria-label=\"Findings by day and hour; the sentence above names the busiest hour\">",
    );
    for hour in [0, 6, 12, 18] {
        html.raw("<text y=\"10\" x=\"")
            .show(44 + hour * 12)
            .raw("\">")
            .show(format_args!("{hour:02}"))
            .raw("</text>");
    }
    for (row, (date, hours)) in days.iter().enumerate() {
        let y = row.saturating_mul(15).saturating_add(15);
        html.raw("<text x=\"0\" y=\"")
            .show(y.saturating_add(10))
            .raw("\">")
            .text(date.get(5..).unwrap_or(date))
            .raw("</text>");
        for (hour, count) in hours.iter().enumerate() {
            html.raw("<rect width=\"11\" height=\"13\" rx=\"2.5\" class=\"")
                .raw(level(*count, most))
                .raw("\" x=\"");
            html.show(hour.saturating_mul(12).saturating_add(44)).raw("\" y=\"").show(y).raw("\"/>");
        }
    }
    html.raw("</svg>");
}

/// Five shades on a logarithmic scale: one finding at night must show beside hundreds at noon.
fn level(count: usize, most: usize) -> &'static str {
    if count == 0 {
        return "l0";
    }
    let share = (count as f64).ln_1p() / (most.max(1) as f64).ln_1p();
    match share {
        share if share > 0.85 => "l5",
        share if share > 0.65 => "l4",
        share if share > 0.45 => "l3",
        share if share > 0.25 => "l2",
        _ => "l1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_that_is_not_zero_shows() {
        assert_eq!(
            (level(0, 1000), level(1, 1000), level(1000, 1000), level(1, 1)),
            ("l0", "l1", "l5", "l5")
        );
    }

    #[test]
    fn nodes_do_not_overlap() {
        let mut nodes =
            vec![Node { height: 50.0, ..Node::default() }, Node { height: 3.0, ..Node::default() }];
        let height = stack(&mut nodes);
        assert!(nodes[0].top + nodes[0].height < nodes[1].top && nodes[1].top + nodes[1].height < height);
    }
}
