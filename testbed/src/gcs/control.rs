//! Metadata over gRPC: `google.storage.v2.Storage`, with Google's own message types.
//! <https://github.com/googleapis/googleapis/blob/master/google/storage/v2/storage.proto>

use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request as HttpRequest};
use axum::response::Response as HttpResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use googleapis_tonic_google_storage_v2::google::storage::v2::{
    DeleteObjectRequest, GetObjectRequest, ListObjectsRequest, ListObjectsResponse, Object as Message,
    ObjectChecksums,
};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::bucket::{Conditions, Object};
use super::refusal::Refusal;
use super::{Service, Trouble};

/// Most items of a page, prefixes included, and how many there are if nothing is said: "The service will use this
/// parameter or 1,000 items, whichever is smaller."
const PAGE: usize = 1_000;

/// `POST /google.storage.v2.Storage/{method}`
pub(super) async fn call(
    State(service): State<Service>,
    Path(method): Path<String>,
    request: HttpRequest<Body>,
) -> HttpResponse {
    let answer = match method.as_str() {
        "GetObject" => unary(Call(service, get), request).await,
        "ListObjects" => unary(Call(service, list), request).await,
        "DeleteObject" => unary(Call(service, delete), request).await,
        _ => Status::unimplemented(format!("this fake has no {method}")).into_http(),
    };
    answer.map(Body::new)
}

async fn unary<M, N>(call: Call<M, N>, request: HttpRequest<Body>) -> axum::http::Response<tonic::body::Body>
where
    M: prost::Message + Default + Send + Sync + 'static,
    N: prost::Message + Default + Send + Sync + 'static,
{
    Grpc::new(ProstCodec::<N, M>::default()).unary(call, request).await
}

type Answer<N> = Result<N, Refusal>;

/// What carries a method out, with the metadata that came along; and the method's name, and the bucket's as it came.
type Method<M, N> = fn(&Service, &HeaderMap, M) -> (&'static str, String, Answer<N>);

/// One request of a method.
struct Call<M, N>(Service, Method<M, N>);

impl<M: Send + 'static, N: Send + 'static> UnaryService<M> for Call<M, N> {
    type Response = N;
    type Future = Pin<Box<dyn Future<Output = Result<Response<N>, Status>> + Send>>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        let (service, carry_out) = (self.0.clone(), self.1);
        Box::pin(async move {
            let (metadata, _, message) = request.into_parts();
            let headers = metadata.into_headers();
            let (method, bucket, answer) = carry_out(&service, &headers, message);
            let name = bucket.strip_prefix("projects/_/buckets/").unwrap_or_default();
            match service.trouble(name, &format!("after {method}")) {
                Some(Trouble::LoseAnswer) => return Err(Refusal::unavailable().into()),
                Some(Trouble::Stall) => std::future::pending().await,
                _ => {}
            }
            answer.map(Response::new).map_err(Status::from)
        })
    }
}

/// Who asks, whether it is routed, whether it is troubled; then the name of the bucket alone.
fn admit<'a>(
    service: &Service,
    headers: &HeaderMap,
    method: &str,
    bucket: &'a str,
) -> Result<&'a str, Refusal> {
    service.authorize(headers)?;
    let name = bucket
        .strip_prefix("projects/_/buckets/")
        .ok_or_else(|| Refusal::invalid(format!("Invalid bucket name: {bucket:?}")))?;
    // "The request header x-goog-request-params must be set": google.api.routing of each method.
    let routed = headers.get("x-goog-request-params").and_then(|it| it.to_str().ok()).unwrap_or_default();
    if !routed.split('&').any(|pair| pair.starts_with("bucket=")) {
        return Err(Refusal::invalid("Missing routing header: bucket"));
    }
    match service.trouble(name, method) {
        Some(Trouble::Throttle) => Err(Refusal::throttled(name)),
        Some(Trouble::Unavailable) => Err(Refusal::unavailable()),
        Some(Trouble::Forbid) => {
            Err(Refusal::forbidden(format!("The caller has no access to bucket {name} for {method}.")))
        }
        _ => Ok(name),
    }
}

fn message_of(bucket: &str, name: &str, object: &Object) -> Message {
    Message {
        name: name.to_owned(),
        bucket: format!("projects/_/buckets/{bucket}"),
        etag: object.etag(),
        generation: object.generation,
        metageneration: object.metageneration,
        storage_class: "STANDARD".to_owned(),
        size: i64::try_from(object.content.len()).unwrap_or(i64::MAX),
        content_type: object.content_type.clone(),
        create_time: Some(object.created.into()),
        finalize_time: Some(object.created.into()),
        update_time: Some(object.created.into()),
        temporary_hold: object.held,
        checksums: Some(ObjectChecksums { crc32c: Some(object.crc32c), md5_hash: object.md5.to_vec() }),
        ..Message::default()
    }
}

/// 0 stands for the live one.
const fn generation_of(number: i64) -> Option<i64> {
    if number == 0 { None } else { Some(number) }
}

fn get(
    service: &Service,
    headers: &HeaderMap,
    asked: GetObjectRequest,
) -> (&'static str, String, Answer<Message>) {
    const METHOD: &str = "GetObject";
    let carry_out = || {
        let bucket = admit(service, headers, METHOD, &asked.bucket)?;
        let conditions = Conditions {
            generation: asked.if_generation_match,
            not_generation: asked.if_generation_not_match,
            metageneration: asked.if_metageneration_match,
            not_metageneration: asked.if_metageneration_not_match,
        };
        service.bucket(bucket, |content| {
            let found = content.find(&asked.object, generation_of(asked.generation));
            let found = found.ok_or_else(|| Refusal::no_object(bucket, &asked.object))?;
            conditions.check(Some(found))?;
            Ok(message_of(bucket, &asked.object, found))
        })
    };
    let answer = carry_out();
    (METHOD, asked.bucket, answer)
}

fn delete(
    service: &Service,
    headers: &HeaderMap,
    asked: DeleteObjectRequest,
) -> (&'static str, String, Answer<()>) {
    const METHOD: &str = "DeleteObject";
    let carry_out = || {
        let bucket = admit(service, headers, METHOD, &asked.bucket)?;
        let conditions = Conditions {
            generation: asked.if_generation_match,
            not_generation: asked.if_generation_not_match,
            metageneration: asked.if_metageneration_match,
            not_metageneration: asked.if_metageneration_not_match,
        };
        let generation = generation_of(asked.generation);
        service.bucket(bucket, |content| content.delete(bucket, &asked.object, generation, &conditions))
    };
    let answer = carry_out();
    (METHOD, asked.bucket, answer)
}

fn list(
    service: &Service,
    headers: &HeaderMap,
    asked: ListObjectsRequest,
) -> (&'static str, String, Answer<ListObjectsResponse>) {
    const METHOD: &str = "ListObjects";
    let carry_out = || {
        let bucket = admit(service, headers, METHOD, &asked.parent)?;
        let others = [
            (asked.versions, "versions"),
            (asked.soft_deleted, "soft_deleted"),
            (asked.include_trailing_delimiter, "include_trailing_delimiter"),
            (asked.include_folders_as_prefixes, "include_folders_as_prefixes"),
            (!asked.lexicographic_start.is_empty(), "lexicographic_start"),
            (!asked.lexicographic_end.is_empty(), "lexicographic_end"),
            (!asked.match_glob.is_empty(), "match_glob"),
            (!asked.filter.is_empty(), "filter"),
        ];
        if let Some((_, name)) = others.iter().find(|(set, _)| *set) {
            return Err(Refusal::not_here(name));
        }
        let size = match usize::try_from(asked.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE),
            Err(_) => return Err(Refusal::invalid("Invalid page size")),
        };
        let after = match asked.page_token.as_str() {
            "" => None,
            token => Some(after_of(token, &asked.prefix, &asked.delimiter)?),
        };
        service.bucket(bucket, |content| {
            let mut page = ListObjectsResponse::default();
            let mut last = String::new();
            let start = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
            for (name, object) in content.live_from(start).filter(|(name, _)| name.starts_with(&asked.prefix))
            {
                let folder = folder_of(name, &asked.prefix, &asked.delimiter);
                // What lies below a folder that was told is told with it, on a later page too.
                let told = folder.is_some_and(|folder| {
                    page.prefixes.last().map(String::as_str) == Some(folder)
                        || after.as_deref().is_some_and(|after| after.starts_with(folder))
                });
                if told {
                    last.clone_from(name);
                    continue;
                }
                if page.objects.len() + page.prefixes.len() == size {
                    page.next_page_token = token_of(&last, &asked.prefix, &asked.delimiter);
                    break;
                }
                match folder {
                    Some(folder) => page.prefixes.push(folder.to_owned()),
                    None => page.objects.push(message_of(bucket, name, object)),
                }
                last.clone_from(name);
            }
            Ok(page)
        })
    };
    let answer = carry_out();
    (METHOD, asked.parent, answer)
}

/// "If set, objects whose names, aside from the prefix, contain the delimiter are omitted; their names up to and with the
/// delimiter are told as prefixes."
fn folder_of<'a>(name: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = name.get(prefix.len()..)?.find(delimiter)?;
    name.get(..prefix.len() + at + delimiter.len())
}

/// Opaque, and of one listing only: what it was made for stands in it.
fn token_of(last: &str, prefix: &str, delimiter: &str) -> String {
    BASE64.encode(format!("{delimiter}\n{prefix}\n{last}"))
}

fn after_of(token: &str, prefix: &str, delimiter: &str) -> Result<String, Refusal> {
    let wrong = || Refusal::invalid("Invalid argument: page token");
    let text = BASE64.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let after = text.strip_prefix(&format!("{delimiter}\n{prefix}\n")).ok_or_else(wrong)?;
    Ok(after.to_owned())
}
