//! Patterns of the API, as the source takes them: the same grammar.

use crate::api::pattern::Pattern;
use crate::source::{Selection, TablePattern};

/// Which tables are taken.
pub(super) fn converted(selection: &crate::api::Selection) -> Selection {
    let crate::api::Selection { include_schemas, include_tables, exclude_tables } = selection;
    Selection {
        include_schemas: include_schemas.iter().cloned().map(Into::into).collect(),
        include_tables: tables(include_tables),
        exclude_tables: tables(exclude_tables),
    }
}

/// Patterns of tables.
pub(super) fn tables(patterns: &[Pattern]) -> Vec<TablePattern> {
    patterns.iter().cloned().map(Into::into).collect()
}
