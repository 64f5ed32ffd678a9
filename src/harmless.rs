//! What others wrote, so that nothing which shows it obeys it: no terminal, no page, no spreadsheet.
//!
//! The strings of a run's files and the names of folders become lines ([`line()`]) where they are read; behind that, no text
//! has a character that a terminal acts on. What a page or a table would act on is taken care of where it is written:
//! HTML by its template engine, CSV's quotes by its writer, all else here.

use std::path::Path;

/// One line: every character that moves a cursor, ends a line, turns the direction of writing or cannot be seen is a
/// space.
pub fn line(text: &str) -> String {
    text.chars().map(|c| if acts(c) { ' ' } else { c }).collect()
}

/// Control characters, and those that Unicode calls format characters.
pub(crate) fn acts(c: char) -> bool {
    let format = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || format
}

/// A path as one line.
pub fn path(path: &Path) -> String {
    line(&path.display().to_string())
}

/// Words within a sentence: a line without what Markdown or HTML would take for markup.
pub fn words(text: &str) -> String {
    let plain = |c| match c {
        '<' | '>' | '`' | '|' | '*' | '&' => ' ',
        '[' => '(',
        ']' => ')',
        c => c,
    };
    line(text).chars().map(plain).collect()
}

/// Words that are no longer than a name needs to be.
pub fn name(text: &str) -> String {
    words(text).chars().take(80).collect()
}

/// The content of a Markdown cell, whatever it says: it shows as it is, and no link or entity begins in it.
pub fn markdown_cell(text: &str) -> String {
    let (text, mut cell) = (line(text), String::new());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let links = c == '(' && before == ']';
        let entity = c == '&' && chars.peek().is_some_and(|next| *next == '#' || next.is_alphanumeric());
        if links || entity || matches!(c, '|' | '\\' | '`' | '*' | '<') {
            cell.push('\\');
        }
        cell.push(c);
        before = c;
    }
    cell
}

/// A cell of CSV: a spreadsheet takes one that begins like this for a formula, and would run what a file from
/// elsewhere says; an apostrophe makes it text.
pub fn spreadsheet_cell(text: &str) -> String {
    let text = text.trim_start();
    match text.starts_with(['=', '+', '-', '@']) {
        true => format!("'{text}"),
        false => text.to_string(),
    }
}

/// Text or an attribute's value in XML.
pub fn xml(text: &str) -> String {
    line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Every string of a JSON value as one line, the names of its fields too.
pub(crate) fn lines_of(json: &mut serde_json::Value) {
    use serde_json::Value;
    match json {
        Value::String(text) => *text = line(text),
        Value::Array(values) => values.iter_mut().for_each(lines_of),
        Value::Object(fields) => {
            let taken = std::mem::take(fields);
            fields.extend(taken.into_iter().map(|(name, mut value)| {
                lines_of(&mut value);
                (line(&name), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn a_cell_shows_as_it_is() {
        assert_eq!(markdown_cell("a|b\n<i>&lt;"), "a\\|b \\<i>\\&lt;");
        assert_eq!(markdown_cell("a && b"), "a && b");
        assert_eq!(markdown_cell("1 [2, 3] µs, [x](y)"), "1 [2, 3] µs, [x]\\(y)");
        assert_eq!(words("[x](y) `z`\u{202e}"), "(x)(y)  z  ");
        assert_eq!(xml("\"<a>\" & \u{1b}[2J"), "&quot;&lt;a&gt;&quot; &amp;  [2J");
    }

    #[test]
    fn every_string_of_a_file_is_a_line() {
        let mut json = serde_json::json!({"a\u{1b}": ["b\n", {"c": "\u{2066}"}], "d": 1});
        lines_of(&mut json);
        assert_eq!(json, serde_json::json!({"a ": ["b ", {"c": " "}], "d": 1}));
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in "\\PC{0,8}.{0,8}[\u{0}-\u{1f}\u{7f}-\u{9f}\u{200b}-\u{2069}|<`*&\\[\\]]{0,8}") {
            for shown in [line(&text), words(&text), name(&text), markdown_cell(&text), xml(&text)] {
                prop_assert!(!shown.chars().any(acts), "{shown:?}");
            }
            prop_assert!(!words(&text).contains(['<', '>', '`', '|', '*', '&', '[', ']']));
            let cell = markdown_cell(&text);
            let bare = cell.replace("\\\\", "").replace("\\|", "").replace("\\`", "").replace("\\<", "");
            prop_assert!(!bare.contains(['|', '`', '<']), "{cell:?}");
        }

        #[test]
        fn no_cell_begins_a_formula(text in "[=+@ \t-]{0,4}.{0,8}") {
            let cell = spreadsheet_cell(&words(&text));
            prop_assert!(!cell.trim_start().starts_with(['=', '+', '-', '@']), "{cell:?}");
        }
    }
}
