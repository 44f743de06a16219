//! Plain tables without borders or colours, as in `docker ps`.

use std::fmt::Display;

use comfy_table::{ContentArrangement, Table, presets};

/// A whole table, as wide as it needs to be; its last character ends a line.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head)
        .add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The columns of a table whose rows come one by one: each has a least width.
pub(crate) struct Columns<const N: usize> {
    pub(crate) head: [&'static str; N],
    pub(crate) widths: [usize; N],
}

impl<const N: usize> Columns<N> {
    pub(crate) fn header(&self) -> String {
        self.line(self.head)
    }

    pub(crate) fn row(&self, cells: &[String; N]) -> String {
        self.line(cells.each_ref().map(String::as_str))
    }

    fn line(&self, cells: [&str; N]) -> String {
        let cells = cells.iter().zip(self.widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("   ").trim_end().to_owned() + "\n"
    }
}

/// What is there, or a dash.
pub(crate) fn dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// What is there, with commas, or a dash.
pub(crate) fn list<T: Display>(values: &[T]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.join(",")
}
