//! Large objects: made, filled, read again and compared, then given to their owners.

use super::super::error::EngineError;
use super::super::verifier::LARGE_OBJECT_COLUMNS;
use super::content::Content;
use super::load::Loading;
use super::site::Site;
use super::{RestoreJob, options};
use crate::codec::RowHasher;
use crate::format::{CopyFormat, Fingerprint};
use crate::kill_point;
use crate::source::target::{LargeObject, PageWriter, large_objects, large_objects_back};
use crate::source::{Selection, Session};

/// The large objects that a restore takes, with the owners that they get: they belong to no table, so a selection
/// of tables leaves them out, and says so.
pub(super) fn chosen(job: &RestoreJob, content: &Content) -> Vec<LargeObject> {
    if job.schema_only || job.selection != Selection::default() {
        return Vec::new();
    }
    let mut objects = content.large_objects.clone();
    if let Some(owner) = &job.policy.owner {
        for object in &mut objects {
            let before = std::mem::replace(&mut object.owner, owner.clone());
            for grant in object.grants.iter_mut().flatten() {
                if grant.grantee.as_ref() == Some(&before) {
                    grant.grantee = Some(owner.clone());
                }
            }
        }
    }
    objects
}

/// Restores them, and proves it: `block_size` is the target's.
pub(super) async fn restore(
    loading: &Loading<'_>,
    site: &Site,
    session: &Session,
    block_size: u32,
) -> Result<(), EngineError> {
    let Loading { job, content, .. } = loading;
    let objects = chosen(job, content);
    if objects.is_empty() {
        return Ok(());
    }
    site.create_large_objects(session, &objects).await?;
    kill_point::passed("created", "large-objects");
    loading.large_objects(PageWriter::new(session, content.server.block_size)).await?;
    // While they still belong to the role that restores: an owner may have taken privileges from itself.
    if block_size == content.server.block_size && large_objects_back::may_read_pages(session).await? {
        compare_pages(content, site, session, &objects).await?;
    } else {
        loading.large_objects(PageWriter::comparing(session, content.server.block_size)).await?;
    }
    let mut access = options(job);
    access.no_owner &= job.policy.owner.is_none();
    large_objects::set_access_with(session, &objects, access).await?;
    large_objects_back::check_access(session, &objects, access).await?;
    kill_point::passed("restored", "large-objects");
    Ok(())
}

/// The fingerprint of all pages, as of a table's rows.
async fn compare_pages(
    content: &Content,
    site: &Site,
    session: &Session,
    objects: &[LargeObject],
) -> Result<(), EngineError> {
    let expected: Fingerprint = content.pages.iter().map(|span| span.fingerprint).sum();
    let oids: Vec<u32> = objects.iter().map(|object| object.oid).collect();
    // A new database has no others: whatever else is there would be a difference.
    let only = site.holds_others().then_some(&oids[..]);
    let hasher = || RowHasher::new(CopyFormat::Binary, LARGE_OBJECT_COLUMNS);
    let (mut current, mut found) = (hasher(), Fingerprint::default());
    large_objects_back::read_pages(session, only, |piece| {
        let malformed = |error| EngineError::codec("pages of large objects", error);
        match piece {
            Some(piece) => current.push(piece).map_err(malformed),
            None => {
                let totals = std::mem::replace(&mut current, hasher()).finish().map_err(malformed)?;
                found = found.plus(totals.fingerprint);
                Ok(())
            }
        }
    })
    .await?;
    if found == expected {
        return Ok(());
    }
    Err(EngineError::NotEqual(format!("pages of large objects: it has {found}, and the backup {expected}")))
}
