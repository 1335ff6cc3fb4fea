//! A store in memory in which every request waits until the scheduler grants it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use bytes::Bytes;
use vouchsafe::format::Key;
use vouchsafe::store::StoreErrorKind;

/// What a store does with a create whose name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creates {
    /// Refuses it.
    Once,
    /// Overwrites: a store without conditional create, which a probe refuses.
    Overwriting,
}

/// What a listing shows. It may be stale, so it may leave out anything; what it shows is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listings {
    /// The claims as they are.
    Claims,
    /// Nothing.
    Stale,
}

/// What the store does where stores differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) creates: Creates,
    pub(crate) listings: Listings,
}

/// A request that a process has sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Create(Key),
    Get(Key),
    Head(Key),
    List(Option<Key>),
}

/// An object. Its bytes hold random nonces and times, which no two executions share; the label is the same in
/// all executions in which its writer had seen the same before.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) body: Bytes,
    pub(crate) label: u64,
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Done,
    Found(Stored),
    Keys(Vec<Key>),
    Refused(StoreErrorKind),
}

/// How a process stands.
#[derive(Clone, Debug, Default)]
struct Line {
    request: Option<(Request, Bytes)>,
    answer: Option<Answer>,
    answers: usize,
    /// A digest of everything that it was told so far. What a process is depends on nothing else.
    seen: u64,
    /// Lengths of what it has sent. A document's length varies with the time in it, and no schedule may depend
    /// on that: whoever asks for the head of a name under which it has sent something hears the length of that.
    sent: BTreeMap<Key, u64>,
    /// It does what it can be told to stop.
    listens: bool,
    told_to_stop: bool,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Key, Stored>,
    lines: Vec<Line>,
    late: Vec<(Key, Stored)>,
}

/// All processes' store.
#[derive(Debug)]
pub(crate) struct World {
    manners: Manners,
    state: Mutex<State>,
}

fn digest(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl State {
    fn answer(&mut self, process: usize, answer: Answer) {
        let line = &mut self.lines[process];
        let told = match &answer {
            Answer::Done => digest(1),
            Answer::Found(stored) => digest((2, stored.label)),
            Answer::Keys(keys) => digest((3, keys)),
            Answer::Refused(kind) => digest((4, kind)),
        };
        line.answers += 1;
        line.seen = digest((line.seen, told));
        line.answer = Some(answer);
    }

    fn digest(&self) -> u64 {
        let objects: Vec<u64> =
            self.objects.iter().map(|(key, stored)| digest((key, stored.label))).collect();
        digest(objects)
    }

    /// Takes a process's request off its line, as the scheduler has decided about it.
    fn take(&mut self, process: usize) -> (Request, Stored) {
        let line = &mut self.lines[process];
        let (request, body) = line.request.take().expect("only a process that waits is scheduled");
        (request, Stored { body, label: digest((process, line.seen)) })
    }

    fn create(&mut self, creates: Creates, key: Key, stored: Stored) -> Answer {
        if creates == Creates::Once && self.objects.contains_key(&key) {
            return Answer::Refused(StoreErrorKind::AlreadyExists);
        }
        // What was sent before and is still on its way can change nothing any more.
        if creates == Creates::Once {
            self.late.retain(|(late, _)| *late != key);
        }
        self.objects.insert(key, stored);
        Answer::Done
    }

    /// The process's create leaves it and is on its way.
    fn send_off(&mut self, creates: Creates, process: usize) {
        let (request, stored) = self.take(process);
        if let Request::Create(key) = request
            && (creates == Creates::Overwriting || !self.objects.contains_key(&key))
        {
            self.late.push((key, stored));
        }
    }
}

impl World {
    pub(crate) fn new(manners: Manners, processes: usize) -> Arc<Self> {
        let state = State { lines: vec![Line::default(); processes], ..State::default() };
        Arc::new(Self { manners, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no execution panics while it holds the lock")
    }

    /// Sends a request and waits until the scheduler lets it be answered.
    pub(crate) async fn ask(&self, process: usize, request: Request, body: Bytes) -> Answer {
        {
            let line = &mut self.state().lines[process];
            if let Request::Create(key) = &request {
                line.sent.insert(key.clone(), body.len() as u64);
            }
            line.request = Some((request, body));
        }
        poll_fn(|_| match self.state().lines[process].answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    /// The length of what the process has sent under this name.
    pub(crate) fn length_sent(&self, process: usize, key: &Key) -> Option<u64> {
        self.state().lines[process].sent.get(key).copied()
    }

    /// The request that `process` waits with.
    pub(crate) fn waiting(&self, process: usize) -> Option<Request> {
        self.state().lines[process].request.as_ref().map(|(request, _)| request.clone())
    }

    /// Whether the answer to the process's request is the same whenever it is given, and its effect, if it has
    /// one, is nothing to any other process: what exists stays as it is, and no other process looks at a verdict.
    pub(crate) fn is_indifferent(&self, process: usize) -> bool {
        let state = self.state();
        let Some((request, _)) = &state.lines[process].request else { return false };
        self.manners.creates == Creates::Once
            && match request {
                Request::Create(key) => {
                    state.objects.contains_key(key) || key.as_str().contains("/verdicts/")
                }
                Request::Get(key) | Request::Head(key) => state.objects.contains_key(key),
                Request::List(_) => self.manners.listings == Listings::Stale,
            }
    }

    /// How many answers the process has had.
    pub(crate) fn answers(&self, process: usize) -> usize {
        self.state().lines[process].answers
    }

    /// Carries the process's request out and answers it.
    pub(crate) fn grant(&self, process: usize) {
        let mut state = self.state();
        let (request, stored) = state.take(process);
        let missing = || Answer::Refused(StoreErrorKind::NotFound);
        let answer = match request {
            Request::Create(key) => state.create(self.manners.creates, key, stored),
            Request::Get(key) | Request::Head(key) => {
                state.objects.get(&key).map_or_else(missing, |found| Answer::Found(found.clone()))
            }
            Request::List(prefix) => {
                let shown = |key: &&Key| {
                    self.manners.listings == Listings::Claims
                        && key.name() == "run.json"
                        && prefix.as_ref().is_none_or(|prefix| key.is_below(prefix))
                };
                Answer::Keys(state.objects.keys().filter(shown).cloned().collect())
            }
        };
        state.answer(process, answer);
    }

    /// Loses the answer to the process's create. It is carried out when it arrives, if ever.
    pub(crate) fn lose(&self, process: usize) {
        let mut state = self.state();
        state.send_off(self.manners.creates, process);
        state.answer(process, Answer::Refused(StoreErrorKind::Unavailable));
    }

    /// A create whose answer was lost takes effect, or meets another.
    pub(crate) fn arrive(&self, which: usize) {
        let mut state = self.state();
        let (key, stored) = state.late.remove(which);
        state.create(self.manners.creates, key, stored);
    }

    /// How many creates may still arrive.
    pub(crate) fn late(&self) -> usize {
        self.state().late.len()
    }

    /// Tells a process to stop while it waits for an answer; its request is on its way, or was never sent.
    pub(crate) fn stop(&self, process: usize, sent: bool) {
        let mut state = self.state();
        if sent {
            state.send_off(self.manners.creates, process);
        } else {
            state.take(process);
        }
        let line = &mut state.lines[process];
        line.told_to_stop = true;
        line.seen = digest((line.seen, "stop"));
    }

    /// Ends once `process` is told to stop, which it can be as long as this waits.
    pub(crate) async fn told_to_stop(&self, process: usize) {
        let _listening = Listening::begin(self, process);
        poll_fn(|_| if self.state().lines[process].told_to_stop { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    pub(crate) fn can_be_stopped(&self, process: usize) -> bool {
        self.state().lines[process].listens
    }

    /// A digest of the store alone.
    pub(crate) fn digest_of_objects(&self) -> u64 {
        self.state().digest()
    }

    /// Everything by its content.
    pub(crate) fn objects(&self) -> BTreeMap<Key, Bytes> {
        self.state().objects.iter().map(|(key, stored)| (key.clone(), stored.body.clone())).collect()
    }

    /// A digest of the store, of what is on its way, and of where each process stands. Two executions with the
    /// same digest go on alike.
    pub(crate) fn digest(&self) -> u64 {
        let state = self.state();
        let mut late: Vec<u64> = state.late.iter().map(|(key, stored)| digest((key, stored.label))).collect();
        late.sort_unstable();
        let objects = state.digest();
        let lines: Vec<u64> =
            state.lines.iter().map(|line| digest((line.seen, line.request.is_some()))).collect();
        digest((objects, late, lines))
    }
}

/// Marks a process as one that can be told to stop, until it is dropped.
struct Listening<'a>(&'a World, usize);

impl<'a> Listening<'a> {
    fn begin(world: &'a World, process: usize) -> Self {
        world.state().lines[process].listens = true;
        Self(world, process)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.state().lines[self.1].listens = false;
    }
}
