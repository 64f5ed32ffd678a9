//! A table of words and numbers, for Markdown or a terminal.

use crate::harmless::markdown_cell;

pub struct TextTable {
    pub header: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    /// Columns of words, which begin at the left; the others are numbers.
    pub words: &'static [usize],
}

impl TextTable {
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let escaped = |row: &Vec<String>| row.iter().map(|cell| markdown_cell(cell)).collect();
        let header = self.header.iter().map(|cell| cell.to_string()).collect();
        let rule = (0..self.header.len())
            .map(|i| if self.words.contains(&i) { ":--" } else { "--:" }.to_string())
            .collect();
        let rows: String = self.rows.iter().map(|row| line(escaped(row))).collect();
        line(header) + &line(rule) + &rows
    }

    /// Columns as wide as their widest cell.
    pub fn aligned(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([self.header[i].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
                match self.words.contains(&i) {
                    true => format!("{cell:<width$}"),
                    false => format!("{cell:>width$}"),
                }
            });
            format!("  {}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
        };
        let header: Vec<String> = self.header.iter().map(|cell| cell.to_string()).collect();
        line(&header) + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }
}
