//! Buffers of one size, used again and again by all connections of a core.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a buffer: the largest head, and enough for a body to go at full speed.
pub(crate) const SIZE: usize = 32 * 1024;

/// Buffers that nobody uses are kept up to this number; 8 MiB.
const KEPT: usize = 256;

/// Buffers that nobody uses now.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Rc<RefCell<Vec<Box<[u8]>>>>);

impl Buffers {
    /// An empty buffer. It has no memory until something is read, and gives it back by itself.
    pub(crate) fn take(&self) -> Buffer {
        Buffer {
            bytes: Box::default(),
            start: 0,
            end: 0,
            home: self.clone(),
        }
    }

    fn room(&self) -> Box<[u8]> {
        let kept = self.0.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
    }
}

/// Bytes that were read and not used yet.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    home: Buffers,
}

impl Buffer {
    /// What was read.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Gives the memory back, if there is nothing in it: of ten thousand connections most wait.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let mut kept = self.home.0.borrow_mut();
            if kept.len() < KEPT && !bytes.is_empty() {
                kept.push(bytes);
            }
        }
    }

    /// The first bytes were used.
    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads more behind what is there. `Ok(0)` at the end of the input, or when the buffer is full.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() {
            self.bytes = self.home.room();
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        let Poll::Ready(read) = Pin::new(from).poll_read(cx, &mut room) else {
            // Who waits needs none.
            self.release();
            return Poll::Pending;
        };
        read?;
        let read = room.filled().len();
        self.end += read;
        Poll::Ready(Ok(read))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.consume(self.end - self.start);
        self.release();
    }
}
