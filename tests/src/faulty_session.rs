//! A policy and a robot over a bad network: what must hold however it fails.

use std::sync::Arc;
use std::time::Duration;

use chiral_proto::testing::{Faults, Link, Side};
use chiral_proto::ws::Keepalive;
use chiral_proto::{Action, Arming, Rate};

use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings};
use crate::contract::{Actions, Contract, Judge, bits};
use crate::fault_relay::FaultRelay;
use crate::{Entry, Recorder};

/// Short enough to wait for, and long enough for a busy machine to answer in time.
const KEEPALIVE: Keepalive =
    Keepalive { interval: Duration::from_millis(50), timeout: Duration::from_millis(400) };
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
const WATCHDOG: Duration = Duration::from_millis(300);
/// How many actions the policy sends.
const ACTIONS: u32 = 40;

/// What came of a session.
#[derive(Debug)]
pub struct FaultySession {
    /// Whether the policy was connected at all.
    pub connected: bool,
    /// What the policy's first call that failed said.
    pub error: Option<String>,
    /// How many actions were applied.
    pub applied: usize,
}

/// What a robot declares, and whether its policy keeps to that.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    contract: Contract,
    seed: u64,
    /// Of a hundred actions, how many the contract forbids.
    forbidden: u64,
}

impl Terms {
    /// A robot that takes everything.
    pub const NONE: Self = Self { contract: Contract::NONE, seed: 0, forbidden: 0 };

    /// Other ones for each seed. Every other policy sends what it must not.
    pub fn random(seed: u64) -> Self {
        let mut contract = Contract::random(seed);
        if contract.arming == Arming::Manual {
            // The session has no operator.
            contract.arming = Arming::OnReset;
        }
        Self { contract, seed, forbidden: seed % 2 * 25 }
    }

    /// Whether the robot is to apply everything that arrives.
    fn is_all_applied(&self) -> bool {
        self.contract.is_none() && self.forbidden == 0
    }
}

/// Runs a scripted session (metadata, reset, a stream of observations beside actions, an observation,
/// close) over a link, and then another one over an intact one. Every call ends, also when it fails.
///
/// # Panics
/// When something does not hold that must hold over any link: what was applied are actions that were
/// sent, in order, none twice, and none that the robot's contract forbids; the robot is told to hold; the
/// next policy is admitted.
pub fn run(
    client: &dyn Adapter,
    server: &dyn Adapter,
    address: &str,
    link: Link,
    terms: Terms,
) -> FaultySession {
    let corrupts = [Side::Client, Side::Server].iter().any(|side| link.faults(*side).corrupts());
    let mut settings = ServerSettings { keepalive: Some(KEEPALIVE), ..ServerSettings::default() };
    settings.machine.watchdog = Some(WATCHDOG);
    settings.machine.action_spec = terms.contract.spec();
    let robot = Arc::new(Recorder::small());
    let serving = server.serve(address, Arc::clone(&robot), settings);
    let mut links = Some(link);
    // A policy that tries again finds an intact one.
    let intact = || Link::new(Faults::default(), Faults::default());
    let relay = FaultRelay::to(&serving.uri(), move || links.take().unwrap_or_else(intact));

    let settings = ClientSettings {
        keepalive: Some(KEEPALIVE),
        connect_timeout: Some(CONNECT_TIMEOUT),
        request_timeout: Some(REQUEST_TIMEOUT),
        ..ClientSettings::default()
    };
    let mut actions = Actions::new(terms.contract, terms.seed, terms.forbidden);
    let sent: Vec<Action> = (0..ACTIONS).map(|number| actions.next(number)).collect();
    let (connected, error) = match client.connect(relay.uri(), settings.clone()) {
        Ok(policy) => {
            let error = act(&*policy, &sent, terms.forbidden == 0).err();
            policy.close();
            drop(policy);
            (true, error)
        }
        Err(error) => (false, Some(error.to_string())),
    };
    assert!(error.as_deref() != Some(""), "an error says what happened");

    // The next policy, which does everything, waits no longer than the keepalive takes for the one
    // before to be given up.
    let next = client.connect(&serving.uri(), settings).expect("the next policy is admitted");
    next.metadata().expect("it is answered");
    next.reset().expect("it is answered");
    next.send_action(Action::from([ACTIONS as f32, 0.0])).expect("it is connected");
    robot.until(1, |entry| is_number(entry, ACTIONS as f32));
    next.close();
    drop(next);
    let policies = robot.count(|entry| *entry == Entry::Connected);
    robot.wait_for_disconnects(policies);

    let applied = check(&robot.history(), &sent, corrupts, terms);
    drop(relay);
    serving.shut_down();
    FaultySession { connected, error, applied }
}

fn act(policy: &dyn Policy, actions: &[Action], knows_contract: bool) -> Result<(), String> {
    let call = |error: chiral_driver::CallError| error.to_string();
    if knows_contract {
        policy.metadata().map_err(call)?;
    }
    policy.reset().map_err(call)?;
    let hz = |hz: f64| Rate::hz(hz).expect("it is a rate");
    let put = |error: chiral_proto::client::NotQueued| error.to_string();
    for action in actions {
        policy.put_action(action.clone()).map_err(put)?;
    }
    policy.start_obs_stream(hz(200.0)).map_err(|error| error.to_string())?;
    policy.start_action_dispatch(hz(500.0)).map_err(|error| error.to_string())?;
    while policy.queued_actions() > 0 {
        if policy.next_obs_within(REQUEST_TIMEOUT).map_err(call)?.is_none() {
            return Err(format!("no observation in {REQUEST_TIMEOUT:?}"));
        }
    }
    policy.observe().map(drop).map_err(call)
}

fn is_number(entry: &Entry, number: f32) -> bool {
    matches!(entry, Entry::Applied(action) if action.to_f32()[0].to_bits() == number.to_bits())
}

/// Checks what happened to the robot, and returns how many of the first policy's actions it applied.
fn check(history: &[Entry], sent: &[Action], corrupts: bool, terms: Terms) -> usize {
    let last = history.iter().rposition(|entry| is_number(entry, ACTIONS as f32));
    let first = &history[..last.expect("it was waited for")];
    let applied: Vec<&Action> = first
        .iter()
        .filter_map(|entry| match entry {
            Entry::Applied(action) => Some(action),
            _ => None,
        })
        .collect();
    assert!(applied.len() <= sent.len(), "{applied:?}");
    if !corrupts {
        let numbers: Vec<usize> =
            applied.iter().map(|action| action.to_f32()[0] as usize).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "not in order: {numbers:?}");
        for (action, &number) in applied.iter().zip(&numbers) {
            let is_sent = bits(&action.values) == bits(&sent[number].values);
            assert!(action.clamped || is_sent, "{action:?} was not sent");
        }
        if terms.is_all_applied() {
            assert!(numbers.iter().copied().eq(0..numbers.len()), "not all: {numbers:?}");
        }
    }
    judge(history, terms.contract);
    // Every policy's end was told, and nothing of one is applied behind it.
    let mut is_connected = false;
    for entry in history {
        match entry {
            Entry::Connected => {
                assert!(!is_connected, "two policies at once: {history:?}");
                is_connected = true;
            }
            Entry::Disconnected(_) => is_connected = false,
            Entry::Applied(_) => assert!(is_connected, "applied without a policy: {history:?}"),
            _ => {}
        }
    }
    assert!(!is_connected, "the robot was not told of the end: {history:?}");
    applied.len()
}

/// Checks that the robot was told nothing that its contract forbids.
fn judge(history: &[Entry], contract: Contract) {
    let mut judge = Judge::new(contract);
    for entry in history {
        match entry {
            Entry::Connected => judge.connected(),
            Entry::Disconnected(_) => judge.disconnected(),
            Entry::Applied(action) => judge.apply(action, None),
            Entry::Stepped(action) => judge.step(action),
            Entry::Reset => {
                judge.begin_reset();
                judge.finish_reset();
            }
            Entry::Watchdog => judge.hold(),
            Entry::Stopped => judge.stop(),
            Entry::ActionsDropped(..) => {}
        }
    }
}

/// A number in an environment variable.
///
/// # Panics
/// When it is something else.
pub fn number_in(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}: found {value:?}, expected a number")))
}

/// The seeds of a test: those of `CHIRAL_FAULT_SEED`, or the first `CHIRAL_FAULT_SEEDS`, or so many.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    match number_in("CHIRAL_FAULT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in("CHIRAL_FAULT_SEEDS").unwrap_or(default),
    }
}

/// Says how to run a seed again, when it fails.
#[derive(Debug)]
pub struct Replay {
    seed: u64,
    test: String,
}

impl Replay {
    /// Of a test of the target `test`, whose name is that of the current thread.
    pub fn new(seed: u64, target: &str) -> Self {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        Self { seed, test: format!("--test {target} -- --exact {name}") }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, test } = self;
            eprintln!("replay it with: CHIRAL_FAULT_SEED={seed} cargo test -p chiral-tests {test}");
        }
    }
}
