//! Columns that line up.

use std::fmt;

/// Rows of cells; the first row may be the heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    gap: usize,
}

impl Table {
    pub(crate) fn headed(heading: &[&str]) -> Table {
        Table { rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()], gap: 2 }
    }

    /// Without a heading, and with so many blanks between columns: Consul's lists of names and their details have six.
    pub(crate) fn plain(gap: usize) -> Table {
        Table { rows: Vec::new(), gap }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| tame(&cell)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for (at, row) in self.rows.iter().enumerate() {
            // As Consul's tables: every column but the last is filled up, also where nothing follows.
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column + 1 < columns { write!(f, "{cell:width$}{:gap$}", "", gap = self.gap)? } else { f.write_str(cell)? }
            }
            if at + 1 < self.rows.len() {
                f.write_str("\n")?;
            }
        }
        Ok(())
    }
}

/// Names and tags come from other hosts: a control character among them must not reach the terminal.
pub(crate) fn tame(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_the_last_is_not_filled() {
        let mut table = Table::headed(&["Node", "ID", "DC"]);
        table.row(["a-long-name".to_owned(), "1".to_owned(), String::new()]);
        table.row(["ü".to_owned(), "22".to_owned(), "dc1".to_owned()]);
        assert_eq!(table.to_string(), "Node         ID  DC\na-long-name  1   \nü            22  dc1");
    }

    #[test]
    fn a_control_character_does_not_reach_the_terminal() {
        let mut table = Table::plain(2);
        table.row(["\x1b[31mred".to_owned()]);
        assert_eq!(table.to_string(), "\u{fffd}[31mred");
    }

    #[test]
    fn a_table_without_rows_is_empty() {
        assert_eq!(Table::plain(2).to_string(), "");
    }
}
