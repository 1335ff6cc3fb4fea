//! The digests of content on its way through: SHA-256 for the manifest, CRC-64/NVME for S3, CRC-32C for Google Cloud
//! Storage.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::{ContentDigest, Download, StoreError};
use crate::format::Sha256Digest;

/// Digests bytes in order.
pub(in crate::store) struct ContentHasher {
    length: u64,
    sha256: Sha256,
    crc64nvme: Crc,
    crc32c: Crc,
}

impl ContentHasher {
    pub(in crate::store) fn new() -> Self {
        Self {
            length: 0,
            sha256: Sha256::new(),
            crc64nvme: Crc::new(CrcAlgorithm::Crc64Nvme),
            crc32c: Crc::new(CrcAlgorithm::Crc32Iscsi),
        }
    }

    pub(in crate::store) fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.sha256.update(bytes);
        self.crc64nvme.update(bytes);
        self.crc32c.update(bytes);
    }

    /// Bytes so far.
    pub(in crate::store) const fn length(&self) -> u64 {
        self.length
    }

    /// The digest of what was seen so far, sent in `parts` parts.
    pub(in crate::store) fn finish(&self, parts: u32) -> ContentDigest {
        ContentDigest {
            length: self.length,
            parts,
            sha256: Sha256Digest::from_bytes(self.sha256.clone().finalize().into()),
            crc64nvme: self.crc64nvme.finalize(),
            crc32c: as_crc32(self.crc32c.finalize()),
        }
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentHasher").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Reads a download to its end, and digests it.
pub(in crate::store) async fn digest_of(download: Download) -> Result<ContentDigest, StoreError> {
    let mut hasher = ContentHasher::new();
    let mut body = download.body;
    while let Some(bytes) = body.try_next().await? {
        hasher.update(&bytes);
    }
    Ok(hasher.finish(1))
}

/// `sha256:…` as S3 writes it.
pub(in crate::store) fn sha256_checksum(digest: &Sha256Digest) -> String {
    format!("sha256:{}", BASE64.encode(digest.as_bytes()))
}

/// A CRC-64 as S3 writes it: base64 of the big-endian bytes.
pub(in crate::store) fn crc64_base64(crc: u64) -> String {
    BASE64.encode(crc.to_be_bytes())
}

/// The library gives every CRC as 64 bits.
fn as_crc32(crc: u64) -> u32 {
    u32::try_from(crc).unwrap_or(u32::MAX)
}

/// CRC-32C of bytes that lie here whole.
pub(in crate::store) fn crc32c_of(bytes: &[u8]) -> u32 {
    as_crc32(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// A CRC-32C as Google Cloud Storage writes it: base64 of the big-endian bytes.
pub(in crate::store) fn crc32c_base64(crc: u32) -> String {
    BASE64.encode(crc.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_are_those_of_the_standards() {
        let mut hasher = ContentHasher::new();
        hasher.update(b"1234");
        hasher.update(b"56789");
        let content = hasher.finish(2);
        assert_eq!(content.length, 9);
        assert_eq!(content.sha256, Sha256Digest::of(b"123456789"));
        // The check value of CRC-64/NVME in the catalogue of parametrised CRCs.
        assert_eq!(content.crc64nvme, 0xae8b_1486_0a79_9888);
        assert_eq!(crc64_base64(content.crc64nvme), "rosUhgp5mIg=");
        // That of CRC-32/ISCSI, which is CRC-32C.
        assert_eq!((content.crc32c, crc32c_of(b"123456789")), (0xe306_9283, 0xe306_9283));
        assert_eq!(crc32c_base64(content.crc32c), "4waSgw==");
    }
}
