//! Documents of a YAML file, for running a resource without Kubernetes.
//!
//! The API server prunes fields that it doesn't know; here a misspelt field is an error, because
//! nothing else would tell its writer.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::definition::schema;
use super::refusal::{Refusals, Refused};
use super::structure::{self, Depth};
use super::{API_VERSION, Backup, BackupSchedule, BackupStore, Kind, Restore};

/// The largest file, in bytes. The API server takes 3 MiB per object; a file of one backup has a few.
pub const MAX_FILE: usize = 16 << 20;
/// The most documents in one file.
pub const MAX_DOCUMENTS: usize = 1000;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Where.
    BackupStore(Box<BackupStore>),
    /// When.
    BackupSchedule(Box<BackupSchedule>),
    /// One layer.
    Backup(Box<Backup>),
    /// One restore.
    Restore(Box<Restore>),
    /// Credentials.
    Secret(Keys),
    /// CAs, mostly.
    ConfigMap(Keys),
}

/// A Secret or ConfigMap: keys and their bytes. `Debug` prints the keys only.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    data: BTreeMap<String, Vec<u8>>,
}

impl Keys {
    /// Keys that were read from elsewhere than a document: without a namespace, so that they are in any.
    #[must_use]
    pub fn new(name: String, data: BTreeMap<String, Vec<u8>>) -> Self {
        Self { name, namespace: None, data }
    }

    /// The bytes under one key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(Vec::as_slice)
    }

    /// The keys there are.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.data.keys().map(String::as_str)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.keys().collect();
        f.debug_struct("Keys").field("name", &self.name).field("keys", &keys).finish_non_exhaustive()
    }
}

/// Why a file can't be read. No message repeats a value of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Larger than [`MAX_FILE`] or more than [`MAX_DOCUMENTS`].
    #[error("the file has {found} {what}, at most {limit} are taken")]
    TooLarge {
        /// How much it has.
        found: usize,
        /// Of what.
        what: &'static str,
        /// How much is taken.
        limit: usize,
    },
    /// Not YAML.
    #[error("the file is not YAML: line {line}, column {column}: {message}")]
    NotYaml {
        /// From 1; 0 if unknown.
        line: u64,
        /// From 1; 0 if unknown.
        column: u64,
        /// What the parser says.
        message: String,
    },
    /// Nothing in it.
    #[error("the file has no document")]
    Empty,
    /// Without `kind` or `apiVersion`, or not an object at all.
    #[error("document {number} is no Kubernetes object: {missing}")]
    NoObject {
        /// From 1.
        number: usize,
        /// What it lacks.
        missing: &'static str,
    },
    /// A kind that isn't taken here.
    #[error(
        "document {number} has kind `{kind}`; taken are Backup, Restore, BackupStore, BackupSchedule, Secret and ConfigMap"
    )]
    UnknownKind {
        /// From 1.
        number: usize,
        /// The kind as given.
        kind: String,
    },
    /// A kind with another API's version.
    #[error("document {number}, kind {kind}, has apiVersion `{found}` and must have `{wanted}`")]
    WrongApiVersion {
        /// From 1.
        number: usize,
        /// The kind.
        kind: String,
        /// The version as given.
        found: String,
        /// The version that is taken.
        wanted: &'static str,
    },
    /// Two objects of one kind, namespace and name.
    #[error("documents {first} and {second} are both {kind} `{name}`")]
    Duplicate {
        /// From 1.
        first: usize,
        /// From 1.
        second: usize,
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// An object whose fields are wrong.
    #[error("document {number}, {kind} `{name}`, is wrong")]
    Refused {
        /// From 1.
        number: usize,
        /// The kind.
        kind: String,
        /// The name; empty if it has none.
        name: String,
        /// Everything that is wrong.
        #[source]
        refusals: Refusals,
    },
}

/// Reads all documents of a YAML file. Documents without content (between two `---`) are left out.
///
/// # Errors
/// The first document that is wrong, with everything that is wrong about its fields. Whether a spec
/// makes sense is the `validated` types' affair.
pub fn parse_documents(yaml: &str) -> Result<Vec<Document>, DocumentError> {
    if yaml.len() > MAX_FILE {
        return Err(DocumentError::TooLarge { found: yaml.len(), what: "bytes", limit: MAX_FILE });
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(yaml, options).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        DocumentError::NotYaml { line, column, message: error.without_snippet().to_string() }
    })?;
    if values.len() > MAX_DOCUMENTS {
        return Err(DocumentError::TooLarge { found: values.len(), what: "documents", limit: MAX_DOCUMENTS });
    }
    let mut documents = Vec::new();
    let mut seen: BTreeMap<(&'static str, Option<String>, String), usize> = BTreeMap::new();
    for (i, value) in values.into_iter().enumerate().filter(|(_, value)| !value.is_null()) {
        let number = i + 1;
        let document = document(number, value)?;
        let identity = (document.kind(), document.namespace().map(str::to_owned), document.name().to_owned());
        if let Some(first) = seen.insert(identity, number) {
            let (kind, name) = (document.kind().to_owned(), document.name().to_owned());
            return Err(DocumentError::Duplicate { first, second: number, kind, name });
        }
        documents.push(document);
    }
    if documents.is_empty() { Err(DocumentError::Empty) } else { Ok(documents) }
}

fn document(number: usize, value: Value) -> Result<Document, DocumentError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let no_object = |missing| DocumentError::NoObject { number, missing };
    let kind = text("kind").ok_or(no_object("`kind` is missing"))?;
    let found = text("apiVersion").ok_or(no_object("`apiVersion` is missing"))?;
    let ours = Kind::ALL.into_iter().find(|k| k.as_str() == kind);
    let wanted = match (ours, kind.as_str()) {
        (Some(_), _) => API_VERSION,
        (None, "Secret" | "ConfigMap") => "v1",
        (None, _) => {
            return Err(DocumentError::UnknownKind { number, kind: kind.chars().take(64).collect() });
        }
    };
    if found != wanted {
        let found = found.chars().take(128).collect();
        return Err(DocumentError::WrongApiVersion { number, kind, found, wanted });
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut refusals = metadata(&value["metadata"]);
    let read = match ours {
        Some(Kind::BackupStore) => typed(value, Kind::BackupStore, &mut refusals).map(Document::BackupStore),
        Some(Kind::BackupSchedule) => {
            typed(value, Kind::BackupSchedule, &mut refusals).map(Document::BackupSchedule)
        }
        Some(Kind::Backup) => typed(value, Kind::Backup, &mut refusals).map(Document::Backup),
        Some(Kind::Restore) => typed(value, Kind::Restore, &mut refusals).map(Document::Restore),
        None if kind == "Secret" => {
            keys(&value, "stringData", "data", &["type", "immutable"], &mut refusals).map(Document::Secret)
        }
        None => keys(&value, "data", "binaryData", &["immutable"], &mut refusals).map(Document::ConfigMap),
    };
    refusals.into_result(read).map_err(|refusals| DocumentError::Refused { number, kind, name, refusals })
}

fn metadata(metadata: &Value) -> Refusals {
    let mut refusals = Refusals::default();
    match metadata["name"].as_str() {
        None => refusals.add(Refused::Missing, "metadata.name", "is required", "name the object"),
        Some(name) if !(super::bounds::NAME.check)(name) || name.len() > super::bounds::MAX_NAME => {
            let hint = "lowercase letters, digits, `-` and `.`, at most 253";
            refusals.invalid("metadata.name", "is no name of a Kubernetes object", hint);
        }
        Some(_) => {}
    }
    refusals
}

fn typed<T: DeserializeOwned>(value: Value, kind: Kind, refusals: &mut Refusals) -> Option<Box<T>> {
    refusals.absorb(structure::check(&value, schema(kind), "", Depth::Readable));
    if !refusals.is_empty() {
        return None;
    }
    match serde_json::from_value(value) {
        Ok(object) => Some(Box::new(object)),
        Err(error) => {
            refusals.add(Refused::WrongType, kind.as_str(), error.to_string(), "compare with API reference");
            None
        }
    }
}

/// Reads a Secret or ConfigMap: `plain` holds text, `encoded` base64. Messages name keys, never values.
fn keys(value: &Value, plain: &str, encoded: &str, also: &[&str], refusals: &mut Refusals) -> Option<Keys> {
    for field in value.as_object().into_iter().flatten().map(|(field, _)| field.as_str()) {
        if ![plain, encoded, "apiVersion", "kind", "metadata"].contains(&field) && !also.contains(&field) {
            let hint = format!("there are: {plain}, {encoded}");
            refusals.add(Refused::UnknownField, field, "is no field of the API", hint);
        }
    }
    let mut data = BTreeMap::new();
    // Plain text last: it wins, as it does in the API server.
    for (field, is_encoded) in [(encoded, true), (plain, false)] {
        let entries = match &value[field] {
            Value::Null => continue,
            Value::Object(entries) => entries,
            _ => {
                refusals.add(Refused::WrongType, field, "must be an object with keys", "write `key: value`");
                continue;
            }
        };
        for (key, value) in entries {
            let at = format!("{field}[{key}]");
            let Value::String(text) = value else {
                refusals.add(Refused::WrongType, at, "must be a string", "put it in quotes");
                continue;
            };
            if !is_encoded {
                data.insert(key.clone(), text.clone().into_bytes());
                continue;
            }
            let unbroken: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            match base64::engine::general_purpose::STANDARD.decode(unbroken) {
                Ok(bytes) => drop(data.insert(key.clone(), bytes)),
                Err(_) => refusals.invalid(at, "is not base64", format!("text goes under {plain}")),
            }
        }
    }
    let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
    Some(Keys { name: text("name")?, namespace: text("namespace"), data })
}

impl Document {
    /// The word in `kind:`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Document::BackupStore(_) => "BackupStore",
            Document::BackupSchedule(_) => "BackupSchedule",
            Document::Backup(_) => "Backup",
            Document::Restore(_) => "Restore",
            Document::Secret(_) => "Secret",
            Document::ConfigMap(_) => "ConfigMap",
        }
    }

    fn metadata(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Document::BackupStore(o) => (o.metadata.name.as_deref(), o.metadata.namespace.as_deref()),
            Document::BackupSchedule(o) => (o.metadata.name.as_deref(), o.metadata.namespace.as_deref()),
            Document::Backup(o) => (o.metadata.name.as_deref(), o.metadata.namespace.as_deref()),
            Document::Restore(o) => (o.metadata.name.as_deref(), o.metadata.namespace.as_deref()),
            Document::Secret(o) | Document::ConfigMap(o) => (Some(&o.name), o.namespace.as_deref()),
        }
    }

    /// `metadata.name`; a parsed document always has one.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().0.unwrap_or_default()
    }

    /// `metadata.namespace`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.metadata().1
    }
}
