//! Which tables are taken: include, less exclude.

use super::super::pattern::Pattern;
use super::super::refusal::Refusals;
use super::super::{Exclude, Include};
use super::parsed;

/// Which tables are taken: those that any include matches (all, if there is none), less those that any
/// exclude matches. Exclude wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Whole schemas to take.
    pub include_schemas: Vec<Pattern>,
    /// Tables to take.
    pub include_tables: Vec<Pattern>,
    /// Tables to leave out.
    pub exclude_tables: Vec<Pattern>,
}

impl Selection {
    /// Whether a table is taken. Names as the catalog holds them, unquoted.
    #[must_use]
    pub fn takes(&self, schema: &str, table: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches(schema, table));
        let everything = self.include_schemas.is_empty() && self.include_tables.is_empty();
        (everything || any(&self.include_schemas) || any(&self.include_tables)) && !any(&self.exclude_tables)
    }

    /// Whether everything is taken.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let Selection { include_schemas, include_tables, exclude_tables } = self;
        include_schemas.is_empty() && include_tables.is_empty() && exclude_tables.is_empty()
    }

    pub(super) fn parse(
        refusals: &mut Refusals,
        path: &str,
        include: Option<Include>,
        exclude: Option<Exclude>,
    ) -> Option<Self> {
        let nothing = include.as_ref().is_some_and(|i| i.schemas.is_empty() && i.tables.is_empty());
        if nothing {
            let hint = "leave include out to take everything";
            refusals.invalid(format!("{path}.include"), "names neither schemas nor tables", hint);
        }
        let Include { schemas, tables } = include.unwrap_or_default();
        let Exclude { tables: excluded } = exclude.unwrap_or_default();
        let include_schemas =
            patterns(refusals, &format!("{path}.include.schemas"), schemas, Pattern::parse_schema);
        let include_tables =
            patterns(refusals, &format!("{path}.include.tables"), tables, Pattern::parse_table);
        let exclude_tables =
            patterns(refusals, &format!("{path}.exclude.tables"), excluded, Pattern::parse_table);
        Some(Selection {
            include_schemas: include_schemas?,
            include_tables: include_tables?,
            exclude_tables: exclude_tables?,
        })
    }
}

/// Parses each text of a list; `None` if any is wrong, after looking at all.
pub(super) fn patterns<T, E: std::fmt::Display>(
    refusals: &mut Refusals,
    path: &str,
    texts: Vec<String>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<Vec<T>> {
    let hint =
        "write `schema.table`; `*` and `?` stand for other characters, double quotes for a name as it is";
    let each = texts.iter().enumerate();
    let parsed: Vec<Option<T>> =
        each.map(|(i, text)| parsed(refusals, &format!("{path}[{i}]"), parse(text), hint)).collect();
    parsed.into_iter().collect()
}
