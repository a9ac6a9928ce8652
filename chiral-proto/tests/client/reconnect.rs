//! A connection that is lost and made again.

use std::sync::Arc;
use std::time::Duration;

use chiral_proto::client::{
    Config, ConnectionState, Event, Lossy, Misuse, NotQueuedReason, RequestError, RequestKey,
    WhenLost,
};
use chiral_proto::timeline::{BasisError, Starved};
use chiral_proto::wire::{ClientMessage, RequestKind, ServerMessage};
use chiral_proto::{Action, ActionDeclaration, ActionKind, ConnectionError, Map, Observation, map};

use super::support::*;
use super::{Policy, hz, timed_out, untimed};

fn policy(when_lost: WhenLost) -> Policy {
    Policy::new(Config { when_lost, ..untimed() })
}

impl Policy {
    fn lose(&mut self) {
        self.client.handle_disconnect(self.now, ConnectionError::Reset);
    }

    fn connect_again(&mut self) {
        assert!(self.client.begin_connection(self.now));
    }

    /// An observation that is asked for and comes at once.
    fn observe(&mut self, number: u32) -> Arc<Observation> {
        self.client.request_observation(self.now, None).unwrap();
        assert_eq!(self.sends_all(), [ClientMessage::Observe]);
        self.hears(ServerMessage::Observation(observation(number)));
        let told = self.events();
        let [Event::Observation { observation, .. }] = &told[..] else { panic!("{told:?}") };
        Arc::clone(observation)
    }

    fn sent_actions(&mut self) -> Vec<u32> {
        let action = |message| match message {
            ClientMessage::ApplyAction(action) => Some(number_of(&action)),
            _ => None,
        };
        self.sends_all().into_iter().filter_map(action).collect()
    }
}

fn interrupted(id: impl Into<RequestKey>, request: RequestKind, sent: bool) -> Event {
    let error = RequestError::Interrupted { request, sent, error: ConnectionError::Reset };
    Event::Failed { id: id.into(), error }
}

#[test]
fn requests_fail_once_and_tell_whether_they_had_left() {
    let mut policy = policy(WhenLost::FailCalls);
    let now = policy.now;
    let moved = policy.client.request_reset(now, None).unwrap();
    let seen = policy.client.request_observation(now, None).unwrap();
    policy.sends_all();
    let asked = policy.client.request_metadata(now, None).unwrap();
    policy.lose();
    policy.lose();
    assert_eq!(
        policy.events(),
        [
            interrupted(moved, RequestKind::Reset, true),
            interrupted(seen, RequestKind::Observe, true),
            interrupted(asked, RequestKind::Metadata, false),
            Event::Interrupted(ConnectionError::Reset),
        ]
    );
    let refused = Misuse::Interrupted(ConnectionError::Reset);
    assert_eq!(policy.client.request_metadata(now, None), Err(refused.clone()));
    assert_eq!(policy.client.request_reset(now, None), Err(refused));
    policy.wait(ms(300));
    policy.connect_again();
    assert_eq!(policy.events(), [Event::Reconnected { down_for: ms(300) }]);
    assert_eq!(policy.sends_all(), []);
    assert_eq!(policy.client.stats(policy.now).reconnects, 1);
}

#[test]
fn an_interrupted_reset_says_that_its_effect_is_not_known() {
    let error = |request, sent| {
        RequestError::Interrupted { request, sent, error: ConnectionError::Reset }.to_string()
    };
    let text = error(RequestKind::Reset, true);
    assert!(text.contains("whether the robot has acted on the reset is not known"), "{text}");
    let text = error(RequestKind::Reset, false);
    assert!(text.ends_with("; the reset had not been sent"), "{text}");
}

#[test]
fn an_answer_of_the_connection_before_is_matched_to_no_new_request() {
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.lose();
    policy.hears(ServerMessage::Metadata(metadata(1)));
    policy.connect_again();
    policy.events();
    let id = policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Metadata(metadata(2)));
    assert_eq!(policy.events(), [Event::Metadata { id, metadata: metadata(2) }]);
    assert_eq!(policy.client.stats(policy.now).frames_received, 1);
}

#[test]
fn on_a_lossy_transport_requests_wait_until_old_answers_cannot_come_any_more() {
    let lossy = Some(Lossy { retry_after: ms(5000), linger: ms(500) });
    let when_lost = WhenLost::FailCalls;
    let mut policy = Policy::new(Config { lossy, when_lost, ..untimed() });
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.lose();
    policy.wait(ms(1000));
    policy.connect_again();
    policy.events();
    let id = policy.client.request_metadata(policy.now, None).unwrap();
    assert_eq!(policy.sends_all(), []);
    policy.hears(ServerMessage::Metadata(metadata(1)));
    assert_eq!(policy.events(), []);
    assert_eq!(policy.client.stats(policy.now).strays, 1);
    policy.wait(ms(500));
    assert_eq!(policy.sends_all(), [ClientMessage::Metadata]);
    policy.hears(ServerMessage::Metadata(metadata(2)));
    assert_eq!(policy.events(), [Event::Metadata { id, metadata: metadata(2) }]);
}

#[test]
fn streams_go_on_at_their_rates_on_grids_that_begin_anew() {
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
    policy.client.start_action_dispatch(policy.now, hz(50.0)).unwrap();
    policy.sends_all();
    policy.wait(ms(7));
    policy.lose();
    assert!(policy.client.is_streaming() && policy.client.is_dispatching());
    policy.wait(ms(10_000));
    assert_eq!(policy.sleeps_for(), None);
    assert_eq!(policy.sends_all(), []);
    policy.connect_again();
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
    assert_eq!(policy.sleeps_for(), Some(ms(20)));
    policy.hears(ServerMessage::Observation(observation(1)));
    policy.wait(ms(100));
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
    let stats = policy.client.stats(policy.now);
    let missed = (stats.stream_ticks_missed, stats.dispatch_ticks_missed);
    assert_eq!((stats.starvations, missed), (3, (0, 4)), "none of the time between");
}

#[test]
fn rates_can_be_set_while_there_is_no_connection() {
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.start_action_dispatch(policy.now, hz(50.0)).unwrap();
    policy.lose();
    policy.client.start_obs_stream(policy.now, hz(10.0)).unwrap();
    policy.client.start_action_dispatch(policy.now, hz(10.0)).unwrap();
    assert_eq!(policy.sends_all(), []);
    policy.connect_again();
    assert_eq!(policy.sends_all(), [ClientMessage::Observe]);
    assert_eq!(policy.sleeps_for(), Some(ms(100)));
    policy.lose();
    policy.client.stop_obs_stream();
    policy.client.stop_action_dispatch();
    policy.connect_again();
    assert_eq!(policy.sleeps_for(), None);
}

#[test]
fn nothing_planned_before_is_sent_after_it() {
    for when_lost in [WhenLost::FailCalls, WhenLost::HoldCalls] {
        let mut policy = policy(when_lost);
        policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
        policy.client.put_action(policy.now, action(1)).unwrap();
        policy.client.put_action(policy.now, action(2)).unwrap();
        assert_eq!(policy.sent_actions(), [1]);
        policy.client.send_action(policy.now, action(3)).unwrap();
        policy.lose();
        let gone = NotQueuedReason::Interrupted(ConnectionError::Reset);
        let refused = policy.client.put_action(policy.now, action(4)).unwrap_err();
        assert_eq!((refused.actions, refused.reason), (vec![action(4)], gone.clone()));
        let refused = policy.client.send_action(policy.now, action(5)).unwrap_err();
        assert_eq!((refused.actions, refused.reason), (vec![action(5)], gone));
        policy.connect_again();
        policy.client.put_action(policy.now, action(6)).unwrap();
        policy.wait(ms(50));
        assert_eq!(policy.sent_actions(), [6]);
        assert_eq!(policy.client.stats(policy.now).actions_dropped, 2);
    }
}

#[test]
fn an_observation_of_the_connection_before_is_refused() {
    let mut policy = policy(WhenLost::FailCalls);
    let before = policy.observe(1);
    policy.lose();
    assert_eq!(policy.client.latest_observation(), None);
    policy.connect_again();
    let now = policy.now;
    let former = NotQueuedReason::Basis(BasisError::FormerConnection);
    let refused = policy.client.follow(now, &before, [action(1)]).unwrap_err();
    assert_eq!((refused.actions.len(), refused.reason), (1, former.clone()));
    let refused = policy.client.put_chunk(now, &before, [action(1)]).unwrap_err();
    assert_eq!(refused.reason, former);
    let refused = policy.client.replace_actions(now, &before, [action(1)]).unwrap_err();
    assert_eq!(refused.reason, former);
    assert_eq!(policy.client.plan_context(&before), Err(BasisError::FormerConnection));
    policy.events();
    let after = policy.observe(2);
    assert_eq!(policy.client.follow(now, &after, [action(2)]).unwrap().first, Some(0));
    policy.client.request_reset(now, None).unwrap();
    assert_eq!(policy.client.plan_context(&after), Err(BasisError::FormerEpoch));
    assert_eq!(policy.client.plan_context(&before), Err(BasisError::FormerConnection));
}

#[test]
fn a_policy_whose_calls_are_held_has_its_old_chunks_discarded() {
    let mut policy = policy(WhenLost::HoldCalls);
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
    let before = policy.observe(1);
    policy.client.follow(policy.now, &before, [action(1)]).unwrap();
    assert_eq!(policy.sent_actions(), []);
    policy.lose();
    let late = policy.client.follow(policy.now, &before, [action(2), action(3)]).unwrap();
    assert!(late.discarded && late.first.is_none(), "{late:?}");
    policy.connect_again();
    policy.events();
    assert_eq!(policy.client.plan_context(&before).unwrap().spans, []);
    let late = policy.client.follow(policy.now, &before, [action(4)]).unwrap();
    assert!(late.discarded, "{late:?}");
    policy.client.put_chunk(policy.now, &before, [action(5)]).unwrap_err();
    let after = policy.observe(2);
    policy.client.follow(policy.now, &after, [action(6)]).unwrap();
    policy.wait(ms(50));
    assert_eq!(policy.sent_actions(), [6]);
    assert_eq!(policy.client.stats(policy.now).chunks_discarded, 2);
}

#[test]
fn steps_are_counted_on_and_the_robot_counts_anew() {
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
    let before = policy.observe(1);
    policy.client.follow(policy.now, &before, (0..5).map(action)).unwrap();
    for _ in 0..5 {
        policy.wait(ms(10));
        assert_eq!(policy.sent_actions().len(), 1);
    }
    policy.lose();
    policy.connect_again();
    policy.events();
    policy.client.request_observation(policy.now, None).unwrap();
    policy.sends_all();
    // A robot that has applied nothing since this connection began.
    let timing = map! { "v" => 1, "applied" => 0, "snap" => 0.5 };
    let told = Observation { extra: Map::new().with("chiral", timing), ..observation(2) };
    policy.hears(ServerMessage::Observation(told));
    let told = policy.events();
    let [Event::Observation { observation, .. }] = &told[..] else { panic!("{told:?}") };
    let placed = policy.client.follow(policy.now, observation, (0..2).map(action)).unwrap();
    assert_eq!((placed.base, placed.skipped, placed.first), (5, 0, Some(5)));
    assert!(policy.client.plan_context(observation).unwrap().delay.is_exact());
}

#[test]
fn actions_are_numbered_anew_on_each_connection() {
    let mut policy = policy(WhenLost::FailCalls);
    let next_seq = |policy: &mut Policy| {
        policy.client.send_action(policy.now, [0.0].into()).unwrap();
        let sent = policy.sends_all();
        let [ClientMessage::ApplyAction(action)] = &sent[..] else { panic!("{sent:?}") };
        action.sent.map(|sent| sent.seq)
    };
    assert_eq!((next_seq(&mut policy), next_seq(&mut policy)), (Some(1), Some(2)));
    policy.lose();
    policy.connect_again();
    assert_eq!(next_seq(&mut policy), Some(1));
}

#[test]
fn a_hold_of_before_does_not_move_the_robot_that_is_there_now() {
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.set_starved(Starved::Hold(action(9))).unwrap();
    policy.client.start_action_dispatch(policy.now, hz(100.0)).unwrap();
    assert_eq!(policy.sent_actions(), [9]);
    policy.lose();
    policy.connect_again();
    for _ in 0..5 {
        assert_eq!(policy.sent_actions(), []);
        policy.wait(ms(10));
    }
    policy.client.put_action(policy.now, action(1)).unwrap();
    policy.wait(ms(10));
    assert_eq!(policy.sent_actions(), [1]);
    policy.wait(ms(10));
    assert_eq!(policy.sent_actions(), [9]);
}

#[test]
fn held_requests_are_made_over_the_next_connection() {
    let mut policy = policy(WhenLost::HoldCalls);
    let now = policy.now;
    let seen = policy.client.request_observation(now, None).unwrap();
    let moved = policy.client.request_reset(now, None).unwrap();
    policy.sends_all();
    let asked = policy.client.request_metadata(now, None).unwrap();
    policy.lose();
    assert_eq!(
        policy.events(),
        [interrupted(moved, RequestKind::Reset, true), Event::Interrupted(ConnectionError::Reset)]
    );
    let later = policy.client.request_observation(now, None).unwrap();
    policy.client.request_reset(now, None).unwrap_err();
    policy.client.request_step(now, action(1), None).unwrap_err();
    policy.wait(ms(100));
    policy.connect_again();
    let sent = [ClientMessage::Observe, ClientMessage::Metadata, ClientMessage::Observe];
    assert_eq!(policy.sends_all(), sent);
    policy.hears(ServerMessage::Observation(observation(1)));
    policy.hears(ServerMessage::Metadata(metadata(2)));
    policy.hears(ServerMessage::Observation(observation(3)));
    let told = policy.events();
    let saw = |id, number| Event::Observation { id, observation: Arc::new(observation(number)) };
    let expected = [
        Event::Reconnected { down_for: ms(100) },
        saw(seen, 1),
        Event::Metadata { id: asked, metadata: metadata(2) },
        saw(later, 3),
    ];
    assert_eq!(told, expected);
}

#[test]
fn held_requests_time_out_by_their_deadlines() {
    let mut policy = policy(WhenLost::HoldCalls);
    let deadline = Some(policy.now + ms(50));
    let sent = policy.client.request_observation(policy.now, deadline).unwrap();
    policy.sends_all();
    policy.lose();
    let deadline = Some(policy.now + ms(80));
    let held = policy.client.request_metadata(policy.now, deadline).unwrap();
    policy.events();
    assert_eq!(policy.sleeps_for(), Some(ms(50)));
    policy.wait(ms(50));
    assert_eq!(policy.events(), [timed_out(sent)]);
    assert_eq!(policy.sleeps_for(), Some(ms(30)));
    policy.wait(ms(30));
    let Some(Event::Failed { id, error }) = policy.client.poll_event() else { panic!("it is due") };
    assert_eq!(id, held.into());
    assert!(error.to_string().ends_with("interrupted, and is not made again yet"), "{error}");
    assert_eq!(policy.sleeps_for(), None);
    policy.connect_again();
    assert_eq!(policy.sends_all(), []);
}

#[test]
fn the_contract_is_read_again_and_a_change_is_told() {
    let declared = |kind: &str| map! { "chiral" => map! { "action" => map! { "kind" => kind } } };
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Metadata(declared("absolute")));
    policy.client.set_starved(Starved::Repeat).unwrap();
    policy.events();
    for kind in ["absolute", "delta"] {
        policy.lose();
        policy.connect_again();
        policy.events();
        assert_eq!(policy.sends_all(), [ClientMessage::Metadata]);
        policy.hears(ServerMessage::Metadata(declared(kind)));
        if kind == "absolute" {
            assert_eq!(policy.events(), []);
        }
    }
    let told = policy.events();
    let [Event::Undone(_), Event::ContractChanged { before, after }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(before.declaration().kind, Some(ActionKind::Absolute));
    assert_eq!(after.declaration().kind, Some(ActionKind::Delta));
    assert_eq!(policy.client.declared_actions().kind, Some(ActionKind::Delta));
}

#[test]
fn what_the_user_declared_outlives_a_reconnection() {
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.request_metadata(policy.now, None).unwrap();
    policy.sends_all();
    policy.hears(ServerMessage::Metadata(metadata(1)));
    let said = ActionDeclaration::new(ActionKind::Velocity).hold(Action::from([0.0]));
    policy.client.declare_actions(policy.now, said.clone());
    policy.lose();
    policy.connect_again();
    policy.sends_all();
    policy.hears(ServerMessage::Metadata(metadata(2)));
    assert_eq!(*policy.client.declared_actions(), said);
}

#[test]
fn it_is_time_for_a_chunk_again_on_the_next_connection() {
    let mut policy = policy(WhenLost::FailCalls);
    policy.client.refill_at(1);
    assert_eq!(policy.events(), [Event::PlanLow { remaining: 0 }]);
    policy.lose();
    policy.connect_again();
    let told = policy.events();
    assert_eq!(told.last(), Some(&Event::PlanLow { remaining: 0 }), "{told:?}");
}

#[test]
fn ends_that_cannot_pass_are_no_interruption() {
    let closed = |code| ConnectionError::ClosedByPeer { code, reason: String::new() };
    let passing = [None, Some(1000), Some(1001), Some(1011), Some(1012)].map(closed);
    let lost = [ConnectionError::TimedOut, ConnectionError::EndOfStream { inside_message: true }];
    for error in passing.into_iter().chain(lost) {
        let mut policy = policy(WhenLost::FailCalls);
        policy.client.handle_disconnect(policy.now, error.clone());
        assert_eq!(policy.events(), [Event::Interrupted(error.clone())]);
        let since = policy.now;
        assert_eq!(policy.client.connection_state(), ConnectionState::Interrupted { since, error });
    }
    let violation = ConnectionError::TransportViolation("text".to_owned());
    for error in [closed(Some(1013)), closed(Some(1008)), closed(Some(4000)), violation] {
        let mut policy = policy(WhenLost::FailCalls);
        policy.client.handle_disconnect(policy.now, error.clone());
        assert_eq!(policy.events(), [Event::Disconnected(error.clone())]);
        assert_eq!(policy.client.connection_state(), ConnectionState::Ended { error });
        assert!(!policy.client.begin_connection(policy.now));
    }
    let mut policy = policy(WhenLost::HoldCalls);
    policy.client.handle_message(policy.now, (&b"no frame"[..]).into());
    assert!(matches!(policy.client.connection_state(), ConnectionState::Ended { .. }));
}

#[test]
fn an_interrupted_client_can_be_closed_and_given_up() {
    let ended = ConnectionError::NotReconnected {
        lost: Box::new(ConnectionError::Reset),
        found: "nobody is there".to_owned(),
    };
    for end in [ConnectionError::ClosedLocally, ended] {
        let mut policy = policy(WhenLost::HoldCalls);
        policy.lose();
        let held = policy.client.request_metadata(policy.now, None).unwrap().key();
        policy.events();
        if end == ConnectionError::ClosedLocally {
            policy.client.shut_down(policy.now, policy.now + Duration::from_secs(1));
        } else {
            policy.client.give_up(policy.now, end.clone());
        }
        let error = RequestError::Disconnected(end.clone());
        let failed = Event::Failed { id: held, error };
        assert_eq!(policy.events(), [failed, Event::Disconnected(end.clone())]);
        assert!(!policy.client.begin_connection(policy.now));
        assert_eq!(policy.client.error(), Some(&end));
    }
}
