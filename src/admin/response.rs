//! Routes a request of the admin interface and writes its response.

use std::sync::{PoisonError, atomic::Ordering};

use super::{health::health, metrics::metrics, shared::Shared};
use crate::http1::{Field, Flow, Handler, Method, RejectReason, Request, RequestHead, Status, path};

/// Handles the one request of a connection.
pub(super) struct Answer<'a> {
    pub(super) shared: &'a Shared,
    /// The encoded response, once there is one.
    pub(super) reply: Option<Vec<u8>>,
}

impl Answer<'_> {
    /// Sets the response: `extra` are further header lines, each with its CRLF.
    fn write(&mut self, status: Status, extra: &str, has_body: bool, body: &str) {
        let mut reply = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Cache-Control: no-store\r\n{extra}Connection: close\r\n\r\n",
            status.line(),
            body.len()
        );
        if has_body {
            reply.push_str(body);
        }
        self.reply = Some(reply.into_bytes());
    }

    /// Counts the rejection and sets its response.
    pub(super) fn reject(&mut self, reason: RejectReason, head: Option<(&RequestHead, &[u8])>) {
        self.shared.rejections.lock().unwrap_or_else(PoisonError::into_inner).add(reason, head);
        let has_body = head.is_none_or(|(head, _)| head.method != Method::Head);
        let extra = if reason == RejectReason::VerbNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        self.write(reason.status(), extra, has_body, &format!("{}\n", reason.message()));
    }

    fn handle_head(&mut self, head: &RequestHead, bytes: &[u8]) {
        if let Err(reason) = self.answer(head, bytes) {
            self.reject(reason, Some((head, bytes)));
        }
    }

    /// Checks host, path, method and origin, in this order, and sets the response.
    fn answer(&mut self, head: &RequestHead, bytes: &[u8]) -> Result<(), RejectReason> {
        let host = self.shared.allowed_hosts.check(head, bytes)?;
        let path = path(head.target(bytes), host)?;
        if !matches!(path, b"/healthz" | b"/livez" | b"/readyz" | b"/metrics") {
            return Err(RejectReason::PathUnknown);
        }
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(RejectReason::VerbNotAllowed);
        }
        // An origin that may call tools still has no access to these.
        if head.origin(bytes) != Field::Absent {
            return Err(RejectReason::OriginForbidden);
        }
        let (status, body) = match path {
            b"/metrics" => (Status::Ok, metrics(self.shared)),
            b"/healthz" | b"/livez" => health(&self.shared.shards),
            _ if self.shared.draining.load(Ordering::Relaxed) => {
                (Status::ServiceUnavailable, "draining\n".to_owned())
            }
            _ => health(&self.shared.shards),
        };
        self.write(status, "", head.method == Method::Get, &body);
        Ok(())
    }
}

impl Handler for Answer<'_> {
    fn wants_body(&mut self, head: &RequestHead, head_bytes: &[u8]) -> bool {
        // No endpoint takes a body.
        self.handle_head(head, head_bytes);
        false
    }

    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
        match request {
            Ok(request) => self.handle_head(&request.head, request.head_bytes),
            Err(reason) => self.reject(reason, None),
        }
        Flow::Stop
    }
}
