//! URLs of destinations: what is taken, what is refused and how it is named.

use proptest::prelude::*;
use vouchsafe::store::location::{Addressing, Checksums, StoreUrlError};
use vouchsafe::store::{StoreUrl, split_locality};

fn s3(text: &str) -> vouchsafe::store::location::S3Location {
    match StoreUrl::parse(text) {
        Ok(StoreUrl::S3(location)) => location,
        other => panic!("{text}: {other:?}"),
    }
}

fn azure(text: &str) -> vouchsafe::store::location::AzureLocation {
    match StoreUrl::parse(text) {
        Ok(StoreUrl::Azure(location)) => location,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn folders_and_buckets_are_taken() {
    let StoreUrl::File(folder) = StoreUrl::parse("file:///backups/pg%20one").unwrap() else {
        panic!("no folder")
    };
    assert_eq!(folder.root, std::path::Path::new("/backups/pg one"));
    let aws = s3("s3://orders-eu/pg/shop/?region=eu-west-1");
    assert_eq!((aws.bucket.as_str(), aws.prefix.as_str()), ("orders-eu", "pg/shop"));
    assert_eq!(aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!((aws.addressing, aws.checksums), (Addressing::Virtual, Checksums::WhenSupported));
    let own = s3("s3://b-1?endpoint=http%3A%2F%2F127.0.0.1:9000/&checksums=when-required");
    assert_eq!((own.endpoint.as_deref(), own.prefix.as_str()), (Some("http://127.0.0.1:9000"), ""));
    assert_eq!((own.addressing, own.checksums), (Addressing::Path, Checksums::WhenRequired));
    assert_eq!(s3("s3://b-1?endpoint=https://x&addressing=virtual").addressing, Addressing::Virtual);
    let azure = azure("azblob://orders/back-ups/pg/shop/");
    assert_eq!((azure.account.as_str(), azure.container.as_str()), ("orders", "back-ups"));
    assert_eq!(
        (azure.prefix.as_str(), azure.endpoint()),
        ("pg/shop", "https://orders.blob.core.windows.net".into())
    );
}

#[test]
fn an_account_s_endpoint_may_have_a_path() {
    for (text, endpoint) in [
        (
            "azblob://orders/abc?endpoint=https://orders.blob.core.chinacloudapi.cn/",
            "https://orders.blob.core.chinacloudapi.cn",
        ),
        ("azblob://orders/abc?endpoint=http%3A%2F%2F127.0.0.1:10000/orders", "http://127.0.0.1:10000/orders"),
    ] {
        assert_eq!(azure(text).endpoint(), endpoint);
        assert_eq!(azure(&StoreUrl::parse(text).unwrap().to_string()), azure(text));
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("", "is no URL"),
        ("/backups", "is no URL"),
        ("ftp://x/y", "names no kind of store"),
        ("azblob://Account/container", "can't be a storage account"),
        ("azblob://my-account/container", "can't be a storage account"),
        ("azblob:///container", "can't be a storage account"),
        ("azblob://account", "can't be a container"),
        ("azblob://account/c", "can't be a container"),
        ("azblob://account/a--b/x", "can't be a container"),
        ("azblob://account/Container/x", "can't be a container"),
        ("azblob://account:9000/container", "means nothing here"),
        ("azblob://account/container/a/../b", "can't be a prefix"),
        ("azblob://account/container?sv=1&sig=x", "\"sv\" is no option of this URL; there are endpoint"),
        ("azblob://account/container?endpoint=http://168.63.129.16", "is no value of endpoint"),
        ("azblob://account/container?endpoint=https://h?sig=x", "is no value of endpoint"),
        ("gs:///prefix", "the bucket is missing"),
        ("gs://", "the bucket is missing"),
        ("gs://Bucket/x", "can't be the name of a bucket"),
        ("gs://bucket-/x", "can't be the name of a bucket"),
        ("gs://a..b/x", "can't be the name of a bucket"),
        ("gs://bucket:443/x", "means nothing here"),
        ("gs://bucket/x#y", "means nothing here"),
        ("gs://bucket/a/../b", "can't be a prefix"),
        ("gs://bucket/x?region=a", "\"region\" is no option of this URL; there are endpoint"),
        ("gs://bucket/x?endpoint=https://a&endpoint=https://b", "\"endpoint\" is there twice"),
        ("gs://bucket/x?endpoint=https://h/path", "is no value of endpoint"),
        ("gs://bucket/x?endpoint=http://metadata.google.internal", "is no value of endpoint"),
        ("file:backups", "absolute path"),
        ("file://host/backups", "absolute path"),
        ("file:///backups/../etc", "absolute path"),
        ("file:///backups?x=1", "\"x\" is no option"),
        ("s3:///prefix", "the bucket is missing"),
        ("s3://", "the bucket is missing"),
        ("s3://Bucket/x", "can't be the name of a bucket"),
        ("s3://ab/x", "can't be the name of a bucket"),
        ("s3://bucket:9000/x", "means nothing here"),
        ("s3://bucket/x#y", "means nothing here"),
        ("s3://bucket/a/../b", "can't be a prefix"),
        ("s3://bucket/a//b", "can't be a prefix"),
        ("s3://bucket/a%2f..", "can't be a prefix"),
        ("s3://bucket/ä", "can't be a prefix"),
        ("s3://bucket/x?regions=eu", "\"regions\" is no option of this URL; there are region, endpoint"),
        ("s3://bucket/x?region=a&region=b", "\"region\" is there twice"),
        ("s3://bucket/x?region=", "is no value of region"),
        ("s3://bucket/x?endpoint=minio:9000", "is no value of endpoint"),
        ("s3://bucket/x?endpoint=http://h/path", "is no value of endpoint"),
        ("s3://bucket/x?endpoint=http://169.254.169.254", "is no value of endpoint"),
        ("s3://bucket/x?endpoint=http://[fe80::1]:80", "is no value of endpoint"),
        ("s3://bucket/x?addressing=dns", "is no value of addressing"),
        ("s3://bucket/x?checksums=never", "is no value of checksums"),
    ] {
        let error = StoreUrl::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_secret_in_a_url_is_refused_and_not_repeated() {
    for text in [
        "s3://key:canary@bucket/x",
        "gs://key:canary@bucket/x",
        "gs://bucket/x?endpoint=https://key:canary@host",
        "s3://bucket/x?endpoint=http://key:canary@host",
        "s3://key:canary@:/x",
        "s3 ://key:canary@bucket/x",
        "s3://bucket/x?endpoint=key:canary@host",
        "azblob://key:canary@account/abc",
        "azblob://account/abc?endpoint=http://key:canary@host",
        "azblob://account/abc?sig=canary",
    ] {
        let error = StoreUrl::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{text}: {error:?}");
    }
    assert_eq!(StoreUrl::parse("s3://key:canary@bucket/x"), Err(StoreUrlError::Credentials));
}

#[test]
fn a_collection_lies_below() {
    for (text, expected) in [
        ("file:///backups", "file:///backups/shop/eu"),
        ("s3://bucket", "s3://bucket/shop/eu"),
        ("s3://bucket/pg?region=eu-west-1", "s3://bucket/pg/shop/eu?region=eu-west-1"),
        ("azblob://account/abc", "azblob://account/abc/shop/eu"),
        (
            "azblob://account/abc/pg?endpoint=https://h/p",
            "azblob://account/abc/pg/shop/eu?endpoint=https%3A%2F%2Fh%2Fp",
        ),
        ("gs://my.bucket", "gs://my.bucket/shop/eu"),
        ("gs://b-1/pg?endpoint=http://h:1", "gs://b-1/pg/shop/eu?endpoint=http%3A%2F%2Fh%3A1"),
    ] {
        assert_eq!(StoreUrl::parse(text).unwrap().join("shop/eu").unwrap().to_string(), expected);
    }
    for below in ["", "..", "/etc", "a/../b", "a b", "a/", &"x/".repeat(300)] {
        assert!(StoreUrl::parse("file:///backups").unwrap().join(below).is_err(), "{below}");
    }
}

#[test]
fn localities_are_split_off_at_the_last_equals_sign_before_the_scheme() {
    let url = "s3://bucket/x?region=eu-west-1&endpoint=http://h";
    assert_eq!(split_locality(url), (None, url));
    let text = format!("region=eu-west1,zone=b={url}");
    assert_eq!(split_locality(&text), (Some("region=eu-west1,zone=b"), url));
    assert_eq!(split_locality("file:///a=b"), (None, "file:///a=b"));
    assert_eq!(split_locality("region=eu"), (Some("region"), "eu"));
    assert_eq!(split_locality(""), (None, ""));
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        let _ = StoreUrl::parse(&text);
        let (_, url) = split_locality(&text);
        prop_assert!(text.ends_with(url));
    }

    #[test]
    fn no_text_like_a_url_panics(
        text in "(file|s3|gs|azblob|S3|FILE)?:?/{0,4}[a-z@:%._é-]{0,12}(/[a-z.%2e]{0,4}){0,4}(\\?[a-z=&%:/@]{0,30})?#?"
    ) {
        let _ = StoreUrl::parse(&text);
    }

    #[test]
    fn what_is_printed_is_parsed_back(
        bucket in "[a-z0-9][a-z0-9.-]{2,20}",
        prefix in prop::collection::vec("[A-Za-z0-9_-]{1,6}", 0..4),
        region in prop::option::of("[a-z]{2}-[a-z]{4}-[0-9]"),
        endpoint in prop::option::of("https?://[a-z]{3,9}(:[0-9]{2,4})?"),
        addressing in prop::option::of(prop_oneof![Just("path"), Just("virtual")]),
        required: bool,
    ) {
        // Names that are numbers or like one ("1.2.3") are hosts of another kind to a URL.
        prop_assume!(bucket.chars().any(char::is_alphabetic) && !bucket.contains("xn--"));
        let mut text = format!("s3://{bucket}/{}?", prefix.join("/"));
        for (option, value) in [("region", region), ("endpoint", endpoint), ("addressing", addressing.map(str::to_owned))] {
            if let Some(value) = value {
                text.push_str(&format!("{option}={value}&"));
            }
        }
        if required {
            text.push_str("checksums=when-required");
        }
        let Ok(url) = StoreUrl::parse(&text) else { return Ok(()) };
        prop_assert_eq!(StoreUrl::parse(&url.to_string()).unwrap(), url, "{}", text);
    }

    #[test]
    fn folders_that_are_printed_are_parsed_back(path in "(/[a-zA-Z0-9 ä%?#_-]{1,8}){1,4}") {
        let text = url::Url::from_file_path(&path).unwrap();
        let url = StoreUrl::parse(text.as_str()).unwrap();
        prop_assert_eq!(StoreUrl::parse(&url.to_string()).unwrap(), url);
    }
}
