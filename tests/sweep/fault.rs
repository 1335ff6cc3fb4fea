//! What goes wrong between the engine and a store, where it can act, and what must come of it.

use std::fmt;

use testbed::{WireFault, WireReach, WireRule};
use vouchsafe::store::StoreErrorKind;
use vouchsafe::store::fault::{self, Operation, Reach, Rule, When};

use super::kind::{Kind, Protocol};
use super::rig::ATTEMPTS;

/// Where faults act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// At the trait, below the retries and above the SDK.
    Trait,
    /// Between the SDK and the server.
    Wire,
}

/// What goes wrong. Rows of the table of faults are numbered as in docs/reliability.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// One server error.
    Hiccup,
    /// Asked to slow down, once.
    Throttled,
    /// The request takes effect and its answer is lost.
    LostAnswer,
    /// The connection is reset while the request is sent.
    ResetSending,
    /// The connection is reset in the middle of the answer.
    ResetAnswer,
    /// Nothing moves any more while the request is sent.
    StallSending,
    /// Nothing moves any more in the middle of the answer.
    StallAnswer,
    /// A body breaks off with an error.
    CutBody,
    /// A body ends early as if it were whole.
    ShortBody,
    /// A list shows nothing.
    StaleList,
    /// A list shows something that is not there.
    GhostList,
    /// 200, with an error in the body.
    OkWithError,
    /// 200, with a page of something else.
    OkWithPage,
    /// This request fails past its budget while all others pass, and then works again: the advisory's outage.
    Outage,
    /// This request takes effect, and its answers are lost until its budget is used up.
    Silence,
    /// From this request on everything fails, until the run has ended.
    Dark,
    /// The identity may not do this.
    Forbidden,
    /// Acknowledged, and not stored.
    Pretend,
    /// What is there is said not to be.
    Vanish,
    /// One bit of a body is the other one.
    FlipBit,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// Proven.
    Succeed,
    /// Failed by name.
    Fail,
    /// One of the two.
    Either,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Fault {
    pub const ALL: [Self; 20] = [
        Self::Hiccup,
        Self::Throttled,
        Self::LostAnswer,
        Self::ResetSending,
        Self::ResetAnswer,
        Self::StallSending,
        Self::StallAnswer,
        Self::CutBody,
        Self::ShortBody,
        Self::StaleList,
        Self::GhostList,
        Self::OkWithError,
        Self::OkWithPage,
        Self::Outage,
        Self::Silence,
        Self::Dark,
        Self::Forbidden,
        Self::Pretend,
        Self::Vanish,
        Self::FlipBit,
    ];

    /// The words of docs/reliability.md.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Hiccup => "server error",
            Self::Throttled => "slow down",
            Self::LostAnswer => "answer lost",
            Self::ResetSending => "reset sending",
            Self::ResetAnswer => "reset in answer",
            Self::StallSending => "stall sending",
            Self::StallAnswer => "stall in answer",
            Self::CutBody => "body cut",
            Self::ShortBody => "body short",
            Self::StaleList => "stale list",
            Self::GhostList => "ghost in list",
            Self::OkWithError => "200 with error",
            Self::OkWithPage => "200 with page",
            Self::Outage => "outage of it",
            Self::Silence => "answers lost for good",
            Self::Dark => "all dark",
            Self::Forbidden => "forbidden",
            Self::Pretend => "acknowledged, absent",
            Self::Vanish => "there, 404",
            Self::FlipBit => "bit flipped",
        }
    }

    /// Whether it acts on such a request, which found something or not when nothing went wrong.
    pub fn fits(self, level: Level, kind: Kind, found: bool) -> bool {
        use Operation as Op;
        let stores = matches!(kind.operation, Op::Create | Op::PutPart | Op::Complete);
        match self {
            Self::Hiccup
            | Self::Throttled
            | Self::LostAnswer
            | Self::Outage
            | Self::Dark
            | Self::Forbidden => true,
            // Of a request that changes nothing it is an outage.
            Self::Silence => !matches!(kind.operation, Op::Get | Op::Head | Op::List),
            Self::ResetSending | Self::ResetAnswer | Self::StallSending | Self::StallAnswer => {
                level == Level::Wire
            }
            Self::CutBody | Self::ShortBody => level == Level::Trait && kind.operation == Op::Get && found,
            Self::StaleList | Self::GhostList => level == Level::Trait && kind.operation == Op::List,
            Self::OkWithError | Self::OkWithPage => level == Level::Wire && kind.operation != Op::Head,
            Self::Pretend => stores,
            Self::Vanish => matches!(kind.operation, Op::Get | Op::Head) && found,
            Self::FlipBit => kind.operation == Op::Get && found,
        }
    }

    /// What must come of it in a backup by way of a protocol, where they differ.
    pub fn must_in_backup_by(self, protocol: Protocol, level: Level, kind: Kind) -> Must {
        use Operation as Op;
        match (protocol, level, self, kind.operation) {
            // Azure's acknowledgement is a header, and a page has none; a delete doesn't look first.
            (Protocol::Azure, Level::Wire, Self::OkWithPage, Op::Complete) => Must::Succeed,
            (Protocol::Azure, Level::Wire, Self::Silence, Op::Delete) => Must::Fail,
            _ => self.must_in_backup(level, kind),
        }
    }

    /// What must come of it in a backup: the letters of the table of faults, and what is known of single kinds.
    pub fn must_in_backup(self, level: Level, kind: Kind) -> Must {
        use Operation as Op;
        // Nobody needs a heartbeat that is missed, but to see that somebody lives.
        let needless = kind.of == "beat";
        match self {
            Self::Hiccup
            | Self::Throttled
            | Self::LostAnswer
            | Self::ResetSending
            | Self::ResetAnswer
            | Self::StallSending
            | Self::StallAnswer
            | Self::CutBody
            | Self::ShortBody
            | Self::StaleList
            | Self::GhostList => Must::Succeed,
            // An answer without what an acknowledgement or an object comes with is none, and asked again; of an
            // abort nothing is asked. A page where a document is due shows that something else answers.
            Self::OkWithError | Self::OkWithPage => match kind.operation {
                Op::Create | Op::PutPart | Op::Abort | Op::Get => Must::Succeed,
                Op::Begin | Op::Complete | Op::List if self == Self::OkWithError => Must::Succeed,
                Op::Begin | Op::Complete | Op::List => Must::Fail,
                Op::Head | Op::Delete => Must::Either,
            },
            Self::Dark => Must::Fail,
            Self::Outage | Self::Silence | Self::Forbidden | Self::Pretend if needless => Must::Succeed,
            // What is gone already is deleted; on the wire the retry looks, and sees that.
            Self::Silence if level == Level::Wire && kind.operation == Op::Delete => Must::Succeed,
            // Settled by reading the register.
            Self::Silence if kind.of == "outcome" => Must::Succeed,
            // An identity that may not delete is fine; the look before the delete is part of it on the wire, and
            // one of the probe's other looks too.
            Self::Forbidden if kind == (Kind { operation: Op::Delete, of: "probe" }) => Must::Succeed,
            Self::Forbidden if kind == (Kind { operation: Op::Head, of: "probe" }) => Must::Either,
            // A store that doesn't check one way's checksums is used by the other way.
            Self::Pretend if level == Level::Wire && kind.of == "probe" => Must::Either,
            // Receipts are read twice: for the census, and for the books, which count.
            Self::Vanish if kind.of == "receipt" => Must::Either,
            // The object to be deleted is gone already, then.
            Self::Vanish if level == Level::Wire && kind == (Kind { operation: Op::Head, of: "probe" }) => {
                Must::Either
            }
            Self::Outage | Self::Silence | Self::Forbidden | Self::Pretend | Self::Vanish | Self::FlipBit => {
                Must::Fail
            }
        }
    }

    /// What must come of it in a restore, which only reads.
    pub fn must_in_restore(self, kind: Kind) -> Must {
        match self {
            // Of the newest run it is asked twice.
            Self::Vanish if kind == (Kind { operation: Operation::Head, of: "claim" }) => Must::Either,
            Self::Outage
            | Self::Silence
            | Self::Dark
            | Self::Forbidden
            | Self::Pretend
            | Self::Vanish
            | Self::FlipBit => Must::Fail,
            Self::OkWithPage if kind.operation == Operation::List => Must::Fail,
            _ => Must::Succeed,
        }
    }

    /// The rule for a store at the trait.
    pub fn rule(self, kind: Kind, nth: u64) -> Rule {
        use fault::Fault as At;
        let unavailable = StoreErrorKind::Unavailable;
        let fault = match self {
            Self::Hiccup | Self::Outage | Self::Dark => At::Before(unavailable),
            Self::Throttled => At::Before(StoreErrorKind::Throttled),
            Self::LostAnswer | Self::Silence => At::After(unavailable),
            Self::CutBody => At::CutBody(1),
            Self::ShortBody => At::EndBody(1),
            Self::StaleList => At::StaleList,
            Self::GhostList => At::GhostList,
            Self::Forbidden => At::Before(StoreErrorKind::Forbidden),
            Self::Pretend => At::Pretend,
            Self::Vanish => At::Before(StoreErrorKind::NotFound),
            Self::FlipBit => At::FlipBit(5),
            Self::ResetSending
            | Self::ResetAnswer
            | Self::StallSending
            | Self::StallAnswer
            | Self::OkWithError
            | Self::OkWithPage => panic!("{self} acts on the wire only"),
        };
        let reach = match self {
            Self::Outage | Self::Silence => Reach::SameObject(outage_of(kind)),
            Self::Dark => Reach::Everything,
            _ => Reach::Once,
        };
        Rule::new(When::From { operation: kind.operation, name: kind.name(), nth, reach }, fault)
    }

    /// The rule for a proxy.
    pub fn wire_rule(self, protocol: Protocol, kind: Kind, nth: u64) -> WireRule {
        let fault = match self {
            Self::Hiccup | Self::Outage | Self::Dark => WireFault::InternalError,
            Self::Throttled => WireFault::SlowDown,
            Self::LostAnswer | Self::Silence => WireFault::LostAcknowledgement,
            Self::ResetSending => WireFault::ResetInRequest,
            Self::ResetAnswer => WireFault::ResetInResponse,
            Self::StallSending => WireFault::StallInRequest,
            Self::StallAnswer => WireFault::StallInResponse,
            Self::OkWithError => WireFault::OkWithError,
            Self::OkWithPage => WireFault::OkWithPage,
            Self::Forbidden => WireFault::AccessDenied,
            Self::Pretend => WireFault::Pretend,
            Self::Vanish => WireFault::Vanish,
            Self::FlipBit => WireFault::FlipBit(5),
            Self::CutBody | Self::ShortBody | Self::StaleList | Self::GhostList => {
                panic!("{self} acts at the trait only")
            }
        };
        let reach = match self {
            Self::Outage | Self::Silence => WireReach::SameRequest(outage_of(kind)),
            Self::Dark => WireReach::Everything,
            _ => WireReach::Named,
        };
        let rule = WireRule::at(nth, fault).reaching(reach);
        let parts = kind.parts(protocol);
        let rule = parts.has.iter().fold(rule, |rule, part| rule.only(part));
        parts.lacks.iter().fold(rule, |rule, part| rule.without(part))
    }
}

/// Failures that use up the budget of one request, also where the two parts of an upload share them.
fn outage_of(kind: Kind) -> u64 {
    let attempts = ATTEMPTS as u64;
    if kind.operation == Operation::PutPart { 2 * attempts - 1 } else { attempts }
}
