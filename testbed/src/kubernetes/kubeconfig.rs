//! Kubeconfigs: who asks the API server.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{ADMIN_TOKEN, ApiServer, answered, write};

impl ApiServer {
    /// The administrator's, who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        let file = self.folder.join("admin.kubeconfig");
        if !file.exists() {
            self.write_kubeconfig(file.clone(), &format!("token: {ADMIN_TOKEN}"));
        }
        file
    }

    /// Somebody else's, whom the administrator impersonates: RBAC and admission see `user` with `groups` only.
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> PathBuf {
        // JSON is YAML.
        let groups = groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(", ");
        let user = format!("token: {ADMIN_TOKEN}, as: {user:?}, as-groups: [{groups}]");
        let file = self.fresh_kubeconfig("impersonated");
        self.write_kubeconfig(file.clone(), &user);
        file
    }

    /// A ServiceAccount's, with a token of its own, good for an hour, as a pod has it.
    ///
    /// # Panics
    /// When there is no such ServiceAccount.
    pub fn kubeconfig_of_account(&self, namespace: &str, account: &str) -> PathBuf {
        self.kubeconfig_of_token("account", &self.account_token(namespace, account))
    }

    /// A token of a ServiceAccount, good for an hour.
    ///
    /// # Panics
    /// When there is no such ServiceAccount.
    pub fn account_token(&self, namespace: &str, account: &str) -> String {
        answered(self.kubectl().args(["create", "token", account, "--namespace", namespace]))
    }

    pub(super) fn kubeconfig_of_token(&self, stem: &str, token: &str) -> PathBuf {
        let file = self.fresh_kubeconfig(stem);
        self.write_kubeconfig(file.clone(), &format!("token: {token}"));
        file
    }

    fn fresh_kubeconfig(&self, stem: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        self.folder.join(format!("{stem}-{}.kubeconfig", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn write_kubeconfig(&self, file: PathBuf, user: &str) {
        let (url, authority) = (self.url(), self.authority().display().to_string());
        let text = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: testbed, cluster: {{server: {url:?}, certificate-authority: {authority:?}}}}}]\n\
             users: [{{name: me, user: {{{user}}}}}]\n\
             contexts: [{{name: testbed, context: {{cluster: testbed, user: me}}}}]\n\
             current-context: testbed\n"
        );
        // Whole or not there: two tests may ask for the administrator's at once.
        let unfinished = self.fresh_kubeconfig("unfinished");
        write(&unfinished, &text);
        std::fs::rename(&unfinished, &file)
            .unwrap_or_else(|cause| panic!("can't write {}: {cause}", file.display()));
    }
}
