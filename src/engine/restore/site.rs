//! Where a restore is built: a database of its own, or schemas of one that is there.

use super::super::error::EngineError;
use crate::kill_point;
use crate::source::target::{
    ClaimedSchemas, DatabaseProperties, Fence, LargeObject, NewDatabase, analyze, analyze_tables,
    large_objects,
};
use crate::source::{EndpointConfig, Session};

/// The place under construction.
#[derive(Debug)]
pub(super) enum Site {
    /// A database that gets its name, and these properties, when it is proven.
    New { made: NewDatabase, properties: DatabaseProperties },
    /// Schemas; what is made in them is recorded until it is proven.
    Existing { claimed: ClaimedSchemas, endpoint: EndpointConfig },
}

impl Site {
    /// How to connect to it.
    pub(super) fn endpoint(&self) -> EndpointConfig {
        match self {
            Self::New { made, .. } => made.endpoint(),
            Self::Existing { endpoint, .. } => endpoint.clone(),
        }
    }

    /// Whether there is anything that isn't the restore's.
    pub(super) const fn holds_others(&self) -> bool {
        matches!(self, Self::Existing { .. })
    }

    /// To be called when definitions were made.
    pub(super) async fn record(&self, session: &Session) -> Result<(), EngineError> {
        match self {
            Self::New { .. } => Ok(()),
            Self::Existing { claimed, .. } => Ok(claimed.record_contents(session).await?),
        }
    }

    /// Makes empty large objects.
    pub(super) async fn create_large_objects(
        &self,
        session: &Session,
        objects: &[LargeObject],
    ) -> Result<(), EngineError> {
        match self {
            Self::New { .. } => Ok(large_objects::create(session, objects).await?),
            Self::Existing { claimed, .. } => Ok(claimed.create_large_objects(session, objects).await?),
        }
    }

    /// The OID of the database that was made.
    pub(super) const fn database(&self) -> Option<u32> {
        match self {
            Self::New { made, .. } => Some(made.oid()),
            Self::Existing { .. } => None,
        }
    }

    /// Collects statistics, of what is the restore's.
    pub(super) async fn analyze(
        &self,
        session: &Session,
        tables: &[crate::format::QualifiedName],
    ) -> Result<(), EngineError> {
        match self {
            Self::New { .. } => Ok(analyze(session).await?),
            Self::Existing { .. } => Ok(analyze_tables(session, tables).await?),
        }
    }

    /// Makes a proven restore what was asked for, if no other restore can have been at it.
    pub(super) async fn finish(self, fence: &Fence) -> Result<(), EngineError> {
        fence.check().await?;
        match self {
            Self::New { made, properties } => made.rename_into_place(&properties).await?,
            Self::Existing { claimed, endpoint } => {
                let utf8 = crate::source::ClientEncoding::Utf8;
                let session = Session::connect(&endpoint, "restore", &utf8).await?;
                claimed.settle(&session).await?;
                crate::engine::best_effort("the restore is settled", session.close().await);
            }
        }
        kill_point::passed("renamed", "database");
        Ok(())
    }
}
