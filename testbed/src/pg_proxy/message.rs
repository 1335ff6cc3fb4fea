//! As much of PostgreSQL's protocol as the proxy has to understand.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Codes that stand where a session's start has the protocol's version.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// Longest message of these tests; anything longer is none.
const MAX_MESSAGE: usize = 64 << 20;

/// How a connection begins.
pub(super) enum Start {
    Session { bytes: Vec<u8>, application: String },
    Cancel(Vec<u8>),
}

/// Reads how a client begins, and answers requests for encryption with no.
pub(super) fn read_start(mut client: &TcpStream) -> io::Result<Start> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let body = u32::from_be_bytes(length) as usize;
        let mut bytes = length.to_vec();
        bytes.resize(body.clamp(8, MAX_MESSAGE), 0);
        client.read_exact(&mut bytes[4..])?;
        match u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) {
            TLS | GSS => client.write_all(b"N")?,
            CANCEL => return Ok(Start::Cancel(bytes)),
            _ => {
                let words: Vec<_> =
                    bytes[8..].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
                let mut pairs = words.chunks(2);
                let found = pairs.find(|pair| pair[0] == "application_name").and_then(|pair| pair.get(1));
                let application = found.map_or_else(|| "unnamed".to_owned(), ToString::to_string);
                return Ok(Start::Session { bytes, application });
            }
        }
    }
}

/// A message with its type and length.
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) bytes: Vec<u8>,
}

impl Message {
    /// `None` if the connection ended before the first byte.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 5];
        if stream.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut head[1..])?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..MAX_MESSAGE).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no message of PostgreSQL's"));
        }
        let mut bytes = head.to_vec();
        bytes.resize(length + 1, 0);
        stream.read_exact(&mut bytes[5..])?;
        Ok(Some(Self { kind: head[0], bytes }))
    }

    fn made(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    /// The body up to its first zero.
    pub(super) fn text(&self) -> &[u8] {
        self.bytes[5..].split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The second text of the body: what a Parse is to parse.
    pub(super) fn statement(&self) -> &[u8] {
        self.bytes[5..].split(|byte| *byte == 0).nth(1).unwrap_or_default()
    }

    /// The process that BackendKeyData names.
    pub(super) fn backend(&self) -> Option<i32> {
        let pid = self.bytes.get(5..9)?;
        (self.kind == b'K').then(|| i32::from_be_bytes([pid[0], pid[1], pid[2], pid[3]]))
    }

    /// What has the server refuse, instead of this.
    pub(super) fn refused(&self) -> Vec<u8> {
        match self.kind {
            b'd' | b'c' => Self::made(b'f', b"injected\0"),
            b'P' => {
                let name = self.text();
                Self::made(b'P', &[name, b"\0INJECTED REFUSAL\0\0\0"].concat())
            }
            _ => Self::made(b'Q', b"INJECTED REFUSAL\0"),
        }
    }
}

/// Sync.
pub(super) fn sync() -> Vec<u8> {
    Message::made(b'S', b"")
}

/// What a server says that takes no more connections.
pub(super) fn refusal() -> Vec<u8> {
    Message::made(b'E', b"SFATAL\0VFATAL\0C53300\0Mtoo many connections, injected\0\0")
}

/// The statement's first words, as far as they are the language's own: `CREATE TABLE`, `ALTER TABLE ONLY`.
pub(super) fn words(statement: &[u8]) -> String {
    let text = String::from_utf8_lossy(statement);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty());
    let first = lines.take(1).collect::<String>();
    let words = first
        .split_whitespace()
        .take_while(|word| word.trim_end_matches(';').bytes().all(|byte| byte.is_ascii_uppercase()));
    words.take(3).map(|word| word.trim_end_matches(';')).collect::<Vec<_>>().join(" ")
}
