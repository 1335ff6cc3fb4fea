//! Majors, and where their programs are.

use std::fmt;
use std::path::PathBuf;

use crate::tools;

/// A major version of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum PgVersion {
    V13,
    V14,
    V15,
    V16,
    V17,
    V18,
}

impl PgVersion {
    /// Every major that Vouchsafe supports, oldest first.
    pub const ALL: [Self; 6] = [Self::V13, Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The major's number.
    pub fn major(self) -> u32 {
        match self {
            Self::V13 => 13,
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }

    /// The folder of the server's programs. 13, 14 and 17 have only `postgres`, `initdb` and `pg_ctl`.
    pub fn bin_dir(self) -> PathBuf {
        match self {
            Self::V15 => debian_15(),
            _ => tools::required(tools::folder().join(format!("postgres/{self}/bin"))),
        }
    }

    /// The folder of a `pg_dump`, `pg_restore` and `psql` that fit a server of this major: its own major's,
    /// and 15's for 13 and 14.
    pub fn client_bin_dir(self) -> PathBuf {
        match self {
            Self::V13 | Self::V14 | Self::V15 => debian_15(),
            Self::V17 => tools::required(tools::folder().join("clients/17/bin")),
            Self::V16 | Self::V18 => self.bin_dir(),
        }
    }

    pub(crate) fn server_program(self, name: &str) -> PathBuf {
        tools::required(self.bin_dir().join(name))
    }
}

fn debian_15() -> PathBuf {
    tools::required(PathBuf::from("/usr/lib/postgresql/15/bin"))
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major())
    }
}
