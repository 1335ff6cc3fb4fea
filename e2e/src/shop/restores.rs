//! Restores of a shop.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::Postgres;
use vouchsafe::api::{Restore, RestorePhase, RestoreStatus};

use super::Shop;
use crate::wait::wait_until;

impl Shop {
    /// A Restore into `database` of the shop's own server.
    ///
    /// # Errors
    /// When `from` does not fit the API's types.
    pub fn restore(&self, name: &str, from: &Value, database: &str) -> Result<Restore> {
        self.restore_on(self.postgres, name, from, database)
    }

    /// A Restore into `database` of another server.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn restore_on(&self, server: &Postgres, name: &str, from: &Value, database: &str) -> Result<Restore> {
        let restore = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Restore", "metadata": {"name": name},
            "spec": {
                "from": from,
                "target": {"postgres": {
                    "host": server.address().to_string(), "port": server.port(),
                    "database": database, "credentialsSecret": {"name": "pg"}, "tls": {"mode": "Disable"},
                }},
            },
        });
        serde_json::from_value(restore).context("a Restore")
    }

    /// Waits until the Restore's status is as wanted, and returns it.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub async fn restore_reaches(
        &self,
        name: &str,
        wanted: &str,
        limit: Duration,
        is: impl Fn(&RestoreStatus) -> bool,
    ) -> Result<RestoreStatus> {
        let look = |restore: Option<&Restore>| restore?.status.clone().filter(|status| is(status));
        let seen = wait_until(self.namespace.api::<Restore>(), name, wanted, limit, look).await;
        seen.with_context(|| self.namespace.state())
    }

    /// Waits until the Restore has ended, which must be well, and its database equals the shop's by SQL.
    ///
    /// # Errors
    /// Also when it is not so.
    pub async fn restored(&self, name: &str, database: &str, limit: Duration) -> Result<RestoreStatus> {
        self.restored_on(self.postgres, name, database, limit).await
    }

    /// The same for a database of another server.
    ///
    /// # Errors
    /// As [`Self::restored`].
    pub async fn restored_on(
        &self,
        server: &Postgres,
        name: &str,
        database: &str,
        limit: Duration,
    ) -> Result<RestoreStatus> {
        let over = [RestorePhase::Succeeded, RestorePhase::Failed, RestorePhase::Canceled];
        let is_over = |status: &RestoreStatus| status.phase.is_some_and(|phase| over.contains(&phase));
        let status = self.restore_reaches(name, "over", limit, is_over).await?;
        ensure!(status.phase == Some(RestorePhase::Succeeded), "{:?}", status.failure);
        for place in self.places {
            let table = place.table;
            let all = format!("SELECT count(*), md5(string_agg(t::text, '|' ORDER BY id)) FROM {table} t");
            let (there, here) = (server.psql(database, &all)?, self.postgres.psql(&self.database, &all)?);
            ensure!(there == here, "{table} is restored as {there}, and is {here}");
        }
        Ok(status)
    }
}
