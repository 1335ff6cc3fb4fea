//! Raw COPY bytes to one zstd frame.

use bytes::Bytes;
use zstd::stream::raw::{CParameter, Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer};

use super::error::CodecError;

/// zstd's level. 1 is as fast as a core of PostgreSQL writes; 3 is a third slower and gains a tenth.
pub const LEVEL: i32 = 1;

/// Size of the pieces that the frame is handed out in, in bytes; the last one may be smaller. Large enough
/// that a part of an upload, 5 MiB or more, is few of them.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Bytes gathered before zstd is called, which gathers a block of 128 KiB itself: a call costs as much as
/// compressing a narrow row, and staging costs a copy.
pub const STAGE_BYTES: usize = 32 << 10;

/// log2 of how far matches reach back: level 1's own. Named so that no update of the library raises it: every
/// `zstd -d` takes up to 27 without `--long`, and our decoder up to [`super::MAX_WINDOW_LOG`].
const WINDOW_LOG: u32 = 19;

/// Compresses one object. The frame carries a checksum of its content and no size, as the size isn't known
/// when it begins.
pub struct Encoder {
    zstd: ZstdEncoder<'static>,
    staged: Vec<u8>,
    chunk: Vec<u8>,
    failed: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("staged", &self.staged.len()).finish_non_exhaustive()
    }
}

fn failure(error: &std::io::Error) -> CodecError {
    CodecError::Zstd(error.to_string())
}

impl Encoder {
    /// An encoder for one frame.
    ///
    /// # Errors
    /// [`CodecError::Zstd`] if memory is short.
    pub fn new() -> Result<Self, CodecError> {
        let create = || {
            let mut zstd = ZstdEncoder::new(LEVEL)?;
            zstd.set_parameter(CParameter::ChecksumFlag(true))?;
            zstd.set_parameter(CParameter::ContentSizeFlag(false))?;
            zstd.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
            Ok(zstd)
        };
        let zstd = create().map_err(|error: std::io::Error| failure(&error))?;
        Ok(Self { zstd, staged: Vec::new(), chunk: Vec::new(), failed: false })
    }

    /// Takes raw bytes, and appends what is ready of the frame to `out`: about as much as `raw` at most, so
    /// a caller that wants bounds cuts a large `raw`, and empties `out` in between.
    ///
    /// # Errors
    /// [`CodecError::Zstd`] if memory is short, and [`CodecError::Failed`] ever after.
    pub fn push(&mut self, raw: &[u8], out: &mut Vec<Bytes>) -> Result<(), CodecError> {
        if self.failed {
            return Err(CodecError::Failed);
        }
        let pushed = self.stage(raw, out);
        self.failed = pushed.is_err();
        pushed
    }

    /// Ends the frame, and appends the rest of it to `out`.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub fn finish(mut self, out: &mut Vec<Bytes>) -> Result<(), CodecError> {
        if self.failed {
            return Err(CodecError::Failed);
        }
        compress(&mut self.zstd, &self.staged, &mut self.chunk, out)?;
        loop {
            let left = into_chunk(&mut self.chunk, |buffer| self.zstd.finish(buffer, true))?;
            if left == 0 {
                break;
            }
            hand_out_if_full(&mut self.chunk, out);
        }
        if !self.chunk.is_empty() {
            out.push(Bytes::from(self.chunk));
        }
        Ok(())
    }

    fn stage(&mut self, raw: &[u8], out: &mut Vec<Bytes>) -> Result<(), CodecError> {
        if self.staged.len() + raw.len() < STAGE_BYTES {
            // Once for the encoder's life; tiny tables don't need all of it.
            self.staged.extend_from_slice(raw);
            return Ok(());
        }
        let mut raw = raw;
        if !self.staged.is_empty() {
            let (head, rest) = raw.split_at(STAGE_BYTES - self.staged.len());
            self.staged.extend_from_slice(head);
            compress(&mut self.zstd, &self.staged, &mut self.chunk, out)?;
            self.staged.clear();
            raw = rest;
        }
        let (whole, rest) = raw.split_at(raw.len() - raw.len() % STAGE_BYTES);
        compress(&mut self.zstd, whole, &mut self.chunk, out)?;
        self.staged.extend_from_slice(rest);
        Ok(())
    }
}

fn compress(
    zstd: &mut ZstdEncoder<'static>,
    raw: &[u8],
    chunk: &mut Vec<u8>,
    out: &mut Vec<Bytes>,
) -> Result<(), CodecError> {
    let mut input = InBuffer::around(raw);
    while input.pos() < raw.len() {
        into_chunk(chunk, |buffer| zstd.run(&mut input, buffer))?;
        hand_out_if_full(chunk, out);
    }
    Ok(())
}

/// Lets `step` write behind what `chunk` holds.
fn into_chunk(
    chunk: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> std::io::Result<usize>,
) -> Result<usize, CodecError> {
    if chunk.capacity() == 0 {
        chunk.reserve_exact(CHUNK_BYTES);
    }
    let held = chunk.len();
    step(&mut OutBuffer::around_pos(chunk, held)).map_err(|error| failure(&error))
}

fn hand_out_if_full(chunk: &mut Vec<u8>, out: &mut Vec<Bytes>) {
    if chunk.len() == chunk.capacity() {
        out.push(Bytes::from(std::mem::take(chunk)));
    }
}
