//! Roles that a target lacks, made before the restore.

use std::collections::BTreeSet;

use super::error::TargetError;
use super::properties::{setting_name, setting_value};
use crate::format::relation::quote_identifier;
use crate::source::connection::{Session, quote_literal};
use crate::source::roles::Role;

/// Those of `roles` that the session's server lacks and that [`create_roles`] can make: not the server's own, and
/// no superusers, which nobody should get by restoring a backup.
///
/// # Errors
/// A failed query.
pub async fn missing_roles<'a>(session: &Session, roles: &'a [Role]) -> Result<Vec<&'a Role>, TargetError> {
    let rows = session.client().query("SELECT rolname::text FROM pg_roles", &[]).await;
    let rows = rows.map_err(|error| session.error("listing roles", error))?;
    // Several servers may have had the same role: the first one counts.
    let mut known: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let makeable = |role: &&Role| !role.predefined && !role.superuser && known.insert(role.name.clone());
    Ok(roles.iter().filter(makeable).collect())
}

/// Makes roles, all of them or none: without a password, without the rights that reach beyond their own objects
/// (CREATEROLE, CREATEDB, REPLICATION, BYPASSRLS), and as members of each other alone. A role that isn't a
/// superuser becomes a member of each, as it has to give objects to them. They stay, whatever becomes of the
/// restore: roles are the whole server's.
///
/// # Errors
/// The server refuses.
pub async fn create_roles(session: &Session, roles: &[&Role], superuser: bool) -> Result<(), TargetError> {
    if roles.is_empty() {
        return Ok(());
    }
    let sql = statements(roles, superuser, session.version_num());
    Ok(session.run("creating the roles that are missing", &sql).await?)
}

/// What a role isn't given of what it had, for notes; empty: nothing.
pub(super) fn withheld(role: &Role) -> Vec<&'static str> {
    [
        (role.create_role, "CREATEROLE"),
        (role.create_database, "CREATEDB"),
        (role.replication, "REPLICATION"),
        (role.bypass_row_security, "BYPASSRLS"),
    ]
    .into_iter()
    .filter_map(|(had, word)| had.then_some(word))
    .collect()
}

fn statements(roles: &[&Role], superuser: bool, version_num: u32) -> String {
    let names: BTreeSet<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let mut sql = String::from("BEGIN;");
    for role in roles {
        let name = quote_identifier(&role.name);
        let login = if role.login { "LOGIN" } else { "NOLOGIN" };
        let inherit = if role.inherit { "INHERIT" } else { "NOINHERIT" };
        sql.push_str(&format!(
            "CREATE ROLE {name} {login} {inherit} CONNECTION LIMIT {}",
            role.connection_limit
        ));
        if let Some(until) = &role.valid_until {
            sql.push_str(&format!(" VALID UNTIL {}", quote_literal(until)));
        }
        sql.push(';');
        if let Some(comment) = &role.comment {
            sql.push_str(&format!("COMMENT ON ROLE {name} IS {};", quote_literal(comment)));
        }
        for (setting, value) in role.settings.iter().filter_map(|setting| setting.split_once('=')) {
            let value = setting_value(setting, value);
            sql.push_str(&format!("ALTER ROLE {name} SET {} = {value};", setting_name(setting)));
        }
        if !superuser {
            // From 16 on the role that makes another gets it with ADMIN alone.
            let options = if version_num >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
            sql.push_str(&format!("GRANT {name} TO CURRENT_USER{options};"));
        }
    }
    for role in roles {
        for membership in role.member_of.iter().filter(|it| names.contains(it.role.as_str())) {
            let mut options = Vec::new();
            if membership.admin {
                options.push("ADMIN OPTION".to_owned());
            }
            if version_num >= 160_000 {
                options = vec![format!("ADMIN {}", membership.admin)];
                options.push(format!("INHERIT {}, SET {}", membership.inherit, membership.set));
            }
            let with =
                if options.is_empty() { String::new() } else { format!(" WITH {}", options.join(", ")) };
            let (group, member) = (quote_identifier(&membership.role), quote_identifier(&role.name));
            sql.push_str(&format!("GRANT {group} TO {member}{with};"));
        }
    }
    sql.push_str("COMMIT");
    sql
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::roles::Membership;

    fn role(name: &str) -> Role {
        Role {
            name: name.into(),
            predefined: false,
            superuser: false,
            inherit: true,
            create_role: true,
            create_database: false,
            login: true,
            replication: false,
            bypass_row_security: true,
            connection_limit: -1,
            valid_until: None,
            comment: Some("it's".into()),
            settings: vec!["search_path=a, \"b c\"".into()],
            member_of: vec![
                Membership { role: "group".into(), admin: true, inherit: true, set: false },
                Membership { role: "elsewhere".into(), admin: false, inherit: true, set: true },
            ],
        }
    }

    #[test]
    fn powers_are_withheld_and_memberships_stay_among_the_new() {
        let (one, group) = (role("o\"ne"), Role { member_of: Vec::new(), ..role("group") });
        let sql = statements(&[&one, &group], true, 150_000);
        assert!(sql.starts_with("BEGIN;CREATE ROLE \"o\"\"ne\" LOGIN INHERIT CONNECTION LIMIT -1;"), "{sql}");
        assert!(sql.contains("SET \"search_path\" = 'a', 'b c';"), "{sql}");
        assert!(sql.contains("GRANT \"group\" TO \"o\"\"ne\" WITH ADMIN OPTION;"), "{sql}");
        for absent in ["elsewhere", "CREATEROLE", "BYPASSRLS", "PASSWORD", "CURRENT_USER"] {
            assert!(!sql.contains(absent), "{absent}: {sql}");
        }
        assert_eq!(withheld(&one), ["CREATEROLE", "BYPASSRLS"]);
        let newer = statements(&[&one, &group], false, 160_000);
        assert!(newer.contains("WITH ADMIN true, INHERIT true, SET false;"), "{newer}");
        assert!(newer.contains("GRANT \"group\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE;"), "{newer}");
    }
}
