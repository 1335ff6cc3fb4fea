//! What is backed up: pgbench's tables, a wide one, and one of large values; and tables that memory is measured with.

use testbed::{PgVersion, Postgres};

/// The database of the figures.
pub(crate) const SHOP: &str = "bench";
/// The database of the memory figures.
pub(crate) const MEMORY: &str = "memory";

/// The server, set up as for a machine of 8 GB. Its files are in memory, so that ratios tell of programs and not
/// of a disk that others use too; backups are written to the disk.
pub(crate) fn server() -> Postgres {
    Postgres::builder(PgVersion::V15)
        .in_memory()
        .config("shared_buffers", "1GB")
        .config("maintenance_work_mem", "256MB")
        .config("max_wal_size", "16GB")
        .config("checkpoint_timeout", "30min")
        .config("fsync", "on")
        .config("synchronous_commit", "on")
        .config("full_page_writes", "on")
        .config("wal_level", "replica")
        .config("max_wal_senders", "5")
        .config("autovacuum", "off")
        .start()
}

/// Fills the databases; `small` with a tenth.
pub(crate) fn load(server: &Postgres, small: bool) {
    let part = if small { 10 } else { 1 };
    println!("loading the data");
    server.create_database(SHOP);
    let scale = (80 / part).to_string();
    let made = server.client("pgbench").args(["-i", "-q", "-s", &scale, SHOP]).output().unwrap();
    assert!(made.status.success(), "pgbench: {}", String::from_utf8_lossy(&made.stderr));
    let wide = 2_000_000 / part;
    let documents = 24_000 / part;
    server
        .psql(
            SHOP,
            &format!(
                "CREATE TABLE orders (
                   id bigint PRIMARY KEY, customer int NOT NULL, article int NOT NULL, amount smallint,
                   price numeric(12,2), tax numeric(12,4), discount double precision, paid boolean,
                   ordered timestamptz, packed timestamptz, sent timestamptz, arrived date,
                   token uuid, name text, street text, town text, country char(2), email text, note text,
                   flags int, weight real, properties jsonb);
                 INSERT INTO orders SELECT i, i % 50000, i % 977, i % 7, (i % 100000) / 100.0, i / 7.0, i / 3.0,
                   i % 2 = 0, '2026-01-01'::timestamptz + i * interval '1 s',
                   '2026-01-01'::timestamptz + i * interval '2 s', NULL, '2026-01-01'::date + i % 365,
                   md5(i::text)::uuid, 'customer ' || i % 50000, i % 200 || ' long street', 'town ' || i % 977,
                   (ARRAY['de', 'fr', 'us', 'jp'])[1 + i % 4], 'c' || i % 50000 || '@example.org',
                   CASE WHEN i % 5 = 0 THEN repeat('please ring ', i % 9) END, i % 64, i / 9.0,
                   jsonb_build_object('colour', i % 12, 'size', i % 40, 'gift', i % 3 = 0)
                   FROM generate_series(1, {wide}) i;
                 CREATE INDEX ON orders (customer); CREATE INDEX ON orders (ordered);
                 CREATE TABLE documents (id int PRIMARY KEY, title text, body text, scan bytea);
                 INSERT INTO documents SELECT i, 'document ' || i,
                   (SELECT string_agg((ARRAY['the', 'order', 'of', 'goods', 'was', 'delivered', 'late', 'and',
                     'customer', 'asks', 'for', 'money', 'back', 'which', 'we', 'refuse', 'because'])
                     [1 + abs(hashint4(i * 1000 + j)) % 17], ' ') FROM generate_series(1, 1000) j),
                   (SELECT decode(string_agg(md5((i * 1000 + j)::text), ''), 'hex') FROM generate_series(1, 1000) j)
                   FROM generate_series(1, {documents}) i;
                 VACUUM (FREEZE, ANALYZE);"
            ),
        )
        .unwrap();
    server.create_database(MEMORY);
    // `large` is `small` sixteen times, and both are of several spans.
    let rows = 1_000_000 / part;
    server
        .psql(
            MEMORY,
            &format!(
                "CREATE TABLE small (id bigint, a bigint, b text);
                 INSERT INTO small SELECT i, i * 7, md5(i::text) || md5((i * 3)::text) FROM generate_series(1, {rows}) i;
                 CREATE TABLE large (LIKE small);
                 INSERT INTO large SELECT s.* FROM generate_series(1, 16), small s;
                 CREATE TABLE single (value bytea);
                 ALTER TABLE single ALTER value SET STORAGE EXTERNAL;
                 INSERT INTO single SELECT convert_to(repeat(md5('x') || 'y', {}), 'UTF8');
                 VACUUM (FREEZE, ANALYZE)",
                (256 << 20) / 33 / part
            ),
        )
        .unwrap();
}
