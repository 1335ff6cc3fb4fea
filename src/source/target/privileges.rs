//! What a role that isn't a superuser may not do: named before the restore begins.

use super::error::TargetError;
use super::preflight::{Demands, Findings, Target, owners};
use crate::format::relation::quote_identifier;
use crate::hint::Hint;
use crate::source::connection::Session;

pub(super) async fn check(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let mut superuser = target.superuser;
    if let Some(owner) = demands.owner {
        superuser = check_one_owner(session, target, owner, findings).await?;
    }
    if !superuser {
        check_entries(demands, findings);
    }
    if target.superuser {
        return Ok(());
    }
    if !demands.no_owner {
        check_owners(session, target, demands, findings).await?;
    }
    check_settings(session, target, demands, findings).await
}

/// Everything is made by the role that it is to belong to, so that role's rank counts, and ours must be a
/// member's. Returns whether it is a superuser.
async fn check_one_owner(
    session: &Session,
    target: &Target,
    owner: &str,
    findings: &mut Findings,
) -> Result<bool, TargetError> {
    let sql = "SELECT rolsuper, pg_has_role(oid, $2), pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = $1::text::name";
    let row = session.client().query_opt(sql, &[&owner, &become_it(target)]).await;
    let row = row.map_err(|error| session.error("asking for the owner", error))?;
    // A missing role is listed already, or made.
    let Some(row) = row else { return Ok(false) };
    let (superuser, becomes, acts): (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
    if !becomes || !acts {
        findings.blocks(
            "PrivilegeMissing",
            format!("role {:?} can't act as {owner:?}, who is to own everything", target.user),
            format!("GRANT {} TO {}", quote_identifier(owner), quote_identifier(&target.user)),
        );
    }
    Ok(superuser)
}

/// The privilege that lets a role give things to another.
const fn become_it(target: &Target) -> &'static str {
    if target.version_num >= 160_000 { "SET" } else { "MEMBER" }
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
    let become_it = become_it(target);
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
                without_owners(&format!(
                    "GRANT {} TO {}",
                    quote_identifier(owner),
                    quote_identifier(&target.user)
                )),
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
                without_owners("restore as a superuser"),
            );
        }
    }
    Ok(())
}

/// What to do, or to leave the owners out.
fn without_owners(first: &str) -> Hint {
    Hint::of(
        format!("{first}, or leave owners out by --no-owner"),
        format!("{first}, or give everything to one role by spec.owner"),
    )
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

/// What PostgreSQL reserves to superusers, each by its manual page's "Notes" or "Parameters". A text that only
/// looks like it (in a function's body) asks for a superuser without need, and never the other way round.
pub(super) fn superuser_only(kind: &str, definition: &str) -> Option<&'static str> {
    let says = |text: &str| definition.contains(text);
    match kind {
        "EVENT TRIGGER" => Some("it fires for everybody's commands"),
        "PUBLICATION" if says("FOR ALL TABLES") => Some("it is for all tables"),
        "PUBLICATION TABLES IN SCHEMA" => Some("it is for whole schemas"),
        "FOREIGN DATA WRAPPER" => Some("it names code of the server"),
        "ACCESS METHOD" | "OPERATOR CLASS" | "OPERATOR FAMILY" => Some("a wrong one crashes the server"),
        "TEXT SEARCH PARSER" | "TEXT SEARCH TEMPLATE" => Some("it names functions of the server"),
        "TYPE" if says("INPUT = ") => Some("it is a base type"),
        "CAST" if says("WITHOUT FUNCTION") => Some("it reads one type's bytes as another's"),
        "FUNCTION" if says("LANGUAGE c") || says("LANGUAGE internal") => Some("it is code of the server"),
        "FUNCTION" if says(" LEAKPROOF") => Some("it is marked leakproof"),
        "AGGREGATE" if says("STYPE = internal") => Some("its state is of the server's own type"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_told_by_kind_and_definition() {
        for (kind, definition) in [
            ("EVENT TRIGGER", "CREATE EVENT TRIGGER e ON sql_drop"),
            ("PUBLICATION", "CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert')"),
            ("FUNCTION", "CREATE FUNCTION f() RETURNS void\n    LANGUAGE c\n    AS 'x', 'y'"),
            ("CAST", "CREATE CAST (a AS b) WITHOUT FUNCTION;"),
            ("TYPE", "CREATE TYPE t (\n    INTERNALLENGTH = 8,\n    INPUT = i,"),
        ] {
            assert!(superuser_only(kind, definition).is_some(), "{kind}");
        }
        for (kind, definition) in [
            ("PUBLICATION", "CREATE PUBLICATION p WITH (publish = 'insert')"),
            ("FUNCTION", "CREATE FUNCTION f() RETURNS void\n    LANGUAGE plpgsql\n    AS $$ $$"),
            ("TYPE", "CREATE TYPE t AS ENUM ('INPUT')"),
            ("CAST", "CREATE CAST (a AS b) WITH FUNCTION f(a)"),
        ] {
            assert_eq!(superuser_only(kind, definition), None, "{kind}");
        }
    }
}
