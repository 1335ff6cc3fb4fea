//! A server of the API, as one that the engine connects to.

use std::path::PathBuf;

use super::super::Failure;
use super::file::{self, Scope};
use crate::api::{CaRef, CredentialsRef, TlsMode, ValidatedServer, ValidatedTls};
use crate::engine::EngineError;
use crate::source::{Authorities, EndpointConfig, Host, PasswordSources, Secret, Tls};

/// The endpoint at `path` of a spec: who logs in comes from its Secret, else from the environment.
pub(in crate::cli) fn endpoint(
    server: &ValidatedServer,
    path: &str,
    database: &str,
    scope: &Scope<'_>,
) -> Result<EndpointConfig, Failure> {
    let ValidatedServer { host, port, credentials, tls } = server;
    let field = format!("{path}.credentialsSecret");
    let secret = match credentials {
        None => None,
        Some(reference) => scope.secret(&field, &reference.secret)?.map(|keys| (reference, keys)),
    };
    let host = match (host, &secret) {
        (Some(host), _) => host.clone(),
        (None, Some((reference, keys))) => file::text(&field, keys, &reference.host_key)?,
        (None, None) => {
            let message = format!("{path}.host: it is in a Secret, and the file does not have that Secret");
            return Err(Failure::usage(message, "name the host, or add the Secret to the file"));
        }
    };
    let host = if host.starts_with('/') { Host::Socket(PathBuf::from(host)) } else { Host::Tcp(host) };
    let tls = protection(tls, &format!("{path}.tls"), &host, scope)?;
    let (user, password) = match secret {
        Some((CredentialsRef { username_key, password_key, .. }, keys)) => {
            let password = Secret::new(file::text(&field, keys, password_key)?);
            (file::text(&field, keys, username_key)?, Some(password))
        }
        None => {
            if let Some(CredentialsRef { secret, .. }) = credentials {
                eprintln!("{field}: Secret {secret} is not in the file; the environment says who logs in");
            }
            let user = std::env::var("PGUSER").ok().filter(|user| !user.is_empty()).ok_or_else(|| {
                let message = format!("{field}: nobody says who logs in");
                Failure::usage(message, "add the Secret to the file, or set PGUSER and PGPASSWORD")
            })?;
            let found = PasswordSources::from_environment().find(&host, *port, database, &user);
            (user, found.map_err(EngineError::from)?)
        }
    };
    Ok(EndpointConfig {
        host,
        port: *port,
        user,
        password,
        database: database.to_owned(),
        tls,
        connect_timeout: EndpointConfig::DEFAULT_CONNECT_TIMEOUT,
    })
}

fn protection(tls: &ValidatedTls, path: &str, host: &Host, scope: &Scope<'_>) -> Result<Tls, Failure> {
    let ValidatedTls { mode, ca } = tls;
    if matches!(host, Host::Socket(_)) && *mode != TlsMode::Disable {
        let message = format!("{path}.mode: {mode:?}, and there is no TLS on a Unix socket");
        return Err(Failure::usage(message, "set tls.mode to Disable for a socket"));
    }
    let field = format!("{path}.ca");
    let authorities = match ca {
        None => Authorities::System,
        Some(CaRef::Secret(reference)) => Authorities::Pem(scope.key(&field, "Secret", reference)?.to_vec()),
        Some(CaRef::ConfigMap(reference)) => {
            Authorities::Pem(scope.key(&field, "ConfigMap", reference)?.to_vec())
        }
    };
    Ok(match mode {
        TlsMode::VerifyFull => Tls::VerifyFull(authorities),
        TlsMode::VerifyCa => Tls::VerifyCa(authorities),
        TlsMode::Require => Tls::Require,
        TlsMode::Disable => Tls::Disable,
    })
}
