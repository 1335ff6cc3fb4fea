//! What belongs to a database as a whole: owner, settings, privileges, comment. A schema archive holds them
//! only for a `pg_restore --create`, which would also choose the name.

use serde::{Deserialize, Serialize};

use super::archive::ArchiveOptions;
use crate::format::relation::quote_identifier;
use crate::source::connection::{Session, quote_literal};
use crate::source::error::SourceError;

/// `ALTER DATABASE … SET`, or `ALTER ROLE … IN DATABASE … SET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseSetting {
    /// The role that it is for; `None`: all.
    pub role: Option<String>,
    /// The setting.
    pub name: String,
    /// Its value, as the catalog holds it.
    pub value: String,
}

/// One privilege of a database's ACL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseGrant {
    /// Who has it; `None`: PUBLIC.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// A database's own properties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseProperties {
    /// Its owner; `None` leaves it to the role that restores.
    pub owner: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its settings.
    pub settings: Vec<DatabaseSetting>,
    /// Every privilege on it, the defaults included.
    pub grants: Vec<DatabaseGrant>,
    /// Most connections at once; -1: no limit.
    pub connection_limit: i32,
}

impl DatabaseProperties {
    /// Those of a database of which nothing is recorded: the server's defaults.
    #[must_use]
    pub fn server_defaults() -> Self {
        let grants = ["CONNECT", "TEMPORARY"].map(|privilege| DatabaseGrant {
            grantee: None,
            privilege: privilege.into(),
            grantable: false,
        });
        Self { grants: grants.into(), connection_limit: -1, ..Self::default() }
    }

    /// The same as far as `options` restore it: without owners it stays with the role that restores, without
    /// privileges it has a new database's, and without either no role is named at all.
    #[must_use]
    pub fn reduced(mut self, options: ArchiveOptions) -> Self {
        if options.no_owner {
            self.owner = None;
        }
        if options.no_privileges {
            self.grants = Self::server_defaults().grants;
        }
        if options.no_owner && options.no_privileges {
            self.settings.retain(|setting| setting.role.is_none());
        }
        self
    }

    /// Reads those of the session's database.
    ///
    /// # Errors
    /// A failed query.
    pub async fn read(session: &Session) -> Result<Self, SourceError> {
        let doing = "reading the database's properties";
        let failed = |error| session.error(doing, error);
        let client = session.client();
        let row = client
            .query_one(
                "SELECT pg_get_userbyid(datdba)::text, shobj_description(oid, 'pg_database'), datconnlimit
                   FROM pg_database WHERE datname = current_database()",
                &[],
            )
            .await
            .map_err(failed)?;
        // A value may hold an equals sign, a name can't.
        let settings = client
            .query(
                "SELECT r.rolname::text, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
                   FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) WITH ORDINALITY AS u (c, place)
                  WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND (s.setrole = 0 OR r.oid IS NOT NULL)
                  ORDER BY 1 NULLS FIRST, place",
                &[],
            )
            .await
            .map_err(failed)?;
        let grants = client
            .query(
                "SELECT CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable
                   FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                  WHERE d.datname = current_database() ORDER BY 1 NULLS FIRST, 2",
                &[],
            )
            .await
            .map_err(failed)?;
        Ok(Self {
            owner: row.get(0),
            comment: row.get(1),
            connection_limit: row.get(2),
            settings: settings
                .iter()
                .map(|row| DatabaseSetting { role: row.get(0), name: row.get(1), value: row.get(2) })
                .collect(),
            grants: grants
                .iter()
                .map(|row| DatabaseGrant {
                    grantee: row.get(0),
                    privilege: row.get(1),
                    grantable: row.get(2),
                })
                .collect(),
        })
    }

    /// Statements that give database `name` these properties, and take every other privilege from PUBLIC.
    pub(super) fn statements(&self, name: &str) -> String {
        let database = quote_identifier(name);
        let comment = self.comment.as_deref().map_or("NULL".into(), quote_literal);
        let mut sql = format!(
            "COMMENT ON DATABASE {database} IS {comment};
             ALTER DATABASE {database} CONNECTION LIMIT {};",
            self.connection_limit
        );
        for DatabaseSetting { role, name, value } in &self.settings {
            let subject = match role {
                None => format!("DATABASE {database}"),
                Some(role) => format!("ROLE {} IN DATABASE {database}", quote_identifier(role)),
            };
            sql.push_str(&format!(
                "ALTER {subject} SET {} = {};",
                setting_name(name),
                setting_value(name, value)
            ));
        }
        sql.push_str(&format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC;"));
        if let Some(owner) = &self.owner {
            sql.push_str(&format!("ALTER DATABASE {database} OWNER TO {};", quote_identifier(owner)));
        }
        for DatabaseGrant { grantee, privilege, grantable } in &self.grants {
            let grantee = grantee.as_deref().map_or("PUBLIC".into(), quote_identifier);
            let option = if *grantable { " WITH GRANT OPTION" } else { "" };
            sql.push_str(&format!("GRANT {privilege} ON DATABASE {database} TO {grantee}{option};"));
        }
        sql
    }
}

/// `extension.setting` is one name of two parts.
pub(super) fn setting_name(name: &str) -> String {
    name.split('.').map(quote_identifier).collect::<Vec<_>>().join(".")
}

/// Settings that are lists of names (`GUC_LIST_QUOTE`) are stored as SQL already: quoted once more, all of it
/// would be one name. The same list as pg_dump's (`variable_is_guc_list_quote`).
pub(super) fn setting_value(name: &str, value: &str) -> String {
    const LISTS: [&str; 5] = [
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
    ];
    if LISTS.contains(&name.to_ascii_lowercase().as_str()) && !value.is_empty() {
        list_elements(value).iter().map(|element| quote_literal(element)).collect::<Vec<_>>().join(", ")
    } else {
        quote_literal(value)
    }
}

/// Elements of a list of identifiers, quoted or not.
fn list_elements(value: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut characters = value.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let mut element = String::new();
        match characters.next() {
            None => return elements,
            Some('"') => {
                while let Some(character) = characters.next() {
                    if character == '"' && characters.next_if_eq(&'"').is_none() {
                        break;
                    }
                    element.push(character);
                }
            }
            Some(first) => {
                element.push(first);
                while let Some(character) = characters.next_if(|c| *c != ',') {
                    element.push(character);
                }
                element.truncate(element.trim_end().len());
            }
        }
        elements.push(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_stay_lists() {
        assert_eq!(setting_value("search_path", r#"zoo, "a, ""b", public"#), r#"'zoo', 'a, "b', 'public'"#);
        assert_eq!(setting_value("search_path", r#""""#), "''");
        assert_eq!(setting_value("search_path", ""), "''");
        assert_eq!(setting_value("DateStyle", "German, DMY"), "'German, DMY'");
        assert_eq!(setting_name("my.setting"), r#""my"."setting""#);
    }

    #[test]
    fn privileges_are_granted_after_the_owner_changed() {
        let properties =
            DatabaseProperties { owner: Some("o\"x".into()), ..DatabaseProperties::server_defaults() };
        let sql = properties.statements("d");
        let owner = sql.find("OWNER TO \"o\"\"x\"").unwrap();
        assert!(
            sql.find("REVOKE ALL").unwrap() < owner && owner < sql.find("GRANT CONNECT").unwrap(),
            "{sql}"
        );
        assert!(sql.contains("IS NULL;"), "{sql}");
    }
}
