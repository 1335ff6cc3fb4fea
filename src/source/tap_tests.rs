//! The tap, with messages cut at any byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::StreamExt;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::*;

/// A connection that gives its bytes in pieces, and is now and then not ready.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    reads: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        let size = self.sizes[self.reads % self.sizes.len()];
        if size == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = size.min(self.bytes.len() - self.at).min(out.remaining());
        out.put_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], payload].concat()
}

/// Everything that the driver gets, and everything that the reader of the blocks gets.
async fn run(bytes: Vec<u8>, sizes: Vec<usize>, driver_reads: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let valve = Valve::default();
    let (mut blocks, awaited) = valve.open();
    let mut tap = Tap::new(Pieces { bytes, at: 0, sizes, reads: 0 }, valve);
    let driver = async move {
        let (mut all, mut buffer) = (Vec::new(), vec![0; driver_reads]);
        loop {
            match tap.read(&mut buffer).await? {
                0 => {
                    awaited.answered();
                    return Ok::<_, io::Error>(all);
                }
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    };
    let reader = async {
        let mut all = Vec::new();
        while let Some(block) = blocks.next().await {
            assert!(!block.is_empty() && block.len() <= BLOCK_BYTES);
            all.extend_from_slice(&block);
        }
        all
    };
    let (driver, reader) = futures::join!(driver, reader);
    Ok((driver?, reader))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #[test]
    fn copy_data_leaves_by_the_channel_and_all_else_goes_on(
        rows in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90_000), 0..24),
        between in prop::collection::vec(prop_oneof![Just(b'N'), Just(b'S'), Just(b'A')], 24),
        sizes in prop::collection::vec(0..40_000_usize, 1..9),
        driver_reads in 1..9_000_usize,
        failed in any::<bool>(),
    ) {
        prop_assume!(sizes.iter().any(|size| *size > 0));
        let mut sizes = sizes;
        // A pending read after each, at most.
        sizes.push(1 + sizes[0]);
        let begin = [message(b'1', b""), message(b'H', &[1, 0, 0])].concat();
        let (mut bytes, mut others) = (begin.clone(), begin);
        for (row, notice) in rows.iter().zip(&between) {
            bytes.extend(message(b'd', row));
            let notice = message(*notice, &row[..row.len().min(9)]);
            bytes.extend(&notice);
            others.extend(&notice);
        }
        let end = if failed { message(b'E', b"C57014\0\0") } else { message(b'c', b"") };
        let end = [end, message(b'C', b"COPY 3\0"), message(b'Z', b"I")].concat();
        bytes.extend(&end);
        others.extend(&end);
        // After its COPY nobody takes rows out of the driver's way.
        let late = message(b'd', b"late");
        bytes.extend(&late);
        others.extend(&late);
        let (driver, reader) = runtime().block_on(run(bytes, sizes, driver_reads)).unwrap();
        prop_assert!(driver == others, "{} bytes for the driver, {} expected", driver.len(), others.len());
        prop_assert!(reader == rows.concat(), "{} bytes of rows", reader.len());
    }
}

#[test]
fn a_connection_that_ends_midway_ends_the_blocks_too() {
    let mut bytes = [message(b'H', &[1, 0, 0]), message(b'd', &[7; 1000])].concat();
    bytes.truncate(bytes.len() - 1);
    let (driver, reader) = runtime().block_on(run(bytes, vec![100], 64)).unwrap();
    assert_eq!(driver, message(b'H', &[1, 0, 0]));
    // What was not handed over is lost: the driver says that the connection ended.
    assert!(reader.is_empty());
}

#[test]
fn what_is_not_the_protocol_is_an_error() {
    let answer = runtime().block_on(run(b"HTTP\0\0\0\x03 what".to_vec(), vec![100], 64));
    assert!(
        answer.is_ok_and(|(driver, _)| driver.starts_with(b"HTTP")),
        "a long message, as far as it comes"
    );
    let refused = runtime().block_on(run(vec![b'R', 0, 0, 0, 3], vec![100], 64)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_reader_that_went_away_holds_nobody_up() {
    let rows = vec![message(b'd', &[1; 100_000]); 40].concat();
    let bytes = [message(b'H', &[1, 0, 0]), rows, message(b'c', b"")].concat();
    let valve = Valve::default();
    let (blocks, awaited) = valve.open();
    drop(blocks);
    let mut tap = Tap::new(Pieces { bytes, at: 0, sizes: vec![50_000], reads: 0 }, valve);
    let mut all = Vec::new();
    runtime().block_on(tap.read_to_end(&mut all)).unwrap();
    awaited.answered();
    assert_eq!(all, [message(b'H', &[1, 0, 0]), message(b'c', b"")].concat());
}

#[test]
fn after_a_statement_that_was_given_up_the_driver_tells_whose_rows_come() {
    let copy = |row: &[u8]| [message(b'H', &[1, 0, 0]), message(b'd', row), message(b'c', b"")].concat();
    let bytes = [copy(b"of the first"), copy(b"of the second")].concat();
    let valve = Valve::default();
    drop(valve.open());
    let (mut blocks, awaited) = valve.open();
    let mut tap = Tap::new(Pieces { bytes: bytes.clone(), at: 0, sizes: vec![50], reads: 0 }, valve);
    let mut all = Vec::new();
    runtime().block_on(tap.read_to_end(&mut all)).unwrap();
    awaited.answered();
    assert_eq!(all, bytes, "both, in the driver's order");
    assert_eq!(runtime().block_on(blocks.next()), None);
}
