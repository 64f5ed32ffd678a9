//! One kind of row, one CSV file: columns by name, in any order, further columns kept.

use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::files;

/// Some hundred times what the longest of this repository's runs have.
pub(super) const MOST_BYTES: u64 = 1 << 30;

/// A kind of row. An absent value is an empty cell.
pub(super) trait Row: Sized {
    const FILE: &'static str;
    const COLUMNS: &'static [&'static str];
    /// Those of them that files of earlier versions lack: read as empty.
    const ADDED: &'static [&'static str] = &[];

    /// One cell for each of [`Row::COLUMNS`].
    fn cells(&self) -> Vec<String>;
    fn from_cells(cells: &CsvCells<'_>) -> Result<Self, Bad>;
}

/// What is wrong with a row, and in which column.
pub(super) struct Bad {
    pub column: &'static str,
    pub what: String,
}

/// A row of a file, by column name.
pub(super) struct CsvCells<'a> {
    columns: &'static [&'static str],
    /// Where the column is in the file, parallel to `columns`.
    places: &'a [Option<usize>],
    record: &'a csv::StringRecord,
}

impl CsvCells<'_> {
    /// Whether the file has the column: those of earlier versions lack some.
    pub fn has(&self, column: &'static str) -> bool {
        self.columns.iter().position(|c| *c == column).is_some_and(|at| self.places[at].is_some())
    }

    /// The text in `column`, which must be one of [`Row::COLUMNS`].
    pub fn text(&self, column: &'static str) -> &str {
        let at = self.columns.iter().position(|c| *c == column).expect("a column of this table");
        self.places[at].map_or("", |place| &self.record[place])
    }

    pub fn parse<T: FromStr<Err: std::fmt::Display>>(&self, column: &'static str) -> Result<T, Bad> {
        self.text(column).parse().map_err(|e| Bad { column, what: format!("{e}") })
    }

    pub fn integer(&self, column: &'static str) -> Result<u64, Bad> {
        let text = self.text(column);
        let what = || format!("`{text}` is not a whole number from 0 to {}", u64::MAX);
        text.parse().map_err(|_| Bad { column, what: what() })
    }

    pub fn number(&self, column: &'static str) -> Result<f64, Bad> {
        let text = self.text(column);
        let finite = text.parse::<f64>().ok().filter(|x| x.is_finite());
        finite.ok_or_else(|| Bad { column, what: format!("`{text}` is not a finite number") })
    }

    /// `None` for an empty cell.
    pub fn optional<T>(
        &self,
        column: &'static str,
        get: impl Fn(&Self, &'static str) -> Result<T, Bad>,
    ) -> Result<Option<T>, Bad> {
        if self.text(column).is_empty() {
            return Ok(None);
        }
        get(self, column).map(Some)
    }
}

/// Columns that this version does not know: kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Their names, in the file's order.
    pub columns: Vec<String>,
    /// One entry per row of the table, each parallel to `columns`.
    pub rows: Vec<Vec<String>>,
}

pub(super) struct Table<R> {
    pub rows: Vec<R>,
    pub extra: Extra,
    /// Line number of a last line without its end, which is left out.
    pub unfinished_line: Option<usize>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Table { rows: Vec::new(), extra: Extra::default(), unfinished_line: None }
    }
}

/// Reads `folder/R::FILE`. A file that is absent, or has no header yet, is a table without rows.
pub(super) fn read<R: Row>(folder: &Path) -> Result<Table<R>> {
    let path = folder.join(R::FILE);
    let text = match files::read(&path, MOST_BYTES) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(Table::default()),
        other => other?,
    };
    let whole = finished(&text);
    let unfinished = whole < text.len();
    let lines = text[..whole].iter().filter(|b| **b == b'\n').count();
    let mut table = parse::<R>(&path, &text[..whole])?;
    table.unfinished_line = unfinished.then_some(lines + 1);
    Ok(table)
}

/// Bytes up to and with the last end of line.
pub(super) fn finished(text: &[u8]) -> usize {
    text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)
}

pub(super) fn parse<R: Row>(path: &Path, text: &[u8]) -> Result<Table<R>> {
    let mut table = Table::default();
    if text.is_empty() {
        return Ok(table);
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let header = reader.headers().map_err(|e| malformed(path, &e))?.clone();
    let places = places::<R>(path, &header)?;
    let others: Vec<usize> = (0..header.len()).filter(|i| !places.contains(&Some(*i))).collect();
    table.extra.columns = others.iter().map(|&i| header[i].to_string()).collect();
    for record in reader.records() {
        let record = record.map_err(|e| malformed(path, &e))?;
        let line = record.position().map_or(0, |p| p.line());
        check_width(path, line, &header, &record)?;
        let cells = CsvCells { columns: R::COLUMNS, places: &places, record: &record };
        let row = R::from_cells(&cells).map_err(|bad| at(path, line, bad))?;
        table.rows.push(row);
        table.extra.rows.push(others.iter().map(|&i| record[i].to_string()).collect());
    }
    Ok(table)
}

/// Where each of the table's columns is in the file.
pub(super) fn places<R: Row>(path: &Path, header: &csv::StringRecord) -> Result<Vec<Option<usize>>> {
    let wrong = |what: String| Error::Row { path: path.into(), line: 1, column: None, what };
    let place = |column: &&str| {
        let mut found = header.iter().enumerate().filter(|(_, name)| name == column).map(|(i, _)| i);
        match (found.next(), found.next()) {
            (Some(place), None) => Ok(Some(place)),
            (None, _) if R::ADDED.contains(column) => Ok(None),
            (None, _) => Err(wrong(format!("column `{column}` is missing"))),
            (_, Some(_)) => Err(wrong(format!("column `{column}` is there twice"))),
        }
    };
    let known = |name: &str| R::COLUMNS.iter().find(|c| **c != name && c.eq_ignore_ascii_case(name.trim()));
    if let Some((name, column)) = header.iter().find_map(|name| Some((name, known(name)?))) {
        return Err(wrong(format!("column `{name}` is nearly `{column}`, and would be ignored")));
    }
    R::COLUMNS.iter().map(place).collect()
}

fn check_width(path: &Path, line: u64, header: &csv::StringRecord, record: &csv::StringRecord) -> Result<()> {
    if record.len() == header.len() {
        return Ok(());
    }
    let column = header.get(record.len()).map(String::from);
    let what = format!("{} cells, and the header has {}", record.len(), header.len());
    Err(Error::Row { path: path.into(), line, column, what })
}

fn at(path: &Path, line: u64, Bad { column, what }: Bad) -> Error {
    Error::Row { path: path.into(), line, column: Some(column.into()), what }
}

pub(super) fn malformed(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, |p| p.line());
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8 text".to_string(),
        _ => error.to_string(),
    };
    Error::Row { path: path.into(), line, column: None, what }
}
