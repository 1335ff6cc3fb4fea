//! Large objects: who owns them, and which ranges of them are exported together.
//!
//! `pg_dump --schema-only` carries nothing of them. Their pages are rows of `pg_largeobject`, read in the snapshot
//! by COPY as a table's are; `lo_get` asks for privileges on each object, which membership in
//! `pg_read_all_data` doesn't give.

use super::connection::Session;
use super::error::SourceError;
use super::reader::{CopyStream, Reader};
use super::target::{LargeObject, LargeObjectGrant};

/// Owner, privileges and comment of every large object, by OID.
///
/// # Errors
/// A failed query.
pub async fn list(session: &Session) -> Result<Vec<LargeObject>, SourceError> {
    let doing = "listing large objects";
    let rows = session
        .client()
        .query(
            "SELECT m.oid, o.rolname::text, m.lomacl IS NOT NULL, d.description,
                    coalesce(g.grantees, '{}'), coalesce(g.privileges, '{}'), coalesce(g.grantable, '{}')
               FROM pg_largeobject_metadata m
               JOIN pg_roles o ON o.oid = m.lomowner
               LEFT JOIN pg_description d
                 ON d.classoid = 'pg_largeobject'::regclass AND d.objoid = m.oid AND d.objsubid = 0
               LEFT JOIN LATERAL (
                    SELECT array_agg(r.rolname::text ORDER BY a.grantee, a.privilege_type) AS grantees,
                           array_agg(a.privilege_type ORDER BY a.grantee, a.privilege_type) AS privileges,
                           array_agg(a.is_grantable ORDER BY a.grantee, a.privilege_type) AS grantable
                      FROM aclexplode(m.lomacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee) g ON true
              ORDER BY m.oid",
            &[],
        )
        .await
        .map_err(|error| session.error(doing, error))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let grantees: Vec<Option<String>> = row.get(4);
            let privileges: Vec<String> = row.get(5);
            let grantable: Vec<bool> = row.get(6);
            let grants = grantees.into_iter().zip(privileges).zip(grantable);
            LargeObject {
                oid: row.get(0),
                owner: row.get(1),
                grants: row.get::<_, bool>(2).then(|| {
                    grants
                        .map(|((grantee, privilege), grantable)| LargeObjectGrant {
                            grantee,
                            privilege,
                            grantable,
                        })
                        .collect()
                }),
                comment: row.get(3),
            }
        })
        .collect())
}

/// Cuts the large objects into ranges of OIDs, ends included, of at least `target_bytes` each but for the last. An
/// object is never cut: one that is larger than the target makes a range of that size. Objects without a page
/// are in no range's rows, but in [`list`].
///
/// # Errors
/// [`SourceError::PrivilegesMissing`] if there are large objects and this role may not read `pg_largeobject`; a
/// failed query.
pub async fn ranges(session: &Session, target_bytes: u64) -> Result<Vec<(u32, u32)>, SourceError> {
    let doing = "measuring large objects";
    require_readable(session).await?;
    if !any(session).await? {
        return Ok(Vec::new());
    }
    let rows = session
        .client()
        // Of each object's pages only the count is asked for: the index tells, and no page is read.
        .query(
            "SELECT loid, count(*) * (current_setting('block_size')::int8 / 4)
               FROM pg_largeobject GROUP BY loid ORDER BY loid",
            &[],
        )
        .await
        .map_err(|error| session.error(doing, error))?;
    let sizes = rows.into_iter().map(|row| (row.get::<_, u32>(0), row.get::<_, i64>(1).unsigned_abs()));
    Ok(pack(sizes, target_bytes))
}

/// Joins neighbours, in ascending order, until a range holds `target` bytes.
fn pack(sizes: impl Iterator<Item = (u32, u64)>, target: u64) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    let mut room = 0;
    for (oid, bytes) in sizes {
        match ranges.last_mut() {
            Some(last) if room > 0 => last.1 = oid,
            _ => {
                ranges.push((oid, oid));
                room = target.max(1);
            }
        }
        room = u64::saturating_sub(room, bytes);
    }
    ranges
}

/// The GRANT that is missing to read large objects, if there are any.
pub(super) async fn missing_grant(session: &Session) -> Result<Option<String>, SourceError> {
    let row = session
        .client()
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)
                    AND NOT has_table_privilege('pg_largeobject', 'SELECT')",
            &[],
        )
        .await
        .map_err(|error| session.error("asking for large objects", error))?;
    let role = crate::format::relation::quote_identifier(session.user());
    Ok(row.get::<_, bool>(0).then(|| format!("GRANT SELECT ON pg_catalog.pg_largeobject TO {role}")))
}

/// Whether there are large objects: where there are none, nobody needs the right to read their pages.
pub(super) async fn any(session: &Session) -> Result<bool, SourceError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)";
    let row = session.client().query_one(sql, &[]).await;
    Ok(row.map_err(|error| session.error("asking for large objects", error))?.get(0))
}

async fn require_readable(session: &Session) -> Result<(), SourceError> {
    match missing_grant(session).await? {
        None => Ok(()),
        Some(grant) => {
            Err(SourceError::PrivilegesMissing { user: session.user().to_owned(), grants: vec![grant] })
        }
    }
}

impl Reader {
    /// Starts to read the pages of the large objects `from..=to`: rows of `(loid, pageno, data)` in binary COPY, in
    /// that order.
    ///
    /// # Errors
    /// A failed statement.
    pub async fn copy_large_objects(&self, from: u32, to: u32) -> Result<CopyStream, SourceError> {
        let sql = format!(
            "COPY (SELECT loid, pageno, data FROM pg_largeobject
                    WHERE loid BETWEEN '{from}'::oid AND '{to}'::oid ORDER BY loid, pageno)
               TO STDOUT (FORMAT binary)"
        );
        self.copy_by_index(&sql, format!("copying large objects {from} to {to}")).await
    }

    /// Pages of all large objects, counted by a sequential scan.
    ///
    /// # Errors
    /// A failed statement.
    pub async fn count_large_object_pages(&self) -> Result<u64, SourceError> {
        let doing = "counting pages of large objects";
        if !any(self.session()).await? {
            return Ok(0);
        }
        let row = self.session().client().query_one("SELECT count(*) FROM pg_largeobject", &[]).await;
        Ok(row.map_err(|error| self.session().error(doing, error))?.get::<_, i64>(0).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_are_joined_up_to_the_target() {
        let sizes = [(5, 10), (7, 10), (9, 50), (12, 1)];
        assert_eq!(pack(sizes.into_iter(), 20), [(5, 7), (9, 9), (12, 12)]);
        assert_eq!(pack(sizes.into_iter(), u64::MAX), [(5, 12)]);
        assert_eq!(pack(std::iter::empty(), 20), []);
    }

    proptest! {
        #[test]
        fn every_object_is_in_one_range(sizes: std::collections::BTreeMap<u32, u64>, target: u64) {
            let ranges = pack(sizes.clone().into_iter(), target);
            for oid in sizes.keys() {
                prop_assert_eq!(ranges.iter().filter(|(from, to)| (*from..=*to).contains(oid)).count(), 1);
            }
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
