//! A container of Azure Blob Storage as a BackupStore names it.

use super::super::{Failure, output};
use super::file::{self, Scope};
use crate::api::AzurePlace;
use crate::api::document::Keys;
use crate::store::StoreUrl;
use crate::store::azure::{AzureCredentials, AzureOptions};
use crate::store::location::AzureLocation;

/// The one that says whose token the pod has. It is the webhook's, and in no Secret.
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// What names an identity; one of them at least is in a Secret.
const NAMING: [&str; 3] = ["AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_ID"];

/// Where it is.
pub(super) fn url(place: &AzurePlace, path: &str) -> Result<StoreUrl, Failure> {
    let AzurePlace { account, container, prefix, endpoint, ca: _ } = place;
    let url = StoreUrl::Azure(AzureLocation {
        account: account.clone(),
        container: container.clone(),
        prefix: prefix.clone().unwrap_or_default(),
        endpoint: endpoint.clone(),
    });
    // What a URL may not name (a cloud's metadata service as endpoint), a resource may not either.
    StoreUrl::parse(&url.to_string()).map_err(|error| {
        let hint = "it is refused as --store would refuse it";
        Failure::usage(format!("{path}.azure: {}", output::chain(&error)), hint)
    })
}

/// Who asks for it, and whom it trusts.
pub(super) fn options(
    place: &AzurePlace,
    secret: Option<&str>,
    path: &str,
    scope: &Scope<'_>,
) -> Result<AzureOptions, Failure> {
    let authorities = match &place.ca {
        None => None,
        Some(reference) => Some(scope.key(&format!("{path}.azure.caSecret"), "Secret", reference)?.to_vec()),
    };
    let credentials = credentials(place, secret, path, scope)?;
    Ok(AzureOptions { credentials, authorities, ..AzureOptions::default() })
}

/// Credentials by the Secret's keys; without a Secret, or with one that the file does not have, the environment's.
fn credentials(
    place: &AzurePlace,
    secret: Option<&str>,
    path: &str,
    scope: &Scope<'_>,
) -> Result<Option<AzureCredentials>, Failure> {
    let Some(name) = secret else { return Ok(None) };
    let field = format!("{path}.credentialsSecret");
    let Some(keys) = scope.secret(&field, name)? else {
        eprintln!("{field}: Secret {name} is not in the file; this environment's credentials are used");
        return Ok(None);
    };
    of_secret(&place.account, &field, keys).map(Some)
}

fn of_secret(account: &str, field: &str, keys: &Keys) -> Result<AzureCredentials, Failure> {
    let name = &keys.name;
    if !NAMING.iter().any(|key| keys.get(key).is_some()) {
        let message = format!("{field}: Secret {name} has none of the keys {}", NAMING.join(", "));
        return Err(Failure::usage(
            message,
            "name the key as Azure's own tools do; docs/clouds.md has one of each",
        ));
    }
    let mut unreadable = None;
    let found = AzureCredentials::of(account, |key| match keys.get(key) {
        Some(_) => file::text(field, keys, key).map_err(|failure| unreadable = Some(failure)).ok(),
        None if key == TOKEN_FILE => std::env::var(key).ok(),
        None => None,
    });
    match unreadable {
        Some(failure) => Err(failure),
        None => found.map_err(|error| {
            Failure::usage(
                format!("{field}: Secret {name}: {error}"),
                "correct the Secret, and keep its keys' names",
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;

    fn of(data: &[(&str, &str)]) -> Result<String, String> {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        of_data(data)
    }

    fn of_data(data: BTreeMap<String, Vec<u8>>) -> Result<String, String> {
        let found = of_secret("shop", "spec.x.credentialsSecret", &Keys::new("opens".to_owned(), data));
        found.map(|it| format!("{it:?}")).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn a_secret_s_keys_are_those_of_azure_s_own_tools() {
        assert_eq!(of(&[("AZURE_STORAGE_KEY", "Y2FuYXJ5\n")]).as_deref(), Ok("SharedKey(…)"));
        assert_eq!(of(&[("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x")]).as_deref(), Ok("Sas(…)"));
        assert_eq!(of(&[("AZURE_CLIENT_ID", "c")]).as_deref(), Ok("ManagedIdentity"));
    }

    #[rstest]
    #[case(&[("password", "canary")], "has none of the keys AZURE_STORAGE_KEY")]
    #[case(&[("AZURE_STORAGE_KEY", "canary-is-no-base64!")], "no Base64")]
    #[case(&[("AZURE_STORAGE_KEY", "Y2FuYXJ5"), ("AZURE_STORAGE_ACCOUNT", "other")], "AZURE_STORAGE_ACCOUNT")]
    fn what_is_wrong_with_a_secret_is_named_and_not_shown(
        #[case] data: &[(&str, &str)],
        #[case] named: &str,
    ) {
        let said = of(data).unwrap_err();
        assert!(said.contains(named) && said.contains("Secret opens"), "{said}");
        assert!(!said.contains("canary") && !said.contains("Y2FuYXJ5"), "{said}");
    }

    #[test]
    fn a_key_that_is_no_text_is_named() {
        let said = of_data([("AZURE_STORAGE_KEY".to_owned(), vec![0xff])].into()).unwrap_err();
        assert!(said.contains("not UTF-8") && said.contains("Secret opens"), "{said}");
    }
}
