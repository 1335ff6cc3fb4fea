//! zstd frames back to raw COPY bytes.

use std::cmp::Ordering;
use std::ops::Range;

use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::{get_error_name, get_frame_content_size, zstd_sys::ZSTD_ErrorCode};

use super::compress::FRAME_BYTES;
use super::error::CodecError;

/// Largest window that is believed, as log2 of bytes: what RFC 8878, section 3.1.1.1.2, asks of decoders at
/// least. A frame's header decides how much memory its decoder takes, and a hostile one asks for gigabytes.
pub const MAX_WINDOW_LOG: u32 = 23;

/// Most bytes that come out at once: zstd's largest block (RFC 8878, section 3.1.1.2.4).
pub const RAW_CHUNK_BYTES: usize = 128 << 10;

/// zstd's magic number (RFC 8878, section 3.1.1). zstd's decoder also takes skippable frames, whose contents
/// nothing checks, and formats of its youth.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// Bits of the descriptor after the magic number (RFC 8878, section 3.1.1.1.1).
const DESCRIPTOR_CHECKSUM: u8 = 0b100;
/// Unused, reserved, and two for a dictionary's id: none of them is ever set by us.
const DESCRIPTOR_ZEROS: u8 = 0b11011;

/// Longest header of a frame, magic number included (RFC 8878, section 3.1.1.1).
const MAX_HEADER_BYTES: usize = 18;

/// A block's header, which zstd reads along with the block before it.
const BLOCK_HEADER_BYTES: u64 = 3;

/// Decompresses one object: frames of [`FRAME_BYTES`] and one of less, whose checksums hold, of at most as many
/// bytes as are expected.
pub struct Decoder {
    zstd: ZstdDecoder<'static>,
    raw: Vec<u8>,
    limit: u64,
    produced: u64,
    consumed: u64,
    /// Where the frame that is being read begins, and the raw bytes that came before it.
    frame: (u64, u64),
    /// The first bytes of that frame, its header among them.
    header: Vec<u8>,
    /// Bytes that zstd wants next: a header, a block or the checksum. It gets no more than that at a time, so
    /// that an error can be told from the bytes around it.
    wanted: usize,
    /// Stored bytes that the last output came from.
    last: Range<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Failed,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("consumed", &self.consumed)
            .field("produced", &self.produced)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder for one object of at most `limit` raw bytes.
    ///
    /// # Errors
    /// [`CodecError::Zstd`] if memory is short.
    pub fn new(limit: u64) -> Result<Self, CodecError> {
        let create = || {
            let mut zstd = ZstdDecoder::new()?;
            zstd.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
            Ok(zstd)
        };
        Ok(Self {
            zstd: create().map_err(|error: std::io::Error| CodecError::Zstd(error.to_string()))?,
            raw: Vec::with_capacity(RAW_CHUNK_BYTES),
            limit,
            produced: 0,
            consumed: 0,
            frame: (0, 0),
            header: Vec::with_capacity(MAX_HEADER_BYTES),
            wanted: MAGIC.len() + 1,
            last: 0..0,
            state: State::Reading,
        })
    }

    /// Takes bytes from the front of `stored` until there is output: the next raw bytes, at most
    /// [`RAW_CHUNK_BYTES`]. `None` when all of `stored` is taken and there is no more output.
    ///
    /// What comes out is proven only by [`finish`](Self::finish): the checksum comes last.
    ///
    /// # Errors
    /// [`CodecError::Frame`], [`CodecError::Checksum`], [`CodecError::TooLarge`] and [`CodecError::Trailing`];
    /// [`CodecError::Failed`] ever after.
    pub fn read(&mut self, stored: &mut &[u8]) -> Result<Option<&[u8]>, CodecError> {
        match self.step_until_output(stored) {
            Ok(true) => Ok(Some(&self.raw)),
            Ok(false) => Ok(None),
            Err(error) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    /// The length of the object, if it is at its end.
    ///
    /// # Errors
    /// [`CodecError::FrameTruncated`] if it is not; [`CodecError::Failed`] if it had failed before.
    pub fn finish(self) -> Result<u64, CodecError> {
        match self.state {
            State::Ended => Ok(self.consumed),
            State::Reading => Err(CodecError::FrameTruncated { length: self.consumed }),
            State::Failed => Err(CodecError::Failed),
        }
    }

    /// Stored bytes taken so far.
    #[must_use]
    pub const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// What [`read`](Self::read) handed out last.
    pub(super) fn last_output(&self) -> &[u8] {
        &self.raw
    }

    /// The stored bytes that the last output came from.
    #[must_use]
    pub const fn last_range(&self) -> &Range<u64> {
        &self.last
    }

    fn step_until_output(&mut self, stored: &mut &[u8]) -> Result<bool, CodecError> {
        loop {
            match self.state {
                State::Failed => return Err(CodecError::Failed),
                State::Ended if stored.is_empty() => return Ok(false),
                State::Ended => return Err(CodecError::Trailing { offset: self.consumed }),
                State::Reading => {}
            }
            // A full buffer may mean that zstd holds more.
            if stored.is_empty() && self.raw.len() < RAW_CHUNK_BYTES {
                self.raw.clear();
                return Ok(false);
            }
            let piece = &stored[..stored.len().min(self.wanted)];
            self.check_header(piece)?;
            self.raw.clear();
            let mut input = InBuffer::around(piece);
            let step = self.zstd.run(&mut input, &mut OutBuffer::around(&mut self.raw));
            let taken = input.pos();
            let wanted = step.map_err(|error| self.damaged(piece.len(), &error))?;
            let missing = MAX_HEADER_BYTES - self.header.len();
            self.header.extend_from_slice(&piece[..taken.min(missing)]);
            *stored = &stored[taken..];
            self.consumed += taken as u64;
            self.wanted = wanted.max(1);
            if !self.raw.is_empty() {
                self.last = self.block_begin()..self.consumed;
                self.produced += self.raw.len() as u64;
                if self.produced > self.limit {
                    return Err(CodecError::TooLarge { stored: self.last.clone(), limit: self.limit });
                }
            }
            if wanted == 0 {
                self.end_frame()?;
            }
            if !self.raw.is_empty() {
                return Ok(true);
            }
        }
    }

    /// A full frame is followed by another, and a smaller one is the last.
    fn end_frame(&mut self) -> Result<(), CodecError> {
        let (begin, raw_before) = self.frame;
        let held = self.produced - raw_before;
        // zstd's streaming decoder doesn't compare them where the last block is empty; its decoder of whole frames does.
        if let Ok(Some(announced)) = get_frame_content_size(&self.header)
            && announced != held
        {
            let why = format!("a zstd frame in it announces {announced} bytes and holds {held}");
            return Err(CodecError::Frame { stored: begin..self.consumed, why });
        }
        match held.cmp(&(FRAME_BYTES as u64)) {
            Ordering::Less => self.state = State::Ended,
            Ordering::Equal => {
                self.frame = (self.consumed, self.produced);
                self.header.clear();
                self.wanted = MAGIC.len() + 1;
            }
            Ordering::Greater => {
                let why = format!("a zstd frame in it holds more than {FRAME_BYTES} bytes");
                return Err(CodecError::Frame { stored: begin..self.consumed, why });
            }
        }
        Ok(())
    }

    /// Refuses what zstd's decoder would take and we never write.
    fn check_header(&self, piece: &[u8]) -> Result<(), CodecError> {
        let begin = self.frame.0;
        let passed = (self.consumed - begin).min(5) as usize;
        let frame = |why: &str| CodecError::Frame { stored: begin..begin + 5, why: why.into() };
        for (at, byte) in (passed..5).zip(piece) {
            match MAGIC.get(at) {
                Some(magic) if byte != magic => return Err(frame("it does not begin as a zstd frame")),
                None if byte & DESCRIPTOR_CHECKSUM == 0 => {
                    return Err(frame("its zstd frame has no checksum"));
                }
                None if byte & DESCRIPTOR_ZEROS != 0 => {
                    return Err(frame("its zstd frame needs a dictionary"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn damaged(&self, offered: usize, error: &std::io::Error) -> CodecError {
        let end = self.consumed + offered as u64;
        let why = error.to_string();
        let is = |code: ZSTD_ErrorCode| why == get_error_name(0_usize.wrapping_sub(code as usize));
        if is(ZSTD_ErrorCode::ZSTD_error_checksum_wrong) {
            return CodecError::Checksum { stored: self.frame.0..end };
        }
        // This process's trouble, not the object's.
        if is(ZSTD_ErrorCode::ZSTD_error_memory_allocation) {
            return CodecError::Zstd(why);
        }
        CodecError::Frame { stored: self.block_begin()..end, why }
    }

    /// Where the block begins that follows the last output: its header was read along with that, but for the first
    /// of a frame.
    fn block_begin(&self) -> u64 {
        self.last.end.saturating_sub(BLOCK_HEADER_BYTES).max(self.frame.0)
    }
}
