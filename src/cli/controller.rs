//! `vouchsafe controller`

use clap::Args;
use kube::Client;

use super::{Failure, signals};
use crate::controller::{Settings, run};

#[derive(Args, Debug)]
pub(super) struct Controller {
    /// The image of the pods that it makes
    #[arg(long, value_name = "IMAGE", env = "VOUCHSAFE_IMAGE")]
    image: String,
    /// A namespace to look at; may be repeated; absent: all
    #[arg(long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
}

impl Controller {
    pub(super) async fn execute(self) -> Result<(), Failure> {
        let client = Client::try_default().await.map_err(|error| {
            let hint = "in a pod, its ServiceAccount says how; elsewhere, KUBECONFIG or ~/.kube/config";
            Failure::usage(format!("the Kubernetes API can't be reached: {error}"), hint)
        })?;
        let interrupt = signals::interrupt()?;
        let settings = Settings { image: self.image, namespaces: self.namespaces };
        run(client, settings, async move { interrupt.wait().await }).await;
        Ok(())
    }
}
