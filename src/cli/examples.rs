//! What `--help` ends with: examples that can be copied, and the environment that a command reads.

/// Variables that every command with a store reads, after those of more than that.
macro_rules! environment {
    ($($more:expr),*) => {
        concat!(
            "Environment:\n",
            $($more,)*
            "  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_PROFILE …\n",
            "                      for s3://, as the AWS SDK finds them\n",
            "  AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_ID …\n",
            "                      for azblob://, as Azure's own tools name them\n",
            "  GOOGLE_APPLICATION_CREDENTIALS …\n",
            "                      for gs://, as Google's own libraries find them\n",
            "  VOUCHSAFE_LOG, VOUCHSAFE_LOG_FORMAT\n",
            "                      as --log and --log-format"
        )
    };
}

/// The role's password.
macro_rules! password {
    () => {
        "  PGPASSWORD, PGPASSFILE, ~/.pgpass\n                      the password; it is never an argument or in a URL\n"
    };
}

/// Where programs are looked for.
macro_rules! tools {
    () => {
        "  VOUCHSAFE_PG_TOOLS  folders for after --tools, ':' between\n"
    };
}

pub(super) const ALL: &str = "\
A first backup, looked at, read again and restored:
  vouchsafe backup  --store file:///backups/shop \\
    --source postgres://backup@db.example.com/shop
  vouchsafe show    --store file:///backups/shop
  vouchsafe verify  --store file:///backups/shop
  vouchsafe restore --store file:///backups/shop \\
    --target postgres://postgres@db.example.com/shop_restored

Sizes are bytes, or have a unit: 64Mi, 50M (k M G T P, Ki Mi Gi Ti Pi).
Durations always have units: 30s, 5m, 1h30m, 2d.";

pub(super) const BACKUP: &str = concat!(
    "Examples:\n",
    "  vouchsafe backup --store file:///backups/shop \\\n",
    "    --source postgres://backup@db.example.com/shop\n",
    "  vouchsafe backup --store 's3://shop-backups/pg?region=eu-west-1' \\\n",
    "    --source postgres://backup@db.example.com/shop \\\n",
    "    --deadline 6h --rate-limit 50Mi --exclude-table 'public.*_log'\n",
    "  vouchsafe backup --store file:///backups/default \\\n",
    "    --store region=us-east1=file:///backups/us \\\n",
    "    --source postgres://backup@db.example.com/shop \\\n",
    "    --place 'public.*_us=region=us-east1' --unplaced-to-default\n",
    "\n",
    "Killed, or ended by SIGTERM: the same command goes on with its run. Ctrl-C\n",
    "voids the run.\n",
    "\n",
    environment!(password!(), tools!())
);

pub(super) const RESTORE: &str = concat!(
    "Examples:\n",
    "  vouchsafe restore --store file:///backups/shop \\\n",
    "    --target postgres://postgres@db.example.com/shop_restored\n",
    "  vouchsafe restore --store file:///backups/shop --run 12 --dry-run \\\n",
    "    --target postgres://postgres@db.example.com/shop_restored\n",
    "  vouchsafe restore --store file:///backups/shop --into-empty-schemas \\\n",
    "    --target postgres://postgres@db.example.com/shop \\\n",
    "    --include-table public.orders --owner shop --no-privileges\n",
    "  kubectl vouchsafe restore --from backup/shop-29384 \\\n",
    "    --target-secret pg-eu --target-database shop_restored\n",
    "\n",
    "Give every --store of the backup, with its locality. A new database has the\n",
    "wanted name only when it is proven; one that is there is never touched without\n",
    "--into-empty-schemas.\n",
    "\n",
    environment!(password!(), tools!())
);

pub(super) const RUN: &str = concat!(
    "Examples:\n",
    "  vouchsafe run -f shop.yaml\n",
    "  vouchsafe run -f shop.yaml --name Restore/shop-back\n",
    "\n",
    "`vouchsafe crds` prints the schema of every field; docs/run.md has a file to\n",
    "begin with.\n",
    "\n",
    environment!("  PGUSER              the role, if its Secret is not in the file\n", password!(), tools!())
);

pub(super) const LIST: &str = concat!(
    "Examples:\n",
    "  vouchsafe list --store file:///backups/shop\n",
    "  vouchsafe list --store 's3://shop-backups/pg?region=eu-west-1' --output json\n",
    "  kubectl vouchsafe list --schedule shop\n",
    "\n",
    "Exit code 0 also if there is nothing at all, which is said then.\n",
    "\n",
    environment!()
);

pub(super) const SHOW: &str = concat!(
    "Examples:\n",
    "  vouchsafe show --store file:///backups/shop\n",
    "  vouchsafe show 12 --store file:///backups/shop --output json\n",
    "  kubectl vouchsafe show backup/shop-29384\n",
    "\n",
    environment!()
);

pub(super) const VERIFY: &str = concat!(
    "Examples:\n",
    "  vouchsafe verify --store file:///backups/shop\n",
    "  vouchsafe verify 12 --store file:///backups/shop --parallelism 8\n",
    "\n",
    "Exit code 3 if anything is damaged; all of it is named.\n",
    "\n",
    environment!(tools!())
);

pub(super) const COPY: &str = concat!(
    "Examples:\n",
    "  vouchsafe copy --store file:///backups/shop --to 's3://second/shop?region=eu-west-1'\n",
    "  vouchsafe copy 12 --store file:///backups/default \\\n",
    "    --store region=us-east1=file:///backups/us \\\n",
    "    --to file:///second/default --to region=us-east1=file:///second/us\n",
    "\n",
    "Ended midway, the same command goes on. list, show, verify, diff and restore\n",
    "read a copy as they read the original; no backup or prune is made there.\n",
    "Exit code 3 if what was read back is damaged.\n",
    "\n",
    environment!(tools!())
);

pub(super) const DIFF: &str = concat!(
    "Examples:\n",
    "  vouchsafe diff 11 12 --store file:///backups/shop\n",
    "  vouchsafe diff 12 postgres://postgres@db.example.com/shop \\\n",
    "    --store file:///backups/shop\n",
    "\n",
    "Exit code 3 if anything differs, tables that only one side has included.\n",
    "\n",
    environment!(password!())
);

pub(super) const PRUNE: &str = concat!(
    "Examples:\n",
    "  vouchsafe prune --store file:///backups/shop --keep-last 3 --keep-daily 7\n",
    "  vouchsafe prune --store file:///backups/shop --keep-last 3 --keep-daily 7 --yes\n",
    "  vouchsafe prune --store file:///backups/shop --run 12 --yes\n",
    "  kubectl vouchsafe prune schedule/shop\n",
    "\n",
    "The newest backup is read to its last row before anything goes; exit code 3 if\n",
    "it is damaged. What is retired is no backup from then on; what is in it is\n",
    "deleted by a prune after the minimum age. Without rules and --run it only\n",
    "deletes what was given up before.\n",
    "\n",
    environment!(tools!())
);

pub(super) const UNLOCK: &str = concat!(
    "Examples:\n",
    "  vouchsafe unlock --store file:///backups/shop\n",
    "  vouchsafe unlock --store file:///backups/shop --run 12 --force\n",
    "\n",
    "Exit code 0 also if no run is open, which is said then; 1 if somebody is at it\n",
    "(CollectionBusy).\n",
    "\n",
    environment!()
);

pub(super) const STATUS: &str = "\
Examples:
  kubectl vouchsafe status
  kubectl vouchsafe status -A
  kubectl vouchsafe status backup/shop-29384 -n orders

Exit code 1 if the one object has failed, or isn't ready.";

pub(super) const TRIGGER: &str = "\
Examples:
  kubectl vouchsafe trigger shop
  kubectl vouchsafe trigger shop --wait && ./migrate

With --wait: exit code 0 if the Backup is proven, 3 if it found damage, 1 if it
ended otherwise, 130 after Ctrl-C: the Backup goes on then.";

pub(super) const LOGS: &str = "\
Examples:
  kubectl vouchsafe logs backup/shop-29384
  kubectl vouchsafe logs backup/shop-29384 --follow --process worker-eu

A log is there as long as its pod.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  vouchsafe completions bash > /etc/bash_completion.d/vouchsafe";
