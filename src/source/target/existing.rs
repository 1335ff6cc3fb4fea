//! What a database that is there already lacks, or has too much of, for a restore into its schemas.

use super::adapted::is_outside_schemas;
use super::error::TargetError;
use super::plan::ExtensionEntry;
use super::preflight::{Demands, Findings, Target};
use super::schemas::{self, Leftovers};
use crate::format::relation::quote_identifier;
use crate::hint::Hint;
use crate::source::connection::Session;

/// Objects of one kind that are named at most.
const EXAMPLES: usize = 3;

pub(super) async fn check(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    leftovers: &Leftovers,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    if !target.superuser && !target.may_create {
        findings.blocks(
            "PrivilegeMissing",
            format!("role {:?} may not create schemas here", target.user),
            format!(
                "GRANT CREATE ON DATABASE {} TO {}",
                quote_identifier(&target.database),
                quote_identifier(&target.user)
            ),
        );
    }
    check_schemas(session, target, demands, leftovers, findings).await?;
    if target.encoding != demands.source.encoding {
        findings.notes(
            "EncodingDiffers",
            format!("the source's encoding is {}, the target's {}", demands.source.encoding, target.encoding),
            "a character that the target's encoding lacks makes the restore fail",
        );
    }
    let outside: Vec<String> = (demands.plan.entries().filter_map(|id| demands.toc.get(id)))
        .filter(|entry| is_outside_schemas(entry))
        .map(|entry| format!("{} {}", entry.kind.to_lowercase(), entry.tag))
        .collect();
    if !outside.is_empty() {
        findings.blocks(
            "OutsideSchemas",
            format!("the backup has what lies in no schema: {}", examples(&outside)),
            Hint::of(
                "restore into a new database, or select by --include-schema and --include-table what doesn't need it",
                "restore into a new database, or select by spec.include what doesn't need it",
            ),
        );
    }
    check_large_objects(session, demands, leftovers, findings).await?;
    check_extensions_places(session, &demands.plan.extensions, demands, findings).await?;
    check_default_privileges(session, demands, findings).await
}

/// The first few of a list.
fn examples(all: &[String]) -> String {
    let mut text = all.iter().take(EXAMPLES).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > EXAMPLES {
        text.push_str(&format!(" and {} more", all.len() - EXAMPLES));
    }
    text
}

async fn check_schemas(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    leftovers: &Leftovers,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    for schema in &demands.plan.schema_names {
        if leftovers.created.contains(schema) {
            continue;
        }
        if !leftovers.filled.contains(schema)
            && let Some(objects) = schemas::content(session, schema).await?
        {
            findings.blocks(
                "SchemaNotEmpty",
                format!("schema {schema:?} is not empty: it holds {objects}"),
                match leftovers.begun.contains(schema) {
                    true => "a run of this restore that was killed at its definitions left that: empty the schema, if nothing in it is yours",
                    false => "empty it, choose others, or restore into a new database",
                },
            );
        }
        let user = demands.owner.unwrap_or(&target.user);
        let sql = "SELECT has_schema_privilege(r.oid, n.oid, 'CREATE') FROM pg_namespace n, pg_roles r
                    WHERE n.nspname = $1::text::name AND r.rolname = $2::text::name";
        let row = session.client().query_opt(sql, &[schema, &user]).await;
        let row = row.map_err(|error| session.error("asking for privileges on schemas", error))?;
        if row.is_some_and(|row| !row.get::<_, bool>(0)) {
            findings.blocks(
                "PrivilegeMissing",
                format!("role {user:?} may not create anything in schema {schema:?}"),
                format!("GRANT CREATE ON SCHEMA {} TO {}", quote_identifier(schema), quote_identifier(user)),
            );
        }
    }
    Ok(())
}

async fn check_large_objects(
    session: &Session,
    demands: &Demands<'_>,
    leftovers: &Leftovers,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let wanted = demands.large_objects.iter().map(|object| object.oid);
    let wanted: Vec<u32> = wanted.filter(|oid| !leftovers.large_objects.contains(oid)).collect();
    let sql = "SELECT min(oid), count(*) FROM pg_largeobject_metadata WHERE oid = ANY ($1)";
    let row = session.client().query_one(sql, &[&wanted]).await;
    let row = row.map_err(|error| session.error("looking for large objects", error))?;
    if let Some(first) = row.get::<_, Option<u32>>(0) {
        let count: i64 = row.get(1);
        findings.blocks(
            "LargeObjectExists",
            format!("{count} of the backup's large objects have the OIDs of others here, such as {first}"),
            "restore into a new database, or select schemas or tables: large objects stay away then",
        );
    }
    Ok(())
}

/// What is restored names an extension's objects with their schema.
async fn check_extensions_places(
    session: &Session,
    wanted: &[ExtensionEntry],
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let sql = "SELECT extname::text, extnamespace::regnamespace::text, n.nspname::text, extversion
                 FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace";
    let rows = session.client().query(sql, &[]).await;
    for row in rows.map_err(|error| session.error("listing extensions", error))? {
        let (name, shown, schema, version): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let recorded = demands.extensions.iter().find(|extension| extension.name == name);
        let Some(recorded) = recorded.filter(|_| wanted.iter().any(|entry| entry.name == name)) else {
            continue;
        };
        if recorded.schema != schema {
            findings.blocks(
                "ExtensionElsewhere",
                format!(
                    "extension {name:?} lies in schema {shown} here, and in {:?} in the backup",
                    recorded.schema
                ),
                format!(
                    "ALTER EXTENSION {} SET SCHEMA {}, or restore into a new database",
                    quote_identifier(&name),
                    quote_identifier(&recorded.schema)
                ),
            );
        } else if recorded.version != version {
            findings.notes(
                "ExtensionVersionDiffers",
                format!(
                    "extension {name:?} is there at version {version}, the source's was {}",
                    recorded.version
                ),
                "it stays as it is",
            );
        }
    }
    Ok(())
}

/// They would be added to whatever the backup grants.
async fn check_default_privileges(
    session: &Session,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let sql = "SELECT count(*) FROM pg_default_acl
                WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = coalesce($1::text::name, current_user))";
    let row = session.client().query_one(sql, &[&demands.owner]).await;
    let count: i64 = row.map_err(|error| session.error("asking for default privileges", error))?.get(0);
    if count > 0 {
        findings.notes(
            "DefaultPrivileges",
            "this database has default privileges (\\ddp), which what is restored gets besides its own"
                .to_owned(),
            "ALTER DEFAULT PRIVILEGES to take them away beforehand, if that is too much",
        );
    }
    Ok(())
}
