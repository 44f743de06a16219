//! An answer of one JSON object a line, as a stream of parsed lines.

use std::collections::VecDeque;

use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::ClientError;

/// Longest line, in bytes: the host's egress addresses are one.
const LONGEST: usize = 32 << 20;

/// A body that is being read.
pub(super) struct Lines {
    body: Incoming,
    request: String,
    /// Whole lines, without their ends.
    ready: VecDeque<Vec<u8>>,
    /// The beginning of the next line.
    rest: Vec<u8>,
    ended: bool,
}

impl Lines {
    pub(super) fn new(body: Incoming, request: String) -> Self {
        Self {
            body,
            request,
            ready: VecDeque::new(),
            rest: Vec::new(),
            ended: false,
        }
    }

    /// Ends with the body, or behind the first error.
    pub(super) fn stream<T: DeserializeOwned>(self) -> impl Stream<Item = Result<T, ClientError>> {
        futures_util::stream::try_unfold(self, async |mut lines| {
            let item = lines.next().await?;
            Ok(item.map(|item| (item, lines)))
        })
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| self.unexpected(e.to_string()));
            }
            if self.ended {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// Takes in one frame of the body.
    async fn read(&mut self) -> Result<(), ClientError> {
        let Some(frame) = self.body.frame().await else {
            self.ended = true;
            self.ready.push_back(std::mem::take(&mut self.rest));
            return Ok(());
        };
        let frame = frame.map_err(|source| ClientError::Broken {
            request: self.request.clone(),
            source,
        })?;
        let Ok(data) = frame.into_data() else {
            return Ok(());
        };
        let mut parts = data.split(|byte| *byte == b'\n');
        self.rest.extend_from_slice(parts.next().unwrap_or(&[]));
        for part in parts {
            self.ready
                .push_back(std::mem::replace(&mut self.rest, part.to_vec()));
        }
        if self.rest.len() > LONGEST {
            return Err(self.unexpected(format!("a line of more than {LONGEST} bytes")));
        }
        Ok(())
    }

    fn unexpected(&self, detail: String) -> ClientError {
        ClientError::Unexpected {
            request: self.request.clone(),
            detail,
        }
    }
}
