//! Restoring into schemas of a database that is there already.
//!
//! What is created is recorded before it is: a schema of our own lists, per restore, the schemas that weren't
//! there (these are ours, and dropped by a second run) and those that were there empty (a second run finds them
//! as it left them: not empty, and is refused; nothing in them is ever dropped).

use std::collections::BTreeSet;

use super::database::RestoreId;
use super::error::TargetError;
use crate::format::relation::quote_identifier;
use crate::source::connection::Session;

/// Our schema's name. It is gone when the last restore into this database has ended.
const RECORD_SCHEMA: &str = "vouchsafe_restore";

/// What a schema holds, for messages: `None` if nothing but members of extensions.
///
/// # Errors
/// A failed query.
pub(super) async fn content(session: &Session, schema: &str) -> Result<Option<String>, TargetError> {
    let rows = session
        .client()
        .query(
            "SELECT pg_describe_object(d.classid, d.objid, 0)
               FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
              WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = $1::text::name AND d.deptype = 'n'
                AND d.classid NOT IN ('pg_extension'::regclass, 'pg_default_acl'::regclass)
                AND NOT EXISTS (SELECT FROM pg_depend e
                                 WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
              ORDER BY 1 LIMIT 4",
            &[&schema],
        )
        .await
        .map_err(|error| session.error(format!("looking into schema {schema:?}"), error))?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut names: Vec<String> = rows.iter().take(3).map(|row| row.get(0)).collect();
    if rows.len() > 3 {
        names.push("more".into());
    }
    Ok(Some(names.join(", ")))
}

/// Schemas that a restore may fill.
#[derive(Debug)]
pub struct ClaimedSchemas {
    id: RestoreId,
    created: BTreeSet<String>,
}

impl ClaimedSchemas {
    /// Makes sure that `schemas` are absent or empty, and records which of them this restore will create. What a
    /// killed run of the same restore had created is dropped first. The [`super::Fence`] of the database must be
    /// held.
    ///
    /// # Errors
    /// [`TargetError::SchemaNotEmpty`]; [`TargetError::Session`] if the server refuses.
    pub async fn claim(
        session: &Session,
        schemas: &BTreeSet<String>,
        id: &RestoreId,
    ) -> Result<Self, TargetError> {
        let record = format!("{RECORD_SCHEMA}.created");
        session
            .run(
                "making the record of what is restored",
                &format!(
                    "SET client_min_messages = error;
                     CREATE SCHEMA IF NOT EXISTS {RECORD_SCHEMA};
                     CREATE TABLE IF NOT EXISTS {record} (restore text, schema text, PRIMARY KEY (restore, schema));
                     COMMENT ON SCHEMA {RECORD_SCHEMA} IS 'what vouchsafe restores are creating in this database'"
                ),
            )
            .await?;
        let doing = "recording what is restored";
        let query = format!("SELECT schema FROM {record} WHERE restore = $1");
        let rows = session.client().query(&query, &[&id.as_str()]).await;
        let earlier: Vec<String> =
            rows.map_err(|error| session.error(doing, error))?.iter().map(|row| row.get(0)).collect();
        for schema in &earlier {
            let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", quote_identifier(schema));
            session.run(&format!("dropping schema {schema:?} of a killed run of this restore"), &sql).await?;
        }
        let mut created = BTreeSet::new();
        for schema in schemas {
            if let Some(objects) = content(session, schema).await? {
                Self { id: id.clone(), created }.forget(session).await?;
                return Err(TargetError::SchemaNotEmpty { schema: schema.clone(), objects });
            }
            let there = session
                .client()
                .query_opt("SELECT FROM pg_namespace WHERE nspname = $1::text::name", &[schema])
                .await;
            if there.map_err(|error| session.error(doing, error))?.is_none() {
                created.insert(schema.clone());
            }
        }
        let names: Vec<&String> = created.iter().collect();
        // One statement: either all of it is recorded, or none.
        let insert = format!(
            "WITH gone AS (DELETE FROM {record} WHERE restore = $1 AND schema <> ALL ($2::text[]))
             INSERT INTO {record} SELECT $1, s FROM unnest($2::text[]) AS u (s) ON CONFLICT DO NOTHING"
        );
        let recorded = session.client().execute(&insert, &[&id.as_str(), &names]).await;
        recorded.map_err(|error| session.error(doing, error))?;
        Ok(Self { id: id.clone(), created })
    }

    /// The schemas that this restore creates; the others were there, empty.
    #[must_use]
    pub fn created(&self) -> &BTreeSet<String> {
        &self.created
    }

    /// Ends the claim, when the restore has succeeded: the record of it goes, and our schema with the last one.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn settle(self, session: &Session) -> Result<(), TargetError> {
        self.forget(session).await
    }

    async fn forget(self, session: &Session) -> Result<(), TargetError> {
        let doing = "removing the record of what was restored";
        let delete = format!("DELETE FROM {RECORD_SCHEMA}.created WHERE restore = $1");
        session
            .client()
            .execute(&delete, &[&self.id.as_str()])
            .await
            .map_err(|error| session.error(doing, error))?;
        // Under an exclusive lock, so that no other restore records anything between the look and the drop.
        let sql = format!(
            "DO $$ BEGIN
               LOCK TABLE {RECORD_SCHEMA}.created IN ACCESS EXCLUSIVE MODE;
               IF NOT EXISTS (SELECT FROM {RECORD_SCHEMA}.created) THEN DROP SCHEMA {RECORD_SCHEMA} CASCADE; END IF;
             END $$"
        );
        Ok(session.run(doing, &sql).await?)
    }
}
