//! A page that needs nothing from elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::published::Figure;

/// Where pictures go, beside the page.
const PLOTS: &str = "plots";

const STYLE: &str = "\
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#f6f7f9;color:#22262b;font:16px/1.55 system-ui,sans-serif}
main{max-width:1060px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:30px;line-height:1.2;margin:0 0 12px;letter-spacing:-.01em}
h2{font-size:22px;margin:56px 0 12px;padding-bottom:6px;border-bottom:2px solid #0072b2}
h3{font-size:17px;margin:32px 0 8px}
p{max-width:76ch;margin:8px 0 16px}
figure{margin:20px 0;padding:16px;background:#fff;border:1px solid #dde1e6;border-radius:8px}
figure svg{display:block;width:100%;height:auto}
figcaption{margin-top:8px;color:#59626d;font-size:14px}
.gallery{display:grid;grid-template-columns:1fr 1fr;gap:12px}
.scroll{overflow-x:auto;margin:16px 0;background:#fff;border:1px solid #dde1e6;border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:6px 12px;text-align:left;border-bottom:1px solid #eceff2}
td{white-space:nowrap}
th{font-weight:600;vertical-align:bottom;color:#59626d;background:#fafbfc}
tr:last-child td{border-bottom:0}
td.n{text-align:right;font-variant-numeric:tabular-nums}
th.n{text-align:right}
.published{border-left:3px solid #e69f00;padding:4px 16px;margin:16px 0;font-size:14px;background:#fffaf0}
.published p{margin:4px 0;font-weight:600}
.published ul{margin:4px 0 8px;padding-left:20px}
summary{cursor:pointer;color:#0072b2}
@media(max-width:700px){.gallery{grid-template-columns:1fr}}";

/// A page that grows from its top.
pub struct Page {
    text: String,
    pictures: Vec<(String, String)>,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Whether a cell holds a figure, which is set to the right.
fn is_figure(cell: &str) -> bool {
    let mut characters = cell.chars();
    cell == "–"
        || characters
            .next()
            .is_some_and(|c| c.is_ascii_digit() || c == '-')
}

impl Page {
    /// An empty one.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        let text = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n\
             <style>{STYLE}</style></head>\n<body><main>\n<h1>{title}</h1>\n"
        );
        Self {
            text,
            pictures: Vec::new(),
        }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        self.text += &format!("<h2>{}</h2>\n", escape(text));
    }

    /// A heading below a heading.
    pub fn subheading(&mut self, text: &str) {
        self.text += &format!("<h3>{}</h3>\n", escape(text));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.text += &format!("<p>{}</p>\n", escape(text));
    }

    /// A picture as wide as the page, `svg`, which is also written by that name.
    pub fn figure(&mut self, name: &str, svg: &str, caption: &str) {
        self.pictures.push((name.to_owned(), svg.to_owned()));
        let svg = scalable(svg);
        let caption = escape(caption);
        self.text += &format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>\n");
    }

    /// Pictures by name, two beside one another.
    pub fn gallery(&mut self, pictures: Vec<(String, String)>, caption: &str) {
        if pictures.is_empty() {
            return;
        }
        self.pictures.extend_from_slice(&pictures);
        let pictures: String = pictures.iter().map(|(_, svg)| scalable(svg)).collect();
        let caption = escape(caption);
        self.text += &format!(
            "<figure><div class=\"gallery\">{pictures}</div><figcaption>{caption}</figcaption></figure>\n"
        );
    }

    /// A table. Columns of figures alone are set to the right.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let figures: Vec<bool> = (0..head.len())
            .map(|column| {
                let mut cells = rows.iter().filter_map(|row| row.get(column));
                cells.all(|cell| is_figure(cell))
            })
            .collect();
        let class = |column: usize| match figures.get(column) {
            Some(true) => " class=\"n\"",
            _ => "",
        };
        self.text += "<div class=\"scroll\"><table><thead><tr>";
        for (n, cell) in head.iter().enumerate() {
            self.text += &format!("<th{}>{}</th>", class(n), escape(cell));
        }
        self.text += "</tr></thead><tbody>\n";
        for row in rows {
            self.text += "<tr>";
            for (n, cell) in row.iter().enumerate() {
                self.text += &format!("<td{}>{}</td>", class(n), escape(cell));
            }
            self.text += "</tr>\n";
        }
        self.text += "</tbody></table></div>\n";
    }

    /// Figures of others.
    pub fn published(&mut self, title: &str, figures: &[Figure]) {
        self.text += &format!("<div class=\"published\"><p>{}</p><ul>\n", escape(title));
        for Figure {
            source,
            what,
            value,
        } in figures
        {
            let (source, what, value) = (escape(source), escape(what), escape(value));
            self.text += &format!("<li>{source}, {what}: <b>{value}</b></li>\n");
        }
        self.text += "</ul></div>\n";
    }

    /// Content that opens when it is asked for.
    pub fn details(&mut self, title: &str, content: impl FnOnce(&mut Self)) {
        self.text += &format!("<details><summary>{}</summary>\n", escape(title));
        content(self);
        self.text += "</details>\n";
    }

    /// The page as text.
    pub fn finish(&self) -> String {
        format!("{}</main></body></html>\n", self.text)
    }

    /// Writes it to `file`, and its pictures to a directory beside that; where it is.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn write(&self, file: &Path) -> Result<PathBuf> {
        let save = |path: &Path, text: &str| {
            fs::write(path, text).with_context(|| format!("Cannot write {}", path.display()))
        };
        let plots = file.with_file_name(PLOTS);
        fs::create_dir_all(&plots).with_context(|| format!("Cannot make {}", plots.display()))?;
        for (name, picture) in &self.pictures {
            save(&plots.join(format!("{name}.svg")), picture)?;
        }
        save(file, &self.finish())?;
        Ok(file.to_owned())
    }
}

/// A picture that takes the width that it is given: its size is that of its view alone.
fn scalable(svg: &str) -> String {
    match svg.split_once("viewBox") {
        Some((_, rest)) => format!("<svg viewBox{rest}"),
        None => svg.to_owned(),
    }
}
