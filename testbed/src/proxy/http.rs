//! As much of HTTP/1.1 as clients and servers of S3, Azure Blob Storage and Google Cloud Storage speak.

use std::io::{self, BufRead, Read};

use super::WireFault;
use super::google;

/// Longest head of a message. Signatures and metadata make a few kilobytes.
const MAX_HEAD: usize = 1 << 20;

/// First line and headers, as they came.
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
}

impl Head {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    fn header(&self, name: &str) -> Option<String> {
        self.text().lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    fn length(&self) -> usize {
        self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// A request without its body.
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) method: String,
    target: String,
}

impl Request {
    /// Method and target.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether it speaks to Azure, in whose paths the account comes first.
    fn is_azure(&self) -> bool {
        self.head.header("x-ms-version").is_some()
    }

    /// Whether it is asked as Google Cloud Storage is.
    pub(super) fn is_google(&self) -> bool {
        ["/upload/storage/v1/", "/storage/v1/"].iter().any(|start| self.target.starts_with(start))
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }

    /// `/bucket/key`, not `/bucket` or `/bucket/`; `/account/container/key`.
    pub(super) fn is_of_an_object(&self) -> bool {
        let above = if self.is_azure() { 2 } else { 1 };
        self.path()
            .trim_start_matches('/')
            .splitn(above + 1, '/')
            .nth(above)
            .is_some_and(|key| !key.is_empty())
    }

    /// A put of an object or part, or the completion of parts.
    pub(super) fn stores(&self) -> bool {
        if self.is_google() {
            // Of an object in one request the checksum stands in the body, which is not looked into.
            return self.method == "PUT" && self.header("content-length").is_some_and(|length| length != "0");
        }
        let completes = self.method == "POST" && self.target.contains("uploadId=");
        (self.method == "PUT" || completes) && self.is_of_an_object()
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }

    pub(super) fn closes(&self) -> bool {
        self.head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// An answer with its body, as it came.
pub(super) struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Where the content starts in `body`; none in one that is chunked, of which single bytes can't be told.
    content: Option<usize>,
    closes: bool,
}

impl Message {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body[..]].concat()
    }

    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    pub(super) fn status(&self) -> u16 {
        let head = String::from_utf8_lossy(&self.head);
        head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// Flips a bit of the content, if it has that many.
    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let at = usize::try_from(bit / 8).ok().zip(self.content).map(|(at, start)| start + at);
        match at.and_then(|at| self.body.get_mut(at)) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        }
    }

    /// Has it say that what it is about was stored in 1970, if it says when.
    pub(super) fn age(&mut self) -> bool {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let said = head.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with("last-modified:"));
        let Some(said) = said else { return false };
        self.head = head.replace(said, "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT").into_bytes();
        true
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads up to and with the empty line; `None` if the connection ended before the first byte.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let before = bytes.len();
        if reader.by_ref().take(MAX_HEAD as u64).read_until(b'\n', &mut bytes)? == 0 {
            return if before == 0 { Ok(None) } else { Err(broken("the head ends midway")) };
        }
        if bytes.len() > MAX_HEAD {
            return Err(broken("the head is too long"));
        }
    }
    Ok(Some(Head { bytes }))
}

pub(super) fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(head) = read_head(reader)? else { return Ok(None) };
    let text = head.text().into_owned();
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(broken("no request line"));
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    Ok(Some(Request { head, method, target }))
}

/// Reads half of the body, or nothing of one that is chunked.
pub(super) fn read_half(reader: &mut impl BufRead, request: &Request) -> io::Result<()> {
    let half = request.head.length() as u64 / 2;
    io::copy(&mut reader.take(half), &mut io::sink()).map(drop)
}

/// Reads a body as it comes, framing included.
pub(super) fn read_body(reader: &mut impl BufRead, head: &Head) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if !head.is_chunked() {
        body.resize(head.length(), 0);
        reader.read_exact(&mut body)?;
        return Ok(body);
    }
    loop {
        let start = body.len();
        if reader.read_until(b'\n', &mut body)? == 0 {
            return Err(broken("a chunk is missing"));
        }
        let line = String::from_utf8_lossy(&body[start..]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken("a chunk without its size"))?;
        // With the line's end after it; after the last chunk, the empty line or trailers and then it.
        if size == 0 {
            while !body.ends_with(b"\r\n\r\n") {
                if reader.read_until(b'\n', &mut body)? == 0 {
                    return Err(broken("the chunks end midway"));
                }
            }
            return Ok(body);
        }
        let at = body.len();
        body.resize(at + size + 2, 0);
        reader.read_exact(&mut body[at..])?;
    }
}

pub(super) fn read_answer(reader: &mut impl BufRead, method: &str) -> io::Result<Message> {
    loop {
        let head = read_head(reader)?.ok_or_else(|| broken("the server ended the connection"))?;
        let text = head.text().into_owned();
        let status: u16 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        // 100 Continue, and others that announce an answer: the client was told by us.
        if (100..200).contains(&status) {
            continue;
        }
        let closes = head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let bare = method == "HEAD" || matches!(status, 204 | 304);
        let framed = head.is_chunked() || head.header("content-length").is_some();
        let content = (!head.is_chunked()).then_some(0);
        let mut body = Vec::new();
        if !bare && framed {
            body = read_body(reader, &head)?;
        } else if !bare {
            reader.read_to_end(&mut body)?;
        }
        return Ok(Message { head: head.bytes, body, content, closes: closes || !(bare || framed) });
    }
}

/// Whether a fault can be played on a request.
pub(super) fn fits(fault: WireFault, request: &Request) -> bool {
    match fault {
        WireFault::Pretend => request.stores(),
        WireFault::Vanish => matches!(request.method.as_str(), "GET" | "HEAD") && request.is_of_an_object(),
        WireFault::FlipBit(_) => request.method == "GET" && request.is_of_an_object(),
        WireFault::LongAgo => request.method == "HEAD" && request.is_of_an_object(),
        // HEAD's answers have no body that an error could stand in.
        WireFault::OkWithError | WireFault::OkWithPage => request.method != "HEAD",
        WireFault::ResetInRequest
        | WireFault::ResetInResponse
        | WireFault::StallInRequest
        | WireFault::StallInResponse
        | WireFault::SlowDown
        | WireFault::InternalError
        | WireFault::AccessDenied
        | WireFault::ClockSkewed
        | WireFault::LostAcknowledgement
        | WireFault::Delay(_)
        | WireFault::Hold => true,
    }
}

/// What the client is told instead of a server's answer.
pub(super) fn answer(fault: WireFault, request: &Request) -> Message {
    if request.is_google() {
        return google::answer(fault, request);
    }
    let azure = request.is_azure();
    let code = match fault {
        WireFault::SlowDown if azure => "ServerBusy",
        WireFault::SlowDown => "SlowDown",
        WireFault::InternalError | WireFault::OkWithError => "InternalError",
        WireFault::AccessDenied if azure => "AuthorizationPermissionMismatch",
        WireFault::AccessDenied => "AccessDenied",
        WireFault::ClockSkewed if azure => "AuthenticationFailed",
        WireFault::ClockSkewed => "RequestTimeTooSkewed",
        WireFault::Vanish if azure => "BlobNotFound",
        WireFault::Vanish => "NoSuchKey",
        _ => "",
    };
    // As Azure words it: https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    let detail = match code {
        "AuthenticationFailed" => {
            "<AuthenticationErrorDetail>Request date header too old: 'Fri, 01 Jan 2021 00:00:00 GMT'\
             </AuthenticationErrorDetail>"
        }
        _ => "",
    };
    let error = format!(
        "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>injected</Message>{detail}</Error>"
    );
    let (status, body) = match fault {
        WireFault::SlowDown => ("503 Service Unavailable", error),
        WireFault::InternalError => ("500 Internal Server Error", error),
        WireFault::AccessDenied | WireFault::ClockSkewed => ("403 Forbidden", error),
        WireFault::Vanish => ("404 Not Found", error),
        WireFault::OkWithError => ("200 OK", error),
        WireFault::OkWithPage => ("200 OK", "<html><body>Please log in</body></html>".to_owned()),
        WireFault::Pretend if azure => return pretended_by_azure(request),
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
    let kind = if fault == WireFault::OkWithPage { "text/html" } else { "application/xml" };
    // The code stands in a header too, but not in an answer that says all is well.
    let header = match azure && !status.starts_with("200") {
        true => format!("x-ms-error-code: {code}\r\n"),
        false => String::new(),
    };
    message(status, &format!("Content-Type: {kind}\r\n{header}"), &body, request)
}

/// Acknowledges what was not stored, with the checksum that the client sent.
fn pretended_by_azure(request: &Request) -> Message {
    let md5 = request.head.header("content-md5").unwrap_or_default();
    let headers = format!("ETag: \"0x0\"\r\nContent-MD5: {md5}\r\n");
    message("201 Created", &headers, "", request)
}

/// Acknowledges what was not stored, with the checksums that the client sent.
fn pretended(request: &Request) -> Message {
    const ETAG: &str = "\"00000000000000000000000000000000\"";
    let mut headers = format!("ETag: {ETAG}\r\n");
    let mut echoed = String::new();
    for line in request.head.text().lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let Some(algorithm) = name.to_ascii_lowercase().strip_prefix("x-amz-checksum-").map(str::to_owned)
        else {
            continue;
        };
        let element = match algorithm.as_str() {
            "crc64nvme" => "ChecksumCRC64NVME",
            "sha256" => "ChecksumSHA256",
            _ => continue,
        };
        headers.push_str(&format!("x-amz-checksum-{algorithm}: {}\r\n", value.trim()));
        echoed.push_str(&format!("<{element}>{}</{element}>", value.trim()));
    }
    if request.method != "POST" {
        return message("200 OK", &headers, "", request);
    }
    let body = format!(
        "<?xml version=\"1.0\"?>\n<CompleteMultipartUploadResult><ETag>{ETAG}</ETag>{echoed}</CompleteMultipartUploadResult>"
    );
    message("200 OK", &format!("{headers}Content-Type: application/xml\r\n"), &body, request)
}

pub(super) fn message(status: &str, headers: &str, body: &str, request: &Request) -> Message {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let body = if request.method == "HEAD" { Vec::new() } else { body.as_bytes().to_vec() };
    Message { head: head.into_bytes(), body, content: Some(0), closes: false }
}
