//! The API server that these tests share, with our definitions in it.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{GroupVersionKind, Request};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, Config};
use serde_json::Value;
use testbed::ApiServer;
use tokio::runtime::Runtime;

/// The namespace of what names none.
pub(crate) const NAMESPACE: &str = "shop";

/// Where the chart puts the controller.
pub(crate) const CONTROLLERS: &str = "vouchsafe-system";

/// The API server, and its administrator.
pub(crate) struct Server {
    pub(crate) testbed: &'static ApiServer,
    runtime: Runtime,
    administrator: Client,
}

/// One for all tests, with the CRDs established.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let testbed = testbed::shared_api_server();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let administrator = client(&runtime, &testbed.kubeconfig());
        let server = Server { testbed, runtime, administrator };
        server.kubectl(&["apply", "--server-side", "-f", &at("crds")]);
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", &at("crds")];
        server.kubectl(&wait);
        for namespace in [NAMESPACE, CONTROLLERS] {
            server.kubectl(&["create", "namespace", namespace]);
            // No controller makes it, and pods are refused without.
            server.kubectl(&["create", "serviceaccount", "default", "-n", namespace]);
        }
        server
    })
}

/// A path of the project.
pub(crate) fn at(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// One document of YAML.
pub(crate) fn object(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))
}

/// All documents of a YAML stream, empty ones left out.
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents = format!("\n{yaml}");
    let documents = documents.split("\n---").map(|text| text.trim_start_matches(['-', ' ']));
    let filled = |text: &&str| text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
    documents.filter(filled).map(object).collect()
}

/// What a program wrote; its complaints when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|cause| panic!("can't run {command:?}: {cause}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr) + &text(&output.stdout))
    }
}

fn client(runtime: &Runtime, kubeconfig: &Path) -> Client {
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
        Client::try_from(config).expect("a client")
    })
}

impl Server {
    /// kubectl as the administrator, which must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        output(self.testbed.kubectl().args(arguments))
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// A client of somebody else.
    pub(crate) fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        client(&self.runtime, &self.testbed.kubeconfig_as(user, groups))
    }

    /// Applies `object` as a dry run, as `kubectl apply --server-side --dry-run=server` does.
    pub(crate) fn try_out(&self, object: &Value) -> Result<(), String> {
        self.try_out_as(&self.administrator, object)
    }

    pub(crate) fn try_out_as(&self, client: &Client, object: &Value) -> Result<(), String> {
        self.apply(client, object, true).map(drop)
    }

    /// Applies `object`.
    pub(crate) fn keep(&self, object: &Value) -> Result<Value, String> {
        self.apply(&self.administrator, object, false)
    }

    fn apply(&self, client: &Client, object: &Value, dry_run: bool) -> Result<Value, String> {
        let parameters = PatchParams {
            dry_run,
            force: true,
            field_manager: Some("tests".into()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.runtime.block_on(async {
            let api = self.api(client, object).await?;
            let applied = api.patch(name, &parameters, &Patch::Apply(object)).await.map_err(said)?;
            Ok(serde_json::to_value(applied).expect("an object"))
        })
    }

    /// Creates `object` as a dry run, as `kubectl create --dry-run=server` does: unlike an apply, what is wrong with
    /// it is said by its schema alone, and all of it at once.
    pub(crate) fn try_create(&self, object: &Value) -> Result<(), String> {
        self.runtime.block_on(async {
            let resources = self.api(&self.administrator, object).await?;
            let parameters = PostParams { dry_run: true, field_manager: None };
            let body = serde_json::to_vec(object).expect("JSON");
            let mut request =
                Request::new(resources.resource_url()).create(&parameters, body).expect("a request");
            *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri()).parse().expect("a URI");
            self.administrator.request::<DynamicObject>(request).await.map(drop).map_err(said)
        })
    }

    /// Replaces the status of an object by an apply; what the server has then, or what it says against it.
    pub(crate) fn set_status(&self, object: &Value, status: &Value) -> Result<Value, String> {
        self.set_status_as(&self.administrator, object, status)
    }

    /// The same by somebody else.
    pub(crate) fn set_status_as(
        &self,
        client: &Client,
        object: &Value,
        status: &Value,
    ) -> Result<Value, String> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let patch = serde_json::json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"], "status": status,
        });
        let parameters = PatchParams::apply("tests").force();
        self.runtime.block_on(async {
            let api = self.api(client, object).await?;
            let applied = api.patch_status(name, &parameters, &Patch::Apply(&patch)).await.map_err(said)?;
            Ok(serde_json::to_value(applied).expect("an object"))
        })
    }

    async fn api(&self, client: &Client, object: &Value) -> Result<Api<DynamicObject>, String> {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let gvk = GroupVersionKind::gvk(group, version, &kind);
        // Our own, without asking what every stranger may not know.
        if group == vouchsafe::api::GROUP {
            let resource = ApiResource::from_gvk(&gvk);
            return Ok(Api::namespaced_with(client.clone(), namespace_of(object), &resource));
        }
        let (resource, capabilities) = pinned_kind(&self.administrator, &gvk)
            .await
            .map_err(|error| format!("{kind}: {}", said(error)))?;
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(client.clone(), namespace_of(object), &resource),
        })
    }
}

/// The API server learns of policies and roles by watches of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `look` is content, and says what it last said when it never is.
pub(crate) fn until(what: &str, look: impl Fn() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(said) = look() {
        assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}: {said}");
    }
}

fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE)
}

fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => format!("{other:?}"),
    }
}
