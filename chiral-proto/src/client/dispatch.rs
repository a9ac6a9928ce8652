use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::{Misuse, Unfit};
use crate::pacer::{Pacer, Rate};
use crate::timeline::{self, Row, Starved, Timeline};
use crate::{
    Action, ActionDeclaration, ActionError, ActionKind, ActionSpec, DtypeKind, Map, OnViolation,
};

/// How many actions may wait for the transport alone, however long the queue may be.
const URGENT_CAPACITY: usize = 1024;

/// The grid on which the rows of the timeline leave: one a tick, an expired one never, a missed
/// tick skipped; and the actions that wait for no tick.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) timeline: Timeline,
    urgent: VecDeque<Departing>,
    pub(super) capacity: usize,
    max_age: Option<Duration>,
    grid: Option<Grid>,
    /// The rate of the rows, while there is no connection.
    suspended: Option<Rate>,
    /// No row has left since the connection was made again, or the robot was stopped: it is held by
    /// nothing of before.
    awaits_row: bool,
    /// What is to leave at the tick that has come, and has not left yet.
    due: Option<Due>,
    /// Ticks to a row: one, or more with points between the rows.
    ticks_per_row: u32,
    starved: Starved,
    /// What the robot says of its actions, as far as it is known.
    contract: ActionSpec,
    /// The last row that left, as it left, if it may be needed again.
    last: Option<(Action, Instant)>,
    pub(super) counts: Counts,
}

/// The grid of ticks, while rows are sent.
#[derive(Debug)]
struct Grid {
    /// The rate of the rows.
    rate: Rate,
    pacer: Pacer,
    /// Ticks since the last one that was for a row.
    since_row: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Row,
    /// A point between the last row and the next.
    Point,
    /// The tick found no row.
    Held,
}

/// An action that leaves.
#[derive(Debug)]
pub(super) struct Departing {
    pub(super) action: Action,
    pub(super) put_at: Instant,
    pub(super) is_row: bool,
}

/// What became of the ticks and of the actions that wait for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) starved: u64,
    pub(super) held: u64,
    pub(super) missed: u64,
    pub(super) expired: u64,
    pub(super) dropped: u64,
    pub(super) clamped: u64,
}

impl Dispatch {
    pub(super) fn new(capacity: usize, max_age: Option<Duration>) -> Self {
        Self {
            timeline: Timeline::new(capacity, max_age),
            urgent: VecDeque::new(),
            capacity,
            max_age,
            grid: None,
            suspended: None,
            awaits_row: false,
            due: None,
            ticks_per_row: 1,
            starved: Starved::default(),
            contract: ActionSpec::of_metadata(&Map::new()),
            last: None,
            counts: Counts::default(),
        }
    }

    /// Starts a grid of rows at this rate.
    pub(super) fn start(&mut self, now: Instant, rate: Rate) -> Result<(), Misuse> {
        let ticks = tick_rate(rate, self.ticks_per_row)?;
        self.stop();
        // The first tick is for a row.
        let since_row = self.ticks_per_row - 1;
        self.grid = Some(Grid { rate, pacer: Pacer::new(now, ticks), since_row });
        Ok(())
    }

    /// Sets the rate of the rows for when the connection is there again.
    pub(super) fn set_rate(&mut self, rate: Rate) -> Result<(), Misuse> {
        tick_rate(rate, self.ticks_per_row)?;
        self.suspended = Some(rate);
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.grid = None;
        self.suspended = None;
        self.counts.missed += u64::from(self.due.take().is_some());
    }

    /// The connection is lost: drops everything that has not left, and has no tick come until
    /// another one begins.
    pub(super) fn interrupt(&mut self) {
        self.suspended = self.rate();
        self.grid = None;
        self.counts.missed += u64::from(self.due.take().is_some());
        self.clear();
        self.timeline.end_connection();
        self.last = None;
    }

    /// Another connection has been made: begins a grid, if there was one.
    pub(super) fn begin_connection(&mut self, now: Instant) {
        self.timeline.begin_connection();
        self.awaits_row = true;
        if let Some(rate) = self.suspended.take() {
            self.start(now, rate).expect("the rate was checked when it was set");
        }
    }

    /// The robot was stopped: what has not left is dropped, and what left moves it no more.
    pub(super) fn note_stop(&mut self) {
        self.clear();
        self.last = None;
        self.awaits_row = true;
    }

    pub(super) fn is_running(&self) -> bool {
        self.rate().is_some()
    }

    /// The rate of the rows, also while there is no connection.
    fn rate(&self) -> Option<Rate> {
        self.grid.as_ref().map(|grid| grid.rate).or(self.suspended)
    }

    /// The time between two rows, if they are being sent.
    pub(super) fn period(&self) -> Option<Duration> {
        self.grid.as_ref().map(|grid| grid.rate.period())
    }

    /// Since when the next row of the plan has waited.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.timeline.next_row().map(|row| row.put_at)
    }

    // ---- settings -----------------------------------------------------------------------------

    /// What is known of the robot's actions.
    pub(super) fn contract(&self) -> &ActionSpec {
        &self.contract
    }

    fn declared(&self) -> &ActionDeclaration {
        self.contract.declaration()
    }

    /// Checks actions by what is known of the robot's, and clamps what the robot would clamp. On an
    /// error, which says which action it is, they are as they were.
    pub(super) fn judge(&mut self, actions: &mut [Action]) -> Result<(), (usize, ActionError)> {
        let clamps = self.declared().on_violation == OnViolation::Clamp;
        let mut clamped = Vec::new();
        for index in 0..actions.len() {
            let before = clamps.then(|| actions[index].clone());
            match self.contract.judge(&mut actions[index], false) {
                Ok(None) => {}
                Ok(Some(_)) => clamped.push((index, before)),
                Err(error) => {
                    for (index, before) in clamped {
                        actions[index] = before.expect("only a contract that clamps changes one");
                    }
                    return Err((index, error));
                }
            }
        }
        self.counts.clamped += clamped.len() as u64;
        Ok(())
    }

    /// As [`judge`](Self::judge), for the action of a legacy step.
    pub(super) fn judge_step(&mut self, action: &mut Action) -> Result<(), ActionError> {
        let clamped = self.contract.judge(action, true)?;
        self.counts.clamped += u64::from(clamped.is_some());
        Ok(())
    }

    /// Takes a declaration of the robot's actions; says what of the settings does not fit it and
    /// was undone.
    pub(super) fn declare(&mut self, now: Instant, contract: ActionSpec) -> Vec<Unfit> {
        self.contract = contract;
        let mut undone = Vec::new();
        if let Err(unfit) = self.check_starved(&self.starved) {
            self.starved = Starved::SendNothing;
            undone.push(unfit);
        }
        if let Err(unfit) = self.check_interpolation(self.ticks_per_row) {
            self.ticks_per_row = 1;
            if let Some(rate) = self.grid.as_ref().map(|grid| grid.rate) {
                self.start(now, rate).expect("slower than before");
            }
            undone.push(unfit);
        }
        undone
    }

    pub(super) fn set_starved(&mut self, starved: Starved) -> Result<(), Unfit> {
        self.check_starved(&starved)?;
        self.starved = starved;
        Ok(())
    }

    /// Sets how many ticks there are to a row. A running grid begins anew.
    pub(super) fn set_ticks_per_row(&mut self, now: Instant, count: u32) -> Result<(), Misuse> {
        self.check_interpolation(count)?;
        if let Some(rate) = self.rate() {
            tick_rate(rate, count)?;
        }
        let rate = self.grid.as_ref().map(|grid| grid.rate);
        if std::mem::replace(&mut self.ticks_per_row, count) != count
            && let Some(rate) = rate
        {
            self.start(now, rate)?;
        }
        Ok(())
    }

    fn check_starved(&self, starved: &Starved) -> Result<(), Unfit> {
        let is_fit = self.declared().kind == Some(ActionKind::Absolute);
        match starved {
            Starved::Repeat if !is_fit => Err(Unfit::Repeat { kind: self.declared().kind }),
            _ => Ok(()),
        }
    }

    fn check_interpolation(&self, ticks_per_row: u32) -> Result<(), Unfit> {
        let kind = self.declared().kind;
        let is_fit = matches!(kind, Some(ActionKind::Absolute | ActionKind::Velocity));
        if is_fit || ticks_per_row == 1 { Ok(()) } else { Err(Unfit::Interpolation { kind }) }
    }

    // ---- actions that wait for no tick --------------------------------------------------------

    /// Takes an action that leaves with the next frame; gives it back when there is no room.
    pub(super) fn put_urgent(&mut self, now: Instant, action: Action) -> Option<Action> {
        self.drop_expired(now);
        if self.urgent.len() >= self.capacity.min(URGENT_CAPACITY) {
            return Some(action);
        }
        self.urgent.push_back(Departing { action, put_at: now, is_row: false });
        None
    }

    /// How many actions wait for no tick.
    pub(super) fn urgent_len(&self) -> usize {
        self.urgent.len()
    }

    /// Drops everything that has not left, and returns how many actions that was.
    pub(super) fn clear(&mut self) -> usize {
        let urgent = self.urgent.drain(..).count();
        self.counts.dropped += urgent as u64;
        urgent + self.timeline.clear()
    }

    /// A reset was asked for: nothing that was planned before it is sent any more, nor repeated.
    pub(super) fn begin_epoch(&mut self) {
        self.timeline.begin_epoch();
        self.last = None;
    }

    // ---- ticks --------------------------------------------------------------------------------

    /// Notes the ticks that have come up to `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some(grid) = &mut self.grid else { return };
        let ticks = grid.pacer.ticks(now);
        if ticks == 0 {
            return;
        }
        // Of several ticks that came at once, and of one whose action could not leave before the
        // next, all but the last are missed.
        self.counts.missed += ticks - 1 + u64::from(self.due.is_some());
        grid.since_row = grid.since_row.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX));
        // A row that could not leave is still the next thing to leave.
        let is_for_row = grid.since_row >= self.ticks_per_row || self.due == Some(Due::Row);
        if is_for_row {
            grid.since_row = 0;
        }
        self.drop_expired(now);
        self.due = match self.timeline.is_empty() {
            false if is_for_row => Some(Due::Row),
            false => self.last.is_some().then_some(Due::Point),
            true if is_for_row => {
                self.counts.starved += 1;
                self.held(now).is_some().then_some(Due::Held)
            }
            true => None,
        };
    }

    /// The next action that waits for no tick, or what is due at the tick that has come, if it has
    /// not left yet.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<Departing> {
        self.drop_expired(now);
        if let Some(urgent) = self.urgent.pop_front() {
            return Some(urgent);
        }
        match self.due.take()? {
            Due::Row => {
                let Some(Row { action, put_at, .. }) = self.timeline.take_step(now) else {
                    self.counts.starved += 1;
                    return self.hold(now);
                };
                Some(Departing { action, put_at, is_row: true })
            }
            Due::Point => self.point(),
            Due::Held => self.hold(now),
        }
    }

    /// Notes an action as it has left; of a row, when it was put.
    pub(super) fn note_left(&mut self, action: &Action, row_put_at: Option<Instant>) {
        if let Some(sent) = action.sent {
            self.timeline.note_sent(sent.seq);
        }
        let is_needed = self.ticks_per_row > 1
            || match self.starved {
                Starved::Repeat => true,
                Starved::Declared => self.declared().hold.is_none(),
                _ => false,
            };
        if let Some(put_at) = row_put_at {
            self.awaits_row = false;
            self.last = is_needed.then(|| {
                let mut action = action.clone();
                // Sent again, it is not of an observation that has come since.
                action.obs_timestamps.get_or_insert_default();
                (action, put_at)
            });
        }
    }

    /// Whether an action may leave now.
    pub(super) fn has_due(&self) -> bool {
        self.due.is_some() || !self.urgent.is_empty()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.grid.as_ref().map(|grid| grid.pacer.next_tick())
    }

    // ---- without a row ------------------------------------------------------------------------

    fn hold(&mut self, now: Instant) -> Option<Departing> {
        let action = self.held(now)?;
        self.counts.held += 1;
        Some(Departing { action, put_at: now, is_row: false })
    }

    /// What is sent at a tick that finds no row. After a reconnection or a stop that is nothing until a
    /// row has left: what held the robot before may move it now.
    fn held(&self, now: Instant) -> Option<Action> {
        if self.awaits_row {
            return None;
        }
        match &self.starved {
            Starved::SendNothing => None,
            Starved::Hold(action) => Some(action.clone()),
            Starved::Repeat => self.repeated(now),
            Starved::Declared => match &self.declared().hold {
                Some(action) => Some(action.clone()),
                None => self.repeated(now),
            },
        }
    }

    fn repeated(&self, now: Instant) -> Option<Action> {
        let (action, put_at) = self.last.as_ref()?;
        let is_fit = self.declared().kind == Some(ActionKind::Absolute);
        let is_old = |max_age| now.duration_since(*put_at) > max_age;
        (is_fit && !self.max_age.is_some_and(is_old)).then(|| action.clone())
    }

    /// The point between the last row and the next, as far on as there were ticks between them;
    /// none between what are not floats of one shape.
    fn point(&self) -> Option<Departing> {
        let (last, _) = self.last.as_ref()?;
        let next = self.timeline.next_row()?;
        let are_floats = [last, &next.action]
            .iter()
            .all(|action| DtypeKind::Float.contains(action.values.dtype()));
        if !are_floats || last.shape() != next.action.shape() {
            return None;
        }
        let since_row = self.grid.as_ref()?.since_row;
        let weight = f64::from(since_row) / f64::from(self.ticks_per_row);
        let values = timeline::mix(&last.values, &next.action.values, weight, |_| true);
        let action = Action { values, ..next.action.clone() };
        Some(Departing { action, put_at: next.put_at, is_row: false })
    }

    // Actions were put one after the other, so the oldest is always in front.
    pub(super) fn drop_expired(&mut self, now: Instant) {
        self.timeline.drop_expired(now);
        let Some(max_age) = self.max_age else { return };
        while self.urgent.front().is_some_and(|oldest| now.duration_since(oldest.put_at) > max_age)
        {
            self.urgent.pop_front();
            self.counts.expired += 1;
        }
    }
}

/// The rate of the ticks for rows at this rate.
fn tick_rate(rate: Rate, ticks_per_row: u32) -> Result<Rate, Misuse> {
    let ticks = rate.as_hz() * f64::from(ticks_per_row);
    Rate::hz(ticks).map_err(|_| Misuse::TooFast { points: ticks_per_row })
}
