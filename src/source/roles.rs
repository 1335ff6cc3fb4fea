//! Roles that the database's objects refer to, without their passwords.

use serde::{Deserialize, Serialize};

use super::connection::Session;
use super::error::SourceError;

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Made by the server (`pg_…`): it is there, or is none of ours to make.
    pub predefined: bool,
    /// `SUPERUSER`.
    pub superuser: bool,
    /// `INHERIT`.
    pub inherit: bool,
    /// `CREATEROLE`.
    pub create_role: bool,
    /// `CREATEDB`.
    pub create_database: bool,
    /// `LOGIN`.
    pub login: bool,
    /// `REPLICATION`.
    pub replication: bool,
    /// `BYPASSRLS`.
    pub bypass_row_security: bool,
    /// `CONNECTION LIMIT`; -1: none.
    pub connection_limit: i32,
    /// `VALID UNTIL`, as the server writes it.
    pub valid_until: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// `ALTER ROLE … SET`, as `name=value`; those for this database alone are the database's.
    pub settings: Vec<String>,
    /// Roles that it is a member of.
    pub member_of: Vec<Membership>,
}

/// A membership of a role in another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Membership {
    /// The other one.
    pub role: String,
    /// `ADMIN OPTION`.
    pub admin: bool,
    /// `INHERIT OPTION`; the role's own before 16.
    pub inherit: bool,
    /// `SET OPTION`; true before 16.
    pub set: bool,
}

/// Reads the roles that own anything in this database, are granted anything, or are named by policies and default
/// privileges; those that these are members of; and the bootstrap superuser, whose ownership the server doesn't
/// record.
///
/// # Errors
/// A failed query.
pub async fn read(session: &Session) -> Result<Vec<Role>, SourceError> {
    let doing = "listing roles";
    let options = if session.version_num() >= 160_000 {
        "m.inherit_option, m.set_option"
    } else {
        "r.rolinherit, true"
    };
    let sql = format!(
        "WITH RECURSIVE here AS (SELECT oid FROM pg_database WHERE datname = current_database()),
         used (oid) AS (
             SELECT s.refobjid FROM pg_shdepend s
              WHERE s.refclassid = 'pg_authid'::regclass
                AND (s.dbid = (SELECT oid FROM here)
                     OR s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = (SELECT oid FROM here))
             UNION SELECT datdba FROM pg_database WHERE datname = current_database()
             UNION SELECT setrole FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM here)
             UNION SELECT 10::oid),
         reach (oid) AS (
             SELECT oid FROM used
             UNION SELECT m.roleid FROM reach r JOIN pg_auth_members m ON m.member = r.oid)
         SELECT r.rolname::text, r.oid < 16384 AND r.rolname ~ '^pg_', r.rolsuper, r.rolinherit, r.rolcreaterole,
                r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
                r.rolvaliduntil::text, shobj_description(r.oid, 'pg_authid'),
                coalesce((SELECT s.setconfig FROM pg_db_role_setting s
                           WHERE s.setrole = r.oid AND s.setdatabase = 0), '{{}}'),
                coalesce(m.roles, '{{}}'), coalesce(m.admin, '{{}}'), coalesce(m.inherit, '{{}}'),
                coalesce(m.set, '{{}}')
           FROM reach JOIN pg_roles r ON r.oid = reach.oid
           LEFT JOIN LATERAL (
                SELECT array_agg(role ORDER BY role) AS roles, array_agg(admin ORDER BY role) AS admin,
                       array_agg(inherit ORDER BY role) AS inherit, array_agg(\"set\" ORDER BY role) AS set
                  FROM (SELECT g.rolname::text AS role, bool_or(m.admin_option) AS admin,
                               bool_or(i) AS inherit, bool_or(s) AS \"set\"
                          FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid,
                               LATERAL (SELECT {options}) AS o (i, s)
                         WHERE m.member = r.oid GROUP BY g.rolname) AS memberships) m ON true
          ORDER BY r.rolname"
    );
    let rows = session.client().query(&sql, &[]).await.map_err(|error| session.error(doing, error))?;
    let mut roles: Vec<Role> = rows
        .into_iter()
        .map(|row| {
            let (roles, admin): (Vec<String>, Vec<bool>) = (row.get(13), row.get(14));
            let (inherit, set): (Vec<bool>, Vec<bool>) = (row.get(15), row.get(16));
            let memberships = roles.into_iter().zip(admin).zip(inherit).zip(set);
            Role {
                name: row.get(0),
                predefined: row.get(1),
                superuser: row.get(2),
                inherit: row.get(3),
                create_role: row.get(4),
                create_database: row.get(5),
                login: row.get(6),
                replication: row.get(7),
                bypass_row_security: row.get(8),
                connection_limit: row.get(9),
                valid_until: row.get(10),
                comment: row.get(11),
                settings: row.get(12),
                member_of: memberships
                    .map(|(((role, admin), inherit), set)| Membership { role, admin, inherit, set })
                    .collect(),
            }
        })
        .collect();
    roles.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(roles)
}
