//! One call over a connection that stands.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use uuid::Uuid;

use super::dial::Sender;
use super::error::CallError;
use super::method::{DEADLINE_HEADER, Method};
use super::refusal::Refusal;
use crate::error::chain;

/// Longest answer in one piece: what a query may give; longer ones are streams.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Longest refusal.
const REFUSAL_BYTES_MAX: usize = 8 << 10;

/// What became of sending.
pub(super) enum Sent {
    /// The peer accepted the call: its answer comes.
    Accepted(Response<Incoming>),
    /// The connection was gone before anything was sent.
    NotSent(String),
}

/// Sends a call and waits for the head of its answer.
pub(super) async fn send(
    sender: &mut Sender,
    node: Uuid,
    method: Method,
    body: Bytes,
    deadline: Duration,
) -> Result<Sent, CallError> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = method.uri();
    let millis = deadline.as_millis().min(u128::from(u32::MAX)) as u32;
    request.headers_mut().insert(DEADLINE_HEADER, HeaderValue::from(millis));
    match sender.try_send_request(request).await {
        Ok(response) if response.status().is_success() => Ok(Sent::Accepted(response)),
        Ok(response) => {
            let refusal = match Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await {
                Ok(body) => Refusal::decode(&body.to_bytes()),
                Err(_) => Refusal::decode(&[]),
            };
            Err(CallError::Refused { node, refusal })
        }
        Err(mut error) => match error.take_message() {
            Some(_) => Ok(Sent::NotSent(chain(error.error()))),
            None => Err(CallError::MaybeSent { node, what: chain(error.error()) }),
        },
    }
}

/// The whole answer.
pub(super) async fn whole(node: Uuid, response: Response<Incoming>) -> Result<Bytes, CallError> {
    match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(CallError::Answer { node, what: format!("it has more than {ANSWER_BYTES_MAX} bytes") })
        }
        Err(error) => Err(CallError::MaybeSent { node, what: chain(&*error) }),
    }
}
