//! A receiver of OTLP over HTTP, as small as one can be: it decodes what it is sent by the official messages.

#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "several tests share it, and not all of it"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A span, and the service that told of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub service: String,
    pub span: Span,
}

impl Seen {
    /// An attribute's value, as text.
    pub fn field(&self, name: &str) -> Option<String> {
        let found = self.span.attributes.iter().find(|it| it.key == name)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            Value::IntValue(number) => Some(number.to_string()),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// What it was sent.
#[derive(Debug, Default)]
pub struct Sent {
    pub spans: Vec<Seen>,
    /// Heads and bodies of all requests, one after the other.
    pub raw: Vec<u8>,
}

/// Listens as long as the test's process lives.
#[derive(Clone, Debug)]
pub struct Receiver {
    pub endpoint: String,
    sent: Arc<Mutex<Sent>>,
}

impl Receiver {
    /// One that answers everything; `hangs`: that reads everything and answers nothing.
    pub fn listen(hangs: bool) -> Self {
        Self::listen_at(Ipv4Addr::LOCALHOST.into(), hangs)
    }

    /// The same at another address of this machine.
    pub fn listen_at(address: IpAddr, hangs: bool) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(Mutex::new(Sent::default()));
        let taken = sent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, taken) = (stream.unwrap(), taken.clone());
                std::thread::spawn(move || serve(stream, &taken, hangs));
            }
        });
        Self { endpoint, sent }
    }

    /// All spans until now.
    pub fn spans(&self) -> Vec<Seen> {
        self.sent.lock().unwrap().spans.clone()
    }

    /// Whether anything that was sent has `text` in it.
    pub fn was_sent(&self, text: &str) -> bool {
        self.sent.lock().unwrap().raw.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Whether it was sent anything.
    pub fn was_asked(&self) -> bool {
        !self.sent.lock().unwrap().raw.is_empty()
    }
}

fn serve(stream: TcpStream, sent: &Mutex<Sent>, hangs: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let lower = head.to_lowercase();
        assert!(lower.starts_with("post /v1/traces "), "{head}");
        let length = lower.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        {
            let mut sent = sent.lock().unwrap();
            sent.raw.extend(head.as_bytes());
            sent.raw.extend(&body);
            for of_resource in request.resource_spans {
                let attributes = of_resource.resource.unwrap_or_default().attributes;
                let name = attributes.iter().find(|it| it.key == "service.name").unwrap();
                let Some(Value::StringValue(service)) = name.value.clone().unwrap().value else { panic!() };
                let spans = of_resource.scope_spans.into_iter().flat_map(|it| it.spans);
                sent.spans.extend(spans.map(|span| Seen { service: service.clone(), span }));
            }
        }
        if hangs {
            continue;
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if (&stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
