//! What a client of Google Cloud Storage is told instead of a server's answer.

use super::WireFault;
use super::http::{Message, Request, message};

pub(super) fn answer(fault: WireFault, request: &Request) -> Message {
    let (status, text) = match fault {
        WireFault::SlowDown => ("429 Too Many Requests", "injected: the rate limit is exceeded"),
        WireFault::InternalError => ("500 Internal Server Error", "injected: Backend Error"),
        WireFault::AccessDenied => ("403 Forbidden", "injected: does not have storage.objects.get access"),
        WireFault::ClockSkewed => (
            "401 Unauthorized",
            "injected: Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        ),
        WireFault::Vanish => ("404 Not Found", "injected: No such object"),
        WireFault::OkWithError => ("200 OK", "injected: Backend Error"),
        WireFault::OkWithPage => {
            let page = "<html><body>Please log in</body></html>";
            return message("200 OK", "Content-Type: text/html\r\n", page, request);
        }
        WireFault::Pretend => return pretended(request),
        WireFault::ResetInRequest
        | WireFault::ResetInResponse
        | WireFault::StallInRequest
        | WireFault::StallInResponse
        | WireFault::LostAcknowledgement
        | WireFault::FlipBit(_)
        | WireFault::LongAgo
        | WireFault::Delay(_)
        | WireFault::Hold => unreachable!("{fault:?} has no answer of its own"),
    };
    let code = status.split(' ').next().unwrap_or_default();
    let body = format!("{{\"error\": {{\"code\": {code}, \"message\": \"{text}\"}}}}");
    message(status, "Content-Type: application/json; charset=UTF-8\r\n", &body, request)
}

/// Acknowledges bytes of a resumable upload that were not stored: as kept, or as an object with the checksum that was
/// sent along.
fn pretended(request: &Request) -> Message {
    let range = request.header("content-range").unwrap_or_default();
    let (bytes, total) = range.trim_start_matches("bytes ").split_once('/').unwrap_or_default();
    let last = bytes.split_once('-').map_or("0", |(_, last)| last);
    match request.header("x-goog-hash") {
        None => message("308 Resume Incomplete", &format!("Range: bytes=0-{last}\r\n"), "", request),
        Some(hash) => {
            let crc32c = hash.trim_start_matches("crc32c=");
            let body = format!("{{\"generation\": \"1\", \"size\": \"{total}\", \"crc32c\": \"{crc32c}\"}}");
            message("200 OK", "Content-Type: application/json; charset=UTF-8\r\n", &body, request)
        }
    }
}
