//! Which locality a table's rows belong to: the endpoint's own, or what a placement rule says.

use std::collections::BTreeSet;

use super::locality::Locality;
use crate::format::QualifiedName;

/// What becomes of tables that no rule matches, when there is more than one locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unplaced {
    /// The plan fails and names them: rows must not end in a place that nobody chose.
    #[default]
    Fail,
    /// They go to the default destination.
    Default,
}

/// One rule: tables that match belong to a locality. The first match wins.
#[derive(Clone, Debug)]
pub struct PlacementRule<P> {
    /// Its name, for messages.
    pub name: String,
    /// Patterns of tables.
    pub tables: Vec<P>,
    /// Roots whose partitions belong there.
    pub partitions_of: Vec<QualifiedName>,
    /// The locality.
    pub locality: Locality,
}

/// A table as placement sees it.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Its name.
    pub name: &'a QualifiedName,
    /// Root of its partition tree.
    pub root: Option<&'a QualifiedName>,
}

/// Tables that no rule places.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no placement rule matches {}{}", names.join(", "), if *more > 0 { format!(" and {more} more") } else { String::new() })]
pub struct UnplacedTables {
    names: Vec<String>,
    more: usize,
}

/// Most names that an error lists: enough to see the pattern.
const NAMED_AT_MOST: usize = 10;

/// The locality of each table, in order; `None` is the default destination.
///
/// Without rules every table belongs to `endpoint`, the locality of its server.
///
/// # Errors
/// [`UnplacedTables`] if a table has no place, there are rules, and `unplaced` is [`Unplaced::Fail`].
pub fn place<'a, P>(
    tables: &'a [Placed<'a>],
    rules: &'a [PlacementRule<P>],
    matches: impl Fn(&P, &QualifiedName) -> bool,
    unplaced: Unplaced,
    endpoint: Option<&'a Locality>,
) -> Result<Vec<Option<&'a Locality>>, UnplacedTables> {
    if rules.is_empty() {
        return Ok(vec![endpoint; tables.len()]);
    }
    let mut nowhere = BTreeSet::new();
    let localities = tables.iter().map(|table| {
        let rule = rules.iter().find(|rule| {
            rule.tables.iter().any(|pattern| matches(pattern, table.name))
                || table.root.is_some_and(|root| rule.partitions_of.contains(root))
        });
        match (rule, unplaced) {
            (Some(rule), _) => Some(&rule.locality),
            (None, Unplaced::Default) => None,
            (None, Unplaced::Fail) => {
                nowhere.insert(table.name);
                None
            }
        }
    });
    let localities = localities.collect();
    if nowhere.is_empty() {
        return Ok(localities);
    }
    let names = nowhere.iter().take(NAMED_AT_MOST).map(ToString::to_string).collect();
    Err(UnplacedTables { names, more: nowhere.len().saturating_sub(NAMED_AT_MOST) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(table: &str, locality: &str) -> PlacementRule<String> {
        PlacementRule {
            name: table.into(),
            tables: vec![table.into()],
            partitions_of: vec![QualifiedName::new("s", "root")],
            locality: locality.parse().unwrap(),
        }
    }

    #[test]
    fn the_first_match_wins_and_the_rest_is_named() {
        let (a, b, leaf) =
            (QualifiedName::new("s", "a"), QualifiedName::new("s", "b"), QualifiedName::new("s", "leaf"));
        let root = QualifiedName::new("s", "root");
        let tables = [
            Placed { name: &a, root: None },
            Placed { name: &leaf, root: Some(&root) },
            Placed { name: &b, root: None },
        ];
        let rules = [rule("a", "region=eu"), rule("a", "region=us")];
        let matches = |pattern: &String, name: &QualifiedName| *pattern == name.name;
        let error = place(&tables, &rules, matches, Unplaced::Fail, None).unwrap_err();
        assert_eq!(error.to_string(), "no placement rule matches s.b");
        let placed = place(&tables, &rules, matches, Unplaced::Default, None).unwrap();
        let texts: Vec<_> = placed.iter().map(|it| it.map(ToString::to_string)).collect();
        assert_eq!(texts, [Some("region=eu".into()), Some("region=eu".into()), None]);
    }
}
