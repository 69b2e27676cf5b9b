//! A long answer in pieces: each has its length before it; whoever reads slowly slows the writer down, nobody's memory grows.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use uuid::Uuid;

use super::error::CallError;
use crate::error::chain;

/// Longest piece. A feed cuts longer news; what is longer is not ours.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;

const LENGTH_BYTES: usize = 4;

/// A piece as it is sent: made once, cloned for each follower.
///
/// Longer than [`FRAME_BYTES_MAX`] it would be refused by its reader; whoever makes one cuts it before.
pub(crate) fn frame(piece: &[u8]) -> Bytes {
    debug_assert!(piece.len() <= FRAME_BYTES_MAX);
    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + piece.len());
    bytes.put_u32(piece.len() as u32);
    bytes.put_slice(piece);
    bytes.freeze()
}

/// The pieces of one answer, as they come. Dropping it tells the peer to stop.
#[derive(Debug)]
pub(crate) struct Frames {
    node: Uuid,
    body: Incoming,
    buffer: BytesMut,
}

impl Frames {
    pub(super) fn new(node: Uuid, body: Incoming) -> Self {
        Self { node, body, buffer: BytesMut::new() }
    }

    /// The next piece; `None` when the peer has ended the stream in order. Not to be called again after that, or after an error.
    /// It may be dropped while it waits, and nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let node = self.node;
        loop {
            if let Some(piece) = cut(&mut self.buffer).map_err(|what| CallError::Answer { node, what })? {
                return Ok(Some(piece));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(CallError::MaybeSent { node, what: chain(&error) }),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(CallError::Answer { node, what: "the stream ends within a piece".to_owned() }),
            }
        }
    }
}

/// Takes the first whole piece out of the buffer.
fn cut(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>().map(|bytes| u32::from_be_bytes(*bytes) as usize) else {
        return Ok(None);
    };
    if length > FRAME_BYTES_MAX {
        return Err(format!("a piece of {length} bytes, at most {FRAME_BYTES_MAX} are allowed"));
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_wherever_the_bytes_break() {
        let whole = [frame(b"one"), frame(b""), frame(&[7; 300])].concat();
        for step in 1..whole.len() {
            let (mut buffer, mut pieces) = (BytesMut::new(), Vec::new());
            for chunk in whole.chunks(step) {
                buffer.extend_from_slice(chunk);
                while let Some(piece) = cut(&mut buffer).unwrap() {
                    pieces.push(piece);
                }
            }
            assert!(buffer.is_empty());
            assert_eq!(pieces, [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; 300])]);
        }
        assert!(cut(&mut BytesMut::from(&[0xff; 4][..])).is_err());
    }
}
