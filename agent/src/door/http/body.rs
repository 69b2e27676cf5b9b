//! The one place where request bodies are read: each has a bound and a deadline.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::error::HttpError;

/// Largest body that is not a key's value. Consul has no bound of its own; a registration with a hundred checks is below 100 KB.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// Time for a whole body: half a megabyte over a line of 150 kbit/s.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of a refused body that are read and dropped, so that a client which is still sending them gets to the answer
/// instead of a broken connection. Who announces more does not get that courtesy.
const DRAIN_BYTES_MAX: u64 = 4 << 20;
/// Time for that.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// A body that nobody has read yet.
#[derive(Debug)]
pub(super) struct Body {
    /// None inside this agent.
    incoming: Option<Incoming>,
    announced: Option<u64>,
}

impl Body {
    pub(super) fn new(incoming: Incoming) -> Self {
        let announced = incoming.size_hint().exact();
        Self { incoming: Some(incoming), announced }
    }

    /// Of a question from within this agent.
    pub(super) fn none() -> Self {
        Self { incoming: None, announced: None }
    }

    /// All of it, if it is no larger than `max`. What announces more is refused before a byte of it is kept.
    pub(super) async fn read(self, max: usize, setting: &'static str) -> Result<Bytes, HttpError> {
        let announced = self.announced;
        let Some(mut incoming) = self.incoming else { return Ok(Bytes::new()) };
        let too_large = |bytes: u64| HttpError::TooLarge { announced: bytes, max, setting };
        if let Some(announced) = announced.filter(|announced| *announced > max as u64) {
            if announced <= DRAIN_BYTES_MAX {
                drain(incoming).await;
            }
            return Err(too_large(announced));
        }
        match timeout(BODY_DEADLINE, collect(&mut incoming, max)).await {
            Err(_) => Err(HttpError::BodyTimeout),
            Ok(Err(Broken::Larger(read))) => {
                drain(incoming).await;
                Err(too_large(announced.unwrap_or(read)))
            }
            Ok(Err(Broken::Framing(error))) => Err(HttpError::BodyBroken(error.to_string())),
            Ok(Ok(bytes)) => Ok(bytes),
        }
    }

    /// Writes it to a file as it comes, up to so many bytes: each piece has a deadline, the whole of it none.
    pub(super) async fn write_to(mut self, mut file: tokio::fs::File, max: u64) -> Result<(), HttpError> {
        use tokio::io::AsyncWriteExt as _;
        let broken = |error: std::io::Error| HttpError::Server(format!("the body cannot be kept: {error}"));
        let mut length = 0;
        while let Some(incoming) = &mut self.incoming {
            let frame = timeout(BODY_DEADLINE, incoming.frame()).await.map_err(|_| HttpError::BodyTimeout)?;
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|error| HttpError::BodyBroken(error.to_string()))?.into_data() else { continue };
            length += data.len() as u64;
            if length > max {
                let announced = self.announced.unwrap_or(length);
                return Err(HttpError::TooLarge { announced, max: max as usize, setting: "the limit of a snapshot" });
            }
            file.write_all(&data).await.map_err(broken)?;
        }
        file.flush().await.map_err(broken)
    }

    /// All of a body that is JSON.
    pub(super) async fn read_json(self) -> Result<Bytes, HttpError> {
        self.read(BODY_BYTES_MAX, "the limit of a JSON body").await
    }
}

enum Broken {
    Larger(u64),
    Framing(hyper::Error),
}

async fn drain(mut incoming: Incoming) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = incoming.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    let _ = timeout(DRAIN_DEADLINE, reading).await;
}

async fn collect(incoming: &mut Incoming, max: usize) -> Result<Bytes, Broken> {
    if incoming.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(Broken::Framing)?.into_data() else { continue };
        let size = first.len() + all.len() + data.len();
        if size > max {
            return Err(Broken::Larger(size as u64));
        }
        if all.is_empty() && first.is_empty() {
            first = data; // Most bodies come in one piece, which need not be copied twice.
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
    }
    // A copy: a slice of the connection's read buffer would keep all of that alive with the row it becomes.
    Ok(if all.is_empty() { Bytes::copy_from_slice(&first) } else { all.freeze() })
}
