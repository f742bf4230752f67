//! Tables for people, JSON and CSV for programs.

use clap::ValueEnum;
use comfy_table::{ContentArrangement, presets};
use serde_json::Value;

use crate::error::Result;
use crate::system::Table;

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum TableFormat {
    #[default]
    Table,
    Json,
    Csv,
}

/// The table as text, with a line end.
pub(super) fn render(table: &Table, format: TableFormat) -> Result<String> {
    match format {
        TableFormat::Table => Ok(for_people(table)),
        TableFormat::Json => for_programs(table),
        TableFormat::Csv => as_csv(table),
    }
}

fn for_people(table: &Table) -> String {
    let mut text = comfy_table::Table::new();
    text.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    text.set_header(&table.columns);
    for row in &table.rows {
        text.add_row(row.iter().map(|value| harmless(&cell(value))));
    }
    let lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Names and transcripts come from strangers, and a terminal obeys control characters.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => shown.push(' '),
            '\n' => shown.push('\n'),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// A list of objects, as most tools want it.
fn for_programs(table: &Table) -> Result<String> {
    let objects: Vec<Value> = table
        .rows
        .iter()
        .map(|row| Value::Object(table.columns.iter().cloned().zip(row.iter().cloned()).collect()))
        .collect();
    Ok(serde_json::to_string_pretty(&objects).map_err(anyhow::Error::from)? + "\n")
}

fn as_csv(table: &Table) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&table.columns).map_err(anyhow::Error::from)?;
    for row in &table.rows {
        writer.write_record(row.iter().map(cell)).map_err(anyhow::Error::from)?;
    }
    let bytes = writer.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_gives_no_orders_to_the_terminal() {
        let columns = vec!["text".to_owned()];
        let table = Table { columns, rows: vec![vec!["a\u{1b}[2Jb\u{9b}c\r\nd\tHäuser".into()]], truncated: false };
        let shown = render(&table, TableFormat::Table).unwrap();
        assert!(shown.contains("a\\u{1b}[2Jb\\u{9b}c\\r\n"), "{shown:?}");
        assert!(shown.contains("d Häuser"), "{shown:?}");
        let exact = render(&table, TableFormat::Csv).unwrap();
        assert!(exact.contains('\u{1b}'), "for programs it is as it was: {exact:?}");
    }
}
