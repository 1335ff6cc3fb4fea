//! Where sequences stand.

use crate::format::relation::QualifiedName;

use super::connection::Session;
use super::error::SourceError;
use super::target::SequenceValue;

/// Sequences per statement: each costs a range-table entry, and planning time grows faster than their number.
const BATCH: usize = 200;

/// Reads every sequence's value, by schema and name.
///
/// Sequences aren't transactional: their values are the current ones in any snapshot. They are read after the
/// snapshot was taken, so they are never behind the rows that they numbered.
///
/// # Errors
/// A failed query; [`SourceError::CatalogChanged`] if one was dropped meanwhile.
pub async fn read(session: &Session) -> Result<Vec<SequenceValue>, SourceError> {
    let names = list(session).await?;
    let mut values = values(session, &names.into_iter().map(|(name, _)| name).collect::<Vec<_>>()).await?;
    values.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(values)
}

/// Where the sequences `names` stand now, in that order.
///
/// # Errors
/// As for [`read`].
pub async fn values(session: &Session, names: &[QualifiedName]) -> Result<Vec<SequenceValue>, SourceError> {
    let mut values = Vec::with_capacity(names.len());
    for batch in names.chunks(BATCH) {
        let selects: Vec<String> = batch
            .iter()
            .enumerate()
            .map(|(at, name)| format!("SELECT {at}::int4, last_value, is_called FROM {}", name.quoted()))
            .collect();
        let rows = session.client().query(&selects.join(" UNION ALL "), &[]).await.map_err(|error| {
            match error.code().map(|code| code.code()) {
                Some("42P01" | "3F000" | "42703") => {
                    SourceError::CatalogChanged { what: format!("a sequence is gone: {error}") }
                }
                _ => session.error("reading sequences", error),
            }
        })?;
        for row in rows {
            let name = usize::try_from(row.get::<_, i32>(0)).ok().and_then(|at| batch.get(at));
            if let Some(name) = name {
                values.push(SequenceValue {
                    name: name.clone(),
                    last_value: row.get(1),
                    is_called: row.get(2),
                });
            }
        }
    }
    Ok(values)
}

/// The GRANTs that are missing to read sequences.
pub(super) async fn missing_grants(session: &Session) -> Result<Vec<String>, SourceError> {
    let role = crate::format::relation::quote_identifier(session.user());
    Ok(list(session)
        .await?
        .into_iter()
        .filter(|(_, readable)| !readable)
        .map(|(name, _)| format!("GRANT SELECT ON SEQUENCE {} TO {role}", name.quoted()))
        .collect())
}

/// Sequences that the schema archive makes, and whether this role may read them. A member of an extension is one
/// only if the extension lists it as configuration: else CREATE EXTENSION makes it with its value.
async fn list(session: &Session) -> Result<Vec<(QualifiedName, bool)>, SourceError> {
    let rows = session
        .client()
        .query(
            "SELECT n.nspname::text, c.relname::text, has_sequence_privilege(c.oid, 'SELECT')
               FROM pg_class c
               JOIN pg_namespace n ON n.oid = c.relnamespace
               LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.objsubid = 0 AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
               LEFT JOIN pg_extension e ON e.oid = d.refobjid
              WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND c.oid >= 16384
                AND n.nspname <> 'information_schema'
                AND (e.oid IS NULL AND n.nspname !~ '^pg_' OR c.oid = ANY (e.extconfig))
              ORDER BY 1, 2",
            &[],
        )
        .await
        .map_err(|error| session.error("listing sequences", error))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let name = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
            // NULL if it is dropped meanwhile.
            (name, row.get::<_, Option<bool>>(2).unwrap_or(true))
        })
        .collect())
}
