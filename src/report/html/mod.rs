//! A run as one page that needs nothing else: its findings, tables and provenance as HTML, and its
//! figures as the SVG of [`crate::plot`]. A script hides and shows curves, reads values from the
//! SVG's own data, and sorts tables.
//!
//! [`page`] says what is on the page, `page.html` where it stands. The template engine escapes
//! every text it is given, so that a run may say what it likes; the SVG comes with its texts escaped.

mod facts;
mod page;
mod tables;

use minijinja::value::Serde;
use minijinja::{context, Environment, UndefinedBehavior};

use crate::error::{Error, Result};
use crate::record::Run;

/// The ending tells the engine what to escape for.
const NAME: &str = "page.html";

/// The page as one file: no reference leaves it. The same bytes every time.
///
/// # Errors
/// When the template and the page do not agree on a name.
pub fn html(run: &Run) -> Result<String> {
    let page = page::Page::of(run)?;
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let rendered = templates.add_template(NAME, include_str!("page.html")).and_then(|()| {
        templates.get_template(NAME)?.render(context! {
            style => include_str!("page.css"),
            script => include_str!("page.js"),
            page => Serde(page),
        })
    });
    rendered.map_err(|e| Error::Input(format!("the page could not be made: {e}")))
}

#[cfg(test)]
mod tests;
