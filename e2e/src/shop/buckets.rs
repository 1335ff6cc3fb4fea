//! What lies in the buckets of a shop, as those see it who have no cluster.

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::PASSWORD;

use super::Shop;
use crate::image::vouchsafe;

impl Shop {
    /// Keys of the objects in a destination's bucket, asked of the server.
    ///
    /// # Errors
    /// When the server does not answer with a list.
    pub fn keys(&self, destination: &str) -> Result<Vec<String>> {
        Ok(self.objects(destination)?.into_keys().collect())
    }

    /// The same with each object's entity tag.
    ///
    /// # Errors
    /// As [`Self::keys`].
    pub fn objects(&self, destination: &str) -> Result<BTreeMap<String, String>> {
        self.listed(destination, "ETag")
    }

    /// The same with each object's length.
    ///
    /// # Errors
    /// As [`Self::keys`].
    pub fn lengths(&self, destination: &str) -> Result<BTreeMap<String, u64>> {
        let lengths = self.listed(destination, "Size")?.into_iter();
        lengths.map(|(key, length)| Ok((key, length.parse()?))).collect()
    }

    /// How many rows of each place's table lie in a destination's bucket, as `zstd` unpacks its objects.
    ///
    /// # Errors
    /// When an object can't be unpacked.
    pub fn rows_of_tables(&self, destination: &str) -> Result<BTreeMap<&'static str, usize>> {
        let mut rows = BTreeMap::new();
        for key in self.keys(destination)?.iter().filter(|key| key.contains("/data/")) {
            let mut packed = tempfile::tempfile()?;
            packed.write_all(&self.minio.download(&format!("{}/{key}", self.bucket(destination))))?;
            packed.rewind()?;
            let unpacked = Command::new("zstd").args(["-dc", "--quiet"]).stdin(packed).output()?;
            ensure!(unpacked.status.success(), "{key}: {}", String::from_utf8_lossy(&unpacked.stderr));
            let text = String::from_utf8_lossy(&unpacked.stdout);
            for place in self.places {
                let found = text.matches(&format!("one of {}: ", place.table)).count();
                *rows.entry(place.table).or_default() += found;
            }
        }
        rows.retain(|_, found| *found > 0);
        Ok(rows)
    }

    fn listed(&self, destination: &str, what: &str) -> Result<BTreeMap<String, String>> {
        let path = format!("{}?list-type=2", self.bucket(destination));
        let answer = self.minio.request("GET", &path, &[], None);
        ensure!(answer.status == 200, "the bucket's list was answered with {}", answer.status);
        let body = answer.body;
        ensure!(body.contains("<IsTruncated>false"), "the list is longer than a page");
        let text = |entry: &str, name: &str| {
            let (_, rest) = entry.split_once(&format!("<{name}>"))?;
            Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
        };
        let entries = body.split("<Contents>").skip(1);
        let objects = entries.map(|entry| text(entry, "Key").zip(text(entry, what)));
        objects.collect::<Option<_>>().with_context(|| format!("a list without keys or {what}"))
    }

    /// Runs vouchsafe here on the shop's buckets: what people do who have the buckets and no cluster.
    ///
    /// # Errors
    /// When it fails, with what it wrote.
    pub fn run(&self, command: &str, more: &[&str]) -> Result<Value> {
        self.run_in("", command, more)
    }

    /// The same for a collection that has a name of its own.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_in(&self, collection: &str, command: &str, more: &[&str]) -> Result<Value> {
        let below = if collection.is_empty() { String::new() } else { format!("/{collection}") };
        let mut arguments = vec![command.to_owned(), "--output".into(), "json".into()];
        for place in self.places {
            let bucket = self.bucket(place.name);
            let url = format!(
                "s3://{bucket}/pg{below}?region={}&endpoint={}",
                self.minio.region(),
                self.minio.endpoint()
            );
            arguments.extend(["--store".into(), format!("{}={url}", place.locality)]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let output = Command::new(vouchsafe()?)
            .args(&arguments)
            .env("AWS_ACCESS_KEY_ID", self.minio.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.minio.secret_key())
            .env("PGPASSWORD", PASSWORD)
            .output()
            .with_context(|| format!("vouchsafe {arguments:?}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).with_context(|| text.into_owned())
    }
}
