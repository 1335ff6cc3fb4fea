//! What depends on the environment of the process: credentials that are nowhere, authorities that are nowhere.

use std::process::Command;

use vouchsafe::store::open::open_bare;
use vouchsafe::store::{StoreOptions, StoreUrl};

use crate::fixture::key;

/// Prints what a request to a bucket ends with. Run by the tests below in processes of their own.
#[tokio::test]
async fn what_this_process_gets() {
    // Without a URL this is the suite's own process, which has nothing to ask.
    let Ok(url) = std::env::var("STORE_URL") else { return };
    let url = StoreUrl::parse(&url).unwrap();
    let ended = match open_bare(&url, &StoreOptions::default()).await {
        Ok(store) => store.head(&key("x"), None).await.map(drop),
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => println!("ended: well"),
        Err(error) => println!("ended: {:?}, {error}", error.kind()),
    }
}

pub(crate) fn ended(url: &str, environment: &[(&str, &str)]) -> String {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["environment::what_this_process_gets", "--exact", "--nocapture"]);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AWS_") || name.starts_with("AZURE_") {
            command.env_remove(name);
        }
    }
    // Nothing is asked but this machine: no instance's credentials either.
    command.env("HOME", nowhere.path()).env("AWS_EC2_METADATA_DISABLED", "true").env("STORE_URL", url);
    command.env_remove("GOOGLE_APPLICATION_CREDENTIALS").env("GCE_METADATA_HOST", "127.0.0.1:1");
    command.envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ended = text.lines().find_map(|line| line.split_once("ended: ")).map(|(_, ended)| ended.to_owned());
    ended.unwrap_or_else(|| panic!("it died: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn without_credentials_it_says_so() {
    let ended = ended("s3://bucket/x?endpoint=http://127.0.0.1:1", &[]);
    assert!(ended.starts_with("Unauthenticated") && ended.contains("no credentials"), "{ended}");
}

#[test]
fn what_azure_s_variables_say_is_heard() {
    let url = "azblob://shop/backups?endpoint=http://127.0.0.1:1/shop";
    // As far as it gets: to the server that isn't there.
    for variable in [("AZURE_STORAGE_KEY", "a2V5"), ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=canary")] {
        let asked = ended(url, &[variable]);
        assert!(asked.starts_with("Unavailable") && !asked.contains("canary"), "{asked}");
    }
    for (variables, named) in [
        (&[][..], "without TLS"),
        (&[("AZURE_STORAGE_KEY", "a2V5"), ("AZURE_STORAGE_ACCOUNT", "other")], "AZURE_STORAGE_ACCOUNT"),
        (&[("AZURE_STORAGE_KEY", "canary!")], "no Base64"),
    ] {
        let refused = ended(url, variables);
        assert!(refused.starts_with("Invalid") && refused.contains(named), "{refused}");
        assert!(!refused.contains("canary"), "{refused}");
    }
}

#[test]
fn without_credentials_of_google_it_says_so() {
    let ended = ended("gs://bucket/x?endpoint=https://127.0.0.1:1", &[]);
    assert!(ended.contains("no credentials"), "{ended}");
    let file = self::ended("gs://bucket/x", &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")]);
    assert!(file.starts_with("Invalid") && file.contains("no credentials"), "{file}");
}

#[test]
fn without_a_region_it_says_so() {
    let ended = ended("s3://bucket/x", &[]);
    assert!(ended.starts_with("Invalid") && ended.contains("AWS_REGION"), "{ended}");
}

#[test]
fn without_authorities_it_says_so_and_plain_http_works() {
    let none = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
    let refused = ended("s3://bucket/x?endpoint=https://127.0.0.1:1", &none);
    assert!(refused.starts_with("Invalid") && refused.contains("ca-certificates"), "{refused}");
    // As far as it gets: to the credentials that aren't there.
    let plain = ended("s3://bucket/x?endpoint=http://127.0.0.1:1", &none);
    assert!(plain.starts_with("Unauthenticated"), "{plain}");
}
