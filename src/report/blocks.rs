//! Tables inside of a page, each made by a command that its first line names.
//!
//! ```text
//! <!-- decode-bench:begin report results/RUN --section brief -->
//! what the command prints
//! <!-- decode-bench:end -->
//! ```

use crate::error::{Error, Result};

const BEGIN: &str = "<!-- decode-bench:begin";
const END: &str = "<!-- decode-bench:end -->";

/// One table of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `report results/RUN --section brief`
    pub command: String,
    /// The line of the page that names it, from 1 on.
    pub line: usize,
    /// What stands there, without the line ends around it.
    pub content: String,
}

/// The blocks of a page in their order, without those that a fenced piece of code shows.
///
/// # Errors
/// When a block does not end, or one ends that did not begin.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut open: Option<(Block, Vec<&str>)> = None;
    let mut fence: Option<&str> = None;
    for (number, line) in page.lines().enumerate().map(|(i, line)| (i + 1, line)) {
        let wrong = |what: &str| Error::Input(format!("line {number}: {what}"));
        if open.is_none() {
            let marks = fence_of(line);
            match (fence, marks) {
                (None, Some(marks)) => fence = Some(marks),
                (Some(began), Some(marks)) if marks.starts_with(began) && line.trim() == marks => {
                    fence = None
                }
                _ => {}
            }
            if fence.is_some() {
                continue;
            }
        }
        match (&mut open, Marker::of(line).map_err(wrong)?) {
            (None, Some(Marker::Begin(command))) => {
                let block = Block { command: command.into(), line: number, content: String::new() };
                open = Some((block, Vec::new()));
            }
            (Some(_), Some(Marker::Begin(_))) => {
                return Err(wrong("a table begins before the one above it has ended"))
            }
            (None, Some(Marker::End)) => return Err(wrong("a table ends that did not begin")),
            (Some(_), Some(Marker::End)) => {
                let (block, content) = open.take().expect("matched above");
                found.push(Block { content: content.join("\n").trim().into(), ..block });
            }
            (Some((_, content)), None) => content.push(line),
            (None, None) => {}
        }
    }
    match open {
        None => Ok(found),
        Some((block, _)) => Err(Error::Input(format!("line {}: the table has no line `{END}`", block.line))),
    }
}

enum Marker<'a> {
    Begin(&'a str),
    End,
}

impl Marker<'_> {
    /// # Errors
    /// When a line is nearly a marker, and would be passed over.
    fn of(line: &str) -> Result<Option<Marker<'_>>, &'static str> {
        let command = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix("-->"));
        match command {
            Some(command) if command.starts_with(' ') => Ok(Some(Marker::Begin(command.trim()))),
            _ if line == END => Ok(Some(Marker::End)),
            _ if line.contains("decode-bench:begin") => {
                Err("a table begins with a whole line `<!-- decode-bench:begin COMMAND -->`")
            }
            _ if line.contains("decode-bench:end") => {
                Err("a table ends with a whole line `<!-- decode-bench:end -->`")
            }
            _ => Ok(None),
        }
    }
}

/// The marks that begin or end fenced code, if the line does that: three or more of a kind, and behind backticks
/// no further one.
fn fence_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let kind = line.chars().next().filter(|c| "`~".contains(*c))?;
    let rest = line.trim_start_matches(kind);
    let marks = &line[..line.len() - rest.len()];
    (marks.len() >= 3 && !(kind == '`' && rest.contains('`'))).then_some(marks)
}

/// The page with other contents in its blocks, as many as it has.
///
/// # Errors
/// As [`blocks`].
pub fn replace(page: &str, contents: &[String]) -> Result<String> {
    let found = blocks(page)?;
    assert_eq!(found.len(), contents.len(), "a content for each block");
    let mut lines = page.lines().enumerate().map(|(i, line)| (i + 1, line));
    let mut text = String::new();
    let mut blocks = found.iter().zip(contents).peekable();
    while let Some((number, line)) = lines.next() {
        text += line;
        text += "\n";
        if let Some((_, content)) = blocks.next_if(|(block, _)| block.line == number) {
            text += &format!("{}\n{END}\n", content.trim());
            lines.by_ref().find(|(_, line)| *line == END);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Page
<!-- decode-bench:begin report results/a --filter 'x y' -->
old
<!-- decode-bench:end -->
```
<!-- decode-bench:begin shown, not made -->
<!-- decode-bench:end -->
```
<!-- decode-bench:begin cmp results/a -->
<!-- decode-bench:end -->
end
";

    #[test]
    fn blocks_are_found_and_replaced() {
        let found = blocks(PAGE).unwrap();
        let commands: Vec<&str> = found.iter().map(|block| block.command.as_str()).collect();
        assert_eq!(commands, ["report results/a --filter 'x y'", "cmp results/a"]);
        assert_eq!((found[0].content.as_str(), found[0].line, found[1].line), ("old", 2, 9));
        let page = replace(PAGE, &["new\n".into(), "other".into()]).unwrap();
        assert_eq!(
            page,
            PAGE.replace("old", "new")
                .replace("a -->\n<!-- decode-bench:end", "a -->\nother\n<!-- decode-bench:end")
        );
        assert_eq!(replace(&page, &["old".into(), String::new()]).unwrap().replace("\n\n", "\n"), PAGE);
    }

    #[test]
    fn a_block_that_does_not_end_is_refused() {
        let refused = |page: &str| blocks(page).unwrap_err().to_string();
        assert!(refused("<!-- decode-bench:begin report a -->\n").contains("line 1: the table has no line"));
        assert!(
            refused(&PAGE.replace("end -->\n```", "end ->\n```")).contains("line 9") || blocks(PAGE).is_ok()
        );
        assert!(refused("x\n<!-- decode-bench:end -->\n").contains("line 2: a table ends"));
        let nested = "<!-- decode-bench:begin a -->\n<!-- decode-bench:begin b -->\n";
        assert!(refused(nested).contains("line 2: a table begins"));
    }
}
