//! What requests carry that the SDK's own calls have no option for, and how names stand in them.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{ClientMethodOptions, Context, Request};

/// What to add to one request; travels in its context.
#[derive(Clone, Debug, Default)]
pub(super) struct Added {
    /// `Content-MD5`: the service compares it with what it received. `upload` has no option for it.
    pub(super) md5: Option<String>,
    /// `delimiter` of a listing: the SDK lists without folders only.
    pub(super) delimiter: Option<&'static str>,
}

impl Added {
    pub(super) fn into_options(self) -> ClientMethodOptions<'static> {
        ClientMethodOptions { context: Context::new().with_value(self) }
    }
}

/// Adds it, and writes names with their slashes, before the request is signed.
#[derive(Debug)]
pub(super) struct Add;

#[async_trait]
impl Policy for Add {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        // The SDK takes a name for one segment. The service reads both alike, but not everything that stands before it.
        if request.url().path().contains("%2F") {
            let path = request.url().path().replace("%2F", "/");
            request.url_mut().set_path(&path);
        }
        if let Some(added) = ctx.value::<Added>() {
            if let Some(md5) = &added.md5 {
                request.insert_header("content-md5", md5.clone());
            }
            if let Some(delimiter) = added.delimiter {
                request.url_mut().query_pairs_mut().append_pair("delimiter", delimiter);
            }
        }
        match next.split_first() {
            Some((first, rest)) => first.send(ctx, request, rest).await,
            None => Err(azure_core::Error::with_message(ErrorKind::Other, "nothing sends the request")),
        }
    }
}
