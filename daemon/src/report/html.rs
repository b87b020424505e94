//! Writes HTML in which every text is escaped: markup is a `&'static str`, so text that came from outside cannot become any.

use std::fmt::Display;

/// A growing piece of HTML.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, escaped for element content and for quoted attributes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// Adds a number or another thing whose text is ours; escaped all the same.
    pub(super) fn show(&mut self, thing: impl Display) -> &mut Self {
        self.text(&thing.to_string())
    }

    /// What was written.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// JSON that can stand inside `<script type="application/json">`: no `<`, so neither an end tag nor a comment can begin in it.
pub(super) fn json_for_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("\"><script>alert('&')</script>").raw("\">").show(3).raw("</p>");
        assert_eq!(
            html.finish(),
            "<p title=\"&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\">3</p>"
        );
    }

    #[test]
    fn json_in_a_script_block_stays_in_it_and_stays_the_same() {
        let value = serde_json::json!({"a": "</script><!--&"});
        let text = json_for_script(&value.to_string());
        assert!(!text.contains(['<', '>', '&']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
