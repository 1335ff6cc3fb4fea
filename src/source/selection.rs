//! Which tables a backup takes: `include` and `exclude` of the API, parsed once.

use crate::format::relation::QualifiedName;

use super::error::SourceError;

/// `schema.table`, `*` in either part standing for any text. Names are compared as the server holds them,
/// without quotes: `public.*_us`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    schema: String,
    table: String,
}

impl TablePattern {
    /// Parses `schema.table`. A part in double quotes may hold dots; quotes inside are doubled.
    ///
    /// # Errors
    /// [`SourceError::InvalidEndpoint`] if it hasn't two parts.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let refuse = || SourceError::InvalidEndpoint {
            what: format!("{text:?} is no pattern of tables; schema.table is, with * for any text"),
        };
        let (schema, rest) = part(text).ok_or_else(refuse)?;
        let (table, rest) = part(rest.strip_prefix('.').ok_or_else(refuse)?).ok_or_else(refuse)?;
        if rest.is_empty() { Ok(Self { schema, table }) } else { Err(refuse()) }
    }

    /// Whether it stands for `name`.
    #[must_use]
    pub fn matches(&self, name: &QualifiedName) -> bool {
        glob(&self.schema, &name.schema) && glob(&self.table, &name.name)
    }
}

/// One part, unquoted, and what follows it.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        return (end > 0 && !text[..end].contains('"')).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                value.push('"');
            }
            '"' => return (!value.is_empty()).then_some((value, &quoted[at + 1..])),
            other => value.push(other),
        }
    }
    None
}

/// Whether `text` is `pattern`, whose `*` stand for any text. Linear: after a mismatch only the last `*` grows.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// The tables whose rows are taken. The default takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Schemas, `*` allowed; with `include_tables` empty and this empty: all.
    pub include_schemas: Vec<String>,
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
        (all || self.include_schemas.iter().any(|schema| glob(schema, &name.schema))
            || self.include_tables.iter().any(|pattern| pattern.matches(name)))
            && !self.exclude_tables.iter().any(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_both_parts() {
        let name = QualifiedName::new("public", "orders_us");
        for pattern in ["public.orders_us", "*.*", "*.*_us", "pub*.o*s*us", "\"public\".\"orders_us\""] {
            assert!(TablePattern::parse(pattern).unwrap().matches(&name), "{pattern}");
        }
        for pattern in ["public.orders", "*.*_u", "other.*", "public.orders_us*x", "*.us*"] {
            assert!(!TablePattern::parse(pattern).unwrap().matches(&name), "{pattern}");
        }
        let odd = QualifiedName::new("a.b", "c\"d");
        assert!(TablePattern::parse("\"a.b\".\"c\"\"d\"").unwrap().matches(&odd));
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
            include_schemas: vec!["sho*".into()],
            include_tables: vec![pattern("audit.log")],
            exclude_tables: vec![pattern("shop.tmp_*")],
        };
        assert!(selection.takes(&QualifiedName::new("shop", "orders")));
        assert!(selection.takes(&QualifiedName::new("audit", "log")));
        assert!(!selection.takes(&QualifiedName::new("audit", "other")));
        assert!(!selection.takes(&QualifiedName::new("shop", "tmp_1")));
        assert!(Selection::default().takes(&QualifiedName::new("any", "thing")));
    }

    proptest! {
        #[test]
        fn globs_agree_with_the_obvious_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
            fn naive(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
                    Some((byte, rest)) => text.first() == Some(byte) && naive(rest, &text[1..]),
                }
            }
            prop_assert_eq!(glob(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
