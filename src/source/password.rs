//! Passwords from where libpq takes them: the environment and password files, never an argument.

use std::path::{Path, PathBuf};

use super::endpoint::{Host, Secret};
use super::error::SourceError;

/// Where a password may come from, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct PasswordSources {
    /// `PGPASSWORD`.
    pub password: Option<Secret>,
    /// `PGPASSFILE`: has to be readable if it is named.
    pub file: Option<PathBuf>,
    /// `~/.pgpass`: may be missing.
    pub default_file: Option<PathBuf>,
}

/// A password file holds a few hundred lines at most; more is not one.
const PASSWORD_FILE_LIMIT: u64 = 1 << 20;

impl PasswordSources {
    /// No password at all: for servers that ask for none.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of this process: `PGPASSWORD`, else `PGPASSFILE`, else `~/.pgpass`.
    #[must_use]
    pub fn from_environment() -> Self {
        Self {
            password: std::env::var("PGPASSWORD").ok().filter(|value| !value.is_empty()).map(Secret::new),
            file: std::env::var_os("PGPASSFILE").filter(|value| !value.is_empty()).map(PathBuf::from),
            default_file: std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass")),
        }
    }

    /// The password for a role on a server; `None` if there is none, which is fine where none is asked for.
    ///
    /// # Errors
    /// [`SourceError::InvalidEndpoint`] if the file that was named can't be read, or others may read it.
    pub fn find(
        &self,
        host: &Host,
        port: u16,
        database: &str,
        user: &str,
    ) -> Result<Option<Secret>, SourceError> {
        if self.password.is_some() {
            return Ok(self.password.clone());
        }
        let text = match (&self.file, &self.default_file) {
            (Some(file), _) => read(file).map_err(|error| SourceError::InvalidEndpoint {
                what: format!("the password file {} can't be used: {error}", file.display()),
            })?,
            // libpq ignores an unusable ~/.pgpass with a warning; so the server decides whether one is needed.
            (None, Some(file)) => match read(file) {
                Ok(text) => text,
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::NotFound {
                        tracing::warn!(file = %file.display(), %error, "password file ignored");
                    }
                    return Ok(None);
                }
            },
            (None, None) => return Ok(None),
        };
        // libpq looks a socket up as "localhost" if it is the default directory, else by its path.
        let host = match host {
            Host::Tcp(name) => name.clone(),
            Host::Socket(path) if is_default_socket(path) => "localhost".to_owned(),
            Host::Socket(path) => path.display().to_string(),
        };
        Ok(lookup(&text, [&host, &port.to_string(), database, user]).map(Secret::new))
    }
}

/// The directories that builds of libpq have as their default.
fn is_default_socket(path: &Path) -> bool {
    [Path::new("/tmp"), Path::new("/var/run/postgresql"), Path::new("/run/postgresql")].contains(&path)
}

fn read(file: &Path) -> std::io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file)?;
    if !metadata.is_file() && metadata.len() == 0 {
        return Err(std::io::Error::other("it is no plain file"));
    }
    // libpq's rule: nobody but the owner. A file of root that our group may read is how secrets are mounted.
    if metadata.mode() & 0o007 != 0 || metadata.mode() & 0o030 != 0 {
        return Err(std::io::Error::other("others may read it; chmod 0600"));
    }
    if metadata.len() > PASSWORD_FILE_LIMIT {
        return Err(std::io::Error::other("it is longer than 1 MiB"));
    }
    std::fs::read_to_string(file)
}

/// The first line whose four fields match wins (PostgreSQL manual, 34.16): `host:port:database:user:password`,
/// `*` matches all, a backslash makes the next character plain, `#` starts a comment line.
fn lookup(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line.trim_end_matches('\r');
        for want in wanted {
            let (field, wild, after) = field(rest)?;
            if !(wild || field == want) {
                return None;
            }
            rest = after;
        }
        let (password, _, _) = field_to_end(rest);
        (!password.is_empty()).then_some(password)
    })
}

/// The next field, whether it is an unescaped `*`, and what follows its colon.
fn field(text: &str) -> Option<(String, bool, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return Some((value, &text[..at] == "*", &text[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    None
}

/// The password: up to the next unescaped colon or the end.
fn field_to_end(text: &str) -> (String, bool, &str) {
    field(text).unwrap_or_else(|| {
        let mut value = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            value.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
        (value, false, "")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_line_that_matches_wins() {
        let text = "# comment\nh:5432:d:u:first\nh:*:*:u:second\n*:*:*:*:last\n";
        assert_eq!(lookup(text, ["h", "5432", "d", "u"]).as_deref(), Some("first"));
        assert_eq!(lookup(text, ["h", "5433", "d", "u"]).as_deref(), Some("second"));
        assert_eq!(lookup(text, ["i", "5433", "d", "v"]).as_deref(), Some("last"));
        assert_eq!(lookup("h:1:d:u:p", ["h", "2", "d", "u"]), None);
        assert_eq!(lookup("h:1:d", ["h", "1", "d", "u"]), None);
    }

    #[test]
    fn backslashes_make_colons_and_stars_plain() {
        assert_eq!(lookup("\\::1:\\*:u:a\\:b\\\\c", [":", "1", "*", "u"]).as_deref(), Some("a:b\\c"));
        assert_eq!(lookup("h:1:\\*:u:p", ["h", "1", "d", "u"]), None);
    }

    #[test]
    fn the_environment_wins_and_a_named_file_must_be_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        std::fs::write(&file, "h:1:d:u:secret\n").unwrap();
        let host = Host::Tcp("h".into());
        let mut sources = PasswordSources { file: Some(file.clone()), ..PasswordSources::none() };
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = sources.find(&host, 1, "d", "u").unwrap_err();
        assert!(error.to_string().contains("chmod 0600"), "{error}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(sources.find(&host, 1, "d", "u").unwrap(), Some(Secret::new("secret")));
        sources.password = Some(Secret::new("env"));
        assert_eq!(sources.find(&host, 1, "d", "u").unwrap(), Some(Secret::new("env")));
        let missing = PasswordSources { file: Some(folder.path().join("none")), ..PasswordSources::none() };
        assert!(missing.find(&host, 1, "d", "u").is_err());
        let optional =
            PasswordSources { default_file: Some(folder.path().join("none")), ..PasswordSources::none() };
        assert_eq!(optional.find(&host, 1, "d", "u").unwrap(), None);
    }
}
