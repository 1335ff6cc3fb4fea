//! Restores that give roles other names: everything that named the old ones names the new ones, and nothing else has
//! changed.

use rstest::rstest;
use testbed::{PgVersion, shared};

use super::shop::{Shop, run};

const ROLES: &str = "
    CREATE ROLE \"Named Group\"; CREATE ROLE named_reader LOGIN IN ROLE \"Named Group\";
    CREATE ROLE named_app LOGIN; GRANT named_reader TO named_app";

/// A table, a column, a schema and a policy that are called as a role is, and every kind of statement that names roles.
const OWNS: &str = r#"
    CREATE TABLE events(id int PRIMARY KEY);
    CREATE SCHEMA named_app AUTHORIZATION named_app;
    CREATE TABLE named_app.named_app(named_app int PRIMARY KEY, "to" text);
    INSERT INTO named_app.named_app SELECT i, 'named_app' FROM generate_series(1, 50) i;
    ALTER TABLE named_app.named_app OWNER TO named_app;
    GRANT SELECT (named_app), UPDATE ("to") ON named_app.named_app TO named_reader;
    GRANT USAGE ON SCHEMA named_app TO "Named Group";
    GRANT SELECT ON named_app.named_app TO "Named Group" WITH GRANT OPTION;
    SET ROLE "Named Group"; GRANT SELECT ON named_app.named_app TO PUBLIC; RESET ROLE;
    ALTER TABLE named_app.named_app ENABLE ROW LEVEL SECURITY;
    CREATE POLICY named_app ON named_app.named_app FOR SELECT TO named_reader, "Named Group", named_app
        USING ("to" = ' TO named_app' OR named_app > 0);
    CREATE POLICY everybody ON named_app.named_app FOR DELETE USING (true);
    CREATE FUNCTION named_app.f(named_app int) RETURNS int LANGUAGE sql AS 'SELECT 1 /* OWNER TO named_app */';
    ALTER FUNCTION named_app.f OWNER TO "Named Group"; GRANT EXECUTE ON FUNCTION named_app.f TO named_app;
    ALTER DEFAULT PRIVILEGES FOR ROLE named_app IN SCHEMA named_app GRANT SELECT ON TABLES TO named_reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE "Named Group" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    CREATE SEQUENCE named_app.s; ALTER SEQUENCE named_app.s OWNER TO "Named Group";
    SELECT lo_from_bytea(4713, 'x'); ALTER LARGE OBJECT 4713 OWNER TO named_app;
    GRANT SELECT ON LARGE OBJECT 4713 TO named_reader;
    CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing; ALTER SERVER far OWNER TO named_app;
    CREATE USER MAPPING FOR named_reader SERVER far OPTIONS (user 'named_reader');"#;

/// Owners, privileges and whoever is named, with names as the server writes them; of privileges that are granted one by
/// one, which come back in another order, their number and one of them.
const LOOK: &str = "
    SELECT 'relation', oid::regclass, pg_get_userbyid(relowner), relacl FROM pg_class WHERE relnamespace = 'named_app'::regnamespace ORDER BY relname;
    SELECT 'column', attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384 ORDER BY attname;
    SELECT 'schema', pg_get_userbyid(nspowner), nspacl FROM pg_namespace WHERE nspname = 'named_app';
    SELECT 'function', pg_get_userbyid(proowner), proacl, prosrc FROM pg_proc WHERE oid >= 16384;
    SELECT 'policy', policyname, roles, qual FROM pg_policies ORDER BY 2;
    SELECT 'default', pg_get_userbyid(defaclrole), defaclobjtype, defaclacl FROM pg_default_acl ORDER BY 2, 3;
    SELECT 'large object', pg_get_userbyid(lomowner), cardinality(lomacl), lomacl::text LIKE '%named_reader=r/named_app%' OR lomacl::text LIKE '%looks=r/%Owner of All%' FROM pg_largeobject_metadata;
    SELECT 'database', pg_get_userbyid(datdba), cardinality(datacl), datacl::text LIKE '%named_reader=C/named_app%' OR datacl::text LIKE '%looks=C/%Owner of All%' FROM pg_database WHERE datname = current_database();
    SELECT 'setting', pg_get_userbyid(setrole), setconfig FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database());
    SELECT 'server', pg_get_userbyid(srvowner), srvacl FROM pg_foreign_server;
    SELECT 'mapping', usename, umoptions FROM pg_user_mappings;
    SELECT 'rows', count(*), sum(named_app), min(\"to\") FROM named_app.named_app;";

/// What the source says, with the roles' new names where it names roles. Objects keep theirs.
fn expected(source: &str) -> String {
    let renamed = |line: &str| -> String {
        let mut fields: Vec<String> = line.split('|').map(str::to_owned).collect();
        // The fields with roles of each kind; all others are the same.
        let roles: &[usize] = match fields[0].as_str() {
            "relation" => &[2, 3],
            "column" | "policy" => &[2],
            "schema" | "function" | "server" => &[1, 2],
            "default" => &[1, 3],
            "setting" | "mapping" | "large object" | "database" => &[1],
            _ => &[],
        };
        for field in roles {
            let text = &mut fields[*field];
            *text = text.replace("named_app", "Owner of All").replace("named_reader", "looks");
        }
        fields.join("|")
    };
    // What needs quotes as a part of an ACL or of a list gets them.
    let lines = source.lines().map(renamed).map(|line| match line.starts_with("policy") {
        true => line.replace(",Owner of All", ",\"Owner of All\""),
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Quotes around names in ACLs depend on what else is in them: they are left out on both sides.
fn plain(text: &str) -> String {
    // From 17 on, whoever has every privilege on a table may maintain it, too.
    text.trim().replace(['"', '\\'], "").replace("=arwdDxtm/", "=arwdDxt/")
}

#[rstest]
#[case::of_the_same_major(PgVersion::V15, "named_there_restored", &[])]
#[case::of_a_newer_major(PgVersion::V17, "named_newer_restored", &[])]
#[case::made_there(PgVersion::V16, "named_made_restored", &["--create-roles"])]
fn whatever_named_a_role_names_its_new_name(
    #[case] version: PgVersion,
    #[case] database: &str,
    #[case] options: &[&str],
) {
    let source = shared(PgVersion::V15);
    {
        // Roles are the whole server's: the first case makes them.
        let _turn = turn();
        let known = "SELECT FROM pg_roles WHERE rolname = 'named_app'";
        if source.psql("postgres", &format!("SELECT count(*) FROM ({known}) x")).unwrap().trim() == "0" {
            source.psql("postgres", ROLES).unwrap();
        }
    }
    let shop = Shop::with("named", OWNS);
    let own = &shop.database;
    shop.sql(&format!(
        "ALTER DATABASE \"{own}\" OWNER TO named_app; GRANT CREATE ON DATABASE \"{own}\" TO named_reader;
         ALTER ROLE named_app IN DATABASE \"{own}\" SET work_mem = '5MB'"
    ));
    run(shop.backup_under(&[], "1Mi")).must_succeed();
    let server = shared(version);
    if options.is_empty() {
        let there = format!(
            "DO $$ BEGIN {} END $$",
            ["\"Owner of All\"", "looks", "\"Named Group\""]
                .map(|role| {
                    let name = role.trim_matches('"');
                    format!("IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN CREATE ROLE {role}; END IF;")
                })
                .join(" ")
        );
        server.psql("postgres", &there).unwrap();
    }
    let restore = |more: &[&str]| {
        let mut command = shop.restore_to(server, database);
        command.args(options).args(more);
        run(command)
    };
    // A name that the backup doesn't have is somebody's mistake.
    let unknown = restore(&["--map-role", "nobody=looks"]);
    assert_ne!(unknown.code, Some(0), "{unknown:?}");
    assert!(format!("{unknown:?}").contains("doesn't name: nobody"), "{unknown:?}");
    let twice = restore(&["--map-role", "named_app=looks", "--map-role", "named_app=other"]);
    assert!(format!("{twice:?}").contains("mapped twice"), "{twice:?}");
    assert!(server.psql(database, "SELECT 1").is_err(), "a refused restore has made something");

    restore(&["--map-role", "named_app=Owner of All", "--map-role", "named_reader=looks"]).must_succeed();
    let (before, now) = (shop.sql(LOOK), server.psql(database, LOOK).unwrap());
    assert_eq!(plain(&now), plain(&expected(&before)), "left what was restored");
    assert!(before.contains("named_reader") && before.contains("mapping"), "{before}");
    if !options.is_empty() {
        let made = "SELECT rolcanlogin, pg_has_role('Owner of All', 'looks', 'MEMBER'), pg_has_role('looks', 'Named Group', 'MEMBER')
                      FROM pg_roles WHERE rolname = 'Owner of All'";
        assert_eq!(server.psql("postgres", made).unwrap().trim(), "t|t|t");
        let old = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'named\\_%'";
        assert_eq!(server.psql("postgres", old).unwrap().trim(), "0", "the old names were made too");
    }
}

fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
