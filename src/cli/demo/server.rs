//! The demo's own PostgreSQL server: without TCP, in a folder of its own, gone when the demo ends.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};

use super::super::Failure;
use super::super::output::Reason;
use crate::source::{ClientEncoding, EndpointConfig, Host, Session, Tls};

/// The keeper: stops the server and removes the folder as soon as its standard input ends, which it does
/// however the demo ends, a `kill -9` included. `$1` is the folder to remove, or empty.
const KEEPER: &str = r#"
folder=$1; shift
"$@" </dev/null & server=$!
cat >/dev/null
kill -INT "$server" 2>/dev/null
wait "$server"
[ -z "$folder" ] || rm -rf -- "$folder"
"#;

/// A server on an idle machine answers in under a second; sixty times that is for a busy one.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A fast shutdown without fsync takes well under a second.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The role that PostgreSQL's packages make, for whom root starts servers: PostgreSQL refuses to run as root.
const SERVER_ACCOUNT: &str = "postgres";

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    keeper: Child,
    /// Held open; its end stops the server.
    stdin: Option<ChildStdin>,
    sockets: PathBuf,
    folder: TempDir,
}

impl Server {
    /// Makes a cluster below `folder` with the programs of `programs`, and starts it.
    pub(super) async fn start(folder: TempDir, programs: &Path, keep: bool) -> Result<Self, Failure> {
        let run = folder.path().join("server");
        let (data, sockets) = (run.join("data"), run.join("sockets"));
        let account = Account::of_server().await?;
        account.prepare(folder.path(), &run)?;
        let mut initdb = account.command(&programs.join("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.arg("--pgdata").arg(&data);
        finished("initdb", initdb).await?;
        let mut mkdir = account.command(Path::new("mkdir"));
        finished("mkdir", {
            mkdir.arg(&sockets);
            mkdir
        })
        .await?;
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(KEEPER).arg("keeper");
        keeper.arg(if keep { Path::new("") } else { folder.path() });
        keeper.args(account.words(&programs.join("postgres")));
        keeper.arg("-D").arg(&data).arg("-k").arg(&sockets);
        for setting in [
            "listen_addresses=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_wal_size=4GB",
            "shared_buffers=128MB",
        ] {
            keeper.arg("-c").arg(setting);
        }
        let log = run_log(folder.path())?;
        let errors = log.try_clone().map_err(|error| local("the server's log", &error))?;
        keeper.stdin(Stdio::piped()).stdout(log).stderr(errors);
        // Not in the terminal's process group: Ctrl-C is ours to handle, and the server's end comes after.
        keeper.process_group(0);
        let mut keeper = keeper.spawn().map_err(|error| local("starting the server", &error))?;
        let stdin = keeper.stdin.take();
        let server = Self { keeper, stdin, sockets, folder };
        server.answers().await?;
        Ok(server)
    }

    /// How its database `name` is reached.
    pub(super) fn database(&self, name: &str) -> EndpointConfig {
        EndpointConfig {
            host: Host::Socket(self.sockets.clone()),
            port: EndpointConfig::DEFAULT_PORT,
            user: "postgres".to_owned(),
            password: None,
            database: name.to_owned(),
            tls: Tls::Disable,
            connect_timeout: EndpointConfig::DEFAULT_CONNECT_TIMEOUT,
        }
    }

    /// The folder of everything.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn answers(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let failed = match Session::connect(&self.database("postgres"), "demo", &ClientEncoding::Utf8)
                .await
            {
                Ok(session) => return Ok(session.close().await.map_err(crate::engine::EngineError::from)?),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                let log = std::fs::read_to_string(self.folder().join("server.log")).unwrap_or_default();
                let last = log.lines().rev().take(5).collect::<Vec<_>>();
                let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
                let message = format!("PostgreSQL did not start: {failed}\n{last}");
                return Err(Failure::failed(
                    Reason::ServerNotStarted,
                    message,
                    "see the server's own words above",
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the server; its folder goes with it, unless `keep`.
    pub(super) async fn stop(mut self, keep: bool) -> Result<(), Failure> {
        drop(self.stdin.take());
        let stopped = tokio::time::timeout(STOP_LIMIT, self.keeper.wait()).await;
        if keep {
            // Deliberately left behind: the person asked for it.
            let _path = self.folder.keep();
        }
        match stopped {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(local("stopping the server", &error)),
            Err(_) => {
                let message = format!("PostgreSQL did not stop within {} s", STOP_LIMIT.as_secs());
                Err(Failure::failed(
                    Reason::ServerNotStopped,
                    message,
                    "look for a server in the demo's folder",
                ))
            }
        }
    }
}

/// Who runs the server.
#[derive(Debug)]
enum Account {
    /// This process's own user.
    Ours,
    /// Another one, since ours is root.
    Other { user: u32, group: u32 },
}

impl Account {
    async fn of_server() -> Result<Self, Failure> {
        if !rustix::process::getuid().is_root() {
            return Ok(Self::Ours);
        }
        let id = async |option: &str| {
            let mut command = Command::new("id");
            command.arg(option).arg(SERVER_ACCOUNT);
            let output = finished("id", command).await?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.trim().parse::<u32>().map_err(|_| Failure::internal(format!("id printed {text:?}")))
        };
        Ok(Self::Other { user: id("-u").await?, group: id("-g").await? })
    }

    /// `program` as words of a command line that runs it under this account.
    fn words(&self, program: &Path) -> Vec<std::ffi::OsString> {
        let mut words: Vec<std::ffi::OsString> = match self {
            Self::Ours => Vec::new(),
            Self::Other { user, group } => vec![
                "setpriv".into(),
                format!("--reuid={user}").into(),
                format!("--regid={group}").into(),
                "--clear-groups".into(),
            ],
        };
        words.push(program.into());
        words
    }

    fn command(&self, program: &Path) -> Command {
        let words = self.words(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Makes `run` for the account alone, and lets it pass through `folder`: the server trusts whoever
    /// reaches its socket.
    fn prepare(&self, folder: &Path, run: &Path) -> Result<(), Failure> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
        let failed =
            |error: std::io::Error| local(&format!("the demo's folder {}", folder.display()), &error);
        std::fs::DirBuilder::new().mode(0o700).create(run).map_err(failed)?;
        if let Self::Other { user, group } = self {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).map_err(failed)?;
            chown(run, Some(*user), Some(*group)).map_err(failed)?;
        }
        Ok(())
    }
}

fn run_log(folder: &Path) -> Result<std::fs::File, Failure> {
    let path = folder.join("server.log");
    std::fs::File::create(&path).map_err(|error| local(&format!("making {}", path.display()), &error))
}

/// A failure of this machine, not of what is shown.
pub(super) fn local(what: &str, error: &std::io::Error) -> Failure {
    Failure::failed(Reason::LocalFailure, format!("{what}: {error}"), "mend it, and run the demo again")
}

async fn finished(name: &str, mut command: Command) -> Result<Output, Failure> {
    let output = command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| local(name, &error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = format!("{name} failed ({}): {}", output.status, said.trim());
    Err(Failure::failed(Reason::ToolFailed, message, "PostgreSQL's server packages are needed, see README"))
}
