//! Two databases compared by SQL alone, which shares no code with the engine's own comparison.

use std::collections::BTreeMap;

use super::super::Failure;
use crate::engine::EngineError;
use crate::source::{ClientEncoding, EndpointConfig, Session, SourceError};

/// What is compared besides tables: a name, and a statement that gives one text.
const FACTS: [(&str, &str); 5] = [
    ("large objects", "SELECT string_agg(oid || ' ' || md5(lo_get(oid)), ', ' ORDER BY oid) FROM pg_largeobject_metadata"),
    ("sequences", "SELECT string_agg(schemaname || '.' || sequencename || ' ' || last_value, ', ') FROM pg_sequences"),
    ("the view turnover", "SELECT md5(string_agg(t::text, ',' ORDER BY region, state)) FROM shop.turnover t"),
    (
        "indexes",
        "SELECT md5(string_agg(indexdef, E'\\n' ORDER BY indexdef)) FROM pg_indexes WHERE schemaname = 'shop'",
    ),
    (
        "constraints",
        "SELECT md5(string_agg(conrelid::regclass || pg_get_constraintdef(oid), E'\\n'
             ORDER BY conrelid::regclass::text, conname)) FROM pg_constraint WHERE connamespace = 'shop'::regnamespace",
    ),
];

/// What SQL says of a database: per table its rows and a sum of hashes, and the facts.
pub(super) async fn summary(endpoint: &EndpointConfig) -> Result<BTreeMap<String, String>, Failure> {
    let session =
        Session::connect(endpoint, "demo", &ClientEncoding::Utf8).await.map_err(EngineError::from)?;
    let mut summary = BTreeMap::new();
    let tables = "SELECT string_agg(oid::regclass::text, ' ' ORDER BY oid::regclass::text) FROM pg_class
         WHERE relkind = 'r' AND relnamespace = 'shop'::regnamespace";
    // The shop's own names hold no space, and regclass has quoted them.
    for table in one(&session, "listing tables", tables).await?.split(' ') {
        let sql = format!(
            "SELECT count(*) || ' rows, hashes sum up to ' || coalesce(sum(hashtext(t::text)::bigint), 0)
             FROM ONLY {table} t"
        );
        summary.insert(table.to_owned(), one(&session, table, &sql).await?);
    }
    for (name, sql) in FACTS {
        summary.insert(name.to_owned(), one(&session, name, sql).await?);
    }
    session.close().await.map_err(EngineError::from)?;
    Ok(summary)
}

/// The one text that a statement gives.
pub(super) async fn one(session: &Session, doing: &str, sql: &str) -> Result<String, Failure> {
    let found =
        session.client().query_one(sql, &[]).await.and_then(|row| row.try_get::<_, Option<String>>(0));
    match found {
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(error) => {
            let source = error.into();
            Err(EngineError::from(SourceError::Query { doing: doing.to_owned(), source }).into())
        }
    }
}
