//! How to reach a PostgreSQL server, checked: a source's endpoint and a restore's target alike.

use super::super::refusal::Refusals;
use super::super::{Auth, AwsIamAuth, CaSource, KeyRef, PasswordAuth, PostgresSecret, Tls, TlsMode};

/// PostgreSQL's own port.
pub const DEFAULT_PORT: u16 = 5432;

/// How to reach a PostgreSQL server. The login is by password; nothing else is built yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedServer {
    /// Host name, address, or the folder of a Unix socket. `None` only with `credentials`, whose Secret
    /// then holds it under `host_key`.
    pub host: Option<String>,
    /// 1 to 65535.
    pub port: u16,
    /// Who logs in. `None`: the environment's (`PGUSER`, `PGPASSWORD`, `PGPASSFILE`), on a command line.
    pub credentials: Option<CredentialsRef>,
    /// How the connection is protected.
    pub tls: ValidatedTls,
}

/// A Secret that says who logs in, and its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsRef {
    /// The Secret's name, in the same namespace.
    pub secret: String,
    /// The key of the user.
    pub username_key: String,
    /// The key of the password.
    pub password_key: String,
    /// The key of the host, read only if the server's `host` is `None`.
    pub host_key: String,
}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedTls {
    /// What is demanded of the server.
    pub mode: TlsMode,
    /// The CAs that may have signed its certificate; `None`: the system's. Only with VerifyFull and
    /// VerifyCa.
    pub ca: Option<CaRef>,
}

/// One key that holds CAs in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaRef {
    /// Of a Secret.
    Secret(KeyRef),
    /// Of a ConfigMap.
    ConfigMap(KeyRef),
}

/// The fields that an endpoint and a target share, as written.
pub(super) struct Reach {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub credentials_secret: Option<PostgresSecret>,
    pub tls: Option<Tls>,
    pub auth: Option<Auth>,
}

impl ValidatedServer {
    pub(super) fn parse(refusals: &mut Refusals, path: &str, reach: Reach) -> Option<Self> {
        let Reach { host, port, credentials_secret, tls, auth } = reach;
        let before = refusals.len();
        if host.is_none() && credentials_secret.is_none() {
            let hint = "name the server in host, or a credentialsSecret that holds it under hostKey";
            refusals.add(super::super::Refused::Missing, format!("{path}.host"), "is required", hint);
        }
        login(refusals, path, auth);
        let credentials = credentials_secret.map(|secret| {
            let PostgresSecret { name, username_key, password_key, host_key } = secret;
            let key = |key: Option<String>, absent: &str| key.unwrap_or_else(|| absent.to_owned());
            CredentialsRef {
                secret: name,
                username_key: key(username_key, "username"),
                password_key: key(password_key, "password"),
                host_key: key(host_key, "host"),
            }
        });
        let tls = protection(refusals, &format!("{path}.tls"), tls);
        let port = port.unwrap_or(DEFAULT_PORT);
        (refusals.len() == before).then_some(ValidatedServer { host, port, credentials, tls: tls? })
    }
}

fn login(refusals: &mut Refusals, path: &str, auth: Option<Auth>) {
    let Some(Auth { password, aws_iam }) = auth else { return };
    match (password, aws_iam) {
        (Some(PasswordAuth {}), None) => {}
        (None, Some(AwsIamAuth { username: _, region: _ })) => {
            refusals.not_built_yet(true, format!("{path}.auth.awsIam"), "log in by a password from a Secret");
        }
        (Some(_), Some(_)) => {
            refusals.conflict(format!("{path}.auth"), "has both password and awsIam", "keep one of them");
        }
        (None, None) => {
            refusals.conflict(format!("{path}.auth"), "says no way", "leave auth out to log in by password");
        }
    }
}

fn protection(refusals: &mut Refusals, path: &str, tls: Option<Tls>) -> Option<ValidatedTls> {
    let Some(Tls { mode, ca }) = tls else {
        return Some(ValidatedTls { mode: TlsMode::VerifyFull, ca: None });
    };
    let mode = mode.unwrap_or_default();
    let Some(CaSource { secret, config_map }) = ca else { return Some(ValidatedTls { mode, ca: None }) };
    let found = match (secret, config_map) {
        (Some(secret), None) => CaRef::Secret(secret),
        (None, Some(config_map)) => CaRef::ConfigMap(config_map),
        _ => {
            let hint = "name the key that holds the CA in one of them";
            refusals.conflict(format!("{path}.ca"), "has not exactly one of secret and configMap", hint);
            return None;
        }
    };
    if matches!(mode, TlsMode::Require | TlsMode::Disable) {
        let hint = "take mode VerifyFull or VerifyCa, or leave ca out";
        refusals.conflict(format!("{path}.ca"), format!("is never looked at with mode {mode:?}"), hint);
        return None;
    }
    Some(ValidatedTls { mode, ca: Some(found) })
}
