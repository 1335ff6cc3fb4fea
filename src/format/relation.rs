//! What is known of a table, and the pieces it is exported in: the vocabulary of plans, tickets and receipts.

use serde::{Deserialize, Serialize};

pub use super::identifier::quote_identifier;
use super::identifier::shown_identifier;

/// Schema and name of a relation, as the server holds them: unquoted, in any script.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualifiedName {
    /// Schema.
    pub schema: String,
    /// Name within the schema.
    pub name: String,
}

impl QualifiedName {
    /// The name of `name` in `schema`.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// As SQL: both parts quoted always, so that no list of keywords has to agree with a server's.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// For people: each part quoted where PostgreSQL would.
impl std::fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", shown_identifier(&self.schema), shown_identifier(&self.name))
    }
}

/// How rows are written: PostgreSQL's COPY formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CopyFormat {
    /// `FORMAT binary`, where every column's type is built in, has send and receive functions and is no `reg*`.
    Binary,
    /// `FORMAT text` otherwise.
    Text,
}

impl CopyFormat {
    /// The word of COPY's `FORMAT` option.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
        }
    }
}

/// The piece of a table that one ticket exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SpanRange {
    /// All of it.
    Whole,
    /// Heap blocks `from..to`; the first and the last span of a table are open-ended, for blocks that were
    /// added after the size was read.
    Blocks {
        /// First block; absent in the first span.
        from: Option<u32>,
        /// Block after the last; absent in the last span.
        to: Option<u32>,
    },
    /// Rows whose key lies in `from..to`, both as text literals of the column's type. NULL keys can't occur:
    /// only a not-null column of a unique index is taken.
    Keys {
        /// The column.
        column: String,
        /// Its type, as `format_type` writes it.
        of_type: String,
        /// First key; absent in the first span.
        from: Option<String>,
        /// Key after the last; absent in the last span.
        to: Option<String>,
    },
}

/// A table of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableFacts {
    /// Its name.
    pub name: QualifiedName,
    /// `pg_class.oid`, at the source.
    pub oid: u32,
    /// `pg_relation_filenode`: a rewrite changes it for good.
    pub relfilenode: u32,
    /// Columns in the order in which they are copied, by name; generated ones excluded.
    pub columns: Vec<String>,
    /// How its rows are copied.
    pub format: CopyFormat,
    /// Bytes of heap and TOAST, for ordering and progress.
    pub bytes: u64,
    /// Blocks of the heap when the snapshot had been taken.
    pub blocks: u32,
    /// Condition of `pg_extension.extcondition` if it is a configuration table of an extension: only those
    /// rows are data, and a restore puts them in the place of what CREATE EXTENSION makes. `Some("")`: all rows.
    pub extension_condition: Option<String>,
    /// Root of the partition tree, if it is a partition.
    pub partition_root: Option<QualifiedName>,
    /// Hash partition on a user-defined type: hashes differ after a restore, so its rows are loaded through
    /// the root, and the sum over the tree is compared.
    pub load_through_root: bool,
    /// Holds `reg*` columns, whose values may name indexes: loaded after the indexes.
    pub load_after_indexes: bool,
    /// `pg_class.relpersistence` is `u`.
    pub unlogged: bool,
}

impl TableFacts {
    /// The name under which rows are compared with a restored database's: the tree's root, where a row may lie in
    /// another leaf after a restore.
    #[must_use]
    pub fn compared_as(&self) -> &QualifiedName {
        match &self.partition_root {
            Some(root) if self.load_through_root => root,
            _ => &self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(QualifiedName::new("a\"b", "größe").quoted(), "\"a\"\"b\".\"größe\"");
    }

    #[test]
    fn a_name_is_shown_so_that_it_can_be_copied() {
        let shown = |schema, name| QualifiedName::new(schema, name).to_string();
        assert_eq!(shown("public", "events_2024"), "public.events_2024");
        assert_eq!(shown("Sales", "order"), "\"Sales\".\"order\"");
        assert_eq!(shown("a.b", "c\"d"), "\"a.b\".\"c\"\"d\"");
        assert_eq!(shown("public", "1st"), "public.\"1st\"");
        assert_eq!(shown("public", ""), "public.\"\"");
    }
}
