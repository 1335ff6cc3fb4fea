//! Patterns of the API, as those of the source. The source's know `*` only, and take it as a wildcard inside
//! quotes too: what would mean something else there is refused by name.

use super::super::Failure;
use crate::api::pattern::Pattern;
use crate::engine::EngineError;
use crate::source::{Selection, TablePattern};

/// Which tables are taken.
pub(super) fn converted(selection: &crate::api::Selection, path: &str) -> Result<Selection, Failure> {
    let crate::api::Selection { include_schemas, include_tables, exclude_tables } = selection;
    let schemas = include_schemas.iter().enumerate().map(|(position, pattern)| {
        let text = pattern.to_string();
        expressible(&text, &format!("{path}.include.schemas[{position}]"))?;
        // A schema's pattern is compared as it is, without quotes.
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Ok(unquoted.map_or_else(|| text.clone(), |text| text.replace("\"\"", "\"")))
    });
    Ok(Selection {
        include_schemas: schemas.collect::<Result<_, Failure>>()?,
        include_tables: tables(include_tables, &format!("{path}.include.tables"))?,
        exclude_tables: tables(exclude_tables, &format!("{path}.exclude.tables"))?,
    })
}

/// Patterns of tables, of the list at `path`.
pub(super) fn tables(patterns: &[Pattern], path: &str) -> Result<Vec<TablePattern>, Failure> {
    let tables = patterns.iter().enumerate().map(|(position, pattern)| {
        let text = pattern.to_string();
        expressible(&text, &format!("{path}[{position}]"))?;
        Ok(TablePattern::parse(&text).map_err(EngineError::from)?)
    });
    tables.collect()
}

fn expressible(text: &str, field: &str) -> Result<(), Failure> {
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            '?' if !quoted => {
                let hint = "write *, or one pattern for each table";
                return Err(super::not_built(field, &format!("? in {text}"), hint));
            }
            '*' if quoted => {
                let what = format!("a name that holds * itself, {text}");
                return Err(super::not_built(field, &what, "rename the table, or select its schema"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_source_would_take_otherwise_is_refused() {
        for (text, taken) in [
            ("*.*_us", true),
            ("shop.\"what?\"", true),
            ("\"a.b\".\"c\"\"d\"", true),
            ("shop.order?", false),
            ("shop.\"a*\"", false),
        ] {
            let pattern = Pattern::parse_table(text).unwrap();
            assert_eq!(tables(&[pattern], "tables").is_ok(), taken, "{text}");
        }
    }

    #[test]
    fn schemas_lose_their_quotes() {
        let schema = Pattern::parse_schema("\"a\"\"b\"").unwrap();
        let selection = crate::api::Selection { include_schemas: vec![schema], ..Default::default() };
        assert_eq!(converted(&selection, "spec").unwrap().include_schemas, ["a\"b"]);
    }
}
