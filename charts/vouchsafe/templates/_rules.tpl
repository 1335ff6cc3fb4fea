{{- /* What the controller may do in a namespace that it works in. No Secret, no escalate, no bind: so it holds
itself what it grants to the coordinator or restorer of a run, to read its own resource and to write its progress. */ -}}
{{- define "vouchsafe.rules" -}}
- apiGroups: [vouchsafe.dev]
  resources: [backups]
  # create and delete: schedules make Backups, and remove those that retention let go.
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [vouchsafe.dev]
  resources: [backupschedules, backupstores, restores]
  verbs: [get, list, watch, patch]
- apiGroups: [vouchsafe.dev]
  resources: [backups/status, backupschedules/status, backupstores/status, restores/status]
  verbs: [patch]
- apiGroups: [vouchsafe.dev]
  # For owner references where OwnerReferencesPermissionEnforcement is on, as on OpenShift.
  resources: [backups/finalizers, backupschedules/finalizers, backupstores/finalizers, restores/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  # What a run is given, and who its pods are. They go with their owner, by the garbage collector.
  resources: [configmaps, serviceaccounts]
  verbs: [get, create]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create]
- apiGroups: [events.k8s.io]
  # list: why the pod of a Job is refused is told there alone, by Kubernetes' Job controller.
  resources: [events]
  verbs: [create, patch, list]
{{- end }}
