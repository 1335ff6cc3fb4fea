//! Restoring into schemas of a database that is there already.
//!
//! Nothing is dropped by its name: an application may have made something of that name meanwhile. A schema of our
//! own lists, per restore, the OIDs of what it made. A schema that wasn't there, and large objects, are listed in
//! the transaction that makes them. What `pg_restore` puts into a schema that was there empty is listed after
//! each step; a restore killed within that step finds the schema not empty, and is refused by name.

use std::collections::BTreeSet;
use std::time::Duration;

use super::database::RestoreId;
use super::error::TargetError;
use super::large_objects::{self, LargeObject};
use crate::format::relation::quote_identifier;
use crate::source::connection::Session;

/// Our schema's name. It is gone when the last restore into this database has ended.
const RECORD_SCHEMA: &str = "vouchsafe_restore";

/// A killed restore's sessions are ended, and looked for this often, for this long: a statement ends at the next
/// point where the server looks for interrupts.
const ENDING_PAUSE: Duration = Duration::from_millis(50);
const ENDING_TRIES: u32 = 1200;

/// Whoever gives a restore up is waited for: what somebody else has locked this long is named, and left.
const GIVING_UP_LOCK_TIMEOUT: &str = "10s";

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

/// Which of `schemas` the session's database has.
///
/// # Errors
/// A failed query.
pub async fn existing(
    session: &Session,
    schemas: &BTreeSet<String>,
) -> Result<BTreeSet<String>, TargetError> {
    let names: Vec<&String> = schemas.iter().collect();
    let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname::text = ANY ($1)";
    let rows = session.client().query(sql, &[&names]).await;
    let rows = rows.map_err(|error| session.error("looking for schemas", error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What a killed run of a restore has left, as far as it is recorded: [`ClaimedSchemas::claim`] drops it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Schemas that it made.
    pub created: BTreeSet<String>,
    /// Schemas that were there, empty, when it began.
    pub begun: BTreeSet<String>,
    /// Those of them that it has put something into, as far as that is recorded.
    pub filled: BTreeSet<String>,
    /// Large objects that it made.
    pub large_objects: BTreeSet<u32>,
}

impl Leftovers {
    /// Reads the record of restore `id`, if there is any. Nothing is touched.
    ///
    /// # Errors
    /// A failed query.
    pub async fn read(session: &Session, id: &RestoreId) -> Result<Self, TargetError> {
        let doing = "reading the record of what was restored";
        if !is_recorded(session).await? {
            return Ok(Self::default());
        }
        let sql = format!(
            "SELECT r.catalog = 'pg_namespace'::regclass, n.nspname::text, l.oid, r.object IS NULL
               FROM {} r
               LEFT JOIN pg_namespace n ON n.oid = r.schema
               LEFT JOIN pg_largeobject_metadata l ON l.oid = r.object AND r.catalog = 'pg_largeobject'::regclass
              WHERE r.restore = $1",
            record()
        );
        let rows = session.client().query(&sql, &[&id.as_str()]).await;
        let mut found = Self::default();
        for row in rows.map_err(|error| session.error(doing, error))? {
            let (is_schema, name, object): (bool, Option<String>, Option<u32>) =
                (row.get(0), row.get(1), row.get(2));
            match name {
                Some(name) if row.get(3) => drop(found.begun.insert(name)),
                Some(name) if is_schema => drop(found.created.insert(name)),
                Some(name) => drop(found.filled.insert(name)),
                None => found.large_objects.extend(object),
            }
        }
        Ok(found)
    }
}

/// Whether any restore records anything in this database.
async fn is_recorded(session: &Session) -> Result<bool, TargetError> {
    let there = session.client().query_one("SELECT to_regclass($1) IS NOT NULL", &[&record()]).await;
    Ok(there.map_err(|error| session.error("looking for the record of what was restored", error))?.get(0))
}

fn record() -> String {
    format!("{RECORD_SCHEMA}.created")
}

/// Schemas that a restore may fill.
#[derive(Debug)]
pub struct ClaimedSchemas {
    id: RestoreId,
    created: BTreeSet<String>,
    filled: BTreeSet<String>,
}

impl ClaimedSchemas {
    /// Makes sure that `schemas` are absent or empty, and makes those that are absent, each for the owner that
    /// `owner_of` says. What a killed run of the same restore has left is dropped first, its sessions ended. The
    /// [`super::Fence`] of the database must be held.
    ///
    /// # Errors
    /// [`TargetError::SchemaNotEmpty`]; [`TargetError::Session`] if the server refuses.
    pub async fn claim(
        session: &Session,
        schemas: &BTreeSet<String>,
        id: &RestoreId,
        owner_of: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TargetError> {
        end_sessions(session).await?;
        let sql = format!(
            "SET client_min_messages = error;
             CREATE SCHEMA IF NOT EXISTS {RECORD_SCHEMA};
             CREATE TABLE IF NOT EXISTS {} (restore text, catalog oid, object oid, schema oid);
             COMMENT ON SCHEMA {RECORD_SCHEMA} IS 'what vouchsafe restores are creating in this database'",
            record()
        );
        session.run("making the record of what is restored", &sql).await?;
        drop_leftovers(session, id).await?;
        delete_records(session, id, "").await?;
        let filled = existing(session, schemas).await?;
        let created: BTreeSet<String> = schemas.difference(&filled).cloned().collect();
        let claimed = Self { id: id.clone(), created, filled };
        for schema in &claimed.filled {
            if let Some(objects) = content(session, schema).await? {
                forget(session, id).await?;
                return Err(TargetError::SchemaNotEmpty { schema: schema.clone(), objects });
            }
        }
        let doing = "making and recording schemas";
        session.run(doing, "BEGIN").await?;
        for schema in &claimed.created {
            let name = quote_identifier(schema);
            session.run(&format!("making schema {schema:?}"), &format!("CREATE SCHEMA {name}")).await?;
            if let Some(owner) = owner_of(schema) {
                let sql = format!("ALTER SCHEMA {name} OWNER TO {}", quote_identifier(&owner));
                session.run(&format!("giving schema {schema:?} to {owner:?}"), &sql).await?;
            }
        }
        let names: Vec<&String> = claimed.created.iter().collect();
        let sql = format!(
            "INSERT INTO {} SELECT $1::text, 'pg_namespace'::regclass, oid, oid FROM pg_namespace WHERE nspname::text = ANY ($2)",
            record()
        );
        let recorded = session.client().execute(&sql, &[&id.as_str(), &names]).await;
        recorded.map_err(|error| session.error(doing, error))?;
        let names: Vec<&String> = claimed.filled.iter().collect();
        let sql = format!(
            "INSERT INTO {} SELECT $1::text, 'pg_namespace'::regclass, NULL, oid FROM pg_namespace WHERE nspname::text = ANY ($2)",
            record()
        );
        let recorded = session.client().execute(&sql, &[&id.as_str(), &names]).await;
        recorded.map_err(|error| session.error(doing, error))?;
        session.run(doing, "COMMIT").await?;
        Ok(claimed)
    }

    /// The schemas that this restore has made; the others were there, empty.
    #[must_use]
    pub fn created(&self) -> &BTreeSet<String> {
        &self.created
    }

    /// Records what the schemas that were there hold now; what is a part of something else (the sequence of an
    /// identity column, a range's multirange) goes with that. To be called after each step that creates anything
    /// in them but what hangs on a table.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn record_contents(&self, session: &Session) -> Result<(), TargetError> {
        let names: Vec<&String> = self.filled.iter().collect();
        let sql = format!(
            "INSERT INTO {record} SELECT $1::text, d.classid, d.objid, n.oid
               FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
              WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname::text = ANY ($2) AND d.deptype = 'n'
                AND d.classid NOT IN ('pg_extension'::regclass, 'pg_default_acl'::regclass)
                AND NOT EXISTS (SELECT FROM pg_depend e
                                 WHERE e.classid = d.classid AND e.objid = d.objid AND e.objsubid = 0 AND e.deptype IN ('e', 'i'))
                AND NOT EXISTS (SELECT FROM {record} r
                                 WHERE r.restore = $1 AND r.catalog = d.classid AND r.object = d.objid)",
            record = record()
        );
        let recorded = session.client().execute(&sql, &[&self.id.as_str(), &names]).await;
        recorded.map_err(|error| session.error("recording what was restored", error))?;
        Ok(())
    }

    /// Makes empty large objects, and records them in the same transaction.
    ///
    /// # Errors
    /// [`TargetError::LargeObjectExists`] if one of the OIDs is taken.
    pub async fn create_large_objects(
        &self,
        session: &Session,
        objects: &[LargeObject],
    ) -> Result<(), TargetError> {
        let doing = "recording large objects";
        session.run(doing, "BEGIN").await?;
        large_objects::create(session, objects).await?;
        let oids: Vec<u32> = objects.iter().map(|object| object.oid).collect();
        let sql = format!(
            "INSERT INTO {} SELECT $1::text, 'pg_largeobject'::regclass, o, NULL FROM unnest($2::oid[]) AS u (o)",
            record()
        );
        let recorded = session.client().execute(&sql, &[&self.id.as_str(), &oids]).await;
        recorded.map_err(|error| session.error(doing, error))?;
        Ok(session.run(doing, "COMMIT").await?)
    }

    /// Ends the claim, when the restore has succeeded: the record of it goes, and our schema with the last one.
    /// Committed to disk, and with it all that was written before.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn settle(self, session: &Session) -> Result<(), TargetError> {
        forget(session, &self.id).await
    }
}

/// Ends what a killed restore left running in this database: whoever holds its fence is the only restore in it, so
/// every other session that calls itself one is a dead one's, or its `pg_restore`.
async fn end_sessions(session: &Session) -> Result<(), TargetError> {
    let doing = "ending the sessions of a killed restore";
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = current_user
                  AND application_name IN ('vouchsafe restore', 'vouchsafe loader') AND pid <> pg_backend_pid()";
    for _ in 0..ENDING_TRIES {
        let row = session.client().query_one(sql, &[]).await;
        if row.map_err(|error| session.error(doing, error))?.get::<_, i64>(0) == 0 {
            return Ok(());
        }
        tokio::time::sleep(ENDING_PAUSE).await;
    }
    let lasting = std::io::Error::other("they are still at it");
    Err(TargetError::Local { doing: doing.into(), source: lasting })
}

/// Drops what is recorded for restore `id`, and nothing else: objects first, as each goes by its own kind, then
/// schemas. What depends on them goes along.
async fn drop_leftovers(session: &Session, id: &RestoreId) -> Result<(), TargetError> {
    let doing = "dropping what a killed run of this restore has left";
    let failed = |error| session.error(doing, error);
    // Still in its schema, and so still the same: an OID that was given anew would lie elsewhere, or be of
    // another catalog.
    let next = format!(
        "SELECT i.type, i.identity FROM {} r
           JOIN pg_depend d ON d.classid = r.catalog AND d.objid = r.object AND d.deptype = 'n'
                AND d.refclassid = 'pg_namespace'::regclass AND d.refobjid = r.schema
          CROSS JOIN LATERAL pg_identify_object(r.catalog, r.object, 0) AS i
          WHERE r.restore = $1 LIMIT 1",
        record()
    );
    while let Some(row) = session.client().query_opt(&next, &[&id.as_str()]).await.map_err(failed)? {
        let (kind, identity): (String, String) = (row.get(0), row.get(1));
        // Identities are quoted by the server itself.
        let kind = if kind == "statistics object" { "statistics".into() } else { kind };
        session
            .run(&format!("dropping {kind} {identity}"), &format!("DROP {kind} {identity} CASCADE"))
            .await?;
    }
    let objects = format!(
        "SELECT count(lo_unlink(l.oid)) FROM {} r JOIN pg_largeobject_metadata l ON l.oid = r.object
          WHERE r.restore = $1 AND r.catalog = 'pg_largeobject'::regclass",
        record()
    );
    session.client().query_one(&objects, &[&id.as_str()]).await.map_err(failed)?;
    for schema in Leftovers::read(session, id).await?.created {
        let sql = format!("DROP SCHEMA {} CASCADE", quote_identifier(&schema));
        session.run(&format!("dropping schema {schema:?} of a killed run of this restore"), &sql).await?;
    }
    Ok(())
}

async fn forget(session: &Session, id: &RestoreId) -> Result<(), TargetError> {
    let doing = "removing the record of what was restored";
    // Under an exclusive lock, so that no other restore records anything between the look and the drop.
    let sql =
        format!("BEGIN; SET LOCAL synchronous_commit = on; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", record());
    session.run(doing, &sql).await?;
    delete_records(session, id, "").await?;
    let left = session.client().query_one(&format!("SELECT EXISTS (SELECT FROM {})", record()), &[]).await;
    let left: bool = left.map_err(|error| session.error(doing, error))?.get(0);
    if !left {
        session.run(doing, &format!("DROP SCHEMA {RECORD_SCHEMA} CASCADE")).await?;
    }
    Ok(session.run(doing, "COMMIT").await?)
}

/// Deletes the records of restore `id`, or those of them that a further condition chooses.
async fn delete_records(session: &Session, id: &RestoreId, and: &str) -> Result<(), TargetError> {
    let delete = format!("DELETE FROM {} WHERE restore = $1 {and}", record());
    let deleted = session.client().execute(&delete, &[&id.as_str()]).await;
    deleted.map_err(|error| session.error("removing the record of what was restored", error))?;
    Ok(())
}

/// Whether sessions that are no restore's are in this database.
///
/// # Errors
/// A failed query.
pub async fn others_are_in(session: &Session) -> Result<bool, TargetError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend'
                  AND application_name NOT LIKE 'vouchsafe %' AND application_name <> 'pg_restore')";
    let row = session.client().query_one(sql, &[]).await;
    Ok(row.map_err(|error| session.error("looking for other sessions", error))?.get(0))
}

/// Gives a restore up: ends its sessions, and drops what is recorded for it. The [`super::Fence`] of the database must be
/// held. Answers the schemas that were there, empty, and hold now what is in no record: `pg_restore` may have been
/// stopped among definitions, or an application has made it meanwhile, so it stays, and these stay recorded as begun.
///
/// # Errors
/// The server refuses, or somebody holds a lock on what is to be dropped.
pub async fn give_up(session: &Session, id: &RestoreId) -> Result<BTreeSet<String>, TargetError> {
    end_sessions(session).await?;
    if !is_recorded(session).await? {
        return Ok(BTreeSet::new());
    }
    let sql = format!("SET client_min_messages = error; SET lock_timeout = '{GIVING_UP_LOCK_TIMEOUT}'");
    session.run("giving the restore up", &sql).await?;
    drop_leftovers(session, id).await?;
    let mut unrecorded = BTreeSet::new();
    for schema in Leftovers::read(session, id).await?.begun {
        if content(session, &schema).await?.is_some() {
            unrecorded.insert(schema);
        }
    }
    match unrecorded.is_empty() {
        true => forget(session, id).await?,
        false => delete_records(session, id, "AND object IS NOT NULL").await?,
    }
    Ok(unrecorded)
}
