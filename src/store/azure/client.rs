//! The SDK's client: identity, TLS, time limits, and no retries.

use std::fmt;
use std::sync::Arc;

use azure_core::http::{ClientOptions, RetryOptions, Transport, Url};
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::request::Add;
use super::shared_key::SharedKey;
use super::token::{self, Refused};
use crate::store::location::AzureLocation;
use crate::store::told::chain;
use crate::store::{Limits, StoreError, StoreErrorKind};

/// What a URL does not say about Azure.
#[derive(Clone, Debug, Default)]
pub struct AzureOptions {
    /// Absent: the environment's, by the names that Azure's own tools use ([`AzureCredentials::of`]).
    pub credentials: Option<AzureCredentials>,
    /// PEM of the authorities to trust instead of the system's, at the container. Where tokens come from is trusted
    /// by the system's in any case.
    pub authorities: Option<Vec<u8>>,
    /// How long one request is waited for.
    pub limits: Limits,
}

/// Who asks. Never printed.
#[derive(Clone)]
pub enum AzureCredentials {
    /// One of the account's two keys, in Base64.
    SharedKey(String),
    /// A shared access signature, with or without its question mark.
    Sas(String),
    /// An application's secret.
    ClientSecret {
        /// The directory.
        tenant: String,
        /// The application.
        client: String,
        /// Its secret.
        secret: String,
    },
    /// A Kubernetes ServiceAccount's token that the directory trusts, by the variables that the webhook of
    /// workload identity sets.
    WorkloadIdentity {
        /// The directory; absent: as the webhook says.
        tenant: Option<String>,
        /// The application or identity; absent: as the webhook says.
        client: Option<String>,
    },
    /// The identity of the machine.
    ManagedIdentity {
        /// Which one of several; absent: the machine's own.
        client: Option<String>,
    },
}

impl fmt::Debug for AzureCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedKey(_) => "SharedKey(…)",
            Self::Sas(_) => "Sas(…)",
            Self::ClientSecret { .. } => "ClientSecret(…)",
            Self::WorkloadIdentity { .. } => "WorkloadIdentity",
            Self::ManagedIdentity { .. } => "ManagedIdentity",
        })
    }
}

impl AzureCredentials {
    /// What variables say of `account`, most particular first: `AZURE_STORAGE_KEY` and `AZURE_STORAGE_SAS_TOKEN` as
    /// the `az` tool has them, then `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`, then
    /// `AZURE_FEDERATED_TOKEN_FILE`; the machine's identity if none is set, of several that of `AZURE_CLIENT_ID`.
    ///
    /// `variable` gives a variable's value; one that is empty counts as not set.
    ///
    /// # Errors
    /// Names what can't be right, without showing it: a key that is no Base64, a signature that is none, and either
    /// where `AZURE_STORAGE_ACCOUNT` names another account.
    pub fn of(account: &str, mut variable: impl FnMut(&str) -> Option<String>) -> Result<Self, String> {
        // A file's last line ends as a line does.
        let mut set = |name: &str| variable(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        let found = if let Some(key) = set("AZURE_STORAGE_KEY") {
            if !BASE64.decode(&key).is_ok_and(|key| !key.is_empty()) {
                return Err("AZURE_STORAGE_KEY is no Base64, as an account's keys are".to_owned());
            }
            Self::SharedKey(key)
        } else if let Some(sas) = set("AZURE_STORAGE_SAS_TOKEN") {
            let mut parameters = sas.trim_start_matches('?').split('&');
            if sas.contains("://") || !parameters.any(|it| it.starts_with("sig=")) {
                return Err(
                    "AZURE_STORAGE_SAS_TOKEN is no signature: sv=…&sig=…, without a URL before it".to_owned()
                );
            }
            Self::Sas(sas)
        } else {
            let (tenant, client) = (set("AZURE_TENANT_ID"), set("AZURE_CLIENT_ID"));
            return Ok(match (tenant, client, set("AZURE_CLIENT_SECRET")) {
                (Some(tenant), Some(client), Some(secret)) => Self::ClientSecret { tenant, client, secret },
                (None, _, Some(_)) | (_, None, Some(_)) => {
                    return Err(
                        "AZURE_CLIENT_SECRET needs AZURE_TENANT_ID and AZURE_CLIENT_ID beside it".to_owned()
                    );
                }
                (tenant, client, None) if set("AZURE_FEDERATED_TOKEN_FILE").is_some() => {
                    Self::WorkloadIdentity { tenant, client }
                }
                (_, client, None) => Self::ManagedIdentity { client },
            });
        };
        match set("AZURE_STORAGE_ACCOUNT") {
            Some(other) if other != account => Err(format!(
                "the key or signature is of the account {other:?}, as AZURE_STORAGE_ACCOUNT says, and the container's \
                 is {account:?}"
            )),
            _ => Ok(found),
        }
    }
}

/// Builds the client for one container.
pub(super) fn build(
    location: &AzureLocation,
    url: &str,
    options: &AzureOptions,
) -> Result<BlobContainerClient, StoreError> {
    let error = |kind, message: String| StoreError::new(kind, "open", url, message);
    let refuse = |message: String| error(StoreErrorKind::Invalid, message);
    let credentials = match &options.credentials {
        Some(credentials) => credentials.clone(),
        None => AzureCredentials::of(&location.account, |name| std::env::var(name).ok()).map_err(refuse)?,
    };
    let endpoint = location.endpoint();
    let mut container = Url::parse(&format!("{endpoint}/{}", location.container))
        .map_err(|error| refuse(format!("the endpoint {endpoint:?} is no URL: {error}")))?;
    let http = http_client(&options.limits, options.authorities.as_deref(), refuse)?;
    let mut client_options = ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(http))),
        per_call_policies: vec![Arc::new(Add)],
        ..ClientOptions::default()
    };
    match &credentials {
        AzureCredentials::SharedKey(key) => {
            let signing = SharedKey::new(location.account.clone(), key.clone());
            client_options.per_try_policies.push(Arc::new(signing));
        }
        AzureCredentials::Sas(sas) => container.set_query(Some(sas.trim_start_matches('?'))),
        _ if container.scheme() != "https" => {
            let message = "a token is never sent without TLS: take an https:// endpoint, or an account's key";
            return Err(refuse(message.to_owned()));
        }
        _ => {}
    }
    let for_tokens = || http_client(&options.limits, None, refuse);
    let token = token::credential(&credentials, for_tokens).map_err(|refused| match refused {
        Refused::Client(error) => error,
        // A token's file that can't be read, a variable that is missing.
        Refused::Credential(missing) => error(StoreErrorKind::Unauthenticated, chain(&missing)),
    })?;
    let options = BlobContainerClientOptions { client_options, ..BlobContainerClientOptions::default() };
    BlobContainerClient::new(container, token, Some(options))
        .map_err(|error| refuse(format!("the client can't be made: {}", chain(&error))))
}

/// Follows no redirect: an answer that sends elsewhere is none of the service's, and the credentials stay here.
fn http_client(
    limits: &Limits,
    authorities: Option<&[u8]>,
    refuse: impl Fn(String) -> StoreError,
) -> Result<reqwest::Client, StoreError> {
    // No time limit on reading: that one also runs while a body is sent. Attempts and bodies have limits of their own.
    let mut builder = reqwest::Client::builder()
        .connect_timeout(limits.connect)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(pem) = authorities {
        let certificates = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|error| refuse(format!("the CA file is no PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(refuse("the CA file holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| refuse("TLS can't be set up".to_owned()).with_source(error))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rstest::rstest;

    use super::*;

    /// A secret's text, that no message may show.
    const KEY: &str = "Y2FuYXJ5";

    fn of(set: &[(&str, &str)]) -> Result<String, String> {
        let set: HashMap<_, _> = set.iter().copied().collect();
        let found = AzureCredentials::of("shop", |name| set.get(name).map(|it| (*it).to_owned()));
        found.map(|found| format!("{found:?}"))
    }

    #[rstest]
    #[case(&[], "ManagedIdentity")]
    #[case(&[("AZURE_STORAGE_KEY", "")], "ManagedIdentity")]
    #[case(&[("AZURE_STORAGE_KEY", KEY), ("AZURE_STORAGE_SAS_TOKEN", "s")], "SharedKey(…)")]
    #[case(&[("AZURE_STORAGE_KEY", "Y2FuYXJ5\n"), ("AZURE_STORAGE_ACCOUNT", "shop")], "SharedKey(…)")]
    #[case(&[("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=s"), ("AZURE_FEDERATED_TOKEN_FILE", "f")], "Sas(…)")]
    #[case(&[("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")], "ClientSecret(…)")]
    #[case(
        &[("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_FEDERATED_TOKEN_FILE", "f")],
        "WorkloadIdentity"
    )]
    #[case(&[("AZURE_CLIENT_ID", "c"), ("AZURE_STORAGE_ACCOUNT", "other")], "ManagedIdentity")]
    fn the_most_particular_variable_counts(#[case] set: &[(&str, &str)], #[case] expected: &str) {
        assert_eq!(of(set).as_deref(), Ok(expected));
    }

    #[rstest]
    #[case(&[("AZURE_STORAGE_KEY", "canary-is-no-base64!")], "no Base64")]
    #[case(&[("AZURE_STORAGE_SAS_TOKEN", "canary")], "no signature")]
    #[case(&[("AZURE_STORAGE_SAS_TOKEN", "https://a.example/c?sv=1&sig=canary")], "without a URL")]
    #[case(&[("AZURE_CLIENT_SECRET", "canary")], "AZURE_TENANT_ID")]
    #[case(&[("AZURE_STORAGE_KEY", KEY), ("AZURE_STORAGE_ACCOUNT", "other")], "\"other\"")]
    fn what_can_not_be_right_is_named_and_not_shown(#[case] set: &[(&str, &str)], #[case] expected: &str) {
        let said = of(set).unwrap_err();
        assert!(said.contains(expected) && !said.contains("canary") && !said.contains(KEY), "{said}");
    }
}
