//! What goes wrong, and at which requests.

use std::ops::Range;
use std::time::Duration;

/// What goes wrong on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// The connection is reset after half of the request's body; nothing reaches the server.
    ResetInRequest,
    /// The server carries the request out; the connection is reset after half of its answer.
    ResetInResponse,
    /// Half of the request's body is read, and then nothing more happens, on either side.
    StallInRequest,
    /// The server carries the request out; half of its answer is sent, and then nothing more.
    StallInResponse,
    /// 503 SlowDown (Azure: ServerBusy), and nothing reaches the server.
    SlowDown,
    /// 500 InternalError, and nothing reaches the server.
    InternalError,
    /// 403 AccessDenied (Azure: AuthorizationPermissionMismatch), and nothing reaches the server.
    AccessDenied,
    /// 403 RequestTimeTooSkewed (Azure: AuthenticationFailed, with the reason), as from a server whose clock is another, and nothing reaches the server.
    ClockSkewed,
    /// The server carries the request out; the client is answered 503.
    LostAcknowledgement,
    /// 200 with an `<Error>` document, and nothing reaches the server.
    OkWithError,
    /// 200 with a page of HTML, and nothing reaches the server.
    OkWithPage,
    /// 200 as if it had been carried out, and nothing reaches the server. Only for requests that store.
    Pretend,
    /// 404 NoSuchKey (Azure: BlobNotFound) for something that is there. Only for GET and HEAD of an object.
    Vanish,
    /// One bit of the answer's body is the other one. Only for GET of an object.
    FlipBit(u64),
    /// The server's answer, but for its `Last-Modified`: the object was stored in 1970. Only for HEAD of an object.
    LongAgo,
    /// The answer comes later than it was given.
    Delay(Duration),
    /// The whole request is kept until [`FaultProxy::heal`], and carried out then, whether its client still waits for
    /// an answer or not: what a peer that was taken for dead has sent.
    Hold,
}

/// Which requests a fault meets, counted from 0 over all connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireRule {
    /// Requests by their number. One is `n..n + 1`, an outage is longer.
    pub requests: Range<u64>,
    /// Only requests whose first line contains all of these, as in `PUT ` or `/data/`; the target ends with a
    /// space. Those count on their own then.
    pub containing: Vec<String>,
    /// Only requests whose first line contains none of these.
    pub lacking: Vec<String>,
    /// How far it goes from the requests named.
    pub reach: WireReach,
    /// What goes wrong.
    pub fault: WireFault,
}

impl WireRule {
    /// `fault` at request number `request`.
    #[must_use]
    pub const fn at(request: u64, fault: WireFault) -> Self {
        Self::during(request..request + 1, fault)
    }

    /// `fault` at the requests of `range`.
    #[must_use]
    pub const fn during(range: Range<u64>, fault: WireFault) -> Self {
        Self { requests: range, containing: Vec::new(), lacking: Vec::new(), reach: WireReach::Named, fault }
    }

    /// Only at requests whose first line contains `part`, and numbers count those.
    #[must_use]
    pub fn only(mut self, part: &str) -> Self {
        self.containing.push(part.to_owned());
        self
    }

    /// Only at requests whose first line does not contain `part`, and numbers count those.
    #[must_use]
    pub fn without(mut self, part: &str) -> Self {
        self.lacking.push(part.to_owned());
        self
    }

    /// Goes further than the requests named, from the first of them on.
    #[must_use]
    pub const fn reaching(mut self, reach: WireReach) -> Self {
        self.reach = reach;
        self
    }
}

/// How far a fault goes from the requests that its rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireReach {
    /// Those alone.
    Named,
    /// The first of them and the same request after it, so many in all: a request with its retries.
    SameRequest(u64),
    /// Every request from the first of them on.
    Everything,
}

/// A rule at work.
pub(super) struct Armed {
    pub(super) rule: WireRule,
    /// Requests so far that its `containing` lets through.
    pub(super) seen: u64,
    /// Where it has begun: that request, and how often it was met.
    pub(super) begun: Option<(String, u64)>,
}

impl Armed {
    /// Whether a request, one more in the count of `number`, is met.
    pub(super) fn meets(&mut self, number: u64, line: &str, fits: bool) -> bool {
        // As it came: a part that ends with a space is the target's end.
        let came = format!("{line} ");
        let WireRule { containing, lacking, .. } = &self.rule;
        let named = containing.iter().all(|part| came.contains(part.as_str()))
            && !lacking.iter().any(|part| came.contains(part.as_str()));
        let of = if containing.is_empty() && lacking.is_empty() { number } else { self.seen };
        self.seen += u64::from(named);
        let here = named && fits && self.rule.requests.contains(&of);
        if here && self.begun.is_none() {
            self.begun = Some((same(line), 0));
        }
        match (self.rule.reach, &mut self.begun) {
            (WireReach::Named, _) => here,
            (WireReach::Everything, begun) => begun.is_some() && fits,
            (WireReach::SameRequest(times), Some((first, met))) if *first == same(line) && *met < times => {
                *met += 1;
                true
            }
            (WireReach::SameRequest(_), _) => false,
        }
    }
}

/// A request as its retries repeat it: an upload begun anew has another id, or block names alike in the number at the end.
fn same(line: &str) -> String {
    let (path, query) = line.split_once('?').unwrap_or((line, ""));
    let parameters = query.split('&').filter_map(|parameter| match parameter.split_once('=') {
        Some(("uploadId" | "upload_id", _)) => None,
        Some(("blockid", name)) => name.get(name.len().saturating_sub(12)..),
        _ => Some(parameter),
    });
    format!("{path}?{}", parameters.collect::<Vec<_>>().join("&"))
}
