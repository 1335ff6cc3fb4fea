//! COPY's bytes, taken off a connection before the driver sees them.
//!
//! tokio-postgres reads a connection 8 KiB at a time and hands out every row of a COPY by itself: measured, a
//! tenth of a backup's time. A [`Tap`] lies between the socket and the driver. It reads large pieces, lets every
//! message through as it is, and only takes CopyData (PostgreSQL manual, 55.7) out of the way: the payloads leave by a
//! channel, in blocks, without regard to rows. The driver sees a COPY without rows, and still all that begins it,
//! ends it, or says that it failed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::CopyOutStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Bytes of a block, about; also how much is asked of the socket at once.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// Blocks that wait for their reader, besides the one that is being filled.
const BLOCKS_WAITING: usize = 2;

/// A message's type and its length, which counts itself but not the type.
const HEADER_BYTES: usize = 5;

/// Where the blocks of the next COPY go. Shared by a connection's [`Tap`] and its session.
#[derive(Clone, Debug, Default)]
pub(super) struct Valve(Arc<Mutex<Ahead>>);

/// What is known of the next COPY.
#[derive(Debug, Default)]
enum Ahead {
    /// None is expected.
    #[default]
    Nothing,
    /// Its statement is on its way.
    Blocks(mpsc::Sender<Bytes>),
    /// A statement was given up before its answer came, so nobody can say whose COPY comes next. The driver can:
    /// from now on it gets all of it.
    Unknown,
}

impl Valve {
    /// The blocks of the COPY whose statement is sent next. One at a time. Whoever gives the statement up before
    /// it is answered drops the [`Awaited`].
    pub(super) fn open(&self) -> (mpsc::Receiver<Bytes>, Awaited) {
        let (sender, blocks) = mpsc::channel(BLOCKS_WAITING);
        let mut ahead = self.ahead();
        if !matches!(*ahead, Ahead::Unknown) {
            *ahead = Ahead::Blocks(sender);
        }
        drop(ahead);
        (blocks, Awaited { valve: self.clone(), answered: false })
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the COPY that begins now.
    fn take(&self) -> Option<mpsc::Sender<Bytes>> {
        let mut ahead = self.ahead();
        match std::mem::take(&mut *ahead) {
            Ahead::Blocks(sender) => Some(sender),
            Ahead::Nothing => None,
            Ahead::Unknown => {
                *ahead = Ahead::Unknown;
                None
            }
        }
    }
}

/// A statement whose answer hasn't come.
#[derive(Debug)]
pub(super) struct Awaited {
    valve: Valve,
    answered: bool,
}

impl Awaited {
    /// The COPY has begun, or was refused.
    pub(super) fn answered(mut self) {
        self.answered = true;
        let mut ahead = self.valve.ahead();
        if matches!(*ahead, Ahead::Blocks(_)) {
            *ahead = Ahead::Nothing;
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if !self.answered {
            *self.valve.ahead() = Ahead::Unknown;
        }
    }
}

/// What the next bytes of the connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A message's header.
    Header,
    /// So many bytes of a message for the driver.
    Message(usize),
    /// So many bytes of a COPY.
    Payload(usize),
}

/// A connection whose COPY leaves by a [`Valve`].
#[derive(Debug)]
pub(super) struct Tap<S> {
    inner: S,
    raw: Box<[u8]>,
    /// Of `raw`: what was read and has not gone on.
    start: usize,
    end: usize,
    next: Next,
    block: BytesMut,
    valve: Valve,
    /// While a COPY goes on.
    sender: Option<mpsc::Sender<Bytes>>,
}

impl<S> Tap<S> {
    pub(super) fn new(inner: S, valve: Valve) -> Self {
        Self {
            inner,
            raw: vec![0; BLOCK_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            next: Next::Header,
            block: BytesMut::new(),
            valve,
            sender: None,
        }
    }

    /// Hands the block over, once there is a place for it.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sender) = &mut self.sender {
            let free = ready!(sender.poll_ready(cx));
            if free.is_ok()
                && !self.block.is_empty()
                && let Err(error) = sender.start_send(self.block.split().freeze())
                && !error.is_disconnected()
            {
                return Poll::Ready(Err(io::Error::other("a block of a COPY found no place")));
            }
        }
        // A reader that has gone has no use for the rest of its COPY, nor has anybody else.
        self.block.clear();
        Poll::Ready(Ok(()))
    }

    /// Understands the header at `start`. Only when it is complete, and the block handed over if it ends one.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let header = &self.raw[self.start..self.start + HEADER_BYTES];
        let (kind, length) = (header[0], u32::from_be_bytes([header[1], header[2], header[3], header[4]]));
        let payload = usize::try_from(length).ok().and_then(|length| length.checked_sub(HEADER_BYTES - 1));
        let Some(payload) = payload else {
            let message = format!("the server sent a message of {length} bytes: not PostgreSQL's protocol");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
        };
        match kind {
            // CopyData.
            b'd' if self.sender.is_some() => {
                self.start += HEADER_BYTES;
                self.next = Next::Payload(payload);
                return Poll::Ready(Ok(()));
            }
            // Notices, parameters and notifications may come at any time.
            b'N' | b'S' | b'A' => {}
            // CopyOutResponse.
            b'H' => self.sender = self.valve.take(),
            // CopyDone, or an error: the reader sees the end once the last block has gone.
            _ if self.sender.is_some() => {
                ready!(self.poll_hand_over(cx))?;
                self.sender = None;
            }
            _ => {}
        }
        self.next = Next::Message(HEADER_BYTES + payload);
        Poll::Ready(Ok(()))
    }

    /// Moves on what was read, as far as it goes.
    fn poll_move(&mut self, cx: &mut Context<'_>, driver: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.block.len() >= BLOCK_BYTES {
                ready!(self.poll_hand_over(cx))?;
            }
            let there = self.end - self.start;
            match self.next {
                Next::Message(0) | Next::Payload(0) => self.next = Next::Header,
                Next::Header if there >= HEADER_BYTES => ready!(self.poll_header(cx))?,
                Next::Message(left) if there > 0 => {
                    let count = left.min(there).min(driver.remaining());
                    driver.put_slice(&self.raw[self.start..self.start + count]);
                    self.start += count;
                    self.next = Next::Message(left - count);
                }
                Next::Payload(left) if there > 0 => {
                    let count = left.min(there).min(BLOCK_BYTES - self.block.len());
                    if self.block.capacity() - self.block.len() < count {
                        // Whole at once, and not doubled from what is left.
                        self.block.reserve(BLOCK_BYTES);
                    }
                    self.block.extend_from_slice(&self.raw[self.start..self.start + count]);
                    self.start += count;
                    self.next = Next::Payload(left - count);
                }
                Next::Header | Next::Message(_) | Next::Payload(_) => return Poll::Ready(Ok(())),
            }
            // Where its buffer is full, the driver takes it away first.
            if driver.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        driver: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = driver.filled().len();
        loop {
            let moved = this.poll_move(cx, driver)?;
            // What the driver has can't wait for the reader of the blocks, who may wait for the driver.
            if driver.filled().len() > before || driver.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(moved);
            // What is left is a piece of a header at most.
            this.raw.copy_within(this.start..this.end, 0);
            (this.start, this.end) = (0, this.end - this.start);
            let mut room = ReadBuf::new(&mut this.raw[this.end..]);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut room))?;
            let count = room.filled().len();
            if count == 0 {
                // The connection has ended: whoever waits for blocks asks the driver why.
                this.sender = None;
                return Poll::Ready(Ok(()));
            }
            this.end += count;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Tap<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Encrypts by `T`, and taps what comes out of it.
pub(super) struct TappedTls<T>(pub(super) T, pub(super) Valve);

impl<S, T> TlsConnect<S> for TappedTls<T>
where
    T: TlsConnect<S>,
    T::Stream: Unpin,
    T::Future: Send + 'static,
{
    type Stream = Tap<T::Stream>;
    type Error = T::Error;
    type Future = BoxFuture<'static, Result<Self::Stream, Self::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self(tls, valve) = self;
        let connecting = tls.connect(stream);
        async move { Ok(Tap::new(connecting.await?, valve)) }.boxed()
    }
}

/// The bytes of one COPY, in blocks that have nothing to do with rows. Ends at CopyDone, which is before the server has
/// said that the statement succeeded: whoever reads asks for that.
pub(crate) struct CopyOut {
    pub(super) blocks: mpsc::Receiver<Bytes>,
    pub(super) driver: Pin<Box<CopyOutStream>>,
}

impl Stream for CopyOut {
    type Item = Result<Bytes, tokio_postgres::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(Pin::new(&mut self.blocks).poll_next(cx)) {
            Some(block) => Poll::Ready(Some(Ok(block))),
            // How it ended, the driver knows.
            None => self.driver.as_mut().poll_next(cx),
        }
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
