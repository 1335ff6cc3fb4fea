//! The bound and the form of every string of the API, in one table.
//!
//! The API server applies a form by its regular expression, this process by its function, so that a
//! file run without Kubernetes meets the same limits and a better message. Every string needs a bound:
//! the API server estimates the cost of CEL rules from bounds and refuses a CRD that is unbounded.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::GROUP;
use super::pattern::{Name, Pattern};
use super::quantity::{parse_duration, parse_size};
use crate::plan::locality::{self, Locality, is_label_part};

/// The longest Kubernetes object name, in bytes (RFC 1123 subdomain).
pub(super) const MAX_NAME: usize = 253;
/// The longest RFC 1123 label, in bytes.
pub(super) const MAX_LABEL: usize = 63;
/// The longest PostgreSQL identifier, in bytes (`NAMEDATALEN` - 1).
pub const MAX_IDENTIFIER: usize = 63;

/// A string with a form: what the schema says, what this process checks, what a reader is told.
pub(super) struct Form {
    /// The regular expression in the schema; identifies the form.
    pub pattern: &'static str,
    /// The bound in the schema, in characters.
    pub max: usize,
    /// The same decision without a regular expression engine.
    pub check: fn(&str) -> bool,
    /// Completes "must be …".
    pub says: &'static str,
}

/// Declares each form, and where a field has just that form, the function that gives its schema (for
/// `schemars(schema_with = …)`), and one for a list of up to that many of them.
macro_rules! forms {
    ($($($function:ident $(/ $list:ident [$items:literal])?)? = $form:ident {
        $pattern:expr, max $max:expr, $check:expr, $says:literal
    })*) => {
        $(
            pub(super) const $form: Form =
                Form { pattern: $pattern, max: $max, check: $check, says: $says };
            $(
                pub(super) fn $function(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({"type": "string", "minLength": 1, "maxLength": $max, "pattern": $pattern})
                }
                $(
                    pub(super) fn $list(generator: &mut SchemaGenerator) -> Schema {
                        json_schema!({
                            "type": "array", "maxItems": $items, "items": $function(generator),
                            "x-kubernetes-list-type": "atomic",
                        })
                    }
                )?
            )?
        )*
        /// All forms; a test holds that no schema has a pattern that isn't in here.
        pub(super) const FORMS: &[&Form] = &[$(&$form),*];
    };
}

forms! {
    name / names[64] = NAME {
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max MAX_NAME,
        |t| t.split('.').all(is_dns_part),
        "the name of a Kubernetes object in the same namespace: lowercase letters, digits, `-` and `.`"
    }
    item = ITEM {
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max MAX_LABEL, is_dns_part,
        "lowercase letters, digits and `-`, at most 63, beginning and ending with a letter or digit"
    }
    data_key = DATA_KEY {
        r"^[-._a-zA-Z0-9]+$", max MAX_NAME,
        |t| t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        "a key of a Secret or ConfigMap: letters, digits, `-`, `_` and `.`"
    }
    key_path = KEY_PATH {
        r"^[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*(/[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*)*$", max 256, is_key_path,
        "names of letters, digits, `.`, `_`, `=`, `+`, `-` separated by single slashes, none beginning with a dot"
    }
    folder = FOLDER {
        // A part that begins with a dot goes on with something else than a slash: `.` and `..` climb.
        concat!(
            r"^/?([^/.\x00][^/\x00]*|\.[^/.\x00][^/\x00]*|\.\.[^/\x00]+)",
            r"(/([^/.\x00][^/\x00]*|\.[^/.\x00][^/\x00]*|\.\.[^/\x00]+))*$"
        ),
        max 1024, is_folder,
        "a folder without empty, `.` or `..` parts and without a slash at its end"
    }
    bucket = BUCKET {
        r"^[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]$", max 222,
        |t| (3..=222).contains(&t.len()) && is_wordlike(t, b"._-") && ends_alphanumeric(t),
        "the name of a bucket: 3 to 222 letters, digits, `.`, `_` and `-`"
    }
    account = ACCOUNT {
        r"^[a-z0-9]{3,24}$", max 24, is_account,
        "the name of a storage account: 3 to 24 lowercase letters and digits"
    }
    container = CONTAINER {
        r"^[a-z0-9](-|[a-z0-9]-?)[a-z0-9](-?[a-z0-9])*$", max MAX_LABEL, is_container,
        "the name of a container: 3 to 63 lowercase letters, digits and single `-` between them"
    }
    gcs_bucket = GCS_BUCKET {
        r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", max 222,
        |t| (3..=222).contains(&t.len()) && is_wordlike(t, b"._-") && ends_alphanumeric(t)
            && !t.contains(|c: char| c.is_ascii_uppercase()),
        "the name of a bucket of Google Cloud Storage: 3 to 63 lower-case letters, digits, `.`, `_` and `-`, with dots up \
         to 222"
    }
    word = WORD {
        r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max MAX_LABEL, |t| is_wordlike(t, b"._-"),
        "one word of letters, digits, `.`, `_` and `-`"
    }
    url = URL {
        r"^https?://[^\s@?#]+$", max 512,
        |t| t.strip_prefix("https://").or_else(|| t.strip_prefix("http://")).is_some_and(|rest| {
            !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || "@?#".contains(c))
        }),
        "an http or https URL without user, password, query and fragment"
    }
    host = HOST {
        r"^[^\s@,\x00]+$", max MAX_NAME,
        |t| !t.contains(|c: char| c.is_whitespace() || "@,\0".contains(c)),
        "one host name, address, or folder of a Unix socket"
    }
    locality = LOCALITY {
        concat!(
            r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?=[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
            r"(,[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?=[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)*$"
        ),
        max locality::MAX_TEXT, |t| t.parse::<Locality>().is_ok(),
        "a locality like `region=eu-west1,zone=b`"
    }
    duration = DURATION {
        r"^([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?$", max 43,
        |t| parse_duration(t).is_ok(),
        "a duration like `30s`, `10m`, `36h`, `1h30m` or `30d`"
    }
    size = SIZE {
        r"^[0-9]{1,19}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max 21, |t| parse_size(t).is_ok(),
        "a size in bytes like `64Mi`, `10G` or `1048576`"
    }
    = QUANTITY {
        r"^[0-9]{1,19}(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$", max 31, is_quantity,
        "a Kubernetes quantity like `500m`, `2` or `1Gi`"
    }
    time = TIME {
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$", max 30,
        |t| t.ends_with('Z') && t.as_bytes().get(10) == Some(&b'T') && t.parse::<jiff::Timestamp>().is_ok(),
        "a time in UTC as RFC 3339 writes it, like `2026-11-20T10:00:00Z`"
    }
    lsn = LSN {
        r"^[0-9A-F]{1,8}/[0-9A-F]{1,8}$", max 17,
        |t| t.split_once('/').is_some_and(|(high, low)| is_lsn_half(high) && is_lsn_half(low)),
        "a WAL position like `16/B374D848`"
    }
    sha256 = SHA256 {
        r"^[0-9a-f]{64}$", max 64,
        |t| t.len() == 64 && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
        "a SHA-256 of 64 lowercase hexadecimal digits"
    }
    cron = CRON {
        r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[^\s@]+( +[^\s]+){4})$", max 128, is_cron,
        "a cron expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly"
    }
    full_cron = FULL_CRON {
        r"^(Always|@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[^\s@]+( +[^\s]+){4})$", max 128,
        |t| t == "Always" || is_cron(t),
        "`Always`, a cron expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly"
    }
    time_zone = TIME_ZONE {
        r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", max MAX_LABEL,
        |t| t.split('/').all(|p| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
        }),
        "the IANA name of a time zone, like `Europe/Berlin`"
    }
    image = IMAGE {
        r"^[^\s]+$", max 512, |t| !t.contains(char::is_whitespace), "the name of a container image"
    }
    = LABEL_VALUE {
        r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", max MAX_LABEL, |t| t.is_empty() || is_label_part(t),
        "the value of a label: letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"
    }
    label_key = LABEL_KEY {
        concat!(
            r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
            r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"
        ),
        max 317, is_label_key,
        "a key as Kubernetes has it: `name` or `prefix.example/name`"
    }
    // PostgreSQL's names may be anything but empty and NUL: two of them, as they are or in double quotes. How long
    // each is, the parser counts.
    table_pattern / table_patterns[512] = TABLE_PATTERN {
        r#"^([^."\x00]+|"([^"\x00]|"")+")\.([^."\x00]+|"([^"\x00]|"")+")$"#, max 260, |t| Pattern::parse_table(t).is_ok(),
        "a pattern `schema.table`, where `*` and `?` stand for other characters and double quotes for none"
    }
    schema_pattern / schema_patterns[512] = SCHEMA_PATTERN {
        r"^[^\x00]+$", max 130, |t| Pattern::parse_schema(t).is_ok(),
        "a pattern for a schema's name, where `*` and `?` stand for other characters"
    }
    table_name / table_names[512] = TABLE_NAME {
        r#"^([^.*?"\x00]+|"([^"\x00]|"")+")\.([^.*?"\x00]+|"([^"\x00]|"")+")$"#, max 260, |t| Name::parse(t).is_ok(),
        "one table, `schema.table`, quoted where PostgreSQL would want it"
    }
    identifier = IDENTIFIER {
        r"^[^\x00]{1,63}$", max MAX_IDENTIFIER,
        |t| t.len() <= MAX_IDENTIFIER && !t.contains('\0'),
        "a PostgreSQL name of at most 63 bytes"
    }
}

/// <https://learn.microsoft.com/azure/storage/common/storage-account-overview>
fn is_account(text: &str) -> bool {
    (3..=24).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>
fn is_container(text: &str) -> bool {
    (3..=MAX_LABEL).contains(&text.len())
        && text.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}

fn is_dns_part(text: &str) -> bool {
    text.len() <= MAX_NAME
        && ends_alphanumeric(text)
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn ends_alphanumeric(text: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    end(text.as_bytes().first()) && end(text.as_bytes().last())
}

fn is_wordlike(text: &str, others: &[u8]) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
}

/// Whether `key` is `name` or `prefix/name` as Kubernetes has it.
pub(super) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_part(key),
        Some((prefix, name)) => (NAME.check)(prefix) && is_label_part(name),
    }
}

fn is_key_path(text: &str) -> bool {
    text.split('/').all(|part| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=+-".contains(&b))
    })
}

fn is_folder(text: &str) -> bool {
    let parts = text.strip_prefix('/').unwrap_or(text);
    !text.contains('\0') && parts.split('/').all(|p| !matches!(p, "" | "." | ".."))
}

fn is_lsn_half(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
}

fn is_cron(text: &str) -> bool {
    match text.strip_prefix('@') {
        Some(name) => {
            matches!(name, "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly")
        }
        None => text.split(' ').filter(|f| !f.is_empty()).count() == 5 && text.trim() == text,
    }
}

fn is_quantity(text: &str) -> bool {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |t: &str, max| (1..=max).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
    let units = ["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    digits(whole, 19) && digits(fraction, 9) && units.contains(&unit)
}

/// The rule that a map's keys are none of the operator's own. Whether they are keys at all is left to this process: the
/// API server knows no bound of keys, and reckons a regular expression over them as too dear.
fn not_our_keys() -> Value {
    json!([{
        "rule": format!("self.all(key, !key.startsWith('{GROUP}/'))"),
        "message": format!("keys of {GROUP} are the operator's own"),
    }])
}

/// The schema of a map from label keys to label values, at most 32.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 32,
        "additionalProperties": {
            "type": "string", "maxLength": LABEL_VALUE.max, "pattern": LABEL_VALUE.pattern,
        },
        "x-kubernetes-validations": not_our_keys(),
    })
}

/// `schema`, of a text with digits, without zero.
fn not_zero(mut schema: Schema) -> Schema {
    let rule = json!([{
        "rule": "self.matches('[1-9]')",
        "message": "zero leaves nothing: leave the field out for none",
    }]);
    schema.insert("x-kubernetes-validations".into(), rule);
    schema
}

/// The schema of a duration that may not be zero.
pub(super) fn positive_duration(generator: &mut SchemaGenerator) -> Schema {
    not_zero(duration(generator))
}

/// The schema of a size that may not be zero.
pub(super) fn positive_size(generator: &mut SchemaGenerator) -> Schema {
    not_zero(size(generator))
}

/// The schema of a collection: a key path that has none of the names under which a collection keeps its own
/// documents.
pub(super) fn collection(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = key_path(generator);
    schema.insert(
        "x-kubernetes-validations".into(),
        json!([{
            "rule": "!self.matches('(^|/)(runs|collection[.]json)(/|$)')",
            "message": "`runs` and `collection.json` are the names of a collection's own documents",
        }]),
    );
    schema
}

/// The schema of the value of a taint, which may be empty.
pub(super) fn taint_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": LABEL_VALUE.max, "pattern": LABEL_VALUE.pattern})
}

/// The schema of a map of annotations, at most 32 of at most 1,024 characters.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 1024},
        "x-kubernetes-validations": not_our_keys(),
    })
}

/// The schema of a map from resource names to quantities, each a number or a string.
pub(super) fn resource_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 8,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": QUANTITY.max, "pattern": QUANTITY.pattern,
        },
    })
}

/// The schema of a map from tier keys to label keys, at most [`locality::MAX_TIERS`].
pub(super) fn locality_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": locality::MAX_TIERS,
        "additionalProperties": {
            "type": "string", "minLength": 1, "maxLength": LABEL_KEY.max, "pattern": LABEL_KEY.pattern,
        },
    })
}

/// The schema of a map of counters, at most 64.
pub(super) fn counters(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 64,
        "additionalProperties": {"type": "integer", "format": "int64", "minimum": json!(0)},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    proptest! {
        #[test]
        fn no_text_makes_a_check_panic(text in "\\PC{0,300}", odd in any::<String>()) {
            for form in FORMS {
                let _ = ((form.check)(&text), (form.check)(&odd));
            }
        }
    }

    /// The API server and this process must not disagree. Left out are the forms whose check is narrower
    /// than a regular expression can say (dates, sums, quoting, `..`).
    #[test]
    fn what_a_pattern_makes_its_check_accepts() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let alike = [
            NAME,
            ITEM,
            DATA_KEY,
            KEY_PATH,
            BUCKET,
            WORD,
            URL,
            HOST,
            QUANTITY,
            LSN,
            SHA256,
            FULL_CRON,
            CRON,
            TIME_ZONE,
            IMAGE,
            FOLDER,
            LABEL_VALUE,
            LABEL_KEY,
        ];
        for form in alike {
            let unanchored = form.pattern.trim_start_matches('^').trim_end_matches('$');
            let texts = proptest::string::string_regex(unanchored).unwrap();
            for _ in 0..300 {
                let text = texts.new_tree(&mut runner).unwrap().current();
                if text.chars().count() <= form.max && !text.contains(['\t', '\u{b}', '\u{85}']) {
                    assert!((form.check)(&text), "{text:?} is not {}", form.says);
                }
            }
        }
    }

    #[test]
    fn paths_cannot_climb() {
        for path in ["..", "a/../b", "/", "a//b", "a/", "/a/./b", ""] {
            assert!(!is_folder(path), "{path}");
            assert!(!is_key_path(path), "{path}");
        }
        assert!(is_folder("/srv/backups") && is_folder("pg/shop") && is_key_path("a=1/b.c"));
    }

    #[test]
    fn forms_accept_what_they_describe() {
        assert!((NAME.check)("orders-eu.prod") && !(NAME.check)("Orders") && !(NAME.check)("other/orders"));
        assert!((URL.check)("http://127.0.0.1:9000") && !(URL.check)("https://user:secret@host"));
        assert!((QUANTITY.check)("1.5Gi") && (QUANTITY.check)("500m") && !(QUANTITY.check)("Gi"));
        assert!((CRON.check)("*/5 0 * * 1-5") && !(CRON.check)("* * * *") && !(CRON.check)("@reboot"));
        assert!((TIME.check)("2026-11-20T10:00:00Z") && !(TIME.check)("2026-11-20T10:00:00+01:00"));
        assert!((LSN.check)("16/B374D848") && !(LSN.check)("16/b374"));
    }
}
