//! Every server that the other tests rely on starts, answers, and keeps strangers out.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{
    ApiServer, PASSWORD, PgVersion, Postgres, S3Kind, S3Server, shared, shared_api_server, shared_s3,
};

/// Starts one server of `version`, and asks it through the clients that go with it.
fn answers(version: PgVersion) {
    let started = Instant::now();
    let postgres = shared(version);
    println!("PostgreSQL {version} took {:?}", started.elapsed());
    let database = postgres.fresh_database("answers");
    let answer = postgres.psql(&database, "SHOW server_version").expect("psql");
    assert!(answer.starts_with(&version.to_string()), "{version} says it is {answer}");

    postgres.psql(&database, "CREATE TABLE t AS SELECT generate_series(1, 3) AS n").expect("psql");
    let dump = postgres.client("pg_dump").args(["-Fp", "-d", &database]).output().expect("pg_dump");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(String::from_utf8_lossy(&dump.stdout).contains("CREATE TABLE public.t"));

    let refused = postgres.psql_as("postgres", "wrong", &database, "SELECT 1").expect_err("wrong password");
    assert!(refused.stderr.contains("password authentication failed"), "{refused}");
}

#[test]
fn postgres_13() {
    answers(PgVersion::V13);
}

#[test]
fn postgres_14() {
    answers(PgVersion::V14);
}

#[test]
fn postgres_15() {
    answers(PgVersion::V15);
}

#[test]
fn postgres_16() {
    answers(PgVersion::V16);
}

#[test]
fn postgres_17() {
    answers(PgVersion::V17);
}

#[test]
fn postgres_18() {
    answers(PgVersion::V18);
}

#[test]
fn postgres_restarts_with_its_data_after_kill_9() {
    let postgres = Postgres::start(PgVersion::V15);
    postgres.create_database("kept");
    postgres.psql("kept", "CREATE TABLE t AS SELECT 42 AS n").expect("psql");
    let first = postgres.pid();
    postgres.kill9();
    assert!(postgres.psql("kept", "SELECT 1").is_err(), "a killed server answers");
    postgres.restart();
    assert_ne!(postgres.pid(), first);
    assert_eq!(postgres.psql("kept", "SELECT n FROM t").expect("psql"), "42");
}

#[test]
fn postgres_takes_settings_encoding_and_roles() {
    let postgres = Postgres::builder(PgVersion::V15)
        .encoding("LATIN1")
        .locale("C")
        .config("wal_level", "logical")
        .config("max_connections", "17")
        .start();
    postgres.create_role("o'brien \"x\"", "p'w", "CREATEDB");
    let sql = "SELECT current_setting('wal_level'), current_setting('max_connections'), \
               current_setting('server_encoding'), current_user";
    let answer = postgres.psql_as("o'brien \"x\"", "p'w", "postgres", sql).expect("psql");
    assert_eq!(answer, "logical|17|LATIN1|o'brien \"x\"");
}

#[test]
fn postgres_speaks_tls() {
    for version in [PgVersion::V13, PgVersion::V15, PgVersion::V17] {
        let postgres = Postgres::builder(version).tls().access("hostnossl all all all reject").start();
        let authority = postgres.authority().expect("an authority").display().to_string();
        let with = |mode: &str, root: &str| {
            postgres
                .client("psql")
                .args([
                    "-X",
                    "-A",
                    "-t",
                    "-d",
                    "postgres",
                    "-c",
                    "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                ])
                .env("PGSSLMODE", mode)
                .env("PGSSLROOTCERT", root)
                .output()
                .expect("psql")
        };
        let trusted = with("verify-full", &authority);
        assert_eq!(String::from_utf8_lossy(&trusted.stdout).trim(), "t", "{trusted:?}");
        let plain = with("disable", "");
        assert!(!plain.status.success(), "{version} takes a plain connection");
    }
}

#[test]
fn a_standby_follows_its_primary() {
    let primary = Postgres::start(PgVersion::V15);
    let standby = Postgres::builder(PgVersion::V15).standby_of(&primary).start();
    assert_eq!(standby.psql("postgres", "SELECT pg_is_in_recovery()").expect("psql"), "t");
    primary.psql("postgres", "CREATE TABLE t AS SELECT 7 AS n").expect("psql");
    let deadline = Instant::now() + Duration::from_secs(30);
    while standby.psql("postgres", "SELECT n FROM t").ok().as_deref() != Some("7") {
        assert!(Instant::now() < deadline, "the standby doesn't follow:\n{}", standby.log());
    }
}

/// The test runs itself once more as a process that starts a server and is then killed.
#[test]
fn servers_end_with_a_killed_test_process() {
    const CHILD: &str = "VOUCHSAFE_TESTBED_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let postgres = Postgres::start(PgVersion::V15);
        println!("\nstarted {} {}", postgres.pid(), postgres.data_dir().display());
        std::thread::park();
    }
    let mut child = Command::new(std::env::current_exe().expect("this test's own file"))
        .args(["--exact", "servers_end_with_a_killed_test_process", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let started = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("started ").map(str::to_owned))
        .expect("the child starts a server");
    let (pid, data) = started.split_once(' ').expect("a process id and a folder");
    assert!(Path::new(data).exists(), "no data in {data}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let deadline = Instant::now() + Duration::from_secs(30);
    while Path::new("/proc").join(pid).exists() || Path::new(data).exists() {
        assert!(Instant::now() < deadline, "the server {pid} or its data {data} outlives its test process");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A test that lacks its server must fail, and say what to do.
#[test]
fn a_missing_tool_fails_the_test_and_names_the_remedy() {
    let output = Command::new(std::env::current_exe().expect("this test's own file"))
        .args(["--exact", "minio", "--nocapture"])
        .env("VOUCHSAFE_TOOLS", env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("this test runs");
    assert!(!output.status.success(), "a test without its server passes");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("minio/minio is missing: run ./dev setup"), "{text}");
}

#[test]
fn urls_are_percent_encoded() {
    let postgres = shared(PgVersion::V15);
    let url = postgres.url_as("a b", PASSWORD, "ü/x");
    assert_eq!(url, format!("postgres://a%20b:testbed@127.0.0.1:{}/%C3%BC%2Fx", postgres.port()));
}

/// Buckets, objects, and what must be refused.
fn serves(kind: S3Kind) {
    let server = shared_s3(kind);
    let bucket = server.fresh_bucket("starts");
    let file = std::env::current_exe().expect("this test's own file").with_extension("d");
    let text = std::fs::read_to_string(&file).expect("a small file");
    assert_eq!(server.request("PUT", &format!("{bucket}/a/key"), &[], Some(&file)).status, 200);
    assert_eq!(server.request("GET", &format!("{bucket}/a/key"), &[], None).body, text);
    let again = server.request("PUT", &format!("{bucket}/a/key"), &["if-none-match: *"], Some(&file));
    assert_eq!(again.status, 412, "{kind} overwrites an object under If-None-Match: {again:?}");

    assert_eq!(server.request("PUT", "never-created/key", &[], Some(&file)).status, 404);
    let wrong_secret = server.request_as(server.access_key(), "not-the-secret", "GET", &bucket, &[], None);
    assert_eq!(wrong_secret.status, 403, "{kind}: {wrong_secret:?}");
    let wrong_key = server.request_as("nobody", server.secret_key(), "GET", &bucket, &[], None);
    assert_eq!(wrong_key.status, 403, "{kind}: {wrong_key:?}");

    server.create_bucket_with_object_lock(&format!("{bucket}-locked"));
    let lock = server.request("GET", &format!("{bucket}-locked?object-lock="), &[], None);
    assert!(lock.body.contains("<ObjectLockEnabled>Enabled</ObjectLockEnabled>"), "{kind}: {lock:?}");
}

#[test]
fn minio() {
    serves(S3Kind::Minio);
}

#[test]
fn seaweedfs() {
    serves(S3Kind::SeaweedFs);
}

#[test]
fn s3_servers_restart_with_their_data() {
    for kind in S3Kind::ALL {
        // Beside the shared one: two of a kind must not get in each other's way.
        let server = S3Server::start(kind);
        server.create_bucket("kept");
        let first = server.pid();
        server.kill9();
        server.restart();
        assert_ne!(server.pid(), first);
        let list = server.request("GET", "", &[], None);
        assert!(list.body.contains("<Name>kept</Name>"), "{kind}: {list:?}");
    }
}

#[test]
fn servers_listen_on_another_address() {
    let address = "127.0.0.2".parse().expect("an address");
    let postgres = Postgres::builder(PgVersion::V15).address(address).start();
    assert_eq!(postgres.psql("postgres", "SELECT inet_server_addr()").expect("psql"), "127.0.0.2");
    let refused = std::net::TcpStream::connect(("127.0.0.1", postgres.port())).expect_err("not here");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    for kind in S3Kind::ALL {
        // MinIO listens on 127.0.0.1 besides, whatever it is told.
        let server = S3Server::start_on(kind, address);
        assert!(server.endpoint().starts_with("http://127.0.0.2:"), "{}", server.endpoint());
        server.create_bucket("elsewhere");
    }
}

/// What kubectl wrote, or what it complained of.
fn kubectl(server: &ApiServer, kubeconfig: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = server.kubectl_with(kubeconfig).args(arguments).output().expect("kubectl");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn kubernetes_knows_who_asks() {
    let started = Instant::now();
    let server = shared_api_server();
    println!("Kubernetes took {:?}", started.elapsed());
    let namespace = server.fresh_namespace("asks");
    let admin = server.kubeconfig();
    kubectl(server, &admin, &["create", "serviceaccount", "robot", "-n", &namespace]).expect("an account");
    let robot = server.kubeconfig_of_account(&namespace, "robot");
    let jane = server.kubeconfig_as("jane", &["system:authenticated"]);
    let list = ["get", "configmaps", "-n", &namespace];
    for (who, name) in [(&robot, format!("system:serviceaccount:{namespace}:robot")), (&jane, "jane".into())]
    {
        let refused = kubectl(server, who, &list).expect_err("without a role");
        assert!(refused.contains(&name) && refused.contains("forbidden"), "{refused}");
    }
    for grant in [
        ["create", "role", "reader", "--verb=list", "--resource=configmaps", "-n", &namespace],
        ["create", "rolebinding", "reader", "--role=reader", "--user=jane", "-n", &namespace],
    ] {
        kubectl(server, &admin, &grant).expect("a role");
    }
    // The server learns of roles by a watch of its own.
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(refused) = kubectl(server, &jane, &list) {
        assert!(Instant::now() < deadline, "{refused}");
    }
}

#[test]
fn kubernetes_keeps_what_it_acknowledged_over_kill_9() {
    let server = ApiServer::start();
    let namespace = server.fresh_namespace("kept");
    let (port, pid) = (server.port(), server.pid());
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    kubectl(&server, &server.kubeconfig(), &["get", "namespace", &namespace]).expect("it is there");
}

#[test]
fn kubernetes_own_controllers_can_be_added() {
    let server = shared_api_server();
    server.start_controllers(&["serviceaccount-controller"]);
    let namespace = server.fresh_namespace("controlled");
    let wait = ["wait", "--for=create", "serviceaccount/default", "--timeout=60s", "-n", &namespace];
    kubectl(server, &server.kubeconfig(), &wait).expect("each namespace gets an account");
}
