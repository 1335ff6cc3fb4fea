//! Peak memory of the whole process.

use crate::data::MEMORY;
use crate::figures::Bench;
use crate::ours;

/// One peak: what was done, and KiB.
pub(crate) type Peak = (String, u64);

/// Backs up, verifies and restores each table by itself.
pub(crate) fn measure(bench: &Bench) -> Vec<Peak> {
    let mut peaks = Vec::new();
    for (table, what) in
        [("small", "a table"), ("large", "a table 16 times the size"), ("single", "one value of 256 MiB")]
    {
        let store = bench.fresh("memory");
        let url = ours::folder_url(&store);
        let made = bench.back_up(MEMORY, &url, &["--include-table", &format!("public.{table}")], false);
        let verified = ours::run(&["verify", "--store", &url, "--tools", &ours::tools(&bench.server)], &[]);
        let restored = bench.restore(&store, "restored_for_memory");
        bench.server.psql("postgres", "DROP DATABASE restored_for_memory").unwrap();
        for (verb, run) in [("backup", made), ("verify", verified), ("restore", restored)] {
            println!("  {verb} of {what}: {} MiB", run.peak_kib / 1024);
            peaks.push((format!("{verb} of {what}"), run.peak_kib));
        }
    }
    peaks
}
