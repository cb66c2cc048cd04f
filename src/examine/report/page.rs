//! The parts of a page as HTML.

use std::fmt::Write;

use crate::picture::escape;

const STYLE: &str = "
:root{color-scheme:light}
*{box-sizing:border-box}
body{font:15px/1.5 Inter,'Helvetica Neue',Arial,sans-serif;color:#202124;background:#fff;margin:0 auto;
max-width:1240px;padding:24px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:20px;margin:40px 0 8px;padding-top:12px;border-top:2px solid #e1e3e6}
h3{font-size:16px;margin:28px 0 6px}
p{margin:6px 0;max-width:75ch}
nav{margin:8px 0 0}
nav a{margin-right:16px}
a{color:#0072b2}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;margin:6px 0}
th,td{padding:3px 10px;text-align:right;border-bottom:1px solid #e1e3e6;white-space:nowrap}
th{font-weight:600;border-bottom:1.5px solid #5f6368;position:sticky;top:0;background:#fff}
td.name,th.name{text-align:left}
tbody tr:hover{background:#f4f6f8}
figure{margin:10px 0}
figure svg,figure img{max-width:100%;height:auto}
figcaption,.quiet{color:#5f6368;font-size:13.5px}
.warning{border-left:4px solid #d55e00;background:#fdf3ec;padding:6px 12px;margin:10px 0}
details{margin:8px 0}
summary{cursor:pointer;color:#0072b2}
pre{background:#f4f6f8;padding:10px;overflow-x:auto;font-size:12.5px}
@media print{body{max-width:none}h2{break-before:auto}figure,table{break-inside:avoid}}
";

/// A page that grows from top to bottom. All texts are escaped here; only figures come as they are.
pub(super) struct Page {
    title: String,
    sections: Vec<String>,
    body: String,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), sections: Vec::new(), body: String::new() }
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

    pub(super) fn text(&mut self, text: &str) {
        self.put(format_args!("<p>{}</p>", escape(text)));
    }

    pub(super) fn quiet(&mut self, text: &str) {
        self.put(format_args!("<p class=\"quiet\">{}</p>", escape(text)));
    }

    pub(super) fn warning(&mut self, text: &str) {
        self.put(format_args!("<p class=\"warning\">{}</p>", escape(text)));
    }

    /// A table; the first `names` columns hold words, the others numbers.
    pub(super) fn table(&mut self, heading: &[String], rows: &[Vec<String>], names: usize) {
        let row = |cells: &[String], tag: &str| {
            let cell = |(i, cell): (usize, &String)| {
                let class = if i < names { " class=\"name\"" } else { "" };
                format!("<{tag}{class}>{}</{tag}>", escape(cell))
            };
            format!("<tr>{}</tr>", cells.iter().enumerate().map(cell).collect::<String>())
        };
        let body: String = rows.iter().map(|cells| row(cells, "td") + "\n").collect();
        self.put(format_args!(
            "<div class=\"wide\"><table><thead>{}</thead><tbody>\n{body}</tbody></table></div>",
            row(heading, "th")
        ));
    }

    /// A figure: an SVG element.
    pub(super) fn figure(&mut self, svg: &str, caption: &str) {
        self.put(format_args!("<figure>{svg}<figcaption>{}</figcaption></figure>", escape(caption)));
    }

    /// A figure: the bytes of a PNG file.
    pub(super) fn image(&mut self, png: &[u8], caption: &str) {
        let data = crate::picture::base64(png);
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

    pub(super) fn finish(self) -> String {
        let links: String = (1..=self.sections.len())
            .map(|n| format!("<a href=\"#section-{n}\">{}</a>", escape(&self.sections[n - 1])))
            .collect();
        let title = escape(&self.title);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n\
             <nav>{links}</nav>\n{}</body></html>\n",
            self.body
        )
    }

    /// Writing to a string cannot fail.
    fn put(&mut self, part: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{part}");
    }
}

/// A number with three decimals, a dash where there is none.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |v| format!("{v:.3}"))
}

/// Owned texts.
pub(super) fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}
