//! A connection's settings for programs that speak through libpq: by environment and files, never in argv.

use std::ffi::OsString;
use std::io::Write;

use tempfile::NamedTempFile;
use tokio::process::Command;

use super::error::TargetError;
use crate::source::endpoint::{Authorities, EndpointConfig, Host, Tls};

/// Settings of every session of `pg_restore`. The rename at the end is committed synchronously, and with it
/// everything that was written before.
const OPTIONS: &str = "-c synchronous_commit=off -c statement_timeout=0 -c idle_in_transaction_session_timeout=0";

/// Where Linux distributions keep the authorities that they trust: libpq before 16 has no word for them.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Environment variables for one endpoint, with the files that they name. The files go when this is dropped.
#[derive(Debug)]
pub(super) struct Environment {
    variables: Vec<(&'static str, OsString)>,
    _files: Vec<NamedTempFile>,
}

impl Environment {
    pub(super) fn new(endpoint: &EndpointConfig) -> Result<Self, TargetError> {
        let mut files = Vec::new();
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("PGPORT", endpoint.port.to_string().into()),
            ("PGUSER", endpoint.user.clone().into()),
            ("PGCONNECT_TIMEOUT", endpoint.connect_timeout.as_secs().max(1).to_string().into()),
            ("PGAPPNAME", "vouchsafe restore".into()),
            ("PGOPTIONS", OPTIONS.into()),
        ];
        variables.push(match &endpoint.host {
            Host::Tcp(name) => ("PGHOST", name.into()),
            Host::Socket(directory) => ("PGHOST", directory.into()),
        });
        // A password file, not PGPASSWORD: an environment can be read by whatever the program starts. Created
        // with mode 0600.
        if let Some(password) = &endpoint.password {
            let line = format!("*:*:*:*:{}\n", password.expose().replace('\\', "\\\\").replace(':', "\\:"));
            variables.push(("PGPASSFILE", file(&mut files, line.as_bytes())?));
        } else {
            variables.push(("PGPASSFILE", "/dev/null".into()));
        }
        let (mode, authorities) = match &endpoint.tls {
            Tls::VerifyFull(authorities) => ("verify-full", Some(authorities)),
            Tls::VerifyCa(authorities) => ("verify-ca", Some(authorities)),
            Tls::Require => ("require", None),
            Tls::Disable => ("disable", None),
        };
        variables.push(("PGSSLMODE", mode.into()));
        match authorities {
            None => {}
            Some(Authorities::File(path)) => variables.push(("PGSSLROOTCERT", path.into())),
            Some(Authorities::Pem(pem)) => {
                let path = file(&mut files, pem)?;
                variables.push(("PGSSLROOTCERT", path));
            }
            Some(Authorities::System) => {
                let found = SYSTEM_AUTHORITIES.iter().find(|path| std::path::Path::new(path).exists());
                variables.push(("PGSSLROOTCERT", found.unwrap_or(&"system").into()));
            }
        }
        Ok(Self { variables, _files: files })
    }

    /// Gives the program these settings, and none of ours.
    pub(super) fn apply(&self, command: &mut Command) {
        Self::clear(command);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Takes away every setting of libpq that we were started with: PGSERVICE or PGHOSTADDR would lead
    /// elsewhere.
    pub(super) fn clear(command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
    }
}

fn file(files: &mut Vec<NamedTempFile>, content: &[u8]) -> Result<OsString, TargetError> {
    let local = |source| TargetError::Local { doing: "writing a file for pg_restore".into(), source };
    let mut file = NamedTempFile::new().map_err(local)?;
    file.write_all(content).map_err(local)?;
    file.flush().map_err(local)?;
    let path = file.path().as_os_str().to_owned();
    files.push(file);
    Ok(path)
}
