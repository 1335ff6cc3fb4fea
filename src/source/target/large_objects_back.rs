//! Large objects, read again after a restore: their bytes, owners and privileges.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;

use super::archive::ArchiveOptions;
use super::error::TargetError;
use super::large_objects::LargeObject;
use crate::source::connection::Session;
use crate::source::large_objects::list;

/// OIDs that one statement names: some eleven bytes each, so it stays at about a hundred kilobytes.
const OIDS_PER_STATEMENT: usize = 10_000;

/// Whether the session may read pages as they lie; else there is [`super::PageWriter::comparing`].
///
/// # Errors
/// A failed query.
pub async fn may_read_pages(session: &Session) -> Result<bool, TargetError> {
    let sql = "SELECT has_table_privilege('pg_largeobject', 'SELECT')";
    let row = session.client().query_one(sql, &[]).await;
    Ok(row.map_err(|error| session.error("asking for large objects", error))?.get(0))
}

/// Streams of COPY BINARY of `(loid, pageno, data)`, one after the other, each given to `stream` piece by piece
/// and ended by `None`: all pages of the database, or those of `only`.
///
/// # Errors
/// A failed statement, or `stream`'s own.
pub async fn read_pages<E: From<TargetError>>(
    session: &Session,
    only: Option<&[u32]>,
    mut stream: impl FnMut(Option<&[u8]>) -> Result<(), E>,
) -> Result<(), E> {
    let doing = "reading large objects back";
    let mut conditions = Vec::new();
    match only {
        None => conditions.push(String::new()),
        Some(oids) => conditions.extend(oids.chunks(OIDS_PER_STATEMENT).map(|oids| {
            let oids = oids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            format!(" WHERE loid = ANY ('{{{oids}}}'::oid[])")
        })),
    }
    for condition in conditions {
        // A transaction, so that an error after the last row shows in the next statement.
        session.run(doing, "BEGIN READ ONLY").await.map_err(TargetError::from)?;
        let sql = format!(
            "COPY (SELECT loid, pageno, data FROM pg_largeobject{condition}) TO STDOUT (FORMAT binary)"
        );
        let failed = |error| E::from(TargetError::from(session.error(doing, error)));
        let mut rows = session.copy_out(&sql).await.map_err(failed)?;
        while let Some(bytes) = rows.try_next().await.map_err(failed)? {
            stream(Some(&bytes))?;
        }
        session.run(doing, "SELECT 1").await.map_err(TargetError::from)?;
        session.run(doing, "COMMIT").await.map_err(TargetError::from)?;
        stream(None)?;
    }
    Ok(())
}

/// What is known of an object besides its bytes, in a form that two servers agree on.
type Access = (Option<String>, Option<BTreeMap<(Option<String>, String), bool>>, Option<String>);

fn access(object: &LargeObject, options: ArchiveOptions) -> Access {
    let owner = (!options.no_owner).then(|| object.owner.clone());
    let mut grants = None;
    if let Some(known) = object.grants.as_ref().filter(|_| !options.no_privileges) {
        let mut all = BTreeMap::new();
        // Granted by two roles is granted, and passed on if either allows it.
        for grant in known {
            *all.entry((grant.grantee.clone(), grant.privilege.clone())).or_insert(false) |= grant.grantable;
        }
        grants = Some(all);
    }
    (owner, grants, object.comment.clone())
}

/// Compares owners, privileges and comments of `expected`, as far as `options` restore them, with what is there.
///
/// # Errors
/// [`TargetError::LargeObjectDiffers`] names the first that is missing or differs; a failed query.
pub async fn check_access(
    session: &Session,
    expected: &[LargeObject],
    options: ArchiveOptions,
) -> Result<(), TargetError> {
    let wanted: BTreeSet<u32> = expected.iter().map(|object| object.oid).collect();
    let found: BTreeMap<u32, Access> = (list(session).await?.iter())
        .filter(|object| wanted.contains(&object.oid))
        .map(|object| (object.oid, access(object, options)))
        .collect();
    for object in expected {
        if found.get(&object.oid) != Some(&access(object, options)) {
            return Err(TargetError::LargeObjectDiffers { oid: object.oid });
        }
    }
    Ok(())
}
