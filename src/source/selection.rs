//! Which tables a backup takes: `include` and `exclude` of the API, parsed once.

use super::error::SourceError;
use crate::api::pattern::Pattern;
use crate::format::relation::QualifiedName;

/// `schema.table`, in the API's own grammar: `*` for any text and `?` for one character, either of which stands
/// for itself in double quotes. Names are compared as the server holds them: `public.*_us`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern(Pattern);

impl TablePattern {
    /// Parses `schema.table`. A part in double quotes may hold anything; quotes inside are doubled.
    ///
    /// # Errors
    /// [`SourceError::InvalidEndpoint`] if it hasn't two parts.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Pattern::parse_table(text).map(Self).map_err(|error| SourceError::InvalidEndpoint {
            what: format!("{text:?} is no pattern of tables: {error}"),
        })
    }

    /// Whether it stands for `name`.
    #[must_use]
    pub fn matches(&self, name: &QualifiedName) -> bool {
        self.0.matches(&name.schema, &name.name)
    }
}

impl From<Pattern> for TablePattern {
    fn from(pattern: Pattern) -> Self {
        Self(pattern)
    }
}

/// A schema's name, in the same grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaPattern(Pattern);

impl SchemaPattern {
    /// Parses one part.
    ///
    /// # Errors
    /// [`SourceError::InvalidEndpoint`] if it is none.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Pattern::parse_schema(text).map(Self).map_err(|error| SourceError::InvalidEndpoint {
            what: format!("{text:?} is no pattern of schemas: {error}"),
        })
    }

    /// Whether it stands for `schema`.
    #[must_use]
    pub fn matches(&self, schema: &str) -> bool {
        self.0.matches_schema(schema)
    }
}

impl From<Pattern> for SchemaPattern {
    fn from(pattern: Pattern) -> Self {
        Self(pattern)
    }
}

impl std::fmt::Display for SchemaPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for TablePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The tables whose rows are taken. The default takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Schemas; with `include_tables` empty and this empty: all.
    pub include_schemas: Vec<SchemaPattern>,
    /// Tables, besides those of `include_schemas`.
    pub include_tables: Vec<TablePattern>,
    /// Tables that are left out all the same.
    pub exclude_tables: Vec<TablePattern>,
}

impl Selection {
    /// Whether the rows of `name` are taken.
    #[must_use]
    pub fn takes(&self, name: &QualifiedName) -> bool {
        let all = self.include_schemas.is_empty() && self.include_tables.is_empty();
        (all || self.include_schemas.iter().any(|schema| schema.matches(&name.schema))
            || self.include_tables.iter().any(|pattern| pattern.matches(name)))
            && !self.exclude_tables.iter().any(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_both_parts() {
        let name = QualifiedName::new("public", "orders_us");
        for pattern in [
            "public.orders_us",
            "*.*",
            "*.*_us",
            "pub*.o*s*us",
            "\"public\".\"orders_us\"",
            "public.order?_us",
        ] {
            assert!(TablePattern::parse(pattern).unwrap().matches(&name), "{pattern}");
        }
        for pattern in [
            "public.orders",
            "*.*_u",
            "other.*",
            "public.orders_us*x",
            "*.us*",
            "public.\"*\"",
            "public.orders_us?",
        ] {
            assert!(!TablePattern::parse(pattern).unwrap().matches(&name), "{pattern}");
        }
        let odd = QualifiedName::new("a.b", "c\"d");
        assert!(TablePattern::parse("\"a.b\".\"c\"\"d\"").unwrap().matches(&odd));
    }

    #[test]
    fn what_is_quoted_stands_for_itself() {
        let starred = QualifiedName::new("s", "a*b?");
        assert!(TablePattern::parse("s.\"a*b?\"").unwrap().matches(&starred));
        assert!(SchemaPattern::parse("\"x*\"").unwrap().matches("x*"));
        assert!(!SchemaPattern::parse("\"x*\"").unwrap().matches("xy"));
        assert!(SchemaPattern::parse("x?").unwrap().matches("xy"));
    }

    #[test]
    fn patterns_without_two_parts_are_refused() {
        for text in ["", "orders", ".orders", "public.", "a.b.c", "\"a.b", "a\"b.c", "\"\".a"] {
            assert!(TablePattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn exclusion_beats_inclusion() {
        let pattern = |text| TablePattern::parse(text).unwrap();
        let selection = Selection {
            include_schemas: vec![SchemaPattern::parse("sho*").unwrap()],
            include_tables: vec![pattern("audit.log")],
            exclude_tables: vec![pattern("shop.tmp_*")],
        };
        assert!(selection.takes(&QualifiedName::new("shop", "orders")));
        assert!(selection.takes(&QualifiedName::new("audit", "log")));
        assert!(!selection.takes(&QualifiedName::new("audit", "other")));
        assert!(!selection.takes(&QualifiedName::new("shop", "tmp_1")));
        assert!(Selection::default().takes(&QualifiedName::new("any", "thing")));
    }
}
