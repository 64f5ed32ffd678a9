//! A run as one page that needs nothing else: its findings, tables and provenance as HTML, and
//! what its plots show as JSON for a script in the page to draw. The numbers are those of
//! [`super::markdown`] and of [`crate::plot`]; the script only places and rounds them.
//!
//! [`page`] says what is on the page, `page.html` where it stands. The template engine escapes
//! every text it is given, so that a run may say what it likes.

mod facts;
mod page;
mod plots;
mod tables;

use minijinja::value::Serde;
use minijinja::{context, Environment};

use crate::error::{Error, Result};
use crate::record::Run;

/// The ending tells the engine what to escape for.
const NAME: &str = "page.html";

/// The page as one file: no reference leaves it. The same bytes every time.
///
/// # Errors
/// When the template does not fit the page.
pub fn html(run: &Run) -> Result<String> {
    let page = page::Page::of(run);
    let mut templates = Environment::new();
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
