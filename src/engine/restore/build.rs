//! The order of a restore, carried out.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::super::backups::Backup;
use super::super::error::EngineError;
use super::super::progress::Stage;
use super::super::told;
use super::content::Content;
use super::site::Site;
use super::{RestoreJob, RestoredTable, compare, large_objects, load};
use crate::format::QualifiedName;
use crate::kill_point;
use crate::source::target::{Archive, RestorePlan, create_extensions, refresh_views, set_sequences};
use crate::source::{ClientEncoding, Selection, Session};
use crate::telemetry::spans::part;

/// What is restored from, and in which order.
pub(super) struct Material<'a> {
    pub(super) job: &'a RestoreJob,
    pub(super) backup: &'a Backup,
    pub(super) content: &'a Content,
    pub(super) archive: &'a Archive,
    pub(super) plan: &'a RestorePlan,
    /// `block_size` of the target.
    pub(super) block_size: u32,
}

impl Material<'_> {
    /// Builds everything, and compares every table.
    pub(super) async fn build(&self, site: &Site) -> Result<Vec<RestoredTable>, EngineError> {
        let Self { job, backup, content, archive, plan, block_size } = *self;
        let endpoint = site.endpoint();
        let jobs = job.parallelism.max(1);
        job.progress.begin(Stage::Schema, 0, 0);
        let session = Session::connect(&endpoint, "restore", &ClientEncoding::Utf8).await?;
        let defined = async {
            archive.restore(&endpoint, "schemas", &plan.schemas, 1).await?;
            kill_point::passed("restored", "schemas");
            create_extensions(&session, &plan.extensions, &content.extensions).await?;
            archive.restore(&endpoint, "definitions", &plan.definitions, 1).await?;
            site.record(&session).await
        };
        told(part!("definitions"), defined).await?;
        kill_point::passed("restored", "definitions");
        let content_of = Arc::new(content.clone());
        let cleared = Default::default();
        let loader =
            load::Loading { job, backup, content: content_of, archive, plan, endpoint: &endpoint, cleared };
        told(part!("load"), loader.tables()).await?;
        kill_point::passed("loaded", "tables");
        job.progress.begin(Stage::Finish, 0, 0);
        archive.restore(&endpoint, "postponed", &plan.postponed, jobs).await?;
        site.record(&session).await?;
        kill_point::passed("restored", "postponed");
        loader.tables_after_indexes().await?;
        let mut sequences = Vec::new();
        if !job.schema_only {
            // Another schema's sequence of an existing database may have the name of one that was not chosen.
            let ours = |name: &QualifiedName| !site.holds_others() || self.is_ours(name);
            let whole = job.selection == Selection::default();
            sequences = content.sequences_in(&session, |name| whole && ours(name)).await?;
            sequences.retain(|sequence| ours(&sequence.name));
            set_sequences(&session, &sequences).await?;
            kill_point::passed("restored", "sequences");
            large_objects::restore(&loader, site, &session, block_size).await?;
        }
        archive.restore(&endpoint, "relations", &plan.relations, jobs).await?;
        site.record(&session).await?;
        kill_point::passed("restored", "relations");
        let tables = match job.schema_only {
            true => Vec::new(),
            false => told(part!("compare"), compare::compare(job, content, plan, &endpoint)).await?,
        };
        compare::compare_sequences(&session, &sequences).await?;
        kill_point::passed("compared", "tables");
        job.progress.begin(Stage::Finish, 0, 0);
        archive.restore(&endpoint, "access", &plan.access, 1).await?;
        kill_point::passed("restored", "access");
        if !job.schema_only {
            let ours = |view: &&QualifiedName| !site.holds_others() || self.is_ours(view);
            let populated: HashSet<QualifiedName> =
                content.populated_views.iter().filter(ours).cloned().collect();
            refresh_views(&session, &plan.materialized_views, &populated).await?;
        }
        archive.restore(&endpoint, "views", &plan.views, jobs).await?;
        site.analyze(&session, &self.analyzed()).await?;
        kill_point::passed("analyzed", "database");
        archive.restore(&endpoint, "event triggers", &plan.events, 1).await?;
        session.close().await?;
        Ok(tables)
    }

    /// Whether something of this name was made by the restore, into schemas that were absent or empty.
    fn is_ours(&self, name: &QualifiedName) -> bool {
        self.plan.schema_names.contains(&name.schema)
    }

    /// Tables whose statistics are collected, partitions with their root.
    fn analyzed(&self) -> Vec<QualifiedName> {
        let tables = self.content.tables.iter().map(|table| &table.facts);
        let chosen = tables.filter(|facts| self.plan.tables.contains(&facts.name));
        let names: BTreeSet<QualifiedName> = chosen
            .map(|facts| match &facts.partition_root {
                Some(root) if self.is_ours(root) => root.clone(),
                _ => facts.name.clone(),
            })
            .collect();
        names.into_iter().collect()
    }
}
