//! `kubectl vouchsafe logs BACKUP|RESTORE`

use std::collections::HashSet;
use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::log_lines::{CONTAINER, Line, LogLine, Origin, has_ended, has_log, oldest, shown, split};
use super::object::{Object, Run, Wanted};
use super::{Asked, Cluster, ClusterArguments, ClusterReason, follow};
use crate::api::{Backup, Kind, Restore};
use crate::cli::{Failure, OutputFormat, output, signals};
use crate::controller::pods::UID;
use crate::engine::interrupt::Interrupt;

/// Lines that wait to be written: a slow terminal slows the readers down, and not the pods.
const WAITING_LINES: usize = 1024;

/// Tries of one pod's log without a line in between, once a connection broke: the kubelet restarts in seconds.
const TRIES: u32 = 5;

/// How long the last pods of a run that is over may take to end: a pod that is told to go has 30 s.
const GRACE: Duration = Duration::from_secs(35);

#[derive(Args, Debug)]
pub(in crate::cli) struct Logs {
    /// backup/NAME or restore/NAME, or the name alone
    #[arg(value_name = "BACKUP|RESTORE")]
    object: Wanted,
    /// Go on with new lines and new pods until the run has ended
    #[arg(short = 'f', long)]
    follow: bool,
    /// One process alone: coordinator, worker-eu, verifier-eu; or one role: worker
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Logs {
    pub(in crate::cli) async fn execute(self, output: OutputFormat) -> Result<(), Failure> {
        let interrupt = signals::interrupt()?;
        let cluster = self.cluster.connect().await?;
        let object = cluster.find(&self.object, &[Kind::Backup, Kind::Restore], "read the logs of").await?;
        let Some(run) = object.run() else {
            return Err(Failure::internal("a run was looked for, and something else found"));
        };
        let reader = Reader {
            labels: format!("{UID}={}", run.uid()),
            title: run.title(),
            process: self.process.clone(),
            writer: Writer { output, coloured: std::io::stdout().is_terminal() && colours_wanted() },
            cluster,
        };
        if self.follow && !run.is_over() {
            let (name, uid) = (object.name(), run.uid());
            return match &object {
                Object::Restore(_) => {
                    reader.follow(follow::states::<Restore>(&reader.cluster, name, uid), &interrupt).await
                }
                _ => reader.follow(follow::states::<Backup>(&reader.cluster, name, uid), &interrupt).await,
            };
        }
        tokio::select! {
            all = reader.all() => all,
            () = interrupt.wait() => Err(stopped(&reader.title)),
        }
    }
}

/// <https://no-color.org>
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn stopped(title: &str) -> Failure {
    Failure::stopped_waiting(format!("the logs of {title} were not read to their end"), "run it again")
}

#[derive(Clone, Copy, Debug)]
struct Writer {
    output: OutputFormat,
    coloured: bool,
}

impl Writer {
    /// False: nobody reads any more.
    fn write(self, line: &Line) -> Result<bool, Failure> {
        match self.output {
            OutputFormat::Text => output::print_if_read(&shown(&line.origin, &line.text, self.coloured)),
            OutputFormat::Json => {
                let text = serde_json::to_string(&LogLine::of(line))
                    .map_err(|error| Failure::internal(format!("a line is no JSON: {error}")))?;
                output::print_if_read(&text)
            }
        }
    }
}

struct Reader {
    cluster: Cluster,
    labels: String,
    title: String,
    process: Option<String>,
    writer: Writer,
}

impl Reader {
    /// The pods of the run that have a log, with whose they are.
    async fn pods(&self) -> Result<Vec<(Pod, Origin)>, Failure> {
        let pods = self.cluster.list::<Pod>(false, Some(&self.labels)).await?;
        let jobs = self.cluster.list::<Job>(false, Some(&self.labels)).await?;
        let all: Vec<_> = pods.into_iter().map(|pod| (Origin::of(&pod, &jobs), pod)).collect();
        let mut known: Vec<String> = all.iter().map(|(origin, _)| origin.process.clone()).collect();
        known.sort();
        known.dedup();
        let wanted = |origin: &Origin| self.process.as_deref().is_none_or(|process| origin.is_of(process));
        let chosen: Vec<_> = all
            .into_iter()
            .filter(|(origin, pod)| wanted(origin) && has_log(pod))
            .map(|(origin, pod)| (pod, origin))
            .collect();
        if chosen.is_empty() {
            let message = match &self.process {
                Some(process) => format!("no pod of {}'s process {process} has a log", self.title),
                None => format!("no pod of {} has a log", self.title),
            };
            let hint = match &known[..] {
                [] => format!(
                    "its pods are gone, or none was started yet: kubectl vouchsafe status {}; --follow waits",
                    self.title
                ),
                known => format!("pods are there of {}; --follow waits for more", known.join(", ")),
            };
            return Err(Failure::of_cluster(ClusterReason::NoLogs, message, hint));
        }
        Ok(chosen)
    }

    /// What there is, ordered by time.
    async fn all(&self) -> Result<(), Failure> {
        let api = self.cluster.api::<Pod>();
        let asked = Asked::of::<Pod>("get the logs of", Some(&self.cluster.namespace));
        let mut logs = Vec::new();
        let mut lost = Vec::new();
        for (pod, origin) in self.pods().await? {
            match api.log_stream(&pod.name_any(), &parameters(false, None)).await {
                Ok(stream) => logs.push((origin, Box::pin(stream.lines()))),
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                    return Err(asked.failed(kube::Error::Api(status)));
                }
                Err(error) => lost.push(format!("{}: {}", origin.label(), said(&error))),
            }
        }
        let mut heads = Vec::with_capacity(logs.len());
        for (origin, stream) in &mut logs {
            heads.push(next(origin, stream, &mut lost).await);
        }
        loop {
            let times: Vec<_> = heads.iter().map(|head| head.as_ref().map(|(time, _)| *time)).collect();
            let Some(number) = oldest(&times) else { break };
            let (origin, stream) = &mut logs[number];
            if let Some((time, text)) = heads[number].take()
                && !self.writer.write(&Line { origin: origin.clone(), time, text })?
            {
                return Ok(());
            }
            heads[number] = next(origin, stream, &mut lost).await;
        }
        incomplete(&lost)
    }

    /// What there is and what comes, until the run has ended and with it its pods.
    async fn follow<K: Run>(
        &self,
        states: impl futures::Stream<Item = Result<K, Failure>>,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let api = self.cluster.api::<Pod>();
        let config = watcher::Config::default().labels(&self.labels);
        let mut pods = pin!(watcher(api.clone(), config).default_backoff().applied_objects());
        let mut states = pin!(states);
        let (send, mut lines) = mpsc::channel::<Line>(WAITING_LINES);
        let mut readers: JoinSet<Result<(), String>> = JoinSet::new();
        let mut begun = HashSet::new();
        let mut lost = Vec::new();
        let mut over: Option<tokio::time::Instant> = None;
        loop {
            let end = over.unwrap_or_else(|| tokio::time::Instant::now() + GRACE);
            tokio::select! {
                // What is there is written before anything else is looked at.
                biased;
                Some(line) = lines.recv() => if !self.writer.write(&line)? {
                    return Ok(());
                },
                () = interrupt.wait() => return Err(stopped(&self.title)),
                Some(ended) = readers.join_next() => {
                    match ended {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => lost.push(why),
                        Err(error) => lost.push(error.to_string()),
                    }
                    if over.is_some() && readers.is_empty() {
                        break;
                    }
                }
                Some(pod) = pods.next() => match pod {
                    Ok(pod) => self.begin(pod, &mut begun, &mut readers, &send).await?,
                    // The watch tries again by itself; who may not watch learns it from the run's own watch.
                    Err(error) => tracing::warn!(error = output::chain(&error), "pods can't be watched"),
                },
                state = states.next(), if over.is_none() => {
                    let Some(state) = state else {
                        return Err(Failure::internal("a watch without an end has ended"));
                    };
                    if state?.is_over() {
                        // Pods that ended before the watch told of them.
                        for pod in self.cluster.list::<Pod>(false, Some(&self.labels)).await? {
                            self.begin(pod, &mut begun, &mut readers, &send).await?;
                        }
                        over = Some(tokio::time::Instant::now() + GRACE);
                        if readers.is_empty() {
                            break;
                        }
                    }
                }
                () = tokio::time::sleep_until(end), if over.is_some() => break,
            }
        }
        drop(send);
        if !readers.is_empty() {
            lost.push(format!("{} pods did not end with the run", readers.len()));
        }
        readers.abort_all();
        while let Some(line) = lines.recv().await {
            if !self.writer.write(&line)? {
                return Ok(());
            }
        }
        incomplete(&lost)
    }

    /// Begins to read a pod's log, if it has one, is wanted, and isn't read yet.
    async fn begin(
        &self,
        pod: Pod,
        begun: &mut HashSet<String>,
        readers: &mut JoinSet<Result<(), String>>,
        send: &mpsc::Sender<Line>,
    ) -> Result<(), Failure> {
        let uid = pod.uid().unwrap_or_default();
        if !has_log(&pod) || begun.contains(&uid) {
            return Ok(());
        }
        let jobs = self.cluster.list::<Job>(false, Some(&self.labels)).await?;
        let origin = Origin::of(&pod, &jobs);
        begun.insert(uid);
        if self.process.as_deref().is_none_or(|process| origin.is_of(process)) {
            readers.spawn(read(self.cluster.api::<Pod>(), origin, send.clone()));
        }
        Ok(())
    }
}

fn parameters(follow: bool, since: Option<Timestamp>) -> LogParams {
    LogParams {
        container: Some(CONTAINER.to_owned()),
        follow,
        timestamps: true,
        // The request has whole seconds, rounded: one earlier, and what was read is left out.
        since_time: since.map(|time| time - SignedDuration::from_secs(1)),
        ..LogParams::default()
    }
}

/// The next line of a log; a broken one is at its end, and noted.
async fn next(
    origin: &Origin,
    stream: &mut (impl futures::Stream<Item = std::io::Result<String>> + Unpin),
    lost: &mut Vec<String>,
) -> Option<(Option<Timestamp>, String)> {
    match stream.try_next().await {
        Ok(line) => line.map(|line| {
            let (time, text) = split(&line);
            (time, text.to_owned())
        }),
        Err(error) => {
            lost.push(format!("{}: {error}", origin.label()));
            None
        }
    }
}

/// Follows one pod's log to its end; a broken connection is made again, and goes on after the last line.
async fn read(api: Api<Pod>, origin: Origin, send: mpsc::Sender<Line>) -> Result<(), String> {
    let mut last: Option<Timestamp> = None;
    let mut failed = 0;
    loop {
        let broken = match api.log_stream(&origin.pod, &parameters(true, last)).await {
            // A pod that is gone; of one that is there, the node may be.
            Err(kube::Error::Api(status))
                if status.code == 404 && status.details.as_ref().is_some_and(|it| it.kind == "pods") =>
            {
                return Ok(());
            }
            Err(error) => Some(said(&error)),
            Ok(stream) => {
                let mut lines = Box::pin(stream.lines());
                loop {
                    match lines.try_next().await {
                        Ok(None) => break None,
                        Err(error) => break Some(error.to_string()),
                        Ok(Some(line)) => {
                            let (time, text) = split(&line);
                            if time.is_some() && time <= last {
                                continue;
                            }
                            last = time.or(last);
                            failed = 0;
                            if send
                                .send(Line { origin: origin.clone(), time, text: text.to_owned() })
                                .await
                                .is_err()
                            {
                                return Ok(());
                            }
                        }
                    }
                }
            }
        };
        // A log also ends where the kubelet restarts or the file is rotated.
        let over = match api.get_opt(&origin.pod).await {
            Ok(pod) => pod.is_none_or(|pod| has_ended(&pod)),
            Err(_) => false,
        };
        match broken {
            None if over => return Ok(()),
            why if failed == TRIES => {
                let why = why.unwrap_or_else(|| "it ends before the pod does".to_owned());
                return Err(format!("{}: {why}", origin.label()));
            }
            _ => failed += 1,
        }
        tokio::time::sleep(Duration::from_secs(1 << failed.min(4))).await;
    }
}

/// An error in the words of the server, where it has said something.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => output::chain(error),
    }
}

fn incomplete(lost: &[String]) -> Result<(), Failure> {
    if lost.is_empty() {
        return Ok(());
    }
    let message = format!("some logs could not be read to their end: {}", lost.join("; "));
    let hint = "does the node answer? kubectl get nodes; a log goes with its pod and its node";
    Err(Failure::of_cluster(ClusterReason::LogsIncomplete, message, hint))
}
