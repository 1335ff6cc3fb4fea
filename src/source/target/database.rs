//! The database that is restored into: built under a name of its own, renamed when it is proven.

use tokio_postgres::error::SqlState;

use super::error::TargetError;
use crate::format::relation::quote_identifier;
use crate::kill_point;
use crate::source::connection::{ClientEncoding, Session, quote_literal};
use crate::source::endpoint::EndpointConfig;
use crate::source::server::ServerFacts;

/// `NAMEDATALEN - 1`: the server cuts longer names silently, so we never send one.
const NAME_BYTES: usize = 63;
/// What stands between the database's name and the restore's.
const INFIX: &str = "_vouchsafe_";

/// A restore's identity: the same for every run of the same restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreId(String);

impl RestoreId {
    /// Sixteen hexadecimal digits are 64 bits: enough that no two restores on a server meet.
    pub const MAX: usize = 16;

    /// Takes the first [`RestoreId::MAX`] of `text`'s lower-case letters and digits (a digest or a UID in hex).
    ///
    /// # Errors
    /// [`TargetError::SelectionUnknown`] if there are fewer than eight of them.
    pub fn new(text: &str) -> Result<Self, TargetError> {
        let id: String =
            text.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit()).take(Self::MAX).collect();
        if id.len() < 8 {
            return Err(TargetError::SelectionUnknown { what: format!("restore identity in {text:?}") });
        }
        Ok(Self(id))
    }

    /// The identity itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unfinished database's name: the wanted one, cut to leave room, and the identity.
    #[must_use]
    pub fn unfinished_name(&self, name: &str) -> String {
        let room = NAME_BYTES - INFIX.len() - self.0.len();
        let mut end = name.len().min(room);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}{INFIX}{}", &name[..end], self.0)
    }

    /// The mark of ownership: the unfinished database's comment.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("vouchsafe restore {}: unfinished, may be dropped", self.0)
    }
}

/// What stands under a restore's own name.
enum Unfinished {
    Nothing,
    Ours,
}

/// A database under construction. Dropping the value leaves the database: [`drop_unfinished`] removes it.
#[derive(Debug)]
pub struct NewDatabase {
    /// A database of the server that isn't the one being built.
    pub(super) maintenance: EndpointConfig,
    /// Its name until it is proven.
    pub(super) unfinished: String,
    /// Its name from then on.
    pub(super) wanted: String,
    oid: u32,
}

impl NewDatabase {
    /// Creates the database for restore `id`, empty, from template0, with encoding and locale of `source`. What
    /// an earlier run of the same restore left is dropped first; the [`super::Fence`] must be held.
    ///
    /// # Errors
    /// [`TargetError::DatabaseExists`] if `wanted` is there; [`TargetError::DatabaseNotOurs`] if the unfinished
    /// name is taken by something that doesn't carry the mark.
    pub async fn create(
        maintenance: &EndpointConfig,
        wanted: &str,
        id: &RestoreId,
        source: &ServerFacts,
        options: &DatabaseOptions,
    ) -> Result<Self, TargetError> {
        let session = Session::connect(maintenance, "restore", &ClientEncoding::Utf8).await?;
        if wanted.is_empty() || wanted.len() > NAME_BYTES || wanted.contains('\0') {
            return Err(TargetError::NameUnfit { name: wanted.to_owned() });
        }
        if oid_of(&session, wanted).await?.is_some() {
            return Err(TargetError::DatabaseExists { name: wanted.to_owned() });
        }
        let unfinished = id.unfinished_name(wanted);
        if let Unfinished::Ours = inspect(&session, maintenance, &unfinished, id).await? {
            drop_forced(&session, &unfinished).await?;
            kill_point::passed("dropped", "database");
        }
        let sql = create_statement(&unfinished, source, options, session.version_num());
        session.client().batch_execute(&sql).await.map_err(|error| match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => TargetError::DiskFull {
                doing: format!("creating database {unfinished:?}"),
                source: error.into(),
            },
            _ => session.error(format!("creating database {unfinished:?}"), error).into(),
        })?;
        kill_point::passed("created", "database");
        let name = quote_identifier(&unfinished);
        let mut mark = format!(
            "COMMENT ON DATABASE {name} IS {}; REVOKE ALL ON DATABASE {name} FROM PUBLIC",
            quote_literal(&id.mark())
        );
        if let Some(owner) = &options.owner {
            mark.push_str(&format!("; ALTER DATABASE {name} OWNER TO {}", quote_identifier(owner)));
        }
        session.run("marking the new database", &mark).await?;
        kill_point::passed("marked", "database");
        let Some(oid) = oid_of(&session, &unfinished).await? else {
            let found = "it was there, and is gone".to_owned();
            return Err(TargetError::DatabaseNotOurs { name: unfinished, found });
        };
        session.close().await?;
        Ok(Self { maintenance: maintenance.clone(), unfinished, wanted: wanted.to_owned(), oid })
    }

    /// Its identity, whatever its name.
    #[must_use]
    pub const fn oid(&self) -> u32 {
        self.oid
    }

    /// How to connect to it.
    #[must_use]
    pub fn endpoint(&self) -> EndpointConfig {
        self.maintenance.with_database(&self.unfinished)
    }

    /// Its present name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.unfinished
    }
}

/// What a new database is made with besides what the source's had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// Its tablespace; `None`: template0's.
    pub tablespace: Option<String>,
    /// Who owns it from the beginning; `None`: the role that makes it.
    pub owner: Option<String>,
}

/// Drops the unfinished database of restore `id`, if there is one; with `only`, if it is the one of that OID. Sessions
/// in it are ended.
///
/// # Errors
/// [`TargetError::DatabaseNotOurs`] if what has its name doesn't carry its mark: that is never dropped.
pub async fn drop_unfinished(
    maintenance: &EndpointConfig,
    wanted: &str,
    id: &RestoreId,
    only: Option<u32>,
) -> Result<bool, TargetError> {
    let session = Session::connect(maintenance, "restore", &ClientEncoding::Utf8).await?;
    let name = id.unfinished_name(wanted);
    let another = only.is_some() && oid_of(&session, &name).await? != only;
    let found = !another && matches!(inspect(&session, maintenance, &name, id).await?, Unfinished::Ours);
    if found {
        drop_forced(&session, &name).await?;
    }
    session.close().await?;
    Ok(found)
}

/// Whether a database is there.
///
/// # Errors
/// A failed query.
pub async fn exists(session: &Session, name: &str) -> Result<bool, TargetError> {
    Ok(oid_of(session, name).await?.is_some())
}

pub(super) async fn oid_of(session: &Session, name: &str) -> Result<Option<u32>, TargetError> {
    let row = session
        .client()
        .query_opt("SELECT oid FROM pg_database WHERE datname = $1::text::name", &[&name])
        .await;
    Ok(row.map_err(|error| session.error("looking for a database", error))?.map(|row| row.get(0)))
}

/// Whose the database `name` is. The mark is written right after the creation; a restore that was killed in
/// between leaves an empty database of ours without it, which is told by being empty and our role's.
async fn inspect(
    session: &Session,
    maintenance: &EndpointConfig,
    name: &str,
    id: &RestoreId,
) -> Result<Unfinished, TargetError> {
    let row = session
        .client()
        .query_opt(
            "SELECT shobj_description(oid, 'pg_database'), datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user)
               FROM pg_database WHERE datname = $1::text::name",
            &[&name],
        )
        .await
        .map_err(|error| session.error("looking at the unfinished database", error))?;
    let Some(row) = row else { return Ok(Unfinished::Nothing) };
    let (comment, own): (Option<String>, bool) = (row.get(0), row.get(1));
    if comment.as_deref() == Some(&id.mark()) {
        return Ok(Unfinished::Ours);
    }
    let not_ours = |found: String| TargetError::DatabaseNotOurs { name: name.to_owned(), found };
    match comment {
        Some(comment) => return Err(not_ours(format!("its comment is {comment:?}"))),
        None if !own => return Err(not_ours("it belongs to another role, and has no comment".into())),
        None => {}
    }
    let inside = Session::connect(&maintenance.with_database(name), "restore", &ClientEncoding::Utf8).await?;
    // FirstNormalObjectId: what lies below came with template0.
    let row = inside
        .client()
        .query_one(
            "SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384) + (SELECT count(*) FROM pg_proc WHERE oid >= 16384)
                  + (SELECT count(*) FROM pg_namespace WHERE oid >= 16384)
                  + (SELECT count(*) FROM pg_largeobject_metadata)",
            &[],
        )
        .await
        .map_err(|error| inside.error("looking into the unfinished database", error))?;
    let objects: i64 = row.get(0);
    inside.close().await?;
    if objects == 0 {
        Ok(Unfinished::Ours)
    } else {
        Err(not_ours(format!("no comment, and {objects} objects")))
    }
}

/// Ends the sessions in a database of ours, and drops it: what a killed restore left running may still be
/// building an index.
async fn drop_forced(session: &Session, name: &str) -> Result<(), TargetError> {
    let sql = format!("DROP DATABASE {} WITH (FORCE)", quote_identifier(name));
    Ok(session.run(&format!("dropping the unfinished database {name:?}"), &sql).await?)
}

/// `CREATE DATABASE` with the source's encoding and locale. `target` is the target's `server_version_num`, which is not below
/// the source's major.
fn create_statement(name: &str, source: &ServerFacts, options: &DatabaseOptions, target: u32) -> String {
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        quote_identifier(name),
        quote_literal(&source.encoding),
        quote_literal(&source.collate),
        quote_literal(&source.ctype)
    );
    // The words are of 15 and later; before, libc is all there is. A newer server needs to be told: its
    // template0 may have another provider.
    if target >= 150_000 {
        let locale = source.locale.as_deref().map(quote_literal).unwrap_or_default();
        match source.locale_provider.as_str() {
            "i" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {locale}")),
            "b" => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}")),
            _ => sql.push_str(" LOCALE_PROVIDER libc"),
        }
        if let Some(rules) = &source.icu_rules {
            sql.push_str(&format!(" ICU_RULES {}", quote_literal(rules)));
        }
    }
    if let Some(tablespace) = &options.tablespace {
        sql.push_str(&format!(" TABLESPACE {}", quote_identifier(tablespace)));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_end_on_a_character() {
        let id = RestoreId::new("0123456789abcdef0123").unwrap();
        assert_eq!(id.unfinished_name("shop"), "shop_vouchsafe_0123456789abcdef");
        for name in ["x".repeat(63), "é".repeat(31), "😀".repeat(15), "a😀".repeat(12)] {
            let unfinished = id.unfinished_name(&name);
            assert!(unfinished.len() <= NAME_BYTES, "{unfinished}");
            assert!(unfinished.ends_with("_vouchsafe_0123456789abcdef"));
        }
        assert!(RestoreId::new("ABC-1").is_err());
    }
}
