//! The calls about actions: the plan, its dispatch, and actions that are sent at once.

use std::time::Instant;

use super::{Client, Misuse, NotQueued, NotQueuedReason};
use crate::timeline::{
    Anchor, BasisError, FollowOptions, Merge, Placement, PlanContext, Refusal, Starved,
};
use crate::{Action, ActionDeclaration, ActionSpec, ContractStatus, Observation, Rate, Timestamps};

impl Client {
    // ---- the plan -----------------------------------------------------------------------------

    /// Puts a chunk where it belongs: row `i` is for the `i`-th step after the observation on which
    /// the policy decided it was taken. Rows whose step was sent in the meantime are skipped; the
    /// others replace what is left of the old plan. See the [timeline](crate::timeline).
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use chiral_proto::{Action, client::{Client, Event}, wire::ServerMessage};
    /// # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
    /// # let now = Instant::now();
    /// # let mut client = Client::new(Default::default());
    /// # client.request_observation(now, None)?;
    /// # client.poll_transmit(now);
    /// # client.handle_message(now, ServerMessage::Observation(Default::default()).encode().to_bytes());
    /// # let Some(Event::Observation { observation, .. }) = client.poll_event() else { panic!() };
    /// let rows = (0..50_u8).map(|target| Action::from([f32::from(target)]));
    /// let placement = client.follow(now, &observation, rows)?;
    /// assert_eq!(placement.skipped, 0); // nothing was sent since
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the rows do not all fit, the robot's [contract](Self::contract) does not allow one, the
    /// observation is of before the last reset, or came through another client or a connection that was
    /// lost, or there is no connection. The actions are in the error, and the plan is as it was. With
    /// [`WhenLost::HoldCalls`](super::WhenLost::HoldCalls) a lost connection is no error: the chunk is
    /// [discarded](Placement::discarded).
    pub fn follow(
        &mut self,
        now: Instant,
        observation: &Observation,
        rows: impl IntoIterator<Item = Action>,
    ) -> Result<Placement, NotQueued> {
        self.follow_with(now, observation, rows, &FollowOptions::new())
    }

    /// As [`follow`](Self::follow), with another anchor or merge, or a longest delay. The rows are
    /// bound to the observation in any case: they carry its camera timestamps whenever they leave.
    ///
    /// # Errors
    /// As there; also when the anchor is behind the end of the plan, or rows cannot be averaged.
    pub fn follow_with(
        &mut self,
        now: Instant,
        observation: &Observation,
        rows: impl IntoIterator<Item = Action>,
        options: &FollowOptions,
    ) -> Result<Placement, NotQueued> {
        let placed = self.place(now, Some(observation), bind(observation, rows), options);
        placed.or_else(|refused| match refused.reason {
            NotQueuedReason::Interrupted(_)
            | NotQueuedReason::Basis(BasisError::FormerConnection)
                if self.holds_calls() =>
            {
                Ok(self.dispatch.timeline.discard(&refused.actions))
            }
            _ => Err(refused),
        })
    }

    /// What a policy needs to know before it infers from an observation: which rows of its chunks
    /// the robot executes from there on, and how many steps the inference will take.
    ///
    /// # Errors
    /// When the observation is of before the last reset, or came through another client or a
    /// connection that was lost. With [`WhenLost::HoldCalls`](super::WhenLost::HoldCalls) a lost
    /// connection is no error: of the plan before it nothing is left, so the context is empty.
    pub fn plan_context(&self, observation: &Observation) -> Result<PlanContext, BasisError> {
        let timeline = &self.dispatch.timeline;
        match timeline.context(observation, self.dispatch.period()) {
            Err(BasisError::FormerConnection) if self.holds_calls() => Ok(timeline.empty_context()),
            context => context,
        }
    }

    /// Tells by [`Event::PlanLow`](super::Event::PlanLow) when so many rows or fewer are left of the
    /// plan, now and from now on.
    pub fn refill_at(&mut self, rows: usize) {
        self.dispatch.timeline.set_refill_at(rows);
        self.tell_low();
    }

    /// Whether no more rows are left than [`refill_at`](Self::refill_at) says, or none if it was
    /// not called.
    pub fn is_plan_low(&self) -> bool {
        let timeline = &self.dispatch.timeline;
        timeline.len() <= timeline.refill_at().unwrap_or(0)
    }

    /// Appends an action to the plan. Unless it is bound to an observation, it is stamped with
    /// the latest one when it leaves.
    ///
    /// # Errors
    /// When the queue is full, the robot's [contract](Self::contract) does not allow the action, or the
    /// connection has ended; the action is in the error.
    pub fn put_action(&mut self, now: Instant, action: Action) -> Result<(), NotQueued> {
        let options = FollowOptions::new().anchor(Anchor::End).merge(Merge::Append);
        self.place(now, None, vec![action], &options).map(drop)
    }

    /// Appends the actions of a plan, all or none, bound to the observation on which the policy
    /// decided them: they carry its camera timestamps whenever they leave. The first follows the
    /// last that is planned, however old the observation is; [`follow`](Self::follow) puts them
    /// where they belong.
    ///
    /// # Errors
    /// When they do not all fit, the robot's [contract](Self::contract) does not allow one, the
    /// observation is of before the last reset, or the connection has ended; the actions are in the
    /// error, clamped if they do not fit and the contract clamps.
    pub fn put_chunk(
        &mut self,
        now: Instant,
        observation: &Observation,
        actions: impl IntoIterator<Item = Action>,
    ) -> Result<(), NotQueued> {
        let options = FollowOptions::new().anchor(Anchor::End).merge(Merge::Append);
        self.place(now, Some(observation), bind(observation, actions), &options).map(drop)
    }

    /// Puts a new plan in the place of what is left of the old one, and returns how many old
    /// actions were dropped. There is no moment at which a tick finds neither. Its first action is
    /// the next to leave, however old the observation is; [`follow`](Self::follow) skips what is
    /// past. What was given to [`send_action`](Self::send_action) is no part of the plan and still
    /// leaves.
    ///
    /// # Errors
    /// When the new plan does not fit into the empty queue, the robot's [contract](Self::contract) does
    /// not allow an action of it, the observation is of before the last
    /// reset, or the connection has ended; the new actions are in the error, and the old ones stay.
    pub fn replace_actions(
        &mut self,
        now: Instant,
        observation: &Observation,
        actions: impl IntoIterator<Item = Action>,
    ) -> Result<usize, NotQueued> {
        let options = FollowOptions::new().anchor(Anchor::Next);
        let placed = self.place(now, Some(observation), bind(observation, actions), &options);
        placed.map(|placement| placement.replaced)
    }

    /// Drops the actions that have not left yet, and returns how many there were.
    pub fn clear_actions(&mut self) -> usize {
        let dropped = self.dispatch.clear();
        self.tell_low();
        dropped
    }

    /// How many actions wait in the plan.
    pub fn queued_actions(&self) -> usize {
        self.dispatch.timeline.len()
    }

    fn place(
        &mut self,
        now: Instant,
        observation: Option<&Observation>,
        mut rows: Vec<Action>,
        options: &FollowOptions,
    ) -> Result<Placement, NotQueued> {
        if let Some(reason) = self.lifecycle.refusal() {
            return Err(NotQueued { actions: rows, reason });
        }
        if let Err((row, error)) = self.dispatch.judge(&mut rows) {
            return Err(NotQueued {
                actions: rows,
                reason: NotQueuedReason::Contract { row, error },
            });
        }
        self.dispatch.drop_expired(now);
        let placed = self.dispatch.timeline.place(now, observation, rows, options);
        self.tell_low();
        self.tell_long();
        placed.map_err(|(actions, refusal)| {
            let reason = match refusal {
                Refusal::Full { waiting, capacity } => NotQueuedReason::Full { waiting, capacity },
                Refusal::Basis(error) => error.into(),
                Refusal::Gap { at, end } => NotQueuedReason::Gap { at, end },
                Refusal::Merge(error) => error.into(),
            };
            NotQueued { actions, reason }
        })
    }

    // ---- without the plan ---------------------------------------------------------------------

    /// Sends an action with the next frame, ahead of everything, without waiting for a tick: for a
    /// policy that keeps time itself, and for teleoperation. It needs no dispatch.
    ///
    /// # Errors
    /// When too many such actions are waiting for the transport, the robot's
    /// [contract](Self::contract) does not allow the action, or the connection has ended; the action is
    /// in the error.
    pub fn send_action(&mut self, now: Instant, mut action: Action) -> Result<(), NotQueued> {
        if let Some(reason) = self.lifecycle.refusal() {
            return Err(NotQueued { actions: vec![action], reason });
        }
        if let Err((row, error)) = self.dispatch.judge(std::slice::from_mut(&mut action)) {
            let reason = NotQueuedReason::Contract { row, error };
            return Err(NotQueued { actions: vec![action], reason });
        }
        match self.dispatch.put_urgent(now, action) {
            None => Ok(()),
            Some(action) => {
                let reason = NotQueuedReason::Unsent { waiting: self.dispatch.urgent_len() };
                Err(NotQueued { actions: vec![action], reason })
            }
        }
    }

    // ---- the dispatch -------------------------------------------------------------------------

    /// Starts sending one row of the plan a tick, on a grid that begins now. A running dispatch goes
    /// over to the new rate; while the connection is being made again it begins with the next one. What
    /// is sent at a tick that finds none, [`Starved`] says; by default nothing.
    ///
    /// # Errors
    /// When the connection has ended, or the ticks would be too fast with
    /// [points](Self::interpolate) between the rows.
    pub fn start_action_dispatch(&mut self, now: Instant, rate: Rate) -> Result<(), Misuse> {
        if self.lifecycle.is_interrupted() {
            return self.dispatch.set_rate(rate);
        }
        self.lifecycle.check_open()?;
        self.dispatch.start(now, rate)
    }

    /// Stops sending. What is in the plan stays there.
    pub fn stop_action_dispatch(&mut self) {
        self.dispatch.stop();
    }

    /// Whether the dispatch is running.
    pub fn is_dispatching(&self) -> bool {
        self.dispatch.is_running()
    }

    /// What is sent at a tick that finds no row. Default: [`Starved::SendNothing`].
    ///
    /// # Errors
    /// When it does not fit what is known of the robot's actions.
    pub fn set_starved(&mut self, starved: Starved) -> Result<(), Misuse> {
        Ok(self.dispatch.set_starved(starved)?)
    }

    /// Sends `points` actions to a row, evenly spaced in time and value: the row, and between it and
    /// the next `points - 1` on the straight line from the one to the other. Only rows count as
    /// steps. The rate of the dispatch stays that of the rows; a running one begins anew. Default: 1,
    /// the rows alone; 0 is taken for 1. Between rows that are not floats of one shape nothing is
    /// sent.
    ///
    /// # Errors
    /// When it does not fit what is known of the robot's actions, or would be too fast.
    pub fn interpolate(&mut self, now: Instant, points: u32) -> Result<(), Misuse> {
        self.dispatch.set_ticks_per_row(now, points.max(1))
    }

    /// What is known of the robot's actions: what its metadata declared when it last came, or what
    /// [`declare_actions`](Self::declare_actions) said since.
    pub fn declared_actions(&self) -> &ActionDeclaration {
        self.contract().declaration()
    }

    /// The robot's contract, as far as it is known: what its metadata said when it last came, or
    /// [`declare_actions`](Self::declare_actions) since. By it the client checks, or clamps, each action
    /// that is put or sent: shape, dtype, that it is finite, and its bounds. Before, everything is sent,
    /// and the robot alone judges.
    pub fn contract(&self) -> &ActionSpec {
        self.dispatch.contract()
    }

    /// How the robot says that this connection keeps to its contract, in the latest observation that
    /// said it; `None` for a robot that declares none, or before.
    pub fn contract_status(&self) -> Option<ContractStatus> {
        self.contract_status
    }

    /// Says what the robot's actions are, for a robot whose metadata does not. A setting that does
    /// not fit is undone, and [told](super::Event::Undone).
    ///
    /// # Panics
    /// When its bounds or largest steps are none: without a number, not finite, a lower bound above the
    /// upper one, or a negative step.
    pub fn declare_actions(&mut self, now: Instant, declared: ActionDeclaration) {
        declared.check_limits().unwrap_or_else(|error| panic!("{error}"));
        let mut contract = self.contract().clone();
        *contract.declaration_mut() = declared;
        self.declare(now, contract);
    }
}

fn bind(observation: &Observation, actions: impl IntoIterator<Item = Action>) -> Vec<Action> {
    let timestamps: Timestamps = observation.camera_timestamps();
    let bound = |action| Action { obs_timestamps: Some(timestamps.clone()), ..action };
    actions.into_iter().map(bound).collect()
}
