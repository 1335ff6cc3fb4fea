//! Traces over OTLP, where the environment says whereto; otherwise there are none, and spans cost nothing.
//!
//! A receiver that is away, slow or wrong is nobody's trouble: spans wait in a queue of bounded length, what finds it
//! full is counted and forgotten, and at the end of the process only [`FLUSH`] is waited for.

use std::collections::HashMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Config, IdGenerator, RandomIdGenerator, SamplingDecision, SdkTracer,
    SdkTracerProvider, ShouldSample, SpanData, SpanExporter as Export, SpanProcessor,
};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::{Layer, Registry};

use super::otlp_client::OtlpClient;
use super::run_trace::RunTrace;
use super::spans::TARGET;

/// How long the end of a process waits for what it still has to send: less than a pod's grace period by far.
pub const FLUSH: Duration = Duration::from_secs(3);

/// Longest time for one request, where the environment names none: that of the specification.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The variable with the trace that a process belongs to, as W3C Trace Context writes it.
pub const TRACEPARENT: &str = "TRACEPARENT";

/// Variables by which a receiver is named; one of them is enough.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// The same for the time of a request, in milliseconds.
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
/// Variables besides those that the pods of runs are given as the controller has them. Headers are not among them: they
/// hold a credential, and Jobs can be read by more people than Secrets.
const OF_PODS: [&str; 3] = ["OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_RESOURCE_ATTRIBUTES"];
/// What a request carries besides: a credential, mostly.
pub const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// The tracer of the process; none: nothing is traced.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What is put beneath the log.
pub type TraceLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    sent: AtomicU64,
    /// Whether the last request failed.
    away: AtomicBool,
}

/// The traces of this process.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    counts: Arc<Counts>,
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whether the environment names a receiver, and does not say that there are no traces.
fn is_configured() -> bool {
    let says =
        |name: &str, word: &str| set(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(word));
    ENDPOINTS.iter().any(|name| set(name).is_some())
        && !says("OTEL_SDK_DISABLED", "true")
        && !says("OTEL_TRACES_EXPORTER", "none")
}

impl Traces {
    /// Those that the environment asks for, of a process of this name; `runtime` sends them. `None`: it asks for none.
    ///
    /// # Errors
    /// The environment asks for what isn't there.
    pub fn of(process: &str, runtime: tokio::runtime::Handle) -> Option<Result<Self, String>> {
        is_configured().then(|| Self::begin(process, runtime))
    }

    fn begin(process: &str, runtime: tokio::runtime::Handle) -> Result<Self, String> {
        let timeout = TIMEOUTS.iter().find_map(|name| set(name)?.trim().parse().ok());
        let timeout = timeout.map_or(TIMEOUT, Duration::from_millis);
        let secure = ENDPOINTS.iter().find_map(|name| set(name)).is_some_and(|url| url.starts_with("https:"));
        let client = OtlpClient::new(runtime, timeout, secure).map_err(|error| error.to_string())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .with_http_client(client)
            .build()
            .map_err(|error| without_endpoints(error.to_string()))?;
        let counts = Arc::new(Counts::default());
        let exporter = Counted { inner: exporter, counts: counts.clone() };
        let queue = BatchSpanProcessor::builder(exporter).build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(process))
            .with_id_generator(Ids::default())
            .with_span_processor(Counted { inner: queue, counts: counts.clone() })
            .build();
        Ok(Self { provider, counts })
    }

    /// What makes spans of this process's parts, from now on.
    #[must_use]
    pub fn layer(&self) -> TraceLayer {
        let tracer = TRACER.get_or_init(|| self.provider.tracer("vouchsafe")).clone();
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_context_activation(false);
        Box::new(layer.with_filter(ours.with_max_level_hint(LevelFilter::INFO)))
    }

    /// Sends what is left, for [`FLUSH`] at most, and says what was lost.
    pub fn end(self) {
        // What it fails with was told when it was met, or follows from the numbers.
        let _ = self.provider.shutdown_with_timeout(FLUSH);
        let (ended, sent) =
            (self.counts.ended.load(Ordering::Relaxed), self.counts.sent.load(Ordering::Relaxed));
        if ended > sent {
            tracing::warn!(lost = ended - sent, sent, "spans were not delivered");
        }
    }
}

/// A message without the receiver's URL: one may have a password in it.
fn without_endpoints(message: String) -> String {
    ENDPOINTS.iter().filter_map(|name| set(name)).fold(message, |text, url| text.replace(&url, "…"))
}

/// Who tells. What the environment says wins.
fn resource(process: &str) -> Resource {
    let mut ours = vec![
        KeyValue::new("service.name", format!("vouchsafe-{process}")),
        KeyValue::new("service.version", crate::version()),
    ];
    if set("KUBERNETES_SERVICE_HOST").is_some() {
        ours.extend(set("HOSTNAME").map(|pod| KeyValue::new("k8s.pod.name", pod)));
    }
    let resource = Resource::builder_empty()
        .with_attributes(ours)
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match set("OTEL_SERVICE_NAME") {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// Counts what goes in, at the queue, and what comes out, at the exporter.
#[derive(Debug)]
struct Counted<T> {
    inner: T,
    counts: Arc<Counts>,
}

impl SpanProcessor for Counted<BatchSpanProcessor> {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl Export for Counted<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let ended = self.inner.export(batch).await;
        match &ended {
            Ok(()) => {
                self.counts.sent.fetch_add(count, Ordering::Relaxed);
                if self.counts.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("traces are delivered again");
                }
            }
            // Once, until it is there again.
            Err(error) if !self.counts.away.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "traces are not delivered; everything goes on without");
            }
            Err(_) => {}
        }
        ended
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

std::thread_local! {
    /// The ids of the next span of this thread, where they follow from a run.
    static NEXT: std::cell::Cell<Option<RunTrace>> = const { std::cell::Cell::new(None) };
}

/// Random ids, but for the span that stands for a whole run.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |run| TraceId::from(run.trace))
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |run| SpanId::from(run.root))
    }
}

/// Puts `span`, which has not begun, below what the variable `TRACEPARENT` names, if it names anything.
pub fn below_environment(span: &tracing::Span) {
    let Some(parent) = set(TRACEPARENT) else { return };
    let carrier = HashMap::from([("traceparent".to_owned(), parent)]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if context.span().span_context().is_valid() {
        // It fails where nothing is traced.
        let _ = span.set_parent(context);
    }
}

/// Something that is told once it has ended.
#[derive(Clone, Debug)]
pub struct Told {
    /// What it was.
    pub name: &'static str,
    /// When it began.
    pub began: SystemTime,
    /// What is said of it.
    pub fields: Vec<(&'static str, String)>,
    /// Why it failed, in one word.
    pub failure: Option<String>,
}

/// Tells of a whole run, which has ended now: of the span that all others of its trace are below.
pub fn tell_whole(run: RunTrace, told: Told) {
    let Some(tracer) = TRACER.get() else { return };
    NEXT.set(Some(run));
    let span = begin(tracer, &told, &Context::new());
    NEXT.set(None);
    end(span, told);
}

/// Tells of a part of a run, which has ended now.
pub fn tell_part(run: RunTrace, told: Told) {
    let Some(tracer) = TRACER.get() else { return };
    let sampled = match is_sampled(run, sampler()) {
        true => TraceFlags::SAMPLED,
        false => TraceFlags::NOT_SAMPLED,
    };
    let (trace, root) = (TraceId::from(run.trace), SpanId::from(run.root));
    let parent = SpanContext::new(trace, root, sampled, true, TraceState::default());
    end(begin(tracer, &told, &Context::new().with_remote_span_context(parent)), told);
}

fn begin(tracer: &SdkTracer, told: &Told, parent: &Context) -> opentelemetry_sdk::trace::Span {
    let fields = told.fields.iter().map(|(name, value)| KeyValue::new(*name, super::spans::short(value)));
    let builder = SpanBuilder::from_name(told.name)
        .with_kind(SpanKind::Internal)
        .with_start_time(told.began)
        .with_attributes(fields);
    tracer.build_with_context(builder, parent)
}

fn end(mut span: opentelemetry_sdk::trace::Span, told: Told) {
    if let Some(reason) = told.failure {
        span.set_status(Status::error(reason.clone()));
        span.set_attribute(KeyValue::new("error.type", reason));
    }
    span.end();
}

/// What decides of which runs traces are told: the environment.
fn sampler() -> &'static dyn ShouldSample {
    static SAMPLER: OnceLock<Box<dyn ShouldSample>> = OnceLock::new();
    &**SAMPLER.get_or_init(|| Config::default().sampler)
}

/// Whether a run is among those of which traces are told.
fn is_sampled(run: RunTrace, sampler: &dyn ShouldSample) -> bool {
    let decided = sampler.should_sample(None, TraceId::from(run.trace), "run", &SpanKind::Internal, &[], &[]);
    decided.decision == SamplingDecision::RecordAndSample
}

/// What the pods of runs are told of traces.
#[derive(Clone, Debug)]
pub struct PodTraces {
    /// Variables and their values.
    pub variables: Vec<(&'static str, String)>,
    /// Name and key of the Secret with headers; a pod whose namespace has none sends none.
    pub headers: Option<(String, String)>,
}

impl PodTraces {
    /// As this process has them. `None`: there are no traces.
    #[must_use]
    pub fn of_environment(headers: Option<(String, String)>) -> Option<Self> {
        let names = ENDPOINTS.iter().chain(&TIMEOUTS).chain(&OF_PODS);
        let variables = names.filter_map(|name| Some((*name, set(name)?))).collect();
        is_configured().then_some(Self { variables, headers })
    }
}

/// The variable `TRACEPARENT` of the processes of a run.
#[must_use]
pub fn traceparent(run: RunTrace) -> String {
    run.traceparent(is_sampled(run, sampler()))
}
