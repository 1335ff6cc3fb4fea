//! Where a server is and how it is spoken to: parsed once, before anything is connected to.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::SourceError;
use super::password::PasswordSources;

/// A password. Neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself, for the one who sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The authorities whose signature on the server's certificate counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Those that this machine trusts.
    System,
    /// The certificates of a PEM file.
    File(PathBuf),
    /// The certificates of PEM text.
    Pem(Vec<u8>),
}

/// How the connection is protected; libpq's words (PostgreSQL manual, 34.19.1), without those that fall back
/// to plain text silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Encrypted; the certificate must be signed by an authority and carry the host's name.
    VerifyFull(Authorities),
    /// Encrypted; the certificate must be signed by an authority.
    VerifyCa(Authorities),
    /// Encrypted; any certificate will do. Protects from listeners, not from impostors.
    Require,
    /// Plain text.
    Disable,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// The directory of its Unix socket.
    Socket(PathBuf),
}

impl Host {
    /// Whether nothing leaves this machine on the way there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Tcp(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(name) if name.contains(':') => write!(f, "[{name}]"),
            Self::Tcp(name) => f.write_str(name),
            Self::Socket(directory) => write!(f, "{}", directory.display()),
        }
    }
}

/// One server, one database, one role.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Where it is.
    pub host: Host,
    /// Its port; also part of a socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Its password, if one is known.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How the connection is protected.
    pub tls: Tls,
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
}

impl EndpointConfig {
    /// PostgreSQL's port.
    pub const DEFAULT_PORT: u16 = 5432;
    /// A TCP handshake, TLS and SCRAM across continents take under 2 s; five times that is a dead server.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// Parses `postgres://user@host:port/database?sslmode=…&sslrootcert=FILE&connect_timeout=SECONDS`.
    ///
    /// A Unix socket is `postgres://user@/database?host=/directory`. Without `sslmode`, `verify-full` is
    /// meant for every host but this machine itself (a socket, `localhost`, a loopback address), where
    /// nothing crosses a network and a server seldom has a certificate for that name: there it is `disable`.
    ///
    /// # Errors
    /// [`SourceError::InvalidEndpoint`]: no URL of that form, an unknown option, or a password in it.
    pub fn parse(text: &str, passwords: &PasswordSources) -> Result<Self, SourceError> {
        // The text itself may hold a password: no message repeats it.
        let (text, hostless) = with_host(text);
        let url =
            url::Url::parse(&text).map_err(|error| invalid(format!("not a URL of a server: {error}")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(invalid(format!("{}: is no scheme of PostgreSQL; postgres:// is", url.scheme())));
        }
        if url.password().is_some() {
            return Err(invalid(
                "a password in a URL shows in process lists and shell histories; set PGPASSWORD or PGPASSFILE",
            ));
        }
        let mut host = match url.host_str() {
            None | Some("") => None,
            Some(_) if hostless => None,
            Some(name) => {
                let name = percent_decoded(name.trim_start_matches('[').trim_end_matches(']'), "host")?;
                Some(if name.starts_with('/') { Host::Socket(name.into()) } else { Host::Tcp(name) })
            }
        };
        let mut port = url.port();
        let mut mode = None;
        let mut root = None;
        let mut connect_timeout = Self::DEFAULT_CONNECT_TIMEOUT;
        for (name, value) in url.query_pairs() {
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => root = Some(value.into_owned()),
                "host" if host.is_none() && value.starts_with('/') => {
                    host = Some(Host::Socket(value.as_ref().into()));
                }
                "port" if port.is_none() => {
                    port = Some(value.parse().map_err(|_| invalid(format!("port {value:?} is no port")))?);
                }
                "connect_timeout" => {
                    let seconds = value.parse::<u64>().ok().filter(|seconds| (1..=3600).contains(seconds));
                    connect_timeout = Duration::from_secs(seconds.ok_or_else(|| {
                        invalid(format!("connect_timeout {value:?}: 1 to 3600 seconds are possible"))
                    })?);
                }
                "password" | "passfile" => {
                    return Err(invalid(format!(
                        "{name} is not taken from a URL; set PGPASSWORD or PGPASSFILE"
                    )));
                }
                _ => return Err(invalid(format!("unknown option {name:?} in the URL of a server"))),
            }
        }
        let host = host.ok_or_else(|| invalid("the URL names no host (a socket is ?host=/directory)"))?;
        if matches!(&host, Host::Tcp(name) if name.contains(',')) {
            return Err(invalid("one endpoint is one server: several hosts in one URL are not taken"));
        }
        let user = percent_decoded(url.username(), "role")?;
        let database = percent_decoded(url.path().trim_start_matches('/'), "database")?;
        if user.is_empty() {
            return Err(invalid("the URL names no role: postgres://ROLE@host/database"));
        }
        if database.is_empty() {
            return Err(invalid("the URL names no database: postgres://role@host/DATABASE"));
        }
        let tls = parse_tls(mode.as_deref(), root, &host)?;
        let port = port.unwrap_or(Self::DEFAULT_PORT);
        let password = passwords.find(&host, port, &database, &user)?;
        Ok(Self { host, port, user, password, database, tls, connect_timeout })
    }

    /// The same server and role, another database. The password is kept.
    #[must_use]
    pub fn with_database(&self, database: impl Into<String>) -> Self {
        Self { database: database.into(), ..self.clone() }
    }
}

impl fmt::Display for EndpointConfig {
    /// `host:port/database`: for messages; neither role nor password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

fn invalid(what: impl Into<String>) -> SourceError {
    SourceError::InvalidEndpoint { what: what.into() }
}

fn parse_tls(mode: Option<&str>, root: Option<String>, host: &Host) -> Result<Tls, SourceError> {
    let authorities = match root.as_deref() {
        None | Some("system") => Authorities::System,
        Some(file) => Authorities::File(Path::new(file).to_owned()),
    };
    // A certificate was given, so it is meant to be checked, also on this machine.
    let mode = mode.unwrap_or(if host.is_local() && root.is_none() { "disable" } else { "verify-full" });
    if matches!(host, Host::Socket(_)) && mode != "disable" {
        return Err(invalid(format!("sslmode={mode}: there is no TLS on a Unix socket")));
    }
    match mode {
        "verify-full" => Ok(Tls::VerifyFull(authorities)),
        "verify-ca" => Ok(Tls::VerifyCa(authorities)),
        "require" | "disable" if root.is_some() => {
            Err(invalid(format!("sslmode={mode} would ignore sslrootcert; verify-full uses it")))
        }
        "require" => Ok(Tls::Require),
        "disable" => Ok(Tls::Disable),
        "prefer" | "allow" => Err(invalid(format!(
            "sslmode={mode} falls back to plain text silently; verify-full, verify-ca, require and disable are possible"
        ))),
        _ => Err(invalid(format!(
            "sslmode={mode:?} is unknown; verify-full, verify-ca, require and disable are possible"
        ))),
    }
}

/// libpq's `role@/database` has no host, which RFC 3986 allows and the WHATWG's URLs, read here, don't: a
/// stand-in is put in its place.
fn with_host(text: &str) -> (std::borrow::Cow<'_, str>, bool) {
    let Some(authority) = text.find("://").map(|at| at + 3) else { return (text.into(), false) };
    let end = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
    if !text[authority..end].ends_with('@') {
        return (text.into(), false);
    }
    (format!("{}socket{}", &text[..end], &text[end..]).into(), true)
}

/// Percent-decoding (RFC 3986, 2.1); the `url` crate leaves these parts encoded.
fn percent_decoded(text: &str, part: &str) -> Result<String, SourceError> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            decoded.push(digits.ok_or_else(|| invalid(format!("% without two digits in the {part}")))?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    if decoded.contains(&0) {
        return Err(invalid(format!("the {part} holds a NUL")));
    }
    String::from_utf8(decoded).map_err(|_| invalid(format!("the {part} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EndpointConfig, SourceError> {
        EndpointConfig::parse(text, &PasswordSources::none())
    }

    #[test]
    fn everything_is_taken_from_the_url() {
        let endpoint = parse(
            "postgres://b%C3%A4r@db.example:6000/sh%2Fop?sslmode=verify-ca&sslrootcert=/ca.pem&connect_timeout=3",
        )
        .unwrap();
        assert_eq!(endpoint.user, "bär");
        assert_eq!(endpoint.database, "sh/op");
        assert_eq!(endpoint.host, Host::Tcp("db.example".into()));
        assert_eq!(endpoint.port, 6000);
        assert_eq!(endpoint.tls, Tls::VerifyCa(Authorities::File("/ca.pem".into())));
        assert_eq!(endpoint.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn encryption_is_left_out_only_on_this_machine() {
        for local in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(parse(&format!("postgres://u@{local}/d")).unwrap().tls, Tls::Disable, "{local}");
        }
        assert_eq!(parse("postgres://u@/d?host=/run/postgresql").unwrap().tls, Tls::Disable);
        for remote in ["db.example", "10.0.0.1", "localhost.evil.example", "[2001:db8::1]"] {
            assert_eq!(
                parse(&format!("postgres://u@{remote}/d")).unwrap().tls,
                Tls::VerifyFull(Authorities::System),
                "{remote}"
            );
        }
        assert_eq!(
            parse("postgres://u@localhost/d?sslrootcert=/ca.pem").unwrap().tls,
            Tls::VerifyFull(Authorities::File("/ca.pem".into()))
        );
    }

    #[test]
    fn passwords_in_urls_are_refused_without_repeating_them() {
        for text in ["postgres://u:hunter2@h/d", "postgres://u@h/d?password=hunter2"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.reason(), "InvalidEndpoint");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
            assert!(error.to_string().contains("PGPASSWORD"), "{error}");
        }
    }

    #[test]
    fn malformed_urls_are_refused() {
        for text in [
            "",
            "shop",
            "mysql://u@h/d",
            "postgres://h/d",
            "postgres://u@h",
            "postgres://u@h/",
            "postgres:///d",
            "postgres://u@h/d?sslmode=prefer",
            "postgres://u@h/d?sslmode=full",
            "postgres://u@h/d?sslmode=require&sslrootcert=/ca.pem",
            "postgres://u@/d?host=/run&sslmode=require",
            "postgres://u@h/d?options=-cwork_mem%3D1",
            "postgres://u@h,i/d",
            "postgres://u@h/d?connect_timeout=0",
            "postgres://u@h:99999/d",
            "postgres://u%00@h/d",
            "postgres://u%ff@h/d",
            "postgres://u%4@h/d",
        ] {
            assert_eq!(parse(text).unwrap_err().reason(), "InvalidEndpoint", "{text}");
        }
    }

    #[test]
    fn debug_output_hides_the_password() {
        let mut endpoint = parse("postgres://u@h/d").unwrap();
        endpoint.password = Some(Secret::new("hunter2"));
        assert!(!format!("{endpoint:?} {endpoint}").contains("hunter2"));
    }
}
