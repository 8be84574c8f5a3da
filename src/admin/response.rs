//! Routes a request of the admin interface and writes its response.

use std::sync::PoisonError;

use super::{
    dashboard::{PAGE, PAGE_HEADERS},
    shared::{Page, Shared},
};
use crate::http1::{Field, Flow, Handler, Method, RejectReason, Request, RequestHead, Status, path};

/// Handles the one request of a connection.
pub(super) struct Answer<'a> {
    pub(super) shared: &'a Shared,
    /// The response, once the request is read.
    pub(super) response: Option<Response>,
}

/// A response of the admin interface.
pub(super) enum Response {
    /// It is complete.
    Encoded(Vec<u8>),
    /// It has to be made.
    Page {
        page: Page,
        /// Whether it has a body.
        has_body: bool,
    },
}

/// Media types of the responses.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// Encodes a response: `extra` are further header lines, each with its CRLF.
pub(super) fn encode(status: Status, media_type: &str, extra: &str, has_body: bool, body: &str) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Type: {media_type}\r\n\
         Cache-Control: no-store\r\n{extra}Connection: close\r\n\r\n",
        status.line(),
        body.len()
    );
    if has_body {
        response.push_str(body);
    }
    response.into_bytes()
}

/// The paths that are served, all for reading only.
const PATHS: [&[u8]; 7] =
    [b"/", b"/dashboard", b"/dashboard.json", b"/healthz", b"/livez", b"/metrics", b"/readyz"];

impl Answer<'_> {
    /// Counts the rejection and sets its response.
    pub(super) fn reject(&mut self, reason: RejectReason, head: Option<(&RequestHead, &[u8])>) {
        self.shared.rejections.lock().unwrap_or_else(PoisonError::into_inner).add(reason, head);
        let has_body = head.is_none_or(|(head, _)| head.method != Method::Head);
        let extra = if reason == RejectReason::VerbNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        let body = format!("{}\n", reason.message());
        self.response = Some(Response::Encoded(encode(reason.status(), TEXT, extra, has_body, &body)));
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
        if !PATHS.contains(&path) {
            return Err(RejectReason::PathUnknown);
        }
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(RejectReason::VerbNotAllowed);
        }
        // An origin that may call tools still has no access to these.
        if head.origin(bytes) != Field::Absent {
            return Err(RejectReason::OriginForbidden);
        }
        let has_body = head.method == Method::Get;
        let page = |page| Response::Page { page, has_body };
        self.response = Some(match path {
            b"/" => Response::Encoded(encode(Status::Found, TEXT, "Location: dashboard\r\n", has_body, "")),
            b"/dashboard" => Response::Encoded(encode(Status::Ok, HTML, &PAGE_HEADERS, has_body, PAGE)),
            b"/dashboard.json" => page(Page::Dashboard),
            b"/metrics" => page(Page::Metrics),
            b"/readyz" => page(Page::Readiness),
            _ => page(Page::Health),
        });
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
