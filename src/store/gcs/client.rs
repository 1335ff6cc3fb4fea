//! The clients: identity, endpoints, and no retries. The SDK has one client for data, over HTTP, and one for metadata,
//! over gRPC; resumable uploads are sent by a third, with the same identity.

use std::fmt;

use google_cloud_auth::credentials::{
    Builder as DefaultCredentials, Credentials, anonymous, service_account,
};
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::{Storage, StorageControl};
use google_cloud_storage::read_resume_policy::NeverResume;

use super::resumable::{Uploads, http_client};
use crate::store::location::GcsLocation;
use crate::store::told::chain;
use crate::store::{Limits, StoreError, StoreErrorKind};

/// Reading and writing objects, and nothing of what else an identity may do:
/// <https://cloud.google.com/storage/docs/oauth-scopes>
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// What a URL does not say about Google Cloud Storage.
#[derive(Clone, Debug, Default)]
pub struct GcsOptions {
    /// Absent: what Google's own libraries find: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, that of
    /// `gcloud auth application-default login`, the machine's or pod's metadata server.
    pub credentials: Option<GcsCredentials>,
    /// How long one request is waited for.
    pub limits: Limits,
}

/// A service account's key. Never printed.
#[derive(Clone)]
pub struct GcsCredentials(serde_json::Value);

impl fmt::Debug for GcsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GcsCredentials(…)")
    }
}

impl GcsCredentials {
    /// The key as `gcloud iam service-accounts keys create` writes it.
    ///
    /// Other kinds of credential files are refused: some of them name programs to run and addresses to ask, which a
    /// Secret must not be able to.
    ///
    /// # Errors
    /// What is wrong with the text, without any of it.
    pub fn from_key_file(text: &str) -> Result<Self, &'static str> {
        let key: serde_json::Value = serde_json::from_str(text).map_err(|_| "is no JSON")?;
        let has =
            |field: &str| key.get(field).and_then(serde_json::Value::as_str).is_some_and(|it| !it.is_empty());
        match key.get("type").and_then(serde_json::Value::as_str) {
            Some("service_account") => {}
            Some(_) => return Err("is a credential file of another type than service_account"),
            None => return Err("is no service account's key: it has no type"),
        }
        if !["client_email", "private_key", "private_key_id"].into_iter().all(has) {
            return Err("is no whole key: client_email, private_key or private_key_id is missing");
        }
        Ok(Self(key))
    }
}

/// All there is to ask a bucket with.
pub(super) struct Clients {
    pub(super) data: Storage,
    pub(super) control: StorageControl,
    pub(super) uploads: Uploads,
}

/// Builds the clients for one bucket.
pub(super) async fn build(
    location: &GcsLocation,
    url: &str,
    options: &GcsOptions,
) -> Result<Clients, StoreError> {
    let refuse = |message: String| StoreError::new(StoreErrorKind::Invalid, "open", url, message);
    let endpoint = location.endpoint();
    // First: where TLS can't be had, the SDK's own clients panic.
    let http = http_client(&options.limits).map_err(refuse)?;
    let credentials = credentials(endpoint, options).map_err(refuse)?;
    let data = Storage::builder()
        .with_endpoint(endpoint)
        .with_credentials(credentials.clone())
        .with_retry_policy(NeverRetry)
        .with_read_resume_policy(NeverResume)
        // What is created at once is created by one request, whatever its size.
        .with_resumable_upload_threshold(usize::MAX)
        .with_grpc_subchannel_count(1_usize)
        .build()
        .await
        .map_err(|error| refuse(format!("the client can't be made: {}", chain(&error))))?;
    let control = StorageControl::builder()
        .with_endpoint(endpoint)
        .with_credentials(credentials.clone())
        .with_retry_policy(NeverRetry)
        .with_attempt_timeout(options.limits.attempt)
        .build()
        .await
        .map_err(|error| refuse(format!("the client can't be made: {}", chain(&error))))?;
    let uploads = Uploads::new(http, endpoint, credentials).map_err(refuse)?;
    Ok(Clients { data, control, uploads })
}

/// A token without TLS is anyone's who listens, so it is never made: such an endpoint is asked as nobody.
fn credentials(endpoint: &str, options: &GcsOptions) -> Result<Credentials, String> {
    match (&options.credentials, endpoint.starts_with("https://")) {
        (None, false) => Ok(anonymous::Builder::new().build()),
        (Some(_), false) => {
            Err("a token is never sent without TLS: take an https:// endpoint, or leave the key out"
                .to_owned())
        }
        (Some(GcsCredentials(key)), true) => service_account::Builder::new(key.clone())
            .with_access_specifier(service_account::AccessSpecifier::from_scopes([SCOPE]))
            .build()
            .map_err(|error| format!("the service account's key can't be used: {}", chain(&error))),
        (None, true) => DefaultCredentials::default()
            .with_scopes([SCOPE])
            // Or a metadata server would be asked for it, before anybody waits for an answer.
            .with_universe_domain("googleapis.com")
            .build()
            .map_err(|error| format!("no credentials: {}", chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", "is no JSON")]
    #[case("{}", "no type")]
    #[case(r#"{"type":"external_account"}"#, "another type")]
    #[case(r#"{"type":"service_account","client_email":"a@b","private_key":""}"#, "no whole key")]
    fn a_file_that_is_no_key_is_named_and_not_repeated(#[case] text: &str, #[case] expected: &str) {
        let error = GcsCredentials::from_key_file(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn the_key_is_never_printed() {
        let text = r#"{"type":"service_account","client_email":"a@b","private_key":"canary","private_key_id":"canary"}"#;
        let options = GcsOptions {
            credentials: Some(GcsCredentials::from_key_file(text).unwrap()),
            ..GcsOptions::default()
        };
        assert!(!format!("{options:?}").contains("canary"));
        let error = credentials("http://localhost", &options).unwrap_err();
        assert!(error.contains("never sent without TLS"), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}
