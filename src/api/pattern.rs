//! Which tables a rule means: `shop.orders`, `*.*_us`, `"Odd.Schema".table`.
//!
//! Unquoted text stands for itself, without PostgreSQL's folding to lower case: names are compared as
//! the catalog holds them. Inside double quotes nothing is special, and `""` is one quote.

use std::fmt;

use super::bounds::MAX_IDENTIFIER;

/// Why a text is no pattern or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not `schema.table`.
    #[error("`{0}` is not `schema.table`; write `*.{0}` to mean every schema")]
    NoSchema(String),
    /// More dots than `schema.table` has.
    #[error("`{0}` has more than two parts; quote a name that holds a dot")]
    TooManyParts(String),
    /// A part with nothing in it.
    #[error("`{0}` has an empty part")]
    EmptyPart(String),
    /// A double quote without its end, or in the middle of a part.
    #[error("`{0}` has a double quote that doesn't enclose a whole part")]
    Quote(String),
    /// `*` or `?` where one table is meant.
    #[error("`{0}` means several tables, here one is named; quote a name that holds `*` or `?`")]
    Wildcard(String),
    /// A part longer than a PostgreSQL name, or with a NUL.
    #[error("`{0}` has a part that can't be a PostgreSQL name of at most 63 bytes")]
    NotAName(String),
}

/// One character or wildcard of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Glob {
    Literal(char),
    Any,
    One,
}

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part(Vec<Glob>);

impl Part {
    fn is_literal(&self) -> bool {
        self.0.iter().all(|g| matches!(g, Glob::Literal(_)))
    }

    /// Greedy matching with one place to go back to: at most the product of both lengths, which are
    /// bounded by [`MAX_IDENTIFIER`], so a hostile pattern costs nothing.
    fn matches(&self, name: &str) -> bool {
        let (globs, name): (&[Glob], Vec<char>) = (&self.0, name.chars().collect());
        let (mut g, mut n) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        while n < name.len() {
            match globs.get(g) {
                Some(Glob::Any) => {
                    back = Some((g, n));
                    g += 1;
                }
                Some(Glob::Literal(c)) if *c == name[n] => (g, n) = (g + 1, n + 1),
                Some(Glob::One) => (g, n) = (g + 1, n + 1),
                _ => match back {
                    Some((star, from)) => {
                        back = Some((star, from + 1));
                        (g, n) = (star + 1, from + 1);
                    }
                    None => return false,
                },
            }
        }
        globs[g..].iter().all(|g| *g == Glob::Any)
    }
}

fn parts(text: &str) -> Result<Vec<Part>, PatternError> {
    // The schema's bound keeps a refused text short where a schema was applied; this is for the rest.
    let said = || text.chars().take(300).collect::<String>();
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut globs = Vec::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => globs.push(Glob::Literal('"')),
                    Some('"') => break,
                    Some(c) => globs.push(Glob::Literal(c)),
                    None => return Err(PatternError::Quote(said())),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                globs.push(match c {
                    '"' => return Err(PatternError::Quote(said())),
                    '*' => Glob::Any,
                    '?' => Glob::One,
                    c => Glob::Literal(c),
                });
            }
        }
        let bytes: usize =
            globs.iter().map(|g| if let Glob::Literal(c) = g { c.len_utf8() } else { 1 }).sum();
        if globs.is_empty() {
            return Err(PatternError::EmptyPart(said()));
        }
        if bytes > MAX_IDENTIFIER || globs.contains(&Glob::Literal('\0')) {
            return Err(PatternError::NotAName(said()));
        }
        parts.push(Part(globs));
        match chars.next() {
            None => return Ok(parts),
            Some('.') if parts.len() < 2 => {}
            Some('.') => return Err(PatternError::TooManyParts(said())),
            Some(_) => return Err(PatternError::Quote(said())),
        }
    }
}

/// A pattern over schemas (one part) or over tables (`schema.table`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    schema: Part,
    table: Option<Part>,
}

impl Pattern {
    /// Parses `schema.table`.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse_table(text: &str) -> Result<Self, PatternError> {
        let mut found = parts(text)?.into_iter();
        match (found.next(), found.next()) {
            (Some(schema), Some(table)) => Ok(Pattern { text: text.into(), schema, table: Some(table) }),
            _ => Err(PatternError::NoSchema(text.into())),
        }
    }

    /// Parses a pattern for schema names.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse_schema(text: &str) -> Result<Self, PatternError> {
        let mut found = parts(text)?.into_iter();
        match (found.next(), found.next()) {
            (Some(schema), None) => Ok(Pattern { text: text.into(), schema, table: None }),
            _ => Err(PatternError::TooManyParts(text.into())),
        }
    }

    /// Whether the pattern takes `schema.table`; a pattern for schemas takes all their tables. Names as
    /// the catalog holds them, unquoted.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.matches(schema) && self.table.as_ref().is_none_or(|part| part.matches(table))
    }

    /// Whether the pattern takes the schema, or some table that could be in it.
    #[must_use]
    pub fn matches_schema(&self, schema: &str) -> bool {
        self.schema.matches(schema)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One table by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The schema as the catalog holds it, unquoted.
    pub schema: String,
    /// The table as the catalog holds it, unquoted.
    pub table: String,
}

impl Name {
    /// Parses `schema.table`, each part quoted or not, without wildcards.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let pattern = Pattern::parse_table(text)?;
        let literal = |part: &Part| -> Option<String> {
            let chars = part.0.iter().map(|g| if let Glob::Literal(c) = g { Some(*c) } else { None });
            chars.collect()
        };
        debug_assert!(pattern.table.is_some(), "parse_table gives two parts");
        match (literal(&pattern.schema), pattern.table.as_ref().and_then(literal)) {
            (Some(schema), Some(table)) => Ok(Name { schema, table }),
            _ => Err(PatternError::Wildcard(text.into())),
        }
    }
}

impl Pattern {
    /// Whether the pattern names exactly one schema or table.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.schema.is_literal() && self.table.as_ref().is_none_or(Part::is_literal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("*.*_us", "shop", "orders_us", true)]
    #[case("*.*_us", "shop", "orders_us2", false)]
    #[case("audit.*", "audit", "x", true)]
    #[case("audit.*", "audits", "x", false)]
    #[case("shop.order?", "shop", "orders", true)]
    #[case("shop.order?", "shop", "order", false)]
    #[case(r#""a.b"."*""#, "a.b", "*", true)]
    #[case(r#""a.b"."*""#, "a.b", "c", false)]
    #[case(r#"s."q""t""#, "s", "q\"t", true)]
    #[case("s.größe_*", "s", "größe_1", true)]
    #[case("*a*b*.*", "xxaxxbxx", "t", true)]
    fn matching(#[case] pattern: &str, #[case] schema: &str, #[case] table: &str, #[case] taken: bool) {
        assert_eq!(Pattern::parse_table(pattern).unwrap().matches(schema, table), taken);
    }

    #[rstest]
    #[case("orders", "write `*.orders`")]
    #[case("a.b.c", "more than two parts")]
    #[case("a.", "empty part")]
    #[case(".a", "empty part")]
    #[case(r#""a.b"#, "double quote")]
    #[case(r#"a"b.c"#, "double quote")]
    #[case(r#""a"b.c"#, "double quote")]
    #[case("", "empty part")]
    fn refused(#[case] pattern: &str, #[case] expected: &str) {
        let message = Pattern::parse_table(pattern).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_name_is_one_table() {
        let name = Name::parse(r#"shop."Order*s""#).unwrap();
        assert_eq!((name.schema.as_str(), name.table.as_str()), ("shop", "Order*s"));
        assert!(matches!(Name::parse("shop.*"), Err(PatternError::Wildcard(_))));
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*?]{1,6}", name in "[ab]{0,7}") {
            fn by_definition(p: &[u8], n: &[u8]) -> bool {
                match p.split_first() {
                    None => n.is_empty(),
                    Some((b'*', rest)) => (0..=n.len()).any(|i| by_definition(rest, &n[i..])),
                    Some((b'?', rest)) => !n.is_empty() && by_definition(rest, &n[1..]),
                    Some((c, rest)) => n.first() == Some(c) && by_definition(rest, &n[1..]),
                }
            }
            let parsed = Pattern::parse_schema(&pattern).unwrap();
            prop_assert_eq!(parsed.matches_schema(&name), by_definition(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in any::<String>()) {
            let _ = (Pattern::parse_table(&text), Pattern::parse_schema(&text), Name::parse(&text));
        }
    }
}
