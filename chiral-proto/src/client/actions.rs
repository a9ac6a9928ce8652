//! The calls about actions: the queue, its dispatch, and actions that are sent at once.

use std::time::Instant;

use super::{Client, Misuse, NotQueued, NotQueuedReason};
use crate::{Action, Observation, Rate, Timestamps};

impl Client {
    /// Appends an action to the queue. Unless it is bound to an observation, it is stamped with
    /// the latest one when it leaves.
    ///
    /// # Errors
    /// When the queue is full or the connection has ended; the action is in the error.
    pub fn put_action(&mut self, now: Instant, action: Action) -> Result<(), NotQueued> {
        self.put(now, vec![action])
    }

    /// Sends an action with the next frame, ahead of everything, without waiting for a tick: for a
    /// policy that keeps time itself, and for teleoperation. It needs no dispatch.
    ///
    /// # Errors
    /// When too many such actions are waiting for the transport, or the connection has ended; the
    /// action is in the error.
    pub fn send_action(&mut self, now: Instant, action: Action) -> Result<(), NotQueued> {
        if let Some(error) = self.lifecycle.refusal() {
            let reason = NotQueuedReason::Disconnected(error.clone());
            return Err(NotQueued { actions: vec![action], reason });
        }
        let (waiting, capacity) = (self.dispatch.urgent_len(), self.dispatch.capacity);
        match self.dispatch.put_urgent(now, action) {
            None => Ok(()),
            Some(action) => {
                let reason = NotQueuedReason::Full { waiting, capacity };
                Err(NotQueued { actions: vec![action], reason })
            }
        }
    }

    /// Appends the actions of a plan, all or none, bound to the observation on which the policy
    /// decided them: they carry its camera timestamps whenever they leave.
    ///
    /// # Errors
    /// When they do not all fit or the connection has ended; the actions are in the error.
    pub fn put_chunk(
        &mut self,
        now: Instant,
        observation: &Observation,
        actions: impl IntoIterator<Item = Action>,
    ) -> Result<(), NotQueued> {
        self.put(now, bind(observation, actions))
    }

    /// Puts a new plan in the place of what is left of the old one, and returns how many old
    /// actions were dropped. There is no moment at which a tick finds neither. What was given to
    /// [`send_action`](Self::send_action) is no part of the plan and still leaves.
    ///
    /// # Errors
    /// When the new plan does not fit into the empty queue or the connection has ended; the new
    /// actions are in the error, and the old ones stay.
    pub fn replace_actions(
        &mut self,
        now: Instant,
        observation: &Observation,
        actions: impl IntoIterator<Item = Action>,
    ) -> Result<usize, NotQueued> {
        let actions = bind(observation, actions);
        if self.lifecycle.is_open() && actions.len() > self.dispatch.capacity {
            let reason = NotQueuedReason::Full { waiting: 0, capacity: self.dispatch.capacity };
            return Err(NotQueued { actions, reason });
        }
        let dropped = self.dispatch.clear_queue();
        self.put(now, actions).map(|()| dropped)
    }

    /// Drops the actions that have not left yet, and returns how many there were.
    pub fn clear_actions(&mut self) -> usize {
        self.dispatch.clear()
    }

    /// How many actions wait in the queue.
    pub fn queued_actions(&self) -> usize {
        self.dispatch.len()
    }

    /// Starts sending one action a tick, on a grid that begins now. A running dispatch goes over
    /// to the new rate. A tick that finds the queue empty sends nothing.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_action_dispatch(&mut self, now: Instant, rate: Rate) -> Result<(), Misuse> {
        self.check_connected()?;
        self.dispatch.start(now, rate);
        Ok(())
    }

    /// Stops sending. What is in the queue stays there.
    pub fn stop_action_dispatch(&mut self) {
        self.dispatch.stop();
    }

    /// Whether the dispatch is running.
    pub fn is_dispatching(&self) -> bool {
        self.dispatch.is_running()
    }

    fn put(&mut self, now: Instant, actions: Vec<Action>) -> Result<(), NotQueued> {
        if let Some(error) = self.lifecycle.refusal() {
            let reason = NotQueuedReason::Disconnected(error.clone());
            return Err(NotQueued { actions, reason });
        }
        self.dispatch.put(now, actions).map_err(|actions| {
            let (waiting, capacity) = (self.dispatch.len(), self.dispatch.capacity);
            NotQueued { actions, reason: NotQueuedReason::Full { waiting, capacity } }
        })
    }
}

fn bind(observation: &Observation, actions: impl IntoIterator<Item = Action>) -> Vec<Action> {
    let timestamps: Timestamps = observation.camera_timestamps();
    let bound = |action| Action { obs_timestamps: Some(timestamps.clone()), ..action };
    actions.into_iter().map(bound).collect()
}
