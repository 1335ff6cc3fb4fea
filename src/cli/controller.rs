//! `vouchsafe controller`

use std::net::SocketAddr;

use clap::Args;
use futures::FutureExt;
use kube::Client;

use super::documented::reasons;
use super::{Failure, signals};
use crate::controller::lease::{self, Election, Ended, Sign, Stop};
use crate::controller::{PullPolicy, Settings, Telemetry, run};
use crate::telemetry::health::{Pages, health_router, metrics_router};
use crate::telemetry::traces::PodTraces;

#[derive(Args, Debug)]
pub(super) struct Controller {
    /// The image of the pods that it makes
    #[arg(long, value_name = "IMAGE", env = "VOUCHSAFE_IMAGE")]
    image: String,
    /// When nodes pull that image
    #[arg(long, value_name = "POLICY", env = "VOUCHSAFE_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: PullPolicy,
    /// A namespace to look at; may be repeated; absent: all
    #[arg(long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// The namespace of the Lease that the one controller holds that works; absent: none, and this one works at once
    #[arg(long, value_name = "NAMESPACE")]
    leader_election_namespace: Option<String>,
    /// The name of that Lease
    #[arg(long, value_name = "NAME", default_value = lease::NAME)]
    leader_election_name: String,
    /// The Secret and its key with the headers of traces that pods of runs send, in the namespace of each run
    #[arg(long, value_name = "NAME/KEY", value_parser = name_and_key)]
    otlp_headers_secret: Option<(String, String)>,
    /// Where /metrics is served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    metrics_address: SocketAddr,
    /// Where /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    health_address: SocketAddr,
}

fn name_and_key(text: &str) -> Result<(String, String), String> {
    let (name, key) = text.split_once('/').ok_or("write NAME/KEY")?;
    Ok((name.to_owned(), key.to_owned()))
}

impl Controller {
    pub(super) async fn execute(self) -> Result<(), Failure> {
        let client = Client::try_default().await.map_err(|error| {
            let hint = "in a pod, its ServiceAccount says how; elsewhere, KUBECONFIG or ~/.kube/config";
            Failure::usage(format!("the Kubernetes API can't be reached: {error}"), hint)
        })?;
        let interrupt = signals::interrupt()?;
        let stop: Stop = async move { interrupt.wait().await }.boxed().shared();
        let telemetry = Telemetry::new(reasons());
        let metrics = metrics_router(telemetry.metrics.clone());
        let health = health_router(telemetry.health.clone());
        let pages = [
            ("--metrics-address", self.metrics_address, metrics),
            ("--health-address", self.health_address, health),
        ];
        let mut served = tokio::task::JoinSet::new();
        for (option, address, router) in pages {
            let listening = Pages::listen(address, router).await.map_err(|error| {
                let message = format!("{option} {address}: {error}");
                Failure::usage(message, "give an address of this machine and a port that is free")
            })?;
            let address = listening.address().unwrap_or(address);
            tracing::info!(%address, "{option}");
            served.spawn(listening.serve());
        }
        let traces = PodTraces::of_environment(self.otlp_headers_secret);
        let settings = Settings {
            image: self.image,
            pull_policy: self.image_pull_policy,
            namespaces: self.namespaces,
            traces,
        };
        let work = |stop: Stop| run(client.clone(), settings.clone(), telemetry.clone(), stop);
        let ended = match self.leader_election_namespace {
            None => {
                telemetry.leads(true);
                work(stop.clone()).await;
                if stop.now_or_never().is_some() { Ended::Stopped } else { Ended::WorkEnded }
            }
            Some(namespace) => {
                let election = Election {
                    namespace,
                    name: self.leader_election_name,
                    identity: lease::identity(),
                    timing: lease::candidate::Timing::default(),
                };
                let telemetry = telemetry.clone();
                let signs = move |sign| match sign {
                    Sign::Answered(answered) => telemetry.health.reached(answered),
                    Sign::Leads(leads) => telemetry.leads(leads),
                };
                lease::lead(client.clone(), election, stop, signs, work).await
            }
        };
        match ended {
            Ended::Stopped => Ok(()),
            Ended::WorkEnded => {
                Err(Failure::internal("a watch of the Kubernetes API ended unasked".to_owned()))
            }
        }
    }
}
