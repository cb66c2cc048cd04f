//! The parts of a page as HTML.
//!
//! Names of cases, classes and folders are whatever their owners like: every text is escaped here, and a policy in the
//! page's head lets nothing but its own script run and nothing be loaded.

use std::fmt::Write;

use serde_json::Value;

use crate::files::sha256;
use crate::picture::{base64, escape};

const STYLE: &str = include_str!("page.css");
/// In a block of its own, so that nothing of it is seen outside.
const SCRIPT: &str = concat!(
    "'use strict';\n{\n",
    include_str!("page.js"),
    include_str!("viewer/volumes.js"),
    include_str!("viewer/drawing.js"),
    include_str!("viewer/viewer.js"),
    "}\n"
);

/// The number of a case in the viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(pub(super) usize);

/// A page that grows from top to bottom. All texts are escaped here; only figures come as they are.
pub(super) struct Page {
    title: String,
    sections: Vec<String>,
    body: String,
    /// What scripts read, below everything that is seen.
    data: String,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), sections: Vec::new(), body: String::new(), data: String::new() }
    }

    /// Begins a section that the list at the top links to.
    pub(super) fn section(&mut self, heading: &str) {
        self.sections.push(heading.to_owned());
        let number = self.sections.len();
        self.put(format_args!("<h2 id=\"section-{number}\">{}</h2>", escape(heading)));
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.put(format_args!("<h3>{}</h3>", escape(text)));
    }

    /// The sentence that a reader came for.
    pub(super) fn answer(&mut self, text: &str) {
        self.put(format_args!("<p class=\"answer\">{}</p>", escape(text)));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.put(format_args!("<p>{}</p>", spans(text)));
    }

    pub(super) fn quiet(&mut self, text: &str) {
        self.put(format_args!("<p class=\"quiet\">{}</p>", spans(text)));
    }

    pub(super) fn warning(&mut self, text: &str) {
        self.put(format_args!("<p class=\"warning\">{}</p>", spans(text)));
    }

    /// A list of sentences; what stands between backticks in them is code.
    pub(super) fn list(&mut self, items: &[String]) {
        let items: String = items.iter().map(|item| format!("<li>{}</li>\n", spans(item))).collect();
        self.put(format_args!("<ul>\n{items}</ul>"));
    }

    /// Cases by name, each with words and a link to where it is shown.
    pub(super) fn cases(&mut self, cases: &[(String, String, Option<Link>)]) {
        let item = |(name, words, link): &(String, String, Option<Link>)| {
            format!("<li>{}: {}</li>\n", linked(name, *link), escape(words))
        };
        self.put(format_args!("<ul>\n{}</ul>", cases.iter().map(item).collect::<String>()));
    }

    /// A table; the first `names` columns hold words, the others numbers.
    pub(super) fn table(&mut self, heading: &[String], rows: &[Vec<String>], names: usize) {
        self.table_of_cases(heading, rows, names, &vec![None; rows.len()]);
    }

    /// As [`Self::table`]; the first cell of every row leads to where the case is shown.
    pub(super) fn table_of_cases(
        &mut self,
        heading: &[String],
        rows: &[Vec<String>],
        names: usize,
        links: &[Option<Link>],
    ) {
        let class = |i: usize, cell: &str| match i < names {
            // Sentences are broken, numbers and names are not.
            true if cell.chars().count() > 48 => " class=\"name long\"",
            true => " class=\"name\"",
            false => "",
        };
        let row = |(cells, link): (&Vec<String>, &Option<Link>)| {
            let cell = |(i, cell): (usize, &String)| {
                let text = if i == 0 { linked(cell, *link) } else { escape(cell) };
                format!("<td{}>{text}</td>", class(i, cell))
            };
            format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
        };
        let head = |(i, cell): (usize, &String)| {
            let class = if i < names { " class=\"name\"" } else { "" };
            format!("<th scope=\"col\"{class}>{}</th>", escape(cell))
        };
        let head: String = heading.iter().enumerate().map(head).collect();
        let body: String = rows.iter().zip(links).map(row).collect();
        self.put(format_args!(
            "<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
        ));
    }

    /// A figure: an SVG element.
    pub(super) fn figure(&mut self, svg: &str, caption: &str) {
        let caption = escape(caption);
        self.put(format_args!("<figure class=\"chart\">{svg}<figcaption>{caption}</figcaption></figure>"));
    }

    /// A figure: the bytes of a PNG file.
    pub(super) fn image(&mut self, png: &[u8], caption: &str) {
        let data = base64(png);
        let caption = escape(caption);
        self.put(format_args!(
            "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{data}\"><figcaption>{caption}\
             </figcaption></figure>"
        ));
    }

    /// A text that is shown as it is once its title is clicked.
    pub(super) fn folded(&mut self, title: &str, text: &str) {
        self.put(format_args!(
            "<details><summary>{}</summary><pre>{}</pre></details>",
            escape(title),
            escape(text)
        ));
    }

    /// Bytes for a script, under a name of letters, digits and `-`.
    pub(super) fn data(&mut self, name: &str, bytes: &[u8]) {
        let _ = writeln!(self.data, "<script type=\"text/plain\" id=\"{name}\">{}</script>", base64(bytes));
    }

    /// The viewer of cases, with what its script reads.
    pub(super) fn viewer(&mut self, words: &Value) {
        self.put(format_args!(
            "<div id=\"viewer\" tabindex=\"0\"><noscript>The slices are drawn by a script in this page, which this browser \
             does not run.</noscript></div>"
        ));
        // `<` could end the element or begin a comment; inside JSON it only stands in texts.
        let words = words.to_string().replace('<', "\\u003c");
        let _ = writeln!(self.data, "<script type=\"application/json\" id=\"viewer-words\">{words}</script>");
    }

    pub(super) fn finish(self) -> String {
        let links: String = (1..=self.sections.len())
            .map(|n| format!("<a href=\"#section-{n}\">{}</a>", escape(&self.sections[n - 1])))
            .collect();
        let title = escape(&self.title);
        let digest = sha256(SCRIPT.as_bytes());
        let digest: Vec<u8> =
            (0..32).filter_map(|i| u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).ok()).collect();
        let allowed = format!(
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; \
             form-action 'none'",
            base64(&digest)
        );
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{allowed}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n\
             <nav>{links}</nav>\n{}{}<script>{SCRIPT}</script>\n</body></html>\n",
            self.body, self.data
        )
    }

    /// Writing to a string cannot fail.
    fn put(&mut self, part: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{part}");
    }
}

/// A name, leading to where the case is shown.
fn linked(name: &str, link: Option<Link>) -> String {
    match link {
        Some(Link(case)) => format!("<a href=\"#viewer\" data-case=\"{case}\">{}</a>", escape(name)),
        None => escape(name),
    }
}

/// A sentence, escaped; what stands between backticks is code.
fn spans(text: &str) -> String {
    let mut parts = text.split('`');
    let mut out = escape(parts.next().unwrap_or_default());
    while let (Some(code), rest) = (parts.next(), parts.next()) {
        match rest {
            Some(rest) => out += &format!("<code>{}</code>{}", escape(code), escape(rest)),
            // A single backtick is itself.
            None => out += &format!("`{}", escape(code)),
        }
    }
    out
}

/// A number with three decimals, a dash where there is none.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |v| format!("{v:.3}"))
}

/// Owned texts.
pub(super) fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless_wherever_they_stand() {
        let name = "<img src=x onerror=alert(1)>\"</script><script>alert(2)</script>`";
        let mut page = Page::new(name);
        page.section(name);
        page.text(name);
        page.list(&[name.to_owned()]);
        page.cases(&[(name.to_owned(), name.to_owned(), Some(Link(3)))]);
        page.table_of_cases(&[name.to_owned()], &[vec![name.to_owned()]], 1, &[Some(Link(0))]);
        page.viewer(&serde_json::json!({ "cases": [{ "name": name }] }));
        let html = page.finish();
        assert!(!html.contains("<img") && !html.contains("<script>alert"), "{html}");
        // The page's own script, and the words of the viewer.
        assert_eq!(html.matches("<script").count(), 2);
        assert_eq!(html.matches("</script").count(), 2);
        let words = html.split("id=\"viewer-words\">").nth(1).unwrap().split("</script>").next().unwrap();
        assert_eq!(serde_json::from_str::<Value>(words).unwrap()["cases"][0]["name"], name);
    }

    #[test]
    fn the_policy_allows_this_script_and_nothing_else() {
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("<!--"), "it would end early");
        let html = Page::new("t").finish();
        // echo -n | openssl dgst -sha256 -binary | base64 gives the like for a text.
        let allowed = html.split("script-src 'sha256-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(allowed.len(), 44);
        assert!(
            html.contains("default-src 'none'") && !html.contains("http://") && !html.contains("https://")
        );
    }

    #[test]
    fn code_stands_between_backticks() {
        assert_eq!(spans("do `a <b>` & go"), "do <code>a &lt;b&gt;</code> &amp; go");
        assert_eq!(spans("it`s"), "it`s");
    }
}
