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

/// Kinds of objects, each with what its names contain and no others do.
const OBJECTS: [(&str, &str); 17] = [
    ("probe", "probes/"),
    ("collection", "collection.json"),
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
            "collection" | "claim" | "attempt" | "beat" | "outcome" | "retirement" | "runs" => "register",
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
    pub fn of_line(line: &str) -> Self {
        let all = Operation::ALL.iter().flat_map(|operation| {
            let words = if *operation == Operation::List { &LISTS[..] } else { &OBJECTS[..] };
            words.iter().map(|(of, _)| Self { operation: *operation, of })
        });
        let mut of_line =
            all.filter(|kind| kind.parts().iter().all(|part| format!("{line} ").contains(part)));
        match (of_line.next(), of_line.next()) {
            (Some(kind), None) => kind,
            found => panic!("{line:?} is of one kind, not of {found:?}"),
        }
    }

    /// What the first lines of its requests contain, and no others do.
    pub fn parts(self) -> Vec<String> {
        let of_operation: &[&str] = match self.operation {
            Operation::Create => &["PUT ", "x-id=PutObject"],
            Operation::Begin => &["POST ", "?uploads"],
            Operation::PutPart => &["PUT ", "partNumber="],
            Operation::Complete => &["POST ", "uploadId="],
            Operation::Abort => &["DELETE ", "uploadId="],
            Operation::Get => &["GET ", "x-id=GetObject"],
            Operation::Head => &["HEAD "],
            Operation::List => &["GET ", "list-type=2"],
            Operation::Delete => &["DELETE ", "x-id=DeleteObject"],
        };
        let mut parts: Vec<String> = of_operation.iter().map(|part| (*part).to_owned()).collect();
        parts.push(match self.operation {
            // The prefix is the last parameter, with its slash.
            Operation::List => format!("{}%2F ", self.find(&LISTS)),
            _ => self.find(&OBJECTS).to_owned(),
        });
        parts
    }
}
