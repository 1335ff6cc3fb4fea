//! What can be refused before anything is locked: the kind of server, missing privileges, row security.

use super::connection::{ClientEncoding, Session};
use super::endpoint::EndpointConfig;
use super::error::SourceError;
use super::likeness::Likeness;
use super::outline::Outline;
use super::relations::Relations;
use super::selection::Selection;
use super::server::{ServerFacts, refuse_pooler};
use super::{large_objects, sequences};

/// Checks that this role can back the database up, and says what is missing all at once.
///
/// # Errors
/// [`SourceError::PoolerDetected`], [`SourceError::StandbyRefused`], [`SourceError::ServerTooOld`];
/// [`SourceError::PrivilegesMissing`] with the GRANT statements; [`SourceError::RowSecurityFilters`] naming a
/// table whose rows this role would see only some of; whatever connecting may fail with.
pub async fn preflight(endpoint: &EndpointConfig, selection: &Selection) -> Result<ServerFacts, SourceError> {
    Ok(look(endpoint, selection, false).await?.facts)
}

/// What a look before a backup has found.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// The server.
    pub facts: ServerFacts,
    /// The database.
    pub outline: Outline,
    /// What other servers must have alike, if that was asked for.
    pub likeness: Option<Likeness>,
}

/// The same, with what is there; `among_others`: there are several servers, which must be alike.
///
/// # Errors
/// As for [`preflight`].
pub async fn look(
    endpoint: &EndpointConfig,
    selection: &Selection,
    among_others: bool,
) -> Result<Preflight, SourceError> {
    refuse_pooler(endpoint).await?;
    let session = Session::connect(endpoint, "preflight", &ClientEncoding::Utf8).await?;
    let facts = ServerFacts::read(&session).await?;
    let relations = Relations::list(&session).await?;
    let mut grants = relations.missing_grants(session.user());
    grants.extend(sequences::missing_grants(&session).await?);
    grants.extend(large_objects::missing_grant(&session).await?);
    if !grants.is_empty() {
        return Err(SourceError::PrivilegesMissing { user: session.user().to_owned(), grants });
    }
    relations.require_unfiltered(session.user(), selection)?;
    let outline = Outline::read(&session, &relations, selection).await?;
    let likeness = match among_others {
        true => Some(Likeness::read(&session, selection).await?),
        false => None,
    };
    session.close().await?;
    Ok(Preflight { facts, outline, likeness })
}
