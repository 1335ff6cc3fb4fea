//! The store of Google's kind that the tests run against refuses what the service refuses: shown by Google's own SDK,
//! and by plain requests where the SDK never sends what is wrong.

use bytes::Bytes;
use google_cloud_auth::credentials::{Credentials, anonymous, service_account};
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::{Storage, StorageControl};
use google_cloud_storage::model_ext::ReadRange;
use rstest::rstest;
use testbed::{GcsServer, shared_gcs};

use crate::fixture::bytes;

const QUANTUM: usize = 256 << 10;

struct Sdk {
    server: &'static GcsServer,
    data: Storage,
    control: StorageControl,
    bucket: String,
    parent: String,
}

type Result<T> = google_cloud_storage::Result<T>;

impl Sdk {
    async fn new() -> Self {
        let server = shared_gcs();
        Self::at(server, server.fresh_bucket("sdk"), anonymous::Builder::new().build()).await
    }

    async fn at(server: &'static GcsServer, bucket: String, credentials: Credentials) -> Self {
        let data = Storage::builder()
            .with_endpoint(server.endpoint())
            .with_credentials(credentials.clone())
            .with_retry_policy(NeverRetry)
            .build()
            .await
            .unwrap();
        let control = StorageControl::builder()
            .with_endpoint(server.endpoint())
            .with_credentials(credentials)
            .with_retry_policy(NeverRetry)
            .build()
            .await
            .unwrap();
        let parent = format!("projects/_/buckets/{bucket}");
        Self { server, data, control, bucket, parent }
    }

    /// Stores `content` as `name`, and returns its generation.
    async fn put(&self, name: &str, content: impl Into<Bytes>) -> i64 {
        let sent = self.data.write_object(&self.parent, name, content.into()).set_if_generation_match(0_i64);
        sent.send_unbuffered().await.unwrap().generation
    }

    async fn read(&self, name: &str, generation: i64, range: ReadRange) -> Result<Vec<u8>> {
        let asked =
            self.data.read_object(&self.parent, name).set_generation(generation).set_read_range(range);
        let mut found = asked.send().await?;
        let mut content = Vec::new();
        while let Some(bytes) = found.next().await {
            content.extend_from_slice(&bytes?);
        }
        Ok(content)
    }

    fn names(&self) -> Vec<String> {
        self.server.objects(&self.bucket).into_iter().map(|(name, _)| name).collect()
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T>) -> Code {
    let error = answer.unwrap_err();
    error.status().unwrap_or_else(|| panic!("{error:?} has no status")).code
}

fn http<T: std::fmt::Debug>(answer: Result<T>) -> u16 {
    let error = answer.unwrap_err();
    error.http_status_code().unwrap_or_else(|| panic!("{error:?} is no answer over HTTP"))
}

#[tokio::test]
async fn a_wrong_checksum_is_refused() {
    let sdk = Sdk::new().await;
    let put = |name: &str| sdk.data.write_object(&sdk.parent, name, "content");
    assert_eq!(http(put("a").with_known_crc32c(1_u32).send_unbuffered().await), 400);
    assert_eq!(http(put("b").with_known_md5_hash([0_u8; 16]).send_unbuffered().await), 400);
    assert_eq!(
        http(
            put("c").with_known_crc32c(1_u32).with_resumable_upload_threshold(0_usize).send_buffered().await
        ),
        400
    );
    assert_eq!(sdk.names(), Vec::<String>::new());
    // Checksums that come after the content, as the SDK sends them if it has not known them before.
    put("d").compute_md5().send_unbuffered().await.unwrap();
    assert_eq!(sdk.names(), ["d"]);
}

#[tokio::test]
async fn conditions_are_kept_to() {
    let sdk = Sdk::new().await;
    let first = sdk.put("a", "one").await;
    let put = || sdk.data.write_object(&sdk.parent, "a", "two");
    assert_eq!(http(put().set_if_generation_match(0_i64).send_unbuffered().await), 412);
    assert_eq!(http(put().set_if_generation_match(first + 1).send_unbuffered().await), 412);
    assert_eq!(http(put().set_if_generation_not_match(first).send_unbuffered().await), 412);
    assert_eq!(http(put().set_if_metageneration_match(2_i64).send_unbuffered().await), 412);
    assert_eq!(sdk.read("a", first, ReadRange::all()).await.unwrap(), b"one");
    let second = put().set_if_generation_match(first).send_unbuffered().await.unwrap().generation;
    assert!(second > first, "generations grow");
    let get = || sdk.control.get_object().set_bucket(&sdk.parent).set_object("a");
    assert_eq!(code(get().set_if_generation_match(first).send().await), Code::FailedPrecondition);
    assert_eq!(code(get().set_if_metageneration_match(2_i64).send().await), Code::FailedPrecondition);
    assert_eq!(get().set_if_generation_match(second).send().await.unwrap().size, 3);
    let delete = || sdk.control.delete_object().set_bucket(&sdk.parent).set_object("a");
    assert_eq!(code(delete().set_if_generation_match(first).send().await), Code::FailedPrecondition);
    assert_eq!(code(delete().set_generation(first).send().await), Code::NotFound);
    delete().set_if_generation_match(second).send().await.unwrap();
    assert_eq!(code(delete().send().await), Code::NotFound);
}

#[rstest]
#[case(0)]
#[case(1)]
#[case(QUANTUM)]
#[case(3 * QUANTUM + 5)]
#[tokio::test]
async fn the_sdk_s_resumable_upload_is_whole(#[case] length: usize) {
    let sdk = Sdk::new().await;
    let content = bytes(length, 3);
    let sent = sdk.data.write_object(&sdk.parent, "a", content.clone()).set_if_generation_match(0_i64);
    let sent = sent.with_resumable_upload_threshold(0_usize).with_resumable_upload_buffer_size(QUANTUM);
    let stored = sent.send_buffered().await.unwrap();
    assert_eq!((stored.size as usize, sdk.server.unfinished(&sdk.bucket)), (length, 0));
    assert!(sdk.read("a", stored.generation, ReadRange::all()).await.unwrap() == content);
}

#[tokio::test]
async fn generations_are_read_as_they_were_asked_for() {
    let sdk = Sdk::new().await;
    let generation = sdk.put("a", "0123456789").await;
    let read = |range| sdk.read("a", generation, range);
    assert_eq!(read(ReadRange::segment(2, 3)).await.unwrap(), b"234");
    assert_eq!(read(ReadRange::offset(8)).await.unwrap(), b"89");
    assert_eq!(read(ReadRange::tail(4)).await.unwrap(), b"6789");
    assert_eq!(http(read(ReadRange::segment(10, 1)).await), 416);
    assert_eq!(http(sdk.read("a", generation + 1, ReadRange::all()).await), 404);
    assert_eq!(http(sdk.read("b", 0, ReadRange::all()).await), 404);
    // What rots is found by the checksum that is told with it.
    sdk.server.damage(&sdk.bucket, "a", "0123456780");
    assert!(read(ReadRange::all()).await.unwrap_err().is_deserialization());
}

#[tokio::test]
async fn a_versioned_bucket_keeps_what_was_there() {
    let server = shared_gcs();
    let bucket = server.fresh_versioned_bucket("sdk");
    let sdk = Sdk::at(server, bucket, anonymous::Builder::new().build()).await;
    let first = sdk.put("a", "one").await;
    let second = sdk.data.write_object(&sdk.parent, "a", "two").send_unbuffered().await.unwrap().generation;
    let delete = |generation: i64| {
        sdk.control.delete_object().set_bucket(&sdk.parent).set_object("a").set_generation(generation)
    };
    delete(0).send().await.unwrap();
    assert_eq!(http(sdk.read("a", 0, ReadRange::all()).await), 404);
    assert_eq!(sdk.read("a", first, ReadRange::all()).await.unwrap(), b"one");
    assert_eq!(sdk.read("a", second, ReadRange::all()).await.unwrap(), b"two");
    delete(first).send().await.unwrap();
    assert_eq!(http(sdk.read("a", first, ReadRange::all()).await), 404);
}

#[tokio::test]
async fn lists_go_on_by_their_tokens_only() {
    let sdk = Sdk::new().await;
    for name in ["a/1", "a/2/x", "a/2/y", "a/3", "a/4/z", "b"] {
        sdk.put(name, "x").await;
    }
    let list = |delimiter: &str, size: i32, token: &str| {
        let asked = sdk.control.list_objects().set_parent(&sdk.parent).set_prefix("a/");
        asked.set_delimiter(delimiter).set_page_size(size).set_page_token(token).send()
    };
    for (delimiter, expected) in
        [("", vec!["a/1", "a/2/x", "a/2/y", "a/3", "a/4/z"]), ("/", vec!["a/1", "a/2/", "a/3", "a/4/"])]
    {
        for size in 1..6 {
            let (mut found, mut token) = (Vec::new(), String::new());
            loop {
                let page = list(delimiter, size, &token).await.unwrap();
                let of_page = page.objects.len() + page.prefixes.len();
                assert!(of_page > 0 && of_page <= size as usize, "{of_page} of at most {size}");
                found.extend(page.objects.into_iter().map(|object| object.name));
                found.extend(page.prefixes);
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            found.sort_unstable();
            assert_eq!(found, expected, "by pages of {size}");
        }
    }
    let token = list("", 1, "").await.unwrap().next_page_token;
    assert_eq!(code(list("/", 1, &token).await), Code::InvalidArgument, "of another listing");
    assert_eq!(code(list("", 1, "nonsense").await), Code::InvalidArgument);
    assert_eq!(code(list("", -1, "").await), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_not_there_and_what_can_t_be_is_told() {
    let sdk = Sdk::new().await;
    let get = |bucket: &str| sdk.control.get_object().set_bucket(bucket).set_object("a").send();
    let absent = get("projects/_/buckets/nowhere").await.unwrap_err();
    assert_eq!(absent.status().unwrap().message, "The specified bucket does not exist.");
    let absent = get(&sdk.parent).await.unwrap_err();
    assert_eq!(absent.status().unwrap().message, format!("No such object: {}/a", sdk.bucket));
    for name in [".", "..", "a\nb", ".well-known/acme-challenge/x", &"a".repeat(1_025)] {
        let sent = sdk.data.write_object(&sdk.parent, name, "x").send_unbuffered().await;
        assert_eq!(http(sent), 400, "{name:?}");
    }
    sdk.server.trouble(&sdk.bucket, "GetObject", 1, testbed::GcsTrouble::Throttle);
    assert_eq!(code(get(&sdk.parent).await), Code::ResourceExhausted);
    assert_eq!(sdk.server.troubles_left(&sdk.bucket), 0);
}

#[tokio::test]
async fn only_its_own_account_may_ask() {
    let server: &GcsServer = Box::leak(Box::new(GcsServer::start_with_an_account()));
    let other = GcsServer::start_with_an_account();
    let bucket = server.fresh_bucket("sdk");
    let of = |file: &str| {
        let key = serde_json::from_str(file).unwrap();
        service_account::Builder::new(key).build().unwrap()
    };
    let sdk = Sdk::at(server, bucket.clone(), of(server.key_file().unwrap())).await;
    let generation = sdk.put("a", "x").await;
    assert_eq!(sdk.read("a", generation, ReadRange::all()).await.unwrap(), b"x");
    for credentials in [anonymous::Builder::new().build(), of(other.key_file().unwrap())] {
        let sdk = Sdk::at(server, bucket.clone(), credentials).await;
        assert_eq!(http(sdk.read("a", 0, ReadRange::all()).await), 401);
        let asked = sdk.control.get_object().set_bucket(&sdk.parent).set_object("a").send().await;
        assert_eq!(code(asked), Code::Unauthenticated);
    }
}

/// A resumable upload by plain requests.
struct Plain {
    http: reqwest::Client,
    url: String,
    bucket: String,
}

impl Plain {
    async fn begin(name: &str, more: &str) -> Self {
        let (server, http) = (shared_gcs(), reqwest::Client::new());
        let bucket = server.fresh_bucket("plain");
        Self::in_bucket(http, bucket, name, more).await
    }

    async fn in_bucket(http: reqwest::Client, bucket: String, name: &str, more: &str) -> Self {
        let endpoint = shared_gcs().endpoint();
        let url = format!("{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={name}{more}");
        let answer = http.post(url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let url = answer.headers()["location"].to_str().unwrap().to_owned();
        Self { http, url, bucket }
    }

    /// Status and, of one that goes on, how much is kept.
    async fn put(&self, range: &str, body: &[u8], hash: Option<&str>) -> (u16, Option<String>) {
        let sent = self.http.put(&self.url).header("content-range", range).body(body.to_vec());
        let sent = hash.into_iter().fold(sent, |sent, hash| sent.header("x-goog-hash", hash));
        let answer = sent.send().await.unwrap();
        let kept = answer.headers().get("range").map(|it| it.to_str().unwrap().to_owned());
        (answer.status().as_u16(), kept)
    }
}

fn crc32c(body: &[u8]) -> String {
    use base64::Engine as _;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body) as u32;
    format!("crc32c={}", base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes()))
}

#[tokio::test]
async fn a_resumable_upload_takes_bytes_in_order_and_whole_quanta() {
    let upload = Plain::begin("a", "").await;
    let body = bytes(2 * QUANTUM + 10, 5);
    let kept = |bytes: usize| Some(format!("bytes=0-{}", bytes - 1));
    assert_eq!(upload.put("bytes */*", b"", None).await, (308, None), "nothing is kept yet");
    // A gap, a quantum and a bit, another length than is said, nonsense, an end beyond the end.
    for (range, length) in [
        ("bytes 262144-524287/*", QUANTUM),
        ("bytes 0-262144/*", QUANTUM + 1),
        ("bytes 0-262143/*", QUANTUM - 1),
        ("bytes 0-/*", QUANTUM),
        ("bytes 0-9/5", 10),
        ("0-262143/*", QUANTUM),
        ("bytes */*", 1),
    ] {
        assert_eq!(upload.put(range, &body[..length], None).await.0, 400, "{range}");
    }
    assert_eq!(upload.put("bytes 0-262143/*", &body[..QUANTUM], None).await, (308, kept(QUANTUM)));
    // What is kept already is ignored.
    let (first, second) = (bytes(QUANTUM, 99), &body[QUANTUM..2 * QUANTUM]);
    let twice = [&first[..], second].concat();
    assert_eq!(upload.put("bytes 0-524287/*", &twice, None).await, (308, kept(2 * QUANTUM)));
    assert_eq!(upload.put("bytes */*", b"", None).await, (308, kept(2 * QUANTUM)));
    assert_eq!(shared_gcs().unfinished(&upload.bucket), 1);
    let last = "bytes 524288-524297/524298";
    assert_eq!(
        upload.put(last, &body[2 * QUANTUM..], Some("crc32c=AAAAAA==")).await.0,
        400,
        "another checksum"
    );
    assert!(shared_gcs().objects(&upload.bucket).is_empty());
    assert_eq!(upload.put(last, &body[2 * QUANTUM..], Some(&crc32c(&body))).await.0, 200);
    assert!(shared_gcs().objects(&upload.bucket)[0].1 == body);
    // Who asks again is told again.
    assert_eq!(upload.put("bytes */*", b"", None).await.0, 200);
    assert_eq!(shared_gcs().unfinished(&upload.bucket), 0);
}

#[tokio::test]
async fn a_resumable_upload_s_condition_counts_when_it_is_complete() {
    let first = Plain::begin("a", "&ifGenerationMatch=0").await;
    let second =
        Plain::in_bucket(first.http.clone(), first.bucket.clone(), "a", "&ifGenerationMatch=0").await;
    assert_eq!(first.put("bytes 0-0/1", b"1", None).await.0, 200);
    assert_eq!(second.put("bytes 0-0/1", b"2", None).await.0, 412);
    assert_eq!(shared_gcs().objects(&first.bucket)[0].1, "1");
    // It travels in the URL, and nowhere else.
    assert!(second.url.contains("ifGenerationMatch=0"), "{}", second.url);
}

#[tokio::test]
async fn a_canceled_upload_is_gone() {
    let upload = Plain::begin("a", "").await;
    let canceled = async || upload.http.delete(&upload.url).send().await.unwrap().status().as_u16();
    assert_eq!(canceled().await, 499);
    assert_eq!(canceled().await, 404);
    assert_eq!(upload.put("bytes 0-0/1", b"1", None).await.0, 404);
    let unknown = Plain { url: format!("{}x", upload.url), ..upload };
    assert_eq!(unknown.put("bytes */*", b"", None).await.0, 404);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused() {
    let (server, http) = (shared_gcs(), reqwest::Client::new());
    let bucket = server.fresh_bucket("plain");
    let post = async |query: &str, kind: &str, body: &'static str| {
        let url = format!("{}/upload/storage/v1/b/{bucket}/o?{query}", server.endpoint());
        http.post(url).header("content-type", kind).body(body).send().await.unwrap().status().as_u16()
    };
    let related = "multipart/related; boundary=x";
    let whole =
        "--x\r\nContent-Type: application/json\r\n\r\n{\"name\":\"a\"}\r\n--x\r\n\r\nbody\r\n--x--\r\n";
    for (query, kind, body, status) in [
        ("uploadType=multipart", related, whole, 200),
        ("uploadType=multipart&name=b", related, whole, 400),
        ("uploadType=multipart", "multipart/form-data; boundary=x", whole, 400),
        ("uploadType=multipart", "multipart/related; boundary=y", whole, 400),
        ("uploadType=multipart&name=c", related, "--x\r\n\r\nbody\r\n--x--\r\n", 400),
        ("uploadType=multipart&name=c&ifGenerationMatch=x", related, whole, 400),
        ("uploadType=other&name=c", related, whole, 400),
        ("name=c", related, whole, 400),
        ("uploadType=resumable", "", "", 400),
    ] {
        assert_eq!(post(query, kind, body).await, status, "{query} {kind} {body}");
    }
    assert_eq!(server.objects(&bucket), [("a".to_owned(), Bytes::from("body"))]);
    let elsewhere =
        format!("{}/upload/storage/v1/b/nowhere/o?uploadType=resumable&name=a", server.endpoint());
    assert_eq!(http.post(elsewhere).send().await.unwrap().status().as_u16(), 404);
}
