//! How many entries the catalogs must have, asked in other ways than those in which they are listed: a listing that
//! loses something can't agree with itself only.

use std::collections::{BTreeMap, BTreeSet};

use super::error::SourceError;
use super::reader::Reader;
use crate::format::CatalogCounts;

/// Entries of the database's catalog that every database has: its properties, and its server.
const OF_EVERY_DATABASE: u64 = 2;

impl Reader {
    /// Counts what the catalogs of the snapshot must list, without an index.
    ///
    /// # Errors
    /// A failed query.
    pub async fn count_catalogs(&self) -> Result<CatalogCounts, SourceError> {
        Ok(CatalogCounts {
            roles: self.count_roles().await?,
            sequences: self.count_of("counting sequences", SEQUENCES).await?,
            large_objects: self.count_of("counting large objects", LARGE_OBJECTS).await?,
            database: OF_EVERY_DATABASE
                + self.count_of("counting extensions", EXTENSIONS).await?
                + self.count_of("counting tablespaces", TABLESPACES).await?,
        })
    }

    async fn count_of(&self, doing: &str, sql: &str) -> Result<u64, SourceError> {
        let row = self.session().client().query_one(sql, &[]).await;
        Ok(row.map_err(|error| self.session().error(doing, error))?.get::<_, i64>(0).unsigned_abs())
    }

    /// The listing follows memberships within one statement; here that is done outside the server.
    async fn count_roles(&self) -> Result<u64, SourceError> {
        let doing = "counting roles";
        let failed = |error| self.session().error(doing, error);
        let client = self.session().client();
        let known = client.query("SELECT oid FROM pg_roles", &[]).await.map_err(failed)?;
        let known: BTreeSet<u32> = known.into_iter().map(|row| row.get(0)).collect();
        let members = client.query("SELECT member, roleid FROM pg_auth_members", &[]).await;
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for row in members.map_err(failed)? {
            groups.entry(row.get(0)).or_default().push(row.get(1));
        }
        let named = client.query(NAMED_ROLES, &[]).await.map_err(failed)?;
        let named = named.into_iter().map(|row| row.get(0));
        Ok(reached(named, &groups).intersection(&known).count() as u64)
    }
}

/// `named`, and everything that membership leads to from there.
fn reached(named: impl Iterator<Item = u32>, groups: &BTreeMap<u32, Vec<u32>>) -> BTreeSet<u32> {
    let mut waiting: Vec<u32> = named.collect();
    let mut reached = BTreeSet::new();
    while let Some(role) = waiting.pop() {
        if reached.insert(role) {
            waiting.extend(groups.get(&role).into_iter().flatten());
        }
    }
    reached
}

/// Every sequence has a row here, whatever else knows it. Of an extension's only configuration is dumped.
const SEQUENCES: &str = "
    SELECT count(*) FROM pg_sequence s
     WHERE s.seqrelid >= 16384
       AND CASE WHEN EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                                AND d.objid = s.seqrelid AND d.objsubid = 0 AND d.deptype = 'e')
                THEN EXISTS (SELECT FROM pg_extension e, unnest(e.extconfig) AS configured (oid)
                              WHERE configured.oid = s.seqrelid)
                ELSE EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE c.oid = s.seqrelid AND c.relpersistence IN ('p', 'u')
                                AND NOT starts_with(n.nspname::text, 'pg_')
                                AND n.nspname <> 'information_schema') END";

const LARGE_OBJECTS: &str = "SELECT count(*) FROM pg_largeobject_metadata";

const EXTENSIONS: &str = "SELECT count(*) FROM pg_extension";

/// 1663 is `pg_default`, which every server has.
const TABLESPACES: &str = "
    SELECT count(*) FROM pg_tablespace t
     WHERE t.oid <> 1663
       AND (EXISTS (SELECT FROM pg_database d WHERE d.datname = current_database() AND d.dattablespace = t.oid)
            OR EXISTS (SELECT FROM pg_class c
                        WHERE c.reltablespace = t.oid AND c.oid >= 16384 AND c.relpersistence IN ('p', 'u')))";

/// 1260 and 1262 are `pg_authid` and `pg_database`; 10 is the role that made the cluster, which owns without a
/// record of it.
const NAMED_ROLES: &str = "
    SELECT 10::oid
     UNION ALL
    SELECT DISTINCT s.refobjid FROM pg_shdepend s JOIN pg_database d ON d.datname = current_database()
     WHERE s.refclassid = 1260 AND d.oid = CASE s.dbid WHEN 0 THEN CASE s.classid WHEN 1262 THEN s.objid END
                                                       ELSE s.dbid END
     UNION ALL
    SELECT unnest(array_append(ARRAY(SELECT r.setrole FROM pg_db_role_setting r WHERE r.setdatabase = d.oid), d.datdba))
      FROM pg_database d WHERE d.datname = current_database()";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_are_followed_once_and_in_one_direction() {
        let groups = BTreeMap::from([(1, vec![2, 3]), (2, vec![4]), (4, vec![1]), (9, vec![1])]);
        assert_eq!(reached([1].into_iter(), &groups), BTreeSet::from([1, 2, 3, 4]));
        assert_eq!(reached([3, 7].into_iter(), &groups), BTreeSet::from([3, 7]));
    }
}
