//! Answers for eyes (tables) and for programs (`--json`).

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::client::ApiError;

/// How a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Tables and sentences.
    Text,
    /// One JSON document.
    Json,
}

impl Form {
    /// From the `--json` flag.
    pub fn from_flag(json: bool) -> Form {
        if json { Form::Json } else { Form::Text }
    }

    /// Prints `value` as JSON, or as text through `text`.
    pub fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), ApiError> {
        let out = match self {
            Form::Json => serde_json::to_string_pretty(value).map_err(ApiError::Unexpected)?,
            Form::Text => text(value),
        };
        if !out.is_empty() {
            println!("{out}");
        }
        Ok(())
    }
}

/// A number of bytes for eyes: `1.5 GiB`.
pub fn bytes(n: u64) -> String {
    humansize::format_size(n, humansize::BINARY)
}

/// A table with a header and rows, without borders, as `ls` prints. An empty one says `none`.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.map(str::to_uppercase));
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(row);
    }
    if any { table.trim_fmt() } else { "none".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(table(["a", "b"], []), "none");
    }

    #[test]
    fn columns_line_up() {
        let text =
            table(["name", "n"], [["x".to_owned(), "1".to_owned()], ["longer".to_owned(), "2".to_owned()]]);
        let starts: Vec<_> = text.lines().map(|l| l.find(['N', '1', '2'])).collect();
        assert_eq!(text.lines().count(), 3);
        assert_eq!(starts[1], starts[2]);
    }
}
