//! The map of server countries: dots for land, a circle for each country, as large as what went there. No picture, no network.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::html::Html;
use super::summary::Country;

/// What the map is drawn from.
#[derive(Debug, Default, Deserialize)]
struct Map {
    land: String,
    places: HashMap<String, [i16; 2]>,
}

static MAP: LazyLock<Map> =
    LazyLock::new(|| toml::from_str(include_str!("../../data/map.toml")).unwrap_or_default());

/// Degrees between two dots; the drawing's unit.
const STEP: f64 = 3.0;
/// Where the first row lies, and the first column.
const NORTH: f64 = 78.0;
const WEST: f64 = -180.0;
/// Radius of the smallest circle, and how much larger the largest is.
const LEAST: f64 = 1.1;
const MORE: f64 = 3.0;
/// Countries with their code beside the circle, and how far apart two must be for both to be read.
const NAMED: usize = 8;
const APART: (f64, f64) = (9.0, 4.5);

/// Draws it; nothing when no country is known.
pub(super) fn map(html: &mut Html, countries: &[Country<'_>]) {
    let places: Vec<_> =
        countries.iter().filter_map(|country| Some((country, place(country.code)?))).collect();
    if places.is_empty() {
        return;
    }
    let most = places.iter().map(|(country, _)| country.count).max().unwrap_or(1).max(1);
    let rows: Vec<&str> = MAP.land.lines().collect();
    html.raw("<svg class=\"map\" viewBox=\"0 0 120 ").show(rows.len());
    html.raw("\" role=\"img\" aria-label=\"Map of server countries; the list below says the same\"><path class=\"land\" d=\"");
    for (row, text) in rows.iter().enumerate() {
        for (start, length) in runs(text) {
            html.raw("M").show(start).raw(".5 ").show(row).raw(".5h").show(length.saturating_sub(1));
        }
    }
    html.raw("\"/>");
    // The largest first, so that a small one beside it lies on top; the codes above all.
    let radius = |count: usize| LEAST + MORE * (count as f64 / most as f64).sqrt();
    for (country, (x, y)) in &places {
        html.raw("<circle cx=\"").show(x).raw("\" cy=\"").show(y).raw("\" r=\"");
        html.show(format_args!("{:.2}", radius(country.count))).raw("\"/>");
    }
    let mut named: Vec<(f64, f64)> = Vec::new();
    for (country, (x, y)) in &places {
        let beside = |other: &(f64, f64)| (x - other.0).abs() < APART.0 && (y - other.1).abs() < APART.1;
        if named.len() >= NAMED || named.iter().any(beside) {
            continue;
        }
        named.push((*x, *y));
        // On the side where there is no other circle.
        let is_left = places.iter().any(|(_, other)| other.0 > *x && beside(other));
        let away = radius(country.count) + 0.8;
        let (at, anchor) = if is_left { (x - away, "end") } else { (x + away, "start") };
        html.raw("<text text-anchor=\"")
            .raw(anchor)
            .raw("\" x=\"")
            .show(format_args!("{at:.1}"))
            .raw("\" y=\"");
        html.show(format_args!("{:.1}", y + 1.2)).raw("\">").text(country.code).raw("</text>");
    }
    html.raw("</svg>");
}

/// Where a country's circle is, in the drawing's units.
fn place(code: &str) -> Option<(f64, f64)> {
    let [latitude, longitude] = *MAP.places.get(code)?;
    Some(((f64::from(longitude) - WEST) / STEP, (NORTH - f64::from(latitude)) / STEP + 0.5))
        .map(|(x, y)| ((x * 10.0).round() / 10.0, (y * 10.0).round() / 10.0))
}

/// Start and length of each run of land in a row.
fn runs(row: &str) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in row.bytes().enumerate().filter(|(_, byte)| *byte == b'#') {
        match runs.last_mut() {
            Some((start, length)) if start.saturating_add(*length) == at => {
                *length = length.saturating_add(1)
            }
            _ => runs.push((at, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_with_a_name_has_a_place_near_land() {
        let names: HashMap<String, String> =
            toml::from_str(include_str!("../../data/countries.toml")).unwrap();
        // Bouvet Island is smaller than a dot and has no network.
        let missing: Vec<_> = names.keys().filter(|code| *code != "BV" && place(code).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let rows: Vec<&str> = MAP.land.lines().collect();
        for code in ["CN", "US", "RU", "DE", "BR", "AU", "IN", "ZA"] {
            let (x, y) = place(code).unwrap();
            assert_eq!(rows[y as usize].as_bytes()[x as usize], b'#', "{code}");
        }
        assert!(rows.iter().all(|row| row.len() <= 120));
    }

    #[test]
    fn a_country_is_drawn_once_and_a_forged_one_not_at_all() {
        let country = |code, count| Country { code, count, ..Country::default() };
        let mut html = Html::default();
        map(&mut html, &[country("SG", 40), country("RU", 10), country("", 3), country("\"><script>", 9)]);
        let drawn = html.finish();
        assert_eq!((drawn.matches("<circle").count(), drawn.matches("<text").count()), (2, 2), "{drawn}");
        assert!(drawn.contains("r=\"4.10\"") && drawn.contains("r=\"2.60\"") && !drawn.contains("script"));
        let mut none = Html::default();
        map(&mut none, &[country("", 3)]);
        assert_eq!(none.finish(), "");
    }

    #[test]
    fn runs_are_found() {
        assert_eq!(runs(" ## #"), [(1, 2), (4, 1)]);
        assert!(runs("   ").is_empty());
    }
}
