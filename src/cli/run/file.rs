//! The objects of a file, and what they name in it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::Failure;
use super::super::output::{self, Reason};
use crate::api::document::{Keys, MAX_FILE};
use crate::api::{self, Document, DocumentError, Refusals, parse_documents};

/// All objects of a file.
#[derive(Debug)]
pub(in crate::cli) struct Objects {
    documents: Vec<Document>,
    /// Whether Secrets and ConfigMaps are those that are mounted, so that nothing stands in for a missing one.
    mounted: bool,
    /// The folder of mounted claims, one folder each; absent where there is no Kubernetes.
    claims: Option<PathBuf>,
}

/// What is to be carried out.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) enum Chosen<'a> {
    Backup(&'a api::Backup),
    Restore(&'a api::Restore),
}

/// The objects that one object can name: those of its namespace. One without a namespace is in all of them,
/// as `kubectl apply -n` would have it.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Scope<'a> {
    objects: &'a Objects,
    namespace: Option<&'a str>,
}

impl Objects {
    /// Reads a file, `-` for standard input.
    pub(in crate::cli) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let unreadable = |error: std::io::Error| {
            Failure::usage(
                format!("{shown} can't be read: {error}"),
                "name a YAML file, or - for standard input",
            )
        };
        // One byte more than is taken, so that a larger file is refused as such.
        let limit = MAX_FILE as u64 + 1;
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin().take(limit).read_to_string(&mut text).map_err(unreadable)?;
        } else {
            let file = std::fs::File::open(path).map_err(unreadable)?;
            file.take(limit).read_to_string(&mut text).map_err(unreadable)?;
        }
        let parsed = parse_documents(&text).map(|documents| Self { documents, mounted: false, claims: None });
        parsed.map_err(|error| {
            let message = match &error {
                DocumentError::Refused { refusals, .. } => format!("{shown}: {error}:\n{refusals}"),
                _ => format!("{shown}: {}", output::chain(&error)),
            };
            Failure::usage(message, "vouchsafe crds prints the schema of every field")
        })
    }

    /// Adds what is mounted: a folder for each Secret and ConfigMap, with a file for each key. An optional one that
    /// is not there is an empty folder, or none.
    pub(in crate::cli) fn mounted(
        &mut self,
        secrets: &Path,
        config_maps: &Path,
        claims: &Path,
    ) -> Result<(), Failure> {
        self.documents.extend(folders(secrets)?.into_iter().map(Document::Secret));
        self.documents.extend(folders(config_maps)?.into_iter().map(Document::ConfigMap));
        self.mounted = true;
        self.claims = Some(claims.to_owned());
        Ok(())
    }

    /// The one Backup or Restore, or the one of that name.
    pub(in crate::cli) fn choose(&self, name: Option<&str>) -> Result<Chosen<'_>, Failure> {
        let wanted = |kind: &str, found: &str| {
            name.is_none_or(|name| match name.split_once('/') {
                Some((of_kind, name)) => of_kind.eq_ignore_ascii_case(kind) && name == found,
                None => name == found,
            })
        };
        let found = self.documents.iter().filter_map(|document| {
            let chosen = match document {
                Document::Backup(backup) => Chosen::Backup(backup),
                Document::Restore(restore) => Chosen::Restore(restore),
                _ => return None,
            };
            Some((format!("{}/{}", document.kind(), document.name()), chosen))
                .filter(|_| wanted(document.kind(), document.name()))
        });
        let found: Vec<_> = found.collect();
        match (&found[..], name) {
            ([(_, chosen)], _) => Ok(*chosen),
            ([], Some(name)) => {
                Err(Failure::usage(format!("the file has no Backup or Restore {name}"), "mind the spelling"))
            }
            ([], None) => Err(Failure::usage(
                "the file has no Backup or Restore",
                "a BackupSchedule runs in a cluster only; write its template as a Backup",
            )),
            (several, _) => {
                let names: Vec<_> = several.iter().map(|(name, _)| name.as_str()).collect();
                let message = format!("the file has several to carry out: {}", names.join(", "));
                Err(Failure::usage(message, format!("choose one, such as --name {}", names[0])))
            }
        }
    }

    /// What an object of `namespace` can name.
    pub(in crate::cli) fn of<'a>(&'a self, namespace: Option<&'a str>) -> Scope<'a> {
        Scope { objects: self, namespace }
    }
}

impl<'a> Scope<'a> {
    fn find<T>(&self, name: &str, of_kind: impl Fn(&'a Document) -> Option<T>) -> Option<T> {
        let documents = || self.objects.documents.iter().filter(|document| document.name() == name);
        let exact = documents().filter(|document| document.namespace() == self.namespace);
        let either =
            documents().filter(|document| document.namespace().is_none() || self.namespace.is_none());
        exact.chain(either).find_map(of_kind)
    }

    /// The BackupStore that `field` names.
    pub(in crate::cli) fn store(&self, name: &str, field: &str) -> Result<&'a api::BackupStore, Failure> {
        let store = self.find(name, |document| match document {
            Document::BackupStore(store) => Some(&**store),
            _ => None,
        });
        store.ok_or_else(|| missing(field, "BackupStore", name))
    }

    /// The Backup that `spec.from.backup` names.
    pub(in crate::cli) fn backup(&self, name: &str) -> Result<&'a api::Backup, Failure> {
        let backup = self.find(name, |document| match document {
            Document::Backup(backup) => Some(&**backup),
            _ => None,
        });
        backup.ok_or_else(|| missing("spec.from.backup", "Backup", name))
    }

    /// The Restore of that name.
    pub(in crate::cli) fn restore(&self, name: &str) -> Result<&'a api::Restore, Failure> {
        let restore = self.find(name, |document| match document {
            Document::Restore(restore) => Some(&**restore),
            _ => None,
        });
        restore.ok_or_else(|| missing("--restore", "Restore", name))
    }

    /// Where a claim is mounted; `None` without Kubernetes.
    pub(in crate::cli) fn claim(&self, name: &str) -> Option<PathBuf> {
        self.objects.claims.as_ref().map(|claims| claims.join(name))
    }

    /// The BackupSchedule of that name.
    pub(in crate::cli) fn schedule(&self, name: &str) -> Result<&'a api::BackupSchedule, Failure> {
        let schedule = self.find(name, |document| match document {
            Document::BackupSchedule(schedule) => Some(&**schedule),
            _ => None,
        });
        schedule.ok_or_else(|| missing("--schedule", "BackupSchedule", name))
    }

    /// The Secret of that name, if the file has it; where Secrets are mounted, it must be there.
    pub(in crate::cli) fn secret(&self, field: &str, name: &str) -> Result<Option<&'a Keys>, Failure> {
        let keys = self.find(name, |document| match document {
            Document::Secret(keys) => Some(keys),
            _ => None,
        });
        if keys.is_none() && self.objects.mounted {
            return Err(not_mounted(field, "Secret", name, "any of the keys that are read from it"));
        }
        Ok(keys)
    }

    /// The bytes under a key of a Secret or ConfigMap that must be in the file.
    pub(in crate::cli) fn key(
        &self,
        field: &str,
        kind: &'static str,
        reference: &api::KeyRef,
    ) -> Result<&'a [u8], Failure> {
        let api::KeyRef { name, key } = reference;
        let keys = self.find(name, |document| match document {
            Document::Secret(keys) if kind == "Secret" => Some(keys),
            Document::ConfigMap(keys) if kind == "ConfigMap" => Some(keys),
            _ => None,
        });
        let keys = keys.ok_or_else(|| match self.objects.mounted {
            true => not_mounted(field, kind, name, &format!("the key {key}")),
            false => missing(field, kind, name),
        })?;
        keys.get(key).ok_or_else(|| no_key(field, kind, name, key))
    }
}

/// The text under a key of a Secret; one that is missing or no text is refused without showing anything.
pub(in crate::cli) fn text(field: &str, keys: &Keys, key: &str) -> Result<String, Failure> {
    let bytes = keys.get(key).ok_or_else(|| no_key(field, "Secret", &keys.name, key))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        let message = format!("{field}: key {key} of Secret {} is not UTF-8", keys.name);
        Failure::usage(message, "write it under stringData, as plain text")
    })
}

/// The keys of every folder in `root`.
fn folders(root: &Path) -> Result<Vec<Keys>, Failure> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Failure::internal(format!("{} can't be read: {error}", path.display()))
    };
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(root, error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let folder = entry.map_err(|error| unreadable(root, error))?.path();
        let mut data = BTreeMap::new();
        for file in std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, error))? {
            let file = file.map_err(|error| unreadable(&folder, error))?.path();
            // The kubelet's own, to which the keys are links: `..data`, `..2026_11_21…`.
            let key = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if key.starts_with("..") {
                continue;
            }
            data.insert(key, std::fs::read(&file).map_err(|error| unreadable(&file, error))?);
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !data.is_empty() {
            all.push(Keys::new(name, data));
        }
    }
    Ok(all)
}

/// What a pod finds where something optional was to be mounted tells no more than this.
fn not_mounted(field: &str, kind: &str, name: &str, keys: &str) -> Failure {
    let message = format!("{field}: there is no {kind} {name} with {keys} in this namespace");
    Failure::failed(Reason::ReferenceMissing, message, "create it, or add the key: it is looked for again")
}

fn no_key(field: &str, kind: &str, name: &str, key: &str) -> Failure {
    let message = format!("{field}: {kind} {name} has no key {key}");
    Failure::usage(message, "add it, or name the key that there is")
}

fn missing(field: &str, kind: &str, name: &str) -> Failure {
    let message = format!("{field}: {kind} {name} is not in the file");
    Failure::usage(message, "without Kubernetes, everything that is named stands in the same file")
}

/// Validates an object; everything that is wrong is said at once, one per line.
pub(in crate::cli) fn validated<T, V: TryFrom<T, Error = Refusals>>(
    kind: &str,
    object: T,
) -> Result<V, Failure> {
    V::try_from(object).map_err(|refusals| {
        let message = format!("the {kind} is refused:\n{refusals}");
        Failure::usage(message, "each line names a field, and what to do about it")
    })
}
