//! Materialized views that held rows, in the order in which they can be refreshed.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::relation::QualifiedName;

use super::connection::Session;
use super::error::SourceError;

/// An object of the catalog: `(classid, objid)` of pg_depend.
type Object = (u32, u32);

/// The populated materialized views, each after those that it reads, directly, through views or through
/// functions whose body the server has parsed (`BEGIN ATOMIC`, since 14). What a function reads whose body is a
/// string, nobody knows.
///
/// # Errors
/// A failed query.
pub async fn populated(session: &Session) -> Result<Vec<QualifiedName>, SourceError> {
    let doing = "listing materialized views";
    let rows = session
        .client()
        .query(
            "SELECT c.tableoid, c.oid, n.nspname::text, c.relname::text, c.relispopulated
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'm' AND c.oid >= 16384
                AND NOT EXISTS (SELECT FROM pg_depend d
                                 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
              ORDER BY c.oid",
            &[],
        )
        .await
        .map_err(|error| session.error(doing, error))?;
    let views: BTreeMap<Object, (QualifiedName, bool)> = rows
        .into_iter()
        .map(|row| {
            let name = QualifiedName::new(row.get::<_, String>(2), row.get::<_, String>(3));
            ((row.get(0), row.get(1)), (name, row.get(4)))
        })
        .collect();
    if views.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session
        .client()
        .query(
            "SELECT 'pg_class'::regclass::oid, r.ev_class, d.refclassid, d.refobjid
               FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
              WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass) AND d.refobjid <> r.ev_class
                AND d.refobjid >= 16384
             UNION
             SELECT d.classid, d.objid, d.refclassid, d.refobjid
               FROM pg_depend d
              WHERE d.classid = 'pg_proc'::regclass AND d.refobjid >= 16384
                AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)",
            &[],
        )
        .await
        .map_err(|error| session.error(doing, error))?;
    let mut reads: BTreeMap<Object, BTreeSet<Object>> = BTreeMap::new();
    for row in rows {
        reads.entry((row.get(0), row.get(1))).or_default().insert((row.get(2), row.get(3)));
    }
    let ordered = order(views.keys().copied(), &reads);
    Ok(ordered
        .into_iter()
        .filter_map(|object| views.get(&object))
        .filter(|(_, populated)| *populated)
        .map(|(name, _)| name.clone())
        .collect())
}

/// Depth first, what is read before what reads it. Iterative: chains of views may be long.
fn order(wanted: impl Iterator<Item = Object>, reads: &BTreeMap<Object, BTreeSet<Object>>) -> Vec<Object> {
    let mut done = Vec::new();
    let mut seen = BTreeSet::new();
    for start in wanted {
        let mut stack = vec![(start, false)];
        while let Some((object, entered)) = stack.pop() {
            if entered {
                done.push(object);
            } else if seen.insert(object) {
                stack.push((object, true));
                stack.extend(reads.get(&object).into_iter().flatten().map(|read| (*read, false)));
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_comes_first() {
        let object = |oid| (1, oid);
        let reads = BTreeMap::from([
            (object(1), BTreeSet::from([object(9)])),
            (object(9), BTreeSet::from([object(5)])),
            (object(5), BTreeSet::from([object(7)])),
        ]);
        let ordered = order([1, 5, 7].into_iter().map(object), &reads);
        assert_eq!(ordered, [object(7), object(5), object(9), object(1)]);
    }
}
