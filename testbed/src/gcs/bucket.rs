//! What a bucket holds, and the rules that keep it so.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::refusal::Refusal;

/// Longest name of an object, in bytes: <https://cloud.google.com/storage/docs/objects#naming>
const MAX_NAME: usize = 1_024;

/// One stored state of an object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) content: Bytes,
    pub(super) generation: i64,
    pub(super) metageneration: i64,
    pub(super) crc32c: u32,
    pub(super) md5: [u8; 16],
    pub(super) created: SystemTime,
    pub(super) content_type: String,
    pub(super) held: bool,
}

impl Object {
    pub(super) fn crc32c_base64(&self) -> String {
        BASE64.encode(self.crc32c.to_be_bytes())
    }

    pub(super) fn md5_base64(&self) -> String {
        BASE64.encode(self.md5)
    }

    /// The object resource: <https://cloud.google.com/storage/docs/json_api/v1/objects#resource>
    pub(super) fn resource(&self, bucket: &str, name: &str) -> serde_json::Value {
        serde_json::json!({
            "kind": "storage#object",
            "id": format!("{bucket}/{name}/{}", self.generation),
            "name": name,
            "bucket": bucket,
            "generation": self.generation.to_string(),
            "metageneration": self.metageneration.to_string(),
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": self.content.len().to_string(),
            "crc32c": self.crc32c_base64(),
            "md5Hash": self.md5_base64(),
            "etag": self.etag(),
        })
    }

    /// "No assumptions about the value … except that it changes whenever the underlying data or metadata changes":
    /// <https://cloud.google.com/storage/docs/hashes-etags>
    pub(super) fn etag(&self) -> String {
        BASE64.encode(format!("{}/{}", self.generation, self.metageneration))
    }
}

/// What a request asks to be true of the object that it names.
/// <https://cloud.google.com/storage/docs/request-preconditions>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) generation: Option<i64>,
    pub(super) not_generation: Option<i64>,
    pub(super) metageneration: Option<i64>,
    pub(super) not_metageneration: Option<i64>,
}

impl Conditions {
    /// "If you set ifGenerationMatch to 0, the request succeeds only if there is no live version."
    pub(super) fn check(&self, found: Option<&Object>) -> Result<(), Refusal> {
        let generation = found.map_or(0, |object| object.generation);
        let metageneration = found.map_or(0, |object| object.metageneration);
        let holds = self.generation.is_none_or(|wanted| wanted == generation)
            && self.metageneration.is_none_or(|wanted| wanted == metageneration);
        let differs = self.not_generation.is_none_or(|other| other != generation)
            && self.not_metageneration.is_none_or(|other| other != metageneration);
        match (holds, differs) {
            (true, true) => Ok(()),
            (false, _) => Err(Refusal::condition()),
            (true, false) => Err(Refusal::not_modified()),
        }
    }
}

/// Checksums that a request says its content has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) crc32c: Option<u32>,
    pub(super) md5: Option<[u8; 16]>,
}

impl Declared {
    /// # Errors
    /// For what is no Base64 of four bytes, or of sixteen.
    pub(super) fn parse(crc32c: Option<&str>, md5: Option<&str>) -> Result<Self, Refusal> {
        let wrong = |name: &str, text: &str| Refusal::invalid(format!("Invalid {name}: {text}"));
        let crc32c = match crc32c {
            None => None,
            Some(text) => {
                let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                Some(u32::from_be_bytes(bytes.ok_or_else(|| wrong("crc32c", text))?))
            }
        };
        let md5 = match md5 {
            None => None,
            Some(text) => {
                let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                Some(bytes.ok_or_else(|| wrong("md5Hash", text))?)
            }
        };
        Ok(Self { crc32c, md5 })
    }

    /// Of the header `x-goog-hash`: `crc32c=…,md5=…`.
    pub(super) fn of_header(text: &str) -> Result<Self, Refusal> {
        let (mut crc32c, mut md5) = (None, None);
        for part in text.split(',') {
            match part.trim().split_once('=') {
                Some(("crc32c", value)) => crc32c = Some(value),
                Some(("md5", value)) => md5 = Some(value),
                _ => return Err(Refusal::invalid(format!("Invalid x-goog-hash: {text}"))),
            }
        }
        Self::parse(crc32c, md5)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self { crc32c: self.crc32c.or(other.crc32c), md5: self.md5.or(other.md5) }
    }
}

/// A new object, whose checksums are compared: "If the checksums don't match, the write request is rejected with a
/// BadRequestException: 400 error." <https://cloud.google.com/storage/docs/data-validation>
pub(super) fn object_of(content: Bytes, declared: &Declared, content_type: &str) -> Result<Object, Refusal> {
    let crc32c = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &content);
    let crc32c = u32::try_from(crc32c).unwrap_or_else(|_| panic!("a CRC of 32 bits is longer"));
    let md5 = Md5::digest(&content).into();
    let differs = |name: &str, theirs: String, ours: String| {
        Refusal::invalid(format!("Provided {name} \"{theirs}\" doesn't match calculated {name} \"{ours}\"."))
    };
    if let Some(theirs) = declared.crc32c.filter(|theirs| *theirs != crc32c) {
        let (theirs, ours) = (BASE64.encode(theirs.to_be_bytes()), BASE64.encode(crc32c.to_be_bytes()));
        return Err(differs("CRC32C", theirs, ours));
    }
    if let Some(theirs) = declared.md5.filter(|theirs| *theirs != md5) {
        return Err(differs("MD5 hash", BASE64.encode(theirs), BASE64.encode(md5)));
    }
    Ok(Object {
        content,
        generation: next_generation(),
        metageneration: 1,
        crc32c,
        md5,
        created: SystemTime::now(),
        content_type: content_type.to_owned(),
        held: false,
    })
}

/// Never the same twice, and later ones are greater: <https://cloud.google.com/storage/docs/object-versioning>
fn next_generation() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let before = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(now.max(last + 1)));
    before.map_or(now, |last| now.max(last + 1))
}

/// <https://cloud.google.com/storage/docs/objects#naming>
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let forbidden = name.contains(['\r', '\n'])
        || matches!(name, "" | "." | "..")
        || name.starts_with(".well-known/acme-challenge/");
    match forbidden || name.len() > MAX_NAME {
        true => Err(Refusal::invalid(format!("Invalid object name: {name:?}"))),
        false => Ok(()),
    }
}

/// A bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// What has a name now.
    live: BTreeMap<String, Object>,
    /// What had it before, by name and generation: kept if the bucket keeps versions.
    archived: BTreeMap<(String, i64), Object>,
    versioned: bool,
    pub(super) uploads: BTreeMap<String, super::upload::Upload>,
}

impl Bucket {
    pub(super) fn new(versioned: bool) -> Self {
        Self { versioned, ..Self::default() }
    }

    /// Names and what they hold, in the order of their bytes:
    /// <https://cloud.google.com/storage/docs/json_api/v1/objects/list>
    pub(super) fn live(&self) -> impl Iterator<Item = (&String, &Object)> {
        self.live.iter()
    }

    /// Those from `start` on.
    pub(super) fn live_from(&self, start: Bound<&str>) -> impl Iterator<Item = (&String, &Object)> {
        self.live.range::<str, _>((start, Bound::Unbounded))
    }

    pub(super) fn insert(
        &mut self,
        name: &str,
        object: Object,
        conditions: &Conditions,
    ) -> Result<(), Refusal> {
        let before = self.live.get(name);
        conditions.check(before).map_err(|_| Refusal::condition())?;
        if before.is_some_and(|before| before.held) {
            return Err(Refusal::held("", name));
        }
        if let Some(before) = self.live.insert(name.to_owned(), object)
            && self.versioned
        {
            self.archived.insert((name.to_owned(), before.generation), before);
        }
        Ok(())
    }

    /// The generation that is asked for, or the live one.
    pub(super) fn find(&self, name: &str, generation: Option<i64>) -> Option<&Object> {
        let live = self.live.get(name);
        match generation {
            None => live,
            Some(wanted) => live
                .filter(|object| object.generation == wanted)
                .or_else(|| self.archived.get(&(name.to_owned(), wanted))),
        }
    }

    /// With a generation it is gone for good; without, what lived is archived where versions are kept:
    /// <https://cloud.google.com/storage/docs/json_api/v1/objects/delete>
    pub(super) fn delete(
        &mut self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        conditions: &Conditions,
    ) -> Result<(), Refusal> {
        let found = self.find(name, generation);
        conditions.check(found).map_err(|_| Refusal::condition())?;
        let Some(found) = found else { return Err(Refusal::no_object(bucket, name)) };
        if found.held {
            return Err(Refusal::held(bucket, name));
        }
        let (wanted, is_live) =
            (found.generation, self.live.get(name).is_some_and(|it| it.generation == found.generation));
        match (is_live, generation) {
            (true, Some(_)) => drop(self.live.remove(name)),
            (true, None) => {
                if let Some(before) = self.live.remove(name)
                    && self.versioned
                {
                    self.archived.insert((name.to_owned(), wanted), before);
                }
            }
            (false, _) => drop(self.archived.remove(&(name.to_owned(), wanted))),
        }
        Ok(())
    }

    /// Holds what has the name, or lets go of it: <https://cloud.google.com/storage/docs/object-holds>
    pub(super) fn hold(&mut self, name: &str, held: bool) {
        let object = self.live.get_mut(name).unwrap_or_else(|| panic!("nothing has the name {name}"));
        object.held = held;
        object.metageneration += 1;
    }

    /// Changes what is stored without changing anything that is told of it: a disk that rots.
    pub(super) fn damage(&mut self, name: &str, content: Bytes) {
        let object = self.live.get_mut(name).unwrap_or_else(|| panic!("nothing has the name {name}"));
        object.content = content;
    }
}
