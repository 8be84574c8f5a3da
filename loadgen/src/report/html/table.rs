//! Accessible tables: every row and every column has a header.

use maud::{Markup, html};

use crate::report::tables::Table;

/// Writes a table that scrolls if it is too wide.
pub(super) fn table(table: &Table) -> Markup {
    let is_number = |column: usize| column >= table.names;
    html! {
        // Scrolling elements must be reachable by keyboard.
        div .scroll tabindex="0" role="region" aria-label=(table.caption) {
            table {
                caption { (table.caption) }
                thead {
                    tr {
                        @for (column, name) in table.head.iter().enumerate() {
                            @if name.is_empty() { td {} } @else {
                                th scope="col" .number[is_number(column)] { (name) }
                            }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                @if column == 0 { th scope="row" { (cell) } } @else {
                                    td .number[is_number(column)] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
