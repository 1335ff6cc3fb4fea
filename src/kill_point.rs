//! Named places at which the test build can be made to die, or to stand still: a process that ends between any
//! two of its effects must leave something that the same command brings to a good end.
//!
//! A debug build reads the name of one place from `VOUCHSAFE_KILL_AT` (SIGKILL) or `VOUCHSAFE_STOP_AT`
//! (SIGSTOP, once); `NAME@3` is the third time that it is passed. What has fired is said on standard error,
//! because a kill that never happened shows nothing. A release build has no such places.

/// This process passes the place `doing what`.
#[cfg(debug_assertions)]
pub(crate) fn passed(doing: &str, what: &str) {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
    if let Some(chosen) = CHOSEN.get_or_init(Chosen::of_environment) {
        chosen.passed(doing, what);
    }
}

/// This process passes the place `doing what`, which in a release build is none.
#[cfg(not(debug_assertions))]
pub(crate) const fn passed(_doing: &str, _what: &str) {}

#[cfg(debug_assertions)]
struct Chosen {
    name: String,
    /// Times that it is still passed unharmed.
    before: std::sync::atomic::AtomicI64,
    signal: rustix::process::Signal,
}

#[cfg(debug_assertions)]
impl Chosen {
    fn of_environment() -> Option<Self> {
        use rustix::process::Signal;

        let of = |variable, signal| Some((std::env::var(variable).ok()?, signal));
        let (text, signal) =
            of("VOUCHSAFE_KILL_AT", Signal::KILL).or_else(|| of("VOUCHSAFE_STOP_AT", Signal::STOP))?;
        let (name, nth) = match text.rsplit_once('@') {
            Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Some(Self { name, before: std::sync::atomic::AtomicI64::new(nth - 1), signal })
    }

    fn passed(&self, doing: &str, what: &str) {
        let here = self.name.strip_prefix(doing).and_then(|rest| rest.strip_prefix(' ')) == Some(what);
        if !here || self.before.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) != 0 {
            return;
        }
        eprintln!("signalled at: {}", self.name);
        // The kernel hands a signal to the thread that was named, where it can: this one is then stopped before it goes
        // on. Named by the process, another thread takes it, and this one gets some way further meanwhile.
        if let Err(error) = rustix::process::kill_process(this_thread(), self.signal) {
            eprintln!("and not signalled: {error}");
        }
    }
}

/// `/proc/thread-self` is a link to `<process>/task/<thread>` (proc(5)).
#[cfg(debug_assertions)]
fn this_thread() -> rustix::process::Pid {
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    let thread = link.file_name().and_then(|name| name.to_str()?.parse().ok());
    thread.and_then(rustix::process::Pid::from_raw).unwrap_or_else(rustix::process::getpid)
}
