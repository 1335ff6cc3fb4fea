//! A certificate authority of one test server, made by the openssl program.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::template::run;
use crate::tools;

/// The files of a server that speaks TLS.
#[derive(Debug)]
pub struct Certificates {
    /// What clients must trust.
    pub authority: PathBuf,
    /// What the server shows.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Makes an authority and a certificate for 127.0.0.1 and localhost in `folder`, good for a day.
#[must_use]
pub fn make(folder: &Path) -> Certificates {
    let file = |name: &str| folder.join(name);
    let extensions = file("extensions");
    std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .unwrap_or_else(|cause| panic!("can't write {}: {cause}", extensions.display()));
    let openssl = |arguments: &[&str]| run(Command::new("openssl").current_dir(folder).args(arguments));
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[
            &["req", "-x509", "-days", "1", "-subj", "/CN=testbed authority"],
            &key[..],
            &["-keyout", "ca.key", "-out", "ca.crt"],
        ]
        .concat(),
    );
    openssl(
        &[&["req", "-subj", "/CN=localhost"], &key[..], &["-keyout", "server.key", "-out", "server.csr"]]
            .concat(),
    );
    openssl(&[
        "x509",
        "-req",
        "-days",
        "1",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "extensions",
        "-out",
        "server.crt",
    ]);
    // The server refuses a key that others may read.
    set_permissions(file("server.key"), Permissions::from_mode(0o600))
        .unwrap_or_else(|cause| panic!("can't protect {}: {cause}", file("server.key").display()));
    tools::hand_over(&file("server.key"));
    Certificates { authority: file("ca.crt"), certificate: file("server.crt"), key: file("server.key") }
}
