//! Kinds of requests: an operation on one kind of object, at the trait and on the wire alike.

use std::fmt;

use vouchsafe::store::fault::{Name, Operation};

/// An operation on one kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    pub operation: Operation,
    /// One of [`OBJECTS`] or [`LISTS`].
    pub of: &'static str,
}

/// What is spoken on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    S3,
    Azure,
}

/// What a first line contains and lacks.
pub struct Parts {
    pub has: Vec<String>,
    pub lacks: Vec<&'static str>,
}

/// Kinds of objects, each with what its names contain and no others do.
const OBJECTS: [(&str, &str); 18] = [
    ("probe", "probes/"),
    ("collection", "collection.json"),
    ("copy", "copy.json"),
    ("claim", "/run.json"),
    ("attempt", "/attempts/"),
    ("beat", "/beats/"),
    ("tickets", "/tickets.json"),
    ("plan", "/plan.json"),
    ("rows", "/data/"),
    ("large objects", "/objects/"),
    ("catalog", "/schema/"),
    ("receipt", "/receipts/"),
    ("census", "/census.json"),
    ("part", "/part.json"),
    ("manifest", "/manifest.json"),
    ("verdict", "/verdicts/"),
    ("outcome", "/outcome.json"),
    ("retirement", "/retired.json"),
];

/// Kinds of lists, each with what their prefixes end with.
const LISTS: [(&str, &str); 3] = [("probes", "probes"), ("runs", "runs"), ("receipts", "receipts")];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation.name(), self.of)
    }
}

impl Kind {
    /// Of a request as the trait sees it.
    pub fn of_request(operation: Operation, object: &str) -> Self {
        let of = if operation == Operation::List {
            LISTS.iter().find(|(_, end)| object.ends_with(end)).map(|(word, _)| *word)
        } else {
            OBJECTS.iter().find(|(_, part)| object.contains(part)).map(|(word, _)| *word)
        };
        Self {
            operation,
            of: of.unwrap_or_else(|| panic!("{operation:?} of {object:?} is of no known kind")),
        }
    }

    /// The family of its objects: what a sample holds one of.
    pub fn family(self) -> &'static str {
        match self.of {
            "probe" | "probes" => "probe",
            "collection" | "copy" | "claim" | "attempt" | "beat" | "outcome" | "retirement" | "runs" => {
                "register"
            }
            "receipt" | "receipts" => "receipt",
            "rows" | "large objects" | "catalog" => "object",
            _ => "document",
        }
    }

    /// What its names are told by, at the trait.
    pub fn name(self) -> Name {
        if self.operation == Operation::List {
            return Name::Ending(self.find(&LISTS).to_owned());
        }
        Name::Containing(self.find(&OBJECTS).to_owned())
    }

    fn find(self, among: &[(&'static str, &'static str)]) -> &'static str {
        among.iter().find(|(word, _)| *word == self.of).map(|(_, part)| *part).unwrap()
    }

    /// Of a request by its first line.
    pub fn of_line(protocol: Protocol, line: &str) -> Self {
        let all = Operation::ALL.iter().flat_map(|operation| {
            let words = if *operation == Operation::List { &LISTS[..] } else { &OBJECTS[..] };
            words.iter().map(|(of, _)| Self { operation: *operation, of })
        });
        let line = format!("{line} ");
        let mut of_line = all.filter(|kind| {
            let parts = kind.parts(protocol);
            parts.has.iter().all(|part| line.contains(part))
                && !parts.lacks.iter().any(|it| line.contains(it))
        });
        match (of_line.next(), of_line.next()) {
            (Some(kind), None) => kind,
            found => panic!("{line:?} is of one kind, not of {found:?}"),
        }
    }

    /// What the first lines of its requests contain and lack, and no others do.
    pub fn parts(self, protocol: Protocol) -> Parts {
        let (of_operation, lacks): (&[&str], &[&'static str]) = match protocol {
            Protocol::S3 => (self.of_s3(), &[]),
            Protocol::Azure => self.of_azure(),
        };
        let mut has: Vec<String> = of_operation.iter().map(|part| (*part).to_owned()).collect();
        has.push(match (self.operation, protocol) {
            // Of S3 the prefix is the last parameter, with its slash.
            (Operation::List, Protocol::S3) => format!("{}%2F ", self.find(&LISTS)),
            (Operation::List, Protocol::Azure) => {
                let folders = if self.of == "runs" { "&delimiter=%2F" } else { "" };
                format!("{}%2F&restype=container{folders} ", self.find(&LISTS))
            }
            _ => self.find(&OBJECTS).to_owned(),
        });
        Parts { has, lacks: lacks.to_vec() }
    }

    fn of_s3(self) -> &'static [&'static str] {
        match self.operation {
            Operation::Create => &["PUT ", "x-id=PutObject"],
            Operation::Begin => &["POST ", "?uploads"],
            Operation::PutPart => &["PUT ", "partNumber="],
            Operation::Complete => &["POST ", "uploadId="],
            Operation::Abort => &["DELETE ", "uploadId="],
            Operation::Get => &["GET ", "x-id=GetObject"],
            Operation::Head => &["HEAD "],
            Operation::List => &["GET ", "list-type=2"],
            Operation::Delete => &["DELETE ", "x-id=DeleteObject"],
        }
    }

    fn of_azure(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self.operation {
            Operation::Create => (&["PUT "], &["comp="]),
            Operation::PutPart => (&["PUT ", "blockid="], &[]),
            Operation::Complete => (&["PUT ", "comp=blocklist"], &[]),
            // Nothing is asked of the service.
            Operation::Begin | Operation::Abort => (&["nothing"], &[]),
            Operation::Get => (&["GET "], &["comp="]),
            Operation::Head => (&["HEAD "], &[]),
            Operation::List => (&["GET ", "comp=list"], &[]),
            Operation::Delete => (&["DELETE "], &[]),
        }
    }
}
