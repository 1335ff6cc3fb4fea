//! What a target lacks, found before anything is touched: all of it at once, each with a name and a hint.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::TargetError;
use super::existing;
use super::finish::ExtensionVersion;
use super::large_objects::LargeObject;
use super::plan::RestorePlan;
use super::privileges;
use super::properties::DatabaseProperties;
use super::roles::withheld;
use super::schemas::Leftovers;
use super::toc::Toc;
use crate::format::relation::quote_identifier;
use crate::hint::{Hint, WayIn};
use crate::source::connection::Session;
use crate::source::roles::Role;
use crate::source::server::ServerFacts;

/// Whether a restore may begin all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// It would fail: refused.
    Blocks,
    /// It would end well, and a person should know.
    Notes,
}

/// One thing that the target lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Finding {
    /// A stable word: `RoleMissing`, `ExtensionMissing` …
    pub reason: String,
    /// Whether it keeps the restore from beginning.
    pub severity: Severity,
    /// What is lacking, with its name.
    pub message: String,
    /// What can be done.
    pub hint: Hint,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is only noted names no setting: its hint is the same for everybody.
        write!(f, "{} ({})", self.message, self.hint.said(WayIn::Flags))
    }
}

/// What a restore is about to ask of a target.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// The archive's contents.
    pub toc: &'a Toc,
    /// What of it is restored.
    pub plan: &'a RestorePlan,
    /// The source.
    pub source: &'a ServerFacts,
    /// Extensions with their versions.
    pub extensions: &'a [ExtensionVersion],
    /// Roles that the backup names anywhere: owners, grantees, those of policies.
    pub roles: &'a [String],
    /// The database's own properties, if they are restored.
    pub properties: Option<&'a DatabaseProperties>,
    /// Large objects, if they are restored.
    pub large_objects: &'a [LargeObject],
    /// Roles that the restore makes beforehand.
    pub made_roles: &'a [&'a Role],
    /// The role that everything is to belong to.
    pub owner: Option<&'a str>,
    /// Nothing is given to the owner that it had.
    pub no_owner: bool,
    /// Tablespaces are ignored.
    pub no_tablespaces: bool,
}

/// Where it goes.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    /// A new database of this name; the session is to any other of the server.
    NewDatabase(&'a str),
    /// Schemas of the session's own database; what a killed run of the same restore has left in them is dropped.
    Schemas(&'a Leftovers),
}

/// Looks for everything that would make the restore fail, and touches nothing.
///
/// # Errors
/// Only if the target can't be asked.
pub async fn preflight(
    session: &Session,
    demands: &Demands<'_>,
    destination: Destination<'_>,
) -> Result<Vec<Finding>, TargetError> {
    let target = Target::read(session).await?;
    let mut findings = Findings::default();
    check_server(&target, demands, &mut findings);
    match destination {
        Destination::NewDatabase(name) => {
            check_new_database(session, &target, demands, name, &mut findings).await?
        }
        Destination::Schemas(leftovers) => {
            existing::check(session, &target, demands, leftovers, &mut findings).await?
        }
    }
    check_roles(session, &target, demands, &mut findings).await?;
    check_tablespaces(session, &target, demands, &mut findings).await?;
    check_extensions(session, &target, demands, &mut findings).await?;
    privileges::check(session, &target, demands, &mut findings).await?;
    findings.0.sort_by(|one, other| (one.severity, &one.reason).cmp(&(other.severity, &other.reason)));
    Ok(findings.0)
}

/// What is found, as it is found.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn blocks(&mut self, reason: &str, message: impl Into<String>, hint: impl Into<Hint>) {
        self.push(reason, Severity::Blocks, message.into(), hint.into());
    }

    pub(super) fn notes(&mut self, reason: &str, message: impl Into<String>, hint: impl Into<Hint>) {
        self.push(reason, Severity::Notes, message.into(), hint.into());
    }

    fn push(&mut self, reason: &str, severity: Severity, message: String, hint: Hint) {
        self.0.push(Finding { reason: reason.to_owned(), severity, message, hint });
    }
}

/// The target, as far as the checks need it.
pub(super) struct Target {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) version_num: u32,
    pub(super) version: String,
    pub(super) superuser: bool,
    pub(super) may_create_databases: bool,
    pub(super) may_create_roles: bool,
    pub(super) may_create: bool,
    pub(super) encoding: String,
    pub(super) standby: bool,
}

impl Target {
    async fn read(session: &Session) -> Result<Self, TargetError> {
        let row = session
            .client()
            .query_one(
                "SELECT current_user::text, current_database()::text, current_setting('server_version'),
                        r.rolsuper, r.rolsuper OR r.rolcreatedb,
                        has_database_privilege(current_database(), 'CREATE'),
                        pg_encoding_to_char(d.encoding)::text, pg_is_in_recovery(),
                        r.rolsuper OR r.rolcreaterole
                   FROM pg_roles r, pg_database d
                  WHERE r.rolname = current_user AND d.datname = current_database()",
                &[],
            )
            .await
            .map_err(|error| session.error("asking what the target is", error))?;
        Ok(Self {
            user: row.get(0),
            database: row.get(1),
            version: row.get(2),
            superuser: row.get(3),
            may_create_databases: row.get(4),
            may_create: row.get(5),
            encoding: row.get(6),
            standby: row.get(7),
            may_create_roles: row.get(8),
            version_num: session.version_num(),
        })
    }
}

fn check_server(target: &Target, demands: &Demands<'_>, findings: &mut Findings) {
    if target.standby {
        findings.blocks("TargetIsStandby", "the target is a standby", "give the primary");
    }
    if target.version_num / 10_000 < demands.source.major() {
        findings.blocks(
            "TargetOlder",
            format!(
                "the target runs PostgreSQL {}, the source ran {}",
                target.version, demands.source.version
            ),
            format!("restore into PostgreSQL {} or newer", demands.source.major()),
        );
    }
}

async fn check_new_database(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    name: &str,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    if super::exists(session, name).await? {
        findings.blocks(
            "DatabaseExists",
            format!("database {name:?} exists already; a restore never touches it"),
            Hint::of(
                "drop or rename it, or restore under another name: the database in the URL of --target",
                "drop or rename it, or restore under another name: spec.target.postgres.database",
            ),
        );
    }
    if !target.may_create_databases {
        findings.blocks(
            "PrivilegeMissing",
            format!("role {:?} may not create databases", target.user),
            format!("ALTER ROLE {} CREATEDB", quote_identifier(&target.user)),
        );
    }
    let source = demands.source;
    match source.locale_provider.as_str() {
        "i" => {
            // From 16 on there is one such collation even without ICU.
            let sql = "SELECT count(*) FROM pg_collation WHERE collprovider = 'i' AND collname <> 'unicode'";
            let row = session.client().query_one(sql, &[]).await;
            let known: i64 = row.map_err(|error| session.error("looking for ICU", error))?.get(0);
            if known == 0 {
                findings.blocks(
                    "LocaleMissing",
                    format!("the target has no ICU; the source's locale is {:?}", source.locale),
                    "use a server that was built with ICU",
                );
            }
        }
        _ => check_libc_locales(session, source, findings).await?,
    }
    Ok(())
}

/// There is no asking whether the system knows a locale; initdb listed those that it found then.
async fn check_libc_locales(
    session: &Session,
    source: &ServerFacts,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let rows = session
        .client()
        .query("SELECT DISTINCT collcollate::text FROM pg_collation WHERE collprovider = 'c'", &[])
        .await
        .map_err(|error| session.error("listing locales", error))?;
    // en_US.UTF-8 and en_US.utf8 are the same one.
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '_'], "");
    let known: BTreeSet<String> =
        rows.iter().filter_map(|row| row.get::<_, Option<String>>(0)).map(|name| plain(&name)).collect();
    for locale in BTreeSet::from([source.collate.as_str(), source.ctype.as_str()]) {
        let builtin = ["c", "posix", ""].contains(&plain(locale).as_str());
        if !builtin && !known.contains(&plain(locale)) {
            findings.notes(
                "LocaleUnknown",
                format!("the target did not list locale {locale:?} when it was set up"),
                "if creating the database fails, install the locale on the target's system",
            );
        }
    }
    Ok(())
}

async fn check_roles(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    let mut wanted: BTreeSet<&str> = demands.roles.iter().map(String::as_str).collect();
    if !demands.no_owner {
        wanted.extend(owners(demands).iter().map(|(owner, _)| *owner));
        wanted.extend(demands.properties.and_then(|properties| properties.owner.as_deref()));
    }
    if let Some(properties) = demands.properties {
        wanted.extend(properties.grants.iter().filter_map(|grant| grant.grantee.as_deref()));
        wanted.extend(properties.settings.iter().filter_map(|setting| setting.role.as_deref()));
    }
    wanted.extend(demands.owner);
    let made: BTreeSet<&str> = demands.made_roles.iter().map(|role| role.name.as_str()).collect();
    for role in demands.made_roles {
        let without = match withheld(role) {
            words if words.is_empty() => String::new(),
            words => format!(", and without {}", words.join(", ")),
        };
        findings.notes(
            "RoleMade",
            format!("role {:?} is missing at the target: it is made, without a password{without}", role.name),
            "give it what it needs afterwards",
        );
    }
    if !made.is_empty() && !target.may_create_roles {
        findings.blocks(
            "PrivilegeMissing",
            format!("role {:?} may not create roles", target.user),
            format!("ALTER ROLE {} CREATEROLE, or create them yourself", quote_identifier(&target.user)),
        );
    }
    let wanted: Vec<&str> =
        wanted.into_iter().filter(|role| !role.is_empty() && !made.contains(role)).collect();
    for role in missing(session, "pg_roles", "rolname", &wanted).await? {
        findings.blocks(
            "RoleMissing",
            format!("role {role:?} is missing at the target"),
            Hint::of(
                "create it as `vouchsafe show` lists it, or let the restore make it, by --create-roles, or do without by \
                 --no-owner --no-privileges",
                "create it as `vouchsafe show` lists it, or let the restore make it, by spec.roles.missing: Create",
            ),
        );
    }
    Ok(())
}

/// Owners of what is restored, with one example of what each owns.
pub(super) fn owners<'a>(demands: &Demands<'a>) -> Vec<(&'a str, &'a super::TocEntry)> {
    let mut seen = BTreeSet::new();
    demands
        .plan
        .entries()
        .filter_map(|id| demands.toc.get(id))
        .filter(|entry| !entry.owner.is_empty() && seen.insert(entry.owner.as_str()))
        .map(|entry| (entry.owner.as_str(), entry))
        .collect()
}

async fn check_tablespaces(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    if demands.no_tablespaces {
        return Ok(());
    }
    let wanted: BTreeSet<&str> = demands
        .plan
        .entries()
        .filter_map(|id| demands.toc.get(id))
        .filter_map(|entry| entry.tablespace.as_deref())
        .collect();
    let wanted: Vec<&str> = wanted.into_iter().collect();
    for name in missing(session, "pg_tablespace", "spcname", &wanted).await? {
        findings.blocks(
            "TablespaceMissing",
            format!("tablespace {name:?} is missing at the target"),
            "create it, in any folder of the target's",
        );
    }
    let refused = session
        .client()
        .query(
            "SELECT spcname::text FROM pg_tablespace WHERE spcname::text = ANY ($1) AND NOT has_tablespace_privilege(oid, 'CREATE')",
            &[&wanted],
        )
        .await
        .map_err(|error| session.error("asking for privileges on tablespaces", error))?;
    for row in refused {
        let name: String = row.get(0);
        findings.blocks(
            "PrivilegeMissing",
            format!("role {:?} may not use tablespace {name:?}", target.user),
            format!(
                "GRANT CREATE ON TABLESPACE {} TO {}",
                quote_identifier(&name),
                quote_identifier(&target.user)
            ),
        );
    }
    Ok(())
}

async fn check_extensions(
    session: &Session,
    target: &Target,
    demands: &Demands<'_>,
    findings: &mut Findings,
) -> Result<(), TargetError> {
    for entry in &demands.plan.extensions {
        let recorded = demands.extensions.iter().find(|extension| extension.name == entry.name);
        let rows = session
            .client()
            .query(
                "SELECT v.version, v.superuser, v.trusted, e.default_version
                   FROM pg_available_extension_versions v JOIN pg_available_extensions e USING (name)
                  WHERE v.name = $1::text",
                &[&entry.name],
            )
            .await
            .map_err(|error| session.error("listing extensions", error))?;
        let Some(first) = rows.first() else {
            findings.blocks(
                "ExtensionMissing",
                format!("extension {:?} is not installed on the target's server", entry.name),
                "install its package on the target",
            );
            continue;
        };
        let default: String = first.get(3);
        let wanted = recorded.map_or(default.as_str(), |extension| extension.version.as_str());
        let row = rows.iter().find(|row| row.get::<_, String>(0) == wanted).unwrap_or_else(|| {
            findings.notes(
                "ExtensionVersionMissing",
                format!("extension {:?} has no version {wanted}; {default} is created instead", entry.name),
                "install the version of the source, if what changed in between matters",
            );
            first
        });
        let (superuser, trusted): (bool, bool) = (row.get(1), row.get(2));
        if superuser && !trusted && !target.superuser {
            findings.blocks(
                "SuperuserNeeded",
                format!("only a superuser may create extension {:?}", entry.name),
                "restore as a superuser",
            );
        }
    }
    Ok(())
}

/// Those of `wanted` that `catalog` doesn't list.
async fn missing(
    session: &Session,
    catalog: &str,
    column: &str,
    wanted: &[&str],
) -> Result<Vec<String>, TargetError> {
    let sql = format!(
        "SELECT w FROM unnest($1::text[]) AS u (w) WHERE w NOT IN (SELECT {column}::text FROM {catalog}) ORDER BY w"
    );
    let rows = session.client().query(&sql, &[&wanted]).await;
    let rows = rows.map_err(|error| session.error(format!("reading {catalog}"), error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
