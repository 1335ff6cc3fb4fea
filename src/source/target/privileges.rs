//! What a role that isn't a superuser may not do: named before the restore begins.

use super::error::TargetError;
use super::preflight::{Demands, Findings, Target, owners};
use crate::source::connection::Session;

pub(super) async fn check(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    check_entries(demands, findings);
    if !demands.no_owner {
        check_owners(session, target, demands, findings).await?;
    }
    check_settings(session, target, demands, findings).await
}

/// Objects that a superuser alone may create. Extensions are looked at by their versions.
fn check_entries(demands: &Demands<'_>, findings: &mut Findings) {
    for entry in demands.plan.entries().filter_map(|id| demands.toc.get(id)) {
        if let Some(why) = entry.superuser_only {
            findings.blocks(
                "SuperuserNeeded",
                format!("only a superuser may create {} {}: {why}", entry.kind.to_lowercase(), entry.tag),
                "restore as a superuser, or leave it out",
            );
        }
    }
}

/// Objects are made by our role and given to their owners: that takes the right to become each of them, and,
/// as the rows and indexes follow, to act as them at once. Besides, an owner must itself be allowed to create
/// in the schema, and schemas' privileges come last.
async fn check_owners(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let become_it = if target.version_num >= 160_000 { "SET" } else { "MEMBER" };
    for (owner, example) in owners(demands) {
        let row = session
            .client()
            .query_opt(
                "SELECT pg_has_role(oid, $2), pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = $1::text::name",
                &[&owner, &become_it],
            )
            .await
            .map_err(|error| session.error("asking for memberships", error))?;
        // A missing role is listed already.
        let Some(row) = row else { continue };
        let (becomes, acts): (bool, bool) = (row.get(0), row.get(1));
        if !becomes || !acts {
            findings.blocks(
                "PrivilegeMissing",
                format!(
                    "role {:?} can't give {} {} to its owner {owner:?}",
                    target.user,
                    example.kind.to_lowercase(),
                    example.tag
                ),
                format!("GRANT {owner:?} TO {:?}, or restore without owners", target.user),
            );
        }
    }
    let mut told = std::collections::BTreeSet::new();
    for entry in demands.plan.entries().filter_map(|id| demands.toc.get(id)) {
        let owner_of_schema = entry.schema.as_deref().and_then(|schema| {
            let of =
                |schema_entry: &&super::TocEntry| schema_entry.kind == "SCHEMA" && schema_entry.tag == schema;
            demands.toc.entries.iter().find(of)
        });
        let Some(schema) = owner_of_schema else { continue };
        let foreign = !entry.owner.is_empty() && entry.owner != schema.owner;
        if foreign && told.insert((&entry.owner, &schema.tag)) {
            findings.blocks(
                "SuperuserNeeded",
                format!(
                    "{:?} owns objects in schema {:?} of {:?}: only a superuser can give them to it before the schema's privileges are restored",
                    entry.owner, schema.tag, schema.owner
                ),
                "restore as a superuser, or without owners",
            );
        }
    }
    Ok(())
}

/// `ALTER DATABASE … SET` of a setting that is reserved to superusers, and settings of other roles.
async fn check_settings(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let Some(properties) = demands.properties else { return Ok(()) };
    let names: Vec<&str> = properties.settings.iter().map(|setting| setting.name.as_str()).collect();
    let rows = session
        .client()
        .query("SELECT name FROM pg_settings WHERE lower(name) = ANY (SELECT lower(w) FROM unnest($1::text[]) AS u (w)) AND context = 'superuser'", &[&names])
        .await
        .map_err(|error| session.error("asking about settings", error))?;
    for row in rows {
        let name: String = row.get(0);
        findings.blocks(
            "SuperuserNeeded",
            format!("only a superuser may set {name} for a database"),
            "restore as a superuser",
        );
    }
    if let Some(setting) = properties
        .settings
        .iter()
        .find(|setting| setting.role.as_deref().is_some_and(|role| role != target.user))
    {
        findings.blocks(
            "SuperuserNeeded",
            format!(
                "settings of role {:?} in the database are another role's",
                setting.role.as_deref().unwrap_or_default()
            ),
            "restore as a superuser",
        );
    }
    Ok(())
}
