//! Raw COPY bytes to zstd frames.

use bytes::Bytes;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use super::error::CodecError;

/// zstd's level. 1 is as fast as a core of PostgreSQL writes; 3 is a third slower and gains a tenth.
pub const LEVEL: i32 = 1;

/// Content of every frame of an object but its last, which holds less, and maybe nothing: so a reader knows where
/// an object ends, and a cut between two frames shows. In bytes.
///
/// zstd compresses what lies in memory whole in place. A stream instead passes through a ring of window and
/// block, which costs a copy, and matches across the ring's end cost twice. More than the window, so that the
/// history which each frame begins without is hardly missed: rows come out a hundredth larger at most.
pub const FRAME_BYTES: usize = 1 << 20;

/// log2 of how far matches reach back: level 1's own. Named so that no update of the library raises it: every
/// `zstd -d` takes up to 27 without `--long`, and our decoder up to [`super::MAX_WINDOW_LOG`].
const WINDOW_LOG: u32 = 19;

/// Compresses one object: frames of [`FRAME_BYTES`] one behind the other, and one of less. Each carries a
/// checksum of its content.
pub struct Encoder {
    zstd: Compressor<'static>,
    /// The raw bytes of the frame that is being gathered.
    gathered: Vec<u8>,
    /// Where each frame is compressed to: as large as one may become, which a frame that waits for its upload must
    /// not be.
    compressed: Vec<u8>,
    failed: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("gathered", &self.gathered.len()).finish_non_exhaustive()
    }
}

fn failure(error: &std::io::Error) -> CodecError {
    CodecError::Zstd(error.to_string())
}

impl Encoder {
    /// An encoder for one object.
    ///
    /// # Errors
    /// [`CodecError::Zstd`] if memory is short.
    pub fn new() -> Result<Self, CodecError> {
        let create = || {
            let mut zstd = Compressor::new(LEVEL)?;
            zstd.set_parameter(CParameter::ChecksumFlag(true))?;
            zstd.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
            Ok(zstd)
        };
        let zstd = create().map_err(|error: std::io::Error| failure(&error))?;
        Ok(Self { zstd, gathered: Vec::new(), compressed: Vec::new(), failed: false })
    }

    /// Takes raw bytes, and appends the frames that they complete to `out`: about as much as `raw` at most, and
    /// a frame, so a caller that wants bounds cuts a large `raw`, and empties `out` in between.
    ///
    /// # Errors
    /// [`CodecError::Zstd`] if memory is short, and [`CodecError::Failed`] ever after.
    pub fn push(&mut self, raw: &[u8], out: &mut Vec<Bytes>) -> Result<(), CodecError> {
        if self.failed {
            return Err(CodecError::Failed);
        }
        let pushed = self.gather(raw, out);
        self.failed = pushed.is_err();
        pushed
    }

    /// Appends the last frame to `out`.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub fn finish(mut self, out: &mut Vec<Bytes>) -> Result<(), CodecError> {
        if self.failed {
            return Err(CodecError::Failed);
        }
        out.push(frame(&mut self.zstd, &self.gathered, &mut self.compressed)?);
        Ok(())
    }

    fn gather(&mut self, mut raw: &[u8], out: &mut Vec<Bytes>) -> Result<(), CodecError> {
        while self.gathered.len() + raw.len() >= FRAME_BYTES {
            let (head, rest) = raw.split_at(FRAME_BYTES - self.gathered.len());
            if self.gathered.is_empty() {
                out.push(frame(&mut self.zstd, head, &mut self.compressed)?);
            } else {
                self.gathered.extend_from_slice(head);
                out.push(frame(&mut self.zstd, &self.gathered, &mut self.compressed)?);
                self.gathered.clear();
            }
            raw = rest;
        }
        self.gathered.extend_from_slice(raw);
        Ok(())
    }
}

fn frame(zstd: &mut Compressor<'static>, raw: &[u8], compressed: &mut Vec<u8>) -> Result<Bytes, CodecError> {
    compressed.clear();
    compressed.reserve(compress_bound(raw.len()));
    zstd.compress_to_buffer(raw, compressed).map_err(|error| failure(&error))?;
    Ok(Bytes::copy_from_slice(compressed))
}
