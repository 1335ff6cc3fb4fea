//! Tokens of Microsoft's identity service: who asks for one, and what it means when none comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};

use super::client::AzureCredentials;
use crate::store::StoreErrorKind;
use crate::store::told::{causes, chain, shown};

/// How long a token is waited for. The SDK asks a machine's identity service again and again, for 72 seconds, also
/// where there is none: longer than a request's own limit, which then could not say what was missing.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there is no token. Never the token's own text, or a secret's.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct NoToken {
    pub(super) kind: StoreErrorKind,
    text: String,
}

/// A credential of the SDK's, of which errors say what they mean.
struct Tokens {
    inner: Arc<dyn TokenCredential>,
    /// Whether it is the machine's own: where nothing answers, there is none.
    of_the_machine: bool,
    limit: Duration,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("of_the_machine", &self.of_the_machine).finish_non_exhaustive()
    }
}

/// The credential, if it is one that has to be asked for a token. Requests for tokens go by `client`, once each.
pub(super) fn credential(
    credentials: &AzureCredentials,
    client: impl FnOnce() -> Result<reqwest::Client, crate::store::StoreError>,
) -> Result<Option<Arc<dyn TokenCredential>>, Refused> {
    let of_the_machine = matches!(credentials, AzureCredentials::ManagedIdentity { .. });
    if matches!(credentials, AzureCredentials::SharedKey(_) | AzureCredentials::Sas(_)) {
        return Ok(None);
    }
    let client_options = ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(Arc::new(client().map_err(Refused::Client)?))),
        ..ClientOptions::default()
    };
    let inner: Arc<dyn TokenCredential> = match credentials.clone() {
        AzureCredentials::SharedKey(_) | AzureCredentials::Sas(_) => return Ok(None),
        AzureCredentials::ClientSecret { tenant, client, secret } => {
            let options = ClientSecretCredentialOptions { client_options };
            ClientSecretCredential::new(&tenant, client, Secret::new(secret), Some(options))?
        }
        AzureCredentials::WorkloadIdentity { tenant, client } => {
            let options = WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: client,
                tenant_id: tenant,
                ..WorkloadIdentityCredentialOptions::default()
            };
            WorkloadIdentityCredential::new(Some(options))?
        }
        AzureCredentials::ManagedIdentity { client } => {
            let user_assigned_id = client.map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            ManagedIdentityCredential::new(Some(options))?
        }
    };
    Ok(Some(Arc::new(Tokens { inner, of_the_machine, limit: LIMIT })))
}

/// Why a credential can't be made.
pub(super) enum Refused {
    /// TLS can't work.
    Client(crate::store::StoreError),
    /// Something that it needs is missing.
    Credential(azure_core::Error),
}

impl From<azure_core::Error> for Refused {
    fn from(error: azure_core::Error) -> Self {
        Self::Credential(error)
    }
}

impl Tokens {
    fn none(&self, error: &azure_core::Error) -> NoToken {
        let mut kind = StoreErrorKind::Unauthenticated;
        // The SDK wraps what went wrong into an error of its own.
        let inner = causes(error).filter_map(|cause| cause.downcast_ref::<azure_core::Error>());
        for cause in inner {
            kind = match cause.kind() {
                ErrorKind::HttpResponse { status, .. } => match u16::from(*status) {
                    429 => StoreErrorKind::Throttled,
                    408 | 410 | 500..=599 => StoreErrorKind::Unavailable,
                    _ => StoreErrorKind::Unauthenticated,
                },
                ErrorKind::Connection | ErrorKind::Io if !self.of_the_machine => StoreErrorKind::Unavailable,
                ErrorKind::DataConversion => StoreErrorKind::Protocol,
                _ => continue,
            };
        }
        NoToken { kind, text: shown(&chain(error)) }
    }
}

#[async_trait]
impl TokenCredential for Tokens {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let none = match tokio::time::timeout(self.limit, self.inner.get_token(scopes, options)).await {
            Ok(Ok(token)) => return Ok(token),
            Ok(Err(error)) => self.none(&error),
            Err(_) if self.of_the_machine => NoToken {
                kind: StoreErrorKind::Unauthenticated,
                text: format!("no identity service of this machine answers within {:?}", self.limit),
            },
            Err(_) => NoToken {
                kind: StoreErrorKind::Unavailable,
                text: format!("no token came within {:?}", self.limit),
            },
        };
        Err(azure_core::Error::new(ErrorKind::Credential, none))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[derive(Debug)]
    struct Never;

    #[async_trait]
    impl TokenCredential for Never {
        async fn get_token(
            &self,
            _: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            std::future::pending().await
        }
    }

    /// As the SDK wraps it.
    fn wrapped(kind: ErrorKind) -> azure_core::Error {
        let inner = azure_core::Error::with_message(kind, "AADSTS1: the reason");
        azure_core::Error::with_error(
            ErrorKind::Credential,
            inner,
            "X authentication failed. AADSTS1: the reason",
        )
    }

    fn status(status: u16) -> ErrorKind {
        ErrorKind::HttpResponse { status: status.into(), error_code: None, raw_response: None }
    }

    #[rstest]
    #[case(status(400), StoreErrorKind::Unauthenticated, StoreErrorKind::Unauthenticated)]
    #[case(status(401), StoreErrorKind::Unauthenticated, StoreErrorKind::Unauthenticated)]
    #[case(status(410), StoreErrorKind::Unavailable, StoreErrorKind::Unavailable)]
    #[case(status(429), StoreErrorKind::Throttled, StoreErrorKind::Throttled)]
    #[case(status(503), StoreErrorKind::Unavailable, StoreErrorKind::Unavailable)]
    #[case(ErrorKind::Connection, StoreErrorKind::Unavailable, StoreErrorKind::Unauthenticated)]
    #[case(ErrorKind::DataConversion, StoreErrorKind::Protocol, StoreErrorKind::Protocol)]
    fn why_there_is_none_says_whether_to_ask_again(
        #[case] error: ErrorKind,
        #[case] of_a_directory: StoreErrorKind,
        #[case] of_the_machine: StoreErrorKind,
    ) {
        for (machine, expected) in [(false, of_a_directory), (true, of_the_machine)] {
            let tokens = Tokens { inner: Arc::new(Never), of_the_machine: machine, limit: LIMIT };
            let none = tokens.none(&wrapped(error.clone()));
            assert_eq!(none.kind, expected);
            assert!(none.to_string().contains("the reason"), "{none}");
        }
    }

    #[tokio::test]
    async fn a_token_that_never_comes_is_not_waited_for_forever() {
        for (of_the_machine, expected) in
            [(true, StoreErrorKind::Unauthenticated), (false, StoreErrorKind::Unavailable)]
        {
            let tokens = Tokens { inner: Arc::new(Never), of_the_machine, limit: Duration::from_millis(1) };
            let error = tokens.get_token(&["x"], None).await.unwrap_err();
            assert_eq!(error.downcast_ref::<NoToken>().unwrap().kind, expected);
        }
    }
}
