//! `azblob://account/container/prefix`

use std::fmt;

use url::Url;

use super::{StoreUrlError, endpoint_with_path, is_prefix, shown};

const OPTIONS: &str = "endpoint";

/// A container of Azure Blob Storage and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureLocation {
    /// Name of the storage account.
    pub account: String,
    /// Name of the container.
    pub container: String,
    /// Prefix of every key, without slashes at its ends; empty for none.
    pub prefix: String,
    /// The account's Blob endpoint, of another cloud, a private link or a server of one's own; absent:
    /// `https://<account>.blob.core.windows.net`. `http://` only if it says so.
    pub endpoint: Option<String>,
}

impl AzureLocation {
    /// The account's Blob endpoint, without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://{}.blob.core.windows.net", self.account),
        }
    }

    pub(super) fn parse(text: &str, url: &Url) -> Result<Self, StoreUrlError> {
        if url.port().is_some() {
            return Err(StoreUrlError::Meaningless("a port: name the server by ?endpoint=…"));
        }
        let account = url.host_str().unwrap_or_default();
        if !is_account(account) {
            return Err(StoreUrlError::Account(shown(account)));
        }
        // From the text, because the parser resolves `..` silently.
        let path = text.split(['?', '#']).next().unwrap_or(text);
        let path = path.splitn(4, '/').nth(3).unwrap_or("").trim_end_matches('/');
        let (container, prefix) = path.split_once('/').unwrap_or((path, ""));
        if !is_container(container) {
            return Err(StoreUrlError::Container(shown(container)));
        }
        if !is_prefix(prefix) {
            return Err(StoreUrlError::Prefix(shown(prefix)));
        }
        let mut endpoint = None;
        for (option, value) in url.query_pairs() {
            let twice = match &*option {
                "endpoint" => endpoint.replace(endpoint_with_path(&value)?).is_some(),
                other => return Err(StoreUrlError::UnknownOption(shown(other), OPTIONS)),
            };
            if twice {
                return Err(StoreUrlError::TwiceTheOption(shown(&option)));
            }
        }
        Ok(Self {
            account: account.to_owned(),
            container: container.to_owned(),
            prefix: prefix.to_owned(),
            endpoint,
        })
    }
}

impl fmt::Display for AzureLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "azblob://{}/{}", self.account, self.container)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        write!(f, "?{}", query.append_pair("endpoint", endpoint).finish())
    }
}

/// <https://learn.microsoft.com/azure/storage/common/storage-account-overview>
fn is_account(name: &str) -> bool {
    (3..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>
fn is_container(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}
