//! The page's sections in HTML, readable without any script.

use std::collections::BTreeMap;

use super::html::Html;
use super::input::{Coverage, Input};
use super::summary::{Country, Identifier, Pair, Summary, Tally};
use super::{Sources, charts, map, words};
use crate::coverage;

/// Rows of the big table, days, identifiers: enough for a reader; the list of findings has the rest.
const PAIRS: usize = 60;
const DAYS: usize = 14;
const IDENTIFIERS: usize = 24;
const COUNTRIES: usize = 16;
const APPS: usize = 40;

/// Everything above the list of findings, and the footer below.
pub(super) fn all(input: &Input, summary: &Summary<'_>, sources: &Sources, full_values: bool) -> String {
    let mut html = Html::default();
    hero(&mut html, input, summary);
    if !summary.pairs.is_empty() {
        who(&mut html, summary);
        html.raw("<div class=\"grid\">");
        places(&mut html, summary, sources);
        when(&mut html, summary);
        html.raw("</div>");
    }
    if !summary.identifiers.is_empty() {
        identifiers(&mut html, summary, full_values);
    }
    if !input.trials.is_empty() {
        trials(&mut html, input);
    }
    if !input.coverage.is_empty() {
        coverage(&mut html, input);
    }
    html.raw("<p class=\"foot\">");
    if !sources.attribution.is_empty() {
        html.text(&sources.attribution).raw(" ");
    }
    html.raw(
        "<a href=\"https://db-ip.com\" rel=\"noreferrer\">IP Geolocation by DB-IP</a>. Made by Telltale ",
    )
    .text(&sources.version);
    html.raw(" on this page's own device; nothing in it was sent anywhere.</p>");
    html.finish()
}

fn hero(html: &mut Html, input: &Input, summary: &Summary<'_>) {
    html.raw("<section class=\"hero\" aria-label=\"In short\">");
    let total = input.findings.len();
    if total == 0 {
        html.raw("<h1>Nothing was seen yet. <b>That is not all clear.</b></h1><p class=\"words\">Telltale has no finding in what was given to it. ");
        html.raw(
            "Give it time, look at what could not be read, and check it: <code>telltale try</code>.</p>",
        );
    } else {
        html.raw("<h1>").text(&words::count(summary.apps, "app", "apps")).raw(" sent <b>");
        html.text(&words::count(total, "thing about you", "things about you")).raw("</b> to ");
        html.text(&words::count(summary.owners, "owner", "owners"));
        match summary.countries.iter().filter(|country| !country.code.is_empty()).count() {
            0 => html.raw(".</h1>"),
            countries => html
                .raw(", on servers in ")
                .text(&words::count(countries, "country", "countries"))
                .raw(".</h1>"),
        };
        if let Some((first, last)) = summary.span {
            html.raw("<p class=\"when\">").text(&moment(first));
            if first != last {
                html.raw(" to ").text(&moment(last));
            }
            html.raw("</p>");
        }
        html.raw("<p class=\"words\">Telltale sees what left the phone; not whether it arrived, why it was sent, or with whose consent.</p>");
        html.raw("<div class=\"tiles\">");
        for (class, count, name, meaning) in [
            (
                "E",
                summary.errors,
                "Identity with content",
                "one message joins a lasting identifier with what you did",
            ),
            ("W", summary.warnings, "Worth a look", "sent without being part of what you asked for"),
            ("I", summary.infos, "For the record", "expected, or little said"),
        ] {
            html.raw("<p class=\"tile ")
                .raw(class)
                .raw("\"><strong>")
                .text(&words::grouped(count))
                .raw("</strong><b>");
            html.raw(name).raw("</b><span>").raw(meaning).raw("</span></p>");
        }
        html.raw("</div>");
    }
    if input.odd_lines > 0 {
        html.raw("<p class=\"note\">")
            .text(&words::count(input.odd_lines, "line", "lines"))
            .raw(" could not be read and are not in here.</p>");
    }
    html.raw("</section>");
}

/// `2026-11-21T09:45:12.123Z` → `2026-11-21 09:45 UTC`.
fn moment(time: &str) -> String {
    let zone = if time.ends_with('Z') { " UTC" } else { "" };
    format!("{}{zone}", time.get(..16).unwrap_or(time).replace('T', " "))
}

fn open_card(html: &mut Html, id: &'static str, title: &'static str, note: &'static str) {
    html.raw("<section class=\"card\" aria-labelledby=\"")
        .raw(id)
        .raw("\"><h2 id=\"")
        .raw(id)
        .raw("\">")
        .raw(title);
    html.raw("</h2><p class=\"note\">").raw(note).raw("</p>");
}

fn chips(html: &mut Html, kinds: &BTreeMap<&str, Tally>) {
    let mut list: Vec<_> = kinds.iter().collect();
    list.sort_by_key(|(_, tally)| std::cmp::Reverse((tally.worst, tally.count)));
    html.raw("<span class=\"chips\">");
    for (kind, tally) in list {
        html.raw("<span class=\"chip ").raw(tally.worst.letter()).raw("\">").text(words::kind(kind));
        html.raw("<small>").text(&words::grouped(tally.count)).raw("</small></span>");
    }
    html.raw("</span>");
}

fn who(html: &mut Html, summary: &Summary<'_>) {
    open_card(
        html,
        "who",
        "Who learned what",
        "Left the apps, right the owners of the names they sent to. A ribbon is as thick as the number of kinds of thing that went that way.",
    );
    charts::flow(html, summary);
    html.raw("<p class=\"legend\"><span class=\"E\"><b>identity with content</b></span><span class=\"W\"><b>worth a look</b></span>");
    html.raw("<span class=\"I\"><b>for the record</b></span></p>");
    html.raw("<table class=\"stack\"><thead><tr><th scope=\"col\">App</th><th scope=\"col\">Sent to</th><th scope=\"col\">What, how often</th></tr></thead><tbody>");
    for Pair { app, owner, owner_cc, kinds, .. } in summary.pairs.iter().take(PAIRS) {
        html.raw("<tr><th scope=\"row\"><bdi>")
            .text(app)
            .raw("</bdi></th><td><bdi>")
            .text(owner)
            .raw("</bdi>");
        if !owner_cc.is_empty() {
            html.raw(" <span class=\"small\">(").text(words::country(owner_cc)).raw(")</span>");
        }
        html.raw("</td><td>");
        chips(html, kinds);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table>");
    more(html, summary.pairs.len(), PAIRS);
    html.raw("</section>");
}

fn more(html: &mut Html, all: usize, shown: usize) {
    if all > shown {
        html.raw("<p class=\"note\">And ")
            .text(&words::grouped(all.saturating_sub(shown)))
            .raw(" more: see every finding below.</p>");
    }
}

fn places(html: &mut Html, summary: &Summary<'_>, sources: &Sources) {
    open_card(
        html,
        "where",
        "Where the servers are",
        "Three different things: the country of the server, the operator of its network, and the owner of the name.",
    );
    map::map(html, &summary.countries);
    let most = summary.countries.iter().map(|country| country.count).max().unwrap_or(1).max(1);
    html.raw("<ul>");
    for Country { code, count, networks, owners } in summary.countries.iter().take(COUNTRIES) {
        html.raw("<li class=\"place\"><p><span>");
        if code.is_empty() {
            html.raw("Country not known");
        } else {
            html.raw("<span class=\"cc\">").text(code).raw("</span>").text(words::country(code));
        }
        html.raw("</span><span class=\"n\">").text(&words::grouped(*count)).raw("</span></p>");
        html.raw("<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect height=\"8\"");
        html.raw(if code.is_empty() { " class=\"dim\"" } else { "" })
            .raw(" width=\"")
            .show(share(*count, most))
            .raw("\"/></svg>");
        html.raw("<p class=\"small\"><span>");
        let networks = top(networks
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, count)| (short(name).to_owned(), *count)));
        if !networks.is_empty() {
            html.raw("Network: ").text(&networks).raw(". ");
        }
        let owners = top(owners.iter().map(|((name, cc), count)| match *cc {
            "" => ((*name).to_owned(), *count),
            cc => (format!("{name} ({cc})"), *count),
        }));
        html.raw("Owner: ").text(&owners).raw(".</span></p></li>");
    }
    html.raw("</ul>");
    more(html, summary.countries.len(), COUNTRIES);
    if !sources.country.is_empty() {
        html.raw("<p class=\"small\">Located by ").text(&sources.country).raw(".</p>");
    }
    html.raw("</section>");
}

fn short(network: &str) -> &str {
    crate::place::ip::Network { asn: 0, name: network }.short()
}

/// The names with most findings, three at most.
fn top(counts: impl Iterator<Item = (String, usize)>) -> String {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = counts.len().saturating_sub(3);
    let mut text = counts.into_iter().take(3).map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    if rest > 0 {
        text.push_str(&format!(" and {rest} more"));
    }
    text
}

fn share(count: usize, most: usize) -> usize {
    count.saturating_mul(100).checked_div(most).unwrap_or(0).max(1)
}

fn when(html: &mut Html, summary: &Summary<'_>) {
    open_card(
        html,
        "when",
        "When",
        "Each cell is one hour; the stronger its colour, the more. Times are those of the findings.",
    );
    let busiest = summary
        .days
        .iter()
        .flat_map(|(date, hours)| hours.iter().enumerate().map(move |(hour, count)| (*count, *date, hour)))
        .max();
    if let Some((count, date, hour)) = busiest {
        let night: usize = summary.days.values().flat_map(|hours| hours.iter().take(6)).sum();
        html.raw("<p class=\"busy\">Busiest hour: ").text(date).show(format_args!(" {hour:02}:00")).raw(", ");
        html.text(&words::count(count, "finding", "findings")).raw(". Between 00:00 and 06:00: ");
        html.text(&words::grouped(night)).raw(".</p>");
    }
    charts::hours(html, summary, DAYS);
    if summary.days.len() > DAYS {
        html.raw("<p class=\"note\">The last ")
            .show(DAYS)
            .raw(" of ")
            .show(summary.days.len())
            .raw(" days.</p>");
    }
    html.raw("</section>");
}

fn identifiers(html: &mut Html, summary: &Summary<'_>, full_values: bool) {
    open_card(
        html,
        "identifiers",
        "Identifiers, and what is tied to each",
        "Whoever gets the same identifier again can join everything that came with it. Tied means: in the same message.",
    );
    html.raw("<ul class=\"ids\">");
    for Identifier { kind, value, count, first, last, apps, owners, tied } in
        summary.identifiers.iter().take(IDENTIFIERS)
    {
        html.raw("<li class=\"id\"><h3>").text(words::kind(kind)).raw("</h3><span class=\"value mono\"");
        if full_values {
            html.raw(" data-full=\"").text(value).raw("\"");
        }
        html.raw(">").text(&words::masked(kind, value)).raw("</span><p class=\"small\">");
        html.text(&words::count(*count, "time", "times")).raw(", ").text(&moment(first));
        if first != last {
            html.raw(" to ").text(&moment(last));
        }
        html.raw("</p><p><bdi>")
            .text(&names(apps.iter().copied()))
            .raw("</bdi> → <bdi>")
            .text(&names(owners.iter().copied()))
            .raw("</bdi></p>");
        if !tied.is_empty() {
            html.raw("<p class=\"tied\">Tied to it</p>");
            chips(html, tied);
        }
        html.raw("</li>");
    }
    html.raw("</ul>");
    more(html, summary.identifiers.len(), IDENTIFIERS);
    html.raw("</section>");
}

fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let rest = names.len().saturating_sub(4);
    let mut text = names.take(4).collect::<Vec<_>>().join(", ");
    if rest > 0 {
        text.push_str(&format!(" and {rest} more"));
    }
    text
}

fn trials(html: &mut Html, input: &Input) {
    open_card(
        html,
        "trials",
        "Your experiments",
        "What <code>telltale try</code> handed out, and whether it left the phone.",
    );
    html.raw("<table class=\"stack\"><thead><tr><th scope=\"col\">Where</th><th scope=\"col\">What</th><th scope=\"col\">Verdict</th></tr></thead><tbody>");
    for trial in &input.trials {
        html.raw("<tr><th scope=\"row\">")
            .text(&trial.place)
            .raw("</th><td>")
            .text(&trial.what)
            .raw("</td><td><strong>");
        html.text(&trial.verdict).raw("</strong> ").text(&trial.how).raw("</td></tr>");
    }
    html.raw("</tbody></table></section>");
}

fn coverage(html: &mut Html, input: &Input) {
    open_card(
        html,
        "coverage",
        "What could not be read",
        "Of what each app sent: the part whose content was read, why the rest was not, and where that went. What cannot be read is no finding and no all clear.",
    );
    let rows = &input.coverage;
    let sum = |bytes: fn(&Coverage) -> u64| rows.iter().map(bytes).fold(0, u64::saturating_add);
    let (read, unread) = (sum(|row| row.read), sum(|row| row.unread));
    html.raw("<p class=\"busy\">Of ")
        .text(&coverage::size(read.saturating_add(unread)))
        .raw(" sent, ")
        .text(&coverage::size(unread))
        .raw(" could not be read");
    if let [since, time] = &input.coverage_span
        && !since.is_empty()
    {
        html.raw(", ").text(&moment(since)).raw(" to ").text(&moment(time));
    }
    html.raw(".</p><table class=\"stack\"><thead><tr><th scope=\"col\">App</th><th scope=\"col\">Content read</th><th scope=\"col\">Why not, and where to</th></tr></thead><tbody>");
    for row in rows.iter().take(APPS) {
        let all = row.read.saturating_add(row.unread);
        // Rounded down: all of it only when it is all of it.
        let part = u128::from(row.read).saturating_mul(100).checked_div(u128::from(all)).unwrap_or(0);
        html.raw("<tr><th scope=\"row\"><bdi>").text(&row.app).raw("</bdi></th><td>");
        html.raw("<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect height=\"8\" width=\"");
        html.show(part)
            .raw("\"/></svg>")
            .show(part)
            .raw(" % of ")
            .text(&coverage::size(all))
            .raw("</td><td>");
        html.text(&row.why.join("; "));
        if !row.to.is_empty() {
            html.raw("<p class=\"small\">To <bdi>")
                .text(&names(row.to.iter().map(String::as_str)))
                .raw("</bdi></p>");
        }
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table>");
    more(html, rows.len(), APPS);
    html.raw("</section>");
}
