//! The controller's requests that change something, by name: what each says, and not when it comes. So a write has
//! the same name in every run of one scenario, however often it is repeated.

use std::collections::BTreeMap;

use serde_json::Value;

/// One request that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its kind, for tables: `create Job`.
    pub kind: String,
    /// What it says, without `, `, at which names of cases are told apart.
    pub says: String,
}

impl Write {
    /// The kind with what it says.
    pub fn name(&self) -> String {
        format!("{} {}", self.kind, self.says).trim_end().to_owned()
    }

    /// That of a request; `None` for one that changes nothing. `jobs` knows Jobs that were made before, by name.
    pub fn of(method: &str, path: &str, body: &[u8], jobs: &mut BTreeMap<String, String>) -> Option<Self> {
        let verb = match method {
            "POST" => "create",
            "PUT" => "replace",
            "PATCH" => "apply",
            "DELETE" => "delete",
            _ => return None,
        };
        let (_, within) = path.split_once("/namespaces/").unwrap_or_else(|| panic!("{method} {path}"));
        let within: Vec<&str> = within.split('/').skip(1).collect();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() };
        let (kind, says) = match (verb, &within[..]) {
            ("create", ["jobs"]) => {
                let says = process(&body);
                jobs.insert(text(&body["metadata"]["name"]), says.clone());
                ("create Job".to_owned(), says)
            }
            ("delete", ["jobs", name]) => {
                let says = jobs.get(*name).unwrap_or_else(|| panic!("{name} was made by no controller"));
                ("delete Job".to_owned(), says.clone())
            }
            ("create", [resource @ ("events" | "leases")]) => {
                let said = [&body["reason"], &body["regarding"]["kind"]].map(text).join(" ");
                (format!("create {}", singular(resource)), said.trim().to_owned())
            }
            ("replace", ["leases", _]) => ("replace Lease".to_owned(), String::new()),
            ("create", [resource]) => (format!("create {}", singular(resource)), owner(&body)),
            ("apply", [resource, _, "status"]) => {
                (format!("status of {}", singular(resource)), status(&body["status"]))
            }
            ("apply", [resource, _]) => (format!("mark of {}", singular(resource)), String::new()),
            _ => panic!("a write of no known kind: {method} {path}"),
        };
        Some(Self { kind, says })
    }
}

fn singular(resource: &str) -> &str {
    match resource {
        "backups" => "Backup",
        "restores" => "Restore",
        "backupstores" => "BackupStore",
        "serviceaccounts" => "ServiceAccount",
        "roles" => "Role",
        "rolebindings" => "RoleBinding",
        "configmaps" => "ConfigMap",
        "events" => "Event",
        "leases" => "Lease",
        _ => panic!("{resource} is nothing that the controller writes"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The kind of the resource that an object is of.
pub fn owner(object: &Value) -> String {
    text(&object["metadata"]["annotations"]["vouchsafe.dev/kind"])
}

/// Whose, which process, and which attempt: `Backup worker-eu.1`.
pub fn process(job: &Value) -> String {
    let annotation = |name: &str| text(&job["metadata"]["annotations"][name]);
    let (process, attempt) = (annotation("vouchsafe.dev/process"), annotation("vouchsafe.dev/attempt"));
    format!("{} {process}.{attempt}", owner(job))
}

/// How far it is, and each process: `Exporting coordinator.1=Running worker-eu.1=Waiting`.
fn status(status: &Value) -> String {
    let mut words = vec![text(&status["phase"])];
    let holds = |it: &&Value| it["type"] == "Suspended" && it["status"] == "True";
    words.extend(
        status["conditions"].as_array().into_iter().flatten().find(holds).map(|_| "Suspended".into()),
    );
    for process in status["processes"].as_array().into_iter().flatten() {
        let name = text(&process["name"]);
        words.push(format!("{name}.{}={}", process["attempt"], text(&process["state"])));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}
